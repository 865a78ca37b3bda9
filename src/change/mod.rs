//! What a source says, as what a target is told: records of an RDB and commands of a stream become [`Batch`]es of
//! RESP commands, each with what its reply must be.

mod batch;
mod copy;
mod deadlines;
mod distinct;
mod file;
mod fingerprints;
mod finish;
mod fitted;
mod kept;
mod pieces;
mod refill;
mod ruling;
mod scope;
mod scripts;
mod stream;

pub use batch::{Batch, Carries, Draft, Failure};
pub use copy::{Copy, CopyError, Existing, Limits};
pub use deadlines::{ALL, Deadlines, LIVE, Names, SHIFT, comes_nearer};
pub use distinct::{Distinct, NameError};
pub use file::{Ending, FileCopy, FileCopyError, Later};
pub use fingerprints::{Fingerprints, Full};
pub use finish::{Finish, PAGE, Settled};
pub use kept::Kept;
pub use refill::{refill, wants};
pub use ruling::Undecidable;
pub use scope::Scope;
pub use stream::{Own, Stream, StreamError, Taken};
