//! How both sides are read: whole, or a sample of them.
//!
//! ```text
//! whole       sources as a replica reads them   target by SCAN and DUMP, or as a source
//! by names    SCAN, and DUMP of those names that are chosen, on every server
//! by places   SCAN from places in each server's table; what was met on one of them is read on all
//! ```
//! What is a file is read to its end in any case.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::key::Db;
use crate::net::ControlError;
use crate::plan::{Clocks, Facts, Place, Plan, Rules, ServerFacts, ServerPlace, Side, Source};
use crate::progress::{Counters, Phase};
use crate::server::{Flavour, Server, Version};
use crate::source::FetchError;
use crate::verify::{Batch, Digester, Share, Times};

use super::super::folder::share;
use super::super::lane::chain;
use super::super::reading::{All, COPIES, Outcome};
use super::super::report::Ended;
use super::again::times_of;
use super::inventory::{Inventory, Read, Sort, Sorts};
use super::noting::Noting;
use super::run::{Broke, Run, target_broke};
use super::{By, Drawn, Sampled, Verified, is_under_way};

/// The smallest element that must be possible, in bytes.
const LEAST_PIECE: usize = 1 << 20;

/// What a server is taken for that does not say what it is.
pub(super) const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 8, 0) };

pub(super) type Outcomes = Vec<Option<Outcome<Noting>>>;

/// What came of reading both sides.
pub(super) struct ReadAll {
    pub(super) outcomes: Outcomes,
    pub(super) target: Result<Read, Broke>,
}

/// Where a server is that is read key by key, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) place: &'a ServerPlace,
    pub(super) facts: &'a ServerFacts,
}

