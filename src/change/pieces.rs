//! A value that is too large for one command, in pieces: typed commands that build it up under a temporary name, which gives way
//! to the key's own at the end.
//!
//! ```text
//!  piece  piece  piece …  │ deadline, UNLINK of an old value │ RENAME │ the next key …
//!  deep in the pipe       barrier                            barrier
//! ```
//!
//! Each piece is one batch that may be sent any number of times, as long as the pieces behind it are sent again too: what was
//! done of it is undone or overwritten by its own first commands. Strings are written at offsets, sets, hashes and sorted sets take an
//! element twice as once, a list is first cut to the length it had before the piece. Only a stream gives no way back: its
//! pieces are transactions, and each waits for the one before it.
//!
//! Entries that a group has delivered, but that are deleted since, no command can make. So the groups of a stream are restored, in a stream
//! without entries, and the entries, which came before them, are moved into it by the target itself.
//!
//! Two things are lost: how long the key has not been used, and how often it was; no command sets them.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::command::judge::Expect;
use crate::key::Db;
use crate::rdb::event::{Element, Fields, ModuleId, StreamHistory, StreamId, StreamMeta};
use crate::rdb::opcode::{ObjectType, ValueType};
use crate::rdb::support::{Feature, Unsupported};
use crate::rdb::transcode::Fit;
use crate::rdb::value::{EncodeError, Encoder};
use crate::resp;
use crate::server::{Server, Version};

use super::copy::{CopyError, Limits};
use super::{Batch, Deadlines, Draft, Existing};

/// Writes large values in pieces, one value after the other.
#[derive(Debug)]
pub(super) struct Pieces {
    target: Server,
    existing: Existing,
    /// `UNLINK` frees a large value beside the target's other work (4.0).
    unlink: bool,
    /// How many bytes a piece should have.
    size: usize,
    /// What may be held.
    limits: Limits,
    /// What stands in the names of this run's temporary keys.
    token: String,
    number: u64,
    ready: VecDeque<Batch>,
    /// Where temporary keys may be: of the values whose last batch was not confirmed, oldest first.
    temporary: VecDeque<Temporary>,
    value: Option<Value>,
}

#[derive(Debug)]
struct Temporary {
    db: Db,
    names: [Vec<u8>; 2],
}

/// The value that is being written.
#[derive(Debug)]
struct Value {
    db: Db,
    key: Bytes,
    object: ObjectType,
    deadline: Option<i64>,
    name: Vec<u8>,
    /// The piece that is being written.
    draft: Draft,
    /// The temporary key has been made.
    begun: bool,
    run: Run,
    kind: Kind,
}

/// A command with many elements that is being gathered: how many there are stands before them.
#[derive(Debug, Default)]
struct Run {
    args: Vec<u8>,
    count: usize,
}

#[derive(Debug)]
enum Kind {
    String,
    List {
        /// Elements in the commands that were written.
        written: u64,
    },
    Set,
    Zset {
        /// Members whose score is -0, as arguments. A small sorted set forgets that sign, so they come when it is no small one
        /// any more.
        signed: Run,
        members: u64,
    },
    Hash {
        dated: Dated,
    },
    Stream(Box<Stream>),
    Module {
        module: Option<ModuleId>,
        bytes: u64,
    },
}

/// Fields of the command that is being gathered which have deadlines, as arguments.
#[derive(Debug, Default)]
struct Dated {
    args: Vec<u8>,
    /// For each run of fields with one deadline: the deadline, how many, and where in `args` they end.
    runs: Vec<(i64, usize, usize)>,
}

#[derive(Debug, Default)]
struct Stream {
    entries: u64,
    /// What the commands that add them take up.
    bytes: u64,
    most_fields: usize,
    meta: Option<StreamMeta>,
    /// Its groups, and about how many bytes they take up.
    groups: Option<Encoder>,
    groups_size: usize,
}

/// What is known of a value before its first element.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) db: Db,
    pub(super) key: &'a [u8],
    pub(super) object: ObjectType,
    /// As it is to stand in the target.
    pub(super) deadline: Option<i64>,
}

