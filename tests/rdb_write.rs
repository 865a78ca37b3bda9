//! Files that real servers wrote, written anew for every version and read back: nothing may be lost but what the
//! version has not, and that must be said.
//!
//! The corpus is found through the environment variable `UNDERSTUDY_CORPUS`; without it these tests say that they were
//! skipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says that it was skipped"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use understudy::key::Db;
use understudy::rdb::dump::Footer;
use understudy::rdb::event::Element;
use understudy::rdb::event::Event;
use understudy::rdb::event::KeyHead;
use understudy::rdb::event::Payload;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::opcode::ValueType;
use understudy::rdb::parser::Depth;
use understudy::rdb::parser::Parser;
use understudy::rdb::parser::Step;
use understudy::rdb::reader::Next;
use understudy::rdb::reader::Reader;
use understudy::rdb::support::Feature;
use understudy::rdb::transcode::Fit;
use understudy::rdb::transcode::TranscodeError;
use understudy::rdb::transcode::fit;
use understudy::rdb::transcode::transcode;
use understudy::rdb::value::Encoder;
use understudy::rdb::value::Lost;
use understudy::rdb::writer::Writer;
use understudy::server::Flavour;
use understudy::server::Server;
use understudy::server::Version;

/// One server for each version of the format that can be written, and those that read less than their number says.
const SERVERS: [Server; 12] = [
    redis(2, 6),
    redis(2, 8),
    redis(3, 2),
    redis(4, 0),
    redis(5, 0),
    redis(6, 2),
    redis(7, 0),
    redis(7, 2),
    redis(8, 0),
    Server { flavour: Flavour::Redict, version: Version(7, 3, 6) },
    Server { flavour: Flavour::Valkey, version: Version(8, 1, 1) },
    Server { flavour: Flavour::Valkey, version: Version(9, 1, 2) },
];

const fn redis(major: u16, minor: u16) -> Server {
    Server { flavour: Flavour::Redis, version: Version(major, minor, 0) }
}

/// A key, owned, with all that its value says.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    db: Db,
    key: Vec<u8>,
    object: ObjectType,
    expire_at_ms: Option<i64>,
    idle_seconds: Option<u64>,
    freq: Option<u8>,
    said: Vec<String>,
}

impl Key {
    fn new(head: &KeyHead<'_>) -> Self {
        Self {
            db: head.db,
            key: head.key.to_vec(),
            object: head.object,
            expire_at_ms: head.expire_at_ms,
            idle_seconds: head.idle_seconds,
            freq: head.freq,
            said: Vec::new(),
        }
    }

    fn head(&self) -> KeyHead<'_> {
        KeyHead {
            db: self.db,
            key: &self.key,
            object: self.object,
            expire_at_ms: self.expire_at_ms,
            idle_seconds: self.idle_seconds,
            freq: self.freq,
        }
    }
}

/// Adds what an element says. The pieces of a string are one thing, however they were cut.
fn say(said: &mut Vec<String>, element: &Element<'_>) {
    let bytes = match element {
        Element::Text { bytes, .. } | Element::Module { bytes, .. } => bytes,
        element => return said.push(format!("{element:?}")),
    };
    if said.is_empty() {
        said.push(String::new());
    }
    said.last_mut().unwrap().extend(bytes.iter().map(|byte| char::from(*byte)));
}

/// What is left of an element on a server that reads `object` of its kind as the best.
fn kept<'a>(element: &Element<'a>, server: Server) -> Element<'a> {
    let history = server.reads(ObjectType::StreamListpacks2);
    let activity = server.reads(ObjectType::StreamListpacks3);
    let deadlines = server.reads(ObjectType::HashMetadata) || server.reads(ObjectType::Hash2);
    match *element {
        Element::Field { field, value, expire_at_ms } => {
            let expire_at_ms = expire_at_ms.filter(|_| deadlines);
            Element::Field { field, value, expire_at_ms }
        }
        Element::Stream(mut meta) => {
            meta.more = meta.more.filter(|_| history);
            Element::Stream(meta)
        }
        Element::Group { name, last_id, entries_read } => {
            let entries_read = entries_read.filter(|_| history);
            Element::Group { name, last_id, entries_read }
        }
        Element::Consumer { name, seen_at_ms, active_at_ms } => {
            let active_at_ms = active_at_ms.filter(|_| activity);
            Element::Consumer { name, seen_at_ms, active_at_ms }
        }
        other => other,
    }
}

