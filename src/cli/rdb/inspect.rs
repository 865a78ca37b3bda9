//! `rdb inspect`: what is in a file, in figures.

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::io::Write;

use serde_json::json;
use understudy::census::Top;
use understudy::key::Db;
use understudy::key::Escaped;
use understudy::rdb::event::Event;
use understudy::rdb::event::KeyHead;
use understudy::rdb::format::Family;
use understudy::rdb::format::Format;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::parser::Checksum;
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::Next;
use understudy::rdb::reader::Reader;

use super::Stopped;
use super::fill;
use super::following;

/// How many of the largest keys are named.
const LARGEST: usize = 10;

/// What was found in a file.
#[derive(Debug)]
pub(super) struct Found {
    format: Format,
    checksum: Checksum,
    /// Bytes from the magic to the end of the checksum, and bytes that follow it.
    bytes: u64,
    pub(super) following: u64,
    aux: Vec<(Vec<u8>, Vec<u8>)>,
    functions: Vec<Vec<u8>>,
    /// Data of modules that belongs to no key, by module.
    module_aux: BTreeMap<String, u64>,
    slots: u64,
    dbs: BTreeMap<Db, Database>,
    largest: Top<Large>,
    /// Whether the values were decoded.
    decoded: bool,
}

/// What was found in one database.
#[derive(Debug, Default)]
struct Database {
    keys: u64,
    expires: u64,
    types: Vec<Type>,
}

/// What was found of one type in one database.
#[derive(Clone, Copy, Debug)]
struct Type {
    object: ObjectType,
    keys: u64,
    /// Of the values, in the file.
    bytes: u64,
    /// Known only if values were decoded. A string has one.
    elements: u64,
}

/// A large key: its value's size in the file first, so that it is ordered by that.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Large {
    bytes: u64,
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
    elements: u64,
}

/// The key whose value is being read.
struct Current {
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
    expires: bool,
    begin: u64,
    elements: u64,
}

/// Reads the whole file and checks its sum; with `decode` down to each element. Elements above `memory` bytes are an
/// error then.
pub(super) fn inspect(mut file: impl Read, memory: usize, decode: bool) -> Result<Found, Stopped> {
    let mut reader = Reader::new();
    reader.set_default_depth(if decode { Depth::Elements } else { Depth::Skip });
    reader.set_element_limit(memory);
    let mut found = Found::new(decode);
    let mut current = Current {
        db: Db::default(),
        key: Vec::new(),
        object: ObjectType::String,
        expires: false,
        begin: 0,
        elements: 0,
    };
    loop {
        let ended = match reader.next()? {
            Next::Event(Event::Element(_)) => {
                current.elements += 1;
                continue;
            }
            Next::Event(Event::Key(head)) => {
                current.take(&head);
                false
            }
            Next::Event(Event::ValueEnd) => true,
            Next::Event(event) => {
                found.note(event);
                continue;
            }
            Next::NeedMore => {
                fill(&mut file, &mut reader)?;
                continue;
            }
            Next::End(checksum) => {
                found.checksum = checksum;
                break;
            }
        };
        if ended {
            found.count(&current, reader.position() - current.begin);
        } else {
            current.begin = reader.position();
        }
    }
    found.bytes = reader.position();
    found.following = following(file, &reader)?;
    Ok(found)
}

impl Current {
    fn take(&mut self, head: &KeyHead<'_>) {
        self.db = head.db;
        self.key.clear();
        self.key.extend_from_slice(head.key);
        self.object = head.object;
        self.expires = head.expire_at_ms.is_some();
        self.elements = 0;
    }
}

