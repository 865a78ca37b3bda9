//! What can be wrong with an RDB file: where, in which key, and what to do about it.

use std::fmt;

use bytes::Bytes;

use crate::key::Escaped;
use crate::rdb::format::Format;
use crate::rdb::packed::Damaged;

/// Why reading stopped. Nothing of the value it stopped in has been delivered as complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}{}", AtKey { key: key.as_deref(), behind: *behind })]
pub struct RdbError {
    /// The byte at which the damaged thing begins, counted from the first byte of the magic.
    pub at: u64,
    /// The key whose value was being read, or the last one before; its first [`KEY_SHOWN`] bytes if it is longer.
    pub key: Option<Bytes>,
    /// It is the last one before: no value was being read.
    pub behind: bool,
    /// What is wrong.
    pub kind: RdbErrorKind,
}

/// How many bytes of a key an [`RdbError`] names.
pub const KEY_SHOWN: usize = 1024;

/// What is wrong with the bytes, each with the figures that a person needs to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RdbErrorKind {
    /// The first nine bytes are neither `REDIS` nor `VALKEY` and a number.
    #[error("this is not an RDB file: it begins with {}", Escaped(.0))]
    NotRdb([u8; Format::LEN]),
    /// A version number that its family does not use.
    #[error("RDB version {} of {} is not known", .0.version, .0.family)]
    UnknownVersion(Format),
    /// A byte where an object type or opcode must stand, and it is none in this format.
    #[error("object type or opcode {byte} is not known in {format}")]
    UnknownOpcode {
        /// The byte.
        byte: u8,
        /// The format in which it has no meaning.
        format: Format,
    },
    /// An opcode of Redis Enterprise, whose layout is not public.
    #[error("opcode {0} belongs to Redis Enterprise")]
    EnterpriseOpcode(u8),
    /// Object type 6: module values as 4.0's release candidates wrote them, whose end cannot be found.
    #[error("a module value in the form of Redis 4.0's release candidates")]
    PreReleaseModule,
    /// Opcode 246: functions as 7.0's release candidates wrote them. No release reads them either.
    #[error("a function library in the form of Redis 7.0's release candidates")]
    PreReleaseFunction,
    /// The first byte of a length is none of the five forms.
    #[error("a length cannot begin with {0:#04x}")]
    LengthForm(u8),
    /// A plain length is wanted, and an encoded string begins.
    #[error("a length is wanted and an encoded string begins ({0:#04x})")]
    LengthWanted(u8),
    /// `11` in the top bits of a string's first byte, and an encoding that does not exist below them.
    #[error("string encoding {0} is not known")]
    StringEncoding(u8),
    /// A compressed string that claims more than any compressed data of its size can hold.
    #[error("{compressed} compressed bytes cannot hold the {claimed} that are claimed")]
    LzfClaim {
        /// Its length as it stands in the file.
        compressed: u64,
        /// Its length as it claims to be.
        claimed: u64,
    },
    /// Compressed data that refers to what is not there, stops inside a token, or has another length than it says.
    #[error("compressed data is damaged: {0}")]
    Lzf(&'static str),
    /// One string, packed blob or key is larger than may be held.
    #[error("one element has {size} bytes and at most {limit} may be held")]
    TooLarge {
        /// What it has, or claims to have.
        size: u64,
        /// The limit that was set.
        limit: u64,
    },
    /// A database number that no server has.
    #[error("database number {0} does not exist")]
    Database(u64),
    /// A sorted set's score is not a number.
    #[error("a score that is not a number")]
    Score,
    /// A hash field's deadline is before 1970 or does not fit.
    #[error("a hash field's deadline is out of range")]
    FieldDeadline,
    /// A ziplist, listpack, intset or zipmap is damaged.
    #[error("{0}")]
    Packed(Damaged),
    /// A quicklist node is neither plain (1) nor packed (2).
    #[error("quicklist node container {0} is not known")]
    QuicklistContainer(u64),
    /// The key of a stream's node is not an ID of 16 bytes.
    #[error("the ID of a stream's node has {0} bytes and must have 16")]
    StreamNodeId(u64),
    /// A stream's listpack does not hold what it must.
    #[error("a stream's node is damaged: {0}")]
    StreamNode(&'static str),
    /// A module's value is written with an opcode that does not exist.
    #[error("module opcode {0} is not known")]
    ModuleOpcode(u64),
    /// The stated checksum is not that of the bytes.
    #[error("the checksum is {found:#018x} and the file says {stated:#018x}")]
    Checksum {
        /// What the last eight bytes say.
        stated: u64,
        /// What the bytes before them sum up to.
        found: u64,
    },
    /// The bytes ended before the format did.
    #[error("the data ends here and the file does not")]
    Truncated,
}

impl RdbError {
    /// What the operator can do now, in one sentence.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self.kind {
            RdbErrorKind::NotRdb(_) => {
                "give a file written by SAVE, BGSAVE or redis-cli --rdb; a compressed one must be unpacked first"
            }
            RdbErrorKind::UnknownVersion(_) | RdbErrorKind::UnknownOpcode { .. } => {
                "if the server that wrote it is newer than this program, update the program; otherwise the file is damaged: check it with that server's redis-check-rdb"
            }
            RdbErrorKind::EnterpriseOpcode(_) => {
                "export the database from Redis Enterprise, and give the file that it exports"
            }
            RdbErrorKind::PreReleaseModule => {
                "load the file into Redis 4.0 or later with the module and save it again, or delete the key"
            }
            RdbErrorKind::PreReleaseFunction => {
                "load the functions into a release of Redis 7.0 or later, and save from there"
            }
            RdbErrorKind::TooLarge { .. } => {
                "raise --memory to at least four times this size for each source, or delete the key at the source"
            }
            RdbErrorKind::Truncated => {
                "the file or transfer was cut short: copy the file again, or repeat the sync"
            }
            RdbErrorKind::Checksum { .. } => {
                "the bytes were changed on the way or on the disk: copy the file again, or repeat the sync"
            }
            RdbErrorKind::LengthForm(_)
            | RdbErrorKind::LengthWanted(_)
            | RdbErrorKind::StringEncoding(_)
            | RdbErrorKind::LzfClaim { .. }
            | RdbErrorKind::Lzf(_)
            | RdbErrorKind::Database(_)
            | RdbErrorKind::Score
            | RdbErrorKind::FieldDeadline
            | RdbErrorKind::Packed(_)
            | RdbErrorKind::QuicklistContainer(_)
            | RdbErrorKind::StreamNodeId(_)
            | RdbErrorKind::StreamNode(_)
            | RdbErrorKind::ModuleOpcode(_) => {
                "the file is damaged here: check it with redis-check-rdb, copy it again, or save it anew"
            }
        }
    }
}

