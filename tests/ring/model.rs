//! What a server does, as far as the ring's commands go: databases of values with deadlines.
//!
//! The master and the target of a ring are both this, told to from different sides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use understudy::rdb::dump::Footer;
use understudy::rdb::event::{Element, Event};
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::parser::{Parser, Step};
use understudy::resp::{array, bulk};
use understudy::server::Server;

use understudy::rdb::format::Family;
use understudy::rdb::value::{Encoded, Encoder};

/// A command: its name and arguments.
pub(crate) type Args = Vec<Vec<u8>>;

/// A command from words.
pub(crate) fn args(line: &str) -> Args {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Zset(BTreeMap<Vec<u8>, i64>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A value and when it dies, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) until: Option<i64>,
}

/// The keys of one database.
pub(crate) type Keys = BTreeMap<Vec<u8>, Entry>;

/// All databases of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) dbs: BTreeMap<u32, Keys>,
    /// Grows with each change.
    pub(crate) changes: u64,
    /// Before this time nothing is due.
    quiet_until: i64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(&'static str),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Error(String),
    Array(Vec<Self>),
}

impl Reply {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Status(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Self::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Nil => out.extend_from_slice(b"$-1\r\n"),
            Self::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Self::Array(replies) => {
                array(out, replies.len());
                replies.iter().for_each(|reply| reply.encode(out));
            }
        }
    }
}

fn wrong_type() -> Reply {
    Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The value of a kind under a key, made if there is none; an error if it is of another kind.
macro_rules! of_kind {
    ($keys:expr, $key:expr, $kind:ident) => {{
        let new = || Entry { value: Value::$kind(Default::default()), until: None };
        match &mut $keys.entry($key.clone()).or_insert_with(new).value {
            Value::$kind(value) => value,
            _ => return wrong_type(),
        }
    }};
}

impl Model {
    /// Whether all that is held is equal.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let filled = |model: &Self| {
            model
                .dbs
                .iter()
                .filter(|(_, keys)| !keys.is_empty())
                .map(|(db, _)| *db)
                .collect::<Vec<_>>()
        };
        filled(self) == filled(other)
            && self.dbs.iter().all(|(db, keys)| {
                keys.is_empty() || other.dbs.get(db).is_some_and(|others| others == keys)
            })
    }

    /// The keys whose deadline has come.
    pub(crate) fn due(&self, now: i64) -> Vec<(u32, Vec<u8>)> {
        let mut due = Vec::new();
        if now < self.quiet_until {
            return due;
        }
        for (db, keys) in &self.dbs {
            for (key, entry) in keys {
                if entry.until.is_some_and(|until| until <= now) {
                    due.push((*db, key.clone()));
                }
            }
        }
        due
    }

    /// Removes what is due.
    pub(crate) fn expire(&mut self, now: i64) {
        if now < self.quiet_until {
            return;
        }
        self.quiet_until = i64::MAX;
        for keys in self.dbs.values_mut() {
            keys.retain(|_, entry| entry.until.is_none_or(|until| until > now));
            let soonest = keys.values().filter_map(|entry| entry.until).min();
            self.quiet_until = self.quiet_until.min(soonest.unwrap_or(i64::MAX));
        }
    }

    /// A deadline was set.
    pub(crate) fn wake(&mut self) {
        self.quiet_until = i64::MIN;
    }

    /// Runs a command in this database at this time.
    pub(crate) fn run(&mut self, db: u32, args: &Args, now: i64) -> Reply {
        if matches!(args[0].as_slice(), b"SET" | b"PEXPIRE" | b"PEXPIREAT" | b"RESTORE") {
            self.wake();
        }
        let keys = self.dbs.entry(db).or_default();
        let before = self.changes;
        let reply = change(keys, args, now, &mut self.changes);
        // An empty value is none; one that was made by an error neither.
        if before != self.changes || matches!(reply, Reply::Error(_)) || args[0].len() > 3 {
            for key in args.iter().skip(1) {
                let is_empty = keys.get(key).is_some_and(|entry| match &entry.value {
                    Value::Text(_) => false,
                    Value::List(list) => list.is_empty(),
                    Value::Set(set) => set.is_empty(),
                    Value::Zset(set) => set.is_empty(),
                    Value::Hash(hash) => hash.is_empty(),
                });
                if is_empty {
                    keys.remove(key);
                }
            }
        }
        reply
    }
}

