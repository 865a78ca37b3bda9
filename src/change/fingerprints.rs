//! Which keys have been seen, and what is noted of each, in a bounded memory.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::mem::size_of;

use foldhash::fast::RandomState;

use crate::key::{Db, fingerprint};

/// The keys that were seen, each as what 128 bits have for its fingerprint beside the tag that is noted of it, and eight bits more: with a tag
/// of 16 bits two of a thousand million keys are mistaken for one another once in ten thousand million million runs.
#[derive(Debug)]
pub struct Fingerprints<const TAG_BITS: u32> {
    /// Many small tables, so that one that grows needs little room beside itself.
    tables: Vec<HashSet<Print<TAG_BITS>, RandomState>>,
    limit: usize,
    bytes: usize,
}

/// A key was not taken: its table would outgrow the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// How many keys have been seen.
    pub keys: usize,
}

/// A fingerprint, and in its lowest bits the tag, which counts for nothing when two are compared.
#[derive(Clone, Copy, Debug)]
struct Print<const TAG_BITS: u32>(u128);

impl<const TAG_BITS: u32> PartialEq for Print<TAG_BITS> {
    fn eq(&self, other: &Self) -> bool {
        self.0 >> TAG_BITS == other.0 >> TAG_BITS
    }
}

impl<const TAG_BITS: u32> Eq for Print<TAG_BITS> {}

impl<const TAG_BITS: u32> Hash for Print<TAG_BITS> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 >> TAG_BITS).hash(state);
    }
}

const TABLES: usize = 256;

impl<const TAG_BITS: u32> Fingerprints<TAG_BITS> {
    const TAG: u128 = (1 << TAG_BITS) - 1;

    /// An empty set that may take up `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let tables = (0..TABLES).map(|_| HashSet::default()).collect();
        Self { tables, limit, bytes: 0 }
    }

    /// Notes a key with the lowest bits of this tag. Gives the tag with which it came first, if it did before.
    ///
    /// # Errors
    /// [`Full`]
    pub fn insert(&mut self, db: Db, key: &[u8], tag: u128) -> Result<Option<u128>, Full> {
        // The database is part of the name; no key of another one gets the same sum by that.
        let sum = fingerprint(db, key);
        let print = Print(sum << TAG_BITS | tag & Self::TAG);
        // The top bits choose the table; they are not in the print.
        let at = usize::try_from(sum >> (u128::BITS - 8)).unwrap_or(0);
        let (bytes, limit) = (self.bytes, self.limit);
        let Some(table) = self.tables.get_mut(at) else { return Ok(None) };
        if let Some(first) = table.get(&print) {
            return Ok(Some(first.0 & Self::TAG));
        }
        let before = cost(table.capacity());
        // Old and new stand beside each other while it grows.
        if table.len() == table.capacity() && bytes + cost(table.capacity().max(2) * 2) > limit {
            let keys = self.tables.iter().map(HashSet::len).sum();
            return Err(Full { keys });
        }
        table.insert(print);
        self.bytes += cost(table.capacity()) - before;
        Ok(None)
    }
}

/// What a table for so many keys takes up: eight places for seven keys, and a byte for each place.
const fn cost(keys: usize) -> usize {
    keys.div_ceil(7) * 8 * (size_of::<u128>() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_again_in_its_database() {
        let mut seen = Fingerprints::<16>::new(1 << 20);
        assert_eq!(seen.insert(Db::new(0), b"k", 3), Ok(None));
        assert_eq!(seen.insert(Db::new(1), b"k", 4), Ok(None));
        assert_eq!(seen.insert(Db::new(0), b"K", 4), Ok(None));
        assert_eq!(seen.insert(Db::new(0), b"k", 5), Ok(Some(3)));
        assert_eq!(seen.insert(Db::new(1), b"k", 5), Ok(Some(4)));
    }

    #[test]
    fn memory_is_bounded_and_well_used() {
        let mut seen = Fingerprints::<16>::new(1 << 20);
        let mut keys = 0_u32;
        let full = loop {
            match seen.insert(Db::new(0), &keys.to_le_bytes(), 0) {
                Ok(None) => keys += 1,
                Ok(Some(_)) => panic!("two keys with one sum"),
                Err(full) => break full,
            }
        };
        assert_eq!(full.keys, keys as usize);
        assert!(seen.bytes <= 1 << 20);
        assert!((20_000..60_000).contains(&keys), "{keys} keys in a MiB");
        // What is there is found again, and what is not is still refused.
        assert_eq!(seen.insert(Db::new(0), &7_u32.to_le_bytes(), 1), Ok(Some(0)));
    }
}
