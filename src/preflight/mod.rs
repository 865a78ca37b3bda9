//! Finding out what both sides are, before anything is written.

mod check;
mod rights;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

pub use check::inspect;

use crate::key::{Db, Escaped};
use crate::net::{Control, ControlError, LinkError, Net, info_field};
use crate::plan::{
    Address, Facts, Finding, Job, Kind, Method, OutputBuffer, Place, Plan, Role, ServerFacts,
    ServerPlace, Side, Source, SpoolFacts,
};
use crate::position::{self, Record, RecordError};
use crate::scratch::Unnamed;
use crate::server::Server;
use crate::source as opened;
use crate::source::SourceError;
use crate::spool::Space;

/// A place that could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{place}")]
pub struct Unreachable {
    /// The place, as it is named in reports.
    pub place: String,
    /// Which side of the run it is on.
    pub side: Side,
    /// Why.
    #[source]
    pub source: Obstacle,
}

/// Why a place could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A server does not answer.
    #[error(transparent)]
    Server(#[from] ControlError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SourceError),
}

impl Unreachable {
    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> String {
        match &self.source {
            Obstacle::Server(error) => error.advice(self.side),
            Obstacle::File(error) => error.advice().to_owned(),
        }
    }

    /// Whether the place was found and its bytes are damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(&self.source, Obstacle::File(error) if error.is_damage())
    }
}

/// Asks every server of the plan what it is, and sees that every file can be read. Few rights are enough: what a server does not tell is taken for
/// what is usual, and the sources' `PSYNC` has the last word.
///
/// # Errors
/// If a server cannot be reached or refuses the password, or a file cannot be read.
pub async fn look(net: &Net, plan: &Plan) -> Result<Facts, Unreachable> {
    let mut facts = Facts::default();
    for source in &plan.sources {
        facts.sources.push(look_at(net, &source.place, &source.name, Side::Source, None).await?);
    }
    for (source, facts) in plan.sources.iter().zip(&mut facts.sources) {
        look_for_psync(net, plan, source, facts).await;
    }
    look_at_target(net, plan, &mut facts).await?;
    look_here(plan, &mut facts);
    Ok(facts)
}

/// Where nothing else will do, whether a source knows `PSYNC`.
async fn look_for_psync(net: &Net, plan: &Plan, source: &Source, facts: &mut Option<ServerFacts>) {
    if let (Method::Psync, Place::Server(server), Some(facts)) = (plan.method, &source.place, facts)
    {
        facts.no_psync = psync_refused(net, server).await;
    }
}

/// Asks the target, once it is known what the sources hold.
async fn look_at_target(net: &Net, plan: &Plan, facts: &mut Facts) -> Result<(), Unreachable> {
    let uses = highest_db(plan, facts);
    let name = plan.target.to_string();
    facts.target = look_at(net, &plan.target, &name, Side::Target, uses).await?;
    if let (Place::Server(server), Some(target)) = (&plan.target, &mut facts.target)
        && !target.cluster
        && !target.sentinel
    {
        let unreachable = |source: ControlError| {
            let place = name.clone();
            Unreachable { place, side: Side::Target, source: source.into() }
        };
        let (records, kept) = records(net, server, plan).await.map_err(unreachable)?;
        facts.records = records;
        // With more keys they are not looked for; the job's folder knows its sources too.
        if target.keys.get(&plan.record_db()).is_none_or(|keys| *keys <= OWN_AT_MOST) {
            facts.strays = strays(net, server, plan).await.map_err(unreachable)?;
        }
        if let Some(keys) =
            target.keys.get_mut(&plan.record_db()).filter(|keys| **keys > OWN_AT_MOST)
        {
            *keys = keys.saturating_sub(kept);
        }
    }
    Ok(())
}

/// What this machine knows of the job.
fn look_here(plan: &Plan, facts: &mut Facts) {
    let folder = plan.job.folder.as_ref();
    if let Some(mark) = folder.and_then(|folder| fs::read_to_string(folder.join(Job::BEGUN)).ok()) {
        facts.is_known = true;
        facts.was_sole = mark.lines().next() == Some(Job::BEGUN_ALONE);
        let from = mark.lines().filter_map(|line| line.strip_prefix(Job::BEGUN_FROM));
        facts.began_from = from.map(str::to_owned).collect();
        let not = mark.lines().filter_map(|line| line.strip_prefix(Job::NOT_BEGUN));
        facts.not_begun = not.map(str::to_owned).collect();
    }
    facts.spool = plan.spool.folder.as_ref().map(|folder| spool_facts(folder, plan.spool.named));
}

