//! What a recording's sidecar says that its master held.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::judge::{Content, Dump, Group, Key, Pending, Place, Stream};
use crate::recorded::latin1;

impl Dump {
    /// The content that the end of a recorded stream stands for, as one sees it who was told the stream: a master does not tell
    /// all bookkeeping of consumers. `now` is the clock of who is compared with it, in ms.
    pub(crate) fn recorded(sidecar: &Json, now: i64) -> Self {
        let mut keys = BTreeMap::new();
        let told = &sidecar["replay"]["replica_entries"];
        for entry in list(&sidecar["dataset"]).iter().chain(told.as_array().into_iter().flatten()) {
            let place =
                (u32::try_from(entry["db"].as_u64().unwrap()).unwrap(), latin1(&entry["key"]));
            let deadline = entry["expire_at_ms"].as_i64();
            keys.insert(place, Key { deadline, content: content(entry) });
        }
        let functions = sidecar["functions"].as_array().into_iter().flatten();
        let functions =
            functions.map(|library| (latin1(&library["name"]), latin1(&library["code"]))).collect();
        Self { keys, functions, own: Vec::new(), read_by: now }
    }

    /// When a key dies, if it is there and does.
    pub(crate) fn deadline_of(&self, place: &Place) -> Option<i64> {
        self.keys.get(place)?.deadline
    }

    pub(crate) fn holds(&self, place: &Place) -> bool {
        self.keys.contains_key(place)
    }

    /// The keys that are past their deadline at `now`.
    pub(crate) fn due(&self, now: i64) -> Vec<Place> {
        let due = |key: &Key| key.deadline.is_some_and(|at| at <= now);
        self.keys.iter().filter(|(_, key)| due(key)).map(|(place, _)| place.clone()).collect()
    }

    /// The server's clock when the last key had been read, in ms.
    pub(crate) const fn read_by(&self) -> i64 {
        self.read_by
    }
}

fn list(value: &Json) -> &Vec<Json> {
    value.as_array().expect("a list")
}

fn bytes_of(value: &Json) -> Vec<Vec<u8>> {
    list(value).iter().map(latin1).collect()
}

fn content(entry: &Json) -> Content {
    let value = &entry["value"];
    match entry["type"].as_str().unwrap() {
        "string" => Content::String(latin1(value)),
        "list" => Content::List(bytes_of(value)),
        "set" => Content::Set(bytes_of(value).into_iter().collect()),
        "hash" => Content::Hash(
            list(value)
                .iter()
                .map(|field| (latin1(&field[0]), (latin1(&field[1]), field[2].as_i64())))
                .collect(),
        ),
        "zset" => Content::Zset(
            list(value)
                .iter()
                .map(|member| {
                    let bits = u64::from_str_radix(member[2].as_str().unwrap(), 16).unwrap();
                    (latin1(&member[0]), bits)
                })
                .collect(),
        ),
        "stream" => Content::Stream(Box::new(stream(value))),
        other => panic!("the judge does not know a recorded {other}"),
    }
}

fn stream(value: &Json) -> Stream {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let entries: Vec<_> = list(&value["entries"])
        .iter()
        .map(|entry| (text(&entry[0]).unwrap(), bytes_of(&entry[1])))
        .collect();
    assert_eq!(entries.len() as u64, value["length"].as_u64().unwrap());
    Stream {
        entries,
        last_id: text(&value["last_id"]).unwrap(),
        entries_added: value["entries_added"].as_i64(),
        max_deleted_id: text(&value["max_deleted_id"]),
        groups: list(&value["groups"])
            .iter()
            .map(|group| (latin1(&group["name"]), self::group(group)))
            .collect(),
    }
}

fn group(group: &Json) -> Group {
    let pending = list(&group["pel"]).iter().map(|entry| {
        let pending = Pending {
            consumer: latin1(&entry[1]),
            delivered_at: entry[2].as_i64().unwrap(),
            delivered: entry[3].as_i64().unwrap(),
        };
        (entry[0].as_str().unwrap().to_owned(), pending)
    });
    Group {
        last_id: group["last_id"].as_str().unwrap().to_owned(),
        entries_read: group.get("entries_read").map(Json::as_i64),
        consumers: list(&group["consumers"])
            .iter()
            .map(|consumer| latin1(&consumer["name"]))
            .collect::<BTreeSet<_>>(),
        pending: pending.collect(),
    }
}
