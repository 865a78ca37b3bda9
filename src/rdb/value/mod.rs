//! Values, written from their elements for a server of one's choice.
//!
//! The plain forms (object types 0 to 4) are read by every server, so they are what is written; newer types
//! only where the old ones would lose something: scores in eight bytes where they are known, streams, deadlines
//! of hash fields. How all types are read is in `rdb/layout.rs`.
//!
//! Every form begins with how many elements follow, which is known only when the last one was seen. So an
//! [`Encoder`] gives that part, the [`head`](Encoded::head), at the end: a value that fits into memory is put
//! together there, and a larger one is spooled as it comes and written behind its head.

use bytes::BufMut;

use crate::rdb::event::Element;
use crate::rdb::length::put_length;
use crate::rdb::opcode::ObjectType;
use crate::rdb::opcode::ValueType;
use crate::rdb::packed::Full;
use crate::rdb::string::put_string;
use crate::rdb::support::Feature;
use crate::rdb::support::Unsupported;
use crate::rdb::value::hash::HashEncoder;
use crate::rdb::value::stream::StreamEncoder;
use crate::rdb::value::zset::put_score;
use crate::rdb::value::zset::put_score_text;
use crate::server::Server;

pub mod hash;
pub mod stream;
pub mod zset;

/// Makes the body of one value out of its elements, in a form that a certain server reads.
#[derive(Debug)]
pub struct Encoder {
    kind: Kind,
    /// What was made since the last [`take`](Self::take).
    out: Vec<u8>,
    elements: u64,
    lost: Lost,
}

#[derive(Debug)]
enum Kind {
    /// The whole length is known from the first piece on.
    String {
        len: u64,
    },
    /// Lists, sets and sorted sets: a count, then what the type says.
    Plain(ObjectType),
    Hash(HashEncoder),
    Stream(Box<StreamEncoder>),
    Module,
}

impl Encoder {
    /// Begins a value for `server`, of a kind that the source wrote as `object`.
    ///
    /// # Errors
    /// If the server has no such values at all.
    pub fn new(object: ObjectType, server: Server) -> Result<Self, Unsupported> {
        let needs = |known: ObjectType, what| match server.reads(known) {
            true => Ok(()),
            false => Err(Unsupported { what, server }),
        };
        let kind = match object.value_type() {
            ValueType::String => Kind::String { len: 0 },
            ValueType::List => Kind::Plain(ObjectType::List),
            ValueType::Set => Kind::Plain(ObjectType::Set),
            ValueType::Zset if server.reads(ObjectType::Zset2) => Kind::Plain(ObjectType::Zset2),
            ValueType::Zset => Kind::Plain(ObjectType::Zset),
            ValueType::Hash => Kind::Hash(HashEncoder::new(object, server)),
            ValueType::Stream => {
                needs(ObjectType::StreamListpacks, Feature::Streams)?;
                Kind::Stream(Box::new(StreamEncoder::new(object, server)))
            }
            ValueType::Module => {
                needs(ObjectType::Module2, Feature::Modules)?;
                Kind::Module
            }
        };
        Ok(Self { kind, out: Vec::new(), elements: 0, lost: Lost::default() })
    }

    /// Adds the next element. They must come as the parser gives them.
    ///
    /// # Errors
    /// [`EncodeError`]. What was encoded so far is then worth nothing.
    pub fn push(&mut self, element: &Element<'_>) -> Result<(), EncodeError> {
        match (&mut self.kind, *element) {
            (Kind::String { len }, Element::Text { len: whole, bytes, .. }) => {
                *len = whole;
                self.out.extend_from_slice(bytes);
                self.elements = 1;
                return Ok(());
            }
            (Kind::Module, Element::Module { bytes, .. }) => {
                self.out.extend_from_slice(bytes);
                self.elements = 1;
                return Ok(());
            }
            (Kind::Plain(ObjectType::List), Element::Item(text))
            | (Kind::Plain(ObjectType::Set), Element::Member(text)) => {
                put_string(&mut self.out, text);
            }
            (Kind::Plain(ObjectType::Zset), Element::Scored { member, score }) => {
                put_string(&mut self.out, member);
                put_score_text(&mut self.out, score);
            }
            (Kind::Plain(ObjectType::Zset2), Element::Scored { member, score }) => {
                put_string(&mut self.out, member);
                put_score(&mut self.out, score);
            }
            (Kind::Hash(hash), Element::Field { field, value, expire_at_ms }) => {
                hash.push(&mut self.out, &mut self.lost, field, value, expire_at_ms);
            }
            (Kind::Stream(stream), element) => {
                self.elements += u64::from(stream.push(&mut self.out, &mut self.lost, element)?);
                return Ok(());
            }
            _ => return Err(EncodeError::Misplaced),
        }
        self.elements += 1;
        Ok(())
    }

