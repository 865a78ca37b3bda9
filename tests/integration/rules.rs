//! What the rules leave out: of the copy, of the stream, and what cannot be decided.

use std::time::Duration;

use understudy::plan::Glob;

use crate::client::{Client, Command, Value, cmd};
use crate::dice::Dice;
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(8);

/// Each test runs on these: before and after masters sent deadlines as they are.
const SERVERS: [&str; 2] = ["redis-5.0.6", "redis-7.0.15"];

fn two(name: &'static str) -> Option<(Server, Server)> {
    Some((Server::start(name)?, Server::start(name)?))
}

#[track_caller]
fn all(client: &mut Client, commands: &[Command]) {
    for (reply, command) in client.pipeline(commands).iter().zip(commands) {
        assert!(
            !reply.is_error(),
            "{:?}: {reply:?}",
            command.join(&b' ').escape_ascii().to_string()
        );
    }
}

fn start(source: &Server, target: &Server, flags: &[&str]) -> Understudy {
    let (from, to) = (source.url(), target.url());
    Understudy::start(&[&["sync", "--from", &from, "--to", &to], flags].concat())
}

/// Copies, follows `commands`, and is stopped once the last of them has arrived: `end` is a key in a database of the target.
#[track_caller]
fn follow(
    (source, target): (&Server, &Server),
    flags: &[&str],
    commands: &[Command],
    (db, end): (u32, &str),
) -> Ended {
    let mut writer = source.client();
    let mut running = start(source, target, flags);
    // What is written once the replica is there comes by the stream.
    let begun = std::time::Instant::now();
    while !writer.info("replication", "slave0").contains("state=online") {
        assert!(begun.elapsed() < PATIENCE && running.is_running(), "no copy");
    }
    all(&mut writer, commands);
    let arrived = Client::wait_for_key(target.port, db, end, PATIENCE, || running.is_running());
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    ended
}

/// Starts, and waits until it has ended by itself.
fn fails(source: &Server, target: &Server, flags: &[&str], commands: &[Command]) -> Ended {
    let mut writer = source.client();
    let mut running = start(source, target, flags);
    let begun = std::time::Instant::now();
    while !writer.info("replication", "slave0").contains("state=online") {
        assert!(begun.elapsed() < PATIENCE && running.is_running(), "no copy");
    }
    all(&mut writer, commands);
    running.wait(PATIENCE)
}

/// Takes out of a server what a run left out, and compares.
#[track_caller]
fn same_without(source: &Server, target: &Server, left_out: &[Command], what: &str) {
    let mut writer = source.client();
    all(&mut writer, left_out);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), what);
    assert_eq!(second.own(), &[]);
}

fn delete_matching(source: &Server, pattern: &str) {
    let mut client = source.client();
    for key in client.call(cmd!("KEYS", pattern)).strings() {
        client.call(cmd!("DEL", key));
    }
}

#[test]
fn keys_are_chosen_by_name() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        let before = [
            cmd!("MSET", "in:1", 1, "in:2", 2, "out:1", 3, "in:tmp", 4),
            cmd!("RPUSH", "in:list", "a", "b", "c", "d"),
            cmd!("SADD", "in:set", "a", "b"),
            cmd!("SADD", "out:set", "b", "c", "d"),
            cmd!("SETEX", "in:dies", 5000, "v"),
            cmd!("SETEX", "out:dies", 5000, "v"),
        ];
        all(&mut source.client(), &before);
        let commands = [
            cmd!("MSET", "in:3", 1, "out:3", 2, "in:4", 3),
            cmd!("DEL", "out:1", "in:1"),
            cmd!("INCR", "out:new"),
            cmd!("SMOVE", "in:set", "out:set", "a"),
            cmd!("SMOVE", "out:set", "in:set", "c"),
            cmd!("RPOPLPUSH", "in:list", "out:list"),
            cmd!("SUNIONSTORE", "out:union", "in:set", "out:set"),
            cmd!("SUNIONSTORE", "in:union", "in:set"),
            cmd!("SETEX", "in:dies later", 7000, "v"),
            cmd!("RENAME", "in:2", "out:renamed"),
            cmd!("MULTI"),
            cmd!("SET", "out:x", 1),
            cmd!("SET", "in:x", 1),
            cmd!("EXEC"),
            cmd!("SET", "in:end", 1),
        ];
        let flags = ["--include", "in:*", "--include", "else", "--exclude", "*tm[p]"];
        let ended = follow((&source, &target), &flags, &commands, (0, "in:end"));
        assert_eq!(ended.reported("sources.0.keys"), 5);
        assert_eq!(ended.reported("sources.0.filtered.keys"), 4);
        assert_eq!(ended.reported("sources.0.filtered.commands"), 3);
        assert_eq!(ended.reported("sources.0.conflicts"), 0);
        delete_matching(&source, "out:*");
        same_without(&source, &target, &[cmd!("DEL", "in:tmp")], name);
    }
}

