//! A capture as a source: what a master said when it was recorded, up to the end of the file.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tracing::warn;

use crate::offset::Offset;
use crate::rdb::parser::Depth;
use crate::repl::{Event, ReplError, Session, Sidecar};

use super::SourceError;

/// A capture that is being read.
#[derive(Debug)]
pub struct Capture {
    path: PathBuf,
    file: File,
    size: u64,
    sidecar: Sidecar,
    session: Session,
    ended: bool,
}

impl Capture {
    /// Opens a capture and the sidecar beside it.
    ///
    /// # Errors
    /// If one of them is missing, cannot be read, is damaged or does not belong to the other, and if the capture holds no data set.
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let (mut file, size) = super::open_file(path).await?;
        let sidecar = read_sidecar(path).await?;
        if let Some(stated) = sidecar.total_bytes
            && stated != size
        {
            return Err(SourceError::Size { size, stated });
        }
        let mut head = [0; HEAD];
        let count = super::read_file(&mut file, path, &mut head).await?;
        let head = head.get(..count).unwrap_or_default();
        let begin = head.iter().position(|&byte| byte != b'\n').unwrap_or(count);
        let head = head.get(begin..).unwrap_or_default();
        if head.starts_with(b"+CONTINUE") {
            return Err(SourceError::NoDataSet);
        }
        let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
        file.rewind().await.map_err(unreadable)?;
        let session = Session::asked(head.starts_with(b"$"), None);
        Ok(Self { path: path.to_owned(), file, size, sidecar, session, ended: false })
    }

    /// See [`Session::set_piece_limit`].
    pub fn set_piece_limit(&mut self, bytes: usize) {
        self.session.set_piece_limit(bytes);
    }

    /// What was noted when it was recorded.
    #[must_use]
    pub fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// See [`Session::claimed`].
    #[must_use]
    pub fn claimed(&self) -> usize {
        self.session.claimed()
    }

    /// The next thing that the master said; `None` when [`exchange`](Self::exchange) must bring more, and at the end.
    ///
    /// # Errors
    /// If the capture is damaged.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, SourceError> {
        let (position, payload) = (self.session.position(), self.session.payload_position());
        // Nothing is acknowledged to a file, and so no time matters.
        self.session.poll_event(Duration::ZERO).map_err(|source| {
            let at = match &source {
                ReplError::Rdb(error) => position - payload.unwrap_or(0) + error.at,
                ReplError::Stream { source, .. } => position + source.at as u64,
                _ => position,
            };
            SourceError::Damaged { at, source }
        })
    }

    /// How the value of the key that was told last is wanted.
    pub fn choose(&mut self, depth: Depth) {
        self.session.choose(depth);
    }

    /// Bytes of the payload that have been taken; `None` outside of it.
    #[must_use]
    pub fn payload_position(&self) -> Option<u64> {
        self.session.payload_position()
    }

    /// How many bytes of the capture have been taken: where the last event ends.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.session.position()
    }

    /// Where the stream has been taken to.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.session.offset()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the file's end has been reached. Bytes of a last command that is not whole are never told.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// What the master's clock showed when it sent what is told next, in milliseconds since 1970, as far as the sidecar lets it be
    /// known (see [`Sidecar::time_at`]).
    #[must_use]
    pub fn recorded_ms(&self) -> Option<i64> {
        self.sidecar.time_at(self.session.position(), self.size)
    }

    /// Reads on, when there is no event left. Never returns with `read` false, nor once the end was reached. Nothing is lost if
    /// the future is dropped.
    ///
    /// # Errors
    /// If the file cannot be read, or ends before the stream begins.
    pub async fn exchange(&mut self, read: bool) -> Result<u64, SourceError> {
        if !read || self.ended {
            return pending().await;
        }
        self.session.transmit().clear();
        let count = super::read_file(&mut self.file, &self.path, self.session.buffer()).await?;
        self.session.filled(count);
        if count == 0 {
            if let Some(source) = self.session.unfinished() {
                // Within a record the place is where that begins, as everywhere.
                let at = match &source {
                    ReplError::Rdb(_) => self.session.position(),
                    _ => self.session.position() + self.session.left_over() as u64,
                };
                return Err(SourceError::Damaged { at, source });
            }
            self.ended = true;
            let left_over = self.session.left_over();
            if left_over > 0 {
                warn!(
                    bytes = left_over,
                    at = self.session.position(),
                    "the capture ends inside of a command, which is left out"
                );
            }
        }
        Ok(count as u64)
    }
}

/// How many bytes of the beginning are looked at: more newlines than a master sends in an hour.
const HEAD: usize = 4096;

/// The largest sidecar that is read, in bytes. Those of the largest recordings, with a data set beside them, have a few hundred
/// kilobytes.
const LARGEST_SIDECAR: u64 = 256 << 20;

async fn read_sidecar(capture: &Path) -> Result<Sidecar, SourceError> {
    let path = capture.with_extension("json");
    let (file, _) = super::open_file(&path).await?;
    let mut json = Vec::new();
    match file.take(LARGEST_SIDECAR).read_to_end(&mut json).await {
        Ok(_) => Sidecar::parse(&json)
            .and_then(Sidecar::playable)
            .map_err(|source| SourceError::Sidecar { path, source }),
        Err(source) => Err(SourceError::Unreadable { path, source }),
    }
}
