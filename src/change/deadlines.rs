//! Deadlines, held back.
//!
//! The source decides when a key dies. A copy is late: a key whose deadline was renewed on the source while its old one was
//! on the way would die in the target, and the renewal find nothing. So until a run is finished a deadline D that may come meanwhile stands
//! in the target as D + [`SHIFT`], 1,115 years later, and the source's own deletions are played as they come. At the end
//! each is set to what it is.
//!
//! ```text
//! f(D) = D + SHIFT   if D < horizon
//!        D           else
//! ```
//! With the horizon [`LIVE`] none is held back, with [`ALL`] every one: then rules say what becomes of them at the end, and not before
//! ([`Ttl`](crate::plan::Ttl)). Where the clocks of both sides differ, D is the source's deadline and that difference: a key lives
//! as long as it does on the source, and longer by what the rules add.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::key::Db;

/// By how much a deadline is held back, in milliseconds: 2^45. Every server from 2.8 on keeps such a deadline to the
/// millisecond, for keys and for fields of hashes.
pub const SHIFT: i64 = 1 << 45;

/// The horizon of a job that holds nothing back: what is in the target dies as its deadlines say, be they renewed meanwhile or not.
pub const LIVE: i64 = 0;

/// The horizon of a job that holds all deadlines back, up to the year 3084. What lies behind it and looks like one that is held back, up to 4199,
/// comes in 3084; what lies behind that too stays as it is, unless it is to be bounded.
pub const ALL: i64 = SHIFT;

/// Whether a horizon comes nearer, and must be moved before it is there: so it is but for [`LIVE`] and [`ALL`].
#[must_use]
pub const fn comes_nearer(horizon: i64) -> bool {
    horizon != LIVE && horizon < ALL
}

/// Which deadlines are held back, and of which keys.
#[derive(Debug)]
pub struct Deadlines {
    horizon: i64,
    /// How far the target's clock is ahead of the source's.
    apart: i64,
    /// By how much later the rules want each deadline.
    extends: i64,
    /// At the end none is later than the rules allow.
    bounded: bool,
    held: Names,
    fields: Names,
    unsure: Names,
    /// This source has sent a deadline that must be asked.
    was_unsure: bool,
    /// While deadlines in the target are walked through: keys that have come by another key's, maybe behind the walk.
    moved: Option<Names>,
    /// What their names may take.
    for_moved: usize,
}

impl Deadlines {
    /// Deadlines before `horizon` (Unix time in milliseconds, on the target's clock) are held back. The names are
    /// remembered while they fit into so many bytes, most of which are for the keys that are held back: a copy brings them all.
    #[must_use]
    pub fn new(horizon: i64, memory: usize) -> Self {
        Self {
            horizon,
            apart: 0,
            extends: 0,
            bounded: false,
            held: Names::within(memory / 8 * 5),
            fields: Names::within(memory / 8),
            unsure: Names::within(memory / 8),
            was_unsure: false,
            moved: None,
            for_moved: memory / 8,
        }
    }

    /// The same names, and deadlines before this are held back.
    #[must_use]
    pub fn until(mut self, horizon: i64) -> Self {
        self.horizon = horizon;
        self
    }

    /// The target's clock is so many milliseconds ahead of the source's.
    pub fn set_apart(&mut self, apart: i64) {
        self.apart = apart;
    }

    /// How far the target's clock is ahead of the source's, in milliseconds.
    #[must_use]
    pub fn apart(&self) -> i64 {
        self.apart
    }

    /// By how many milliseconds each deadline is later in the target.
    #[must_use]
    pub fn extension(&self) -> i64 {
        self.extends
    }

    /// Each deadline is so many milliseconds later in the target.
    pub fn set_extension(&mut self, extends: i64) {
        self.extends = extends;
    }

