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
    named_otherwise(name, &["--prefix", PREFIX], |key| [PREFIX.as_bytes(), key].concat());
}

/// The same by an expression of which nobody can tell that no two keys get one name.
fn renamed(name: &'static str) {
    let in_brackets = |key: &[u8]| {
        let from = key.iter().position(u8::is_ascii_lowercase).unwrap_or(key.len());
        let len = key[from..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        let (before, rest) = key.split_at(from);
        let (word, behind) = rest.split_at(len);
        if word.is_empty() {
            return key.to_vec();
        }
        [before, b"<", word, b">", behind].concat()
    };
    named_otherwise(name, &["--rename", "[a-z]+=<$0>"], in_brackets);
}

fn named_otherwise(name: &'static str, flags: &[&str], named: impl Fn(&[u8]) -> Vec<u8>) {
    let Some((source, target)) = Server::start(name).zip(Server::start(name)) else { return };
    let mut writer = source.client();
    let holds = Holds::of(&mut writer);
    data::fill(&mut writer, source.version, holds);
    let mut load = Load::new(31, source.version, holds);
    load.send(&mut writer, 1000);
    load::slow_copies(&mut writer);
    let mut running = start(&source, &target, flags);
    let during = load.send_during_copy(&mut writer, 1500);
    let after = load.send(&mut writer, 3000 - during.sent.writes.min(3000));
    load.end(&mut writer);
    assert_eq!([during.sent.refused, after.refused].concat(), Vec::<String>::new());
    let end = String::from_utf8(named(END.as_bytes())).unwrap();
    let arrived = Client::wait_for_key(target.port, 0, &end, PATIENCE, || running.is_running());
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    let first = Dump::read(&mut writer).named(named);
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

#[test]
fn everything_renamed_from_2_8() {
    renamed(SERVERS[0]);
}

#[test]
fn everything_renamed_from_5_0() {
    renamed(SERVERS[1]);
}

#[test]
fn everything_renamed_from_7_0() {
    renamed(SERVERS[2]);
}

#[test]
fn everything_renamed_from_valkey() {
    renamed(SERVERS[3]);
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

/// Waits until a key is in the target.
fn arrives(running: &mut Understudy, target: &Server, key: &str) {
    assert!(Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running()), "{key}");
}

#[test]
fn a_second_key_with_one_name_ends_the_run() {
    for name in ["redis-5.0.6", "valkey-9.1.2"] {
        // In the copy.
        let Some((source, target)) = Server::start(name).zip(Server::start(name)) else { return };
        source.client().call(cmd!("MSET", "user:1", 1, "u:1", 2));
        let flags = ["--rename", "^user:=u:", "--once"];
        let ended = start(&source, &target, &flags).wait(PATIENCE);
        // Nothing was written yet.
        ended.assert_code(2);
        assert!(
            ended.stderr.contains("another key of the source has become already"),
            "{}",
            ended.stderr
        );
        // In the stream; the first one of both stays as it was.
        let (source, target) = (Server::start(name).unwrap(), Server::start(name).unwrap());
        source.client().call(cmd!("SET", "user:1", 1));
        let mut running = start(&source, &target, &flags[..2]);
        arrives(&mut running, &target, "u:1");
        all(&mut source.client(), &[cmd!("INCR", "user:1"), cmd!("SET", "behind", 1)]);
        arrives(&mut running, &target, "behind");
        source.client().call(cmd!("SET", "u:1", "other"));
        let ended = running.wait(PATIENCE);
        ended.assert_code(3);
        assert!(ended.stderr.contains(r#"key "u:1" would become "u:1""#), "{}", ended.stderr);
        assert_eq!(target.client().call(cmd!("GET", "u:1")).text(), "2");
    }
}

/// Of a command with several keys all are named, whichever of them it is.
#[test]
fn a_name_that_is_taken_is_told_with_its_command() {
    for (command, told) in [
        (cmd!("RENAME", "a", "u:1"), r#""RENAME" of keys "a", "u:1": key "u:1" would become"#),
        (
            cmd!("MSET", "u:1", 1, "b", 2, "c", 3),
            r#""MSET" of keys "u:1", "b", "c": key "u:1" would become"#,
        ),
    ] {
        let name = "redis-7.0.15";
        let Some((source, target)) = Server::start(name).zip(Server::start(name)) else { return };
        let mut writer = source.client();
        all(&mut writer, &[cmd!("SET", "user:1", 1), cmd!("SET", "a", 1)]);
        let mut running = start(&source, &target, &["--rename", "^user:=u:"]);
        arrives(&mut running, &target, "u:1");
        all(&mut writer, &[command]);
        let ended = running.wait(PATIENCE);
        ended.assert_code(3);
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        assert!(ended.stderr.contains("give --rename a text"), "{}", ended.stderr);
    }
}

#[test]
fn what_is_wrong_in_the_target_is_read_by_the_name_on_the_source() {
    for flags in [["--prefix", "p:"], ["--rename", "([a-z]+):=<$1>"], ["--rename", "^=p:"]] {
        for name in SERVERS {
            let Some((source, target)) = Server::start(name).zip(Server::start(name)) else {
                return;
            };
            let named = |key: &str| match flags {
                ["--rename", "([a-z]+):=<$1>"] => key.replacen("a:", "<a>", 1),
                _ => format!("p:{key}"),
            };
            let mut writer = source.client();
            writer.call(cmd!("SET", "a:n", 1));
            let mut running = start(&source, &target, &flags);
            arrives(&mut running, &target, &named("a:n"));
            let meddled = [
                cmd!("DEL", named("a:n")),
                cmd!("LPUSH", named("a:n"), "meddled"),
                cmd!("LPUSH", named("a:x"), "meddled"),
            ];
            all(&mut target.client(), &meddled);
            let commands = [
                cmd!("INCR", "a:n"),
                cmd!("MULTI"),
                cmd!("INCR", "a:n"),
                cmd!("SETEX", "a:dies", 1000, 1),
                cmd!("EXEC"),
                cmd!("INCR", "a:x"),
                cmd!("RENAME", "a:n", "a:m"),
                cmd!("SET", "a:end", 1),
            ];
            all(&mut writer, &commands);
            arrives(&mut running, &target, &named("a:end"));
            let ended = running.end_job(PATIENCE);
            ended.assert_code(130);
            assert!(ended.stderr.contains("the key is read anew"), "{name}: {}", ended.stderr);
            let first = Dump::read(&mut writer)
                .named(|key| named(std::str::from_utf8(key).unwrap()).into_bytes());
            let second = Dump::read(&mut target.client());
            judge::assert_same(&first, &second, sync::untold(&source), name);
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_names_to_a_new_copy_only_where_they_could_meet() {
    for (rename, full) in [("^=p:", 0), ("([a-z]+):=<$1>", 1)] {
        let name = "redis-7.0.15";
        let Some((source, target)) = Server::start(name).zip(Server::start(name)) else { return };
        let mut writer = source.client();
        all(&mut writer, &[cmd!("MSET", "a:1", 1, "a:gone", 1), cmd!("SETEX", "a:dies", 1000, 1)]);
        let flags = ["--rename", rename, "--job", "killed"];
        let mut running = start(&source, &target, &flags);
        let named = |key: &str| match full {
            0 => format!("p:{key}"),
            _ => key.replacen("a:", "<a>", 1),
        };
        arrives(&mut running, &target, &named("a:1"));
        all(&mut writer, &[cmd!("SET", "a:2", 2)]);
        arrives(&mut running, &target, &named("a:2"));
        let state = std::sync::Arc::clone(running.state());
        crate::tool::signal("KILL", running.id());
        assert_eq!(running.wait(PATIENCE).code, None);
        all(&mut writer, &[cmd!("DEL", "a:gone"), cmd!("INCR", "a:1")]);
        let (from, to) = (source.url(), target.url());
        let args = [&["sync", "--from", &from, "--to", &to, "--once"], &flags[..]].concat();
        let ended = Understudy::start_telling_in(&args, &state).wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.full_syncs"), full, "{rename}");
        let first = Dump::read(&mut writer)
            .named(|key| named(std::str::from_utf8(key).unwrap()).into_bytes());
        let second = Dump::read(&mut target.client());
        judge::assert_same(&first, &second, sync::untold(&source), rename);
    }
}

#[test]
fn renames_that_plainly_make_two_keys_one_are_refused() {
    for (rename, why) in [("^tmp:[0-9]+=tmp", r#"would both become "tmp""#), ("a", "no REGEX=TEXT")]
    {
        let args = ["sync", "--from", "redis://a", "--to", "redis://b", "--rename", rename];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        assert!(
            ended.stderr.contains("--rename: ") && ended.stderr.contains(why),
            "{}",
            ended.stderr
        );
    }
}