impl Found {
    fn new(decoded: bool) -> Self {
        Self {
            format: Format { family: Family::Redis, version: 1 },
            checksum: Checksum::None,
            bytes: 0,
            following: 0,
            aux: Vec::new(),
            functions: Vec::new(),
            module_aux: BTreeMap::new(),
            slots: 0,
            dbs: BTreeMap::new(),
            largest: Top::new(LARGEST),
            decoded,
        }
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Header(format) => self.format = format,
            // A cluster node writes one for each slot.
            Event::Aux { name: b"slot-info", .. } | Event::SlotInfo { .. } => self.slots += 1,
            Event::Aux { name, value } => self.aux.push((name.to_vec(), value.to_vec())),
            Event::Function { code } => self.functions.push(first_line(code)),
            Event::ModuleAux { module, .. } => {
                *self.module_aux.entry(module.to_string()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn count(&mut self, current: &Current, bytes: u64) {
        let database = self.dbs.entry(current.db).or_default();
        database.keys += 1;
        database.expires += u64::from(current.expires);
        let types = &mut database.types;
        let place = types.iter().position(|entry| entry.object == current.object);
        let place = place.unwrap_or_else(|| {
            types.push(Type { object: current.object, keys: 0, bytes: 0, elements: 0 });
            types.len() - 1
        });
        if let Some(entry) = types.get_mut(place) {
            entry.keys += 1;
            entry.bytes += bytes;
            entry.elements += current.elements;
        }
        if self.largest.least().is_none_or(|least| bytes > least.bytes) {
            self.largest.put(Large {
                bytes,
                db: current.db,
                key: current.key.clone(),
                object: current.object,
                elements: current.elements,
            });
        }
    }

    fn keys(&self) -> u64 {
        self.dbs.values().map(|database| database.keys).sum()
    }

    fn expires(&self) -> u64 {
        self.dbs.values().map(|database| database.expires).sum()
    }

    /// Writes it for a person.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "format      {}", self.format)?;
        if self.format.is_newer_than_known() {
            writeln!(out, "            newer than this program; all that is in it was known")?;
        }
        writeln!(out, "bytes       {}", self.bytes)?;
        if self.following > 0 {
            writeln!(out, "            and {} that do not belong to it", self.following)?;
        }
        match self.checksum {
            Checksum::Stated(sum) => writeln!(out, "checksum    {sum:016x}, right")?,
            Checksum::None => writeln!(out, "checksum    none was made")?,
        }
        for (name, value) in &self.aux {
            writeln!(out, "aux         {} {}", Escaped(name), Escaped(value))?;
        }
        for (module, count) in &self.module_aux {
            writeln!(out, "module aux  {module} {count}")?;
        }
        if self.slots > 0 {
            writeln!(out, "slots       {}", self.slots)?;
        }
        for function in &self.functions {
            writeln!(out, "function    {}", Escaped(function))?;
        }
        writeln!(out, "keys        {}, {} with a deadline", self.keys(), self.expires())?;
        for (db, database) in &self.dbs {
            writeln!(
                out,
                "db {db:<8} {} keys, {} with a deadline",
                database.keys, database.expires
            )?;
            for entry in sorted(&database.types) {
                let name = entry.object.value_type().name();
                write!(
                    out,
                    "  {name:<8} {:<14} {:>10} keys {:>14} bytes",
                    entry.object.encoding(),
                    entry.keys,
                    entry.bytes
                )?;
                if self.decoded {
                    write!(out, " {:>12} elements", entry.elements)?;
                }
                writeln!(out)?;
            }
        }
        for large in self.largest.sorted() {
            writeln!(
                out,
                "largest     {:>12} bytes  db {} {} {}",
                large.bytes,
                large.db,
                large.object.value_type().name(),
                Escaped(&large.key)
            )?;
        }
        Ok(())
    }

    /// Writes it as one JSON object.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let elements = |count: u64| self.decoded.then_some(count);
        let dbs: Vec<_> = self
            .dbs
            .iter()
            .map(|(db, database)| {
                let types: Vec<_> = sorted(&database.types)
                    .into_iter()
                    .map(|entry| {
                        json!({
                            "type": entry.object.value_type().name(),
                            "encoding": entry.object.encoding(),
                            "object_type": entry.object.byte(),
                            "keys": entry.keys,
                            "bytes": entry.bytes,
                            "elements": elements(entry.elements),
                        })
                    })
                    .collect();
                json!({
                    "db": db.index(),
                    "keys": database.keys,
                    "expires": database.expires,
                    "types": types,
                })
            })
            .collect();
        let largest: Vec<_> = self
            .largest
            .sorted()
            .into_iter()
            .map(|large| {
                json!({
                    "db": large.db.index(),
                    "key": latin1(&large.key),
                    "type": large.object.value_type().name(),
                    "encoding": large.object.encoding(),
                    "bytes": large.bytes,
                    "elements": elements(large.elements),
                })
            })
            .collect();
        let aux: Vec<_> =
            self.aux.iter().map(|(name, value)| [latin1(name), latin1(value)]).collect();
        let (checksum, sum) = match self.checksum {
            Checksum::Stated(sum) => ("right", Some(format!("{sum:016x}"))),
            Checksum::None => ("none", None),
        };
        let found = json!({
            "format": self.format.to_string(),
            "rdb_version": self.format.version,
            "bytes": self.bytes,
            "following_bytes": self.following,
            "checksum": checksum,
            "crc64": sum,
            "aux": aux,
            "module_aux": self.module_aux,
            "slots": self.slots,
            "functions": self.functions.iter().map(|line| latin1(line)).collect::<Vec<_>>(),
            "keys": self.keys(),
            "expires": self.expires(),
            "dbs": dbs,
            "largest": largest,
        });
        writeln!(out, "{found}")
    }
}

fn sorted(types: &[Type]) -> Vec<Type> {
    let mut types = types.to_vec();
    types.sort_unstable_by_key(|entry| (entry.object.value_type(), entry.object));
    types
}

fn first_line(code: &[u8]) -> Vec<u8> {
    code.split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec()
}

/// One code point a byte.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::path::Path;

