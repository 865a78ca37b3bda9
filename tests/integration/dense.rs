//! Many differences in one data set, all of them told and no other, whichever way both sides are read: at the first, a middle and the last key in
//! the order of `SCAN` and of the data set on either side, and at the first, a middle and the last element of values of one element to many.
//!
//! `UNDERSTUDY_DENSE` says how many small keys, and how many elements in the largest values, there are: a million, by hand.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use crate::client::{Client, Command, cmd};
use crate::data::Holds;
use crate::servers::Server;
use crate::tool::Understudy;
use crate::verify::{Found, Said, said, without, without_dump};

/// A million of both takes a debug build minutes.
const PATIENCE: Duration = Duration::from_secs(600);

const LATER: i64 = 4_000_000_000_000;

const TYPES: [&str; 6] = ["string", "list", "set", "zset", "hash", "stream"];

/// How many small keys there are, and how many elements the largest values have.
fn scale() -> (usize, usize) {
    match env::var("UNDERSTUDY_DENSE").ok().and_then(|text| text.parse().ok()) {
        Some(many) => (many, many),
        None => (40_000, 10_000),
    }
}

/// In what order a server meets its keys: by `SCAN`, and as it saves them.
fn orders(client: &mut Client) -> [Vec<Vec<u8>>; 2] {
    let (mut cursor, mut scanned) = ("0".to_owned(), Vec::new());
    loop {
        let page = client.call(cmd!("SCAN", cursor, "COUNT", 10_000));
        cursor = page.array()[0].text();
        scanned.extend(page.array()[1].strings());
        if cursor == "0" {
            break;
        }
    }
    [scanned, client.call(cmd!("KEYS", "*")).strings()]
}

/// Commands that make a value of so many elements.
fn made(kind: &str, key: &str, size: usize) -> Vec<Command> {
    if kind == "string" {
        return vec![cmd!("SET", key, "0123456789".repeat(size).into_bytes()[..size].to_vec())];
    }
    if kind == "stream" {
        return (1..=size).map(|n| cmd!("XADD", key, format!("{n}-1"), "field", n)).collect();
    }
    let numbers: Vec<usize> = (0..size).collect();
    let some = numbers.chunks(500).map(|some| {
        let command = match kind {
            "list" => cmd!("RPUSH", key),
            "set" => cmd!("SADD", key),
            "zset" => cmd!("ZADD", key),
            _ => cmd!("HMSET", key),
        };
        let elements = some.iter().flat_map(|n| match kind {
            "list" | "set" => cmd!(format!("element {n}")),
            "zset" => cmd!(n, format!("element {n}")),
            _ => cmd!(format!("field {n}"), n),
        });
        command.into_iter().chain(elements).collect()
    });
    some.collect()
}

/// Commands that change one element of it.
fn changed(kind: &str, key: &str, at: usize) -> Vec<Command> {
    match kind {
        "string" => vec![cmd!("SETRANGE", key, at, "#")],
        "list" => vec![cmd!("LSET", key, at, "#")],
        "set" => vec![cmd!("SADD", key, "#"), cmd!("SREM", key, format!("element {at}"))],
        "zset" => vec![cmd!("ZADD", key, format!("{at}.5"), format!("element {at}"))],
        "hash" => vec![cmd!("HSET", key, format!("field {at}"), "#")],
        _ => vec![cmd!("XDEL", key, format!("{}-1", at + 1))],
    }
}

fn places(len: usize) -> [usize; 3] {
    [0, len / 2, len - 1]
}

fn pipelined(client: &mut Client, commands: &[Command]) {
    for some in commands.chunks(1000) {
        client.pipeline(some).into_iter().for_each(|reply| drop(reply.ok()));
    }
}

