//! Whether we are let in, may do what must be done, and what was not to be seen.

use super::seen::Owner;
use super::{At, Finding, Kind, Side};

/// A certificate that ends within so many seconds is told.
const SOON: i64 = 30 * DAY;

/// One that ends within this may end before the job does.
const DAY: i64 = 24 * 3600;

pub(super) fn look(at: &At<'_>, found: &mut Vec<Finding>) {
    rights(at, found);
    certificates(at, found);
    clients(at, found);
    unseen(at, found);
}

/// What a replica must be allowed, and what reads a single key.
const TO_REPLICATE: [&str; 3] = ["PSYNC", "SYNC", "REPLCONF"];

fn rights(at: &At<'_>, found: &mut Vec<Finding>) {
    let denied = &at.seen.denied;
    let list = |commands: &[&super::Denied]| {
        let told = commands.iter().map(|one| format!("{} ({})", one.command, one.category));
        told.collect::<Vec<_>>().join(", ")
    };
    let grant = |commands: &[&super::Denied]| {
        let rights = commands.iter().map(|one| format!("+{}", one.command.to_lowercase()));
        rights.collect::<Vec<_>>().join(" ")
    };
    if at.side == Side::Target {
        if denied.is_empty() {
            return;
        }
        // What all runs find is told with all that this look finds.
        found.retain(|one| one.kind != Kind::Rights || one.place != at.name);
        let all: Vec<_> = denied.iter().collect();
        let words = denied.first().map_or("", |one| one.text.as_str());
        found.push(at.blocks(
            Kind::Rights,
            format!("the user {} may not run {}: {words}", at.user(), list(&all)),
            format!(
                "ACL SETUSER {} +@all ~* on the target while the job runs, or another user in --to",
                at.user()
            ),
        ));
        return;
    }
    let (replicate, read): (Vec<_>, Vec<_>) =
        denied.iter().partition(|one| TO_REPLICATE.contains(&one.command));
    if let Some(first) = replicate.first() {
        found.push(at.blocks(
            Kind::Rights,
            format!("the user {} may not run {}: {}", at.user(), list(&replicate), first.text),
            format!("on the source: ACL SETUSER {} {} +ping", at.user(), grant(&replicate)),
        ));
    }
    if let Some(first) = read.first() {
        found.push(at.warning(
            Kind::Rights,
            format!(
                "the user {} may not run {}: {}; a key of which nobody knows whether its last change has arrived is read with these, and without them all is copied anew",
                at.user(),
                list(&read),
                first.text
            ),
            format!("on the source: ACL SETUSER {} {} ~*", at.user(), grant(&read)),
        ));
    }
}

fn certificates(at: &At<'_>, found: &mut Vec<Finding>) {
    if at.seen.unverified {
        let flag = at.side.flag();
        found.push(at.warning(
            Kind::Unverified,
            format!("its certificate is not looked at ({flag}-insecure): whoever stands between can read everything, the password included"),
            format!("give the authority that has signed it: {flag}-ca FILE"),
        ));
    }
    for certificate in &at.seen.certificates {
        let left = certificate.until.saturating_sub(at.now);
        if left >= SOON {
            continue;
        }
        let whose = match certificate.owner {
            Owner::Server => "its certificate",
            Owner::Authority => "a certificate that it shows of an authority",
            Owner::Ours => "our certificate for it",
        };
        let evidence = match left {
            ..=0 => format!("{whose} ({}) has ended, on {}", certificate.subject, certificate.ends),
            _ => format!(
                "{whose} ({}) ends in {} h, on {}",
                certificate.subject,
                left / 3600,
                certificate.ends
            ),
        };
        let mend =
            "renew it first: what is connected stays, but no lost link comes back after that";
        found.push(match left < DAY {
            true => at.blocks(Kind::Certificate, evidence, mend),
            false => at.warning(Kind::Certificate, evidence, mend),
        });
    }
}

/// Connections that a run makes to one server, with some to spare.
const CLIENTS: u64 = 16;

fn clients(at: &At<'_>, found: &mut Vec<Finding>) {
    let info = &at.seen.info;
    let most = info.number("maxclients").or_else(|| at.seen.settings.number("maxclients"));
    let (Some(most), Some(now)) = (most, info.number("connected_clients")) else { return };
    let sources = if at.side == Side::Target { at.plan.sources.len() as u64 } else { 1 };
    let needs = CLIENTS.saturating_mul(sources);
    if most.saturating_sub(now) < needs {
        found.push(at.warning(
            Kind::MaxClients,
            format!("{now} clients of {most} are connected (maxclients), and a run may need {needs} more"),
            format!("CONFIG SET maxclients {}", now.saturating_add(needs).max(most).saturating_mul(2)),
        ));
    }
}

fn unseen(at: &At<'_>, found: &mut Vec<Finding>) {
    for one in &at.seen.no_answer {
        let is_denied = one.text.starts_with("NOPERM");
        let mend = match is_denied {
            true => format!("ACL SETUSER {} {}", at.user(), one.right),
            false if one.text.contains("unknown command") || one.text.contains("unknown subcommand") => {
                "it does not know the command, or its provider has taken it away: see the provider's console".to_owned()
            }
            false => "see what hinders it, and check again".to_owned(),
        };
        found.push(at.note(
            Kind::Unseen,
            format!("{} was not looked at: {}: {}", one.unknown, one.question, one.text),
            mend,
        ));
    }
}
