use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::command::judge::Expect;
use crate::command::keys::keys;
use crate::command::table::lookup;
use crate::command::testing::{decode, lines, words};
use crate::server::{Flavour, Server, Version};

const NOW: i64 = 1_700_000_000_000;

const fn redis(major: u16, minor: u16) -> Server {
    Server { flavour: Flavour::Redis, version: Version(major, minor, 0) }
}

const VALKEY_9_1: Server = Server { flavour: Flavour::Valkey, version: Version(9, 1, 2) };

fn deadline(line: &str) -> Option<Deadline> {
    let args = words(line);
    lookup(args[0]).unwrap().deadline(&args).unwrap_or_else(|why| panic!("{line}: {why}"))
}

fn encoded(line: &str, target: Server) -> (Vec<String>, Vec<Expect>) {
    let args = words(line);
    let deadline = deadline(line).unwrap_or_else(|| panic!("{line}: no deadline"));
    let mut out = Vec::new();
    let encoded = deadline.encode(&mut out, &args, deadline.time.at(NOW), &target).unwrap();
    let expects: Vec<Expect> = encoded.expects().collect();
    assert_eq!(encoded.commands(), expects.len());
    (lines(&out), expects)
}

#[test]
fn deadlines_are_found_in_every_form() {
    for (line, position, time) in [
        ("EXPIRE k 10", 2, Time::In(10_000)),
        ("PEXPIRE k -5", 2, Time::In(-5)),
        ("EXPIREAT k 10", 2, Time::At(10_000)),
        ("pexpireat k 10 GT", 2, Time::At(10)),
        ("SETEX k 10 v", 2, Time::In(10_000)),
        ("PSETEX k 10 v", 2, Time::In(10)),
        ("SET k v EX 10", 4, Time::In(10_000)),
        ("SET k v NX px 10", 5, Time::In(10)),
        ("SET k v EXAT 10 GET", 4, Time::At(10_000)),
        ("SET k v PXAT 10", 4, Time::At(10)),
        ("SET ex px IFEQ ex PXAT 10", 6, Time::At(10)),
        ("GETEX k EX 10", 3, Time::In(10_000)),
        ("INCREX k BYINT 5 PXAT 10 ENX", 5, Time::At(10)),
        ("MSETEX 2 ex 1 px 2 NX EX 10", 8, Time::In(10_000)),
        ("RESTORE k 10 payload", 2, Time::In(10)),
        ("RESTORE k 10 payload REPLACE ABSTTL", 2, Time::At(10)),
        ("RESTORE k 10 absttl IDLETIME 5", 2, Time::In(10)),
    ] {
        let found = deadline(line).unwrap();
        assert_eq!((found.position, found.time, found.of), (position, time, Of::Key), "{line}");
    }
    for (line, position, time, fields) in [
        ("HEXPIRE k 10 FIELDS 1 a", 2, Time::In(10_000), 1),
        ("HPEXPIRE k 10 NX FIELDS 2 nx b", 2, Time::In(10), 2),
        ("HEXPIREAT k 10 FIELDS 1 a", 2, Time::At(10_000), 1),
        ("HPEXPIREAT k 10 FIELDS 3 a b c", 2, Time::At(10), 3),
        ("HSETEX k FNX PXAT 10 FIELDS 2 ex 1 px 2", 4, Time::At(10), 2),
        ("HSETEX k FIELDS 1 ex 1 PX 10", 7, Time::In(10), 1),
        ("HGETEX k EX 10 FIELDS 2 ex 1", 3, Time::In(10_000), 2),
    ] {
        let found = deadline(line).unwrap();
        let expected = (position, time, Of::Fields(fields));
        assert_eq!((found.position, found.time, found.of), expected, "{line}");
    }
    for line in [
        "SET k v",
        "SET k ex",
        "SET k v KEEPTTL",
        "SET k v IFEQ EX",
        "GETEX k",
        "GETEX k PERSIST",
        "RESTORE k 0 payload",
        "RESTORE k 0 payload ABSTTL",
        "MSETEX 1 ex 5",
        "HSETEX k KEEPTTL FIELDS 1 ex 5",
        "HGETEX k FIELDS 2 ex 5",
        "INCREX k PERSIST",
        "PERSIST k",
        "HPERSIST k FIELDS 1 a",
        "XCLAIM s g c 0 1-1 TIME 5",
    ] {
        assert_eq!(deadline(line), None, "{line}");
    }
}

