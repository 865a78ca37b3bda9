//! The magic: which family wrote the file, and in which version of the format.

use std::fmt;

use crate::rdb::error::RdbErrorKind;

/// Who gives the bytes of a file their meaning. After object type 21 and above opcode 243 the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Redis, its forks that kept the numbers, and Valkey below 9.
    Redis,
    /// Valkey from 9.0 on.
    Valkey,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// The version of the format, as the first nine bytes state it: `REDIS0011` or `VALKEY080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Who numbers it.
    pub family: Family,
    /// The number. For Redis 1 to 79, for Valkey 80 to 999.
    pub version: u16,
}

impl Format {
    /// The magic's length in bytes.
    pub const LEN: usize = 9;

    /// The newest versions of which every object type and opcode is known here.
    ///
    /// A newer file is read all the same: a server that writes one gives new things new bytes, so what this
    /// program does not know ends in [`RdbErrorKind::UnknownOpcode`] and nothing is guessed.
    pub const NEWEST: [Self; 2] =
        [Self { family: Family::Redis, version: 13 }, Self { family: Family::Valkey, version: 80 }];

    /// Reads the magic.
    ///
    /// # Errors
    /// [`RdbErrorKind::NotRdb`] if it is none, [`RdbErrorKind::UnknownVersion`] if it is one with a number
    /// that its family cannot use (Valkey leaves 12 to 79 to Redis and begins at 80).
    pub fn decode(magic: &[u8; Self::LEN]) -> Result<Self, RdbErrorKind> {
        let (family, digits) = match magic {
            [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (Family::Redis, &digits[..]),
            [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (Family::Valkey, &digits[..]),
            _ => return Err(RdbErrorKind::NotRdb(*magic)),
        };
        let mut version = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(RdbErrorKind::NotRdb(*magic));
            }
            version = version * 10 + u16::from(digit - b'0');
        }
        let format = Self { family, version };
        let used = match family {
            Family::Redis => 1..=79,
            Family::Valkey => 80..=999,
        };
        if used.contains(&version) { Ok(format) } else { Err(RdbErrorKind::UnknownVersion(format)) }
    }

    /// The nine bytes that a file of this version begins with. A number of too many digits loses its first.
    #[must_use]
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut magic = match self.family {
            Family::Redis => *b"REDIS0000",
            Family::Valkey => *b"VALKEY000",
        };
        let width = match self.family {
            Family::Redis => 4,
            Family::Valkey => 3,
        };
        let mut left = self.version;
        for place in magic.iter_mut().rev().take(width) {
            *place = b"0123456789".get(usize::from(left % 10)).copied().unwrap_or(b'0');
            left /= 10;
        }
        magic
    }

    /// Whether the file ends with eight bytes of checksum after its end opcode.
    #[must_use]
    pub const fn has_checksum(self) -> bool {
        self.version >= 5
    }

    /// Whether it is newer than what this program was written for; see [`NEWEST`](Self::NEWEST).
    #[must_use]
    pub fn is_newer_than_known(self) -> bool {
        Self::NEWEST
            .iter()
            .any(|newest| newest.family == self.family && self.version > newest.version)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::Redis => write!(f, "REDIS{:04}", self.version),
            Family::Valkey => write!(f, "VALKEY{:03}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_goes_there_and_back() {
        for (text, family, version) in [
            (b"REDIS0002", Family::Redis, 2),
            (b"REDIS0012", Family::Redis, 12),
            (b"VALKEY080", Family::Valkey, 80),
        ] {
            let format = Format::decode(text).unwrap();
            assert_eq!(format, Format { family, version });
            assert_eq!(&format.encode(), text);
            assert_eq!(format.to_string().as_bytes(), text);
        }
        assert!(!Format::decode(b"REDIS0004").unwrap().has_checksum());
        assert!(Format::decode(b"REDIS0005").unwrap().has_checksum());
        assert!(Format::decode(b"REDIS0016").unwrap().is_newer_than_known());
        assert!(!Format::decode(b"VALKEY080").unwrap().is_newer_than_known());
    }

    #[test]
    fn what_is_no_magic_is_refused() {
        for text in [b"REDIS00a2", b"redis0002", b"\x1f\x8b\x08\0\0\0\0\0\0", b"VALKEY08 "] {
            assert_eq!(Format::decode(text), Err(RdbErrorKind::NotRdb(*text)));
        }
        for text in [b"REDIS0000", b"REDIS0080", b"VALKEY079"] {
            assert!(matches!(Format::decode(text), Err(RdbErrorKind::UnknownVersion(_))));
        }
    }
}
