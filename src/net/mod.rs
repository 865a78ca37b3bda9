//! Sockets and the clock: the only place where either is touched.

mod clock;
mod control;
mod greet;
mod link;
mod listener;
mod ping;
mod tls;

use std::sync::Arc;

pub use clock::Clock;
pub use control::{Control, ControlError, Foreign, Reply, info_field};
pub use link::{Carrier, Dial, Dialing, Link, LinkError, Sockets};
pub use listener::Listener;
pub use ping::round_trips;
pub use tls::TlsError;

use crate::plan::ServerPlace;

/// The world outside: how connections are made, and what time it is.
#[derive(Clone, Debug)]
pub struct Net {
    dial: Arc<dyn Dial>,
    clock: Clock,
}

impl Net {
    /// The sockets and the clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::with(Arc::new(Sockets::default()))
    }

    /// Connections that are made in another way.
    #[must_use]
    pub fn with(dial: Arc<dyn Dial>) -> Self {
        Self { dial, clock: Clock::start() }
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
}
