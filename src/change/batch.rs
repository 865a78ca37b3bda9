//! Commands on their way to a target.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::command::judge::Expect;
use crate::command::lookup;
use crate::key::Db;
use crate::offset::Offset;
use crate::rdb::event::{Element, Event};
use crate::rdb::format::Family;
use crate::rdb::opcode::{ObjectType, ValueType};
use crate::rdb::parser::{Parser, Step};
use crate::resp;
use crate::resp::CommandReader;

/// Commands for a target, in their order, as the bytes that are sent.
///
/// A batch is kept until each of its replies has been judged, so that what a reply says can be told of a
/// command and its key, and so that it can be sent again where that is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    expects: Vec<Expect>,
    opens_in: Db,
    ends_in: Db,
    /// What the commands take up, with the room that was reserved for them and not used.
    held: usize,
    /// What it carries, for those who count.
    pub carries: Carries,
    /// The source's offset that is reached once this batch and all before it are confirmed.
    pub covers: Option<Offset>,
    /// The source's database that is selected there.
    pub stands_in: Db,
    /// The highest database that it selects.
    highest: Db,
    /// It is sent only after everything before it has been confirmed, and nothing behind it until it is confirmed.
    pub barrier: bool,
    /// The source's transaction that it holds the beginning of, or goes on with, is not at its end: the next batch belongs to it too.
    pub continues: bool,
    /// It is a piece of the value of this key. Its commands stand together: if one of them must be sent again all are, in
    /// their order, and so are the pieces behind it.
    pub piece: Option<Bytes>,
    origins: Arc<[(Vec<u8>, Vec<u8>)]>,
}

/// What a batch carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carries {
    /// Records of an RDB whose last command is in it.
    pub keys: u64,
    /// Data commands of the stream.
    pub commands: u64,
    /// Values that were written in pieces and have got their names with it.
    pub renamed: u64,
    /// Keys that were in doubt, as the source holds them.
    pub fetched: u64,
    /// Keys whose deadlines are held back because the horizon has moved.
    pub held: u64,
}

/// A command whose reply was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The database it ran in.
    pub db: Db,
    /// Its name.
    pub name: Vec<u8>,
    /// Its first key, if it names one.
    pub key: Option<Vec<u8>>,
    /// What kind of value a `RESTORE` carried: `hash`, or `module:` and the name of a module's type.
    pub value: Option<String>,
    /// What the target said.
    pub reply: String,
}

impl Batch {
    /// The database that must be selected before its first command.
    #[must_use]
    pub fn opens_in(&self) -> Db {
        self.opens_in
    }

    /// The database that is selected after its last command.
    #[must_use]
    pub fn ends_in(&self) -> Db {
        self.ends_in
    }

    /// The commands as they are sent.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What the reply to each command must be, in order.
    #[must_use]
    pub fn expects(&self) -> &[Expect] {
        &self.expects
    }

    /// The highest database that it selects.
    #[must_use]
    pub fn highest_db(&self) -> Db {
        self.highest
    }

    /// How many bytes it holds: its commands, and a byte for what each is to be answered.
    #[must_use]
    pub fn size(&self) -> usize {
        self.held
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expects.is_empty()
    }

    /// The keys of the source by their names in the target, where those do not tell.
    #[must_use]
    pub fn origins(&self) -> HashMap<&[u8], &[u8]> {
        { self.origins.iter() }.map(|(name, key)| (name.as_slice(), key.as_slice())).collect()
    }

    /// What is left of it when it need not be sent again: how each of its commands is to be answered.
    #[must_use]
    pub fn without_commands(&self) -> Self {
        Self { bytes: Bytes::new(), held: 0, ..self.clone() }
    }

