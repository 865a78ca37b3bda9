//! Writes RDB files for a server of one's choice.
//!
//! A writer holds what was written and not yet [taken](Writer::take); its memory does not grow with the file if
//! it is emptied often enough. The values are made by an [`Encoder`](crate::rdb::value::Encoder), or handed on
//! as they stood in another file.

use bytes::BufMut;

use crate::key::Db;
use crate::rdb::crc::Crc64;
use crate::rdb::event::KeyHead;
use crate::rdb::event::Payload;
use crate::rdb::format::Format;
use crate::rdb::length::put_length;
use crate::rdb::opcode::ObjectType;
use crate::rdb::opcode::Opcode;
use crate::rdb::string::put_string;
use crate::rdb::support::Feature;
use crate::rdb::support::Unsupported;
use crate::rdb::value::Encoded;
use crate::server::Server;

/// A file in the making.
///
/// ```
/// use understudy::key::Db;
/// use understudy::rdb::event::{Element, KeyHead};
/// use understudy::rdb::opcode::ObjectType;
/// use understudy::rdb::value::Encoder;
/// use understudy::rdb::writer::Writer;
/// use understudy::server::{Flavour, Server, Version};
///
/// let server = Server { flavour: Flavour::Redis, version: Version(3, 0, 5) };
/// let mut writer = Writer::new(server)?;
/// let mut value = Encoder::new(ObjectType::ListQuicklist2, server)?;
/// value.push(&Element::Item(b"first"))?;
/// value.push(&Element::Item(b"second"))?;
/// let head = KeyHead {
///     db: Db::new(3),
///     key: b"list",
///     object: ObjectType::ListQuicklist2,
///     expire_at_ms: None,
///     idle_seconds: None,
///     freq: None,
/// };
/// writer.value(&head, &value.finish()?);
/// let file = writer.finish();
/// assert!(file.starts_with(b"REDIS0006\xfe\x03\x01\x04list\x02\x05first\x06second\xff"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    server: Server,
    format: Format,
    out: Vec<u8>,
    /// The sum of what was taken; `None` to write a file without one.
    crc: Option<Crc64>,
    db: Option<Db>,
}

impl Writer {
    /// Begins a file that `server` can load, in its own version of the format.
    ///
    /// # Errors
    /// [`Feature::Files`] for a server before 2.6, whose files know deadlines in seconds only.
    pub fn new(server: Server) -> Result<Self, Unsupported> {
        let format = server.rdb_format();
        if format.version < OLDEST {
            return Err(Unsupported { what: Feature::Files, server });
        }
        Ok(Self { server, format, out: format.encode().into(), crc: Some(Crc64::new()), db: None })
    }

    /// Writes no checksum: the file ends with eight zero bytes, as with `rdbchecksum no`, and no server checks it.
    #[must_use]
    pub fn without_checksum(mut self) -> Self {
        self.crc = None;
        self
    }

    /// Writes a note about the file. Servers pass over one that they do not know; below RDB 7 there are no notes,
    /// and nothing is written.
    pub fn aux(&mut self, name: &[u8], value: &[u8]) {
        if self.format.version >= FIRST_AUX {
            self.out.put_u8(Opcode::Aux.byte());
            put_string(&mut self.out, name);
            put_string(&mut self.out, value);
        }
    }

    /// Writes a library of functions, its code as `FUNCTION LOAD` takes it. They stand before the first key.
    ///
    /// # Errors
    /// [`Feature::Functions`] for a server before 7.0.
    pub fn function(&mut self, code: &[u8]) -> Result<(), Unsupported> {
        if self.format.version < FIRST_FUNCTION {
            return Err(Unsupported { what: Feature::Functions, server: self.server });
        }
        self.out.put_u8(Opcode::Function.byte());
        put_string(&mut self.out, code);
        Ok(())
    }

    /// Goes to a database and says how large it will be, so that the server makes its tables once. A guess will
    /// do. Below RDB 7 the sizes are left out.
    pub fn resize_db(&mut self, db: Db, keys: u64, expires: u64) {
        self.select(db);
        if self.format.version >= FIRST_AUX {
            self.out.put_u8(Opcode::ResizeDb.byte());
            put_length(&mut self.out, keys);
            put_length(&mut self.out, expires);
        }
    }

