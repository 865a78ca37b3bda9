//! The horizon before which deadlines are held back, moved while a run follows.
//!
//! ```text
//! record H new ──▶ walk through the target ──▶ keys that moved behind it ──▶ all confirmed: record good = H
//!                  D < H is held back           (RENAME, COPY, MOVE)
//! ```
//! Killed in its midst the job goes on with the old `good`, and the walk begins anew.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use crate::change::{Draft, Finish, Names, PAGE};
use crate::key::{Db, is_own};
use crate::net::ControlError;

use super::super::walks::{self, Walking};
use super::{End, Lane, LaneError, Later, Stage};

/// The horizon is on its way.
pub(super) struct Moving {
    to: i64,
    step: Step,
}

enum Step {
    /// The next page of the walk is being read.
    Walk(Later<Walked>),
    /// All has been walked through; keys that moved meanwhile are seen to.
    Moved,
    /// All has been sent.
    Sent,
}

/// A page of the walk, and the rest of it.
pub(super) type Walked = Result<(Option<Walking>, Arc<walks::Names>), ControlError>;

impl Moving {
    fn is_sent(&self) -> bool {
        matches!(self.step, Step::Sent)
    }

    /// Waits for the next page, or for ever. Nothing is lost if the future is dropped.
    pub(super) async fn walked(slot: &mut Option<Self>) -> Walked {
        match slot.as_mut().map(|moving| &mut moving.step) {
            Some(Step::Walk(page)) => page.await,
            _ => std::future::pending().await,
        }
    }
}

impl Lane<'_> {
    /// Moves the horizon when half of the time until it is gone.
    pub(super) fn advance_horizon(&mut self) {
        let now = self.target_ms();
        let is_restored = matches!(self.end, End::Restoring);
        let moves = matches!(self.end, End::No) && self.stopping.is_none();
        if self.stage != Stage::Following || !moves && !is_restored {
            return;
        }
        let Some(moving) = &mut self.moving else {
            let good = self.target.keeper().record().good;
            // What was gathered under the old one must not come behind the walk.
            if good.saturating_sub(now) < self.soon() && self.draft.is_empty() {
                self.begin_moving(now.saturating_add(self.ahead));
            }
            return;
        };
        let to = moving.to;
        if matches!(moving.step, Step::Moved) && self.stream.is_whole() {
            match self.deadlines.take_moved() {
                Some(names) if names.is_empty() => moving.step = Step::Sent,
                Some(names) if names.len().is_some() => self.hold_names(&names),
                _ => {
                    debug!("more keys have moved than were noted: the walk begins anew");
                    self.begin_moving(to);
                }
            }
        }
        // In the same round: where all of it is confirmed already nothing may come that begins another one.
        if self.holding == 0 && self.moving.as_ref().is_some_and(Moving::is_sent) {
            self.moving = None;
            self.deadlines.horizon_has_moved();
            self.target.keeper_mut().amend(|record| record.good = to);
            if is_restored {
                self.is_restored();
            }
            self.target.save();
            info!(until_ms = to, "deadlines up to a later time are held back");
        }
    }

    /// With how much time left the horizon moves, in milliseconds: half of what there was, and the minute before which the gate closes.
    const fn soon(&self) -> i64 {
        self.ahead / 2 + 60_000
    }

    pub(super) fn begin_moving(&mut self, to: i64) {
        self.deadlines.move_horizon(to);
        self.target.keeper_mut().amend(|record| record.horizon = to);
        let first = Box::pin(self.walks.join(self.to).page());
        self.moving = Some(Moving { to, step: Step::Walk(first) });
    }

    /// A page of the target's keys: those whose deadlines come before the new horizon are held back.
    pub(super) fn walked(&mut self, walked: Walked) -> Result<(), LaneError> {
        let (walk, names) = walked?;
        let Some(moving) = &mut self.moving else { return Ok(()) };
        moving.step = match walk {
            Some(walk) => Step::Walk(Box::pin(walk.page())),
            None => Step::Moved,
        };
        let mut ours = self.brought_of(&names);
        ours.retain(|name| !is_own(name));
        self.hold(names.page.db, &ours);
        Ok(())
    }

    fn hold_names(&mut self, names: &Names) {
        let mut at = 0;
        loop {
            let (db, page, next) = names.page(at, PAGE);
            if page.is_empty() {
                return;
            }
            self.hold(db, &page);
            at = next;
        }
    }

    /// Writes, in a batch of its own, what holds back the deadlines of these keys. While a transaction of the source is being gathered it stands
    /// before that.
    fn hold(&mut self, db: Db, names: &[&[u8]]) {
        if names.is_empty() {
            return;
        }
        let finish = Finish::hold(self.server, self.deadlines.horizon(), self.target_ms());
        let mut draft = Draft::new(db);
        // Of fields all are held back already, but behind a cutover that was given up.
        let fields = finish.has_fields() && matches!(self.end, End::Restoring);
        for names in names.chunks(PAGE) {
            finish.keys(names, &mut draft);
            if fields {
                finish.fields(names, &mut draft);
            }
        }
        draft.carries.held = names.len() as u64;
        self.holding += draft.carries.held;
        self.target.push(draft.finish());
    }

    /// So many deadlines are held back that were not before.
    pub(super) fn were_held(&mut self, count: u64) {
        self.holding = self.holding.saturating_sub(count);
    }

    /// The time of day on the target's clock, in Unix milliseconds: the horizon is on that.
    pub(super) fn target_ms(&self) -> i64 {
        self.clock.unix_ms().saturating_add(self.clocks.target)
    }

    /// When the horizon is to be looked at again.
    pub(super) fn horizon_alarm(&self) -> Option<Duration> {
        let good = self.target.keeper().record().good;
        if self.stage != Stage::Following || self.moving.is_some() || good == i64::MAX {
            return None;
        }
        let wait = good.saturating_sub(self.soon()).saturating_sub(self.target_ms());
        let wait = u64::try_from(wait).unwrap_or(0).max(1);
        Some(self.clock.now() + Duration::from_millis(wait))
    }
}
