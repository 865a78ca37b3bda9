//! A target that is slower than its source: the master is read all the same, and keeps the link.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::asking;
use crate::client::{Client, Command, cmd};
use crate::judge::{self, Dump, Forgiving};
use crate::replicas;
use crate::servers::{Server, say};
use crate::tool::{Understudy, signal};

use super::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// What is written in one command.
const VALUE: usize = 16 << 10;

/// A source that keeps 4 MiB and no more for a replica that does not read, and a backlog of 64 KiB.
fn impatient(name: &'static str) -> Option<Server> {
    let source = Server::start(name)?;
    let mut client = source.client();
    client.call(cmd!("CONFIG", "SET", "client-output-buffer-limit", "slave 4194304 0 0"));
    client.call(cmd!("CONFIG", "SET", "repl-backlog-size", 65536));
    // Nothing of what is written gets smaller in the copy.
    client.call(cmd!("CONFIG", "SET", "rdbcompression", "no"));
    Some(source)
}

/// Writes so many bytes, in `keys` keys.
fn write(client: &mut Client, keys: usize, bytes: usize) {
    let set =
        |n: usize| cmd!("SET", format!("key:{}", n % keys), format!("{n:016}").repeat(VALUE / 16));
    let commands: Vec<Command> = (0..bytes / VALUE).map(set).collect();
    // A master that writes without a pause does not come to what it owes its replicas.
    commands.chunks(16).for_each(|some| drop(client.pipeline(some)));
}

/// Writes a MiB after the other, 16 a second, until it `ends`.
fn write_steadily(client: &mut Client, mibs: u32, ends: impl Fn() -> bool) {
    let begun = Instant::now();
    for written in (0..mibs).take_while(|_| !ends()) {
        let due = begun + Duration::from_millis(63) * written;
        // The rate is what is tried.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        write(client, 500, MIB);
    }
}

fn sync(source: &Server, to: &str, flags: &[&str]) -> Understudy {
    let from = source.url();
    Understudy::start_telling(
        &[&["sync", "--from", &from, "--to", to, "--memory", "4MiB"], flags].concat(),
    )
}

/// Waits until what was written last is there.
fn arrives(running: &mut Understudy, source: &Server, target: &Server) {
    source.client().call(cmd!("SET", "last", "1"));
    assert!(Client::wait_for_key(target.port, 0, "last", PATIENCE, || running.is_running()));
}

/// Deletes that again, and waits until it is gone.
fn goes(running: &mut Understudy, source: &Server, target: &Server) {
    source.client().call(cmd!("DEL", "last"));
    let mut reader = target.client();
    until("it arrives", running, || reader.call(cmd!("EXISTS", "last")).int() == 0);
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, running: &mut Understudy, mut is_so: impl FnMut() -> bool) {
    asking::until(what, PATIENCE / 3, || {
        assert!(running.is_running(), "{what}: it has ended");
        is_so()
    });
}

fn assert_same(source: &Server, target: &Server) {
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), source.name);
    replicas::same_digest(source, target);
}

/// Waits until the source has sent its copy, so that the stream comes next.
fn wait_until_online(source: &mut Client, running: &mut Understudy) {
    let is_online = || source.info("replication", "slave0").contains("state=online");
    until("the copy is sent", running, is_online);
}

/// Waits until as good as nothing of what the source has said is on its way to us: no more than its backlog holds.
fn wait_until_read(source: &mut Client, running: &mut Understudy) {
    // Newer masters count the block of the backlog in which a replica stands, read or not.
    const BLOCK: usize = 40 << 10;
    // An answer to INFO, which the tool asks for beside its link.
    const ANSWERS: u64 = 4 << 10;
    let held = |source: &mut Client| {
        let clients = source.call(cmd!("CLIENT", "LIST")).text();
        let ours = clients.lines().find(|line| line.contains(" flags=S ")).expect("we are there");
        let held = ours.split(' ').find_map(|field| field.strip_prefix("omem=")).unwrap();
        held.parse::<usize>().unwrap()
    };
    let port = source.port();
    until("all is read", running, || held(source) < BLOCK && queued(port) < ANSWERS);
}

/// Bytes that the kernel holds on connections to and from a port of this machine.
fn queued(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let of_port = |place: &str| place.rsplit(':').next().map(hex) == Some(port.into());
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Number, own place, the other's, state (10: it listens), bytes to be sent and to be read.
    lines
        .filter(|line| (of_port(line[1]) || of_port(line[2])) && line[3] != "0A")
        .flat_map(|line| line[4].split(':').map(hex).collect::<Vec<_>>())
        .sum()
}

/// So many full synchronizations the source has begun.
fn assert_full_syncs(source: &Server, count: u64) {
    assert_eq!(source.client().info("stats", "sync_full"), count.to_string(), "{}", source.name);
}

