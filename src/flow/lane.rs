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

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::change::{
    Copy, CopyError, Deadlines, Draft, Existing, Failure, Finish, Kept, Scope, Stream, StreamError,
    Taken,
};
use crate::command::judge::Expect;
use crate::key::{Db, Escaped};
use crate::net::{Clock, Control, ControlError, Link, Net, info_field};
use crate::offset::Offset;
use crate::plan::{
    Facts, OnConflict, OnFlush, Place, Plan, ServerPlace, Source, Until, Verdict, Why,
};
use crate::progress::{Counters, Phase};
use crate::rdb::event::{Event as RdbEvent, KeyHead};
use crate::rdb::parser::Depth;
use crate::repl::{Event, Remark, Resume};
use crate::server::{Flavour, Server, Version};
use crate::source::SourceError;
use crate::target::{Confirmed, Standalone, Surprise, TargetError};

use super::Stop;
use super::ending::{Closing, Page, Told, Walk, ask_deadlines};
use super::left_out::{Left, left_out};
use super::remedy::{QUESTION_TRIES, Remedy, patience, pause, refusal_patience, remedy};
use super::report::{Ended, SourceReport};
use super::share::Share;
use super::throttle::Throttle;
use super::upstream::Upstream;

/// Why a lane broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target failed.
    #[error("target")]
    Target(#[from] TargetError),
    /// A record cannot be put into the target.
    #[error("copy db {db}: key {}", Escaped(key))]
    Copy {
        /// Its database.
        db: Db,
        /// Its key.
        key: Vec<u8>,
        /// Why.
        #[source]
        source: CopyError,
    },
    /// The source has functions and the target cannot have any.
    #[error("the source has libraries of functions, and {0} cannot hold any")]
    Functions(Server),
    /// A command of the stream cannot be applied.
    #[error("at offset {offset}")]
    Stream {
        /// Where it ends.
        offset: Offset,
        /// Why.
        #[source]
        source: StreamError,
    },
    /// A command did something else on the target than on the source.
    #[error("db {}: {} of key {} was answered {:?} by the target", .0.db, String::from_utf8_lossy(&.0.name), key_of(.0), .0.reply)]
    Diverged(Failure),
    /// A key of the copy is in the target already.
    #[error("db {}: key {} is in the target already", .0.db, key_of(.0))]
    Conflict(Failure),
    /// The target does not read a value of this kind.
    #[error("db {}: key {} is a {} that the target does not take: {}", .0.db, key_of(.0), .0.value.as_deref().unwrap_or("value"), .0.reply)]
    Unreadable(Failure),
    /// A question to the target was not answered.
    #[error("target")]
    Control(#[from] ControlError),
    /// The target refused a command for a reason that did not pass.
    #[error("the target refuses to go on: {0}")]
    Refused(String),
    /// The link was lost while the data set was being sent.
    #[error("the copy was cut off: {0}")]
    CopyCut(String),
    /// What was received cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// After a reconnection the master began anew: it no longer has what came after our place.
    #[error("the master no longer has what came after the place where the link was lost")]
    Overrun,
}

fn key_of(failure: &Failure) -> String {
    failure.key.as_deref().map_or_else(|| "(none)".to_owned(), |key| Escaped(key).to_string())
}

/// How many bytes of commands are gathered before they are sent while there is more to read.
const CHUNK: usize = 128 * 1024;

/// How long a stop may take to have everything confirmed that was sent.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// A stream without offsets is drained when it has been silent, but for pings, for so long.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Runs one lane to its end.
pub(super) async fn run(
    plan: &Plan,
    known: Known<'_>,
    counters: &Arc<Counters>,
    stop: Stop,
) -> SourceReport {
    let Some(source) = plan.sources.get(known.index) else {
        return SourceReport::new(String::new());
    };
    let mut report = SourceReport::new(source.name.clone());
    let clock = known.net.clock();
    let begun = clock.now();
    let mut wrote = false;
    let ended = match (&source.place, &plan.target) {
        (from, Place::Server(to)) => {
            match Lane::open(plan, known, source, from, to, counters, stop).await {
                Ok(mut lane) => {
                    let ended = lane.play().await;
                    wrote = lane.wrote;
                    report.copy_seconds =
                        lane.copied_at.map(|at| at.saturating_sub(begun).as_secs_f64());
                    report.stream_seconds =
                        lane.copied_at.map(|at| clock.now().saturating_sub(at).as_secs_f64());
                    report.method = lane.method;
                    report.held_back = lane.held_back;
                    report.unproven = lane.unproven;
                    report.conflicts = lane.conflicts(ended.as_ref().err());
                    report.conflict_names = std::mem::take(&mut lane.conflict_names);
                    ended
                }
                Err(error) => Err(error),
            }
        }
        _ => Ok(Ended::Refused),
    };
    counters.enter(Phase::Done);
    report.ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let advice = match remedy(&error) {
                Remedy::Ask(advice) => advice.to_owned(),
                Remedy::ReconnectSource => {
                    "see that the source can be reached, and start again".to_owned()
                }
                Remedy::ReconnectTarget => {
                    "see that the target can be reached, and start again".to_owned()
                }
            };
            report.failure = Some((chain(&error), advice));
            let damage = matches!(&error, LaneError::Source(error) if error.is_damage());
            if wrote || damage { Ended::Failed } else { Ended::Refused }
        }
    };
    report.numbers = counters.snapshot();
    report
}

