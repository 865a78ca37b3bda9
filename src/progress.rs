//! What is going on, in numbers. Workers add; one function reads them together, and every view shows that reading.

mod history;
mod tide;
mod wait;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use history::{Course, History, Stretch};
use tide::Tide;
pub use wait::{Told, Wait, Waiting};

/// What a lane is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has not begun.
    #[default]
    Waiting,
    /// The link is being made, or the master prepares its data.
    Connecting,
    /// The data set is on its way.
    Copying,
    /// The data set is on its way, and is counted only.
    Counting,
    /// The data set is there and what changed meanwhile is being applied.
    CatchingUp,
    /// Changes are applied as they come.
    Following,
    /// It was told to stop, or has caught up and tidies up.
    Finishing,
    /// All is in the target, deadlines too, and nothing more is taken: a cutover is under way.
    Settled,
    /// The target has been handed over, and what the source is still sent is told.
    Watching,
    /// It has broken off.
    Failed,
    /// It has ended without having written anything.
    Refused,
    /// It has ended because it was told to.
    Stopped,
    /// It has ended, with all that was asked for.
    Done,
}

/// The side that a lane waits for: it is lost or does not serve us for now, and is asked again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The source.
    Source,
    /// The target.
    Target,
    /// Neither: the run is paused.
    Resume,
}

impl Phase {
    /// Every phase, in order: of several lanes the least tells what goes on.
    pub const ALL: [Self; 13] = [
        Self::Waiting,
        Self::Connecting,
        Self::Copying,
        Self::Counting,
        Self::CatchingUp,
        Self::Following,
        Self::Finishing,
        Self::Settled,
        Self::Watching,
        Self::Failed,
        Self::Refused,
        Self::Stopped,
        Self::Done,
    ];

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Copying => "copying",
            Self::Counting => "counting",
            Self::CatchingUp => "catching up",
            Self::Following => "following",
            Self::Finishing => "finishing",
            Self::Settled => "settled",
            Self::Watching => "watching",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }

    /// Whether nothing comes behind it.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Failed | Self::Refused | Self::Stopped | Self::Done)
    }
}

impl Awaited {
    /// Words for the waiting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "waiting for source",
            Self::Target => "waiting for target",
            Self::Resume => "paused",
        }
    }
}

/// What goes on, in a word or two: while somebody is waited for, who it is.
#[must_use]
pub const fn doing(phase: Phase, awaited: Option<Awaited>) -> &'static str {
    match awaited {
        Some(side) if !phase.is_end() => side.name(),
        _ => phase.name(),
    }
}

/// What a key may hold, as `TYPE` says it.
pub const TYPES: [&str; 7] = ["string", "list", "set", "zset", "hash", "stream", "module"];

/// What one lane has done so far. Each number only grows, unless it says otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    phase: AtomicU8,
    awaited: AtomicU8,
    /// Bytes of the RDB payload that have been read.
    pub payload_read: AtomicU64,
    /// Bytes of the RDB payload in all; 0 if the master did not tell.
    pub payload_size: AtomicU64,
    /// Keys read from the payload.
    pub keys_read: AtomicU64,
    /// Keys of the payload that the rules choose, by type, in the order of [`TYPES`].
    pub types: [AtomicU64; TYPES.len()],
    /// Keys that the target has confirmed.
    pub keys: AtomicU64,
    /// Commands of the stream that the target has confirmed.
    pub commands: AtomicU64,
    /// Removals that found nothing to remove in the target.
    pub without_effect: AtomicU64,
    /// Keys of the payload whose databases are not chosen.
    pub left_out_databases: AtomicU64,
    /// Keys of the payload that are left out by their names.
    pub left_out_keys: AtomicU64,
    /// Keys of the payload whose types are not chosen.
    pub left_out_types: AtomicU64,
    /// Keys of the payload that were dead on the source, and are left out where deadlines are set later.
    pub expired: AtomicU64,
    /// Commands of the stream that the rules leave out.
    pub left_out_commands: AtomicU64,
    /// Keys of the payload that the target held before.
    pub conflicts: AtomicU64,
    /// Commands of the stream on keys that the target keeps.
    pub conflict_commands: AtomicU64,
    /// Flushes that were passed over.
    pub flushes: AtomicU64,
    /// Bytes that were read from the source.
    pub bytes: AtomicU64,
    /// The offset up to which the stream has been read. Set.
    pub read_offset: AtomicU64,
    /// The offset up to which the target has confirmed. Set.
    pub confirmed_offset: AtomicU64,
    /// The master's own offset when it was asked last. Set.
    pub master_offset: AtomicU64,
    /// Bytes sent to the target and not confirmed. Set.
    pub in_flight: AtomicU64,
    /// Bytes that were read from the source and wait to be taken. Set.
    pub spooled: AtomicU64,
    /// Commands of the stream that write and do not only take away, as they are taken or looked at.
    pub writes: AtomicU64,
    /// Keys and fields that others take away, as a deadline does that has come.
    pub removals: AtomicU64,
    /// Full synchronizations.
    pub full_syncs: AtomicU64,
    /// Partial synchronizations.
    pub partial_syncs: AtomicU64,
    /// Keys that the target may hold otherwise than the source. Set.
    pub doubts: AtomicU64,
    /// Until when the job may stay away, in Unix milliseconds; 0 before the record says. Set.
    pub away_until: AtomicU64,
    notes: Mutex<Notes>,
    tide: Mutex<Tide>,
}

