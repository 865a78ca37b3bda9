//! Captures: the bytes that a master sent after the request for its data, and what is noted beside them.
//!
//! A capture is two files: the bytes as they came, and a [`Sidecar`] in JSON. [`Layout`] is what the bytes themselves say of
//! their parts; the sidecar says when they were recorded and from whom, and repeats the layout for readers that do not
//! parse RDB.

use std::fmt;
use std::ops::Range;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::offset::{Offset, ReplId};
use crate::rdb::event::Event as RdbEvent;
use crate::server::{Flavour, Server, Version};

use super::session::{Event, Exchange, Resume};

/// The version of the sidecar's form that is written, and the newest that is read. A sidecar that names none is read too.
const VERSION: u32 = 1;

/// Where the parts of a capture stand, in bytes from its beginning, and what its stream comes to.
///
/// It is put together from the events of a [`Session`](super::Session) that began with
/// [`Session::asked`](super::Session::asked), each with the place where it ends.
///
/// ```
/// use std::time::Duration;
/// use understudy::repl::{Layout, Part, ReplError, Session};
///
/// /// Takes what a session can tell of the bytes that were read into it.
/// fn survey(session: &mut Session, layout: &mut Layout) -> Result<(), ReplError> {
///     while let Some(event) = session.poll_event(Duration::ZERO)? {
///         let part = Part::of(&event);
///         layout.add(part, session.position());
///     }
///     Ok(())
/// }
/// # let bytes = b"$18\r\nREDIS0006\xff\0\0\0\0\0\0\0\0PING\r\n";
/// # let (mut session, mut layout) = (Session::asked(true, None), Layout::default());
/// # session.buffer()[..bytes.len()].copy_from_slice(bytes);
/// # session.filled(bytes.len());
/// # survey(&mut session, &mut layout).unwrap();
/// # assert_eq!((layout.rdb_start, layout.stream_start, layout.command_count), (Some(5), Some(23), 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The lone newlines before the payload.
    pub newline_pings_at: Vec<u64>,
    /// The line that answers `PSYNC`, its end of line included; `None` after `SYNC`.
    pub psync_reply: Option<Range<u64>>,
    /// The master's history, and the offset at which the stream begins; `None` after `SYNC`.
    pub at: Option<Resume>,
    /// Whether the data set is in it.
    pub full_sync: bool,
    /// Where the `$` line begins.
    pub bulk_header_at: Option<u64>,
    /// The mark that stands behind the payload, if its length is not told.
    pub eof_mark: Option<[u8; 40]>,
    /// Where the payload begins.
    pub rdb_start: Option<u64>,
    /// Where the payload ends.
    pub rdb_end: Option<u64>,
    /// Where the stream begins.
    pub stream_start: Option<u64>,
    /// Where the last whole command ends, or the part before the stream.
    pub whole: u64,
    /// Where the last command ends behind which no transaction is open.
    pub settled: u64,
    /// Commands in the stream.
    pub command_count: u64,
    /// The server that wrote the payload, by the payload's own word (3.2 and later).
    pub server: Option<Server>,
    in_transaction: bool,
}

impl Layout {
    /// Adds the next part, which ends at this position of the capture.
    pub fn add(&mut self, part: Part, position: u64) {
        match part {
            Part::KeepAlive => self.newline_pings_at.push(position.saturating_sub(1)),
            Part::FullSync(at) => {
                self.full_sync = true;
                self.at = at;
                if at.is_none() {
                    // After SYNC it is the `$` line itself that says so, and the payload's beginning is told next.
                    return;
                }
                self.psync_reply = Some(self.whole..position);
            }
            Part::PartialSync(at) => {
                self.at = Some(at);
                self.psync_reply = Some(self.whole..position);
                self.stream_start = Some(position);
            }
            Part::PayloadBegins(mark) => {
                self.bulk_header_at = Some(self.whole);
                self.eof_mark = mark;
                self.rdb_start = Some(position);
            }
            Part::Writer(server) => self.server = Some(server),
            Part::PayloadRead => self.rdb_end = Some(position),
            Part::PayloadEnds => self.stream_start = Some(position),
            Part::Multi => self.in_transaction = true,
            Part::Exec => self.in_transaction = false,
            Part::Payload | Part::Command | Part::Blank => {}
        }
        self.command_count += u64::from(matches!(part, Part::Multi | Part::Exec | Part::Command));
        self.whole = position;
        if !self.in_transaction {
            self.settled = position;
        }
    }