/// The same plan with a source for each master of every cluster among its sources. That a server is a node of one is found out.
///
/// # Errors
/// If the nodes of a cluster do not tell, or slots of it are served by none or on their way.
pub async fn expand(net: &Net, plan: &Plan) -> Result<Plan, Unreachable> {
    let mut sources = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        sources.extend(parts(net, source).await?);
    }
    Ok(Plan { sources, ..plan.clone() })
}

/// A source for each master of the cluster that a source is; itself if it is none.
async fn parts(net: &Net, source: &Source) -> Result<Vec<Source>, Unreachable> {
    let Place::Server(server) = &source.place else { return Ok(vec![source.clone()]) };
    let shards = match net.shards(server).await {
        Ok(shards) => shards,
        // Who does not answer is asked again, with all else.
        Err(error) if !is_of_cluster(server, &error) => vec![server.clone()],
        Err(error) => {
            let (place, side) = (source.name.clone(), Side::Source);
            return Err(Unreachable { place, side, source: error.into() });
        }
    };
    let is_named = source.name != source.place.to_string();
    let parts = shards.into_iter().map(|shard| {
        let name = match shard.shard() {
            Some((_, shard)) if is_named => format!("{}[{}]", source.name, shard.slots.name()),
            Some(_) => shard.to_string(),
            None => source.name.clone(),
        };
        Source { name, place: Place::Server(shard), rules: source.rules.clone() }
    });
    Ok(parts.collect())
}

/// Whether what does not answer, or says something odd, is a cluster.
fn is_of_cluster(server: &ServerPlace, error: &ControlError) -> bool {
    matches!(server.address, Address::Cluster(_))
        || matches!(error, ControlError::Link(LinkError::Cluster(_)))
}

/// What a folder offers. One that was named must be there; another is made when it is needed.
fn spool_facts(folder: &Path, named: bool) -> SpoolFacts {
    let tried = match named {
        true => Unnamed::create(folder).map(drop),
        false => Ok(()),
    };
    match tried.and_then(|()| Space::of(folder)) {
        Ok(Space { free, in_memory }) => SpoolFacts { free, in_memory, unusable: None },
        Err(error) => SpoolFacts { unusable: Some(error.to_string()), ..SpoolFacts::default() },
    }
}

/// What of the job's records forbids it to go on.
#[must_use]
pub fn judge_records(facts: &Facts, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    if plan.job.restart {
        return findings;
    }
    let is_other = |name: &&String| plan.sources.iter().all(|source| source.name != **name);
    let others: BTreeSet<&str> =
        facts.began_from.iter().chain(&facts.strays).filter(is_other).map(String::as_str).collect();
    if !others.is_empty() {
        let others: Vec<&str> = others.into_iter().collect();
        findings.push(Finding::blocks(Kind::Record, plan.target.to_string(), format!(
                "job {} was begun with other sources: {}",
                plan.job.name,
                others.join(", ")
            ), "give those, or another --job; with --restart all is copied anew from the sources that are given now, and what those have brought and these do not have is removed".to_owned()));
    }
    for (source, record) in plan.sources.iter().zip(&facts.records) {
        let Some(record) = record else { continue };
        let read = Record::decode(record).and_then(|record| {
            record.is_of(&plan.job.name, &source.name, &position::rules_digest(&source.rules))
        });
        if let Err(error) = read {
            let key = position::key(&plan.job.name, &source.name);
            findings.push(Finding::blocks(Kind::Record, plan.target.to_string(), format!("the record of this job ({}): {error}", Escaped(&key)), match error {
                    RecordError::Newer(_) => "go on with that version, or a later one",
                    RecordError::Rules => {
                        "give the rules with which the job was begun, or another --job and another target; --restart copies all anew under these rules"
                    }
                    _ => "give another --job; or --restart: then all is copied anew and the record is written over",
                }
                .to_owned()));
        }
    }
    findings
}

