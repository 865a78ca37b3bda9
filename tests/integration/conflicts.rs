//! Keys that the target holds already.

use std::time::Duration;

use crate::client::{Client, Value, cmd};
use crate::judge::Dump;
use crate::servers::Server;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(8);
const SERVERS: [&str; 2] = ["redis-3.2.6", "redis-7.0.15"];

fn text(client: &mut Client, key: &str) -> String {
    match client.call(cmd!("GET", key)) {
        Value::Nil => "(nil)".to_owned(),
        other => other.text(),
    }
}

#[test]
fn keep_leaves_the_targets_keys_alone() {
    for name in SERVERS {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let (mut writer, mut reader) = (source.client(), target.client());
        writer.call(cmd!("MSET", "both", "source", "both 2", "source", "mine", "source"));
        reader.call(cmd!("MSET", "both", "target", "both 2", "target", "theirs", "target"));
        let args =
            ["sync", "--from", &source.url(), "--to", &target.url(), "--on-conflict", "keep"];
        let mut running = Understudy::start(&args);
        assert!(Client::wait_for_key(target.port, 0, "mine", PATIENCE, || running.is_running()));
        writer.call(cmd!("APPEND", "both", "!"));
        writer.call(cmd!("SET", "theirs", "source"));
        writer.call(cmd!("DEL", "both 2", "mine"));
        writer.call(cmd!("MSET", "both", "again", "fresh", "source"));
        writer.call(cmd!("SET", "the end", 1));
        assert!(Client::wait_for_key(target.port, 0, "the end", PATIENCE, || running.is_running()));
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        let found = ["both", "both 2", "theirs", "mine", "fresh"].map(|key| text(&mut reader, key));
        assert_eq!(found, ["target", "target", "target", "(nil)", "source"], "{name}");
        assert_eq!(ended.reported("sources.0.keys"), 1);
        assert_eq!(ended.reported("sources.0.conflicts"), 2);
        assert_eq!(ended.reported("sources.0.filtered.commands_on_kept_keys"), 2);
        let mut names = [0, 1].map(|at| ended.reported(&format!("conflicts.{at}.key")).to_string());
        names.sort();
        assert_eq!(names, ["\"both 2\"", "\"both\""]);
    }
}

#[test]
fn replace_overwrites_and_counts() {
    for name in SERVERS {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let (mut writer, mut reader) = (source.client(), target.client());
        writer.call(cmd!("MSET", "both", "source", "mine", "source"));
        writer.call(cmd!("RPUSH", "other type", "source"));
        reader.call(cmd!("MSET", "both", "target", "theirs", "target", "other type", "target"));
        let args = [
            "sync",
            "--from",
            &source.url(),
            "--to",
            &target.url(),
            "--once",
            "--on-conflict",
            "replace",
        ];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(
            ["both", "theirs"].map(|key| text(&mut reader, key)),
            ["source", "target"],
            "{name}"
        );
        assert_eq!(reader.call(cmd!("LLEN", "other type")).int(), 1);
        assert_eq!(ended.reported("sources.0.conflicts"), 2);
    }
}

/// What a target held that the source does not have is left by a second copy, since the source may have held it meanwhile: that is told, also
/// by the exit code, and by the process that ends the job.
#[test]
fn what_cannot_be_told_apart_ends_with_1() {
    for name in SERVERS {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let mut writer = source.client();
        writer.call(cmd!("MSET", "both", "source", "mine", "source"));
        target.client().call(cmd!("MSET", "both", "target", "theirs", "target"));
        let (from, to) = (source.url(), target.url());
        let args = ["sync", "--from", &from, "--to", &to, "--on-conflict", "replace"];
        let mut running = Understudy::start(&args);
        assert!(Client::wait_for_key(target.port, 0, "mine", PATIENCE, || running.is_running()));
        let state = std::sync::Arc::clone(running.state());
        running.stop(PATIENCE).0.assert_code(130);
        let again = [&args[..], &["--restart"]].concat();
        let mut running = Understudy::start_telling_in(&again, &state);
        running.tells("cannot be told", PATIENCE);
        writer.call(cmd!("SET", "behind", 1));
        assert!(Client::wait_for_key(target.port, 0, "behind", PATIENCE, || running.is_running()));
        let ended = running.stop(PATIENCE).0;
        ended.assert_code(130);
        assert_eq!(ended.reported("sources.0.unproven"), 1, "{name}");
        let args: Vec<&str> = args.into_iter().chain(["--once"]).collect();
        let ended = Understudy::start_telling_in(&args, &state).wait(PATIENCE);
        ended.assert_code(1);
        assert_eq!(ended.reported("sources.0.full_syncs"), 0, "{name}");
        assert_eq!(ended.reported("sources.0.unproven"), 1, "{name}");
        assert_eq!(ended.reported("outcome"), "differences");
        assert_eq!(text(&mut target.client(), "theirs"), "target");
    }
}