/// What is no number.
#[derive(Debug, Default)]
struct Notes {
    waiting: Option<Waiting>,
    trouble: Option<String>,
    late: Vec<LateWrite>,
}

/// A write that a source was sent when nothing more should have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateWrite {
    /// The command's name.
    pub command: String,
    /// The first key that it names, if it names any.
    pub key: Option<Vec<u8>>,
    /// Where in the stream it ends.
    pub offset: u64,
}

/// So many late writes are named. All are counted.
const LATE_NAMED: usize = 100;

impl Counters {
    /// A master told at this time, in Unix milliseconds, that its stream has come to here.
    pub fn master_is_at(&self, offset: u64, at_ms: i64) {
        Self::set(&self.master_offset, offset);
        self.tide.lock().unwrap_or_else(PoisonError::into_inner).note(offset, at_ms);
    }

    /// By when a master had written all up to here, if it had told that; what lies before is not asked for any more.
    #[must_use]
    pub fn reached_by(&self, offset: u64) -> Option<i64> {
        self.tide.lock().unwrap_or_else(PoisonError::into_inner).by(offset)
    }

    /// Adds to a number.
    pub fn add(number: &AtomicU64, amount: u64) {
        number.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets a number that is not a count.
    pub fn set(number: &AtomicU64, value: u64) {
        number.store(value, Ordering::Relaxed);
    }

    /// A full copy begins: what an earlier one has brought counts no more.
    pub fn copy_begins(&self) {
        for number in [
            &self.payload_read,
            &self.payload_size,
            &self.keys_read,
            &self.keys,
            &self.left_out_databases,
            &self.left_out_keys,
            &self.left_out_types,
            &self.expired,
        ] {
            Self::set(number, 0);
        }
        self.types.iter().for_each(|number| Self::set(number, 0));
    }

    /// Notes what the lane does now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Notes whom the lane waits for, if it does.
    pub fn awaits(&self, side: Option<Awaited>) {
        self.awaited.store(side.map_or(0, |side| side as u8 + 1), Ordering::Relaxed);
    }

    /// Notes for what the lane waits, if it does.
    pub fn set_waiting(&self, waiting: Option<Waiting>) {
        self.notes().waiting = waiting;
    }

    /// For what the lane waits.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.notes().waiting
    }

    /// Notes what has gone wrong last.
    pub fn set_trouble(&self, trouble: String) {
        self.notes().trouble = Some(trouble);
    }

