//! What was kept, read again, also while it is written on.

use std::io::{self, Read, Seek, SeekFrom};

use crate::key::Db;
use crate::rdb::crc::crc64;
use crate::rdb::length::length;

use super::super::notes::Noted;
use super::{BACK, Block, DigestsError, FRONT, Head};

/// Reads a file from its beginning.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// The seed of its digests.
    seed: u64,
    /// Where the next block begins.
    at: u64,
    block: Vec<u8>,
    kind: Block,
    /// How much of what the block tells was given.
    given: usize,
}

/// What a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// A key of the copy, by the source's database and name.
    Key(Noted<'a>),
    /// A key that was written since, or was not read.
    Written(Db, &'a [u8]),
    /// The copy is whole.
    Whole,
    /// From here on the process with this token goes on with the job.
    TakenBy(&'a str),
    /// From here on nothing is told, for this reason.
    Ends(&'a str),
}

/// What a file comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skimmed {
    /// Whether its copy is whole.
    pub is_whole: bool,
    /// The token of the process that went on last.
    pub taken_by: Option<String>,
    /// Why nothing more is told, if that is so.
    pub ends: Option<String>,
    /// How many bytes tell keys,
    pub keys: u64,
    /// and how many names.
    pub names: u64,
    /// Where its last whole block ends.
    pub end: u64,
}

/// No block is longer: one that says so is none.
const LONGEST: usize = 1 << 30;

impl<R: Read + Seek> Reader<R> {
    /// One of a file whose head must be this, but for the seed.
    ///
    /// # Errors
    /// If it is another's, or cannot be read.
    pub fn new(mut from: R, head: &Head) -> Result<Self, DigestsError> {
        let fixed = head.fixed();
        let mut found = vec![0; fixed.len()];
        let mut covered = [0; 8];
        from.rewind()?;
        match from.read_exact(&mut found).and_then(|()| from.read_exact(&mut covered)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(DigestsError::Foreign);
            }
            read => read?,
        }
        let both = found.split_last_chunk::<8>().zip(fixed.split_last_chunk::<8>());
        match both {
            Some(((found, seed), (wanted, _))) if found == wanted => {
                let seed = u64::from_le_bytes(*seed);
                let (at, block, kind) = (Head::LEN, Vec::new(), Block::Whole);
                Ok(Self { from, seed, at, block, kind, given: 0 })
            }
            _ => Err(DigestsError::Foreign),
        }
    }

    /// The seed of the digests.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Up to where in the stream it tells all, by now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn covered(&mut self) -> Result<u64, DigestsError> {
        let mut offset = [0; 8];
        self.from.seek(SeekFrom::Start(Head::COVERED))?;
        self.from.read_exact(&mut offset)?;
        Ok(u64::from_le_bytes(offset))
    }

    /// What it is read from.
    pub const fn get_ref(&self) -> &R {
        &self.from
    }

    /// Looks through it as far as it goes now, without its keys and names. What is read next is the same as if this had not been done.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn skim(&mut self) -> Result<Skimmed, DigestsError> {
        let mut skimmed = Skimmed::default();
        let len = self.from.seek(SeekFrom::End(0))?;
        let mut at = Head::LEN;
        loop {
            skimmed.end = at;
            self.from.seek(SeekFrom::Start(at))?;
            let mut front = [0; FRONT];
            if !is_there(self.from.read_exact(&mut front))? {
                return Ok(skimmed);
            }
            let (kind, bytes) = front_of(front).ok_or(DigestsError::Damaged { at })?;
            at += (FRONT + bytes + BACK) as u64;
            if at > len {
                return Ok(skimmed);
            }
            match kind {
                Block::Keys => skimmed.keys += bytes as u64,
                Block::Written => skimmed.names += bytes as u64,
                Block::Whole => skimmed.is_whole = true,
                Block::Taken | Block::Ends => {
                    let mut told = String::new();
                    self.from.by_ref().take(bytes as u64).read_to_string(&mut told)?;
                    let place = match kind {
                        Block::Taken => &mut skimmed.taken_by,
                        _ => &mut skimmed.ends,
                    };
                    *place = Some(told);
                }
            }
        }
    }

    /// What it tells next. `None` behind the last block that is whole: by then there may be more.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn next_told(&mut self) -> Result<Option<Told<'_>>, DigestsError> {
        let is_through = match self.kind {
            Block::Keys | Block::Written => self.given == self.block.len(),
            Block::Whole | Block::Taken | Block::Ends => true,
        };
        if is_through && !self.next_block()? {
            return Ok(None);
        }
        let at = self.at;
        let rest = self.block.get(self.given..).unwrap_or_default();
        let told = match self.kind {
            Block::Keys => Noted::first(rest).map(|(noted, len)| (Told::Key(noted), len)),
            Block::Written => written(rest),
            Block::Whole => Some((Told::Whole, rest.len())),
            Block::Taken => text(rest).map(|token| (Told::TakenBy(token), rest.len())),
            Block::Ends => text(rest).map(|why| (Told::Ends(why), rest.len())),
        };
        let (told, len) = told.ok_or(DigestsError::Damaged { at })?;
        self.given += len;
        Ok(Some(told))
    }

    /// Reads the next block. `false` if it is not there, or not all of it.
    fn next_block(&mut self) -> Result<bool, DigestsError> {
        let damaged = DigestsError::Damaged { at: self.at };
        self.from.seek(SeekFrom::Start(self.at))?;
        let mut front = [0; FRONT];
        if !is_there(self.from.read_exact(&mut front))? {
            return Ok(false);
        }
        let Some((kind, len)) = front_of(front) else { return Err(damaged) };
        self.block.clear();
        self.block.extend_from_slice(&front);
        // Memory is taken as bytes come, whatever the length says.
        let wanted = (len + BACK) as u64;
        let read = self.from.by_ref().take(wanted).read_to_end(&mut self.block)?;
        if (read as u64) < wanted {
            // Nothing of it was given.
            (self.kind, self.given) = (Block::Whole, 0);
            self.block.clear();
            return Ok(false);
        }
        let Some((told, sum)) = self.block.split_last_chunk::<BACK>() else { return Err(damaged) };
        if !crc64(told) != u64::from_le_bytes(*sum) {
            return Err(damaged);
        }
        let end = told.len();
        self.at += self.block.len() as u64;
        self.block.truncate(end);
        (self.kind, self.given) = (kind, FRONT);
        Ok(true)
    }
}

/// What a block tells, and how many bytes that takes.
fn front_of([byte, len @ ..]: [u8; FRONT]) -> Option<(Block, usize)> {
    let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
    Block::of(byte).filter(|_| len <= LONGEST).map(|kind| (kind, len))
}

/// Whether as many bytes were there as were wanted.
fn is_there(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn written(bytes: &[u8]) -> Option<(Told<'_>, usize)> {
    let (rest, db) = length(bytes).ok()?;
    let (rest, len) = length(rest).ok()?;
    let (name, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let db = Db::new(u32::try_from(db).ok()?);
    Some((Told::Written(db, name), bytes.len() - rest.len()))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
