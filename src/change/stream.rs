//! Commands of a stream as commands for a target.

use crate::command::judge::Expect;
use crate::command::{Class, lookup};
use crate::key::{Db, Escaped};
use crate::repl::Command;
use crate::resp;

use super::Draft;

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
#[derive(Debug, Default)]
pub struct Stream {
    db: Db,
    in_transaction: bool,
}

impl Stream {
    /// A stream whose first command runs in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, in_transaction: false }
    }

    /// Whether what was written so far may be sent by itself: not in the middle of a source's transaction.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.in_transaction
    }

    /// Writes what the command does into `draft`, and the offset that it reaches. Says whether it was one that changes data.
    ///
    /// # Errors
    /// If nobody can say what it does.
    pub fn take(&mut self, command: &Command<'_>, draft: &mut Draft) -> Result<bool, StreamError> {
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
            Some(name) => self.apply(name, args, command, draft)?,
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
            Class::Data
            | Class::Script
            | Class::Eval
            | Class::Function
            | Class::Flush
            | Class::SwapDb => {
                let expect = known.expect(args).unwrap_or(Expect::Any);
                draft.select(self.db);
                if command.is_inline() {
                    draft.push_with(expect, |out| resp::command(out, args));
                } else {
                    draft.push_raw(command.raw, expect);
                }
                draft.carries.commands += 1;
                Ok(true)
            }
        }
    }
}

/// Nearly no command has more arguments than this.
const FEW: usize = 16;
