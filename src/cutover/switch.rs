//! What a cutover asks of each of its sources, all of them at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::flow::chain;
use crate::net::{Control, ControlError, Net, info_field};
use crate::plan::{Facts, Place, Plan, ServerPlace};
use crate::progress::{Counters, Phase};
use crate::server::{Flavour, Server, Version};

use super::fence::{Before, Fence};
use super::fenced::{self, Raised};
use super::silence::{Seen, Silence, is_untouched};

/// How often a source is looked at while something is waited for.
const OFTEN: Duration = Duration::from_millis(20);

/// How long it is waited for a moment at which no key is on its way whose time has come.
const ONE_MOMENT: Duration = Duration::from_secs(1);

/// So many keys in doubt are soon read once nothing more is written: as many as a record holds.
const FEW: u64 = 1000;

/// How often a fence is tried to be taken away, and how long is waited between. A source that says nothing takes up ten seconds each time: behind these none is
/// begun any more, so that the verdict does not wait for it.
const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(200);
const TRYING: Duration = Duration::from_secs(15);

/// What a server is taken for that does not say what it is.
const OLDEST: Server = Server { flavour: Flavour::Redis, version: Version(2, 6, 0) };

/// A source that can be fenced.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) place: ServerPlace,
    pub(super) server: Server,
    pub(super) net: Net,
    pub(super) counters: Arc<Counters>,
    /// Of several sources on one server the first is fenced, and with it all. This is its name.
    pub(super) leader: String,
}

/// Where a stream ends, and how many keys its source had let die by then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) seen: Seen,
    removals: u64,
    died: u64,
}

/// Which fences the sources allow, as far as that can be seen without putting one up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The fence.
    pub fence: Fence,
    /// The first source that does not allow it, and why; `None` if all do.
    pub obstacle: Option<(String, String)>,
    /// So many others do not allow it either.
    pub others: usize,
}

/// The sources that are servers: others take no writes.
pub(super) fn members(
    net: &Net,
    plan: &Plan,
    facts: &Facts,
    counters: &[Arc<Counters>],
) -> Vec<Member> {
    let mut leaders = BTreeMap::new();
    let all = plan.sources.iter().zip(counters).enumerate();
    all.filter_map(|(index, (source, counters))| {
        let Place::Server(place) = &source.place else { return None };
        let its = facts.sources.get(index).and_then(Option::as_ref);
        let process = its.map(|facts| facts.run_id.clone()).filter(|process| !process.is_empty());
        let leader = process
            .map(|process| leaders.entry(process).or_insert_with(|| source.name.clone()).clone());
        Some(Member {
            name: source.name.clone(),
            place: place.clone(),
            server: its.and_then(|facts| facts.server).unwrap_or(OLDEST),
            net: net.clone(),
            counters: Arc::clone(counters),
            leader: leader.unwrap_or_else(|| source.name.clone()),
        })
    })
    .collect()
}

/// Which fences all sources of the plan allow.
pub async fn allowed(net: &Net, plan: &Plan, facts: &Facts) -> Vec<Allowed> {
    let counters: Vec<Arc<Counters>> = plan.sources.iter().map(|_| Arc::default()).collect();
    let members = members(net, plan, facts, &counters);
    let mut all = Vec::new();
    for fence in Fence::ALL {
        let asked = each(&members, |member| async move { Ok(member.allows(fence).await.err()) });
        let mut asked = asked.await.unwrap_or_default();
        // In the order in which they were given.
        let mut against = { members.iter() }
            .filter_map(|member| Some((member.name.clone(), asked.remove(&member.name)??)));
        all.push(Allowed { fence, obstacle: against.next(), others: against.count() });
    }
    all
}

/// Does something for every source, all at a time. Fails with the first that fails, by name.
pub(super) async fn each<T, F>(
    members: &[Member],
    mut doing: impl FnMut(Member) -> F,
) -> Result<BTreeMap<String, T>, (String, String)>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for member in members {
        let (name, task) = (member.name.clone(), doing(member.clone()));
        tasks.spawn(async move { (name, task.await) });
    }
    let mut all = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (name, done) =
            done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        match done {
            Ok(done) => drop(all.insert(name, done)),
            Err(error) => return Err((name, error)),
        }
    }
    Ok(all)
}

