//! A single server as a target.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::sleep_until;

use crate::change::Batch;
use crate::key::Db;
use crate::net::{Clock, Link, LinkError, Net};
use crate::plan::ServerPlace;
use crate::position::Spot;
use crate::resp::RespError;

use super::Confirmed;
use super::entrance::{Entrance, RunId, Whose, claim, enter};
use super::gate::{Gate, Wish};
use super::keeper::Keeper;
use super::pipeline::Pipeline;
use super::silence::Silence;

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
    /// It leaves what was sent unanswered: the way to it is cut without a word, or it is stopped or busy.
    #[error("the target has answered nothing for {} s", .0.as_secs())]
    Silent(Duration),
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
    /// It no longer holds what it had confirmed: it was restarted, failed over or emptied.
    #[error("the target was restarted or replaced: what it had confirmed may be gone")]
    Replaced,
    /// Another process has written the job's record meanwhile.
    #[error("another process has taken this job over")]
    Overtaken,
}

/// A connection to a single server, over which one source's changes go.
///
/// It begins with the copy, whose batches are pipelined as they come; after [`begin_stream`](Self::begin_stream)
/// each transaction is committed behind the one before it, with the [record](crate::position) that says so.
#[derive(Debug)]
pub struct Standalone {
    link: Link,
    input: BytesMut,
    run_id: RunId,
    pipeline: Pipeline,
    gate: Gate,
    mode: Mode,
    in_flight: usize,
    /// What was pushed in all, in bytes.
    pushed: u64,
    clock: Clock,
    silence: Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Batches are pipelined: a copy, or deadlines that are finished.
    Pipelined,
    /// Batches are of the stream, and wait until what is in the pipeline has been confirmed.
    Settling,
    /// Batches are of the stream.
    Streaming,
}

impl Standalone {
    /// Connects, sees what is there, and makes sure that the server can do what the live stream needs. The connection is given
    /// this name.
    ///
    /// # Errors
    /// If it cannot be reached, refuses the password or knows no transactions.
    pub async fn enter(
        net: &Net,
        place: &ServerPlace,
        record: (Db, Vec<u8>),
        name: &str,
    ) -> Result<Entrance, TargetError> {
        enter(net, place, (record.0, &record.1), name).await
    }

    /// Takes the job over: the record is written, if what was found under its name still stands there. From here on no other
    /// process commits anything.
    ///
    /// # Errors
    /// [`TargetError::Overtaken`] if it does not, or if the connection is lost.
    pub async fn claim(mut entrance: Entrance, mut keeper: Keeper) -> Result<Self, TargetError> {
        let record = keeper.record().clone();
        let bytes = record.encode();
        claim(&mut entrance, keeper.key(), &bytes).await?;
        entrance.evict(Whose::All).await?;
        keeper.wrote(record, bytes);
        Ok(Self {
            link: entrance.link,
            input: BytesMut::new(),
            run_id: entrance.run_id,
            pipeline: Pipeline::default(),
            gate: Gate::new(keeper),
            mode: Mode::Pipelined,
            in_flight: 0,
            pushed: 0,
            clock: entrance.clock,
            silence: Silence::new(entrance.patience),
        })
    }

