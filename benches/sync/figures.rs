//! Figures, and the tables in which they stand.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// One whose first column holds names, and the others figures.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

pub(crate) fn ratio(one: f64, other: f64) -> String {
    format!("{:.2}", one / other)
}

pub(crate) fn median<T: Copy>(mut all: Vec<T>, by: impl Fn(&T) -> Duration) -> T {
    all.sort_by_key(by);
    all[all.len() / 2]
}
