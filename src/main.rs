//! The command line of understudy.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::set_up_allocator();
    cli::run(cli::Args::parse()).into()
}
