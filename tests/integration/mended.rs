//! `verify --repair` beside a job that runs: what differs is brought by the job itself, whatever is written meanwhile.

use std::time::Duration;

use crate::client::{Client, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::planted;
use crate::servers::Server;
use crate::tool::Understudy;
use crate::verify::{said, set, verify, while_written, write};

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a job, and waits until all that is on the source is in the target.
fn follows(source: &Server, flags: &[&str], target: &Server) -> Understudy {
    let (from, to) = (source.url(), target.url());
    let places = ["sync", "--from", &from, "--to", &to];
    let running = Understudy::start_telling(&[&places[..], flags].concat());
    running.follows(PATIENCE);
    running
}

/// What `verify --repair` says of these places, asked for beside a job.
fn repaired(running: &Understudy, source: &Server, target: &Server) -> crate::verify::Said {
    let (from, to) = (source.url(), target.url());
    said(&running.beside(&["verify", "--from", &from, "--to", &to, "--json", "--repair"]))
}

/// One change of each kind, planted in the target of a job and mended by it while others are written.
fn mends_what_is_planted(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    planted::fill(&mut client, source.version, holds);
    let running = follows(&source, &[], &target);
    let older = source.version.redis <= target.version.redis;
    let version = if older { source.version } else { target.version };
    while_written(
        &source,
        |_, dice, _| write(dice),
        || {
            for plant in planted::plants(version, holds) {
                // A job notices that its record is another's.
                if plant.what != "understudy's own key" {
                    planted::apply(&mut target.client(), &plant);
                }
            }
            target.client().call(cmd!("SET", "planted:extra", 1));
            let mended = repaired(&running, &source, &target);
            assert_eq!(mended.code, Some(0), "{}", mended.stderr);
            assert!(mended.differ.len() > 15, "{:?}", mended.differ);
            assert_eq!(mended.counts["mended"], mended.differ.len() as u64, "{}", mended.stderr);
            assert_eq!(mended.counts["unproven"], 0, "{}", mended.stderr);
            verify(&source.url(), &target.url(), &[]).assert(&[], "what was mended");
        },
    );
    // Nothing that was written meanwhile was lost, or is there twice.
    let (stopped, again) = running.stop(PATIENCE);
    stopped.assert_code(130);
    again.once().wait(PATIENCE).assert_code(0);
    let dumps = [&source, &target].map(|server| Dump::read(&mut server.client()));
    let forgiving = Forgiving { deadline_ms: 0, entries_read: false };
    let left = judge::diff(&dumps[0], &dumps[1], forgiving);
    // Scores are compared as numbers: the sign of a zero is no difference.
    let left: Vec<_> = left.iter().filter(|one| one.key != b"zset:long").collect();
    assert!(left.is_empty(), "{left:?}");
}

macro_rules! a_planted_change_is_mended {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            mends_what_is_planted($from, $to);
        })+
    };
}

a_planted_change_is_mended! {
    mended_behind_2_8 "redis-2.8.17" "redis-6.0.16",
    mended_behind_5_0 "redis-5.0.6" "redis-7.0.15",
    mended_behind_6_2 "redis-6.2.14" "valkey-9.1.2",
    mended_behind_8_0 "redis-8.0.6" "redis-8.0.6",
}

/// Keys are wrong in the target, and are changed by commands that build on what is there, while they are mended.
#[test]
fn what_is_counted_while_it_is_mended_is_exact() {
    const COUNTERS: usize = 2000;
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let counter = |n: usize| format!("counter:{n}");
    let begun: Vec<_> = (0..COUNTERS).map(|n| cmd!("SET", counter(n), 1_000_000)).collect();
    data::all(&mut source.client(), &begun);
    let running = follows(&source, &["--prefix", "new:"], &target);
    let mut written = 0;
    while_written(
        &source,
        |_, dice, _| {
            written += 1;
            cmd!("INCR", counter(dice.below(COUNTERS)))
        },
        || {
            let spoiled: Vec<_> = (0..COUNTERS)
                .map(|n| match n % 4 {
                    0 => cmd!("DEL", format!("new:{}", counter(n))),
                    1 => cmd!("DECRBY", format!("new:{}", counter(n)), 999_000),
                    2 => cmd!("PEXPIRE", format!("new:{}", counter(n)), 86_400_000),
                    _ => cmd!("SET", format!("new:extra:{n}"), n),
                })
                .collect();
            target.client().pipeline(&spoiled);
            let (from, to) = (source.url(), target.url());
            let places = ["verify", "--from", &from, "--to", &to, "--prefix", "new:"];
            let mended = said(&running.beside(&[&places[..], &["--json", "--repair"]].concat()));
            assert_eq!(mended.code, Some(0), "{}", mended.stderr);
            assert_eq!(mended.differ.len(), COUNTERS, "{}", mended.stderr);
            assert_eq!(mended.counts["mended"], COUNTERS, "{}", mended.stderr);
        },
    );
    running.end_job(PATIENCE).assert_code(130);
    let mut sum = 0;
    for n in 0..COUNTERS {
        sum += target
            .client()
            .call(cmd!("GET", format!("new:{}", counter(n))))
            .text()
            .parse::<u64>()
            .unwrap();
        if n % 4 == 3 {
            assert_eq!(target.client().call(cmd!("EXISTS", format!("new:extra:{n}"))).int(), 0);
        }
    }
    assert_eq!(sum, COUNTERS as u64 * 1_000_000 + written);
}

