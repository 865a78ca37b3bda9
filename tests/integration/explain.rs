//! `explain`: each answer on real servers.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, cmd};
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const SERVER: &str = "redis-7.0.15";
const PATIENCE: Duration = Duration::from_secs(30);

/// What was said of a key, and the exit code.
#[derive(Debug)]
struct Said {
    told: Value,
    code: Option<i32>,
}

impl Said {
    #[track_caller]
    fn assert(&self, answer: &str, code: i32) -> &Self {
        assert_eq!(self.told["answer"], answer, "{:#}", self.told);
        assert_eq!(self.code, Some(code), "{:#}", self.told);
        self
    }

    fn source(&self, at: usize) -> &Value {
        &self.told["sources"][at]
    }

    fn why(&self) -> &str {
        self.told["why"].as_str().unwrap()
    }
}

fn said(ended: &Ended) -> Said {
    let told = serde_json::from_str(&ended.stdout);
    let told = told.unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    Said { told, code: ended.code }
}

fn run(command: &str, args: &[&str]) -> Ended {
    Understudy::start(&[&[command], args].concat()).wait(PATIENCE)
}

fn explain(key: &str, args: &[&str]) -> Said {
    said(&run("explain", &[&[key, "--json"], args].concat()))
}

#[test]
fn rules_and_names() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let mut client = source.client();
    for key in ["user:1", "user:2", "tmp:1", "old:7"] {
        client.call(cmd!("SET", key, "x"));
    }
    client.call(cmd!("HSET", "user:hash", "f", "v"));
    client.select(3);
    client.call(cmd!("SET", "user:3", "x"));
    let (from, to) = (source.url(), target.url());
    let places = ["--from", from.as_str(), "--to", to.as_str()];
    let rules = [
        "--exclude",
        "tmp:*",
        "--include",
        "user:*",
        "--include",
        "tmp:*",
        "--include",
        "old:*",
        "--type",
        "string",
        "--only-db",
        "0",
        "--rename",
        "^old:=new:",
        "--prefix",
        "p:",
    ];
    let args = [&places[..], &rules[..]].concat();
    let before = source.digest();

    let none = explain("user:1", &args);
    none.assert("no_job", 1);
    assert_eq!(none.source(0)["target_key"], "p:user:1");
    assert!(none.why().contains("it is not in the target, and no job"), "{}", none.why());

    run("sync", &[&args[..], &["--once"]].concat()).assert_code(0);
    explain("user:1", &args).assert("arrived", 0);
    explain("old:7", &args).assert("arrived", 0);
    let filtered = [
        ("tmp:1", "0", "--exclude tmp:*"),
        ("user:hash", "0", "its type, hash, is not chosen: --type string"),
        ("user:3", "3", "database 3 is not chosen: --only-db 0"),
    ];
    for (key, db, rule) in filtered {
        let told = explain(key, &[&args[..], &["--db", db]].concat());
        told.assert("filtered", 1);
        assert_eq!(told.source(0)["left_out_by"], rule);
    }
    client.select(0);
    client.call(cmd!("SET", "other", "x"));
    let told = explain("other", &args);
    told.assert("filtered", 1);
    assert!(told.why().contains("none of these matches: --include user:*"), "{}", told.why());
    client.call(cmd!("DEL", "other"));

    // As a name in the target: a prefix tells backwards, an expression does not.
    let back = explain("p:user:1", &[&places[..], &["--prefix", "p:"]].concat());
    back.assert("arrived", 0);
    assert_eq!(
        (&back.told["is_target_name"], &back.source(0)["key"]),
        (&true.into(), &"user:1".into())
    );
    let unknown = explain("p:new:8", &args);
    unknown.assert("absent", 1);
    assert!(unknown.told["remarks"][0].as_str().unwrap().contains("--rename"), "{unknown:?}");

    // Both sides differ, or only the target has it.
    target.client().call(cmd!("SET", "p:user:1", "y"));
    target.client().call(cmd!("SET", "p:user:9", "y"));
    let differs = explain("user:1", &args);
    differs.assert("no_job", 1);
    assert_eq!(differs.source(0)["differs"], "value");
    explain("user:9", &args).assert("extra", 1);
    explain("user:8", &args).assert("absent", 1);
    assert_eq!(source.digest(), before, "nothing was written to the source");

    // For a person, with bytes that are no text.
    let ended = run("explain", &[&["user:1"], &args[..]].concat());
    for words in [
        "\"user:1\": it is in the target with another value",
        "wanted, as \"p:user:1\" in database 0",
        "string,",
    ] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
}

