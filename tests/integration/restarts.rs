//! Targets that lose what they confirmed, which is made good, and those that no longer confirm, which must not look like success.

use std::time::{Duration, Instant};

use crate::client::{Client, cmd};
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::{Understudy, signal};

const PATIENCE: Duration = Duration::from_secs(30);

/// A source that takes seconds to be copied, its deadlines near, and an empty target.
fn pair(name: &'static str) -> Option<(Server, Server)> {
    let (source, target) = (Server::start(name)?, Server::start(name)?);
    let set = |n: usize| cmd!("SET", format!("key:{n}"), "x".repeat(100), "EX", 3000);
    source.client().pipeline(&(0..KEYS).map(set).collect::<Vec<_>>());
    Some((source, target))
}

const KEYS: usize = 4000;

fn start(source: &Server, target: &Server, flags: &[&str]) -> Understudy {
    let (from, to) = (source.url(), target.url());
    Understudy::start(&[&["sync", "--from", &from, "--to", &to], flags].concat())
}

/// Waits until the last key is there.
fn wait_for_copy(running: &mut Understudy, source: &Server, target: &Server) {
    source.client().call(cmd!("SET", "last", "1"));
    assert!(Client::wait_for_key(target.port, 0, "last", PATIENCE, || running.is_running()));
}

/// Both hold the same, and nothing of ours is left.
fn assert_same(source: &Server, target: &Server) {
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), "what the target holds");
    assert_eq!(second.own().iter().count(), 0);
}

#[test]
fn a_target_that_loses_half_of_the_copy_gets_it_again() {
    for name in ["redis-2.8.17", "redis-7.0.15", "valkey-9.1.2"] {
        let Some((source, mut target)) = pair(name) else { return };
        let mut running = start(&source, &target, &["--once", "--limit-rate", "2000"]);
        // Somewhere in the midst of the others.
        let going = || running.is_running();
        assert!(Client::wait_for_key(target.port, 0, "key:0", PATIENCE, going));
        target.kill_and_start_empty();
        let ended = running.wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.full_syncs"), 2);
        assert_same(&source, &target);
    }
}

#[test]
fn a_target_that_loses_the_copy_while_it_is_followed_gets_it_again() {
    for name in ["redis-2.8.17", "redis-7.0.15", "valkey-9.1.2"] {
        let Some((source, mut target)) = pair(name) else { return };
        let mut running = start(&source, &target, &[]);
        wait_for_copy(&mut running, &source, &target);
        target.kill_and_start_empty();
        source.client().call(cmd!("SET", "behind", "1"));
        let going = || running.is_running();
        assert!(Client::wait_for_key(target.port, 0, "behind", PATIENCE, going));
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert!(ended.stderr.contains("the target has lost the record"), "{}", ended.stderr);
        assert_same(&source, &target);
    }
}

