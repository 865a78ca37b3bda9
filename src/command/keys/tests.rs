use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::command::rewrite::encode_with;
use crate::command::table::all;
use crate::command::testing::{decode, words};

/// The keys of a command as text: position, access, database.
fn shown(line: &str) -> String {
    let args = words(line);
    let keys = keys(&args).unwrap_or_else(|why| panic!("{line}: {why}"));
    let mut text: Vec<String> = keys
        .iter()
        .map(|key| {
            let access = match key.access {
                Access::Read => "read",
                Access::Update => "update",
                Access::Overwrite => "overwrite",
                Access::Remove => "remove",
            };
            let db = key.db.map_or(String::new(), |db| format!("@{db}"));
            format!("{}{db} {access}", key.position)
        })
        .collect();
    assert_eq!(keys.len(), text.len());
    assert_eq!(keys.is_empty(), text.is_empty());
    if keys.reach() == Reach::Undeclared {
        text.push("more".to_owned());
    }
    text.join(", ")
}

#[test]
fn keys_stand_where_the_servers_find_them() {
    for (line, expected) in [
        ("GET k", "1 read"),
        ("incr k", "1 update"),
        ("SET k v", "1 overwrite"),
        ("SET k v PXAT 1", "1 overwrite"),
        ("SET k v EX 1 NX", "1 update"),
        ("SET k v KEEPTTL", "1 update"),
        ("SET k v GET", "1 update"),
        ("SET k nx px 5", "1 overwrite"),
        ("DEL a b c d e f", "1 remove, 2 remove, 3 remove, 4 remove, 5 remove, 6 remove"),
        ("DELEX k", "1 remove"),
        ("DELEX k IFEQ v", "1 update"),
        ("MSET a 1 b 2", "1 overwrite, 3 overwrite"),
        ("MSETNX a 1", "1 update"),
        ("MSETEX 2 a 1 b 2 NX EX 5", "2 update, 4 update"),
        ("JSON.MSET a $ 1 b $ 2", "1 update, 4 update"),
        ("JSON.MGET a b $", "1 read, 2 read"),
        ("RENAME a b", "1 update, 2 overwrite"),
        ("RENAMENX a b", "1 update, 2 update"),
        ("MOVE k 3", "1 update, 1@3 update"),
        ("COPY a b", "1 read, 2 update"),
        ("COPY a b REPLACE DB 7", "1 read, 2@7 overwrite"),
        ("RESTORE k 0 payload", "1 update"),
        ("RESTORE k 0 payload FREQ 3 REPLACE", "1 overwrite"),
        ("RESTORE k 0 payload IDLETIME replace", "1 update"),
        ("SUNIONSTORE d a b", "1 overwrite, 2 read, 3 read"),
        ("PFMERGE d a", "1 update, 2 read"),
        ("PFMERGE d", "1 update"),
        ("BITOP AND d a b", "2 overwrite, 3 read, 4 read"),
        ("BITFIELD k GET u8 0 GET u8 8", "1 read"),
        ("BITFIELD k GET u8 0 SET u8 0 1", "1 update"),
        ("SORT k", "1 read"),
        ("SORT k BY nosort GET # LIMIT 0 5 STORE d", "1 read, 10 overwrite"),
        ("SORT k BY w_* STORE d STORE e", "1 read, 7 overwrite, more"),
        ("SORT k GET o_*->f", "1 read, more"),
        ("SORT store STORE by", "1 read, 3 overwrite"),
        ("GEORADIUS k 1 2 3 km", "1 read"),
        ("GEORADIUS k 1 2 3 km COUNT 3 STORE a STOREDIST b", "1 read, 11 overwrite"),
        ("GEORADIUSBYMEMBER k store 3 km STORE a", "1 read, 6 overwrite"),
        ("GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km", "1 overwrite, 2 read"),
        ("ZRANGESTORE d s 0 -1", "1 overwrite, 2 read"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "1 overwrite, 3 read, 4 read"),
        ("ZINTER 2 a b WITHSCORES", "2 read, 3 read"),
        ("SINTERCARD 1 a LIMIT 3", "2 read"),
        ("LMPOP 2 a b LEFT", "2 update, 3 update"),
        ("BLMPOP 0.5 1 a LEFT COUNT 2", "3 update"),
        ("BLPOP a b 0", "1 update, 2 update"),
        ("BRPOPLPUSH a b 0", "1 update, 2 update"),
        ("LMOVE a b LEFT RIGHT", "1 update, 2 update"),
        ("SMOVE a b m", "1 update, 2 update"),
        ("XADD s 5-1 f v", "1 update"),
        ("XREAD COUNT 5 STREAMS a b 0 0", "4 read, 5 read"),
        ("XREADGROUP GROUP streams c NOACK STREAMS a >", "6 update"),
        ("XREADGROUP GROUP g STREAMS STREAMS a >", "5 update"),
        ("XGROUP CREATE s g $", "2 update"),
        ("XGROUP delconsumer s g c", "2 update"),
        ("XINFO STREAM s", "2 read"),
        ("XINFO HELP", ""),
        ("OBJECT ENCODING k", "2 read"),
        ("MEMORY USAGE k", "2 read"),
        ("MEMORY DOCTOR", ""),
        ("PFDEBUG ENCODING k", "2 update"),
        ("EVAL script 2 a b arg", "3 update, 4 update, more"),
        ("EVALSHA sha 0 arg", "more"),
        ("FCALL f 1 a", "3 update, more"),
        ("EVAL_RO script 1 a", "3 read, more"),
        ("MIGRATE h 6379 k 0 100", "3 update"),
        ("TS.MADD a 1 2 b 1 2", "1 update, 4 update, more"),
        ("TDIGEST.MERGE d 2 a b COMPRESSION 5", "1 update, 3 read, 4 read"),
        ("SELECT 5", ""),
        ("MULTI", ""),
        ("PUBLISH c m", ""),
        ("SWAPDB 0 1", ""),
        ("CLUSTER SETSLOT 5 NODE n", ""),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
    // The form of MIGRATE with many keys has an empty one in the old place.
    let many: &[&[u8]] =
        &[b"MIGRATE", b"h", b"1", b"", b"0", b"9", b"AUTH2", b"keys", b"keys", b"KEYS", b"a", b"b"];
    let found: Vec<usize> = keys(many).unwrap().iter().map(|key| key.position).collect();
    assert_eq!(found, [10, 11]);
    let one: &[&[u8]] = &[b"MIGRATE", b"h", b"1", b"", b"0", b"9", b"REPLACE"];
    assert_eq!(keys(one).unwrap().iter().map(|key| key.position).collect::<Vec<_>>(), [3]);
}

#[test]
fn what_cannot_be_is_refused_with_its_position() {
    assert_eq!(keys(&[]).unwrap_err(), Malformed::Empty);
    for (line, why) in [
        ("FROBNICATE k", Malformed::Unknown),
        ("GET", Malformed::Missing { at: 1 }),
        ("SET k", Malformed::Missing { at: 2 }),
        ("SET k v EX", Malformed::Missing { at: 4 }),
        ("RENAME a", Malformed::Missing { at: 2 }),
        ("DEL", Malformed::Missing { at: 1 }),
        ("BLPOP a", Malformed::Missing { at: 2 }),
        ("MSET", Malformed::Missing { at: 2 }),
        ("MSET a 1 b", Malformed::Missing { at: 4 }),
        ("JSON.MSET a $ 1 b", Malformed::Missing { at: 6 }),
        ("BITOP AND", Malformed::Missing { at: 2 }),
        ("LMPOP", Malformed::Missing { at: 1 }),
        ("LMPOP x a LEFT", Malformed::Number { at: 1 }),
        ("LMPOP -1 a LEFT", Malformed::Number { at: 1 }),
        ("LMPOP 3 a LEFT", Malformed::Number { at: 1 }),
        ("EVAL s 18446744073709551615 a", Malformed::Number { at: 2 }),
        ("EVAL s 9223372036854775807 a", Malformed::Number { at: 2 }),
        ("MSETEX 2 a 1 b", Malformed::Number { at: 1 }),
        ("ZUNIONSTORE d 2 a", Malformed::Number { at: 2 }),
        ("MOVE k x", Malformed::Number { at: 2 }),
        ("COPY a b DB", Malformed::Missing { at: 4 }),
        ("COPY a b DB -1", Malformed::Number { at: 4 }),
        ("COPY a b WHAT", Malformed::Option { at: 3 }),
        ("COPY a", Malformed::Missing { at: 2 }),
        ("SORT k STORE", Malformed::Missing { at: 3 }),
        ("SORT k BY", Malformed::Missing { at: 3 }),
        ("GEORADIUS k 1 2 3 km STORE", Malformed::Missing { at: 7 }),
        ("XREAD STREAMS a", Malformed::Missing { at: 3 }),
        ("XREAD STREAMS a b 0", Malformed::Missing { at: 5 }),
        ("XREAD a 0", Malformed::Option { at: 1 }),
        ("XREAD COUNT", Malformed::Missing { at: 3 }),
        ("XGROUP WHAT s", Malformed::Option { at: 1 }),
        ("XGROUP CREATE", Malformed::Missing { at: 2 }),
        ("XGROUP", Malformed::Missing { at: 1 }),
        ("RESTORE k 0", Malformed::Missing { at: 3 }),
        ("MIGRATE h p k", Malformed::Missing { at: 5 }),
    ] {
        assert_eq!(keys(&words(line)).unwrap_err(), why, "{line}");
    }
}

#[test]
fn what_forgets_the_old_state_also_writes() {
    for access in [Access::Read, Access::Update, Access::Overwrite, Access::Remove] {
        assert!(!access.forgets() || access.writes());
    }
    assert!(!Access::Read.writes());
    assert!(Access::Update.writes() && !Access::Update.forgets());
}

#[test]
fn every_command_that_changes_keys_names_a_way_to_one() {
    for command in all() {
        let keyless = command.keys() == KeySpec::None;
        match command.class {
            Class::Data => assert!(!keyless, "{command:?}"),
            Class::Read | Class::Eval => {}
            _ => assert!(keyless, "{command:?}"),
        }
    }
}

/// A name of a key that looks like something else.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd = select(vec![
        "store", "STORE", "streams", "by", "get", "limit", "keys", "db", "replace", "fields", "ex",
        "count", "", "*", "0", "2", "$",
    ]);
    prop_oneof![
        odd.prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ]
}

