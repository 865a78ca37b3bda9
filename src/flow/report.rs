//! How a run ended.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::key::Db;
use crate::progress::{Phase, Snapshot};

/// How a lane, or a run, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Everything that was asked for was done.
    Done,
    /// Done, and something was skipped or could not be proven.
    Differences,
    /// Nothing was written.
    Refused,
    /// It broke off.
    Failed,
    /// It was told to stop.
    Stopped,
}

impl From<Ended> for Phase {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Done | Ended::Differences => Self::Done,
            Ended::Refused => Self::Refused,
            Ended::Failed => Self::Failed,
            Ended::Stopped => Self::Stopped,
        }
    }
}

/// What a run has done.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each source, in the plan's order.
    pub sources: Vec<SourceReport>,
    /// How long it took.
    pub seconds: f64,
}

/// So many keys of each source that were there already are named.
pub(super) const CONFLICTS_NAMED: usize = 100;

/// What was done with one source.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub ended: Ended,
    /// How it was read.
    pub method: &'static str,
    /// The numbers at the end.
    pub numbers: Snapshot,
    /// What went wrong, as a chain of plain words, and what to do about it.
    pub failure: Option<(String, String)>,
    /// Keys whose deadlines are still held back in the target; `None` if their number is not known.
    pub held_back: Option<u64>,
    /// Keys that the target held before, or that another source had brought: replaced, kept or the reason to stop. `None` if they were not
    /// counted, because their names do not fit into memory.
    pub conflicts: Option<u64>,
    /// The first hundred of them, by the target's database and name.
    pub conflict_names: Vec<(Db, Vec<u8>)>,
    /// Commands of the stream that belong to a server and not to its data: they are not played. By name.
    pub skipped: BTreeMap<String, u64>,
    /// Things that could not be proven to be as they are on the source.
    pub unproven: u64,
    /// Keys that no source had and of which nobody knew who had brought them: they were removed.
    pub removed_unowned: u64,
    /// Whether the whole data set is in the target, and the stream is applied.
    pub copied: bool,
    /// Seconds until the copy was in the target; `None` if it never was.
    pub copy_seconds: Option<f64>,
    /// Seconds from there to the end.
    pub stream_seconds: Option<f64>,
    /// Seconds by which every deadline is later because the source's outage lasted so long; `None` without such a rule, and of a job that has
    /// not ended.
    pub outage_seconds: Option<f64>,
}

impl SourceReport {
    /// A source that has not begun.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            ended: Ended::Refused,
            method: "psync",
            numbers: Snapshot::default(),
            failure: None,
            held_back: Some(0),
            conflicts: Some(0),
            conflict_names: Vec::new(),
            skipped: BTreeMap::new(),
            unproven: 0,
            removed_unowned: 0,
            copied: false,
            copy_seconds: None,
            stream_seconds: None,
            outage_seconds: None,
        }
    }
}

impl Report {
    /// How the whole run ended: when some sources failed the others finish, and it has failed.
    #[must_use]
    pub fn ended(&self) -> Ended {
        let any = |ended| self.sources.iter().any(|source| source.ended == ended);
        if any(Ended::Failed) {
            Ended::Failed
        } else if any(Ended::Refused) {
            // Refused is the word for a run that wrote nothing at all.
            if self.sources.iter().all(|source| source.ended == Ended::Refused) {
                Ended::Refused
            } else {
                Ended::Failed
            }
        } else if any(Ended::Stopped) {
            Ended::Stopped
        } else if any(Ended::Differences) {
            Ended::Differences
        } else {
            Ended::Done
        }
    }
}
