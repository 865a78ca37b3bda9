//! Two sides, compared by what their values are and not by how they are written.
//!
//! ```text
//!  a key ──▶ Digester ──▶ Content ──▶ Batch ──▶ Notes ──▶ Comparison ──▶ Suspect
//!            its elements                       in buckets on a disk, by fingerprint; then compared range by range
//! ```
//! What was read at two times of two servers that are written to cannot be compared: whatever differs is suspect, and is looked at again
//! by who has the connections. The memory is chosen, and does not depend on how many keys there are: what grows with them is on the disk.

mod compare;
mod difference;
mod digest;
pub mod digests;
mod dumped;
mod explain;
mod notes;
mod parts;
mod sample;
mod series;
pub mod typed;
mod vectors;

pub use compare::{Comparison, Counts, Held, Places, Suspect};
pub use difference::{Kind, Measure};
pub use digest::{Content, Digester, Times};
pub use dumped::{Dumped, DumpedError};
pub use explain::{Answer, Compared, Presence, Seen, Standing, answer};
pub use notes::{Batch, Noted, Notes};
pub use parts::parting;
pub use sample::{Sample, Share, Start};
pub use series::{Proof, Series};
