//! The intset: a small set of integers, sorted, each in as many bytes as the largest needs.
//!
//! ```text
//! bytes per member u32 (2, 4 or 8) | count u32 | members     all little endian, signed, ascending
//! ```

use crate::rdb::packed::Damaged;
use crate::rdb::packed::Mark;

/// An intset whose frame was checked, borrowed from where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Intset<'a> {
    members: Members<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Members<'a> {
    I16(&'a [[u8; 2]]),
    I32(&'a [[u8; 4]]),
    I64(&'a [[u8; 8]]),
}

impl<'a> Intset<'a> {
    /// Takes a blob for an intset: members of a known width, as many as it says, and nothing else.
    ///
    /// # Errors
    /// [`Damaged`] if it is not one. That the members ascend is checked when they are walked.
    pub fn parse(blob: &'a [u8]) -> Result<Self, Damaged> {
        let Some((&[w0, w1, w2, w3, c0, c1, c2, c3], body)) = blob.split_first_chunk::<HEADER>()
        else {
            return Err(Damaged { at: 0, what: "an intset of fewer than 8 bytes" });
        };
        let (members, rest) = match u32::from_le_bytes([w0, w1, w2, w3]) {
            2 => {
                let (members, rest) = body.as_chunks();
                (Members::I16(members), rest)
            }
            4 => {
                let (members, rest) = body.as_chunks();
                (Members::I32(members), rest)
            }
            8 => {
                let (members, rest) = body.as_chunks();
                (Members::I64(members), rest)
            }
            _ => return Err(Damaged { at: 0, what: "an intset of no known width" }),
        };
        let set = Self { members };
        let stated = u32::from_le_bytes([c0, c1, c2, c3]);
        if !rest.is_empty() || usize::try_from(stated) != Ok(set.len()) {
            return Err(Damaged { at: 4, what: "an intset that has another count than it says" });
        }
        Ok(set)
    }

    /// How many members it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.members {
            Members::I16(members) => members.len(),
            Members::I32(members) => members.len(),
            Members::I64(members) => members.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Walks the members from the least to the greatest.
    #[must_use]
    pub const fn iter(&self) -> Iter<'a> {
        Iter { set: *self, at: 0, before: None }
    }

    /// Walks on from where another walk over this blob stood.
    #[must_use]
    pub fn resume(&self, mark: Mark) -> Iter<'a> {
        let before = mark.at.checked_sub(1).and_then(|last| self.get(last));
        Iter { set: *self, at: mark.at, before }
    }

    #[inline]
    fn get(&self, index: usize) -> Option<i64> {
        Some(match self.members {
            Members::I16(members) => i16::from_le_bytes(*members.get(index)?).into(),
            Members::I32(members) => i32::from_le_bytes(*members.get(index)?).into(),
            Members::I64(members) => i64::from_le_bytes(*members.get(index)?),
        })
    }

    const fn width(&self) -> usize {
        match self.members {
            Members::I16(_) => 2,
            Members::I32(_) => 4,
            Members::I64(_) => 8,
        }
    }
}

impl<'a> IntoIterator for &Intset<'a> {
    type Item = Result<i64, Damaged>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The members of an [`Intset`]. Ends after the first error: a member that is not greater than the one before.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    set: Intset<'a>,
    at: usize,
    before: Option<i64>,
}

impl Iter<'_> {
    /// Where it stands.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark { at: self.at, before: 0, seen: self.at }
    }

    /// Whether no member is left.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.at >= self.set.len()
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<i64, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let value = self.set.get(self.at)?;
        // `None` is less than all.
        if Some(value) <= self.before {
            let at = HEADER + self.at * self.set.width();
            self.at = usize::MAX;
            return Some(Err(Damaged { at, what: "an intset that does not ascend" }));
        }
        self.at += 1;
        self.before = Some(value);
        Some(Ok(value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.set.len().saturating_sub(self.at);
        (usize::from(left > 0), Some(left))
    }
}

/// The intset of these members, in the narrowest width. They may come in any order and more than once.
///
/// `None` if there are more than an intset can count (`u32::MAX`).
#[must_use]
pub fn build(mut members: Vec<i64>) -> Option<Vec<u8>> {
    members.sort_unstable();
    members.dedup();
    let count = u32::try_from(members.len()).ok()?;
    let fits = |least: i64, greatest: i64| {
        members.first().is_none_or(|first| *first >= least)
            && members.last().is_none_or(|last| *last <= greatest)
    };
    let width = if fits(i16::MIN.into(), i16::MAX.into()) {
        2_u8
    } else if fits(i32::MIN.into(), i32::MAX.into()) {
        4
    } else {
        8
    };
    let mut out = Vec::new();
    out.extend_from_slice(&u32::from(width).to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    for member in members {
        // The low bytes of a little-endian two's complement are the narrower number.
        out.extend(member.to_le_bytes().iter().take(width.into()));
    }
    Some(out)
}

const HEADER: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(blob: &[u8]) -> Result<Vec<i64>, Damaged> {
        Intset::parse(blob)?.iter().collect()
    }

    #[test]
    fn the_width_is_the_narrowest() {
        for (member, width) in [
            (0, 2),
            (-32_768, 2),
            (32_767, 2),
            (32_768, 4),
            (-32_769, 4),
            (i32::MAX.into(), 4),
            (i64::from(i32::MAX) + 1, 8),
            (i64::from(i32::MIN) - 1, 8),
        ] {
            let blob = build(vec![member, 1]).unwrap();
            assert_eq!(blob[0], width, "{member}");
            assert!(read(&blob).unwrap().contains(&member));
        }
        assert_eq!(build(vec![3, -2, 3]).unwrap(), b"\x02\0\0\0\x02\0\0\0\xfe\xff\x03\0");
        assert!(Intset::parse(&build(Vec::new()).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn each_damage_is_named_and_placed() {
        let good = build(vec![1, 70_000, -5]).unwrap();
        let with = |at: usize, byte: u8| {
            let mut blob = good.clone();
            blob[at] = byte;
            read(&blob).unwrap_err()
        };
        let mut twice = good.clone();
        twice.copy_within(8..12, 12);
        for (found, at, what) in [
            (read(&good[..7]).unwrap_err(), 0, "fewer than 8"),
            (with(0, 3), 0, "no known width"),
            (with(0, 2), 4, "another count"),
            (with(4, 2), 4, "another count"),
            (read(&good[..19]).unwrap_err(), 4, "another count"),
            (with(19, 0x80), 16, "does not ascend"),
            (read(&twice).unwrap_err(), 12, "does not ascend"),
        ] {
            assert_eq!(found.at, at, "{found}");
            assert!(found.what.contains(what), "{found}");
        }
        let mut iter = Intset::parse(&twice).unwrap().iter();
        assert!(iter.by_ref().any(|member| member.is_err()));
        assert!(iter.next().is_none());
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(members in prop::collection::btree_set(any::<i64>(), 0..40), shift in 0..64_u32) {
            let members: std::collections::BTreeSet<i64> = members.iter().map(|member| member >> shift).collect();
            let blob = build(members.iter().rev().copied().collect()).unwrap();
            prop_assert_eq!(read(&blob).unwrap(), members.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn what_is_read_from_any_bytes_is_a_set(blob in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 4, 8, 255]), 0..60)) {
            if let Ok(members) = read(&blob) {
                prop_assert!(members.is_sorted_by(|a, b| a < b));
                prop_assert_eq!(read(&build(members.clone()).unwrap()).unwrap(), members);
            }
        }
    }
}
