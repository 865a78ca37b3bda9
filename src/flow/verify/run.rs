//! How a comparison goes on, from the first byte that is read to the last key that is looked at again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::ledger::LedgerError;
use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, Place, Plan, Side, Source};
use crate::progress::Counters;
use crate::scratch::Unnamed;
use crate::server::Version;
use crate::source::FetchError;
use crate::verify::{Batch, Comparison, Counts, Held, Kind, Measure, Notes, Places, Suspect};

use super::super::folder::{Folder, share};
use super::super::lane::chain;
use super::super::order::{Orders, stop_requested};
use super::super::reading::places;
use super::super::report::Ended;
use super::again::{Again, Looked, follows};
use super::digests::Kept;
use super::mending::Mender;
use super::sides::{OLDEST, Outcomes, unread};
use super::{Comparing, Difference, Doubt, Repair, Told, Verified, functions};

/// Of so many keys it is told where both sides part.
const PARTINGS: u64 = 100;

/// Batches of keys that may wait for the disk.
const WAITING: usize = 16;

/// Why a comparison broke off.
pub(super) enum Broke {
    Disk(LedgerError),
    Target(String, String),
    /// What a job keeps of this source cannot be used, for this reason.
    Unkept(String, String),
    Stopped,
}

/// A comparison that is under way.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) net: &'a Net,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) facts: &'a Facts,
    pub(super) comparing: Comparing<'a>,
    pub(super) kept: &'a Kept,
    pub(super) counters: &'a [Arc<Counters>],
    pub(super) orders: &'a Orders,
}

