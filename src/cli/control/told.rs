//! How a job stands, for a person: a line for each source on which something goes on, the others counted in one. Pure.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;
use understudy::progress::Phase;

use super::super::notice::one_line;
use super::super::progress::{Line, fold, grouped, size};

/// A column: its head, the field that it shows, how that is written, how little it matters, and whether that is nothing where nothing is in it.
struct Column {
    head: &'static str,
    field: &'static str,
    form: Form,
    rank: u8,
    rare: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Bytes,
    /// A number that makes no sum.
    Offset,
}

const COLUMNS: [Column; 9] = [
    Column { head: "source", field: "name", form: Form::Text, rank: 0, rare: false },
    Column { head: "phase", field: "phase", form: Form::Text, rank: 0, rare: false },
    Column { head: "keys", field: "keys", form: Form::Number, rank: 3, rare: false },
    Column { head: "commands", field: "commands", form: Form::Number, rank: 4, rare: false },
    Column { head: "read to", field: "read_offset", form: Form::Offset, rank: 7, rare: false },
    Column { head: "confirmed", field: "offset", form: Form::Offset, rank: 5, rare: false },
    Column { head: "lag", field: "lag_bytes", form: Form::Bytes, rank: 1, rare: false },
    Column { head: "in flight", field: "in_flight_bytes", form: Form::Bytes, rank: 6, rare: true },
    Column { head: "in doubt", field: "doubts", form: Form::Number, rank: 2, rare: true },
];

/// The whole answer. Where there are only so many columns, what matters least is left out; `--json` has all.
pub(super) fn told(status: &Value, columns: Option<usize>) -> String {
    let mut lines = vec![format!(
        "{}: {}, process {}, for {} s",
        text(of(status, "job")),
        match of(status, "order").as_str() {
            Some("pause") => "paused",
            Some("stop") => "stopping",
            Some("finish") => "finishing",
            _ => "running",
        },
        of(status, "process"),
        of(status, "seconds"),
    )];
    if let Some(seconds) = of(status, "paused_seconds").as_u64() {
        lines.push(format!("paused since {seconds} s: understudy resume goes on"));
    }
    let fenced = of(status, "fenced").as_array().map(Vec::as_slice).unwrap_or_default();
    if !fenced.is_empty() {
        lines.push(one_line(&format!(
            "a fence keeps these from taking writes: {}; where no cutover is under way, understudy cutover --lift {} takes it away",
            fenced.iter().map(text).collect::<Vec<_>>().join(", "),
            text(of(status, "job")),
        )));
    }
    let sources = of(status, "sources").as_array().map(Vec::as_slice).unwrap_or_default();
    let folded = fold(&sources.iter().map(line).collect::<Vec<_>>());
    let shown: Vec<&Value> = folded.shown.iter().filter_map(|&index| sources.get(index)).collect();
    lines.push(String::new());
    lines.push(table(&shown, sources, columns));
    lines.extend(folded.rest.map(|rest| format!(" {rest}")));
    lines.push(String::new());
    let troubled = |source: &&Value| trouble(source).next().is_some();
    for source in &shown {
        let name = text(of(source, "name"));
        lines.extend(trouble(source).map(|what| one_line(&format!("{name}: {what}"))));
    }
    let more =
        sources.iter().filter(troubled).count() - shown.iter().copied().filter(troubled).count();
    if more > 0 {
        lines.push(format!("{more} more wait for something or have had an error: --json has all"));
    }
    lines.push(format!(
        "target {}: deadlines are shifted until the job ends (--once, or stop --finish)",
        text(of(status, "target"))
    ));
    lines.join("\n") + "\n"
}

/// What it waits for, and what went wrong last.
fn trouble(source: &Value) -> impl Iterator<Item = String> + '_ {
    let said = [("waiting_for", ""), ("last_error", "the last error: ")].into_iter();
    said.filter_map(|(field, label)| {
        of(source, field).as_str().map(|what| format!("{label}{what}"))
    })
}

/// A source as one of many.
fn line(source: &Value) -> Line<'_> {
    let doing = of(source, "phase").as_str().unwrap_or("-");
    let phase = Phase::ALL.into_iter().find(|phase| phase.name() == doing).unwrap_or_default();
    let number = |field| of(source, field).as_u64();
    let left = match phase {
        Phase::Copying => number("payload_size")
            .map(|size| size.saturating_sub(number("payload_read").unwrap_or(0)))
            // Whoever copies still has all to follow.
            .map(|bytes| u128::from(bytes) + u128::from(u64::MAX)),
        _ => number("lag_bytes").filter(|lag| *lag > 0).map(u128::from),
    };
    Line {
        name: of(source, "name").as_str().unwrap_or("-"),
        doing,
        phase,
        is_held_up: !of(source, "waiting_for").is_null(),
        lags: number("lag_bytes").is_none_or(|lag| lag > 0),
        left,
    }
}

