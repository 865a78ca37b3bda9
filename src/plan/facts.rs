//! What is known of both sides before anything is written, and what follows from it.
//!
//! Facts are gathered elsewhere; here they are only judged, so that a judgement carries its reason and a test
//! needs no server.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::Db;
use crate::repl::NO_PSYNC;
use crate::server::{Flavour, Server};

use super::finding::{Finding, Kind};
use super::rivals;
use super::saves;
use super::spool::{self, OutputBuffer, SpoolFacts};
use super::{OnConflict, OnDeadlines, Place, Plan, Source};

/// What was found out about the places of a plan.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of each source, in the plan's order; `None` for a file.
    pub sources: Vec<Option<ServerFacts>>,
    /// Of the target; `None` for a file.
    pub target: Option<ServerFacts>,
    /// What the target holds under the names of the job's records, for each source.
    pub records: Vec<Option<Vec<u8>>>,
    /// Whether an earlier run of this job has begun on this machine, so that there must be records.
    pub is_known: bool,
    /// Whether the target held no key but our own when that began.
    pub was_sole: bool,
    /// What is known of the spool's folder; `None` if there is none.
    pub spool: Option<SpoolFacts>,
    /// The sources with which it began, where that was noted.
    pub began_from: Vec<String>,
    /// Those of them that were stopped before they had brought anything.
    pub not_begun: Vec<String>,
    /// Sources of the job that this plan does not have, and whose records are in the target.
    pub strays: Vec<String>,
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
    /// Keys in each of its databases that holds any, without understudy's own.
    pub keys: BTreeMap<Db, u64>,
    /// The name of its process, which no other has; empty if it does not tell.
    pub run_id: String,
    /// What it answers to `PSYNC`, if it does not know that and was asked.
    pub no_psync: Option<String>,
    /// A database that a source uses and this target does not have.
    pub lacks_db: Option<Db>,
    /// What its ACL does not let us run.
    pub forbidden: Option<Forbidden>,
    /// What it keeps for a replica that does not read; `None` if it does not tell, or nobody needs to know.
    pub output_buffer: Option<OutputBuffer>,
    /// How many seconds it waits before it saves for a replica, because it does that without a disk (`repl-diskless-sync-delay`); 0 also if it does
    /// not tell.
    pub save_delay: u64,
    /// Bytes that it was sent in a second just now: as much may be written to it, or less; 0 if it does not tell.
    pub write_rate: u64,
    /// Bytes that go through the link to it in a second, where that was measured.
    pub link_rate: Option<u64>,
    /// How far its clock is ahead of ours, in milliseconds; `None` if it does not tell.
    pub clock_ahead: Option<i64>,
    /// Its last `BGSAVE` has failed, and it stops its clients' writes for that (`stop-writes-on-bgsave-error`), or does not tell.
    pub unsaved: bool,
    /// It takes no writes while it has too few replicas (`min-replicas-to-write`).
    pub wants_replicas: bool,
    /// Its `maxmemory-policy`, where a `maxmemory` is set and it evicts keys.
    pub evicts: Option<String>,
    /// Its `maxmemory`; 0 if none is set, `None` if it does not tell or nobody needs to know.
    pub max_memory: Option<u64>,
    /// The memory of its machine; `None` if it does not tell.
    pub system_memory: Option<u64>,
}

/// A command that a server's ACL forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// Its name.
    pub command: String,
    /// The server's own words.
    pub text: String,
}

/// What an operator can do about a command that the target's ACL forbids.
pub(crate) const LET_WRITE: &str = "let this ACL user write all that may come: ACL SETUSER name +@all ~* on the target, or give another user in --to";

/// What to do where a `BGSAVE` fails. It is not tried again: each one that fails may stop the master's clients.
pub(crate) const UNSAVED: &str = "its log says what is missing: make room on its disk or in its memory and run BGSAVE there until rdb_last_bgsave_status is ok, or let it take writes all the same (CONFIG SET stop-writes-on-bgsave-error no); then start again";

/// How far the clocks of both sides of a lane are ahead of ours, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The source's.
    pub source: i64,
    /// The target's.
    pub target: i64,
}

