//! Streams: entries in listpacks, what the stream knows about itself, its consumer groups.
//!
//! ```text
//! count | (ID as a string of 16 bytes | listpack as a string) ...
//! length | last ID                                      IDs here are two lengths, milliseconds first
//! from type 19 on: first ID | greatest deleted ID | entries ever added
//! count | group ...
//! group: name | last ID | from type 19 on: entries read
//!        count | (raw ID, 16 bytes | delivered at, ms u64 LE | deliveries) ...           the pending entries
//!        count | (name | seen at, ms u64 LE | from type 21 on: active at | count | raw ID ...) ...   consumers
//! listpack: entries | deleted entries | n | n fields | 0, the fields being those of the first entry
//!           (flags | ID - the listpack's, two numbers | n | field | value ... | entries of the listpack in all) ...
//!           flags of 2: the fields are those above and only the values follow
//! ```

use bytes::BufMut;

use crate::rdb::event::Element;
use crate::rdb::event::Fields;
use crate::rdb::event::StreamId;
use crate::rdb::event::StreamMeta;
use crate::rdb::length::put_length;
use crate::rdb::opcode::ObjectType;
use crate::rdb::packed::Full;
use crate::rdb::packed::listpack::Builder;
use crate::rdb::string::put_string;
use crate::rdb::value::EncodeError;
use crate::rdb::value::Lost;
use crate::server::Server;

/// Encodes the elements of one stream.
#[derive(Debug)]
pub(super) struct StreamEncoder {
    form: Form,
    node: Option<Node>,
    /// How many were written.
    nodes: u64,
    /// Known once the entries are over.
    meta: Option<StreamMeta>,
    /// The groups that are whole.
    groups: Counted,
    group: Option<Group>,
}

/// How much of a stream the type can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Type 15.
    First,
    /// Type 19: its history too.
    Second,
    /// Type 21: when its consumers were active too.
    Third,
}

/// So many things one after the other.
#[derive(Debug, Default)]
struct Counted {
    count: u64,
    bytes: Vec<u8>,
}

impl Counted {
    fn put_into(&self, out: &mut Vec<u8>) {
        put_length(out, self.count);
        out.extend_from_slice(&self.bytes);
    }
}

/// A group that is not whole.
#[derive(Debug, Default)]
struct Group {
    head: Vec<u8>,
    pending: Counted,
    consumers: Counted,
    consumer: Option<Consumer>,
}

#[derive(Debug, Default)]
struct Consumer {
    head: Vec<u8>,
    owned: Counted,
}

impl StreamEncoder {
    /// For a stream that the source wrote as `object`. What a source did not say is not made up: such a stream
    /// keeps its older type, from which a newer server infers what it needs.
    pub(super) fn new(object: ObjectType, server: Server) -> Self {
        let written = match object {
            ObjectType::StreamListpacks => Form::First,
            ObjectType::StreamListpacks2 => Form::Second,
            _ => Form::Third,
        };
        let read = if server.reads(ObjectType::StreamListpacks3) {
            Form::Third
        } else if server.reads(ObjectType::StreamListpacks2) {
            Form::Second
        } else {
            Form::First
        };
        Self {
            form: written.min(read),
            node: None,
            nodes: 0,
            meta: None,
            groups: Counted::default(),
            group: None,
        }
    }

