//! Sources that are named by the Sentinels that watch them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::asking;
use crate::client::{Client, Value, cmd};
use crate::judge::{self, Dump};
use crate::replicas;
use crate::servers::{Server, free_port, program};
use crate::sync;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(30);

/// The oldest Sentinel that is current among them, and the newest of both families.
const NAMES: [&str; 5] =
    ["redis-2.8.17", "redis-6.2.14", "redis-7.0.15", "redis-8.0.6", "valkey-9.1.2"];

/// A Sentinel of this release, on a loopback port. It dies with this value.
pub(crate) struct Sentinel {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Sentinel {
    /// One that watches the master on this port as `main`, with further lines of its configuration.
    pub(crate) fn start(name: &'static str, master: u16, more: &str) -> Option<Self> {
        let binary = program(name)?;
        for _ in 0..5 {
            let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
            let path = dir.path().join("sentinel.conf");
            let config = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n{more}\n",
                dir.path().display()
            );
            fs::write(&path, config).unwrap();
            let mut command = Command::new(&binary);
            command.arg(&path).arg("--sentinel");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("the server's program runs");
            let answers = || Client::try_connect(port, PATIENCE).is_ok();
            if asking::within(Duration::from_secs(5), answers)
                && child.try_wait().unwrap().is_none()
            {
                return Some(Self { port, child, _dir: dir });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("a Sentinel of {name} does not start");
    }

    fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Waits until it knows the master's replica.
    pub(crate) fn wait_for_replica(&self) {
        let mut client = self.client();
        asking::until("the Sentinel knows the replica", PATIENCE, || {
            let known = client.call(cmd!("SENTINEL", "slaves", "main"));
            known.array().len() == 1 && known.array()[0].strings().contains(&b"slave".to_vec())
        });
    }

    /// Where it says that the master is.
    pub(crate) fn master(&self) -> u16 {
        let told = self.client().call(cmd!("SENTINEL", "get-master-addr-by-name", "main"));
        told.array()[1].text().parse().unwrap()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A master, its replica, and a Sentinel that knows both.
struct House {
    master: Server,
    replica: Server,
    sentinel: Sentinel,
}

impl House {
    fn start(name: &'static str) -> Option<Self> {
        let (master, replica) = (Server::start(name)?, Server::start(name)?);
        follow(&replica, &master);
        let sentinel = Sentinel::start(name, master.port, "")?;
        sentinel.wait_for_replica();
        Some(Self { master, replica, sentinel })
    }

    /// The place, behind a Sentinel that is not there.
    fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:1,127.0.0.1:{}/main", self.sentinel.port)
    }

    /// Waits until the Sentinel tells the replica's address, and the replica is the master.
    fn wait_for_failover(&self) {
        // A Sentinel that promotes a replica closes all links to it.
        asking::until("a failover", PATIENCE, || {
            let Ok(mut client) = Client::try_connect(self.replica.port, PATIENCE) else {
                return false;
            };
            let told = client.try_pipeline(&[cmd!("INFO", "replication")]);
            self.sentinel.master() == self.replica.port
                && told.is_ok_and(|told| told[0].text().contains("role:master"))
        });
    }
}

fn follow(replica: &Server, master: &Server) {
    replica.client().call(cmd!("SLAVEOF", "127.0.0.1", master.port));
    replicas::caught_up(&mut master.client(), &mut replica.client());
}

fn sync(from: &str, target: &Server) -> Understudy {
    Understudy::start(&["sync", "--from", from, "--to", &target.url()])
}

/// Ends the job of a sync and compares.
fn ends_equal(running: Understudy, source: &Server, target: &Server) -> crate::tool::Ended {
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, sync::untold(source), source.name);
    ended
}

/// The master dies; all that it had is in its replica. Where the replica has kept its master's history (4.0 and later) the stream goes on.
fn goes_on_with_the_replica(name: &'static str) {
    let (Some(mut house), Some(target)) = (House::start(name), Server::start(name)) else { return };
    let mut running = sync(&house.url(), &target);
    let mut master = house.master.client();
    for n in 0..500 {
        master.call(cmd!("RPUSH", "list", n));
        master.call(cmd!("INCR", "count"));
    }
    assert!(Client::wait_for_key(target.port, 0, "count", PATIENCE, || running.is_running()));
    let counts = |target: &Server| target.client().call(cmd!("GET", "count")).text();
    asking::until("all is there", PATIENCE, || counts(&target) == "500");
    replicas::caught_up(&mut master, &mut house.replica.client());
    house.master.kill();
    house.wait_for_failover();
    let mut promoted = house.replica.client();
    for n in 0..500 {
        promoted.call(cmd!("RPUSH", "list", n));
        promoted.call(cmd!("INCR", "count"));
    }
    asking::until("the new master's words are there", PATIENCE, || {
        assert!(running.is_running());
        counts(&target) == "1000"
    });
    let keeps_history = house.replica.version.at_least(4, 0);
    let ended = ends_equal(running, &house.replica, &target);
    let copies = if keeps_history { 1 } else { 2 };
    assert_eq!(ended.reported("sources.0.full_syncs"), copies, "{name}");
    assert!(
        !keeps_history || ended.reported("sources.0.partial_syncs").as_u64() > Some(0),
        "{name}"
    );
    // It is the same source, whoever played it.
    let source = format!("127.0.0.1:1,127.0.0.1:{}/main", house.sentinel.port);
    assert_eq!(ended.reported("sources.0.name"), &source, "{name}");
}

#[test]
fn a_failover_is_followed_and_the_stream_goes_on() {
    NAMES.into_iter().for_each(goes_on_with_the_replica);
}

/// Tells the writers to end, whatever becomes of the test.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes to whichever server takes it until it is told to end.
fn write_to(house: &House, ends: &AtomicBool) {
    let mut n = 0_u64;
    while !ends.load(Ordering::Relaxed) {
        for port in [house.master.port, house.replica.port] {
            let Ok(mut client) = Client::try_connect(port, PATIENCE) else { continue };
            for _ in 0..100 {
                let (key, field) = (format!("key:{}", n % 500), format!("f{}", n % 7));
                let commands = [
                    cmd!("INCR", "count"),
                    cmd!("HINCRBY", key, field, n),
                    cmd!("RPUSH", "list", n),
                    cmd!("LTRIM", "list", -100, -1),
                ];
                match client.try_pipeline(&commands) {
                    Ok(replies) if !replies.iter().any(Value::is_error) => n += 1,
                    _ => break,
                }
            }
        }
    }
}

/// It is told to change places while clients write. What the old master took and the new one never got is lost to the source, and so
/// must be to the target.
fn changes_places_under_writes(name: &'static str) {
    let (Some(house), Some(target)) = (House::start(name), Server::start(name)) else { return };
    let mut running = sync(&house.url(), &target);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&ends);
        scope.spawn(|| write_to(&house, &ends));
        assert!(Client::wait_for_key(target.port, 0, "count", PATIENCE, || running.is_running()));
        let mut sentinel = house.sentinel.client();
        // It promotes none of which it has not heard for a while.
        asking::until("the Sentinel begins", PATIENCE, || {
            !sentinel.try_call(cmd!("SENTINEL", "FAILOVER", "main")).is_error()
        });
        house.wait_for_failover();
        let mut promoted = house.replica.client();
        promoted.call(cmd!("SET", "behind", 1));
        assert!(Client::wait_for_key(target.port, 0, "behind", PATIENCE, || running.is_running()));
    });
    ends_equal(running, &house.replica, &target);
}

