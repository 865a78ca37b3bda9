//! One round of leaves: what is read, and what it is.

use crate::rdb::blob::BlobWalk;
use crate::rdb::cursor::Cursor;
use crate::rdb::cursor::Span;
use crate::rdb::cursor::Stop;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::ModuleId;
use crate::rdb::event::StreamHistory;
use crate::rdb::event::StreamId;
use crate::rdb::event::StreamMeta;
use crate::rdb::layout::Gives;
use crate::rdb::layout::layout;
use crate::rdb::lzf;
use crate::rdb::lzf::Inflate;
use crate::rdb::scan::Scan;
use crate::rdb::score;
use crate::rdb::string::StringHeader;
use crate::rdb::walk::Given;
use crate::rdb::walk::Held;
use crate::rdb::walk::Now;
use crate::rdb::walk::Walk;

impl Walk {
    /// Reads one round of leaves, after which `left` more come, and moves `at` past it. `None`: it has no element of
    /// its own, or several, which come next.
    #[inline(always)]
    pub(super) fn round(
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

/// A key's compressed string is decoded at once up to this size in the file, and as it comes above.
const SMALL: u64 = 8 << 10;
