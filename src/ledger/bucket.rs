//! Records in buckets, by the first byte of their fingerprints.
//!
//! A bucket is a chain of blocks, from the last one that was written to the first:
//!
//! ```text
//! block: records | place and length of the block before, 8 bytes each | CRC-64, inverted, of all that
//! note:  fingerprint, 16 bytes
//! name:  database, 4 bytes | length, 8 bytes | name
//! ```
//!
//! The sum is inverted so that a block of zeros, which is what a file system gives for what it has lost, is not whole.

use crate::key::Db;
use crate::rdb::crc::Crc64;

use super::{LedgerError, Scratch};

/// How many there are.
const BUCKETS: usize = 256;

/// Which bucket a fingerprint is in.
pub(crate) fn of(print: u128) -> usize {
    usize::from(print.to_be_bytes()[0])
}

/// What stands before a name.
pub(crate) fn head(db: Db, len: usize) -> [u8; 12] {
    let mut head = [0; 12];
    let (number, length) = head.split_at_mut(4);
    number.copy_from_slice(&db.index().to_le_bytes());
    length.copy_from_slice(&(len as u64).to_le_bytes());
    head
}

/// Where a block stands, and its length with its foot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    at: u64,
    len: u64,
}

/// A scratch, and where it ends.
#[derive(Debug)]
pub(crate) struct Disk<S> {
    scratch: S,
    end: u64,
}

impl<S: Scratch> Disk<S> {
    pub(crate) fn new(scratch: S) -> Self {
        Self { scratch, end: 0 }
    }

    /// How many bytes of it are used.
    pub(crate) fn len(&self) -> u64 {
        self.end
    }

    /// Writes a block. There is none if this fails.
    fn write(&mut self, records: &[&[u8]], before: Option<Place>) -> Result<Place, LedgerError> {
        let before = before.unwrap_or(Place { at: 0, len: 0 });
        let link = [before.at.to_le_bytes(), before.len.to_le_bytes()];
        let (mut at, mut sum) = (self.end, Crc64::new());
        for part in records {
            sum.update(part);
            self.scratch.write_at(at, part)?;
            at += part.len() as u64;
        }
        sum.update(link.as_flattened());
        let [before_at, before_len] = link;
        let foot = [before_at, before_len, (!sum.sum()).to_le_bytes()];
        self.scratch.write_at(at, foot.as_flattened())?;
        at += foot.as_flattened().len() as u64;
        let place = Place { at: self.end, len: at - self.end };
        self.end = at;
        Ok(place)
    }

    /// Reads the records of a block, and where the one before stands.
    fn read(&mut self, place: Place) -> Result<(Vec<u8>, Option<Place>), LedgerError> {
        let damaged = LedgerError::Damaged { at: place.at };
        let Ok(len) = usize::try_from(place.len) else { return Err(damaged) };
        let mut block = vec![0; len];
        self.scratch.read_at(place.at, &mut block)?;
        let Some((rest, sum)) = block.split_last_chunk() else { return Err(damaged) };
        let mut found = Crc64::new();
        found.update(rest);
        let parts = rest.split_last_chunk().and_then(|(rest, len)| {
            let (records, at) = rest.split_last_chunk()?;
            Some((records.len(), u64::from_le_bytes(*at), u64::from_le_bytes(*len)))
        });
        match parts {
            Some((records, at, len)) if !found.sum() == u64::from_le_bytes(*sum) => {
                block.truncate(records);
                Ok((block, (len > 0).then_some(Place { at, len })))
            }
            _ => Err(damaged),
        }
    }
}

/// Records that are gathered in memory, and written when a bucket is full.
#[derive(Debug)]
pub(crate) struct Buckets {
    each: Vec<Bucket>,
    /// How many bytes of each bucket are kept in memory.
    room: usize,
}

#[derive(Debug, Default)]
struct Bucket {
    unwritten: Vec<u8>,
    last: Option<Place>,
}

impl Buckets {
    /// They share so much memory.
    pub(crate) fn new(memory: usize) -> Self {
        let each = std::iter::repeat_with(Bucket::default).take(BUCKETS).collect();
        Self { each, room: memory / BUCKETS }
    }

    /// Adds a record, which consists of these parts. It is not in if this fails.
    pub(crate) fn push<S: Scratch>(
        &mut self,
        disk: &mut Disk<S>,
        print: u128,
        record: &[&[u8]],
    ) -> Result<(), LedgerError> {
        #[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
        let bucket = &mut self.each[of(print)];
        let len = record.iter().map(|part| part.len()).sum();
        if bucket.unwritten.len().saturating_add(len) > self.room {
            bucket.write(disk)?;
        }
        if len > self.room {
            bucket.last = Some(disk.write(record, bucket.last)?);
            return Ok(());
        }
        bucket.make_room(len, self.room);
        record.iter().for_each(|part| bucket.unwritten.extend_from_slice(part));
        Ok(())
    }

    /// Whether nothing has been written.
    pub(super) fn are_in_memory(&self) -> bool {
        self.each.iter().all(|bucket| bucket.last.is_none())
    }

    /// The notes of each bucket, if all are in memory.
    pub(super) fn into_sorted(self) -> Vec<Vec<u128>> {
        let sorted = |bucket: Bucket| {
            let (prints, _) = bucket.unwritten.as_chunks();
            let mut prints: Vec<u128> = prints.iter().map(|p| u128::from_le_bytes(*p)).collect();
            prints.sort_unstable();
            prints
        };
        self.each.into_iter().map(sorted).collect()
    }

