//! A running job is asked how it stands, and told what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, cmd};
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::{Understudy, signal};

const PATIENCE: Duration = Duration::from_secs(20);

const KEYS: usize = 500;

/// A source with deadlines, and a target.
fn pair(name: &'static str) -> Option<(Server, Server)> {
    let (source, target) = (Server::start(name)?, Server::start(name)?);
    let set = |n: usize| cmd!("SET", format!("key:{n}"), n, "EX", 3000);
    source.client().pipeline(&(0..KEYS).map(set).collect::<Vec<_>>());
    Some((source, target))
}

/// A run that follows, and has copied.
fn following(source: &Server, target: &Server, flags: &[&str]) -> Understudy {
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&[&["sync", "--from", &from, "--to", &to], flags].concat());
    arrives(&mut running, source, target, "copied");
    running
}

/// Writes a key to the source, and waits until it is in the target.
fn arrives(running: &mut Understudy, source: &Server, target: &Server, key: &str) {
    source.client().call(cmd!("SET", key, "1"));
    waits_for(running, target, key);
}

fn waits_for(running: &mut Understudy, target: &Server, key: &str) {
    assert!(Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running()), "{key}");
}

fn tell(running: &Understudy, args: &[&str]) {
    running.beside(args).assert_code(0);
}

fn assert_same(source: &Server, target: &Server) {
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), "what the target holds");
    assert_eq!(second.own().iter().count(), 0, "nothing of ours is left");
}

#[test]
fn a_paused_job_takes_nothing_and_goes_on() {
    for name in ["redis-2.8.17", "redis-7.0.15", "valkey-9.1.2"] {
        let Some((source, target)) = pair(name) else { return };
        let mut running = following(&source, &target, &[]);
        // Of a stream in which nothing has been no offset is known.
        arrives(&mut running, &source, &target, "in the stream");
        let before = running.status_when(PATIENCE, |status| {
            let one = &status["sources"][0];
            one["lag_bytes"] == 0 && !one["master_offset"].is_null()
        });
        assert_eq!((&before["order"], &before["paused_seconds"]), (&"go".into(), &Value::Null));
        assert_eq!((&before["process"], &before["version"]), (&running.id().into(), &1.into()));
        let one = &before["sources"][0];
        assert_eq!(one["phase"], "following");
        assert!(one["keys"].as_u64() >= Some(KEYS as u64), "{one}");
        assert_eq!((&one["doubts"], &one["last_error"]), (&0.into(), &Value::Null));
        assert_eq!(one["waiting_for"], Value::Null, "an idle stream waits for nobody");
        assert_eq!(one["offset"], one["read_offset"]);
        assert!(one["away_until_ms"].as_u64() > Some(1_700_000_000_000), "{one}");

        tell(&running, &["pause"]);
        source.client().call(cmd!("SET", "meanwhile", "1"));
        let paused =
            running.status_when(PATIENCE, |status| status["paused_seconds"].as_u64() >= Some(2));
        assert_eq!(paused["order"], "pause");
        let waits = paused["sources"][0]["waiting_for"].as_str().unwrap();
        assert!(waits.starts_with("paused since"), "{waits}");
        assert!(paused["sources"][0]["lag_bytes"].as_u64() > Some(0), "{paused}");
        let ended = running.beside(&["status"]);
        assert!(ended.stdout.contains("paused since"), "{}", ended.stdout);
        assert_eq!(target.client().call(cmd!("EXISTS", "meanwhile")).int(), 0);
        assert_eq!(source.client().info("replication", "connected_slaves"), "1");

        tell(&running, &["resume"]);
        waits_for(&mut running, &target, "meanwhile");
        assert_eq!(running.status()["order"], "go");
        tell(&running, &["stop"]);
        let ended = running.wait(PATIENCE);
        ended.assert_code(130);
        assert!(ended.stderr.contains("told to stop"), "{}", ended.stderr);
        assert!(ended.stderr.contains("the same command goes on from there"), "{}", ended.stderr);
        assert_eq!(ended.reported("sources.0.deadlines_held_back"), KEYS);
    }
}

#[test]
fn a_job_that_is_finished_leaves_nothing() {
    for (name, is_paused) in
        [("redis-2.8.17", false), ("redis-7.0.15", true), ("valkey-9.1.2", false)]
    {
        let Some((source, target)) = pair(name) else { return };
        let running = following(&source, &target, &["--job", "moving"]);
        let state = Arc::clone(running.state());
        if is_paused {
            tell(&running, &["pause"]);
        }
        let mut writer = source.client();
        for n in 0..200 {
            writer.call(cmd!("INCR", "count"));
            writer.call(cmd!("EXPIRE", format!("key:{n}"), 5000));
        }
        tell(&running, &["stop", "--finish", "--job", "moving"]);
        let ended = running.wait(PATIENCE);
        ended.assert_code(0);
        assert!(ended.stderr.contains("told to finish"), "{}", ended.stderr);
        assert_same(&source, &target);
        assert!(!state.path().join("moving").exists(), "its folder is left");
    }
}

#[test]
fn a_second_run_is_refused_and_a_dead_one_replaced() {
    let Some((source, target)) = pair("redis-7.0.15") else { return };
    // No socket may have so long a path.
    let job = "j".repeat(100);
    let flags = ["--job", job.as_str()];
    let mut first = following(&source, &target, &flags);
    let socket: PathBuf = first.state().path().join(&job).join("control");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let (from, to) = (source.url(), target.url());
    let again = [&["sync", "--from", &from, "--to", &to], &flags[..]].concat();
    let second = first.beside(&again);
    second.assert_code(2);
    assert!(second.stderr.contains("runs already"), "{}", second.stderr);
    arrives(&mut first, &source, &target, "undisturbed");

    signal("KILL", first.id());
    while first.is_running() {}
    assert!(socket.exists(), "it was killed");
    let nobody = first.beside(&["status"]);
    nobody.assert_code(2);
    assert!(nobody.stderr.contains("no job runs here"), "{}", nobody.stderr);
    let mut second = Understudy::start_telling_in(&again, first.state());
    arrives(&mut second, &source, &target, "gone on");
    assert_eq!(second.status()["job"], job.as_str());
    tell(&second, &["stop", "--finish"]);
    let ended = second.wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(ended.reported("sources.0.full_syncs"), 0);
    assert_same(&source, &target);
}

#[test]
fn which_job_is_meant_must_be_plain() {
    let name = "redis-7.0.15";
    let (Some((source, target)), Some(other)) = (pair(name), Server::start(name)) else { return };
    let first = following(&source, &target, &["--job", "one"]);
    let (from, to) = (source.url(), other.url());
    let mut second = Understudy::start_telling_in(
        &["sync", "--from", &from, "--to", &to, "--job", "two"],
        first.state(),
    );
    arrives(&mut second, &source, &other, "both");
    let two = first.beside(&["status"]);
    two.assert_code(2);
    assert!(two.stderr.contains("one, two"), "{}", two.stderr);
    let none = first.beside(&["pause", "--job", "three"]);
    none.assert_code(2);
    assert!(none.stderr.contains("no job three runs here"), "{}", none.stderr);
    assert!(none.stderr.contains("one, two"), "{}", none.stderr);
    tell(&first, &["stop", "--job", "two"]);
    second.wait(PATIENCE).assert_code(130);
    assert_eq!(first.status()["job"], "one");
    tell(&first, &["stop"]);
    first.wait(PATIENCE).assert_code(130);
}
