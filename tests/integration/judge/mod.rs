//! The judge: reads two servers with typed commands and says how they differ. It shares no code with the library.
//!
//! What it compares: each key of each database with its type, value and deadline to the millisecond; the order of lists,
//! the bits of scores; hash fields' deadlines; a stream's entries, last id, counters, groups, consumers and pending
//! entries; function libraries; a HyperLogLog by its registers. What it does not: how a value is encoded, a key's idle time, and when a consumer was last
//! seen, since that clock runs whenever the consumer talks to its own server and no command can set it.

use std::cmp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use crate::client::Value;

mod read;
mod recorded;

pub(crate) use read::groups_of;

/// A key and the database it is in.
pub(crate) type Place = (u32, Vec<u8>);

/// A server's whole content.
#[derive(Debug)]
pub(crate) struct Dump {
    keys: BTreeMap<Place, Key>,
    /// The source of each function library, by its name.
    functions: BTreeMap<Vec<u8>, Vec<u8>>,
    own: Vec<Place>,
    /// The server's clock when the last key had been read, in ms.
    read_by: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Key {
    /// In ms, on the server's clock.
    deadline: Option<i64>,
    content: Content,
}

impl Key {
    /// Its own, and those of its fields.
    fn deadlines(&mut self) -> impl Iterator<Item = &mut i64> {
        let fields = match &mut self.content {
            Content::Hash(fields) => Some(fields.values_mut().filter_map(|(_, at)| at.as_mut())),
            _ => None,
        };
        self.deadline.as_mut().into_iter().chain(fields.into_iter().flatten())
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// The bits of each score: -0 is not 0, and no rounding is forgiven.
    Zset(BTreeMap<Vec<u8>, u64>),
    /// The value of each field, and its deadline.
    Hash(Fields),
    Stream(Box<Stream>),
    /// The stored vector and the attributes of each element, as the server gives them.
    Vectors(BTreeMap<Vec<u8>, (Value, Value)>),
}

type Fields = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

impl Content {
    const fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Zset(_) => "zset",
            Self::Hash(_) => "hash",
            Self::Stream(_) => "stream",
            Self::Vectors(_) => "vectorset",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Stream {
    /// Each entry's id, then its fields and values.
    entries: Vec<(String, Vec<Vec<u8>>)>,
    last_id: String,
    /// `None` where the server keeps no such counter (before 7.0).
    entries_added: Option<i64>,
    max_deleted_id: Option<String>,
    groups: BTreeMap<Vec<u8>, Group>,
}

/// A consumer group, and each entry that it has delivered and that waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    last_id: String,
    /// The outer `None` is a server that keeps no such counter, the inner one a count that the server does not know.
    entries_read: Option<Option<i64>>,
    consumers: BTreeSet<Vec<u8>>,
    pending: BTreeMap<String, Pending>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    consumer: Vec<u8>,
    delivered_at: i64,
    delivered: i64,
}

/// One way in which two servers differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) kind: Kind,
    pub(crate) db: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The second server lacks it.
    Missing,
    /// Only the second server has it.
    Extra,
    Type,
    Value,
    Deadline,
    Function,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} db {} {}: {}", self.kind, self.db, self.key.escape_ascii(), self.detail)
    }
}

/// What a comparison forgives. [`Default`] forgives nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forgiving {
    /// Two deadlines this near to each other, in ms, are the same. A master before 7.0 sends relative deadlines, and its
    /// own replica counts them from when they arrive.
    pub(crate) deadline_ms: i64,
    /// Groups' counts of entries read. Redis 7.0 and 7.2 do not tell their replicas when a read moves one.
    pub(crate) entries_read: bool,
}

impl Dump {
    /// Leaves this key alone, of all databases.
    pub(crate) fn keep_only(&mut self, name: &[u8]) {
        self.keys.retain(|(_, key), _| key == name);
    }

    /// Leaves those keys alone for which this says so, by database, name and kind.
    pub(crate) fn retain(&mut self, wants: impl Fn(u32, &[u8], &str) -> bool) {
        self.keys.retain(|(db, name), key| wants(*db, name, key.content.kind()));
    }

    /// The same, in other databases.
    pub(crate) fn moved(mut self, place: impl Fn(u32) -> u32) -> Self {
        let keys = self.keys.into_iter();
        self.keys = keys.map(|((db, name), key)| ((place(db), name), key)).collect();
        self
    }

