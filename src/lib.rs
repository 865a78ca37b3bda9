//! Moves live Redis data. An understudy learns a part by watching the one who plays it.
//!
//! This crate connects to a Redis or Valkey master as if it were its replica, learns the whole data set
//! and every change after it, and plays them to another server. The command line `understudy` stands on
//! the same public parts that are documented here: a reader and writer of RDB files, the replica's side of
//! `SYNC`/`PSYNC`, and the targets.
//!
//! # Layers
//!
//! Imports point down only; `tests/architecture.rs` holds this. What stands below [`net`] is pure: bytes and
//! time go in, bytes and events come out. It knows no socket, no file, no clock and no runtime.
//!
//! ```text
//! cli                                     the binary: sees the public parts only
//! cutover                                 the switch: fences, a last comparison, GO or NO-GO
//! flow                                    one lane a source: the schedule, retries, stopping
//! source      target                      never each other
//! spool                                   what a master has said and nobody can take yet
//! net         scratch     budget          sockets and the clock; room on a disk; memory that is paid for
//! census                                  what sources hold, and which names they share
//! doubt       ledger      owners          keys that the target may hold otherwise; names that a copy has brought, and whose they are
//! change                                  what a source says, as what a target is told
//! plan                                    the rules, parsed and checked once
//! command     repl
//! rdb         resp
//! key  offset  server  progress
//! ```
//!
//! ## Invariants
//! - `source` does not know there is a target; `target` does not know there is a source.
//! - Only `cli` prints. Only `flow` retries.

pub mod census;
pub mod change;
pub mod command;
pub mod cutover;
pub mod doubt;
pub mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod key;
pub mod ledger;
pub mod net;
pub mod offset;
pub mod owners;
pub mod plan;
pub mod position;
pub mod preflight;
pub mod progress;
pub mod rdb;
pub mod repl;
pub mod resp;
pub mod scratch;
pub mod server;
pub mod slots;
pub mod source;
pub mod spool;
pub mod target;
pub mod verify;
