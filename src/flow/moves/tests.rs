//! A model: masters that are written to and give slots to each other, lanes behind them that play what they say at their own pace, and looks at the
//! cluster now and then. Whenever the lanes may end, the target holds what the masters hold together. What a lane does is `flow/lane/slots.rs` in
//! short.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::command::lookup;
use crate::doubt::{Call, Doubts, Verdict};
use crate::key::Db;
use crate::offset::Offset;
use crate::slots::slot_of;

const LANES: usize = 3;
const KEYS: [u8; 5] = *b"abcde";

/// A command of a stream. Each key has a slot of its own.
#[derive(Clone, Copy, Debug)]
enum Word {
    Incr(u8),
    Del(u8),
    Restore(u8, u64),
}

/// What a lane has sent to the target.
#[derive(Clone, Copy, Debug)]
enum Write {
    Copy(u8, u64),
    Play(Word),
    Fetched(u8, Option<u64>),
}

type Data = BTreeMap<u8, u64>;

#[derive(Clone, Debug, Default)]
struct Master {
    data: Data,
    said: Vec<Word>,
}

impl Master {
    fn run(&mut self, word: Word) {
        if play(&mut self.data, word) {
            self.said.push(word);
        }
    }
}

/// Whether a command did what a master tells of it.
fn play(data: &mut Data, word: Word) -> bool {
    match word {
        Word::Incr(key) => {
            let value = data.get(&key).map_or(1, |value| value.wrapping_mul(31) + 1);
            data.insert(key, value);
            true
        }
        // A removal without effect is no surprise.
        Word::Del(key) => data.remove(&key).is_some(),
        Word::Restore(key, value) if !data.contains_key(&key) => {
            data.insert(key, value);
            true
        }
        Word::Restore(..) => false,
    }
}

const fn key_of(word: Word) -> u8 {
    match word {
        Word::Incr(key) | Word::Del(key) | Word::Restore(key, _) => key,
    }
}

fn slot(key: u8) -> u16 {
    slot_of(&[key])
}

/// The same as lane/slots.rs has.
#[derive(Debug)]
struct Lane {
    own: SlotSet,
    had: SlotSet,
    generation: u64,
    older_to: Option<usize>,
    left_out: Option<u64>,
    doubts: Doubts,
    taken: usize,
    confirmed: usize,
    sent: VecDeque<(usize, Write)>,
    copies: bool,
    goal: Option<(usize, u64)>,
}

struct World {
    masters: Vec<Master>,
    owners: BTreeMap<u8, usize>,
    moving: BTreeMap<u8, usize>,
    target: Data,
    moves: Moves,
    lanes: Vec<Option<Lane>>,
    look: Option<(u64, Look)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Incr(u8),
    Del(u8),
    Begin(u8, usize),
    Migrate(u8),
    End(u8),
    Abort(u8),
    Open(usize),
    Take(usize, u8),
    Confirm(usize, u8),
    Fetch(usize),
    Advance(usize),
    Look,
}

fn at(offset: usize) -> Offset {
    Offset::new(offset as u64)
}

impl World {
    fn new() -> Self {
        let owners: BTreeMap<u8, usize> =
            KEYS.iter().map(|key| (*key, usize::from(*key) % LANES)).collect();
        let slots = |lane| -> SlotSet {
            let rest = (0..SLOTS).filter(|of| {
                let key = KEYS.iter().find(|key| slot(**key) == *of);
                key.map_or(lane == 0, |key| owners[key] == lane)
            });
            rest.collect()
        };
        let lanes: Vec<SlotSet> = (0..LANES).map(slots).collect();
        Self {
            masters: vec![Master::default(); LANES],
            owners,
            moving: BTreeMap::new(),
            target: Data::new(),
            moves: Moves::new(&lanes),
            lanes: (0..LANES).map(|_| None).collect(),
            look: None,
        }
    }

    /// A client is sent on to who takes a slot, if the one who gives it has not the key any more.
    fn client(&mut self, word: Word) {
        let key = key_of(word);
        let owner = self.owners[&key];
        let at = match self.moving.get(&key) {
            Some(to) if !self.masters[owner].data.contains_key(&key) => *to,
            _ => owner,
        };
        self.masters[at].run(word);
    }

