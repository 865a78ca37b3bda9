//! The census: every source is read as a replica reads it, up to the end of its data set, and counted. Nothing is written to anybody.
//!
//! ```text
//!  source ──▶ Reading ─┐ names by the thousand
//!  source ──▶ Reading ─┼──▶ a thread of its own: Names ──▶ Collisions
//!  target ── SCAN ─────┘     on a disk
//! ```
//! What holds for copies holds here too: which source is read when, how many masters fork on one host, what a lost link calls for. No
//! stream is followed: the link is closed behind the data set.

mod counting;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::census::{Batch, Collisions, Found, Names, Reading, Tally};
use crate::ledger::LedgerError;
use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, Place, Plan, Side, Source};
use crate::progress::{Counters, Phase};
use crate::scratch::Unnamed;

use super::folder::{Folder, share};
use super::lane::chain;
use super::order::{Order, Orders, stop_requested};
use super::reading::{All, COPIES, Outcome, places};
use super::report::{Ended, Report, SourceReport};
use super::scan::Scan;
use counting::Counting;

/// What a census has found.
#[derive(Debug)]
pub struct Census {
    /// How each source was read. Of its numbers `keys` is 0: nothing was written.
    pub report: Report,
    /// What was counted of each source; `None` of one that was not read to its end.
    pub tallies: Vec<Option<Tally>>,
    /// How long each source took from its turn to the end of its data set, in seconds.
    pub seconds: Vec<Option<f64>>,
    /// What became of the target's keys.
    pub target: TargetKeys,
    /// The collisions of what was read; `None` if the names could not be compared.
    pub found: Option<Found>,
    /// Bytes of the disk that the names took.
    pub on_disk: u64,
    /// How long all sources took to be read, in seconds.
    pub reading: f64,
    /// Why the names could not be kept, and what to do.
    pub failure: Option<(String, String)>,
}

/// What a census knows of the keys that the target holds where the plan writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKeys {
    /// There are none, or the target is a file.
    None,
    /// They are what this job has brought: they were not asked for.
    Own,
    /// So many names were told.
    Counted(u64),
    /// It did not tell them: why, and what to do.
    Unknown(String, String),
}

/// The most that a census keeps in memory, in bytes.
const MEMORY: u64 = 64 << 20;

/// Names of this size must be possible.
const LEAST_PIECE: usize = 1 << 20;

/// Batches of names that may wait for the disk.
const WAITING: usize = 16;

/// Where names are sent to be kept; it is closed when they cannot be.
type Sender = mpsc::Sender<Batch>;

impl Census {
    /// How it ended.
    #[must_use]
    pub fn ended(&self) -> Ended {
        match self.report.ended() {
            _ if self.failure.is_some() => Ended::Failed,
            Ended::Done if matches!(self.target, TargetKeys::Unknown(..)) => Ended::Failed,
            ended => ended,
        }
    }
}

