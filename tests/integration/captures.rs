//! `record`, and captures and `.rdb` files as sources: what is kept, what is played again, and what is refused.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::asking;
use crate::client::{Client, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::load::{self, Load};
use crate::recorded;
use crate::replicas;
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(20);

fn run(args: &[&str]) -> Ended {
    Understudy::start(args).wait(PATIENCE)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sidecar(capture: &Path) -> Json {
    serde_json::from_slice(&fs::read(capture.with_extension("json")).unwrap()).unwrap()
}

fn play(capture: &Path, target: &Server) -> Ended {
    run(&["sync", "--once", "--from", text(capture), "--to", &target.url()])
}

/// Waits until the master has heard from its one replica that it has all but the last byte.
fn acknowledged(master: &mut Client) -> u64 {
    let mut offset: u64 = 0;
    asking::until("all but the last byte is acknowledged", PATIENCE, || {
        offset = master.info("replication", "master_repl_offset").parse().unwrap();
        let replica = master.info("replication", "slave0");
        let told = replica.split(',').find_map(|field| field.strip_prefix("offset="));
        told.and_then(|told| told.parse().ok()) == Some(offset - 1)
    });
    offset
}

/// A data set, 4,000 writes while it is copied and after, a link that is cut meanwhile; then the capture is played to another server.
fn is_kept(name: &'static str) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("kept.bin");
    let mut writer = source.client();
    let holds = Holds::of(&mut writer);
    data::fill(&mut writer, source.version, holds);
    let mut load = Load::new(5, source.version, holds);
    load.send(&mut writer, 500);
    load::slow_copies(&mut writer);

    let mut running =
        Understudy::start(&["record", "--from", &source.url(), "--out", text(&capture)]);
    load.flush_soon();
    let during = load.send_during_copy(&mut writer, 2000);
    acknowledged(&mut writer);
    let first = sidecar(&capture);
    let within = during.within(first["start_offset"].as_u64().unwrap());
    assert!(within > 0, "{within} writes up to offset {}", during.unfinished);
    assert_eq!(first["total_bytes"], Json::Null, "it goes on");
    assert_eq!(first["replid"].as_str().map(str::len), Some(40));
    writer.call(cmd!("CLIENT", "KILL", "TYPE", "slave"));
    let after = load.send(&mut writer, 2000);
    load.end(&mut writer);
    assert_eq!([during.sent.refused, after.refused].concat(), Vec::<String>::new());
    let end = acknowledged(&mut writer);
    let wanted = Dump::read(&mut writer);

    running.interrupt();
    let ended = running.wait(PATIENCE);
    ended.assert_code(130);
    assert!(ended.stderr.contains("the source is lost"), "the cut was noticed: {}", ended.stderr);
    let last = sidecar(&capture);
    let size = fs::metadata(&capture).unwrap().len();
    assert_eq!(last["total_bytes"], size);
    assert!(last["end_offset"].as_u64().unwrap() >= end, "{} {end}", last["end_offset"]);
    assert_eq!(last["incomplete_tail_bytes"], 0);
    assert_eq!(last["server"], *name);
    assert!(last["recorded_to_ms"].as_i64() > last["recorded_from_ms"].as_i64());
    assert_eq!(
        last["stream_start"].as_u64().unwrap() + last["end_offset"].as_u64().unwrap(),
        size + last["start_offset"].as_u64().unwrap()
    );

    play(&capture, &target).assert_code(0);
    let found = Dump::read(&mut target.client());
    judge::assert_same(&wanted, &found, replicas::untold(&source), name);
}

#[test]
fn redis_5_0_is_kept() {
    is_kept("redis-5.0.6");
}

#[test]
fn redis_6_2_is_kept() {
    is_kept("redis-6.2.14");
}

#[test]
fn redis_7_0_is_kept() {
    is_kept("redis-7.0.15");
}

#[test]
fn redis_8_0_is_kept() {
    is_kept("redis-8.0.6");
}

#[test]
fn valkey_9_1_is_kept() {
    is_kept("valkey-9.1.2");
}

/// Until caught up: what the master had said when its data set was there is in the capture.
#[test]
fn a_recording_ends_when_it_has_caught_up() {
    for name in ["redis-2.8.17", "redis-7.0.15"] {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("once.bin");
        let mut writer = source.client();
        let holds = Holds::of(&mut writer);
        data::fill(&mut writer, source.version, holds);
        load::slow_copies(&mut writer);
        let running = Understudy::start(&[
            "record",
            "--once",
            "--from",
            &source.url(),
            "--out",
            text(&capture),
        ]);
        let mut load = Load::new(9, source.version, holds);
        let during = load.send_during_copy(&mut writer, 2000);
        let ended = running.wait(PATIENCE);
        ended.assert_code(0);
        assert!(
            ended.stdout.contains(&format!("up to offset {}", sidecar(&capture)["end_offset"]))
        );
        // What was written during the copy is there.
        let (start, end) = (&sidecar(&capture)["start_offset"], &sidecar(&capture)["end_offset"]);
        assert!(during.within(start.as_u64().unwrap()) > 0, "{start} {}", during.unfinished);
        assert!(end.as_u64().unwrap() >= during.unfinished, "{end} {}", during.unfinished);
        play(&capture, &target).assert_code(0);
        let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
        judge::assert_same(&first, &second, replicas::untold(&source), name);
    }
}

#[test]
fn a_recording_ends_after_its_time() {
    let Some(source) = Server::start("redis-7.0.15") else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("timed.bin");
    let begun = Instant::now();
    let ended = run(&["record", "--for", "1s", "--from", &source.url(), "--out", text(&capture)]);
    ended.assert_code(0);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(sidecar(&capture)["stream_bytes"], 0);
}

/// A recorder that is killed leaves a capture that can be played up to where it was written.
#[test]
fn a_killed_recorder_leaves_a_capture() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("killed.bin");
    let mut writer = source.client();
    writer.call(cmd!("SET", "before", "1"));
    let running = Understudy::start(&["record", "--from", &source.url(), "--out", text(&capture)]);
    let until = Instant::now() + PATIENCE;
    while writer.info("replication", "connected_slaves") != "1" {
        assert!(Instant::now() < until);
    }
    writer.call(cmd!("SET", "after", "1"));
    acknowledged(&mut writer);
    drop(running);
    assert_eq!(sidecar(&capture)["total_bytes"], Json::Null);
    play(&capture, &target).assert_code(0);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), "killed");
    assert_eq!(second.len(), 2);
}

