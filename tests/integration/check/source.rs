//! What is found at a source: whether it can save, what it keeps, who else is there.

use std::fs;
use std::time::Duration;

use crate::asking;
use crate::client::{Client, cmd};
use crate::restarts::stopped_save;
use crate::servers::Server;
use crate::tool::{Understudy, signal};

use super::between::{changing, says, sets, slow};
use super::{PATIENCE, SERVER, check, check_pair};

const SAVING: [&str; 4] = ["redis-2.8.17", "redis-5.0.6", SERVER, "valkey-9.1.2"];

fn target() -> Option<Server> {
    Server::start(SERVER)
}

#[test]
fn a_master_that_could_not_save() {
    for name in SAVING {
        let options = ["--save", "3600", "1", "--dbfilename", "dump.rdb"];
        let (Some(source), Some(target)) = (Server::start_with(name, &options), target()) else {
            return;
        };
        check_pair(&source, &target).has("note", "bgsave-failed", &["that it can is not known"]);
        fails_to_save(&source);
        check_pair(&source, &target).has(
            "blocks",
            "bgsave-failed",
            &["rdb_last_bgsave_status is err", "MISCONF", "stop-writes-on-bgsave-error no"],
        );
        // It does not matter to who takes writes all the same.
        source.client().call(cmd!("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"));
        check_pair(&source, &target).lacks("bgsave-failed");
    }
}

/// Where its file shall be there is a folder with something in it.
pub(super) fn fails_to_save(server: &Server) {
    fs::create_dir_all(server.folder().join("dump.rdb").join("in the way")).unwrap();
    let mut client = server.client();
    client.call(cmd!("SET", "key", 1));
    client.call(cmd!("BGSAVE"));
    asking::until("the save fails", PATIENCE, || {
        client.info("persistence", "rdb_last_bgsave_status") == "err"
    });
}

#[test]
fn a_save_that_is_running() {
    for name in SAVING {
        let (Some(source), Some(target)) = (Server::start(name), target()) else { return };
        let child = stopped_save(&source);
        check_pair(&source, &target).has(
            "blocks",
            "bgsave-running",
            &["rdb_bgsave_in_progress", "INFO persistence"],
        );
        signal("CONT", child);
        let mut client = source.client();
        asking::until("it is saved", PATIENCE, || {
            client.info("persistence", "rdb_bgsave_in_progress") == "0"
        });
        check_pair(&source, &target).lacks("bgsave-running");
    }
}

#[test]
fn a_fork_that_finds_no_memory() {
    let (Some(source), Some(target)) =
        (Server::start_with(SERVER, &["--save", "3600", "1"]), target())
    else {
        return;
    };
    let (written, little) =
        (says("instantaneous_input_kbps", "9.99"), says("total_system_memory", "2000000"));
    let from = changing(&source, move |said| {
        written(said);
        little(said);
    });
    let found = check(&[&from], &target.url(), &[]);
    found.has(
        "blocks",
        "fork-memory",
        &["pages that are written are held twice", "1 MiB", "stop-writes-on-bgsave-error"],
    );
    source.client().call(cmd!("CONFIG", "SET", "save", ""));
    check(&[&from], &target.url(), &[]).has("warning", "fork-memory", &["are held twice"]);
    check_pair(&source, &target).lacks("fork-memory");
}

#[test]
fn a_fork_that_takes_long() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    let mut client = source.client();
    client.call(cmd!("SETRANGE", "large", 1 << 20, "x"));
    client.call(cmd!("BGSAVE"));
    // As many digits as it takes on this machine: a slow one has one more than a fast one.
    let micros = client.info("stats", "latest_fork_usec");
    let slow = format!("{}{}", "9".repeat(micros.len()), "");
    check_pair(&source, &target).lacks("fork-pause");
    let from = changing(&source, move |said| {
        let head = b"latest_fork_usec:";
        let Some(at) = said.windows(head.len()).position(|window| window == head) else { return };
        // The line behind it is of no use here: its name makes room.
        let end = at + head.len() + slow.len();
        let next = said[end + 2..].iter().position(|byte| *byte == b'\r').unwrap() + 2;
        said[at + head.len()..end + next].fill(b' ');
        said[at + head.len()..at + head.len() + 7].copy_from_slice(b"1250000");
    });
    let found = check(&[&from], &target.url(), &[]);
    found.has("warning", "fork-pause", &["for 1250 ms (latest_fork_usec)"]);
}

