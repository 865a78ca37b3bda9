//! The push parser: bytes in, events out.
//!
//! ```text
//!            magic
//!   Magic ──────────▶ Frame ──── opcode 255, checksum ────▶ Ended
//!                    ▲ │  ▲ └─── other opcodes: an event
//!            its end │ │  │
//!                    │ │ key ──▶ Value ──▶ Gather (verbatim) ── too large ──▶ Walk
//!                    │ │           ├─────▶ Skip, Pieces
//!                    │ module aux  └─────▶ Walk (packed, elements)
//!                    └─▶ Pass
//! ```
//!
//! ADVICE. Everything here keeps to three rules; break one and events begin to depend on where reads were cut.
//! First, `at` moves past a thing only when the whole of it was read and the state says that it was. Second,
//! whether a value is too large is decided by its bytes and never by how many of them have come: at the first leaf
//! that does not fit below the limit. Third, nothing is looked at twice that grows with a value: a gathered value
//! is scanned on from where the scan stopped, a walk goes on from its last element.
//!
//! What stands between `step` and the maker of an event is inlined by force: an event has some hundred bytes, and each
//! return on its way out would write and read all of them. That made elements twice as fast, and small keys by half.

mod frame;

use bytes::Bytes;

use crate::key::Db;
use crate::rdb::cursor::Cursor;
use crate::rdb::cursor::Span;
use crate::rdb::cursor::Stop;
use crate::rdb::error::RdbError;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::Event;
use crate::rdb::event::KeyHead;
use crate::rdb::event::ModuleId;
use crate::rdb::event::Payload;
use crate::rdb::format::Family;
use crate::rdb::format::Format;
use crate::rdb::layout::layout;
use crate::rdb::opcode::ObjectType;
use crate::rdb::scan::Scan;
use crate::rdb::scan::Scanned;
use crate::rdb::string::split_header;
use crate::rdb::walk::Given;
use crate::rdb::walk::Walk;

/// What a call of [`Parser::step`] came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// The input ran out inside something. Nothing was lost: call again with what was not consumed and more.
    NeedMore,
    /// One event, borrowed from the input or from the parser.
    Event(Event<'a>),
    /// The end opcode and what belongs to it were read. What follows in the input is not of the file.
    End(Checksum),
}

/// What a file says about its own sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// All bytes up to and with the end opcode must sum up to this.
    Stated(u64),
    /// None was made: the format is older than version 5, or the server was told not to (`rdbchecksum no`).
    None,
}

/// In which form a value is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Not at all: [`Event::ValueEnd`] alone. Nothing is held, whatever the value's size.
    Skip,
    /// As one [`Payload`]. The whole value must lie in one input, so the caller's buffer grows to its size.
    Verbatim {
        /// The size in bytes above which the value comes as with [`Elements`](Self::Elements) instead.
        limit: usize,
    },
    /// As it stands in the file, in [pieces](Event::Piece). Nothing is held, whatever the value's size.
    Pieces,
    /// Packed blobs as they are, only decompressed; what is not packed, as elements.
    Packed,
    /// Element by element.
    Elements,
}

