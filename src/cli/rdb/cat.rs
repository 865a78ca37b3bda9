//! `rdb cat`: one JSON object a line for each key, in the order of the file.

use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::mem;

use understudy::rdb::crc::Crc64;
use understudy::rdb::error::RdbError;
use understudy::rdb::error::RdbErrorKind;
use understudy::rdb::event::Element;
use understudy::rdb::event::Event;
use understudy::rdb::event::KeyHead;
use understudy::rdb::event::ModuleId;
use understudy::rdb::event::StreamId;
use understudy::rdb::format::Family;
use understudy::rdb::format::Format;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::opcode::ValueType;
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::Reader;

use super::Stopped;
use super::following;
use super::json;
use super::read_all;
use super::score;

/// Writes each key of the file. Sets, hashes and sorted sets are sorted if they fit in `memory` bytes; else they come
/// as in the file, with `"sorted":false`. Gives how many bytes stand behind the data set and do not belong to it.
pub(super) fn cat(
    mut file: impl Read,
    out: &mut impl Write,
    memory: usize,
) -> Result<u64, Stopped> {
    let mut reader = Reader::new();
    reader.set_default_depth(Depth::Elements);
    reader.set_element_limit(memory);
    let mut cat = Cat {
        out,
        memory,
        format: Format { family: Family::Redis, version: 1 },
        expire_at_ms: None,
        value: Value::None,
    };
    read_all(&mut file, &mut reader, |at, event| cat.see(at, event))?;
    following(file, &reader)
}

struct Cat<'o, O> {
    out: &'o mut O,
    memory: usize,
    format: Format,
    /// Of the key whose value is written.
    expire_at_ms: Option<i64>,
    value: Value,
}

/// A value of which a part was read, and perhaps written.
enum Value {
    None,
    Text,
    List { first: bool },
    Set(Sorted<Vec<u8>>),
    Hash(Sorted<Field>),
    Zset(Sorted<Scored>),
    Stream(Stream),
    Module { module: Option<ModuleId>, size: u64, crc: Crc64 },
}

struct Field {
    field: Vec<u8>,
    value: Vec<u8>,
    expire_at_ms: Option<i64>,
}

struct Scored {
    member: Vec<u8>,
    score: f64,
}