impl Clocks {
    /// How far the target's clock is ahead of the source's. Less than a second is none: servers that are kept in time differ by so much,
    /// and it cannot be measured to the millisecond.
    #[must_use]
    pub const fn apart(self) -> i64 {
        let apart = self.target.saturating_sub(self.source);
        if apart.unsigned_abs() < 1000 { 0 } else { apart }
    }
}

impl Facts {
    /// The clocks of a source and of the target. One that is not told is taken for ours, and for the other's.
    #[must_use]
    pub fn clocks(&self, source: usize) -> Clocks {
        let source = self.sources.get(source).and_then(Option::as_ref);
        let source = source.and_then(|source| source.clock_ahead);
        let target = self.target.as_ref().and_then(|target| target.clock_ahead);
        Clocks {
            source: source.or(target).unwrap_or_default(),
            target: target.or(source).unwrap_or_default(),
        }
    }
}

impl ServerFacts {
    /// Keys in all its databases, without understudy's own.
    #[must_use]
    pub fn keys_in_all(&self) -> u64 {
        self.keys.values().sum()
    }
}

/// Which side of a run a place is on. It decides which flags and variables a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is read.
    Source,
    /// It is written.
    Target,
    /// It is only asked how far away it is.
    Pinged,
}

impl Side {
    /// What names places of this side.
    #[must_use]
    pub const fn place(self) -> &'static str {
        match self {
            Self::Source => "--from",
            Self::Target => "--to",
            Self::Pinged => "the URL",
        }
    }

    /// With what its other flags begin.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Source | Self::Pinged => "--from",
            Self::Target => "--to",
        }
    }

    /// The variable that holds its password.
    #[must_use]
    pub const fn password_variable(self) -> &'static str {
        match self {
            Self::Source | Self::Pinged => "UNDERSTUDY_FROM_PASSWORD",
            Self::Target => "UNDERSTUDY_TO_PASSWORD",
        }
    }
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

/// What of the facts forbids this plan to begin.
#[must_use]
pub fn judge(facts: &Facts, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, facts) in plan.sources.iter().zip(&facts.sources) {
        let Some(facts) = facts else { continue };
        let mut say = |kind, evidence: &str, mend: &str| {
            findings.push(Finding::blocks(kind, &source.name, evidence, mend));
        };
        if facts.sentinel {
            say(
                Kind::Sentinel,
                "this source is a Sentinel, which holds no data",
                "let it lead to the master that it watches: redis-sentinel://host:port/NAME, with a name that SENTINEL MASTERS tells",
            );
        }
        let is_shard = matches!(&source.place, Place::Server(server) if server.shard().is_some());
        if facts.cluster && !is_shard {
            say(
                Kind::ClusterPart,
                "this source is a node of a cluster and holds a part of the data only",
                "a capture is one stream; sync reads all of a cluster (redis-cluster://host:port)",
            );
        }
        if let Some(answer) = &facts.no_psync {
            say(Kind::NoPsync, &format!("the master does not take PSYNC: {answer}"), NO_PSYNC);
        }
        if facts.unsaved {
            say(
                Kind::BgsaveFailed,
                "the last BGSAVE of this source has failed (rdb_last_bgsave_status is err); another one that fails makes it refuse its clients' writes (MISCONF)",
                UNSAVED,
            );
        }
        if facts.role == Role::LostReplica {
            say(
                Kind::Replica,
                "this source is a replica that is not in touch with its master",
                "wait until master_link_status in its INFO replication is up, or read from its master",
            );
        }
    }
    let is_shard = |source: &Source| matches!(&source.place, Place::Server(server) if server.shard().is_some());
    if matches!(plan.target, Place::Rdb(_)) && plan.sources.iter().any(is_shard) {
        findings.push(Finding::blocks(Kind::ClusterPart, plan.target.to_string(), "the masters of a cluster copy one after the other into a file, and slots may move between them meanwhile".to_owned(), "give a server as --to; an .rdb file can be made of that".to_owned()));
    }
    if let Some(target) = &facts.target {
        judge_target(target, plan, facts.goes_on(), &mut findings);
    }
    judge_identity(facts, plan, &mut findings);
    rivals::judge(facts, plan, &mut findings);
    spool::judge(facts, plan, &mut findings);
    findings
}

