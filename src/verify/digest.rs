//! What a value is, in a few numbers that do not depend on the server, the version and the encoding it comes from.
//!
//! ```text
//! order    strings, lists, a stream's entries: each part stands on those before it
//! sum      members, fields, scores, a stream's groups: as they come in any order, they are added up
//! history  what a stream knows of its past, from 7.0 on: counts only where both sides tell it
//! fields   deadlines of a hash's fields
//! ```
//! Two values that differ have one digest by chance, once in 2 to the power of 128. The seed is another one for each comparison, so that nobody can
//! make such values beforehand.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::change::SHIFT;
use crate::rdb::event::{Element, ModuleId, StreamId};
use crate::rdb::opcode::ValueType;

use super::vectors::{Item, Vectors};

/// What is compared of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Its type.
    pub kind: ValueType,
    /// All of it but what follows.
    pub digest: u128,
    /// The deadlines of a hash's fields; 0 if there are none.
    pub fields: u64,
    /// What a stream knows of its past; `None` before 7.0, and of what is no stream.
    pub history: Option<u64>,
}

impl Content {
    /// Of a value that could not be read. It is like no other, nor like itself, so that the key is looked at again.
    pub const UNREAD: Self =
        Self { kind: ValueType::Module, digest: u128::MAX, fields: 0, history: None };

    /// Of a value that was written since it was read. It is like no other either, and nobody knows whether there is one.
    pub const WRITTEN: Self = Self { digest: u128::MAX - 1, ..Self::UNREAD };

    /// Whether it tells something of a value.
    #[must_use]
    pub fn is_known(&self) -> bool {
        ![Self::UNREAD, Self::WRITTEN].contains(self)
    }

    /// Whether a value is the same but for the deadlines of its fields.
    #[must_use]
    pub fn is_equal_but_for_fields(&self, other: &Self) -> bool {
        if !self.is_known() || !other.is_known() {
            return false;
        }
        let same_past = match (self.history, other.history) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        (self.kind, self.digest) == (other.kind, other.digest) && same_past
    }

    /// Whether a value is the same.
    #[must_use]
    pub fn is_equal(&self, other: &Self) -> bool {
        self.is_equal_but_for_fields(other) && self.fields == other.fields
    }
}

/// How a side's deadlines are to be understood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// What its clock shows, in milliseconds since 1970.
    pub now_ms: i64,
    /// How much later a rule sets its deadlines, in milliseconds.
    pub later_by: i64,
    /// Whether a job holds deadlines back there.
    pub held_back: bool,
}

impl Times {
    /// When something dies, as the target shall have it in the end; `None` if it is dead.
    #[must_use]
    pub fn lives_until(&self, at_ms: i64) -> Option<i64> {
        let at_ms = if self.held_back && at_ms >= SHIFT { at_ms - SHIFT } else { at_ms };
        (at_ms > self.now_ms).then(|| at_ms.saturating_add(self.later_by))
    }
}

/// Makes a [`Content`] of a value's elements.
pub struct Digester {
    seed: u64,
    kind: ValueType,
    order: u128,
    sum: u128,
    fields: u64,
    history: Option<u64>,
    /// The group, and the consumer, of which is told.
    group: u128,
    consumer: u128,
    /// What comes in pieces.
    pieces: Box<Xxh3>,
    in_pieces: bool,
    /// Whose value it is, if it is a module's.
    module: Option<ModuleId>,
    /// A vector set, if that is what the module's value is.
    vectors: Option<Vectors>,
    /// What it has said.
    of_vectors: u128,
    /// Whether anything is there that is not dead.
    lives: bool,
}

/// What an element is, so that one is not taken for another.
#[derive(Clone, Copy)]
enum Part {
    Text,
    Item,
    Member,
    Field,
    FieldDeadline,
    Scored,
    Entry,
    Stream,
    Group,
    Pending,
    Owned,
    Returned,
    History,
    GroupRead,
    Consumer,
    Deduplication,
    Producer,
    Message,
    Produced,
    Module,
    Vectors,
    Vector,
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Digester {
    /// One whose digests can be compared with those of others with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            kind: ValueType::String,
            order: 0,
            sum: 0,
            fields: 0,
            history: None,
            group: 0,
            consumer: 0,
            pieces: Box::new(Xxh3::with_seed(seed)),
            in_pieces: false,
            module: None,
            vectors: None,
            of_vectors: 0,
            lives: false,
        }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A value of this type begins.
    pub fn begin(&mut self, kind: ValueType) {
        if std::mem::take(&mut self.in_pieces) {
            self.pieces.reset();
        }
        (self.kind, self.order, self.sum, self.fields) = (kind, 0, 0, 0);
        (self.history, self.group, self.consumer) = (None, 0, 0);
        (self.module, self.vectors, self.of_vectors) = (None, None, 0);
        // Only a hash loses what it has by itself.
        self.lives = kind != ValueType::Hash;
    }

