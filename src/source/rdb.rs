//! An RDB file as a source: its data set, and no stream behind it.

use std::future::pending;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tracing::warn;

use crate::rdb::error::RdbError;
use crate::rdb::parser::Depth;
use crate::rdb::reader::{Next, Reader};
use crate::repl::{Event, ReplError};

use super::SourceError;

/// An RDB file that is being read.
#[derive(Debug)]
pub struct RdbFile {
    path: PathBuf,
    file: File,
    size: u64,
    reader: Reader,
    stage: Stage,
}

/// What is told next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    FullSync,
    Begins,
    Payload,
    Ends,
    Told,
}

impl RdbFile {
    /// Opens the file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, size) = super::open_file(path).await?;
        let (path, reader) = (path.to_owned(), Reader::new());
        Ok(Self { path, file, size, reader, stage: Stage::FullSync })
    }

    /// See [`Session::claimed`](crate::repl::Session::claimed).
    #[must_use]
    pub fn claimed(&self) -> usize {
        self.reader.wanted()
    }

    /// See [`Session::set_piece_limit`](crate::repl::Session::set_piece_limit).
    pub fn set_piece_limit(&mut self, bytes: usize) {
        self.reader.set_element_limit(bytes);
    }

    /// The next thing that the file says, as a master would; `None` when [`exchange`](Self::exchange) must bring more, and
    /// when all has been told.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, SourceError> {
        let (stage, event) = match self.stage {
            Stage::FullSync => (Stage::Begins, Event::FullSync { at: None, refused: None }),
            Stage::Begins => {
                (Stage::Payload, Event::PayloadBegins { length: Some(self.size), mark: None })
            }
            Stage::Payload => match self.reader.next().map_err(damaged)? {
                Next::NeedMore => return Ok(None),
                Next::Event(event) => (Stage::Payload, Event::Rdb(event)),
                Next::End(checksum) => (Stage::Ends, Event::PayloadRead { checksum }),
            },
            Stage::Ends => {
                let rest = self.size.saturating_sub(self.reader.position());
                if rest > 0 {
                    warn!(
                        bytes = rest,
                        "more stands behind the data set in the file; it is left out"
                    );
                }
                (Stage::Told, Event::PayloadEnds)
            }
            Stage::Told => return Ok(None),
        };
        self.stage = stage;
        Ok(Some(event))
    }

    /// How the value of the key that was told last is wanted.
    pub fn choose(&mut self, depth: Depth) {
        self.reader.choose(depth);
    }

    /// Bytes of the file that have been taken.
    #[must_use]
    pub fn payload_position(&self) -> u64 {
        self.reader.position()
    }

    /// Whether all has been told.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Told)
    }

    /// Reads on. Never returns with `read` false, nor when all has been told. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If the file cannot be read, or ends before the data set does.
    pub async fn exchange(&mut self, read: bool) -> Result<u64, SourceError> {
        if !read || self.is_ended() {
            return pending().await;
        }
        let count = super::read_file(&mut self.file, &self.path, self.reader.buffer()).await?;
        if count == 0 {
            return Err(damaged(self.reader.truncated()));
        }
        self.reader.filled(count);
        Ok(count as u64)
    }
}

fn damaged(error: RdbError) -> SourceError {
    SourceError::Damaged { at: error.at, source: ReplError::Rdb(error) }
}
