//! For whom the lane waits, and the word about it when that lasts.

use tracing::warn;

use super::super::watchdog::Facts;
use super::end::End;
use super::{Lane, Stage};

impl Lane<'_> {
    /// Tells the watchdog how things stand, and says what it makes of them.
    pub(super) fn watch(&mut self, is_limited: bool, is_admitted: bool) {
        let now = self.clock.now();
        let due = self.watchdog.look(now, &self.facts(is_limited, is_admitted));
        self.counters.set_waiting(self.watchdog.waiting());
        if let Some(waiting) = due {
            let (source, target) = (self.from.to_string(), self.to.to_string());
            warn!("{}", waiting.told(&source, &target, now));
        }
    }

    fn facts(&self, is_limited: bool, is_admitted: bool) -> Facts {
        let unanswered = self.target.unanswered();
        Facts {
            is_target_lost: self.relinking.is_some(),
            unanswered: unanswered.map(|(commands, since)| (commands as u64, since)),
            is_refused: self.refusal.is_some(),
            is_paused: self.is_paused,
            asks_target: self.stage == Stage::Sweeping || matches!(self.end, End::Reading(..)),
            asks_source: self.fetching.is_some()
                || self.unknown.is_some()
                || matches!(self.end, End::Asking(_)),
            is_source_lost: self.source_lost.is_some(),
            needs_no_source: !matches!(self.end, End::No | End::Reaching(..))
                || self.stopping.is_some()
                || self.source.is_ended(),
            lacks_memory: !is_admitted,
            is_spool_full: self.source.full().is_some(),
            is_limited,
            lacks_room: !self.has_room(),
            has_begun: self.stage != Stage::Connecting,
            is_copying: self.stage == Stage::Copying,
            in_transaction: !self.stream.is_whole(),
            moved: self.moved,
        }
    }
}
