//! The clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The time, as the pure parts take it: since a start that lies before everything they will be told.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// The time of day at the start, in milliseconds since 1970.
    unix_start: i64,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            unix_start: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// How long it has run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment at which it will have run for so long.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }

    /// The time of day, in milliseconds since 1970. It goes on as the clock does: a machine whose time is set meanwhile
    /// moves no deadline.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        self.unix_start.saturating_add(i64::try_from(self.now().as_millis()).unwrap_or(i64::MAX))
    }
}
