//! A buffer around the parser, which sums the checksum up as well.

use crate::rdb::crc::Crc64;
use crate::rdb::error::RdbError;
use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::Event;
use crate::rdb::parser::Checksum;
use crate::rdb::parser::Depth;
use crate::rdb::parser::Parser;
use crate::rdb::parser::Step;

/// Reads a file or replication payload out of a buffer of its own, which the caller fills.
///
/// ```
/// use std::io::Read;
/// use understudy::rdb::event::Event;
/// use understudy::rdb::reader::Next;
/// use understudy::rdb::reader::Reader;
///
/// # fn keys(mut file: impl Read) -> Result<u64, Box<dyn std::error::Error>> {
/// let (mut reader, mut keys) = (Reader::new(), 0);
/// loop {
///     match reader.next()? {
///         Next::Event(Event::Key(_)) => keys += 1,
///         Next::Event(_) => {}
///         Next::NeedMore => {
///             let count = file.read(reader.buffer())?;
///             if count == 0 {
///                 return Err(reader.truncated().into());
///             }
///             reader.filled(count);
///         }
///         Next::End(_) => return Ok(keys),
///     }
/// }
/// # }
/// # let file = b"REDIS0006\xfe\x00\x00\x03key\x05value\xff\0\0\0\0\0\0\0\0";
/// # assert_eq!(keys(&file[..]).unwrap(), 1);
/// ```
#[derive(Debug)]
pub struct Reader {
    parser: Parser,
    /// All of it is initialised; the bytes are in `read..filled`, and what was consumed before them.
    buffer: Vec<u8>,
    read: usize,
    filled: usize,
    /// Up to here the buffer is in the sum.
    summed: usize,
    crc: Crc64,
    /// For how many fillings a much smaller buffer would have been enough.
    quiet: u32,
}

/// What [`Reader::next`] came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next<'a> {
    /// The buffer is used up: fill it.
    NeedMore,
    /// One event.
    Event(Event<'a>),
    /// The file ends here and its checksum was right, or it has none.
    End(Checksum),
}

/// What a read should be able to bring at least: a socket's worth.
const READ: usize = 64 << 10;

/// The buffer where no value needs a larger one: summing runs of this size costs nothing, and it stays in a core's cache.
const SMALLEST: usize = 4 * READ;

/// So many fillings that needed a quarter of the buffer or less, and it is given back.
const QUIET: u32 = 64;

