//! What the value of each object type is made of, as data.
//!
//! Two machines walk these tables: [`scan`](crate::rdb::scan) finds where a value ends, and
//! [`walk`](crate::rdb::walk) makes elements of it. A new type is a table here and, if it holds something that
//! no other type holds, a variant of [`Gives`].

use crate::rdb::opcode::ObjectType;

/// The smallest things that values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A string in any of its forms.
    Str,
    /// A length.
    Len,
    /// A score as text: a byte for its length, then so many bytes. 253, 254 and 255 are NaN and the infinities.
    Text,
    /// So many bytes.
    Bytes(u8),
}

/// A part of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// These leaves, once.
    One(&'static [Leaf], Gives),
    /// A length, and so many times these leaves.
    Many(&'static [Leaf], Gives),
    /// A length, and so many times these parts.
    Each(&'static [Self]),
    /// A module's opcodes, each with its leaf, up to the one that ends them.
    Module,
}

/// What one round of leaves is, to who wants elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    /// The value of a string key.
    Text,
    /// An element of a list.
    Item,
    /// A member of a set.
    Member,
    /// A field and its value.
    Field,
    /// A member, and its score as text.
    ScoredText,
    /// A member, and its score in eight bytes.
    Scored,
    /// One packed blob; which, says the object type.
    Blob,
    /// A quicklist's ziplist.
    Ziplist,
    /// A quicklist's container: a listpack or one large element.
    Container,
    /// The hash's earliest deadline, to which those of its fields are relative.
    Earliest,
    /// A deadline relative to the earliest, a field, its value.
    FieldAfterEarliest,
    /// A deadline, a field, its value.
    FieldWithDeadline,
    /// The hash's earliest deadline, then a listpack of fields, values and deadlines.
    EarliestAndBlob,
    /// A field, its value, and a deadline in eight bytes.
    FieldThenDeadline,
    /// A stream's node: the ID its entries are relative to, and a listpack of them.
    Node,
    /// What a stream knows about itself: its length and last ID.
    Meta,
    /// The same with its first ID, the greatest deleted ID and how many entries it ever had.
    Meta2,
    /// A consumer group: its name and last ID.
    Group,
    /// The same with how many entries it has read.
    Group2,
    /// An entry that was delivered and not acknowledged: its ID, when, how often.
    Pending,
    /// A consumer: its name and when it was last seen.
    Consumer,
    /// The same with when it last got something.
    Consumer3,
    /// The ID of a pending entry that belongs to the consumer before it.
    Owned,
    /// The ID of a pending entry that its consumer gave back.
    Returned,
    /// How long and how many of a producer's messages are remembered.
    Deduplication,
    /// The name of a producer.
    Producer,
    /// A message of that producer: its own name for it, and the entry's ID.
    Message,
    /// How many messages came, and how many came twice.
    Produced,
    /// The module's ID.
    ModuleId,
    /// The first and last slot of a range. Not part of a value.
    SlotRange,
    /// Which class of modules' metadata follows. Not part of a value.
    MetaClass,
}

/// The parts of a value of this type.
pub(crate) const fn layout(object: ObjectType) -> &'static [Part] {
    match object {
        ObjectType::String => &[One(&[Str], Gives::Text)],
        ObjectType::List => &[Many(&[Str], Gives::Item)],
        ObjectType::Set => &[Many(&[Str], Gives::Member)],
        ObjectType::Zset => &[Many(&[Str, Text], Gives::ScoredText)],
        ObjectType::Zset2 => &[Many(&[Str, Bytes(8)], Gives::Scored)],
        ObjectType::Hash => &[Many(&[Str, Str], Gives::Field)],
        ObjectType::Module2 => &[One(&[Len], Gives::ModuleId), Part::Module],
        ObjectType::HashZipmap
        | ObjectType::ListZiplist
        | ObjectType::SetIntset
        | ObjectType::ZsetZiplist
        | ObjectType::HashZiplist
        | ObjectType::HashListpack
        | ObjectType::ZsetListpack
        | ObjectType::SetListpack
        | ObjectType::HashListpackExPreRelease => &[One(&[Str], Gives::Blob)],
        ObjectType::HashListpackEx => &[One(&[Bytes(8), Str], Gives::EarliestAndBlob)],
        ObjectType::ListQuicklist => &[Many(&[Str], Gives::Ziplist)],
        ObjectType::ListQuicklist2 => &[Many(&[Len, Str], Gives::Container)],
        ObjectType::HashMetadataPreRelease => &[Many(&[Len, Str, Str], Gives::FieldWithDeadline)],
        ObjectType::HashMetadata => {
            &[One(&[Bytes(8)], Gives::Earliest), Many(&[Len, Str, Str], Gives::FieldAfterEarliest)]
        }
        ObjectType::Hash2 => &[Many(&[Str, Str, Bytes(8)], Gives::FieldThenDeadline)],
        ObjectType::StreamListpacks => {
            &[NODES, One(&[Len, Len, Len], Gives::Meta), Part::Each(&[GROUP, PENDING, CONSUMERS])]
        }
        ObjectType::StreamListpacks2 => {
            &[NODES, META_2, Part::Each(&[GROUP_2, PENDING, CONSUMERS])]
        }
        ObjectType::StreamListpacks3 => {
            &[NODES, META_2, Part::Each(&[GROUP_2, PENDING, CONSUMERS_3])]
        }
        ObjectType::StreamListpacks4 => &[
            NODES,
            META_2,
            Part::Each(&[GROUP_2, PENDING, CONSUMERS_3]),
            DEDUPLICATION,
            PRODUCERS,
            PRODUCED,
        ],
        ObjectType::StreamListpacks5 => &[
            NODES,
            META_2,
            Part::Each(&[GROUP_2, PENDING, CONSUMERS_3, RETURNED]),
            DEDUPLICATION,
            PRODUCERS,
            PRODUCED,
        ],
    }
}

