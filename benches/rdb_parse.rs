//! How fast a file is read, in bytes of the file, with its checksum: each kind of value at three depths.
//!
//! `cargo bench --bench rdb_parse`

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench fails by panicking")]

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use understudy::rdb::crc::crc64;
use understudy::rdb::length::put_length;
use understudy::rdb::lzf;
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::packed::intset;
use understudy::rdb::packed::listpack;
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::Next;
use understudy::rdb::reader::Reader;
use understudy::rdb::string::put_string;

fn main() {
    divan::main();
}

const VERBATIM: Depth = Depth::Verbatim { limit: usize::MAX };

/// What the files hold: about as many bytes each, too many for a core's cache.
const FILE: usize = 16 << 20;

/// Texts as keys of users have them: names with a number, hexadecimal digits, and plain numbers.
fn text(n: usize) -> Vec<u8> {
    match n % 3 {
        0 => format!("field:{n}").into_bytes(),
        1 => format!("{:024x}", n * 7919).into_bytes(),
        _ => (n * 7919).to_string().into_bytes(),
    }
}

fn file(object: ObjectType, mut value: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut file = b"REDIS0012".to_vec();
    for n in 0.. {
        if file.len() > FILE {
            break;
        }
        file.push(object.byte());
        put_string(&mut file, format!("key:{n:016}").as_bytes());
        value(&mut file);
    }
    file.push(255);
    let sum = crc64(&file);
    file.extend_from_slice(&sum.to_le_bytes());
    file
}

fn short_strings() -> Vec<u8> {
    file(ObjectType::String, |file| put_string(file, &[b'v'; 64]))
}

fn long_strings() -> Vec<u8> {
    file(ObjectType::String, |file| put_string(file, &vec![b'v'; 512 << 10]))
}

fn tables() -> Vec<u8> {
    file(ObjectType::Hash, |file| {
        put_length(file, 10_000);
        (0..20_000).for_each(|n| put_string(file, &text(n)));
    })
}

fn skiplists() -> Vec<u8> {
    file(ObjectType::Zset2, |file| {
        put_length(file, 10_000);
        for n in 0..10_000 {
            put_string(file, &text(n));
            file.extend_from_slice(&(n as f64 / 7.0).to_le_bytes());
        }
    })
}

fn listpacks() -> Vec<u8> {
    let mut blob = listpack::Builder::new();
    (0..100).for_each(|n| blob.push(&text(n)).unwrap());
    let blob = blob.finish();
    file(ObjectType::HashListpack, |file| put_string(file, &blob))
}

fn compressed_listpacks() -> Vec<u8> {
    let mut blob = listpack::Builder::new();
    (0..100).for_each(|n| blob.push(&text(n)).unwrap());
    let blob = blob.finish();
    let data = ::lzf::compress(&blob).unwrap();
    file(ObjectType::HashListpack, |file| {
        file.push(0xc3);
        put_length(file, data.len() as u64);
        put_length(file, blob.len() as u64);
        file.extend_from_slice(&data);
    })
}

fn intsets() -> Vec<u8> {
    let blob = intset::build((0..500).map(|n| n * 7919).collect()).unwrap();
    file(ObjectType::SetIntset, |file| put_string(file, &blob))
}

fn read(file: &[u8], depth: Depth) -> u64 {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    let (mut rest, mut events) = (file, 0);
    loop {
        match reader.next().unwrap() {
            Next::Event(event) => {
                black_box(event);
                events += 1;
            }
            Next::NeedMore => {
                let room = reader.buffer();
                let (head, behind) = rest.split_at(room.len().min(rest.len()));
                assert!(!head.is_empty(), "the file was cut short");
                room.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
                reader.filled(head.len());
                rest = behind;
            }
            Next::End(_) => return events,
        }
    }
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn strings_of_64_bytes(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &short_strings(), depth);
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn strings_of_512_kib(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &long_strings(), depth);
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn hash_in_a_table(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &tables(), depth);
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn zset_in_a_skiplist(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &skiplists(), depth);
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn hash_in_a_listpack(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &listpacks(), depth);
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn hash_in_a_compressed_listpack(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &compressed_listpacks(), depth);
}

#[divan::bench(args = ["skip", "verbatim", "elements"])]
fn set_in_an_intset(bencher: Bencher<'_, '_>, depth: &str) {
    bench(bencher, &intsets(), depth);
}

fn bench(bencher: Bencher<'_, '_>, file: &[u8], depth: &str) {
    let depth = match depth {
        "skip" => Depth::Skip,
        "verbatim" => VERBATIM,
        "elements" => Depth::Elements,
        other => panic!("no depth is called {other}"),
    };
    bencher.counter(BytesCount::new(file.len())).bench_local(|| read(black_box(file), depth));
}

/// Text in which some things come again, as values that servers compress do.
fn repetitive() -> Vec<u8> {
    (0..4000)
        .flat_map(|n| format!("{{\"id\":{n},\"name\":\"user {}\"}},", n % 97).into_bytes())
        .collect()
}

#[divan::bench]
fn lzf_of_ours(bencher: Bencher<'_, '_>) {
    let text = repetitive();
    let data = ::lzf::compress(&text).unwrap();
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        out.clear();
        lzf::decompress(black_box(&data), text.len(), &mut out).unwrap();
        out.len()
    });
}

#[divan::bench]
fn lzf_of_the_crate(bencher: Bencher<'_, '_>) {
    let text = repetitive();
    let data = ::lzf::compress(&text).unwrap();
    bencher
        .counter(BytesCount::new(text.len()))
        .bench_local(|| ::lzf::decompress(black_box(&data), text.len()).unwrap().len());
}
