//! One source, read to the end of its data set.

use std::future::Future;
use std::sync::Arc;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::census::{Batch, Reading, Tally};
use crate::change::Scope;
use crate::key::Db;
use crate::net::{Clock, Net};
use crate::plan::{OnFlush, Place, Plan, Rules, Source, Until, Verdict, Why};
use crate::progress::{Awaited, Counters, Phase};
use crate::rdb::event::{Element, Event as RdbEvent, KeyHead};
use crate::rdb::opcode::{ObjectType, ValueType};
use crate::rdb::parser::Depth;
use crate::repl::Event;
use crate::source::{SourceError, Wants};

use super::super::lane::{LaneError, chain, is_unsaved};
use super::super::left_out::{Left, left_out};
use super::super::loss::Loss;
use super::super::order::{Orders, stop_requested};
use super::super::remedy::{Remedy, patience, remedy};
use super::super::report::Ended;
use super::super::throttle::Throttle;
use super::super::turns::Turn;
use super::super::upstream::{Limits, Upstream};
use super::{Sender, share};

/// So many times a master is asked for its data set: each time it forks.
pub(super) const COPIES: u32 = 2;

/// Names of this size must be possible.
const LEAST_PIECE: usize = 1 << 20;

/// How a source is read.
pub(super) struct Task {
    pub(super) net: Net,
    pub(super) plan: Arc<Plan>,
    /// Its place in the plan.
    pub(super) index: usize,
    pub(super) counters: Arc<Counters>,
    pub(super) turn: Turn,
    pub(super) throttle: Throttle,
    /// How far the source's clock is ahead of ours, in milliseconds.
    pub(super) clock_ahead: i64,
    /// Where names are kept.
    pub(super) names: Sender,
    pub(super) orders: Orders,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) ended: Ended,
    /// Which reading of the source it was, from 0 on.
    pub(super) attempt: u32,
    pub(super) method: &'static str,
    pub(super) tally: Tally,
    /// From its turn to the end of its data set.
    pub(super) seconds: f64,
    pub(super) failure: Option<(String, String)>,
}

struct Reader<'a> {
    task: &'a Task,
    place: &'a Place,
    clock: Clock,
    scope: Scope,
    source: Upstream,
    attempt: u32,
    /// The master has said that its data set comes: it has forked for us.
    announced: bool,
    /// Something of this source was there.
    begun: bool,
    lost: Option<Loss>,
    method: &'static str,
    /// What the source's clock showed when its data set began to come.
    now_ms: i64,
    current: Current,
    tally: Tally,
    batch: Batch,
}

/// The key whose value is read.
struct Current {
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
    expire_at_ms: Option<i64>,
    verdict: Verdict,
    /// Where its value begins in the payload.
    from: u64,
    /// Only its value tells whether it is wanted.
    is_open: bool,
}

/// What the taking of what was read came to.
enum Taken {
    /// More must be read.
    Starved,
    /// Names must be handed on before more is taken.
    Full,
    /// All of the data set was taken.
    All,
}

impl Task {
    /// Reads it, in as many attempts as are allowed.
    pub(super) async fn run(self) -> Outcome {
        let _turn = self.turn.guard();
        let mut orders = self.orders.clone();
        let may_begin = self.turn.asks() || self.comes(&mut orders).await;
        let Some(source) = self.plan.sources.get(self.index).filter(|_| may_begin) else {
            return Outcome::stopped();
        };
        let clock = self.net.clock();
        let begun = clock.now();
        let mut reader = Reader::new(&self, source);
        let ended = reader.read(&mut orders).await;
        let seconds = clock.now().saturating_sub(begun).as_secs_f64();
        let failed = reader.begun;
        reader.tally.prefixes.shrink();
        let Reader { attempt, method, tally, .. } = reader;
        let outcome =
            Outcome { ended: Ended::Done, attempt, method, tally, seconds, failure: None };
        let outcome = match ended {
            Ok(ended) => Outcome { ended, ..outcome },
            Err(error) => {
                self.counters.set_trouble(chain(&error));
                let is_damage = matches!(&error, LaneError::Source(error) if error.is_damage());
                let ended = if failed || is_damage { Ended::Failed } else { Ended::Refused };
                let failure = Some((chain(&error), advice(&error).to_owned()));
                Outcome { ended, failure, ..outcome }
            }
        };
        // The others may take long, and then their names are compared.
        self.counters.enter(outcome.ended.into());
        outcome
    }

    /// Waits for its turn. `false`: it was told to stop.
    async fn comes(&self, orders: &mut Orders) -> bool {
        tokio::select! {
            () = self.turn.comes() => true,
            () = stop_requested(orders) => false,
        }
    }
}

impl Outcome {
    fn stopped() -> Self {
        Self {
            ended: Ended::Stopped,
            attempt: 0,
            method: "psync",
            tally: Tally::default(),
            seconds: 0.0,
            failure: None,
        }
    }
}

fn advice(error: &LaneError) -> &'static str {
    match (remedy(error), error) {
        (Remedy::Ask(advice), _) => advice,
        (_, LaneError::CopyCut(_)) => {
            "see the master's log for why: a larger client-output-buffer-limit for replicas keeps a slow copy alive; it was not asked again, as it forks each time"
        }
        _ => "see that the source can be reached, and start again",
    }
}

