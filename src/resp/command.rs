//! Commands as masters send them: arrays of bulk strings, and the inline lines of 2.4 and 2.6.

use std::ops::Range;

use super::{RespError, RespErrorKind, integer, line};

/// The limit of a reader that is told no other.
const LIMIT: usize = 4 << 30;

/// What an argument takes besides its bytes: its place here, and a slice with whoever looks at it.
const ARG: usize = 32;

/// Reads one command after another from the front of a buffer.
///
/// ```
/// use understudy::resp::CommandReader;
/// let mut reader = CommandReader::default();
/// let input = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
/// assert_eq!(reader.read(&input[..9]), Ok(None)); // not all of it yet
/// assert_eq!(reader.read(input), Ok(Some(input.len())));
/// assert_eq!(reader.args(input).collect::<Vec<_>>(), [b"INCR".as_slice(), b"n"]);
/// ```
#[derive(Debug)]
pub struct CommandReader {
    limit: usize,
    /// Where the arguments read so far stand in the input.
    args: Vec<Range<usize>>,
    state: State,
    inline: bool,
    /// Arguments of an inline command that had to be unquoted. Nearly always empty.
    unquoted: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Start,
    /// So many arguments are to come; the next header stands at `at`, and if it is there its argument reaches to `until`.
    Args { left: u64, at: usize, until: Option<usize> },
}

impl Default for CommandReader {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl CommandReader {
    /// A reader of commands that take at most so many bytes, each argument with 32 more. That is a bound on what a peer can claim: nothing is
    /// allocated for an argument before it has come. Default: 4 GiB; a master link is not bound by `proto-max-bulk-len`.
    #[must_use]
    pub fn with_limit(bytes: usize) -> Self {
        Self {
            limit: bytes,
            args: Vec::new(),
            state: State::Start,
            inline: false,
            unquoted: Vec::new(),
        }
    }

    /// How many bytes of the command that is not whole are known to come, with those that have.
    #[must_use]
    pub fn claimed(&self) -> usize {
        match self.state {
            State::Args { until: Some(end), .. } => end,
            State::Args { at, .. } => at,
            State::Start => 0,
        }
    }

    /// How long the command is that is not whole, once that is known; until then the most that it may be.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self.state {
            State::Args { left: 1, until: Some(end), .. } => end,
            _ => self.limit,
        }
    }

    /// Reads the command at the front of `input`. Gives its length in bytes once it is whole; until then `None`,
    /// and the next call's input must begin with the same bytes. After a command, the next call begins a new one.
    ///
    /// A bare newline is a command of no arguments, and so are `*0` and an empty line.
    ///
    /// # Errors
    /// If the bytes are no command, or claim to be larger than the limits.
    #[inline]
    pub fn read(&mut self, input: &[u8]) -> Result<Option<usize>, RespError> {
        let (mut left, mut at) = match self.state {
            State::Args { left, at, .. } => (left, at),
            State::Start => {
                self.args.clear();
                self.unquoted.clear();
                self.inline = false;
                match input.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some((count, next)) = number(input, 1)? else { return Ok(None) };
                        let count = unsigned(count, 1)?;
                        self.admit(count.saturating_mul(ARG as u64), 1)?;
                        (count, next)
                    }
                    Some(_) => return self.read_inline(input),
                }
            }
        };
        while left > 0 {
            let header = match input.get(at) {
                Some(b'$') => number(input, at + 1)?,
                Some(&other) => return Err(RespError::new(at, RespErrorKind::Unexpected(other))),
                None => None,
            };
            let Some((len, start)) = header else {
                self.state = State::Args { left, at, until: None };
                return Ok(None);
            };
            let len = unsigned(len, at)?;
            let args = (self.args.len() + 1).saturating_mul(ARG) as u64;
            self.admit(len.saturating_add(start as u64).saturating_add(args), at)?;
            let len =
                usize::try_from(len).map_err(|_| RespError::new(at, RespErrorKind::Number))?;
            let end = start.saturating_add(len);
            match input.get(end..end.saturating_add(2)) {
                Some(b"\r\n") => {}
                Some(_) => return Err(RespError::new(end, RespErrorKind::Unterminated)),
                None => {
                    self.state = State::Args { left, at, until: Some(end.saturating_add(2)) };
                    return Ok(None);
                }
            }
            self.args.push(start..end);
            at = end + 2;
            left -= 1;
        }
        self.state = State::Start;
        Ok(Some(at))
    }

    /// An error if something at `at` makes the command take more than it may.
    fn admit(&self, claimed: u64, at: usize) -> Result<(), RespError> {
        let limit = self.limit as u64;
        if claimed > limit {
            return Err(RespError::new(at, RespErrorKind::TooLong { claimed, limit }));
        }
        Ok(())
    }

    /// The arguments of the command that [`read`](Self::read) has just finished, `input` being what it was given. Behind an error: those that
    /// were whole.
    pub fn args<'a>(&'a self, input: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.args.iter().enumerate().map(move |(index, range)| {
            match self.unquoted.iter().find(|(of, _)| *of == index) {
                Some((_, bytes)) => bytes.as_slice(),
                None => input.get(range.clone()).unwrap_or_default(),
            }
        })
    }

    /// Whether the command came as an inline line, whose bytes are not what a target should be sent.
    #[must_use]
    pub fn was_inline(&self) -> bool {
        self.inline
    }

    /// An inline command: words between blanks, with the quotes that `sdssplitargs` knows (redis `sds.c`).
    fn read_inline(&mut self, input: &[u8]) -> Result<Option<usize>, RespError> {
        let Some((end, next)) = line(input, 0)? else { return Ok(None) };
        self.inline = true;
        let text = input.get(..end).unwrap_or_default();
        let mut at = 0;
        while let Some(skipped) =
            text.get(at..).and_then(|rest| rest.iter().position(|b| !b.is_ascii_whitespace()))
        {
            at += skipped;
            let rest = text.get(at..).unwrap_or_default();
            let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let word = rest.get(..len).unwrap_or_default();
            if word.contains(&b'"') || word.contains(&b'\'') {
                let (unquoted, used) =
                    unquote(rest).ok_or_else(|| RespError::new(at, RespErrorKind::Quotes))?;
                self.unquoted.push((self.args.len(), unquoted));
                self.args.push(at..at + used);
                at += used;
            } else {
                self.args.push(at..at + len);
                at += len;
            }
        }
        Ok(Some(next))
    }
}