/// A master that is not ready twice, and then gives an empty data set. It ends with the test.
fn slow_to_be_ready() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let refusals = ["-NOMASTERLINK not yet\r\n", "-LOADING the dataset in memory\r\n"];
    let refusals = Arc::new(Mutex::new(Vec::from(refusals)));
    thread::spawn(move || {
        for link in listener.incoming() {
            let (link, refusals) = (link.unwrap(), Arc::clone(&refusals));
            thread::spawn(move || answer_slowly(link, &refusals));
        }
    });
    port
}

fn answer_slowly(mut link: TcpStream, refusals: &Mutex<Vec<&str>>) {
    let mut said = [0; 1000];
    while let Ok(count @ 1..) = link.read(&mut said) {
        let said = String::from_utf8_lossy(&said[..count]).to_ascii_uppercase();
        let refusal = || refusals.lock().unwrap().pop();
        let answer = if said.contains("$5\r\nPSYNC") {
            refusal().map_or_else(
                || {
                    let head = format!("+FULLRESYNC {} 7\r\n$18\r\n", "a".repeat(40));
                    [head.as_bytes(), b"REDIS0006\xff\0\0\0\0\0\0\0\0"].concat()
                },
                |refusal| refusal.as_bytes().to_vec(),
            )
        } else if said.contains("INFO") {
            let info = "role:master\r\nmaster_repl_offset:7\r\n";
            format!("${}\r\n{info}\r\n", info.len()).into_bytes()
        } else if said.contains("$3\r\nACK") {
            continue;
        } else {
            b"+OK\r\n".to_vec()
        };
        link.write_all(&answer).unwrap();
    }
}

