//! What a report tells, in the form of its JSON. The page shows the same and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use understudy::flow::{Ended, SourceReport};
use understudy::key::Db;
use understudy::plan::{Facts, Finding, Place, Plan, ServerFacts};
use understudy::progress::{Course, History, TYPES};

use super::Told;

/// The version of the report's form.
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(super) version: u32,
    /// The tool, with its version.
    pub(super) tool: &'static str,
    pub(super) command: &'static str,
    pub(super) job: String,
    pub(super) ended_at: String,
    pub(super) outcome: Ended,
    pub(super) seconds: f64,
    pub(super) totals: Totals,
    pub(super) findings: Vec<Found>,
    pub(super) sources: Vec<Source>,
    pub(super) target: Target,
    pub(super) conflicts: Vec<Conflict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) census: Option<Value>,
    /// What only one command tells, under the command's name.
    #[serde(flatten, serialize_with = "by_name")]
    pub(super) sections: Vec<Section>,
    /// Written apart, as one line.
    #[serde(skip)]
    pub(super) history: Option<History>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) keys: u64,
    pub(super) commands: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) place: String,
    pub(super) evidence: String,
    pub(super) mend: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) server: Option<String>,
    pub(super) tls: Option<&'static str>,
    pub(super) outcome: Ended,
    pub(super) method: &'static str,
    pub(super) keys: u64,
    pub(super) commands: u64,
    pub(super) bytes: u64,
    /// Keys of the copy that the rules choose, by type.
    pub(super) types: Numbers,
    pub(super) removals_without_effect: u64,
    pub(super) full_syncs: u64,
    pub(super) partial_syncs: u64,
    pub(super) offset: u64,
    pub(super) lag_bytes: Option<u64>,
    pub(super) conflicts: Option<u64>,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) filtered: Numbers,
    pub(super) expired: Numbers,
    pub(super) errors: u64,
    pub(super) failure: Option<String>,
    pub(super) deadlines_held_back: Option<u64>,
    pub(super) unproven: u64,
    pub(super) removed_unowned: u64,
    pub(super) seconds: Seconds,
}

/// Those that are not zero.
pub(super) type Numbers = BTreeMap<&'static str, u64>;

#[derive(Debug, Default, Serialize)]
pub(super) struct Seconds {
    pub(super) copy: Option<f64>,
    pub(super) stream: Option<f64>,
    pub(super) outage: Option<f64>,
    /// By the words for what it did, to a fifth of a second.
    pub(super) phases: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) server: Option<String>,
    pub(super) tls: Option<&'static str>,
    pub(super) keys_before: Option<u64>,
    pub(super) keys_after: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Conflict {
    pub(super) source: String,
    pub(super) db: u32,
    #[serde(serialize_with = "as_text")]
    pub(super) key: Vec<u8>,
}

