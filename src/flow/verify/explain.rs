//! One key, looked at on every side that it may be on. Nothing is written to anybody.

use std::time::Duration;

use tokio::time::sleep;

use crate::change::SHIFT;
use crate::key::Db;
use crate::net::{Control, ControlError, Net, info_field};
use crate::offset::Offset;
use crate::plan::{Facts, Origin, Place, Plan, ServerPlace, Source};
use crate::position::{self, Phase, Record};
use crate::rdb::event::ModuleId;
use crate::slots::slot_of;
use crate::source::{FetchError, Fetcher, Found, Limits};
use crate::verify::{
    Compared, Content, Digester, Dumped, Held, Measure, Presence, Seen, Standing, Times,
};

use super::super::held;
use super::super::lane::chain;
use super::super::names::claims_noted;
use super::again::times_of;
use super::is_under_way;
use super::run::measures;

/// Which key is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// Its database; without one that of the source's place, else 0.
    pub db: Option<Db>,
    /// Name and database are those in the target.
    pub is_of_target: bool,
}

/// What was seen of a key.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// With each source that it may come from, in the order of the plan.
    pub seen: Vec<Seen>,
    /// Sources whose renames do not tell which key of them it is, by their places in the plan.
    pub unnamed: Vec<usize>,
    /// How many keys the target has evicted, if it evicts any.
    pub evicted: Option<u64>,
}

/// How often both sides are looked at until it is plain whether they differ.
const LOOKS: u32 = 6;

/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at a key. What cannot be asked is told as such.
pub async fn explain(net: &Net, (plan, facts): (&Plan, &Facts), asked: Question<'_>) -> Explained {
    let mut explained = Explained::default();
    let kept = held::from_folder(plan).ok().flatten().filter(|held| held.keeps);
    let measures = measures(plan, facts, Duration::ZERO);
    for (index, source) in plan.sources.iter().enumerate() {
        let (db, key) = match here(source, asked) {
            Here::Key(db, key) => (db, key),
            Here::Unknown => {
                explained.unnamed.push(index);
                continue;
            }
            Here::No => continue,
        };
        if let Place::Server(place) = &source.place
            && place.shard().is_some_and(|(_, shard)| !shard.slots.has(slot_of(&key)))
        {
            // Another part of the cluster has it.
            continue;
        }
        let measure = measures.get(index).copied().unwrap_or_default();
        let mut pair = Pair::new(net, (plan, facts), index, source, measure);
        let mut seen = pair.look(db, &key).await;
        if let (Some(kept), Some(place)) = (&kept, seen.place) {
            seen.is_kept = kept.keys.has(place, &seen.name);
        }
        if let Some(place) = seen.place {
            let claims = claims_noted(plan, place, &seen.name).unwrap_or_default();
            seen.claims = claims.iter().map(usize::from).collect();
        }
        explained.seen.push(seen);
    }
    if let (Place::Server(place), Some(target)) = (&plan.target, &facts.target)
        && target.evicts.is_some()
    {
        explained.evicted = evicted(net, place).await.ok().flatten();
    }
    explained
}

async fn evicted(net: &Net, place: &ServerPlace) -> Result<Option<u64>, ControlError> {
    let info = Control::open(net, place).await?.info("stats").await?;
    Ok(info_field(&info, "evicted_keys").and_then(|keys| keys.parse().ok()))
}

/// What a key is called on a source.
enum Here {
    Key(Db, Vec<u8>),
    /// Its name does not tell.
    Unknown,
    /// It can be none of its keys.
    No,
}

fn here(source: &Source, asked: Question<'_>) -> Here {
    let rules = &source.rules;
    let only = rules.chosen().filter(|chosen| chosen.len() == 1);
    let db = asked.db.or_else(|| only?.first().copied());
    if !asked.is_of_target {
        return Here::Key(db.unwrap_or_default(), asked.key.to_vec());
    }
    let place = asked.db.or_else(|| rules.place(db?)).unwrap_or_default();
    if !rules.writes(place) {
        return Here::No;
    }
    match rules.names().origin(asked.key) {
        Origin::Key(key) => Here::Key(rules.origin(place), key.into_owned()),
        Origin::Unknown => Here::Unknown,
        Origin::None => Here::No,
    }
}

/// A source and the target.
struct Pair<'a> {
    net: &'a Net,
    plan: &'a Plan,
    facts: &'a Facts,
    index: usize,
    source: &'a Source,
    measure: Measure,
    from: Option<Fetcher>,
    to: Option<Fetcher>,
    digester: Digester,
    limits: Limits,
}

