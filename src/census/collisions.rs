//! Names that several sources have, or a source and the target.
//!
//! It goes through the fingerprints in order, range by range, each as wide as fits into the memory: those in the range are sorted, and
//! equal ones lie side by side. The names of the first ones are then looked up.

use std::collections::BTreeMap;

use crate::key::{Db, fingerprint};
use crate::ledger::bucket::{Chain, Disk, Place, Range};
use crate::ledger::capped::Capped;
use crate::ledger::{LedgerError, Scratch};

use super::names::Record;

/// So many collisions are named.
const NAMED: usize = 100;

/// So much of such a name is kept. What is longer is cut off.
const NAME: usize = 1024;

/// The comparison of all names that were noted.
#[derive(Debug)]
pub struct Collisions<S> {
    disk: Disk<Capped<S>>,
    /// The last block of each bucket.
    last: Vec<Option<Place>>,
    /// What each reading was a reading of.
    places: Vec<Option<u32>>,
    /// The target's place.
    target: u32,
    range: Range,
    marks: Vec<Mark>,
    /// How many of them fit into the memory.
    most: usize,
    found: Found,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many names there are, each counted once.
    pub names: u64,
    /// Those of them that more than one key would have.
    pub colliding: u64,
    /// The same without regard to the target: names that keys of sources share.
    pub between_sources: u64,
    /// Names that a source and the target share.
    pub with_target: u64,
    /// The same by pairs of places: sources as they stand in the plan, and behind them the target. A source with itself: keys of it that get
    /// one name by its rules.
    pub pairs: BTreeMap<(u32, u32), u64>,
    /// A hundred of them, by database and name.
    pub named: Vec<Collision>,
}

/// A name that more than one key would have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collision {
    /// The target's database.
    pub db: Db,
    /// The name there; of a longer one the first 1024 bytes.
    pub name: Vec<u8>,
    /// Where these keys are, in order.
    pub places: Vec<u32>,
}

/// That a name is in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    print: u128,
    place: u32,
    /// How often.
    times: u32,
}

impl<S: Scratch> Collisions<S> {
    pub(super) fn new(
        disk: Disk<Capped<S>>,
        last: Vec<Option<Place>>,
        places: Vec<Option<u32>>,
        sources: u32,
        memory: usize,
    ) -> Self {
        // One fingerprint has a mark for each place at the most: then half of the marks are free.
        let least = 2 * (sources as usize + 2);
        let most = (memory / size_of::<Mark>()).max(least);
        Self {
            disk,
            last,
            places,
            target: sources,
            range: Range::FIRST,
            marks: Vec::new(),
            most,
            found: Found::default(),
        }
    }

    /// Compares some more. `false`: that was all.
    ///
    /// # Errors
    /// If the disk cannot be read, or gives back what was not written. Nothing more can be learned then.
    pub fn compare(&mut self) -> Result<bool, LedgerError> {
        let Some(bucket) = self.range.bucket() else { return Ok(false) };
        let last = self.last.get(bucket).copied().flatten();
        self.gather(last)?;
        let wanted = self.judge();
        self.name(last, wanted)?;
        self.range.advance();
        Ok(true)
    }

    /// What was found so far.
    #[must_use]
    pub fn found(mut self) -> Found {
        self.found.named.sort_unstable();
        self.found
    }

