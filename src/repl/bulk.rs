//! The frame around an RDB payload: `$<length>`, or `$EOF:<mark>` with the mark again at the end.

use super::error::{ReplError, excerpt};

/// How the end of the payload is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// So many bytes, and nothing behind them.
    Length(u64),
    /// No length; these forty bytes follow the payload.
    Mark([u8; 40]),
}

impl Frame {
    /// Reads the line that stands before the payload, without its end. `None` for an empty line, which keeps the
    /// link alive while the master saves.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>, ReplError> {
        if line.is_empty() {
            return Ok(None);
        }
        if let Some(error) = line.strip_prefix(b"-") {
            return Err(ReplError::BrokenOff(excerpt(error)));
        }
        let unexpected =
            || ReplError::Unexpected { to: "the request for its data", text: excerpt(line) };
        let head = line.strip_prefix(b"$").ok_or_else(unexpected)?;
        if let Some(mark) = head.strip_prefix(b"EOF:") {
            return Ok(Some(Self::Mark(mark.try_into().map_err(|_| unexpected())?)));
        }
        let length = std::str::from_utf8(head).ok().and_then(|digits| digits.parse().ok());
        Ok(Some(Self::Length(length.ok_or_else(unexpected)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_frames_are_read() {
        assert_eq!(Frame::parse(b"").unwrap(), None);
        assert_eq!(Frame::parse(b"$1534").unwrap(), Some(Frame::Length(1534)));
        let mark = [b'a'; 40];
        assert_eq!(Frame::parse(&[b"$EOF:", &mark[..]].concat()).unwrap(), Some(Frame::Mark(mark)));
        assert!(matches!(Frame::parse(b"-ERR no"), Err(ReplError::BrokenOff(_))));
        for bad in [&b"$EOF:short"[..], b"$", b"$-1", b"+OK", b"$99999999999999999999999"] {
            assert!(matches!(Frame::parse(bad), Err(ReplError::Unexpected { .. })), "{bad:?}");
        }
    }
}
