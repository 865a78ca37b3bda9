//! What a census would take itself, and what it then foresees of a run of the plan: time, and memory in the target.

use crate::plan::{Facts, Finding, Kind, Place, Plan, Rate, ServerFacts, Source};

use super::tally::Tally;

/// What a copy will take, as far as it can be foreseen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// How long the copy takes.
    pub seconds: f64,
    /// How long the sources took to be read, just now.
    pub reading: f64,
    /// How many keys the target is taken to write in a second.
    pub keys_per_s: u64,
    /// How many bytes of the data set it is taken to write in a second.
    pub bytes_per_s: u64,
    /// Bytes of the target's memory that the sources' keys will take.
    pub memory: u64,
    /// How that is known.
    pub memory_from: MemoryFrom,
    /// What the target has, if it tells.
    pub room: Option<Room>,
}

/// How the memory that keys will take is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFrom {
    /// What the sources say that their data takes (`used_memory`), by the part of their bytes that the rules choose.
    Sources,
    /// Reckoned from names and values as the data set has them.
    DataSet,
    /// The one for some sources, the other for the rest.
    Both,
}

/// A server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What it may take.
    pub limit: u64,
    /// What it takes.
    pub used: u64,
    /// Whether the limit is `maxmemory`; else it is the machine's memory.
    pub is_set: bool,
}

/// What a target is taken to write in a second. An assumption, and told as one: how fast it is shows when it is written to.
const KEYS_PER_S: u64 = 150_000;
const BYTES_PER_S: u64 = 100 << 20;

/// What a server takes for a key beside its name and value: entries of a table, the object, heads of strings, and rounding. Measured with a
/// million keys of `DEBUG POPULATE` on Redis 7.0: 78 bytes.
const A_KEY: u64 = 78;
/// What the entry of a deadline takes.
const A_DEADLINE: u64 = 40;

impl Room {
    /// What is free.
    #[must_use]
    pub const fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// What the names of a census take on the disk, as far as the servers tell how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// How many names: of the keys of all sources whose databases are chosen, and of the target.
    pub keys: u64,
    /// Bytes for them.
    pub bytes: u64,
}

impl Need {
    /// What a name takes with the head of its record, where names are not much longer than most are.
    const A_NAME: u64 = 45;

    /// That of this plan. What files hold is not known.
    #[must_use]
    pub fn of(plan: &Plan, facts: &Facts) -> Self {
        let chosen = |(source, its): (&Source, &Option<ServerFacts>)| -> u64 {
            let held = its.iter().flat_map(|facts| &facts.keys);
            held.filter(|(db, _)| source.rules.place(**db).is_some()).map(|(_, keys)| keys).sum()
        };
        let sources: u64 = plan.sources.iter().zip(&facts.sources).map(chosen).sum();
        let target = facts.target.as_ref().map_or(0, |target| target.keys_that(plan));
        let keys = sources.saturating_add(target);
        Self { keys, bytes: keys.saturating_mul(Self::A_NAME) }
    }
}

/// What of the folder for the names stands in the way of a census.
#[must_use]
pub fn obstacle(plan: &Plan, facts: &Facts) -> Option<Finding> {
    let need = Need::of(plan, facts);
    let limit = plan.spool_limit(facts);
    let folder = plan.spool.folder.as_ref();
    let place =
        folder.map_or_else(|| "--spool".to_owned(), |at| format!("--spool {}", at.display()));
    let there = facts.spool.as_ref();
    let evidence = match (folder, there) {
        _ if limit > 0 && need.bytes <= limit => return None,
        _ if limit > 0 => format!(
            "a census keeps the names of {} keys there, about {}, and {} may be used",
            need.keys,
            mib(need.bytes),
            mib(limit)
        ),
        (None, _) => {
            "a census keeps the names of all keys on a disk, and there is no folder for them"
                .to_owned()
        }
        (_, Some(there)) if there.unusable.is_some() => format!(
            "a census keeps the names of all keys there, and nothing can be written: {}",
            there.unusable.as_deref().unwrap_or_default()
        ),
        (_, Some(there)) if there.in_memory && !plan.spool.named => {
            "a census keeps the names of all keys there, and this is no disk but memory (tmpfs)"
                .to_owned()
        }
        _ => {
            "a census keeps the names of all keys there, and nothing may be kept (--spool-limit 0)"
                .to_owned()
        }
    };
    let mend = format!(
        "give --spool a folder on a disk with {}, and no --spool-limit that is less",
        mib(need.bytes.max(1 << 20))
    );
    Some(Finding::blocks(Kind::Spool, place, evidence, mend))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Foresees what a run takes whose sources hold this (`None` for one that was not read), and were read in so many seconds.
#[must_use]
pub fn forecast(plan: &Plan, facts: &Facts, tallies: &[Option<&Tally>], reading: f64) -> Forecast {
    let known = || tallies.iter().flatten();
    let (keys, bytes): (u64, u64) =
        (known().map(|one| one.keys).sum(), known().map(|one| one.bytes).sum());
    let (mut keys_per_s, mut bytes_per_s) = (KEYS_PER_S, BYTES_PER_S);
    match plan.limit_rate {
        Some(Rate::Keys(limit)) => keys_per_s = keys_per_s.min(limit),
        Some(Rate::Bytes(limit)) => bytes_per_s = bytes_per_s.min(limit),
        None => {}
    }
    bytes_per_s = plan.limit_read.map_or(bytes_per_s, |limit| bytes_per_s.min(limit));
    let seconds = |amount: u64, a_second: u64| as_f64(amount) / as_f64(a_second.max(1));
    let writing = seconds(keys, keys_per_s).max(seconds(bytes, bytes_per_s));

    let (mut memory, mut told, mut reckoned) = (0_u64, false, false);
    for (index, tally) in tallies.iter().enumerate() {
        let Some(tally) = tally else { continue };
        let facts = facts.sources.get(index).and_then(Option::as_ref);
        let used = facts.map(|facts| facts.used_memory).filter(|bytes| *bytes > 0);
        let needs = match used.or(tally.used_memory) {
            Some(used) => {
                told = true;
                tally.of_memory(used)
            }
            None => {
                reckoned = true;
                let entries = tally.keys.saturating_mul(A_KEY);
                let deadlines = tally.with_deadline().saturating_mul(A_DEADLINE);
                tally.bytes.saturating_add(entries).saturating_add(deadlines)
            }
        };
        memory = memory.saturating_add(needs);
    }
    let memory_from = match (told, reckoned) {
        (true, true) => MemoryFrom::Both,
        (_, false) => MemoryFrom::Sources,
        (false, true) => MemoryFrom::DataSet,
    };
    let target = facts.target.as_ref().filter(|_| matches!(plan.target, Place::Server(_)));
    let room = target.and_then(|target| {
        let limit = target.max_memory.filter(|limit| *limit > 0);
        let is_set = limit.is_some();
        let limit = limit.or(target.system_memory)?;
        Some(Room { limit, used: target.used_memory, is_set })
    });
    Forecast {
        seconds: writing.max(reading),
        reading,
        keys_per_s,
        bytes_per_s,
        memory,
        memory_from,
        room,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a forecast has three digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
