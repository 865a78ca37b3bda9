//! Every kind of error that ends a whole run, which tells it in words: between files and servers in memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use understudy::flow::{self, Order, Rereads, SourceReport, migrate};
use understudy::net::Net;
use understudy::plan::{
    Facts, Job, OnConflict, OnDeadlines, OnFlush, OnUnknown, Place, Plan, Rate, Rules, ServerFacts,
    Source, Spool, SpoolFacts, Until,
};
use understudy::position::{self, Phase, Record, Spot};
use understudy::progress::Counters;
use understudy::repl::{Latin1, Method};
use understudy::server::Server;

use crate::formats::{EMPTY, FULLRESYNC, redis, renaming};
use crate::links::{HISTORY, SIDECAR, block_on, capture, only, record};
use crate::peers::Says::{self, Last, On, Usual};
use crate::peers::{Kept, bulk, line, net, net_keeping, place, server, shard};
use crate::{declared, variants};

/// Whether a text is a message of this form, or the beginning of one: what stands between braces is anything.
fn is_said_by(form: &str, text: &str) -> bool {
    let mut rest = text;
    form.split('{').map(|part| part.rsplit('}').next().unwrap_or(part)).enumerate().all(
        |(number, literal)| match rest.find(literal) {
            Some(at) if number > 0 || at == 0 => {
                rest = &rest[at + literal.len()..];
                true
            }
            _ => false,
        },
    )
}

/// Holds that these are all variants of an enum of errors, each with what was said when it was reached.
fn assert_said(name: &str, reached: &[(&str, String)]) {
    let declared = declared(name);
    for (variant, said) in reached {
        let before = &declared[*variant];
        // A transparent one has no words of its own.
        if !before.contains("error(transparent)") {
            let (_, form) = before.split_once("error(").unwrap();
            let form = form.trim_start().strip_prefix('"').unwrap();
            let (form, _) = form.split_once('"').unwrap();
            assert!(is_said_by(form, said), "{name}::{variant}: {said}");
        }
        println!("{name}::{variant}: {said}");
    }
    let reached: BTreeSet<String> =
        reached.iter().map(|(variant, _)| (*variant).to_owned()).collect();
    assert_eq!(reached, variants(name));
}

pub(crate) fn plan(sources: Vec<Place>, target: Place) -> Plan {
    let source = |place| Source { name: "source".to_owned(), place, rules: Rules::default() };
    Plan {
        sources: sources.into_iter().map(source).collect(),
        target,
        until: Until::CaughtUp,
        on_conflict: None,
        on_flush: Some(OnFlush::Apply),
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
    }
}

/// The reports of a run into this server, or into a file.
pub(crate) async fn run(net: &Net, plan: &Plan, target: Option<Server>) -> Vec<SourceReport> {
    run_with(net, plan, target, Facts::default()).await
}

/// The same, where more is known.
async fn run_with(
    net: &Net,
    plan: &Plan,
    target: Option<Server>,
    facts: Facts,
) -> Vec<SourceReport> {
    let counters: Vec<_> = plan.sources.iter().map(|_| Arc::new(Counters::default())).collect();
    let target = ServerFacts { server: target, ..ServerFacts::default() };
    let sources = plan.sources.iter().map(|_| None).collect();
    let (_keep, stop) = watch::channel(Order::Go);
    let facts = Facts { sources, target: Some(target), ..facts };
    migrate(net, plan, &facts, &counters, &stop, &Rereads::new(counters.len())).await.sources
}

/// No run takes longer, on its own clock.
const LONGEST: Duration = Duration::from_secs(20_000);

/// What a run says that fails.
async fn failure(net: &Net, plan: &Plan, target: Server) -> String {
    let reports = timeout(LONGEST, run(net, plan, Some(target))).await;
    let reports = reports.unwrap_or_else(|_| panic!("the run hangs: {plan:?}"));
    let failed = reports.into_iter().find_map(|report| report.failure);
    failed.unwrap_or_else(|| panic!("the run has not failed")).0
}

