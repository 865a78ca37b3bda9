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
//! acknowledgement, the request to stop. What there is no room for waits in the source's spool; acknowledging never stops.

mod doubts;
mod end;
mod error;
mod horizon;
mod job;
mod links;
mod obeying;
mod spooling;
mod sweep;
mod taking;
mod watching;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use crate::change::{Copy, Deadlines, Draft, Existing, Failure, Kept, Own, Scope, Stream};
use crate::doubt::Doubts;
use crate::key::Db;
use crate::net::{Clock, Control, Net, info_field};
use crate::offset::Offset;
use crate::plan::{Facts, OnFlush, Place, Plan, ServerPlace, Until};
use crate::progress::{Counters, Phase};
use crate::repl::{Remark, Resume};
use crate::server::{Flavour, Server, Version};
use crate::source::{Fetcher, SourceError};
use crate::spool::Store;
use crate::target::{Confirmed, Entrance, Standalone, Surprise, TargetError};

use super::held::Held;
use super::loss::Loss;
use super::order::{Orders, changed, stop_requested};
use super::remedy::{QUESTION_TRIES, Remedy, pause, remedy};
use super::report::{Ended, SourceReport};
use super::share::{Excess, Pool, Share};
use super::throttle::Throttle;
use super::upstream::{Limits, Upstream};
use super::watchdog::Watchdog;

use doubts::{Fetching, Unknown};
pub(super) use end::SILENCE;
use end::{End, Goal};
pub use error::{LaneError, chain};
use horizon::Moving;
use job::{Beginning, Job, doubts_of};
use links::Refusal;
use spooling::Spooling;
use sweep::{Older, Sweep};

/// Runs one lane to its end, in as many attempts as that takes. Each begins with the record in the target; what the one before it
/// remembers counts for nothing.
pub(super) async fn run(
    plan: &Plan,
    known: Known<'_>,
    counters: &Arc<Counters>,
    orders: Orders,
) -> SourceReport {
    let index = known.index;
    let (Some(source), Place::Server(to)) = (plan.sources.get(index), &plan.target) else {
        return SourceReport::new(String::new());
    };
    let mut report = SourceReport::new(source.name.clone());
    let clock = known.net.clock();
    let begun = clock.now();
    let mut job =
        Job::new(plan, source, known.is_known, known.facts.is_sole(plan), clock.unix_ms());
    let mut tally = Tally::default();
    let (mut tries, mut lost, mut copied_at) = (0, None::<Loss>, None::<Duration>);
    let ended = loop {
        let mut stop = orders.clone();
        let open = Lane::open(plan, &known, to, counters, orders.clone(), &mut job, &mut tally);
        let opened = tokio::select! {
            biased;
            opened = open => opened,
            () = stop_requested(&mut stop) => break Ok(Ended::Stopped),
        };
        let ended = match opened {
            Ok(mut lane) => {
                let ended = lane.play().await;
                copied_at = lane.copied_at.or(copied_at);
                report.method = lane.method;
                report.copied = lane.stage >= Stage::Settling;
                report.held_back = lane.held_back();
                report.conflicts = lane.conflicts(ended.as_ref().err());
                lane.leave(&mut job);
                ended
            }
            Err(error) => Err(error),
        };
        let Err(mut error) = ended else { break ended };
        if let (LaneError::CopyCut(why), Place::Server(from)) = (&error, &source.place)
            && is_unsaved(known.net, from).await
        {
            error = LaneError::Unsaved(why.clone());
        }
        counters.set_trouble(chain(&error));
        let wait = match job.again(&error) {
            true => {
                tries = if tally.progressed { 0 } else { tries + 1 };
                pause(tries)
            }
            // A target that was there before is waited for.
            false if tally.begun && remedy(&error) == Remedy::ReconnectTarget => {
                if tally.progressed {
                    lost = None;
                }
                let now = clock.now();
                match lost
                    .get_or_insert_with(|| Loss::new(now))
                    .again("target", &error, plan.until, now)
                {
                    Ok(wait) => wait,
                    Err(error) => break Err(error),
                }
            }
            false => break Err(error),
        };
        tally.progressed = false;
        tokio::select! {
            biased;
            () = stop_requested(&mut stop) => break Ok(Ended::Stopped),
            () = sleep(wait) => {}
        }
    };
    if !tally.begun && job.is_first {
        // Nothing was written, so there is nothing to go on with.
        job.withdraw(known.net, to).await;
    }
    report.copy_seconds = copied_at.map(|at| at.saturating_sub(begun).as_secs_f64());
    report.stream_seconds = copied_at.map(|at| clock.now().saturating_sub(at).as_secs_f64());
    report.unproven = tally.unproven;
    report.skipped = tally.skipped;
    report.conflict_names = tally.conflict_names;
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
                Remedy::GoOn | Remedy::CopyAgain => {
                    "see why it happens again and again; the same command goes on with this job"
                        .to_owned()
                }
            };
            report.failure = Some((chain(&error), advice));
            let damage = matches!(&error, LaneError::Source(error) if error.is_damage());
            if tally.begun || damage { Ended::Failed } else { Ended::Refused }
        }
    };
    counters.enter(report.ended.into());
    report.numbers = counters.snapshot();
    report
}