#[test]
fn conditions_are_seen() {
    for (line, condition) in [
        ("EXPIRE k 10", None),
        ("EXPIRE k 10 nx", Some(Condition::Nx)),
        ("PEXPIREAT k 10 XX", Some(Condition::Xx)),
        ("PEXPIREAT k 10 GT", Some(Condition::Gt)),
        ("HPEXPIREAT k 10 LT FIELDS 1 a", Some(Condition::Lt)),
        ("HPEXPIREAT k 10 FIELDS 1 gt", None),
    ] {
        assert_eq!(deadline(line).unwrap().condition, condition, "{line}");
    }
}

#[test]
fn what_no_server_takes_is_refused() {
    for (line, why) in [
        ("EXPIRE k", Malformed::Missing { at: 2 }),
        ("EXPIRE k x", Malformed::Number { at: 2 }),
        ("EXPIRE k 9223372036854775807", Malformed::Number { at: 2 }),
        ("SETEX k 10", Malformed::Missing { at: 3 }),
        ("SET k v EX", Malformed::Missing { at: 4 }),
        ("SET k v PXAT 1e3", Malformed::Number { at: 4 }),
        ("RESTORE k -1 payload", Malformed::Number { at: 2 }),
        ("RESTORE k 5", Malformed::Missing { at: 3 }),
        ("MSETEX 4 a 1 b 2 EX 5", Malformed::Number { at: 1 }),
        ("HPEXPIREAT k 5 a", Malformed::Option { at: 3 }),
        ("HPEXPIREAT k 5 FIELDS 2 a", Malformed::Number { at: 4 }),
        ("HSETEX k EX 5", Malformed::Missing { at: 4 }),
        ("HSETEX k EX 5 FIELDS 2 a 1", Malformed::Number { at: 5 }),
    ] {
        let args = words(line);
        assert_eq!(lookup(args[0]).unwrap().deadline(&args), Err(why), "{line}");
    }
}

#[test]
fn a_time_far_away_does_not_overflow() {
    assert_eq!(Time::In(i64::MAX).at(NOW), i64::MAX);
    assert_eq!(Time::In(5).at(NOW), NOW + 5);
    assert_eq!(Time::At(5).at(NOW), 5);
}

