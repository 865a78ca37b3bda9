//! `verify`: what is planted is found, and nothing else, whatever servers hold it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::asking;
use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::dice::Dice;
use crate::far::away;
use crate::judge::{self, Dump, Forgiving, Kind};
use crate::planted;
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(30);

/// A difference: its kind, the database or `function`, and the key.
pub(crate) type Found = (String, String, Vec<u8>);

/// What a comparison said, in order, and its counts.
pub(crate) struct Said {
    pub(crate) differ: Vec<Found>,
    pub(crate) counts: Value,
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

pub(crate) fn run(args: &[&str]) -> Ended {
    Understudy::start(&[&["verify"], args].concat()).wait(PATIENCE)
}

pub(crate) fn verify(from: &str, to: &str, flags: &[&str]) -> Said {
    said(&run(&[&["--from", from, "--to", to, "--json"], flags].concat()))
}

pub(crate) fn said(ended: &Ended) -> Said {
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
    pub(crate) fn assert(&self, expected: &[(&str, u32, &str)], what: &str) {
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
    pub(crate) fn assert_same(&self, keys: u64, what: &str) {
        self.assert(&[], what);
        for count in ["expected", "found", "same"] {
            assert_eq!(self.counts[count], keys, "{what}: {count} of {}", self.counts);
        }
        assert_eq!(self.counts["unproven"], 0, "{what}: {}", self.stderr);
    }
}

/// Keys in all databases.
pub(crate) fn keys(client: &mut Client) -> u64 {
    let info = client.call(cmd!("INFO", "keyspace")).text();
    let counts = info.lines().filter_map(|line| line.split_once("keys=")?.1.split(',').next());
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

#[track_caller]
pub(crate) fn copied(source: &Server, target: &Server, flags: &[&str]) {
    let (from, to) = (source.url(), target.url());
    let args = [&["sync", "--from", &from, "--to", &to, "--once"], flags].concat();
    Understudy::start(&args).wait(PATIENCE).assert_code(0);
}

/// All that both can hold and that does not die meanwhile, copied. Gives a client of the source.
pub(crate) fn copied_whole(source: &Server, target: &Server) -> Client {
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    data::fill(&mut client, source.version, holds);
    data::near().for_each(|key| drop(client.call(cmd!("DEL", key))));
    copied(source, target, &[]);
    client
}

/// What one server holds in its own encodings and another in others is the same.
fn across(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut client = copied_whole(&source, &target);
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
    let expected: Vec<_> = differ.iter().cloned().collect();
    found_in_every_way(&source, &target, &expected);
    // All that, mended at once.
    let repaired = verify(&from, &to, &["--repair"]);
    assert_eq!(repaired.differ.len(), differ.len());
    assert_eq!(repaired.counts["mended"], differ.len() as u64, "{}", repaired.stderr);
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    verify(&from, &to, &[]).assert(&[], "what was mended");
    let dumps = [&source, &target].map(|server| Dump::read(&mut server.client()));
    let forgiving = Forgiving { deadline_ms: 0, entries_read: false };
    let left = judge::diff(&dumps[0], &dumps[1], forgiving);
    // Scores are compared as numbers: the sign of a zero is no difference.
    let left: Vec<_> = left.iter().filter(|one| one.key != b"zset:long").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The same is told, and nothing else, however both sides are read.
#[track_caller]
fn found_in_every_way(source: &Server, target: &Server, differ: &[Found]) {
    let (from, to) = (source.url(), target.url());
    let what = format!("{} and {}", source.name, target.name);
    for (by, sources, method) in
        [("replication", "psync", "psync"), ("scan", "SCAN and DUMP", "SCAN and DUMP")]
    {
        let said = verify(&from, &to, &["--by", by]);
        assert_eq!(said.differ, differ, "{what}, {by}: {}", said.stderr);
        assert_eq!(
            (&said.counts["sources"][0], &said.counts["target"]),
            (&sources.into(), &method.into())
        );
        assert_eq!(said.counts["unproven"], 0, "{what}, {by}: {}", said.stderr);
    }
    // Vector sets can be read by nothing but DUMP.
    let is_plain = |one: &&Found| !one.2.starts_with(b"vectors:");
    let plain: Vec<_> = differ.iter().filter(is_plain).cloned().collect();
    let vectors = target.client().call(cmd!("KEYS", "vectors:*")).array().len();
    let (to, also) = (without_dump(target), without_dump(source));
    for (from, sources, by) in [
        (&from, "psync", "auto"),
        // A source without users is read so elsewhere.
        (also.as_ref().unwrap_or(&from), "SCAN and reads by type", "scan"),
    ] {
        let Some(to) = &to else { continue };
        let said = verify(from, to, &["--by", by]);
        assert_eq!(said.differ, plain, "{what}, by type, {by}: {}", said.stderr);
        assert_eq!(said.counts["target"], "SCAN and reads by type");
        if by == "auto" || also.is_some() {
            assert_eq!(said.counts["sources"][0], sources);
        }
        assert_eq!(said.counts["unproven"], vectors, "{what}, by type, {by}: {}", said.stderr);
    }
}

/// The URL of a user who may do all but DUMP; `None` where there are no users.
pub(crate) fn without_dump(server: &Server) -> Option<String> {
    without(server, "dump")
}

/// The URL of a user who may do all but this.
pub(crate) fn without(server: &Server, command: &str) -> Option<String> {
    let (name, not) = (format!("no-{command}"), format!("-{command}"));
    let user = cmd!("ACL", "SETUSER", &name, "on", ">p", "~*", "&*", "+@all", not);
    let user = if server.version.at_least(6, 2) {
        user
    } else {
        user.into_iter().filter(|word| word != b"&*").collect()
    };
    server.version.at_least(6, 0).then(|| {
        server.client().call(user);
        format!("redis://{name}:p@127.0.0.1:{}", server.port)
    })
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
        let turn = |n: u32, dice: &mut Dice, passed: u128| match n {
            // Four that change a thousand times a second.
            0..20 => hot(n, passed),
            _ => write(dice),
        };
        while_written(&source, turn, || {
            for by in ["auto", "scan", "replication"] {
                let said = verify(&from, &to, &["--by", by]);
                said.assert(&[], "nothing was planted");
                assert_eq!(said.counts["unproven"], 0, "{by}: {}", said.stderr);
            }
            target.client().call(cmd!("INCRBY", "hot:0", 1_000_000));
            target.client().call(cmd!("SET", "planted:extra", 1));
            target.client().call(cmd!("APPEND", "key:19999", "#"));
            target.client().call(cmd!("PEXPIREAT", "key:19998", "4000000000000"));
            let differ = [
                ("extra", 0, "planted:extra"),
                ("value", 0, "key:19999"),
                ("ttl", 0, "key:19998"),
                ("value", 0, "hot:0"),
            ];
            let said = verify(&from, &to, &[]);
            said.assert(&differ, "what was planted");
            assert_eq!(said.counts["unproven"], 0, "{}", said.stderr);
        });
        running.end_job(PATIENCE).assert_code(130);
    }
}

/// Checks something while fifty commands are written each five milliseconds, which is ten thousand a second. Each is made of its number among the fifty
/// and of how many milliseconds have passed.
pub(crate) fn while_written(
    source: &Server,
    mut make: impl FnMut(u32, &mut Dice, u128) -> Command + Send,
    check: impl FnOnce(),
) {
    let stops = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut dice, mut client) = (Dice::new(9), source.client());
            let begun = Instant::now();
            for due in (0_u32..).map(|n| begun + Duration::from_millis(5) * n) {
                if stops.load(Ordering::Relaxed) {
                    break;
                }
                // The rate is what is tried.
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let passed = due.duration_since(begun).as_millis();
                let commands: Vec<_> = (0..50).map(|n| make(n, &mut dice, passed)).collect();
                client.pipeline(&commands);
            }
        });
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        stops.store(true, Ordering::Relaxed);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
}