    /// Writes a key and its value, encoded for this server, of which nothing was taken before.
    pub fn value(&mut self, head: &KeyHead<'_>, value: &Encoded) {
        self.key(head, value.object);
        value.put(&mut self.out);
    }

    /// Writes a key and its value as another file had it. The server must [read](Server::reads) its type.
    pub fn payload(&mut self, head: &KeyHead<'_>, payload: Payload<'_>) {
        self.key(head, payload.object);
        self.out.put_slice(payload.body);
    }

    /// Writes a key and what stands before it; its database too, if the last key had another. The body of a value
    /// of this type must follow, by [`body`](Self::body).
    ///
    /// A deadline before 1970 becomes its first millisecond. Below RDB 9 the times of use are left out.
    pub fn key(&mut self, head: &KeyHead<'_>, object: ObjectType) {
        self.select(head.db);
        if let Some(at) = head.expire_at_ms {
            self.out.put_u8(Opcode::ExpireMs.byte());
            self.out.put_i64_le(at.max(0));
        }
        if self.format.version >= FIRST_USE {
            if let Some(seconds) = head.idle_seconds {
                self.out.put_u8(Opcode::Idle.byte());
                put_length(&mut self.out, seconds);
            }
            if let Some(freq) = head.freq {
                self.out.put_u8(Opcode::Freq.byte());
                self.out.put_u8(freq);
            }
        }
        self.out.put_u8(object.byte());
        put_string(&mut self.out, head.key);
    }

    /// Writes a piece of the body of the key before it.
    pub fn body(&mut self, piece: &[u8]) {
        self.out.put_slice(piece);
    }

    /// Takes away what was written so far: the next bytes of the file.
    pub fn take(&mut self) -> Vec<u8> {
        self.swap(Vec::new())
    }

    /// The same, and goes on in the memory of `empty`, whose content is dropped.
    pub fn swap(&mut self, mut empty: Vec<u8>) -> Vec<u8> {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.out);
        }
        empty.clear();
        std::mem::replace(&mut self.out, empty)
    }

    /// Ends the file and gives the last bytes of it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.end()
    }

    /// Ends the file and gives the last bytes of it. Nothing may be written after it.
    pub fn end(&mut self) -> Vec<u8> {
        self.out.put_u8(Opcode::End.byte());
        let mut last = self.take();
        last.put_u64_le(self.crc.as_ref().map_or(0, Crc64::sum));
        last
    }

    /// How many bytes were written and not taken.
    #[must_use]
    pub const fn ready(&self) -> usize {
        self.out.len()
    }

    /// Whom it is written for.
    #[must_use]
    pub const fn server(&self) -> Server {
        self.server
    }

    fn select(&mut self, db: Db) {
        if self.db != Some(db) {
            self.db = Some(db);
            self.out.put_u8(Opcode::SelectDb.byte());
            put_length(&mut self.out, db.index().into());
        }
    }
}

