//! The source decides when a key dies: deadlines that are changed while the copy runs, while the tool is dead, while it
//! follows and while it sets them at its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, cmd};
use crate::data;
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::{Ended, Understudy, signal};

mod contested;
mod forms;
mod ruled;

use forms::Forms;
use ruled::{bounded_when_it_ends, frozen_by_an_outage};

const PATIENCE: Duration = Duration::from_secs(20);

/// Two servers, and what the tool remembers of them.
struct Pair {
    source: Server,
    target: Server,
    state: Arc<TempDir>,
}

impl Pair {
    fn start(from: &'static str, to: &'static str) -> Option<Self> {
        let (source, target) = (Server::start(from)?, Server::start(to)?);
        Some(Self { source, target, state: Arc::new(tempfile::tempdir().unwrap()) })
    }

    fn sync(&self, flags: &[&str]) -> Understudy {
        let (from, to) = (self.source.url(), self.target.url());
        let args = [&["sync", "--from", &from, "--to", &to], flags].concat();
        Understudy::start_telling_in(&args, &self.state)
    }

    /// Keys without a deadline, so that a copy at 1,000 keys a second takes some seconds.
    fn fill(&self, keys: usize) {
        let set = |n: usize| cmd!("SET", format!("filling:{n}"), "x".repeat(50));
        data::all(&mut self.source.client(), &(0..keys).map(set).collect::<Vec<_>>());
    }

    /// Waits until a key that is written now is in the target.
    fn arrives(&self, running: &mut Understudy, key: &str) {
        self.source.client().call(cmd!("SET", key, 1));
        let port = self.target.port;
        assert!(Client::wait_for_key(port, 0, key, PATIENCE, || running.is_running()));
    }

    /// Starts a run, and waits until it follows: the first key may have come with the copy, the second has not.
    fn follow(&self) -> Understudy {
        let mut running = self.sync(&[]);
        self.arrives(&mut running, "copied");
        self.arrives(&mut running, "behind");
        running
    }

    /// Waits until these are gone from the source.
    fn wait_for_deaths(&self, keys: &[String]) {
        let mut client = self.source.client();
        wait(|| keys.iter().all(|key| client.call(cmd!("EXISTS", key)).int() == 0));
    }

    /// Both hold the same, deadlines to the millisecond. A source before 7.0 tells only how long is left.
    fn assert_same(&self, what: &str) {
        self.assert_same_but(what, |at| at);
    }

    /// The same, with the source's deadlines as rules make them.
    fn assert_same_but(&self, what: &str, date: impl Fn(i64) -> i64) {
        let deadline_ms = if self.source.version.at_least(7, 0) { 0 } else { 5 };
        let (first, second) =
            (Dump::read(&mut self.source.client()), Dump::read(&mut self.target.client()));
        let first = first.dated(date);
        let forgiving = Forgiving { deadline_ms, ..Forgiving::default() };
        judge::assert_same(&first, &second, forgiving, what);
        assert_eq!(second.own().as_slice(), [], "{what}: a finished job leaves nothing");
    }

    fn assert_gone(&self, keys: &[String]) {
        let mut client = self.target.client();
        for key in keys {
            assert_eq!(client.call(cmd!("EXISTS", key)).int(), 0, "{key}");
        }
    }
}

/// Asks until it is so.
fn wait(mut until: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < end, "it never came to that");
    }
}

fn kill(running: Understudy) {
    signal("KILL", running.id());
    assert_eq!(running.wait(PATIENCE).code, None);
}

fn once(ended: &Ended, full_syncs: u64) {
    // Scripts that come as such, while a key is in doubt, may have touched what they do not declare.
    let server = ended.reported("sources.0.server").as_str().unwrap();
    let sends_scripts =
        ["Redis 2.", "Redis 3.", "Redis 4."].iter().any(|old| server.starts_with(old));
    ended.assert_code(i32::from(sends_scripts && ended.unproven() > 0));
    assert_eq!(ended.reported("sources.0.full_syncs"), full_syncs, "{}", ended.stderr);
    assert_eq!(ended.reported("sources.0.deadlines_held_back"), 0);
}

/// Old deadlines pass while the copy runs, which is in the target before they do.
fn during_the_copy(pair: &Pair, what: &str) {
    let forms = Forms::of(&pair.source, &pair.target);
    let mut client = pair.source.client();
    pair.fill(3000);
    forms.make(&mut client, &[("near", Some(2500)), ("hour", Some(3_600_000)), ("none", None)]);
    let running = pair.sync(&["--once", "--limit-rate", "1000"]);
    let mut copy = pair.target.client();
    wait(|| copy.call(cmd!("DBSIZE")).int() > 20);
    for life in ["near", "hour", "none"] {
        forms.go(&mut client, life);
    }
    pair.wait_for_deaths(&Forms::left_to_die("near"));
    assert!(copy.call(cmd!("DBSIZE")).int() < 3000, "{what}: the copy was over too soon");
    once(&running.wait(PATIENCE), 1);
    pair.assert_gone(&Forms::left_to_die("near"));
    pair.assert_same(what);
}