/// An RDB file of Redis 7 with these records.
fn rdb(records: &[u8]) -> Vec<u8> {
    [b"REDIS0010", records, b"\xff\0\0\0\0\0\0\0\0"].concat()
}

const LIBRARY: &[u8] = b"\xf5\x12#!lua name=lib\nOne";
const OTHER: &[u8] = b"\xf5\x12#!lua name=lib\nTwo";
const KEY: &[u8] = b"\x00\x01k\x01v";
const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
/// Two strings, which `^user:=u:` would make one.
const SAME: &[u8] = b"\x00\x06user:1\x01v\x00\x03u:1\x01v";
/// A hash of one field, and a stream of none.
const HASH: &[u8] = b"\x04\x01h\x01\x01f\x01v";
const STREAM: &[u8] = b"\x0f\x01s\x00\x00\x00\x00\x00";

pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn rdb(&self, name: &str, records: &[u8]) -> Place {
        let path = self.file(name);
        fs::write(&path, rdb(records)).unwrap();
        Place::Rdb(path)
    }

    /// A capture of a master without keys that sends this.
    fn stream(&self, name: &str, commands: &[u8]) -> Place {
        capture(self.0.path(), name, &[FULLRESYNC, b"$18\r\n", EMPTY, commands], SIDECAR)
    }
}

/// A master that begins its copy, and no more.
fn dies(_: &str, name: &str) -> Says {
    match name {
        "PSYNC" => Last([FULLRESYNC, b"$99\r\n", &rdb(KEY)[..14]].concat()),
        _ => Usual,
    }
}

/// A master whose disk is full.
fn cannot_save(host: &str, name: &str) -> Says {
    match (host, name) {
        ("source", "PSYNC") => Last(FULLRESYNC.to_vec()),
        ("source", "INFO") => bulk("rdb_last_bgsave_status:err"),
        _ => Usual,
    }
}

/// A master that is lost behind its copy, and then has another history.
fn forgets() -> Net {
    net(|host, name| match (host, name) {
        ("source", "PSYNC") => Last([FULLRESYNC, b"$18\r\n", EMPTY].concat()),
        // It is far ahead of what it has sent.
        ("source", "INFO") => bulk("master_repl_offset:9999"),
        _ => Usual,
    })
}

/// A master that is lost behind its copy, and then closes every connection.
fn goes_away() -> Net {
    let asked = AtomicU64::new(0);
    net(move |host, name| match (host, name) {
        ("source", "PSYNC") if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            Last([FULLRESYNC, b"$18\r\n", EMPTY].concat())
        }
        ("source", "PSYNC") => Last(Vec::new()),
        ("source", "INFO") => bulk("master_repl_offset:9999"),
        _ => Usual,
    })
}

/// One that knows SYNC only, and is lost behind its copy.
fn old(host: &str, name: &str) -> Says {
    match (host, name) {
        ("source", "PSYNC") => line("-ERR unknown command 'PSYNC'"),
        ("source", "SYNC") => Last([&b"$18\r\n"[..], EMPTY].concat()),
        _ => Usual,
    }
}

