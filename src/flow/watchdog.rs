//! Why a lane stands still, and when that is said. Pure: facts and the time come in, a line goes out.
//!
//! A lane waits all the time; what is told is a wait in which nothing has moved for [`FIRST`], once, and again each time it has lasted twice as
//! long. A source that is silent because nothing is written to it is none.

use std::mem::discriminant;
use std::time::Duration;

use crate::progress::{Wait, Waiting};

/// For how long nothing may move before it is said. A round trip, a fork and a slow command take seconds; a person looks after half a
/// minute.
pub(super) const FIRST: Duration = Duration::from_secs(30);

/// What a lane knows of itself at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact")]
pub(super) struct Facts {
    pub(super) is_target_lost: bool,
    /// Commands that the target has not answered, and since when it has said nothing.
    pub(super) unanswered: Option<(u64, Duration)>,
    /// The target refuses to go on.
    pub(super) is_refused: bool,
    pub(super) is_paused: bool,
    /// The target is asked for names.
    pub(super) asks_target: bool,
    /// The source is asked for something beside its stream.
    pub(super) asks_source: bool,
    pub(super) is_source_lost: bool,
    /// All that is wanted of the source has been taken.
    pub(super) needs_no_source: bool,
    pub(super) lacks_memory: bool,
    /// The source is not read, for what waits in the spool.
    pub(super) is_spool_full: bool,
    pub(super) is_limited: bool,
    pub(super) lacks_room: bool,
    /// The source has begun to send its data set, or goes on with its stream.
    pub(super) has_begun: bool,
    pub(super) is_copying: bool,
    pub(super) in_transaction: bool,
    /// When the source was heard last, or a question answered.
    pub(super) moved: Duration,
}

impl Facts {
    /// Whom it waits for: of several the one without which the others cannot go on either.
    fn wait(&self, now: Duration) -> Option<Wait> {
        // A target that answers, and too slowly, holds up nothing but the reading.
        let unanswered = self
            .unanswered
            .filter(|(_, since)| !self.is_spool_full || now.saturating_sub(*since) >= FIRST);
        let first = [
            (self.is_target_lost, Wait::TargetLost),
            (unanswered.is_some(), Wait::Answers(unanswered.map_or(0, |(n, _)| n))),
            (self.is_refused, Wait::Refused),
            (self.is_paused, Wait::Paused),
            (self.asks_target, Wait::Names),
            (self.asks_source, Wait::Question),
        ];
        let source = [
            (self.is_source_lost, Wait::SourceLost),
            (self.lacks_memory, Wait::Memory),
            (self.is_spool_full, Wait::Spool),
            (self.is_limited, Wait::Limit),
            (self.lacks_room, Wait::Room),
            (!self.has_begun, Wait::Beginning),
            (self.is_copying, Wait::Copy),
            (self.in_transaction, Wait::Transaction),
        ];
        let source = source.into_iter().filter(|_| !self.needs_no_source);
        first.into_iter().chain(source).find_map(|(is_so, wait)| is_so.then_some(wait))
    }

    /// When that which is waited for last moved; `None` if it does not until the wait is over.
    fn moved(&self, wait: Wait) -> Option<Duration> {
        match wait {
            Wait::Answers(_) => self.unanswered.map(|(_, since)| since),
            Wait::TargetLost
            | Wait::SourceLost
            | Wait::Refused
            | Wait::Paused
            | Wait::Spool
            | Wait::Beginning => None,
            Wait::Names
            | Wait::Question
            | Wait::Limit
            | Wait::Memory
            | Wait::Room
            | Wait::Copy
            | Wait::Transaction => Some(self.moved),
        }
    }
}

/// Looks after one lane.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    waiting: Option<Waiting>,
    /// For how long it must last to be told of, again.
    patience: Duration,
}

impl Watchdog {
    /// Takes the facts as they stand. Gives the wait if it is to be told of now.
    pub(super) fn look(&mut self, now: Duration, facts: &Facts) -> Option<Waiting> {
        let Some(wait) = facts.wait(now) else {
            self.waiting = None;
            return None;
        };
        let before = self.waiting.filter(|one| discriminant(&one.wait) == discriminant(&wait));
        let since = match (before, facts.moved(wait)) {
            (Some(one), Some(moved)) => one.since.max(moved),
            (Some(one), None) => one.since,
            (None, _) if matches!(wait, Wait::Answers(_)) => facts.moved(wait).unwrap_or(now),
            (None, _) => now,
        };
        if before.is_none_or(|one| one.since != since) {
            self.patience = FIRST;
        }
        let waiting = Waiting { wait, since };
        self.waiting = Some(waiting);
        if wait.is_loss() || now.saturating_sub(since) < self.patience {
            return None;
        }
        while now.saturating_sub(since) >= self.patience {
            self.patience = self.patience.saturating_mul(2);
        }
        Some(waiting)
    }

