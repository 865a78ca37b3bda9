//! What the source says, taken.

use std::time::Duration;

use tracing::{info, warn};

use crate::change::{Copy, CopyError, StreamError, Taken};
use crate::command::Class;
use crate::command::judge::Expect;
use crate::doubt::{Call, Doubts, Verdict as Admitted};
use crate::key::Db;
use crate::plan::{OnFlush, Place, Verdict, Why};
use crate::position::{self, Spot};
use crate::progress::{Counters, Phase};
use crate::rdb::event::{Event as RdbEvent, KeyHead};
use crate::rdb::opcode::ValueType;
use crate::rdb::parser::Depth;
use crate::repl::{Event, Resume};
use crate::server::Version;
use crate::source::Wants;

use super::super::left_out::{Left, chosen, left_out, not_chosen};
use super::end::End;
use super::slots::left_out as left_out_of;
use super::{CONFLICTS_NAMED, Goal, Lane, LaneError, Stage};

impl Lane<'_> {
    /// Whether the source is listened to: not while deadlines are asked for, and not behind the last one.
    pub(super) fn may_take(&self) -> bool {
        // What is read of keys in doubt must not be behind the stream, and no command stand before the copy is whole.
        if self.is_paused
            || self.fetching.is_some()
            || self.unknown.is_some()
            || self.rivalry.is_reading()
            || self.stage == Stage::Sweeping
        {
            return false;
        }
        match &self.end {
            End::No => self.stopping.is_none(),
            End::Reaching(..) | End::Settled | End::Watching => true,
            _ => false,
        }
    }

    /// Takes what the source has said while there is room for what becomes of it.
    pub(super) fn take_events(&mut self) -> Result<(), LaneError> {
        self.held_up = false;
        if !self.may_take() {
            return Ok(());
        }
        self.starved = false;
        if matches!(self.end, End::Settled | End::Watching) {
            return self.look_on();
        }
        let is_file = matches!(self.from, Place::Rdb(_));
        while self.has_room() && !self.has_reached() && self.stage != Stage::Sweeping {
            if !self.may_write() {
                self.held_up = true;
                break;
            }
            if !self.excess.admits(self.holds_much()) {
                break;
            }
            let mark = self.throttle.mark(&self.draft);
            let then = self.source.recorded_ms();
            let Some(event) = self.source.poll_event()? else {
                self.starved = true;
                break;
            };
            match event {
                Event::FullSync { at, refused } => self.full_sync(at, refused.as_deref())?,
                Event::PartialSync { at } => self.partial_sync(at),
                Event::PayloadBegins { length, .. } => {
                    if length.is_some() {
                        // It has been saved to a disk.
                        self.turn.has_forked();
                    }
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
                    RdbEvent::Aux { name: b"ctime", value } if is_file => {
                        // A file is as its source was when it was made.
                        let made = std::str::from_utf8(value).ok().and_then(|at| at.parse().ok());
                        if let Some(made) = made.and_then(|at: i64| at.checked_mul(1000)) {
                            self.outage.begins(self.deadlines.on_target(made));
                        }
                    }
                    RdbEvent::Aux { name: b"lua", value } => {
                        self.stream.learn(value, &mut self.draft);
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
                        if verdict.is_keep()
                            && let Some(slots) =
                                self.slots.as_mut().filter(|slots| !slots.has(head.key))
                        {
                            slots.leaves_out();
                            self.doubts.doubt(head.db, head.key, self.taken);
                            self.doubts_changed = true;
                            self.source.choose(Depth::Skip);
                            continue;
                        }
                        let told = head;
                        let name = match verdict {
                            Verdict::Keep => self.stream.name_of(head.key)?,
                            Verdict::Drop(_) => scope.rules().names().of(head.key),
                        };
                        let head = KeyHead { db: place, key: &name, ..head };
                        let (is_first, room) = (self.sweep.is_none(), self.share.names);
                        let met = match verdict {
                            Verdict::Keep => self.rivalry.meets(place, &name, is_first, room)?,
                            Verdict::Drop(_) => None,
                        };
                        if verdict == Verdict::Drop(Why::Conflict)
                            || met == Some(true)
                            || self.replaced.as_ref().is_some_and(|held| held.has(place, head.key))
                        {
                            Counters::add(&self.counters.conflicts, 1);
                            if self.tally.conflict_names.len() < CONFLICTS_NAMED {
                                self.tally.conflict_names.push((place, head.key.to_vec()));
                            }
                        }
                        if verdict.is_keep()
                            && let Some(sweep) = &mut self.sweep
                        {
                            sweep.note(place, head.key)?;
                        }
                        if verdict.is_keep() {
                            chosen(self.counters, head.object.value_type());
                        }
                        if let Some(digests) = self.digests.as_mut().filter(|_| verdict.is_keep()) {
                            match met {
                                None => digests.writer.key(&told),
                                Some(_) => digests.writer.wrote(told.db, told.key),
                            }
                        }
                        let depth = match verdict {
                            Verdict::Keep if met.is_some() => Depth::Skip,
                            Verdict::Keep => self.copy.key(&head, &mut self.deadlines),
                            Verdict::Drop(why) => {
                                left_out(self.counters, why, Left::Key);
                                Depth::Skip
                            }
                        };
                        self.source.choose(depth);
                    }
                    RdbEvent::Payload(payload) if !self.stream.scope().admits_payload(&payload) => {
                        if let Some(digests) = &mut self.digests {
                            digests.writer.leaves_out();
                        }
                        not_chosen(self.counters, ValueType::Module);
                        left_out(self.counters, Why::Type, Left::Key);
                    }
                    RdbEvent::Payload(payload) => {
                        if let Some(digests) = &mut self.digests {
                            digests.writer.payload(&payload);
                        }
                        let put = self.copy.payload(&payload, &mut self.deadlines, &mut self.draft);
                        put.map_err(|source| refused(&self.copy, source))?;
                    }
                    RdbEvent::Element(element) => {
                        if let Some(digests) = &mut self.digests {
                            digests.writer.element(&element);
                        }
                        let put = self.copy.element(&element, &mut self.deadlines);
                        put.map_err(|source| refused(&self.copy, source))?;
                        self.push_pieces();
                    }
                    RdbEvent::ValueEnd => {
                        if let Some(digests) = &mut self.digests {
                            digests.writer.value_end();
                        }
                        self.copy.value_end().map_err(|source| refused(&self.copy, source))?;
                        self.push_pieces();
                    }
                    _ => {}
                },
                Event::KeepAlive | Event::PayloadRead { .. } => {}
                Event::PayloadEnds => {
                    self.push();
                    match self.sweep.is_some() || self.rivalry.has_deferred() {
                        true => self.stage = Stage::Sweeping,
                        false => self.copy_is_whole()?,
                    }
                }
                Event::Command(command) => {
                    let end = command.end;
                    let removes = self.removals.of(command.args());
                    let now_ms = then.unwrap_or_else(|| self.clock.unix_ms() + self.clocks.source);
                    let (doubts, unproven) = (&mut self.doubts, &mut self.tally.unproven);
                    let (unseen_to, changed) = (self.unseen_to, &mut self.doubts_changed);
                    let slots = &mut self.slots;
                    let rules = self.plan.sources.get(self.index).map(|source| &source.rules);
                    let (rivalry, mut unnoted) = (&mut self.rivalry, None);
                    let digests = &mut self.digests;
                    let mut admits = |known, args: &[&[u8]], db| {
                        let call = Call { command: known, args, db, end };
                        if let (Some(digests), Some(rules)) = (digests.as_mut(), rules) {
                            digests.writer.ran(&call, rules);
                        }
                        if slots.as_mut().is_some_and(|slots| !slots.admits(&call)) {
                            *changed = true;
                            left_out_of(&call, doubts, unproven);
                            return false;
                        }
                        if let Some(rules) = rules {
                            match rivalry.suspect(&call, rules, doubts) {
                                Ok(any) => *changed |= any,
                                Err(error) => {
                                    unnoted = Some(error);
                                    return false;
                                }
                            }
                        }
                        if end <= unseen_to {
                            *changed = true;
                            return !ran_unseen(&call, doubts, unproven);
                        }
                        let verdict = doubts.judge(&call);
                        *changed |= verdict != Admitted::Play;
                        *unproven += u64::from(verdict == Admitted::Unproven);
                        verdict == Admitted::Play
                    };
                    let data = self.stream.take(
                        &command,
                        now_ms,
                        &mut self.deadlines,
                        &mut self.draft,
                        &mut admits,
                    );
                    if let Some(error) = unnoted {
                        return Err(error.into());
                    }
                    let taken = match data {
                        Err(StreamError::Flush { name })
                            if self.plan.on_flush == Some(OnFlush::Apply) =>
                        {
                            return Err(LaneError::Emptied(name));
                        }
                        Err(error @ StreamError::Unknown { .. }) => {
                            if let Some(digests) = &mut self.digests {
                                digests.writer.ran_unknown();
                            }
                            self.counters.was_sent(None);
                            let args = command.args().map(<[u8]>::to_vec).collect();
                            self.unknown(args, end, error)?;
                            if self.unknown.is_some() {
                                break;
                            }
                            continue;
                        }
                        Err(error @ StreamError::Undecidable(_)) => {
                            self.counters.was_sent(None);
                            let args: Vec<Vec<u8>> = command.args().map(<[u8]>::to_vec).collect();
                            self.undecided(&args, end, error)?;
                            continue;
                        }
                        data => data.map_err(|source| LaneError::Stream { offset: end, source })?,
                    };
                    match taken {
                        Taken::Data | Taken::Refused => {
                            self.last_data = self.clock.now();
                            self.counters.was_sent(removes);
                            if self.outage.counts() && removes.is_none() {
                                let (then, at) = match then {
                                    Some(then) => (Some(self.deadlines.on_target(then)), None),
                                    None => (None, self.counters.reached_by(end.get())),
                                };
                                let now = self.clock.unix_ms() + self.clocks.target;
                                let told = at.map(|at| at + self.clocks.target);
                                self.outage.wrote(then.unwrap_or(now), told);
                            }
                        }
                        Taken::LeftOut(why) => {
                            left_out(self.counters, why, Left::Command);
                            self.last_data = self.clock.now();
                            self.counters.was_sent(removes);
                        }
                        Taken::Skipped(name) => {
                            *self.tally.skipped.entry(name.to_owned()).or_default() += 1;
                        }
                        Taken::Other => {}
                    }
                    self.taken = end;
                }
            }
            self.throttle.was_written(|| self.clock.now(), mark, &self.draft);
            if self.draft.size() >= CHUNK && self.stream.is_whole() {
                self.push();
            } else if self.draft.size() >= self.share.piece / 2 {
                // A transaction that is larger than what is held at once goes as it comes; its end alone is kept back.
                self.draft.continues = true;
                self.push();
            }
        }
        if self.stream.is_whole() {
            self.push();
        }
        if !self.holds_much() && self.has_room() {
            self.excess.give_back();
        }
        self.keep_digests(self.taken);
        self.tell_outage();
        self.observe();
        Ok(())
    }

    /// Whether the piece that is being read, or what is being gathered, is larger than this lane's own share allows.
    pub(super) fn holds_much(&self) -> bool {
        let claimed = if self.starved { self.source.claimed() } else { 0 };
        claimed.max(self.draft.size()).max(self.copy.holds()) > self.share.piece
    }

    /// The master is about to send all that it has.
    pub(super) fn full_sync(
        &mut self,
        at: Option<Resume>,
        refused: Option<&str>,
    ) -> Result<(), LaneError> {
        if self.stage != Stage::Connecting || self.resumes {
            // The master has begun to send: another attempt takes that.
            (self.history, self.begins_anew) = (at, true);
            return Err(LaneError::Overrun);
        }
        self.announced = true;
        Counters::add(&self.counters.full_syncs, 1);
        self.counters.copy_begins();
        self.source_is_there();
        self.history = at;
        self.digests_begin();
        // What it sends is as it was then.
        let then = self.source.recorded_ms().map(|then| self.deadlines.on_target(then));
        self.outage.begins(then.unwrap_or_else(|| self.target_ms()));
        if let Some(answer) = refused {
            warn!(
                answer,
                "the master does not take PSYNC and is read with SYNC: a lost link costs a new copy"
            );
        }
        self.method = match self.from {
            Place::Server(_) if at.is_some() => "psync",
            Place::Server(_) => "sync",
            Place::Capture(_) => "capture",
            Place::Rdb(_) => "rdb",
        };
        self.taken = at.map(|at| at.offset).unwrap_or_default();
        info!(method = self.method, offset = %self.taken, "full synchronization");
        Ok(())
    }

    /// The master goes on where the link was lost.
    fn partial_sync(&mut self, at: Resume) {
        Counters::add(&self.counters.partial_syncs, 1);
        self.source_is_there();
        let is_renamed = self.history.is_some_and(|before| before.replid != at.replid);
        self.history = Some(at);
        if is_renamed && self.goal != Goal::None {
            // It was the old master's. What the new one has not got it will never tell.
            self.goal = Goal::None;
            self.seek_goal();
        }
        self.tally.cuts = 0;
        self.last_data = self.clock.now();
        self.acknowledge();
        let replid = at.replid.to_string();
        self.target.keeper_mut().amend(|record| record.replid = Some(replid));
        if self.stage == Stage::Connecting {
            self.stage = Stage::Settling;
            self.counters.enter(Phase::CatchingUp);
            self.target.go_on_with_stream();
            // What another process has left is ours from here on.
            self.target.save();
        }
        info!(offset = %at.offset, "partial synchronization");
    }

    /// Sends what has been gathered.
    pub(super) fn push(&mut self) {
        if self.draft.is_empty() {
            return;
        }
        if !self.rivalry.may_send() {
            return;
        }
        let batch = self.draft.finish();
        self.tally.begun |= !batch.is_empty();
        self.target.push(batch);
    }

    /// The copy has been read, and all is written that comes of it: the stream begins, with the record that says so.
    pub(super) fn copy_is_whole(&mut self) -> Result<(), LaneError> {
        if let Some(rival) = &self.rivalry.rival {
            rival.has_read()?;
        }
        self.tally.begun = true;
        if let Some(digests) = &mut self.digests {
            digests.writer.is_whole();
        }
        self.turn.is_over();
        let replid = self.history.map(|at| at.replid.to_string());
        let spot = Spot::new(self.taken, self.stream.db());
        self.target.keeper_mut().amend(|record| {
            (record.phase, record.replid) = (position::Phase::Following, replid);
        });
        self.target.begin_stream(spot);
        self.stage = Stage::Settling;
        self.counters.enter(Phase::CatchingUp);
        (self.draft.covers, self.draft.stands_in) = (Some(self.taken), self.stream.db());
        self.push();
        self.target.save();
        Ok(())
    }

    /// Sends what has become of a value that goes in pieces.
    pub(super) fn push_pieces(&mut self) {
        while self.rivalry.may_send()
            && let Some(batch) = self.copy.poll_batch()
        {
            self.tally.begun = true;
            self.throttle.was_sent(|| self.clock.now(), &batch);
            self.target.push(batch);
        }
    }

    /// What is to become of what the source says next.
    pub(super) fn wants(&self, admitted: bool) -> Wants {
        let take = self.starved && self.may_take() && self.has_room() && admitted;
        // Behind its end nothing more is wanted.
        let listens = self.stopping.is_none()
            && (matches!(self.end, End::No | End::Asking(_) | End::Reaching(..))
                || self.is_settled());
        let read = listens && self.throttle.read_wait(|| self.clock.now()).is_zero();
        Wants { take, read }
    }

    /// Until when a limit holds the lane up, if one does.
    pub(super) fn limited_until(&self) -> Option<Duration> {
        let now = self.clock.now();
        let read = self.throttle.read_wait(|| now);
        // What is to be written may be so by now: then it is time at once.
        let write = self.held_up.then(|| self.throttle.write_wait(|| now));
        write.or_else(|| (!read.is_zero()).then_some(read)).map(|wait| now + wait)
    }

    pub(super) fn may_write(&self) -> bool {
        self.throttle.write_wait(|| self.clock.now()).is_zero()
    }

    /// Whether what comes next may be on its way too: a large piece of it waits for those before it.
    pub(super) fn has_room(&self) -> bool {
        let in_flight = self.target.in_flight();
        in_flight == 0 || in_flight.saturating_add(self.source.claimed()) < self.share.room
    }

    pub(super) fn observe(&self) {
        Counters::set(&self.counters.in_flight, self.target.in_flight() as u64);
        Counters::set(&self.counters.read_offset, self.taken.get());
        Counters::set(&self.counters.doubts, self.doubts.open() as u64);
        let good = self.target.keeper().record().good;
        Counters::set(&self.counters.away_until, u64::try_from(good).unwrap_or(0));
        if let Some(position) = self.source.payload_position() {
            Counters::set(&self.counters.payload_read, position);
        }
    }
}

/// A command was run by whoever wrote the record, and nobody has seen how. Says whether it is left out.
fn ran_unseen(call: &Call<'_>, doubts: &mut Doubts, unproven: &mut u64) -> bool {
    let class = call.command.class(call.args);
    *unproven += u64::from(class == Class::Eval);
    doubts.unseen(call);
    // These name no key, and do the same twice.
    !matches!(class, Class::Script | Class::Function)
}

/// The record that is being copied cannot be put into the target.
fn refused(copy: &Copy, source: CopyError) -> LaneError {
    let (db, key) = copy.current();
    LaneError::Copy { db, key: key.to_vec(), source }
}

/// How many bytes of commands are gathered before they are sent while there is more to read.
pub(super) const CHUNK: usize = 128 * 1024;
