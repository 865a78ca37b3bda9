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

mod attempts;
mod contested;
mod cutover;
mod digests;
mod doubts;
mod end;
mod error;
mod horizon;
mod job;
mod links;
mod obeying;
mod opening;
mod outage;
mod removals;
mod rereading;
mod slots;
mod spooling;
mod sweep;
mod taking;
mod watching;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use crate::change::{Carries, Copy, Deadlines, Draft, Failure, Kept, Stream};
use crate::doubt::Doubts;
use crate::key::Db;
use crate::net::{Clock, Control, Net, info_field};
use crate::offset::{Offset, ReplId};
use crate::plan::{Clocks, Facts, Place, Plan, ServerPlace, Until};
use crate::progress::{Counters, Phase};
use crate::repl::{Remark, Resume};
use crate::server::Server;
use crate::source::{Fetcher, SourceError};
use crate::spool::Store;
use crate::target::{Confirmed, Entrance, Standalone, Surprise, TargetError};

use super::cluster::Member;
use super::digests::Digests;
use super::held::Held;
use super::loss::Loss;
use super::order::{Orders, changed};
use super::remedy::{QUESTION_TRIES, pause};
use super::report::{CONFLICTS_NAMED, Ended};
use super::rereads::Rereads;
use super::rivals::Rival;
use super::share::{Excess, Pool, Share};
use super::throttle::Throttle;
use super::turns::Turn;
use super::upstream::Upstream;
use super::walks::Walks;
use super::watchdog::Watchdog;

use attempts::Tally;
pub(super) use attempts::{is_unsaved, run};
use contested::Rivalry;
use doubts::{Fetching, Unknown};
pub(super) use end::SILENCE;
use end::{End, Goal};
pub use error::{LaneError, chain};
use horizon::Moving;
use job::Job;
use links::Refusal;
use outage::Outage;
use removals::Removals;
use rereading::Rereading;
use slots::Slots;
use spooling::Spooling;
use sweep::Sweep;

pub(super) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Lane<'a> {
    plan: &'a Plan,
    /// Which of its sources this is.
    index: usize,
    from: &'a Place,
    to: &'a ServerPlace,
    walks: Walks,
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
    asking: Option<Later<Option<Stands>>>,
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
    /// Those that somebody outside wants to be read anew.
    rereading: Rereading,
    /// Keys that other sources have too.
    rivalry: Rivalry,
    /// What the copy was and what was written since, for whoever compares.
    digests: Option<Box<Digests>>,
    /// What of the stream only takes away.
    removals: Removals,
    /// The database in which the source runs what is looked at and not taken.
    looked_in: Option<Db>,
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
    turn: Turn,
    outage: Outage,
    /// How far ahead of now deadlines are held back, in milliseconds.
    ahead: i64,
    clocks: Clocks,
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
    /// A cutover is under way, and has been through.
    settles: bool,
    hands_over: bool,
    leaves: bool,
    /// One was given up when deadlines were being set already.
    unsettles: bool,
    /// Up to here the stream was looked at, and not taken.
    looked: Option<Offset>,
    refusal: Option<Refusal>,
    source_lost: Option<Loss>,
    /// It was lost when nothing more was wanted of it.
    is_let_go: bool,
    target_lost: Option<Loss>,
    /// Of a part of a cluster: which keys are its own.
    slots: Option<Slots>,
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
    /// When it may copy.
    pub(super) turn: Turn,
    /// Its part in the cluster that it is of.
    pub(super) member: Option<Member>,
    /// What it shares with the others, where it may bring the same names.
    pub(super) rival: Option<Rival>,
    /// Through the target.
    pub(super) walks: Walks,
    /// Through which it is asked for keys.
    pub(super) rereads: Rereads,
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