/// What is told of a lane at its end, over all its attempts.
#[derive(Debug, Default)]
struct Tally {
    /// Whether so much has happened that the target may not be as it was.
    begun: bool,
    /// Whether the attempt has brought the job on.
    progressed: bool,
    /// Things that could not be proven to be as they are on the source.
    unproven: u64,
    /// Commands of the stream that are no data and were not played, by name.
    skipped: BTreeMap<String, u64>,
    /// The first keys that the target held before.
    conflict_names: Vec<(Db, Vec<u8>)>,
    /// How a spool that was full was told of, and how often the link was cut over one since it was last gone on with.
    outgrown: Option<String>,
    cuts: u32,
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
    orders: Orders,
    source: Upstream,
    target: Standalone,
    tally: &'a mut Tally,
    /// The record's place, and the name of our connections.
    record: (Db, Vec<u8>),
    connection: String,
    /// The target's connection is lost, and a new one is being made.
    relinking: Option<Later<Result<Entrance, TargetError>>>,
    copy: Copy,
    stream: Stream,
    throttle: Throttle,
    /// There is something to be written, and a limit forbids it for now.
    held_up: bool,
    /// The keys that the target held before, where they are replaced and their names fit into memory.
    replaced: Option<Arc<Kept>>,
    /// Whether every key that the target held before is noticed.
    counts_conflicts: bool,
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
    /// Keys that the target may hold otherwise.
    doubts: Doubts,
    /// They are others than the record was told.
    doubts_changed: bool,
    /// Commands up to here were run by whoever wrote the record, and nobody has seen how.
    unseen_to: Offset,
    /// The source is being read for keys in doubt.
    fetching: Option<Fetching>,
    /// Values that were read and are not confirmed.
    fetched: u64,
    /// How often a value that was read could not be written since the last that could.
    unwritten: u32,
    /// A full copy over what is there: what must go in the end.
    sweep: Option<Sweep>,
    fetcher: Option<Fetcher>,
    /// A command that nobody knows, whose keys the source is asked for.
    unknown: Option<Unknown>,
    fetch_lost: Option<Loss>,
    fetch_again_at: Option<Duration>,
    /// When the target last confirmed data.
    quiet_since: Duration,
    /// The horizon is being moved, and so many keys that are held back with it are not confirmed.
    moving: Option<Moving>,
    holding: u64,
    /// How far ahead of now deadlines are held back, in milliseconds.
    ahead: i64,
    /// The record says where the stream goes on.
    resumes: bool,
    /// The master has said that its data set will come.
    announced: bool,
    /// In place of that the master has begun to send its data set.
    begins_anew: bool,
    /// A source that cannot be reached is waited for: it was there before.
    waits_for_source: bool,
    /// All that was asked for is done.
    is_finished: bool,
    /// Since when the stream is applied as it comes.
    following_since: Option<Duration>,
    /// How many connections to the target were made.
    links: u32,
    /// When the last data command was taken.
    last_data: Duration,
    /// Since when we have been stopping.
    stopping: Option<Duration>,
    /// Nothing is taken from the source for now.
    is_paused: bool,
    /// The run was to follow, and has been told to end once it has caught up.
    is_finishing: bool,
    refusal: Option<Refusal>,
    source_lost: Option<Loss>,
    /// It was lost when nothing more was wanted of it.
    is_let_go: bool,
    target_lost: Option<Loss>,
    share: Share,
    excess: Excess,
    spooling: Spooling,
    method: &'static str,
    copied_at: Option<Duration>,
    watchdog: Watchdog,
    /// When the source was heard last, or something that was asked for was told.
    moved: Duration,
}

