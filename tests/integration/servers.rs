//! Real servers, started and stopped by the tests. `scripts/servers.sh` gets them.

use std::collections::VecDeque;
use std::env;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Client, cmd};

/// All servers that the script gets, oldest first within each family.
pub(crate) const ALL: [&str; 13] = [
    "redis-2.8.17",
    "redis-3.0.5",
    "redis-3.2.6",
    "redis-5.0.6",
    "redis-6.0.16",
    "redis-6.2.14",
    "redis-7.0.15",
    "redis-8.0.2",
    "redis-8.0.6",
    "valkey-8.0.1",
    "valkey-8.1.1",
    "valkey-9.1.2",
    "redict-7.3.6",
];

#[test]
fn the_script_gets_these_servers() {
    let script = include_str!("../../scripts/servers.sh");
    let (_, rest) = script.split_once("\nNAMES=(").unwrap();
    let (names, _) = rest.split_once(')').unwrap();
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ALL);
}

/// How many lines of a server's log are kept: all from the beginning of a full synchronization to the end of a test.
const LOG: usize = 40;

/// How long a server may take to say that it is ready.
const START: Duration = Duration::from_secs(15);

/// What a server is, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The Redis it is, or says it is like: Valkey and Redict say 7.2.
    pub(crate) redis: (u32, u32),
    pub(crate) family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Redis,
    Valkey,
    Redict,
}

impl Version {
    pub(crate) fn of(client: &mut Client) -> Self {
        let family = if !client.info("server", "valkey_version").is_empty() {
            Family::Valkey
        } else if !client.info("server", "redict_version").is_empty() {
            Family::Redict
        } else {
            Family::Redis
        };
        let said = client.info("server", "redis_version");
        let mut numbers = said.split('.').map(|number| number.parse().expect("a version number"));
        Self { redis: (numbers.next().unwrap(), numbers.next().unwrap()), family }
    }

    pub(crate) fn at_least(self, major: u32, minor: u32) -> bool {
        self.redis >= (major, minor)
    }
}

/// A running server on a loopback port, with a folder of its own. It dies with this value.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) version: Version,
    child: Child,
    log: Log,
    options: Vec<String>,
    dir: Arc<TempDir>,
}

/// The last lines that a server wrote.
type Log = Arc<Mutex<VecDeque<String>>>;

impl Server {
    /// Starts the server of this name. `None` if it is not on this machine: then the test is skipped, which is said; in CI
    /// that is a failure.
    pub(crate) fn start(name: &'static str) -> Option<Self> {
        Self::start_with(name, &[])
    }

    /// As [`Server::start`], with further options of the server's command line.
    pub(crate) fn start_with(name: &'static str, options: &[&str]) -> Option<Self> {
        let binary = program(name)?;
        // Between the choice of a port and the server's bind another process may take it: then another port.
        for _ in 0..5 {
            let dir = Arc::new(folder_for_data());
            if let Some(server) = Self::try_start(name, &binary, free_port(), options, dir) {
                return Some(server);
            }
        }
        panic!("{name} does not start");
    }

