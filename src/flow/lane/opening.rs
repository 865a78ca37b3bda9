//! How an attempt begins: with what the target holds of the job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::change::{
    ALL, Copy, Deadlines, Distinct, Draft, Existing, Kept, LIVE, Own, Scope, Stream, comes_nearer,
};
use crate::key::Db;
use crate::net::{Control, Net};
use crate::offset::Offset;
use crate::plan::{Facts, OnConflict, OnDeadlines, OnFlush, Plan, ServerPlace, Until};
use crate::position::Record;
use crate::progress::{Counters, Phase};
use crate::server::{Flavour, Server, Version};
use crate::target::{Entrance, Standalone, TargetError};

use super::super::cluster::Member;
use super::super::loss::Loss;
use super::super::order::Orders;
use super::super::remedy::{Remedy, remedy};
use super::super::share::{Excess, Share};
use super::super::upstream::{Limits, Upstream};
use super::super::watchdog::Watchdog;
use super::attempts::Tally;
use super::contested::Rivalry;
use super::digests;
use super::end::{End, Goal};
use super::job::{Beginning, Job, doubts_of};
use super::outage::Outage;
use super::removals::Removals;
use super::rereading::Rereading;
use super::spooling::Spooling;
use super::sweep::{Older, Sweep};
use super::{Known, Lane, LaneError, Slots, Stage};

