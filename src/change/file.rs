//! Records of an RDB as records of another RDB.

use crate::key::{Db, Escaped};
use crate::rdb::event::{Element, KeyHead};
use crate::rdb::opcode::{ObjectType, ValueType};
use crate::rdb::parser::Depth;
use crate::rdb::support::{Feature, Unsupported};
use crate::rdb::transcode::TranscodeError;
use crate::rdb::value::{Encoded, Encoder};
use crate::rdb::writer::Writer;
use crate::server::Server;

use super::fitted::has_field_deadlines;

/// Writes records into a file for a certain server: as they stand where it reads them, else in a form that it reads.
#[derive(Debug)]
pub struct FileCopy {
    server: Server,
    record: Record,
}

/// The record whose value is awaited.
#[derive(Debug)]
enum Record {
    /// None, or one that is left out.
    None,
    /// Its head is in the file, and its value comes as it stands.
    Pieces,
    /// It is written anew.
    Anew(Box<Anew>),
}

#[derive(Debug)]
struct Anew {
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
    expire_at_ms: Option<i64>,
    idle_seconds: Option<u64>,
    freq: Option<u8>,
    later: Later,
    encoder: Encoder,
    /// Something was taken from the encoder and lies aside.
    parted: bool,
}

/// By how much deadlines are later in the file than on the source. What was dead there stays so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Later {
    /// So many milliseconds.
    pub by: i64,
    /// What had to die by this time of the source's clock is dead.
    pub now_ms: i64,
}

impl Later {
    /// Whether something with this deadline may not be in the file any more: it would live again.
    #[must_use]
    pub fn buries(&self, expire_at_ms: Option<i64>) -> bool {
        self.by > 0 && expire_at_ms.is_some_and(|at| at <= self.now_ms)
    }

    fn of(&self, expire_at_ms: Option<i64>) -> Option<i64> {
        expire_at_ms.map(|at| at.saturating_add(self.by))
    }
}

/// A key that cannot be in a file for this server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("db {db}: key {} ({})", Escaped(key), object.value_type().name())]
pub struct FileCopyError {
    /// Its database.
    pub db: Db,
    /// Its key.
    pub key: Vec<u8>,
    /// How the source has its value.
    pub object: ObjectType,
    /// Why.
    #[source]
    pub source: TranscodeError,
}

/// How a record has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is in the file.
    Written,
    /// It is not: it was left out, or is a collection of nothing, which servers refuse.
    Left,
    /// What lies aside belongs behind what was written, and then these bytes.
    Aside(Vec<u8>),
}

impl FileCopy {
    /// Records for a file that this server reads.
    #[must_use]
    pub const fn new(server: Server) -> Self {
        Self { server, record: Record::None }
    }

    /// Takes the head of a record, and says how its value is wanted. Of a module's value the elements are, which tell whose it is.
    ///
    /// # Errors
    /// If the server has no such values.
    pub fn key(
        &mut self,
        head: &KeyHead<'_>,
        later: Later,
        writer: &mut Writer,
    ) -> Result<Depth, FileCopyError> {
        let head = &KeyHead { expire_at_ms: later.of(head.expire_at_ms), ..*head };
        let is_changed = later.by > 0 && has_field_deadlines(head.object)
            || head.object.value_type() == ValueType::Module;
        if self.server.reads(head.object) && !is_changed {
            writer.key(head, head.object);
            self.record = Record::Pieces;
            return Ok(Depth::Pieces);
        }
        let encoder =
            Encoder::new(head.object, self.server).map_err(|unsupported| FileCopyError {
                db: head.db,
                key: head.key.to_vec(),
                object: head.object,
                source: unsupported.into(),
            })?;
        self.record = Record::Anew(Box::new(Anew {
            db: head.db,
            key: head.key.to_vec(),
            object: head.object,
            expire_at_ms: head.expire_at_ms,
            idle_seconds: head.idle_seconds,
            freq: head.freq,
            later,
            encoder,
            parted: false,
        }));
        Ok(Depth::Elements)
    }

    /// Leaves a record out, and says so to who reads it.
    pub fn leave_out(&mut self) -> Depth {
        self.record = Record::None;
        Depth::Skip
    }

    /// Takes a part of a value that is written anew.
    ///
    /// # Errors
    /// If it is none of such a value.
    pub fn element(&mut self, element: &Element<'_>) -> Result<(), FileCopyError> {
        let Record::Anew(anew) = &mut self.record else { return Ok(()) };
        let element = match *element {
            Element::Module { module, .. } if self.server.has_built_in(module) == Some(false) => {
                let (what, server) = (Feature::VectorSets, self.server);
                return Err(anew.error(Unsupported { what, server }.into()));
            }
            Element::Field { expire_at_ms, .. } if anew.later.buries(expire_at_ms) => return Ok(()),
            Element::Field { field, value, expire_at_ms } => {
                Element::Field { field, value, expire_at_ms: anew.later.of(expire_at_ms) }
            }
            other => other,
        };
        anew.encoder.push(&element).map_err(|error| anew.error(error.into()))
    }

