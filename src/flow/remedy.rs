//! What a failure calls for.

use std::time::Duration;

use crate::change::{CopyError, StreamError};
use crate::plan::{LET_WRITE, UNSAVED, Until};
use crate::repl::{Remark, ReplError};
use crate::source::{FetchError, SourceError};
use crate::target::TargetError;

use super::lane::LaneError;
use super::names::NoteError;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Connect to the source again and go on where it was left.
    ReconnectSource,
    /// Connect to the target again and send what was not confirmed.
    ReconnectTarget,
    /// Begin again with what the record in the target says.
    GoOn,
    /// The same, and copy the data set again.
    CopyAgain,
    /// Nothing helps but the operator.
    Ask(&'static str),
}

/// The remedy for each kind of failure. A new kind does not compile until somebody has decided.
#[must_use]
pub fn remedy(error: &LaneError) -> Remedy {
    match error {
        LaneError::Source(error) => match error {
            SourceError::Link(_)
            | SourceError::Lost(_)
            | SourceError::Closed
            | SourceError::CutOff
            | SourceError::Silent(_)
            | SourceError::Replaced => Remedy::ReconnectSource,
            SourceError::Repl(error) => match error.remark() {
                Remark::Later => Remedy::ReconnectSource,
                Remark::Ask(advice) => Remedy::Ask(advice),
            },
            SourceError::Spool(_)
            | SourceError::Unreadable { .. }
            | SourceError::Sidecar { .. }
            | SourceError::Size { .. }
            | SourceError::NoDataSet
            | SourceError::Damaged { .. } => Remedy::Ask(error.advice()),
        },
        LaneError::Target(error) => match error {
            TargetError::Link(_)
            | TargetError::Lost(_)
            | TargetError::Closed
            | TargetError::Silent(_)
            | TargetError::NotReady(_) => Remedy::ReconnectTarget,
            TargetError::Password(_) => Remedy::Ask(
                "give it in UNDERSTUDY_TO_PASSWORD, or in the URL: redis://[user]:password@host:port",
            ),
            TargetError::Forbidden(_) => Remedy::Ask(LET_WRITE),
            TargetError::NoTransactions(_) => Remedy::Ask(
                "the live stream needs MULTI and EXEC; a proxy that has none cannot be a target of this version",
            ),
            TargetError::Resp(_) => Remedy::Ask("is this the address of a Redis or Valkey server?"),
            TargetError::Replaced => Remedy::GoOn,
            TargetError::Overtaken => Remedy::Ask(
                "this process writes nothing more; let the other one go on, or stop it and start again",
            ),
        },
        LaneError::Copy {
            source: CopyError::TooLarge { .. } | CopyError::Fields { .. }, ..
        } => Remedy::Ask(
            "raise --memory: a value that must be held whole may take an eighth of a source's share of it, and the groups of a stream a quarter of all; or leave the key out with --exclude",
        ),
        LaneError::Copy { .. } => Remedy::Ask(
            "give a target whose version knows this type, or leave such keys out with --exclude or --type",
        ),
        LaneError::Unreadable(_) => Remedy::Ask(
            "give a target whose version knows this type, or that has its module, or leave such keys out with --exclude or --type",
        ),
        LaneError::Stream { source: StreamError::Undecidable(_), .. } => Remedy::Ask(
            "a source without offsets cannot be asked what it did: take both keys into the rules or leave both out, then empty the target and start again; nothing behind it was applied",
        ),
        LaneError::Stream { source: StreamError::Flush { .. }, .. } => Remedy::Ask(
            "flush in the target by hand what it meant and start again; --on-flush ignore passes over FLUSHALL and FLUSHDB; nothing behind it was applied",
        ),
        LaneError::Stream { source: StreamError::Unsupported { .. }, .. } => {
            Remedy::Ask("give a target whose version knows this; nothing behind it was applied")
        }
        LaneError::Stream {
            source: StreamError::Nesting { .. } | StreamError::Db { .. }, ..
        } => Remedy::Ask(
            "the bytes were damaged on their way or the master is not one we know; nothing behind it was applied",
        ),
        LaneError::Stream { source: StreamError::Name { .. }, .. } | LaneError::Name(_) => {
            Remedy::Ask(
                "give --rename a text that keeps what tells keys apart, or leave one of them out with --exclude; where the names are too many raise --memory, or use --prefix, which needs to remember none; then start again with --restart",
            )
        }
        LaneError::Stream { .. } => Remedy::Ask(
            "this version does not know what it does, and the source does not tell its keys; --on-unknown-command skip passes over it and counts it, and the same command goes on from there",
        ),
        LaneError::Diverged { .. } => Remedy::Ask(
            "the target does not hold what the source held when it ran this: has somebody else written to the target? Empty it and start again",
        ),
        LaneError::Forbidden(_) => Remedy::Ask(
            "let this ACL user write all that may come (ACL SETUSER name +@all ~* on the target), then empty the target and start again",
        ),
        LaneError::Conflict { .. } => {
            Remedy::Ask("somebody wrote this key to the target; empty it and start again")
        }
        LaneError::Strayed | LaneError::Asked(_) => Remedy::GoOn,
        LaneError::CopyCut(_)
        | LaneError::Overrun
        | LaneError::NoOffsets(_)
        | LaneError::Late
        | LaneError::Emptied(_)
        | LaneError::TooLarge { .. }
        | LaneError::Doubts(_) => Remedy::CopyAgain,
        LaneError::Record(_) => Remedy::Ask(
            "give the rules with which the job was begun, or another --job; with --restart all is copied anew and the record is written over",
        ),
        LaneError::Contested(_) => Remedy::Ask(
            "raise --memory; or leave such keys out of one of the sources (--exclude), or give each source a database of its own (--db-map); --dry-run shows the sources",
        ),
        LaneError::MovedAway(_) | LaneError::MovedBefore => Remedy::Ask(
            "switch the cluster's rebalancer off until the job is done, empty the target and start again with --restart",
        ),
        LaneError::Names(NoteError::TooMany(_)) => Remedy::Ask(
            "raise --memory: six bytes a key are kept of sources that may bring the same names; sources with databases of their own (--db-map) need none",
        ),
        LaneError::Names(NoteError::Write { .. }) => Remedy::Ask(
            "free space on that disk, or name another place for the job's folder in UNDERSTUDY_STATE; the same command goes on",
        ),
        LaneError::Rival(_) => {
            Remedy::Ask("see to that source; the same command goes on with the job")
        }
        LaneError::Fetch(FetchError::OtherHistory { .. } | FetchError::NoBacklog) => {
            Remedy::CopyAgain
        }
        LaneError::Fetch(_) => Remedy::Ask(
            "let this user run INFO, TIME, PTTL, DUMP and MEMORY USAGE on the source, and start again: the job goes on",
        ),
        LaneError::Unsaved(_) => Remedy::Ask(UNSAVED),
        LaneError::GivenUp { .. } => Remedy::Ask(
            "see why it is not there, and start again: the job goes on; --once waits no longer than that, and without it a run waits until it is told to stop",
        ),
        LaneError::Functions(_) => Remedy::Ask(
            "give a target of 7.0 or later, or delete the libraries on the source (FUNCTION DELETE)",
        ),
        LaneError::Write { .. } => Remedy::Ask(
            "see that there is room and that the folder may be written; what was recorded before is a capture and can be played, and a job goes on",
        ),
        LaneError::Control(error) if error.is_answer() => Remedy::Ask(
            "let this user run INFO, SCAN, SELECT and the rest on the target, and start again: the job goes on",
        ),
        LaneError::Control(_) => Remedy::ReconnectTarget,
        LaneError::Outgrown(_) => Remedy::Ask(
            "give --spool-limit more and --spool a disk that has it, let the target be written to faster, or raise client-output-buffer-limit for replicas on the source; then start again",
        ),
        LaneError::Refused { .. } => Remedy::Ask("mend what the target says and start again"),
    }
}

