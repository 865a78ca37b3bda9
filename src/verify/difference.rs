//! What may differ between two sides, and by how much it may.

use std::fmt;

use super::compare::Held;
use super::digest::Content;

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A source holds it, and the target does not.
    Missing,
    /// The target holds it, and no source does.
    Extra,
    /// It is of another type.
    Type,
    /// Its value is another one.
    Value,
    /// It is the same but for when it dies, or fields of it do.
    Ttl,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Missing, Self::Extra, Self::Type, Self::Value, Self::Ttl];

    /// The word that stands for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "type",
            Self::Value => "value",
            Self::Ttl => "ttl",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the keys of a source are measured against the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// By how many milliseconds deadlines may differ. `None`: by any, so long as there is one on both sides or on none, since what is left of
    /// a key's life is set when a job ends.
    pub tolerance: Option<i64>,
}

impl Default for Measure {
    fn default() -> Self {
        Self { tolerance: Some(0) }
    }
}

impl Measure {
    /// How what both sides hold under a name differs, the source's first.
    #[must_use]
    pub fn differs(&self, source: Held, target: Held) -> Option<Kind> {
        match (source, target) {
            (Some(source), Some(target)) => self.difference([source, target]),
            (Some(_), None) => Some(Kind::Missing),
            (None, Some(_)) => Some(Kind::Extra),
            (None, None) => None,
        }
    }

    /// How the two sides of a key differ, the source's first, each with its deadline; `None` if they are the same.
    #[must_use]
    pub fn difference(&self, [source, target]: [(Content, Option<i64>); 2]) -> Option<Kind> {
        let (expected, found) = (source.0, target.0);
        if !expected.is_known() || !found.is_known() {
            return Some(Kind::Value);
        }
        if expected.kind != found.kind {
            return Some(Kind::Type);
        }
        if !expected.is_equal_but_for_fields(&found) {
            return Some(Kind::Value);
        }
        let fields_agree = match self.tolerance {
            Some(_) => expected.fields == found.fields,
            None => (expected.fields == 0) == (found.fields == 0),
        };
        (!fields_agree || !self.admits(source.1, target.1)).then_some(Kind::Ttl)
    }

    /// Whether a deadline may stand for the other.
    #[must_use]
    pub fn admits(&self, source: Option<i64>, target: Option<i64>) -> bool {
        match (source, target, self.tolerance) {
            (None, None, _) | (Some(_), Some(_), None) => true,
            (Some(source), Some(target), Some(tolerance)) => {
                source.abs_diff(target) <= tolerance.unsigned_abs()
            }
            (Some(_), None, _) | (None, Some(_), _) => false,
        }
    }
}
