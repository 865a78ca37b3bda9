//! Of many sources, which ones have a line of their own: those on which something goes on. The others are counted in one.

use understudy::progress::Phase;

use super::reading::Reading;

/// So many sources have a line each; of more the quiet ones are folded.
pub(super) const LINES: usize = 10;

/// What is shown of many sources.
#[derive(Debug, PartialEq)]
pub(super) struct Folded {
    /// Those with a line of their own, in the order of the plan.
    pub(super) shown: Vec<usize>,
    /// The others, if there are any: how many wait, follow, have ended, and who is the slowest of all.
    pub(super) rest: Option<String>,
}

/// Folds the quiet ones of these sources, so that no more than [`LINES`] are left.
pub(super) fn fold(readings: &[(String, Reading)]) -> Folded {
    let mut order: Vec<usize> = (0..readings.len()).collect();
    let rank = |index: &usize| readings.get(*index).map_or(u8::MAX, |(_, reading)| quiet(reading));
    order.sort_by_key(rank);
    let quiet = order.split_off(order.len().min(LINES));
    order.sort_unstable();
    let mut rest: Vec<(&'static str, usize)> = Vec::new();
    for (_, reading) in quiet.iter().filter_map(|index| readings.get(*index)) {
        let doing = reading.doing();
        match rest.iter_mut().find(|(word, _)| *word == doing) {
            Some((_, count)) => *count += 1,
            None => rest.push((doing, 1)),
        }
    }
    let rest = (!rest.is_empty()).then(|| {
        let words: Vec<String> =
            rest.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let slowest =
            slowest(readings).map_or_else(String::new, |name| format!("; slowest: {name}"));
        format!("{} more: {}{slowest}", quiet.len(), words.join(", "))
    });
    Folded { shown: order, rest }
}

/// How little goes on.
fn quiet(reading: &Reading) -> u8 {
    match (reading.awaited.is_some(), reading.phase) {
        (true, phase) if !phase.is_end() => 0,
        (_, Phase::Failed | Phase::Refused) => 1,
        (_, Phase::Copying | Phase::Counting | Phase::CatchingUp | Phase::Finishing) => 2,
        (_, Phase::Following) if reading.lag_seconds.is_none_or(|lag| lag >= 1.0) => 3,
        (_, Phase::Connecting) => 4,
        (_, Phase::Following) => 5,
        (_, Phase::Waiting) => 6,
        (_, Phase::Stopped | Phase::Done) => 7,
    }
}

/// The source that will be the last to have been copied, or to have caught up.
fn slowest(readings: &[(String, Reading)]) -> Option<&str> {
    let all = readings.iter().filter_map(|(name, reading)| Some((name, reading.eta?)));
    all.max_by_key(|(_, eta)| *eta).map(|(name, _)| name.as_str())
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

    #[test]
    fn few_are_all_shown() {
        let folded = fold(&sources(&[Phase::Done, Phase::Waiting, Phase::Copying]));
        assert_eq!(folded, Folded { shown: vec![0, 1, 2], rest: None });
    }

    #[test]
    fn of_many_the_quiet_ones_are_counted() {
        let mut phases = [Phase::Waiting; 37];
        phases[..9].fill(Phase::Done);
        phases[20] = Phase::Copying;
        phases[30] = Phase::Copying;
        phases[36] = Phase::Failed;
        let folded = fold(&sources(&phases));
        assert_eq!(folded.shown, [9, 10, 11, 12, 13, 14, 15, 20, 30, 36]);
        let rest = "27 more: 18 waiting, 9 done; slowest: old-30";
        assert_eq!(folded.rest.as_deref(), Some(rest));
    }
}