#[test]
fn databases_are_chosen_and_renumbered() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        let mut before = Vec::new();
        for db in 0..4 {
            before.extend([
                cmd!("SELECT", db),
                cmd!("SET", "same name", db),
                cmd!("SETEX", format!("dies {db}"), 1000 + db, "v"),
            ]);
        }
        all(&mut source.client(), &before);
        let commands = [
            cmd!("SELECT", 0),
            cmd!("SETEX", "live 0", 3000, "v"),
            cmd!("SET", "to move", 1),
            cmd!("MOVE", "to move", 1),
            cmd!("SET", "to leave", 1),
            cmd!("MOVE", "to leave", 3),
            cmd!("SELECT", 2),
            cmd!("SETEX", "live 2", 3000, "v"),
            cmd!("SELECT", 1),
            cmd!("EXPIRE", "same name", 4000),
            cmd!("SET", "end", 1),
        ];
        // 0 and 1 change places, 2 keeps its number, 3 is left out.
        let flags = ["--only-db", "0,1,2", "--db-map", "0:1,1:0"];
        let ended = follow((&source, &target), &flags, &commands, (0, "end"));
        assert_eq!(ended.reported("sources.0.filtered.databases"), 2);
        let swap = [cmd!("SWAPDB", 0, 1), cmd!("SELECT", 3), cmd!("FLUSHDB")];
        same_without(&source, &target, &swap, name);
    }
}

#[test]
fn a_url_names_one_database() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        all(
            &mut source.client(),
            &[cmd!("SET", "zero", 1), cmd!("SELECT", 3), cmd!("SETEX", "three", 1000, 1)],
        );
        let (from, to) = (format!("{}/3", source.url()), format!("{}/5", target.url()));
        let ended =
            Understudy::start(&["sync", "--from", &from, "--to", &to, "--once"]).wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.keys"), 1);
        same_without(&source, &target, &[cmd!("FLUSHDB"), cmd!("SWAPDB", 3, 5)], name);
    }
}

#[test]
fn keys_are_chosen_by_type() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        let before = [
            cmd!("MSET", "string", 1, "becomes a hash", 1, "becomes a list", 1, "third", 1),
            cmd!("HSET", "hash", "f", "v"),
            cmd!("HSET", "hash 2", "f", "v"),
            cmd!("RPUSH", "list", "a"),
            cmd!("SADD", "set", "a", "b"),
            cmd!("HSET", "becomes a string", "f", "v"),
        ];
        all(&mut source.client(), &before);
        let commands = [
            cmd!("SET", "string 2", 2),
            cmd!("HSET", "hash", "g", "w"),
            cmd!("EXPIRE", "hash", 100),
            cmd!("PERSIST", "hash"),
            cmd!("EXPIRE", "string", 5000),
            cmd!("SET", "becomes a string", "now"),
            cmd!("DEL", "hash 2"),
            cmd!("RENAME", "hash", "becomes a hash"),
            cmd!("SORT", "set", "ALPHA", "STORE", "becomes a list"),
            cmd!("RENAME", "string", "string 3"),
            cmd!("RENAME", "list", "list 2"),
            cmd!("MOVE", "list 2", 1),
            cmd!("MOVE", "third", 1),
            cmd!("SET", "end", 1),
        ];
        let ended = follow((&source, &target), &["--type", "string"], &commands, (0, "end"));
        assert_eq!(ended.reported("sources.0.filtered.types"), 5);
        let left_out = [
            cmd!("DEL", "becomes a hash", "set", "becomes a list"),
            cmd!("SELECT", 1),
            cmd!("DEL", "list 2"),
            cmd!("SELECT", 0),
        ];
        same_without(&source, &target, &left_out, name);
    }
}

