//! A side that is lost and asked again and again.

use std::time::Duration;

use tracing::{debug, warn};

use crate::plan::Until;

use super::lane::{LaneError, chain};
use super::remedy::{lost_patience, pause};

/// A side that is not there, or serves nobody for now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    since: Duration,
    tries: u32,
}

impl Loss {
    /// It was noticed now.
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, tries: 0 }
    }

    /// How long it has lasted.
    pub(super) fn lasting(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// Says why the side (its name) is not there, and gives the pause before the next try.
    ///
    /// # Errors
    /// If it has been waited for as long as such a run waits.
    pub(super) fn again(
        &mut self,
        side: &'static str,
        error: &LaneError,
        until: Until,
        now: Duration,
    ) -> Result<Duration, LaneError> {
        let waited = self.lasting(now);
        let why = match error {
            // The side is named already.
            LaneError::Target(error) => chain(error),
            error => chain(error),
        };
        if lost_patience(error, until).is_some_and(|patience| waited >= patience) {
            return Err(LaneError::GivenUp { side, waited, why });
        }
        let pause = pause(self.tries);
        let lost_for = format!("{}s", waited.as_secs());
        // Whoever follows may wait for days: the lines come farther and farther apart.
        if self.tries == 0 || self.tries.is_power_of_two() {
            warn!(error = why, lost_for, again_in = ?pause, "the {side} is lost");
        } else {
            debug!(error = why, lost_for, again_in = ?pause, "the {side} is lost");
        }
        self.tries = self.tries.saturating_add(1);
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetError;

    /// Tries until it is given up, a week at the most: how long that took.
    fn given_up_after(until: Until, error: fn() -> TargetError) -> Option<u64> {
        const WEEK: Duration = Duration::from_secs(7 * 86_400);
        let mut now = Duration::from_secs(5);
        let mut loss = Loss::new(now);
        while now < WEEK {
            match loss.again("target", &error().into(), until, now) {
                Ok(pause) => now += pause,
                Err(LaneError::GivenUp { side: "target", waited, .. }) => {
                    return Some(waited.as_secs());
                }
                Err(other) => panic!("{other}"),
            }
        }
        None
    }

    #[test]
    fn a_run_that_ends_by_itself_does_not_wait_for_ever() {
        let closed = given_up_after(Until::CaughtUp, || TargetError::Closed);
        assert!(closed.is_some_and(|waited| (300..320).contains(&waited)), "{closed:?}");
        let loading = || TargetError::NotReady("LOADING Redis is loading".to_owned());
        assert!(given_up_after(Until::CaughtUp, loading).is_some_and(|waited| waited >= 3600));
        assert_eq!(given_up_after(Until::Forever, || TargetError::Closed), None);
    }
}