impl<O: Write> Cat<'_, O> {
    fn see(&mut self, at: u64, event: Event<'_>) -> Result<(), Stopped> {
        match event {
            Event::Header(format) => self.format = format,
            Event::Aux { name, value } => {
                self.put(b"{\"aux\":")?;
                json::bytes(self.out, name).map_err(Stopped::Write)?;
                self.put(b",\"value\":")?;
                json::bytes(self.out, value).map_err(Stopped::Write)?;
                self.put(b"}\n")?;
            }
            Event::Function { code } => {
                self.put(b"{\"function\":")?;
                json::bytes(self.out, code).map_err(Stopped::Write)?;
                self.put(b"}\n")?;
            }
            Event::Key(head) => {
                self.expire_at_ms = head.expire_at_ms;
                self.begin(&head).map_err(Stopped::Write)?;
            }
            Event::Element(element) => self.element(at, element)?,
            Event::ValueEnd => self.end().map_err(Stopped::Write)?,
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, text: &[u8]) -> Result<(), Stopped> {
        self.out.write_all(text).map_err(Stopped::Write)
    }

    fn begin(&mut self, head: &KeyHead<'_>) -> io::Result<()> {
        write!(self.out, "{{\"db\":{},\"key\":", head.db)?;
        json::bytes(self.out, head.key)?;
        let value_type = head.object.value_type();
        let (value, open) = match value_type {
            ValueType::String => (Value::Text, "\""),
            ValueType::List => (Value::List { first: true }, "["),
            ValueType::Set => (Value::Set(Sorted::default()), "["),
            ValueType::Hash => (Value::Hash(Sorted::default()), "["),
            ValueType::Zset => (Value::Zset(Sorted::default()), "["),
            ValueType::Stream => (Value::Stream(Stream::of(head.object)), "{\"entries\":["),
            ValueType::Module => {
                self.value = Value::Module { module: None, size: 0, crc: Crc64::new() };
                return Ok(());
            }
        };
        self.value = value;
        write!(self.out, ",\"type\":\"{}\",\"value\":{open}", value_type.name())
    }

    fn element(&mut self, at: u64, element: Element<'_>) -> Result<(), Stopped> {
        let (out, memory, format) = (&mut *self.out, self.memory, self.format);
        let written = match (&mut self.value, element) {
            (Value::Text, Element::Text { bytes, .. }) => json::inside(out, bytes),
            (Value::List { first }, Element::Item(item)) => {
                comma(out, first).and_then(|()| json::bytes(out, item))
            }
            (Value::Set(set), Element::Member(member)) => {
                set.take(out, memory, member.to_vec(), member.len(), write_member)
            }
            (Value::Hash(hash), Element::Field { field, value, expire_at_ms }) => {
                let size = field.len() + value.len();
                let field = Field { field: field.to_vec(), value: value.to_vec(), expire_at_ms };
                hash.take(out, memory, field, size, write_field)
            }
            (Value::Zset(zset), Element::Scored { member, score }) => {
                let size = member.len();
                let scored = Scored { member: member.to_vec(), score };
                zset.take(out, memory, scored, size, |out, scored| {
                    write_scored(out, scored, format)
                })
            }
            (Value::Stream(stream), element) => {
                if stream.size() > memory {
                    let (size, limit) = (stream.size() as u64, memory as u64);
                    let kind = RdbErrorKind::TooLarge { size, limit };
                    return Err(RdbError { at, key: None, behind: false, kind }.into());
                }
                stream.take(out, element)
            }
            (Value::Module { module, size, crc }, Element::Module { module: id, bytes }) => {
                *module = Some(id);
                *size += bytes.len() as u64;
                crc.update(bytes);
                Ok(())
            }
            _ => Ok(()),
        };
        written.map_err(Stopped::Write)
    }

    fn end(&mut self) -> io::Result<()> {
        let format = self.format;
        let out = &mut *self.out;
        let mut sorted = true;
        match mem::replace(&mut self.value, Value::None) {
            Value::None => {}
            Value::Text => out.write_all(b"\"")?,
            Value::List { .. } => out.write_all(b"]")?,
            Value::Set(set) => sorted = set.end(out, Ord::cmp, write_member)?,
            Value::Hash(hash) => {
                sorted = hash.end(out, |a, b| a.field.cmp(&b.field), write_field)?;
            }
            Value::Zset(zset) => {
                // Servers hold -0 and 0 for equal here, and no score is NaN.
                let order = |a: &Scored, b: &Scored| {
                    a.score
                        .partial_cmp(&b.score)
                        .unwrap_or(std::cmp::Ordering::Equal)
                        .then_with(|| a.member.cmp(&b.member))
                };
                sorted = zset.end(out, order, |out, scored| write_scored(out, scored, format))?;
            }
            Value::Stream(stream) => stream.end(out)?,
            Value::Module { module, size, crc } => {
                let name = module.map(|module| module.to_string()).unwrap_or_default();
                let sum = crc.sum();
                write!(
                    out,
                    ",\"type\":\"module:{name}\",\"value\":null,\"size\":{size},\"digest\":\"crc64:{sum:016x}\""
                )?;
            }
        }
        out.write_all(b",\"expire_at_ms\":")?;
        json::number(out, self.expire_at_ms)?;
        out.write_all(if sorted { b"}\n" } else { b",\"sorted\":false}\n" })
    }
}

fn comma(out: &mut impl Write, first: &mut bool) -> io::Result<()> {
    if mem::replace(first, false) { Ok(()) } else { out.write_all(b",") }
}

#[expect(clippy::ptr_arg, reason = "it writes one of what is sorted, and that is vectors")]
fn write_member<O: Write>(out: &mut O, member: &Vec<u8>) -> io::Result<()> {
    json::bytes(out, member)
}

fn write_field<O: Write>(out: &mut O, field: &Field) -> io::Result<()> {
    out.write_all(b"[")?;
    json::bytes(out, &field.field)?;
    out.write_all(b",")?;
    json::bytes(out, &field.value)?;
    out.write_all(b",")?;
    json::number(out, field.expire_at_ms)?;
    out.write_all(b"]")
}

