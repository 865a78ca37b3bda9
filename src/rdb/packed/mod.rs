//! The packed encodings: a small collection kept as one string, walked here without being copied.
//!
//! A blob is checked once at its door (`parse`: its own length, its terminator, where it says its last entry
//! is) and is then an iterator over entries borrowed from it. The iterator checks what only a walk can
//! check, the same things that a server checks under `sanitize-dump-payload yes`: that an entry ends inside
//! the blob, that the lengths for walking backwards agree with those for walking forwards, that the count
//! in the header is true. It ends after the first [`Damaged`].
//!
//! The builders write what a server writes: the smallest header that holds an entry, a string that is the
//! canonical form of an integer as that integer.

pub mod intset;
pub mod listpack;
pub mod ziplist;
pub mod zipmap;

/// What stands in a ziplist or a listpack: a string, or a string that was stored as the integer it spells.
///
/// The two are not told apart by any command, so `==` is not derived: compare [`to_bytes`](Self::to_bytes).
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A string, borrowed from the blob.
    Bytes(&'a [u8]),
    /// The string that is this number in decimal.
    Int(i64),
}

impl<'a> Entry<'a> {
    /// The entry's bytes. A number is printed into `text`, which no other entry may need at that time.
    #[inline]
    #[must_use]
    pub fn to_bytes<'b>(self, text: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Int(value) => text.format(value).as_bytes(),
        }
    }

    /// The integer that the entry spells, in whichever form it is stored; `None` if it spells none.
    #[inline]
    #[must_use]
    pub fn to_int(self) -> Option<i64> {
        match self {
            Self::Bytes(bytes) => canonical_int(bytes),
            Self::Int(value) => Some(value),
        }
    }
}

/// Where a walk over a blob stands: with it another walk over the same blob goes on from there.
///
/// For who gives entries away one at a time and cannot keep a borrow of the blob meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Bytes, of an intset members, before the next entry.
    at: usize,
    /// The raw length of the entry walked last, which a ziplist repeats.
    before: usize,
    /// How many were walked.
    seen: usize,
}

impl Mark {
    /// Before the first entry.
    pub const BEGIN: Self = Self { at: 0, before: 0, seen: 0 };
}

/// A packed blob that is not what it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of the blob")]
pub struct Damaged {
    /// The byte of the blob at which the entry or the header field begins that cannot be right.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A packed blob would become larger than it can be. What is being built is worth nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packed blob cannot be that large")]
pub struct Full;

/// The integer of which `text` is the one decimal form: no plus, no leading zeros, no `-0`, within 64 bits.
///
/// Exactly these strings can be stored as integers and come back byte for byte (redis `util.c`, `string2ll`).
#[inline]
#[must_use]
pub fn canonical_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= MAX_DIGITS => {}
        _ => return None,
    }
    // 19 digits stay below 10^19, which a u64 holds.
    let mut value = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// Of `i64::MAX` and `i64::MIN`.
const MAX_DIGITS: usize = 19;

