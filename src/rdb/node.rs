//! A stream's node: a listpack of entries whose IDs and field names are told by what differs from a master entry.
//!
//! ```text
//! master: live entries, deleted entries, number of fields, field ..., 0
//! entry:  flags, ms - the node's, seq - the node's,
//!           number of fields, (field, value) ...   or, flagged as having the master's fields, value ...
//!         number of listpack entries from the flags to here
//! ```

use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::Fields;
use crate::rdb::event::StreamId;
use crate::rdb::packed::Damaged;
use crate::rdb::packed::Entry;
use crate::rdb::packed::Mark;
use crate::rdb::packed::listpack;
use crate::rdb::packed::listpack::Listpack;

/// The entry is deleted and its place not yet reclaimed.
const DELETED: i64 = 1;
/// The entry has the master's fields, and only its values follow.
const SAME_FIELDS: i64 = 2;

/// A walk through a node, whose listpack lies elsewhere.
#[derive(Debug, Default)]
pub(crate) struct NodeWalk {
    id: StreamId,
    mark: Mark,
    /// Entries that the master entry says there are and were not met.
    live: i64,
    deleted: i64,
    /// The master's fields.
    master: Texts,
    /// The fields and values of the entry met last.
    entry: Texts,
}

/// What is wrong in a node, and at which byte of its listpack.
pub(crate) type NodeFault = (usize, RdbErrorKind);

impl NodeWalk {
    /// Begins with the node of this ID: reads its master entry.
    pub(crate) fn begin(&mut self, id: StreamId, blob: &[u8]) -> Result<(), NodeFault> {
        let mut node = Node { entries: Listpack::parse(blob).map_err(fault)?.iter() };
        self.id = id;
        self.live = node.int()?;
        self.deleted = node.int()?;
        self.master.clear();
        for _ in 0..node.count()? {
            self.master.push(node.entry()?);
        }
        if node.int()? != 0 {
            return Err(node.wrong("its master entry does not end where it says"));
        }
        self.mark = node.entries.mark();
        Ok(())
    }

    /// Goes to the next entry that is not deleted. `None` at the end.
    pub(crate) fn next(&mut self, blob: &[u8]) -> Result<Option<StreamId>, NodeFault> {
        let mut node = Node { entries: Listpack::parse(blob).map_err(fault)?.resume(self.mark) };
        loop {
            if node.entries.is_at_end() {
                return match node.entries.next() {
                    Some(Err(damaged)) => Err(fault(damaged)),
                    _ if self.live != 0 || self.deleted != 0 => {
                        Err(node.wrong("it has other entries than its master entry says"))
                    }
                    _ => Ok(None),
                };
            }
            let flags = node.int()?;
            // Servers add the differences as they do pointers: they wrap (redis `t_stream.c`, `streamIteratorGetID`).
            let ms = self.id.ms.wrapping_add_signed(node.int()?);
            let seq = self.id.seq.wrapping_add_signed(node.int()?);
            self.entry.clear();
            let mut parts = 3;
            if flags & SAME_FIELDS == 0 {
                let fields = node.count()?;
                for _ in 0..fields {
                    self.entry.push(node.entry()?);
                    self.entry.push(node.entry()?);
                }
                parts += 1 + 2 * fields;
            } else {
                for field in self.master.iter() {
                    self.entry.push(Entry::Bytes(field));
                    self.entry.push(node.entry()?);
                    parts += 1;
                }
            }
            if node.int()? != parts {
                return Err(node.wrong("an entry has another size than it says"));
            }
            if flags & DELETED == 0 {
                self.live -= 1;
                self.mark = node.entries.mark();
                return Ok(Some(StreamId { ms, seq }));
            }
            self.deleted -= 1;
        }
    }

    /// The fields and values of the entry met last.
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields::new(&self.entry.bytes, &self.entry.ends)
    }
}

/// The entries of a listpack that a node expects.
struct Node<'a> {
    entries: listpack::Entries<'a>,
}

impl<'a> Node<'a> {
    fn entry(&mut self) -> Result<Entry<'a>, NodeFault> {
        match self.entries.next() {
            Some(entry) => entry.map_err(fault),
            None => Err(self.wrong("it ends inside an entry")),
        }
    }

    fn int(&mut self) -> Result<i64, NodeFault> {
        match self.entry()?.to_int() {
            Some(value) => Ok(value),
            None => Err(self.wrong("a number is not a number")),
        }
    }

    /// How many things follow. More than the listpack has bytes cannot be.
    fn count(&mut self) -> Result<i64, NodeFault> {
        match self.int()? {
            count @ 0..=0x4000_0000 => Ok(count),
            _ => Err(self.wrong("a count is not a count")),
        }
    }

    const fn wrong(&self, what: &'static str) -> NodeFault {
        (self.entries.at(), RdbErrorKind::StreamNode(what))
    }
}

const fn fault(damaged: Damaged) -> NodeFault {
    (damaged.at, RdbErrorKind::Packed(damaged))
}

/// Texts one after the other, and where each ends.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, entry: Entry<'_>) {
        self.bytes.extend_from_slice(entry.to_bytes(&mut itoa::Buffer::new()));
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        Fields::new(&self.bytes, &self.ends).texts()
    }
}
