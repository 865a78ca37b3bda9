//! Bytes on a disk, first in, first out.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ledger::Scratch;

/// One file of a queue.
pub type Segment = Box<dyn Scratch + Send>;

/// Makes files for a queue.
pub type Make = Arc<dyn Fn() -> io::Result<Segment> + Send + Sync>;

/// How much of a disk may be used, by all queues together.
#[derive(Clone, Debug)]
pub struct Allowance {
    limit: u64,
    used: Arc<AtomicU64>,
}

impl Allowance {
    /// So many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, used: Arc::default() }
    }

    /// All that may be used, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What is in use, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, if they are left.
    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The queue. Its files are of one size, and each is given back to the disk as soon as it has been read: no more of it is in use than what
/// waits, and a file's size.
pub(super) struct Queue {
    make: Make,
    allowance: Allowance,
    /// How much goes into one file.
    size: u64,
    /// The first is read, the last is written.
    files: VecDeque<Part>,
    /// Bytes that wait.
    len: u64,
}

struct Part {
    file: Segment,
    written: u64,
    read: u64,
}

/// Files of this part of all that may be used: few enough to be open all at once, and small enough to be given back soon.
const FILES: u64 = 128;

impl Queue {
    /// An empty queue to which no more than `longest` bytes are added at once. It makes its files when it needs them.
    pub(super) fn new(make: Make, allowance: Allowance, longest: usize) -> Self {
        let size = (allowance.limit() / FILES).max(longest as u64);
        Self { make, allowance, size, files: VecDeque::new(), len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds these bytes behind all others. `false`, and nothing has changed, if there is no room for them.
    ///
    /// # Errors
    /// If they cannot be written. Nothing has changed then either.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let count = bytes.len() as u64;
        if !self.allowance.take(count) {
            return Ok(false);
        }
        let pushed = self.write(bytes, count);
        match pushed {
            Ok(()) => self.len += count,
            Err(_) => self.allowance.give_back(count),
        }
        pushed.map(|()| true)
    }

    fn write(&mut self, bytes: &[u8], count: u64) -> io::Result<()> {
        let size = self.size;
        if let Some(last) = self.files.back_mut().filter(|last| last.written + count <= size) {
            last.file.write_at(last.written, bytes)?;
            last.written += count;
            return Ok(());
        }
        let mut file = (self.make)()?;
        file.write_at(0, bytes)?;
        self.files.push_back(Part { file, written: count, read: 0 });
        Ok(())
    }

    /// Takes the first bytes out, as many as `into` holds if so many stand in one file. Gives how many they are: 0 if nothing waits.
    ///
    /// # Errors
    /// If they cannot be read. What has been written is lost then.
    pub(super) fn pop(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(first) = self.files.front_mut() else { return Ok(0) };
        let left = usize::try_from(first.written - first.read).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let into = into.get_mut(..count).unwrap_or_default();
        first.file.read_at(first.read, into)?;
        first.read += count as u64;
        self.len -= count as u64;
        if first.read == first.written {
            self.allowance.give_back(first.written);
            self.files.pop_front();
        }
        Ok(count)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.files.iter().for_each(|part| self.allowance.give_back(part.written));
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allowance, size, files, len, .. } = self;
        let mut told = f.debug_struct("Queue");
        told.field("allowance", allowance).field("size", size).field("len", len);
        told.field("files", &files.len()).finish_non_exhaustive()
    }
}
