//! Records of an RDB as commands that put the same key into a target.

use crate::command::judge::Expect;
use crate::key::Db;
use crate::rdb::event::{KeyHead, Payload};
use crate::rdb::opcode::ObjectType;
use crate::rdb::parser::Depth;
use crate::rdb::string::{StringHeader, split_header};
use crate::rdb::support::{Feature, Unsupported};
use crate::rdb::transcode::{Fit, TranscodeError, fit, transcode_with};
use crate::resp;
use crate::server::{Server, Version};

use super::{Deadlines, Draft};

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
    db: Db,
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
            db: Db::default(),
            key: Vec::new(),
            expire_at_ms: None,
            idle: None,
            freq: None,
        }
    }

    /// Takes the head of a record, whose database is the target's, and says how its value is wanted.
    pub fn key(&mut self, head: &KeyHead<'_>, deadlines: &mut Deadlines) -> Depth {
        self.db = head.db;
        self.key.clear();
        self.key.extend_from_slice(head.key);
        self.expire_at_ms = head.expire_at_ms.map(|at| deadlines.hold(head.db, head.key, at));
        self.idle = head.idle_seconds;
        self.freq = head.freq;
        Depth::Verbatim { limit: self.restore_limit }
    }

    /// The record that is being taken: its database and its key.
    #[must_use]
    pub fn current(&self) -> (Db, &[u8]) {
        (self.db, &self.key)
    }

    /// Takes the value of the record, verbatim, and writes the commands that put it into `draft`'s database.
    ///
    /// # Errors
    /// If the target cannot hold such a value, or the value must be written anew for it and is damaged.
    pub fn payload(
        &mut self,
        payload: &Payload<'_>,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<(), TranscodeError> {
        draft.select(self.db);
        draft.carries.keys += 1;
        if payload.object == ObjectType::String
            && self.idle.is_none()
            && self.freq.is_none()
            && (self.expire_at_ms.is_none() || self.abilities.set_pxat)
        {
            match split_header(payload.body) {
                Some((StringHeader::Raw { .. }, bytes)) => {
                    self.set(bytes, draft);
                    return Ok(());
                }
                Some((StringHeader::Int(number), _)) => {
                    self.set(itoa::Buffer::new().format(number).as_bytes(), draft);
                    return Ok(());
                }
                // Compressed: the target unpacks it as fast as we would, and less has to be sent.
                Some((StringHeader::Lzf { .. }, _)) | None => {}
            }
        }
        let fit = if has_field_deadlines(payload.object) {
            let (db, key) = (self.db, &self.key);
            let value =
                transcode_with(*payload, self.target, |at| deadlines.hold_field(db, key, at))?
                    .strict(self.target)?;
            let version = self.target.restore_version(value.object);
            let unsupported = Unsupported { what: Feature::Restore, server: self.target };
            Fit::Transcoded { value, version: version.ok_or(unsupported)? }
        } else {
            match fit(*payload, self.target)? {
                Fit::Transcoded { value, version } => {
                    Fit::Transcoded { value: value.strict(self.target)?, version }
                }
                verbatim => verbatim,
            }
        };
        self.restore(&fit, draft);
        Ok(())
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

    fn restore(&self, fit: &Fit<'_>, draft: &mut Draft) {
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
            let len = fit.dump_len();
            out.reserve(len + 128);
            out.extend_from_slice(b"$");
            out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            out.extend_from_slice(b"\r\n");
            fit.put_dump(out);
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

/// Whether a value of this type has fields with deadlines of their own.
fn has_field_deadlines(object: ObjectType) -> bool {
    matches!(
        object,
        ObjectType::HashMetadata
            | ObjectType::HashListpackEx
            | ObjectType::HashMetadataPreRelease
            | ObjectType::HashListpackExPreRelease
            | ObjectType::Hash2
    )
}
