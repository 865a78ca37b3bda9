//! Where two values part, in words for a person.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use crate::key::Escaped;
use crate::rdb::dump::Footer;
use crate::rdb::event::{Element, Event, StreamId};
use crate::rdb::opcode::{ObjectType, ValueType};
use crate::rdb::parser::{Parser, Step};

/// What a value consists of, as far as it is told where it parts from another.
enum Parts {
    Text(Vec<u8>),
    Items(Vec<Vec<u8>>),
    /// By what they are called: members, fields, entries, groups.
    Named(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// So much of a text is shown.
const SHOWN: usize = 40;

/// Where two payloads of `DUMP` part, the source's and the target's, of which no element may be larger than `limit` bytes. `None` if they cannot be
/// read, are of different types, or part in nothing that has a name.
#[must_use]
pub fn parting(source: &[u8], target: &[u8], limit: usize) -> Option<String> {
    let (kind, source) = read(source, limit)?;
    let (other, target) = read(target, limit)?;
    if kind != other {
        return None;
    }
    match (source, target) {
        (Parts::Text(source), Parts::Text(target)) => texts(&source, &target),
        (Parts::Items(source), Parts::Items(target)) => items(&source, &target),
        (Parts::Named(source), Parts::Named(target)) => named(kind, &source, &target),
        _ => None,
    }
}

fn texts(source: &[u8], target: &[u8]) -> Option<String> {
    let at = source.iter().zip(target).position(|(one, other)| one != other);
    let at = at.unwrap_or_else(|| source.len().min(target.len()));
    let from = |text: &[u8]| Shown(text.get(at..).unwrap_or_default()).to_string();
    let differ = source != target;
    differ.then(|| {
        format!(
            "from byte {at} on: {} on the source ({} bytes), {} in the target ({} bytes)",
            from(source),
            source.len(),
            from(target),
            target.len()
        )
    })
}

fn items(source: &[Vec<u8>], target: &[Vec<u8>]) -> Option<String> {
    let at = source.iter().zip(target).position(|(one, other)| one != other);
    let at = at.unwrap_or_else(|| source.len().min(target.len()));
    let shown = |items: &[Vec<u8>]| {
        items.get(at).map_or_else(|| "none".to_owned(), |item| Shown(item).to_string())
    };
    let differ = source != target;
    differ.then(|| {
        format!(
            "element {at}: {} on the source ({} elements), {} in the target ({} elements)",
            shown(source),
            source.len(),
            shown(target),
            target.len()
        )
    })
}

fn named(
    kind: ValueType,
    source: &BTreeMap<Vec<u8>, Vec<u8>>,
    target: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Option<String> {
    let what = match kind {
        ValueType::Hash => "field",
        ValueType::Stream => "part",
        _ => "member",
    };
    let mut differ = source
        .keys()
        .chain(target.keys().filter(|name| !source.contains_key(*name)))
        .filter(|name| source.get(*name) != target.get(*name));
    let first = differ.next()?;
    let more = match differ.count() {
        0 => String::new(),
        more => format!("; {more} more differ"),
    };
    let side = |parts: &BTreeMap<Vec<u8>, Vec<u8>>| match parts.get(first) {
        None => "is missing".to_owned(),
        Some(value) if value.is_empty() => "is there".to_owned(),
        Some(value) => format!("is {}", Shown(value)),
    };
    let name = match kind {
        // They have names of ours.
        ValueType::Stream => String::from_utf8_lossy(first).into_owned(),
        _ => format!("{what} {}", Shown(first)),
    };
    Some(format!("{name} {} on the source and {} in the target{more}", side(source), side(target)))
}

/// The beginning of a text.
struct Shown<'a>(&'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN).unwrap_or(self.0);
        Escaped(shown).fmt(f)?;
        if shown.len() < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

/// What a payload consists of.
fn read(payload: &[u8], limit: usize) -> Option<(ValueType, Parts)> {
    let (value, footer) = Footer::decode(payload).ok()?;
    let (&byte, body) = value.split_first()?;
    let object = ObjectType::decode(byte, footer.family())?;
    let kind = object.value_type();
    let mut reading = Reading {
        parts: match kind {
            ValueType::String => Parts::Text(Vec::new()),
            ValueType::List => Parts::Items(Vec::new()),
            _ => Parts::Named(BTreeMap::new()),
        },
        group: String::new(),
        consumer: String::new(),
    };
    let mut parser = Parser::for_value(object);
    parser.set_element_limit(limit);
    let mut at = 0;
    loop {
        let (step, used) = parser.step(body.get(at..)?).ok()?;
        at += used;
        match step {
            Step::Event(Event::Element(element)) => reading.add(&element),
            Step::Event(Event::ValueEnd) | Step::End(_) => return Some((kind, reading.parts)),
            Step::Event(_) => {}
            Step::NeedMore => return None,
        }
    }
}

struct Reading {
    parts: Parts,
    /// The group of a stream of which is told, and the consumer.
    group: String,
    consumer: String,
}

impl Reading {
    fn add(&mut self, element: &Element<'_>) {
        match (&mut self.parts, *element) {
            (Parts::Text(text), Element::Text { bytes, .. }) => text.extend_from_slice(bytes),
            (Parts::Items(items), Element::Item(item)) => items.push(item.to_vec()),
            (Parts::Named(parts), Element::Member(member)) => {
                parts.insert(member.to_vec(), Vec::new());
            }
            (Parts::Named(parts), Element::Scored { member, score }) => {
                parts.insert(member.to_vec(), format!("{:?}", score + 0.0).into_bytes());
            }
            (Parts::Named(parts), Element::Field { field, value, expire_at_ms }) => {
                let mut value = value.to_vec();
                if let Some(at) = expire_at_ms {
                    value.extend_from_slice(format!(" until {at}").as_bytes());
                }
                parts.insert(field.to_vec(), value);
            }
            (Parts::Named(_), _) => self.add_of_stream(element),
            (Parts::Text(_) | Parts::Items(_), _) => {}
        }
    }

    fn add_of_stream(&mut self, element: &Element<'_>) {
        let (name, value) = match *element {
            Element::Entry { id, fields } => {
                let texts: Vec<String> =
                    fields.texts().map(|text| Shown(text).to_string()).collect();
                (format!("entry {id}"), texts.join(" "))
            }
            Element::Stream(meta) => ("the last ID".to_owned(), meta.last_id.to_string()),
            Element::Group { name, last_id, entries_read } => {
                self.group = format!("group {}", Escaped(name));
                let read = entries_read.map_or_else(String::new, |read| format!(", {read} read"));
                (self.group.clone(), format!("at {last_id}{read}"))
            }
            Element::Pending { id, delivered_at_ms, deliveries } => (
                self.of_group("pending", id),
                format!("delivered {deliveries} times, last at {delivered_at_ms}"),
            ),
            Element::Consumer { name, .. } => {
                self.consumer = Escaped(name).to_string();
                (format!("{}, consumer {}", self.group, self.consumer), String::new())
            }
            Element::Owned(id) => (self.of_group("owner of", id), self.consumer.clone()),
            _ => return,
        };
        if let Parts::Named(parts) = &mut self.parts {
            parts.insert(name.into_bytes(), value.into_bytes());
        }
    }

    fn of_group(&self, what: &str, id: StreamId) -> String {
        format!("{}, {what} {id}", self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTER: &[u8] = b"\x06\x00\0\0\0\0\0\0\0\0";

    fn parts(source: &[u8], target: &[u8]) -> Option<String> {
        let [source, target] = [source, target].map(|value| [value, FOOTER].concat());
        parting(&source, &target, 1 << 20)
    }

    #[test]
    fn it_is_told_where_values_part() {
        assert_eq!(
            parts(b"\x00\x03abc", b"\x00\x04abxy").unwrap(),
            "from byte 2 on: \"c\" on the source (3 bytes), \"xy\" in the target (4 bytes)"
        );
        assert_eq!(
            parts(b"\x01\x02\x01a\x01b", b"\x01\x01\x01a").unwrap(),
            "element 1: \"b\" on the source (2 elements), none in the target (1 elements)"
        );
        assert_eq!(
            parts(b"\x02\x02\x01a\x01b", b"\x02\x02\x01b\x01c").unwrap(),
            "member \"a\" is there on the source and is missing in the target; 1 more differ"
        );
        assert_eq!(
            parts(b"\x04\x01\x01f\x01v", b"\x04\x01\x01f\x01w").unwrap(),
            "field \"f\" is \"v\" on the source and is \"w\" in the target"
        );
    }

    #[test]
    fn what_is_equal_or_cannot_be_read_parts_nowhere() {
        assert_eq!(parts(b"\x00\x01a", b"\x00\x01a"), None);
        assert_eq!(parts(b"\x00\x01a", b"\x01\x01\x01a"), None);
        assert_eq!(parts(b"\x00\x05a", b"\x00\x01a"), None);
        assert_eq!(parts(b"\xee\x05a", b"\x00\x01a"), None);
    }
}