    /// The commands with these numbers alone, in a batch that stands for the same as this one. Databases are
    /// selected as they were.
    #[must_use]
    pub fn only(&self, indexes: &[usize]) -> Self {
        let mut draft = Draft::new(self.opens_in);
        let mut wanted = indexes.iter().copied().peekable();
        let mut at = Walk::new(self);
        while let (Some(&index), Some(raw)) = (wanted.peek(), at.next()) {
            if at.taken - 1 == index {
                wanted.next();
                draft.select(at.db);
                // A SELECT of its own is written where it is needed.
                if !at.is_select() {
                    draft.push_raw(raw, self.expects.get(index).copied().unwrap_or(Expect::Any));
                }
            }
        }
        let mut batch = draft.finish();
        (batch.carries, batch.covers, batch.barrier) = (self.carries, self.covers, self.barrier);
        (batch.stands_in, batch.continues) = (self.stands_in, self.continues);
        batch.piece.clone_from(&self.piece);
        batch.held += named(&self.origins);
        batch.origins = Arc::clone(&self.origins);
        batch
    }

    /// The numbers of the commands that name one of `keys`, of the commands with the given numbers, and of all that share a key with one
    /// of these, in their order. `keys` gains the keys of all of them.
    ///
    /// That is what must be sent again together, where a command alone would run on what a later one has made.
    #[must_use]
    pub fn entangled(&self, indexes: &[usize], keys: &mut HashSet<(Db, Vec<u8>)>) -> Vec<usize> {
        let mut named: Vec<Vec<(Db, Vec<u8>)>> = Vec::with_capacity(self.expects.len());
        let mut at = Walk::new(self);
        while at.next().is_some() {
            let args: Vec<&[u8]> = at.reader.args(at.raw).collect();
            let mut own = Vec::new();
            if let Some(command) = args.first().and_then(|name| lookup(name)) {
                // A command whose keys cannot be told stands for itself.
                let _ = command.for_each_key(&args, |used| {
                    if let Some(key) = args.get(used.position) {
                        own.push((used.db.unwrap_or(at.db), key.to_vec()));
                    }
                });
            }
            named.push(own);
        }
        let mut wanted: Vec<bool> = vec![false; named.len()];
        for &index in indexes {
            if let Some(wanted) = wanted.get_mut(index) {
                *wanted = true;
            }
        }
        loop {
            let known = keys.len();
            for (own, wanted) in named.iter().zip(&mut wanted) {
                if *wanted || own.iter().any(|key| keys.contains(key)) {
                    *wanted = true;
                    keys.extend(own.iter().cloned());
                }
            }
            if keys.len() == known {
                break;
            }
        }
        let numbered = wanted.iter().enumerate();
        numbered.filter(|(_, wanted)| **wanted).map(|(index, _)| index).collect()
    }

    /// The numbers of those of its commands that select a database.
    #[must_use]
    pub fn selects(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = Walk::new(self);
        while at.next().is_some() {
            if at.is_select() {
                found.push(at.taken - 1);
            }
        }
        found
    }

    /// Shows each command with its number, the database in which it runs and its arguments.
    pub fn visit(&self, mut show: impl FnMut(usize, Db, &[&[u8]])) {
        let mut at = Walk::new(self);
        while at.next().is_some() {
            let args: Vec<&[u8]> = at.reader.args(at.raw).collect();
            show(at.taken - 1, at.db, &args);
        }
    }

    /// What is known of the command number `index`, to which the target said `reply`.
    #[must_use]
    pub fn failure(&self, index: usize, reply: String) -> Failure {
        let mut at = Walk::new(self);
        while at.taken <= index && at.next().is_some() {}
        let args: Vec<&[u8]> = at.reader.args(at.raw).collect();
        let mut key = self.piece.as_ref().map(|key| key.to_vec());
        if key.is_none()
            && let Some(command) = args.first().and_then(|name| lookup(name))
        {
            // Keys that cannot be told are no reason not to tell the rest.
            let _ = command.for_each_key(&args, |used| {
                key = key.take().or_else(|| args.get(used.position).map(|key| key.to_vec()));
            });
        }
        let name = args.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        let payload = args.get(3).filter(|_| name == b"RESTORE");
        let value = payload.and_then(|payload| kind_of(payload));
        Failure { db: at.db, name, key, value, reply }
    }

