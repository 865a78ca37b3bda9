//! The names as a file of the job's folder, so that a process that goes on knows what earlier ones have noted.
//!
//! ```text
//! "UNDRNAME" | version, 4 bytes | the machine's start, 40 bytes | digest of the sources, 16 bytes | source, 1 byte and hash, 8 bytes, each
//! ```
//! All numbers are little endian. What was written is there for whoever comes after the process, however that ended; after a crash of the
//! machine it may not be, so a log counts only while the machine runs on (`/proc/sys/kernel/random/boot_id`).

use std::io;
use std::io::{Read, Write};

use super::{MOST, Owners, TooMany};

const MAGIC: [u8; 8] = *b"UNDRNAME";
const VERSION: u32 = 1;
const START: usize = 40;
const DIGEST: usize = 16;

/// Of one name.
const RECORD: usize = 9;

/// How much is read at once.
const CHUNK: usize = RECORD * 8192;

/// The bytes before the first name.
const HEAD: usize = MAGIC.len() + 4 + START + DIGEST;

/// A log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is none, of another version, of other sources, or of before the machine was started.
    #[error("it does not tell what this job has noted since the machine was started")]
    Foreign,
    /// Its names take too much memory.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// Names that are yet to be written.
#[derive(Debug, Default)]
pub struct Log {
    unwritten: Vec<u8>,
}

impl Log {
    /// What a log begins with: which start of the machine, and whose names they are.
    #[must_use]
    pub fn head(start: &str, sources: u128) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        let mut machine = [0; START];
        machine.iter_mut().zip(start.as_bytes()).for_each(|(to, from)| *to = *from);
        head.extend_from_slice(&machine);
        head.extend_from_slice(&sources.to_le_bytes());
        head
    }

    /// Notes a name.
    pub fn push(&mut self, owner: u8, hash: u64) {
        self.unwritten.push(owner);
        self.unwritten.extend_from_slice(&hash.to_le_bytes());
    }

    /// Writes what was noted. What could not be written is tried again next time, behind what was.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&mut self, to: &mut impl Write) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            match to.write(&self.unwritten) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.unwritten.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether all was written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.unwritten.is_empty()
    }
}

/// Reads a log whose head must be this one, in the order in which it was written. Gives how many bytes of it count: a name that was cut off was
/// of nothing that had been sent.
///
/// # Errors
/// If it is another's or cannot be read; and those of `each`.
pub fn read_log(
    head: &[u8],
    mut from: impl Read,
    mut each: impl FnMut(u8, u64) -> Result<(), LogError>,
) -> Result<u64, LogError> {
    let mut found = vec![0; head.len()];
    match from.read_exact(&mut found) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(LogError::Foreign);
        }
        read => read?,
    }
    if found != head {
        return Err(LogError::Foreign);
    }
    let (mut chunk, mut len) = (Vec::with_capacity(CHUNK), head.len() as u64);
    loop {
        chunk.clear();
        if from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)? < RECORD {
            return Ok(len);
        }
        let (records, _) = chunk.as_chunks::<RECORD>();
        for [owner, hash @ ..] in records {
            if usize::from(*owner) >= MOST {
                return Err(LogError::Foreign);
            }
            each(*owner, u64::from_le_bytes(*hash))?;
        }
        len += (records.len() * RECORD) as u64;
    }
}

impl Owners {
    /// Notes all that a log tells, whose head must be this one. Gives how many bytes of it count: behind them it is gone on with.
    ///
    /// # Errors
    /// If it is another's, cannot be read, or holds too much.
    pub fn recall_log(&mut self, head: &[u8], from: impl Read) -> Result<u64, LogError> {
        read_log(head, from, |owner, hash| Ok(self.recall(owner, hash)?))
    }
}
