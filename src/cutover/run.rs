//! A cutover from its first look to its last: see the module above for the way that it goes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::flow::{self, Comparing, Difference, Ended, Order, Verified};
use crate::key::Escaped;
use crate::net::{Control, Net};
use crate::plan::{Facts, Place, Plan};
use crate::preflight::{keys_of_db, look};
use crate::progress::{Counters, Phase};
use crate::verify::{Kind, Sample};

use super::fence::{Before, Fence};
use super::fenced::{Left, Raised};
use super::switch::{Ends, Member, each, members};
use super::watch::{Late, watch};

/// What is wanted of a cutover.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What keeps the sources from taking writes; `None`: nothing does, and all is tried but the switch.
    pub fence: Option<Fence>,
    /// Which part of the keys is compared; `None`: all of them.
    pub sample: Option<Sample>,
    /// How long writes may be refused, at the most.
    pub most: Duration,
    /// For how long behind GO the sources are watched.
    pub watch: Duration,
}

/// The job that is switched.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// To its places.
    pub net: &'a Net,
    /// What it does.
    pub plan: &'a Plan,
    /// What was known when it began.
    pub facts: &'a Facts,
    /// How its lanes stand, in the plan's order.
    pub counters: &'a [Arc<Counters>],
    /// What its lanes are told.
    pub orders: &'a watch::Sender<Order>,
}

/// What is told while a cutover goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A step is done: its name, and what came of it.
    Step(&'static str, String),
    /// A key differs.
    Differs(Difference),
    /// It is GO. The sources stay fenced, and the target is the one.
    Go(Gone),
    /// A source that was handed over was written to.
    Late(Late),
}

/// What was switched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Where each source's stream has ended, by name; 0 where the source has no offsets.
    pub offsets: BTreeMap<String, u64>,
    /// How long writes were refused until then, in milliseconds; of a rehearsal what the steps took that would have been behind a fence.
    pub pause_ms: u64,
    /// What the sample was drawn by, or the whole compared by.
    pub compared: u64,
}

/// How a cutover has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was switched; `None`: NO-GO.
    pub gone: Option<Gone>,
    /// Why it is no GO, and what to do: each line by itself.
    pub against: Vec<String>,
    /// Writes that came behind GO.
    pub late: u64,
}

/// Why it is no GO.
struct Against(Vec<String>);

impl Against {
    fn of(what: String) -> Self {
        Self(vec![what])
    }

    fn by((source, why): (String, String)) -> Self {
        Self::of(format!("{source}: {why}"))
    }
}

/// How far behind a job may be when it is fenced.
const LAG: Duration = Duration::from_secs(1);

/// How long a job may take to come so near.
const NEAR: Duration = Duration::from_secs(30);

/// How long nothing may be written before a stream counts as ended: behind a fence that lets nothing pass,
const SHORT: Duration = Duration::from_millis(200);

/// and behind others.
const LONG: Duration = Duration::from_secs(1);

/// How long deadlines may take to be held back again before the sources take writes all the same: then the job copies anew.
const RESTORED: Duration = Duration::from_secs(20);

/// So many keys that differ are named: verify names them all.
const DIFFERENCES: usize = 20;

/// How often a fence is tried to be taken away.
const TRIES: u32 = 10;

/// Switches a job that follows, as far as it goes. `gives_up` comes when nobody wants it any more. Whatever happens before GO, the job follows again in
/// the end and no source is fenced, unless the verdict says otherwise.
pub async fn cutover(
    job: Job<'_>,
    wanted: Wanted,
    gives_up: impl Future<Output = String>,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Verdict {
    let members = members(job.net, job.plan, job.facts, job.counters);
    let mut switch =
        Switch { job, wanted, members, left: Left::new(), raised: BTreeMap::new(), since: None };
    let went = tokio::select! {
        went = switch.go(tell) => went,
        why = gives_up => Err(Against::of(why)),
    };
    match went {
        Ok(gone) if wanted.fence.is_none() => {
            Verdict { gone: Some(gone), against: Vec::new(), late: 0 }
        }
        Ok(gone) => {
            let late =
                watch(&switch.members, wanted.watch, &mut |late| tell(Told::Late(late))).await;
            let _ = job.give(Order::Finish);
            Verdict { gone: Some(gone), against: Vec::new(), late }
        }
        Err(Against(mut against)) => {
            against.extend(switch.undo(tell).await);
            Verdict { gone: None, against, late: 0 }
        }
    }
}

impl Job<'_> {
    /// Gives an order, if it may follow the one before.
    fn give(&self, order: Order) -> Result<(), String> {
        let given = order.give(self.orders);
        given
            .map(drop)
            .map_err(|late| format!("the job was told to {} meanwhile", late.follows.name()))
    }
}

