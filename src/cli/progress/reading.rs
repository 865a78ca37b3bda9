//! From the numbers of a lane to what a person, or a script, wants to know of it. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use understudy::progress::Awaited;
use understudy::progress::Phase;
use understudy::progress::Snapshot;
use understudy::progress::doing;

/// Rates are those of so long: shorter, they jump; longer, they hide a stall.
const WINDOW: Duration = Duration::from_secs(5);

/// Follows the numbers of one source.
#[derive(Debug)]
pub(super) struct Meter {
    /// Keys that the source held before the copy began, if it told.
    expected_keys: Option<u64>,
    /// Readings within the window, the oldest first.
    past: VecDeque<(Duration, Snapshot)>,
    /// Since when the same goes on, and what.
    doing: Option<(Duration, &'static str)>,
}

/// What is going on with one source, or with all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) phase: Phase,
    /// The side without which nothing goes on for now.
    pub(super) awaited: Option<Awaited>,
    /// How long this has gone on.
    pub(super) lasting: Duration,
    /// How much of the data set has been read.
    pub(super) percent: Option<f64>,
    /// The percentage is of keys, as the source counted them before; not of bytes.
    pub(super) estimated: bool,
    pub(super) keys: u64,
    pub(super) commands: u64,
    pub(super) keys_per_s: f64,
    pub(super) commands_per_s: f64,
    /// Bytes read from the source.
    pub(super) bytes_per_s: f64,
    /// Bytes of the stream that the target has not confirmed; `None` before the stream begins.
    pub(super) lag_bytes: Option<u64>,
    /// How long the master took for these bytes, at its rate of now; `None` if it does not write.
    pub(super) lag_seconds: Option<f64>,
    /// Bytes sent to the target and not confirmed.
    pub(super) in_flight: u64,
    /// Bytes that were read from the source and wait to be taken.
    pub(super) spooled: u64,
    /// Keys that the source held before and that the target has not confirmed, until the copy is read.
    pub(super) left_keys: u64,
    /// Until the copy is read, or until the lane has caught up. `None` if it does not come nearer.
    pub(super) eta: Option<Duration>,
}

impl Meter {
    pub(super) fn new(expected_keys: Option<u64>) -> Self {
        let expected_keys = expected_keys.filter(|keys| *keys > 0);
        Self { expected_keys, past: VecDeque::new(), doing: None }
    }

    /// Takes the numbers as they stand at `now`.
    pub(super) fn read(&mut self, now: Duration, snapshot: Snapshot) -> Reading {
        self.past.push_back((now, snapshot));
        // One reading older than the window stays, so that rates are those of a whole window.
        while self.past.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.past.pop_front();
        }
        let rate = |number: fn(&Snapshot) -> u64| self.rate(number);
        let (percent, estimated, eta) = match snapshot.phase {
            Phase::Waiting
            | Phase::Connecting
            | Phase::Failed
            | Phase::Refused
            | Phase::Stopped => (None, false, None),
            Phase::Copying | Phase::Counting => {
                let (part, estimated, left, speed) = self.copied(&snapshot);
                (part, estimated, left.and_then(|left| time_for(left, speed)))
            }
            Phase::CatchingUp => {
                let nearer = self.offset_rate(|now| now.confirmed_offset)
                    - self.offset_rate(|now| now.master_offset);
                (Some(100.0), false, time_for(as_f64(snapshot.lag()), nearer))
            }
            Phase::Following
            | Phase::Finishing
            | Phase::Settled
            | Phase::Watching
            | Phase::Done => (Some(100.0), false, None),
        };
        let lag_bytes = snapshot.known_lag();
        let mut reading = Reading {
            phase: snapshot.phase,
            awaited: snapshot.awaited,
            lasting: Duration::ZERO,
            percent,
            estimated,
            keys: snapshot.keys,
            commands: snapshot.commands,
            keys_per_s: rate(|now| now.keys),
            commands_per_s: rate(|now| now.commands),
            bytes_per_s: rate(|now| now.bytes),
            lag_bytes,
            lag_seconds: lag_bytes.and_then(|lag| {
                let master = self.offset_rate(|now| now.master_offset.max(now.read_offset));
                if lag == 0 { Some(0.0) } else { (master > 0.0).then(|| as_f64(lag) / master) }
            }),
            in_flight: snapshot.in_flight,
            spooled: snapshot.spooled,
            left_keys: match snapshot.phase < Phase::CatchingUp {
                true => self.expected_keys.unwrap_or(0).saturating_sub(snapshot.keys),
                false => 0,
            },
            eta,
        };
        let doing = reading.doing();
        let (since, _) = *match &mut self.doing {
            Some(same) if same.1 == doing => same,
            other => other.insert((now, doing)),
        };
        reading.lasting = now.saturating_sub(since);
        reading
    }

    /// How much of the copy has been read in percent, whether that is of keys, what is left and at which rate it comes.
    fn copied(&self, now: &Snapshot) -> (Option<f64>, bool, Option<f64>, f64) {
        let (read, all, estimated, speed) = match (now.payload_size, self.expected_keys) {
            (0, None) => return (None, false, None, 0.0),
            (0, Some(keys)) => (now.keys_read, keys, true, self.rate(|now| now.keys_read)),
            (size, _) => (now.payload_read, size, false, self.rate(|now| now.payload_read)),
        };
        let percent = 100.0 * as_f64(read) / as_f64(all);
        // The source may have got more keys since it counted them.
        let percent = if estimated { percent.min(99.0) } else { percent.min(100.0) };
        (Some(percent), estimated, Some(as_f64(all.saturating_sub(read))), speed)
    }

    /// How fast a number grows, a second.
    fn rate(&self, number: fn(&Snapshot) -> u64) -> f64 {
        rate(self.past.iter().map(|(at, now)| (*at, number(now))))
    }

    /// How fast an offset grows. It is zero until it is known, and has not grown to what it is then.
    fn offset_rate(&self, number: fn(&Snapshot) -> u64) -> f64 {
        rate(self.past.iter().map(|(at, now)| (*at, number(now))).filter(|(_, offset)| *offset > 0))
    }
}

