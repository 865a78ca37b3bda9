//! What a round happens in: a source and a target, the tool between them, and a proxy on either side of it.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Value, cmd};
use crate::data::{self, Holds};
use crate::dice::Dice;
use crate::load::Load;
use crate::servers::{Server, Version};
use crate::tool::{Ended, Understudy, signal};

use super::proxy::Proxy;
use super::tally::Tally;
use super::writers::{MARK, What, Writers, mark};

/// What went otherwise than it must.
pub(super) type Done<T = ()> = Result<T, String>;

/// Whether the tool goes on where it was left when it is started again.
pub(super) static RESUMES: LazyLock<bool> = LazyLock::new(|| {
    let help = Understudy::start(&["help", "sync"]).wait(PATIENCE);
    help.stdout.contains("--job")
});

pub(super) struct World {
    pub(super) source: Server,
    /// The source's own replica, which may take its place.
    pub(super) replica: Option<Server>,
    pub(super) target: Server,
    pub(super) from: Proxy,
    pub(super) to: Proxy,
    pub(super) writers: Writers,
    pub(super) dice: Dice,
    pub(super) tally: Tally,
    /// What happened, in its order.
    pub(super) story: Vec<String>,
    /// What may differ because a source of this version does not tell it.
    pub(super) deadline_ms: i64,
    /// What stands before each name in the target.
    pub(super) prefix: &'static str,
    /// What is left of a deadline when the job ends, at the most, if there is such a rule: in ms.
    pub(super) cap: Option<i64>,
    args: Vec<String>,
    state: Arc<TempDir>,
    tool: Option<Understudy>,
    marks: u64,
    /// How often the tool was started since it was last seen to do its work.
    tries: u32,
    began: Instant,
}

/// How long anything may take that takes a moment on a machine with nothing else to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often the tool may end by itself and be started again without having done anything.
const TRIES: u32 = 12;

impl World {
    /// Starts everything but the tool. `None` if a server is not on this machine.
    pub(super) fn new(from: &'static str, to: &'static str, seed: u64) -> Option<Self> {
        let mut dice = Dice::new(seed ^ 0xfa17);
        let source = Server::start_with(from, &source_options(from, &mut dice))?;
        let target = Server::start_with(to, &target_options(&mut dice))?;
        let mut client = source.client();
        let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
        let mut load = Load::new(seed, source.version, holds);
        if dice.below(3) == 0 {
            data::fill(&mut client, source.version, holds);
        }
        load.send(&mut client, 2000);
        let flushes = dice.below(4) == 0 || std::env::var_os("UNDERSTUDY_FAULTS_FLUSHES").is_some();
        let what = What { version: source.version, holds, flushes };
        let replica = if dice.below(3) == 0 { Some(replica_of(&source)?) } else { None };
        let writers = Writers::start(4, seed, source.port, what);
        let (near, far) = (Proxy::to(source.port), Proxy::to(target.port));
        let round_trip = [0, 0, 0, 1, 5, 20][dice.below(6)];
        far.delay(Duration::from_millis(round_trip) / 2);
        // So that a copy takes its time.
        let slow = dice.below(5) == 0;
        if slow {
            near.limit(1_000_000);
        }
        let mut args = vec!["sync".to_owned(), "--from".to_owned(), near.url()];
        args.extend(["--to".to_owned(), far.url()]);
        // With little of it much waits in the spool.
        let memory = ["64MiB", "2MiB"][dice.below(2)];
        args.extend(["--memory", memory, "--progress", "none"].map(str::to_owned));
        if *RESUMES {
            args.extend(["--job", "faults"].map(str::to_owned));
        }
        const PREFIX: &str = "its {own}:";
        let prefix = match std::env::var("UNDERSTUDY_FAULTS_PREFIX").as_deref() {
            Ok("yes") => PREFIX,
            Ok(_) => "",
            Err(_) => ["", "", PREFIX][Dice::new(seed ^ 0x9a3e).below(3)],
        };
        if !prefix.is_empty() {
            args.extend(["--prefix".to_owned(), prefix.to_owned()]);
        }
        let cap = Dice::new(seed ^ 0xca9).below(3) == 0 && *RESUMES;
        if cap {
            args.extend(["--max-ttl", "150s"].map(str::to_owned));
        }
        let state = Arc::new(tempfile::tempdir().unwrap());
        let story = vec![format!(
            "{round_trip} ms to the target, {memory}, prefix {prefix:?}, {} cap, {} source, {} flushes, {} replica",
            if cap { "a" } else { "no" },
            if slow { "a slow" } else { "a fast" },
            if flushes { "with" } else { "no" },
            if replica.is_some() { "a" } else { "no" }
        )];
        Some(Self {
            source,
            replica,
            target,
            from: near,
            to: far,
            writers,
            dice,
            tally: Tally::default(),
            story,
            deadline_ms: 0,
            prefix,
            cap: cap.then_some(150_000),
            args,
            state,
            tool: None,
            marks: 0,
            tries: 0,
            began: Instant::now(),
        })
    }

