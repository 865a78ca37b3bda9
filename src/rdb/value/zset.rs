//! Sorted sets: the scores' two forms.
//!
//! ```text
//! type 3   count | (member | length u8 | score as text) ...     the lengths 253, 254, 255 are NaN, inf, -inf
//! type 5   count | (member | score u64, little endian IEEE 754) ...
//! ```
//!
//! Both keep every bit of a score. A server from 7.0 on does not: it packs a small sorted set that it loads in these
//! forms, and there a score of -0 is the integer 0, as it is after `ZADD`. In a ziplist or listpack -0 stays what it is,
//! so a payload that can go verbatim should.

use std::fmt::Write as _;

use bytes::BufMut;

/// Writes a score as text, for type 3. What is written is read back as the same number, the zero's sign included.
///
/// The shortest decimal form that names this number alone is written, at most 17 digits and an exponent.
pub fn put_score_text(out: &mut impl BufMut, score: f64) {
    let mut text = Text::default();
    if score.is_nan() {
        return out.put_u8(NAN);
    } else if score.is_infinite() {
        return out.put_u8(if score > 0.0 { INFINITY } else { MINUS_INFINITY });
    }
    // The largest, like -2.2250738585072014e-308, has 24 bytes.
    let whole = write!(text, "{score:e}");
    debug_assert!(whole.is_ok(), "a score's text is longer than any can be");
    out.put_u8(text.len);
    out.put_slice(text.bytes.get(..text.len.into()).unwrap_or_default());
}

/// Writes a score in eight bytes, for type 5.
#[inline]
pub fn put_score(out: &mut impl BufMut, score: f64) {
    out.put_f64_le(score);
}

/// A short text on the stack.
#[derive(Default)]
struct Text {
    bytes: [u8; 32],
    len: u8,
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        let start = usize::from(self.len);
        let end = start + piece.len();
        self.bytes.get_mut(start..end).ok_or(std::fmt::Error)?.copy_from_slice(piece.as_bytes());
        self.len = u8::try_from(end).map_err(|_| std::fmt::Error)?;
        Ok(())
    }
}

const NAN: u8 = 253;
const INFINITY: u8 = 254;
const MINUS_INFINITY: u8 = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(score: f64) -> Vec<u8> {
        let mut out = Vec::new();
        put_score_text(&mut out, score);
        out
    }

    fn read(out: &[u8]) -> f64 {
        assert_eq!(usize::from(out[0]), out.len() - 1);
        std::str::from_utf8(&out[1..]).unwrap().parse().unwrap()
    }

    #[test]
    fn what_is_no_finite_number_has_a_length_of_its_own() {
        assert_eq!(text(f64::NAN), [253]);
        assert_eq!(text(f64::INFINITY), [254]);
        assert_eq!(text(f64::NEG_INFINITY), [255]);
    }

    #[test]
    fn the_farthest_numbers_fit_and_keep_their_sign() {
        for score in [
            f64::MIN,
            f64::MAX,
            f64::MIN_POSITIVE,
            -5e-324,
            -2.225_073_858_507_201e-308,
            0.1 + 0.2,
            -0.0,
            0.0,
            9_007_199_254_740_993.0,
        ] {
            assert_eq!(read(&text(score)).to_bits(), score.to_bits(), "{score:e}");
        }
        assert_eq!(text(3.0), b"\x033e0");
    }

    proptest! {
        #[test]
        fn every_number_is_read_back_as_itself(bits: u64) {
            let score = f64::from_bits(bits);
            prop_assume!(score.is_finite());
            prop_assert_eq!(read(&text(score)).to_bits(), bits);
            let mut out = Vec::new();
            put_score(&mut out, score);
            prop_assert_eq!(out, bits.to_le_bytes());
        }
    }
}