impl Lane<'_> {
    /// Leaves behind what another attempt goes on with.
    fn leave(self, job: &mut Job) {
        // One that is cut off again and again behind its copy must not make its master fork for ever.
        let now = self.clock.now();
        if self.following_since.is_some_and(|since| now.saturating_sub(since) >= STEADY) {
            job.copies = 0;
        }
        // What was gathered of deadlines that must be asked is in the record as a word only.
        job.deadlines = Some(self.deadlines);
        job.distinct = self.stream.into_distinct();
        job.patience = Some(self.target.patience());
        // What is on its way over the link must not come behind what another one writes.
        job.seat = self.rivalry.seat;
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
            if self.is_too_late() {
                return Ok(Ended::Done);
            }
            match self.take_events() {
                // It answers that it cannot serve us now, and may later.
                Err(LaneError::Source(SourceError::Repl(refusal)))
                    if refusal.remark() == Remark::Later =>
                {
                    self.source_lost(refusal.into())?;
                }
                taken => taken?,
            }
            self.rivalry.trouble()?;
            let had_begun = !matches!(self.end, End::No);
            if let Some(ended) = self.advance_end() {
                return Ok(ended);
            }
            if had_begun && matches!(self.end, End::No) {
                // The end was put off, and what the source has said meanwhile was not looked at in this round.
                self.call_back_source();
                continue;
            }
            self.advance_slots()?;
            self.advance_sweep()?;
            self.advance_horizon();
            self.advance_rereads();
            self.advance_doubts()?;
            self.tell_unproven();
            self.save_in_silence();
            self.rivalry.trouble()?;
            self.tell_rivals();
            let limited = self.limited_until();
            if limited.is_some() || self.is_paused || self.source.waiting() > 0 {
                // A source that is not listened to is not silent, nor one whose words wait.
                self.last_data = self.clock.now();
            }
            let admitted = self.excess.admits(self.holds_much());
            let wants = self.wants(admitted);
            self.watch_spool();
            if self.stage == Stage::Copying && self.source.has_sent() {
                self.turn.has_forked();
            }
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
                told = self.rivalry.told() => {
                    self.moved = self.clock.now();
                    self.contested_told(told)?;
                }
                () = self.rereading.came() => {}
                told = Unknown::told(&mut self.unknown) => self.unknown_told(told)?,
                walked = Moving::walked(&mut self.moving), if self.stream.is_whole() => {
                    self.moved = self.clock.now();
                    self.walked(walked)?;
                }
                page = Sweep::page(&mut self.sweep) => {
                    self.moved = self.clock.now();
                    self.swept(page)?;
                }
                stands = later(&mut self.asking) => self.goal_told(stands),
                () = self.excess.granted() => {}
                answer = self.end.answered() => {
                    self.moved = self.clock.now();
                    self.end_answered(answer)?;
                }
                () = sleep_until_some(alarm) => {}
                () = changed(&mut self.orders) => {}
                () = Slots::changed(&mut self.slots) => {}
            }
        }
    }

    /// The target has told something.
    fn confirmed(&mut self, confirmed: Confirmed) -> Result<(), LaneError> {
        // A refusal tells nothing else, and is no reason to be patient again.
        if !confirmed.is_empty() {
            self.target_lost = None;
            self.quiet_since = self.clock.now();
        }
        // Offsets alone are confirmed also by a target that refuses everything.
        if confirmed.copied || confirmed.carries != Carries::default() {
            self.refusal = None;
            self.target.set_patience(self.net.patience());
        }
        Counters::add(&self.counters.without_effect, confirmed.without_effect);
        Counters::add(&self.counters.keys, confirmed.carries.keys);
        Counters::add(&self.counters.commands, confirmed.carries.commands);
        self.copy.renamed(confirmed.carries.renamed);
        self.was_fetched(confirmed.carries.fetched);
        self.were_held(confirmed.carries.held);
        for surprise in confirmed.surprises {
            let failure = match surprise {
                Surprise::FailedAgain(failure) if self.had_brought(&failure) => {
                    // It was not counted when it failed.
                    Counters::add(&self.counters.keys, 1);
                    continue;
                }
                Surprise::Failed(failure) | Surprise::FailedAgain(failure) => failure,
            };
            return Err(if self.stage <= Stage::Settling && is_taken(&failure) {
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
                // What a cutover has saved is confirmed too.
                Until::Forever if self.is_settled() => {}
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
        }
        // What was read may be confirmed where the stream has not moved.
        if confirmed.position.is_some() || confirmed.carries.fetched > 0 {
            self.pass_fences();
            self.acknowledge();
        }
        Ok(())
    }

    /// Whether a key of the copy is in the target because a link that was lost had brought it. If another source brings its name too, nobody can tell.
    fn had_brought(&self, failure: &Failure) -> bool {
        let key = failure.key.as_deref();
        self.stage <= Stage::Settling
            && is_taken(failure)
            // A value in pieces has another name until it is whole: one that still has it was not brought.
            && failure.name != b"RENAMENX"
            && key.is_some_and(|key| !self.rivalry.is_contested(failure.db, key))
    }
}

/// Whether the target holds the key already that was to be made.
fn is_taken(failure: &Failure) -> bool {
    failure.reply.starts_with("BUSYKEY")
        || failure.name == b"SET" && failure.reply == "(nil)"
        || failure.name == b"RENAMENX" && failure.reply == "(integer) 0"
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

/// A lane that has followed for so long has nothing to do any more with why it had to copy.
const STEADY: Duration = Duration::from_secs(60);

/// Where a master's stream stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stands {
    pub(super) offset: Offset,
    /// The history that it counts in, if the master tells.
    pub(super) replid: Option<ReplId>,
}

/// Asks a master where its stream stands now; `None` if it has no offsets or does not tell.
pub(super) async fn ask_offset(net: Net, place: ServerPlace, has_offsets: bool) -> Option<Stands> {
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
    let offset = info_field(&info, "master_repl_offset")?.parse().ok().map(Offset::new)?;
    let replid = info_field(&info, "master_replid").and_then(|id| ReplId::parse(id.as_bytes()));
    Some(Stands { offset, replid })
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
