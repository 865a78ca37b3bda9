//! Every kind of error that a server brings about, or its being lost: it is in memory, and its clock is ours.

use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use understudy::change::Draft;
use understudy::command::judge::Expect;
use understudy::key::Db;
use understudy::ledger::older::{self, OlderError};
use understudy::ledger::{Ledger, LedgerError, Scratch};
use understudy::net::{ClusterError, Control, ControlError, LinkError, Net};
use understudy::offset::ReplId;
use understudy::owners::{Log, LogError, Owners};
use understudy::plan::{Job, OnDeadlines, OnUnknown, Place, Plan, Rules, Source, Spool, Until};
use understudy::position::{self, Phase, Record, RecordError, Spot};
use understudy::preflight::look;
use understudy::rdb::writer::Writer;
use understudy::repl::Method;
use understudy::source::{self, FetchError, Fetcher, Limits, SourceError, Wants};
use understudy::spool::Store;
use understudy::target::{Confirmed, FileError, Keeper, RdbPlace, Standalone, TargetError};
use understudy::verify::digests::{DigestsError, Head, Reader};

use crate::formats::{EMPTY, FULLRESYNC, redis};
use crate::peers::Says::{self, Last, On, Usual};
use crate::peers::{Kept, bulk, line, net, net_keeping, place, server, server_at, shard};
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

/// Two masters, of which a Sentinel names the first when it is asked first, and then the other.
fn house() -> Net {
    let asked = AtomicU64::new(0);
    net(move |host, command| match (host, command) {
        ("watch", "SENTINEL") => match asked.fetch_add(1, Ordering::Relaxed) {
            0 => line("*2\r\n$3\r\nold\r\n$4\r\n6379"),
            _ => line("*2\r\n$3\r\nnew\r\n$4\r\n6379"),
        },
        (_, "ROLE") => line("*2\r\n$6\r\nmaster\r\n:0"),
        (_, "PSYNC") => On([FULLRESYNC, b"$18\r\n", EMPTY].concat()),
        _ => Usual,
    })
}

#[test]
fn every_error_of_sentinels_is_reached() {
    let leads = |watch: &'static str, to: &'static str, says: Says| async move {
        let named = line(watch);
        let net = net(move |host, command| match (host, command) {
            ("watch", "SENTINEL") => named.clone(),
            (host, "ROLE") if host == to => says.clone(),
            _ => Usual,
        });
        let place = server_at("redis-sentinel://nobody,watch/main");
        match net.connect(&place).await.unwrap_err() {
            LinkError::Sentinel(error) => *error,
            other => panic!("{other:?}"),
        }
    };
    let at_server = "*2\r\n$6\r\nserver\r\n$4\r\n6379";
    let reached = block_on(async {
        [
            leads("-NOPERM", "none", Usual).await,
            leads("*-1", "none", Usual).await,
            leads("*2\r\n$6\r\nnobody\r\n$4\r\n6379", "none", Usual).await,
            leads(at_server, "server", line("*1\r\n$5\r\nslave")).await,
        ]
    });
    assert_eq!(names(reached), variants("SentinelError"));
}

#[test]
fn every_error_of_a_cluster_is_reached() {
    let parts = |nodes: &'static str| async move {
        let cluster = net(only("CLUSTER", bulk(nodes)));
        match cluster.shards(&server_at("redis-cluster://server")).await.unwrap_err() {
            ControlError::Link(LinkError::Cluster(error)) => *error,
            other => panic!("{other:?}"),
        }
    };
    let reached = block_on(async {
        let mut reached = vec![
            parts("aa server:6379 myself,master - 0 0 1 connected 0-99").await,
            parts("aa server:6379 myself,master - 0 0 1 connected 0-16383 [5->-bb]").await,
            parts("no nodes").await,
        ];
        // One says nothing that can be read, and so none answers.
        if let Some(ClusterError::NoAnswer(tried)) = reached.last_mut()
            && let Some((_, ControlError::Link(LinkError::Cluster(error)))) = tried.pop()
        {
            reached.push(*error);
        }
        let lost = net(only("CLUSTER", bulk("bb server:6379 myself,slave cc 0 0 1 connected")));
        match lost.connect(&shard("server")).await.unwrap_err() {
            LinkError::Cluster(error) => reached.push(*error),
            other => panic!("{other:?}"),
        }
        reached
    });
    assert_eq!(names(reached), variants("ClusterError"));
}

