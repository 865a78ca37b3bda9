//! Finds where a value ends without looking at what is in it.
//!
//! A scan takes the value's bytes in any pieces and remembers where in the [`layout`](crate::rdb::layout) it is:
//! so many bytes of a leaf still to pass, the leaves of this round, the rounds still to come, the parts after
//! them. It never goes back, and its memory does not grow with the value.

use crate::rdb::course::Course;
use crate::rdb::error::Fault;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::layout::Leaf;
use crate::rdb::layout::Part;
use crate::rdb::length::length;
use crate::rdb::score;
use crate::rdb::string::string_header;

/// How far a scan has come.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes of the leaf that was read last and have not come yet.
    skip: u64,
    now: Now,
    course: Course,
}

/// What is being read.
#[derive(Clone, Copy, Debug, Default)]
enum Now {
    /// Nothing: the next part is to be taken up.
    #[default]
    Next,
    /// So many strings. Most of all data is this, so it has a loop of its own.
    Strings { left: u64 },
    /// The leaves of a round, then so many more rounds of all of them.
    Leaves { leaves: &'static [Leaf], round: &'static [Leaf], left: u64 },
    /// The opcodes of a module.
    Module,
    /// The leaf that belongs to an opcode of a module.
    ModuleLeaf(Leaf),
    /// Nothing more.
    End,
}

/// What a scan found when it came to the end of the input, or of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// The value ends here.
    End,
    /// The value goes on, for so many bytes at least.
    Open { need: u64 },
}

impl Scan {
    /// Begins anew, with a value of these parts.
    pub(crate) fn begin(&mut self, parts: &'static [Part]) {
        self.skip = 0;
        self.now = Now::Next;
        self.course.begin(parts);
    }

    /// Goes on through `input`, which begins where the last call stopped. Gives how many bytes it passed: all,
    /// but for the beginning of a leaf's head that is not whole.
    ///
    /// # Errors
    /// What is wrong, and at which byte of `input`.
    pub(crate) fn pass(&mut self, input: &[u8]) -> Result<(usize, Scanned), (usize, RdbErrorKind)> {
        let mut rest = input;
        let end = match self.pass_all(&mut rest) {
            Ok(scanned) => scanned,
            Err(kind) => return Err((input.len() - rest.len(), kind)),
        };
        Ok((input.len() - rest.len(), end))
    }

    fn pass_all(&mut self, rest: &mut &[u8]) -> Result<Scanned, RdbErrorKind> {
        loop {
            if self.skip > 0 {
                self.skip = pass_bytes(rest, self.skip);
                if self.skip > 0 {
                    return Ok(Scanned::Open { need: self.skip });
                }
            }
            let whole = match &mut self.now {
                Now::End => return Ok(Scanned::End),
                Now::Next => self.take_up(rest)? || matches!(self.now, Now::End),
                Now::Strings { left } => {
                    let whole = pass_strings(rest, left, &mut self.skip)?;
                    if *left == 0 {
                        self.now = Now::Next;
                    }
                    whole
                }
                Now::Leaves { leaves, round, left } => {
                    let whole = pass_rounds(rest, leaves, round, left, &mut self.skip)?;
                    if leaves.is_empty() {
                        self.now = Now::Next;
                    }
                    whole
                }
                Now::Module => {
                    let begin = *rest;
                    match pass_length(rest)? {
                        None => false,
                        Some(opcode) => {
                            let Some(now) = module_opcode(opcode) else {
                                *rest = begin;
                                return Err(RdbErrorKind::ModuleOpcode(opcode));
                            };
                            self.now = now;
                            true
                        }
                    }
                }
                Now::ModuleLeaf(leaf) => match pass_leaf(rest, *leaf)? {
                    None => false,
                    Some(skip) => {
                        self.skip = skip;
                        self.now = Now::Module;
                        true
                    }
                },
            };
            if !whole {
                return Ok(Scanned::Open { need: self.skip.max(1) });
            }
        }
    }

    /// Takes up the next part. Gives false if there is none, or its count is not whole.
    fn take_up(&mut self, rest: &mut &[u8]) -> Result<bool, RdbErrorKind> {
        while let Some(part) = self.course.part() {
            self.now = match part {
                Part::One(leaves, _) => rounds(leaves, 1),
                Part::Many(leaves, _) => {
                    let Some(count) = pass_length(rest)? else { return Ok(false) };
                    rounds(leaves, count)
                }
                Part::Each(parts) => {
                    let Some(count) = pass_length(rest)? else { return Ok(false) };
                    self.course.pass_through(parts, count);
                    continue;
                }
                Part::Module => Now::Module,
            };
            self.course.pass();
            return Ok(true);
        }
        self.now = Now::End;
        Ok(false)
    }
}

