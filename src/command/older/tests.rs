use super::*;
use crate::command::deadline::Deadline;
use crate::command::lookup;
use crate::command::testing::words;

fn server(name: &str) -> Server {
    let (flavour, version) = name.split_once(' ').unwrap();
    let flavour = match flavour {
        "redis" => Flavour::Redis,
        "valkey" => Flavour::Valkey,
        "redict" => Flavour::Redict,
        other => panic!("{other}"),
    };
    Server { flavour, version: Version::parse(version).unwrap() }
}

/// What `line` becomes for a target: `None` if it stays; a script is shown as `EVAL` with its keys and arguments.
fn said(line: &str, target: &str) -> Result<Option<Vec<String>>, String> {
    let args = words(line);
    let known = lookup(args[0]).unwrap();
    let wording = known.worded_for(server(target), &args, Db::new(3));
    let shown = |worded: &Worded<'_>| {
        let mut args: Vec<_> =
            worded.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        if args[0] == "EVAL" {
            args.remove(1);
        }
        args.join(" ")
    };
    match wording {
        Ok(None) => Ok(None),
        Ok(Some(wording)) => Ok(Some(wording.commands.iter().map(shown).collect())),
        Err(unsupported) => Err(unsupported.to_string()),
    }
}

#[test]
fn the_same_effect_in_older_words() {
    for (line, last_without, first_with, expected) in [
        ("UNLINK a b", "redis 3.2.6", Some("redis 4.0.0"), "DEL a b"),
        ("GETDEL k", "redis 6.0.16", Some("redis 6.2.0"), "DEL k"),
        ("DELEX k IFEQ v", "redis 8.2.0", Some("redis 8.4.0"), "DEL k"),
        ("DELIFEQ k v", "redis 8.4.0", Some("valkey 9.0.0"), "DEL k"),
        ("GETEX k PERSIST", "redis 6.0.16", Some("redis 6.2.0"), "PERSIST k"),
        ("SET k v NX GET", "redis 6.0.16", Some("redis 6.2.0"), "SET k v NX"),
        ("SET k v KEEPTTL", "redis 5.0.6", Some("redis 6.0.0"), "EVAL 1 k v"),
        ("SET k v IFEQ old", "redis 8.0.6", Some("valkey 8.1.1"), "SET k v"),
        ("SET k v KEEPTTL IFEQ old", "redis 8.0.6", Some("redis 8.4.0"), "SET k v KEEPTTL"),
        ("MSETEX 2 a 1 b 2 NX", "redis 8.2.0", Some("valkey 9.1.0"), "MSET a 1 b 2"),
        ("LPUSHX k a b", "redis 3.2.6", Some("redis 4.0.0"), "LPUSH k a b"),
        ("RPUSHX k a b", "redis 3.2.6", Some("redis 4.0.0"), "RPUSH k a b"),
        ("LPOP k 3", "redis 6.0.16", Some("redis 6.2.0"), "LTRIM k 3 -1"),
        ("RPOP k 3", "redis 6.0.16", Some("redis 6.2.0"), "LTRIM k 0 -4"),
        ("LMOVE a b RIGHT LEFT", "redis 6.0.16", Some("redis 6.2.0"), "RPOPLPUSH a b"),
        ("LMOVE a b LEFT RIGHT", "redis 6.0.16", Some("redis 6.2.0"), "EVAL 2 a b LPOP RPUSH"),
        ("BLMOVE a b RIGHT RIGHT 0", "redis 6.0.16", Some("redis 6.2.0"), "EVAL 2 a b RPOP RPUSH"),
        ("COPY a b", "redis 6.0.16", Some("redis 6.2.0"), "EVAL 2 a b 0  3"),
        ("COPY a b DB 7 REPLACE", "redis 2.8.17", Some("redis 6.2.0"), "EVAL 2 a b 1 7 3"),
        ("ZADD k CH 1 m", "redis 2.8.17", Some("redis 3.0.2"), "ZADD k 1 m"),
        ("zadd k XX INCR 1 m", "redis 2.8.17", Some("redis 3.0.2"), "EVAL 1 k xx incr  1 m"),
        ("ZADD k GT CH 1 m", "redis 6.0.16", Some("redis 6.2.0"), "EVAL 1 k gt ch  1 m"),
        ("ZPOPMIN k", "redis 4.0.14", Some("redis 5.0.0"), "ZREMRANGEBYRANK k 0 0"),
        ("ZPOPMAX k 2", "redis 4.0.14", Some("redis 5.0.0"), "ZREMRANGEBYRANK k -2 -1"),
        (
            "ZRANGESTORE d s (1 5 BYSCORE REV LIMIT 0 2",
            "redis 6.0.16",
            Some("redis 6.2.0"),
            "EVAL 2 d s 1 ZREVRANGEBYSCORE (1 5 WITHSCORES LIMIT 0 2",
        ),
        (
            "ZRANGESTORE d s [a (c BYLEX",
            "redis 2.8.17",
            Some("redis 6.2.0"),
            "EVAL 2 d s 0 ZRANGEBYLEX [a (c",
        ),
        ("ZDIFFSTORE d 2 a b", "redis 6.0.16", Some("redis 6.2.0"), "EVAL 3 d a b"),
        (
            "GEOSEARCHSTORE d s FROMLONLAT 1 2 BYRADIUS 5 km ASC COUNT 3 STOREDIST",
            "redis 3.2.6",
            Some("redis 6.2.0"),
            "GEORADIUS s 1 2 5 km ASC COUNT 3 STOREDIST d",
        ),
        (
            "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 5 km",
            "redis 6.0.16",
            Some("redis 6.2.0"),
            "GEORADIUSBYMEMBER s m 5 km STORE d",
        ),
        ("HSET k f v g w", "redis 3.2.6", Some("redis 4.0.0"), "HMSET k f v g w"),
        ("HSETEX k KEEPTTL FIELDS 1 f v", "redis 7.0.15", Some("redis 8.0.0"), "HSET k f v"),
        ("HSETEX k KEEPTTL FIELDS 1 f v", "valkey 8.1.1", Some("valkey 9.0.0"), "HSET k f v"),
        ("HSETEX k FNX FIELDS 2 f v g w", "redis 3.2.6", Some("redis 8.0.0"), "HMSET k f v g w"),
        ("HSETEX k KEEPTTL FIELDS 1 f v", "redis 7.4.1", Some("redis 8.0.0"), "EVAL 1 k f v"),
        (
            "HGETEX k PERSIST FIELDS 1 f",
            "redis 7.4.1",
            Some("redis 8.0.0"),
            "HPERSIST k FIELDS 1 f",
        ),
        ("HGETDEL k FIELDS 2 f g", "redis 7.4.1", Some("redis 8.0.0"), "HDEL k f g"),
        ("XADD k NOMKSTREAM 1-1 f v", "redis 6.0.16", Some("redis 6.2.0"), "XADD k 1-1 f v"),
        ("XADD k KEEPREF 1-1 f v", "redis 8.0.6", Some("redis 8.2.0"), "XADD k 1-1 f v"),
        ("XTRIM k MINID = 5", "redis 6.0.16", Some("redis 6.2.0"), "EVAL 1 k 5-0"),
        ("XADD k MAXLEN = 5 LIMIT 100 1-1 f v", "redis 8.0.6", None, "XADD k MAXLEN = 5 1-1 f v"),
        ("XTRIM k MAXLEN = 5 LIMIT 100", "valkey 9.1.2", None, "XTRIM k MAXLEN = 5"),
        (
            "XGROUP CREATECONSUMER k g c",
            "redis 5.0.6",
            Some("redis 6.2.0"),
            "XREADGROUP GROUP g c COUNT 1 STREAMS k 18446744073709551615-18446744073709551614",
        ),
        (
            "XGROUP CREATE k g 0 MKSTREAM ENTRIESREAD 5",
            "redis 6.2.14",
            Some("redis 7.0.0"),
            "XGROUP CREATE k g 0 MKSTREAM",
        ),
        (
            "XGROUP SETID k g 5-1 ENTRIESREAD 5",
            "redis 6.2.14",
            Some("redis 7.0.0"),
            "XGROUP SETID k g 5-1",
        ),
        (
            "XSETID k 5-1 ENTRIESADDED 7 MAXDELETEDID 3-3",
            "redis 6.2.14",
            Some("redis 7.0.0"),
            "XSETID k 5-1",
        ),
        ("FLUSHALL ASYNC", "redis 3.2.6", Some("redis 4.0.0"), "FLUSHALL"),
        ("FLUSHDB SYNC", "redis 6.0.16", Some("redis 6.2.0"), "FLUSHDB"),
        ("SCRIPT FLUSH ASYNC", "redis 6.0.16", Some("redis 6.2.0"), "SCRIPT FLUSH"),
        ("RESTORE k 0 x ABSTTL IDLETIME 5", "redis 4.0.14", Some("redis 5.0.0"), "RESTORE k 0 x"),
        ("RESTORE-ASKING k 0 x REPLACE", "redis 8.0.6", None, "RESTORE k 0 x REPLACE"),
    ] {
        assert_eq!(said(line, last_without), Ok(Some(vec![expected.into()])), "{line}");
        if let Some(first_with) = first_with {
            assert_eq!(said(line, first_with), Ok(None), "{line} for {first_with}");
        }
    }
}

