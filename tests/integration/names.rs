//! Keys that have other names in the target: of the copy, of every command of the stream, and at a second copy.

use std::time::Duration;

use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump};
use crate::load::{self, END, Load};
use crate::servers::Server;
use crate::sync;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(30);

const SERVERS: [&str; 4] = ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"];

fn start(source: &Server, target: &Server, flags: &[&str]) -> Understudy {
    let (from, to) = (source.url(), target.url());
    Understudy::start(&[&["sync", "--from", &from, "--to", &to], flags].concat())
}

#[track_caller]
fn all(client: &mut Client, commands: &[Command]) {
    for (reply, command) in client.pipeline(commands).iter().zip(commands) {
        let command = command.join(&b' ').escape_ascii().to_string();
        assert!(!reply.is_error(), "{command:?}: {reply:?}");
    }
}

/// Everything that a server holds, and then 3,000 mixed writes.
fn under_a_prefix(name: &'static str) {
    const PREFIX: &str = "a {b}:";
    let Some((source, target)) = Server::start(name).zip(Server::start(name)) else { return };
    let mut writer = source.client();
    let holds = Holds::of(&mut writer);
    data::fill(&mut writer, source.version, holds);
    let mut load = Load::new(31, source.version, holds);
    load.send(&mut writer, 1000);
    load::slow_copies(&mut writer);
    let mut running = start(&source, &target, &["--prefix", PREFIX]);
    let during = load.send_during_copy(&mut writer, 1500);
    let after = load.send(&mut writer, 3000 - during.sent.writes.min(3000));
    load.end(&mut writer);
    assert_eq!([during.sent.refused, after.refused].concat(), Vec::<String>::new());
    let end = [PREFIX, END].concat();
    let arrived = Client::wait_for_key(target.port, 0, &end, PATIENCE, || running.is_running());
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    let first = Dump::read(&mut writer).under(PREFIX);
    let second = Dump::read(&mut target.client());
    judge::assert_same(&first, &second, sync::untold(&source), name);
    assert_eq!(second.own(), &[]);
}

#[test]
fn everything_under_a_prefix_from_2_8() {
    under_a_prefix(SERVERS[0]);
}

#[test]
fn everything_under_a_prefix_from_5_0() {
    under_a_prefix(SERVERS[1]);
}

#[test]
fn everything_under_a_prefix_from_7_0() {
    under_a_prefix(SERVERS[2]);
}

#[test]
fn everything_under_a_prefix_from_valkey() {
    under_a_prefix(SERVERS[3]);
}

/// Copies, follows `commands`, and is stopped once `end` has arrived; the job is then ended.
#[track_caller]
fn follow(
    (source, target): (&Server, &Server),
    flags: &[&str],
    commands: &[Command],
    end: &str,
) -> Ended {
    let mut writer = source.client();
    let mut running = start(source, target, flags);
    let begun = std::time::Instant::now();
    while !writer.info("replication", "slave0").contains("state=online") {
        assert!(begun.elapsed() < PATIENCE && running.is_running(), "no copy");
    }
    all(&mut writer, commands);
    let arrived = Client::wait_for_key(target.port, 0, end, PATIENCE, || running.is_running());
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    ended
}

