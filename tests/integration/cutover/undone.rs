//! It is no GO: the sources take writes again, and the job goes on.

use std::sync::Arc;

use crate::asking;
use crate::client::{Value, cmd};
use crate::judge::{self, Dump};
use crate::replicas::untold;
use crate::tool::Understudy;

use super::PATIENCE;
use super::followed::{Followed, Writer, follows, verdict};

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
    let scripts = Writer::scripts(followed.source.port);
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

#[test]
fn a_paused_job_is_not_cut_over() {
    let Some(followed) = Followed::start("redis-7.0.15", "redis-7.0.15", &[]) else { return };
    followed.running.beside(&["pause"]).assert_code(0);
    let ended = followed.cutover(&["--fence", "acl"]);
    ended.assert_code(1);
    assert!(ended.stderr.contains("understudy resume"), "{}", ended.stderr);
    assert_eq!(followed.source.client().call(cmd!("SET", "x", 1)).text(), "OK");
}
