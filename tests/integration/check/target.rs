//! What is found at a target: room, policies, what it refuses.

use std::fs;

use crate::client::cmd;
use crate::servers::{Server, free_port, program};
use crate::tool::Understudy;

use super::source::fails_to_save;
use super::{PATIENCE, SERVER, check, check_pair};

fn pair() -> Option<(Server, Server)> {
    Some((Server::start(SERVER)?, Server::start(SERVER)?))
}

#[test]
fn memory_that_is_too_small() {
    for name in ["redis-2.8.17", SERVER, "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        source.client().call(cmd!("SET", "large", "x".repeat(39 << 20)));
        let limit = |mib: u64| {
            target.client().call(cmd!("CONFIG", "SET", "maxmemory", mib << 20));
            check_pair(&source, &target)
        };
        limit(60).has(
            "blocks",
            "target-memory",
            &["of 60 MiB (maxmemory)", "twice for a moment", "--census"],
        );
        limit(95).has("warning", "target-memory", &["of 95 MiB (maxmemory)"]);
        limit(1000).lacks("target-memory");
        limit(60);
        // What rules leave out may be most of it.
        let found = check(&[&source.url()], &target.url(), &["--exclude", "large"]);
        found.has("warning", "target-memory", &["of 60 MiB"]);
    }
}

#[test]
fn policies_that_evict() {
    let Some((source, target)) = pair() else { return };
    let mut client = target.client();
    client.call(cmd!("CONFIG", "SET", "maxmemory", 1 << 30));
    client.call(cmd!("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"));
    let found = check_pair(&source, &target);
    found.has("blocks", "evicting-policy", &["allkeys-lru", "--accept-eviction"]);
    assert_eq!(found.all("warning").len(), 0, "{:#}", found.json);
    let found = check(&[&source.url()], &target.url(), &["--accept-eviction"]);
    found.has("warning", "evicting-policy", &["allkeys-lru", "noeviction"]);
    client.call(cmd!("CONFIG", "SET", "maxmemory-policy", "volatile-lru"));
    check_pair(&source, &target).has("warning", "evicting-policy", &["volatile-lru"]);
}

#[test]
fn writes_that_are_refused() {
    for name in ["redis-2.8.17", SERVER, "valkey-9.1.2"] {
        let options = ["--save", "3600", "1", "--dbfilename", "dump.rdb"];
        let (Some(source), Some(target)) =
            (Server::start(SERVER), Server::start_with(name, &options))
        else {
            return;
        };
        fails_to_save(&target);
        let found = check(&[&source.url()], &target.url(), &["--on-conflict", "replace"]);
        found.has("blocks", "refuses-writes", &["MISCONF", "stop-writes-on-bgsave-error no"]);
        target.client().call(cmd!("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"));
        target.client().call(cmd!("DEL", "key"));
        check_pair(&source, &target).lacks("refuses-writes");
        let setting =
            if name == "redis-2.8.17" { "min-slaves-to-write" } else { "min-replicas-to-write" };
        target.client().call(cmd!("CONFIG", "SET", setting, 2));
        check_pair(&source, &target).has(
            "blocks",
            "refuses-writes",
            &["only with 2 replicas", "has 0"],
        );
    }
}

#[test]
fn transactions_that_may_be_halved() {
    for (name, halves) in [("redis-3.2.6", true), ("redis-5.0.6", false)] {
        let (Some(source), Some(target)) =
            (Server::start("redis-3.2.6"), Server::start_with(name, &["--appendonly", "yes"]))
        else {
            return;
        };
        let found = check_pair(&source, &target);
        match halves {
            true => found.has(
                "warning",
                "half-transactions",
                &["append-only file", "half of its last transaction"],
            ),
            false => found.lacks("half-transactions"),
        };
    }
}

#[test]
fn databases_and_keys_that_are_there() {
    let Some(source) = Server::start(SERVER) else { return };
    let Some(target) = Server::start_with(SERVER, &["--databases", "4"]) else { return };
    let mut client = source.client();
    client.select(9);
    client.call(cmd!("SET", "key", 1));
    check_pair(&source, &target).has("blocks", "databases", &["has no database 9", "--db-map"]);
    check(&[&source.url()], &target.url(), &["--only-db", "9", "--db-map", "9:1"]).is_quiet();
    target.client().call(cmd!("SET", "there", 1));
    check_pair(&source, &target).has(
        "blocks",
        "keys-there",
        &["already holds 1 keys", "--on-conflict"],
    );
    check(
        &[&source.url()],
        &target.url(),
        &["--on-conflict", "replace", "--only-db", "9", "--db-map", "9:1"],
    )
    .is_quiet();
}

