//! What a job's copy was, key by key, and which keys were written since: kept while the job goes on, so that a comparison needs no second copy of the
//! source.
//!
//! ```text
//! file   head | block …
//! head   "UNDRDIGS" | version, 4 bytes | the machine's start, 40 bytes | whose, 16 bytes | seed of the digests, 8 bytes
//!        | up to where in the stream it tells all, 8 bytes, which are written over
//! block  what it tells, 1 byte | length, 4 bytes | so many bytes | CRC-64, inverted, of all that
//! ```
//! | block | its bytes |
//! | --- | --- |
//! | `K` | keys of the copy, as [`Noted`](super::Noted) are written: by the source's databases and names, with the deadlines that it told |
//! | `W` | names that commands have written since, or whose value was not read: database, length, name; numbers as RDB files have them |
//! | `C` | the copy is whole |
//! | `T` | the token of the process that goes on with the job from here |
//! | `X` | why nothing behind this is told: what then happened is not to be had by names |
//!
//! All numbers are little endian. A key that no `W` names was on the source what its `K` says, at every offset from the copy's up to the one in the head.
//! Names that were written again just before are not repeated. What was written is there for whoever comes after the process, however that ended;
//! after a crash of the machine it may not be, so a file counts only while the machine runs on.

mod reader;
mod writer;

use std::io;

pub use reader::{Reader, Skimmed, Told};
pub use writer::Writer;

const MAGIC: [u8; 8] = *b"UNDRDIGS";
const VERSION: u32 = 1;
const START: usize = 40;

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    start: [u8; START],
    whose: u128,
    seed: u64,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DigestsError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is none, of another version, of another source or other rules, or of before the machine was started.
    #[error("it does not tell of this source, these rules and this start of the machine")]
    Foreign,
    /// A block of it is not what was written.
    #[error("it is damaged at byte {at}")]
    Damaged {
        /// Where the block begins.
        at: u64,
    },
}

impl Head {
    /// The bytes before the first block.
    pub const LEN: u64 = Self::COVERED + 8;

    /// Where it stands up to where the file tells all.
    pub const COVERED: u64 = (MAGIC.len() + 4 + START + 16 + 8) as u64;

    /// That of a file: since which start of the machine, whose (a digest of the source and its rules), and the seed of the digests.
    #[must_use]
    pub fn new(start: &str, whose: u128, seed: u64) -> Self {
        let mut machine = [0; START];
        machine.iter_mut().zip(start.as_bytes()).for_each(|(to, from)| *to = *from);
        Self { start: machine, whose, seed }
    }

    /// Its bytes. So far nothing is told.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut head = self.fixed();
        head.extend_from_slice(&0_u64.to_le_bytes());
        head
    }

    fn fixed(&self) -> Vec<u8> {
        let Self { start, whose, seed } = self;
        let mut head = Vec::new();
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(start);
        head.extend_from_slice(&whose.to_le_bytes());
        head.extend_from_slice(&seed.to_le_bytes());
        head
    }
}

/// What a block tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Keys,
    Written,
    Whole,
    Taken,
    Ends,
}

impl Block {
    const fn byte(self) -> u8 {
        match self {
            Self::Keys => b'K',
            Self::Written => b'W',
            Self::Whole => b'C',
            Self::Taken => b'T',
            Self::Ends => b'X',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Keys, Self::Written, Self::Whole, Self::Taken, Self::Ends];
        all.into_iter().find(|block| block.byte() == byte)
    }
}

/// The bytes of a block before and behind what it tells.
const FRONT: usize = 5;
const BACK: usize = 8;

#[cfg(test)]
mod tests;
