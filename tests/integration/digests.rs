//! What a running job keeps of its copy is compared in place of the source, and is no less true.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::servers::Server;
use crate::tool::Understudy;
use crate::verify::{Said, keys, said, set, while_written, write};

const PATIENCE: Duration = Duration::from_secs(60);

const LATER: i64 = 4_000_000_000_000;

/// How a comparison says that it has read them.
const KEPT: &str = "the digests of the job's copy";

/// A source with all that both can hold, and a job that follows it.
struct Job {
    source: Server,
    target: Server,
    running: Understudy,
    flags: Vec<String>,
    prefix: &'static str,
}

impl Job {
    fn start(from: &'static str, to: &'static str) -> Option<Self> {
        Self::start_with(from, to, "", &[])
    }

    fn start_with(
        from: &'static str,
        to: &'static str,
        prefix: &'static str,
        flags: &[&str],
    ) -> Option<Self> {
        let (source, target) = (Server::start(from)?, Server::start(to)?);
        let mut client = source.client();
        let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
        data::fill(&mut client, source.version, holds);
        data::near().for_each(|key| drop(client.call(cmd!("DEL", key))));
        let (from, to) = (source.url(), target.url());
        let args = [&["sync", "--from", &from, "--to", &to], flags].concat();
        let mut job = Self {
            running: Understudy::start(&args),
            source,
            target,
            flags: flags.iter().map(ToString::to_string).collect(),
            prefix,
        };
        // What comes behind what is there comes with the stream, so the copy is whole.
        job.arrives("copied");
        job.arrives("followed");
        Some(job)
    }

    /// Writes a key to the source, and waits until it is in the target.
    fn arrives(&mut self, key: &str) {
        self.source.client().call(cmd!("SET", key, "1"));
        let (key, is_running) = (format!("{}{key}", self.prefix), || self.running.is_running());
        assert!(Client::wait_for_key(self.target.port, 0, &key, PATIENCE, is_running), "{key}");
    }

    fn verify(&self, more: &[&str]) -> Said {
        let (from, to) = (self.source.url(), self.target.url());
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let args = [&["verify", "--from", &from, "--to", &to, "--json"], &flags[..], more].concat();
        said(&self.running.beside(&args))
    }

    /// Kills the job, and gives the same command again when this has been done.
    fn killed(self, meanwhile: impl FnOnce(&Server)) -> Self {
        let Self { source, target, running, flags, prefix } = self;
        let again = running.kill();
        meanwhile(&source);
        Self { source, target, running: again.follow(), flags, prefix }
    }

    /// Ends the job, empties the target and begins anew: then the source has offsets when it copies.
    fn begun_anew(mut self) -> Self {
        self.running.end_job(PATIENCE).assert_code(130);
        self.target.client().call(cmd!("FLUSHALL"));
        let (from, to) = (self.source.url(), self.target.url());
        self.running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
        self.arrives("again");
        self.arrives("and again");
        self
    }

    /// Compares by them.
    #[track_caller]
    fn assert(&self, expected: &[(&str, u32, &str)], what: &str) -> Said {
        let before = copies(&self.source);
        let said = self.verify(&[]);
        said.assert(expected, what);
        assert_eq!(said.counts["sources"][0], KEPT, "{what}: {}", said.stderr);
        assert_eq!(said.counts["unproven"], 0, "{what}: {}", said.stderr);
        assert_eq!(copies(&self.source), before, "{what}: the source has copied once");
        said
    }

    /// They cannot be used, for this reason, and the source is read anew.
    #[track_caller]
    fn assert_read_anew(&self, why: &str) {
        let said = self.verify(&[]);
        said.assert(&[], why);
        assert_eq!(said.counts["sources"][0], "psync", "{why}: {}", said.stderr);
        assert!(said.stderr.contains(why), "{why}: {}", said.stderr);
    }
}

/// How often it has sent its data set.
fn copies(server: &Server) -> u64 {
    server.client().info("stats", "sync_full").parse().unwrap()
}

/// Plants one of each kind among these keys of the target, and gives what is to be told.
fn plant<'k>(target: &Server, keys: &'k [String]) -> Vec<(&'static str, u32, &'k str)> {
    let mut client = target.client();
    let kinds = ["missing", "type", "value", "ttl", "extra"];
    let planted = kinds.into_iter().zip(keys).map(|(kind, key)| {
        let commands = match kind {
            "missing" => vec![cmd!("DEL", key)],
            "type" => vec![cmd!("DEL", key), cmd!("SADD", key, "member")],
            "value" => vec![cmd!("APPEND", key, "#")],
            "ttl" => vec![cmd!("PEXPIREAT", key, LATER)],
            _ => vec![cmd!("SET", key, "from nowhere")],
        };
        data::all(&mut client, &commands);
        (kind, 0, key.as_str())
    });
    planted.collect()
}

