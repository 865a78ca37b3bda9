//! What the rules choose and what they leave out, counted.

use std::sync::atomic::Ordering;

use crate::plan::Why;
use crate::progress::Counters;
use crate::rdb::opcode::ValueType;

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

/// Counts a key of the payload that the rules choose.
#[inline]
pub(super) fn chosen(counters: &Counters, value_type: ValueType) {
    if let Some(number) = counters.types.get(value_type as usize) {
        Counters::add(number, 1);
    }
}

/// It was counted, and is left out after all: of a module's value only the first piece tells.
pub(super) fn not_chosen(counters: &Counters, value_type: ValueType) {
    if let Some(number) = counters.types.get(value_type as usize) {
        number.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::TYPES;

    #[test]
    fn each_type_is_counted_under_its_name() {
        use ValueType::{Hash, List, Module, Set, Stream, String, Zset};
        let counters = Counters::default();
        for (times, value_type) in (1_u64..).zip([String, List, Set, Zset, Hash, Stream, Module]) {
            (0..times).for_each(|_| chosen(&counters, value_type));
            let at = TYPES.iter().position(|name| *name == value_type.name()).unwrap();
            assert_eq!(counters.snapshot().types[at], times, "{}", value_type.name());
        }
        not_chosen(&counters, Module);
        assert_eq!(counters.snapshot().types, [1, 2, 3, 4, 5, 6, 6]);
    }
}