#[test]
fn a_failover_under_writes_loses_nothing() {
    NAMES.into_iter().for_each(changes_places_under_writes);
}

/// The old master lives on, keeps our link and takes writes: whom the Sentinels name counts, not who is linked.
fn leaves_a_master_that_was_passed_over(name: &'static str) {
    let (Some(house), Some(target)) = (House::start(name), Server::start(name)) else { return };
    let mut running = sync(&house.url(), &target);
    house.master.client().call(cmd!("SET", "begun", 1));
    assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
    replicas::caught_up(&mut house.master.client(), &mut house.replica.client());
    let mut sentinel = house.sentinel.client();
    sentinel.call(cmd!("SENTINEL", "REMOVE", "main"));
    house.replica.client().call(cmd!("SLAVEOF", "NO", "ONE"));
    sentinel.call(cmd!("SENTINEL", "MONITOR", "main", "127.0.0.1", house.replica.port, 1));
    house.master.client().call(cmd!("SET", "astray", 1));
    house.replica.client().call(cmd!("SET", "behind", 1));
    assert!(Client::wait_for_key(target.port, 0, "behind", PATIENCE, || running.is_running()));
    ends_equal(running, &house.replica, &target);
    assert_eq!(target.client().call(cmd!("GET", "astray")), Value::Nil, "{name}");
}

