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
use crate::rdb::readers::Feature;
use crate::rdb::readers::Unsupported;
use crate::rdb::string::put_string;
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
        if let Some(crc) = &mut self.crc {
            crc.update(&self.out);
        }
        std::mem::take(&mut self.out)
    }

    /// Ends the file and gives the last bytes of it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.put_u8(Opcode::End.byte());
        let mut last = self.take();
        last.put_u64_le(self.crc.map_or(0, |crc| crc.sum()));
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
