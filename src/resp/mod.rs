//! RESP, the wire protocol: commands and replies, read as they come and borrowed from the input.
//!
//! Both readers are push parsers over a buffer that the caller owns. Running out of input costs nothing and
//! repeats nothing: what has been understood of an unfinished command is kept as positions, and the next
//! call goes on from there, provided that its input begins with the same bytes.

mod command;
mod encode;
mod reply;

pub use command::CommandReader;
pub use encode::command;
pub use encode::{array, bulk};
pub use reply::{Reply, ReplyReader};

/// Bytes that are not RESP, or that claim more than is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at} of the message")]
pub struct RespError {
    /// Where in the message, from its first byte.
    pub at: usize,
    /// What is wrong.
    pub kind: RespErrorKind,
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RespErrorKind {
    /// A byte that begins no RESP value here.
    #[error("unexpected byte {0:#04x}")]
    Unexpected(u8),
    /// A length or a number that is none.
    #[error("a malformed number")]
    Number,
    /// A line of digits, or an inline command, that does not end.
    #[error("a line of more than {0} bytes")]
    LongLine(usize),
    /// A length above the limit.
    #[error("a length of {claimed}, above the limit of {limit}")]
    TooLong {
        /// What the peer claims.
        claimed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A bulk string that is not followed by CR LF.
    #[error("a bulk string without its end of line")]
    Unterminated,
    /// A quote that is not closed in an inline command.
    #[error("unbalanced quotes in an inline command")]
    Quotes,
}

impl RespError {
    fn new(at: usize, kind: RespErrorKind) -> Self {
        Self { at, kind }
    }
}

/// The longest line of a header or a status reply. Servers send far less; an error text may quote a command.
const LONGEST_LINE: usize = 64 * 1024;

/// Finds the line that begins at `from`: the position of its CR (or of its LF where none precedes it) and the position
/// after its LF. `None` while the LF has not come.
fn line(input: &[u8], from: usize) -> Result<Option<(usize, usize)>, RespError> {
    let rest = input.get(from..).unwrap_or_default();
    match rest.iter().position(|&byte| byte == b'\n') {
        Some(lf) if lf > LONGEST_LINE => {
            Err(RespError::new(from, RespErrorKind::LongLine(LONGEST_LINE)))
        }
        Some(lf) => {
            let end = from + lf;
            let has_cr = lf > 0 && rest.get(lf - 1) == Some(&b'\r');
            Ok(Some((if has_cr { end - 1 } else { end }, end + 1)))
        }
        None if rest.len() > LONGEST_LINE => {
            Err(RespError::new(from, RespErrorKind::LongLine(LONGEST_LINE)))
        }
        None => Ok(None),
    }
}

/// Reads a decimal number with an optional minus sign.
fn integer(digits: &[u8], at: usize) -> Result<i64, RespError> {
    let (negative, digits) = match digits.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, digits),
    };
    let bad = || RespError::new(at, RespErrorKind::Number);
    if digits.is_empty() || digits.len() > 19 {
        return Err(bad());
    }
    let mut number: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(bad());
        }
        let digit = i64::from(byte - b'0');
        let signed = if negative { -digit } else { digit };
        number = number.checked_mul(10).and_then(|n| n.checked_add(signed)).ok_or_else(bad)?;
    }
    Ok(number)
}
