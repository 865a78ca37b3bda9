//! A backlog that grows, and one that has no more room.

use std::time::Duration;

use tracing::{info, warn};

use crate::plan::{Facts, OutputBuffer};
use crate::progress::Counters;
use crate::spool::{NoRoom, Store};

use super::{Lane, Stage};

/// What is known of a lane's backlog.
#[derive(Debug)]
pub(super) struct Spooling {
    /// What may wait, from all sources together.
    limit: u64,
    /// What the source keeps for who does not read.
    buffer: OutputBuffer,
    /// Bytes that were written to it in a second before the run.
    write_rate: u64,
    /// Bytes that were read from it.
    read: u64,
    /// Since when something has been waiting, and how much had been read by then.
    since: Option<(Duration, u64)>,
    /// It was said that there is no room.
    told: bool,
}

impl Spooling {
    pub(super) fn of(facts: &Facts, index: usize, store: Option<&Store>) -> Self {
        let source = facts.sources.get(index).and_then(Option::as_ref);
        Self {
            limit: store.map_or(0, |store| store.allowance().limit()),
            buffer: source.and_then(|source| source.output_buffer).unwrap_or_default(),
            write_rate: source.map_or(0, |source| source.write_rate),
            read: 0,
            since: None,
            told: false,
        }
    }

    /// So many bytes were read.
    pub(super) fn was_read(&mut self, bytes: u64) {
        self.read += bytes;
    }

    /// How fast the backlog has grown, in bytes a second.
    fn growth(&self, now: Duration) -> u64 {
        let Some((since, read)) = self.since else { return 0 };
        let millis = now.saturating_sub(since).as_millis().max(1);
        let read = u128::from(self.read - read) * 1000;
        u64::try_from(read / millis).unwrap_or(u64::MAX)
    }
}

impl Lane<'_> {
    /// Sees whether a backlog has outgrown its room, and says so once.
    pub(super) fn watch_spool(&mut self) {
        let joined = self.source.take_joined();
        if joined > 0 {
            Counters::add(&self.counters.partial_syncs, joined);
            info!("the link was made anew while what had come over the last one waits");
        }
        let waiting = self.source.waiting();
        if waiting == 0 {
            if self.spooling.since.take().is_some() {
                Counters::set(&self.counters.spooled, 0);
                self.spooling.told = false;
            }
            return;
        }
        Counters::set(&self.counters.spooled, waiting);
        let (now, read) = (self.clock.now(), self.spooling.read);
        self.spooling.since.get_or_insert((now, read));
        let Some(no_room) = self.source.full().filter(|_| !self.spooling.told) else { return };
        let Spooling { limit, buffer, write_rate, .. } = self.spooling;
        // While the copy comes its own bytes do not tell how much is written behind it.
        let rate = match self.stage {
            Stage::Settling | Stage::Following => self.spooling.growth(now),
            Stage::Connecting | Stage::Copying | Stage::Sweeping => write_rate,
        };
        let why = match no_room {
            NoRoom::Limit => format!("the spool holds {limit} bytes and no more"),
            NoRoom::Disk(error) => format!("the spool's disk takes no more: {error}"),
        };
        let lasts = match buffer.lasts(rate) {
            Some(lasts) => format!("after {} s", lasts.as_secs()),
            None => "in the end".to_owned(),
        };
        let told = format!(
            "{why}; {rate} bytes a second are written to the source, and its client-output-buffer-limit for replicas ({} {} {}) lets it cut the link {lasts}",
            buffer.hard,
            buffer.soft,
            buffer.patience.as_secs()
        );
        warn!(why = told, "the source is not read until the target has taken some of what waits");
        self.tally.outgrown = Some(told);
        self.spooling.told = true;
    }
}