/// How many elements one command takes at most, and how many bytes: the target does nothing else meanwhile.
const RUN: usize = 1024;
const RUN_BYTES: usize = 64 * 1024;

/// How many entries the target moves at once, and bytes of them.
const MOVE: u64 = 1000;
const MOVE_BYTES: u64 = 1 << 20;

/// Lua's stack holds some 8,000 values, and moving an entry puts its fields and values there.
const MOST_FIELDS: usize = 3500;

/// Moves the first entries of one stream behind the last of another. Sent again it moves the next ones; with none left it
/// does nothing.
const MOVE_ENTRIES: &[u8] = b"\
local entries=redis.call('XRANGE',KEYS[1],'-','+','COUNT',ARGV[1]) \
local ids={} \
for i,entry in ipairs(entries) do \
redis.call('XADD',KEYS[2],entry[1],unpack(entry[2])) \
ids[i]=entry[1] end \
if #ids>0 then redis.call('XDEL',KEYS[1],unpack(ids)) end \
return #ids";

impl Pieces {
    /// For this target.
    pub(super) fn new(target: Server, existing: Existing, limits: Limits, token: String) -> Self {
        Self {
            target,
            existing,
            unlink: target.as_redis() >= Version(4, 0, 0),
            size: limits.piece.max(1),
            limits,
            token,
            number: 0,
            ready: VecDeque::new(),
            temporary: VecDeque::new(),
            value: None,
        }
    }

    /// The next batch that is to be sent.
    pub(super) fn poll_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// How many bytes are held of a value that no pieces can make.
    pub(super) fn holds(&self) -> usize {
        match self.value.as_ref().map(|value| &value.kind) {
            Some(Kind::Stream(stream)) => stream.groups_size,
            _ => 0,
        }
    }

