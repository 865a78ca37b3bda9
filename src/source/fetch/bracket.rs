//! Questions about keys between two looks at a server's offset: what it answers between two equal ones held there.
//!
//! ```text
//! INFO │ TIME, PTTL k …, TIME │ DUMP k … │ MEMORY USAGE k … │ INFO
//!      │    PEXPIRETIME k …   │            OBJECT ENCODING
//! ```
//!
//! It is no transaction: up to 6.0 one that holds `INFO` goes into the server's own stream, and the offset told stands in its midst; from 7.0
//! on a deletion that our own reading brings about stands behind that offset.

use std::vec::IntoIter;

use redis::{FromRedisValue, Pipeline};

use crate::net::{ControlError, Reply, info_field};
use crate::offset::{Offset, ReplId};
use crate::server::Version;

use super::{FetchError, Found};

/// Which history answers must be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// None: the source has no offsets, and nothing tells where an answer held.
    None,
    /// Whichever the source has.
    Any,
    /// This one.
    Of(ReplId),
}

/// What a source says of a key's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There is no such key.
    Gone,
    /// It has none.
    Forever,
    /// Unix time in milliseconds.
    Until(i64),
}

/// What is asked of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Deadlines,
    Values,
}

/// What a link leads to. A process lasts longer than a connection to it, so this holds for the whole of one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    /// The Redis release whose commands it has, if it tells.
    pub(super) version: Option<Version>,
    /// Its process, which is its history up to 3.2.
    pub(super) run_id: Option<ReplId>,
}

impl Peer {
    /// Whether it has the commands of this release.
    pub(super) fn knows(&self, version: Version) -> bool {
        self.version.is_some_and(|own| own >= version)
    }
}

/// Questions about some keys of one database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bracket<'a> {
    pub(super) keys: &'a [&'a [u8]],
    pub(super) wanted: Wanted,
    pub(super) peer: Peer,
    pub(super) history: History,
}

/// What held at one offset, of each key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// `None` without a history.
    pub(super) at: Option<Offset>,
    pub(super) left: Vec<Left>,
    /// Empty where only deadlines were wanted.
    pub(super) found: Vec<Found>,
}

