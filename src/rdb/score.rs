//! A sorted set's score where it stands as text: in object type 3 and in packed encodings.

use crate::rdb::cursor::Cursor;
use crate::rdb::cursor::Stop;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::packed::Entry;

/// In type 3 a score has a byte for its length, and three lengths are scores.
pub(crate) const NAN: u8 = 253;
const INFINITY: u8 = 254;
const MINUS_INFINITY: u8 = 255;

/// Reads a score of type 3.
pub(crate) fn counted_text(cursor: &mut Cursor<'_>) -> Result<f64, Stop> {
    let start = cursor.at();
    let score = match cursor.byte()? {
        NAN => None,
        INFINITY => Some(f64::INFINITY),
        MINUS_INFINITY => Some(f64::NEG_INFINITY),
        len => from_text(cursor.take(usize::from(len))?),
    };
    score.ok_or(Stop::Fault { at: start, kind: RdbErrorKind::Score })
}

/// Reads a score of type 5.
pub(crate) fn binary(cursor: &mut Cursor<'_>) -> Result<f64, Stop> {
    let start = cursor.at();
    let score = f64::from_le_bytes(cursor.fixed()?);
    if score.is_nan() {
        return Err(Stop::Fault { at: start, kind: RdbErrorKind::Score });
    }
    Ok(score)
}

/// The score that a packed entry is.
pub(crate) fn from_entry(entry: Entry<'_>) -> Option<f64> {
    match entry {
        Entry::Bytes(text) => from_text(text),
        #[expect(clippy::cast_precision_loss, reason = "servers round to the nearest as well")]
        Entry::Int(value) => Some(value as f64),
    }
}

/// A decimal number or an infinity; no server has a score that is not a number.
fn from_text(text: &[u8]) -> Option<f64> {
    let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!score.is_nan()).then_some(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<f64, Stop> {
        counted_text(&mut Cursor::new(input, 0))
    }

    #[test]
    fn scores_are_read_in_every_form() {
        assert_eq!(read(b"\x031.5"), Ok(1.5));
        assert_eq!(read(b"\x174.9406564584124654e-324x"), Ok(5e-324));
        assert_eq!(read(b"\xfe"), Ok(f64::INFINITY));
        assert_eq!(read(b"\xff"), Ok(f64::NEG_INFINITY));
        assert_eq!(from_entry(Entry::Bytes(b"-inf")), Some(f64::NEG_INFINITY));
        assert_eq!(from_entry(Entry::Bytes(b"-0")).map(f64::to_bits), Some(1 << 63));
        assert_eq!(from_entry(Entry::Int(-7)), Some(-7.0));
    }

    #[test]
    fn what_is_not_a_number_is_no_score() {
        let fault = Err(Stop::Fault { at: 0, kind: RdbErrorKind::Score });
        assert_eq!(read(b"\xfd"), fault);
        assert_eq!(read(b"\x03nan"), fault);
        assert_eq!(read(b"\x021x"), fault);
        assert_eq!(read(b"\x00"), fault);
        assert_eq!(binary(&mut Cursor::new(&f64::NAN.to_le_bytes(), 0)), fault);
        assert_eq!(read(b"\x031."), Err(Stop::NeedMore { need: 4 }));
    }
}