/// The number whose digits begin at `at`, and where the next line begins.
#[inline]
fn number(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, RespError> {
    // The two shapes that nearly all headers have, without a search for the end of the line.
    match input.get(at..) {
        Some([a @ b'0'..=b'9', b'\r', b'\n', ..]) => {
            return Ok(Some((i64::from(a - b'0'), at + 3)));
        }
        Some([a @ b'0'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..]) => {
            return Ok(Some((i64::from(a - b'0') * 10 + i64::from(b - b'0'), at + 4)));
        }
        _ => {}
    }
    let Some((end, next)) = line(input, at)? else { return Ok(None) };
    Ok(Some((integer(input.get(at..end).unwrap_or_default(), at)?, next)))
}

fn unsigned(number: i64, at: usize) -> Result<u64, RespError> {
    u64::try_from(number).map_err(|_| RespError::new(at, RespErrorKind::Number))
}

/// One quoted word at the front of `text`: its bytes, and how many were used. `None` if the quotes do not balance.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (quote, byte) {
            (None, b) if b.is_ascii_whitespace() => return Some((word, at)),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), b) if open == b => {
                // a closing quote must be followed by a blank or nothing
                return text
                    .get(at + 1)
                    .is_none_or(u8::is_ascii_whitespace)
                    .then_some((word, at + 1));
            }
            (Some(b'"'), b'\\') => {
                let (escaped, used) = match text.get(at + 1..)? {
                    [b'x', high, low, ..]
                        if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                    {
                        let hex = |digit: u8| {
                            char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
                        };
                        (hex(*high)? * 16 + hex(*low)?, 3)
                    }
                    [b'n', ..] => (b'\n', 1),
                    [b'r', ..] => (b'\r', 1),
                    [b't', ..] => (b'\t', 1),
                    [b'b', ..] => (0x08, 1),
                    [b'a', ..] => (0x07, 1),
                    [other, ..] => (*other, 1),
                    [] => return None,
                };
                word.push(escaped);
                at += used;
            }
            (Some(b'\''), b'\\') if text.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 1;
            }
            (_, other) => word.push(other),
        }
        at += 1;
    }
    quote.is_none().then_some((word, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(reader: &mut CommandReader, input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, RespError> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(used) = reader.read(&input[at..])? {
            found.push(reader.args(&input[at..]).map(<[u8]>::to_vec).collect());
            at += used;
        }
        assert_eq!(at, input.len());
        Ok(found)
    }

    #[test]
    fn the_old_masters_inline_commands() {
        let mut reader = CommandReader::default();
        let found = all(&mut reader, b"select 5\r\nPING\r\n\n*1\r\n$4\r\nping\r\n*0\r\n").unwrap();
        let words = |list: &[&[u8]]| list.iter().map(|w| w.to_vec()).collect::<Vec<_>>();
        assert_eq!(
            found,
            [words(&[b"select", b"5"]), words(&[b"PING"]), vec![], words(&[b"ping"]), vec![]]
        );
    }

    #[test]
    fn quotes_in_an_inline_command() {
        let mut reader = CommandReader::default();
        let found = all(&mut reader, b"set \"a\\x00 b\" 'it\\'s' c\n").unwrap();
        assert_eq!(
            found,
            [[b"set".to_vec(), b"a\x00 b".to_vec(), b"it's".to_vec(), b"c".to_vec()]]
        );
        assert_eq!(reader.read(b"set \"a\n").unwrap_err().kind, RespErrorKind::Quotes);
    }

    #[test]
    fn claims_are_not_believed() {
        let read = |input: &[u8]| CommandReader::default().read(input).unwrap_err().kind;
        assert!(matches!(read(b"*99999999999\r\n"), RespErrorKind::TooLong { .. }));
        assert_eq!(read(b"*-2\r\n"), RespErrorKind::Number);
        assert_eq!(read(b"*1\r\n:5\r\n"), RespErrorKind::Unexpected(b':'));
        assert_eq!(read(b"*1\r\n$1\r\nabc"), RespErrorKind::Unterminated);
        assert!(matches!(read(&[b'1'; 70_000]), RespErrorKind::LongLine(_)));
        assert_eq!(CommandReader::default().read(b"*1\r\n$4000000000\r\nab"), Ok(None));
    }

    #[test]
    fn a_command_takes_what_it_may_and_no_more() {
        let read = |input: &[u8]| CommandReader::with_limit(100).read(input).map_err(|e| e.kind);
        let too_long = |claimed| Err(RespErrorKind::TooLong { claimed, limit: 100 });
        assert_eq!(read(b"*4\r\n"), too_long(128), "four arguments of 32 bytes, empty ones");
        assert_eq!(read(b"*1\r\n$59\r\n"), Ok(None));
        assert_eq!(read(b"*1\r\n$60000\r\n"), too_long(60_044));
        assert_eq!(read(b"*2\r\n$1\r\na\r\n$20\r\n"), Ok(None));
        assert_eq!(read(b"*2\r\n$1\r\na\r\n$30\r\n"), too_long(110));
    }

    #[test]
    fn the_length_is_known_with_the_last_header() {
        let mut reader = CommandReader::with_limit(1000);
        let longest = |reader: &mut CommandReader, input: &[u8]| {
            assert_eq!(reader.read(input), Ok(None));
            reader.longest()
        };
        assert_eq!(longest(&mut reader, b"*2\r\n$1\r"), 1000);
        assert_eq!(longest(&mut reader, b"*2\r\n$1\r\na"), 1000);
        assert_eq!(longest(&mut reader, b"*2\r\n$1\r\na\r\n$5"), 1000);
        assert_eq!(longest(&mut reader, b"*2\r\n$1\r\na\r\n$5\r\nx"), 22);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_at_any_cut(
            commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), 0..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut input = Vec::new();
            for args in &commands {
                crate::resp::command(&mut input, &args.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            let mut reader = CommandReader::default();
            prop_assert_eq!(&all(&mut reader, &input).unwrap(), &commands);

            // the same commands, the input cut at one place
            let cut = cut.index(input.len() + 1);
            let (mut found, mut at) = (Vec::new(), 0);
            for end in [cut, input.len()] {
                while let Some(used) = reader.read(&input[at..end]).unwrap() {
                    found.push(reader.args(&input[at..end]).map(<[u8]>::to_vec).collect::<Vec<_>>());
                    at += used;
                }
            }
            prop_assert_eq!(found, commands);
        }

        #[test]
        fn hostile_bytes_are_an_error_or_a_command(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = CommandReader::default();
            if let Ok(Some(used)) = reader.read(&input) {
                prop_assert!(used <= input.len() && used > 0);
                prop_assert!(reader.args(&input).all(|arg| arg.len() <= input.len()));
            }
        }
    }
}
