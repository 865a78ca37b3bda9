//! What the target answers, taken apart as it comes.

use bytes::Buf;
use tracing::debug;

use crate::key::{Db, Escaped, is_own};
use crate::net::{ControlError, info_field};
use crate::progress::Counters;
use crate::rdb::opcode::ValueType;
use crate::resp::{Reply, RespError};
use crate::verify::{Content, Dumped, Times};

use super::super::again::admits;
use super::super::by_type::is_command_refused;
use super::{
    Answer, Asked, Inventory, LARGEST_PAGE, Large, OVERHEAD, Reader, SMALL, Sort, UNCLEAR, lost,
};

impl Reader<'_> {
    /// Takes the answers that are there.
    pub(super) fn take(&mut self) -> Result<(), ControlError> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut at = 0;
        let taken = loop {
            match self.take_one(inbox.get(at..).unwrap_or_default()) {
                Ok(0) => break Ok(()),
                Ok(used) => at += used,
                Err(error) => break Err(error),
            }
        };
        inbox.advance(at);
        self.inbox = inbox;
        taken
    }

    /// Takes an answer, or a part of one, from the front of these bytes, and gives how many it took: none where more must come.
    fn take_one(&mut self, input: &[u8]) -> Result<usize, ControlError> {
        let Some(asked) = self.asked.front() else {
            return if input.is_empty() { Ok(0) } else { Err(unexpected("DUMP")) };
        };
        let question = asked.name();
        match &mut self.answer {
            Answer::Pieces(large) => {
                let Large { left, value } = &mut **large;
                let times = Times { now_ms: self.now_ms, ..self.task.times };
                let used = match large_piece(input, left, value, self.task, &times) {
                    Piece::Taken(used) => return Ok(used),
                    Piece::Broken => return Err(unexpected(question)),
                    Piece::Last(used) => used,
                };
                let value = std::mem::replace(value, Err(String::new()));
                let content = value.map(|_| self.task.digester.end());
                self.value(content)?;
                return Ok(used);
            }
            Answer::Begins => {
                if let (Asked::Value(_), Some((len, head))) = (asked, large(input)) {
                    let (family, piece) = (self.task.family(), self.task.piece);
                    let value = Dumped::new(len, family, piece).map_err(|error| error.to_string());
                    let left = len.saturating_add(2);
                    self.answer = Answer::Pieces(Box::new(Large { left, value }));
                    return Ok(head);
                }
            }
            Answer::Strings => {
                if let (Asked::Strings(_), Some(len)) = (asked, large(input)) {
                    return Ok(self.pass_large(len));
                }
            }
            Answer::Passes(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= used as u64;
                if *left == 0 {
                    self.string(None)?;
                }
                return Ok(used);
            }
            Answer::Time(_) | Answer::Cursor | Answer::Page(_) => {}
        }
        let Some((reply, used)) = self.replies.read(input).map_err(broken)? else { return Ok(0) };
        match (reply, self.asked.front()) {
            (Reply::Error(_), Some(Asked::Keyspace)) => {
                self.expires = None;
                self.next()?;
                return Ok(used);
            }
            (Reply::Error(text), Some(Asked::Permission)) => {
                let text = String::from_utf8_lossy(text).into_owned();
                let error = ControlError::answered(question, text);
                self.read.by_type = is_command_refused(&error.into());
                self.next()?;
                return Ok(used);
            }
            (Reply::Error(_), Some(Asked::Together)) => {
                self.next()?;
                return Ok(used);
            }
            _ => {}
        }
        if let Reply::Error(text) = reply {
            return Err(ControlError::answered(question, String::from_utf8_lossy(text).into()));
        }
        self.answered(question, reply, used)?;
        Ok(used)
    }

    /// What an answer, or the next of its parts, says.
    fn answered(
        &mut self,
        question: &'static str,
        reply: Reply<'_>,
        len: usize,
    ) -> Result<(), ControlError> {
        let asked = self.asked.front();
        self.answer = match (&mut self.answer, asked, reply) {
            (Answer::Begins, Some(Asked::Select), Reply::Simple(_))
            | (Answer::Begins, Some(Asked::Permission), Reply::Nil | Reply::Bulk(_)) => {
                return self.next();
            }
            (Answer::Begins, Some(Asked::Keyspace), Reply::Bulk(info)) => {
                self.expires = expires(info, self.db);
                return self.next();
            }
            (Answer::Begins, Some(Asked::Opens | Asked::Closes), Reply::Array(2)) => {
                Answer::Time(None)
            }
            (Answer::Time(None), _, Reply::Bulk(digits)) => {
                Answer::Time(Some(number(digits).ok_or_else(|| unexpected(question))?))
            }
            (Answer::Time(Some(seconds)), _, Reply::Bulk(digits)) => {
                let micros = number(digits).ok_or_else(|| unexpected(question))?;
                let now_ms = seconds.saturating_mul(1000).saturating_add(micros / 1000);
                if let Some(Asked::Closes) = asked {
                    let went_on = now_ms != self.now_ms;
                    for told in self.deadlines.iter_mut().flatten() {
                        *told = if went_on { UNCLEAR } else { now_ms.saturating_add(*told) };
                    }
                }
                self.now_ms = now_ms;
                return self.next();
            }
            (Answer::Begins, Some(Asked::Scan), Reply::Array(2)) => Answer::Cursor,
            (Answer::Cursor, _, Reply::Bulk(digits)) => {
                let cursor = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
                let cursor: u64 = cursor.ok_or_else(|| unexpected(question))?;
                self.cursor = (cursor != 0).then_some(cursor);
                Answer::Page(None)
            }
            (Answer::Page(None), _, Reply::Array(0)) => return self.page_ends(),
            (Answer::Page(None), _, Reply::Array(count)) => Answer::Page(Some(count)),
            (Answer::Page(Some(left)), _, Reply::Bulk(name)) => {
                *left -= 1;
                let ends = *left == 0;
                if !is_own(name) {
                    match (self.task.sorts)(self.db, name) {
                        Sort::Wanted => self.names.push_back(name.to_vec()),
                        Sort::Aside => {}
                        Sort::Foreign => self.read.foreign += 1,
                    }
                }
                return if ends { self.page_ends() } else { Ok(()) };
            }
            (Answer::Begins, Some(Asked::Deadline), Reply::Int(told)) => {
                self.deadlines.push_back((told >= 0).then_some(told));
                return self.next();
            }
            (Answer::Begins, Some(Asked::Value(_)), Reply::Bulk(payload)) => {
                self.usual = (self.usual * 15 + len + OVERHEAD) / 16;
                let times = self.times();
                let content =
                    Dumped::content(payload, self.task.piece, &mut self.task.digester, &times);
                return self.value(content.map_err(|error| error.to_string()));
            }
            // It has gone meanwhile.
            (Answer::Begins, Some(Asked::Value(_)), Reply::Nil) => return self.value(Ok(None)),
            (Answer::Begins, Some(Asked::Together), Reply::Array(2)) => Answer::Strings,
            (Answer::Strings, Some(Asked::Together), Reply::Bulk(_) | Reply::Nil) => {
                if !std::mem::replace(&mut self.strings.are_told, true) {
                    return Ok(());
                }
                return self.next();
            }
            (Answer::Begins, Some(Asked::Strings(names)), Reply::Array(count))
                if count == names.len() =>
            {
                self.read.by_mget = true;
                Answer::Strings
            }
            (Answer::Strings, Some(Asked::Strings(_)), reply) => return self.string(Some(reply)),
            _ => return Err(unexpected(question)),
        };
        Ok(())
    }

    /// The first question is answered.
    pub(super) fn next(&mut self) -> Result<(), ControlError> {
        self.answer = Answer::Begins;
        self.asked.pop_front();
        Ok(())
    }

    fn page_ends(&mut self) -> Result<(), ControlError> {
        self.now_ms = self.clock.unix_ms().saturating_add(self.task.clock_ahead);
        if std::mem::take(&mut self.is_slow) {
            self.page = (self.page * 2).min(LARGEST_PAGE);
        }
        self.next()
    }

    /// Whether the value that came last, of this type, is wanted.
    fn admits(&self, kind: ValueType) -> bool {
        self.task.rules.as_ref().is_none_or(|rules| admits(rules, kind, &self.task.digester))
    }

    pub(super) fn times(&self) -> Times {
        Times { now_ms: self.now_ms, ..self.task.times }
    }

    /// The value that was asked for was read.
    fn value(&mut self, content: Result<Option<Content>, String>) -> Result<(), ControlError> {
        let Some(Asked::Value(name)) = self.asked.pop_front() else {
            return Err(unexpected("DUMP"));
        };
        self.answer = Answer::Begins;
        self.key(&name, content);
        Ok(())
    }

    /// A key was read.
    pub(super) fn key(&mut self, name: &[u8], content: Result<Option<Content>, String>) {
        let deadline = self.deadlines.pop_front().flatten();
        self.keys_asked -= 1;
        Counters::add(&self.task.counters.keys, 1);
        let kind = content.as_ref().ok().and_then(|content| Some(content.as_ref()?.kind));
        self.strings.saw(kind);
        let content = match content {
            Ok(Some(content)) if self.admits(content.kind) => content,
            Ok(_) => return,
            Err(why) => {
                debug!(key = %Escaped(name), why, "a value of the target cannot be read");
                Content::UNREAD
            }
        };
        let deadline = match deadline {
            Some(at) => match self.times().lives_until(at) {
                Some(at) => Some(at),
                None => return,
            },
            None => None,
        };
        self.task.note(self.db, name, (content, deadline), &mut self.batch);
    }
}

