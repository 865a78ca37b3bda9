//! `--dry-run --census`: what the sources hold, as tables and as JSON.

use std::sync::Arc;

use serde_json::{Value, json};
use understudy::census::{
    self, Collision, Forecast, Found, Large, Lifetime, MemoryFrom, Need, Prefixes, Tally, TypeTally,
};
use understudy::flow::{self, Census, Ended, TargetKeys};
use understudy::key::Escaped;
use understudy::net::Net;
use understudy::plan::{Facts, Finding, OnConflict, Place, Plan, judge, remarks};
use understudy::progress::{Counters, History};

use super::args::Sync;
use super::outcome::Outcome;
use super::progress::{Mode, Show, Watched, grouped, size, span};
use super::report::{self, Files, as_f64, or_dash, table, text};
use super::signals::Signals;
use super::{notice, terminal};

/// How many of the largest keys, and of the prefixes, are shown.
const SHOWN: usize = 10;

/// What a dry run has found before the census.
pub(super) struct Asked<'a> {
    pub(super) args: &'a Sync,
    pub(super) plan: &'a Plan,
    pub(super) facts: &'a Facts,
    /// What stands in the way of the run itself.
    pub(super) findings: &'a [Finding],
}

/// Takes the census, and tells what it has found.
pub(super) async fn run(net: &Net, asked: &Asked<'_>, signals: &Signals) -> Outcome {
    let Asked { args, plan, facts, findings } = *asked;
    // What is said of the target does not hinder the sources from being counted, and may be why they are.
    let target = plan.target.to_string();
    let of_sources = judge(&Facts { target: None, ..facts.clone() }, plan);
    let of_sources = of_sources.into_iter().filter(|finding| finding.place != target);
    let obstacle = census::obstacle(plan, facts);
    if let Some(Finding { place, evidence, mend, .. }) = &obstacle {
        notice::error(&format!("{place}: {evidence}"), mend);
    }
    if obstacle.is_some() || of_sources.count() > 0 {
        let all: Vec<Finding> = findings.iter().cloned().chain(obstacle).collect();
        return report::nothing_done(files(args), plan, facts, Ended::Refused, &all);
    }
    for remark in remarks(facts, plan) {
        notice::warning(&format!("{}: {}", remark.place, remark.evidence), &remark.mend);
    }
    let mode = args.writing.bounds.progress;
    if mode != Mode::None {
        notice::note(&beforehand(plan, facts));
    }
    let counters: Vec<Arc<Counters>> =
        plan.sources.iter().map(|_| Arc::default()).chain([Arc::default()]).collect();
    let show = Show::begin(mode, watched_all(plan, facts, &counters), net.clock());
    let taken = flow::census(net, plan, facts, &counters, signals.orders()).await;
    let history = show.end().await;

    for source in &taken.report.sources {
        if let Some((failure, advice)) = &source.failure {
            notice::error(&format!("{}: {failure}", source.name), advice);
        }
    }
    if let TargetKeys::Unknown(failure, advice) = &taken.target {
        notice::error(&format!("{}: {failure}", plan.target), advice);
    }
    if let Some((failure, advice)) = &taken.failure {
        notice::error(failure, advice);
    }
    let ended = taken.ended();
    if ended == Ended::Stopped {
        notice::note("stopped: the sources were not counted to the end, and nothing was written");
        return told(asked, (&taken, &history), ended, None);
    }
    let page = Page::new(plan, facts, &taken);
    terminal::result(&page.tables());
    page.warn();
    let collides = page.stops();
    let ended = match ended {
        Ended::Done if !findings.is_empty() => Ended::Refused,
        Ended::Done if collides => Ended::Differences,
        ended => ended,
    };
    if mode != Mode::None {
        notice::note("nothing was written (--dry-run --census)");
    }
    told(asked, (&taken, &history), ended, Some((ended, page.json())))
}

/// Writes the report.
fn told(
    asked: &Asked<'_>,
    (taken, history): (&Census, &History),
    ended: Ended,
    census: Option<(Ended, Value)>,
) -> Outcome {
    let Asked { args, plan, facts, findings } = *asked;
    let keys_after = facts.target.as_ref().map(understudy::plan::ServerFacts::keys_in_all);
    let history = Some(history);
    let told =
        report::Told { run: &taken.report, plan, facts, findings, keys_after, census, history };
    files(args).close(&files(args).document(&told), ended)
}

fn files(args: &Sync) -> Files<'_> {
    Files::new("census", &args.writing.report, args.writing.bounds.progress)
}

