//! Why a lane breaks off.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::change::{CopyError, Failure, NameError, StreamError};
use crate::key::{Db, Escaped};
use crate::net::ControlError;
use crate::offset::Offset;
use crate::position::RecordError;
use crate::server::Server;
use crate::slots::SlotSet;
use crate::source::{FetchError, SourceError};
use crate::target::TargetError;

use super::super::names::NoteError;

/// Why a lane broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target failed.
    #[error("target")]
    Target(#[from] TargetError),
    /// A record cannot be put into the target.
    #[error("copy db {db}: key {}", Escaped(key))]
    Copy {
        /// Its database.
        db: Db,
        /// Its key.
        key: Vec<u8>,
        /// Why.
        #[source]
        source: CopyError,
    },
    /// The source has functions and the target cannot have any.
    #[error("the source has libraries of functions, and {0} cannot hold any")]
    Functions(Server),
    /// A command of the stream cannot be applied.
    #[error("at offset {offset}")]
    Stream {
        /// Where it ends.
        offset: Offset,
        /// Why.
        #[source]
        source: StreamError,
    },
    /// A key cannot have the name that a rename gives it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A command did something else on the target than on the source.
    #[error("db {}: {}{} was answered {:?} by the target", .0.db, String::from_utf8_lossy(&.0.name), of_key(.0), .0.reply)]
    Diverged(Failure),
    /// The target's ACL does not let us run a command.
    #[error("the target forbids {}: {}", String::from_utf8_lossy(&.0.name), .0.reply)]
    Forbidden(Failure),
    /// A key of the copy is in the target already.
    #[error("db {}: {} is in the target already", .0.db, the_key(.0))]
    Conflict(Failure),
    /// The target does not read a value of this kind.
    #[error("db {}: {} is a {} that the target does not take: {}", .0.db, the_key(.0), .0.value.as_deref().unwrap_or("value"), .0.reply)]
    Unreadable(Failure),
    /// What stands under the record's name cannot be gone on with.
    #[error("the job's record in the target cannot be used")]
    Record(#[source] RecordError),
    /// The target's record is not the one that was written last, or a transaction that is larger than what is held at once was refused: only
    /// the record tells how to go on.
    #[error("the target does not hold what was sent last")]
    Strayed,
    /// Keys may have died in the target that live on the source.
    #[error("the target was left alone for longer than deadlines are held back")]
    Late,
    /// The source could not be read for keys in doubt.
    #[error("keys in doubt cannot be read")]
    Fetch(#[source] FetchError),
    /// The source could not be asked for the keys of a command.
    #[error("the source cannot be asked for the keys of a command")]
    Asked(#[source] ControlError),
    /// The value of a key in doubt is larger than may be held.
    #[error("db {db}: key {} is in doubt, and its value takes {bytes} bytes", Escaped(key))]
    TooLarge {
        /// The source's database.
        db: Db,
        /// The key.
        key: Vec<u8>,
        /// Its size, about.
        bytes: u64,
    },
    /// More keys are in doubt than can be held.
    #[error("more keys are in doubt than fit into memory: {0}")]
    Doubts(usize),
    /// Slots of a cluster have gone to a master that was none of it when the run began.
    #[error("the slots {0} of the cluster have gone to a master that is no source of this run")]
    MovedAway(SlotSet),
    /// The data set of a part of a cluster must be copied again, and slots have changed hands meanwhile.
    #[error(
        "a part of the cluster must be copied again, and slots have changed masters since the run began"
    )]
    MovedBefore,
    /// More keys of the copy are contested than can be held.
    #[error("more keys than fit into memory are in several sources: {0} and more")]
    Contested(usize),
    /// A name that several sources may bring cannot be noted.
    #[error("the names of the sources' keys cannot be kept")]
    Names(#[from] NoteError),
    /// A source that has brought a contested key cannot be asked for it.
    #[error("{0} has brought a key that this source has too, and cannot be asked for it")]
    Rival(String),
    /// The source has emptied databases, or let them change places, and in the target that must not touch more than what it brought.
    #[error("the source sent {}", Escaped(.0))]
    Emptied(Vec<u8>),
    /// A question to the target was not answered.
    #[error("target")]
    Control(#[from] ControlError),
    /// The target refused a command for a reason that did not pass.
    #[error("the target refuses to go on: {0}")]
    Refused(String),
    /// The link was lost while the data set was being sent.
    #[error("the copy was cut off: {0}")]
    CopyCut(String),
    /// The link was lost because the master could not save its data set.
    #[error(
        "the master could not save its data set for us (rdb_last_bgsave_status is err): {0}; it may refuse its clients' writes now (MISCONF)"
    )]
    Unsaved(String),
    /// Something calls for a place in the stream, and its master tells none.
    #[error("what is read with SYNC cannot go on from there: {0}")]
    NoOffsets(String),
    /// A side that was lost has not come back.
    #[error("the {side} has not been there for {} s: {why}", waited.as_secs())]
    GivenUp {
        /// Which side.
        side: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// Why it was not there in the end.
        why: String,
    },
    /// What was received cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The link was cut again and again because the source could not be read as fast as it sends.
    #[error("the master cut the link twice while the spool was full: {0}")]
    Outgrown(String),
    /// After a reconnection the master began anew: it no longer has what came after our place.
    #[error("the master no longer has what came after the place where the link was lost")]
    Overrun,
}

/// An error and what caused it, as one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// The key of a failure, where its command names one.
fn of_key(failure: &Failure) -> String {
    failure.key.as_deref().map_or_else(String::new, |key| format!(" of key {}", Escaped(key)))
}

fn the_key(failure: &Failure) -> String {
    failure.key.as_deref().map_or_else(|| "a key".to_owned(), |key| format!("key {}", Escaped(key)))
}
