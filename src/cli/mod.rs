//! The binary's part: what was typed, what is meant, how it ended. It sees the library's public parts only, and it alone
//! prints.

mod args;
mod intent;
mod logging;
mod outcome;
mod rate;
mod rdb;
mod record;
mod replay;
mod report;
mod rules;
mod signals;
mod sync;

pub(crate) use args::Args;
pub(crate) use outcome::Outcome;

use args::Command;

/// Does what was asked for.
pub(crate) fn run(args: Args) -> Outcome {
    logging::start(args.log_format);
    match args.command {
        // Reads a file and needs no runtime.
        Command::Rdb(args) => rdb::run(&args),
        Command::Sync(args) => block_on(sync::run(&args)),
        Command::Record(args) => block_on(record::run(&args)),
        Command::Replay(args) => block_on(replay::run(*args)),
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