/// A copy and a stream that the target takes a tenth as fast as they come: without a spool the link is cut over and over.
#[test]
fn a_target_of_a_tenth_of_the_speed_costs_no_second_copy() {
    for name in ["redis-5.0.6", "redis-7.0.15"] {
        let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
        let mut client = source.client();
        write(&mut client, 500, 8 * MIB);
        let proxy = Proxy::to(target.port);
        proxy.limit(6_000_000);
        let mut running = sync(&source, &proxy.url(), &[]);
        // What is written before the copy is sent waits in the source, whatever we do.
        wait_until_online(&mut client, &mut running);
        let begun = Instant::now();
        write_steadily(&mut client, 24, || false);
        let written = begun.elapsed();
        arrives(&mut running, &source, &target);
        let all = begun.elapsed();
        say(&format!("{name}: written in {written:.1?}, in the target after {all:.1?}"));
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert!(ended.stderr.contains("spool: up to "), "{}", ended.stderr);
        assert!(!ended.stderr.contains("the source is not read"), "{}", ended.stderr);
        assert_eq!(ended.reported("sources.0.full_syncs"), 1);
        assert_eq!(ended.reported("sources.0.partial_syncs"), 0);
        assert_full_syncs(&source, 1);
        assert_same(&source, &target);
    }
}

/// A target that stands still while the source is written to: all waits, and the place in the stream is kept.
#[test]
fn a_target_that_stands_still_costs_no_second_copy() {
    for name in ["redis-2.8.17", "redis-6.2.14", "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
        let mut running = sync(&source, &target.url(), &[]);
        arrives(&mut running, &source, &target);
        signal("STOP", target.id());
        write(&mut source.client(), 500, 48 * MIB);
        signal("CONT", target.id());
        goes(&mut running, &source, &target);
        let peak = running.peak_mib();
        say(&format!("{name}: 48 MiB waited, with {peak} MiB of memory at most"));
        assert!(peak < 40, "{peak} MiB");
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert_eq!(ended.reported("sources.0.full_syncs"), 1);
        assert_full_syncs(&source, 1);
        assert_same(&source, &target);
    }
}

/// A link that is lost while much waits is made anew at once, before the master has forgotten its place.
#[test]
fn a_link_that_is_lost_while_much_waits_costs_no_second_copy() {
    for name in ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
        let mut client = source.client();
        let mut running = sync(&source, &target.url(), &[]);
        arrives(&mut running, &source, &target);
        signal("STOP", target.id());
        for times in 1..=3_u32 {
            // What a master has not sent yet is lost with the link.
            for _ in 0..4 {
                write(&mut client, 500, 2 * MIB);
                wait_until_read(&mut client, &mut running);
            }
            client.call(cmd!("CLIENT", "KILL", "TYPE", "slave"));
            let again = || client.info("stats", "sync_partial_ok") == times.to_string();
            until("the link is there again", &mut running, again);
        }
        // More than the backlog holds.
        write(&mut client, 500, 8 * MIB);
        signal("CONT", target.id());
        goes(&mut running, &source, &target);
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert_eq!(ended.reported("sources.0.full_syncs"), 1);
        assert_eq!(ended.reported("sources.0.partial_syncs"), 3);
        assert_full_syncs(&source, 1);
        assert_same(&source, &target);
    }
}

/// A spool that cannot hold what waits: it is told, and no third copy is begun.
#[test]
fn a_spool_that_is_too_small_is_told_and_ends_the_run() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
    let limits = "slave 8388608 0 0";
    source.client().call(cmd!("CONFIG", "SET", "client-output-buffer-limit", limits));
    let proxy = Proxy::to(target.port);
    proxy.limit(4_000_000);
    let mut running = sync(&source, &proxy.url(), &["--spool-limit", "1MiB"]);
    let ends = Arc::new(AtomicBool::new(false));
    let writes = Arc::clone(&ends);
    let port = source.port;
    wait_until_online(&mut source.client(), &mut running);
    let writer = thread::spawn(move || {
        write_steadily(&mut Client::connect(port), u32::MAX, || writes.load(Ordering::Relaxed));
    });
    let ended = running.wait(PATIENCE * 2);
    ends.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    ended.assert_code(3);
    let said = &ended.stderr;
    assert!(said.contains("the master cut the link twice while the spool was full"), "{said}");
    assert!(said.contains("the spool holds 1048576 bytes and no more"), "{said}");
    assert!(said.contains("give --spool-limit more"), "{said}");
    assert_eq!(ended.reported("sources.0.full_syncs"), 2, "{said}");
    let warnings = said.matches("the source is not read until").count();
    assert!((1..=2).contains(&warnings), "{said}");
}

