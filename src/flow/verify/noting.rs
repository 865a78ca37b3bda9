//! What a comparison makes of a data set: of each key what its value is, under the name that it has in the target.

use std::collections::BTreeMap;

use crate::change::Scope;
use crate::key::{Db, is_own};
use crate::plan::{Clocks, OnFlush, Source, Verdict, Why};
use crate::progress::Counters;
use crate::rdb::event::{Element, KeyHead};
use crate::rdb::opcode::ValueType;
use crate::rdb::parser::Depth;
use crate::verify::{Batch, Digester, Noted, Share, Times};

use super::super::left_out::{Left, chosen, left_out};
use super::super::library::library;
use super::super::reading::{COPIES, Take};
use super::again::times_of;
use super::inventory::{Sort, Sorts};

/// See the module.
pub(super) struct Noting {
    scope: Scope,
    /// The first number of this source's readings.
    first: u32,
    reading: u32,
    times: Times,
    digester: Digester,
    /// Of all keys only this share is compared, by this seed.
    only: Option<Share>,
    seed: u64,
    /// What becomes of a key of the target; `None`: it is a source's.
    sorts: Option<Sorts>,
    /// Keys of the target that no source can have brought.
    pub(super) foreign: u64,
    db: Db,
    key: Vec<u8>,
    value_type: ValueType,
    deadline: Option<i64>,
    fate: Fate,
    batch: Batch,
    /// The libraries of functions, by name.
    pub(super) functions: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What becomes of the key whose value is read.
#[derive(Clone, Copy)]
enum Fate {
    /// It is compared.
    Compared,
    /// So it is if its value is of a module that is wanted.
    Open,
    /// It is dead, the tool's own, or not one of the share.
    Nothing,
    LeftOut(Why),
}

impl Noting {
    /// That of the source at this place of the plan, with the seed of digests and samples.
    pub(super) fn new(
        index: usize,
        source: &Source,
        clocks: Clocks,
        (seed, only): (u64, Option<Share>),
    ) -> Self {
        let first = u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(COPIES);
        let times = times_of(source, clocks, 0);
        let rules = source.rules.clone();
        Self {
            scope: Scope::new(rules, None, OnFlush::Apply),
            first,
            reading: first,
            times,
            digester: Digester::new(seed),
            only,
            seed,
            sorts: None,
            foreign: 0,
            db: Db::default(),
            key: Vec::new(),
            value_type: ValueType::String,
            deadline: None,
            fate: Fate::Nothing,
            batch: Batch::default(),
            functions: BTreeMap::new(),
        }
    }

    /// The same, of a target whose keys are sorted so, and where a job may hold deadlines back.
    pub(super) fn of_target(mut self, sorts: Sorts, held_back: bool) -> Self {
        (self.sorts, self.times.held_back) = (Some(sorts), held_back);
        self
    }

    fn fate(&mut self, head: &KeyHead<'_>) -> Fate {
        self.deadline = None;
        if is_own(head.key) {
            return Fate::Nothing;
        }
        if let Some(at_ms) = head.expire_at_ms {
            self.deadline = self.times.lives_until(at_ms);
            if self.deadline.is_none() {
                return Fate::Nothing;
            }
        }
        match self.sorts.as_ref().map(|sorts| sorts(head.db, head.key)) {
            None | Some(Sort::Wanted) => {}
            Some(Sort::Aside) => return Fate::Nothing,
            Some(Sort::Foreign) => {
                self.foreign += 1;
                return Fate::Nothing;
            }
        }
        match self.scope.judge_record(head) {
            Verdict::Drop(why) => Fate::LeftOut(why),
            Verdict::Keep if !self.is_chosen(head) => Fate::Nothing,
            Verdict::Keep
                if head.object.value_type() == ValueType::Module
                    && !self.scope.rules().admits_every(ValueType::Module) =>
            {
                Fate::Open
            }
            Verdict::Keep => Fate::Compared,
        }
    }

    /// Whether a key is one of those that are compared, if only a share is.
    fn is_chosen(&self, head: &KeyHead<'_>) -> bool {
        let Some(share) = self.only else { return true };
        let there = self.scope.rules().target_of(head.db, head.key);
        there.is_some_and(|(db, name)| share.chooses(self.seed, db, &name))
    }
}

impl Take for Noting {
    type Batch = Batch;

    fn begin(&mut self, attempt: u32) {
        self.reading = self.first.saturating_add(attempt);
        (self.batch, self.functions, self.foreign) = Default::default();
    }

    fn starts(&mut self, now_ms: i64) {
        self.times.now_ms = now_ms;
    }

    fn function(&mut self, code: &[u8]) {
        self.functions.insert(library(code).to_vec(), code.to_vec());
    }

    fn key(&mut self, head: &KeyHead<'_>) -> Depth {
        self.fate = self.fate(head);
        match self.fate {
            Fate::Compared | Fate::Open => {
                self.db = head.db;
                self.key.clear();
                self.key.extend_from_slice(head.key);
                self.value_type = head.object.value_type();
                self.digester.begin(self.value_type);
                Depth::Elements
            }
            Fate::Nothing | Fate::LeftOut(_) => Depth::Skip,
        }
    }

    fn element(&mut self, element: &Element<'_>) {
        if let (Fate::Open, Element::Module { bytes, .. }) = (self.fate, element) {
            // The first piece begins with the module's type.
            self.fate = match self.scope.rules().admits_module(bytes) {
                true => Fate::Compared,
                false => Fate::LeftOut(Why::Type),
            };
        }
        if let Fate::Compared = self.fate {
            self.digester.add(element, &self.times);
        }
    }

    fn end(&mut self, _: u64, counters: &Counters) {
        match self.fate {
            Fate::Nothing => {}
            Fate::Open => left_out(counters, Why::Type, Left::Key),
            Fate::LeftOut(why) => left_out(counters, why, Left::Key),
            Fate::Compared => {
                let Some(content) = self.digester.end() else { return };
                let Some((db, name)) = self.scope.rules().target_of(self.db, &self.key) else {
                    return left_out(counters, Why::Db, Left::Key);
                };
                let origin = (*name != *self.key).then_some(self.key.as_slice());
                let (reading, name, deadline) = (self.reading, &*name, self.deadline);
                self.batch.push(&Noted { reading, db, name, origin, content, deadline });
                Counters::add(&counters.keys, 1);
                chosen(counters, self.value_type);
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
