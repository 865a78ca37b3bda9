//! The comparison of what was noted: range by range of fingerprints, each as wide as fits into the memory.

use crate::key::{Db, fingerprint};
use crate::ledger::bucket::{Chain, Disk, Place, Range};
use crate::ledger::capped::Capped;
use crate::ledger::{LedgerError, Scratch};

use super::difference::{Kind, Measure};
use super::digest::Content;
use super::notes::Noted;

/// What each reading was a reading of, and how its deadlines are measured.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// For each reading, by its number: the source's place in the plan, or their number for the target; `None` for a reading that does not count.
    pub readings: Vec<Option<u32>>,
    /// By source: how what it holds is measured.
    pub measures: Vec<Measure>,
}

/// The comparison of all keys that were noted.
#[derive(Debug)]
pub struct Comparison<S> {
    disk: Disk<Capped<S>>,
    /// The last block of each bucket.
    last: Vec<Option<Place>>,
    places: Places,
    range: Range,
    marks: Vec<Mark>,
    /// How many of them fit into the memory.
    most: usize,
    /// How many bytes of names are given at once.
    room: usize,
    /// Of the range, in order of the fingerprints: what differs and has not been given.
    differ: Vec<Differs>,
    given: usize,
    /// The last block of the range's bucket.
    chain: Option<Place>,
    counts: Counts,
}

/// What was compared so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that sources hold, each name counted once.
    pub expected: u64,
    /// Keys that the target holds.
    pub found: u64,
    /// Keys that are the same on both sides.
    pub same: u64,
    /// Names that several sources hold: the first of them counts.
    pub shared: u64,
}

/// A key that differed when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// What differed.
    pub kind: Kind,
    /// The target's database.
    pub db: Db,
    /// The name there.
    pub name: Vec<u8>,
    /// Whose key it is, by its place in the plan, and its name there; `None` if no source holds it.
    pub source: Option<(u32, Vec<u8>)>,
    /// What the source held.
    pub expected: Held,
    /// What the target held.
    pub found: Held,
}

impl Suspect {
    /// Whether it was written since its source was read, so that it must be read of both sides: it need not differ, nor be there.
    #[must_use]
    pub fn was_written(&self) -> bool {
        self.expected.is_some_and(|(content, _)| content == Content::WRITTEN)
    }
}

/// What a side holds under a name: its value, and when it dies.
pub type Held = Option<(Content, Option<i64>)>;

/// A key of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    print: u128,
    place: u32,
    /// How long its names are.
    len: u32,
    content: Content,
    deadline: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Differs {
    print: u128,
    kind: Kind,
    /// Whose record has the names.
    place: u32,
    len: u32,
    expected: Held,
    found: Held,
}

impl<S: Scratch> Comparison<S> {
    pub(super) fn new(
        disk: Disk<Capped<S>>,
        last: Vec<Option<Place>>,
        places: Places,
        memory: usize,
    ) -> Self {
        let each = size_of::<Mark>() + size_of::<Differs>();
        // One fingerprint has a mark for each place at the most: then half of the marks are free.
        let least = 2 * (places.measures.len() + 2);
        let most = (memory / 4 * 3 / each).max(least);
        Self {
            disk,
            last,
            places,
            range: Range::FIRST,
            marks: Vec::new(),
            most,
            room: memory / 4,
            differ: Vec::new(),
            given: 0,
            chain: None,
            counts: Counts::default(),
        }
    }

    /// Compares on, until there is something that differs. `None`: that was all. Their names take a fourth of the memory, or there is one.
    ///
    /// # Errors
    /// If the disk cannot be read, or gives back what was not written. Nothing more can be learned then.
    pub fn compare(&mut self) -> Result<Option<Vec<Suspect>>, LedgerError> {
        while self.given == self.differ.len() {
            let Some(bucket) = self.range.bucket() else { return Ok(None) };
            self.chain = self.last.get(bucket).copied().flatten();
            (self.given, self.differ) = (0, Vec::new());
            self.gather()?;
            self.judge();
            self.range.advance();
        }
        self.name().map(Some)
    }

