//! What all rounds did together.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) rounds: usize,
    /// Of the faults, by their names.
    pub(super) faults: BTreeMap<&'static str, usize>,
    /// Transactions of which an `EXEC` or its reply was lost.
    pub(super) exec_cuts: BTreeMap<&'static str, usize>,
    /// Processes of the tool.
    pub(super) runs: usize,
    /// Those that ended by themselves and were started again.
    pub(super) given_up: usize,
    /// Those that were killed when they were about to be done.
    pub(super) killed_at_end: usize,
    /// Jobs that had ended when their process was killed.
    pub(super) done_when_killed: usize,
    pub(super) full: usize,
    pub(super) partial: usize,
    /// Commands that the writers wrote, and those that the source refused.
    pub(super) written: u64,
    pub(super) refused: u64,
    /// Keys that were compared.
    pub(super) keys: usize,
    /// Rounds that ended with the exit code 1.
    pub(super) unproven: usize,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &other.exec_cuts {
            *self.exec_cuts.entry(name).or_default() += count;
        }
        self.runs += other.runs;
        self.given_up += other.given_up;
        self.killed_at_end += other.killed_at_end;
        self.done_when_killed += other.done_when_killed;
        self.full += other.full;
        self.partial += other.partial;
        self.written += other.written;
        self.refused += other.refused;
        self.keys += other.keys;
        self.unproven += other.unproven;
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |of: &BTreeMap<&str, usize>| {
            let parts: Vec<_> = of.iter().map(|(name, count)| format!("{name} {count}")).collect();
            format!("{} ({})", of.values().sum::<usize>(), parts.join(", "))
        };
        write!(
            f,
            "{} rounds, faults {}, cuts of an EXEC {}, {} runs, of which {} gave up and {} were killed about to end ({} when they had ended their job); \
             {} full and {} partial synchronizations; {} commands written and {} refused, {} keys compared, {} rounds not proven",
            self.rounds,
            list(&self.faults),
            list(&self.exec_cuts),
            self.runs,
            self.given_up,
            self.killed_at_end,
            self.done_when_killed,
            self.full,
            self.partial,
            self.written,
            self.refused,
            self.keys,
            self.unproven,
        )
    }
}
