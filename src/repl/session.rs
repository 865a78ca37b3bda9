//! The replica's side of one connection to a master.
//!
//! ```text
//!            PING, AUTH, REPLCONF          PSYNC  (SYNC where PSYNC is unknown)
//!  Handshake ───────────────────▶ Asked ──────────────────────────┐
//!                                   │ +FULLRESYNC                 │ +CONTINUE
//!                                   ▼                             │
//!                                Framing ─ $… ─▶ Framed ─▶ Transfer ─▶ Stream ◀─┘
//! ```
//!
//! A master sends bare newlines before it answers `PSYNC` and while it saves, so that we do not take it for dead
//! (redis `replicationCron`). They are no data and count in no offset.

use std::time::Duration;

use crate::offset::{Offset, ReplId};
use crate::rdb::event::Event as RdbEvent;
use crate::rdb::parser::{Checksum, DEFAULT_ELEMENT_LIMIT, Depth};
use crate::rdb::reader::{Next, Reader};
use crate::resp::{CommandReader, RespError, RespErrorKind, command};

use super::answer::{Answer, Credentials, Question, number, refused};
use super::bulk::Frame;
use super::error::{ReplError, excerpt};
use super::intake::Intake;

/// What is asked of a master.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Who asks, if the master wants to know.
    pub credentials: Option<Credentials>,
    /// Where an earlier session was left; without it, or when the master no longer has what comes after
    /// it, the whole data set is sent.
    pub resume: Option<Resume>,
}

/// How a master may be asked for its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// With `PSYNC`; with `SYNC` where that is not known, and then a lost link costs a new copy.
    #[default]
    Auto,
    /// With `PSYNC` only.
    Psync,
}

/// A place in a master's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The history.
    pub replid: ReplId,
    /// The last byte that is not wanted again.
    pub offset: Offset,
}

/// A question of the handshake and its answer, byte for byte. Of `AUTH` only the name is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What was sent.
    pub sent: Vec<u8>,
    /// The line that came; `None` while none has, and for `SYNC`, whose answer is the data itself.
    pub reply: Option<Vec<u8>>,
}

/// What a session has to tell.
#[derive(Debug)]
pub enum Event<'a> {
    /// The whole data set will be sent. `at` is where its stream begins; `None` from a master that answers `SYNC` only
    /// (2.4, 2.6), whose stream is counted from zero and cannot be resumed.
    FullSync {
        /// The master's history and its offset.
        at: Option<Resume>,
        /// What `PSYNC` was answered, if that is why the master was asked with `SYNC`.
        refused: Option<String>,
    },
    /// The stream goes on where it was left, under this name.
    PartialSync {
        /// The master's history, perhaps a new one, and the offset asked for.
        at: Resume,
    },
    /// An empty line before the payload: the master is there and is not ready. It is no data.
    KeepAlive,
    /// The RDB payload begins; so many bytes, if the master told, else it ends at a mark.
    PayloadBegins {
        /// Bytes of the payload.
        length: Option<u64>,
        /// The bytes that stand behind it, when its length was not told.
        mark: Option<[u8; 40]>,
    },
    /// Something of the RDB payload.
    Rdb(RdbEvent<'a>),
    /// The payload has been read, and its checksum agrees if it has one.
    PayloadRead {
        /// What the payload says of its sum.
        checksum: Checksum,
    },
    /// The frame agrees with the payload; the stream begins.
    PayloadEnds,
    /// A command of the stream.
    Command(Command<'a>),
}

/// A command as it stands in the stream.
#[derive(Debug)]
pub struct Command<'a> {
    /// Its bytes.
    pub raw: &'a [u8],
    /// Where the stream stands after it.
    pub end: Offset,
    reader: &'a CommandReader,
}

impl<'a> Command<'a> {
    /// Its name and arguments; none for a bare newline.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.reader.args(self.raw)
    }

    /// Whether it came as an inline line (2.4 and 2.6), so that its bytes are not RESP.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.reader.was_inline()
    }
}