/// What stands under the names of the job's records, and how many keys the job keeps in all.
async fn records(
    net: &Net,
    place: &ServerPlace,
    plan: &Plan,
) -> Result<(Vec<Option<Vec<u8>>>, u64), ControlError> {
    let mut control = Control::open(net, place).await?;
    let mut records = Vec::new();
    let kept = match kept_by_job(&mut control, plan).await {
        // A database that is not there holds none; who may not read them may not write either, and that is told.
        Err(ControlError::Refused { .. }) => return Ok((records, 0)),
        kept => kept?,
    };
    for source in &plan.sources {
        let key = position::key(&plan.job.name, &source.name);
        records.push(match control.ask::<Option<Vec<u8>>>("GET", &[&key]).await {
            // A value of another type is no record, and is told as such.
            Err(ControlError::Refused { text, .. }) => text.starts_with("WRONGTYPE").then(Vec::new),
            told => told?.filter(|stored| !position::is_only_fences(stored)),
        });
    }
    Ok((records, kept))
}

/// The sources of a job that this plan does not have, by the names of their records.
async fn strays(net: &Net, place: &ServerPlace, plan: &Plan) -> Result<Vec<String>, ControlError> {
    let mut control = Control::open(net, place).await?;
    let own = own_keys(&mut control, plan.record_db()).await?;
    let head = position::key(&plan.job.name, "");
    let names = own.iter().filter_map(|key| key.strip_prefix(head.as_slice()));
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(names.filter(|name| plan.sources.iter().all(|source| source.name != *name)).collect())
}

/// What a server says that does not know `PSYNC`. Without its arguments it does nothing where it is known.
async fn psync_refused(net: &Net, place: &ServerPlace) -> Option<String> {
    let mut control = Control::open(net, place).await.ok()?;
    match control.ask::<()>("PSYNC", &[]).await {
        Err(ControlError::Refused { text, .. }) if text.contains("unknown command") => Some(text),
        _ => None,
    }
}

/// How many keys the target of a plan holds, without those that the job keeps there; `None` if it does not tell.
pub async fn count_keys(net: &Net, place: &ServerPlace, plan: &Plan) -> Option<u64> {
    let mut control = Control::open(net, place).await.ok()?;
    let info = control.info("keyspace").await.ok()?;
    let keys: u64 = info.lines().filter_map(keys_of_db).map(|(_, keys)| keys).sum();
    Some(keys.saturating_sub(kept_by_job(&mut control, plan).await.ok()?))
}

/// How many keys a job keeps in its target.
async fn kept_by_job(control: &mut Control, plan: &Plan) -> Result<u64, ControlError> {
    let mut kept = 0;
    control.ask::<()>("SELECT", &[plan.record_db().index().to_string().as_bytes()]).await?;
    for source in &plan.sources {
        let (job, name) = (&plan.job.name, &source.name);
        for key in [position::key(job, name), position::scripts_key(job, name)] {
            kept += control.ask::<u64>("EXISTS", &[&key]).await?;
        }
    }
    Ok(kept)
}

/// The highest database of which the target will be told.
fn highest_db(plan: &Plan, facts: &Facts) -> Option<Db> {
    let uses = |(source, facts): (&Source, &Option<ServerFacts>)| {
        let used = facts.iter().flat_map(|facts| facts.keys.keys().copied());
        used.filter_map(|db| source.rules.place(db)).max()
    };
    plan.sources.iter().zip(&facts.sources).filter_map(uses).max()
}

async fn look_at(
    net: &Net,
    place: &Place,
    name: &str,
    side: Side,
    uses: Option<Db>,
) -> Result<Option<ServerFacts>, Unreachable> {
    let unreachable = |source| Unreachable { place: name.to_owned(), side, source };
    match place {
        Place::Server(server) => match facts_of(net, server, name, side, uses).await {
            Ok(facts) => Ok(Some(facts)),
            Err(error) => Err(unreachable(error.into())),
        },
        Place::Rdb(_) | Place::Capture(_) if side == Side::Target => Ok(None),
        Place::Rdb(_) | Place::Capture(_) => {
            match opened::Source::open(net, place, Method::Auto, None).await {
                // A file is no server, but a capture knows whose words it holds.
                Ok(source) => Ok(source
                    .recorded_server()
                    .map(|server| ServerFacts { server: Some(server), ..ServerFacts::default() })),
                Err(error) => Err(unreachable(error.into())),
            }
        }
    }
}

