//! Keys that change faster than both sides can be read one after the other, while a job brings what changes: both are read again and again, each time
//! with the place of the stream for which that holds.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::debug;

use crate::key::Db;
use crate::net::Net;
use crate::plan::{Place, ServerPlace};
use crate::position::Phase;
use crate::server::Version;
use crate::source::{FetchError, Fetched, Fetcher, Limits};
use crate::verify::{Proof, Series};

use super::super::sides::OLDEST;
use super::records::Moment;
use super::{Again, Looked, Open, target_times, times_of};

/// So many keys are proven at once.
pub(super) const TOGETHER: usize = 8;

/// So many connections read the source.
const READERS: usize = 4;

/// Readings that may wait to be looked at.
const WAITING: usize = 64;

/// How long it is tried.
const LONG: Duration = Duration::from_secs(3);

/// How often it is seen whether that is enough.
const EACH: Duration = Duration::from_millis(20);

/// What a reading of a key takes.
const READING: usize = 256;

/// A record that names so many keys in doubt may not name all.
const MOST_DOUBTS: usize = 1000;

impl Again<'_> {
    /// Tries to prove these keys, which are of the same sources and database. What cannot be proven so stays open.
    pub(super) async fn prove(&mut self, keys: &mut [&mut Open]) {
        if let Err(error) = self.try_to_prove(keys).await {
            debug!(error = %error, "keys that change fast are not proven");
        }
    }

    async fn try_to_prove(&mut self, keys: &mut [&mut Open]) -> Result<(), FetchError> {
        let (plan, facts, net, limits) = (self.plan, self.facts, self.net, self.limits);
        let Some(first) = keys.first() else { return Ok(()) };
        let [owner] = first.owners.as_slice() else { return Ok(()) };
        let (source, place) = (owner.source, first.suspect.db);
        let Some(of) = plan.sources.get(source) else { return Ok(()) };
        let Place::Server(server) = &of.place else { return Ok(()) };
        let measure = self.measures.get(source).copied().unwrap_or_default();
        if self.follows.get(source) != Some(&true) {
            return Ok(());
        }
        let (db, clocks) = (of.rules.origin(place), facts.clocks(source));
        let named = |key: &Open| Some((key.owners.first()?.key.clone()?, key.suspect.name.clone()));
        let Some(names) = keys.iter().map(|key| named(key)).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        let (names, in_target): (Vec<Vec<u8>>, Vec<Vec<u8>>) = names.into_iter().unzip();
        let target = facts.target.as_ref().and_then(|facts| facts.server).unwrap_or(OLDEST);
        let tells = target.as_redis() >= Version(7, 0, 0);
        let most = (limits.room / READING / 2 / names.len().max(1)).clamp(64, 20_000);
        let mut series: Vec<Series> = names.iter().map(|_| Series::new(most)).collect();
        let mut heard = self.read_on(server, db, &names);
        if self.eyes(source).is_none() {
            return Ok(());
        }
        let (begun, mut seen) = (net.clock().now(), Duration::ZERO);
        let in_target: Vec<&[u8]> = in_target.iter().map(Vec::as_slice).collect();
        while seen < LONG && !keys.iter().all(|key| key.looked.is_some()) {
            let Some(target) = &mut self.target else { break };
            let deadline = if tells { "PEXPIRETIME" } else { "PTTL" };
            let moment = target.records.moment(&of.name, (place, &in_target), deadline).await?;
            let counts = |moment: &Moment| {
                let Moment { record, .. } = moment;
                record.phase == Phase::Following && record.doubts.len() < MOST_DOUBTS
            };
            let times = target_times(facts, net);
            for moment in moment.into_iter().filter(counts) {
                let at = moment.record.applied.offset;
                let doubted = |key: &[u8]| moment.record.doubts().any(|one| one == (db, key));
                for ((series, key), (payload, dies)) in
                    series.iter_mut().zip(&names).zip(moment.held.iter())
                {
                    let until = (*dies >= 0).then_some(*dies);
                    // Before 7.0 it tells how long a key has to live, and not until when.
                    if doubted(key) || until.is_some() && !tells && measure.tolerance.is_some() {
                        continue;
                    }
                    let until = until.map(|told| if tells { told } else { times.now_ms + told });
                    let held = match payload {
                        Some(payload) => target.eyes.dumped(payload, until, &times),
                        None => Ok(None),
                    };
                    if let Ok(held) = held {
                        series.target(at, held);
                    }
                }
            }
            while let Ok(Fetched { at, found }) = heard.try_recv() {
                let times = times_of(of, clocks, net.clock().unix_ms());
                let Some(eyes) = self.eyes(source) else { break };
                for (series, found) in series.iter_mut().zip(&found) {
                    if let Ok(held) = eyes.held(found, &times, Some(&of.rules)) {
                        series.source(at.get(), held);
                    }
                }
            }
            let lasted = net.clock().now().saturating_sub(begun);
            if lasted.saturating_sub(seen) >= EACH {
                seen = lasted;
                for (key, series) in keys.iter_mut().zip(&series) {
                    if key.looked.is_none() {
                        key.looked = series.proof(measure).map(Looked::from);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads these keys of a source again and again, until nobody listens any more.
    fn read_on(&self, place: &ServerPlace, db: Db, names: &[Vec<u8>]) -> Receiver<Fetched> {
        let (sender, heard) = channel(WAITING);
        for _ in 0..READERS {
            let (net, place, names) = (self.net.clone(), place.clone(), names.to_vec());
            tokio::spawn(read(net, place, self.limits, (db, names), sender.clone()));
        }
        heard
    }
}

async fn read(
    net: Net,
    place: ServerPlace,
    limits: Limits,
    (db, names): (Db, Vec<Vec<u8>>),
    to: Sender<Fetched>,
) {
    let mut fetcher = Fetcher::new(net, place, limits);
    loop {
        match fetcher.look_at_once(db, &names).await {
            Ok(fetched) => {
                if to.send(fetched).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                debug!(error = %error, "a source is not read again and again");
                return;
            }
        }
    }
}

impl From<Proof> for Looked {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Same { is_there } => Self::Same { is_there },
            Proof::Differs(kind, held) => Self::Differs(kind, held),
        }
    }
}