    /// The record whose value is being written anew: its database and its key.
    #[must_use]
    pub fn current(&self) -> Option<(Db, &[u8])> {
        match &self.record {
            Record::Anew(anew) => Some((anew.db, &anew.key)),
            Record::None | Record::Pieces => None,
        }
    }

    /// How many bytes of a value that is written anew wait in memory for its end.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match &self.record {
            Record::Anew(anew) => anew.encoder.ready(),
            Record::None | Record::Pieces => 0,
        }
    }

    /// Takes them, to be laid aside behind what was taken of the value before.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.record {
            Record::Anew(anew) => {
                anew.parted = true;
                anew.encoder.take()
            }
            Record::None | Record::Pieces => Vec::new(),
        }
    }

    /// Ends the value.
    ///
    /// # Errors
    /// If it is not whole, or has something that the server has not.
    pub fn end(&mut self, writer: &mut Writer) -> Result<Ending, FileCopyError> {
        let anew = match std::mem::replace(&mut self.record, Record::None) {
            Record::None => return Ok(Ending::Left),
            Record::Pieces => return Ok(Ending::Written),
            Record::Anew(anew) => anew,
        };
        let Anew { db, key, object, expire_at_ms, idle_seconds, freq, encoder, parted, .. } = *anew;
        let strict = |encoded: Encoded| Ok(encoded.strict(self.server)?);
        let encoded = encoder.finish().map_err(TranscodeError::from).and_then(strict);
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(source) => return Err(FileCopyError { db, key, object, source }),
        };
        if encoded.elements == 0 && object.value_type() != ValueType::Stream {
            return Ok(Ending::Left);
        }
        let head = KeyHead { db, key: &key, object, expire_at_ms, idle_seconds, freq };
        if parted {
            writer.key(&head, encoded.object);
            writer.body(&encoded.head);
            return Ok(Ending::Aside(encoded.rest));
        }
        writer.value(&head, &encoded);
        Ok(Ending::Written)
    }
}

