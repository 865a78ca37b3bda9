//! The arguments of a command, read with care: what stands there came over a network.

use crate::key::Db;

/// Why arguments cannot be those of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// There are no arguments at all.
    #[error("the command is empty")]
    Empty,
    /// No server that this crate knows has a command of this name.
    #[error("the command is not known")]
    Unknown,
    /// The arguments end before one that the command needs.
    #[error("argument {at} is missing")]
    Missing {
        /// The position of what is missing.
        at: usize,
    },
    /// It should be a number within bounds: of keys, of a database, of seconds.
    #[error("argument {at} is not a number that can stand there")]
    Number {
        /// Its position.
        at: usize,
    },
    /// It is no option, or no subcommand, that the command has.
    #[error("argument {at} is not an option of the command")]
    Option {
        /// Its position.
        at: usize,
    },
}

/// The arguments, asked for by position.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a>(pub(crate) &'a [&'a [u8]]);

impl<'a> Args<'a> {
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    pub(crate) fn at(self, at: usize) -> Result<&'a [u8], Malformed> {
        self.0.get(at).copied().ok_or(Malformed::Missing { at })
    }

    /// Whether this argument is that word, in any case.
    pub(crate) fn is(self, at: usize, word: &str) -> bool {
        self.0.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Which of the words it is.
    pub(crate) fn is_any(self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    pub(crate) fn integer(self, at: usize) -> Result<i64, Malformed> {
        let digits = std::str::from_utf8(self.at(at)?).ok();
        digits.and_then(|digits| digits.parse().ok()).ok_or(Malformed::Number { at })
    }

    /// A number of things that stand behind it, each of `step` arguments: as many must be there.
    pub(crate) fn count(self, at: usize, step: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.integer(at)?).map_err(|_| Malformed::Number { at })?;
        let room = self.len() - at - 1; // `at` was read, so it is below the length
        if count > room / step.max(1) { Err(Malformed::Number { at }) } else { Ok(count) }
    }

    pub(crate) fn db(self, at: usize) -> Result<Db, Malformed> {
        Db::parse(self.at(at)?).ok_or(Malformed::Number { at })
    }
}
