//! What a capture stands for against what a server has saved. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

/// What came of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compared {
    /// Keys that were held against each other, on both sides.
    pub(super) keys: usize,
    /// One line each.
    pub(super) differences: Vec<String>,
}

/// A database and a key.
type Name = (u64, String);

/// Compares `found`, lines as `rdb cat` prints them, with the content that the sidecar of a capture notes. A key that was
/// to die by `now_ms` must be gone; one whose deadline was told as a time from now (up to 6.2) dies so long after it was
/// played, not after it was recorded, and may be there or not.
pub(super) fn compare(sidecar: &Value, found: &[Value], now_ms: i64) -> Compared {
    let noted = |what| sidecar["replay"].get(what).unwrap_or(&Value::Null);
    let mut wanted: BTreeMap<Name, &Value> = BTreeMap::new();
    // A master does not tell all: where a real replica ended up elsewhere, that is what is wanted.
    for entry in list(&sidecar["dataset"]).chain(list(noted("replica_entries"))) {
        if entry.get("key").is_some() {
            wanted.insert(name(entry), entry);
        }
    }
    let relative: BTreeSet<Name> = list(noted("relative_expiry"))
        .map(|pair| (pair[0].as_u64().unwrap_or(0), text(&pair[1])))
        .collect();
    let found_keys: BTreeMap<Name, &Value> = found
        .iter()
        .filter(|line| line.get("key").is_some())
        .map(|line| (name(line), line))
        .collect();

    let mut names: BTreeSet<&Name> = wanted.keys().collect();
    names.extend(found_keys.keys());
    let mut compared = Compared { keys: 0, differences: Vec::new() };
    for key in names {
        let (wanted, found) = (wanted.get(key), found_keys.get(key));
        let is_due = |entry: &Value| entry["expire_at_ms"].as_i64().is_some_and(|at| at <= now_ms);
        let is_relative = relative.contains(key);
        let what = match (wanted, found) {
            (Some(wanted), None) if is_due(wanted) || is_relative => continue,
            (Some(_), None) => Some("missing"),
            (None, Some(_)) => Some("not in the recording"),
            (Some(wanted), Some(_)) if is_due(wanted) && !is_relative => Some("was to die"),
            (Some(wanted), Some(found)) if !same(wanted, found) => Some("another value"),
            (Some(wanted), Some(found)) => {
                let same_deadline = wanted["expire_at_ms"] == found["expire_at_ms"];
                (!is_relative && !same_deadline).then_some("another deadline")
            }
            (None, None) => continue,
        };
        compared.keys += 1;
        if let Some(what) = what {
            let (db, key) = key;
            compared.differences.push(format!("db {db} {}: {what}", key.escape_debug()));
        }
    }
    compare_functions(sidecar, found, &mut compared.differences);
    compared
}

fn compare_functions(sidecar: &Value, found: &[Value], differences: &mut Vec<String>) {
    let wanted: BTreeSet<String> =
        list(&sidecar["functions"]).map(|library| text(&library["code"])).collect();
    let found: BTreeSet<String> =
        found.iter().filter_map(|line| line.get("function")).map(text).collect();
    for code in wanted.symmetric_difference(&found) {
        let line = code.lines().next().unwrap_or_default();
        differences.push(format!("functions: {line} is on one side only"));
    }
}

/// Whether two entries have one type and value. What a server notes only in a newer form, and when it has last seen a
/// consumer, is no part of it.
fn same(wanted: &Value, found: &Value) -> bool {
    let kind = wanted["type"].as_str();
    kind == found["type"].as_str()
        && match kind {
            Some("zset") => scores(&wanted["value"]) == scores(&found["value"]),
            Some("stream") => same_where_both_tell(&wanted["value"], &found["value"]),
            _ => wanted["value"] == found["value"],
        }
}

/// Members and the bits of their scores: servers print one number in different ways.
fn scores(value: &Value) -> Vec<(&Value, &Value)> {
    list(value).map(|member| (&member[0], &member[2])).collect()
}

