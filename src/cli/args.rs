//! What was typed. This does nothing but parse.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use understudy::plan::{SshCommand, SshName};
use understudy::server::Server;

use super::progress::Mode;

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
    /// Compare what sources and target hold, whatever servers and encodings they hold it in; say which keys differ and how
    #[command(
        override_usage = "understudy verify [OPTIONS] --from <URL> --to <URL>\n       understudy verify [OPTIONS] --config <FILE>"
    )]
    Verify(Box<Verify>),
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
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = super::values::size)]
        memory: u64,
    },
    /// One JSON object a line for each key, in the order of the file
    Cat {
        /// The file
        file: PathBuf,
        /// What may be held of one value. Sets, hashes and sorted sets that fit come sorted
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = super::values::size)]
        memory: u64,
    },
}

/// What `sync` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Sync {
    /// A source: redis://[[user]:password@]host[:port][/db], rediss://… for TLS, unix:/path, the master that Sentinels
    /// watch, redis-sentinel://host[:port][,host[:port]]/NAME[/db], or all masters of a cluster,
    /// redis-cluster://host[:port][,host[:port]] (any node of it will do). May be given several times. The password may stand
    /// in UNDERSTUDY_FROM_PASSWORD instead, that of Sentinels in UNDERSTUDY_SENTINEL_PASSWORD
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    pub(crate) from: Vec<String>,

    /// The target: a server, or a path to an .rdb file that is to be made. The password may stand in UNDERSTUDY_TO_PASSWORD instead
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    pub(crate) to: Option<String>,

    /// A TOML file with many sources, each with its own rules, and the target. Flags override it; with --from its sources are left out
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

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

    /// The job's name. Its position is in the target; the same command goes on with it [default: from the places]
    #[arg(long, value_name = "NAME", value_parser = super::state::parse_job)]
    pub(crate) job: Option<String>,

    /// How long the job may stay away, at least 5m: so far ahead deadlines are held back in the target. What stayed away for longer
    /// copies anew [default: 24h; with --once an hour, or four times what the copy may take]
    #[arg(long, value_name = "DURATION", value_parser = super::values::duration)]
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

    /// Where waits what the target cannot take and memory has no room for, so that the sources are read as fast as they send. A folder in
    /// memory (tmpfs) must be named [default: the job's folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// The most that may wait there, from all sources together; 0 for nothing [default: 8GiB, or half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    pub(crate) spool_limit: Option<u64>,

    /// How many full copies run together, the largest sources first [default: as many as --memory allows, 4MiB each]
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    pub(crate) sources_at_once: Option<usize>,

    /// How many sources on one host may save their data sets at a time: each forks for that, and its memory may grow meanwhile [default: 1]
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    pub(crate) per_host: Option<usize>,

    #[command(flatten)]
    pub(crate) writing: Writing,

    #[command(flatten)]
    pub(crate) from_tls: FromTls,

    #[command(flatten)]
    pub(crate) from_ssh: FromSsh,
}

/// What `verify` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A source, as sync takes it. May be given several times
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    pub(crate) from: Vec<String>,

    /// The target: a server, or an .rdb file
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    pub(crate) to: Option<String>,

    /// The TOML file of the sync: its sources with their rules, and its target
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The name of the job that brings to the target what is written to the sources [default: from the places]
    #[arg(long, value_name = "NAME", value_parser = super::state::parse_job)]
    pub(crate) job: Option<String>,

    /// Make each key that differs what its source holds, and remove those that no source holds. Refused while a job of these places is under
    /// way. Ends with 0 if nothing differs any more
    #[arg(long)]
    pub(crate) repair: bool,

    /// By how much deadlines may differ
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = super::values::duration)]
    pub(crate) ttl_tolerance: Duration,

    /// How many differences are written; all are counted [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) differences: Option<u64>,

    /// Each difference as one JSON object, and behind them one with the counts
    #[arg(long)]
    pub(crate) json: bool,

    /// What may be held in memory (kB = 1000, KiB = 1024) [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    pub(crate) memory: Option<u64>,

    /// Where is noted what was read, some 70 bytes a key on either side [default: the job's folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// The most that may be noted there [default: 8GiB, or half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    pub(crate) spool_limit: Option<u64>,

    /// How many sources are read together, the largest first [default: as many as --memory allows, 4MiB each]
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    pub(crate) sources_at_once: Option<usize>,

    /// How many sources on one host may save their data sets at a time: each forks for that, and its memory may grow meanwhile [default: 1]
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    pub(crate) per_host: Option<usize>,

    /// How many bytes a second are read from all sources together (20MB)
    #[arg(long, value_name = "SIZE", value_parser = super::values::bytes_a_second)]
    pub(crate) limit_read: Option<u64>,

    /// What is shown on stderr meanwhile
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub(crate) progress: Mode,

    #[command(flatten)]
    pub(crate) rules: super::rules::RuleArgs,

    #[command(flatten)]
    pub(crate) from_tls: FromTls,

    #[command(flatten)]
    pub(crate) to_tls: ToTls,

    #[command(flatten)]
    pub(crate) from_ssh: FromSsh,

    #[command(flatten)]
    pub(crate) to_ssh: ToSsh,

    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

