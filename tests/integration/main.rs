//! Tests that run real servers, and the built binary between them.
//!
//! `servers` starts them, `data` and `load` fill them, `judge` says whether two of them hold the same. `planted` and
//! `replicas` hold the judge itself to account: a planted change must be seen, a server's own replica must be equal.
//! `command_table` and `command_twins` do so with what the library says of commands.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "real servers run on the real clock")]

mod asking;
mod authority;
mod by_type;
mod captures;
mod census;
mod check;
mod client;
mod clusters;
mod command_table;
mod command_twins;
mod configs;
mod conflicts;
mod control;
mod cutover;
mod data;
mod deadlines;
mod demo;
mod dense;
mod dice;
mod digests;
mod documents;
mod doubts;
mod explain;
mod failover;
mod far;
mod faults;
mod fetched;
mod gate;
mod gated;
mod handshakes;
mod into_file;
mod judge;
mod limits;
mod load;
mod mended;
mod merges;
mod names;
mod older;
mod packed;
mod planted;
mod played;
mod rdb_load;
mod recorded;
mod records;
mod refusals;
mod replicas;
mod reports;
mod restarts;
mod rivals;
mod rules;
mod said;
mod sampled;
mod schedule;
mod secured;
mod sentinels;
mod servers;
mod sessions;
mod ssh;
mod sshd;
mod stream_memory;
mod strings;
mod sync;
mod tls;
mod tool;
mod tunnels;
mod unowned;
mod values;
mod verify;
