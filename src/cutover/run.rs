//! A cutover from its first look to its last: see the module above for the way that it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::flow::{self, Order};
use crate::plan::Facts;
use crate::preflight::look;
use crate::progress::Phase;

use super::fence::Fence;
use super::fenced::{Left, Raised, left_behind};
use super::fencing::{LIFTS, STILL_FENCED};
use super::switch::{Ends, Member, each, members};
use super::told::{Against, Gone, Job, Told, Verdict, Wanted};
use super::watch::watch;

/// How far behind a job may be when it is fenced.
const LAG: Duration = Duration::from_secs(1);

/// How long a job may take to come so near.
const NEAR: Duration = Duration::from_secs(30);

/// How long nothing may be written before a stream counts as ended: behind a fence that lets nothing pass,
const SHORT: Duration = Duration::from_millis(200);

/// and behind others.
const LONG: Duration = Duration::from_secs(1);

/// How long is waited for the silence, of what writes may be refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// Switches a job that follows, as far as it goes. `gives_up` comes when nobody wants it any more. Whatever happens before GO, the job follows again in
/// the end and no source is fenced, unless the verdict says otherwise.
pub async fn cutover(
    job: Job<'_>,
    wanted: Wanted,
    gives_up: impl Future<Output = String>,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Verdict {
    let members = members(job.net, job.plan, job.facts, job.counters);
    let mut switch = Switch {
        job,
        wanted,
        members,
        left: Left::new(),
        raising: BTreeMap::new(),
        raised: BTreeMap::new(),
        since: None,
        settles: false,
        writes: 0,
    };
    let went = tokio::select! {
        went = switch.go(tell) => went,
        why = gives_up => Err(Against::of(why)),
    };
    match went {
        Ok(gone) if wanted.fence.is_none() => Verdict { gone: Some(gone), ..Verdict::default() },
        Ok(gone) => {
            let watched = (switch.writes, wanted.watch);
            let late = &mut |late| tell(Told::Late(late));
            let (late, unwatched) = watch(&switch.members, watched, late).await;
            let _ = job.give(Order::Leave);
            Verdict { gone: Some(gone), late, unwatched, ..Verdict::default() }
        }
        Err(Against(mut against)) => {
            against.extend(switch.undo(tell).await);
            against.extend(switch.left_by_others());
            Verdict { against, ..Verdict::default() }
        }
    }
}

/// A cutover under way.
pub(super) struct Switch<'a> {
    pub(super) job: Job<'a>,
    pub(super) wanted: Wanted,
    pub(super) members: Vec<Member>,
    pub(super) left: Left,
    /// Fences on their way up. They are not broken off: what is on its way to a server would come behind what takes the fence away.
    pub(super) raising: BTreeMap<String, JoinHandle<Result<Raised, String>>>,
    pub(super) raised: BTreeMap<String, Arc<Raised>>,
    /// Since when writes are refused.
    pub(super) since: Option<Duration>,
    /// The job was told to settle.
    pub(super) settles: bool,
    /// Writes that all sources had been sent when their streams ended.
    writes: u64,
}

