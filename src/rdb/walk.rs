//! Makes elements of a value: one round of leaves at a time, or one entry of a packed blob.

use crate::rdb::blob::BlobFault;
use crate::rdb::blob::BlobWalk;
use crate::rdb::blob::Texts;
use crate::rdb::course::Course;
use crate::rdb::cursor::Cursor;
use crate::rdb::cursor::Span;
use crate::rdb::cursor::Stop;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::Element;
use crate::rdb::event::Event;
use crate::rdb::event::ModuleId;
use crate::rdb::event::Packed;
use crate::rdb::event::StreamHistory;
use crate::rdb::event::StreamId;
use crate::rdb::event::StreamMeta;
use crate::rdb::layout::Gives;
use crate::rdb::layout::Part;
use crate::rdb::layout::layout;
use crate::rdb::lzf;
use crate::rdb::lzf::Inflate;
use crate::rdb::node::NodeWalk;
use crate::rdb::opcode::ObjectType;
use crate::rdb::scan::Scan;
use crate::rdb::scan::Scanned;
use crate::rdb::score;
use crate::rdb::string::StringHeader;

/// How far a walk has come.
#[derive(Debug)]
pub(crate) struct Walk {
    object: ObjectType,
    /// Whether blobs are wanted as they are.
    packed: bool,
    /// The largest string or blob that may be held.
    limit: usize,
    course: Course,
    now: Now,
    /// A hash's earliest deadline.
    earliest: u64,
    /// A decompressed blob that is being walked.
    blob: Vec<u8>,
    node: NodeWalk,
    meta: StreamMeta,
    texts: Texts,
}

#[derive(Debug)]
enum Now {
    /// The next part is to be taken up.
    Next,
    /// So many rounds are to come.
    Rounds { gives: Gives, left: u64 },
    /// A blob is walked; then so many rounds are to come.
    Blob { walk: BlobWalk, at: Held, gives: Gives, left: u64 },
    /// A stream's node is walked; then so many more are to come.
    Node { at: Held, left: u64 },
    /// The rest of a string that stands there as it is.
    Text { offset: u64, len: u64 },
    /// The rest of a compressed string.
    Inflate { inflate: Box<Inflate>, offset: u64, len: u64 },
    /// The rest of a module's value, which the scan passes over.
    Module(ModuleId),
    /// What comes is wrong, and what came before it was given.
    Fault(RdbErrorKind),
}

/// Where a blob lies that is walked: in the input, or decompressed. With its head it takes up `end` bytes of the input,
/// which are consumed when it has been walked; all counts begin with the head.
#[derive(Clone, Copy, Debug)]
enum Held {
    Input { from: usize, to: usize, end: usize },
    Made { end: usize },
}

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

/// A key's compressed string is decoded at once up to this size in the file, and as it comes above.
const SMALL: u64 = 8 << 10;

impl Walk {
    /// A walk that has nothing to walk.
    pub(crate) fn new() -> Self {
        Self {
            object: ObjectType::String,
            packed: false,
            limit: 0,
            course: Course::default(),
            now: Now::Next,
            earliest: 0,
            blob: Vec::new(),
            node: NodeWalk::default(),
            meta: StreamMeta::default(),
            texts: Texts::default(),
        }
    }

    /// Begins with a value of this type.
    pub(crate) fn begin(&mut self, object: ObjectType, packed: bool, limit: usize) {
        self.object = object;
        self.packed = packed;
        self.limit = limit;
        self.course.begin(layout(object));
        self.now = Now::Next;
    }

