//! What must hold for any bytes at all, as functions that panic where it does not.
//!
//! The targets of `fuzz/` call them with what a fuzzer makes up, and ordinary tests with files of real servers, damaged
//! at random. Each states that two ways agree; that nothing panics by itself goes without saying.

mod commands;
mod copied;
mod packed;
mod protocol;

pub use commands::renamed_keys_are_the_keys;
pub use commands::resp_is_the_same_at_any_cut;
pub use copied::a_copied_file_is_the_same;
pub use packed::packed_entries_survive;
pub use protocol::a_played_master_answers_the_same_at_any_cut;
pub use protocol::a_session_tells_the_same_at_any_cut;

use crate::rdb::error::RdbErrorKind;
use crate::rdb::event::Element;
use crate::rdb::event::Event;
use crate::rdb::event::Packed;
use crate::rdb::length::put_length;
use crate::rdb::lzf;
use crate::rdb::lzf::Inflate;
use crate::rdb::opcode::ObjectType;
use crate::rdb::parser::Depth;
use crate::rdb::parser::Parser;
use crate::rdb::parser::Step;
use crate::rdb::string::put_string;

/// The largest element: small enough that made-up claims cost nothing, large enough that real elements pass.
const ELEMENT_LIMIT: usize = 1 << 20;

/// What is said at every depth that a number can stand for.
fn depth(number: u8) -> Depth {
    match number % 6 {
        0 => Depth::Skip,
        5 => Depth::Pieces,
        1 => Depth::Verbatim { limit: usize::MAX },
        2 => Depth::Verbatim { limit: usize::from(number) },
        3 => Depth::Packed,
        _ => Depth::Elements,
    }
}

/// One thing that was said: what it is, and the bytes in it.
type Line = (String, Vec<u8>);

/// All that was said, and why it ended.
type Said = (Vec<Line>, Result<String, (u64, RdbErrorKind)>);

/// Adds an event. The pieces of a string or module are one thing.
fn say(said: &mut Vec<Line>, event: &Event<'_>) {
    let (label, bytes) = match event {
        Event::Element(Element::Text { offset, bytes, .. }) if *offset > 0 => {
            (String::new(), *bytes)
        }
        Event::Element(Element::Text { len, bytes, .. }) => (format!("text of {len}"), *bytes),
        Event::Element(Element::Module { module, bytes }) => {
            let label = format!("module {module}");
            let goes_on = said.last().is_some_and(|(last, _)| *last == label);
            (if goes_on { String::new() } else { label }, *bytes)
        }
        Event::Piece { bytes, .. } => {
            let goes_on = said.last().is_some_and(|(last, _)| last == PIECES);
            (if goes_on { String::new() } else { PIECES.to_owned() }, *bytes)
        }
        event => (format!("{event:?}"), &b""[..]),
    };
    if label.is_empty()
        && let Some((_, text)) = said.last_mut()
    {
        text.extend_from_slice(bytes);
    } else {
        said.push((label, bytes.to_vec()));
    }
}

/// What a value is called that comes as it stands.
const PIECES: &str = "pieces";

