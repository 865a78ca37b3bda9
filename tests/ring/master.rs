//! A master in memory: it is written to, keeps the stream of what was done, and serves replicas and questions.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::time::sleep;

use understudy::key::Db;
use understudy::net::Clock;
use understudy::rdb::dump::seal;
use understudy::rdb::event::KeyHead;
use understudy::rdb::writer::Writer;
use understudy::resp::{CommandReader, command};
use understudy::server::{Server, Version};

use crate::dice::Dice;
use crate::link::Delay;
use crate::model::{Args, Model, Reply, args, encode};
use crate::target::Target;

/// What a master is like.
#[derive(Clone, Debug)]
pub(crate) struct MasterPlan {
    pub(crate) server: Server,
    /// How many of the last bytes of its stream it keeps.
    pub(crate) backlog: usize,
    /// The payload ends at a mark, and the stream waits for an acknowledgement.
    pub(crate) by_mark: bool,
    /// How long it prepares its data, and how long each piece of them takes.
    pub(crate) fork: Duration,
    pub(crate) piece: Duration,
    /// `SELECT` stands before `MULTI`, as up to 6.2.
    pub(crate) select_first: bool,
    /// What its count is called in the target.
    pub(crate) count: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Master {
    state: Mutex<State>,
    /// Where the stream ends.
    end: watch::Sender<u64>,
    /// How often its history has got a new name; links of an older one are closed.
    term: watch::Sender<u32>,
    clock: Clock,
    target: Arc<Target>,
}

#[derive(Debug)]
struct State {
    plan: MasterPlan,
    model: Model,
    stream: Vec<u8>,
    /// The offset before the first byte of `stream`.
    origin: u64,
    replid: String,
    /// The name of its history before, and up to where that goes.
    earlier: Option<(String, u64)>,
    selected: Option<u32>,
    log: Vec<Logged>,
    full: Option<Full>,
    faults: Vec<String>,
}

/// What stands in the stream before `end`, and after what was logged before.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) end: u64,
    pub(crate) at: i64,
    pub(crate) commands: Vec<(u32, Args)>,
}

/// What the first replica was given.
#[derive(Clone, Debug)]
pub(crate) struct Full {
    pub(crate) offset: u64,
    pub(crate) model: Model,
}

