//! Several sources and their target behind one ssh host that does wrong.

use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use understudy::net::{Link, LinkError, Net, SshError};

use crate::asking;
use crate::client::{Client, cmd};
use crate::dice::Dice;
use crate::gate::{Gate, Seen};
use crate::judge::{Dump, Forgiving, assert_same};
use crate::servers::{Server, free_port};
use crate::ssh::{PATIENCE, alone};
use crate::tool::{Ended, Understudy};

const SERVER: &str = "redis-7.0.15";
const SOURCES: usize = 3;
const KEYS: usize = 100;

/// Sources with data that does not compress, and an empty target, behind one host.
struct Estate {
    gate: Gate,
    sources: Vec<Server>,
    target: Server,
}

impl Estate {
    fn start() -> Option<Self> {
        let sources: Option<Vec<Server>> = (0..SOURCES).map(|_| Server::start(SERVER)).collect();
        let (sources, target) = (sources?, Server::start(SERVER)?);
        let mut dice = Dice::new(11);
        for (number, source) in sources.iter().enumerate() {
            let mut set = |n| cmd!("SET", format!("{number}:{n}"), dice.bytes(64 << 10));
            source.client().pipeline(&(0..KEYS).map(&mut set).collect::<Vec<_>>());
        }
        Some(Self { gate: Gate::start(), sources, target })
    }

    /// All sources into the target, slowly enough to be met in the midst of it and with less memory than there is data.
    fn sync(&self, more: &[&str]) -> Understudy {
        let gate = self.gate.address();
        let mut args = vec!["sync".to_owned(), "--to".to_owned(), self.target.url()];
        for source in &self.sources {
            args.extend(["--from".to_owned(), source.url()]);
        }
        args.extend(self.gate.keys());
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(["--from-ssh", &gate, "--to-ssh", &gate, "--progress", "none"]);
        args.extend(["--limit-rate", "8MB", "--memory", "8MiB"]);
        args.extend(more);
        alone(&args, &[])
    }

    fn wait_for_keys(&self, running: &mut Understudy, keys: usize) {
        let mut client = self.target.client();
        asking::until("a part has arrived", PATIENCE, || {
            assert!(running.is_running());
            client.call(cmd!("DBSIZE")).int() > i64::try_from(keys).unwrap()
        });
    }

    /// Waits until all sources are followed: what is written once something has arrived comes behind the copy.
    fn follows(&self, running: &mut Understudy) {
        self.hears(running, "first");
        self.hears(running, "behind");
    }

    /// Each source says something, which arrives.
    fn hears(&self, running: &mut Understudy, what: &str) {
        for (number, source) in self.sources.iter().enumerate() {
            let mut client = source.client();
            client.call(cmd!("INCR", format!("{number}:count")));
            client.call(cmd!("APPEND", format!("{number}:text"), what));
            client.call(cmd!("SET", format!("{number}:{what}"), "1"));
        }
        for number in 0..SOURCES {
            let key = format!("{number}:{what}");
            let arrives =
                Client::wait_for_key(self.target.port, 0, &key, PATIENCE, || running.is_running());
            assert!(arrives, "{key}: {:?}", self.gate.seen());
        }
    }

    fn assert_same(&self, what: &str) {
        let sources = self.sources.iter().map(|source| Dump::read(&mut source.client()));
        let target = Dump::read(&mut self.target.client());
        assert_same(&Dump::together(sources), &target, Forgiving::default(), what);
    }

    /// Ends the job of a run that follows and compares. No source was copied twice.
    fn ends_equal(&self, running: Understudy, what: &str) -> Ended {
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        for number in 0..SOURCES {
            assert_eq!(ended.reported(&format!("sources.{number}.full_syncs")), 1, "{what}");
        }
        self.assert_same(what);
        ended
    }
}

#[test]
fn sessions_that_are_lost_in_the_midst_of_the_copies() {
    let Some(estate) = Estate::start() else { return };
    let mut running = estate.sync(&["--once"]);
    for part in [20, 90, 180] {
        estate.wait_for_keys(&mut running, part);
        let before = estate.gate.seen();
        estate.gate.drop_sessions();
        // What all share is made again, as the target needs it.
        asking::until("a new session", PATIENCE, || {
            assert!(running.is_running());
            estate.gate.seen().sessions > before.sessions
        });
    }
    running.wait(PATIENCE).assert_code(0);
    estate.assert_same("after sessions were lost in copies");
}

#[test]
fn sessions_that_are_lost_under_the_streams() {
    let Some(estate) = Estate::start() else { return };
    let mut running = estate.sync(&[]);
    estate.follows(&mut running);
    assert_eq!(estate.gate.seen().sessions, 1 + SOURCES);
    for round in 0..3 {
        estate.gate.drop_sessions();
        estate.hears(&mut running, &format!("round-{round}"));
    }
    estate.ends_equal(running, "after sessions were lost under streams");
}

#[test]
fn channels_that_are_refused_are_asked_for_again() {
    let Some(estate) = Estate::start() else { return };
    let mut running = estate.sync(&[]);
    estate.follows(&mut running);
    let refused = 2 * SOURCES;
    estate.gate.refuse(refused);
    estate.gate.drop_sessions();
    estate.hears(&mut running, "second");
    assert_eq!(estate.gate.seen().refused, refused);
    estate.ends_equal(running, "after channels were refused");
}