#[test]
fn every_form_becomes_an_absolute_one() {
    let at = (NOW + 10_000).to_string();
    for (line, target, commands, expects) in [
        ("EXPIRE k 10", redis(2, 8), vec!["PEXPIREAT k @"], vec![Expect::Positive]),
        ("PEXPIRE k 10000 NX", redis(7, 0), vec!["PEXPIREAT k @"], vec![Expect::Positive]),
        ("GETEX k EX 10", redis(2, 8), vec!["PEXPIREAT k @"], vec![Expect::Positive]),
        ("SETEX k 10 v", redis(6, 2), vec!["SET k v PXAT @"], vec![Expect::Status]),
        ("SET k v EX 10 NX", VALKEY_9_1, vec!["SET k v PXAT @"], vec![Expect::Status]),
        (
            "SET k v PX 10000 GET",
            redis(6, 0),
            vec!["SET k v", "PEXPIREAT k @"],
            vec![Expect::Status, Expect::Positive],
        ),
        (
            "PSETEX k 10000 v",
            redis(2, 8),
            vec!["SET k v", "PEXPIREAT k @"],
            vec![Expect::Status, Expect::Positive],
        ),
        (
            "MSETEX 2 a 1 b 2 XX EX 10",
            VALKEY_9_1,
            vec!["MSETEX 2 a 1 b 2 PXAT @"],
            vec![Expect::Positive],
        ),
        (
            "MSETEX 2 a 1 b 2 EX 10",
            redis(8, 2),
            vec!["MSET a 1 b 2", "PEXPIREAT a @", "PEXPIREAT b @"],
            vec![Expect::Status, Expect::Positive, Expect::Positive],
        ),
        (
            "INCREX k EX 10 ENX UBOUND 5",
            redis(8, 8),
            vec!["INCREX k PXAT @ ENX UBOUND 5"],
            vec![Expect::Something],
        ),
        (
            "RESTORE k 10000 p REPLACE FREQ 5",
            redis(5, 0),
            vec!["RESTORE k @ p REPLACE FREQ 5 ABSTTL"],
            vec![Expect::Status],
        ),
        (
            "RESTORE-ASKING k 10000 p",
            redis(7, 0),
            vec!["RESTORE k @ p ABSTTL"],
            vec![Expect::Status],
        ),
        (
            "RESTORE k 10000 p REPLACE FREQ 5",
            redis(4, 0),
            vec!["RESTORE k 0 p REPLACE", "PEXPIREAT k @"],
            vec![Expect::Status, Expect::Positive],
        ),
        (
            "HEXPIRE k 10 GT FIELDS 2 a b",
            redis(7, 4),
            vec!["HPEXPIREAT k @ GT FIELDS 2 a b"],
            vec![Expect::SomePositive],
        ),
        (
            "HSETEX k FXX PX 10000 FIELDS 1 a 1",
            redis(8, 0),
            vec!["HSETEX k FXX PXAT @ FIELDS 1 a 1"],
            vec![Expect::Positive],
        ),
        (
            "HGETEX k EX 10 FIELDS 1 a",
            VALKEY_9_1,
            vec!["HGETEX k PXAT @ FIELDS 1 a"],
            vec![Expect::Something],
        ),
        (
            "HSETEX k FXX EX 10 FIELDS 2 a 1 b 2",
            redis(7, 4),
            vec!["HSET k a 1 b 2", "HPEXPIREAT k @ FIELDS 2 a b"],
            vec![Expect::Integer, Expect::SomePositive],
        ),
        (
            "HGETEX k EX 10 FIELDS 2 a b",
            redis(7, 4),
            vec!["HPEXPIREAT k @ FIELDS 2 a b"],
            vec![Expect::SomePositive],
        ),
    ] {
        let commands: Vec<String> = commands.iter().map(|line| line.replace('@', &at)).collect();
        assert_eq!(encoded(line, target), (commands, expects), "{line} for {target}");
    }
}

#[test]
fn an_absttl_already_there_is_not_doubled() {
    let (lines, _) = encoded("RESTORE k 77 p ABSTTL REPLACE", redis(7, 0));
    assert_eq!(lines, ["RESTORE k 77 p ABSTTL REPLACE"]);
    let (lines, _) = encoded("RESTORE k 77 p ABSTTL REPLACE", redis(3, 2));
    assert_eq!(lines, ["RESTORE k 0 p REPLACE", "PEXPIREAT k 77"]);
}

#[test]
fn a_deadline_before_the_epoch_is_still_one_that_a_server_takes() {
    for (line, expected) in [
        ("PEXPIREAT k -5", "PEXPIREAT k -5"),
        ("SET k v PXAT -5", "SET k v PXAT 1"),
        ("HPEXPIREAT k -5 FIELDS 1 a", "HPEXPIREAT k 0 FIELDS 1 a"),
    ] {
        assert_eq!(encoded(line, redis(8, 0)).0, [expected]);
    }
}

