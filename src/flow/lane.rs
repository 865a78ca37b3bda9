//! One source on its way into the target, from the first connection to the end.
//!
//! ```text
//!  Connecting ──▶ Copying ──▶ Settling ──▶ Following ──▶ (done)
//!                 records     all replies   transactions
//!                 pipelined   are in        one by one
//! ```
//!
//! The lane is one task. It takes what the source has said, as long as there is room for what becomes of it, then waits
//! for whichever comes first: more from the source, replies from the target, the time for an
//! acknowledgement, the request to stop. Reading stops when there is no room; acknowledging never does.

mod end;
mod error;
mod links;
mod taking;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::change::{Copy, Deadlines, Draft, Existing, Kept, Scope, Stream};
use crate::key::Db;
use crate::net::{Clock, Control, Link, Net, info_field};
use crate::offset::Offset;
use crate::plan::{Facts, OnConflict, OnFlush, Place, Plan, ServerPlace, Source, Until};
use crate::progress::{Counters, Phase};
use crate::repl::{Remark, Resume};
use crate::server::{Flavour, Server, Version};
use crate::source::SourceError;
use crate::target::{Confirmed, RunId, Standalone, Surprise, TargetError};

use super::Stop;
use super::loss::Loss;
use super::remedy::{QUESTION_TRIES, Remedy, pause, remedy};
use super::report::{Ended, SourceReport};
use super::share::{Excess, Pool, Share};
use super::throttle::Throttle;
use super::upstream::Upstream;

pub(super) use end::SILENCE;
use end::{End, Goal};
pub use error::{LaneError, chain};
use links::Refusal;

/// Runs one lane to its end.
pub(super) async fn run(
    plan: &Plan,
    known: Known<'_>,
    counters: &Arc<Counters>,
    stop: Stop,
) -> SourceReport {
    let index = known.index;
    let Some(source) = plan.sources.get(index) else {
        return SourceReport::new(String::new());
    };
    let mut report = SourceReport::new(source.name.clone());
    let clock = known.net.clock();
    let begun = clock.now();
    // Whether so much has happened that the target may not be as it was.
    let mut begun_to_write = false;
    let ended = match (&source.place, &plan.target) {
        (from, Place::Server(to)) => {
            match Lane::open(plan, known, source, from, to, counters, stop).await {
                Ok(mut lane) => {
                    let ended = lane.play().await;
                    begun_to_write = lane.wrote || lane.stage >= Stage::Settling;
                    report.copy_seconds =
                        lane.copied_at.map(|at| at.saturating_sub(begun).as_secs_f64());
                    report.stream_seconds =
                        lane.copied_at.map(|at| clock.now().saturating_sub(at).as_secs_f64());
                    report.method = lane.method;
                    report.held_back = lane.held_back();
                    report.unproven = lane.unproven;
                    report.skipped = std::mem::take(&mut lane.skipped);
                    report.conflicts = lane.conflicts(ended.as_ref().err());
                    report.conflict_names = std::mem::take(&mut lane.conflict_names);
                    ended
                }
                Err(error) => Err(error),
            }
        }
        _ => Ok(Ended::Refused),
    };
    report.ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let advice = match remedy(&error) {
                Remedy::Ask(advice) => match (&error, rivals(plan, index)) {
                    (LaneError::Conflict(_), Some(rivals)) => format!(
                        "{rivals} holds this key too, or somebody wrote it to the target; leave it out of one of them with --exclude"
                    ),
                    _ => advice.to_owned(),
                },
                Remedy::ReconnectSource => {
                    "see that the source can be reached, and start again".to_owned()
                }
                Remedy::ReconnectTarget => {
                    "see that the target can be reached, and start again".to_owned()
                }
            };
            report.failure = Some((chain(&error), advice));
            let damage = matches!(&error, LaneError::Source(error) if error.is_damage());
            if begun_to_write || damage { Ended::Failed } else { Ended::Refused }
        }
    };
    counters.enter(report.ended.into());
    report.numbers = counters.snapshot();
    report
}

/// The sources that may have brought a key which this one meets in the target.
fn rivals(plan: &Plan, index: usize) -> Option<String> {
    let others = plan.sources.iter().enumerate().filter(|(other, _)| *other != index);
    let names: Vec<&str> = others.map(|(_, source)| source.name.as_str()).collect();
    match names.as_slice() {
        [] => None,
        [other] => Some((*other).to_owned()),
        others => Some(format!("one of the {} other sources", others.len())),
    }
}

