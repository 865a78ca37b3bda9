//! Which key each name in the target is of, where a rename could give one name to two keys.

use crate::key::{Db, Escaped, is_own};

use super::fingerprints::{Fingerprints, Full};

/// The keys that have come, by the names that they have got. A name that came once is of that key until the job ends, in all databases: keys
/// move from one to another, and that a key is gone is not noted.
#[derive(Debug)]
pub struct Distinct {
    /// With each name the key of which it is.
    seen: Fingerprints<KEY_BITS>,
}

/// So much of a key's fingerprint stands beside its name's.
const KEY_BITS: u32 = 56;

/// Why a key cannot have the name that a rename gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Another key of the source has it.
    #[error(
        "key {} would become {}, which another key of the source has become already",
        Escaped(key),
        Escaped(name)
    )]
    Taken {
        /// The key, as the source calls it.
        key: Vec<u8>,
        /// Its name in the target.
        name: Vec<u8>,
    },
    /// The tool's own keys have such names.
    #[error("key {} would become {}: such names are the tool's own", Escaped(key), Escaped(name))]
    Own {
        /// The key, as the source calls it.
        key: Vec<u8>,
        /// Its name in the target.
        name: Vec<u8>,
    },
    /// There is no memory to tell two keys with one name apart.
    #[error("{keys} names are as many as can be remembered to see that no two keys become one")]
    Full {
        /// How many have come.
        keys: usize,
    },
}

impl Distinct {
    /// Nothing has come yet. What is remembered fits into so many bytes: some thirty a name.
    #[must_use]
    pub fn within(memory: usize) -> Self {
        Self { seen: Fingerprints::new(memory) }
    }

    /// A key of the source gets this name.
    ///
    /// # Errors
    /// If another one has it, or it cannot be told.
    pub fn meet(&mut self, key: &[u8], name: &[u8]) -> Result<(), NameError> {
        if is_own(name) && key != name {
            return Err(NameError::Own { key: key.to_vec(), name: name.to_vec() });
        }
        let print = crate::key::fingerprint(Db::default(), key);
        let tag = print & ((1 << KEY_BITS) - 1);
        match self.seen.insert(Db::default(), name, tag) {
            Ok(Some(first)) if first != tag => {
                Err(NameError::Taken { key: key.to_vec(), name: name.to_vec() })
            }
            Ok(_) => Ok(()),
            Err(Full { keys }) => Err(NameError::Full { keys }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_key() {
        let mut distinct = Distinct::within(1 << 20);
        assert_eq!(distinct.meet(b"a:1", b"x:1"), Ok(()));
        assert_eq!(distinct.meet(b"a:1", b"x:1"), Ok(()));
        let taken = NameError::Taken { key: b"b:1".to_vec(), name: b"x:1".to_vec() };
        assert_eq!(distinct.meet(b"b:1", b"x:1"), Err(taken));
        assert_eq!(distinct.meet(b"b:1", b"x:2"), Ok(()));
        // One that keeps its name is a key like others.
        assert!(distinct.meet(b"x:1", b"x:1").is_err());
        assert!(matches!(distinct.meet(b"x", b"understudy:x"), Err(NameError::Own { .. })));
    }

    #[test]
    fn what_cannot_be_remembered_is_no_name() {
        let mut distinct = Distinct::within(1 << 16);
        let full = (0..10_000_u32).find_map(|key| {
            let key = key.to_string();
            distinct.meet(key.as_bytes(), key.as_bytes()).err()
        });
        assert!(matches!(full, Some(NameError::Full { .. })), "{full:?}");
    }
}
