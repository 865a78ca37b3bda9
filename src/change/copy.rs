//! Records of an RDB as commands that put the same key into a target.

use crate::command::judge::Expect;
use crate::key::Db;
use crate::rdb::event::{Element, KeyHead, Payload};
use crate::rdb::opcode::ObjectType;
use crate::rdb::parser::Depth;
use crate::rdb::string::{StringHeader, split_header};
use crate::rdb::support::Unsupported;
use crate::rdb::transcode::{Fit, TranscodeError};
use crate::rdb::value::EncodeError;
use crate::resp;
use crate::server::{Server, Version};

use super::fitted::fitted;
use super::pieces::{Head, Pieces};
use super::{Batch, Deadlines, Draft};

/// What becomes of a key that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// The command fails, and the key stays.
    Refuse,
}

/// How much memory a copy may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes of its payload, that goes as one command; a larger one goes in pieces.
    pub whole: usize,
    /// How many bytes of commands one piece should have.
    pub piece: usize,
    /// How many bytes may be held of a larger one that no pieces can make: a stream's consumer groups. [`Copy::holds`] tells how many are.
    pub held: usize,
}

/// Why a record cannot be put into the target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is no form of it that the target takes, or it is damaged.
    #[error(transparent)]
    Value(#[from] TranscodeError),
    /// It can be written at once only, and is too large for that.
    #[error(
        "{what}, {size} bytes, must go in one command, and at most {limit} bytes may be held for that; --memory sets it"
    )]
    TooLarge {
        /// What is too large: `module:` and a type's name, or a part of a value.
        what: String,
        /// How many bytes it has.
        size: u64,
        /// How many may be held.
        limit: u64,
    },
    /// An entry of a stream has so many fields that the target cannot move it, as it must where there are consumer groups.
    #[error(
        "an entry of this stream has {fields} fields; beside consumer groups an entry of a stream too large for one command may have {most}; --memory sets how large that is"
    )]
    Fields {
        /// How many can be moved.
        most: usize,
        /// How many there are.
        fields: usize,
    },
}

impl From<Unsupported> for CopyError {
    fn from(error: Unsupported) -> Self {
        Self::Value(error.into())
    }
}

impl From<EncodeError> for CopyError {
    fn from(error: EncodeError) -> Self {
        Self::Value(error.into())
    }
}

/// Turns records into commands.
///
/// After [`key`](Self::key) comes either its [`payload`](Self::payload), whose commands are appended to a draft, or
/// [elements](Self::element) and the [end of the value](Self::value_end); these become batches of their own, which
/// [`poll_batch`](Self::poll_batch) gives.
#[derive(Debug)]
pub struct Copy {
    target: Server,
    abilities: Abilities,
    existing: Existing,
    limits: Limits,
    pieces: Pieces,
    /// The record whose value is awaited.
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
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
    /// Commands for this target. `token` stands in the names of temporary keys: no other run's may be the same.
    #[must_use]
    pub fn new(target: Server, existing: Existing, limits: Limits, token: String) -> Self {
        Self {
            target,
            abilities: Abilities::of(target),
            existing,
            limits,
            pieces: Pieces::new(target, existing, limits, token),
            db: Db::default(),
            key: Vec::new(),
            object: ObjectType::String,
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
        self.object = head.object;
        self.expire_at_ms = head.expire_at_ms.map(|at| deadlines.hold(head.db, head.key, at));
        self.idle = head.idle_seconds;
        self.freq = head.freq;
        Depth::Verbatim { limit: self.limits.whole }
    }

    /// How many bytes are held of a value that is being taken and that no pieces can make.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.pieces.holds()
    }

    /// Whether a value has begun to go in pieces and has not come whole.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.pieces.is_open()
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
    ) -> Result<(), CopyError> {
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
        let fit = fitted(*payload, self.target, (self.db, &self.key), deadlines)?;
        self.restore(&fit, draft);
        Ok(())
    }

    /// Takes the next element of the record's value, which is too large for one command.
    ///
    /// # Errors
    /// If the target cannot hold such a value. What was sent of it stays under a temporary name until it is
    /// [abandoned](Self::abandon).
    pub fn element(
        &mut self,
        element: &Element<'_>,
        deadlines: &mut Deadlines,
    ) -> Result<(), CopyError> {
        if !self.pieces.is_open() {
            let Self { db, ref key, object, expire_at_ms: deadline, .. } = *self;
            self.pieces.begin(&Head { db, key, object, deadline })?;
        }
        self.pieces.element(element, deadlines)
    }

    /// The record's value has come whole, in elements.
    ///
    /// # Errors
    /// As [`element`](Self::element).
    pub fn value_end(&mut self) -> Result<(), CopyError> {
        self.pieces.end()
    }

    /// The next batch of a value that goes in pieces. They must be sent in this order, and none be left out.
    pub fn poll_batch(&mut self) -> Option<Batch> {
        self.pieces.poll_batch()
    }

    /// So many values that went in pieces have got their names: see [`Carries::renamed`](super::Carries::renamed).
    pub fn renamed(&mut self, values: u64) {
        self.pieces.renamed(values);
    }

    /// Gives up the value that is under way. What is given removes every temporary key that may be in the target; nothing if
    /// there is none.
    pub fn abandon(&mut self) -> Option<Batch> {
        self.pieces.abandon()
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
