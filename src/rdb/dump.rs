//! The payload of `DUMP` and `RESTORE`: one value, with its type before it and a footer behind it.
//!
//! ```text
//! object type u8 | body, as in a file | version u16 | CRC-64 u64     both little endian
//! ```
//! The checksum covers all that stands before it, the version included.

use bytes::BufMut;

use crate::rdb::crc::Crc64;
use crate::rdb::crc::crc64;
use crate::rdb::format::Family;

/// The ten bytes that end a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The version of the format. Servers compare it with their own; what the body is, its type says.
    pub version: u16,
    /// The checksum of all that stands before it.
    pub crc: u64,
}

impl Footer {
    /// Its length in bytes.
    pub const LEN: usize = 10;

    /// The footer for a payload whose type and body were summed up in `crc`.
    #[must_use]
    pub fn closing(mut crc: Crc64, version: u16) -> Self {
        crc.update(&version.to_le_bytes());
        Self { version, crc: crc.sum() }
    }

    /// Splits a payload into what stands before the footer, and the footer. The checksum is not looked at.
    ///
    /// # Errors
    /// [`DumpError::Short`] if there is no room for a type, or for the footer.
    pub const fn decode(payload: &[u8]) -> Result<(&[u8], Self), DumpError> {
        let Some((value, &[v0, v1, c0, c1, c2, c3, c4, c5, c6, c7])) =
            payload.split_last_chunk::<{ Self::LEN }>()
        else {
            return Err(DumpError::Short(payload.len()));
        };
        if value.is_empty() {
            return Err(DumpError::Short(payload.len()));
        }
        let version = u16::from_le_bytes([v0, v1]);
        let crc = u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
        Ok((value, Self { version, crc }))
    }

    /// Splits a payload as [`decode`](Self::decode) does, and checks its sum.
    ///
    /// # Errors
    /// [`DumpError::Short`], [`DumpError::Checksum`].
    pub fn verify(payload: &[u8]) -> Result<(&[u8], Self), DumpError> {
        let (value, footer) = Self::decode(payload)?;
        let summed = payload.len() - size_of::<u64>();
        let found = crc64(payload.get(..summed).unwrap_or_default());
        if found != footer.crc {
            return Err(DumpError::Checksum { stated: footer.crc, found });
        }
        Ok((value, footer))
    }

    /// Whose format it is: the versions of the two do not meet.
    #[must_use]
    pub const fn family(&self) -> Family {
        const FIRST_OF_VALKEY: u16 = 80;
        if self.version < FIRST_OF_VALKEY { Family::Redis } else { Family::Valkey }
    }

    /// Writes it.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u16_le(self.version);
        out.put_u64_le(self.crc);
    }
}

/// Ends the payload that `out` holds from its byte `start` on: its type and its body.
///
/// Which version to give: [`Server::restore_version`](crate::server::Server::restore_version).
pub fn seal(out: &mut Vec<u8>, start: usize, version: u16) {
    let mut crc = Crc64::new();
    crc.update(out.get(start..).unwrap_or_default());
    Footer::closing(crc, version).encode(out);
}

/// Why bytes are no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// So few bytes hold no value with its footer.
    #[error("{0} bytes are no DUMP payload: the smallest has 12")]
    Short(usize),
    /// The checksum is another one.
    #[error("the payload's checksum is {found:#018x} and its footer says {stated:#018x}")]
    Checksum {
        /// What the footer says.
        stated: u64,
        /// What the bytes before it sum up to.
        found: u64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `SET k 12` and `DUMP k` on Redis 7.0.15.
    const SEVEN: &[u8] = b"\x00\xc0\x0c\n\x00<*\xf8Q\\\x04\xbc\xd5";

    #[test]
    fn a_servers_payload_is_verified_and_made_again() {
        let (value, footer) = Footer::verify(SEVEN).unwrap();
        assert_eq!(value, b"\x00\xc0\x0c");
        assert_eq!(footer.version, 10);
        let mut again = value.to_vec();
        seal(&mut again, 0, 10);
        assert_eq!(again, SEVEN);
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for len in 0..=Footer::LEN {
            assert_eq!(Footer::decode(&vec![0; len]), Err(DumpError::Short(len)));
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_verifies_and_no_changed_byte_does(
            value in prop::collection::vec(any::<u8>(), 1..200),
            before in prop::collection::vec(any::<u8>(), 0..20),
            version: u16,
            at: prop::sample::Index,
            change in 1..=255_u8,
        ) {
            let mut out = before.clone();
            out.extend_from_slice(&value);
            seal(&mut out, before.len(), version);
            let payload = &mut out[before.len()..];
            let (read, footer) = Footer::verify(payload).unwrap();
            prop_assert_eq!(read, &value);
            prop_assert_eq!(footer.version, version);
            let at = at.index(payload.len());
            payload[at] ^= change;
            let refused = matches!(Footer::verify(payload), Err(DumpError::Checksum { .. }));
            prop_assert!(refused);
        }
    }
}
