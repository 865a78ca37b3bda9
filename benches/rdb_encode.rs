//! How fast values are encoded, in bytes of what is written.
//!
//! `cargo bench --bench rdb_encode`

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use understudy::rdb::event::Element;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::packed::listpack;
use understudy::rdb::packed::ziplist;
use understudy::rdb::value::Encoder;
use understudy::server::Flavour;
use understudy::server::Server;
use understudy::server::Version;

fn main() {
    divan::main();
}

const OLD: Server = Server { flavour: Flavour::Redis, version: Version(3, 2, 6) };
const NEW: Server = Server { flavour: Flavour::Redis, version: Version(8, 0, 6) };

/// So many elements a value: as many as a large one has, and still in a core's cache.
const ELEMENTS: usize = 10_000;

/// Texts as keys of users have them: names with a number, hexadecimal digits, and plain numbers.
fn texts() -> Vec<Vec<u8>> {
    (0..ELEMENTS)
        .map(|n| match n % 3 {
            0 => format!("field:{n}").into_bytes(),
            1 => format!("{:064x}", n * 7919).into_bytes(),
            _ => (n * 7919).to_string().into_bytes(),
        })
        .collect()
}

fn encode(
    bencher: Bencher<'_, '_>,
    object: ObjectType,
    server: Server,
    element: impl for<'a> Fn(&'a [u8], usize) -> Element<'a>,
) {
    let texts = texts();
    let whole = || {
        let mut encoder = Encoder::new(object, server).unwrap();
        for (n, text) in texts.iter().enumerate() {
            encoder.push(&element(black_box(text), n)).unwrap();
        }
        encoder.finish().unwrap()
    };
    bencher.counter(BytesCount::new(whole().rest.len())).bench_local(whole);
}

#[divan::bench]
fn list(bencher: Bencher<'_, '_>) {
    encode(bencher, ObjectType::List, NEW, |text, _| Element::Item(text));
}

#[divan::bench]
fn set(bencher: Bencher<'_, '_>) {
    encode(bencher, ObjectType::Set, NEW, |text, _| Element::Member(text));
}

#[divan::bench]
fn hash(bencher: Bencher<'_, '_>) {
    encode(bencher, ObjectType::Hash, NEW, |text, _| Element::Field {
        field: text,
        value: text,
        expire_at_ms: None,
    });
}

#[divan::bench]
fn hash_with_deadlines(bencher: Bencher<'_, '_>) {
    encode(bencher, ObjectType::HashMetadata, NEW, |text, n| Element::Field {
        field: text,
        value: text,
        expire_at_ms: i64::try_from(n).ok().map(|n| 4_102_444_800_000 + n),
    });
}

#[divan::bench]
fn zset(bencher: Bencher<'_, '_>) {
    encode(bencher, ObjectType::Zset2, NEW, |member, n| Element::Scored {
        member,
        score: f64::from(u32::try_from(n).unwrap()) / 7.0,
    });
}

#[divan::bench]
fn zset_with_scores_as_text(bencher: Bencher<'_, '_>) {
    encode(bencher, ObjectType::Zset2, OLD, |member, n| Element::Scored {
        member,
        score: f64::from(u32::try_from(n).unwrap()) / 7.0,
    });
}

#[divan::bench]
fn ziplist_of_texts(bencher: Bencher<'_, '_>) {
    let texts = texts();
    let whole = || {
        let mut builder = ziplist::Builder::new();
        texts.iter().for_each(|text| builder.push(black_box(text)).unwrap());
        builder.finish()
    };
    bencher.counter(BytesCount::new(whole().len())).bench_local(whole);
}

#[divan::bench]
fn listpack_of_texts(bencher: Bencher<'_, '_>) {
    let texts = texts();
    let whole = || {
        let mut builder = listpack::Builder::new();
        texts.iter().for_each(|text| builder.push(black_box(text)).unwrap());
        builder.finish()
    };
    bencher.counter(BytesCount::new(whole().len())).bench_local(whole);
}

#[divan::bench]
fn ziplist_walk(bencher: Bencher<'_, '_>) {
    let mut builder = ziplist::Builder::new();
    texts().iter().for_each(|text| builder.push(text).unwrap());
    let blob = builder.finish();
    bencher.counter(BytesCount::new(blob.len())).bench_local(|| {
        let mut text = itoa::Buffer::new();
        let entries = ziplist::Ziplist::parse(black_box(&blob)).unwrap();
        entries.iter().map(|entry| entry.unwrap().to_bytes(&mut text).len()).sum::<usize>()
    });
}

#[divan::bench]
fn listpack_walk(bencher: Bencher<'_, '_>) {
    let mut builder = listpack::Builder::new();
    texts().iter().for_each(|text| builder.push(text).unwrap());
    let blob = builder.finish();
    bencher.counter(BytesCount::new(blob.len())).bench_local(|| {
        let mut text = itoa::Buffer::new();
        let entries = listpack::Listpack::parse(black_box(&blob)).unwrap();
        entries.iter().map(|entry| entry.unwrap().to_bytes(&mut text).len()).sum::<usize>()
    });
}
