//! Rules for deadlines that hold when the job ends: a floor, a cap, and what an outage lasted.

use std::ops::RangeInclusive;

use crate::client::cmd;
use crate::data::{self, now_ms};
use crate::judge::Dump;
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

use super::{Forms, KEYS, PATIENCE, Pair, kill_while_it_sets, long_name, once, wait};

const HOUR: i64 = 3_600_000;

/// How long keys live, from ones below the floor to ones above the cap, in ms.
const LIVES: [(&str, Option<i64>); 4] = [
    ("soon", Some(600_000)),
    ("fits", Some(5_400_000)),
    ("long", Some(250_000_000)),
    ("none", None),
];

/// Deadlines of those who mean never: in the years 3500, 4500 and 9999.
const NEVER: [i64; 3] = [48_282_220_800_000, 79_839_129_600_000, 253_402_300_799_000];

const FLOOR_AND_CAP: [&str; 4] = ["--min-ttl", "1h", "--max-ttl", "2h"];

/// What such rules make of a deadline, in a job that has ended then.
fn bounded(ended: i64, at: i64) -> i64 {
    if at > ended { at.clamp(ended + HOUR, ended + 2 * HOUR) } else { at }
}

impl Pair {
    /// Waits until all is dead on the source that will be within a minute, and the target knows.
    fn wait_for_soon(&self, running: &mut Understudy) {
        let mut client = self.source.client();
        wait(|| {
            let soonest = Dump::read(&mut client).soonest();
            soonest.is_none_or(|at| at > now_ms(&mut client) + 60_000)
        });
        self.arrives(running, "soon dead");
    }

    /// When the job ended: a key that had less than the floor left has that from then on.
    #[track_caller]
    fn ended(&self, within: RangeInclusive<i64>, what: &str) -> i64 {
        let ended = Dump::read(&mut self.target.client()).deadline("floor") - HOUR;
        assert!(within.contains(&ended), "{what}: {ended} is not in {within:?}");
        ended
    }

    fn target_ms(&self) -> i64 {
        now_ms(&mut self.target.client())
    }
}

/// Each way in which a deadline is set, in the copy and behind it, over a stop in between.
pub(super) fn bounded_when_it_ends(pair: &Pair, what: &str) {
    let forms = Forms::of(&pair.source, &pair.target);
    let mut client = pair.source.client();
    client.call(cmd!("SET", "floor", 1, "EX", 1000));
    forms.make(&mut client, &LIVES);
    for at in NEVER {
        client.call(cmd!("SET", at, 1));
        client.call(cmd!("PEXPIREAT", at, at));
    }
    let mut running = pair.sync(&FLOOR_AND_CAP);
    pair.arrives(&mut running, "copied");
    pair.arrives(&mut running, "behind");
    for (life, _) in LIVES {
        forms.go(&mut client, life);
    }
    for n in [10, 100, 6000, 600_000] {
        client.call(cmd!("SETEX", format!("new:{n}"), n, n));
    }
    pair.wait_for_soon(&mut running);
    let begun = pair.target_ms();
    running.end_job(PATIENCE).assert_code(130);
    let ended = pair.ended(begun..=pair.target_ms(), what);
    pair.assert_same_but(what, |at| bounded(ended, at));
}

/// The tool is killed while it sets deadlines, by the names that it has kept and by a walk. Each time all is copied anew and ends later; what
/// is left is measured from the last end, and by no more than once.
#[test]
fn bounds_are_kept_by_a_job_that_is_killed_at_its_end() {
    const LIVES: [i64; 3] = [3000, 5000, 9000];
    for name in ["redis-2.8.17", "redis-7.0.15"] {
        let Some(pair) = Pair::start(name, name) else { return };
        let key = long_name;
        let mut client = pair.source.client();
        let set = |n: usize| cmd!("SET", key(n), n, "EX", LIVES[n % 3]);
        data::all(&mut client, &(0..KEYS).map(set).collect::<Vec<_>>());
        client.call(cmd!("SET", "floor", 1, "EX", 1000));
        let mut asking = pair.target.client();
        for memory in ["256MiB", "1MiB"] {
            let flags = [&FLOOR_AND_CAP[..], &["--once", "--memory", memory]].concat();
            let running = pair.sync(&flags);
            kill_while_it_sets(running, &mut asking, name);
        }
        let begun = pair.target_ms();
        let flags = [&FLOOR_AND_CAP[..], &["--once"]].concat();
        once(&pair.sync(&flags).wait(PATIENCE), 1);
        let ended = pair.ended(begun..=pair.target_ms(), name);
        pair.assert_same_but(name, |at| bounded(ended, at));
    }
}

