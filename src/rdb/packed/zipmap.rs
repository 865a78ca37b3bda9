//! The zipmap: small hashes up to Redis 2.4.
//!
//! ```text
//! count u8 | (length | field | length | free u8 | value | free bytes) ... | 0xFF
//! length: one byte below 254, or 254 and u32 little endian
//! ```
//! A count of 254 and more says that the fields were not counted. The free bytes are what a shorter value left behind.

use crate::rdb::packed::Damaged;
use crate::rdb::packed::Mark;

/// A zipmap whose frame was checked, borrowed from where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Zipmap<'a> {
    body: &'a [u8],
    count: u8,
}

impl<'a> Zipmap<'a> {
    /// Takes a blob for a zipmap: its last byte must be the terminator.
    ///
    /// # Errors
    /// [`Damaged`] if it is not one. Single pairs are checked when they are walked.
    pub fn parse(blob: &'a [u8]) -> Result<Self, Damaged> {
        let [count, body @ .., end] = blob else {
            return Err(Damaged { at: 0, what: "a zipmap of fewer than 2 bytes" });
        };
        if *end != END {
            return Err(Damaged { at: HEADER + body.len(), what: "a zipmap without its end" });
        }
        Ok(Self { body, count: *count })
    }

    /// How many pairs it says it has; `None` if it does not say. A walk that ends without error has proven it.
    #[must_use]
    pub fn stated_len(&self) -> Option<usize> {
        (self.count < UNCOUNTED).then_some(usize::from(self.count))
    }

    /// Whether no pair is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Walks the pairs from the first to the last.
    #[must_use]
    pub const fn iter(&self) -> Pairs<'a> {
        Pairs { map: *self, rest: self.body, seen: 0 }
    }

    /// Walks on from where another walk over this blob stood; from elsewhere it meets damage or the end.
    #[must_use]
    pub fn resume(&self, mark: Mark) -> Pairs<'a> {
        let rest = self.body.get(mark.at..).unwrap_or_default();
        Pairs { map: *self, rest, seen: mark.seen }
    }
}

impl<'a> IntoIterator for &Zipmap<'a> {
    type Item = Result<Pair<'a>, Damaged>;
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs of a [`Zipmap`], each a field and its value. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    map: Zipmap<'a>,
    rest: &'a [u8],
    /// How many were walked. `ENDED` once the end, or an error, was reported.
    seen: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<Pair<'a>, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return self.end();
        }
        let Some((pair, rest)) = split_pair(self.rest) else {
            return Some(Err(self.damage()));
        };
        self.rest = rest;
        self.seen += 1;
        Some(Ok(pair))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The smallest pair has three bytes. What the header states is a claim: it is not given on.
        (0, Some(self.rest.len() / 3 + 1))
    }
}

impl Pairs<'_> {
    /// Where it stands.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark { at: self.map.body.len() - self.rest.len(), before: 0, seen: self.seen }
    }

    /// Whether no pair is left. The next step then says whether all was as the header states.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn end<T>(&mut self) -> Option<Result<T, Damaged>> {
        let seen = std::mem::replace(&mut self.seen, ENDED);
        if seen != ENDED && self.map.stated_len().is_some_and(|stated| stated != seen) {
            return Some(Err(Damaged {
                at: 0,
                what: "a zipmap that has another count than it says",
            }));
        }
        None
    }

    #[cold]
    fn damage(&mut self) -> Damaged {
        let at = HEADER + self.map.body.len() - self.rest.len();
        let what = if self.rest.first() == Some(&END) {
            "a zipmap that ends before its end"
        } else {
            "a zipmap pair that does not end inside the zipmap"
        };
        self.rest = &[];
        self.seen = ENDED;
        Damaged { at, what }
    }
}

/// One field with its value, and what follows the value's free bytes.
#[inline]
fn split_pair(input: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let (length, rest) = split_length(input)?;
    let (field, rest) = rest.split_at_checked(length)?;
    let (length, rest) = split_length(rest)?;
    let (&free, rest) = rest.split_first()?;
    let (value, rest) = rest.split_at_checked(length)?;
    let (_, rest) = rest.split_at_checked(free.into())?;
    Some(((field, value), rest))
}

#[inline]
fn split_length(input: &[u8]) -> Option<(usize, &[u8])> {
    match input {
        [BIG_LENGTH, a, b, c, d, rest @ ..] => {
            Some((usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?, rest))
        }
        [length, rest @ ..] if *length < BIG_LENGTH => Some((usize::from(*length), rest)),
        _ => None,
    }
}