/// Reads a file, a replication payload or a single value, in pieces of any size. It owns no input.
///
/// ```
/// use understudy::rdb::event::Event;
/// use understudy::rdb::parser::Parser;
/// use understudy::rdb::parser::Step;
///
/// let file = b"REDIS0006\xfe\x00\x00\x03key\x05value\xff\0\0\0\0\0\0\0\0";
/// let (mut parser, mut at, mut keys) = (Parser::new(), 0, Vec::new());
/// loop {
///     let (step, used) = parser.step(&file[at..])?;
///     at += used;
///     match step {
///         Step::Event(Event::Key(head)) => keys.push(head.key.to_vec()),
///         Step::Event(_) => {}
///         Step::NeedMore => panic!("the file was cut short"),
///         Step::End(_) => break,
///     }
/// }
/// assert_eq!(keys, [b"key"]);
/// # Ok::<(), understudy::rdb::error::RdbError>(())
/// ```
#[derive(Debug)]
pub struct Parser {
    state: State,
    format: Format,
    /// Bytes consumed since the magic.
    position: u64,
    /// What the next value is wanted as, unless something else is chosen for it.
    default_depth: Depth,
    depth: Depth,
    element_limit: usize,
    db: Db,
    /// What was said about the next key.
    deadline: Option<i64>,
    idle: Option<u64>,
    freq: Option<u8>,
    /// The key whose value is being read, or was read last, for errors; `None` if no key was read.
    key: Option<Vec<u8>>,
    scan: Scan,
    walk: Walk,
    /// Strings of the event that do not stand in the input as they are.
    scratch: Vec<u8>,
    wanted: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The magic comes.
    Magic,
    /// An opcode or a key comes.
    Frame,
    /// A value comes, and its depth may still be chosen.
    Value(ObjectType),
    /// A value is scanned; `scanned` bytes of it were, and none was consumed.
    Gather { object: ObjectType, limit: usize, scanned: usize },
    /// A value is passed over.
    Skip,
    /// A value is handed on as it comes.
    Pieces,
    /// What comes is wrong, and the piece before it was given.
    Fault(RdbErrorKind),
    /// A value is walked through.
    Walk,
    /// Something that is no value is passed over.
    Pass,
    /// The end was read.
    Ended(Checksum),
}

/// An event whose strings are not borrowed yet.
#[derive(Clone, Copy)]
enum Found {
    Header,
    Aux { name: Span, value: Span },
    SelectDb,
    ResizeDb { keys: u64, expires: u64 },
    SlotInfo { slot: u64, keys: u64, expires: u64 },
    SlotImport { job: Span },
    KeyMeta,
    Function { code: Span },
    ModuleAux { module: u64, when: u64 },
    Key { key: Span, object: ObjectType },
    Payload { object: ObjectType, from: usize, to: usize },
    Piece { from: usize, to: usize, last: bool },
    ValueEnd,
    End(Checksum),
}

/// The largest element that is held unless the caller says otherwise: the servers' own limit of a string.
pub const DEFAULT_ELEMENT_LIMIT: usize = 512 << 20;

/// What the scratch space may keep.
const SCRATCH: usize = 1 << 20;

/// The largest value that is gathered unless the caller says otherwise.
pub const DEFAULT_VERBATIM_LIMIT: usize = 16 << 20;

impl Parser {
    /// A parser for a whole file or replication payload, from its magic. Values come verbatim up to
    /// [`DEFAULT_VERBATIM_LIMIT`] unless chosen otherwise.
    #[must_use]
    pub fn new() -> Self {
        let depth = Depth::Verbatim { limit: DEFAULT_VERBATIM_LIMIT };
        Self {
            state: State::Magic,
            format: Format { family: Family::Redis, version: 1 },
            position: 0,
            default_depth: depth,
            depth,
            element_limit: DEFAULT_ELEMENT_LIMIT,
            db: Db::default(),
            deadline: None,
            idle: None,
            freq: None,
            key: None,
            scan: Scan::default(),
            walk: Walk::new(),
            scratch: Vec::new(),
            wanted: 0,
        }
    }

    /// A parser for the body of a single value, such as a [`Payload`]'s. It comes as
    /// [elements](Depth::Elements) unless [chosen](Self::choose) otherwise. Behind the value's end nothing may be
    /// read.
    #[must_use]
    pub fn for_value(object: ObjectType) -> Self {
        let family = object.family().unwrap_or(Family::Redis);
        let format = Format { family, version: object.since() };
        Self { state: State::Value(object), format, depth: Depth::Elements, ..Self::new() }
    }

    /// How values are wanted for which nothing else is chosen.
    pub const fn set_default_depth(&mut self, depth: Depth) {
        self.default_depth = depth;
    }

