//! A side that is not ready, is lost on the way or refuses for now, and signals.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::asking;
use crate::client::{Client, cmd};
use crate::servers::Server;
use crate::tool::Understudy;

use super::{PATIENCE, SERVER, assert_said, bulk, pair, scripted, sync};

/// A server that is loading is waited for; the run then does what it was asked for.
#[test]
fn a_server_that_loads_is_waited_for() {
    let options = ["--loading-process-events-interval-bytes", "1024"];
    let Some((source, target)) = pair(&options, &[]) else { return };
    let mut writer = source.client();
    for index in 0..300 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(100)));
    }
    writer.call(cmd!("CONFIG", "SET", "key-load-delay", 10_000));
    let mut reloads = source.client();
    let loading = thread::spawn(move || reloads.call(cmd!("DEBUG", "RELOAD")));
    let begun = Instant::now();
    while Client::connect(source.port).info("persistence", "loading") != "1" {
        assert!(begun.elapsed() < PATIENCE, "it does not load");
    }
    let ended = sync(&source.url(), &target.url(), &[]);
    loading.join().unwrap();
    ended.assert_code(0);
    assert!(
        ended.stderr.contains("the server is loading its data: waiting for it"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.reported("totals.keys"), 301);
}

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:scripted\r\n# Replication\r\nrole:master\r\nmaster_repl_offset:0\r\n";

#[test]
fn a_source_that_vanishes_during_the_handshake() {
    let Some(target) = Server::start(SERVER) else { return };
    let port = scripted(&[
        ("PING", b"+PONG\r\n".to_vec()),
        ("INFO", bulk(INFO)),
        ("REPLCONF", b"+OK\r\n".to_vec()),
    ]);
    assert_said(
        &sync(&format!("redis://127.0.0.1:{port}"), &target.url(), &[]),
        2,
        &[(port, "SOURCE")],
        "SOURCE: the master closed the connection",
        "see that the source can be reached, and start again",
    );
}

#[test]
fn a_source_that_vanishes_during_the_copy_is_waited_for() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let mut writer = source.client();
    for index in 0..3000 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(1000)));
    }
    writer.call(cmd!("CONFIG", "SET", "rdb-key-save-delay", 1000));
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to, "--once"]);
    let begun = Instant::now();
    let mut reader = target.client();
    // The job's record is there before the first key.
    while reader.call(cmd!("DBSIZE")).int() < 2 {
        assert!(begun.elapsed() < PATIENCE && running.is_running(), "no key arrives");
    }
    let port = source.port;
    drop(source);
    // Its child notices at the end of some 500 keys, each of which takes a millisecond or, on a busy machine, several.
    running.tells("the data set is copied anew error=\"the copy was cut off: ", PATIENCE);
    running.tells(&format!("lane{{source=127.0.0.1:{port}}}: the source is lost"), PATIENCE);
    assert!(running.is_running(), "it has given up");
    let (ended, _) = running.stop(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("outcome"), "stopped");
}

/// A source with a change that cannot be written, and the run that followed it until the target was gone.
fn lost_target() -> Option<(Server, Understudy)> {
    let (source, target) = pair(&[], &[])?;
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
    assert!(Client::wait_for_key(target.port, 0, "key", PATIENCE, || running.is_running()));
    drop(target);
    source.client().call(cmd!("SET", "key", "changed"));
    Some((source, running))
}

/// A target that is gone is waited for, and that is said.
#[test]
fn a_target_that_vanishes_is_waited_for() {
    let Some((source, mut running)) = lost_target() else { return };
    // Each line of a log names the source, and progress does not go on as if nothing had happened.
    running
        .tells(&format!("lane{{source=127.0.0.1:{}}}: the target is lost", source.port), PATIENCE);
    running.tells(&format!("\n127.0.0.1:{}  waiting for target", source.port), PATIENCE);
    assert!(running.is_running(), "it has given up");
    running.interrupt();
    running.wait(Duration::from_secs(10)).assert_code(130);
}

/// The first signal waits for what was sent, the second for nothing. Wrappers pass on what we got already: that is no second one.
#[test]
fn the_second_signal_ends_at_once() {
    // There is something that cannot be confirmed, so that a stop takes its time.
    let Some((_source, mut running)) = lost_target() else { return };
    running.tells("the target is lost", PATIENCE);
    running.interrupt();
    running.tells("\nstopping, within 10 s", PATIENCE);
    running.interrupt();
    // This time is what is tried: for half a second signals are one and the same, and the one behind that is another.
    thread::sleep(Duration::from_secs(1));
    assert!(running.is_running(), "it took one signal for two");
    let begun = Instant::now();
    running.interrupt();
    let ended = running.wait(Duration::from_secs(5));
    ended.assert_code(130);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(ended.stderr.contains("\nended at once: "), "{}", ended.stderr);
}

/// A target that is full is tried again and again; after a while somebody must be told.
#[test]
fn a_target_that_stays_full_is_said() {
    let Some((source, target)) = pair(&[], &["--maxmemory", "3mb"]) else { return };
    let mut writer = source.client();
    for index in 0..100 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(100_000)));
    }
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to, "--once"]);
    running.tells("the target refuses to go on for now reply=\"OOM ", PATIENCE);
    // It was asked again, and more than once.
    let refused = |client: &mut Client| client.info("errorstats", "errorstat_OOM");
    let (mut owner, mut counts) = (target.client(), BTreeSet::new());
    asking::until("it is tried again and again", PATIENCE, || {
        counts.insert(refused(&mut owner));
        counts.len() > 3
    });
    assert!(running.is_running(), "it has given up");
    running.interrupt();
    running.wait(Duration::from_secs(10)).assert_code(130);
}