pub(crate) fn set(n: u32, round: u32) -> Command {
    cmd!("SET", format!("key:{n}"), format!("value {n} of round {round}"))
}

/// A write to one of the keys that change all the time; one of them has one of two values each time.
fn hot(n: u32, turn: u128) -> Command {
    match n % 4 {
        0 => cmd!("INCR", "hot:0"),
        1 => cmd!("SET", "hot:1", if n < 10 { "a" } else { "b" }),
        2 => cmd!("ZINCRBY", "hot:2", 1, format!("member {}", n % 7)),
        _ => cmd!("SETEX", "hot:3", 5000, format!("{n} of {turn}")),
    }
}

/// A write to one of the keys that are not planted, some of which are written often.
pub(crate) fn write(dice: &mut Dice) -> Command {
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

/// As a person and a script read it.
#[test]
fn differences_are_lines_of_three_words() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let plain: Vec<Command> = (0..20).map(|n| set(n, 0)).collect();
    data::all(&mut source.client(), &plain);
    data::all(&mut target.client(), &plain[1..]);
    data::all(
        &mut target.client(),
        &[
            cmd!("SELECT", 3),
            cmd!("SET", b"tab\tand \xff", 1),
            cmd!("SELECT", 0),
            cmd!("PEXPIRE", "key:7", 100_000),
        ],
    );
    let (from, to) = (source.url(), target.url());
    let places = ["--from", &from, "--to", &to];
    let ended = run(&places);
    ended.assert_code(1);
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["extra\t3\t\"tab\\tand \\xff\"", "missing\t0\t\"key:0\"", "ttl\t0\t\"key:7\""]
    );
    for told in [
        "the sources by psync, the target by SCAN and DUMP",
        "20 keys of the sources, 20 of the target; 18 are the same",
        "3 keys differ: 1 missing, 1 extra, 1 ttl",
    ] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let quiet = run(&[&places[..], &["--progress", "none"]].concat());
    assert_eq!((quiet.stdout.lines().count(), quiet.stderr.as_str()), (3, ""));
    let few = verify(&from, &to, &["--differences", "1"]);
    assert_eq!((few.differ.len(), few.counts["differences"]["missing"].as_u64()), (1, Some(1)));
    assert!(few.stderr.contains("2 of them are not written"), "{}", few.stderr);
    // A deadline that comes or goes is no matter of how late it is.
    let tolerant = verify(&from, &to, &["--ttl-tolerance", "1h"]);
    assert_eq!(tolerant.counts["differences"]["ttl"], 1);
    source.client().call(cmd!("PEXPIRE", "key:7", 103_000));
    assert_eq!(verify(&from, &to, &[]).counts["differences"]["ttl"], 1);
    target.client().call(cmd!("PERSIST", "key:7"));
    assert_eq!(verify(&from, &to, &[]).counts["differences"]["ttl"], 1, "none has one there");
    target.client().call(cmd!("PEXPIRE", "key:7", 100_000));
    let tolerant = verify(&from, &to, &["--ttl-tolerance", "10s"]);
    assert_eq!(tolerant.counts["differences"]["ttl"], 0, "{}", tolerant.stderr);
}