pub(super) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Lane<'a> {
    plan: &'a Plan,
    from: &'a Place,
    to: &'a ServerPlace,
    counters: &'a Counters,
    clock: Clock,
    net: Net,
    stop: Stop,
    source: Upstream,
    target: Standalone,
    /// The target's connection is lost, and a new one is being made.
    relinking: Option<Later<Result<Link, TargetError>>>,
    copy: Copy,
    stream: Stream,
    throttle: Throttle,
    /// There is something to be written, and a limit forbids it for now.
    held_up: bool,
    /// The keys that the target held before, where they are replaced and their names fit into memory.
    replaced: Option<Arc<Kept>>,
    /// Whether every key that the target held before is noticed.
    counts_conflicts: bool,
    /// The first of them.
    conflict_names: Vec<(Db, Vec<u8>)>,
    draft: Draft,
    stage: Stage,
    /// The master's history and where our part of it begins; `None` until it told, and from a master without `PSYNC`.
    history: Option<Resume>,
    /// Where the stream has been taken to.
    taken: Offset,
    /// Up to where the target has confirmed it.
    confirmed: Offset,
    /// The source has nothing more to tell until more has been read.
    starved: bool,
    /// The master is being asked for its offset.
    asking: Option<Later<Option<Offset>>>,
    goal: Goal,
    deadlines: Deadlines,
    /// The target, and until when a deadline is so near that it is held back.
    server: Server,
    end: End,
    /// How often the source was asked for deadlines.
    rounds: u32,
    /// Things that could not be proven to be as they are on the source.
    unproven: u64,
    /// Commands of the stream that are no data and were not played, by name.
    skipped: BTreeMap<&'static str, u64>,
    /// The process that is written to.
    run_id: RunId,
    /// When the last data command was taken.
    last_data: Duration,
    /// Since when we have been stopping.
    stopping: Option<Duration>,
    refusal: Option<Refusal>,
    source_lost: Option<Loss>,
    target_lost: Option<Loss>,
    share: Share,
    excess: Excess,
    method: &'static str,
    wrote: bool,
    copied_at: Option<Duration>,
}

/// What all lanes are told.
pub(super) struct Known<'k> {
    pub(super) facts: &'k Facts,
    /// The keys that the target held before.
    pub(super) held: Option<&'k Arc<Kept>>,
    /// Which of the sources it is.
    pub(super) index: usize,
    pub(super) throttle: Throttle,
    pub(super) pool: Pool,
    pub(super) net: &'k Net,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Connecting,
    Copying,
    /// The copy has been read; not all of it has been confirmed.
    Settling,
    Following,
}

impl<'a> Lane<'a> {
    async fn open(
        plan: &'a Plan,
        known: Known<'_>,
        source: &Source,
        from: &'a Place,
        to: &'a ServerPlace,
        counters: &'a Counters,
        stop: Stop,
    ) -> Result<Self, LaneError> {
        let Known { facts, held, index, throttle, pool, net } = known;
        counters.enter(Phase::Connecting);
        let run_id =
            RunId(facts.target.as_ref().map(|target| target.run_id.clone()).unwrap_or_default());
        let target = Standalone::open(net, to, &run_id).await?;
        let names = held.map_or(0, |held| Kept::BYTES_A_KEY * held.len() as u64);
        let share = Share::of(plan.memory.saturating_sub(names), plan.sources.len());
        // No two runs, nor two lanes of one, write the same temporary key.
        let token = format!("{:x}-{:x}-{index}", net.clock().unix_ms(), std::process::id());
        let server = facts.target.as_ref().and_then(|target| target.server).unwrap_or(OLDEST);
        let origin =
            facts.sources.get(index).and_then(Option::as_ref).and_then(|facts| facts.server);
        // With one source nothing else writes these keys; with several a key that is there is another's.
        let existing = if plan.sources.len() == 1 { Existing::Replace } else { Existing::Refuse };
        let keeps = plan.on_conflict == Some(OnConflict::Keep);
        let on_flush = match plan.on_flush {
            Some(OnFlush::Ignore) => OnFlush::Ignore,
            None | Some(OnFlush::Apply)
                if facts.target.as_ref().is_some_and(|target| plan.may_flush(target)) =>
            {
                OnFlush::Apply
            }
            _ => OnFlush::Stop,
        };
        let scope = Scope::new(source.rules.clone(), held.filter(|_| keeps).cloned(), on_flush);
        let replaced = held.filter(|_| !keeps).cloned();
        let target_keys = facts.target.as_ref().map_or(0, |target| target.keys_that(plan));
        let counts_conflicts = target_keys == 0 || held.is_some();
        Ok(Self {
            plan,
            from,
            to,
            counters,
            clock: net.clock(),
            net: net.clone(),
            stop,
            source: Upstream::new(from.clone(), net.clone(), plan.method, share.largest),
            target,
            relinking: None,
            copy: Copy::new(server, existing, share.copy, token),
            stream: Stream::new(origin, server, scope, share.scripts),
            throttle,
            held_up: false,
            replaced,
            counts_conflicts,
            conflict_names: Vec::new(),
            draft: Draft::default(),
            stage: Stage::Connecting,
            history: None,
            taken: Offset::default(),
            confirmed: Offset::default(),
            starved: true,
            asking: None,
            goal: Goal::None,
            deadlines: Deadlines::new(horizon(plan, facts, net.clock()), share.names),
            server,
            end: End::No,
            rounds: 0,
            unproven: 0,
            skipped: BTreeMap::new(),
            run_id,
            last_data: Duration::ZERO,
            stopping: None,
            refusal: None,
            source_lost: None,
            target_lost: None,
            share,
            excess: Excess::new(pool),
            method: "psync",
            wrote: false,
            copied_at: None,
        })
    }