/// What can be foreseen is refused before anything is written.
#[test]
fn a_spool_that_will_be_too_small_is_refused() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
    write(&mut source.client(), 4000, 48 * MIB);
    // Its server measures what comes in ten times a second.
    let rate = || source.client().info("stats", "instantaneous_input_kbps").parse::<f64>();
    asking::until("something is measured", PATIENCE, || rate().unwrap() >= 1.0);
    let flags = ["--spool-limit", "1MiB", "--limit-rate", "1MB"];
    let ended = sync(&source, &target.url(), &flags).wait(PATIENCE);
    ended.assert_code(2);
    let said = &ended.stderr;
    assert!(said.contains("the spool holds 1 MiB"), "{said}");
    assert!(said.contains("give --spool-limit ") && said.contains("MiB and a --spool"), "{said}");
    assert_full_syncs(&source, 0);
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 0);
}

/// `WAIT` on the source means that the target has it, also when it had to wait.
#[test]
fn wait_means_that_the_target_has_it() {
    for name in ["redis-3.2.6", "redis-7.0.15", "valkey-9.1.2"] {
        let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
        let mut running = sync(&source, &target.url(), &[]);
        arrives(&mut running, &source, &target);
        let mut client = source.client();
        let mut slowest = Duration::ZERO;
        for n in 0..20 {
            client.call(cmd!("SET", "n", n));
            let begun = Instant::now();
            assert_eq!(client.call(cmd!("WAIT", 1, 10_000)).int(), 1, "{name}");
            slowest = slowest.max(begun.elapsed());
            assert_eq!(target.client().call(cmd!("GET", "n")).text(), n.to_string());
        }
        signal("STOP", target.id());
        write(&mut client, 500, 16 * MIB);
        client.call(cmd!("SET", "n", "behind"));
        assert_eq!(client.call(cmd!("WAIT", 1, 1200)).int(), 0, "{name}: it cannot have it");
        signal("CONT", target.id());
        let begun = Instant::now();
        assert_eq!(client.call(cmd!("WAIT", 1, 20_000)).int(), 1, "{name}");
        assert_eq!(target.client().call(cmd!("GET", "n")).text(), "behind");
        let behind = begun.elapsed();
        say(&format!("{name}: WAIT 1 within {slowest:.1?}, behind 16 MiB within {behind:.1?}"));
        assert!(
            slowest < Duration::from_millis(900),
            "{slowest:?}: no GETACK was answered at once"
        );
        running.end_job(PATIENCE).assert_code(130);
        assert_full_syncs(&source, 1);
    }
}

/// A folder in memory is no spool unless it is named, and what is no folder is none at all.
#[test]
fn a_folder_in_memory_must_be_named() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (impatient(name), Server::start(name)) else { return };
    let in_memory = tempfile::Builder::new().prefix("understudy-test-").tempdir_in("/dev/shm");
    let Ok(in_memory) = in_memory.map(Arc::new) else { return };
    let (from, to) = (source.url(), target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--once"];
    let run = |flags: &[&str]| {
        Understudy::start_telling_in(&[&args, flags].concat(), &in_memory).wait(PATIENCE)
    };
    let ended = run(&[]);
    ended.assert_code(0);
    assert!(ended.stderr.contains("(tmpfs); there is no spool"), "{}", ended.stderr);
    target.client().call(cmd!("FLUSHALL"));
    let named = in_memory.path().to_str().unwrap();
    let ended = run(&["--spool", named, "--spool-limit", "1MiB"]);
    ended.assert_code(0);
    assert!(ended.stderr.contains("spool: up to 1 MiB in /dev/shm/"), "{}", ended.stderr);
    target.client().call(cmd!("FLUSHALL"));
    let ended = run(&["--spool", "/dev/null"]);
    ended.assert_code(2);
    assert!(ended.stderr.contains("nothing can be written there"), "{}", ended.stderr);
    let ended = run(&["--spool", named, "--spool-limit", "1000000000GiB"]);
    ended.assert_code(2);
    assert!(ended.stderr.contains("are free there"), "{}", ended.stderr);
}

/// A disk that takes no more is told; what waits is not lost, and nor is what comes when there is room again.
#[test]
fn a_disk_that_is_full_is_told_and_loses_nothing() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let (from, to) = (source.url(), target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--memory", "4MiB"];
    // No file of it gets larger.
    let mut running = Understudy::start_with_small_files(&args, 4 * MIB);
    arrives(&mut running, &source, &target);
    signal("STOP", target.id());
    write(&mut source.client(), 500, 64 * MIB);
    running.tells("the spool's disk takes no more: File too large", PATIENCE);
    running.status_when(PATIENCE, |status| {
        let why = status["sources"][0]["waiting_for"].as_str();
        why.is_some_and(|why| why.contains("the spool is full, and the source is not read"))
    });
    signal("CONT", target.id());
    goes(&mut running, &source, &target);
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.full_syncs"), 1);
    assert_same(&source, &target);
}
