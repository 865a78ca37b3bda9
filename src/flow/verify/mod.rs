//! The comparison: every source is read as a replica reads it, the target by SCAN and DUMP, and what each key's value is, is noted on a disk.
//!
//! ```text
//!  source ──▶ Noting ─────┐ keys by the thousand
//!  source ──▶ Noting ─────┼──▶ a thread of its own: Notes ──▶ Comparison ──▶ Again ──▶ who asked
//!  target ──▶ Inventory ──┘     on a disk                      what differed, looked at again
//! ```
//! What holds for copies holds here too: which source is read when, how many masters fork on one host, what a lost link calls for.

mod again;
mod by_type;
mod digests;
mod drawn;
mod explain;
mod functions;
mod inventory;
mod mending;
mod noting;
mod run;
mod sides;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::key::Db;
use crate::net::Net;
use crate::plan::{Facts, Plan};
use crate::progress::Counters;
use crate::verify::{Counts, Kind, Sample, Share, Suspect};

use super::folder::Folder;
use super::order::Orders;
use super::report::{Ended, Report, SourceReport};
use super::rereads::OwnName;
pub(super) use again::times_of;
use again::{Looked, follows};
use digests::Kept;
pub use explain::{Explained, Question, explain};
use run::{Broke, Run};

/// How a comparison is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparing<'a> {
    /// By how much deadlines may differ.
    pub ttl_tolerance: Duration,
    /// By whom keys that differ are made what their sources hold, if they are.
    pub repair: Repair<'a>,
    /// How both sides are read, if not as a sample.
    pub by: By,
    /// Only a part of the keys is compared, and no source is asked for its whole data set.
    pub sample: Option<Sample>,
    /// What no two comparisons have in common, so that nobody can prepare for it.
    pub seed: u64,
}

/// By whom keys that differ are made what their sources hold.
#[derive(Clone, Copy, Debug, Default)]
pub enum Repair<'a> {
    /// Nobody: the target is not written to.
    #[default]
    No,
    /// By whoever compares, which no job may do at the same time: what that has on its way would come on top.
    Here,
    /// By the job that is under way, to which they are keys in doubt.
    Job(&'a dyn Mends),
}

/// A job that runs and can be asked to read keys anew, as [`Rereads`](super::Rereads) has it.
pub trait Mends: Debug + Sync {
    /// Has it read keys of one of its sources, and write what that holds.
    fn mend<'a>(&'a self, source: &'a str, keys: Vec<OwnName>) -> Mending<'a>;
}

/// Those that were not written, by their places, and why; or why none was.
pub type Mending<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<(usize, String)>, String>> + Send + 'a>>;

/// How both sides are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The sources by what a job keeps that is under way, else through their replica links; the target by `SCAN`.
    #[default]
    Auto,
    /// The sources through their replica links whatever a job keeps, the target by `SCAN`.
    Psync,
    /// Both through their replica links: both fork.
    Replication,
    /// Both by `SCAN`: none forks.
    Scan,
}

/// The part of the keys that was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// How large it is.
    pub share: Share,
    /// How it was chosen.
    pub drawn: Drawn,
    /// What it was chosen by: with the same seed the same names are.
    pub seed: u64,
}

/// How a part of the keys is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// By a hash of each name: all names of all sides were looked at.
    Names,
    /// By places in the tables of all servers: what was met on one of them was looked for on the others.
    Places,
}

/// What is told of a key as soon as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It differs.
    Differs(Difference),
    /// Nobody can tell whether it does.
    Unproven(Difference, Doubt),
    /// It could not be mended.
    Unmended(Difference, Doubt),
}

/// Why nobody can tell whether a key is the same on both sides, or why it was not mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What stands in the way.
    pub why: String,
    /// What to do.
    pub mend: &'static str,
}

/// A key that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How it differs.
    pub kind: Kind,
    /// The target's database; `None` for a library of functions.
    pub db: Option<Db>,
    /// Its name there.
    pub key: Vec<u8>,
    /// The source it comes from, by its place in the plan, if there is one.
    pub source: Option<usize>,
    /// Where the two sides part, in words, of the first hundred.
    pub parting: Option<String>,
}

/// What came of a comparison.
#[derive(Debug)]
pub struct Verified {
    /// How each source was read. Of its numbers `keys` are those that were compared.
    pub report: Report,
    /// How the target was read.
    pub method: &'static str,
    /// What was compared.
    pub counts: Counts,
    /// Keys that differ, by kind, in the order of [`Kind::ALL`].
    pub differences: [u64; Kind::ALL.len()],
    /// So many of them were mended, and are the same now.
    pub mended: u64,
    /// Keys of which nobody can tell whether they differ.
    pub unproven: u64,
    /// Keys that differed when they were read and did not when they were looked at again, or were gone.
    pub settled: u64,
    /// Keys that were written since a job had copied them, and so were read of both sides.
    pub written: u64,
    /// Which part of the keys was compared; `None`: all.
    pub sampled: Option<Sampled>,
    /// Keys of the target that no source can have brought, by the rules: they were not compared.
    pub foreign: u64,
    /// Whether a job is under way that brings to the target what is written to the sources.
    pub follows: bool,
    /// Whether deadlines of some sources were not compared but for their being there: a job that is under way sets them when it ends, or rules
    /// make them what they become then.
    pub loose_deadlines: bool,
    /// Bytes of the disk that the notes took.
    pub on_disk: u64,
    /// Why not all was compared, and what to do.
    pub failure: Option<(String, String)>,
    /// It was told to stop before all was compared.
    pub stopped: bool,
}

