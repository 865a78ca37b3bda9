//! An `.rdb` file as the target: it holds what its sources held, real servers load it, and nothing is left of one that was
//! not finished.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use understudy::key::Db;
use understudy::rdb::event::{Element, Event, KeyHead, Payload};
use understudy::rdb::length::put_length;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::{Next, Reader};
use understudy::rdb::string::put_string;
use understudy::rdb::writer::Writer;
use understudy::server;

use crate::asking;
use crate::client::cmd;
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::recorded::{self, Recorded};
use crate::servers::{self, Server, note_skipped};
use crate::tool::{Ended, Understudy};

/// What one file is made from, and what is left there.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Copies some sources into `out.rdb`.
    fn sync(&self, from: &[&str], more: &[&str]) -> Ended {
        let out = self.text("out.rdb");
        let mut args = vec!["sync", "--to", &out];
        args.extend(from.iter().flat_map(|from| ["--from", from]));
        args.extend(more);
        Understudy::start(&args).wait(PATIENCE)
    }

    fn out(&self) -> Vec<u8> {
        fs::read(self.path("out.rdb")).unwrap()
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// What a file says of its keys, by database and name, and of functions and scripts.
fn content(file: &[u8]) -> BTreeMap<(u32, Vec<u8>), String> {
    let mut reader = Reader::new();
    reader.set_default_depth(Depth::Elements);
    let mut feed = file.chunks(1 << 20);
    let mut content = BTreeMap::new();
    let (mut key, mut value) = ((0, Vec::new()), String::new());
    loop {
        match reader.next().unwrap() {
            Next::Event(Event::Key(head)) => {
                key = (head.db.index(), head.key.to_vec());
                value = format!("{:?} {:?} {:?} ", head.expire_at_ms, head.idle_seconds, head.freq);
            }
            // How large the pieces are is not of the value.
            Next::Event(Event::Element(
                Element::Text { bytes, .. } | Element::Module { bytes, .. },
            )) => {
                value.push_str(&bytes.escape_ascii().to_string());
            }
            Next::Event(Event::Element(element)) => value.push_str(&format!("{element:?}")),
            Next::Event(Event::ValueEnd) => {
                let twice = content.insert(key.clone(), value.clone());
                assert_eq!(twice, None, "{key:?} is there twice");
            }
            Next::Event(Event::Function { code }) => {
                content.insert((u32::MAX, code.to_vec()), String::new());
            }
            Next::Event(Event::Aux { name: b"lua", value }) => {
                content.insert((u32::MAX - 1, value.to_vec()), String::new());
            }
            Next::Event(_) => {}
            Next::NeedMore => reader.extend(feed.next().expect("the file goes on")),
            Next::End(_) => return content,
        }
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rdb") {
            found.push(path);
        }
    }
}

fn is_itself_again(paths: &[PathBuf]) {
    for path in paths {
        let desk = Desk::new();
        let what = path.display();
        let ended = desk.sync(&[path.to_str().unwrap()], &[]);
        assert_eq!(ended.code, Some(0), "{what}: {}", ended.stderr);
        let expected = content(&fs::read(path).unwrap());
        assert_eq!(content(&desk.out()), expected, "{what}");
        let keys = expected.keys().filter(|(db, _)| *db < u32::MAX - 1).count();
        assert_eq!(*ended.reported("totals.keys"), keys, "{what}");
        assert_eq!(*ended.reported("sources.0.method"), "rdb");
        assert_eq!(desk.names(), ["out.rdb"]);
    }
}

#[test]
fn every_recorded_file_is_itself_again() {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"), &mut paths);
    match env::var_os("UNDERSTUDY_CORPUS") {
        Some(corpus) => files(&Path::new(&corpus).join("rdb"), &mut paths),
        None => note_skipped("no UNDERSTUDY_CORPUS"),
    }
    is_itself_again(&paths);
}

