//! A master that is followed over a socket.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep_until;

use crate::net::{Clock, Link, Net, Succession};
use crate::offset::Offset;
use crate::plan::{Address, ServerPlace};
use crate::rdb::parser::Depth;
use crate::repl::{Event, Method, Request, Resume, Session};
use crate::spool::Spool;

use super::SourceError;

/// A connection to a master, as its replica.
#[derive(Debug)]
pub struct Replica {
    link: Link,
    /// Where the master was found.
    at: Address,
    /// Tells when another server has taken the master's place.
    succession: Succession,
    session: Session,
    clock: Clock,
    /// When the master was heard last, or when we last did not listen.
    heard: Duration,
    /// The last bytes that were heard.
    last: [u8; 40],
    /// Whether they were the end mark of the payload at some time.
    has_sent: bool,
    /// What was read and not taken by the one who wants it byte for byte.
    kept: Option<Vec<u8>>,
    /// Where bytes wait that the session cannot take yet.
    spool: Option<Spool>,
    /// The connection is gone, and what came before that is not all taken.
    lost: Option<SourceError>,
    /// When the spool had no room last.
    full_at: Option<Duration>,
    /// What a new link has brought already.
    brought: Vec<u8>,
    /// Where the bytes of a new link begin, and what had counted in no offset when that was reckoned.
    joint: Option<(Offset, u64)>,
}

/// What is to become of what a source says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Whether more is wanted for [`poll_event`](Replica::poll_event).
    pub take: bool,
    /// Whether more may be read. What is not wanted then waits in the spool; without one it is left where it is.
    pub read: bool,
}

impl Wants {
    /// More is wanted, and may be read.
    pub const MORE: Self = Self { take: true, read: true };
    /// The link is only kept alive.
    pub const NOTHING: Self = Self { take: false, read: false };
}

/// How long a master may be silent: the default of `repl-timeout`, which both sides of a replication keep to.
const REPL_TIMEOUT: Duration = Duration::from_secs(60);

/// A link that is lost so soon after the spool was full is lost because of it: what the master had sent before is read first.
const SHORTLY: Duration = Duration::from_secs(10);

