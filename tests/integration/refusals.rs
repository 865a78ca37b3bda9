//! What an operator may have got wrong, or what the world has: each has a message of its own that says what to do. It is
//! 2 before anything was written, and 3 after.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, cmd};
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
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < PATIENCE && sentinel.0.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(20));
    }
    let ended = sync(&format!("redis://127.0.0.1:{port}"), &target.url(), &[]);
    assert_said(
        &ended,
        2,
        &[(port, "SOURCE")],
        "SOURCE: this source is a Sentinel, which holds no data",
        "give the address of the master that it watches (SENTINEL get-master-addr-by-name NAME tells it)",
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
fn a_node_of_a_cluster_is_not_all_of_it() {
    let Some((source, target)) = pair(&["--cluster-enabled", "yes"], &[]) else { return };
    let names = [(source.port, "NODE"), (target.port, "OTHER")];
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &names,
        "NODE: this source is a node of a cluster and holds a part of the data only",
        "this version reads single servers; a cluster must be read whole",
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
fn passwords() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    source.client().call(cmd!("CONFIG", "SET", "requirepass", SECRET));
    let names = [(source.port, "LOCKED"), (target.port, "OTHER")];
    let with = |login: &str| format!("redis://{login}@127.0.0.1:{}", source.port);
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &names,
        "LOCKED: it asks for a password: NOAUTH Authentication required.",
        "give it in UNDERSTUDY_FROM_PASSWORD, or in the URL: redis://[user]:password@host:port",
    );
    assert_said(
        &sync(&target.url(), &source.url(), &[]),
        2,
        &names,
        "LOCKED: it asks for a password: NOAUTH Authentication required.",
        "give it in UNDERSTUDY_TO_PASSWORD, or in the URL: redis://[user]:password@host:port",
    );
    assert_said(
        &sync(&with(&format!(":wrong-{SECRET}")), &target.url(), &[]),
        2,
        &names,
        "LOCKED: it refuses the password: WRONGPASS invalid username-password pair or user is disabled.",
        "check UNDERSTUDY_FROM_PASSWORD or the URL; for an ACL user (6.0 and later) the URL names it: redis://user:password@host:port",
    );
    // A password that breaks the URL is not repeated either.
    assert_said(
        &sync(&with(&format!(":{SECRET}/x")), &target.url(), &[]),
        2,
        &names,
        "--from: this is no place that can be reached",
        "write redis://user:password@host:port/db, with @ : / and % in a password as %40 %3A %2F %25",
    );
    let right = sync(&with(&format!(":{SECRET}")), &target.url(), &["--progress", "json"]);
    right.assert_code(0);
    assert_eq!(right.reported("totals.keys"), 1);
}

#[test]
fn users_without_the_rights_of_a_replica() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let url = format!("redis://app:{SECRET}@127.0.0.1:{}", source.port);
    let mut admin = source.client();
    let mut allow = |rights: &str| {
        let mut words = vec!["ACL", "SETUSER", "app", "reset", "on", "~*"];
        let password = format!(">{SECRET}");
        words.push(&password);
        words.extend(rights.split(' '));
        admin.call(words.iter().map(|word| word.as_bytes().to_vec()).collect());
    };
    let names = [(source.port, "SOURCE")];
    allow("+@all -psync -sync");
    assert_said(
        &sync(&url, &target.url(), &[]),
        2,
        &names,
        "SOURCE: the master forbids PSYNC: NOPERM this user has no permissions to run the 'psync' command",
        "let this user replicate: ACL SETUSER name +psync +sync +replconf +ping; a managed service that forbids it must be read another way",
    );
    allow("+@all -replconf");
    assert_said(
        &sync(&url, &target.url(), &[]),
        2,
        &names,
        "SOURCE: the master forbids REPLCONF: NOPERM this user has no permissions to run the 'replconf' command",
        "let this user replicate: ACL SETUSER name +psync +sync +replconf +ping; a managed service that forbids it must be read another way",
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0);
    // All that it takes, and nothing more.
    allow("-@all +psync +replconf");
    let ended = sync(&url, &target.url(), &[]);
    ended.assert_code(0);
    assert_eq!(ended.reported("totals.keys"), 1);
}