#[test]
fn a_job_that_runs() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    source.client().call(cmd!("SET", "mortal", "x", "PX", "600000"));
    let (from, to) = (source.url(), target.url());
    let places = ["--from", from.as_str(), "--to", to.as_str()];
    let job = Understudy::start(&[&["sync"], &places[..]].concat());
    job.tells("following", PATIENCE);
    let ask = |key: &str| said(&job.beside(&[&["explain", key, "--json"], &places[..]].concat()));
    let held_back = ask("mortal");
    held_back.assert("arrived", 0);
    let held = |side: &str, field: &str| held_back.source(0)[side][field].clone();
    assert_eq!(held("target_holds", "is_held_back"), true);
    assert_eq!(held("target_holds", "deadline_ms"), held("holds", "deadline_ms"));

    job.beside(&["pause"]).assert_code(0);
    source.client().call(cmd!("SET", "new", "x"));
    let behind = ask("new");
    behind.assert("behind", 1);
    assert!(behind.source(0)["behind_bytes"].as_u64().unwrap() > 0);
    source.client().call(cmd!("DEL", "mortal"));
    ask("mortal").assert("behind", 1);
    job.beside(&["resume"]).assert_code(0);
    assert!(Client::wait_for_key(target.port, 0, "new", PATIENCE, || true));
    ask("new").assert("arrived", 0);
    job.stop(PATIENCE);
}

/// What went wrong last is told beside what stands now.
#[test]
fn a_job_that_had_trouble() {
    let (Some(mut source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let (from, to) = (source.url(), target.url());
    let places = ["--from", from.as_str(), "--to", to.as_str()];
    let job = Understudy::start(&[&["sync"], &places[..]].concat());
    job.tells("following", PATIENCE);
    source.kill_and_start_empty();
    source.client().call(cmd!("SET", "again", "x"));
    assert!(Client::wait_for_key(target.port, 0, "again", PATIENCE, || true));
    job.beside(&["pause"]).assert_code(0);
    source.client().call(cmd!("SET", "new", "x"));
    let told = said(&job.beside(&[&["explain", "new", "--json"], &places[..]].concat()));
    told.assert("behind", 1);
    let remark = told.told["remarks"][0].as_str().unwrap();
    assert!(
        remark.starts_with(&format!("of 127.0.0.1:{} the running job says: ", source.port)),
        "{remark}"
    );
    job.stop(PATIENCE);
}

#[test]
fn a_key_past_its_deadline() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    // While writes are paused nothing is removed that has died.
    let mut client = source.client();
    client.call(cmd!("CLIENT", "PAUSE", "20000", "WRITE"));
    client.call(cmd!("CLIENT", "UNPAUSE"));
    client.call(cmd!("SET", "dying", "x", "PX", "1"));
    client.call(cmd!("CLIENT", "PAUSE", "20000", "WRITE"));
    let (from, to) = (source.url(), target.url());
    let told = explain("dying", &["--from", &from, "--to", &to]);
    // Whether it was removed before the pause began is the server's affair.
    match told.told["answer"].as_str() {
        Some("expired") => assert_eq!(told.source(0)["holds"]["is_expired"], true),
        other => assert_eq!(other, Some("absent"), "{told:?}"),
    }
    assert_eq!(told.code, Some(1));
}

#[test]
fn several_sources() {
    let servers = [Server::start(SERVER), Server::start(SERVER), Server::start(SERVER)];
    let [Some(first), Some(second), Some(target)] = servers else { return };
    for source in [&first, &second] {
        source.client().call(cmd!("SET", "both", source.port.to_string()));
    }
    second.client().call(cmd!("SET", "second", "x"));
    target.client().call(cmd!("SET", "kept", "mine"));
    first.client().call(cmd!("SET", "kept", "theirs"));
    let (one, two, to) = (first.url(), second.url(), target.url());
    let places = ["--from", one.as_str(), "--from", two.as_str(), "--to", to.as_str()];
    let args = [&places[..], &["--on-conflict", "keep"]].concat();
    let job = Understudy::start(&[&["sync"], &args[..]].concat());
    job.tells("all sources  following", PATIENCE);
    let ask =
        |key: &str, args: &[&str]| said(&job.beside(&[&["explain", key, "--json"], args].concat()));
    assert!(Client::wait_for_key(target.port, 0, "both", PATIENCE, || true));
    let both = ask("both", &args);
    both.assert("arrived", 0);
    assert_eq!(both.source(1)["answer"], "owned_by_another");
    assert!(both.source(1)["why"].as_str().unwrap().contains(&first.port.to_string()), "{both:?}");
    assert_eq!(both.source(0)["claimed_by"].as_array().unwrap().len(), 2);
    ask("second", &args).assert("arrived", 0);
    ask("kept", &args).assert("kept", 1);
    job.stop(PATIENCE);
}

/// Without a policy what comes second under a name is not played, and the first stays.
#[test]
fn a_name_that_nobody_may_have() {
    let servers = [Server::start(SERVER), Server::start(SERVER), Server::start(SERVER)];
    let [Some(first), Some(second), Some(target)] = servers else { return };
    let (one, two, to) = (first.url(), second.url(), target.url());
    let places = ["--from", one.as_str(), "--from", two.as_str(), "--to", to.as_str()];
    let job = Understudy::start(&[&["sync"], &places[..]].concat());
    job.tells("all sources  following", PATIENCE);
    second.client().call(cmd!("SET", "late", "second"));
    assert!(Client::wait_for_key(target.port, 0, "late", PATIENCE, || true));
    first.client().call(cmd!("SET", "late", "first"));
    first.client().call(cmd!("SET", "behind it", "x"));
    assert!(Client::wait_for_key(target.port, 0, "behind it", PATIENCE, || true));
    let told = said(&job.beside(&[&["explain", "late", "--json"], &places[..]].concat()));
    told.assert("contested", 1);
    let remark = told.told["remarks"][0].as_str().unwrap();
    assert!(remark.contains(&second.port.to_string()), "{remark}");
    job.stop(PATIENCE);
}

#[test]
fn a_copy_that_is_not_whole() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let sets = (0..3000).map(|n| cmd!("SET", format!("key:{n}"), "x"));
    source.client().pipeline(&sets.collect::<Vec<_>>());
    let (from, to) = (source.url(), target.url());
    let places = ["--from", from.as_str(), "--to", to.as_str()];
    let job = Understudy::start(&[&["sync", "--limit-rate", "20"], &places[..]].concat());
    job.tells("copying", PATIENCE);
    let mut client = target.client();
    let missing = (0..3000).map(|n| format!("key:{n}"));
    let missing = missing.rev().find(|key| client.call(cmd!("EXISTS", key.as_str())).int() == 0);
    let key = missing.expect("it takes two minutes");
    let told = said(&job.beside(&[&["explain", &key, "--json"], &places[..]].concat()));
    told.assert("copying", 1);
    job.stop(PATIENCE);
}

