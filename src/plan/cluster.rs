//! A cluster, and the parts of it that are sources.

use std::fmt;

use crate::slots::SlotSet;

use super::Address;

/// A cluster, or what one of its masters has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What it is called: by the nodes that it was given by.
    pub name: String,
    /// The hosts and ports of nodes that are asked about it.
    pub nodes: Vec<(String, u16)>,
    /// The part that is meant; `None` as long as it was not asked for its parts.
    pub shard: Option<Shard>,
}

/// What one master of a cluster has, whichever of its nodes that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its slots when the run began.
    pub slots: SlotSet,
    /// The ids of the master and its replicas then.
    pub ids: Vec<String>,
    /// Where its master was.
    pub at: (String, u16),
}

impl Cluster {
    /// The cluster that these nodes belong to.
    #[must_use]
    pub fn of(nodes: Vec<(String, u16)>) -> Self {
        let addresses =
            nodes.iter().map(|(host, port)| Address::Tcp { host: host.clone(), port: *port });
        let mut names: Vec<String> = addresses.map(|address| address.to_string()).collect();
        names.sort_unstable();
        Self { name: names.join(","), nodes, shard: None }
    }
}

/// `host:port,host:port`, sorted; a part with its slots, by which it is the same whoever is its master: `host:port[0-5460]`.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.shard.as_ref().map_or(Ok(()), |shard| write!(f, "[{}]", shard.slots.name()))
    }
}
