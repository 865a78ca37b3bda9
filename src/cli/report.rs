//! The final report, as a table and as JSON.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use understudy::flow::{Ended, Report, SourceReport};
use understudy::plan::{Facts, Finding, Place, Plan, ServerFacts};
use understudy::progress::Awaited;

use super::notice;
use super::outcome::Outcome;
use super::progress::{grouped, size};
use super::terminal;

/// The version of the report's form.
const VERSION: u32 = 1;

/// What a report tells of.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) run: &'a Report,
    pub(crate) plan: &'a Plan,
    pub(crate) facts: &'a Facts,
    /// What stood in the way.
    pub(crate) findings: &'a [Finding],
    /// Keys in the target at the end, if it tells.
    pub(crate) keys_after: Option<u64>,
    /// How a census has ended, and what it has found; `None` if there was none.
    pub(crate) census: Option<(Ended, Value)>,
}

/// The report as JSON.
pub(crate) fn json(told: &Told<'_>) -> String {
    let Told { run, plan, facts, findings, keys_after, census } = told;
    let sum = |number: fn(&SourceReport) -> u64| run.sources.iter().map(number).sum::<u64>();
    let sources = run.sources.iter().enumerate().map(|(index, report)| {
        let place = plan.sources.get(index).map(|source| &source.place);
        let facts = facts.sources.get(index).and_then(Option::as_ref);
        source(report, place, facts)
    });
    let findings = findings.iter().map(|finding| {
        json!({ "place": finding.place, "evidence": finding.evidence, "mend": finding.mend })
    });
    let mut report = json!({
        "version": VERSION,
        "outcome": census.as_ref().map_or_else(|| run.ended(), |(ended, _)| *ended),
        "seconds": run.seconds,
        "totals": {
            "keys": sum(|source| source.numbers.keys),
            "commands": sum(|source| source.numbers.commands),
            "bytes": sum(|source| source.numbers.bytes),
        },
        "findings": findings.collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
        "target": {
            "name": plan.target.to_string(),
            "server": server(facts.target.as_ref()),
            "tls": tls(Some(&plan.target)),
            "keys_before": facts.target.as_ref().map(ServerFacts::keys_in_all),
            "keys_after": keys_after,
        },
        "conflicts": conflicts(run),
    });
    if let (Some(report), Some((_, census))) = (report.as_object_mut(), census) {
        report.insert("census".to_owned(), census.clone());
    }
    format!("{report:#}\n")
}

fn source(source: &SourceReport, place: Option<&Place>, facts: Option<&ServerFacts>) -> Value {
    let now = &source.numbers;
    json!({
        "name": source.name,
        "server": server(facts),
        "tls": tls(place),
        "outcome": source.ended,
        "method": source.method,
        "keys": now.keys,
        "commands": now.commands,
        "bytes": now.bytes,
        "removals_without_effect": now.without_effect,
        "full_syncs": now.full_syncs,
        "partial_syncs": now.partial_syncs,
        "offset": now.confirmed_offset,
        "lag_bytes": lag(source),
        "conflicts": source.conflicts,
        "skipped": source.skipped,
        "filtered": numbers(&filtered(source)),
        "expired": numbers(&[("keys", now.expired)]),
        "errors": u64::from(source.failure.is_some()),
        "failure": source.failure.as_ref().map(|(text, _)| text),
        "deadlines_held_back": source.held_back,
        "unproven": source.unproven,
        "removed_unowned": source.removed_unowned,
        "seconds": { "copy": source.copy_seconds, "stream": source.stream_seconds, "outage": source.outage_seconds },
    })
}

