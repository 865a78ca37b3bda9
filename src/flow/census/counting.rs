//! What a census makes of a source's data set: figures, and the names that its keys get.

use crate::census::{Batch, Reading, Tally};
use crate::change::Scope;
use crate::key::Db;
use crate::plan::{OnFlush, Rules, Verdict, Why};
use crate::progress::Counters;
use crate::rdb::event::{Element, KeyHead};
use crate::rdb::opcode::{ObjectType, ValueType};
use crate::rdb::parser::Depth;

use super::super::left_out::{Left, chosen, left_out};
use super::super::reading::{COPIES, Take};

/// See the module.
pub(super) struct Counting {
    scope: Scope,
    /// The first number of this source's readings.
    first: u32,
    reading: Reading,
    now_ms: i64,
    current: Current,
    pub(super) tally: Tally,
    batch: Batch,
}

/// The key whose value is read.
struct Current {
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
    expire_at_ms: Option<i64>,
    verdict: Verdict,
    /// Where its value begins in the payload.
    from: u64,
    /// Only its value tells whether it is wanted.
    is_open: bool,
}

impl Counting {
    /// That of the source at this place of the plan, which has these rules.
    pub(super) fn new(index: usize, rules: Rules) -> Self {
        let first = u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(COPIES);
        Self {
            scope: Scope::new(rules, None, OnFlush::Apply),
            first,
            reading: Reading::new(first),
            now_ms: 0,
            current: Current {
                db: Db::default(),
                key: Vec::new(),
                object: ObjectType::String,
                expire_at_ms: None,
                verdict: Verdict::Keep,
                from: 0,
                is_open: false,
            },
            tally: Tally::default(),
            batch: Batch::default(),
        }
    }
}

impl Take for Counting {
    type Batch = Batch;

    fn begin(&mut self, attempt: u32) {
        self.reading = Reading::new(self.first.saturating_add(attempt));
        (self.tally, self.batch) = Default::default();
    }

    fn starts(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        if name == b"used-mem" {
            let bytes = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.tally.used_memory = bytes;
        }
    }

    fn key(&mut self, head: &KeyHead<'_>) -> Depth {
        self.current.begin(head, &self.scope)
    }

    fn value_from(&mut self, at: u64) {
        self.current.from = at;
    }

    fn element(&mut self, element: &Element<'_>) {
        if let Element::Module { bytes, .. } = element {
            self.current.is_a_modules(bytes, self.scope.rules());
        }
    }

    fn end(&mut self, at: u64, counters: &Counters) {
        let bytes = at.saturating_sub(self.current.from);
        let head = self.current.head();
        let verdict = match self.current.is_open {
            // A value without a single piece is of no module.
            true => Verdict::Drop(Why::Type),
            false => self.current.verdict,
        };
        let target = self.scope.rules().target_of(head.db, head.key);
        match (verdict, target) {
            (Verdict::Keep, Some((db, name))) => {
                self.tally.count(&head, bytes, self.now_ms);
                self.batch.push(self.reading, db, &name);
                Counters::add(&counters.keys, 1);
                chosen(counters, head.object.value_type());
            }
            (verdict, _) => {
                let why = if let Verdict::Drop(why) = verdict { why } else { Why::Db };
                self.tally.leave_out(head.key, bytes);
                left_out(counters, why, Left::Key);
            }
        }
    }

    fn full(&mut self) -> Option<Batch> {
        self.batch.is_full().then(|| self.rest())
    }

    fn rest(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }
}

impl Current {
    /// A key comes. Says how its value is wanted.
    fn begin(&mut self, head: &KeyHead<'_>, scope: &Scope) -> Depth {
        self.key.clear();
        self.key.extend_from_slice(head.key);
        (self.db, self.object, self.expire_at_ms) = (head.db, head.object, head.expire_at_ms);
        self.verdict = scope.judge_record(head);
        self.is_open = self.verdict.is_keep()
            && head.object.value_type() == ValueType::Module
            && !scope.rules().admits_every(ValueType::Module);
        if self.is_open { Depth::Elements } else { Depth::Skip }
    }

    /// A piece of the value of a module: the first begins with its type.
    fn is_a_modules(&mut self, bytes: &[u8], rules: &Rules) {
        if std::mem::take(&mut self.is_open) && !rules.admits_module(bytes) {
            self.verdict = Verdict::Drop(Why::Type);
        }
    }

    fn head(&self) -> KeyHead<'_> {
        let Self { db, object, expire_at_ms, .. } = *self;
        KeyHead { db, key: &self.key, object, expire_at_ms, idle_seconds: None, freq: None }
    }
}
