//! `verify`: what is planted is found, and nothing else, whatever servers hold it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::dice::Dice;
use crate::judge::Kind;
use crate::planted;
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(30);

/// A difference: its kind, the database or `function`, and the key.
type Found = (String, String, Vec<u8>);

/// What a comparison said, in order, and its counts.
struct Said {
    differ: Vec<Found>,
    counts: Value,
    code: Option<i32>,
    stderr: String,
}

fn run(args: &[&str]) -> Ended {
    Understudy::start(&[&["verify"], args].concat()).wait(PATIENCE)
}

fn verify(from: &str, to: &str, flags: &[&str]) -> Said {
    said(&run(&[&["--from", from, "--to", to, "--json"], flags].concat()))
}

fn said(ended: &Ended) -> Said {
    let mut differ = Vec::new();
    let mut counts = Value::Null;
    for line in ended.stdout.lines() {
        let told: Value = serde_json::from_str(line).expect("a line is JSON");
        let Some(kind) = told["kind"].as_str() else {
            counts = told;
            continue;
        };
        let db = told["db"].as_u64().map_or_else(|| "function".to_owned(), |db| db.to_string());
        // One code point a byte.
        let key = told["key"].as_str().unwrap().chars().map(|c| u8::try_from(c).unwrap()).collect();
        differ.push((kind.to_owned(), db, key));
    }
    differ.sort();
    Said { differ, counts, code: ended.code, stderr: ended.stderr.clone() }
}

impl Said {
    #[track_caller]
    fn assert(&self, expected: &[(&str, u32, &str)], what: &str) {
        let mut expected: Vec<Found> = expected
            .iter()
            .map(|(kind, db, key)| ((*kind).to_owned(), db.to_string(), key.as_bytes().to_vec()))
            .collect();
        expected.sort();
        assert_eq!(self.differ, expected, "{what}: {}", self.stderr);
        let all: u64 = self.counts["differences"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(all, expected.len() as u64, "{what}");
        assert_eq!(self.code, Some(i32::from(!expected.is_empty())), "{what}: {}", self.stderr);
    }

    #[track_caller]
    fn assert_same(&self, keys: u64, what: &str) {
        self.assert(&[], what);
        for count in ["expected", "found", "same"] {
            assert_eq!(self.counts[count], keys, "{what}: {count} of {}", self.counts);
        }
        assert_eq!(self.counts["unproven"], 0, "{what}: {}", self.stderr);
    }
}

/// Keys in all databases.
fn keys(client: &mut Client) -> u64 {
    let info = client.call(cmd!("INFO", "keyspace")).text();
    let counts = info.lines().filter_map(|line| line.split_once("keys=")?.1.split(',').next());
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

#[track_caller]
fn copied(source: &Server, target: &Server, flags: &[&str]) {
    let (from, to) = (source.url(), target.url());
    let args = [&["sync", "--from", &from, "--to", &to, "--once"], flags].concat();
    Understudy::start(&args).wait(PATIENCE).assert_code(0);
}

/// What one server holds in its own encodings and another in others is the same.
fn across(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    data::fill(&mut client, source.version, holds);
    data::near().for_each(|key| drop(client.call(cmd!("DEL", key))));
    copied(&source, &target, &[]);
    let what = format!("{from} and {to}");
    verify(&source.url(), &target.url(), &[]).assert_same(keys(&mut client), &what);
    // Nothing of a value is held longer than it takes.
    verify(&source.url(), &target.url(), &["--memory", "4MiB"])
        .assert_same(keys(&mut client), &what);
    // From the other side it is the same too.
    verify(&target.url(), &source.url(), &[]).assert_same(keys(&mut client), &what);
}

macro_rules! across {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            across($from, $to);
        })+
    };
}

across! {
    redis_2_8_and_8_0 "redis-2.8.17" "redis-8.0.6",
    redis_2_8_and_3_2 "redis-2.8.17" "redis-3.2.6",
    redis_5_0_and_7_0 "redis-5.0.6" "redis-7.0.15",
    redis_6_2_and_valkey_9_1 "redis-6.2.14" "valkey-9.1.2",
    redis_7_0_and_8_0 "redis-7.0.15" "redis-8.0.2",
    redict_7_3_and_valkey_8_1 "redict-7.3.6" "valkey-8.1.1",
}

