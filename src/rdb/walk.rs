//! Makes elements of a value: one round of leaves at a time, or one entry of a packed blob.
//!
//! A [`Walk`] goes step by step; what a step came to is [`Given`] without its strings, which are lent in the end, when
//! nothing more is to be changed.

mod given;
mod round;

pub(crate) use self::given::Given;

use crate::rdb::blob::BlobFault;
use crate::rdb::blob::BlobWalk;
use crate::rdb::blob::Texts;
use crate::rdb::course::Course;
use crate::rdb::cursor::Cursor;
use crate::rdb::cursor::Span;
use crate::rdb::cursor::Stop;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::ModuleId;
use crate::rdb::event::StreamMeta;
use crate::rdb::layout::Gives;
use crate::rdb::layout::Part;
use crate::rdb::layout::layout;
use crate::rdb::lzf::Inflate;
use crate::rdb::node::NodeWalk;
use crate::rdb::opcode::ObjectType;
use crate::rdb::scan::Scan;
use crate::rdb::scan::Scanned;

/// How far a walk has come.
#[derive(Debug)]
pub(crate) struct Walk {
    object: ObjectType,
    /// Whether blobs are wanted as they are.
    packed: bool,
    /// The largest string or blob that may be held.
    limit: usize,
    course: Course,
    now: Now,
    /// A hash's earliest deadline.
    earliest: u64,
    /// A decompressed blob that is being walked.
    blob: Vec<u8>,
    node: NodeWalk,
    meta: StreamMeta,
    texts: Texts,
}

#[derive(Debug)]
enum Now {
    /// The next part is to be taken up.
    Next,
    /// So many rounds are to come.
    Rounds { gives: Gives, left: u64 },
    /// A blob is walked; then so many rounds are to come.
    Blob { walk: BlobWalk, at: Held, gives: Gives, left: u64 },
    /// A stream's node is walked; then so many more are to come.
    Node { at: Held, left: u64 },
    /// The rest of a string that stands there as it is.
    Text { offset: u64, len: u64 },
    /// The rest of a compressed string.
    Inflate { inflate: Box<Inflate>, offset: u64, len: u64 },
    /// The rest of a module's value, which the scan passes over.
    Module(ModuleId),
    /// What comes is wrong, and what came before it was given.
    Fault(RdbErrorKind),
}

/// Where a blob lies that is walked: in the input, or decompressed. With its head it takes up `end` bytes of the input,
/// which are consumed when it has been walked; all counts begin with the head.
#[derive(Clone, Copy, Debug)]
enum Held {
    Input { from: usize, to: usize, end: usize },
    Made { end: usize },
}

impl Walk {
    /// A walk that has nothing to walk.
    pub(crate) fn new() -> Self {
        Self {
            object: ObjectType::String,
            packed: false,
            limit: 0,
            course: Course::default(),
            now: Now::Next,
            earliest: 0,
            blob: Vec::new(),
            node: NodeWalk::default(),
            meta: StreamMeta::default(),
            texts: Texts::default(),
        }
    }

    /// Begins with a value of this type.
    pub(crate) fn begin(&mut self, object: ObjectType, packed: bool, limit: usize) {
        self.object = object;
        self.packed = packed;
        self.limit = limit;
        self.course.begin(layout(object));
        self.now = Now::Next;
    }

