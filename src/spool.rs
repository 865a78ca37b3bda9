//! What a master has said and nobody can take yet: a queue of bytes, in memory first and then on a disk, so that the master is read as fast
//! as it sends however slow the target is.
//!
//! ```text
//!  the socket ──▶ tail ──▶ files on the disk ──▶ head ──▶ the session
//!                   └─────── while there are none ─▲
//! ```
//! The files have no names: nobody else reads them, and they are gone when the process is, however it ends. The disk is read and written on
//! threads of its own; what cannot be written stays in memory, and reading pauses until it can.

mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::mem;
use std::path::{self, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::fs::statfs;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::scratch::Unnamed;

use queue::Queue;
pub use queue::{Allowance, Make, Segment};

/// A folder in which backlogs wait, and how much they may take there, all together.
#[derive(Clone)]
pub struct Store {
    folder: PathBuf,
    make: Make,
    allowance: Allowance,
}

impl Store {
    /// Unnamed files in this folder, of `limit` bytes in all. Nothing is created before it is needed.
    #[must_use]
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        let at = folder.clone();
        Self::with(folder, limit, Arc::new(move || Ok(Box::new(Unnamed::create(&at)?))))
    }

    /// The same, with files that somebody else makes.
    #[must_use]
    pub fn with(folder: PathBuf, limit: u64, make: Make) -> Self {
        Self { folder, make, allowance: Allowance::new(limit) }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How much of it is used, and how much may be.
    #[must_use]
    pub fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// A queue for one source, which has three blocks of so many bytes in memory at the most (4 KiB each at the least), and nothing while
    /// it is empty.
    #[must_use]
    pub fn spool(&self, block: usize) -> Spool {
        let block = block.max(4096);
        let queue = Queue::new(Arc::clone(&self.make), self.allowance.clone(), block);
        Spool {
            block,
            len: 0,
            head: Block::default(),
            kept: Block::default(),
            tail: Block::default(),
            spare: Vec::new(),
            disk: Disk::Idle(Box::new(queue)),
            no_room: None,
            again_at: Duration::ZERO,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, allowance, .. } = self;
        let mut told = f.debug_struct("Store");
        told.field("folder", folder).field("allowance", allowance).finish_non_exhaustive()
    }
}

/// What a disk has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Whether it is no disk: what is written there takes memory.
    pub in_memory: bool,
}

impl Space {
    /// Asks for the disk on which this folder is, or will be once it is made.
    ///
    /// # Errors
    /// If neither it nor any folder above it can be asked.
    pub fn of(folder: &Path) -> io::Result<Self> {
        // linux/magic.h
        const TMPFS: u64 = 0x0102_1994;
        const RAMFS: u64 = 0x8584_58f6;
        let folder = path::absolute(folder)?;
        let there = folder.ancestors().find(|folder| folder.exists());
        let told = statfs(there.unwrap_or(&folder))?;
        // The field's type differs from one architecture to the next.
        let kind = u64::try_from(told.f_type).unwrap_or_default() & u64::from(u32::MAX);
        let size = u64::try_from(told.f_bsize).unwrap_or_default();
        let free = told.f_bavail.saturating_mul(size);
        Ok(Self { free, in_memory: kind == TMPFS || kind == RAMFS })
    }
}

/// One source's backlog.
#[derive(Debug)]
pub struct Spool {
    /// The size of a block.
    block: usize,
    /// Bytes that wait, in memory and on the disk.
    len: u64,
    /// In order: what is taken next; then what is on the disk; then what could not be written there; then what came last.
    head: Block,
    kept: Block,
    tail: Block,
    /// A block's memory that is not in use.
    spare: Vec<u8>,
    disk: Disk,
    /// What hinders the next block from being written.
    no_room: Option<NoRoom>,
    /// When that is tried again.
    again_at: Duration,
}

/// Why a backlog cannot grow.
#[derive(Debug)]
pub enum NoRoom {
    /// All is used that may be.
    Limit,
    /// The disk does not take it.
    Disk(io::Error),
}

#[derive(Debug)]
enum Disk {
    Idle(Box<Queue>),
    Writes(JoinHandle<Written>),
    Reads(JoinHandle<Read>),
    /// What was there is lost.
    Gone,
}

type Written = (Box<Queue>, Block, io::Result<bool>);
type Read = (Box<Queue>, Vec<u8>, io::Result<usize>);

/// Bytes in memory: those between `taken` and `filled`.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

