//! An ssh server of this machine, with keys of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::servers::{free_port, say, skip};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// An `sshd` on loopback. It is killed when this value goes.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
}

impl Sshd {
    /// Starts one that lets in whoever runs the test, with the key of [`Self::key`]. `None` if this machine has none: then the test is
    /// skipped, which is said; in CI that is a failure.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, with further lines of its configuration, before which none of ours counts.
    pub(crate) fn start_with(lines: &[&str]) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        make_key(&folder.path().join("host"), "ed25519", "");
        make_key(&folder.path().join("client"), "ed25519", "");
        fs::copy(folder.path().join("client.pub"), folder.path().join("authorized")).unwrap();
        // What it needs to give up its rights, if it has any; a system that starts it makes this folder then.
        let _ = fs::create_dir_all("/run/sshd");
        // Between the choice of a port and its bind another process may take it.
        for _ in 0..5 {
            let port = free_port();
            let at = folder.path().display();
            let config = [
                lines.join("\n"),
                format!("Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host"),
                format!("AuthorizedKeysFile {at}/authorized\nPidFile none\nUsePAM no"),
                "StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nLogLevel VERBOSE\n"
                    .to_owned(),
            ];
            fs::write(folder.path().join("config"), config.join("\n")).unwrap();
            let log = Arc::default();
            if let Some(child) = run(&program, &folder.path().join("config"), &log) {
                let sshd = Self { port, child, log, folder };
                let public = fs::read_to_string(sshd.path("host.pub")).unwrap();
                sshd.know(&public);
                return Some(sshd);
            }
            say(&format!("sshd did not start on port {port}: {:?}", log.lock().unwrap()));
        }
        panic!("sshd does not start");
    }

    /// Writes this into the file of known hosts as its key.
    pub(crate) fn know(&self, public: &str) {
        fs::write(self.path("known"), format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path of a file of its folder: `client` is the key that is let in, `known` the file of known hosts.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `user@host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{}@127.0.0.1:{}", user(), self.port)
    }

    /// Writes a configuration for the system's ssh, which knows this host as `gate`, and gives its path.
    pub(crate) fn client_config(&self) -> String {
        let (key, known, port) = (self.file("client"), self.file("known"), self.port);
        let text = format!(
            "Host gate\n HostName 127.0.0.1\n Port {port}\n User {}\n IdentityFile {key}\n UserKnownHostsFile {known}\n\
             IdentitiesOnly yes\n IdentityAgent none\n GlobalKnownHostsFile none\n",
            user()
        );
        fs::write(self.path("client-config"), text).unwrap();
        self.file("client-config")
    }

    /// Makes a key in its folder that it does not let in.
    pub(crate) fn stranger(&self, name: &str, passphrase: &str) -> String {
        make_key(&self.path(name), "ed25519", passphrase);
        self.file(name)
    }

    /// Lets a key of its folder in too.
    pub(crate) fn let_in(&self, name: &str) {
        let mut all = fs::read_to_string(self.path("authorized")).unwrap();
        all.push_str(&fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap());
        fs::write(self.path("authorized"), all).unwrap();
    }

    /// How many sessions it has let in so far.
    pub(crate) fn logins(&self) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains("Accepted publickey for")).count()
    }

    /// Ends all sessions, as a host does that goes down; it goes on listening.
    pub(crate) fn drop_sessions(&self) {
        let parent = format!("--parent={}", self.child.id());
        let _ = Command::new("pkill").args(["-KILL", &parent]).status();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.drop_sessions();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &Path, config: &Path, log: &Arc<Mutex<Vec<String>>>) -> Option<Child> {
    let mut command = Command::new(program);
    command.args(["-D", "-e", "-f"]).arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sshd runs");
    let lines = BufReader::new(child.stderr.take().unwrap());
    let (ready, is_ready) = mpsc::channel();
    let kept = Arc::clone(log);
    thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            if line.contains("Server listening on") {
                let _ = ready.send(());
            }
            kept.lock().unwrap().push(line);
        }
    });
    if is_ready.recv_timeout(START).is_ok() {
        return Some(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Who runs the test: the only one whom an `sshd` of his own can let in.
pub(crate) fn user() -> String {
    let told = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen runs").success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether this program is on this machine.
fn program() -> Option<PathBuf> {
    let paths = std::env::var("PATH").unwrap_or_default();
    let folders = paths.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found = folders.map(|folder| Path::new(folder).join("sshd")).find(|path| path.exists());
    if found.is_none() {
        skip("no sshd");
    }
    found
}

/// An ssh agent that holds some keys. It is killed when this value goes.
pub(crate) struct Agent {
    child: Child,
    folder: TempDir,
}

impl Agent {
    pub(crate) fn with(keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("ssh-agent runs");
        crate::asking::until("the agent listens", START, || socket.exists());
        let mut add = Command::new("ssh-add");
        let added = add.arg("-q").args(keys).env("SSH_AUTH_SOCK", &socket).status();
        assert!(added.expect("ssh-add runs").success());
        Self { child, folder }
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("agent").to_str().unwrap().to_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
