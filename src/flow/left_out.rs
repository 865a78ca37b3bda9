//! What the rules leave out, counted.

use crate::plan::Why;
use crate::progress::Counters;

/// What is left out.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// A record of the payload.
    Key,
    /// A command of the stream.
    Command,
}

/// Counts it.
pub(super) fn left_out(counters: &Counters, why: Why, left: Left) {
    let number = match (left, why) {
        (_, Why::Flush) => &counters.flushes,
        // Keys are counted where they are met, whatever becomes of them.
        (Left::Key, Why::Conflict) => return,
        (Left::Key, Why::Db) => &counters.left_out_databases,
        (Left::Key, Why::Key) => &counters.left_out_keys,
        (Left::Key, Why::Type) => &counters.left_out_types,
        (Left::Command, Why::Conflict) => &counters.conflict_commands,
        (Left::Command, Why::Db | Why::Key | Why::Type) => &counters.left_out_commands,
    };
    Counters::add(number, 1);
}