    fn migrate(&mut self, key: u8, from: usize, to: usize) {
        if let Some(value) = self.masters[from].data.get(&key).copied() {
            self.masters[to].run(Word::Restore(key, value));
            self.masters[from].run(Word::Del(key));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Incr(key) => self.client(Word::Incr(key)),
            Step::Del(key) => self.client(Word::Del(key)),
            Step::Begin(key, to) => {
                if self.owners[&key] != to {
                    self.moving.entry(key).or_insert(to);
                }
            }
            Step::Migrate(key) => {
                if let Some(to) = self.moving.get(&key) {
                    self.migrate(key, self.owners[&key], *to);
                }
            }
            Step::End(key) => {
                self.step(Step::Migrate(key));
                if let Some(to) = self.moving.remove(&key) {
                    self.owners.insert(key, to);
                }
            }
            Step::Abort(key) => {
                if let Some(to) = self.moving.remove(&key) {
                    self.migrate(key, to, self.owners[&key]);
                }
            }
            Step::Look => match self.look.take() {
                Some((number, look)) => drop(self.moves.looked(number, &look)),
                None => {
                    let owner = |of| {
                        let key = KEYS.iter().find(|key| slot(**key) == of);
                        Some(Holder::Lane(key.map_or(0, |key| self.owners[key])))
                    };
                    let look = Look {
                        owners: (0..SLOTS).map(owner).collect(),
                        open: self.moving.keys().map(|key| slot(*key)).collect(),
                        is_whole: true,
                    };
                    self.look = Some((self.moves.begin_look(), look));
                }
            },
            Step::Open(lane) => self.open(lane),
            Step::Take(lane, count) => (0..count).for_each(|_| self.take(lane)),
            Step::Confirm(lane, count) => (0..count).for_each(|_| self.confirm(lane)),
            Step::Fetch(lane) => self.fetch(lane),
            Step::Advance(lane) => self.advance(lane),
        }
    }

    fn open(&mut self, number: usize) {
        if self.lanes[number].is_some() {
            return;
        }
        let generation = self.moves.generation();
        self.moves.obeys(number, generation);
        let own = self.moves.own(number);
        let taken = self.masters[number].said.len();
        let mut lane = Lane {
            had: own.clone(),
            own,
            generation,
            older_to: None,
            left_out: None,
            doubts: Doubts::default(),
            taken,
            confirmed: taken,
            sent: VecDeque::new(),
            copies: true,
            goal: None,
        };
        for (key, value) in &self.masters[number].data {
            if lane.own.has(slot(*key)) {
                lane.sent.push_back((taken, Write::Copy(*key, *value)));
            } else {
                lane.left_out = Some(self.moves.looks());
                lane.doubts.doubt(Db::default(), &[*key], at(taken));
            }
        }
        self.lanes[number] = Some(lane);
    }

    fn take(&mut self, number: usize) {
        let Some(lane) = &mut self.lanes[number] else { return };
        let Some(word) = self.masters[number].said.get(lane.taken).copied() else { return };
        lane.taken += 1;
        let (key, end) = ([key_of(word)], at(lane.taken));
        call(word, end, |call| {
            if !lane.own.has(slot(key[0])) {
                lane.left_out = Some(self.moves.looks());
                lane.doubts.failed(call);
            } else if lane.doubts.judge(call) == Verdict::Play {
                lane.sent.push_back((lane.taken, Write::Play(word)));
            }
        });
    }

    fn confirm(&mut self, number: usize) {
        let Some(lane) = &mut self.lanes[number] else { return };
        if let Some((end, write)) = lane.sent.pop_front() {
            match write {
                Write::Copy(key, value) => {
                    let before = self.target.insert(key, value);
                    assert_eq!(before, None, "two have copied one key");
                }
                Write::Fetched(key, Some(value)) => drop(self.target.insert(key, value)),
                Write::Fetched(key, None) => drop(self.target.remove(&key)),
                Write::Play(word) => {
                    let was_played = play(&mut self.target, word);
                    if !was_played && !matches!(word, Word::Del(_)) {
                        // It is in doubt, and what was sent behind it on this key is left out.
                        call(word, at(end), |call| lane.doubts.failed(call));
                        let key = key_of(word);
                        lane.sent.retain(|(_, write)| match write {
                            Write::Play(word) => key_of(*word) != key,
                            Write::Copy(..) => true,
                            Write::Fetched(of, _) => *of != key,
                        });
                    }
                }
            }
            lane.confirmed = lane.confirmed.max(end);
        }
        if lane.sent.is_empty() {
            (lane.confirmed, lane.copies) = (lane.taken, false);
        }
        if !lane.sent.iter().any(|(_, write)| matches!(write, Write::Fetched(..))) {
            lane.doubts.passed(at(lane.confirmed));
        }
    }

    fn fetch(&mut self, number: usize) {
        let Some(lane) = &mut self.lanes[number] else { return };
        if lane.copies {
            return;
        }
        let keys: Vec<u8> = lane.doubts.iter().map(|(_, key)| key[0]).collect();
        for key in keys.into_iter().filter(|key| lane.own.has(slot(*key))) {
            let found = self.masters[number].data.get(&key).copied();
            // A node answers MOVED, and ASK while it gives a slot away and has the key no more.
            if self.owners[&key] != number || found.is_none() && self.moving.contains_key(&key) {
                continue;
            }
            if lane.doubts.fetched(Db::default(), &[key], at(self.masters[number].said.len())) {
                lane.sent.push_back((lane.taken, Write::Fetched(key, found)));
            }
        }
    }

