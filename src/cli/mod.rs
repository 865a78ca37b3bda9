//! The binary's part: what was typed, what is meant, how it ended. It sees the library's public parts only, and it alone
//! prints.

mod allocator;
mod args;
mod census;
mod check;
mod config;
mod control;
mod cutover;
mod demo;
mod dry_run;
mod explain;
mod intent;
mod logging;
mod notice;
mod outcome;
mod ping;
mod places;
mod progress;
mod rdb;
mod record;
mod refusal;
mod replay;
mod report;
mod rules;
mod signals;
mod sources;
mod ssh;
mod state;
mod sync;
mod terminal;
mod values;
mod verify;

pub(crate) use allocator::set_up as set_up_allocator;
pub(crate) use args::Args;
pub(crate) use outcome::Outcome;

use args::Command;
use understudy::flow::Order;

/// Does what was asked for.
pub(crate) fn run(args: Args) -> Outcome {
    let level = match args.command {
        // A recorded master cannot be asked for what was not recorded. That is no news to who has asked for a demo.
        Command::Demo { .. } => "error",
        _ => "warn",
    };
    if let Err(what) = logging::start(args.log_format, level) {
        return outcome::refused(
            &what,
            "give a level (error, warn, info, debug, trace, off) or filters such as info,understudy=debug",
        );
    }
    match args.command {
        // Reads a file and needs no runtime.
        Command::Rdb(args) => rdb::run(&args),
        Command::Sync(args) => block_on(sync::run(&args)),
        Command::Check(args) => block_on(check::run(*args)),
        Command::Verify(args) => block_on(verify::run(*args)),
        Command::Explain(args) => block_on(explain::run(*args)),
        Command::Cutover(args) => block_on(cutover::run(*args)),
        Command::Demo { progress } => block_on(demo::run(progress)),
        Command::Ping(args) => block_on(ping::run(&args)),
        Command::Record(args) => block_on(record::run(&args)),
        Command::Replay(args) => block_on(replay::run(*args)),
        Command::Status(args) => block_on(control::status(&args)),
        Command::Pause(args) => block_on(control::order(&args, Order::Pause)),
        Command::Resume(args) => block_on(control::order(&args, Order::Go)),
        Command::Stop { finish: false, job } => block_on(control::order(&job, Order::Stop)),
        Command::Stop { finish: true, job } => block_on(control::order(&job, Order::Finish)),
    }
}

fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            outcome::failed(&format!("cannot start: {error}"), "see ulimit -n and ulimit -u")
        }
    }
}
