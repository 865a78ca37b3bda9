//! Who else is attached to a master, and what it is in the midst of.

use super::{At, Finding, Kind, Role};

pub(super) fn look(at: &At<'_>, found: &mut Vec<Finding>) {
    replicas(at, found);
    enough_replicas(at, found);
    failover(at, found);
}

fn replicas(at: &At<'_>, found: &mut Vec<Finding>) {
    let tools: Vec<_> = at.seen.info.replicas().filter(|one| !one.is_server).collect();
    if tools.is_empty() {
        return;
    }
    let from = tools.iter().map(|one| format!("{} ({})", one.host, one.state));
    found.push(at.warning(
        Kind::OtherReplica,
        format!(
            "{} of its replicas listen on no port, as this one will, from {}: another run, or a tool like it, is reading it already",
            tools.len(),
            from.collect::<Vec<_>>().join(", ")
        ),
        "see CLIENT LIST there (flags=S), and understudy status on that machine; two runs into one target need two jobs",
    ));
}

/// Writes that are taken only because we are there end when we go.
fn enough_replicas(at: &At<'_>, found: &mut Vec<Finding>) {
    let settings = &at.seen.settings;
    let wanted = settings.either("min-replicas-to-write", "min-slaves-to-write");
    let Some(wanted) = wanted.filter(|wanted| *wanted > 0) else { return };
    // What all runs say of it is said better here.
    found.retain(|one| one.kind != Kind::MinReplicas || one.place != at.name);
    let good = at.seen.info.number("min_slaves_good_slaves").unwrap_or(0);
    let tools = at.seen.info.replicas().filter(|one| !one.is_server && one.state == "online");
    let servers = good.saturating_sub(tools.count() as u64);
    if servers < wanted {
        found.push(at.blocks(
            Kind::MinReplicas,
            format!("it takes writes only with {wanted} replicas (min-replicas-to-write) and has {servers} that are servers: it would take them while this run is attached, and refuse them again when it is gone"),
            "attach the replicas that it wants; or CONFIG SET min-replicas-to-write 0 there",
        ));
    } else {
        found.push(at.note(
            Kind::MinReplicas,
            format!("it takes writes only with {wanted} replicas (min-replicas-to-write), counts this run as one, and has {servers} without it"),
            "see that they stay until the run is over",
        ));
    }
}

fn failover(at: &At<'_>, found: &mut Vec<Finding>) {
    let state = at.seen.info.field("master_failover_state");
    if let Some(state) = state.filter(|state| *state != "no-failover") {
        found.push(at.blocks(
            Kind::Failover,
            format!("a failover is under way there (master_failover_state {state})"),
            "wait until it is over, or FAILOVER ABORT; let nothing begin one while the job runs",
        ));
    }
    if at.facts.role == Role::Replica {
        let field = |name| at.seen.info.field(name).unwrap_or("?");
        found.push(at.note(
            Kind::Replica,
            format!("it is a replica of {}:{}: a full synchronization of its own costs this run a new copy", field("master_host"), field("master_port")),
            "read from its master where that may fork",
        ));
    }
}
