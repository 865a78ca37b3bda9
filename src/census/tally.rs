//! The figures of one source.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::key::Db;
use crate::rdb::event::KeyHead;
use crate::rdb::opcode::ValueType;

use super::prefixes::Prefixes;

/// How many of the largest keys are named.
const LARGEST: usize = 10;

/// So much of a large key's name is kept. What is longer is cut off.
const NAME: usize = 1024;

/// What was counted of the keys that a source's rules choose.
#[derive(Clone, Debug)]
pub struct Tally {
    /// How many there are.
    pub keys: u64,
    /// Bytes of their names and values, as the data set has them: compressed and packed as they are there.
    pub bytes: u64,
    /// Keys that the rules leave out.
    pub left_out: u64,
    /// Bytes of those.
    pub left_out_bytes: u64,
    /// By type; types of which there is none are not there.
    pub types: Vec<TypeTally>,
    /// By how long they have to live, in the order of [`Lifetime::ALL`].
    pub lifetimes: [u64; Lifetime::ALL.len()],
    /// The ten largest values.
    pub largest: Top<Large>,
    /// By the prefixes of their names on the source.
    pub prefixes: Prefixes,
    /// Bytes of memory that the source says its data took (`used-mem`), if the data set tells.
    pub used_memory: Option<u64>,
}

/// What was counted of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTally {
    /// The type.
    pub kind: ValueType,
    /// Keys.
    pub keys: u64,
    /// Bytes of names and values.
    pub bytes: u64,
}

/// How long a key has to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It has no deadline.
    Endless,
    /// Its deadline has passed, and its master has not removed it yet.
    Past,
    /// Less than a minute.
    Minute,
    /// Less than an hour.
    Hour,
    /// Less than a day.
    Day,
    /// Less than 30 days.
    Month,
    /// More.
    Longer,
}

/// A large key. The order is that of sizes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Large {
    /// Bytes of its value, as the data set has it.
    pub bytes: u64,
    /// Its database on the source.
    pub db: Db,
    /// Its name there; of a longer one the first 1024 bytes.
    pub key: Vec<u8>,
    /// Its type.
    pub kind: ValueType,
}

/// The greatest of what was put in, so many at the most.
#[derive(Clone, Debug)]
pub struct Top<T> {
    kept: BinaryHeap<Reverse<T>>,
    most: usize,
}

impl Lifetime {
    /// All of them, the shortest behind those that have none.
    pub const ALL: [Self; 7] =
        [Self::Endless, Self::Past, Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Longer];

    /// That of a key with this deadline at this time, in milliseconds since 1970.
    #[must_use]
    pub fn of(expire_at_ms: Option<i64>, now_ms: i64) -> Self {
        const MINUTE: i64 = 60_000;
        let Some(at) = expire_at_ms else { return Self::Endless };
        match at.saturating_sub(now_ms) {
            ..=0 => Self::Past,
            left if left < MINUTE => Self::Minute,
            left if left < 60 * MINUTE => Self::Hour,
            left if left < 24 * 60 * MINUTE => Self::Day,
            left if left < 30 * 24 * 60 * MINUTE => Self::Month,
            _ => Self::Longer,
        }
    }
}

impl<T: Ord> Top<T> {
    /// Keeps so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { kept: BinaryHeap::new(), most }
    }

    /// The least of those that are kept, if something must be greater to be kept too.
    #[must_use]
    pub fn least(&self) -> Option<&T> {
        let is_full = self.kept.len() >= self.most;
        self.kept.peek().filter(|_| is_full).map(|Reverse(least)| least)
    }

    /// Puts one in.
    pub fn put(&mut self, one: T) {
        self.kept.push(Reverse(one));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// Those that are kept, the greatest first.
    #[must_use]
    pub fn sorted(&self) -> Vec<&T> {
        let mut sorted: Vec<&T> = self.kept.iter().map(|Reverse(one)| one).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            keys: 0,
            bytes: 0,
            left_out: 0,
            left_out_bytes: 0,
            types: Vec::new(),
            lifetimes: [0; Lifetime::ALL.len()],
            largest: Top::new(LARGEST),
            prefixes: Prefixes::default(),
            used_memory: None,
        }
    }
}

impl Tally {
    /// Counts a key whose value takes so many bytes, as its source knows it at this time (milliseconds since 1970).
    pub fn count(&mut self, head: &KeyHead<'_>, value: u64, now_ms: i64) {
        let bytes = value.saturating_add(head.key.len() as u64);
        let kind = head.object.value_type();
        self.keys += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.add_type(TypeTally { kind, keys: 1, bytes });
        let lifetime = Lifetime::of(head.expire_at_ms, now_ms);
        if let Some(count) = self.lifetimes.get_mut(lifetime as usize) {
            *count += 1;
        }
        self.prefixes.count(head.key, bytes);
        if self.largest.least().is_none_or(|least| value > least.bytes) {
            let key = head.key.get(..NAME).unwrap_or(head.key).to_vec();
            self.largest.put(Large { bytes: value, db: head.db, key, kind });
        }
    }

