//! Names in a server: databases, keys, and how a key is shown to a person.

use std::fmt;

/// The number of a database, as `SELECT` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Db(u32);

impl Db {
    /// The database with this number.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Its number.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// A database number as it stands in a command; `None` if it is not a number a server could have.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?.parse().ok().map(Self)
    }
}

impl fmt::Display for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 bits of xxh3 over a database and a name. Two keys never share them in practice: one chance in 10^20 at a billion keys. They are
/// written to files, so they are the same in every version.
#[must_use]
pub fn fingerprint(db: Db, key: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128_with_seed(key, db.index().into())
}

/// The names of the keys that the tool itself keeps in a target begin so.
pub const OWN: &[u8] = b"understudy:";

/// Whether this is the name of a key that the tool itself keeps in a target. Such keys are nobody's data.
#[must_use]
pub fn is_own(key: &[u8]) -> bool {
    key.starts_with(OWN)
}

/// Shows bytes as redis-cli does: in double quotes, with `\n \r \t \a \b \\ \"` and `\xHH`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for &byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b'"' => f.write_str("\\\"")?,
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\t' => f.write_str("\\t")?,
                0x07 => f.write_str("\\a")?,
                0x08 => f.write_str("\\b")?,
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_redis_cli_shows_them() {
        assert_eq!(Escaped(b"plain key").to_string(), "\"plain key\"");
        assert_eq!(
            Escaped(b"a\"b\\c\r\n\t\x07\x08\x00\xff").to_string(),
            r#""a\"b\\c\r\n\t\a\b\x00\xff""#
        );
    }

    #[test]
    fn a_fingerprint_is_what_it_was_in_earlier_versions() {
        assert_eq!(fingerprint(Db::new(0), b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        assert_ne!(fingerprint(Db::new(1), b"k"), fingerprint(Db::new(0), b"k"));
    }

    #[test]
    fn a_db_is_a_number() {
        assert_eq!(Db::parse(b"15"), Some(Db::new(15)));
        assert_eq!(Db::parse(b"-1"), None);
        assert_eq!(Db::parse(b""), None);
    }
}