/// What of the facts is odd and forbids nothing.
#[must_use]
pub fn remarks(facts: &Facts, plan: &Plan) -> Vec<Finding> {
    let list = |dbs: Vec<Db>| dbs.iter().map(Db::to_string).collect::<Vec<_>>().join(", ");
    let mut remarks = Vec::new();
    for (index, (source, its)) in plan.sources.iter().zip(&facts.sources).enumerate() {
        let apart = facts.clocks(index).apart();
        let Some(facts) = its else { continue };
        if facts.wants_replicas {
            remarks.push(Finding::warning(Kind::MinReplicas, source.name.clone(), "this source takes writes only while it has enough replicas (min-replicas-to-write), and counts this run as one"
                    .to_owned(), "see that it has enough without it before the run is stopped".to_owned()));
        }
        if apart != 0 {
            let seconds = apart.unsigned_abs() / 1000;
            let (how, when) = match apart < 0 {
                true => ("ahead of", "earlier"),
                false => ("behind", "later"),
            };
            remarks.push(Finding::warning(Kind::Clock, source.name.clone(), format!(
                    "its clock is {seconds} s {how} the target's: deadlines are set so much {when} there, so that keys live as long as here"
                ), "if the target's clock is the wrong one, set it (NTP) before the job is begun".to_owned()));
        }
        let Some(chosen) = source.rules.chosen() else { continue };
        // One that tells nothing of itself may hold keys anywhere.
        if facts.server.is_none() {
            continue;
        }
        let is_empty = |db: &Db| !facts.keys.contains_key(db);
        let empty: Vec<Db> = chosen.iter().copied().filter(is_empty).collect();
        if !empty.is_empty() {
            remarks.push(Finding::warning(
                Kind::EmptyDatabase,
                source.name.clone(),
                format!("nothing is in database {}, which is chosen", list(empty)),
                match facts.keys.is_empty() {
                    true => "this source holds no key at all".to_owned(),
                    false => format!(
                        "see --only-db and the URL: its keys are in {}",
                        list(facts.keys.keys().copied().collect())
                    ),
                },
            ));
        }
    }
    let clusters = plan.sources.iter().filter_map(|source| match &source.place {
        Place::Server(server) => server.shard().map(|(cluster, _)| cluster.name.as_str()),
        Place::Rdb(_) | Place::Capture(_) => None,
    });
    for cluster in clusters.collect::<BTreeSet<_>>() {
        remarks.push(Finding::warning(Kind::Rebalancer, cluster.to_owned(), "slots of this cluster that move while the job runs are followed, but each key that is touched meanwhile is read once more, and behind a stop all must be copied anew"
                .to_owned(), "switch its rebalancer off until the job is done".to_owned()));
    }
    saves::remarks(facts, plan, &mut remarks);
    spool::remarks(facts, plan, &mut remarks);
    if plan.deadlines == OnDeadlines::Live {
        remarks.push(Finding::warning(Kind::LiveDeadlines, plan.target.to_string(), "deadlines are not held back (--deadlines live), which is not exact: a key that is renewed on a source while its copy is on the way may die here".to_owned(), "leave it out where that matters".to_owned()));
    }
    if let Some(policy) = facts.target.as_ref().and_then(|target| target.evicts.as_ref()) {
        remarks.push(Finding::warning(Kind::Eviction, plan.target.to_string(), format!(
                "the target may evict keys when its memory is full (maxmemory-policy {policy})"
            ), "see that its maxmemory is well above what the sources hold, or CONFIG SET maxmemory-policy noeviction there".to_owned()));
    }
    remarks
}

/// A server may be reached under several names, but it is one.
fn judge_identity(facts: &Facts, plan: &Plan, findings: &mut Vec<Finding>) {
    let run_id = |facts: &ServerFacts| (!facts.run_id.is_empty()).then(|| facts.run_id.clone());
    let target = facts.target.as_ref().and_then(run_id);
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (source, facts) in plan.sources.iter().zip(&facts.sources) {
        let Some(id) = facts.as_ref().and_then(run_id) else { continue };
        if target.as_ref() == Some(&id) {
            findings.push(Finding::blocks(
                Kind::SameServer,
                source.name.clone(),
                format!("this source and the target {} are one server", plan.target),
                "give another server as --to".to_owned(),
            ));
        }
        let db = |place: &Place| match place {
            Place::Server(server) => server.db,
            Place::Rdb(_) | Place::Capture(_) => None,
        };
        let twice = seen.iter().find(|(name, other)| {
            let place = plan.sources.iter().find(|one| one.name == *name).map(|one| &one.place);
            let (one, other_db) = (db(&source.place), place.and_then(db));
            *other == id && (one.is_none() || other_db.is_none() || one == other_db)
        });
        if let Some((name, _)) = twice {
            findings.push(Finding::blocks(
                Kind::SameServer,
                source.name.clone(),
                format!("this source and {name} are one server"),
                "give it once".to_owned(),
            ));
        }
        seen.push((&source.name, id));
    }
}

