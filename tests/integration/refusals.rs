//! What an operator may have got wrong, or what the world has: each has a message of its own that says what to do. It is
//! 2 before anything was written, and 3 after.

mod lost;
mod users;
mod words;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::asking;
use crate::client::cmd;
use crate::judge::Dump;
use crate::servers::{Server, free_port, program};
use crate::tool::{Ended, Understudy};

const SERVER: &str = "redis-7.0.15";
const PATIENCE: Duration = Duration::from_secs(30);

/// It must not be seen in anything that the tool says.
const SECRET: &str = "s3cr3t-pa55w0rd";

fn sync(from: &str, to: &str, rest: &[&str]) -> Ended {
    let args = [&["sync", "--from", from, "--to", to, "--once"], rest].concat();
    let ended = Understudy::start(&args).wait(PATIENCE);
    for said in [&ended.stdout, &ended.stderr, &format!("{:?}", ended.report)] {
        assert!(!said.contains(SECRET), "a secret is said: {said}");
    }
    ended
}

/// The first error on stderr, and its mend. Ports are made alike.
fn said(ended: &Ended, names: &[(u16, &str)]) -> (String, String) {
    let mut text = ended.stderr.clone();
    for (port, name) in names {
        for host in ["127.0.0.1", "localhost"] {
            text = text.replace(&format!("{host}:{port}"), name);
        }
    }
    let mut lines = text.lines().skip_while(|line| !line.starts_with("error: "));
    let mut next = |head: &str| {
        lines.next().and_then(|line| line.strip_prefix(head)).unwrap_or_default().to_owned()
    };
    (next("error: "), next("  mend: "))
}

#[track_caller]
fn assert_said(ended: &Ended, code: i32, names: &[(u16, &str)], what: &str, mend: &str) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.stderr, ended.stdout);
    let (found, advice) = said(ended, names);
    assert_eq!((found.as_str(), advice.as_str()), (what, mend), "{}", ended.stderr);
}

fn pair(source: &[&str], target: &[&str]) -> Option<(Server, Server)> {
    let source = Server::start_with(SERVER, source)?;
    let target = Server::start_with(SERVER, target)?;
    source.client().try_call(cmd!("SET", "key", "value"));
    Some((source, target))
}

/// A server that is none: `talk` gets each connection.
fn impostor(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let talk = Arc::new(talk);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            thread::spawn(move || talk(stream));
        }
    });
    port
}

fn says(text: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(text);
    }
}

