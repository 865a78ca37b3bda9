use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use understudy::progress::{Awaited, History, Phase, Snapshot};

use super::super::document::{Seconds, Target, Totals};
use super::*;

fn source(name: &str) -> Source {
    Source {
        name: name.to_owned(),
        server: Some("Redis 2.8.17".to_owned()),
        tls: None,
        outcome: Ended::Done,
        method: "psync",
        keys: 1_234_567,
        commands: 89_012,
        bytes: 543_210_000,
        types: [("string", 900_000), ("hash", 300_000), ("zset", 34_567)].into(),
        removals_without_effect: 0,
        full_syncs: 1,
        partial_syncs: 2,
        offset: 987_654_321,
        lag_bytes: Some(0),
        conflicts: Some(0),
        skipped: BTreeMap::new(),
        filtered: [("keys", 12)].into(),
        expired: BTreeMap::new(),
        errors: 0,
        failure: None,
        deadlines_held_back: Some(0),
        unproven: 0,
        removed_unowned: 0,
        seconds: Seconds { copy: Some(40.21), stream: Some(80.5), ..Seconds::default() },
    }
}

fn document(sources: Vec<Source>, history: Option<History>) -> Document {
    Document {
        version: 1,
        tool: "understudy 0.1.0",
        command: "sync",
        job: "night".to_owned(),
        ended_at: "2026-11-27T02:14:09Z".to_owned(),
        outcome: Ended::Done,
        seconds: 1203.4,
        totals: Totals { keys: 33_000_000, commands: 1_200_000, bytes: 20_000_000_000 },
        findings: Vec::new(),
        sources,
        target: Target {
            name: "10.0.9.1:6379".to_owned(),
            server: Some("Redis 7.0.15".to_owned()),
            tls: Some("verified"),
            keys_before: Some(0),
            keys_after: Some(33_000_000),
        },
        conflicts: Vec::new(),
        census: None,
        sections: Vec::new(),
        history,
    }
}

/// A night: one source after the other copies, then all follow, and one is lost for a while.
fn night(sources: u64) -> History {
    let mut history = History::of(usize::try_from(sources).unwrap());
    for second in 1..=1200_u64 {
        let lane = |at: u64| {
            let begins = 20 * at;
            let copied = second.saturating_sub(begins).min(60);
            let phase = match second {
                _ if second < begins => Phase::Waiting,
                _ if copied < 3 => Phase::Connecting,
                _ if copied < 60 => Phase::Copying,
                _ if second < begins + 70 => Phase::CatchingUp,
                _ => Phase::Following,
            };
            let streamed = second.saturating_sub(begins + 60);
            Snapshot {
                phase,
                awaited: (at == 2 && (900..930).contains(&second)).then_some(Awaited::Source),
                keys: 15_000 * copied + 40 * at * (copied % 7),
                commands: streamed * (300 + 37 * at),
                bytes: 900_000 * copied + 20_000 * streamed,
                confirmed_offset: 1000 * (1 + streamed),
                master_offset: 1000 * (1 + streamed) + 97 * (second * (at + 3) % 41),
                ..Snapshot::default()
            }
        };
        history.note(Duration::from_secs(second), (0..sources).map(lane));
    }
    history.end();
    history
}

#[test]
fn of_many_sources_a_page_has_each_and_stays_small() {
    let names: Vec<String> = (1..=37).map(|n| format!("10.0.0.{n}:6379")).collect();
    let many = document(names.iter().map(|name| source(name)).collect(), Some(night(37)));
    let page = page(&many);
    for name in &names {
        // In phases, types, sources, and what was left out of them.
        assert_eq!(page.matches(&format!(">{name}<")).count(), 4, "{name}");
    }
    assert!(page.len() < 400_000, "{} bytes", page.len());
    for word in ["copying", "catching up", "following", "waiting for source"] {
        assert!(page.contains(&format!("</span>{word}</li>")), "{word} is not in the legend");
    }
    assert!(many.json().len() < 200_000, "{} bytes", many.json().len());
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = page(&document(vec![source("a")], Some(night(1))));
    for word in
        ["<script", "<link", "<img", "<iframe", "http:", "https:", "url(", "@import", "src="]
    {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn what_comes_from_outside_is_text() {
    const EVIL: &str = "</style><script>alert(1)</script>\"'&";
    let mut one = source(EVIL);
    one.server = Some(EVIL.to_owned());
    one.failure = Some(EVIL.to_owned());
    one.skipped = [(EVIL.to_owned(), 3)].into();
    let mut told = document(vec![one, source(EVIL)], Some(night(2)));
    told.job = EVIL.to_owned();
    told.target.name = EVIL.to_owned();
    told.findings = vec![Found { place: EVIL.into(), evidence: EVIL.into(), mend: EVIL.into() }];
    let mut key = EVIL.as_bytes().to_vec();
    key.extend([0, b'\n', 0xff]);
    told.conflicts = vec![Conflict { source: EVIL.into(), db: 3, key }];
    told = told.with(Section {
        name: "verify",
        title: EVIL.into(),
        fields: json!({ "same": 1 }),
        verdict: (false, EVIL.into()),
        facts: vec![(EVIL.into(), EVIL.into())],
        about_rows: EVIL.into(),
        heads: vec!["key"],
        rows: vec![vec![EVIL.into()]],
    });
    let page = page(&told);
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(page.contains(r"alert(1)&lt;/script&gt;\&quot;'&amp;\x00\n\xff&quot;"), "{page}");
    let json: Value = serde_json::from_str(&told.json()).unwrap();
    assert_eq!(json["conflicts"][0]["key"], format!("{EVIL}\0\n\u{ff}"));
    assert_eq!(json["verify"]["same"], 1);
}

#[test]
fn what_goes_on_over_time_is_one_line_of_the_json() {
    let told = document(vec![source("a"), source("b")], Some(night(2))).json();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("\"ends\"")).collect();
    assert_eq!(lines.len(), 1);
    let json: Value = serde_json::from_str(&told).unwrap();
    let ends = json["history"]["ends"].as_array().unwrap();
    let one = &json["history"]["sources"][1];
    assert_eq!(one["name"], "b");
    for series in ["keys", "commands", "bytes", "lag_bytes"] {
        assert_eq!(one[series].as_array().unwrap().len(), ends.len(), "{series}");
    }
    let sum =
        |values: &Value| values.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(sum(&one["keys"]), 15_000 * 60 + 40 * (60 % 7));
    assert_eq!(one["phases"].as_array().unwrap().last().unwrap()["phase"], "following");
    let none: Value = serde_json::from_str(&document(vec![source("a")], None).json()).unwrap();
    assert_eq!(none["history"], Value::Null);
}

#[test]
fn a_run_in_which_nothing_went_on_has_no_plots() {
    let mut told = document(vec![source("a")], None);
    told.outcome = Ended::Refused;
    told.findings =
        vec![Found { place: "a".into(), evidence: "no way".into(), mend: "do so".into() }];
    let page = page(&told);
    assert!(!page.contains("Over time") && !page.contains("dl class=\"tiles\""), "{page}");
    assert!(page.contains("What went wrong") && page.contains("no way"), "{page}");
}