    /// Adds an element; gives how many entries that is.
    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        lost: &mut Lost,
        element: Element<'_>,
    ) -> Result<u8, EncodeError> {
        match element {
            Element::Entry { id, fields } if self.meta.is_none() => {
                self.entry(out, id, fields)?;
                return Ok(1);
            }
            Element::Stream(meta) if self.meta.is_none() => {
                self.end_node(out)?;
                lost.stream_history |= meta.more.is_some() && self.form < Form::Second;
                if meta.more.is_none() {
                    self.form = Form::First;
                }
                self.meta = Some(meta);
            }
            Element::Group { name, last_id, entries_read } if self.meta.is_some() => {
                self.end_group();
                let mut head = Vec::new();
                put_string(&mut head, name);
                put_id(&mut head, last_id);
                if self.form >= Form::Second {
                    put_length(&mut head, entries_read.unwrap_or(UNKNOWN));
                }
                self.group = Some(Group { head, ..Group::default() });
            }
            Element::Pending { id, delivered_at_ms, deliveries } => {
                let group = self.group.as_mut().ok_or(EncodeError::Misplaced)?;
                group.pending.count += 1;
                let out = &mut group.pending.bytes;
                out.put_slice(&id.encode());
                out.put_i64_le(delivered_at_ms);
                put_length(out, deliveries);
            }
            Element::Consumer { name, seen_at_ms, active_at_ms } => {
                let group = self.group.as_mut().ok_or(EncodeError::Misplaced)?;
                group.end_consumer();
                let mut head = Vec::new();
                put_string(&mut head, name);
                head.put_i64_le(seen_at_ms);
                if self.form >= Form::Third {
                    head.put_i64_le(active_at_ms.unwrap_or(NEVER));
                }
                lost.consumer_activity |= active_at_ms.is_some() && self.form < Form::Third;
                group.consumer = Some(Consumer { head, ..Consumer::default() });
            }
            Element::Owned(id) => {
                let group = self.group.as_mut().ok_or(EncodeError::Misplaced)?;
                let owned = &mut group.consumer.as_mut().ok_or(EncodeError::Misplaced)?.owned;
                owned.count += 1;
                owned.bytes.put_slice(&id.encode());
            }
            _ => return Err(EncodeError::Misplaced),
        }
        Ok(0)
    }

    /// Writes what stands before the nodes, and what stands behind them.
    pub(super) fn finish(
        &mut self,
        head: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<ObjectType, EncodeError> {
        self.end_group();
        let meta = self.meta.ok_or(EncodeError::Misplaced)?;
        put_length(head, self.nodes);
        put_length(out, meta.length);
        put_id(out, meta.last_id);
        if let Some(history) = meta.more.filter(|_| self.form >= Form::Second) {
            put_id(out, history.first_id);
            put_id(out, history.max_deleted_id);
            put_length(out, history.entries_added);
        }
        self.groups.put_into(out);
        Ok(match self.form {
            Form::First => ObjectType::StreamListpacks,
            Form::Second => ObjectType::StreamListpacks2,
            Form::Third => ObjectType::StreamListpacks3,
        })
    }

    fn entry(
        &mut self,
        out: &mut Vec<u8>,
        id: StreamId,
        fields: Fields<'_>,
    ) -> Result<(), EncodeError> {
        if self.node.as_ref().is_some_and(Node::is_full) {
            self.end_node(out)?;
        }
        let node = self.node.get_or_insert_with(|| Node::new(id, fields));
        Ok(node.push(id, fields)?)
    }

    fn end_node(&mut self, out: &mut Vec<u8>) -> Result<(), Full> {
        if let Some(node) = self.node.take() {
            put_string(out, &node.master.encode());
            put_string(out, &node.finish()?);
            self.nodes += 1;
        }
        Ok(())
    }

    fn end_group(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        group.end_consumer();
        self.groups.count += 1;
        let out = &mut self.groups.bytes;
        out.extend_from_slice(&group.head);
        group.pending.put_into(out);
        group.consumers.put_into(out);
    }
}

impl Group {
    fn end_consumer(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        self.consumers.count += 1;
        let out = &mut self.consumers.bytes;
        out.extend_from_slice(&consumer.head);
        consumer.owned.put_into(out);
    }
}

fn put_id(out: &mut Vec<u8>, id: StreamId) {
    put_length(out, id.ms);
    put_length(out, id.seq);
}

/// Entries that become one listpack.
#[derive(Debug)]
struct Node {
    /// The first entry's ID, to which the others are relative.
    master: StreamId,
    /// The first entry's field names, one after the other, and where each ends.
    names: Vec<u8>,
    name_ends: Vec<usize>,
    entries: Builder,
    count: i64,
}

impl Node {
    fn new(first: StreamId, fields: Fields<'_>) -> Self {
        let mut node = Self {
            master: first,
            names: Vec::new(),
            name_ends: Vec::new(),
            entries: Builder::new(),
            count: 0,
        };
        for (name, _) in fields.iter() {
            node.names.extend_from_slice(name);
            node.name_ends.push(node.names.len());
        }
        node
    }

    fn is_full(&self) -> bool {
        self.count >= NODE_ENTRIES || self.entries.bytes() >= NODE_BYTES
    }

    fn push(&mut self, id: StreamId, fields: Fields<'_>) -> Result<(), Full> {
        let same = fields.len() == self.name_ends.len()
            && fields.iter().map(|(name, _)| name).eq(self.names());
        let list = &mut self.entries;
        let before = list.len();
        list.push_int(if same { SAME_FIELDS } else { 0 })?;
        // The difference of two unsigned numbers, stored as the signed number with the same bits.
        list.push_int(id.ms.wrapping_sub(self.master.ms).cast_signed())?;
        list.push_int(id.seq.wrapping_sub(self.master.seq).cast_signed())?;
        if same {
            for (_, value) in fields.iter() {
                list.push(value)?;
            }
        } else {
            list.push_int(int(fields.len()))?;
            for text in fields.texts() {
                list.push(text)?;
            }
        }
        list.push_int(int(list.len() - before))?;
        self.count += 1;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, Full> {
        let mut list = Builder::new();
        list.push_int(self.count)?;
        list.push_int(0)?;
        list.push_int(int(self.name_ends.len()))?;
        for name in self.names() {
            list.push(name)?;
        }
        list.push_int(0)?;
        list.append(&self.entries)?;
        Ok(list.finish())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.name_ends.iter().map(move |&end| {
            let name = self.names.get(from..end).unwrap_or_default();
            from = end;
            name
        })
    }
}

fn int(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// What servers put into one listpack unless told otherwise (`stream-node-max-entries`, `stream-node-max-bytes`).
const NODE_ENTRIES: i64 = 100;
const NODE_BYTES: usize = 4096;

/// The flag of an entry that has the first one's fields (redis `t_stream.c`, `STREAM_ITEM_FLAG_SAMEFIELDS`).
const SAME_FIELDS: i64 = 2;

/// What a group that does not know how many entries it has read says: -1.
const UNKNOWN: u64 = u64::MAX;

/// What a consumer says that never got anything.
const NEVER: i64 = -1;
