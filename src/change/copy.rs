//! Records of an RDB as commands that put the same key into a target.

use crate::command::judge::Expect;
use crate::key::Db;
use crate::rdb::crc::crc64;
use crate::rdb::event::{KeyHead, Payload};
use crate::rdb::opcode::ObjectType;
use crate::rdb::parser::Depth;
use crate::rdb::string::{StringHeader, split_header};
use crate::resp;
use crate::server::{Flavour, Server, Version};

use super::Draft;

/// Why a record cannot be put into a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The target's version does not know this type of value.
    #[error("{target} cannot hold a {what}")]
    Unsupported {
        /// The target.
        target: Server,
        /// The type and its encoding.
        what: &'static str,
    },
}

/// What becomes of a key that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// The command fails, and the key stays.
    Refuse,
}

/// Turns records into commands.
#[derive(Debug)]
pub struct Copy {
    target: Server,
    abilities: Abilities,
    existing: Existing,
    restore_limit: usize,
    /// The record whose value is awaited.
    key: Vec<u8>,
    expire_at_ms: Option<i64>,
    idle: Option<u64>,
    freq: Option<u8>,
}

/// What a target can do for a copy.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    /// `SET … PXAT`: a deadline in the same command (6.2).
    set_pxat: bool,
    /// `RESTORE … ABSTTL`, `IDLETIME`, `FREQ` (5.0).
    restore_options: bool,
    /// `RESTORE … REPLACE` (3.0).
    restore_replace: bool,
}

impl Abilities {
    fn of(server: Server) -> Self {
        let version = server.as_redis();
        Self {
            set_pxat: version >= Version(6, 2, 0),
            restore_options: version >= Version(5, 0, 0),
            restore_replace: version >= Version(3, 0, 0),
        }
    }
}

impl Copy {
    /// Commands for this target. A value whose payload is larger than `restore_limit` bytes is not sent as one command.
    #[must_use]
    pub fn new(target: Server, existing: Existing, restore_limit: usize) -> Self {
        Self {
            target,
            abilities: Abilities::of(target),
            existing,
            restore_limit,
            key: Vec::new(),
            expire_at_ms: None,
            idle: None,
            freq: None,
        }
    }

    /// Takes the head of a record, and says how its value is wanted.
    ///
    /// # Errors
    /// If the target cannot hold such a value.
    pub fn key(&mut self, head: &KeyHead<'_>) -> Result<Depth, CopyError> {
        self.key.clear();
        self.key.extend_from_slice(head.key);
        self.expire_at_ms = head.expire_at_ms;
        self.idle = head.idle_seconds;
        self.freq = head.freq;
        if !reads(self.target, head.object) {
            return Err(CopyError::Unsupported {
                target: self.target,
                what: head.object.encoding(),
            });
        }
        Ok(Depth::Verbatim { limit: self.restore_limit })
    }

    /// Takes the value of the record, verbatim, and writes the commands that put it into `draft`'s database.
    pub fn payload(&mut self, payload: &Payload<'_>, draft: &mut Draft) {
        draft.carries.keys += 1;
        if payload.object == ObjectType::String
            && self.idle.is_none()
            && self.freq.is_none()
            && (self.expire_at_ms.is_none() || self.abilities.set_pxat)
        {
            match split_header(payload.body) {
                Some((StringHeader::Raw { .. }, bytes)) => return self.set(bytes, draft),
                Some((StringHeader::Int(number), _)) => {
                    return self.set(itoa::Buffer::new().format(number).as_bytes(), draft);
                }
                // Compressed: the target unpacks it as fast as we would, and less has to be sent.
                Some((StringHeader::Lzf { .. }, _)) | None => {}
            }
        }
        self.restore(payload, draft);
    }

    /// The database of the records that follow.
    pub fn select(&self, db: Db, draft: &mut Draft) {
        draft.select(db);
    }

