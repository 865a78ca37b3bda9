//! Sockets and the clock: the only place where either is touched.

mod clock;
mod control;
mod link;

pub use clock::Clock;
pub use control::{Control, ControlError, info_field};
pub use link::{Link, LinkError, connect};
