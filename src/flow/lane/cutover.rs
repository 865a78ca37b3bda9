//! A lane in a cutover: all is in the target and deadlines are set, and it can still go either way.
//!
//! ```text
//!                          ┌── told to go on ──▶ Restoring ──▶ (follows)
//!  (caught up, closed) ──▶ Settled                  deadlines are held back again
//!                          └── handed over ────▶ Watching ──▶ (done)
//! ```
//! Meanwhile the stream is looked at and not taken. If the lane goes on, the source is asked for it once more.

use tracing::info;

use crate::command::keys::keys;
use crate::command::{Class, lookup};
use crate::offset::Offset;
use crate::position;
use crate::progress::{Counters, LateWrite, Phase};
use crate::repl::{Command, Event, Resume};

use super::digests;
use super::end::End;
use super::{Goal, Lane, LaneError};

/// Where a lane stands whose cutover is under way.
impl Lane<'_> {
    /// Whether the source is listened to although nothing of it is taken.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.end, End::Settled | End::Restoring | End::Watching)
    }

    /// Whether the target has been handed over and the lane has not settled, because it was broken off just then: it writes nothing more.
    pub(super) fn is_too_late(&self) -> bool {
        self.hands_over
            && !matches!(self.end, End::Settled | End::Watching | End::Storing | End::Done)
    }

    /// All deadlines are what they are: the job is done, or settled.
    pub(super) fn is_closed(&mut self) -> End {
        if !self.settles && !self.unsettles {
            return self.forget();
        }
        // Whoever was lost behind the last command is wanted again.
        self.call_back_source();
        self.counters.enter(Phase::Settled);
        End::Settled
    }

    /// The cutover was given up.
    pub(super) fn unsettle(&mut self) {
        (self.goal, self.asking, self.rounds) = (Goal::None, None, 0);
        match &self.end {
            // What was told of deadlines and is not in the target yet is asked for again when the job ends.
            End::Asking(_) | End::Reaching(..) => {
                self.deadlines.forget_unsure();
                self.end = End::No;
            }
            End::Settling => self.end = End::No,
            End::No => {}
            _ => self.unsettles = true,
        }
        if matches!(self.end, End::No) {
            self.call_back_source();
            self.counters.enter(Phase::Following);
        }
    }

    /// What comes behind a settled cutover; the same while nobody has decided.
    pub(super) fn leave_settled(&mut self) -> End {
        if self.is_finishing {
            self.forget()
        } else if self.unsettles || self.stopping.is_some() {
            self.restore()
        } else if self.leaves {
            self.forget()
        } else if self.hands_over {
            // Whoever starts the same command again must not copy over what the target's new users have written.
            self.target.keeper_mut().amend(|record| record.phase = position::Phase::Done);
            self.target.save();
            self.counters.enter(Phase::Watching);
            End::Watching
        } else {
            End::Settled
        }
    }

    /// Holds deadlines back again, where they had been set.
    fn restore(&mut self) -> End {
        if let Some(looked) = self.looked.take().filter(|looked| *looked > self.taken) {
            info!(from = %self.taken, to = %looked, "what the source has said meanwhile is asked for again");
            let offset = self.taken;
            let resume = self.history.map(|at| Resume { replid: at.replid, offset });
            self.source.reconnect(resume, std::time::Duration::ZERO);
            self.looked_in = None;
        }
        let is_set = self.target.keeper().record().phase == position::Phase::Finishing;
        if is_set {
            self.begin_moving(self.target_ms().saturating_add(self.ahead));
            return End::Restoring;
        }
        self.unsettles = false;
        self.counters.enter(Phase::Following);
        End::No
    }

    /// Deadlines are held back again, and confirmed to be.
    pub(super) fn is_restored(&mut self) {
        self.target.keeper_mut().amend(|record| {
            (record.phase, record.ended) = (position::Phase::Following, None);
        });
        self.unsettles = false;
        self.end = End::No;
        self.counters.enter(Phase::Following);
        info!("the cutover was given up: deadlines are held back again");
    }

    /// Looks at what the source says behind the end, and takes none of it.
    pub(super) fn look_on(&mut self) -> Result<(), LaneError> {
        while let Some(event) = self.source.poll_event()? {
            match event {
                Event::Command(command) => {
                    let end = command.end;
                    let db = *self.looked_in.get_or_insert_with(|| self.stream.db());
                    let rules = self.plan.sources.get(self.index).map(|source| &source.rules);
                    let next = digests::look_on(&mut self.digests, &command, db, rules);
                    self.looked_in = Some(next);
                    let removes = self.removals.of(command.args());
                    if let Some(write) = write_of(&command, end) {
                        self.counters.was_sent(removes);
                        if removes.is_none() {
                            self.counters.comes_late(write);
                        }
                    }
                    self.looked = Some(end);
                }
                Event::PartialSync { at } => {
                    Counters::add(&self.counters.partial_syncs, 1);
                    self.history = Some(at);
                    self.source_lost = None;
                }
                Event::FullSync { .. } => {
                    // What it was sent meanwhile nobody has seen.
                    self.counters.was_sent(None);
                    return Err(LaneError::Overrun);
                }
                _ => {}
            }
        }
        if let Some(looked) = self.looked {
            self.keep_digests(looked);
        }
        self.starved = true;
        Counters::set(&self.counters.doubts, self.doubts.open() as u64);
        if let Some(looked) = self.looked {
            Counters::set(&self.counters.read_offset, looked.get());
        }
        Ok(())
    }
}

/// What a command of the stream writes; `None` if it is no write but a word between servers.
fn write_of(command: &Command<'_>, end: Offset) -> Option<LateWrite> {
    let args: Vec<&[u8]> = command.args().collect();
    let name = *args.first()?;
    let class = lookup(name).map_or(Class::Unknown, |known| known.class(&args));
    let writes = match class {
        // It keeps what it has counted, which is as true in the target.
        Class::Data => !name.eq_ignore_ascii_case(b"PFCOUNT"),
        Class::Eval | Class::Function | Class::Flush | Class::SwapDb | Class::Unknown => true,
        _ => false,
    };
    let key = keys(&args).ok().and_then(|keys| {
        let first = keys.iter().next()?.position;
        args.get(first).map(|key| key.to_vec())
    });
    let command = String::from_utf8_lossy(name).to_uppercase();
    writes.then(|| LateWrite { command, key, offset: end.get() })
}