#[test]
fn servers_of_all_ages() {
    for name in ["redis-2.8.17", "redis-3.2.6", "redis-6.2.14", "redis-8.0.6", "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (Server::start(name), Server::start("valkey-9.1.2"))
        else {
            return;
        };
        let mut client = source.client();
        client.call(cmd!("ZADD", "scores", "1.5", "one"));
        client.call(cmd!("SET", "mortal", "x", "EX", "3000"));
        let (from, to) = (source.url(), target.url());
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[target]\nurl = {to:?}\n[defaults]\nprefix = \"p:\"\n[[source]]\nurl = {from:?}\nname = \"old\"\n"
        );
        std::fs::write(config.path(), text).unwrap();
        let args = ["--config", config.path().to_str().unwrap()];
        explain("scores", &args).assert("no_job", 1);
        run("sync", &[&args[..], &["--once"]].concat()).assert_code(0);
        let there = explain("scores", &args);
        there.assert("arrived", 0);
        assert_eq!(
            (&there.source(0)["name"], &there.source(0)["target_key"]),
            (&"old".into(), &"p:scores".into())
        );
        assert_eq!(there.source(0)["holds"]["type"], "zset");
        explain("mortal", &args).assert("arrived", 0);
        client.call(cmd!("PERSIST", "mortal"));
        assert_eq!(explain("mortal", &args).source(0)["differs"], "ttl", "{name}");
    }
}

#[test]
fn a_file_is_not_asked() {
    let Some(target) = Server::start(SERVER) else { return };
    let file = "fixtures/rdb/redis-5.0.6/types.rdb";
    let told = explain("key", &["--from", file, "--to", &target.url()]);
    told.assert("unknown", 1);
    assert!(told.why().contains("rdb cat"), "{}", told.why());
}

#[test]
fn what_was_evicted() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    source.client().call(cmd!("SET", "key", "x"));
    let mut client = target.client();
    for n in 0..40 {
        client.call(cmd!("SET", format!("large:{n}"), "x".repeat(100_000)));
    }
    client.call(cmd!("CONFIG", "SET", "maxmemory-policy", "allkeys-random"));
    client.call(cmd!("CONFIG", "SET", "maxmemory", "3mb"));
    client.call(cmd!("SET", "one", "more"));
    let (from, to) = (source.url(), target.url());
    let told = explain("key", &["--from", &from, "--to", &to]);
    told.assert("no_job", 1);
    let remark = told.told["remarks"][0].as_str().unwrap();
    assert!(remark.contains("has evicted"), "{remark}");
}

#[test]
fn what_cannot_be_asked() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    source.client().call(cmd!("SET", "key", "x"));
    let (from, to) = (source.url(), target.url());
    run("explain", &["--from", &from, "--to", &to]).assert_code(2);
    run("explain", &["key", "--from", &from]).assert_code(2);
    run("explain", &["key", "--from", "redis://127.0.0.1:1", "--to", &to]).assert_code(3);
    // A user who may not read it.
    source.client().call(cmd!("ACL", "SETUSER", "ada", "on", ">word", "~*", "+@all", "-dump"));
    let from = format!("redis://ada:word@127.0.0.1:{}", source.port);
    let told = explain("key", &["--from", &from, "--to", &to]);
    told.assert("unknown", 1);
    assert!(told.why().contains("dump"), "{}", told.why());
}
