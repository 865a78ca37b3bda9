//! Files that real servers wrote, fed in every way and at every depth.
//!
//! The corpus is found through the environment variable `UNDERSTUDY_CORPUS`; without it these tests say that they were
//! skipped.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says that it was skipped"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use understudy::rdb::error::RdbError;
use understudy::rdb::event::Element;
use understudy::rdb::event::Event;
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::Next;
use understudy::rdb::reader::Reader;

/// Everything a file says, as text, and how it ended.
#[derive(Debug, PartialEq)]
struct Said {
    events: Vec<String>,
    end: Result<String, RdbError>,
}

/// How a file is cut into reads.
#[derive(Clone, Copy, Debug)]
enum Cuts {
    Whole,
    EveryByte,
    Random(u64),
}

impl Cuts {
    fn next(&mut self, left: usize) -> usize {
        match self {
            Self::Whole => left,
            Self::EveryByte => 1,
            Self::Random(state) => {
                // xorshift: any sequence will do, as long as its seed can be printed
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let most = [3, 40, 700, 20_000][usize::try_from(*state >> 62).unwrap()];
                1 + usize::try_from(*state % most).unwrap()
            }
        }
    }
}

fn read(bytes: &[u8], mut cuts: Cuts, depth: Depth) -> Said {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    let (mut given, mut events) = (0, Vec::new());
    let end = loop {
        match reader.next() {
            Ok(Next::Event(event)) => say(&mut events, &event),
            Ok(Next::NeedMore) => {
                let left = &bytes[given..];
                if left.is_empty() {
                    break Err(reader.truncated());
                }
                let count = cuts.next(left.len()).min(left.len());
                reader.extend(&left[..count]);
                given += count;
            }
            Ok(Next::End(checksum)) => break Ok(format!("{checksum:?}")),
            Err(error) => break Err(error),
        }
    };
    Said { events, end }
}

/// Adds what an event says. The pieces of a string are one thing, however they were cut.
fn say(events: &mut Vec<String>, event: &Event<'_>) {
    let (label, offset, bytes) = match event {
        Event::Element(Element::Text { offset, len, bytes }) => {
            (format!("Text of {len}: "), *offset, bytes)
        }
        Event::Element(Element::Module { module, bytes }) => {
            let begun = events.last().is_some_and(|last| last.starts_with("Module"));
            (format!("Module {module}: "), u64::from(begun), bytes)
        }
        Event::Piece { bytes, .. } => {
            let begun = events.last().is_some_and(|last| last.starts_with("Pieces"));
            ("Pieces ".to_owned(), u64::from(begun), bytes)
        }
        event => return events.push(format!("{event:?}")),
    };
    if offset == 0 {
        events.push(label);
    }
    let text = events.last_mut().unwrap();
    bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
}

fn corpus() -> Option<PathBuf> {
    let found = env::var_os("UNDERSTUDY_CORPUS").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: rdb_corpus (no UNDERSTUDY_CORPUS)");
    }
    found
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

const DEPTHS: [Depth; 7] = [
    Depth::Skip,
    Depth::Pieces,
    Depth::Verbatim { limit: usize::MAX },
    Depth::Verbatim { limit: 100 },
    Depth::Verbatim { limit: 0 },
    Depth::Packed,
    Depth::Elements,
];

#[test]
fn every_file_says_the_same_at_any_cut_in_every_depth() {
    let Some(corpus) = corpus() else { return };
    let mut seed = 0x1234_5678_9abc_def0;
    for path in files(&corpus.join("rdb"), ".rdb") {
        let bytes = fs::read(&path).unwrap();
        for depth in DEPTHS {
            let whole = read(&bytes, Cuts::Whole, depth);
            assert!(whole.end.is_ok(), "{}: {:?}", path.display(), whole.end);
            seed += 1;
            assert_eq!(
                read(&bytes, Cuts::Random(seed), depth),
                whole,
                "{} {depth:?} seed {seed}",
                path.display()
            );
            if bytes.len() < 100_000 {
                assert_eq!(read(&bytes, Cuts::EveryByte, depth), whole, "{}", path.display());
            }
        }
    }
}