#[test]
fn a_master_that_is_not_ready_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("late.bin");
    let from = format!("redis://127.0.0.1:{}", slow_to_be_ready());
    let ended = run(&["record", "--for", "100ms", "--from", &from, "--out", text(&capture)]);
    ended.assert_code(0);
    assert!(ended.stderr.contains("LOADING") && ended.stderr.contains("NOMASTERLINK"));
    let sidecar = sidecar(&capture);
    assert_eq!((&sidecar["start_offset"], &sidecar["rdb_start"]), (&json!(7), &json!(61)));
    assert_eq!(fs::metadata(&capture).unwrap().len(), 61 + 18);

    let Some(target) = Server::start("redis-7.0.15") else { return };
    let from = format!("redis://127.0.0.1:{}", slow_to_be_ready());
    let ended = run(&["sync", "--once", "--from", &from, "--to", &target.url()]);
    ended.assert_code(0);
    assert!(ended.stderr.contains("LOADING") && ended.stderr.contains("NOMASTERLINK"));
}

#[test]
fn no_file_is_written_over_unless_asked() {
    let Some(source) = Server::start("redis-7.0.15") else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("there.bin");
    let record = |rest: &[&str]| {
        let url = source.url();
        run(&[&["record", "--once", "--from", &url, "--out", text(&capture)], rest].concat())
    };
    for there in ["bin", "json"] {
        let path = capture.with_extension(there);
        fs::write(&path, "precious").unwrap();
        let ended = record(&[]);
        ended.assert_code(2);
        assert!(ended.stderr.contains("--force"), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(path).unwrap();
    }
    fs::write(&capture, "precious").unwrap();
    record(&["--force"]).assert_code(0);
    assert_eq!(sidecar(&capture)["total_bytes"], fs::metadata(&capture).unwrap().len());

    // What cannot be asked for data leaves the old file alone.
    let nobody = "redis://127.0.0.1:1";
    let before = fs::read(&capture).unwrap();
    run(&["record", "--once", "--force", "--from", nobody, "--out", text(&capture)]).assert_code(2);
    assert_eq!(fs::read(&capture).unwrap(), before);

    let odd = folder.path().join("odd.dump");
    run(&["record", "--once", "--from", &source.url(), "--out", text(&odd)]).assert_code(2);
    run(&["record", "--once", "--from", text(&capture), "--out", "new.bin"]).assert_code(2);
    assert!(!odd.exists());
}

#[test]
fn a_password_is_in_no_capture() {
    let password = "s3cret-of-the-test";
    let Some(source) = Server::start("redis-7.0.15") else { return };
    source.client().call(cmd!("CONFIG", "SET", "requirepass", password));
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("locked.bin");
    let to = |url: &str| run(&["record", "--once", "--from", url, "--out", text(&capture)]);
    let refused = to(&source.url());
    refused.assert_code(2);
    assert!(refused.stderr.contains("UNDERSTUDY_FROM_PASSWORD"), "{}", refused.stderr);
    to(&format!("redis://:wrong@127.0.0.1:{}", source.port)).assert_code(2);
    assert!(!capture.exists() && !capture.with_extension("json").exists());

    let ended = to(&format!("redis://:{password}@127.0.0.1:{}", source.port));
    ended.assert_code(0);
    let written = [fs::read(&capture).unwrap(), fs::read(capture.with_extension("json")).unwrap()];
    let said = [ended.stdout.into_bytes(), ended.stderr.into_bytes()];
    for bytes in written.iter().chain(&said) {
        assert!(!String::from_utf8_lossy(bytes).contains(password));
    }
    assert_eq!(sidecar(&capture)["requests"][0]["sent"], "AUTH");
}

/// A disk that is full is told, with what was written before kept.
#[test]
fn a_full_disk_is_told() {
    let Some(source) = Server::start("redis-7.0.15") else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("full.bin");
    std::os::unix::fs::symlink("/dev/full", &capture).unwrap();
    let from = source.url();
    let ended = run(&["record", "--once", "--force", "--from", &from, "--out", text(&capture)]);
    ended.assert_code(3);
    assert!(ended.stderr.contains("cannot write"), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left"), "{}", ended.stderr);
}

/// A copy of a fixture that may be changed.
struct Changed {
    _folder: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    sidecar: Json,
}

impl Changed {
    fn of(name: &str) -> Self {
        let recorded::Recorded { bytes, sidecar, .. } = recorded::fixture(name);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.bin");
        Self { _folder: folder, path, bytes, sidecar }
    }

    fn write(&self) -> &Path {
        fs::write(&self.path, &self.bytes).unwrap();
        fs::write(self.path.with_extension("json"), self.sidecar.to_string()).unwrap();
        &self.path
    }
}

/// Each way in which a file can be no good: the exit code, and what is said, for `sync`, `replay --to` and `replay --listen`.
#[test]
fn what_is_wrong_with_a_file_is_told() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let mut client = target.client();
    let name = "redis-7.0.15/live-basic";
    let start =
        |field: &str| usize::try_from(recorded::fixture(name).number(field).unwrap()).unwrap();
    let (rdb_start, rdb_end) = (start("rdb_start"), start("rdb_end"));
    let mut cases: Vec<(&str, Changed, i32, &[&str])> = Vec::new();
    let mut case = |what, code, told, change: &dyn Fn(&mut Changed)| {
        let mut changed = Changed::of(name);
        change(&mut changed);
        changed.write();
        cases.push((what, changed, code, told));
    };
    case("cut in the payload", 3, &["at byte", "the file does not"], &|changed| {
        changed.bytes.truncate(1000);
        changed.sidecar["total_bytes"] = json!(1000);
    });
    case("cut before the payload", 3, &["at byte 10", "PSYNC"], &|changed| {
        changed.bytes.truncate(10);
        changed.sidecar["total_bytes"] = json!(10);
    });
    case("empty", 3, &["at byte 0"], &|changed| {
        changed.bytes.clear();
        changed.sidecar["total_bytes"] = json!(0);
    });
    case("shorter than it was", 3, &["at byte 120000", "135353"], &|changed| {
        changed.bytes.truncate(120_000);
    });
    case("a flipped bit in the payload", 3, &["at byte", "checksum"], &|changed| {
        changed.bytes[rdb_end - 12] ^= 4;
    });
    case("another format", 3, &["at byte", "not an RDB file"], &|changed| {
        changed.bytes[rdb_start] = b'X';
    });
    case("a damaged command", 3, &["at byte", "cannot be read at offset"], &|changed| {
        changed.bytes[rdb_end + 3] = b'\xff';
        changed.bytes[rdb_end] = b'*';
        changed.bytes[rdb_end + 1] = b'x';
    });
    case("a sidecar that tells nothing", 3, &["recorded_from_ms", "mend: "], &|changed| {
        changed.sidecar = json!({});
    });
    case("a newer sidecar", 2, &["version 2"], &|changed| changed.sidecar["version"] = json!(2));
    case("not answered", 3, &["at byte 0"], &|changed| {
        changed.bytes.splice(0..1, *b"?");
    });

    for (what, changed, code, told) in &cases {
        let path = text(&changed.path);
        let url = target.url();
        for args in [
            &["sync", "--once", "--from", path, "--to", &url][..],
            &["replay", path, "--to", &url],
            &["replay", path, "--listen", "127.0.0.1:0"],
        ] {
            let ended = run(args);
            assert_eq!(ended.code, Some(*code), "{what}: {args:?}: {ended:?}");
            for part in *told {
                assert!(ended.stderr.contains(part), "{what}: {part:?} in {}", ended.stderr);
            }
            if !args.contains(&"--listen") {
                client.call(cmd!("FLUSHALL"));
                client.call(cmd!("FUNCTION", "FLUSH"));
            }
        }
    }

    let changed = Changed::of(name);
    changed.write();
    let path = text(&changed.path);
    let json = changed.path.with_extension("json");
    fs::write(&json, "{\"server\": \"redis-7.0.15\", ").unwrap();
    let ended = play(&changed.path, &target);
    ended.assert_code(3);
    assert!(ended.stderr.contains("at byte 26"), "{}", ended.stderr);
    fs::remove_file(&json).unwrap();
    let ended = play(&changed.path, &target);
    ended.assert_code(2);
    assert!(ended.stderr.contains("changed.json"), "{}", ended.stderr);
    fs::remove_file(path).unwrap();
    let ended = play(&changed.path, &target);
    ended.assert_code(2);
    assert!(ended.stderr.contains("changed.bin"), "{}", ended.stderr);
    assert_eq!(Dump::read(&mut client).len(), 0, "nothing was written");
}

/// Whatever stands behind a data set without a key, the run has failed: it had begun.
#[test]
fn what_is_wrong_with_a_stream_is_told_with_its_offset() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let mut changed = Changed::of("redis-7.0.15/partial-a");
    let rdb = b"REDIS0011\xff\0\0\0\0\0\0\0\0";
    let head = format!("+FULLRESYNC {} 1000\r\n${}\r\n", "0".repeat(40), rdb.len());
    let known = "*3\r\n$3\r\nSET\r\n$5\r\nbegun\r\n$1\r\n1\r\n";
    for (stream, told) in [
        ("*1\r\nnonsense\r\n", "cannot be read at offset 1000"),
        ("*3\r\n$3\r\nSET\r\n$99999999999\r\n", "\"SET\" at offset 1000 takes"),
        (
            "*1\r\n$7\r\nUNHEARD\r\n",
            "at offset 1017: the keys of the command \"UNHEARD\" are not known",
        ),
        ("*2\r\n$6\r\nSELECT\r\n$2\r\nzz\r\n", "at offset 1024: \"SELECT\" names no database"),
        ("*1\r\n$4\r\nEXEC\r\n", "at offset 1014: \"EXEC\" stands outside of a transaction"),
        (
            "*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nMULTI\r\n",
            "at offset 1030: \"MULTI\" stands inside of a transaction",
        ),
    ] {
        for before in ["", known] {
            let offset = |text: &str| {
                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                for word in &mut words {
                    let digits = word.trim_end_matches(':').parse::<usize>();
                    if let Ok(at @ 1000..) = digits {
                        *word = word.replace(&at.to_string(), &(at + before.len()).to_string());
                    }
                }
                words.join(" ")
            };
            changed.bytes = [head.as_bytes(), rdb, before.as_bytes(), stream.as_bytes()].concat();
            changed.sidecar["total_bytes"] = json!(changed.bytes.len());
            let ended = play(changed.write(), &target);
            ended.assert_code(3);
            let told = offset(told);
            assert!(ended.stderr.contains(&told), "{told:?} in {}", ended.stderr);
            // What stands right before the fault may have waited to be sent with it.
            let there = Dump::read(&mut target.client()).len();
            assert!(there <= usize::from(!before.is_empty()), "{told}");
            target.client().call(cmd!("FLUSHALL"));
        }
    }
}

