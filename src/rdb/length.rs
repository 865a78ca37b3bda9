//! The length: a number of 0 to 64 bits in one to nine bytes, or the mark of an encoded string.
//!
//! ```text
//! 00xxxxxx                 6 bits
//! 01xxxxxx xxxxxxxx        14 bits, big endian
//! 10000000 + 4 bytes       32 bits, big endian
//! 10000001 + 8 bytes       64 bits, big endian (from RDB 8 on)
//! 11xxxxxx                 no length: a string in the encoding xxxxxx follows
//! ```

use nom::Parser as _;
use nom::number::streaming::be_u32;
use nom::number::streaming::be_u64;
use nom::number::streaming::u8;

use bytes::BufMut;

use crate::rdb::error::Fault;
use crate::rdb::error::Leaf;
use crate::rdb::error::RdbErrorKind;

/// What stands where a length may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Plain(u64),
    /// The six low bits: how the string that follows is encoded.
    Special(u8),
}

const WIDE_32: u8 = 0x80;
const WIDE_64: u8 = 0x81;

/// Reads a length or the mark of an encoded string.
#[inline]
pub(crate) fn length_or_special(input: &[u8]) -> Leaf<'_, Length> {
    match input {
        [first @ 0..=0x3f, rest @ ..] => Ok((rest, Length::Plain(u64::from(*first)))),
        [first @ 0x40..=0x7f, second, rest @ ..] => {
            Ok((rest, Length::Plain(u64::from(*first & 0x3f) << 8 | u64::from(*second))))
        }
        _ => wide_or_special(input),
    }
}

/// Reads a number. A string's mark is a fault here.
#[inline]
pub(crate) fn length(input: &[u8]) -> Leaf<'_, u64> {
    match length_or_special(input)? {
        (rest, Length::Plain(value)) => Ok((rest, value)),
        (_, Length::Special(encoding)) => {
            Fault::failure(RdbErrorKind::LengthWanted(0xc0 | encoding))
        }
    }
}

fn wide_or_special(input: &[u8]) -> Leaf<'_, Length> {
    let (rest, first) = u8(input)?;
    match first {
        0xc0.. => Ok((rest, Length::Special(first & 0x3f))),
        WIDE_32 => be_u32.map(|value| Length::Plain(u64::from(value))).parse(rest),
        WIDE_64 => be_u64.map(Length::Plain).parse(rest),
        // One byte of a 14-bit length is here and the other is not.
        0x40..=0x7f => u8.map(|_| Length::Plain(0)).parse(rest),
        _ => Fault::failure(RdbErrorKind::LengthForm(first)),
    }
}

/// Writes a length in the shortest form that holds it.
///
/// A number above 32 bits takes a form that servers before 4.0 cannot read.
#[inline]
pub fn put_length(out: &mut impl BufMut, value: u64) {
    match value {
        0..=0x3f => out.put_u8(low_byte(value)),
        0x40..=0x3fff => out.put_u16(0x4000 | u16::try_from(value).unwrap_or(0)),
        0x4000..=0xffff_ffff => {
            out.put_u8(WIDE_32);
            out.put_u32(u32::try_from(value).unwrap_or(u32::MAX));
        }
        _ => {
            out.put_u8(WIDE_64);
            out.put_u64(value);
        }
    }
}

const fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_length() -> impl Strategy<Value = u64> {
        (0_u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift)
    }

    #[test]
    fn each_form_ends_where_the_next_begins() {
        for (value, size) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 5),
            (u64::from(u32::MAX), 5),
            (u64::from(u32::MAX) + 1, 9),
            (u64::MAX, 9),
        ] {
            let mut out = Vec::new();
            put_length(&mut out, value);
            assert_eq!(out.len(), size, "{value}");
            assert_eq!(length(&out), Ok((&[][..], value)));
        }
    }

    #[test]
    fn what_is_no_length_says_so() {
        let fault = |input: &'static [u8]| match length(input) {
            Err(nom::Err::Failure(Fault(kind))) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(&[0x82, 0, 0, 0, 0]), RdbErrorKind::LengthForm(0x82));
        assert_eq!(fault(&[0xbf]), RdbErrorKind::LengthForm(0xbf));
        assert_eq!(fault(&[0xc3]), RdbErrorKind::LengthWanted(0xc3));
        assert_eq!(length_or_special(&[0xc3, 9]), Ok((&[9][..], Length::Special(3))));
    }

    proptest! {
        #[test]
        fn a_length_goes_there_and_back_and_needs_its_last_byte(value in any_length()) {
            let mut out = Vec::new();
            put_length(&mut out, value);
            for cut in 0..out.len() {
                prop_assert!(matches!(length(&out[..cut]), Err(nom::Err::Incomplete(_))));
            }
            out.push(7);
            prop_assert_eq!(length(&out), Ok((&[7][..], value)));
        }
    }
}
