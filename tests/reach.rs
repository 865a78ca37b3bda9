//! What the tests reach: every object type, opcode and packed entry, by files of real servers or else by bytes that are written
//! here; and every kind of error, by the bytes that bring it about. The lists are those of the sources: a new entry fails here
//! until something reaches it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says that it was skipped"
)]

use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use understudy::plan::Place;
use understudy::rdb::error::{RdbError, RdbErrorKind};
use understudy::rdb::event::{Event, Packed};
use understudy::rdb::opcode::{ObjectType, Opcode};
use understudy::rdb::packed::listpack::{self, Listpack};
use understudy::rdb::packed::ziplist;
use understudy::rdb::parser::{Depth, Parser, Step};
use understudy::rdb::reader::{Next, Reader};
use understudy::repl::{Credentials, Method, ReplError, Request, Session};
use understudy::resp::{CommandReader, ReplyReader, RespError};

/// The variants of an enum, as its source lists them.
fn variants(file: &str, name: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    // A variant stands four blanks in; its fields and attributes stand deeper or begin otherwise.
    let found: BTreeSet<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(name_of)
        .collect();
    assert!(found.len() > 3, "{name} was not found in {file}");
    found
}

/// The word that a value's debug form begins with.
fn name_of(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn names<T: Debug>(reached: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    reached.into_iter().map(|value| name_of(&format!("{value:?}"))).collect()
}

/// What the parser says is wrong.
fn fault(depth: Depth, file: &[u8]) -> RdbErrorKind {
    let mut parser = Parser::new();
    parser.set_default_depth(depth);
    parser.set_element_limit(1000);
    fault_of(parser, file).kind
}

fn fault_of(mut parser: Parser, mut rest: &[u8]) -> RdbError {
    loop {
        match parser.step(rest) {
            Ok((Step::Event(_), used)) => rest = &rest[used..],
            Ok((Step::NeedMore, _)) => return parser.truncated(),
            Ok((Step::End(_), _)) => panic!("nothing is wrong"),
            Err(error) => return error,
        }
    }
}

fn in_value(object: ObjectType, body: &[u8]) -> RdbErrorKind {
    fault_of(Parser::for_value(object), body).kind
}

#[test]
fn every_error_of_a_file_is_reached() {
    let file = |rest: &[u8]| fault(Depth::Elements, &[b"REDIS0012", rest].concat());
    let list = |entries: &[&[u8]]| {
        let mut builder = listpack::Builder::new();
        entries.iter().for_each(|entry| builder.push(entry).unwrap());
        builder.finish()
    };
    let blob = list(&[b"ab"]);
    let node = [&[1, 16][..], &[0; 16], &[u8::try_from(blob.len()).unwrap()], &blob].concat();
    let mut reader = Reader::new();
    reader.extend(b"REDIS0009\xff\x01\x02\x03\x04\x05\x06\x07\x08");
    reader.next().unwrap();
    let sum = reader.next().unwrap_err().kind;
    let reached = [
        fault(Depth::Skip, b"no magic!"),
        fault(Depth::Skip, b"REDIS0000"),
        file(&[200]),
        file(&[100]),
        file(&[6]),
        file(&[246]),
        file(&[254, 0x82]),
        file(&[254, 0xc0]),
        file(&[0, 0xc5]),
        file(&[0, 0xc3, 1, 0x7f, 0xff]),
        file(&[0, 0xc3, 2, 4, 0x20, b'a']),
        file(&[1, 1, b'k', 1, 0x80, 0, 0, 0x10, 0]),
        file(&[254, 0x81, 1, 0, 0, 0, 0, 0, 0, 0]),
        in_value(ObjectType::Zset, b"\x01\x01m\xfd"),
        in_value(ObjectType::HashMetadata, b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x01f\x01v"),
        in_value(ObjectType::ListZiplist, b"\x01x"),
        in_value(ObjectType::ListQuicklist2, b"\x01\x03\x01x"),
        in_value(ObjectType::StreamListpacks, b"\x01\x02ab\x01x"),
        in_value(ObjectType::StreamListpacks, &node),
        in_value(ObjectType::Module2, b"\x01\x06"),
        sum,
        file(&[254]),
    ];
    assert_eq!(names(reached), variants("src/rdb/error.rs", "RdbErrorKind"));
}

#[test]
fn every_error_of_resp_is_reached() {
    let command = |input: &[u8]| CommandReader::default().read(input).unwrap_err();
    let reply = |input: &[u8]| ReplyReader::default().read(input).map(|_| ()).unwrap_err();
    let long = vec![b'a'; 1 << 20];
    let reached: [RespError; 6] = [
        reply(b"what\r\n"),
        reply(b":12a\r\n"),
        command(&long),
        command(b"*99999999999\r\n"),
        command(b"*1\r\n$1\r\nab\r\n"),
        command(b"SET \"a\r\n"),
    ];
    let reached = names(reached.map(|error| error.kind));
    assert_eq!(reached, variants("src/resp/mod.rs", "RespErrorKind"));
}

/// What a session says of a master that answers so.
fn refusal(mut session: Session, answers: &[u8]) -> ReplError {
    let mut rest = answers;
    loop {
        match session.poll_event(Duration::ZERO) {
            Ok(Some(_)) => {}
            Ok(None) if rest.is_empty() => return session.unfinished().unwrap(),
            Ok(None) => {
                let room = session.buffer();
                let count = room.len().min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                session.filled(count);
                rest = &rest[count..];
            }
            Err(error) => return error,
        }
    }
}

#[test]
fn every_error_of_a_session_is_reached() {
    let asks = |password: bool| {
        let credentials =
            password.then(|| Credentials { user: None, password: "secret".to_owned() });
        Session::new(Request { credentials, resume: None })
    };
    let psync = |answers: &[u8]| refusal(Session::asked(false, None), answers);
    let full = |rest: &[u8]| {
        let head = b"+FULLRESYNC 0123456789012345678901234567890123456789 7\r\n";
        psync(&[&head[..], rest].concat())
    };
    let empty = b"REDIS0006\xff\0\0\0\0\0\0\0\0";
    let mark = [b'm'; 40];
    let at_mark = [&b"$EOF:"[..], &mark, b"\r\n", empty, &[b'n'; 40]].concat();
    let reached = [
        refusal(asks(false), b"-NOAUTH Authentication required.\r\n"),
        refusal(asks(true), b"-ERR invalid password\r\n"),
        psync(b"-NOPERM this user has no permissions to run the 'psync' command\r\n"),
        psync(b"-ERR unknown command 'PSYNC'\r\n-ERR unknown command 'SYNC'\r\n"),
        refusal(
            Session::asked(false, None).method(Method::Psync),
            b"-ERR unknown command 'PSYNC'\r\n",
        ),
        psync(b"-DENIED Redis is running in protected mode\r\n"),
        psync(b"-LOADING Redis is loading the dataset in memory\r\n"),
        full(b"-ERR Unable to perform background save\r\n"),
        psync(b"+what is this\r\n"),
        psync(b""),
        full(b"$9\r\nno magic!"),
        full(&[&b"$20\r\n"[..], empty, b"xx"].concat()),
        full(&at_mark),
        full(&[&b"$18\r\n"[..], empty, b"*x\r\n"].concat()),
    ];
    assert_eq!(names(reached), variants("src/repl/error.rs", "ReplError"));
}

#[test]
fn every_error_of_a_place_is_reached() {
    let reached = [
        "what is this",
        "redis://host:99999",
        "redis://host/x",
        "redis://:6379",
        "redis://:%zz@host",
        "redis-cluster://a:1",
    ];
    let reached = names(reached.map(|text| Place::parse(text).unwrap_err()));
    assert_eq!(reached, variants("src/plan/place.rs", "PlaceError"));
}

/// Files that real servers wrote.
fn files() -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb"), &mut paths);
    match env::var_os("UNDERSTUDY_CORPUS") {
        Some(corpus) => find(&Path::new(&corpus).join("rdb"), &mut paths),
        None => println!("skipped: the corpus in reach (no UNDERSTUDY_CORPUS)"),
    }
    assert!(paths.len() > 30);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rdb") {
            found.push(path);
        }
    }
}

