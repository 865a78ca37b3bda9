//! How a lane comes to its end.
//!
//! ```text
//!  No ──▶ Asking ◀──▶ Reaching ──▶ Settling ──▶ Marking ──▶ Closing ◀──▶ Reading
//!  drained  deadlines  the stream   all replies  the record  deadlines    a page of the target's names, if
//!           asked      up to them   are in       says so     are set      there are more than were kept
//! ```
//! Behind that, and behind a stop, the record is the last that is written: how far it has come, or that it is gone.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::change::{Draft, Finish, Settled};
use crate::offset::Offset;
use crate::plan::Place;
use crate::position;
use crate::progress::Phase;
use crate::source::FetchError;

use super::super::asking::{Asker, Told};
use super::super::ending::{Closing, Finishes};
use super::super::report::Ended;
use super::horizon::Walked;
use super::taking::CHUNK;
use super::{Lane, LaneError, Later, Stage, chain};

/// When a source has been drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Not known yet, or never.
    None,
    /// When the target has confirmed this offset.
    Offset(Offset),
    /// When nothing but pings has come for a while.
    Silence,
}

/// How far the end of a lane has come.
pub(super) enum End {
    /// It has not begun.
    No,
    /// The source is being asked for deadlines; the stream waits, so that it is behind the answers.
    Asking(Later<Asked>),
    /// The stream goes on to where the answers held. Then the next ones are asked for.
    Reaching(VecDeque<Told>, Option<Box<Asker>>),
    /// Nothing more is taken; what was sent is being confirmed.
    Settling,
    /// The record is told that deadlines are about to be set.
    Marking,
    /// Deadlines are set to what they are.
    Closing(Box<Closing>),
    /// The same, and a page of names is being read.
    Reading(Box<Closing>, Later<Walked>),
    /// A cutover is under way: all is done but for the record, and may be undone.
    Settled,
    /// It was given up: deadlines are held back again.
    Restoring,
    /// It is through: the target is another's.
    Watching,
    /// The record is told how it has ended, or deleted.
    Storing,
    /// All is done that could be.
    Done,
}

/// What a source told of deadlines, and who asks for the rest.
type Asked = Result<(Option<Box<Asker>>, VecDeque<Told>), FetchError>;

/// What a question at the end was answered.
pub(super) enum Answer {
    Told(Asked),
    Page(Box<Closing>, Walked),
}