/// Only the databases that the plan writes must be empty.
#[test]
fn other_databases_may_hold_what_they_do() {
    for name in SERVERS {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let mut reader = target.client();
        source.client().call(cmd!("SET", "key", "source"));
        reader.select(1);
        reader.call(cmd!("SET", "key", "target"));
        reader.call(cmd!("SET", "understudy:left over", 1));
        let (from, to) = (source.url(), target.url());
        let sync = |flags: &[&str]| {
            Understudy::start(&[&["sync", "--from", &from, "--to", &to, "--once"], flags].concat())
                .wait(PATIENCE)
        };
        let refused = sync(&[]);
        refused.assert_code(2);
        assert!(refused.stderr.contains("already holds 1 keys"), "{}", refused.stderr);
        sync(&["--on-conflict", "stop"]).assert_code(2);
        sync(&["--only-db", "0", "--db-map", "0:1"]).assert_code(2);
        sync(&["--only-db", "0"]).assert_code(0);
        assert_eq!(text(&mut reader, "key"), "target");
        reader.select(0);
        assert_eq!(text(&mut reader, "key"), "source");
    }
}

/// Names that do not fit are a refusal that says how much would do.
#[test]
fn too_many_names_are_refused() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    target.client().call(cmd!("DEBUG", "POPULATE", 100_000));
    let before = Dump::read(&mut target.client()).len();
    let args = |memory| {
        [
            "--from",
            &source.url(),
            "--to",
            &target.url(),
            "--once",
            "--on-conflict",
            "keep",
            "--memory",
            memory,
        ]
        .map(str::to_owned)
    };
    let sync = |memory| {
        let args = args(memory);
        let args: Vec<&str> = ["sync"].into_iter().chain(args.iter().map(String::as_str)).collect();
        Understudy::start(&args).wait(PATIENCE)
    };
    let refused = sync("15MiB");
    refused.assert_code(2);
    assert!(refused.stderr.contains("16MiB"), "{}", refused.stderr);
    sync("16MiB").assert_code(0);
    assert_eq!(Dump::read(&mut target.client()).len(), before);
}

/// Between sources there is one policy: the later one stops.
#[test]
fn two_sources_with_one_key() {
    for name in SERVERS {
        let servers = [Server::start(name), Server::start(name), Server::start(name)];
        let [Some(first), Some(second), Some(target)] = servers else { return };
        first.client().call(cmd!("MSET", "one", 1, "both", "first"));
        second.client().call(cmd!("MSET", "two", 2, "both", "second"));
        let (a, b, to) = (first.url(), second.url(), target.url());
        let ended = Understudy::start(&["sync", "--from", &a, "--from", &b, "--to", &to, "--once"])
            .wait(PATIENCE);
        ended.assert_code(3);
        let met = |at: usize| ended.reported(&format!("sources.{at}.conflicts")).as_u64().unwrap();
        assert_eq!(
            met(0) + met(1),
            1,
            "{name}: a collision counts once, for the source that met it"
        );
        assert_eq!(ended.reported("conflicts.0.key"), "both");
        assert!(ended.stderr.contains("\"both\""), "{}", ended.stderr);
        let other = if met(0) == 1 { second.port } else { first.port };
        let mend = format!("  mend: 127.0.0.1:{other} holds this key too, or somebody");
        assert!(ended.stderr.contains(&mend), "the other source is named: {}", ended.stderr);
        let total = ended.stdout.lines().find(|line| line.starts_with(" total ")).unwrap();
        assert!(total.contains("failed"), "{}", ended.stdout);
        // The same without the collision.
        target.client().call(cmd!("FLUSHALL"));
        second.client().call(cmd!("DEL", "both"));
        let ended = Understudy::start(&["sync", "--from", &a, "--from", &b, "--to", &to, "--once"])
            .wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(Dump::read(&mut target.client()).len(), 3);
        // The first that holds a key has the say, whatever the target held.
        second.client().call(cmd!("MSET", "both", "second", "two", 3));
        let args =
            ["sync", "--from", &b, "--from", &a, "--to", &to, "--once", "--on-conflict", "replace"];
        Understudy::start(&args).wait(PATIENCE).assert_code(0);
        let held = target.client().call(cmd!("MGET", "one", "both", "two"));
        assert_eq!(held.strings(), [&b"1"[..], b"second", b"3"], "{name}");
    }
}