    fn set(&self, value: &[u8], draft: &mut Draft) {
        let refuse = self.existing == Existing::Refuse;
        let args = 3 + usize::from(refuse) + if self.expire_at_ms.is_some() { 2 } else { 0 };
        draft.push_with(Expect::Status, |out| {
            resp::array(out, args);
            out.extend_from_slice(b"$3\r\nSET\r\n");
            resp::bulk(out, &self.key);
            resp::bulk(out, value);
            if let Some(at) = self.expire_at_ms {
                out.extend_from_slice(b"$4\r\nPXAT\r\n");
                resp::bulk(out, itoa::Buffer::new().format(at).as_bytes());
            }
            if refuse {
                out.extend_from_slice(b"$2\r\nNX\r\n");
            }
        });
    }

    fn restore(&mut self, payload: &Payload<'_>, draft: &mut Draft) {
        let Abilities { restore_options, restore_replace, .. } = self.abilities;
        let replace = self.existing == Existing::Replace;
        if replace && !restore_replace {
            draft.push(&[b"DEL", &self.key], Expect::Any);
        }
        let replace = replace && restore_replace;
        let absolute = self.expire_at_ms.filter(|_| restore_options);
        let idle = self.idle.filter(|_| restore_options);
        let freq = self.freq.filter(|_| restore_options && idle.is_none());
        let args = 4
            + usize::from(replace)
            + usize::from(absolute.is_some())
            + if idle.is_some() { 2 } else { 0 }
            + if freq.is_some() { 2 } else { 0 };
        draft.push_with(Expect::Status, |out| {
            resp::array(out, args);
            out.extend_from_slice(b"$7\r\nRESTORE\r\n");
            resp::bulk(out, &self.key);
            resp::bulk(out, itoa::Buffer::new().format(absolute.unwrap_or(0)).as_bytes());
            // A DUMP payload: the type, the value, and ten bytes of version and checksum.
            let len = 1 + payload.body.len() + 10;
            out.extend_from_slice(b"$");
            out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            out.extend_from_slice(b"\r\n");
            let begin = out.len();
            out.push(payload.object.byte());
            out.extend_from_slice(payload.body);
            out.extend_from_slice(&stamp(payload.object).to_le_bytes());
            let sum = crc64(out.get(begin..).unwrap_or_default());
            out.extend_from_slice(&sum.to_le_bytes());
            out.extend_from_slice(b"\r\n");
            if replace {
                out.extend_from_slice(b"$7\r\nREPLACE\r\n");
            }
            if absolute.is_some() {
                out.extend_from_slice(b"$6\r\nABSTTL\r\n");
            }
            if let Some(idle) = idle {
                out.extend_from_slice(b"$8\r\nIDLETIME\r\n");
                resp::bulk(out, itoa::Buffer::new().format(idle).as_bytes());
            }
            if let Some(freq) = freq {
                out.extend_from_slice(b"$4\r\nFREQ\r\n");
                resp::bulk(out, itoa::Buffer::new().format(freq).as_bytes());
            }
        });
        if let Some(at) = self.expire_at_ms.filter(|_| !restore_options) {
            draft.push(
                &[b"PEXPIREAT", &self.key, itoa::Buffer::new().format(at).as_bytes()],
                Expect::Positive,
            );
        }
    }
}

/// The version that a payload of this type is stamped with: the lowest that knows the type, and six at the least, since
/// 2.6 to 3.0 want their own number and the later ones any that is not above theirs.
fn stamp(object: ObjectType) -> u16 {
    object.since().max(6)
}

/// Whether `RESTORE` on this server takes a payload of this type.
fn reads(server: Server, object: ObjectType) -> bool {
    use crate::rdb::format::Family;
    let (family, newest) = match server.flavour {
        Flavour::Valkey if server.version >= Version(9, 0, 0) => (Family::Valkey, 80),
        // Redict says 12, but knows no deadlines of hash fields.
        Flavour::Valkey | Flavour::Redict => (Family::Redis, 11),
        Flavour::Redis => (
            Family::Redis,
            match server.version {
                Version(..=2, ..) | Version(3, ..=1, _) => 6,
                Version(3, ..) => 7,
                Version(4, ..) => 8,
                Version(5..=6, ..) => 9,
                Version(7, ..=1, _) => 10,
                Version(7, ..=3, _) => 11,
                Version(7.., ..) => 12,
            },
        ),
    };
    object.since() <= newest && object.family().is_none_or(|own| own == family)
}