#[expect(clippy::too_many_lines, reason = "one arm a command")]
fn change(keys: &mut Keys, args: &Args, now: i64, changes: &mut u64) -> Reply {
    let name = String::from_utf8(args[0].to_ascii_uppercase()).unwrap();
    let arg = |at: usize| args.get(at).cloned().unwrap_or_default();
    let int = |at: usize| number(&arg(at)).unwrap();
    let key = arg(1);
    // What most commands do when they did something.
    let mut did = |reply| {
        *changes += 1;
        reply
    };
    match name.as_str() {
        "SET" => {
            let mut until = None;
            let mut at = 3;
            while at < args.len() {
                match args[at].as_slice() {
                    b"PXAT" => until = Some(int(at + 1)),
                    b"PX" => until = Some(now + int(at + 1)),
                    b"NX" if keys.contains_key(&key) => return Reply::Nil,
                    b"NX" => at -= 1,
                    other => panic!("SET {}", String::from_utf8_lossy(other)),
                }
                at += 2;
            }
            keys.insert(key, Entry { value: Value::Text(arg(2)), until });
            did(Reply::Status("OK"))
        }
        "INCR" | "INCRBY" => {
            let by = if name == "INCR" { 1 } else { int(2) };
            let text = of_kind!(keys, key, Text);
            let old = if text.is_empty() { Some(0) } else { number(text) };
            let Some(new) = old.and_then(|old| old.checked_add(by)) else {
                return Reply::Error("ERR value is not an integer or out of range".to_owned());
            };
            *text = new.to_string().into_bytes();
            did(Reply::Int(new))
        }
        "APPEND" => {
            let text = of_kind!(keys, key, Text);
            text.extend(arg(2));
            let len = text.len();
            did(Reply::Int(i64::try_from(len).unwrap()))
        }
        "SETRANGE" => {
            let (text, from) = (of_kind!(keys, key, Text), usize::try_from(int(2)).unwrap());
            let end = from + arg(3).len();
            text.resize(text.len().max(end), 0);
            text[from..end].copy_from_slice(&arg(3));
            let len = text.len();
            did(Reply::Int(i64::try_from(len).unwrap()))
        }
        "RPUSH" | "LPUSH" => {
            let list = of_kind!(keys, key, List);
            for item in args.iter().skip(2).cloned() {
                if name == "RPUSH" { list.push_back(item) } else { list.push_front(item) }
            }
            let len = list.len();
            did(Reply::Int(i64::try_from(len).unwrap()))
        }
        "LPOP" | "RPOP" => {
            let list = of_kind!(keys, key, List);
            let item = if name == "LPOP" { list.pop_front() } else { list.pop_back() };
            match item {
                Some(item) => did(Reply::Bulk(item)),
                None => Reply::Nil,
            }
        }
        "LMOVE" | "RPOPLPUSH" => {
            let to = arg(2);
            match keys.get(&to).map(|entry| &entry.value) {
                None | Some(Value::List(_)) => {}
                Some(_) => return wrong_type(),
            }
            let sides = if name == "LMOVE" {
                (arg(3), arg(4))
            } else {
                (b"RIGHT".to_vec(), b"LEFT".to_vec())
            };
            let from = of_kind!(keys, key, List);
            let item = if sides.0 == b"LEFT" { from.pop_front() } else { from.pop_back() };
            let Some(item) = item else { return Reply::Nil };
            // A list that was emptied is gone, and its deadline with it.
            if from.is_empty() && key != to {
                keys.remove(&key);
            }
            let list = of_kind!(keys, to, List);
            if sides.1 == b"LEFT" {
                list.push_front(item.clone());
            } else {
                list.push_back(item.clone());
            }
            did(Reply::Bulk(item))
        }
        "SADD" => {
            let set = of_kind!(keys, key, Set);
            match set.insert(arg(2)) {
                true => did(Reply::Int(1)),
                false => Reply::Int(0),
            }
        }
        "SREM" => {
            let set = of_kind!(keys, key, Set);
            match set.remove(&arg(2)) {
                true => did(Reply::Int(1)),
                false => Reply::Int(0),
            }
        }
        "SMOVE" => {
            let (to, member) = (arg(2), arg(3));
            match keys.get(&to).map(|entry| &entry.value) {
                None | Some(Value::Set(_)) => {}
                Some(_) => return wrong_type(),
            }
            let from = of_kind!(keys, key, Set);
            if !from.remove(&member) {
                return Reply::Int(0);
            }
            if from.is_empty() && key != to {
                keys.remove(&key);
            }
            of_kind!(keys, to, Set).insert(member);
            did(Reply::Int(1))
        }
        "SUNIONSTORE" => {
            let mut union = BTreeSet::new();
            for source in args.iter().skip(2) {
                match keys.get(source).map(|entry| &entry.value) {
                    None => {}
                    Some(Value::Set(set)) => union.extend(set.iter().cloned()),
                    Some(_) => return wrong_type(),
                }
            }
            let len = union.len();
            if union.is_empty() {
                return match keys.remove(&key) {
                    Some(_) => did(Reply::Int(0)),
                    None => Reply::Int(0),
                };
            }
            keys.insert(key, Entry { value: Value::Set(union), until: None });
            did(Reply::Int(i64::try_from(len).unwrap()))
        }
        "ZINCRBY" => {
            let score = of_kind!(keys, key, Zset).entry(arg(3)).or_default();
            *score += int(2);
            let score = score.to_string().into_bytes();
            did(Reply::Bulk(score))
        }
        "ZREM" => match of_kind!(keys, key, Zset).remove(&arg(2)) {
            Some(_) => did(Reply::Int(1)),
            None => Reply::Int(0),
        },
        "HINCRBY" => {
            let field = of_kind!(keys, key, Hash).entry(arg(2)).or_insert_with(|| b"0".to_vec());
            let new = number(field).unwrap() + int(3);
            *field = new.to_string().into_bytes();
            did(Reply::Int(new))
        }
        "HDEL" => match of_kind!(keys, key, Hash).remove(&arg(2)) {
            Some(_) => did(Reply::Int(1)),
            None => Reply::Int(0),
        },
        "RENAME" => match keys.remove(&key) {
            Some(entry) => {
                keys.insert(arg(2), entry);
                did(Reply::Status("OK"))
            }
            None => Reply::Error("ERR no such key".to_owned()),
        },
        "DEL" => {
            let removed = args.iter().skip(1).filter(|key| keys.remove(*key).is_some()).count();
            match i64::try_from(removed).unwrap() {
                0 => Reply::Int(0),
                removed => did(Reply::Int(removed)),
            }
        }
        "PEXPIREAT" | "PEXPIRE" => {
            let at = if name == "PEXPIRE" { now + int(2) } else { int(2) };
            let Some(entry) = keys.get_mut(&key) else { return Reply::Int(0) };
            entry.until = Some(at);
            if at <= now {
                keys.remove(&key);
            }
            did(Reply::Int(1))
        }
        "PERSIST" => match keys.get_mut(&key).and_then(|entry| entry.until.take()) {
            Some(_) => did(Reply::Int(1)),
            None => Reply::Int(0),
        },
        "PTTL" => match keys.get(&key).map(|entry| entry.until) {
            None => Reply::Int(-2),
            Some(None) => Reply::Int(-1),
            Some(Some(until)) if until <= now => Reply::Int(-2),
            Some(Some(until)) => Reply::Int(until - now),
        },
        "FLUSHDB" => {
            keys.clear();
            did(Reply::Status("OK"))
        }
        "RESTORE" => {
            let (mut replace, mut absolute) = (false, false);
            for option in args.iter().skip(4) {
                match option.as_slice() {
                    b"REPLACE" => replace = true,
                    b"ABSTTL" => absolute = true,
                    other => panic!("RESTORE {}", String::from_utf8_lossy(other)),
                }
            }
            if keys.contains_key(&key) && !replace {
                return Reply::Error("BUSYKEY Target key name already exists.".to_owned());
            }
            let until = match int(2) {
                0 => None,
                at if absolute => Some(at),
                wait => Some(now + wait),
            };
            keys.insert(key, Entry { value: decode(&arg(3)), until });
            did(Reply::Status("OK"))
        }
        other => panic!("the model has no {other}"),
    }
}