#[test]
fn the_same_effect_in_several_commands_or_none() {
    for (line, target, expected) in [
        ("XADD k MINID 5 9-1 f v", "redis 6.0.16", &["XADD k 9-1 f v", "EVAL 1 k 5-0"][..]),
        ("RESTORE k 0 x REPLACE", "redis 2.8.17", &["DEL k", "RESTORE k 0 x"]),
        ("MSETEX 2 a 1 b 2 KEEPTTL", "redis 8.0.6", &["SET a 1 KEEPTTL", "SET b 2 KEEPTTL"]),
        ("MSETEX 2 a 1 b 2 KEEPTTL", "redis 5.0.6", &["EVAL 1 a 1", "EVAL 1 b 2"]),
        ("GETEX k", "redis 6.0.16", &[]),
    ] {
        let expected = expected.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(said(line, target), Ok(Some(expected)), "{line}");
    }
}

#[test]
fn what_has_no_equivalent_is_named_with_the_target() {
    for (line, target, text) in [
        ("XADD k 1-1 f v", "redis 4.0.14", "Redis 4.0.14 has nothing that does what XADD does"),
        (
            "XCLAIM k g c 0 1-1",
            "redis 4.0.14",
            "Redis 4.0.14 has nothing that does what XCLAIM does",
        ),
        (
            "FUNCTION LOAD x",
            "redis 6.2.14",
            "Redis 6.2.14 has nothing that does what FUNCTION does",
        ),
        (
            "HPEXPIREAT k 5 FIELDS 1 f",
            "valkey 8.1.1",
            "Valkey 8.1.1 has nothing that does what HPEXPIREAT does",
        ),
        (
            "HSETEX k PXAT 5 FIELDS 1 f v",
            "redis 7.0.15",
            "Redis 7.0.15 has nothing that does what HSETEX does",
        ),
        (
            "HPERSIST k FIELDS 1 f",
            "redict 7.3.6",
            "Redict 7.3.6 has nothing that does what HPERSIST does",
        ),
        ("SWAPDB 0 1", "redis 3.2.6", "Redis 3.2.6 has nothing that does what SWAPDB does"),
        (
            "BITFIELD k SET u8 0 1",
            "redis 3.0.5",
            "Redis 3.0.5 has nothing that does what BITFIELD does",
        ),
        (
            "BITOP DIFF d a b",
            "redis 8.0.6",
            "Redis 8.0.6 has nothing that does what BITOP DIFF, DIFF1, ANDOR or ONE does",
        ),
        (
            "GEOSEARCHSTORE d s FROMMEMBER m BYBOX 1 1 km",
            "redis 6.0.16",
            "Redis 6.0.16 has nothing that does what GEOSEARCHSTORE BYBOX does",
        ),
        (
            "XADD k ACKED 1-1 f v",
            "redis 8.0.6",
            "Redis 8.0.6 has nothing that does what XADD DELREF or ACKED does",
        ),
    ] {
        assert_eq!(said(line, target), Err(text.to_owned()), "{line}");
    }
}

