//! The judge is judged: one change of each kind is planted, and it must find that one and no other.

use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving, Kind};
use crate::servers::{Server, Version};

/// A change, and the differences that it must make.
pub(crate) struct Plant {
    pub(crate) what: &'static str,
    db: u32,
    commands: Vec<Command>,
    pub(crate) seen: Vec<(Kind, u32, Vec<u8>)>,
}

/// A change in database 0 that is seen at one key.
fn at(kind: Kind, key: &str, what: &'static str, commands: Vec<Command>) -> Plant {
    Plant { what, db: 0, commands, seen: vec![(kind, 0, key.as_bytes().to_vec())] }
}

/// As in [`at`], where the value is another one.
fn value(key: &str, what: &'static str, commands: Vec<Command>) -> Plant {
    at(Kind::Value, key, what, commands)
}

/// Far enough that nothing here dies of it.
const LATER: i64 = 4_000_000_000_000;

pub(crate) fn plants(version: Version, holds: Holds) -> Vec<Plant> {
    let mut plants = vec![
        value(
            "string:long",
            "the last byte of a string",
            vec![cmd!("SETRANGE", "string:long", 299_999, "#")],
        ),
        value("string:int:127", "an integer by one", vec![cmd!("INCR", "string:int:127")]),
        value(
            "string:lzf:64",
            "an empty value's length",
            vec![cmd!("APPEND", "string:lzf:64", "\0")],
        ),
        value(
            "list:short",
            "the order of two elements",
            vec![cmd!("LSET", "list:short", 0, 1), cmd!("LSET", "list:short", 1, 0)],
        ),
        value(
            "list:long",
            "an element in the middle",
            vec![cmd!("LSET", "list:long", 1500, "other")],
        ),
        value(
            "list:compressed nodes",
            "one element less",
            vec![cmd!("RPOP", "list:compressed nodes")],
        ),
        value(
            "set:long",
            "a member for another",
            vec![cmd!("SREM", "set:long", "member 5"), cmd!("SADD", "set:long", "Member 5")],
        ),
        value("set:64 bits", "a number in a set", vec![cmd!("SADD", "set:64 bits", 5)]),
        value(
            "zset:ties",
            "a score by its last bit",
            vec![cmd!("ZADD", "zset:ties", "1.0000000000000002", "tie 7")],
        ),
        value(
            // A large one: from 7.0 on a listpack stores both zeros as the integer.
            "zset:long",
            "the sign of a zero",
            vec![cmd!("ZREM", "zset:long", "zero"), cmd!("ZADD", "zset:long", "-0", "zero")],
        ),
        value("hash:long", "a field's value", vec![cmd!("HSET", "hash:long", "field 77", "other")]),
        value("hash:empty", "one empty field more", vec![cmd!("HSET", "hash:empty", "second", "")]),
        value(
            "hll:sparse",
            "a member of a sketch",
            vec![cmd!("PFADD", "hll:sparse", "someone else")],
        ),
        at(
            Kind::Deadline,
            "planted:deadline",
            "a deadline by 1 ms",
            vec![cmd!("PEXPIREAT", "planted:deadline", LATER + 1)],
        ),
        at(
            Kind::Deadline,
            "planted:deadline",
            "a deadline that is gone",
            vec![cmd!("PERSIST", "planted:deadline")],
        ),
        at(
            Kind::Deadline,
            "string:bytes",
            "a deadline that is new",
            vec![cmd!("PEXPIREAT", "string:bytes", LATER)],
        ),
        at(Kind::Missing, "string:crlf", "a missing key", vec![cmd!("DEL", "string:crlf")]),
        at(Kind::Missing, "", "the empty key is missing", vec![cmd!("DEL", "")]),
        at(Kind::Extra, "an extra key", "an extra key", vec![cmd!("SET", "an extra key", "")]),
        at(
            Kind::Type,
            "string:int:0",
            "another type",
            vec![cmd!("DEL", "string:int:0"), cmd!("RPUSH", "string:int:0", 0)],
        ),
        Plant {
            what: "a key in another database",
            db: 3,
            commands: vec![cmd!("MOVE", "string:5", 2)],
            seen: vec![
                (Kind::Missing, 3, b"string:5".to_vec()),
                (Kind::Extra, 2, b"string:5".to_vec()),
            ],
        },
        Plant {
            what: "a value in another database",
            db: 15,
            commands: vec![cmd!("SET", "same name", 14)],
            seen: vec![(Kind::Value, 15, b"same name".to_vec())],
        },
        Plant {
            what: "understudy's own key",
            db: 5,
            commands: vec![cmd!("SET", "understudy:pos:job:source", "a record")],
            seen: vec![],
        },
    ];
    if !version.at_least(3, 2) {
        plants.retain(|plant| plant.what != "one element less");
    }
    if holds.streams {
        stream_plants(&mut plants, version);
    }
    if holds.field_deadlines {
        let key = "hash:deadlines all";
        let change = |at: i64| vec![cmd!("HPEXPIREAT", key, at, "FIELDS", 1, "a")];
        plants.push(value(key, "a field's deadline", change(LATER)));
        plants.push(value(key, "a field's deadline by 1 ms", change(LATER + 1)));
        plants.push(value(
            key,
            "a field's deadline that is gone",
            vec![cmd!("HPERSIST", key, "FIELDS", 1, "a")],
        ));
    }
    if holds.functions {
        let library = "#!lua name=ours\nredis.register_function('add', function() return 2 end)\n";
        let load = vec![cmd!("FUNCTION", "LOAD", "REPLACE", library)];
        plants.push(at(Kind::Function, "ours", "a function's body", load));
        plants.push(at(
            Kind::Function,
            "other",
            "a library that is gone",
            vec![cmd!("FUNCTION", "DELETE", "other")],
        ));
    }
    if holds.vectors {
        let attributes = vec![cmd!("VSETATTR", "vectors:int8", "element 3", "{}")];
        let vector = vec![cmd!(
            "VADD",
            "vectors:float",
            "VALUES",
            4,
            "0.5",
            0,
            0,
            "0.25",
            "element 5",
            "NOQUANT"
        )];
        plants.push(value("vectors:int8", "an element's attributes", attributes));
        plants.push(value("vectors:float", "an element's vector", vector));
    }
    plants
}

