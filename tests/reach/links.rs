//! Every kind of error that a server brings about, or its being lost: it is in memory, and its clock is ours.

use std::fs;
use std::future::Future;
use std::path::Path;

use understudy::change::Draft;
use understudy::command::judge::Expect;
use understudy::net::{Control, ControlError, Net};
use understudy::plan::{Place, Plan, Rules, Source, Until};
use understudy::preflight::look;
use understudy::rdb::writer::Writer;
use understudy::repl::Method;
use understudy::source::{self, SourceError};
use understudy::target::{FileError, RdbPlace, RunId, Standalone, TargetError};

use crate::formats::{EMPTY, FULLRESYNC, redis};
use crate::peers::Says::{self, Last, On, Usual};
use crate::peers::{bulk, line, net, place, server};
use crate::{names, variants};

/// Runs on a clock that leaps to whatever is waited for.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().start_paused(true).build().unwrap().block_on(future)
}

/// Answers this command so, and all others as usual.
pub(crate) fn only(
    command: &'static str,
    says: Says,
) -> impl Fn(&str, &str) -> Says + Send + Sync + 'static {
    move |_, name| if name == command { says.clone() } else { Usual }
}

/// How a question to this server ends.
async fn question(net: &Net, host: &str) -> ControlError {
    let asked = async { Control::open(net, &server(host)).await?.info("server").await };
    asked.await.unwrap_err()
}

#[test]
fn every_error_of_a_question_is_reached() {
    let greeted = |says| async { question(&net(only("PING", says)), "server").await };
    let reached = block_on(async {
        [
            question(&net(|_, _| Usual), "nobody").await,
            greeted(line("-NOAUTH Authentication required.")).await,
            question(&net(only("AUTH", line("-WRONGPASS"))), ":secret@server").await,
            greeted(line("-DENIED Redis is running in protected mode")).await,
            greeted(line("-ERR max number of clients reached")).await,
            greeted(On(b"HTTP/1.1 400 Bad Request\r\n".to_vec())).await,
            greeted(Last(Vec::new())).await,
            greeted(On(Vec::new())).await,
            question(&net(only("INFO", Last(Vec::new()))), "server").await,
            question(&net(only("INFO", line("-NOPERM"))), "server").await,
        ]
    });
    let mut reached = names(reached);
    // Only a run asks this, and goes on without an answer.
    let log = crate::runs::unsettled();
    assert!(log.contains("its offset never stood still"), "{log}");
    reached.insert("Unsettled".to_owned());
    assert_eq!(reached, variants("ControlError"));
}

#[test]
fn every_kind_of_stranger_is_reached() {
    let reached = [&b"HTTP/1.1 400\r\n"[..], b"\x15\x03\x01\x00\x02\x02\x46", b"SSH-2.0-x\r\n"];
    let reached = block_on(async {
        let mut found = Vec::new();
        for said in reached {
            let stranger = question(&net(only("PING", On(said.to_vec()))), "server").await;
            let ControlError::Foreign(stranger) = stranger else { panic!("{stranger:?}") };
            found.push(stranger);
        }
        found
    });
    assert_eq!(names(reached), variants("Foreign"));
}

/// How a source that is read to its end fails.
async fn source_fails(net: &Net, place: &Place) -> SourceError {
    let read = async {
        let mut source = source::Source::open(net, place, Method::Auto, None).await?;
        loop {
            while source.poll_event()?.is_some() {}
            source.exchange(true).await?;
        }
    };
    let failed: Result<(), SourceError> = read.await;
    failed.unwrap_err()
}

/// The least that is told beside a capture.
pub(crate) const SIDECAR: &str = "{\"recorded_from_ms\":1}";

/// Writes a capture and its sidecar, and gives its place.
pub(crate) fn capture(folder: &Path, name: &str, said: &[&[u8]], sidecar: &str) -> Place {
    let path = folder.join(name).with_extension("bin");
    fs::write(&path, said.concat()).unwrap();
    fs::write(path.with_extension("json"), sidecar).unwrap();
    Place::Capture(path)
}