#[test]
fn a_capture_without_a_data_set_is_refused() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    for name in ["redis-7.0.15/partial-b", "redis-4.0.14/failover-b"] {
        let recorded = recorded::fixture(name);
        let path = text(&recorded.path);
        for args in [
            &["sync", "--once", "--from", path, "--to", &target.url()][..],
            &["replay", path, "--listen", "127.0.0.1:0"],
        ] {
            let ended = run(args);
            ended.assert_code(2);
            assert!(ended.stderr.contains("goes on from an earlier one"), "{}", ended.stderr);
        }
    }
    assert_eq!(Dump::read(&mut target.client()).len(), 0);
}

/// What belongs to a server and not to its data is not played, and counted by name.
#[test]
fn commands_that_are_no_data_are_counted_by_name() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let mut changed = Changed::of("redis-7.0.15/partial-a");
    let rdb = b"REDIS0011\xff\0\0\0\0\0\0\0\0";
    let head = format!("+FULLRESYNC {} 1000\r\n${}\r\n", "0".repeat(40), rdb.len());
    let mut stream = Vec::new();
    for words in [
        &["CONFIG", "SET", "maxmemory", "1"][..],
        &["SET", "key", "value"],
        &["ACL", "SETUSER", "nobody"],
        &["config", "set", "maxmemory", "1"],
        &["SHUTDOWN"],
        &["SET", "other", "value"],
    ] {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        understudy::resp::command(&mut stream, &words);
    }
    changed.bytes = [head.as_bytes(), rdb, &stream].concat();
    changed.sidecar["total_bytes"] = json!(changed.bytes.len());
    let ended = play(changed.write(), &target);
    ended.assert_code(0);
    let skipped = json!({ "acl": 1, "config": 2, "shutdown": 1 });
    assert_eq!(ended.reported("sources.0.skipped"), &skipped);
    assert_eq!(ended.reported("totals.commands"), 2);
    assert_eq!(Dump::read(&mut target.client()).len(), 2);
    let row = ended.stdout.lines().find(|line| line.contains(" capture ")).unwrap();
    assert!(
        row.split_whitespace().eq([
            changed.path.to_str().unwrap(),
            "Redis",
            "7.0.15",
            "capture",
            "1+0",
            "0",
            "0",
            "4"
        ]),
        "{row}"
    );
}

