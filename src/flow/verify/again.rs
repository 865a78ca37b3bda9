//! Keys that differed, looked at again: what was read at two times of servers that are written to proves nothing.
//!
//! A key differs if both sides are as they were when they were first read. If one of them has changed meanwhile, and
//!
//! ```text
//! a job follows    source, its offset │ the job's record is there or behind it │ target │ source again: as before?
//! none does        both sides as at the last look, some time ago
//! ```
//! In between a key that is the same once is the same. Of one that changes faster than both sides can be read a [series](crate::verify::Series) is taken,
//! where a job follows; if that proves nothing, or none does, it is told as not proven.

mod eyes;
mod hot;
mod records;

use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::key::Db;
use crate::net::{ControlError, Net};
use crate::offset::Offset;
use crate::plan::{Clocks, Facts, Origin, Place, Plan, Rules, Source};
use crate::position::{Phase, Record};
use crate::rdb::opcode::ValueType;
use crate::slots::slot_of;
use crate::source::{FetchError, Found, Limits};
use crate::verify::{Digester, Held, Kind, Measure, Suspect, Times, parting};

use super::super::lane::chain;
use super::super::rereads::OwnName;
use super::{Doubt, is_under_way};
use eyes::Eyes;
use records::Records;

/// How often keys are looked at.
const LOOKS: u32 = 40;

/// Before these looks keys are taken for some that change all the time, and so many times a few of them.
const HOT: [u32; 3] = [8, 20, 39];
const MOST_HOT: usize = 10;

/// How long is waited before a look: at first as long as a lane lags behind as a rule, and then longer each time.
fn pause(look: u32) -> Duration {
    Duration::from_millis(10).saturating_mul(look).min(Duration::from_millis(200))
}

/// Looks at keys.
pub(super) struct Again<'a> {
    pub(super) net: &'a Net,
    pub(super) plan: &'a Plan,
    pub(super) facts: &'a Facts,
    measures: &'a [Measure],
    limits: Limits,
    seed: u64,
    /// `None` where it is a file, which does not change.
    pub(super) target: Option<Target<'a>>,
    /// For each source that was asked.
    sources: Vec<Option<Eyes>>,
    /// Whether a job brings to the target what a source is sent, as far as is known.
    follows: Vec<bool>,
}

pub(super) struct Target<'a> {
    eyes: Eyes,
    records: Records<'a>,
}

/// What came of looking at a key again.
pub(super) enum Looked {
    Same {
        is_there: bool,
    },
    /// How it differs, and what both sides hold.
    Differs(Kind, [Held; 2]),
    /// Why it cannot be told.
    Unproven(Doubt),
}

/// A key that is looked at.
struct Open {
    suspect: Suspect,
    /// Whose it may be, in the order of the plan.
    owners: Vec<Owner>,
    /// What both sides held when they were looked at last.
    last: [Held; 2],
    /// Why a source could not be asked, the last time.
    trouble: Option<String>,
    looked: Option<Looked>,
}

/// A source that a key may come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    source: usize,
    /// Its name there; `None` if that cannot be told by its name in the target.
    key: Option<Vec<u8>>,
}

/// What the sources said of some keys.
struct Expected {
    /// Up to where each of them had come then that a job follows.
    at: Vec<(usize, Option<Offset>)>,
    held: Vec<Result<Held, Doubt>>,
}

impl<'a> Again<'a> {
    pub(super) fn new(
        net: &'a Net,
        (plan, facts): (&'a Plan, &'a Facts),
        measures: &'a [Measure],
        seed: u64,
    ) -> Self {
        let memory = usize::try_from(plan.memory).unwrap_or(usize::MAX);
        // A value is held from either side, and as an answer.
        let limits = Limits { largest: memory / 8, room: memory / 16 };
        let target = match &plan.target {
            Place::Server(place) => {
                let server = facts.target.as_ref().and_then(|facts| facts.server);
                let eyes = Eyes::new(net.clone(), place.clone(), (server, seed), limits);
                Some(Target { eyes, records: Records::new(net, plan, place) })
            }
            Place::Rdb(_) | Place::Capture(_) => None,
        };
        Self {
            net,
            plan,
            facts,
            measures,
            limits,
            seed,
            target,
            sources: plan.sources.iter().map(|_| None).collect(),
            follows: (0..plan.sources.len()).map(|source| follows(facts, source)).collect(),
        }
    }

