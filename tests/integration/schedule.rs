//! Which of many sources copy, and when.

use std::sync::Arc;
use std::time::Duration;

use crate::asking;
use crate::client::{Client, cmd};
use crate::servers::Server;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sources of these many keys, whose data sets take a while to save.
fn sources(keys: &[usize]) -> Option<Vec<Server>> {
    // A millisecond a key.
    let slow = ["--rdb-key-save-delay", "1000", "--repl-diskless-sync", "no"];
    keys.iter()
        .enumerate()
        .map(|(number, &keys)| {
            let source = Server::start_with("redis-7.0.15", &slow)?;
            source.client().call(cmd!("DEBUG", "POPULATE", keys, format!("source-{number}"), 100));
            Some(source)
        })
        .collect()
}

/// Runs to the end, and tells the order in which masters were seen to save, and how many did at once at the most.
#[track_caller]
fn saves(sources: &[Server], target: &Server, flags: &[&str]) -> (Vec<usize>, usize) {
    let to = target.url();
    let urls: Vec<String> = sources.iter().map(Server::url).collect();
    let from = urls.iter().flat_map(|url| ["--from", url]).collect::<Vec<_>>();
    let mut clients: Vec<Client> = sources.iter().map(Server::client).collect();
    let mut run =
        Understudy::start(&[&["sync", "--to", &to, "--once"], from.as_slice(), flags].concat());
    let (mut order, mut most) = (Vec::new(), 0);
    let ended = asking::within(PATIENCE, || {
        let mut now = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            if client.info("persistence", "rdb_bgsave_in_progress") == "1" {
                now.push(number);
            }
        }
        most = most.max(now.len());
        order.extend(now.into_iter().filter(|number| !order.contains(number)).collect::<Vec<_>>());
        !run.is_running()
    });
    assert!(ended);
    run.wait(PATIENCE).assert_code(0);
    (order, most)
}

#[test]
fn one_master_forks_on_a_host_and_the_largest_goes_first() {
    let Some(sources) = sources(&[200, 900, 400]) else { return };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    assert_eq!(saves(&sources, &target, &[]), (vec![1, 2, 0], 1));
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 1500);
}

#[test]
fn more_fork_if_they_may() {
    let Some(sources) = sources(&[500, 500, 500]) else { return };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let (_, most) = saves(&sources, &target, &["--per-host", "3"]);
    assert!(most >= 2, "{most}");
    target.client().call(cmd!("FLUSHALL"));
    let (_, most) = saves(&sources, &target, &["--per-host", "3", "--sources-at-once", "1"]);
    assert_eq!(most, 1);
}

/// A master that saves to no disk has forked when all of it was sent, however much of that the target has taken.
#[test]
fn the_next_forks_while_what_the_last_has_sent_still_waits() {
    const KEYS: usize = 4000;
    let started: Option<Vec<Server>> = (0..2)
        .map(|number| {
            let diskless = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"];
            let source = Server::start_with("redis-7.0.15", &diskless)?;
            let name = format!("source-{number}");
            source.client().call(cmd!("DEBUG", "POPULATE", KEYS, name, 1000));
            Some(source)
        })
        .collect();
    let (Some(sources), Some(target)) = (started, Server::start("redis-7.0.15")) else { return };
    let urls: Vec<String> = sources.iter().map(Server::url).collect();
    let mut args = vec!["sync", "--to", "", "--once", "--limit-rate", "2000"];
    let to = target.url();
    args[2] = &to;
    urls.iter().for_each(|url| args.extend(["--from", url]));
    let mut clients: Vec<Client> = sources.iter().map(Server::client).collect();
    let mut run = Understudy::start(&args);
    let both = asking::within(PATIENCE, || {
        assert!(run.is_running(), "it ended before the second began");
        clients.iter_mut().all(|client| client.info("stats", "sync_full") == "1")
    });
    assert!(both);
    let there = target.client().call(cmd!("DBSIZE")).int();
    assert!(there < i64::try_from(KEYS).unwrap() / 2, "{there} keys");
    run.wait(PATIENCE).assert_code(0);
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 2 * i64::try_from(KEYS).unwrap());
}

#[test]
fn a_census_keeps_to_the_same_order() {
    let Some(sources) = sources(&[200, 900, 400]) else { return };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    assert_eq!(saves(&sources, &target, &["--dry-run", "--census"]), (vec![1, 2, 0], 1));
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 0);
}

/// One that was still waiting had no record that could be lost: nobody is told of a loss.
#[test]
fn who_was_stopped_before_its_turn_begins_with_the_next_run() {
    let Some(sources) = sources(&[3000, 200]) else { return };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let to = target.url();
    let urls: Vec<String> = sources.iter().map(Server::url).collect();
    let flags = ["sync", "--to", &to, "--from", &urls[0], "--from", &urls[1], "--once"];
    let run = Understudy::start(&flags);
    let mut first = sources[0].client();
    assert!(asking::within(PATIENCE, || {
        first.info("persistence", "rdb_bgsave_in_progress") == "1"
    }));
    let state = Arc::clone(run.state());
    run.stop(PATIENCE).0.assert_code(130);
    let ended = Understudy::start_telling_in(&flags, &state).wait(PATIENCE);
    ended.assert_code(0);
    assert!(!ended.stderr.contains("lost"), "{}", ended.stderr);
    assert!(ended.stderr.contains("had not begun"), "{}", ended.stderr);
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 3200);
}