#[test]
fn what_a_master_keeps_is_reckoned() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    source.client().call(cmd!("SETRANGE", "large", 200 << 20, "x"));
    let from = changing(&source, says("instantaneous_input_kbps", "2048"));
    // 200 KB of digits in four characters: as many as it says when nothing is written.
    let found = check(&[&from], &target.url(), &[]);
    found.has(
        "warning",
        "repl-backlog",
        &["repl-backlog-size of 1 MiB holds", "CONFIG SET repl-backlog-size "],
    );
    source.client().call(cmd!("CONFIG", "SET", "client-output-buffer-limit", "slave 1mb 1mb 1"));
    let found = check(&[&from], &target.url(), &["--limit-read", "20MB"]);
    found.has(
        "warning",
        "output-buffer",
        &[
            "fills its client-output-buffer-limit in",
            "CONFIG SET client-output-buffer-limit \\\"slave ",
        ],
    );
    let slow = ["--limit-rate", "1MB", "--spool-limit", "0"];
    let found = check(&[&from], &target.url(), &slow);
    found.has("blocks", "output-buffer", &["its copy takes the target", "--spool-limit"]);
    source.client().call(cmd!("CONFIG", "SET", "repl-backlog-size", 1 << 30));
    check(&[&from], &target.url(), &[]).lacks("repl-backlog");
}

#[test]
fn a_master_that_loses_its_replicas_soon() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    source.client().call(cmd!("CONFIG", "SET", "repl-timeout", 5));
    check_pair(&source, &target).has("warning", "repl-timeout", &["5 s (repl-timeout)"]);
}

#[test]
fn a_way_that_takes_long() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    source.client().call(cmd!("SETRANGE", "large", 300 << 20, "x"));
    let from = slow(&source, Duration::from_millis(100));
    let found = check(&[&from], &target.url(), &[]);
    found.has("note", "slow-link", &["a round trip takes 1", " ms"]);
    found.has("note", "slow-link", &["MiB in its memory at", "KiB a second", "min of copying"]);
}

/// Masters that wait before they save, on one host.
#[test]
fn masters_that_wait_before_they_save() {
    let waits = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "60"];
    let start = || Server::start_with(SERVER, &waits);
    let (Some(one), Some(other), Some(target)) = (start(), start(), target()) else { return };
    let found = check(&[&one.url(), &other.url()], &target.url(), &[]);
    found.has("warning", "save-delay", &["2 masters here wait", "120 s"]);
}

#[test]
fn replicas_that_are_wanted() {
    for name in ["redis-3.2.6", SERVER] {
        let setting = if name == SERVER { "min-replicas-to-write" } else { "min-slaves-to-write" };
        let (Some(source), Some(target)) = (Server::start(name), target()) else { return };
        source.client().call(cmd!("CONFIG", "SET", setting, 1));
        check_pair(&source, &target).has(
            "blocks",
            "min-replicas",
            &["only with 1 replicas", "has 0"],
        );
        let port = source.port.to_string();
        let Some(replica) = Server::start_with(name, &["--slaveof", "127.0.0.1", &port]) else {
            return;
        };
        let mut client = source.client();
        asking::until("it has one", PATIENCE, || {
            client.info("replication", "min_slaves_good_slaves") == "1"
        });
        let found = check_pair(&source, &target);
        found.has("note", "min-replicas", &["has 1 without it"]).is_quiet();
        // One who is not told the setting says what all runs say.
        drop(replica);
    }
}

