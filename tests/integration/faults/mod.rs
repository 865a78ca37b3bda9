//! Copies and streams between real servers while everything around the tool fails: what the target holds in the end is what the
//! source holds.
//!
//! A round has a source on which several clients write all the time, a target, a [`proxy`] on either side of the tool, and a few
//! faults. At its end the writers rest, the tool is started once more and must come to its end, and the judge compares. All
//! choices are a seed's; when things meet is the machine's. `UNDERSTUDY_FAULTS_SEED` and `UNDERSTUDY_FAULTS_ROUNDS` say with which
//! seed to begin and how many rounds to play, `UNDERSTUDY_FAULTS_VERSIONS` between which servers, and
//! `UNDERSTUDY_FAULTS_ONLY` which faults alone may happen, and `UNDERSTUDY_FAULTS_PREFIX` (`yes` or `no`) whether keys get other names:
//!
//! ```sh
//! UNDERSTUDY_FAULTS_SEED=7000 UNDERSTUDY_FAULTS_ROUNDS=500 cargo test --test integration faults::rounds -- --nocapture
//! ```

mod behind;
mod brought;
mod connection;
mod fault;
mod horizon;
mod proxied;
mod proxy;
mod round;
mod silent;
mod spooled;
mod tally;
mod wire;
mod world;
mod writers;

use std::env;
use std::time::Instant;

use crate::client::cmd;
use crate::judge::{self, Dump};
use crate::replicas;
use crate::servers::{ALL, say};

use tally::Tally;
use world::World;

/// From which server to which; a list of versions is chosen from them.
const PAIRS: [(&str, &str); 11] = [
    ("redis-2.8.17", "redis-2.8.17"),
    ("redis-3.2.6", "redis-3.2.6"),
    ("redis-5.0.6", "redis-5.0.6"),
    ("redis-6.2.14", "redis-6.2.14"),
    ("redis-7.0.15", "redis-7.0.15"),
    ("redis-8.0.6", "redis-8.0.6"),
    ("valkey-9.1.2", "valkey-9.1.2"),
    ("redis-2.8.17", "redis-7.0.15"),
    ("redis-3.2.6", "redis-8.0.6"),
    ("redis-5.0.6", "valkey-9.1.2"),
    ("redis-6.2.14", "redis-7.0.15"),
];

/// How many rounds are played unless told otherwise.
const ROUNDS: u64 = 12;

/// What the writers do is what a replica can follow, or no round could be judged.
#[test]
fn a_replica_follows_what_several_write() {
    for (name, seed) in
        PAIRS.into_iter().filter(|(from, to)| from == to).map(|(from, _)| from).zip(1..)
    {
        let Some(mut world) = World::new(name, name, seed) else { continue };
        let mut replica = world.target.client();
        replica.call(cmd!("SLAVEOF", "127.0.0.1", world.source.port));
        world.write(6000, 6001);
        world.writers.rest();
        let first = Dump::read(&mut world.source.client());
        replicas::caught_up(&mut world.source.client(), &mut replica);
        let second = Dump::read(&mut replica);
        judge::assert_same(&first, &second, replicas::untold(&world.source), name);
        let (written, refused) = world.writers.written();
        assert!(refused < written / 50, "{name} refused {refused} of {written}");
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// The pairs of servers that are asked for, all of them by default.
fn pairs() -> Vec<(&'static str, &'static str)> {
    let Ok(asked) = env::var("UNDERSTUDY_FAULTS_VERSIONS") else { return PAIRS.to_vec() };
    let known = |name: &str| ALL.into_iter().find(|known| *known == name);
    let one = |part: &str| {
        let (from, to) = part.split_once('>').unwrap_or((part, part));
        known(from).zip(known(to)).unwrap_or_else(|| panic!("no such servers: {part}"))
    };
    asked.split(',').map(one).collect()
}

/// Every nth round, so that several can be played at once.
fn rounds(nth: u64, of: u64) {
    let first = setting("UNDERSTUDY_FAULTS_SEED").unwrap_or(1);
    let count = setting("UNDERSTUDY_FAULTS_ROUNDS").unwrap_or(ROUNDS);
    let pairs = pairs();
    let (mut all, mut wrong) = (Tally::default(), Vec::new());
    let begun = Instant::now();
    for seed in (first..first + count).filter(|seed| seed % of == nth) {
        let Some(round) = round::play(seed, &pairs) else { continue };
        all.add(&round.tally);
        if let Some(what) = round.wrong {
            say(&format!("{}: {what}", round.name));
            wrong.push(round.name);
        }
    }
    say(&format!("faults: {all}; {:.0} s", begun.elapsed().as_secs_f64()));
    assert!(wrong.is_empty(), "{} of {} rounds went wrong: {wrong:?}", wrong.len(), all.rounds);
}

/// Four of them run beside each other, as far as there is room.
mod rounds {
    #[test]
    fn first_part() {
        super::rounds(0, 4);
    }

    #[test]
    fn second_part() {
        super::rounds(1, 4);
    }

    #[test]
    fn third_part() {
        super::rounds(2, 4);
    }

    #[test]
    fn fourth_part() {
        super::rounds(3, 4);
    }
}
