//! Where changes come from. A source knows nothing of targets: it tells what the master says, as
//! [`repl::Event`](crate::repl::Event)s, and is told what has been confirmed.

mod replica;

pub use replica::{Replica, SourceError};
