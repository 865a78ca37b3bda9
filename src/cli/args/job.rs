//! What `sync` was told, and what is told likewise.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use understudy::plan::Rate;
use understudy::server::Server;

use super::access::{Access, FromSsh, FromTls, SshArgs, ToSsh, ToTls};
use crate::cli::progress::Mode;
use crate::cli::rules::{FlushArgs, RuleArgs};
use crate::cli::{state, values};

/// Between which places, and under which name.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Places {
    /// A source: redis://[[user]:password@]host[:port][/db], rediss://… for TLS, unix:/path, the master that Sentinels
    /// watch, redis-sentinel://host[:port][,host[:port]]/NAME[/db], or all masters of a cluster,
    /// redis-cluster://host[:port][,host[:port]] (any node of it will do). May be given several times. The password may stand
    /// in UNDERSTUDY_FROM_PASSWORD instead, that of Sentinels in UNDERSTUDY_SENTINEL_PASSWORD
    #[arg(long, value_name = "URL")]
    pub(crate) from: Vec<String>,

    /// The target: a server, or a path to an .rdb file that is to be made. The password may stand in UNDERSTUDY_TO_PASSWORD instead
    #[arg(long, value_name = "URL")]
    pub(crate) to: Option<String>,

    /// A TOML file with many sources, each with its own rules, and the target. Flags override it; with --from its sources are left out
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The job's name. Its position is in the target; the same command goes on with it [default: from the places]
    #[arg(long, value_name = "NAME", value_parser = state::parse_job)]
    pub(crate) job: Option<String>,
}

/// How many sources are read together, and what waits for them on a disk.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Schedule {
    /// Where waits what the target cannot take and memory has no room for, so that the sources are read as fast as they send; and where is
    /// noted what was read to be compared. A folder in memory (tmpfs) must be named [default: the job's folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// The most that may wait there, from all sources together; 0 for nothing [default: 8GiB, or half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) spool_limit: Option<u64>,

    /// How many full copies run together, the largest sources first [default: as many as --memory allows, 4MiB each]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) sources_at_once: Option<usize>,

    /// How many sources on one host may save their data sets at a time: each forks for that, and its memory may grow meanwhile [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) per_host: Option<usize>,
}

/// How much may be taken, and what is shown meanwhile.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Bounds {
    /// All data in flight and in buffers, for all sources together (kB = 1000, KiB = 1024) [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) memory: Option<u64>,

    /// How many bytes a second are read from all sources together (20MB). A master's output buffer grows meanwhile, and may cut the link
    #[arg(long, value_name = "SIZE", value_parser = values::bytes_a_second)]
    pub(crate) limit_read: Option<u64>,

    /// What is shown on stderr meanwhile
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub(crate) progress: Mode,
}

/// What `sync` was told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Sync {
    #[command(flatten)]
    pub(crate) places: Places,

    /// Show what would be done, with what stands in the way of it, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// With --dry-run: read every source to the end of its data set and count it, which forks every master: keys, bytes, types, deadlines,
    /// largest keys, prefixes, names that collide, what a copy will take. Takes 64MiB of memory at the most, and some 45 bytes a key
    /// in --spool
    #[arg(long)]
    pub(crate) census: bool,

    /// When to end: once every source has been drained, or when told to stop
    /// [default: forever; caught-up into an .rdb file, which holds each source as it was when its copy began]
    #[arg(long, value_enum)]
    pub(crate) until: Option<UntilArg>,

    /// The same as --until caught-up
    #[arg(long)]
    pub(crate) once: bool,

    /// How a source is read
    #[arg(long, value_enum, default_value_t = MethodArg::Auto)]
    pub(crate) method: MethodArg,

    /// How long the job may stay away, at least 5m: so far ahead deadlines are held back in the target. What stayed away for longer
    /// copies anew [default: 24h; with --once an hour, or four times what the copy may take]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) away: Option<Duration>,

    /// Copy all anew, whatever the job's position says. What the source no longer has is removed from the target in the end
    #[arg(long)]
    pub(crate) restart: bool,

    /// If the job's folder is lost, or the machine was started anew, nobody knows any more which of several sources has brought which key:
    /// then, when the job ends, remove from the target what no source has. Without this it is left and counted in unproven. What others
    /// have written there meanwhile goes too
    #[arg(long)]
    pub(crate) remove_unowned: bool,

    /// What the target shows of deadlines until the job ends
    #[arg(long, value_enum, default_value_t = DeadlinesArg::Exact)]
    pub(crate) deadlines: DeadlinesArg,

    /// Begin although the target evicts keys when its memory is full (maxmemory-policy allkeys-…): what it evicts is lost, and when that is
    /// the job's position all is copied anew
    #[arg(long)]
    pub(crate) accept_eviction: bool,

    #[command(flatten)]
    pub(crate) schedule: Schedule,

    #[command(flatten)]
    pub(crate) writing: Writing,

    #[command(flatten)]
    pub(crate) from_tls: FromTls,

    #[command(flatten)]
    pub(crate) from_ssh: FromSsh,
}