    /// Keys that were in the target already; `None` if they were not counted.
    fn conflicts(&mut self, failure: Option<&LaneError>) -> Option<u64> {
        if let Some(LaneError::Conflict(failure)) = failure {
            Counters::add(&self.counters.conflicts, 1);
            if self.conflict_names.len() < CONFLICTS_NAMED {
                self.conflict_names.push((failure.db, failure.key.clone().unwrap_or_default()));
            }
        }
        self.counts_conflicts.then_some(self.counters.snapshot().conflicts)
    }

    /// The loop. Each round takes what there is to take, then waits for whatever comes first.
    async fn play(&mut self) -> Result<Ended, LaneError> {
        let failure = match self.go_round().await {
            Ok(Ended::Done) => return self.see_target().await.map(|()| Ended::Done),
            Ok(ended) => return Ok(ended),
            Err(failure) if !self.wrote => return Err(failure),
            Err(failure) => failure,
        };
        // What is in the target stays valid, its deadlines too, as far as they can be set within the time of a stop.
        // In the middle of a copy that the source ended, the target still has pieces to take: what removes them goes behind
        // them.
        let source_ended = match &failure {
            LaneError::Source(_) | LaneError::CopyCut(_) | LaneError::Copy { .. } => {
                self.stage == Stage::Copying
            }
            _ => false,
        };
        let mut ready = source_ended && self.relinking.is_none();
        if !ready && let Ok(target) = Standalone::open(&self.net, self.to, &self.run_id).await {
            self.target = target;
            self.relinking = None;
            ready = true;
        }
        if ready {
            self.draft = Draft::default();
            if let Some(batch) = self.copy.abandon() {
                self.target.push(batch);
            }
            self.stopping = Some(self.clock.now());
            self.end = End::Settling;
            self.source.let_go();
            if let Err(error) = self.go_round().await {
                warn!(error = chain(&error), "deadlines could not be finished");
            }
        }
        Err(failure)
    }

    async fn go_round(&mut self) -> Result<Ended, LaneError> {
        loop {
            match self.take_events() {
                // It answers that it cannot serve us now, and may later.
                Err(LaneError::Source(SourceError::Repl(refusal)))
                    if refusal.remark() == Remark::Later =>
                {
                    self.source_lost(refusal.into())?;
                }
                taken => taken?,
            }
            if let Some(ended) = self.advance_end() {
                return Ok(ended);
            }
            let limited = self.limited_until();
            if limited.is_some() {
                // A source that is not listened to is not silent.
                self.last_data = self.clock.now();
            }
            let admitted = self.excess.admits(self.holds_much());
            let may_read = self.may_take() && self.has_room() && admitted && limited.is_none();
            let read = self.starved && may_read;
            let linked = self.relinking.is_none();
            let refused = linked && self.is_refused()?;
            self.counters.awaits(self.awaited());
            let alarm = self.alarm().into_iter().chain(limited).min().map(|at| self.clock.at(at));
            tokio::select! {
                confirmed = self.target.exchange(), if linked && !refused && !self.target.is_idle() => {
                    match confirmed {
                        Ok(confirmed) => self.confirmed(confirmed)?,
                        Err(error) => self.target_lost(error)?,
                    }
                }
                read = self.source.exchange(read) => match read {
                    Ok(bytes) => {
                        Counters::add(&self.counters.bytes, bytes);
                        self.throttle.was_read(|| self.clock.now(), bytes);
                    }
                    Err(error) => self.source_lost(error)?,
                },
                link = later(&mut self.relinking) => {
                    self.relinking = None;
                    match link {
                        Ok(link) => self.relinked(link)?,
                        Err(error) => self.target_lost(error)?,
                    }
                }
                offset = later(&mut self.asking) => {
                    self.asking = None;
                    self.goal = offset.map_or(Goal::Silence, Goal::Offset);
                    debug!(goal = ?self.goal, "the master was asked where it is");
                }
                () = self.excess.granted() => {}
                answer = self.end.answered() => self.end_answered(answer)?,
                () = sleep_until_some(alarm) => {}
                () = stop_requested(&mut self.stop), if self.stopping.is_none() => {
                    self.stopping = Some(self.clock.now());
                    self.counters.enter(Phase::Finishing);
                }
            }
        }
    }