/// A stop that the target does not let us finish says how many deadlines are still held back.
fn stop_with(hinder: impl FnOnce(&Server), met: &str, free: impl FnOnce(&Server)) {
    let Some((source, target)) = pair("redis-7.0.15") else { return };
    let mut running = start(&source, &target, &[]);
    wait_for_copy(&mut running, &source, &target);
    hinder(&target);
    source.client().call(cmd!("SET", "behind", "1"));
    running.status_when(PATIENCE, |status| {
        status["sources"][0]["waiting_for"].as_str().is_some_and(|why| why.contains(met))
    });
    let (ended, again) = running.stop(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.deadlines_held_back"), KEYS);
    assert!(ended.stderr.contains("4,000 keys have a deadline in the target"), "{}", ended.stderr);
    free(&target);
    again.once().wait(PATIENCE).assert_code(0);
    assert_same(&source, &target);
}

#[test]
fn a_stop_while_the_target_is_silent() {
    let stop = |target: &Server| signal("STOP", target.id());
    stop_with(stop, "unanswered", |target| signal("CONT", target.id()));
}

#[test]
fn a_stop_while_the_target_refuses_writes() {
    let refuse = |target: &Server| {
        target.client().call(cmd!("CONFIG", "SET", "min-replicas-to-write", 1));
    };
    let allow = |target: &Server| {
        target.client().call(cmd!("CONFIG", "SET", "min-replicas-to-write", 0));
    };
    stop_with(refuse, "it refuses to go on", allow);
}

/// Masters before 2.8.22 and 3.0.4 tell the offset of the request, though they take the data set when the save that is under way is done.
#[test]
fn an_old_master_that_saves_is_waited_for() {
    let Some((source, target)) = pair("redis-2.8.17") else { return };
    let mut writer = source.client();
    let child = stopped_save(&source);
    let (from, to) = (source.url(), target.url());
    let state = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let args = ["sync", "--from", &from, "--to", &to];
    let mut running = Understudy::start_telling_in(&args, &state);
    // Until it has come for its data twice: it looks before, is watched beside, and comes again.
    let came = |writer: &mut Client| -> u64 {
        writer.info("stats", "total_connections_received").parse().unwrap()
    };
    let (before, begun) = (came(&mut writer), Instant::now());
    while came(&mut writer) < before + 4 {
        writer.call(cmd!("INCR", "counter"));
        assert!(running.is_running() && begun.elapsed() < PATIENCE);
    }
    assert!(target.client().call(cmd!("KEYS", "key:*")).array().is_empty());
    signal("CONT", child);
    wait_for_copy(&mut running, &source, &target);
    writer.call(cmd!("INCR", "counter"));
    let (ended, again) = running.stop(PATIENCE);
    ended.assert_code(130);
    assert!(ended.stderr.contains("the master is saving its data set"), "{}", ended.stderr);
    writer.call(cmd!("INCR", "counter"));
    let ended = again.once().wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(ended.reported("sources.0.full_syncs"), 0);
    assert_same(&source, &target);
}

/// The process of a save that stands still. One that is quick may be done before it can be told to, so there is something large to save.
pub(crate) fn stopped_save(server: &Server) -> u32 {
    let id = server.id();
    let mut client = server.client();
    for _ in 0..100 {
        client.call(cmd!("SETRANGE", "large", 128 << 20, "x"));
        client.try_call(cmd!("BGSAVE"));
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap();
        let Some(child) = children.split_whitespace().next() else { continue };
        let _ = std::process::Command::new("kill").args(["-STOP", child]).status();
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if state.contains(") T ") {
            client.call(cmd!("DEL", "large"));
            return child.parse().unwrap();
        }
    }
    panic!("no save could be held up");
}

/// A save that fails is not asked for again: each one may stop the master's clients.
#[test]
fn a_master_that_cannot_save_is_asked_once() {
    for name in ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (
            Server::start_with(name, &["--save", "3600", "1", "--dbfilename", "dump.rdb"]),
            Server::start(name),
        ) else {
            return;
        };
        let mut client = source.client();
        client.call(cmd!("SET", "a", 1));
        if source.version.at_least(6, 2) {
            client.call(cmd!("CONFIG", "SET", "repl-diskless-sync", "no"));
        }
        // Where its file shall be there is a folder with something in it.
        let folder = source.folder().join("dump.rdb");
        std::fs::create_dir_all(folder.join("in the way")).unwrap();
        let (from, to) = (source.url(), target.url());
        let args = ["sync", "--from", &from, "--to", &to, "--once"];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains("could not save its data set"), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("stop-writes-on-bgsave-error"), "{name}: {}", ended.stderr);
        let saves =
            source.last_words(1000).iter().filter(|line| line.contains("saving started")).count();
        assert_eq!(saves, 1, "{name}");
        // Now it says so before it is asked, until it is told to take writes all the same.
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains("rdb_last_bgsave_status is err"), "{name}: {}", ended.stderr);
        std::fs::remove_dir_all(folder).unwrap();
        client.call(cmd!("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"));
        Understudy::start(&args).wait(PATIENCE).assert_code(0);
        assert_same(&source, &target);
    }
}

#[test]
fn a_source_that_wants_replicas_is_told_of() {
    let name = "redis-7.0.15";
    let Some(source) = Server::start_with(name, &["--min-replicas-to-write", "1"]) else { return };
    let Some(target) = Server::start(name) else { return };
    let ended = start(&source, &target, &["--once"]).wait(PATIENCE);
    ended.assert_code(0);
    assert!(ended.stderr.contains("min-replicas-to-write"), "{}", ended.stderr);
}

/// Without being held back deadlines are in the target what they are, and there is nothing to finish.
#[test]
fn deadlines_may_be_shown_as_they_are() {
    for name in ["redis-2.8.17", "redis-8.0.6", "valkey-9.1.2"] {
        let Some((source, target)) = pair(name) else { return };
        let mut running = start(&source, &target, &["--deadlines", "live"]);
        wait_for_copy(&mut running, &source, &target);
        let mut writer = source.client();
        writer.call(cmd!("SETEX", "fresh", 1000, "1"));
        writer.call(cmd!("RENAME", "key:1", "renamed"));
        if source.version.at_least(8, 0) {
            writer.call(cmd!("HSET", "hash", "f", 1));
            writer.call(cmd!("HPEXPIRE", "hash", 900_000, "FIELDS", 1, "f"));
        }
        writer.call(cmd!("SET", "behind", 1));
        let going = || running.is_running();
        assert!(Client::wait_for_key(target.port, 0, "behind", PATIENCE, going));
        for (key, most) in [("key:0", 3_000_000), ("renamed", 3_000_000), ("fresh", 1_000_000)] {
            let left = target.client().call(cmd!("PTTL", key)).int();
            assert!(0 < left && left <= most, "{name}: {key} has {left} ms");
        }
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert!(ended.stderr.contains("which is not exact"), "{name}: {}", ended.stderr);
        assert_eq!(ended.reported("sources.0.deadlines_held_back"), 0, "{name}");
        let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
        let forgiving = Forgiving { deadline_ms: 50, ..Forgiving::default() };
        judge::assert_same(&first, &second, forgiving, name);
        assert_eq!(second.own().iter().count(), 0);
    }
}