#[test]
fn every_error_of_a_lane_is_reached() {
    let desk = Desk::new();
    let (key, hash) = (desk.rdb("key", KEY), desk.rdb("hash", HASH));
    let set = desk.stream("set", SET);
    let key_of_another = desk.rdb("another", b"\x00\x03own\x01v");
    let unknown = desk.stream("unknown", b"*1\r\n$3\r\nPUT\r\n");
    let same = desk.rdb("same", SAME);
    fs::write(desk.file("damaged"), b"no magic!").unwrap();
    let new = redis(7, 0);
    let quiet = || net(|_, _| Usual);
    let into = |host, from: Place| plan(vec![from], place(host));
    let at_target = |from: &Place| into("target", from.clone());
    let said = block_on(async {
        let copied =
            |from: Place, server| async move { failure(&quiet(), &at_target(&from), server).await };
        [
            ("Source", copied(Place::Rdb(desk.file("damaged")), new).await),
            ("Target", failure(&quiet(), &into("nobody", key.clone()), new).await),
            ("Copy", copied(desk.rdb("stream", STREAM), redis(2, 8)).await),
            ("Functions", copied(desk.rdb("library", LIBRARY), redis(6, 2)).await),
            ("Stream", copied(unknown, new).await),
            ("Name", {
                let mut plan = at_target(&same);
                plan.sources[0].rules = renaming("^user:=u:").unwrap();
                failure(&quiet(), &plan, new).await
            }),
            ("Forbidden", {
                let net = net(only("SET", line("-NOPERM this user may not")));
                failure(&net, &at_target(&set), new).await
            }),
            ("Diverged", {
                let net = net(only("SET", line("-WRONGTYPE it is a list")));
                failure(&net, &at_target(&set), new).await
            }),
            ("Conflict", {
                let two = plan(vec![key.clone(), key.clone()], place("target"));
                failure(&net(only("SET", line("$-1"))), &two, new).await
            }),
            ("Unreadable", {
                let net = net(only("RESTORE", line("-ERR Bad data format")));
                failure(&net, &at_target(&hash), new).await
            }),
            ("Refused", {
                let net = net(only("SET", line("-OOM command not allowed")));
                failure(&net, &at_target(&key), new).await
            }),
            ("CopyCut", failure(&net(dies), &at_target(&place("source")), new).await),
            ("Unsaved", failure(&net(cannot_save), &at_target(&place("source")), new).await),
            ("NoOffsets", failure(&net(old), &at_target(&place("source")), new).await),
            ("GivenUp", failure(&goes_away(), &at_target(&place("source")), new).await),
            ("Late", {
                // As if it stood still for more than a day before each answer.
                let day = AtomicU64::new(90_000);
                let sleeps = move |_: &str, name: &str| match name {
                    "TIME" => {
                        let now = day.fetch_add(1, Ordering::Relaxed) * 100_000;
                        line(&format!("*2\r\n$10\r\n{now}\r\n$1\r\n0"))
                    }
                    _ => Usual,
                };
                failure(&net(sleeps), &at_target(&set), new).await
            }),
            ("Record", goes_on(b"no record", |_, _| Usual).await),
            ("Contested", {
                // More than fit of keys that both bring, with long names.
                let key = |n: u16| {
                    [&b"\x00\x4b\xb8"[..], &n.to_be_bytes(), &[b'k'; 2998], b"\x01v"].concat()
                };
                let keys: Vec<u8> = (0..200).flat_map(key).collect();
                both(&desk.rdb("long", &keys), &desk.rdb("long too", &keys)).await
            }),
            ("Names", {
                let key = |n: u16| [&b"\x00\x02"[..], &n.to_be_bytes(), b"\x01v"].concat();
                let many = desk.rdb("many", &(0..2000).flat_map(key).collect::<Vec<_>>());
                let two = two(&many, &key_of_another);
                failure(&quiet(), &Plan { memory: 4096, ..two }, new).await
            }),
            ("Rival", both(&key, &key).await),
            ("Emptied", {
                let flush = desk.stream("flush", b"*1\r\n$8\r\nFLUSHALL\r\n");
                failure(&quiet(), &two(&flush, &key), new).await
            }),
            ("Fetch", goes_on(&in_doubt(1).encode(), source(line("-NOPERM may not"))).await),
            ("MovedAway", moves("100-16383\nbb other:6379 master - 0 0 2 connected 0-99").await),
            ("MovedBefore", moves("0-16383 [7->-bb]").await),
            ("Outgrown", outgrown(&desk, new).await),
            ("Write", unwritten(&desk.file("no folder/capture.bin")).await),
            ("Control", unwalked(&desk).await),
        ]
    });
    let names = {
        // A folder stands where the log would.
        fs::create_dir(desk.file("names")).unwrap();
        let folder = Some(desk.0.path().to_owned());
        let two = two(&key, &key_of_another);
        let two = Plan { job: Job { folder, ..Job::default() }, ..two };
        block_on(async { failure(&quiet(), &two, new).await })
    };
    let many = said.iter().find(|(variant, _)| *variant == "Names").unwrap().1.clone();
    let unnoted = |said: String| said.split_once(": ").unwrap().1.to_owned();
    assert_said("NoteError", &[("TooMany", unnoted(many)), ("Write", unnoted(names))]);
    let told = taken_up_again();
    let again = |variant: &'static str, words: &str| {
        let said = told.lines().find_map(|line| line.split_once(words));
        let said = said.unwrap_or_else(|| panic!("{words}: {told}")).1;
        (variant, format!("{words}{said}"))
    };
    let said: Vec<_> = said
        .into_iter()
        .chain([
            again("Overrun", "the master no longer has what came after"),
            again("Strayed", "the target does not hold what was sent last"),
            again("Asked", "the source cannot be asked for the keys"),
            again("Doubts", "more keys are in doubt than fit into memory"),
            again("TooLarge", "db 0: key "),
        ])
        .collect();
    assert_said("LaneError", &said);
}