    /// The target has told something.
    fn confirmed(&mut self, confirmed: Confirmed) -> Result<(), LaneError> {
        // A refusal tells nothing else, and is no reason to be patient again.
        if !confirmed.is_empty() {
            self.target_lost = None;
            self.refusal = None;
        }
        Counters::add(&self.counters.without_effect, confirmed.without_effect);
        Counters::add(&self.counters.keys, confirmed.carries.keys);
        Counters::add(&self.counters.commands, confirmed.carries.commands);
        self.copy.renamed(confirmed.carries.renamed);
        if let Some(surprise) = confirmed.surprises.into_iter().next() {
            let (Surprise::Failed(failure) | Surprise::FailedAgain(failure)) = surprise;
            let taken = failure.reply.starts_with("BUSYKEY")
                || failure.name == b"SET" && failure.reply == "(nil)"
                || failure.name == b"RENAMENX" && failure.reply == "(integer) 0";
            return Err(if failure.reply.starts_with("NOPERM") {
                LaneError::Forbidden(failure)
            } else if self.stage <= Stage::Settling && taken {
                LaneError::Conflict(failure)
            } else if failure.value.is_some() && failure.reply.contains("Bad data format") {
                LaneError::Unreadable(failure)
            } else {
                LaneError::Diverged(failure)
            });
        }
        if confirmed.copied {
            self.copied_at = Some(self.clock.now());
            self.last_data = self.clock.now();
            self.stage = Stage::Following;
            info!(keys = self.counters.snapshot().keys, "the copy is in the target");
            match self.plan.until {
                Until::Forever => self.counters.enter(Phase::Following),
                // A file is drained at its end, and only there.
                Until::CaughtUp => {
                    if let Place::Server(from) = self.from {
                        self.asking = Some(Box::pin(ask_offset(
                            self.net.clone(),
                            from.clone(),
                            self.history.is_some(),
                        )));
                    }
                }
            }
        }
        if let Some(position) = confirmed.position {
            Counters::set(&self.counters.confirmed_offset, position.get());
            self.confirmed = position;
            self.source.confirm(position);
        }
        Ok(())
    }
}

/// How many of the keys that were there before are named in the report.
const CONFLICTS_NAMED: usize = 100;

/// Until when a deadline is so near that it is held back, in Unix milliseconds: a day ahead, or when the run ends by itself, four times what the
/// copy may take, an hour at the least.
fn horizon(plan: &Plan, facts: &Facts, clock: Clock) -> i64 {
    const HOUR: u64 = 3_600_000;
    const SLOWEST_BYTES_PER_MS: u64 = 20_000;
    let largest =
        facts.sources.iter().flatten().map(|source| source.used_memory).max().unwrap_or(0);
    let ahead = match plan.until {
        Until::CaughtUp => HOUR.max(4 * largest / SLOWEST_BYTES_PER_MS),
        Until::Forever => 24 * HOUR,
    };
    clock.unix_ms().saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX))
}

/// What a target that does not say its version is taken for.
const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 8, 0) };

/// Asks a master where its stream stands now; `None` if it has no offsets or does not tell.
pub(super) async fn ask_offset(net: Net, place: ServerPlace, has_offsets: bool) -> Option<Offset> {
    if !has_offsets {
        return None;
    }
    let mut tries = 0;
    let info = loop {
        let asked = async { Control::open(&net, &place).await?.info("replication").await };
        match asked.await {
            Ok(info) => break info,
            Err(error) if tries < QUESTION_TRIES && !error.is_answer() => {
                debug!(error = chain(&error), "the master does not tell its offset");
                sleep(pause(tries)).await;
                tries += 1;
            }
            Err(_) => return None,
        }
    };
    info_field(&info, "master_repl_offset")?.parse().ok().map(Offset::new)
}

/// Waits for something that is under way, or for ever.
pub(super) async fn later<T>(slot: &mut Option<Later<T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => pending().await,
    }
}

pub(super) async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Returns once a stop is requested. Nobody left to request one is no request.
pub(super) async fn stop_requested(stop: &mut Stop) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending::<()>().await;
    }
}
