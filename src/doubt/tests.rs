//! A model: a source that runs random commands, a lane behind it that plays them and meets failures, and reads of the source at random
//! moments. In the end both hold the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::command::lookup;

/// What a server holds: of each value all that matters is whether it is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model(BTreeMap<(u32, u8), u64>);

/// A command of the model, on keys that have a letter as their name.
#[derive(Clone, Copy, Debug)]
enum Op {
    Incr(u8),
    Del(u8),
    Copy(u8, u8, u32),
    Rename(u8, u8),
    Union(u8, u8, u8),
    Move(u8, u8),
    /// Reads a key that it does not name.
    Script(u8, u8),
    Flush,
    FlushAll,
    Swap(u32, u32),
}

/// A value that comes of these.
fn made_of(parts: &[u64]) -> u64 {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

impl Model {
    fn get(&self, db: u32, key: u8) -> Option<u64> {
        self.0.get(&(db, key)).copied()
    }

    fn put(&mut self, db: u32, key: u8, value: Option<u64>) {
        match value {
            Some(value) => drop(self.0.insert((db, key), value)),
            None => drop(self.0.remove(&(db, key))),
        }
    }

    /// Runs a command. Says whether it changed something, or could have: a master tells its replicas of no other.
    fn run(&mut self, db: u32, op: Op) -> bool {
        match op {
            Op::Incr(key) => {
                let value = made_of(&[self.get(db, key).unwrap_or(0), 1]);
                // Some make a key go, as a pop does.
                self.put(db, key, (!value.is_multiple_of(5)).then_some(value));
            }
            Op::Del(key) => return self.0.remove(&(db, key)).is_some(),
            Op::Copy(from, to, other) => match self.get(db, from) {
                Some(value) if (db, from) != (other, to) => self.put(other, to, Some(value)),
                _ => return false,
            },
            Op::Rename(from, to) => match self.get(db, from) {
                Some(value) => {
                    self.put(db, from, None);
                    self.put(db, to, Some(value));
                }
                None => return false,
            },
            Op::Union(to, one, other) => {
                let parts = [self.get(db, one), self.get(db, other)];
                let some: Vec<u64> = parts.into_iter().flatten().collect();
                self.put(db, to, (!some.is_empty()).then(|| made_of(&some)));
            }
            Op::Move(from, to) => match self.get(db, from) {
                Some(value) => {
                    let left = made_of(&[value, 2]);
                    self.put(db, from, (!left.is_multiple_of(3)).then_some(left));
                    let there = self.get(db, to).unwrap_or(0);
                    self.put(db, to, Some(made_of(&[value, there])));
                }
                None => return false,
            },
            Op::Script(key, read) => {
                let parts = [self.get(db, key).unwrap_or(0), self.get(db, read).unwrap_or(0)];
                self.put(db, key, Some(made_of(&parts)));
            }
            Op::Flush => self.0.retain(|(of, _), _| *of != db),
            Op::FlushAll => self.0.clear(),
            Op::Swap(one, other) => {
                let place = |db| match db {
                    db if db == one => other,
                    db if db == other => one,
                    db => db,
                };
                let keys = std::mem::take(&mut self.0);
                self.0 = keys.into_iter().map(|((db, key), v)| ((place(db), key), v)).collect();
            }
        }
        true
    }
}

/// The command as the stream has it.
fn words(op: Op) -> Vec<Vec<u8>> {
    let name = |key: u8| char::from(key).to_string();
    let line = match op {
        Op::Incr(key) => format!("INCR {}", name(key)),
        Op::Del(key) => format!("DEL {}", name(key)),
        Op::Copy(from, to, db) => format!("COPY {} {} DB {db} REPLACE", name(from), name(to)),
        Op::Rename(from, to) => format!("RENAME {} {}", name(from), name(to)),
        Op::Union(to, one, two) => {
            format!("SUNIONSTORE {} {} {}", name(to), name(one), name(two))
        }
        Op::Move(from, to) => format!("RPOPLPUSH {} {}", name(from), name(to)),
        Op::Script(key, _) => format!("EVAL return 1 {}", name(key)),
        Op::Flush => "FLUSHDB".to_owned(),
        Op::FlushAll => "FLUSHALL".to_owned(),
        Op::Swap(one, other) => format!("SWAPDB {one} {other}"),
    };
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client writes to the source.
    Write(u32, Op),
    /// The lane takes so many commands as one transaction; the one with this number fails.
    Take(u8, Option<u8>),
    /// The source is read for all keys in doubt.
    Ask,
    /// What was read arrives.
    Arrive,
}

/// Which rule is left out, to see that the model would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Commands on a key that is in doubt or ahead are left out, and that is all.
    Spreading,
    /// The same, of commands that ran behind one that failed.
    SpreadingBehind,
    /// A value counts whenever it was read.
    Least,
}

struct Lane {
    source: Model,
    log: Vec<(u32, Op)>,
    target: Model,
    taken: usize,
    doubts: Doubts,
    read: Option<Read>,
    without: Without,
}

/// What the source held, and where it stood, when it was read for these keys.
struct Read {
    held: Model,
    at: usize,
    keys: Vec<(Db, Vec<u8>)>,
}