impl Asked {
    /// The command that is answered now.
    const fn name(&self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Keyspace => "INFO",
            Self::Scan => "SCAN",
            Self::Opens | Self::Closes => "TIME",
            Self::Deadline => "PTTL",
            Self::Permission | Self::Value(_) => "DUMP",
            Self::Together | Self::Strings(_) => "MGET",
        }
    }
}

/// What a piece of a large value came to.
enum Piece {
    /// So many bytes were taken; more come.
    Taken(usize),
    /// The value has ended with so many.
    Last(usize),
    /// It does not end where it should.
    Broken,
}

/// Takes what it can of a large value.
fn large_piece(
    input: &[u8],
    left: &mut u64,
    value: &mut Result<Dumped, String>,
    task: &mut Inventory,
    times: &Times,
) -> Piece {
    const END: &[u8] = b"\r\n";
    if let Some(of_value) = left.checked_sub(END.len() as u64).filter(|left| *left > 0) {
        let there = usize::try_from(of_value).unwrap_or(usize::MAX).min(input.len());
        let input = input.get(..there).unwrap_or_default();
        let used = match value {
            Ok(dumped) => match dumped.take(input, &mut task.digester, times) {
                Ok(used) => used,
                Err(error) => {
                    *value = Err(error.to_string());
                    there
                }
            },
            // What cannot be read is passed over.
            Err(_) => there,
        };
        *left -= used as u64;
        return Piece::Taken(used);
    }
    match input.get(..END.len()) {
        None => Piece::Taken(0),
        Some(END) => Piece::Last(END.len()),
        Some(_) => Piece::Broken,
    }
}

/// How long a bulk string is that is not small, and its head, if these bytes begin with one.
pub(super) fn large(input: &[u8]) -> Option<(u64, usize)> {
    let rest = input.strip_prefix(b"$")?;
    let digits = rest.iter().take(20).position(|byte| *byte == b'\r')?;
    let len = number(rest.get(..digits)?)?;
    let len = u64::try_from(len).ok().filter(|len| *len > SMALL as u64)?;
    (rest.get(digits + 1) == Some(&b'\n')).then_some((len, 1 + digits + 2))
}

/// How many keys of a database have a deadline, by `INFO keyspace`; `None` if it does not say.
fn expires(info: &[u8], db: Db) -> Option<u64> {
    let info = String::from_utf8_lossy(info);
    let told = info_field(&info, &format!("db{db}"))?;
    told.split(',').find_map(|field| field.strip_prefix("expires="))?.parse().ok()
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn broken(error: RespError) -> ControlError {
    lost(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

pub(super) fn unexpected(question: &'static str) -> ControlError {
    ControlError::answered(question, "it answers something else than was asked".to_owned())
}
