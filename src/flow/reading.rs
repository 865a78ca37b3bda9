//! One source, read to the end of its data set, and no further.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{Instrument, info, warn};

use crate::net::{Clock, Net};
use crate::plan::{Facts, Place, Plan, Source, Until};
use crate::progress::{Awaited, Counters, Phase};
use crate::rdb::event::{Element, Event as RdbEvent, KeyHead};
use crate::rdb::parser::Depth;
use crate::repl::Event;
use crate::source::{SourceError, Wants};

use super::lane::{LaneError, chain, is_unsaved};
use super::loss::Loss;
use super::order::{Orders, stop_requested};
use super::remedy::{Remedy, patience, remedy};
use super::report::Ended;
use super::throttle::Throttle;
use super::turns::{Turn, Turns};
use super::upstream::{Limits, Upstream};

/// So many times a master is asked for its data set: each time it forks.
pub(super) const COPIES: u32 = 2;

/// What is made of a source's data set.
pub(super) trait Take: Send {
    /// What is handed on, by the thousand keys.
    type Batch: Send + Default;

    /// A reading begins: the first, or another one after what was taken of the last was cut off, and does not count.
    fn begin(&mut self, attempt: u32);

    /// The data set comes. This is what the source's clock shows.
    fn starts(&mut self, now_ms: i64);

    /// A note about it.
    fn note(&mut self, _name: &[u8], _value: &[u8]) {}

    /// A library of functions.
    fn function(&mut self, _code: &[u8]) {}

