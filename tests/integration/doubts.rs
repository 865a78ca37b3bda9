//! Keys that the target holds otherwise than the source did, and commands that nobody knows: what the source holds is read and written.

use std::time::Duration;

use crate::client::{Client, Command, cmd};
use crate::judge::{self, Dump};
use crate::servers::Server;
use crate::sync;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(20);

/// A source that is followed.
struct Followed {
    source: Server,
    target: Server,
    running: Understudy,
}

impl Followed {
    fn start(name: &'static str, options: &[&str], flags: &[&str]) -> Option<Self> {
        let source = Server::start_with(name, options)?;
        let target = Server::start(name)?;
        let (from, to) = (source.url(), target.url());
        source.client().call(cmd!("MSET", "a", 1, "b", 2));
        let running = Understudy::start(&[&["sync", "--from", &from, "--to", &to], flags].concat());
        let mut followed = Self { source, target, running };
        followed.arrives("begun");
        Some(followed)
    }

    /// Writes a key to the source, and waits until it is in the target: so is all that was written before.
    fn arrives(&mut self, key: &str) {
        self.source.client().call(cmd!("SET", key, 1));
        let running = &mut self.running;
        let is_there =
            Client::wait_for_key(self.target.port, 0, key, PATIENCE, || running.is_running());
        assert!(is_there, "{key} does not arrive");
    }

    /// Ends the job, and compares.
    fn end(self) -> Ended {
        let ended = self.running.end_job(PATIENCE);
        ended.assert_code(130);
        let (first, second) =
            (Dump::read(&mut self.source.client()), Dump::read(&mut self.target.client()));
        judge::assert_same(&first, &second, sync::untold(&self.source), self.source.name);
        ended
    }
}

const SERVERS: [&str; 4] = ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"];

#[test]
fn a_command_that_nobody_knows_is_asked_of_the_source() {
    for name in SERVERS {
        let renamed = ["INCR", "hidden-incr", "RPUSH", "hidden-rpush", "MSET", "hidden-mset"];
        let options: Vec<&str> =
            renamed.chunks(2).flat_map(|pair| ["--rename-command", pair[0], pair[1]]).collect();
        let Some(source) = Server::start_with(name, &options) else { return };
        let Some(target) = Server::start(name) else { return };
        let (from, to) = (source.url(), target.url());
        let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
        let mut writer = source.client();
        writer.call(cmd!("SET", "begun", 1));
        let port = target.port;
        assert!(Client::wait_for_key(port, 0, "begun", PATIENCE, || running.is_running()));
        // It is what a replica sees too, and nobody can say what it does.
        let commands: [Command; 9] = [
            cmd!("hidden-incr", "n"),
            cmd!("hidden-incr", "n"),
            cmd!("APPEND", "n", 5),
            cmd!("hidden-rpush", "list", "a", "b"),
            cmd!("LPOP", "list"),
            cmd!("hidden-mset", "x", 1, "y", 2),
            cmd!("RENAME", "x", "z"),
            cmd!("SELECT", 3),
            cmd!("hidden-incr", "elsewhere"),
        ];
        for command in commands {
            writer.call(command);
        }
        let mut followed = Followed { source, target, running };
        followed.arrives("behind");
        let ended = followed.end();
        assert!(ended.stderr.contains("this command is not known: the source is asked"), "{name}");
        assert!(ended.stderr.contains("HIDDEN-RPUSH"), "{name}: {}", ended.stderr);
    }
}

#[test]
fn a_command_whose_keys_the_source_does_not_tell_ends_the_run_or_is_passed_over() {
    for name in ["redis-2.8.17", "redis-7.0.15"] {
        // It has no keys, and does no good to guess.
        let options = ["--rename-command", "FLUSHDB", "hidden-flushdb"];
        let Some(mut followed) = Followed::start(name, &options, &[]) else { return };
        followed.source.client().call(cmd!("hidden-flushdb"));
        let ended = followed.running.wait(PATIENCE);
        ended.assert_code(3);
        assert!(ended.stderr.contains("HIDDEN-FLUSHDB"), "{}", ended.stderr);
        assert!(ended.stderr.contains("--on-unknown-command skip"), "{}", ended.stderr);

        let flags = ["--on-unknown-command", "skip"];
        followed = Followed::start(name, &options, &flags).unwrap();
        followed.source.client().call(cmd!("hidden-flushdb"));
        followed.arrives("behind");
        let (ended, again) = followed.running.stop(PATIENCE);
        assert_eq!(ended.reported("sources.0.skipped.HIDDEN-FLUSHDB"), 1, "{name}");
        ended.assert_code(130);
        // What was passed over is told at the end: data may be wrong.
        let ended = again.once().wait(PATIENCE);
        ended.assert_code(1);
        assert_eq!(ended.reported("sources.0.unproven"), 1, "{name}");
        assert_eq!(followed.target.client().call(cmd!("GET", "a")).text(), "1", "{name}");
    }
}

