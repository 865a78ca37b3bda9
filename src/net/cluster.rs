//! Where the masters of a cluster are, by the word of its nodes.
//!
//! A node may be late, or cut off from the others: so several are asked, and of two that say that a slot is theirs the greater epoch counts.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::plan::{Address, Cluster, ServerPlace, Shard, Side};
use crate::slots::SlotSet;
use crate::slots::nodes::{Node, View, parse};

use super::sentinel::{each, is_master};
use super::{Control, ControlError, Net};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many nodes are asked where a master is.
const ASKED: usize = 12;

/// Why the nodes of a cluster do not lead to a master.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// None of them answers.
    #[error("no node of the cluster answers: {}", each(.0))]
    NoAnswer(Vec<(Address, ControlError)>),
    /// What it tells is not what nodes tell.
    #[error("the answer to CLUSTER NODES cannot be read: {0:?}")]
    Unreadable(String),
    /// Slots that nobody serves: the data of the cluster cannot be whole.
    #[error("no master serves the slots {0}")]
    Unserved(SlotSet),
    /// Keys are being moved from one master to another.
    #[error("the slots {0} are on their way from one master to another")]
    Moving(SlotSet),
    /// The part that is followed has no master.
    #[error("no master of the cluster has what {0} had, or it is lost")]
    Masterless(String),
}

impl ClusterError {
    /// What the operator can do, if the cluster is on this side.
    #[must_use]
    pub fn advice(&self, side: Side) -> String {
        match self {
            Self::NoAnswer(tried) => match tried.first() {
                Some((_, error)) => error.advice(side),
                None => String::new(),
            },
            Self::Unreadable(_) => "is this the address of a Redis or Valkey cluster?".to_owned(),
            Self::Unserved(_) => {
                "see CLUSTER INFO and CLUSTER NODES, and start again when cluster_slots_ok is 16384".to_owned()
            }
            Self::Moving(_) => {
                "let the move end (redis-cli --cluster fix ends one that was broken off), switch the rebalancer off until the job is done, and start again".to_owned()
            }
            Self::Masterless(_) => {
                "a failover may be under way; if it lasts see CLUSTER NODES".to_owned()
            }
        }
    }
}

/// A node, as it was told of.
pub type ClusterNode = Node;

/// What nodes tell of their cluster.
pub type ClusterView = View;

/// Nodes of a cluster that are asked again and again.
#[derive(Debug)]
pub struct Nodes {
    net: Net,
    place: ServerPlace,
    links: BTreeMap<(String, u16), Control>,
}

impl Nodes {
    /// Nodes that are reached as this place is. Nothing is asked yet.
    #[must_use]
    pub const fn new(net: Net, place: ServerPlace) -> Self {
        Self { net, place, links: BTreeMap::new() }
    }

    /// Where a node is reached: by its name where a certificate may be for that alone.
    #[must_use]
    pub fn at(&self, view: &View, id: &str) -> Option<(String, u16)> {
        let (host, port) = view.at(id)?.clone();
        match &view.nodes.get(id)?.hostname {
            Some(name) if self.place.tls.is_some() => Some((name.clone(), port)),
            _ => Some((host, port)),
        }
    }