/// An error and what caused it, as one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
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
    /// Keys whose deadlines are still held back; `None` if that is not known.
    held_back: Option<u64>,
    /// When the last data command was taken.
    last_data: Duration,
    /// Since when we have been stopping.
    stopping: Option<Duration>,
    /// How often a side has been lost, or has refused us, in a row.
    source_tries: u32,
    target_tries: u32,
    refusal: Option<Refusal>,
    /// Since when the source has not been there.
    source_lost: Option<Duration>,
    /// How many bytes may be on their way to the target.
    room: usize,
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
    pub(super) net: &'k Net,
}

/// The target refuses to go on.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    since: Duration,
    again_at: Duration,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Connecting,
    Copying,
    /// The copy has been read; not all of it has been confirmed.
    Settling,
    Following,
}

/// When a source has been drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Not known yet, or never.
    None,
    /// When the target has confirmed this offset.
    Offset(Offset),
    /// When nothing but pings has come for a while.
    Silence,
}

/// How far the end of a lane has come.
enum End {
    /// It has not begun.
    No,
    /// The source is being asked for deadlines; the stream waits, so that it is behind the answers.
    Asking(Later<Result<VecDeque<Told>, ControlError>>),
    /// The stream goes on to where the answers held.
    Reaching(VecDeque<Told>),
    /// Nothing more is taken; what was sent is being confirmed.
    Settling,
    /// There are more names than were kept: the target is asked for them.
    Walking(Later<Result<Walk, ControlError>>),
    /// Deadlines are set to what they are.
    Closing(Box<Closing>),
    /// The same, and a page of names is being read.
    Reading(Box<Closing>, Later<Result<(Option<Walk>, Page), ControlError>>),
    /// All is done that could be.
    Done,
}

/// What a question at the end was answered.
enum Answer {
    Told(Result<VecDeque<Told>, ControlError>),
    Walk(Result<Walk, ControlError>),
    Page(Box<Closing>, Result<(Option<Walk>, Page), ControlError>),
}