fn write_scored<O: Write>(out: &mut O, scored: &Scored, format: Format) -> io::Result<()> {
    out.write_all(b"[")?;
    json::bytes(out, &scored.member)?;
    let text = score::text(scored.score, format);
    write!(out, ",\"{text}\",\"{:016x}\"]", scored.score.to_bits())
}

/// Elements that are sorted in the end if there is memory for them, and written as they come otherwise.
struct Sorted<T> {
    held: Vec<T>,
    /// Bytes held, with what holding them costs.
    size: usize,
    /// Whether there was no memory for them.
    given_up: bool,
    first: bool,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { held: Vec::new(), size: 0, given_up: false, first: true }
    }
}

impl<T> Sorted<T> {
    fn take<O: Write>(
        &mut self,
        out: &mut O,
        memory: usize,
        element: T,
        size: usize,
        mut write: impl FnMut(&mut O, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.given_up {
            comma(out, &mut self.first)?;
            return write(out, &element);
        }
        // The vector may be twice as large as it is full.
        self.size += size + 2 * size_of::<T>();
        self.held.push(element);
        if self.size > memory {
            self.given_up = true;
            for element in mem::take(&mut self.held) {
                comma(out, &mut self.first)?;
                write(out, &element)?;
            }
        }
        Ok(())
    }

    /// Writes what is held. Gives whether all was sorted.
    fn end<O: Write>(
        mut self,
        out: &mut O,
        order: impl FnMut(&T, &T) -> std::cmp::Ordering,
        mut write: impl FnMut(&mut O, &T) -> io::Result<()>,
    ) -> io::Result<bool> {
        self.held.sort_unstable_by(order);
        for element in &self.held {
            comma(out, &mut self.first)?;
            write(out, element)?;
        }
        out.write_all(b"]")?;
        Ok(!self.given_up)
    }
}

/// What is known of a stream: its entries are written as they come, a group when its last consumer has come.
#[derive(Default)]
struct Stream {
    entries: bool,
    /// Whether the type in the file knows how far a group has read, and when a consumer was active.
    knows_read: bool,
    knows_active: bool,
    /// Whether a group was written.
    groups: bool,
    group: Option<Group>,
}

struct Group {
    name: Vec<u8>,
    last_id: StreamId,
    entries_read: Option<u64>,
    pending: Vec<(StreamId, i64, u64)>,
    /// Of which consumer each pending entry is.
    owners: HashMap<StreamId, usize>,
    consumers: Vec<(Vec<u8>, i64, Option<i64>)>,
}

impl Stream {
    fn of(object: ObjectType) -> Self {
        Self {
            knows_read: object.since() >= ObjectType::StreamListpacks2.since(),
            knows_active: object.since() >= ObjectType::StreamListpacks3.since(),
            ..Self::default()
        }
    }

    /// Bytes held, roughly.
    fn size(&self) -> usize {
        self.group.as_ref().map_or(0, |group| {
            group.pending.capacity() * 48
                + group.owners.capacity() * 40
                + group.consumers.iter().map(|(name, ..)| name.len() + 64).sum::<usize>()
        })
    }

