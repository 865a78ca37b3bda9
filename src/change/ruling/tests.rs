use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::command::lookup;
use crate::plan::rules::{Types, database_map, databases};
use crate::plan::{Glob, OnFlush};

fn scope(only: &str, map: &str, exclude: &str, types: &str) -> Scope {
    let only = (!only.is_empty()).then(|| databases(only).unwrap());
    let map = if map.is_empty() { BTreeMap::new() } else { database_map(map).unwrap() };
    let exclude =
        (!exclude.is_empty()).then(|| Glob::new(exclude.as_bytes())).into_iter().collect();
    let types = (!types.is_empty()).then(|| Types::parse(types).unwrap());
    let rules = Rules::new(only, map, Vec::new(), exclude, types).unwrap();
    Scope::new(rules, None, OnFlush::Stop)
}

/// What becomes of a line in database 0: `+` it is played, `~` leniently, `-why` dropped, `!` the lane ends, or what is played instead.
fn ruled(scope: &Scope, line: &str) -> String {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let known = lookup(args[0]).unwrap();
    match rule(known, known.class(&args), &args, Db::new(0), scope) {
        Ok(Ruling::Play) => "+".to_owned(),
        Ok(Ruling::PlayLeniently) => "~".to_owned(),
        Ok(Ruling::Drop(why)) => format!("-{why:?}"),
        Ok(Ruling::Instead(instead)) => {
            let args: Vec<_> =
                instead.args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            args.join(" ")
        }
        Err(_) => "!".to_owned(),
    }
}

#[test]
fn keys_inside_and_outside() {
    let scope = scope("", "", "out*", "");
    for (line, ruling) in [
        ("SET in v", "+"),
        ("SET out v", "-Key"),
        ("DEL out in out2 in2", "DEL in in2"),
        ("UNLINK in out", "UNLINK in"),
        ("MSET in 1 out 2 in2 3", "MSET in 1 in2 3"),
        ("MSETNX out 1 in 2", "MSET in 2"),
        ("MSETEX 2 in 1 out 2 PX 5", "MSETEX 1 in 1 PX 5"),
        ("RENAME in out", "DEL in"),
        ("RENAMENX in out", "DEL in"),
        ("RENAME out in", "!"),
        ("RENAME out out2", "-Key"),
        ("COPY in out", "-Key"),
        ("COPY out in", "!"),
        ("SMOVE in out m", "SREM in m"),
        ("SMOVE out in m", "SADD in m"),
        ("RPOPLPUSH in out", "RPOP in"),
        ("RPOPLPUSH out in", "!"),
        ("LMOVE in out LEFT RIGHT", "LPOP in"),
        ("LMOVE in out RIGHT RIGHT", "RPOP in"),
        ("LMOVE out in LEFT RIGHT", "!"),
        ("SUNIONSTORE in in2 out", "!"),
        ("SUNIONSTORE out in in2", "-Key"),
        ("SORT out STORE in", "!"),
        ("PFMERGE in out", "!"),
        ("PFCOUNT in out", "-Key"),
        ("BITOP AND in in2 out", "!"),
        ("XREADGROUP GROUP g c STREAMS in out 1 2", "!"),
        ("EVAL s 2 in in2", "+"),
        ("EVAL s 2 in out", "!"),
        ("EVAL s 2 out out2", "-Key"),
        ("EVAL s 0", "!"),
    ] {
        assert_eq!(ruled(&scope, line), ruling, "{line}");
    }
}

#[test]
fn databases_inside_and_outside() {
    let chosen = scope("0,1", "", "", "");
    for (line, ruling) in [
        ("SET k v", "+"),
        ("MOVE k 1", "+"),
        ("MOVE k 2", "DEL k"),
        ("COPY k l DB 1", "+"),
        ("COPY k l DB 2", "-Db"),
        ("EVAL s 0", "+"),
    ] {
        assert_eq!(ruled(&chosen, line), ruling, "{line}");
    }
    let others = scope("1", "", "", "");
    for (line, ruling) in [
        ("SET k v", "-Db"),
        ("MOVE k 1", "!"),
        ("MOVE k 2", "-Db"),
        ("COPY k l DB 1", "!"),
        ("EVAL s 0", "-Db"),
    ] {
        assert_eq!(ruled(&others, line), ruling, "{line}");
    }
}

