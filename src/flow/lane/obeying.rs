//! What the lane is told while it goes on.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info};

use crate::plan::{Place, Until};
use crate::progress::Phase;

use super::super::order::Order;
use super::{Goal, Lane, Stage, Stands, ask_offset};

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
        let settles = order == Order::Settle || order.is_behind_go();
        if settles != self.settles && self.stopping.is_none() && order != Order::Finish {
            self.settles = settles;
            match settles {
                true => self.seek_goal(),
                false => self.unsettle(),
            }
        }
        self.hands_over |= order.is_behind_go();
        self.leaves |= order == Order::Leave;
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

    /// The source has told how far it is.
    pub(super) fn goal_told(&mut self, stands: Option<Stands>) {
        self.asking = None;
        let history = self.history.map(|at| at.replid);
        if let (Place::Server(from), Some(stands)) = (self.from, stands)
            && from.is_found()
            && stands.replid.is_some_and(|replid| history != Some(replid))
        {
            // It was another server than the one that is followed: one of both is passed over, and our link will tell.
            debug!("the master that was asked where it is has another history");
            let asking = ask_offset(self.net.clone(), from.clone(), true);
            self.asking = Some(Box::pin(async move {
                sleep(ASK_AGAIN).await;
                asking.await
            }));
            return;
        }
        self.goal = stands.map_or(Goal::Silence, |stands| Goal::Offset(stands.offset));
        debug!(goal = ?self.goal, "the master was asked where it is");
    }

    /// Asks the source how far it is: so far the lane goes before it ends. A file is drained at its end, and only there.
    pub(super) fn seek_goal(&mut self) {
        if let Place::Server(from) = self.from
            && self.goal == Goal::None
        {
            let has_offsets = self.history.is_some();
            self.goal_is_sought();
            self.asking = Some(Box::pin(ask_offset(self.net.clone(), from.clone(), has_offsets)));
        }
    }
}

/// A master that was asked where it is and was not the one that is followed is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(250);