/// How much a number has grown from the first reading to the last, a second.
fn rate(readings: impl Iterator<Item = (Duration, u64)> + Clone) -> f64 {
    let (Some((begin, before)), Some((end, after))) = (readings.clone().next(), readings.last())
    else {
        return 0.0;
    };
    let seconds = end.saturating_sub(begin).as_secs_f64();
    if seconds > 0.0 { as_f64(after.saturating_sub(before)) / seconds } else { 0.0 }
}

impl Reading {
    /// What goes on, in a word or two.
    pub(super) fn doing(&self) -> &'static str {
        doing(self.phase, self.awaited)
    }

    /// What is going on with all sources together. Of percentages the mean; of lags and times the longest.
    pub(super) fn total(all: &[Self]) -> Self {
        let mut total = Self { phase: Phase::Done, ..Self::default() };
        let mut percent = Some(0.0);
        for one in all {
            total.phase = total.phase.min(one.phase);
            total.awaited = total.awaited.or_else(|| one.awaited.filter(|_| !one.phase.is_end()));
            let part = if one.phase < Phase::Copying { Some(0.0) } else { one.percent };
            percent = percent.zip(part).map(|(sum, part)| sum + part / as_f64(all.len() as u64));
            total.estimated |= one.estimated;
            total.keys += one.keys;
            total.commands += one.commands;
            total.keys_per_s += one.keys_per_s;
            total.commands_per_s += one.commands_per_s;
            total.bytes_per_s += one.bytes_per_s;
            total.lag_bytes = match (total.lag_bytes, one.lag_bytes) {
                (Some(sum), Some(lag)) => Some(sum + lag),
                (sum, lag) => sum.or(lag),
            };
            total.lag_seconds = longest(total.lag_seconds, one.lag_seconds, f64::max);
            total.in_flight += one.in_flight;
            total.spooled += one.spooled;
            total.left_keys += one.left_keys;
            total.eta = longest(total.eta, one.eta, Duration::max);
        }
        total.percent = percent;
        let read = all.iter().map(|one| one.phase);
        let mut read = read.filter(|phase| matches!(phase, Phase::Copying | Phase::Counting));
        if let (Phase::Waiting, Some(phase)) = (total.phase, read.next()) {
            // Some wait for their turn: how long that is, is how fast the others are.
            total.phase = phase;
            total.eta = time_for(as_f64(total.left_keys), total.keys_per_s);
        }
        let same = all.iter().filter(|one| one.doing() == total.doing());
        total.lasting = same.map(|one| one.lasting).max().unwrap_or_default();
        total
    }
}

fn longest<T>(one: Option<T>, other: Option<T>, max: fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(max(one, other)),
        (one, other) => one.or(other),
    }
}

/// How long it takes; `None` if it never ends.
fn time_for(left: f64, per_s: f64) -> Option<Duration> {
    if per_s <= 0.0 {
        return None;
    }
    // A week is as good as never: more only says that the rate is next to nothing.
    const LONGEST: f64 = 7.0 * 86_400.0;
    Duration::try_from_secs_f64(left / per_s).ok().filter(|time| time.as_secs_f64() < LONGEST)
}

