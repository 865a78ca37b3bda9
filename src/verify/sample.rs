//! A part of the keys, chosen so that nobody can tell beforehand which, and everybody alike who knows the seed.
//!
//! ```text
//! by names   a key is chosen if the hash of its database, its name and the seed is small enough: every side chooses the same ones
//! by places  SCAN begins at places that are spread evenly over a server's table and moved by the seed, and goes on for a part of the way
//! ```
//! A cursor of `SCAN` is the number of a bucket, whose bits count backwards (`dictScan` in Redis's `dict.c`): read so, it grows from 0 to the end of
//! the table, whatever its size, and any number is a place in it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::key::{Db, fingerprint};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// This part of the keys.
    Share(Share),
    /// About so many keys.
    Keys(u64),
}

/// A part of all keys, above nothing and up to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

/// A place where `SCAN` begins, and how many keys it gives from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The cursor.
    pub cursor: u64,
    /// About so many keys, by its `COUNT`.
    pub count: u64,
}

/// So many keys are asked for from one place.
const FROM_ONE: u64 = 500;

impl Sample {
    /// Reads a percentage such as `1%` or `0.25%`, or a number of keys; `None` if it is neither, or nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().ok().filter(|keys| *keys > 0).map(Self::Keys);
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, ""));
        const DIGITS: usize = 9;
        if part.len() > DIGITS || percent.ends_with('.') || percent.starts_with('+') {
            return None;
        }
        let digits: u64 = format!("{whole}{part:0<DIGITS$}").parse().ok()?;
        Share::of(digits, 100 * 10_u64.pow(9)).map(Self::Share)
    }

    /// Which part of so many keys it is.
    #[must_use]
    pub fn share(self, keys: u64) -> Share {
        match self {
            Self::Share(share) => share,
            Self::Keys(wanted) => Share::of(wanted.min(keys), keys).unwrap_or(Share::ALL),
        }
    }
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// So many parts of a whole; `None` if that is nothing, or more than there is.
    #[must_use]
    pub fn of(parts: u64, whole: u64) -> Option<Self> {
        if parts == 0 || parts > whole {
            return None;
        }
        let scaled = u128::from(u64::MAX) * u128::from(parts) / u128::from(whole);
        Some(Self(u64::try_from(scaled).unwrap_or(u64::MAX).max(1)))
    }

    /// Whether it is so small that most places in a table are not met: a larger one is chosen by names at once.
    #[must_use]
    pub const fn is_small(self) -> bool {
        self.0 <= u64::MAX / 4
    }

    /// So many of these keys: at least one, if there is any.
    #[must_use]
    pub fn keys(self, keys: u64) -> u64 {
        let scaled = (u128::from(self.0) * u128::from(keys)).div_ceil(u128::from(u64::MAX));
        u64::try_from(scaled).unwrap_or(keys)
    }

    /// Whether a key is chosen, by its database and its name in the target.
    #[must_use]
    pub fn chooses(self, seed: u64, db: Db, name: &[u8]) -> bool {
        self == Self::ALL || xxh3_64_with_seed(&fingerprint(db, name).to_le_bytes(), seed) < self.0
    }

    /// Where `SCAN` begins in a database of so many keys.
    pub fn starts(self, seed: u64, db: Db, keys: u64) -> impl Iterator<Item = Start> + use<> {
        let wanted = self.keys(keys);
        let places = wanted.div_ceil(FROM_ONE);
        let stretch = u64::MAX / places.max(1);
        // So far it goes on from its place, by the table; it may begin so much later that it does not reach the next one.
        let taken = u128::from(stretch) * u128::from(self.0) / u128::from(u64::MAX);
        let free = stretch - u64::try_from(taken).unwrap_or(stretch).min(stretch);
        let count = wanted.div_ceil(places.max(1));
        (0..places).map(move |place| {
            let number = [place.to_le_bytes(), u64::from(db.index()).to_le_bytes()];
            let dice = xxh3_64_with_seed(number.as_flattened(), seed);
            let later = u128::from(dice) * u128::from(free) / u128::from(u64::MAX);
            let at = (stretch * place).saturating_add(u64::try_from(later).unwrap_or(free));
            Start { cursor: at.reverse_bits(), count }
        })
    }
}