/// The version from which on a file has a checksum, and deadlines in milliseconds.
const OLDEST: u16 = 6;
/// Of notes and sizes.
const FIRST_AUX: u16 = 7;
/// Of idle times and frequencies.
const FIRST_USE: u16 = 9;
const FIRST_FUNCTION: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::crc::crc64;
    use crate::rdb::event::Event;
    use crate::rdb::reader::Next;
    use crate::rdb::reader::Reader;
    use crate::server::Flavour;
    use crate::server::Version;

    const fn redis(major: u16, minor: u16) -> Server {
        Server { flavour: Flavour::Redis, version: Version(major, minor, 0) }
    }

    const HEAD: KeyHead<'_> = KeyHead {
        db: Db::new(2),
        key: b"k",
        object: ObjectType::String,
        expire_at_ms: Some(1_700_000_000_123),
        idle_seconds: Some(70),
        freq: None,
    };

    /// A file with one of everything.
    fn file(mut writer: Writer) -> Vec<u8> {
        let functions = writer.function(b"#!lua name=f\n");
        assert_eq!(functions.is_ok(), writer.server().version >= Version(7, 0, 0));
        writer.aux(b"redis-ver", b"7");
        writer.resize_db(Db::new(2), 2, 1);
        writer.payload(&HEAD, Payload { object: ObjectType::String, body: b"\x01v" });
        let rare = KeyHead { key: b"r", expire_at_ms: Some(-3), idle_seconds: None, ..HEAD };
        writer.key(&KeyHead { freq: Some(9), ..rare }, ObjectType::String);
        let mut out = writer.take();
        assert_eq!(writer.ready(), 0);
        writer.body(b"\x02");
        writer.body(b"xy");
        let last = KeyHead { db: Db::new(70), key: b"l", expire_at_ms: None, ..HEAD };
        writer.payload(&last, Payload { object: ObjectType::String, body: b"\x00" });
        out.extend(writer.finish());
        out
    }

    #[test]
    fn each_version_gets_the_opcodes_that_it_knows() {
        let old = file(Writer::new(redis(2, 8)).unwrap());
        let expected = b"REDIS0006\
            \xfe\x02\xfc\x7b\x68\xe5\xcf\x8b\x01\0\0\x00\x01k\x01v\xfc\0\0\0\0\0\0\0\0\x00\x01r\x02xy\
            \xfe\x40\x46\x00\x01l\x00\xff";
        assert_eq!(old[..old.len() - 8], expected[..]);
        let newer = file(Writer::new(redis(3, 2)).unwrap());
        assert!(newer.starts_with(b"REDIS0007\xfa\x09redis-ver\x017\xfe\x02\xfb\x02\x01\xfc"));
        let newest = file(Writer::new(redis(7, 0)).unwrap());
        assert!(newest.starts_with(
            b"REDIS0010\xf5\x0d#!lua name=f\n\xfa\x09redis-ver\x017\xfe\x02\xfb\x02\x01\
              \xfc\x7b\x68\xe5\xcf\x8b\x01\0\0\xf8\x40\x46\x00\x01k\x01v\
              \xfc\0\0\0\0\0\0\0\0\xf9\x09\x00\x01r"
        ));
        let refused = Writer::new(redis(2, 4)).unwrap_err();
        assert_eq!(refused.what, Feature::Files);
    }

    #[test]
    fn the_sum_stands_at_the_end_or_is_zero() {
        let summed = file(Writer::new(redis(6, 2)).unwrap());
        let (bytes, sum) = summed.split_last_chunk::<8>().unwrap();
        assert_eq!(u64::from_le_bytes(*sum), crc64(bytes));
        let unsummed = file(Writer::new(redis(6, 2)).unwrap().without_checksum());
        assert_eq!(unsummed, [bytes, &[0; 8]].concat());
    }

    #[test]
    fn what_was_written_is_read() {
        let valkey = Server { flavour: Flavour::Valkey, version: Version(9, 0, 0) };
        for server in [redis(2, 6), redis(4, 0), redis(7, 2), redis(8, 0), valkey] {
            let bytes = file(Writer::new(server).unwrap());
            let mut reader = Reader::new();
            reader.extend(&bytes);
            let mut keys = Vec::new();
            loop {
                match reader.next().unwrap() {
                    Next::Event(Event::Key(head)) => {
                        keys.push((head.db, head.key.to_vec(), head.expire_at_ms));
                    }
                    Next::Event(Event::Header(format)) => assert_eq!(format, server.rdb_format()),
                    Next::Event(_) => {}
                    Next::NeedMore => panic!("{server}: the file was cut short"),
                    Next::End(_) => break,
                }
            }
            let expected = [
                (Db::new(2), b"k".to_vec(), HEAD.expire_at_ms),
                (Db::new(2), b"r".to_vec(), Some(0)),
                (Db::new(70), b"l".to_vec(), None),
            ];
            assert_eq!(keys, expected, "{server}");
        }
    }
}
