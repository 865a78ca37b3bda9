//! Every object type, opcode and packed entry, by files of real servers or else by bytes that are written here.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use understudy::rdb::event::{Event, Packed};
use understudy::rdb::opcode::{ObjectType, Opcode};
use understudy::rdb::packed::listpack::{self, Listpack};
use understudy::rdb::packed::ziplist;
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::{Next, Reader};

use crate::{find, names, variants};

/// Files that real servers wrote.
fn files() -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb"), "rdb", &mut paths);
    match env::var_os("UNDERSTUDY_CORPUS") {
        Some(corpus) => find(&Path::new(&corpus).join("rdb"), "rdb", &mut paths),
        None => println!("skipped: the corpus in reach (no UNDERSTUDY_CORPUS)"),
    }
    assert!(paths.len() > 30);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
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
    assert_eq!(opcodes, variants("Opcode"));
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
