//! Which names a copy has brought, so that what the source no longer has can be removed from the target after a second copy.
//!
//! Each name of the second copy is [noted](Ledger::note); then the target is walked by `SCAN`, and each name found there is
//! [asked for](Sweep::seen). While the notes fit into the memory the answer comes at once. Else both lie in a [`Scratch`], in buckets by
//! the first byte of the fingerprint, and are compared bucket by bucket in the end.
//!
//! ```text
//! Ledger ──sweep──▶ Sweep ──finish──▶ Missing
//! note              seen              next_page
//! ```
//!
//! Of the notes only fingerprints are kept, and all of them. If two names share one, which is not to be expected of any run, one stays
//! too many; never is a name missing that was noted.

use std::collections::HashSet;
use std::io;

use foldhash::fast::RandomState;

use crate::key::{Db, fingerprint, is_own};

use self::bucket::{Buckets, Chain, Disk, Place, Range};

pub(crate) mod bucket;
pub(crate) mod capped;
pub mod older;
#[cfg(test)]
pub(crate) mod tests;

/// Room on a disk that nobody else sees.
pub trait Scratch {
    /// Writes these bytes at this place.
    ///
    /// # Errors
    /// If not all of them could be written.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads as many bytes as `into` holds from this place on, where all of them were written before.
    ///
    /// # Errors
    /// If not all of them could be read.
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// The names cannot be kept on the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// It cannot be written or read.
    #[error("the scratch file cannot be written or read")]
    Scratch(#[from] io::Error),
    /// It gives back other bytes than were written.
    #[error("the scratch file is damaged at byte {at}")]
    Damaged {
        /// Where the damaged block begins.
        at: u64,
    },
}

impl From<LedgerError> for io::Error {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Scratch(error) => error,
            damaged @ LedgerError::Damaged { .. } => Self::other(damaged),
        }
    }
}

/// The names that are noted.
#[derive(Debug)]
pub struct Ledger<S> {
    disk: Disk<S>,
    noted: Buckets,
    memory: usize,
}

/// What is known of a name that the target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was noted, or is the tool's own.
    Stays,
    /// It was not noted.
    Missing,
    /// [`Missing`] will have it if it was not noted.
    Later,
}

/// The names that were noted, while the target's names are held against them.
#[derive(Debug)]
pub struct Sweep<S> {
    disk: Disk<S>,
    noted: Noted,
    asked: Buckets,
    memory: usize,
}

#[derive(Debug)]
enum Noted {
    /// Sorted, by bucket.
    InMemory(Vec<Vec<u128>>),
    OnDisk(Vec<Option<Place>>),
}

/// Some names, each with its database.
pub type Page = Vec<(Db, Vec<u8>)>;

/// Those of the names that were [asked for later](Seen::Later) that were not noted.
///
/// It goes through the fingerprints in order, range by range, each as wide as fits into the memory: those asked for are taken, those
/// noted are struck out, and the names of those that are left are given.
#[derive(Debug)]
pub struct Missing<S> {
    disk: Disk<S>,
    noted: Vec<Option<Place>>,
    asked: Vec<Option<Place>>,
    range: Range,
    /// What is left of the range to be given.
    left: HashSet<u128, RandomState>,
    /// How many of them fit into the memory.
    most: usize,
    /// The names of the bucket, read for the second time.
    names: Chain,
    page: Page,
    /// How many bytes of names a page may have before it ends.
    page_bytes: usize,
}

impl<S: Scratch> Ledger<S> {
    /// An empty one that takes up `memory` bytes at the most, and what is more on the disk. Not counted are some 20 KiB, single names that
    /// are longer than a 256th of the memory, and what the allocator wastes (measured: a fifth of 16 MiB).
    #[must_use]
    pub fn new(scratch: S, memory: usize) -> Self {
        Self { disk: Disk::new(scratch), noted: Buckets::new(memory), memory }
    }

    /// Notes a name. It was not noted if this fails.
    ///
    /// # Errors
    /// If the disk cannot be written.
    pub fn note(&mut self, db: Db, name: &[u8]) -> Result<(), LedgerError> {
        if is_own(name) {
            return Ok(());
        }
        let print = fingerprint(db, name);
        self.noted.push(&mut self.disk, print, &[&print.to_le_bytes()])
    }

    /// All names have been noted.
    ///
    /// # Errors
    /// If the disk cannot be written.
    pub fn sweep(mut self) -> Result<Sweep<S>, LedgerError> {
        let noted = if self.noted.are_in_memory() {
            Noted::InMemory(self.noted.into_sorted())
        } else {
            Noted::OnDisk(self.noted.write(&mut self.disk)?)
        };
        let asked = Buckets::new(self.memory);
        Ok(Sweep { disk: self.disk, noted, asked, memory: self.memory })
    }
}

