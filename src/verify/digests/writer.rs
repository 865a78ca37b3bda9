//! What is kept, gathered until it is to be written.

use crate::command::Class;
use crate::command::keys::Reach;
use crate::doubt::Call;
use crate::key::{Db, fingerprint, is_own};
use crate::plan::Rules;
use crate::rdb::crc::crc64;
use crate::rdb::event::{Element, KeyHead, Payload};
use crate::rdb::length::put_length;
use crate::rdb::opcode::ValueType;

use super::super::digest::{Content, Digester, Times};
use super::super::dumped::Dumped;
use super::super::notes::{Batch, Noted};
use super::{BACK, Block, FRONT};

/// Gathers what is to be kept of a copy and of the stream behind it.
#[derive(Debug)]
pub struct Writer {
    digester: Digester,
    times: Times,
    /// The largest element that is held.
    largest: usize,
    /// How many bytes may be written in all.
    most: u64,
    key: Option<Key>,
    keys: Batch,
    /// Names, as a block has them.
    names: Vec<u8>,
    /// The fingerprints of names that were written lately, each in a place of its own.
    lately: Vec<u128>,
    /// Blocks that are to be written.
    blocks: Vec<u8>,
    /// What was put into blocks, by what it tells.
    bytes_of_keys: u64,
    bytes_of_names: u64,
    has_ended: bool,
}

/// The key whose value comes.
#[derive(Debug)]
struct Key {
    db: Db,
    name: Vec<u8>,
    kind: ValueType,
    deadline: Option<i64>,
    has_begun: bool,
}

/// So many bytes of names may be kept whatever a copy had.
const LEAST: u64 = 64 << 20;

/// When so many bytes of names are gathered they become a block.
const FULL: usize = 64 << 10;

impl Writer {
    /// One whose digests have this seed, which holds no element larger than `largest`, remembers the last written names in `memory` bytes and
    /// keeps no more than `most` bytes in all.
    #[must_use]
    pub fn new(seed: u64, times: Times, largest: usize, memory: usize, most: u64) -> Self {
        let places = (memory / size_of::<u128>()).max(1);
        Self {
            digester: Digester::new(seed),
            times,
            largest,
            most,
            key: None,
            keys: Batch::default(),
            names: Vec::new(),
            lately: vec![0; 1 << places.ilog2()],
            blocks: Vec::new(),
            bytes_of_keys: 0,
            bytes_of_names: 0,
            has_ended: false,
        }
    }

    /// What the source's clock shows when its copy begins.
    pub fn begins_at(&mut self, now_ms: i64) {
        self.times.now_ms = now_ms;
    }

    /// A key of the copy comes, and its value.
    pub fn key(&mut self, head: &KeyHead<'_>) {
        if self.has_ended || is_own(head.key) {
            return;
        }
        let (db, name, deadline) = (head.db, head.key.to_vec(), head.expire_at_ms);
        let kind = head.object.value_type();
        self.key = Some(Key { db, name, kind, deadline, has_begun: false });
    }

    /// Its value, whole.
    pub fn payload(&mut self, payload: &Payload<'_>) {
        let Some(key) = self.key.take() else { return };
        let (digester, times) = (&mut self.digester, &self.times);
        // What cannot be read is looked at when it is compared.
        match Dumped::of_value(payload, self.largest, digester, times) {
            Ok(Some(content)) => self.note(&key, content),
            Ok(None) => {}
            Err(_) => self.note(&key, Content::UNREAD),
        }
    }

    /// The next part of its value.
    pub fn element(&mut self, element: &Element<'_>) {
        let Some(key) = &mut self.key else { return };
        if !std::mem::replace(&mut key.has_begun, true) {
            self.digester.begin(key.kind);
        }
        self.digester.add(element, &self.times);
    }

    /// Its value has come whole, in parts.
    pub fn value_end(&mut self) {
        if let Some(key) = self.key.take()
            && let Some(content) = self.digester.end()
        {
            self.note(&key, content);
        }
    }

    /// It is left out.
    pub fn leaves_out(&mut self) {
        self.key = None;
    }

    fn note(&mut self, key: &Key, content: Content) {
        let (db, name, deadline) = (key.db, key.name.as_slice(), key.deadline);
        self.keys.push(&Noted { reading: 0, db, name, origin: None, content, deadline });
        if self.keys.is_full() {
            self.put_keys();
        }
    }

