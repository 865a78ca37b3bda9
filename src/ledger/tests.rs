//! A model: sets of names, and a disk in memory that fails or is damaged. What is missing is the difference of the sets, or an error is
//! said.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A disk in memory. Its clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    reads: usize,
    writes: usize,
    /// One of so many calls fails; 0: none does.
    fails: u64,
    chance: u64,
}

impl Memory {
    pub(crate) fn failing(fails: u64) -> Self {
        Self(Rc::new(RefCell::new(State { fails, chance: 1, ..State::default() })))
    }

    pub(crate) fn set_fails(&self, fails: u64) {
        self.0.borrow_mut().fails = fails;
    }
}

impl State {
    fn judge(&mut self) -> io::Result<()> {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if self.fails > 0 && (self.chance >> 33).is_multiple_of(self.fails) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Scratch for Memory {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.writes += 1;
        let at = usize::try_from(at).unwrap();
        assert!(at <= state.bytes.len(), "a hole");
        let judged = state.judge();
        // Some of it is written though the call fails.
        let written = if judged.is_err() { bytes.len() / 2 } else { bytes.len() };
        let end = (at + written).max(state.bytes.len());
        state.bytes.resize(end, 0);
        state.bytes[at..at + written].copy_from_slice(&bytes[..written]);
        judged
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.reads += 1;
        state.judge()?;
        let rest = usize::try_from(at).ok().and_then(|at| state.bytes.get(at..));
        let bytes = rest.and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

type Name = (Db, Vec<u8>);

fn names(numbers: std::ops::Range<u32>) -> Vec<Name> {
    numbers.map(|n| (Db::new(n % 2), format!("key:{n}").into_bytes())).collect()
}

/// Repeats what fails until it does not.
fn again<T>(mut run: impl FnMut() -> Result<T, LedgerError>) -> T {
    loop {
        match run() {
            Ok(value) => return value,
            Err(LedgerError::Scratch(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Notes and asks, up to where the disk is read.
fn fill(disk: &Memory, memory: usize, noted: &[Name], asked: &[Name]) -> (Missing<Memory>, Page) {
    let mut ledger = Ledger::new(disk.clone(), memory);
    for (db, name) in noted {
        again(|| ledger.note(*db, name));
        assert!(ledger.noted.bytes() <= memory);
    }
    // What takes its value with it cannot be repeated.
    let fails = disk.0.borrow().fails;
    disk.set_fails(0);
    let mut sweep = ledger.sweep().unwrap();
    disk.set_fails(fails);
    let mut at_once = Page::new();
    for (db, name) in asked {
        if again(|| sweep.seen(*db, name)) == Seen::Missing {
            at_once.push((*db, name.clone()));
        }
        assert!(sweep.asked.bytes() <= memory);
    }
    disk.set_fails(0);
    let missing = sweep.finish().unwrap();
    disk.set_fails(fails);
    (missing, at_once)
}

/// What is missing, by pages of so many.
fn missing(
    disk: &Memory,
    memory: usize,
    noted: &[Name],
    asked: &[Name],
    most: usize,
) -> (Page, Page) {
    let (mut missing, at_once) = fill(disk, memory, noted, asked);
    let mut later = Page::new();
    while let Some(page) = again(|| missing.next_page(most)) {
        assert!(page.len() <= most);
        let names: usize = page.iter().map(|(_, name)| name.len() + size_of::<Name>()).sum();
        let last = page.last().map_or(0, |(_, name)| name.len() + size_of::<Name>());
        assert!(names - last <= memory / 4, "{names} bytes in a page");
        let places = missing.left.capacity().div_ceil(7) * 8;
        assert!(places <= 8 || places * 17 <= memory / 2, "{places} places");
        later.extend(page);
    }
    assert!(missing.next_page(most).unwrap().is_none());
    (at_once, later)
}

fn difference(noted: &[Name], asked: &[Name]) -> BTreeSet<Name> {
    let noted: BTreeSet<&Name> = noted.iter().collect();
    let own = |name: &Name| name.1.starts_with(b"understudy:");
    asked.iter().filter(|name| !noted.contains(name) && !own(name)).cloned().collect()
}

fn name() -> impl Strategy<Value = Name> {
    let bytes = prop_oneof![
        8 => prop::collection::vec(b'a'..b'e', 0..4),
        2 => (0..40_usize).prop_map(|len| vec![b'x'; len * 10]),
        1 => (b'a'..b'e').prop_map(|byte| [b"understudy:", &[byte][..]].concat()),
    ];
    (0..2_u32, bytes).prop_map(|(db, bytes)| (Db::new(db), bytes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_missing_is_the_difference(
        noted in prop::collection::vec(name(), 0..300),
        asked in prop::collection::vec(name(), 0..300),
        memory in prop_oneof![Just(0_usize), 0..10_000_usize, 0..200_000_usize],
        most in 1..20_usize,
        fails in prop_oneof![Just(0_u64), 30..300_u64],
    ) {
        let disk = Memory::failing(fails);
        let (at_once, later) = missing(&disk, memory, &noted, &asked, most);
        // Either all answers come at once or all come later, and then each comes once.
        prop_assert!(at_once.is_empty() || later.is_empty());
        let found: BTreeSet<Name> = at_once.iter().chain(&later).cloned().collect();
        prop_assert!(!at_once.is_empty() || found.len() == later.len());
        prop_assert_eq!(found, difference(&noted, &asked));
    }
}

#[test]
fn many_names_pass_through_little_memory() {
    // Each half of what is noted is asked for, twice, and as much that is not.
    let noted = names(0..12_000);
    let asked = [names(6_000..18_000), names(6_000..18_000)].concat();
    for memory in [2_000, 8_000, 64_000] {
        let disk = Memory::default();
        let (at_once, later) = missing(&disk, memory, &noted, &asked, 1000);
        assert!(at_once.is_empty(), "{memory} bytes");
        assert_eq!(later.len(), 6_000, "{memory} bytes");
        assert_eq!(later.into_iter().collect::<BTreeSet<_>>(), difference(&noted, &asked));
    }
}

#[test]
fn what_fits_touches_no_disk_and_is_answered_at_once() {
    // 16 bytes a name, and some of the 256 buckets are fuller than others.
    let disk = Memory::default();
    let (at_once, later) = missing(&disk, 1_200_000, &names(0..60_000), &names(59_000..62_000), 9);
    assert_eq!((at_once.len(), later.len()), (2_000, 0));
    assert_eq!(disk.0.borrow().writes, 0);
}

#[test]
fn nothing_noted_is_all_missing_and_nothing_asked_is_none() {
    let disk = Memory::default();
    assert_eq!(missing(&disk, 0, &[], &names(0..10), 3).0, names(0..10));
    assert_eq!(missing(&disk, 0, &names(0..10), &[], 3), (Page::new(), Page::new()));
    assert_eq!(missing(&disk, 0, &names(0..10), &names(0..10), 3), (Page::new(), Page::new()));
}

/// Names whose fingerprints all begin with the same two bytes: ranges get narrow for them, and wide again behind them.
#[test]
fn names_that_crowd_in_one_place_are_told_apart() {
    let crowd: Vec<Name> = names(0..1_000_000)
        .into_iter()
        .filter(|(db, name)| fingerprint(*db, name) >> 112 == 0)
        .collect();
    assert!(crowd.len() > 8, "{}", crowd.len());
    let disk = Memory::default();
    let (_, later) = missing(&disk, 0, &names(2_000_000..2_000_001), &crowd, 1000);
    assert_eq!(later.into_iter().collect::<BTreeSet<_>>(), crowd.iter().cloned().collect());
    let reads = disk.0.borrow().reads;
    assert!(reads < 1000, "{reads} reads");
}

#[test]
fn an_error_is_never_an_answer() {
    let (noted, asked) = (names(0..10), names(5..15));
    let right = difference(&noted, &asked);
    let whole = Memory::default();
    fill(&whole, 0, &noted, &asked);
    let whole = whole.0.borrow().bytes.len();
    let mut damaged = 0;
    for at in 0..whole {
        for bit in [0, 7] {
            let disk = Memory::default();
            let (mut missing, _) = fill(&disk, 0, &noted, &asked);
            disk.0.borrow_mut().bytes[at] ^= 1 << bit;
            let mut found = BTreeSet::new();
            loop {
                match missing.next_page(5) {
                    Ok(Some(page)) => found.extend(page),
                    Ok(None) => break assert_eq!(found, right, "byte {at}"),
                    Err(LedgerError::Damaged { .. }) => break damaged += 1,
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
            // What was given before the error is right.
            assert!(found.is_subset(&right), "byte {at}");
        }
    }
    // The notes of a bucket are not read if nothing of it was asked for.
    assert!(damaged > whole, "{damaged} of {}", 2 * whole);
}

#[test]
fn a_disk_that_lost_all_is_damaged() {
    let disk = Memory::default();
    let (mut missing, _) = fill(&disk, 0, &names(0..9), &names(5..12));
    disk.0.borrow_mut().bytes.fill(0);
    let error = loop {
        match missing.next_page(5) {
            Ok(page) => assert_eq!(page, Some(Page::new())),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
}
