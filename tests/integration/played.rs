//! Recorded masters, played over the real protocol: into a target by the tool, and to real replicas.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::asking;
use crate::client::{Client, Value, cmd};
use crate::command_twins::stream;
use crate::judge::{self, Dump, Forgiving, Kind, Place};
use crate::recorded::{self, Recorded, latin1};
use crate::servers::Server;
use crate::sessions;
use crate::tool::{Ended, Understudy};

/// How long one capture may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// `understudy replay FILE --listen 127.0.0.1:0`. It is killed when this value goes.
pub(crate) struct Played {
    child: Child,
    pub(crate) port: u16,
}

impl Played {
    pub(crate) fn start(file: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command.arg("replay").arg(file).args(["--listen", "127.0.0.1:0"]);
        command.env_remove("UNDERSTUDY_LOG").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("understudy runs");
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let port = first.trim_end().strip_prefix("listening on 127.0.0.1:").map(str::parse);
        let Some(Ok(port)) = port else { panic!("{}: {first:?}", file.display()) };
        Self { child, port }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends SIGINT and gives the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(
            Command::new("sh").args(["-c", "kill -INT \"$0\"", &id]).status().unwrap().success()
        );
        self.child.wait().unwrap().code()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time from which a played stream's relative deadlines count.
#[derive(Clone, Copy)]
enum Relative {
    /// When it was recorded, within the length of the recording.
    Recorded,
    /// When it is played.
    Played,
}

/// How what a server has come to differs from what was recorded.
fn unlike_recorded(recorded: &Recorded, server: &mut Client, relative: Relative) -> Vec<String> {
    let Recorded { name, sidecar, .. } = recorded;
    let found = Dump::read(server);
    let now = found.read_by();
    let wanted = Dump::recorded(sidecar, now);
    let loose: BTreeSet<Place> = sidecar["replay"]["relative_expiry"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|place| (u32::try_from(place[0].as_u64().unwrap()).unwrap(), latin1(&place[1])))
        .collect();
    // What the source said would be dead by now, by a time of day, is not there.
    let due = wanted.due(now);
    let is_dead =
        |place| !found.holds(place) || found.deadline_of(place).is_some_and(|at| at <= now);
    let undead = due.iter().filter(|place| !is_dead(place) && !loose.contains(*place));
    let undead = undead.map(|(db, key)| format!("db {db} {} was due", key.escape_ascii()));

    let from = sidecar["recorded_from_ms"].as_i64().unwrap();
    let lasted = sidecar["recorded_to_ms"].as_i64().unwrap() - from;
    let (early, late) = match relative {
        Relative::Recorded => (lasted + 1000, lasted + 1000),
        Relative::Played => (lasted + 1000, now - from + 1000),
    };
    let other =
        judge::diff(&wanted, &found, Forgiving::default()).into_iter().filter(|difference| {
            let place = (difference.db, difference.key.clone());
            if !loose.contains(&place) {
                return true;
            }
            let told = wanted.deadline_of(&place).expect("a deadline that is noted as relative");
            match difference.kind {
                Kind::Deadline => {
                    found.deadline_of(&place).is_none_or(|at| at < told - early || at > told + late)
                }
                // It dies at one time here and at another there.
                Kind::Missing => told - early > now,
                Kind::Extra => found.deadline_of(&place).is_none_or(|at| at > told + late),
                Kind::Type | Kind::Value | Kind::Function => true,
            }
        });
    undead.chain(other.map(|difference| format!("{name}: {difference}"))).collect()
}

/// Holds what a server has come to against what was recorded.
fn assert_recorded(recorded: &Recorded, server: &mut Client, relative: Relative) {
    let differences = unlike_recorded(recorded, server, relative);
    assert_eq!(differences, Vec::<String>::new(), "{}", recorded.name);
}

/// Makes a server as it was when it was started.
fn empty(client: &mut Client) {
    client.call(cmd!("FLUSHALL"));
    if client.knows("FUNCTION") {
        client.call(cmd!("FUNCTION", "FLUSH"));
    }
    client.call(cmd!("SCRIPT", "FLUSH"));
}

/// The version of Redis whose data a server's are.
fn data_of(server: &str) -> (u32, u32) {
    let mut numbers = server.split(['-', '.']).skip(1).map(|number| number.parse().unwrap());
    match server.split('-').next().unwrap() {
        "redis" => (numbers.next().unwrap(), numbers.next().unwrap()),
        // Both have the data types of 7.2; field deadlines came with Valkey 9, in a form of its own.
        "valkey" if numbers.next() >= Some(9) => (9, 0),
        _ => (7, 2),
    }
}

/// Whether a server can hold what another one recorded: all but deadlines of hash fields, where there are none.
fn holds(target: &str, source: &str) -> bool {
    data_of(source) <= (7, 2) || data_of(target) >= (7, 4)
}

/// A recording that goes on from another one, with what came before it: as if the link had never been cut.
fn joined(first: &Recorded, second: &Recorded, folder: &Path) -> Recorded {
    let resumed = second.number("resume_offset").unwrap() - first.number("start_offset").unwrap();
    let cut = usize::try_from(first.number("stream_start").unwrap() + resumed).unwrap();
    let rest = usize::try_from(second.number("stream_start").unwrap()).unwrap();
    let bytes = [&first.bytes[..cut], &second.bytes[rest..]].concat();
    let name = format!("{}-joined", second.name);
    let mut sidecar = second.sidecar.clone();
    for field in
        ["replid", "start_offset", "stream_start", "psync_reply", "full_sync", "recorded_from_ms"]
    {
        sidecar[field] = first.sidecar[field].clone();
    }
    sidecar["total_bytes"] = json!(bytes.len());
    let path = folder.join(format!("{}.bin", name.replace('/', "-")));
    fs::write(&path, &bytes).unwrap();
    fs::write(path.with_extension("json"), sidecar.to_string()).unwrap();
    Recorded { name, path, bytes, sidecar }
}

/// What of these recordings has a data set and says what it comes to; those in two parts are joined.
fn playable(recordings: Vec<Recorded>, folder: &Path) -> Vec<Recorded> {
    let mut whole: Vec<Recorded> = Vec::new();
    for second in &recordings {
        if let Some(first) = second.sidecar["continues"].as_str() {
            let first = format!("{}/{first}", second.server());
            if let Some(first) = recordings.iter().find(|one| one.name == first) {
                whole.push(joined(first, second, folder));
            }
        }
    }
    let complete = |one: &Recorded| one.is_whole() && one.sidecar["dataset"].is_array();
    whole.extend(recordings.into_iter().filter(complete));
    whole
}

/// The recordings of a server: those of the corpus where that is at hand, else the fixtures.
fn recordings_of(server: &str, folder: &Path) -> Vec<Recorded> {
    let recordings = recorded::corpus_of(server).unwrap_or_else(|| {
        recorded::fixtures().into_iter().filter(|one| one.server() == server).collect()
    });
    playable(recordings, folder)
}

fn sync(from: &str, to: &str) -> Ended {
    Understudy::start(&["sync", "--once", "--from", from, "--to", to]).wait(PATIENCE)
}

/// A recorded master is followed over the real protocol, and read as a file, into each target that can hold what it has.
fn arrives(source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let recordings = recordings_of(source, folder.path());
    for name in ["redis-7.0.15", "redis-8.0.6", "valkey-9.1.2"] {
        if !holds(name, source) {
            continue;
        }
        let Some(target) = Server::start(name) else { return };
        let mut client = target.client();
        for recorded in &recordings {
            let is_relative =
                !recorded.sidecar["replay"]["relative_expiry"].as_array().is_none_or(Vec::is_empty);
            let played = Played::start(&recorded.path);
            let ended = sync(&played.url(), &target.url());
            // The one that is played cannot be asked for the deadlines that only it would know, be they of keys that are gone by now.
            let code = i32::try_from(ended.unproven()).unwrap();
            assert!(
                code <= 1 && (code == 1 || !is_relative),
                "{} to {name}: {ended:?}",
                recorded.name
            );
            ended.assert_code(code);
            assert_eq!(ended.reported("sources.0.full_syncs"), 1);
            assert_recorded(recorded, &mut client, Relative::Played);
            empty(&mut client);

            let ended = sync(recorded.path.to_str().unwrap(), &target.url());
            ended.assert_code(0);
            assert_eq!(ended.reported("sources.0.method"), "capture");
            assert_recorded(recorded, &mut client, Relative::Recorded);
            empty(&mut client);
        }
    }
}

/// A recording with the deadlines of its stream put into the past: so it will look when some months have gone by.
fn aged(recorded: &Recorded, folder: &Path) -> Recorded {
    let mut bytes = recorded.bytes.clone();
    let mut sidecar = recorded.sidecar.clone();
    let stream = usize::try_from(recorded.number("stream_start").unwrap()).unwrap();
    let entries = sidecar["dataset"].as_array_mut().unwrap();
    let told: BTreeSet<i64> =
        entries.iter().filter_map(|entry| entry["expire_at_ms"].as_i64()).collect();
    for told in told {
        let aged = told - 10_000_000_000;
        let (from, to) = (told.to_string(), aged.to_string());
        assert_eq!(from.len(), to.len());
        let places: Vec<usize> = (stream..=bytes.len() - from.len())
            .filter(|place| bytes[*place..].starts_with(from.as_bytes()))
            .collect();
        for place in &places {
            bytes[*place..*place + to.len()].copy_from_slice(to.as_bytes());
        }
        let entries = entries.iter_mut().filter(|entry| entry["expire_at_ms"] == told);
        entries
            .filter(|_| !places.is_empty())
            .for_each(|entry| entry["expire_at_ms"] = json!(aged));
    }
    let path = folder.join("aged.bin");
    fs::write(&path, &bytes).unwrap();
    fs::write(path.with_extension("json"), sidecar.to_string()).unwrap();
    Recorded { name: format!("{}-aged", recorded.name), path, bytes, sidecar }
}

#[test]
fn what_was_due_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let name = "redis-7.0.15";
    let recorded = aged(&recorded::fixture("redis-7.0.15/live-basic"), folder.path());
    let Some(target) = Server::start(name) else { return };
    let mut client = target.client();
    let played = Played::start(&recorded.path);
    for (from, relative) in [
        (played.url(), Relative::Played),
        (recorded.path.to_str().unwrap().to_owned(), Relative::Recorded),
    ] {
        sync(&from, &target.url()).assert_code(0);
        assert_recorded(&recorded, &mut client, relative);
        let now = Dump::read(&mut client).read_by();
        let due = Dump::recorded(&recorded.sidecar, now).due(now).len();
        assert!(due >= 10, "only {due} keys were due");
        empty(&mut client);
    }
}

/// The comparison with a recording sees what is planted into the target.
#[test]
fn a_planted_difference_is_seen() {
    let recorded = recorded::fixture("redis-7.0.15/live-basic");
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let mut client = target.client();
    let key = |kind: &str| {
        let entries = recorded.sidecar["dataset"].as_array().unwrap().iter();
        let mut fitting = entries.filter(|entry| {
            entry["type"] == kind && entry["db"] == 0 && entry["expire_at_ms"].is_null()
        });
        latin1(&fitting.next().unwrap()["key"])
    };
    for (planted, told) in [
        (cmd!("APPEND", key("string"), "x"), "Value db 0"),
        (cmd!("RPUSH", key("list"), "x"), "Value db 0"),
        (cmd!("SADD", key("set"), "planted"), "Value db 0"),
        (cmd!("ZADD", key("zset"), "1.5", "planted"), "Value db 0"),
        (cmd!("HSET", key("hash"), "planted", "x"), "Value db 0"),
        (cmd!("XADD", key("stream"), "*", "planted", "x"), "Value db 0"),
        (cmd!("XGROUP", "CREATE", key("stream"), "planted", "0"), "Value db 0"),
        (cmd!("PEXPIREAT", key("string"), "1999999999999"), "Deadline db 0"),
        (cmd!("DEL", key("list")), "Missing db 0"),
        (cmd!("SET", "planted", "x"), "Extra db 0"),
        (cmd!("FUNCTION", "FLUSH"), "Function db 0"),
    ] {
        sync(recorded.path.to_str().unwrap(), &target.url()).assert_code(0);
        assert_recorded(&recorded, &mut client, Relative::Recorded);
        client.call(planted.clone());
        let differences = unlike_recorded(&recorded, &mut client, Relative::Recorded);
        assert_eq!(differences.len(), 1, "{planted:?}: {differences:?}");
        assert!(differences[0].contains(told), "{planted:?}: {differences:?}");
        empty(&mut client);
    }
}

/// `replay FILE --to URL` is a `sync --once` from the file.
#[test]
fn a_capture_is_replayed_into_a_target() {
    let recorded = recorded::fixture("redis-6.2.14/diskless");
    let Some(target) = Server::start("redis-7.0.15") else { return };
    let args = ["replay", recorded.path.to_str().unwrap(), "--to", &target.url()];
    Understudy::start(&args).wait(PATIENCE).assert_code(0);
    assert_recorded(&recorded, &mut target.client(), Relative::Recorded);
}

/// What is recorded from a played master is the capture that it is played from, byte for byte.
#[test]
fn a_recording_of_a_played_master_is_its_capture() {
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for recorded in recorded::fixtures().iter().filter(|recorded| recorded.is_whole()) {
        let played = Played::start(&recorded.path);
        let again = folder.path().join(format!("{}.bin", recorded.name.replace('/', "-")));
        let args = ["record", "--once", "--from", &played.url(), "--out", again.to_str().unwrap()];
        Understudy::start(&args).wait(PATIENCE).assert_code(0);
        // A command or transaction that the capture does not end is not played.
        let whole = usize::try_from(sessions::survey(recorded).1.settled).unwrap();
        let bytes = fs::read(&again).unwrap();
        assert!(bytes == recorded.bytes[..whole], "{}: {} bytes", recorded.name, bytes.len());
        let sidecar = fs::read(again.with_extension("json")).unwrap();
        let sidecar: serde_json::Value = serde_json::from_slice(&sidecar).unwrap();
        for field in [
            "server",
            "psync_reply",
            "replid",
            "start_offset",
            "full_sync",
            "bulk_form",
            "eof_mark",
            "newline_pings_at",
            "bulk_header_at",
            "rdb_start",
            "rdb_end",
            "stream_start",
        ] {
            assert_eq!(sidecar[field], recorded.sidecar[field], "{}: {field}", recorded.name);
        }
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
}

#[test]
fn a_played_master_stops_when_it_is_told() {
    let recorded = recorded::fixture("redis-2.4.18/live-basic");
    let played = Played::start(&recorded.path);
    let mut client = Client::connect(played.port);
    assert_eq!(client.call(cmd!("PING")).text(), "PONG");
    assert_eq!(client.info("server", "redis_version"), "2.4.18");
    assert!(client.try_call(cmd!("GET", "key")).is_error());
    assert_eq!(played.interrupt(), Some(130));
}

/// A real replica follows a recorded master of its own version, or the nearest there is.
fn is_followed(source: &str, replica: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let mut recordings = recordings_of(source, folder.path());
    // Each takes a second or two: a replica asks for its master once a second.
    let wanted = ["live-basic", "diskless", "announce-version", "partial-b-joined"];
    if recordings.len() > wanted.len() {
        recordings.retain(|one| wanted.contains(&one.scenario()));
    }
    let Some(server) = Server::start(replica) else { return };
    let mut client = server.client();
    for recorded in &recordings {
        let played = Played::start(&recorded.path);
        client.call(cmd!("SLAVEOF", "127.0.0.1", played.port));
        let end = recorded.number("end_offset");
        asking::until(format_args!("{} is played", recorded.name), PATIENCE, || {
            let up = client.info("replication", "master_link_status") == "up";
            let at: u64 = client.info("replication", "slave_repl_offset").parse().unwrap_or(0);
            // Without offsets the last command tells.
            let there = match end {
                Some(end) => at >= end,
                None => client.try_call(cmd!("EXISTS", "__end__")) == Value::Int(1),
            };
            up && there
        });
        // A real replica that is told late drops a field which the master kept at the last moment.
        let kept: BTreeSet<Vec<u8>> = stream(&recorded.path)
            .into_iter()
            .filter(|args| args[0].eq_ignore_ascii_case(b"HPERSIST"))
            .map(|args| args[1].clone())
            .collect();
        let differences = unlike_recorded(recorded, &mut client, Relative::Played);
        let of_kept = |line: &&String| {
            let hash = |key: &Vec<u8>| line.contains(&format!(" {}: ", key.escape_ascii()));
            line.contains(": Value db ") && kept.iter().any(hash)
        };
        let unlike: Vec<&String> = differences.iter().filter(|line| !of_kept(line)).collect();
        assert_eq!(unlike, Vec::<&String>::new(), "{}", recorded.name);
        client.call(cmd!("SLAVEOF", "NO", "ONE"));
        empty(&mut client);
    }
}

macro_rules! recorded_masters {
    ($($test:ident $source:literal $replica:literal),+ $(,)?) => {
        mod arrives {
            $(#[test]
            fn $test() {
                super::arrives($source);
            })+
        }

        mod is_followed {
            $(#[test]
            fn $test() {
                super::is_followed($source, $replica);
            })+
        }

        /// All servers that were recorded are played.
        #[test]
        fn every_recorded_master_has_its_tests() {
            let played = BTreeSet::from([$($source),+]);
            let mut recordings = recorded::fixtures();
            recordings.extend(recorded::corpus().unwrap_or_default());
            for recorded in recordings {
                assert!(played.contains(recorded.server()), "{}", recorded.name);
            }
        }
    };
}

// Where there is no replica of the master's own version, the next later one follows it.
recorded_masters! {
    redis_2_4 "redis-2.4.18" "redis-2.8.17",
    redis_2_6 "redis-2.6.17" "redis-2.8.17",
    redis_2_8 "redis-2.8.17" "redis-2.8.17",
    redis_3_0 "redis-3.0.5" "redis-3.0.5",
    redis_3_2 "redis-3.2.6" "redis-3.2.6",
    redis_4_0 "redis-4.0.14" "redis-5.0.6",
    redis_5_0 "redis-5.0.6" "redis-5.0.6",
    redis_6_0 "redis-6.0.16" "redis-6.0.16",
    redis_6_2 "redis-6.2.14" "redis-6.2.14",
    redis_7_0 "redis-7.0.15" "redis-7.0.15",
    redis_7_2 "redis-7.2.5" "redis-8.0.2",
    redis_7_4 "redis-7.4.1" "redis-8.0.2",
    redis_8_0_2 "redis-8.0.2" "redis-8.0.2",
    redis_8_0 "redis-8.0.6" "redis-8.0.6",
    valkey_8_0 "valkey-8.0.1" "valkey-8.0.1",
    valkey_8_1 "valkey-8.1.1" "valkey-8.1.1",
    valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
    redict_7_3 "redict-7.3.6" "redict-7.3.6",
}
