//! A vector set of Redis 8 as it is saved: elements with their vectors and attributes, and the graph between them, which is another one on every
//! server (`modules/vector-sets/vset.c`, `VectorSetRdbSave`).
//!
//! ```text
//! module's id | dimension | elements | quantization and M | flags | if bit 0: dimension before, projection
//! element: name | if bit 1: attributes | vector | how many numbers, and they
//! ```
//! Before each value stands its kind: 2 a number, 5 a string.

use crate::rdb::error::RdbErrorKind;
use crate::rdb::length::length;
use crate::rdb::string::read_string;

/// What is told of a vector set.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// Something that holds for all of it.
    Head(&'a [u8]),
    /// An element: its name, attributes and vector.
    Element([&'a [u8]; 3]),
}

/// Takes it apart as its bytes come.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    /// What could not be taken yet.
    held: Vec<u8>,
    stage: Stage,
    flags: u64,
    /// The element that is being read: its name and attributes.
    texts: Vec<Vec<u8>>,
    is_broken: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Id,
    Dimension,
    Count,
    Config,
    Flags,
    /// The dimension before it was reduced.
    Before,
    Projection,
    Name,
    Attributes,
    Vector,
    /// How many numbers of the graph come.
    Links,
    Link(u64),
    Done,
}

const HAS_PROJECTION: u64 = 1;
const HAS_ATTRIBUTES: u64 = 2;

/// What stands before values of modules (`rdb.h`, `RDB_MODULE_OPCODE_`).
const END: u64 = 0;
const NUMBER: u64 = 2;
const TEXT: u64 = 5;

enum Value {
    Number(u64),
    Text(Vec<u8>),
    End,
}

/// The longest name, vector or list of attributes that is held.
const LONGEST: usize = 64 << 20;

/// The first value of these bytes, and what stands behind it.
///
/// # Errors
/// [`RdbErrorKind::Truncated`] if there is more to come, and anything else if this is no vector set.
fn value(input: &[u8]) -> Result<(Value, &[u8]), RdbErrorKind> {
    let number = |input| length(input).map_err(|_| RdbErrorKind::Truncated);
    let (rest, kind) = number(input)?;
    match kind {
        END => Ok((Value::End, rest)),
        NUMBER => number(rest).map(|(rest, number)| (Value::Number(number), rest)),
        TEXT => {
            let mut text = Vec::new();
            let rest = read_string(rest, LONGEST, &mut text)?;
            Ok((Value::Text(text), rest))
        }
        _ => Err(RdbErrorKind::TooLarge { size: kind, limit: TEXT }),
    }
}

impl Vectors {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(Item<'_>)) {
        if self.is_broken {
            return;
        }
        self.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            let rest = held.get(at..).unwrap_or_default();
            if self.stage == Stage::Id {
                let Ok((behind, _)) = length(rest) else { break };
                (at, self.stage) = (held.len() - behind.len(), Stage::Dimension);
                continue;
            }
            match value(rest) {
                Ok((value, behind)) => {
                    at = held.len() - behind.len();
                    self.is_broken = self.next(value, &mut tell).is_none();
                }
                Err(RdbErrorKind::Truncated) => break,
                Err(_) => self.is_broken = true,
            }
            if self.is_broken {
                return;
            }
        }
        held.drain(..at);
        self.held = held;
    }

    /// Whether it was taken whole, and was such a set.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_broken && self.held.is_empty() && self.stage == Stage::Done
    }

    /// `None`: this cannot stand here.
    fn next(&mut self, value: Value, tell: &mut impl FnMut(Item<'_>)) -> Option<()> {
        self.stage = match (self.stage, value) {
            (Stage::Dimension, Value::Number(number)) => {
                tell(Item::Head(&number.to_le_bytes()));
                Stage::Count
            }
            (Stage::Count, Value::Number(_)) => Stage::Config,
            (Stage::Config, Value::Number(number)) => {
                tell(Item::Head(&number.to_le_bytes()));
                Stage::Flags
            }
            (Stage::Flags, Value::Number(flags)) => {
                self.flags = flags;
                if flags & HAS_PROJECTION == 0 { Stage::Name } else { Stage::Before }
            }
            (Stage::Before, Value::Number(number)) => {
                tell(Item::Head(&number.to_le_bytes()));
                Stage::Projection
            }
            (Stage::Projection, Value::Text(matrix)) => {
                tell(Item::Head(&matrix));
                Stage::Name
            }
            (Stage::Name, Value::Text(name)) => {
                self.texts = vec![name];
                if self.flags & HAS_ATTRIBUTES == 0 {
                    self.texts.push(Vec::new());
                    Stage::Vector
                } else {
                    Stage::Attributes
                }
            }
            (Stage::Name, Value::End) => Stage::Done,
            (Stage::Attributes, Value::Text(text)) => {
                self.texts.push(text);
                Stage::Vector
            }
            (Stage::Vector, Value::Text(vector)) => {
                if let [name, attributes] = self.texts.as_slice() {
                    tell(Item::Element([name, attributes, &vector]));
                }
                Stage::Links
            }
            (Stage::Links, Value::Number(0)) | (Stage::Link(1), Value::Number(_)) => Stage::Name,
            (Stage::Links, Value::Number(count)) => Stage::Link(count),
            (Stage::Link(left), Value::Number(_)) => Stage::Link(left - 1),
            _ => return None,
        };
        Some(())
    }
}