#[test]
fn extended_first_then_bounded() {
    let name = "redis-7.0.15";
    let Some(pair) = Pair::start(name, name) else { return };
    let mut client = pair.source.client();
    for (key, left) in [("floor", 1), ("fits", 2400), ("long", 6000)] {
        client.call(cmd!("SET", key, 1, "EX", left + 1000));
    }
    let extended = [&FLOOR_AND_CAP[..], &["--extend-ttl", "20m", "--once"]].concat();
    let begun = pair.target_ms();
    once(&pair.sync(&extended).wait(PATIENCE), 1);
    let ended = pair.ended(begun..=pair.target_ms(), name);
    pair.assert_same_but(name, |at| bounded(ended, at + 1_200_000));
}

#[test]
fn rules_for_the_end_need_one() {
    let name = "redis-7.0.15";
    let Some(pair) = Pair::start(name, name) else { return };
    for (flags, words) in [
        (&["--max-ttl", "1h", "--deadlines", "live"][..], "--deadlines live"),
        (&["--freeze-ttl", "--deadlines", "live"], "later by the outage"),
        (&["--min-ttl", "2h", "--max-ttl", "1h"], "--min-ttl and --max-ttl"),
    ] {
        let ended = pair.sync(flags).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    // A job goes on under the rules that it was begun with.
    let mut running = pair.sync(&FLOOR_AND_CAP);
    pair.arrives(&mut running, "copied");
    drop(running.stop(PATIENCE));
    let ended = pair.sync(&["--min-ttl", "3h", "--once"]).wait(PATIENCE);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("other rules"), "{}", ended.stderr);
}

/// How long the outage lasted, as the report has it, in ms.
fn outage(ended: &Ended) -> i64 {
    let seconds = ended.reported("sources.0.seconds.outage").as_f64().unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "it is some seconds")]
    let ms = (seconds * 1000.0).round() as i64;
    ms
}

/// A write that is read behind the copy counts as of when it was made, to the second or so in which the source is asked for its offset.
#[test]
fn an_outage_that_began_while_the_copy_ran() {
    let name = "redis-7.0.15";
    let Some(pair) = Pair::start(name, name) else { return };
    let mut client = pair.source.client();
    pair.fill(4000);
    client.call(cmd!("SET", "dies", 1, "EX", 5000));
    let running = pair.sync(&["--once", "--freeze-ttl", "--limit-rate", "1000"]);
    let mut copy = pair.target.client();
    wait(|| copy.call(cmd!("DBSIZE")).int() > 20);
    let before = pair.target_ms();
    client.call(cmd!("SET", "written", 1, "EX", 6000));
    let ended = running.wait(PATIENCE);
    ended.assert_code(0);
    let lasted = outage(&ended);
    let whole = pair.target_ms() - before;
    assert!(whole >= 3000, "the copy was over too soon");
    assert!((1000..=whole).contains(&lasted), "{lasted} ms of {whole}");
    pair.assert_same_but(name, |at| at + lasted);
}

/// Of a capture the outage counts from when it was recorded.
#[test]
fn an_outage_since_a_capture() {
    let name = "redis-7.0.15";
    let Some(pair) = Pair::start(name, name) else { return };
    let mut client = pair.source.client();
    client.call(cmd!("SET", "k", 1, "EX", 5000));
    let capture = pair.state.path().join("kept.bin");
    let (from, to, capture) = (pair.source.url(), pair.target.url(), capture.to_str().unwrap());
    let before = pair.target_ms();
    Understudy::start(&["record", "--from", &from, "--out", capture, "--once"])
        .wait(PATIENCE)
        .assert_code(0);
    let after = pair.target_ms();
    client.call(cmd!("SET", "dies", 1, "PX", 1500));
    pair.wait_for_deaths(&["dies".to_owned()]);
    let begun = pair.target_ms();
    let args = ["sync", "--from", capture, "--to", &to, "--once", "--freeze-ttl"];
    let ended = Understudy::start(&args).wait(PATIENCE);
    ended.assert_code(0);
    let lasted = outage(&ended);
    let within = begun - after..=pair.target_ms() - before;
    assert!(within.contains(&lasted), "{lasted} ms is not in {within:?}");
    pair.assert_same_but(name, |at| at + lasted);
}