    /// Looks at these keys until each is known.
    ///
    /// # Errors
    /// If the target cannot be asked.
    pub(super) async fn look(
        &mut self,
        suspects: Vec<Suspect>,
    ) -> Result<Vec<(Suspect, Looked)>, FetchError> {
        let mut all: Vec<Open> = suspects.into_iter().map(|suspect| self.open(suspect)).collect();
        // Keys of the same sources and database are asked for together.
        all.sort_by(|one, next| home(one).cmp(home(next)));
        for look in 0..LOOKS {
            sleep(pause(look)).await;
            for group in all.chunk_by_mut(|one, next| home(one).eq(home(next))) {
                if HOT.contains(&look) {
                    let mut open: Vec<&mut Open> =
                        group.iter_mut().filter(|one| one.looked.is_none()).collect();
                    for some in open.chunks_mut(hot::TOGETHER).take(MOST_HOT) {
                        self.prove(some).await;
                    }
                }
                let mut open: Vec<&mut Open> =
                    group.iter_mut().filter(|one| one.looked.is_none()).collect();
                let mut rest = open.as_mut_slice();
                while !rest.is_empty() {
                    let seen = self.look_at(rest, look).await?.clamp(1, rest.len());
                    rest = rest.split_at_mut(seen).1;
                }
            }
            if all.iter().all(|one| one.looked.is_some()) {
                break;
            }
        }
        let unproven = |trouble: Option<String>| {
            Looked::Unproven(match trouble {
                Some(why) => Doubt { why, mend: "see that the source answers, and compare again" },
                None => Doubt {
                    why: "it changes faster than both sides can be read".to_owned(),
                    mend: "compare again, when less is written to the source",
                },
            })
        };
        let known = |one: Open| {
            let Open { suspect, trouble, looked, .. } = one;
            (suspect, looked.unwrap_or_else(|| unproven(trouble)))
        };
        Ok(all.into_iter().map(known).collect())
    }

    /// Whether only a part of the keys is compared, and nobody can tell whether this one, which no source holds, is of it.
    pub(super) fn is_aside(&self, suspect: &Suspect) -> bool {
        let unknown = |source: &Source| {
            source.rules.are_narrowed()
                && source.rules.writes(suspect.db)
                && source.rules.names().origin(&suspect.name) == Origin::Unknown
        };
        suspect.kind == Kind::Extra && self.plan.sources.iter().any(unknown)
    }

    fn open(&self, suspect: Suspect) -> Open {
        let mut owners = Vec::new();
        for (source, of) in self.plan.sources.iter().enumerate() {
            let known = suspect.source.as_ref().filter(|(own, _)| *own as usize == source);
            let key = match (known, of.rules.names().origin(&suspect.name)) {
                (Some((_, key)), _) => Some(key.clone()),
                (None, Origin::Key(key)) => Some(key.into_owned()),
                (None, Origin::Unknown) => None,
                (None, Origin::None) => continue,
            };
            let db = of.rules.origin(suspect.db);
            let is_wanted = |key: &Vec<u8>| of.rules.judge(db, key).is_keep();
            // Of the parts of a cluster one has the key's slot.
            let shard = match &of.place {
                Place::Server(place) => place.shard(),
                Place::Rdb(_) | Place::Capture(_) => None,
            };
            let has_slot =
                |key: &Vec<u8>| shard.is_none_or(|(_, shard)| shard.slots.has(slot_of(key)));
            let is_wanted = |key: &Vec<u8>| is_wanted(key) && has_slot(key);
            if of.rules.writes(suspect.db) && key.as_ref().is_none_or(is_wanted) {
                owners.push(Owner { source, key });
            }
        }
        let last = [suspect.expected, suspect.found];
        Open { suspect, owners, last, trouble: None, looked: None }
    }

