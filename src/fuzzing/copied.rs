//! Files that are made of files.

use crate::change::Ending;
use crate::change::FileCopy;
use crate::change::Later;
use crate::rdb::event::Event;
use crate::rdb::event::KeyHead;
use crate::rdb::opcode::ValueType;
use crate::rdb::parser::Depth;
use crate::rdb::parser::Parser;
use crate::rdb::parser::Step;
use crate::rdb::writer::Writer;
use crate::server::Flavour;
use crate::server::Server;
use crate::server::Version;

use super::ELEMENT_LIMIT;
use super::Line;
use super::say;

/// Readers that differ in what they read.
const READERS: [Server; 6] = [
    redis(2, 6),
    redis(5, 0),
    redis(7, 0),
    redis(8, 0),
    Server { flavour: Flavour::Redict, version: Version(7, 3, 6) },
    Server { flavour: Flavour::Valkey, version: Version(9, 1, 0) },
];

const fn redis(major: u16, minor: u16) -> Server {
    Server { flavour: Flavour::Redis, version: Version(major, minor, 0) }
}

/// A key with all that its value says.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    head: String,
    kind: ValueType,
    /// As one server's file has it, another need not know all of it.
    lines: Vec<Line>,
}

/// The keys of a file up to its end, or to where it is damaged.
fn keys(file: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut open: Option<Key> = None;
    walk(file, |event| {
        match event {
            Event::Key(head) => {
                open = Some(Key {
                    head: told(head, true),
                    kind: head.object.value_type(),
                    lines: Vec::new(),
                });
            }
            Event::ValueEnd => keys.extend(open.take()),
            Event::Element(_) => {
                if let Some(key) = &mut open {
                    say(&mut key.lines, event);
                }
            }
            _ => {}
        }
        Depth::Elements
    });
    keys
}

/// What every version keeps of a head, and times of use where they are kept.
fn told(head: &KeyHead<'_>, use_too: bool) -> String {
    let KeyHead { db, key, expire_at_ms, idle_seconds, freq, .. } = *head;
    let deadline = expire_at_ms.map(|at| at.max(0));
    let used = use_too.then_some((idle_seconds, freq));
    format!("{db} {key:?} {deadline:?} {used:?}")
}

/// Shows all events. After a key, the answer says how its value is wanted.
fn walk(file: &[u8], mut see: impl FnMut(&Event<'_>) -> Depth) {
    let mut parser = Parser::new();
    parser.set_element_limit(ELEMENT_LIMIT);
    let mut rest = file;
    while let Ok((Step::Event(event), used)) = parser.step(rest) {
        let is_key = matches!(event, Event::Key(_));
        let depth = see(&event);
        if is_key {
            parser.choose(depth);
        }
        rest = rest.get(used..).unwrap_or_default();
    }
}

/// A file that is copied for any server has the same keys in the same order with the same elements, as far as that server has
/// a form for them; what is larger than `aside` bytes is laid aside meanwhile, and that changes nothing.
///
/// # Panics
/// If it has not.
pub fn a_copied_file_is_the_same(file: &[u8], reader: u8, aside: u8) {
    let Some(&reader) = READERS.get(usize::from(reader) % READERS.len()) else { return };
    let expected = keys(file);
    let keeps_use = reader.rdb_format().version >= 9;
    let mut kept = Vec::new();
    let Ok(mut writer) = Writer::new(reader) else { return };
    let mut copy = FileCopy::new(reader);
    let (mut spool, mut at, mut wants) = (Vec::new(), 0, true);
    walk(file, |event| {
        match event {
            Event::Key(head) => {
                // Behind the first damage nothing is compared, and so nothing copied.
                wants = at < expected.len();
                let key = expected.get(at).cloned();
                at += 1;
                if !wants {
                    return copy.leave_out();
                }
                let anew = !reader.reads(head.object);
                match copy.key(head, Later::default(), &mut writer) {
                    Ok(depth) => {
                        kept.extend(key.map(|mut key| {
                            key.head = told(head, keeps_use);
                            (key, anew)
                        }));
                        return depth;
                    }
                    Err(_) => return copy.leave_out(),
                }
            }
            Event::Piece { bytes, .. } if wants => writer.body(bytes),
            Event::Element(element) if wants => {
                if copy.element(element).is_err() {
                    kept.pop();
                    copy.leave_out();
                } else if copy.waiting() > usize::from(aside) {
                    spool.extend(copy.take());
                }
            }
            Event::ValueEnd if wants => match copy.end(&mut writer) {
                Ok(Ending::Written) => {}
                Ok(Ending::Left) => {
                    // Left out before, or a collection of nothing.
                    if kept.last().is_some_and(|(key, _)| key.lines.is_empty()) {
                        kept.pop();
                    }
                }
                Ok(Ending::Aside(rest)) => {
                    writer.body(&spool);
                    writer.body(&rest);
                }
                Err(_) => drop(kept.pop()),
            },
            _ => {}
        }
        if matches!(event, Event::ValueEnd) {
            spool.clear();
        }
        Depth::Skip
    });
    let copied = keys(&writer.finish());
    assert_eq!(copied.len(), kept.len(), "keys for {reader}");
    for (mut copied, (mut kept, anew)) in copied.into_iter().zip(kept) {
        if !keeps_use {
            copied.head = copied.head.replace("Some((None, None))", "None");
        }
        if anew && kept.kind == ValueType::Stream {
            // Older servers know less of a stream than its entries.
            for key in [&mut copied, &mut kept] {
                key.lines.retain(|(label, _)| label.starts_with("Element(Entry"));
            }
        }
        assert_eq!(copied, kept, "for {reader}");
    }
}