/// Plants one difference of each of these kinds around each of these places, so many behind it, on either side.
fn plant_keys(
    (source, target): (&mut Client, &mut Client),
    (kinds, behind): (&[&'static str], usize),
    order: &[Vec<u8>],
    planted: &mut BTreeMap<Vec<u8>, &'static str>,
) {
    for place in [0, order.len() / 2, order.len() - 5] {
        for (kind, key) in kinds.iter().copied().zip(&order[place + behind..]) {
            let is_small = key.starts_with(b"key:");
            if !is_small || planted.contains_key(key) {
                continue;
            }
            planted.insert(key.clone(), kind);
            match kind {
                "missing" => pipelined(target, &[cmd!("DEL", key)]),
                "extra" => pipelined(source, &[cmd!("DEL", key)]),
                "type" => pipelined(target, &[cmd!("DEL", key), cmd!("SADD", key, "value")]),
                "value" => pipelined(target, &[cmd!("APPEND", key, "#")]),
                _ => pipelined(target, &[cmd!("PEXPIREAT", key, LATER)]),
            }
        }
    }
}

fn dense(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let (keys, most) = scale();
    let [mut at_source, mut at_target] =
        [&source, &target].map(|server| Client::connect_with(server.port, PATIENCE));
    let holds = Holds::of(&mut at_source).and(Holds::of(&mut at_target));
    at_source.call(cmd!("DEBUG", "POPULATE", keys));
    let types = TYPES.iter().filter(|kind| **kind != "stream" || holds.streams);
    let mut values = Vec::new();
    for kind in types {
        for size in [1, 2, 200, most] {
            for (nth, at) in places(size).into_iter().enumerate() {
                let key = format!("{kind} of {size}, {nth}");
                pipelined(&mut at_source, &made(kind, &key, size));
                values.push((*kind, key, at));
            }
        }
    }
    if holds.field_deadlines {
        for (nth, at) in places(most).into_iter().enumerate() {
            let key = format!("fields of {most}, {nth}");
            pipelined(&mut at_source, &made("hash", &key, most));
            values.push(("fields", key, at));
        }
    }
    let (from_url, to_url) = (source.url(), target.url());
    let places = ["--from", &from_url, "--to", &to_url];
    let running = Understudy::start_telling(&[&["sync"], &places[..]].concat());
    running.follows(PATIENCE);
    let mut planted = BTreeMap::new();
    let orders: Vec<_> = orders(&mut at_source).into_iter().chain(orders(&mut at_target)).collect();
    for order in &orders {
        let kinds = (&["missing", "type", "value", "ttl"][..], 0);
        plant_keys((&mut at_source, &mut at_target), kinds, order, &mut planted);
    }
    for (kind, key, at) in &values {
        let field = format!("field {at}");
        let (commands, kind) = match *kind {
            "fields" => (vec![cmd!("HPEXPIREAT", key, LATER, "FIELDS", 1, field)], "ttl"),
            kind => (changed(kind, key, *at), "value"),
        };
        pipelined(&mut at_target, &commands);
        // A set of one becomes another; a string of one too.
        planted.insert(key.clone().into_bytes(), kind);
    }
    // While the job runs what is gone from the source goes from the target too.
    let by_job = [&["verify", "--json", "--memory", "64MiB"], &places[..]].concat();
    let ended = Understudy::start_telling_in(&by_job, running.state()).wait(PATIENCE);
    let what = format!("{} and {}, beside a job", source.name, target.name);
    assert_told(&said(&ended), &planted, "SCAN, MGET and DUMP", &what);
    assert!(ended.stderr.contains("the digests of the job's copy"), "{what}: {}", ended.stderr);
    running.beside(&["stop", "--finish"]).assert_code(0);
    running.wait(PATIENCE).assert_code(0);
    for order in &orders {
        plant_keys((&mut at_source, &mut at_target), (&["extra"], 4), order, &mut planted);
    }
    let small = planted.len() - values.len();
    assert!(small >= 40, "only {small} of the small keys were met");
    let (few_from, few_to) = (without_dump(&source), without_dump(&target));
    let dumped = without(&target, "mget");
    let mut ways = vec![
        (&from_url, &to_url, "auto", "SCAN, MGET and DUMP"),
        (&from_url, &to_url, "scan", "SCAN, MGET and DUMP"),
        (&from_url, &to_url, "replication", "psync"),
    ];
    ways.extend(dumped.as_ref().map(|to| (&from_url, to, "auto", "SCAN and DUMP")));
    if let Some(few_to) = &few_to {
        let few_from = few_from.as_ref().unwrap_or(&from_url);
        ways.push((few_from, few_to, "scan", "SCAN and reads by type"));
    }
    for (from, to, by, method) in ways {
        let args =
            ["verify", "--from", from, "--to", to, "--by", by, "--json", "--memory", "64MiB"];
        let said = said(&Understudy::start(&args).wait(PATIENCE));
        let what = format!("{} and {}, by {by}, the target by {method}", source.name, target.name);
        assert_told(&said, &planted, method, &what);
    }
}

/// All that was planted is told, and nothing else.
fn assert_told(said: &Said, planted: &BTreeMap<Vec<u8>, &'static str>, method: &str, what: &str) {
    let differ: Vec<Found> = planted
        .iter()
        .map(|(key, kind)| ((*kind).to_owned(), "0".to_owned(), key.clone()))
        .collect();
    let missed: Vec<_> = differ.iter().filter(|one| !said.differ.contains(one)).collect();
    let invented: Vec<_> = said.differ.iter().filter(|one| !differ.contains(one)).collect();
    assert!(
        missed.is_empty() && invented.is_empty(),
        "{what}: missed {missed:?}, invented {invented:?}"
    );
    assert_eq!(said.counts["target"], method, "{what}");
    assert_eq!(said.counts["unproven"], 0, "{what}: {}", said.stderr);
}

macro_rules! dense {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            dense($from, $to);
        })+
    };
}

dense! {
    dense_between_7_0 "redis-7.0.15" "redis-7.0.15",
    dense_from_2_8 "redis-2.8.17" "redis-8.0.6",
    dense_to_valkey "redis-6.2.14" "valkey-9.1.2",
    dense_with_dying_fields "redis-8.0.6" "redis-8.0.6",
}