impl Reader {
    /// A reader for a whole file or replication payload, from its magic, with the parser's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            parser: Parser::new(),
            buffer: Vec::new(),
            read: 0,
            filled: 0,
            summed: 0,
            crc: Crc64::new(),
            quiet: 0,
        }
    }

    /// See [`Parser::set_default_depth`].
    pub const fn set_default_depth(&mut self, depth: Depth) {
        self.parser.set_default_depth(depth);
    }

    /// See [`Parser::set_element_limit`].
    pub const fn set_element_limit(&mut self, limit: usize) {
        self.parser.set_element_limit(limit);
    }

    /// See [`Parser::wanted`].
    #[must_use]
    pub const fn wanted(&self) -> usize {
        self.parser.wanted()
    }

    /// How the value of the key that was just given is wanted. Has no effect at any other time.
    pub const fn choose(&mut self, depth: Depth) {
        self.parser.choose(depth);
    }

    /// Room to read into, never empty. What was read is told to [`filled`](Self::filled).
    ///
    /// The buffer grows to what one value or element needs, at most to twice the limits that are set, and never to
    /// more than some times what has come of it: a length alone gets no memory. It is given back when nothing has
    /// needed it for a while. Moving what is unread costs, over all, about a copy of each byte.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.sum_up(self.read);
        let unread = self.filled - self.read;
        // What is wanted is what a length claims. Memory is given for what has come, and some times as much.
        let wanted = self.parser.wanted().min(unread.saturating_mul(4) + SMALLEST);
        let least = wanted.saturating_sub(unread).max(READ);
        let size = wanted.max(2 * unread).saturating_add(READ).max(SMALLEST);
        self.quiet = if size > self.buffer.len() / 4 { 0 } else { self.quiet + 1 };
        if self.buffer.len() > SMALLEST && self.quiet >= QUIET {
            let mut smaller = Vec::with_capacity(size);
            smaller.extend_from_slice(self.rest());
            smaller.resize(size, 0);
            self.buffer = smaller;
            self.quiet = 0;
            self.begin_at_zero(unread);
        } else if unread == 0 {
            self.begin_at_zero(0);
        }
        if self.buffer.len() - self.filled < least {
            self.buffer.copy_within(self.read..self.filled, 0);
            self.begin_at_zero(unread);
            // After a move there must be as much room as was moved, or the next move comes too soon.
            let room = least.max(unread);
            if self.buffer.len() - self.filled < room {
                self.buffer.resize((self.filled + room).max(SMALLEST), 0);
            }
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Says that so many bytes were read into the beginning of [`buffer`](Self::buffer).
    pub fn filled(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.buffer.len());
    }

    /// Fills in bytes that are at hand.
    pub fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.buffer();
            let count = room.len().min(bytes.len());
            let (head, rest) = bytes.split_at(count);
            if let Some(room) = room.get_mut(..count) {
                room.copy_from_slice(head);
            }
            self.filled(count);
            bytes = rest;
        }
    }

    /// Gives the next event out of what was filled in.
    ///
    /// # Errors
    /// What is wrong and where; at the end [`RdbErrorKind::Checksum`] if the sum is not the stated one.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    pub fn next(&mut self) -> Result<Next<'_>, RdbError> {
        let begin = self.parser.position();
        let input = self.buffer.get(self.read..self.filled).unwrap_or_default();
        let (step, used) = self.parser.step(input)?;
        self.read += used;
        match step {
            Step::NeedMore => Ok(Next::NeedMore),
            Step::Event(event) => Ok(Next::Event(event)),
            Step::End(Checksum::None) => Ok(Next::End(Checksum::None)),
            Step::End(Checksum::Stated(stated)) => {
                // The sum stands behind what it sums up. It is read once, and asked about as often as one likes.
                if used > 0 {
                    let end = self.read.saturating_sub(SUM);
                    self.crc.update(self.buffer.get(self.summed..end).unwrap_or_default());
                    self.summed = self.read;
                }
                let found = self.crc.sum();
                if found == stated {
                    Ok(Next::End(Checksum::Stated(stated)))
                } else {
                    let at = (begin + used as u64).saturating_sub(SUM as u64);
                    let kind = RdbErrorKind::Checksum { stated, found };
                    Err(RdbError { at, key: None, behind: false, kind })
                }
            }
        }
    }

    /// Whether the end was read, so that [`rest`](Self::rest) is what follows the file.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.parser.is_ended()
    }

    /// Bytes consumed since the magic, with it.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.parser.position()
    }

    /// The error of input that ends here.
    #[must_use]
    pub fn truncated(&self) -> RdbError {
        self.parser.truncated()
    }

    /// What was filled in and is not consumed: after [`Next::End`], what follows the file.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.buffer.get(self.read..self.filled).unwrap_or_default()
    }

    fn sum_up(&mut self, to: usize) {
        self.crc.update(self.buffer.get(self.summed..to).unwrap_or_default());
        self.summed = to;
    }

    const fn begin_at_zero(&mut self, unread: usize) {
        self.read = 0;
        self.summed = 0;
        self.filled = unread;
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes of a stated sum.
const SUM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::string::put_string;

    /// A file of strings of very uneven sizes.
    fn file(sizes: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut file = b"REDIS0006\xfe\x00".to_vec();
        let mut values = Vec::new();
        for (index, &size) in sizes.iter().enumerate() {
            let value: Vec<u8> =
                (0..size).map(|at| u8::try_from((at * 7 + index * 13) % 251).unwrap()).collect();
            file.push(0);
            put_string(&mut file, index.to_string().as_bytes());
            let begin = file.len();
            put_string(&mut file, &value);
            values.push(file[begin..].to_vec());
        }
        file.push(0xff);
        let sum = crate::rdb::crc::crc64(&file);
        file.extend_from_slice(&sum.to_le_bytes());
        (file, values)
    }

    #[test]
    fn a_claim_gets_no_memory() {
        let mut reader = Reader::new();
        reader.set_default_depth(Depth::Verbatim { limit: usize::MAX });
        // A string of 2^40 bytes, of which three come.
        reader.extend(b"REDIS0009\x00\x01k\x81\x00\x00\x01\x00\x00\x00\x00\x00abc");
        while reader.next().unwrap() != Next::NeedMore {}
        assert!(reader.buffer().len() <= 2 * SMALLEST);
    }

    #[test]
    fn a_wrong_sum_is_an_error_as_often_as_one_asks() {
        let (mut bytes, _) = file(&[100]);
        let end = bytes.len();
        bytes[20] ^= 1;
        bytes.extend_from_slice(b"+PING\r\n");
        let mut reader = Reader::new();
        reader.extend(&bytes);
        let error = loop {
            match reader.next() {
                Ok(next) => assert!(matches!(next, Next::Event(_)), "{next:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.at, end as u64 - 8);
        assert!(matches!(error.kind, RdbErrorKind::Checksum { .. }));
        assert_eq!(reader.next(), Err(error));
        assert_eq!(reader.rest(), b"+PING\r\n");
    }

    #[test]
    fn no_byte_is_lost_however_the_buffer_grows_and_shrinks() {
        let sizes =
            [10, 400_000, 900_000, 3, 70_000, 500_000, 1_200_000, 0, 300_000, 65_536, 262_144, 5];
        let (file, values) = file(&sizes);
        for most in [1_000, 40_000, usize::MAX] {
            let (mut reader, mut rest, mut found) = (Reader::new(), &file[..], Vec::new());
            reader.set_default_depth(Depth::Verbatim { limit: 8 << 20 });
            loop {
                match reader.next().unwrap() {
                    Next::Event(Event::Payload(payload)) => found.push(payload.body.to_vec()),
                    Next::Event(_) => {}
                    Next::End(_) => break,
                    Next::NeedMore => {
                        let room = reader.buffer();
                        let count = room.len().min(rest.len()).min(most);
                        assert!(count > 0, "the room is never empty");
                        room[..count].copy_from_slice(&rest[..count]);
                        reader.filled(count);
                        rest = &rest[count..];
                    }
                }
            }
            assert!(found == values, "{most} bytes at a time");
        }
    }
}
