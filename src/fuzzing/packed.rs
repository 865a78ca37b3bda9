//! Packed encodings: what is walked can be built again, and what was built is walked.

use crate::rdb::packed::intset;
use crate::rdb::packed::intset::Intset;
use crate::rdb::packed::listpack;
use crate::rdb::packed::listpack::Listpack;
use crate::rdb::packed::ziplist;
use crate::rdb::packed::ziplist::Ziplist;
use crate::rdb::packed::zipmap;
use crate::rdb::packed::zipmap::Zipmap;

/// What a walk gave, as strings, and whether it came to the end.
type Walked = (Vec<Vec<u8>>, bool);

/// An encoding: how a blob of it is walked, whole and with a stop after so many entries, and how one is built.
struct Encoding {
    frame: fn(&[u8]) -> Vec<u8>,
    walk: fn(&[u8], usize) -> Option<Walked>,
    build: fn(&[Vec<u8>]) -> Option<Vec<u8>>,
}

const ENCODINGS: [Encoding; 4] = [
    Encoding { frame: listpack_frame, walk: walk_listpack, build: build_listpack },
    Encoding { frame: ziplist_frame, walk: walk_ziplist, build: build_ziplist },
    Encoding { frame: intset_frame, walk: walk_intset, build: build_intset },
    Encoding { frame: zipmap_frame, walk: walk_zipmap, build: build_zipmap },
];

/// Whatever stands in a packed blob, a walk that stops and goes on sees the same; what is built of what a walk saw is seen as
/// the same; and so is what is built of any strings.
///
/// # Panics
/// If one of them is not.
pub fn packed_entries_survive(kind: u8, stop: u8, bytes: &[u8]) {
    let encoding = ENCODINGS.get(usize::from(kind) % ENCODINGS.len());
    let Some(Encoding { frame, walk, build }) = encoding else { return };
    for blob in [bytes.to_vec(), frame(bytes)] {
        let Some((seen, whole)) = walk(&blob, usize::MAX) else { continue };
        assert_eq!(walk(&blob, usize::from(stop)), Some((seen.clone(), whole)), "stopped");
        if whole && let Some(again) = build(&seen) {
            assert_eq!(walk(&again, usize::MAX), Some((seen, true)), "built again");
        }
    }
    let strings: Vec<Vec<u8>> = strings(bytes).collect();
    if let Some(blob) = build(&strings) {
        let (mut seen, whole) = walk(&blob, usize::MAX).unwrap_or_default();
        assert!(whole, "what was built cannot be walked");
        let mut expected = strings;
        if kind % 4 == 2 {
            // A set of numbers: in their order, each once.
            let number = |text: &Vec<u8>| crate::rdb::packed::canonical_int(text);
            expected.sort_by_key(number);
            expected.dedup();
            seen.sort_by_key(number);
        }
        assert_eq!(seen, expected, "built");
    }
}

/// Strings made of any bytes: each a length and so many of what follows, and a number of the same bytes now and then.
fn strings(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + use<'_> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&len, behind) = rest.split_first()?;
        let (text, behind) = behind.split_at(usize::from(len & 0x7f).min(behind.len()));
        rest = behind;
        if len < 0x80 {
            return Some(text.to_vec());
        }
        let number = text.iter().take(8).fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        let number = number.cast_signed() >> (len & 0x3f);
        Some(number.to_string().into_bytes())
    })
}

/// Walks entries, and at the stop goes on with another walk.
macro_rules! walk {
    ($blob:expr, $packed:ident, $stop:expr, $each:expr) => {{
        let packed = $packed::parse($blob).ok()?;
        let (mut walk, mut seen, mut whole) = (packed.iter(), Vec::new(), true);
        let mut walked = 0_usize;
        loop {
            if walked == $stop {
                let mark = walk.mark();
                walk = packed.resume(mark);
            }
            walked += 1;
            match walk.next() {
                Some(Ok(entry)) => $each(&mut seen, entry),
                Some(Err(_)) => {
                    whole = false;
                    break;
                }
                None => break,
            }
        }
        Some((seen, whole))
    }};
}

fn walk_listpack(blob: &[u8], stop: usize) -> Option<Walked> {
    walk!(blob, Listpack, stop, |seen: &mut Vec<_>, entry: crate::rdb::packed::Entry<'_>| {
        seen.push(entry.to_bytes(&mut itoa::Buffer::new()).to_vec());
    })
}

fn walk_ziplist(blob: &[u8], stop: usize) -> Option<Walked> {
    walk!(blob, Ziplist, stop, |seen: &mut Vec<_>, entry: crate::rdb::packed::Entry<'_>| {
        seen.push(entry.to_bytes(&mut itoa::Buffer::new()).to_vec());
    })
}

fn walk_intset(blob: &[u8], stop: usize) -> Option<Walked> {
    // What lies before the stop is not known to who goes on, so only an ascending set is the same.
    let stop = if Intset::parse(blob).ok()?.iter().all(|member| member.is_ok()) { stop } else { 0 };
    walk!(blob, Intset, stop, |seen: &mut Vec<_>, member: i64| seen
        .push(member.to_string().into_bytes()))
}

fn walk_zipmap(blob: &[u8], stop: usize) -> Option<Walked> {
    walk!(blob, Zipmap, stop, |seen: &mut Vec<Vec<u8>>, (field, value): zipmap::Pair<'_>| {
        seen.push(field.to_vec());
        seen.push(value.to_vec());
    })
}

fn build_listpack(entries: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut builder = listpack::Builder::new();
    entries.iter().try_for_each(|entry| builder.push(entry)).ok()?;
    Some(builder.finish())
}

fn build_ziplist(entries: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut builder = ziplist::Builder::new();
    entries.iter().try_for_each(|entry| builder.push(entry)).ok()?;
    Some(builder.finish())
}

fn build_intset(members: &[Vec<u8>]) -> Option<Vec<u8>> {
    let number = |text: &Vec<u8>| crate::rdb::packed::canonical_int(text);
    intset::build(members.iter().map(number).collect::<Option<_>>()?)
}

fn build_zipmap(texts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let (pairs, rest) = texts.as_chunks::<2>();
    let pairs = pairs.iter().map(|[field, value]| (field.as_slice(), value.as_slice()));
    if rest.is_empty() { zipmap::build(pairs) } else { None }
}

/// Any bytes as the body of a listpack that does not say how many entries it has.
fn listpack_frame(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 7).unwrap_or_default().to_le_bytes();
    [&size[..], &[0xff, 0xff], body, &[0xff]].concat()
}

/// The same for a ziplist. Where the last entry begins no walk needs.
fn ziplist_frame(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 11).unwrap_or_default().to_le_bytes();
    [&size[..], &[10, 0, 0, 0], &[0xff, 0xff], body, &[0xff]].concat()
}

fn intset_frame(body: &[u8]) -> Vec<u8> {
    let (members, _) = body.as_chunks::<2>();
    let count = u32::try_from(members.len()).unwrap_or_default().to_le_bytes();
    [&[2, 0, 0, 0], &count[..], members.as_flattened()].concat()
}

fn zipmap_frame(body: &[u8]) -> Vec<u8> {
    [&[254], body, &[0xff]].concat()
}