    /// Notes what happens.
    pub(super) fn tell(&mut self, what: impl Into<String>) {
        self.story.push(format!("[{:.2} s] {}", self.began.elapsed().as_secs_f64(), what.into()));
    }

    /// Starts the tool, which follows.
    pub(super) fn start_tool(&mut self) {
        self.tool = Some(self.another(&[]));
    }

    /// Starts the tool, which ends when it is there.
    pub(super) fn start_to_end(&mut self) {
        self.tool = Some(self.another(&["--once"]));
    }

    /// Another process with the same command.
    pub(super) fn another(&mut self, more: &[&str]) -> Understudy {
        self.tally.runs += 1;
        let args: Vec<&str> =
            self.args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Understudy::start_telling_in(&args, &self.state)
    }

    /// The same on another machine, which knows nothing of this one's: here the second would be refused.
    pub(super) fn elsewhere(&mut self) -> Understudy {
        self.tally.runs += 1;
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        Understudy::start_telling(&args)
    }

    /// Puts another process in the place of the one that was minded, and gives that back.
    pub(super) fn replace_tool(&mut self, other: Understudy) -> Understudy {
        self.tool.replace(other).expect("one was started")
    }

    pub(super) fn tool(&mut self) -> &mut Understudy {
        self.tool.as_mut().expect("it was started")
    }

    /// Sends the tool a signal.
    pub(super) fn signal(&mut self, name: &str) {
        if self.tool().is_running() {
            signal(name, self.tool().id());
        }
    }

    /// Waits for the end of the tool.
    pub(super) fn end_of_tool(&mut self) -> Ended {
        let tool = self.tool.take().expect("it was started");
        let ended = tool.wait(2 * PATIENCE);
        self.note_end(&ended);
        ended
    }

    /// Notes how a process ended.
    pub(super) fn note_end(&mut self, ended: &Ended) {
        let count = |words| ended.stderr.matches(words).count();
        self.tally.full += count("full synchronization");
        self.tally.partial += count("partial synchronization");
        let last: VecDeque<&str> = ended.stderr.lines().rev().take(40).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        self.tell(format!(
            "the tool ended with {:?}, and had said:\n    {}",
            ended.code,
            last.join("\n    ")
        ));
    }

    /// Kills the tool.
    pub(super) fn kill_tool(&mut self) {
        self.signal("KILL");
        self.end_of_tool();
    }

    /// Starts the tool again if it has ended, as whoever minds it would: it may give up, but not say that it is done.
    pub(super) fn mind_tool(&mut self) -> Done {
        if self.tool().is_running() {
            return Ok(());
        }
        let code = self.end_of_tool().code;
        self.tries += 1;
        self.tally.given_up += 1;
        match code {
            Some(2 | 3) if self.tries <= TRIES && *RESUMES => {
                self.start_tool();
                Ok(())
            }
            Some(2 | 3) => {
                Err(format!("the tool ended {} times without having got anywhere", self.tries))
            }
            code => Err(format!("the tool ended with {code:?} while it should follow")),
        }
    }

