//! What sources hold, and which names they share, found out before anything is written: figures of each source, and collisions.
//!
//! ```text
//!  a key of a source ──▶ Tally   figures, in memory that does not grow with the keys
//!         └─ its name in the target ──▶ Batch ──▶ Names ──▶ Collisions
//!                                                 in buckets on a disk, by fingerprint; then compared range by range
//! ```
//! The memory that a census takes is chosen, and does not depend on how many keys there are: what grows with them is on the disk.

mod collisions;
mod forecast;
mod names;
mod prefixes;
mod tally;

pub use collisions::{Collision, Collisions, Found};
pub use forecast::{Forecast, MemoryFrom, Need, Room, forecast, obstacle};
pub use names::{Batch, Names, Reading};
pub use prefixes::{Prefix, Prefixes, prefix};
pub use tally::{Large, Lifetime, Tally, Top, TypeTally};