    /// The same, with each deadline so many milliseconds later.
    pub(crate) fn later(mut self, by: i64) -> Self {
        for key in self.keys.values_mut() {
            key.deadline = key.deadline.map(|at| at + by);
            if let Content::Hash(fields) = &mut key.content {
                let deadlines = fields.values_mut().filter_map(|(_, deadline)| deadline.as_mut());
                deadlines.for_each(|at| *at += by);
            }
        }
        self
    }

    /// Each key as the first of several servers holds it that holds it at all.
    pub(crate) fn first_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut all = parts.next().expect("one at least");
        for part in parts {
            for (place, key) in part.keys {
                all.keys.entry(place).or_insert(key);
            }
            all.read_by = all.read_by.max(part.read_by);
        }
        all
    }

    /// What several servers hold together.
    ///
    /// # Panics
    /// If two of them hold the same key.
    pub(crate) fn together(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut all = parts.next().expect("one at least");
        for part in parts {
            for (place, key) in part.keys {
                let twice = all.keys.insert(place.clone(), key);
                assert!(twice.is_none(), "two hold {}", place.1.escape_ascii());
            }
            all.functions.extend(part.functions);
            all.own.extend(part.own);
            all.read_by = all.read_by.max(part.read_by);
        }
        all
    }

    /// What understudy keeps on the server for itself, which is no part of the comparison.
    pub(crate) const fn own(&self) -> &Vec<Place> {
        &self.own
    }

    /// The same, with this before each name.
    pub(crate) fn under(self, prefix: &str) -> Self {
        self.named(|key| [prefix.as_bytes(), key].concat())
    }

    /// The same, with other names.
    pub(crate) fn named(mut self, name: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let keys = self.keys.into_iter();
        self.keys = keys.map(|((db, key), value)| ((db, name(&key)), value)).collect();
        self
    }

    /// The same, with other deadlines, of keys and of fields of hashes.
    pub(crate) fn dated(mut self, date: impl Fn(i64) -> i64) -> Self {
        for key in self.keys.values_mut() {
            for deadline in key.deadlines() {
                *deadline = date(*deadline);
            }
        }
        self
    }

    /// The deadline of this key, in database 0.
    #[track_caller]
    pub(crate) fn deadline(&self, key: &str) -> i64 {
        self.keys[&(0, key.into())].deadline.expect("it has one")
    }

    /// The first deadline that comes.
    pub(crate) fn soonest(&mut self) -> Option<i64> {
        self.keys.values_mut().flat_map(Key::deadlines).map(|at| *at).min()
    }

    /// The number of keys in all databases.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys of each type there are.
    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for key in self.keys.values() {
            *kinds.entry(key.content.kind()).or_default() += 1;
        }
        kinds
    }

    /// The number of keys with a deadline.
    pub(crate) fn with_deadline(&self) -> usize {
        self.keys.values().filter(|key| key.deadline.is_some()).count()
    }

    /// What is dead by `now` is nobody's: one server may still hold what the other has already dropped.
    fn dead_by(&self, now: i64) -> impl Iterator<Item = &Place> {
        let dead = move |key: &Key| {
            key.deadline.is_some_and(|at| at <= now)
                || matches!(&key.content, Content::Hash(fields)
                    if fields.values().all(|(_, deadline)| deadline.is_some_and(|at| at <= now)))
        };
        self.keys.iter().filter(move |(_, key)| dead(key)).map(|(place, _)| place)
    }

    fn without(&self, dead: &BTreeSet<Place>, now: i64) -> BTreeMap<&Place, Key> {
        let mut alive: BTreeMap<_, _> = self
            .keys
            .iter()
            .filter(|(place, _)| !dead.contains(place))
            .map(|(p, key)| (p, key.clone()))
            .collect();
        for key in alive.values_mut() {
            if let Content::Hash(fields) = &mut key.content {
                fields.retain(|_, (_, deadline)| deadline.is_none_or(|at| at > now));
            }
        }
        alive
    }
}

