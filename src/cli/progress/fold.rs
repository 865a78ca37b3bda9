//! Of many sources, which ones have a line of their own: those on which something goes on. The others are counted in one.

use understudy::progress::Phase;

use super::reading::Reading;

/// So many sources have a line each; of more the quiet ones are folded.
pub(in crate::cli) const LINES: usize = 10;

/// What is shown of many sources.
#[derive(Debug, PartialEq)]
pub(in crate::cli) struct Folded {
    /// Those with a line of their own, in the order of the plan.
    pub(in crate::cli) shown: Vec<usize>,
    /// The others, if there are any: how many wait, follow, have ended, and who is the slowest of all.
    pub(in crate::cli) rest: Option<String>,
}

/// One of many sources, as far as its place among them goes.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Line<'a> {
    pub(in crate::cli) name: &'a str,
    /// What goes on, in a word or two.
    pub(in crate::cli) doing: &'a str,
    pub(in crate::cli) phase: Phase,
    /// Something holds it up.
    pub(in crate::cli) is_held_up: bool,
    /// It follows, and not at its master's heels.
    pub(in crate::cli) lags: bool,
    /// How much is left until it has been copied, or has caught up. The greatest is the slowest's.
    pub(in crate::cli) left: Option<u128>,
}

impl<'a> Line<'a> {
    /// That of a reading.
    pub(super) fn of((name, reading): &'a (String, Reading)) -> Self {
        Self {
            name,
            doing: reading.doing(),
            phase: reading.phase,
            is_held_up: reading.awaited.is_some(),
            lags: reading.lag_seconds.is_none_or(|lag| lag >= 1.0),
            left: reading.eta.map(|eta| eta.as_millis()),
        }
    }

    /// How little goes on.
    fn quiet(&self) -> u8 {
        match (self.is_held_up, self.phase) {
            (true, phase) if !phase.is_end() => 0,
            (_, Phase::Failed | Phase::Refused) => 1,
            (_, Phase::Copying | Phase::Counting | Phase::CatchingUp | Phase::Finishing) => 2,
            (_, Phase::Following) if self.lags => 3,
            (_, Phase::Connecting) => 4,
            (_, Phase::Following | Phase::Settled | Phase::Watching) => 5,
            (_, Phase::Waiting) => 6,
            (_, Phase::Stopped | Phase::Done) => 7,
        }
    }
}

/// Folds the quiet ones of these sources, so that no more than [`LINES`] are left.
pub(in crate::cli) fn fold(lines: &[Line<'_>]) -> Folded {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|index| lines.get(*index).map_or(u8::MAX, Line::quiet));
    let quiet = order.split_off(order.len().min(LINES));
    order.sort_unstable();
    let mut rest: Vec<(&str, usize)> = Vec::new();
    for line in quiet.iter().filter_map(|index| lines.get(*index)) {
        match rest.iter_mut().find(|(word, _)| *word == line.doing) {
            Some((_, count)) => *count += 1,
            None => rest.push((line.doing, 1)),
        }
    }
    let rest = (!rest.is_empty()).then(|| {
        let words: Vec<String> =
            rest.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let slowest = slowest(lines).map_or_else(String::new, |name| format!("; slowest: {name}"));
        format!("{} more: {}{slowest}", quiet.len(), words.join(", "))
    });
    Folded { shown: order, rest }
}

/// The source that will be the last to have been copied, or to have caught up.
fn slowest<'a>(lines: &[Line<'a>]) -> Option<&'a str> {
    let all = lines.iter().filter_map(|line| Some((line.name, line.left?)));
    all.max_by_key(|(_, left)| *left).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sources(phases: &[Phase]) -> Vec<(String, Reading)> {
        let named = phases.iter().enumerate().map(|(number, &phase)| {
            let eta = (phase == Phase::Copying).then(|| Duration::from_secs(number as u64));
            (format!("old-{number}"), Reading { phase, eta, ..Reading::default() })
        });
        named.collect()
    }

    fn folded(readings: &[(String, Reading)]) -> Folded {
        fold(&readings.iter().map(Line::of).collect::<Vec<_>>())
    }

    #[test]
    fn few_are_all_shown() {
        let folded = folded(&sources(&[Phase::Done, Phase::Waiting, Phase::Copying]));
        assert_eq!(folded, Folded { shown: vec![0, 1, 2], rest: None });
    }

    #[test]
    fn of_many_the_quiet_ones_are_counted() {
        let mut phases = [Phase::Waiting; 37];
        phases[..9].fill(Phase::Done);
        phases[20] = Phase::Copying;
        phases[30] = Phase::Copying;
        phases[36] = Phase::Failed;
        let folded = folded(&sources(&phases));
        assert_eq!(folded.shown, [9, 10, 11, 12, 13, 14, 15, 20, 30, 36]);
        let rest = "27 more: 18 waiting, 9 done; slowest: old-30";
        assert_eq!(folded.rest.as_deref(), Some(rest));
    }
}
