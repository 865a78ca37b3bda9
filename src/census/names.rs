//! Names, noted on a disk in the buckets of the [ledger](crate::ledger), to be [compared](super::Collisions).
//!
//! ```text
//! record: number of the reading | database | length | name
//! ```
//! The numbers are lengths as RDB files have them: three or four bytes in all, as a rule. The fingerprint is made anew from the name.

use crate::key::{Db, fingerprint};
use crate::ledger::bucket::{Buckets, Disk};
use crate::ledger::capped::Capped;
use crate::ledger::{LedgerError, Scratch};
use crate::rdb::length::{length, put_length};

use super::collisions::Collisions;

/// One reading of a source, or of the target. One that broke off has another number than the next one of the same source, so that what it
/// brought can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading(u32);

impl Reading {
    /// The reading with this number. They are counted from 0, without gaps.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}

/// Some names, as they are handed on: by the thousand.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
}

impl Batch {
    /// Batches that are larger are handed on.
    const FULL: usize = 64 << 10;

    /// Adds a name, as the target will have it.
    pub fn push(&mut self, reading: Reading, db: Db, name: &[u8]) {
        if self.records.is_empty() {
            self.records.reserve(Self::FULL + (1 << 10));
        }
        put_length(&mut self.records, reading.0.into());
        put_length(&mut self.records, db.index().into());
        put_length(&mut self.records, name.len() as u64);
        self.records.extend_from_slice(name);
    }

    /// Whether it is time to hand it on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records.len() >= Self::FULL
    }
}

/// A name that was noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) reading: u32,
    pub(super) db: Db,
    pub(super) name: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first one of these, and how many bytes it takes there.
    pub(super) fn first(records: &'a [u8]) -> Option<(Self, usize)> {
        let (rest, reading) = length(records).ok()?;
        let (rest, db) = length(rest).ok()?;
        let (rest, len) = length(rest).ok()?;
        let name = rest.get(..usize::try_from(len).ok()?)?;
        let (reading, db) = (u32::try_from(reading).ok()?, u32::try_from(db).ok()?);
        let taken = records.len() - rest.len() + name.len();
        Some((Self { reading, db: Db::new(db), name }, taken))
    }
}

/// The names that are noted.
#[derive(Debug)]
pub struct Names<S> {
    disk: Disk<Capped<S>>,
    buckets: Buckets,
}

impl<S: Scratch> Names<S> {
    /// None yet. They take so much memory at the most (and what the allocator wastes, a fifth), and what is more of the scratch, of which
    /// `limit` bytes may be used.
    #[must_use]
    pub fn new(scratch: S, memory: usize, limit: u64) -> Self {
        Self { disk: Disk::new(Capped::new(scratch, limit)), buckets: Buckets::new(memory) }
    }

    /// Notes names.
    ///
    /// # Errors
    /// If the disk cannot be written, or would get too full. Then nobody knows how many of them were noted.
    pub fn note(&mut self, batch: &Batch) -> Result<(), LedgerError> {
        let mut rest = batch.records.as_slice();
        while let Some((record, len)) = Record::first(rest) {
            let (bytes, behind) = rest.split_at(len);
            self.buckets.push(&mut self.disk, fingerprint(record.db, record.name), &[bytes])?;
            rest = behind;
        }
        Ok(())
    }

    /// All names were noted: they can be compared. `places` has for each reading, by its number, what it was a reading of: the source's place
    /// in the plan, or the number of `sources` for the target; `None` for one that does not count. It takes so much memory, or what a mark
    /// for each place needs.
    ///
    /// # Errors
    /// If the disk cannot be written.
    pub fn compare(
        mut self,
        places: Vec<Option<u32>>,
        sources: u32,
        memory: usize,
    ) -> Result<Collisions<S>, LedgerError> {
        let last = self.buckets.write(&mut self.disk)?;
        Ok(Collisions::new(self.disk, last, places, sources, memory))
    }

    /// How many bytes of the disk are used.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.disk.len()
    }
}
