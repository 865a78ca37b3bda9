//! Reads a server's whole content with typed commands, in pipelines of a thousand keys.

use std::collections::BTreeMap;

use crate::client::{Client, Command, Value, cmd};
use crate::judge::{Content, Dump, Fields, Group, Key, Pending, Stream};
use crate::servers::Version;

impl Dump {
    /// Reads everything a server holds; of what understudy keeps there for itself only the names.
    ///
    /// The data should be at rest: a key that is written meanwhile may be seen as it was or as it is. Keys may expire.
    pub(crate) fn read(client: &mut Client) -> Self {
        let exact = Deadlines::of(client);
        let field_deadlines = client.knows("HPEXPIRETIME");
        let full_streams = Version::of(client).at_least(6, 0);
        let (mut keys, mut own) = (BTreeMap::new(), Vec::new());
        for db in databases(client) {
            client.select(db);
            let mut cursor = b"0".to_vec();
            loop {
                let page = client.call(cmd!("SCAN", cursor, "COUNT", 1000));
                let names = page.array()[1].strings();
                let (ours, names): (Vec<_>, Vec<_>) =
                    names.into_iter().partition(|name| is_own(name));
                own.extend(ours.into_iter().map(|name| (db, name)));
                let deadlines = exact.read(client, &names);
                let types = client.pipeline(&each(&names, "TYPE", &[]));
                let contents = contents(client, &names, &types, field_deadlines, full_streams);
                for ((name, deadline), content) in names.into_iter().zip(deadlines).zip(contents) {
                    // What has died since the SCAN named it has no content any more.
                    if let Some(content) = content {
                        keys.insert((db, name), Key { deadline, content });
                    }
                }
                cursor = page.array()[0].bytes().to_vec();
                if cursor == b"0" {
                    break;
                }
            }
        }
        client.select(0);
        Self { keys, own, functions: functions(client), read_by: clock(&client.call(cmd!("TIME"))) }
    }
}

/// Keys that the tool writes for itself have its name in theirs.
fn is_own(key: &[u8]) -> bool {
    key.windows(b"understudy".len()).any(|part| part == b"understudy")
}

fn databases(client: &mut Client) -> Vec<u32> {
    let text = client.call(cmd!("INFO", "keyspace")).text();
    text.lines()
        .filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok())
        .collect()
}

/// `NAME key REST...` for each key.
fn each(keys: &[Vec<u8>], name: &str, rest: &[&str]) -> Vec<Command> {
    keys.iter()
        .map(|key| {
            let mut command = cmd!(name, key);
            command.extend(rest.iter().map(|arg| arg.as_bytes().to_vec()));
            command
        })
        .collect()
}

/// `TIME` in ms, rounded down as the servers do it.
fn clock(time: &Value) -> i64 {
    let parts: Vec<i64> = time.array().iter().map(|part| part.text().parse().unwrap()).collect();
    parts[0] * 1000 + parts[1] / 1000
}

/// How a server tells deadlines.
#[derive(Clone, Copy)]
enum Deadlines {
    /// `PEXPIRETIME` (7.0).
    Told,
    /// By `PTTL` on a moving clock: exact when the clock shows the same millisecond before and after.
    Bracketed,
}

impl Deadlines {
    fn of(client: &mut Client) -> Self {
        if client.knows("PEXPIRETIME") { Self::Told } else { Self::Bracketed }
    }

    /// The deadlines of the keys, in their order; `None` for a key without one or that is gone.
    fn read(self, client: &mut Client, keys: &[Vec<u8>]) -> Vec<Option<i64>> {
        match self {
            Self::Told => {
                let told = client.pipeline(&each(keys, "PEXPIRETIME", &[]));
                told.iter().map(|at| Some(at.int()).filter(|at| *at >= 0)).collect()
            }
            Self::Bracketed => {
                let pttl = each(keys, "PTTL", &[]);
                let left = in_one_millisecond(client, &pttl);
                left.into_iter()
                    .map(|(now, ttl)| Some(ttl.int()).filter(|ttl| *ttl >= 0).map(|ttl| now + ttl))
                    .collect()
            }
        }
    }
}

/// Runs the commands between readings of the clock, until each has had the same millisecond on both sides: that
/// millisecond, and the reply. Only for commands that may run again.
fn in_one_millisecond(client: &mut Client, commands: &[Command]) -> Vec<(i64, Value)> {
    let mut found: Vec<Option<(i64, Value)>> = vec![None; commands.len()];
    for _ in 0..1000 {
        let left: Vec<usize> = (0..commands.len()).filter(|at| found[*at].is_none()).collect();
        if left.is_empty() {
            return found.into_iter().map(Option::unwrap).collect();
        }
        let mut asked = vec![cmd!("TIME")];
        for at in &left {
            asked.extend([commands[*at].clone(), cmd!("TIME")]);
        }
        let replies = client.pipeline(&asked);
        for (index, at) in left.into_iter().enumerate() {
            let [before, reply, after] = &replies[2 * index..2 * index + 3] else { unreachable!() };
            if clock(before) == clock(after) {
                found[at] = Some((clock(after), reply.clone()));
            }
        }
    }
    panic!("the clock never stood still for one command");
}