    /// Whether a value has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.value.is_some()
    }

    /// So many values have got their names.
    pub(super) fn renamed(&mut self, values: u64) {
        for _ in 0..values {
            self.temporary.pop_front();
        }
    }

    /// Gives up the value that is open, and writes what removes all temporary keys that may be in the target.
    pub(super) fn abandon(&mut self) -> Option<Batch> {
        self.value = None;
        self.ready.clear();
        let mut draft = Draft::default();
        draft.barrier = true;
        let remove: &[u8] = if self.unlink { b"UNLINK" } else { b"DEL" };
        for Temporary { db, names: [one, other] } in self.temporary.drain(..) {
            draft.select(db);
            draft.push(&[remove, &one, &other], Expect::Integer);
        }
        (draft.size() > 0).then(|| draft.finish())
    }

    /// Begins a value.
    ///
    /// # Errors
    /// If the target cannot hold such a value.
    pub(super) fn begin(&mut self, head: &Head<'_>) -> Result<(), CopyError> {
        let kind = match head.object.value_type() {
            ValueType::String => Kind::String,
            ValueType::List => Kind::List { written: 0 },
            ValueType::Set => Kind::Set,
            ValueType::Zset => Kind::Zset { signed: Run::default(), members: 0 },
            ValueType::Hash => Kind::Hash { dated: Dated::default() },
            ValueType::Stream if !self.target.reads(ObjectType::StreamListpacks) => {
                return Err(self.unsupported(Feature::Streams));
            }
            ValueType::Stream => Kind::Stream(Box::default()),
            ValueType::Module => Kind::Module { module: None, bytes: 0 },
        };
        self.number += 1;
        let name = format!("understudy:tmp:{}:{}", self.token, self.number).into_bytes();
        let groups = [&name[..], b":groups"].concat();
        self.temporary.push_back(Temporary { db: head.db, names: [name.clone(), groups] });
        self.value = Some(Value {
            db: head.db,
            key: Bytes::copy_from_slice(head.key),
            object: head.object,
            deadline: head.deadline,
            name,
            draft: Draft::new(head.db),
            begun: false,
            run: Run::default(),
            kind,
        });
        Ok(())
    }

    /// Takes the next element of the value.
    ///
    /// # Errors
    /// If the target cannot hold it, or it is none of such a value.
    pub(super) fn element(
        &mut self,
        element: &Element<'_>,
        deadlines: &mut Deadlines,
    ) -> Result<(), CopyError> {
        let Some(value) = &mut self.value else { return Err(EncodeError::Misplaced.into()) };
        match (&mut value.kind, *element) {
            (Kind::String, Element::Text { offset, len, bytes }) => {
                self.text(offset, len, bytes);
                return Ok(());
            }
            (Kind::List { .. }, Element::Item(item)) | (Kind::Set, Element::Member(item)) => {
                value.open(self.size);
                value.run.push(&[item]);
            }
            (Kind::Zset { signed, members }, Element::Scored { member, score }) => {
                *members += 1;
                let is_signed = score == 0.0 && score.is_sign_negative();
                if is_signed && *members < RUN as u64 {
                    signed.push(&[b"-0", member]);
                    return Ok(());
                }
                // The shortest text that names this number alone: at most 17 digits and an exponent.
                let mut text = [0; 32];
                let text = put_score(&mut text, score);
                value.open(self.size);
                value.run.push(&[text, member]);
            }
            (Kind::Hash { dated }, Element::Field { field, value: text, expire_at_ms }) => {
                if let Some(at) = expire_at_ms {
                    if !knows_field_deadlines(self.target) {
                        return Err(self.unsupported(Feature::FieldDeadlines));
                    }
                    dated.push(deadlines.hold_field(value.db, &value.key, at), field);
                }
                value.open(self.size);
                value.run.push(&[field, text]);
            }
            (Kind::Stream(stream), Element::Entry { id, fields }) if stream.meta.is_none() => {
                stream.entries += 1;
                stream.most_fields = stream.most_fields.max(fields.len());
                value.open(self.size);
                value.entry(id, fields);
            }
            (Kind::Stream(stream), Element::Stream(meta)) => stream.meta = Some(meta),
            (Kind::Stream(stream), element) => {
                stream.group(&element, value.object, self.target)?;
                let size = stream.groups_size;
                let held = self.limits.held;
                return if size > held {
                    Err(too_large("groups of a stream", size as u64, held))
                } else {
                    Ok(())
                };
            }
            (Kind::Module { module, bytes }, Element::Module { module: of, bytes: part }) => {
                *module = Some(of);
                *bytes += part.len() as u64;
            }
            _ => return Err(EncodeError::Misplaced.into()),
        }
        if value.run.is_full() {
            value.end_run();
        }
        if value.size() >= self.size {
            self.end_piece();
        }
        Ok(())
    }

    /// The value has come whole: it gets its deadline, and its name.
    ///
    /// # Errors
    /// If it can only be written at once, and is too large for that.
    pub(super) fn end(&mut self) -> Result<(), CopyError> {
        let Some(value) = &mut self.value else { return Ok(()) };
        match &mut value.kind {
            Kind::Module { module, bytes } => {
                let (bytes, module) = (*bytes, *module);
                let name = module.map_or_else(|| "module".to_owned(), |id| format!("module:{id}"));
                self.value = None;
                self.temporary.pop_back();
                return Err(too_large(name, bytes, self.limits.whole));
            }
            Kind::Zset { signed, .. } if signed.count > 0 => {
                let signed = std::mem::take(signed);
                value.open(self.size);
                value.end_run();
                value.run = signed;
            }
            _ => {}
        }
        self.end_piece();
        let Some(mut value) = self.value.take() else { return Ok(()) };
        let made = match std::mem::replace(&mut value.kind, Kind::Set) {
            Kind::Stream(stream) => self.end_stream(*stream, &mut value)?,
            _ => value.begun,
        };
        if !made {
            // A collection without elements is no key.
            self.temporary.pop_back();
            return Ok(());
        }
        let Value { key, name, deadline, mut draft, .. } = value;
        if let Some(at) = deadline {
            let at = itoa::Buffer::new().format(at).to_owned();
            draft.push(&[b"PEXPIREAT", &name, at.as_bytes()], Expect::Positive);
        }
        if self.existing == Existing::Replace && self.unlink {
            draft.push(&[b"UNLINK", &key], Expect::Integer);
        }
        self.close(&mut draft, &key, true);
        let rename: &[u8] = match self.existing {
            Existing::Replace => b"RENAME",
            Existing::Refuse => b"RENAMENX",
        };
        draft.push(&[rename, &name, &key], Expect::Renamed);
        draft.push(&[b"EXISTS", &key], Expect::Positive);
        draft.carries.keys = 1;
        draft.carries.renamed = 1;
        self.close(&mut draft, &key, true);
        Ok(())
    }

    fn text(&mut self, offset: u64, len: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        loop {
            let Some(value) = &mut self.value else { return };
            let (now, later) = rest.split_at(rest.len().min(self.size));
            value.open(self.size);
            if now.len() as u64 == len {
                value.draft.push(&[b"SET", &value.name, now], Expect::Status);
            } else {
                if at == 0 {
                    // All of its room at once, so that the target does not move what it has again and again.
                    value.set_range(len - 1, b"\0");
                }
                if !now.is_empty() {
                    value.set_range(at, now);
                }
            }
            if value.size() >= self.size {
                self.end_piece();
            }
            at += now.len() as u64;
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Sets what a stream knows about itself. Says whether there is one.
    fn end_stream(&mut self, stream: Stream, value: &mut Value) -> Result<bool, CopyError> {
        let meta = stream.meta.ok_or(EncodeError::Misplaced)?;
        if stream.groups.is_some() || stream.entries == 0 {
            self.add_groups(stream, value)?;
        }
        let last = meta.last_id.to_string();
        let history = meta.more.filter(|_| self.target.as_redis() >= Version(7, 0, 0));
        match history {
            Some(StreamHistory { max_deleted_id, entries_added, .. }) => {
                let (added, deleted) = (entries_added.to_string(), max_deleted_id.to_string());
                let args: [&[u8]; 7] = [
                    b"XSETID",
                    &value.name,
                    last.as_bytes(),
                    b"ENTRIESADDED",
                    added.as_bytes(),
                    b"MAXDELETEDID",
                    deleted.as_bytes(),
                ];
                value.draft.push(&args, Expect::Status);
            }
            None => value.draft.push(&[b"XSETID", &value.name, last.as_bytes()], Expect::Status),
        }
        Ok(true)
    }

    /// Restores a stream that has groups and no entries, and has the target move the entries into it.
    fn add_groups(&mut self, stream: Stream, value: &mut Value) -> Result<(), CopyError> {
        let groups = match stream.groups {
            Some(groups) => groups,
            None => empty_stream(value.object, self.target, stream.meta)?,
        };
        let encoded = groups.finish()?;
        let version = self.target.restore_version(encoded.object);
        let version = version.ok_or_else(|| self.unsupported(Feature::Restore))?;
        let fit = Fit::Transcoded { value: encoded, version };
        let mut payload = Vec::with_capacity(fit.dump_len());
        fit.put_dump(&mut payload);
        let with_groups = [&value.name[..], b":groups"].concat();
        value.draft.push(&[b"RESTORE", &with_groups, b"0", &payload, b"REPLACE"], Expect::Status);
        // Entries that were moved already must not be thrown away by a second RESTORE.
        self.close(&mut value.draft, &value.key, true);
        if stream.entries > 0 {
            if stream.most_fields > MOST_FIELDS {
                return Err(CopyError::Fields { most: MOST_FIELDS, fields: stream.most_fields });
            }
            let at_once = (MOVE_BYTES * stream.entries / stream.bytes.max(1)).clamp(1, MOVE);
            let times = stream.entries.div_ceil(at_once);
            let count = itoa::Buffer::new().format(at_once).to_owned();
            for _ in 0..times {
                let args: [&[u8]; 6] =
                    [b"EVAL", MOVE_ENTRIES, b"2", &value.name, &with_groups, count.as_bytes()];
                value.draft.push(&args, Expect::Integer);
                if value.draft.size() >= self.size {
                    self.close(&mut value.draft, &value.key, false);
                }
            }
            self.close(&mut value.draft, &value.key, false);
            value.draft.push(&[b"DEL", &value.name], Expect::Integer);
        }
        value.name = with_groups;
        Ok(())
    }

    fn end_piece(&mut self) {
        let Some(mut value) = self.value.take() else { return };
        value.end_run();
        let mut barrier = false;
        if let Kind::Stream(stream) = &mut value.kind
            && value.draft.size() > 0
        {
            stream.bytes += value.draft.size() as u64;
            value.draft.push(&[b"EXEC"], Expect::Executed);
            barrier = true;
        }
        self.close(&mut value.draft, &value.key, barrier);
        self.value = Some(value);
    }

    fn close(&mut self, draft: &mut Draft, key: &Bytes, barrier: bool) {
        if draft.size() > 0 {
            draft.piece = Some(key.clone());
            draft.barrier = barrier;
            self.ready.push_back(draft.finish());
        }
    }

    fn unsupported(&self, what: Feature) -> CopyError {
        CopyError::from(Unsupported { what, server: self.target })
    }
}

fn too_large(what: impl Into<String>, size: u64, limit: usize) -> CopyError {
    CopyError::TooLarge { what: what.into(), size, limit: limit as u64 }
}

impl Value {
    fn size(&self) -> usize {
        let dated = match &self.kind {
            Kind::Hash { dated } => dated.args.len() + dated.runs.len() * (self.name.len() + 80),
            _ => 0,
        };
        self.draft.size() + self.run.args.len() + dated
    }

    /// Before the first command of a piece: makes it one that can be sent again.
    fn open(&mut self, size: usize) {
        if self.draft.size() > 0 || self.run.count > 0 {
            return;
        }
        self.draft.reserve(size + RUN_BYTES);
        if matches!(self.kind, Kind::Stream(_)) {
            self.draft.push(&[b"MULTI"], Expect::Status);
        }
        match self.kind {
            _ if !self.begun => {
                let expect = self.expect(Expect::Integer);
                self.draft.push(&[b"DEL", &self.name], expect);
            }
            Kind::List { written } => {
                let last = itoa::Buffer::new().format(written.saturating_sub(1)).to_owned();
                self.draft.push(&[b"LTRIM", &self.name, b"0", last.as_bytes()], Expect::Status);
            }
            _ => {}
        }
        self.begun = true;
    }

    /// A command inside a transaction is answered `QUEUED`.
    fn expect(&self, alone: Expect) -> Expect {
        if matches!(self.kind, Kind::Stream(_)) { Expect::Status } else { alone }
    }

    fn set_range(&mut self, offset: u64, bytes: &[u8]) {
        let offset = itoa::Buffer::new().format(offset).to_owned();
        self.draft.push(&[b"SETRANGE", &self.name, offset.as_bytes(), bytes], Expect::Positive);
    }

    fn entry(&mut self, id: StreamId, fields: Fields<'_>) {
        let name = &self.name;
        self.draft.push_with(Expect::Status, |out| {
            resp::array(out, 3 + 2 * fields.len());
            resp::bulk(out, b"XADD");
            resp::bulk(out, name);
            put_id(out, id);
            fields.texts().for_each(|text| resp::bulk(out, text));
        });
    }

    /// Writes the command that was gathered.
    fn end_run(&mut self) {
        if self.run.count == 0 {
            return;
        }
        let (command, each, expect): (&[u8], _, _) = match &mut self.kind {
            Kind::List { written } => {
                *written += self.run.count as u64;
                (b"RPUSH", 1, Expect::Positive)
            }
            Kind::Zset { .. } => (b"ZADD", 2, Expect::Integer),
            Kind::Hash { .. } => (b"HMSET", 2, Expect::Status),
            _ => (b"SADD", 1, Expect::Integer),
        };
        let (name, Run { args, count }) = (&self.name, &self.run);
        self.draft.push_with(expect, |out| {
            resp::array(out, 2 + each * count);
            resp::bulk(out, command);
            resp::bulk(out, name);
            out.extend_from_slice(args);
        });
        self.run.clear();
        if let Kind::Hash { dated } = &mut self.kind {
            dated.write(name, &mut self.draft);
        }
    }
}

impl Run {
    /// Adds one element with its parts.
    fn push(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| resp::bulk(&mut self.args, part));
        self.count += 1;
    }

    fn is_full(&self) -> bool {
        self.count >= RUN || self.args.len() >= RUN_BYTES
    }

    /// A large element that has gone by is not kept.
    fn clear(&mut self) {
        self.args.clear();
        self.args.shrink_to(2 * RUN_BYTES);
        self.count = 0;
    }
}