impl<'a> Reader<'a> {
    fn new(task: &'a Task, source: &'a Source) -> Self {
        let plan = &task.plan;
        // A name is all that is held, twice while the buffer grows.
        let together = plan.sources_at_once().min(plan.sources.len()).max(1);
        let piece = (share(plan, 1, 8) / together).max(LEAST_PIECE);
        let limits = Limits { piece, spool: None };
        let (place, net) = (source.place.clone(), task.net.clone());
        task.counters.enter(Phase::Connecting);
        Self {
            task,
            place: &source.place,
            clock: task.net.clock(),
            scope: Scope::new(source.rules.clone(), None, OnFlush::Apply),
            source: Upstream::new(place, net, plan.method, limits, None),
            attempt: 0,
            announced: false,
            begun: false,
            lost: None,
            method: "psync",
            now_ms: 0,
            current: Current {
                db: Db::default(),
                key: Vec::new(),
                object: ObjectType::String,
                expire_at_ms: None,
                verdict: Verdict::Keep,
                from: 0,
                is_open: false,
            },
            tally: Tally::default(),
            batch: Batch::default(),
        }
    }

    async fn read(&mut self, orders: &mut Orders) -> Result<Ended, LaneError> {
        let task = self.task;
        loop {
            let taken = match self.take() {
                Ok(taken) => taken,
                Err(error) => match self.lost(error, orders).await? {
                    true => continue,
                    false => return Ok(Ended::Stopped),
                },
            };
            match taken {
                Taken::Starved => {}
                Taken::Full => {
                    let batch = std::mem::take(&mut self.batch);
                    let handed_on = async { task.names.send(batch).await.is_ok() };
                    match self.meanwhile(handed_on, orders).await? {
                        Some(true) => continue,
                        // They cannot be kept, which is told by who keeps them.
                        Some(false) => return Ok(Ended::Failed),
                        None => return Ok(Ended::Stopped),
                    }
                }
                Taken::All => {
                    // Nothing more is wanted of it.
                    self.source.let_go();
                    return Ok(tokio::select! {
                        sent = task.names.send(std::mem::take(&mut self.batch)) => match sent {
                            Ok(()) => Ended::Done,
                            Err(_) => Ended::Failed,
                        },
                        () = stop_requested(orders) => Ended::Stopped,
                    });
                }
            }
            let wait = task.throttle.read_wait(|| self.clock.now());
            if !wait.is_zero() && self.meanwhile(sleep(wait), orders).await?.is_none() {
                return Ok(Ended::Stopped);
            }
            let read = tokio::select! {
                read = self.source.exchange(Wants::MORE) => read,
                () = stop_requested(orders) => return Ok(Ended::Stopped),
            };
            match read {
                Ok(bytes) => {
                    Counters::add(&task.counters.bytes, bytes);
                    task.throttle.was_read(|| self.clock.now(), bytes);
                }
                Err(error) => {
                    if !self.lost(error, orders).await? {
                        return Ok(Ended::Stopped);
                    }
                }
            }
        }
    }

    /// Takes what the source has said.
    fn take(&mut self) -> Result<Taken, SourceError> {
        let counters = &self.task.counters;
        loop {
            let Some(event) = self.source.poll_event()? else { break };
            match event {
                Event::Rdb(RdbEvent::Key(head)) => {
                    Counters::add(&counters.keys_read, 1);
                    let depth = self.current.begin(&head, &self.scope);
                    self.source.choose(depth);
                    self.current.from = self.source.payload_position().unwrap_or(0);
                }
                Event::Rdb(RdbEvent::Element(Element::Module { bytes, .. })) => {
                    self.current.is_a_modules(bytes, self.scope.rules());
                }
                Event::Rdb(RdbEvent::ValueEnd) => {
                    let end = self.source.payload_position().unwrap_or(0);
                    self.end(end);
                    if self.batch.is_full() {
                        Counters::set(&self.task.counters.payload_read, end);
                        return Ok(Taken::Full);
                    }
                }
                Event::Rdb(RdbEvent::Aux { name: b"used-mem", value }) => {
                    let bytes = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.tally.used_memory = bytes;
                }
                Event::FullSync { at, .. } => {
                    Counters::add(&counters.full_syncs, 1);
                    counters.awaits(None);
                    (self.announced, self.lost) = (true, None);
                    // Nobody forks for a file.
                    self.begun = true;
                    self.method = match self.place {
                        Place::Server(_) if at.is_some() => "psync",
                        Place::Server(_) => "sync",
                        Place::Capture(_) => "capture",
                        Place::Rdb(_) => "rdb",
                    };
                    info!(method = self.method, "the source is counted as it is here");
                }
                Event::PayloadBegins { length, .. } => {
                    if length.is_some() {
                        // It has been saved to a disk.
                        self.task.turn.has_forked();
                    }
                    counters.enter(Phase::Counting);
                    Counters::set(&counters.payload_size, length.unwrap_or(0));
                    self.now_ms = self.clock.unix_ms().saturating_add(self.task.clock_ahead);
                }
                // What changed since is not wanted.
                Event::PayloadEnds | Event::Command(_) => return Ok(Taken::All),
                Event::Rdb(_)
                | Event::PartialSync { .. }
                | Event::KeepAlive
                | Event::PayloadRead { .. } => {}
            }
        }
        if let Some(position) = self.source.payload_position() {
            Counters::set(&counters.payload_read, position);
        }
        Ok(if self.source.is_ended() { Taken::All } else { Taken::Starved })
    }