    /// A key comes. Says how its value is wanted.
    fn key(&mut self, head: &KeyHead<'_>) -> Depth;

    /// Its value begins, here in the data set.
    fn value_from(&mut self, _at: u64) {}

    /// A part of its value, if they are wanted.
    fn element(&mut self, element: &Element<'_>);

    /// Its value ends, here in the data set.
    fn end(&mut self, at: u64, counters: &Counters);

    /// What is to be handed on, if it is time for that.
    fn full(&mut self) -> Option<Self::Batch>;

    /// What is left to be handed on.
    fn rest(&mut self) -> Self::Batch;
}

/// All sources of a plan, which are read as far as their order, their hosts and the memory allow it.
pub(super) struct All<'a> {
    pub(super) net: &'a Net,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) facts: &'a Facts,
    pub(super) counters: &'a [Arc<Counters>],
    pub(super) orders: &'a Orders,
    /// The most that is held of each in one piece, in bytes.
    pub(super) piece: usize,
}

impl All<'_> {
    /// Reads them. Gives what came of each, and when the last one was done.
    pub(super) async fn read<T: Take + 'static>(
        &self,
        to: &Sender<T::Batch>,
        taker: impl Fn(usize, &Source) -> T,
    ) -> (Vec<Option<Outcome<T>>>, Duration) {
        let Self { net, plan, facts, .. } = *self;
        let (throttle, turns) = (Throttle::new(plan), Turns::new(plan, facts));
        let mut readers = JoinSet::new();
        for (index, (source, counters)) in plan.sources.iter().zip(self.counters).enumerate() {
            // At the level of errors, so that every line names its source.
            let span = tracing::error_span!("lane", source = %source.name);
            let task = Task {
                net: net.clone(),
                plan: Arc::clone(plan),
                index,
                counters: Arc::clone(counters),
                turn: turns.of(index),
                throttle: throttle.clone(),
                clock_ahead: facts.clocks(index).source,
                piece: self.piece,
                to: to.clone(),
                orders: self.orders.clone(),
            };
            let taker = taker(index, source);
            readers.spawn(async move { (index, task.run(taker).await) }.instrument(span));
        }
        let mut outcomes: Vec<Option<Outcome<T>>> = plan.sources.iter().map(|_| None).collect();
        while let Some(ended) = readers.join_next().await {
            match ended {
                Ok((index, outcome)) => {
                    if let Some(place) = outcomes.get_mut(index) {
                        *place = Some(outcome);
                    }
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        (outcomes, net.clock().now())
    }
}

/// What each reading was a reading of, if it counts.
pub(super) fn places(attempts: &[Option<u32>]) -> Vec<Option<u32>> {
    let mut places = Vec::new();
    for (place, counts) in (0..).zip(attempts) {
        places.extend((0..COPIES).map(|attempt| (*counts == Some(attempt)).then_some(place)));
    }
    places
}

/// How a source is read.
struct Task<T: Take> {
    net: Net,
    plan: Arc<Plan>,
    /// Its place in the plan.
    index: usize,
    counters: Arc<Counters>,
    turn: Turn,
    throttle: Throttle,
    /// How far the source's clock is ahead of ours, in milliseconds.
    clock_ahead: i64,
    /// The most that is held in one piece, in bytes.
    piece: usize,
    /// Where what was taken is handed on; it is closed when it cannot be kept.
    to: Sender<T::Batch>,
    orders: Orders,
}

/// What came of it.
pub(super) struct Outcome<T> {
    pub(super) ended: Ended,
    /// Which reading of the source it was, from 0 on.
    pub(super) attempt: u32,
    pub(super) method: &'static str,
    pub(super) taken: T,
    /// From its turn to the end of its data set.
    pub(super) seconds: f64,
    pub(super) failure: Option<(String, String)>,
}

struct Reader<'a, T: Take> {
    task: &'a Task<T>,
    place: &'a Place,
    clock: Clock,
    source: Upstream,
    attempt: u32,
    /// The master has said that its data set comes: it has forked for us.
    announced: bool,
    /// Something of this source was there.
    begun: bool,
    lost: Option<Loss>,
    method: &'static str,
    taker: T,
}

/// What the taking of what was read came to.
enum Taken<B> {
    /// More must be read.
    Starved,
    /// This must be handed on before more is taken.
    Full(B),
    /// All of the data set was taken.
    All,
}

impl<T: Take> Task<T> {
    /// Reads it, in as many attempts as are allowed.
    async fn run(self, taker: T) -> Outcome<T> {
        let _turn = self.turn.guard();
        let mut orders = self.orders.clone();
        let may_begin = self.turn.asks() || self.comes(&mut orders).await;
        let Some(source) = self.plan.sources.get(self.index).filter(|_| may_begin) else {
            return Outcome::stopped(taker);
        };
        let clock = self.net.clock();
        let begun = clock.now();
        let mut reader = Reader::new(&self, source, taker);
        let ended = reader.read(&mut orders).await;
        let seconds = clock.now().saturating_sub(begun).as_secs_f64();
        let failed = reader.begun;
        let Reader { attempt, method, taker: taken, .. } = reader;
        let outcome =
            Outcome { ended: Ended::Done, attempt, method, taken, seconds, failure: None };
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
        // The others may take long, and then all is compared.
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

impl<T> Outcome<T> {
    fn stopped(taken: T) -> Self {
        Self {
            ended: Ended::Stopped,
            attempt: 0,
            method: "psync",
            taken,
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

impl<'a, T: Take> Reader<'a, T> {
    fn new(task: &'a Task<T>, source: &'a Source, mut taker: T) -> Self {
        let limits = Limits { piece: task.piece, spool: None };
        let (place, net) = (source.place.clone(), task.net.clone());
        task.counters.enter(Phase::Connecting);
        taker.begin(0);
        Self {
            task,
            place: &source.place,
            clock: task.net.clock(),
            source: Upstream::new(place, net, task.plan.method, limits, None),
            attempt: 0,
            announced: false,
            begun: false,
            lost: None,
            method: "psync",
            taker,
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
                Taken::Full(batch) => {
                    let handed_on = async { task.to.send(batch).await.is_ok() };
                    match self.meanwhile(handed_on, orders).await? {
                        Some(true) => continue,
                        // It cannot be kept, which is told by who keeps it.
                        Some(false) => return Ok(Ended::Failed),
                        None => return Ok(Ended::Stopped),
                    }
                }
                Taken::All => {
                    // Nothing more is wanted of it.
                    self.source.let_go();
                    return Ok(tokio::select! {
                        sent = task.to.send(self.taker.rest()) => match sent {
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
    fn take(&mut self) -> Result<Taken<T::Batch>, SourceError> {
        let counters = &self.task.counters;
        loop {
            let Some(event) = self.source.poll_event()? else { break };
            match event {
                Event::Rdb(RdbEvent::Element(element)) => self.taker.element(&element),
                Event::Rdb(RdbEvent::Key(head)) => {
                    Counters::add(&counters.keys_read, 1);
                    let depth = self.taker.key(&head);
                    self.source.choose(depth);
                    self.taker.value_from(self.source.payload_position().unwrap_or(0));
                }
                Event::Rdb(RdbEvent::ValueEnd) => {
                    let end = self.source.payload_position().unwrap_or(0);
                    self.taker.end(end, counters);
                    if let Some(batch) = self.taker.full() {
                        Counters::set(&counters.payload_read, end);
                        return Ok(Taken::Full(batch));
                    }
                }
                Event::Rdb(RdbEvent::Function { code }) => self.taker.function(code),
                Event::Rdb(RdbEvent::Aux { name, value }) => self.taker.note(name, value),
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
                    info!(method = self.method, "the source is read as it is here");
                }
                Event::PayloadBegins { length, .. } => {
                    if length.is_some() {
                        // It has been saved to a disk.
                        self.task.turn.has_forked();
                    }
                    counters.enter(Phase::Counting);
                    Counters::set(&counters.payload_size, length.unwrap_or(0));
                    self.taker.starts(self.clock.unix_ms().saturating_add(self.task.clock_ahead));
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

    /// Does something, and keeps the link alive. `None`: it was told to stop.
    async fn meanwhile<D>(
        &mut self,
        doing: impl Future<Output = D>,
        orders: &mut Orders,
    ) -> Result<Option<D>, LaneError> {
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

    /// What was taken of a data set that was cut off does not count.
    fn begin_anew(&mut self) {
        self.attempt += 1;
        self.taker.begin(self.attempt);
        self.task.counters.copy_begins();
        self.task.counters.enter(Phase::Connecting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_attempt_counts() {
        assert_eq!(
            places(&[Some(1), None, Some(0), Some(0)]),
            [None, Some(0), None, None, Some(2), None, Some(3), None]
        );
    }
}