/// What carries a deadline is written by [`Deadline::encode`], for the oldest targets too.
#[test]
fn deadlines_of_keys_are_left_to_their_own_rule() {
    for line in [
        "SET k v PX 5 GET",
        "SETEX k 5 v",
        "GETEX k EX 5",
        "RESTORE k 5 x REPLACE ABSTTL",
        "MSETEX 1 k v EX 5",
    ] {
        assert_eq!(said(line, "redis 2.8.17"), Ok(None), "{line}");
        let args = words(line);
        let deadline: Deadline = lookup(args[0]).unwrap().deadline(&args).unwrap().unwrap();
        assert_eq!(deadline.of, Of::Key);
    }
    assert_eq!(said("HSETEX k PXAT 5 FIELDS 1 f v", "redis 7.4.0"), Ok(None));
}

/// The plain forms, which are nearly all of a stream, stay as they are for every target.
#[test]
fn plain_commands_stay() {
    for line in [
        "SET k v",
        "SET k v NX",
        "HSET k f v",
        "LPOP k",
        "LPUSHX k a",
        "ZADD k 1 m 2 n",
        "DEL k",
        "INCR k",
        "FLUSHALL",
        "RESTORE k 0 x",
        "SCRIPT LOAD x",
        "EVAL x 0",
        "BITOP AND d a",
        "MSET a 1",
        "RPOPLPUSH a b",
    ] {
        assert_eq!(said(line, "redis 2.8.17"), Ok(None), "{line}");
    }
}

#[test]
fn arguments_that_cannot_be_are_left_to_the_target() {
    for line in
        ["COPY a", "LMOVE a b UP DOWN", "ZDIFFSTORE d 9 a", "HSETEX k", "XADD k MAXLEN", "GETDEL"]
    {
        assert_eq!(said(line, "redis 6.0.16"), Ok(None), "{line}");
    }
}