    /// The next element comes.
    pub fn add(&mut self, element: &Element<'_>, times: &Times) {
        match *element {
            Element::Text { offset, len, bytes } => {
                if offset == 0 && len == bytes.len() as u64 {
                    self.follow(Part::Text, &[bytes]);
                } else {
                    self.piece(bytes);
                }
            }
            Element::Module { module, bytes } => {
                self.module = Some(module);
                if !self.in_pieces {
                    self.follow(Part::Module, &[&module.get().to_le_bytes()]);
                    let is_known =
                        module.to_string() == "vectorset" && module.encoding_version() == 0;
                    self.vectors = is_known.then(Vectors::default);
                }
                self.piece(bytes);
                self.take_vectors(bytes);
            }
            Element::Item(item) => self.follow(Part::Item, &[item]),
            Element::Member(member) => self.join(Part::Member, &[member]),
            Element::Scored { member, score } => {
                // There are two zeros, and they are equal.
                let score = if score == 0.0 { 0.0 } else { score };
                self.join(Part::Scored, &[member, &score.to_bits().to_le_bytes()]);
            }
            Element::Field { field, value, expire_at_ms } => {
                let Some(deadline) = alive(expire_at_ms, times) else { return };
                self.lives = true;
                self.join(Part::Field, &[field, value]);
                if let Some(at) = deadline {
                    let part = self.part(Part::FieldDeadline, &[field, &at.to_le_bytes()]);
                    self.fields = self.fields.wrapping_add(half(part));
                }
            }
            Element::Entry { id, fields } => {
                self.follow(Part::Entry, &[&id.encode(), &fields.len().to_le_bytes()]);
                fields.texts().for_each(|text| self.order = chain(self.order, text));
            }
            ref other => self.add_of_stream(other),
        }
    }

    /// What a stream knows beside its entries. When a consumer was seen last is not compared: each server counts that from its own clock.
    fn add_of_stream(&mut self, element: &Element<'_>) {
        let raw = StreamId::encode;
        match *element {
            Element::Stream(meta) => {
                self.follow(Part::Stream, &[&raw(meta.last_id)]);
                if let Some(more) = meta.more {
                    self.history = Some(0);
                    let (deleted, added) = (raw(more.max_deleted_id), more.entries_added);
                    self.remember(Part::History, &[&deleted, &added.to_le_bytes()]);
                }
            }
            Element::Group { name, last_id, entries_read } => {
                self.group = self.part(Part::Group, &[name]);
                self.join(Part::Group, &[name, &raw(last_id)]);
                let read = entries_read.map_or(u64::MAX, |read| read);
                self.remember(Part::GroupRead, &[name, &read.to_le_bytes()]);
            }
            Element::Pending { id, delivered_at_ms, deliveries } => {
                let (at, times) = (delivered_at_ms.to_le_bytes(), deliveries.to_le_bytes());
                self.join(Part::Pending, &[&self.group.to_le_bytes(), &raw(id), &at, &times]);
            }
            Element::Consumer { name, .. } => {
                let group = self.group.to_le_bytes();
                self.consumer = self.part(Part::Consumer, &[&group, name]);
                // Before 6.2 one that has got nothing is told to no replica.
                self.remember(Part::Consumer, &[&group, name]);
            }
            Element::Owned(id) => {
                self.join(Part::Owned, &[&self.consumer.to_le_bytes(), &raw(id)]);
            }
            Element::Returned(id) => {
                self.join(Part::Returned, &[&self.group.to_le_bytes(), &raw(id)]);
            }
            Element::Deduplication { seconds, messages } => {
                let (seconds, messages) = (seconds.to_le_bytes(), messages.to_le_bytes());
                self.join(Part::Deduplication, &[&seconds, &messages]);
            }
            Element::Producer(name) => self.consumer = self.part(Part::Producer, &[name]),
            Element::Message { name, id } => {
                self.join(Part::Message, &[&self.consumer.to_le_bytes(), name, &raw(id)]);
            }
            Element::Produced { added, duplicates } => {
                self.remember(Part::Produced, &[&added.to_le_bytes(), &duplicates.to_le_bytes()]);
            }
            Element::Text { .. }
            | Element::Item(_)
            | Element::Member(_)
            | Element::Field { .. }
            | Element::Scored { .. }
            | Element::Entry { .. }
            | Element::Module { .. } => {}
        }
    }