fn contents(
    client: &mut Client,
    keys: &[Vec<u8>],
    types: &[Value],
    field_deadlines: bool,
    full_streams: bool,
) -> Vec<Option<Content>> {
    let types: Vec<String> = types.iter().map(Value::text).collect();
    let reads: Vec<Command> = keys
        .iter()
        .zip(&types)
        .map(|(key, kind)| match kind.as_str() {
            "string" => cmd!("GET", key),
            "list" => cmd!("LRANGE", key, 0, -1),
            "set" => cmd!("SMEMBERS", key),
            "zset" => cmd!("ZRANGE", key, 0, -1, "WITHSCORES"),
            "hash" => cmd!("HGETALL", key),
            "stream" => cmd!("XRANGE", key, "-", "+"),
            "vectorset" => cmd!("VCARD", key),
            "none" => cmd!("PING"),
            other => panic!("the judge cannot read a {other}"),
        })
        .collect();
    let replies = client.pipeline(&reads);
    let mut deadlines = hash_deadlines(client, keys, &replies, &types, field_deadlines).into_iter();
    keys.iter()
        .zip(&types)
        .zip(&replies)
        .map(|((key, kind), reply)| match kind.as_str() {
            "string" => (*reply != Value::Nil).then(|| Content::String(reply.bytes().to_vec())),
            "list" => Some(Content::List(reply.strings())).filter(|_| !reply.array().is_empty()),
            "set" => Some(Content::Set(reply.strings().into_iter().collect()))
                .filter(|_| !reply.array().is_empty()),
            "zset" => {
                let scored = reply.array().chunks_exact(2).map(|pair| {
                    let score: f64 = pair[1].text().parse().expect("a score is a number");
                    (pair[0].bytes().to_vec(), score.to_bits())
                });
                Some(Content::Zset(scored.collect())).filter(|_| !reply.array().is_empty())
            }
            "hash" => {
                let fields = deadlines.next().unwrap();
                Some(Content::Hash(fields)).filter(|_| !reply.array().is_empty())
            }
            "stream" => stream(client, key, reply, full_streams),
            "vectorset" => Some(vectors(client, key, reply.int())),
            _ => None,
        })
        .collect()
}

/// For each hash among the keys its fields with their values and deadlines.
fn hash_deadlines(
    client: &mut Client,
    keys: &[Vec<u8>],
    replies: &[Value],
    types: &[String],
    field_deadlines: bool,
) -> Vec<Fields> {
    let hashes: Vec<_> = keys
        .iter()
        .zip(replies)
        .zip(types)
        .filter(|(_, kind)| *kind == "hash")
        .map(|((key, reply), _)| (key, reply.strings()))
        .collect();
    let asked: Vec<Command> = hashes
        .iter()
        .map(|(key, flat)| {
            if !field_deadlines || flat.is_empty() {
                return cmd!("PING");
            }
            let mut command = cmd!("HPEXPIRETIME", key, "FIELDS", flat.len() / 2);
            command.extend(flat.iter().step_by(2).cloned());
            command
        })
        .collect();
    let told = client.pipeline(&asked);
    hashes
        .iter()
        .zip(told)
        .map(|((_, flat), told)| {
            let pairs = flat.chunks_exact(2).enumerate();
            pairs
                .filter_map(|(at, pair)| {
                    let deadline = match &told {
                        Value::Array(deadlines) => deadlines[at].int(),
                        _ => -1,
                    };
                    // -1 is a field without one, -2 a field that has died since HGETALL named it.
                    let deadline =
                        (deadline != -2).then_some(Some(deadline).filter(|at| *at >= 0))?;
                    Some((pair[0].clone(), (pair[1].clone(), deadline)))
                })
                .collect()
        })
        .collect()
}

