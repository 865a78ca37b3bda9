//! Several sources: what becomes of one is no matter of the others, but for the verdict.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use crate::asking;
use crate::client::{Value, cmd};
use crate::judge::{self, Dump};
use crate::replicas::untold;
use crate::servers::Server;
use crate::tool::Understudy;

use super::PATIENCE;
use super::followed::{Writer, fill, follows, verdict};

/// A job that follows several sources, whose names have prefixes in the target.
struct Many {
    sources: Vec<Server>,
    target: Server,
    running: Understudy,
    config: String,
    /// Holds the file.
    _folder: TempDir,
}

impl Many {
    /// The last of the sources is spoken to as a user of its own.
    fn start(names: &[&'static str], target: &'static str) -> Option<Self> {
        let sources: Option<Vec<Server>> = names.iter().map(|name| Server::start(name)).collect();
        let (sources, target) = (sources?, Server::start(target)?);
        let last = sources.last()?;
        last.client().call(cmd!("ACL", "SETUSER", "mover", "on", ">secret", "~*", "&*", "+@all"));
        let mut text = format!("[target]\nurl = \"{}\"\n", target.url());
        for (number, source) in sources.iter().enumerate() {
            fill(source, &target);
            let user = if source.port == last.port { "mover:secret@" } else { "" };
            text += &format!(
                "[[source]]\nurl = \"redis://{user}127.0.0.1:{}\"\nname = \"old-{number}\"\nprefix = \"{number}:\"\n",
                source.port
            );
        }
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("night.toml");
        fs::write(&config, text).unwrap();
        let config = config.to_str()?.to_owned();
        let running = Understudy::start(&["sync", "--config", &config]);
        follows(&running);
        Some(Self { sources, target, running, config, _folder: folder })
    }

    /// Gives rights to the user of the last source, or takes them.
    fn rights(&self, rights: &str) {
        let last = self.sources.last().unwrap();
        last.client().call(cmd!("ACL", "SETUSER", "mover", rights));
    }

    /// How many of them take writes.
    fn taking(&self) -> usize {
        let takes = |source: &&Server| {
            matches!(source.client().try_call(cmd!("SET", "taken", 1)), Value::Status(_))
        };
        self.sources.iter().filter(takes).count()
    }

    #[track_caller]
    fn assert_same(&self, what: &str) {
        let parts =
            self.sources.iter().enumerate().map(|(number, source)| {
                Dump::read(&mut source.client()).under(&format!("{number}:"))
            });
        let target = Dump::read(&mut self.target.client());
        judge::assert_same(&Dump::together(parts), &target, untold(&self.sources[0]), what);
    }
}

/// Six of three versions. One of them lets nobody put its fence up: it is no GO, and no other stays fenced.
#[test]
fn one_that_refuses_its_fence_is_no_go_for_all() {
    let names = ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15"];
    let names = [names, names].concat();
    let Some(many) = Many::start(&names, "redis-7.0.15") else { return };
    many.rights("-config");
    many.rights("+config|get");
    let writers: Vec<Writer> =
        many.sources.iter().map(|source| Writer::start(source.port)).collect();
    let told = many.running.beside(&["cutover"]).stdout;
    assert!(
        told.contains("acl           no: old-0: Redis 2.8.17 does not know it (and 3 more)\n"),
        "{told}"
    );
    // It may look, and it may not set: that is found out without setting anything.
    assert!(told.contains("min-replicas  no: old-5: CONFIG: NOPERM"), "{told}");
    let flags = ["cutover", "--json", "--fence", "min-replicas", "--verify", "full"];
    let ended = many.running.beside(&flags);
    ended.assert_code(1);
    let against = verdict(&ended)["against"].clone();
    // It was refused, and nothing else: none is told to be fenced that is not.
    assert_eq!(against.as_array().map(Vec::len), Some(1), "{against}");
    assert!(against[0].as_str().unwrap().starts_with("old-5: CONFIG: NOPERM"), "{against}");
    assert!(ended.stderr.contains("the sources take writes again"), "{}", ended.stderr);
    assert_eq!(many.taking(), names.len());
    // With the right to do it, it is GO, and all that was ever acknowledged is there.
    many.rights("+config|set");
    let ended = many.running.beside(&flags);
    ended.assert_code(0);
    let told = verdict(&ended);
    assert_eq!(told["gone"]["offsets"].as_object().map(serde_json::Map::len), Some(6), "{told}");
    assert!(ended.stderr.contains("min-replicas stands on 6 servers"), "{}", ended.stderr);
    let mut client = many.target.client();
    for (number, writer) in writers.into_iter().enumerate() {
        let written = writer.end();
        assert!(written.pushed > 0 && written.refused > 0, "{number}");
        written.assert_is_under(&format!("{number}:"), &mut client, &format!("source {number}"));
    }
    many.assert_same("behind a fence that was refused at first");
}

/// A fence that could not be taken away is taken away by `--lift`, and by the next cutover, which does not take it for what was there before.
#[test]
fn what_was_there_before_a_fence_is_not_forgotten() {
    for by_lift in [true, false] {
        let Some(many) = Many::start(&["redis-5.0.6", "redis-7.0.15"], "redis-7.0.15") else {
            return;
        };
        let last = &many.sources[1];
        last.client().call(cmd!("CONFIG", "SET", "min-replicas-max-lag", 7));
        let scripts = Writer::scripts(many.sources[0].port);
        let state = Arc::clone(many.running.state());
        let cutover = Understudy::start_telling_in(&["cutover", "--fence", "min-replicas"], &state);
        cutover.tells("fence    min-replicas", PATIENCE);
        many.rights("-config");
        many.running.beside(&["cutover", "--lift"]).assert_code(2);
        // Nobody wants it any more.
        drop(cutover);
        many.running.tells("old-1: IT IS STILL FENCED: CONFIG: NOPERM", PATIENCE);
        assert_eq!(many.taking(), 1);
        scripts.end();
        // Whoever looks finds it, and so does who is told of another reason.
        assert_eq!(many.running.status()["fenced"], json!(["old-1"]));
        many.running.beside(&["pause"]).assert_code(0);
        let ended = many.running.beside(&["cutover", "--rehearse"]);
        ended.assert_code(1);
        let told = "old-1: IT IS STILL FENCED since an earlier cutover; understudy cutover --lift";
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        many.running.beside(&["resume"]).assert_code(0);
        let flags = ["cutover", "--fence", "min-replicas", "--verify", "full"];
        let again = || match by_lift {
            true => many.running.beside(&["cutover", "--lift"]),
            false => many.running.beside(&flags),
        };
        let ended = again();
        assert_ne!(ended.code, Some(0), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("old-1: the fence could not be taken away"),
            "{}",
            ended.stderr
        );
        assert_eq!(many.taking(), 1, "{}", ended.stderr);
        many.rights("+config");
        // One that differs, so that the next one too is undone.
        many.target.client().call(cmd!("SET", "1:planted", 1));
        let ended = again();
        ended.assert_code(if by_lift { 0 } else { 1 });
        assert_eq!(many.taking(), 2, "{}", ended.stderr);
        let settings = last.client().call(cmd!("CONFIG", "GET", "min-replicas-*"));
        let setting = |name| settings.field(name).unwrap().text();
        assert_eq!(setting("min-replicas-to-write"), "0", "{}", ended.stderr);
        assert_eq!(setting("min-replicas-max-lag"), "7");
        assert_eq!(many.running.status()["fenced"], json!([]));
        many.target.client().call(cmd!("DEL", "1:planted"));
        many.running.beside(&flags).assert_code(0);
        many.assert_same("behind a fence that was left");
    }
}

/// The process was killed behind its fences, and one of its sources is gone: all others take writes again.
#[test]
fn fences_that_were_left_are_taken_away_wherever_they_can_be() {
    for lift in [true, false] {
        let names = ["redis-7.0.15", "redis-5.0.6", "redis-7.0.15"];
        let Some(mut many) = Many::start(&names, "redis-7.0.15") else { return };
        let scripts = Writer::scripts(many.sources[1].port);
        let state = Arc::clone(many.running.state());
        let cutover = Understudy::start_telling_in(&["cutover", "--fence", "min-replicas"], &state);
        cutover.tells("fence    min-replicas", PATIENCE);
        let again = many.running.kill();
        cutover.wait(PATIENCE).assert_code(3);
        scripts.end();
        many.sources[0].kill();
        let ended = match lift {
            true => Understudy::start_telling_in(
                &["cutover", "--lift", "--config", &many.config],
                &state,
            ),
            false => Understudy::start_telling_in(&["sync", "--config", &many.config], &state),
        };
        let ended = ended.wait(PATIENCE);
        ended.assert_code(if lift { 3 } else { 2 });
        assert!(
            ended.stderr.contains("old-0: the fence could not be taken away"),
            "{}",
            ended.stderr
        );
        for source in &many.sources[1..] {
            assert_eq!(source.client().call(cmd!("SET", "taken", 1)).text(), "OK", "{lift}");
        }
        many.sources[0].start_again();
        many.running = again.follow();
        follows(&many.running);
        let flags = ["cutover", "--fence", "min-replicas", "--verify", "full"];
        many.running.beside(&flags).assert_code(0);
        many.assert_same("behind fences that were left");
    }
}

/// A source that is copied anew just then keeps no other behind its fence.
#[test]
fn a_source_that_is_copied_anew_holds_up_no_other() {
    let Some(many) = Many::start(&["redis-5.0.6", "redis-7.0.15"], "redis-7.0.15") else { return };
    let scripts = Writer::scripts(many.sources[0].port);
    let state = Arc::clone(many.running.state());
    let cutover = Understudy::start_telling_in(&["cutover", "--fence", "min-replicas"], &state);
    cutover.tells("fence    min-replicas", PATIENCE);
    let mut last = many.sources[1].client();
    // Its copy does not end for as long as this test lasts.
    last.call(cmd!("CONFIG", "SET", "rdb-key-save-delay", 500_000));
    last.call(cmd!("DEBUG", "CHANGE-REPL-ID"));
    last.call(cmd!("CLIENT", "KILL", "TYPE", "replica"));
    // Or its master waits for the end of a save that nobody wants any more, and then it does not even begin.
    many.running.status_when(PATIENCE, |status| status["sources"][1]["full_syncs"] == 2);
    drop(cutover);
    // It would wait for as long as deadlines may take to be held back, where some had been set.
    assert!(asking::within(PATIENCE / 4, || many.taking() == 2));
    scripts.end();
}

/// Of several sources, too, each follows again although the walk through the target ends with keys of others, and its source says nothing meanwhile.
#[test]
fn a_source_without_a_key_at_the_walks_end_follows_again() {
    let servers = ["redis-7.0.15"; 3].map(Server::start);
    let [Some(few), Some(lots), Some(target)] = servers else { return };
    // Its next word would begin the round that is missing.
    few.client().call(cmd!("CONFIG", "SET", "repl-ping-replica-period", 3600));
    let mut client = few.client();
    client.select(9);
    client.call(cmd!("SETEX", "dies", 9000, 1));
    // The databases are walked through from the last to the first: many pages without a key of the other source.
    let mut client = lots.client();
    let fill = "for i = 1, 20000 do redis.call('SETEX', 'key:' .. i, 9000, i) end return 1";
    client.call(cmd!("EVAL", fill, 0));
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("night.toml");
    let mut text = format!("[target]\nurl = \"{}\"\n", target.url());
    for (name, source) in [("few", &few), ("lots", &lots)] {
        text += &format!(
            "[[source]]\nurl = \"{}\"\nname = \"{name}\"\nprefix = \"{name}:\"\n",
            source.url()
        );
    }
    fs::write(&config, text).unwrap();
    let running = Understudy::start(&["sync", "--config", config.to_str().unwrap()]);
    follows(&running);
    let mut client = target.client();
    client.select(9);
    client.call(cmd!("SET", "few:planted", 1));
    let flags = ["cutover", "--json", "--fence", "min-replicas", "--verify", "full"];
    let ended = running.beside(&flags);
    ended.assert_code(1);
    let against = verdict(&ended)["against"].clone();
    assert_eq!(against.as_array().map(Vec::len), Some(1), "{against}");
    assert!(against[0].as_str().unwrap().contains("differ"), "{against}");
    assert!(client.call(cmd!("PTTL", "few:dies")).int() > 1 << 44, "{}", ended.stderr);
    client.call(cmd!("DEL", "few:planted"));
    running.beside(&flags).assert_code(0);
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
    let pause: u64 = fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    assert!(pause < 10_000);
    let mut client = target.client();
    written.assert_is_in(&mut client, "in one go");
    assert_eq!(client.call(cmd!("EXISTS", "of-the-old:7")).int(), 1);
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

/// A job that does not know any more which keys have deadlines goes through the names of its target once for all its sources, or twice where some come to their
/// end when others are on their way already; and not once for each.
#[test]
fn the_target_is_walked_through_for_all_sources_at_once() {
    let names = ["redis-7.0.15"; 6];
    let Some(mut many) = Many::start(&names, "redis-7.0.15") else { return };
    for source in &many.sources {
        let keys = "for n=1,8000 do redis.call('SET','dies:'..n,n,'PXAT',4000000000000+n) end";
        source.client().call(cmd!("EVAL", keys, 0));
        source.client().call(cmd!("SET", "last", 1));
    }
    let mut target = many.target.client();
    for number in 0..names.len() {
        let last = format!("{number}:last");
        let is_there = || target.call(cmd!("EXISTS", &last)).int() == 1;
        asking::until("all is there", PATIENCE, is_there);
    }
    many.running = many.running.kill().follow();
    follows(&many.running);
    target.call(cmd!("CONFIG", "RESETSTAT"));
    many.running.beside(&["stop", "--finish"]).assert_code(0);
    asking::until("it ends", PATIENCE, || !many.running.is_running());
    let keys = target.call(cmd!("DBSIZE")).int();
    let line = target.info("commandstats", "cmdstat_scan");
    let calls = line.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
    let calls: i64 = calls.unwrap().parse().unwrap();
    // A page has 1000 names and some more.
    assert!(calls > keys / 2000, "{calls} for {keys}");
    assert!(calls < 3 * keys / 1000, "{calls} for {keys}");
    for number in 0..names.len() {
        let at = target.call(cmd!("PEXPIRETIME", format!("{number}:dies:7"))).int();
        assert_eq!(at, 4_000_000_000_007);
    }
    many.assert_same("behind a walk for all");
}