/// What only one command tells.
#[derive(Debug)]
pub(crate) struct Section {
    /// The field that it is in the JSON.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// What is in that field.
    pub(crate) fields: Value,
    /// Whether all is well, and what it comes to.
    pub(crate) verdict: (bool, String),
    /// Its numbers on the page, each with what it is.
    pub(crate) facts: Vec<(String, String)>,
    /// A table of the page, what it is and its heads; none without rows.
    pub(crate) about_rows: String,
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Document {
    /// What is told of a run of this command.
    pub(crate) fn new(command: &'static str, told: &Told<'_>, ended_at: String) -> Self {
        let Told { run, plan, facts, findings, keys_after, census, history } = told;
        let sum = |number: fn(&SourceReport) -> u64| run.sources.iter().map(number).sum::<u64>();
        let sources = run.sources.iter().enumerate().map(|(index, report)| {
            let place = plan.sources.get(index).map(|source| &source.place);
            let facts = facts.sources.get(index).and_then(Option::as_ref);
            let course = history.and_then(|history| history.lanes().get(index));
            Source::new(report, place, facts, course)
        });
        Self {
            version: VERSION,
            tool: concat!("understudy ", env!("CARGO_PKG_VERSION")),
            command,
            job: plan.job.name.clone(),
            ended_at,
            outcome: census.as_ref().map_or_else(|| run.ended(), |(ended, _)| *ended),
            seconds: run.seconds,
            totals: Totals {
                keys: sum(|source| source.numbers.keys),
                commands: sum(|source| source.numbers.commands),
                bytes: sum(|source| source.numbers.bytes),
            },
            findings: findings.iter().map(Found::new).collect(),
            sources: sources.collect(),
            target: Target::new(plan, facts, *keys_after),
            conflicts: run.sources.iter().flat_map(conflicts).take(100).collect(),
            census: census.as_ref().map(|(_, census)| census.clone()),
            sections: Vec::new(),
            history: history.cloned(),
        }
    }

    /// How it ended, where more is known of it than of its sources.
    pub(crate) fn ended(mut self, ended: Ended) -> Self {
        self.outcome = ended;
        self
    }

    /// With what only this command tells.
    pub(crate) fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// The lines of its JSON. What goes on over time is one of them: nobody reads it, and it would be most of them.
    pub(super) fn json(&self) -> String {
        let mut text = format!("{:#}", json!(self));
        if let Some(history) = &self.history {
            let body = text.trim_end_matches(['}', '\n']).len();
            text.truncate(body);
            text.push_str(&format!(",\n  \"history\": {}\n}}", over_time(history, &self.sources)));
        }
        text.push('\n');
        text
    }
}

impl Found {
    fn new(finding: &Finding) -> Self {
        let Finding { place, evidence, mend, .. } = finding.clone();
        Self { place, evidence, mend }
    }
}

impl Source {
    fn new(
        source: &SourceReport,
        place: Option<&Place>,
        facts: Option<&ServerFacts>,
        course: Option<&Course>,
    ) -> Self {
        let now = &source.numbers;
        let types = TYPES.into_iter().zip(now.types);
        let lasted = course.into_iter().flat_map(|course| &course.lasted);
        let lasted = lasted.map(|(what, long)| (*what, hundredths(*long)));
        Self {
            name: source.name.clone(),
            server: server(facts),
            tls: tls(place),
            outcome: source.ended,
            method: source.method,
            keys: now.keys,
            commands: now.commands,
            bytes: now.bytes,
            types: numbers(types),
            removals_without_effect: now.without_effect,
            full_syncs: now.full_syncs,
            partial_syncs: now.partial_syncs,
            offset: now.confirmed_offset,
            lag_bytes: lag(source),
            conflicts: source.conflicts,
            skipped: source.skipped.clone(),
            filtered: numbers(filtered(source)),
            expired: numbers([("keys", now.expired)]),
            errors: u64::from(source.failure.is_some()),
            failure: source.failure.as_ref().map(|(text, _)| text.clone()),
            deadlines_held_back: source.held_back,
            unproven: source.unproven,
            removed_unowned: source.removed_unowned,
            seconds: Seconds {
                copy: source.copy_seconds,
                stream: source.stream_seconds,
                outage: source.outage_seconds,
                phases: lasted.filter(|(_, seconds)| *seconds > 0.0).collect(),
            },
        }
    }
}

impl Target {
    fn new(plan: &Plan, facts: &Facts, keys_after: Option<u64>) -> Self {
        Self {
            name: plan.target.to_string(),
            server: server(facts.target.as_ref()),
            tls: tls(Some(&plan.target)),
            keys_before: facts.target.as_ref().map(ServerFacts::keys_in_all),
            keys_after,
        }
    }
}

/// What the rules left out, by reason.
pub(super) fn filtered(source: &SourceReport) -> [(&'static str, u64); 6] {
    let now = &source.numbers;
    [
        ("databases", now.left_out_databases),
        ("keys", now.left_out_keys),
        ("types", now.left_out_types),
        ("commands", now.left_out_commands),
        ("commands_on_kept_keys", now.conflict_commands),
        ("flushes", now.flushes),
    ]
}

/// Bytes that the master has written and the target has not confirmed; `None` if nobody can know: without offsets, in the midst of a copy, and
/// of a source that is lost.
pub(super) fn lag(source: &SourceReport) -> Option<u64> {
    use understudy::progress::Awaited;
    let now = &source.numbers;
    let has_offsets = source.method == "psync" && source.copied;
    (has_offsets && now.awaited != Some(Awaited::Source)).then(|| now.lag())
}

/// Family and version; null for a file, and for a server that does not tell.
pub(super) fn server(facts: Option<&ServerFacts>) -> Option<String> {
    facts?.server.map(|server| server.to_string())
}

/// `"verified"`, `"not verified"`, or null where TLS is not spoken.
pub(super) fn tls(place: Option<&Place>) -> Option<&'static str> {
    let Some(Place::Server(server)) = place else { return None };
    server.tls.as_ref().map(|tls| if tls.insecure { "not verified" } else { "verified" })
}

/// Bytes as text, one code point a byte.
pub(in crate::cli) fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn as_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(bytes))
}

fn by_name<S: Serializer>(sections: &[Section], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(sections.iter().map(|section| (section.name, &section.fields)))
}

fn numbers(named: impl IntoIterator<Item = (&'static str, u64)>) -> Numbers {
    named.into_iter().filter(|(_, number)| *number > 0).collect()
}

/// The first hundred keys that were in the target already.
fn conflicts(source: &SourceReport) -> impl Iterator<Item = Conflict> {
    let conflict = |(db, key): &(Db, Vec<u8>)| Conflict {
        source: source.name.clone(),
        db: db.index(),
        key: key.clone(),
    };
    source.conflict_names.iter().map(conflict)
}

fn hundredths(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

/// What went on over time: each number is that of one stretch of time, and `ends` says when each stretch ended, in seconds.
fn over_time(history: &History, sources: &[Source]) -> Value {
    let ends: Vec<f64> = history.ends().iter().copied().map(hundredths).collect();
    let lanes = sources.iter().zip(history.lanes()).map(|(source, course)| {
        let stretches = || course.stretches.iter();
        let mut doing: Vec<(&str, f64)> = Vec::new();
        for (stretch, end) in stretches().zip(&ends) {
            match doing.last_mut() {
                Some((what, until)) if *what == stretch.doing => *until = *end,
                _ => doing.push((stretch.doing, *end)),
            }
        }
        let doing = doing.into_iter().map(|(what, until)| json!({ "phase": what, "until": until }));
        let mut lane = Map::new();
        lane.insert("name".to_owned(), source.name.clone().into());
        lane.insert("keys".to_owned(), stretches().map(|one| one.keys).collect());
        lane.insert("commands".to_owned(), stretches().map(|one| one.commands).collect());
        lane.insert("bytes".to_owned(), stretches().map(|one| one.bytes).collect());
        lane.insert("lag_bytes".to_owned(), stretches().map(|one| json!(one.lag)).collect());
        lane.insert("phases".to_owned(), doing.collect());
        Value::Object(lane)
    });
    json!({ "ends": ends, "sources": lanes.collect::<Vec<_>>() })
}
