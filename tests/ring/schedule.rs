//! What happens in one run, all of it from one seed.

use std::collections::VecDeque;
use std::time::Duration;

use understudy::key::Db;
use understudy::server::{Flavour, Server, Version};

use crate::dice::Dice;
use crate::link::LinkPlan;
use crate::master::{COUNT, COUNT_DB, MasterPlan};
use crate::model::{Args, args};
use crate::ruled::Ruled;
use crate::target::{Kind, Refusal, Slow};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) rules: Ruled,
    pub(crate) master: MasterPlan,
    pub(crate) target: Server,
    /// The master's offset at the beginning.
    pub(crate) origin: u64,
    pub(crate) memory: u64,
    /// How many transactions are written before the run, and during it.
    pub(crate) before: usize,
    pub(crate) during: usize,
    /// The longest pause between two of them, and how many come without one.
    pub(crate) pause: Duration,
    pub(crate) burst: usize,
    /// The master's history gets a new name after so many.
    pub(crate) take_over: Option<usize>,
    pub(crate) source_links: VecDeque<LinkPlan>,
    pub(crate) target_links: VecDeque<LinkPlan>,
    pub(crate) refusals: VecDeque<Refusal>,
    /// How far the target's clock is ahead of the source's, in milliseconds.
    pub(crate) ahead: i64,
    /// After how many bytes to and from the target the first runs are killed. Each time the same command is given again, so much later.
    pub(crate) kills: Vec<(usize, Duration)>,
    pub(crate) slow: Option<Slow>,
    /// Half of all commands set deadlines that come soon, renew them or take them away.
    mortal: bool,
    focus: Focus,
    /// How many keys of each kind there are.
    keys: usize,
}

/// What a round has more of than chance would give it: what one of the mechanisms is for that keep data exact. It is so much that few such
/// rounds are needed to see that the mechanism is missing; `scripts/mutations` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Focus {
    /// Whatever chance gives.
    Chance,
    /// The gate: answers are lost to transactions that must not be run again.
    Gate,
    /// Each reply in the answer to a transaction is judged: some commands fail there.
    Judging,
    /// Doubts spread: some commands fail, some answers are lost, and most commands make a key of others.
    Spreading,
    /// Deadlines before the horizon are held back: keys almost die, and the target hears of it late.
    Horizon,
}

impl Focus {
    /// Of any six rounds in a row each is in the focus of one, and chance has two.
    fn of(seed: u64) -> Self {
        match seed % 6 {
            0 => Self::Gate,
            1 => Self::Judging,
            2 => Self::Spreading,
            3 => Self::Horizon,
            _ => Self::Chance,
        }
    }
}

const SOURCES: [Version; 5] =
    [Version(7, 0, 15), Version(7, 2, 4), Version(6, 2, 14), Version(5, 0, 6), Version(2, 8, 17)];

const TARGETS: [Version; 5] =
    [Version(7, 0, 15), Version(7, 2, 4), Version(6, 2, 14), Version(4, 0, 14), Version(2, 8, 17)];

impl Schedule {
    /// What the dice give in the round of this seed.
    pub(crate) fn of(seed: u64, dice: &mut Dice) -> Self {
        let mut schedule = Self::by_chance(dice);
        schedule.focus = Focus::of(seed);
        schedule.rules = Ruled::of(seed);
        schedule.master.count = schedule.rules.name(COUNT);
        schedule.sharpen(dice);
        schedule
    }