/// All events of a file up to its end.
fn walk(file: &[u8], depth: Depth, mut see: impl FnMut(&Event<'_>)) {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    reader.extend(file);
    loop {
        match reader.next() {
            Ok(Next::Event(event)) => see(&event),
            Ok(Next::End(_)) => return,
            other => panic!("{other:?}"),
        }
    }
}

/// Types and opcodes of a file.
fn note(file: &[u8], objects: &mut BTreeSet<String>, opcodes: &mut BTreeSet<String>) {
    let mut old = false;
    walk(file, Depth::Skip, |event| {
        let opcode = match event {
            Event::Header(format) => {
                // Milliseconds came with RDB 3.
                old = format.version < 3;
                Opcode::End
            }
            Event::Aux { .. } => Opcode::Aux,
            Event::SelectDb(_) => Opcode::SelectDb,
            Event::ResizeDb { .. } => Opcode::ResizeDb,
            Event::SlotInfo { .. } => Opcode::SlotInfo,
            Event::SlotImport { .. } => Opcode::SlotImport,
            Event::KeyMeta => Opcode::KeyMeta,
            Event::Function { .. } => Opcode::Function,
            Event::ModuleAux { .. } => Opcode::ModuleAux,
            Event::Key(head) => {
                objects.insert(format!("{:?}", head.object));
                opcodes.extend(names(head.idle_seconds.map(|_| Opcode::Idle)));
                opcodes.extend(names(head.freq.map(|_| Opcode::Freq)));
                let deadline = if old { Opcode::ExpireSeconds } else { Opcode::ExpireMs };
                opcodes.extend(names(head.expire_at_ms.map(|_| deadline)));
                return;
            }
            _ => return,
        };
        opcodes.extend(names([opcode]));
    });
}

/// A file that holds one empty value of this type. None of the servers at hand wrote one.
fn made_up(object: ObjectType) -> Vec<u8> {
    let (magic, version) = match object.family() {
        Some(family) if family.to_string() == "Valkey" => ("VALKEY", format!("{:03}", 80)),
        _ => ("REDIS", format!("{:04}", object.since().max(11))),
    };
    let listpack = listpack::Builder::new().finish();
    let body = match object {
        ObjectType::HashListpackEx => [&[0; 8][..], &[7], &listpack].concat(),
        ObjectType::HashListpackExPreRelease => [&[7][..], &listpack].concat(),
        ObjectType::HashMetadata => [0; 9].to_vec(),
        ObjectType::HashMetadataPreRelease | ObjectType::Hash2 => [0; 1].to_vec(),
        // No nodes; length, three IDs and a count; no groups; no deduplication, no producers and nothing produced.
        ObjectType::StreamListpacks4 | ObjectType::StreamListpacks5 => vec![0; 15],
        ObjectType::Module2 => vec![1, 0],
        other => panic!("no server's file has a {other:?}"),
    };
    let mut file =
        [magic.as_bytes(), version.as_bytes(), &[object.byte(), 1, b'k'], &body].concat();
    file.extend([255, 0, 0, 0, 0, 0, 0, 0, 0]);
    file
}

#[test]
fn every_type_and_opcode_is_reached() {
    let (mut objects, mut opcodes) = (BTreeSet::new(), BTreeSet::new());
    let files = files();
    files.iter().for_each(|file| note(file, &mut objects, &mut opcodes));
    assert!(objects.len() > 15 && opcodes.len() > 8, "{objects:?} {opcodes:?}");
    for object in ObjectType::ALL {
        if objects.insert(format!("{object:?}")) {
            let (mut made, mut with) = (BTreeSet::new(), BTreeSet::new());
            note(&made_up(*object), &mut made, &mut with);
            assert_eq!(made, BTreeSet::from([format!("{object:?}")]));
            println!("{object:?}: by bytes that are written here");
        }
    }
    // What only newer servers, modules and clusters under way write.
    for made in [
        &b"REDIS0013\xf3\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0"[..],
        b"REDIS0012\xf7\x01\x02\x02\x00\xff\0\0\0\0\0\0\0\0",
        b"VALKEY080\xf3\x03job\x01\x00\x05\xff\0\0\0\0\0\0\0\0",
    ] {
        note(made, &mut objects, &mut opcodes);
    }
    assert_eq!(opcodes, variants("src/rdb/opcode.rs", "Opcode"));
}

/// The form of an entry of a listpack, by its first byte.
const fn listpack_form(first: u8) -> &'static str {
    match first {
        0..0x80 => "listpack 7 bit integer",
        0x80..0xc0 => "listpack 6 bit string",
        0xc0..0xe0 => "listpack 13 bit integer",
        0xe0..0xf0 => "listpack 12 bit string",
        0xf0 => "listpack 32 bit string",
        0xf1 => "listpack 16 bit integer",
        0xf2 => "listpack 24 bit integer",
        0xf3 => "listpack 32 bit integer",
        0xf4 => "listpack 64 bit integer",
        _ => "no listpack entry",
    }
}