    /// A value ends, here in the payload.
    fn end(&mut self, at: u64) {
        let bytes = at.saturating_sub(self.current.from);
        let head = self.current.head();
        let verdict = match self.current.is_open {
            // A value without a single piece is of no module.
            true => Verdict::Drop(Why::Type),
            false => self.current.verdict,
        };
        let target = self.scope.rules().target_of(head.db, head.key);
        match (verdict, target) {
            (Verdict::Keep, Some((db, name))) => {
                self.tally.count(&head, bytes, self.now_ms);
                let reading = u32::try_from(self.task.index).unwrap_or(u32::MAX);
                let reading = reading.saturating_mul(COPIES).saturating_add(self.attempt);
                self.batch.push(Reading::new(reading), db, &name);
                Counters::add(&self.task.counters.keys, 1);
            }
            (verdict, _) => {
                let why = if let Verdict::Drop(why) = verdict { why } else { Why::Db };
                self.tally.leave_out(head.key, bytes);
                left_out(&self.task.counters, why, Left::Key);
            }
        }
    }

    /// Does something, and keeps the link alive. `None`: it was told to stop.
    async fn meanwhile<T>(
        &mut self,
        doing: impl Future<Output = T>,
        orders: &mut Orders,
    ) -> Result<Option<T>, LaneError> {
        let mut doing = std::pin::pin!(doing);
        loop {
            let error = tokio::select! {
                biased;
                done = &mut doing => return Ok(Some(done)),
                lost = self.source.exchange(Wants::NOTHING) => match lost {
                    Ok(_) => continue,
                    Err(error) => error,
                },
                () = stop_requested(orders) => return Ok(None),
            };
            if !self.lost(error, orders).await? {
                return Ok(None);
            }
        }
    }

    /// The source is lost, or has refused us. It is asked again if that may help and was not done too often. `false`: it was told to stop.
    async fn lost(&mut self, error: SourceError, orders: &mut Orders) -> Result<bool, LaneError> {
        let now = self.clock.now();
        let loss = self.lost.get_or_insert_with(|| Loss::new(now));
        let is_waited_for = match &error {
            SourceError::Repl(refusal) => loss.lasting(now) < patience(refusal),
            // One that was there before is waited for.
            _ => self.begun,
        };
        let why = chain(&error);
        let error = LaneError::Source(error);
        if remedy(&error) != Remedy::ReconnectSource || !is_waited_for {
            return Err(error);
        }
        self.task.counters.set_trouble(why.clone());
        let pause = loss.again("source", &error, Until::CaughtUp, now)?;
        if std::mem::take(&mut self.announced) {
            if let Place::Server(place) = self.place
                && is_unsaved(&self.task.net, place).await
            {
                return Err(LaneError::Unsaved(why));
            }
            if self.attempt + 1 >= COPIES {
                return Err(LaneError::CopyCut(why));
            }
            warn!(error = why, "the data set was cut off: the source is read once more");
            self.begin_anew();
            if !self.task.turn.asks() && !self.task.comes(orders).await {
                return Ok(false);
            }
        }
        self.task.counters.awaits(Some(Awaited::Source));
        self.source.reconnect(None, pause);
        Ok(true)
    }

    /// What was counted of a data set that was cut off does not count.
    fn begin_anew(&mut self) {
        self.attempt += 1;
        self.tally = Tally::default();
        self.batch = Batch::default();
        self.task.counters.copy_begins();
        self.task.counters.enter(Phase::Connecting);
    }
}

impl Current {
    /// A key comes. Says how its value is wanted.
    fn begin(&mut self, head: &KeyHead<'_>, scope: &Scope) -> Depth {
        self.key.clear();
        self.key.extend_from_slice(head.key);
        (self.db, self.object, self.expire_at_ms) = (head.db, head.object, head.expire_at_ms);
        self.verdict = scope.judge_record(head);
        self.is_open = self.verdict.is_keep()
            && head.object.value_type() == ValueType::Module
            && !scope.rules().admits_every(ValueType::Module);
        if self.is_open { Depth::Elements } else { Depth::Skip }
    }

    /// A piece of the value of a module: the first begins with its type.
    fn is_a_modules(&mut self, bytes: &[u8], rules: &Rules) {
        if std::mem::take(&mut self.is_open) && !rules.admits_module(bytes) {
            self.verdict = Verdict::Drop(Why::Type);
        }
    }

    fn head(&self) -> KeyHead<'_> {
        let Self { db, object, expire_at_ms, .. } = *self;
        KeyHead { db, key: &self.key, object, expire_at_ms, idle_seconds: None, freq: None }
    }
}
