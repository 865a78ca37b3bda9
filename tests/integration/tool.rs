//! The built binary as a child process.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::asking;
use crate::said::Said;
use crate::servers::say;

/// `understudy` with some arguments, running. It is killed when this value goes.
pub(crate) struct Understudy {
    child: Child,
    stdout: Said,
    stderr: Said,
    args: Vec<String>,
    /// Its state: what it finds there is what it, or one before it in this folder, wrote.
    state: Arc<TempDir>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The file that `--report` named, if it was written.
    pub(crate) report: Option<serde_json::Value>,
}

impl Understudy {
    /// Starts `understudy ARGS`. A sync is also told where to write its report.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with_log(args, None, &new_state())
    }

    /// The same, and it tells on stderr what it does.
    pub(crate) fn start_telling(args: &[&str]) -> Self {
        Self::start_telling_in(args, &new_state())
    }

    /// The same, with the state that those before it have left.
    pub(crate) fn start_telling_in(args: &[&str], state: &Arc<TempDir>) -> Self {
        Self::start_with_log(args, Some("info"), state)
    }

    /// The same, and no file that it writes gets larger than so many bytes.
    pub(crate) fn start_with_small_files(args: &[&str], bytes: usize) -> Self {
        // A POSIX shell counts in 512 bytes, and some others in 1024.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_understudy")]);
        Self::spawn(command, args, Some("info"), &new_state())
    }

    /// The same, with these variables set.
    pub(crate) fn start_with_env(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command.envs(env.iter().copied());
        Self::spawn(command, args, None, &new_state())
    }

    fn start_with_log(args: &[&str], log: Option<&str>, state: &Arc<TempDir>) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_understudy")), args, log, state)
    }

    fn spawn(mut command: Command, args: &[&str], log: Option<&str>, state: &Arc<TempDir>) -> Self {
        command.args(args).env("UNDERSTUDY_STATE", state.path()).env_remove("UNDERSTUDY_LOG");
        command.envs(log.map(|level| ("UNDERSTUDY_LOG", level)));
        if args[0] == "sync" {
            command.arg("--report").arg(state.path().join("report.json"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("understudy runs");
        let stdout = Said::read(child.stdout.take().unwrap());
        let stderr = Said::read(child.stderr.take().unwrap());
        let args = args.iter().map(ToString::to_string).collect();
        Self { child, stdout, stderr, args, state: Arc::clone(state) }
    }

    /// Gives another command, on the same machine, to its end.
    pub(crate) fn beside(&self, args: &[&str]) -> Ended {
        Self::start_with_log(args, None, &self.state).wait(Duration::from_secs(20))
    }

    /// The folder with the folders of the jobs.
    pub(crate) fn state(&self) -> &Arc<TempDir> {
        &self.state
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had, in MiB; 0 once it has ended.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    }

    /// Waits until it has said these words on stderr, and goes on running.
    ///
    /// # Panics
    /// When it has ended without them, or `patience` is over.
    #[track_caller]
    pub(crate) fn tells(&self, words: &str, patience: Duration) {
        let told = self.stderr.wait_for(words, patience);
        assert!(told, "{words:?} was not said within {patience:?}: {}", self.stderr.so_far());
    }

    /// How it stands, by its own word.
    pub(crate) fn status(&self) -> serde_json::Value {
        let ended = self.beside(&["status", "--json"]);
        ended.assert_code(0);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Asks how it stands until it is so.
    ///
    /// # Panics
    /// With what it said last, when `patience` is over.
    #[track_caller]
    pub(crate) fn status_when(
        &self,
        patience: Duration,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut status = serde_json::Value::Null;
        let comes = asking::within(patience, || {
            status = self.status();
            is_so(&status)
        });
        assert!(comes, "{status}");
        status
    }

    /// Waits until it follows all its sources.
    ///
    /// # Panics
    /// With what it said last, when `patience` is over.
    #[track_caller]
    pub(crate) fn follows(&self, patience: Duration) {
        let mut told = String::new();
        let comes = asking::within(patience, || {
            // It may not answer yet.
            told = self.beside(&["status", "--json"]).stdout;
            let status: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
            let sources = status["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
            let follows = |source: &serde_json::Value| source["phase"] == "following";
            !sources.is_empty() && sources.iter().all(follows)
        });
        assert!(comes, "{told}");
    }

    /// Waits for the end, and gives the most memory that it has had, in MiB, with how it ended.
    #[track_caller]
    pub(crate) fn wait_with_peak(mut self, patience: Duration) -> (u64, Ended) {
        let mut most = 0;
        asking::until("it ends", patience, || {
            most = most.max(self.peak_mib());
            !self.is_running()
        });
        (most, self.wait(patience))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGINT, as Ctrl-C does; it may have ended before.
    pub(crate) fn interrupt(&mut self) {
        if self.is_running() {
            signal("INT", self.child.id());
        }
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When `patience` is over.
    #[track_caller]
    pub(crate) fn wait(mut self, patience: Duration) -> Ended {
        self.wait_in_place(patience)
    }

    /// Stops a run, and tells how it ended and how the same command is given again.
    #[track_caller]
    pub(crate) fn stop(mut self, patience: Duration) -> (Ended, Again) {
        self.interrupt();
        let stopped = self.wait_in_place(patience);
        let again = Again { args: std::mem::take(&mut self.args), state: Arc::clone(&self.state) };
        (stopped, again)
    }

    /// Kills it, and tells how the same command is given again.
    pub(crate) fn kill(mut self) -> Again {
        let _ = self.child.kill();
        let _ = self.child.wait();
        Again { args: std::mem::take(&mut self.args), state: Arc::clone(&self.state) }
    }

    /// Stops a run that follows, and ends its job with the same command and `--once`. Tells how the one that was stopped ended.
    #[track_caller]
    pub(crate) fn end_job(self, patience: Duration) -> Ended {
        let (stopped, again) = self.stop(patience);
        if stopped.code == Some(130) {
            let ended = again.once().wait(patience);
            // What the first could not prove the second may not have read anew.
            let code = if stopped.unproven() > 0 && ended.unproven() > 0 { 1 } else { 0 };
            ended.assert_code(code);
        }
        stopped
    }

    #[track_caller]
    fn wait_in_place(&mut self, patience: Duration) -> Ended {
        // Both pipes close when it ends, so nothing has to ask again and again.
        let ended = self.stderr.whole(patience).zip(self.stdout.whole(patience));
        let Some((stderr, stdout)) = ended else {
            let _ = self.child.kill();
            panic!("understudy has not ended after {patience:?}; stderr: {}", self.stderr.so_far());
        };
        let code = self.child.wait().unwrap().code();
        // One that was ended at once leaves it as empty as it was when the run saw that it can be written.
        let report = fs::read(self.state.path().join("report.json")).ok();
        let report = report.filter(|json| !json.is_empty());
        let report = report.map(|json| serde_json::from_slice(&json).expect("the report is JSON"));
        Ended { code, stdout, stderr, report }
    }
}

/// A command that was given before, and its state.
pub(crate) struct Again {
    args: Vec<String>,
    state: Arc<TempDir>,
}

impl Again {
    /// Gives it again as it was.
    pub(crate) fn follow(self) -> Understudy {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        Understudy::start_with_log(&args, None, &self.state)
    }

    /// Gives it again, to end by itself.
    pub(crate) fn once(self) -> Understudy {
        let args = self.args.iter().map(String::as_str).filter(|arg| *arg != "--once");
        Understudy::start_with_log(&args.chain(["--once"]).collect::<Vec<_>>(), None, &self.state)
    }
}

impl Drop for Understudy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.stderr.whole(Duration::from_secs(1));
            let said = said.unwrap_or_else(|| self.stderr.so_far());
            say(&format!("understudy's stderr:\n{said}"));
        }
    }
}

fn new_state() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a folder for the state"))
}

/// Sends a signal to a process.
pub(crate) fn signal(name: &str, process: u32) {
    let process = process.to_string();
    let sent = Command::new("sh").args(["-c", "kill -$0 \"$1\"", name, &process]).status();
    assert!(sent.unwrap().success(), "no signal could be sent");
}

impl Ended {
    /// A number or text of the report, by its path: `totals.keys`, `sources.0.method`.
    #[track_caller]
    pub(crate) fn reported(&self, path: &str) -> &serde_json::Value {
        let mut at = self.report.as_ref().unwrap_or_else(|| panic!("there is no report: {self:?}"));
        for part in path.split('.') {
            at = part.parse::<usize>().map_or_else(|_| &at[part], |index| &at[index]);
        }
        assert!(!at.is_null(), "the report has no {path}: {:?}", self.report);
        at
    }

    /// How much could not be proven, of all sources.
    pub(crate) fn unproven(&self) -> u64 {
        let sources = self.report.iter().flat_map(|report| report["sources"].as_array().unwrap());
        sources.map(|source| source["unproven"].as_u64().unwrap()).sum()
    }

    /// The offset that the master has told with `+FULLRESYNC`, of one that was [started telling](Understudy::start_telling).
    #[track_caller]
    pub(crate) fn full_resync(&self) -> u64 {
        let mut lines = self.stderr.lines();
        let line = lines.find(|line| line.contains("full synchronization"));
        let (_, offset) = line.and_then(|line| line.split_once("offset=")).expect("it was told");
        offset.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// # Panics
    /// With all that it said, if it ended otherwise.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
    }
}