struct AtKey<'a> {
    key: Option<&'a [u8]>,
    behind: bool,
}

impl fmt::Display for AtKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(key) = self.key else { return Ok(()) };
        write!(f, " {} key {}", if self.behind { "behind" } else { "in" }, Escaped(key))
    }
}

/// What reading a leaf gives: the rest of the input and the leaf, or that the input is too short, or a fault.
pub(crate) type Leaf<'a, T> = nom::IResult<&'a [u8], T, Fault>;

/// An [`RdbErrorKind`] on its way through nom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) RdbErrorKind);

impl Fault {
    /// The end of all alternatives: what stands here is wrong.
    pub(crate) const fn failure<T>(kind: RdbErrorKind) -> Result<T, nom::Err<Self>> {
        Err(nom::Err::Failure(Self(kind)))
    }
}

impl<'a> nom::error::ParseError<&'a [u8]> for Fault {
    fn from_error_kind(_: &'a [u8], _: nom::error::ErrorKind) -> Self {
        // Only nom's own number parsers would come here, and on streaming input they know no fault but shortness,
        // which they tell otherwise.
        Self(RdbErrorKind::Truncated)
    }

    fn append(_: &'a [u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::format::Family;

    #[test]
    fn an_error_says_what_where_and_in_which_key() {
        let error = RdbError {
            at: 31_000_000_123,
            key: Some(Bytes::from_static(b"user:\xff1")),
            behind: false,
            kind: RdbErrorKind::LengthForm(0x82),
        };
        assert_eq!(
            error.to_string(),
            r#"a length cannot begin with 0x82 at byte 31000000123 in key "user:\xff1""#
        );
        let format = Format { family: Family::Valkey, version: 80 };
        let kind = RdbErrorKind::UnknownOpcode { byte: 24, format };
        let key = Some(Bytes::from_static(b"user:1"));
        let error = RdbError { at: 9, key, behind: true, kind };
        assert_eq!(
            error.to_string(),
            "object type or opcode 24 is not known in VALKEY080 at byte 9 behind key \"user:1\""
        );
        assert!(error.advice().contains("update"));
    }
}