impl Dated {
    fn push(&mut self, at: i64, field: &[u8]) {
        resp::bulk(&mut self.args, field);
        let end = self.args.len();
        match self.runs.last_mut() {
            Some((deadline, count, to)) if *deadline == at => (*count, *to) = (*count + 1, end),
            _ => self.runs.push((at, 1, end)),
        }
    }

    /// Writes the deadlines of fields that have been written, and forgets them.
    fn write(&mut self, name: &[u8], draft: &mut Draft) {
        let mut from = 0;
        for &(at, count, to) in &self.runs {
            let fields = self.args.get(from..to).unwrap_or_default();
            draft.push_with(Expect::SomePositive, |out| {
                resp::array(out, 5 + count);
                resp::bulk(out, b"HPEXPIREAT");
                resp::bulk(out, name);
                resp::bulk(out, itoa::Buffer::new().format(at).as_bytes());
                resp::bulk(out, b"FIELDS");
                resp::bulk(out, itoa::Buffer::new().format(count).as_bytes());
                out.extend_from_slice(fields);
            });
            from = to;
        }
        self.args.clear();
        self.args.shrink_to(2 * RUN_BYTES);
        self.runs.clear();
    }
}

impl Stream {
    /// Takes an element that stands behind the entries.
    fn group(
        &mut self,
        element: &Element<'_>,
        object: ObjectType,
        target: Server,
    ) -> Result<(), CopyError> {
        /// What one of these takes up besides its name: two IDs, two times, a count.
        const EACH: usize = 48;
        let groups = match &mut self.groups {
            Some(groups) => groups,
            none => none.insert(empty_stream(object, target, self.meta)?),
        };
        self.groups_size += EACH
            + match element {
                Element::Group { name, .. } | Element::Consumer { name, .. } => name.len(),
                _ => 0,
            };
        Ok(groups.push(element)?)
    }
}

