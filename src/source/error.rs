//! What can go wrong with a source.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::LinkError;
use crate::repl::{Remark, ReplError, SidecarError};

/// Why a source could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    /// It closed the connection.
    #[error("the master closed the connection")]
    Closed,
    /// It closed the connection while there was no room for what it said.
    #[error("the master cut the link, which could not be read: the spool was full")]
    CutOff,
    /// It has said nothing for so long that it must be gone: a master pings its replicas every ten seconds.
    #[error("the master has been silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// Another server has taken the place of the one that we are linked to, which has not cut the link.
    #[error("another server is the master now, and the link leads to the old one")]
    Replaced,
    /// What waited in the spool cannot be read.
    #[error("the spool cannot be read")]
    Spool(#[source] io::Error),
    /// It refuses us, or says what it must not.
    #[error(transparent)]
    Repl(#[from] ReplError),
    /// A file is not there, or cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file beside a capture says what it must not.
    #[error("{}", path.display())]
    Sidecar {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SidecarError,
    },
    /// A capture and its sidecar are not of one recording, or one of them was cut short.
    #[error("the capture ends at byte {size} and its sidecar says {stated}")]
    Size {
        /// The bytes that are there.
        size: u64,
        /// The bytes that were recorded.
        stated: u64,
    },
    /// A capture that goes on from where another one ends.
    #[error("this capture goes on from an earlier one and holds no data set of its own")]
    NoDataSet,
    /// A file cannot be understood.
    #[error("the file is damaged at byte {at}")]
    Damaged {
        /// Where in the file.
        at: u64,
        /// What is wrong.
        #[source]
        source: ReplError,
    },
}

impl SourceError {
    /// Whether the bytes themselves are damaged or cut short, so that asking again cannot help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Repl(error) => error.is_damage(),
            Self::Sidecar { source, .. } => {
                matches!(source, SidecarError::Form { .. } | SidecarError::Timeless)
            }
            Self::Size { .. } | Self::Damaged { .. } => true,
            Self::Link(_)
            | Self::Lost(_)
            | Self::Closed
            | Self::CutOff
            | Self::Silent(_)
            | Self::Replaced
            | Self::Spool(_)
            | Self::Unreadable { .. }
            | Self::NoDataSet => false,
        }
    }

    /// Whether opening the source again brings the same.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Link(_)
            | Self::Lost(_)
            | Self::Closed
            | Self::CutOff
            | Self::Silent(_)
            | Self::Replaced
            | Self::Repl(_) => false,
            Self::Spool(_)
            | Self::Unreadable { .. }
            | Self::Sidecar { .. }
            | Self::Size { .. }
            | Self::NoDataSet
            | Self::Damaged { .. } => true,
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Link(_) | Self::Lost(_) | Self::Closed | Self::Silent(_) | Self::Replaced => {
                "see that the address is right, the server is up and no firewall stands between"
            }
            Self::CutOff => "give --spool-limit more, or a target that is written to faster",
            Self::Spool(_) => {
                "see what is wrong with the disk, or give another folder in --spool, and start again: the job goes on"
            }
            Self::Unreadable { .. } => {
                "see that the path is right and may be read; a capture is two files, NAME.bin and NAME.json"
            }
            Self::Sidecar { source: SidecarError::Newer(_), .. } => {
                "read it with the understudy that recorded it, or a later one"
            }
            Self::Sidecar { .. } | Self::Size { .. } => {
                "copy both files, NAME.bin and NAME.json, again from where they were recorded"
            }
            Self::NoDataSet => "give the capture that it goes on from, or record a new one",
            Self::Repl(source) | Self::Damaged { source, .. } => match source.remark() {
                Remark::Ask(advice) => advice,
                Remark::Later => "the master was not ready when this was recorded; record it again",
            },
        }
    }
}