    /// The offset that a position of the stream stands for. `None` before the stream, and after `SYNC`.
    #[must_use]
    pub fn offset_at(&self, position: u64) -> Option<Offset> {
        let into = position.checked_sub(self.stream_start?)?;
        Some(self.at?.offset.advance(into))
    }
}

/// What an event is to the layout of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A lone newline.
    KeepAlive,
    /// The answer that announces the data set.
    FullSync(Option<Resume>),
    /// The answer that goes on from where an earlier capture ends.
    PartialSync(Resume),
    /// The `$` line, with the mark that it names.
    PayloadBegins(Option<[u8; 40]>),
    /// The place in the payload where its writer says what it is.
    Writer(Server),
    /// Something else of the payload.
    Payload,
    /// The end of the payload.
    PayloadRead,
    /// The end of what frames the payload.
    PayloadEnds,
    /// A command that opens a transaction.
    Multi,
    /// A command that closes one.
    Exec,
    /// Any other command.
    Command,
    /// An empty line in the stream.
    Blank,
}

impl Part {
    /// What this event is.
    #[must_use]
    pub fn of(event: &Event<'_>) -> Self {
        match event {
            Event::KeepAlive => Self::KeepAlive,
            Event::FullSync { at, .. } => Self::FullSync(*at),
            Event::PartialSync { at } => Self::PartialSync(*at),
            Event::PayloadBegins { mark, .. } => Self::PayloadBegins(*mark),
            Event::Rdb(RdbEvent::Aux { name, value }) => {
                writer(name, value).map_or(Self::Payload, Self::Writer)
            }
            Event::Rdb(_) => Self::Payload,
            Event::PayloadRead { .. } => Self::PayloadRead,
            Event::PayloadEnds => Self::PayloadEnds,
            Event::Command(command) => match command.args().next() {
                None => Self::Blank,
                Some(name) if name.eq_ignore_ascii_case(b"MULTI") => Self::Multi,
                Some(name) if name.eq_ignore_ascii_case(b"EXEC") => Self::Exec,
                Some(_) => Self::Command,
            },
        }
    }
}

/// The server that a note in a payload names (3.2 and later).
fn writer(name: &[u8], value: &[u8]) -> Option<Server> {
    let flavour = match name {
        b"redis-ver" => Flavour::Redis,
        b"valkey-ver" => Flavour::Valkey,
        _ => return None,
    };
    Some(match Version::parse(std::str::from_utf8(value).ok()?)? {
        // Redict says only this. There is no Redis 7.3.
        version @ Version(7, 3, _) => Server { flavour: Flavour::Redict, version },
        version => Server { flavour, version },
    })
}

/// What is noted beside the bytes of a capture. Positions are bytes from the beginning of the capture.
///
/// A byte string stands in the JSON as a text with one code point, U+0000 to U+00FF, a byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sidecar {
    /// The version of this form; `None` in sidecars that others wrote.
    pub version: Option<u32>,
    /// The master: its family in lower case, a dash and its release, as in `redis-7.0.15`.
    pub server: Option<String>,
    /// The name of the file with the bytes.
    pub file: Option<String>,
    /// When the data was asked for, in milliseconds since 1970.
    pub recorded_from_ms: Option<i64>,
    /// When the last byte came.
    pub recorded_to_ms: Option<i64>,
    /// The questions of the handshake and their answers, the request for the data last.
    pub requests: Vec<Asked>,
    /// The line that answers `PSYNC`, without its end.
    pub psync_reply: Option<Latin1>,
    /// The name of the master's history.
    pub replid: Option<String>,
    /// The offset at which the stream begins.
    pub start_offset: Option<u64>,
    /// Whether the data set is in it.
    pub full_sync: bool,
    /// How the end of the payload is told; `None` when there is none.
    pub bulk_form: Option<BulkForm>,
    /// The mark that stands behind the payload.
    pub eof_mark: Option<Latin1>,
    /// The lone newlines before the payload.
    pub newline_pings_at: Vec<u64>,
    /// Where the `$` line begins.
    pub bulk_header_at: Option<u64>,
    /// Where the payload begins.
    pub rdb_start: Option<u64>,
    /// Where the payload ends.
    pub rdb_end: Option<u64>,
    /// Where the stream begins.
    pub stream_start: Option<u64>,
    /// Bytes of the whole capture; `None` while it is being recorded.
    pub total_bytes: Option<u64>,
    /// Bytes of the stream.
    pub stream_bytes: Option<u64>,
    /// The offset after the last byte.
    pub end_offset: Option<u64>,
    /// Commands in the stream.
    pub command_count: Option<u64>,
    /// Bytes of a last command that is not whole.
    pub incomplete_tail_bytes: Option<u64>,
}

