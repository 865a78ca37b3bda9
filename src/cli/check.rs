//! `check`: what could spoil a run, before it.

use serde_json::{Value, json};
use understudy::flow::Order;
use understudy::net::Net;
use understudy::plan::check::{Seen, Sight, findings, format_name, is_blocked, role_name};
use understudy::plan::{Facts, Finding, Kind, Plan, ServerFacts, Severity};
use understudy::preflight::{inspect, judge_records};

use super::args::{Check, Sync};
use super::outcome::{Outcome, refused};
use super::progress::{Mode, grouped, size};
use super::report::as_f64;
use super::signals::Signals;
use super::{intent, notice, terminal};

/// The columns of a text that no terminal shows, and the most that one is given.
const COLUMNS: usize = 100;

/// Runs `check` to its end.
pub(crate) async fn run(args: Check) -> Outcome {
    let (json, mode) = (args.json, args.bounds.progress);
    let plan = match intent::plan(&as_sync(args)) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    let signals = Signals::heed();
    let net = Net::system();
    let mut told_to_stop = signals.orders().clone();
    if mode != Mode::None {
        notice::note(&format!(
            "looking at {} and {}: nothing is changed there",
            sources(plan.sources.len()),
            plan.target
        ));
    }
    let looked = tokio::select! {
        looked = inspect(&net, &plan) => looked,
        _ = told_to_stop.wait_for(|order| *order == Order::Stop) => {
            notice::note("stopped before all was looked at");
            return Outcome::Interrupted;
        }
    };
    let (plan, facts, sight) = looked;
    let mut found = findings(&facts, &sight, &plan);
    found.extend(judge_records(&facts, &plan));
    if let Err(refusal) = intent::check_memory(plan.memory, &plan.sources) {
        found.push(Finding::blocks(Kind::Memory, "--memory", refusal.what, refusal.mend));
    }
    let page = Page { plan: &plan, facts: &facts, sight: &sight, found: &found };
    match json {
        true => terminal::result(&format!("{}\n", page.json())),
        false => {
            let columns = terminal::result_columns().map_or(COLUMNS, |own| own.clamp(40, COLUMNS));
            terminal::result(&page.text(columns));
        }
    }
    if is_blocked(&found) { Outcome::Refused } else { Outcome::Done }
}

fn sources(count: usize) -> String {
    match count {
        1 => "one source".to_owned(),
        count => format!("{count} sources"),
    }
}

/// The plan of a `sync` of the same places under the same rules.
fn as_sync(args: Check) -> Sync {
    let mut sync = Sync::looking(args.places, args.rules, args.access);
    (sync.method, sync.accept_eviction) = (args.method, args.accept_eviction);
    (sync.schedule, sync.writing.bounds) = (args.schedule, args.bounds);
    (sync.writing.on_conflict, sync.writing.limit_rate) = (args.on_conflict, args.limit_rate);
    sync
}

/// What was found, to be shown.
struct Page<'a> {
    plan: &'a Plan,
    facts: &'a Facts,
    sight: &'a Sight,
    found: &'a [Finding],
}

/// A place and what is known of it.
struct Shown<'a> {
    side: &'static str,
    name: String,
    facts: Option<&'a ServerFacts>,
    seen: Option<&'a Seen>,
}