/// The sources that are shown, and all of them together.
fn table(shown: &[&Value], all: &[Value], columns: Option<usize>) -> String {
    let mut rows: Vec<Vec<String>> = shown
        .iter()
        .map(|source| {
            COLUMNS.iter().map(|column| cell(of(source, column.field), column.form)).collect()
        })
        .collect();
    if all.len() > 1 {
        rows.push(COLUMNS.iter().map(|column| total(all, column)).collect());
    }
    let mut kept: Vec<usize> = (0..COLUMNS.len()).collect();
    loop {
        let drawn = draw(&rows, &kept);
        let width = drawn.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let tells = |at: usize| {
            COLUMNS.get(at).is_some_and(|column| !column.rare)
                || rows.iter().filter_map(|row| row.get(at)).any(|cell| !is_nothing(cell))
        };
        let least = kept
            .iter()
            .filter(|at| COLUMNS.get(**at).is_some_and(|column| column.rank > 0))
            .max_by_key(|at| (!tells(**at), COLUMNS.get(**at).map(|column| column.rank)))
            .copied();
        match least {
            Some(least) if columns.is_some_and(|columns| width > columns) => {
                kept.retain(|at| *at != least);
            }
            _ => return drawn,
        }
    }
}

fn draw(rows: &[Vec<String>], kept: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(kept.iter().filter_map(|at| COLUMNS.get(*at)).map(|column| column.head));
    for (index, at) in kept.iter().enumerate() {
        let is_text = COLUMNS.get(*at).is_some_and(|column| column.form == Form::Text);
        if let (false, Some(column)) = (is_text, table.column_mut(index)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        table.add_row(kept.iter().filter_map(|at| row.get(*at)));
    }
    table.to_string()
}

fn cell(value: &Value, form: Form) -> String {
    let told = match form {
        Form::Text => value.as_str().map(str::to_owned),
        Form::Number | Form::Offset => value.as_u64().map(grouped),
        Form::Bytes => value.as_f64().map(size),
    };
    told.unwrap_or_else(|| "-".to_owned())
}

fn total(all: &[Value], column: &Column) -> String {
    let numbers = all.iter().filter_map(|source| of(source, column.field).as_u64());
    match column.form {
        Form::Text if column.field == "name" => "total".to_owned(),
        Form::Text | Form::Offset => String::new(),
        form => numbers
            .reduce(u64::saturating_add)
            .map_or_else(|| "-".to_owned(), |sum| cell(&sum.into(), form)),
    }
}

fn is_nothing(cell: &str) -> bool {
    matches!(cell, "" | "-" | "0" | "0 B")
}

/// A field of an answer; null where it has none.
pub(crate) fn of<'a>(answer: &'a Value, field: &str) -> &'a Value {
    answer.get(field).unwrap_or(&Value::Null)
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(count: usize) -> Value {
        let sources: Vec<Value> = (1..=count)
            .map(|number| {
                let copies = number > 30;
                json!({
                    "name": format!("10.20.30.{number}:6379"),
                    "phase": if copies { "copying" } else { "following" },
                    "keys": 1_000_000 + number,
                    "commands": 2_000_000,
                    "payload_read": 100,
                    "payload_size": 1000 - number,
                    "read_offset": 123_456_789_012_u64,
                    "offset": 123_456_789_000_u64,
                    "lag_bytes": if copies { Value::Null } else { 0.into() },
                    "in_flight_bytes": 0,
                    "doubts": 0,
                    "waiting_for": if number < 3 { "waiting for source" .into() } else { Value::Null },
                    "last_error": Value::Null,
                })
            })
            .collect();
        json!({ "job": "night", "order": "go", "process": 7, "seconds": 3, "target": "new:6379", "sources": sources })
    }

    #[test]
    fn few_sources_have_a_line_each_with_all_columns() {
        let told = told(&status(2), None);
        assert!(told.contains("read to") && told.contains("in doubt"), "{told}");
        assert!(told.contains(" total ") && told.contains(" 2,000,003 "), "{told}");
        assert!(!told.contains("more"), "{told}");
    }

    #[test]
    fn of_many_the_quiet_ones_are_counted_and_eighty_columns_are_enough() {
        let told = told(&status(37), Some(80));
        let table: Vec<&str> = told.lines().filter(|line| line.starts_with(' ')).collect();
        assert_eq!(table.len(), 1 + 10 + 1 + 1, "{told}");
        assert!(table.iter().all(|line| line.chars().count() <= 80), "{told}");
        assert!(told.contains(" 27 more: 27 following; slowest: 10.20.30.31:6379\n"), "{told}");
        for name in ["10.20.30.1:6379 ", "10.20.30.2:6379 ", "10.20.30.37:6379 "] {
            assert!(told.contains(name), "{name}: {told}");
        }
        assert!(!told.contains("10.20.30.20:6379 "), "{told}");
        assert!(told.contains(" lag ") && !told.contains("read to"), "{told}");
        assert!(told.contains(" 37,000,703 "), "{told}");
    }

    #[test]
    fn fences_that_stand_are_told() {
        let mut status = status(2);
        assert!(!told(&status, None).contains("fence"));
        status["fenced"] = json!(["old:1", "old:2"]);
        let told = told(&status, None);
        let line = "from taking writes: old:1, old:2; where no cutover is under way, understudy cutover --lift night ";
        assert!(told.contains(line), "{told}");
    }

    #[test]
    fn what_is_in_doubt_goes_before_what_tells_nothing() {
        let mut status = status(37);
        status["sources"][20]["doubts"] = 3.into();
        let columns = told(&status, Some(80));
        assert!(columns.contains("in doubt") && !columns.contains("in flight"), "{columns}");
        // All are paused: some of them stand for the others.
        for source in status["sources"].as_array_mut().unwrap() {
            source["waiting_for"] = "paused since 9 s".into();
        }
        let told = told(&status, Some(80));
        assert_eq!(told.matches(": paused since").count(), 10, "{told}");
        assert!(told.contains("27 more wait for something"), "{told}");
    }
}
