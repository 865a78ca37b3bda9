//! Which sources have brought which names, where several may bring the same one.
//!
//! Before a lane writes anything under a name it [notes](Owners::note) the name and is told who else has. A name that several have
//! brought, made or only read is *contested*, until the job ends: no lane plays a command on it any more, whoever it belongs to, since
//! what the target holds under it may be another source's. It is in doubt in each lane whose commands touch it, and what is written in the
//! end is what the first of its sources holds, in the order of the plan, that holds it at all.
//!
//! Nothing is struck out: a name whose key is deleted may come back in a stream that is behind. A name that is taken for contested
//! because it cannot be told from another (one in 250 million) is read from its only source, and that is all.

mod log;
mod table;
#[cfg(test)]
mod tests;

pub use log::{Log, LogError, read_log};

use table::Table;

/// How many sources can be told apart.
pub const MOST: usize = 255;

/// The names of all sources.
#[derive(Debug)]
pub struct Owners {
    table: Table,
    names: u64,
    most_bytes: usize,
}

/// The sources that have brought a name, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims([u64; 4]);

/// What is known of a name once it has been noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// It was not known to be this source's.
    pub is_new: bool,
    /// Whose it is, this source counted.
    pub claims: Claims,
}

/// The names do not fit into the memory that there is for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the names of more than {names} keys do not fit into {bytes} bytes")]
pub struct TooMany {
    /// How many there are.
    pub names: u64,
    /// What there is for them.
    pub bytes: usize,
}

impl Owners {
    /// How many bytes so many names take.
    #[must_use]
    pub fn bytes_for(names: u64) -> u64 {
        Table::bytes_for(names)
    }

    /// With room for so many names at first, and for more in so many bytes at the most.
    #[must_use]
    pub fn new(names: u64, most_bytes: usize) -> Self {
        let fit = most_bytes as u64 / 6;
        let names = usize::try_from(names.min(fit)).unwrap_or(usize::MAX);
        Self { table: Table::with_room_for(names), names: 0, most_bytes }
    }

    /// Notes that this source has brought a name, told by its [fingerprint](crate::key::fingerprint) in the target, and tells who else has.
    ///
    /// # Errors
    /// If there is no room for it; then nothing was noted.
    pub fn note(&mut self, owner: u8, print: u128) -> Result<Noted, TooMany> {
        let hash = hash(print);
        let mut claims = self.table.claims(hash);
        let is_new = !claims.has(owner);
        if is_new {
            self.add(owner, hash)?;
            claims.insert(owner);
        }
        Ok(Noted { is_new, claims })
    }

    /// Notes what a [log](Log) tells.
    ///
    /// # Errors
    /// As [`note`](Self::note).
    pub fn recall(&mut self, owner: u8, hash: u64) -> Result<(), TooMany> {
        if self.table.claims(hash).has(owner) { Ok(()) } else { self.add(owner, hash) }
    }

    fn add(&mut self, owner: u8, hash: u64) -> Result<(), TooMany> {
        let added = self.table.add(hash, owner, self.most_bytes);
        added.map_err(|_| TooMany { names: self.names, bytes: self.most_bytes })?;
        self.names += 1;
        Ok(())
    }

    /// Whose a name is.
    #[must_use]
    pub fn claims(&self, print: u128) -> Claims {
        self.table.claims(hash(print))
    }

    /// How many names were noted, each once for each source.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.names
    }

    /// Whether none was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// How many bytes they take up.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

/// What of a fingerprint tells names apart here and in a log.
#[must_use]
pub fn hash(print: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = print.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Claims {
    /// Those with one more.
    pub fn insert(&mut self, owner: u8) {
        if let Some(word) = self.0.get_mut(usize::from(owner / 64)) {
            *word |= 1 << (owner % 64);
        }
    }

    /// Whether this source is among them.
    #[must_use]
    pub fn has(&self, owner: u8) -> bool {
        self.0.get(usize::from(owner / 64)).is_some_and(|word| word >> (owner % 64) & 1 == 1)
    }

    /// Whether there are several.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.0.iter().map(|word| word.count_ones()).sum::<u32>() > 1
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// In the order of the plan.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|owner| self.has(*owner))
    }
}