/// A cutover under way.
struct Switch<'a> {
    job: Job<'a>,
    wanted: Wanted,
    members: Vec<Member>,
    left: Left,
    raised: BTreeMap<String, Arc<Raised>>,
    /// Since when writes are refused.
    since: Option<Duration>,
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

    fn too_long(&self) -> Against {
        let most = self.wanted.most.as_secs_f64();
        Against::of(format!(
            "writes were refused for {most} s, and no longer was wanted (--max-pause)"
        ))
    }

    /// Everything up to here is nearly in the target.
    async fn is_ready(&self, tell: &mut (dyn FnMut(Told) + Send)) -> Result<(), Against> {
        let begun = self.now();
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
                tell(Told::Step(
                    "ready",
                    format!(
                        "all that was written was in the target within {} ms; no key is in doubt",
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
        let before = self.write_down(fence).await?;
        let since = self.now();
        self.since = Some(since);
        self.put_up(fence, before).await?;
        tell(Told::Step(
            "fence",
            format!(
                "{} stands on {} after {} ms",
                fence.name(),
                sources(self.members.len()),
                self.ms_since(since)
            ),
        ));

        let begun = self.now();
        let silent = each(&self.members, |member| async move {
            let lasting = if fence.is_tight(member.server) { SHORT } else { LONG };
            member.falls_silent(lasting).await
        });
        let patience = timeout(self.wanted.most / 2, silent).await;
        let ends = match patience {
            Ok(ends) => ends.map_err(Against::by)?,
            Err(_) => return Err(self.still_written(fence).await),
        };
        tell(Told::Step(
            "silence",
            format!("nothing more is written; {} ms", self.ms_since(begun)),
        ));

        let begun = self.now();
        self.job.give(Order::Settle).map_err(Against::of)?;
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

    /// Writes down what is there before the fences.
    async fn write_down(&mut self, fence: Fence) -> Result<BTreeMap<String, Before>, Against> {
        let before = each(&self.members, |member| async move { member.before(fence).await });
        let before = before.await.map_err(Against::by)?;
        for (source, before) in &before {
            self.left.add(source.clone(), before.clone());
        }
        if let Some(folder) = &self.job.plan.job.folder {
            let kept = self.left.keep(folder).and_then(|()| Left::sync(folder));
            kept.map_err(|error| Against::of(flow::chain(&error)))?;
        }
        Ok(before)
    }

    async fn put_up(
        &mut self,
        fence: Fence,
        before: BTreeMap<String, Before>,
    ) -> Result<(), Against> {
        let raised = each(&self.members, |member| {
            let before = before.get(&member.name).cloned();
            async move {
                match before {
                    Some(before) => member.put_up(fence, before).await,
                    None => Err("what is there before the fence is not known".to_owned()),
                }
            }
        });
        let raised = raised.await.map_err(Against::by)?;
        self.raised = raised.into_iter().map(|(name, raised)| (name, Arc::new(raised))).collect();
        Ok(())
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

    /// Compares sources and target. Gives how many keys were.
    async fn compare(
        &self,
        facts: Facts,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<u64, Against> {
        let Job { net, plan, orders, .. } = self.job;
        let facts = self.with_keys(facts).await?;
        let seed = RandomState::new().hash_one(0);
        let comparing = Comparing { sample: self.wanted.sample, seed, ..Comparing::default() };
        let counters: Vec<Arc<Counters>> =
            plan.sources.iter().map(|_| Arc::default()).chain([Arc::default()]).collect();
        let mut told_differences = 0;
        let verified = flow::verify(
            net,
            (plan, &facts),
            comparing,
            &counters,
            &orders.subscribe(),
            &mut |told| {
                if let flow::Told::Differs(difference) = told
                    && told_differences < DIFFERENCES
                {
                    told_differences += 1;
                    tell(Told::Differs(difference));
                }
            },
        )
        .await;
        // Without a fence a key may change too often to be compared. Behind one it holds still.
        judge(&verified, self.wanted.fence.is_none())?;
        tell(Told::Step(
            "compare",
            format!(
                "{} keys of the sources, {} of the target, no difference{}; {:.0} ms",
                verified.counts.expected,
                verified.counts.found,
                match verified.unproven {
                    0 => String::new(),
                    keys => format!(" ({keys} changed too often to be compared)"),
                },
                verified.report.seconds * 1000.0
            ),
        ));
        Ok(verified.counts.expected)
    }

    /// The same facts, with the keys that the target holds now.
    async fn with_keys(&self, mut facts: Facts) -> Result<Facts, Against> {
        let (Place::Server(place), Some(target)) = (&self.job.plan.target, &mut facts.target)
        else {
            return Ok(facts);
        };
        let asked = async { Control::open(self.job.net, place).await?.info("keyspace").await };
        let info =
            asked.await.map_err(|error| Against::of(format!("target: {}", flow::chain(&error))))?;
        target.keys = info.lines().filter_map(keys_of_db).collect();
        Ok(facts)
    }

    /// Undoes what was done. Gives what could not be.
    async fn undo(&mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Vec<String> {
        let mut left = Vec::new();
        // Only a run that settles is told to go on: one that was told something else does that.
        let settles = self.job.orders.send_if_modified(|now| {
            let settles = *now == Order::Settle;
            if settles {
                *now = Order::Go;
            }
            settles
        });
        if settles {
            // While the fences stand no deadline is renewed there, so that none can be missed.
            let restored = each(&self.members, |member| member.enters(Phase::Following));
            match timeout(RESTORED, restored).await {
                Ok(Ok(_)) => tell(Told::Step("undo", "deadlines are held back again".to_owned())),
                Ok(Err((name, why))) => left.push(format!("{name}: deadlines are not held back again: {why}")),
                Err(_) => left.push("deadlines are not held back again yet: what is renewed on a source before they are may be lost, and the job may have to copy anew".to_owned()),
            }
        }
        let Some(since) = self.since else {
            // Nothing was put up, so that nothing needs to be remembered.
            self.left = Left::new();
            if let Some(folder) = &self.job.plan.job.folder {
                let _ = self.left.keep(folder);
            }
            return left;
        };
        let fenced: Vec<String> = self.left.sources().map(str::to_owned).collect();
        for member in self.members.iter().filter(|member| fenced.contains(&member.name)) {
            let Some(before) = self.left.of(&member.name).cloned() else { continue };
            let mut tried = Ok(());
            for _ in 0..TRIES {
                tried = member.clone().take_down(before.clone()).await;
                if tried.is_ok() {
                    break;
                }
                sleep(Duration::from_millis(200)).await;
            }
            match tried {
                Ok(()) => self.left.remove(&member.name),
                Err(why) => left.push(format!(
                    "{}: IT IS STILL FENCED: {why}; understudy cutover --lift with the same places takes the fence away",
                    member.name
                )),
            }
        }
        if let Some(Err(error)) =
            self.job.plan.job.folder.as_ref().map(|folder| self.left.keep(folder))
        {
            left.push(flow::chain(&error));
        }
        if self.left.sources().next().is_none() {
            tell(Told::Step(
                "undo",
                format!("the sources take writes again, after {} ms", self.ms_since(since)),
            ));
        }
        left
    }

    fn offsets(&self) -> BTreeMap<String, u64> {
        let offset =
            |member: &Member| (member.name.clone(), member.counters.snapshot().confirmed_offset);
        self.members.iter().map(offset).collect()
    }

    fn now(&self) -> Duration {
        self.job.net.clock().now()
    }

    fn ms_since(&self, since: Duration) -> u64 {
        ms(self.now().saturating_sub(since))
    }
}

/// Whether a comparison allows to switch.
fn judge(verified: &Verified, may_be_unproven: bool) -> Result<(), Against> {
    if let Some((failure, advice)) = &verified.failure {
        return Err(Against(vec![format!("not all was compared: {failure}"), advice.clone()]));
    }
    for source in &verified.report.sources {
        if let Some((failure, advice)) = &source.failure {
            return Err(Against(vec![
                format!("{}: it was not compared: {failure}", source.name),
                advice.clone(),
            ]));
        }
    }
    match verified.ended() {
        Ended::Done => Ok(()),
        Ended::Differences
            if may_be_unproven && verified.differences.iter().all(|count| *count == 0) =>
        {
            Ok(())
        }
        Ended::Differences => {
            let kinds = Kind::ALL.iter().zip(verified.differences).filter(|(_, count)| *count > 0);
            let mut kinds: Vec<String> =
                kinds.map(|(kind, count)| format!("{count} {kind}")).collect();
            if verified.unproven > 0 {
                kinds.push(format!("{} that nobody can tell", verified.unproven));
            }
            Err(Against::of(format!("source and target differ: {}", kinds.join(", "))))
        }
        Ended::Stopped | Ended::Refused | Ended::Failed => {
            Err(Against::of("not all was compared".to_owned()))
        }
    }
}

fn sources(count: usize) -> String {
    match count {
        1 => "1 source".to_owned(),
        count => format!("{count} sources"),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, write, .. } = self;
        write!(f, "{source}: {} at offset {}", write.command, write.offset)?;
        match &write.key {
            Some(key) => write!(f, ", key {}", Escaped(key)),
            None => Ok(()),
        }
    }
}
