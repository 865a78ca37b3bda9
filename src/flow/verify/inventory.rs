//! What the target holds: the names by SCAN, and of each its deadline and its DUMP, so many questions ahead of the answers as memory allows.
//!
//! ```text
//! SCAN │ TIME, PTTL k …, TIME, DUMP k … │ SCAN │ …        before 7.0
//! SCAN │ PEXPIRETIME k …, DUMP k …      │ SCAN │ …
//! ```
//! Where the time goes on between the two looks at it, nobody can tell the deadlines to the millisecond, and those keys are looked at again. A value that is small is taken when it is whole, and a larger one as it comes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc::Sender;
use tracing::debug;

use crate::key::{Db, Escaped, is_own};
use crate::net::{Clock, ControlError, Link, Net, greeted};
use crate::plan::ServerPlace;
use crate::progress::Counters;
use crate::rdb::format::Family;
use crate::resp::{Reply, ReplyReader, RespError, command};
use crate::server::{Flavour, Server, Version};
use crate::verify::{Batch, Content, Digester, Dumped, Noted, Times};

/// Whether a key may be a source's, by the target's database and its name.
pub(super) type Ours = Box<dyn Fn(Db, &[u8]) -> bool + Send>;

/// How the target is read.
pub(super) struct Inventory {
    pub(super) net: Net,
    pub(super) place: ServerPlace,
    pub(super) server: Server,
    pub(super) counters: Arc<Counters>,
    /// How far its clock is ahead of ours, in milliseconds.
    pub(super) clock_ahead: i64,
    /// Whether a job holds deadlines back there.
    pub(super) held_back: bool,
    /// The number of the reading.
    pub(super) reading: u32,
    pub(super) digester: Digester,
    /// Bytes of values that may be under way.
    pub(super) room: usize,
    /// Bytes of a value that may be held in one piece.
    pub(super) piece: usize,
    /// Whether a key may be a source's, by the target's database and its name.
    pub(super) ours: Ours,
    pub(super) to: Sender<Batch>,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// Keys that no source can have brought, by the rules.
    pub(super) foreign: u64,
}

/// The server that answers has gone, or says what it should not.
fn lost(error: io::Error) -> ControlError {
    ControlError::Lost(error)
}

fn broken(error: RespError) -> ControlError {
    lost(io::Error::new(io::ErrorKind::InvalidData, error))
}

fn unexpected(question: &'static str) -> ControlError {
    ControlError::answered(question, "it answers something else than was asked".to_owned())
}

/// What was asked, in the order in which it is answered.
enum Asked {
    Select,
    Scan,
    /// The time before deadlines are told, and after it.
    Opens,
    Closes,
    Deadline,
    Value(Vec<u8>),
}

/// How far the answer to the first question has come.
enum Answer {
    Begins,
    /// The seconds of the time were told, or come.
    Time(Option<i64>),
    /// The next cursor comes.
    Cursor,
    /// So many names come, or how many.
    Page(Option<usize>),
    /// It is a large one, and comes in pieces.
    Pieces(Box<Large>),
}

/// A value that is taken as it comes.
struct Large {
    /// Bytes that come, with the end of the line.
    left: u64,
    /// Why it cannot be read, if it cannot.
    value: Result<Dumped, String>,
}

/// Larger values are taken as they come.
const SMALL: usize = 64 << 10;

/// So many names are asked for at first, and at most when the answers are slow to come.
const PAGE: usize = 1000;
const LARGEST_PAGE: usize = 8000;

/// So many keys may be asked for ahead.
const MOST_AHEAD: usize = 8000;

/// So many keys are asked for together.
const TOGETHER: usize = 16;

/// A deadline that is not known to the millisecond. It is like no other, so that the key is looked at again.
const UNCLEAR: i64 = i64::MAX;

/// What an answer takes beside the value.
const OVERHEAD: usize = 64;