    /// Looks at the first of these keys, which may be of the same sources, in one database; gives how many they were.
    async fn look_at(&mut self, keys: &mut [&mut Open], look: u32) -> Result<usize, FetchError> {
        let mut keys = keys;
        let mut read = self.of_sources(keys).await;
        if read.as_ref().is_err_and(|error| error.is_answer() || error.is_elsewhere()) {
            // By itself, so that one that may not be read holds up no other.
            keys = keys.get_mut(..1).unwrap_or_default();
            read = self.of_sources(keys).await;
        }
        let expected = match read {
            Ok(expected) => expected,
            Err(error) => {
                let mend = if error.is_elsewhere() {
                    "its slot moves: compare again when the slots of the cluster are at rest"
                } else {
                    "let this user read the source's keys (INFO, TIME, PTTL, PEXPIRETIME, DUMP, MEMORY USAGE)"
                };
                let is_final = error.is_answer() || error.is_elsewhere();
                for key in keys.iter_mut() {
                    let why = chain(&error);
                    // A source that is lost may be there at the next look.
                    match is_final {
                        true => key.looked = Some(Looked::Unproven(Doubt { why, mend })),
                        false => key.trouble = Some(why),
                    }
                }
                return Ok(keys.len());
            }
        };
        let keys = keys.get_mut(..expected.held.len()).unwrap_or_default();
        // At first it is enough that they are the same; only then whoever lags behind is waited for.
        let follows = !expected.at.is_empty();
        let mut is_there = look > 0 && follows;
        for (source, at) in expected.at.iter().filter(|_| look > 0) {
            is_there &= self.wait_for(*source, *at).await?;
        }
        let found = self.of_target(keys).await?;
        let keys = keys.get_mut(..found.len()).unwrap_or_default();
        let behind = match is_there {
            true => self.of_sources(keys).await.ok(),
            false => None,
        };
        let sides = expected.held.into_iter().zip(found);
        for (number, (key, sides)) in keys.iter_mut().zip(sides).enumerate() {
            key.trouble = None;
            let (expected, found) = match sides {
                (Ok(expected), Ok(found)) => (expected, found),
                (Err(why), _) | (_, Err(why)) => {
                    key.looked = Some(Looked::Unproven(why));
                    continue;
                }
            };
            let owner = match &key.suspect.source {
                Some((source, _)) => *source as usize,
                None => key.owners.first().map_or(0, |owner| owner.source),
            };
            let measure = self.measures.get(owner).copied().unwrap_or_default();
            let Some(kind) = measure.differs(expected, found) else {
                key.looked = Some(Looked::Same { is_there: found.is_some() });
                continue;
            };
            let stood_still = match (&behind, follows) {
                (Some(behind), _) => behind.held.get(number) == Some(&Ok(expected)),
                (None, true) => false,
                (None, false) => key.last == [expected, found],
            };
            key.last = [expected, found];
            if stood_still {
                let is_known = key.owners.iter().all(|owner| owner.key.is_some());
                key.looked = Some(if is_known || !follows {
                    Looked::Differs(kind, key.last)
                } else {
                    let why = "its name does not tell which key of a source it is".to_owned();
                    let mend =
                        "compare again when the job has ended, or look for it on the sources";
                    Looked::Unproven(Doubt { why, mend })
                });
            }
        }
        Ok(keys.len())
    }

    /// What the sources hold of the first of these keys: each what the first source does that holds it.
    async fn of_sources(&mut self, keys: &[&mut Open]) -> Result<Expected, FetchError> {
        let mut expected = Expected { at: Vec::new(), held: vec![Ok(None); keys.len()] };
        let Some(first) = keys.first() else { return Ok(expected) };
        let db = first.suspect.db;
        for (number, owner) in first.owners.iter().enumerate() {
            let source = owner.source;
            let Some(of) = self.plan.sources.get(source) else { continue };
            let keys = keys.get(..expected.held.len()).unwrap_or_default();
            if !matches!(of.place, Place::Server(_)) {
                // A file does not change.
                for (key, held) in keys.iter().zip(&mut expected.held) {
                    let is_its =
                        key.suspect.source.as_ref().is_some_and(|(of, _)| *of as usize == source);
                    if is_its && *held == Ok(None) {
                        *held = Ok(key.suspect.expected);
                    }
                }
                continue;
            }
            let names: Vec<&[u8]> =
                keys.iter().map_while(|key| key.owners.get(number)?.key.as_deref()).collect();
            if names.is_empty() {
                continue;
            }
            let times = times_of(of, self.facts.clocks(source), self.net.clock().unix_ms());
            let follows = self.follows.get(source) == Some(&true);
            let Some(eyes) = self.eyes(source) else { continue };
            let found = eyes.look(of.rules.origin(db), &names, &times, Some(&of.rules)).await?;
            if follows {
                expected.at.push((source, eyes.fetcher.offset().await?));
            }
            expected.held.truncate(found.len());
            for (held, found) in expected.held.iter_mut().zip(found) {
                if *held == Ok(None) {
                    *held = found;
                }
            }
        }
        Ok(expected)
    }

    /// What is to stand under the name of a key that differs: the payload of `DUMP` and the deadline that the first source has which holds it, and
    /// which source that is.
    ///
    /// # Errors
    /// If a source cannot be asked.
    pub(super) async fn meant(
        &mut self,
        suspect: &Suspect,
    ) -> Result<Option<(usize, Found)>, FetchError> {
        for Owner { source, key } in self.open(suspect.clone()).owners {
            let (Some(of), Some(key)) = (self.plan.sources.get(source), key) else { continue };
            let Some(eyes) = self.eyes(source) else { continue };
            let found = eyes.fetcher.look(of.rules.origin(suspect.db), &[&key]).await?;
            match found.into_iter().next() {
                None | Some(Found::Gone | Found::Expired) => {}
                Some(found) => return Ok(Some((source, found))),
            }
        }
        Ok(None)
    }

