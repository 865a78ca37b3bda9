//! Whom a lane waits for.

use std::fmt;
use std::time::Duration;

/// Without what a lane does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The target is lost and asked for again and again.
    TargetLost,
    /// The target has left so many commands unanswered.
    Answers(u64),
    /// The target refuses to go on for now, and says why.
    Refused,
    /// Somebody has paused the run.
    Paused,
    /// The target is asked for the names of its keys.
    Names,
    /// The source is asked for keys in doubt, for deadlines, or for what a command does.
    Question,
    /// The source is lost and asked for again and again.
    SourceLost,
    /// What the target has not taken fills the spool, so that the source is not read.
    Spool,
    /// The run's limit lets nothing more pass.
    Limit,
    /// Another source reads something so large that there is no memory for what this one says.
    Memory,
    /// As much is on its way to the target as memory holds.
    Room,
    /// The source has not begun to answer, or prepares its data set.
    Beginning,
    /// The source is silent in the midst of its data set.
    Copy,
    /// The source is silent in the midst of a transaction.
    Transaction,
}

impl Wait {
    /// Whether that side is tried again, which is told at each try.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::TargetLost | Self::SourceLost)
    }
}

/// A wait, and since when it lasts, on the clock of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For what.
    pub wait: Wait,
    /// Since when nothing has moved.
    pub since: Duration,
}

impl Waiting {
    /// The wait in words.
    #[must_use]
    pub const fn told<'a>(self, source: &'a str, target: &'a str, now: Duration) -> Told<'a> {
        Told { waiting: self, source, target, now }
    }
}

/// A wait in words: for whom, since when, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    waiting: Waiting,
    source: &'a str,
    target: &'a str,
    now: Duration,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, target, .. } = *self;
        let seconds = self.now.saturating_sub(self.waiting.since).as_secs();
        let (which, name) = match self.waiting.wait {
            Wait::TargetLost
            | Wait::Answers(_)
            | Wait::Refused
            | Wait::Names
            | Wait::Spool
            | Wait::Room => ("target", target),
            Wait::Question
            | Wait::SourceLost
            | Wait::Beginning
            | Wait::Copy
            | Wait::Transaction => ("source", source),
            Wait::Paused => {
                return write!(f, "paused since {seconds} s: understudy resume goes on");
            }
            Wait::Limit => {
                return write!(f, "held by --limit-rate or --limit-read since {seconds} s");
            }
            Wait::Memory => {
                return write!(
                    f,
                    "waiting for memory since {seconds} s: another source reads something large"
                );
            }
        };
        write!(f, "waiting for {which} {name} since {seconds} s: ")?;
        match self.waiting.wait {
            Wait::TargetLost | Wait::SourceLost => f.write_str("the link is being made again"),
            Wait::Answers(1) => f.write_str("1 command unanswered"),
            Wait::Answers(commands) => write!(f, "{commands} commands unanswered"),
            Wait::Refused => f.write_str("it refuses to go on for now"),
            Wait::Names => f.write_str("it is asked for the names of its keys"),
            Wait::Spool => f.write_str(
                "the spool is full, and the source is not read until some of it is taken",
            ),
            Wait::Room => f.write_str("as much is on its way as memory holds"),
            Wait::Question => f.write_str("it is asked for keys in doubt, or for deadlines"),
            Wait::Beginning => f.write_str("it has not begun to send, or prepares its data set"),
            Wait::Copy => f.write_str("it is silent in the midst of its data set"),
            Wait::Transaction => f.write_str("it is silent in the midst of a transaction"),
            Wait::Paused | Wait::Limit | Wait::Memory => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_the_side_and_the_time() {
        let told = |wait| {
            let since = Duration::from_secs(100);
            Waiting { wait, since }
                .told("old:1", "new:2", Duration::from_millis(142_900))
                .to_string()
        };
        let cases = [
            (Wait::Answers(512), "waiting for target new:2 since 42 s: 512 commands unanswered"),
            (Wait::Answers(1), "waiting for target new:2 since 42 s: 1 command unanswered"),
            (
                Wait::Copy,
                "waiting for source old:1 since 42 s: it is silent in the midst of its data set",
            ),
            (
                Wait::Spool,
                "waiting for target new:2 since 42 s: the spool is full, and the source is not read until some of it is taken",
            ),
            (Wait::Paused, "paused since 42 s: understudy resume goes on"),
            (Wait::Limit, "held by --limit-rate or --limit-read since 42 s"),
        ];
        for (wait, text) in cases {
            assert_eq!(told(wait), text);
        }
    }
}