#[test]
fn a_master_that_was_passed_over_is_left() {
    for name in ["redis-3.2.6", "redis-7.0.15", "valkey-9.1.2"] {
        leaves_a_master_that_was_passed_over(name);
    }
}

/// A failover between two runs: the record is found, as it is of the same source.
#[test]
fn a_job_goes_on_behind_a_failover() {
    let name = "redis-7.0.15";
    let (Some(mut house), Some(target)) = (House::start(name), Server::start(name)) else { return };
    let mut running = sync(&house.url(), &target);
    house.master.client().call(cmd!("SET", "begun", 1));
    assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
    let (ended, again) = running.stop(PATIENCE);
    ended.assert_code(130);
    replicas::caught_up(&mut house.master.client(), &mut house.replica.client());
    house.master.kill();
    house.wait_for_failover();
    house.replica.client().call(cmd!("SET", "behind", 1));
    let ended = again.once().wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(ended.reported("sources.0.full_syncs"), 0);
    let source = &house.replica;
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, sync::untold(source), name);
}

/// A census reads the master that the Sentinels tell, behind a failover too, and the source has one name.
#[test]
fn a_census_counts_whoever_is_the_master() {
    for name in NAMES {
        let (Some(house), Some(target)) = (House::start(name), Server::start(name)) else { return };
        let (from, to) = (house.url(), target.url());
        let census = |keys: u64| {
            let args = ["sync", "--dry-run", "--census", "--from", &from, "--to", &to];
            let ended = Understudy::start(&args).wait(PATIENCE);
            ended.assert_code(0);
            assert_eq!(*ended.reported("census.counts.keys"), keys, "{name}");
            assert_eq!(*ended.reported("sources.0.name"), &from["redis-sentinel://".len()..]);
        };
        house.master.client().call(cmd!("MSET", "a", 1, "b", 2));
        census(2);
        house.master.client().call(cmd!("SET", "c", 3));
        replicas::caught_up(&mut house.master.client(), &mut house.replica.client());
        let mut sentinel = house.sentinel.client();
        asking::until("the Sentinel takes the replica for fit", PATIENCE, || {
            !sentinel.try_call(cmd!("SENTINEL", "FAILOVER", "main")).is_error()
        });
        house.wait_for_failover();
        house.replica.client().call(cmd!("SET", "d", 4));
        census(4);
        assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 0);
    }
}

/// What stands in the way is told before anything is written.
#[test]
fn what_is_wrong_is_told() {
    let name = "redis-7.0.15";
    let (Some(master), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let Some(sentinel) = Sentinel::start(name, master.port, "requirepass secret") else { return };
    let sync = |sentinels: &str, env: &[(&str, &str)]| {
        let from = format!("redis-sentinel://{sentinels}");
        let args = ["sync", "--from", &from, "--to", &target.url(), "--once"];
        Understudy::start_with_env(&args, env).wait(PATIENCE)
    };
    let at = format!("127.0.0.1:{}", sentinel.port);
    let password = [("UNDERSTUDY_SENTINEL_PASSWORD", "secret")];
    let says = |ended: crate::tool::Ended, words: &[&str]| {
        ended.assert_code(2);
        for words in words {
            assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        }
    };
    says(sync(&format!("{at}/main"), &[]), &["NOAUTH", "UNDERSTUDY_SENTINEL_PASSWORD"]);
    says(sync(&format!("{at}/other"), &password), &["called other; it watches main"]);
    says(sync("127.0.0.1:1,127.0.0.1:2/main", &[]), &["127.0.0.1:1: ", "127.0.0.1:2: "]);
    says(sync(&at, &[]), &["does not name the master"]);
    // The Sentinel has heard nothing of it yet.
    let other = Server::start(name).unwrap();
    follow(&master, &other);
    says(sync(&format!("{at}/main"), &password), &["says that it is a replica"]);
    master.client().call(cmd!("SLAVEOF", "NO", "ONE"));
    sync(&format!("{at}/main"), &password).assert_code(0);
    let to = format!("redis-sentinel://{at}/main");
    let ended = Understudy::start(&["sync", "--from", &master.url(), "--to", &to]).wait(PATIENCE);
    says(ended, &["the target is one server"]);
}