    /// At the end no deadline shall be later than rules allow: those that lie however far ahead are held back too.
    pub fn set_bounded(&mut self, bounded: bool) {
        self.bounded = bounded;
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// A time of day on the source's clock, on the target's.
    #[must_use]
    pub fn on_target(&self, at_ms: i64) -> i64 {
        at_ms.saturating_add(self.apart)
    }

    /// A deadline of the source, as it shall be in the target.
    fn meant(&self, at_ms: i64) -> i64 {
        self.on_target(at_ms).saturating_add(self.extends)
    }

    /// Others have held back deadlines too, and nobody has kept the names.
    #[must_use]
    pub fn of_others(mut self) -> Self {
        self.held.overflow();
        self.fields.overflow();
        self
    }

    /// Others have left deadlines that must be asked, and nobody has kept the names.
    pub fn forget_unsure(&mut self) {
        self.was_unsure = true;
        self.unsure.overflow();
    }

    /// Whether a deadline has come that must be asked.
    #[must_use]
    pub fn was_unsure(&self) -> bool {
        self.was_unsure
    }

    /// Where the deadline of a key stands until the run is finished.
    pub fn hold(&mut self, db: Db, key: &[u8], at_ms: i64) -> i64 {
        let at_ms = self.meant(at_ms);
        let far = self.horizon == ALL && (self.bounded || at_ms < ALL + SHIFT);
        if at_ms >= self.horizon && !far {
            return at_ms;
        }
        self.held.note(db, key);
        at_ms.min(self.horizon - 1).saturating_add(SHIFT)
    }

    /// Where the deadline of a field of the hash `key` stands until the run is finished. All of them are held back, since
    /// conditions compare them with each other.
    pub fn hold_field(&mut self, db: Db, key: &[u8], at_ms: i64) -> i64 {
        let at_ms = self.meant(at_ms);
        if self.horizon == LIVE {
            return at_ms;
        }
        self.fields.note(db, key);
        let at_ms = if self.bounded { at_ms.min(ALL - 1) } else { at_ms };
        at_ms.saturating_add(SHIFT)
    }

    /// A key may have come by another key's deadlines: by `RENAME`, `COPY` or `MOVE`.
    pub fn inherits(&mut self, db: Db, key: &[u8]) {
        if let Some(moved) = &mut self.moved {
            moved.note(db, key);
        }
        if self.horizon != LIVE {
            self.held.note(db, key);
            self.fields.note(db, key);
        }
        if self.was_unsure {
            self.unsure.note(db, key);
        }
    }

    /// The deadline of a key is only near what it is on the source, which said "so long from now": it must be asked.
    pub fn unsure(&mut self, db: Db, key: &[u8]) {
        self.was_unsure = true;
        self.unsure.note(db, key);
    }

    /// Two databases change places. Every name in one of them may now be in the other.
    pub fn swap(&mut self, one: Db, other: Db) {
        for names in [&mut self.held, &mut self.fields, &mut self.unsure] {
            names.swap(one, other);
        }
        // Whatever was walked through in one of them is in the other now.
        if let Some(moved) = &mut self.moved {
            moved.overflow();
        }
    }

    /// The horizon moves to here: from now on deadlines before it are held back, and it is noted which keys come by another key's. Which of those
    /// in the target it passes is found out there, so the names are no list any more.
    pub fn move_horizon(&mut self, horizon: i64) {
        self.horizon = horizon;
        self.held.overflow();
        self.moved = Some(Names::within(self.for_moved));
    }

    /// The keys that have come by another key's deadline since the horizon moved; noting goes on.
    pub fn take_moved(&mut self) -> Option<Names> {
        Some(self.moved.as_mut()?.take())
    }

    /// No more is noted.
    pub fn horizon_has_moved(&mut self) {
        self.moved = None;
    }

    /// Deadlines before this are held back.
    #[must_use]
    pub fn horizon(&self) -> i64 {
        self.horizon
    }

    /// The greatest value, exclusive, that a deadline of a key can have because it is held back.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.horizon.saturating_add(SHIFT)
    }

    /// The keys whose deadlines are held back.
    #[must_use]
    pub fn held(&self) -> &Names {
        &self.held
    }

    /// The hashes with fields whose deadlines are held back.
    #[must_use]
    pub fn fields(&self) -> &Names {
        &self.fields
    }

    /// How many keys, and hashes with such fields, are held back at the most; `None` if there are more than were counted.
    #[must_use]
    pub fn held_back(&self) -> Option<u64> {
        Some((self.held.len()? + self.fields.len()?) as u64)
    }

    /// Whether a deadline must be asked of the source.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    /// Takes the keys whose deadlines must be asked of the source.
    pub fn take_unsure(&mut self) -> Names {
        self.unsure.take()
    }
}