fn judge_target(facts: &ServerFacts, plan: &Plan, goes_on: bool, findings: &mut Vec<Finding>) {
    let mut say = |kind, evidence: String, mend: &str| {
        findings.push(Finding::blocks(kind, plan.target.to_string(), evidence, mend));
    };
    if facts.sentinel {
        say(
            Kind::Sentinel,
            "the target is a Sentinel, which holds no data".to_owned(),
            "give the address of the master that it watches",
        );
        return;
    }
    if facts.cluster {
        say(
            Kind::ClusterPart,
            "the target is a node of a cluster".to_owned(),
            "this version writes to single servers; give a target that is not in cluster mode",
        );
    }
    if facts.role != Role::Master {
        say(
            Kind::Replica,
            "the target is a replica and takes no writes".to_owned(),
            "give the address of its master",
        );
    }
    if let Some(Forbidden { command, text }) = &facts.forbidden {
        say(Kind::Rights, format!("the target forbids {command}: {text}"), LET_WRITE);
    }
    if let Some(db) = facts.lacks_db {
        say(
            Kind::Databases,
            format!("the target has no database {db}, which a source uses"),
            "set `databases` in the target's configuration higher and start it again, or choose another with --db-map",
        );
    }
    if let Some(policy) = &facts.evicts
        && policy.starts_with("allkeys")
        && !plan.accept_eviction
    {
        say(
            Kind::Eviction,
            format!(
                "the target evicts any key when its memory is full (maxmemory-policy {policy})"
            ),
            "CONFIG SET maxmemory-policy noeviction there while the job runs; or --accept-eviction: what is evicted is lost then, and the job's position may be",
        );
    }
    // What a job that goes on finds there it has brought itself.
    if !goes_on {
        judge_keys(facts, plan, &mut say);
    }
    if let Some(server @ Server { flavour: Flavour::Redis, .. }) = facts.server
        && server.version < crate::server::Version(2, 8, 0)
    {
        say(
            Kind::Version,
            format!("the target is {server}"),
            "a target must be Redis 2.8 or later, Valkey or Redict",
        );
    }
}

fn judge_keys(facts: &ServerFacts, plan: &Plan, say: &mut impl FnMut(Kind, String, &str)) {
    let keys = facts.keys_that(plan);
    match plan.on_conflict {
        _ if keys == 0 => {}
        None | Some(OnConflict::Stop) => say(
            Kind::KeysThere,
            format!("the target already holds {keys} keys"),
            "say what shall become of a key that both have: --on-conflict replace or --on-conflict keep; or give an empty target",
        ),
        Some(OnConflict::Keep) if keys > plan.names_that_fit() => say(
            Kind::Memory,
            format!(
                "the names of the {keys} keys that the target keeps take {}",
                size(Plan::memory_for_names(keys))
            ),
            "give that to --memory, or choose fewer databases with --only-db",
        ),
        Some(OnConflict::Replace | OnConflict::Keep) => {}
    }
}

impl Facts {
    /// Whether an earlier run has begun this job.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.is_known || self.records.iter().any(Option::is_some)
    }

    /// Whether the target holds no key but our own where the plan writes.
    #[must_use]
    pub fn is_sole(&self, plan: &Plan) -> bool {
        let is_empty = |target: &ServerFacts| target.keys_that(plan) == 0;
        self.is_known && self.was_sole || self.target.as_ref().is_none_or(is_empty)
    }
}

impl ServerFacts {
    /// Keys in the databases that the plan writes.
    #[must_use]
    pub fn keys_that(&self, plan: &Plan) -> u64 {
        let is_written = |db| plan.sources.iter().any(|source| source.rules.writes(db));
        self.keys.iter().filter(|(db, _)| is_written(**db)).map(|(_, keys)| keys).sum()
    }
}

impl Plan {
    /// What the name of a key takes that the target held before, in bytes.
    const NAME_BYTES: u64 = 40;