    /// What is waited for.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        self.waiting
    }

    /// When to look again, if nothing else comes before.
    pub(super) fn next(&self) -> Option<Duration> {
        let waiting = self.waiting.filter(|one| !one.wait.is_loss())?;
        Some(waiting.since.saturating_add(self.patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A lane that follows, and for which there is nothing to do.
    fn idle() -> Facts {
        Facts { has_begun: true, ..Facts::default() }
    }

    #[test]
    fn an_idle_stream_is_no_stall() {
        let mut dog = Watchdog::default();
        for second in 0..10_000 {
            assert_eq!(dog.look(at(second), &idle()), None);
        }
        assert_eq!(dog.next(), None);
    }

    #[test]
    fn it_is_told_once_and_then_at_twice_the_time() {
        let mut dog = Watchdog::default();
        let facts = Facts { unanswered: Some((512, at(8))), ..idle() };
        let told: Vec<u64> =
            (10..500).filter(|second| dog.look(at(*second), &facts).is_some()).collect();
        assert_eq!(told, [38, 68, 128, 248, 488]);
        assert_eq!(dog.next(), Some(at(8 + 960)));
        assert_eq!(dog.waiting().unwrap().wait, Wait::Answers(512));
    }

    #[test]
    fn what_moves_is_not_told() {
        let mut dog = Watchdog::default();
        for second in (0..1000).step_by(10) {
            let answers = Facts { unanswered: Some((second, at(second))), ..idle() };
            assert_eq!(dog.look(at(second + 9), &answers), None);
        }
        let silent = Facts { is_copying: true, moved: at(1000), ..idle() };
        assert_eq!(dog.look(at(1029), &silent), None);
        assert_eq!(dog.look(at(1058), &silent), None, "it has waited for this since the last look");
        let told = dog.look(at(1059), &silent).unwrap();
        assert_eq!((told.wait, told.since), (Wait::Copy, at(1029)));
        // It has moved in between, and stands again.
        let silent = Facts { moved: at(1100), ..silent };
        assert_eq!(dog.look(at(1129), &silent), None);
        assert!(dog.look(at(1130), &silent).is_some());
    }

    /// Its answers come all the time, so that none is waited for long, and the source is not read all the same.
    #[test]
    fn a_slow_target_that_leaves_the_spool_full_is_told() {
        let mut dog = Watchdog::default();
        let facts = |second, since| Facts {
            unanswered: Some((40, at(since))),
            is_spool_full: true,
            moved: at(second),
            ..idle()
        };
        let told: Vec<u64> =
            (10..200).filter(|now| dog.look(at(*now), &facts(*now, *now)).is_some()).collect();
        assert_eq!(told, [40, 70, 130]);
        assert_eq!(dog.waiting(), Some(Waiting { wait: Wait::Spool, since: at(10) }));
        // One that says nothing at all is told as such.
        let told = (200..300).find_map(|now| dog.look(at(now), &facts(199, 199)));
        assert_eq!(told, Some(Waiting { wait: Wait::Answers(40), since: at(199) }));
        // There is room again.
        let facts = Facts { is_spool_full: false, unanswered: None, ..facts(300, 300) };
        assert_eq!((dog.look(at(300), &facts), dog.waiting()), (None, None));
    }

    #[test]
    fn whoever_holds_up_the_others_is_named() {
        let all = Facts {
            is_target_lost: true,
            unanswered: Some((1, at(0))),
            is_refused: true,
            is_paused: true,
            asks_target: true,
            asks_source: true,
            is_source_lost: true,
            needs_no_source: false,
            lacks_memory: true,
            is_spool_full: true,
            is_limited: true,
            lacks_room: true,
            has_begun: false,
            is_copying: true,
            in_transaction: true,
            moved: at(0),
        };
        let named = |facts: Facts| facts.wait(FIRST);
        assert_eq!(named(all), Some(Wait::TargetLost));
        let mut facts = Facts { is_target_lost: false, ..all };
        assert_eq!(named(facts), Some(Wait::Answers(1)));
        (facts.unanswered, facts.is_refused) = (None, false);
        assert_eq!(named(facts), Some(Wait::Paused));
        (facts.is_paused, facts.asks_target, facts.asks_source) = (false, false, false);
        assert_eq!(named(facts), Some(Wait::SourceLost));
        assert_eq!(named(Facts { needs_no_source: true, ..facts }), None);
        facts.is_source_lost = false;
        assert_eq!(named(facts), Some(Wait::Memory));
        facts.lacks_memory = false;
        assert_eq!(named(facts), Some(Wait::Spool));
        facts.is_spool_full = false;
        assert_eq!(named(facts), Some(Wait::Limit));
        facts.is_limited = false;
        assert_eq!(named(facts), Some(Wait::Room));
        facts.lacks_room = false;
        assert_eq!(named(facts), Some(Wait::Beginning));
        facts.has_begun = true;
        assert_eq!(named(facts), Some(Wait::Copy));
        facts.is_copying = false;
        assert_eq!(named(facts), Some(Wait::Transaction));
    }

    #[test]
    fn a_side_that_is_lost_is_told_by_whoever_tries_again() {
        let mut dog = Watchdog::default();
        let lost = Facts { is_target_lost: true, ..idle() };
        assert_eq!(dog.look(at(0), &lost), None);
        assert_eq!(dog.look(at(9000), &lost), None);
        assert_eq!(dog.next(), None);
        assert_eq!(dog.waiting().unwrap().since, at(0));
    }
}
