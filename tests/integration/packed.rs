//! The packed blobs that the library builds are byte for byte those of the servers, and every server takes them, however
//! deep it looks.

use std::collections::{BTreeMap, BTreeSet};

use understudy::rdb::dump::{Footer, seal};
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::packed::{intset, listpack, ziplist, zipmap};
use understudy::rdb::string::put_string;
use understudy::server;

use crate::client::{Client, Command, cmd};
use crate::servers::{ALL, Server};

/// Strings at the borders of the headers' forms, numbers in all widths, and what only looks like a number.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> =
        [0, 1, 62, 63, 64, 65, 125, 126, 127, 250, 251, 252, 253, 254, 255]
            .into_iter()
            .chain([256, 4094, 4095, 4096, 4097, 16_383, 16_384])
            .map(|len| vec![b'a'; len])
            .collect();
    for bit in [0, 2, 3, 4, 6, 7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 47, 48, 62] {
        let power = 1_i64 << bit;
        let near = [power - 1, power, power + 1, -power, -power - 1];
        texts.extend(near.map(|number| number.to_string().into_bytes()));
    }
    texts.extend(
        ["0", "12", "13", "127", "128", "9223372036854775807", "-9223372036854775808"]
            .map(Into::into),
    );
    texts.extend(
        ["00", "-0", "+1", " 1", "1 ", "1.5", "9223372036854775808", "-", "01"].map(Into::into),
    );
    let mut seen = BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

fn ziplist<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut builder = ziplist::Builder::new();
    texts.into_iter().for_each(|text| builder.push(text.as_ref()).unwrap());
    builder.finish()
}

fn listpack<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut builder = listpack::Builder::new();
    texts.into_iter().for_each(|text| builder.push(text.as_ref()).unwrap());
    builder.finish()
}

/// A key: the command that makes it, and the type and body that hold the same.
struct Value {
    make: Command,
    object: ObjectType,
    body: Vec<u8>,
    /// Whether the server itself would write it so.
    own: bool,
}

/// Each packed type that the server reads.
fn values(reader: server::Server) -> Vec<Value> {
    let texts = texts();
    let made = |mut command: Command, rest: &[Vec<u8>]| {
        command.extend_from_slice(rest);
        command
    };
    let whole = |blob: Vec<u8>| {
        let mut body = Vec::new();
        put_string(&mut body, &blob);
        body
    };
    let redis = reader.rdb_format().version;
    let mut values = Vec::new();
    let mut add = |make: &Command, object, body, own| {
        if reader.reads(object) {
            values.push(Value { make: make.clone(), object, body, own });
        }
    };

    let list = made(cmd!("RPUSH", "k"), &texts);
    add(&list, ObjectType::ListZiplist, whole(ziplist(&texts)), redis < 7);
    let mut quicklist = vec![1];
    put_string(&mut quicklist, &ziplist(&texts));
    add(&list, ObjectType::ListQuicklist, quicklist, redis < 10);
    let mut quicklist = vec![1, 2];
    put_string(&mut quicklist, &listpack(&texts));
    add(&list, ObjectType::ListQuicklist2, quicklist, redis >= 10);

    // A field for each text, and the text as its value.
    let pairs: Vec<Vec<u8>> = texts
        .iter()
        .enumerate()
        .flat_map(|(at, text)| [format!("field {at}").into_bytes(), text.clone()])
        .collect();
    let hash = made(cmd!("HMSET", "k"), &pairs);
    let zipped = pairs.chunks_exact(2).map(|pair| (pair[0].as_slice(), pair[1].as_slice()));
    add(&hash, ObjectType::HashZipmap, whole(zipmap::build(zipped).unwrap()), false);
    add(&hash, ObjectType::HashZiplist, whole(ziplist(&pairs)), redis < 10);
    add(&hash, ObjectType::HashListpack, whole(listpack(&pairs)), redis >= 10);
    let mut lasting = 0_u64.to_le_bytes().to_vec();
    let triples =
        pairs.chunks_exact(2).flat_map(|pair| [pair[0].clone(), pair[1].clone(), b"0".to_vec()]);
    put_string(&mut lasting, &listpack(triples));
    add(&hash, ObjectType::HashListpackEx, lasting, false);

    let scores = ["-9000000000", "-1", "0", "1", "1.5", "12", "13", "70000", "1e+100"];
    let scored: Vec<Vec<u8>> = scores
        .iter()
        .zip(&texts)
        .flat_map(|(score, member)| [member.clone(), score.as_bytes().to_vec()])
        .collect();
    let swapped: Vec<Vec<u8>> =
        scored.chunks_exact(2).flat_map(|pair| [pair[1].clone(), pair[0].clone()]).collect();
    let zset = made(cmd!("ZADD", "k"), &swapped);
    add(&zset, ObjectType::ZsetZiplist, whole(ziplist(&scored)), redis < 10);
    add(&zset, ObjectType::ZsetListpack, whole(listpack(&scored)), redis >= 10);

    add(&made(cmd!("SADD", "k"), &texts), ObjectType::SetListpack, whole(listpack(&texts)), true);
    for width in [15, 31, 63] {
        let members: Vec<i64> = (0..width).flat_map(|bit| [1 << bit, -(1 << bit) - 1]).collect();
        let texts: Vec<Vec<u8>> =
            members.iter().map(|member| member.to_string().into_bytes()).collect();
        let set = made(cmd!("SADD", "k"), &texts);
        add(&set, ObjectType::SetIntset, whole(intset::build(members).unwrap()), true);
    }
    values
}

