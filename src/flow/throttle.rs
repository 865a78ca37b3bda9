//! The limits of a run, which all its lanes share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::change::{Batch, Draft};
use crate::plan::{Bucket, Plan, Rate};

/// The limits. One that was not asked for costs nothing.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    write: Option<(Rate, Shared)>,
    read: Option<Shared>,
}

type Shared = Arc<Mutex<Bucket>>;

/// How much a draft held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    count: u64,
    bytes: usize,
}

impl Throttle {
    pub(super) fn new(plan: &Plan) -> Self {
        let shared = |per_second| Arc::new(Mutex::new(Bucket::new(per_second)));
        let write = plan.limit_rate.map(|rate| match rate {
            Rate::Keys(number) | Rate::Bytes(number) => (rate, shared(number)),
        });
        Self { write, read: plan.limit_read.map(shared) }
    }

    /// How long nothing may be written.
    pub(super) fn write_wait(&self, now: impl FnOnce() -> Duration) -> Duration {
        self.write.as_ref().map_or(Duration::ZERO, |(_, bucket)| wait(bucket, now()))
    }

    /// How long nothing may be read.
    pub(super) fn read_wait(&self, now: impl FnOnce() -> Duration) -> Duration {
        self.read.as_ref().map_or(Duration::ZERO, |bucket| wait(bucket, now()))
    }

    /// So much was read.
    pub(super) fn was_read(&self, now: impl FnOnce() -> Duration, bytes: u64) {
        if let Some(bucket) = &self.read {
            take(bucket, now(), bytes);
        }
    }

    /// So many keys, from so many bytes of a payload, went into a file. (There a value takes about as many bytes as it took in the payload.)
    pub(super) fn was_filed(&self, now: Duration, keys: u64, bytes: u64) {
        if let Some((rate, bucket)) = &self.write {
            let amount = match rate {
                Rate::Keys(_) => keys,
                Rate::Bytes(_) => bytes,
            };
            take(bucket, now, amount);
        }
    }

    /// A batch that was in no draft will be written: a part of a value. Its key is counted where it ends.
    pub(super) fn was_sent(&self, now: impl FnOnce() -> Duration, batch: &Batch) {
        if let Some((Rate::Bytes(_), bucket)) = &self.write {
            take(bucket, now(), batch.size() as u64);
        }
    }

    /// What a draft holds, to be given to [`was_written`](Self::was_written) when it holds more.
    pub(super) fn mark(&self, draft: &Draft) -> Mark {
        Mark { count: draft.carries.keys + draft.carries.commands, bytes: draft.size() }
    }

    /// What was added to a draft since will be written.
    pub(super) fn was_written(&self, now: impl FnOnce() -> Duration, since: Mark, draft: &Draft) {
        let Some((rate, bucket)) = &self.write else { return };
        let held = self.mark(draft);
        let amount = match rate {
            Rate::Keys(_) => held.count.saturating_sub(since.count),
            Rate::Bytes(_) => held.bytes.saturating_sub(since.bytes) as u64,
        };
        if amount > 0 {
            take(bucket, now(), amount);
        }
    }
}

fn wait(bucket: &Shared, now: Duration) -> Duration {
    bucket.lock().unwrap_or_else(PoisonError::into_inner).wait(now)
}

fn take(bucket: &Shared, now: Duration, amount: u64) {
    bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now, amount);
}
