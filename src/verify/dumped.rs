//! A value as `DUMP` gives it, taken as its bytes come.

use crate::rdb::dump::Footer;
use crate::rdb::error::RdbError;
use crate::rdb::event::{Event, Payload};
use crate::rdb::format::Family;
use crate::rdb::opcode::ObjectType;
use crate::rdb::parser::{Parser, Step};

use super::digest::{Content, Digester, Times};

/// A payload of `DUMP` of which a part may be there. Its sum is not looked at: it came over a connection that has its own.
#[derive(Debug)]
pub struct Dumped {
    family: Family,
    /// What has not been taken of its type and its value.
    left: u64,
    /// What has not been taken of its footer.
    footer: u64,
    /// The largest element that is held.
    limit: usize,
    parser: Option<Parser>,
    has_ended: bool,
}

/// Why what `DUMP` gave is no value that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpedError {
    /// It has too few bytes.
    #[error("{0} bytes are no DUMP payload: the smallest has 12")]
    Short(u64),
    /// Its type is not known.
    #[error("the type {0} of a value is not known to this version")]
    Type(u8),
    /// It cannot be read, or is larger than may be held.
    #[error(transparent)]
    Value(#[from] RdbError),
    /// Its value ends before its bytes do.
    #[error("{0} bytes stand behind the value")]
    Behind(u64),
}

impl Dumped {
    /// A payload of so many bytes, from a server that writes this format. No element larger than `limit` bytes is held.
    ///
    /// # Errors
    /// If there can be no payload of this size.
    pub fn new(len: u64, family: Family, limit: usize) -> Result<Self, DumpedError> {
        let footer = Footer::LEN as u64;
        // A type, and no value without a byte.
        match len.checked_sub(footer) {
            Some(left @ 2..) => {
                Ok(Self { family, left, footer, limit, parser: None, has_ended: false })
            }
            _ => Err(DumpedError::Short(len)),
        }
    }

    /// Takes what it can of the next bytes, and gives how many they were. What was not taken must come again with more behind it.
    ///
    /// # Errors
    /// If they are no value.
    pub fn take(
        &mut self,
        input: &[u8],
        digester: &mut Digester,
        times: &Times,
    ) -> Result<usize, DumpedError> {
        let of_value = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (value, behind) = input.split_at(of_value);
        let mut used = 0;
        let parser = match (&mut self.parser, value.first()) {
            (Some(parser), _) => parser,
            (None, None) => return Ok(0),
            (none, Some(&byte)) => {
                let object =
                    ObjectType::decode(byte, self.family).ok_or(DumpedError::Type(byte))?;
                digester.begin(object.value_type());
                used = 1;
                let mut parser = Parser::for_value(object);
                parser.set_element_limit(self.limit);
                none.insert(parser)
            }
        };
        while !self.has_ended {
            let (step, taken) = parser.step(value.get(used..).unwrap_or_default())?;
            used += taken;
            match step {
                Step::Event(Event::Element(element)) => digester.add(&element, times),
                Step::Event(Event::ValueEnd) | Step::End(_) => self.has_ended = true,
                Step::Event(_) => {}
                Step::NeedMore => break,
            }
        }
        self.left -= used as u64;
        if self.left > 0 {
            if self.has_ended {
                return Err(DumpedError::Behind(self.left));
            }
            if value.len() < input.len() {
                return Err(parser.truncated().into());
            }
            return Ok(used);
        }
        if !self.has_ended {
            return Err(parser.truncated().into());
        }
        let of_footer = usize::try_from(self.footer).unwrap_or(usize::MAX).min(behind.len());
        self.footer -= of_footer as u64;
        Ok(used + of_footer)
    }