fn stream_plants(plants: &mut Vec<Plant>, version: Version) {
    const KEY: &str = "stream:long";
    const GROUP: &[u8] = b"readers \x00\xff";
    let claim = |consumer: &str, time: i64, count: u32| {
        let (time, count) = (cmd!("TIME", time), cmd!("RETRYCOUNT", count, "JUSTID"));
        vec![[cmd!("XCLAIM", KEY, GROUP, consumer, 0, "1001-4"), time, count].concat()]
    };
    plants.extend([
        value(KEY, "an entry more", vec![cmd!("XADD", KEY, "2000-1", "a", "b")]),
        value(KEY, "an entry less", vec![cmd!("XDEL", KEY, "2000-1")]),
        value(KEY, "a stream's last id", vec![cmd!("XSETID", KEY, "2000-2")]),
        value(KEY, "a group's last id", vec![cmd!("XGROUP", "SETID", KEY, "untouched", "1000-1")]),
        value(KEY, "a delivery's time by 1 ms", claim("carol", 1_700_000_000_124, 9)),
        value(KEY, "a delivery's count", claim("carol", 1_700_000_000_124, 10)),
        value(KEY, "a pending entry's consumer", claim("alice", 1_700_000_000_124, 10)),
        value(KEY, "a pending entry less", vec![cmd!("XACK", KEY, GROUP, "1001-5")]),
        value(KEY, "a consumer less", vec![cmd!("XGROUP", "DELCONSUMER", KEY, GROUP, "carol")]),
        value(KEY, "a group less", vec![cmd!("XGROUP", "DESTROY", KEY, "untouched")]),
        value(KEY, "a group more", vec![cmd!("XGROUP", "CREATE", KEY, "new", "0")]),
    ]);
    if version.at_least(6, 2) {
        plants.push(value(
            KEY,
            "an idle consumer",
            vec![cmd!("XGROUP", "CREATECONSUMER", KEY, "ahead", "another")],
        ));
    }
    if version.at_least(7, 0) {
        let one = "18446744073709551615-9";
        let set = |added: u32, deleted: &str| {
            vec![cmd!("XSETID", "stream:one", one, "ENTRIESADDED", added, "MAXDELETEDID", deleted)]
        };
        let read =
            vec![cmd!("XGROUP", "SETID", "stream:holes", "counted", "5-10", "ENTRIESREAD", 11)];
        plants.extend([
            value("stream:one", "the count of entries added", set(78, "3-3")),
            value("stream:one", "the greatest deleted id", set(78, "3-4")),
            value("stream:holes", "a group's count of entries read", read),
        ]);
    }
}

/// Fills a server with all that will be changed.
pub(crate) fn fill(client: &mut Client, version: Version, holds: Holds) {
    data::fill(client, version, holds);
    data::all(
        client,
        &[
            cmd!("SET", "planted:deadline", "value"),
            cmd!("PEXPIREAT", "planted:deadline", LATER),
            cmd!("ZADD", "zset:long", 0, "zero"),
        ],
    );
}

fn finds_what_is_planted(name: &'static str) {
    let Some(server) = Server::start(name) else { return };
    let mut client = server.client();
    let holds = Holds::of(&mut client);
    fill(&mut client, server.version, holds);
    let mut before = Dump::read(&mut client);
    judge::assert_same(
        &before,
        &Dump::read(&mut client),
        Forgiving::default(),
        "nothing was planted",
    );
    for plant in plants(server.version, holds) {
        apply(&mut client, &plant);
        let after = Dump::read(&mut client);
        let found = judge::diff(&before, &after, Forgiving::default());
        let seen: Vec<_> = found.iter().map(|one| (one.kind, one.db, one.key.clone())).collect();
        assert_eq!(seen, plant.seen, "{name}: {}: {found:?}", plant.what);
        before = after;
    }
}

pub(crate) fn apply(client: &mut Client, plant: &Plant) {
    client.select(plant.db);
    data::all(client, &plant.commands);
    client.select(0);
}

macro_rules! a_planted_change_is_found {
    ($($test:ident $server:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            finds_what_is_planted($server);
        })+
    };
}

// Wherever the judge reads in another way: the oldest, streams without FULL, deadlines by PTTL, all counters, fields'
// deadlines of both families.
a_planted_change_is_found! {
    redis_2_8 "redis-2.8.17",
    redis_3_2 "redis-3.2.6",
    redis_5_0 "redis-5.0.6",
    redis_6_0 "redis-6.0.16",
    redis_6_2 "redis-6.2.14",
    redis_7_0 "redis-7.0.15",
    redis_8_0 "redis-8.0.6",
    valkey_8_1 "valkey-8.1.1",
    valkey_9_1 "valkey-9.1.2",
}