    /// Takes away what would hide what the focus is on, and adds much of that.
    fn sharpen(&mut self, dice: &mut Dice) {
        if self.focus == Focus::Chance {
            return;
        }
        // A run goes on to where the source is when the copy is over, and no further: so much is written until then, and the question comes late.
        self.master.fork = Duration::from_millis(50) + millis(dice, 100);
        self.pause = Duration::from_millis(1) + millis(dice, 3);
        self.burst = 1 + dice.below(6);
        (self.before, self.during) = (dice.below(40), 200 + dice.below(300));
        let question = |dice: &mut Dice| LinkPlan { delay: millis(dice, 100), ..sound(dice) };
        self.source_links = [sound(dice), question(dice), question(dice), question(dice)].into();
        // Of more keys more are left as they have become.
        self.keys = 4 + dice.below(12);
        (self.take_over, self.slow, self.mortal) = (None, None, false);
        self.master.backlog = 1 << 20;
        self.kills.clear();
        self.refusals.clear();
        let lost = match self.focus {
            Focus::Gate => 2 + dice.below(4),
            Focus::Spreading => dice.below(3),
            _ => 0,
        };
        let cut = |dice: &mut Dice| LinkPlan { counted: Some(1 + dice.below(2)), ..sound(dice) };
        self.target_links = (0..lost).map(|_| cut(dice)).collect();
        self.target_links.push_back(sound(dice));
        match self.focus {
            Focus::Chance | Focus::Gate => {}
            Focus::Judging | Focus::Spreading => {
                let refusal = |dice: &mut Dice| {
                    let (after, count) = (dice.below(120), 1 + dice.below(3));
                    Refusal { after, count, kind: Kind::Inside }
                };
                self.refusals = (0..4 + dice.below(5)).map(|_| refusal(dice)).collect();
            }
            Focus::Horizon => {
                // Younger ones say when a key dies. Older ones say how long it has left, and are asked again.
                self.master.server.version = SOURCES[dice.below(2)];
                let late = Duration::from_secs(2) + millis(dice, 20_000);
                if chance(dice, 50) {
                    let (after, count) = (dice.below(30), 1 + dice.below(2));
                    self.slow = Some(Slow { after, count, lasts: late });
                } else {
                    // Some are dead for longer than deadlines are held back.
                    let late = if chance(dice, 5) { late * 500 } else { late };
                    self.kills = vec![(9000 + dice.below(9000), late)];
                }
            }
        }
    }

    fn by_chance(dice: &mut Dice) -> Self {
        let version = SOURCES[dice.below(SOURCES.len())];
        let target = TARGETS[dice.below(TARGETS.len())];
        let redis = |version| Server { flavour: Flavour::Redis, version };
        let backlog = if chance(dice, 10) { 600 } else { 1 << 20 };
        let master = MasterPlan {
            server: redis(version),
            backlog,
            by_mark: version >= Version(5, 0, 0) && chance(dice, 50),
            fork: millis(dice, 40),
            piece: if chance(dice, 50) { millis(dice, 4) } else { Duration::ZERO },
            select_first: version < Version(7, 0, 0),
            count: COUNT.to_vec(),
        };
        // What is refused before the job has begun ends the run: that is soon over, and proves little.
        let spared = if chance(dice, 5) { 0 } else { 24 };
        let mut refusals: VecDeque<Refusal> = (0..dice.below(4))
            .map(|_| {
                let kinds = [
                    Kind::Inside,
                    Kind::Inside,
                    Kind::Oom,
                    Kind::Oom,
                    Kind::ReadOnly,
                    Kind::Misconf,
                    Kind::Abort,
                    Kind::Busy,
                    Kind::Loading,
                ];
                let kind = kinds[dice.below(kinds.len())];
                // The first ones may be refused for good: the tool gives up. For the others it has patience for an hour.
                let may_last = !matches!(kind, Kind::Busy | Kind::Loading | Kind::Inside);
                let lasts = may_last && chance(dice, 6);
                let count = if lasts { usize::MAX } else { log_below(dice, 24) };
                Refusal { after: spared + log_below(dice, 900), count, kind }
            })
            .collect();
        let kills: Vec<(usize, Duration)> = match chance(dice, 50) {
            true => {
                (0..1 + dice.below(4)).map(|_| (log_below(dice, 1 << 14), Duration::ZERO)).collect()
            }
            false => Vec::new(),
        };
        // A run that begins while the target answers nobody is refused.
        let slow = (kills.is_empty() && chance(dice, 20)).then(|| Slow {
            after: log_below(dice, 200),
            count: 1 + dice.below(3),
            lasts: Duration::from_secs(30) + millis(dice, 120_000),
        });
        if slow.is_some() {
            // Few refusals would take as long as many.
            refusals.clear();
        }
        Self {
            master,
            target: redis(target),
            origin: log_below(dice, 1 << 40) as u64,
            memory: 1 << (14 + dice.below(8)),
            before: dice.below(80),
            during: 20 + dice.below(600),
            pause: millis(dice, 12),
            burst: 1 + dice.below(12),
            take_over: chance(dice, 15).then(|| dice.below(150)),
            source_links: links(dice, Side::Source),
            target_links: links(dice, Side::Target),
            refusals,
            kills,
            slow,
            mortal: chance(dice, 30),
            focus: Focus::Chance,
            rules: Ruled::default(),
            keys: 4,
            ahead: match chance(dice, 20) {
                true => i64::try_from(dice.below(14_400_000)).unwrap() - 7_200_000,
                false => 0,
            },
        }
    }