impl End {
    /// Waits for the answer that is under way, or for ever. Nothing is lost if the future is dropped.
    pub(super) async fn answered(&mut self) -> Answer {
        match self {
            Self::Asking(told) => Answer::Told(told.await),
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

impl Lane<'_> {
    /// Whether everything was taken up to where the source told deadlines. Writes those that held where the stream stands.
    pub(super) fn has_reached(&mut self) -> bool {
        let End::Reaching(told, _) = &mut self.end else { return false };
        while let Some(next) = told.front() {
            if self.stream.is_whole() && next.fence.is_none_or(|fence| self.taken >= fence) {
                // A key that fell in doubt meanwhile is read whole, and may hold another deadline by then; one that others have brought too may be
                // theirs.
                let at = next.fence.unwrap_or(self.taken);
                let (rules, doubts, rivalry) =
                    (self.stream.scope().rules(), &self.doubts, &self.rivalry);
                let counts = |db, key: &[u8]| {
                    !doubts.outdates(rules.origin(db), key, at) && !rivalry.is_contested(db, key)
                };
                next.apply(counts, &mut self.deadlines, &mut self.draft);
                told.pop_front();
            } else {
                return false;
            }
        }
        true
    }

    /// Takes the end of the lane as far as it goes now. Gives how the lane has ended once it has.
    pub(super) fn advance_end(&mut self) -> Option<Ended> {
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
                End::Reaching(told, Some(asker)) if told.is_empty() => {
                    End::Asking(Box::pin(asker.page()))
                }
                End::Reaching(told, None) if told.is_empty() => self.ask_or_settle(),
                // The link to the target was lost over its last transaction: what that did is found out first.
                End::Settling if self.stopping.is_none() && !self.doubts.is_empty() => End::No,
                End::Settling if self.target.is_idle() => self.settled(),
                End::Marking if self.target.is_idle() => self.close(),
                End::Closing(closing) if closing.is_done() && self.target.is_idle() => {
                    self.is_closed()
                }
                End::Settled => match self.leave_settled() {
                    End::Settled => {
                        self.end = End::Settled;
                        return None;
                    }
                    next => next,
                },
                End::Watching if self.leaves => self.forget(),
                End::Storing if self.target.is_idle() => End::Done,
                End::Closing(mut closing) if !closing.is_done() && self.has_room() => {
                    match closing.take_walk() {
                        Some(walk) => End::Reading(closing, Box::pin(walk.page())),
                        None => {
                            closing.page(&self.deadlines, &mut self.draft);
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
    pub(super) fn is_drained(&mut self) -> bool {
        if self.stopping.is_some() {
            return true;
        }
        let is_drained = self.has_taken_all();
        self.may_end(is_drained)
    }

    fn has_taken_all(&self) -> bool {
        if self.is_paused
            || self.stage != Stage::Following
            || !self.target.is_idle()
            || !self.doubts.is_empty()
        {
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
    pub(super) fn ask_or_settle(&mut self) -> End {
        let may_ask = self.stopping.is_none()
            && self.stage == Stage::Following
            && self.rounds < ROUNDS
            && self.stream.is_whole();
        // In a file there is nobody to ask: what it says counts from when it was recorded.
        if may_ask
            && self.deadlines.is_unsure()
            && let Place::Server(from) = self.from
        {
            self.rounds += 1;
            let names = self.deadlines.take_unsure();
            let (net, from, scope) = (self.net.clone(), from.clone(), self.stream.scope().clone());
            let asker = Box::new(Asker::new(net, from, names, scope, self.history.is_some()));
            return End::Asking(Box::pin(asker.page()));
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

    /// All that was sent has been confirmed. Who was told to stop leaves deadlines as they are, for whoever goes on.
    fn settled(&mut self) -> End {
        self.tell_unproven();
        if self.stopping.is_some() {
            if self.stage == Stage::Following && self.target.is_record_behind() {
                self.target.save();
            }
            return End::Storing;
        }
        if self.deadlines.held_back() == Some(0) {
            return self.is_closed();
        }
        // Before the first of them is set the record says what they are measured against.
        let now = self.target_ms();
        self.target.keeper_mut().amend(|record| {
            (record.phase, record.ended) = (position::Phase::Finishing, Some(now));
        });
        self.target.save();
        End::Marking
    }

    /// All is done.
    pub(super) fn forget(&mut self) -> End {
        self.is_finished = true;
        if self.plan.sources.len() == 1 {
            self.target.forget();
        } else {
            self.target.keeper_mut().amend(|record| record.phase = position::Phase::Done);
            self.target.save();
        }
        End::Storing
    }

    /// Begins to set deadlines to what they are.
    pub(super) fn close(&mut self) -> End {
        let held_back = self.deadlines.held_back();
        self.target.begin_closing();
        self.draft = Draft::default();
        if held_back.is_none() {
            let walk = self.walks.join(self.to);
            return End::Closing(Box::new(Closing::walking(self.finishes(), walk)));
        }
        End::Closing(Box::new(Closing::kept(self.finishes())))
    }

    /// Keys whose deadlines are held back in the target, at the most; `None` if that is not known. Whatever broke the lane off:
    /// until the last of them is confirmed all may be.
    pub(super) fn held_back(&self) -> Option<u64> {
        if self.is_finished { Some(0) } else { self.deadlines.held_back() }
    }

    /// What was asked for at the end has been answered.
    pub(super) fn end_answered(&mut self, answer: Answer) -> Result<(), LaneError> {
        match answer {
            Answer::Told(Ok((asker, told))) => {
                self.end = End::Reaching(told, asker);
            }
            // Whatever was asked for and not told is asked for again, with all others.
            Answer::Told(Err(error)) if !error.is_answer() && self.rounds < ROUNDS => {
                debug!(error = chain(&error), "the source did not tell deadlines");
                self.deadlines.forget_unsure();
                self.end = End::No;
            }
            Answer::Told(Err(error)) => {
                warn!(
                    error = chain(&error),
                    "the source did not tell deadlines; those it sent as times from now stay as they came"
                );
                self.rounds = ROUNDS;
                self.tally.unproven += 1;
                self.end = End::Reaching(VecDeque::new(), None);
            }
            Answer::Page(closing, page) => {
                let (walk, names) = page?;
                let mut closing = closing;
                // What another source has brought is closed when that one ends.
                let ours = self.brought_of(&names);
                closing.walked(walk, (names.page.db, &ours), &mut self.draft);
                self.end = End::Closing(closing);
                self.push();
            }
        }
        Ok(())
    }

    /// What becomes of deadlines now, also of those that others have brought.
    fn finishes(&mut self) -> Finishes {
        let own = self.finish();
        let rival = self.rivalry.rival.clone();
        let mut others = Vec::new();
        if let Some(rival) = rival.as_ref().filter(|_| self.plan.rivals_end_otherwise()) {
            let now = self.target_ms();
            let ended = self.target.keeper().record().ended.unwrap_or(now);
            for (source, of) in self.plan.sources.iter().zip(0..) {
                if of != rival.number() {
                    let settled = Settled::new(source.rules.ttl(), ended, rival.written(of));
                    others
                        .push((of, Finish::new(self.server, self.deadlines.end(), &settled, now)));
                }
            }
        }
        Finishes { own, others, rival }
    }

    pub(super) fn finish(&mut self) -> Finish {
        let now = self.target_ms();
        let record = self.target.keeper().record();
        let (ended, written) = (record.ended.unwrap_or(now), record.written);
        let settled = Settled::new(self.stream.scope().rules().ttl(), ended, written);
        if self.outage.counts() {
            self.tally.outage_ms = Some(settled.later);
            info!(outage_ms = settled.later, "every deadline is later by what the outage lasted");
        }
        Finish::new(self.server, self.deadlines.end(), &settled, now)
    }

    /// Lets the next record say what could not be proven: the process that ends the job may be another one.
    pub(super) fn tell_unproven(&mut self) {
        let unproven = self.tally.unproven;
        if self.target.keeper().record().unproven != unproven {
            self.target.keeper_mut().amend(|record| record.unproven = unproven);
        }
    }

    /// Lets the record say how far all is confirmed when no data does it.
    pub(super) fn save_in_silence(&mut self) {
        if self.stage == Stage::Following
            && matches!(self.end, End::No)
            && self.target.is_idle()
            && self.target.is_record_behind()
            && self.clock.now().saturating_sub(self.quiet_since) >= SAVE_AFTER
        {
            self.target.save();
        }
    }

    /// When the loop must look again although nothing has come.
    pub(super) fn alarm(&self) -> Option<Duration> {
        let end = match (self.stopping, self.goal) {
            (Some(since), _) => Some(since + STOP_PATIENCE),
            (None, Goal::Silence) if self.stage == Stage::Following => {
                Some(self.last_data + SILENCE)
            }
            _ => None,
        };
        let again = self.refusal.map(|refusal| refusal.again_at);
        let is_awaited = self.doubts.open() > 0 || self.rivalry.has_deferred();
        let fetch = self.fetch_again_at.filter(|_| is_awaited);
        let save = self.target.is_record_behind().then(|| self.quiet_since + SAVE_AFTER);
        // What has come already was looked at in this round; whatever else it waits for wakes the loop by itself.
        let now = self.clock.now();
        [end, again, fetch, save, self.horizon_alarm()]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}

/// A record is written anew when nothing else has been for so long.
pub(super) const SAVE_AFTER: Duration = Duration::from_secs(1);

/// How long a stop may take to have everything confirmed that was sent.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// A stream without offsets is drained when it has been silent, but for pings, for so long.
pub(in super::super) const SILENCE: Duration = Duration::from_secs(1);

/// How often a source is asked for deadlines that it goes on setting.
const ROUNDS: u32 = 20;