/// What all lanes are told.
pub(super) struct Known<'k> {
    pub(super) facts: &'k Facts,
    /// The keys that the target held before.
    pub(super) held: Option<&'k Held>,
    /// Whether an earlier run of this job has begun on this machine.
    pub(super) is_known: bool,
    /// Which of the sources it is.
    pub(super) index: usize,
    pub(super) throttle: Throttle,
    pub(super) pool: Pool,
    /// Where bytes wait that the target cannot take.
    pub(super) store: Option<Store>,
    pub(super) net: &'k Net,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Connecting,
    Copying,
    /// The copy has been read, and what the source no longer has is removed.
    Sweeping,
    /// Not all of the copy has been confirmed, or its record.
    Settling,
    Following,
}

impl<'a> Lane<'a> {
    async fn open(
        plan: &'a Plan,
        known: &Known<'_>,
        to: &'a ServerPlace,
        counters: &'a Counters,
        orders: Orders,
        job: &mut Job,
        tally: &'a mut Tally,
    ) -> Result<Self, LaneError> {
        let Known { facts, held, index, ref throttle, ref pool, ref store, net, .. } = *known;
        let Some(source) = plan.sources.get(index) else { return Err(LaneError::Strayed) };
        counters.enter(Phase::Connecting);
        let clock = net.clock();
        let record_at = (job.db, job.key.clone());
        let connection = job.next_connection();
        let entrance = enter(net, to, &record_at, &connection, plan.until, tally.begun).await?;
        let (beginning, record) =
            job.decide(&entrance, clock.unix_ms().saturating_add(ahead(plan, facts)))?;
        let is_first = matches!(beginning, Beginning::First);
        let names = held.map_or(0, |held| Kept::BYTES_A_KEY * held.keys.len() as u64);
        let share = Share::of(plan.memory.saturating_sub(names), plan.sources.len());
        // No two runs, nor two lanes of one, write the same temporary key.
        let token = format!("{}-{}", job.token(), record.copies);
        let server = facts.target.as_ref().and_then(|target| target.server).unwrap_or(OLDEST);
        let origin =
            facts.sources.get(index).and_then(Option::as_ref).and_then(|facts| facts.server);
        // With one source nothing else writes these keys; with several a key that is there is another's.
        let existing = match (plan.sources.len(), is_first) {
            (1, _) => Existing::Replace,
            (_, false) if plan.are_apart(index) => Existing::Replace,
            (_, false) if matches!(beginning, Beginning::Again) => return Err(LaneError::Mixed),
            _ => Existing::Refuse,
        };
        let held_keys = held.map(|held| Arc::clone(&held.keys));
        let keeps = held.is_some_and(|held| held.keeps);
        let on_flush = match plan.on_flush {
            Some(OnFlush::Ignore) => OnFlush::Ignore,
            None | Some(OnFlush::Apply) if record.sole && plan.has_whole_target() => OnFlush::Apply,
            _ => OnFlush::Stop,
        };
        let scope = Scope::new(source.rules.clone(), held_keys.clone().filter(|_| keeps), on_flush);
        let replaced = held_keys.clone().filter(|_| !keeps && is_first);
        let target_keys = facts.target.as_ref().map_or(0, |target| target.keys_that(plan));
        let counts_conflicts = is_first && (target_keys == 0 || held.is_some());
        let kept = job.deadlines.take().filter(|_| !matches!(beginning, Beginning::Again));
        let mut deadlines = match (kept, is_first) {
            (Some(deadlines), _) => deadlines.until(record.horizon),
            (None, true) => Deadlines::new(record.horizon, share.names),
            // Whatever an earlier run has held back, nobody has kept the names.
            (None, false) => Deadlines::new(record.horizon, share.names).of_others(),
        };
        if record.unsure {
            deadlines.forget_unsure();
        }
        let own = Own { db: job.db, record: job.key.clone(), scripts: job.scripts.clone() };
        let mut stream = Stream::new(origin, server, scope, share.scripts).keeping(own);
        if !is_first {
            for script in kept_scripts(net, to, (job.db, &job.scripts)).await? {
                stream.learn_kept(&script);
            }
        }
        stream.begin_in(Db::new(record.clean.db));
        let (resume, history, begun) = match (&beginning, job.begun.take()) {
            (Beginning::Resume(resume), _) => (Some(*resume), Some(*resume), None),
            (_, begun) => (None, None, begun),
        };
        let (source, full) = match begun {
            Some((upstream, full)) => (upstream, Some(full)),
            None => {
                let from = source.place.clone();
                let spool = store.clone().map(|store| (store, share.block));
                let limits = Limits { piece: share.largest, spool };
                (Upstream::new(from, net.clone(), plan.method, limits, resume), None)
            }
        };
        let sweep = match beginning {
            Beginning::Again => {
                let older = if record.sole {
                    Older::None
                } else {
                    held_keys.map_or(Older::Unknown, Older::Known)
                };
                Some(Sweep::new(&job.token(), older, share.names, &scratch_folder(plan)?)?)
            }
            _ => None,
        };
        let (spot, doubts) = (record.clean, doubts_of(&record));
        Counters::set(&counters.confirmed_offset, spot.offset);
        let unseen_to = Offset::new(record.applied.offset);
        let end = if matches!(beginning, Beginning::Done) { End::Done } else { End::No };
        let waits_for_source = tally.begun || !is_first;
        let resumes = matches!(beginning, Beginning::Resume(_));
        let keeper = job.keeper(record, &entrance);
        let mut target = Standalone::claim(entrance, keeper).await?;
        // From here on the record says it.
        job.copy_anew = None;
        if let Some(patience) = job.patience {
            target.set_patience(patience);
        }
        let mut lane = Self {
            plan,
            from: plan.sources.get(index).map_or(&plan.target, |source| &source.place),
            to,
            counters,
            clock,
            net: net.clone(),
            orders,
            source,
            target,
            tally,
            record: record_at,
            connection,
            relinking: None,
            copy: Copy::new(server, existing, share.copy, token),
            stream,
            throttle: throttle.clone(),
            held_up: false,
            replaced,
            counts_conflicts,
            draft: Draft::default(),
            stage: Stage::Connecting,
            history,
            taken: Offset::new(spot.offset),
            confirmed: Offset::new(spot.offset),
            starved: true,
            asking: None,
            goal: Goal::None,
            deadlines,
            server,
            end,
            rounds: 0,
            doubts_changed: !doubts.is_empty(),
            doubts,
            unseen_to,
            fetching: None,
            fetched: 0,
            unwritten: 0,
            sweep,
            fetcher: None,
            unknown: None,
            fetch_lost: None,
            fetch_again_at: None,
            quiet_since: clock.now(),
            moving: None,
            holding: 0,
            ahead: ahead(plan, facts),
            resumes,
            announced: false,
            begins_anew: false,
            waits_for_source,
            is_finished: false,
            following_since: None,
            links: 0,
            last_data: Duration::ZERO,
            stopping: None,
            is_paused: false,
            is_finishing: false,
            refusal: None,
            source_lost: None,
            is_let_go: false,
            target_lost: None,
            share,
            excess: Excess::new(pool.clone()),
            spooling: Spooling::of(facts, index, store.as_ref()),
            method: "psync",
            copied_at: None,
            watchdog: Watchdog::default(),
            moved: clock.now(),
        };
        lane.tally.begun |= !is_first;
        if let Some(at) = full {
            lane.full_sync(at, None)?;
        }
        Ok(lane)
    }

