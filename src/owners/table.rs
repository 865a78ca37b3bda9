//! Which source has brought which name, in five bytes a name.
//!
//! ```text
//! level    buckets of 16 places; the next level is as large as all before it
//! bucket   what has no room goes into the next one
//! place    32 bits of the name's hash, and the source's number plus one; 0 is free
//! ```
//! A name is looked for in its bucket and, while that is full, in the next ones. Nothing is ever taken out.

use super::Claims;

/// Places of a bucket.
const PLACES: usize = 16;

/// So many of a bucket's places are taken, as a mean, when the next level begins: then few looks go on to a second bucket.
const FULL: usize = 14;

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    levels: Vec<Level>,
}

#[derive(Clone, Debug)]
struct Level {
    buckets: Vec<Bucket>,
    taken: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    tags: [u32; PLACES],
    owners: [u8; PLACES],
}

/// There is no memory for another level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Table {
    /// How many bytes a table takes that was made for so many names.
    pub(super) fn bytes_for(names: u64) -> u64 {
        names.div_ceil(FULL as u64).max(1).saturating_mul(size_of::<Bucket>() as u64)
    }

    /// One with room for so many names.
    pub(super) fn with_room_for(names: usize) -> Self {
        Self { levels: vec![Level::new(names.div_ceil(FULL).max(1))] }
    }

    /// How many bytes it takes up.
    pub(super) fn bytes(&self) -> usize {
        self.levels.iter().map(Level::bytes).sum()
    }

    /// Who has brought this name, or another one that cannot be told from it: one look in 250 million finds such a one.
    pub(super) fn claims(&self, hash: u64) -> Claims {
        let mut claims = Claims::default();
        for level in &self.levels {
            level.look(hash, &mut claims);
        }
        claims
    }

    /// Notes that this source has brought this name. It has not done so before.
    pub(super) fn add(&mut self, hash: u64, owner: u8, most_bytes: usize) -> Result<(), NoRoom> {
        if self.levels.last().is_none_or(Level::is_full) {
            let buckets: usize = self.levels.iter().map(|level| level.buckets.len()).sum();
            let level_bytes = buckets.max(1) * size_of::<Bucket>();
            if self.bytes() + level_bytes > most_bytes {
                return Err(NoRoom);
            }
            self.levels.push(Level::new(buckets.max(1)));
        }
        if let Some(level) = self.levels.last_mut() {
            level.add(hash, owner);
        }
        Ok(())
    }
}

impl Level {
    fn new(buckets: usize) -> Self {
        Self { buckets: vec![Bucket::default(); buckets], taken: 0 }
    }

    fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    fn is_full(&self) -> bool {
        self.taken >= self.buckets.len() * FULL
    }

    /// The bucket in which a name is, unless that is full.
    fn home(&self, hash: u64) -> usize {
        let spread = u128::from(hash) * self.buckets.len() as u128;
        usize::try_from(spread >> 64).unwrap_or_default()
    }

    fn look(&self, hash: u64, claims: &mut Claims) {
        let tag = tag(hash);
        let (before, from) = self.buckets.split_at(self.home(hash));
        for bucket in from.iter().chain(before) {
            for (place, owner) in bucket.tags.iter().zip(bucket.owners) {
                if *place == tag
                    && let Some(owner) = owner.checked_sub(1)
                {
                    claims.insert(owner);
                }
            }
            if bucket.owners.last() == Some(&0) {
                return;
            }
        }
    }

    fn add(&mut self, hash: u64, owner: u8) {
        let home = self.home(hash);
        let (before, from) = self.buckets.split_at_mut(home);
        let places =
            from.iter_mut().chain(before).flat_map(|b| b.tags.iter_mut().zip(&mut b.owners));
        if let Some((place, free)) = { places }.find(|(_, owner)| **owner == 0) {
            (*place, *free) = (tag(hash), owner + 1);
            self.taken += 1;
        }
    }
}

/// The low bits of a hash; the bucket is told by the high ones.
fn tag(hash: u64) -> u32 {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