/// Reads a file at a depth, and gives each key with its events.
fn for_each(bytes: &[u8], depth: Depth, mut on: impl FnMut(&Event<'_>)) {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    reader.extend(bytes);
    loop {
        match reader.next().unwrap() {
            Next::Event(event) => on(&event),
            Next::NeedMore => panic!("the file was cut short"),
            Next::End(_) => return,
        }
    }
}

fn read(bytes: &[u8]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for_each(bytes, Depth::Elements, |event| match event {
        Event::Key(head) => keys.push(Key::new(head)),
        Event::Element(element) => say(&mut keys.last_mut().unwrap().said, element),
        _ => {}
    });
    keys
}

/// A file, written anew for a server; what must be in it; and of what the server has nothing at all.
fn rewrite(bytes: &[u8], server: Server) -> (Vec<u8>, Vec<Key>, Vec<Feature>) {
    let mut writer = Writer::new(server).unwrap();
    let mut file = Vec::new();
    let mut expected: Vec<Key> = Vec::new();
    let mut refused = Vec::new();
    let mut encoder = None;
    let (mut deadlines, mut lost) = (0, 0);
    for_each(bytes, Depth::Elements, |event| match event {
        Event::Key(head) => match Encoder::new(head.object, server) {
            Ok(fresh) => {
                encoder = Some(fresh);
                expected.push(Key::new(head));
            }
            Err(unsupported) => {
                encoder = None;
                refused.push(unsupported.what);
            }
        },
        Event::Element(element) => {
            if let Some(encoder) = &mut encoder {
                encoder.push(element).unwrap();
                let kept = kept(element, server);
                deadlines +=
                    u64::from(kept != *element && matches!(element, Element::Field { .. }));
                say(&mut expected.last_mut().unwrap().said, &kept);
            }
        }
        Event::ValueEnd => {
            if let Some(encoder) = encoder.take() {
                let value = encoder.finish().unwrap();
                let key = expected.last_mut().unwrap();
                writer.value(&key.head(), &value);
                lost += value.lost.field_deadlines;
                key.object = value.object;
                key.expire_at_ms = key.expire_at_ms.map(|at| at.max(0));
                if server.rdb_format().version < 9 {
                    (key.idle_seconds, key.freq) = (None, None);
                }
                assert!(server.reads(value.object), "{server} does not read {:?}", value.object);
                if writer.ready() > 10_000 {
                    file.extend(writer.take());
                }
            }
        }
        _ => {}
    });
    assert_eq!(lost, deadlines, "{server}: the lost deadlines of fields");
    file.extend(writer.finish());
    (file, expected, refused)
}

fn corpus() -> Option<PathBuf> {
    let found = env::var_os("UNDERSTUDY_CORPUS").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: rdb_write (no UNDERSTUDY_CORPUS)");
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rdb") {
            // What is damaged on purpose is the reader's own test.
            let damaged = path.file_name().unwrap().to_str().unwrap().starts_with("corrupt_");
            found.extend((!damaged).then_some(path));
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_written_for_any_version_is_what_was_read() {
    let Some(corpus) = corpus() else { return };
    let mut keys = 0;
    for path in files(&corpus) {
        let bytes = fs::read(&path).unwrap();
        for server in SERVERS {
            let (file, expected, refused) = rewrite(&bytes, server);
            for feature in refused {
                let old = match feature {
                    Feature::Streams => server.rdb_format().version < 9,
                    Feature::Modules => server.rdb_format().version < 8,
                    _ => false,
                };
                assert!(old, "{server} holds {feature}");
            }
            assert_eq!(read(&file), expected, "{} for {server}", path.display());
            keys += expected.len();
        }
    }
    assert!(keys > 10_000, "only {keys} keys were written");
}

#[test]
fn a_payload_fits_as_it_is_or_says_the_same_in_another_form() {
    let Some(corpus) = corpus() else { return };
    let (mut verbatim, mut transcoded) = (0, 0);
    for path in files(&corpus) {
        let bytes = fs::read(&path).unwrap();
        for_each(&bytes, Depth::Verbatim { limit: usize::MAX }, |event| {
            let Event::Payload(payload) = event else { return };
            for server in SERVERS {
                let name = format!("{} for {server}", path.display());
                let fit = match fit(*payload, server) {
                    Ok(fit) => fit,
                    Err(TranscodeError::Unsupported(refused)) => {
                        let newer = matches!(refused.what, Feature::Streams | Feature::Modules);
                        assert!(newer && !server.reads(payload.object), "{name}: {refused}");
                        continue;
                    }
                    Err(error) => panic!("{name}: {error}"),
                };
                let mut dump = b"before".to_vec();
                fit.put_dump(&mut dump);
                let dump = dump.strip_prefix(b"before").unwrap();
                assert_eq!(dump.len(), fit.dump_len());
                let (value, footer) = Footer::verify(dump).unwrap();
                let (&object, body) = value.split_first().unwrap();
                let family = server.rdb_format().family;
                let object = ObjectType::decode(object, family).unwrap();
                assert_eq!(server.restore_version(object), Some(footer.version), "{name}");
                match fit {
                    Fit::Verbatim { .. } => {
                        assert_eq!((object, body), (payload.object, payload.body));
                        verbatim += 1;
                        // The plain form that is not needed says the same, too.
                        let plain = transcode(*payload, server).unwrap();
                        assert_eq!(plain.lost, Lost::default(), "{name}");
                        let mut body = Vec::new();
                        plain.put(&mut body);
                        let object = plain.object;
                        same(*payload, Payload { object, body: &body }, server, &name);
                    }
                    Fit::Transcoded { .. } => {
                        transcoded += 1;
                        same(*payload, Payload { object, body }, server, &name);
                    }
                }
            }
        });
    }
    assert!(verbatim > 10_000 && transcoded > 3_000, "{verbatim} {transcoded}");
}

/// Fails unless two payloads hold the same, but for what the server cannot hold.
fn same(before: Payload<'_>, after: Payload<'_>, server: Server, name: &str) {
    let said = |payload: Payload<'_>| {
        let (mut parser, mut rest, mut said) =
            (Parser::for_value(payload.object), payload.body, Vec::new());
        loop {
            let (step, used) = parser.step(rest).unwrap();
            match step {
                Step::Event(Event::Element(element)) => say(&mut said, &kept(&element, server)),
                Step::Event(Event::ValueEnd) => {
                    assert_eq!(rest.len(), used, "{name}: bytes are left over");
                    return said;
                }
                other => panic!("{name}: {other:?}"),
            }
            rest = rest.split_at(used).1;
        }
    };
    assert_eq!(before.object.value_type(), after.object.value_type(), "{name}");
    if before.object.value_type() == ValueType::String {
        let text = said(after).concat();
        assert_eq!(said(before).concat(), text, "{name}");
    } else {
        assert_eq!(said(before), said(after), "{name}");
    }
}
