//! Writing a command anew: as it is, with other keys, with other databases.

use bytes::BufMut;

use crate::command::args::{Args, Malformed};
use crate::command::keys::CopyOptions;
use crate::command::table::Command;
use crate::key::Db;

/// Writes a command as RESP, the form in which every server takes it.
///
/// ```
/// let mut out = Vec::new();
/// understudy::command::rewrite::encode(&[b"GET", b"k"], &mut out);
/// assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
/// ```
pub fn encode(args: &[&[u8]], out: &mut impl BufMut) {
    header(args.len(), out);
    for arg in args {
        bulk(arg, out);
    }
}

/// Writes a command with other arguments at some positions. `replacements` are in the order of their
/// positions, each position once; one past the end is passed over.
pub fn encode_with(args: &[&[u8]], replacements: &[(usize, &[u8])], out: &mut impl BufMut) {
    debug_assert!(replacements.is_sorted_by(|(one, _), (next, _)| one < next));
    header(args.len(), out);
    let mut replacements = replacements.iter().peekable();
    for (at, arg) in args.iter().enumerate() {
        match replacements.next_if(|(position, _)| *position == at) {
            Some((_, other)) => bulk(other, out),
            None => bulk(arg, out),
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
        args: &[&[u8]],
        map: impl Fn(Db) -> Option<Db>,
        out: &mut impl BufMut,
    ) -> Result<Renumbered, Malformed> {
        let mut named = self.databases(args)?;
        for place in named.iter_mut().flatten() {
            match map(place.db) {
                Some(mapped) => place.db = mapped,
                None => return Ok(Renumbered::NoPlaceFor(place.db)),
            }
        }
        header(args.len(), out);
        for (at, arg) in args.iter().enumerate() {
            match named.iter().flatten().find(|place| place.position == at) {
                Some(place) => number(place.db.index().into(), out),
                None => bulk(arg, out),
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

pub(crate) fn header(args: usize, out: &mut impl BufMut) {
    out.put_u8(b'*');
    out.put_slice(itoa::Buffer::new().format(args).as_bytes());
    out.put_slice(b"\r\n");
}

pub(crate) fn bulk(arg: &[u8], out: &mut impl BufMut) {
    out.put_u8(b'$');
    out.put_slice(itoa::Buffer::new().format(arg.len()).as_bytes());
    out.put_slice(b"\r\n");
    out.put_slice(arg);
    out.put_slice(b"\r\n");
}

pub(crate) fn number(value: i64, out: &mut impl BufMut) {
    bulk(itoa::Buffer::new().format(value).as_bytes(), out);
}

#[cfg(test)]
mod tests;
