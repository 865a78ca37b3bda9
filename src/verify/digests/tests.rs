use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::command::lookup;
use crate::command::testing::words;
use crate::doubt::Call;
use crate::key::Db;
use crate::offset::Offset;
use crate::plan::Rules;
use crate::rdb::event::{Element, KeyHead, Payload};
use crate::rdb::opcode::ObjectType;
use crate::verify::{Content, Digester, Times};

const SEED: u64 = 7;

fn head() -> Head {
    Head::new("a start", 3, SEED)
}

fn writer() -> Writer {
    Writer::new(SEED, Times::default(), 1 << 20, 1 << 10, u64::MAX)
}

/// A file of what was gathered.
fn file(writer: &mut Writer) -> Vec<u8> {
    [head().encode(), writer.take().clone()].concat()
}

/// What a file tells, each in words.
fn told(bytes: &[u8]) -> Result<Vec<String>, DigestsError> {
    let mut reader = Reader::new(Cursor::new(bytes), &head())?;
    let mut told = Vec::new();
    while let Some(next) = reader.next_told()? {
        told.push(format!("{next:?}"));
    }
    let skimmed = Reader::new(Cursor::new(bytes), &head())?.skim()?;
    assert!(skimmed.end <= bytes.len() as u64);
    assert_eq!(skimmed.is_whole, told.contains(&"Whole".to_owned()));
    Ok(told)
}

/// What happens to a writer.
#[derive(Clone, Debug)]
enum Event {
    /// A string of the copy, whole or in parts.
    Key(u8, Vec<u8>, bool),
    Wrote(u8),
    Taken(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u8..20, prop::collection::vec(any::<u8>(), 0..40), any::<bool>())
            .prop_map(|(name, value, whole)| Event::Key(name, value, whole)),
        (0_u8..20).prop_map(Event::Wrote),
        (0_u8..3).prop_map(Event::Taken),
    ]
}

fn name(number: u8) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

fn key(writer: &mut Writer, name: &[u8], value: &[u8], is_whole: bool) {
    let object = ObjectType::String;
    let (db, key) = (Db::default(), name);
    writer.key(&KeyHead { db, key, object, expire_at_ms: Some(5), idle_seconds: None, freq: None });
    if is_whole {
        let body = [&[u8::try_from(value.len()).unwrap()][..], value].concat();
        return writer.payload(&Payload { object, body: &body });
    }
    let len = value.len() as u64;
    for (offset, byte) in value.iter().enumerate() {
        let (offset, bytes) = (offset as u64, std::slice::from_ref(byte));
        writer.element(&Element::Text { offset, len, bytes });
    }
    if value.is_empty() {
        writer.element(&Element::Text { offset: 0, len, bytes: b"" });
    }
    writer.value_end();
}

fn content(value: &[u8]) -> Content {
    let mut digester = Digester::new(SEED);
    digester.begin(crate::rdb::opcode::ValueType::String);
    let text = Element::Text { offset: 0, len: value.len() as u64, bytes: value };
    digester.add(&text, &Times::default());
    digester.end().unwrap()
}

/// Plays them, and gives the file.
fn played(events: &[Event]) -> Vec<u8> {
    let mut writer = writer();
    for event in events {
        match event {
            Event::Key(number, value, is_whole) => {
                key(&mut writer, &name(*number), value, *is_whole);
            }
            Event::Wrote(number) => writer.wrote(Db::default(), &name(*number)),
            Event::Taken(number) => writer.is_taken_by(&number.to_string()),
        }
    }
    writer.is_whole();
    file(&mut writer)
}