impl<S: Scratch> Sweep<S> {
    /// Asks for a name of the target. If it is asked for twice and the answer is `Missing`, it is so twice; those that come
    /// later come once.
    ///
    /// # Errors
    /// If the disk cannot be written. Then it was not asked for.
    pub fn seen(&mut self, db: Db, name: &[u8]) -> Result<Seen, LedgerError> {
        if is_own(name) {
            return Ok(Seen::Stays);
        }
        let print = fingerprint(db, name);
        match &self.noted {
            Noted::InMemory(buckets) => {
                let bucket = buckets.get(bucket::of(print));
                let stays = bucket.is_some_and(|bucket| bucket.binary_search(&print).is_ok());
                Ok(if stays { Seen::Stays } else { Seen::Missing })
            }
            Noted::OnDisk(_) => {
                let head = bucket::head(db, name.len());
                self.asked.push(&mut self.disk, print, &[&head, name])?;
                Ok(Seen::Later)
            }
        }
    }

    /// All names of the target have been asked for.
    ///
    /// # Errors
    /// If the disk cannot be written.
    pub fn finish(mut self) -> Result<Missing<S>, LedgerError> {
        let (noted, range) = match self.noted {
            Noted::InMemory(_) => (Vec::new(), Range::NONE),
            Noted::OnDisk(noted) => (noted, Range::FIRST),
        };
        Ok(Missing {
            asked: self.asked.write(&mut self.disk)?,
            disk: self.disk,
            noted,
            range,
            left: HashSet::default(),
            most: keys_that_fit(self.memory / 2),
            names: Chain::default(),
            page: Page::new(),
            page_bytes: (self.memory / 4).max(1),
        })
    }
}

impl<S: Scratch> Missing<S> {
    /// Gives the next names, at most so many, each once. There may be none in a page that is not the last: then some were compared and all
    /// of them were noted. `None`: that was all.
    ///
    /// # Errors
    /// If the disk cannot be read, or gives back what was not written. Nothing is lost by that: the same page can be asked for
    /// again.
    pub fn next_page(&mut self, most: usize) -> Result<Option<Page>, LedgerError> {
        let Some(bucket) = self.range.bucket() else { return Ok(None) };
        if self.left.is_empty() {
            self.compare(bucket)?;
        }
        let mut bytes = 0;
        while !self.left.is_empty() && self.page.len() < most.max(1) && bytes < self.page_bytes {
            let Some((db, name)) = self.names.next_name(&mut self.disk)? else {
                return Err(self.names.damaged());
            };
            if self.left.remove(&fingerprint(db, name)) {
                bytes += name.len() + size_of::<(Db, Vec<u8>)>();
                self.page.push((db, name.to_vec()));
            }
        }
        if self.left.is_empty() {
            self.range.advance();
        }
        Ok(Some(std::mem::take(&mut self.page)))
    }

    /// Leaves those of the range, which is in this bucket, that were asked for and not noted.
    fn compare(&mut self, bucket: usize) -> Result<(), LedgerError> {
        let compared = self.take_asked(bucket).and_then(|()| self.strike_noted(bucket));
        if compared.is_err() {
            self.left.clear();
        }
        compared
    }

    fn take_asked(&mut self, bucket: usize) -> Result<(), LedgerError> {
        // A new table, since names that were removed one by one still take up places of the old one.
        self.left = HashSet::default();
        self.left.reserve(self.most);
        let asked = self.asked.get(bucket).copied().flatten();
        let mut names = Chain::at(asked);
        while let Some((db, name)) = names.next_name(&mut self.disk)? {
            let print = fingerprint(db, name);
            if !self.range.holds(print) || self.left.contains(&print) {
                continue;
            }
            if self.left.len() == self.most {
                // Half of the range may fit.
                self.left.clear();
                self.range.halve();
                names = Chain::at(asked);
                continue;
            }
            self.left.insert(print);
        }
        self.names = Chain::at(asked);
        Ok(())
    }

    fn strike_noted(&mut self, bucket: usize) -> Result<(), LedgerError> {
        let mut noted = Chain::at(self.noted.get(bucket).copied().flatten());
        while !self.left.is_empty() {
            let Some(print) = noted.next_print(&mut self.disk)? else { break };
            self.left.remove(&print);
        }
        Ok(())
    }
}

/// For how many keys a table of so many bytes has room: seven for eight places, whose number is a power of two, and a byte more for each
/// place.
fn keys_that_fit(bytes: usize) -> usize {
    let places = (bytes / (size_of::<u128>() + 1)).max(8);
    (1 << places.ilog2()) / 8 * 7
}
