//! The binary's part: what was typed, what is meant, how it ended. It sees the library's public parts only, and it alone
//! prints.

mod args;
mod intent;
mod logging;
mod outcome;
mod rdb;
mod report;
mod rules;
mod sync;

pub(crate) use args::Args;
pub(crate) use outcome::Outcome;

use args::Command;

/// Does what was asked for.
pub(crate) fn run(args: Args) -> Outcome {
    logging::start(args.log_format);
    let args = match args.command {
        // Reads a file and needs no runtime.
        Command::Rdb(args) => return rdb::run(&args),
        Command::Sync(args) => args,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return outcome::failed(
                &format!("cannot start: {error}"),
                "see ulimit -n and ulimit -u",
            );
        }
    };
    runtime.block_on(sync::run(&args))
}
