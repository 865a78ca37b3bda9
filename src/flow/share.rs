//! What one source may hold in memory, out of all that there is.
//!
//! ```text
//! all of it    one source's share; with several, half of it in equal shares and half for the pool
//! share        on its way to the target 1/2, names of keys with deadlines 1/4,
//!              a value being gathered 1/8, in the reader's buffer and once more as a command;
//!              what waits in the spool, its first and its last blocks 3/32 at the most
//! a piece      1/4 of all: an element of a value, a stream's consumer groups, a command or a transaction of the stream, in the same two
//!              places
//! ```
//! A piece that is larger than a quarter of its source's share is in the pool: one source at a time may hold such a one, while the
//! others go on with smaller ones. Not all are full at once: while a large piece is read nothing else is gathered.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::change::Limits;

use super::lane::Later;

/// What one source may hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// On its way to the target.
    pub(super) room: usize,
    /// Of names of keys whose deadlines are held back.
    pub(super) names: usize,
    /// Of scripts that a stream may call again.
    pub(super) scripts: usize,
    /// Of one key, element or packed blob, of one command or transaction: without the pool.
    pub(super) piece: usize,
    /// The same, with the pool.
    pub(super) largest: usize,
    /// Of one block of the spool, which has three in memory.
    pub(super) block: usize,
    /// Of one value.
    pub(super) copy: Limits,
}

/// A share of less is none: elements of this size must be possible.
const LEAST: usize = 1 << 20;

/// Pieces of this size keep a target busy over any round trip; smaller ones cost commands.
const LARGEST_PIECE: usize = 512 << 10;

/// Blocks of this size are written and read as fast as a disk can; larger ones only take memory.
const LARGEST_BLOCK: usize = 256 << 10;

impl Share {
    /// The share of each of so many sources.
    pub(super) fn of(memory: u64, sources: usize) -> Self {
        let all = usize::try_from(memory).unwrap_or(usize::MAX);
        let shared = if sources > 1 { all / 2 } else { all };
        let share = (shared / sources.max(1)).max(LEAST);
        let largest = (all / 4).max(share / 4);
        Self {
            room: share / 2,
            names: share / 4,
            scripts: share / 32,
            piece: share / 4,
            block: (share / 32).min(LARGEST_BLOCK),
            largest,
            copy: Limits {
                whole: share / 8,
                piece: (share / 16).min(LARGEST_PIECE),
                held: largest,
            },
        }
    }
}

/// The memory for pieces that are larger than their source's share allows, for one source at a time.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Semaphore>);

impl Default for Pool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// One source's use of the pool.
pub(super) struct Excess {
    pool: Pool,
    use_of_it: Use,
}

enum Use {
    None,
    Waits(Later<Option<OwnedSemaphorePermit>>),
    Has { _permit: OwnedSemaphorePermit },
}

impl Excess {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, use_of_it: Use::None }
    }

    /// Whether the pool may be used, or need not be. While neither is so [`granted`](Self::granted) waits for it.
    pub(super) fn admits(&mut self, is_needed: bool) -> bool {
        if is_needed && matches!(self.use_of_it, Use::None) {
            let pool = Arc::clone(&self.pool.0);
            self.use_of_it = match Arc::clone(&pool).try_acquire_owned() {
                Ok(permit) => Use::Has { _permit: permit },
                // It is closed by nobody.
                Err(_) => Use::Waits(Box::pin(async move { pool.acquire_owned().await.ok() })),
            };
        }
        !matches!(self.use_of_it, Use::Waits(_))
    }

    /// Waits until the pool may be used, or for ever if that is not waited for. Nothing is lost if the future is dropped.
    pub(super) async fn granted(&mut self) {
        match &mut self.use_of_it {
            Use::Waits(waits) => {
                self.use_of_it = match waits.await {
                    Some(permit) => Use::Has { _permit: permit },
                    None => Use::None,
                };
            }
            Use::None | Use::Has { .. } => std::future::pending().await,
        }
    }

    /// Gives back what is not needed any more.
    pub(super) fn give_back(&mut self) {
        if let Use::Has { .. } = self.use_of_it {
            self.use_of_it = Use::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_same_part_of_any_memory() {
        let share = Share::of(64 << 20, 1);
        assert_eq!((share.room, share.piece, share.largest), (32 << 20, 16 << 20, 16 << 20));
        assert_eq!(share.copy, Limits { whole: 8 << 20, piece: 512 << 10, held: 16 << 20 });
        assert_eq!(Share::of(74 << 20, 37).room, Share::of(1 << 20, 1).room);
        assert_eq!(Share::of(1 << 20, 37), Share::of(1 << 20, 1), "there is a least");
        assert_eq!(Share::of(256 << 20, 37).largest, 64 << 20, "whoever comes first");
    }

    #[tokio::test]
    async fn one_source_at_a_time_uses_the_pool() {
        let pool = Pool::default();
        let [mut first, mut second] = [(); 2].map(|()| Excess::new(pool.clone()));
        assert!(first.admits(false) && second.admits(true));
        assert!(!first.admits(true) && second.admits(true));
        assert!(!first.admits(false), "it goes on waiting: its piece has been begun");
        second.give_back();
        first.granted().await;
        assert!(first.admits(true) && !second.admits(true));
    }
}