/// What to do where notes cannot be kept.
const UNKEPT: &str = "what was read of all keys is kept there while it is compared: give --spool a folder on a disk that has room (some 70 bytes a key on either side), and --spool-limit as much";

impl Verified {
    /// What is known before anything was read.
    fn of(plan: &Plan, facts: &Facts) -> Self {
        let names = plan.sources.iter().map(|one| SourceReport::new(one.name.clone()));
        Self {
            report: Report { sources: names.collect(), seconds: 0.0 },
            method: "rdb",
            counts: Counts::default(),
            differences: Default::default(),
            mended: 0,
            unproven: 0,
            settled: 0,
            written: 0,
            sampled: None,
            foreign: 0,
            follows: is_under_way(facts),
            loose_deadlines: false,
            on_disk: 0,
            failure: None,
            stopped: false,
        }
    }

    /// How the sources were read, each way once.
    #[must_use]
    pub fn methods(&self) -> Vec<&'static str> {
        let mut methods: Vec<&str> = self.report.sources.iter().map(|one| one.method).collect();
        methods.sort_unstable();
        methods.dedup();
        methods
    }

    /// How it ended.
    #[must_use]
    pub fn ended(&self) -> Ended {
        match self.report.ended() {
            _ if self.failure.is_some() => Ended::Failed,
            Ended::Done if self.stopped => Ended::Stopped,
            Ended::Done
                if self.unproven > 0 || self.differences.iter().sum::<u64>() > self.mended =>
            {
                Ended::Differences
            }
            ended => ended,
        }
    }
}

/// Compares what all sources of the plan hold with what the target does. `counters` has one entry for each source and one for the target, and is
/// kept up to date meanwhile. Each key that differs is told as soon as it is known. It takes the plan's memory; what grows with the keys is in
/// unnamed files in the folder of the plan's spool, of as many bytes as may wait there.
pub async fn verify(
    net: &Net,
    (plan, facts): (&Plan, &Facts),
    comparing: Comparing<'_>,
    counters: &[Arc<Counters>],
    orders: &Orders,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Verified {
    let plan = &Arc::new(plan.clone());
    let folder = Folder::of(plan);
    let begun = net.clock().now();
    let may_be_kept = comparing.by == By::Auto && comparing.sample.is_none();
    let mut kept = if may_be_kept { Kept::of(plan).await } else { Kept::default() };
    let (mut verified, compared) = loop {
        let mut verified = Verified::of(plan, facts);
        let seed = if kept.is_any() { kept.seed } else { comparing.seed };
        let comparing = Comparing { seed, ..comparing };
        let run = Run { net, plan, facts, comparing, kept: &kept, counters, orders };
        // What both sides take while they are read is too much for whoever compares on the way to something else.
        match Box::pin(run.compare_all(&folder, &mut verified, tell)).await {
            Err(Broke::Unkept(source, why)) => {
                warn!(
                    source,
                    why, "the digests of the job's copy cannot be used: all is read anew"
                );
                kept = Kept::default();
                // What was taken of them does not count.
                counters.iter().for_each(|counters| Counters::set(&counters.keys, 0));
            }
            compared => break (verified, compared),
        }
    };
    match compared {
        Ok(()) => {}
        // It was told above, and cannot come again.
        Err(Broke::Stopped | Broke::Unkept(..)) => verified.stopped = true,
        Err(Broke::Disk(error)) => verified.failure = Some(folder.unkept(error.into(), UNKEPT)),
        Err(Broke::Target(failure, advice)) => verified.failure = Some((failure, advice)),
    }
    for (report, counters) in verified.report.sources.iter_mut().zip(counters) {
        counters.enter(report.ended.into());
        report.numbers = counters.snapshot();
    }
    verified.report.seconds = net.clock().now().saturating_sub(begun).as_secs_f64();
    verified
}

/// Whether a job of these places is under way, by what the target says.
#[must_use]
pub fn is_under_way(facts: &Facts) -> bool {
    (0..facts.records.len()).any(|source| follows(facts, source))
}

impl Suspect {
    fn difference(&self, kind: Kind) -> Difference {
        let source = self.source.as_ref().map(|(source, _)| *source as usize);
        let (db, key) = (Some(self.db), self.name.clone());
        Difference { kind, db, key, source, parting: None }
    }
}

impl Verified {
    fn differs(&mut self, difference: Difference, tell: &mut (dyn FnMut(Told) + Send)) {
        let all = Kind::ALL.iter().zip(&mut self.differences);
        all.filter(|(kind, _)| **kind == difference.kind).for_each(|(_, count)| *count += 1);
        tell(Told::Differs(difference));
    }

    fn tell(
        &mut self,
        suspect: &Suspect,
        looked: Looked,
        parting: Option<String>,
        tell: &mut (dyn FnMut(Told) + Send),
    ) {
        let was_written = suspect.was_written();
        self.written += u64::from(was_written);
        // Whether the source holds such a key is known only now.
        let is_expected = match looked {
            Looked::Same { is_there } => is_there,
            Looked::Differs(kind, _) => kind != Kind::Extra,
            Looked::Unproven(_) => true,
        };
        self.counts.expected += u64::from(was_written && is_expected);
        match looked {
            Looked::Same { is_there } => {
                self.settled += u64::from(!was_written);
                self.counts.same += u64::from(is_there);
            }
            Looked::Differs(kind, _) => {
                self.differs(Difference { parting, ..suspect.difference(kind) }, tell);
            }
            Looked::Unproven(why) => {
                self.unproven += 1;
                tell(Told::Unproven(suspect.difference(suspect.kind), why));
            }
        }
    }
}