    /// How many names of keys that the target held before may be remembered: a quarter of the memory.
    #[must_use]
    pub fn names_that_fit(&self) -> u64 {
        self.memory / 4 / Self::NAME_BYTES
    }

    /// The memory with which so many names fit.
    fn memory_for_names(keys: u64) -> u64 {
        keys.saturating_mul(4 * Self::NAME_BYTES)
    }

    /// Whether one source writes all databases, each under its own number.
    #[must_use]
    pub fn has_whole_target(&self) -> bool {
        matches!(self.sources.as_slice(), [source] if !source.rules.has_databases())
    }

    /// Whether no other source writes a key that this one may: by their databases, or by what their names begin with.
    #[must_use]
    pub fn are_apart(&self, index: usize) -> bool {
        let places = |source: &Source| -> Option<Vec<Db>> {
            let chosen = source.rules.chosen()?.iter();
            Some(chosen.filter_map(|db| source.rules.place(*db)).collect())
        };
        let own = self.sources.get(index).and_then(places);
        let others = self.sources.iter().enumerate().filter(|(other, _)| *other != index);
        let names = self.sources.get(index).map(|source| source.rules.names());
        { others }.all(|(_, other)| match (&own, places(other)) {
            (Some(own), Some(other)) if own.iter().all(|db| !other.contains(db)) => true,
            _ if self.is_other_shard(index, other) => true,
            _ => names.is_some_and(|names| names.are_apart(other.rules.names())),
        })
    }
}

impl Plan {
    /// Whether two sources are parts of one cluster, and no key is in both.
    fn is_other_shard(&self, index: usize, other: &Source) -> bool {
        let shard = |source: &Source| match &source.place {
            Place::Server(server) => {
                server.shard().map(|(cluster, shard)| (cluster.name.clone(), shard.slots.clone()))
            }
            Place::Rdb(_) | Place::Capture(_) => None,
        };
        let names = self.sources.get(index).map(|source| source.rules.names());
        match (self.sources.get(index).and_then(shard), shard(other)) {
            (Some((cluster, slots)), Some((its, others))) => {
                cluster == its && slots.overlap(&others) == 0 && names == Some(other.rules.names())
            }
            _ => false,
        }
    }
}

