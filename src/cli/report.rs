//! The final report, as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use understudy::flow::{Report, SourceReport};
use understudy::plan::{Facts, Finding, Place, Plan, ServerFacts};

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
}

/// The report as JSON.
pub(crate) fn json(told: &Told<'_>) -> String {
    let Told { run, plan, facts, findings, keys_after } = told;
    let sum = |number: fn(&SourceReport) -> u64| run.sources.iter().map(number).sum::<u64>();
    let sources = run.sources.iter().enumerate().map(|(index, report)| {
        let place = plan.sources.get(index).map(|source| &source.place);
        let facts = facts.sources.get(index).and_then(Option::as_ref);
        source(report, place, facts)
    });
    let findings = findings.iter().map(|finding| {
        json!({ "place": finding.place, "evidence": finding.evidence, "mend": finding.mend })
    });
    let report = json!({
        "version": VERSION,
        "outcome": run.ended(),
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
        "lag_bytes": if now.confirmed_offset > 0 { Some(now.lag()) } else { None },
        "conflicts": source.conflicts,
        "skipped": {},
        "filtered": numbers(&[
            ("databases", now.left_out_databases),
            ("keys", now.left_out_keys),
            ("types", now.left_out_types),
            ("commands", now.left_out_commands),
            ("commands_on_kept_keys", now.conflict_commands),
            ("flushes", now.flushes),
        ]),
        "expired": {},
        "errors": u64::from(source.failure.is_some()),
        "failure": source.failure.as_ref().map(|(text, _)| text),
        "deadlines_held_back": source.held_back,
        "unproven": source.unproven,
        "seconds": { "copy": source.copy_seconds, "stream": source.stream_seconds },
    })
}

/// An object of those that are not zero.
fn numbers(named: &[(&str, u64)]) -> Value {
    named.iter().filter(|(_, number)| *number > 0).map(|(name, number)| (*name, *number)).collect()
}

/// Bytes as text, one code point a byte.
fn text(bytes: &[u8]) -> String {
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

/// The final table, on stdout, and which of these places were not verified.
#[expect(clippy::print_stdout, reason = "the table is the command's result")]
pub(crate) fn print_table<'p>(run: &Report, places: impl IntoIterator<Item = &'p Place>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["source", "outcome", "keys", "commands", "bytes", "copy s", "stream s"]);
    for source in &run.sources {
        let seconds =
            |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.2}"));
        table.add_row([
            source.name.clone(),
            format!("{:?}", source.ended).to_lowercase(),
            source.numbers.keys.to_string(),
            source.numbers.commands.to_string(),
            source.numbers.bytes.to_string(),
            seconds(source.copy_seconds),
            seconds(source.stream_seconds),
        ]);
    }
    for index in 2..7 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    for place in places.into_iter().filter(|place| tls(Some(place)) == Some("not verified")) {
        println!("the certificate of {place} was not verified");
    }
}
