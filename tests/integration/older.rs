//! What a newer source says arrives in an older target: the same effect in other words, or a refusal that names the command,
//! the key and the target.

use std::time::Duration;

use crate::client::{Client, Command, Value, cmd};
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(8);

/// Keys that the commands of [`changes`] find.
fn before(streams: bool) -> Vec<Command> {
    let mut commands = vec![
        cmd!("MSET", "s1", "one", "s2", "two", "s3", "three", "number", 10),
        cmd!("SET", "dies", "later", "PX", 5_000_123),
        cmd!("SET", "dies too", "later", "PX", 7_000_321),
        cmd!("SET", "counted", "1.5", "PX", 6_000_111),
        cmd!("RPUSH", "list", "a", "b", "c", "d", "e", "f", "g", "h"),
        cmd!("RPUSH", "other", "x", "y"),
        cmd!("SADD", "set", "a", "b", "c", "1", "2"),
        cmd!(
            "ZADD", "zset", "-inf", "low", "0.1", "a", 1, "b", 1, "c", 2, "d", "3.5", "e", "inf",
            "high"
        ),
        cmd!("ZADD", "lex", 0, "a", 0, "b", 0, "c", 0, "d"),
        cmd!(
            "GEOADD",
            "geo",
            "13.361389",
            "38.115556",
            "Palermo",
            "15.087269",
            "37.502669",
            "Catania"
        ),
        cmd!("HSET", "hash", "f", "1", "g", "2", "float", "1.5"),
        cmd!("PEXPIREAT", "hash", 4_000_000_000_123_i64),
    ];
    if streams {
        for n in 1..=20 {
            commands.push(cmd!("XADD", "stream", format!("{n}-1"), "n", n));
            commands.push(cmd!("XADD", "second", format!("{n}-1"), "n", n));
        }
    }
    commands
}

