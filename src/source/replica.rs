//! A master that is followed over a socket.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep_until;

use crate::net::{Clock, Link, Net};
use crate::offset::Offset;
use crate::plan::ServerPlace;
use crate::rdb::parser::Depth;
use crate::repl::{Event, Method, Request, Resume, Session};

use super::SourceError;

/// A connection to a master, as its replica.
#[derive(Debug)]
pub struct Replica {
    link: Link,
    session: Session,
    clock: Clock,
    /// When the master was heard last, or when we last did not listen.
    heard: Duration,
    /// What was read and not taken by the one who wants it byte for byte.
    kept: Option<Vec<u8>>,
}

/// How long a master may be silent: the default of `repl-timeout`, which both sides of a replication keep to.
const REPL_TIMEOUT: Duration = Duration::from_secs(60);

impl Replica {
    /// Connects and begins the handshake; with `resume`, asks for what came after that place.
    ///
    /// # Errors
    /// If the master cannot be reached. What it says is told by [`poll_event`](Self::poll_event).
    pub async fn open(
        net: &Net,
        place: &ServerPlace,
        method: Method,
        resume: Option<Resume>,
    ) -> Result<Self, SourceError> {
        let link = net.connect(place).await?;
        let request = Request { credentials: place.credentials.clone(), resume };
        let session = Session::new(request).method(method);
        let clock = net.clock();
        Ok(Self { link, session, clock, heard: clock.now(), kept: None })
    }

    /// Keeps what is read from here on, byte for byte, until [`kept`](Self::kept) takes it.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// What was read since it was taken last, if it is kept: at most what one [`exchange`](Self::exchange) brings, for who takes it
    /// after each.
    pub fn kept(&mut self) -> &mut Vec<u8> {
        self.kept.get_or_insert_default()
    }

    /// See [`Session::set_piece_limit`].
    pub fn set_piece_limit(&mut self, bytes: usize) {
        self.session.set_piece_limit(bytes);
    }

    /// See [`Session::claimed`].
    #[must_use]
    pub fn claimed(&self) -> usize {
        self.session.claimed()
    }

    /// The next thing that the master has said; `None` when [`exchange`](Self::exchange) must bring more.
    ///
    /// # Errors
    /// If the master refuses us or breaks the protocol.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, SourceError> {
        Ok(self.session.poll_event(self.clock.now())?)
    }

    /// How the value of the key that [`poll_event`](Self::poll_event) told last is wanted.
    pub fn choose(&mut self, depth: Depth) {
        self.session.choose(depth);
    }

    /// Bytes of the RDB payload that have been taken; `None` outside of it.
    #[must_use]
    pub fn payload_position(&self) -> Option<u64> {
        self.session.payload_position()
    }

    /// What the target has confirmed.
    pub fn confirm(&mut self, upto: Offset) {
        self.session.confirm(upto);
    }

    /// Where the stream has been taken to.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.session.offset()
    }

    /// The session that is held with the master.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sends what is due and reads until something has come. With `read` false it only sends, and never returns unless
    /// the connection fails: acknowledgements go on while there is no room for more.
    /// Nothing is lost if the future is dropped before it is done.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn exchange(&mut self, read: bool) -> Result<u64, SourceError> {
        loop {
            self.session.handle_timeout(self.clock.now());
            let now = self.clock.now();
            if !read {
                self.heard = now;
            } else if now.saturating_sub(self.heard) >= REPL_TIMEOUT {
                return Err(SourceError::Silent(REPL_TIMEOUT));
            }
            let deaf = self.heard.saturating_add(REPL_TIMEOUT);
            let due = self.session.poll_timeout().map_or(deaf, |due| due.min(deaf));
            let timer = sleep_until(self.clock.at(due));
            tokio::select! {
                moved = poll_fn(|cx| self.poll_socket(cx, read)) => return moved,
                () = timer => {}
            }
        }
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<u64, SourceError>> {
        while !self.session.transmit().is_empty() {
            match Pin::new(&mut self.link).poll_write(cx, self.session.transmit()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(SourceError::Closed)),
                Poll::Ready(Ok(written)) => drop(self.session.transmit().drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SourceError::Lost(error))),
                Poll::Pending => break,
            }
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.link).poll_flush(cx) {
                return Poll::Ready(Err(SourceError::Lost(error)));
            }
        }
        if !read {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(self.session.buffer());
        match Pin::new(&mut self.link).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(SourceError::Lost(error))),
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                if count == 0 {
                    return Poll::Ready(Err(SourceError::Closed));
                }
                if let Some(kept) = &mut self.kept {
                    kept.extend_from_slice(buffer.filled());
                }
                self.session.filled(count);
                self.heard = self.clock.now();
                Poll::Ready(Ok(count as u64))
            }
        }
    }
}