impl<'a> Lane<'a> {
    /// Connects to the target, decides from the record there how to go on, and takes the job over.
    pub(super) async fn open(
        plan: &'a Plan,
        known: &Known<'_>,
        to: &'a ServerPlace,
        counters: &'a Counters,
        orders: Orders,
        job: &mut Job,
        tally: &'a mut Tally,
    ) -> Result<Self, LaneError> {
        let Known { facts, held, index, ref throttle, ref pool, ref store, net, .. } = *known;
        let Some(source) = plan.sources.get(index) else { return Err(LaneError::Strayed) };
        counters.enter(Phase::Connecting);
        let clock = net.clock();
        let clocks = facts.clocks(index);
        let record_at = (job.db, job.key.clone());
        let Claimed { connection, mut target, beginning, record } =
            take_over(plan, known, to, (job, counters), tally.begun).await?;
        let is_first = matches!(beginning, Beginning::First);
        let names = held.map_or(0, |held| Kept::BYTES_A_KEY * held.keys.len() as u64);
        let others = names + plan.held_by_ssh() + plan.rivals_memory(facts);
        let share = Share::of(plan.memory.saturating_sub(others), plan.sources.len());
        // No two runs, nor two lanes of one, write the same temporary key.
        let token = format!("{}-{}", job.token(), record.copies);
        let server = facts.target.as_ref().and_then(|target| target.server).unwrap_or(OLDEST);
        let origin =
            facts.sources.get(index).and_then(Option::as_ref).and_then(|facts| facts.server);
        let rivalry = Rivalry::new(known.rival.clone());
        // From here on nothing of an earlier attempt can reach the target.
        job.seat = None;
        // Whatever is there is this source's or may be replaced, but for a name that another source may bring too where that is not wanted.
        let stops = matches!(plan.on_conflict, None | Some(OnConflict::Stop));
        let existing = match rivalry.rival.is_some() && is_first && stops {
            true => Existing::Refuse,
            false => Existing::Replace,
        };
        let held_keys = held.map(|held| Arc::clone(&held.keys));
        let keeps = held.is_some_and(|held| held.keeps);
        let on_flush = match plan.on_flush {
            Some(OnFlush::Ignore) => OnFlush::Ignore,
            None | Some(OnFlush::Apply) if record.sole && plan.has_whole_target() => OnFlush::Apply,
            _ => OnFlush::Stop,
        };
        let scope = Scope::new(source.rules.clone(), held_keys.clone().filter(|_| keeps), on_flush);
        let replaced = held_keys.clone().filter(|_| !keeps && is_first);
        let target_keys = facts.target.as_ref().map_or(0, |target| target.keys_that(plan));
        let counts_conflicts = is_first && (target_keys == 0 || held.is_some());
        let kept = job.deadlines.take().filter(|_| !matches!(beginning, Beginning::Again));
        let mut deadlines = match (kept, is_first) {
            (Some(deadlines), _) => deadlines.until(record.horizon),
            (None, true) => Deadlines::new(record.horizon, share.names),
            (None, false) if record.horizon == LIVE => Deadlines::new(LIVE, share.names),
            // Whatever an earlier run has held back, nobody has kept the names.
            (None, false) => Deadlines::new(record.horizon, share.names).of_others(),
        };
        deadlines.set_apart(clocks.apart());
        deadlines.set_extension(source.rules.ttl().extends());
        deadlines.set_bounded(source.rules.ttl().most().is_some());
        if record.unsure {
            deadlines.forget_unsure();
        }
        let outage = Outage::of(&source.rules, &record);
        let own = Own { db: job.db, record: job.key.clone(), scripts: job.scripts.clone() };
        let known_names = job.distinct.take().filter(|_| !matches!(beginning, Beginning::Again));
        let distinct = (!source.rules.names().are_distinct())
            .then(|| known_names.unwrap_or_else(|| Distinct::within(share.names / 2)));
        let mut stream = Stream::new(origin, server, scope, share.scripts).keeping(own);
        stream = stream.telling_apart(distinct);
        if !is_first {
            for script in kept_scripts(net, to, (job.db, &job.scripts)).await? {
                stream.learn_kept(&script);
            }
        }
        stream.begin_in(Db::new(record.clean.db));
        let (resume, history, begun) = match (&beginning, job.begun.take()) {
            (Beginning::Resume(resume), _) => (Some(*resume), Some(*resume), None),
            (_, begun) => (None, None, begun),
        };
        let digests = digests::open(plan, source, job, &beginning, (clocks, &share)).map(Box::new);
        let (source, full) = match begun {
            Some((upstream, full)) => (upstream, Some(full)),
            None => {
                let from = source.place.clone();
                let spool = store.clone().map(|store| (store, share.block));
                let limits = Limits { piece: share.largest, spool };
                (Upstream::new(from, net.clone(), plan.method, limits, resume), None)
            }
        };
        let sweep = match beginning {
            Beginning::Again => {
                let older = if record.sole {
                    Older::None
                } else {
                    held_keys.map_or(Older::Unknown, Older::Known)
                };
                Some(Sweep::new(&job.token(), older, share.names, &scratch_folder(plan)?)?)
            }
            _ => None,
        };
        let (spot, doubts, told_unproven) = (record.clean, doubts_of(&record), record.unproven);
        Counters::set(&counters.confirmed_offset, spot.offset);
        let unseen_to = Offset::new(record.applied.offset);
        let end = if matches!(beginning, Beginning::Done) { End::Done } else { End::No };
        let waits_for_source = tally.begun || !is_first;
        let resumes = matches!(beginning, Beginning::Resume(_));
        if let Some(patience) = job.patience {
            target.set_patience(patience);
        }
        let mut lane = Self {
            plan,
            index,
            from: plan.sources.get(index).map_or(&plan.target, |source| &source.place),
            to,
            walks: known.walks.clone(),
            counters,
            clock,
            net: net.clone(),
            orders,
            source,
            target,
            tally,
            record: record_at,
            connection,
            relinking: None,
            copy: Copy::new(server, existing, share.copy, token),
            stream,
            throttle: throttle.clone(),
            held_up: false,
            replaced,
            counts_conflicts,
            draft: Draft::default(),
            stage: Stage::Connecting,
            history,
            taken: Offset::new(spot.offset),
            confirmed: Offset::new(spot.offset),
            starved: true,
            asking: None,
            goal: Goal::None,
            deadlines,
            server,
            end,
            rounds: 0,
            doubts_changed: !doubts.is_empty(),
            doubts,
            unseen_to,
            rereading: Rereading::new(known.rereads.clone(), index),
            rivalry,
            digests,
            removals: Removals::default(),
            looked_in: None,
            fetching: None,
            fetched: 0,
            unwritten: 0,
            sweep,
            fetcher: None,
            unknown: None,
            fetch_lost: None,
            fetch_again_at: None,
            quiet_since: clock.now(),
            moving: None,
            holding: 0,
            turn: known.turn.clone(),
            outage,
            ahead: ahead(plan, facts),
            clocks,
            resumes,
            announced: false,
            begins_anew: false,
            waits_for_source,
            is_finished: false,
            following_since: None,
            links: 0,
            last_data: Duration::ZERO,
            stopping: None,
            is_paused: false,
            is_finishing: false,
            refusal: None,
            source_lost: None,
            is_let_go: false,
            settles: false,
            hands_over: false,
            leaves: false,
            unsettles: false,
            looked: None,
            target_lost: None,
            slots: known.member.clone().map(Slots::new),
            share,
            excess: Excess::new(pool.clone()),
            spooling: Spooling::of(facts, index, store.as_ref()),
            method: "psync",
            copied_at: None,
            watchdog: Watchdog::default(),
            moved: clock.now(),
        };
        lane.tally.begun |= !is_first;
        // Whoever was here before has seen what we have not.
        lane.tally.unproven = lane.tally.unproven.max(told_unproven);
        lane.tell_written();
        if let Some(at) = full {
            lane.full_sync(at, None)?;
        }
        Ok(lane)
    }
}

/// A job that was taken over.
struct Claimed {
    /// What its connection to the target is called.
    connection: String,
    target: Standalone,
    beginning: Beginning,
    record: Record,
}