fn is_what_was_recorded(recorded: &Recorded) {
    let (desk, what) = (Desk::new(), &recorded.name);
    let (out, report) = (desk.text("out.rdb"), desk.text("report.json"));
    let path = recorded.path.to_str().unwrap();
    let ended =
        Understudy::start(&["replay", path, "--to", &out, "--report", &report]).wait(PATIENCE);
    assert_eq!(ended.code, Some(0), "{what}: {}", ended.stderr);
    let place = |field| usize::try_from(recorded.number(field).unwrap()).unwrap();
    let payload = &recorded.bytes[place("rdb_start")..place("rdb_end")];
    assert_eq!(content(&desk.out()), content(payload), "{what}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["outcome"], "done", "{what}");
    assert_eq!(report["totals"]["commands"], 0, "{what}: changes do not belong into it");
    if let Some(offset) = recorded.number("start_offset") {
        assert_eq!(report["sources"][0]["offset"], offset, "{what}");
    }
}

#[test]
fn a_capture_gives_the_data_set_at_its_beginning() {
    let mut all = recorded::fixtures();
    all.extend(recorded::corpus().into_iter().flatten());
    let whole: Vec<_> = all.iter().filter(|recorded| recorded.is_whole()).collect();
    assert!(whole.len() > 15);
    whole.into_iter().for_each(is_what_was_recorded);
}

/// Copies a filled server into a file for another one, which loads it.
fn is_loaded(from: &'static str, reader: &'static str) {
    let Some(target) = Server::start(reader) else { return };
    let Some(source) = Server::start(from) else { return };
    let mut client = source.client();
    let mut holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    holds.vectors &= from == reader;
    drop(target);
    data::fill(&mut client, source.version, holds);
    let (desk, what) = (Desk::new(), format!("{from} in a file for {reader}"));
    let named = reader.rsplit_once('.').unwrap().0;
    let more: &[&str] = if from == reader { &[] } else { &["--for", named] };
    let ended = desk.sync(&[&source.url()], more);
    assert_eq!(ended.code, Some(0), "{what}: {}", ended.stderr);
    assert_eq!(*ended.reported("sources.0.full_syncs"), 1, "{what}");

    let checker = servers::folder().join(reader).join("redis-check-rdb");
    // 2.8 and 3.0 have another tool, which a file of today's size makes fail.
    if !reader.starts_with("redis-2") && !reader.starts_with("redis-3.0") {
        let checked = Command::new(checker).arg(desk.path("out.rdb")).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{what}: {said}");
    }
    fs::rename(desk.path("out.rdb"), desk.path("dump.rdb")).unwrap();
    let loaded = Server::start_with(reader, &["--dir", desk.dir.path().to_str().unwrap()]).unwrap();
    let (expected, loaded) = (Dump::read(&mut client), Dump::read(&mut loaded.client()));
    judge::assert_same(&expected, &loaded, Forgiving::default(), &what);
    assert!(loaded.len() > 500, "{what}: only {} keys", loaded.len());
}

#[test]
fn every_server_loads_its_own_data_from_a_file() {
    for name in servers::ALL {
        is_loaded(name, name);
    }
}

#[test]
fn older_servers_and_those_of_the_other_family_load_what_was_made_for_them() {
    for (from, reader) in [
        ("redis-6.2.14", "redis-2.8.17"),
        ("redis-7.0.15", "redis-3.2.6"),
        ("redis-8.0.6", "redis-6.2.14"),
        ("redis-8.0.6", "valkey-9.1.2"),
        ("valkey-9.1.2", "redis-8.0.6"),
        ("valkey-9.1.2", "redict-7.3.6"),
    ] {
        is_loaded(from, reader);
    }
}

fn reader(name: &str) -> server::Server {
    server::Server::parse(name).unwrap()
}

fn head(db: u32, key: &[u8], object: ObjectType) -> KeyHead<'_> {
    let (expire_at_ms, idle_seconds, freq) = (None, None, None);
    KeyHead { db: Db::new(db), key, object, expire_at_ms, idle_seconds, freq }
}