/// What a run says whose source is a part of a cluster: its master tells these slots, and begins anew after a while.
async fn moves(slots: &str) -> String {
    let nodes = format!("aa source:6379 myself,master - 0 0 1 connected {slots}\n");
    let network = net(move |host, name| match (host, name) {
        ("source", "CLUSTER") => bulk(&nodes),
        ("source", "ROLE") => line("*1\r\n$6\r\nmaster"),
        ("source", "PSYNC") => On([FULLRESYNC, b"$18\r\n", EMPTY].concat()),
        // It is ahead of what it has sent.
        ("source", "INFO") => bulk("master_repl_offset:9999"),
        _ => Usual,
    });
    let plan = plan(vec![Place::Server(shard("source"))], place("target"));
    failure(&network, &plan, redis(7, 0)).await
}

/// A run whose source is cut off in the midst of its copy, each time, over a spool that holds nothing.
async fn outgrown(desk: &Desk, target: Server) -> String {
    let value = [b'v'; 1000];
    let key = |n: u16| [&b"\x00\x02"[..], &n.to_be_bytes(), b"\x43\xe8", &value].concat();
    let records: Vec<u8> = (0..2000).flat_map(key).collect();
    let said = [FULLRESYNC, b"$9999999\r\n", b"REDIS0010", &records].concat();
    let net = net(move |host, name| match (host, name) {
        ("source", "PSYNC") => Last(said.clone()),
        _ => Usual,
    });
    let limit_rate = Some(Rate::Keys(500));
    let spool = Spool { folder: Some(desk.0.path().to_owned()), named: false, limit: Some(1) };
    let plan = Plan { limit_rate, spool, ..plan(vec![place("source")], place("target")) };
    let facts = Facts { spool: Some(SpoolFacts::default()), ..Facts::default() };
    let reports = timeout(LONGEST, run_with(&net, &plan, Some(target), facts)).await;
    reports.unwrap().into_iter().find_map(|report| report.failure).unwrap().0
}

/// A plan of two sources.
fn two(one: &Place, other: &Place) -> Plan {
    let mut two = plan(vec![one.clone(), other.clone()], place("target"));
    "other".clone_into(&mut two.sources[1].name);
    two
}

/// What a run says in the end of two files whose keys replace each other.
async fn both(one: &Place, other: &Place) -> String {
    let two = Plan { on_conflict: Some(OnConflict::Replace), ..two(one, other) };
    failure(&net(|_, _| Usual), &two, redis(7, 0)).await
}

/// A record with so many keys in doubt, of long names.
fn in_doubt(keys: u32) -> Record {
    let name = |n| Latin1(format!("{n:0>300}").into_bytes());
    Record { doubts: (0..keys).map(|n| (0, name(n))).collect(), ..record_of(Phase::Following) }
}

fn record_of(phase: Phase) -> Record {
    let spot = Spot { offset: 7, db: 0 };
    Record { phase, clean: spot, applied: spot, ..record() }
}

