//! Writing a command anew: with other keys, with other databases. (As it is: [`resp::command`].)
//!
//! [`resp::command`]: crate::resp::command

use crate::command::args::{Args, Malformed};
use crate::command::keys::CopyOptions;
use crate::command::table::Command;
use crate::key::Db;
use crate::resp;

/// Writes a command with other arguments at some positions. `replacements` are in the order of their
/// positions, each position once; one past the end is passed over.
pub fn encode_with(out: &mut Vec<u8>, args: &[&[u8]], replacements: &[(usize, &[u8])]) {
    debug_assert!(replacements.is_sorted_by(|(one, _), (next, _)| one < next));
    resp::array(out, args.len());
    let mut replacements = replacements.iter().peekable();
    for (at, arg) in args.iter().enumerate() {
        match replacements.next_if(|(position, _)| *position == at) {
            Some((_, other)) => resp::bulk(out, other),
            None => resp::bulk(out, arg),
        }
    }
}

/// A database that a command names in its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbUse {
    /// Which argument it is.
    pub position: usize,
    /// The database.
    pub db: Db,
}

impl Command {
    /// The databases that this command names: one in `SELECT`, `MOVE` and `COPY ... DB`, two in `SWAPDB`, none in
    /// any other. (`MIGRATE` names one of another server.)
    ///
    /// # Errors
    /// If there is no number of a database where one must be.
    pub fn databases(&self, args: &[&[u8]]) -> Result<[Option<DbUse>; 2], Malformed> {
        let args = Args(args);
        let db = |position| args.db(position).map(|db| Some(DbUse { position, db }));
        Ok(match self.name() {
            "select" => [db(1)?, None],
            "move" => [db(2)?, None],
            "swapdb" => [db(1)?, db(2)?],
            "copy" => {
                [CopyOptions::read(args)?.db.map(|(position, db)| DbUse { position, db }), None]
            }
            _ => [None, None],
        })
    }

    /// Writes the command with each database that it names put through `map`.
    ///
    /// If `map` has no place for one of them, writes nothing and returns that database: then the caller must
    /// decide what the command means (a `MOVE` out of the databases chosen is a removal).
    ///
    /// # Errors
    /// If there is no number of a database where one must be; nothing is written then.
    pub fn encode_renumbered(
        &self,
        out: &mut Vec<u8>,
        args: &[&[u8]],
        map: impl Fn(Db) -> Option<Db>,
    ) -> Result<Renumbered, Malformed> {
        let mut named = self.databases(args)?;
        for place in named.iter_mut().flatten() {
            match map(place.db) {
                Some(mapped) => place.db = mapped,
                None => return Ok(Renumbered::NoPlaceFor(place.db)),
            }
        }
        resp::array(out, args.len());
        for (at, arg) in args.iter().enumerate() {
            match named.iter().flatten().find(|place| place.position == at) {
                Some(place) => number(out, place.db.index().into()),
                None => resp::bulk(out, arg),
            }
        }
        Ok(Renumbered::Written)
    }
}

/// What became of a command whose databases were to be renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Renumbered {
    /// It was written.
    Written,
    /// Nothing was written: this database has no place.
    NoPlaceFor(Db),
}

/// Writes a number as an argument.
pub(crate) fn number(out: &mut Vec<u8>, value: i64) {
    resp::bulk(out, itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests;