/// Of a file it counts from when it was made, which it tells to the second.
#[test]
fn an_outage_since_a_file_was_made() {
    for name in ["redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"] {
        let Some(pair) = Pair::start(name, name) else { return };
        let mut client = pair.source.client();
        client.call(cmd!("SET", "k", 1, "EX", 5000));
        client.call(cmd!("SET", "forever", 1));
        let before = pair.target_ms();
        client.call(cmd!("SAVE"));
        let after = pair.target_ms();
        let file = pair.state.path().join("made.rdb");
        std::fs::copy(pair.source.folder().join("dump.rdb"), &file).unwrap();
        client.call(cmd!("SET", "dies", 1, "PX", 1500));
        pair.wait_for_deaths(&["dies".to_owned()]);
        let begun = pair.target_ms();
        let (file, to) = (file.to_str().unwrap(), pair.target.url());
        let args = ["sync", "--from", file, "--to", &to, "--once", "--freeze-ttl"];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(0);
        let lasted = outage(&ended);
        let within = begun - after..=pair.target_ms() - before / 1000 * 1000;
        assert!(within.contains(&lasted), "{name}: {lasted} ms is not in {within:?}");
        pair.assert_same_but(name, |at| at + lasted);
    }
}

/// The source is written to, and then only loses keys that die. The job is stopped and goes on in between.
pub(super) fn frozen_by_an_outage(pair: &Pair, what: &str) {
    let forms = Forms::of(&pair.source, &pair.target);
    let mut client = pair.source.client();
    forms.make(&mut client, &LIVES);
    let mut running = pair.sync(&["--freeze-ttl"]);
    pair.arrives(&mut running, "copied");
    pair.arrives(&mut running, "behind");
    for (life, _) in LIVES {
        forms.go(&mut client, life);
    }
    pair.wait_for_soon(&mut running);
    client.call(cmd!("SET", "dies first", 1, "PX", 1000));
    client.call(cmd!("SET", "dies then", 1, "PX", 2500));
    let before = pair.target_ms();
    pair.arrives(&mut running, "written last");
    let after = pair.target_ms();
    pair.wait_for_deaths(&["dies first".to_owned()]);
    let (stopped, again) = running.stop(PATIENCE);
    stopped.assert_code(130);
    pair.wait_for_deaths(&["dies then".to_owned()]);
    let begun = pair.target_ms();
    let ended = again.once().wait(PATIENCE);
    ended.assert_code(0);
    let lasted = outage(&ended);
    let within = begun - after..=pair.target_ms() - before;
    assert!(within.contains(&lasted), "{what}: {lasted} ms is not in {within:?}");
    pair.assert_same_but(what, |at| at + lasted);
}

/// A source that waits for another one's copy holds back what it would hold back without that.
#[test]
fn a_cap_holds_for_a_source_that_has_waited_for_its_turn() {
    let slow = ["--rdb-key-save-delay", "1000", "--repl-diskless-sync", "no"];
    let started = [slow, slow].map(|options| Server::start_with("redis-7.0.15", &options));
    let ([Some(large), Some(small)], Some(target)) = (started, Server::start("redis-7.0.15"))
    else {
        return;
    };
    large.client().call(cmd!("DEBUG", "POPULATE", 400, "large", 50_000));
    for (n, at) in NEVER.into_iter().enumerate() {
        small.client().call(cmd!("SET", format!("never:{n}"), n, "PXAT", at));
    }
    let (one, two, to) = (large.url(), small.url(), target.url());
    for policy in ["stop", "replace"] {
        let args =
            ["sync", "--from", &one, "--from", &two, "--to", &to, "--once", "--max-ttl", "2h"];
        let run = Understudy::start(&[&args[..], &["--on-conflict", policy]].concat());
        run.wait(PATIENCE).assert_code(0);
        let mut client = target.client();
        assert_eq!(client.call(cmd!("DBSIZE")).int(), 403, "{policy}");
        for n in 0..NEVER.len() {
            let left = client.call(cmd!("PTTL", format!("never:{n}"))).int();
            assert!((1..=2 * HOUR).contains(&left), "{policy}: {n} has {left} ms left");
        }
        client.call(cmd!("FLUSHALL"));
    }
}