impl Switch<'_> {
    async fn go(&mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<Gone, Against> {
        self.is_ready(tell).await?;
        match self.wanted.fence {
            None => Box::pin(self.rehearse(tell)).await,
            Some(fence) => {
                let most = self.wanted.most;
                let gone = timeout(most, Box::pin(self.switch(fence, tell))).await;
                gone.unwrap_or_else(|_| Err(self.too_long()))
            }
        }
    }

    /// Sources on which the fence of an earlier cutover stands, which this one has not come to.
    fn left_by_others(&self) -> Vec<String> {
        let left = left_behind(self.job.plan).ok().flatten();
        let names = left.iter().flat_map(Left::sources).filter(|name| self.left.of(name).is_none());
        let told = |name| format!("{name}: {STILL_FENCED} since an earlier cutover; {LIFTS}");
        names.map(told).collect()
    }

    fn too_long(&self) -> Against {
        let most = self.wanted.most.as_secs_f64();
        Against::of(format!(
            "writes were refused for {most} s, and no longer was wanted (--max-pause)"
        ))
    }

    /// Everything up to here is nearly in the target.
    async fn is_ready(&self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<(), Against> {
        let begun = self.now();
        if *self.job.orders.borrow() == Order::Pause {
            return Err(Against::of(
                "the job is paused: understudy resume lets it go on".to_owned(),
            ));
        }
        loop {
            let away: Vec<&str> = { self.members.iter() }
                .filter(|member| member.counters.snapshot().phase != Phase::Following)
                .map(|member| member.name.as_str())
                .collect();
            let lag = match away.is_empty() {
                true => Some(self.lag().await?),
                false => None,
            };
            if let Some(lag) = lag.filter(|lag| *lag < LAG) {
                let doubts = { self.members.iter() }
                    .map(|member| member.counters.snapshot().doubts)
                    .sum::<u64>();
                let doubts = match doubts {
                    0 => "no key is in doubt".to_owned(),
                    1 => "1 key is in doubt just now".to_owned(),
                    doubts => format!("{doubts} keys are in doubt just now"),
                };
                tell(Told::Step(
                    "ready",
                    format!(
                        "all that was written was in the target within {} ms; {doubts}",
                        lag.as_millis()
                    ),
                ));
                return Ok(());
            }
            if self.now().saturating_sub(begun) >= NEAR {
                return Err(Against::of(match (away.first(), lag) {
                    (Some(first), _) => format!(
                        "{first} does not follow its source yet (understudy status tells why)"
                    ),
                    (None, lag) => format!(
                        "the target is {} s behind what the sources are sent: wait until less is written, or see what slows the target",
                        lag.unwrap_or_default().as_secs_f64()
                    ),
                }));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// How long it takes until all that the sources have now is in the target.
    async fn lag(&self) -> Result<Duration, Against> {
        let drains = each(&self.members, |member| async move {
            timeout(NEAR, member.drains()).await.unwrap_or(Ok(NEAR))
        });
        Ok(drains.await.map_err(Against::by)?.into_values().max().unwrap_or_default())
    }

    /// Tries what can be tried while the sources take writes.
    async fn rehearse(&self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<Gone, Against> {
        let begun = self.now();
        let drained = self.lag().await?;
        tell(Told::Step(
            "drain",
            format!("{} ms until what was written then was in the target", drained.as_millis()),
        ));
        // The job goes on, and says in its records how far it is.
        let facts = look(self.job.net, self.job.plan).await;
        let facts = facts.map_err(|error| {
            Against::of(format!("{}: {}", error.place, flow::chain(&error.source)))
        })?;
        let compared = self.compare(facts, tell).await?;
        let offsets = self.offsets();
        Ok(Gone { offsets, pause_ms: ms(self.now().saturating_sub(begun)), compared })
    }

    async fn switch(
        &mut self,
        fence: Fence,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Gone, Against> {
        self.clear().await?;
        let before = self.write_down(fence).await?;
        let since = self.now();
        self.since = Some(since);
        self.put_up(fence, before).await?;
        tell(Told::Step(
            "fence",
            format!(
                "{} stands on {} after {} ms",
                fence.name(),
                servers(self.leaders().len()),
                self.ms_since(since)
            ),
        ));

        let begun = self.now();
        let silent = each(&self.members, |member| async move {
            let lasting = if fence.is_tight(member.server) { SHORT } else { LONG };
            member.falls_silent(lasting).await
        });
        let patience = timeout(PATIENCE.min(self.wanted.most / 2), silent).await;
        let ends = match patience {
            Ok(ends) => ends.map_err(Against::by)?,
            Err(_) => return Err(self.still_written(fence).await),
        };
        tell(Told::Step(
            "silence",
            format!("nothing more is written; {} ms", self.ms_since(begun)),
        ));

        self.writes = ends.values().map(|ends| ends.seen.writes).sum();
        let begun = self.now();
        self.job.give(Order::Settle).map_err(Against::of)?;
        self.settles = true;
        each(&self.members, |member| member.enters(Phase::Settled)).await.map_err(Against::by)?;
        tell(Told::Step(
            "settle",
            format!(
                "all is in the target, deadlines are what they are; {} ms",
                self.ms_since(begun)
            ),
        ));

        // What is compared now is no job's any more: nothing is brought, and nothing held back.
        let facts = Facts { records: Vec::new(), ..self.job.facts.clone() };
        let compared = self.compare(facts, tell).await?;

        self.is_as_it_was(fence, &ends).await?;
        // A process that was held up has seen no deadline pass.
        if self.now().saturating_sub(since) > self.wanted.most {
            return Err(self.too_long());
        }
        self.hand_over(&ends, since, compared, tell)
    }

    /// The point of no return.
    fn hand_over(
        &mut self,
        ends: &BTreeMap<String, Ends>,
        since: Duration,
        compared: u64,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Gone, Against> {
        self.left.gone = true;
        if let Some(folder) = &self.job.plan.job.folder {
            self.left.keep(folder).map_err(|error| Against::of(flow::chain(&error)))?;
        }
        if let Err(why) = self.job.give(Order::Watch) {
            self.left.gone = false;
            return Err(Against::of(why));
        }
        let pause_ms = self.ms_since(since);
        let offsets = ends.iter().map(|(name, ends)| (name.clone(), ends.seen.looked)).collect();
        let gone = Gone { offsets, pause_ms, compared };
        tell(Told::Go(gone.clone()));
        Ok(gone)
    }

    /// The fences stand, nothing came behind the end, and no key is in doubt.
    async fn is_as_it_was(
        &self,
        fence: Fence,
        ends: &BTreeMap<String, Ends>,
    ) -> Result<(), Against> {
        let raised = &self.raised;
        let looked = each(&self.members, |member| {
            let (raised, ends) =
                (raised.get(&member.name).cloned(), ends.get(&member.name).copied());
            async move {
                if let Some(raised) = raised {
                    member.clone().stands(fence, raised).await?;
                }
                member.stays_untouched(ends.unwrap_or_default()).await
            }
        });
        looked.await.map_err(Against::by)?;
        let settled = |member: &&Member| {
            let now = member.counters.snapshot();
            now.phase != Phase::Settled || now.doubts > 0
        };
        match self.members.iter().find(settled) {
            Some(member) => Err(Against::of(format!(
                "{}: not all of it is in the target any more",
                member.name
            ))),
            None => Ok(()),
        }
    }

    /// Who still writes.
    async fn still_written(&self, fence: Fence) -> Against {
        let mut told = vec![match fence {
            Fence::External => "the sources are still written to: stop whoever writes".to_owned(),
            fence => format!("the sources are still written to behind the fence {}", fence.name()),
        }];
        for member in &self.members {
            let clients = member.clients().await;
            told.extend(clients.iter().map(|client| format!("{}: client {client}", member.name)));
        }
        Against(told)
    }

    fn offsets(&self) -> BTreeMap<String, u64> {
        let offset =
            |member: &Member| (member.name.clone(), member.counters.snapshot().confirmed_offset);
        self.members.iter().map(offset).collect()
    }

    fn now(&self) -> Duration {
        self.job.net.clock().now()
    }

    pub(super) fn ms_since(&self, since: Duration) -> u64 {
        ms(self.now().saturating_sub(since))
    }
}

pub(super) fn servers(count: usize) -> String {
    match count {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