/// The rules hold for a file as for a server, and so do the limits.
#[test]
fn files_hold_what_the_rules_want() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wanted.rdb").display().to_string();
        let before = [
            cmd!("MSET", "in:1", 1, "in:2", 2, "out:1", 3),
            cmd!("RPUSH", "in:list", "a"),
            cmd!("SELECT", 1),
            cmd!("SETEX", "in:dies", 5000, "v"),
            cmd!("SELECT", 2),
            cmd!("SET", "in:elsewhere", 1),
        ];
        all(&mut source.client(), &before);
        let flags = [
            "--only-db",
            "0,1",
            "--db-map",
            "0:1,1:0",
            "--include",
            "in:*",
            "--type",
            "string",
            "--limit-rate",
            "2",
        ];
        let args = ["sync", "--from", &source.url(), "--to", &file, "--once"];
        let ended = Understudy::start(&[&args[..], &flags].concat()).wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(ended.reported("sources.0.keys"), 3);
        assert_eq!(ended.reported("sources.0.filtered.databases"), 1);
        assert_eq!(ended.reported("sources.0.filtered.keys"), 1);
        assert_eq!(ended.reported("sources.0.filtered.types"), 1);
        let ended = Understudy::start(&["sync", "--from", &file, "--to", &target.url(), "--once"])
            .wait(PATIENCE);
        ended.assert_code(0);
        let left_out = [
            cmd!("DEL", "out:1", "in:list"),
            cmd!("SWAPDB", 0, 1),
            cmd!("SELECT", 2),
            cmd!("FLUSHDB"),
        ];
        same_without(&source, &target, &left_out, name);

        let file = folder.path().join("modules.rdb").display().to_string();
        let args = [
            "sync",
            "--from",
            &source.url(),
            "--to",
            &file,
            "--once",
            "--type",
            "module:ReJSON-RL",
        ];
        // Of modules' values only some are wanted, and there are none.
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(0);
        assert_eq!(*ended.reported("totals.keys"), 0);
        assert!(ended.reported("sources.0.filtered.types").as_u64() > Some(0));
    }
}

/// Of what takes its content from outside the rules the source is asked what became.
#[test]
fn what_cannot_be_split_is_read_from_the_source() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        let before =
            [cmd!("SADD", "in:s", 1), cmd!("ZADD", "in:z", 1, "m"), cmd!("SET", "in:old", 1)];
        all(&mut source.client(), &before);
        let commands = [
            cmd!("SET", "out:1", "one"),
            cmd!("RENAME", "out:1", "in:1"),
            cmd!("APPEND", "in:1", " and more"),
            cmd!("RPUSH", "out:l", "a", "b", "c"),
            cmd!("RPOPLPUSH", "out:l", "in:l"),
            cmd!("RPUSH", "in:l", "d"),
            cmd!("SADD", "out:s", 1, 2),
            cmd!("SUNIONSTORE", "in:s", "in:s", "out:s"),
            cmd!("SMOVE", "out:s", "in:s", 2),
            cmd!("MULTI"),
            cmd!("INCR", "in:n"),
            cmd!("ZUNIONSTORE", "in:z", 2, "in:z", "out:s"),
            cmd!("INCR", "in:n"),
            cmd!("EXEC"),
            cmd!("RENAME", "in:z", "in:y"),
            cmd!("SORT", "out:l", "ALPHA", "STORE", "in:sorted"),
            cmd!("SETEX", "out:soon", 3000, "x"),
            cmd!("RENAME", "out:soon", "in:old"),
            cmd!("SELECT", 1),
            cmd!("SET", "in:moved", "v"),
            cmd!("MOVE", "in:moved", 0),
            cmd!("SELECT", 0),
            cmd!("SET", "in:end", 1),
        ];
        let flags = ["--exclude", "out:*", "--only-db", "0"];
        let ended = follow((&source, &target), &flags, &commands, (0, "in:end"));
        assert_eq!(ended.report.as_ref().unwrap()["sources"][0]["full_syncs"], 1, "{name}");
        let left_out = [cmd!("DEL", "out:l", "out:s"), cmd!("SELECT", 1), cmd!("FLUSHDB")];
        same_without(&source, &target, &left_out, name);
    }
}