/// Asks a server what it is, and whether it has this database.
async fn facts_of(
    net: &Net,
    place: &ServerPlace,
    name: &str,
    side: Side,
    uses: Option<Db>,
) -> Result<ServerFacts, ControlError> {
    let mut control = Control::open(net, place).await?;
    let mut facts = ServerFacts::default();
    let info = match loaded(&mut control, name).await {
        Ok(info) => info,
        // It does not tell, but keys may be there all the same.
        Err(ControlError::Refused { .. }) => keys_in_first_db(&mut control).await?,
        Err(other) => return Err(other),
    };
    let field = |name| info_field(&info, name);
    facts.server = Server::from_info(&info);
    facts.cluster = field("cluster_enabled") == Some("1");
    facts.sentinel = field("redis_mode") == Some("sentinel");
    facts.role = match (field("role"), field("master_link_status")) {
        (Some("slave"), Some("up")) => Role::Replica,
        (Some("slave"), _) => Role::LostReplica,
        _ => Role::Master,
    };
    facts.used_memory = field("used_memory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    let kib = field("instantaneous_input_kbps").and_then(|kib| kib.parse::<f64>().ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is no rate at all becomes the nearest that is"
    )]
    let write_rate = kib.map_or(0, |kib| (kib * 1024.0) as u64);
    facts.write_rate = write_rate;
    facts.run_id = field("run_id").unwrap_or_default().to_owned();
    facts.keys = info.lines().filter_map(keys_of_db).collect();
    if side == Side::Target {
        for (db, keys) in facts.keys.iter_mut().filter(|(_, keys)| **keys <= OWN_AT_MOST) {
            let own = own_keys(&mut control, *db).await?.len() as u64;
            *keys = keys.saturating_sub(own);
        }
    }
    facts.clock_ahead = clock_ahead(net, &mut control).await;
    if side == Side::Source && !facts.sentinel {
        facts.output_buffer = output_buffer(&mut control).await;
        if setting(&mut control, "repl-diskless-sync").await.as_deref() == Some("yes") {
            let delay = setting(&mut control, "repl-diskless-sync-delay").await;
            facts.save_delay = delay.and_then(|delay| delay.parse().ok()).unwrap_or(0);
        }
        facts.unsaved = field("rdb_last_bgsave_status") == Some("err")
            && setting(&mut control, "stop-writes-on-bgsave-error").await.as_deref() != Some("no")
            && setting(&mut control, "save").await.as_deref() != Some("");
        // It is told only where that many are asked for.
        facts.wants_replicas = field("min_slaves_good_slaves").is_some();
    }
    if side == Side::Target {
        (facts.max_memory, facts.evicts) = memory_limit(&mut control, &info).await;
        facts.system_memory = field("total_system_memory").and_then(|bytes| bytes.parse().ok());
    }
    if side == Side::Target && !facts.sentinel {
        facts.forbidden = rights::forbidden(&mut control).await?;
    }
    if let Some(db) = uses.filter(|_| !facts.cluster && !facts.sentinel) {
        facts.lacks_db = lacks(&mut control, db).await?.then_some(db);
    }
    Ok(facts)
}

/// What a server keeps for a replica that does not read. Whatever hinders it from telling hinders nothing else; it is the last that is asked.
async fn output_buffer(control: &mut Control) -> Option<OutputBuffer> {
    OutputBuffer::parse(&setting(control, "client-output-buffer-limit").await?)
}

/// A setting of a server; `None` if it does not tell.
async fn setting(control: &mut Control, name: &str) -> Option<String> {
    let told = control.ask::<Vec<String>>("CONFIG", &[b"GET", name.as_bytes()]).await;
    told.ok().and_then(|told| told.into_iter().nth(1))
}