/// A run that is under way is seen, and counts for no replica that stays.
#[test]
fn another_run_is_there_already() {
    for name in ["redis-2.8.17", "redis-3.2.6", SERVER, "valkey-9.1.2"] {
        let (Some(source), Some(target), Some(other)) = (Server::start(name), target(), target())
        else {
            return;
        };
        source.client().call(cmd!("SET", "key", 1));
        let (from, to) = (source.url(), other.url());
        let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
        let arrived = Client::wait_for_key(other.port, 0, "key", PATIENCE, || running.is_running());
        assert!(arrived, "{name}");
        let mut client = source.client();
        asking::until("it is online", PATIENCE, || {
            client.info("replication", "slave0").contains("state=online")
        });
        check_pair(&source, &target).has(
            "warning",
            "other-replica",
            &["1 of its replicas", "127.0.0.1 (online)", "CLIENT LIST"],
        );
        running.interrupt();
        running.wait(PATIENCE).assert_code(130);
    }
}

#[test]
fn a_failover_is_under_way() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    let port = source.port.to_string();
    let Some(replica) = Server::start_with(SERVER, &["--replicaof", "127.0.0.1", &port]) else {
        return;
    };
    let mut client = source.client();
    asking::until("it follows", PATIENCE, || {
        client.info("replication", "slave0").contains("state=online")
    });
    // As it does not read any more it cannot take over.
    signal("STOP", replica.id());
    client.call(cmd!("SET", "key", 1));
    client.call(cmd!("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 600_000));
    check_pair(&source, &target).has(
        "blocks",
        "failover",
        &["master_failover_state waiting-for-sync", "FAILOVER ABORT"],
    );
    client.call(cmd!("FAILOVER", "ABORT"));
    signal("CONT", replica.id());
    check_pair(&source, &target).lacks("failover");
    let found = check(&[&replica.url()], &target.url(), &[]);
    found.has("note", "replica", &[&format!("it is a replica of 127.0.0.1:{port}")]);
    drop(source);
    asking::until("it has lost its master", PATIENCE, || {
        replica.client().info("replication", "master_link_status") == "down"
    });
    let found = check(&[&replica.url()], &target.url(), &[]);
    found.has("blocks", "replica", &["not in touch with its master"]);
    check(&[&target.url()], &replica.url(), &[]).has("blocks", "replica", &["takes no writes"]);
}

#[test]
fn clocks_that_differ() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    // The first digit of its seconds.
    let from = changing(&source, sets("*2\r\n$10\r\n", b'2'));
    check(&[&from], &target.url(), &[]).has(
        "warning",
        "clock",
        &["its clock is", "ahead of the target's", "NTP"],
    );
}

#[test]
fn one_server_twice_and_databases_that_are_empty() {
    let (Some(source), Some(target)) = (Server::start(SERVER), target()) else { return };
    source.client().call(cmd!("SET", "key", 1));
    check(&[&source.url()], &format!("redis://localhost:{}", source.port), &[]).has(
        "blocks",
        "same-server",
        &["are one server"],
    );
    let found = check(&[&source.url()], &target.url(), &["--only-db", "3"]);
    found.has("warning", "empty-database", &["nothing is in database 3", "its keys are in 0"]);
}

#[test]
fn many_sources_are_looked_at_together() {
    let Some(target) = target() else { return };
    let mut sources = Vec::new();
    for _ in 0..4 {
        let Some(source) = Server::start(SERVER) else { return };
        sources.push(source);
    }
    let urls: Vec<String> = sources.iter().map(Server::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let found = check(&urls, &target.url(), &[]);
    found.is_quiet();
    let places = found.json["places"].as_array().unwrap();
    let names: Vec<&str> = places.iter().map(|place| place["place"].as_str().unwrap()).collect();
    let expected: Vec<&str> = urls.iter().map(|url| url.trim_start_matches("redis://")).collect();
    assert_eq!(names[..4], expected);
}