/// Commands whose form an older server does not know; each writes keys that the others leave alone, or follows from them.
fn changes(streams: bool, geo: bool) -> Vec<Command> {
    let mut commands = vec![
        cmd!("UNLINK", "s1"),
        cmd!("SET", "s2", "new", "XX", "GET"),
        cmd!("SET", "dies", "still", "KEEPTTL"),
        cmd!("INCRBYFLOAT", "counted", "0.25"),
        cmd!("GETDEL", "s3"),
        cmd!("COPY", "dies too", "copied"),
        cmd!("COPY", "list", "copied list", "DB", 5),
        cmd!("COPY", "zset", "other", "REPLACE"),
        cmd!("COPY", "hash", "copied hash"),
        cmd!("LPOP", "list", 2),
        cmd!("RPOP", "list", 1),
        cmd!("LMOVE", "list", "moved", "LEFT", "RIGHT"),
        cmd!("LMOVE", "list", "moved", "LEFT", "LEFT"),
        cmd!("LMOVE", "list", "moved", "RIGHT", "RIGHT"),
        cmd!("LMOVE", "list", "moved", "RIGHT", "LEFT"),
        cmd!("BLMPOP", 1, 1, "moved", "LEFT", "COUNT", 2),
        cmd!("RPUSHX", "moved", "one", "more"),
        cmd!("LPUSHX", "moved", "and", "another"),
        cmd!("ZADD", "zset", "NX", 9, "a", 9, "new"),
        cmd!("ZADD", "zset", "XX", "CH", 8, "a", 8, "absent"),
        cmd!("ZADD", "zset", "GT", 1, "a", 9, "d", 7, "greater"),
        cmd!("ZADD", "zset", "LT", "-1", "b", 9, "c", "inf", "less"),
        cmd!("ZADD", "zset", "GT", "INCR", "0.1", "e"),
        cmd!("ZADD", "zset", "CH", "-inf", "e", "17.25", "f"),
        cmd!("ZRANGESTORE", "by rank", "zset", 1, -2),
        cmd!("ZRANGESTORE", "by rank, reversed", "zset", 0, 2, "REV"),
        cmd!("ZRANGESTORE", "by score", "zset", "(1", "+inf", "BYSCORE", "LIMIT", 1, 3),
        cmd!("ZRANGESTORE", "by score, reversed", "zset", "+inf", "(1", "BYSCORE", "REV"),
        cmd!("ZRANGESTORE", "by name", "lex", "[b", "(d", "BYLEX"),
        cmd!("ZRANGESTORE", "lex", "lex", "[c", "-", "BYLEX", "REV", "LIMIT", 0, 2),
        cmd!("ZDIFFSTORE", "difference", 3, "zset", "lex", "set"),
        cmd!("ZDIFFSTORE", "of a set", 2, "set", "lex"),
        cmd!("ZPOPMIN", "zset"),
        cmd!("ZMPOP", 1, "zset", "MAX", "COUNT", 2),
        cmd!("HSET", "hash", "two", 2, "at once", 3),
        cmd!("HINCRBYFLOAT", "hash", "float", "0.25"),
        cmd!("HGETDEL", "hash", "FIELDS", 1, "g"),
        cmd!("EXPIRE", "set", 100_000, "NX"),
        cmd!("SELECT", 7),
        cmd!("SET", "flushed", 1),
        cmd!("FLUSHDB", "SYNC"),
        cmd!("SET", "flushed", 2),
        cmd!("FLUSHDB", "ASYNC"),
        cmd!("SET", "stays", 1),
        cmd!("SELECT", 0),
    ];
    if geo {
        commands.extend([
            cmd!("GEOSEARCHSTORE", "near", "geo", "FROMLONLAT", 15, 37, "BYRADIUS", 100, "km"),
            cmd!(
                "GEOSEARCHSTORE",
                "far",
                "geo",
                "FROMMEMBER",
                "Catania",
                "BYRADIUS",
                300,
                "km",
                "DESC",
                "STOREDIST"
            ),
        ]);
    }
    if streams {
        commands.extend([
            cmd!("XADD", "stream", "NOMKSTREAM", "21-1", "n", 21),
            cmd!("XADD", "stream", "MINID", "=", "5", "22-1", "n", 22),
            cmd!("XADD", "stream", "MINID", "6-1", "23-1", "n", 23),
            cmd!("XTRIM", "stream", "MINID", "8"),
            cmd!("XADD", "second", "MAXLEN", "~", 5, "LIMIT", 1, "21-1", "n", 21),
            cmd!("CONFIG", "SET", "stream-node-max-entries", 2),
            cmd!("XADD", "cut", "1-1", "a", "b"),
            cmd!("XADD", "cut", "2-1", "a", "b"),
            cmd!("XADD", "cut", "3-1", "a", "b"),
            cmd!("XADD", "cut", "4-1", "a", "b"),
            cmd!("XADD", "cut", "MAXLEN", "~", 1, "LIMIT", 2, "5-1", "a", "b"),
            cmd!("XADD", "cut", "6-1", "a", "b"),
            cmd!("XTRIM", "cut", "MINID", "~", "6", "LIMIT", 2),
            cmd!("XGROUP", "CREATE", "stream", "group", "9", "ENTRIESREAD", 3),
            cmd!("XGROUP", "CREATECONSUMER", "stream", "group", "idle"),
            cmd!("XGROUP", "CREATE", "made", "group", "$", "MKSTREAM"),
            cmd!("XREADGROUP", "GROUP", "group", "busy", "COUNT", 2, "STREAMS", "stream", ">"),
            cmd!("XAUTOCLAIM", "stream", "group", "other", 0, "0", "COUNT", 1),
            cmd!("XSETID", "second", "99-9", "ENTRIESADDED", 200, "MAXDELETEDID", "50-1"),
        ]);
    }
    commands
}

/// Sends commands, of which none may be refused nor do nothing.
#[track_caller]
fn all(client: &mut Client, commands: &[Command]) {
    for (reply, command) in client.pipeline(commands).iter().zip(commands) {
        assert!(
            !reply.is_error(),
            "{:?}: {reply:?}",
            command.join(&b' ').escape_ascii().to_string()
        );
    }
}