/// A source that goes on with its stream, and answers `DUMP` so.
fn source(dump: Says) -> impl Fn(&str, &str) -> Says + Clone + Send + Sync + 'static {
    move |host, name| match (host, name) {
        ("source", "PSYNC") => On(b"+CONTINUE\r\n".to_vec()),
        ("source", "INFO") => bulk(&format!(
            "master_replid:{}\r\nmaster_repl_offset:7\r\nrepl_backlog_active:1",
            HISTORY[0]
        )),
        ("source", "TYPE") => line("+string"),
        ("source", "STRLEN") => line(":1"),
        ("source", "PTTL") => line(":-1"),
        ("source", "OBJECT") => line("$3\r\nraw"),
        ("source", "DUMP") => dump.clone(),
        _ => Usual,
    }
}

/// What a run says in the end that finds this record.
async fn goes_on(
    stored: &[u8],
    says: impl Fn(&str, &str) -> Says + Send + Sync + 'static,
) -> String {
    let kept = Kept::default();
    kept.lock().unwrap().insert(position::key("", "source"), stored.to_vec());
    let network = net_keeping(kept, says);
    let plan = plan(vec![place("source")], place("target"));
    failure(&network, &plan, redis(7, 0)).await
}

/// What is logged of runs that are taken up again where their records say, and of such as copy anew: for a while, since none of them comes to
/// an end.
fn taken_up_again() -> String {
    let desk = Desk::new();
    let log = Arc::new(fs::File::create(desk.file("log")).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(log).with_ansi(false).finish();
    let _logs = tracing::subscriber::set_default(subscriber);
    block_on(async {
        let a_while = Duration::from_secs(30);
        let plan = |from: &Place| plan(vec![from.clone()], place("target"));
        // Somebody else writes the record each time.
        let kept = Kept::default();
        let meddles = Arc::clone(&kept);
        let strays = net_keeping(Arc::clone(&kept), move |_, name| {
            if name == "WATCH" {
                meddles.lock().unwrap().clear();
            }
            Usual
        });
        let set = desk.stream("set", &SET.repeat(2));
        let _ = timeout(a_while, run(&strays, &plan(&set), Some(redis(7, 0)))).await;
        let from = place("source");
        let _ = timeout(a_while, run(&forgets(), &plan(&from), Some(redis(7, 0)))).await;
        for (stored, says) in [
            (record_of(Phase::Following), "unknown"),
            (in_doubt(1000), "many"),
            (in_doubt(1), "large"),
        ] {
            let usual = source(line("$4\r\ndump"));
            let kept = Kept::default();
            kept.lock().unwrap().insert(position::key("", "source"), stored.encode());
            let network = net_keeping(kept, move |host, name| match (host, name, says) {
                ("source", "PSYNC", "unknown") => {
                    On([&b"+CONTINUE\r\n"[..], b"*2\r\n$3\r\nPUT\r\n$1\r\nk\r\n"].concat())
                }
                ("source", "COMMAND", _) => Last(Vec::new()),
                ("source", "STRLEN", "large") => line(":99999999"),
                _ => usual(host, name),
            });
            let _ = timeout(a_while, run(&network, &plan(&from), Some(redis(7, 0)))).await;
        }
    });
    fs::read_to_string(desk.file("log")).unwrap()
}

/// What a recording says that cannot be written.
async fn unwritten(file: &Path) -> String {
    let from = server("source");
    let (file, until) = (file.to_owned(), Until::CaughtUp);
    let what = flow::Record { from, server: None, file, force: false, until, lasting: None };
    let (_keep, stop) = watch::channel(Order::Go);
    let master = net(|_, name| match name {
        "PSYNC" => On([FULLRESYNC, b"$18\r\n", EMPTY].concat()),
        _ => Usual,
    });
    flow::record(&master, &what, &stop).await.failure.unwrap().0
}

/// What a run says that holds back more deadlines than it has kept names of, where the target does not tell its keys.
async fn unwalked(desk: &Desk) -> String {
    let network = net(only("INFO", line("-NOPERM this user may not")));
    // A minute after what the target's clock says.
    let soon = 1_700_000_060_000_u64.to_le_bytes();
    let record = |n: u32| {
        let key = format!("{n:016383}");
        // A length of fourteen bits, and an empty value.
        [b"\xfc", &soon[..], b"\x00\x7f\xff", key.as_bytes(), b"\x00"].concat()
    };
    let records: Vec<u8> = (0..20).flat_map(record).collect();
    let plan = plan(vec![desk.rdb("soon", &records)], place("target"));
    failure(&network, &plan, redis(7, 0)).await
}

/// What is logged of a master that is asked for a deadline and is written to all the while.
pub(crate) fn unsettled() -> String {
    let desk = Desk::new();
    let log = Arc::new(fs::File::create(desk.file("log")).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(log).finish();
    let _logs = tracing::subscriber::set_default(subscriber);
    let offset = AtomicU64::new(7);
    let expire = b"*3\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$3\r\n100\r\n";
    let network = net(move |host, name| match (host, name) {
        ("source", "PSYNC") => On([FULLRESYNC, b"$18\r\n", EMPTY, expire].concat()),
        ("source", "INFO") => {
            let offset = offset.fetch_add(1, Ordering::Relaxed);
            bulk(&format!("db0:keys=1\r\nmaster_repl_offset:{offset}"))
        }
        ("source", "SCAN") => line("*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk"),
        ("target", "EVAL") => line(":0"),
        ("source", "TIME") => line("*2\r\n$10\r\n1700000000\r\n$1\r\n0"),
        ("source", "PTTL") => line(":100000"),
        ("target", "EXPIRE" | "PEXPIREAT") => line(":1"),
        _ => Usual,
    });
    let plan = plan(vec![place("source")], place("target"));
    let reports = block_on(run(&network, &plan, Some(redis(7, 0))));
    assert_eq!(reports[0].unproven, 1, "{reports:?}");
    fs::read_to_string(desk.file("log")).unwrap()
}

#[test]
fn every_error_of_a_run_into_a_file_is_reached() {
    let desk = Desk::new();
    let (key, library) = (desk.rdb("key", KEY), desk.rdb("library", LIBRARY));
    let (other, stream) = (desk.rdb("other", OTHER), desk.rdb("stream", STREAM));
    let same = desk.rdb("same", SAME);
    fs::write(desk.file("damaged"), b"no magic!").unwrap();
    let made = |sources: &[&Place], reader: Option<Server>, memory| {
        let target = Place::Rdb(desk.file("made"));
        let plan = Plan {
            written_for: reader,
            memory,
            ..plan(sources.iter().map(|&place| place.clone()).collect(), target)
        };
        async move { failure(&net(dies), &plan, redis(7, 0)).await }
    };
    let (enough, new) = (1 << 20, Some(redis(7, 0)));
    let said = block_on(async {
        [
            ("Source", made(&[&Place::Rdb(desk.file("damaged"))], new, enough).await),
            ("CopyCut", made(&[&place("source")], new, enough).await),
            ("File", {
                let plan = plan(vec![key.clone()], Place::Rdb(desk.file("other")));
                failure(&net(dies), &plan, redis(7, 0)).await
            }),
            ("Reader", made(&[&key], Some(redis(2, 4)), enough).await),
            ("Record", made(&[&stream], Some(redis(2, 8)), enough).await),
            ("Function", made(&[&library], Some(redis(6, 2)), enough).await),
            ("Collision", made(&[&key, &key], new, enough).await),
            ("FunctionCollision", made(&[&library, &other], new, enough).await),
            ("Memory", made(&[&key, &stream], new, 128).await),
            ("Name", {
                let mut plan = plan(vec![same], Place::Rdb(desk.file("renamed")));
                plan.sources[0].rules = renaming("^user:=u:").unwrap();
                failure(&net(dies), &plan, redis(7, 0)).await
            }),
        ]
    });
    assert_said("IntoFileError", &said);
}
