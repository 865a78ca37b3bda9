//! What stands in the way of a job that is taken up again: its record in the target is another's, damaged, or of other rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Client, Command, Value, cmd};
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(20);

/// A job that was stopped behind its copy, with its record in the target.
struct Stopped {
    source: Server,
    target: Server,
    state: Arc<TempDir>,
}

impl Stopped {
    fn start(name: &'static str) -> Option<Self> {
        let (source, target) = (Server::start(name)?, Server::start(name)?);
        let state = Arc::new(tempfile::tempdir().unwrap());
        let stopped = Self { source, target, state };
        stopped.source.client().call(cmd!("MSET", "a", 1, "b", 2, "kept", 3));
        let mut running = stopped.run(&[]);
        stopped.arrives("behind", &mut running);
        running.stop(PATIENCE).0.assert_code(130);
        Some(stopped)
    }

    fn run(&self, rest: &[&str]) -> Understudy {
        self.run_in(&self.state, rest)
    }

    fn run_in(&self, state: &Arc<TempDir>, rest: &[&str]) -> Understudy {
        let (from, to) = (self.source.url(), self.target.url());
        let args = ["sync", "--from", &from, "--to", &to, "--job", "night"];
        Understudy::start_telling_in(&[&args, rest].concat(), state)
    }

    fn once(&self, rest: &[&str]) -> Ended {
        self.run(&[rest, &["--once"]].concat()).wait(PATIENCE)
    }

    /// Writes a key to the source and waits until it is in the target.
    fn arrives(&self, key: &str, running: &mut Understudy) {
        self.source.client().call(cmd!("SET", key, 1));
        let port = self.target.port;
        assert!(Client::wait_for_key(port, 0, key, PATIENCE, || running.is_running()));
    }

    /// Our own keys in the target.
    fn own(&self) -> Vec<(u32, Vec<u8>)> {
        Dump::read(&mut self.target.client()).own().clone()
    }

    /// The key of the job's record, and what stands there.
    fn record(&self) -> (Vec<u8>, Vec<u8>) {
        let own = self.own();
        let (_, key) =
            own.iter().find(|(_, key)| key.starts_with(b"understudy:pos:night:")).unwrap();
        (key.clone(), self.target.client().call(cmd!("GET", key)).bytes().to_vec())
    }

    fn assert_same(&self) {
        let (first, second) =
            (Dump::read(&mut self.source.client()), Dump::read(&mut self.target.client()));
        judge::assert_same(&first, &second, Forgiving::default(), "what the target holds");
        assert_eq!(second.own().as_slice(), [], "a finished job leaves nothing");
    }
}

#[test]
fn a_record_that_cannot_be_gone_on_with_is_refused_and_nothing_written() {
    for name in ["redis-2.8.17", "redis-7.0.15", "valkey-9.1.2"] {
        let Some(stopped) = Stopped::start(name) else { return };
        let (key, good) = stopped.record();
        let newer = [b"understudy position 2 ", &good[22..]].concat();
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() = b' ';
        let cut = good[..good.len() / 2].to_vec();
        let wrong: [(Command, &str, &str); 6] = [
            (cmd!("SET", key, "42"), "what stands there is no position record", "--restart"),
            (cmd!("SET", key, ""), "what stands there is no position record", "--restart"),
            (cmd!("RPUSH", key, "42"), "what stands there is no position record", "--restart"),
            (cmd!("SET", key, newer), "it has version 2", "go on with that version"),
            (cmd!("SET", key, damaged), "it is damaged: its checksum is", "--restart"),
            (cmd!("SET", key, cut), "it is damaged: its checksum is", "--restart"),
        ];
        for (put, what, mend) in wrong {
            let mut client = stopped.target.client();
            client.call(cmd!("DEL", key));
            client.call(put);
            stopped.source.client().call(cmd!("SET", "b", what));
            let ended = stopped.once(&[]);
            ended.assert_code(2);
            assert!(ended.stderr.contains(what), "{what}: {}", ended.stderr);
            assert!(ended.stderr.contains(mend), "{mend}: {}", ended.stderr);
            assert_eq!(client.call(cmd!("GET", "b")), Value::Bulk(b"2".to_vec()));
        }
        // Told to copy anew it writes over whatever stands there.
        stopped.source.client().call(cmd!("DEL", "a"));
        let ended = stopped.once(&["--restart"]);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.full_syncs"), 1);
        stopped.assert_same();
    }
}

#[test]
fn a_job_is_not_gone_on_with_under_other_rules() {
    let Some(stopped) = Stopped::start("redis-7.0.15") else { return };
    let ended = stopped.once(&["--exclude", "a"]);
    ended.assert_code(2);
    assert!(ended.stderr.contains("it was written under other rules"), "{}", ended.stderr);
    // Under these it is, and all that they leave out goes if it is begun anew under others.
    stopped.source.client().call(cmd!("SET", "b", "new"));
    let ended = stopped.once(&["--restart", "--exclude", "a"]);
    ended.assert_code(0);
    assert_eq!(stopped.target.client().call(cmd!("GET", "b")), Value::Bulk(b"new".to_vec()));
    assert_eq!(stopped.own(), []);
}