#[test]
fn channels_that_are_closed_take_no_session_with_them() {
    let Some(estate) = Estate::start() else { return };
    let mut running = estate.sync(&[]);
    estate.follows(&mut running);
    for round in 0..3 {
        let Seen { sessions, channels, .. } = estate.gate.seen();
        estate.gate.close_channels();
        estate.hears(&mut running, &format!("round-{round}"));
        let seen = estate.gate.seen();
        // The shared one lives; each stream has a new one.
        assert_eq!(seen.sessions, sessions + SOURCES);
        assert!(seen.channels > channels + SOURCES, "{seen:?} after {channels}");
    }
    estate.ends_equal(running, "after channels were closed");
}

#[test]
fn channels_that_are_closed_in_the_midst_of_the_copies() {
    let Some(estate) = Estate::start() else { return };
    let mut running = estate.sync(&["--once"]);
    for part in [20, 90, 180] {
        estate.wait_for_keys(&mut running, part);
        let before = estate.gate.seen();
        estate.gate.close_channels();
        asking::until("a new channel", PATIENCE, || {
            assert!(running.is_running());
            estate.gate.seen().channels > before.channels
        });
    }
    running.wait(PATIENCE).assert_code(0);
    estate.assert_same("after channels were closed in copies");
}

/// Nobody closes anything: a master may be silent for a minute, and so may a target.
#[test]
fn a_host_that_falls_silent_in_the_midst_of_the_copies() {
    let Some(estate) = Estate::start() else { return };
    let mut running = estate.sync(&["--once"]);
    estate.wait_for_keys(&mut running, 20);
    estate.gate.fall_silent();
    running.wait(3 * PATIENCE).assert_code(0);
    estate.assert_same("after the host fell silent in a copy");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn ping(link: &mut Link) -> String {
    link.write_all(b"PING\r\n").await.unwrap();
    link.flush().await.unwrap();
    let mut reply = [0; 7];
    link.read_exact(&mut reply).await.unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

/// Who finds a dead session first has waited for all who come later.
#[test]
fn a_session_that_does_not_answer_is_met_once() {
    let Some(server) = Server::start(SERVER) else { return };
    let gate = Gate::start();
    let (net, place) = (Net::system(), gate.place(server.port));
    runtime().block_on(async {
        let mut first = net.connect(&place).await.unwrap();
        assert_eq!(ping(&mut first).await, "+PONG\r\n");
        gate.fall_silent();
        let begun = Instant::now();
        let error = net.connect(&place).await.unwrap_err();
        assert!(matches!(error, LinkError::Ssh(SshError::Silent { .. })), "{error}");
        let waited = begun.elapsed();
        let mut second = net.connect(&place).await.unwrap();
        assert_eq!(ping(&mut second).await, "+PONG\r\n");
        assert!(begun.elapsed() < 2 * waited, "{waited:?}");
        assert_eq!(gate.seen().sessions, 2);
    });
}

/// The same where whoever found it had no time to wait.
#[test]
fn a_session_that_does_not_answer_is_given_up_though_nobody_waits() {
    const SHORT: Duration = Duration::from_secs(1);
    let Some(server) = Server::start(SERVER) else { return };
    let gate = Gate::start();
    let (net, place) = (Net::system(), gate.place(server.port));
    runtime().block_on(async {
        let _first = net.connect(&place).await.unwrap();
        gate.fall_silent();
        let again = async { while timeout(SHORT, net.connect(&place)).await.is_err() {} };
        timeout(Duration::from_secs(20), again).await.unwrap();
        assert_eq!(gate.seen().sessions, 2);
    });
}

/// A place behind the host that swallows all is no fault of the host's.
#[test]
fn a_place_that_does_not_answer_costs_no_session() {
    let Some(server) = Server::start(SERVER) else { return };
    let gate = Gate::start();
    let hole = free_port();
    gate.be_deaf_to(hole);
    let (net, place) = (Net::system(), gate.place(server.port));
    runtime().block_on(async {
        let mut first = net.connect(&place).await.unwrap();
        let error = net.connect(&gate.place(hole)).await.unwrap_err();
        let LinkError::Ssh(SshError::NoWay { to, reason, .. }) = &error else { panic!("{error}") };
        assert_eq!(*to, format!("127.0.0.1:{hole}"));
        assert_eq!(reason, ": nothing has answered there within 10 s");
        assert_eq!(ping(&mut first).await, "+PONG\r\n");
        let _second = net.connect(&place).await.unwrap();
        assert_eq!(gate.seen().sessions, 1);
    });
}

/// A server that takes nothing more fills the session that leads to it, over which nothing else is sent then, not even that a channel is
/// wanted.
#[test]
fn a_server_that_stands_still_holds_up_one_dial_at_the_most() {
    let Some(server) = Server::start(SERVER) else { return };
    // Connections are made to it, and it looks at none.
    let still = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Gate::start();
    let net = Net::system();
    let (full, place) = (gate.place(still.local_addr().unwrap().port()), gate.place(server.port));
    runtime().block_on(async {
        let mut first = net.connect(&full).await.unwrap();
        let bytes = vec![b'x'; 1 << 20];
        let fills = async { while first.write_all(&bytes).await.is_ok() {} };
        assert!(timeout(Duration::from_secs(2), fills).await.is_err());
        let begun = Instant::now();
        while net.connect(&place).await.is_err() {}
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(gate.seen().sessions, 2);
        // Whoever has the first session has it still.
        let (mut taken, _) = still.accept().unwrap();
        thread::spawn(move || io::copy(&mut taken, &mut io::sink()));
        timeout(PATIENCE, first.write_all(&bytes)).await.unwrap().unwrap();
    });
}