    /// Goes one element on. `at` is moved past what it is made of.
    #[inline(always)]
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        at: &mut usize,
        scan: &mut Scan,
        scratch: &mut Vec<u8>,
    ) -> Result<Given, Stop> {
        loop {
            match &mut self.now {
                Now::Next => {
                    if !self.take_up(input, at)? {
                        return Ok(Given::End);
                    }
                }
                Now::Rounds { left: 0, .. } => self.now = Now::Next,
                Now::Rounds { gives, left } => {
                    let next = (*gives, *left - 1);
                    if let Some(given) = self.round(input, at, next, scan, scratch)? {
                        return Ok(given);
                    }
                }
                Now::Blob { walk, at: held, gives, left } => {
                    let blob = held.blob(input, *at, &self.blob);
                    if !walk.is_done(blob).map_err(|fault| held.stop(*at, fault))? {
                        return Ok(Given::Entry { base: *at });
                    }
                    *at += held.end();
                    self.now = Now::Rounds { gives: *gives, left: *left };
                }
                Now::Node { at: held, left } => {
                    let blob = held.blob(input, *at, &self.blob);
                    if let Some(id) = self.node.next(blob).map_err(|fault| held.stop(*at, fault))? {
                        return Ok(Given::StreamEntry(id));
                    }
                    *at += held.end();
                    self.now = Now::Rounds { gives: Gives::Node, left: *left };
                }
                Now::Text { offset, len } => {
                    let mut cursor = Cursor::new(input, *at);
                    let bytes = cursor.take_some(*len - *offset)?;
                    let given = Given::Text { offset: *offset, len: *len, bytes };
                    *offset += (cursor.at() - *at) as u64;
                    if offset == len {
                        self.now = Now::Next;
                    }
                    *at = cursor.at();
                    return Ok(given);
                }
                Now::Inflate { inflate, .. } if inflate.is_done() => self.now = Now::Next,
                Now::Inflate { inflate, offset, len } => {
                    let data = input.get(*at..).unwrap_or_default();
                    let fault = *at;
                    let (used, from) =
                        inflate.step(data).map_err(|kind| Stop::Fault { at: fault, kind })?;
                    *at += used;
                    let made = inflate.made().len() - from;
                    if made == 0 {
                        return Err(Stop::NeedMore { need: 0 });
                    }
                    let given = Given::Inflated { offset: *offset, len: *len, from };
                    *offset += made as u64;
                    return Ok(given);
                }
                Now::Module(module) => {
                    let module = *module;
                    let from = *at;
                    let rest = input.get(from..).unwrap_or_default();
                    let more = match scan.pass(rest) {
                        Ok((passed, end)) => {
                            *at += passed;
                            if end == Scanned::End {
                                self.now = Now::Next;
                            }
                            end != Scanned::End
                        }
                        Err((fault, kind)) => {
                            *at += fault;
                            self.now = Now::Fault(kind);
                            false
                        }
                    };
                    if *at > from {
                        return Ok(Given::Module { module, bytes: Span::of_input(from, *at) });
                    }
                    if more {
                        return Err(Stop::NeedMore { need: 0 });
                    }
                }
                Now::Fault(kind) => return Err(Stop::Fault { at: *at, kind: *kind }),
            }
        }
    }

    /// Takes up the next part; false at the end.
    fn take_up(&mut self, input: &[u8], at: &mut usize) -> Result<bool, Stop> {
        while let Some(part) = self.course.part() {
            let mut cursor = Cursor::new(input, *at);
            let (gives, left) = match part {
                Part::One(_, gives) => (gives, 1),
                Part::Many(_, gives) => (gives, cursor.length()?),
                Part::Each(parts) => {
                    let times = cursor.length()?;
                    *at = cursor.at();
                    self.course.pass_through(parts, times);
                    continue;
                }
                // It was passed with the module's ID before it.
                Part::Module => {
                    self.course.pass();
                    continue;
                }
            };
            *at = cursor.at();
            self.course.pass();
            self.now = Now::Rounds { gives, left };
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads one round of leaves, after which `left` more come, and moves `at` past it. `None`: it has no element of
    /// its own, or several, which come next.
    #[inline(always)]
    fn round(
        &mut self,
        input: &[u8],
        at: &mut usize,
        (gives, left): (Gives, u64),
        scan: &mut Scan,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Given>, Stop> {
        let limit = self.limit;
        let mut cursor = Cursor::new(input, *at);
        let mut text = |cursor: &mut Cursor<'_>| cursor.string(scratch, limit);
        let given = match gives {
            Gives::Item => Given::Item(text(&mut cursor)?),
            Gives::Member => Given::Member(text(&mut cursor)?),
            Gives::Field => Given::Field {
                field: text(&mut cursor)?,
                value: text(&mut cursor)?,
                expire_at_ms: None,
            },
            Gives::Scored => {
                Given::Scored { member: text(&mut cursor)?, score: score::binary(&mut cursor)? }
            }
            Gives::ScoredText => Given::Scored {
                member: text(&mut cursor)?,
                score: score::counted_text(&mut cursor)?,
            },
            Gives::FieldAfterEarliest => {
                let expire_at_ms = match cursor.length()? {
                    0 => None,
                    // One more than the difference, for zero says that there is none.
                    after => Some(deadline(self.earliest.checked_add(after - 1), *at)?),
                };
                Given::Field { field: text(&mut cursor)?, value: text(&mut cursor)?, expire_at_ms }
            }
            Gives::FieldWithDeadline => {
                let expire_at_ms = match cursor.length()? {
                    0 => None,
                    ms => Some(deadline(Some(ms), *at)?),
                };
                Given::Field { field: text(&mut cursor)?, value: text(&mut cursor)?, expire_at_ms }
            }
            Gives::FieldThenDeadline => {
                let (field, value) = (text(&mut cursor)?, text(&mut cursor)?);
                let expire_at_ms = match i64::from_le_bytes(cursor.fixed()?) {
                    -1 => None,
                    ms => Some(deadline(u64::try_from(ms).ok(), *at)?),
                };
                Given::Field { field, value, expire_at_ms }
            }
            Gives::Meta => {
                self.meta = StreamMeta {
                    length: cursor.length()?,
                    last_id: stream_id(&mut cursor)?,
                    more: None,
                };
                Given::Stream
            }
            Gives::Meta2 => {
                self.meta = StreamMeta {
                    length: cursor.length()?,
                    last_id: stream_id(&mut cursor)?,
                    more: Some(StreamHistory {
                        first_id: stream_id(&mut cursor)?,
                        max_deleted_id: stream_id(&mut cursor)?,
                        entries_added: cursor.length()?,
                    }),
                };
                Given::Stream
            }
            Gives::Group => Given::Group {
                name: text(&mut cursor)?,
                last_id: stream_id(&mut cursor)?,
                entries_read: None,
            },
            Gives::Group2 => Given::Group {
                name: text(&mut cursor)?,
                last_id: stream_id(&mut cursor)?,
                // -1 is how servers keep "not known".
                entries_read: Some(cursor.length()?).filter(|&read| read != u64::MAX),
            },
            Gives::Pending => Given::Pending {
                id: StreamId::decode(cursor.fixed()?),
                delivered_at_ms: i64::from_le_bytes(cursor.fixed()?),
                deliveries: cursor.length()?,
            },
            Gives::Consumer => Given::Consumer {
                name: text(&mut cursor)?,
                seen_at_ms: i64::from_le_bytes(cursor.fixed()?),
                active_at_ms: None,
            },
            Gives::Consumer3 => Given::Consumer {
                name: text(&mut cursor)?,
                seen_at_ms: i64::from_le_bytes(cursor.fixed()?),
                // -1 is how servers keep "never".
                active_at_ms: Some(i64::from_le_bytes(cursor.fixed()?)).filter(|&ms| ms != -1),
            },
            Gives::Owned => Given::Owned(StreamId::decode(cursor.fixed()?)),
            Gives::Returned => Given::Returned(StreamId::decode(cursor.fixed()?)),
            Gives::Deduplication => {
                Given::Deduplication { seconds: cursor.length()?, messages: cursor.length()? }
            }
            Gives::Producer => Given::Producer(text(&mut cursor)?),
            Gives::Message => {
                Given::Message { name: text(&mut cursor)?, id: stream_id(&mut cursor)? }
            }
            Gives::Produced => {
                Given::Produced { added: cursor.length()?, duplicates: cursor.length()? }
            }
            Gives::Earliest => {
                self.earliest = u64::from_le_bytes(cursor.fixed()?);
                *at = cursor.at();
                self.now = Now::Rounds { gives, left };
                return Ok(None);
            }
            Gives::Text => return self.begin_text(&mut cursor, at, scratch),
            Gives::Blob | Gives::EarliestAndBlob => {
                if gives == Gives::EarliestAndBlob {
                    let _: [u8; 8] = cursor.fixed()?;
                }
                if !self.packed {
                    let walk = BlobWalk::of(self.object).unwrap_or(BlobWalk::LISTPACK_OF_ITEMS);
                    return self.begin_blob(&mut cursor, *at, walk, (gives, left));
                }
                Given::Whole(text(&mut cursor)?)
            }
            Gives::Ziplist => {
                if !self.packed {
                    let walk = BlobWalk::ZIPLIST_OF_ITEMS;
                    return self.begin_blob(&mut cursor, *at, walk, (gives, left));
                }
                Given::Ziplist(text(&mut cursor)?)
            }
            Gives::Container => match cursor.length()? {
                PLAIN => Given::Item(text(&mut cursor)?),
                PACKED if self.packed => Given::Listpack(text(&mut cursor)?),
                PACKED => {
                    let walk = BlobWalk::LISTPACK_OF_ITEMS;
                    return self.begin_blob(&mut cursor, *at, walk, (gives, left));
                }
                other => {
                    return Err(Stop::Fault {
                        at: *at,
                        kind: RdbErrorKind::QuicklistContainer(other),
                    });
                }
            },
            Gives::Node => {
                let id = text(&mut cursor)?.of(input, scratch);
                let Ok(id) = id.try_into().map(StreamId::decode) else {
                    let kind = RdbErrorKind::StreamNodeId(id.len() as u64);
                    return Err(Stop::Fault { at: *at, kind });
                };
                if !self.packed {
                    return self.begin_node(&mut cursor, *at, id, left);
                }
                Given::StreamNode { master: id, listpack: cursor.string(scratch, limit)? }
            }
            Gives::ModuleId => {
                let module = ModuleId::new(cursor.length()?);
                // The pieces begin with it, so it is not consumed here.
                scan.begin(layout(self.object));
                self.now = Now::Module(module);
                return Ok(None);
            }
            Gives::SlotRange | Gives::MetaClass => return Ok(None),
        };
        *at = cursor.at();
        self.now = Now::Rounds { gives, left };
        Ok(Some(given))
    }

    fn begin_text(
        &mut self,
        cursor: &mut Cursor<'_>,
        at: &mut usize,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Given>, Stop> {
        let begin = scratch.len();
        let header = cursor.string_header()?;
        let whole = match header {
            StringHeader::Raw { len: len @ 1.. } => {
                self.now = Now::Text { offset: 0, len };
                None
            }
            StringHeader::Lzf { compressed, len } if compressed > SMALL => {
                let inflate = Box::new(Inflate::new(compressed, len));
                self.now = Now::Inflate { inflate, offset: 0, len };
                None
            }
            StringHeader::Raw { .. } => Some(()),
            StringHeader::Int(value) => {
                scratch.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
                Some(())
            }
            StringHeader::Lzf { compressed, len } => {
                let data = cursor.take(usize::try_from(compressed).unwrap_or(usize::MAX))?;
                // Its claim is bounded by the factor that LZF can reach.
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                lzf::decompress(data, len, scratch)
                    .map_err(|kind| Stop::Fault { at: *at, kind })?;
                Some(())
            }
        };
        *at = cursor.at();
        Ok(whole.map(|()| {
            self.now = Now::Next;
            let end = scratch.len();
            let bytes = Span::of_scratch(begin, end);
            Given::Text { offset: 0, len: (end - begin) as u64, bytes }
        }))
    }

    fn begin_blob(
        &mut self,
        cursor: &mut Cursor<'_>,
        at: usize,
        walk: BlobWalk,
        (gives, left): (Gives, u64),
    ) -> Result<Option<Given>, Stop> {
        let held = self.hold(cursor, at)?;
        self.now = Now::Blob { walk, at: held, gives, left };
        Ok(None)
    }

    fn begin_node(
        &mut self,
        cursor: &mut Cursor<'_>,
        at: usize,
        id: StreamId,
        left: u64,
    ) -> Result<Option<Given>, Stop> {
        let held = self.hold(cursor, at)?;
        let blob = held.blob(cursor.input(), at, &self.blob);
        self.node.begin(id, blob).map_err(|fault| held.stop(at, fault))?;
        self.now = Now::Node { at: held, left };
        Ok(None)
    }

    /// Reads a blob that is to be walked. What begins at `at` and ends with it is not consumed meanwhile.
    fn hold(&mut self, cursor: &mut Cursor<'_>, at: usize) -> Result<Held, Stop> {
        self.blob.clear();
        // A large one that has gone by is not kept.
        self.blob.shrink_to(SMALL_BLOB);
        let span = cursor.string(&mut self.blob, self.limit)?;
        let end = cursor.at() - at;
        let (from, to) = span.range();
        Ok(if span.is_in_scratch() {
            Held::Made { end }
        } else {
            Held::Input { from: from - at, to: to - at, end }
        })
    }

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

impl Held {
    fn blob<'a>(self, input: &'a [u8], base: usize, made: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Input { from, to, .. } => input.get(base + from..base + to).unwrap_or_default(),
            Self::Made { .. } => made,
        }
    }

    /// How many bytes of the input belong to it, with the head.
    const fn end(self) -> usize {
        match self {
            Self::Input { end, .. } | Self::Made { end } => end,
        }
    }

    /// A fault in the blob, at its byte of the input; where it was compressed, at its beginning.
    const fn fault(self, base: usize, (at, kind): BlobFault) -> (usize, RdbErrorKind) {
        match self {
            Self::Input { from, .. } => (base + from + at, kind),
            Self::Made { .. } => (base, kind),
        }
    }

    const fn stop(self, base: usize, fault: BlobFault) -> Stop {
        let (at, kind) = self.fault(base, fault);
        Stop::Fault { at, kind }
    }
}

fn stream_id(cursor: &mut Cursor<'_>) -> Result<StreamId, Stop> {
    Ok(StreamId { ms: cursor.length()?, seq: cursor.length()? })
}

/// A hash field's deadline, which must be a time that a server can have.
fn deadline(ms: Option<u64>, at: usize) -> Result<i64, Stop> {
    ms.and_then(|ms| i64::try_from(ms).ok())
        .ok_or(Stop::Fault { at, kind: RdbErrorKind::FieldDeadline })
}

/// Containers of a quicklist.
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

/// What the memory for a decompressed blob may stay at.
const SMALL_BLOB: usize = 1 << 20;