/// One argument: the bytes, and whether it is a key.
type Arg = (Vec<u8>, bool);

fn word(text: &str) -> Arg {
    (text.as_bytes().to_vec(), false)
}

fn number(number: usize) -> Arg {
    word(&number.to_string())
}

fn key(name: &[u8]) -> Arg {
    (name.to_vec(), true)
}

fn value() -> Arg {
    word("store")
}

/// Arguments that a command by this rule may have, from the grammar in its documentation, with the keys marked.
fn arguments(spec: KeySpec, name: &str, keys: &[Vec<u8>], choice: usize) -> Vec<Arg> {
    let (one, two) = (key(&keys[0]), key(&keys[1]));
    let many = || keys.iter().map(|name| key(name));
    let behind = |start: &[Arg], rest: Vec<Arg>| [start, &rest].concat();
    match spec {
        KeySpec::None => vec![value()],
        KeySpec::One(_) | KeySpec::Set | KeySpec::DelEx | KeySpec::Restore => {
            let mut args = vec![one, number(1), value()];
            args.extend(
                [vec![], vec![word("IFEQ"), value()]].concat().into_iter().take(choice % 3),
            );
            args
        }
        KeySpec::BitField => vec![one, word("GET"), word("u8"), number(0)],
        KeySpec::Second(_) => vec![word("ENCODING"), one],
        KeySpec::Two(..) => vec![one, two, value(), value()],
        KeySpec::From(..) => many().collect(),
        KeySpec::AllButLast(_) => many().chain([number(0)]).collect(),
        KeySpec::Every(step, _) => {
            many().flat_map(|key| iter_once(key).chain((1..step).map(|_| value()))).collect()
        }
        KeySpec::Into(at, _) => {
            let front: Vec<Arg> = (1..at).map(|_| word("AND")).collect();
            behind(&front, many().collect())
        }
        KeySpec::Counted { at, step, .. } => {
            let front: Vec<Arg> = (1..at).map(|_| value()).chain([number(keys.len())]).collect();
            let counted = many().flat_map(|key| iter_once(key).chain((1..step).map(|_| value())));
            behind(&front, counted.chain([word("LEFT")]).collect())
        }
        KeySpec::IntoCounted(_) => {
            behind(&[one, number(keys.len())], many().chain([word("WEIGHTS")]).collect())
        }
        KeySpec::Sub(subcommands, _) => {
            vec![word(subcommands[choice % subcommands.len()]), one, value()]
        }
        KeySpec::Move => vec![one, number(choice % 16)],
        KeySpec::Copy => {
            let options = [vec![], vec![word("DB"), number(3)], vec![word("replace")]];
            behind(&[one, two], options[choice % 3].clone())
        }
        KeySpec::Sort => {
            let options = [
                vec![],
                vec![word("STORE"), two.clone()],
                vec![word("BY"), word("STORE"), word("GET"), word("#"), word("STORE"), two.clone()],
                vec![word("LIMIT"), number(0), number(5), word("DESC"), word("store"), two],
            ];
            behind(&[one], options[choice % if name == "sort" { 4 } else { 1 }].clone())
        }
        KeySpec::GeoRadius { options } => {
            let front = (2..options).map(|_| number(1));
            let stored = [vec![], vec![word("STORE"), two.clone()], vec![word("STOREDIST"), two]];
            iter_once(one).chain(front).chain(stored[choice % 3].clone()).collect()
        }
        KeySpec::Streams(_) => {
            let group = vec![word("GROUP"), word("streams"), word("STREAMS"), word("NOACK")];
            let options = [vec![word("COUNT"), number(5), word("BLOCK"), number(1)], group];
            let ids = keys.iter().map(|_| word("0-1"));
            let rest = iter_once(word("streams")).chain(many()).chain(ids).collect();
            behind(&options[choice % 2], rest)
        }
        KeySpec::Migrate if choice.is_multiple_of(2) && !keys[0].is_empty() => {
            vec![word("host"), number(1), one, number(0), number(9), word("COPY")]
        }
        KeySpec::Migrate => {
            let front = [word("h"), number(1), word(""), number(0), number(9), word("AUTH")];
            let rest = [word("keys"), word("KEYS")].into_iter().chain(many()).collect();
            behind(&front, rest)
        }
    }
}