/// What one side holds.
struct Side {
    presence: Presence,
    /// What it is compared by; a sentence where that could not be told.
    held: Result<Held, String>,
    /// Whose value it is, if it is a module's.
    module: Option<ModuleId>,
}

impl Side {
    fn empty(presence: Presence) -> Self {
        Self { presence, held: Ok(None), module: None }
    }
}

impl<'a> Pair<'a> {
    fn new(
        net: &'a Net,
        (plan, facts): (&'a Plan, &'a Facts),
        index: usize,
        source: &'a Source,
        measure: Measure,
    ) -> Self {
        let memory = usize::try_from(plan.memory).unwrap_or(usize::MAX);
        let limits = Limits { largest: memory / 8, room: memory / 16 };
        let fetcher = |place: &Place| match place {
            Place::Server(place) => Some(Fetcher::new(net.clone(), place.clone(), limits)),
            Place::Rdb(_) | Place::Capture(_) => None,
        };
        let (from, to) = (fetcher(&source.place), fetcher(&plan.target));
        let digester = Digester::new(0);
        Self { net, plan, facts, index, source, measure, from, to, digester, limits }
    }

    /// Looks at both sides until it is plain whether they differ, or that it is not.
    async fn look(&mut self, db: Db, key: &[u8]) -> Seen {
        let rules = &self.source.rules;
        let name = rules.names().of(key).into_owned();
        let place = rules.place(db);
        let mut seen = Seen {
            source: self.index,
            db,
            key: key.to_vec(),
            place,
            name,
            left_out: rules.left_out(db, key, None),
            held: Presence::Gone,
            found: Presence::Gone,
            compared: Compared::Same,
            standing: Standing::default(),
            claims: Vec::new(),
            is_kept: false,
        };
        let mut last = None;
        for look in 0..LOOKS {
            if look > 0 {
                sleep(PAUSE).await;
            }
            let (from, at) = self.of_source(db, key).await;
            let record = self.record().await;
            seen.standing = standing(record.as_ref(), at, db, key);
            let to = match place {
                Some(place) => self.of_target(place, &seen.name).await,
                None => Side::empty(Presence::Gone),
            };
            if let Ok(Some((content, _))) = &from.held {
                seen.left_out = rules.left_out(db, key, Some((content.kind, from.module)));
            }
            (seen.held, seen.found) = (from.presence, to.presence);
            let (from, to) = match (from.held, to.held) {
                (Ok(from), Ok(to)) => (from, to),
                (Err(why), _) | (_, Err(why)) => {
                    seen.compared = Compared::Unknown(why);
                    return seen;
                }
            };
            let Some(kind) = self.measure.differs(from, to) else {
                seen.compared = Compared::Same;
                return seen;
            };
            seen.compared = Compared::Differs(kind);
            let stood_still = last == Some((from, to));
            last = Some((from, to));
            let lags =
                matches!(seen.standing, Standing::Following { behind, .. } if behind != Some(0));
            // What is left out is not compared.
            if stood_still && !lags || seen.left_out.is_some() {
                return seen;
            }
            if look + 1 == LOOKS && !stood_still {
                seen.compared = Compared::Moves;
            }
        }
        seen
    }

    /// What the source holds, and where its stream was then.
    async fn of_source(&mut self, db: Db, key: &[u8]) -> (Side, Option<Offset>) {
        let Some(fetcher) = &mut self.from else {
            return (
                unread(&format!(
                    "{} is a file, which is not asked for one key: understudy rdb cat shows all of it",
                    self.source.place
                )),
                None,
            );
        };
        let looked = fetcher.look(db, &[key]).await;
        // What it had sent before comes first.
        let at = match &looked {
            Ok(_) => fetcher.offset().await.ok().flatten(),
            Err(_) => None,
        };
        let now_ms = self.net.clock().unix_ms();
        let times = times_of(self.source, self.facts.clocks(self.index), now_ms);
        (self.side("the source", looked, &times), at)
    }

    async fn of_target(&mut self, db: Db, name: &[u8]) -> Side {
        let Some(fetcher) = &mut self.to else {
            return unread(&format!(
                "{} is a file, which is not asked for one key: understudy rdb cat shows all of it",
                self.plan.target
            ));
        };
        let looked = fetcher.look(db, &[name]).await;
        let ahead = self.facts.clocks(self.index).target;
        let now_ms = self.net.clock().unix_ms().saturating_add(ahead);
        let held_back = is_under_way(self.facts);
        self.side("the target", looked, &Times { now_ms, later_by: 0, held_back })
    }