/// What the ACL of a target forbids is found before anything is written, as far as every copy needs it; the rest when it is met.
#[test]
fn users_without_the_rights_to_write() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let url = format!("redis://app:{SECRET}@127.0.0.1:{}", target.port);
    let mut admin = target.client();
    let mut allow = |rights: &str| {
        let mut words = vec!["ACL", "SETUSER", "app", "reset", "on"];
        let password = format!(">{SECRET}");
        words.push(&password);
        words.extend(rights.split(' '));
        admin.call(words.iter().map(|word| word.as_bytes().to_vec()).collect());
    };
    let names = [(source.port, "SOURCE"), (target.port, "TARGET")];
    let mend = "let this ACL user write all that may come: ACL SETUSER name +@all ~* on the target, or give another user in --to";
    let no_right = |command: &str| {
        format!("NOPERM this user has no permissions to run the '{command}' command")
    };
    for (rights, command) in [("-restore", "RESTORE"), ("-eval", "EVAL"), ("-set", "SET")] {
        allow(&format!("~* +@all {rights}"));
        let ended = sync(&source.url(), &url, &[]);
        let what =
            format!("TARGET: the target forbids {command}: {}", no_right(&command.to_lowercase()));
        assert_said(&ended, 2, &names, &what, mend);
    }
    allow("~app:* +@all");
    let ended = sync(&source.url(), &url, &[]);
    let what = "TARGET: the target forbids SET: NOPERM this user has no permissions to access one of the keys used as arguments";
    assert_said(&ended, 2, &names, what, mend);
    allow("~* +@all -multi");
    let ended = sync(&source.url(), &url, &[]);
    let what = format!("SOURCE: target: the target forbids MULTI: {}", no_right("multi"));
    assert_said(&ended, 2, &names, &what, mend);
    // Without INFO it is taken for empty only if it says so otherwise.
    target.client().call(cmd!("SET", "there", 1));
    allow("~* +@all -info");
    let ended = sync(&source.url(), &url, &[]);
    assert_eq!(said(&ended, &names).0, "TARGET: the target already holds 1 keys");
    target.client().call(cmd!("DEL", "there"));
    source.client().call(cmd!("RPUSH", "list", "a"));
    let without_functions = "~* +@all -function";
    allow(without_functions);
    source.client().call(cmd!(
        "FUNCTION",
        "LOAD",
        "#!lua name=l\nredis.register_function('f',function() return 1 end)"
    ));
    let ended = sync(&source.url(), &url, &[]);
    assert_eq!(
        said(&ended, &names).0,
        "SOURCE: the target forbids FUNCTION: NOPERM this user has no permissions to run the 'function|load' command"
    );
    assert!(said(&ended, &names).1.starts_with("let this ACL user write"), "{}", ended.stderr);
}

#[test]
fn commands_that_a_provider_has_renamed() {
    let options =
        ["--rename-command", "PSYNC", "hidden-psync", "--rename-command", "SYNC", "hidden-sync"];
    let Some((source, target)) = pair(&options, &[]) else { return };
    let ended = sync(&source.url(), &target.url(), &[]);
    ended.assert_code(2);
    let (what, mend) = said(&ended, &[(source.port, "SOURCE")]);
    assert!(
        what.starts_with(
            "SOURCE: the master knows neither PSYNC nor SYNC: PSYNC: ERR unknown command 'PSYNC'"
        ),
        "{what}"
    );
    assert_eq!(
        mend,
        "the commands are renamed (rename-command in the master's configuration) or the provider has switched them off; only a source that allows PSYNC or SYNC can be followed"
    );
}

/// It is read with SYNC, which is said, or not at all.
#[test]
fn a_master_that_takes_no_psync() {
    let Some((source, target)) = pair(&["--rename-command", "PSYNC", "hidden-psync"], &[]) else {
        return;
    };
    let ended = sync(&source.url(), &target.url(), &["--method", "psync"]);
    ended.assert_code(2);
    let (what, mend) = said(&ended, &[(source.port, "SOURCE")]);
    assert!(
        what.starts_with("SOURCE: the master does not take PSYNC: ERR unknown command 'PSYNC'"),
        "{what}"
    );
    assert!(
        mend.ends_with("--method auto reads it with SYNC, and then a lost link costs a new copy"),
        "{mend}"
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0);

    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
    let arrived = Client::wait_for_key(target.port, 0, "key", PATIENCE, || running.is_running());
    assert!(arrived);
    source.client().call(cmd!("CLIENT", "KILL", "TYPE", "replica"));
    let ended = running.wait(PATIENCE);
    ended.assert_code(3);
    assert_eq!(ended.reported("sources.0.method"), "sync");
    let warning = "the master does not take PSYNC and is read with SYNC: a lost link costs a new copy answer=\"ERR unknown command 'PSYNC'";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    let (what, mend) = said(&ended, &[(source.port, "SOURCE")]);
    assert_eq!(
        what,
        "SOURCE: the link was lost, and what is read with SYNC cannot go on from there: the master closed the connection"
    );
    assert_eq!(mend, "the data set must be copied again: empty the target and start again");

    let ended =
        sync(&target.url(), &source.url(), &["--method", "psync", "--on-conflict", "replace"]);
    ended.assert_code(0);
}

