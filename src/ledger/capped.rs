//! How much of a disk may be used.

use std::io;

use super::Scratch;

/// A scratch of which no more than so many bytes may be used.
#[derive(Debug)]
pub(crate) struct Capped<S> {
    scratch: S,
    limit: u64,
}

impl<S> Capped<S> {
    pub(crate) const fn new(scratch: S, limit: u64) -> Self {
        Self { scratch, limit }
    }
}

impl<S: Scratch> Scratch for Capped<S> {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if at.saturating_add(bytes.len() as u64) > self.limit {
            let text = format!("the names take more than the {} bytes that they may", self.limit);
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        self.scratch.write_at(at, bytes)
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.scratch.read_at(at, into)
    }
}
