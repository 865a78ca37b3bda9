//! Replies, one flat value at a time: an array is its header, and its elements follow.

use super::{RespError, RespErrorKind, integer, line};

/// A reply, or the header of one that has elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`
    Simple(&'a [u8]),
    /// `-ERR unknown command`: the text without the dash.
    Error(&'a [u8]),
    /// `:1`
    Int(i64),
    /// A bulk string.
    Bulk(&'a [u8]),
    /// The nil of RESP2 (`$-1`, `*-1`) and of RESP3 (`_`).
    Nil,
    /// An array of so many elements, which follow as replies of their own.
    Array(usize),
}

/// Reads replies from the front of a buffer. Keeps where the search for the end of a large bulk string stands.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// A bulk string whose header has been read: where its bytes begin and end.
    pending: Option<(usize, usize)>,
}

impl ReplyReader {
    /// The reply at the front of `input` and its length in bytes; `None` until it is whole, and then the next
    /// call's input must begin with the same bytes.
    ///
    /// # Errors
    /// If the bytes are no reply, or claim a bulk string above 4 GiB or an array above 2^32 elements.
    #[inline]
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Reply<'a>, usize)>, RespError> {
        if let Some((start, end)) = self.pending {
            return self.bulk(input, start, end);
        }
        let Some(&kind) = input.first() else { return Ok(None) };
        let Some((end, next)) = line(input, 1)? else { return Ok(None) };
        let text = input.get(1..end).unwrap_or_default();
        let reply = match kind {
            b'+' => Reply::Simple(text),
            b'-' => Reply::Error(text),
            b':' => Reply::Int(integer(text, 1)?),
            b'_' => Reply::Nil,
            b'$' => match integer(text, 1)? {
                -1 => Reply::Nil,
                len => {
                    let len = claimed(len, 4 << 30)?;
                    return self.bulk(input, next, next.saturating_add(len));
                }
            },
            b'*' | b'%' | b'~' | b'>' => match integer(text, 1)? {
                -1 => Reply::Nil,
                len if kind == b'%' => Reply::Array(claimed(len, 1 << 32)?.saturating_mul(2)),
                len => Reply::Array(claimed(len, 1 << 32)?),
            },
            other => return Err(RespError::new(0, RespErrorKind::Unexpected(other))),
        };
        Ok(Some((reply, next)))
    }

    fn bulk<'a>(
        &mut self,
        input: &'a [u8],
        start: usize,
        end: usize,
    ) -> Result<Option<(Reply<'a>, usize)>, RespError> {
        self.pending = None;
        match input.get(end..end.saturating_add(2)) {
            Some(b"\r\n") => {
                Ok(Some((Reply::Bulk(input.get(start..end).unwrap_or_default()), end + 2)))
            }
            Some(_) => Err(RespError::new(end, RespErrorKind::Unterminated)),
            None => {
                self.pending = Some((start, end));
                Ok(None)
            }
        }
    }
}

fn claimed(len: i64, limit: u64) -> Result<usize, RespError> {
    let claimed = u64::try_from(len).map_err(|_| RespError::new(1, RespErrorKind::Number))?;
    if claimed > limit {
        return Err(RespError::new(1, RespErrorKind::TooLong { claimed, limit }));
    }
    usize::try_from(claimed).map_err(|_| RespError::new(1, RespErrorKind::Number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_reply() {
        let input = b"+OK\r\n-ERR no\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*2\r\n_\r\n%1\r\n";
        let expected = [
            Reply::Simple(b"OK"),
            Reply::Error(b"ERR no"),
            Reply::Int(-5),
            Reply::Bulk(b"a\r\n"),
            Reply::Nil,
            Reply::Nil,
            Reply::Array(2),
            Reply::Nil,
            Reply::Array(2),
        ];
        for cut in 0..=input.len() {
            let (mut reader, mut found, mut at) = (ReplyReader::default(), Vec::new(), 0);
            for end in [cut, input.len()] {
                while let Some((reply, used)) = reader.read(&input[at..end]).unwrap() {
                    found.push(reply);
                    at += used;
                }
            }
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn claims_are_not_believed() {
        let read = |input: &[u8]| ReplyReader::default().read(input).unwrap_err().kind;
        assert!(matches!(read(b"$99999999999999\r\n"), RespErrorKind::TooLong { .. }));
        assert_eq!(read(b"$-7\r\n"), RespErrorKind::Number);
        assert_eq!(read(b"!\r\n"), RespErrorKind::Unexpected(b'!'));
        assert_eq!(read(b"$1\r\nabc"), RespErrorKind::Unterminated);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_use_more_than_there_is(input in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Some((_, used))) = ReplyReader::default().read(&input) {
                prop_assert!(used <= input.len() && used > 0);
            }
        }
    }
}