/// Names of keys, each once, while they fit.
#[derive(Debug, Default)]
pub struct Names {
    /// Database and length, and the name, one after the other.
    bytes: Vec<u8>,
    /// Where in them each name begins, by its hash: four bytes a name, since they are many.
    places: HashTable<u32>,
    hasher: RandomState,
    /// What all of it may take.
    memory: usize,
    overflowed: bool,
}

impl Names {
    fn within(memory: usize) -> Self {
        Self { memory, ..Self::default() }
    }

    fn note(&mut self, db: Db, key: &[u8]) {
        if self.overflowed {
            return;
        }
        let Self { bytes, places, hasher, .. } = self;
        let named = |at: u32| bytes.get(to_usize(at)..).and_then(first_name);
        let hash = |db: Db, key: &[u8]| hasher.hash_one((db, key));
        let is_same = |at: &u32| named(*at).is_some_and(|(of, name, _)| (of, name) == (db, key));
        let of_hash = hash(db, key);
        if places.find(of_hash, is_same).is_some() {
            return;
        }
        // A table that is full is built anew, twice as large.
        let table = match places.allocation_size() {
            size if places.len() == places.capacity() => 2 * size,
            size => size,
        };
        let (Ok(at), Ok(len)) = (u32::try_from(bytes.len()), u32::try_from(key.len())) else {
            return self.overflow();
        };
        if bytes.len() + HEAD + key.len() + table > self.memory {
            return self.overflow();
        }
        places.insert_unique(of_hash, at, |&at| named(at).map_or(0, |(db, key, _)| hash(db, key)));
        bytes.extend_from_slice(&db.index().to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(key);
    }

    fn swap(&mut self, one: Db, other: Db) {
        let mut moved = Vec::new();
        for (db, key) in self.iter().into_iter().flatten() {
            if db == one {
                moved.push((other, key.to_vec()));
            } else if db == other {
                moved.push((one, key.to_vec()));
            }
        }
        for (db, key) in moved {
            self.note(db, &key);
        }
    }

    fn overflow(&mut self) {
        *self = Self { overflowed: true, ..Self::within(self.memory) };
    }

    /// All names; from now on others are noted.
    fn take(&mut self) -> Self {
        let memory = self.memory;
        std::mem::replace(self, Self::within(memory))
    }

    /// The names, in the order in which they came; `None` if there were more than fit.
    pub fn iter(&self) -> Option<impl Iterator<Item = (Db, &[u8])>> {
        if self.overflowed {
            return None;
        }
        let mut rest = self.bytes.as_slice();
        Some(std::iter::from_fn(move || {
            let (db, name, len) = first_name(rest)?;
            rest = rest.get(len..)?;
            Some((db, name))
        }))
    }

    /// The names that stand at byte `at` of the list and after it: at most so many, of one database; and where the next
    /// ones stand. None at its end.
    #[must_use]
    pub fn page(&self, at: usize, most: usize) -> (Db, Vec<&[u8]>, usize) {
        let mut names = Vec::new();
        let (mut db, mut next) = (Db::default(), at);
        while names.len() < most {
            let Some((of, name, len)) = self.bytes.get(next..).and_then(first_name) else { break };
            if names.is_empty() {
                db = of;
            } else if of != db {
                break;
            }
            names.push(name);
            next += len;
        }
        (db, names, next)
    }

    /// How many there are; `None` if there were more than fit.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        (!self.overflowed).then_some(self.places.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// The first name of a list, and how many bytes it takes there.
fn first_name(list: &[u8]) -> Option<(Db, &[u8], usize)> {
    let (db, after) = list.split_first_chunk::<4>()?;
    let (len, after) = after.split_first_chunk::<4>()?;
    let name = after.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    Some((Db::new(u32::from_le_bytes(*db)), name, HEAD + name.len()))
}

/// What stands before each name: its database and its length, four bytes each.
const HEAD: usize = 8;

/// Where a name begins. Where an address is shorter than that there is no such place.
fn to_usize(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_soon_is_held_back_and_named() {
        let mut deadlines = Deadlines::new(1000, 1 << 16);
        assert_eq!(deadlines.hold(Db::new(1), b"soon", 999), 999 + SHIFT);
        assert_eq!(deadlines.hold(Db::new(1), b"soon", 10), 10 + SHIFT);
        assert_eq!(deadlines.hold(Db::new(0), b"late", 1000), 1000);
        let held: Vec<_> = deadlines.held().iter().unwrap().collect();
        assert_eq!(held, [(Db::new(1), &b"soon"[..])]);
        assert!(deadlines.fields().is_empty());
        assert_eq!(deadlines.end(), 1000 + SHIFT);
    }

    #[test]
    fn clocks_that_differ_move_every_deadline() {
        let mut deadlines = Deadlines::new(1000, 1 << 16);
        deadlines.set_apart(-100);
        assert_eq!(deadlines.hold(Db::new(0), b"soon", 1099), 999 + SHIFT);
        assert_eq!(deadlines.hold(Db::new(0), b"late", 1100), 1000);
        assert_eq!(deadlines.hold_field(Db::new(0), b"hash", 5000), 4900 + SHIFT);
        let mut live = Deadlines::new(LIVE, 1 << 16);
        live.set_apart(7);
        assert_eq!(live.hold(Db::new(0), b"k", 10), 17);
        assert_eq!(live.hold_field(Db::new(0), b"h", 10), 17);
    }

    #[test]
    fn all_that_is_for_the_end_is_held_back() {
        let mut deadlines = Deadlines::new(ALL, 1 << 16);
        let mut hold = |at| deadlines.hold(Db::new(0), b"k", at);
        assert_eq!([5, ALL - 1].map(&mut hold), [5 + SHIFT, ALL - 1 + SHIFT]);
        // What would be taken for one that is held back.
        assert_eq!([ALL, ALL + SHIFT - 1].map(&mut hold), [ALL - 1 + SHIFT; 2]);
        assert_eq!([ALL + SHIFT, i64::MAX].map(&mut hold), [ALL + SHIFT, i64::MAX]);
        assert_eq!(deadlines.end(), ALL + SHIFT);
        deadlines.set_bounded(true);
        let last = ALL - 1 + SHIFT;
        assert_eq!(deadlines.hold(Db::new(0), b"k", i64::MAX), last);
        assert_eq!(deadlines.hold_field(Db::new(0), b"h", i64::MAX), last);
        assert_eq!(deadlines.hold_field(Db::new(0), b"h", 5), 5 + SHIFT);
    }

    #[test]
    fn what_the_horizon_passes_has_no_name() {
        let mut deadlines = Deadlines::new(1000, 1 << 16);
        deadlines.hold(Db::new(0), b"soon", 999);
        deadlines.hold(Db::new(0), b"passed", 1500);
        assert_eq!(deadlines.held_back(), Some(1));
        deadlines.move_horizon(2000);
        assert_eq!(deadlines.held_back(), None);
    }

    #[test]
    fn more_names_than_fit_are_no_list() {
        let mut deadlines = Deadlines::new(i64::MAX, 400);
        for number in 0..50_u8 {
            deadlines.hold(Db::new(0), &[number], 5);
        }
        assert_eq!(deadlines.held().len(), None);
        assert!(deadlines.held().iter().is_none());
    }

    #[test]
    fn a_name_takes_little_more_than_its_bytes() {
        let mut deadlines = Deadlines::new(i64::MAX, 1 << 20);
        for number in 0..18_000 {
            deadlines.hold(Db::new(0), format!("key:{number:08}").as_bytes(), 5);
        }
        assert_eq!(deadlines.held().len(), Some(18_000));
    }

    #[test]
    fn what_must_be_asked_is_taken_once() {
        let mut deadlines = Deadlines::new(1000, 1 << 16);
        deadlines.unsure(Db::new(0), b"a");
        assert_eq!(deadlines.take_unsure().len(), Some(1));
        assert!(deadlines.take_unsure().is_empty());
        deadlines.unsure(Db::new(0), b"a");
        assert_eq!(deadlines.take_unsure().len(), Some(1));
    }

    proptest! {
        #[test]
        fn every_name_is_kept_once(names in prop::collection::vec((0..3_u32, prop::collection::vec(any::<u8>(), 0..5)), 0..50)) {
            let mut deadlines = Deadlines::new(i64::MAX, 1 << 20);
            let mut first: Vec<(Db, Vec<u8>)> = Vec::new();
            for (db, key) in names {
                let db = Db::new(db);
                deadlines.hold(db, &key, 0);
                if !first.contains(&(db, key.clone())) {
                    first.push((db, key));
                }
            }
            let kept: Vec<_> = deadlines.held().iter().unwrap().map(|(db, key)| (db, key.to_vec())).collect();
            prop_assert_eq!(kept, first);
        }
    }
}