impl Member {
    /// Whether it is fenced, for all on its server.
    pub(super) fn leads(&self) -> bool {
        self.leader == self.name
    }

    /// What is there before this fence.
    pub(super) async fn before(&self, fence: Fence) -> Result<Before, String> {
        if !fence.is_known_to(self.server) {
            return Err(format!("{} does not know it", self.server));
        }
        let before = fenced::before(&self.net, &self.place, (fence, self.server)).await;
        before
            .map_err(|error| chain(&error))?
            .ok_or_else(|| "it does not tell what is to be put back".to_owned())
    }

    /// Why this fence cannot be put up, by all that can be told without doing it.
    async fn allows(&self, fence: Fence) -> Result<(), String> {
        self.before(fence).await?;
        let tried = fenced::may_be_put_up(&self.net, &self.place, (fence, self.server)).await;
        tried.map_err(|error| chain(&error))
    }

    pub(super) async fn put_up(self, fence: Fence, before: Before) -> Result<Raised, String> {
        let raised = fenced::put_up(&self.net, &self.place, (fence, self.server), &before).await;
        raised.map_err(|error| chain(&error))
    }

    /// Takes a fence away, and tries it more than once.
    pub(super) async fn take_down(self, before: Before) -> Result<(), String> {
        let clock = self.net.clock();
        let (begun, mut tries) = (clock.now(), 0);
        loop {
            let taken = fenced::take_down(&self.net, &self.place, &before).await;
            let is_long = clock.now().saturating_sub(begun) >= TRYING;
            match taken {
                Ok(()) => return Ok(()),
                Err(error) if tries == TRIES || is_long => return Err(chain(&error)),
                Err(_) => tries += 1,
            }
            sleep(AGAIN).await;
        }
    }

    pub(super) async fn stands(self, fence: Fence, raised: Arc<Raised>) -> Result<(), String> {
        let stands = fenced::stands(&self.net, &self.place, (fence, self.server), &raised).await;
        match stands.map_err(|error| chain(&error))? {
            true => Ok(()),
            false => Err("somebody has changed what the fence is made of".to_owned()),
        }
    }

    /// Waits until all that the source has now is in the target; gives how long that took.
    pub(super) async fn drains(self) -> Result<Duration, String> {
        let begun = self.net.clock().now();
        let mut control = self.control().await?;
        let (goal, _) = self.stands_at(&mut control).await?;
        loop {
            let now = self.counters.snapshot();
            // To a source that is written to all the time something is always on its way, and keys that others write to too come and go as doubts.
            let is_there = match goal {
                Some(goal) if now.confirmed_offset >= goal => true,
                Some(goal) => now.read_offset >= goal && now.in_flight == 0,
                None => now.in_flight == 0,
            };
            if is_there && now.phase == Phase::Following && now.doubts <= FEW {
                return Ok(self.net.clock().now().saturating_sub(begun));
            }
            if now.phase.is_end() {
                return Err(self.broken_off());
            }
            sleep(OFTEN / 4).await;
        }
    }

    /// Waits until nothing has been written for so long, and all of the stream was looked at.
    pub(super) async fn falls_silent(self, lasting: Duration) -> Result<Ends, String> {
        let mut control = self.control().await?;
        let (mut silence, mut silent_since) = (Silence::lasting(lasting), None);
        loop {
            let (master, died) = self.stands_at(&mut control).await?;
            let now = self.counters.snapshot();
            let seen = Seen { writes: now.writes, looked: now.read_offset, master };
            let at = self.net.clock().now();
            if silence.see(at, seen) {
                let since = *silent_since.get_or_insert(at);
                // Of what has died by then the stream tells neither more nor less; but where keys die all the time it is not waited for for long.
                if seen.is_of_one_moment() || at.saturating_sub(since) >= ONE_MOMENT {
                    return Ok(Ends { seen, removals: now.removals, died });
                }
            } else {
                silent_since = None;
            }
            if now.phase.is_end() {
                return Err(self.broken_off());
            }
            sleep(OFTEN).await;
        }
    }

    /// Waits until the lane follows again, or has ended.
    pub(super) async fn goes_on(self) -> Result<(), String> {
        loop {
            let phase = self.counters.snapshot().phase;
            if phase == Phase::Following || phase.is_end() {
                return Ok(());
            }
            sleep(OFTEN / 4).await;
        }
    }