#[expect(clippy::cast_precision_loss, reason = "numbers on a screen have five digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copying(payload_read: u64, payload_size: u64, keys_read: u64) -> Snapshot {
        let phase = Phase::Copying;
        Snapshot { phase, payload_read, payload_size, keys_read, ..Snapshot::default() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_copy_whose_size_is_told_is_measured_in_bytes() {
        let mut meter = Meter::new(Some(10));
        meter.read(at(0), copying(0, 1000, 0));
        let reading = meter.read(at(2), copying(400, 1000, 9));
        assert_eq!((reading.percent, reading.estimated), (Some(40.0), false));
        assert_eq!(reading.eta, Some(at(3)), "600 bytes at 200 a second");
    }

    #[test]
    fn a_copy_without_a_size_is_measured_in_keys_and_never_whole() {
        let mut meter = Meter::new(Some(10));
        meter.read(at(0), copying(0, 0, 0));
        let reading = meter.read(at(1), copying(1, 0, 5));
        assert_eq!((reading.percent, reading.estimated), (Some(50.0), true));
        assert_eq!(reading.eta, Some(at(1)));
        assert_eq!(meter.read(at(2), copying(1, 0, 30)).percent, Some(99.0));
        assert_eq!(Meter::new(Some(0)).read(at(1), copying(1, 0, 5)).percent, None);
    }

    #[test]
    fn the_lag_in_seconds_is_of_the_masters_rate() {
        let mut meter = Meter::new(None);
        let following = |master_offset, confirmed_offset| Snapshot {
            phase: Phase::Following,
            master_offset,
            confirmed_offset,
            ..Snapshot::default()
        };
        assert_eq!(meter.read(at(0), following(1000, 1000)).lag_seconds, Some(0.0));
        let reading = meter.read(at(2), following(3000, 2500));
        assert_eq!((reading.lag_bytes, reading.lag_seconds), (Some(500), Some(0.5)));
        // It does not write any more: nobody can say how long ago it wrote that.
        let mut meter = Meter::new(None);
        meter.read(at(0), following(3000, 2500));
        assert_eq!(meter.read(at(1), following(3000, 2600)).lag_seconds, None);
    }

    #[test]
    fn while_some_wait_for_their_turn_all_are_copying() {
        let waits = Reading { phase: Phase::Waiting, left_keys: 900, ..Reading::default() };
        let copies = Reading {
            phase: Phase::Copying,
            left_keys: 100,
            keys_per_s: 50.0,
            eta: Some(at(2)),
            ..Reading::default()
        };
        let total = Reading::total(&[waits.clone(), copies]);
        assert_eq!((total.doing(), total.eta), ("copying", Some(at(20))));
        assert_eq!(Reading::total(&[waits]).doing(), "waiting");
    }

    #[test]
    fn the_first_offset_is_no_growth() {
        let mut meter = Meter::new(None);
        meter.read(at(0), Snapshot::default());
        let first = Snapshot {
            phase: Phase::CatchingUp,
            master_offset: 9_000_000,
            read_offset: 9_000_000,
            confirmed_offset: 8_999_000,
            ..Snapshot::default()
        };
        assert_eq!(meter.read(at(1), first).lag_seconds, None);
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut meter = Meter::new(None);
        let keys = |keys| Snapshot { phase: Phase::Copying, keys, ..Snapshot::default() };
        assert_eq!(meter.read(at(0), keys(0)).keys_per_s, 0.0);
        assert_eq!(meter.read(at(1), keys(1000)).keys_per_s, 1000.0);
        for second in 2..20 {
            meter.read(at(second), keys(1000));
        }
        assert_eq!(meter.read(at(20), keys(1000)).keys_per_s, 0.0, "it stalls, and that shows");
        assert!(meter.past.len() <= 7, "what is older is forgotten");
    }

    #[test]
    fn a_reading_tells_how_long_the_same_goes_on() {
        let mut meter = Meter::new(None);
        let mut lasting = |seconds, awaited| {
            let now = Snapshot { phase: Phase::Following, awaited, ..Snapshot::default() };
            meter.read(at(seconds), now).lasting
        };
        assert_eq!([lasting(0, None), lasting(3, None)], [at(0), at(3)]);
        let source = Some(Awaited::Source);
        assert_eq!([lasting(4, source), lasting(9, source), lasting(10, None)], [0, 5, 0].map(at));
    }

    #[test]
    fn a_total_is_as_far_as_the_last_of_them() {
        let one =
            |phase, percent, keys, eta| Reading { phase, percent, keys, eta, ..Reading::default() };
        let total = Reading::total(&[
            one(Phase::Following, Some(100.0), 7, None),
            one(Phase::Copying, Some(50.0), 3, Some(at(4))),
            one(Phase::Connecting, None, 0, None),
            one(Phase::Copying, Some(50.0), 3, Some(at(9))),
        ]);
        assert_eq!((total.phase, total.percent, total.keys), (Phase::Connecting, Some(50.0), 13));
        assert_eq!(total.eta, Some(at(9)));
        let lost =
            Reading { awaited: Some(Awaited::Source), ..one(Phase::Following, None, 0, None) };
        let all = [one(Phase::Copying, None, 0, None), lost.clone()];
        assert_eq!(Reading::total(&all).doing(), "waiting for source");
        let all = [one(Phase::Done, None, 0, None), Reading { phase: Phase::Failed, ..lost }];
        assert_eq!(Reading::total(&all).doing(), "failed", "it waits no more");
        let blind = Reading::total(&[one(Phase::Copying, None, 0, None)]);
        assert_eq!(blind.percent, None);
    }
}
