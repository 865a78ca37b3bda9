//! Commands of a stream as commands for a target.

use crate::command::deadline::{Of, Time};
use crate::command::judge::Expect;
use crate::command::older::{Unsupported, Wording};
use crate::command::{self, Class, lookup};
use crate::key::{Db, Escaped};
use crate::repl::Command;
use crate::resp;
use crate::server::Server;

use super::scripts::Scripts;
use super::{Deadlines, Draft, SHIFT};

/// Why a command of the stream cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Nobody knows which keys it touches.
    #[error("the command {} is not known to this version", Escaped(name))]
    Unknown {
        /// Its name.
        name: Vec<u8>,
    },
    /// A `SELECT` or `SWAPDB` of something that is no database.
    #[error("{} names no database", Escaped(name))]
    Db {
        /// Its name.
        name: Vec<u8>,
    },
    /// The target has nothing that does what it does.
    #[error("{source}{}", of_key(key.as_deref()))]
    Unsupported {
        /// What.
        source: Unsupported,
        /// The first key that it names.
        key: Option<Vec<u8>>,
    },
}

fn of_key(key: Option<&[u8]>) -> String {
    key.map_or_else(String::new, |key| format!(" (key {})", Escaped(key)))
}

/// Follows a stream: knows the selected database and whether a transaction is open.
#[derive(Debug)]
pub struct Stream {
    db: Db,
    in_transaction: bool,
    target: Server,
    scripts: Scripts,
}

impl Stream {
    /// A stream for this target. Scripts are remembered while they fit into so many bytes.
    #[must_use]
    pub fn new(target: Server, memory: usize) -> Self {
        let scripts = Scripts::new(memory);
        Self { db: Db::default(), in_transaction: false, target, scripts }
    }

    /// A script that the source knows, told before the stream begins.
    pub fn learn(&mut self, script: &[u8]) {
        self.scripts.learn(script);
    }

    /// The database in which the first command runs, where the payload tells it.
    pub fn begin_in(&mut self, db: Db) {
        self.db = db;
    }