/// What is meant for a whole server ends the run where it could touch what is not this source's.
#[test]
fn what_cannot_be_decided_ends_the_run() {
    for (flags, commands, said) in [
        (
            &["--only-db", "0,1"][..],
            &[cmd!("SET", "key", 1), cmd!("SWAPDB", 1, 2)][..],
            &["SWAPDB", "mend:"][..],
        ),
        (
            &["--only-db", "0,1"],
            &[cmd!("SET", "key", 1), cmd!("FLUSHALL")],
            &["FLUSHALL", "--on-flush ignore"],
        ),
        (
            &["--on-flush", "stop"],
            &[cmd!("SET", "key", 1), cmd!("FLUSHDB")],
            &["FLUSHDB", "--on-flush ignore"],
        ),
    ] {
        let Some((source, target)) = two("redis-7.0.15") else { return };
        // A run that has written nothing is refused; these have.
        let before = cmd!("ZADD", "before", 1, "m");
        all(&mut source.client(), &[before.clone(), cmd!("SELECT", 1), before]);
        let ended = fails(&source, &target, flags, commands);
        ended.assert_code(3);
        for word in said {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    }
}

#[test]
fn flushes() {
    for name in SERVERS {
        let Some((source, target)) = two(name) else { return };
        let write = |db: u32| [cmd!("SELECT", db), cmd!("SET", "a", 1), cmd!("SET", "b", 1)];
        all(&mut source.client(), &[write(0), write(1), write(2)].concat());
        // One source, an empty target, no database chosen: it is meant for all that is there.
        let commands = [cmd!("SELECT", 1), cmd!("FLUSHDB"), cmd!("SET", "end", 1)];
        follow((&source, &target), &["--exclude", "b"], &commands, (1, "end"));
        same_without(
            &source,
            &target,
            &[cmd!("DEL", "b"), cmd!("SELECT", 2), cmd!("DEL", "b")],
            name,
        );

        target.client().call(cmd!("FLUSHALL"));
        let commands = [
            cmd!("SELECT", 2),
            cmd!("FLUSHDB"),
            cmd!("SELECT", 1),
            cmd!("FLUSHALL"),
            cmd!("SET", "the end", 1),
        ];
        let ended = follow(
            (&source, &target),
            &["--only-db", "0,1", "--on-flush", "ignore"],
            &commands,
            (1, "the end"),
        );
        assert_eq!(ended.reported("sources.0.filtered.flushes"), 1);
        assert_eq!(ended.reported("sources.0.filtered.commands"), 1);
        let mut reader = target.client();
        assert_eq!(reader.call(cmd!("GET", "a")), Value::Bulk(b"1".to_vec()));
        reader.select(1);
        assert_eq!(
            reader.call(cmd!("GET", "end")),
            Value::Bulk(b"1".to_vec()),
            "it was passed over"
        );
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let Some((source, target)) = two("redis-7.0.15") else { return };
    source.client().call(cmd!("SET", "key", 1));
    for (flags, said) in [
        (&["--db-map", "0:3"][..], "database 3 keeps its number, and database 0 would get it too"),
        (&["--db-map", "0:3,1:3"], "would both become database 3"),
        (&["--db-map", "03"], "no pair"),
        (&["--only-db", "x"], "no database number"),
        (&["--only-db", "1", "--db-map", "0:1"], "not chosen"),
        (&["--type", "string,tree"], "\"tree\" is no type"),
        (&["--on-flush", "never"], "on-flush"),
    ] {
        let ended = start(&source, &target, &[flags, &["--once"]].concat()).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(said), "{flags:?}: {}", ended.stderr);
    }
    assert_eq!(Dump::read(&mut target.client()).len(), 0, "nothing was written");
}

/// Our patterns match what a server's KEYS match.
#[test]
fn patterns_are_those_of_keys() {
    for name in ["redis-2.8.17", "redis-8.0.6", "valkey-9.1.2"] {
        let Some(server) = Server::start(name) else { return };
        let mut client = server.client();
        let mut dice = Dice::new(7);
        let mut draw = |of: &[u8], most| -> Vec<u8> {
            (0..=dice.below(most)).map(|_| of[dice.below(of.len())]).collect()
        };
        let keys: Vec<Vec<u8>> = (0..400).map(|_| draw(b"abc]-^\\*\xff\x80", 5)).collect();
        all(&mut client, &keys.iter().map(|key| cmd!("SET", key, 1)).collect::<Vec<_>>());
        for _ in 0..1500 {
            let pattern = draw(b"**?[]^-\\abc\xff\x80", 8);
            // Old servers read past the end of a class that ends in a backslash.
            if name == "redis-2.8.17" && pattern.contains(&b'[') && pattern.contains(&b'\\') {
                continue;
            }
            let mut theirs = client.call(cmd!("KEYS", pattern)).strings();
            let glob = Glob::new(&pattern);
            let mut ours: Vec<_> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
            for list in [&mut ours, &mut theirs] {
                list.sort();
                list.dedup();
            }
            assert_eq!(ours, theirs, "{name}: {}", pattern.escape_ascii());
        }
    }
}
