//! The master's side of `SYNC` and `PSYNC`, over a capture: what its master said is said again, to any number of replicas.
//!
//! ```text
//!  Asked nothing ── PSYNC of a place inside ──▶ +CONTINUE ────────────────────┐
//!        │                                                                    ▼
//!        └───── SYNC, PSYNC ──▶ what was recorded up to the stream ──┬──▶ the stream, then pings
//!                                                                    │                  ▲
//!                                      with an end mark: Held ◀──────┘── first ACK ─────┘
//! ```
//!
//! What is to be sent is told as [`Piece`]s, so that a capture of any size needs no memory. The master that is played answers as its
//! version did, also where that was a refusal.
//!
//! When the recorded stream is over, a ping follows every ten seconds, as from a master that nobody writes to. So the stream of a
//! capture is the same for all its replicas and has an end at every moment: a replica that comes back finds its place, and no state is
//! shared between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::key::Escaped;
use crate::offset::Offset;
use crate::resp::{CommandReader, bulk};
use crate::server::{Flavour, Server, Version};

use super::capture::Layout;
use super::session::Resume;

/// A capture as a master's history.
#[derive(Clone, Debug)]
pub struct Served {
    server: Option<Server>,
    password: Option<String>,
    /// `None` for a master without `PSYNC`.
    at: Option<Resume>,
    /// In the file: the line that answers `PSYNC`.
    psync_reply: Range<u64>,
    bulk_header_at: u64,
    has_mark: bool,
    rdb: Range<u64>,
    stream: Range<u64>,
}

/// How often a master without writes pings its replicas (`repl-ping-replica-period`).
const PING_PERIOD: Duration = Duration::from_secs(10);

/// A replica's command has a few short arguments: so many bytes, with what each argument takes.
const LONGEST: usize = 16 << 10;

impl Served {
    /// A capture with this layout. Of the stream nothing is served behind the last whole command or transaction. `server` is who
    /// is played; without it whoever wrote the payload.
    ///
    /// `None` if the capture does not hold a data set and the beginning of a stream.
    #[must_use]
    pub fn new(layout: &Layout, server: Option<Server>) -> Option<Self> {
        let stream_start = layout.stream_start?;
        Some(Self {
            server: server.or(layout.server),
            password: None,
            at: layout.at,
            psync_reply: layout.psync_reply.clone().unwrap_or_default(),
            bulk_header_at: layout.bulk_header_at?,
            has_mark: layout.eof_mark.is_some(),
            rdb: layout.rdb_start?..layout.rdb_end?,
            stream: stream_start..layout.settled.max(stream_start),
        })
    }

    /// Lets nobody in without this password. Without one any is taken.
    #[must_use]
    pub fn with_password(mut self, password: String) -> Self {
        self.password = Some(password);
        self
    }

