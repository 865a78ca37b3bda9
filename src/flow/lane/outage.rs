//! When the source was last written to, for rules that make deadlines later by what its outage lasts.
//!
//! Deletions are no writes: a source that nobody writes to any more sends one for each key that dies. Nor is what the rules leave out. What nobody
//! has seen counts as written: an outage begins no earlier than the data set was sent, and after a stop than the stream was gone on with.

use crate::key::Db;
use crate::offset::Offset;
use crate::owners::Claims;
use crate::plan::Rules;
use crate::position::Record;

use super::super::walks;
use super::Lane;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outage {
    freezes: bool,
    /// When the last write came, in Unix milliseconds on the target's clock.
    written: Option<i64>,
}

impl Outage {
    /// As the record has it.
    pub(super) fn of(rules: &Rules, record: &Record) -> Self {
        Self { freezes: rules.ttl().freezes(), written: record.written }
    }

    /// Whether it is of any interest.
    pub(super) fn counts(&self) -> bool {
        self.freezes
    }

    /// A write came now, or no later than when its end was told of.
    pub(super) fn wrote(&mut self, now_ms: i64, told_ms: Option<i64>) {
        if self.freezes {
            let at_ms = told_ms.map_or(now_ms, |told| told.min(now_ms));
            self.written = self.written.max(Some(at_ms));
        }
    }

    /// When the last write came.
    pub(super) fn written(&self) -> Option<i64> {
        self.written
    }

    /// The data set is as it was at this time.
    pub(super) fn begins(&mut self, at_ms: i64) {
        if self.freezes {
            self.written = Some(at_ms);
        }
    }
}

impl Lane<'_> {
    /// A command that nobody could play came, and ends here.
    pub(super) fn was_written(&mut self, end: Offset) {
        if self.outage.counts() {
            let told = self.counters.reached_by(end.get()).map(|at| at + self.clocks.target);
            self.outage.wrote(self.target_ms(), told);
        }
    }

    /// Tells the record when the source was last written to.
    pub(super) fn tell_outage(&mut self) {
        let written = self.outage.written();
        if self.outage.counts() && self.target.keeper().record().written != written {
            self.target.keeper_mut().amend(|record| record.written = written);
        }
        self.tell_written();
    }

    /// Tells the others the same: what they write may be ours.
    pub(super) fn tell_written(&self) {
        if let Some(rival) = self.rivalry.rival.as_ref().filter(|_| self.outage.counts()) {
            rival.was_written(self.outage.written());
        }
    }

    /// The names of a page of the target's keys that this lane may have brought, as far as rules and names tell.
    pub(super) fn brought_of<'n>(&self, names: &'n walks::Names) -> Vec<&'n [u8]> {
        let db = names.page.db;
        let ours = names.each().filter(|(name, claims)| self.has_brought((db, name), *claims));
        ours.map(|(name, _)| name).collect()
    }

    fn has_brought(&self, (db, name): (Db, &[u8]), claims: Option<Claims>) -> bool {
        let number = self.rivalry.rival.as_ref().map(super::Rival::number);
        let is_ours = match (number, claims) {
            (Some(number), Some(claims)) => claims.is_empty() || claims.has(number),
            _ => true,
        };
        is_ours && self.stream.scope().rules().owns(db, name)
    }
}