fn iter_once(arg: Arg) -> impl Iterator<Item = Arg> {
    std::iter::once(arg)
}

fn found(args: &[&[u8]]) -> (Vec<usize>, Vec<Vec<u8>>) {
    let keys = keys(args).unwrap_or_else(|why| panic!("{args:?}: {why}"));
    let mut positions: Vec<usize> = keys.iter().map(|key| key.position).collect();
    positions.dedup(); // MOVE shows its key twice
    let names = positions.iter().map(|&at| args[at].to_vec()).collect();
    (positions, names)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_keys_found_are_those_of_the_grammar(
        command in select(all().copied().collect::<Vec<_>>()),
        names in prop::collection::vec(name(), 2..8),
        choice in 0usize..12,
    ) {
        let rest = arguments(command.keys(), command.name(), &names, choice);
        let args: Vec<&[u8]> = [command.name().as_bytes()].into_iter()
            .chain(rest.iter().map(|(bytes, _)| bytes.as_slice())).collect();
        let mut expected: Vec<usize> = rest.iter().enumerate()
            .filter(|(_, (_, key))| *key).map(|(at, _)| at + 1).collect();
        if let KeySpec::None = command.keys() { expected.clear() }
        prop_assert_eq!(found(&args).0, expected, "{:?}", args);
    }

    #[test]
    fn renaming_then_extracting_is_extracting_then_renaming(
        command in select(all().copied().collect::<Vec<_>>()),
        names in prop::collection::vec(name(), 2..8),
        choice in 0usize..12,
        prefix in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let rename = |key: &[u8]| [prefix.as_slice(), key].concat();
        let rest = arguments(command.keys(), command.name(), &names, choice);
        let args: Vec<&[u8]> = [command.name().as_bytes()].into_iter()
            .chain(rest.iter().map(|(bytes, _)| bytes.as_slice())).collect();
        let (positions, before) = found(&args);
        let renamed: Vec<Vec<u8>> = before.iter().map(|key| rename(key)).collect();
        let replacements: Vec<(usize, &[u8])> =
            positions.iter().copied().zip(renamed.iter().map(Vec::as_slice)).collect();

        let mut out = Vec::new();
        encode_with(&mut out, &args, &replacements);
        let [again] = <[_; 1]>::try_from(decode(&out)).unwrap();
        let again: Vec<&[u8]> = again.iter().map(Vec::as_slice).collect();

        // MIGRATE tells by an empty key which form it has: a renamed empty key is not one any more.
        prop_assume!(command.keys() != KeySpec::Migrate || !args[3].is_empty() || positions != [3]);
        prop_assert_eq!(found(&again), (positions.clone(), renamed));
        for (at, arg) in args.iter().enumerate().filter(|(at, _)| !positions.contains(at)) {
            prop_assert_eq!(*arg, again[at]);
        }
    }

    #[test]
    fn any_arguments_give_keys_among_them_or_an_error(
        command in select(all().copied().collect::<Vec<_>>()),
        rest in prop::collection::vec(prop_oneof![name(), "[0-9]{1,3}".prop_map(String::into_bytes)], 0..10),
    ) {
        let args: Vec<&[u8]> = [command.name().as_bytes()].into_iter()
            .chain(rest.iter().map(Vec::as_slice)).collect();
        let mut positions = Vec::new();
        if command.for_each_key(&args, |key| positions.push(key.position)).is_ok() {
            prop_assert!(positions.iter().all(|&at| 0 < at && at < args.len()));
            prop_assert_eq!(keys(&args).unwrap().iter().map(|key| key.position).collect::<Vec<_>>(), positions);
        }
        let _ = (command.expect(&args), command.deadline(&args), command.databases(&args));
    }
}