/// How the end of a payload is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkForm {
    /// By its length, before it.
    Length,
    /// By a mark, behind it.
    Eof,
}

/// A question and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What was sent; of `AUTH` only the name.
    pub sent: Latin1,
    /// The line that came.
    #[serde(default)]
    pub reply: Option<Latin1>,
}

/// Bytes that stand in JSON as a text with one code point a byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latin1(pub Vec<u8>);

/// Why a sidecar cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SidecarError {
    /// It is no JSON, or not of this form.
    #[error("this is not the sidecar of a capture: {text} at byte {at}")]
    Form {
        /// The byte at which reading it failed.
        at: u64,
        /// What is wrong.
        text: String,
    },
    /// It does not tell when the capture was recorded, and deadlines in the stream count from then.
    #[error(
        "this is not the sidecar of a capture: it does not tell when that was recorded (recorded_from_ms)"
    )]
    Timeless,
    /// A later understudy wrote it.
    #[error("its form has version {0} and this understudy reads versions up to {VERSION}")]
    Newer(u32),
}

impl Sidecar {
    /// Reads a sidecar. Fields that are not known are passed over.
    ///
    /// # Errors
    /// If it is damaged, or of a newer version.
    pub fn parse(json: &[u8]) -> Result<Self, SidecarError> {
        // The version first: the rest of a newer form may not even be readable.
        #[derive(Deserialize)]
        struct Versioned {
            version: Option<u32>,
        }
        let form = |error: serde_json::Error| SidecarError::Form {
            at: byte_of(json, error.line(), error.column()),
            text: error.to_string(),
        };
        let Versioned { version } = serde_json::from_slice(json).map_err(form)?;
        if let Some(version) = version.filter(|version| *version > VERSION) {
            return Err(SidecarError::Newer(version));
        }
        serde_json::from_slice(json).map_err(form)
    }

    /// The sidecar, if its capture can be played with it.
    ///
    /// # Errors
    /// If it tells no time.
    pub fn playable(self) -> Result<Self, SidecarError> {
        if self.recorded_from_ms.is_none() { Err(SidecarError::Timeless) } else { Ok(self) }
    }