/// A stream that ends inside of a command is played up to there, and the rest is told.
#[test]
fn an_unfinished_command_is_told_and_left_out() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let recorded = recorded::fixture("redis-7.0.15/partial-a");
    let ended = play(&recorded.path, &target);
    ended.assert_code(0);
    assert!(ended.stderr.contains("ends inside of a command"), "{}", ended.stderr);
    assert_eq!(ended.reported("sources.0.bytes"), recorded.bytes.len());
    assert!(Dump::read(&mut target.client()).len() > 20);
}

/// It ends when the file does, whatever is said of forever.
#[test]
fn a_file_ends_a_sync_that_would_go_on_for_ever() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let recorded = recorded::fixture("redis-7.0.15/live-basic");
    let args =
        ["sync", "--until", "forever", "--from", text(&recorded.path), "--to", &target.url()];
    run(&args).assert_code(0);
}

/// The data set of a capture, as a file of its own: the same keys, and no stream.
#[test]
fn an_rdb_file_is_a_source() {
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.rdb");
    let recorded = recorded::fixture("redis-7.0.15/live-basic");
    let part = |field: &str| usize::try_from(recorded.number(field).unwrap()).unwrap();
    let rdb = &recorded.bytes[part("rdb_start")..part("rdb_end")];
    fs::write(&path, rdb).unwrap();
    let ended = play(&path, &target);
    ended.assert_code(0);
    assert_eq!(ended.reported("sources.0.method"), "rdb");
    assert_eq!(ended.reported("totals.keys"), &recorded.sidecar["rdb"]["keys"]);
    assert_eq!(ended.reported("totals.commands"), 0);
    // Some of them died while it was recorded.
    let mut client = target.client();
    let left = Dump::read(&mut client).len();
    assert!((12..=15).contains(&left), "{left}");

    client.call(cmd!("FLUSHALL"));
    fs::write(&path, &rdb[..rdb.len() - 20]).unwrap();
    let ended = play(&path, &target);
    ended.assert_code(3);
    assert!(ended.stderr.contains("the file does not at byte"), "{}", ended.stderr);
    client.call(cmd!("FLUSHALL"));
    // More bytes behind the end are told; the data set is whole.
    fs::write(&path, [rdb, b"trailing"].concat()).unwrap();
    let ended = play(&path, &target);
    ended.assert_code(0);
    assert!(ended.stderr.contains("behind the data set"), "{}", ended.stderr);
    let missing = folder.path().join("missing.rdb");
    play(&missing, &target).assert_code(2);
    play(folder.path().join("folder.rdb").as_path(), &target).assert_code(2);
}