    /// What these nodes tell, and why others did not.
    pub async fn ask(&mut self, nodes: &[(String, u16)]) -> (View, Vec<(Address, ControlError)>) {
        let mut asking = JoinSet::new();
        for at in nodes {
            let (net, at, link) = (self.net.clone(), at.clone(), self.links.remove(at));
            let address = Address::Tcp { host: at.0.clone(), port: at.1 };
            let place = ServerPlace { address, ..self.place.clone() };
            asking.spawn(async move {
                let told = timeout(PATIENCE, tell(&net, &place, link)).await;
                (at, place.address, told.unwrap_or(Err(ControlError::Silent(PATIENCE))))
            });
        }
        let (mut all, mut lost) = (Vec::new(), Vec::new());
        while let Some(told) = asking.join_next().await {
            match told {
                Ok((at, address, Ok((link, told)))) => match parse(&told) {
                    Some(nodes) => {
                        all.push((at.clone(), nodes));
                        self.links.insert(at, link);
                    }
                    None => {
                        let text = told.chars().take(200).collect();
                        let unreadable = Box::new(ClusterError::Unreadable(text));
                        lost.push((address, ControlError::Link(unreadable.into())));
                    }
                },
                Ok((_, address, Err(error))) => lost.push((address, error)),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        (View::of(all), lost)
    }
}

async fn tell(
    net: &Net,
    place: &ServerPlace,
    link: Option<Control>,
) -> Result<(Control, String), ControlError> {
    let mut link = match link {
        Some(link) => link,
        None => Control::open(net, place).await?,
    };
    let told = link.ask("CLUSTER NODES", &[]).await?;
    Ok((link, told))
}

impl Net {
    /// The parts of a cluster that each of its masters has, as places of their own. A place that belongs to no cluster is itself.
    ///
    /// # Errors
    /// If nobody tells, or slots are served by none or on their way.
    pub async fn shards(&self, place: &ServerPlace) -> Result<Vec<ServerPlace>, ControlError> {
        let cluster = match &place.address {
            Address::Cluster(cluster) => (**cluster).clone(),
            Address::Tcp { host, port } => Cluster::of(vec![(host.clone(), *port)]),
            Address::Unix(_) | Address::Watched(_) => return Ok(vec![place.clone()]),
        };
        if !matches!(place.address, Address::Cluster(_)) {
            let mut control = Control::open(self, place).await?;
            match control.info("cluster").await {
                Ok(info) if super::info_field(&info, "cluster_enabled") == Some("1") => {}
                Ok(_) | Err(ControlError::Refused { .. }) => return Ok(vec![place.clone()]),
                Err(error) => return Err(error),
            }
        }
        let mut nodes = Nodes::new(self.clone(), place.clone());
        let (view, tried) = nodes.ask(&cluster.nodes).await;
        let refuse = |error: ClusterError| Err(ControlError::Link(Box::new(error).into()));
        if view.heard.is_empty() {
            return refuse(ClusterError::NoAnswer(tried));
        }
        // Only a master tells of itself that keys of its slots are on their way.
        let masters: Vec<_> = view.masters().keys().filter_map(|id| nodes.at(&view, id)).collect();
        let (view, _) = nodes.ask(&masters).await;
        let unserved = view.unserved();
        if !unserved.is_empty() {
            return refuse(ClusterError::Unserved(unserved));
        }
        if !view.open.is_empty() {
            return refuse(ClusterError::Moving(view.open));
        }
        let mut places = Vec::new();
        for (id, slots) in view.masters() {
            let Some(at) = nodes.at(&view, id) else { continue };
            let ids = view.followers(id);
            let followers = ids.iter().filter_map(|id| nodes.at(&view, id));
            let mut asked: Vec<(String, u16)> = followers.collect();
            asked.extend(masters.iter().chain(&cluster.nodes).cloned());
            let mut seen = Vec::new();
            asked.retain(|node| {
                !seen.contains(node) && {
                    seen.push(node.clone());
                    true
                }
            });
            asked.truncate(ASKED);
            let shard = Some(Shard { slots, ids, at });
            let cluster = Cluster { name: cluster.name.clone(), nodes: asked, shard };
            places.push(ServerPlace {
                address: Address::Cluster(Box::new(cluster)),
                db: None,
                ..place.clone()
            });
        }
        // In the order of their slots.
        places.sort_by_key(|place| place.shard().and_then(|(_, shard)| shard.slots.iter().next()));
        Ok(places)
    }
}

/// The master that has what a shard had: one of its nodes before any other, and else who has the most of its slots.
fn master_of<'v>(view: &'v View, shard: &Shard) -> Option<&'v str> {
    let masters = view.masters();
    let rank = |(id, slots): &(&&str, &SlotSet)| {
        (shard.ids.iter().any(|own| own == **id), slots.overlap(&shard.slots))
    };
    let best = masters.iter().max_by_key(rank)?;
    let (is_own, overlap) = rank(&best);
    if !is_own && overlap == 0 {
        return None;
    }
    Some(*best.0)
}

/// Where the master of a shard is; for a whole cluster some node of it.
pub(super) async fn locate(
    net: &Net,
    place: &ServerPlace,
    cluster: &Cluster,
) -> Result<ServerPlace, ClusterError> {
    let mut nodes = Nodes::new(net.clone(), place.clone());
    let (view, tried) = nodes.ask(&cluster.nodes).await;
    let Some(first) = view.heard.first() else {
        return Err(ClusterError::NoAnswer(tried));
    };
    let chosen = match &cluster.shard {
        Some(shard) => master_of(&view, shard),
        None => Some(first.as_str()),
    };
    let lost = || ClusterError::Masterless(cluster.to_string());
    let (host, port) = chosen.and_then(|id| nodes.at(&view, id)).ok_or_else(lost)?;
    let found = ServerPlace { address: Address::Tcp { host, port }, ..place.clone() };
    // It may be lost, and nobody has noticed or taken its place.
    match cluster.shard.is_none() || is_master(net, &found).await.unwrap_or(false) {
        true => Ok(found),
        false => Err(lost()),
    }
}