/// As a percentage.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In thousandths of a percent, so that all but the smallest is shown as it was said.
        let parts = u128::from(self.0) * 100_000 / u128::from(u64::MAX >> 1);
        let thousandths = parts.div_ceil(2);
        let (whole, part) = (thousandths / 1000, thousandths % 1000);
        if thousandths == 0 {
            return f.write_str("less than 0.001 %");
        }
        let part = format!("{part:03}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole} %"),
            part => write!(f, "{whole}.{part} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sample_is_a_percentage_or_a_number() {
        let shown = |text: &str| match Sample::parse(text) {
            Some(Sample::Share(share)) => share.to_string(),
            Some(Sample::Keys(keys)) => keys.to_string(),
            None => "none".to_owned(),
        };
        for (text, meant) in [
            ("1%", "1 %"),
            ("0.25%", "0.25 %"),
            ("100%", "100 %"),
            ("33.333%", "33.333 %"),
            ("0.000001%", "less than 0.001 %"),
            ("10000", "10000"),
            ("0", "none"),
            ("0%", "none"),
            ("101%", "none"),
            ("-1%", "none"),
            ("1.%", "none"),
            ("%", "none"),
            ("a%", "none"),
            ("", "none"),
        ] {
            assert_eq!(shown(text), meant, "{text}");
        }
        assert_eq!(Sample::Keys(5).share(4), Share::ALL);
        assert_eq!(Sample::Keys(5).share(0), Share::ALL);
        assert_eq!(Sample::Keys(1000).share(1_000_000).to_string(), "0.1 %");
    }

    #[test]
    fn about_so_many_are_chosen_and_others_with_another_seed() {
        let chosen = |seed: u64, text: &str| {
            let Some(Sample::Share(share)) = Sample::parse(text) else { panic!("{text}") };
            let chooses = |n: &u32| share.chooses(seed, Db::new(3), &n.to_le_bytes());
            (0..100_000_u32).filter(chooses).collect::<BTreeSet<_>>()
        };
        let [one, other] = [7, 8].map(|seed| chosen(seed, "1%"));
        assert!((800..1200).contains(&one.len()), "{}", one.len());
        assert!((800..1200).contains(&other.len()), "{}", other.len());
        assert!(one.intersection(&other).count() < 50);
        assert_eq!(one, chosen(7, "1%"));
        // Who chooses more chooses these too.
        assert!(chosen(7, "2%").is_superset(&one));
        assert_eq!(chosen(7, "100%").len(), 100_000);
    }

    /// The next cursor, as `dictScan` reckons it.
    fn next(cursor: u64, mask: u64) -> u64 {
        (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
    }

    proptest! {
        /// In a table with a key in each bucket no key is met twice, and so many are met as were wanted.
        #[test]
        fn places_are_spread_over_the_whole_table(
            bits in 6_u32..16,
            parts in 1_u64..=100,
            seed: u64,
        ) {
            let keys = 1_u64 << bits;
            let share = Share::of(parts, 100).unwrap();
            let mut met = BTreeSet::new();
            let (mut asked, mut places) = (0, 0);
            for Start { mut cursor, count } in share.starts(seed, Db::default(), keys) {
                places += 1;
                for _ in 0..count {
                    asked += 1;
                    met.insert(cursor & (keys - 1));
                    cursor = next(cursor, keys - 1);
                    if cursor == 0 {
                        break;
                    }
                }
            }
            let wanted = share.keys(keys);
            // How many are asked for is rounded up.
            prop_assert!(met.len() as u64 + places >= asked, "{} of {asked}", met.len());
            prop_assert!((wanted * 9 / 10..=wanted + FROM_ONE).contains(&(met.len() as u64)) || wanted < 20,
                "{} of {wanted}", met.len());
        }
    }
}