/// What follows an opcode of a module; after the last, the next part.
const fn module_opcode(opcode: u64) -> Option<Now> {
    Some(match opcode {
        0 => Now::Next,
        1 | 2 => Now::ModuleLeaf(Leaf::Len),
        3 => Now::ModuleLeaf(Leaf::Bytes(4)),
        4 => Now::ModuleLeaf(Leaf::Bytes(8)),
        5 => Now::ModuleLeaf(Leaf::Str),
        _ => return None,
    })
}

/// So many rounds of these leaves.
fn rounds(leaves: &'static [Leaf], count: u64) -> Now {
    let Some(left) = count.checked_sub(1) else { return Now::Next };
    match leaves {
        [Leaf::Str] => Now::Strings { left: count },
        // A count that overflows is a lie that no data can bear out.
        [Leaf::Str, Leaf::Str] => Now::Strings { left: count.saturating_mul(2) },
        _ => Now::Leaves { leaves, round: leaves, left },
    }
}

/// Passes whole strings. False: the input is used up and `skip` bytes of the last one are to come, or the next
/// one's head is not whole.
fn pass_strings(rest: &mut &[u8], left: &mut u64, skip: &mut u64) -> Result<bool, RdbErrorKind> {
    while *left > 0 {
        let Some(len) = pass_string_head(rest)? else { return Ok(false) };
        *left -= 1;
        if !pass_body(rest, len, skip) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same for rounds of leaves.
fn pass_rounds(
    rest: &mut &[u8],
    leaves: &mut &'static [Leaf],
    round: &'static [Leaf],
    left: &mut u64,
    skip: &mut u64,
) -> Result<bool, RdbErrorKind> {
    while let Some((leaf, next)) = leaves.split_first() {
        let Some(len) = pass_leaf(rest, *leaf)? else { return Ok(false) };
        *leaves = next;
        if next.is_empty() && *left > 0 {
            *left -= 1;
            *leaves = round;
        }
        if !pass_body(rest, len, skip) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Passes a leaf's head and gives how many bytes follow it; `None` if the head is not whole.
#[inline]
fn pass_leaf(rest: &mut &[u8], leaf: Leaf) -> Result<Option<u64>, RdbErrorKind> {
    match leaf {
        Leaf::Str => pass_string_head(rest),
        Leaf::Len => Ok(pass_length(rest)?.map(|_| 0)),
        Leaf::Bytes(len) => Ok(Some(u64::from(len))),
        Leaf::Text => {
            let Some((&len, tail)) = rest.split_first() else { return Ok(None) };
            *rest = tail;
            Ok(Some(if len >= score::NAN { 0 } else { u64::from(len) }))
        }
    }
}

#[inline]
fn pass_string_head(rest: &mut &[u8]) -> Result<Option<u64>, RdbErrorKind> {
    match *rest {
        [first @ 0..=0x3f, tail @ ..] => {
            *rest = tail;
            Ok(Some(u64::from(*first)))
        }
        [first @ 0x40..=0x7f, second, tail @ ..] => {
            *rest = tail;
            Ok(Some(u64::from(*first & 0x3f) << 8 | u64::from(*second)))
        }
        input => match string_header(input) {
            Ok((tail, header)) => {
                *rest = tail;
                Ok(Some(header.body_len()))
            }
            Err(stop) => not_whole(&stop),
        },
    }
}

#[inline]
fn pass_length(rest: &mut &[u8]) -> Result<Option<u64>, RdbErrorKind> {
    match length(rest) {
        Ok((tail, value)) => {
            *rest = tail;
            Ok(Some(value))
        }
        Err(stop) => not_whole(&stop),
    }
}

fn not_whole<T>(stop: &nom::Err<Fault>) -> Result<Option<T>, RdbErrorKind> {
    match stop {
        nom::Err::Incomplete(_) => Ok(None),
        nom::Err::Error(Fault(kind)) | nom::Err::Failure(Fault(kind)) => Err(*kind),
    }
}

/// Passes a leaf's bytes. False: `skip` of them are to come.
#[inline]
fn pass_body(rest: &mut &[u8], len: u64, skip: &mut u64) -> bool {
    match usize::try_from(len).ok().and_then(|len| rest.get(len..)) {
        Some(tail) => {
            *rest = tail;
            true
        }
        None => {
            *skip = len - rest.len() as u64;
            *rest = &[];
            false
        }
    }
}

/// Passes up to `len` bytes and gives how many are to come.
fn pass_bytes(rest: &mut &[u8], len: u64) -> u64 {
    let mut skip = 0;
    pass_body(rest, len, &mut skip);
    skip
}