    /// Leaves behind what another attempt goes on with.
    fn leave(self, job: &mut Job) {
        // One that is cut off again and again behind its copy must not make its master fork for ever.
        let now = self.clock.now();
        if self.following_since.is_some_and(|since| now.saturating_sub(since) >= STEADY) {
            job.copies = 0;
        }
        // What was gathered of deadlines that must be asked is in the record as a word only.
        job.deadlines = Some(self.deadlines);
        job.patience = Some(self.target.patience());
        if self.stage == Stage::Connecting && self.begins_anew {
            job.begun = Some((self.source, self.history));
        }
    }

    /// Keys that were in the target already; `None` if they were not counted.
    fn conflicts(&mut self, failure: Option<&LaneError>) -> Option<u64> {
        if let Some(LaneError::Conflict(failure)) = failure {
            Counters::add(&self.counters.conflicts, 1);
            if self.tally.conflict_names.len() < CONFLICTS_NAMED {
                self.tally
                    .conflict_names
                    .push((failure.db, failure.key.clone().unwrap_or_default()));
            }
        }
        self.counts_conflicts.then_some(self.counters.snapshot().conflicts)
    }

    /// The loop. Each round takes what there is to take, then waits for whatever comes first.
    async fn play(&mut self) -> Result<Ended, LaneError> {
        if matches!(self.end, End::Done) {
            return Ok(Ended::Done);
        }
        self.go_round().await
    }

