//! Sockets and the clock: the only place where either is touched.

mod clock;
mod control;
mod greet;
mod link;
mod listener;
mod ping;
#[cfg(feature = "ssh")]
mod ssh;
mod tls;

use std::sync::Arc;
use std::time::Duration;

pub use clock::Clock;
pub use control::{Control, ControlError, Foreign, Reply, info_field};
pub use link::{Carrier, Dial, Dialing, Link, LinkError, Sockets};
pub use listener::Listener;
pub use ping::round_trips;
#[cfg(feature = "ssh")]
pub use ssh::{ByHand, SshError};
pub use tls::TlsError;

use crate::plan::ServerPlace;

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
        self.dial.dial(place).await
    }

    /// Connects to a server whose stream may be left unread for long.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_stream(&self, place: &ServerPlace) -> Result<Link, LinkError> {
        self.dial.dial_stream(place).await
    }
}