    fn try_start(
        name: &'static str,
        binary: &PathBuf,
        port: u16,
        options: &[&str],
        dir: Arc<TempDir>,
    ) -> Option<Self> {
        let mut command = Command::new(binary);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(dir.path()).current_dir(dir.path());
        command.args(["--appendonly", "no", "--daemonize", "no", "--databases", "16"]);
        if !name.starts_with("redis-2.8") {
            // A replica that comes need not be waited for by others.
            command.args(["--repl-diskless-sync-delay", "0"]);
        }
        if !["redis-2", "redis-3", "redis-5", "redis-6"].iter().any(|old| name.starts_with(old)) {
            command.args(["--enable-debug-command", "yes"]);
        }
        command.args(options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server's program runs");

        let log = Log::default();
        let (ready, is_ready) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.to_lowercase().contains("ready to accept connections") {
                    // Nobody listens any more to a second such line (Valkey says it for each socket).
                    let _ = ready.send(());
                }
                let mut kept = kept.lock().unwrap();
                kept.push_back(line);
                if kept.len() > LOG {
                    kept.pop_front();
                }
            }
        });
        // The sender is gone when the server has ended: that is a port in use, or a fault that five tries will show.
        if is_ready.recv_timeout(START).is_err() {
            let _ = child.kill();
            let _ = child.wait();
            say(&format!("{name} did not start on port {port}: {:?}", log.lock().unwrap()));
            return None;
        }
        let mut client = Client::connect(port);
        let version = Version::of(&mut client);
        assert_eq!(
            client.info("server", "process_id"),
            child.id().to_string(),
            "another server is on {port}"
        );
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Some(Self { name, port, version, child, log, options, dir })
    }

    /// Kills it, and starts it again under its address, without its data.
    pub(crate) fn kill_and_start_empty(&mut self) {
        self.kill();
        self.start_in(Arc::new(folder_for_data()));
    }

    /// Kills it without a word. Its folder stays.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts one that was killed again under its address, with what its folder holds.
    pub(crate) fn start_again(&mut self) {
        self.start_in(Arc::clone(&self.dir));
    }

    fn start_in(&mut self, dir: Arc<TempDir>) {
        let binary = program(self.name).expect("it was there a moment ago");
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let again = Self::try_start(self.name, &binary, self.port, &options, dir);
        *self = again.expect("its port is free");
    }

    /// Its folder, with what it has written to the disk.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// `redis://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The offset that its master has told this replica with `+FULLRESYNC`.
    #[track_caller]
    pub(crate) fn full_resync(&self) -> u64 {
        let log = self.log.lock().unwrap();
        // Newer ones say "from primary".
        let line = log.iter().rev().find(|line| line.contains("Full resync from "));
        let offset = line.and_then(|line| line.rsplit(':').next()).expect("it was synchronized");
        offset.trim_end().parse().unwrap()
    }

    /// The last lines that it wrote, so many at the most.
    pub(crate) fn last_words(&self, most: usize) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().skip(log.len().saturating_sub(most)).cloned().collect()
    }

    /// The server's own digest of all databases. It does not see deadlines, nor streams' groups.
    pub(crate) fn digest(&self) -> String {
        self.client().call(cmd!("DEBUG", "DIGEST")).text()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            say(&format!(
                "the last lines of {}:\n  {}",
                self.name,
                self.last_words(LOG).join("\n  ")
            ));
        }
    }
}

/// Notes that the running test is skipped, and why. `scripts/test` prints the list and its count at the end.
///
/// # Panics
/// In CI, where nothing may be missing.
pub(crate) fn skip(why: &str) {
    assert!(!in_ci(), "{why}, and CI wants every test");
    note_skipped(why);
}

/// As [`skip`], for what CI may do without.
pub(crate) fn note_skipped(why: &str) {
    let name = env::var("NEXTEST_TEST_NAME")
        .ok()
        .or_else(|| thread::current().name().map(str::to_owned))
        .unwrap_or_default();
    let line = format!("skipped: {name} ({why})");
    say(&line);
    if let Some(list) = env::var_os("UNDERSTUDY_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{line}").unwrap();
    }
}

pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// Writes past the test runner, which would swallow what a passing test prints.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The program of a server. `None` if it is not on this machine, as in [`Server::start`].
pub(crate) fn program(name: &'static str) -> Option<PathBuf> {
    let binary = folder().join(name).join("redis-server");
    if !binary.exists() {
        skip(&format!("no {name}"));
        return None;
    }
    Some(binary)
}

/// Where `scripts/servers.sh` puts the servers.
pub(crate) fn folder() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        Some(
            set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("understudy"),
        )
    };
    set("UNDERSTUDY_CACHE").or_else(cache).unwrap_or_default().join("servers")
}

/// In memory where that can be: these servers' files are small, and a busy disk can hold an fsync up for many seconds.
fn folder_for_data() -> TempDir {
    let in_memory = tempfile::Builder::new().prefix("understudy-test-").tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder for the server")
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