    fn advance(&mut self, number: usize) {
        let Some(lane) = &mut self.lanes[number] else { return };
        if lane.copies {
            return;
        }
        if self.moves.generation() != lane.generation {
            (lane.generation, lane.own) = (self.moves.generation(), self.moves.own(number));
            lane.own.iter().for_each(|slot| lane.had.insert(slot));
            (lane.older_to, lane.left_out) = (Some(lane.taken), Some(self.moves.looks()));
        } else if let Some(to) = lane.older_to {
            let fetches = lane.sent.iter().any(|(_, write)| matches!(write, Write::Fetched(..)));
            if lane.sent.is_empty() || lane.confirmed > to && !fetches {
                lane.older_to = None;
                self.moves.obeys(number, lane.generation);
            }
        }
        for key in self.moves.take(number) {
            lane.doubts.doubt(Db::default(), &key, at(lane.taken));
        }
        let is_current = lane.older_to.is_none() && self.moves.generation() == lane.generation;
        if !is_current || !lane.left_out.is_some_and(|looks| self.moves.has_looked_since(looks)) {
            return;
        }
        let foreign: Vec<Vec<u8>> = { lane.doubts.all() }
            .map(|(_, key)| key.to_vec())
            .filter(|key| !lane.own.has(slot(key[0])))
            .collect();
        for key in foreign {
            match self.moves.owner(slot(key[0])) {
                Some(owner) => {
                    if lane.had.has(slot(key[0])) {
                        self.moves.hand(owner, &key);
                    }
                    lane.doubts.dismiss(Db::default(), &key);
                }
                None => lane.left_out = Some(self.moves.looks()),
            }
        }
    }

    /// Asks each lane whether it may end.
    fn may_end(&mut self) -> bool {
        let mut all = true;
        for number in 0..LANES {
            let Some(lane) = &mut self.lanes[number] else { return false };
            let generation = self.moves.generation();
            if lane.goal.is_none_or(|(_, asked)| asked != generation) {
                lane.goal = Some((self.masters[number].said.len(), generation));
            }
            let is_drained = !lane.copies
                && lane.sent.is_empty()
                && lane.doubts.is_empty()
                && lane.goal.is_some_and(|(goal, _)| lane.taken >= goal);
            all &= self.moves.set_drained(number, is_drained);
        }
        all
    }

    fn held(&self) -> Data {
        let all = self.masters.iter().flat_map(|master| &master.data);
        all.map(|(key, value)| (*key, *value)).collect()
    }
}

fn call(word: Word, end: Offset, then: impl FnOnce(&Call<'_>)) {
    let (name, key, rest) = match word {
        Word::Incr(key) => ("INCR", [key], &[][..]),
        Word::Del(key) => ("DEL", [key], &[][..]),
        Word::Restore(key, _) => ("RESTORE-ASKING", [key], &[&b"0"[..], b"value"][..]),
    };
    let args: Vec<&[u8]> =
        [name.as_bytes(), &key].into_iter().chain(rest.iter().copied()).collect();
    let command = lookup(name.as_bytes()).unwrap();
    then(&Call { command, args: &args, db: Db::default(), end });
}

fn steps(writes: bool) -> impl Strategy<Value = Vec<Step>> {
    let (key, lane) = (prop::sample::select(&KEYS[..]), 0..LANES);
    let (few, weight) = (1..4_u8, if writes { 6 } else { 1 });
    let looks_instead = move |step: Step| if writes { step } else { Step::Look };
    let one = prop_oneof![
        weight => key.clone().prop_map(Step::Incr).prop_map(looks_instead),
        2 => key.clone().prop_map(Step::Del).prop_map(looks_instead),
        2 => (key.clone(), lane.clone()).prop_map(|(key, to)| Step::Begin(key, to)),
        2 => key.clone().prop_map(Step::Migrate),
        2 => key.clone().prop_map(Step::End),
        1 => key.prop_map(Step::Abort),
        1 => lane.clone().prop_map(Step::Open),
        4 => (lane.clone(), few.clone()).prop_map(|(lane, count)| Step::Take(lane, count)),
        4 => (lane.clone(), few).prop_map(|(lane, count)| Step::Confirm(lane, count)),
        2 => lane.clone().prop_map(Step::Fetch),
        4 => lane.prop_map(Step::Advance),
        2 => Just(Step::Look),
    ];
    prop::collection::vec(one, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whenever_the_lanes_may_end_all_is_in_the_target(busy in steps(true), calm in steps(false)) {
        let mut world = World::new();
        for step in busy {
            world.step(step);
        }
        // Clients are quiet by now, and slots go on moving.
        for step in calm {
            world.step(step);
            if world.may_end() {
                prop_assert_eq!(&world.target, &world.held());
                return Ok(());
            }
        }
        for key in KEYS {
            world.step(Step::End(key));
        }
        (0..LANES).for_each(|lane| world.step(Step::Open(lane)));
        for _ in 0..60 {
            for lane in 0..LANES {
                let all = u8::MAX;
                for step in [Step::Take(lane, all), Step::Confirm(lane, all), Step::Advance(lane), Step::Fetch(lane)] {
                    world.step(step);
                }
            }
            world.step(Step::Look);
            if world.may_end() {
                prop_assert_eq!(&world.target, &world.held());
                return Ok(());
            }
        }
        prop_assert!(false, "it never ends: {:?} {:?}", world.moves.lanes, world.lanes);
    }
}
