//! What a server holds: the names by SCAN, or those that are known, and of each its deadline and its DUMP, so many questions ahead of the answers as
//! memory allows.
//!
//! ```text
//! SCAN │ SCAN, TIME, PTTL k …, TIME, DUMP k … │ SCAN, …        before 7.0
//! SCAN │ SCAN, PEXPIRETIME k …, DUMP k …      │ SCAN, …
//! ```
//! Where most of what came was small strings, MGET k … stands in place of DUMP k …, and what is none of these is asked for by DUMP behind it.
//!
//! The next names are asked for in front of the values of those that have come, so that the server has these to answer while the names are on their way.
//!
//! A database in which no key has a deadline, by what INFO says before and behind, is not asked for any. Where the time goes on between the two looks at it, nobody can tell the deadlines to the millisecond, and those keys are looked at again.
//! A value that is small is taken when it is whole, and a larger one as it comes.

mod answers;
mod strings;
mod typed;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use crate::key::{Db, OWN};
use crate::net::{Clock, ControlError, Link, Net, greeted};
use crate::plan::{Rules, ServerPlace};
use crate::progress::Counters;
use crate::rdb::format::Family;
use crate::resp::{ReplyReader, command};
use crate::server::{Flavour, Server, Version};
use crate::source::FetchError;
use crate::verify::{Batch, Content, Digester, Dumped, Noted, Times};

use strings::Strings;
use typed::Names;

/// What becomes of a key, by its database and its name on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// It is compared.
    Wanted,
    /// It is none of those that are compared.
    Aside,
    /// No source can have brought it.
    Foreign,
}

/// Tells it.
pub(super) type Sorts = Box<dyn Fn(Db, &[u8]) -> Sort + Send + Sync>;

/// Names of one database.
pub(super) type Named = (Db, Vec<Vec<u8>>);

/// How a server is read.
pub(super) struct Inventory {
    pub(super) net: Net,
    pub(super) place: ServerPlace,
    pub(super) server: Server,
    pub(super) counters: Arc<Counters>,
    /// How far its clock is ahead of ours, in milliseconds.
    pub(super) clock_ahead: i64,
    /// How its deadlines are to be understood; its clock is asked.
    pub(super) times: Times,
    /// The number of the first reading.
    pub(super) reading: u32,
    pub(super) digester: Digester,
    /// Bytes of values that may be under way.
    pub(super) room: usize,
    /// Bytes of a value that may be held in one piece.
    pub(super) piece: usize,
    /// What becomes of a key.
    pub(super) sorts: Sorts,
    /// Where its keys are in the target, and which of them are wanted, if it is a source.
    pub(super) rules: Option<Rules>,
    pub(super) to: Sender<Batch>,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// Keys that no source can have brought, by the rules.
    pub(super) foreign: u64,
    /// Which reading it was, from 0 on: what others have brought does not count.
    pub(super) attempt: u32,
    /// Whether values were read by the commands of their types, as `DUMP` is refused.
    pub(super) by_type: bool,
    /// Whether strings were read by `MGET`.
    pub(super) by_mget: bool,
}

/// The server that answers has gone, or says what it should not.
fn lost(error: io::Error) -> ControlError {
    ControlError::Lost(error)
}

/// What was asked, in the order in which it is answered.
enum Asked {
    Select,
    /// Whether `DUMP` may be asked for.
    Permission,
    /// Whether strings may be asked for together.
    Together,
    /// How many keys have deadlines.
    Keyspace,
    Scan,
    /// The time before deadlines are told, and after it.
    Opens,
    Closes,
    Deadline,
    Value(Vec<u8>),
    /// Those of them that have not been answered.
    Strings(VecDeque<Vec<u8>>),
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
    /// Strings come.
    Strings,
    /// So many bytes of one of them come that are not wanted.
    Passes(u64),
}

/// A value that is taken as it comes.
struct Large {
    /// Bytes that come, with the end of the line.
    left: u64,
    /// Why it cannot be read, if it cannot.
    value: Result<Dumped, String>,
}