    /// How many bytes of the disk are used.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.disk.len()
    }

    /// Marks all names of the range, which is made narrower until they fit.
    fn gather(&mut self, last: Option<Place>) -> Result<(), LedgerError> {
        self.marks.clear();
        let mut chain = Chain::at(last);
        while let Some(rest) = chain.rest_with(&mut self.disk)? {
            let Some((record, len)) = Record::first(rest) else { return Err(chain.damaged()) };
            let place = self.places.get(record.reading as usize).copied().flatten();
            let print = fingerprint(record.db, record.name);
            chain.give(len);
            let Some(place) = place.filter(|_| self.range.holds(print)) else { continue };
            if self.marks.len() >= self.most {
                self.compact();
                if self.marks.len() > self.most / 2 && !self.range.is_single() {
                    self.range.halve();
                    self.marks.clear();
                    chain = Chain::at(last);
                    continue;
                }
            }
            self.make_room();
            self.marks.push(Mark { print, place, times: 1 });
        }
        self.compact();
        Ok(())
    }

    /// Grows as a vector does, but not beyond what fits.
    fn make_room(&mut self) {
        let (len, now) = (self.marks.len(), self.marks.capacity());
        if len == now {
            let wanted = now.saturating_mul(2).max(1024).min(self.most.max(len + 1));
            self.marks.reserve_exact(wanted.saturating_sub(len).max(1));
        }
    }

    /// Sorts the marks, and leaves one of each name and place.
    fn compact(&mut self) {
        self.marks.sort_unstable();
        let target = self.target;
        self.marks.dedup_by(|next, kept| {
            let is_same = (next.print, next.place) == (kept.print, kept.place);
            // SCAN may give a key more than once.
            if is_same && kept.place != target {
                kept.times = kept.times.saturating_add(next.times);
            }
            is_same
        });
    }

    /// Counts the collisions of the range, and gives the fingerprints of those that are to be named, in order, with where they are.
    fn judge(&mut self) -> Vec<(u128, Vec<u32>)> {
        let mut wanted = Vec::new();
        let found = &mut self.found;
        for group in self.marks.chunk_by(|one, next| one.print == next.print) {
            found.names += 1;
            if let [Mark { times: 1, .. }] = group {
                continue;
            }
            found.colliding += 1;
            let in_sources = |mark: &&Mark| mark.place != self.target;
            let keys: u64 = group.iter().filter(in_sources).map(|mark| u64::from(mark.times)).sum();
            found.between_sources += u64::from(keys > 1);
            found.with_target += u64::from(group.iter().any(|mark| mark.place == self.target));
            for (at, first) in group.iter().enumerate() {
                if first.times > 1 {
                    *found.pairs.entry((first.place, first.place)).or_default() += 1;
                }
                for second in group.iter().skip(at + 1) {
                    *found.pairs.entry((first.place, second.place)).or_default() += 1;
                }
            }
            if let (Some(mark), true) = (group.first(), found.named.len() + wanted.len() < NAMED) {
                let twice =
                    |mark: &Mark| std::iter::repeat_n(mark.place, mark.times.min(2) as usize);
                wanted.push((mark.print, group.iter().flat_map(twice).collect()));
            }
        }
        wanted
    }

    /// Looks up the names of these.
    fn name(
        &mut self,
        last: Option<Place>,
        mut wanted: Vec<(u128, Vec<u32>)>,
    ) -> Result<(), LedgerError> {
        let mut left = wanted.len();
        let mut chain = Chain::at(last);
        while left > 0 {
            let Some(rest) = chain.rest_with(&mut self.disk)? else { break };
            let Some((record, len)) = Record::first(rest) else { return Err(chain.damaged()) };
            let print = fingerprint(record.db, record.name);
            if let Ok(at) = wanted.binary_search_by_key(&print, |(print, _)| *print)
                && let Some((_, places)) =
                    wanted.get_mut(at).filter(|(_, places)| !places.is_empty())
            {
                let name = record.name.get(..NAME).unwrap_or(record.name).to_vec();
                let places = std::mem::take(places);
                self.found.named.push(Collision { db: record.db, name, places });
                left -= 1;
            }
            chain.give(len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::names::{Batch, Names, Reading};
    use super::*;
    use crate::ledger::tests::Memory;

    type Key = (u32, Vec<u8>);

    /// What the model says: each reading brings these keys.
    fn model(readings: &[(Option<u32>, Vec<Key>)], target: u32) -> Found {
        let mut held: BTreeMap<&Key, BTreeMap<u32, u32>> = BTreeMap::new();
        for (place, keys) in readings {
            let Some(place) = place else { continue };
            for key in keys {
                let times = held.entry(key).or_default().entry(*place).or_default();
                *times = if *place == target { 1 } else { *times + 1 };
            }
        }
        let mut found = Found { names: held.len() as u64, ..Found::default() };
        for ((db, name), places) in held {
            if places.values().sum::<u32>() < 2 {
                continue;
            }
            found.colliding += 1;
            let in_sources: u32 =
                places.iter().filter(|(p, _)| **p != target).map(|(_, t)| t).sum();
            found.between_sources += u64::from(in_sources > 1);
            found.with_target += u64::from(places.contains_key(&target));
            let mut all = Vec::new();
            for (&first, &times) in &places {
                all.extend(vec![first; times.min(2) as usize]);
                if times > 1 {
                    *found.pairs.entry((first, first)).or_default() += 1;
                }
                for (&second, _) in places.range(first + 1..) {
                    *found.pairs.entry((first, second)).or_default() += 1;
                }
            }
            found.named.push(Collision { db: Db::new(*db), name: name.clone(), places: all });
        }
        found.named.sort();
        found
    }

    fn noted(
        disk: &Memory,
        memory: usize,
        limit: u64,
        readings: &[(Option<u32>, Vec<Key>)],
    ) -> Result<Names<Memory>, LedgerError> {
        let mut names = Names::new(disk.clone(), memory, limit);
        for (number, (_, keys)) in (0..).zip(readings) {
            for keys in keys.chunks(7) {
                let mut batch = Batch::default();
                keys.iter()
                    .for_each(|(db, name)| batch.push(Reading::new(number), Db::new(*db), name));
                names.note(&batch)?;
            }
        }
        Ok(names)
    }

    fn compared(
        disk: &Memory,
        memory: usize,
        readings: &[(Option<u32>, Vec<Key>)],
        sources: u32,
    ) -> Result<Found, LedgerError> {
        let names = noted(disk, memory, u64::MAX, readings)?;
        let places = readings.iter().map(|(place, _)| *place).collect();
        let mut collisions = names.compare(places, sources, memory)?;
        while collisions.compare()? {
            assert!(collisions.marks.capacity() <= collisions.most);
        }
        Ok(collisions.found())
    }

    fn readings() -> impl Strategy<Value = Vec<(Option<u32>, Vec<Key>)>> {
        let key = (0_u32..3, prop::collection::vec(b'a'..b'f', 0..4));
        let keys = prop::collection::vec(key, 0..60);
        prop::collection::vec((prop::option::weighted(0.8, 0_u32..5), keys), 0..7)
    }

    proptest! {
        #[test]
        fn collisions_are_those_of_the_model(
            readings in readings(),
            // From what keeps one name of a bucket in memory to what keeps all.
            memory in prop::sample::select(vec![0, 300, 4 << 10, 64 << 10, 1 << 20]),
        ) {
            // Four sources, and the target.
            let found = compared(&Memory::default(), memory, &readings, 4).unwrap();
            let mut model = model(&readings, 4);
            if model.named.len() > NAMED {
                prop_assert_eq!(found.named.len(), NAMED);
                prop_assert!(found.named.iter().all(|one| model.named.contains(one)));
                model.named.clone_from(&found.named);
            }
            prop_assert_eq!(found, model);
        }

        #[test]
        fn a_disk_that_fails_is_an_error_and_never_other_figures(
            readings in readings(),
            fails in 1_u64..40,
        ) {
            match compared(&Memory::failing(fails), 300, &readings, 4) {
                Ok(found) => {
                    let model = model(&readings, 4);
                    prop_assert_eq!((found.names, found.pairs), (model.names, model.pairs));
                }
                Err(error) => prop_assert!(matches!(error, LedgerError::Scratch(_))),
            }
        }
    }

    /// One name a million times, as no server says it, takes neither more memory nor more time than others.
    #[test]
    fn one_name_over_and_over_fits() {
        let keys = vec![(0, b"same".to_vec()); 20_000];
        let readings = [(Some(0), keys.clone()), (Some(1), keys)];
        let found = compared(&Memory::default(), 8 << 10, &readings, 2).unwrap();
        assert_eq!((found.names, found.colliding, found.pairs.len()), (1, 1, 3));
        assert_eq!(found.named[0].places, [0, 0, 1, 1]);
    }

    #[test]
    fn many_names_are_gone_through_range_by_range() {
        let keys =
            |from: u32, to| (from..to).map(|n: u32| (0, n.to_string().into_bytes())).collect();
        let readings =
            [(Some(0), keys(0, 9000)), (None, keys(0, 500)), (Some(1), keys(8000, 12_000))];
        let found = compared(&Memory::default(), 1 << 10, &readings, 2).unwrap();
        assert_eq!((found.names, found.colliding), (12_000, 1000));
        assert_eq!(found.pairs, BTreeMap::from([((0, 1), 1000)]));
        assert_eq!(found.named.len(), NAMED);
    }

    #[test]
    fn long_names_are_cut_and_still_told_apart() {
        let name = |last| [vec![b'x'; 5000], vec![last]].concat();
        let readings = [(Some(0), vec![(7, name(1)), (7, name(2))]), (Some(1), vec![(7, name(2))])];
        let found = compared(&Memory::default(), 1 << 10, &readings, 2).unwrap();
        assert_eq!((found.names, found.colliding), (2, 1));
        assert_eq!((found.named[0].db, found.named[0].name.len()), (Db::new(7), NAME));
    }

    #[test]
    fn no_more_of_the_disk_is_used_than_may_be() {
        let keys: Vec<Key> = (0..5000_u32).map(|n| (0, n.to_string().into_bytes())).collect();
        let readings = [(Some(0), keys)];
        let on_disk = noted(&Memory::default(), 4 << 10, u64::MAX, &readings).unwrap().on_disk();
        assert!(on_disk > 30_000);
        let limit = on_disk - 1;
        match noted(&Memory::default(), 4 << 10, limit, &readings).unwrap_err() {
            LedgerError::Scratch(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
                assert!(error.to_string().contains(&limit.to_string()), "{error}");
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_no_record_is_damage() {
        assert!(Record::first(b"").is_none());
        assert!(Record::first(b"\x01\x00\x05four").is_none());
        assert!(Record::first(b"\x01\xc0\x00").is_none());
        let (record, len) = Record::first(b"\x01\x40\x50\x02abrest").unwrap();
        assert_eq!((record.reading, record.db, record.name, len), (1, Db::new(80), &b"ab"[..], 6));
    }
}
