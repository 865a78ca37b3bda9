//! A key that changes faster than both sides can be read: what its source held at many places of its stream, beside what the target held when a
//! job had brought all up to other ones.
//!
//! ```text
//! source   F1: a    F2: b      F3: b     F4: c
//! target                P1: b       P2: c
//! ```
//! At P1 the target is what the source was around there. What differs at a place between two readings proves nothing: the source may have held that
//! in between. So a key is told to differ only where it was read of both sides at one and the same place.

use std::collections::BTreeMap;

use super::compare::Held;
use super::difference::{Kind, Measure};

/// What was read of a key.
#[derive(Clone, Debug)]
pub struct Series {
    source: BTreeMap<u64, Held>,
    target: BTreeMap<u64, Held>,
    /// So many are kept of each side: the newest.
    most: usize,
}

/// What it proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is the same.
    Same {
        /// Whether both sides hold it.
        is_there: bool,
    },
    /// It is not, so the source held this, and the target that.
    Differs(Kind, [Held; 2]),
}

/// At so many places it must differ. Of the last command that a job has brought nobody has seen the answer.
const PLACES: usize = 3;

impl Series {
    /// Nothing was read yet. Of each side so many readings are kept.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { source: BTreeMap::new(), target: BTreeMap::new(), most }
    }

    /// At this place of its stream the source held this.
    pub fn source(&mut self, at: u64, held: Held) {
        self.source.insert(at, held);
        if self.source.len() > self.most {
            self.source.pop_first();
        }
    }

    /// When all up to this place had been brought the target held this.
    pub fn target(&mut self, at: u64, held: Held) {
        self.target.insert(at, held);
        if self.target.len() > self.most {
            self.target.pop_first();
        }
    }

    /// What follows from it; `None` if nothing does yet.
    #[must_use]
    pub fn proof(&self, measure: Measure) -> Option<Proof> {
        let mut differ = Vec::new();
        for (at, &found) in &self.target {
            if let Some(&expected) = self.source.get(at) {
                match measure.differs(expected, found) {
                    None => return Some(Proof::Same { is_there: found.is_some() }),
                    Some(kind) => differ.push(Proof::Differs(kind, [expected, found])),
                }
                continue;
            }
            let before = self.source.range(..at).next_back();
            let behind = self.source.range(at..).next();
            if let (Some((_, &before)), Some((_, &behind))) = (before, behind)
                && before == behind
                && measure.differs(before, found).is_none()
            {
                return Some(Proof::Same { is_there: found.is_some() });
            }
        }
        differ.pop().filter(|_| differ.len() + 1 >= PLACES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::digest::Content;
    use super::*;
    use crate::rdb::opcode::ValueType;

    fn held(value: u8) -> Held {
        let kind = ValueType::String;
        let content = Content { kind, digest: value.into(), fields: 0, history: None };
        (value > 0).then_some((content, None))
    }

    #[test]
    fn what_differs_in_between_proves_nothing() {
        let mut series = Series::new(100);
        series.source(10, held(1));
        series.source(20, held(1));
        for at in 11..20 {
            series.target(at, held(2));
        }
        assert_eq!(series.proof(Measure::default()), None);
        series.target(15, held(1));
        assert_eq!(series.proof(Measure::default()), Some(Proof::Same { is_there: true }));
    }

    #[test]
    fn it_differs_where_it_does_so_again_and_again() {
        let mut series = Series::new(100);
        for at in [10, 20, 30] {
            assert_eq!(series.proof(Measure::default()), None);
            series.source(at, held(1));
            series.target(at, None);
        }
        let differs = Proof::Differs(Kind::Missing, [held(1), None]);
        assert_eq!(series.proof(Measure::default()), Some(differs));
    }

    proptest! {
        /// A source that writes at every place, and a target that has what it held at the place that it has come to, or another value all the
        /// time: it is told which of both, or nothing.
        #[test]
        fn what_is_told_is_so(
            values in prop::collection::vec(0_u8..4, 1..60),
            read in prop::collection::btree_set(0_usize..60, 0..20),
            brought in prop::collection::btree_set(0_usize..60, 0..20),
            is_same: bool,
        ) {
            let mut series = Series::new(100);
            for at in read.iter().filter(|at| **at < values.len()) {
                series.source(*at as u64, held(values[*at]));
            }
            for at in brought.iter().filter(|at| **at < values.len()) {
                series.target(*at as u64, held(if is_same { values[*at] } else { 9 }));
            }
            match series.proof(Measure::default()) {
                None => {}
                Some(Proof::Same { .. }) => prop_assert!(is_same),
                Some(Proof::Differs(..)) => prop_assert!(!is_same),
            }
        }
    }
}
