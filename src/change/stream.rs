//! Commands of a stream as commands for a target.

use crate::command::deadline::{Of, Time};
use crate::command::judge::Expect;
use crate::command::{self, Class, lookup};
use crate::key::{Db, Escaped};
use crate::repl::Command;
use crate::resp;
use crate::server::Server;

use super::{Deadlines, Draft};

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
}

/// Follows a stream: knows the selected database and whether a transaction is open.
#[derive(Debug)]
pub struct Stream {
    db: Db,
    in_transaction: bool,
    target: Server,
}

impl Stream {
    /// A stream for this target.
    #[must_use]
    pub fn new(target: Server) -> Self {
        Self { db: Db::default(), in_transaction: false, target }
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
                if !self.dated(known, args, now_ms, deadlines, draft) {
                    let expect = known.expect(args).unwrap_or(Expect::Any);
                    if command.is_inline() {
                        draft.push_with(expect, |out| resp::command(out, args));
                    } else {
                        draft.push_raw(command.raw, expect);
                    }
                }
                self.note_heirs(known, class, args, deadlines);
                Ok(true)
            }
        }
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
        let each_written = |note: &mut dyn FnMut(Db, &[u8])| {
            // Keys that cannot be told were a reason to stop before.
            let _ = known.for_each_key(args, |used| {
                if let Some(key) = args.get(used.position).filter(|_| used.access.writes()) {
                    note(used.db.unwrap_or(self.db), key);
                }
            });
        };
        match (class, known.name()) {
            (_, "rename" | "renamenx" | "copy" | "move") => {
                each_written(&mut |db, key| deadlines.inherits(db, key));
            }
            // A script runs here too, later than there: what it says of deadlines is late by as much.
            (Class::Eval, _) => each_written(&mut |db, key| {
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

/// Nearly no command has more arguments than this.
const FEW: usize = 16;