fn offset(commands: usize) -> Offset {
    Offset::new(commands as u64)
}

impl Lane {
    fn new(without: Without) -> Self {
        Self {
            source: Model::default(),
            log: Vec::new(),
            target: Model::default(),
            taken: 0,
            doubts: Doubts::default(),
            read: None,
            without,
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Write(db, op) => {
                if self.source.run(db, op) {
                    self.log.push((db, op));
                }
            }
            Event::Take(count, fails) => self.take(usize::from(count), fails.map(usize::from)),
            Event::Ask if self.read.is_none() => {
                let keys = self.doubts.iter().map(|(db, key)| (db, key.to_vec())).collect();
                self.read = Some(Read { held: self.source.clone(), at: self.log.len(), keys });
            }
            Event::Ask => {}
            Event::Arrive => self.arrive(),
        }
    }

    /// Takes commands as one transaction: each is judged before any has been answered.
    fn take(&mut self, count: usize, fails: Option<usize>) {
        let end = (self.taken + count).min(self.log.len());
        let commands = self.log[self.taken..end].to_vec();
        let mut played = Vec::new();
        for (nth, (db, op)) in commands.into_iter().enumerate() {
            let words = words(op);
            let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let command = lookup(args[0]).unwrap();
            let end = offset(self.taken + nth + 1);
            let call = Call { command, args: &args, db: Db::new(db), end };
            let verdict = if self.without == Without::Spreading && self.doubts.touches(&call) {
                Verdict::LeaveOut
            } else {
                self.doubts.judge(&call)
            };
            if verdict == Verdict::Play {
                played.push((nth, db, op, words));
            }
        }
        self.taken = end;
        self.doubts.passed(offset(end));
        // Then they run; all that is known of them is where the transaction ends.
        let mut failed = false;
        for (nth, db, op, words) in played {
            let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let command = lookup(args[0]).unwrap();
            let call = Call { command, args: &args, db: Db::new(db), end: offset(end) };
            if fails == Some(nth) && !matches!(op, Op::Flush | Op::FlushAll | Op::Swap(..)) {
                self.doubts.failed(&call);
                failed = true;
                continue;
            }
            self.target.run(db, op);
            if failed && self.without != Without::SpreadingBehind {
                self.doubts.ran(&call);
            }
        }
    }

    fn arrive(&mut self) {
        let Some(Read { held, at, keys }) = self.read.take() else { return };
        for (db, key) in keys {
            let when = if self.without == Without::Least { self.log.len() } else { at };
            let counts = self.doubts.fetched(db, &key, offset(when));
            if counts {
                self.target.put(db.index(), key[0], held.get(db.index(), key[0]));
            }
        }
        self.doubts.passed(offset(self.taken));
    }

    /// Goes on until all is taken and no key is in doubt.
    fn end(mut self) -> bool {
        self.arrive();
        while self.taken < self.log.len() || !self.doubts.is_empty() {
            self.take(7, None);
            self.step(Event::Ask);
            self.arrive();
        }
        self.target == self.source
    }
}

fn op() -> impl Strategy<Value = Op> {
    let key = || b'a'..b'g';
    prop_oneof![
        6 => key().prop_map(Op::Incr),
        1 => key().prop_map(Op::Del),
        2 => (key(), key(), 0..2_u32).prop_map(|(from, to, db)| Op::Copy(from, to, db)),
        2 => (key(), key()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (key(), key(), key()).prop_map(|(to, one, other)| Op::Union(to, one, other)),
        2 => (key(), key()).prop_map(|(from, to)| Op::Move(from, to)),
        1 => (key(), key()).prop_map(|(key, read)| Op::Script(key, read)),
        1 => prop_oneof![Just(Op::Flush), Just(Op::FlushAll), Just(Op::Swap(0, 1))],
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..2_u32, op()).prop_map(|(db, op)| Event::Write(db, op)),
        4 => (1..6_u8, prop::option::weighted(0.3, 0..6_u8)).prop_map(|(n, fails)| Event::Take(n, fails)),
        2 => Just(Event::Ask),
        2 => Just(Event::Arrive),
    ]
}

fn ends_right(events: &[Event], without: Without) -> bool {
    let mut lane = Lane::new(without);
    for event in events {
        lane.step(*event);
    }
    lane.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn every_lane_comes_to_what_the_source_holds(events in prop::collection::vec(event(), 0..80)) {
        prop_assert!(ends_right(&events, Without::Nothing));
    }
}

/// Without any of these rules some lanes end wrong: so the model would tell.
#[test]
fn no_rule_can_be_left_out() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(event(), 80);
    let mut wrong = BTreeMap::new();
    for _ in 0..300 {
        let events = strategy.new_tree(&mut runner).unwrap().current();
        for without in [Without::Spreading, Without::SpreadingBehind, Without::Least] {
            let counter = wrong.entry(format!("{without:?}")).or_insert(0);
            *counter += u32::from(!ends_right(&events, without));
        }
    }
    assert!(wrong.values().all(|count| *count > 5), "{wrong:?}");
}
