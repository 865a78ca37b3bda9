//! When a source's stream has come to its end: nothing that writes has come for a while, and all that the master has was looked at. Pure.

use std::time::Duration;

/// What is known of a source at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Commands of its stream that write, as far as the stream was looked at.
    pub writes: u64,
    /// Up to where it was looked at.
    pub looked: u64,
    /// Where the master's stream stands; `None` if it has no offsets.
    pub master: Option<u64>,
}

/// Waits for the silence of one source.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// For so long nothing must have come.
    lasting: Duration,
    /// Since when it has lasted, with how many writes before, and where the master stood then.
    since: Option<(Duration, u64, Option<u64>)>,
}

impl Silence {
    /// A silence that is to last so long.
    #[must_use]
    pub const fn lasting(lasting: Duration) -> Self {
        Self { lasting, since: None }
    }

    /// Takes what is seen at `now`. Says whether the silence has lasted long enough by now.
    pub fn see(&mut self, now: Duration, seen: Seen) -> bool {
        let lasts = self.since.filter(|(_, writes, _)| *writes == seen.writes);
        let (since, _, stood) =
            *self.since.insert(lasts.unwrap_or((now, seen.writes, seen.master)));
        // What the master had when the silence was over must have been looked at: a write may be on its way for longer.
        now.saturating_sub(since) >= self.lasting
            && seen.master.is_none_or(|master| seen.looked >= master)
            && stood.is_none_or(|stood| seen.looked >= stood)
    }
}

impl Seen {
    /// Whether what was looked at is all that the master had said when it was asked, and nothing that came behind its answer.
    #[must_use]
    pub fn is_of_one_moment(&self) -> bool {
        self.master.is_none_or(|master| self.looked == master)
    }
}

/// Whether nothing but what a deadline takes away has come since: no write, and no more removals than keys had died when the master was asked. `None`
/// if it must be asked again: not all that it had said was looked at, or a key that has died since it was.
#[must_use]
pub fn is_untouched(then: Seen, now: Seen, removals: u64, died: u64) -> Option<bool> {
    if now.writes != then.writes {
        return Some(false);
    }
    let is_behind = now.master.is_some_and(|master| now.looked < master);
    let is_told = !is_behind && (removals <= died || now.is_of_one_moment());
    is_told.then_some(removals <= died)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(writes: u64, looked: u64, master: u64) -> Seen {
        Seen { writes, looked, master: Some(master) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_write_begins_it_anew() {
        let mut silence = Silence::lasting(ms(200));
        assert!(!silence.see(ms(1000), seen(5, 70, 70)));
        assert!(!silence.see(ms(1199), seen(5, 70, 70)));
        assert!(!silence.see(ms(1250), seen(6, 90, 90)));
        assert!(!silence.see(ms(1449), seen(6, 90, 90)));
        // A PING.
        assert!(silence.see(ms(1450), seen(6, 104, 104)));
    }

    #[test]
    fn what_was_not_looked_at_may_be_a_write() {
        let mut silence = Silence::lasting(ms(200));
        silence.see(ms(0), seen(5, 70, 500));
        assert!(!silence.see(ms(900), seen(5, 70, 500)));
        assert!(silence.see(ms(950), seen(5, 500, 500)));
        let mut old = Silence::lasting(ms(200));
        assert!(!old.see(ms(0), Seen { writes: 1, looked: 0, master: None }));
        assert!(old.see(ms(200), Seen { writes: 1, looked: 0, master: None }));
    }

    #[test]
    fn keys_that_die_are_no_writes() {
        let then = seen(5, 70, 70);
        assert_eq!(is_untouched(then, seen(5, 90, 90), 2, 2), Some(true));
        let deleted = "somebody has deleted a key";
        assert_eq!(is_untouched(then, seen(5, 90, 90), 3, 2), Some(false), "{deleted}");
        assert_eq!(is_untouched(then, seen(6, 90, 90), 0, 0), Some(false));
        assert_eq!(is_untouched(then, seen(5, 70, 90), 0, 0), None, "it was not looked at");
        assert_eq!(is_untouched(then, seen(5, 110, 90), 3, 2), None, "one died since it was asked");
        assert_eq!(is_untouched(then, seen(5, 110, 90), 2, 2), Some(true));
        assert_eq!(is_untouched(then, seen(6, 70, 90), 0, 0), Some(false));
    }
}