/// Of a name that two sources hold the first of them says what it is, whichever lane is asked.
#[test]
fn a_name_of_several_sources_is_what_the_first_holds() {
    let (first, second) = (Server::start("redis-2.8.17"), Server::start("redis-7.0.15"));
    let (Some(first), Some(second), Some(target)) = (first, second, Server::start("redis-8.0.6"))
    else {
        return;
    };
    data::all(&mut first.client(), &[set(1, 1), set(2, 1)]);
    data::all(&mut second.client(), &[set(2, 2), set(3, 2), set(4, 2)]);
    let (one, other, to) = (first.url(), second.url(), target.url());
    let places = ["--from", &one, "--from", &other, "--to", &to, "--on-conflict", "replace"];
    let running = Understudy::start_telling(&[&["sync"], &places[..]].concat());
    running.follows(PATIENCE);
    let spoiled = [set(1, 9), set(2, 2), cmd!("DEL", "key:3"), set(5, 9)];
    data::all(&mut target.client(), &spoiled);
    // The one that it was taken from holds it no longer.
    first.client().call(cmd!("DEL", "key:1"));
    let places: Vec<&str> = places[..6].to_vec();
    let told = said(&running.beside(&[&["verify", "--json", "--repair"], &places[..]].concat()));
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    // The deletion may have been brought before the target was read.
    let named: Vec<_> = told.differ.iter().map(|(_, _, key)| key.as_slice()).collect();
    assert!(named.ends_with(&[&b"key:3"[..], b"key:2"]), "{:?}", told.differ);
    for (n, round) in [(2, 1), (3, 2), (4, 2)] {
        let held = target.client().call(cmd!("GET", format!("key:{n}"))).text();
        assert_eq!(held, format!("value {n} of round {round}"));
    }
    assert_eq!(target.client().call(cmd!("EXISTS", "key:1")).int(), 0);
    assert_eq!(target.client().call(cmd!("EXISTS", "key:5")).int(), 0);
    running.end_job(PATIENCE).assert_code(130);
}

/// What the job's master does not let it read is told, and the job goes on.
#[test]
fn what_a_job_cannot_read_is_told_and_harms_nobody() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let large = "x".repeat(3 << 20);
    data::all(&mut source.client(), &[set(1, 1), cmd!("SET", "large", large)]);
    let mut running = follows(&source, &["--memory", "16MiB"], &target);
    data::all(&mut target.client(), &[set(1, 2), cmd!("APPEND", "large", "#")]);
    let told = repaired(&running, &source, &target);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert_eq!(told.counts["mended"], 1);
    assert!(told.stderr.contains("\"large\": it was not mended"), "{}", told.stderr);
    assert!(told.stderr.contains("too many for the job's --memory"), "{}", told.stderr);
    // A job that is paused says so.
    target.client().call(set(1, 2));
    running.beside(&["pause"]).assert_code(0);
    running.status_when(PATIENCE, |status| status["order"] == "pause");
    let told = repaired(&running, &source, &target);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(told.stderr.contains("the job is paused (understudy resume)"), "{}", told.stderr);
    running.beside(&["resume"]).assert_code(0);
    source.client().call(cmd!("SET", "later", 1));
    assert!(Client::wait_for_key(target.port, 0, "later", PATIENCE, || running.is_running()));
    running.end_job(PATIENCE).assert_code(130);
}
