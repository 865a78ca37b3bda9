//! What is said to the operator beside progress: what went wrong and its mend, what is doubtful, what a stop leaves behind. With
//! `--log-format json` each is one more line of the log, in the log's own form; no filter hides it.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::args::LogFormat;
use super::terminal;

/// How it is said; as text until it is chosen.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Chooses how it is said, once.
pub(super) fn choose(format: LogFormat) {
    // A second choice is no harm: the first one stays.
    let _ = FORMAT.set(format);
}

/// What went wrong, and what to do.
pub(super) fn error(what: &str, mend: &str) {
    say(Level::ERROR, "error: ", what, ("mend", mend));
}

/// What went on and need not be right, and what to do.
pub(super) fn warning(what: &str, mend: &str) {
    say(Level::WARN, "warning: ", what, ("mend", mend));
}

/// How things stand.
pub(super) fn note(what: &str) {
    say(Level::INFO, "", what, ("", ""));
}

/// How things stand after a stop, and how to go on.
pub(super) fn stopped(what: &str, to_go_on: &str) {
    say(Level::INFO, "stopped: ", what, ("to go on", to_go_on));
}

fn say(level: Level, head: &str, what: &str, (label, then): (&str, &str)) {
    if let Some(LogFormat::Json) = FORMAT.get() {
        let message = if level == Level::INFO { format!("{head}{what}") } else { what.to_owned() };
        terminal::line(&entry(&now(), level, &message, (label, then)).to_string());
        return;
    }
    terminal::line(&one_line(&format!("{head}{what}")));
    if !then.is_empty() {
        terminal::line(&one_line(&format!("  {label}: {then}")));
    }
}

/// A line of the log as `tracing_subscriber` writes it.
fn entry(now: &str, level: Level, message: &str, (label, then): (&str, &str)) -> Value {
    let mut fields = Map::new();
    fields.insert("message".to_owned(), message.into());
    if !then.is_empty() {
        fields.insert(label.replace(' ', "_"), then.into());
    }
    json!({ "timestamp": now, "level": level.as_str(), "fields": fields })
}

fn now() -> String {
    let mut text = String::new();
    // A text has no way to fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// What a server or a file has said may hold anything: it neither begins a new line nor moves the cursor.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_on_its_line() {
        assert_eq!(one_line("ERR a\r\nb\u{1b}[2J\u{9b}c é"), r"ERR a\r\nb\u{1b}[2J\u{9b}c é");
    }

    #[test]
    fn a_line_of_the_log() {
        let entry = entry("2026-01-01T00:00:00Z", Level::INFO, "stopped: a", ("to go on", "b"));
        assert_eq!(
            entry.to_string(),
            r#"{"fields":{"message":"stopped: a","to_go_on":"b"},"level":"INFO","timestamp":"2026-01-01T00:00:00Z"}"#
        );
    }
}