/// The replica's side of one connection. The caller reads into [`buffer`](Self::buffer), takes events with
/// [`poll_event`](Self::poll_event) until there is none, and sends what [`transmit`](Self::transmit) holds.
///
/// It acknowledges once a second from the moment the master has accepted us, whatever is done with the events.
#[derive(Debug)]
pub struct Session {
    request: Request,
    method: Method,
    state: State,
    input: Intake,
    /// How many bytes from the master have been taken, without those of a payload that is being read.
    taken: u64,
    /// `taken` when the request for the data was made.
    asked_at: Option<u64>,
    exchanges: Vec<Exchange>,
    /// The master is older than 2.8.22 and 3.0.4, and tells a wrong offset for a full synchronization that has to wait for a `BGSAVE` which
    /// is under way: that of the request, not that at which its data set is taken.
    is_old: bool,
    commands: CommandReader,
    output: Vec<u8>,
    /// The end of the last command that was taken from the stream.
    offset: Offset,
    /// The master's history, once it has told.
    history: Option<ReplId>,
    /// Bytes of the stream that count in no offset.
    uncounted: u64,
    /// What the target has confirmed.
    confirmed: Offset,
    /// When the next acknowledgement is due. `None` while none is understood.
    ack_due: Option<Duration>,
    /// How long after it the one behind it is due.
    ack_pause: Duration,
    /// A `GETACK` stands before this offset and is answered once that is confirmed.
    getack: Option<Offset>,
    /// How many bytes `buffer` offers to read into at once.
    read_size: usize,
    /// The largest element of the payload that is held.
    element_limit: usize,
}

#[derive(Debug)]
enum State {
    Handshake(Question),
    /// The answer to `INFO` comes line by line and ends at this [`position`](Session::position).
    Info {
        until: u64,
        has_psync: bool,
        is_saving: bool,
    },
    /// `PSYNC` is unanswered, or `SYNC` after this answer to `PSYNC`.
    Asked {
        sync: Option<String>,
    },
    /// A full synchronization was announced, at this place if `PSYNC` was understood.
    Framing,
    Framed(Frame),
    Transfer {
        frame: Frame,
        reader: Box<Reader>,
    },
    Stream,
}

/// The longest answer to a question of the handshake.
const LONGEST_LINE: usize = 64 * 1024;

/// How often a replica acknowledges (redis `replicationCron` runs once a second).
const ACK_INTERVAL: Duration = Duration::from_secs(1);

/// The same during an EOF transfer: the master waits for one to send the stream, and its end may have come to us long before we see it.
const ACK_INTERVAL_IN_EOF: Duration = Duration::from_millis(100);

/// How soon the first acknowledgement behind an EOF transfer is repeated; from there on the pauses double up to the usual one.
const FIRST_ACK_AGAIN: Duration = Duration::from_millis(10);

impl Session {
    /// A session that begins with the handshake.
    #[must_use]
    pub fn new(request: Request) -> Self {
        let question = Question::first(request.credentials.as_ref());
        let mut session = Self::with_state(request, State::Handshake(question));
        session.ask(question);
        session
    }

    /// A session whose request has been sent by someone else: what is read is the answer to `PSYNC`, or to `SYNC` if
    /// `sync`. A recorded stream is played in this way.
    #[must_use]
    pub fn asked(sync: bool, resume: Option<Resume>) -> Self {
        let request = Request { credentials: None, resume };
        let state = State::Asked { sync: sync.then(String::new) };
        Self { asked_at: Some(0), ..Self::with_state(request, state) }
    }

    fn with_state(request: Request, state: State) -> Self {
        Self {
            request,
            method: Method::Auto,
            state,
            input: Intake::default(),
            taken: 0,
            asked_at: None,
            exchanges: Vec::new(),
            is_old: false,
            commands: CommandReader::default(),
            output: Vec::new(),
            offset: Offset::default(),
            history: None,
            uncounted: 0,
            confirmed: Offset::default(),
            ack_due: None,
            ack_pause: ACK_INTERVAL,
            getack: None,
            read_size: 256 * 1024,
            element_limit: DEFAULT_ELEMENT_LIMIT,
        }
    }

    /// How the master may be asked. Default: [`Method::Auto`].
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// How many bytes to read at once, and so what is held of a stream that is read as it comes. Default: 256 KiB.
    #[must_use]
    pub fn read_size(mut self, bytes: usize) -> Self {
        self.read_size = bytes.max(4096);
        self
    }

