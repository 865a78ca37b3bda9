//! A server of this machine, started on a free loopback port and ended with the demo.

use std::env;
use std::fmt;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::sleep;
use understudy::flow::chain;
use understudy::net::Control;
use understudy::net::Net;
use understudy::plan::Place;
use understudy::plan::ServerPlace;
use understudy::server::Flavour;
use understudy::server::Version;

/// A server's program.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    flavour: Flavour,
    version: Version,
}

impl Program {
    /// The first that is found on `PATH`.
    pub(super) fn on_path() -> Option<Self> {
        let path = env::var_os("PATH")?;
        let folders: Vec<PathBuf> = env::split_paths(&path).collect();
        let names = [("redis-server", Flavour::Redis), ("valkey-server", Flavour::Valkey)];
        let mut candidates =
            names.iter().flat_map(|name| folders.iter().map(move |folder| (folder, name)));
        candidates.find_map(|(folder, (name, flavour))| Self::at(folder.join(name), *flavour))
    }

    fn at(path: PathBuf, named: Flavour) -> Option<Self> {
        let said = Command::new(&path).arg("--version").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = version_of(&said)?;
        // Valkey's package may install itself under Redis's name.
        let flavour = if said.starts_with("Valkey") { Flavour::Valkey } else { named };
        Some(Self { path, flavour, version })
    }

    /// The Redis whose data it can hold.
    pub(super) fn as_redis(&self) -> Version {
        understudy::server::Server { flavour: self.flavour, version: self.version }.as_redis()
    }
}

/// Out of `Redis server v=7.0.15 sha=00000000:0 …`.
fn version_of(said: &str) -> Option<Version> {
    said.split_whitespace().find_map(|word| word.strip_prefix("v=")).and_then(Version::parse)
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.flavour, self.version, self.path.display())
    }
}

/// A running server. It ends with this value.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
}

/// How often a port is tried: between its choice and the server's bind somebody else may take it.
const TRIES: u32 = 5;

/// How long a server may take to answer, in steps.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u32 = 250;

impl Server {
    /// Starts it and waits until it answers.
    pub(super) async fn start(net: &Net, program: &Program, folder: &Path) -> Result<Self, String> {
        let mut failure = String::new();
        for _ in 0..TRIES {
            let mut server = Self::spawn(program, folder)?;
            match server.ready(net).await {
                Ok(()) => return Ok(server),
                Err(text) => failure = text,
            }
        }
        Err(format!("{program} does not start: {failure}"))
    }

    fn spawn(program: &Program, folder: &Path) -> Result<Self, String> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let child = Command::new(&program.path)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--daemonize", "no", "--dbfilename", FILE, "--dir"])
            .arg(folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        Ok(Self { child, port, folder: folder.to_owned() })
    }

    async fn ready(&mut self, net: &Net) -> Result<(), String> {
        let mut failure = String::new();
        for _ in 0..STEPS {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            match Control::open(net, &self.place()?).await {
                Ok(mut control) => {
                    let info = control.info("server").await.map_err(|error| chain(&error))?;
                    let pid = format!("process_id:{}\r", self.child.id());
                    let is_ours = info.lines().any(|line| line == pid.trim_end());
                    return if is_ours { Ok(()) } else { Err("its port was taken".to_owned()) };
                }
                Err(error) => failure = chain(&error),
            }
            sleep(STEP).await;
        }
        Err(failure)
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn place(&self) -> Result<ServerPlace, String> {
        match Place::parse(&self.url()) {
            Ok(Place::Server(place)) => Ok(place),
            _ => Err(format!("{} is no place", self.url())),
        }
    }

    /// Lets it save what it holds, and gives the file.
    pub(super) async fn save(&self, net: &Net) -> Result<PathBuf, String> {
        let mut control =
            Control::open(net, &self.place()?).await.map_err(|error| chain(&error))?;
        control.ask::<()>("SAVE", &[]).await.map_err(|error| chain(&error))?;
        Ok(self.folder.join(FILE))
    }
}

/// What it saves itself to.
const FILE: &str = "arrived.rdb";

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_say_them() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=2c";
        assert_eq!(version_of(redis), Some(Version(7, 0, 15)));
        let valkey = "Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=a";
        assert_eq!(version_of(valkey), Some(Version(8, 1, 1)));
        assert_eq!(version_of("bash: not found"), None);
    }
}
