//! The switch: the sources are fenced, drained and compared, and then the target is the one.
//!
//! ```text
//! ready ──▶ fence ──▶ silence ──▶ settle ──▶ compare ──▶ look again ──▶ GO ──▶ watch
//!   │         │          │           │           │            │
//!   └─────────┴──────────┴───────────┴───────────┴────────────┴──▶ NO-GO: deadlines are held back again,
//!                                                                  the fences are taken away, the job follows
//! ```
//! Everything before GO can be undone, and is when anything fails. What was there before a fence is written down in the job's folder before the fence
//! is put up, so that it can be taken away whatever happens to this process.

mod compare;
mod fence;
mod fenced;
mod fencing;
mod run;
mod silence;
mod switch;
mod told;
mod watch;

pub use fence::{Before, Fence, Words};
pub use fenced::{Left, LeftError, Lifted, left_behind, lift};
pub use run::cutover;
pub use silence::{Seen, Silence, is_untouched};
pub use switch::{Allowed, allowed};
pub use told::{Gone, Job, Told, Verdict, Wanted};
pub use watch::Late;
