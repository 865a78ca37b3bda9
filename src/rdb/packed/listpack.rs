//! The listpack: streams from Redis 5.0 on, from 7.0 on what the ziplist was for, sets from 7.2 on.
//!
//! ```text
//! total bytes u32 | count u16 | entry ... | 0xFF     little endian
//! entry: tag, data | their length, once more, in a form that is read backwards
//! ```
//! A count of 65535 says that the entries were not counted.

use crate::rdb::packed::Damaged;
use crate::rdb::packed::Entry;
use crate::rdb::packed::Full;
use crate::rdb::packed::Mark;
use crate::rdb::packed::canonical_int;
use crate::rdb::packed::int24;

/// A listpack whose frame was checked, borrowed from where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Listpack<'a> {
    body: &'a [u8],
    count: u16,
}

impl<'a> Listpack<'a> {
    /// Takes a blob for a listpack: its stated size must be its size, and its last byte the terminator.
    ///
    /// # Errors
    /// [`Damaged`] if it is not one. Single entries are checked when they are walked.
    pub fn parse(blob: &'a [u8]) -> Result<Self, Damaged> {
        let frame = blob
            .split_first_chunk::<HEADER>()
            .and_then(|(head, rest)| Some((head, rest.split_last()?)));
        let Some((&[b0, b1, b2, b3, c0, c1], (&end, body))) = frame else {
            return Err(Damaged { at: 0, what: "a listpack of fewer than 7 bytes" });
        };
        if usize::try_from(u32::from_le_bytes([b0, b1, b2, b3])) != Ok(blob.len()) {
            return Err(Damaged { at: 0, what: "a listpack that states another size than it has" });
        }
        if end != END {
            return Err(Damaged { at: HEADER + body.len(), what: "a listpack without its end" });
        }
        Ok(Self { body, count: u16::from_le_bytes([c0, c1]) })
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
        Entries { list: *self, rest: self.body, seen: 0 }
    }

    /// Walks on from where another walk over this blob stood; from elsewhere it meets damage or the end.
    #[must_use]
    pub fn resume(&self, mark: Mark) -> Entries<'a> {
        let rest = self.body.get(mark.at..).unwrap_or_default();
        Entries { list: *self, rest, seen: mark.seen }
    }
}

impl<'a> IntoIterator for &Listpack<'a> {
    type Item = Result<Entry<'a>, Damaged>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The entries of a [`Listpack`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    list: Listpack<'a>,
    /// What was not walked yet, without the terminator.
    rest: &'a [u8],
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
        let Some((entry, rest)) = split_entry(self.rest) else {
            return Some(Err(self.damage()));
        };
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
        Mark { at: self.list.body.len() - self.rest.len(), before: 0, seen: self.seen }
    }

    /// Whether no entry is left. The next step then says whether all was as the header states.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The byte of the blob at which the next entry, or the terminator, stands.
    #[must_use]
    pub const fn at(&self) -> usize {
        HEADER + self.list.body.len() - self.rest.len()
    }

    /// Says at the end what only the whole walk could show.
    fn end<T>(&mut self) -> Option<Result<T, Damaged>> {
        let seen = std::mem::replace(&mut self.seen, ENDED);
        if seen != ENDED && self.list.stated_len().is_some_and(|stated| stated != seen) {
            let what = "a listpack that has another count than it says";
            return Some(Err(Damaged { at: 4, what }));
        }
        None
    }

    /// Why the entry at the head of `rest` is none.
    #[cold]
    fn damage(&mut self) -> Damaged {
        let at = self.at();
        let what = match self.rest.first() {
            Some(&END) => "a listpack that ends before its end",
            Some(0xf5..=0xfe) => "a listpack entry of no known encoding",
            _ if Head::read(self.rest).is_some_and(|head| head.length <= self.rest.len()) => {
                "a listpack entry whose length is another one read backwards"
            }
            _ => "a listpack entry that does not end inside the listpack",
        };
        self.rest = &[];
        self.seen = ENDED;
        Damaged { at, what }
    }
}

