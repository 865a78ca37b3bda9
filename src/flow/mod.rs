//! A whole run: one lane a source, until all have ended. Into a file they go one after the other.
//!
//! [`migrate`] does what a [`Plan`] says and gives a [`Report`]; [`census()`] counts what it would do; [`record()`] keeps what a master says, and
//! [`replay()`] lets it be followed again. Nothing below it retries; what a failure calls for stands in one table,
//! [`remedy()`].

mod asking;
mod census;
mod cluster;
mod contested;
mod digests;
mod ending;
mod folder;
mod held;
mod into_file;
mod job;
mod lane;
mod left_out;
mod library;
mod loss;
mod monitor;
mod moves;
mod names;
mod order;
mod reading;
mod record;
mod remedy;
mod replay;
mod report;
mod rereads;
mod rivals;
mod scan;
mod share;
mod throttle;
mod turns;
mod unowned;
mod upstream;
mod verify;
mod walks;
mod watchdog;

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{Instrument, error};

pub use census::{Census, TargetKeys, census};
pub use lane::{LaneError, chain};
pub use monitor::watch_offset;
pub use names::NoteError;
pub use order::{Order, Orders, TooLate};
pub use record::{Record, Recorded, record};
pub use remedy::{Remedy, remedy};
pub use replay::{Recording, replay};
pub use report::{Ended, Report, SourceReport};
pub use rereads::{OwnName, Rereads};
pub use verify::{
    By, Comparing, Difference, Doubt, Drawn, Explained, Mending, Mends, Question, Repair, Sampled,
    Told, Verified, explain, is_under_way, verify,
};

use crate::net::Net;
use crate::plan::{Facts, Place, Plan};
use crate::progress::{Counters, Phase};
use crate::spool::Store;

/// Plays all sources of the plan into its target until they have ended, or they are told to. `counters` has one entry
/// for each source and is kept up to date meanwhile; through `rereads` they can be asked for keys.
pub async fn migrate(
    net: &Net,
    plan: &Plan,
    facts: &Facts,
    counters: &[Arc<Counters>],
    orders: &Orders,
    rereads: &Rereads,
) -> Report {
    if let Place::Rdb(path) = &plan.target {
        let sources = into_file::run(net, plan, facts, path, counters, orders).await;
        return Report { sources, seconds: net.clock().now().as_secs_f64() };
    }
    let held = match held::held(net, plan, facts).await {
        Ok(held) => held,
        Err(error) => {
            counters.iter().for_each(|counters| counters.enter(Phase::Refused));
            return held::unread(plan, &error);
        }
    };
    // Before the mark: a job that is known to have begun has its names, or has lost them.
    let rivals = match rivals::Rivals::new(plan, facts, net) {
        Ok(rivals) => rivals,
        Err(error) => {
            counters.iter().for_each(|counters| counters.enter(Phase::Refused));
            return rivals::unkept(plan, error);
        }
    };
    if let (Some(folder), Err(error)) = (&plan.job.folder, job::begin(plan, facts)) {
        counters.iter().for_each(|counters| counters.enter(Phase::Refused));
        return job::unmarked(plan, folder, &error);
    }
    let plan = Arc::new(plan.clone());
    let facts = Arc::new(facts.clone());
    let throttle = throttle::Throttle::new(&plan);
    let pool = share::Pool::default();
    let limit = plan.spool_limit(&facts);
    let store = plan.spool.folder.clone().filter(|_| limit > 0);
    let store = store.map(|folder| Store::new(folder, limit));
    let turns = turns::Turns::new(&plan, &facts);
    let walks = walks::Walks::new(net.clone(), rivals.clone());
    let (mut members, watches) = cluster::members(net, &plan);
    let mut clusters = JoinSet::new();
    watches.into_iter().for_each(|watch| drop(clusters.spawn(watch)));
    let mut lanes = JoinSet::new();
    for (index, counters) in counters.iter().enumerate().take(plan.sources.len()) {
        let (plan, facts, orders) = (Arc::clone(&plan), Arc::clone(&facts), orders.clone());
        let (counters, net) = (Arc::clone(counters), net.clone());
        let (held, throttle, pool) = (held.clone(), throttle.clone(), pool.clone());
        let (store, turn, member) = (store.clone(), turns.of(index), members.remove(&index));
        let rival = rivals.as_ref().and_then(|rivals| rivals.of(&plan, index));
        let (walks, rereads) = (walks.clone(), rereads.clone());
        let name = plan.sources.get(index).map(|source| source.name.clone()).unwrap_or_default();
        // At the level of errors, so that every line of a lane names its source.
        let span = tracing::error_span!("lane", source = %name);
        lanes.spawn(
            async move {
                let (facts, held) = (&facts, held.as_ref());
                let is_known = facts.is_known;
                let net = &net;
                let known = lane::Known {
                    facts,
                    held,
                    is_known,
                    index,
                    throttle,
                    pool,
                    store,
                    turn,
                    member,
                    rival,
                    walks,
                    rereads,
                    net,
                };
                (index, Box::pin(lane::run(&plan, known, &counters, orders)).await)
            }
            .instrument(span),
        );
    }
    let mut sources: Vec<SourceReport> =
        plan.sources.iter().map(|source| SourceReport::new(source.name.clone())).collect();
    while let Some(ended) = lanes.join_next().await {
        match ended {
            Ok((index, report)) => {
                // A run that follows may go on for days before it tells how it has ended.
                if let Some((failure, advice)) =
                    report.failure.as_ref().filter(|_| !lanes.is_empty())
                {
                    error!(
                        source = report.name,
                        error = failure,
                        mend = advice,
                        "this source has failed; the others go on"
                    );
                }
                if let Some(place) = sources.get_mut(index) {
                    *place = report;
                }
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    if let Some(rivals) = rivals.filter(rivals::Rivals::were_lost) {
        unowned::settle(net, (&plan, &facts), &rivals, held.as_ref(), orders.clone(), &mut sources)
            .await;
    }
    let report = Report { sources, seconds: net.clock().now().as_secs_f64() };
    job::end(net, &plan, &facts, &report).await;
    report
}