proptest! {
    #[test]
    fn what_was_kept_is_read_again(events in prop::collection::vec(event(), 0..60)) {
        let bytes = played(&events);
        let mut reader = Reader::new(Cursor::new(&bytes), &head()).unwrap();
        let (mut keys, mut written, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(told) = reader.next_told().unwrap() {
            match told {
                Told::Key(noted) => {
                    prop_assert_eq!(noted.deadline, Some(5));
                    keys.push((noted.name.to_vec(), noted.content));
                }
                Told::Written(_, name) => written.push(name.to_vec()),
                Told::TakenBy(token) => taken.push(token.to_owned()),
                Told::Whole => {}
                Told::Ends(why) => prop_assert!(false, "{}", why),
            }
        }
        let of = |want: fn(&Event) -> bool| events.iter().filter(move |event| want(event));
        let expected: Vec<_> = of(|event| matches!(event, Event::Key(..)))
            .map(|event| match event {
                Event::Key(number, value, _) => (name(*number), content(value)),
                _ => unreachable!(),
            })
            .collect();
        prop_assert_eq!(keys, expected);
        let mut all: Vec<Vec<u8>> = of(|event| matches!(event, Event::Wrote(_)))
            .map(|event| match event {
                Event::Wrote(number) => name(*number),
                _ => unreachable!(),
            })
            .collect();
        prop_assert_eq!(taken.len(), of(|event| matches!(event, Event::Taken(_))).count());
        // Once at least, and no other.
        prop_assert!(written.len() <= all.len());
        for names in [&mut all, &mut written] {
            names.sort();
            names.dedup();
        }
        prop_assert_eq!(written, all);
    }

    #[test]
    fn a_file_that_is_cut_tells_what_comes_before_the_cut(
        events in prop::collection::vec(event(), 0..30),
        cut: prop::sample::Index,
    ) {
        let bytes = played(&events);
        let whole = told(&bytes).unwrap();
        let cut = cut.index(bytes.len() + 1);
        match told(&bytes[..cut]) {
            Ok(some) => prop_assert_eq!(&some[..], &whole[..some.len()]),
            Err(error) => {
                prop_assert!(matches!(error, DigestsError::Foreign), "{}", error);
                prop_assert!(cut < usize::try_from(Head::LEN).unwrap());
            }
        }
        // Whoever has read so far reads the rest when it is there.
        let place = usize::try_from(Head::LEN).unwrap();
        if cut >= place {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes[..cut]).unwrap();
            let mut reader = Reader::new(file.reopen().unwrap(), &head()).unwrap();
            let mut all = Vec::new();
            for bytes in [&bytes[..cut], &bytes] {
                std::fs::write(file.path(), bytes).unwrap();
                while let Some(next) = reader.next_told().unwrap() {
                    all.push(format!("{next:?}"));
                }
            }
            prop_assert_eq!(all, whole);
        }
    }

    #[test]
    fn a_byte_that_is_another_one_is_an_error_or_cuts_the_file(
        events in prop::collection::vec(event(), 1..20),
        at: prop::sample::Index,
        other in 1_u8..,
    ) {
        let mut bytes = played(&events);
        let whole = told(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= other;
        let from = usize::try_from(Head::COVERED - 8).unwrap();
        let is_seed_or_covered = (from..from + 16).contains(&at);
        let mut reader = match Reader::new(Cursor::new(&bytes), &head()) {
            Ok(reader) => reader,
            Err(error) => {
                prop_assert!(matches!(error, DigestsError::Foreign) && at < from);
                return Ok(());
            }
        };
        let (mut some, mut failed) = (Vec::new(), false);
        loop {
            match reader.next_told() {
                Ok(Some(next)) => some.push(format!("{next:?}")),
                Ok(None) => break,
                Err(DigestsError::Damaged { at: told }) => {
                    failed = true;
                    prop_assert!(told <= at as u64);
                    break;
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert_eq!(&some[..], &whole[..some.len()]);
        prop_assert!(is_seed_or_covered || failed || some.len() < whole.len());
    }

    /// A key that is not named holds what it held.
    #[test]
    fn every_key_that_a_command_writes_is_named(
        lines in prop::collection::vec((0_usize..9, 0_u8..6, 0_u8..6), 0..60),
    ) {
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> =
            (0..6).map(|number| (name(number), b"0".to_vec())).collect();
        let before = store.clone();
        let mut writer = writer();
        for (kind, one, other) in lines {
            let [one, other] = [one, other].map(|number| String::from_utf8(name(number)).unwrap());
            let [a, b] = [one.as_bytes().to_vec(), other.as_bytes().to_vec()];
            let line = match kind {
                0 => { store.insert(a, b"new".to_vec()); format!("SET {one} new") }
                1 => { store.remove(&a); format!("DEL {one}") }
                2 => {
                    if let Some(value) = store.remove(&a) { store.insert(b, value); }
                    format!("RENAME {one} {other}")
                }
                3 => {
                    store.insert(a, b"x".to_vec());
                    store.insert(b, b"y".to_vec());
                    format!("MSET {one} x {other} y")
                }
                4 => {
                    if let Some(value) = store.get(&a).cloned() { store.insert(b, value); }
                    format!("COPY {one} {other} REPLACE")
                }
                5 => "PING".to_owned(),
                6 => { store.remove(&a); store.remove(&b); format!("UNLINK {one} {other}") }
                7 => { store.entry(a).or_default().push(b'#'); format!("APPEND {one} #") }
                _ => format!("SUNIONSTORE {one} {one} {other}"),
            };
            if kind == 8 { store.insert(one.into_bytes(), b"union".to_vec()); }
            run(&mut writer, &line);
        }
        let bytes = file(&mut writer);
        let mut reader = Reader::new(Cursor::new(bytes), &head()).unwrap();
        let mut named = Vec::new();
        while let Some(Told::Written(_, name)) = reader.next_told().unwrap() {
            named.push(name.to_vec());
        }
        for number in 0..6 {
            let name = name(number);
            prop_assert!(named.contains(&name) || store.get(&name) == before.get(&name));
        }
    }
}

fn run(writer: &mut Writer, line: &str) {
    let args = words(line);
    let command = lookup(args[0]).unwrap();
    let (db, end) = (Db::default(), Offset::new(1));
    writer.ran(&Call { command, args: &args, db, end }, &Rules::default());
}

#[test]
fn what_cannot_be_told_by_names_ends_it() {
    for line in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "EVAL x 1 key:1", "TS.ADD key:1 5 5"] {
        let mut writer = writer();
        run(&mut writer, line);
        assert!(writer.has_ended(), "{line}");
        run(&mut writer, "SET key:1 x");
        key(&mut writer, b"key:2", b"x", true);
        writer.is_whole();
        let told = told(&file(&mut writer)).unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("Ends("), "{told:?}");
    }
    for line in ["SORT key:1 BY w_* STORE key:2", "SCRIPT LOAD x", "MOVE key:1 3", "PFCOUNT key:1"]
    {
        let mut writer = writer();
        run(&mut writer, line);
        assert!(!writer.has_ended(), "{line}");
    }
}

#[test]
fn no_more_is_kept_than_may_be() {
    let mut writer = Writer::new(SEED, Times::default(), 1 << 20, 1 << 10, 100_000);
    for number in 0_u32..10_000 {
        writer.wrote(Db::default(), format!("a name of some length: {number}").as_bytes());
    }
    assert!(writer.has_ended());
    assert!(writer.take().len() < 200_000);
}

#[test]
fn names_that_are_written_all_the_time_are_kept_once() {
    let mut writer = writer();
    for _ in 0..1000 {
        writer.wrote(Db::default(), b"counter");
        writer.wrote(Db::new(1), b"counter");
        writer.wrote(Db::default(), b"understudy:pos:a:b");
    }
    assert_eq!(told(&file(&mut writer)).unwrap().len(), 2);
}

#[test]
fn a_file_of_others_is_none() {
    let bytes = writer_of_one();
    for other in [Head::new("another start", 3, SEED), Head::new("a start", 4, SEED)] {
        assert!(matches!(Reader::new(Cursor::new(&bytes), &other), Err(DigestsError::Foreign)));
    }
    let reader = Reader::new(Cursor::new(&bytes), &Head::new("a start", 3, 0)).unwrap();
    assert_eq!(reader.seed(), SEED);
    assert!(matches!(Reader::new(Cursor::new(b""), &head()), Err(DigestsError::Foreign)));
}

fn writer_of_one() -> Vec<u8> {
    let mut writer = writer();
    key(&mut writer, b"key:1", b"x", true);
    writer.is_whole();
    file(&mut writer)
}
