//! The switch: whoever writes until the end, no write that was acknowledged is missing in the target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

const PATIENCE: Duration = Duration::from_secs(40);

/// Writes that go on until they are told to end, over a connection that is made anew whenever it is lost.
struct Writer {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<Acknowledged>,
}

/// What the source has said yes to.
struct Acknowledged {
    /// Every number up to this was pushed to a list and counted.
    pushed: u64,
    /// So many writes were refused.
    refused: u64,
}

impl Acknowledged {
    /// Nothing is missing. One more may be there, whose answer was lost with its connection.
    #[track_caller]
    fn assert_is_in(&self, target: &mut Client, what: &str) {
        let there = u64::try_from(target.call(cmd!("LLEN", "written")).int()).unwrap();
        assert!(
            (self.pushed..=self.pushed + 1).contains(&there),
            "{what}: {there} of {}",
            self.pushed
        );
    }
}

impl Writer {
    /// It writes to two keys.
    fn start(port: u16) -> Self {
        Self::begin(port, |next| {
            let script = "redis.call('INCR',KEYS[2]) return redis.call('RPUSH',KEYS[1],ARGV[1])";
            match next % 2 {
                0 => cmd!("RPUSH", "written", next),
                // A script that writes passes some fences, up to the next that is none.
                _ => cmd!("EVAL", script, 2, "written", "count", next),
            }
        })
    }

    /// It writes to a new key each time.
    fn spread(port: u16) -> Self {
        Self::begin(port, |next| cmd!("SET", format!("new:{next}"), next))
    }

    fn begin(port: u16, write: impl Fn(u64) -> Command + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
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
                }
            }
            Acknowledged { pushed, refused }
        });
        Self { ends, thread }
    }

    fn end(self) -> Acknowledged {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A job that follows.
struct Followed {
    source: Server,
    target: Server,
    running: Understudy,
}

impl Followed {
    fn start(from: &'static str, to: &'static str, flags: &[&str]) -> Option<Self> {
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

    fn cutover(&self, flags: &[&str]) -> Ended {
        self.running.beside(&[&["cutover", "--json"], flags].concat())
    }

    fn places(&self) -> [String; 4] {
        ["--from".to_owned(), self.source.url(), "--to".to_owned(), self.target.url()]
    }

    #[track_caller]
    fn assert_same(&self, what: &str) {
        let [first, second] = [&self.source, &self.target].map(|one| Dump::read(&mut one.client()));
        judge::assert_same(&first, &second, untold(&self.source), what);
    }
}

/// Waits until it follows its source.
#[track_caller]
fn follows(running: &Understudy) {
    let answers = || running.beside(&["status"]).code == Some(0);
    assert!(asking::within(PATIENCE, answers));
    running.status_when(PATIENCE, |status| status["sources"][0]["phase"] == "following");
}

/// All that both can hold.
fn fill(source: &Server, target: &Server) {
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    let version = Version::of(&mut client);
    data::fill(&mut client, version, holds);
}

fn verdict(ended: &Ended) -> Json {
    let last = ended.stdout.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(last.unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr)))
        .unwrap()
}