/// Several sources with rules of their own, as the file of their job has them.
#[test]
fn many_sources_are_compared_under_their_rules() {
    let names = ["redis-2.8.17", "redis-6.2.14", "redis-7.0.15"];
    let (Some(one), Some(two), Some(target)) =
        (Server::start(names[0]), Server::start(names[1]), Server::start(names[2]))
    else {
        return;
    };
    for (server, round) in [(&one, 1), (&two, 2)] {
        let mut client = server.client();
        data::all(&mut client, &(0..300).map(|n| set(n, round)).collect::<Vec<_>>());
        data::all(
            &mut client,
            &[
                cmd!("SET", "tmp:1", round),
                cmd!("SETEX", "dies", 5000, round),
                cmd!("SELECT", 4),
                cmd!("RPUSH", "list", round, 2, 3),
            ],
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("night.toml");
    let config = format!(
        "[target]\nurl = \"{}\"\n[defaults]\nexclude = [\"tmp:*\"]\n\
         [[source]]\nname = \"one\"\nurl = \"{}\"\nprefix = \"one:\"\ndb_map = \"4:5,5:4\"\n\
         [[source]]\nname = \"two\"\nurl = \"{}\"\nrename = [\"^key:=second:\"]\nextend_ttl = \"3h\"\n",
        target.url(),
        one.url(),
        two.url()
    );
    std::fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap();
    Understudy::start(&["sync", "--config", file, "--once"]).wait(PATIENCE).assert_code(0);
    let compared = || said(&run(&["--config", file, "--json"]));
    compared().assert_same(604, "as it was brought");

    let mut client = target.client();
    data::all(
        &mut client,
        &[
            cmd!("SET", "one:key:7", "other"),
            cmd!("DEL", "second:8"),
            cmd!("SET", "one:new", 1),
            // Nobody brings such a name: it would have become another one.
            cmd!("SET", "key:9", 1),
            cmd!("PERSIST", "dies"),
            cmd!("SELECT", 5),
            cmd!("RPOP", "one:list"),
        ],
    );
    let planted = compared();
    let mut differ = vec![
        ("value", 0, "one:key:7"),
        ("missing", 0, "second:8"),
        ("extra", 0, "one:new"),
        ("ttl", 0, "dies"),
        ("value", 5, "one:list"),
    ];
    // By an expression nobody can tell where a name comes from.
    differ.push(("extra", 0, "key:9"));
    planted.assert(&differ, "what was planted");
}

/// Names that several sources hold are the first one's.
#[test]
fn a_key_of_several_sources_is_compared_with_the_first() {
    let name = "redis-7.0.15";
    let (Some(one), Some(two), Some(target)) =
        (Server::start(name), Server::start(name), Server::start(name))
    else {
        return;
    };
    data::all(&mut one.client(), &[set(1, 1), set(2, 1)]);
    data::all(&mut two.client(), &[set(2, 2), set(3, 2)]);
    let (from, also, to) = (one.url(), two.url(), target.url());
    let places = ["--from", &from, "--from", &also, "--to", &to];
    let sync = [&["sync"], &places[..], &["--once", "--on-conflict", "replace"]].concat();
    Understudy::start(&sync).wait(PATIENCE).assert_code(0);
    let compared = || said(&run(&[&places[..], &["--json"]].concat()));
    let same = compared();
    same.assert_same(3, "as it was brought");
    assert_eq!(same.counts["shared"], 1);
    // It becomes the other one's.
    one.client().call(cmd!("DEL", "key:2"));
    compared().assert(&[("value", 0, "key:2")], "the first one's is gone");
    target.client().call(set(2, 2));
    compared().assert(&[], "it is the other one's");
}

/// Files on either side.
#[test]
fn files_are_compared() {
    let name = "redis-6.2.14";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    data::all(&mut source.client(), &(0..500).map(|n| set(n, 0)).collect::<Vec<_>>());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept.rdb");
    let file = file.to_str().unwrap();
    let (from, to) = (source.url(), target.url());
    for to in [file, &to] {
        Understudy::start(&["sync", "--from", &from, "--to", to, "--once"])
            .wait(PATIENCE)
            .assert_code(0);
    }
    verify(&from, file, &[]).assert_same(500, "a server and a file");
    verify(file, &to, &[]).assert_same(500, "a file and a server");
    data::all(&mut target.client(), &[cmd!("DEL", "key:3"), cmd!("SET", "key:4", "x")]);
    let differ = [("missing", 0, "key:3"), ("value", 0, "key:4")];
    verify(file, &to, &[]).assert(&differ, "a file and a server that was changed");
    data::all(&mut source.client(), &[cmd!("DEL", "key:3"), cmd!("SET", "key:4", "x")]);
    let differ = [("extra", 0, "key:3"), ("value", 0, "key:4")];
    verify(&from, file, &[]).assert(&differ, "a server that was changed and a file");
    let none = run(&["--from", &from, "--to", "no such.rdb"]);
    none.assert_code(2);
    assert!(none.stderr.contains("no such.rdb"), "{}", none.stderr);
}

/// A target that does not let itself be read is told, with what it lacks; nothing is said to be the same.
#[test]
fn a_target_that_refuses_to_be_read_is_told() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    data::all(&mut source.client(), &[set(1, 1)]);
    data::all(
        &mut target.client(),
        &[
            set(1, 1),
            cmd!("ACL", "SETUSER", "few", "on", ">p", "~*", "+@all", "-dump", "-getrange"),
        ],
    );
    let (from, to) = (source.url(), format!("redis://few:p@127.0.0.1:{}", target.port));
    let ended = run(&["--from", &from, "--to", &to]);
    ended.assert_code(3);
    assert!(
        ended.stderr.contains("NOPERM") && ended.stderr.contains("getrange"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("not all keys were compared"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

/// Large values are read in pieces, on both sides.
#[test]
fn large_values_fit_into_little_memory() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut dice = Dice::new(5);
    let large = dice.bytes(60 << 20);
    let fields: Vec<Command> = (0..400)
        .map(|some| {
            let pairs = (0..500).flat_map(|n| {
                let n = some * 500 + n;
                [format!("field {n}").into_bytes(), format!("value {n}").into_bytes()]
            });
            [cmd!("HSET", "hash"), pairs.collect()].concat()
        })
        .collect();
    for server in [&source, &target] {
        data::all(&mut server.client(), &[cmd!("SET", "large", large.clone())]);
        data::all(&mut server.client(), &fields);
    }
    let (from, to) = (source.url(), target.url());
    let args = ["verify", "--from", &from, "--to", &to, "--memory", "8MiB", "--json"];
    let (peak, ended) = Understudy::start(&args).wait_with_peak(PATIENCE);
    said(&ended).assert_same(2, "large values");
    assert!(peak <= 48, "{peak} MiB");
    let few = without_dump(&target).unwrap();
    let args = ["verify", "--from", &from, "--to", &few, "--memory", "8MiB", "--json"];
    let (peak, ended) = Understudy::start(&args).wait_with_peak(PATIENCE);
    said(&ended).assert_same(2, "large values by type");
    assert!(peak <= 48, "{peak} MiB by type");
    // One byte of sixty million, and one field of two hundred thousand.
    data::all(
        &mut target.client(),
        &[cmd!("SETRANGE", "large", 30 << 20, "#"), cmd!("HSET", "hash", "field 100000", "#")],
    );
    let differ = [("value", 0, "hash"), ("value", 0, "large")];
    verify(&from, &to, &["--memory", "1GiB"]).assert(&differ, "one part of each");
    verify(&from, &few, &["--memory", "1GiB"]).assert(&differ, "one part of each, by type");
}

/// A database in which no key had a deadline is not asked for any; one that comes while it is read is found all the same.
#[test]
fn deadlines_that_come_meanwhile_are_found() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    for server in [&source, &target] {
        server.client().call(cmd!("DEBUG", "POPULATE", 60_000));
        server.client().call(cmd!("CONFIG", "RESETSTAT"));
    }
    let (from, to) = (source.url(), target.url());
    let asked = |command: &str| {
        let line = target.client().info("commandstats", &format!("cmdstat_{command}"));
        let calls = line.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    let mut running =
        Understudy::start(&["verify", "--from", &from, "--to", &to, "--by", "scan", "--json"]);
    // While it is read, each key gets one behind which it has been asked for.
    asking::until("it reads the target", PATIENCE, || asked("mget") > 16 || !running.is_running());
    assert!(running.is_running(), "it ended before anything came");
    let mut client = target.client();
    for n in 0..20 {
        client.call(cmd!("PEXPIREAT", format!("key:{}", n * 3000), "4000000000000"));
    }
    let said = said(&running.wait(PATIENCE));
    let expected: Vec<Found> = (0..20)
        .map(|n| ("ttl".to_owned(), "0".to_owned(), format!("key:{}", n * 3000).into_bytes()))
        .collect();
    assert_eq!(said.differ.len(), expected.len(), "{}", said.stderr);
    assert!(expected.iter().all(|one| said.differ.contains(one)), "{}", said.stderr);
    // Once without them, and once more with them.
    let values = asked("dump") + 64 * asked("mget");
    assert!(asked("pexpiretime") >= 60_000 && values >= 100_000, "{values}");
}

/// Ctrl-C ends it; what was not compared is not said to be the same.
#[test]
fn a_stop_says_that_not_all_was_compared() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    source.client().call(cmd!("DEBUG", "POPULATE", 100_000, "key", 100));
    let (from, to) = (source.url(), target.url());
    let args = ["verify", "--from", &from, "--to", &to, "--limit-read", "10kB"];
    let mut running = Understudy::start_telling(&args);
    running.tells("the source is read as it is here", PATIENCE);
    running.interrupt();
    let ended = running.wait(PATIENCE);
    ended.assert_code(130);
    assert!(ended.stderr.contains("not all keys were compared"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

/// What a job has under way would come on top of what is mended.
#[test]
fn a_repair_beside_a_job_is_refused() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    source.client().call(set(1, 1));
    let (from, to) = (source.url(), target.url());
    let places = ["--from", &from, "--to", &to];
    let mut running = Understudy::start(&[&["sync"], &places[..]].concat());
    assert!(Client::wait_for_key(target.port, 0, "key:1", PATIENCE, || running.is_running()));
    let (stopped, again) = running.stop(PATIENCE);
    stopped.assert_code(130);
    target.client().call(set(1, 2));
    let refused = run(&[&places[..], &["--repair"]].concat());
    refused.assert_code(2);
    assert!(refused.stderr.contains("is under way"), "{}", refused.stderr);
    again.once().wait(PATIENCE).assert_code(0);
    let repaired = run(&[&places[..], &["--repair"]].concat());
    repaired.assert_code(0);
    assert_eq!(repaired.stdout, "value\t0\t\"key:1\"\n");
    assert!(repaired.stderr.contains("1 key differs: 1 value"), "{}", repaired.stderr);
    assert!(repaired.stderr.contains("all of them were mended"), "{}", repaired.stderr);
    run(&places).assert_code(0);
}

/// What the target does not take is told, and stays a difference.
#[test]
fn what_cannot_be_mended_is_told() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    source.client().call(set(1, 1));
    data::all(
        &mut target.client(),
        &[cmd!("ACL", "SETUSER", "few", "on", ">p", "~*", "+@all", "-restore")],
    );
    let (from, to) = (source.url(), format!("redis://few:p@127.0.0.1:{}", target.port));
    let ended = run(&["--from", &from, "--to", &to, "--repair"]);
    ended.assert_code(1);
    assert!(ended.stderr.contains("it was not mended: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("0 of them were mended, and 1 still differ"), "{}", ended.stderr);
}

/// A key of a source that may not be read is not proven, and holds up no other one.
#[test]
fn keys_that_may_not_be_read_hold_up_no_other() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let keys = |round: u32| {
        let names = (0..40).flat_map(|n| [format!("open:{n}"), format!("shut:{n}")]);
        names.map(|name| cmd!("SET", name, round)).collect::<Vec<_>>()
    };
    data::all(&mut source.client(), &keys(1));
    data::all(&mut target.client(), &keys(2));
    source.client().call(cmd!("ACL", "SETUSER", "few", "on", ">p", "~open:*", "+@all"));
    let from = format!("redis://few:p@127.0.0.1:{}", source.port);
    let said = verify(&from, &target.url(), &[]);
    let open = said.differ.iter().filter(|(_, _, key)| key.starts_with(b"open:")).count();
    assert_eq!((open, said.differ.len()), (40, 40), "{}", said.stderr);
    assert_eq!(said.counts["unproven"], 40);
    assert!(said.stderr.contains("let this user read the source's keys"), "{}", said.stderr);
    assert_eq!(said.code, Some(1));
}

/// The next names are asked for in front of the values of those that have come: else a server has nothing to do while they are on their way. Where that
/// takes long they come in larger pages.
#[test]
fn names_are_asked_for_ahead_of_values() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let keys: Vec<Command> = (0..6000).map(|n| cmd!("SET", format!("key:{n}"), n)).collect();
    for server in [&source, &target] {
        data::all(&mut server.client(), &keys);
    }
    let mut client = target.client();
    client.call(cmd!("CONFIG", "SET", "slowlog-max-len", 100_000));
    client.call(cmd!("CONFIG", "SET", "slowlog-log-slower-than", 0));
    let mut asked = |to: &str| -> Vec<Vec<Vec<u8>>> {
        client.call(cmd!("SLOWLOG", "RESET"));
        verify(&source.url(), to, &[]).assert_same(6000, to);
        let told = client.call(cmd!("SLOWLOG", "GET", -1));
        let commands = told.array().iter().rev().map(|entry| entry.array()[3].strings());
        // Whether DUMP may be asked for is asked before all others. Who looks for our own keys names a pattern.
        let is_page = |args: &[Vec<u8>]| args[0] == b"SCAN" && args[2] == b"COUNT";
        let wanted = commands.filter(|args| is_page(args) || args[0] == b"DUMP");
        wanted.skip_while(|args| args[0] == b"DUMP").collect()
    };
    let names = |asked: &[Vec<Vec<u8>>]| -> Vec<usize> {
        let places = asked.iter().enumerate().filter(|(_, args)| args[0] == b"SCAN");
        places.map(|(at, _)| at).collect()
    };
    let near = asked(&target.url());
    assert_eq!(names(&near)[..2], [0, 1], "the second page, in front of the values of the first");
    let port = away(target.port, Duration::from_millis(10));
    let far = asked(&format!("redis://127.0.0.1:{port}"));
    assert_eq!(names(&far)[..2], [0, 1], "the same from afar");
    let counts: Vec<&[u8]> =
        names(&far).into_iter().take(3).map(|at| far[at][3].as_slice()).collect();
    assert_eq!(counts, [b"1000", b"1000", b"2000"], "they are slow to come");
}