/// One entry and what follows its length for reading backwards; `None` if there is none here.
#[inline]
fn split_entry(input: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let head = Head::read(input)?;
    let (data, rest) = input.split_at_checked(head.length)?;
    let rest = if head.length <= BACK_1 {
        let (&back, rest) = rest.split_first()?;
        if usize::from(back) != head.length {
            return None;
        }
        rest
    } else {
        let (back, used) = back_length(head.length);
        rest.strip_prefix(back.get(..used)?)?
    };
    let entry = match head.value {
        Some(value) => Entry::Int(value),
        None => Entry::Bytes(data.get(head.tag..)?),
    };
    Some((entry, rest))
}

/// What an entry's first bytes say. Plain numbers, no entry yet: an enum built in one of eight arms is
/// written to memory in parts and read back whole, which stalls the processor and made this 3 times slower.
struct Head {
    /// The bytes of the tag, with the length that is part of it.
    tag: usize,
    /// The bytes of tag and data.
    length: usize,
    /// The number, if it is one.
    value: Option<i64>,
}

impl Head {
    /// Reads it; `None` if it is of no known encoding or not whole. The data may still be missing.
    #[inline]
    fn read(input: &[u8]) -> Option<Self> {
        let (&tag, rest) = input.split_first()?;
        // Compared in the order of what real listpacks hold: short strings and small integers come first.
        if tag < STR6 {
            Some(Self::int(1, tag.into()))
        } else if tag < INT13 {
            Some(Self::string(1, (tag & 0x3f).into()))
        } else if tag < STR12 {
            let low = *rest.first()?;
            // The sign is bit 12: push it to the top and let the shift back copy it.
            let value = i16::from_be_bytes([tag << 3 | low >> 5, low << 3]) >> 3;
            Some(Self::int(2, value.into()))
        } else if tag < STR32 {
            let low = *rest.first()?;
            Some(Self::string(2, u16::from_be_bytes([tag & 0x0f, low]).into()))
        } else {
            match tag {
                STR32 => {
                    let length = u32::from_le_bytes(*rest.first_chunk()?);
                    Some(Self::string(5, usize::try_from(length).ok()?))
                }
                INT16 => Some(Self::int(3, i16::from_le_bytes(*rest.first_chunk()?).into())),
                INT24 => Some(Self::int(4, int24(*rest.first_chunk()?))),
                INT32 => Some(Self::int(5, i32::from_le_bytes(*rest.first_chunk()?).into())),
                INT64 => Some(Self::int(9, i64::from_le_bytes(*rest.first_chunk()?))),
                _ => None,
            }
        }
    }

    #[inline]
    const fn int(length: usize, value: i64) -> Self {
        Self { tag: length, length, value: Some(value) }
    }

    #[inline]
    const fn string(tag: usize, bytes: usize) -> Self {
        Self { tag, length: tag.saturating_add(bytes), value: None }
    }
}

/// The length of an entry as it stands behind it, and how many bytes of it count.
///
/// Seven bits a byte, the last byte the lowest; all but the first byte are marked, so that who comes from
/// behind knows where to stop. The borders are the servers' own (redis `listpack.c`, `lpEncodeBacklen`):
/// 16383 would fit into two bytes and stands in three, and a server refuses it in two.
#[inline]
fn back_length(length: usize) -> ([u8; 5], usize) {
    let seven = |shift: u32| u8::try_from(length >> shift & 0x7f).unwrap_or(0);
    let marked = |shift: u32| seven(shift) | 0x80;
    match length {
        0..=BACK_1 => ([seven(0), 0, 0, 0, 0], 1),
        128..16_383 => ([seven(7), marked(0), 0, 0, 0], 2),
        16_383..2_097_151 => ([seven(14), marked(7), marked(0), 0, 0], 3),
        2_097_151..268_435_455 => ([seven(21), marked(14), marked(7), marked(0), 0], 4),
        _ => ([seven(28), marked(21), marked(14), marked(7), marked(0)], 5),
    }
}

/// Writes a listpack, entry by entry.
#[derive(Clone, Debug)]
pub struct Builder {
    out: Vec<u8>,
    count: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty listpack.
    #[must_use]
    pub fn new() -> Self {
        Self { out: vec![0; HEADER], count: 0 }
    }

