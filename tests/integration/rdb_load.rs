//! Files and payloads that the library writes, taken by every server.
//!
//! A source is filled and saved. Its file is read to the elements and written anew for the target, which loads it; then
//! each value goes to the target by `RESTORE`, as it stands in the file or transcoded. After each the judge compares the
//! two servers.

use std::fs;
use std::path::PathBuf;

use understudy::rdb::event::{Event, KeyHead};
use understudy::rdb::parser::Depth;
use understudy::rdb::reader::{Next, Reader};
use understudy::rdb::transcode::{Fit, fit};
use understudy::rdb::value::Encoder;
use understudy::rdb::writer::Writer;
use understudy::server;

use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;

/// From whom each target gets data, beside from one of its own version: the newest of both families, the last before the
/// listpack, and the oldest.
const SOURCES: [&str; 4] = ["redis-2.8.17", "redis-6.2.14", "redis-8.0.6", "valkey-9.1.2"];

fn takes(name: &'static str) {
    let others = SOURCES.into_iter().filter(|source| *source != name);
    for source in [name].into_iter().chain(others) {
        let (Some(first), Some(second)) = (Server::start(source), Server::start(name)) else {
            return;
        };
        let (mut client, mut target) = (first.client(), second.client());
        let mut holds = Holds::of(&mut client).and(Holds::of(&mut target));
        // A module's value is handed on as it is, and 8.0.2 does not take all that 8.0.6 writes.
        holds.vectors &= source == name;
        data::fill(&mut client, first.version, holds);
        let reader = reader_of(&mut target);

        let (verbatim, transcoded) = restore(&mut target, &save(&mut client), reader);
        let what = format!("{source} to {name} by RESTORE");
        let (expected, restored) = (Dump::read(&mut client), Dump::read(&mut target));
        judge::assert_same(&expected, &restored, Forgiving::default(), &what);
        assert!(restored.len() > 500, "{what}: only {} keys", restored.len());
        if source == name {
            assert_eq!(transcoded, 0, "{what}: not as it was");
        } else if first.version.at_least(7, 0) && !second.version.at_least(7, 0) {
            assert!(transcoded > 50, "{what}: only {transcoded} written anew");
        }
        assert!(verbatim > 200, "{what}: only {verbatim} as they were");
        drop((target, second));

        without_minus_zero(&mut client);
        let dir = tempfile::tempdir().unwrap();
        let file = rewritten(&save(&mut client), reader);
        fs::write(dir.path().join("dump.rdb"), file).unwrap();
        let mut options = vec!["--dir", dir.path().to_str().unwrap()];
        if reader.as_redis() >= server::Version(6, 2, 0) {
            // Look into what is loaded as deeply as into what a stranger restores.
            options.extend(["--sanitize-dump-payload", "yes"]);
        }
        let third = Server::start_with(name, &options).unwrap();
        let what = format!("{source} to {name} by file");
        let (expected, loaded) = (Dump::read(&mut client), Dump::read(&mut third.client()));
        judge::assert_same(&expected, &loaded, Forgiving::default(), &what);
        assert!(loaded.len() > 500, "{what}: only {} keys", loaded.len());
    }
}

/// Servers from 7.0 on pack a small sorted set that they load or are told, and keep integers as such: -0 becomes 0 unless
/// it comes packed already. So where values are written anew it is no fault of ours.
fn without_minus_zero(client: &mut Client) {
    let zeros = client.call(cmd!("ZRANGEBYSCORE", "zset:short", 0, 0)).strings();
    assert!(!zeros.is_empty());
    // To set it to 0 changes nothing: the two are equal.
    let gone: Vec<_> = zeros.iter().map(|zero| cmd!("ZREM", "zset:short", zero)).collect();
    data::all(client, &gone);
}

fn reader_of(client: &mut Client) -> server::Server {
    server::Server::from_info(&client.call(cmd!("INFO", "server")).text()).unwrap()
}

/// The file that a server saves.
fn save(client: &mut Client) -> Vec<u8> {
    client.call(cmd!("SAVE"));
    let dir = client.call(cmd!("CONFIG", "GET", "dir")).strings().remove(1);
    fs::read(PathBuf::from(String::from_utf8(dir).unwrap()).join("dump.rdb")).unwrap()
}