    /// The most that may be held in one piece, in bytes: a key, element or packed blob of the payload, a command of the stream. A
    /// larger one is an error that says so. Default: [`DEFAULT_ELEMENT_LIMIT`], and that of [`CommandReader`].
    pub fn set_piece_limit(&mut self, bytes: usize) {
        self.element_limit = bytes;
        self.commands = CommandReader::with_limit(bytes);
    }

    /// Room for the next bytes from the master, never empty. What was read is told to [`filled`](Self::filled).
    pub fn buffer(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Transfer { reader, .. } => reader.buffer(),
            State::Stream => self.input.room(self.read_size, self.commands.longest()),
            _ => self.input.room(self.read_size, LONGEST_LINE),
        }
    }

    /// Says that so many bytes were read into the beginning of [`buffer`](Self::buffer).
    pub fn filled(&mut self, count: usize) {
        match &mut self.state {
            State::Transfer { reader, .. } => reader.filled(count),
            _ => self.input.filled(count),
        }
    }

    /// What is to be sent to the master. The caller takes out what it has sent.
    pub fn transmit(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// The target has confirmed everything before this offset. Answers a `GETACK` that waited for it.
    pub fn confirm(&mut self, upto: Offset) {
        self.confirmed = self.confirmed.max(upto);
        if self.getack.is_some_and(|asked| asked <= self.confirmed) && self.ack_due.is_some() {
            self.getack = None;
            self.acknowledge();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called. `now` counts from any moment, always the same.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.ack_due
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.ack_due.is_some_and(|due| due <= now) {
            self.acknowledge_and_again(now);
        }
    }

    /// How the value of the key that was told last is wanted.
    pub fn choose(&mut self, depth: Depth) {
        if let State::Transfer { reader, .. } = &mut self.state {
            reader.choose(depth);
        }
    }

    /// Bytes of the RDB payload that have been taken; `None` outside of it.
    #[must_use]
    pub fn payload_position(&self) -> Option<u64> {
        match &self.state {
            State::Transfer { reader, .. } => Some(reader.position()),
            _ => None,
        }
    }

    /// The forty bytes that will end the payload, from a master that has not told how long it is; `None` outside of it.
    #[must_use]
    pub fn end_mark(&self) -> Option<&[u8; 40]> {
        match &self.state {
            State::Transfer { frame: Frame::Mark(mark), .. } => Some(mark),
            _ => None,
        }
    }

    /// How large the piece is that is being read (see [`set_piece_limit`](Self::set_piece_limit)), as far as it has said so.
    #[must_use]
    pub fn claimed(&self) -> usize {
        match &self.state {
            State::Transfer { reader, .. } => reader.wanted(),
            State::Stream => self.commands.claimed(),
            _ => 0,
        }
    }

    /// Bytes of the stream that were read and not taken, and where they end in the master's history, which is exact as long as all of them
    /// count; `None` outside of the stream, and from a master without offsets.
    #[must_use]
    pub fn unread(&self) -> Option<(&[u8], Resume)> {
        let (State::Stream, Some(replid)) = (&self.state, self.history) else { return None };
        let unread = self.input.unread();
        Some((unread, Resume { replid, offset: self.offset.advance(unread.len() as u64) }))
    }

    /// How many bytes of the stream have counted in no offset.
    #[must_use]
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Where the stream has been taken to.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// How many bytes from the master have been taken: where the last event ends.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.taken + self.payload_position().unwrap_or(0)
    }

    /// The [`position`](Self::position) at which the data was asked for: what comes behind it is a capture. `None` before
    /// that; greater than it was when `PSYNC` was refused and `SYNC` follows.
    #[must_use]
    pub fn asked_at(&self) -> Option<u64> {
        self.asked_at
    }

    /// What was asked and answered before the data came, the request for it last.
    #[must_use]
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// What is missing if nothing more comes; `None` in the stream, whose end may come at any time.
    #[must_use]
    pub fn unfinished(&self) -> Option<ReplError> {
        Some(ReplError::Ended(match &self.state {
            State::Handshake(_) | State::Info { .. } => "the handshake is done",
            State::Asked { sync: None } => "PSYNC is answered",
            State::Asked { sync: Some(_) } | State::Framing | State::Framed(_) => {
                "the RDB payload begins"
            }
            State::Transfer { reader, .. } if reader.is_ended() => {
                "the end mark of the RDB payload is there"
            }
            State::Transfer { reader, .. } => return Some(ReplError::Rdb(reader.truncated())),
            State::Stream => return None,
        }))
    }

    /// Bytes that were read and not taken: of a command that is not whole, once there is no event left.
    #[must_use]
    pub fn left_over(&self) -> usize {
        match &self.state {
            State::Transfer { reader, .. } => reader.rest().len(),
            _ => self.input.unread().len(),
        }
    }

    /// The next event of what has been read so far; `None` once more input is wanted.
    ///
    /// # Errors
    /// If the master refuses us or says what it must not. The session is over then.
    pub fn poll_event(&mut self, now: Duration) -> Result<Option<Event<'_>>, ReplError> {
        loop {
            match &self.state {
                State::Transfer { reader, .. } if reader.is_ended() => {
                    return Ok(self.finish_transfer(now)?.then_some(Event::PayloadEnds));
                }
                State::Transfer { .. } => break,
                State::Stream => return self.next_command(),
                State::Framed(frame) => return Ok(Some(self.begin_transfer(*frame, now))),
                State::Handshake(_) | State::Info { .. } | State::Asked { .. } | State::Framing => {
                }
            }
            let Some(line) = self.take_line()? else { return Ok(None) };
            if let Some(event) = self.answer(&line, now)? {
                return Ok(Some(event));
            }
        }
        let State::Transfer { reader, .. } = &mut self.state else { return Ok(None) };
        Ok(match reader.next().map_err(ReplError::Rdb)? {
            Next::NeedMore => None,
            Next::Event(event) => Some(Event::Rdb(event)),
            Next::End(checksum) => Some(Event::PayloadRead { checksum }),
        })
    }

    /// Takes a line that answers a question of ours.
    fn answer(&mut self, line: &[u8], now: Duration) -> Result<Option<Event<'static>>, ReplError> {
        match &self.state {
            State::Handshake(question) => {
                let question = *question;
                self.answered(line);
                question.judge(line)?;
                self.is_old |= question.is_unknown_capa(line);
                match question.next() {
                    Some(next) => {
                        self.ask(next);
                        self.state = State::Handshake(next);
                    }
                    None if self.is_old => {
                        self.ask(Question::Info);
                        self.state = State::Info { until: 0, has_psync: false, is_saving: false };
                    }
                    None => self.ask_psync(),
                }
                Ok(None)
            }
            State::Info { until: 0, .. } => {
                self.answered(line);
                let length = line.strip_prefix(b"$").and_then(number);
                match length.filter(|length| *length <= LONGEST_LINE as u64) {
                    // The bytes, and the end of their last line.
                    Some(length) => {
                        let until = self.taken + length + 2;
                        self.state = State::Info { until, has_psync: false, is_saving: false };
                    }
                    None => {
                        Question::Info.judge(line)?;
                        self.ask_psync();
                    }
                }
                Ok(None)
            }
            State::Info { until, has_psync, is_saving } => {
                let (until, mut has_psync, mut is_saving) = (*until, *has_psync, *is_saving);
                // 2.6 and those before it have no offsets that could be wrong.
                has_psync |= [&b"redis_version:2.8."[..], b"redis_version:3.0."]
                    .iter()
                    .any(|head| line.starts_with(head));
                is_saving |= line == b"rdb_bgsave_in_progress:1";
                if self.taken < until {
                    self.state = State::Info { until, has_psync, is_saving };
                } else if has_psync && is_saving {
                    return Err(ReplError::Saving);
                } else {
                    self.ask_psync();
                }
                Ok(None)
            }
            State::Asked { sync: None } => match Answer::to_psync(line)? {
                Answer::KeepAlive => Ok(Some(Event::KeepAlive)),
                Answer::Full { replid, offset } => {
                    self.answered(line);
                    (self.history, self.offset) = (Some(replid), offset);
                    self.confirmed = Offset::default();
                    self.ack_due = Some(now.saturating_add(ACK_INTERVAL));
                    self.state = State::Framing;
                    Ok(Some(Event::FullSync { at: Some(Resume { replid, offset }), refused: None }))
                }
                Answer::Partial { replid } => {
                    let Some(asked) = self.request.resume else {
                        return Err(ReplError::Unexpected {
                            to: "PSYNC ? -1",
                            text: excerpt(line),
                        });
                    };
                    self.answered(line);
                    self.offset = asked.offset;
                    // What was taken before is not all confirmed: the caller says how much is.
                    self.confirmed = Offset::default();
                    self.ack_due = Some(now.saturating_add(ACK_INTERVAL));
                    self.state = State::Stream;
                    let replid = replid.unwrap_or(asked.replid);
                    self.history = Some(replid);
                    Ok(Some(Event::PartialSync { at: Resume { replid, offset: asked.offset } }))
                }
                Answer::Unsupported(text) if self.method == Method::Psync => {
                    self.answered(line);
                    Err(ReplError::PsyncRefused(text))
                }
                Answer::Unsupported(text) => {
                    self.answered(line);
                    self.request(&[b"SYNC"]);
                    self.state = State::Asked { sync: Some(text) };
                    Ok(None)
                }
            },
            State::Asked { sync: Some(psync) } => {
                if let Some(error) = line.strip_prefix(b"-") {
                    let text = format!("PSYNC: {psync}; SYNC: {}", excerpt(error));
                    return Err(refused(error, "SYNC").unwrap_or(ReplError::NoReplication(text)));
                }
                // A SYNC is answered by the frame itself: no name, no offset, and no acknowledgement is understood.
                let Some(frame) = Frame::parse(line)? else { return Ok(Some(Event::KeepAlive)) };
                // In a capture it is not known.
                let refused = Some(psync.clone()).filter(|psync| !psync.is_empty());
                self.state = State::Framed(frame);
                Ok(Some(Event::FullSync { at: None, refused }))
            }
            // 4.0 to 6.0 begin a full synchronization for an offset that is no number, and complain of it behind that.
            State::Framing if line == b"-ERR value is not an integer or out of range" => Ok(None),
            State::Framing => {
                let Some(frame) = Frame::parse(line)? else { return Ok(Some(Event::KeepAlive)) };
                if self.is_old && matches!(frame, Frame::Mark(_)) {
                    return Err(ReplError::Diskless);
                }
                self.state = State::Framed(frame);
                Ok(None)
            }
            State::Framed(_) | State::Transfer { .. } | State::Stream => Ok(None),
        }
    }

    /// Hands what has been read so far to a reader of the payload.
    fn begin_transfer(&mut self, frame: Frame, now: Duration) -> Event<'static> {
        if matches!(frame, Frame::Mark(_)) && self.ack_due.is_some() {
            self.ack_pause = ACK_INTERVAL_IN_EOF;
            self.ack_due = Some(now.saturating_add(self.ack_pause));
        }
        let mut reader = Box::new(Reader::new());
        reader.set_element_limit(self.element_limit);
        reader.extend(self.input.unread());
        self.input = Intake::default();
        self.state = State::Transfer { frame, reader };
        match frame {
            Frame::Length(length) => Event::PayloadBegins { length: Some(length), mark: None },
            Frame::Mark(mark) => Event::PayloadBegins { length: None, mark: Some(mark) },
        }
    }

    /// The payload has been read. Checks its frame; `false` while the end mark has not come whole.
    fn finish_transfer(&mut self, now: Duration) -> Result<bool, ReplError> {
        let State::Transfer { frame, reader } = &mut self.state else { return Ok(true) };
        match frame {
            Frame::Length(framed) if *framed != reader.position() => {
                return Err(ReplError::Frame { read: reader.position(), framed: *framed });
            }
            Frame::Length(_) => {}
            Frame::Mark(mark) => {
                // What follows the payload stays in the reader's buffer until the mark is there.
                let rest = reader.rest();
                let Some(found) = rest.get(..mark.len()) else {
                    return if mark.starts_with(rest) {
                        Ok(false)
                    } else {
                        Err(ReplError::EndMark)
                    };
                };
                if found != mark {
                    return Err(ReplError::EndMark);
                }
            }
        }
        let by_mark = matches!(frame, Frame::Mark(_));
        let skip = if by_mark { 40 } else { 0 };
        self.input = Intake::default();
        self.input.extend(reader.rest().get(skip..).unwrap_or_default());
        self.taken = self.taken.saturating_add(reader.position()).saturating_add(skip as u64);
        self.state = State::Stream;
        if self.ack_due.is_some() {
            // An EOF transfer goes on only after the first acknowledgement, whatever it says; and one that comes before the master has
            // reaped the child that saved is lost (redis `replconfCommand`, `checkChildrenDone`).
            if by_mark {
                self.ack_pause = FIRST_ACK_AGAIN;
            }
            self.acknowledge_and_again(now);
        }
        Ok(true)
    }

    fn next_command(&mut self) -> Result<Option<Event<'_>>, ReplError> {
        let input = self.input.unread();
        let begin = self.offset;
        let used = match self.commands.read(input) {
            Ok(Some(used)) => used,
            Ok(None) => return Ok(None),
            Err(source) => return Err(self.damaged(source)),
        };
        let raw = self.input.take(used);
        self.taken = self.taken.saturating_add(used as u64);
        // A bare newline keeps the link alive and is not counted.
        if self.commands.args(raw).len() > 0 || raw.first() == Some(&b'*') {
            self.offset = begin.advance(used as u64);
        } else {
            self.uncounted = self.uncounted.saturating_add(used as u64);
        }
        let mut args = self.commands.args(raw);
        if self.ack_due.is_some()
            && args.next().is_some_and(|name| name.eq_ignore_ascii_case(b"REPLCONF"))
            && args.next().is_some_and(|option| option.eq_ignore_ascii_case(b"GETACK"))
        {
            self.getack = Some(self.offset);
        }
        drop(args);
        Ok(Some(Event::Command(Command { raw, end: self.offset, reader: &self.commands })))
    }

    /// Why the command cannot be read that begins where the stream stands.
    fn damaged(&self, source: RespError) -> ReplError {
        let offset = self.offset.get();
        match source.kind {
            RespErrorKind::TooLong { claimed, limit } => {
                let name = self.commands.args(self.input.unread()).next().map(excerpt);
                ReplError::TooLarge { offset, name: name.unwrap_or_default(), claimed, limit }
            }
            _ => ReplError::Stream { offset, source },
        }
    }

    fn take_line(&mut self) -> Result<Option<Vec<u8>>, ReplError> {
        let input = self.input.unread();
        let lf = input.iter().position(|&byte| byte == b'\n');
        if lf.unwrap_or(input.len()) > LONGEST_LINE {
            return Err(ReplError::Unexpected { to: "the handshake", text: excerpt(input) });
        }
        let Some(lf) = lf else { return Ok(None) };
        let line = input.get(..lf).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.input.take(lf + 1);
        self.taken = self.taken.saturating_add(lf as u64 + 1);
        Ok(Some(line))
    }

    fn ask(&mut self, question: Question) {
        let begin = self.output.len();
        question.ask(self.request.credentials.as_ref(), &mut self.output);
        let sent = match question {
            Question::Auth => b"AUTH".to_vec(),
            _ => self.output.get(begin..).unwrap_or_default().to_vec(),
        };
        self.exchanges.push(Exchange { sent, reply: None });
    }

    fn ask_psync(&mut self) {
        match self.request.resume {
            Some(Resume { replid, offset }) => {
                let next = offset.next_byte().to_string();
                self.request(&[b"PSYNC", replid.as_bytes(), next.as_bytes()]);
            }
            None => self.request(&[b"PSYNC", b"?", b"-1"]),
        }
        self.state = State::Asked { sync: None };
    }

    /// Asks for the data.
    fn request(&mut self, args: &[&[u8]]) {
        let begin = self.output.len();
        command(&mut self.output, args);
        let sent = self.output.get(begin..).unwrap_or_default().to_vec();
        self.exchanges.push(Exchange { sent, reply: None });
        self.asked_at = Some(self.taken);
    }

    fn answered(&mut self, line: &[u8]) {
        if let Some(exchange) = self.exchanges.last_mut() {
            exchange.reply = Some([line, b"\r\n"].concat());
        }
    }

    /// Acknowledges now, and says when the next time is.
    fn acknowledge_and_again(&mut self, now: Duration) {
        self.ack_due = Some(now.saturating_add(self.ack_pause));
        let longest = match &self.state {
            State::Transfer { frame: Frame::Mark(_), .. } => ACK_INTERVAL_IN_EOF,
            _ => ACK_INTERVAL,
        };
        self.ack_pause = (self.ack_pause * 2).min(longest);
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        let offset = self.confirmed.to_acknowledge().to_string();
        command(&mut self.output, &[b"REPLCONF", b"ACK", offset.as_bytes()]);
    }
}

#[cfg(test)]
mod tests;
