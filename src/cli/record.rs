//! `record`: a source's stream, kept as a capture.

use understudy::flow::{Recorded, chain, record};
use understudy::net::Net;
use understudy::plan::judge;
use understudy::preflight::look;

use super::args::Record;
use super::intent;
use super::notice;
use super::outcome::{Outcome, refused};
use super::signals::Signals;
use super::terminal;

/// Runs `record` to its end.
pub(crate) async fn run(args: &Record) -> Outcome {
    let (plan, mut what) = match intent::record(args) {
        Ok(meant) => meant,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    let signals = Signals::heed();
    let net = Net::system();
    let mut facts = match look(&net, &plan).await {
        Ok(facts) => facts,
        Err(error) => return refused(&chain(&error), &error.advice()),
    };
    if let Some(Some(source)) = facts.sources.first_mut() {
        what.server = source.server;
        // A node of a cluster is recorded as what it is: one server.
        source.cluster = false;
    }
    let findings = judge(&facts, &plan);
    for finding in &findings {
        notice::error(&format!("{}: {}", finding.place, finding.evidence), &finding.mend);
    }
    if !findings.is_empty() {
        return Outcome::Refused;
    }
    let recorded = record(&net, &what, signals.orders()).await;
    if let Some((failure, advice)) = &recorded.failure {
        let name = plan.sources.first().map_or("", |source| &source.name);
        notice::error(&format!("{name}: {failure}"), advice);
    }
    print(&recorded, &plan.target.to_string());
    recorded.ended.into()
}

/// What was recorded, on stdout.
fn print(recorded: &Recorded, file: &str) {
    let Recorded { layout, bytes, .. } = recorded;
    let Some(begin) = layout.rdb_start else { return };
    let payload = layout.rdb_end.unwrap_or(*bytes).saturating_sub(begin);
    let stream = match layout.stream_start {
        None => ", which is not whole".to_owned(),
        Some(start) => {
            let stream = bytes.saturating_sub(start);
            let end = layout.offset_at(*bytes);
            let end = end.map_or_else(String::new, |end| format!(", up to offset {end}"));
            format!(" and {stream} stream ({} commands){end}", layout.command_count)
        }
    };
    terminal::result(&format!("{file}: {bytes} bytes, {payload} of them RDB{stream}\n"));
}