#[test]
fn every_rule_is_about_the_names_on_the_source() {
    for name in SERVERS {
        let Some((source, target)) = Server::start(name).zip(Server::start(name)) else { return };
        all(
            &mut source.client(),
            &[
                cmd!("MSET", "in:1", 1, "in:2", 2, "out:1", 3, "weight:a", 2, "weight:b", 1),
                cmd!("SADD", "in:set", "a", "b"),
                cmd!("RPUSH", "in:list", "b", "a"),
                cmd!("SETEX", "in:dies", 5000, "v"),
            ],
        );
        let commands = [
            cmd!("RENAME", "in:1", "in:renamed"),
            cmd!("RENAME", "in:2", "out:renamed"),
            cmd!("SMOVE", "in:set", "out:set", "a"),
            cmd!("SORT", "in:list", "ALPHA", "STORE", "in:sorted"),
            // It reads keys that it does not name: what it has made is read from the source.
            cmd!("SORT", "in:list", "BY", "weight:*", "STORE", "in:by weight"),
            cmd!("EVAL", "return redis.call('INCR', KEYS[1])", 1, "in:counted"),
            cmd!("MULTI"),
            cmd!("SET", "in:m", 1),
            cmd!("MOVE", "in:m", 3),
            cmd!("EXEC"),
            cmd!("PUBLISH", "in:channel", "m"),
            cmd!("SET", "in:end", 1),
        ];
        let flags = ["--include", "in:*", "--prefix", "p:", "--db-map", "3:5,5:3"];
        follow((&source, &target), &flags, &commands, "p:in:end");
        let mut writer = source.client();
        writer.call(cmd!("SELECT", 3));
        writer.call(cmd!("MOVE", "in:m", 5));
        writer.call(cmd!("SELECT", 0));
        for pattern in ["out:*", "weight:*"] {
            for key in writer.call(cmd!("KEYS", pattern)).strings() {
                writer.call(cmd!("DEL", key));
            }
        }
        let first = Dump::read(&mut writer).under("p:");
        judge::assert_same(&first, &Dump::read(&mut target.client()), sync::untold(&source), name);
    }
}

#[test]
fn two_sources_under_their_prefixes_in_one_database() {
    for name in SERVERS {
        let servers = (Server::start(name), Server::start(name), Server::start(name));
        let (Some(one), Some(two), Some(target)) = servers else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sources.toml");
        let text = format!(
            "[target]\nurl = \"{}\"\n[[source]]\nurl = \"{}\"\nprefix = \"one:\"\n[[source]]\nurl = \"{}\"\nprefix = \"two:\"\n",
            target.url(),
            one.url(),
            two.url()
        );
        std::fs::write(&file, text).unwrap();
        for (server, value) in [(&one, 1), (&two, 2)] {
            let (mut client, named) = (server.client(), format!("only {value}"));
            client.call(cmd!("MSET", "same", value, named, value, "gone", 1));
            client.call(cmd!("SETEX", "dies", 1000 * value, "v"));
        }
        let args = ["sync", "--config", file.to_str().unwrap()];
        let mut running = Understudy::start(&args);
        for (server, prefix) in [(&one, "one:"), (&two, "two:")] {
            server.client().call(cmd!("SET", "begun", 1));
            let key = [prefix, "begun"].concat();
            assert!(Client::wait_for_key(target.port, 0, &key, PATIENCE, || running.is_running()));
        }
        // A second copy of one of them removes what that one has no more, and nothing of the other.
        one.client().call(cmd!("CONFIG", "SET", "repl-backlog-size", 16384));
        let (stopped, again) = running.stop(PATIENCE);
        stopped.assert_code(130);
        all(&mut one.client(), &[cmd!("DEL", "gone"), cmd!("SET", "same", "x".repeat(1 << 20))]);
        two.client().call(cmd!("SET", "same", "new"));
        let ended = again.once().wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.full_syncs"), 1, "{name}");
        let held = |server: &Server, prefix: &str| {
            let keys = server.client().call(cmd!("KEYS", "*")).strings();
            let keys = keys.into_iter().map(|key| [prefix.as_bytes(), &key].concat());
            keys.collect::<Vec<_>>()
        };
        let mut expected = [held(&one, "one:"), held(&two, "two:")].concat();
        let mut found = target.client().call(cmd!("KEYS", "*")).strings();
        expected.sort();
        found.sort();
        assert_eq!(expected, found, "{name}");
        let mut reader = target.client();
        assert_eq!(reader.call(cmd!("GET", "two:same")).text(), "new");
        assert_eq!(reader.call(cmd!("STRLEN", "one:same")).int(), 1 << 20);
    }
}

#[test]
fn a_prefix_that_makes_no_sense_is_refused() {
    for (prefix, why) in [("", "changes no name"), ("understudy:x", "the tool's own")] {
        let args = ["sync", "--from", "redis://a", "--to", "redis://b", "--prefix", prefix];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
}