#[test]
fn no_room_for_one_more_client() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let mut holds = source.client();
    holds.call(cmd!("CONFIG", "SET", "maxclients", 1));
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &[(source.port, "SOURCE")],
        "SOURCE: it has no room for one more client: ERR max number of clients reached",
        "raise maxclients on the server, or close some of its clients (CLIENT LIST)",
    );
}

/// A server that is loading is waited for; the run then does what it was asked for.
#[test]
fn a_server_that_loads_is_waited_for() {
    let options = ["--loading-process-events-interval-bytes", "1024"];
    let Some((source, target)) = pair(&options, &[]) else { return };
    let mut writer = source.client();
    for index in 0..300 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(100)));
    }
    writer.call(cmd!("CONFIG", "SET", "key-load-delay", 10_000));
    let mut reloads = source.client();
    let loading = thread::spawn(move || reloads.call(cmd!("DEBUG", "RELOAD")));
    let begun = Instant::now();
    while Client::connect(source.port).info("persistence", "loading") != "1" {
        assert!(begun.elapsed() < PATIENCE, "it does not load");
    }
    let ended = sync(&source.url(), &target.url(), &[]);
    loading.join().unwrap();
    ended.assert_code(0);
    assert!(
        ended.stderr.contains("the server is loading its data: waiting for it"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.reported("totals.keys"), 301);
}

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:scripted\r\n# Replication\r\nrole:master\r\nmaster_repl_offset:0\r\n";

#[test]
fn a_source_that_vanishes_during_the_handshake() {
    let Some(target) = Server::start(SERVER) else { return };
    let port = scripted(&[
        ("PING", b"+PONG\r\n".to_vec()),
        ("INFO", bulk(INFO)),
        ("REPLCONF", b"+OK\r\n".to_vec()),
    ]);
    assert_said(
        &sync(&format!("redis://127.0.0.1:{port}"), &target.url(), &[]),
        2,
        &[(port, "SOURCE")],
        "SOURCE: the master closed the connection",
        "see that the source can be reached, and start again",
    );
}

#[test]
fn a_source_that_vanishes_during_the_copy() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let mut writer = source.client();
    for index in 0..3000 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(1000)));
    }
    writer.call(cmd!("CONFIG", "SET", "rdb-key-save-delay", 1000));
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to, "--once"]);
    let begun = Instant::now();
    let mut reader = target.client();
    while reader.call(cmd!("DBSIZE")).int() == 0 {
        assert!(begun.elapsed() < PATIENCE && running.is_running(), "no key arrives");
    }
    let port = source.port;
    drop(source);
    let ended = running.wait(PATIENCE);
    assert_eq!(ended.reported("outcome"), "failed");
    let (what, mend) = said(&ended, &[(port, "SOURCE")]);
    ended.assert_code(3);
    assert!(what.starts_with("SOURCE: the copy was cut off: "), "{what}");
    let progress = format!("127.0.0.1:{port}  ");
    let last = ended.stderr.lines().filter_map(|line| line.strip_prefix(&progress)).next_back();
    assert!(last.is_some_and(|last| last.starts_with("failed  ")), "{}", ended.stderr);
    assert_eq!(
        mend,
        "a copy cannot go on in its midst: empty the target and start again; if the master's log says that we did not read fast enough, raise client-output-buffer-limit for replicas there"
    );
}

/// A target that is gone is waited for, and that is said.
#[test]
fn a_target_that_vanishes_is_waited_for() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
    let arrived = Client::wait_for_key(target.port, 0, "key", PATIENCE, || running.is_running());
    assert!(arrived);
    drop(target);
    source.client().call(cmd!("SET", "key", "changed"));
    thread::sleep(Duration::from_secs(1));
    assert!(running.is_running(), "it has given up");
    running.interrupt();
    let ended = running.wait(Duration::from_secs(10));
    ended.assert_code(130);
    // Each line of a log names the source, and progress does not go on as if nothing had happened.
    let lane = format!("lane{{source=127.0.0.1:{}}}: the target is lost", source.port);
    assert!(ended.stderr.contains(&lane), "{}", ended.stderr);
    let waiting = format!("\n127.0.0.1:{}  waiting for target", source.port);
    assert!(ended.stderr.contains(&waiting), "{}", ended.stderr);
}

