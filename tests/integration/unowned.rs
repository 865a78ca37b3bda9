//! Names of several sources' keys that are lost: what none of them has is told once, and removed if that is asked for, and nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Client, cmd};
use crate::judge::{Dump, Forgiving, assert_same};
use crate::servers::Server;
use crate::tool::{Ended, Understudy, signal};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two sources and a target.
const SERVERS: [[&str; 3]; 2] = [
    ["redis-7.0.15", "redis-5.0.6", "redis-7.0.15"],
    ["redis-2.8.17", "valkey-9.1.2", "redis-3.2.6"],
];

struct Night {
    sources: [Server; 2],
    target: Server,
    flags: Vec<&'static str>,
    state: Arc<TempDir>,
}

impl Night {
    /// Sources with keys of their own and some that both have, of a job that has followed both and was stopped.
    fn begun(names: [&'static str; 3], flags: &[&'static str], older: &[&str]) -> Option<Self> {
        let [one, two, target] = names.map(Server::start);
        let (sources, target) = ([one?, two?], target?);
        let (mut first, mut second) = (sources[0].client(), sources[1].client());
        first.call(cmd!("MSET", "a", 1, "both", "first", "goes", 1, "goes on one", 1));
        second.call(cmd!("MSET", "b", 2, "both", "second", "goes", 2, "goes on two", 2));
        for key in older {
            target.client().call(cmd!("SET", key, "older"));
        }
        let state = Arc::new(tempfile::tempdir().unwrap());
        let night = Self { sources, target, flags: flags.to_vec(), state };
        let mut running = night.sync(&[]);
        night.follows(&mut running, "follows");
        running.stop(PATIENCE).0.assert_code(130);
        Some(night)
    }

    fn sync(&self, flags: &[&str]) -> Understudy {
        let (urls, to) = (self.sources.each_ref().map(Server::url), self.target.url());
        let args = ["sync", "--from", &urls[0], "--from", &urls[1], "--to", &to, "--job", "night"];
        Understudy::start_telling_in(&[&args[..], &self.flags, flags].concat(), &self.state)
    }

    /// Waits until what is written now has come from both.
    #[track_caller]
    fn follows(&self, running: &mut Understudy, key: &str) {
        // What was written behind something that has arrived is no part of the copy.
        let keys = [key.to_owned(), format!("{key} behind")];
        for ((of, source), key) in
            self.sources.iter().enumerate().flat_map(|one| keys.each_ref().map(|key| (one, key)))
        {
            let key = format!("{key} {of}");
            source.client().call(cmd!("SET", &key, 1));
            let is_running = || running.is_running();
            let came = Client::wait_for_key(self.target.port, 0, &key, PATIENCE, is_running);
            assert!(came, "{key}");
        }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.state.path().join("night")
    }

    /// The sources go on while nobody knows whose a key is.
    fn changes(&self) {
        let [mut first, mut second] = self.sources.each_ref().map(Server::client);
        first.call(cmd!("DEL", "goes", "goes on one"));
        second.call(cmd!("DEL", "goes", "goes on two"));
        first.call(cmd!("APPEND", "both", "!"));
    }

    fn held(&self) -> Dump {
        Dump::first_of(self.sources.each_ref().map(|source| Dump::read(&mut source.client())))
    }

    fn found(&self) -> Dump {
        Dump::read(&mut self.target.client())
    }

    fn value(&self, key: &str) -> String {
        self.target.client().call(cmd!("GET", key)).text()
    }
}

/// A number of the report, over both sources.
#[track_caller]
fn sum(ended: &Ended, field: &str) -> u64 {
    let of = |at: usize| ended.reported(&format!("sources.{at}.{field}")).as_u64().unwrap();
    of(0) + of(1)
}

fn lose(path: &Path) {
    fs::remove_dir_all(path).unwrap();
}

const REPLACE: [&str; 2] = ["--on-conflict", "replace"];
const REMOVE: &str = "--remove-unowned";

#[test]
fn what_no_source_has_is_counted_once_or_removed() {
    for names in SERVERS {
        for removes in [false, true] {
            let Some(night) = Night::begun(names, &REPLACE, &[]) else { return };
            lose(&night.folder());
            night.changes();
            let flags = ["--once", REMOVE];
            let ended = night.sync(&flags[..1 + usize::from(removes)]).wait(PATIENCE);
            ended.assert_code(i32::from(!removes));
            let counts = ["unproven", "removed_unowned", "full_syncs"].map(|of| sum(&ended, of));
            assert_eq!(counts, if removes { [0, 3, 2] } else { [3, 0, 2] }, "{names:?}");
            if !removes {
                assert!(ended.stderr.contains("keys=3"), "{}", ended.stderr);
                assert_eq!([night.value("goes on one"), night.value("goes on two")], ["1", "2"]);
                night.target.client().call(cmd!("DEL", "goes", "goes on one", "goes on two"));
            }
            let found = night.found();
            assert_same(&night.held(), &found, Forgiving::default(), &format!("{names:?}"));
            assert_eq!(night.value("both"), "first!");
            assert!(!night.folder().exists(), "nothing of a job that is done is left");
        }
    }
}