#[test]
fn keys_that_somebody_else_has_changed_are_read_anew() {
    for name in SERVERS {
        let Some(mut followed) = Followed::start(name, &[], &[]) else { return };
        let (mut writer, mut vandal) = (followed.source.client(), followed.target.client());
        let before: [Command; 6] = [
            cmd!("RPUSH", "list", 1, 2, 3),
            cmd!("SADD", "set", "a", "b"),
            cmd!("HSET", "hash", "f", 1),
            cmd!("ZADD", "zset", 1, "a"),
            cmd!("SET", "text", "abc"),
            cmd!("SADD", "other set", "x"),
        ];
        writer.pipeline(&before);
        followed.arrives("filled");
        // Other types, other values, gone.
        vandal.pipeline(&[
            cmd!("SET", "list", "text"),
            cmd!("DEL", "set"),
            cmd!("SET", "hash", "text"),
            cmd!("RPUSH", "fresh", "text"),
            cmd!("DEL", "text"),
        ]);
        writer.pipeline(&[
            cmd!("RPUSH", "list", 4),
            cmd!("SMOVE", "set", "other set", "a"),
            cmd!("HINCRBY", "hash", "f", 5),
            cmd!("MULTI"),
            cmd!("ZINCRBY", "zset", 2, "a"),
            cmd!("SADD", "fresh", 1),
            cmd!("SUNIONSTORE", "union", "fresh", "other set"),
            cmd!("EXEC"),
            cmd!("PEXPIRE", "text", 3_600_000),
            cmd!("RENAME", "union", "renamed"),
        ]);
        followed.arrives("changed");
        let ended = followed.end();
        let said = "the target did something else than the source: the key is read anew";
        assert!(ended.stderr.contains(said), "{name}: {}", ended.stderr);
    }
}

/// Without offsets nothing can be read at a place of the stream: a second copy takes its place.
#[test]
fn a_source_without_offsets_is_copied_again() {
    let Some(source) = Server::start_with("redis-2.8.17", &["--rename-command", "PSYNC", "none"])
    else {
        return;
    };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let (from, to) = (source.url(), target.url());
    let mut writer = source.client();
    writer.call(cmd!("RPUSH", "list", 1));
    let running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
    let mut followed = Followed { source, target, running };
    followed.arrives("begun");
    followed.target.client().call(cmd!("SET", "list", "text"));
    writer.call(cmd!("RPUSH", "list", 2));
    let begun = std::time::Instant::now();
    while followed.target.client().try_call(cmd!("LRANGE", "list", 0, -1)).is_error() {
        assert!(followed.running.is_running() && begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    followed.arrives("behind");
    let ended = followed.running.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.full_syncs"), 2);
    let lists = [&followed.source, &followed.target]
        .map(|server| server.client().call(cmd!("LRANGE", "list", 0, -1)).strings());
    assert_eq!(lists[0], lists[1]);
}

/// Whoever looks after a run of many is told of a failure when it happens, and not when the run ends.
#[test]
fn a_source_that_fails_is_told_while_the_others_go_on() {
    let options = ["--rename-command", "FLUSHDB", "hidden-flushdb"];
    let Some(bad) = Server::start_with("redis-7.0.15", &options) else { return };
    let Some(good) = Server::start("redis-7.0.15") else { return };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let (first, second, to) = (bad.url(), good.url(), target.url());
    let flags = ["sync", "--from", &first, "--from", &second, "--to", &to, "--on-conflict", "stop"];
    let mut running = Understudy::start(&flags);
    bad.client().call(cmd!("SET", "of-the-bad", 1));
    assert!(Client::wait_for_key(target.port, 0, "of-the-bad", PATIENCE, || running.is_running()));
    bad.client().call(cmd!("hidden-flushdb"));
    running.tells("this source has failed; the others go on", PATIENCE);
    good.client().call(cmd!("SET", "of-the-good", 1));
    assert!(Client::wait_for_key(target.port, 0, "of-the-good", PATIENCE, || running.is_running()));
    running.stop(PATIENCE).0.assert_code(3);
}