/// Connects to the target, decides from the record there how to go on, and takes the job over; then waits for the turn, if the data set is to be
/// copied.
async fn take_over(
    plan: &Plan,
    known: &Known<'_>,
    to: &ServerPlace,
    (job, counters): (&mut Job, &Counters),
    waits: bool,
) -> Result<Claimed, LaneError> {
    let Known { facts, net, .. } = *known;
    let record_at = (job.db, job.key.clone());
    let mut claimed = loop {
        let connection = job.next_connection();
        let mut entrance = enter(net, to, &record_at, &connection, plan.until, waits).await?;
        job.fence(&mut entrance).await?;
        let horizon = first_horizon(plan, facts, known.index, entrance.now_ms);
        let (beginning, record) = job.decide(&entrance, horizon)?;
        let has_moved = |member: &Member| member.moves().generation() > 0;
        if matches!(beginning, Beginning::Again) && known.member.as_ref().is_some_and(has_moved) {
            return Err(LaneError::MovedBefore);
        }
        let keeper = job.keeper(record.clone(), &entrance);
        match Standalone::claim(entrance, keeper).await {
            // Behind a fence it is only one who takes the job over as well.
            Err(TargetError::Overtaken)
                if matches!(beginning, Beginning::First) && job.looks_again() => {}
            claimed => break Claimed { connection, target: claimed?, beginning, record },
        }
    };
    // From here on the record says it.
    job.copy_anew = None;
    if let Some(rival) = &known.rival {
        rival.takes_over();
    }
    let begun = net.clock().now();
    match claimed.beginning {
        Beginning::Resume(_) | Beginning::Done => known.turn.is_over(),
        // A master that has begun to send is not held up.
        Beginning::First | Beginning::Again if job.begun.is_none() && !known.turn.asks() => {
            counters.enter(Phase::Waiting);
            known.turn.comes().await;
            counters.enter(Phase::Connecting);
        }
        Beginning::First | Beginning::Again => {}
    }
    if let Some(rival) = &known.rival {
        rival.are_all_ours().await;
        if rival.was_overtaken() {
            return Err(TargetError::Overtaken.into());
        }
    }
    claimed.has_waited(net.clock().now().saturating_sub(begun));
    Ok(claimed)
}

impl Claimed {
    /// What was held back from the moment of the claim is held back from now on. A copy that breaks off is followed by another one, whose
    /// horizon lies behind this one's, so that nothing needs to be written for it.
    fn has_waited(&mut self, waited: Duration) {
        let waited = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
        let copies = matches!(self.beginning, Beginning::First | Beginning::Again);
        if !copies || !comes_nearer(self.record.horizon) {
            return;
        }
        let record = &mut self.record;
        record.horizon = record.horizon.saturating_add(waited);
        record.good = record.good.saturating_add(waited);
        let (horizon, good) = (record.horizon, record.good);
        self.target.keeper_mut().amend(|record| (record.horizon, record.good) = (horizon, good));
    }
}

/// The folder on whose disk names are kept that memory has no room for.
fn scratch_folder(plan: &Plan) -> Result<PathBuf, LaneError> {
    let folder = plan.job.folder.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&folder)
        .map_err(|source| LaneError::Write { path: folder.clone(), source })?;
    Ok(folder)
}

/// The scripts that the job keeps in the target.
async fn kept_scripts(
    net: &Net,
    to: &ServerPlace,
    (db, key): (Db, &[u8]),
) -> Result<Vec<Vec<u8>>, LaneError> {
    let mut control = Control::open(net, to).await?;
    control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
    Ok(control.ask("HVALS", &[key]).await?)
}

/// Connects to the target and sees what is there. One that was there before is waited for.
async fn enter(
    net: &Net,
    to: &ServerPlace,
    record: &(Db, Vec<u8>),
    connection: &str,
    until: Until,
    waits: bool,
) -> Result<Entrance, LaneError> {
    let mut loss = Loss::new(net.clock().now());
    loop {
        match Standalone::enter(net, to, record.clone(), connection).await {
            Ok(entrance) => return Ok(entrance),
            Err(error) => {
                let error = LaneError::Target(error);
                if !waits || remedy(&error) != Remedy::ReconnectTarget {
                    return Err(error);
                }
                sleep(loss.again("target", &error, until, net.clock().now())?).await;
            }
        }
    }
}

/// Up to when a job that begins holds deadlines of this source back, in Unix milliseconds of the target's clock.
fn first_horizon(plan: &Plan, facts: &Facts, index: usize, now_ms: i64) -> i64 {
    match plan.deadlines {
        // What is written of a contested key may be another source's.
        _ if plan.ends_otherwise(index) => ALL,
        OnDeadlines::Exact => now_ms.saturating_add(ahead(plan, facts)),
        OnDeadlines::Live => LIVE,
    }
}

/// How far ahead of now a deadline is held back, in milliseconds: as long as the job may stay away; a day, or when the run ends by itself,
/// four times what the copy may take, an hour at the least.
fn ahead(plan: &Plan, facts: &Facts) -> i64 {
    const HOUR: u64 = 3_600_000;
    const SLOWEST_BYTES_PER_MS: u64 = 20_000;
    let largest =
        facts.sources.iter().flatten().map(|source| source.used_memory).max().unwrap_or(0);
    let ahead = match (plan.away, plan.until) {
        (Some(away), _) => u64::try_from(away.as_millis()).unwrap_or(u64::MAX),
        (None, Until::CaughtUp) => HOUR.max(4 * largest / SLOWEST_BYTES_PER_MS),
        (None, Until::Forever) => 24 * HOUR,
    };
    i64::try_from(ahead).unwrap_or(i64::MAX)
}

/// What a target that does not say its version is taken for.
const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 8, 0) };