    /// Writes what is in memory, and gives the last block of each bucket.
    pub(crate) fn write<S: Scratch>(
        self,
        disk: &mut Disk<S>,
    ) -> Result<Vec<Option<Place>>, LedgerError> {
        let last = |mut bucket: Bucket| {
            bucket.write(disk)?;
            Ok(bucket.last)
        };
        self.each.into_iter().map(last).collect()
    }

    /// How many bytes of memory they take up.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.each.iter().map(|bucket| bucket.unwritten.capacity()).sum()
    }
}

impl Bucket {
    fn write<S: Scratch>(&mut self, disk: &mut Disk<S>) -> Result<(), LedgerError> {
        if !self.unwritten.is_empty() {
            self.last = Some(disk.write(&[&self.unwritten], self.last)?);
            self.unwritten.clear();
        }
        Ok(())
    }

    /// Grows as a vector does, but not beyond `room`.
    fn make_room(&mut self, len: usize, room: usize) {
        let (now, need) = (self.unwritten.capacity(), self.unwritten.len() + len);
        if now < need {
            let wanted = need.max(now.saturating_mul(2)).min(room);
            self.unwritten.reserve_exact(wanted.saturating_sub(self.unwritten.len()));
        }
    }
}

/// A range of fingerprints, of those that are gone through range by range, each as wide as fits into the memory. It is within one bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Where it begins; `None` behind the last one.
    from: Option<u128>,
    /// It holds 2 to the power of this, and begins at a multiple of it.
    bits: u32,
}

/// No range is wider than a bucket.
const WIDEST: u32 = u128::BITS - 8;

impl Range {
    /// The first one.
    pub(crate) const FIRST: Self = Self { from: Some(0), bits: WIDEST };

    /// None: all have been gone through.
    pub(crate) const NONE: Self = Self { from: None, bits: WIDEST };

    /// The bucket in which it is.
    pub(crate) fn bucket(self) -> Option<usize> {
        self.from.map(of)
    }

    pub(crate) fn holds(self, print: u128) -> bool {
        self.from.is_some_and(|from| from >> self.bits == print >> self.bits)
    }

    /// Its first half, which may fit where the whole does not.
    pub(crate) fn halve(&mut self) {
        self.bits = self.bits.saturating_sub(1);
    }

    /// Whether it holds one fingerprint only.
    pub(crate) fn is_single(self) -> bool {
        self.bits == 0
    }

    /// Goes on to the next, which is twice as wide if it can be.
    pub(crate) fn advance(&mut self) {
        self.from = self.from.and_then(|from| from.checked_add(1 << self.bits));
        let aligned = self.from.is_some_and(|from| from.trailing_zeros() > self.bits);
        if aligned && self.bits < WIDEST {
            self.bits += 1;
        }
    }
}

/// The first name of these, and how many bytes it takes there.
fn first_name(records: &[u8]) -> Option<(Db, &[u8], usize)> {
    let (db, rest) = records.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let name = rest.get(..usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    let head = records.len() - rest.len();
    Some((Db::new(u32::from_le_bytes(*db)), name, head + name.len()))
}

/// The records of a bucket, read block by block.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    block: Vec<u8>,
    /// Where the block stands.
    at: u64,
    /// How much of it has been given.
    given: usize,
    before: Option<Place>,
}

impl Chain {
    /// That whose last block stands there.
    pub(crate) fn at(last: Option<Place>) -> Self {
        Self { before: last, ..Self::default() }
    }

    /// The next note.
    pub(super) fn next_print<S: Scratch>(
        &mut self,
        disk: &mut Disk<S>,
    ) -> Result<Option<u128>, LedgerError> {
        if !self.fill(disk)? {
            return Ok(None);
        }
        let Some(print) = self.rest().first_chunk() else { return Err(self.damaged()) };
        let print = u128::from_le_bytes(*print);
        self.given += print.to_le_bytes().len();
        Ok(Some(print))
    }

    /// The next name.
    pub(crate) fn next_name<S: Scratch>(
        &mut self,
        disk: &mut Disk<S>,
    ) -> Result<Option<(Db, &[u8])>, LedgerError> {
        let Some(rest) = self.rest_with(disk)? else { return Ok(None) };
        let Some((_, _, len)) = first_name(rest) else { return Err(self.damaged()) };
        Ok(first_name(self.give(len)).map(|(db, name, _)| (db, name)))
    }

    /// What is left of the block, which begins with the next record; `None` behind the last one.
    pub(crate) fn rest_with<S: Scratch>(
        &mut self,
        disk: &mut Disk<S>,
    ) -> Result<Option<&[u8]>, LedgerError> {
        Ok(self.fill(disk)?.then(|| self.rest()))
    }

    /// Gives the next record, which has so many bytes.
    pub(crate) fn give(&mut self, len: usize) -> &[u8] {
        let from = self.given;
        self.given = from.saturating_add(len).min(self.block.len());
        self.block.get(from..self.given).unwrap_or_default()
    }

    /// Sees that there is a record in memory. Says whether there is one at all.
    fn fill<S: Scratch>(&mut self, disk: &mut Disk<S>) -> Result<bool, LedgerError> {
        while self.rest().is_empty() {
            let Some(place) = self.before else { return Ok(false) };
            (self.block, self.before) = disk.read(place)?;
            (self.at, self.given) = (place.at, 0);
        }
        Ok(true)
    }

    fn rest(&self) -> &[u8] {
        self.block.get(self.given..).unwrap_or_default()
    }

    pub(crate) fn damaged(&self) -> LedgerError {
        LedgerError::Damaged { at: self.at }
    }
}
