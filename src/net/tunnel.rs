//! Connections that another program makes, such as the system's ssh: what it reads and writes is the connection.
//!
//! A program is a process group of its own. Else the Ctrl-C that asks us to stop would end it before we have said goodbye to anyone; and
//! what it has started itself ends with it.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};

use crate::plan::Tunnel;

use super::link::LinkError;

/// Why a connection through a program is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The program cannot be started.
    #[error("{program} cannot be started")]
    Program {
        /// The program.
        program: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It has ended, and not as one does whose work is done.
    #[error("{program}, which leads to {via}, has ended ({how}){said}")]
    Ended {
        /// The program.
        program: String,
        /// The ssh host.
        via: String,
        /// Its exit status.
        how: String,
        /// What it has written to stderr last.
        said: String,
        /// What is typed to start it in a terminal.
        by_hand: String,
    },
    /// It runs, and nothing has come from it.
    #[error("nothing has come through {program} from behind {via} within {} s{said}", after.as_secs())]
    Silent {
        /// The program.
        program: String,
        /// The ssh host.
        via: String,
        /// How long it was waited for.
        after: Duration,
        /// What it has written to stderr last.
        said: String,
        /// What is typed to start it in a terminal.
        by_hand: String,
    },
}

impl TunnelError {
    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "install it, or give the path of another one in --ssh-command".to_owned()
            }
            Self::Program { .. } => {
                "let this user run it, or give another one in --ssh-command".to_owned()
            }
            Self::Ended { by_hand, .. } | Self::Silent { by_hand, .. } => format!(
                "try it in a terminal, where what you type goes to the server (PING): {by_hand}"
            ),
        }
    }
}

/// How long a program may take to let the first byte through. Whoever waits for an answer waits a second longer.
const PATIENCE: Duration = Duration::from_secs(9);

/// So many programs at once that have let nothing through yet: ssh servers turn away some of more than ten (`MaxStartups`).
const AT_ONCE: usize = 6;

/// How long a program that ends or is to end may take for that.
const GRACE: Duration = Duration::from_millis(500);

/// So much of what a program has said last is told.
const SAID: usize = 512;

/// The programs that are started, for each way the turns of those that begin.
#[derive(Debug, Default)]
pub(super) struct Programs(Mutex<HashMap<Tunnel, Arc<Semaphore>>>);

impl Programs {
    /// Starts a program that connects to this server. Whether it does shows in the first answer.
    pub(super) async fn connect(
        &self,
        tunnel: &Tunnel,
        host: &str,
        port: u16,
    ) -> Result<Program, LinkError> {
        // Others tell addresses too, and to many programs this would be an option.
        if host.starts_with('-') {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(LinkError::NoSuchHost { host: host.to_owned(), source });
        }
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let turns = all.entry(tunnel.clone());
            Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        // It is closed by nobody.
        let turn = turns.acquire_owned().await.ok();
        Program::start(tunnel, host, port, turn).map_err(|error| LinkError::Tunnel(Arc::new(error)))
    }
}

/// What is told of a program.
struct About {
    program: String,
    via: String,
    by_hand: String,
}

/// A program that runs, and the connection that it makes.
pub(super) struct Program {
    about: About,
    /// `None` when no more is to be said to it.
    input: Option<ChildStdin>,
    output: ChildStdout,
    said: Arc<Mutex<Vec<u8>>>,
    /// `None` when it has ended.
    ending: Option<Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send>>>,
    /// How it has ended, if that is a failure.
    failed: Option<Arc<TunnelError>>,
    /// Its group, as long as it runs.
    group: Option<Pid>,
    /// Until the first byte has come.
    opening: Option<Opening>,
    /// Since one of the pipes is closed.
    closing: Option<Pin<Box<Sleep>>>,
}