    /// Goes one element on. `at` is moved past what it is made of.
    #[inline(always)]
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        at: &mut usize,
        scan: &mut Scan,
        scratch: &mut Vec<u8>,
    ) -> Result<Given, Stop> {
        loop {
            match &mut self.now {
                Now::Next => {
                    if !self.take_up(input, at)? {
                        return Ok(Given::End);
                    }
                }
                Now::Rounds { left: 0, .. } => self.now = Now::Next,
                Now::Rounds { gives, left } => {
                    let next = (*gives, *left - 1);
                    if let Some(given) = self.round(input, at, next, scan, scratch)? {
                        return Ok(given);
                    }
                }
                Now::Blob { walk, at: held, gives, left } => {
                    let blob = held.blob(input, *at, &self.blob);
                    if !walk.is_done(blob).map_err(|fault| held.stop(*at, fault))? {
                        return Ok(Given::Entry { base: *at });
                    }
                    *at += held.end();
                    self.now = Now::Rounds { gives: *gives, left: *left };
                }
                Now::Node { at: held, left } => {
                    let blob = held.blob(input, *at, &self.blob);
                    if let Some(id) = self.node.next(blob).map_err(|fault| held.stop(*at, fault))? {
                        return Ok(Given::StreamEntry(id));
                    }
                    *at += held.end();
                    self.now = Now::Rounds { gives: Gives::Node, left: *left };
                }
                Now::Text { offset, len } => {
                    let mut cursor = Cursor::new(input, *at);
                    let bytes = cursor.take_some(*len - *offset)?;
                    let given = Given::Text { offset: *offset, len: *len, bytes };
                    *offset += (cursor.at() - *at) as u64;
                    if offset == len {
                        self.now = Now::Next;
                    }
                    *at = cursor.at();
                    return Ok(given);
                }
                Now::Inflate { inflate, .. } if inflate.is_done() => self.now = Now::Next,
                Now::Inflate { inflate, offset, len } => {
                    let data = input.get(*at..).unwrap_or_default();
                    let fault = *at;
                    let (used, from) =
                        inflate.step(data).map_err(|kind| Stop::Fault { at: fault, kind })?;
                    *at += used;
                    let made = inflate.made().len() - from;
                    if made == 0 {
                        return Err(Stop::NeedMore { need: 0 });
                    }
                    let given = Given::Inflated { offset: *offset, len: *len, from };
                    *offset += made as u64;
                    return Ok(given);
                }
                Now::Module(module) => {
                    let module = *module;
                    let from = *at;
                    let rest = input.get(from..).unwrap_or_default();
                    let more = match scan.pass(rest) {
                        Ok((passed, end)) => {
                            *at += passed;
                            if end == Scanned::End {
                                self.now = Now::Next;
                            }
                            end != Scanned::End
                        }
                        Err((fault, kind)) => {
                            *at += fault;
                            self.now = Now::Fault(kind);
                            false
                        }
                    };
                    if *at > from {
                        return Ok(Given::Module { module, bytes: Span::of_input(from, *at) });
                    }
                    if more {
                        return Err(Stop::NeedMore { need: 0 });
                    }
                }
                Now::Fault(kind) => return Err(Stop::Fault { at: *at, kind: *kind }),
            }
        }
    }

    /// Takes up the next part; false at the end.
    fn take_up(&mut self, input: &[u8], at: &mut usize) -> Result<bool, Stop> {
        while let Some(part) = self.course.part() {
            let mut cursor = Cursor::new(input, *at);
            let (gives, left) = match part {
                Part::One(_, gives) => (gives, 1),
                Part::Many(_, gives) => (gives, cursor.length()?),
                Part::Each(parts) => {
                    let times = cursor.length()?;
                    *at = cursor.at();
                    self.course.pass_through(parts, times);
                    continue;
                }
                // It was passed with the module's ID before it.
                Part::Module => {
                    self.course.pass();
                    continue;
                }
            };
            *at = cursor.at();
            self.course.pass();
            self.now = Now::Rounds { gives, left };
            return Ok(true);
        }
        Ok(false)
    }
}

impl Held {
    fn blob<'a>(self, input: &'a [u8], base: usize, made: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Input { from, to, .. } => input.get(base + from..base + to).unwrap_or_default(),
            Self::Made { .. } => made,
        }
    }

    /// How many bytes of the input belong to it, with the head.
    const fn end(self) -> usize {
        match self {
            Self::Input { end, .. } | Self::Made { end } => end,
        }
    }

    /// A fault in the blob, at its byte of the input; where it was compressed, at its beginning.
    const fn fault(self, base: usize, (at, kind): BlobFault) -> (usize, RdbErrorKind) {
        match self {
            Self::Input { from, .. } => (base + from + at, kind),
            Self::Made { .. } => (base, kind),
        }
    }

    const fn stop(self, base: usize, fault: BlobFault) -> Stop {
        let (at, kind) = self.fault(base, fault);
        Stop::Fault { at, kind }
    }
}
