//! The keys that a target held before a run, and keeps.

use std::collections::{HashSet, TryReserveError};

use crate::key::{Db, fingerprint};

/// The [fingerprints](fingerprint) of these keys.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    seen: HashSet<u128, foldhash::fast::RandomState>,
}

impl Kept {
    /// What one key costs, in bytes: its fingerprint, its control byte and the free places of a table that is between 7/16 and 7/8 full.
    pub const BYTES_A_KEY: u64 = 40;

    /// A set with room for so many keys.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Self {
        Self {
            seen: HashSet::with_capacity_and_hasher(keys, foldhash::fast::RandomState::default()),
        }
    }

    /// The same, if there is memory for so many.
    ///
    /// # Errors
    /// If there is not.
    pub fn try_with_capacity(keys: usize) -> Result<Self, TryReserveError> {
        let mut kept = Self::default();
        kept.seen.try_reserve(keys)?;
        Ok(kept)
    }

    /// Remembers a key of the target.
    pub fn insert(&mut self, db: Db, key: &[u8]) {
        self.seen.insert(fingerprint(db, key));
    }

    /// Remembers a key by its [fingerprint].
    pub fn insert_fingerprint(&mut self, print: u128) {
        self.seen.insert(print);
    }

    /// The fingerprints, in no order.
    #[must_use]
    pub fn fingerprints(&self) -> impl ExactSizeIterator<Item = u128> {
        self.seen.iter().copied()
    }

    /// Whether the target held this key.
    #[must_use]
    #[inline]
    pub fn has(&self, db: Db, key: &[u8]) -> bool {
        !self.seen.is_empty() && self.seen.contains(&fingerprint(db, key))
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_database_and_name() {
        let mut kept = Kept::with_capacity(2);
        assert!(kept.is_empty());
        kept.insert(Db::new(1), b"a");
        kept.insert(Db::new(1), b"a");
        assert_eq!(kept.len(), 1);
        assert!(kept.has(Db::new(1), b"a"));
        assert!(!kept.has(Db::new(0), b"a"));
        assert!(!kept.has(Db::new(1), b"b"));
    }
}
