//! The comparison: every source is read as a replica reads it, the target by SCAN and DUMP, and what each key's value is, is noted on a disk.
//!
//! ```text
//!  source ──▶ Noting ─────┐ keys by the thousand
//!  source ──▶ Noting ─────┼──▶ a thread of its own: Notes ──▶ Comparison ──▶ Again ──▶ who asked
//!  target ──▶ Inventory ──┘     on a disk                      what differed, looked at again
//! ```
//! What holds for copies holds here too: which source is read when, how many masters fork on one host, what a lost link calls for.

mod again;
mod functions;
mod inventory;
mod mending;
mod noting;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::key::Db;
use crate::ledger::LedgerError;
use crate::net::{Control, ControlError, Net};
use crate::plan::{Clocks, Facts, Place, Plan, Rules, Side, Source};
use crate::progress::{Counters, Phase};
use crate::scratch::Unnamed;
use crate::server::{Flavour, Server, Version};
use crate::source::FetchError;
use crate::verify::{Batch, Comparison, Counts, Digester, Kind, Measure, Notes, Places, Suspect};

use super::folder::{Folder, share};
use super::lane::chain;
use super::order::{Orders, stop_requested};
use super::reading::{All, COPIES, Outcome, places};
use super::report::{Ended, Report, SourceReport};
use again::{Again, Looked, follows};
use inventory::{Inventory, Read};
use mending::Mender;
use noting::Noting;

/// How a comparison is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparing {
    /// By how much deadlines may differ.
    pub ttl_tolerance: Duration,
    /// Whether keys that differ are made what their sources hold. No job may be under way.
    pub repair: bool,
    /// What no two comparisons have in common, so that nobody can prepare for it.
    pub seed: u64,
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
}

/// What came of a comparison.
#[derive(Debug)]
pub struct Verified {
    /// How each source was read. Of its numbers `keys` are those that were compared.
    pub report: Report,
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

/// Batches of keys that may wait for the disk.
const WAITING: usize = 16;

/// The smallest element that must be possible, in bytes.
const LEAST_PIECE: usize = 1 << 20;

/// What a server is taken for that does not say what it is.
const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 8, 0) };

/// What to do where notes cannot be kept.
const UNKEPT: &str = "what was read of all keys is kept there while it is compared: give --spool a folder on a disk that has room (some 70 bytes a key on either side), and --spool-limit as much";

/// Why a comparison broke off.
enum Broke {
    Disk(LedgerError),
    Target(String, String),
    Stopped,
}