/// How a source that is read to its end fails.
async fn source_fails(net: &Net, place: &Place) -> SourceError {
    let read = async {
        let mut source = source::Source::open(net, place, Method::Auto, None).await?;
        loop {
            while source.poll_event()?.is_some() {}
            source.exchange(Wants::MORE).await?;
        }
    };
    let failed: Result<(), SourceError> = read.await;
    failed.unwrap_err()
}

/// A disk that takes everything and gives nothing back.
struct Unreadable;

impl Scratch for Unreadable {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// How a source fails whose words wait in a spool until there is no more of them, or no more room.
async fn spool_fails(net: &Net, store: Store) -> SourceError {
    let read = async {
        let place = place("source");
        let mut source = source::Source::open(net, &place, Method::Auto, None).await?;
        source.set_spool(store.spool(4096));
        // Up to its answer to PSYNC.
        while source.poll_event()?.is_none() {
            source.exchange(Wants::MORE).await?;
        }
        let waits = Wants { take: false, read: true };
        while let Ok(read) = timeout(Duration::from_secs(5), source.exchange(waits)).await {
            read?;
        }
        loop {
            while source.poll_event()?.is_some() {}
            source.exchange(Wants::MORE).await?;
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
    let key = |n: u16| [&b"\x00\x02"[..], &n.to_be_bytes(), b"\x43\xe8", &[b'v'; 1000]].concat();
    let records: Vec<u8> = (0..600).flat_map(key).collect();
    let master = Last([FULLRESYNC, b"$9999999\r\n", b"REDIS0010", &records].concat());
    let spooled = |limit, make| {
        let net = net(only("PSYNC", master.clone()));
        async move { spool_fails(&net, Store::with("spool".into(), limit, make)).await }
    };
    let reached = block_on(async {
        [
            spooled(0, Arc::new(|| Ok(Box::new(Unreadable)))).await,
            spooled(1 << 20, Arc::new(|| Ok(Box::new(Unreadable)))).await,
            follows("nobody", Usual).await,
            source_fails(&net(|_, _| Last(Vec::new())), &place("server")).await,
            follows("server", Last(Vec::new())).await,
            follows("server", On(Vec::new())).await,
            follows("server", line("-NOAUTH Authentication required.")).await,
            reads(Place::Rdb(folder.path().join("none.rdb"))).await,
            source_fails(&house(), &Place::Server(server_at("redis-sentinel://watch/main"))).await,
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
        spool: Spool::default(),
        method: Method::Auto,
        job: Job::default(),
        away: None,
        on_unknown: OnUnknown::Stop,
        deadlines: OnDeadlines::Exact,
        accept_eviction: false,
        remove_unowned: false,
        at_once: None,
        per_host: 1,
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

/// The record of a job, as its name's default is.
pub(crate) fn record() -> Record {
    Record {
        job: String::new(),
        source: "source".to_owned(),
        rules: String::new(),
        owner: "another".to_owned(),
        generation: 1,
        phase: Phase::Following,
        copies: 1,
        sole: true,
        replid: Some(HISTORY[0].to_owned()),
        applied: Spot::default(),
        clean: Spot::default(),
        doubts: Vec::new(),
        horizon: i64::MAX,
        good: i64::MAX,
        unsure: false,
        written: None,
        ended: None,
        unproven: 0,
    }
}

/// How a target that is written a transaction fails, be it when it is linked anew.
async fn target_fails(net: &Net, host: &str, kept: Option<&Kept>) -> TargetError {
    let written = async {
        let place = server(host);
        let key = position::key("", "source");
        let at = || (Db::default(), key.clone());
        let entrance = Standalone::enter(net, &place, at(), "understudy:job:1").await?;
        if let Some(kept) = kept {
            kept.lock().unwrap().insert(key.clone(), b"another".to_vec());
        }
        let keeper = Keeper::new(record(), None, (Db::default(), key.clone(), b"scripts".to_vec()));
        let mut target = Standalone::claim(entrance, keeper).await?;
        let mut draft = Draft::default();
        draft.push(&[b"SET", b"k", b"v"], Expect::Status);
        target.push(draft.finish());
        loop {
            if target.exchange().await.is_err() {
                let again = Standalone::enter(net, &place, at(), "understudy:job:2").await?;
                target.relink(again, &mut Confirmed::default())?;
            }
        }
    };
    let failed: Result<(), TargetError> = written.await;
    failed.unwrap_err()
}

#[test]
fn every_error_of_a_target_is_reached() {
    let begun =
        |says: Says| async { target_fails(&net(only("MULTI", says)), "target", None).await };
    let processes = AtomicU64::new(0);
    // Another one answers each time, and the link is lost.
    let other = net(move |_, name| match name {
        "INFO" => bulk(&format!("run_id:{}", processes.fetch_add(1, Ordering::Relaxed))),
        "SET" => Last(Vec::new()),
        _ => Usual,
    });
    let kept = Kept::default();
    let reached = block_on(async {
        [
            target_fails(&net(|_, _| Usual), "nobody", None).await,
            target_fails(&net(|_, _| Last(Vec::new())), "target", None).await,
            begun(Last(Vec::new())).await,
            begun(On(Vec::new())).await,
            begun(line("-NOAUTH Authentication required.")).await,
            begun(line("-NOPERM this user may not")).await,
            begun(line("-ERR unknown command 'MULTI'")).await,
            begun(line("-LOADING Redis is loading the dataset in memory")).await,
            begun(line("what?")).await,
            target_fails(&other, "target", None).await,
            target_fails(&net_keeping(Kept::clone(&kept), |_, _| Usual), "target", Some(&kept))
                .await,
        ]
    });
    assert_eq!(names(reached), variants("TargetError"));
}

#[test]
fn every_error_of_a_record_is_reached() {
    let mut damaged = record().encode();
    *damaged.last_mut().unwrap() ^= 1;
    let body = b"{}";
    let sum = understudy::rdb::crc::crc64(body);
    let formless = [format!("understudy position 1 {sum:016x}\n").as_bytes(), body].concat();
    let read = |bytes: &[u8]| Record::decode(bytes).unwrap_err();
    let reached: [RecordError; 6] = [
        read(b"42"),
        read(b"understudy position 9 0000000000000000\n{}"),
        read(&damaged),
        read(&formless),
        record().is_of("other", "source", "").unwrap_err(),
        record().is_of("", "source", "other").unwrap_err(),
    ];
    assert_eq!(names(reached), variants("RecordError"));
}

/// A disk that fails, or gives back other bytes.
struct Disk(Vec<u8>, bool);

impl Scratch for Disk {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let at = usize::try_from(at).unwrap();
        self.0.resize(self.0.len().max(at + bytes.len()), 0);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        into.copy_from_slice(&self.0[at..at + into.len()]);
        into.iter_mut().for_each(|byte| *byte ^= 0x55);
        Ok(())
    }
}

/// How names are not kept on a disk.
fn ledger_fails(disk: Disk) -> LedgerError {
    let kept = || {
        let mut ledger = Ledger::new(disk, 4096);
        let name = |n: u32| n.to_string().into_bytes();
        (0..5000).try_for_each(|n| ledger.note(Db::default(), &name(n)))?;
        let mut sweep = ledger.sweep()?;
        (0..5000).try_for_each(|n| sweep.seen(Db::default(), &name(n)).map(drop))?;
        let mut missing = sweep.finish()?;
        while missing.next_page(100)?.is_some() {}
        Ok(())
    };
    let kept: Result<(), LedgerError> = kept();
    kept.unwrap_err()
}

#[test]
fn every_error_of_a_ledger_is_reached() {
    let reached = [ledger_fails(Disk(Vec::new(), true)), ledger_fails(Disk(Vec::new(), false))];
    assert_eq!(names(reached), variants("LedgerError"));
}

#[test]
fn every_error_of_the_older_keys_is_reached() {
    let mut file = Vec::new();
    let mut kept = understudy::change::Kept::with_capacity(1);
    kept.insert(Db::default(), b"k");
    older::encode(&kept, &mut file).unwrap();
    let read = |len: u64, bytes: &[u8]| older::decode(len, bytes).unwrap_err();
    let with = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] ^= byte;
        file
    };
    let len = file.len() as u64;
    let many = u64::MAX / 32;
    let reached: [OlderError; 6] = [
        read(len, &file[..30]),
        read(3, b"abc"),
        read(len, &with(8, 1)),
        read(len + 1, &file),
        read(many * 16 + 28, &[&file[..12], &many.to_le_bytes()].concat()),
        read(len, &with(25, 1)),
    ];
    assert_eq!(names(reached), variants("OlderError"));
}

#[derive(Debug)]
struct Unread;

impl io::Read for Unread {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("no"))
    }
}

#[test]
fn every_error_of_a_log_of_names_is_reached() {
    let head = Log::head("now", 1);
    let many: Vec<u8> = (0..100_u64).flat_map(|n| [&[1][..], &n.to_le_bytes()].concat()).collect();
    let recall = |bytes: &[u8], most| Owners::new(0, most).recall_log(&head, bytes).unwrap_err();
    let unreadable = Owners::new(0, 1 << 20).recall_log(&head, Unread).unwrap_err();
    let reached: [LogError; 3] =
        [unreadable, recall(&head[1..], 1 << 20), recall(&[&head[..], &many].concat(), 0)];
    assert_eq!(names(reached), variants("LogError"));
}

impl io::Seek for Unread {
    fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn every_error_of_what_a_job_keeps_is_reached() {
    let head = Head::new("now", 1, 2);
    let read = |bytes: Vec<u8>| {
        let mut reader = Reader::new(io::Cursor::new(bytes), &head)?;
        while reader.next_told()?.is_some() {}
        Ok::<_, DigestsError>(())
    };
    let foreign = read(Head::new("then", 1, 2).encode()).unwrap_err();
    let damaged = read([head.encode(), b"?0000".to_vec()].concat()).unwrap_err();
    let reached = [Reader::new(Unread, &head).unwrap_err(), foreign, damaged];
    assert_eq!(names(reached), variants("DigestsError"));
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

/// That of our stream, and another.
pub(crate) const HISTORY: [&str; 2] =
    ["3261b7e84fa23a4a39767bea41d5c09eb3555bc0", "ffffffffffffffffffffffffffffffffffffffff"];

/// How a key is not read from a server that says this in its `INFO`.
async fn fetch_fails(host: &str, info: &str, dump: Says) -> FetchError {
    let info = info.to_owned();
    let net = net(move |_, name| match name {
        "INFO" => bulk(&info),
        "TYPE" => line("+string"),
        "STRLEN" => line(":1"),
        "TIME" => line("*2\r\n$10\r\n1700000000\r\n$1\r\n0"),
        "PTTL" => line(":-1"),
        "DUMP" => dump.clone(),
        _ => Usual,
    });
    let limits = Limits { largest: 1 << 20, room: 1 << 20 };
    let of = ReplId::parse(HISTORY[0].as_bytes()).unwrap();
    Fetcher::new(net, server(host), limits).fetch(Db::default(), &[b"k"], &of).await.unwrap_err()
}

#[test]
fn every_error_of_a_fetch_is_reached() {
    let at = "master_repl_offset:7\r\nrepl_backlog_active";
    let reached = block_on(async {
        [
            fetch_fails("nobody", "", Usual).await,
            fetch_fails("server", &format!("{at}:0"), bulk("dump")).await,
            fetch_fails("server", &format!("master_replid:{}\r\n{at}:1", HISTORY[1]), bulk("dump"))
                .await,
            fetch_fails(
                "server",
                &format!("master_replid:{}\r\n{at}:1", HISTORY[0]),
                line("-NOPERM"),
            )
            .await,
        ]
    });
    assert_eq!(names(reached), variants("FetchError"));
}
