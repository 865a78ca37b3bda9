//! The main job on real servers: a copy, and the changes after it, arrive whole.

use std::time::{Duration, Instant};

use crate::client::{Client, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::load::{self, END, Load};
use crate::replicas;
use crate::servers::{self, Server};
use crate::tool::Understudy;

/// How long a pair of servers may take in all.
const PAIR: Duration = Duration::from_secs(8);

/// Writes in all, and those whose offsets must lie between that of FULLRESYNC and the end of the RDB.
const WRITES: usize = 10_000;
const WITHIN_COPY: usize = 1000;

fn sync<'a>(source: &'a str, target: &'a str, rest: &[&'a str]) -> Understudy {
    Understudy::start_telling(&[&["sync", "--from", source, "--to", target], rest].concat())
}

/// What a source does not tell those who follow it.
pub(crate) fn untold(source: &Server) -> Forgiving {
    // The counter came with 7.0; a read that moves it is told since Redis 7.4.
    Forgiving {
        entries_read: source.version.at_least(7, 0) && !source.version.at_least(7, 4),
        ..Forgiving::default()
    }
}

/// A server at rest, copied to another of its version: nothing is forgiven, and the report says what happened.
fn copy(name: &'static str) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client);
    data::fill(&mut client, source.version, holds);
    // All that is counted below outlives the test.
    for key in data::near() {
        client.call(cmd!("DEL", key));
    }

    let ended = sync(&source.url(), &target.url(), &["--once"]).wait(PAIR);
    ended.assert_code(0);
    let (first, second) = (Dump::read(&mut client), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), name);
    assert_eq!(second.own(), &[], "a finished job leaves nothing of its own");
    replicas::same_digest(&source, &target);

    assert_eq!(ended.reported("outcome"), "done");
    assert_eq!(ended.reported("totals.keys"), first.len());
    assert_eq!(ended.reported("totals.commands"), 0);
    assert_eq!(ended.reported("sources.0.keys"), first.len());
    assert_eq!(ended.reported("sources.0.full_syncs"), 1);
    assert_eq!(ended.reported("sources.0.method"), "psync");
}

macro_rules! a_copy_is_complete {
    ($($test:ident $server:literal),+ $(,)?) => {
        mod a_copy_is_complete {
            $(#[test]
            fn $test() {
                super::copy($server);
            })+

            #[test]
            fn of_every_server() {
                assert_eq!([$($server),+], crate::servers::ALL);
            }
        }
    };
}

a_copy_is_complete! {
    redis_2_8 "redis-2.8.17",
    redis_3_0 "redis-3.0.5",
    redis_3_2 "redis-3.2.6",
    redis_5_0 "redis-5.0.6",
    redis_6_0 "redis-6.0.16",
    redis_6_2 "redis-6.2.14",
    redis_7_0 "redis-7.0.15",
    redis_8_0_2 "redis-8.0.2",
    redis_8_0 "redis-8.0.6",
    valkey_8_0 "valkey-8.0.1",
    valkey_8_1 "valkey-8.1.1",
    valkey_9_1 "valkey-9.1.2",
    redict_7_3 "redict-7.3.6",
}

/// All writes come after the FULLRESYNC and before the end of the RDB: `--once` may not end before they have arrived.
#[test]
fn once_waits_for_what_was_written_during_the_copy() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut writer = source.client();
    let holds = Holds::of(&mut writer);
    data::fill(&mut writer, source.version, holds);
    writer.call(cmd!("CONFIG", "SET", "rdb-key-save-delay", 500));
    let running = sync(&source.url(), &target.url(), &["--once"]);
    let mut load = Load::new(1, source.version, holds);
    load.flush_soon();
    let during = load.send_during_copy(&mut writer, WRITES);
    assert_eq!(during.sent.refused, Vec::<String>::new());

    let ended = running.wait(PAIR);
    ended.assert_code(0);
    let offsets = &during.sent.offsets;
    assert!(offsets.len() > WRITES / 2, "only {} changed something", offsets.len());
    assert_eq!(during.within(ended.full_resync()), offsets.len(), "{}", during.unfinished);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, untold(&source), "a copy with writes meanwhile");
    assert_eq!(second.own(), &[], "a finished job leaves nothing of its own");
    replicas::same_digest(&source, &target);
}

