//! When a master's stream had reached which offset, as far as it was asked: what is read of it much later, behind a copy or out of a spool, was
//! written no later than that.

use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tide {
    /// Offsets, each with the first time at which the master told it.
    marks: VecDeque<(u64, i64)>,
    /// How far they are apart at the least, in milliseconds: a time that is told may be later by as much.
    apart: i64,
}

/// So many marks are kept. Of more every second one is, and new ones are twice as far apart.
const MOST: usize = 1024;

impl Tide {
    /// The master stands here at this time, in Unix milliseconds.
    pub(super) fn note(&mut self, offset: u64, at_ms: i64) {
        match self.marks.back() {
            Some((last, _)) if *last == offset => return,
            // Another history.
            Some((last, _)) if *last > offset => self.marks.clear(),
            _ => {}
        }
        let before = self.marks.len().checked_sub(2).and_then(|at| self.marks.get(at));
        if before.is_some_and(|(_, before)| at_ms.saturating_sub(*before) < self.apart) {
            self.marks.pop_back();
        }
        self.marks.push_back((offset, at_ms));
        if self.marks.len() > MOST {
            self.apart = (2 * self.apart).max(FIRST_APART);
            // The last one stays.
            let mut is_kept = self.marks.len().is_multiple_of(2);
            self.marks.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }

    /// By when the master had written all up to this offset; `None` if it had not told that yet. What lies before is forgotten.
    pub(super) fn by(&mut self, offset: u64) -> Option<i64> {
        while self.marks.front().is_some_and(|(mark, _)| *mark < offset) {
            self.marks.pop_front();
        }
        if self.marks.is_empty() {
            self.apart = 0;
        }
        self.marks.front().map(|(_, at)| *at)
    }
}

const FIRST_APART: i64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_long_ago_is_told_to_be() {
        let mut tide = Tide::default();
        assert_eq!(tide.by(0), None);
        for (offset, at) in [(10, 100), (10, 200), (25, 300), (40, 400)] {
            tide.note(offset, at);
        }
        assert_eq!(tide.by(7), Some(100));
        assert_eq!(tide.by(10), Some(100));
        assert_eq!(tide.by(11), Some(300));
        assert_eq!(tide.by(40), Some(400));
        assert_eq!(tide.by(41), None, "the master has not told that it was there");
    }

    #[test]
    fn another_history_begins_anew() {
        let mut tide = Tide::default();
        tide.note(500, 1);
        tide.note(20, 2);
        assert_eq!(tide.by(10), Some(2));
    }

    #[test]
    fn a_long_time_takes_little_and_is_told_never_too_early() {
        let mut tide = Tide::default();
        let reached = |second: i64| u64::try_from(second).unwrap() * 10;
        for second in 1..=36_000 {
            tide.note(reached(second), second * 1000);
        }
        assert!(tide.marks.len() <= MOST);
        for written in (1..=36_000).step_by(97) {
            let told = tide.by(reached(written)).unwrap() / 1000;
            assert!((written..=written + 100).contains(&told), "{written}: {told}");
        }
        assert_eq!(tide.by(reached(36_000)), Some(36_000_000));
    }
}