/// Counts what all sources of the plan hold, and which names collide. `counters` has one entry for each source and one for the target, and is
/// kept up to date meanwhile. It takes the plan's memory, and 64 MiB at the most; names are kept in unnamed files in the folder of the
/// plan's spool, of as many bytes as may wait there.
pub async fn census(
    net: &Net,
    plan: &Plan,
    facts: &Facts,
    counters: &[Arc<Counters>],
    orders: &Orders,
) -> Census {
    let plan = Arc::new(Plan { memory: plan.memory.min(MEMORY), ..plan.clone() });
    let mut census = Census {
        report: Report {
            sources: plan.sources.iter().map(|one| SourceReport::new(one.name.clone())).collect(),
            seconds: 0.0,
        },
        tallies: vec![None; plan.sources.len()],
        seconds: vec![None; plan.sources.len()],
        target: TargetKeys::None,
        found: None,
        on_disk: 0,
        reading: 0.0,
        failure: None,
    };
    let folder = Folder::of(&plan);
    let names = match folder.file() {
        Ok(file) => Names::new(file, share(&plan, 5, 16), plan.spool_limit(facts)),
        Err(error) => {
            census.failure = Some(folder.unkept(error, UNKEPT));
            counters.iter().for_each(|counters| counters.enter(Phase::Refused));
            return census;
        }
    };
    let begun = net.clock().now();
    let (sender, mut batches) = mpsc::channel::<Batch>(WAITING);
    let keeping = spawn_blocking(move || {
        let mut names = names;
        while let Some(batch) = batches.blocking_recv() {
            names.note(&batch)?;
        }
        Ok::<_, LedgerError>(names)
    });
    let read = read_all(net, &plan, facts, counters, orders, sender).await;
    census.reading = read.ended_at.saturating_sub(begun).as_secs_f64();
    let attempts = read.into(&mut census);
    let names = keeping.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let compared = match names {
        Ok(names) if census.report.ended() != Ended::Stopped => {
            compare(names, places(&attempts), &plan, orders).await
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    };
    match compared {
        Ok(Some((found, on_disk))) => (census.found, census.on_disk) = (Some(found), on_disk),
        Ok(None) => {}
        Err(error) => {
            census.failure = Some(folder.unkept(error.into(), UNKEPT));
        }
    }
    for (report, counters) in census.report.sources.iter_mut().zip(counters) {
        counters.enter(report.ended.into());
        report.numbers = counters.snapshot();
        report.numbers.keys = 0;
    }
    census.report.seconds = net.clock().now().saturating_sub(begun).as_secs_f64();
    census
}

/// What came of reading sources and target.
struct Read {
    outcomes: Vec<Option<Outcome<Counting>>>,
    /// When the last source was.
    ended_at: Duration,
    target: TargetKeys,
}

impl Read {
    /// Puts it down. Gives the attempt of each source that counts; the last place is the target's.
    fn into(self, census: &mut Census) -> Vec<Option<u32>> {
        let mut attempts = Vec::new();
        let target = matches!(self.target, TargetKeys::Counted(_)).then_some(0);
        census.target = self.target;
        let reports = census.report.sources.iter_mut();
        let places = reports.zip(&mut census.tallies).zip(&mut census.seconds);
        for (((report, tally), seconds), outcome) in places.zip(self.outcomes) {
            let Some(outcome) = outcome else {
                attempts.push(None);
                continue;
            };
            (report.ended, report.method) = (outcome.ended, outcome.method);
            report.failure = outcome.failure;
            attempts.push((outcome.ended == Ended::Done).then_some(outcome.attempt));
            if outcome.ended == Ended::Done {
                let mut counted = outcome.taken.tally;
                counted.prefixes.shrink();
                (*tally, *seconds) = (Some(counted), Some(outcome.seconds));
            }
        }
        attempts.push(target);
        attempts
    }
}

async fn read_all(
    net: &Net,
    plan: &Arc<Plan>,
    facts: &Facts,
    counters: &[Arc<Counters>],
    orders: &Orders,
    to: Sender,
) -> Read {
    // A name is all that is held, twice while the buffer grows.
    let together = plan.sources_at_once().min(plan.sources.len()).max(1);
    let piece = (share(plan, 1, 8) / together).max(LEAST_PIECE);
    let all = All { net, plan, facts, counters, orders, piece };
    let counting = |index, source: &Source| Counting::new(index, source.rules.clone());
    let sources = all.read(&to, counting);
    let target =
        target_keys(net, plan, facts, counters.get(plan.sources.len()), orders, to.clone());
    let ((outcomes, ended_at), target) = tokio::join!(sources, target);
    Read { outcomes, ended_at, target }
}

/// Asks for the names of all keys that the target holds where the plan writes.
async fn target_keys(
    net: &Net,
    plan: &Plan,
    facts: &Facts,
    counters: Option<&Arc<Counters>>,
    orders: &Orders,
    sender: Sender,
) -> TargetKeys {
    let (Place::Server(place), Some(target), Some(counters)) =
        (&plan.target, &facts.target, counters)
    else {
        return TargetKeys::None;
    };
    if target.keys_that(plan) == 0 || target.cluster || target.sentinel {
        counters.enter(Phase::Done);
        return TargetKeys::None;
    }
    if facts.goes_on() && !plan.job.restart {
        counters.enter(Phase::Done);
        return TargetKeys::Own;
    }
    counters.enter(Phase::Counting);
    let mut orders = orders.clone();
    let reading = Reading::new(u32::try_from(plan.sources.len()).unwrap_or(u32::MAX) * COPIES);
    let names = async {
        let mut control = Control::open(net, place).await?;
        let mut count = 0;
        for &db in target.keys.keys() {
            if !plan.sources.iter().any(|source| source.rules.writes(db)) {
                continue;
            }
            let mut scan = Scan::begin(&mut control, db).await?;
            while let Some(names) = scan.page().await? {
                let mut batch = Batch::default();
                names.iter().for_each(|name| batch.push(reading, db, name));
                count += names.len() as u64;
                Counters::add(&counters.keys, names.len() as u64);
                if sender.send(batch).await.is_err() {
                    return Ok(None);
                }
            }
        }
        Ok::<_, ControlError>(Some(count))
    };
    let names = tokio::select! {
        names = names => names,
        () = stop_requested(&mut orders) => Ok(None),
    };
    let (phase, keys) = match names {
        Ok(Some(count)) => (Phase::Done, TargetKeys::Counted(count)),
        // It was stopped, or the names cannot be kept: that is told by others.
        Ok(None) => (Phase::Stopped, TargetKeys::None),
        Err(error) => {
            let advice = match &error {
                ControlError::Refused { .. } => {
                    "let this user run SELECT and SCAN on the target; without it collisions with its keys cannot be told".to_owned()
                }
                error => error.advice(Side::Target),
            };
            (Phase::Failed, TargetKeys::Unknown(chain(&error), advice))
        }
    };
    counters.enter(phase);
    keys
}

/// Compares the names. `None`: it was told to stop.
async fn compare(
    names: Names<Unnamed>,
    places: Vec<Option<u32>>,
    plan: &Plan,
    orders: &Orders,
) -> Result<Option<(Found, u64)>, LedgerError> {
    let sources = u32::try_from(plan.sources.len()).unwrap_or(u32::MAX);
    let (memory, orders) = (share(plan, 1, 4), orders.clone());
    let comparing = spawn_blocking(move || {
        let mut collisions: Collisions<Unnamed> = names.compare(places, sources, memory)?;
        while collisions.compare()? {
            if *orders.borrow() == Order::Stop {
                return Ok(None);
            }
        }
        let on_disk = collisions.on_disk();
        Ok(Some((collisions.found(), on_disk)))
    });
    comparing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// What to do where names cannot be kept.
const UNKEPT: &str = "the names of all keys are kept there while they are compared: give --spool a folder on a disk that has room (some 45 bytes a key), and --spool-limit as much";
