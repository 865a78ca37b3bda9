//! Files that real servers wrote, fed in every way and at every depth, whole and damaged.
//!
//! The committed ones are always read. With the environment variable `UNDERSTUDY_CORPUS` so are those of the corpus it
//! names: more of every server, the data sets inside recorded replication streams, and other projects' files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skipped"
)]

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use understudy::rdb::error::RdbError;
use understudy::rdb::error::RdbErrorKind;
use understudy::rdb::event::Element;
use understudy::rdb::event::Event;
use understudy::rdb::event::Packed;
use understudy::rdb::length::put_length;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::parser::Checksum;
use understudy::rdb::parser::Depth;
use understudy::rdb::parser::Parser;
use understudy::rdb::parser::Step;
use understudy::rdb::reader::Next;
use understudy::rdb::reader::Reader;
use understudy::rdb::string::put_string;

const DEPTHS: [Depth; 7] = [
    Depth::Skip,
    Depth::Pieces,
    Depth::Verbatim { limit: usize::MAX },
    Depth::Verbatim { limit: 100 },
    Depth::Verbatim { limit: 0 },
    Depth::Packed,
    Depth::Elements,
];

const WHOLE: Depth = Depth::Verbatim { limit: usize::MAX };

/// A file, and what it is called.
struct File {
    name: String,
    bytes: Vec<u8>,
}

fn committed() -> Vec<File> {
    let found = rdb_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb"));
    assert!(found.len() > 30, "only {} files in fixtures/rdb", found.len());
    found
}

/// The files of the corpus, if there is one.
fn corpus(test: &str, folder: &str) -> Vec<File> {
    let Some(corpus) = env::var_os("UNDERSTUDY_CORPUS").map(PathBuf::from) else {
        println!("skipped: {test} on {folder} (no UNDERSTUDY_CORPUS)");
        return Vec::new();
    };
    let found = rdb_files(&corpus.join(folder));
    assert!(found.len() > 30, "only {} files in {folder} of the corpus", found.len());
    found
}

/// All files below a folder that are RDB files, or hold one.
fn rdb_files(folder: &Path) -> Vec<File> {
    let mut found = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(rdb_files(&path));
        } else if name.ends_with(".rdb") {
            found.push(File { name, bytes: fs::read(&path).unwrap() });
        } else if name.ends_with(".rdb.gz") {
            let mut bytes = Vec::new();
            GzDecoder::new(fs::File::open(&path).unwrap()).read_to_end(&mut bytes).unwrap();
            found.push(File { name, bytes });
        } else if name.ends_with(".bin") {
            found.extend(inside_stream(&path).map(|bytes| File { name, bytes }));
        }
    }
    found
}

/// The data set inside a recorded stream, if it has one.
fn inside_stream(path: &Path) -> Option<Vec<u8>> {
    let sidecar = fs::read(path.with_extension("json")).ok()?;
    let sidecar: serde_json::Value = serde_json::from_slice(&sidecar).unwrap();
    let place = |name: &str| usize::try_from(sidecar[name].as_u64()?).ok();
    let (start, end) = (place("rdb_start")?, place("rdb_end")?);
    Some(fs::read(path).unwrap()[start..end].to_vec())
}

/// How a file is cut into reads.
#[derive(Clone, Copy, Debug)]
enum Cuts {
    Whole,
    EveryByte,
    /// From this seed.
    Random(u64),
}

/// Any sequence will do, as long as its seed can be printed: xorshift.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn below(state: &mut u64, end: usize) -> usize {
    usize::try_from(random(state) % end as u64).unwrap()
}

impl Cuts {
    fn next(&mut self, left: usize) -> usize {
        match self {
            Self::Whole => left,
            Self::EveryByte => 1,
            Self::Random(state) => {
                let most = [3, 40, 700, 20_000][below(state, 4)];
                left.min(1 + below(state, most))
            }
        }
    }
}

/// One thing that a file says.
#[derive(PartialEq)]
struct Line(Vec<u8>);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Everything a file says, and how it ended.
#[derive(Debug, PartialEq)]
struct Said {
    events: Vec<Line>,
    end: Result<Checksum, RdbError>,
}

fn read(bytes: &[u8], mut cuts: Cuts, depth: Depth) -> Said {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    let (mut left, mut events) = (bytes, Vec::new());
    let end = loop {
        match reader.next() {
            Ok(Next::Event(event)) => say(&mut events, &event),
            Ok(Next::NeedMore) if left.is_empty() => break Err(reader.truncated()),
            Ok(Next::NeedMore) => {
                let (next, rest) = left.split_at(cuts.next(left.len()));
                reader.extend(next);
                left = rest;
            }
            Ok(Next::End(checksum)) => break Ok(checksum),
            Err(error) => break Err(error),
        }
    };
    Said { events, end }
}

