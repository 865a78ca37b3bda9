//! The tool, running, and what it has cost.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::servers::{Cost, LOOK, cost};

/// The tool with a state of its own. It says nothing of how far it is, unless it is told to.
pub(crate) struct Tool {
    child: Child,
    /// Its own state, and what it says.
    state: TempDir,
}

impl Tool {
    pub(crate) fn start(args: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(args)
            .env("UNDERSTUDY_STATE", state.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(state.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, state }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and gives what it has said too.
    pub(crate) fn end(mut self, code: i32) -> (Cost, String) {
        let mut so_far = Cost::default();
        loop {
            let (now, ended) = cost(self.child.id(), so_far);
            so_far = now;
            if ended {
                break;
            }
            thread::sleep(LOOK);
        }
        let ended = self.child.wait().unwrap();
        let said = fs::read_to_string(self.state.path().join("stderr")).unwrap();
        assert_eq!(ended.code(), Some(code), "{said}");
        (so_far, said)
    }
}