#[test]
fn types_are_learned_from_the_command() {
    let scope = scope("", "", "", "string,zset");
    // A list, as DUMP gives it: its type byte comes first.
    for (line, ruling) in [
        ("INCR k", "+"),
        ("SET k v", "+"),
        ("HSET k f v", "-Type"),
        ("RPUSH k v", "-Type"),
        // Whatever it was, it is a set now.
        ("SUNIONSTORE k a b", "DEL k"),
        ("SORT a STORE k", "DEL k"),
        ("ZRANGESTORE k a 0 1", "+"),
        // May read sets.
        ("ZUNIONSTORE k 2 a b", "!"),
        ("DEL k", "~"),
        ("RENAME a b", "~"),
        ("EXPIRE k 5", "~"),
        ("PERSIST k", "~"),
        ("COPY a b", "~"),
        ("RESTORE k 0 \u{1}list REPLACE", "DEL k"),
        ("RESTORE k 0 \u{1}list", "-Type"),
        ("RESTORE k 0 \u{0}string", "+"),
        ("JSON.SET k $ 1", "-Type"),
        ("EVAL s 1 k", "!"),
    ] {
        assert_eq!(ruled(&scope, line), ruling, "{line}");
    }
    assert_eq!(ruled(&self::scope("", "", "", "zset,set"), "ZUNIONSTORE k 2 a b"), "+");
    assert_eq!(ruled(&self::scope("", "", "", "module:ReJSON-RL"), "JSON.SET k $ 1"), "!");
    assert_eq!(ruled(&self::scope("", "", "", "module"), "JSON.SET k $ 1"), "+");
}

#[test]
fn the_reason_names_both_keys() {
    let args: [&[u8]; 3] = [b"rename", b"out", b"in"];
    let known = lookup(args[0]).unwrap();
    let error =
        rule(known, Class::Data, &args, Db::new(3), &scope("", "", "out*", "")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "RENAME makes key \"in\" of database 3 out of what the rules leave out: key \"out\" of database 3"
    );
}

/// A server that knows a few commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model(BTreeMap<(u32, Vec<u8>), Held>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
}

impl Model {
    /// Runs a command; `None` if it does nothing, so that a master would not propagate it.
    fn run(&mut self, db: u32, args: &[&[u8]]) -> Option<()> {
        let at = |key: &[u8]| (db, key.to_vec());
        let before = self.clone();
        match (&args[0].to_ascii_uppercase()[..], &args[1..]) {
            (b"SET", [key, value]) => {
                self.0.insert(at(key), Held::Text(value.to_vec()));
                return Some(());
            }
            (b"MSET", pairs) => {
                for pair in pairs.chunks(2) {
                    self.0.insert(at(pair[0]), Held::Text(pair[1].to_vec()));
                }
                return Some(());
            }
            (b"DEL", keys) => keys.iter().for_each(|key| {
                self.0.remove(&at(key));
            }),
            (b"RENAME", [from, to]) => {
                let held = self.0.remove(&at(from))?;
                self.0.insert(at(to), held);
            }
            (b"MOVE", [key, other]) => {
                let other = (std::str::from_utf8(other).ok()?.parse().ok()?, key.to_vec());
                if other.0 == db || self.0.contains_key(&other) {
                    return None;
                }
                let held = self.0.remove(&at(key))?;
                self.0.insert(other, held);
            }
            (b"COPY", [from, to]) => {
                let held = self.0.get(&at(from))?.clone();
                if self.0.contains_key(&at(to)) {
                    return None;
                }
                self.0.insert(at(to), held);
            }
            (b"SADD", [key, member]) => {
                match self.0.entry(at(key)).or_insert_with(|| Held::Set(BTreeSet::new())) {
                    Held::Set(set) => {
                        set.insert(member.to_vec());
                    }
                    _ => return None,
                }
            }
            (b"SREM", [key, member]) => {
                self.take(&at(key), |held| match held {
                    Held::Set(set) => set.take(*member),
                    _ => None,
                })?;
            }
            (b"SMOVE", [from, to, member]) => {
                if !matches!(self.0.get(&at(to)), None | Some(Held::Set(_))) {
                    return None;
                }
                self.run(db, &[b"SREM", from, member])?;
                self.run(db, &[b"SADD", to, member]);
            }
            (b"SUNIONSTORE", [to, sources @ ..]) => {
                let mut all = BTreeSet::new();
                for key in sources {
                    match self.0.get(&at(key)) {
                        Some(Held::Set(set)) => all.extend(set.iter().cloned()),
                        None => {}
                        _ => return None,
                    }
                }
                self.0.remove(&at(to));
                if !all.is_empty() {
                    self.0.insert(at(to), Held::Set(all));
                }
            }
            (b"RPUSH", [key, element]) => {
                match self.0.entry(at(key)).or_insert_with(|| Held::List(VecDeque::new())) {
                    Held::List(list) => list.push_back(element.to_vec()),
                    _ => return None,
                }
            }
            (b"LPOP" | b"RPOP", [key]) => {
                let left = args[0] == b"LPOP";
                self.take(&at(key), |held| match held {
                    Held::List(list) if left => list.pop_front(),
                    Held::List(list) => list.pop_back(),
                    _ => None,
                })?;
            }
            (b"LMOVE", [from, to, end, b"RIGHT"]) => {
                if !matches!(self.0.get(&at(to)), None | Some(Held::List(_))) {
                    return None;
                }
                let left = *end == b"LEFT";
                let element = self.take(&at(from), |held| match held {
                    Held::List(list) if left => list.pop_front(),
                    Held::List(list) => list.pop_back(),
                    _ => None,
                })?;
                self.run(db, &[b"RPUSH", to, &element])?;
            }
            other => panic!("{other:?}"),
        }
        (*self != before).then_some(())
    }