impl Bracket<'_> {
    /// The questions.
    pub(super) fn pipe(&self) -> Pipeline {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("replication");
        if self.tells_deadlines() {
            self.of_each(&mut pipe, &["PEXPIRETIME"]);
        } else {
            pipe.cmd("TIME");
            self.of_each(&mut pipe, &["PTTL"]);
            pipe.cmd("TIME");
        }
        if self.wanted == Wanted::Values {
            self.of_each(&mut pipe, &["DUMP"]);
            self.of_each(&mut pipe, self.presence());
        }
        pipe.cmd("INFO").arg("replication");
        pipe
    }

    /// What the replies say; `None` if the server was not quiet, so that they say nothing.
    ///
    /// # Errors
    /// If a question was refused, or the replies can never count: there is no backlog, or the history is another one.
    pub(super) fn judge(&self, replies: Vec<Reply>) -> Result<Option<Held>, FetchError> {
        let mut replies = Replies(replies.into_iter());
        let first: String = replies.next("INFO")?;
        let deadlines = self.deadlines(&mut replies)?;
        let (mut payloads, mut present) = (Vec::new(), Vec::new());
        if self.wanted == Wanted::Values {
            payloads = replies.of_each::<Option<Vec<u8>>>("DUMP", self.keys)?;
            present = self.keys.iter().map(|_| replies.0.next()).collect();
        }
        let last: String = replies.next("INFO")?;

        let at = self.place(&last)?;
        let quiet = self.history == History::None
            || SAME.iter().all(|name| info_field(&first, name) == info_field(&last, name));
        let Some((now, left)) = deadlines.filter(|_| quiet) else { return Ok(None) };
        let mut found = Vec::with_capacity(payloads.len());
        for (((payload, left), present), key) in
            payloads.into_iter().zip(&left).zip(present).zip(self.keys)
        {
            found.push(match (payload, *left) {
                // It is due, or past that on a replica of up to 3.0, which tells it until its master deletes it.
                (Some(_), Left::Until(deadline)) if Some(deadline) == now => Found::Expired,
                (Some(payload), Left::Until(deadline)) => {
                    Found::Value { payload, deadline: Some(deadline) }
                }
                (Some(payload), Left::Forever) => Found::Value { payload, deadline: None },
                // The clock was set back in between.
                (Some(_), Left::Gone) => return Ok(None),
                (None, _) => match read(present, self.presence_name(), key)? {
                    redis::Value::Nil => Found::Gone,
                    _ => Found::Expired,
                },
            });
        }
        Ok(Some(Held { at, left, found }))
    }

    /// The deadlines, and the time by the server's clock if they stand on it; `None` if it went on in between.
    #[expect(clippy::type_complexity, reason = "a pair, taken apart at once")]
    fn deadlines(
        &self,
        replies: &mut Replies,
    ) -> Result<Option<(Option<i64>, Vec<Left>)>, FetchError> {
        if self.tells_deadlines() {
            let told = replies.of_each("PEXPIRETIME", self.keys)?;
            return Ok(Some((None, told.into_iter().map(|told| left(0, told)).collect())));
        }
        let before = millis(replies.next("TIME")?);
        let told: Vec<i64> = replies.of_each("PTTL", self.keys)?;
        let after = millis(replies.next("TIME")?);
        // Where no key has a deadline the time is nothing to us.
        if before != after && told.iter().any(|&told| told >= 0) {
            return Ok(None);
        }
        Ok(Some((Some(before), told.into_iter().map(|told| left(before, told)).collect())))
    }

    /// Where in our history the server stands that says this of itself.
    fn place(&self, info: &str) -> Result<Option<Offset>, FetchError> {
        let number = |name| info_field(info, name).and_then(|text| text.parse().ok());
        let offset = number("master_repl_offset").map(Offset::new);
        let wanted = match self.history {
            History::None => return Ok(None),
            History::Any => return Ok(offset),
            History::Of(replid) => replid,
        };
        let backlog = info_field(info, "repl_backlog_active") == Some("1");
        let Some(offset) = offset.filter(|_| backlog) else { return Err(FetchError::NoBacklog) };
        let replid = |name| info_field(info, name).and_then(|text| ReplId::parse(text.as_bytes()));
        let shown = replid("master_replid").or(self.peer.run_id);
        // One that has taken its master's place shares that one's history up to there. As the server's PSYNC does it: the
        // number is that of the first byte which is its own.
        let shares = || {
            replid("master_replid2") == Some(wanted)
                && number("second_repl_offset").is_some_and(|own| offset.next_byte() <= own)
        };
        if shown == Some(wanted) || shares() {
            return Ok(Some(offset));
        }
        Err(FetchError::OtherHistory { wanted, shown })
    }

    fn of_each(&self, pipe: &mut Pipeline, command: &[&str]) {
        for key in self.keys {
            pipe.add_command(redis::Cmd::new()).arg(command).arg(*key);
        }
    }

    fn tells_deadlines(&self) -> bool {
        self.peer.knows(Version(7, 0, 0))
    }

    /// Tells whether a key is there, be it past its deadline. On a replica such a one is read as gone, and is not: its master may
    /// still lengthen its life.
    fn presence(&self) -> &'static [&'static str] {
        if self.peer.knows(Version(4, 0, 0)) {
            &["MEMORY", "USAGE"]
        } else {
            &["OBJECT", "ENCODING"]
        }
    }

    fn presence_name(&self) -> &'static str {
        if self.peer.knows(Version(4, 0, 0)) { "MEMORY USAGE" } else { "OBJECT ENCODING" }
    }
}

/// What must be the same before and behind the answers.
const SAME: [&str; 6] = [
    "role",
    "run_id",
    "master_replid",
    "master_replid2",
    "master_repl_offset",
    "second_repl_offset",
];

/// A deadline, as `PTTL` tells it at this time, and `PEXPIRETIME` at none.
fn left(now: i64, told: i64) -> Left {
    match told {
        0.. => Left::Until(now.saturating_add(told)),
        -1 => Left::Forever,
        _ => Left::Gone,
    }
}

/// What `TIME` tells, in milliseconds.
fn millis((seconds, micros): (i64, i64)) -> i64 {
    seconds.saturating_mul(1000).saturating_add(micros / 1000)
}

/// Answers in the order of the questions.
struct Replies(IntoIter<Reply>);

impl Replies {
    fn next<T: FromRedisValue>(&mut self, question: &'static str) -> Result<T, FetchError> {
        value(self.0.next()).map_err(|text| ControlError::answered(question, text).into())
    }

    fn of_each<T: FromRedisValue>(
        &mut self,
        command: &'static str,
        keys: &[&[u8]],
    ) -> Result<Vec<T>, FetchError> {
        keys.iter().map(|key| read(self.0.next(), command, key)).collect()
    }
}

/// The answer to a question about a key.
pub(super) fn read<T: FromRedisValue>(
    reply: Option<Reply>,
    command: &'static str,
    key: &[u8],
) -> Result<T, FetchError> {
    value(reply).map_err(|text| FetchError::Refused { command, key: key.to_vec(), text })
}

fn value<T: FromRedisValue>(reply: Option<Reply>) -> Result<T, String> {
    let value = reply.unwrap_or_else(|| Err("no answer".to_owned()))?;
    redis::from_redis_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