/// Restores payloads of this server's own forms, with deadlines and without.
fn restore(writer: &mut Client, reader: &mut Client, streams: bool) {
    let mut keys = vec!["number", "list", "set", "zset", "hash"];
    if streams {
        keys.push("stream");
    }
    if reader.knows("HPEXPIREAT") {
        writer.call(cmd!("HSET", "mortals", "f", 1, "g", 2));
        writer.call(cmd!("HPEXPIREAT", "mortals", 4_000_000_000_777_i64, "FIELDS", 1, "f"));
        keys.push("mortals");
    }
    for key in keys {
        let dump = writer.call(cmd!("DUMP", key)).bytes().to_vec();
        let copy = |how| format!("{key} {how}");
        all(
            writer,
            &[
                cmd!("RESTORE", copy("restored"), 0, dump),
                cmd!("RESTORE", copy("that dies"), 5_000_777, dump),
                cmd!(
                    "RESTORE",
                    copy("at a time"),
                    4_000_000_000_555_i64,
                    dump,
                    "ABSTTL",
                    "IDLETIME",
                    7
                ),
                cmd!("SET", copy("replaced"), "old"),
                cmd!("RESTORE", copy("replaced"), 0, dump, "REPLACE"),
            ],
        );
    }
}

fn arrives(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let (mut writer, mut reader) = (source.client(), target.client());
    let streams = reader.knows("XADD");
    all(&mut writer, &before(streams));
    let mut running = Understudy::start(&["sync", "--from", &source.url(), "--to", &target.url()]);
    writer.call(cmd!("SET", "begun", 1));
    assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
    all(&mut writer, &changes(streams, reader.knows("GEORADIUS")));
    restore(&mut writer, &mut reader, streams);
    writer.call(cmd!("SET", "the end", 1));
    let arrived =
        Client::wait_for_key(target.port, 0, "the end", PATIENCE, || running.is_running());
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut reader));
    let forgiving = Forgiving { entries_read: true, ..Forgiving::default() };
    judge::assert_same(&first, &second, forgiving, &format!("{from} to {to}"));
}

macro_rules! the_same_effect_arrives {
    ($($test:ident $to:literal),+ $(,)?) => {
        mod the_same_effect_arrives {
            $(#[test]
            fn $test() {
                super::arrives("redis-8.0.6", $to);
            })+
        }
    };
}

the_same_effect_arrives! {
    in_redis_2_8 "redis-2.8.17",
    in_redis_3_0 "redis-3.0.5",
    in_redis_3_2 "redis-3.2.6",
    in_redis_5_0 "redis-5.0.6",
    in_redis_6_0 "redis-6.0.16",
    in_redis_6_2 "redis-6.2.14",
    in_redis_7_0 "redis-7.0.15",
    in_redis_8_0 "redis-8.0.6",
    in_valkey_8_1 "valkey-8.1.1",
    in_valkey_9_1 "valkey-9.1.2",
}

/// A command for which the target has nothing ends the run with its name and key.
#[test]
fn what_has_no_equivalent_ends_the_run() {
    for (to, write, name) in [
        ("redis-3.2.6", cmd!("XADD", "its key", "1-1", "a", "b"), "XADD"),
        (
            "redis-7.0.15",
            cmd!("HPEXPIREAT", "its key", 4_000_000_000_000_i64, "FIELDS", 1, "f"),
            "HPEXPIREAT",
        ),
        (
            "redis-6.2.14",
            cmd!(
                "FUNCTION",
                "LOAD",
                "#!lua name=a\nredis.register_function('f', function() return 1 end)"
            ),
            "FUNCTION",
        ),
        ("redis-3.0.5", cmd!("BITFIELD", "its key string", "SET", "u8", 0, 1), "BITFIELD"),
    ] {
        let (Some(source), Some(target)) = (Server::start("redis-8.0.6"), Server::start(to)) else {
            return;
        };
        let mut writer = source.client();
        writer.call(cmd!("HSET", "its key", "f", "v"));
        if name == "XADD" {
            writer.call(cmd!("DEL", "its key"));
        }
        let mut running =
            Understudy::start(&["sync", "--from", &source.url(), "--to", &target.url()]);
        writer.call(cmd!("SET", "begun", 1));
        assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
        let keyed = write[1].starts_with(b"its key");
        writer.call(write);
        let ended = running.wait(PATIENCE);
        ended.assert_code(3);
        assert_eq!(ended.reported("outcome"), "failed");
        assert!(ended.stderr.contains(name), "{}", ended.stderr);
        assert!(!keyed || ended.stderr.contains("its key"), "{}", ended.stderr);
        assert!(ended.stderr.contains("mend:"), "{}", ended.stderr);
    }
}