    async fn go_round(&mut self) -> Result<Ended, LaneError> {
        loop {
            self.obey();
            match self.take_events() {
                // It answers that it cannot serve us now, and may later.
                Err(LaneError::Source(SourceError::Repl(refusal)))
                    if refusal.remark() == Remark::Later =>
                {
                    self.source_lost(refusal.into())?;
                }
                taken => taken?,
            }
            let was_settling = matches!(self.end, End::Settling);
            if let Some(ended) = self.advance_end() {
                return Ok(ended);
            }
            if was_settling && matches!(self.end, End::No) {
                // The end was put off, and what the source has said meanwhile was not looked at in this round.
                self.call_back_source();
                continue;
            }
            self.advance_sweep()?;
            self.advance_horizon();
            self.advance_doubts()?;
            self.save_in_silence();
            let limited = self.limited_until();
            if limited.is_some() || self.is_paused || self.source.waiting() > 0 {
                // A source that is not listened to is not silent, nor one whose words wait.
                self.last_data = self.clock.now();
            }
            let admitted = self.excess.admits(self.holds_much());
            let wants = self.wants(admitted);
            self.watch_spool();
            let linked = self.relinking.is_none();
            let refused = linked && self.is_refused()?;
            self.counters.awaits(self.awaited());
            self.watch(limited.is_some(), admitted);
            let alarm = self.alarm().into_iter().chain(limited).chain(self.watchdog.next());
            let alarm = alarm.min().map(|at| self.clock.at(at));
            tokio::select! {
                confirmed = self.target.exchange(), if linked && !refused && !self.target.is_idle() => {
                    match confirmed {
                        Ok(confirmed) => self.confirmed(confirmed)?,
                        Err(error) => self.target_lost(error)?,
                    }
                }
                read = self.source.exchange(wants) => match read {
                    Ok(bytes) => {
                        self.spooling.was_read(bytes);
                        Counters::add(&self.counters.bytes, bytes);
                        self.moved = self.clock.now();
                        self.throttle.was_read(|| self.clock.now(), bytes);
                    }
                    Err(error) => self.source_lost(error)?,
                },
                link = later(&mut self.relinking) => {
                    self.relinking = None;
                    match link {
                        Ok(entrance) => self.relinked(entrance)?,
                        Err(error) => self.target_lost(error)?,
                    }
                }
                told = Fetching::told(&mut self.fetching) => {
                    self.moved = self.clock.now();
                    self.fetched(told)?;
                }
                told = Unknown::told(&mut self.unknown) => self.unknown_told(told)?,
                walked = Moving::walked(&mut self.moving), if self.stream.is_whole() => {
                    self.moved = self.clock.now();
                    self.walked(walked)?;
                }
                page = Sweep::page(&mut self.sweep) => {
                    self.moved = self.clock.now();
                    self.swept(page)?;
                }
                offset = later(&mut self.asking) => {
                    self.asking = None;
                    self.goal = offset.map_or(Goal::Silence, Goal::Offset);
                    debug!(goal = ?self.goal, "the master was asked where it is");
                }
                () = self.excess.granted() => {}
                answer = self.end.answered() => {
                    self.moved = self.clock.now();
                    self.end_answered(answer)?;
                }
                () = sleep_until_some(alarm) => {}
                () = changed(&mut self.orders) => {}
            }
        }
    }

