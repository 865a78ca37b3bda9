//! An ssh host of this machine, through which all sources are reached.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::servers::LOOK;

/// An `sshd` on loopback with keys of its own. It dies with this value.
pub(crate) struct Sshd {
    port: u16,
    child: Child,
    folder: TempDir,
}

impl Sshd {
    /// `None` if this machine has none.
    pub(crate) fn start() -> Option<Self> {
        let folders = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).chain(folders.map(PathBuf::from));
        let program =
            folders.find_map(|folder| Some(folder.join("sshd")).filter(|at| at.exists()))?;
        let folder = tempfile::tempdir().unwrap();
        let [host, client] = ["host", "client"].map(|name| folder.path().join(name));
        make_key(&host);
        make_key(&client);
        // What it needs to give up its rights, if it has any.
        let _ = fs::create_dir_all("/run/sshd");
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let at = folder.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/client.pub\n\
             PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        );
        fs::write(folder.path().join("config"), config).unwrap();
        let public = fs::read_to_string(folder.path().join("host.pub")).unwrap();
        fs::write(folder.path().join("known"), format!("[127.0.0.1]:{port} {public}")).unwrap();
        let mut child = Command::new(program)
            .args(["-D", "-f"])
            .arg(folder.path().join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "sshd does not start");
            thread::sleep(LOOK);
        }
        Some(Self { port, child, folder })
    }

    /// What the tool is told to reach all sources through it.
    pub(crate) fn args(&self) -> Vec<String> {
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let file = |name| self.folder.path().join(name).display().to_string();
        let host = format!("{}@127.0.0.1:{}", user.trim(), self.port);
        ["--from-ssh", &host, "--ssh-key", &file("client"), "--ssh-known-hosts", &file("known")]
            .map(str::to_owned)
            .into()
    }
}

fn make_key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen runs").success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
