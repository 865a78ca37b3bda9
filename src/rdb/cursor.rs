//! Reads leaves one after the other out of what has come so far.
//!
//! A cursor never moves past a leaf that is not whole. Who reads several leaves that belong together makes a
//! cursor, reads them all, and only then takes over its place: so running out of input changes nothing.

use crate::rdb::error::Fault;
use crate::rdb::error::Leaf;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::length::length;
use crate::rdb::lzf;
use crate::rdb::string::StringHeader;
use crate::rdb::string::string_header;

/// Why a leaf was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is not whole. The input must reach to `need` bytes at least.
    NeedMore { need: usize },
    /// What begins at `at` bytes of the input is wrong.
    Fault { at: usize, kind: RdbErrorKind },
}

/// Where the bytes of a string are: in the input, or, if they had to be made, in the scratch space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    from: usize,
    to: usize,
    in_scratch: bool,
}

impl Span {
    /// These bytes of the input.
    pub(crate) const fn of_input(from: usize, to: usize) -> Self {
        Self { from, to, in_scratch: false }
    }

    /// These bytes of the scratch space.
    pub(crate) const fn of_scratch(from: usize, to: usize) -> Self {
        Self { from, to, in_scratch: true }
    }

    pub(crate) const fn is_in_scratch(self) -> bool {
        self.in_scratch
    }

    /// Where it begins and ends, in whichever place.
    pub(crate) const fn range(self) -> (usize, usize) {
        (self.from, self.to)
    }

    /// The bytes. Empty if one of the two is not what the span was made for.
    #[inline]
    pub(crate) fn of<'a>(self, input: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        let place = if self.in_scratch { scratch } else { input };
        place.get(self.from..self.to).unwrap_or_default()
    }
}

/// A place in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(input: &'a [u8], at: usize) -> Self {
        Self { input, at, rest: input.get(at..).unwrap_or_default() }
    }

    /// How many bytes of the input lie before it.
    #[inline]
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// All that has come.
    #[inline]
    pub(crate) const fn input(&self) -> &'a [u8] {
        self.input
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Stop> {
        self.fixed().map(|[byte]: [u8; 1]| byte)
    }

    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(Stop::NeedMore { need: self.at + N });
        };
        self.move_to(rest);
        Ok(*bytes)
    }

    #[inline]
    pub(crate) fn length(&mut self) -> Result<u64, Stop> {
        self.leaf(length(self.rest))
    }

    #[inline]
    pub(crate) fn string_header(&mut self) -> Result<StringHeader, Stop> {
        self.leaf(string_header(self.rest))
    }

    /// Moves past `len` bytes and gives them.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(Stop::NeedMore { need: self.at.saturating_add(len) });
        };
        self.move_to(rest);
        Ok(bytes)
    }

    /// Moves past what has come of the next `most` bytes: one at least, if there are any.
    pub(crate) fn take_some(&mut self, most: u64) -> Result<Span, Stop> {
        let come = self.rest.len();
        let len = usize::try_from(most).map_or(come, |most| most.min(come));
        if len == 0 && most > 0 {
            return Err(Stop::NeedMore { need: 0 });
        }
        let from = self.at;
        self.take(len)?;
        Ok(Span::of_input(from, self.at))
    }

    /// A whole string of at most `limit` bytes, decoded into `scratch` if it does not stand in the input as it is.
    #[inline]
    pub(crate) fn string(&mut self, scratch: &mut Vec<u8>, limit: usize) -> Result<Span, Stop> {
        let start = self.at;
        match self.string_header()? {
            StringHeader::Raw { len } => {
                let len = bounded(start, len, limit)?;
                let from = self.at;
                self.take(len)?;
                Ok(Span::of_input(from, self.at))
            }
            header => self.made_string(start, header, scratch, limit),
        }
    }

    fn made_string(
        &mut self,
        start: usize,
        header: StringHeader,
        scratch: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Span, Stop> {
        let from = scratch.len();
        match header {
            StringHeader::Int(value) => {
                scratch.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }
            StringHeader::Lzf { compressed, len } => {
                let len = bounded(start, len, limit)?;
                let data = self.take(bounded(start, compressed, limit)?)?;
                lzf::decompress(data, len, scratch)
                    .map_err(|kind| Stop::Fault { at: start, kind })?;
            }
            StringHeader::Raw { .. } => {}
        }
        Ok(Span::of_scratch(from, scratch.len()))
    }

    #[inline]
    fn leaf<T>(&mut self, read: Leaf<'a, T>) -> Result<T, Stop> {
        match read {
            Ok((rest, value)) => {
                self.move_to(rest);
                Ok(value)
            }
            Err(nom::Err::Incomplete(_)) => {
                // How many exactly does not matter: no leaf of this kind has more than a few bytes.
                Err(Stop::NeedMore { need: self.input.len() + 1 })
            }
            Err(nom::Err::Error(Fault(kind)) | nom::Err::Failure(Fault(kind))) => {
                Err(Stop::Fault { at: self.at, kind })
            }
        }
    }

    #[inline]
    fn move_to(&mut self, rest: &'a [u8]) {
        self.at = self.input.len() - rest.len();
        self.rest = rest;
    }
}

/// A claimed size that may be held.
#[inline]
fn bounded(at: usize, claimed: u64, limit: usize) -> Result<usize, Stop> {
    match usize::try_from(claimed) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(Stop::Fault {
            at,
            kind: RdbErrorKind::TooLarge { size: claimed, limit: limit as u64 },
        }),
    }
}