    /// Adds a string at the end; as an integer if that loses nothing.
    ///
    /// # Errors
    /// [`Full`] if the listpack would become too large.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if let Some(value) = canonical_int(bytes) {
            return self.push_int(value);
        }
        let start = self.begin(bytes.len())?;
        match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
            (Ok(length @ ..=0x3f), _) => self.out.push(STR6 | length),
            (_, Ok(length @ ..=0x0fff)) => {
                self.out.extend_from_slice(&(u16::from(STR12) << 8 | length).to_be_bytes());
            }
            _ => {
                self.out.push(STR32);
                let length = u32::try_from(bytes.len()).map_err(|_| Full)?;
                self.out.extend_from_slice(&length.to_le_bytes());
            }
        }
        self.out.extend_from_slice(bytes);
        self.end(start);
        Ok(())
    }

    /// Adds the decimal form of an integer at the end.
    ///
    /// # Errors
    /// [`Full`] if the listpack would become too large.
    pub fn push_int(&mut self, value: i64) -> Result<(), Full> {
        let start = self.begin(0)?;
        if let Ok(small @ ..=0x7f) = u8::try_from(value) {
            self.out.push(small);
        } else if let Ok(value) = i16::try_from(value) {
            if (-4096..=4095).contains(&value) {
                let [high, low] = value.to_be_bytes();
                self.out.extend_from_slice(&[INT13 | high & 0x1f, low]);
            } else {
                self.out.push(INT16);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
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
        self.end(start);
        Ok(())
    }

    /// Adds all entries of another one at the end.
    ///
    /// # Errors
    /// [`Full`] if the listpack would become too large.
    pub fn append(&mut self, other: &Self) -> Result<(), Full> {
        let entries = other.out.get(HEADER..).unwrap_or_default();
        self.begin(entries.len())?;
        self.out.extend_from_slice(entries);
        self.count += other.count;
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

    /// How many bytes the blob has so far, its end not counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.out.len()
    }

    /// The blob.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(END);
        // `begin` keeps it below MAX_BYTES.
        let [b0, b1, b2, b3] = u32::try_from(self.out.len()).unwrap_or(u32::MAX).to_le_bytes();
        let [c0, c1] = u16::try_from(self.count).unwrap_or(UNCOUNTED).to_le_bytes();
        if let Some(head) = self.out.first_chunk_mut::<HEADER>() {
            *head = [b0, b1, b2, b3, c0, c1];
        }
        self.out
    }

    /// Makes sure that an entry of so many bytes fits; says where it begins.
    fn begin(&self, bytes: usize) -> Result<usize, Full> {
        // The longest tag, an integer of 64 bits, the longest length, and the end.
        if self.out.len() + 5 + 8 + 5 + 1 > MAX_BYTES.saturating_sub(bytes) {
            return Err(Full);
        }
        Ok(self.out.len())
    }

    fn end(&mut self, start: usize) {
        let (back, used) = back_length(self.out.len() - start);
        self.out.extend(back.iter().take(used));
        self.count += 1;
    }
}

/// What the header can state. Servers stop adding to a listpack at 1 GiB, but one entry of a stream can pass it.
const MAX_BYTES: usize = u32::MAX as usize;

