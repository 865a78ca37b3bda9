//! The ziplist: lists, hashes and sorted sets of Redis 2.2 to 6.2.
//!
//! ```text
//! total bytes u32 | where the last entry begins u32 | count u16 | entry ... | 0xFF     all little endian
//! entry: raw length of the entry before it (1 byte, or 0xFE and u32) | tag | data
//! ```
//! A count of 65535 says that the entries were not counted.

use crate::rdb::packed::Damaged;
use crate::rdb::packed::Entry;
use crate::rdb::packed::Full;
use crate::rdb::packed::Mark;
use crate::rdb::packed::canonical_int;
use crate::rdb::packed::int24;

/// A ziplist whose frame was checked, borrowed from where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Ziplist<'a> {
    body: &'a [u8],
    tail: usize,
    count: u16,
}

impl<'a> Ziplist<'a> {
    /// Takes a blob for a ziplist: its stated size must be its size, and its last byte the terminator.
    ///
    /// # Errors
    /// [`Damaged`] if it is not one. Single entries are checked when they are walked.
    pub fn parse(blob: &'a [u8]) -> Result<Self, Damaged> {
        let frame = blob
            .split_first_chunk::<HEADER>()
            .and_then(|(head, rest)| Some((head, rest.split_last()?)));
        let Some((&[b0, b1, b2, b3, t0, t1, t2, t3, c0, c1], (&end, body))) = frame else {
            return Err(Damaged { at: 0, what: "a ziplist of fewer than 11 bytes" });
        };
        if usize::try_from(u32::from_le_bytes([b0, b1, b2, b3])) != Ok(blob.len()) {
            return Err(Damaged { at: 0, what: "a ziplist that states another size than it has" });
        }
        if end != END {
            return Err(Damaged { at: HEADER + body.len(), what: "a ziplist without its end" });
        }
        // Where exactly it must point is known at the end of a walk.
        let tail = usize::try_from(u32::from_le_bytes([t0, t1, t2, t3])).unwrap_or(usize::MAX);
        if tail > HEADER + body.len() {
            return Err(Damaged { at: 4, what: "a ziplist whose last entry is outside of it" });
        }
        Ok(Self { body, tail, count: u16::from_le_bytes([c0, c1]) })
    }

    /// How many entries it says it has; `None` if it does not say. A walk that ends without error has proven it.
    #[must_use]
    pub fn stated_len(&self) -> Option<usize> {
        (self.count != UNCOUNTED).then_some(usize::from(self.count))
    }

    /// Whether no entry is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Walks the entries from the first to the last.
    #[must_use]
    pub fn iter(&self) -> Entries<'a> {
        Entries { list: *self, rest: self.body, before: 0, seen: 0 }
    }

    /// Walks on from where another walk over this blob stood; from elsewhere it meets damage or the end.
    #[must_use]
    pub fn resume(&self, mark: Mark) -> Entries<'a> {
        let rest = self.body.get(mark.at..).unwrap_or_default();
        Entries { list: *self, rest, before: mark.before, seen: mark.seen }
    }
}

impl<'a> IntoIterator for &Ziplist<'a> {
    type Item = Result<Entry<'a>, Damaged>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The entries of a [`Ziplist`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    list: Ziplist<'a>,
    /// What was not walked yet, without the terminator.
    rest: &'a [u8],
    /// The raw length of the entry walked last; 0 before the first.
    before: usize,
    /// How many were walked. `ENDED` once the end, or an error, was reported.
    seen: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return self.end();
        }
        let Some((entry, rest)) = split_entry(self.rest, self.before) else {
            return Some(Err(self.damage()));
        };
        self.before = self.rest.len() - rest.len();
        self.rest = rest;
        self.seen += 1;
        Some(Ok(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The smallest entry has two bytes. What the header states is a claim: it is not given on.
        (0, Some(self.rest.len() / 2 + 1))
    }
}

