//! The final report, as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use understudy::flow::{Report, SourceReport};

/// The version of the report's form.
const VERSION: u32 = 1;

/// The report as JSON.
pub(crate) fn json(run: &Report, target: &str) -> String {
    let sum = |number: fn(&SourceReport) -> u64| run.sources.iter().map(number).sum::<u64>();
    let report = json!({
        "version": VERSION,
        "outcome": run.ended(),
        "seconds": run.seconds,
        "totals": {
            "keys": sum(|source| source.numbers.keys),
            "commands": sum(|source| source.numbers.commands),
            "bytes": sum(|source| source.numbers.bytes),
        },
        "sources": run.sources.iter().map(source).collect::<Vec<_>>(),
        "target": { "name": target },
        "conflicts": conflicts(run),
    });
    format!("{report:#}\n")
}

fn source(source: &SourceReport) -> Value {
    let now = &source.numbers;
    json!({
        "name": source.name,
        "outcome": source.ended,
        "method": source.method,
        "keys": now.keys,
        "commands": now.commands,
        "bytes": now.bytes,
        "removals_without_effect": now.without_effect,
        "full_syncs": now.full_syncs,
        "partial_syncs": now.partial_syncs,
        "offset": now.confirmed_offset,
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

/// The final table, on stdout.
#[expect(clippy::print_stdout, reason = "the table is the command's result")]
pub(crate) fn print_table(run: &Report) {
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
}