fn for_each(file: &[u8], depth: Depth, mut on: impl FnMut(&Event<'_>)) {
    let mut reader = Reader::new();
    reader.set_default_depth(depth);
    reader.extend(file);
    loop {
        match reader.next().unwrap() {
            Next::Event(event) => on(&event),
            Next::NeedMore => panic!("the file was cut short"),
            Next::End(_) => return,
        }
    }
}

/// What a head says, apart from the key's name.
fn without_name(head: &KeyHead<'_>) -> KeyHead<'static> {
    KeyHead {
        key: b"",
        db: head.db,
        object: head.object,
        expire_at_ms: head.expire_at_ms,
        idle_seconds: head.idle_seconds,
        freq: head.freq,
    }
}

/// A file, written anew for `reader`.
fn rewritten(file: &[u8], reader: server::Server) -> Vec<u8> {
    let mut writer = Writer::new(reader).unwrap();
    let mut value = None;
    for_each(file, Depth::Elements, |event| match event {
        Event::Function { code } => writer.function(code).unwrap(),
        Event::Aux { name, value } => writer.aux(name, value),
        Event::Key(head) => {
            let encoder = Encoder::new(head.object, reader).unwrap();
            value = Some((without_name(head), head.key.to_vec(), encoder));
        }
        Event::Element(element) => value.as_mut().unwrap().2.push(element).unwrap(),
        Event::ValueEnd => {
            let (head, key, encoder) = value.take().unwrap();
            let value = encoder.finish().unwrap().strict(reader).unwrap();
            writer.value(&KeyHead { key: &key, ..head }, &value);
        }
        _ => {}
    });
    writer.finish()
}

/// Restores every key; says how many values went as they were, and how many did not.
fn restore(client: &mut Client, file: &[u8], reader: server::Server) -> (usize, usize) {
    let (mut verbatim, mut transcoded) = (0, 0);
    let mut commands: Vec<Command> = Vec::new();
    let (mut key, mut expire_at_ms) = (Vec::new(), None);
    for_each(file, Depth::Verbatim { limit: usize::MAX }, |event| match event {
        Event::Function { code } => commands.push(cmd!("FUNCTION", "LOAD", code)),
        Event::SelectDb(db) => commands.push(cmd!("SELECT", db.index())),
        Event::Key(head) => (key, expire_at_ms) = (head.key.to_vec(), head.expire_at_ms),
        Event::Payload(payload) => {
            let fit = fit(*payload, reader).unwrap();
            match fit {
                Fit::Verbatim { .. } => verbatim += 1,
                Fit::Transcoded { .. } => transcoded += 1,
            }
            let mut dump = Vec::new();
            fit.put_dump(&mut dump);
            commands.push(cmd!("RESTORE", key, 0, dump));
            if let Some(at) = expire_at_ms {
                commands.push(cmd!("PEXPIREAT", key, at));
            }
        }
        _ => {}
    });
    data::all(client, &commands);
    (verbatim, transcoded)
}

#[test]
fn redis_2_8_takes_what_is_written() {
    takes("redis-2.8.17");
}

#[test]
fn redis_3_0_takes_what_is_written() {
    takes("redis-3.0.5");
}

#[test]
fn redis_3_2_takes_what_is_written() {
    takes("redis-3.2.6");
}

#[test]
fn redis_5_0_takes_what_is_written() {
    takes("redis-5.0.6");
}

#[test]
fn redis_6_0_takes_what_is_written() {
    takes("redis-6.0.16");
}

#[test]
fn redis_6_2_takes_what_is_written() {
    takes("redis-6.2.14");
}

#[test]
fn redis_7_0_takes_what_is_written() {
    takes("redis-7.0.15");
}

#[test]
fn redis_8_0_2_takes_what_is_written() {
    takes("redis-8.0.2");
}

#[test]
fn redis_8_0_6_takes_what_is_written() {
    takes("redis-8.0.6");
}

#[test]
fn valkey_8_0_takes_what_is_written() {
    takes("valkey-8.0.1");
}

#[test]
fn valkey_8_1_takes_what_is_written() {
    takes("valkey-8.1.1");
}

#[test]
fn valkey_9_1_takes_what_is_written() {
    takes("valkey-9.1.2");
}

#[test]
fn redict_7_3_takes_what_is_written() {
    takes("redict-7.3.6");
}
