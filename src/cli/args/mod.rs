//! What was typed. This does nothing but parse.

mod access;
mod check;
mod cutover;
mod explain;
mod job;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use access::{FromSsh, FromTls, SshArgs, ToSsh, ToTls};
pub(crate) use check::Check;
use clap::{Parser, Subcommand, ValueEnum};
pub(crate) use cutover::{Cutover, DepthArg, FenceArg};
pub(crate) use explain::Explain;
pub(crate) use job::{
    DeadlinesArg, MethodArg, OnConflictArg, OnUnknownArg, Places, Sync, UntilArg, Writing,
};
pub(crate) use verify::{ByArg, Verify};

use crate::cli::progress::Mode;
use crate::cli::{state, values};

/// Moves live Redis data: follows masters as their replica and plays what they say into another server.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, max_term_width = 100)]
pub(crate) struct Args {
    /// How logs are written to stderr. UNDERSTUDY_LOG takes filters such as info or understudy=debug
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, display_order = 900)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for a person
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy the whole data set of the sources, then follow their changes
    #[command(
        override_usage = "understudy sync [OPTIONS] --from <URL> --to <URL>\n       understudy sync [OPTIONS] --config <FILE>"
    )]
    Sync(Box<Sync>),
    /// Everything that could spoil a run, found before it: each finding with its evidence and what mends it. Changes nothing
    #[command(
        override_usage = "understudy check [OPTIONS] --from <URL> --to <URL>\n       understudy check [OPTIONS] --config <FILE>"
    )]
    Check(Box<Check>),
    /// Compare what sources and target hold, whatever servers and encodings they hold it in; say which keys differ and how
    #[command(
        override_usage = "understudy verify [OPTIONS] --from <URL> --to <URL>\n       understudy verify [OPTIONS] --config <FILE>"
    )]
    Verify(Box<Verify>),
    /// Why a key is not in the target: filtered and by which rule, expired, on its way, in doubt, another source's, or on no source
    #[command(
        override_usage = "understudy explain [OPTIONS] <KEY> --from <URL> --to <URL>\n       understudy explain [OPTIONS] <KEY> --config <FILE>"
    )]
    Explain(Box<Explain>),
    /// Fence the sources of a job that follows, drain and compare them, and say GO or NO-GO
    #[command(
        override_usage = "understudy cutover [OPTIONS] --fence <HOW> [JOB]\n       understudy cutover [OPTIONS] --fence <HOW> --from <URL> --to <URL>\n       understudy cutover --rehearse [OPTIONS] [JOB]\n       understudy cutover --lift [JOB]\n       understudy cutover --lift --from <URL> --to <URL>"
    )]
    Cutover(Box<Cutover>),
    /// How a job stands that runs on this machine
    Status(Steered),
    /// Let a job take nothing more from its sources for now. Its links stay alive
    Pause(Steered),
    /// Let a paused job go on
    Resume(Steered),
    /// Stop a job, as Ctrl-C does: the same sync command goes on with it
    Stop {
        /// Take what the sources have now, set each deadline to the source's own, and end the job
        #[arg(long)]
        finish: bool,
        #[command(flatten)]
        job: Steered,
    },
    /// Keep what a source says, its data set and its stream, as a capture
    Record(Record),
    /// Play a capture into a target, or as a master that replicas can follow
    Replay(Box<Replay>),
    /// What is in an RDB file
    #[command(subcommand)]
    Rdb(Rdb),
    /// Round-trip times to servers
    Ping(Ping),
    /// The main job on two recorded masters, into a redis-server or valkey-server of this machine, else into .rdb files
    Demo {
        /// What is shown on stderr meanwhile
        #[arg(long, value_enum, default_value_t = Mode::Auto)]
        progress: Mode,
    },
}

/// What is asked about an RDB file.
#[derive(Debug, Subcommand)]
pub(crate) enum Rdb {
    /// Format, databases, types, largest keys, checksum
    Inspect {
        /// The file
        file: PathBuf,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
        /// Read each value down to its elements
        #[arg(long)]
        decode: bool,
        /// The largest element that may be held
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = values::size)]
        memory: u64,
    },
    /// One JSON object a line for each key, in the order of the file
    Cat {
        /// The file
        file: PathBuf,
        /// What may be held of one value. Sets, hashes and sorted sets that fit come sorted
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = values::size)]
        memory: u64,
    },
}

/// Which job is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Steered {
    /// The job's name [default: the one that runs]
    #[arg(long, value_name = "NAME", value_parser = state::parse_job)]
    pub(crate) job: Option<String>,

    /// The answer as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `ping` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// A server: redis://[[user]:password@]host[:port], rediss://… for TLS, unix:/path. The password may stand in
    /// UNDERSTUDY_FROM_PASSWORD instead
    #[arg(value_name = "URL", required = true)]
    pub(crate) servers: Vec<String>,

    /// How many PINGs are sent, one after the other
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,

    /// One JSON object a line instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) from_tls: FromTls,

    #[command(flatten)]
    pub(crate) from_ssh: FromSsh,

    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

/// What `replay` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The capture: NAME.bin, with NAME.json beside it
    pub(crate) file: String,

    /// Play it into this target, as sync --once --from FILE does
    #[arg(long, value_name = "URL")]
    pub(crate) to: Option<String>,

    /// Play it as a master, on this port of this machine, until stopped. Port 0 is any that is free; the first line on
    /// stdout says which. Any password is taken
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = values::listen,
        conflicts_with_all = ["to", "on_conflict", "written_for", "memory", "report"]
    )]
    pub(crate) listen: Option<(String, u16)>,

    #[command(flatten)]
    pub(crate) writing: Writing,
}

/// What `record` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// The source. The password may stand in UNDERSTUDY_FROM_PASSWORD instead
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,

    /// The capture: NAME.bin, beside which NAME.json is written
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// When to end: once the source has been drained, or when told to stop [default: forever]
    #[arg(long, value_enum)]
    pub(crate) until: Option<UntilArg>,

    /// The same as --until caught-up
    #[arg(long)]
    pub(crate) once: bool,

    /// End after so long at the latest, counted from when the source begins to send (90s, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) r#for: Option<Duration>,

    /// Write over files of these names
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) from_tls: FromTls,

    #[command(flatten)]
    pub(crate) from_ssh: FromSsh,

    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}
