//! What the lane is told while it goes on.

use tracing::info;

use crate::plan::{Place, Until};
use crate::progress::Phase;

use super::super::order::Order;
use super::{Goal, Lane, Stage, ask_offset};

impl Lane<'_> {
    /// Does as the last order says.
    pub(super) fn obey(&mut self) {
        let order = *self.orders.borrow_and_update();
        let is_paused = order == Order::Pause && self.stopping.is_none();
        if is_paused != self.is_paused {
            self.is_paused = is_paused;
            info!(is_paused, "the run was told to pause, or to go on");
        }
        if order == Order::Stop && self.stopping.is_none() {
            self.stopping = Some(self.clock.now());
            self.counters.enter(Phase::Finishing);
        }
        if order == Order::Finish && !self.is_finishing {
            self.is_finishing = true;
            if self.stage == Stage::Following && self.plan.until == Until::Forever {
                self.seek_goal();
            }
        }
    }

    /// When the lane ends.
    pub(super) fn until(&self) -> Until {
        if self.is_finishing { Until::CaughtUp } else { self.plan.until }
    }

    /// Asks the source how far it is: so far the lane goes before it ends. A file is drained at its end, and only there.
    pub(super) fn seek_goal(&mut self) {
        if let Place::Server(from) = self.from
            && self.goal == Goal::None
        {
            let has_offsets = self.history.is_some();
            self.asking = Some(Box::pin(ask_offset(self.net.clone(), from.clone(), has_offsets)));
        }
    }
}