impl Anew {
    fn error(&self, source: TranscodeError) -> FileCopyError {
        FileCopyError { db: self.db, key: self.key.clone(), object: self.object, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::event::{Event, ModuleId};
    use crate::rdb::reader::{Next, Reader};

    fn server(name: &str) -> Server {
        Server::parse(name).unwrap()
    }

    const NEVER: Later = Later { by: 0, now_ms: 0 };

    const fn head(key: &'static [u8], object: ObjectType) -> KeyHead<'static> {
        let (expire_at_ms, idle_seconds, freq) = (Some(77), Some(3), None);
        KeyHead { db: Db::new(1), key, object, expire_at_ms, idle_seconds, freq }
    }

    fn field(field: &'static [u8], expire_at_ms: Option<i64>) -> Element<'static> {
        Element::Field { field, value: b"v", expire_at_ms }
    }

    /// Heads and elements of a file.
    fn said(file: &[u8]) -> Vec<String> {
        let mut reader = Reader::new();
        reader.set_default_depth(Depth::Elements);
        reader.extend(file);
        let mut said = Vec::new();
        loop {
            match reader.next().unwrap() {
                Next::Event(event @ (Event::Key(_) | Event::Element(_))) => {
                    said.push(format!("{event:?}"));
                }
                Next::Event(_) => {}
                Next::End(_) => return said,
                Next::NeedMore => panic!("cut short"),
            }
        }
    }

    #[test]
    fn what_the_server_reads_is_taken_as_it_stands() {
        let mut writer = Writer::new(server("redis-7.2")).unwrap();
        let mut copy = FileCopy::new(server("redis-7.2"));
        let list = head(b"k", ObjectType::SetListpack);
        assert_eq!(copy.key(&list, NEVER, &mut writer), Ok(Depth::Pieces));
        writer.body(b"\x01");
        assert_eq!(copy.waiting(), 0);
        assert_eq!(copy.end(&mut writer), Ok(Ending::Written));
        assert!(
            writer
                .finish()
                .starts_with(b"REDIS0011\xfe\x01\xfcM\0\0\0\0\0\0\0\xf8\x03\x14\x01k\x01\xff")
        );
    }

    #[test]
    fn what_it_does_not_read_is_written_anew_in_one_piece_or_in_two() {
        for parted in [false, true] {
            let mut writer = Writer::new(server("redis-6.2")).unwrap();
            let mut copy = FileCopy::new(server("redis-6.2"));
            let hash = head(b"h", ObjectType::HashListpack);
            assert_eq!(copy.key(&hash, NEVER, &mut writer), Ok(Depth::Elements));
            copy.element(&field(b"a", None)).unwrap();
            let aside = if parted { copy.take() } else { Vec::new() };
            copy.element(&field(b"b", None)).unwrap();
            match copy.end(&mut writer).unwrap() {
                Ending::Aside(rest) if parted => {
                    writer.body(&aside);
                    writer.body(&rest);
                }
                other => assert_eq!((parted, other), (false, Ending::Written)),
            }
            let file = writer.finish();
            let said = said(&file);
            let old = KeyHead { object: ObjectType::Hash, ..hash };
            let expected = [
                format!("{:?}", Event::Key(old)),
                format!("{:?}", Event::Element(field(b"a", None))),
                format!("{:?}", Event::Element(field(b"b", None))),
            ];
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn what_it_cannot_hold_is_named() {
        let mut writer = Writer::new(server("redis-3.0")).unwrap();
        let mut copy = FileCopy::new(server("redis-3.0"));
        let stream = head(b"s\n", ObjectType::StreamListpacks3);
        let error = copy.key(&stream, NEVER, &mut writer).unwrap_err();
        let name = "stream";
        assert_eq!(error.to_string(), format!("db 1: key \"s\\n\" ({name})"));
        assert_eq!(error.source.to_string(), "Redis 3.0.0 cannot hold streams");

        let hash = head(b"h", ObjectType::HashMetadata);
        assert_eq!(copy.key(&hash, NEVER, &mut writer), Ok(Depth::Elements));
        copy.element(&field(b"a", Some(5))).unwrap();
        let error = copy.end(&mut writer).unwrap_err();
        assert_eq!(error.source.to_string(), "Redis 3.0.0 cannot hold deadlines of hash fields");
    }

    #[test]
    fn what_is_left_out_leaves_nothing() {
        let mut writer = Writer::new(server("redis-3.0")).unwrap();
        let mut copy = FileCopy::new(server("redis-3.0"));
        assert_eq!(copy.leave_out(), Depth::Skip);
        assert_eq!(copy.end(&mut writer), Ok(Ending::Left));
        let empty = head(b"h", ObjectType::HashListpack);
        copy.key(&empty, NEVER, &mut writer).unwrap();
        assert_eq!(copy.end(&mut writer), Ok(Ending::Left));
        assert!(writer.finish().starts_with(b"REDIS0006\xff"));
    }

    #[test]
    fn deadlines_come_later_and_what_was_dead_stays_dead() {
        let later = Later { by: 1000, now_ms: 50 };
        assert!(later.buries(Some(50)) && !later.buries(Some(51)) && !later.buries(None));
        assert!(!NEVER.buries(Some(0)));
        let mut writer = Writer::new(server("redis-8.0")).unwrap();
        let mut copy = FileCopy::new(server("redis-8.0"));
        // The reader has this form, and its fields' deadlines are changed all the same.
        let hash = head(b"h", ObjectType::HashListpackEx);
        assert_eq!(copy.key(&hash, later, &mut writer), Ok(Depth::Elements));
        assert_eq!(copy.current(), Some((Db::new(1), &b"h"[..])));
        for (name, at) in [(&b"a"[..], Some(50)), (b"b", Some(60)), (b"c", None)] {
            copy.element(&Element::Field { field: name, value: b"v", expire_at_ms: at }).unwrap();
        }
        assert_eq!(copy.end(&mut writer), Ok(Ending::Written));
        let string = head(b"s", ObjectType::String);
        assert_eq!(copy.key(&string, later, &mut writer), Ok(Depth::Pieces));
        writer.body(b"\x01v");
        assert_eq!(copy.current(), None);
        let said = said(&writer.finish());
        let dies = |at| format!("expire_at_ms: {:?}", Some(at));
        assert_eq!(said.iter().filter(|line| line.contains(&dies(1077))).count(), 2, "{said:?}");
        let fields: Vec<_> = said.iter().filter(|line| line.contains("Field")).collect();
        assert_eq!(fields.len(), 2, "{said:?}");
        assert!(fields[0].contains(&dies(1060)) && fields[1].contains("None"), "{said:?}");
    }

    #[test]
    fn a_modules_type_that_only_newer_servers_have_is_named() {
        let vectors = ModuleId::new(0xbde7_2da2_bb1e_b400);
        assert_eq!(vectors.to_string(), "vectorset");
        let value = Element::Module { module: vectors, bytes: b"" };
        for (name, has) in [("redis-8.0", true), ("redis-7.4", false), ("valkey-9.1", false)] {
            let mut writer = Writer::new(server(name)).unwrap();
            let mut copy = FileCopy::new(server(name));
            let vectors = head(b"k", ObjectType::Module2);
            assert_eq!(copy.key(&vectors, NEVER, &mut writer), Ok(Depth::Elements));
            let said = copy.element(&value).map_err(|error| error.source.to_string());
            assert_eq!(said.is_ok(), has, "{name}");
            assert!(said.err().is_none_or(|said| said.ends_with("cannot hold vector sets")));
        }
    }
}