fn no_acknowledged_write_is_missing_behind(fence: &str, names: &[&'static str]) {
    for &name in names {
        let what = format!("{fence} on {name}");
        let Some(followed) = Followed::start(name, "redis-8.0.2", &[]) else { return };
        let writer = Writer::start(followed.source.port);
        let ended = followed.cutover(&["--fence", fence, "--verify", "full", "--max-pause", "18s"]);
        ended.assert_code(0);
        let written = writer.end();
        let told = verdict(&ended);
        assert_eq!(told["verdict"], "GO", "{what}");
        assert!(told["gone"]["pause_ms"].as_u64().unwrap() < 18_000, "{what}: {told}");
        assert!(written.pushed > 0 && written.refused > 0, "{what}");
        let mut target = followed.target.client();
        written.assert_is_in(&mut target, &what);
        followed.assert_same(&what);
        // The fence stays, and is taken away when that is asked for.
        let refusal = followed.source.client().try_call(cmd!("SET", "late", 1));
        assert!(refusal.is_error(), "{what}");
        let state = Arc::clone(followed.running.state());
        let places = followed.places();
        let job = followed.running.wait(PATIENCE);
        job.assert_code(0);
        assert_eq!(job.reported("cutover.verdict"), "GO", "{what}");
        assert_eq!(job.reported("cutover.gone"), &told["gone"], "{what}");
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let lift = Understudy::start_telling_in(
            &[&["cutover", "--lift"], places.as_slice()].concat(),
            &state,
        );
        lift.wait(PATIENCE).assert_code(0);
        assert_eq!(followed.source.client().call(cmd!("SET", "late", 1)).text(), "OK", "{what}");
    }
}

#[test]
fn no_acknowledged_write_is_missing_behind_users_that_may_not_write() {
    let names = ["redis-6.0.16", "redis-6.2.14", "redis-7.0.15", "redis-8.0.2", "valkey-9.1.2"];
    no_acknowledged_write_is_missing_behind("acl", &names);
}

#[test]
fn no_acknowledged_write_is_missing_where_replicas_are_wanted() {
    let names = ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15"];
    no_acknowledged_write_is_missing_behind("min-replicas", &names);
}

/// What was refused was refused, and what differs forbids the switch: then all is as it was.
#[test]
fn a_difference_is_no_go_and_the_job_goes_on() {
    for (fence, name) in
        [("acl", "redis-7.0.15"), ("min-replicas", "redis-2.8.17"), ("acl", "valkey-9.1.2")]
    {
        let Some(followed) = Followed::start(name, name, &[]) else { return };
        followed.target.client().call(cmd!("SET", "session:7", "planted"));
        let before = followed.source.client().call(cmd!("CONFIG", "GET", "min-*"));
        let ended = followed.cutover(&["--fence", fence, "--verify", "full"]);
        ended.assert_code(1);
        let told = verdict(&ended);
        assert_eq!(told["verdict"], "NO-GO", "{name}: {}", ended.stderr);
        assert!(told["against"][0].as_str().unwrap().contains("differ"), "{told}");
        assert!(ended.stderr.contains("session:7"), "{}", ended.stderr);
        let mut source = followed.source.client();
        // It takes writes, and they arrive; deadlines are held back, so that one that is renewed late is not missed.
        assert_eq!(source.call(cmd!("CONFIG", "GET", "min-*")), before, "{name}");
        source.call(cmd!("SETEX", "session:7", 500, "written"));
        source.call(cmd!("SET", "behind", 1));
        let mut target = followed.target.client();
        let arrives = asking::within(PATIENCE, || target.call(cmd!("EXISTS", "behind")).int() == 1);
        assert!(arrives, "{name}");
        let shifted = target.call(cmd!("PTTL", "session:8")).int();
        assert!(shifted > 1 << 44, "{name}: deadlines are held back again: {shifted}");
        // And the next one is GO.
        let again = followed.cutover(&["--fence", fence, "--sample", "100%"]);
        again.assert_code(0);
        assert_eq!(verdict(&again)["verdict"], "GO", "{name}");
        followed.assert_same(name);
    }
}

#[test]
fn a_rehearsal_fences_nothing() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let writer = Writer::spread(followed.source.port);
    for depth in [["--verify", "full"], ["--sample", "10%"]] {
        let ended = followed.cutover(&[&["--rehearse"], depth.as_slice()].concat());
        ended.assert_code(0);
        assert_eq!(verdict(&ended)["verdict"], "GO", "{}", ended.stderr);
    }
    assert_eq!(writer.end().refused, 0);
    let told = followed.running.beside(&["cutover", "--rehearse"]);
    assert!(told.stdout.starts_with("GO (rehearsal: nothing was fenced) "), "{}", told.stdout);
}

#[test]
fn without_a_fence_it_is_told_what_there_is() {
    let Some(followed) = Followed::start("redis-5.0.6", "redis-7.0.15", &[]) else { return };
    let ended = followed.running.beside(&["cutover"]);
    ended.assert_code(2);
    assert!(ended.stdout.contains("acl           no: "), "{}", ended.stdout);
    assert!(ended.stdout.contains("min-replicas  yes"), "{}", ended.stdout);
    assert!(ended.stdout.contains("external      yes"), "{}", ended.stdout);
    // So it is for a job that does not run, and for one that may not look.
    let (bare, target) =
        (Server::start("redis-7.0.15").unwrap(), Server::start("redis-7.0.15").unwrap());
    bare.client().call(cmd!(
        "ACL", "SETUSER", "few", "on", "nopass", "+@all", "-config", "-acl", "~*", "&*"
    ));
    let from = format!("redis://few:x@127.0.0.1:{}", bare.port);
    let ended =
        Understudy::start(&["cutover", "--from", &from, "--to", &target.url()]).wait(PATIENCE);
    ended.assert_code(2);
    for fence in ["acl", "min-replicas"] {
        let line = ended.stdout.lines().find(|line| line.starts_with(fence)).unwrap();
        assert!(line.contains("NOPERM"), "{line}");
    }
}

