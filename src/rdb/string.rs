//! The string: raw, as an integer in one to four bytes, or compressed. Everything of variable size is one.
//!
//! ```text
//! length, bytes
//! 11000000 i8   11000001 i16   11000010 i32      little endian; the string is the number in decimal
//! 11000011 length of the data, length of the string, data in LZF
//! ```

use bytes::BufMut;
use nom::Parser as _;
use nom::number::streaming::i8;
use nom::number::streaming::le_i16;
use nom::number::streaming::le_i32;

use crate::rdb::error::Fault;
use crate::rdb::error::Leaf;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::length::Length;
use crate::rdb::length::length;
use crate::rdb::length::length_or_special;
use crate::rdb::length::put_length;
use crate::rdb::lzf;

/// What stands before a string's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringHeader {
    /// So many bytes follow and are the string.
    Raw {
        /// How many. A claim: nothing has been checked against it.
        len: u64,
    },
    /// The string is this number in decimal. No bytes follow.
    Int(i32),
    /// `compressed` bytes of LZF follow and make a string of `len` bytes.
    Lzf {
        /// Bytes in the file. A claim.
        compressed: u64,
        /// Bytes of the string: a claim that the compressed size can bear.
        len: u64,
    },
}

impl StringHeader {
    /// How many bytes of the input follow the header and belong to the string.
    #[inline]
    #[must_use]
    pub const fn body_len(self) -> u64 {
        match self {
            Self::Raw { len } => len,
            Self::Int(_) => 0,
            Self::Lzf { compressed, .. } => compressed,
        }
    }
}

const INT_8: u8 = 0;
const INT_16: u8 = 1;
const INT_32: u8 = 2;
const LZF: u8 = 3;

/// Reads what stands before a string's bytes.
#[inline]
pub(crate) fn string_header(input: &[u8]) -> Leaf<'_, StringHeader> {
    match length_or_special(input)? {
        (rest, Length::Plain(len)) => Ok((rest, StringHeader::Raw { len })),
        (rest, Length::Special(encoding)) => encoded(rest, encoding),
    }
}

fn encoded(input: &[u8], encoding: u8) -> Leaf<'_, StringHeader> {
    match encoding {
        INT_8 => i8.map(|value| StringHeader::Int(i32::from(value))).parse(input),
        INT_16 => le_i16.map(|value| StringHeader::Int(i32::from(value))).parse(input),
        INT_32 => le_i32.map(StringHeader::Int).parse(input),
        LZF => {
            let (rest, (compressed, len)) = (length, length).parse(input)?;
            if !lzf::is_possible(compressed, len) {
                return Fault::failure(RdbErrorKind::LzfClaim { compressed, claimed: len });
            }
            Ok((rest, StringHeader::Lzf { compressed, len }))
        }
        _ => Fault::failure(RdbErrorKind::StringEncoding(encoding)),
    }
}

/// The header of the string that `input` begins with, and what follows the header. `None` if there is no whole header.
#[inline]
#[must_use]
pub fn split_header(input: &[u8]) -> Option<(StringHeader, &[u8])> {
    string_header(input).ok().map(|(rest, header)| (header, rest))
}

/// Reads one whole string of at most `limit` bytes and appends it to `out`; gives what follows it.
///
/// For strings that are at hand: a [`Payload`](crate::rdb::event::Payload) of a string, a blob in a payload.
///
/// # Errors
/// What is wrong with the string; [`RdbErrorKind::Truncated`] if `input` ends inside it;
/// [`RdbErrorKind::TooLarge`] if it has more than `limit` bytes. Then `out` is as it was.
pub fn read_string<'a>(
    input: &'a [u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<&'a [u8], RdbErrorKind> {
    let (rest, header) = match string_header(input) {
        Ok(parsed) => parsed,
        Err(nom::Err::Incomplete(_)) => return Err(RdbErrorKind::Truncated),
        Err(nom::Err::Error(Fault(kind)) | nom::Err::Failure(Fault(kind))) => return Err(kind),
    };
    let body_len = usize::try_from(header.body_len()).unwrap_or(usize::MAX);
    let Some((body, rest)) = rest.split_at_checked(body_len) else {
        return Err(RdbErrorKind::Truncated);
    };
    let bounded = |len: u64| match usize::try_from(len) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(RdbErrorKind::TooLarge {
            size: len,
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
        }),
    };
    match header {
        StringHeader::Raw { len } => {
            bounded(len)?;
            out.extend_from_slice(body);
        }
        StringHeader::Int(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        StringHeader::Lzf { len, .. } => lzf::decompress(body, bounded(len)?, out)?,
    }
    Ok(rest)
}

/// Writes a string as it is, neither as an integer nor compressed. Every version reads it.
#[inline]
pub fn put_string(out: &mut impl BufMut, bytes: &[u8]) {
    put_length(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &[u8]) -> Result<Vec<u8>, RdbErrorKind> {
        let mut out = Vec::new();
        let rest = read_string(input, 1 << 20, &mut out)?;
        assert_eq!(rest, b"", "{input:?}");
        Ok(out)
    }

    #[test]
    fn integers_are_their_decimal_text() {
        assert_eq!(read(&[0xc0, 0x80]).unwrap(), b"-128");
        assert_eq!(read(&[0xc1, 0xff, 0x7f]).unwrap(), b"32767");
        assert_eq!(read(&[0xc2, 0, 0, 0, 0x80]).unwrap(), b"-2147483648");
    }

    #[test]
    fn compressed_strings_are_bounded_before_they_are_made() {
        // a literal run of three, then seven bytes from distance 1
        let data = [2, b'a', b'b', b'c', 0b1010_0000, 0];
        let mut input = vec![0xc3, 6, 10];
        input.extend_from_slice(&data);
        assert_eq!(read(&input).unwrap(), b"abcccccccc");
        let huge = [0xc3, 6, 0x81, 0, 0, 0, 255, 255, 255, 255, 255];
        assert_eq!(
            read(&huge),
            Err(RdbErrorKind::LzfClaim { compressed: 6, claimed: 0xff_ffff_ffff })
        );
        let mut out = vec![1];
        let refused = read_string(&input, 9, &mut out);
        assert_eq!(refused, Err(RdbErrorKind::TooLarge { size: 10, limit: 9 }));
        assert_eq!(out, [1]);
    }

    #[test]
    fn an_unknown_encoding_is_a_fault() {
        assert_eq!(read(&[0xc4]), Err(RdbErrorKind::StringEncoding(4)));
        assert_eq!(read(&[0xc3]), Err(RdbErrorKind::Truncated));
    }

    proptest! {
        #[test]
        fn a_written_string_is_read_and_no_prefix_of_it_is(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let mut out = Vec::new();
            put_string(&mut out, &bytes);
            for cut in 0..out.len() {
                prop_assert_eq!(read(&out[..cut]), Err(RdbErrorKind::Truncated));
            }
            prop_assert_eq!(read(&out).unwrap(), bytes);
        }
    }
}