    /// What a client writes next: one command, or several as a transaction.
    pub(crate) fn write(&self, dice: &mut Dice) -> (u32, Vec<Args>) {
        if chance(dice, 30) {
            return (COUNT_DB, vec![vec![b"INCR".to_vec(), COUNT.to_vec()]]);
        }
        let db = [0, 0, 0, 1, 9][dice.below(5)];
        if self.focus == Focus::Horizon && chance(dice, 60) {
            return (db, self.almost_dies(dice));
        }
        let count = if chance(dice, 20) { 2 + dice.below(5) } else { 1 };
        (db, (0..count).map(|_| self.command(dice)).collect())
    }

    /// A key is given a short life, changed, and given a long one.
    fn almost_dies(&self, dice: &mut Dice) -> Vec<Args> {
        let (kind, change, with) = [
            ('n', "INCRBY", " 7"),
            ('t', "APPEND", " a"),
            ('l', "RPUSH", " b"),
            ('s', "SADD", " c"),
            ('z', "ZINCRBY", " 5 d"),
            ('h', "HINCRBY", " e 3"),
        ][dice.below(6)];
        let key = format!("{kind}{}", dice.below(self.keys));
        vec![
            args(&format!("PEXPIRE {key} {}", 30 + dice.below(1000))),
            args(&format!("{change} {key}{with}")),
            args(&format!("PEXPIRE {key} {}", 600_000 + dice.below(1000))),
        ]
    }

    /// A key, and where it may be.
    pub(crate) fn key(&self, dice: &mut Dice) -> (Db, Vec<u8>) {
        if chance(dice, 20) {
            return (Db::new(COUNT_DB), COUNT.to_vec());
        }
        let kind = ['n', 't', 'l', 's', 'z', 'h'][dice.below(6)];
        let db = [0, 0, 0, 1, 9][dice.below(5)];
        (Db::new(db), format!("{kind}{}", dice.below(self.keys)).into_bytes())
    }

    fn command(&self, dice: &mut Dice) -> Args {
        // Keys of one kind are mostly used as such; RENAME and DEL make some of another.
        let key = |dice: &mut Dice, kind: char| format!("{kind}{}", dice.below(self.keys));
        let any = |dice: &mut Dice| {
            let kind = ['n', 't', 'l', 's', 'z', 'h'][dice.below(6)];
            key(dice, kind)
        };
        let word = |dice: &mut Dice| format!("{:x}", dice.below(5000));
        let member = |dice: &mut Dice| format!("m{}", dice.below(6));
        // Some come while the run goes on, some soon after, some are far.
        let wait = |dice: &mut Dice| {
            [30, 120, 400, 1500, 60_000, 8 << 20][dice.below(6)] + dice.below(200)
        };
        let has_lmove = self.master.server.version.min(self.target.version) >= Version(6, 2, 0);
        let kind = match self.focus {
            _ if self.mortal && chance(dice, 50) => 23 + dice.below(5),
            Focus::Spreading if chance(dice, 60) => [10, 14, 15, 21][dice.below(4)],
            Focus::Chance => dice.below(30),
            // No FLUSHDB.
            _ => dice.below(29),
        };
        let line = match kind {
            0 | 1 => format!("INCR {}", key(dice, 'n')),
            2 => format!("INCRBY {} {}", key(dice, 'n'), dice.below(90)),
            3 | 4 => format!("APPEND {} {}", key(dice, 't'), word(dice)),
            5 => format!("SETRANGE {} {} {}", key(dice, 't'), dice.below(40), word(dice)),
            6 | 7 => format!("RPUSH {} {}", key(dice, 'l'), word(dice)),
            8 => format!("LPUSH {} {} {}", key(dice, 'l'), word(dice), word(dice)),
            9 => format!("LPOP {}", key(dice, 'l')),
            10 if has_lmove => {
                let sides = ["LEFT", "RIGHT"];
                let (from, to) = (sides[dice.below(2)], sides[dice.below(2)]);
                format!("LMOVE {} {} {from} {to}", key(dice, 'l'), key(dice, 'l'))
            }
            10 => format!("RPOPLPUSH {} {}", key(dice, 'l'), key(dice, 'l')),
            11 | 12 => format!("SADD {} {}", key(dice, 's'), member(dice)),
            13 => format!("SREM {} {}", key(dice, 's'), member(dice)),
            14 => format!("SMOVE {} {} {}", key(dice, 's'), key(dice, 's'), member(dice)),
            15 => format!("SUNIONSTORE {} {} {}", key(dice, 's'), key(dice, 's'), key(dice, 's')),
            16 | 17 => format!("ZINCRBY {} {} {}", key(dice, 'z'), dice.below(50), member(dice)),
            18 => format!("ZREM {} {}", key(dice, 'z'), member(dice)),
            19 => format!("HINCRBY {} {} {}", key(dice, 'h'), member(dice), dice.below(50)),
            20 => format!("HDEL {} {}", key(dice, 'h'), member(dice)),
            21 => {
                let kind = ['n', 't', 'l', 's', 'z', 'h'][dice.below(6)];
                let to = if chance(dice, 10) { any(dice) } else { key(dice, kind) };
                format!("RENAME {} {to}", key(dice, kind))
            }
            22 => format!("DEL {} {}", any(dice), any(dice)),
            23..=25 => format!("PEXPIRE {} {}", any(dice), wait(dice)),
            26 => format!("PERSIST {}", any(dice)),
            27 => format!("SET {} {} PX {}", key(dice, 'n'), dice.below(900), wait(dice)),
            28 => format!("SET {} {}", key(dice, 't'), word(dice)),
            _ if chance(dice, 20) => "FLUSHDB".to_owned(),
            _ => format!("HINCRBY {} {} 1", key(dice, 'h'), member(dice)),
        };
        args(&line)
    }
}