/// A size for a person, rounded up.
fn size(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::plan::{Job, Method, OnDeadlines, OnUnknown, Rules, Spool, Until};

    pub(in super::super) fn plan(on_conflict: Option<OnConflict>) -> Plan {
        let place = |text| Place::parse(text).unwrap();
        Plan {
            sources: vec![Source {
                name: "a:1".into(),
                place: place("redis://a:1"),
                rules: Rules::default(),
            }],
            target: place("redis://b:2"),
            job: Job::default(),
            away: None,
            on_unknown: OnUnknown::Stop,
            deadlines: OnDeadlines::Exact,
            accept_eviction: false,
            remove_unowned: false,
            method: Method::Auto,
            until: Until::CaughtUp,
            on_conflict,
            on_flush: None,
            written_for: None,
            limit_rate: None,
            limit_read: None,
            memory: 1 << 26,
            spool: Spool::default(),
            at_once: None,
            per_host: 1,
        }
    }

    fn found(
        source: ServerFacts,
        target: ServerFacts,
        on_conflict: Option<OnConflict>,
    ) -> Vec<String> {
        let facts = Facts { sources: vec![Some(source)], target: Some(target), ..Facts::default() };
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
        let full =
            ServerFacts { keys: BTreeMap::from([(Db::new(0), 7)]), ..ServerFacts::default() };
        let source = ServerFacts::default;
        assert_eq!(found(source(), full.clone(), None), ["b:2: the target already holds 7 keys"]);
        assert_eq!(found(source(), full.clone(), Some(OnConflict::Stop)).len(), 1);
        assert!(found(source(), full.clone(), Some(OnConflict::Replace)).is_empty());
        assert!(found(source(), full, Some(OnConflict::Keep)).is_empty());
    }

    #[test]
    fn one_server_under_two_names_is_found() {
        let named = |run_id: &str| ServerFacts { run_id: run_id.into(), ..ServerFacts::default() };
        assert_eq!(
            found(named("1"), named("1"), None),
            ["a:1: this source and the target b:2 are one server"]
        );
        assert!(found(named("1"), named("2"), None).is_empty());
        assert!(found(named(""), named(""), None).is_empty(), "neither tells who it is");

        let source = |text: &str| Source {
            name: text.into(),
            place: Place::parse(text).unwrap(),
            rules: Rules::default(),
        };
        let count = |first: &str, second: &str| {
            let plan = Plan { sources: vec![source(first), source(second)], ..plan(None) };
            let facts = Facts {
                sources: vec![Some(named("1")), Some(named("1"))],
                target: None,
                ..Facts::default()
            };
            judge(&facts, &plan).len()
        };
        assert_eq!(count("redis://a", "redis://b"), 1);
        assert_eq!(count("redis://a/1", "redis://b/1"), 1);
        assert_eq!(count("redis://a/1", "redis://b/2"), 0, "different databases of one server");
    }

    #[test]
    fn a_database_that_the_target_lacks_is_named() {
        let lacking = ServerFacts { lacks_db: Some(Db::new(17)), ..ServerFacts::default() };
        assert_eq!(
            found(ServerFacts::default(), lacking, None),
            ["b:2: the target has no database 17, which a source uses"]
        );
    }

    #[test]
    fn a_command_that_the_target_forbids_is_named() {
        let forbidden = Forbidden { command: "EVAL".into(), text: "NOPERM no".into() };
        let target = ServerFacts { forbidden: Some(forbidden), ..ServerFacts::default() };
        assert_eq!(
            found(ServerFacts::default(), target, None),
            ["b:2: the target forbids EVAL: NOPERM no"]
        );
    }

    #[test]
    fn clocks_that_differ_are_remarked() {
        let said = |here: i64, there: i64| {
            let at = |ms| ServerFacts { clock_ahead: Some(ms), ..ServerFacts::default() };
            let (sources, target) = (vec![Some(at(here))], Some(at(there)));
            let facts = Facts { sources, target, ..Facts::default() };
            remarks(&facts, &plan(None)).pop().map(|one| one.evidence)
        };
        assert_eq!(said(400, -500), None);
        let ahead = "its clock is 31 s ahead of the target's: deadlines are set so much earlier there, so that keys live as long as here";
        assert_eq!(said(32_000, 1000).as_deref(), Some(ahead));
        let behind = "its clock is 31 s behind the target's: deadlines are set so much later there, so that keys live as long as here";
        assert_eq!(said(-30_000, 1500).as_deref(), Some(behind));
    }

    #[test]
    fn a_chosen_database_without_keys_is_remarked() {
        let server = Server::parse("redis-7.0");
        let full = |db| ServerFacts {
            server,
            keys: BTreeMap::from([(Db::new(db), 7)]),
            ..ServerFacts::default()
        };
        let remarked = |facts: ServerFacts| {
            let rules = Rules::new(
                Some([Db::new(3), Db::new(9)].into()),
                BTreeMap::new(),
                Vec::new(),
                Vec::new(),
                None,
            );
            let mut plan = plan(None);
            plan.sources[0].rules = rules.unwrap();
            let facts = Facts { sources: vec![Some(facts)], target: None, ..Facts::default() };
            remarks(&facts, &plan)
                .into_iter()
                .map(|one| format!("{}; {}", one.evidence, one.mend))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            remarked(full(3)),
            [
                "nothing is in database 9, which is chosen; see --only-db and the URL: its keys are in 3"
            ]
        );
        assert_eq!(
            remarked(ServerFacts { keys: BTreeMap::new(), ..full(3) }),
            ["nothing is in database 3, 9, which is chosen; this source holds no key at all"]
        );
        assert!(remarked(ServerFacts { server: None, ..full(0) }).is_empty());
    }

    #[test]
    fn wrong_places_are_named() {
        let lost = ServerFacts { role: Role::LostReplica, ..ServerFacts::default() };
        let cluster = ServerFacts { cluster: true, ..ServerFacts::default() };
        let replica = ServerFacts { role: Role::Replica, ..ServerFacts::default() };
        let found = found(lost, ServerFacts { cluster: true, ..replica }, None);
        assert_eq!(found.len(), 3);
        assert_eq!(
            judge(
                &Facts { sources: vec![Some(cluster)], target: None, ..Facts::default() },
                &plan(None)
            )
            .len(),
            1
        );
    }
}
