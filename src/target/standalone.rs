//! A single server as a target.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::change::Batch;
use crate::net::{Link, LinkError, Net, info_field};
use crate::plan::ServerPlace;
use crate::repl::Credentials;
use crate::resp::{Reply, ReplyReader, RespError, command};

use super::Confirmed;
use super::gate::Gate;
use super::judge;
use super::pipeline::Pipeline;

/// Why a target could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    /// It closed the connection.
    #[error("the target closed the connection")]
    Closed,
    /// The password, or the ACL user, was refused.
    #[error("the target refused the password: {0}")]
    Password(String),
    /// The ACL user may not run transactions.
    #[error("the target forbids MULTI: {0}")]
    Forbidden(String),
    /// It has no transactions, which the live stream cannot do without.
    #[error("the target has no transactions: MULTI answers {0:?}")]
    NoTransactions(String),
    /// It is there and serves nobody for now.
    #[error("the target is not ready: {0}")]
    NotReady(String),
    /// What it says is not RESP.
    #[error("the target's answer cannot be read")]
    Resp(#[from] RespError),
    /// The link was lost while an `EXEC` was unanswered: no one can tell whether it was done.
    #[error("the connection was lost while a transaction was being committed")]
    Undecided,
    /// Under its address answers another process than the one that was written to.
    #[error("the target was restarted or replaced: what it had confirmed may be gone")]
    Replaced,
}

/// A connection to a single server, over which one source's changes go.
///
/// It begins with the copy, whose batches are pipelined as they come; after [`begin_stream`](Self::begin_stream)
/// each transaction is committed behind the one before it.
#[derive(Debug)]
pub struct Standalone {
    link: Link,
    input: BytesMut,
    exchange: Exchange,
    in_flight: usize,
}

/// The process that a target is: what it has confirmed is in this one, and no other one need hold it. Empty if it does not tell
/// (`run_id` in its `INFO server`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunId(pub String);

#[derive(Debug)]
enum Exchange {
    /// The copy; what was pushed since the stream began waits behind it.
    Copy {
        pipeline: Box<Pipeline>,
        behind: Option<Box<Gate>>,
    },
    Stream(Box<Gate>),
}

impl Standalone {
    /// Connects and makes sure that the server can do what the live stream needs.
    ///
    /// # Errors
    /// If it cannot be reached, refuses the password, knows no transactions or is another process.
    pub async fn open(net: &Net, place: &ServerPlace, run_id: &RunId) -> Result<Self, TargetError> {
        let link = enter(net, place, run_id).await?;
        let exchange = Exchange::Copy { pipeline: Box::default(), behind: None };
        Ok(Self { link, input: BytesMut::new(), exchange, in_flight: 0 })
    }

    /// From here on batches are of the stream: each is one transaction, alone or with its neighbours. The first of them is sent
    /// when the copy has been confirmed.
    pub fn begin_stream(&mut self) {
        if let Exchange::Copy { behind, .. } = &mut self.exchange {
            behind.get_or_insert_default();
        }
    }

    /// From here on batches are such as may be sent again: no transactions, deep in the pipe. Everything that was pushed must have been
    /// confirmed.
    pub fn begin_closing(&mut self) {
        debug_assert!(
            self.is_idle(),
            "what was pushed is confirmed before the deadlines are finished"
        );
        self.exchange = Exchange::Copy { pipeline: Box::default(), behind: None };
    }