impl Entries<'_> {
    /// Where it stands.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark { at: self.list.body.len() - self.rest.len(), before: self.before, seen: self.seen }
    }

    /// Whether no entry is left. The next step then says whether all was as the header states.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Says at the end what only the whole walk could show.
    fn end<T>(&mut self) -> Option<Result<T, Damaged>> {
        let seen = std::mem::replace(&mut self.seen, ENDED);
        if seen == ENDED {
            return None;
        }
        if seen > 0 && self.list.tail + self.before != HEADER + self.list.body.len() {
            let what = "a ziplist whose last entry is not where it says";
            return Some(Err(Damaged { at: 4, what }));
        }
        if self.list.stated_len().is_some_and(|stated| stated != seen) {
            return Some(Err(Damaged {
                at: 8,
                what: "a ziplist that has another count than it says",
            }));
        }
        None
    }

    /// Why the entry at the head of `rest` is none.
    #[cold]
    fn damage(&mut self) -> Damaged {
        let at = HEADER + self.list.body.len() - self.rest.len();
        let what = match split_back_length(self.rest) {
            _ if self.rest.first() == Some(&END) => "a ziplist that ends before its end",
            Some((before, _)) if before != self.before => {
                "a ziplist entry that gives the entry before it another length"
            }
            Some((_, [0xc1..=0xcf | 0xd1..=0xdf | 0xe1..=0xef | 0xff, ..])) => {
                "a ziplist entry of no known encoding"
            }
            _ => "a ziplist entry that does not end inside the ziplist",
        };
        self.rest = &[];
        self.seen = ENDED;
        Damaged { at, what }
    }
}

/// The length of the entry before, and what follows it.
#[inline]
fn split_back_length(input: &[u8]) -> Option<(usize, &[u8])> {
    match input {
        [BIG_BACK_LENGTH, a, b, c, d, rest @ ..] => {
            Some((usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?, rest))
        }
        [length, rest @ ..] if *length < BIG_BACK_LENGTH => Some((usize::from(*length), rest)),
        _ => None,
    }
}

/// One entry and what follows it; `None` if there is none here or `before` is not what it says.
#[inline]
fn split_entry(input: &[u8], before: usize) -> Option<(Entry<'_>, &[u8])> {
    let (stated, input) = split_back_length(input)?;
    if stated != before {
        return None;
    }
    let (&tag, rest) = input.split_first()?;
    let (length, rest) = match tag >> 6 {
        0b00 => (usize::from(tag), rest),
        0b01 => {
            let (&low, rest) = rest.split_first()?;
            (usize::from(u16::from_be_bytes([tag & 0x3f, low])), rest)
        }
        // The low six bits carry nothing; servers write zeros there and do not look at them.
        0b10 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u32::from_be_bytes(*length)).ok()?, rest)
        }
        _ => return split_int(tag, rest),
    };
    let (bytes, rest) = rest.split_at_checked(length)?;
    Some((Entry::Bytes(bytes), rest))
}

#[inline]
fn split_int(tag: u8, rest: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (value, rest) = match tag {
        INT8 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (i8::from_le_bytes(*bytes).into(), rest)
        }
        INT16 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (i16::from_le_bytes(*bytes).into(), rest)
        }
        INT24 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (int24(*bytes), rest)
        }
        INT32 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (i32::from_le_bytes(*bytes).into(), rest)
        }
        INT64 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (i64::from_le_bytes(*bytes), rest)
        }
        IMMEDIATE_0..=IMMEDIATE_12 => (i64::from(tag - IMMEDIATE_0), rest),
        _ => return None,
    };
    Some((Entry::Int(value), rest))
}

/// Writes a ziplist, entry by entry.
#[derive(Clone, Debug)]
pub struct Builder {
    out: Vec<u8>,
    tail: usize,
    count: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty ziplist.
    #[must_use]
    pub fn new() -> Self {
        Self { out: vec![0; HEADER], tail: HEADER, count: 0 }
    }