/// A master that answers by rote; a command that it has no answer to ends the connection.
fn scripted(answers: &[(&'static str, Vec<u8>)]) -> u16 {
    let answers: HashMap<&str, Vec<u8>> = answers.iter().cloned().collect();
    impostor(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        while let Some(head) = lines.next() {
            let Some(count) = head.strip_prefix('*').and_then(|n| n.parse::<usize>().ok()) else {
                return;
            };
            let words: Vec<String> = (0..count).filter_map(|_| lines.by_ref().nth(1)).collect();
            let Some(answer) = words.first().and_then(|word| answers.get(word.as_str())) else {
                return;
            };
            if writer.write_all(answer).is_err() {
                return;
            }
        }
    })
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

#[test]
fn places_that_are_no_redis() {
    let Some(target) = Server::start(SERVER) else { return };
    let to = target.url();
    for (port, what, mend) in [
        (
            impostor(says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")),
            "SOURCE: this is an HTTP server",
            "give the host and the port of a Redis or Valkey server in --from",
        ),
        (
            impostor(says(b"SSH-2.0-OpenSSH_9.2p1\r\n")),
            "SOURCE: this is no Redis: it says \"SSH-2.0-OpenSSH_9.2p1\"",
            "give the host and the port of a Redis or Valkey server in --from",
        ),
        (
            impostor(drop),
            "SOURCE: it closed the connection without a word",
            "if this port speaks TLS write rediss:// in --from; else see the server's log",
        ),
        (
            impostor(says(
                b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface.\r\n",
            )),
            "SOURCE: it lets no one in from here: DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user",
            "the server has neither a password nor a bind address and then serves its own machine only: set requirepass, or bind, in its configuration",
        ),
        (
            free_port(),
            "SOURCE: cannot connect: Connection refused (os error 111)",
            "nothing listens there: check the port in --from, and that the server is up",
        ),
    ] {
        let ended = sync(&format!("redis://127.0.0.1:{port}"), &to, &[]);
        assert_said(&ended, 2, &[(port, "SOURCE")], what, mend);
        assert_eq!(ended.reported("outcome"), "refused");
    }
    let port = impostor(says(b"-ERR Protocol error\r\n"));
    let ended = sync(&format!("rediss://127.0.0.1:{port}"), &to, &["--from-insecure"]);
    assert_said(
        &ended,
        2,
        &[(port, "SOURCE")],
        "SOURCE: it does not speak TLS",
        "give the server's tls-port, or write redis:// in --from",
    );
    let ended = sync(&to, "redis://host.invalid:7", &[]);
    ended.assert_code(2);
    let (what, mend) = said(&ended, &[]);
    assert!(
        what.starts_with("host.invalid:7: the name host.invalid cannot be resolved: "),
        "{what}"
    );
    assert_eq!(mend, "check the host's name in --to");
}

#[test]
fn a_sentinel_holds_no_data() {
    let Some(binary) = program(SERVER) else { return };
    let Some(target) = Server::start(SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = folder.path().join("sentinel.conf");
    fs::write(&config, format!("port {port}\nbind 127.0.0.1\n")).unwrap();
    let mut sentinel = Killed(
        Command::new(binary)
            .arg(&config)
            .arg("--sentinel")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    asking::until("it listens", PATIENCE, || {
        assert!(sentinel.0.try_wait().unwrap().is_none(), "it has ended");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let ended = sync(&format!("redis://127.0.0.1:{port}"), &target.url(), &[]);
    assert_said(
        &ended,
        2,
        &[(port, "SOURCE")],
        "SOURCE: this source is a Sentinel, which holds no data",
        "let it lead to the master that it watches: redis-sentinel://host:port/NAME, with a name that SENTINEL MASTERS tells",
    );
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cluster_is_whole_or_none() {
    let Some((source, target)) = pair(&["--cluster-enabled", "yes"], &[]) else { return };
    let names = [(source.port, "NODE"), (target.port, "OTHER")];
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &names,
        "NODE: no master serves the slots 0-16383",
        "see CLUSTER INFO and CLUSTER NODES, and start again when cluster_slots_ok is 16384",
    );
    assert_said(
        &sync(&target.url(), &source.url(), &[]),
        2,
        &names,
        "NODE: the target is a node of a cluster",
        "this version writes to single servers; give a target that is not in cluster mode",
    );
}

#[test]
fn replicas_in_the_wrong_place() {
    let nowhere = free_port().to_string();
    let Some(lost) = Server::start_with(SERVER, &["--replicaof", "127.0.0.1", &nowhere]) else {
        return;
    };
    let Some(target) = Server::start(SERVER) else { return };
    let names = [(lost.port, "REPLICA"), (target.port, "OTHER")];
    assert_said(
        &sync(&lost.url(), &target.url(), &[]),
        2,
        &names,
        "REPLICA: this source is a replica that is not in touch with its master",
        "wait until master_link_status in its INFO replication is up, or read from its master",
    );
    assert_said(
        &sync(&target.url(), &lost.url(), &[]),
        2,
        &names,
        "REPLICA: the target is a replica and takes no writes",
        "give the address of its master",
    );
}

#[test]
fn files_that_are_not_there() {
    let Some(target) = Server::start(SERVER) else { return };
    for (file, what) in [
        (
            "/nowhere/a.rdb",
            "/nowhere/a.rdb: cannot read /nowhere/a.rdb: No such file or directory (os error 2)",
        ),
        (
            "/nowhere/a.bin",
            "/nowhere/a.bin: cannot read /nowhere/a.bin: No such file or directory (os error 2)",
        ),
    ] {
        assert_said(
            &sync(file, &target.url(), &[]),
            2,
            &[],
            what,
            "see that the path is right and may be read; a capture is two files, NAME.bin and NAME.json",
        );
    }
    let ended = Understudy::start(&["rdb", "cat", "/nowhere/a.rdb"]).wait(PATIENCE);
    assert_said(
        &ended,
        2,
        &[],
        "cannot read /nowhere/a.rdb: No such file or directory (os error 2)",
        "give the path of an RDB file that this user may read",
    );
}

#[test]
fn what_cannot_be_meant() {
    let other = "redis://127.0.0.1:2";
    for (from, rest, what, mend) in [
        (
            "localhost:6379",
            vec![],
            "--from: \"localhost:6379\" is no place",
            "write redis://localhost:6379, or rediss://localhost:6379 for TLS",
        ),
        (
            "dump.txt",
            vec![],
            "--from: \"dump.txt\" is no place",
            "write redis://[[user]:password@]host[:port][/db] for a server, rediss:// for TLS, unix:/path for a socket, or a path that ends in .rdb or .bin",
        ),
        (
            "redis://a:99999",
            vec![],
            "--from: \"99999\" is no port",
            "a port is a number from 1 to 65535: redis://host:6379",
        ),
        (
            "redis://a/x",
            vec![],
            "--from: \"x\" is no database number",
            "a database is a number behind the last slash: redis://host:6379/3",
        ),
        (
            "redis-cluster://a:1/3",
            vec![],
            "--from: a cluster has database 0 only, and not 3",
            "leave it out: redis-cluster://host:port,host:port",
        ),
        (
            "redis://127.0.0.1:2",
            vec![],
            "127.0.0.1:2 is source and target at once",
            "give another place as --to",
        ),
        (
            "redis://a:1",
            vec!["--until", "forever"],
            "--once and --until forever contradict each other",
            "give one of them",
        ),
        (
            "redis://a:1",
            vec!["--from", "redis://a:1"],
            "--from a:1: this source is given twice",
            "give it once",
        ),
        (
            "redis://a:1",
            vec!["--memory", "1kB"],
            "--memory: at least 1MiB a source is needed, 1MiB in all",
            "give more, or fewer sources at once",
        ),
    ] {
        assert_said(&sync(from, other, &rest), 2, &[], what, mend);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.rdb");
    fs::write(&file, b"").unwrap();
    let other_name = folder.path().join(".").join("dump.rdb").display().to_string();
    let ended = sync(&file.display().to_string(), &other_name, &["--on-conflict", "replace"]);
    let what = format!("{other_name} is source and target at once");
    assert_said(&ended, 2, &[], &what, "give another place as --to");
    let ended = Understudy::start(&["replay", "a.bin"]).wait(PATIENCE);
    assert_said(
        &ended,
        2,
        &[],
        "a.bin: where it shall be played is not said",
        "give --to URL to play it into a target, or --listen HOST:PORT to play it as a master",
    );
    let ended = sync("redis://a:1", other, &["--memory", "12 parsecs"]);
    ended.assert_code(2);
    assert_eq!(
        ended.stderr.lines().next().unwrap(),
        "error: invalid value '12 parsecs' for '--memory <SIZE>': \" parsecs\" is no unit: use B, kB, MB, GB (1000) or KiB, MiB, GiB (1024)"
    );
}

#[test]
fn one_server_under_two_names() {
    let Some(server) = Server::start(SERVER) else { return };
    let alias = format!("redis://localhost:{}", server.port);
    let ended = sync(&server.url(), &alias, &[]);
    ended.assert_code(2);
    let (what, mend) = said(&ended, &[(server.port, "ONE")]);
    assert_eq!(what, "ONE: this source and the target ONE are one server");
    assert_eq!(mend, "give another server as --to");
}

/// It may be filled later, so it is no reason to stop; but to copy nothing without a word would be one to be surprised.
#[test]
fn a_chosen_database_in_which_nothing_is() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let ended = sync(&source.url(), &target.url(), &["--only-db", "9"]);
    ended.assert_code(0);
    let port = source.port;
    let warning = format!(
        "warning: 127.0.0.1:{port}: nothing is in database 9, which is chosen\n  mend: see --only-db and the URL: its keys are in 0\n"
    );
    assert!(ended.stderr.contains(&warning), "{}", ended.stderr);
    let end = format!("\n target 127.0.0.1:{} (Redis 7.0.15): keys 0 -> 0\n", target.port);
    assert!(ended.stdout.ends_with(&end), "{}", ended.stdout);
}

#[test]
fn more_databases_than_the_target_has() {
    let Some((source, target)) = pair(&[], &["--databases", "4"]) else { return };
    let mut writer = source.client();
    writer.select(9);
    writer.call(cmd!("SET", "key", "value"));
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &[(target.port, "TARGET")],
        "TARGET: the target has no database 9, which a source uses",
        "set `databases` in the target's configuration higher and start it again, or choose another with --db-map",
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0);
}

#[test]
fn a_report_that_cannot_be_written() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let run = |report: &str| {
        let (from, to) = (source.url(), target.url());
        let args = ["sync", "--from", &from, "--to", &to, "--once", "--on-conflict", "replace"];
        let binary = env!("CARGO_BIN_EXE_understudy");
        let output = Command::new(binary).args(args).args(["--report", report]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let error: Vec<String> = text
            .lines()
            .skip_while(|line| !line.starts_with("error: "))
            .map(str::to_owned)
            .collect();
        (output.status.code(), error)
    };
    assert_eq!(
        run("/nowhere/report.json"),
        (
            Some(2),
            vec![
                "error: --report: cannot write /nowhere/report.json: No such file or directory (os error 2)".into(),
                "  mend: give a path that this user may write".into()
            ]
        )
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0, "it was found before");
    // A disk that is full is found at the end only.
    assert_eq!(
        run("/dev/full"),
        (
            Some(3),
            vec![
                "error: cannot write the report to /dev/full: No space left on device (os error 28)".into(),
                "  mend: the run itself ended as the table above says; make room and take its numbers from there".into()
            ]
        )
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 1);
}

#[test]
fn ping_tells_times_or_why_not() {
    let Some(server) = Server::start(SERVER) else { return };
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let url = server.url();
    let ended = Understudy::start(&["ping", &url, "--count", "50"]).wait(PATIENCE);
    ended.assert_code(0);
    let cells: Vec<&str> = ended.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(&cells[..2], [url.trim_start_matches("redis://"), "50"]);
    let times: Vec<f64> = cells[2..].iter().map(|cell| cell.parse().unwrap()).collect();
    assert!(times.len() == 3 && times[0] > 0.0 && times.is_sorted(), "{times:?}");

    let ended =
        Understudy::start(&["ping", "--json", &nobody, &url, "--count", "5"]).wait(PATIENCE);
    ended.assert_code(2);
    let line: serde_json::Value = serde_json::from_str(ended.stdout.trim()).unwrap();
    assert_eq!(line["pings"], 5);
    assert!(line["p50_us"].as_u64().unwrap() <= line["max_us"].as_u64().unwrap());
    assert!(ended.stderr.contains("nothing listens there"), "{}", ended.stderr);
}
