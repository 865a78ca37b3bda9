//! The position record on the side of the link: what the next `EXEC` writes, and what the target holds by now.

use std::sync::Arc;

use crate::change::Batch;
use crate::key::Db;
use crate::position::{Record, Spot};
use crate::repl::Latin1;

/// Keys in doubt, by the source's databases and names.
pub type DoubtList = Arc<[(u32, Latin1)]>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Keeper {
    key: Vec<u8>,
    /// The key that is deleted with the record when the job is done.
    scripts: Vec<u8>,
    /// The database in which both stand.
    db: Db,
    /// The record as the target holds it, and its bytes. Without bytes the target holds none.
    record: Record,
    stored: Option<Vec<u8>>,
    /// What could not be proven, as the target's record has it.
    unproven: u64,
    /// Up to here everything was confirmed: where `clean` goes if the doubts fit into the record.
    confirmed: Spot,
    /// The keys in doubt by now; `None` if there are more than a record holds. Then `clean` stays where it is, and with it the
    /// doubts of that place: whoever goes on from there meets all others again.
    doubts: Option<DoubtList>,
    /// Whether the target's record has others.
    has_other_doubts: bool,
}

impl Keeper {
    /// The record of a job that the target holds (or does not hold, without bytes).
    #[must_use]
    pub fn new(
        record: Record,
        stored: Option<Vec<u8>>,
        (db, key, scripts): (Db, Vec<u8>, Vec<u8>),
    ) -> Self {
        let (confirmed, doubts) = (record.clean, Some(record.doubts.clone().into()));
        let unproven = record.unproven;
        let has_other_doubts = false;
        Self { key, scripts, db, record, stored, unproven, confirmed, doubts, has_other_doubts }
    }

    /// The database in which the record stands.
    #[must_use]
    pub fn db(&self) -> Db {
        self.db
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The key of the scripts beside it.
    #[must_use]
    pub fn scripts_key(&self) -> &[u8] {
        &self.scripts
    }

    /// The record as the target holds it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its bytes there.
    #[must_use]
    pub fn stored(&self) -> Option<&[u8]> {
        self.stored.as_deref()
    }

    /// The keys that are in doubt by now; `None` for more than a record holds.
    pub fn set_doubts(&mut self, doubts: Option<DoubtList>) {
        self.doubts = doubts;
        self.look_at_doubts();
    }

    fn look_at_doubts(&mut self) {
        let doubts = self.doubts.as_deref();
        self.has_other_doubts = doubts.is_some_and(|doubts| doubts != self.record.doubts);
    }

    /// Changes what the next record says beside positions and doubts.
    pub fn amend(&mut self, amend: impl FnOnce(&mut Record)) {
        amend(&mut self.record);
    }

    /// A batch has been confirmed, and all before it.
    pub(super) fn confirm_batch(&mut self, batch: &Batch) {
        self.confirmed = spot(batch).unwrap_or(self.confirmed);
    }

    /// The record was deleted.
    pub(super) fn forgot(&mut self) {
        self.stored = None;
    }

    /// A copy is whole: the stream begins here.
    pub(super) fn begin(&mut self, at: Spot) {
        (self.confirmed, self.record.clean, self.record.applied) = (at, at, at);
    }

    /// Whether the target's record stands behind what was confirmed, has other keys in doubt, or does not tell all that could not be proven.
    pub(super) fn is_behind(&self) -> bool {
        self.record.clean != self.confirmed && self.doubts.is_some()
            || self.has_other_doubts
            || self.record.unproven != self.unproven
    }

    /// The record that the next transaction writes, whose last command ends here.
    pub(super) fn next(&self, applied: Option<Spot>) -> Record {
        let mut record = self.record.clone();
        if let Some(doubts) = &self.doubts {
            record.clean = self.confirmed;
            record.doubts = doubts.to_vec();
        }
        // What ran unseen has run, however little of it was taken again since.
        let applied = applied.unwrap_or(self.confirmed);
        if applied.offset >= record.applied.offset {
            record.applied = applied;
        }
        record
    }

    /// A record was written.
    pub(super) fn wrote(&mut self, record: Record, bytes: Vec<u8>) {
        // What was amended meanwhile comes with the next one.
        self.unproven = record.unproven;
        let amended = std::mem::replace(&mut self.record, record);
        let Record { phase, replid, horizon, good, unsure, written, ended, unproven, .. } = amended;
        let record = &mut self.record;
        (record.phase, record.replid) = (phase, replid);
        (record.written, record.ended, record.unproven) = (written, ended, unproven);
        (record.horizon, record.good, record.unsure) = (horizon, good, unsure);
        self.stored = Some(bytes);
        self.look_at_doubts();
    }
}

/// Where a batch ends, if it says so.
pub(super) fn spot(batch: &Batch) -> Option<Spot> {
    batch.covers.map(|covers| Spot::new(covers, batch.stands_in))
}
