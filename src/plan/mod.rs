//! What is meant: places and rules, parsed and checked once. Everything after this works on values in which no
//! impossible combination exists.

mod facts;
mod glob;
mod place;
mod rate;
pub mod rules;
mod tls;

pub(crate) use facts::LET_WRITE;
pub use facts::{Facts, Finding, Forbidden, Role, ServerFacts, Side, judge, remarks};
pub use glob::Glob;
pub use place::{Address, Place, PlaceError, ServerPlace};
pub use rate::{Bucket, Rate};
pub use rules::{OnFlush, Rules, Verdict, Why};
pub use tls::{Identity, Tls};

pub use crate::repl::Method;

use crate::server::Server;

/// What one run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the data comes from, in the order that decides who wins.
    pub sources: Vec<Source>,
    /// Where it goes.
    pub target: Place,
    /// How masters may be asked for their data.
    pub method: Method,
    /// When the run ends by itself.
    pub until: Until,
    /// What becomes of a key that the target already holds; `None` while nobody has chosen.
    pub on_conflict: Option<OnConflict>,
    /// What becomes of a source's `FLUSHALL`, `FLUSHDB` or `SWAPDB`; `None` while nobody has chosen.
    pub on_flush: Option<OnFlush>,
    /// The server that shall read the file which is the target; `None` for the newest of the sources.
    pub written_for: Option<Server>,
    /// How fast the target is written to, by all sources together; `None`: as fast as it can.
    pub limit_rate: Option<Rate>,
    /// How many bytes are read in a second, from all sources together; `None`: as fast as they send.
    pub limit_read: Option<u64>,
    /// All data in flight and in buffers, for all sources together, in bytes.
    pub memory: u64,
}

/// One source and its rules.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is called in reports: `host:port[/db]` unless it was given a name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// What of it is wanted, and where it goes.
    pub rules: Rules,
}

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Once every source has been drained.
    CaughtUp,
    /// It follows until it is told to stop.
    Forever,
}

/// What becomes of a key that the target already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The run stops.
    Stop,
    /// The source's key takes its place.
    Replace,
    /// The target's key stays.
    Keep,
}
