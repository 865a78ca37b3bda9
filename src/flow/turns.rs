//! Which sources copy now, and which wait for their turn: a master forks for a copy, and several forks on one host at a time may take
//! more memory than it has.
//!
//! ```text
//!  Undecided ──▶ Asks ──▶ Forks ──▶ Copies ──▶ Out
//!      │        its turn   the      its data    the copy
//!      │                   master    set        has been
//!      └─ goes on ───▶ Out saves    arrives     taken
//! ```
//! A master that saves to a disk has forked once its data set begins to come; one that does not, once all of it was sent, however much of that
//! still waits here. The largest goes first, so that none is alone at the end for long. Nobody begins before all have seen from their records whether they
//! copy at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::plan::{Facts, Plan};

/// The turns of all sources of a run.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    queue: Arc<Mutex<Queue>>,
    changed: Arc<watch::Sender<()>>,
}

/// One source's turn.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    turns: Turns,
    index: usize,
}

/// Ends a source's turn when it goes, however the source has ended.
#[derive(Debug)]
pub(super) struct Guard(Turn);

impl Turns {
    pub(super) fn new(plan: &Plan, facts: &Facts) -> Self {
        let entries = plan.sources.iter().enumerate().map(|(index, source)| {
            let facts = facts.sources.get(index).and_then(Option::as_ref);
            let size = facts.map_or(0, |facts| facts.used_memory);
            Entry { host: source.place.forks_on(), size, state: State::Undecided }
        });
        let queue = Queue {
            at_once: plan.sources_at_once(),
            per_host: plan.per_host,
            entries: entries.collect(),
        };
        Self { queue: Arc::new(Mutex::new(queue)), changed: Arc::new(watch::Sender::new(())) }
    }

    pub(super) fn of(&self, index: usize) -> Turn {
        Turn { turns: self.clone(), index }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Asks for a turn to begin a copy; whatever turn it had before is over. Says whether it may begin now.
    pub(super) fn asks(&self) -> bool {
        self.becomes(State::Asks);
        self.turns.queue().begins(self.index)
    }

    /// Waits until a source that has asked may begin. Nothing is lost if the future is dropped.
    pub(super) async fn comes(&self) {
        let mut changed = self.turns.changed.subscribe();
        while !self.turns.queue().begins(self.index) {
            // The sender is ours: it is not gone.
            let _ = changed.changed().await;
        }
    }

    /// Its master has saved: another one on the same host may.
    pub(super) fn has_forked(&self) {
        let forks = self.turns.queue().state(self.index) == Some(State::Forks);
        if forks {
            self.becomes(State::Copies);
        }
    }

    /// It copies no more, or never did.
    pub(super) fn is_over(&self) {
        self.becomes(State::Out);
    }

    /// The same, when what is given goes.
    pub(super) fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    fn becomes(&self, state: State) {
        self.turns.queue().set(self.index, state);
        self.turns.changed.send_replace(());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.is_over();
    }
}

#[derive(Debug)]
struct Queue {
    at_once: usize,
    per_host: usize,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` where nobody forks.
    host: Option<String>,
    /// What its data takes in its memory.
    size: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Undecided,
    Asks,
    Forks,
    Copies,
    Out,
}

impl Queue {
    fn state(&self, index: usize) -> Option<State> {
        self.entries.get(index).map(|entry| entry.state)
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = state;
        }
    }

    /// Begins this source's copy if it is its turn.
    fn begins(&mut self, index: usize) -> bool {
        let is_next = self.next() == Some(index);
        if is_next {
            self.set(index, State::Forks);
        }
        is_next
    }

    /// Whose turn it is: the largest of those that may begin.
    fn next(&self) -> Option<usize> {
        let all = || self.entries.iter().enumerate();
        let copies = |state| matches!(state, State::Forks | State::Copies);
        if all().any(|(_, entry)| entry.state == State::Undecided)
            || all().filter(|(_, entry)| copies(entry.state)).count() >= self.at_once
        {
            return None;
        }
        let forks = |host: &str| {
            let here = |entry: &Entry| entry.host.as_deref() == Some(host);
            all().filter(|(_, entry)| entry.state == State::Forks && here(entry)).count()
        };
        let may = |entry: &Entry| {
            entry.state == State::Asks
                && entry.host.as_deref().is_none_or(|host| forks(host) < self.per_host)
        };
        let next = all().filter(|(_, entry)| may(entry));
        next.max_by_key(|(index, entry)| (entry.size, usize::MAX - index)).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(at_once: usize, per_host: usize, sources: &[(&str, u64)]) -> Queue {
        let entries = sources.iter().map(|&(host, size)| Entry {
            host: (!host.is_empty()).then(|| host.to_owned()),
            size,
            state: State::Asks,
        });
        Queue { at_once, per_host, entries: entries.collect() }
    }

    /// Lets all begin that may, and says which.
    fn begun(queue: &mut Queue) -> Vec<usize> {
        let mut begun = Vec::new();
        while let Some(next) = queue.next() {
            assert!(queue.begins(next));
            begun.push(next);
        }
        begun
    }

    #[test]
    fn the_largest_goes_first_and_one_fork_a_host() {
        let mut queue = queue(9, 1, &[("a", 1), ("a", 5), ("b", 3), ("a", 5), ("", 9), ("", 2)]);
        assert_eq!(begun(&mut queue), [4, 1, 2, 5]);
        queue.set(1, State::Copies);
        assert_eq!(begun(&mut queue), [3], "the fork is over, the copy is not");
        queue.set(3, State::Out);
        assert_eq!(begun(&mut queue), [0]);
    }

    #[test]
    fn so_many_copy_at_once() {
        let mut queue = queue(2, 9, &[("a", 1), ("a", 2), ("a", 3)]);
        assert_eq!(begun(&mut queue), [2, 1]);
        queue.set(2, State::Copies);
        assert_eq!(begun(&mut queue).len(), 0);
        queue.set(2, State::Out);
        assert_eq!(begun(&mut queue), [0]);
    }

    #[test]
    fn nobody_begins_before_all_have_decided() {
        let mut queue = queue(9, 9, &[("a", 1), ("b", 2)]);
        queue.set(1, State::Undecided);
        assert!(!queue.begins(0));
        queue.set(1, State::Out);
        assert!(queue.begins(0));
    }

    #[tokio::test]
    async fn a_turn_that_ends_lets_the_next_begin() {
        let queue = queue(1, 1, &[("a", 1), ("a", 2)]);
        let changed = Arc::new(watch::Sender::new(()));
        let turns = Turns { queue: Arc::new(Mutex::new(queue)), changed };
        let (small, large) = (turns.of(0), turns.of(1));
        assert!(!small.asks() && large.asks());
        let mut waits = Box::pin(small.comes());
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx)));
        assert!(first.await.is_pending());
        drop(large.guard());
        waits.await;
        small.has_forked();
        assert_eq!(turns.queue().state(0), Some(State::Copies));
    }
}