    /// Counts a key that the rules leave out.
    pub fn leave_out(&mut self, name: &[u8], value: u64) {
        self.left_out += 1;
        self.left_out_bytes =
            self.left_out_bytes.saturating_add(value).saturating_add(name.len() as u64);
    }

    /// Keys with a deadline.
    #[must_use]
    pub fn with_deadline(&self) -> u64 {
        self.lifetimes.iter().skip(1).sum()
    }

    /// What of the source's memory belongs to the keys that its rules choose, by their part of its bytes.
    #[must_use]
    pub fn of_memory(&self, memory: u64) -> u64 {
        let all = u128::from(self.bytes) + u128::from(self.left_out_bytes);
        let part = u128::from(memory) * u128::from(self.bytes) / all.max(1);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Adds what was counted of another source. The largest keys are not added: they are each source's own.
    pub fn merge(&mut self, other: &Self) {
        self.keys += other.keys;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.left_out += other.left_out;
        self.left_out_bytes = self.left_out_bytes.saturating_add(other.left_out_bytes);
        other.types.iter().for_each(|one| self.add_type(*one));
        self.lifetimes.iter_mut().zip(other.lifetimes).for_each(|(sum, count)| *sum += count);
        self.prefixes.merge(&other.prefixes);
    }

    fn add_type(&mut self, one: TypeTally) {
        match self.types.iter_mut().find(|known| known.kind == one.kind) {
            Some(known) => {
                known.keys += one.keys;
                known.bytes = known.bytes.saturating_add(one.bytes);
            }
            None => {
                self.types.push(one);
                self.types.sort_unstable_by_key(|known| known.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::opcode::ObjectType;

    fn head(key: &[u8], object: ObjectType, expire_at_ms: Option<i64>) -> KeyHead<'_> {
        let (db, idle_seconds, freq) = (Db::new(3), None, None);
        KeyHead { db, key, object, expire_at_ms, idle_seconds, freq }
    }

    #[test]
    fn lifetimes_begin_where_they_say() {
        const NOW: i64 = 1_000_000;
        const DAY: i64 = 86_400_000;
        let of = |left: i64| Lifetime::of(Some(NOW + left), NOW);
        assert_eq!(Lifetime::of(None, NOW), Lifetime::Endless);
        assert_eq!([of(-NOW), of(0), of(i64::MIN + 2 * NOW)], [Lifetime::Past; 3]);
        assert_eq!([of(1), of(59_999)], [Lifetime::Minute; 2]);
        assert_eq!([of(60_000), of(3_599_999)], [Lifetime::Hour; 2]);
        assert_eq!([of(3_600_000), of(DAY - 1)], [Lifetime::Day; 2]);
        assert_eq!([of(DAY), of(30 * DAY - 1)], [Lifetime::Month; 2]);
        assert_eq!([of(30 * DAY), Lifetime::of(Some(i64::MAX), -1)], [Lifetime::Longer; 2]);
        for (at, lifetime) in Lifetime::ALL.into_iter().enumerate() {
            assert_eq!(lifetime as usize, at);
        }
    }

    #[test]
    fn keys_are_counted_by_type_and_lifetime() {
        let mut tally = Tally::default();
        tally.count(&head(b"a:1", ObjectType::String, None), 10, 0);
        tally.count(&head(b"a:2", ObjectType::HashListpack, Some(5)), 20, 9);
        tally.count(&head(b"a:3", ObjectType::Hash, Some(50)), 30, 9);
        tally.leave_out(b"b:1", 60);
        assert_eq!((tally.keys, tally.bytes, tally.with_deadline()), (3, 69, 2));
        assert_eq!((tally.left_out, tally.left_out_bytes), (1, 63));
        let types: Vec<_> = tally.types.iter().map(|t| (t.kind, t.keys, t.bytes)).collect();
        assert_eq!(types, [(ValueType::String, 1, 13), (ValueType::Hash, 2, 56)]);
        assert_eq!(tally.lifetimes, [1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(tally.of_memory(132_000), 69_000);
        assert_eq!(Tally::default().of_memory(7), 0);

        let mut total = tally.clone();
        total.merge(&tally);
        assert_eq!((total.keys, total.bytes, total.left_out_bytes), (6, 138, 126));
        assert_eq!((total.types.len(), total.lifetimes[2]), (2, 2));
        assert_eq!(total.prefixes.largest(1).first().map(|one| one.keys), Some(6));
    }

    #[test]
    fn the_largest_are_kept_and_long_names_are_cut() {
        let mut tally = Tally::default();
        for bytes in (1..=30).chain([7, 7]) {
            tally.count(&head(&[b'x'; 5000], ObjectType::String, None), bytes, 0);
        }
        let largest: Vec<_> = tally.largest.sorted();
        assert_eq!(
            largest.iter().map(|one| one.bytes).collect::<Vec<_>>(),
            Vec::from_iter((21..=30).rev())
        );
        assert!(largest.iter().all(|one| one.key.len() == NAME && one.db == Db::new(3)));
    }
}