    /// Whether the copy has been confirmed and the stream has begun.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.exchange, Exchange::Stream(_))
    }

    /// Takes a batch.
    pub fn push(&mut self, batch: Batch) {
        self.in_flight += batch.size();
        match &mut self.exchange {
            Exchange::Copy { behind: Some(gate), .. } | Exchange::Stream(gate) => gate.push(batch),
            Exchange::Copy { pipeline, behind: None } => pipeline.push(batch),
        }
    }

    /// How many bytes of batches have been pushed and not confirmed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether everything that was pushed has been confirmed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.exchange {
            Exchange::Copy { pipeline, behind: None } => pipeline.is_idle(),
            Exchange::Copy { behind: Some(_), .. } => false,
            Exchange::Stream(gate) => gate.is_idle(),
        }
    }

    /// Sends and receives until the target has told something. To be called while it is not idle. Nothing is lost if the
    /// future is dropped before it is done.
    ///
    /// # Errors
    /// If the connection is lost; then [`relink`](Self::relink).
    pub async fn exchange(&mut self) -> Result<Confirmed, TargetError> {
        let mut confirmed = Confirmed::default();
        loop {
            self.advance(&mut confirmed);
            if !confirmed.is_empty() || self.refused().is_some() || self.is_idle() {
                self.in_flight = self.in_flight.saturating_sub(confirmed.bytes);
                return Ok(confirmed);
            }
            self.input.reserve(READ_SIZE);
            poll_fn(|cx| self.poll_socket(cx)).await?;
            let used = match &mut self.exchange {
                Exchange::Copy { pipeline, .. } => pipeline.take(&self.input, &mut confirmed)?,
                Exchange::Stream(gate) => gate.take(&self.input, &mut confirmed)?,
            };
            self.input.advance(used);
        }
    }

    /// Lets the stream begin once the copy is confirmed, and sends what may be sent.
    fn advance(&mut self, confirmed: &mut Confirmed) {
        if let Exchange::Copy { pipeline, behind } = &mut self.exchange
            && pipeline.is_idle()
            && let Some(gate) = behind.take()
        {
            self.exchange = Exchange::Stream(gate);
            confirmed.copied = true;
        }
        if let Exchange::Stream(gate) = &mut self.exchange {
            gate.advance(confirmed);
        }
    }

    /// Whether nobody could tell what was done if the connection were lost now.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        matches!(&self.exchange, Exchange::Stream(gate) if gate.is_undecided())
    }

    /// Why the target refuses to go on for now. [`go_on`](Self::go_on) tries again.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        match &self.exchange {
            Exchange::Copy { pipeline, .. } => pipeline.refused(),
            Exchange::Stream(gate) => gate.refused(),
        }
    }

    /// Sends again what was refused.
    pub fn go_on(&mut self) {
        match &mut self.exchange {
            Exchange::Copy { pipeline, .. } => pipeline.go_on(),
            Exchange::Stream(gate) => gate.go_on(),
        }
    }

    /// Makes a new connection to take the place of a lost one with [`relink`](Self::relink).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn connect(
        net: &Net,
        place: &ServerPlace,
        run_id: &RunId,
    ) -> Result<Link, TargetError> {
        enter(net, place, run_id).await
    }

    /// Takes a new connection in place of a lost one and sends again what was not confirmed.
    ///
    /// # Errors
    /// [`TargetError::Undecided`] if nobody can tell what was done on the lost one.
    pub fn relink(&mut self, link: Link) -> Result<(), TargetError> {
        match &mut self.exchange {
            Exchange::Copy { pipeline, .. } => pipeline.relink(),
            Exchange::Stream(gate) if gate.is_undecided() => return Err(TargetError::Undecided),
            Exchange::Stream(gate) => gate.relink(),
        }
        self.link = link;
        self.input.clear();
        Ok(())
    }

    /// Writes what can be written; ready once something has been read.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TargetError>> {
        let outbox = match &mut self.exchange {
            Exchange::Copy { pipeline, .. } => &mut pipeline.outbox,
            Exchange::Stream(gate) => &mut gate.outbox,
        };
        let mut lost = None;
        while !outbox.is_empty() && lost.is_none() {
            match Pin::new(&mut self.link).poll_write(cx, outbox.front()) {
                Poll::Ready(Ok(0)) => lost = Some(TargetError::Closed),
                Poll::Ready(Ok(written)) => outbox.written(written),
                Poll::Ready(Err(error)) => lost = Some(TargetError::Lost(error)),
                Poll::Pending => break,
            }
        }
        if outbox.is_empty() && lost.is_none() {
            // TLS gathers what it is given; without this its last record would stay behind.
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.link).poll_flush(cx) {
                lost = Some(TargetError::Lost(error));
            }
        }
        // Also from a link that takes no more: what it still holds may be the answer to an EXEC.
        let read = pin!(self.link.read_buf(&mut self.input));
        match (read.poll(cx), lost) {
            (Poll::Ready(Ok(1..)), _) => Poll::Ready(Ok(())),
            (_, Some(lost)) => Poll::Ready(Err(lost)),
            (Poll::Ready(Ok(0)), None) => Poll::Ready(Err(TargetError::Closed)),
            (Poll::Ready(Err(error)), None) => Poll::Ready(Err(TargetError::Lost(error))),
            (Poll::Pending, None) => Poll::Pending,
        }
    }
}

/// How many bytes of replies are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Connects, says who we are, and sees that it is the process that is meant and that transactions are there.
async fn enter(net: &Net, place: &ServerPlace, run_id: &RunId) -> Result<Link, TargetError> {
    let mut link = net.connect(place).await?;
    if let Some(Credentials { user, password }) = &place.credentials {
        let answer = match user {
            Some(user) => ask(&mut link, &[b"AUTH", user.as_bytes(), password.as_bytes()]).await?,
            None => ask(&mut link, &[b"AUTH", password.as_bytes()]).await?,
        };
        if answer != "OK"
            && !answer.contains("no password is set")
            && !answer.contains("without any password")
        {
            return Err(TargetError::Password(answer));
        }
    }
    let answer = ask(&mut link, &[b"MULTI"]).await?;
    if answer.starts_with("NOAUTH") || answer.contains("operation not permitted") {
        return Err(TargetError::Password(answer));
    }
    if answer.starts_with("NOPERM") {
        return Err(TargetError::Forbidden(answer));
    }
    if judge::passes(answer.as_bytes()) {
        return Err(TargetError::NotReady(answer));
    }
    // Without MULTI the commands behind it would run one by one, and unguarded.
    if answer != "OK" {
        return Err(TargetError::NoTransactions(answer));
    }
    ask(&mut link, &[b"DISCARD"]).await?;
    if !run_id.0.is_empty() {
        let info = ask(&mut link, &[b"INFO", b"server"]).await?;
        // One that no longer tells is no other one.
        if info_field(&info, "run_id").is_some_and(|now| now != run_id.0) {
            return Err(TargetError::Replaced);
        }
    }
    Ok(link)
}

/// One question before the stream of data begins, and the text of its answer.
async fn ask(link: &mut Link, args: &[&[u8]]) -> Result<String, TargetError> {
    let mut out = Vec::new();
    command(&mut out, args);
    link.write_all(&out).await.map_err(TargetError::Lost)?;
    link.flush().await.map_err(TargetError::Lost)?;
    let (mut input, mut reader) = (BytesMut::new(), ReplyReader::default());
    loop {
        if link.read_buf(&mut input).await.map_err(TargetError::Lost)? == 0 {
            return Err(TargetError::Closed);
        }
        if let Some((reply, _)) = reader.read(&input)? {
            return Ok(match reply {
                Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                other => judge::text(other),
            });
        }
    }
}
