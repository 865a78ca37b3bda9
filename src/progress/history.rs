//! What lanes did over time, for a report: in memory that does not grow, however long a run lasts.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use super::Snapshot;

/// See the module. The stretches of all lanes begin and end together, so that they can be added up.
#[derive(Clone, Debug)]
pub struct History {
    /// When each stretch ended.
    ends: Vec<Duration>,
    lanes: Vec<Course>,
    /// How long a stretch is at the least.
    step: Duration,
    noted: Duration,
}

/// What one lane did.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Stretch by stretch, the oldest first.
    pub stretches: Vec<Stretch>,
    /// How long it did what, by the words for it.
    pub lasted: BTreeMap<&'static str, Duration>,
    open: Stretch,
    last: Snapshot,
}

/// What a lane did in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Keys that the target has confirmed.
    pub keys: u64,
    /// Commands of the stream that it has confirmed.
    pub commands: u64,
    /// Bytes that were read from the source.
    pub bytes: u64,
    /// The most bytes of the stream that the target had not confirmed; `None` while nobody knew.
    pub lag: Option<u64>,
    /// What went on, in a word or two. That somebody was waited for goes before what else went on.
    pub doing: &'static str,
    /// Somebody was waited for.
    pub is_held_up: bool,
}

/// So many stretches are kept. When there are more each two become one, and new ones are twice as long.
const MOST: usize = 120;
const FIRST_STEP: Duration = Duration::from_millis(200);

impl History {
    /// That of so many lanes, of which nothing is known yet. Times are counted from here.
    #[must_use]
    pub fn of(lanes: usize) -> Self {
        Self {
            ends: Vec::new(),
            lanes: vec![Course::default(); lanes],
            step: FIRST_STEP,
            noted: Duration::ZERO,
        }
    }

    /// Takes the numbers of all lanes as they stand at this time.
    pub fn note(&mut self, now: Duration, lanes: impl IntoIterator<Item = Snapshot>) {
        let since = now.saturating_sub(self.noted);
        for (course, snapshot) in self.lanes.iter_mut().zip(lanes) {
            course.note(snapshot, since);
        }
        self.noted = now;
        if now.saturating_sub(self.ends.last().copied().unwrap_or_default()) >= self.step {
            self.close();
        }
    }

    /// Nothing comes behind what was noted.
    pub fn end(&mut self) {
        if self.ends.last().copied().unwrap_or_default() < self.noted {
            self.close();
        }
    }

    /// When each stretch ended.
    #[must_use]
    pub fn ends(&self) -> &[Duration] {
        &self.ends
    }

    /// What each lane did.
    #[must_use]
    pub fn lanes(&self) -> &[Course] {
        &self.lanes
    }

    fn close(&mut self) {
        self.ends.push(self.noted);
        self.lanes.iter_mut().for_each(Course::close);
        if self.ends.len() >= MOST {
            self.step *= 2;
            self.ends = self.ends.chunks(2).filter_map(|two| two.last().copied()).collect();
            self.lanes.iter_mut().for_each(Course::halve);
        }
    }
}

impl Course {
    fn note(&mut self, now: Snapshot, since: Duration) {
        // A number that was set back has grown from nothing.
        let grown = |number: fn(&Snapshot) -> u64| {
            let (before, after) = (number(&self.last), number(&now));
            after.checked_sub(before).unwrap_or(after)
        };
        let lasted = self.lasted.entry(self.last.doing()).or_default();
        *lasted = lasted.saturating_add(since);
        self.open = self.open.then(Stretch {
            keys: grown(|now| now.keys),
            commands: grown(|now| now.commands),
            bytes: grown(|now| now.bytes),
            lag: now.known_lag(),
            doing: now.doing(),
            is_held_up: now.is_held_up(),
        });
        self.last = now;
    }

    fn close(&mut self) {
        self.stretches.push(mem::take(&mut self.open));
    }

    fn halve(&mut self) {
        let two = self.stretches.chunks(2);
        self.stretches = two.filter_map(|two| two.iter().copied().reduce(Stretch::then)).collect();
    }
}

impl Stretch {
    /// Both together.
    fn then(self, later: Self) -> Self {
        let told = if self.is_held_up && !later.is_held_up { self } else { later };
        Self {
            keys: self.keys.saturating_add(later.keys),
            commands: self.commands.saturating_add(later.commands),
            bytes: self.bytes.saturating_add(later.bytes),
            lag: self.lag.max(later.lag),
            doing: told.doing,
            is_held_up: told.is_held_up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Awaited, Phase};
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn copying(keys: u64) -> Snapshot {
        Snapshot { phase: Phase::Copying, keys, ..Snapshot::default() }
    }

    fn following(lag: u64) -> Snapshot {
        let (master_offset, confirmed_offset) = (1000 + lag, 1000);
        Snapshot { phase: Phase::Following, master_offset, confirmed_offset, ..copying(500) }
    }

    #[test]
    fn a_stretch_tells_what_was_done_in_it_and_how_far_the_target_was_behind_at_the_most() {
        let mut history = History::of(1);
        history.note(ms(80), [copying(100)]);
        assert!(history.ends().is_empty());
        history.note(ms(220), [copying(500)]);
        history.note(ms(260), [following(90)]);
        history.note(ms(440), [following(10)]);
        history.note(ms(460), [following(0)]);
        history.end();
        history.end();
        assert_eq!(history.ends(), [220, 440, 460].map(ms));
        let told: Vec<_> =
            history.lanes()[0].stretches.iter().map(|s| (s.keys, s.lag, s.doing)).collect();
        assert_eq!(
            told,
            [(500, None, "copying"), (0, Some(90), "following"), (0, Some(0), "following")]
        );
    }

    #[test]
    fn it_does_not_grow_and_loses_nothing() {
        let mut history = History::of(2);
        for second in 1..=100_000_u64 {
            let outage = (second == 77_777).then_some(Awaited::Source);
            let one = Snapshot { awaited: outage, ..following(second % 1000) };
            history.note(ms(1000 * second), [copying(second), one]);
        }
        history.end();
        let count = history.ends().len();
        assert!((MOST / 2..=MOST).contains(&count), "{count}");
        let [one, other] = history.lanes() else { panic!() };
        assert_eq!((one.stretches.len(), other.stretches.len()), (count, count));
        assert_eq!(one.stretches.iter().map(|stretch| stretch.keys).sum::<u64>(), 100_000);
        assert_eq!(other.stretches[3].lag, Some(999), "the most of it, not one of them");
        let held_up = other.stretches.iter().filter(|one| one.doing == "waiting for source");
        assert_eq!(held_up.count(), 1, "one second of a day is seen");
        assert_eq!(history.ends().last(), Some(&ms(100_000_000)));
    }

    #[test]
    fn a_number_that_begins_anew_has_grown_by_what_it_is() {
        let mut history = History::of(1);
        history.note(ms(1000), [copying(900)]);
        history.note(ms(2000), [copying(300)]);
        let keys: Vec<u64> = history.lanes()[0].stretches.iter().map(|s| s.keys).collect();
        assert_eq!(keys, [900, 300]);
    }

    #[test]
    fn how_long_it_did_what_does_not_depend_on_stretches() {
        let mut history = History::of(1);
        history.note(ms(100), [copying(1)]);
        history.note(ms(350), [following(0)]);
        history.note(ms(360), [following(0)]);
        let lasted: Vec<_> =
            history.lanes()[0].lasted.iter().map(|(what, long)| (*what, *long)).collect();
        assert_eq!(lasted, [("copying", ms(250)), ("following", ms(10)), ("waiting", ms(100))]);
    }
}
