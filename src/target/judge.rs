//! What a reply says about its command.

use crate::command::judge::{Expect, Judgement, Outcome, judge};
use crate::resp::Reply;

/// The judgement of a whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The command did here what it did on the source.
    AsExpected,
    /// It removed what was not there: both sides are without it.
    NoEffect,
    /// The target cannot do it now: the same command may pass later.
    Passing(String),
    /// The command failed, or did something else than on the source.
    Diverged(String),
}

/// Judges replies one after another; an array is judged when its last element has come.
#[derive(Debug, Default)]
pub(super) struct Judge {
    array: Option<Elements>,
}

/// An array whose elements are coming.
#[derive(Debug)]
struct Elements {
    /// Its own elements still to come, then those of the array inside it that is coming, and so on.
    left: Vec<usize>,
    filled: usize,
    greatest: Option<i64>,
    /// The first of its own elements that is an error.
    error: Option<String>,
}

impl Judge {
    /// Takes the next part of a reply. `None` until the reply is whole.
    #[inline]
    pub(super) fn take(&mut self, expect: Expect, reply: Reply<'_>) -> Option<Verdict> {
        if let Some(elements) = &mut self.array {
            elements.take(reply);
            if !elements.left.is_empty() {
                return None;
            }
            let Elements { filled, greatest, error, .. } = self.array.take()?;
            if let (Expect::Executed, Some(error)) = (expect, error) {
                return Some(Verdict::Diverged(error));
            }
            return Some(verdict(expect, Outcome::Array { filled, greatest }, || {
                format!("an array with {filled} elements that are not nil")
            }));
        }
        let outcome = match reply {
            Reply::Error(error)
                if passes(error)
                    // One of its commands was refused, and judged; or all of it is, for lack of memory.
                    || expect == Expect::Executed && error.starts_with(b"EXECABORT") =>
            {
                return Some(Verdict::Passing(text(reply)));
            }
            Reply::Array(len) if len > 0 => {
                self.array =
                    Some(Elements { left: vec![len], filled: 0, greatest: None, error: None });
                return None;
            }
            Reply::Array(_) => Outcome::Array { filled: 0, greatest: None },
            Reply::Simple(_) => Outcome::Status,
            Reply::Error(line) => Outcome::of_error(line),
            Reply::Int(int) => Outcome::Integer(int),
            Reply::Bulk(_) => Outcome::Bulk,
            Reply::Nil => Outcome::Nil,
        };
        Some(verdict(expect, outcome, || text(reply)))
    }
}

impl Elements {
    fn take(&mut self, reply: Reply<'_>) {
        if self.left.len() == 1 {
            self.filled += usize::from(reply != Reply::Nil);
            if let Reply::Int(int) = reply {
                self.greatest = self.greatest.max(Some(int));
            }
            if let Reply::Error(_) = reply
                && self.error.is_none()
            {
                self.error = Some(text(reply));
            }
        }
        if let Some(left) = self.left.last_mut() {
            *left = left.saturating_sub(1);
        }
        if let Reply::Array(len) = reply {
            self.left.push(len);
        }
        while self.left.last() == Some(&0) {
            self.left.pop();
        }
    }
}

fn verdict(expect: Expect, outcome: Outcome, text: impl FnOnce() -> String) -> Verdict {
    match judge(expect, outcome) {
        Judgement::AsExpected => Verdict::AsExpected,
        Judgement::NoKey => Verdict::NoEffect,
        Judgement::Diverged => Verdict::Diverged(text()),
    }
}

/// Whether an error says that the target cannot serve now, and may later: out of memory, loading, demoted, saving
/// fails, a script is running, too few replicas.
pub(super) fn passes(error: &[u8]) -> bool {
    const PASSING: &[&[u8]] = &[
        b"OOM",
        b"LOADING",
        b"READONLY",
        b"MASTERDOWN",
        b"BUSY ",
        b"MISCONF",
        b"NOREPLICAS",
        b"TRYAGAIN",
        b"CLUSTERDOWN",
    ];
    let said = |code: &&[u8]| error.starts_with(code);
    // Before 7.0 what a command in a script was answered stands inside the script's own error.
    let inside = |code: &&[u8]| {
        error
            .windows(code.len() + 1)
            .any(|part| part.first() == Some(&b'-') && part.ends_with(code))
    };
    PASSING.iter().any(said)
        || error.starts_with(b"ERR Error running script") && PASSING.iter().any(inside)
}

/// A reply for a person.
pub(super) fn text(reply: Reply<'_>) -> String {
    const LONGEST: usize = 300;
    let shown =
        |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes)).into_owned();
    match reply {
        Reply::Simple(text) | Reply::Error(text) => shown(text),
        Reply::Bulk(bytes) => format!("{:?}", shown(bytes)),
        Reply::Int(int) => format!("(integer) {int}"),
        Reply::Nil => "(nil)".to_owned(),
        Reply::Array(len) => format!("an array of {len}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(expect: Expect, replies: &[Reply<'_>]) -> Verdict {
        let mut judge = Judge::default();
        let mut verdicts = replies.iter().filter_map(|reply| judge.take(expect, *reply));
        let verdict = verdicts.next().unwrap();
        assert_eq!(verdicts.next(), None);
        verdict
    }

    #[test]
    fn an_array_is_judged_as_a_whole() {
        let inner = [Reply::Array(2), Reply::Nil, Reply::Array(1), Reply::Int(7)];
        assert_eq!(judged(Expect::Something, &inner), Verdict::AsExpected);
        // the 7 is an element of an element
        assert!(matches!(judged(Expect::SomePositive, &inner), Verdict::Diverged(_)));
        let nils = [Reply::Array(2), Reply::Nil, Reply::Nil];
        assert!(matches!(judged(Expect::Something, &nils), Verdict::Diverged(_)));
        assert_eq!(
            judged(Expect::SomePositive, &[Reply::Array(2), Reply::Int(-2), Reply::Int(1)]),
            Verdict::AsExpected
        );
        assert_eq!(judged(Expect::Any, &[Reply::Array(1), Reply::Array(0)]), Verdict::AsExpected);
    }

    #[test]
    fn what_a_script_was_refused_passes_as_if_it_had_been_refused_itself() {
        let old = b"ERR Error running script (call to f_ab): @user_script:1: @user_script: 1: -OOM command not allowed";
        assert!(passes(old));
        assert!(passes(b"OOM command not allowed when used memory > 'maxmemory'. script: ab, on @user_script:1."));
        assert!(!passes(
            b"ERR Error running script (call to f_ab): @user_script:1: -WRONGTYPE OOM"
        ));
        assert!(!passes(b"ERR unknown command -OOM"));
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let oom = Reply::Error(b"OOM command not allowed when used memory > 'maxmemory'.");
        assert!(matches!(judged(Expect::Status, &[oom]), Verdict::Passing(_)));
        assert!(matches!(
            judged(Expect::Status, &[Reply::Error(b"BUSYKEY Target key name already exists.")]),
            Verdict::Diverged(_)
        ));
        assert_eq!(judged(Expect::Removal, &[Reply::Int(0)]), Verdict::NoEffect);
    }
}