fn stream(client: &mut Client, key: &[u8], range: &Value, full: bool) -> Option<Content> {
    let entries = range.array().iter();
    let entries =
        entries.map(|entry| (entry.array()[0].text(), entry.array()[1].strings())).collect();
    let info = match client.try_call(if full {
        cmd!("XINFO", "STREAM", key, "FULL", "COUNT", 0)
    } else {
        cmd!("XINFO", "STREAM", key)
    }) {
        Value::Error(line) if line.contains("no such key") => return None,
        other => other.ok(),
    };
    let groups = if full { full_groups(&info) } else { groups(client, key) };
    Some(Content::Stream(Box::new(Stream {
        entries,
        last_id: info.field("last-generated-id").expect("a stream has a last id").text(),
        entries_added: info.field("entries-added").map(Value::int),
        max_deleted_id: info.field("max-deleted-entry-id").map(Value::text),
        groups,
    })))
}

/// The groups of a key, if it is a stream, on a server that tells all of them at once (6.0).
pub(crate) fn groups_of(client: &mut Client, key: &str) -> BTreeMap<Vec<u8>, Group> {
    if client.call(cmd!("TYPE", key)).text() != "stream" {
        return BTreeMap::new();
    }
    full_groups(&client.call(cmd!("XINFO", "STREAM", key, "FULL", "COUNT", 0)))
}

/// The groups in the reply to `XINFO STREAM key FULL` (6.0).
fn full_groups(info: &Value) -> BTreeMap<Vec<u8>, Group> {
    let read = |group: &Value| {
        let pending = group
            .field("pel")
            .or_else(|| group.field("pending"))
            .expect("a group has a pending list");
        let pending = pending.array().iter().map(|entry| {
            let [id, consumer, delivered_at, delivered] = entry.array() else {
                panic!("{entry:?}")
            };
            let consumer = consumer.bytes().to_vec();
            (
                id.text(),
                Pending { consumer, delivered_at: delivered_at.int(), delivered: delivered.int() },
            )
        });
        let consumers = group.field("consumers").unwrap().array().iter();
        Group {
            last_id: group.field("last-delivered-id").unwrap().text(),
            entries_read: group.field("entries-read").map(|read| match read {
                Value::Int(n) => Some(*n),
                _ => None,
            }),
            consumers: consumers.map(|one| one.field("name").unwrap().bytes().to_vec()).collect(),
            pending: pending.collect(),
        }
    };
    let groups = info.field("groups").unwrap().array().iter();
    groups.map(|group| (group.field("name").unwrap().bytes().to_vec(), read(group))).collect()
}

/// The groups of a stream on a server without `FULL` (5.0), where a delivery is told as so many ms ago.
fn groups(client: &mut Client, key: &[u8]) -> BTreeMap<Vec<u8>, Group> {
    let told = client.call(cmd!("XINFO", "GROUPS", key));
    let mut groups = BTreeMap::new();
    for group in told.array() {
        let name = group.field("name").unwrap().bytes().to_vec();
        let consumers = client.call(cmd!("XINFO", "CONSUMERS", key, name));
        let asked = cmd!("XPENDING", key, name, "-", "+", 1_000_000);
        let (now, pending) = in_one_millisecond(client, &[asked]).remove(0);
        let pending = pending.array().iter().map(|entry| {
            let [id, consumer, idle, delivered] = entry.array() else { panic!("{entry:?}") };
            let consumer = consumer.bytes().to_vec();
            (
                id.text(),
                Pending { consumer, delivered_at: now - idle.int(), delivered: delivered.int() },
            )
        });
        let consumers = consumers.array().iter();
        let group = Group {
            last_id: group.field("last-delivered-id").unwrap().text(),
            entries_read: None,
            consumers: consumers.map(|one| one.field("name").unwrap().bytes().to_vec()).collect(),
            pending: pending.collect(),
        };
        groups.insert(name, group);
    }
    groups
}

/// A vector set (Redis 8): each element's vector as it is stored, with its norm, and its attributes.
fn vectors(client: &mut Client, key: &[u8], count: i64) -> Content {
    // Up to this count, and each only once.
    let names = client.call(cmd!("VRANDMEMBER", key, count)).strings();
    let mut asked = Vec::new();
    for name in &names {
        asked.extend([cmd!("VEMB", key, name, "RAW"), cmd!("VGETATTR", key, name)]);
    }
    let told = client.pipeline(&asked);
    Content::Vectors(
        names
            .into_iter()
            .zip(told.chunks_exact(2).map(|two| (two[0].clone(), two[1].clone())))
            .collect(),
    )
}

fn functions(client: &mut Client) -> BTreeMap<Vec<u8>, Vec<u8>> {
    if !client.knows("FUNCTION") {
        return BTreeMap::new();
    }
    let libraries = client.call(cmd!("FUNCTION", "LIST", "WITHCODE"));
    let libraries = libraries.array().iter().map(|library| {
        let part = |name| library.field(name).unwrap().bytes().to_vec();
        (part("library_name"), part("library_code"))
    });
    libraries.collect()
}
