//! What is known of both sides before anything is written, and what follows from it.
//!
//! Facts are gathered elsewhere; here they are only judged, so that a judgement carries its reason and a test
//! needs no server.

use crate::server::{Flavour, Server};

use super::{OnConflict, Plan};

/// What was found out about the places of a plan.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of each source, in the plan's order; `None` for a file.
    pub sources: Vec<Option<ServerFacts>>,
    /// Of the target; `None` for a file.
    pub target: Option<ServerFacts>,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// Its family and release. `None` if it does not answer `INFO`.
    pub server: Option<Server>,
    /// Whether it is a node of a cluster.
    pub cluster: bool,
    /// Whether it is a Sentinel, which holds no data.
    pub sentinel: bool,
    /// Master or replica.
    pub role: Role,
    /// Bytes of its memory that its data takes; 0 if it does not tell.
    pub used_memory: u64,
    /// Keys in all its databases, without understudy's own.
    pub keys: u64,
}

/// What a server is to other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    #[default]
    Master,
    /// It follows another one, and is in touch with it.
    Replica,
    /// It follows another one and has lost it, or has not got its data yet.
    LostReplica,
}

/// Something that stands in the way, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The place, as it is named in reports.
    pub place: String,
    /// What was found.
    pub evidence: String,
    /// What the operator can do.
    pub mend: String,
}

/// What of the facts forbids this plan to begin.
#[must_use]
pub fn judge(facts: &Facts, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, facts) in plan.sources.iter().zip(&facts.sources) {
        let Some(facts) = facts else { continue };
        let mut say = |evidence: &str, mend: &str| {
            findings.push(Finding {
                place: source.name.clone(),
                evidence: evidence.to_owned(),
                mend: mend.to_owned(),
            });
        };
        if facts.sentinel {
            say(
                "this source is a Sentinel, which holds no data",
                "give the address of the master that it watches (SENTINEL get-master-addr-by-name NAME tells it)",
            );
        }
        if facts.cluster {
            say(
                "this source is a node of a cluster and holds a part of the data only",
                "this version reads single servers; a cluster must be read whole",
            );
        }
        if facts.role == Role::LostReplica {
            say(
                "this source is a replica that is not in touch with its master",
                "wait until master_link_status in its INFO replication is up, or read from its master",
            );
        }
    }
    if let Some(target) = &facts.target {
        judge_target(target, plan, &mut findings);
    }
    findings
}

fn judge_target(facts: &ServerFacts, plan: &Plan, findings: &mut Vec<Finding>) {
    let mut say = |evidence: String, mend: &str| {
        findings.push(Finding { place: plan.target.to_string(), evidence, mend: mend.to_owned() });
    };
    if facts.sentinel {
        say(
            "the target is a Sentinel, which holds no data".to_owned(),
            "give the address of the master that it watches",
        );
        return;
    }
    if facts.cluster {
        say(
            "the target is a node of a cluster".to_owned(),
            "this version writes to single servers; give a target that is not in cluster mode",
        );
    }
    if facts.role != Role::Master {
        say(
            "the target is a replica and takes no writes".to_owned(),
            "give the address of its master",
        );
    }
    if facts.keys > 0 && !matches!(plan.on_conflict, Some(OnConflict::Replace | OnConflict::Keep)) {
        let keys = facts.keys;
        say(
            format!("the target already holds {keys} keys"),
            "say what shall become of a key that both have: --on-conflict replace or --on-conflict keep; or give an empty target",
        );
    }
    if let Some(server @ Server { flavour: Flavour::Redis, .. }) = facts.server
        && server.version < crate::server::Version(2, 8, 0)
    {
        say(
            format!("the target is {server}"),
            "a target must be Redis 2.8 or later, Valkey or Redict",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Place, Source, Until};

    fn plan(on_conflict: Option<OnConflict>) -> Plan {
        let place = |text| Place::parse(text).unwrap();
        Plan {
            sources: vec![Source { name: "a:1".into(), place: place("redis://a:1") }],
            target: place("redis://b:2"),
            until: Until::CaughtUp,
            on_conflict,
            written_for: None,
            memory: 1 << 26,
        }
    }

    fn found(
        source: ServerFacts,
        target: ServerFacts,
        on_conflict: Option<OnConflict>,
    ) -> Vec<String> {
        let facts = Facts { sources: vec![Some(source)], target: Some(target) };
        judge(&facts, &plan(on_conflict))
            .into_iter()
            .map(|f| format!("{}: {}", f.place, f.evidence))
            .collect()
    }

    #[test]
    fn two_plain_servers_are_fine() {
        assert_eq!(
            found(ServerFacts::default(), ServerFacts::default(), None),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_target_with_keys_wants_a_policy() {
        let full = ServerFacts { keys: 7, ..ServerFacts::default() };
        let source = ServerFacts::default;
        assert_eq!(found(source(), full.clone(), None), ["b:2: the target already holds 7 keys"]);
        assert_eq!(found(source(), full.clone(), Some(OnConflict::Stop)).len(), 1);
        assert!(found(source(), full.clone(), Some(OnConflict::Replace)).is_empty());
        assert!(found(source(), full, Some(OnConflict::Keep)).is_empty());
    }

    #[test]
    fn wrong_places_are_named() {
        let lost = ServerFacts { role: Role::LostReplica, ..ServerFacts::default() };
        let cluster = ServerFacts { cluster: true, ..ServerFacts::default() };
        let replica = ServerFacts { role: Role::Replica, ..ServerFacts::default() };
        let found = found(lost, ServerFacts { cluster: true, ..replica }, None);
        assert_eq!(found.len(), 3);
        assert_eq!(
            judge(&Facts { sources: vec![Some(cluster)], target: None }, &plan(None)).len(),
            1
        );
    }
}