/// Lines with a deadline in each form; `{}` stands for the number, `{k}` for a key.
const FORMS: &[&str] = &[
    "EXPIRE {k} {}",
    "PEXPIREAT {k} {} GT",
    "SETEX {k} {} v",
    "PSETEX {k} {} v",
    "SET {k} v XX EXAT {}",
    "SET {k} EX PX {} GET",
    "MSETEX 2 {k} PX {k}2 EX NX EXAT {}",
    "RESTORE {k} {} ABSTTL REPLACE",
    "RESTORE {k} {} p IDLETIME 5 ABSTTL",
    "HEXPIRE {k} {} FIELDS 1 EX",
    "HPEXPIREAT {k} {} LT FIELDS 2 EX PX",
    "HSETEX {k} FNX PX {} FIELDS 2 EX PX PX EX",
];

fn targets() -> impl Strategy<Value = Server> {
    let redis = [(2, 8), (3, 2), (4, 0), (5, 0), (6, 0), (6, 2), (7, 0), (7, 4), (8, 0), (8, 4)];
    select(
        redis
            .into_iter()
            .map(|(major, minor)| self::redis(major, minor))
            .chain([VALKEY_9_1, Server { flavour: Flavour::Redict, version: Version(7, 3, 6) }])
            .collect::<Vec<_>>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// What was written has the deadline asked for, absolute, and names the same keys and no others.
    #[test]
    fn what_is_written_has_the_deadline_and_the_keys(
        form in select(FORMS),
        key in select(vec!["k", "ex", "fields", "{t}x"]),
        seconds in 1i64..10_000_000_000,
        at_ms in 1i64..=1 << 46,
        target in targets(),
    ) {
        let line = form.replace("{}", &seconds.to_string()).replace("{k}", key);
        let args = words(&line);
        let found = lookup(args[0]).unwrap().deadline(&args).unwrap().unwrap();
        let mut out = Vec::new();
        let encoded = found.encode(&mut out, &args, at_ms, &target).unwrap();

        let written = decode(&out);
        prop_assert_eq!(written.len(), encoded.commands());
        let names = |args: &[&[u8]]| -> Vec<Vec<u8>> {
            let mut names: Vec<Vec<u8>> =
                keys(args).unwrap().iter().map(|key| args[key.position].to_vec()).collect();
            names.sort();
            names.dedup();
            names
        };
        let mut touched = Vec::new();
        let mut dated = Vec::new();
        for (args, expect) in written.iter().zip(encoded.expects()) {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let command = lookup(args[0]).unwrap();
            touched.extend(names(&args));
            if let Some(again) = command.deadline(&args).unwrap() {
                prop_assert_eq!(again.time, Time::At(at_ms));
                prop_assert_eq!(again.of, found.of);
                dated.extend(names(&args));
            }
            // The reply asked for is the one that the command written asks for.
            prop_assert_eq!(command.expect(&args).unwrap(), expect);
        }
        touched.sort();
        touched.dedup();
        dated.sort();
        prop_assert_eq!(&touched, &names(&args));
        prop_assert_eq!(dated, touched, "a key without its deadline, or with two");
    }

    #[test]
    fn any_options_are_read_or_refused(
        name in select(vec!["SET", "GETEX", "MSETEX", "RESTORE", "HSETEX", "HGETEX", "HPEXPIREAT", "INCREX"]),
        rest in prop::collection::vec(select(vec![
            "k", "1", "2", "0", "-1", "EX", "PXAT", "NX", "GET", "FIELDS", "ABSTTL", "IFEQ", "", "99999999999999999999",
        ]), 0..9),
        target in targets(),
    ) {
        let args: Vec<&[u8]> = [name].iter().chain(&rest).map(|word| word.as_bytes()).collect();
        if let Ok(Some(found)) = lookup(args[0]).unwrap().deadline(&args) {
            prop_assert!(found.position < args.len());
            let mut out = Vec::new();
            let encoded = found.encode(&mut out, &args, 5, &target).unwrap();
            prop_assert_eq!(decode(&out).len(), encoded.commands());
        }
    }
}
