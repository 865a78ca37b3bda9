//! A running job's socket, over which it is asked and told. It stands in the job's folder and belongs to this user alone.

mod mend;
mod protocol;
mod steer;
mod switch;
mod told;

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use understudy::cutover::{Left, Verdict, left_behind};
use understudy::flow::{Order, Rereads, TooLate};
use understudy::net::{Clock, Net};
use understudy::plan::{Facts, Plan};
use understudy::progress::Counters;

use super::notice;
use super::refusal::Refusal;

pub(super) use mend::Running;
use protocol::{LONGEST_REQUEST, Source, Standing};
pub(super) use protocol::{Request, Wish, fences};
pub(super) use steer::{Talk, follows, order, running_as, standing, status, talk, tell};
use switch::Switch;
pub(super) use told::{of, text};

/// The socket's name in the job's folder.
const NAME: &str = "control";

/// How long a cutover may take to be undone when the run ends.
const UNDOING: Duration = Duration::from_secs(30);

/// A client says what it wants at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket, while it stands: what is asked over it is answered.
pub(super) struct Door {
    folder: PathBuf,
    /// The folder, locked, so that no other process has this job on this machine. A process that has died holds no lock.
    lock: fs::File,
    answering: Option<JoinHandle<()>>,
    job: Option<Arc<Job>>,
}

/// What the answers are about.
struct Job {
    name: String,
    target: String,
    sources: Vec<(String, Arc<Counters>)>,
    orders: Arc<watch::Sender<Order>>,
    clock: Clock,
    paused: Mutex<Option<Duration>>,
    /// What a cutover needs to know, once it is known.
    known: OnceLock<Known>,
    /// Whoever cuts over has it.
    turn: AsyncMutex<()>,
    /// How the last cutover has ended.
    verdict: Mutex<Option<Verdict>>,
}

/// What a job is about, once it has begun.
struct Known {
    net: Net,
    plan: Plan,
    facts: Facts,
    counters: Vec<Arc<Counters>>,
    rereads: Rereads,
}

impl Door {
    /// Opens the job's socket; `None` where nothing can stand: the run says itself what is wrong with its folder.
    ///
    /// # Errors
    /// If another process has this job.
    pub(super) fn open(
        plan: &Plan,
        counters: &[Arc<Counters>],
        orders: Arc<watch::Sender<Order>>,
        clock: Clock,
    ) -> Result<Option<Self>, Refusal> {
        let Some(folder) = &plan.job.folder else { return Ok(None) };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let Ok(lock) = made.and_then(|()| fs::File::open(folder)) else { return Ok(None) };
        let name = &plan.job.name;
        // On a file system that knows no locks the record in the target still fences the first of two.
        if let Err(fs::TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Refusal {
                what: format!("the job {name} runs already"),
                mend: format!(
                    "understudy status --job {name} tells how it stands, understudy stop --job {name} ends it; another job needs another --job"
                )
                .into(),
            });
        }
        let mut door = Self { folder: folder.clone(), lock, answering: None, job: None };
        let listener = match door.listen() {
            Ok(listener) => listener,
            Err(error) => {
                notice::warning(
                    &format!("{}: no socket can be made here: {error}", folder.display()),
                    "the run goes on, and status, pause, resume and stop do not reach it; name another place in UNDERSTUDY_STATE",
                );
                return Ok(Some(door));
            }
        };
        let names = plan.sources.iter().map(|source| source.name.clone());
        let job = Job {
            name: name.clone(),
            target: plan.target.to_string(),
            sources: names.zip(counters.iter().cloned()).collect(),
            orders,
            clock,
            paused: Mutex::new(None),
            known: OnceLock::new(),
            turn: AsyncMutex::new(()),
            verdict: Mutex::new(None),
        };
        let job = Arc::new(job);
        door.answering = Some(tokio::spawn(Arc::clone(&job).answer(listener)));
        door.job = Some(job);
        Ok(Some(door))
    }

    /// The job begins: from now on it can be cut over.
    pub(super) fn begins(
        &self,
        net: &Net,
        (plan, facts): (&Plan, &Facts),
        counters: &[Arc<Counters>],
        rereads: &Rereads,
    ) {
        if let Some(job) = &self.job {
            let (net, plan) = (net.clone(), plan.clone());
            let (facts, counters) = (facts.clone(), counters.to_vec());
            // It begins once.
            let _ = job.known.set(Known { net, plan, facts, counters, rereads: rereads.clone() });
        }
    }

    /// How the last cutover has ended, if there was one.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let job = self.job.as_ref()?;
        job.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until no cutover is under way any more: one that has to be undone is.
    pub(super) async fn is_left(&self) {
        if let Some(job) = &self.job {
            let _ = timeout(UNDOING, job.turn.lock()).await;
        }
    }

    fn listen(&self) -> io::Result<UnixListener> {
        let path = address(&self.folder, &self.lock);
        // With the lock ours whoever made it is gone.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(answering) = self.answering.take() {
            answering.abort();
            // Whatever is left of it is replaced by the next run.
            let _ = fs::remove_file(self.folder.join(NAME));
        }
        // Of a job that is done, or has not begun, nothing else is in it.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The socket's path. The system takes none of more than about a hundred bytes; over an open folder any is short.