    /// Adds a string at the end; as an integer if that loses nothing.
    ///
    /// # Errors
    /// [`Full`] if the ziplist would become too large.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if let Some(value) = canonical_int(bytes) {
            return self.push_int(value);
        }
        self.begin(bytes.len())?;
        match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
            (Ok(length @ ..=0x3f), _) => self.out.push(length),
            (_, Ok(length @ ..=0x3fff)) => {
                self.out.extend_from_slice(&(0x4000 | length).to_be_bytes());
            }
            _ => {
                self.out.push(0x80);
                let length = u32::try_from(bytes.len()).map_err(|_| Full)?;
                self.out.extend_from_slice(&length.to_be_bytes());
            }
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds the decimal form of an integer at the end.
    ///
    /// # Errors
    /// [`Full`] if the ziplist would become too large.
    pub fn push_int(&mut self, value: i64) -> Result<(), Full> {
        self.begin(0)?;
        if let Ok(small @ 0..=12) = u8::try_from(value) {
            self.out.push(IMMEDIATE_0 + small);
        } else if let Ok(value) = i8::try_from(value) {
            self.out.push(INT8);
            self.out.extend_from_slice(&value.to_le_bytes());
        } else if let Ok(value) = i16::try_from(value) {
            self.out.push(INT16);
            self.out.extend_from_slice(&value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            let [a, b, c, d] = value.to_le_bytes();
            if int24([a, b, c]) == i64::from(value) {
                self.out.extend_from_slice(&[INT24, a, b, c]);
            } else {
                self.out.extend_from_slice(&[INT32, a, b, c, d]);
            }
        } else {
            self.out.push(INT64);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    /// How many entries were pushed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The blob.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(END);
        // `begin` keeps both below MAX_BYTES.
        let total = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        let tail = u32::try_from(self.tail).unwrap_or(u32::MAX);
        let count = u16::try_from(self.count).unwrap_or(UNCOUNTED);
        if let Some(head) = self.out.first_chunk_mut::<HEADER>() {
            let ([b0, b1, b2, b3], [t0, t1, t2, t3]) = (total.to_le_bytes(), tail.to_le_bytes());
            let [c0, c1] = count.to_le_bytes();
            *head = [b0, b1, b2, b3, t0, t1, t2, t3, c0, c1];
        }
        self.out
    }

    /// Writes what stands before the tag, for an entry of so many bytes.
    fn begin(&mut self, bytes: usize) -> Result<(), Full> {
        // Both lengths in their largest form, an integer of 64 bits, and the end.
        if self.out.len() + 5 + 5 + 8 + 1 > MAX_BYTES.saturating_sub(bytes) {
            return Err(Full);
        }
        let before = if self.is_empty() { 0 } else { self.out.len() - self.tail };
        self.tail = self.out.len();
        self.count += 1;
        match u8::try_from(before) {
            Ok(before) if before < BIG_BACK_LENGTH => self.out.push(before),
            _ => {
                let before = u32::try_from(before).map_err(|_| Full)?;
                self.out.push(BIG_BACK_LENGTH);
                self.out.extend_from_slice(&before.to_le_bytes());
            }
        }
        Ok(())
    }
}

/// Servers let no ziplist grow beyond this (redis `ziplist.c`, `ZIPLIST_MAX_SAFETY_SIZE`).
const MAX_BYTES: usize = 1 << 30;

const HEADER: usize = 10;
const END: u8 = 0xff;
const UNCOUNTED: u16 = u16::MAX;
const ENDED: usize = usize::MAX;
const BIG_BACK_LENGTH: u8 = 0xfe;
const INT16: u8 = 0xc0;
const INT32: u8 = 0xd0;
const INT64: u8 = 0xe0;
const INT24: u8 = 0xf0;
const INT8: u8 = 0xfe;
const IMMEDIATE_0: u8 = 0xf1;
const IMMEDIATE_12: u8 = 0xfd;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rdb::packed::tests::blob_with_faults;
    use crate::rdb::packed::tests::border_integers;
    use crate::rdb::packed::tests::border_lengths;
    use crate::rdb::packed::tests::strings;

    fn build(items: &[Vec<u8>]) -> Vec<u8> {
        let mut builder = Builder::new();
        for item in items {
            builder.push(item).unwrap();
        }
        builder.finish()
    }

    fn read(blob: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
        Ziplist::parse(blob)?
            .iter()
            .map(|entry| Ok(entry?.to_bytes(&mut itoa::Buffer::new()).to_vec()))
            .collect()
    }

    /// Written by hand after the layout, and equal to what `DEBUG ZIPLIST`-era servers saved for these entries.
    #[test]
    fn the_bytes_are_those_of_a_server() {
        let items = ["a", "12", "13", "-129", "32768", "-8388609", "4294967296"];
        let blob = build(&items.map(|item| item.as_bytes().to_vec()));
        let entries: &[&[u8]] = &[
            b"\x00\x01a",
            b"\x03\xfd",
            b"\x02\xfe\x0d",
            b"\x03\xc0\x7f\xff",
            b"\x04\xf0\x00\x80\x00",
            b"\x05\xd0\xff\xff\x7f\xff",
            b"\x06\xe0\x00\x00\x00\x00\x01\x00\x00\x00",
        ];
        let body = entries.concat();
        let mut expected = vec![10 + u8::try_from(body.len()).unwrap() + 1, 0, 0, 0];
        expected.extend([10 + u8::try_from(body.len()).unwrap() - 10, 0, 0, 0, 7, 0]);
        expected.extend(&body);
        expected.push(0xff);
        assert_eq!(blob, expected);
        assert_eq!(read(&blob).unwrap(), items.map(|item| item.as_bytes().to_vec()));
    }

    #[test]
    fn an_empty_one_is_eleven_bytes() {
        let blob = Builder::new().finish();
        assert_eq!(blob, b"\x0b\0\0\0\x0a\0\0\0\0\0\xff");
        assert!(Ziplist::parse(&blob).unwrap().is_empty());
        assert_eq!(read(&blob).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn every_header_form_is_read_back() {
        let mut items = border_lengths();
        items.extend(border_integers());
        items.extend((0..14).map(|value| value.to_string().into_bytes()));
        assert_eq!(read(&build(&items)).unwrap(), items);
    }

    #[test]
    fn a_long_length_of_a_short_entry_before_is_read() {
        // What a cascade of updates leaves behind (redis ziplist.c, __ziplistCascadeUpdate).
        let blob = b"\x15\0\0\0\x0d\0\0\0\x02\0\x00\x01a\xfe\x03\0\0\0\x01b\xff";
        assert_eq!(read(blob).unwrap(), [b"a", b"b"]);
    }

    #[test]
    fn the_low_bits_of_a_long_strings_tag_do_not_count() {
        let blob = b"\x12\0\0\0\x0a\0\0\0\x01\0\x00\xbf\0\0\0\x01a\xff";
        assert_eq!(read(blob).unwrap(), [b"a"]);
    }

    #[test]
    fn more_entries_than_a_count_holds_are_uncounted() {
        let items = vec![b"7".to_vec(); 65_535];
        let blob = build(&items);
        assert_eq!(Ziplist::parse(&blob).unwrap().stated_len(), None);
        assert_eq!(read(&blob).unwrap().len(), 65_535);
        let fewer = build(&items[1..]);
        assert_eq!(Ziplist::parse(&fewer).unwrap().stated_len(), Some(65_534));
    }

    #[test]
    fn each_damage_is_named_and_placed() {
        let good = build(&[b"a".to_vec(), b"1000".to_vec(), vec![b'x'; 70]]);
        // Entries begin at 10, 13 and 17.
        let with = |at: usize, byte: u8| {
            let mut blob = good.clone();
            blob[at] = byte;
            read(&blob).unwrap_err()
        };
        let last = good.len() - 1;
        for (found, at, what) in [
            (read(&good[..10]).unwrap_err(), 0, "fewer than 11"),
            (with(0, 1), 0, "another size"),
            (with(last, 0), last, "without its end"),
            (with(7, 1), 4, "is outside"),
            (with(4, 13), 4, "is not where"),
            (with(8, 2), 8, "another count"),
            (with(10, 0xff), 10, "ends before"),
            (with(13, 4), 13, "another length"),
            (with(14, 0xc1), 13, "no known encoding"),
            (with(14, 0xff), 13, "no known encoding"),
            (with(18, 0x7f), 17, "does not end inside"),
        ] {
            assert_eq!(found.at, at, "{found}");
            assert!(found.what.contains(what), "{found}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(items in strings()) {
            let blob = build(&items);
            prop_assert_eq!(Ziplist::parse(&blob).unwrap().stated_len(), Some(items.len()));
            prop_assert_eq!(read(&blob).unwrap(), items);
        }

        #[test]
        fn what_is_read_from_damage_is_whole((blob, _) in blob_with_faults(build)) {
            // Whatever is accepted has as many entries as it says, and they make a ziplist of their own.
            if let Ok(items) = read(&blob) {
                let list = Ziplist::parse(&blob).unwrap();
                prop_assert!(list.stated_len().is_none_or(|stated| stated == items.len()));
                prop_assert_eq!(read(&build(&items)).unwrap(), items);
            } else if let Ok(list) = Ziplist::parse(&blob) {
                let mut entries = list.iter();
                let error = entries.by_ref().find_map(Result::err).unwrap();
                prop_assert!(error.at < blob.len());
                prop_assert!(entries.next().is_none());
            }
        }
    }
}