fn told(from: &'static str, to: &'static str) {
    let Some(job) = Job::start(from, to) else { return };
    let what = format!("{from} to {to}");
    let plain: Vec<Command> = (0..2000).map(|n| set(n, 1)).collect();
    data::all(&mut job.source.client(), &plain);
    let mut job = job.begun_anew();
    let said = job.assert(&[], &what);
    assert_eq!(said.counts["expected"], keys(&mut job.source.client()), "{what}");
    assert!(said.counts["written_since_copy"].as_u64() <= Some(2), "{what}");

    let commands = [
        cmd!("SET", "key:0", "new"),
        cmd!("APPEND", "key:1", "new"),
        cmd!("DEL", "key:2"),
        cmd!("RENAME", "key:3", "renamed"),
        cmd!("RPUSH", "a new list", 1, 2, 3),
        cmd!("PEXPIREAT", "key:4", LATER + 1),
        cmd!("MULTI"),
        cmd!("SADD", "a new set", 1),
        cmd!("SUNIONSTORE", "another", "a new set"),
        cmd!("DEL", "a new set"),
        cmd!("EXEC"),
        cmd!("SELECT", 3),
        cmd!("SET", "key:0", "elsewhere"),
    ];
    data::all(&mut job.source.client(), &commands);
    job.arrives("written");
    let said = job.assert(&[], &what);
    assert_eq!(said.counts["expected"], keys(&mut job.source.client()), "{what}");
    let written = said.counts["written_since_copy"].as_u64().unwrap();
    assert!((11..=13).contains(&written), "{what}: {}", said.counts);

    let untouched: Vec<String> =
        (10..14).map(|n| format!("key:{n}")).chain(["extra".to_owned()]).collect();
    let written: Vec<String> =
        ["another", "key:0", "key:1", "written", "key:2"].map(String::from).into();
    let mut planted = plant(&job.target, &untouched);
    planted.extend(plant(&job.target, &written).into_iter().map(|(kind, db, key)| match key {
        // It is a set already.
        "another" => ("missing", db, key),
        _ => (kind, db, key),
    }));
    job.assert(&planted, &what);
    job.running.end_job(PATIENCE);
}

macro_rules! told {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            told($from, $to);
        })+
    };
}

told! {
    what_is_kept_tells_2_8_to_7_0 "redis-2.8.17" "redis-7.0.15",
    what_is_kept_tells_5_0_to_8_0 "redis-5.0.6" "redis-8.0.2",
    what_is_kept_tells_6_2_to_valkey_9 "redis-6.2.14" "valkey-9.1.2",
    what_is_kept_tells_8_0_to_8_0 "redis-8.0.6" "redis-8.0.6",
}

/// Under ten thousand writes a second nothing is invented, and what is planted is found.
#[test]
fn nothing_is_invented_under_writes() {
    for (from, to) in [("redis-2.8.17", "redis-7.0.15"), ("redis-7.0.15", "valkey-9.1.2")] {
        let Some(mut job) = Job::start(from, to) else { return };
        data::all(&mut job.source.client(), &(0..20_000).map(|n| set(n, 0)).collect::<Vec<_>>());
        job.arrives("written");
        while_written(
            &job.source,
            |_, dice, _| write(dice),
            || {
                job.assert(&[], from);
                let keys: Vec<String> =
                    (19_990..19_994).map(|n| format!("key:{n}")).chain(["new".into()]).collect();
                job.assert(&plant(&job.target, &keys), from);
            },
        );
        job.running.end_job(PATIENCE);
    }
}

/// A process that was killed leaves all that it had taken; one that goes on elsewhere does not know of it.
#[test]
fn who_goes_on_with_the_job_goes_on_with_them() {
    let Some(mut job) = Job::start("redis-7.0.15", "redis-7.0.15") else { return };
    for round in 0..5 {
        data::all(&mut job.source.client(), &(0..500).map(|n| set(n, round)).collect::<Vec<_>>());
        job = job.killed(|source| {
            source.client().call(cmd!("SET", format!("meanwhile:{round}"), round));
        });
        job.arrives(&format!("back:{round}"));
        let said = job.assert(&[], "it goes on");
        assert!(said.counts["written_since_copy"].as_u64() >= Some(501), "{}", said.counts);
    }
    job.target.client().call(cmd!("APPEND", "key:7", "#"));
    job.assert(&[("value", 0, "key:7")], "what was written before it was killed");
    job.source.client().call(cmd!("SET", "key:7", "new"));

    // On another machine, and back.
    let Job { source, target, running, flags, prefix } = job;
    let again = running.kill();
    let (from, to) = (source.url(), target.url());
    let mut elsewhere = Job {
        running: Understudy::start(&["sync", "--from", &from, "--to", &to]),
        source,
        target,
        flags,
        prefix,
    };
    elsewhere.arrives("elsewhere");
    let Job { source, target, running, flags, prefix } = elsewhere;
    drop(running.kill());
    let mut job = Job { source, target, running: again.follow(), flags, prefix };
    job.arrives("home");
    job.assert_read_anew("the process that has the job now does not keep them");
    job.running.end_job(PATIENCE);
}