/// How `second` differs from `first`, by database and key. Keys that either server had past their deadline when the later
/// reading ended are left out of both.
pub(crate) fn diff(first: &Dump, second: &Dump, forgiving: Forgiving) -> Vec<Difference> {
    let now = cmp::max(first.read_by, second.read_by) + forgiving.deadline_ms;
    let dead: BTreeSet<_> = first.dead_by(now).chain(second.dead_by(now)).cloned().collect();
    let (firsts, seconds) = (first.without(&dead, now), second.without(&dead, now));
    let mut differences = Vec::new();
    for (place @ (db, key), a) in &firsts {
        let mut found =
            |kind, detail| differences.push(Difference { kind, db: *db, key: key.clone(), detail });
        let Some(b) = seconds.get(place) else {
            found(Kind::Missing, format!("a {}", a.content.kind()));
            continue;
        };
        if a.content.kind() != b.content.kind() {
            found(Kind::Type, format!("{} is {}", a.content.kind(), b.content.kind()));
            continue;
        }
        if let Some(detail) = unlike(&a.content, &b.content, forgiving) {
            found(Kind::Value, detail);
        }
        if !near(a.deadline, b.deadline, forgiving.deadline_ms) {
            found(Kind::Deadline, format!("{:?} is {:?}", a.deadline, b.deadline));
        }
    }
    for ((db, key), b) in seconds.iter().filter(|(place, _)| !firsts.contains_key(*place)) {
        let detail = format!("a {}", b.content.kind());
        differences.push(Difference { kind: Kind::Extra, db: *db, key: key.clone(), detail });
    }
    for name in first.functions.keys().chain(second.functions.keys()).collect::<BTreeSet<_>>() {
        if first.functions.get(name) != second.functions.get(name) {
            let detail = "its code".to_owned();
            differences.push(Difference { kind: Kind::Function, db: 0, key: name.clone(), detail });
        }
    }
    differences
}

/// # Panics
/// With the first differences, if there are any.
#[track_caller]
pub(crate) fn assert_same(first: &Dump, second: &Dump, forgiving: Forgiving, what: &str) {
    let differences = diff(first, second, forgiving);
    let shown: Vec<_> = differences.iter().take(20).map(Difference::to_string).collect();
    assert!(
        differences.is_empty(),
        "{what}: {} differences:\n{}",
        differences.len(),
        shown.join("\n")
    );
}

fn near(a: Option<i64>, b: Option<i64>, within: i64) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= within,
        (a, b) => a == b,
    }
}

/// Where two values of one type differ, if they do.
fn unlike(a: &Content, b: &Content, forgiving: Forgiving) -> Option<String> {
    match (a, b) {
        _ if a == b => None,
        (Content::Hash(a), Content::Hash(b)) => {
            let same = |(x, dx): &(Vec<u8>, _), (y, dy): &(Vec<u8>, _)| {
                x == y && near(*dx, *dy, forgiving.deadline_ms)
            };
            unlike_maps(a, b, same)
        }
        (Content::Zset(a), Content::Zset(b)) => unlike_maps(a, b, u64::eq),
        (Content::Vectors(a), Content::Vectors(b)) => unlike_maps(a, b, PartialEq::eq),
        (Content::String(a), Content::String(b)) if registers(a).is_some() => {
            (registers(a) != registers(b)).then(|| "registers of a HyperLogLog".to_owned())
        }
        (Content::String(a), Content::String(b)) => {
            let at = first_unlike(a, b);
            let rest = |of: &Vec<u8>| show(Some(&of[at.saturating_sub(8)..].to_vec()));
            Some(format!(
                "from byte {at} of {} and {}: {} is {}",
                a.len(),
                b.len(),
                rest(a),
                rest(b)
            ))
        }
        (Content::List(a), Content::List(b)) => {
            let at = first_unlike(a, b);
            let (x, y) = (show(a.get(at)), show(b.get(at)));
            Some(format!("element {at} of {} and {}: {x} is {y}", a.len(), b.len()))
        }
        (Content::Set(a), Content::Set(b)) => {
            let odd = a.symmetric_difference(b).next()?;
            Some(format!("members {} and {}, not in both: {}", a.len(), b.len(), show(Some(odd))))
        }
        (Content::Stream(a), Content::Stream(b)) => unlike_streams(a, b, forgiving),
        (a, b) => Some(format!("{} is {}", a.kind(), b.kind())),
    }
}