    use serde_json::Value as Json;

    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb").join(name)).unwrap()
    }

    fn inspected(bytes: &[u8], decode: bool) -> Json {
        let found = inspect(Cursor::new(bytes), 1 << 30, decode).unwrap();
        let mut out = Vec::new();
        found.write_json(&mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_file_is_counted_by_database_type_and_encoding() {
        let bytes = fixture("redis-8.0.6/types.rdb");
        let expected: Json = serde_json::from_slice(&fixture("redis-8.0.6/types.json")).unwrap();
        let expected = expected.as_array().unwrap();
        let plain = inspected(&bytes, false);
        assert_eq!(plain["format"], "REDIS0012");
        assert_eq!(plain["checksum"], "right");
        assert_eq!(plain["bytes"], bytes.len());
        assert_eq!(plain["following_bytes"], 0);
        assert_eq!(plain["keys"], expected.len());
        assert_eq!(plain["aux"][0][0], "redis-ver");
        let types = plain["dbs"][0]["types"].as_array().unwrap();
        for name in ["string", "list", "set", "zset", "hash", "stream"] {
            let keys: u64 = types
                .iter()
                .filter(|entry| entry["type"] == name)
                .map(|entry| entry["keys"].as_u64().unwrap())
                .sum();
            let of_type = expected.iter().filter(|key| key["type"] == name).count();
            assert_eq!(keys, of_type as u64, "{name}");
        }
        let largest: Vec<_> = plain["largest"]
            .as_array()
            .unwrap()
            .iter()
            .map(|large| large["bytes"].as_u64())
            .collect();
        assert_eq!(largest.len(), LARGEST);
        assert!(largest.is_sorted_by(|a, b| a >= b));

        let decoded = inspected(&bytes, true);
        let members = expected.iter().filter(|key| key["type"] == "zset");
        let members: usize = members.map(|key| key["value"].as_array().unwrap().len()).sum();
        let types = decoded["dbs"][0]["types"].as_array().unwrap();
        let counted: u64 = types
            .iter()
            .filter(|entry| entry["type"] == "zset")
            .map(|entry| entry["elements"].as_u64().unwrap())
            .sum();
        assert_eq!(counted, members as u64);
        assert_eq!(decoded["dbs"][0]["keys"], plain["dbs"][0]["keys"]);
    }

    #[test]
    fn databases_deadlines_slots_and_missing_sums_are_seen() {
        let many = inspected(&fixture("redis-2.6.17/multidb.rdb"), false);
        assert_eq!(many["dbs"].as_array().unwrap().len(), 16);
        let expires = inspected(&fixture("redis-2.4.18/expires.rdb"), false);
        assert!(expires["expires"].as_u64().unwrap() > 0);
        assert_eq!(expires["checksum"], "none");
        assert_eq!(inspected(&fixture("redis-6.2.14/nochecksum.rdb"), false)["checksum"], "none");
        for server in ["redis-7.4.1", "valkey-9.1.2"] {
            let cluster = inspected(&fixture(&format!("{server}/cluster.rdb")), false);
            assert!(cluster["slots"].as_u64().unwrap() > 0, "{server}");
        }
    }

    #[test]
    fn what_follows_the_end_is_counted_and_a_wrong_sum_is_an_error() {
        let mut bytes = fixture("redis-7.0.15/empty.rdb");
        bytes.extend_from_slice(b"PING\r\n");
        assert_eq!(inspected(&bytes, false)["following_bytes"], 6);
        let mut text = Vec::new();
        let found = inspect(Cursor::new(&bytes), 1 << 20, false).unwrap();
        found.write(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("and 6 that do not belong to it"));
        bytes[12] ^= 1;
        let stopped = inspect(Cursor::new(bytes), 1 << 20, false).unwrap_err();
        let Stopped::Rdb(error) = stopped else { panic!("{stopped:?}") };
        assert!(error.to_string().starts_with("the checksum is 0x"), "{error}");
    }
}