fn watched_all(plan: &Plan, facts: &Facts, counters: &[Arc<Counters>]) -> Vec<Watched> {
    let mut all = Watched::all(plan, facts, counters);
    let target = facts.target.as_ref().map(|target| target.keys_that(plan));
    if let (Some(keys), Some(counters)) = (target.filter(|keys| *keys > 0), counters.last()) {
        let (name, counters) = (format!("target {}", plan.target), Arc::clone(counters));
        all.push(Watched { name, counters, expected_keys: Some(keys) });
    }
    all
}

/// What the census itself will take.
fn beforehand(plan: &Plan, facts: &Facts) -> String {
    let masters = plan.sources.iter().filter(|one| matches!(one.place, Place::Server(_))).count();
    let need = Need::of(plan, facts);
    let files = if masters < plan.sources.len() { ", and those of the files," } else { "" };
    let folder = plan.spool.folder.as_ref();
    let folder = folder.map_or_else(String::new, |folder| format!(" in {}", folder.display()));
    format!(
        "census: {masters} masters fork and save their data sets once; the names of about {} keys{files} are kept{folder} meanwhile, about {} ({} may be used)",
        grouped(need.keys),
        size(as_f64(need.bytes)),
        size(as_f64(plan.spool_limit(facts))),
    )
}

/// What was found, to be shown.
struct Page<'a> {
    plan: &'a Plan,
    taken: &'a Census,
    total: Tally,
    forecast: Forecast,
}

impl<'a> Page<'a> {
    fn new(plan: &'a Plan, facts: &Facts, taken: &'a Census) -> Self {
        let mut total = Tally::default();
        taken.tallies.iter().flatten().for_each(|tally| total.merge(tally));
        let tallies: Vec<Option<&Tally>> = taken.tallies.iter().map(Option::as_ref).collect();
        let forecast = census::forecast(plan, facts, &tallies, taken.reading);
        Self { plan, taken, total, forecast }
    }

    /// Whether a run of this plan would stop at a collision.
    fn stops(&self) -> bool {
        let Some(found) = &self.taken.found else { return false };
        let is_chosen =
            matches!(self.plan.on_conflict, Some(OnConflict::Keep | OnConflict::Replace));
        !is_chosen && (found.between_sources > 0 || found.with_target > 0)
    }

    fn place(&self, place: u32) -> String {
        let source = usize::try_from(place).ok().and_then(|at| self.plan.sources.get(at));
        source.map_or_else(|| format!("target {}", self.plan.target), |source| source.name.clone())
    }

    /// The largest keys of all sources, the largest first.
    fn largest(&self) -> Vec<(&str, &Large)> {
        let sources = self.plan.sources.iter().zip(&self.taken.tallies);
        let each =
            sources.filter_map(|(source, tally)| Some((source.name.as_str(), tally.as_ref()?)));
        let mut all: Vec<_> = each
            .flat_map(|(name, tally)| {
                tally.largest.sorted().into_iter().map(move |one| (name, one))
            })
            .collect();
        all.sort_by(|(_, a), (_, b)| b.cmp(a));
        all.truncate(SHOWN);
        all
    }

    fn tables(&self) -> String {
        let mut parts = vec![self.sources(), self.kinds(), self.lifetimes(), self.large_keys()];
        parts.extend([self.prefixes(), self.collisions(), self.foreseen()]);
        parts.retain(|part| !part.is_empty());
        format!("\n{}\n", parts.join("\n\n"))
    }

    fn sources(&self) -> String {
        let heads = ["source", "keys", "bytes", "largest", "with deadline", "left out", "seconds"];
        let mut table = table(&heads, 1);
        let row = |name: &str, tally: &Tally, seconds: Option<f64>| {
            [
                name.to_owned(),
                grouped(tally.keys),
                size(as_f64(tally.bytes)),
                or_dash(tally.largest.sorted().first().map(|one| size(as_f64(one.bytes)))),
                grouped(tally.with_deadline()),
                grouped(tally.left_out),
                or_dash(seconds.map(|seconds| format!("{seconds:.2}"))),
            ]
        };
        let sources = self.plan.sources.iter().zip(&self.taken.tallies).zip(&self.taken.seconds);
        for ((source, tally), seconds) in sources {
            match tally {
                Some(tally) => table.add_row(row(&source.name, tally, *seconds)),
                None => table.add_row([source.name.clone(), "not counted".to_owned()]),
            };
        }
        if self.plan.sources.len() > 1 {
            let mut total = row("total", &self.total, Some(self.taken.reading));
            if let (Some((_, largest)), Some(place)) = (self.largest().first(), total.get_mut(3)) {
                *place = size(as_f64(largest.bytes));
            }
            table.add_row(total);
        }
        table.to_string()
    }

    fn kinds(&self) -> String {
        let mut table = table(&["type", "keys", "bytes"], 1);
        for TypeTally { kind, keys, bytes } in &self.total.types {
            table.add_row([kind.name().to_owned(), grouped(*keys), size(as_f64(*bytes))]);
        }
        table.to_string()
    }

