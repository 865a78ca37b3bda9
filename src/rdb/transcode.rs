//! Values as they stand in one server's file, made fit for another server's `RESTORE`.

use bytes::BufMut;

use crate::rdb::dump::Footer;
use crate::rdb::dump::seal;
use crate::rdb::error::RdbError;
use crate::rdb::event::Element;
use crate::rdb::event::Event;
use crate::rdb::event::Payload;
use crate::rdb::parser::Parser;
use crate::rdb::parser::Step;
use crate::rdb::support::Feature;
use crate::rdb::support::Unsupported;
use crate::rdb::value::EncodeError;
use crate::rdb::value::Encoded;
use crate::rdb::value::Encoder;
use crate::rdb::value::Lost;
use crate::server::Server;

/// The form in which a server's `RESTORE` takes a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit<'a> {
    /// As it stands in the file, byte for byte.
    Verbatim {
        /// The value.
        payload: Payload<'a>,
        /// What the footer must carry; see [`Server::restore_version`].
        version: u16,
    },
    /// In an older form, or in that of its family. [`Encoded::lost`] says what is not in it.
    Transcoded {
        /// The value.
        value: Encoded,
        /// What the footer must carry.
        version: u16,
    },
}

/// Finds the form in which `server` takes this value. One that it reads as it stands is not looked into.
///
/// # Errors
/// [`TranscodeError`]: if the server cannot hold such a value in any form, or if the value has to be written anew
/// and is damaged.
pub fn fit<'a>(payload: Payload<'a>, server: Server) -> Result<Fit<'a>, TranscodeError> {
    if let Some(version) = server.restore_version(payload.object) {
        return Ok(Fit::Verbatim { payload, version });
    }
    let value = transcode(payload, server)?;
    match server.restore_version(value.object) {
        Some(version) => Ok(Fit::Transcoded { value, version }),
        None => Err(Unsupported { what: Feature::Restore, server }.into()),
    }
}

impl Fit<'_> {
    /// How many bytes [`put_dump`](Self::put_dump) writes.
    #[must_use]
    pub const fn dump_len(&self) -> usize {
        let body = match self {
            Self::Verbatim { payload, .. } => payload.body.len(),
            Self::Transcoded { value, .. } => value.head.len() + value.rest.len(),
        };
        1 + body + Footer::LEN
    }

    /// Writes the payload that `RESTORE` takes: type, body and footer.
    pub fn put_dump(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let version = match self {
            Self::Verbatim { payload, version } => {
                out.put_u8(payload.object.byte());
                out.put_slice(payload.body);
                version
            }
            Self::Transcoded { value, version } => {
                out.put_u8(value.object.byte());
                value.put(out);
                version
            }
        };
        seal(out, start, *version);
    }

    /// What the server cannot hold and is not in it.
    #[must_use]
    pub fn lost(&self) -> Lost {
        match self {
            Self::Verbatim { .. } => Lost::default(),
            Self::Transcoded { value, .. } => value.lost,
        }
    }
}

/// Writes a value anew, in the plain form that `server` reads.
///
/// # Errors
/// [`TranscodeError`]
pub fn transcode(payload: Payload<'_>, server: Server) -> Result<Encoded, TranscodeError> {
    transcode_with(payload, server, |at_ms| at_ms)
}

/// The same, with each deadline of a hash field put through `deadline`.
///
/// # Errors
/// [`TranscodeError`]
pub fn transcode_with(
    payload: Payload<'_>,
    server: Server,
    mut deadline: impl FnMut(i64) -> i64,
) -> Result<Encoded, TranscodeError> {
    let mut encoder = Encoder::new(payload.object, server)?;
    let mut parser = Parser::for_value(payload.object);
    parser.set_element_limit(usize::MAX);
    let mut rest = payload.body;
    loop {
        let (step, used) = parser.step(rest)?;
        match step {
            Step::Event(Event::Element(Element::Field {
                field,
                value,
                expire_at_ms: Some(at),
            })) => {
                let expire_at_ms = Some(deadline(at));
                encoder.push(&Element::Field { field, value, expire_at_ms })?;
            }
            Step::Event(Event::Element(element)) => encoder.push(&element)?,
            Step::Event(Event::ValueEnd) => break,
            Step::Event(_) | Step::End(_) => return Err(EncodeError::Misplaced.into()),
            Step::NeedMore => return Err(parser.truncated().into()),
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(encoder.finish()?)
}

/// Why a value has no form that the server takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// It cannot hold such a value.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The value is damaged; the position is counted from the first byte of its body.
    #[error(transparent)]
    Damaged(#[from] RdbError),
    /// It is too large for the form that it must take.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
