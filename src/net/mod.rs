//! Sockets and the clock: the only place where either is touched.

mod certificate;
mod clock;
mod cluster;
mod control;
mod greet;
mod link;
mod listener;
mod ping;
mod sentinel;
#[cfg(feature = "ssh")]
mod ssh;
mod tls;
#[cfg(feature = "ssh")]
mod tunnel;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use certificate::own_certificates;
pub use clock::Clock;
pub use cluster::{ClusterError, ClusterNode, ClusterView, Nodes};
pub use control::{Control, ControlError, Foreign, Reply, greeted, info_field};
pub use link::{Carrier, Dial, Dialing, Link, LinkError, Sockets};
pub use listener::Listener;
pub use ping::round_trips;
pub use sentinel::SentinelError;
#[cfg(feature = "ssh")]
pub use ssh::{ByHand, SshError};
pub use tls::TlsError;
#[cfg(feature = "ssh")]
pub use tunnel::TunnelError;

use crate::plan::{Address, ServerPlace};

/// A place that is being found out.
pub type Locating<'p> =
    Pin<Box<dyn Future<Output = Result<Cow<'p, ServerPlace>, LinkError>> + Send + 'p>>;

/// The world outside: how connections are made, and what time it is.
#[derive(Clone, Debug)]
pub struct Net {
    dial: Arc<dyn Dial>,
    clock: Clock,
    patience: Duration,
}

impl Net {
    /// How long a target may leave commands unanswered unless told otherwise: what a master allows its replicas (`repl-timeout`).
    pub const PATIENCE: Duration = Duration::from_secs(60);

    /// The sockets and the clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::with(Arc::new(Sockets::default()))
    }

    /// Connections that are made in another way.
    #[must_use]
    pub fn with(dial: Arc<dyn Dial>) -> Self {
        Self { dial, clock: Clock::start(), patience: Self::PATIENCE }
    }

    /// The same, where a target may leave commands unanswered for so long before its link is given up for the first time. Less than the
    /// slowest command takes costs links, and time, but no data.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How long a target may leave commands unanswered before its link is given up for the first time.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Connects to a server.
    ///
    /// # Errors
    /// If there is no answer in time, or a refusal.
    pub async fn connect(&self, place: &ServerPlace) -> Result<Link, LinkError> {
        self.dial.dial(&*self.locate(place).await?).await
    }

    /// Connects to a server whose stream may be left unread for long.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_stream(&self, place: &ServerPlace) -> Result<Link, LinkError> {
        self.dial.dial_stream(&*self.locate(place).await?).await
    }

    /// Where a server is just now. One that Sentinels watch is asked for, and says itself that it is a master; any other is where its place says.
    ///
    /// # Errors
    /// If the Sentinels do not lead to a master.
    pub fn locate<'p>(&'p self, place: &'p ServerPlace) -> Locating<'p> {
        // Asking is connecting, which is locating.
        Box::pin(async move {
            match &place.address {
                Address::Watched(watched) => {
                    let found = sentinel::locate(self, place, watched).await;
                    Ok(Cow::Owned(found.map_err(Box::new)?))
                }
                Address::Cluster(cluster) => {
                    let found = cluster::locate(self, place, cluster).await;
                    Ok(Cow::Owned(found.map_err(Box::new)?))
                }
                Address::Tcp { .. } | Address::Unix(_) => Ok(Cow::Borrowed(place)),
            }
        })
    }

    /// Tells when another server plays the part of the one that was found at this address.
    #[must_use]
    pub fn succession(&self, place: &ServerPlace, at: &Address) -> Succession {
        let told: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = match &place.address {
            Address::Watched(watched) => {
                let (net, place, at) = (self.clone(), place.clone(), at.clone());
                let watched = watched.clone();
                Some(Box::pin(async move {
                    sentinel::replaced(&net, &place, &watched, &at).await;
                }))
            }
            // A run looks after all masters of a cluster together.
            Address::Cluster(_) | Address::Tcp { .. } | Address::Unix(_) => None,
        };
        Succession(told)
    }
}

/// Whether another server has taken a master's place, by the word of those who tell where it is. A master that is passed over may not know it.
pub struct Succession(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Succession {
    /// Ready once, when that has happened.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(told) = &mut self.0 else { return Poll::Pending };
        ready!(told.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

impl fmt::Debug for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Succession").field(&self.0.is_some()).finish()
    }
}
