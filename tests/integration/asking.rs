//! Waiting for what nobody tells, so that it must be asked for again and again.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Between two questions: as good as at once, and whoever is asked gets on with its work.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until something is so; `false` when `patience` is over.
pub(crate) fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// The same, for what must come to be so.
///
/// # Panics
/// With `what`, when `patience` is over.
#[track_caller]
pub(crate) fn until(what: impl Display, patience: Duration, is_so: impl FnMut() -> bool) {
    assert!(within(patience, is_so), "not within {patience:?}: {what}");
}