/// Until a run ends, a deadline that a script set on the target's clock is held back as any other; at the end it is the source's.
#[test]
fn deadlines_that_a_script_sets_are_held_back() {
    const DIES: &str =
        "redis.call('SET',KEYS[1],'v') redis.call('PEXPIRE',KEYS[1],ARGV[1]) return 1";
    for name in ["redis-2.8.17", "redis-3.2.6"] {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let (mut writer, mut reader) = (source.client(), target.client());
        let mut running =
            Understudy::start(&["sync", "--from", &source.url(), "--to", &target.url()]);
        writer.call(cmd!("EVAL", DIES, 1, "soon", 500));
        writer.call(cmd!("EVAL", DIES, 1, "in a while", 600_000));
        writer.call(cmd!("EVAL", DIES, 1, "in a year", 31_536_000_000_i64));
        writer.call(cmd!("SET", "begun", 1));
        assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
        for (key, held) in [("soon", true), ("in a while", true), ("in a year", false)] {
            let left = reader.call(cmd!("PTTL", key)).int();
            assert_eq!(left > 1 << 44, held, "{name}: {key} has {left} ms left");
        }
        // Long after the script's deadline it is the source that says what becomes of the key.
        writer.call(cmd!("PERSIST", "soon"));
        writer.call(cmd!("SET", "the end", 1));
        assert!(Client::wait_for_key(target.port, 0, "the end", PATIENCE, || running.is_running()));
        running.end_job(PATIENCE).assert_code(130);
        let (first, second) = (Dump::read(&mut writer), Dump::read(&mut reader));
        judge::assert_same(&first, &second, Forgiving::default(), name);
        assert_eq!(reader.call(cmd!("PTTL", "soon")), Value::Int(-1));
    }
}

/// A target that has lost a script still runs it when the source calls it by its name alone.
#[test]
fn a_script_that_the_target_lost_is_sent_whole() {
    let name = "redis-3.2.6";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let (mut writer, mut reader) = (source.client(), target.client());
    let push = "return redis.call('RPUSH',KEYS[1],ARGV[1])";
    let loaded = "return redis.call('RPUSH',KEYS[1],ARGV[1],'loaded')";
    let sha = writer.call(cmd!("SCRIPT", "LOAD", loaded)).text();
    let mut running = Understudy::start(&["sync", "--from", &source.url(), "--to", &target.url()]);
    writer.call(cmd!("SET", "begun", 1));
    assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
    writer.call(cmd!("EVAL", push, 1, "list", "first"));
    writer.call(cmd!("EVALSHA", sha, 1, "list", "first"));
    writer.call(cmd!("SET", "half", 1));
    assert!(Client::wait_for_key(target.port, 0, "half", PATIENCE, || running.is_running()));
    reader.call(cmd!("SCRIPT", "FLUSH"));
    let pushed = writer.call(cmd!("EVAL", push, 1, "list", "second"));
    assert_eq!(pushed, Value::Int(4));
    writer.call(cmd!("EVALSHA", sha, 1, "list", "second"));
    writer.call(cmd!("SET", "the end", 1));
    assert!(Client::wait_for_key(target.port, 0, "the end", PATIENCE, || running.is_running()));
    running.end_job(PATIENCE).assert_code(130);
    let all = cmd!("LRANGE", "list", 0, -1);
    assert_eq!(reader.call(all.clone()), writer.call(all));
}