    /// The record, as far as it is known here.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.gate.keeper
    }

    /// The same, to be changed: the next transaction writes it.
    pub fn keeper_mut(&mut self) -> &mut Keeper {
        &mut self.gate.keeper
    }

    /// From here on batches are of the stream, which begins at this place: each is one transaction, alone or with its neighbours. The first
    /// of them is sent when the copy has been confirmed.
    pub fn begin_stream(&mut self, at: Spot) {
        self.gate.keeper.begin(at);
        self.go_on_with_stream();
    }

    /// The same, where the record tells the place.
    pub fn go_on_with_stream(&mut self) {
        if self.mode == Mode::Pipelined {
            self.mode = Mode::Settling;
        }
    }

    /// From here on batches are such as may be sent again: no transactions, deep in the pipe. Everything that was pushed must have been
    /// confirmed.
    pub fn begin_closing(&mut self) {
        debug_assert!(
            self.is_idle(),
            "what was pushed is confirmed before the deadlines are finished"
        );
        self.pipeline = Pipeline::default();
        self.mode = Mode::Pipelined;
    }

    /// Writes the record anew, behind everything that was pushed.
    pub fn save(&mut self) {
        self.go_on_with_stream();
        self.gate.wish(Wish::Save);
    }

    /// Deletes the record, behind everything that was pushed: the job is done.
    pub fn forget(&mut self) {
        self.go_on_with_stream();
        self.gate.wish(Wish::Forget);
    }

    /// Whether the target's record does not say yet that all is confirmed which is.
    #[must_use]
    pub fn is_record_behind(&self) -> bool {
        self.mode == Mode::Streaming && self.gate.keeper.is_behind()
    }

    /// Takes a batch.
    pub fn push(&mut self, batch: Batch) {
        self.in_flight += batch.size();
        self.pushed += batch.size() as u64;
        match self.mode {
            Mode::Pipelined => self.pipeline.push(batch),
            Mode::Settling | Mode::Streaming => self.gate.push(batch),
        }
    }

    /// Changes what is not confirmed, in stream order, and goes on behind a [`Halt`](super::Halt).
    pub fn revise(&mut self, change: impl FnMut(&Batch) -> Batch) {
        self.gate.revise(change);
    }

    /// How many bytes were pushed since this was made.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many bytes of batches have been pushed and not confirmed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether everything that was pushed has been confirmed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self.mode {
            Mode::Pipelined => self.pipeline.is_idle(),
            Mode::Settling => false,
            Mode::Streaming => self.gate.is_idle(),
        }
    }

    /// How many commands are not answered yet, and since when nothing has been heard of the target; `None` if it has answered all that
    /// was sent.
    #[must_use]
    pub fn unanswered(&self) -> Option<(usize, Duration)> {
        let commands = match self.mode {
            Mode::Pipelined | Mode::Settling => self.pipeline.unanswered(),
            Mode::Streaming => self.gate.unanswered(),
        };
        Some((commands, self.silence.since()?)).filter(|(commands, _)| *commands > 0)
    }

    /// How long the target may leave commands unanswered before its link is given up.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.silence.patience()
    }

    /// The same, to be changed.
    pub fn set_patience(&mut self, patience: Duration) {
        self.silence.set_patience(patience);
    }

    /// Sends and receives until the target has told something. To be called while it is not idle. Nothing is lost if the
    /// future is dropped before it is done.
    ///
    /// # Errors
    /// If the connection is lost, or nothing has come over it for too long; then [`relink`](Self::relink).
    pub async fn exchange(&mut self) -> Result<Confirmed, TargetError> {
        let mut confirmed = Confirmed::default();
        loop {
            self.advance(&mut confirmed);
            self.note_silence();
            if !confirmed.is_empty() || self.refused().is_some() || self.is_idle() {
                self.in_flight = self.in_flight.saturating_sub(confirmed.bytes);
                return Ok(confirmed);
            }
            self.input.reserve(READ_SIZE);
            match self.silence.until() {
                None => poll_fn(|cx| self.poll_socket(cx)).await?,
                Some(until) => {
                    let until = self.clock.at(until);
                    tokio::select! {
                        // What has come by then is looked at, however late we are.
                        biased;
                        read = poll_fn(|cx| self.poll_socket(cx)) => read?,
                        () = sleep_until(until) => {
                            return Err(TargetError::Silent(self.silence.broken(self.clock.now())));
                        }
                    }
                }
            }
            self.silence.heard();
            let used = match self.mode {
                Mode::Pipelined | Mode::Settling => {
                    self.pipeline.take(&self.input, &mut confirmed)?
                }
                Mode::Streaming => self.gate.take(&self.input, &mut confirmed)?,
            };
            self.input.advance(used);
        }
    }

    /// Begins to wait for answers, or no longer does.
    fn note_silence(&mut self) {
        let owes = match self.mode {
            Mode::Pipelined | Mode::Settling => self.pipeline.owes_answers(),
            Mode::Streaming => self.gate.unanswered() > 0,
        };
        self.silence.owes(owes, self.clock.now());
    }

    /// Lets the stream begin once the copy is confirmed, and sends what may be sent.
    fn advance(&mut self, confirmed: &mut Confirmed) {
        if self.mode == Mode::Settling && self.pipeline.is_idle() {
            self.mode = Mode::Streaming;
            self.gate.away();
            confirmed.copied = true;
        }
        if self.mode == Mode::Streaming {
            self.gate.advance(confirmed);
        }
    }

    /// Why the target refuses to go on for now. [`go_on`](Self::go_on) tries again.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        match self.mode {
            Mode::Pipelined | Mode::Settling => self.pipeline.refused(),
            Mode::Streaming => self.gate.refused(),
        }
    }

    /// Sends again what was refused.
    pub fn go_on(&mut self) {
        match self.mode {
            Mode::Pipelined | Mode::Settling => self.pipeline.go_on(),
            Mode::Streaming => self.gate.go_on(),
        }
    }

    /// Takes a new connection in place of a lost one and sends again what was not done. Gives the batches that were done and whose
    /// replies nobody has seen: nothing more is sent before [`revise`](Self::revise) then.
    ///
    /// # Errors
    /// [`TargetError::Replaced`] if the target no longer is what it was when it confirmed what it did: then only its record tells how to
    /// go on.
    pub fn relink(
        &mut self,
        entrance: Entrance,
        confirmed: &mut Confirmed,
    ) -> Result<Vec<Batch>, TargetError> {
        let Entrance { link, run_id, stored, .. } = entrance;
        // What was pipelined is vouched for by nothing but the process that confirmed it.
        let other = !run_id.0.is_empty() && run_id != self.run_id;
        let mut unseen = Vec::new();
        if other && stored.is_none() {
            // That it is gone need not be our doing: the target may have come back empty.
            return Err(TargetError::Replaced);
        }
        if self.mode == Mode::Streaming {
            unseen = self
                .gate
                .relink(stored.as_deref(), confirmed)
                .map_err(|()| TargetError::Replaced)?;
        } else if other || stored.as_deref() != self.gate.keeper.stored() {
            return Err(TargetError::Replaced);
        } else {
            self.pipeline.relink();
        }
        self.in_flight = self.in_flight.saturating_sub(confirmed.bytes);
        (self.link, self.run_id) = (link, run_id);
        self.silence.heard();
        self.input.clear();
        Ok(unseen)
    }

    /// Writes what can be written; ready once something has been read.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TargetError>> {
        let outbox = match self.mode {
            Mode::Pipelined | Mode::Settling => &mut self.pipeline.outbox,
            Mode::Streaming => &mut self.gate.outbox,
        };
        let mut lost = None;
        while !outbox.is_empty() && lost.is_none() {
            match Pin::new(&mut self.link).poll_write(cx, outbox.front()) {
                Poll::Ready(Ok(0)) => lost = Some(TargetError::Closed),
                Poll::Ready(Ok(written)) => {
                    outbox.written(written);
                    self.silence.takes(self.clock.now());
                }
                Poll::Ready(Err(error)) => lost = Some(TargetError::Lost(error)),
                Poll::Pending => {
                    self.silence.is_full();
                    break;
                }
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