fn note_listpack(blob: &[u8], forms: &mut BTreeSet<&'static str>) {
    let list = Listpack::parse(blob).unwrap();
    let mut entries = list.iter();
    while !entries.is_at_end() {
        forms.insert(listpack_form(blob[entries.at()]));
        entries.next().unwrap().unwrap();
    }
}

/// Walks a ziplist by its own lengths.
fn note_ziplist(blob: &[u8], forms: &mut BTreeSet<&'static str>) {
    let mut at = 10;
    while blob[at] != 0xff {
        at += if blob[at] == 0xfe {
            forms.insert("ziplist long length before");
            5
        } else {
            1
        };
        let big = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        let (form, len) = match blob[at] {
            first @ 0..0x40 => ("ziplist 6 bit string", 1 + usize::from(first)),
            first @ 0x40..0x80 => (
                "ziplist 14 bit string",
                2 + (usize::from(first & 0x3f) << 8 | usize::from(blob[at + 1])),
            ),
            0x80..0xc0 => ("ziplist 32 bit string", 5 + big(&blob[at + 1..at + 5])),
            0xc0 => ("ziplist 16 bit integer", 3),
            0xd0 => ("ziplist 32 bit integer", 5),
            0xe0 => ("ziplist 64 bit integer", 9),
            0xf0 => ("ziplist 24 bit integer", 4),
            0xfe => ("ziplist 8 bit integer", 2),
            0xf1..=0xfd => ("ziplist 4 bit integer", 1),
            other => panic!("no ziplist entry begins with {other}"),
        };
        forms.insert(form);
        at += len;
    }
}