/// How often a question that was not answered is asked again, each time over a new connection.
pub(super) const QUESTION_TRIES: u32 = 5;

/// How long to wait before the next try: a quarter of a second, doubled each time, ten seconds at the most.
#[must_use]
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(250).saturating_mul(1 << tries.min(6)).min(Duration::from_secs(10))
}

/// Whether a master that is not ready is waited for, and how long: one that loads or saves will be ready; one that has lost its own
/// master may never be.
#[must_use]
pub(super) fn patience(error: &ReplError) -> Duration {
    match error {
        ReplError::NotReady(text) if text.starts_with("LOADING") => Duration::from_secs(3600),
        ReplError::Saving => Duration::from_secs(3600),
        _ => Duration::from_secs(20),
    }
}

/// How long a side that is lost for this reason is waited for; `None`: as long as it takes. A run that ends by itself must do so too when
/// that side never comes back.
#[must_use]
pub(super) fn lost_patience(error: &LaneError, until: Until) -> Option<Duration> {
    // A server is started again, or another takes its place, well within that; what takes longer somebody must see to.
    const GONE: Duration = Duration::from_secs(300);
    const SILENT: Duration = Duration::from_secs(3600);
    match (until, error) {
        (Until::Forever, _) => None,
        (Until::CaughtUp, LaneError::Source(SourceError::Repl(refusal))) => {
            Some(patience(refusal).max(GONE))
        }
        (Until::CaughtUp, LaneError::Target(TargetError::NotReady(reply))) => {
            Some(refusal_patience(reply))
        }
        // It takes connections: it is stopped, or busy with something long, and will be there again.
        (Until::CaughtUp, LaneError::Target(TargetError::Silent(_))) => Some(SILENT),
        (Until::CaughtUp, _) => Some(GONE),
    }
}

/// How long a target may refuse to go on, by what it says, before the run is given up: one that loads or runs a script will be ready by
/// itself; for the rest somebody must do something.
pub(super) fn refusal_patience(reply: &str) -> Duration {
    let passes_alone = ["LOADING", "BUSY "].iter().any(|code| reply.starts_with(code));
    Duration::from_secs(if passes_alone { 3600 } else { 300 })
}
