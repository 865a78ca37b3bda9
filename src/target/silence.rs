//! For how long a target has answered nothing.

use std::time::Duration;

/// How long commands have been unanswered over a link on which nothing has come, and how long they may be.
///
/// A link that took no more and now takes something again is as alive as one over which something comes: one large value may be on its way
/// for minutes before there is anything to answer.
#[derive(Debug)]
pub(super) struct Silence {
    /// When the link last moved, while answers are owed.
    since: Option<Duration>,
    /// The link takes no more for now.
    full: bool,
    moved: bool,
    patience: Duration,
}

impl Silence {
    /// With so much patience at first.
    pub(super) fn new(patience: Duration) -> Self {
        Self { since: None, full: false, moved: false, patience }
    }

    /// Answers are owed, or all have come.
    pub(super) fn owes(&mut self, owes: bool, now: Duration) {
        let moved = std::mem::take(&mut self.moved);
        match (owes, self.since) {
            (false, _) => self.since = None,
            (true, Some(_)) if !moved => {}
            (true, _) => self.since = Some(now),
        }
    }

    /// Something has come, or the link is a new one.
    pub(super) fn heard(&mut self) {
        (self.moved, self.full) = (true, false);
    }

    /// The link takes no more for now.
    pub(super) fn is_full(&mut self) {
        self.full = true;
    }

    /// The link has taken something.
    pub(super) fn takes(&mut self, now: Duration) {
        if std::mem::take(&mut self.full) && self.since.is_some() {
            self.since = Some(now);
        }
    }

    /// Since when nothing has moved, if answers are owed.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// When the link is to be given up, if answers are owed.
    pub(super) fn until(&self) -> Option<Duration> {
        self.since.map(|since| since.saturating_add(self.patience))
    }

    /// The link is given up: for how long nothing has come. The next one has twice the patience, so that a command which takes longer than
    /// that is not sent again for ever.
    pub(super) fn broken(&mut self, now: Duration) -> Duration {
        self.patience = self.patience.saturating_mul(2).min(MOST);
        now.saturating_sub(self.since.take().unwrap_or(now))
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

/// However often a link was given up: no command takes longer that is any good.
const MOST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_counts_from_when_the_first_answer_was_owed() {
        let mut silence = Silence::new(at(60));
        silence.owes(false, at(5));
        assert_eq!((silence.since(), silence.until()), (None, None));
        silence.owes(true, at(100));
        silence.owes(true, at(130));
        assert_eq!((silence.since(), silence.until()), (Some(at(100)), Some(at(160))));
        silence.heard();
        silence.owes(true, at(150));
        assert_eq!(silence.until(), Some(at(210)));
        silence.heard();
        silence.owes(false, at(151));
        silence.owes(true, at(900));
        assert_eq!(silence.until(), Some(at(960)), "nothing was owed meanwhile");
    }

    #[test]
    fn a_link_that_takes_again_is_alive() {
        let mut silence = Silence::new(at(60));
        silence.owes(true, at(0));
        silence.takes(at(30));
        assert_eq!(silence.since(), Some(at(0)), "a buffer took it, and nobody need have got it");
        silence.is_full();
        silence.takes(at(50));
        assert_eq!(silence.since(), Some(at(50)));
    }

    #[test]
    fn patience_grows() {
        let mut silence = Silence::new(at(60));
        for (begun, patience) in [(0, 60), (1000, 120), (2000, 240)] {
            silence.owes(true, at(begun));
            assert_eq!(silence.until(), Some(at(begun + patience)));
            assert_eq!(silence.broken(at(begun + patience)), at(patience));
        }
        for _ in 0..10 {
            silence.broken(at(0));
        }
        assert_eq!(silence.patience(), MOST);
    }
}