/// How often a spool without room is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
        let found = net.locate(place).await?;
        let link = net.connect_stream(&found).await?;
        let succession = net.succession(place, &found.address);
        let at = found.into_owned().address;
        let request = Request { credentials: place.credentials.clone(), resume };
        let session = Session::new(request).method(method);
        let clock = net.clock();
        Ok(Self {
            link,
            at,
            succession,
            session,
            clock,
            heard: clock.now(),
            last: [0; 40],
            has_sent: false,
            kept: None,
            spool: None,
            lost: None,
            full_at: None,
            brought: Vec::new(),
            joint: None,
        })
    }

    /// Where the master was found.
    #[must_use]
    pub const fn at(&self) -> &Address {
        &self.at
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

    /// Lets what is read and not wanted yet wait here.
    pub fn set_spool(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    /// Where what is not wanted yet waits.
    #[must_use]
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
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
        if let Some((joint, uncounted)) = self.joint {
            if self.session.uncounted() != uncounted {
                // What was asked for begins elsewhere. It has not been taken yet.
                return Err(SourceError::Closed);
            }
            self.joint = self.joint.filter(|_| self.session.offset() < joint);
        }
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

    /// Whether the master has sent all of a data set that it does not save to a disk, and no other process of it is at work any more. How much of
    /// that waits to be taken is another matter.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        self.has_sent || self.is_marked()
    }

    fn is_marked(&self) -> bool {
        self.session.end_mark() == Some(&self.last)
    }

    /// Up to where the master was heard over a link that has been lost, while something of that waits in the spool; `None` at any other time,
    /// and for what is no stream.
    #[must_use]
    pub fn lost_at(&self) -> Option<Resume> {
        let waiting = self.spool.as_ref().map_or(0, Spool::len);
        match self.lost {
            // A master that was not read has forgotten the place, and cuts the next link as well.
            None | Some(SourceError::CutOff) => return None,
            Some(_) if waiting == 0 => return None,
            Some(_) => {}
        }
        let (_, at) = self.session.unread()?;
        let behind = waiting.saturating_add(self.brought.len() as u64);
        Some(Resume { offset: at.offset.advance(behind), ..at })
    }

    /// Goes on with another link, whose master has just said that it goes on at [`lost_at`](Self::lost_at): what comes over it stands behind
    /// what waits. `false`, and nothing has changed, if it has not said that.
    pub fn go_on_with(&mut self, other: Self) -> bool {
        let (Some(at), Some((unread, begins))) = (self.lost_at(), other.session.unread()) else {
            return false;
        };
        let begun = Resume { offset: other.session.offset(), ..begins };
        if begun != at {
            return false;
        }
        self.brought.extend_from_slice(unread);
        self.joint = Some((at.offset, self.session.uncounted()));
        (self.link, self.heard, self.lost, self.full_at) = (other.link, other.heard, None, None);
        (self.at, self.succession) = (other.at, other.succession);
        true
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

    /// Sends what is due, reads, and returns once something is there to be taken, something has been read into the spool, that has no room any
    /// more, or the connection is [lost](Self::lost_at); gives how many bytes were read. Acknowledgements go on whatever is wanted. That a connection is lost is an error when all
    /// has been taken that came before.
    /// Nothing is lost if the future is dropped before it is done.
    ///
    /// # Errors
    /// If the connection is lost, or what is in the spool.
    pub async fn exchange(&mut self, wants: Wants) -> Result<u64, SourceError> {
        loop {
            let now = self.clock.now();
            self.session.handle_timeout(now);
            if !self.listens(wants) {
                self.heard = now;
            } else if now.saturating_sub(self.heard) >= REPL_TIMEOUT {
                self.lost = Some(SourceError::Silent(REPL_TIMEOUT));
                if self.lost_at().is_some() {
                    return Ok(0);
                }
            }
            let deaf = self.heard.saturating_add(REPL_TIMEOUT);
            let mut due = self.session.poll_timeout().map_or(deaf, |due| due.min(deaf));
            if self.is_full() {
                due = due.min(now.saturating_add(LOOK_AGAIN));
            }
            let timer = sleep_until(self.clock.at(due));
            tokio::select! {
                moved = poll_fn(|cx| self.poll_all(cx, wants, now)) => return moved,
                () = timer => {}
            }
        }
    }

    /// Whether the spool has no room.
    fn is_full(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.full().is_some())
    }

    /// Whether the master is heard, if it says something.
    fn listens(&self, wants: Wants) -> bool {
        let has_room = |spool: &Spool| spool.is_empty() || spool.full().is_none();
        wants.read
            && self.lost.is_none()
            && match &self.spool {
                Some(spool) => has_room(spool),
                None => wants.take,
            }
    }

    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        wants: Wants,
        now: Duration,
    ) -> Poll<Result<u64, SourceError>> {
        let had_room = !self.is_full();
        let mut came = self.poll_spool(cx, wants, now)?;
        if self.is_full() {
            self.full_at = Some(now);
            // It may be the disk that says so, long after the last byte was read.
            came |= had_room;
        }
        if self.lost.is_none() && self.succession.poll(cx).is_ready() {
            self.lost = Some(SourceError::Replaced);
            came |= self.lost_at().is_some();
        }
        if self.lost.is_none() {
            match self.poll_link(cx, wants) {
                // What was read may fill a block.
                Poll::Ready(Ok(read)) => {
                    if let Some(spool) = self.spool.as_mut().filter(|spool| !spool.is_empty()) {
                        spool.poll_disk(cx, now).map_err(SourceError::Spool)?;
                    }
                    return Poll::Ready(Ok(read));
                }
                Poll::Ready(Err(error)) => {
                    let was_full = self.full_at.is_some_and(|at| now.saturating_sub(at) < SHORTLY);
                    self.lost = Some(match error {
                        SourceError::Closed | SourceError::Lost(_) if was_full => {
                            SourceError::CutOff
                        }
                        error => error,
                    });
                    // Who hears of it may make another link.
                    came |= self.lost_at().is_some();
                }
                Poll::Pending => {}
            }
        }
        if came {
            return Poll::Ready(Ok(0));
        }
        // Nobody is there to be answered.
        if self.lost.is_some() {
            self.session.transmit().clear();
        }
        let is_all_taken = match &self.spool {
            Some(spool) => wants.take && spool.is_empty(),
            None => true,
        };
        match self.lost.take_if(|_| is_all_taken) {
            Some(lost) => Poll::Ready(Err(lost)),
            None => Poll::Pending,
        }
    }

    /// Moves what waits to where it is taken, if that is wanted; whether something was moved.
    fn poll_spool(
        &mut self,
        cx: &mut Context<'_>,
        wants: Wants,
        now: Duration,
    ) -> Result<bool, SourceError> {
        let Some(spool) = self.spool.as_mut().filter(|spool| !spool.is_empty()) else {
            return Ok(false);
        };
        spool.poll_disk(cx, now).map_err(SourceError::Spool)?;
        if !wants.take || !spool.is_ready() {
            return Ok(false);
        }
        let count = spool.take(self.session.buffer());
        self.session.filled(count);
        if !spool.is_empty() {
            spool.poll_disk(cx, now).map_err(SourceError::Spool)?;
        }
        Ok(true)
    }

    fn poll_link(&mut self, cx: &mut Context<'_>, wants: Wants) -> Poll<Result<u64, SourceError>> {
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
        if !wants.read {
            return Poll::Pending;
        }
        let room = match &mut self.spool {
            // What comes behind others waits behind them.
            Some(spool) if !wants.take || !spool.is_empty() => spool.room(),
            _ if wants.take => Some(self.session.buffer()),
            _ => None,
        };
        let Some(room) = room else { return Poll::Pending };
        let mut buffer = ReadBuf::new(room);
        if self.brought.is_empty() {
            ready!(Pin::new(&mut self.link).poll_read(cx, &mut buffer))
                .map_err(SourceError::Lost)?;
        } else {
            let count = self.brought.len().min(buffer.remaining());
            buffer.put_slice(self.brought.drain(..count).as_slice());
        }
        let count = buffer.filled().len();
        if count == 0 {
            return Poll::Ready(Err(SourceError::Closed));
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(buffer.filled());
        }
        // Behind the mark nothing comes before the master has heard that it was seen.
        shift(&mut self.last, buffer.filled());
        self.has_sent |= self.is_marked();
        match &mut self.spool {
            Some(spool) if !wants.take || !spool.is_empty() => spool.filled(count),
            _ => self.session.filled(count),
        }
        self.heard = self.clock.now();
        Poll::Ready(Ok(count as u64))
    }
}

/// Takes note of the last bytes of all, of which these came last.
fn shift(last: &mut [u8; 40], came: &[u8]) {
    let new = came.get(came.len().saturating_sub(last.len())..).unwrap_or_default();
    last.rotate_left(new.len());
    let at = last.len() - new.len();
    if let Some(place) = last.get_mut(at..) {
        place.copy_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_known_whatever_pieces_they_come_in() {
        let bytes: Vec<u8> = (0..200).collect();
        for piece in [1, 7, 39, 40, 41, 150] {
            let mut last = [0; 40];
            bytes.chunks(piece).for_each(|piece| shift(&mut last, piece));
            assert_eq!(last[..], bytes[160..], "pieces of {piece}");
        }
    }
}