/// Every file that real servers wrote and that this target can load arrives as what it holds.
#[test]
fn rdb_files_of_the_corpus_arrive() {
    let Some(files) = recorded::rdb_files(&[
        "redis-2.4.18",
        "redis-2.8.17",
        "redis-3.2.6",
        "redis-4.0.14",
        "redis-6.2.14",
        "redis-7.0.15",
    ]) else {
        return;
    };
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let mut client = target.client();
    for recorded::RdbFile { name, path, dataset } in files {
        let ended = play(&path, &target);
        ended.assert_code(0);
        let found = Dump::read(&mut client);
        let wanted = Dump::recorded(&json!({ "dataset": dataset }), found.read_by());
        assert!(wanted.len() > 0 || name.ends_with("empty"), "{name}");
        // These files name no functions beside their data.
        let differences: Vec<_> = judge::diff(&wanted, &found, Forgiving::default())
            .into_iter()
            .filter(|difference| difference.kind != judge::Kind::Function)
            .map(|difference| format!("{name}: {difference}"))
            .collect();
        assert_eq!(differences, Vec::<String>::new());
        for place in wanted.due(found.read_by()) {
            assert!(!found.holds(&place), "{name}: {place:?} was due");
        }
        client.call(cmd!("FLUSHALL"));
        client.call(cmd!("FUNCTION", "FLUSH"));
    }
}
