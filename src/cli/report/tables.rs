//! What became of a run, as tables on stdout.

use comfy_table::{CellAlignment, Table, presets};
use understudy::flow::{Ended, Report, SourceReport};
use understudy::plan::Facts;

use super::Told;
use super::document::{filtered, lag, server, tls};
use crate::cli::progress::{grouped, size};
use crate::cli::terminal;

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
pub(in crate::cli) fn table(heads: &[&str], numbers: usize) -> Table {
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

pub(in crate::cli) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "sizes on a screen have three digits")]
pub(in crate::cli) fn as_f64(number: u64) -> f64 {
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