struct Reader<'a> {
    task: &'a mut Inventory,
    heard: ReadHalf<Link>,
    said: WriteHalf<Link>,
    out: Vec<u8>,
    inbox: BytesMut,
    replies: ReplyReader,
    asked: VecDeque<Asked>,
    keys_asked: usize,
    answer: Answer,
    /// Names that were told and not asked for.
    names: VecDeque<Vec<u8>>,
    db: Db,
    /// What the next page is asked with; `None` while one is under way, and behind the last.
    cursor: Option<u64>,
    page: usize,
    /// Bytes of a key, as they were of late.
    usual: usize,
    /// What was told of the keys whose values come next.
    deadlines: VecDeque<Option<i64>>,
    /// What the server's clock showed when it was asked last; until then ours, corrected.
    now_ms: i64,
    clock: Clock,
    batch: Batch,
    read: Read,
}

impl Inventory {
    /// Reads these databases.
    ///
    /// # Errors
    /// If the target is lost, or refuses a question.
    pub(super) async fn read(mut self, dbs: &[Db]) -> Result<Read, ControlError> {
        let (heard, said) = split(greeted(&self.net, &self.place).await?);
        let clock = self.net.clock();
        let mut reader = Reader {
            heard,
            said,
            out: Vec::new(),
            inbox: BytesMut::new(),
            replies: ReplyReader::default(),
            asked: VecDeque::new(),
            keys_asked: 0,
            answer: Answer::Begins,
            names: VecDeque::new(),
            db: Db::default(),
            cursor: None,
            page: PAGE,
            usual: 1024,
            deadlines: VecDeque::new(),
            now_ms: 0,
            clock,
            batch: Batch::default(),
            read: Read::default(),
            task: &mut self,
        };
        for &db in dbs {
            if !reader.database(db).await? {
                break;
            }
        }
        Ok(reader.read)
    }

    fn family(&self) -> Family {
        match self.server.flavour {
            Flavour::Valkey if self.server.version >= Version(9, 0, 0) => Family::Valkey,
            _ => Family::Redis,
        }
    }

    fn tells_deadlines(&self) -> bool {
        self.server.as_redis() >= Version(7, 0, 0)
    }
}

