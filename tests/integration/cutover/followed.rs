//! Jobs that follow, and writers that note what they were told yes to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;

use crate::asking;
use crate::client::{Client, Command, Value, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump};
use crate::replicas::untold;
use crate::servers::{Server, Version};
use crate::tool::{Ended, Understudy};

use super::PATIENCE;

/// Writes that go on until they are told to end, over a connection that is made anew whenever it is lost.
pub(super) struct Writer {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<Acknowledged>,
}

/// What the source has said yes to.
pub(super) struct Acknowledged {
    /// Every number up to this was pushed to a list and counted.
    pub(super) pushed: u64,
    /// So many writes were refused.
    pub(super) refused: u64,
}

impl Acknowledged {
    /// Nothing is missing. One more may be there, whose answer was lost with its connection.
    #[track_caller]
    pub(super) fn assert_is_in(&self, target: &mut Client, what: &str) {
        self.assert_is_under("", target, what);
    }

    /// Nothing is missing behind this prefix.
    #[track_caller]
    pub(super) fn assert_is_under(&self, prefix: &str, target: &mut Client, what: &str) {
        let list = format!("{prefix}written");
        let there = u64::try_from(target.call(cmd!("LLEN", list)).int()).unwrap();
        assert!(
            (self.pushed..=self.pushed + 1).contains(&there),
            "{what}: {there} of {}",
            self.pushed
        );
    }
}

impl Writer {
    /// It writes to two keys.
    pub(super) fn start(port: u16) -> Self {
        Self::begin(port, |next| {
            let script = "redis.call('INCR',KEYS[2]) return redis.call('RPUSH',KEYS[1],ARGV[1])";
            match next % 2 {
                0 => cmd!("RPUSH", "written", next),
                // A script that writes passes some fences, up to the next that is none.
                _ => cmd!("EVAL", script, 2, "written", "count", next),
            }
        })
    }

    /// It writes with scripts only, which pass `min-replicas` up to 6.2: while it goes on there is no silence.
    pub(super) fn scripts(port: u16) -> Self {
        Self::begin(port, |next| {
            cmd!("EVAL", "return redis.call('RPUSH',KEYS[1],ARGV[1])", 1, "written", next)
        })
    }

    /// It writes to a new key each time.
    pub(super) fn spread(port: u16) -> Self {
        Self::begin(port, |next| cmd!("SET", format!("new:{next}"), next))
    }

    /// Begins to write, and returns once the first answer is there.
    pub(super) fn begin(port: u16, write: impl Fn(u64) -> Command + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (begun, begins) = mpsc::sync_channel(1);
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let (mut pushed, mut refused) = (0, 0);
            while !told.load(Ordering::Relaxed) {
                let Ok(mut client) = Client::try_connect(port, Duration::from_secs(5)) else {
                    continue;
                };
                while !told.load(Ordering::Relaxed) {
                    let next = pushed + 1;
                    let told = client.try_pipeline(&[write(next)]);
                    let Ok(told) = told else { break };
                    match told.first() {
                        Some(Value::Error(_)) => {
                            refused += 1;
                            thread::yield_now();
                        }
                        _ => pushed = next,
                    }
                    // Only the first is waited for.
                    let _ = begun.try_send(());
                }
            }
            Acknowledged { pushed, refused }
        });
        begins.recv_timeout(PATIENCE).expect("the source answers");
        Self { ends, thread }
    }

    pub(super) fn end(self) -> Acknowledged {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A job that follows.
pub(super) struct Followed {
    pub(super) source: Server,
    pub(super) target: Server,
    pub(super) running: Understudy,
}

impl Followed {
    pub(super) fn start(from: &'static str, to: &'static str, flags: &[&str]) -> Option<Self> {
        let (source, target) = (Server::start(from)?, Server::start(to)?);
        fill(&source, &target);
        let mut client = source.client();
        for key in 0..300 {
            client.call(cmd!("SETEX", format!("session:{key}"), 3600 + key, key));
        }
        let (from, to) = (source.url(), target.url());
        let running = Understudy::start(&[&["sync", "--from", &from, "--to", &to], flags].concat());
        follows(&running);
        Some(Self { source, target, running })
    }

    pub(super) fn cutover(&self, flags: &[&str]) -> Ended {
        self.running.beside(&[&["cutover", "--json"], flags].concat())
    }

    pub(super) fn places(&self) -> [String; 4] {
        ["--from".to_owned(), self.source.url(), "--to".to_owned(), self.target.url()]
    }

    #[track_caller]
    pub(super) fn assert_same(&self, what: &str) {
        let [first, second] = [&self.source, &self.target].map(|one| Dump::read(&mut one.client()));
        judge::assert_same(&first, &second, untold(&self.source), what);
    }
}

/// Waits until it follows all of its sources.
#[track_caller]
pub(super) fn follows(running: &Understudy) {
    let answers = || running.beside(&["status"]).code == Some(0);
    assert!(asking::within(PATIENCE, answers));
    running.status_when(PATIENCE, |status| {
        let sources = status["sources"].as_array();
        sources.is_some_and(|all| all.iter().all(|source| source["phase"] == "following"))
    });
}

/// All that both can hold.
pub(super) fn fill(source: &Server, target: &Server) {
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    let version = Version::of(&mut client);
    data::fill(&mut client, version, holds);
}

pub(super) fn verdict(ended: &Ended) -> Json {
    let last = ended.stdout.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(last.unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr)))
        .unwrap()
}