    /// Waits until what is written now has arrived.
    pub(super) fn wait_arrived(&mut self) -> Done {
        const LOOK: Duration = Duration::from_millis(250);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.mind_tool()?;
            // Flushing removes it, so it is written again.
            self.marks += 1;
            mark(&mut self.source.client(), self.marks);
            let look = Instant::now();
            let mut target = self.target.client();
            while look.elapsed() < LOOK {
                let there = match target.try_call(cmd!("GET", [self.prefix, MARK].concat())) {
                    Value::Bulk(nth) => String::from_utf8(nth).unwrap().parse::<u64>().unwrap(),
                    _ => 0,
                };
                if there == self.marks {
                    self.tries = 0;
                    return Ok(());
                }
            }
        }
        Err(format!("after {PATIENCE:?} what was written has not arrived"))
    }

    /// Waits until so many bytes have passed to the target; `false` if the tool ends before.
    pub(super) fn wait_passed(&mut self, bytes: u64) -> bool {
        let tool = self.tool.as_mut().expect("it was started");
        self.to.wait_for(bytes, || tool.is_running())
    }

    /// Waits until so many commands have been written, or a while has passed in which nothing could be.
    pub(super) fn write(&mut self, from: usize, to: usize) {
        let more = from + self.dice.below(to - from);
        self.writers.wait_for(more as u64, Duration::from_secs(2));
    }
}

/// Options of a server that keeps what it has said.
fn source_options(name: &str, dice: &mut Dice) -> Vec<&'static str> {
    let mut options = KEEPS.to_vec();
    options.extend(["--repl-ping-slave-period", "1", "--appendfsync", "everysec"]);
    // With little of it a lost link costs a new copy now and then.
    let backlog = if *RESUMES { ["16kb", "1mb", "32mb"][dice.below(3)] } else { "32mb" };
    options.extend(["--repl-backlog-size", backlog]);
    if !name.starts_with("redis-2.8") {
        options.extend(["--repl-diskless-sync", ["yes", "no"][dice.below(2)]]);
    }
    options
}

fn target_options(dice: &mut Dice) -> Vec<&'static str> {
    let mut options = KEEPS.to_vec();
    options.extend(["--appendfsync", ["always", "everysec"][dice.below(2)]]);
    options.extend(["--maxmemory-policy", "noeviction"]);
    options
}

const KEEPS: [&str; 2] = ["--appendonly", "yes"];

fn replica_of(source: &Server) -> Option<Server> {
    let replica = Server::start_with(source.name, &KEEPS)?;
    replica.client().call(cmd!("SLAVEOF", "127.0.0.1", source.port));
    let begun = Instant::now();
    let mut client = replica.client();
    while client.info("replication", "master_link_status") != "up" {
        assert!(begun.elapsed() < PATIENCE, "the replica is not synchronized");
    }
    Some(replica)
}

/// Whether a server of this version writes a transaction to its file so that half of one is never read back.
pub(super) fn keeps_transactions_whole(version: Version) -> bool {
    version.at_least(4, 0)
}

/// Copies a server's folder as it is at one moment.
pub(super) fn copy_of_folder(server: &Server) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    signal("STOP", server.id());
    copy_folder(server.folder(), copy.path());
    signal("CONT", server.id());
    copy
}

/// Starts a server that was killed with what it held at an earlier time.
pub(super) fn start_with_copy(server: &mut Server, copy: &TempDir) {
    for entry in fs::read_dir(server.folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    copy_folder(copy.path(), server.folder());
    server.start_again();
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&place).unwrap();
            copy_folder(&path, &place);
        } else {
            fs::copy(&path, &place).unwrap();
        }
    }
}