    /// Which source a key is of, and what it is there. Of one that no source holds any may say that it is gone.
    pub(super) fn origin(&self, suspect: &Suspect) -> Option<(&str, OwnName)> {
        let held_by = suspect.source.as_ref().map(|(source, _)| *source as usize);
        let owners = self.open(suspect.clone()).owners.into_iter();
        let mut known = owners.filter(|one| held_by.is_none_or(|source| one.source == source));
        known.find_map(|Owner { source, key }| {
            let of = self.plan.sources.get(source)?;
            Some((of.name.as_str(), (of.rules.origin(suspect.db), key?)))
        })
    }

    /// Where the two values of a key part, in words; `None` if that cannot be told. By now they may be others.
    pub(super) async fn parting(&mut self, suspect: &Suspect) -> Option<String> {
        let Ok(Some((_, Found::Value { payload, .. }))) = self.meant(suspect).await else {
            return None;
        };
        let fetcher = &mut self.target.as_mut()?.eyes.fetcher;
        let found = fetcher.look(suspect.db, &[&suspect.name]).await.ok()?;
        match found.first()? {
            Found::Value { payload: other, .. } => parting(&payload, other, self.limits.largest),
            _ => None,
        }
    }

    /// Whether the source that held a key is a file.
    pub(super) fn is_of_file(&self, suspect: &Suspect) -> bool {
        let source = suspect.source.as_ref();
        let source = source.and_then(|(source, _)| self.plan.sources.get(*source as usize));
        source.is_some_and(|source| !matches!(source.place, Place::Server(_)))
    }

    /// Who looks at the keys of a source; `None` if it is a file.
    fn eyes(&mut self, source: usize) -> Option<&mut Eyes> {
        let Place::Server(place) = &self.plan.sources.get(source)?.place else { return None };
        let server = self.facts.sources.get(source)?.as_ref().and_then(|facts| facts.server);
        let made = || Eyes::new(self.net.clone(), place.clone(), (server, self.seed), self.limits);
        Some(self.sources.get_mut(source)?.get_or_insert_with(made))
    }

    /// What the target holds of the first of these keys.
    async fn of_target(
        &mut self,
        keys: &[&mut Open],
    ) -> Result<Vec<Result<Held, Doubt>>, FetchError> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let Some(target) = &mut self.target else {
            return Ok(keys.iter().map(|key| Ok(key.suspect.found)).collect());
        };
        let names: Vec<&[u8]> = keys.iter().map(|key| key.suspect.name.as_slice()).collect();
        let times = target_times(self.facts, self.net);
        target.eyes.look(first.suspect.db, &names, &times, None).await
    }

    /// Waits until the job has brought what the source had sent up to there. `false`: it does not, and is not waited for again.
    async fn wait_for(&mut self, source: usize, at: Option<Offset>) -> Result<bool, ControlError> {
        let comes = match (at, self.plan.sources.get(source)) {
            (Some(at), Some(of)) => match &mut self.target {
                Some(target) => target.records.comes(&of.name, at).await?,
                None => false,
            },
            _ => false,
        };
        if let Some(follows) = self.follows.get_mut(source).filter(|_| !comes) {
            *follows = false;
            let name = self.plan.sources.get(source).map(|source| source.name.as_str());
            warn!(
                source = name,
                "no job brings what is written to this source now: what differs may be on its way"
            );
        }
        Ok(comes)
    }
}

/// Whether rules want the value of this type that was digested last.
pub(super) fn admits(rules: &Rules, kind: ValueType, digester: &Digester) -> bool {
    rules.admits(kind) && digester.module().is_none_or(|module| rules.admits_values_of(module))
}

/// How a source's deadlines are to be understood, when our clock shows this.
pub(in super::super) fn times_of(source: &Source, clocks: Clocks, unix_ms: i64) -> Times {
    Times {
        now_ms: unix_ms.saturating_add(clocks.source),
        later_by: source.rules.ttl().extends().saturating_add(clocks.apart()),
        held_back: false,
    }
}

/// How the target's deadlines are to be understood now.
fn target_times(facts: &Facts, net: &Net) -> Times {
    let now_ms = net.clock().unix_ms().saturating_add(facts.clocks(0).target);
    Times { now_ms, later_by: 0, held_back: is_under_way(facts) }
}

/// Whether a job brings what this source is sent to the target, by what that says.
pub(super) fn follows(facts: &Facts, source: usize) -> bool {
    let stored = facts.records.get(source).and_then(Option::as_ref);
    let record = stored.and_then(|stored| Record::decode(stored).ok());
    record.is_some_and(|record| record.phase != Phase::Done)
}

/// Where a key is asked for: in which database, and of which sources.
fn home(one: &Open) -> impl Iterator<Item = (Db, usize, bool)> + use<'_> {
    let db = one.suspect.db;
    std::iter::once((db, usize::MAX, true))
        .chain(one.owners.iter().map(move |owner| (db, owner.source, owner.key.is_some())))
}
