//! Servers that are reached through an ssh host.
//!
//! All questions and everything that is written to a target go through one session for each host. The stream of a source has a session of
//! its own, as `held` says, so that one that is not read holds up no other. A session on which the host answers nothing is left to those who
//! have it already, until it ends; who comes then makes a new one.

mod error;
mod held;
mod known;
mod session;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

pub use error::{ByHand, SshError};

use crate::plan::{Address, SshHost};

use super::link::LinkError;
use super::link::open_tcp;
use held::{Held, Socket};
use session::{Listening, Session};

/// How long a host may take to let us in.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to connect us onward.
const ONWARD: Duration = Duration::from_secs(10);

/// When that has lasted so long the host itself is asked whether it is still there.
const DOUBT: Duration = Duration::from_secs(5);

/// So many logins at one host at once: ssh servers turn away some of more than ten (`MaxStartups`).
const AT_ONCE: usize = 6;

/// The hosts that were logged in to.
#[derive(Debug, Default)]
pub(super) struct Hosts(std::sync::Mutex<HashMap<SshHost, Arc<Door>>>);

/// What leads to one host.
#[derive(Debug)]
struct Door {
    /// The session that all share.
    shared: Mutex<Option<Arc<Session>>>,
    logins: Semaphore,
}

impl Default for Door {
    fn default() -> Self {
        Self { shared: Mutex::default(), logins: Semaphore::new(AT_ONCE) }
    }
}

/// A connection through ssh.
pub(super) struct Through {
    stream: ChannelStream<Msg>,
    held: Option<Arc<Held>>,
    /// What resolves when the session is lost; `None` after that.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// It ends when nobody uses it any more.
    _session: Arc<Session>,
}

impl Hosts {
    fn door(&self, via: &SshHost) -> Arc<Door> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(doors.entry(via.clone()).or_default())
    }

    /// Connects through a host, over the session that all share.
    pub(super) async fn connect(&self, via: &SshHost, to: &Address) -> Result<Through, SshError> {
        // One that was lost just now, and a new one.
        for _ in 0..2 {
            let session = self.shared(via).await?;
            if let Some(through) = onward(Arc::clone(&session), to, None).await? {
                return Ok(through);
            }
            let door = self.door(via);
            let mut shared = door.shared.lock().await;
            if shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &session)) {
                *shared = None;
            }
        }
        Err(lost(via))
    }

    /// The same, over a session of its own: what comes may be left unread for long.
    pub(super) async fn connect_alone(
        &self,
        via: &SshHost,
        to: &Address,
    ) -> Result<Through, SshError> {
        let held = Arc::new(Held::default());
        let session = self.alone(via, &held, Some(Arc::clone(&held))).await?;
        onward(session, to, Some(held)).await?.ok_or_else(|| lost(via))
    }

    /// The session that all share.
    fn shared<'a>(
        &'a self,
        via: &'a SshHost,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<Session>, SshError>> + Send + 'a>> {
        Box::pin(async move {
            let door = self.door(via);
            let mut shared = door.shared.lock().await;
            if let Some(session) = shared.as_ref().filter(|session| !session.is_lost()) {
                return Ok(Arc::clone(session));
            }
            let session = match &via.jump {
                None => log_in(via, &door, tcp(via, None), Listening::Always).await?,
                Some(jump) => {
                    let below = self.connect(jump, &address(via)).await?;
                    log_in(via, &door, async { Ok(below) }, Listening::Always).await?
                }
            };
            tracing::debug!(host = %via, "logged in, for all");
            Ok(Arc::clone(shared.insert(Arc::new(session))))
        })
    }

    /// A session for one connection. What it runs over is its own too, and nothing is counted there: it carries what is counted above.
    fn alone<'a>(
        &'a self,
        via: &'a SshHost,
        held: &'a Arc<Held>,
        counts: Option<Arc<Held>>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<Session>, SshError>> + Send + 'a>> {
        Box::pin(async move {
            let door = self.door(via);
            let listening = Listening::AtTimes(counts);
            let session = match &via.jump {
                None => log_in(via, &door, tcp(via, Some(Arc::clone(held))), listening).await?,
                Some(jump) => {
                    let below = self.alone(jump, held, None).await?;
                    let through = onward(below, &address(via), None).await?;
                    let through = through.ok_or_else(|| lost(jump))?;
                    log_in(via, &door, async { Ok(through) }, listening).await?
                }
            };
            tracing::debug!(host = %via, "logged in, for one");
            Ok(Arc::new(session))
        })
    }
}

