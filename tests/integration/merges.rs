//! Many sources, live and files, of many versions, each with its own rules, in one file for each server: it loads it, and has what they hold.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::cmd;
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::servers::{self, Server, note_skipped};
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(60);

/// The sources that are filled, and what each is called.
const LIVE: [(&str, &str); 4] = [
    ("old", "redis-2.8.17"),
    ("five", "redis-5.0.6"),
    ("seven", "redis-7.0.15"),
    ("valkey", "valkey-9.1.2"),
];

const THREE_HOURS: i64 = 3 * 3_600_000;

/// What is to become one file.
struct Table {
    live: Vec<Server>,
    /// A server that a file was saved by, and one that has loaded a recorded one.
    filed: Server,
    recorded: Option<Server>,
    folder: TempDir,
}

impl Table {
    /// Sources full of what this reader can hold. `None` if a server is not on this machine.
    fn laid(reader: &'static str) -> Option<Self> {
        let holds = Holds::of(&mut Server::start(reader)?.client());
        let filled = |name| {
            let server = Server::start(name)?;
            let mut client = server.client();
            let mut holds = holds.and(Holds::of(&mut client));
            holds.vectors = false;
            data::fill(&mut client, server.version, holds);
            Some(server)
        };
        let live: Option<Vec<Server>> = LIVE.iter().map(|(_, name)| filled(name)).collect();
        let filed = filled("redis-6.2.14")?;
        filed.client().call(cmd!("SAVE"));
        let folder = tempfile::tempdir().unwrap();
        let recorded = match env::var_os("UNDERSTUDY_CORPUS") {
            Some(corpus) => {
                let file = Path::new(&corpus).join("rdb/redis-3.2.6/multidb.rdb");
                fs::copy(file, folder.path().join("dump.rdb")).unwrap();
                let options = ["--dir", folder.path().to_str().unwrap()];
                Some(Server::start_with("redis-3.2.6", &options)?)
            }
            None => {
                note_skipped("no UNDERSTUDY_CORPUS");
                None
            }
        };
        Some(Self { live: live?, filed, recorded, folder })
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.rdb")
    }

    /// Makes the file.
    fn merge(&self, more: &[&str]) -> Ended {
        let rules = [
            "prefix = \"old:\"",
            "only_db = [0, 1, 2]\ndb_map = \"0:9,1:0,2:1\"\nexclude = [\"deadline:near:*\"]\nprefix = \"five:\"\nextend_ttl = \"3h\"",
            "type = \"string,hash,zset,stream\"\nexclude = [\"*near*\"]",
            "include_regex = [\"^hash:\", \"^string:\", \"^same\"]",
        ];
        let mut text = format!("[target]\nurl = \"{}\"\n", self.out().display());
        for (((name, _), server), rules) in LIVE.iter().zip(&self.live).zip(rules) {
            text +=
                &format!("[[source]]\nname = \"{name}\"\nurl = \"{}\"\n{rules}\n", server.url());
        }
        let path = self.filed.folder().join("dump.rdb");
        text += &format!(
            "[[source]]\nname = \"filed\"\nurl = \"{}\"\nrename = [\"^set:=group:\"]\nprefix = \"file:\"\n",
            path.display()
        );
        if self.recorded.is_some() {
            let path = self.folder.path().join("dump.rdb");
            text += &format!(
                "[[source]]\nname = \"recorded\"\nurl = \"{}\"\nprefix = \"recorded:\"\n",
                path.display()
            );
        }
        let config = self.folder.path().join("many.toml");
        fs::write(&config, text).unwrap();
        let args = [&["sync", "--config", config.to_str().unwrap()], more].concat();
        Understudy::start(&args).wait(PATIENCE)
    }

    /// What the file is to hold, by the sources themselves and by the rules in other words. Last comes how many keys two sources have.
    fn expected(&self) -> (Dump, usize) {
        let read = |server: &Server| Dump::read(&mut server.client());
        let [old, five, seven, valkey] = self.live.as_slice() else { panic!("four sources") };
        let old = read(old).under("old:");
        let moves = BTreeMap::from([(0, 9), (1, 0), (2, 1)]);
        let mut five = read(five);
        five.retain(|db, key, _| moves.contains_key(&db) && !key.starts_with(b"deadline:near:"));
        let five = five.moved(|db| moves[&db]).later(THREE_HOURS).under("five:");
        let mut seven = read(seven);
        seven.retain(|_, key, kind| {
            ["string", "hash", "zset", "stream"].contains(&kind)
                && !key.windows(4).any(|part| part == b"near")
        });
        let mut valkey = read(valkey);
        valkey.retain(|_, key, _| {
            [&b"hash:"[..], b"string:", b"same"].iter().any(|begin| key.starts_with(begin))
        });
        let (one, other) = (seven.len(), valkey.len());
        let both = Dump::first_of([seven, valkey]);
        let twice = one + other - both.len();
        let filed = read(&self.filed).named(|key| match key.strip_prefix(b"set:") {
            Some(rest) => [b"file:group:", rest].concat(),
            None => [b"file:", key].concat(),
        });
        let recorded = self.recorded.iter().map(|server| read(server).under("recorded:"));
        (Dump::together([both, old, five, filed].into_iter().chain(recorded)), twice)
    }
}