    fn side(&mut self, who: &str, looked: Result<Vec<Found>, FetchError>, times: &Times) -> Side {
        let found = match looked {
            Ok(found) => found.into_iter().next().unwrap_or(Found::Gone),
            Err(error) => return unread(&format!("{who}: {}", chain(&error))),
        };
        let (payload, at) = match found {
            Found::Gone => return Side::empty(Presence::Gone),
            Found::Expired => return Side::empty(Presence::Expired),
            Found::TooLarge { bytes } => {
                let presence =
                    Presence::There { kind: None, bytes, deadline: None, is_held_back: false };
                let why =
                    format!("{who} holds {bytes} bytes, too many to be read with this --memory");
                return Side { presence, held: Err(why), module: None };
            }
            Found::Value { payload, deadline } => (payload, deadline),
        };
        let is_held_back = times.held_back && at.is_some_and(|at| at >= SHIFT);
        let deadline = at.map(|at| if is_held_back { at - SHIFT } else { at });
        if deadline.is_some_and(|at| at <= times.now_ms) && !is_held_back {
            return Side::empty(Presence::Expired);
        }
        let content = Dumped::content(&payload, self.limits.largest, &mut self.digester, times);
        let there = |content: Option<&Content>| Presence::There {
            kind: content.map(|content| content.kind),
            bytes: payload.len(),
            deadline,
            is_held_back,
        };
        match content {
            Ok(content) => {
                let until = at.map(|at| times.lives_until(at));
                let held = match until {
                    Some(None) => None,
                    until => content.map(|content| (content, until.flatten())),
                };
                let module = self.digester.module();
                Side { presence: there(content.as_ref()), held: Ok(held), module }
            }
            Err(error) => {
                let held = Err(format!("{who}: {error}"));
                Side { presence: there(None), held, module: None }
            }
        }
    }

    /// What the job's record says now.
    async fn record(&self) -> Option<Record> {
        let Place::Server(place) = &self.plan.target else { return None };
        let mut control = Control::open(self.net, place).await.ok()?;
        let db = self.plan.record_db().to_string();
        control.ask::<()>("SELECT", &[db.as_bytes()]).await.ok()?;
        let name = position::key(&self.plan.job.name, &self.source.name);
        let stored: Option<Vec<u8>> = control.ask("GET", &[&name]).await.ok()?;
        Record::decode(&stored?).ok()
    }
}

fn unread(why: &str) -> Side {
    Side { presence: Presence::Unread(why.to_owned()), held: Err(why.to_owned()), module: None }
}

/// How far a source has been brought when it was here.
fn standing(record: Option<&Record>, at: Option<Offset>, db: Db, key: &[u8]) -> Standing {
    let Some(record) = record else { return Standing::NoJob };
    match record.phase {
        Phase::Copying => Standing::Copying,
        Phase::Done => Standing::Done,
        Phase::Following | Phase::Finishing => Standing::Following {
            // A master without PSYNC has no offsets.
            behind: at
                .filter(|_| record.replid.is_some())
                .map(|at| at.get().saturating_sub(record.clean.offset)),
            in_doubt: record.doubts().any(|doubt| doubt == (db, key)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Spot;
    use crate::repl::Latin1;

    fn record(phase: Phase) -> Record {
        Record {
            job: "job".to_owned(),
            source: "a:1".to_owned(),
            rules: String::new(),
            owner: String::new(),
            generation: 1,
            phase,
            copies: 1,
            sole: true,
            replid: Some("f".repeat(40)),
            applied: Spot { offset: 90, db: 0 },
            clean: Spot { offset: 70, db: 0 },
            doubts: vec![(3, Latin1(b"odd".to_vec()))],
            horizon: 0,
            good: 0,
            unsure: false,
            written: None,
            ended: None,
            unproven: 0,
        }
    }

    #[test]
    fn a_record_tells_how_far_a_source_has_come() {
        let at = |offset| Some(Offset::new(offset));
        let of = |record: &Record, at, db, key: &[u8]| standing(Some(record), at, Db::new(db), key);
        assert_eq!(standing(None, at(90), Db::default(), b"odd"), Standing::NoJob);
        assert_eq!(of(&record(Phase::Copying), at(90), 0, b"k"), Standing::Copying);
        assert_eq!(of(&record(Phase::Done), at(90), 0, b"k"), Standing::Done);
        let follows = record(Phase::Following);
        let following = |behind, in_doubt| Standing::Following { behind, in_doubt };
        // What ran and was not seen to does not count.
        assert_eq!(of(&follows, at(90), 0, b"odd"), following(Some(20), false));
        assert_eq!(of(&follows, at(60), 3, b"odd"), following(Some(0), true));
        let without = Record { replid: None, ..follows };
        assert_eq!(of(&without, at(90), 3, b"k"), following(None, false));
    }
}