/// Where a file says up to where it tells all.
const COVERED: u64 = 76;

/// What is not as it was written, or does not reach as far as the record, stands for nothing.
#[test]
fn what_is_damaged_or_too_old_is_read_anew() {
    let Some(job) = Job::start("redis-7.0.15", "redis-7.0.15") else { return };
    let job = job.begun_anew();
    let folders = fs::read_dir(job.running.state().path()).unwrap().flatten();
    let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten();
    let is_it = |name: &str| name.starts_with("digests.") && name != "digests.seed";
    let mut paths = files.flatten().map(|file| file.path());
    let path = paths.find(|path| is_it(&path.file_name().unwrap().to_string_lossy())).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, COVERED + 100).unwrap();
    file.write_all_at(&[!byte[0]], COVERED + 100).unwrap();
    job.assert_read_anew("damaged");
    file.write_all_at(&byte, COVERED + 100).unwrap();
    job.assert(&[], "it is as it was");

    let mut job = job.killed(|_| file.write_all_at(&[0; 8], COVERED).unwrap());
    job.arrives("back");
    job.assert_read_anew("does not keep them");
    job.running.end_job(PATIENCE);
}

#[test]
fn what_names_do_not_tell_is_read_anew() {
    for (name, command, why) in [
        ("redis-7.0.15", cmd!("FLUSHDB"), "emptied"),
        ("redis-7.0.15", cmd!("SWAPDB", 2, 3), "changed places"),
        ("redis-2.8.17", cmd!("EVAL", "return redis.call('set', 'a', 'b')", 0), "a script"),
    ] {
        let Some(mut job) = Job::start(name, "redis-7.0.15") else { return };
        job.assert(&[], name);
        job.source.client().call(command);
        job.arrives("behind");
        job.assert_read_anew(why);
        let said = job.verify(&[]);
        said.assert(&[], why);
        job.running.end_job(PATIENCE);
    }
}

/// Whoever wants the source itself has it.
#[test]
fn the_source_is_read_anew_where_that_is_wanted() {
    let Some(job) = Job::start("redis-7.0.15", "redis-7.0.15") else { return };
    let before = copies(&job.source);
    let said = job.verify(&["--by", "psync"]);
    said.assert(&[], "as it is");
    assert_eq!(said.counts["sources"][0], "psync");
    assert_eq!(copies(&job.source), before + 1);
    job.running.end_job(PATIENCE);
}

#[test]
fn rules_hold_for_them_too() {
    let flags = ["--prefix", "old:", "--db-map", "1:7,7:1", "--exclude", "list*"];
    let Some(mut job) = Job::start_with("redis-6.2.14", "redis-7.0.15", "old:", &flags) else {
        return;
    };
    let mut client = job.source.client();
    data::all(&mut client, &[cmd!("SET", "list:not wanted", 1), cmd!("SET", "key:1", 1)]);
    client.select(1);
    data::all(&mut client, &[cmd!("SET", "in one", 1)]);
    client.select(0);
    job.arrives("last");
    job.assert(&[], "under rules");
    let mut target = job.target.client();
    target.call(cmd!("DEL", "old:key:1"));
    target.select(7);
    target.call(cmd!("APPEND", "old:in one", "#"));
    job.assert(&[("missing", 0, "old:key:1"), ("value", 7, "old:in one")], "under rules");
    let said = job.verify(&["--only", "key:*"]);
    said.assert(&[("missing", 0, "old:key:1")], "only some");
    assert_eq!(said.counts["sources"][0], KEPT);
    job.running.end_job(PATIENCE);
}

/// A cutover compares all without a second copy, and takes them away with the job.
#[test]
fn a_cutover_compares_all_by_them() {
    for planted in [true, false] {
        let Some(job) = Job::start("redis-7.0.15", "redis-7.0.15") else { return };
        let (before, state) = (copies(&job.source), Arc::clone(job.running.state()));
        if planted {
            job.target.client().call(cmd!("SET", "extra", 1));
        }
        let cutover = job.running.beside(&["cutover", "--fence", "acl", "--verify", "full"]);
        cutover.assert_code(i32::from(planted));
        assert_eq!(cutover.stderr.contains(KEPT), !planted, "{}", cutover.stderr);
        assert_eq!(copies(&job.source), before, "{}", cutover.stderr);
        match planted {
            true => drop(job.running.end_job(PATIENCE)),
            false => job.running.wait(PATIENCE).assert_code(0),
        }
        let left = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with("digests");
        let folders = fs::read_dir(state.path()).unwrap().flatten();
        let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten();
        assert_eq!(files.flatten().filter(left).count(), 0, "nothing is left on this machine");
    }
}