const HEADER: usize = 6;
const END: u8 = 0xff;
const UNCOUNTED: u16 = u16::MAX;
const ENDED: usize = usize::MAX;
const BACK_1: usize = 127;
const STR6: u8 = 0x80;
const INT13: u8 = 0xc0;
const STR12: u8 = 0xe0;
const STR32: u8 = 0xf0;
const INT16: u8 = 0xf1;
const INT24: u8 = 0xf2;
const INT32: u8 = 0xf3;
const INT64: u8 = 0xf4;

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
        Listpack::parse(blob)?
            .iter()
            .map(|entry| Ok(entry?.to_bytes(&mut itoa::Buffer::new()).to_vec()))
            .collect()
    }

    #[test]
    fn the_bytes_are_those_of_a_server() {
        let items = ["a", "127", "128", "-1", "-4097", "32768", "-8388609", "4294967296"];
        let blob = build(&items.map(|item| item.as_bytes().to_vec()));
        let entries: &[&[u8]] = &[
            b"\x81a\x02",
            b"\x7f\x01",
            b"\xc0\x80\x02",
            b"\xdf\xff\x02",
            b"\xf1\xff\xef\x03",
            b"\xf2\x00\x80\x00\x04",
            b"\xf3\xff\xff\x7f\xff\x05",
            b"\xf4\x00\x00\x00\x00\x01\x00\x00\x00\x09",
        ];
        let body = entries.concat();
        let mut expected = vec![6 + u8::try_from(body.len()).unwrap() + 1, 0, 0, 0, 8, 0];
        expected.extend(&body);
        expected.push(0xff);
        assert_eq!(blob, expected);
        assert_eq!(read(&blob).unwrap(), items.map(|item| item.as_bytes().to_vec()));
    }

    #[test]
    fn an_empty_one_is_seven_bytes() {
        let blob = Builder::new().finish();
        assert_eq!(blob, b"\x07\0\0\0\0\0\xff");
        assert!(Listpack::parse(&blob).unwrap().is_empty());
        assert_eq!(read(&blob).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn every_header_form_is_read_back() {
        let mut items = border_lengths();
        items.extend(border_integers());
        assert_eq!(read(&build(&items)).unwrap(), items);
    }

    #[test]
    fn the_length_behind_an_entry_takes_the_servers_number_of_bytes() {
        for (length, bytes) in [
            (127, 1),
            (128, 2),
            (16_382, 2),
            (16_383, 3),
            (2_097_150, 3),
            (2_097_151, 4),
            (268_435_454, 4),
            (268_435_455, 5),
        ] {
            let (back, used) = back_length(length);
            assert_eq!(used, bytes, "{length}");
            let backwards = back[..used].iter().rev().enumerate();
            let value: usize = backwards.map(|(n, byte)| usize::from(byte & 0x7f) << (7 * n)).sum();
            assert_eq!(value, length);
            assert!(back[0] < 0x80 && back[1..used].iter().all(|byte| *byte >= 0x80));
        }
    }

    #[test]
    fn more_entries_than_a_count_holds_are_uncounted() {
        let items = vec![b"7".to_vec(); 65_535];
        let blob = build(&items);
        assert_eq!(Listpack::parse(&blob).unwrap().stated_len(), None);
        assert_eq!(read(&blob).unwrap().len(), 65_535);
        let fewer = build(&items[1..]);
        assert_eq!(Listpack::parse(&fewer).unwrap().stated_len(), Some(65_534));
    }

    #[test]
    fn each_damage_is_named_and_placed() {
        let good = build(&[b"a".to_vec(), b"1000".to_vec(), vec![b'x'; 200]]);
        // Entries begin at 6, 9 and 12; the last one's length stands in the two bytes before the end.
        let with = |at: usize, byte: u8| {
            let mut blob = good.clone();
            blob[at] = byte;
            read(&blob).unwrap_err()
        };
        let last = good.len() - 1;
        for (found, at, what) in [
            (read(&good[..6]).unwrap_err(), 0, "fewer than 7"),
            (with(0, 1), 0, "another size"),
            (with(last, 0), last, "without its end"),
            (with(4, 2), 4, "another count"),
            (with(6, 0xff), 6, "ends before"),
            (with(8, 3), 6, "read backwards"),
            (with(9, 0xf5), 9, "no known encoding"),
            (with(9, 0xf0), 9, "does not end inside"),
            (with(last - 1, 0x4a), 12, "read backwards"),
            (with(12, 0xef), 12, "does not end inside"),
        ] {
            assert_eq!(found.at, at, "{found}");
            assert!(found.what.contains(what), "{found}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(items in strings()) {
            let blob = build(&items);
            prop_assert_eq!(Listpack::parse(&blob).unwrap().stated_len(), Some(items.len()));
            prop_assert_eq!(read(&blob).unwrap(), items);
        }

        #[test]
        fn what_is_read_from_damage_is_whole((blob, _) in blob_with_faults(build)) {
            // Whatever is accepted has as many entries as it says, and they make a listpack of their own.
            if let Ok(items) = read(&blob) {
                let list = Listpack::parse(&blob).unwrap();
                prop_assert!(list.stated_len().is_none_or(|stated| stated == items.len()));
                prop_assert_eq!(read(&build(&items)).unwrap(), items);
            } else if let Ok(list) = Listpack::parse(&blob) {
                let mut entries = list.iter();
                let error = entries.by_ref().find_map(Result::err).unwrap();
                prop_assert!(error.at < blob.len());
                prop_assert!(entries.next().is_none());
            }
        }
    }
}