impl Page<'_> {
    fn places(&self) -> Vec<Shown<'_>> {
        let sources = self.plan.sources.iter().enumerate().map(|(index, source)| Shown {
            side: "source",
            name: source.name.clone(),
            facts: self.facts.sources.get(index).and_then(Option::as_ref),
            seen: self.sight.sources.get(index).and_then(Option::as_ref),
        });
        let target = Shown {
            side: "target",
            name: self.plan.target.to_string(),
            facts: self.facts.target.as_ref(),
            seen: self.sight.target.as_ref(),
        };
        sources.chain([target]).collect()
    }

    fn count(&self, severity: Severity) -> usize {
        let seen = self.found.iter().filter(|one| one.kind != Kind::Unseen);
        seen.filter(|one| one.severity == severity).count()
    }

    fn text(&self, columns: usize) -> String {
        let mut out = String::new();
        let places = self.places();
        for shown in &places {
            out.push_str(&folded(&format!("{} {}", shown.side, headline(shown)), 0, 2, columns));
            let own = self.found.iter().filter(|one| one.place == shown.name);
            self.list(&mut out, own, false, columns);
            out.push('\n');
        }
        let others: Vec<&Finding> = self
            .found
            .iter()
            .filter(|one| places.iter().all(|shown| shown.name != one.place))
            .collect();
        if !others.is_empty() {
            out.push_str("besides\n");
            self.list(&mut out, others.into_iter(), true, columns);
            out.push('\n');
        }
        out.push_str(&folded(&self.summary(), 0, 2, columns));
        out
    }

    fn list<'f>(
        &self,
        out: &mut String,
        found: impl Iterator<Item = &'f Finding>,
        named: bool,
        columns: usize,
    ) {
        let mut any = false;
        for one in found {
            any = true;
            let place = if named { format!("{}: ", one.place) } else { String::new() };
            let severity = match one.severity {
                Severity::Blocks => "BLOCKS",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            let head = format!("{severity} {}: {place}{}", one.kind.name(), one.evidence);
            out.push_str(&folded(&head, 2, 6, columns));
            out.push_str(&folded(&format!("mend: {}", one.mend), 6, 12, columns));
        }
        if !any {
            out.push_str("  nothing found\n");
        }
    }

    fn unseen(&self) -> impl Iterator<Item = &Finding> {
        self.found.iter().filter(|one| one.kind == Kind::Unseen)
    }

    fn summary(&self) -> String {
        let end = match self.count(Severity::Blocks) {
            0 => "nothing stands in the way",
            _ => "a run would be refused or come to nothing",
        };
        let counts = [
            (self.count(Severity::Blocks), "blocker", "blockers"),
            (self.count(Severity::Warning), "warning", "warnings"),
            (self.count(Severity::Note), "note", "notes"),
            (self.unseen().count(), "question not answered", "questions not answered"),
        ];
        // What there is none of is said where it matters.
        let shown = counts.iter().enumerate().filter(|(at, (count, ..))| *at < 2 || *count > 0);
        let counts: Vec<String> = shown
            .map(|(_, (count, one, many))| {
                format!("{count} {}", if *count == 1 { one } else { many })
            })
            .collect();
        format!("{end}: {}", counts.join(", "))
    }

    fn json(&self) -> Value {
        let found = self.found.iter().filter(|one| one.kind != Kind::Unseen);
        let finding = |one: &Finding| {
            json!({
                "severity": one.severity.name(),
                "kind": one.kind.name(),
                "place": one.place,
                "evidence": one.evidence,
                "mend": one.mend,
            })
        };
        let unseen = self
            .unseen()
            .map(|one| json!({ "place": one.place, "evidence": one.evidence, "mend": one.mend }));
        json!({
            "version": 1,
            "outcome": if is_blocked(self.found) { "refused" } else { "done" },
            "blocks": self.count(Severity::Blocks),
            "warnings": self.count(Severity::Warning),
            "notes": self.count(Severity::Note),
            "places": self.places().iter().map(place).collect::<Vec<_>>(),
            "findings": found.map(finding).collect::<Vec<_>>(),
            "unseen": unseen.collect::<Vec<_>>(),
        })
    }
}

/// A place in one line.
fn headline(shown: &Shown<'_>) -> String {
    let mut parts = Vec::new();
    if let Some(facts) = shown.facts {
        parts.extend(
            facts.server.map(|server| format!("{server}, {}", format_name(server.rdb_format()))),
        );
        if facts.server.is_some() {
            parts.push(role_name(facts.role).to_owned());
            let keys = grouped(facts.keys_in_all());
            parts.push(format!("{keys} keys, {}", size(as_f64(facts.used_memory))));
        }
        if facts.write_rate > 0 {
            parts.push(format!("{} a second written to it", size(as_f64(facts.write_rate))));
        }
    }
    if let Some(seen) = shown.seen {
        let trip =
            seen.round_trip.map(|trip| format!("{:.1} ms away", trip.as_secs_f64() * 1000.0));
        parts.extend(trip);
        let way = if shown.side == "source" { "from there" } else { "there and back" };
        parts.extend(seen.rate.map(|rate| format!("{} a second {way}", size(as_f64(rate)))));
        parts.extend(
            seen.sample
                .as_ref()
                .map(|sample| format!("{} of its keys were looked at", grouped(sample.looked_at))),
        );
    }
    match parts.is_empty() {
        true => shown.name.clone(),
        false => format!("{}: {}", shown.name, parts.join(", ")),
    }
}

fn place(shown: &Shown<'_>) -> Value {
    let server = shown.facts.and_then(|facts| facts.server);
    let told = shown.facts.filter(|facts| facts.server.is_some());
    let sample = shown.seen.and_then(|seen| seen.sample.as_ref());
    let micros = |trip: std::time::Duration| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
    json!({
        "place": shown.name,
        "side": shown.side,
        "server": server.map(|server| server.to_string()),
        "rdb": server.map(|server| server.rdb_format().version),
        "role": told.map(|facts| role_name(facts.role)),
        "keys": told.map(ServerFacts::keys_in_all),
        "used_memory": told.map(|facts| facts.used_memory),
        "written_a_second": told.map(|facts| facts.write_rate),
        "clock_ahead_ms": shown.facts.and_then(|facts| facts.clock_ahead),
        "round_trip_us": shown.seen.and_then(|seen| seen.round_trip).map(micros),
        "bytes_a_second": shown.seen.and_then(|seen| seen.rate),
        "keys_looked_at": sample.map(|sample| sample.looked_at),
        "types_looked_at": sample.map(|sample| &sample.types),
    })
}

/// The text in lines of so many columns, the first so far in, the others so far. What servers say stays on its line.
fn folded(text: &str, first: usize, others: usize, columns: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(first);
    let mut is_begun = false;
    for word in notice::one_line(text).split(' ') {
        if is_begun && line.chars().count() + 1 + word.chars().count() > columns {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(others);
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_folded_between_words() {
        assert_eq!(folded("a bb ccc dddd", 2, 4, 10), "  a bb ccc\n    dddd\n");
        assert_eq!(folded("longer-than-it-all b", 0, 1, 5), "longer-than-it-all\n b\n");
        assert_eq!(folded("two\nlines", 0, 0, 40), "two\\nlines\n");
    }
}