    /// Who is played, if that is known.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        self.server
    }

    /// Where the stream ends when it has been served for so long; `None` for a master without `PSYNC`.
    #[must_use]
    pub fn end(&self, now: Duration) -> Option<Offset> {
        Some(self.at?.offset.advance(self.len(now)))
    }

    /// Bytes of the recorded stream.
    fn recorded(&self) -> u64 {
        self.stream.end - self.stream.start
    }

    /// Bytes of the stream, with the pings behind it.
    fn len(&self, now: Duration) -> u64 {
        let pings = now.as_secs() / PING_PERIOD.as_secs();
        self.recorded().saturating_add(pings.saturating_mul(self.ping().len() as u64))
    }

    fn ping(&self) -> &'static [u8] {
        if self.is_since(2, 6) { b"*1\r\n$4\r\nPING\r\n" } else { b"PING\r\n" }
    }

    /// Whether the master that is played is of this release of Redis or a later one. One that is not known is of the newest.
    fn is_since(&self, major: u16, minor: u16) -> bool {
        self.server.is_none_or(|server| server.as_redis() >= Version(major, minor, 0))
    }

    /// The place in the stream that a replica asks for, if it is there.
    fn place(&self, replid: &[u8], next_byte: i64, now: Duration) -> Option<u64> {
        let at = self.at.filter(|at| replid.eq_ignore_ascii_case(at.replid.as_bytes()))?;
        let place = u64::try_from(next_byte).ok()?.checked_sub(at.offset.next_byte())?;
        (place <= self.len(now)).then_some(place)
    }

    fn info(&self, section: &str, now: Duration) -> String {
        let is = |name: &str| [name, "default", "all", "everything"].contains(&section);
        let mut text = String::new();
        if is("server") {
            text.push_str("# Server\r\n");
            match self.server {
                Some(Server { flavour: Flavour::Redis, version }) => {
                    text.push_str(&format!("redis_version:{version}\r\n"));
                }
                Some(Server { flavour: Flavour::Valkey, version }) => {
                    text.push_str("redis_version:7.2.4\r\nserver_name:valkey\r\n");
                    text.push_str(&format!("valkey_version:{version}\r\n"));
                }
                Some(Server { flavour: Flavour::Redict, version }) => {
                    text.push_str(&format!("redict_version:{version}\r\nredis_version:7.2.4\r\n"));
                }
                None => {}
            }
            text.push_str("redis_mode:standalone\r\n");
        }
        if is("replication") {
            text.push_str("# Replication\r\nrole:master\r\n");
            if let (Some(at), Some(end)) = (self.at, self.end(now)) {
                text.push_str(&format!(
                    "master_replid:{}\r\nmaster_repl_offset:{end}\r\nrepl_backlog_active:1\r\n\
                     repl_backlog_first_byte_offset:{}\r\nrepl_backlog_histlen:{}\r\n",
                    at.replid,
                    at.offset.next_byte(),
                    self.len(now),
                ));
            }
        }
        if is("cluster") {
            text.push_str("# Cluster\r\ncluster_enabled:0\r\n");
        }
        text
    }
}

/// Something to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This part of the capture.
    Capture(Range<u64>),
}

/// One connection to a master that is played: a replica, or somebody who asks about it.
///
/// What was read is given to [`handle_input`](Self::handle_input); what [`poll_transmit`](Self::poll_transmit) tells is sent, in its
/// order, until it tells nothing more. `now` counts from when the capture is served, for all connections alike.
#[derive(Debug)]
pub struct Serving {
    served: Arc<Served>,
    input: Vec<u8>,
    commands: CommandReader,
    output: VecDeque<Piece>,
    is_known: bool,
    takes_mark: bool,
    takes_new_name: bool,
    wants_payload_only: bool,
    feed: Feed,
    acknowledged: Option<Offset>,
    is_closing: bool,
}

/// What a replica is sent beyond answers.
#[derive(Clone, Copy, Debug)]
enum Feed {
    /// Nothing was asked for.
    None,
    /// The payload, and nothing behind it.
    Payload,
    /// The payload, and the stream once it is acknowledged.
    Held,
    /// The stream, told up to this place, counted from its beginning.
    Stream(u64),
}

impl Serving {
    /// A connection that has just been made.
    #[must_use]
    pub fn new(served: Arc<Served>) -> Self {
        Self {
            is_known: served.password.is_none(),
            served,
            input: Vec::new(),
            commands: CommandReader::with_limit(LONGEST),
            output: VecDeque::new(),
            takes_mark: false,
            takes_new_name: false,
            wants_payload_only: false,
            feed: Feed::None,
            acknowledged: None,
            is_closing: false,
        }
    }

    /// Takes what has been read.
    pub fn handle_input(&mut self, bytes: &[u8], now: Duration) {
        if self.is_closing {
            return;
        }
        self.input.extend_from_slice(bytes);
        let mut taken = 0;
        loop {
            let rest = self.input.get(taken..).unwrap_or_default();
            match self.commands.read(rest) {
                Ok(None) => break,
                Ok(Some(used)) => {
                    let args: Vec<Vec<u8>> = self.commands.args(rest).map(<[u8]>::to_vec).collect();
                    taken += used;
                    self.command(&args, now);
                }
                Err(error) => {
                    // Into the stream of a replica nothing may be said.
                    if !self.is_replica() {
                        self.say(&format!("-ERR Protocol error: {error}"));
                    }
                    self.is_closing = true;
                    break;
                }
            }
        }
        self.input.drain(..taken);
    }