/// Feeds pieces of these sizes, over and over, and shows every event with how many bytes were consumed before it.
fn feed(
    mut parser: Parser,
    input: &[u8],
    cuts: &[u16],
    mut see: impl FnMut(u64, &Event<'_>) -> bool,
) -> Result<String, (u64, RdbErrorKind)> {
    parser.set_element_limit(ELEMENT_LIMIT);
    let (mut rest, mut unread) = (input, &b""[..]);
    let mut sizes = cuts.iter().cycle();
    loop {
        let before = parser.position();
        match parser.step(unread) {
            Ok((Step::Event(event), used)) => {
                let go_on = see(before, &event);
                unread = unread.get(used..).unwrap_or_default();
                if !go_on {
                    return Ok("enough was seen".to_owned());
                }
            }
            Ok((Step::NeedMore, used)) => {
                if rest.is_empty() {
                    let error = parser.truncated();
                    return Err((error.at, error.kind));
                }
                let size = sizes.next().map_or(rest.len(), |&size| usize::from(size).max(1));
                let (_, behind) = rest.split_at(size.min(rest.len()));
                let begin = input.len() - rest.len() - (unread.len() - used);
                rest = behind;
                unread = input.get(begin..input.len() - rest.len()).unwrap_or_default();
            }
            Ok((Step::End(checksum), _)) => return Ok(format!("{checksum:?}")),
            Err(error) => return Err((error.at, error.kind)),
        }
    }
}

fn said(parser: Parser, input: &[u8], cuts: &[u16]) -> Said {
    let mut lines = Vec::new();
    let end = feed(parser, input, cuts, |_, event| {
        say(&mut lines, event);
        true
    });
    (lines, end)
}

/// Events, errors and where they are do not depend on how the bytes were cut.
///
/// # Panics
/// If they do.
pub fn same_events_at_any_cut(input: &[u8], cuts: &[u16], depth_number: u8) {
    let parser = || {
        let mut parser = Parser::new();
        parser.set_default_depth(depth(depth_number));
        parser
    };
    assert_eq!(said(parser(), input, cuts), said(parser(), input, &[]));
}

/// A value: what it is made of, or why it has no end.
#[derive(Debug, PartialEq)]
struct Value {
    object: ObjectType,
    elements: Vec<Line>,
    end: Result<(), RdbErrorKind>,
}

/// The elements of each value of a file, whichever way they come.
fn values(input: &[u8], depth: Depth) -> Vec<Value> {
    let mut parser = Parser::new();
    parser.set_default_depth(depth);
    let mut values: Vec<Value> = Vec::new();
    let mut pieces = Vec::new();
    let end = feed(parser, input, &[], |_, event| {
        match (event, values.last_mut()) {
            (Event::Key(head), _) => {
                // Until its end is seen it has none.
                let end = Err(RdbErrorKind::Truncated);
                values.push(Value { object: head.object, elements: Vec::new(), end });
            }
            (Event::Payload(payload), Some(value)) => {
                let (elements, end) = elements(payload.object, payload.body);
                value.elements = elements;
                value.end = end;
            }
            (Event::Piece { bytes, last }, Some(value)) => {
                pieces.extend_from_slice(bytes);
                if *last {
                    let (elements, end) = elements(value.object, &std::mem::take(&mut pieces));
                    value.elements = elements;
                    value.end = end;
                }
            }
            (Event::Packed(packed), Some(value)) => {
                let (elements, end) = unpacked(*packed);
                value.elements.extend(elements);
                if let Err(kind) = end {
                    value.end = Err(kind);
                    return false;
                }
            }
            (Event::Element(_), Some(value)) => say(&mut value.elements, event),
            (Event::ValueEnd, Some(value)) => value.end = Ok(()),
            _ => {}
        }
        values.last().is_none_or(|value| {
            value.end.is_ok() || matches!(value.end, Err(RdbErrorKind::Truncated))
        })
    });
    if let (Err((_, kind)), Some(value)) = (end, values.last_mut())
        && value.end == Err(RdbErrorKind::Truncated)
    {
        value.end = Err(kind);
    }
    values
}

/// What a value's body is made of.
fn elements(object: ObjectType, body: &[u8]) -> (Vec<Line>, Result<(), RdbErrorKind>) {
    let mut lines = Vec::new();
    let mut end = Ok(());
    let mut used = None;
    let fed = feed(Parser::for_value(object), body, &[], |before, event| {
        if matches!(event, Event::ValueEnd) {
            used = Some(before);
            return false;
        }
        say(&mut lines, event);
        true
    });
    if let Err((_, kind)) = fed {
        end = Err(kind);
    }
    assert!(used.is_none_or(|used| used <= body.len() as u64));
    (lines, end)
}

/// What a packed blob is made of, as the whole value of a key that holds nothing else.
fn unpacked(packed: Packed<'_>) -> (Vec<Line>, Result<(), RdbErrorKind>) {
    let mut body = Vec::new();
    let object = match packed {
        Packed::Whole { object, blob } => {
            if object == ObjectType::HashListpackEx {
                body.extend_from_slice(&[0; 8]);
            }
            put_string(&mut body, blob);
            object
        }
        Packed::Ziplist(blob) => {
            put_length(&mut body, 1);
            put_string(&mut body, blob);
            ObjectType::ListQuicklist
        }
        Packed::Listpack(blob) => {
            put_length(&mut body, 1);
            put_length(&mut body, 2);
            put_string(&mut body, blob);
            ObjectType::ListQuicklist2
        }
        Packed::StreamNode { master, listpack } => {
            put_length(&mut body, 1);
            put_string(&mut body, &master.encode());
            put_string(&mut body, listpack);
            // length, last ID, no groups
            body.extend_from_slice(&[0; 4]);
            ObjectType::StreamListpacks
        }
    };
    let (mut lines, end) = elements(object, &body);
    if object == ObjectType::StreamListpacks && end.is_ok() {
        lines.pop();
    }
    (lines, end)
}

/// A value has the same elements whether it comes element by element, whole and is taken apart then, or packed and is
/// unpacked then; and if it has no end, the elements before the damage are the same.
///
/// # Panics
/// If it has not.
pub fn every_depth_has_the_same_elements(input: &[u8]) {
    let expected = values(input, Depth::Elements);
    let whole = Depth::Verbatim { limit: usize::MAX };
    for depth in [whole, Depth::Verbatim { limit: 64 }, Depth::Pieces, Depth::Packed] {
        let found = values(input, depth);
        for (place, value) in expected.iter().enumerate() {
            let other = found.get(place);
            if value.end.is_ok() {
                assert_eq!(other, Some(value), "value {place} in {depth:?}");
                continue;
            }
            // Which damage is met first depends on the way, but not that there is some.
            assert!(
                other.is_some_and(|other| other.end.is_err()),
                "value {place} in {depth:?} is {other:?}"
            );
            let elements = other.map(|other| other.elements.as_slice()).unwrap_or_default();
            for (one, two) in value.elements.iter().zip(elements) {
                // Of the last string a part may have come.
                assert_eq!(one.0, two.0, "value {place} in {depth:?}");
            }
        }
    }
}

/// Compressed data makes the same string, or none, at once and in pieces.
///
/// # Panics
/// If it does not.
pub fn lzf_is_the_same_in_pieces(data: &[u8], len: u16, size: u8) {
    let mut whole = Vec::new();
    let end = lzf::decompress(data, usize::from(len), &mut whole);
    let mut inflate = Inflate::new(data.len() as u64, u64::from(len));
    let (mut from, mut to, mut pieces) = (0, 0, Vec::new());
    let end_of_pieces = loop {
        if inflate.is_done() {
            break Ok(());
        }
        match inflate.step(data.get(from..to).unwrap_or_default()) {
            Ok((used, made)) => {
                from += used;
                pieces.extend_from_slice(inflate.made().get(made..).unwrap_or_default());
                if used == 0 {
                    assert!(to < data.len(), "all was given and more is wanted");
                    to = data.len().min(to + usize::from(size).max(1));
                }
            }
            Err(kind) => break Err(kind),
        }
    };
    assert_eq!(end_of_pieces.is_ok(), end.is_ok(), "{end_of_pieces:?} and {end:?}");
    if end.is_ok() {
        assert_eq!(pieces, whole);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The named inputs of a fuzz target: what it begins with, and what it once found.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let entries = fs::read_dir(folder).unwrap();
        let seeds: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!seeds.is_empty());
        seeds
    }

    #[test]
    fn the_laws_hold_for_every_seed() {
        for seed in seeds("rdb_any_cut") {
            let [depth, size, file @ ..] = &seed[..] else { panic!("{seed:?}") };
            same_events_at_any_cut(file, &[u16::from(*size)], *depth);
        }
        for seed in seeds("rdb_depths") {
            every_depth_has_the_same_elements(&seed);
        }
        for seed in seeds("lzf_pieces") {
            let [high, low, size, data @ ..] = &seed[..] else { panic!("{seed:?}") };
            lzf_is_the_same_in_pieces(data, u16::from_be_bytes([*high, *low]), *size);
        }
        for seed in seeds("packed") {
            let [kind, stop, blob @ ..] = &seed[..] else { panic!("{seed:?}") };
            packed_entries_survive(*kind, *stop, blob);
        }
        for seed in seeds("resp_any_cut") {
            let [size, stream @ ..] = &seed[..] else { panic!("{seed:?}") };
            resp_is_the_same_at_any_cut(stream, &[u16::from(*size)]);
        }
        for seed in seeds("renamed_keys") {
            assert!(crate::command::keys::keys(&words(&seed)).is_ok(), "{seed:?}");
            renamed_keys_are_the_keys(&seed);
        }
        for seed in seeds("copied_file") {
            let [reader, aside, file @ ..] = &seed[..] else { panic!("{seed:?}") };
            a_copied_file_is_the_same(file, *reader, *aside);
        }
    }

    fn words(line: &[u8]) -> Vec<&[u8]> {
        line.split(|&byte| byte == b'\n').collect()
    }

    #[test]
    fn whole_files_are_copied_for_every_reader() {
        for file in files() {
            for reader in 0..6 {
                a_copied_file_is_the_same(&file, reader, 200);
            }
        }
    }

    /// One of a target's seeds with a few bytes changed, taken out or put in.
    fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let seeds = seeds(target);
        let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3);
        (0..seeds.len(), prop::collection::vec(change, 0..6)).prop_map(move |(seed, changes)| {
            let mut bytes = seeds[seed].clone();
            for (place, byte, change) in changes {
                let place = place.index(bytes.len() + 1);
                match change {
                    0 => bytes.insert(place, byte),
                    _ if place == bytes.len() => {}
                    1 => bytes[place] = byte,
                    _ => drop(bytes.remove(place)),
                }
            }
            bytes
        })
    }

    #[test]
    fn the_laws_of_the_protocol_hold_for_every_seed() {
        for seed in seeds("session_any_cut") {
            let [state, size, said @ ..] = &seed[..] else { panic!("{seed:?}") };
            a_session_tells_the_same_at_any_cut(said, &[u16::from(*size)], *state);
        }
        for seed in seeds("master_any_cut") {
            let [kind, size, said @ ..] = &seed[..] else { panic!("{seed:?}") };
            a_played_master_answers_the_same_at_any_cut(said, &[u16::from(*size)], *kind);
        }
    }

    /// What real masters said after they were asked for their data, up to a few thousand bytes of stream.
    fn captures() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/streams");
        let mut captures = Vec::new();
        for server in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            for path in
                fs::read_dir(server).into_iter().flatten().map(|entry| entry.unwrap().path())
            {
                if path.extension().is_some_and(|ending| ending == "bin") {
                    let mut bytes = fs::read(path).unwrap();
                    bytes.truncate(30_000);
                    captures.push(bytes);
                }
            }
        }
        assert!(captures.len() > 15);
        captures
    }

    /// The same with a few bytes changed.
    fn damaged_captures() -> impl Strategy<Value = Vec<u8>> {
        let captures = captures();
        let change = (any::<prop::sample::Index>(), 0..120_usize, any::<u8>());
        (0..captures.len(), prop::collection::vec(change, 0..3)).prop_map(
            move |(which, changes)| {
                let mut bytes = captures[which].clone();
                for (place, near, byte) in changes {
                    // Half of them where the framing stands.
                    let place = if byte % 2 == 0 { near } else { place.index(bytes.len()) };
                    let place = place.min(bytes.len() - 1);
                    bytes[place] = byte;
                }
                bytes
            },
        )
    }

    /// What a replica may say, in any order, and some of it broken.
    fn replica_talk() -> impl Strategy<Value = Vec<u8>> {
        let lines: [&[u8]; 14] = [
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\n",
            b"REPLCONF capa eof capa psync2\r\n",
            b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n",
            b"REPLCONF ACK 107\r\n",
            b"REPLCONF rdb-only 1\r\n",
            b"AUTH x\r\n",
            b"INFO replication\r\n",
            b"PSYNC ? -1\r\n",
            b"PSYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 108\r\n",
            b"SYNC\r\n",
            b"*2\r\n$5\r\nPSYNC\r\n$-1\r\n",
            b"SET \"unbalanced\r\n",
        ];
        prop::collection::vec((0..lines.len(), 0..40_usize), 0..12).prop_map(move |said| {
            let mut bytes = Vec::new();
            for (line, cut) in said {
                // Now and then one is broken off.
                let line = lines[line];
                let kept = if cut < 3 { line.len().saturating_sub(cut) } else { line.len() };
                bytes.extend_from_slice(&line[..kept]);
            }
            bytes
        })
    }

    fn files() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rdb");
        let mut files = Vec::new();
        for server in fs::read_dir(folder).unwrap() {
            let server = server.unwrap().path();
            if server.is_dir() {
                for file in fs::read_dir(server).unwrap() {
                    let path = file.unwrap().path();
                    if path.extension().is_some_and(|ending| ending == "rdb") {
                        files.push(fs::read(path).unwrap());
                    }
                }
            }
        }
        assert!(files.len() > 30);
        files
    }

    /// A piece of a real file with a few bytes changed.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let files = files();
        (
            0..files.len(),
            any::<prop::sample::Index>(),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        )
            .prop_map(move |(file, end, changes)| {
                let mut bytes = files[file].clone();
                for (place, byte) in changes {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
                bytes.truncate(4000 + end.index(bytes.len()));
                bytes
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_masters_say_is_told_the_same_at_any_cut(
            bytes in damaged_captures(), cuts in prop::collection::vec(1_u16..700, 1..20), state: u8
        ) {
            a_session_tells_the_same_at_any_cut(&bytes, &cuts, state);
            // The states in which these bytes mean most.
            a_session_tells_the_same_at_any_cut(&bytes, &cuts, 3 + state % 3);
        }

        #[test]
        fn what_is_no_protocol_is_told_the_same_at_any_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            head in 0..4_usize,
            cuts in prop::collection::vec(1_u16..20, 1..20),
            state: u8
        ) {
            let heads: [&[u8]; 4] = [b"", b"+PONG\r\n+OK\r\n+OK\r\n-ERR no\r\n", b"$18\r\nREDIS0006\xff\0\0\0\0\0\0\0\0", b"+CONTINUE\r\n"];
            let said = [heads[head], &bytes].concat();
            a_session_tells_the_same_at_any_cut(&said, &cuts, state);
        }

        #[test]
        fn what_replicas_say_is_answered_the_same_at_any_cut(
            said in replica_talk(), cuts in prop::collection::vec(1_u16..40, 1..20), kind: u8
        ) {
            a_played_master_answers_the_same_at_any_cut(&said, &cuts, kind);
        }

        #[test]
        fn damaged_files_say_the_same_at_any_cut(
            bytes in damaged(), cuts in prop::collection::vec(1_u16..3000, 1..20), depth: u8
        ) {
            same_events_at_any_cut(&bytes, &cuts, depth);
        }

        #[test]
        fn damaged_files_have_the_same_elements_by_every_way(bytes in damaged()) {
            every_depth_has_the_same_elements(&bytes);
        }

        #[test]
        fn made_up_files_say_the_same_at_any_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(1_u16..20, 1..20),
            depth: u8
        ) {
            let file = [&b"REDIS0012"[..], &bytes].concat();
            same_events_at_any_cut(&file, &cuts, depth);
            every_depth_has_the_same_elements(&file);
        }

        #[test]
        fn damaged_files_are_copied_up_to_the_damage(bytes in damaged(), reader: u8, aside: u8) {
            a_copied_file_is_the_same(&bytes, reader, aside);
        }

        #[test]
        fn made_up_data_is_inflated_the_same_in_pieces(
            data in prop::collection::vec(any::<u8>(), 0..80), len: u16, size: u8
        ) {
            lzf_is_the_same_in_pieces(&data, len % 600, size);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn mutated_blobs_and_their_entries_survive(
            bytes in mutated("packed"), kind: u8, stop in 0_u8..12
        ) {
            let blob = bytes.get(2..).unwrap_or_default();
            packed_entries_survive(kind, stop, blob);
            packed_entries_survive(bytes.first().copied().unwrap_or(kind), stop, blob);
        }

        #[test]
        fn mutated_streams_are_the_same_at_any_cut(
            bytes in mutated("resp_any_cut"), cuts in prop::collection::vec(1_u16..30, 1..9)
        ) {
            resp_is_the_same_at_any_cut(&bytes, &cuts);
            resp_is_the_same_at_any_cut(bytes.get(1..).unwrap_or_default(), &cuts);
        }

        #[test]
        fn mutated_commands_have_their_keys_where_they_were(line in mutated("renamed_keys")) {
            renamed_keys_are_the_keys(&line);
        }
    }
}