/// Adds what an event says. The pieces of a string are one thing, however they were cut.
fn say(events: &mut Vec<Line>, event: &Event<'_>) {
    // What there is most of is not left to the derived forms, which are slow.
    let (label, texts): (String, [&[u8]; 2]) = match *event {
        Event::Element(Element::Text { offset, len, bytes }) => {
            if offset > 0 {
                return events.last_mut().unwrap().0.extend_from_slice(bytes);
            }
            (format!("text of {len}"), [bytes, b""])
        }
        Event::Element(Element::Module { module, bytes }) => {
            let label = format!("module {module}");
            if let Some(last) =
                events.last_mut().filter(|last| last.0.starts_with(label.as_bytes()))
            {
                return last.0.extend_from_slice(bytes);
            }
            (label, [bytes, b""])
        }
        Event::Piece { bytes, last } => {
            let label = "piece ";
            if let Some(open) =
                events.last_mut().filter(|last| last.0.starts_with(label.as_bytes()))
            {
                open.0.extend_from_slice(bytes);
                // A closed one takes nothing more.
                if last {
                    open.0.splice(..label.len(), *b"whole ");
                }
                return;
            }
            (if last { "whole" } else { "piece" }.to_owned(), [bytes, b""])
        }
        Event::Element(Element::Item(item)) => ("item".to_owned(), [item, b""]),
        Event::Element(Element::Member(member)) => ("member".to_owned(), [member, b""]),
        Event::Element(Element::Field { field, value, expire_at_ms }) => {
            (format!("field {expire_at_ms:?} {}", field.len()), [field, value])
        }
        Event::Element(Element::Scored { member, score }) => {
            (format!("scored {:x}", score.to_bits()), [member, b""])
        }
        Event::Payload(payload) => (format!("payload {:?}", payload.object), [payload.body, b""]),
        ref event => (format!("{event:?}"), [b"", b""]),
    };
    events.push(Line([label.as_bytes(), b" ", texts[0], texts[1]].concat()));
}

#[test]
fn a_file_says_the_same_at_any_cut_in_every_depth() {
    let mut files = committed();
    let name = "a_file_says_the_same_at_any_cut_in_every_depth";
    for folder in ["rdb", "streams", "third-party"] {
        files.extend(corpus(name, folder));
    }
    let mut seed = 0x1234_5678_9abc_def0;
    for File { name, bytes } in files {
        // The large ones, and the many recordings of the same data set, hold nothing that the others do not.
        let again = bytes.len() > 300_000 || name.contains("streams");
        let depths = if again { &[Depth::Elements][..] } else { &DEPTHS };
        for &depth in depths {
            let whole = read(&bytes, Cuts::Whole, depth);
            // Other projects keep damaged files as well.
            if !name.contains("third-party") {
                assert!(whole.end.is_ok(), "{name} {depth:?}: {:?}", whole.end);
            }
            seed += 1;
            let cut = read(&bytes, Cuts::Random(seed), depth);
            assert_eq!(cut, whole, "{name} {depth:?} seed {seed}");
            if bytes.len() < 20_000 && !again {
                assert_eq!(read(&bytes, Cuts::EveryByte, depth), whole, "{name} {depth:?}");
            }
        }
    }
}

/// What no server of the committed files writes; the parser's own tests have it.
const MADE_BY_HAND: [&str; 7] = [
    "HashMetadataPreRelease",
    "HashListpackExPreRelease",
    "StreamListpacks4",
    "StreamListpacks5",
    "ModuleAux",
    "SlotImport",
    "KeyMeta",
];

#[test]
fn the_committed_files_reach_every_type_and_every_opcode() {
    let mut reached = BTreeSet::new();
    for File { bytes, .. } in committed() {
        let mut reader = Reader::new();
        reader.set_default_depth(Depth::Skip);
        reader.extend(&bytes);
        while let Next::Event(event) = reader.next().unwrap() {
            if let Event::Key(head) = event {
                reached.insert(format!("{:?}", head.object));
                for (label, is) in [
                    ("deadline", head.expire_at_ms.is_some()),
                    ("idle", head.idle_seconds.is_some()),
                    ("freq", head.freq.is_some()),
                ] {
                    if is {
                        reached.insert(label.to_owned());
                    }
                }
            } else {
                let shown = format!("{event:?}");
                reached.insert(shown.split(['(', ' ']).next().unwrap().to_owned());
            }
        }
    }
    let types = ObjectType::ALL.iter().map(|object| format!("{object:?}"));
    let frame = [
        "Header",
        "Aux",
        "SelectDb",
        "ResizeDb",
        "SlotInfo",
        "SlotImport",
        "KeyMeta",
        "Function",
        "ModuleAux",
        "ValueEnd",
        "deadline",
        "idle",
        "freq",
    ];
    let mut expected: BTreeSet<_> = types.chain(frame.map(ToOwned::to_owned)).collect();
    for by_hand in MADE_BY_HAND {
        assert!(expected.remove(by_hand), "{by_hand} is not known");
    }
    assert_eq!(reached, expected);
}