    /// Whether all of it was taken.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.left == 0 && self.footer == 0
    }

    /// What a whole value says, as it stands in a data set; `None` if nothing of it lives any more. No element larger than `limit` bytes is held, as
    /// it is when it is no longer compressed.
    ///
    /// # Errors
    /// If it is none.
    pub fn of_value(
        payload: &Payload<'_>,
        limit: usize,
        digester: &mut Digester,
        times: &Times,
    ) -> Result<Option<Content>, DumpedError> {
        digester.begin(payload.object.value_type());
        let mut parser = Parser::for_value(payload.object);
        parser.set_element_limit(limit);
        let mut rest = payload.body;
        loop {
            let (step, used) = parser.step(rest)?;
            rest = rest.get(used..).unwrap_or_default();
            match step {
                Step::Event(Event::Element(element)) => digester.add(&element, times),
                Step::Event(Event::ValueEnd) | Step::End(_) => break,
                Step::Event(_) => {}
                Step::NeedMore => return Err(parser.truncated().into()),
            }
        }
        match rest.len() {
            0 => Ok(digester.end()),
            left => Err(DumpedError::Behind(left as u64)),
        }
    }

    /// What a whole payload says; `None` if nothing of it lives any more. No element larger than `limit` bytes is held, as it is when it is no
    /// longer compressed.
    ///
    /// # Errors
    /// If it is none.
    pub fn content(
        payload: &[u8],
        limit: usize,
        digester: &mut Digester,
        times: &Times,
    ) -> Result<Option<Content>, DumpedError> {
        let len = payload.len() as u64;
        let Ok((_, footer)) = Footer::decode(payload) else { return Err(DumpedError::Short(len)) };
        let mut dumped = Self::new(len, footer.family(), limit)?;
        dumped.take(payload, digester, times)?;
        Ok(digester.end())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rdb::opcode::ValueType;

    /// What Redis 7.0.15 dumps: a string, a list, a set, a hash, a sorted set.
    const DUMPS: [&[u8]; 2] =
        [b"\x00\xc0\x0c\n\x00<*\xf8Q\\\x04\xbc\xd5", b"\x02\x02\x01b\x01a\x06\x00\0\0\0\0\0\0\0\0"];

    #[test]
    fn a_value_is_the_same_however_it_is_cut() {
        for dump in DUMPS {
            let mut digester = Digester::new(7);
            let times = Times::default();
            let whole = Dumped::content(dump, 1 << 20, &mut digester, &times).unwrap().unwrap();
            for cut in 1..dump.len() {
                let mut dumped = Dumped::new(dump.len() as u64, Family::Redis, 1 << 20).unwrap();
                let first = dumped.take(&dump[..cut], &mut digester, &times).unwrap();
                assert!(!dumped.is_done());
                let rest = dumped.take(&dump[first..], &mut digester, &times).unwrap();
                assert_eq!((first + rest, dumped.is_done()), (dump.len(), true), "cut at {cut}");
                assert_eq!(digester.end(), Some(whole));
            }
        }
    }

    #[test]
    fn the_order_of_a_set_does_not_count_and_its_type_does() {
        let mut digester = Digester::new(7);
        let mut content = |dump: &[u8]| {
            Dumped::content(dump, 1 << 20, &mut digester, &Times::default()).unwrap().unwrap()
        };
        let set = content(DUMPS[1]);
        assert_eq!(set.kind, ValueType::Set);
        assert_eq!(set, content(b"\x02\x02\x01a\x01b\x06\x00\0\0\0\0\0\0\0\0"));
        let list = content(b"\x01\x02\x01a\x01b\x06\x00\0\0\0\0\0\0\0\0");
        assert_ne!(list, content(b"\x01\x02\x01b\x01a\x06\x00\0\0\0\0\0\0\0\0"));
        assert_ne!(set.digest, list.digest);
    }

    #[test]
    fn what_is_no_payload_is_an_error() {
        let mut digester = Digester::new(7);
        let mut read = |dump: &[u8]| {
            Dumped::content(dump, 1 << 20, &mut digester, &Times::default()).unwrap_err()
        };
        assert!(matches!(read(b"\x00\x0a\x00aaaaaaaa"), DumpedError::Short(11)));
        assert!(matches!(read(b"\xee\x01a\x0a\x00aaaaaaaa"), DumpedError::Type(0xee)));
        assert!(matches!(read(b"\x00\x02a\x0a\x00aaaaaaaa"), DumpedError::Value(_)));
        assert!(matches!(read(b"\x00\x01ab\x0a\x00aaaaaaaa"), DumpedError::Behind(1)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_a_value(
            dump in prop::collection::vec(any::<u8>(), 0..60),
            kind in 0_u8..30,
        ) {
            let dump = [&[kind][..], &dump].concat();
            let mut digester = Digester::new(7);
            let _ = Dumped::content(&dump, 1 << 20, &mut digester, &Times::default());
        }
    }
}