/// Whether something happens that does so often of a hundred times.
pub(crate) fn chance(dice: &mut Dice, percent: usize) -> bool {
    dice.below(100) < percent
}

/// So many milliseconds at the most.
pub(crate) fn millis(dice: &mut Dice, most: usize) -> Duration {
    Duration::from_micros(dice.below(most * 1000) as u64)
}

/// A number whose size is any, from 1 on.
fn log_below(dice: &mut Dice, bound: usize) -> usize {
    let bits = dice.below(bound.ilog2() as usize + 1);
    1 + dice.below((2_usize << bits).min(bound))
}

/// A connection that does not break.
fn sound(dice: &mut Dice) -> LinkPlan {
    LinkPlan {
        room: [512, 4096, 65_536][dice.below(3)],
        delay: if chance(dice, 50) { millis(dice, 20) } else { Duration::ZERO },
        ..LinkPlan::default()
    }
}

/// The first connections of one side; all after them are sound.
fn links(dice: &mut Dice, side: Side) -> VecDeque<LinkPlan> {
    let troubles = if chance(dice, 20) { 0 } else { 50 };
    let refused = if chance(dice, 10) { 30 } else { 0 };
    // A first connection that breaks before anything is there ends the run: that is soon over, and proves little. A copy that is cut is
    // not resumed.
    let spared = match (chance(dice, 10), side) {
        (true, _) => 0,
        (false, Side::Source) => 2500,
        (false, Side::Target) => 3000,
    };
    // What the gate is for: a transaction whose answer is lost must not be run again. These come before the others.
    let loses_answers = matches!(side, Side::Target) && chance(dice, 80);
    let lost = if loses_answers { 2 + dice.below(4) } else { 0 };
    (0..lost + dice.below(7))
        .map(|number| {
            let room = [64, 512, 4096, 65_536][dice.below(4)];
            let mut link = LinkPlan { room, ..LinkPlan::default() };
            if chance(dice, 30) {
                link.delay = millis(dice, 60);
            }
            link.refused = chance(dice, refused) && (number > 0 || spared == 0);
            link.restarts = matches!(side, Side::Target) && number > 0 && chance(dice, 2);
            if matches!(side, Side::Target) && chance(dice, troubles / 2) {
                link.executed = Some(2 + dice.below(20));
            }
            if number < lost {
                link.counted = Some(1 + dice.below(2));
            }
            // Few of these break over something else before.
            let others = if link.counted.is_some() { troubles / 4 } else { troubles };
            if chance(dice, others) {
                let bits = dice.below(14);
                let after = spared + dice.below(2 << bits);
                match (dice.below(4), side) {
                    (0, _) => link.read = Some(160 + after),
                    // A replica says little: questions, and an acknowledgement a second.
                    (1 | 2, Side::Source) => link.written = Some(220 + after % 300),
                    (1 | 2, Side::Target) => link.written = Some(after),
                    (_, Side::Source) => {}
                    // Answers are short.
                    (_, Side::Target) => {
                        let heard = if spared == 0 { 12 } else { 700 } + dice.below(2 << bits) / 2;
                        // Some hang for longer than anybody waits for an answer.
                        let longest = if chance(dice, 20) { 300_000 } else { 3000 };
                        link.mute = Some((heard, millis(dice, longest)));
                    }
                }
            }
            link
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Source,
    Target,
}