/// What the rules left out, by reason.
fn filtered(source: &SourceReport) -> [(&'static str, u64); 6] {
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
fn lag(source: &SourceReport) -> Option<u64> {
    let now = &source.numbers;
    let has_offsets = source.method == "psync" && source.copied;
    (has_offsets && now.awaited != Some(Awaited::Source)).then(|| now.lag())
}

/// An object of those that are not zero.
fn numbers(named: &[(&str, u64)]) -> Value {
    named.iter().filter(|(_, number)| *number > 0).map(|(name, number)| (*name, *number)).collect()
}

/// Bytes as text, one code point a byte.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The first hundred keys that were in the target already.
fn conflicts(run: &Report) -> Vec<Value> {
    let named = |source: &SourceReport| {
        let name = source.name.clone();
        let keys = source.conflict_names.clone().into_iter();
        keys.map(move |(db, key)| json!({ "source": name, "db": db.index(), "key": text(&key) }))
    };
    run.sources.iter().flat_map(named).take(100).collect()
}

/// Family and version; null for a file, and for a server that does not tell.
fn server(facts: Option<&ServerFacts>) -> Option<String> {
    facts?.server.map(|server| server.to_string())
}

/// `"verified"`, `"not verified"`, or null where TLS is not spoken.
fn tls(place: Option<&Place>) -> Option<&'static str> {
    let Some(Place::Server(server)) = place else { return None };
    server.tls.as_ref().map(|tls| if tls.insecure { "not verified" } else { "verified" })
}

/// The final tables, on stdout: what of each source has arrived, and how it was read; then the target. `servers` are those of the sources.
pub(crate) fn print_tables(run: &Report, servers: &[Option<String>]) {
    terminal::result(&format!("{}\n\n{}\n", arrived(run), read(run, servers)));
}

/// What of each source has arrived.
fn arrived(run: &Report) -> Table {
    let heads = ["source", "outcome", "keys", "commands", "bytes", "lag", "copy s", "stream s"];
    let mut table = table(&heads, 2);
    let seconds = |seconds: Option<f64>| or_dash(seconds.map(|s| format!("{s:.2}")));
    let size = |bytes: u64| size(as_f64(bytes));
    let word = |ended: Ended| format!("{ended:?}").to_lowercase();
    for source in &run.sources {
        let now = &source.numbers;
        table.add_row([
            source.name.clone(),
            word(source.ended),
            grouped(now.keys),
            grouped(now.commands),
            size(now.bytes),
            or_dash(lag(source).map(size)),
            seconds(source.copy_seconds),
            seconds(source.stream_seconds),
        ]);
    }
    if run.sources.len() > 1 {
        let sum = |number: fn(&SourceReport) -> u64| run.sources.iter().map(number).sum::<u64>();
        table.add_row([
            "total".to_owned(),
            word(run.ended()),
            grouped(sum(|source| source.numbers.keys)),
            grouped(sum(|source| source.numbers.commands)),
            size(sum(|source| source.numbers.bytes)),
            or_dash(run.sources.iter().map(lag).sum::<Option<u64>>().map(size)),
        ]);
    }
    table
}

/// How each source was read, and what of it did not come or met something.
fn read(run: &Report, servers: &[Option<String>]) -> Table {
    let heads = ["source", "server", "method", "syncs", "conflicts", "filtered", "skipped"];
    let mut table = table(&heads, 3);
    let mut sums = [0; 5];
    for (index, source) in run.sources.iter().enumerate() {
        let now = &source.numbers;
        let filtered = filtered(source).iter().map(|(_, number)| number).sum();
        let skipped = source.skipped.values().sum();
        let conflicts = source.conflicts.unwrap_or(0);
        let row = [now.full_syncs, now.partial_syncs, conflicts, filtered, skipped];
        sums.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
        table.add_row([
            source.name.clone(),
            or_dash(servers.get(index).cloned().flatten()),
            source.method.to_owned(),
            format!("{}+{}", now.full_syncs, now.partial_syncs),
            or_dash(source.conflicts.map(grouped)),
            grouped(filtered),
            grouped(skipped),
        ]);
    }
    if run.sources.len() > 1 {
        let [full, partial, conflicts, filtered, skipped] = sums;
        let rest = [conflicts, filtered, skipped].map(grouped);
        let head = ["total".to_owned(), String::new(), String::new(), format!("{full}+{partial}")];
        table.add_row([head.to_vec(), rest.to_vec()].concat());
    }
    table
}

/// A table whose columns from this one on hold numbers.
pub(super) fn table(heads: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heads);
    for index in numbers..heads.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "sizes on a screen have three digits")]
pub(super) fn as_f64(number: u64) -> f64 {
    number as f64
}

/// What became of the target, and which places were not verified, on stdout.
pub(crate) fn print_target(told: &Told<'_>) {
    let Told { plan, facts, keys_after, .. } = told;
    if let Some(target) = &facts.target {
        let server = server(Some(target)).map_or_else(String::new, |server| format!(" ({server})"));
        let keys = |keys: Option<u64>| keys.map_or_else(|| "unknown".to_owned(), grouped);
        let before = target.server.map(|_| target.keys_in_all());
        terminal::result(&format!(
            "\n target {}{server}: keys {} -> {}\n",
            plan.target,
            keys(before),
            keys(*keys_after)
        ));
    }
    let places = plan.sources.iter().map(|source| &source.place).chain([&plan.target]);
    for place in places.filter(|place| tls(Some(place)) == Some("not verified")) {
        terminal::result(&format!("the certificate of {place} was not verified\n"));
    }
}

/// The servers that the sources are.
pub(crate) fn servers(facts: &Facts) -> Vec<Option<String>> {
    facts.sources.iter().map(|facts| server(facts.as_ref())).collect()
}

/// Ends a run that has written nothing.
pub(super) fn nothing_done(
    path: Option<&Path>,
    plan: &Plan,
    facts: &Facts,
    ended: Ended,
    findings: &[Finding],
) -> Outcome {
    let sources = plan
        .sources
        .iter()
        .map(|source| SourceReport { ended, ..SourceReport::new(source.name.clone()) });
    let run = Report { sources: sources.collect(), seconds: 0.0 };
    let keys_after = facts.target.as_ref().map(ServerFacts::keys_in_all);
    let told = Told { run: &run, plan, facts, findings, keys_after, census: None };
    let text = json(&told);
    // Nothing was done, and that is said: a report that cannot be written changes nothing about it.
    let _ = write(path, &text);
    ended.into()
}

/// Sees that the report can be written before there is something to report. What an earlier run has left stays until then.
pub(super) fn try_path(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path).map(drop)
}

/// Writes the report, if it was asked for.
pub(super) fn write(path: Option<&Path>, text: &str) -> Result<(), ()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text).map_err(|error| {
        notice::error(
            &format!("cannot write the report to {}: {error}", path.display()),
            "the run itself ended as the table above says; make room and take its numbers from there",
        );
    })
}
