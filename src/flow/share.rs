//! What one source may hold in memory, out of all that there is.
//!
//! ```text
//! on its way to the target   1/2        names of keys with deadlines   1/4
//! a value being gathered     1/8, in the reader's buffer and once more as a command
//! an element of a larger one 1/4, in the same places
//! ```
//! Not all of them are full at once: while a large element is read nothing else is gathered.

use crate::change::Limits;

/// What one source may hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// On its way to the target.
    pub(super) room: usize,
    /// Of names of keys whose deadlines are held back.
    pub(super) names: usize,
    /// Of scripts that a stream may call again.
    pub(super) scripts: usize,
    /// Of one key, element or packed blob.
    pub(super) element: usize,
    /// Of one value.
    pub(super) copy: Limits,
}

/// A share of less is none: elements of this size must be possible.
const LEAST: usize = 1 << 20;

/// Pieces of this size keep a target busy over any round trip; smaller ones cost commands.
const LARGEST_PIECE: usize = 512 << 10;

impl Share {
    /// The share of each of so many sources.
    pub(super) fn of(memory: u64, sources: usize) -> Self {
        let all = usize::try_from(memory).unwrap_or(usize::MAX);
        let share = (all / sources.max(1)).max(LEAST);
        Self {
            room: share / 2,
            names: share / 4,
            scripts: share / 32,
            element: share / 4,
            copy: Limits { whole: share / 8, piece: (share / 16).min(LARGEST_PIECE) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_same_part_of_any_memory() {
        let share = Share::of(64 << 20, 1);
        assert_eq!((share.room, share.element), (32 << 20, 16 << 20));
        assert_eq!(share.copy, Limits { whole: 8 << 20, piece: 512 << 10 });
        assert_eq!(Share::of(37 << 20, 37), Share::of(1 << 20, 1));
        assert_eq!(Share::of(1 << 20, 37), Share::of(1 << 20, 1), "there is a least");
    }
}
