//! The servers between which data is moved, and what a process has cost.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, cmd};
use crate::data::Commands;

/// A server of the tests, if it is there.
pub(crate) fn cached(name: &str) -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = set("UNDERSTUDY_CACHE").or_else(|| Some(cache?.join("understudy")))?;
    Some(cache.join("servers").join(name).join("redis-server")).filter(|program| program.exists())
}

/// The server that is measured with: that of the tests, else the one on PATH.
pub(crate) fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("redis-server"));
    cached("redis-7.0.15").or_else(|| { on_path }.find(|program| program.exists()))
}

/// A running server without data. It dies with this value.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Child,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start(program: &Path) -> Self {
        // Before 7.0 DEBUG needs no leave, and the oldest know no diskless saves.
        let delay = ["--repl-diskless-sync-delay", "0"];
        let debug = ["--enable-debug-command", "yes"];
        let all = [[delay, debug].concat(), delay.to_vec(), Vec::new()];
        let mut tries = all.iter().filter_map(|options| Self::try_start(program, options));
        tries.next().unwrap_or_else(|| panic!("{} does not start", program.display()))
    }

    fn try_start(program: &Path, options: &[&str]) -> Option<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no"])
            .args(options)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            thread::sleep(LOOK);
        }
        Some(Self { port, child, _folder: folder })
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its own digest of all data, which takes it tens of seconds for a million keys.
    pub(crate) fn digest(&self) -> String {
        Client::connect_with(self.port, Duration::from_secs(300))
            .call(cmd!("DEBUG", "DIGEST"))
            .text()
    }

    /// How long it has kept a core busy since it was started.
    pub(crate) fn busy(&self) -> Duration {
        cost(self.child.id(), Cost::default()).0.cpu
    }

    /// Sends all commands over one connection, as fast as it takes them, and gives how long that took.
    pub(crate) fn blast(&self, commands: &Commands) -> Duration {
        let mut replies = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut sends = replies.try_clone().unwrap();
        let begun = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || sends.write_all(&commands.bytes).unwrap());
            let (mut room, mut left) = (vec![0; 1 << 16], commands.count);
            while left > 0 {
                let read = replies.read(&mut room).unwrap();
                assert!(read > 0, "the server closed the link");
                // Each is one line: a status, a number or an error.
                assert!(!room[..read].contains(&b'-'), "a command was refused");
                left -= room[..read].iter().filter(|&&byte| byte == b'\n').count();
            }
        });
        begun.elapsed()
    }

    /// Makes it a replica of another until it holds what that one held, and gives how long that took.
    pub(crate) fn replicate(&self, source: &Self) -> Duration {
        let mut client = self.client();
        let begun = Instant::now();
        client.call(cmd!("REPLICAOF", "127.0.0.1", source.port));
        while client.info("replication", "master_link_status") != "up" {
            thread::sleep(LOOK);
        }
        begun.elapsed()
    }

    /// Ends being a replica, and being full.
    pub(crate) fn empty(&self) {
        let mut client = self.client();
        client.call(cmd!("REPLICAOF", "NO", "ONE"));
        client.call(cmd!("FLUSHALL"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often something is looked at that does not tell by itself.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// What a process has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// In the program and in the kernel on its behalf.
    pub(crate) cpu: Duration,
    /// The most memory that it has had, in bytes.
    pub(crate) memory: u64,
}

/// The cost of a process up to now, and whether it has ended; to be asked again and again, before somebody waits for it: what has ended tells its
/// time still, and its memory no more.
pub(crate) fn cost(process: u32, so_far: Cost) -> (Cost, bool) {
    let read = |name| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let (status, stat) = (read("status"), read("stat"));
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    let peak = peak.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024;
    // Behind the name in brackets: the state is the first field, utime the twelfth, stime the thirteenth, in hundredths.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let cpu = Duration::from_millis(10 * (ticks(11) + ticks(12)));
    let memory = so_far.memory.max(peak);
    (Cost { cpu, memory }, fields.first() == Some(&"Z"))
}