/// How data is written to a target, and what is said of it.
#[derive(Debug, clap::Args)]
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
    #[arg(long = "for", value_name = "SERVER", value_parser = super::values::server)]
    pub(crate) written_for: Option<Server>,

    /// All data in flight and in buffers, for all sources together (kB = 1000, KiB = 1024) [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    pub(crate) memory: Option<u64>,

    /// How fast the target is written to, by all sources together: keys and commands a second (50000) or bytes (20MB)
    #[arg(long, value_name = "RATE", value_parser = super::values::rate)]
    pub(crate) limit_rate: Option<understudy::plan::Rate>,

    /// How many bytes a second are read from all sources together (20MB). A master's output buffer grows meanwhile, and may cut the link
    #[arg(long, value_name = "SIZE", value_parser = super::values::bytes_a_second)]
    pub(crate) limit_read: Option<u64>,

    /// What is shown on stderr meanwhile
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub(crate) progress: Mode,

    /// Write the final report to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    // What has a heading comes last: whatever stands behind it would stand under it.
    #[command(flatten)]
    pub(crate) rules: super::rules::RuleArgs,

    #[command(flatten)]
    pub(crate) flush: super::rules::FlushArgs,

    #[command(flatten)]
    pub(crate) to_tls: ToTls,

    #[command(flatten)]
    pub(crate) to_ssh: ToSsh,

    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

/// How TLS is spoken with what is read.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct FromTls {
    /// Authorities (PEM) that may have signed a source's certificate, in place of this system's
    #[arg(long, value_name = "FILE")]
    pub(crate) from_ca: Option<PathBuf>,

    /// Our certificate (PEM), for sources that ask for one
    #[arg(long, value_name = "FILE", requires = "from_key")]
    pub(crate) from_cert: Option<PathBuf>,

    /// The private key of --from-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    pub(crate) from_key: Option<PathBuf>,

    /// Take any certificate of a source. Whoever stands between can read everything; the report says so
    #[arg(long, conflicts_with = "from_ca")]
    pub(crate) from_insecure: bool,
}

/// How TLS is spoken with the target.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ToTls {
    /// Authorities (PEM) that may have signed the target's certificate, in place of this system's
    #[arg(long, value_name = "FILE")]
    pub(crate) to_ca: Option<PathBuf>,

    /// Our certificate (PEM), for a target that asks for one
    #[arg(long, value_name = "FILE", requires = "to_key")]
    pub(crate) to_cert: Option<PathBuf>,

    /// The private key of --to-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "to_cert")]
    pub(crate) to_key: Option<PathBuf>,

    /// Take any certificate of the target. Whoever stands between can read everything; the report says so
    #[arg(long, conflicts_with = "to_ca")]
    pub(crate) to_insecure: bool,
}

/// The ssh host through which is reached what is read.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct FromSsh {
    /// Reach the sources through this ssh host: host and port of a URL are those that it sees. The user is the one who runs this unless
    /// told; the port is 22
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = super::values::ssh_host)]
    pub(crate) from_ssh: Option<SshName>,
}

/// The ssh host through which the target is reached.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct ToSsh {
    /// Reach the target through this ssh host, as --from-ssh does the sources
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = super::values::ssh_host)]
    pub(crate) to_ssh: Option<SshName>,
}

/// What ssh hosts are shown, and how they are known.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct SshArgs {
    /// The private key to log in with; its passphrase may stand in UNDERSTUDY_SSH_PASSPHRASE [default: those of the ssh agent, then
    /// ~/.ssh/id_ed25519, id_ecdsa and id_rsa]
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Option<PathBuf>,

    /// Where the keys of ssh hosts are written down; a host that is not among them is refused
    /// [default: ~/.ssh/known_hosts, then /etc/ssh/ssh_known_hosts]
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_known_hosts: Option<PathBuf>,

    /// Another ssh host, through which the ssh hosts are reached
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = super::values::ssh_host)]
    pub(crate) ssh_jump: Option<SshName>,

    /// Let a program make the connections, such as this system's ssh with all that ~/.ssh/config says: "ssh", or "ssh -F FILE". It is started for each
    /// with `-o BatchMode=yes -o ConnectTimeout=8 -W HOST:PORT [-p PORT] [-l USER] SSHHOST` behind it, and its stdin and stdout are the connection. A command
    /// with {host} in it gets nothing behind it: {host} and {port} are the server's, {gate} is [user@]host of the ssh host and {gate_port} its port. Quotes and
    /// backslashes as in a shell, which is not asked
    #[arg(
        long,
        value_name = "COMMAND",
        value_parser = super::values::ssh_command,
        conflicts_with_all = ["ssh_key", "ssh_known_hosts", "ssh_jump"]
    )]
    pub(crate) ssh_command: Option<SshCommand>,
}

/// Which job is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Steered {
    /// The job's name [default: the one that runs]
    #[arg(long, value_name = "NAME", value_parser = super::state::parse_job)]
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
    #[arg(long, value_name = "DURATION", value_parser = super::values::duration)]
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
        value_parser = super::values::listen,
        conflicts_with_all = ["to", "on_conflict", "written_for", "memory", "report"]
    )]
    pub(crate) listen: Option<(String, u16)>,

    #[command(flatten)]
    pub(crate) writing: Writing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum UntilArg {
    /// End once every source has been drained
    CaughtUp,
    /// Follow until told to stop
    Forever,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MethodArg {
    /// With PSYNC; where the master does not take that, with SYNC. A link that is lost then costs a new copy, and that is said
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DeadlinesArg {
    /// Those that come soon lie 1115 years late until then: no key dies before its source says so
    Exact,
    /// What they are. Not exact: a key that is renewed while its copy is on the way may die
    Live,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnUnknownArg {
    /// The run stops, and says which it was
    Stop,
    /// It is passed over and counted: what it changed may differ
    Skip,
}