/// How long after a failure the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl Spool {
    /// Room for what comes next from the master; `None` while there is none. What was read is told to [`filled`](Self::filled).
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.tail.filled >= self.block {
            return None;
        }
        if self.tail.bytes.is_empty() {
            self.tail.bytes = self.memory();
        }
        self.tail.bytes.get_mut(self.tail.filled..)
    }

    /// Says that so many bytes were read into the beginning of [`room`](Self::room).
    pub fn filled(&mut self, count: usize) {
        let count = count.min(self.block - self.tail.filled);
        self.tail.filled += count;
        self.len += count as u64;
    }

    /// Moves out as many of the first bytes as are at hand and fit, and gives how many they are.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let unread = self.head.unread();
        let count = unread.len().min(into.len());
        if let (Some(into), Some(bytes)) = (into.get_mut(..count), unread.get(..count)) {
            into.copy_from_slice(bytes);
        }
        self.head.taken += count;
        self.len -= count as u64;
        if self.len == 0 {
            // A source that is kept up with costs no memory.
            (self.head, self.tail, self.spare) = Default::default();
        } else if self.head.unread().is_empty() {
            self.spare = mem::take(&mut self.head).bytes;
        }
        count
    }

    /// Does what is to be done on the disk, as far as it goes without waiting; whoever asked is woken when there is more to do. `now` counts
    /// from any moment, always the same.
    ///
    /// # Errors
    /// If what was written cannot be read. All that waits is lost then.
    pub fn poll_disk(&mut self, cx: &mut Context<'_>, now: Duration) -> io::Result<()> {
        loop {
            let mut queue = match mem::replace(&mut self.disk, Disk::Gone) {
                Disk::Idle(queue) => queue,
                Disk::Writes(mut writes) => match Pin::new(&mut writes).poll(cx) {
                    Poll::Pending => {
                        self.disk = Disk::Writes(writes);
                        return Ok(());
                    }
                    Poll::Ready(told) => self.written(told.map_err(io::Error::other)?, now),
                },
                Disk::Reads(mut reads) => match Pin::new(&mut reads).poll(cx) {
                    Poll::Pending => {
                        self.disk = Disk::Reads(reads);
                        return Ok(());
                    }
                    Poll::Ready(told) => {
                        let (queue, bytes, read) = told.map_err(io::Error::other)?;
                        self.head = Block { bytes, taken: 0, filled: read? };
                        if let Some(NoRoom::Limit) = self.no_room {
                            self.again_at = now;
                        }
                        queue
                    }
                },
                Disk::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            if self.head.unread().is_empty() {
                if !queue.is_empty() {
                    let mut bytes = self.memory();
                    self.disk = Disk::Reads(spawn_blocking(move || {
                        let read = queue.pop(&mut bytes);
                        (queue, bytes, read)
                    }));
                    continue;
                }
                if !self.kept.unread().is_empty() {
                    self.head = mem::take(&mut self.kept);
                    self.no_room = None;
                } else if self.tail.filled > 0 {
                    self.head = mem::take(&mut self.tail);
                }
            }
            if self.kept.unread().is_empty() && self.tail.filled >= self.block {
                self.kept = mem::take(&mut self.tail);
            }
            if self.kept.unread().is_empty() || self.no_room.is_some() && now < self.again_at {
                self.disk = Disk::Idle(queue);
                return Ok(());
            }
            let kept = mem::take(&mut self.kept);
            self.disk = Disk::Writes(spawn_blocking(move || {
                let written = queue.push(kept.unread());
                (queue, kept, written)
            }));
        }
    }

    /// Takes note of how a block was written.
    fn written(&mut self, (queue, block, told): Written, now: Duration) -> Box<Queue> {
        self.no_room = match told {
            Ok(true) => {
                self.spare = block.bytes;
                return queue;
            }
            Ok(false) => Some(NoRoom::Limit),
            Err(error) => Some(NoRoom::Disk(error)),
        };
        self.again_at = now.saturating_add(AGAIN);
        self.kept = block;
        queue
    }

    /// A block's memory.
    fn memory(&mut self) -> Vec<u8> {
        match mem::take(&mut self.spare) {
            spare if spare.is_empty() => vec![0; self.block],
            spare => spare,
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether [`take`](Self::take) has something to move.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.head.unread().is_empty()
    }

    /// Whether there is no room, and why not.
    #[must_use]
    pub fn full(&self) -> Option<&NoRoom> {
        self.no_room.as_ref().filter(|_| self.tail.filled >= self.block)
    }
}

impl Block {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.taken..self.filled).unwrap_or_default()
    }
}
