//! Where changes come from. A source knows nothing of targets: it tells what the master says, as
//! [`repl::Event`](crate::repl::Event)s, and is told what has been confirmed. A file is a source too: it says what a master
//! once said.

mod capture;
mod error;
mod fetch;
mod rdb;
mod replica;

use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncReadExt;

pub use capture::Capture;
pub use error::SourceError;
pub use fetch::{FetchError, Fetched, Fetcher, Found, Limits};
pub(crate) use fetch::{History, Left};
pub use rdb::RdbFile;
pub use replica::{Replica, Wants};

use crate::net::Net;
use crate::offset::Offset;
use crate::plan::Place;
use crate::rdb::parser::Depth;
use crate::repl::{Event, Method, Resume};
use crate::server::Server;
use crate::spool::Spool;

/// Any source.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// A master, over a socket.
    Replica(Box<Replica>),
    /// What a master said, in a file.
    Capture(Box<Capture>),
    /// A data set, in a file.
    Rdb(Box<RdbFile>),
}

impl Source {
    /// Opens what stands at this place. A master is asked, by this method, for what came after `resume`; a file is read from its beginning.
    ///
    /// # Errors
    /// If it cannot be reached or read.
    pub async fn open(
        net: &Net,
        place: &Place,
        method: Method,
        resume: Option<Resume>,
    ) -> Result<Self, SourceError> {
        Ok(match place {
            Place::Server(server) => {
                Self::Replica(Box::new(Replica::open(net, server, method, resume).await?))
            }
            Place::Capture(path) => Self::Capture(Box::new(Capture::open(path).await?)),
            Place::Rdb(path) => Self::Rdb(Box::new(RdbFile::open(path).await?)),
        })
    }

    /// The most that may be held in one piece, in bytes: a key, element or packed blob of a data set, a command of the stream. To be set
    /// before anything is read.
    pub fn set_piece_limit(&mut self, bytes: usize) {
        match self {
            Self::Replica(replica) => replica.set_piece_limit(bytes),
            Self::Capture(capture) => capture.set_piece_limit(bytes),
            Self::Rdb(rdb) => rdb.set_piece_limit(bytes),
        }
    }

    /// How large the piece is that is being read, as far as it has said so.
    #[must_use]
    pub fn claimed(&self) -> usize {
        match self {
            Self::Replica(replica) => replica.claimed(),
            Self::Capture(capture) => capture.claimed(),
            Self::Rdb(rdb) => rdb.claimed(),
        }
    }

    /// The next thing that the source says; `None` when [`exchange`](Self::exchange) must bring more.
    ///
    /// # Errors
    /// If the master refuses us or breaks the protocol, or the file is damaged.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, SourceError> {
        match self {
            Self::Replica(replica) => replica.poll_event(),
            Self::Capture(capture) => capture.poll_event(),
            Self::Rdb(rdb) => rdb.poll_event(),
        }
    }

    /// Lets what is read and not wanted yet wait here. A file is read when it is wanted.
    pub fn set_spool(&mut self, spool: Spool) {
        if let Self::Replica(replica) = self {
            replica.set_spool(spool);
        }
    }

    /// Where what is not wanted yet waits.
    #[must_use]
    pub fn spool(&self) -> Option<&Spool> {
        match self {
            Self::Replica(replica) => replica.spool(),
            Self::Capture(_) | Self::Rdb(_) => None,
        }
    }

    /// Sends what is due and reads until something has come, or the end of a file was reached, which is told once; gives how many bytes were
    /// read. With nothing to be read it only keeps the link alive, and does not return unless that fails. Nothing is lost if the
    /// future is dropped.
    ///
    /// # Errors
    /// If the connection is lost, or the file or the spool cannot be read.
    pub async fn exchange(&mut self, wants: Wants) -> Result<u64, SourceError> {
        let wants_more = wants == Wants::MORE;
        match self {
            Self::Replica(replica) => replica.exchange(wants).await,
            Self::Capture(capture) => capture.exchange(wants_more).await,
            Self::Rdb(rdb) => rdb.exchange(wants_more).await,
        }
    }

    /// How the value of the key that was told last is wanted.
    pub fn choose(&mut self, depth: Depth) {
        match self {
            Self::Replica(replica) => replica.choose(depth),
            Self::Capture(capture) => capture.choose(depth),
            Self::Rdb(rdb) => rdb.choose(depth),
        }
    }

    /// What the target has confirmed.
    pub fn confirm(&mut self, upto: Offset) {
        match self {
            Self::Replica(replica) => replica.confirm(upto),
            // A file waits for nobody.
            Self::Capture(_) | Self::Rdb(_) => {}
        }
    }

    /// Bytes of the RDB payload that have been taken; `None` outside of it.
    #[must_use]
    pub fn payload_position(&self) -> Option<u64> {
        match self {
            Self::Replica(replica) => replica.payload_position(),
            Self::Capture(capture) => capture.payload_position(),
            Self::Rdb(rdb) => Some(rdb.payload_position()),
        }
    }

    /// See [`Replica::has_sent`].
    #[must_use]
    pub fn has_sent(&self) -> bool {
        match self {
            Self::Replica(replica) => replica.has_sent(),
            // Nobody forks for a file.
            Self::Capture(_) | Self::Rdb(_) => false,
        }
    }

    /// Whether nothing will come any more: a file has an end, a master has none.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Replica(_) => false,
            Self::Capture(capture) => capture.is_ended(),
            Self::Rdb(rdb) => rdb.is_ended(),
        }
    }

    /// The server whose words a file holds, as far as that is noted; `None` for a master, which can be asked itself.
    #[must_use]
    pub fn recorded_server(&self) -> Option<Server> {
        match self {
            Self::Capture(capture) => capture.sidecar().server(),
            Self::Replica(_) | Self::Rdb(_) => None,
        }
    }

    /// What the master's clock showed, in milliseconds since 1970, when it sent what is told next; `None` for a master that is
    /// followed, which sends it now. Relative deadlines count from it.
    #[must_use]
    pub fn recorded_ms(&self) -> Option<i64> {
        match self {
            Self::Capture(capture) => capture.recorded_ms(),
            Self::Replica(_) | Self::Rdb(_) => None,
        }
    }
}

/// Opens a file and tells its size.
async fn open_file(path: &Path) -> Result<(File, u64), SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, metadata.len()))
}

/// Reads some bytes; none at the end.
async fn read_file(file: &mut File, path: &Path, room: &mut [u8]) -> Result<usize, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    file.read(room).await.map_err(unreadable)
}