    /// Waits until the lane is in this phase.
    pub(super) async fn enters(self, phase: Phase) -> Result<(), String> {
        loop {
            let now = self.counters.snapshot();
            if now.phase == phase {
                return Ok(());
            }
            if now.phase.is_end() {
                return Err(self.broken_off());
            }
            sleep(OFTEN / 4).await;
        }
    }

    /// Waits until all that the source has now was looked at, and says whether any of it was written since the stream ended.
    pub(super) async fn stays_untouched(self, ends: Ends) -> Result<(), String> {
        let (mut control, mut is_told) = (self.control().await?, false);
        loop {
            let (master, died) = self.stands_at(&mut control).await?;
            let now = self.counters.snapshot();
            let seen = Seen { writes: now.writes, looked: now.read_offset, master };
            if now.phase.is_end() {
                return Err(self.broken_off());
            }
            let (removals, died) =
                (now.removals.saturating_sub(ends.removals), died.saturating_sub(ends.died));
            match is_untouched(ends.seen, seen, removals, died) {
                Some(true) => return Ok(()),
                // A removal may have been counted a moment before how far the stream was looked at: then it is not so the second time.
                Some(false) if is_told => {
                    let writes = seen.writes.saturating_sub(ends.seen.writes);
                    return Err(format!(
                        "it was written to behind the fence: {writes} writes, and {removals} deletions where {died} keys have died"
                    ));
                }
                told => is_told = told.is_some(),
            }
            sleep(OFTEN / 4).await;
        }
    }

    async fn control(&self) -> Result<Control, String> {
        Control::open(&self.net, &self.place).await.map_err(|error| chain(&error))
    }

    /// Where the master's stream stands, and how many keys it has let die or evicted.
    async fn stands_at(&self, control: &mut Control) -> Result<(Option<u64>, u64), String> {
        // One answer, so that both are of one moment.
        let info = match control.info("all").await {
            Ok(info) => info,
            Err(ControlError::Refused { .. }) => return Ok((None, 0)),
            Err(error) => return Err(chain(&error)),
        };
        let number = |name| info_field(&info, name).and_then(|text| text.parse::<u64>().ok());
        // Fields of hashes die too: so Redis counts them from 7.4 on, and so Valkey from 9.0 on.
        let gone = ["expired_keys", "evicted_keys", "expired_subkeys", "expired_fields"];
        let died = gone.iter().filter_map(|name| number(name)).sum();
        // A master without replicas counts nothing, but we are one.
        Ok((
            number("master_repl_offset").filter(|_| self.server.as_redis() >= Version(2, 8, 0)),
            died,
        ))
    }

    pub(super) fn broken_off(&self) -> String {
        self.counters.trouble().unwrap_or_else(|| "it is not followed any more".to_owned())
    }

    /// The clients of the source that have said something just now, but for us, as it lists them: whoever writes is among them.
    pub(super) async fn clients(&self) -> Vec<String> {
        const FEW: usize = 5;
        let Ok(mut control) = self.control().await else { return Vec::new() };
        let list = control.ask::<String>("CLIENT LIST", &[]).await.unwrap_or_default();
        let field = |line: &str, name: &str| {
            line.split(' ')
                .find_map(|field| Some(field.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
        };
        let is_other = |line: &&str| {
            let flags = field(line, "flags").unwrap_or_default();
            let command = field(line, "cmd").unwrap_or_default();
            !flags.contains(['S', 'M']) && !command.starts_with("client")
        };
        let idle = |line: &&str| field(line, "idle").and_then(|idle| idle.parse::<u64>().ok());
        let mut clients: Vec<&str> = list.lines().filter(is_other).collect();
        clients.sort_by_key(|line| idle(line).unwrap_or(u64::MAX));
        let told = |line: &&str| {
            let known = ["addr", "name", "user", "cmd", "idle"];
            let fields = known.iter().filter_map(|name| {
                field(line, name)
                    .filter(|value| !value.is_empty())
                    .map(|value| format!("{name}={value}"))
            });
            fields.collect::<Vec<_>>().join(" ")
        };
        clients.iter().take(FEW).map(told).collect()
    }
}
