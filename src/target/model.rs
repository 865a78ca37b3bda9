//! A target for tests: a pure function of the bytes that were sent to it.
//!
//! It knows strings, `SELECT` and transactions, and refuses what it was told to refuse.

use std::collections::{BTreeMap, VecDeque};

use crate::change::{Batch, Draft};
use crate::command::judge::Expect;
use crate::key::Db;
use crate::offset::Offset;
use crate::resp::CommandReader;

use super::outbox::Outbox;

/// Strings by database and key.
pub(super) type Strings = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// A server and the one connection to it.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) strings: Strings,
    /// Commands to be refused: how many pass before, how many are refused, and what is said.
    pub(super) refusals: VecDeque<(usize, usize, &'static str)>,
    /// Every command that came, but for those of transactions that were run later.
    pub(super) seen: Vec<String>,
    reader: CommandReader,
    input: Vec<u8>,
    output: Vec<u8>,
    db: u32,
    /// An open transaction: its commands, and whether one was refused.
    queue: Option<(Vec<Vec<Vec<u8>>>, bool)>,
    /// A key is watched, and whether somebody else has changed it since.
    watched: Option<bool>,
    /// What `TIME` tells, in seconds.
    pub(super) time: u64,
    /// The highest database that there is.
    pub(super) highest: Option<u32>,
}

impl Model {
    /// The connection is lost and another one made. Answers that were not read are lost with it.
    pub(super) fn relink(&mut self) {
        self.input.clear();
        self.output.clear();
        self.reader = CommandReader::default();
        self.db = 0;
        (self.queue, self.watched) = (None, None);
    }

    /// Somebody else writes a key of the first database.
    pub(super) fn meddle(&mut self, key: &str, value: &[u8]) {
        self.strings.insert((0, key.as_bytes().to_vec()), value.to_vec());
        self.watched = self.watched.map(|_| true);
    }

    /// Takes at most so many bytes out of the outbox.
    pub(super) fn read(&mut self, outbox: &mut Outbox, most: usize) {
        let mut left = most;
        while left > 0 && !outbox.is_empty() {
            let take = outbox.front().len().min(left);
            self.input.extend_from_slice(&outbox.front()[..take]);
            outbox.written(take);
            left -= take;
        }
        while let Some(used) = self.reader.read(&self.input).unwrap() {
            let args: Vec<Vec<u8>> = self.reader.args(&self.input).map(<[u8]>::to_vec).collect();
            self.input.drain(..used);
            self.seen.push(
                args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" "),
            );
            self.answer(args);
        }
    }

    /// The answers that were not read yet.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn answer(&mut self, args: Vec<Vec<u8>>) {
        let name = args[0].to_ascii_uppercase();
        let refusal = self.refusal(&name);
        match (name.as_slice(), &mut self.queue) {
            (b"EXEC", Some(_)) => {
                let (commands, dirty) = self.queue.take().unwrap();
                let changed = self.watched.take() == Some(true);
                match refusal {
                    _ if changed && !dirty => self.say("*-1"),
                    _ if dirty => {
                        self.say("-EXECABORT Transaction discarded because of previous errors.");
                    }
                    // Up to 6.0 a busy server keeps the transaction open, and it can no longer be run.
                    Some(text) if text.starts_with("-BUSY") => {
                        self.queue = Some((commands, true));
                        self.say(text);
                    }
                    Some(text) => self.say(text),
                    None => {
                        self.say(&format!("*{}", commands.len()));
                        commands.iter().for_each(|args| self.run(args));
                    }
                }
            }
            (b"EXEC", None) => self.say("-ERR EXEC without MULTI"),
            (b"DISCARD", None) => self.say("-ERR DISCARD without MULTI"),
            (b"DISCARD", Some(_)) => {
                (self.queue, self.watched) = (None, None);
                self.say("+OK");
            }
            (b"MULTI", Some((_, dirty))) => {
                *dirty = true;
                self.say("-ERR MULTI calls can not be nested");
            }
            (_, Some((_, dirty))) if refusal.is_some() => {
                *dirty = true;
                self.say(refusal.unwrap());
            }
            (_, None) if refusal.is_some() => self.say(refusal.unwrap()),
            (b"MULTI", None) => {
                self.queue = Some((Vec::new(), false));
                self.say("+OK");
            }
            (_, Some((commands, _))) => {
                commands.push(args);
                self.say("+QUEUED");
            }
            (_, None) => self.run(&args),
        }
    }

    fn run(&mut self, args: &[Vec<u8>]) {
        let key = (self.db, args.get(1).cloned().unwrap_or_default());
        match args[0].to_ascii_uppercase().as_slice() {
            b"SELECT" => {
                let db = Db::parse(&args[1]).unwrap().index();
                if self.highest.is_some_and(|highest| db > highest) {
                    return self.say("-ERR DB index is out of range");
                }
                self.db = db;
                self.say("+OK");
            }
            b"WATCH" => {
                self.watched.get_or_insert(false);
                self.say("+OK");
            }
            b"GET" => match self.strings.get(&key) {
                Some(value) => {
                    let (len, value) = (value.len(), value.clone());
                    self.say(&format!("${len}"));
                    self.output.extend_from_slice(&value);
                    self.say("");
                }
                None => self.say("$-1"),
            },
            b"TIME" => {
                let text = self.time.to_string();
                self.say(&format!("*2\r\n${}\r\n{text}\r\n$1\r\n7", text.len()));
            }
            b"SET" => {
                self.strings.insert(key, args[2].clone());
                self.say("+OK");
            }
            b"DEL" => {
                let found = self.strings.remove(&key).is_some();
                self.say(if found { ":1" } else { ":0" });
            }
            b"APPEND" => {
                let value = self.strings.entry(key).or_default();
                value.extend_from_slice(&args[2]);
                let len = value.len();
                self.say(&format!(":{len}"));
            }
            b"LRANGE" => self.output.extend_from_slice(b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n"),
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }

    fn refusal(&mut self, name: &[u8]) -> Option<&'static str> {
        let (before, count, text) = self.refusals.front_mut()?;
        if *before > 0 {
            *before -= 1;
            return None;
        }
        // No server refuses these for want of memory, nor a replica.
        let writes_nothing =
            matches!(name, b"MULTI" | b"SELECT" | b"DISCARD" | b"WATCH" | b"GET" | b"TIME");
        if writes_nothing && (text.starts_with("-OOM") || text.starts_with("-READONLY")) {
            return None;
        }
        if text.starts_with("-EXECABORT") && name != b"EXEC" {
            return None;
        }
        let text = *text;
        *count -= 1;
        if *count == 0 {
            self.refusals.pop_front();
        }
        Some(text)
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }
}

/// A batch of these commands, `DB:COMMAND` or `COMMAND` in the database before it, that reaches this offset.
pub(super) fn batch(lines: &[&str], covers: u64) -> Batch {
    let mut draft = Draft::default();
    for line in lines {
        let line = match line.split_once(':') {
            Some((db, line)) => {
                draft.select(Db::new(db.parse().unwrap()));
                line
            }
            None => line,
        };
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let expect = match args[0] {
            b"SET" => Expect::Status,
            b"DEL" => Expect::Any,
            b"LRANGE" => Expect::Something,
            _ => Expect::Positive,
        };
        draft.push(&args, expect);
        draft.carries.commands += 1;
    }
    draft.covers = Some(Offset::new(covers));
    draft.finish()
}
