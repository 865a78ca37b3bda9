//! The replication protocol as values: bytes and time go in, bytes and events come out.
//!
//! [`Session`] is the replica's side of `SYNC` and `PSYNC`, from the first `PING` to the last command. What a master said can be
//! kept as a capture, which is described by a [`Layout`] and a [`Sidecar`], and said again to other replicas: [`Served`].

mod answer;
mod bulk;
mod capture;
mod error;
mod intake;
mod master;
mod session;

pub use answer::Credentials;
pub use capture::{Asked, BulkForm, Latin1, Layout, Part, Sidecar, SidecarError};
pub(crate) use error::{NO_PSYNC, NO_SYNC};
pub use error::{Remark, ReplError};
pub use master::{Piece, Served, Serving};
pub use session::{Command, Event, Exchange, Method, Request, Resume, Session};