/// One change after the other is planted in the target.
fn finds_what_is_planted(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    planted::fill(&mut client, source.version, holds);
    copied(&source, &target, &[]);
    let older = source.version.redis <= target.version.redis;
    let version = if older { source.version } else { target.version };
    let (from, to) = (source.url(), target.url());
    let mut differ = BTreeSet::new();
    for plant in planted::plants(version, holds) {
        planted::apply(&mut target.client(), &plant);
        // Scores are compared as numbers: there is one zero.
        let seen = plant.seen.iter().filter(|_| plant.what != "the sign of a zero");
        for (kind, db, key) in seen {
            let of_field = plant.what.starts_with("a field's deadline");
            let kind = match kind {
                Kind::Missing => "missing",
                Kind::Extra => "extra",
                Kind::Type => "type",
                Kind::Value if of_field => "ttl",
                Kind::Deadline => "ttl",
                Kind::Function if plant.what.ends_with("gone") => "missing",
                Kind::Value | Kind::Function => "value",
            };
            let db = match plant.seen[0].0 {
                Kind::Function => "function".to_owned(),
                _ => db.to_string(),
            };
            // A key that has a deadline less may have another value since.
            differ.retain(|(_, of, known): &Found| (of, known) != (&db, key));
            differ.insert((kind.to_owned(), db, key.clone()));
        }
        let said = verify(&from, &to, &[]);
        let expected: Vec<_> = differ.iter().cloned().collect();
        assert_eq!(said.differ, expected, "{}: {}", plant.what, said.stderr);
        assert_eq!(said.code, Some(i32::from(!expected.is_empty())), "{}", plant.what);
    }
}

macro_rules! a_planted_change_is_found {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            finds_what_is_planted($from, $to);
        })+
    };
}

a_planted_change_is_found! {
    planted_behind_2_8 "redis-2.8.17" "redis-6.0.16",
    planted_behind_5_0 "redis-5.0.6" "redis-7.0.15",
    planted_behind_6_2 "redis-6.2.14" "valkey-9.1.2",
    planted_behind_7_0 "redis-7.0.15" "redis-8.0.6",
    planted_behind_8_0 "redis-8.0.6" "redis-8.0.6",
    planted_behind_valkey "valkey-9.1.2" "valkey-9.1.2",
}

/// A job brings what is written all the time; nothing differs but what somebody else has changed in the target.
#[test]
fn nothing_is_invented_while_a_job_runs() {
    for (from, to) in [("redis-2.8.17", "redis-7.0.15"), ("redis-7.0.15", "redis-7.0.15")] {
        let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
        data::all(&mut source.client(), &(0..20_000).map(|n| set(n, 0)).collect::<Vec<_>>());
        let (from, to) = (source.url(), target.url());
        let mut running = Understudy::start_telling(&["sync", "--from", &from, "--to", &to]);
        assert!(
            Client::wait_for_key(target.port, 0, "key:19999", PATIENCE, || running.is_running())
        );
        let stops = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut dice, mut client) = (Dice::new(9), source.client());
                let begun = Instant::now();
                for due in (0_u32..).map(|n| begun + Duration::from_millis(5) * n) {
                    if stops.load(Ordering::Relaxed) {
                        break;
                    }
                    // Ten thousand a second: the rate is what is tried.
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let commands: Vec<Command> = (0..50).map(|_| write(&mut dice)).collect();
                    client.pipeline(&commands);
                }
            });
            let checked = std::panic::catch_unwind(|| {
                verify(&from, &to, &[]).assert(&[], "nothing was planted");
                target.client().call(cmd!("SET", "planted:extra", 1));
                target.client().call(cmd!("APPEND", "key:19999", "#"));
                target.client().call(cmd!("PEXPIREAT", "key:19998", "4000000000000"));
                let differ = [
                    ("extra", 0, "planted:extra"),
                    ("value", 0, "key:19999"),
                    ("ttl", 0, "key:19998"),
                ];
                verify(&from, &to, &[]).assert(&differ, "what was planted");
            });
            stops.store(true, Ordering::Relaxed);
            if let Err(panic) = checked {
                std::panic::resume_unwind(panic);
            }
        });
        running.end_job(PATIENCE).assert_code(130);
    }
}

fn set(n: u32, round: u32) -> Command {
    cmd!("SET", format!("key:{n}"), format!("value {n} of round {round}"))
}

/// A write to one of the keys that are not planted, some of which are written often.
fn write(dice: &mut Dice) -> Command {
    let n = dice.below(10_000);
    match dice.below(6) {
        0 => cmd!("INCR", format!("counter:{}", n % 3000)),
        1 => cmd!("RPUSH", format!("list:{}", n % 500), n),
        2 => cmd!("DEL", format!("key:{n}")),
        3 => cmd!("PEXPIRE", format!("key:{n}"), 1 + n * 10),
        4 => cmd!("HSET", format!("hash:{}", n % 500), n, n),
        _ => set(u32::try_from(n).unwrap(), 1),
    }
}