/// Data of a module that belongs to no key, after the module's ID and what says when it is to be loaded.
pub(crate) const MODULE_AUX: &[Part] = &[Part::Module];

/// What modules keep about a key: so many classes, each with its name and version in four bytes.
pub(crate) const KEY_META: &[Part] =
    &[Part::Each(&[One(&[Bytes(4)], Gives::MetaClass), Part::Module])];

/// The first and last slot of each range of a slot import, after its name.
pub(crate) const SLOT_RANGES: &[Part] = &[Many(&[Len, Len], Gives::SlotRange)];

use Leaf::Bytes;
use Leaf::Len;
use Leaf::Str;
use Leaf::Text;
use Part::Many;
use Part::One;

const NODES: Part = Many(&[Str, Str], Gives::Node);
const META_2: Part = One(&[Len, Len, Len, Len, Len, Len, Len, Len], Gives::Meta2);
const GROUP: Part = One(&[Str, Len, Len], Gives::Group);
const GROUP_2: Part = One(&[Str, Len, Len, Len], Gives::Group2);
/// A raw ID, a time in milliseconds, a count.
const PENDING: Part = Many(&[Bytes(16), Bytes(8), Len], Gives::Pending);
const CONSUMERS: Part = Part::Each(&[One(&[Str, Bytes(8)], Gives::Consumer), OWNED]);
const CONSUMERS_3: Part = Part::Each(&[One(&[Str, Bytes(8), Bytes(8)], Gives::Consumer3), OWNED]);
const OWNED: Part = Many(&[Bytes(16)], Gives::Owned);
const RETURNED: Part = Many(&[Bytes(16)], Gives::Returned);
const DEDUPLICATION: Part = One(&[Len, Len], Gives::Deduplication);
const PRODUCERS: Part =
    Part::Each(&[One(&[Str], Gives::Producer), Many(&[Str, Len, Len], Gives::Message)]);
const PRODUCED: Part = One(&[Len, Len], Gives::Produced);