/// Old deadlines pass while there is no tool.
fn while_the_tool_is_dead(pair: &Pair, what: &str) {
    let forms = Forms::of(&pair.source, &pair.target);
    let mut client = pair.source.client();
    forms.make(&mut client, &[("near", Some(2500)), ("hour", Some(3_600_000)), ("none", None)]);
    kill(pair.follow());
    for life in ["near", "hour", "none"] {
        forms.go(&mut client, life);
    }
    pair.wait_for_deaths(&Forms::left_to_die("near"));
    // In the target all are alive: it is the source that says who dies.
    for key in Forms::left_to_die("near") {
        assert_eq!(pair.target.client().call(cmd!("EXISTS", key)).int(), 1, "{what}: {key}");
    }
    once(&pair.sync(&["--once"]).wait(PATIENCE), 0);
    pair.assert_gone(&Forms::left_to_die("near"));
    pair.assert_same(what);
}

/// Deadlines that are held back, and one behind the horizon, are changed while the job follows, which then ends.
fn while_it_follows(pair: &Pair, what: &str) {
    const LIVES: [(&str, Option<i64>); 4] = [
        ("near", Some(1500)),
        ("hour", Some(3_600_000)),
        ("far", Some(250_000_000)),
        ("none", None),
    ];
    let forms = Forms::of(&pair.source, &pair.target);
    let mut client = pair.source.client();
    forms.make(&mut client, &LIVES);
    let mut running = pair.follow();
    for (life, _) in LIVES {
        forms.go(&mut client, life);
    }
    pair.wait_for_deaths(&Forms::left_to_die("near"));
    pair.arrives(&mut running, "changed");
    running.end_job(PATIENCE).assert_code(130);
    pair.assert_gone(&Forms::left_to_die("near"));
    pair.assert_same(what);
}

/// So many keys that nobody sets all their deadlines at once, with names of which not all are kept in little memory.
const KEYS: usize = 40_000;

fn long_name(n: usize) -> String {
    format!("{n}:{}", "a long name ".repeat(20))
}

/// Kills the tool when it has set the deadlines of some of these keys in the target and not of all.
#[track_caller]
fn kill_while_it_sets(running: Understudy, asking: &mut Client, what: &str) {
    let mut set = |step: usize| {
        let ask = (0..KEYS).step_by(step).map(|n| cmd!("PTTL", long_name(n)));
        let left = asking.pipeline(&ask.collect::<Vec<_>>());
        left.iter().filter(|left| (0..1 << 44).contains(&left.int())).count()
    };
    wait(|| set(200) > 0);
    kill(running);
    let set = set(1);
    assert!(set > 0 && set < KEYS - 100, "{what}: {set} were set when it was killed");
}

/// The tool is killed while it sets deadlines by the names that it has kept, and while it walks through the target since they did not
/// fit; some die and some are renewed before it comes again.
fn while_it_ends(pair: &Pair, what: &str) {
    let key = long_name;
    let mut client = pair.source.client();
    let set = |n: usize| cmd!("SET", key(n), n, "EX", 3000);
    data::all(&mut client, &(0..KEYS).map(set).collect::<Vec<_>>());
    let mut asking = pair.target.client();
    for (round, memory) in ["256MiB", "1MiB"].into_iter().enumerate() {
        let first = round * 4;
        client.call(cmd!("PEXPIRE", key(first), 2000));
        let running = pair.sync(&["--once", "--memory", memory]);
        kill_while_it_sets(running, &mut asking, what);
        client.call(cmd!("EXPIRE", key(first + 1), 5000));
        client.call(cmd!("PERSIST", key(first + 2)));
        client.call(cmd!("RENAME", key(first + 3), format!("renamed:{round}")));
        pair.wait_for_deaths(&[key(first)]);
    }
    once(&pair.sync(&["--once"]).wait(PATIENCE), 1);
    pair.assert_gone(&[key(0), key(4)]);
    pair.assert_same(what);
}

macro_rules! deadlines_are_the_sources {
    ($($when:ident { $($test:ident $from:literal $to:literal),+ $(,)? })+) => {
        $(mod $when {
            $(#[test]
            fn $test() {
                let Some(pair) = super::Pair::start($from, $to) else { return };
                super::$when(&pair, concat!($from, " to ", $to));
            })+
        })+
    };
}

