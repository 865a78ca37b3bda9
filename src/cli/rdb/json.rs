//! JSON as it is written piece by piece. A byte string is a JSON string with one code point a byte.

use std::io;
use std::io::Write;

/// Writes a byte string.
pub(super) fn bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(b"\"")?;
    inside(out, bytes)?;
    out.write_all(b"\"")
}

/// Writes a part of a byte string, between its quotes.
pub(super) fn inside(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while let Some(stop) = bytes.iter().position(|&byte| !is_plain(byte)) {
        let (plain, rest) = bytes.split_at(stop);
        out.write_all(plain)?;
        let Some((&byte, rest)) = rest.split_first() else { break };
        match byte {
            b'"' => out.write_all(b"\\\"")?,
            b'\\' => out.write_all(b"\\\\")?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            0..=0x1f | 0x7f => write!(out, "\\u{byte:04x}")?,
            // The code points up to 255 have two bytes in UTF-8.
            _ => out.write_all(char::from(byte).encode_utf8(&mut [0; 2]).as_bytes())?,
        }
        bytes = rest;
    }
    out.write_all(bytes)
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Writes a number, or null.
pub(super) fn number(out: &mut impl Write, value: Option<impl itoa::Integer>) -> io::Result<()> {
    match value {
        Some(value) => out.write_all(itoa::Buffer::new().format(value).as_bytes()),
        None => out.write_all(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_code_point() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        bytes(&mut out, &all).unwrap();
        let text: String = serde_json::from_slice(&out).unwrap();
        let back: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        assert_eq!(back, all);
        out.clear();
        number(&mut out, Some(-7)).unwrap();
        number(&mut out, None::<u64>).unwrap();
        assert_eq!(out, b"-7null");
    }
}