/// How long nothing may come. A server that dumps a value of gigabytes is silent for seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Larger values are taken as they come.
const SMALL: usize = 64 << 10;

/// So many names are asked for at first, and at most when the answers are slow to come.
const PAGE: usize = 1000;
const LARGEST_PAGE: usize = 16_000;

/// Names are slow to come if nothing else has for so long: the way to the server is longer than its work on the values of a page.
const SLOW: Duration = Duration::from_millis(2);

/// So many keys may be asked for ahead.
const MOST_AHEAD: usize = 32_000;

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
    /// Whether the names that come were slow to.
    is_slow: bool,
    /// Bytes of a key, as they were of late.
    usual: usize,
    strings: Strings,
    /// Keys of the database that have a deadline, as far as the server tells.
    expires: Option<u64>,
    /// Whether deadlines are asked for.
    asks_deadlines: bool,
    /// What was told of the keys whose values come next.
    deadlines: VecDeque<Option<i64>>,
    /// What the server's clock showed when it was asked last; until then ours, corrected.
    now_ms: i64,
    clock: Clock,
    batch: Batch,
    read: Read,
}

impl Read {
    /// How it was read, in words.
    pub(super) const fn method(&self) -> &'static str {
        match (self.by_type, self.by_mget) {
            (true, _) => "SCAN and reads by type",
            (false, true) => "SCAN, MGET and DUMP",
            (false, false) => "SCAN and DUMP",
        }
    }
}

impl Inventory {
    /// Reads these databases.
    ///
    /// # Errors
    /// If the server is lost, or refuses a question.
    pub(super) async fn read(mut self, dbs: &[Db]) -> Result<Read, FetchError> {
        let mut reader = self.reader().await?;
        if reader.is_refused().await? {
            return self.read_by_type(Names::OfScan(dbs)).await;
        }
        // What a job brings may have a deadline at any time.
        for may_skip in [!reader.task.times.held_back, false] {
            let mut is_exact = true;
            for &db in dbs {
                match reader.database(db, may_skip).await? {
                    Some(exact) => is_exact &= exact,
                    None => return Ok(reader.read),
                }
            }
            if is_exact {
                break;
            }
            let attempt = reader.read.attempt + 1;
            reader.task.reading += 1;
            reader.read = Read { attempt, ..Read::default() };
            Counters::set(&reader.task.counters.keys, 0);
        }
        Ok(reader.read)
    }