/// The value that a payload of `DUMP` holds.
fn decode(payload: &[u8]) -> Value {
    let (value, _) = Footer::verify(payload).unwrap();
    let (object, mut body) = value.split_first().unwrap();
    let object = ObjectType::decode(*object, Family::Redis).unwrap();
    let mut parser = Parser::for_value(object);
    let mut made = None;
    loop {
        let (step, used) = parser.step(body).unwrap();
        match step {
            Step::Event(Event::Element(element)) => gather(&mut made, &element),
            Step::Event(Event::ValueEnd) => return made.unwrap(),
            Step::Event(_) => {}
            other => panic!("{other:?}"),
        }
        body = &body[used..];
    }
}

fn gather(made: &mut Option<Value>, element: &Element<'_>) {
    match *element {
        Element::Text { bytes, .. } => {
            let Value::Text(text) = made.get_or_insert_with(|| Value::Text(Vec::new())) else {
                panic!()
            };
            text.extend_from_slice(bytes);
        }
        Element::Item(item) => {
            let Value::List(list) = made.get_or_insert_with(|| Value::List(VecDeque::new())) else {
                panic!()
            };
            list.push_back(item.to_vec());
        }
        Element::Member(member) => {
            let Value::Set(set) = made.get_or_insert_with(|| Value::Set(BTreeSet::new())) else {
                panic!()
            };
            set.insert(member.to_vec());
        }
        Element::Scored { member, score } => {
            let Value::Zset(set) = made.get_or_insert_with(|| Value::Zset(BTreeMap::new())) else {
                panic!()
            };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the ring's scores are small integers"
            )]
            set.insert(member.to_vec(), score as i64);
        }
        Element::Field { field, value, .. } => {
            let Value::Hash(hash) = made.get_or_insert_with(|| Value::Hash(BTreeMap::new())) else {
                panic!()
            };
            hash.insert(field.to_vec(), value.to_vec());
        }
        ref other => panic!("{other:?}"),
    }
}

/// A value as this server writes it.
pub(crate) fn encode(value: &Value, server: Server) -> Encoded {
    let object = match value {
        Value::Text(_) => ObjectType::String,
        Value::List(_) => ObjectType::List,
        Value::Set(_) => ObjectType::Set,
        Value::Zset(_) => ObjectType::Zset,
        Value::Hash(_) => ObjectType::Hash,
    };
    let mut encoder = Encoder::new(object, server).unwrap();
    let mut push = |element: Element<'_>| encoder.push(&element).unwrap();
    match value {
        Value::Text(text) => push(Element::Text { offset: 0, len: text.len() as u64, bytes: text }),
        Value::List(list) => list.iter().for_each(|item| push(Element::Item(item))),
        Value::Set(set) => set.iter().for_each(|member| push(Element::Member(member))),
        Value::Zset(set) => set.iter().for_each(|(member, score)| {
            let score = f64::from(i32::try_from(*score).unwrap());
            push(Element::Scored { member, score });
        }),
        Value::Hash(hash) => hash.iter().for_each(|(field, value)| {
            push(Element::Field { field, value, expire_at_ms: None });
        }),
    }
    encoder.finish().unwrap()
}