    /// As it is written to its file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A struct of texts and numbers has no way to fail.
        serde_json::to_string_pretty(self).map(|json| json + "\n").unwrap_or_default()
    }

    /// Takes over what a layout says. `total` is the size of the capture, if it is complete.
    pub fn describe(&mut self, layout: &Layout, total: Option<u64>) {
        self.version = Some(VERSION);
        self.replid = layout.at.map(|at| at.replid.to_string());
        self.start_offset = layout.at.map(|at| at.offset.get());
        self.full_sync = layout.full_sync;
        self.bulk_form = layout.bulk_header_at.map(|_| match layout.eof_mark {
            Some(_) => BulkForm::Eof,
            None => BulkForm::Length,
        });
        self.eof_mark = layout.eof_mark.map(|mark| Latin1(mark.to_vec()));
        self.newline_pings_at.clone_from(&layout.newline_pings_at);
        self.bulk_header_at = layout.bulk_header_at;
        self.rdb_start = layout.rdb_start;
        self.rdb_end = layout.rdb_end;
        self.stream_start = layout.stream_start;
        self.total_bytes = total;
        let into = |total: u64| total.checked_sub(layout.stream_start?);
        self.stream_bytes = total.and_then(into);
        self.end_offset = total.and_then(|total| layout.offset_at(total)).map(Offset::get);
        self.command_count = total.map(|_| layout.command_count);
        self.incomplete_tail_bytes = total.map(|total| total.saturating_sub(layout.whole));
    }

    /// Takes over the questions of a handshake and their answers.
    pub fn describe_handshake(&mut self, exchanges: &[Exchange]) {
        let asked = |exchange: &Exchange| Asked {
            sent: Latin1(exchange.sent.clone()),
            reply: exchange.reply.clone().map(Latin1),
        };
        self.requests = exchanges.iter().map(asked).collect();
        let answer = exchanges.last().and_then(|last| last.reply.as_deref());
        self.psync_reply =
            answer.map(|line| Latin1(line.strip_suffix(b"\r\n").unwrap_or(line).to_vec()));
    }

    /// The master, if it is named.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        let (family, version) = self.server.as_deref()?.split_once('-')?;
        let flavour = match family {
            "redis" => Flavour::Redis,
            "valkey" => Flavour::Valkey,
            "redict" => Flavour::Redict,
            _ => return None,
        };
        Some(Server { flavour, version: Version::parse(version)? })
    }

    /// Notes the master.
    pub fn set_server(&mut self, server: Server) {
        self.server = Some(format!("{}-{}", server.flavour, server.version).to_lowercase());
    }

    /// Where a capture that goes on from an earlier one begins: its master's history and its first offset. `None` if it is
    /// not such a one.
    #[must_use]
    pub fn resumes_at(&self) -> Option<Resume> {
        let replid = ReplId::parse(self.replid.as_deref()?.as_bytes())?;
        let resumed = self.psync_reply.as_ref()?.0.starts_with(b"+CONTINUE");
        resumed.then_some(Resume { replid, offset: Offset::new(self.start_offset?) })
    }

    /// What the master's clock showed, in milliseconds since 1970, when it sent the byte at this position, as far as it can
    /// be told: between the beginning and the end of the recording, as if the bytes had come evenly. Relative deadlines
    /// in the stream count from it. `None` if the sidecar names no time.
    #[must_use]
    pub fn time_at(&self, position: u64, total: u64) -> Option<i64> {
        let from = self.recorded_from_ms?;
        let lasted = i128::from(self.recorded_to_ms.unwrap_or(from).max(from)) - i128::from(from);
        let start = self.stream_start.unwrap_or(0);
        let (into, of) = (position.saturating_sub(start), total.saturating_sub(start));
        let passed = lasted * i128::from(into.min(of)) / i128::from(of.max(1));
        Some(from.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)))
    }
}