/// What a value's body says, element by element.
fn value(object: ObjectType, body: &[u8]) -> Vec<Line> {
    let (mut parser, mut at, mut events) = (Parser::for_value(object), 0, Vec::new());
    loop {
        let (step, used) = parser.step(&body[at..]).unwrap();
        at += used;
        match step {
            Step::Event(Event::ValueEnd) => break,
            Step::Event(event) => say(&mut events, &event),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, body.len(), "a value ends where its bytes do");
    events
}

/// The elements of each value, by whatever way they come.
fn elements(bytes: &[u8], depth: Depth) -> Vec<Vec<Line>> {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    reader.extend(bytes);
    let mut values: Vec<Vec<Line>> = Vec::new();
    loop {
        match reader.next().unwrap() {
            Next::Event(Event::Key(_)) => values.push(Vec::new()),
            Next::Event(event) => {
                let Some(elements) = values.last_mut() else { continue };
                match event {
                    Event::Payload(payload) => elements.extend(value(payload.object, payload.body)),
                    Event::Packed(packed) => elements.extend(unpacked(packed)),
                    Event::Element(_) => say(elements, &event),
                    _ => {}
                }
            }
            Next::NeedMore => panic!("all was given"),
            Next::End(_) => return values,
        }
    }
}

/// A blob as the whole value of a key that holds nothing else.
fn unpacked(packed: Packed<'_>) -> Vec<Line> {
    let mut body = Vec::new();
    match packed {
        Packed::Whole { object, blob } => {
            if object == ObjectType::HashListpackEx {
                body.extend_from_slice(&[0; 8]);
            }
            put_string(&mut body, blob);
            value(object, &body)
        }
        Packed::Ziplist(blob) => {
            put_length(&mut body, 1);
            put_string(&mut body, blob);
            value(ObjectType::ListQuicklist, &body)
        }
        Packed::Listpack(blob) => {
            put_length(&mut body, 1);
            put_length(&mut body, 2);
            put_string(&mut body, blob);
            value(ObjectType::ListQuicklist2, &body)
        }
        Packed::StreamNode { master, listpack } => {
            put_length(&mut body, 1);
            put_string(&mut body, &master.encode());
            put_string(&mut body, listpack);
            // length, last ID, no groups
            body.extend_from_slice(&[0; 4]);
            let mut events = value(ObjectType::StreamListpacks, &body);
            let last = events.pop().unwrap();
            assert!(last.0.starts_with(b"Element(Stream(StreamMeta"), "{last:?}");
            events
        }
    }
}

#[test]
fn a_value_has_the_same_elements_by_every_way() {
    let mut files = committed();
    files.extend(corpus("a_value_has_the_same_elements_by_every_way", "rdb"));
    for File { name, bytes } in files {
        let expected = elements(&bytes, Depth::Elements);
        let few = Depth::Verbatim { limit: 300 };
        let depths =
            if bytes.len() > 300_000 { &[WHOLE][..] } else { &[WHOLE, few, Depth::Packed] };
        for &depth in depths {
            assert_eq!(elements(&bytes, depth), expected, "{name} {depth:?}");
        }
    }
}

#[test]
fn a_file_cut_short_ends_with_where_it_was_cut() {
    for File { name, bytes } in committed() {
        let mut seed = bytes.len() as u64;
        for _ in 0..40 {
            let len = below(&mut seed, bytes.len());
            for depth in [WHOLE, Depth::Skip, Depth::Elements] {
                let error = read(&bytes[..len], Cuts::Whole, depth).end.unwrap_err();
                assert_eq!(error.kind, RdbErrorKind::Truncated, "{name} cut at {len}");
                assert!(error.at <= len as u64, "{name} cut at {len}: {error}");
            }
        }
    }
}

#[test]
fn a_changed_byte_is_an_error_and_the_same_at_any_cut() {
    let mut kinds = BTreeSet::new();
    for File { name, bytes } in committed() {
        let summed = matches!(read(&bytes, Cuts::Whole, Depth::Skip).end, Ok(Checksum::Stated(_)));
        let mut seed = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
        for _ in 0..30 {
            let mut changed = bytes.clone();
            let at = below(&mut seed, bytes.len());
            changed[at] ^= 1 << below(&mut seed, 8);
            for depth in [WHOLE, Depth::Verbatim { limit: 200 }, Depth::Elements] {
                let whole = read(&changed, Cuts::Whole, depth);
                match &whole.end {
                    // The change can have taken the file its sum: version 4 or less, or a sum of zero.
                    Ok(checksum) => {
                        assert!(!summed || *checksum == Checksum::None, "{name} byte {at}");
                    }
                    Err(error) => {
                        assert!(error.at <= bytes.len() as u64, "{name} byte {at}: {error}");
                        assert!(!error.advice().is_empty());
                        kinds.insert(
                            format!("{:?}", error.kind)
                                .split(['(', ' '])
                                .next()
                                .unwrap()
                                .to_owned(),
                        );
                    }
                }
                let cut = read(&changed, Cuts::Random(seed), depth);
                assert_eq!(cut, whole, "{name} byte {at} {depth:?} seed {seed}");
            }
        }
    }
    assert!(kinds.len() >= 6, "too few kinds of damage were met: {kinds:?}");
}