    /// What was compared so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many bytes of the disk are used.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.disk.len()
    }

    /// Marks all keys of the range, which is made narrower until they fit.
    fn gather(&mut self) -> Result<(), LedgerError> {
        self.marks.clear();
        let mut chain = Chain::at(self.chain);
        while let Some(rest) = chain.rest_with(&mut self.disk)? {
            let Some((noted, len)) = Noted::first(rest) else { return Err(chain.damaged()) };
            let print = fingerprint(noted.db, noted.name);
            let (content, deadline) = (noted.content, noted.deadline);
            let names = noted.name.len() + noted.origin.map_or(0, <[u8]>::len);
            let place = self.places.readings.get(noted.reading as usize).copied().flatten();
            chain.give(len);
            let Some(place) = place.filter(|_| self.range.holds(print)) else { continue };
            if self.marks.len() >= self.most {
                self.compact();
                if self.marks.len() > self.most / 2 && !self.range.is_single() {
                    self.range.halve();
                    self.marks.clear();
                    chain = Chain::at(self.chain);
                    continue;
                }
            }
            let len = u32::try_from(names).unwrap_or(u32::MAX);
            if self.marks.len() == self.marks.capacity() {
                let more = self.marks.len().clamp(1024, self.most.max(1024));
                self.marks.reserve_exact(more);
            }
            self.marks.push(Mark { print, place, len, content, deadline });
        }
        self.compact();
        Ok(())
    }

    /// Sorts the marks, and leaves one of each name and place: SCAN may give a key more than once, and what was written since it was read counts as
    /// that.
    fn compact(&mut self) {
        self.marks.sort_unstable();
        self.marks.dedup_by(|next, first| {
            let is_same = (next.print, next.place) == (first.print, first.place);
            if is_same && next.content == Content::WRITTEN {
                *first = *next;
            }
            is_same
        });
    }

    /// Compares what is marked.
    fn judge(&mut self) {
        let target = u32::try_from(self.places.measures.len()).unwrap_or(u32::MAX);
        for group in self.marks.chunk_by(|one, next| one.print == next.print) {
            // The target's is the last.
            let (in_target, sources) = match group.split_last() {
                Some((mark, sources)) if mark.place == target => (Some(mark), sources),
                _ => (None, group),
            };
            let counts = &mut self.counts;
            // Of what was written since, nobody knows whether it is there.
            let is_there = sources.first().is_some_and(|mark| mark.content != Content::WRITTEN);
            counts.expected += u64::from(is_there);
            counts.found += u64::from(in_target.is_some());
            counts.shared += u64::from(sources.len() > 1);
            let Some(mark) = sources.first().or(in_target) else { continue };
            let measure = self.places.measures.get(mark.place as usize);
            let measure = measure.copied().unwrap_or_default();
            let [expected, found] = [sources.first(), in_target]
                .map(|side| side.map(|mark| (mark.content, mark.deadline)));
            let Some(kind) = measure.differs(expected, found) else {
                counts.same += 1;
                continue;
            };
            let Mark { print, place, len, .. } = *mark;
            self.differ.push(Differs { print, kind, place, len, expected, found });
        }
    }

    /// Looks up the names of the next of those that differ.
    fn name(&mut self) -> Result<Vec<Suspect>, LedgerError> {
        let left = self.differ.get(self.given..).unwrap_or_default();
        let mut room = self.room;
        let fits = |(number, one): &(usize, &Differs)| {
            let bytes = one.len as usize + size_of::<Suspect>();
            let fits = *number == 0 || bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let wanted = left.iter().enumerate().take_while(fits).count();
        let wanted = left.get(..wanted).unwrap_or_default();
        let target = u32::try_from(self.places.measures.len()).unwrap_or(u32::MAX);
        let mut found: Vec<Option<Suspect>> = vec![None; wanted.len()];
        let mut chain = Chain::at(self.chain);
        let mut missing = wanted.len();
        while missing > 0 {
            let Some(rest) = chain.rest_with(&mut self.disk)? else { break };
            let Some((noted, len)) = Noted::first(rest) else { return Err(chain.damaged()) };
            let print = fingerprint(noted.db, noted.name);
            let place = self.places.readings.get(noted.reading as usize).copied().flatten();
            if let Ok(at) = wanted.binary_search_by_key(&print, |one| one.print)
                && let (Some(one), Some(place_of)) = (wanted.get(at), found.get_mut(at))
                && place_of.is_none()
                && place == Some(one.place)
            {
                let origin = || noted.origin.unwrap_or(noted.name).to_vec();
                let source = (one.place != target).then(|| (one.place, origin()));
                let (db, name) = (noted.db, noted.name.to_vec());
                let Differs { kind, expected, found, .. } = *one;
                *place_of = Some(Suspect { kind, db, name, source, expected, found });
                missing -= 1;
            }
            chain.give(len);
        }
        self.given += wanted.len();
        Ok(found.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::notes::tests::content;
    use super::super::notes::{Batch, Notes};
    use super::*;
    use crate::ledger::tests::Memory;

    const SOURCES: u32 = 3;

    #[derive(Clone, Debug)]
    struct Key {
        place: u32,
        db: u32,
        name: Vec<u8>,
        content: Content,
        deadline: Option<i64>,
    }

    fn key() -> impl Strategy<Value = Key> {
        let name = prop::collection::vec(b'a'..b'd', 0..3);
        let content = prop_oneof![4 => content(), 1 => Just(Content::WRITTEN)];
        (0..=SOURCES, 0_u32..2, name, content, prop::option::of(0_i64..5)).prop_map(
            |(place, db, name, content, deadline)| Key { place, db, name, content, deadline },
        )
    }

    type Differing = BTreeMap<(u32, Vec<u8>), (Kind, Option<(u32, Vec<u8>)>)>;

    /// The name of a key on its source.
    fn origin(key: &Key) -> Vec<u8> {
        [b"from:", key.name.as_slice()].concat()
    }

    /// What the model says.
    fn model(keys: &[Key], measures: &[Measure]) -> (Counts, Differing) {
        let mut held: BTreeMap<(u32, Vec<u8>), BTreeMap<u32, &Key>> = BTreeMap::new();
        for key in keys {
            let sides = held.entry((key.db, key.name.clone())).or_default();
            let known = sides.entry(key.place).or_insert(key);
            let order = |key: &Key| (key.content != Content::WRITTEN, key.content, key.deadline);
            if order(key) < order(known) {
                *known = key;
            }
        }
        let (mut counts, mut differ) = (Counts::default(), Differing::new());
        for (name, mut sides) in held {
            let found = sides.remove(&SOURCES);
            counts.found += u64::from(found.is_some());
            let source = sides.first_key_value().map(|(_, key)| *key);
            let is_known = source.is_some_and(|key| key.content != Content::WRITTEN);
            counts.expected += u64::from(is_known);
            counts.shared += u64::from(sides.len() > 1);
            let kind = match (source, found) {
                (Some(source), Some(found)) => {
                    let sides = [source, found].map(|key| (key.content, key.deadline));
                    measures[source.place as usize].difference(sides)
                }
                (Some(_), None) => Some(Kind::Missing),
                _ => Some(Kind::Extra),
            };
            match kind {
                Some(kind) => {
                    differ.insert(name, (kind, source.map(|key| (key.place, origin(key)))));
                }
                None => counts.same += 1,
            }
        }
        (counts, differ)
    }

    fn compared(
        keys: &[Key],
        measures: &[Measure],
        memory: usize,
        disk: &Memory,
    ) -> Result<(Counts, Differing), LedgerError> {
        let mut notes = Notes::new(disk.clone(), memory, u64::MAX);
        for keys in keys.chunks(5) {
            let mut batch = Batch::default();
            for key in keys {
                let origin = origin(key);
                let of_source = (key.place < SOURCES).then_some(origin.as_slice());
                let (db, name) = (Db::new(key.db), key.name.as_slice());
                let Key { content, deadline, .. } = *key;
                // The readings in between broke off.
                let reading = 2 * key.place + 1;
                batch.push(&Noted { reading, db, name, origin: of_source, content, deadline });
                let content = Content { digest: !content.digest, ..content };
                let reading = 2 * key.place;
                batch.push(&Noted { reading, db, name, origin: None, content, deadline: None });
            }
            notes.note(&batch)?;
        }
        let readings = (0..=SOURCES).flat_map(|place| [None, Some(place)]).collect();
        let places = Places { readings, measures: measures.to_vec() };
        let mut comparison = notes.compare(places, memory)?;
        let mut differ = Differing::new();
        while let Some(suspects) = comparison.compare()? {
            assert!(!suspects.is_empty());
            for Suspect { kind, db, name, source, .. } in suspects {
                assert!(differ.insert((db.index(), name), (kind, source)).is_none());
            }
        }
        Ok((comparison.counts(), differ))
    }

    proptest! {
        #[test]
        fn what_differs_is_what_the_model_says(
            keys in prop::collection::vec(key(), 0..80),
            tolerance in prop::option::of(0_i64..3),
            // From what keeps one key of a bucket in memory to what keeps all.
            memory in prop::sample::select(vec![0, 300, 4 << 10, 64 << 10, 1 << 20]),
        ) {
            let measures = [Measure { tolerance }, Measure::default(), Measure { tolerance: None }];
            let found = compared(&keys, &measures, memory, &Memory::default()).unwrap();
            prop_assert_eq!(found, model(&keys, &measures));
        }

        #[test]
        fn a_disk_that_fails_is_an_error_and_never_another_result(
            keys in prop::collection::vec(key(), 0..80),
            fails in 1_u64..40,
        ) {
            let measures = [Measure::default(); SOURCES as usize];
            match compared(&keys, &measures, 300, &Memory::failing(fails)) {
                Ok(found) => prop_assert_eq!(found, model(&keys, &measures)),
                Err(error) => prop_assert!(matches!(error, LedgerError::Scratch(_))),
            }
        }
    }
}
