//! What rules make of deadlines.
//!
//! ```text
//! each deadline as it comes          D, later by `extends`
//! when the job ends, at time E       later by what the outage lasted: E - the source's last write
//!                                    what has passed by then is dead, and stays so
//!                                    not before E + `least`, then not behind E + `most`
//! ```
//! What is measured against the end of the job is the same however often a key was read and written before.

use std::fmt;
use std::time::Duration;

use super::rules::RulesError;

/// See the module. [`Default`] leaves every deadline as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttl {
    extends: i64,
    freezes: bool,
    least: Option<i64>,
    most: Option<i64>,
}

impl Ttl {
    /// Each deadline so much later; as late again as the source's outage lasted, if it `freezes`; and of what has a deadline at least and at the
    /// most so much left when the job ends.
    ///
    /// # Errors
    /// If nothing would be left, or a time is longer than a hundred years, or the least is more than the most.
    pub fn new(
        extends: Duration,
        freezes: bool,
        least: Option<Duration>,
        most: Option<Duration>,
    ) -> Result<Self, RulesError> {
        if let Some(longest) = [least, most].into_iter().flatten().max()
            && longest > LONGEST
        {
            return Err(RulesError::TooLong(longest));
        }
        if most.is_some_and(|most| most.is_zero()) {
            return Err(RulesError::NothingLeft);
        }
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            return Err(RulesError::Crossed { least, most });
        }
        let (least, most) = (least.map(millis), most.map(millis));
        Ok(Self { extends: millis(extends), freezes, least: least.filter(|ms| *ms > 0), most })
    }

    /// By how much later each deadline is in the target, in milliseconds.
    #[must_use]
    pub fn extends(&self) -> i64 {
        self.extends
    }

    /// Whether deadlines are later by what the source's outage lasted.
    #[must_use]
    pub fn freezes(&self) -> bool {
        self.freezes
    }

    /// What is left at the end of a job at the least, in milliseconds.
    #[must_use]
    pub fn least(&self) -> Option<i64> {
        self.least
    }

    /// What is left at the end of a job at the most, in milliseconds.
    #[must_use]
    pub fn most(&self) -> Option<i64> {
        self.most
    }

    /// Whether deadlines are other than those that come only once the job ends: until then every one is held back.
    #[must_use]
    pub fn is_for_the_end(&self) -> bool {
        self.freezes || self.least.is_some() || self.most.is_some()
    }
}

/// In words, each behind a `; `. Nothing of rules that leave all as it is.
impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.extends > 0 {
            parts.push(format!("deadlines {} later", seconds(self.extends)));
        }
        if self.freezes {
            parts.push("deadlines later by the outage".to_owned());
        }
        parts.extend(self.least.map(|least| format!("at least {} left", seconds(least))));
        parts.extend(self.most.map(|most| format!("at most {} left", seconds(most))));
        f.write_str(&parts.join("; "))
    }
}

fn seconds(ms: i64) -> String {
    match (ms / 1000, ms % 1000) {
        (seconds, 0) => format!("{seconds} s"),
        (seconds, millis) => format!("{seconds}.{millis:03} s"),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A hundred years: what is left at the end of a job never comes near what deadlines are held back by.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn rules_that_leave_deadlines_alone_say_nothing() {
        let none = Ttl::new(Duration::ZERO, false, Some(Duration::ZERO), None).unwrap();
        assert_eq!(none, Ttl::default());
        assert_eq!(none.to_string(), "");
        assert!(!none.is_for_the_end());
        assert!(!Ttl::new(HOUR, false, None, None).unwrap().is_for_the_end());
    }

    #[test]
    fn what_is_for_the_end_is_said_in_the_order_in_which_it_is_done() {
        let ttl = Ttl::new(HOUR, true, Some(Duration::from_millis(1500)), Some(2 * HOUR)).unwrap();
        assert!(ttl.is_for_the_end());
        assert_eq!(
            ttl.to_string(),
            "deadlines 3600 s later; deadlines later by the outage; at least 1.500 s left; at most 7200 s left"
        );
    }

    #[test]
    fn times_that_make_no_sense() {
        let of = |least, most| Ttl::new(Duration::ZERO, false, least, most);
        assert_eq!(of(None, Some(Duration::ZERO)), Err(RulesError::NothingLeft));
        let crossed = RulesError::Crossed { least: 2 * HOUR, most: HOUR };
        assert_eq!(of(Some(2 * HOUR), Some(HOUR)), Err(crossed));
        assert!(of(Some(HOUR), Some(HOUR)).is_ok());
        let long = LONGEST + HOUR;
        assert_eq!(of(Some(long), None), Err(RulesError::TooLong(long)));
        assert_eq!(of(None, Some(long)), Err(RulesError::TooLong(long)));
    }
}