/// The byte that a line and a column of a text stand for, both counted from one.
fn byte_of(text: &[u8], line: usize, column: usize) -> u64 {
    let before: usize = text
        .split_inclusive(|&byte| byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    (before + column.saturating_sub(1)) as u64
}

impl Serialize for Latin1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().copied().map(char::from).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Latin1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Latin1;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text with one code point, U+0000 to U+00FF, a byte")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Latin1, E> {
                let byte = |c: char| u8::try_from(u32::from(c)).ok();
                let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
                bytes
                    .map(Latin1)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::repl::Session;

    const HEAD: &[u8] =
        b"\n+FULLRESYNC 3261b7e84fa23a4a39767bea41d5c09eb3555bc0 100\r\n\n\n$18\r\n";
    const RDB: &[u8] = b"REDIS0006\xff\0\0\0\0\0\0\0\0";
    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
    const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
    const EXEC: &[u8] = b"*1\r\n$4\r\nexec\r\n";

    fn survey(sync: bool, bytes: &[u8]) -> (Layout, Session) {
        let (mut session, mut layout) = (Session::asked(sync, None), Layout::default());
        session.buffer()[..bytes.len()].copy_from_slice(bytes);
        session.filled(bytes.len());
        while let Some(event) = session.poll_event(Duration::ZERO).unwrap() {
            let part = Part::of(&event);
            layout.add(part, session.position());
        }
        (layout, session)
    }

    #[test]
    fn the_parts_of_a_capture() {
        let bytes = [HEAD, RDB, PING, MULTI, PING, EXEC, b"*2\r\n$3"].concat();
        let (layout, session) = survey(false, &bytes);
        let (head, stream) = (HEAD.len() as u64, (HEAD.len() + RDB.len()) as u64);
        assert_eq!(layout.newline_pings_at, [0, 59, 60]);
        assert_eq!(layout.psync_reply, Some(1..59));
        assert_eq!(layout.bulk_header_at, Some(61));
        assert_eq!((layout.rdb_start, layout.rdb_end), (Some(head), Some(stream)));
        assert_eq!((layout.stream_start, layout.eof_mark), (Some(stream), None));
        assert_eq!((layout.command_count, layout.whole), (4, bytes.len() as u64 - 6));
        assert_eq!(layout.settled, layout.whole);
        assert_eq!(layout.offset_at(layout.whole), Some(Offset::new(100 + 14 + 15 + 14 + 14)));
        assert_eq!(session.offset(), Offset::new(157));
        assert_eq!((session.left_over(), layout.offset_at(3)), (6, None));
    }

    #[test]
    fn an_open_transaction_is_not_settled() {
        let bytes = [HEAD, RDB, PING, MULTI, PING].concat();
        let (layout, _) = survey(false, &bytes);
        assert_eq!(layout.whole, bytes.len() as u64);
        assert_eq!(layout.settled, (HEAD.len() + RDB.len() + PING.len()) as u64);
    }

    #[test]
    fn a_capture_of_a_master_without_psync() {
        let bytes = [b"\n\n$18\r\n", RDB, b"select 3\r\nPING\r\n"].concat();
        let (layout, _) = survey(true, &bytes);
        assert_eq!(layout.newline_pings_at, [0, 1]);
        assert_eq!((layout.psync_reply.clone(), layout.at), (None, None));
        assert_eq!((layout.bulk_header_at, layout.rdb_start), (Some(2), Some(7)));
        assert_eq!((layout.command_count, layout.offset_at(layout.whole)), (2, None));
        assert!(layout.full_sync);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = [HEAD, RDB, PING].concat();
        let (layout, _) = survey(false, &bytes);
        let mut sidecar = Sidecar {
            file: Some("a.bin".into()),
            recorded_from_ms: Some(1000),
            recorded_to_ms: Some(3000),
            ..Sidecar::default()
        };
        sidecar.set_server(Server { flavour: Flavour::Valkey, version: Version(9, 1, 2) });
        sidecar.describe(&layout, Some(bytes.len() as u64));
        sidecar.describe_handshake(&[Exchange {
            sent: b"\xff\0PSYNC".to_vec(),
            reply: Some(b"+FULLRESYNC \x80\r\n".to_vec()),
        }]);
        assert_eq!(sidecar.server.as_deref(), Some("valkey-9.1.2"));
        assert_eq!(sidecar.end_offset, Some(114));
        let json = sidecar.to_json();
        assert!(json.contains("\\u0000PSYNC") && json.contains("\"version\": 1"), "{json}");
        assert_eq!(Sidecar::parse(json.as_bytes()).unwrap(), sidecar);
        assert_eq!(sidecar.psync_reply, Some(Latin1(b"+FULLRESYNC \x80".to_vec())));
        assert_eq!(sidecar.resumes_at(), None);
    }

    #[test]
    fn others_sidecars_are_read_and_newer_ones_refused() {
        let theirs =
            br#"{"server":"redis-2.4.18","dataset":[{"db":0}],"replid":null,"full_sync":true,"recorded_from_ms":7}"#;
        let sidecar = Sidecar::parse(theirs).unwrap();
        assert_eq!(sidecar.server().unwrap().to_string(), "Redis 2.4.18");
        assert_eq!((sidecar.version, sidecar.start_offset), (None, None));
        assert!(sidecar.playable().is_ok());
        for json in [&b"{}"[..], br#"{"version":1}"#] {
            let sidecar = Sidecar::parse(json).unwrap();
            assert!(matches!(sidecar.playable(), Err(SidecarError::Timeless)));
        }
        let newer = br#"{"version":2,"requests":"in another form"}"#;
        assert!(matches!(Sidecar::parse(newer), Err(SidecarError::Newer(2))));
        let cut = b"{\n  \"server\": \"re";
        assert!(matches!(Sidecar::parse(cut), Err(SidecarError::Form { at: 16, .. })));
        let wide = r#"{"requests":[{"sent":"Ā"}]}"#;
        assert!(matches!(Sidecar::parse(wide.as_bytes()), Err(SidecarError::Form { .. })));
    }

    #[test]
    fn time_passes_evenly_over_the_stream() {
        let sidecar = Sidecar {
            recorded_from_ms: Some(1000),
            recorded_to_ms: Some(3000),
            stream_start: Some(100),
            ..Sidecar::default()
        };
        assert_eq!(sidecar.time_at(0, 300), Some(1000));
        assert_eq!(sidecar.time_at(100, 300), Some(1000));
        assert_eq!(sidecar.time_at(200, 300), Some(2000));
        assert_eq!(sidecar.time_at(300, 300), Some(3000));
        assert_eq!(sidecar.time_at(900, 300), Some(3000));
        assert_eq!(sidecar.time_at(100, 100), Some(1000));
        assert_eq!(Sidecar::default().time_at(1, 1), None);
    }
}
