//! Masters that save for a copy: where they fork, and how long they wait before.

use std::collections::BTreeMap;

use super::finding::{Finding, Kind};
use super::{Address, Facts, Place, Plan};

impl Place {
    /// The machine on which a master forks to save; `None` where nobody does.
    #[must_use]
    pub fn forks_on(&self) -> Option<String> {
        match self {
            Self::Server(server) => {
                let host = match &server.address {
                    Address::Tcp { host, .. } => host.clone(),
                    Address::Unix(_) => "localhost".to_owned(),
                    // Where its master will be when it forks nobody knows.
                    Address::Watched(watched) => watched.to_string(),
                    Address::Cluster(cluster) => match &cluster.shard {
                        Some(shard) => shard.at.0.clone(),
                        None => cluster.to_string(),
                    },
                };
                // The same name behind another host is another machine.
                Some(match &server.via {
                    Some(via) => format!("{host} via {via}"),
                    None => host,
                })
            }
            Self::Rdb(_) | Self::Capture(_) => None,
        }
    }
}

/// What is told of: so many seconds are nothing beside a copy of many sources.
const LONG: u64 = 30;

/// Masters of one host that wait before they save, one after the other.
pub(super) fn remarks(facts: &Facts, plan: &Plan, remarks: &mut Vec<Finding>) {
    // A job that goes on copies nothing as a rule.
    if facts.goes_on() && !plan.job.restart {
        return;
    }
    let mut hosts = BTreeMap::<String, Vec<u64>>::new();
    for (source, facts) in plan.sources.iter().zip(&facts.sources) {
        if let (Some(host), Some(facts)) = (source.place.forks_on(), facts) {
            hosts.entry(host).or_default().push(facts.save_delay);
        }
    }
    for (host, delays) in hosts {
        let waits = delays.iter().sum::<u64>() / plan.per_host.max(1) as u64;
        let count = delays.iter().filter(|delay| **delay > 0).count();
        if count < 2 || waits < LONG {
            continue;
        }
        remarks.push(Finding::warning(Kind::SaveDelay, host, format!(
                "{count} masters here wait before they save (repl-diskless-sync-delay), {} at a time: that takes {waits} s",
                plan.per_host
            ), "on each of them, until its copy has begun: CONFIG SET repl-diskless-sync-delay 0; or a greater --per-host, if the machine has the memory for so many forks".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ServerFacts;
    use crate::plan::facts::tests::plan;

    #[test]
    fn masters_of_one_host_that_wait_long_are_told_of() {
        let said = |sources: usize, save_delay: u64, per_host: usize| {
            let mut plan = plan(None);
            plan.per_host = per_host;
            plan.sources = vec![plan.sources[0].clone(); sources];
            let facts = ServerFacts { save_delay, ..ServerFacts::default() };
            let facts = Facts { sources: vec![Some(facts); sources], ..Facts::default() };
            let mut found = Vec::new();
            remarks(&facts, &plan, &mut found);
            found.pop().map(|one| one.evidence)
        };
        assert_eq!(said(1, 300, 1), None, "one waits as long as it waits");
        assert_eq!(said(5, 5, 1), None);
        assert_eq!(said(37, 0, 1), None);
        assert_eq!(
            said(37, 5, 1).as_deref(),
            Some(
                "37 masters here wait before they save (repl-diskless-sync-delay), 1 at a time: that takes 185 s"
            )
        );
        assert_eq!(said(37, 5, 7), None);
    }
}