/// Nobody has stopped who writes: no silence comes.
#[test]
fn writers_that_go_on_are_no_go() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let writer = Writer::start(followed.source.port);
    let ended = followed.cutover(&["--fence", "external", "--max-pause", "3s"]);
    ended.assert_code(1);
    let told = verdict(&ended).to_string();
    assert!(told.contains("still written to: stop whoever writes"), "{told}");
    assert!(told.contains("cmd="), "who writes is named: {told}");
    writer.end();
    let ended = followed.cutover(&["--fence", "external"]);
    ended.assert_code(0);
    followed.assert_same("external");
}

/// A write that comes behind GO, past a fence that somebody has taken away, is an alarm.
#[test]
fn a_late_write_is_an_alarm() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let state = Arc::clone(followed.running.state());
    let cutover = Understudy::start_telling_in(
        &["cutover", "--fence", "external", "--watch-after", "4s", "--json"],
        &state,
    );
    followed.running.status_when(PATIENCE, |status| status["sources"][0]["phase"] == "watching");
    let mut source = followed.source.client();
    source.call(cmd!("CLIENT", "SETNAME", "forgotten-cron"));
    source.call(cmd!("SET", "late", 1));
    // A key that dies is none.
    source.call(cmd!("DEL", "session:3"));
    let ended = cutover.wait(PATIENCE);
    ended.assert_code(1);
    let told = verdict(&ended);
    assert_eq!((&told["verdict"], &told["late_writes"]), (&"GO".into(), &1.into()), "{told}");
    assert!(
        ended.stderr.contains("SET at offset") && ended.stderr.contains("\"late\""),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("forgotten-cron"), "{}", ended.stderr);
    assert_eq!(followed.target.client().call(cmd!("EXISTS", "late")).int(), 0);
    // The same sync again must not copy over what the target's new users write.
    let places = followed.places();
    let stopped = followed.running.wait(PATIENCE);
    stopped.assert_code(0);
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let again = Understudy::start_telling_in(&[&["sync"], places.as_slice()].concat(), &state);
    let again = again.wait(PATIENCE);
    again.assert_code(2);
    assert!(again.stderr.contains("was cut over"), "{}", again.stderr);
}

/// Whoever has asked for it goes away in its midst.
#[test]
fn a_cutover_that_nobody_wants_any_more_is_undone() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let writer = Writer::start(followed.source.port);
    let state = Arc::clone(followed.running.state());
    // With a writer no silence comes behind this fence, and it waits.
    let mut cutover = Understudy::start_telling_in(&["cutover", "--fence", "external"], &state);
    cutover.tells("fence    external", PATIENCE);
    cutover.interrupt();
    drop(cutover);
    writer.end();
    followed.running.tells("whoever asked for it is gone", PATIENCE);
    followed.source.client().call(cmd!("SET", "behind", 1));
    let mut target = followed.target.client();
    assert!(asking::within(PATIENCE, || target.call(cmd!("EXISTS", "behind")).int() == 1));
}

/// The job's process is killed with the fence up: the same command takes it away and goes on, and nothing is missing.
#[test]
fn a_process_that_dies_behind_the_fence_leaves_it_written_down() {
    for (fence, name) in [("acl", "redis-7.0.15"), ("min-replicas", "redis-6.2.14")] {
        let Some(followed) = Followed::start(name, name, &[]) else { return };
        let state = Arc::clone(followed.running.state());
        let cutover = Understudy::start_telling_in(
            &["cutover", "--fence", fence, "--watch-after", "1m"],
            &state,
        );
        cutover.tells("fence   ", PATIENCE);
        let Followed { source, target, running } = followed;
        // It may be anywhere between the fence and GO.
        let again = running.kill();
        let ended = cutover.wait(PATIENCE);
        let gone = ended.stderr.contains("the target is the one now");
        assert!(source.client().try_call(cmd!("SET", "x", 1)).is_error(), "{name}: it is fenced");
        let restarted = again.follow();
        if gone || state_says_gone(&state) {
            restarted.wait(PATIENCE).assert_code(2);
            continue;
        }
        ended.assert_code(3);
        assert!(ended.stderr.contains("takes the fences away"), "{}", ended.stderr);
        follows(&restarted);
        source.client().call(cmd!("SET", "behind", 1));
        let mut client = target.client();
        assert!(asking::within(PATIENCE, || client.call(cmd!("EXISTS", "behind")).int() == 1));
        restarted.end_job(PATIENCE);
        let [first, second] = [&source, &target].map(|one| Dump::read(&mut one.client()));
        judge::assert_same(&first, &second, untold(&source), name);
    }
}

