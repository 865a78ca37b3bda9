//! Where changes end up.
//!
//! A target takes [`Batch`]es in their order and tells, as [`Confirmed`], which of them are done. *Confirmed* means: the target has
//! answered each command of the batch, and of all batches before it, and each answer was judged. Nothing else may move a
//! position: not that a batch was taken, not that it was written to a socket. What a command did otherwise than on
//! the source is a [`Surprise`]; it is told in the same [`Confirmed`] that covers the command, never after it.

mod entrance;
mod gate;
mod judge;
mod keeper;
#[cfg(test)]
mod model;
mod outbox;
mod pipeline;
mod rdb;
mod silence;
mod standalone;

pub use entrance::{Entrance, RecordAt, RunId, Whose};
pub use keeper::{DoubtList, Keeper};
pub use rdb::{FileError, RdbPlace, RdbTarget};
pub use standalone::{Standalone, TargetError};

use crate::change::{Batch, Carries, Failure};
use crate::offset::Offset;

/// What a target has done.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// What was confirmed since the last time.
    pub carries: Carries,
    /// The source's offset up to which everything is in the target.
    pub position: Option<Offset>,
    /// The copy is whole: each of its records has been confirmed.
    pub copied: bool,
    /// How many bytes of batches these were when they were pushed.
    pub bytes: usize,
    /// Commands that removed what was not there.
    pub without_effect: u64,
    /// Commands that did something else than on the source.
    pub surprises: Vec<Surprise>,
    /// Why nothing more is sent before what is not confirmed has been [revised](Standalone::revise).
    pub halt: Option<Halt>,
}

/// Why a stream cannot go on as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Commands of a transaction that was run did something else than on the source.
    Surprised {
        /// All of it.
        batches: Vec<Batch>,
        /// The commands: batch, number, and what is known of them.
        failed: Vec<(usize, usize, Failure)>,
    },
    /// The target does not take a command. Nothing of its transaction was run.
    Rejected {
        /// The batch, among those that are not confirmed.
        batch: usize,
        /// Its number in the batch.
        index: usize,
        /// What is known of it.
        failure: Failure,
    },
    /// The record is not the one that was written last: this one stands in its place.
    Fenced(Option<Vec<u8>>),
    /// These were run, and the record that says so was not written. What each of their commands did is not told.
    Unrecorded(Vec<Batch>),
    /// A transaction that is larger than what is held at once was refused, or commands of it did something else: only the record tells how to
    /// go on.
    Torn,
    /// It is later on the target's clock than deadlines are held back for.
    Late,
}

/// A command that did something else than on the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Surprise {
    /// It was sent once.
    Failed(Failure),
    /// It was sent on an earlier link too, which may have done it already.
    FailedAgain(Failure),
}

impl Confirmed {
    /// Counts a batch of which so many bytes were pushed (what is left of it after repairs may be less), and so many commands were
    /// surprises.
    fn add(&mut self, batch: &Batch, pushed: usize, failed: u64) {
        self.carries.keys += batch.carries.keys.saturating_sub(failed);
        self.carries.renamed += batch.carries.renamed;
        self.carries.fetched += batch.carries.fetched;
        self.carries.held += batch.carries.held;
        self.carries.commands += batch.carries.commands.saturating_sub(failed);
        self.position = self.position.max(batch.covers);
        self.bytes += pushed;
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.carries == Carries::default()
            && self.position.is_none()
            && !self.copied
            && self.bytes == 0
            && self.without_effect == 0
            && self.surprises.is_empty()
            && self.halt.is_none()
    }
}