#[test]
fn every_error_of_a_source_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let capture = |name, said: &[&[u8]], sidecar| capture(folder.path(), name, said, sidecar);
    let whole: &[&[u8]] = &[FULLRESYNC, b"$18\r\n", EMPTY];
    let follows = |host, says: Says| async move {
        source_fails(&net(only("PING", says)), &place(host)).await
    };
    let reads = |place: Place| async move { source_fails(&net(|_, _| Usual), &place).await };
    let reached = block_on(async {
        [
            follows("nobody", Usual).await,
            source_fails(&net(|_, _| Last(Vec::new())), &place("server")).await,
            follows("server", Last(Vec::new())).await,
            follows("server", On(Vec::new())).await,
            follows("server", line("-NOAUTH Authentication required.")).await,
            reads(Place::Rdb(folder.path().join("none.rdb"))).await,
            reads(capture("newer", whole, "{\"version\":9}")).await,
            reads(capture("longer", whole, "{\"recorded_from_ms\":1,\"total_bytes\":9}")).await,
            reads(capture("later", &[b"+CONTINUE\r\n"], SIDECAR)).await,
            reads(capture("damaged", &[FULLRESYNC, b"$9\r\nno magic!"], SIDECAR)).await,
        ]
    });
    assert_eq!(names(reached), variants("SourceError"));
}

#[test]
fn every_obstacle_is_reached() {
    let plan = |from, to| Plan {
        sources: vec![Source { name: String::new(), place: from, rules: Rules::default() }],
        target: to,
        until: Until::CaughtUp,
        on_conflict: None,
        on_flush: None,
        written_for: None,
        limit_rate: None,
        limit_read: None,
        memory: 1 << 20,
        method: Method::Auto,
    };
    let none = || Place::Rdb("/nowhere/a.rdb".into());
    let reached = block_on(async {
        let net = net(|_, _| Usual);
        [
            look(&net, &plan(place("nobody"), none())).await.unwrap_err(),
            look(&net, &plan(none(), place("nobody"))).await.unwrap_err(),
        ]
    });
    assert_eq!(names(reached.map(|found| found.source)), variants("Obstacle"));
}

/// How a target that is written a transaction fails, be it when it is linked anew.
async fn target_fails(net: &Net, host: &str, run_id: &str) -> TargetError {
    let written = async {
        let (place, run_id) = (server(host), RunId(run_id.to_owned()));
        let mut target = Standalone::open(net, &place, &run_id).await?;
        target.begin_stream();
        let mut draft = Draft::default();
        draft.push(&[b"SET", b"k", b"v"], Expect::Status);
        target.push(draft.finish());
        loop {
            if let Err(error) = target.exchange().await {
                if !target.is_undecided() {
                    return Err(error);
                }
                target.relink(Standalone::connect(net, &place, &run_id).await?)?;
            }
        }
    };
    let failed: Result<(), TargetError> = written.await;
    failed.unwrap_err()
}

#[test]
fn every_error_of_a_target_is_reached() {
    let begun = |says: Says| async { target_fails(&net(only("MULTI", says)), "target", "").await };
    let reached = block_on(async {
        [
            target_fails(&net(|_, _| Usual), "nobody", "").await,
            target_fails(&net(|_, _| Last(Vec::new())), "target", "").await,
            begun(Last(Vec::new())).await,
            begun(line("-NOAUTH Authentication required.")).await,
            begun(line("-NOPERM this user may not")).await,
            begun(line("-ERR unknown command 'MULTI'")).await,
            begun(line("-LOADING Redis is loading the dataset in memory")).await,
            begun(line("what?")).await,
            target_fails(&net(only("EXEC", Last(Vec::new()))), "target", "").await,
            target_fails(&net(only("INFO", bulk("run_id:other"))), "target", "own").await,
        ]
    });
    assert_eq!(names(reached), variants("TargetError"));
}

#[test]
fn every_error_of_a_file_that_is_made_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there.rdb");
    fs::write(&there, EMPTY).unwrap();
    let taken = folder.path().join("taken.rdb");
    let first = RdbPlace::take(&taken, false).unwrap();
    let refused = |path: &Path| RdbPlace::take(path, false).map(drop).unwrap_err();
    let refused = [refused(&there), refused(&taken), refused(Path::new("/nowhere/a.rdb"))];
    let writer = Writer::new(redis(7, 0)).unwrap();
    let unwritten = block_on(async {
        let target = first.begin(writer);
        drop(folder);
        target.finish().await.unwrap_err()
    });
    let reached: Vec<FileError> = refused.into_iter().chain([unwritten]).collect();
    assert_eq!(names(reached), variants("FileError"));
}
