//! What an RDB file says, one thing at a time, borrowed from where it lies.

use std::fmt;

use crate::key::Db;
use crate::rdb::format::Format;
use crate::rdb::opcode::ObjectType;

/// One thing that the file says.
///
/// After a [`Key`](Self::Key) comes its value: one [`Payload`](Self::Payload), or [`Piece`](Self::Piece)s up to the last
/// one, or any number of [`Element`](Self::Element)s and [`Packed`](Self::Packed) blobs and then
/// [`ValueEnd`](Self::ValueEnd), or, if it is skipped, the `ValueEnd` alone. Nothing else stands between a key and the end of its value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The magic: always the first event, and once.
    Header(Format),
    /// A note about the file, such as `redis-ver`, `repl-stream-db` or a known script (`lua`). In a cluster node's
    /// file they stand between keys too.
    Aux {
        /// Its name.
        name: &'a [u8],
        /// What it says.
        value: &'a [u8],
    },
    /// The database of the keys that follow.
    SelectDb(Db),
    /// How large the database is. A hint: more or fewer keys may follow.
    ResizeDb {
        /// Keys in it.
        keys: u64,
        /// Those of them that have a deadline.
        expires: u64,
    },
    /// A slot of a cluster, whose keys follow (Redis 7.4 on).
    SlotInfo {
        /// The slot.
        slot: u64,
        /// Keys in it. A hint.
        keys: u64,
        /// Those of them that have a deadline.
        expires: u64,
    },
    /// A slot import was under way on the node that wrote the file (Valkey 9): keys of its slots may be there that
    /// the node does not own yet.
    SlotImport {
        /// The job's name.
        job: &'a [u8],
    },
    /// Modules keep something about the key that follows (Redis 8.6 on). It is passed over: no payload of the key and
    /// no command has it.
    KeyMeta,
    /// A library of functions, as `FUNCTION LOAD` takes it.
    Function {
        /// Its source, which begins with `#!` and its engine and name.
        code: &'a [u8],
    },
    /// Data of a module that belongs to no key. It is passed over: no command gives it to another server.
    ModuleAux {
        /// The module's type.
        module: ModuleId,
        /// When a server would load it: before the keys (1) or after them (2).
        when: u64,
    },
    /// A key, and what stands before its value.
    Key(KeyHead<'a>),
    /// The value of the key before it, whole, as it stands in the file.
    Payload(Payload<'a>),
    /// A piece of the value before it, as it stands in the file. The pieces come in order and without gaps; how large they
    /// are depends on how the bytes came.
    Piece {
        /// The bytes, at least one.
        bytes: &'a [u8],
        /// Whether the value ends with them.
        last: bool,
    },
    /// A part of the value, as it is packed in the file but not compressed.
    Packed(Packed<'a>),
    /// A part of the value.
    Element(Element<'a>),
    /// The value ends.
    ValueEnd,
}

/// A key, and what stands before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHead<'a> {
    /// The database it is in.
    pub db: Db,
    /// Its name.
    pub key: &'a [u8],
    /// How its value is written.
    pub object: ObjectType,
    /// When it dies, in milliseconds since 1970; `None` if it does not. May lie in the past, from 4.0 on: what a
    /// replica must keep and a master drops.
    pub expire_at_ms: Option<i64>,
    /// Seconds since it was last used, if the server kept that (an LRU policy).
    pub idle_seconds: Option<u64>,
    /// How often it was used, the logarithmic counter of an LFU policy.
    pub freq: Option<u8>,
}

/// A value as it stands in the file: what `DUMP` has between its type byte and its footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The type byte's meaning.
    pub object: ObjectType,
    /// The bytes after the key.
    pub body: &'a [u8],
}

/// A packed blob, decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed<'a> {
    /// The whole value, in the packed encoding that the object type names.
    Whole {
        /// The type.
        object: ObjectType,
        /// The zipmap, ziplist, listpack or intset.
        blob: &'a [u8],
    },
    /// A ziplist of a list's next elements.
    Ziplist(&'a [u8]),
    /// A listpack of a list's next elements.
    Listpack(&'a [u8]),
    /// A node of a stream.
    StreamNode {
        /// To which the IDs in it are relative.
        master: StreamId,
        /// Its entries.
        listpack: &'a [u8],
    },
}

/// A part of a value, as commands see it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Element<'a> {
    /// A piece of a string's value. The pieces come in order and without gaps; how large they are depends on how the
    /// bytes came. An empty string is one empty piece.
    Text {
        /// How many bytes of the string came before it.
        offset: u64,
        /// How many bytes the whole string has.
        len: u64,
        /// The piece.
        bytes: &'a [u8],
    },
    /// The next element of a list, head first.
    Item(&'a [u8]),
    /// A member of a set.
    Member(&'a [u8]),
    /// A field of a hash.
    Field {
        /// Its name.
        field: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When it dies, in milliseconds since 1970; `None` if it does not.
        expire_at_ms: Option<i64>,
    },
    /// A member of a sorted set. From a skiplist they come from the greatest to the least, from a packed encoding
    /// from the least to the greatest.
    Scored {
        /// The member.
        member: &'a [u8],
        /// Its score; may be infinite.
        score: f64,
    },
    /// An entry of a stream, in the order of the IDs. Deleted ones do not come.
    Entry {
        /// Its ID.
        id: StreamId,
        /// Its fields and values.
        fields: Fields<'a>,
    },
    /// What a stream knows about itself. Comes once, after its entries and before its groups.
    Stream(StreamMeta),
    /// A consumer group of the stream. Its pending entries and then its consumers follow.
    Group {
        /// Its name.
        name: &'a [u8],
        /// The last entry it delivered.
        last_id: StreamId,
        /// How many entries of the stream it has read; `None` if that is not known (always before 7.0).
        entries_read: Option<u64>,
    },
    /// An entry that the group has delivered and nobody acknowledged. Whose it is says a later
    /// [`Owned`](Self::Owned).
    Pending {
        /// The entry, which may be deleted.
        id: StreamId,
        /// When it was last delivered, in milliseconds since 1970.
        delivered_at_ms: i64,
        /// How often.
        deliveries: u64,
    },
    /// A consumer of the group. Its entries follow.
    Consumer {
        /// Its name.
        name: &'a [u8],
        /// When it last asked, in milliseconds since 1970.
        seen_at_ms: i64,
        /// When it last got something; `None` for never, and before 7.2.
        active_at_ms: Option<i64>,
    },
    /// A pending entry of the group that belongs to the consumer before it.
    Owned(StreamId),
    /// A pending entry of the group that its consumer gave back, so that it belongs to none (Redis 8.8 on).
    Returned(StreamId),
    /// How the stream recognises messages that come twice (Redis 8.6 on). Its producers follow.
    Deduplication {
        /// For how many seconds a message is remembered.
        seconds: u64,
        /// How many messages of a producer are remembered.
        messages: u64,
    },
    /// A producer whose messages are remembered. They follow.
    Producer(&'a [u8]),
    /// A message of the producer before it.
    Message {
        /// The producer's name for it.
        name: &'a [u8],
        /// The entry that it became.
        id: StreamId,
    },
    /// How many messages of all producers there were. Comes after the last of them.
    Produced {
        /// How many became entries.
        added: u64,
        /// How many came twice and did not.
        duplicates: u64,
    },
    /// A piece of a module's value, as it stands in the file. The pieces come in order and without gaps; how large
    /// they are depends on how the bytes came.
    Module {
        /// The module's type.
        module: ModuleId,
        /// The piece. The first begins with the module's ID.
        bytes: &'a [u8],
    },
}

/// What a stream knows about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMeta {
    /// How many entries it has.
    pub length: u64,
    /// The last ID it gave, which may be deleted.
    pub last_id: StreamId,
    /// The rest, from 7.0 on.
    pub more: Option<StreamHistory>,
}

/// What a stream knows about its past, from 7.0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHistory {
    /// The first entry it has; 0-0 if it has none.
    pub first_id: StreamId,
    /// The greatest ID that was deleted; 0-0 if none was.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

/// The ID of a stream's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds since 1970, by convention.
    pub ms: u64,
    /// The number within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Its size where it stands as raw bytes.
    pub const LEN: usize = 16;

    /// Reads two big endian numbers.
    #[must_use]
    pub fn decode(bytes: [u8; Self::LEN]) -> Self {
        let both = u128::from_be_bytes(bytes).to_le_bytes();
        let [s0, s1, s2, s3, s4, s5, s6, s7, m0, m1, m2, m3, m4, m5, m6, m7] = both;
        Self {
            ms: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
            seq: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
        }
    }

    /// Writes two big endian numbers.
    #[must_use]
    pub fn encode(self) -> [u8; Self::LEN] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The fields and values of a stream's entry, in their order; a name may occur twice.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// Field, value, field, value, without anything between them.
    text: &'a [u8],
    /// Where in `text` each of them ends.
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(text: &'a [u8], ends: &'a [usize]) -> Self {
        Self { text, ends }
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Walks field, value, field, value.
    pub fn texts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (text, ends) = (self.text, self.ends);
        let mut from = 0;
        ends.iter().map(move |&end| {
            let piece = text.get(from..end).unwrap_or_default();
            from = end;
            piece
        })
    }

    /// Walks fields, each with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut texts = self.texts();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.ends == other.ends
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A module's type: nine characters of its name and ten bits of its encoding's version in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(u64);

impl ModuleId {
    /// The ID as it stands in a file.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The ID as it stands in a file.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version of the encoding, 0 to 1023.
    #[must_use]
    pub const fn encoding_version(self) -> u64 {
        self.0 & 0x3ff
    }
}

impl fmt::Display for ModuleId {
    /// The type's name, such as `ReJSON-RL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for place in (0..9).rev() {
            let six = usize::try_from(self.0 >> (10 + 6 * place) & 0x3f).unwrap_or(0);
            write!(f, "{}", char::from(LETTERS.get(six).copied().unwrap_or(b'?')))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_is_two_big_endian_numbers() {
        let id = StreamId { ms: 0x0102_0304_0506_0708, seq: 9 };
        let raw = id.encode();
        assert_eq!(raw, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(StreamId::decode(raw), id);
        assert_eq!(StreamId { ms: 5, seq: 0 }.to_string(), "5-0");
    }

    #[test]
    fn a_module_id_spells_its_name() {
        // From a file of RedisJSON.
        let id = ModuleId::new(0x4478_24e2_37cb_9403);
        assert_eq!(id.encoding_version(), 3);
        assert_eq!(id.to_string().len(), 9);
    }

    #[test]
    fn fields_are_cut_out_of_one_text() {
        let fields = Fields::new(b"ab1cxyz", &[1, 3, 3, 7]);
        assert_eq!(fields.len(), 2);
        let pairs: Vec<_> = fields.iter().collect();
        assert_eq!(pairs, [(&b"a"[..], &b"b1"[..]), (&b""[..], &b"cxyz"[..])]);
    }
}