/// The first signal waits for what was sent, the second for nothing. Wrappers pass on what we got already: that is no second one.
#[test]
fn the_second_signal_ends_at_once() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
    let arrived = Client::wait_for_key(target.port, 0, "key", PATIENCE, || running.is_running());
    assert!(arrived);
    // Now there is something that cannot be confirmed, so that a stop takes its time.
    drop(target);
    source.client().call(cmd!("SET", "key", "changed"));
    thread::sleep(Duration::from_millis(1500));
    running.interrupt();
    thread::sleep(Duration::from_millis(50));
    running.interrupt();
    thread::sleep(Duration::from_secs(1));
    assert!(running.is_running(), "it took one signal for two");
    let begun = Instant::now();
    running.interrupt();
    let ended = running.wait(Duration::from_secs(5));
    ended.assert_code(130);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(ended.stderr.contains("\nended at once: "), "{}", ended.stderr);
}

/// A target that is full is tried again and again; after a while somebody must be told.
#[test]
fn a_target_that_stays_full_is_said() {
    let Some((source, target)) = pair(&[], &["--maxmemory", "3mb"]) else { return };
    let mut writer = source.client();
    for index in 0..100 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(100_000)));
    }
    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to, "--once"]);
    thread::sleep(Duration::from_secs(6));
    assert!(running.is_running(), "it has given up");
    running.interrupt();
    let ended = running.wait(Duration::from_secs(10));
    ended.assert_code(130);
    assert!(
        ended.stderr.contains("the target refuses to go on for now")
            && ended.stderr.contains("OOM"),
        "{}",
        ended.stderr
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
            "redis-cluster://a:1",
            vec![],
            "--from: redis-cluster:// places are not supported by this version",
            "give the master itself: redis://host:port",
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
fn sockets_that_nobody_listens_on() {
    let Some(source) = Server::start(SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for (socket, reason, mend) in [
        (
            folder.path().join("none.sock"),
            "No such file or directory (os error 2)",
            "check the socket's path in --to (unixsocket in the server's configuration)",
        ),
        (
            stale,
            "Connection refused (os error 111)",
            "the server that made this socket is gone: check the path in --to, and that the server is up",
        ),
    ] {
        let to = format!("unix:{}", socket.display());
        let what = format!("{to}: cannot connect: {reason}");
        assert_said(&sync(&source.url(), &to, &[]), 2, &[], &what, mend);
    }
}

/// What a server says may hold anything: it stays on its line, and moves no cursor.
#[test]
fn what_a_server_says_is_shown_on_one_line() {
    let Some(target) = Server::start(SERVER) else { return };
    let port = impostor(says(b"-ERR first\rsecond\x1b[2J\r\n"));
    assert_said(
        &sync(&format!("redis://127.0.0.1:{port}"), &target.url(), &[]),
        2,
        &[(port, "SOURCE")],
        r"SOURCE: PING: ERR first\rsecond\u{1b}[2J",
        "see the server's log",
    );
}

/// With JSON logs every line on stderr is an object.
#[test]
fn errors_are_lines_of_a_json_log() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let ended = Understudy::start(&["--log-format", "json", "ping", &url]).wait(PATIENCE);
    ended.assert_code(2);
    let line: serde_json::Value = serde_json::from_str(ended.stderr.trim_end()).unwrap();
    assert_eq!(
        (&line["level"], &line["fields"]["mend"]),
        (
            &"ERROR".into(),
            &"nothing listens there: check the port in the URL, and that the server is up".into()
        )
    );
    let message = format!("127.0.0.1:{port}: cannot connect: Connection refused (os error 111)");
    assert_eq!(line["fields"]["message"], message);
}

#[test]
fn filters_that_are_none() {
    for (filters, what) in [
        ("verbose", "UNDERSTUDY_LOG: \"verbose\" is no level"),
        ("info,understudy=loud", "UNDERSTUDY_LOG=info,understudy=loud: error parsing level filter"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        let output = command.args(["ping", "redis://a:1"]).env("UNDERSTUDY_LOG", filters).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error: {what}")), "{said}");
    }
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

/// `| head -1` ends the reader of the table, not the run: the report is written all the same.
#[test]
fn nobody_need_read_the_table() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let (from, to) = (source.url(), target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--once", "--report"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.args(args).arg(&report).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(report).unwrap().contains("\"outcome\": \"done\""));
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