deadlines_are_the_sources! {
    during_the_copy {
        redis_2_8 "redis-2.8.17" "redis-2.8.17",
        redis_5_0 "redis-5.0.6" "redis-5.0.6",
        redis_6_2 "redis-6.2.14" "redis-6.2.14",
        redis_7_0 "redis-7.0.15" "redis-7.0.15",
        redis_8_0 "redis-8.0.6" "redis-8.0.6",
        valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
        redis_2_8_to_7_0 "redis-2.8.17" "redis-7.0.15",
        redis_6_2_to_valkey_9_1 "redis-6.2.14" "valkey-9.1.2",
    }
    while_the_tool_is_dead {
        redis_2_8 "redis-2.8.17" "redis-2.8.17",
        redis_5_0 "redis-5.0.6" "redis-5.0.6",
        redis_6_2 "redis-6.2.14" "redis-6.2.14",
        redis_7_0 "redis-7.0.15" "redis-7.0.15",
        redis_8_0 "redis-8.0.6" "redis-8.0.6",
        valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
        redis_2_8_to_8_0 "redis-2.8.17" "redis-8.0.6",
        redis_7_0_to_5_0 "redis-7.0.15" "redis-5.0.6",
    }
    while_it_follows {
        redis_2_8 "redis-2.8.17" "redis-2.8.17",
        redis_5_0 "redis-5.0.6" "redis-5.0.6",
        redis_6_2 "redis-6.2.14" "redis-6.2.14",
        redis_7_0 "redis-7.0.15" "redis-7.0.15",
        redis_8_0 "redis-8.0.6" "redis-8.0.6",
        valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
        redis_8_0_to_6_2 "redis-8.0.6" "redis-6.2.14",
        redis_8_0_to_valkey_9_1 "redis-8.0.6" "valkey-9.1.2",
        valkey_9_1_to_redis_8_0 "valkey-9.1.2" "redis-8.0.6",
    }
    bounded_when_it_ends {
        redis_2_8 "redis-2.8.17" "redis-2.8.17",
        redis_5_0 "redis-5.0.6" "redis-5.0.6",
        redis_7_0 "redis-7.0.15" "redis-7.0.15",
        redis_8_0 "redis-8.0.6" "redis-8.0.6",
        valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
        redis_2_8_to_7_0 "redis-2.8.17" "redis-7.0.15",
        valkey_9_1_to_5_0 "valkey-9.1.2" "redis-5.0.6",
    }
    frozen_by_an_outage {
        redis_2_8 "redis-2.8.17" "redis-2.8.17",
        redis_5_0 "redis-5.0.6" "redis-5.0.6",
        redis_7_0 "redis-7.0.15" "redis-7.0.15",
        redis_8_0 "redis-8.0.6" "redis-8.0.6",
        valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
    }
    while_it_ends {
        redis_2_8 "redis-2.8.17" "redis-2.8.17",
        redis_6_2 "redis-6.2.14" "redis-6.2.14",
        redis_8_0 "redis-8.0.6" "redis-8.0.6",
        valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
    }
}

#[test]
fn deadlines_are_later_if_that_was_asked_for() {
    const LATER: i64 = 3 * 3600 * 1000;
    for name in ["redis-5.0.6", "redis-7.0.15", "redis-8.0.2"] {
        let Some(pair) = Pair::start(name, name) else { return };
        let has_fields = pair.source.version.at_least(7, 4);
        let mut client = pair.source.client();
        let mut keys = vec!["copied:soon", "copied:late", "live:soon", "live:late"];
        client.call(cmd!("SET", "copied:soon", 1, "EX", 100));
        client.call(cmd!("SET", "copied:late", 1, "EX", 500_000));
        if has_fields {
            client.call(cmd!("HSET", "hash", "f", 1));
            client.call(cmd!("HEXPIRE", "hash", 100, "FIELDS", 1, "f"));
        }
        let mut running = pair.sync(&["--extend-ttl", "3h"]);
        pair.arrives(&mut running, "copied");
        client.call(cmd!("SETEX", "live:soon", 100, 1));
        client.call(cmd!("SET", "live:late", 1));
        client.call(cmd!("EXPIRE", "live:late", 500_000));
        client.call(cmd!("SET", "live:dies", 1, "PX", 1));
        pair.wait_for_deaths(&["live:dies".to_owned()]);
        pair.arrives(&mut running, "behind");
        running.end_job(PATIENCE).assert_code(130);

        let mut there = pair.target.client();
        if has_fields {
            keys.push("hash");
        }
        for key in keys {
            let command = |word: &str| match key {
                "hash" => cmd!(format!("H{word}"), "hash", "FIELDS", 1, "f"),
                key => cmd!(word, key),
            };
            let number = |client: &mut Client, word: &str| match client.call(command(word)) {
                crate::client::Value::Array(told) => told[0].int(),
                told => told.int(),
            };
            if pair.source.version.at_least(7, 0) {
                let at = number(&mut client, "PEXPIRETIME");
                assert_eq!(number(&mut there, "PEXPIRETIME"), at + LATER, "{name} {key}");
            } else {
                let left = number(&mut client, "PTTL");
                let far = number(&mut there, "PTTL") - left - LATER;
                assert!(far.abs() < 100, "{name} {key}: {far}");
            }
        }
        assert_eq!(there.call(cmd!("EXISTS", "live:dies")).int(), 0);
    }
}