    /// What has gone wrong last, be it over by now; `None` if nothing has.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.notes().trouble.clone()
    }

    /// A command of the stream was seen that changes data: it takes so many keys or fields away, or does something else.
    pub fn was_sent(&self, removes: Option<u64>) {
        match removes {
            Some(removed) => Self::add(&self.removals, removed),
            None => Self::add(&self.writes, 1),
        }
    }

    /// Notes a write that should not have come.
    pub fn comes_late(&self, write: LateWrite) {
        let mut notes = self.notes();
        if notes.late.len() < LATE_NAMED {
            notes.late.push(write);
        }
    }

    /// The writes that should not have come since this was asked last: the first of them.
    pub fn take_late(&self) -> Vec<LateWrite> {
        std::mem::take(&mut self.notes().late)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All numbers, read together.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        Snapshot {
            phase: Phase::ALL.get(phase).copied().unwrap_or_default(),
            awaited: match self.awaited.load(Ordering::Relaxed) {
                0 => None,
                1 => Some(Awaited::Source),
                2 => Some(Awaited::Target),
                _ => Some(Awaited::Resume),
            },
            payload_read: read(&self.payload_read),
            payload_size: read(&self.payload_size),
            keys_read: read(&self.keys_read),
            types: self.types.each_ref().map(read),
            keys: read(&self.keys),
            commands: read(&self.commands),
            without_effect: read(&self.without_effect),
            left_out_databases: read(&self.left_out_databases),
            left_out_keys: read(&self.left_out_keys),
            left_out_types: read(&self.left_out_types),
            expired: read(&self.expired),
            left_out_commands: read(&self.left_out_commands),
            conflicts: read(&self.conflicts),
            conflict_commands: read(&self.conflict_commands),
            flushes: read(&self.flushes),
            bytes: read(&self.bytes),
            read_offset: read(&self.read_offset),
            confirmed_offset: read(&self.confirmed_offset),
            master_offset: read(&self.master_offset),
            in_flight: read(&self.in_flight),
            spooled: read(&self.spooled),
            writes: read(&self.writes),
            removals: read(&self.removals),
            full_syncs: read(&self.full_syncs),
            partial_syncs: read(&self.partial_syncs),
            doubts: read(&self.doubts),
            away_until: read(&self.away_until),
        }
    }
}

/// The numbers of [`Counters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the number of the same name in Counters")]
pub struct Snapshot {
    pub phase: Phase,
    pub awaited: Option<Awaited>,
    pub payload_read: u64,
    pub payload_size: u64,
    pub keys_read: u64,
    pub types: [u64; TYPES.len()],
    pub keys: u64,
    pub commands: u64,
    pub without_effect: u64,
    pub left_out_databases: u64,
    pub left_out_keys: u64,
    pub left_out_types: u64,
    pub expired: u64,
    pub left_out_commands: u64,
    pub conflicts: u64,
    pub conflict_commands: u64,
    pub flushes: u64,
    pub bytes: u64,
    pub read_offset: u64,
    pub confirmed_offset: u64,
    pub master_offset: u64,
    pub in_flight: u64,
    /// See [`Counters::spooled`].
    pub spooled: u64,
    pub writes: u64,
    pub removals: u64,
    pub full_syncs: u64,
    pub partial_syncs: u64,
    pub doubts: u64,
    pub away_until: u64,
}

impl Snapshot {
    /// Bytes of the stream that the master has produced and the target has not confirmed.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.master_offset.max(self.read_offset).saturating_sub(self.confirmed_offset)
    }

    /// The same; `None` if nobody can know.
    #[must_use]
    pub fn known_lag(&self) -> Option<u64> {
        // Before the first confirmation the offset counts from the beginning of the master's life.
        let streaming = self.phase >= Phase::CatchingUp && self.confirmed_offset > 0;
        // Nor can it be known what a master writes that is not there.
        (streaming && self.awaited != Some(Awaited::Source)).then(|| self.lag())
    }

    /// What goes on, in a word or two.
    #[must_use]
    pub const fn doing(&self) -> &'static str {
        doing(self.phase, self.awaited)
    }

    /// Whether somebody is waited for.
    #[must_use]
    pub const fn is_held_up(&self) -> bool {
        self.awaited.is_some() && !self.phase.is_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_what_was_counted() {
        let counters = Counters::default();
        counters.enter(Phase::Following);
        Counters::add(&counters.keys, 3);
        Counters::set(&counters.read_offset, 90);
        Counters::set(&counters.confirmed_offset, 70);
        Counters::set(&counters.master_offset, 100);
        let now = counters.snapshot();
        assert_eq!((now.phase, now.keys, now.lag()), (Phase::Following, 3, 30));
        for phase in Phase::ALL {
            counters.enter(phase);
            assert_eq!(counters.snapshot().phase, phase);
        }
        for side in [Some(Awaited::Source), Some(Awaited::Target), Some(Awaited::Resume), None] {
            counters.awaits(side);
            assert_eq!(counters.snapshot().awaited, side);
        }
    }
}