/// That names were lost is kept for the process that ends the job, whichever that is, and its flag counts.
#[test]
fn what_was_lost_before_is_removed_at_the_end_of_the_job() {
    for names in SERVERS {
        let Some(night) = Night::begun(names, &REPLACE, &[]) else { return };
        lose(&night.folder());
        night.changes();
        let mut running = night.sync(&[]);
        running.tells("--remove-unowned removes it", PATIENCE);
        night.follows(&mut running, "again");
        running.stop(PATIENCE).0.assert_code(130);
        assert_eq!(night.value("goes"), "1", "nothing is removed before the end");
        let ended = night.sync(&["--once", REMOVE]).wait(PATIENCE);
        ended.assert_code(0);
        let counts = ["unproven", "removed_unowned", "full_syncs"].map(|of| sum(&ended, of));
        assert_eq!(counts, [0, 3, 0], "{names:?}");
        assert_same(&night.held(), &night.found(), Forgiving::default(), &format!("{names:?}"));
    }
}

/// A process that is killed before every source was read anew leaves names that are not all.
#[test]
fn names_that_are_being_read_anew_count_once_all_are_read() {
    let Some(night) = Night::begun(SERVERS[0], &REPLACE, &[]) else { return };
    lose(&night.folder());
    night.changes();
    night.sources[0].client().call(cmd!("DEBUG", "POPULATE", 3000, "many", 1000)).ok();
    // It takes half a minute to read that, and is not left so long.
    let running = night.sync(&["--limit-read", "100kB"]);
    running.tells("is not known any more", PATIENCE);
    signal("KILL", running.id());
    assert_eq!(running.wait(PATIENCE).code, None);
    // One that both have brought.
    night.sources[0].client().call(cmd!("DEL", "both"));
    let ended = night.sync(&["--once"]).wait(PATIENCE);
    ended.assert_code(1);
    assert_eq!(["unproven", "full_syncs"].map(|of| sum(&ended, of)), [3, 2]);
    assert_eq!(night.value("both"), "second");
}

/// What the target held before the job, and what another job may have brought, stays.
#[test]
fn what_may_be_somebody_elses_is_not_removed() {
    let names = SERVERS[0];
    // The names of older keys are in the folder, and only those of the sources' keys are lost.
    for (policy, unproven) in [("replace", 1), ("keep", 0)] {
        let flags = ["--on-conflict", policy];
        let Some(night) = Night::begun(names, &flags, &["older"]) else { return };
        fs::remove_file(night.folder().join("names")).unwrap();
        night.changes();
        let ended = night.sync(&["--once", REMOVE]).wait(PATIENCE);
        ended.assert_code(i32::from(unproven > 0));
        let counts = ["unproven", "removed_unowned"].map(|of| sum(&ended, of));
        assert_eq!(counts, [unproven, 3], "{policy}");
        assert_eq!(night.value("older"), "older");
    }
    // Nobody knows which keys are older.
    let night = Night::begun(names, &REPLACE, &["older"]).unwrap();
    lose(&night.folder());
    night.changes();
    let ended = night.sync(&["--once", REMOVE]).wait(PATIENCE);
    ended.assert_code(1);
    assert_eq!(["unproven", "removed_unowned"].map(|of| sum(&ended, of)), [4, 0]);
    assert!(ended.stderr.contains("held keys before the job"), "{}", ended.stderr);
    // Another job is at work.
    let night = Night::begun(names, &REPLACE, &[]).unwrap();
    lose(&night.folder());
    night.changes();
    let mut others = night.target.client();
    others.select(3);
    others.call(cmd!("SET", "understudy:pos:evening:10.0.0.1:6379", "its record"));
    let ended = night.sync(&["--once", REMOVE]).wait(PATIENCE);
    ended.assert_code(1);
    assert_eq!(["unproven", "removed_unowned"].map(|of| sum(&ended, of)), [3, 0]);
    assert!(ended.stderr.contains("another job writes to this target"), "{}", ended.stderr);
}

#[test]
fn removing_what_nobody_has_needs_sources_that_can_be_taken_for_each_other() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let (from, to) = (source.url(), target.url());
    let apart = (format!("{from}/0"), format!("{from}/1"));
    for args in [
        vec!["--from", &from, "--to", &to],
        vec!["--from", &apart.0, "--from", &apart.1, "--to", &to],
        vec!["--from", &from, "--to", "unowned.rdb"],
    ] {
        let args = [&["sync", "--once", REMOVE], &args[..]].concat();
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(REMOVE), "{}", ended.stderr);
    }
}