    fn lifetimes(&self) -> String {
        let mut table = table(&["time to live", "keys"], 1);
        for (lifetime, keys) in Lifetime::ALL.into_iter().zip(self.total.lifetimes) {
            table.add_row([lifetime_words(lifetime).0.to_owned(), grouped(keys)]);
        }
        table.to_string()
    }

    fn large_keys(&self) -> String {
        let mut table = table(&["largest keys of", "db", "key", "type", "bytes"], 4);
        for (source, large) in self.largest() {
            table.add_row([
                source.to_owned(),
                large.db.to_string(),
                Escaped(&large.key).to_string(),
                large.kind.name().to_owned(),
                size(as_f64(large.bytes)),
            ]);
        }
        table.to_string()
    }

    fn prefixes(&self) -> String {
        let mut table = table(&["names that begin with", "keys", "bytes"], 1);
        for one in self.total.prefixes.largest(SHOWN) {
            let name = match one.prefix.is_empty() {
                true => "(none of : / . | - _)".to_owned(),
                false => Escaped(&one.prefix).to_string(),
            };
            table.add_row([name, grouped(one.keys), size(as_f64(one.bytes))]);
        }
        let about = self.total.prefixes.uncounted().map_or_else(String::new, |(keys, bytes)| {
            format!(
                "\n there are too many prefixes to count all: each may have {} keys and {} more",
                grouped(keys),
                size(as_f64(bytes))
            )
        });
        format!("{table}{about}")
    }

    fn collisions(&self) -> String {
        let Some(found) = &self.taken.found else {
            return " collisions: not known".to_owned();
        };
        let of_target = match &self.taken.target {
            TargetKeys::None => String::new(),
            TargetKeys::Own => "; the target's keys are this job's own".to_owned(),
            TargetKeys::Counted(keys) => {
                format!("; {} keys of the target were compared too", grouped(*keys))
            }
            TargetKeys::Unknown(..) => "; the target's keys are not known".to_owned(),
        };
        if found.colliding == 0 {
            return format!(" collisions: none of {} names{of_target}", grouped(found.names));
        }
        let mut pairs = table(&["collisions of", "and", "keys"], 2);
        for ((first, second), keys) in &found.pairs {
            let second = match first == second {
                true => "itself, by its rules".to_owned(),
                false => self.place(*second),
            };
            pairs.add_row([self.place(*first), second, grouped(*keys)]);
        }
        let mut named = table(&["db", "key", "in"], 3);
        for Collision { db, name, places } in &found.named {
            let places: Vec<String> = places.iter().map(|place| self.place(*place)).collect();
            named.add_row([db.to_string(), Escaped(name).to_string(), places.join(", ")]);
        }
        format!(
            " collisions: {} of {} names{of_target}\n\n{pairs}\n\n{named}",
            grouped(found.colliding),
            grouped(found.names)
        )
    }

    fn foreseen(&self) -> String {
        let Forecast { seconds, reading, keys_per_s, bytes_per_s, memory, room, .. } =
            self.forecast;
        let room = room.map_or_else(
            || "; the target does not tell what it has".to_owned(),
            |room| {
                let what = if room.is_set { "maxmemory" } else { "its machine's memory" };
                let (free, limit) = (size(as_f64(room.free())), size(as_f64(room.limit)));
                format!("; it has {free} ({what} {limit} less what it uses)")
            },
        );
        format!(
            " a copy takes about {}: reading took {}, and the target is taken to write {} keys or {} a second\n the target needs about {} of memory, {}{room}",
            span(seconds),
            span(reading),
            grouped(keys_per_s),
            size(as_f64(bytes_per_s)),
            size(as_f64(memory)),
            memory_words(self.forecast.memory_from),
        )
    }

    /// Says what of the forecast is bad news.
    fn warn(&self) {
        let Some(room) = self.forecast.room.filter(|room| room.free() < self.forecast.memory)
        else {
            return;
        };
        let (what, mend) = match room.is_set {
            true => (
                "maxmemory less what it uses",
                "raise maxmemory there, or leave keys out with --exclude or --type",
            ),
            false => (
                "the memory of its machine less what it uses",
                "give a larger one, or leave keys out with --exclude or --type",
            ),
        };
        notice::warning(
            &format!(
                "{}: the keys of the sources need about {}, and it has {} ({what})",
                self.plan.target,
                size(as_f64(self.forecast.memory)),
                size(as_f64(room.free())),
            ),
            mend,
        );
    }