impl Sync {
    /// Between these places, under these rules, and writing nothing: what commands stand for that only look.
    pub(crate) fn looking(places: Places, rules: RuleArgs, access: Access) -> Self {
        let Access { from_tls, to_tls, from_ssh, to_ssh, ssh } = access;
        let writing = Writing { rules, to_tls, to_ssh, ssh, ..Writing::default() };
        Self { places, dry_run: true, writing, from_tls, from_ssh, ..Self::default() }
    }
}

/// How data is written to a target, and what is said of it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Writing {
    /// What becomes of a key that the target already holds, or that several sources hold: replace gives it what the first source holds
    /// that holds it at all, keep the same but for keys that the target held before, and with stop the source that comes upon it
    /// second ends
    #[arg(long, value_enum)]
    pub(crate) on_conflict: Option<OnConflictArg>,

    /// What becomes of a command that this version does not know and whose keys the source does not tell
    #[arg(long, value_enum, default_value_t = OnUnknownArg::Stop)]
    pub(crate) on_unknown_command: OnUnknownArg,

    /// The server that shall read the .rdb file which is the target, such as redis-6.2 or valkey-9.1; what it cannot read
    /// is written anew in a form that it can [default: the newest of the sources]
    #[arg(long = "for", value_name = "SERVER", value_parser = values::server)]
    pub(crate) written_for: Option<Server>,

    /// How fast the target is written to, by all sources together: keys and commands a second (50000) or bytes (20MB)
    #[arg(long, value_name = "RATE", value_parser = values::rate)]
    pub(crate) limit_rate: Option<Rate>,

    #[command(flatten)]
    pub(crate) bounds: Bounds,

    /// Write the final report to FILE: as a page with plots where its name ends in .html, else as JSON. May be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Vec<PathBuf>,

    // What has a heading comes last: whatever stands behind it would stand under it.
    #[command(flatten)]
    pub(crate) rules: RuleArgs,

    #[command(flatten)]
    pub(crate) flush: FlushArgs,

    #[command(flatten)]
    pub(crate) to_tls: ToTls,

    #[command(flatten)]
    pub(crate) to_ssh: ToSsh,

    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum UntilArg {
    /// End once every source has been drained
    CaughtUp,
    /// Follow until told to stop
    Forever,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum MethodArg {
    /// With PSYNC; where the master does not take that, with SYNC. A link that is lost then costs a new copy, and that is said
    #[default]
    Auto,
    /// With PSYNC only: a source that does not take it is refused
    Psync,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnConflictArg {
    /// Refuse a target that holds keys; stop at a key that two sources hold
    Stop,
    /// The source's key takes the place of the target's (with one source only)
    Replace,
    /// The target's key stays, and what the source says of it is left out. Needs 40 bytes of --memory for each key of the target
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeadlinesArg {
    /// Those that come soon lie 1115 years late until then: no key dies before its source says so
    #[default]
    Exact,
    /// What they are. Not exact: a key that is renewed while its copy is on the way may die
    Live,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum OnUnknownArg {
    /// The run stops, and says which it was
    #[default]
    Stop,
    /// It is passed over and counted: what it changed may differ
    Skip,
}