/// A stream without entries, to which groups are added. It knows no ID yet, so that every entry can come after.
fn empty_stream(
    object: ObjectType,
    target: Server,
    meta: Option<StreamMeta>,
) -> Result<Encoder, CopyError> {
    let none = StreamId::default();
    let more = meta.ok_or(EncodeError::Misplaced)?.more.map(|_| StreamHistory {
        first_id: none,
        max_deleted_id: none,
        entries_added: 0,
    });
    let mut encoder = Encoder::new(object, target)?;
    encoder.push(&Element::Stream(StreamMeta { length: 0, last_id: none, more }))?;
    Ok(encoder)
}

fn knows_field_deadlines(target: Server) -> bool {
    target.reads(ObjectType::HashMetadata) || target.reads(ObjectType::Hash2)
}

fn put_id(out: &mut Vec<u8>, id: StreamId) {
    let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (ms, seq) = (ms.format(id.ms), seq.format(id.seq));
    let mut text = [0_u8; 48];
    let len = ms.len() + 1 + seq.len();
    let parts = ms.bytes().chain([b'-']).chain(seq.bytes());
    text.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
    resp::bulk(out, text.get(..len).unwrap_or_default());
}

/// Writes a score so that it is read as the same number.
fn put_score(text: &mut [u8; 32], score: f64) -> &[u8] {
    use std::io::Write as _;
    let room = text.len();
    let mut rest = &mut text[..];
    // The longest, like -2.2250738585072014e-308, has 24 bytes.
    let whole = write!(rest, "{score:e}");
    debug_assert!(whole.is_ok(), "a score's text is longer than any can be");
    let len = room - rest.len();
    text.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests;