/// A file with some strings, whose values are their owner's name.
fn strings(owner: &str, keys: &[(u32, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(reader("redis-6.0")).unwrap();
    for (db, key) in keys {
        let mut body = Vec::new();
        put_string(&mut body, owner.as_bytes());
        let object = ObjectType::String;
        writer.payload(&head(*db, key.as_bytes(), object), Payload { object, body: &body });
    }
    writer.finish()
}

fn owners(file: &[u8]) -> Vec<(u32, String, String)> {
    let value = |value: String| value.rsplit(' ').next().unwrap().to_owned();
    let text = |key| String::from_utf8(key).unwrap();
    content(file).into_iter().map(|((db, key), said)| (db, text(key), value(said))).collect()
}

#[test]
fn several_sources_become_one_file() {
    let desk = Desk::new();
    let from = [
        desk.put("a.rdb", &strings("a", &[(0, "one"), (0, "two"), (3, "one")])),
        desk.put("b.rdb", &strings("b", &[(1, "one"), (0, "three")])),
        desk.put("c.rdb", &strings("c", &[(3, "two"), (70, "one")])),
    ];
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    let ended = desk.sync(&from, &[]);
    ended.assert_code(0);
    assert_eq!(*ended.reported("totals.keys"), 7);
    assert_eq!(*ended.reported("sources.1.keys"), 2);
    let expected = [
        (0, "one", "a"),
        (0, "three", "b"),
        (0, "two", "a"),
        (1, "one", "b"),
        (3, "one", "a"),
        (3, "two", "c"),
        (70, "one", "c"),
    ];
    let expected = expected.map(|(db, key, owner)| (db, key.to_owned(), owner.to_owned()));
    assert_eq!(owners(&desk.out()), expected);
}

#[test]
fn a_key_of_two_sources_ends_the_run_or_the_first_source_wins() {
    let desk = Desk::new();
    let from = [
        desk.put("a.rdb", &strings("a", &[(0, "one"), (0, "both\n")])),
        desk.put("b.rdb", &strings("b", &[(0, "two")])),
        desk.put("c.rdb", &strings("c", &[(0, "both\n"), (1, "one")])),
    ];
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    let ended = desk.sync(&from, &[]);
    ended.assert_code(3);
    let said = format!("c.rdb: db 0: key \"both\\n\" was in {} too", from[0]);
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(*ended.reported("sources.2.conflicts"), 1);
    assert_eq!(*ended.reported("totals.keys"), 0);
    assert_eq!(desk.names(), ["a.rdb", "b.rdb", "c.rdb"]);

    let ended = desk.sync(&from, &["--on-conflict", "replace"]);
    ended.assert_code(0);
    assert_eq!(*ended.reported("totals.keys"), 4);
    assert_eq!(*ended.reported("sources.2.conflicts"), 1);
    assert_eq!(*ended.reported("conflicts.0.key"), "both\n");
    let expected = [(0, "both\n", "a"), (0, "one", "a"), (0, "two", "b"), (1, "one", "c")];
    let expected = expected.map(|(db, key, owner)| (db, key.to_owned(), owner.to_owned()));
    assert_eq!(owners(&desk.out()), expected);
}

/// A value of a module's type, which is some bytes to everybody else.
fn module(file: &mut Writer, key: &str, id: u64) {
    let object = ObjectType::Module2;
    let body = [&[0x81][..], &id.to_be_bytes(), b"\x05\x03abc\0"].concat();
    file.payload(&head(0, key.as_bytes(), object), Payload { object, body: &body });
}

#[test]
fn values_of_modules_are_chosen_by_type_and_named_where_nobody_has_them() {
    // "vectorset" and "ReJSON-RL".
    let (vectors, json) = (0xbde7_2da2_bb1e_b400, 0x4478_24e2_37cb_9403_u64);
    let name = |id| understudy::rdb::event::ModuleId::new(id).to_string();
    let desk = Desk::new();
    let mut both = Writer::new(reader("redis-8.0")).unwrap();
    module(&mut both, "vectors", vectors);
    module(&mut both, "tree", json);
    let a = desk.put("a.rdb", &both.finish());
    let mut one = Writer::new(reader("redis-7.2")).unwrap();
    module(&mut one, "vectors", json);
    let b = desk.put("b.rdb", &one.finish());
    let wanted = format!("module:{}", name(json));
    // The first source's key of that name is left out, and so is none that comes before the second's.
    let ended = desk.sync(&[&a, &b], &["--type", &wanted, "--for", "redis-7.2"]);
    ended.assert_code(0);
    let keys: Vec<_> = content(&desk.out()).into_keys().map(|(_, key)| key).collect();
    assert_eq!(keys, [b"tree".to_vec(), b"vectors".to_vec()]);
    assert_eq!(*ended.reported("sources.0.filtered.types"), 1);
    let needs = "a server without that module does not load it";
    assert_eq!(ended.stderr.matches(needs).count(), 1, "{}", ended.stderr);

    fs::remove_file(desk.path("out.rdb")).unwrap();
    let ended = desk.sync(&[&a], &["--for", "redis-7.2"]);
    ended.assert_code(3);
    let said = "key \"vectors\" (module): Redis 7.2.0 cannot hold vector sets";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    desk.sync(&[&a], &["--for", "redis-8.0"]).assert_code(0);
    assert_eq!(content(&desk.out()), content(&fs::read(&a).unwrap()));
}

#[test]
fn deadlines_come_later_but_for_what_is_dead() {
    let desk = Desk::new();
    let mut writer = Writer::new(reader("redis-7.4")).unwrap();
    writer.aux(b"ctime", b"1700000000");
    let at = 1_700_000_000_000;
    for (key, dies) in [("dead", Some(at)), ("lives", Some(at + 1)), ("endless", None)] {
        let object = ObjectType::String;
        let head = KeyHead { expire_at_ms: dies, ..head(0, key.as_bytes(), object) };
        writer.payload(&head, Payload { object, body: b"\x01v" });
    }
    let from = desk.put("a.rdb", &writer.finish());
    let ended = desk.sync(&[&from], &["--extend-ttl", "1m"]);
    ended.assert_code(0);
    assert_eq!(*ended.reported("sources.0.expired.keys"), 1);
    let deadline = |value: &String| value.split(' ').next().unwrap().to_owned();
    let told: Vec<_> = content(&desk.out()).values().map(deadline).collect();
    assert_eq!(told, ["None".to_owned(), format!("Some({})", at + 60_001)]);
}

#[test]
fn libraries_of_functions_collide_only_if_they_differ() {
    let desk = Desk::new();
    let library = |code: &[u8], key: &str| {
        let mut writer = Writer::new(reader("redis-7.0")).unwrap();
        writer.function(code).unwrap();
        let object = ObjectType::String;
        writer.payload(&head(0, key.as_bytes(), object), Payload { object, body: b"\x01v" });
        writer.finish()
    };
    let a = desk.put("a.rdb", &library(b"#!lua name=lib\nreturn 1", "a"));
    let b = desk.put("b.rdb", &library(b"#!lua name=lib\nreturn 1", "b"));
    let c = desk.put("c.rdb", &library(b"#!lua name=lib\nreturn 2", "c"));
    desk.sync(&[&a, &b], &[]).assert_code(0);
    assert_eq!(content(&desk.out()).len(), 3);
    fs::remove_file(desk.path("out.rdb")).unwrap();
    let ended = desk.sync(&[&a, &c], &[]);
    ended.assert_code(3);
    assert!(ended.stderr.contains("function library \"lib\" was in"), "{}", ended.stderr);
}

#[test]
fn more_keys_than_memory_can_tell_apart_are_refused_by_name() {
    let desk = Desk::new();
    let keys: Vec<String> = (0..200_000).map(|n| format!("key:{n}")).collect();
    let keys: Vec<(u32, &str)> = keys.iter().map(|key| (0, key.as_str())).collect();
    let a = desk.put("a.rdb", &strings("a", &keys));
    let b = desk.put("b.rdb", &strings("b", &[(0, "b")]));
    let ended = desk.sync(&[&a, &b], &["--memory", "2MiB"]);
    ended.assert_code(3);
    assert!(ended.stderr.contains("more do not fit into --memory"), "{}", ended.stderr);
    desk.sync(&[&a, &b], &["--memory", "32MiB"]).assert_code(0);
    assert_eq!(content(&desk.out()).len(), 200_001);
}

/// A value of 7.0 that is larger than the memory and that 6.2 has no type for.
fn large_list() -> Vec<u8> {
    let mut writer = Writer::new(reader("redis-7.0")).unwrap();
    let object = ObjectType::ListQuicklist2;
    writer.key(
        &KeyHead { expire_at_ms: Some(1_900_000_000_000), ..head(2, b"list", object) },
        object,
    );
    let mut body = Vec::new();
    put_length(&mut body, 200_000);
    for number in 0..200_000 {
        put_length(&mut body, 1);
        put_string(&mut body, format!("item number {number:020}").as_bytes());
    }
    writer.body(&body);
    let object = ObjectType::String;
    writer.payload(&head(2, b"behind", object), Payload { object, body: b"\x01v" });
    writer.finish()
}

#[test]
fn a_value_larger_than_the_memory_is_laid_aside_where_it_is_written_anew() {
    let desk = Desk::new();
    let bytes = large_list();
    assert!(bytes.len() > 6 << 20);
    let from = desk.put("a.rdb", &bytes);
    for (more, first) in [(&["--for", "redis-6.2"][..], b"REDIS0009"), (&[], b"REDIS0010")] {
        let ended = desk.sync(&[&from], &[more, &["--memory", "1MiB"]].concat());
        ended.assert_code(0);
        assert!(desk.out().starts_with(first));
        assert!(content(&desk.out()) == content(&bytes), "{more:?}");
        assert_eq!(desk.names(), ["a.rdb", "out.rdb"]);
        fs::remove_file(desk.path("out.rdb")).unwrap();
    }
}

#[test]
fn what_the_reader_cannot_hold_is_named() {
    let Some(source) = Server::start("redis-7.0.15") else { return };
    source.client().call(cmd!("XADD", "events\n", "1-1", "f", "v"));
    let desk = Desk::new();
    let ended = desk.sync(&[&source.url()], &["--for", "redis-4.0"]);
    ended.assert_code(3);
    let said = "db 0: key \"events\\n\" (stream): Redis 4.0.0 cannot hold streams";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert!(desk.names().is_empty());
}

#[test]
fn what_cannot_be_begun_is_refused() {
    let desk = Desk::new();
    let from = desk.put("a.rdb", &strings("a", &[(0, "one")]));
    let refused = |desk: &Desk, more: &[&str], said: &str| {
        let ended = desk.sync(&[&from], more);
        ended.assert_code(2);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    };
    refused(&desk, &["--until", "forever"], "--until forever");
    refused(&desk, &["--for", "redis-2.4"], "cannot hold RDB files");
    assert_eq!(desk.names(), ["a.rdb"]);
    desk.put("out.rdb", b"another's");
    refused(&desk, &[], "exists already");
    refused(&desk, &["--on-conflict", "stop"], "exists already");
    assert_eq!(desk.out(), b"another's");
    desk.sync(&[&from], &["--on-conflict", "replace"]).assert_code(0);
    assert_eq!(content(&desk.out()).len(), 1);

    let nowhere = desk.text("no/such/out.rdb");
    let ended = Understudy::start(&["sync", "--from", &from, "--to", &nowhere]).wait(PATIENCE);
    ended.assert_code(2);
    assert!(ended.stderr.contains("cannot create"), "{}", ended.stderr);
    let capture = desk.text("out.bin");
    let ended = Understudy::start(&["sync", "--from", &from, "--to", &capture]).wait(PATIENCE);
    ended.assert_code(2);
    let server = ["sync", "--from", &from, "--to", "redis://127.0.0.1:1", "--for", "redis-6.2"];
    Understudy::start(&server).wait(PATIENCE).assert_code(2);
}

#[test]
fn a_damaged_source_leaves_no_file_and_tells_the_byte() {
    let desk = Desk::new();
    let keys: Vec<String> = (0..50_000).map(|n| format!("key:{n}")).collect();
    let keys: Vec<(u32, &str)> = keys.iter().map(|key| (0, key.as_str())).collect();
    let whole = strings("some text", &keys);
    let damages: [(&str, Vec<u8>, u64); 3] = [
        ("cut short", whole[..whole.len() / 2].to_vec(), 0),
        ("no type", [&whole[..11], &[99], &whole[12..]].concat(), 11),
        ("another sum", [&whole[..20], b"!", &whole[21..]].concat(), whole.len() as u64 - 8),
    ];
    for (name, bytes, at) in damages {
        let from = desk.put("a.rdb", &bytes);
        let ended = desk.sync(&[&from], &[]);
        assert_eq!(ended.code, Some(3), "{name}: {}", ended.stderr);
        let said = if at == 0 { "at byte ".to_owned() } else { format!("at byte {at}") };
        assert!(ended.stderr.contains(&said), "{name}: {}", ended.stderr);
        assert_eq!(desk.names(), ["a.rdb"], "{name}");
    }
}

#[test]
fn a_stop_in_the_middle_leaves_nothing() {
    // Each key takes the child that writes the copy 10 ms.
    let mut slow = vec!["--rdb-key-save-delay", "10000", "--repl-diskless-sync", "yes"];
    slow.extend(["--rdbcompression", "no"]);
    let Some(source) = Server::start_with("redis-7.0.15", &slow) else { return };
    let mut client = source.client();
    client.call(cmd!("DEBUG", "POPULATE", 10_000, "key", 1000));
    let desk = Desk::new();
    let mut run =
        Understudy::start(&["sync", "--from", &source.url(), "--to", &desk.text("out.rdb")]);
    let part = desk.path("out.rdb.part");
    asking::until("the file grows", PATIENCE, || {
        assert!(run.is_running());
        fs::metadata(&part).is_ok_and(|file| file.len() > 0)
    });
    run.interrupt();
    let stopping = std::time::Instant::now();
    let ended = run.wait(PATIENCE);
    assert!(stopping.elapsed() < Duration::from_secs(10));
    ended.assert_code(130);
    assert_eq!(*ended.reported("outcome"), "stopped");
    assert_eq!(*ended.reported("totals.keys"), 0);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn a_full_disk_leaves_nothing_and_says_what_to_do() {
    let desk = Desk::new();
    let from = desk.put("a.rdb", &large_list());
    let limited = "trap '' XFSZ; ulimit -f 4096; exec \"$@\"";
    for more in [&[][..], &["--for", "redis-6.2", "--memory", "1MiB"]] {
        let ended = Command::new("sh")
            .args(["-c", limited, "sh", env!("CARGO_BIN_EXE_understudy"), "sync", "--from", &from])
            .args(["--to", &desk.text("out.rdb")])
            .args(more)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("there is no room for the file"), "{stderr}");
        assert!(stderr.contains("cannot write"), "{stderr}");
        assert_eq!(desk.names(), ["a.rdb"]);
    }
}