impl End {
    /// Waits for the answer that is under way, or for ever. Nothing is lost if the future is dropped.
    async fn answered(&mut self) -> Answer {
        match self {
            Self::Asking(told) => Answer::Told(told.await),
            Self::Walking(walk) => Answer::Walk(walk.await),
            Self::Reading(_, page) => {
                let page = page.await;
                match std::mem::replace(self, Self::Done) {
                    Self::Reading(closing, _) => Answer::Page(closing, page),
                    _ => pending().await,
                }
            }
            _ => pending().await,
        }
    }
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
        let Known { facts, held, index, throttle, net } = known;
        counters.enter(Phase::Connecting);
        let target = Standalone::open(net, to).await?;
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
            source: Upstream::new(from.clone(), net.clone(), share.element),
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
            held_back: Some(0),
            last_data: Duration::ZERO,
            stopping: None,
            source_tries: 0,
            target_tries: 0,
            refusal: None,
            source_lost: None,
            room: share.room,
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
            Ok(ended) => return Ok(ended),
            Err(failure) if !self.wrote => return Err(failure),
            Err(failure) => failure,
        };
        // What is in the target stays valid, its deadlines too, as far as they can be set within the time of a stop.
        self.held_back = self.deadlines.held().len().map(|keys| keys as u64);
        // In the middle of a copy that the source ended, the target still has pieces to take: what removes them goes behind
        // them.
        let source_ended = match &failure {
            LaneError::Source(_) | LaneError::CopyCut(_) | LaneError::Copy { .. } => {
                self.stage == Stage::Copying
            }
            _ => false,
        };
        let mut ready = source_ended && self.relinking.is_none();
        if !ready && let Ok(target) = Standalone::open(&self.net, self.to).await {
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
            let read = self.starved && self.may_take() && self.has_room() && limited.is_none();
            let linked = self.relinking.is_none();
            let refused = linked && self.is_refused()?;
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
                answer = self.end.answered() => self.end_answered(answer)?,
                () = sleep_until_some(alarm) => {}
                () = stop_requested(&mut self.stop), if self.stopping.is_none() => {
                    self.stopping = Some(self.clock.now());
                    self.counters.enter(Phase::Finishing);
                }
            }
        }
    }

    /// Whether the target refuses to go on for now; tries again when it is time.
    fn is_refused(&mut self) -> Result<bool, LaneError> {
        let Some(reply) = self.target.refused() else { return Ok(false) };
        let now = self.clock.now();
        let refusal = match &mut self.refusal {
            Some(refusal) => refusal,
            none => {
                warn!(reply, "the target refuses to go on for now");
                none.insert(Refusal { since: now, again_at: now + pause(0), tries: 0 })
            }
        };
        if now.saturating_sub(refusal.since) >= refusal_patience(reply) {
            return Err(LaneError::Refused(reply.to_owned()));
        }
        if now < refusal.again_at {
            return Ok(true);
        }
        refusal.tries += 1;
        refusal.again_at = now + pause(refusal.tries);
        if reply.starts_with("READONLY") {
            // It has become a replica: its name may lead to the new master.
            warn!(reply, "the target is asked for anew");
            self.relinking = Some(self.connect_target(Duration::ZERO));
        }
        self.target.go_on();
        Ok(false)
    }

    fn connect_target(&self, pause: Duration) -> Later<Result<Link, TargetError>> {
        let (net, place) = (self.net.clone(), self.to.clone());
        Box::pin(async move {
            sleep(pause).await;
            Standalone::connect(net, place).await
        })
    }

    /// Whether the source is listened to: not while deadlines are asked for, and not behind the last one.
    fn may_take(&self) -> bool {
        match &self.end {
            End::No => self.stopping.is_none(),
            End::Reaching(_) => true,
            _ => false,
        }
    }

    /// Takes what the source has said while there is room for what becomes of it.
    fn take_events(&mut self) -> Result<(), LaneError> {
        self.held_up = false;
        if !self.may_take() {
            return Ok(());
        }
        self.starved = false;
        while self.has_room() && !self.has_reached() {
            if !self.may_write() {
                self.held_up = true;
                break;
            }
            let mark = self.throttle.mark(&self.draft);
            let then = self.source.recorded_ms();
            let Some(event) = self.source.poll_event()? else {
                self.starved = true;
                break;
            };
            match event {
                Event::FullSync { at } => {
                    if self.stage != Stage::Connecting {
                        return Err(LaneError::Overrun);
                    }
                    Counters::add(&self.counters.full_syncs, 1);
                    self.source_lost = None;
                    self.source_tries = 0;
                    self.history = at;
                    if at.is_none() && matches!(self.from, Place::Server(_)) {
                        warn!("this master has no offsets: a lost link costs a new copy");
                    }
                    self.method = match self.from {
                        Place::Server(_) if at.is_some() => "psync",
                        Place::Server(_) => "sync",
                        Place::Capture(_) => "capture",
                        Place::Rdb(_) => "rdb",
                    };
                    self.taken = at.map(|at| at.offset).unwrap_or_default();
                    info!(method = self.method, offset = %self.taken, "full synchronization");
                }
                Event::PartialSync { at } => {
                    Counters::add(&self.counters.partial_syncs, 1);
                    self.source_lost = None;
                    self.source_tries = 0;
                    self.history = Some(at);
                    self.last_data = self.clock.now();
                    self.source.confirm(self.confirmed);
                    info!(offset = %at.offset, "partial synchronization");
                }
                Event::PayloadBegins { length, .. } => {
                    self.stage = Stage::Copying;
                    self.counters.enter(Phase::Copying);
                    Counters::set(&self.counters.payload_size, length.unwrap_or(0));
                }
                Event::Rdb(event) => match event {
                    RdbEvent::Aux { name: b"repl-stream-db", value } => {
                        if let Some(db) = Db::parse(value) {
                            self.stream.begin_in(db);
                        }
                    }
                    RdbEvent::Aux { name: b"lua", value } => {
                        self.stream.learn(value);
                        self.draft.push(&[b"SCRIPT", b"LOAD", value], Expect::Any);
                    }
                    RdbEvent::Function { .. } if self.server.as_redis() < Version(7, 0, 0) => {
                        return Err(LaneError::Functions(self.server));
                    }
                    RdbEvent::Function { code } => {
                        self.draft.push(&[b"FUNCTION", b"LOAD", b"REPLACE", code], Expect::Any);
                    }
                    RdbEvent::Key(head) => {
                        Counters::add(&self.counters.keys_read, 1);
                        let scope = self.stream.scope();
                        let place = scope.rules().place(head.db).unwrap_or(head.db);
                        let verdict = scope.judge_record(&head);
                        let head = KeyHead { db: place, ..head };
                        if verdict == Verdict::Drop(Why::Conflict)
                            || self.replaced.as_ref().is_some_and(|held| held.has(place, head.key))
                        {
                            Counters::add(&self.counters.conflicts, 1);
                            if self.conflict_names.len() < CONFLICTS_NAMED {
                                self.conflict_names.push((place, head.key.to_vec()));
                            }
                        }
                        let depth = match verdict {
                            Verdict::Keep => self.copy.key(&head, &mut self.deadlines),
                            Verdict::Drop(why) => {
                                left_out(self.counters, why, Left::Key);
                                Depth::Skip
                            }
                        };
                        self.source.choose(depth);
                    }
                    RdbEvent::Payload(payload) if !self.stream.scope().admits_payload(&payload) => {
                        left_out(self.counters, Why::Type, Left::Key);
                    }
                    RdbEvent::Payload(payload) => {
                        let put = self.copy.payload(&payload, &mut self.deadlines, &mut self.draft);
                        put.map_err(|source| refused(&self.copy, source))?;
                    }
                    RdbEvent::Element(element) => {
                        let put = self.copy.element(&element, &mut self.deadlines);
                        put.map_err(|source| refused(&self.copy, source))?;
                        self.push_pieces();
                    }
                    RdbEvent::ValueEnd => {
                        self.copy.value_end().map_err(|source| refused(&self.copy, source))?;
                        self.push_pieces();
                    }
                    _ => {}
                },
                Event::KeepAlive | Event::PayloadRead { .. } => {}
                Event::PayloadEnds => {
                    self.push();
                    self.target.begin_stream();
                    self.stage = Stage::Settling;
                    self.counters.enter(Phase::CatchingUp);
                    self.draft.covers = Some(self.taken);
                    self.push();
                }
                Event::Command(command) => {
                    let end = command.end;
                    let now_ms = then.unwrap_or_else(|| self.clock.unix_ms());
                    let data =
                        self.stream.take(&command, now_ms, &mut self.deadlines, &mut self.draft);
                    match data.map_err(|source| LaneError::Stream { offset: end, source })? {
                        Taken::Data => self.last_data = self.clock.now(),
                        Taken::LeftOut(why) => {
                            left_out(self.counters, why, Left::Command);
                            self.last_data = self.clock.now();
                        }
                        Taken::Other => {}
                    }
                    self.taken = end;
                }
            }
            self.throttle.was_written(|| self.clock.now(), mark, &self.draft);
            if self.draft.size() >= CHUNK && self.stream.is_whole() {
                self.push();
            }
        }
        if self.stream.is_whole() {
            self.push();
        }
        self.observe();
        Ok(())
    }

    /// Sends what has been gathered.
    fn push(&mut self) {
        if self.draft.is_empty() {
            return;
        }
        let batch = self.draft.finish();
        self.wrote |= !batch.is_empty();
        self.target.push(batch);
    }

    /// Sends what has become of a value that goes in pieces.
    fn push_pieces(&mut self) {
        while let Some(batch) = self.copy.poll_batch() {
            self.wrote = true;
            self.throttle.was_sent(|| self.clock.now(), &batch);
            self.target.push(batch);
        }
    }

    /// Until when a limit holds the lane up, if one does.
    fn limited_until(&self) -> Option<Duration> {
        let now = self.clock.now();
        let read = self.throttle.read_wait(|| now);
        // What is to be written may be so by now: then it is time at once.
        let write = self.held_up.then(|| self.throttle.write_wait(|| now));
        write.or_else(|| (!read.is_zero()).then_some(read)).map(|wait| now + wait)
    }

    fn may_write(&self) -> bool {
        self.throttle.write_wait(|| self.clock.now()).is_zero()
    }

    fn has_room(&self) -> bool {
        self.target.in_flight() < self.room
    }

    fn observe(&self) {
        Counters::set(&self.counters.in_flight, self.target.in_flight() as u64);
        Counters::set(&self.counters.read_offset, self.taken.get());
        if let Some(position) = self.source.payload_position() {
            Counters::set(&self.counters.payload_read, position);
        }
    }

    /// The target has told something.
    fn confirmed(&mut self, confirmed: Confirmed) -> Result<(), LaneError> {
        // A refusal tells nothing else, and is no reason to be patient again.
        if !confirmed.is_empty() {
            self.target_tries = 0;
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
            return Err(if self.stage <= Stage::Settling && taken {
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

    /// Whether everything was taken up to where the source told deadlines. Writes those that held where the stream stands.
    fn has_reached(&mut self) -> bool {
        let End::Reaching(told) = &mut self.end else { return false };
        while let Some(next) = told.front() {
            if self.stream.is_whole() && next.fence.is_none_or(|fence| self.taken >= fence) {
                next.apply(&mut self.deadlines, &mut self.draft);
                told.pop_front();
            } else {
                return false;
            }
        }
        true
    }

    /// Takes the end of the lane as far as it goes now. Gives how the lane has ended once it has.
    fn advance_end(&mut self) -> Option<Ended> {
        let ended = if self.stopping.is_some() { Ended::Stopped } else { Ended::Done };
        if self
            .stopping
            .is_some_and(|since| self.clock.now().saturating_sub(since) >= STOP_PATIENCE)
        {
            return Some(ended);
        }
        loop {
            self.end = match std::mem::replace(&mut self.end, End::Done) {
                End::No if self.is_drained() => self.ask_or_settle(),
                End::Reaching(told) if told.is_empty() => self.ask_or_settle(),
                End::Settling if self.target.is_idle() => self.close(),
                End::Closing(closing) if closing.is_done() && self.target.is_idle() => {
                    self.held_back = Some(0);
                    End::Done
                }
                End::Closing(mut closing) if !closing.is_done() && self.has_room() => {
                    match closing.take_walk() {
                        Some(walk) => End::Reading(closing, Box::pin(walk.page())),
                        None => {
                            closing.page(&mut self.draft);
                            if self.draft.size() >= CHUNK || closing.is_done() {
                                self.push();
                            }
                            End::Closing(closing)
                        }
                    }
                }
                End::Done => return Some(ended),
                waiting => {
                    self.end = waiting;
                    return None;
                }
            };
        }
    }

    /// Whether all that is wanted of the source has been taken.
    fn is_drained(&self) -> bool {
        if self.stopping.is_some() {
            return true;
        }
        if self.stage != Stage::Following || !self.target.is_idle() {
            return false;
        }
        if self.starved && self.source.is_ended() {
            if !self.stream.is_whole() {
                warn!("the source ends inside of a transaction, which is left out");
            }
            return true;
        }
        if !self.stream.is_whole() {
            return false;
        }
        match self.goal {
            Goal::None => false,
            Goal::Offset(goal) => self.taken >= goal,
            // One that is not there is silent too.
            Goal::Silence => {
                self.source_lost.is_none()
                    && self.clock.now().saturating_sub(self.last_data) >= SILENCE
            }
        }
    }

    /// Asks the source for deadlines that only it can tell; without any, the stream has come to its end.
    fn ask_or_settle(&mut self) -> End {
        let may_ask =
            self.stage == Stage::Following && self.rounds < ROUNDS && self.stream.is_whole();
        // In a file there is nobody to ask: what it says counts from when it was recorded.
        if may_ask
            && self.deadlines.is_unsure()
            && let Place::Server(from) = self.from
        {
            self.rounds += 1;
            let names = self.deadlines.take_unsure();
            let asking = ask_deadlines(
                self.net.clone(),
                from.clone(),
                names,
                self.stream.scope().rules().clone(),
                self.history.is_some(),
            );
            return End::Asking(Box::pin(asking));
        }
        self.counters.enter(Phase::Finishing);
        if self.stream.is_whole() {
            self.push();
        }
        // A stop in the middle of a large value: what was written of it goes.
        if let Some(batch) = self.copy.abandon() {
            self.target.push(batch);
        }
        End::Settling
    }

    /// Begins to set deadlines to what they are.
    fn close(&mut self) -> End {
        if self.deadlines.held().is_empty() && self.deadlines.fields().is_empty() {
            self.held_back = Some(0);
            return End::Done;
        }
        self.held_back = self.deadlines.held().len().map(|keys| keys as u64);
        self.target.begin_closing();
        self.draft = Draft::default();
        if self.deadlines.held().len().is_none() || self.deadlines.fields().len().is_none() {
            return End::Walking(Box::pin(Walk::begin(self.net.clone(), self.to.clone())));
        }
        let finish = self.finish();
        let (held, fields) = self.deadlines.take_held();
        End::Closing(Box::new(Closing::new(finish, held, fields)))
    }

    /// What was asked for at the end has been answered.
    fn end_answered(&mut self, answer: Answer) -> Result<(), LaneError> {
        match answer {
            Answer::Told(Ok(told)) => self.end = End::Reaching(told),
            Answer::Told(Err(error)) => {
                warn!(
                    error = chain(&error),
                    "the source did not tell deadlines; those it sent as times from now stay as they came"
                );
                self.rounds = ROUNDS;
                self.unproven += 1;
                self.end = End::Reaching(VecDeque::new());
            }
            Answer::Walk(walk) => {
                self.end = End::Closing(Box::new(Closing::walking(self.finish(), walk?)));
            }
            Answer::Page(closing, page) => {
                let (walk, page) = page?;
                let mut closing = closing;
                closing.walked(walk, &page, &mut self.draft);
                self.end = End::Closing(closing);
                self.push();
            }
        }
        Ok(())
    }

    fn finish(&self) -> Finish {
        Finish::new(self.server, self.deadlines.end(), self.clock.unix_ms())
    }

    /// When the loop must look again although nothing has come.
    fn alarm(&self) -> Option<Duration> {
        let end = match (self.stopping, self.goal) {
            (Some(since), _) => Some(since + STOP_PATIENCE),
            (None, Goal::Silence) if self.stage == Stage::Following => {
                Some(self.last_data + SILENCE)
            }
            _ => None,
        };
        let again = self.refusal.map(|refusal| refusal.again_at);
        // What has come already was looked at in this round; whatever else it waits for wakes the loop by itself.
        let now = self.clock.now();
        [end, again].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The source has been lost, or has refused us.
    fn source_lost(&mut self, error: SourceError) -> Result<(), LaneError> {
        if !matches!(self.end, End::No | End::Asking(_) | End::Reaching(_)) {
            // Everything that is wanted of it has been taken.
            self.source.let_go();
            return Ok(());
        }
        let now = self.clock.now();
        if error.is_final() {
            return Err(error.into());
        }
        let since = *self.source_lost.get_or_insert(now);
        let waited = now.saturating_sub(since);
        // An open end: what was taken up to here is in the target's queue, and the stream goes on behind it.
        let resume = match (self.stage, self.history) {
            (Stage::Connecting, _) => match &error {
                SourceError::Repl(refusal) if waited < patience(refusal) => None,
                _ => return Err(error.into()),
            },
            (Stage::Copying, _) | (_, None) => return Err(LaneError::CopyCut(chain(&error))),
            (Stage::Settling | Stage::Following, Some(at)) => {
                Some(Resume { replid: at.replid, offset: self.taken })
            }
        };
        let error = LaneError::Source(error);
        if remedy(&error) != Remedy::ReconnectSource {
            return Err(error);
        }
        let pause = pause(self.source_tries);
        warn!(error = chain(&error), again_in = ?pause, "the source is lost");
        self.source_tries += 1;
        self.source.reconnect(resume, pause);
        Ok(())
    }

    /// The target has been lost, or could not be reached again.
    fn target_lost(&mut self, error: TargetError) -> Result<(), LaneError> {
        let error = LaneError::Target(error);
        if remedy(&error) != Remedy::ReconnectTarget {
            return Err(error);
        }
        if self.target.is_undecided() {
            return Err(TargetError::Undecided.into());
        }
        let pause = pause(self.target_tries);
        warn!(error = chain(&error), again_in = ?pause, "the target is lost");
        self.target_tries += 1;
        self.relinking = Some(self.connect_target(pause));
        Ok(())
    }

    fn relinked(&mut self, link: Link) -> Result<(), LaneError> {
        info!("the target is there again");
        Ok(self.target.relink(link)?)
    }
}

/// The record that is being copied cannot be put into the target.
fn refused(copy: &Copy, source: CopyError) -> LaneError {
    let (db, key) = copy.current();
    LaneError::Copy { db, key: key.to_vec(), source }
}

/// How many of the keys that were there before are named in the report.
const CONFLICTS_NAMED: usize = 100;

/// How often a source is asked for deadlines that it goes on setting.
const ROUNDS: u32 = 20;

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