    /// Reads these keys.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) async fn read_named(mut self, named: Vec<Named>) -> Result<Read, FetchError> {
        let mut reader = self.reader().await?;
        if reader.is_refused().await? {
            return self.read_by_type(Names::Known(named)).await;
        }
        for (db, names) in named {
            reader.names = names.into();
            if !reader.through(db, None).await? {
                break;
            }
        }
        Ok(reader.read)
    }

    /// Notes a key that was read. Whoever reads sees to it that it is wanted.
    fn note(&self, db: Db, key: &[u8], held: (Content, Option<i64>), batch: &mut Batch) {
        let (reading, (content, deadline)) = (self.reading, held);
        let Some(rules) = &self.rules else {
            let name = key;
            return batch.push(&Noted { reading, db, name, origin: None, content, deadline });
        };
        let Some((db, name)) = rules.target_of(db, key) else { return };
        let origin = (*name != *key).then_some(key);
        batch.push(&Noted { reading, db, name: &name, origin, content, deadline });
    }

    async fn reader(&mut self) -> Result<Reader<'_>, ControlError> {
        let (heard, said) = split(greeted(&self.net, &self.place).await?);
        let clock = self.net.clock();
        Ok(Reader {
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
            is_slow: false,
            usual: 1024,
            strings: Strings::default(),
            expires: None,
            asks_deadlines: true,
            deadlines: VecDeque::new(),
            now_ms: 0,
            clock,
            batch: Batch::default(),
            read: Read::default(),
            task: self,
        })
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
    /// Reads one database, without deadlines if it `may_skip` them and there are none. Gives whether there were none to the end; `None`: what is
    /// read cannot be kept, which is told by who keeps it.
    async fn database(&mut self, db: Db, may_skip: bool) -> Result<Option<bool>, ControlError> {
        self.db = db;
        let expires = if may_skip { self.expires().await? } else { None };
        self.asks_deadlines = expires != Some(0);
        if !self.through(db, Some(0)).await? {
            return Ok(None);
        }
        Ok(Some(self.asks_deadlines || self.expires().await? == Some(0)))
    }

    /// Reads the names of one database that are known, and those that SCAN gives from this cursor on. `false`: what is read cannot be kept.
    async fn through(&mut self, db: Db, from: Option<u64>) -> Result<bool, ControlError> {
        self.db = db;
        (self.cursor, self.page) = (from, PAGE);
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

    /// Whether `DUMP` is refused.
    async fn is_refused(&mut self) -> Result<bool, ControlError> {
        self.ask(&[b"DUMP", OWN], Asked::Permission);
        self.ask_whether_strings_are_told();
        while !self.asked.is_empty() {
            self.exchange().await?;
            self.take()?;
        }
        Ok(self.read.by_type)
    }

    /// How many keys of the database have a deadline, if the server tells.
    async fn expires(&mut self) -> Result<Option<u64>, ControlError> {
        self.ask(&[b"INFO", b"keyspace"], Asked::Keyspace);
        while !self.asked.is_empty() {
            self.exchange().await?;
            self.take()?;
        }
        Ok(self.expires)
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
        if self.names.len() < ahead
            && let Some(cursor) = self.cursor.take()
        {
            let (cursor, count) = (cursor.to_string(), self.page.to_string());
            self.ask(&[b"SCAN", cursor.as_bytes(), b"COUNT", count.as_bytes()], Asked::Scan);
        }
        while self.keys_asked < ahead {
            let are_others = !self.strings.others.is_empty();
            let as_strings = !are_others && self.strings.are_likely(self.usual);
            let together = if as_strings { strings::TOGETHER } else { TOGETHER };
            let next = if are_others { &mut self.strings.others } else { &mut self.names };
            let names: Vec<Vec<u8>> = next.drain(..together.min(next.len())).collect();
            if names.is_empty() {
                break;
            }
            self.keys_asked += names.len();
            if self.asks_deadlines {
                self.ask_deadlines(&names);
            }
            if as_strings {
                self.ask_strings(names);
                continue;
            }
            for name in names {
                command(&mut self.out, &[b"DUMP", &name]);
                self.asked.push_back(Asked::Value(name));
            }
        }
    }

    fn ask_deadlines(&mut self, names: &[Vec<u8>]) {
        let by_time = !self.task.tells_deadlines();
        let question: &[u8] = if by_time { b"PTTL" } else { b"PEXPIRETIME" };
        if by_time {
            self.ask(&[b"TIME"], Asked::Opens);
        }
        for name in names {
            self.ask(&[question, name], Asked::Deadline);
        }
        if by_time {
            self.ask(&[b"TIME"], Asked::Closes);
        }
    }

    /// Sends what is to be sent, until something has been read.
    async fn exchange(&mut self) -> Result<(), ControlError> {
        const AT_ONCE: usize = 128 << 10;
        let is_for_names = matches!(self.asked.front(), Some(Asked::Scan))
            && matches!(self.answer, Answer::Begins)
            && self.inbox.is_empty();
        let begun = self.clock.now();
        self.inbox.reserve(AT_ONCE);
        let silent = sleep(PATIENCE);
        tokio::pin!(silent);
        loop {
            tokio::select! {
                () = &mut silent => return Err(ControlError::Silent(PATIENCE)),
                read = self.heard.read_buf(&mut self.inbox) => {
                    let count = read.map_err(lost)?;
                    if count == 0 {
                        return Err(ControlError::Closed);
                    }
                    Counters::add(&self.task.counters.bytes, count as u64);
                    self.is_slow |= is_for_names && self.clock.now().saturating_sub(begun) > SLOW;
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
}
