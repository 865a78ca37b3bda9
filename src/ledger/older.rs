//! The keys that a target held before a job began, as a file: what a job keeps must not depend on when it was begun anew.
//!
//! ```text
//! "UNDROLDR" | version, 4 bytes | how many, 8 bytes | fingerprints, 16 bytes each | CRC-64 of all that, 8 bytes
//! ```
//!
//! All numbers are little endian.

use std::io;
use std::io::{Read, Write};

use crate::change::Kept;
use crate::rdb::crc::Crc64;

const MAGIC: [u8; 8] = *b"UNDROLDR";
const VERSION: u32 = 1;
const HEAD: usize = 20;

/// How much is written and read at once, in fingerprints.
const CHUNK: usize = 4096;

/// The file does not tell which keys the target held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OlderError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is a file of another kind.
    #[error("it is no list of a target's older keys")]
    Foreign,
    /// It is of another version of this tool.
    #[error("it has the form {0}, and this version of understudy reads form {VERSION} only")]
    Version(u32),
    /// It was cut off, or something was added.
    #[error("it is {len} bytes long and should be {expected}")]
    Length {
        /// How long it is.
        len: u64,
        /// How long it is by its head.
        expected: u64,
    },
    /// There is no memory for so many keys.
    #[error("there is no memory for its {0} keys")]
    TooMany(u64),
    /// Its checksum is wrong.
    #[error("it is damaged: its checksum is wrong")]
    Damaged,
}

/// Writes the file. The caller sees that it is on the disk before anything is written to the target.
///
/// # Errors
/// Those of `to`.
pub fn encode(kept: &Kept, mut to: impl Write) -> io::Result<()> {
    let mut prints = kept.fingerprints();
    let mut sum = Crc64::new();
    let mut chunk =
        [&MAGIC[..], &VERSION.to_le_bytes(), &(kept.len() as u64).to_le_bytes()].concat();
    while !chunk.is_empty() {
        sum.update(&chunk);
        to.write_all(&chunk)?;
        chunk.clear();
        prints.by_ref().take(CHUNK).for_each(|print| chunk.extend_from_slice(&print.to_le_bytes()));
    }
    to.write_all(&sum.sum().to_le_bytes())
}

/// Reads a file of this length.
///
/// # Errors
/// If it cannot be read, or is not whole, or is not such a file.
pub fn decode(len: u64, mut from: impl Read) -> Result<Kept, OlderError> {
    let mut head = Vec::with_capacity(HEAD);
    from.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let Some(rest) = head.strip_prefix(&MAGIC) else { return Err(OlderError::Foreign) };
    let Some((version, rest)) = rest.split_first_chunk() else { return Err(OlderError::Foreign) };
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(OlderError::Version(version));
    }
    let Some(count) = rest.first_chunk() else { return Err(OlderError::Foreign) };
    let count = u64::from_le_bytes(*count);
    let expected = count.saturating_mul(16).saturating_add(HEAD as u64 + 8);
    if len != expected {
        return Err(OlderError::Length { len, expected });
    }

    let too_many = OlderError::TooMany(count);
    let Ok(keys) = usize::try_from(count) else { return Err(too_many) };
    let mut kept = Kept::try_with_capacity(keys).map_err(|_| too_many)?;
    let mut sum = Crc64::new();
    sum.update(&head);
    let mut chunk = vec![0; CHUNK * 16];
    let mut left = keys;
    while left > 0 {
        let now = left.min(CHUNK);
        chunk.truncate(now * 16);
        from.read_exact(&mut chunk)?;
        sum.update(&chunk);
        let (prints, _) = chunk.as_chunks();
        prints.iter().for_each(|print| kept.insert_fingerprint(u128::from_le_bytes(*print)));
        left -= now;
    }
    let mut found = [0; 8];
    from.read_exact(&mut found)?;
    if u64::from_le_bytes(found) != sum.sum() {
        return Err(OlderError::Damaged);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::Db;

    fn kept(keys: u32) -> Kept {
        let mut kept = Kept::default();
        for key in 0..keys {
            kept.insert(Db::new(key % 3), &key.to_be_bytes());
        }
        kept
    }

    fn file(keys: u32) -> Vec<u8> {
        let mut file = Vec::new();
        encode(&kept(keys), &mut file).unwrap();
        file
    }

    fn read(file: &[u8]) -> Result<Kept, OlderError> {
        decode(file.len() as u64, file)
    }

    #[test]
    fn what_was_written_is_read() {
        for keys in [0, 1, 4095, 4096, 4097, 10_000] {
            let read = read(&file(keys)).unwrap();
            assert_eq!(read.len(), keys as usize);
            assert!((0..keys).all(|key| read.has(Db::new(key % 3), &key.to_be_bytes())));
            assert!(!read.has(Db::new(0), b"another"));
        }
    }

    /// The form is one that later versions must read.
    #[test]
    fn the_form_is_fixed() {
        let mut kept = Kept::default();
        kept.insert_fingerprint(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let mut file = Vec::new();
        encode(&kept, &mut file).unwrap();
        let (body, sum) = file.split_at(file.len() - 8);
        assert_eq!(
            body,
            b"UNDROLDR\x01\0\0\0\x01\0\0\0\0\0\0\0\x10\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x07\x06\x05\x04\x03\x02\x01"
        );
        assert_eq!(sum, crc64::crc64(0, body).to_le_bytes());
    }

    #[test]
    fn a_damaged_byte_is_an_error_wherever_it_is() {
        let whole = file(5);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let error = read(&damaged).unwrap_err();
                let right = match at {
                    0..8 => matches!(error, OlderError::Foreign),
                    8..12 => matches!(error, OlderError::Version(_)),
                    12..20 => matches!(error, OlderError::Length { len: 108, .. }),
                    _ => matches!(error, OlderError::Damaged),
                };
                assert!(right, "byte {at}, bit {bit}: {error}");
            }
        }
    }

    #[test]
    fn a_file_that_is_too_short_or_too_long_is_an_error() {
        let whole = file(5);
        for len in 0..whole.len() {
            let error = read(&whole[..len]).unwrap_err();
            let right = match len {
                0..20 => matches!(error, OlderError::Foreign),
                _ => matches!(error, OlderError::Length { expected: 108, .. }),
            };
            assert!(right, "{len} bytes: {error}");
            // It is cut off while it is read.
            let error = decode(whole.len() as u64, &whole[..len]).unwrap_err();
            assert!(matches!(error, OlderError::Foreign | OlderError::Read(_)), "{error}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(matches!(read(&longer), Err(OlderError::Length { len: 109, expected: 108 })));
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_a_list(magic: bool, rest: Vec<u8>) {
            let head: &[u8] = if magic { b"UNDROLDR\x01\0\0\0" } else { b"" };
            prop_assert!(read(&[head, &rest].concat()).is_err());
        }
    }
}