fn address(folder: &Path, open: &fs::File) -> PathBuf {
    const LONGEST: usize = 100;
    let plain = folder.join(NAME);
    if plain.as_os_str().len() <= LONGEST {
        return plain;
    }
    Path::new("/proc/self/fd").join(open.as_raw_fd().to_string()).join(NAME)
}

impl Job {
    /// Answers one client after the other.
    async fn answer(self: Arc<Self>, listener: UnixListener) {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                // There are too many files open, and may be fewer soon.
                sleep(PATIENCE).await;
                continue;
            };
            // One that is slow, or gone, gets no answer.
            if let Ok(Ok(Some((client, wish)))) = timeout(PATIENCE, self.serve(client)).await {
                tokio::spawn(Arc::clone(&self).switch(client, wish));
            }
        }
    }

    /// Answers a client; gives it back if it wants more than an answer.
    async fn serve(&self, mut client: UnixStream) -> io::Result<Option<(UnixStream, Switch)>> {
        let (read, mut write) = client.split();
        let mut line = Vec::new();
        BufReader::new(read.take(LONGEST_REQUEST)).read_until(b'\n', &mut line).await?;
        let sources: Vec<Source<'_>> =
            { self.sources.iter() }.map(|(name, counters)| Source { name, counters }).collect();
        let answer = match Request::parse(&line) {
            None => protocol::unknown(),
            Some(Request::Status) => protocol::status(&self.standing(&self.fenced()), &sources),
            Some(Request::Fences) => return Ok(Some((client, Switch::Fences))),
            Some(Request::Lift) => return Ok(Some((client, Switch::Lift))),
            Some(Request::CutOver(wish)) => return Ok(Some((client, Switch::CutOver(wish)))),
            Some(Request::Mend(keys)) => return Ok(Some((client, Switch::Mend(keys)))),
            Some(Request::Do(order)) => match self.obey(order) {
                Ok(()) => protocol::done(&self.name, order, &sources),
                Err(late) => protocol::too_late(late),
            },
        };
        write.write_all(format!("{answer}\n").as_bytes()).await?;
        write.shutdown().await?;
        Ok(None)
    }

    /// The sources on which a fence stands, as it is written down.
    fn fenced(&self) -> Vec<String> {
        let left = self.known.get().and_then(|known| left_behind(&known.plan).ok().flatten());
        left.iter().flat_map(Left::sources).map(str::to_owned).collect()
    }

    fn standing<'a>(&'a self, fenced: &'a [String]) -> Standing<'a> {
        Standing {
            fenced,
            job: &self.name,
            target: &self.target,
            process: std::process::id(),
            order: *self.orders.borrow(),
            paused: *self.paused.lock().unwrap_or_else(PoisonError::into_inner),
            now: self.clock.now(),
        }
    }

    fn obey(&self, order: Order) -> Result<(), TooLate> {
        let before = order.give(&self.orders)?;
        if before != order {
            let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
            *paused = (order == Order::Pause).then(|| self.clock.now());
            notice::note(match order {
                Order::Go => "told to go on",
                Order::Pause => {
                    "told to pause: nothing more is taken from the sources; understudy resume goes on"
                }
                Order::Stop => "told to stop: stopping, within 10 s",
                Order::Settle | Order::Watch | Order::Leave => {
                    "told to settle: a cutover is under way"
                }
                Order::Finish => "told to finish: ending with what the sources have now",
            });
        }
        Ok(())
    }
}