impl Master {
    pub(crate) fn new(plan: MasterPlan, origin: u64, clock: Clock, target: Arc<Target>) -> Self {
        let state = State {
            plan,
            model: Model::default(),
            stream: Vec::new(),
            origin,
            replid: "1".repeat(40),
            earlier: None,
            selected: None,
            log: Vec::new(),
            full: None,
            faults: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            end: watch::Sender::new(origin),
            term: watch::Sender::new(1),
            clock,
            target,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A client runs these commands, as a transaction if there are several. Those that change something are handed on, as this
    /// version does.
    pub(crate) fn write(&self, db: u32, commands: &[Args]) {
        let now = self.clock.unix_ms();
        let mut state = self.state();
        state.expire(now);
        let mut done = Vec::new();
        for args in commands {
            let before = state.model.changes;
            state.model.run(db, args, now);
            if state.model.changes != before {
                done.push((db, state.as_handed_on(args, now)));
            }
        }
        state.hand_on(done, now, commands.len() > 1);
        self.tell(state);
    }

    /// Removes what is due.
    pub(crate) fn expire(&self) {
        let mut state = self.state();
        state.expire(self.clock.unix_ms());
        self.tell(state);
    }

    /// Says to its replicas what changes nothing.
    pub(crate) fn say(&self, line: &str) {
        let mut state = self.state();
        put(&mut state.stream, &args(line));
        self.tell(state);
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// Gives its history a new name, as one that has taken over does, and loses its replicas.
    pub(crate) fn take_over(&self) {
        let mut state = self.state();
        let term = *self.term.borrow() + 1;
        let name = std::mem::replace(&mut state.replid, format!("{term:040x}"));
        state.earlier = Some((name, state.end()));
        drop(state);
        self.term.send_replace(term);
    }

    /// What was seen that must not be.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.state().faults.clone()
    }

    pub(crate) fn full(&self) -> Option<Full> {
        self.state().full.clone()
    }

    /// What was logged after an offset.
    pub(crate) fn log_after(&self, offset: u64) -> Vec<Logged> {
        self.state().log.iter().filter(|logged| logged.end > offset).cloned().collect()
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        mut pipe: DuplexStream,
        mut delay: Delay,
        mut dice: Dice,
    ) {
        let (mut reader, mut input) = (CommandReader::default(), Vec::new());
        let (mut ends, mut terms) = (self.end.subscribe(), self.term.subscribe());
        terms.borrow_and_update();
        let mut db = 0;
        let mut feed = Feed::None;
        let mut room = [0; 4096];
        loop {
            if let Feed::From(sent) = &mut feed {
                ends.borrow_and_update();
                let piece = {
                    let state = self.state();
                    let at = usize::try_from(*sent - state.origin).unwrap();
                    let rest = &state.stream[at..];
                    rest[..rest.len().min(1 + dice.below(700))].to_vec()
                };
                *sent += piece.len() as u64;
                if !piece.is_empty() && pipe.write_all(&piece).await.is_err() {
                    return;
                }
                if !piece.is_empty() {
                    delay.wait().await;
                }
            }
            let has_more = matches!(feed, Feed::From(sent) if sent < self.state().end());
            let count = tokio::select! {
                biased;
                _ = terms.changed() => return,
                count = pipe.read(&mut room) => count.unwrap_or(0),
                () = std::future::ready(()), if has_more => continue,
                _ = ends.changed(), if matches!(feed, Feed::From(_)) => continue,
            };
            if count == 0 {
                return;
            }
            input.extend_from_slice(&room[..count]);
            delay.wait().await;
            let mut output = Vec::new();
            let mut transfer = None;
            while let Some(used) = reader.read(&input).unwrap() {
                let args: Args = reader.args(&input).map(<[u8]>::to_vec).collect();
                input.drain(..used);
                match self.answer(&args, &mut db, &mut feed) {
                    Answer::Nothing => {}
                    Answer::Reply(reply) => reply.encode(&mut output),
                    Answer::Line(line) => output.extend_from_slice(line.as_bytes()),
                    Answer::Full { line, payload } => {
                        output.extend_from_slice(line.as_bytes());
                        transfer = Some(payload);
                    }
                }
            }
            if pipe.write_all(&output).await.is_err() {
                return;
            }
            if let Some(payload) = transfer
                && self.transfer(&mut pipe, &payload).await.is_err()
            {
                return;
            }
        }
    }

    /// Sends a data set.
    async fn transfer(&self, pipe: &mut DuplexStream, payload: &[u8]) -> std::io::Result<()> {
        let plan = self.state().plan.clone();
        sleep(plan.fork / 2).await;
        pipe.write_all(b"\n").await?;
        sleep(plan.fork / 2).await;
        let header = if plan.by_mark {
            format!("$EOF:{MARK}\r\n")
        } else {
            format!("${}\r\n", payload.len())
        };
        pipe.write_all(header.as_bytes()).await?;
        for piece in payload.chunks(256) {
            pipe.write_all(piece).await?;
            if !plan.piece.is_zero() {
                sleep(plan.piece).await;
            }
        }
        if plan.by_mark {
            pipe.write_all(MARK.as_bytes()).await?;
        }
        Ok(())
    }

    fn answer(&self, args: &Args, db: &mut u32, feed: &mut Feed) -> Answer {
        let now = self.clock.unix_ms();
        let words: Vec<String> =
            args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ok = Answer::Reply(Reply::Status("OK"));
        match words.as_slice() {
            ["REPLCONF", "ACK", offset] => {
                self.acknowledged(offset.parse().unwrap());
                if let Feed::Held(offset) = *feed {
                    *feed = Feed::From(offset);
                }
                Answer::Nothing
            }
            ["PING"] => Answer::Reply(Reply::Status("PONG")),
            ["REPLCONF", "version", _] => {
                Answer::Line("-ERR Unrecognized REPLCONF option: version\r\n".to_owned())
            }
            ["REPLCONF", ..] | ["CLIENT", ..] => ok,
            ["SELECT", number] => {
                *db = number.parse().unwrap();
                ok
            }
            ["PSYNC", replid, next] => self.synchronize(replid, next.parse().unwrap(), feed),
            ["INFO", ..] => {
                let state = self.state();
                let end = state.end();
                let (replid, version) = (&state.replid, state.plan.server.version);
                let dbs = state.model.dbs.iter().filter(|(_, keys)| !keys.is_empty());
                let dbs: String =
                    dbs.map(|(db, keys)| format!("db{db}:keys={}\r\n", keys.len())).collect();
                let mut text = format!(
                    "{dbs}redis_version:{version}\r\nrole:master\r\nmaster_repl_offset:{end}\r\nrepl_backlog_active:1\r\n"
                );
                // Up to 3.2 a history has the name of its process.
                text += &match version < Version(4, 0, 0) {
                    true => format!("run_id:{replid}\r\n"),
                    false => format!("run_id:{}\r\nmaster_replid:{replid}\r\n", "5".repeat(40)),
                };
                Answer::Reply(Reply::Bulk(text.into_bytes()))
            }
            ["TIME"] => Answer::Reply(Reply::Array(vec![
                Reply::Bulk((now / 1000).to_string().into_bytes()),
                Reply::Bulk((now % 1000 * 1000).to_string().into_bytes()),
            ])),
            // Who looks at a key that is due removes it, and that is handed on.
            [
                question @ ("PTTL" | "PEXPIRETIME" | "DUMP" | "TYPE" | "STRLEN" | "LLEN" | "SCARD"
                | "ZCARD" | "HLEN"),
                ..,
            ] => {
                let mut state = self.state();
                state.expire(now);
                let reply = state.look(*db, question, &args[1], now);
                self.tell(state);
                Answer::Reply(reply)
            }
            ["SCAN", cursor, ..] => {
                let state = self.state();
                let part = |key: &Vec<u8>| {
                    usize::from(key.iter().fold(7_u8, |sum, byte| sum.wrapping_mul(31) ^ byte) % 8)
                };
                let cursor: usize = cursor.parse().unwrap();
                let keys = state.model.dbs.get(db).into_iter().flat_map(|keys| keys.keys());
                let keys = keys.filter(|key| part(key) == cursor).cloned().map(Reply::Bulk);
                let next = ((cursor + 1) % 8).to_string().into_bytes();
                Answer::Reply(Reply::Array(vec![Reply::Bulk(next), Reply::Array(keys.collect())]))
            }
            ["MEMORY", "USAGE", _] | ["OBJECT", "ENCODING", _] => {
                let state = self.state();
                let keys = state.model.dbs.get(db);
                let there = keys.is_some_and(|keys| keys.contains_key(&args[2]));
                Answer::Reply(match (there, words[0]) {
                    (false, _) => Reply::Nil,
                    (true, "MEMORY") => Reply::Int(64),
                    (true, _) => Reply::Bulk(b"raw".to_vec()),
                })
            }
            other => panic!("the master was asked {other:?}"),
        }
    }

    /// Nothing may be acknowledged that is not in the target.
    fn acknowledged(&self, offset: u64) {
        let mut state = self.state();
        let counted =
            |commands: &[(u32, Args)]| commands.iter().filter(|(_, args)| is_count(args)).count();
        let Some(full) = &state.full else { return };
        let through =
            state.log.iter().filter(|logged| logged.end > full.offset && logged.end <= offset + 1);
        let expected = through.map(|logged| counted(&logged.commands)).sum::<usize>();
        let before =
            full.model.dbs.get(&COUNT_DB).and_then(|keys| keys.get(COUNT)).map_or(0, count_of);
        let expected =
            if offset < full.offset.saturating_sub(1) { 0 } else { before + expected as u64 };
        let there = self.target.with(|model| {
            model
                .dbs
                .get(&COUNT_DB)
                .and_then(|keys| keys.get(&state.plan.count))
                .map_or(0, count_of)
        });
        if there < expected {
            let fault = format!(
                "acknowledged {offset}: {expected} counts before it, {there} in the target"
            );
            state.faults.push(fault);
        }
    }

    fn synchronize(&self, replid: &str, next: i64, feed: &mut Feed) -> Answer {
        let mut state = self.state();
        let (end, kept) = (state.end(), state.plan.backlog.min(state.stream.len()) as u64);
        if let Ok(next) = u64::try_from(next) {
            let keeps_earlier = state.plan.server.version >= Version(4, 0, 0);
            let known = replid == state.replid
                || keeps_earlier
                    && state
                        .earlier
                        .as_ref()
                        .is_some_and(|(name, upto)| name == replid && next <= upto + 1);
            if known && next > end - kept && next <= end + 1 {
                *feed = Feed::From(next - 1);
                return Answer::Line(match state.plan.server.version {
                    Version(2, ..) => "+CONTINUE\r\n".to_owned(),
                    _ => format!("+CONTINUE {}\r\n", state.replid),
                });
            }
        }
        // Whoever begins with a data set does not know which database is selected.
        state.selected = None;
        let mut writer = Writer::new(state.plan.server).unwrap();
        for (db, keys) in &state.model.dbs {
            for (key, entry) in keys {
                let value = encode(&entry.value, state.plan.server);
                let head = KeyHead {
                    db: Db::new(*db),
                    key,
                    object: value.object,
                    expire_at_ms: entry.until,
                    idle_seconds: None,
                    freq: None,
                };
                writer.value(&head, &value);
            }
        }
        let full = Full { offset: end, model: state.model.clone() };
        state.full.get_or_insert(full);
        *feed = if state.plan.by_mark { Feed::Held(end) } else { Feed::From(end) };
        let line = format!("+FULLRESYNC {} {end}\r\n", state.replid);
        Answer::Full { line, payload: writer.finish() }
    }
}

impl State {
    fn end(&self) -> u64 {
        self.origin + self.stream.len() as u64
    }

    fn expire(&mut self, now: i64) {
        let due = self.model.due(now);
        self.model.expire(now);
        for (db, key) in due {
            self.hand_on(vec![(db, vec![b"DEL".to_vec(), key])], now, false);
        }
    }

    /// What a question about a key is answered.
    fn look(&self, db: u32, question: &str, key: &Vec<u8>, now: i64) -> Reply {
        let entry = self.model.dbs.get(&db).and_then(|keys| keys.get(key));
        let Some(entry) = entry else {
            return match question {
                "PTTL" if self.plan.server.version < Version(2, 8, 0) => Reply::Int(-1),
                "PTTL" | "PEXPIRETIME" => Reply::Int(-2),
                "DUMP" => Reply::Nil,
                "TYPE" => Reply::Status("none"),
                _ => Reply::Int(0),
            };
        };
        match question {
            "PTTL" => Reply::Int(entry.until.map_or(-1, |until| until - now)),
            "PEXPIRETIME" => Reply::Int(entry.until.unwrap_or(-1)),
            "TYPE" => Reply::Status("string"),
            "DUMP" => {
                let value = encode(&entry.value, self.plan.server);
                let version = self.plan.server.restore_version(value.object).unwrap();
                let mut out = vec![value.object.byte()];
                value.put(&mut out);
                seal(&mut out, 0, version);
                Reply::Bulk(out)
            }
            _ => Reply::Int(1),
        }
    }

    /// A command as replicas get it.
    fn as_handed_on(&self, args: &Args, now: i64) -> Args {
        if self.plan.server.version < Version(7, 0, 0) {
            return args.clone(); // deadlines are as relative as they came
        }
        let at = |wait: &[u8]| {
            let wait: i64 = std::str::from_utf8(wait).unwrap().parse().unwrap();
            (now + wait).to_string().into_bytes()
        };
        match args.as_slice() {
            [name, key, wait] if name == b"PEXPIRE" => {
                vec![b"PEXPIREAT".to_vec(), key.clone(), at(wait)]
            }
            [name, key, value, px, wait] if name == b"SET" && px == b"PX" => {
                vec![name.clone(), key.clone(), value.clone(), b"PXAT".to_vec(), at(wait)]
            }
            _ => args.clone(),
        }
    }

    fn hand_on(&mut self, commands: Vec<(u32, Args)>, now: i64, whole: bool) {
        if commands.is_empty() {
            return;
        }
        let multi = |state: &mut Self, is_first: bool| {
            if whole && is_first != state.plan.select_first {
                put(&mut state.stream, &args("MULTI"));
            }
        };
        multi(self, true);
        for (at, (db, args)) in commands.iter().enumerate() {
            if self.selected != Some(*db) {
                self.selected = Some(*db);
                put(&mut self.stream, &[b"SELECT".to_vec(), db.to_string().into_bytes()]);
            }
            if at == 0 {
                multi(self, false);
            }
            put(&mut self.stream, args);
        }
        if whole {
            put(&mut self.stream, &args("EXEC"));
        }
        let end = self.end();
        self.log.push(Logged { end, at: now, commands });
    }
}

/// What a connection is sent beside answers.
#[derive(Clone, Copy, Debug)]
enum Feed {
    None,
    /// The stream after this offset, once it is acknowledged.
    Held(u64),
    From(u64),
}

enum Answer {
    Nothing,
    Reply(Reply),
    Line(String),
    Full { line: String, payload: Vec<u8> },
}

const MARK: &str = "0123456789abcdef0123456789abcdef01234567";

/// A count that is never flushed or renamed: it shows how far the stream was applied.
pub(crate) const COUNT: &[u8] = b"count";
pub(crate) const COUNT_DB: u32 = 15;

fn is_count(args: &Args) -> bool {
    args.len() == 2 && args[1] == COUNT
}

fn count_of(entry: &crate::model::Entry) -> u64 {
    match &entry.value {
        crate::model::Value::Text(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn put(stream: &mut Vec<u8>, args: &[Vec<u8>]) {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    command(stream, &args);
}
