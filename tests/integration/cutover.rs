//! The switch: whoever writes until the end, no write that was acknowledged is missing in the target.

mod contested;
mod followed;
mod many;
mod undone;

use std::sync::Arc;
use std::time::Duration;

use crate::client::cmd;
use crate::judge::{self, Dump};
use crate::replicas::untold;
use crate::servers::Server;
use crate::tool::Understudy;

use followed::{Followed, Writer, verdict};

const PATIENCE: Duration = Duration::from_secs(40);

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

/// Keys and fields die all the time behind the fence, hashes with their last field too.
#[test]
fn what_dies_behind_the_fence_is_no_write() {
    for name in ["redis-7.0.15", "redis-8.0.2", "valkey-9.1.2"] {
        let Some(followed) = Followed::start(name, "redis-8.0.2", &[]) else { return };
        let mut source = followed.source.client();
        let has_fields = source.knows("HPEXPIRE");
        let dying: Vec<_> = (0..1000_u32)
            .flat_map(|n| {
                let (hash, dies) = (format!("dying:{n}"), 200 + n * 5);
                let fields =
                    [cmd!("HSET", &hash, "a", n), cmd!("HPEXPIRE", &hash, dies, "FIELDS", 1, "a")];
                let key = cmd!("SET", format!("session:dying:{n}"), n, "PX", dies);
                fields.into_iter().filter(|_| has_fields).chain([key]).collect::<Vec<_>>()
            })
            .collect();
        source.pipeline(&dying).into_iter().for_each(|reply| drop(reply.ok()));
        let ended = followed.cutover(&["--fence", "min-replicas", "--verify", "full"]);
        ended.assert_code(0);
        assert_eq!(verdict(&ended)["verdict"], "GO", "{name}: {}", ended.stderr);
    }
}

/// Which fences there may be is found out without anything being changed.
#[test]
fn a_look_at_the_fences_changes_nothing() {
    let names = [
        ("redis-2.8.17", "no", "yes"),
        ("redis-3.2.6", "no", "yes"),
        ("redis-6.0.16", "yes", "yes"),
        ("redis-7.0.15", "yes", "yes"),
        ("redis-8.0.6", "yes", "yes"),
        ("valkey-9.1.2", "yes", "yes"),
    ];
    let Some(target) = Server::start("redis-7.0.15") else { return };
    for (name, acl, min_replicas) in names {
        let Some(source) = Server::start(name) else { return };
        let mut client = source.client();
        let mut looks = |at: &str| {
            let settings = client.call(cmd!("CONFIG", "GET", "*")).array().to_vec();
            let users = (acl == "yes").then(|| client.call(cmd!("ACL", "LIST")).strings());
            let log = (acl == "yes").then(|| client.call(cmd!("ACL", "LOG")).array().len());
            assert_eq!(client.call(cmd!("PING")).text(), "PONG", "{name}, {at}");
            (settings, users, log)
        };
        let before = looks("before");
        let args = ["cutover", "--from", &source.url(), "--to", &target.url()];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        for told in [format!("acl           {acl}"), format!("min-replicas  {min_replicas}")] {
            assert!(ended.stdout.contains(&told), "{name}: {}", ended.stdout);
        }
        assert_eq!(looks("after"), before, "{name}");
    }
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

#[test]
fn what_is_done_at_go_may_fail() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    let ended =
        followed.running.beside(&["cutover", "--fence", "acl", "--on-go", "echo dns; exit 7"]);
    ended.assert_code(1);
    assert!(ended.stdout.starts_with("GO "), "{}", ended.stdout);
    assert!(ended.stderr.contains("it is GO all the same"), "{}", ended.stderr);
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
