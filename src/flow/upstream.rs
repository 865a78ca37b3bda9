//! A source, or the way to it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;

use crate::net::Net;
use crate::offset::Offset;
use crate::plan::{Address, Place, ServerPlace};
use crate::rdb::parser::Depth;
use crate::repl::{Event, Method, Resume};
use crate::source::{Replica, Source, SourceError, Wants};
use crate::spool::{NoRoom, Spool, Store};

use super::remedy::pause;

/// A source: a file, or the connection to a master, which can be lost and made again.
pub(super) struct Upstream {
    place: Place,
    net: Net,
    method: Method,
    limits: Limits,
    link: Link,
    again: Again,
    /// How often a link was made anew while what the one before had brought was still waiting.
    joined: u64,
}

/// A link that was lost while much waits that came over it. The master does not keep its place for ever.
enum Again {
    No,
    Tries(Pin<Box<dyn Future<Output = Replica> + Send>>),
    /// The master cannot go on there.
    Refused,
}

/// What a source may hold.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The most that is held in one piece, in bytes.
    pub(super) piece: usize,
    /// Where bytes wait that cannot be taken yet, and the size of a block of them in memory.
    pub(super) spool: Option<(Store, usize)>,
}

enum Link {
    Up(Source),
    Down(Pin<Box<dyn Future<Output = Result<Source, SourceError>> + Send>>),
}

impl Upstream {
    /// Begins to connect, to go on behind `resume`.
    pub(super) fn new(
        place: Place,
        net: Net,
        method: Method,
        limits: Limits,
        resume: Option<Resume>,
    ) -> Self {
        let link = connecting(&place, &net, method, limits.clone(), resume, Duration::ZERO);
        Self { place, net, method, limits, link, again: Again::No, joined: 0 }
    }

    /// Gives up the connection and makes a new one after a pause.
    pub(super) fn reconnect(&mut self, resume: Option<Resume>, pause: Duration) {
        let limits = self.limits.clone();
        self.again = Again::No;
        self.link = connecting(&self.place, &self.net, self.method, limits, resume, pause);
    }

    /// Gives up the connection for good.
    pub(super) fn let_go(&mut self) {
        self.link = Link::Down(Box::pin(std::future::pending()));
        self.again = Again::No;
    }

    /// Sends what is due and waits until something has been read or can be taken, or the connection has been made; gives how many bytes were
    /// read. Nothing is lost if the future is dropped.
    pub(super) async fn exchange(&mut self, wants: Wants) -> Result<u64, SourceError> {
        match &mut self.link {
            Link::Up(Source::Replica(replica)) => {
                if let (Again::No, Some(at)) = (&self.again, replica.lost_at())
                    && let Place::Server(place) = &self.place
                {
                    self.again = tries(&self.net, place, self.method, at);
                }
                let Again::Tries(tries) = &mut self.again else {
                    return replica.exchange(wants).await;
                };
                tokio::select! {
                    exchanged = replica.exchange(wants) => exchanged,
                    other = tries => {
                        let goes_on = replica.go_on_with(other);
                        self.again = if goes_on { Again::No } else { Again::Refused };
                        self.joined += u64::from(goes_on);
                        Ok(0)
                    }
                }
            }
            Link::Up(source) => source.exchange(wants).await,
            Link::Down(connecting) => {
                let source = connecting.await;
                // A finished future must not be asked again.
                match source {
                    Ok(source) => self.link = Link::Up(source),
                    Err(error) => {
                        self.link = Link::Down(Box::pin(std::future::pending()));
                        return Err(error);
                    }
                }
                Ok(0)
            }
        }
    }

    /// The next thing that the master has said; `None` when [`exchange`](Self::exchange) must bring more.
    pub(super) fn poll_event(&mut self) -> Result<Option<Event<'_>>, SourceError> {
        match &mut self.link {
            Link::Up(source) => source.poll_event(),
            Link::Down(_) => Ok(None),
        }
    }

    /// How often a link was made anew, since this was asked last, while what the one before had brought was still waiting.
    pub(super) fn take_joined(&mut self) -> u64 {
        std::mem::take(&mut self.joined)
    }

    /// Where the master is that a link leads to.
    pub(super) fn at(&self) -> Option<&Address> {
        match &self.link {
            Link::Up(Source::Replica(replica)) => Some(replica.at()),
            _ => None,
        }
    }

    /// Bytes that were read and wait to be taken.
    pub(super) fn waiting(&self) -> u64 {
        self.spool().map_or(0, Spool::len)
    }

    /// Why nothing more is read, if all room is taken for what waits.
    pub(super) fn full(&self) -> Option<&NoRoom> {
        self.spool()?.full()
    }

    fn spool(&self) -> Option<&Spool> {
        match &self.link {
            Link::Up(source) => source.spool(),
            Link::Down(_) => None,
        }
    }

    /// How large the piece is that is being read, as far as it has said so.
    pub(super) fn claimed(&self) -> usize {
        match &self.link {
            Link::Up(source) => source.claimed(),
            Link::Down(_) => 0,
        }
    }

    /// How the value of the key that was told last is wanted.
    pub(super) fn choose(&mut self, depth: Depth) {
        if let Link::Up(source) = &mut self.link {
            source.choose(depth);
        }
    }

    /// What the target has confirmed.
    pub(super) fn confirm(&mut self, upto: Offset) {
        if let Link::Up(source) = &mut self.link {
            source.confirm(upto);
        }
    }

    /// Bytes of the payload that have been taken.
    pub(super) fn payload_position(&self) -> Option<u64> {
        match &self.link {
            Link::Up(source) => source.payload_position(),
            Link::Down(_) => None,
        }
    }

    /// Whether the master has sent all of its data set, as far as that is known before it is taken.
    pub(super) fn has_sent(&self) -> bool {
        match &self.link {
            Link::Up(source) => source.has_sent(),
            Link::Down(_) => false,
        }
    }

    /// When what is told next was recorded; `None` for what comes as it happens.
    pub(super) fn recorded_ms(&self) -> Option<i64> {
        match &self.link {
            Link::Up(source) => source.recorded_ms(),
            Link::Down(_) => None,
        }
    }

    /// Whether nothing will come any more, as at the end of a file.
    pub(super) fn is_ended(&self) -> bool {
        matches!(&self.link, Link::Up(source) if source.is_ended())
    }
}

/// Connects until the master has answered whether it goes on at this place.
fn tries(net: &Net, place: &ServerPlace, method: Method, at: Resume) -> Again {
    let (net, place) = (net.clone(), place.clone());
    Again::Tries(Box::pin(async move {
        let mut tried = 0;
        loop {
            sleep(pause(tried)).await;
            tried += 1;
            let answered = async {
                let mut replica = Replica::open(&net, &place, method, Some(at)).await?;
                while replica.poll_event()?.is_none_or(|event| matches!(event, Event::KeepAlive)) {
                    replica.exchange(Wants::MORE).await?;
                }
                Ok::<_, SourceError>(replica)
            };
            if let Ok(replica) = answered.await {
                return replica;
            }
        }
    }))
}

fn connecting(
    place: &Place,
    net: &Net,
    method: Method,
    limits: Limits,
    resume: Option<Resume>,
    pause: Duration,
) -> Link {
    let (place, net) = (place.clone(), net.clone());
    Link::Down(Box::pin(async move {
        sleep(pause).await;
        let mut source = Source::open(&net, &place, method, resume).await?;
        source.set_piece_limit(limits.piece);
        if let Some((store, block)) = &limits.spool {
            source.set_spool(store.spool(*block));
        }
        Ok(source)
    }))
}