    fn take(&mut self, out: &mut impl Write, element: Element<'_>) -> io::Result<()> {
        match element {
            Element::Entry { id, fields } => {
                if mem::replace(&mut self.entries, true) {
                    out.write_all(b",")?;
                }
                write!(out, "[\"{id}\",[")?;
                let mut first = true;
                for text in fields.texts() {
                    comma(out, &mut first)?;
                    json::bytes(out, text)?;
                }
                out.write_all(b"]]")?;
            }
            Element::Stream(meta) => {
                write!(out, "],\"length\":{},\"last_id\":\"{}\"", meta.length, meta.last_id)?;
                match meta.more {
                    Some(more) => write!(
                        out,
                        ",\"max_deleted_id\":\"{}\",\"entries_added\":{}",
                        more.max_deleted_id, more.entries_added
                    )?,
                    None => out.write_all(b",\"max_deleted_id\":null,\"entries_added\":null")?,
                }
                out.write_all(b",\"groups\":[")?;
            }
            Element::Group { name, last_id, entries_read } => {
                self.end_group(out)?;
                self.group = Some(Group {
                    name: name.to_vec(),
                    last_id,
                    entries_read,
                    pending: Vec::new(),
                    owners: HashMap::new(),
                    consumers: Vec::new(),
                });
            }
            Element::Pending { id, delivered_at_ms, deliveries } => {
                if let Some(group) = &mut self.group {
                    group.pending.push((id, delivered_at_ms, deliveries));
                }
            }
            Element::Consumer { name, seen_at_ms, active_at_ms } => {
                if let Some(group) = &mut self.group {
                    group.consumers.push((name.to_vec(), seen_at_ms, active_at_ms));
                }
            }
            Element::Owned(id) => {
                if let Some(group) = &mut self.group {
                    group.owners.insert(id, group.consumers.len().saturating_sub(1));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end_group(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        if mem::replace(&mut self.groups, true) {
            out.write_all(b",")?;
        }
        out.write_all(b"{\"name\":")?;
        json::bytes(out, &group.name)?;
        write!(out, ",\"last_id\":\"{}\"", group.last_id)?;
        if self.knows_read {
            out.write_all(b",\"entries_read\":")?;
            json::number(out, group.entries_read)?;
        }
        out.write_all(b",\"pel\":[")?;
        let mut first = true;
        for (id, delivered_at_ms, deliveries) in &group.pending {
            comma(out, &mut first)?;
            write!(out, "[\"{id}\",")?;
            let owner = group.owners.get(id).and_then(|owner| group.consumers.get(*owner));
            match owner {
                Some((name, ..)) => json::bytes(out, name)?,
                None => out.write_all(b"null")?,
            }
            write!(out, ",{delivered_at_ms},{deliveries}]")?;
        }
        out.write_all(b"],\"consumers\":[")?;
        first = true;
        for (name, seen_at_ms, active_at_ms) in &group.consumers {
            comma(out, &mut first)?;
            out.write_all(b"{\"name\":")?;
            json::bytes(out, name)?;
            write!(out, ",\"seen_time_ms\":{seen_at_ms}")?;
            if self.knows_active {
                out.write_all(b",\"active_time_ms\":")?;
                json::number(out, *active_at_ms)?;
            }
            out.write_all(b"}")?;
        }
        out.write_all(b"]}")
    }

    fn end(mut self, out: &mut impl Write) -> io::Result<()> {
        self.end_group(out)?;
        out.write_all(b"]}")
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io::Cursor;
    use std::path::Path;
    use std::path::PathBuf;

    use flate2::read::GzDecoder;
    use serde_json::Value as Json;

    use super::*;

    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    fn corpus(test: &str) -> Option<PathBuf> {
        let found = env::var_os("UNDERSTUDY_CORPUS").map(PathBuf::from);
        if found.is_none() {
            println!("skipped: {test} (no UNDERSTUDY_CORPUS)");
        }
        found
    }

    fn keys(text: &[u8]) -> Vec<Json> {
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .filter(|line: &Json| line.get("key").is_some())
            .collect()
    }

    fn unpacked(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// In the order of the corpus: by database, then by the bytes of the key.
    fn in_order(mut keys: Vec<Json>) -> Vec<Json> {
        let order = |key: &Json| {
            (key["db"].as_u64().unwrap(), key["key"].as_str().unwrap().chars().collect::<Vec<_>>())
        };
        keys.sort_by_key(order);
        keys
    }

    fn same(name: &str, found: Vec<Json>, expected: Vec<Json>) {
        let (found, expected) = (in_order(found), in_order(expected));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (mut found, mut expected) in found.into_iter().zip(expected) {
            if expected["type"] == "vectorset" {
                assert_eq!(found["type"], "module:vectorset", "{name}");
                assert_eq!(found["key"], expected["key"], "{name}");
                continue;
            }
            if expected["type"] == "zset" {
                scores_to_numbers(&mut found);
                scores_to_numbers(&mut expected);
            }
            assert_eq!(found, expected, "{name}");
        }
    }

    /// Of a score the hexadecimal form counts; its text must be a text of the same number.
    fn scores_to_numbers(key: &mut Json) {
        for member in key["value"].as_array_mut().unwrap() {
            let number: f64 = member[1].as_str().unwrap().parse().unwrap();
            assert_eq!(format!("{:016x}", number.to_bits()), member[2], "{member}");
            member[1] = Json::Null;
        }
    }

    fn printed(bytes: &[u8]) -> Vec<Json> {
        let mut out = Vec::new();
        cat(Cursor::new(bytes), &mut out, 1 << 30).unwrap();
        keys(&out)
    }

    /// Compares each file of a folder with the JSON beside it. Gives how many there were.
    fn compare_all(folder: &Path) -> usize {
        let mut files = 0;
        for server in fs::read_dir(folder).unwrap() {
            let server = server.unwrap().path();
            if !server.is_dir() {
                continue;
            }
            for file in fs::read_dir(&server).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_none_or(|ending| ending != "rdb") {
                    continue;
                }
                let expected = fs::read(path.with_extension("json")).unwrap();
                let expected: Vec<Json> = serde_json::from_slice(&expected).unwrap();
                same(&path.display().to_string(), printed(&fs::read(&path).unwrap()), expected);
                files += 1;
            }
        }
        files
    }

    #[test]
    fn the_committed_files_print_as_their_servers_answered() {
        let files = compare_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb"));
        assert!(files > 30, "only {files} files");
    }

    #[test]
    fn every_file_of_the_corpus_prints_as_its_server_answered() {
        let Some(corpus) = corpus("every_file_of_the_corpus_prints_as_its_server_answered") else {
            return;
        };
        let files = compare_all(&corpus.join("rdb"));
        assert!(files > 100, "only {files} files in the corpus");
        let expected = unpacked(&corpus.join("rdb/big.json.gz"));
        let expected: Vec<Json> = serde_json::from_slice(&expected).unwrap();
        for server in fs::read_dir(corpus.join("rdb")).unwrap() {
            let big = server.unwrap().path().join("big.rdb.gz");
            if big.exists() {
                same(&big.display().to_string(), printed(&unpacked(&big)), expected.clone());
            }
        }
    }

    /// A file with one set of ten members, in an order of their own.
    fn file_with_a_set() -> Vec<u8> {
        let mut file = b"REDIS0004\x02\x03set\x0a".to_vec();
        for member in b"jcafihbdge" {
            file.extend_from_slice(&[1, *member]);
        }
        file.push(255);
        file
    }

    #[test]
    fn what_does_not_fit_comes_unsorted_and_says_so() {
        let line = |memory| {
            let mut out = Vec::new();
            cat(Cursor::new(file_with_a_set()), &mut out, memory).unwrap();
            String::from_utf8(out).unwrap()
        };
        let sorted = r#"{"db":0,"key":"set","type":"set","value":["a","b","c","d","e","f","g","h","i","j"],"expire_at_ms":null}"#;
        let unsorted = r#"{"db":0,"key":"set","type":"set","value":["j","c","a","f","i","h","b","d","g","e"],"expire_at_ms":null,"sorted":false}"#;
        assert_eq!(line(1 << 20), format!("{sorted}\n"));
        assert_eq!(line(200), format!("{unsorted}\n"));
    }

    #[test]
    fn a_module_is_null_with_its_size_and_digest() {
        // RedisJSON's ID, a string, the end
        let value = b"\x81\x44\x78\x24\xe2\x37\xcb\x94\x03\x05\x02{}\x00";
        let file = [&b"REDIS0009\xfa\x01a\x01\"\xf5\x05#!lua\x07\x01m"[..], value, &[255], &[0; 8]];
        let mut out = Vec::new();
        cat(Cursor::new(file.concat()), &mut out, 1 << 20).unwrap();
        let sum = understudy::rdb::crc::crc64(value);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "{}\n{}\n{}\n",
                r#"{"aux":"a","value":"\""}"#,
                r##"{"function":"#!lua"}"##,
                format_args!(
                    r#"{{"db":0,"key":"m","type":"module:RHgk4jfLl","value":null,"size":14,"digest":"crc64:{sum:016x}","expire_at_ms":null}}"#
                )
            )
        );
    }

    #[test]
    fn damage_ends_the_output_after_the_last_whole_key() {
        let mut file = file_with_a_set();
        let end = file.len() - 1;
        file[end] = 99;
        let mut out = Vec::new();
        let stopped = cat(Cursor::new(file), &mut out, 1 << 20).unwrap_err();
        assert_eq!(keys(&out).len(), 1);
        let Stopped::Rdb(error) = stopped else { panic!("{stopped:?}") };
        assert_eq!(error.at, end as u64);
    }
}