impl Run<'_> {
    /// Which part is compared, if not all, and how it is chosen.
    pub(super) fn sampled(&self) -> Option<Sampled> {
        let Self { plan, facts, comparing, .. } = *self;
        let keys: u64 = facts.sources.iter().flatten().map(ServerFacts::keys_in_all).sum();
        // A file does not tell how many it holds; then the target's may do.
        let of_target = || facts.target.as_ref().map_or(0, |target| target.keys_that(plan));
        let keys = if keys > 0 { keys } else { of_target() };
        let share = comparing.sample?.share(keys);
        let has_places = |place: &Place, facts: Option<&ServerFacts>| {
            let shard = matches!(place, Place::Server(place) if place.shard().is_some());
            !shard && facts.is_some_and(|facts| facts.server.is_some() && !facts.cluster)
        };
        let mut sources = plan.sources.iter().zip(&facts.sources);
        let by_places = share.is_small()
            && has_places(&plan.target, facts.target.as_ref())
            && sources.all(|(source, facts)| {
                has_places(&source.place, facts.as_ref()) && source.rules.names().are_distinct()
            });
        let drawn = if by_places { Drawn::Places } else { Drawn::Names };
        Some(Sampled { share, drawn, seed: comparing.seed })
    }

    /// Reads both sides, and says what was read of them.
    ///
    /// # Errors
    /// If what a job keeps of its copy cannot be used, or it was told to stop.
    pub(super) async fn read(
        &self,
        to: mpsc::Sender<Batch>,
        verified: &mut Verified,
    ) -> Result<ReadAll, Broke> {
        verified.sampled = self.sampled();
        let whole = (self.comparing.by == By::Scan).then_some(Share::ALL);
        let only = verified.sampled.map(|sampled| sampled.share).or(whole);
        if let Some(sampled) = &mut verified.sampled
            && sampled.drawn == Drawn::Places
        {
            match self.read_drawn(&to, sampled.share).await {
                Ok(Some(all)) => return Ok(all),
                Ok(None) => sampled.drawn = Drawn::Names,
                Err(failed) => return Ok(failed),
            }
        }
        let mut sources = pin!(self.read_sources(&to, only));
        let mut target = pin!(self.read_target(to.clone(), only));
        let all = tokio::select! {
            outcomes = &mut sources => ReadAll { outcomes: outcomes?, target: target.await },
            target = &mut target => match target {
                // Nothing can be compared, so the sources need not be read any further.
                Err(broke @ Broke::Target(..)) => {
                    ReadAll { outcomes: Vec::new(), target: Err(broke) }
                }
                target => ReadAll { outcomes: sources.await?, target },
            },
        };
        if all.target.is_ok() {
            self.read_written(&to).await?;
        }
        Ok(all)
    }

    /// Reads all sources, or of each that is a server only a share of its keys.
    async fn read_sources(
        &self,
        to: &mpsc::Sender<Batch>,
        only: Option<Share>,
    ) -> Result<Outcomes, Broke> {
        let Self { net, plan, facts, counters, orders, .. } = *self;
        let is_whole = |index: &usize| {
            let place = plan.sources.get(*index).map(|source| &source.place);
            only.is_none() || !matches!(place, Some(Place::Server(_)))
        };
        let all = (0..plan.sources.len()).filter(|index| !self.kept.has(*index));
        let (mut whole, scanned): (Vec<usize>, Vec<usize>) = all.partition(is_whole);
        let mut read = Plan { sources: Vec::new(), ..Plan::clone(plan) };
        let mut known = Facts { sources: Vec::new(), ..facts.clone() };
        for &index in &whole {
            read.sources.extend(plan.sources.get(index).cloned());
            known.sources.push(facts.sources.get(index).cloned().flatten());
        }
        // A target that is read so is one more source, whose place is behind all others.
        if self.target_is_replicated() {
            let (name, place) = (plan.target.to_string(), plan.target.clone());
            read.sources.push(Source { name, place, rules: Rules::default() });
            whole.push(plan.sources.len());
        }
        let counters: Vec<_> =
            whole.iter().filter_map(|index| counters.get(*index).map(Arc::clone)).collect();
        let together = plan.sources_at_once().min(plan.sources.len()).max(1);
        let piece = (share(plan, 1, 4) / together).max(LEAST_PIECE);
        let (read, known) = (&Arc::new(read), &known);
        let counters = counters.as_slice();
        let all = All { net, plan: read, facts: known, counters, orders, piece };
        let seed = self.comparing.seed;
        let noting = |index: usize, source: &Source| {
            let place = whole.get(index).copied().unwrap_or(index);
            let noting = Noting::new(place, source, self.clocks(place), (seed, only));
            match place < plan.sources.len() {
                true => noting,
                false => noting.of_target(self.target_sorts(None), is_under_way(facts)),
            }
        };
        let ((read, _), scanned, kept) = tokio::join!(
            all.read(to, noting),
            self.scan_sources(&scanned, to, only),
            self.read_kept(to)
        );
        let mut outcomes: Outcomes = (0..=self.plan.sources.len()).map(|_| None).collect();
        for (index, outcome) in whole.iter().copied().zip(read).chain(scanned).chain(kept?) {
            if let Some(place) = outcomes.get_mut(index) {
                *place = outcome;
            }
        }
        Ok(outcomes)
    }

    /// Whether the target is a file, or is read as a source is: through its replica link.
    fn target_is_replicated(&self) -> bool {
        match &self.plan.target {
            Place::Rdb(_) | Place::Capture(_) => true,
            Place::Server(_) => self.comparing.by == By::Replication,
        }
    }

    /// The clocks of a source and the target; none where a file stands for the target.
    fn clocks(&self, index: usize) -> Clocks {
        if index < self.plan.sources.len() { self.facts.clocks(index) } else { Clocks::default() }
    }

    /// Reads these sources by SCAN, and of their keys this share.
    async fn scan_sources(
        &self,
        sources: &[usize],
        to: &mpsc::Sender<Batch>,
        only: Option<Share>,
    ) -> Vec<(usize, Option<Outcome<Noting>>)> {
        let turns = Arc::new(Semaphore::new(self.plan.sources_at_once()));
        let mut readers = JoinSet::new();
        for &index in sources {
            let Some((inventory, dbs)) = self.of_source(index, to, only) else { continue };
            let turns = Arc::clone(&turns);
            readers.spawn(async move {
                let _turn = turns.acquire_owned().await;
                (index, inventory.read(&dbs).await)
            });
        }
        let all = async {
            let mut outcomes = Vec::new();
            while let Some(ended) = readers.join_next().await {
                match ended {
                    Ok((index, read)) => outcomes.push((index, self.outcome(index, read))),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
            outcomes
        };
        let stopped = |index: &usize| (*index, self.stopped(*index));
        match self.unless_stopped(all).await {
            Ok(outcomes) => outcomes,
            Err(_) => sources.iter().map(stopped).collect(),
        }
    }

    /// What came of reading a source key by key.
    pub(super) fn outcome(
        &self,
        index: usize,
        read: Result<Read, FetchError>,
    ) -> Option<Outcome<Noting>> {
        let mut outcome = self.stopped(index)?;
        match read {
            Ok(read) => {
                outcome.method = read.method();
                (outcome.ended, outcome.attempt) = (Ended::Done, read.attempt);
            }
            Err(error) => {
                let (failure, advice) = unread(&error, Side::Source);
                (outcome.ended, outcome.failure) = (Ended::Failed, Some((failure, advice)));
            }
        }
        Some(outcome)
    }

    pub(super) fn stopped(&self, index: usize) -> Option<Outcome<Noting>> {
        let source = self.plan.sources.get(index)?;
        let taken = Noting::new(index, source, self.clocks(index), (0, None));
        let (ended, method) = (Ended::Stopped, Read::default().method());
        Some(Outcome { ended, attempt: 0, method, taken, seconds: 0.0, failure: None })
    }

    /// How a source is read key by key, and its databases that are wanted; of their keys a share, or those that are named.
    pub(super) fn of_source(
        &self,
        index: usize,
        to: &mpsc::Sender<Batch>,
        only: Option<Share>,
    ) -> Option<(Inventory, Vec<Db>)> {
        let Self { plan, facts, .. } = *self;
        let source = plan.sources.get(index)?;
        let peer = self.source_peer(index)?;
        let (rules, seed) = (source.rules.clone(), self.comparing.seed);
        let sorts = move |db: Db, key: &[u8]| match (rules.target_of(db, key), only) {
            (Some((db, name)), Some(share)) if share.chooses(seed, db, &name) => Sort::Wanted,
            _ => Sort::Aside,
        };
        let clocks = facts.clocks(index);
        let together = plan.sources_at_once().min(plan.sources.len()).max(1);
        let inventory = Inventory {
            clock_ahead: clocks.source,
            times: times_of(source, clocks, 0),
            reading: u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(COPIES),
            room: share(plan, 1, 16) / together,
            piece: (share(plan, 1, 8) / together).max(LEAST_PIECE),
            sorts: Box::new(sorts),
            rules: Some(source.rules.clone()),
            ..self.inventory(peer, self.counters.get(index)?, to)
        };
        Some((inventory, self.dbs_of_source(index)))
    }

    pub(super) fn source_peer(&self, index: usize) -> Option<Peer<'_>> {
        let facts = self.facts.sources.get(index)?.as_ref()?;
        let Place::Server(place) = &self.plan.sources.get(index)?.place else { return None };
        Some(Peer { place, facts })
    }

    /// The databases of a source that are wanted.
    pub(super) fn dbs_of_source(&self, index: usize) -> Vec<Db> {
        let keys = self.source_peer(index).map(|peer| peer.facts.keys.keys().copied());
        let rules = self.plan.sources.get(index).map(|source| &source.rules);
        let is_wanted = |db: &Db| rules.is_some_and(|rules| rules.place(*db).is_some());
        keys.into_iter().flatten().filter(is_wanted).collect()
    }

    /// One that wants all keys of a server.
    fn inventory(
        &self,
        peer: Peer<'_>,
        counters: &Arc<Counters>,
        to: &mpsc::Sender<Batch>,
    ) -> Inventory {
        counters.enter(Phase::Counting);
        Inventory {
            net: self.net.clone(),
            place: peer.place.clone(),
            server: peer.facts.server.unwrap_or(OLDEST),
            counters: Arc::clone(counters),
            clock_ahead: 0,
            times: Times::default(),
            reading: 0,
            digester: Digester::new(self.comparing.seed),
            room: share(self.plan, 1, 16),
            piece: share(self.plan, 1, 8).max(LEAST_PIECE),
            sorts: Box::new(|_, _| Sort::Wanted),
            rules: None,
            to: to.clone(),
        }
    }

    /// How the target is read, and its databases that are written; `None` if it is a file.
    pub(super) fn of_target(
        &self,
        to: &mpsc::Sender<Batch>,
        only: Option<Share>,
    ) -> Option<(Inventory, Vec<Db>)> {
        let Self { plan, facts, .. } = *self;
        let Place::Server(place) = &plan.target else { return None };
        let peer = Peer { place, facts: facts.target.as_ref()? };
        let writes = |db: &Db| plan.sources.iter().any(|source| source.rules.writes(*db));
        let dbs: Vec<Db> = peer.facts.keys.keys().copied().filter(writes).collect();
        let held_back = is_under_way(facts);
        let inventory = Inventory {
            clock_ahead: facts.clocks(0).target,
            times: Times { held_back, ..Times::default() },
            reading: u32::try_from(plan.sources.len()).unwrap_or(u32::MAX).saturating_mul(COPIES),
            sorts: self.target_sorts(only),
            ..self.inventory(peer, self.counters.last()?, to)
        };
        Some((inventory, dbs))
    }

    /// What becomes of keys of the target, of which a share may be compared.
    fn target_sorts(&self, only: Option<Share>) -> Sorts {
        let (ours, seed) = (Arc::clone(self.plan), self.comparing.seed);
        let is_narrowed = ours.sources.iter().any(|one| one.rules.are_narrowed());
        Box::new(move |db: Db, name: &[u8]| {
            if only.is_some_and(|share| !share.chooses(seed, db, name)) {
                Sort::Aside
            } else if ours.sources.iter().any(|one| one.rules.owns(db, name)) {
                Sort::Wanted
            } else if is_narrowed {
                Sort::Aside
            } else {
                Sort::Foreign
            }
        })
    }

    async fn read_target(
        &self,
        to: mpsc::Sender<Batch>,
        only: Option<Share>,
    ) -> Result<Read, Broke> {
        let inventory = self.of_target(&to, only).filter(|_| !self.target_is_replicated());
        let Some((inventory, dbs)) = inventory else { return Ok(Read::default()) };
        drop(to);
        let read = self.unless_stopped(inventory.read(&dbs)).await?;
        if let Some(counters) = self.counters.last() {
            counters.enter(if read.is_ok() { Phase::Done } else { Phase::Failed });
        }
        read.map_err(|error| target_broke(&error))
    }
}