impl Run<'_> {
    /// Reads both sides, and tells what differs.
    pub(super) async fn compare_all(
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
        let read = self.read(sender, verified).await;
        let notes =
            keeping.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (attempts, outcomes, target) = read?.into(verified);
        let notes = notes.map_err(Broke::Disk)?;
        target?;
        if verified.report.ended() != Ended::Done {
            return Ok(());
        }
        let places = Places {
            readings: places(&attempts),
            measures: measures(plan, facts, self.comparing.ttl_tolerance),
        };
        let measures = places.measures.clone();
        verified.loose_deadlines = measures.iter().any(|measure| measure.tolerance.is_none());
        let mut comparison = notes.compare(places, share(plan, 1, 4)).map_err(Broke::Disk)?;
        let mut again = Again::new(self.net, (plan, facts), &measures, self.comparing.seed);
        let mut mender = self.mender().await?;
        loop {
            let (next, back) = next(comparison).await;
            comparison = back;
            let Some(mut suspects) = next.map_err(Broke::Disk)? else { break };
            suspects.retain(|suspect| !again.is_aside(suspect));
            let looked = self.unless_stopped(again.look(suspects)).await?;
            let mut differ = Vec::new();
            for (suspect, looked) in looked.map_err(|error| target_broke(&error))? {
                if matches!(looked, Looked::Differs(..)) && mender.is_some() {
                    differ.push(suspect.clone());
                }
                let parting = match &looked {
                    _ if verified.differences.iter().sum::<u64>() >= PARTINGS => None,
                    Looked::Differs(Kind::Value, _) => {
                        self.unless_stopped(again.parting(&suspect)).await?
                    }
                    Looked::Differs(kind, held) => parting(*kind, held),
                    Looked::Same { .. } | Looked::Unproven(_) => None,
                };
                verified.tell(&suspect, looked, parting, tell);
            }
            if let Some(mender) = mender.as_mut().filter(|_| !differ.is_empty()) {
                let mended = self.mend(mender, &mut again, differ, verified, tell);
                self.unless_stopped(mended).await??;
            }
        }
        self.compare_functions(&outcomes, mender, verified, tell).await?;
        let counts = comparison.counts();
        let of_looks = verified.counts;
        verified.counts = Counts {
            expected: counts.expected + of_looks.expected,
            same: counts.same + of_looks.same,
            ..counts
        };
        verified.on_disk = comparison.on_disk();
        Ok(())
    }

    /// Who mends what differs, if that is wanted.
    async fn mender(&self) -> Result<Option<Mender<'_>>, Broke> {
        let job = match self.comparing.repair {
            Repair::No => return Ok(None),
            Repair::Here => None,
            Repair::Job(job) => Some(job),
        };
        let (Place::Server(place), Some(target)) = (&self.plan.target, &self.facts.target) else {
            return Ok(None);
        };
        let control = Control::open(self.net, place).await;
        let control = control.map_err(|error| target_broke(&error.into()))?;
        Ok(Some(Mender::new(control, target.server.unwrap_or(OLDEST), job)))
    }

    /// Compares libraries of functions, mends those that differ, and looks at them once more.
    async fn compare_functions(
        &self,
        outcomes: &Outcomes,
        mender: Option<Mender<'_>>,
        verified: &mut Verified,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<(), Broke> {
        if self.plan.sources.iter().any(|source| source.rules.are_narrowed()) {
            return Ok(());
        }
        let differing = || async {
            let differing = functions::differing(self.net, (self.plan, self.facts), outcomes);
            self.unless_stopped(differing).await?.map_err(|error| functions_broke(&error))
        };
        let differ = differing().await?;
        let difference = |key: &[u8], kind| {
            let key = key.to_vec();
            Difference { kind, db: None, key, source: None, parting: None }
        };
        for (key, differs) in &differ {
            verified.differs(difference(key, differs.kind), tell);
        }
        let Some(mut mender) = mender.filter(|_| !differ.is_empty()) else { return Ok(()) };
        for (key, differs) in &differ {
            if let Err(error) = mender.library(key, differs.expected.as_deref()).await {
                let mend = "see what the target says, and load it by hand (FUNCTION LOAD REPLACE)";
                let doubt = Doubt { why: chain(&error), mend };
                tell(Told::Unmended(difference(key, differs.kind), doubt));
            }
        }
        let left = differing().await?;
        verified.mended += differ.keys().filter(|key| !left.contains_key(*key)).count() as u64;
        Ok(())
    }

    /// Mends keys, and looks at them once more.
    async fn mend(
        &self,
        mender: &mut Mender<'_>,
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

    pub(super) async fn unless_stopped<T>(
        &self,
        doing: impl Future<Output = T>,
    ) -> Result<T, Broke> {
        let mut orders = self.orders.clone();
        tokio::select! {
            done = doing => Ok(done),
            () = stop_requested(&mut orders) => Err(Broke::Stopped),
        }
    }
}

/// Whether a job is under way that does not know this source's deadlines to the millisecond: before 7.0 masters send how long a key has to live,
/// and the job asks for what that came to when it ends.
fn is_unsure(facts: &Facts, source: usize) -> bool {
    let server = facts.sources.get(source).and_then(Option::as_ref);
    let server = server.and_then(|facts| facts.server);
    follows(facts, source) && server.is_some_and(|server| server.as_redis() < Version(7, 0, 0))
}

/// How what each source holds is measured, if deadlines may differ by so much.
pub(super) fn measures(plan: &Plan, facts: &Facts, tolerance: Duration) -> Vec<Measure> {
    let told = i64::try_from(tolerance.as_millis()).unwrap_or(i64::MAX);
    let of = |(index, source): (usize, &Source)| Measure {
        // What is left of a key's life when a job ends is nowhere written.
        tolerance: (!source.rules.ttl().is_for_the_end() && !is_unsure(facts, index)).then(|| {
            // How far two clocks are apart cannot be measured to the millisecond.
            let apart = facts.clocks(index).apart() != 0;
            if apart { told.max(1000) } else { told }
        }),
    };
    plan.sources.iter().enumerate().map(of).collect()
}

/// The target could not be asked to the end.
pub(super) fn target_broke(error: &FetchError) -> Broke {
    let (failure, advice) = unread(error, Side::Target);
    Broke::Target(format!("target: {failure}"), advice)
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

/// In what the two sides of a key differ that have the same value, or not the same type.
fn parting(kind: Kind, [source, target]: &[Held; 2]) -> Option<String> {
    let ((expected, until), (found, other)) = ((*source)?, (*target)?);
    let never = |at: Option<i64>| at.map_or_else(|| "never".to_owned(), |at| format!("at {at}"));
    match kind {
        Kind::Type => Some(format!(
            "a {} on the source, a {} in the target",
            expected.kind.name(),
            found.kind.name()
        )),
        Kind::Ttl if until != other => {
            Some(format!("it dies {} by the source, {} in the target", never(until), never(other)))
        }
        Kind::Ttl => Some("fields of it die at other times".to_owned()),
        Kind::Missing | Kind::Extra | Kind::Value => None,
    }
}

/// What differs next, found on a thread of its own: so many that looking at them is worth the questions.
async fn next(
    mut comparison: Comparison<Unnamed>,
) -> (Result<Option<Vec<Suspect>>, LedgerError>, Comparison<Unnamed>) {
    let comparing = spawn_blocking(move || (gather(&mut comparison), comparison));
    comparing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn gather(comparison: &mut Comparison<Unnamed>) -> Result<Option<Vec<Suspect>>, LedgerError> {
    let mut all: Option<Vec<Suspect>> = None;
    let is_enough = |all: &Vec<Suspect>| {
        let names: usize = all.iter().map(|suspect| suspect.name.len()).sum();
        all.len() >= TOGETHER || names >= TOGETHER_BYTES
    };
    while !all.as_ref().is_some_and(is_enough)
        && let Some(some) = comparison.compare()?
    {
        all.get_or_insert_default().extend(some);
    }
    Ok(all)
}

/// So many keys are looked at together, or so many bytes of their names.
const TOGETHER: usize = 500;
const TOGETHER_BYTES: usize = 256 << 10;
