//! How fast a run may go.

use std::fmt;
use std::time::Duration;

/// How much may go into the target in a second, by all sources together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Keys of the copy and commands of the stream.
    Keys(u64),
    /// Bytes of commands.
    Bytes(u64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{keys} keys/s"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes/s"),
        }
    }
}

/// A token bucket, as a value: it is told what was done and when, and says when more may be.
///
/// What is done is paid for afterwards, so that one thing may be larger than the bucket: then the wait is longer. In any span of time
/// no more is begun than the rate allows in it and in [`Bucket::BURST`], and one thing more.
///
/// ```
/// use std::time::Duration;
/// use understudy::plan::Bucket;
///
/// let mut bucket = Bucket::new(1000);
/// let now = Duration::from_secs(5);
/// assert_eq!(bucket.wait(now), Duration::ZERO);
/// bucket.take(now, 250);
/// assert_eq!(bucket.wait(now), Duration::from_millis(250) - Bucket::BURST);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: u64,
    /// When what was done is paid for.
    paid_at: Duration,
}

impl Bucket {
    /// So much time's worth may be done at once after a pause. It is longer than a timer is late.
    pub const BURST: Duration = Duration::from_millis(50);

    /// A bucket that lets so much through in a second; at least one.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1), paid_at: Duration::ZERO }
    }

    /// How long to wait before more is done.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        self.paid_at.saturating_sub(now).saturating_sub(Self::BURST)
    }

    /// So much was done.
    pub fn take(&mut self, now: Duration, amount: u64) {
        let nanos = (u128::from(amount) * 1_000_000_000).div_ceil(u128::from(self.per_second));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // What was not used in time is lost.
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Does as much as may be done, in pieces, for so long, on a clock that wakes late.
    fn done(bucket: &mut Bucket, piece: u64, until: Duration, late: Duration) -> u64 {
        let (mut now, mut sum) = (Duration::ZERO, 0);
        while now < until {
            match bucket.wait(now) {
                Duration::ZERO => {
                    bucket.take(now, piece);
                    sum += piece;
                }
                wait => now += wait + late,
            }
        }
        sum
    }

    #[test]
    fn a_minute_at_each_rate() {
        let minute = Duration::from_secs(60);
        for (rate, piece) in
            [(1, 1), (10, 1), (5000, 1), (20_000_000, 262_144), (1_000_000, 5_000_000)]
        {
            let sum = done(&mut Bucket::new(rate), piece, minute, Duration::from_millis(2));
            let ideal = rate * 60;
            assert!(sum <= ideal + rate / 20 + piece, "{rate}: {sum}");
            assert!(sum >= ideal - ideal / 100 - piece, "{rate}: {sum}");
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut bucket = Bucket::new(1000);
        bucket.take(Duration::ZERO, 10);
        let later = Duration::from_secs(1000);
        let mut sum = 0;
        while bucket.wait(later).is_zero() {
            bucket.take(later, 1);
            sum += 1;
        }
        assert!(sum <= 51, "{sum}");
    }

    #[test]
    fn nothing_overflows() {
        let mut bucket = Bucket::new(1);
        bucket.take(Duration::MAX, u64::MAX);
        bucket.take(Duration::ZERO, u64::MAX);
        assert!(bucket.wait(Duration::ZERO) > Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_span_holds_more_than_the_rate_allows(
            rate in 1..100_000_u64,
            steps in prop::collection::vec((0..400_u64, 1..5000_u64), 1..200),
        ) {
            let mut bucket = Bucket::new(rate);
            let mut now = Duration::ZERO;
            let mut begun: Vec<(Duration, u64)> = Vec::new();
            for (ms, amount) in steps {
                now += Duration::from_millis(ms) + bucket.wait(now + Duration::from_millis(ms));
                prop_assert!(bucket.wait(now).is_zero());
                bucket.take(now, amount);
                begun.push((now, amount));
            }
            for from in 0..begun.len() {
                let mut sum = 0;
                for (at, amount) in &begun[from..] {
                    let span = (*at - begun[from].0 + Bucket::BURST).as_secs_f64();
                    prop_assert!(sum as f64 <= rate as f64 * span + 1.0, "{sum} within {span} s");
                    sum += amount;
                }
            }
        }
    }
}