    /// The failure of the `SELECT` that stands before its first command.
    #[must_use]
    pub fn failed_select(&self, reply: String) -> Failure {
        Failure { db: self.opens_in, name: b"SELECT".to_vec(), key: None, value: None, reply }
    }
}

/// What kind of value a payload of `RESTORE` holds, as `TYPE` calls it; of a module's its name too.
fn kind_of(payload: &[u8]) -> Option<String> {
    let (&byte, body) = payload.split_first()?;
    // Where the families give a byte two meanings, both are hashes.
    let object = ObjectType::decode(byte, Family::Redis)
        .or_else(|| ObjectType::decode(byte, Family::Valkey))?;
    let kind = object.value_type();
    if kind == ValueType::Module
        && let Ok((Step::Event(Event::Element(Element::Module { module, .. })), _)) =
            Parser::for_value(object).step(body)
    {
        return Some(format!("module:{module}"));
    }
    Some(kind.name().to_owned())
}

/// Goes through a batch from its first command. That is for the rare reply that is not as expected, so that nothing
/// has to be noted for all the others.
struct Walk<'a> {
    reader: CommandReader,
    rest: &'a [u8],
    raw: &'a [u8],
    /// The database after the command that was given last.
    db: Db,
    taken: usize,
}

impl<'a> Walk<'a> {
    fn new(batch: &'a Batch) -> Self {
        Self {
            reader: CommandReader::default(),
            rest: &batch.bytes,
            raw: &[],
            db: batch.opens_in,
            taken: 0,
        }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let used = self.reader.read(self.rest).ok()??;
        (self.raw, self.rest) = self.rest.split_at_checked(used)?;
        self.taken += 1;
        if self.is_select() {
            self.db = self.reader.args(self.raw).nth(1).and_then(Db::parse).unwrap_or(self.db);
        }
        Some(self.raw)
    }

    fn is_select(&self) -> bool {
        self.reader.args(self.raw).next().is_some_and(|name| name.eq_ignore_ascii_case(b"SELECT"))
    }
}

/// A batch that is being written.
#[derive(Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    expects: Vec<Expect>,
    opens_in: Db,
    ends_in: Db,
    /// What it carries so far.
    pub carries: Carries,
    /// See [`Batch::covers`].
    pub covers: Option<Offset>,
    /// See [`Batch::stands_in`].
    pub stands_in: Db,
    highest: Db,
    /// See [`Batch::barrier`].
    pub barrier: bool,
    /// See [`Batch::continues`].
    pub continues: bool,
    /// See [`Batch::piece`].
    pub piece: Option<Bytes>,
    origins: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What names and the keys that they are of take up.
fn named(origins: &[(Vec<u8>, Vec<u8>)]) -> usize {
    const EACH: usize = 2 * size_of::<Vec<u8>>();
    origins.iter().map(|(name, key)| name.len() + key.len() + EACH).sum()
}