    /// Takes a part of a value; a value without parts is none.
    fn take(
        &mut self,
        at: &(u32, Vec<u8>),
        part: impl FnOnce(&mut Held) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let taken = part(self.0.get_mut(at)?)?;
        let empty = match &self.0[at] {
            Held::Text(_) => false,
            Held::List(list) => list.is_empty(),
            Held::Set(set) => set.is_empty(),
        };
        if empty {
            self.0.remove(at);
        }
        Some(taken)
    }
}

fn command() -> impl Strategy<Value = (u32, Vec<Vec<u8>>)> {
    let key = || prop::sample::select(vec!["a", "b", "out1", "out2"]);
    let word = || prop::sample::select(vec!["x", "y"]);
    let line = prop_oneof![
        (key(), word()).prop_map(|(k, v)| format!("SET {k} {v}")),
        (key(), word(), key(), word()).prop_map(|(k, v, l, w)| format!("MSET {k} {v} {l} {w}")),
        (key(), key()).prop_map(|(k, l)| format!("DEL {k} {l}")),
        (key(), key()).prop_map(|(k, l)| format!("RENAME {k} {l}")),
        (key(), 0..3_u32).prop_map(|(k, db)| format!("MOVE {k} {db}")),
        (key(), key()).prop_map(|(k, l)| format!("COPY {k} {l}")),
        (key(), word()).prop_map(|(k, m)| format!("SADD {k} {m}")),
        (key(), word()).prop_map(|(k, m)| format!("SREM {k} {m}")),
        (key(), key(), word()).prop_map(|(k, l, m)| format!("SMOVE {k} {l} {m}")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("SUNIONSTORE {k} {l} {m}")),
        (key(), word()).prop_map(|(k, e)| format!("RPUSH {k} {e}")),
        (key(), key(), prop::sample::select(vec!["LEFT", "RIGHT"]))
            .prop_map(|(k, l, end)| format!("LMOVE {k} {l} {end} RIGHT")),
    ];
    (0..3_u32, line)
        .prop_map(|(db, line)| (db, line.split(' ').map(|word| word.as_bytes().to_vec()).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// To leave out of a stream what the rules leave out, and play it, is to play it all and then to delete that.
    #[test]
    fn what_is_left_out_of_a_stream_is_left_out_of_its_end(
        commands in prop::collection::vec(command(), 0..60),
        only in prop::sample::select(vec!["", "0,1", "2"]),
        exclude in prop::sample::select(vec!["", "out*"]),
    ) {
        let scope = scope(only, "", exclude, "");
        let (mut source, mut target) = (Model::default(), Model::default());
        for (db, args) in &commands {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let known = lookup(args[0]).unwrap();
            let before = source.clone();
            if source.run(*db, &args).is_none() {
                source = before;
                continue;
            }
            match rule(known, Class::Data, &args, Db::new(*db), &scope) {
                Ok(Ruling::Play | Ruling::PlayLeniently) => {
                    prop_assert!(target.run(*db, &args).is_some(), "{args:?} does nothing");
                }
                Ok(Ruling::Drop(_)) => {}
                Ok(Ruling::Instead(instead)) => {
                    let args: Vec<&[u8]> = instead.args.iter().map(AsRef::as_ref).collect();
                    target.run(*db, &args);
                }
                // Nothing behind it is played.
                Err(_) => {
                    source = before;
                    break;
                }
            }
        }
        source.0.retain(|(db, key), _| scope.judge(Db::new(*db), key).is_keep());
        prop_assert_eq!(source, target);
    }
}