    fn json(&self) -> Value {
        let sources = self.plan.sources.iter().zip(&self.taken.tallies).zip(&self.taken.seconds);
        let sources = sources.map(|((source, tally), seconds)| {
            let counted = tally.as_ref().map(|tally| {
                let largest = tally.largest.sorted();
                json!({
                    "counts": counts(tally),
                    "largest": largest.into_iter().map(|one| large(&source.name, one)).collect::<Vec<_>>(),
                    "prefixes": prefixes(&tally.prefixes),
                })
            });
            json!({ "name": source.name, "seconds": seconds, "counted": counted })
        });
        let largest = self.largest();
        let forecast = &self.forecast;
        json!({
            "sources": sources.collect::<Vec<_>>(),
            "counts": counts(&self.total),
            "largest": largest.into_iter().map(|(name, one)| large(name, one)).collect::<Vec<_>>(),
            "prefixes": prefixes(&self.total.prefixes),
            "target_keys": match &self.taken.target {
                TargetKeys::None => Some(0),
                TargetKeys::Counted(keys) => Some(*keys),
                TargetKeys::Own | TargetKeys::Unknown(..) => None,
            },
            "collisions": self.taken.found.as_ref().map(|found| self.collisions_json(found)),
            "would_stop": self.stops(),
            "forecast": {
                "copy_seconds": forecast.seconds,
                "reading_seconds": forecast.reading,
                "keys_per_s": forecast.keys_per_s,
                "bytes_per_s": forecast.bytes_per_s,
                "memory_bytes": forecast.memory,
                "memory_from": memory_words(forecast.memory_from),
                "target_memory_bytes": forecast.room.map(|room| room.limit),
                "target_free_bytes": forecast.room.map(|room| room.free()),
            },
            "disk_bytes": self.taken.on_disk,
        })
    }

    fn collisions_json(&self, found: &Found) -> Value {
        let pairs = found.pairs.iter().map(|((first, second), keys)| {
            json!({ "first": self.place(*first), "second": self.place(*second), "keys": keys })
        });
        let named = found.named.iter().map(|Collision { db, name, places }| {
            let places: Vec<String> = places.iter().map(|place| self.place(*place)).collect();
            json!({ "db": db.index(), "key": text(name), "in": places })
        });
        json!({
            "names": found.names,
            "colliding": found.colliding,
            "between_sources": found.between_sources,
            "with_target": found.with_target,
            "pairs": pairs.collect::<Vec<_>>(),
            "named": named.collect::<Vec<_>>(),
        })
    }
}

fn counts(tally: &Tally) -> Value {
    let types = tally.types.iter().map(|TypeTally { kind, keys, bytes }| {
        json!({ "type": kind.name(), "keys": keys, "bytes": bytes })
    });
    let lifetimes = Lifetime::ALL.into_iter().zip(tally.lifetimes);
    let lifetimes: serde_json::Map<String, Value> = lifetimes
        .map(|(lifetime, keys)| (lifetime_words(lifetime).1.to_owned(), keys.into()))
        .collect();
    json!({
        "keys": tally.keys,
        "bytes": tally.bytes,
        "with_deadline": tally.with_deadline(),
        "left_out": tally.left_out,
        "types": types.collect::<Vec<_>>(),
        "time_to_live": lifetimes,
    })
}

fn large(source: &str, large: &Large) -> Value {
    json!({
        "source": source,
        "db": large.db.index(),
        "key": text(&large.key),
        "type": large.kind.name(),
        "bytes": large.bytes,
    })
}

fn prefixes(prefixes: &Prefixes) -> Value {
    let each = prefixes
        .largest(SHOWN)
        .into_iter()
        .map(|one| json!({ "prefix": text(&one.prefix), "keys": one.keys, "bytes": one.bytes }));
    let uncounted = prefixes.uncounted();
    json!({
        "each": each.collect::<Vec<_>>(),
        "approximate": uncounted.is_some(),
        "uncounted_keys_at_most": uncounted.map_or(0, |(keys, _)| keys),
        "uncounted_bytes_at_most": uncounted.map_or(0, |(_, bytes)| bytes),
    })
}

/// In a table, and in JSON.
fn lifetime_words(lifetime: Lifetime) -> (&'static str, &'static str) {
    match lifetime {
        Lifetime::Endless => ("no deadline", "none"),
        Lifetime::Past => ("past already", "past"),
        Lifetime::Minute => ("under 1 m", "under_1m"),
        Lifetime::Hour => ("under 1 h", "under_1h"),
        Lifetime::Day => ("under 1 d", "under_1d"),
        Lifetime::Month => ("under 30 d", "under_30d"),
        Lifetime::Longer => ("more", "more"),
    }
}

fn memory_words(from: MemoryFrom) -> &'static str {
    match from {
        MemoryFrom::Sources => "by used_memory of the sources",
        MemoryFrom::DataSet => "reckoned from names and values",
        MemoryFrom::Both => {
            "by used_memory of the sources that tell it, else reckoned from names and values"
        }
    }
}