    /// What a key is now must be read of the source: a command has written it, or its value was not read.
    pub fn wrote(&mut self, db: Db, name: &[u8]) {
        if self.has_ended || is_own(name) {
            return;
        }
        let print = fingerprint(db, name);
        let places = self.lately.len() as u128 - 1;
        let place = usize::try_from(print & places).unwrap_or_default();
        if let Some(place) = self.lately.get_mut(place)
            && std::mem::replace(place, print) == print
        {
            return;
        }
        put_length(&mut self.names, db.index().into());
        put_length(&mut self.names, name.len() as u64);
        self.names.extend_from_slice(name);
        if self.names.len() >= FULL {
            self.put_names();
        }
    }

    /// A command of the stream, of which these rules want a part.
    pub fn ran(&mut self, call: &Call<'_>, rules: &Rules) {
        if self.has_ended {
            return;
        }
        match call.command.class(call.args) {
            Class::Flush | Class::SwapDb => {
                return self.ends("whole databases were emptied or changed places since its copy");
            }
            Class::Script | Class::Function => return,
            _ => {}
        }
        match call.command.for_each_key(call.args, |_| {}) {
            Ok(Reach::Declared) => {}
            // What SORT reads beside its key, nothing of that is written.
            Ok(Reach::Undeclared) if call.command.name() == "sort" => {}
            _ => {
                return self.ends(
                    "a script or a module ran since its copy that may have written keys it does not name",
                );
            }
        }
        call.each_key(|db, key, writes| {
            if writes && rules.place(db).is_some() && rules.judge(db, key).is_keep() {
                self.wrote(db, key);
            }
        });
    }

    /// A command of the stream that nobody knows.
    pub fn ran_unknown(&mut self) {
        self.ends("a command that is not known ran since its copy");
    }

    /// The copy is whole.
    pub fn is_whole(&mut self) {
        self.put_keys();
        self.put_names();
        self.put(Block::Whole, &[]);
    }

    /// The process with this token goes on with the job.
    pub fn is_taken_by(&mut self, token: &str) {
        self.put(Block::Taken, token.as_bytes());
    }

    /// From here on it cannot be told which keys were written.
    pub fn ends(&mut self, why: &str) {
        if !self.has_ended {
            self.put(Block::Ends, why.as_bytes());
            self.has_ended = true;
        }
    }

    /// Whether nothing more is told.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// So much was kept of this copy by an earlier process.
    pub fn goes_on_from(&mut self, bytes_of_keys: u64, bytes_of_names: u64) {
        (self.bytes_of_keys, self.bytes_of_names) = (bytes_of_keys, bytes_of_names);
    }

    /// What is to be written next, with all names that were gathered: then all is told up to where the stream was taken.
    pub fn take(&mut self) -> &mut Vec<u8> {
        self.put_names();
        &mut self.blocks
    }

    fn put_keys(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if !keys.is_empty() {
            self.bytes_of_keys += keys.bytes().len() as u64;
            self.put(Block::Keys, keys.bytes());
            self.see_to_size();
        }
    }

    fn put_names(&mut self) {
        let names = std::mem::take(&mut self.names);
        if !names.is_empty() {
            self.bytes_of_names += names.len() as u64;
            self.put(Block::Written, &names);
            self.names = names;
            self.names.clear();
            self.see_to_size();
        }
    }

    fn see_to_size(&mut self) {
        if self.bytes_of_keys + self.bytes_of_names > self.most {
            self.ends("it takes more room on the disk than it may");
        } else if self.bytes_of_names > self.bytes_of_keys.max(LEAST) {
            self.ends("more was written since its copy than that had keys");
        }
    }

    fn put(&mut self, block: Block, bytes: &[u8]) {
        if self.has_ended {
            return;
        }
        let from = self.blocks.len();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.blocks.reserve(FRONT + bytes.len() + BACK);
        self.blocks.push(block.byte());
        self.blocks.extend_from_slice(&len.to_le_bytes());
        self.blocks.extend_from_slice(bytes);
        let sum = !crc64(self.blocks.get(from..).unwrap_or_default());
        self.blocks.extend_from_slice(&sum.to_le_bytes());
    }
}
