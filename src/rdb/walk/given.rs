//! What a step of a walk came to, and how it is lent.

use crate::rdb::blob::BlobFault;
use crate::rdb::cursor::Span;
use crate::rdb::event::Element;
use crate::rdb::event::Event;
use crate::rdb::event::ModuleId;
use crate::rdb::event::Packed;
use crate::rdb::event::StreamId;
use crate::rdb::walk::Now;
use crate::rdb::walk::Walk;

/// What a step of a walk came to, its strings not borrowed yet.
#[derive(Clone, Copy)]
pub(crate) enum Given {
    Text {
        offset: u64,
        len: u64,
        bytes: Span,
    },
    /// The same, at the end of what was inflated.
    Inflated {
        offset: u64,
        len: u64,
        from: usize,
    },
    Item(Span),
    Member(Span),
    Field {
        field: Span,
        value: Span,
        expire_at_ms: Option<i64>,
    },
    Scored {
        member: Span,
        score: f64,
    },
    /// The next entry of the blob that is walked, whose beginning lies `base` bytes into the input.
    Entry {
        base: usize,
    },
    StreamEntry(StreamId),
    /// What the stream knows about itself, which the walk keeps.
    Stream,
    Group {
        name: Span,
        last_id: StreamId,
        entries_read: Option<u64>,
    },
    Pending {
        id: StreamId,
        delivered_at_ms: i64,
        deliveries: u64,
    },
    Consumer {
        name: Span,
        seen_at_ms: i64,
        active_at_ms: Option<i64>,
    },
    Owned(StreamId),
    Returned(StreamId),
    Deduplication {
        seconds: u64,
        messages: u64,
    },
    Producer(Span),
    Message {
        name: Span,
        id: StreamId,
    },
    Produced {
        added: u64,
        duplicates: u64,
    },
    Module {
        module: ModuleId,
        bytes: Span,
    },
    Whole(Span),
    Ziplist(Span),
    Listpack(Span),
    StreamNode {
        master: StreamId,
        listpack: Span,
    },
    End,
}

impl Walk {
    /// Lends what a step gave.
    ///
    /// # Errors
    /// What is wrong in a blob that is walked, and at which byte of the input.
    #[inline(always)]
    pub(crate) fn lend<'a>(
        &'a mut self,
        given: Given,
        input: &'a [u8],
        scratch: &'a [u8],
    ) -> Result<Event<'a>, BlobFault> {
        let text = |span: Span| span.of(input, scratch);
        Ok(Event::Element(match given {
            Given::Text { offset, len, bytes } => Element::Text { offset, len, bytes: text(bytes) },
            Given::Inflated { offset, len, from } => {
                let made = match &self.now {
                    Now::Inflate { inflate, .. } => inflate.made(),
                    _ => &[],
                };
                Element::Text { offset, len, bytes: made.get(from..).unwrap_or_default() }
            }
            Given::Item(item) => Element::Item(text(item)),
            Given::Member(member) => Element::Member(text(member)),
            Given::Field { field, value, expire_at_ms } => {
                Element::Field { field: text(field), value: text(value), expire_at_ms }
            }
            Given::Scored { member, score } => Element::Scored { member: text(member), score },
            Given::Entry { base } => match &mut self.now {
                Now::Blob { walk, at: held, .. } => {
                    let held = *held;
                    let blob = held.blob(input, base, &self.blob);
                    walk.next(blob, &mut self.texts).map_err(|fault| held.fault(base, fault))?
                }
                _ => return Ok(Event::ValueEnd),
            },
            Given::StreamEntry(id) => Element::Entry { id, fields: self.node.fields() },
            Given::Stream => Element::Stream(self.meta),
            Given::Group { name, last_id, entries_read } => {
                Element::Group { name: text(name), last_id, entries_read }
            }
            Given::Pending { id, delivered_at_ms, deliveries } => {
                Element::Pending { id, delivered_at_ms, deliveries }
            }
            Given::Consumer { name, seen_at_ms, active_at_ms } => {
                Element::Consumer { name: text(name), seen_at_ms, active_at_ms }
            }
            Given::Owned(id) => Element::Owned(id),
            Given::Returned(id) => Element::Returned(id),
            Given::Deduplication { seconds, messages } => {
                Element::Deduplication { seconds, messages }
            }
            Given::Producer(name) => Element::Producer(text(name)),
            Given::Message { name, id } => Element::Message { name: text(name), id },
            Given::Produced { added, duplicates } => Element::Produced { added, duplicates },
            Given::Module { module, bytes } => Element::Module { module, bytes: text(bytes) },
            Given::Whole(blob) => {
                return Ok(Event::Packed(Packed::Whole { object: self.object, blob: text(blob) }));
            }
            Given::Ziplist(blob) => return Ok(Event::Packed(Packed::Ziplist(text(blob)))),
            Given::Listpack(blob) => return Ok(Event::Packed(Packed::Listpack(text(blob)))),
            Given::StreamNode { master, listpack } => {
                let listpack = text(listpack);
                return Ok(Event::Packed(Packed::StreamNode { master, listpack }));
            }
            Given::End => return Ok(Event::ValueEnd),
        }))
    }
}
