//! The replication protocol as values: bytes and time go in, bytes and events come out.
//!
//! [`Session`] is the replica's side of `SYNC` and `PSYNC`, from the first `PING` to the last command.

mod answer;
mod bulk;
mod error;
mod session;

pub use answer::Credentials;
pub use error::{Remark, ReplError};
pub use session::{Command, Event, Request, Resume, Session};
