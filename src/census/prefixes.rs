//! The prefixes of names under which there is most, in a table that does not grow.
//!
//! While the prefixes are few all of them are counted. When the table is full, those with the least are forgotten, and how much that was at
//! the most of any one of them is kept: whatever a prefix is told to have, it has at least, and at most so much more (after Misra and Gries,
//! "Finding repeated elements", 1982).

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// How many prefixes are kept when the table has been cleared.
const KEPT: usize = 512;

/// A longer one is none: it would be no group but a name.
const LONGEST: usize = 64;

/// What ends the prefix of a name that has no `:`.
const ENDS: [u8; 5] = *b"/.|-_";

/// What counts under prefixes.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    counts: HashMap<Box<[u8]>, Count, RandomState>,
    /// How much of any one prefix was forgotten, at the most.
    forgotten: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    keys: u64,
    bytes: u64,
}

/// What is under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// With the byte that ends it; empty for names that have none.
    pub prefix: Box<[u8]>,
    /// Keys.
    pub keys: u64,
    /// Bytes of names and values, as the data set has them.
    pub bytes: u64,
}

/// The prefix of a name: up to and with the first `:`; without one, the first of `/.|-_`. Empty if there is none, or it is longer than 64
/// bytes.
#[must_use]
pub fn prefix(name: &[u8]) -> &[u8] {
    let head = name.get(..LONGEST).unwrap_or(name);
    let end = head.iter().position(|&byte| byte == b':');
    let end = end.or_else(|| head.iter().position(|byte| ENDS.contains(byte)));
    end.and_then(|at| head.get(..=at)).unwrap_or_default()
}

impl Prefixes {
    /// Counts a key.
    pub fn count(&mut self, name: &[u8], bytes: u64) {
        self.add(prefix(name), Count { keys: 1, bytes });
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (prefix, count) in &other.counts {
            self.add(prefix, *count);
        }
        self.forgotten.add(other.forgotten);
    }

    /// Those with the most keys, and those with the most bytes: so many of each at the most, each once, by keys.
    #[must_use]
    pub fn largest(&self, most: usize) -> Vec<Prefix> {
        let mut all: Vec<Prefix> = self.counts.iter().map(Prefix::from).collect();
        all.sort_unstable_by_key(|one| std::cmp::Reverse(one.bytes));
        let least = all.get(most.saturating_sub(1)).map_or(0, |one| one.bytes);
        all.sort_unstable_by(|a, b| (b.keys, &a.prefix).cmp(&(a.keys, &b.prefix)));
        let mut others = all.split_off(most.min(all.len()));
        others.retain(|one| one.bytes >= least);
        others.truncate(most);
        all.extend(others);
        all
    }

    /// How many keys and bytes any prefix may have beyond what is told of it; `None` if all were counted.
    #[must_use]
    pub fn uncounted(&self) -> Option<(u64, u64)> {
        let Count { keys, bytes } = self.forgotten;
        (keys > 0).then_some((keys, bytes))
    }

    /// Forgets all but those with the most, so that little memory is taken.
    pub fn shrink(&mut self) {
        self.forget(KEPT);
        self.counts.shrink_to_fit();
    }

    fn add(&mut self, prefix: &[u8], count: Count) {
        if let Some(known) = self.counts.get_mut(prefix) {
            known.add(count);
            return;
        }
        if self.counts.len() >= 2 * KEPT {
            self.forget(KEPT);
        }
        self.counts.insert(prefix.into(), count);
    }

    /// Leaves so many: half of them those with the most keys, and half those with the most bytes of the others.
    fn forget(&mut self, leave: usize) {
        if self.counts.len() <= leave {
            return;
        }
        let mut all: Vec<(Box<[u8]>, Count)> = self.counts.drain().collect();
        let half = leave / 2;
        all.select_nth_unstable_by_key(half, |(_, count)| std::cmp::Reverse(count.keys));
        let mut others = all.split_off(half);
        others.select_nth_unstable_by_key(half, |(_, count)| std::cmp::Reverse(count.bytes));
        let gone = others.split_off(half);
        let most = gone.iter().fold(Count::default(), |most, (_, count)| Count {
            keys: most.keys.max(count.keys),
            bytes: most.bytes.max(count.bytes),
        });
        self.forgotten.add(most);
        self.counts.extend(all.into_iter().chain(others));
    }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl From<(&Box<[u8]>, &Count)> for Prefix {
    fn from((prefix, count): (&Box<[u8]>, &Count)) -> Self {
        Self { prefix: prefix.clone(), keys: count.keys, bytes: count.bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_ends_at_the_first_colon_or_at_what_stands_for_one() {
        let of = |name: &str| String::from_utf8(prefix(name.as_bytes()).to_vec()).unwrap();
        assert_eq!(of("user:1:name"), "user:");
        assert_eq!(of("user-profile:1"), "user-profile:");
        assert_eq!(of("cache/a/b"), "cache/");
        assert_eq!(of("a.b_c"), "a.");
        assert_eq!(of(":1"), ":");
        assert_eq!(of("plain"), "");
        assert_eq!(of(""), "");
        assert_eq!(of(&format!("{}:1", "x".repeat(63))).len(), 64);
        assert_eq!(of(&format!("{}:1", "x".repeat(64))), "");
    }

    #[test]
    fn few_prefixes_are_all_counted() {
        let mut prefixes = Prefixes::default();
        for (name, bytes) in [("a:1", 5), ("a:2", 5), ("b:1", 100), ("c:1", 1), ("x", 7)] {
            prefixes.count(name.as_bytes(), bytes);
        }
        let largest = prefixes.largest(1);
        let shown: Vec<_> = largest.iter().map(|one| (&*one.prefix, one.keys, one.bytes)).collect();
        assert_eq!(shown, [(&b"a:"[..], 2, 10), (&b"b:"[..], 1, 100)]);
        assert_eq!(prefixes.largest(9).len(), 4);
        assert_eq!(prefixes.uncounted(), None);
    }

    proptest! {
        /// Whatever is told of a prefix is what it has, or so much less as is told; and none is missing that has more than that.
        #[test]
        fn what_is_forgotten_is_bounded(
            runs in prop::collection::vec((0_u16..3000, 1_u64..500, 1_u8..20), 1..400),
            parts in 1_usize..4,
        ) {
            let mut truth: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
            let mut counted = vec![Prefixes::default(); parts];
            let mut turn = 0;
            for (first, bytes, width) in runs {
                for name in first..first + u16::from(width) * 10 {
                    let name = format!("{name}:k").into_bytes();
                    let known = truth.entry(prefix(&name).to_vec()).or_default();
                    (known.0, known.1) = (known.0 + 1, known.1 + bytes);
                    turn = (turn + 1) % parts;
                    counted[turn].count(&name, bytes);
                }
            }
            let mut all = Prefixes::default();
            for mut part in counted {
                part.shrink();
                all.merge(&part);
            }
            prop_assert!(all.counts.len() <= 2 * KEPT);
            let (keys, bytes) = all.uncounted().unwrap_or_default();
            let told: BTreeMap<_, _> =
                all.largest(usize::MAX).into_iter().map(|one| (one.prefix.to_vec(), one)).collect();
            for (prefix, (has_keys, has_bytes)) in truth {
                let (told_keys, told_bytes) =
                    told.get(&prefix).map_or((0, 0), |one| (one.keys, one.bytes));
                prop_assert!(told_keys <= has_keys && has_keys <= told_keys + keys);
                prop_assert!(told_bytes <= has_bytes && has_bytes <= told_bytes + bytes);
            }
        }
    }
}