/// One source, one target, everything that both can hold, 10,000 writes during and after the copy.
fn pair(from: &'static str, to: &'static str) {
    let began = Instant::now();
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut writer = source.client();
    let holds = Holds::of(&mut writer).and(Holds::of(&mut target.client()));
    data::fill(&mut writer, source.version, holds);
    let mut load = Load::new(11, source.version, holds);
    // So that the copy holds keys which are then written.
    load.send(&mut writer, 1000);
    load::slow_copies(&mut writer);

    let mut running = sync(&source.url(), &target.url(), &[]);
    load.flush_soon();
    let during = load.send_during_copy(&mut writer, WRITES / 2);
    let after = load.send(&mut writer, WRITES - during.sent.writes);
    load.end(&mut writer);
    assert_eq!([during.sent.refused.clone(), after.refused].concat(), Vec::<String>::new());

    let arrived = Client::wait_for_key(target.port, 0, END, PAIR, || running.is_running());
    let ended = running.end_job(Duration::from_secs(10));
    assert!(arrived, "the last write has not arrived: {ended:?}");
    ended.assert_code(130);
    assert_eq!(ended.reported("outcome"), "stopped");
    let within = during.within(ended.full_resync());
    assert!(within >= WITHIN_COPY, "{within} writes up to offset {}", during.unfinished);

    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, untold(&source), &format!("{from} to {to}"));
    if from == to {
        for (db, key) in second.own() {
            let mut client = target.client();
            client.select(*db);
            client.call(cmd!("DEL", key));
        }
        replicas::same_digest(&source, &target);
    }
    // A desk's cores are shared; where they are not, time is a promise too.
    let took = began.elapsed();
    assert!(took < PAIR || !servers::in_ci(), "{from} to {to} took {took:?}");
}

macro_rules! matrix {
    ($($source:ident $from:literal => $($target:ident $to:literal),+;)+) => {
        $(mod $source {
            $(#[test]
            fn $target() {
                super::pair($from, $to);
            })+
        })+

        #[test]
        fn every_server_is_a_source() {
            assert_eq!([$($from),+], crate::servers::ALL);
        }
    };
}

matrix! {
    redis_2_8 "redis-2.8.17" => itself "redis-2.8.17", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_3_0 "redis-3.0.5" => itself "redis-3.0.5", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_3_2 "redis-3.2.6" => itself "redis-3.2.6", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_5_0 "redis-5.0.6" => itself "redis-5.0.6", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_6_0 "redis-6.0.16" => itself "redis-6.0.16", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_6_2 "redis-6.2.14" => itself "redis-6.2.14", redis_2_8 "redis-2.8.17", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_7_0 "redis-7.0.15" => itself "redis-7.0.15", redis_3_2 "redis-3.2.6", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_8_0_2 "redis-8.0.2" => itself "redis-8.0.2", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    redis_8_0 "redis-8.0.6" => itself "redis-8.0.6", redis_6_2 "redis-6.2.14", redis_7_0 "redis-7.0.15", valkey_9_1 "valkey-9.1.2";
    valkey_8_0 "valkey-8.0.1" => itself "valkey-8.0.1", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    valkey_8_1 "valkey-8.1.1" => itself "valkey-8.1.1", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
    valkey_9_1 "valkey-9.1.2" => itself "valkey-9.1.2", redis_5_0 "redis-5.0.6", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6";
    redict_7_3 "redict-7.3.6" => itself "redict-7.3.6", redis_7_0 "redis-7.0.15", redis_8_0 "redis-8.0.6", valkey_9_1 "valkey-9.1.2";
}

/// What a target's version has no room for is refused by its type and its key, and so that an operator knows it.
#[test]
fn what_the_target_cannot_hold_is_named() {
    for (from, to, write, kind, key) in [
        (
            "redis-8.0.6",
            "redis-7.0.15",
            cmd!("VADD", "a vector", "VALUES", 2, 1, 0, "x"),
            "vectorset",
            "a vector",
        ),
        (
            "redis-7.0.15",
            "redis-3.2.6",
            cmd!("XADD", "a stream", "1-1", "a", "b"),
            "stream",
            "a stream",
        ),
    ] {
        let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
        source.client().call(write);
        let ended = sync(&source.url(), &target.url(), &["--once"]).wait(PAIR);
        assert!(matches!(ended.code, Some(2 | 3)), "{ended:?}");
        assert!(
            ended.stderr.contains(kind) && ended.stderr.contains(key),
            "{from} to {to}: {}",
            ended.stderr
        );
        assert_eq!(Dump::read(&mut target.client()).len(), 0);
    }
}

/// A target that holds keys is refused before anything is written to it.
#[test]
fn a_target_that_is_not_empty_is_refused() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    source.client().call(cmd!("SET", "key", "source"));
    target.client().call(cmd!("SET", "other", "target"));
    let before = Dump::read(&mut target.client());
    let ended = sync(&source.url(), &target.url(), &["--once"]).wait(PAIR);
    ended.assert_code(2);
    assert!(ended.stderr.contains("--on-conflict"), "it says how to choose: {}", ended.stderr);
    judge::assert_same(
        &before,
        &Dump::read(&mut target.client()),
        Forgiving::default(),
        "nothing was written",
    );
}