/// The bytes of two integers of three, as both formats store them: little endian, sign-extended on reading.
#[inline]
const fn int24([a, b, c]: [u8; 3]) -> i64 {
    (i32::from_le_bytes([0, a, b, c]) >> 8) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_one_form_of_an_integer_is_one() {
        for (text, value) in [
            ("0", 0),
            ("-1", -1),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(canonical_int(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1e3",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
        ] {
            assert_eq!(canonical_int(text.as_bytes()), None, "{text}");
        }
    }

    /// Strings of every kind that the formats treat differently: short, integers, at the borders of the lengths.
    pub(super) fn strings() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(
            prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 0..80),
                4 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
                4 => (0..64_u32, any::<i64>()).prop_map(|(shift, value)| {
                    (value >> shift).to_string().into_bytes()
                }),
                1 => prop::collection::vec(any::<u8>(), 80..6000),
                1 => prop::sample::select(border_lengths()),
            ],
            0..40,
        )
    }

    /// Texts that are no integers, at the lengths where a header, or the length of an entry, takes another form.
    pub(super) fn border_lengths() -> Vec<Vec<u8>> {
        [0, 1, 63, 64, 126, 127, 128, 250, 251, 252, 253, 254, 255, 256, 4095, 4096]
            .into_iter()
            .chain(16_376..16_386)
            .chain(2_097_140..2_097_150)
            .map(|length| vec![b'x'; length])
            .collect()
    }

    /// The powers of two, one less, and the negatives of both: where integers need another width.
    pub(super) fn border_integers() -> Vec<Vec<u8>> {
        (0..64)
            .flat_map(|bit| {
                let power = 1_i64.wrapping_shl(bit);
                [power, power.wrapping_neg(), power.wrapping_sub(1), !power]
            })
            .map(|value| value.to_string().into_bytes())
            .collect()
    }

    /// A blob with some bytes changed, and where.
    pub(super) fn blob_with_faults(
        build: fn(&[Vec<u8>]) -> Vec<u8>,
    ) -> impl Strategy<Value = (Vec<u8>, Vec<(prop::sample::Index, u8)>)> {
        let items = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..12);
        let faults = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (items, faults).prop_map(move |(items, faults)| {
            let mut blob = build(&items);
            for (at, byte) in &faults {
                *at.get_mut(&mut blob) = *byte;
            }
            (blob, faults)
        })
    }

    /// All that a walk gives, taken one entry at a time from a walk that begins anew each time.
    fn resumed<T>(step: impl Fn(Mark) -> (Option<Result<T, Damaged>>, Mark)) -> Vec<T> {
        let (mut all, mut mark) = (Vec::new(), Mark::BEGIN);
        loop {
            let (entry, next) = step(mark);
            match entry {
                Some(entry) => all.push(entry.unwrap()),
                None => return all,
            }
            mark = next;
        }
    }

    proptest! {
        #[test]
        fn a_resumed_walk_gives_what_a_walk_gives(
            texts in prop::collection::vec("[a-c0-9-]{0,20}", 0..40), numbers: Vec<i64>
        ) {
            let mut ziplist = ziplist::Builder::new();
            let mut listpack = listpack::Builder::new();
            for text in &texts {
                ziplist.push(text.as_bytes()).unwrap();
                listpack.push(text.as_bytes()).unwrap();
            }
            let text = |entry: Entry<'_>| {
                String::from_utf8(entry.to_bytes(&mut itoa::Buffer::new()).to_vec()).unwrap()
            };
            let blob = ziplist.finish();
            let list = ziplist::Ziplist::parse(&blob).unwrap();
            let walked = resumed(|mark| {
                let mut entries = list.resume(mark);
                let left = !entries.is_at_end();
                let entry = entries.next().map(|entry| entry.map(text));
                assert_eq!(left, entry.is_some());
                (entry, entries.mark())
            });
            prop_assert_eq!(&walked, &texts);
            let blob = listpack.finish();
            let list = listpack::Listpack::parse(&blob).unwrap();
            let walked = resumed(|mark| {
                let mut entries = list.resume(mark);
                let left = !entries.is_at_end();
                let entry = entries.next().map(|entry| entry.map(text));
                assert_eq!(left, entry.is_some());
                (entry, entries.mark())
            });
            prop_assert_eq!(&walked, &texts);
            let pairs: Vec<_> = texts
                .chunks_exact(2)
                .map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()))
                .collect();
            let blob = zipmap::build(pairs.iter().copied()).unwrap();
            let map = zipmap::Zipmap::parse(&blob).unwrap();
            let walked = resumed(|mark| {
                let mut entries = map.resume(mark);
                let left = !entries.is_at_end();
                let entry = entries.next();
                assert_eq!(left, entry.is_some());
                (entry, entries.mark())
            });
            prop_assert_eq!(walked, pairs);
            let blob = intset::build(numbers).unwrap();
            let set = intset::Intset::parse(&blob).unwrap();
            let walked = resumed(|mark| {
                let mut members = set.resume(mark);
                let left = !members.is_at_end();
                let member = members.next();
                assert_eq!(left, member.is_some());
                (member, members.mark())
            });
            prop_assert_eq!(walked, set.iter().map(Result::unwrap).collect::<Vec<_>>());
        }

        #[test]
        fn an_integer_survives_its_own_text(value: i64) {
            let text = value.to_string();
            prop_assert_eq!(canonical_int(text.as_bytes()), Some(value));
            let mut buffer = itoa::Buffer::new();
            prop_assert_eq!(Entry::Int(value).to_bytes(&mut buffer), text.as_bytes());
            prop_assert_eq!(Entry::Bytes(text.as_bytes()).to_int(), Some(value));
        }

        #[test]
        fn what_is_taken_for_an_integer_prints_as_it_was(text in "[-+0-9 ]{0,21}") {
            if let Some(value) = canonical_int(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }
}
