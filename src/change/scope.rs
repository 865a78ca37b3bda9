//! What of a source is played into the target.

use std::sync::Arc;

use crate::key::Db;
use crate::plan::{OnFlush, Rules, Verdict, Why};
use crate::rdb::event::{KeyHead, Payload};
use crate::rdb::opcode::ValueType;

use super::Kept;

/// The rules of a source, and the keys that the target keeps as they are.
#[derive(Clone, Debug)]
pub struct Scope {
    rules: Rules,
    /// Whether they want everything as it is, which is asked for each key and command.
    wants_all: bool,
    kept: Option<Arc<Kept>>,
    on_flush: OnFlush,
}

impl Default for Scope {
    fn default() -> Self {
        Self::new(Rules::default(), None, OnFlush::default())
    }
}

impl Scope {
    /// What the rules want, but for the keys that are kept. `on_flush` is [`OnFlush::Apply`] only if the target holds nothing but
    /// what this source brought.
    #[must_use]
    pub fn new(rules: Rules, kept: Option<Arc<Kept>>, on_flush: OnFlush) -> Self {
        let wants_all = rules.is_all();
        Self { rules, wants_all, kept, on_flush }
    }

    /// What becomes of a key, by its database and its name on the source.
    #[must_use]
    #[inline]
    pub fn judge(&self, db: Db, key: &[u8]) -> Verdict {
        let verdict = self.rules.judge(db, key);
        match (&self.kept, self.rules.place(db)) {
            (Some(kept), Some(place))
                if verdict.is_keep() && kept.has(place, &self.rules.names().of(key)) =>
            {
                Verdict::Drop(Why::Conflict)
            }
            _ => verdict,
        }
    }

    /// What becomes of a record of the payload, as far as its head tells.
    #[must_use]
    pub fn judge_record(&self, head: &KeyHead<'_>) -> Verdict {
        if self.is_all() {
            return Verdict::Keep;
        }
        let verdict = self.judge(head.db, head.key);
        if verdict.is_keep() && !self.rules.admits(head.object.value_type()) {
            return Verdict::Drop(Why::Type);
        }
        verdict
    }

    /// Whether a value is wanted whose type its head did not tell: a module's.
    #[must_use]
    pub fn admits_payload(&self, payload: &Payload<'_>) -> bool {
        payload.object.value_type() != ValueType::Module || self.rules.admits_module(payload.body)
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What becomes of a flush.
    #[must_use]
    pub fn on_flush(&self) -> OnFlush {
        self.on_flush
    }

    /// Whether every key is wanted, under its own database and name.
    #[must_use]
    pub fn has_all_keys(&self) -> bool {
        self.kept.is_none() && self.wants_all
    }

    /// Whether every command is played as it came.
    #[must_use]
    #[inline]
    pub fn is_all(&self) -> bool {
        self.has_all_keys() && self.on_flush == OnFlush::Apply
    }
}