    /// The largest string, packed blob or key that may be held, in bytes, as it is and as it is compressed. Default:
    /// [`DEFAULT_ELEMENT_LIMIT`]. A larger one is [`RdbErrorKind::TooLarge`]; a string key's value is never held.
    pub const fn set_element_limit(&mut self, limit: usize) {
        self.element_limit = limit;
    }

    /// How the value of the key that was just given is wanted. Has no effect at any other time.
    pub const fn choose(&mut self, depth: Depth) {
        if matches!(self.state, State::Value(_)) {
            self.depth = depth;
        }
    }

    /// Reads on. `input` begins with the first byte that was not consumed. Gives what it came to and how many bytes
    /// it consumed.
    ///
    /// After [`Step::NeedMore`] the next input must begin with the rest that was not consumed, and be longer. After
    /// [`Step::End`] nothing more is consumed and the same comes again. Events do not depend on how the bytes were
    /// cut, but for the sizes of the pieces of [`Event::Piece`], [`Element::Text`](crate::rdb::event::Element::Text) and
    /// [`Element::Module`](crate::rdb::event::Element::Module).
    ///
    /// # Errors
    /// What is wrong and where. The parser stays where it was: it cannot read on.
    #[inline(always)]
    pub fn step<'a>(&'a mut self, input: &'a [u8]) -> Result<(Step<'a>, usize), RdbError> {
        self.scratch.clear();
        // The memory of a large string that has gone by is given back.
        self.scratch.shrink_to(SCRATCH);
        let mut at = 0;
        if !matches!(self.state, State::Walk) {
            match self.advance(input, &mut at) {
                Ok(Some(found)) => {
                    self.position += at as u64;
                    return Ok((self.lend(found, input), at));
                }
                Ok(None) => {}
                Err(stop) => return self.stop(stop, input, at).map(|()| (Step::NeedMore, at)),
            }
        }
        self.walk(input, at)
    }

    /// Whether the end was read.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Bytes consumed since the magic, with it.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// How long the next input must be at least for the parser to get on; known after [`Step::NeedMore`]. A hint for
    /// the size of a buffer. Not above the limits that were set, but for some bytes.
    #[must_use]
    pub const fn wanted(&self) -> usize {
        self.wanted
    }

    /// The error of input that ends here.
    #[must_use]
    pub fn truncated(&self) -> RdbError {
        self.error(self.position, RdbErrorKind::Truncated)
    }

    fn error(&self, at: u64, kind: RdbErrorKind) -> RdbError {
        let behind = match self.state {
            State::Value(_)
            | State::Gather { .. }
            | State::Skip
            | State::Pieces
            | State::Fault(_)
            | State::Walk => false,
            State::Magic | State::Frame | State::Pass | State::Ended(_) => true,
        };
        RdbError { behind, ..error_in(self.key.as_deref(), at, kind) }
    }

    /// Goes on to the next event that no walk gives. `None`: a walk begins.
    #[inline(always)]
    fn advance(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Found>, Stop> {
        loop {
            match self.state {
                State::Frame => {
                    if let Some(found) = self.frame(input, at)? {
                        return Ok(Some(found));
                    }
                }
                State::Value(object) => {
                    if let Some(found) = self.small_string(input, at, object) {
                        return Ok(Some(found));
                    }
                    self.begin_value(object);
                }
                State::Gather { object, limit, scanned } => {
                    if let Some(found) = self.gather(input, at, object, limit, scanned)? {
                        return Ok(Some(found));
                    }
                }
                State::Skip => {
                    self.pass(input, at)?;
                    self.state = State::Frame;
                    return Ok(Some(Found::ValueEnd));
                }
                State::Pieces => return self.piece(input, at).map(Some),
                State::Walk => return Ok(None),
                State::Fault(kind) => return Err(Stop::Fault { at: *at, kind }),
                State::Pass => {
                    self.pass(input, at)?;
                    self.state = State::Frame;
                }
                State::Magic => {
                    let mut cursor = Cursor::new(input, *at);
                    let magic = cursor.fixed()?;
                    self.format =
                        Format::decode(&magic).map_err(|kind| Stop::Fault { at: *at, kind })?;
                    *at = cursor.at();
                    self.state = State::Frame;
                    return Ok(Some(Found::Header));
                }
                State::Ended(checksum) => return Ok(Some(Found::End(checksum))),
            }
        }
    }

    /// Goes one step on in a walk.
    #[inline(always)]
    fn walk<'a>(
        &'a mut self,
        input: &'a [u8],
        mut at: usize,
    ) -> Result<(Step<'a>, usize), RdbError> {
        let given = match self.walk.step(input, &mut at, &mut self.scan, &mut self.scratch) {
            Ok(given) => given,
            Err(stop) => return self.stop(stop, input, at).map(|()| (Step::NeedMore, at)),
        };
        if matches!(given, Given::End) {
            self.state = State::Frame;
        }
        let begin = self.position;
        self.position += at as u64;
        match self.walk.lend(given, input, &self.scratch) {
            Ok(event) => Ok((Step::Event(event), at)),
            Err((fault, kind)) => Err(error_in(self.key.as_deref(), begin + fault as u64, kind)),
        }
    }

    /// Takes over what was consumed before it stopped.
    fn stop(&mut self, stop: Stop, input: &[u8], at: usize) -> Result<(), RdbError> {
        match stop {
            Stop::NeedMore { need } => {
                self.position += at as u64;
                self.wanted = need.max(input.len().saturating_add(1)).saturating_sub(at);
                Ok(())
            }
            Stop::Fault { at: fault, kind } => Err(self.error(self.position + fault as u64, kind)),
        }
    }

    /// A string that is wanted whole or not at all, and is there: nearly every value of most files, so it takes a short way.
    #[inline(always)]
    fn small_string(&mut self, input: &[u8], at: &mut usize, object: ObjectType) -> Option<Found> {
        if object != ObjectType::String {
            return None;
        }
        let (limit, skipped) = match self.depth {
            Depth::Skip => (usize::MAX, true),
            Depth::Verbatim { limit } => (limit, false),
            Depth::Pieces | Depth::Packed | Depth::Elements => return None,
        };
        let from = *at;
        let (header, body) = split_header(input.get(from..)?)?;
        let rest = body.get(usize::try_from(header.body_len()).ok()?..)?;
        let to = input.len() - rest.len();
        if to - from > limit {
            return None;
        }
        self.forget_head();
        self.state = State::Frame;
        *at = to;
        Some(if skipped { Found::ValueEnd } else { Found::Payload { object, from, to } })
    }

    /// What was said of a key does not hold for the next one.
    #[inline(always)]
    const fn forget_head(&mut self) {
        self.deadline = None;
        self.idle = None;
        self.freq = None;
    }

    fn begin_value(&mut self, object: ObjectType) {
        self.forget_head();
        self.state = match self.depth {
            Depth::Verbatim { limit } => {
                self.scan.begin(layout(object));
                State::Gather { object, limit, scanned: 0 }
            }
            Depth::Skip => {
                self.scan.begin(layout(object));
                State::Skip
            }
            Depth::Pieces => {
                self.scan.begin(layout(object));
                State::Pieces
            }
            Depth::Packed | Depth::Elements => {
                self.walk.begin(object, self.depth == Depth::Packed, self.element_limit);
                State::Walk
            }
        };
    }

    /// Scans on through a value that is wanted whole. `None`: it is too large for that, and another state goes on
    /// from its beginning.
    fn gather(
        &mut self,
        input: &[u8],
        at: &mut usize,
        object: ObjectType,
        limit: usize,
        scanned: usize,
    ) -> Result<Option<Found>, Stop> {
        let value = input.get(*at..).unwrap_or_default();
        let within = value.get(..limit).unwrap_or(value);
        let fresh = within.get(scanned..).unwrap_or_default();
        let (passed, end) = self
            .scan
            .pass(fresh)
            .map_err(|(fault, kind)| Stop::Fault { at: *at + scanned + fault, kind })?;
        let scanned = scanned + passed;
        let need = match end {
            Scanned::End => {
                let from = *at;
                *at += scanned;
                self.state = State::Frame;
                return Ok(Some(Found::Payload { object, from, to: *at }));
            }
            Scanned::Open { need } => usize::try_from(need).unwrap_or(usize::MAX),
        };
        // The next byte that is known to belong to the value.
        let least = scanned.saturating_add(need).max(within.len() + 1);
        if least > limit {
            // All of it is still in the caller's hands.
            self.walk.begin(object, false, self.element_limit);
            self.state = State::Walk;
            return Ok(None);
        }
        self.state = State::Gather { object, limit, scanned };
        Err(Stop::NeedMore { need: at.saturating_add(least) })
    }

    /// Hands on what the input has of a value.
    #[inline(always)]
    fn piece(&mut self, input: &[u8], at: &mut usize) -> Result<Found, Stop> {
        let from = *at;
        let (passed, last) = match self.scan.pass(input.get(from..).unwrap_or_default()) {
            Ok((passed, Scanned::End)) => {
                self.state = State::Frame;
                (passed, true)
            }
            // A piece may be as short as the input; it is only never empty.
            Ok((0, Scanned::Open { .. })) => return Err(Stop::NeedMore { need: 0 }),
            Ok((passed, Scanned::Open { .. })) => (passed, false),
            Err((0, kind)) => return Err(Stop::Fault { at: from, kind }),
            // What came before the damage is given, as it would be had it come alone.
            Err((passed, kind)) => {
                self.state = State::Fault(kind);
                (passed, false)
            }
        };
        *at += passed;
        Ok(Found::Piece { from, to: *at, last })
    }

    /// Passes over what is being scanned.
    fn pass(&mut self, input: &[u8], at: &mut usize) -> Result<(), Stop> {
        let rest = input.get(*at..).unwrap_or_default();
        let (passed, end) =
            self.scan.pass(rest).map_err(|(fault, kind)| Stop::Fault { at: *at + fault, kind })?;
        *at += passed;
        match end {
            Scanned::End => Ok(()),
            // What is passed over need not be in one input.
            Scanned::Open { .. } => Err(Stop::NeedMore { need: 0 }),
        }
    }

    #[inline(always)]
    fn lend<'a>(&'a self, found: Found, input: &'a [u8]) -> Step<'a> {
        let text = |span: Span| span.of(input, &self.scratch);
        Step::Event(match found {
            Found::Header => Event::Header(self.format),
            Found::Aux { name, value } => Event::Aux { name: text(name), value: text(value) },
            Found::SelectDb => Event::SelectDb(self.db),
            Found::ResizeDb { keys, expires } => Event::ResizeDb { keys, expires },
            Found::SlotInfo { slot, keys, expires } => Event::SlotInfo { slot, keys, expires },
            Found::KeyMeta => Event::KeyMeta,
            Found::SlotImport { job } => Event::SlotImport { job: text(job) },
            Found::Function { code } => Event::Function { code: text(code) },
            Found::ModuleAux { module, when } => {
                Event::ModuleAux { module: ModuleId::new(module), when }
            }
            Found::Key { key, object } => Event::Key(KeyHead {
                db: self.db,
                key: text(key),
                object,
                expire_at_ms: self.deadline,
                idle_seconds: self.idle,
                freq: self.freq,
            }),
            Found::Payload { object, from, to } => {
                Event::Payload(Payload { object, body: input.get(from..to).unwrap_or_default() })
            }
            Found::Piece { from, to, last } => {
                Event::Piece { bytes: input.get(from..to).unwrap_or_default(), last }
            }
            Found::ValueEnd => Event::ValueEnd,
            Found::End(checksum) => return Step::End(checksum),
        })
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

fn error_in(key: Option<&[u8]>, at: u64, kind: RdbErrorKind) -> RdbError {
    RdbError { at, key: key.map(Bytes::copy_from_slice), behind: false, kind }
}

#[cfg(test)]
mod tests;