fn state_says_gone(state: &tempfile::TempDir) -> bool {
    std::fs::read_dir(state.path()).unwrap().flatten().any(|job| {
        std::fs::read_to_string(job.path().join("fences"))
            .is_ok_and(|text| text.contains("\"gone\":true"))
    })
}

/// Job and switch in one command, and what is done at GO.
#[test]
fn all_of_it_in_one_go() {
    let servers = [
        Server::start("redis-6.2.14"),
        Server::start("redis-2.8.17"),
        Server::start("valkey-9.1.2"),
    ];
    let [Some(first), Some(second), Some(target)] = servers else { return };
    fill(&first, &target);
    for key in 0..1000 {
        second.client().call(cmd!("SETEX", format!("of-the-old:{key}"), 9000, key));
    }
    let writer = Writer::start(first.port);
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let on_go = format!("echo $UNDERSTUDY_PAUSE_MS > {}", note.display());
    let (a, b, to) = (first.url(), second.url(), target.url());
    let ended = Understudy::start(&[
        "cutover",
        "--from",
        &a,
        "--from",
        &b,
        "--to",
        &to,
        "--fence",
        "min-replicas",
        "--on-go",
        &on_go,
        "--max-pause",
        "10s",
    ])
    .wait(PATIENCE);
    let written = writer.end();
    ended.assert_code(0);
    assert!(ended.stdout.lines().any(|line| line.starts_with("GO ")), "{}", ended.stdout);
    let pause: u64 = std::fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    assert!(pause < 10_000);
    let mut client = target.client();
    written.assert_is_in(&mut client, "in one go");
    assert_eq!(client.call(cmd!("EXISTS", "of-the-old:7")).int(), 1);
}

#[test]
fn what_is_done_at_go_may_fail() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let ended =
        followed.running.beside(&["cutover", "--fence", "acl", "--on-go", "echo dns; exit 7"]);
    ended.assert_code(1);
    assert!(ended.stdout.starts_with("GO "), "{}", ended.stdout);
    assert!(ended.stderr.contains("it is GO all the same"), "{}", ended.stderr);
}