/// A server could not be asked to the end: why, and what to do.
pub(super) fn unread(error: &FetchError, side: Side) -> (String, String) {
    let advice = match error {
        FetchError::Control(ControlError::Refused { .. }) | FetchError::Refused { .. } => format!(
            "let the user of {} run SCAN, DUMP, PTTL and PEXPIRETIME: what cannot be read cannot be compared",
            side.place()
        ),
        FetchError::Control(error) => error.advice(side),
        _ => "start again".to_owned(),
    };
    (chain(error), advice)
}

impl ReadAll {
    /// Puts it down. Gives the attempt of each source that counts, with the target's in the last place, and what was read of the target.
    pub(super) fn into(
        self,
        verified: &mut Verified,
    ) -> (Vec<Option<u32>>, Outcomes, Result<Read, Broke>) {
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
        if let Some(file) = file {
            (verified.foreign, verified.method) = (file.taken.foreign, file.method);
        } else if let Ok(read) = &self.target {
            (verified.foreign, verified.method) = (read.foreign, read.method());
        }
        let target = match file.and_then(|file| file.failure.clone()) {
            Some((failure, advice)) => Err(Broke::Target(failure, advice)),
            None => self.target,
        };
        let attempt = match (file, &target) {
            (Some(file), _) => file.attempt,
            (None, Ok(read)) => read.attempt,
            (None, Err(_)) => 0,
        };
        attempts.push(Some(attempt));
        (attempts, self.outcomes, target)
    }
}