impl Draft {
    /// An empty draft whose first command runs in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { opens_in: db, ends_in: db, highest: db, ..Self::default() }
    }

    /// Gives what was written as a batch and begins the next one in the same database.
    pub fn finish(&mut self) -> Batch {
        let next = Self { stands_in: self.stands_in, ..Self::new(self.ends_in) };
        let Self {
            mut bytes,
            mut expects,
            opens_in,
            ends_in,
            carries,
            covers,
            stands_in,
            highest,
            barrier,
            continues,
            piece,
            origins,
        } = std::mem::replace(self, next);
        // A batch waits for its replies: what was reserved too much must not wait with it.
        if bytes.capacity() > bytes.len() + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        expects.shrink_to_fit();
        let held = bytes.capacity() + expects.capacity() + named(&origins);
        let bytes = bytes.into();
        Batch {
            bytes,
            expects,
            opens_in,
            ends_in,
            held,
            carries,
            covers,
            stands_in,
            highest,
            barrier,
            continues,
            piece,
            origins: origins.into(),
        }
    }

    /// Changes what was written so far. Writing goes on behind what is left of it.
    pub fn revise(&mut self, change: impl FnOnce(&Batch) -> Batch) {
        let Batch {
            bytes,
            expects,
            opens_in,
            ends_in,
            held: _,
            carries,
            covers,
            stands_in,
            highest,
            barrier,
            continues,
            piece,
            origins,
        } = change(&self.finish());
        *self = Self {
            bytes: bytes.into(),
            expects,
            opens_in,
            ends_in,
            carries,
            covers,
            stands_in,
            highest,
            barrier,
            continues,
            piece,
            origins: origins.to_vec(),
        };
    }

    /// Remembers of which key of the source a name in the target is that does not tell it.
    pub fn note_origin(&mut self, name: &[u8], key: &[u8]) {
        self.origins.push((name.to_vec(), key.to_vec()));
    }

    /// Makes room for so many bytes of commands.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Selects a database for the commands that follow, unless it is selected already.
    pub fn select(&mut self, db: Db) {
        if db == self.ends_in {
            return;
        }
        if self.expects.is_empty() {
            (self.opens_in, self.highest) = (db, db);
        } else {
            self.highest = self.highest.max(db);
            let mut digits = itoa::Buffer::new();
            resp::command(&mut self.bytes, &[b"SELECT", digits.format(db.index()).as_bytes()]);
            self.expects.push(Expect::Status);
        }
        self.ends_in = db;
    }

    /// Appends a command.
    pub fn push(&mut self, args: &[&[u8]], expect: Expect) {
        resp::command(&mut self.bytes, args);
        self.expects.push(expect);
    }

    /// Appends a command that is RESP already.
    pub fn push_raw(&mut self, raw: &[u8], expect: Expect) {
        self.bytes.extend_from_slice(raw);
        self.expects.push(expect);
    }

    /// Appends commands that are RESP already, one after the other.
    pub fn push_many(&mut self, raw: &[u8], expects: impl Iterator<Item = Expect>) {
        self.bytes.extend_from_slice(raw);
        self.expects.extend(expects);
    }

    /// Appends a command that `write` writes as RESP.
    pub fn push_with(&mut self, expect: Expect, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.expects.push(expect);
    }

    /// The database that is selected after its last command.
    #[must_use]
    pub fn db(&self) -> Db {
        self.ends_in
    }

    /// How many commands it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expects.len()
    }

    /// Whether no command was written and no offset noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expects.is_empty() && self.covers.is_none() && self.carries == Carries::default()
    }

    /// How many bytes of commands it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        let mut draft = Draft::new(Db::new(2));
        draft.push(&[b"DEL", b"a"], Expect::Any);
        draft.push(&[b"SET", b"b", b"1"], Expect::Status);
        draft.push(&[b"RPUSH", b"a", b"x"], Expect::Positive);
        draft.select(Db::new(3));
        draft.push(&[b"SET", b"a", b"1"], Expect::Status);
        draft.select(Db::new(2));
        draft.push(&[b"RENAME", b"a", b"c"], Expect::Status);
        draft.push(&[b"PEXPIREAT", b"c", b"5"], Expect::Positive);
        draft
    }

    #[test]
    fn what_shares_a_key_is_found_before_and_behind() {
        let batch = draft().finish();
        let mut keys = HashSet::new();
        // the RPUSH, and by way of the RENAME the PEXPIREAT too
        assert_eq!(batch.entangled(&[2], &mut keys), [0, 2, 6, 7]);
        assert_eq!(keys.len(), 2);
        assert!(keys.contains(&(Db::new(2), b"c".to_vec())));
        // found by a key alone
        let mut keys = HashSet::from([(Db::new(3), b"a".to_vec())]);
        assert_eq!(batch.entangled(&[], &mut keys), [4]);
        assert_eq!(batch.entangled(&[1], &mut HashSet::new()), [1]);
        assert_eq!(batch.entangled(&[], &mut HashSet::new()), [0_usize; 0]);
    }

    #[test]
    fn some_commands_alone_run_where_they_ran() {
        let batch = draft().finish();
        assert_eq!(batch.selects(), [3, 5]);
        let some = batch.only(&[1, 4, 7]);
        assert_eq!((some.opens_in(), some.ends_in()), (Db::new(2), Db::new(2)));
        let mut expected = Draft::new(Db::new(2));
        expected.push(&[b"SET", b"b", b"1"], Expect::Status);
        expected.select(Db::new(3));
        expected.push(&[b"SET", b"a", b"1"], Expect::Status);
        expected.select(Db::new(2));
        expected.push(&[b"PEXPIREAT", b"c", b"5"], Expect::Positive);
        assert_eq!(some.bytes(), expected.finish().bytes());
        assert!(batch.only(&[3]).is_empty());
    }

    #[test]
    fn a_draft_is_gone_on_with_behind_what_is_left_of_it() {
        let mut draft = draft();
        (draft.covers, draft.carries.commands) = (Some(Offset::new(7)), 6);
        draft.revise(|batch| batch.only(&[1, 4]));
        // What is left ends in another database than what was written.
        assert_eq!(draft.db(), Db::new(3));
        draft.select(Db::new(2));
        draft.push(&[b"DEL", b"z"], Expect::Removal);
        let mut expected = Draft::new(Db::new(2));
        (expected.covers, expected.carries.commands) = (Some(Offset::new(7)), 6);
        expected.push(&[b"SET", b"b", b"1"], Expect::Status);
        expected.select(Db::new(3));
        expected.push(&[b"SET", b"a", b"1"], Expect::Status);
        expected.select(Db::new(2));
        expected.push(&[b"DEL", b"z"], Expect::Removal);
        let (revised, expected) = (draft.finish(), expected.finish());
        assert_eq!(revised.bytes(), expected.bytes());
        assert_eq!(revised.expects(), expected.expects());
        assert_eq!((revised.carries, revised.covers), (expected.carries, expected.covers));
        assert_eq!((revised.opens_in(), revised.highest_db()), (Db::new(2), Db::new(3)));
        // Nothing is left.
        draft.push(&[b"DEL", b"z"], Expect::Removal);
        draft.revise(|batch| batch.only(&[]));
        assert!(draft.is_empty());
    }

    #[test]
    fn a_failed_restore_tells_what_it_carried() {
        let failure = |payload: &[u8]| {
            let mut draft = Draft::new(Db::new(2));
            draft.push(&[b"restore", b"k", b"0", payload], Expect::Status);
            draft.finish().failure(0, "ERR Bad data format".to_owned())
        };
        // The ID that `vectorset` encodes to, in nine bytes.
        let vectors = failure(b"\x07\x81\xbd\xe7\x2d\xa2\xbb\x1e\xb4\x00\x00");
        assert_eq!((vectors.db, vectors.key.as_deref()), (Db::new(2), Some(&b"k"[..])));
        assert_eq!(vectors.value.as_deref(), Some("module:vectorset"));
        assert_eq!(failure(b"\x04\x00").value.as_deref(), Some("hash"));
        assert_eq!(failure(b"").value, None);
        assert_eq!(failure(b"\xfa").value, None);
    }

    #[test]
    fn the_pieces_of_a_key_fail_in_its_name() {
        let mut draft = Draft::default();
        draft.push(&[b"SADD", b"understudy:tmp", b"a"], Expect::Integer);
        draft.piece = Some(Bytes::from_static(b"the key"));
        let failure = draft.finish().failure(0, "WRONGTYPE".to_owned());
        assert_eq!(failure.key.as_deref(), Some(&b"the key"[..]));
    }

    #[test]
    fn a_batch_counts_all_that_it_holds() {
        let mut draft = Draft::default();
        draft.reserve(1 << 20);
        draft.push(&[b"SET", b"a", b"b"], Expect::Status);
        let batch = draft.finish();
        assert!(batch.size() >= batch.bytes().len() && batch.size() < 1000, "{}", batch.size());
    }
}
