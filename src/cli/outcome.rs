//! How a command ended, and how that is said.

use std::process::ExitCode;

use understudy::flow::Ended;

use super::notice;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 0: done.
    Done,
    /// 1: differences were found, or something was skipped or could not be proven.
    Differences,
    /// 2: refused before anything was written.
    Refused,
    /// 3: failed.
    Failed,
    /// 130: stopped by a signal.
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Differences => 1,
            Outcome::Refused => 2,
            Outcome::Failed => 3,
            Outcome::Interrupted => 130,
        })
    }
}

impl From<Ended> for Outcome {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Done => Self::Done,
            Ended::Differences => Self::Differences,
            Ended::Refused => Self::Refused,
            Ended::Failed => Self::Failed,
            Ended::Stopped => Self::Interrupted,
        }
    }
}

/// Says what is in the way and what to do, before anything was written.
pub(crate) fn refused(what: &str, mend: &str) -> Outcome {
    notice::error(what, mend);
    Outcome::Refused
}

/// Says what went wrong and what to do.
pub(crate) fn failed(what: &str, mend: &str) -> Outcome {
    notice::error(what, mend);
    Outcome::Failed
}