#[test]
fn a_job_has_the_sources_with_which_it_was_begun() {
    let Some(stopped) = Stopped::start("redis-7.0.15") else { return };
    let Some(other) = Server::start("redis-7.0.15") else { return };
    other.client().call(cmd!("SET", "c", 3));
    let (from, to) = (other.url(), stopped.target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--job", "night", "--once"];
    // Here its folder tells, on another machine its record in the target.
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    for state in [&stopped.state, &elsewhere] {
        let ended = Understudy::start_telling_in(&args, state).wait(PATIENCE);
        ended.assert_code(2);
        let what =
            format!("job night was begun with other sources: 127.0.0.1:{}", stopped.source.port);
        assert!(ended.stderr.contains(&what), "{}", ended.stderr);
        assert!(!ended.stderr.contains("understudy:pos"), "{}", ended.stderr);
    }
    let ended = Understudy::start_telling_in(&[&args[..], &["--restart"]].concat(), &stopped.state);
    ended.wait(PATIENCE).assert_code(0);
    let (first, second) =
        (Dump::read(&mut other.client()), Dump::read(&mut stopped.target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), "what the target holds");
    assert_eq!(second.own().as_slice(), []);
}

#[test]
fn who_takes_a_job_over_fences_the_one_before() {
    for name in ["redis-2.8.17", "redis-6.2.14", "valkey-9.1.2"] {
        let Some(stopped) = Stopped::start(name) else { return };
        let mut first = stopped.run(&[]);
        stopped.arrives("first", &mut first);
        // It commits as often as it can all the while.
        let busy = Arc::new(AtomicBool::new(true));
        let (going, mut client) = (Arc::clone(&busy), stopped.source.client());
        let writer = thread::spawn(move || {
            while going.load(Ordering::Relaxed) {
                client.call(cmd!("INCR", "busy"));
            }
        });
        // On another machine: on this one it would be refused, as its socket is there.
        let elsewhere = Arc::new(tempfile::tempdir().unwrap());
        let mut second = stopped.run_in(&elsewhere, &[]);
        let ended = first.wait(PATIENCE);
        ended.assert_code(3);
        assert!(ended.stderr.contains("another process has taken"), "{}", ended.stderr);
        stopped.source.client().call(cmd!("INCR", "a"));
        stopped.arrives("second", &mut second);
        busy.store(false, Ordering::Relaxed);
        writer.join().unwrap();
        second.end_job(PATIENCE).assert_code(130);
        stopped.assert_same();
    }
}

#[test]
fn a_target_that_evicts_must_be_accepted() {
    for name in ["redis-2.8.17", "redis-7.0.15"] {
        let options = ["--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru"];
        let Some(source) = Server::start(name) else { return };
        let Some(target) = Server::start_with(name, &options) else { return };
        source.client().call(cmd!("SET", "a", 1));
        let (from, to) = (source.url(), target.url());
        let args = ["sync", "--from", &from, "--to", &to, "--once"];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains("maxmemory-policy allkeys-lru"), "{}", ended.stderr);
        assert!(ended.stderr.contains("--accept-eviction"), "{}", ended.stderr);
        let ended = Understudy::start(&[&args[..], &["--accept-eviction"]].concat()).wait(PATIENCE);
        ended.assert_code(0);
        assert!(ended.stderr.contains("warning: "), "{}", ended.stderr);
        // Without a limit nothing is evicted.
        target.client().call(cmd!("FLUSHALL"));
        target.client().call(cmd!("CONFIG", "SET", "maxmemory", 0));
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(0);
        assert!(!ended.stderr.contains("maxmemory"), "{}", ended.stderr);
    }
}

#[test]
fn scripts_that_came_before_are_known_after_a_resume() {
    for name in ["redis-2.8.17", "redis-3.2.6"] {
        let Some(stopped) = Stopped::start(name) else { return };
        let mut writer = stopped.source.client();
        let mut running = stopped.run(&[]);
        stopped.arrives("going", &mut running);
        let script = "return redis.call('APPEND',KEYS[1],ARGV[1])";
        let sha = writer.call(cmd!("SCRIPT", "LOAD", script)).text();
        writer.call(cmd!("EVALSHA", sha, 1, "a", "-one"));
        stopped.arrives("loaded", &mut running);
        running.stop(PATIENCE).0.assert_code(130);
        // Neither the target nor the next process has it but from what the job keeps.
        stopped.target.client().call(cmd!("SCRIPT", "FLUSH"));
        writer.call(cmd!("EVALSHA", sha, 1, "a", "-two"));
        let mut running = stopped.run(&[]);
        stopped.arrives("again", &mut running);
        writer.call(cmd!("EVALSHA", sha, 1, "a", "-three"));
        stopped.arrives("more", &mut running);
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert_eq!(ended.reported("sources.0.full_syncs"), 0);
        assert_eq!(stopped.target.client().call(cmd!("GET", "a")).text(), "1-one-two-three");
        stopped.assert_same();
    }
}

#[test]
fn databases_that_change_places_leave_the_record_where_it_is() {
    for name in ["redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"] {
        let Some(stopped) = Stopped::start(name) else { return };
        let mut writer = stopped.source.client();
        let mut running = stopped.run(&[]);
        stopped.arrives("going", &mut running);
        writer.call(cmd!("SWAPDB", 0, 1));
        writer.call(cmd!("INCR", "fresh"));
        let port = stopped.target.port;
        assert!(Client::wait_for_key(port, 0, "fresh", PATIENCE, || running.is_running()));
        running.interrupt();
        running.wait(PATIENCE).assert_code(130);
        let own = stopped.own();
        assert_eq!(own.iter().map(|(db, _)| *db).collect::<Vec<_>>(), [0], "{own:?}");
        writer.call(cmd!("INCR", "fresh"));
        let ended = stopped.once(&[]);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.full_syncs"), 0);
        stopped.assert_same();
    }
}