/// Merges all sources for this server, which loads the file.
fn merges_for(reader: &'static str, policy: &str) {
    let Some(table) = Table::laid(reader) else { return };
    let named = reader.rsplit_once('.').unwrap().0;
    if policy == "replace" {
        // That is for what is there, too.
        fs::write(table.out(), "another file").unwrap();
    }
    let ended = table.merge(&["--for", named, "--on-conflict", policy]);
    ended.assert_code(0);
    let (expected, twice) = table.expected();
    assert!(twice > 100, "{reader}: only {twice} keys of two sources");
    assert_eq!(*ended.reported("sources.3.conflicts"), twice, "{reader}");
    assert_eq!(ended.reported("conflicts").as_array().unwrap().len(), 100, "{reader}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.rdb");
    fs::copy(table.out(), &file).unwrap();
    let checker = servers::folder().join(reader).join("redis-check-rdb");
    // 2.8 and 3.0 have another tool, which a file of today's size makes fail.
    if checker.exists() && !reader.starts_with("redis-3.0") {
        let checked = Command::new(checker).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{reader}: {said}");
    }
    let options = ["--dir", folder.path().to_str().unwrap()];
    let loaded = Server::start_with(reader, &options).unwrap();
    let loaded = Dump::read(&mut loaded.client());
    judge::assert_same(&expected, &loaded, Forgiving::default(), reader);
    assert!(loaded.len() > 2000, "{reader}: only {} keys", loaded.len());
}

#[test]
fn many_sources_for_redis_2_8() {
    merges_for("redis-2.8.17", "keep");
}

#[test]
fn many_sources_for_redis_3_0() {
    merges_for("redis-3.0.5", "keep");
}

#[test]
fn many_sources_for_redis_3_2() {
    merges_for("redis-3.2.6", "replace");
}

#[test]
fn many_sources_for_redis_5_0() {
    merges_for("redis-5.0.6", "keep");
}

#[test]
fn many_sources_for_redis_6_0() {
    merges_for("redis-6.0.16", "replace");
}

#[test]
fn many_sources_for_redis_6_2() {
    merges_for("redis-6.2.14", "keep");
}

#[test]
fn many_sources_for_redis_7_0() {
    merges_for("redis-7.0.15", "replace");
}

#[test]
fn many_sources_for_redis_8_0() {
    merges_for("redis-8.0.6", "keep");
}

#[test]
fn many_sources_for_valkey_8() {
    merges_for("valkey-8.1.1", "replace");
}

#[test]
fn many_sources_for_valkey_9() {
    merges_for("valkey-9.1.2", "keep");
}

#[test]
fn many_sources_for_redict() {
    merges_for("redict-7.3.6", "replace");
}

/// Without a policy the first key of two sources ends the run, and there is no file.
#[test]
fn a_key_of_two_of_many_sources_is_named() {
    let Some(table) = Table::laid("redis-7.0.15") else { return };
    let ended = table.merge(&["--for", "redis-7.0"]);
    ended.assert_code(3);
    assert!(ended.stderr.contains("was in seven too"), "{}", ended.stderr);
    assert_eq!(*ended.reported("sources.3.conflicts"), 1);
    assert!(!table.out().exists());
}

/// What the reader cannot hold is named, with the source that has it.
#[test]
fn what_the_reader_of_many_cannot_hold_is_named() {
    let Some(table) = Table::laid("redis-8.0.6") else { return };
    for (reader, source, said) in [
        ("redis-2.8", "five", "(stream): Redis 2.8.0 cannot hold streams"),
        ("redis-6.2", "seven", "Redis 6.2.0 cannot hold functions"),
        ("redis-7.2", "valkey", "Redis 7.2.0 cannot hold deadlines of hash fields"),
    ] {
        let ended = table.merge(&["--for", reader, "--on-conflict", "keep"]);
        ended.assert_code(3);
        assert!(ended.stderr.contains(said), "{reader}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("error: {source}: ")), "{}", ended.stderr);
        assert!(!table.out().exists());
    }
}