impl Verified {
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
    comparing: Comparing,
    counters: &[Arc<Counters>],
    orders: &Orders,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Verified {
    let plan = &Arc::new(plan.clone());
    let names = plan.sources.iter().map(|one| SourceReport::new(one.name.clone()));
    let mut verified = Verified {
        report: Report { sources: names.collect(), seconds: 0.0 },
        counts: Counts::default(),
        differences: Default::default(),
        mended: 0,
        unproven: 0,
        settled: 0,
        foreign: 0,
        follows: is_under_way(facts),
        loose_deadlines: false,
        on_disk: 0,
        failure: None,
        stopped: false,
    };
    let folder = Folder::of(plan);
    let begun = net.clock().now();
    let run = Run { net, plan, facts, comparing, counters, orders };
    match run.compare_all(&folder, &mut verified, tell).await {
        Ok(()) => {}
        Err(Broke::Stopped) => verified.stopped = true,
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

#[derive(Clone, Copy)]
struct Run<'a> {
    net: &'a Net,
    plan: &'a Arc<Plan>,
    facts: &'a Facts,
    comparing: Comparing,
    counters: &'a [Arc<Counters>],
    orders: &'a Orders,
}

impl Run<'_> {
    async fn compare_all(
        &self,
        folder: &Folder,
        verified: &mut Verified,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<(), Broke> {
        let Self { plan, facts, .. } = *self;
        let disk = folder.file().map_err(|error| Broke::Disk(error.into()))?;
        let notes = Notes::new(disk, share(plan, 3, 16), plan.spool_limit(facts));
        let (sender, mut batches) = mpsc::channel::<Batch>(WAITING);
        let keeping = spawn_blocking(move || {
            let mut notes = notes;
            while let Some(batch) = batches.blocking_recv() {
                notes.note(&batch)?;
            }
            Ok::<_, LedgerError>(notes)
        });
        let read = self.read(sender).await;
        let notes =
            keeping.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (attempts, outcomes, target) = read.into(verified);
        let notes = notes.map_err(Broke::Disk)?;
        let target = target?;
        if verified.report.ended() != Ended::Done {
            return Ok(());
        }
        verified.foreign = target.foreign;
        let places = Places { readings: places(&attempts), measures: self.measures() };
        let measures = places.measures.clone();
        verified.loose_deadlines = measures.iter().any(|measure| measure.tolerance.is_none());
        let mut comparison = notes.compare(places, share(plan, 1, 4)).map_err(Broke::Disk)?;
        let digester = Digester::new(self.comparing.seed);
        let mut again = Again::new(self.net, (plan, facts), &measures, digester);
        let mut mender = match (&plan.target, &facts.target) {
            (Place::Server(place), Some(target)) if self.comparing.repair => {
                let control = Control::open(self.net, place).await;
                let control = control.map_err(|error| target_broke(&error.into()))?;
                Some(Mender::new(control, target.server.unwrap_or(OLDEST)))
            }
            _ => None,
        };
        loop {
            let (next, back) = next(comparison).await;
            comparison = back;
            let Some(suspects) = next.map_err(Broke::Disk)? else { break };
            let looked = self.unless_stopped(again.look(suspects)).await?;
            let mut differ = Vec::new();
            for (suspect, looked) in looked.map_err(|error| target_broke(&error))? {
                if matches!(looked, Looked::Differs(_)) && mender.is_some() {
                    differ.push(suspect.clone());
                }
                verified.tell(&suspect, looked, tell);
            }
            if let Some(mender) = mender.as_mut().filter(|_| !differ.is_empty()) {
                let mended = self.mend(mender, &mut again, differ, verified, tell);
                self.unless_stopped(mended).await??;
            }
        }
        let functions = functions::differing(self.net, (plan, facts), &outcomes);
        let functions = self.unless_stopped(functions).await?;
        for (key, differs) in functions.map_err(|error| functions_broke(&error))? {
            let kind = differs.kind;
            if let Some(mender) = &mut mender {
                let mended = mender.library(&key, differs.expected.as_deref()).await;
                mended.map_err(|error| functions_broke(&error))?;
                verified.mended += 1;
            }
            verified.differs(Difference { kind, db: None, key, source: None }, tell);
        }
        let counts = comparison.counts();
        verified.counts = Counts { same: counts.same + verified.counts.same, ..counts };
        verified.on_disk = comparison.on_disk();
        Ok(())
    }

    /// Mends keys, and looks at them once more.
    async fn mend(
        &self,
        mender: &mut Mender,
        again: &mut Again<'_>,
        differ: Vec<Suspect>,
        verified: &mut Verified,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<(), Broke> {
        let failed = mender.mend(again, &differ).await;
        for (number, doubt) in failed.map_err(|error| target_broke(&error.into()))? {
            if let Some(suspect) = differ.get(number) {
                tell(Told::Unmended(suspect.difference(suspect.kind), doubt));
            }
        }
        let looked = again.look(differ).await.map_err(|error| target_broke(&error))?;
        let are_same = looked.iter().filter(|(_, looked)| matches!(looked, Looked::Same { .. }));
        verified.mended += are_same.count() as u64;
        Ok(())
    }

    async fn unless_stopped<T>(&self, doing: impl Future<Output = T>) -> Result<T, Broke> {
        let mut orders = self.orders.clone();
        tokio::select! {
            done = doing => Ok(done),
            () = stop_requested(&mut orders) => Err(Broke::Stopped),
        }
    }

    /// Whether a job is under way that does not know this source's deadlines to the millisecond: before 7.0 masters send how long a key has to live,
    /// and the job asks for what that came to when it ends.
    fn is_unsure(&self, source: usize) -> bool {
        let server = self.facts.sources.get(source).and_then(Option::as_ref);
        let server = server.and_then(|facts| facts.server);
        follows(self.facts, source)
            && server.is_some_and(|server| server.as_redis() < Version(7, 0, 0))
    }

    /// How what each source holds is measured.
    fn measures(&self) -> Vec<Measure> {
        let told = i64::try_from(self.comparing.ttl_tolerance.as_millis()).unwrap_or(i64::MAX);
        let of = |(index, source): (usize, &Source)| Measure {
            // What is left of a key's life when a job ends is nowhere written.
            tolerance: (!source.rules.ttl().is_for_the_end() && !self.is_unsure(index)).then(
                || {
                    // How far two clocks are apart cannot be measured to the millisecond.
                    let apart = self.facts.clocks(index).apart() != 0;
                    if apart { told.max(1000) } else { told }
                },
            ),
        };
        self.plan.sources.iter().enumerate().map(of).collect()
    }

    /// Reads both sides.
    async fn read(&self, to: mpsc::Sender<Batch>) -> ReadAll {
        let Self { net, plan, facts, counters, orders, .. } = *self;
        let together = plan.sources_at_once().min(plan.sources.len()).max(1);
        let piece = (share(plan, 1, 4) / together).max(LEAST_PIECE);
        // A file is read as one more source, whose place is behind all others.
        let mut read = Plan::clone(plan);
        if let Place::Rdb(_) = &plan.target {
            let (name, place) = (plan.target.to_string(), plan.target.clone());
            read.sources.push(Source { name, place, rules: Rules::default() });
        }
        let all = All { net, plan: &Arc::new(read), facts, counters, orders, piece };
        let seed = self.comparing.seed;
        let noting = |index, source: &Source| {
            let of_target = index >= plan.sources.len();
            let clocks = if of_target { Clocks::default() } else { facts.clocks(index) };
            Noting::new(index, source, clocks, seed)
        };
        let sources = all.read(&to, noting);
        let target = self.read_target(to.clone());
        let ((outcomes, _), target) = tokio::join!(sources, target);
        ReadAll { outcomes, target }
    }

    async fn read_target(&self, to: mpsc::Sender<Batch>) -> Result<Read, Broke> {
        let Self { net, plan, facts, .. } = *self;
        let (Place::Server(place), Some(target), Some(counters)) =
            (&plan.target, &facts.target, self.counters.last())
        else {
            return Ok(Read::default());
        };
        counters.enter(Phase::Counting);
        let writes = |db: &Db| plan.sources.iter().any(|source| source.rules.writes(*db));
        let dbs: Vec<Db> = target.keys.keys().copied().filter(writes).collect();
        let ours = Arc::clone(plan);
        let reading = u32::try_from(plan.sources.len()).unwrap_or(u32::MAX).saturating_mul(COPIES);
        let inventory = Inventory {
            net: net.clone(),
            place: place.clone(),
            server: target.server.unwrap_or(OLDEST),
            counters: Arc::clone(counters),
            clock_ahead: facts.clocks(0).target,
            held_back: is_under_way(facts),
            reading,
            digester: Digester::new(self.comparing.seed),
            room: share(plan, 1, 16),
            piece: share(plan, 1, 8).max(LEAST_PIECE),
            ours: Box::new(move |db, name| {
                ours.sources.iter().any(|source| source.rules.owns(db, name))
            }),
            to,
        };
        let read = self.unless_stopped(inventory.read(&dbs)).await?;
        counters.enter(if read.is_ok() { Phase::Done } else { Phase::Failed });
        read.map_err(|error| target_broke(&error.into()))
    }
}

/// The target could not be asked to the end.
fn target_broke(error: &FetchError) -> Broke {
    let advice = match error {
        FetchError::Control(ControlError::Refused { .. }) | FetchError::Refused { .. } => {
            "let this user run SCAN, DUMP, PTTL and PEXPIRETIME on the target: what cannot be read cannot be compared".to_owned()
        }
        FetchError::Control(error) => error.advice(Side::Target),
        _ => "start again".to_owned(),
    };
    Broke::Target(format!("target: {}", chain(error)), advice)
}

/// A library of functions could not be asked for.
fn functions_broke(error: &ControlError) -> Broke {
    let advice = match error {
        ControlError::Refused { .. } => {
            "let this user run FUNCTION LIST: what cannot be read cannot be compared".to_owned()
        }
        error => error.advice(Side::Target),
    };
    Broke::Target(format!("functions: {}", chain(error)), advice)
}

type Outcomes = Vec<Option<Outcome<Noting>>>;

/// What came of reading both sides.
struct ReadAll {
    outcomes: Outcomes,
    target: Result<Read, Broke>,
}

impl ReadAll {
    /// Puts it down. Gives the attempt of each source that counts, with the target's in the last place, and what was read of the target.
    fn into(self, verified: &mut Verified) -> (Vec<Option<u32>>, Outcomes, Result<Read, Broke>) {
        let mut attempts = Vec::new();
        for (report, outcome) in verified.report.sources.iter_mut().zip(&self.outcomes) {
            let Some(outcome) = outcome else {
                attempts.push(None);
                continue;
            };
            (report.ended, report.method) = (outcome.ended, outcome.method);
            report.failure.clone_from(&outcome.failure);
            attempts.push((outcome.ended == Ended::Done).then_some(outcome.attempt));
        }
        // That of a target which is a file.
        let file = self.outcomes.get(attempts.len()).and_then(Option::as_ref);
        let target = match file.and_then(|file| file.failure.clone()) {
            Some((failure, advice)) => Err(Broke::Target(failure, advice)),
            None => self.target,
        };
        attempts.push(file.map_or(Some(0), |file| Some(file.attempt)));
        (attempts, self.outcomes, target)
    }
}

/// Whether a job of these places is under way, by what the target says.
#[must_use]
pub fn is_under_way(facts: &Facts) -> bool {
    (0..facts.records.len()).any(|source| follows(facts, source))
}

impl Suspect {
    fn difference(&self, kind: Kind) -> Difference {
        let source = self.source.as_ref().map(|(source, _)| *source as usize);
        Difference { kind, db: Some(self.db), key: self.name.clone(), source }
    }
}

impl Verified {
    fn differs(&mut self, difference: Difference, tell: &mut (dyn FnMut(Told) + Send)) {
        let all = Kind::ALL.iter().zip(&mut self.differences);
        all.filter(|(kind, _)| **kind == difference.kind).for_each(|(_, count)| *count += 1);
        tell(Told::Differs(difference));
    }

    fn tell(&mut self, suspect: &Suspect, looked: Looked, tell: &mut (dyn FnMut(Told) + Send)) {
        match looked {
            Looked::Same { is_there } => {
                self.settled += 1;
                self.counts.same += u64::from(is_there);
            }
            Looked::Differs(kind) => self.differs(suspect.difference(kind), tell),
            Looked::Unproven(why) => {
                self.unproven += 1;
                tell(Told::Unproven(suspect.difference(suspect.kind), why));
            }
        }
    }
}

/// What differs next, found on a thread of its own.
async fn next(
    mut comparison: Comparison<Unnamed>,
) -> (Result<Option<Vec<Suspect>>, LedgerError>, Comparison<Unnamed>) {
    let comparing = spawn_blocking(move || (comparison.compare(), comparison));
    comparing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
