//! Sources that may bring the same names.

use crate::server::Version;

use super::finding::{Finding, Kind};
use super::{Facts, OnConflict, Place, Plan, ServerFacts};

impl Plan {
    /// What a name takes that is kept to tell whose it is, in bytes.
    const RIVAL_NAME_BYTES: u64 = 6;

    /// How many sources can be told apart where they may bring the same names.
    const MOST_RIVALS: usize = 255;

    /// Whether some of the sources may bring the same names.
    #[must_use]
    pub fn has_rivals(&self) -> bool {
        self.sources.len() > 1 && !(0..self.sources.len()).all(|index| self.are_apart(index))
    }

    /// Whether rules make other deadlines at the end of a key of one of those sources than they make of another's.
    #[must_use]
    pub fn rivals_end_otherwise(&self) -> bool {
        let rivals = (0..self.sources.len()).filter(|index| !self.are_apart(*index));
        let mut rules =
            { rivals }.filter_map(|index| self.sources.get(index)).map(|source| source.rules.ttl());
        let Some(first) = rules.next() else { return false };
        // Each has an outage of its own.
        first.freezes()
            || rules.any(|ttl| {
                (ttl.freezes(), ttl.least(), ttl.most()) != (false, first.least(), first.most())
            })
    }

    /// Whether of this source, or of another one that may bring the same names, deadlines are other ones when the job ends.
    #[must_use]
    pub fn ends_otherwise(&self, index: usize) -> bool {
        let is_rival = |other: usize| !self.are_apart(index) && !self.are_apart(other);
        self.sources.iter().enumerate().any(|(other, source)| {
            source.rules.ttl().is_for_the_end() && (other == index || is_rival(other))
        })
    }

    /// How many keys those hold, as far as they tell.
    #[must_use]
    pub fn rival_keys(&self, facts: &Facts) -> u64 {
        let all = facts.sources.iter().enumerate().filter(|(index, _)| !self.are_apart(*index));
        { all }.flat_map(|(_, source)| source).flat_map(|source| source.keys.values()).sum()
    }

    /// How many bytes their names may take: three quarters of all memory.
    #[must_use]
    pub fn most_for_rivals(&self) -> u64 {
        self.memory / 4 * 3
    }

    /// How many bytes are kept free for their names: what they take now and a quarter more.
    #[must_use]
    pub fn rivals_memory(&self, facts: &Facts) -> u64 {
        let now = self.rival_keys(facts).saturating_mul(Self::RIVAL_NAME_BYTES);
        if self.has_rivals() { (now / 4 * 5).min(self.most_for_rivals()) } else { 0 }
    }
}

/// What stands in the way of telling whose a key is.
pub(super) fn judge(facts: &Facts, plan: &Plan, findings: &mut Vec<Finding>) {
    if plan.remove_unowned && !plan.has_rivals() {
        findings.push(Finding::blocks(Kind::SharedKeys, plan.target.to_string(), "--remove-unowned is about keys of which nobody knows which source has brought them, and no key of these sources can be another's".to_owned(), "leave it out: what such a source no longer has is removed after a second copy without it".to_owned()));
    }
    if !plan.has_rivals() || !matches!(plan.target, Place::Server(_)) {
        return;
    }
    let mut say = |kind, place: &str, evidence: String, mend: String| {
        findings.push(Finding::blocks(kind, place, evidence, mend));
    };
    let target = plan.target.to_string();
    if plan.sources.len() > Plan::MOST_RIVALS {
        say(
            Kind::SharedKeys,
            &target,
            format!(
                "{} sources may bring the same keys, and {} can be told apart",
                plan.sources.len(),
                Plan::MOST_RIVALS
            ),
            "give them databases of their own (--db-map), or make several runs of it".to_owned(),
        );
    }
    let bytes = plan.rival_keys(facts).saturating_mul(Plan::RIVAL_NAME_BYTES);
    if bytes > plan.most_for_rivals() {
        say(
            Kind::Memory,
            &target,
            format!(
                "the names of {} keys of sources that may bring the same ones take {}MiB",
                plan.rival_keys(facts),
                bytes.div_ceil(1 << 20)
            ),
            format!(
                "give {}MiB to --memory; or give the sources databases of their own (--db-map)",
                (bytes / 3).saturating_mul(4).div_ceil(1 << 20) + 1
            ),
        );
    }
    for (index, source) in plan.sources.iter().enumerate() {
        let is_shard = matches!(&source.place, Place::Server(server) if server.shard().is_some());
        if is_shard && !plan.are_apart(index) {
            say(
                Kind::SharedKeys, &source.name,
                "it is a part of a cluster, whose slots may move, and may bring keys that other sources have too"
                    .to_owned(),
                "give the cluster, or the others, names of their own (--prefix), or a database of their own (--db-map)".to_owned(),
            );
        }
    }
    if matches!(plan.on_conflict, None | Some(OnConflict::Stop)) {
        return;
    }
    for (index, (source, facts)) in plan.sources.iter().zip(&facts.sources).enumerate() {
        let is_told =
            can_be_asked(&source.place, facts.as_ref()) && source.rules.names().are_distinct();
        if !plan.are_apart(index) && !is_told {
            say(
                Kind::SharedKeys, &target,
                format!(
                    "{} may bring keys that other sources have too, and cannot be asked for a single key of them",
                    source.name
                ),
                "use --on-conflict stop (a key that two sources have ends the run), or give this source names of its own (--prefix) or a database of its own (--db-map); a file, a master before 2.8, and a --rename by which two keys may get one name cannot be asked".to_owned(),
            );
        }
    }
}

/// Whether a source can be asked for a key together with the offset at which that held.
fn can_be_asked(place: &Place, facts: Option<&ServerFacts>) -> bool {
    let version = facts.and_then(|facts| facts.server).map(|server| server.as_redis());
    matches!(place, Place::Server(_)) && version.is_none_or(|version| version >= Version(2, 8, 0))
}
