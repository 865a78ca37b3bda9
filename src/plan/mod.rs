//! What is meant: places and rules, parsed and checked once. Everything after this works on values in which no
//! impossible combination exists.

use std::path::PathBuf;
use std::time::Duration;

pub mod check;
mod cluster;
mod facts;
mod finding;
mod glob;
mod names;
mod place;
mod rate;
mod rename;
mod rivals;
pub mod rules;
mod saves;
mod spool;
mod ssh;
mod tls;
mod ttl;
mod tunnel;
mod watched;

pub use cluster::{Cluster, Shard};
pub use facts::{Clocks, Facts, Forbidden, Role, ServerFacts, Side, judge, remarks};
pub(crate) use facts::{LET_WRITE, UNSAVED};
pub use finding::{Finding, Kind, Severity};
pub use glob::Glob;
pub use names::{Names, Origin};
pub use place::{Address, Place, PlaceError, ServerPlace};
pub use rate::{Bucket, Rate};
pub use rename::{Expression, Rename};
pub use rules::{LeftOut, OnFlush, Rules, Verdict, Why};
pub use spool::{Forecast, OutputBuffer, Spool, SpoolFacts, spool_line};
pub use ssh::{Passphrase, SshAccess, SshHost, SshKeys, SshName, Via};
pub use tls::{Identity, Tls};
pub use ttl::Ttl;
pub use tunnel::{SshCommand, Tunnel};
pub use watched::Watched;

pub use crate::repl::Method;

use crate::key::Db;
use crate::server::Server;

/// What one run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the data comes from, in the order that decides who wins.
    pub sources: Vec<Source>,
    /// Where it goes.
    pub target: Place,
    /// What the run is a part of.
    pub job: Job,
    /// How masters may be asked for their data.
    pub method: Method,
    /// When the run ends by itself.
    pub until: Until,
    /// What becomes of a key that the target already holds; `None` while nobody has chosen.
    pub on_conflict: Option<OnConflict>,
    /// What becomes of a source's `FLUSHALL`, `FLUSHDB` or `SWAPDB`; `None` while nobody has chosen.
    pub on_flush: Option<OnFlush>,
    /// How long the job may stay away before keys could die in the target that live on the source: so far ahead deadlines are held back. `None`: a
    /// day, or what a run that ends by itself may take.
    pub away: Option<Duration>,
    /// What becomes of a command of the stream that nobody knows.
    pub on_unknown: OnUnknown,
    /// What the target shows of deadlines while the job runs.
    pub deadlines: OnDeadlines,
    /// Whether the target may evict keys, the job's record among them.
    pub accept_eviction: bool,
    /// Whether keys are removed that no source has, where nobody knows any more who has brought them.
    pub remove_unowned: bool,
    /// The server that shall read the file which is the target; `None` for the newest of the sources.
    pub written_for: Option<Server>,
    /// How fast the target is written to, by all sources together; `None`: as fast as it can.
    pub limit_rate: Option<Rate>,
    /// How many bytes are read in a second, from all sources together; `None`: as fast as they send.
    pub limit_read: Option<u64>,
    /// All data in flight and in buffers, for all sources together, in bytes.
    pub memory: u64,
    /// Where waits what the target cannot take and memory has no room for.
    pub spool: Spool,
    /// How many full copies run together; `None`: as many as memory allows.
    pub at_once: Option<usize>,
    /// How many masters may fork on one host at a time.
    pub per_host: usize,
}

/// What is gone on with when a run is started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Whether all is copied anew, whatever an earlier run has left.
    pub restart: bool,
    /// Where this machine keeps what belongs to it; `None`: nowhere.
    pub folder: Option<PathBuf>,
}

impl Job {
    /// The file in its folder that says that it has begun.
    pub(crate) const BEGUN: &str = "begun";

    /// How it begins where the target held nothing but our own keys, and else.
    pub(crate) const BEGUN_ALONE: &str = "into an empty target";
    pub(crate) const BEGUN_AMONG: &str = "into a target that held keys";

    /// What stands before the name of each of its sources in it.
    pub(crate) const BEGUN_FROM: &str = "from ";

    /// What stands before the name of one that was waiting for its turn when the run was stopped, and left nothing in the target.
    pub(crate) const NOT_BEGUN: &str = "not yet ";
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

/// What a copy needs of the memory to be fast. Others wait for their turn.
const COPY_MEMORY: u64 = 4 << 20;

impl Plan {
    /// How many full copies run together: as many as were asked for, and else as memory allows.
    #[must_use]
    pub fn sources_at_once(&self) -> usize {
        let allowed = usize::try_from(self.memory / COPY_MEMORY).unwrap_or(usize::MAX);
        self.at_once.unwrap_or(allowed).max(1)
    }

    /// The database of the target in which the job's records stand: the lowest that is written.
    #[must_use]
    pub fn record_db(&self) -> Db {
        let lowest = |source: &Source| {
            let chosen = source.rules.chosen().into_iter().flatten();
            let chosen = chosen.filter_map(|db| source.rules.place(*db)).min();
            // With all databases chosen one of the first is written, unless it is renumbered.
            chosen.or_else(|| (0..=u32::MAX).map(Db::new).find(|db| source.rules.writes(*db)))
        };
        self.sources.iter().filter_map(lowest).min().unwrap_or_default()
    }

    /// What of the memory is for streams that come through ssh hosts.
    #[must_use]
    pub fn held_by_ssh(&self) -> u64 {
        let through = self.sources.iter().filter(|source| source.place.is_behind_ssh());
        (SshHost::HELD * through.count()) as u64
    }
}

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Once every source has been drained.
    CaughtUp,
    /// It follows until it is told to stop.
    Forever,
}

/// What a target shows of deadlines until the job ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeadlines {
    /// Those that come soon are held back: no key dies before its source says so.
    #[default]
    Exact,
    /// They are as they came: a key that is renewed on the source while its copy is on the way may die in the target.
    Live,
}

/// What becomes of a command that this version does not know and whose keys the source does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// The run stops.
    #[default]
    Stop,
    /// It is passed over, and counted.
    Skip,
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