fn unlike_maps<V: fmt::Debug>(
    a: &BTreeMap<Vec<u8>, V>,
    b: &BTreeMap<Vec<u8>, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Option<String> {
    let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let like = |name: &&&Vec<u8>| match (a.get(**name), b.get(**name)) {
        (Some(x), Some(y)) => !same(x, y),
        _ => true,
    };
    let odd = names.iter().find(like)?;
    Some(format!(
        "of {} and {}, {}: {:?} is {:?}",
        a.len(),
        b.len(),
        show(Some(odd)),
        a.get(*odd),
        b.get(*odd)
    ))
}

fn unlike_streams(a: &Stream, b: &Stream, forgiving: Forgiving) -> Option<String> {
    fn other<T: PartialEq + fmt::Debug>(what: &str, a: &T, b: &T) -> Option<String> {
        (a != b).then(|| format!("{what}: {a:?} is {b:?}"))
    }
    // A counter that one of the servers does not keep is not compared.
    fn counted<T: PartialEq + fmt::Debug>(
        what: &str,
        a: &Option<T>,
        b: &Option<T>,
    ) -> Option<String> {
        other(what, a.as_ref()?, b.as_ref()?)
    }
    other("entries", &a.entries.len(), &b.entries.len())
        .or_else(|| a.entries.iter().zip(&b.entries).find_map(|(x, y)| other("entry", x, y)))
        .or_else(|| other("last id", &a.last_id, &b.last_id))
        .or_else(|| counted("entries added", &a.entries_added, &b.entries_added))
        .or_else(|| counted("greatest deleted id", &a.max_deleted_id, &b.max_deleted_id))
        .or_else(|| {
            other("groups", &Vec::from_iter(a.groups.keys()), &Vec::from_iter(b.groups.keys()))
        })
        .or_else(|| {
            a.groups.values().zip(b.groups.values()).find_map(|(x, y)| {
                other("group's last id", &x.last_id, &y.last_id)
                    .or_else(|| other("consumers", &x.consumers, &y.consumers))
                    .or_else(|| other("pending", &x.pending, &y.pending))
                    .or_else(|| {
                        let read = || counted("entries read", &x.entries_read, &y.entries_read);
                        if forgiving.entries_read { None } else { read() }
                    })
            })
        })
}

/// The 16,384 registers of a HyperLogLog, if the string is one. Whether they stand sparse or dense is how it is encoded (a
/// PFMERGE makes it dense up to 3.2), and the count kept in its header follows from them by each version's own formula.
fn registers(string: &[u8]) -> Option<Vec<u8>> {
    const COUNT: usize = 16_384;
    let (header, body) = string.split_first_chunk::<16>()?;
    let registers = match (&header[..4], header[4]) {
        (b"HYLL", 0) => {
            let bit = |at: usize| body.get(at / 8).map(|byte| byte >> (at % 8) & 1);
            let register =
                |at: usize| (0..6).map(|nth| Some(bit(6 * at + nth)? << nth)).sum::<Option<u8>>();
            (0..COUNT).map(register).collect::<Option<Vec<u8>>>()?
        }
        (b"HYLL", 1) => {
            let mut registers = Vec::with_capacity(COUNT);
            let mut bytes = body.iter().copied();
            while let Some(byte) = bytes.next() {
                let (value, run) = match byte >> 6 {
                    0 => (0, usize::from(byte & 0x3f) + 1),
                    1 => (0, (usize::from(byte & 0x3f) << 8 | usize::from(bytes.next()?)) + 1),
                    _ => ((byte >> 2 & 0x1f) + 1, usize::from(byte & 3) + 1),
                };
                registers.resize(registers.len() + run, value);
            }
            registers
        }
        _ => return None,
    };
    (registers.len() == COUNT).then_some(registers)
}

fn first_unlike<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).position(|(x, y)| x != y).unwrap_or_else(|| cmp::min(a.len(), b.len()))
}

/// At most the first bytes: values may be large.
fn show(bytes: Option<&Vec<u8>>) -> String {
    bytes.map_or_else(
        || "nothing".to_owned(),
        |b| format!("{} ({} bytes)", b[..cmp::min(60, b.len())].escape_ascii(), b.len()),
    )
}

#[test]
fn a_sketch_is_the_same_sparse_and_dense() {
    let header = |dense: u8| [&b"HYLL"[..], &[dense], &[0; 11]].concat();
    // Register 2 is 5 and the last is 1: sparse as runs, dense as six bits each.
    let sparse = [header(1), vec![0x01, 0x80 | 4 << 2, 0x40 | 0x3f, 0xfb, 0x80]].concat();
    let mut dense = [header(0), vec![0; 12_288]].concat();
    dense[16 + 1] = 5 << 4;
    dense[16 + 12_287] = 1 << 2;
    let found = registers(&sparse).unwrap();
    assert_eq!(
        (found[2], found[16_383], found.iter().filter(|register| **register == 0).count()),
        (5, 1, 16_382)
    );
    assert_eq!(registers(&dense), Some(found));
    assert_eq!(registers(b"HYLL is how this text begins"), None);
}