fn read(client: &mut Client, key: &str) -> Vec<Vec<u8>> {
    let kind = client.call(cmd!("TYPE", key)).text();
    let mut found = match kind.as_str() {
        "list" => client.call(cmd!("LRANGE", key, 0, -1)),
        "hash" => client.call(cmd!("HGETALL", key)),
        "zset" => client.call(cmd!("ZRANGE", key, 0, -1, "WITHSCORES")),
        "set" => client.call(cmd!("SMEMBERS", key)),
        other => panic!("{key} is {other}"),
    }
    .strings();
    if kind == "set" {
        found.sort();
    }
    found
}

/// The options under which a server packs whatever it can, and looks into what it restores.
fn packing(name: &str) -> Vec<&'static str> {
    let before = |releases: &[&str]| releases.iter().any(|release| name.starts_with(release));
    let mut options = vec!["--rdbcompression", "no"];
    let mut without_limit = |names: &[&'static str]| {
        names.iter().for_each(|name| options.extend([*name, "100000"]));
    };
    without_limit(&["--hash-max-ziplist-entries", "--hash-max-ziplist-value"]);
    without_limit(&["--zset-max-ziplist-entries", "--zset-max-ziplist-value"]);
    let old_lists = before(&["redis-2", "redis-3.0"]);
    if old_lists {
        without_limit(&["--list-max-ziplist-entries", "--list-max-ziplist-value"]);
    }
    if !before(&["redis-2", "redis-3", "redis-5", "redis-6", "redis-7.0"]) {
        without_limit(&["--set-max-listpack-entries", "--set-max-listpack-value"]);
    }
    if !old_lists {
        // 64 KB a node, whatever the number of elements.
        options.extend(["--list-max-ziplist-size", "-5"]);
    }
    if !before(&["redis-2", "redis-3", "redis-5", "redis-6.0"]) {
        options.extend(["--sanitize-dump-payload", "yes"]);
    }
    options
}

#[test]
fn packed_blobs_are_those_of_the_servers() {
    let (mut served, mut compared) = (0, BTreeMap::new());
    for name in ALL {
        let Some(server) = Server::start_with(name, &packing(name)) else { continue };
        served += 1;
        let mut client = server.client();
        let info = client.call(cmd!("INFO", "server")).text();
        let reader = server::Server::from_info(&info).unwrap();
        for value in values(reader) {
            let what = format!("{name} {:?}", value.object);
            client.call(value.make);
            let mut dump = vec![value.object.byte()];
            dump.extend_from_slice(&value.body);
            if value.own {
                let theirs = client.call(cmd!("DUMP", "k")).bytes().to_vec();
                let mut ours = dump.clone();
                seal(&mut ours, 0, Footer::verify(&theirs).unwrap().1.version);
                assert!(ours == theirs, "{what}: {} is {}", show(&theirs), show(&ours));
                *compared.entry(value.object).or_insert(0) += 1;
            }
            seal(&mut dump, 0, reader.restore_version(value.object).unwrap());
            client.call(cmd!("RESTORE", "again", 0, dump));
            assert_eq!(read(&mut client, "again"), read(&mut client, "k"), "{what}");
            client.call(cmd!("DEL", "k", "again"));
        }
    }
    assert!(served < ALL.len() || compared.len() == 9, "not all types were compared: {compared:?}");
}

fn show(dump: &[u8]) -> String {
    dump[..dump.len().min(300)].escape_ascii().to_string()
}
