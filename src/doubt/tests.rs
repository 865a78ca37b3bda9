//! A model: a source that runs random commands, a lane behind it that plays them and meets failures, and reads of the source at random
//! moments. In the end both hold the same.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::model::{Model, Op, with_call, words};
use super::*;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client writes to the source.
    Write(u32, Op),
    /// The lane takes so many commands as one transaction.
    Take(u8),
    /// The target runs the next transaction; the command with this number fails.
    Run(Option<u8>),
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

/// What is done in one transaction: commands of the stream, or what was read of keys that were in doubt.
struct Batch {
    end: usize,
    commands: Vec<(u32, Op, Vec<Vec<u8>>)>,
    puts: Vec<(Db, Vec<u8>, Option<u64>)>,
}

struct Lane {
    source: Model,
    log: Vec<(u32, Op)>,
    target: Model,
    taken: usize,
    /// What was taken and has not been run.
    queue: VecDeque<Batch>,
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
            queue: VecDeque::new(),
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
            Event::Take(count) => self.take(usize::from(count)),
            Event::Run(fails) => self.run(fails.map(usize::from)),
            Event::Ask if self.read.is_none() => {
                let keys = self.doubts.iter().map(|(db, key)| (db, key.to_vec())).collect();
                self.read = Some(Read { held: self.source.clone(), at: self.log.len(), keys });
            }
            Event::Ask => {}
            Event::Arrive => self.arrive(),
        }
    }

    /// Takes commands as one transaction: each is judged before any has been answered.
    fn take(&mut self, count: usize) {
        let end = (self.taken + count).min(self.log.len());
        let mut commands = Vec::new();
        for (nth, (db, op)) in self.log[self.taken..end].iter().copied().enumerate() {
            let words = words(op);
            let at = offset(self.taken + nth + 1);
            let verdict = with_call(db, &words, at, |call| {
                match self.without == Without::Spreading && self.doubts.touches(call) {
                    true => Verdict::LeaveOut,
                    false => self.doubts.judge(call),
                }
            });
            if verdict == Verdict::Play {
                commands.push((db, op, words));
            }
        }
        self.taken = end;
        self.queue.push_back(Batch { end, commands, puts: Vec::new() });
    }

    /// The target runs the next transaction. All that is known of its commands is where it ends.
    fn run(&mut self, fails: Option<usize>) {
        let Some(Batch { end, commands, puts }) = self.queue.pop_front() else { return };
        let mut failed = false;
        for (nth, (db, op, words)) in commands.into_iter().enumerate() {
            if fails == Some(nth) && !matches!(op, Op::Flush | Op::FlushAll | Op::Swap(..)) {
                with_call(db, &words, offset(end), |call| self.doubts.failed(call));
                failed = true;
                continue;
            }
            self.target.run(db, op);
            if failed && self.without != Without::SpreadingBehind {
                with_call(db, &words, offset(end), |call| self.doubts.ran(call));
            }
        }
        for (nth, (db, key, value)) in puts.into_iter().enumerate() {
            if fails == Some(nth) {
                self.doubts.doubt(db, &key, offset(end));
                failed = true;
            } else {
                self.target.put(db.index(), key[0], value);
            }
        }
        if failed {
            self.revise();
        }
        if self.queue.iter().all(|batch| batch.puts.is_empty()) {
            self.doubts.passed(offset(end));
        }
    }

    /// What has not been run is judged anew. All that is known of it is where its transactions end.
    fn revise(&mut self) {
        let doubts = &mut self.doubts;
        for batch in &mut self.queue {
            batch.puts.retain(|(db, key, _)| doubts.is_fenced(*db, key));
            let end = offset(batch.end);
            batch.commands.retain(|(db, _, words)| {
                with_call(*db, words, end, |call| doubts.judge_again(call)) == Verdict::Play
            });
        }
    }

    fn arrive(&mut self) {
        let Some(Read { held, at, keys }) = self.read.take() else { return };
        let mut puts = Vec::new();
        for (db, key) in keys {
            let when = if self.without == Without::Least { self.log.len() } else { at };
            if self.doubts.fetched(db, &key, offset(when)) {
                let value = held.get(db.index(), key[0]);
                puts.push((db, key, value));
            }
        }
        self.queue.push_back(Batch { end: self.taken, commands: Vec::new(), puts });
    }

    /// Goes on until all is taken and run, and no key is in doubt.
    fn end(mut self) -> bool {
        self.arrive();
        while self.taken < self.log.len() || !self.queue.is_empty() || !self.doubts.is_empty() {
            self.take(7);
            self.step(Event::Ask);
            self.arrive();
            while !self.queue.is_empty() {
                self.run(None);
            }
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
        4 => (1..6_u8).prop_map(Event::Take),
        4 => prop::option::weighted(0.3, 0..6_u8).prop_map(Event::Run),
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

/// What was left out behind a flush, of a value that was read further on, is not forgotten when the flush is judged again.
#[test]
fn a_flush_that_is_judged_again_ends_no_doubt() {
    let mut doubts = Doubts::default();
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let (flush, incr): (Vec<_>, Vec<_>) = (words("FLUSHDB"), words("INCR k"));
    doubts.doubt(Db::new(0), b"k", offset(5));
    assert!(doubts.fetched(Db::new(0), b"k", offset(25)));
    let mut judge = |words, end| with_call(0, words, offset(end), |call| doubts.judge(call));
    assert_eq!(judge(&flush, 10), Verdict::Play);
    assert_eq!(judge(&incr, 20), Verdict::LeaveOut);
    // Both are of the batch that ends at 30, which another one before it has failed.
    let again = with_call(0, &flush, offset(30), |call| doubts.judge_again(call));
    assert_eq!(again, Verdict::Play);
    assert!(!doubts.fetched(Db::new(0), b"k", offset(29)));
    assert!(doubts.fetched(Db::new(0), b"k", offset(30)));
}

/// Without any of these rules some lanes end wrong: so the model would tell.
#[test]
fn no_rule_can_be_left_out() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(event(), 80);
    let mut wrong = BTreeMap::new();
    for _ in 0..1000 {
        let events = strategy.new_tree(&mut runner).unwrap().current();
        for without in [Without::Spreading, Without::SpreadingBehind, Without::Least] {
            let counter = wrong.entry(format!("{without:?}")).or_insert(0);
            *counter += u32::from(!ends_right(&events, without));
        }
    }
    assert!(wrong.values().all(|count| *count > 5), "{wrong:?}");
}
