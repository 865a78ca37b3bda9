//! The checksum of RDB files and `DUMP` payloads: CRC-64 with Redis's parameters.
//!
//! Polynomial 0xad93d23594c935a9, reflected in and out, beginning with 0 and not inverted at the end. The
//! widespread CRC-64/XZ is another one.

use crc_fast::CrcAlgorithm;
use crc_fast::Digest;

/// A checksum in the making.
///
/// It is as good as free on runs of some kilobytes and costs more than the parsing on runs of some bytes, so
/// give it whole buffers and not fields.
#[derive(Clone, Debug)]
pub struct Crc64(Digest);

impl Crc64 {
    /// The sum of no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Redis))
    }

    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of all bytes so far.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of these bytes.
#[must_use]
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_is_that_of_redis() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
        assert_eq!(Crc64::default().sum(), 0);
    }

    proptest! {
        #[test]
        fn pieces_sum_up_as_the_whole_does(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut crc = Crc64::new();
            crc.update(head);
            crc.update(tail);
            prop_assert_eq!(crc.sum(), crc64(&bytes));
            prop_assert_eq!(crc.sum(), crc64::crc64(0, &bytes));
        }
    }
}