/// The zipmap of these pairs, in their order and without free bytes.
///
/// `None` if a field or value has more than `u32::MAX` bytes.
#[must_use]
pub fn build<'a>(pairs: impl IntoIterator<Item = Pair<'a>>) -> Option<Vec<u8>> {
    let mut out = vec![0];
    let mut count = 0_u8;
    for (field, value) in pairs {
        put_length(field.len(), &mut out)?;
        out.extend_from_slice(field);
        put_length(value.len(), &mut out)?;
        out.push(0);
        out.extend_from_slice(value);
        count = count.saturating_add(1);
    }
    out.push(END);
    if let Some(head) = out.first_mut() {
        *head = count.min(UNCOUNTED);
    }
    Some(out)
}

fn put_length(length: usize, out: &mut Vec<u8>) -> Option<()> {
    match u8::try_from(length) {
        Ok(length) if length < BIG_LENGTH => out.push(length),
        _ => {
            out.push(BIG_LENGTH);
            out.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        }
    }
    Some(())
}

const HEADER: usize = 1;
const END: u8 = 0xff;
const UNCOUNTED: u8 = 254;
const BIG_LENGTH: u8 = 254;
const ENDED: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rdb::packed::tests::blob_with_faults;

    type OwnedPair = (Vec<u8>, Vec<u8>);

    fn read(blob: &[u8]) -> Result<Vec<OwnedPair>, Damaged> {
        Zipmap::parse(blob)?
            .iter()
            .map(|pair| pair.map(|(field, value)| (field.to_vec(), value.to_vec())))
            .collect()
    }

    fn write(pairs: &[OwnedPair]) -> Vec<u8> {
        build(pairs.iter().map(|(field, value)| (field.as_slice(), value.as_slice()))).unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_a_server() {
        // The example in the head of redis zipmap.c.
        let blob = b"\x02\x03foo\x03\x00bar\x05hello\x05\x00world\xff";
        let pairs = [(b"foo".to_vec(), b"bar".to_vec()), (b"hello".to_vec(), b"world".to_vec())];
        assert_eq!(read(blob).unwrap(), pairs);
        assert_eq!(write(&pairs), blob);
        assert!(Zipmap::parse(b"\x00\xff").unwrap().is_empty());
    }

    #[test]
    fn what_a_shorter_value_left_free_is_passed_over() {
        let blob = b"\x02\x01a\x02\x03hi\0\0\0\x01b\x01\x00c\xff";
        let pairs = [(b"a".to_vec(), b"hi".to_vec()), (b"b".to_vec(), b"c".to_vec())];
        assert_eq!(read(blob).unwrap(), pairs);
    }

    #[test]
    fn lengths_and_counts_have_a_longer_form() {
        let pairs: Vec<OwnedPair> =
            (0..300_usize).map(|n| (n.to_string().into_bytes(), vec![b'x'; n])).collect();
        for count in [253, 254, 255, 256, 300] {
            let blob = write(&pairs[..count]);
            let stated = (count < 254).then_some(count);
            assert_eq!(Zipmap::parse(&blob).unwrap().stated_len(), stated);
            assert_eq!(read(&blob).unwrap(), pairs[..count]);
        }
    }

    #[test]
    fn each_damage_is_named_and_placed() {
        let good = b"\x02\x03foo\x03\x00bar\x01h\x02\x00wo\xff";
        // Pairs begin at 1 and 10.
        let with = |at: usize, byte: u8| {
            let mut blob = good.to_vec();
            blob[at] = byte;
            read(&blob).unwrap_err()
        };
        for (found, at, what) in [
            (read(&good[..1]).unwrap_err(), 0, "fewer than 2"),
            (read(&good[..5]).unwrap_err(), 4, "without its end"),
            (with(0, 3), 0, "another count"),
            (with(10, 0xff), 10, "ends before"),
            (with(10, 9), 10, "does not end inside"),
            (with(12, 0xff), 10, "does not end inside"),
            (with(13, 9), 10, "does not end inside"),
        ] {
            assert_eq!(found.at, at, "{found}");
            assert!(found.what.contains(what), "{found}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(pairs in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..300)),
            0..20,
        )) {
            prop_assert_eq!(read(&write(&pairs)).unwrap(), pairs);
        }

        #[test]
        fn what_is_read_from_damage_is_whole((blob, _) in blob_with_faults(|items| {
            build(items.iter().map(|item| (item.as_slice(), item.as_slice()))).unwrap()
        })) {
            if let Ok(pairs) = read(&blob) {
                let map = Zipmap::parse(&blob).unwrap();
                prop_assert!(map.stated_len().is_none_or(|stated| stated == pairs.len()));
                prop_assert_eq!(read(&write(&pairs)).unwrap(), pairs);
            } else if let Ok(map) = Zipmap::parse(&blob) {
                let mut pairs = map.iter();
                let error = pairs.by_ref().find_map(Result::err).unwrap();
                prop_assert!(error.at < blob.len());
                prop_assert!(pairs.next().is_none());
            }
        }
    }
}
