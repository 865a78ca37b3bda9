//! A server of which all that matters is which values are others, for models of what a lane does.

use std::collections::BTreeMap;

use super::Call;
use crate::command::lookup;
use crate::key::Db;
use crate::offset::Offset;

/// What a server holds: of each value all that matters is whether it is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model(pub(crate) BTreeMap<(u32, u8), u64>);

/// A command of the model, on keys that have a letter as their name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Incr(u8),
    Del(u8),
    Copy(u8, u8, u32),
    Rename(u8, u8),
    Union(u8, u8, u8),
    Move(u8, u8),
    /// Reads a key that it does not name.
    Script(u8, u8),
    Flush,
    FlushAll,
    Swap(u32, u32),
}

/// A value that comes of these.
pub(crate) fn made_of(parts: &[u64]) -> u64 {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

impl Model {
    pub(crate) fn get(&self, db: u32, key: u8) -> Option<u64> {
        self.0.get(&(db, key)).copied()
    }

    pub(crate) fn put(&mut self, db: u32, key: u8, value: Option<u64>) {
        match value {
            Some(value) => drop(self.0.insert((db, key), value)),
            None => drop(self.0.remove(&(db, key))),
        }
    }

    /// Runs a command. Says whether it changed something, or could have: a master tells its replicas of no other.
    pub(crate) fn run(&mut self, db: u32, op: Op) -> bool {
        match op {
            Op::Incr(key) => {
                let value = made_of(&[self.get(db, key).unwrap_or(0), 1]);
                // Some make a key go, as a pop does.
                self.put(db, key, (!value.is_multiple_of(5)).then_some(value));
            }
            Op::Del(key) => return self.0.remove(&(db, key)).is_some(),
            Op::Copy(from, to, other) => match self.get(db, from) {
                Some(value) if (db, from) != (other, to) => self.put(other, to, Some(value)),
                _ => return false,
            },
            Op::Rename(from, to) => match self.get(db, from) {
                Some(value) => {
                    self.put(db, from, None);
                    self.put(db, to, Some(value));
                }
                None => return false,
            },
            Op::Union(to, one, other) => {
                let parts = [self.get(db, one), self.get(db, other)];
                let some: Vec<u64> = parts.into_iter().flatten().collect();
                self.put(db, to, (!some.is_empty()).then(|| made_of(&some)));
            }
            Op::Move(from, to) => match self.get(db, from) {
                Some(value) => {
                    let left = made_of(&[value, 2]);
                    self.put(db, from, (!left.is_multiple_of(3)).then_some(left));
                    let there = self.get(db, to).unwrap_or(0);
                    self.put(db, to, Some(made_of(&[value, there])));
                }
                None => return false,
            },
            Op::Script(key, read) => {
                let parts = [self.get(db, key).unwrap_or(0), self.get(db, read).unwrap_or(0)];
                self.put(db, key, Some(made_of(&parts)));
            }
            Op::Flush => self.0.retain(|(of, _), _| *of != db),
            Op::FlushAll => self.0.clear(),
            Op::Swap(one, other) => {
                let place = |db| match db {
                    db if db == one => other,
                    db if db == other => one,
                    db => db,
                };
                let keys = std::mem::take(&mut self.0);
                self.0 = keys.into_iter().map(|((db, key), v)| ((place(db), key), v)).collect();
            }
        }
        true
    }
}

/// The command as the stream has it.
pub(crate) fn words(op: Op) -> Vec<Vec<u8>> {
    let name = |key: u8| char::from(key).to_string();
    let line = match op {
        Op::Incr(key) => format!("INCR {}", name(key)),
        Op::Del(key) => format!("DEL {}", name(key)),
        Op::Copy(from, to, db) => format!("COPY {} {} DB {db} REPLACE", name(from), name(to)),
        Op::Rename(from, to) => format!("RENAME {} {}", name(from), name(to)),
        Op::Union(to, one, two) => {
            format!("SUNIONSTORE {} {} {}", name(to), name(one), name(two))
        }
        Op::Move(from, to) => format!("RPOPLPUSH {} {}", name(from), name(to)),
        Op::Script(key, _) => format!("EVAL return 1 {}", name(key)),
        Op::Flush => "FLUSHDB".to_owned(),
        Op::FlushAll => "FLUSHALL".to_owned(),
        Op::Swap(one, other) => format!("SWAPDB {one} {other}"),
    };
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Shows a command that ends there.
pub(crate) fn with_call<T>(
    db: u32,
    words: &[Vec<u8>],
    end: Offset,
    see: impl FnOnce(&Call<'_>) -> T,
) -> T {
    let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let command = lookup(args[0]).unwrap();
    see(&Call { command, args: &args, db: Db::new(db), end })
}