/// The target is lost behind the fence: the source takes writes again, and the job brings all of it when the target is there.
#[test]
fn a_target_that_is_lost_behind_the_fence_is_no_go() {
    let Some(mut followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let state = Arc::clone(followed.running.state());
    let writer = Writer::start(followed.source.port);
    // It waits for a silence that does not come while the writer goes on.
    let flags = ["cutover", "--fence", "external", "--verify", "full", "--max-pause", "20s"];
    let cutover = Understudy::start_telling_in(&flags, &state);
    cutover.tells("fence    external", PATIENCE);
    followed.target.kill();
    writer.end();
    let ended = cutover.wait(PATIENCE);
    ended.assert_code(1);
    assert!(ended.stdout.contains("NO-GO"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("STILL FENCED"), "{}", ended.stderr);
    followed.source.client().call(cmd!("SET", "behind", 1));
    followed.target.start_again();
    let mut target = followed.target.client();
    assert!(asking::within(PATIENCE, || target.try_call(cmd!("EXISTS", "behind")) == Value::Int(1)));
    let (source, target) = (followed.source, followed.target);
    followed.running.end_job(PATIENCE);
    let [first, second] = [&source, &target].map(|one| Dump::read(&mut one.client()));
    judge::assert_same(&first, &second, untold(&source), "behind a lost target");
}

/// Whoever stops the job stops its cutover, and no source stays fenced.
#[test]
fn a_job_that_is_stopped_takes_its_fence_away() {
    let Some(followed) = Followed::start("redis-6.2.14", "redis-7.0.15", &[]) else { return };
    let state = Arc::clone(followed.running.state());
    // Scripts that write pass this fence on 6.2, so that no silence comes.
    let scripts = Writer::begin(followed.source.port, |next| {
        cmd!("EVAL", "return redis.call('RPUSH',KEYS[1],ARGV[1])", 1, "written", next)
    });
    let flags = ["cutover", "--fence", "min-replicas", "--max-pause", "30s"];
    let cutover = Understudy::start_telling_in(&flags, &state);
    cutover.tells("fence    min-replicas", PATIENCE);
    assert!(followed.source.client().try_call(cmd!("SET", "x", 1)).is_error());
    followed.running.beside(&["stop"]).assert_code(0);
    cutover.wait(PATIENCE).assert_code(1);
    followed.running.wait(PATIENCE).assert_code(130);
    assert_eq!(followed.source.client().call(cmd!("SET", "x", 1)).text(), "OK");
    scripts.end();
}

/// The old source is started anew behind GO, without its data: the job must not copy that over what the target's new users have written.
#[test]
fn behind_go_nothing_is_written_whatever_the_source_does() {
    let Some(mut followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let state = Arc::clone(followed.running.state());
    let flags = ["cutover", "--fence", "min-replicas", "--watch-after", "1m", "--json"];
    let cutover = Understudy::start_telling_in(&flags, &state);
    followed.running.status_when(PATIENCE, |status| status["sources"][0]["phase"] == "watching");
    let mut target = followed.target.client();
    target.call(cmd!("SET", "session:7", "of the new users"));
    let before = Dump::read(&mut target);
    followed.source.kill_and_start_empty();
    followed.source.client().call(cmd!("SET", "session:7", "of the old source"));
    // The only source cannot be watched any more, and with it the watch ends.
    let ended = cutover.wait(PATIENCE);
    ended.assert_code(1);
    let told = verdict(&ended);
    assert_eq!(told["verdict"], "GO", "{told}");
    assert_eq!(told["unwatched"].as_array().map(Vec::len), Some(1), "{told}");
    assert!(ended.stderr.contains("could not be watched to the end"), "{}", ended.stderr);
    followed.running.wait(PATIENCE).assert_code(0);
    let after = Dump::read(&mut target);
    judge::assert_same(&before, &after, untold(&followed.target), "behind GO");
    assert!(target.call(cmd!("KEYS", "understudy*")).array().is_empty());
}

/// Whoever stops a job that is watched behind GO has a job that is done.
#[test]
fn a_watch_that_is_stopped_is_over() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let state = Arc::clone(followed.running.state());
    let cutover =
        Understudy::start_telling_in(&["cutover", "--fence", "acl", "--watch-after", "1m"], &state);
    followed.running.status_when(PATIENCE, |status| status["sources"][0]["phase"] == "watching");
    let mut target = followed.target.client();
    followed.running.stop(PATIENCE).0.assert_code(0);
    assert!(cutover.wait(PATIENCE).stdout.starts_with("GO "));
    assert!(target.call(cmd!("KEYS", "understudy*")).array().is_empty());
}

/// Two sources that are databases of one server: one fence, and nobody ends the other's connections in its midst.
#[test]
fn databases_of_one_server_are_fenced_once() {
    let (Some(source), Some(target)) =
        (Server::start("redis-7.0.15"), Server::start("redis-7.0.15"))
    else {
        return;
    };
    let mut client = source.client();
    for db in 0..6 {
        client.select(db);
        client.call(cmd!("SET", "key", db));
    }
    let (urls, to) =
        (Vec::from_iter((0..6).map(|db| format!("{}/{db}", source.url()))), target.url());
    let from = urls.iter().flat_map(|url| ["--from", url]).collect::<Vec<_>>();
    for (fence, flags) in [("acl", &[][..]), ("min-replicas", &["--on-conflict", "replace"])] {
        let args = [&["cutover", "--to", &to, "--fence", fence], from.as_slice(), flags].concat();
        let state = Arc::new(tempfile::tempdir().unwrap());
        let ended = Understudy::start_telling_in(&args, &state).wait(PATIENCE);
        ended.assert_code(0);
        assert!(ended.stderr.contains(&format!("{fence} stands on 1 server")), "{}", ended.stderr);
        assert!(source.client().try_call(cmd!("SET", "x", 1)).is_error(), "{fence}");
        let lift = [&["cutover", "--lift", "--to", &to], from.as_slice()].concat();
        Understudy::start_telling_in(&lift, &state).wait(PATIENCE).assert_code(0);
        client = source.client();
        assert_eq!(client.call(cmd!("SET", "x", 1)).text(), "OK", "{fence}");
        client.call(cmd!("DEL", "x"));
    }
}

#[test]
fn a_paused_job_is_not_cut_over() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    followed.running.beside(&["pause"]).assert_code(0);
    let ended = followed.cutover(&["--fence", "acl"]);
    ended.assert_code(1);
    assert!(ended.stderr.contains("understudy resume"), "{}", ended.stderr);
    assert_eq!(followed.source.client().call(cmd!("SET", "x", 1)).text(), "OK");
}
