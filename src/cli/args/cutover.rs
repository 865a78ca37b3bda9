//! What `cutover` was told.

use std::time::Duration;

use clap::ValueEnum;

use super::job::Sync;
use crate::cli::{state, values};

/// What `cutover` was told.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("dry_run", |arg| arg.hide(true)),
    mut_arg("census", |arg| arg.hide(true)),
    mut_arg("until", |arg| arg.hide(true)),
    mut_arg("once", |arg| arg.hide(true))
)]
pub(crate) struct Cutover {
    /// The job that is cut over: a sync that runs here [default: the one that runs; with places a job of theirs, which is begun if it does not run]
    #[arg(value_name = "JOB", value_parser = state::parse_job, conflicts_with_all = ["from", "to", "config", "job"])]
    pub(crate) running: Option<String>,

    /// Try everything but the switch: no source is fenced, and all goes on as before
    #[arg(long, conflicts_with_all = ["fence", "on_go", "watch_after", "lift"])]
    pub(crate) rehearse: bool,

    /// What keeps the sources from taking writes from then on. Without it is told what they allow, and nothing is done
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) fence: Option<FenceArg>,

    /// How much is compared behind the fence: a part of the keys, or all of them, for which each source is read once more as a replica
    #[arg(long, value_enum, default_value_t = DepthArg::Sample)]
    pub(crate) verify: DepthArg,

    /// Which part: a percentage, or a number of keys
    #[arg(long, value_name = "PART", default_value = "1%", value_parser = sample)]
    pub(crate) sample: String,

    /// How long writes may be refused before it is given up [default: 1m, with --verify full 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) max_pause: Option<Duration>,

    /// For how long the sources are watched behind GO. Each write there is an alarm, and is not in the target: exit code 1
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    pub(crate) watch_after: Duration,

    /// What is run at GO, by sh -c, such as a change of DNS. It finds the job in UNDERSTUDY_JOB and the pause in UNDERSTUDY_PAUSE_MS. If it fails it is
    /// GO all the same, and the exit code is 1
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_go: Option<String>,

    /// Take away the fences that an earlier cutover of these places has left, behind GO or because its process has died
    #[arg(long, conflicts_with = "fence")]
    pub(crate) lift: bool,

    /// The verdict as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) sync: Sync,
}

/// A part of the keys, as it is typed: the job that runs reads it once more.
fn sample(text: &str) -> Result<String, String> {
    values::sample(text).map(|_| text.to_owned())
}

/// What keeps a source from taking writes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FenceArg {
    /// No user may run a command that writes: ACL SETUSER (6.0 and later)
    Acl,
    /// More replicas are wanted than there are: CONFIG SET min-replicas-to-write (2.8 and later; up to 6.2 scripts that write pass it)
    MinReplicas,
    /// Nothing is done: you have stopped whoever writes
    External,
}

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DepthArg {
    /// All keys
    Full,
    /// A part of them
    Sample,
}