    /// The next thing to be sent; `None` if there is nothing until [`poll_timeout`](Self::poll_timeout) or until something is read.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Piece> {
        if let Some(piece) = self.output.pop_front() {
            return Some(piece);
        }
        let Feed::Stream(told) = self.feed else { return None };
        let recorded = self.served.recorded();
        if told < recorded {
            self.feed = Feed::Stream(recorded);
            let begin = self.served.stream.start.saturating_add(told);
            return Some(Piece::Capture(begin..self.served.stream.end));
        }
        // One ping at a time, or the rest of one: a replica may have been cut off inside of it.
        let ping = self.served.ping();
        let into = usize::try_from((told - recorded) % ping.len() as u64).unwrap_or(0);
        let rest = ping.get(into..).unwrap_or_default();
        if told >= self.served.len(now) {
            return None;
        }
        self.feed = Feed::Stream(told.saturating_add(rest.len() as u64));
        Some(Piece::Bytes(rest.to_vec()))
    }

    /// When there will be something to send again, if nothing is read before.
    #[must_use]
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let Feed::Stream(_) = self.feed else { return None };
        let pings = now.as_secs() / PING_PERIOD.as_secs();
        Some(Duration::from_secs((pings + 1).saturating_mul(PING_PERIOD.as_secs())))
    }

    /// Whether the connection is to be closed, once [`poll_transmit`](Self::poll_transmit) has told all.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_closing && self.output.is_empty()
    }

    /// Whether it was asked for the data: it is a replica.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        !matches!(self.feed, Feed::None)
    }

    /// What the replica says that it has.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Offset> {
        self.acknowledged
    }

    fn command(&mut self, args: &[Vec<u8>], now: Duration) {
        // A bare newline says no more than that the other side is there.
        let Some((name, args)) = args.split_first() else { return };
        let upper = name.to_ascii_uppercase();
        if self.is_replica() {
            // A replica is answered nothing; what it says beside its acknowledgements is passed over.
            if upper == b"REPLCONF"
                && let [option, offset, ..] = args
                && option.eq_ignore_ascii_case(b"ACK")
            {
                self.acknowledge(offset);
            }
            return;
        }
        match upper.as_slice() {
            b"AUTH" => self.auth(args),
            b"PING" | b"REPLCONF" | b"INFO" | b"SYNC" | b"PSYNC"
                if !self.is_known && !self.lacks(&upper) =>
            {
                self.say(if self.served.is_since(2, 8) {
                    "-NOAUTH Authentication required."
                } else {
                    "-ERR operation not permitted"
                });
            }
            b"PING" => self.say("+PONG"),
            b"REPLCONF" => self.replconf(args),
            b"INFO" => {
                let section = args.first().map_or_else(String::new, |section| {
                    String::from_utf8_lossy(section).to_ascii_lowercase()
                });
                let section = if section.is_empty() { "default" } else { &section };
                let mut out = Vec::new();
                bulk(&mut out, self.served.info(section, now).as_bytes());
                self.output.push_back(Piece::Bytes(out));
            }
            b"SYNC" => self.full(false),
            b"PSYNC" if !self.lacks(b"PSYNC") => self.psync(args, now),
            _ => {
                let shown = Escaped(name).to_string();
                self.say(&format!("-ERR unknown command '{}'", shown.trim_matches('"')));
            }
        }
    }

    /// Whether the master that is played does not know this command.
    fn lacks(&self, name: &[u8]) -> bool {
        name == b"PSYNC" && self.served.at.is_none()
    }

    fn auth(&mut self, args: &[Vec<u8>]) {
        let has_users = self.served.is_since(6, 0);
        let given = match args {
            [password] => password,
            [_, password] if has_users => password,
            _ => return self.say("-ERR wrong number of arguments for 'auth' command"),
        };
        match &self.served.password {
            Some(password) if password.as_bytes() != given.as_slice() => {
                self.say(if self.served.is_since(6, 2) {
                    "-WRONGPASS invalid username-password pair or user is disabled."
                } else if has_users {
                    "-WRONGPASS invalid username-password pair"
                } else {
                    "-ERR invalid password"
                });
            }
            _ => {
                self.is_known = true;
                self.say("+OK");
            }
        }
    }

    fn replconf(&mut self, args: &[Vec<u8>]) {
        if !args.len().is_multiple_of(2) {
            return self.say("-ERR syntax error");
        }
        for pair in args.chunks_exact(2) {
            let [option, value] = pair else { continue };
            let is_valkey =
                self.served.server.is_some_and(|server| server.flavour == Flavour::Valkey);
            match option.to_ascii_lowercase().as_slice() {
                b"listening-port" => {}
                b"capa" if self.served.is_since(3, 0) => {
                    self.takes_mark |= value.eq_ignore_ascii_case(b"eof");
                    self.takes_new_name |= value.eq_ignore_ascii_case(b"psync2");
                }
                b"ip-address" if self.served.is_since(3, 2) => {}
                b"rdb-only" if self.served.is_since(6, 2) => {
                    self.wants_payload_only = value == b"1";
                }
                // The whole payload was recorded, and no part of it can be had.
                b"rdb-filter-only" if self.served.is_since(7, 0) && value.is_empty() => {}
                b"version" if is_valkey => {}
                b"ack" if self.served.is_since(2, 8) => return self.acknowledge(value),
                b"getack" if self.served.is_since(4, 0) => return,
                b"getack" if self.served.is_since(3, 0) => {}
                _ => {
                    let option = Escaped(option).to_string();
                    let option = option.trim_matches('"');
                    return self.say(&format!("-ERR Unrecognized REPLCONF option: {option}"));
                }
            }
        }
        self.say("+OK");
    }

    /// What a replica says of itself may end its waiting.
    fn acknowledge(&mut self, offset: &[u8]) {
        let number = std::str::from_utf8(offset).ok().and_then(|digits| digits.parse().ok());
        self.acknowledged = number.map(Offset::new).or(self.acknowledged);
        if let Feed::Held = self.feed {
            self.feed = Feed::Stream(0);
        }
    }

    fn psync(&mut self, args: &[Vec<u8>], now: Duration) {
        let [replid, next_byte, ..] = args else {
            return self.say("-ERR wrong number of arguments for 'psync' command");
        };
        let number = std::str::from_utf8(next_byte).ok().and_then(|digits| digits.parse().ok());
        let Some(next_byte) = number else {
            // The early ones gave everything to whom they did not understand.
            if !self.served.is_since(6, 2) {
                return self.full(true);
            }
            return self.say("-ERR value is not an integer or out of range");
        };
        let Some(place) = self.served.place(replid, next_byte, now) else { return self.full(true) };
        self.feed = Feed::Stream(place);
        match self.served.at {
            Some(at) if self.takes_new_name && self.served.is_since(4, 0) => {
                self.say(&format!("+CONTINUE {}", at.replid));
            }
            _ => self.say("+CONTINUE"),
        }
    }

    /// Sends what was recorded up to the stream.
    fn full(&mut self, to_psync: bool) {
        let served = Arc::clone(&self.served);
        let Range { start, end } = served.psync_reply;
        if to_psync {
            self.copy(0..served.bulk_header_at);
        } else {
            self.copy(0..start);
            self.copy(end..served.bulk_header_at);
        }
        let by_mark = served.has_mark && self.takes_mark;
        if served.has_mark && !by_mark {
            // Its master sent a mark to one who understood it; this one wants the length.
            self.say(&format!("${}", served.rdb.end - served.rdb.start));
            self.copy(served.rdb.clone());
        } else {
            self.copy(served.bulk_header_at..served.stream.start);
        }
        self.feed = match (self.wants_payload_only, by_mark) {
            (true, _) => Feed::Payload,
            (false, true) => Feed::Held,
            (false, false) => Feed::Stream(0),
        };
        self.is_closing = self.wants_payload_only;
    }

    fn copy(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.output.push_back(Piece::Capture(range));
        }
    }

    fn say(&mut self, line: &str) {
        self.output.push_back(Piece::Bytes(format!("{line}\r\n").into_bytes()));
    }
}

#[cfg(test)]
mod tests;