#[test]
fn memory_of_our_own_that_is_too_small() {
    let Some((source, target)) = pair() else { return };
    let mut client = target.client();
    let keys: Vec<_> = (0..8000).map(|n| cmd!("SET", format!("key:{n}"), n)).collect();
    client.pipeline(&keys);
    let more = ["--on-conflict", "keep", "--memory", "1MiB"];
    let found = check(&[&source.url()], &target.url(), &more);
    found.has("blocks", "memory", &["the names of the 8000 keys", "--memory"]);
}

#[test]
fn places_that_are_no_single_master() {
    let Some((source, target)) = pair() else { return };
    let Some(node) = Server::start_with(SERVER, &["--cluster-enabled", "yes"]) else { return };
    for (name, value) in [("MSET", "a"), ("SET", "b")] {
        source.client().call(cmd!(name, value, 1));
    }
    check_pair(&source, &node)
        .has("blocks", "cluster-part", &["the target is a node of a cluster"])
        .has("note", "cross-slot", &["MSET 1", "{tag}"]);
    check_pair(&node, &target).has(
        "blocks",
        "unreachable",
        &["no master serves the slots 0-16383"],
    );
    let slots: Vec<Vec<u8>> = ["CLUSTER", "ADDSLOTS"]
        .into_iter()
        .map(|word| word.as_bytes().to_vec())
        .chain((0..16384).map(|slot: u32| slot.to_string().into_bytes()))
        .collect();
    node.client().call(slots);
    crate::asking::until("it is whole", PATIENCE, || {
        node.client().call(cmd!("CLUSTER", "INFO")).text().contains("cluster_state:ok")
    });
    let found = check_pair(&node, &target);
    found.has("warning", "rebalancer", &["slots of this cluster", "rebalancer"]);
    assert_eq!(found.json["places"][0]["server"], "Redis 7.0.15", "{:#}", found.json);
}

#[test]
fn a_sentinel() {
    let Some((source, target)) = pair() else { return };
    let Some(binary) = program(SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = folder.path().join("sentinel.conf");
    fs::write(&config, format!("port {port}\nbind 127.0.0.1\n")).unwrap();
    let child = std::process::Command::new(binary)
        .arg(&config)
        .arg("--sentinel")
        .current_dir(folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _killed = Killed(child);
    crate::asking::until("it listens", PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let url = format!("redis://127.0.0.1:{port}");
    check(&[&url], &target.url(), &[]).has("blocks", "sentinel", &["redis-sentinel://"]);
    check(&[&source.url()], &url, &[]).has("blocks", "sentinel", &["the target is a Sentinel"]);
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is told of several sources, of the job's record and of the spool.
#[test]
fn jobs_that_cannot_begin_so() {
    let Some((source, target)) = pair() else { return };
    source.client().call(cmd!("SET", "key", 1));
    let found = check(&[&source.url()], &target.url(), &["--spool", "/nowhere/at/all"]);
    found.has("blocks", "spool", &["nothing can be written there"]);
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::write(
            folder.path().join(format!("{name}.rdb")),
            include_bytes!("../../../fixtures/rdb/redis-6.2.14/nochecksum.rdb"),
        )
        .unwrap();
    }
    let files = ["a", "b"]
        .map(|name| folder.path().join(format!("{name}.rdb")).to_str().unwrap().to_owned());
    let found = check(&[&files[0], &files[1]], &target.url(), &["--on-conflict", "replace"]);
    found.has("blocks", "shared-keys", &["cannot be asked for a single key"]);

    let (from, to) = (source.url(), target.url());
    let Some(other) = Server::start(SERVER) else { return };
    let args = ["sync", "--from", &from, "--to", &to, "--job", "night"];
    let mut running = Understudy::start(&args);
    assert!(crate::client::Client::wait_for_key(target.port, 0, "key", PATIENCE, || running
        .is_running()));
    running.interrupt();
    running.wait(PATIENCE).assert_code(130);
    let found = check(&[&other.url()], &to, &["--job", "night"]);
    found.has("blocks", "job-record", &["was begun with other sources", "--restart"]);
}