    /// Whether what was written so far may be sent by itself: not in the middle of a source's transaction.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.in_transaction
    }

    /// Writes what the command does into `draft`, and the offset that it reaches. Says whether it was one that changes
    /// data. `now_ms` is the time at which the source ran it, as near as it is known.
    ///
    /// # Errors
    /// If nobody can say what it does.
    pub fn take(
        &mut self,
        command: &Command<'_>,
        now_ms: i64,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<bool, StreamError> {
        let mut few = [&b""[..]; FEW];
        let many: Vec<&[u8]>;
        let count = command.args().len();
        let args: &[&[u8]] = if count <= FEW {
            few.iter_mut().zip(command.args()).for_each(|(place, arg)| *place = arg);
            few.get(..count).unwrap_or_default()
        } else {
            many = command.args().collect();
            &many
        };
        let data = match args.first() {
            None => false,
            Some(name) => self.apply(name, args, command, now_ms, deadlines, draft)?,
        };
        if self.is_whole() {
            draft.covers = Some(command.end);
        }
        Ok(data)
    }

    fn apply(
        &mut self,
        name: &[u8],
        args: &[&[u8]],
        command: &Command<'_>,
        now_ms: i64,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<bool, StreamError> {
        let Some(known) = lookup(name) else {
            return Err(StreamError::Unknown { name: name.to_vec() });
        };
        match known.class(args) {
            Class::Select => {
                let db = args.get(1).and_then(|db| Db::parse(db));
                self.db = db.ok_or_else(|| StreamError::Db { name: name.to_vec() })?;
                Ok(false)
            }
            Class::Multi => {
                self.in_transaction = true;
                Ok(false)
            }
            Class::Exec => {
                self.in_transaction = false;
                Ok(false)
            }
            // What is said to listeners, keeps the link alive or concerns the server only is no data.
            Class::Ping | Class::Publish | Class::Control | Class::Read => Ok(false),
            Class::Unknown => Err(StreamError::Unknown { name: name.to_vec() }),
            class @ (Class::Data
            | Class::Script
            | Class::Eval
            | Class::Function
            | Class::Flush
            | Class::SwapDb) => {
                draft.select(self.db);
                draft.carries.commands += 1;
                let raw = (!command.is_inline()).then_some(command.raw);
                self.write(known, class, args, raw, now_ms, deadlines, draft)?;
                Ok(true)
            }
        }
    }

    /// Writes a command that changes data. `raw` is the same as RESP, if it is at hand.
    #[expect(clippy::too_many_arguments, reason = "all of it is what one command is about")]
    fn write(
        &mut self,
        known: &command::Command,
        class: Class,
        args: &[&[u8]],
        raw: Option<&[u8]>,
        now_ms: i64,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<(), StreamError> {
        if let Some(wording) = self.worded(known, args)? {
            put(&wording, draft);
            if wording.unsure {
                self.each_written(known, args, |db, key| {
                    deadlines.inherits(db, key);
                    deadlines.unsure(db, key);
                });
            }
        } else if class == Class::Eval {
            self.eval(known, args, raw, now_ms, deadlines, draft);
        } else if !self.dated(known, args, now_ms, deadlines, draft) {
            push(args, raw, known.expect(args).unwrap_or(Expect::Any), draft);
        }
        if class == Class::Script
            && let [_, sub, text, ..] = args
            && sub.eq_ignore_ascii_case(b"LOAD")
        {
            self.scripts.learn(text);
        }
        self.note_heirs(known, class, args, deadlines);
        Ok(())
    }

    /// The command in words that the target knows, if it does not know these.
    fn worded<'a>(
        &self,
        known: &command::Command,
        args: &'a [&'a [u8]],
    ) -> Result<Option<Wording<'a>>, StreamError> {
        known.worded_for(self.target, args, self.db).map_err(|source| {
            let mut key = None;
            // Keys that cannot be told are no reason not to tell the rest.
            let _ = known.for_each_key(args, |used| {
                key = key.take().or_else(|| args.get(used.position).map(|key| key.to_vec()));
            });
            StreamError::Unsupported { source, key }
        })
    }

    /// Writes a script that runs here too (up to 4.0), and behind it, in the same transaction, one that holds back the
    /// deadlines which it may have given its keys: those count on the target's clock from now on.
    fn eval(
        &mut self,
        known: &command::Command,
        args: &[&[u8]],
        raw: Option<&[u8]>,
        now_ms: i64,
        deadlines: &Deadlines,
        draft: &mut Draft,
    ) {
        let expect = known.expect(args).unwrap_or(Expect::Any);
        match (known.name(), args) {
            ("eval", [_, text, ..]) => {
                self.scripts.learn(text);
                push(args, raw, expect, draft);
            }
            ("evalsha", [_, sha, rest @ ..]) if let Some(text) = self.scripts.text(sha) => {
                let whole: Vec<&[u8]> =
                    [b"EVAL", text].into_iter().chain(rest.iter().copied()).collect();
                draft.push(&whole, expect);
            }
            _ => push(args, raw, expect, draft),
        }
        let mut keys: Vec<&[u8]> = Vec::new();
        self.each_written(known, args, |_, key| keys.push(key));
        let near = deadlines.horizon().saturating_sub(now_ms).saturating_sub(SLACK_MS);
        if keys.is_empty() || near <= 0 {
            return;
        }
        let (count, near, shift) = (keys.len().to_string(), near.to_string(), SHIFT.to_string());
        let mut hold: Vec<&[u8]> = vec![b"EVAL", HOLD_BACK.as_bytes(), count.as_bytes()];
        hold.extend(keys);
        hold.extend([near.as_bytes(), shift.as_bytes()]);
        draft.push(&hold, Expect::Integer);
    }

    /// Shows each key that a command writes, with its database.
    fn each_written<'a>(
        &self,
        known: &command::Command,
        args: &[&'a [u8]],
        mut note: impl FnMut(Db, &'a [u8]),
    ) {
        // Keys that cannot be told were a reason to stop before.
        let _ = known.for_each_key(args, |used| {
            if let Some(key) = args.get(used.position).filter(|_| used.access.writes()) {
                note(used.db.unwrap_or(self.db), key);
            }
        });
    }

    /// Writes a command that sets a deadline, with the deadline held back. Says whether it was one.
    fn dated(
        &self,
        known: &command::Command,
        args: &[&[u8]],
        now_ms: i64,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> bool {
        let Ok(Some(deadline)) = known.deadline(args) else { return false };
        let at = deadline.time.at(now_ms);
        let relative = matches!(deadline.time, Time::In(_));
        let mut held = at;
        let keys = known.for_each_key(args, |used| {
            let Some(key) = args.get(used.position).filter(|_| used.access.writes()) else {
                return;
            };
            let db = used.db.unwrap_or(self.db);
            held = match deadline.of {
                Of::Key => deadlines.hold(db, key, at),
                Of::Fields(_) => deadlines.hold_field(db, key, at),
            };
            if relative {
                deadlines.unsure(db, key);
            }
        });
        let mut out = Vec::new();
        match (keys, deadline.encode(&mut out, args, held, &self.target)) {
            (Ok(_), Ok(encoded)) => {
                draft.push_many(&out, encoded.expects());
                true
            }
            _ => false,
        }
    }

    /// Notes the keys that a command may give another key's deadline to, and those whose deadlines it may change
    /// without a word.
    fn note_heirs(
        &self,
        known: &command::Command,
        class: Class,
        args: &[&[u8]],
        deadlines: &mut Deadlines,
    ) {
        match (class, known.name()) {
            (_, "rename" | "renamenx" | "copy" | "move") => {
                self.each_written(known, args, |db, key| deadlines.inherits(db, key));
            }
            // A script runs here too, later than there: what it says of deadlines is late by as much.
            (Class::Eval, _) => self.each_written(known, args, |db, key| {
                deadlines.unsure(db, key);
                deadlines.inherits(db, key);
            }),
            (Class::SwapDb, _) => {
                if let Ok([Some(one), Some(other)]) = known.databases(args) {
                    deadlines.swap(one.db, other.db);
                }
            }
            _ => {}
        }
    }
}

/// Writes a command as it came.
fn push(args: &[&[u8]], raw: Option<&[u8]>, expect: Expect, draft: &mut Draft) {
    match raw {
        Some(raw) => draft.push_raw(raw, expect),
        None => draft.push_with(expect, |out| resp::command(out, args)),
    }
}

/// Writes a command in other words.
fn put(wording: &Wording<'_>, draft: &mut Draft) {
    for worded in &wording.commands {
        let args: Vec<&[u8]> = worded.args.iter().map(AsRef::as_ref).collect();
        draft.push(&args, worded.expect);
    }
}

/// Adds ARGV[2] to what is left of each key's time, if that is less than ARGV[1].
const HOLD_BACK: &str = "\
if redis.replicate_commands then redis.replicate_commands() end \
local near,shift=tonumber(ARGV[1]),tonumber(ARGV[2]) \
for _,k in ipairs(KEYS) do local p=redis.call('PTTL',k) \
if p>0 and p<near then redis.call('PEXPIRE',k,string.format('%.0f',p+shift)) end \
end return 0";

/// What lies so near the horizon is not held back by a script: what it holds back must be below the horizon on the source's clock too.
const SLACK_MS: i64 = 60_000;

/// Nearly no command has more arguments than this.
const FEW: usize = 16;