#[test]
fn every_form_of_a_packed_entry_is_reached() {
    let mut forms = BTreeSet::new();
    for file in files() {
        walk(&file, Depth::Packed, |event| {
            let Event::Packed(packed) = event else { return };
            match *packed {
                Packed::Listpack(blob) | Packed::StreamNode { listpack: blob, .. } => {
                    note_listpack(blob, &mut forms);
                }
                Packed::Ziplist(blob) => note_ziplist(blob, &mut forms),
                Packed::Whole { object, blob } => match object.encoding() {
                    "ziplist" => note_ziplist(blob, &mut forms),
                    "intset" => drop(forms.insert(match blob[0] {
                        2 => "intset of 16 bit",
                        4 => "intset of 32 bit",
                        _ => "intset of 64 bit",
                    })),
                    "zipmap" => drop(forms.insert("zipmap")),
                    _ => note_listpack(blob, &mut forms),
                },
            }
        });
    }
    // Long strings in a packed blob are more than the servers' limits let come about by themselves.
    let mut long = ziplist::Builder::new();
    long.push(&[b'x'; 20_000]).unwrap();
    long.push(b"behind it").unwrap();
    note_ziplist(&long.finish(), &mut forms);
    let mut long = listpack::Builder::new();
    long.push(&[b'x'; 5000]).unwrap();
    note_listpack(&long.finish(), &mut forms);
    let strings = ["6 bit string", "14 bit string", "32 bit string"];
    let numbers = ["4 bit", "8 bit", "16 bit", "24 bit", "32 bit", "64 bit"];
    let mut expected: BTreeSet<String> =
        strings.iter().map(|form| format!("ziplist {form}")).collect();
    expected.extend(numbers.iter().map(|form| format!("ziplist {form} integer")));
    expected.insert("ziplist long length before".to_owned());
    expected.extend([0, 0x80, 0xc0, 0xe0, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4].map(|first| {
        let form: &str = listpack_form(first);
        form.to_owned()
    }));
    expected.extend(["16", "32", "64"].map(|bits| format!("intset of {bits} bit")));
    expected.insert("zipmap".to_owned());
    let forms: BTreeSet<String> = forms.into_iter().map(str::to_owned).collect();
    assert_eq!(forms, expected);
}
