//! The masters of a cluster as they are looked after together while each has a lane of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::net::{ClusterView, Net, Nodes};
use crate::plan::{Place, Plan, ServerPlace, Shard};
use crate::slots::{SLOTS, SlotSet};

use super::moves::{Holder, Look, Moves};

/// How often a cluster is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Slots that nobody reads for so many looks stay where they are.
const STRANGE_LOOKS: u32 = 3;

/// For so many looks slots may be nobody's before that is told.
const TOLD_FROM: u32 = 32;

/// What the lanes of one cluster know together.
#[derive(Debug)]
struct Shared {
    moves: Mutex<Moves>,
    found: Mutex<Found>,
    changed: watch::Sender<()>,
}

/// What the last looks have shown.
#[derive(Debug)]
struct Found {
    /// Where the master of each lane is.
    masters: Vec<Option<(String, u16)>>,
    /// Slots that have gone to a master which is no source.
    strange: SlotSet,
}

/// A lane's part in what the lanes of one cluster know together.
#[derive(Clone, Debug)]
pub(super) struct Member {
    shared: Arc<Shared>,
    lane: usize,
    changed: watch::Receiver<()>,
}

impl Member {
    /// What is known of moves.
    pub(super) fn moves(&self) -> MutexGuard<'_, Moves> {
        self.shared.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane's number among them.
    pub(super) const fn lane(&self) -> usize {
        self.lane
    }

    /// Lets the others look again at how things stand.
    pub(super) fn tell(&self) {
        self.shared.changed.send_replace(());
    }

    /// Where the lane's master is by now.
    pub(super) fn master(&self) -> Option<(String, u16)> {
        let found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.masters.get(self.lane).cloned().flatten()
    }

    /// Slots that have gone to a master which is no source of this run.
    pub(super) fn strange(&self) -> SlotSet {
        self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).strange.clone()
    }

    /// Waits until something has changed.
    pub(super) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells the others when the lane has ended.
    pub(super) fn guard(&self) -> Guard {
        Guard(self.clone())
    }
}

/// See [`Member::guard`].
#[derive(Debug)]
pub(super) struct Guard(Member);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.moves().is_gone(self.0.lane);
        self.0.tell();
    }
}

/// The parts of the plan's sources in their clusters, by the sources' numbers, and what looks after each cluster: it never ends by itself.
pub(super) fn members(
    net: &Net,
    plan: &Plan,
) -> (BTreeMap<usize, Member>, Vec<impl Future<Output = ()> + Send + 'static>) {
    let mut clusters: BTreeMap<&str, Vec<(usize, &ServerPlace, &Shard)>> = BTreeMap::new();
    for (index, source) in plan.sources.iter().enumerate() {
        if let Place::Server(place) = &source.place
            && let Some((cluster, shard)) = place.shard()
        {
            clusters.entry(&cluster.name).or_default().push((index, place, shard));
        }
    }
    let (mut members, mut watches) = (BTreeMap::new(), Vec::new());
    for parts in clusters.values() {
        let slots: Vec<SlotSet> = parts.iter().map(|(.., shard)| shard.slots.clone()).collect();
        let masters = parts.iter().map(|(.., shard)| Some(shard.at.clone())).collect();
        let shared = Arc::new(Shared {
            moves: Mutex::new(Moves::new(&slots)),
            found: Mutex::new(Found { masters, strange: SlotSet::default() }),
            changed: watch::Sender::new(()),
        });
        for (lane, (index, ..)) in parts.iter().enumerate() {
            let (shared, changed) = (Arc::clone(&shared), shared.changed.subscribe());
            members.insert(*index, Member { shared, lane, changed });
        }
        let Some((_, place, _)) = parts.first() else { continue };
        let lanes = parts.iter().map(|(.., shard)| shard.ids.clone()).collect();
        let nodes = Nodes::new(net.clone(), (*place).clone());
        watches.push(Watch { shared, lanes, nodes, strange: 0, unsettled: 0 }.run());
    }
    (members, watches)
}

/// What looks after a cluster.
struct Watch {
    shared: Arc<Shared>,
    /// The ids of each lane's master and of those that follow it.
    lanes: Vec<Vec<String>>,
    nodes: Nodes,
    /// How often in a row slots were seen that nobody reads.
    strange: u32,
    /// For how many looks slots have been nobody's.
    unsettled: u32,
}

impl Watch {
    async fn run(mut self) {
        loop {
            sleep(EVERY).await;
            self.look().await;
            self.shared.changed.send_replace(());
        }
    }

