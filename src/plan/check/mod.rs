//! What could spoil a run, told before it: more than [`judge`] and [`remarks`] ask for, for whoever has the time to look at it.
//!
//! As there, what was seen is gathered elsewhere and only judged here. A file for each subject.

mod access;
mod company;
mod forks;
mod link;
mod seen;
mod target;
#[cfg(test)]
mod tests;
mod values;

pub use seen::{
    Attached, Bytes, Certificate, Denied, Large, Module, NoAnswer, Owner, Sample, Seen, Settings,
    Sight, Told,
};

use crate::rdb::format::{Family, Format};

use super::facts::{Facts, Role, ServerFacts, Side, judge, remarks};
use super::finding::{Finding, Kind, Severity};
use super::{Place, Plan, Source};

/// A server that was looked at, and all that bears on it.
struct At<'a> {
    name: &'a str,
    side: Side,
    facts: &'a ServerFacts,
    seen: &'a Seen,
    plan: &'a Plan,
    /// In seconds since 1970.
    now: i64,
}

impl At<'_> {
    fn blocks(&self, kind: Kind, evidence: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding::blocks(kind, self.name, evidence, mend)
    }

    fn warning(&self, kind: Kind, evidence: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding::warning(kind, self.name, evidence, mend)
    }

    fn note(&self, kind: Kind, evidence: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding::note(kind, self.name, evidence, mend)
    }

    /// The user that we are there.
    fn user(&self) -> &str {
        self.seen.user.as_deref().unwrap_or("default")
    }
}

/// All that was found, of each place and in the order of the plan: what blocks first, notes last.
#[must_use]
pub fn findings(facts: &Facts, sight: &Sight, plan: &Plan) -> Vec<Finding> {
    let mut all = sight.unreachable.clone();
    all.extend(judge(facts, plan));
    let evicts_any = all.iter().any(|one| one.kind == Kind::Eviction);
    let remarks = remarks(facts, plan).into_iter();
    all.extend(remarks.filter(|one| !(evicts_any && one.kind == Kind::Eviction)));
    let target_name = plan.target.to_string();
    let target = facts.target.as_ref().zip(sight.target.as_ref());
    for ((source, its), seen) in plan.sources.iter().zip(&facts.sources).zip(&sight.sources) {
        let (Some(its), Some(seen)) = (its, seen) else { continue };
        let at =
            At { name: &source.name, side: Side::Source, facts: its, seen, plan, now: sight.now };
        if its.sentinel {
            continue;
        }
        access::look(&at, &mut all);
        link::look(&at, &mut all);
        forks::look(&at, &mut all);
        company::look(&at, &mut all);
        values::look(&at, source, target, &mut all);
    }
    if let Some((its, seen)) = target
        && !its.sentinel
    {
        let at =
            At { name: &target_name, side: Side::Target, facts: its, seen, plan, now: sight.now };
        access::look(&at, &mut all);
        link::look(&at, &mut all);
        target::look(&at, facts, sight, &mut all);
    }
    let rank = |place: &str| {
        let source = plan.sources.iter().position(|source| source.name == place);
        source.or_else(|| (place == target_name).then_some(plan.sources.len()))
    };
    // What concerns no single place comes last.
    all.sort_by_key(|one| (rank(&one.place).unwrap_or(usize::MAX), one.severity));
    all
}

/// Whether something stands in the way.
#[must_use]
pub fn is_blocked(findings: &[Finding]) -> bool {
    findings.iter().any(|one| one.severity == Severity::Blocks)
}

/// Whether all that a source holds is wanted, so that what it holds in all is what comes.
fn is_whole(source: &Source) -> bool {
    let db = match &source.place {
        Place::Server(server) => server.db,
        Place::Rdb(_) | Place::Capture(_) => None,
    };
    db.is_none() && source.rules.chosen().is_none() && !source.rules.has_keys()
}

/// A version of the format in a word.
#[must_use]
pub fn format_name(format: Format) -> String {
    match format.family {
        Family::Redis => format!("RDB {}", format.version),
        Family::Valkey => format!("Valkey's RDB {}", format.version),
    }
}

/// A role in a word.
#[must_use]
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Replica => "replica",
        Role::LostReplica => "replica without its master",
    }
}