struct Opening {
    until: Pin<Box<Sleep>>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Program {
    fn start(
        tunnel: &Tunnel,
        host: &str,
        port: u16,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, TunnelError> {
        let program = tunnel.program().to_owned();
        let failed = |source| TunnelError::Program { program: program.clone(), source };
        let mut command = Command::new(&program);
        command.args(tunnel.arguments(host, port));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        // Our passwords are none of its business.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("UNDERSTUDY_")) {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().map_err(failed)?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(stderr)) = pipes else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let said = Arc::default();
        let about = About {
            program: program.clone(),
            via: tunnel.to_string(),
            by_hand: tunnel.by_hand(host, port),
        };
        Ok(Self {
            about,
            input: Some(input),
            output,
            ending: Some(Box::pin(end(child, stderr, Arc::clone(&said)))),
            said,
            failed: None,
            group,
            opening: Some(Opening { until: Box::pin(sleep(PATIENCE)), _turn: turn }),
            closing: None,
        })
    }

    /// Whether it has ended, or keeps a pipe closed for so long that it might as well have.
    fn poll_ended(&mut self, cx: &mut Context<'_>, is_closed: bool) -> Poll<()> {
        if let Some(ending) = &mut self.ending
            && let Poll::Ready(ended) = ending.as_mut().poll(cx)
        {
            (self.ending, self.group) = (None, None);
            let how = match ended {
                Ok(status) if status.success() => None,
                Ok(status) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            };
            self.failed = how.map(|how| Arc::new(self.ended(how)));
        }
        if self.ending.is_none() {
            return Poll::Ready(());
        }
        if is_closed {
            let closing = self.closing.get_or_insert_with(|| Box::pin(sleep(GRACE)));
            ready!(closing.as_mut().poll(cx));
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn ended(&self, how: String) -> TunnelError {
        let About { program, via, by_hand } = &self.about;
        TunnelError::Ended {
            program: program.clone(),
            via: via.clone(),
            how,
            said: self.said(),
            by_hand: by_hand.clone(),
        }
    }

    fn silent(&self) -> TunnelError {
        let About { program, via, by_hand } = &self.about;
        TunnelError::Silent {
            program: program.clone(),
            via: via.clone(),
            after: PATIENCE,
            said: self.said(),
            by_hand: by_hand.clone(),
        }
    }

    /// What it has written to stderr last, on one line.
    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join("; ").replace(char::is_control, " ");
        if line.is_empty() { line } else { format!(": {line}") }
    }

    fn failure(&self) -> Option<io::Error> {
        self.failed.as_ref().map(|error| io::Error::other(Arc::clone(error)))
    }
}

/// Waits for a program's end, and takes what it writes to stderr meanwhile.
async fn end(
    mut child: Child,
    stderr: ChildStderr,
    said: Arc<Mutex<Vec<u8>>>,
) -> io::Result<ExitStatus> {
    let mut listening = pin!(listen(stderr, &said));
    tokio::select! {
        () = &mut listening => child.wait().await,
        ended = child.wait() => {
            // Its last words may be on their way. That a child of its own holds the pipe (ssh's `ControlPersist`) is no reason to wait.
            let _ = timeout(GRACE, listening).await;
            ended
        }
    }
}

async fn listen(mut stderr: ChildStderr, said: &Mutex<Vec<u8>>) {
    let mut room = [0; 512];
    while let Ok(more @ 1..) = stderr.read(&mut room).await {
        let Some(new) = room.get(..more) else { return };
        tracing::debug!(said = %String::from_utf8_lossy(new).trim_end(), "the program of --ssh-command");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(new);
        let surplus = said.len().saturating_sub(SAID);
        said.drain(..surplus);
    }
}

/// Our own reading of an error that a read or a write of the link gave, if it is that of a program.
pub(super) fn explained(error: &io::Error) -> Option<LinkError> {
    let error = error.get_ref()?.downcast_ref::<Arc<TunnelError>>()?;
    Some(LinkError::Tunnel(Arc::clone(error)))
}

impl AsyncRead for Program {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let is_closed = match Pin::new(&mut self.output).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before && buf.remaining() > 0 => true,
            Poll::Ready(read) => {
                self.opening = None;
                return Poll::Ready(read);
            }
            Poll::Pending => false,
        };
        if self.poll_ended(cx, is_closed).is_ready() {
            self.opening = None;
            return Poll::Ready(self.failure().map_or(Ok(()), Err));
        }
        if let Some(opening) = &mut self.opening {
            ready!(opening.until.as_mut().poll(cx));
            self.opening = None;
            return Poll::Ready(Err(io::Error::other(Arc::new(self.silent()))));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Program {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let Some(input) = &mut self.input else { return Poll::Ready(Err(broken)) };
        match ready!(Pin::new(input).poll_write(cx, buf)) {
            // Why is known when it has ended.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                ready!(self.poll_ended(cx, true));
                Poll::Ready(Err(self.failure().unwrap_or(error)))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let (Some(ending), Some(group)) = (self.ending.take(), self.group) else { return };
        self.input = None;
        // It is ours as long as it was not waited for.
        let _ = kill_process_group(group, Signal::TERM);
        // Who runs no more has nobody wait: then it is killed at once, as its handle goes.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if timeout(GRACE, ending).await.is_err() {
                    let _ = kill_process_group(group, Signal::KILL);
                }
            });
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("by_hand", &self.about.by_hand).finish_non_exhaustive()
    }
}