impl Reader<'_> {
    /// Reads one database. `false`: what is read cannot be kept, which is told by who keeps it.
    async fn database(&mut self, db: Db) -> Result<bool, ControlError> {
        (self.db, self.cursor, self.page) = (db, Some(0), PAGE);
        self.now_ms = self.clock.unix_ms().saturating_add(self.task.clock_ahead);
        let index = db.index().to_string();
        self.ask(&[b"SELECT", index.as_bytes()], Asked::Select);
        loop {
            self.ask_on();
            if self.asked.is_empty() {
                break;
            }
            self.exchange().await?;
            self.take()?;
            if self.batch.is_full() && !self.hand_on().await {
                return Ok(false);
            }
        }
        Ok(self.hand_on().await)
    }

    async fn hand_on(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        batch.is_empty() || self.task.to.send(batch).await.is_ok()
    }

    fn ask(&mut self, args: &[&[u8]], asked: Asked) {
        command(&mut self.out, args);
        self.asked.push_back(asked);
    }

    /// Asks for as much as may be under way.
    fn ask_on(&mut self) {
        let ahead = (self.task.room / self.usual.max(1)).clamp(4, MOST_AHEAD);
        let by_time = !self.task.tells_deadlines();
        while self.keys_asked < ahead && !self.names.is_empty() {
            let count = TOGETHER.min(self.names.len());
            if by_time {
                self.ask(&[b"TIME"], Asked::Opens);
            }
            let deadline: &[u8] = if by_time { b"PTTL" } else { b"PEXPIRETIME" };
            for name in self.names.iter().take(count) {
                command(&mut self.out, &[deadline, name]);
                self.asked.push_back(Asked::Deadline);
            }
            if by_time {
                self.ask(&[b"TIME"], Asked::Closes);
            }
            for name in self.names.drain(..count) {
                command(&mut self.out, &[b"DUMP", &name]);
                self.asked.push_back(Asked::Value(name));
            }
            self.keys_asked += count;
        }
        if self.names.len() < ahead
            && let Some(cursor) = self.cursor.take()
        {
            let (cursor, count) = (cursor.to_string(), self.page.to_string());
            self.ask(&[b"SCAN", cursor.as_bytes(), b"COUNT", count.as_bytes()], Asked::Scan);
        }
    }

    /// Sends what is to be sent, until something has been read.
    async fn exchange(&mut self) -> Result<(), ControlError> {
        const AT_ONCE: usize = 128 << 10;
        self.inbox.reserve(AT_ONCE);
        loop {
            tokio::select! {
                read = self.heard.read_buf(&mut self.inbox) => {
                    let count = read.map_err(lost)?;
                    if count == 0 {
                        return Err(ControlError::Closed);
                    }
                    Counters::add(&self.task.counters.bytes, count as u64);
                    return Ok(());
                }
                sent = self.said.write(&self.out), if !self.out.is_empty() => {
                    self.out.drain(..sent.map_err(lost)?);
                    if self.out.is_empty() {
                        self.said.flush().await.map_err(lost)?;
                    }
                }
            }
        }
    }

    /// Takes the answers that are there.
    fn take(&mut self) -> Result<(), ControlError> {
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
                let held_back = self.task.held_back;
                let times = Times { now_ms: self.now_ms, later_by: 0, held_back };
                let used = match large_piece(input, left, value, self.task, &times) {
                    Piece::Taken(used) => return Ok(used),
                    Piece::Broken => return Err(unexpected(question)),
                    Piece::Last(used) => used,
                };
                let value = std::mem::replace(value, Err(String::new()));
                let content = value.map(|_| self.task.digester.end());
                self.key(content);
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
            Answer::Time(_) | Answer::Cursor | Answer::Page(_) => {}
        }
        let Some((reply, used)) = self.replies.read(input).map_err(broken)? else { return Ok(0) };
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
            (Answer::Begins, Some(Asked::Select), Reply::Simple(_)) => return self.next(),
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
                    match (self.task.ours)(self.db, name) {
                        true => self.names.push_back(name.to_vec()),
                        false => self.read.foreign += 1,
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
                self.key(content.map_err(|error| error.to_string()));
                return Ok(());
            }
            // It has gone meanwhile.
            (Answer::Begins, Some(Asked::Value(_)), Reply::Nil) => {
                self.key(Ok(None));
                return Ok(());
            }
            _ => return Err(unexpected(question)),
        };
        Ok(())
    }

    /// The first question is answered.
    fn next(&mut self) -> Result<(), ControlError> {
        self.answer = Answer::Begins;
        self.asked.pop_front();
        Ok(())
    }

    fn page_ends(&mut self) -> Result<(), ControlError> {
        self.now_ms = self.clock.unix_ms().saturating_add(self.task.clock_ahead);
        // Nothing else was under way: the way to the server is longer than its work.
        if self.asked.len() == 1 && self.cursor.is_some() {
            self.page = (self.page * 2).min(LARGEST_PAGE);
        }
        self.next()
    }

    fn times(&self) -> Times {
        let held_back = self.task.held_back;
        Times { now_ms: self.now_ms, later_by: 0, held_back }
    }

    /// A key was read.
    fn key(&mut self, content: Result<Option<Content>, String>) {
        self.answer = Answer::Begins;
        let Some(Asked::Value(name)) = self.asked.pop_front() else { return };
        let deadline = self.deadlines.pop_front().flatten();
        self.keys_asked -= 1;
        Counters::add(&self.task.counters.keys, 1);
        let content = match content {
            Ok(Some(content)) => content,
            Ok(None) => return,
            Err(why) => {
                debug!(key = %Escaped(&name), why, "a value of the target cannot be read");
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
        let (reading, db, name) = (self.task.reading, self.db, name.as_slice());
        self.batch.push(&Noted { reading, db, name, origin: None, content, deadline });
    }
}

impl Asked {
    /// The command that is answered now.
    const fn name(&self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Scan => "SCAN",
            Self::Opens | Self::Closes => "TIME",
            Self::Deadline => "PTTL",
            Self::Value(_) => "DUMP",
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
fn large(input: &[u8]) -> Option<(u64, usize)> {
    let rest = input.strip_prefix(b"$")?;
    let digits = rest.iter().take(20).position(|byte| *byte == b'\r')?;
    let len = number(rest.get(..digits)?)?;
    let len = u64::try_from(len).ok().filter(|len| *len > SMALL as u64)?;
    (rest.get(digits + 1) == Some(&b'\n')).then_some((len, 1 + digits + 2))
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