    /// How many bytes were made and not taken.
    #[must_use]
    pub const fn ready(&self) -> usize {
        self.out.len()
    }

    /// Takes away what was made so far, to be written behind the head and what was taken before.
    ///
    /// A stream's consumer groups stay until the end: their counts stand before them.
    pub fn take(&mut self) -> Vec<u8> {
        if let Kind::Hash(hash) = &mut self.kind {
            hash.settle(&mut self.out);
        }
        std::mem::take(&mut self.out)
    }

    /// Ends the value.
    ///
    /// # Errors
    /// [`EncodeError`] if elements are missing that the last ones announced.
    pub fn finish(mut self) -> Result<Encoded, EncodeError> {
        let mut head = Vec::with_capacity(HEAD);
        let object = match &mut self.kind {
            Kind::String { len } => {
                put_length(&mut head, *len);
                ObjectType::String
            }
            Kind::Module => ObjectType::Module2,
            Kind::Hash(hash) => hash.finish(&mut head, &mut self.out, self.elements),
            Kind::Stream(stream) => stream.finish(&mut head, &mut self.out)?,
            Kind::Plain(object) => {
                put_length(&mut head, self.elements);
                *object
            }
        };
        Ok(Encoded { object, head, rest: self.out, elements: self.elements, lost: self.lost })
    }
}

/// A deadline and a count in their longest forms.
const HEAD: usize = 8 + 9;

/// A value, encoded: its body is the head, what was [taken](Encoder::take) from the encoder, and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The type that stands before the key.
    pub object: ObjectType,
    /// The first bytes of the body, at most 17.
    pub head: Vec<u8>,
    /// The last ones.
    pub rest: Vec<u8>,
    /// How many elements it has; entries of a stream, 1 for a string or a module's value. A collection of none is
    /// no value: servers from 6.2 on refuse to restore it.
    pub elements: u64,
    /// What the server could not hold and was left out.
    pub lost: Lost,
}

impl Encoded {
    /// Writes a body of which nothing was taken before.
    pub fn put(&self, out: &mut impl BufMut) {
        out.put_slice(&self.head);
        out.put_slice(&self.rest);
    }

    /// Itself, unless something was left out that a command of the server would show.
    ///
    /// # Errors
    /// [`Feature::FieldDeadlines`] if hash fields lost theirs.
    pub fn strict(self, server: Server) -> Result<Self, Unsupported> {
        match self.lost.field_deadlines {
            0 => Ok(self),
            _ => Err(Unsupported { what: Feature::FieldDeadlines, server }),
        }
    }
}

/// What a value had and its form for an older server has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// So many hash fields had a deadline and live for ever now. The only loss that a command of the older server
    /// shows; the others are of things that it has no command for.
    pub field_deadlines: u64,
    /// How many entries a stream ever had, which was the greatest deleted, and how many of them its groups have read.
    pub stream_history: bool,
    /// When a stream's consumers last got something.
    pub consumer_activity: bool,
}

/// Why elements make no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// An element of another kind of value, or one that stands where it cannot.
    #[error("an element stands where the value cannot have it")]
    Misplaced,
    /// One entry of a stream is larger than a listpack can be.
    #[error("an entry of the stream has more than 4 GiB")]
    EntryTooLarge,
}

impl From<Full> for EncodeError {
    fn from(_: Full) -> Self {
        Self::EntryTooLarge
    }
}

#[cfg(test)]
mod tests;