    /// The target has told something.
    fn confirmed(&mut self, confirmed: Confirmed) -> Result<(), LaneError> {
        // A refusal tells nothing else, and is no reason to be patient again.
        if !confirmed.is_empty() {
            self.target_lost = None;
            self.refusal = None;
            self.quiet_since = self.clock.now();
        }
        if confirmed.carries.keys + confirmed.carries.commands > 0 {
            self.target.set_patience(self.net.patience());
        }
        Counters::add(&self.counters.without_effect, confirmed.without_effect);
        Counters::add(&self.counters.keys, confirmed.carries.keys);
        Counters::add(&self.counters.commands, confirmed.carries.commands);
        self.copy.renamed(confirmed.carries.renamed);
        self.was_fetched(confirmed.carries.fetched);
        self.were_held(confirmed.carries.held);
        if let Some(surprise) = confirmed.surprises.into_iter().next() {
            let (Surprise::Failed(failure) | Surprise::FailedAgain(failure)) = surprise;
            let taken = failure.reply.starts_with("BUSYKEY")
                || failure.name == b"SET" && failure.reply == "(nil)"
                || failure.name == b"RENAMENX" && failure.reply == "(integer) 0";
            return Err(if self.stage <= Stage::Settling && taken {
                LaneError::Conflict(failure)
            } else {
                failed(failure)
            });
        }
        if confirmed.copied {
            self.last_data = self.clock.now();
            if self.stage == Stage::Settling && self.copied_at.is_none() && !self.resumes {
                self.copied_at = Some(self.clock.now());
                info!(keys = self.counters.snapshot().keys, "the copy is in the target");
            }
            self.stage = Stage::Following;
            self.following_since = Some(self.clock.now());
            self.tally.progressed = true;
            match self.until() {
                Until::Forever => self.counters.enter(Phase::Following),
                Until::CaughtUp => self.seek_goal(),
            }
        }
        // What went wrong in a transaction is in doubt before the source is told that the target has it.
        if let Some(halt) = confirmed.halt {
            self.halted(halt)?;
        }
        if let Some(position) = confirmed.position {
            Counters::set(&self.counters.confirmed_offset, position.get());
            self.confirmed = position;
            self.pass_fences();
            self.acknowledge();
        }
        Ok(())
    }
}

/// What a failure of a command that nothing mends means for the lane.
fn failed(failure: Failure) -> LaneError {
    if failure.reply.starts_with("NOPERM") {
        LaneError::Forbidden(failure)
    } else if failure.value.is_some() && failure.reply.contains("Bad data format") {
        LaneError::Unreadable(failure)
    } else {
        LaneError::Diverged(failure)
    }
}

/// The folder on whose disk names are kept that memory has no room for.
fn scratch_folder(plan: &Plan) -> Result<PathBuf, LaneError> {
    let folder = plan.job.folder.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&folder)
        .map_err(|source| LaneError::Write { path: folder.clone(), source })?;
    Ok(folder)
}

/// The scripts that the job keeps in the target.
async fn kept_scripts(
    net: &Net,
    to: &ServerPlace,
    (db, key): (Db, &[u8]),
) -> Result<Vec<Vec<u8>>, LaneError> {
    let mut control = Control::open(net, to).await?;
    control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
    Ok(control.ask("HVALS", &[key]).await?)
}

/// Connects to the target and sees what is there. One that was there before is waited for.
async fn enter(
    net: &Net,
    to: &ServerPlace,
    record: &(Db, Vec<u8>),
    connection: &str,
    until: Until,
    waits: bool,
) -> Result<Entrance, LaneError> {
    let mut loss = Loss::new(net.clock().now());
    loop {
        match Standalone::enter(net, to, record.clone(), connection).await {
            Ok(entrance) => return Ok(entrance),
            Err(error) => {
                let error = LaneError::Target(error);
                if !waits || remedy(&error) != Remedy::ReconnectTarget {
                    return Err(error);
                }
                sleep(loss.again("target", &error, until, net.clock().now())?).await;
            }
        }
    }
}

/// A lane that has followed for so long has nothing to do any more with why it had to copy.
const STEADY: Duration = Duration::from_secs(60);

/// How many of the keys that were there before are named in the report.
const CONFLICTS_NAMED: usize = 100;

/// How far ahead of now a deadline is held back, in milliseconds: as long as the job may stay away; a day, or when the run ends by itself,
/// four times what the copy may take, an hour at the least.
fn ahead(plan: &Plan, facts: &Facts) -> i64 {
    const HOUR: u64 = 3_600_000;
    const SLOWEST_BYTES_PER_MS: u64 = 20_000;
    let largest =
        facts.sources.iter().flatten().map(|source| source.used_memory).max().unwrap_or(0);
    let ahead = match (plan.away, plan.until) {
        (Some(away), _) => u64::try_from(away.as_millis()).unwrap_or(u64::MAX),
        (None, Until::CaughtUp) => HOUR.max(4 * largest / SLOWEST_BYTES_PER_MS),
        (None, Until::Forever) => 24 * HOUR,
    };
    i64::try_from(ahead).unwrap_or(i64::MAX)
}

/// What a target that does not say its version is taken for.
const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 8, 0) };

/// Whether a master says that it could not save its data set.
async fn is_unsaved(net: &Net, place: &ServerPlace) -> bool {
    let asked = async { Control::open(net, place).await?.info("persistence").await };
    let info = asked.await.unwrap_or_default();
    info_field(&info, "rdb_last_bgsave_status") == Some("err")
}

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