    /// What comes next is about this group of the stream, which was told.
    pub(super) fn of_group(&mut self, name: &[u8]) {
        self.group = self.part(Part::Group, &[name]);
    }

    /// The value ends. `None` if nothing of it lives any more.
    pub fn end(&mut self) -> Option<Content> {
        let vectors = self.vectors.take().filter(Vectors::is_whole);
        if vectors.is_some() {
            self.sum = self.of_vectors;
        } else if self.in_pieces {
            let text = self.pieces.digest128();
            // A string in pieces is the same as one that came whole.
            let part = if self.kind == ValueType::String { Part::Text } else { Part::Module };
            self.order = mix(self.order, mix(self.root(part), text));
        }
        let digest = mix(self.order, self.sum);
        let Self { kind, fields, history, .. } = *self;
        self.lives.then_some(Content { kind, digest, fields, history })
    }

    /// Whose value came last, if it was a module's.
    #[must_use]
    pub const fn module(&self) -> Option<ModuleId> {
        self.module
    }

    fn take_vectors(&mut self, bytes: &[u8]) {
        let Some(mut vectors) = self.vectors.take() else { return };
        let mut sum = self.of_vectors;
        vectors.take(bytes, |item| {
            let part = match item {
                Item::Head(bytes) => self.part(Part::Vectors, &[bytes]),
                Item::Element(parts) => self.part(Part::Vector, &parts),
            };
            sum = sum.wrapping_add(part);
        });
        (self.vectors, self.of_vectors) = (Some(vectors), sum);
    }

    fn piece(&mut self, bytes: &[u8]) {
        self.in_pieces = true;
        self.pieces.update(bytes);
    }

    /// Something that stands behind what came before.
    fn follow(&mut self, part: Part, of: &[&[u8]]) {
        self.order = mix(self.order, self.part(part, of));
    }

    /// Something that may stand anywhere.
    fn join(&mut self, part: Part, of: &[&[u8]]) {
        self.sum = self.sum.wrapping_add(self.part(part, of));
    }

    /// Something that not every server tells.
    fn remember(&mut self, part: Part, of: &[&[u8]]) {
        let part = half(self.part(part, of));
        self.history = self.history.map(|history| history.wrapping_add(part));
    }

    fn root(&self, part: Part) -> u128 {
        u128::from(self.seed) ^ u128::from(part as u8) << 64
    }

    fn part(&self, part: Part, of: &[&[u8]]) -> u128 {
        let root = self.root(part);
        match of {
            [one] => mix(root, xxh3_128_with_seed(one, self.seed)),
            parts => parts.iter().fold(root, |before, bytes| chain(before, bytes)),
        }
    }
}

/// The deadline of something that lives; `None` if it is dead.
fn alive(at_ms: Option<i64>, times: &Times) -> Option<Option<i64>> {
    match at_ms {
        Some(at_ms) => times.lives_until(at_ms).map(Some),
        None => Some(None),
    }
}

/// A digest of what stood before and of these bytes.
fn chain(before: u128, bytes: &[u8]) -> u128 {
    mix(before, xxh3_128_with_seed(bytes, half(before)))
}

/// A digest of two, in this order.
fn mix(before: u128, next: u128) -> u128 {
    let both = [before.to_le_bytes(), next.to_le_bytes()];
    xxh3_128_with_seed(both.as_flattened(), 0)
}

/// Sixty-four bits of it all.
fn half(whole: u128) -> u64 {
    xxh3_64_with_seed(&whole.to_le_bytes(), 0)
}