/// How far a server's clock is ahead of ours, in milliseconds, to half of the time that the answer takes; `None` if it does not tell.
async fn clock_ahead(net: &Net, control: &mut Control) -> Option<i64> {
    let clock = net.clock();
    let before = clock.unix_ms();
    let (seconds, micros): (i64, i64) = control.ask("TIME", &[]).await.ok()?;
    let told = seconds.saturating_mul(1000).saturating_add(micros / 1000);
    Some(told.saturating_sub(before + (clock.unix_ms() - before) / 2))
}

/// How much memory a server may take, and by which policy it evicts keys when that is full; `None` if it does not, or does not tell.
async fn memory_limit(control: &mut Control, info: &str) -> (Option<u64>, Option<String>) {
    let mut said = [None, None];
    for (name, said) in ["maxmemory", "maxmemory-policy"].into_iter().zip(&mut said) {
        // Up to 3.0 INFO does not tell them.
        *said = match info_field(info, &name.replace('-', "_")) {
            Some(value) => Some(value.to_owned()),
            None => setting(control, name).await,
        };
    }
    let [limit, policy] = said;
    let limit = limit.and_then(|limit| limit.parse().ok());
    (limit, policy.filter(|policy| policy != "noeviction" && limit != Some(0)))
}

/// What a server says of itself once it has its data.
async fn loaded(control: &mut Control, name: &str) -> Result<String, ControlError> {
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    let mut said = false;
    loop {
        let info = control.ask::<String>("INFO", &[]).await?;
        if info_field(&info, "loading") != Some("1") {
            return Ok(info);
        }
        if !std::mem::replace(&mut said, true) {
            let eta = info_field(&info, "loading_eta_seconds").unwrap_or("unknown");
            warn!(
                place = name,
                eta_seconds = eta,
                "the server is loading its data: waiting for it"
            );
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The keys of the first database, as `INFO keyspace` would tell them.
async fn keys_in_first_db(control: &mut Control) -> Result<String, ControlError> {
    match control.ask::<u64>("DBSIZE", &[]).await {
        Ok(0) | Err(ControlError::Refused { .. }) => Ok(String::new()),
        Ok(keys) => Ok(format!("db0:keys={keys}")),
        Err(other) => Err(other),
    }
}

async fn lacks(control: &mut Control, db: Db) -> Result<bool, ControlError> {
    match control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await {
        Ok(()) => Ok(false),
        // "invalid DB index" up to 3.2, "DB index is out of range" from 4.0 on.
        Err(ControlError::Refused { text, .. }) => Ok(text.contains("DB index")),
        Err(other) => Err(other),
    }
}

/// A database with more keys holds more than understudy's own.
const OWN_AT_MOST: u64 = 10_000;

/// The keys of a database that are understudy's own. One that may not be asked holds none.
async fn own_keys(control: &mut Control, db: Db) -> Result<HashSet<Vec<u8>>, ControlError> {
    let mut own = HashSet::new();
    let mut cursor = 0_u64;
    loop {
        let page = async {
            control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
            let cursor = cursor.to_string();
            let args: [&[u8]; 5] =
                [cursor.as_bytes(), b"MATCH", b"understudy:*", b"COUNT", b"1000"];
            control.ask::<(u64, Vec<Vec<u8>>)>("SCAN", &args).await
        };
        match page.await {
            Ok((next, names)) => {
                own.extend(names);
                cursor = next;
            }
            Err(ControlError::Refused { .. }) => return Ok(HashSet::new()),
            Err(other) => return Err(other),
        }
        if cursor == 0 {
            return Ok(own);
        }
    }
}

/// The database and the number of keys in a line of `INFO keyspace`: `db0:keys=5,expires=0,…`.
pub(crate) fn keys_of_db(line: &str) -> Option<(Db, u64)> {
    let (db, rest) = line.trim().split_once(':')?;
    let db = Db::parse(db.strip_prefix("db")?.as_bytes())?;
    let keys = rest.split(',').find_map(|field| field.strip_prefix("keys="))?.parse().ok()?;
    Some((db, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_by_database() {
        assert_eq!(keys_of_db("db12:keys=345,expires=2,avg_ttl=0\r"), Some((Db::new(12), 345)));
        assert_eq!(keys_of_db("dbfilename:dump.rdb"), None);
        assert_eq!(keys_of_db("# Keyspace"), None);
    }
}