fn same_where_both_tell(wanted: &Value, found: &Value) -> bool {
    const OF_THE_TARGET: [&str; 2] = ["seen_time_ms", "active_time_ms"];
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().all(|(name, wanted)| {
            let found = found.get(name).unwrap_or(&Value::Null);
            OF_THE_TARGET.contains(&name.as_str())
                || wanted.is_null()
                || found.is_null()
                || same_where_both_tell(wanted, found)
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .zip(found)
                    .all(|(wanted, found)| same_where_both_tell(wanted, found))
        }
        _ => wanted == found,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn name(entry: &Value) -> Name {
    (entry["db"].as_u64().unwrap_or(0), text(&entry["key"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn string(key: &str, value: &str, expire_at_ms: Option<i64>) -> Value {
        json!({ "db": 0, "key": key, "type": "string", "value": value, "expire_at_ms": expire_at_ms })
    }

    fn differences(wanted: &[Value], found: &[Value]) -> Vec<String> {
        let sidecar = json!({ "dataset": wanted, "replay": { "relative_expiry": [[0, "soon"]] } });
        compare(&sidecar, found, 1000).differences
    }

    #[test]
    fn one_difference_of_each_kind_is_seen() {
        let one = |value: &str, at| vec![string("key", value, at)];
        assert!(differences(&one("a", None), &one("a", None)).is_empty());
        assert_eq!(differences(&one("a", None), &one("b", None)), ["db 0 key: another value"]);
        assert_eq!(differences(&one("a", None), &[]), ["db 0 key: missing"]);
        assert_eq!(differences(&[], &one("a", None)), ["db 0 key: not in the recording"]);
        assert_eq!(
            differences(&one("a", Some(2000)), &one("a", Some(2001))),
            ["db 0 key: another deadline"]
        );
        assert_eq!(
            differences(&one("a", Some(999)), &one("a", Some(999))),
            ["db 0 key: was to die"]
        );
        assert!(differences(&one("a", Some(999)), &[]).is_empty());
        let mut list = string("key", "a", None);
        list["type"] = json!("list");
        assert_eq!(differences(&one("a", None), &[list]), ["db 0 key: another value"]);
    }

    #[test]
    fn a_relative_deadline_may_have_passed_or_not_but_the_value_counts() {
        let soon = |value: &str, at| vec![string("soon", value, Some(at))];
        assert!(differences(&soon("a", 999), &[]).is_empty());
        assert!(differences(&soon("a", 999), &soon("a", 9000)).is_empty());
        assert_eq!(differences(&soon("a", 999), &soon("b", 9000)), ["db 0 soon: another value"]);
    }

    #[test]
    fn scores_and_streams_are_compared_by_what_both_servers_tell() {
        let zset = |text: &str, bits: &str| json!({ "type": "zset", "value": [["m", text, bits]] });
        assert!(same(&zset("0.10000000000000001", "3fb9"), &zset("0.1", "3fb9")));
        assert!(!same(&zset("0.1", "3fb9"), &zset("0.1", "3fba")));
        let stream = |consumer: Value| json!({ "type": "stream", "value": { "groups": [{ "consumers": [consumer] }] } });
        let old = stream(json!({ "name": "c", "seen_time_ms": 1 }));
        assert!(same(
            &old,
            &stream(json!({ "name": "c", "seen_time_ms": 2, "active_time_ms": 3 }))
        ));
        assert!(!same(&old, &stream(json!({ "name": "d", "seen_time_ms": 1 }))));
    }

    #[test]
    fn functions_count() {
        let sidecar = json!({ "dataset": [], "functions": [{ "code": "#!lua name=a\nx" }] });
        assert_eq!(
            compare(&sidecar, &[], 0).differences,
            ["functions: #!lua name=a is on one side only"]
        );
        assert!(
            compare(&sidecar, &[json!({ "function": "#!lua name=a\nx" })], 0)
                .differences
                .is_empty()
        );
    }
}
