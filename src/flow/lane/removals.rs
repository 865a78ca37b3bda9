//! What a stream takes away and does nothing else, as deadlines do that have come: what more it takes away than keys and fields have died, somebody has deleted.

use crate::command::{Command, lookup};

/// Counts it, command by command.
#[derive(Debug, Default)]
pub(super) struct Removals {
    before: Before,
}

/// What the stream has said last.
#[derive(Debug, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Nothing,
    /// A transaction is open.
    Multi,
    /// In it fields of this hash were taken away.
    Fields(Vec<u8>),
}

impl Removals {
    /// How many keys or fields the next command takes away; `None` if it does anything else.
    ///
    /// Valkey 9 takes a hash away with the last of its fields that dies, in one transaction, and counts the fields alone (`expired_fields`; `expire.c`,
    /// `t_hash.c`): that its name goes too is nothing more.
    pub(super) fn of<'a>(&mut self, mut args: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
        let before = std::mem::take(&mut self.before);
        let is_open = before != Before::Nothing;
        let name = args.next().and_then(lookup).map(Command::name);
        self.before = match name {
            Some("exec" | "discard") => Before::Nothing,
            Some("multi") => Before::Multi,
            _ if is_open => Before::Multi,
            _ => Before::Nothing,
        };
        match name? {
            "hdel" => {
                let key = args.next()?;
                if is_open {
                    self.before = Before::Fields(key.to_vec());
                }
                Some(args.count() as u64)
            }
            "del" | "unlink" => {
                let first = args.next()?;
                let others = args.count() as u64;
                let is_emptied = others == 0
                    && matches!(&before, Before::Fields(key) if key.as_slice() == first);
                Some(others + u64::from(!is_emptied))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<Option<u64>> {
        let mut removals = Removals::default();
        lines.iter().map(|line| removals.of(line.split(' ').map(str::as_bytes))).collect()
    }

    #[test]
    fn what_is_taken_away_is_counted() {
        assert_eq!(of(&["DEL a"]), [Some(1)]);
        assert_eq!(of(&["UNLINK a b c", "HDEL h f g"]), [Some(3), Some(2)]);
        assert_eq!(of(&["SET a b", "NOSUCH", "PING", "HSET h f v"]), [None; 4]);
    }

    #[test]
    fn a_hash_that_goes_with_its_last_field_is_no_other_removal() {
        let died = ["MULTI", "HDEL h f g", "UNLINK h", "EXEC"];
        assert_eq!(of(&died), [None, Some(2), Some(0), None]);
        // Each of these may be somebody's who writes.
        assert_eq!(of(&["HDEL h f", "UNLINK h"]), [Some(1), Some(1)]);
        assert_eq!(of(&["MULTI", "HDEL h f", "UNLINK g"]), [None, Some(1), Some(1)]);
        assert_eq!(of(&["MULTI", "HDEL h f", "UNLINK h g"]), [None, Some(1), Some(2)]);
        assert_eq!(of(&["MULTI", "HDEL h f", "EXEC", "UNLINK h"]), [None, Some(1), None, Some(1)]);
        assert_eq!(
            of(&["MULTI", "HDEL h f", "SET x 1", "UNLINK h"]),
            [None, Some(1), None, Some(1)]
        );
        assert_eq!(
            of(&["MULTI", "HDEL h f", "UNLINK h", "UNLINK h"]),
            [None, Some(1), Some(0), Some(1)]
        );
    }
}