fn lost(via: &SshHost) -> SshError {
    SshError::Broken {
        host: via.to_string(),
        reason: "it is lost as soon as it is used".to_owned(),
    }
}

fn address(via: &SshHost) -> Address {
    Address::Tcp { host: via.host.clone(), port: via.port }
}

async fn tcp(via: &SshHost, held: Option<Arc<Held>>) -> Result<Socket, SshError> {
    let unreachable =
        |source| SshError::Unreachable { host: via.to_string(), source: Box::new(source) };
    match timeout(ONWARD, open_tcp(&via.host, via.port)).await {
        Ok(Ok(stream)) => Ok(Socket::new(stream, held)),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(unreachable(LinkError::TimedOut(ONWARD))),
    }
}

async fn log_in<S>(
    via: &SshHost,
    door: &Door,
    stream: impl Future<Output = Result<S, SshError>>,
    listening: Listening,
) -> Result<Session, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // It is closed by nobody.
    let _turn = door.logins.acquire().await;
    let stream = stream.await?;
    let silent = || SshError::Silent { host: via.to_string(), after: PATIENCE };
    timeout(PATIENCE, Session::open(via, stream, listening)).await.unwrap_or_else(|_| Err(silent()))
}

/// Connects onward from a host. `None` if the session is lost.
async fn onward(
    session: Arc<Session>,
    to: &Address,
    held: Option<Arc<Held>>,
) -> Result<Option<Through>, SshError> {
    let (tell, told) = oneshot::channel();
    tokio::spawn(open(Arc::clone(&session), to.clone(), tell));
    let opened = told.await.unwrap_or(Ok(None))?;
    Ok(opened.map(|channel| {
        let mut ended = session.ended();
        // Nothing is ever sent: this ends as the session does.
        let ended = async move { drop(ended.changed().await) };
        Through {
            stream: channel.into_stream(),
            held,
            ended: Some(Box::pin(ended)),
            _session: session,
        }
    }))
}

/// Opens a channel and tells of it. It goes on when nobody waits any more: a channel that comes late must be closed, and a host that does not
/// answer must be noted.
async fn open(
    session: Arc<Session>,
    to: Address,
    tell: oneshot::Sender<Result<Option<Channel<Msg>>, SshError>>,
) {
    let mut opening = pin!(session.channel(&to));
    let opened = tokio::select! {
        opened = &mut opening => tell.send(opened),
        () = doubt(&session) => {
            // Who waited tells it.
            drop(tell.send(Err(session.unanswered(&to, ONWARD))));
            if session.is_lost() {
                return;
            }
            Err(opening.await)
        }
    };
    if let Err(Ok(Some(channel))) = opened {
        drop(channel.close().await);
    }
}

/// Is it the host that says nothing, or what is behind it? A host that answers keeps its session, any other is lost to those who come.
async fn doubt(session: &Session) {
    sleep(DOUBT).await;
    let mut end = pin!(sleep(ONWARD.saturating_sub(DOUBT)));
    tokio::select! {
        () = session.answer() => end.await,
        () = &mut end => session.give_up(),
    }
}

impl Through {
    /// A write that waits for room on a session that is lost would wait for ever.
    fn or_lost<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            return poll;
        }
        if let Some(ended) = &mut self.ended
            && ended.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        self.ended = None;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl fmt::Debug for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Through")
    }
}

impl AsyncRead for Through {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(held) = &self.held {
            held.taken(buf.filled().len() - before);
        }
        poll
    }
}

impl AsyncWrite for Through {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.or_lost(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_lost(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_lost(cx, poll)
    }
}
