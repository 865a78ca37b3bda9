//! What was read of each key, noted on a disk in the buckets of the [ledger](crate::ledger), to be [compared](super::Comparison).
//!
//! ```text
//! record: number of the reading | database | flags and type, 1 byte | digest, 16 bytes
//!         | deadline, field deadlines, past: 8 bytes each, if there are any | name | the source's name, if it is another one
//! ```
//! The numbers and the lengths of names are lengths as RDB files have them.

use crate::key::{Db, fingerprint};
use crate::ledger::bucket::{Buckets, Disk};
use crate::ledger::capped::Capped;
use crate::ledger::{LedgerError, Scratch};
use crate::rdb::length::{length, put_length};
use crate::rdb::opcode::ValueType;

use super::compare::{Comparison, Places};
use super::digest::Content;

/// A key as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted<'a> {
    /// Which reading it comes from: they are counted from 0, without gaps. One that broke off has another number than the next one of the same
    /// source, so that what it brought can be told apart.
    pub reading: u32,
    /// The target's database.
    pub db: Db,
    /// The name there.
    pub name: &'a [u8],
    /// The name on the source, if it is another one.
    pub origin: Option<&'a [u8]>,
    /// Its value.
    pub content: Content,
    /// When it dies, as the target shall have it in the end.
    pub deadline: Option<i64>,
}

const DEADLINE: u8 = 1 << 3;
const FIELDS: u8 = 1 << 4;
const PAST: u8 = 1 << 5;
const RENAMED: u8 = 1 << 6;

/// The types, as the lowest bits of the flags say them.
const TYPES: [ValueType; 7] = [
    ValueType::String,
    ValueType::List,
    ValueType::Set,
    ValueType::Zset,
    ValueType::Hash,
    ValueType::Stream,
    ValueType::Module,
];

impl<'a> Noted<'a> {
    /// Appends it.
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { reading, db, name, origin, content, deadline } = *self;
        let kind = TYPES.iter().position(|kind| *kind == content.kind).unwrap_or(0);
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        put_length(out, reading.into());
        put_length(out, db.index().into());
        out.push(
            u8::try_from(kind).unwrap_or_default()
                | flag(deadline.is_some(), DEADLINE)
                | flag(content.fields != 0, FIELDS)
                | flag(content.history.is_some(), PAST)
                | flag(origin.is_some(), RENAMED),
        );
        out.extend_from_slice(&content.digest.to_le_bytes());
        out.extend(deadline.iter().flat_map(|at| at.to_le_bytes()));
        if content.fields != 0 {
            out.extend_from_slice(&content.fields.to_le_bytes());
        }
        out.extend(content.history.iter().flat_map(|past| past.to_le_bytes()));
        for name in [Some(name), origin].into_iter().flatten() {
            put_length(out, name.len() as u64);
            out.extend_from_slice(name);
        }
    }

    /// The first one of these, and how many bytes it takes there.
    pub(super) fn first(records: &'a [u8]) -> Option<(Self, usize)> {
        let (rest, reading) = length(records).ok()?;
        let (rest, db) = length(rest).ok()?;
        let (&flags, rest) = rest.split_first()?;
        let kind = *TYPES.get(usize::from(flags & (DEADLINE - 1)))?;
        let (digest, mut rest) = rest.split_first_chunk()?;
        let mut eight = |flag: u8| -> Option<Option<[u8; 8]>> {
            if flags & flag == 0 {
                return Some(None);
            }
            let (bytes, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(Some(*bytes))
        };
        let deadline = eight(DEADLINE)?.map(i64::from_le_bytes);
        let fields = eight(FIELDS)?.map_or(0, u64::from_le_bytes);
        let history = eight(PAST)?.map(u64::from_le_bytes);
        let (name, mut rest) = text(rest)?;
        let mut origin = None;
        if flags & RENAMED != 0 {
            let (text, behind) = text(rest)?;
            (origin, rest) = (Some(text), behind);
        }
        let noted = Self {
            reading: u32::try_from(reading).ok()?,
            db: Db::new(u32::try_from(db).ok()?),
            name,
            origin,
            content: Content { kind, digest: u128::from_le_bytes(*digest), fields, history },
            deadline,
        };
        Some((noted, records.len() - rest.len()))
    }
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, len) = length(bytes).ok()?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// Some keys, as they are handed on: by the thousand.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
}

impl Batch {
    /// Batches that are larger are handed on.
    const FULL: usize = 64 << 10;

    /// Adds a key.
    pub fn push(&mut self, noted: &Noted<'_>) {
        if self.records.is_empty() {
            self.records.reserve(Self::FULL + (1 << 10));
        }
        noted.encode(&mut self.records);
    }

    /// Whether it is time to hand it on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records.len() >= Self::FULL
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Their records.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.records
    }
}

/// The keys that are noted.
#[derive(Debug)]
pub struct Notes<S> {
    disk: Disk<Capped<S>>,
    buckets: Buckets,
}

impl<S: Scratch> Notes<S> {
    /// None yet. They take so much memory at the most (and what the allocator wastes, a fifth), and what is more of the scratch, of which
    /// `limit` bytes may be used.
    #[must_use]
    pub fn new(scratch: S, memory: usize, limit: u64) -> Self {
        Self { disk: Disk::new(Capped::new(scratch, limit)), buckets: Buckets::new(memory) }
    }

    /// Notes keys.
    ///
    /// # Errors
    /// If the disk cannot be written, or would get too full. Then nobody knows how many of them were noted.
    pub fn note(&mut self, batch: &Batch) -> Result<(), LedgerError> {
        let mut rest = batch.records.as_slice();
        while let Some((noted, len)) = Noted::first(rest) {
            let (bytes, behind) = rest.split_at(len);
            self.buckets.push(&mut self.disk, fingerprint(noted.db, noted.name), &[bytes])?;
            rest = behind;
        }
        Ok(())
    }

    /// All keys were noted: they can be compared, in so much memory.
    ///
    /// # Errors
    /// If the disk cannot be written.
    pub fn compare(mut self, places: Places, memory: usize) -> Result<Comparison<S>, LedgerError> {
        let last = self.buckets.write(&mut self.disk)?;
        Ok(Comparison::new(self.disk, last, places, memory))
    }

    /// How many bytes of the disk are used.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.disk.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn content() -> impl Strategy<Value = Content> {
        let kind = prop::sample::select(&TYPES[..]);
        (kind, 0_u128..3, 0_u64..2, prop::option::of(0_u64..2))
            .prop_map(|(kind, digest, fields, history)| Content { kind, digest, fields, history })
    }

    proptest! {
        #[test]
        fn what_is_noted_is_read_again(
            reading: u32,
            db: u32,
            name in prop::collection::vec(any::<u8>(), 0..80),
            origin in prop::option::of(prop::collection::vec(any::<u8>(), 0..80)),
            content in content(),
            deadline: Option<i64>,
            behind in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let db = Db::new(db);
            let (name, origin) = (name.as_slice(), origin.as_deref());
            let noted = Noted { reading, db, name, origin, content, deadline };
            let mut records = Vec::new();
            noted.encode(&mut records);
            let len = records.len();
            records.extend(behind);
            prop_assert_eq!(Noted::first(&records), Some((noted, len)));
            for cut in 0..len {
                prop_assert_eq!(Noted::first(&records[..cut]), None);
            }
        }
    }
}
