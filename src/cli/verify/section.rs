//! What came of a comparison, as a section of a report.

use serde_json::{Map, Value, json};
use understudy::flow::{Difference, Drawn, Ended, Sampled, Verified};
use understudy::key::{Db, Escaped};
use understudy::plan::Plan;
use understudy::verify::Kind;

use super::{differ, in_words, keys, place};
use crate::cli::progress::grouped;
use crate::cli::report::{Section, text};

/// So many of the keys that differ are named of each kind, so that many of one kind hide no other.
pub(super) const NAMED: usize = 40;

/// A key that differs, as JSON.
pub(super) fn line(difference: &Difference) -> Value {
    let Difference { kind, db, key, parting, .. } = difference;
    // One code point a byte, as `rdb cat` writes it.
    json!({ "kind": kind.name(), "db": db.map(Db::index), "key": text(key), "parting": parting })
}

/// What was compared, and what came of it, as JSON. So many of the keys that differ have been written.
pub(super) fn counts(verified: &Verified, written: u64) -> Value {
    let counts = verified.counts;
    let kinds = Kind::ALL.iter().zip(verified.differences);
    let kinds: Map<String, Value> =
        kinds.map(|(kind, count)| (kind.name().to_owned(), count.into())).collect();
    let methods: Vec<&str> = verified.report.sources.iter().map(|source| source.method).collect();
    json!({
        "expected": counts.expected,
        "found": counts.found,
        "same": counts.same,
        "differences": kinds,
        "written": written,
        "mended": verified.mended,
        "unproven": verified.unproven,
        "changed_meanwhile": verified.settled,
        "written_since_copy": verified.written,
        "shared": counts.shared,
        "foreign": verified.foreign,
        "sample": verified.sampled.as_ref().map(of_sample),
        "sources": methods,
        "target": verified.method,
        "job_under_way": verified.follows,
        "loose_deadlines": verified.loose_deadlines,
        "bytes_on_disk": verified.on_disk,
        "seconds": verified.report.seconds,
    })
}

fn of_sample(sampled: &Sampled) -> Value {
    let drawn = match sampled.drawn {
        Drawn::Places => "places",
        Drawn::Names => "names",
    };
    json!({ "share": sampled.share.to_string(), "chosen_by": drawn, "seed": sampled.seed })
}

/// The section; of the keys that differ the first of each kind have been kept, be they written or not.
pub(crate) fn section(
    plan: &Plan,
    verified: &Verified,
    named: &[Difference],
    only: &[String],
) -> Section {
    let counts = verified.counts;
    let mut fields = self::counts(verified, 0);
    if let Some(fields) = fields.as_object_mut() {
        // All are counted, and some named.
        fields.remove("written");
        fields.insert("only".to_owned(), only.into());
        fields.insert("named".to_owned(), named.iter().map(line).collect());
    }
    let fact = |name: &str, number: u64| (name.to_owned(), grouped(number));
    let mut facts = vec![
        fact("keys of the sources", counts.expected),
        fact("keys of the target", counts.found),
        fact("the same", counts.same),
    ];
    let kinds = Kind::ALL.iter().zip(verified.differences);
    facts.extend(kinds.map(|(kind, count)| fact(kind.name(), count)));
    let others = [
        ("mended", verified.mended),
        ("nobody can tell", verified.unproven),
        ("held by several sources", counts.shared),
        ("of none of these sources, not compared", verified.foreign),
    ];
    facts.extend(others.iter().filter(|(_, n)| *n > 0).map(|(name, n)| fact(name, *n)));
    let yes = |what: &str| (what.to_owned(), "yes".to_owned());
    facts.extend(verified.follows.then(|| yes("a job was under way")));
    facts.extend(
        verified.loose_deadlines.then(|| yes("some deadlines only as far as they are there")),
    );
    let sampled = verified.sampled.as_ref();
    facts.extend(sampled.map(|sampled| ("a sample".to_owned(), in_words(sampled))));
    let patterns = (!only.is_empty()).then(|| only.join(" "));
    facts.extend(patterns.map(|only| ("only keys that match".to_owned(), only)));
    let row = |one: &Difference| {
        let source = one.source.and_then(|at| plan.sources.get(at));
        vec![
            one.kind.name().to_owned(),
            place(one),
            Escaped(&one.key).to_string(),
            source.map_or_else(String::new, |source| source.name.clone()),
            one.parting.clone().unwrap_or_default(),
        ]
    };
    let mut named: Vec<&Difference> = named.iter().collect();
    named.sort_by_key(|one| one.kind);
    Section {
        name: "verify",
        title: "The comparison".to_owned(),
        fields,
        verdict: verdict(verified, !only.is_empty()),
        facts,
        about_rows: format!("The first {NAMED} of each kind"),
        heads: vec!["kind", "db", "key", "source", "where both sides part"],
        rows: named.into_iter().map(row).collect(),
    }
}

fn verdict(verified: &Verified, is_part: bool) -> (bool, String) {
    let all: u64 = verified.differences.iter().sum();
    match verified.ended() {
        Ended::Done if all > 0 => (
            true,
            format!(
                "{} differed, and {} mended",
                keys(all),
                if all == 1 { "was" } else { "all of them were" }
            ),
        ),
        Ended::Done if verified.sampled.is_some() => (true, "no difference in a sample".to_owned()),
        Ended::Done if is_part => (true, "no difference among the keys of --only".to_owned()),
        Ended::Done => (true, "no difference".to_owned()),
        Ended::Differences => {
            let unproven = match verified.unproven {
                0 => String::new(),
                keys => format!(", and of {} nobody can tell", grouped(keys)),
            };
            let left = all.saturating_sub(verified.mended);
            (false, format!("{}{unproven}", differ(left)))
        }
        Ended::Stopped => (false, "stopped: not all keys were compared".to_owned()),
        Ended::Refused | Ended::Failed => (false, "not all keys were compared".to_owned()),
    }
}