    async fn look(&mut self) {
        let (number, before) = {
            let mut moves = self.shared.moves.lock().unwrap_or_else(PoisonError::into_inner);
            (moves.begin_look(), moves.generation())
        };
        let at: Vec<(String, u16)> = {
            let found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.masters.iter().flatten().cloned().collect()
        };
        let (view, lost) = self.nodes.ask(&at).await;
        for (at, error) in lost {
            debug!(%at, %error, "a node does not tell of its cluster");
        }
        if view.heard.is_empty() {
            return;
        }
        self.follow(&view);
        let look = self.judge(&view);
        let unsettled;
        let strange = {
            let mut moves = self.shared.moves.lock().unwrap_or_else(PoisonError::into_inner);
            let strange = moves.looked(number, &look);
            unsettled = moves.unsettled();
            if moves.generation() != before {
                let slots = look.open.len();
                info!(open = slots, "slots of the cluster have changed their masters, or do");
            }
            strange
        };
        self.tell(&unsettled, &look);
        self.strange = if strange.is_empty() { 0 } else { self.strange + 1 };
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        for (lane, at) in found.masters.iter_mut().enumerate() {
            let now = self.master(&view, lane);
            if now.is_some() && *at != now {
                warn!(from = ?at, to = ?now, "another node is the master of a part of the cluster");
                *at = now;
            }
        }
        if self.strange >= STRANGE_LOOKS {
            found.strange = strange;
        }
    }

    /// Says that slots have not come to rest, again each time that has lasted twice as long.
    fn tell(&mut self, unsettled: &SlotSet, look: &Look) {
        if self.unsettled > 0 && unsettled.is_empty() {
            info!("all slots of the cluster are at rest again");
        }
        self.unsettled = if unsettled.is_empty() { 0 } else { self.unsettled + 1 };
        if self.unsettled >= TOLD_FROM && self.unsettled.is_power_of_two() {
            warn!(slots = %unsettled, moving = %look.open, for_looks = self.unsettled, "slots of the cluster have not come to rest");
        }
        debug!(%unsettled, open = %look.open, is_whole = look.is_whole, "the cluster was looked at");
    }

    /// Whoever follows a lane's master may take its place.
    fn follow(&mut self, view: &ClusterView) {
        for node in view.nodes.values().filter(|node| !node.is_gone) {
            let Some(master) = &node.master else { continue };
            let Some(lane) = self.lane(master) else { continue };
            if self.lane(&node.id) != Some(lane) {
                self.lanes.iter_mut().for_each(|ids| ids.retain(|id| *id != node.id));
                if let Some(ids) = self.lanes.get_mut(lane) {
                    ids.push(node.id.clone());
                }
            }
        }
    }

    fn lane(&self, id: &str) -> Option<usize> {
        self.lanes.iter().position(|ids| ids.iter().any(|own| own == id))
    }

    /// Where the master of a lane is: of its nodes the one that has most slots, and while it has none the one that is a master.
    fn master(&self, view: &ClusterView, lane: usize) -> Option<(String, u16)> {
        let masters = view.masters();
        let ids = self.lanes.get(lane)?.iter();
        let nodes = ids.filter_map(|id| view.nodes.get(id)).filter(|node| node.is_master);
        let best = nodes.max_by_key(|node| {
            (masters.get(node.id.as_str()).map_or(0, SlotSet::len), !node.is_gone, node.epoch)
        })?;
        self.nodes.at(view, &best.id)
    }

    fn judge(&self, view: &ClusterView) -> Look {
        let lanes: BTreeMap<&str, Option<usize>> =
            view.masters().keys().map(|id| (*id, self.lane(id))).collect();
        let holder = |slot| {
            let lane = *lanes.get(view.owner(slot)?)?;
            Some(lane.map_or(Holder::Stranger, Holder::Lane))
        };
        // One that has nothing any more may still be giving it away.
        let is_heard = |id: &&str| view.heard.iter().any(|heard| heard == *id);
        let masters = view.nodes.values().filter(|node| node.is_master && !node.is_gone);
        let ours =
            masters.filter(|node| self.lane(&node.id).is_some()).map(|node| node.id.as_str());
        Look {
            owners: (0..SLOTS).map(holder).collect(),
            open: view.open.clone(),
            is_whole: { ours }.chain(view.masters().keys().copied()).all(|id| is_heard(&id)),
        }
    }
}
