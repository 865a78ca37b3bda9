//! `--dry-run --census`: figures of sources of several versions, and the names that they share, with nothing written to anybody.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::asking;
use crate::client::cmd;
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(60);

/// Takes a census of these sources.
fn census(from: &[&str], to: &str, flags: &[&str]) -> Ended {
    let from = from.iter().flat_map(|url| ["--from", url]).collect::<Vec<_>>();
    let args = [&["sync", "--dry-run", "--census", "--to", to], from.as_slice(), flags].concat();
    Understudy::start(&args).wait(PATIENCE)
}

/// Some keys with the names `PREFIX:FROM` to `PREFIX:TO`.
fn fill(server: &Server, db: u32, prefix: &str, numbers: std::ops::Range<u32>) {
    let mut client = server.client();
    client.select(db);
    let sets: Vec<_> =
        numbers.map(|n| cmd!("SET", format!("{prefix}:{n}"), format!("value {n}"))).collect();
    client.pipeline(&sets);
}

/// Some value of a report, by name.
fn named<'a>(list: &'a Value, name: &str, value: &str) -> &'a Value {
    let mut each = list.as_array().unwrap().iter();
    each.find(|one| one[name] == value).unwrap_or_else(|| panic!("no {name} {value} in {list}"))
}

#[test]
fn sources_of_all_kinds_are_counted_and_nothing_is_written() {
    let started = ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2", "redis-7.0.15"]
        .map(Server::start);
    let [Some(old), Some(five), Some(seven), Some(valkey), Some(target)] = started else { return };
    fill(&old, 0, "user", 0..300);
    fill(&five, 0, "user", 200..500);
    fill(&seven, 0, "session", 0..100);
    fill(&seven, 3, "user", 0..50);
    fill(&valkey, 0, "cart", 0..40);
    let mut client = seven.client();
    client.call(cmd!("HSET", "profile/1", "name", "x".repeat(5000)));
    client.call(cmd!("RPUSH", "jobs", "a", "b"));
    client.call(cmd!("SADD", "tags", "a", "b"));
    client.call(cmd!("ZADD", "scores", 1, "a"));
    client.call(cmd!("XADD", "log", "*", "f", "v"));
    for (key, seconds) in [("session:1", 30), ("session:2", 600), ("session:3", 7200)] {
        client.call(cmd!("EXPIRE", key, seconds));
    }
    client.call(cmd!("EXPIRE", "session:4", 10 * 86_400));
    client.call(cmd!("EXPIRE", "session:5", 100 * 86_400));
    // A file that shares a name with Valkey.
    fill(&target, 0, "cart", 39..45);
    let folder = TempDir::new().unwrap();
    target.client().call(cmd!("SAVE")).ok();
    let file = folder.path().join("carts.rdb");
    fs::copy(target.folder().join("dump.rdb"), &file).unwrap();
    target.client().call(cmd!("FLUSHALL"));
    // And a target that shares one with 7.0.
    fill(&target, 0, "session", 99..101);
    target.client().call(cmd!("SET", "understudy:other", "its own"));

    let servers = [&old, &five, &seven, &valkey, &target];
    let before = servers.map(Server::digest);
    let writes =
        |server: &Server| server.client().info("persistence", "rdb_changes_since_last_save");
    let written = writes(&target);
    let urls = servers.map(Server::url);
    let from = [&urls[0], &urls[1], &urls[2], &urls[3], file.to_str().unwrap()];
    let ended = census(&from, &urls[4], &["--on-conflict", "keep"]);
    // A file cannot be asked for a key that another source has too, so no run would be begun; they are counted all the same.
    ended.assert_code(2);
    assert_eq!(servers.map(Server::digest), before);
    assert_eq!(writes(&target), written);
    assert_eq!(*ended.reported("outcome"), "refused");
    assert_eq!(*ended.reported("totals.keys"), 0, "nothing was written");

    let found = ended.reported("census");
    let keys: Vec<_> =
        (0..5).map(|at| found["sources"][at]["counted"]["counts"]["keys"].clone()).collect();
    assert_eq!(json!(keys), json!([300, 300, 155, 40, 6]));
    let counts = &found["counts"];
    assert_eq!((&counts["keys"], &counts["with_deadline"]), (&json!(801), &json!(5)));
    let types = &counts["types"];
    assert_eq!(named(types, "type", "string")["keys"], 796);
    for kind in ["list", "set", "zset", "hash", "stream"] {
        assert_eq!(named(types, "type", kind)["keys"], 1, "{kind}");
    }
    assert_eq!(
        counts["time_to_live"],
        json!({ "none": 796, "past": 0, "under_1m": 1, "under_1h": 1, "under_1d": 1, "under_30d": 1, "more": 1 })
    );
    let largest = &found["largest"][0];
    assert_eq!((&largest["key"], &largest["type"]), (&json!("profile/1"), &json!("hash")));
    // A value of one letter over and over is compressed.
    assert!(largest["bytes"].as_u64().unwrap() > 50, "{largest}");
    let prefixes = &found["prefixes"];
    assert_eq!(prefixes["approximate"], false);
    assert_eq!(named(&prefixes["each"], "prefix", "user:")["keys"], 650);
    assert_eq!(named(&prefixes["each"], "prefix", "profile/")["keys"], 1);
    assert_eq!(named(&prefixes["each"], "prefix", "")["keys"], 4);

    let collisions = &found["collisions"];
    assert_eq!(collisions["names"], 801 + 2 - 102);
    assert_eq!(
        (&collisions["between_sources"], &collisions["with_target"], &collisions["colliding"]),
        (&json!(101), &json!(1), &json!(102))
    );
    let name = |server: &Server| format!("127.0.0.1:{}", server.port);
    let file_name = found["sources"][4]["name"].as_str().unwrap().to_owned();
    let target_name = format!("target {}", name(&target));
    assert_eq!(
        collisions["pairs"],
        json!([
            { "first": name(&old), "second": name(&five), "keys": 100 },
            { "first": name(&seven), "second": target_name, "keys": 1 },
            { "first": name(&valkey), "second": file_name, "keys": 1 },
        ])
    );
    let all = collisions["named"].as_array().unwrap();
    assert_eq!(all.len(), 100);
    for one in all {
        let places = one["in"].as_array().unwrap();
        assert_eq!(places.len(), 2, "{one}");
        let key = one["key"].as_str().unwrap();
        let number: u32 = key.split(':').next_back().unwrap().parse().unwrap();
        match key.split(':').next().unwrap() {
            "user" => assert!(
                (200..300).contains(&number) && one["in"] == json!([name(&old), name(&five)])
            ),
            "session" => assert!(number == 99 && one["in"] == json!([name(&seven), target_name])),
            "cart" => assert!(number == 39 && one["in"] == json!([name(&valkey), file_name])),
            _ => panic!("{one}"),
        }
    }
    for line in [
        "collisions: 102 of 701 names",
        "2 keys of the target were compared too",
        "user:",
        "a copy takes about",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("4 masters fork"), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing was written"), "{}", ended.stderr);

    // Nothing tells what shall become of the target's keys: refused, as without a census, and counted all the same.
    let ended = census(&[&urls[2]], &urls[4], &[]);
    ended.assert_code(2);
    assert!(ended.stderr.contains("already holds 2 keys"), "{}", ended.stderr);
    assert_eq!(*ended.reported("census.collisions.with_target"), 1);
    assert_eq!(*ended.reported("outcome"), "refused");
    // Each of the target's keys may be replaced, and one source collides with nobody else.
    census(&[&urls[2]], &urls[4], &["--on-conflict", "replace"]).assert_code(0);
    assert_eq!(servers.map(Server::digest), before);
}

#[test]
fn the_rules_hold_for_what_is_counted_and_for_the_names() {
    let started = [
        Server::start("redis-5.0.6"),
        Server::start("redis-7.0.15"),
        Server::start("redis-7.0.15"),
    ];
    let [Some(one), Some(other), Some(target)] = started else { return };
    fill(&one, 0, "user", 0..10);
    fill(&one, 0, "tmp", 0..7);
    fill(&other, 0, "user", 0..10);
    fill(&other, 2, "user", 0..4);
    one.client().call(cmd!("RPUSH", "list", "a"));
    other.client().call(cmd!("RPUSH", "list", "a"));
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("two.toml");
    let counted = |rules: [&str; 2]| {
        let text = format!(
            "[target]\nurl = \"{}\"\n[[source]]\nurl = \"{}\"\nname = \"one\"\n{}\n[[source]]\nurl = \"{}\"\nname = \"other\"\n{}\n",
            target.url(),
            one.url(),
            rules[0],
            other.url(),
            rules[1]
        );
        fs::write(&config, text).unwrap();
        let args = ["sync", "--dry-run", "--census", "--config", config.to_str().unwrap()];
        let ended = Understudy::start(&args).wait(PATIENCE);
        let found = ended.reported("census");
        let counts = |at: usize| {
            let counts = &found["sources"][at]["counted"]["counts"];
            [counts["keys"].as_u64().unwrap(), counts["left_out"].as_u64().unwrap()]
        };
        let colliding = found["collisions"]["colliding"].as_u64().unwrap();
        (ended.code.unwrap(), counts(0), counts(1), colliding)
    };
    assert_eq!(counted(["", ""]), (1, [18, 0], [15, 0], 11));
    assert_eq!(counted(["exclude = \"tmp:*\"", "type = \"string\""]), (1, [11, 7], [14, 1], 10));
    // Its other database takes the place of the first.
    let moved = "only_db = 2\ndb_map = \"2:0\"";
    assert_eq!(counted(["", moved]), (1, [18, 0], [4, 11], 4));
    // Names are those of the target: under prefixes of their own they do not meet, and where a prefix makes one the other's they do.
    assert_eq!(counted(["prefix = \"a:\"", "prefix = \"b:\""]), (0, [18, 0], [15, 0], 0));
    assert_eq!(counted(["include = \"list\"\nprefix = \"x\"", "include = \"user:*\""]).3, 0);
    let apart = "only_db = 0\ndb_map = \"0:1\"";
    assert_eq!(counted(["", apart]), (0, [18, 0], [11, 4], 0));
    assert_eq!(counted(["include = \"tmp:*\"", ""]), (0, [7, 11], [15, 0], 0));
    one.client().call(cmd!("SET", "7", "a"));
    assert_eq!(
        counted(["include = \"7\"\nprefix = \"user:\"", "only_db = 0"]),
        (1, [1, 18], [11, 4], 1)
    );
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 0);
}

#[test]
fn a_file_as_the_target_has_a_policy_between_sources() {
    let (Some(one), Some(other)) = (Server::start("redis-7.0.15"), Server::start("valkey-9.1.2"))
    else {
        return;
    };
    fill(&one, 0, "user", 0..10);
    fill(&other, 0, "user", 9..20);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.rdb");
    let (from, to) = ([one.url(), other.url()], out.to_str().unwrap());
    let from = [from[0].as_str(), &from[1]];
    let spool = ["--spool", folder.path().to_str().unwrap()];
    let ended = census(&from, to, &spool);
    ended.assert_code(1);
    assert_eq!(*ended.reported("census.collisions.between_sources"), 1);
    let ended = census(&from, to, &[spool.as_slice(), &["--on-conflict", "keep"]].concat());
    ended.assert_code(0);
    assert_eq!(*ended.reported("census.would_stop"), false);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file was left or made");
}

#[test]
fn it_is_a_part_of_a_dry_run() {
    let args = ["sync", "--census", "--from", "redis://127.0.0.1:1", "--to", "redis://127.0.0.1:2"];
    let ended = Understudy::start(&args).wait(PATIENCE);
    ended.assert_code(2);
    assert!(ended.stderr.contains("give --dry-run too"), "{}", ended.stderr);
}

#[test]
fn a_target_that_is_too_small_is_warned_of() {
    let (Some(source), Some(target)) =
        (Server::start("redis-6.2.14"), Server::start("redis-7.0.15"))
    else {
        return;
    };
    source.client().call(cmd!("DEBUG", "POPULATE", 50_000, "key", 100));
    target.client().call(cmd!("CONFIG", "SET", "maxmemory", "4mb")).ok();
    let ended = census(&[&source.url()], &target.url(), &[]);
    ended.assert_code(0);
    assert!(ended.stderr.contains("raise maxmemory there"), "{}", ended.stderr);
    let forecast = ended.reported("census.forecast");
    let used: f64 = source.client().info("memory", "used_memory").parse().unwrap();
    let memory = forecast["memory_bytes"].as_f64().unwrap();
    assert!((memory / used - 1.0).abs() < 0.2, "{memory} of {used}");
    assert_eq!(forecast["target_memory_bytes"], 4 << 20);
    target.client().call(cmd!("CONFIG", "SET", "maxmemory", "400mb")).ok();
    let ended = census(&[&source.url()], &target.url(), &["--exclude", "key:*"]);
    ended.assert_code(0);
    assert!(!ended.stderr.contains("maxmemory"), "{}", ended.stderr);
    assert_eq!(*ended.reported("census.forecast.memory_bytes"), 0);
}

#[test]
fn a_disk_that_has_no_room_is_said() {
    let (Some(source), Some(target)) =
        (Server::start("redis-7.0.15"), Server::start("redis-7.0.15"))
    else {
        return;
    };
    source.client().call(cmd!("DEBUG", "POPULATE", 5000, "key", 10));
    let (from, to) = (source.url(), target.url());
    // What is known beforehand is refused: no master forks for it.
    for (limit, said) in [("0", "--spool-limit 0"), ("100KiB", "5000 keys there, about 1 MiB")] {
        let ended = census(&[&from], &to, &["--spool-limit", limit]);
        ended.assert_code(2);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert_eq!(*ended.reported("sources.0.full_syncs"), 0);
    }
    let args = ["sync", "--dry-run", "--census", "--from", &from, "--to", &to];
    let ended = Understudy::start_with_small_files(&args, 16 << 10).wait(PATIENCE);
    ended.assert_code(3);
    assert!(ended.stderr.contains("cannot write"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("give --spool a folder on a disk that has room"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.report.unwrap()["census"]["collisions"], Value::Null);
}

#[test]
fn a_disk_that_gets_full_in_the_midst_is_said() {
    let started = [Server::start("redis-7.0.15"), Server::start("redis-7.0.15")];
    let [Some(source), Some(target)] = started else { return };
    source.client().call(cmd!("DEBUG", "POPULATE", 200_000, "key", 10));
    let (from, to) = (source.url(), target.url());
    let args = ["sync", "--dry-run", "--census", "--memory", "2MiB", "--from", &from, "--to", &to];
    let ended = Understudy::start_with_small_files(&args, 1 << 20).wait(PATIENCE);
    ended.assert_code(3);
    assert!(ended.stderr.contains("cannot write"), "{}", ended.stderr);
    assert_eq!(*ended.reported("outcome"), "failed");
    assert_eq!(*ended.reported("sources.0.outcome"), "failed");
    // With room it fits into the same memory.
    let ended = Understudy::start(&args).wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(*ended.reported("census.collisions.names"), 200_000);
}

#[test]
fn what_a_job_has_brought_itself_is_no_collision() {
    let (Some(source), Some(target)) =
        (Server::start("redis-5.0.6"), Server::start("redis-7.0.15"))
    else {
        return;
    };
    fill(&source, 0, "user", 0..10);
    let (from, to) = (source.url(), target.url());
    let run = Understudy::start(&["sync", "--from", &from, "--to", &to, "--progress", "json"]);
    run.tells("\"phase\":\"following\"", PATIENCE);
    let ended = run.beside(&["sync", "--dry-run", "--census", "--from", &from, "--to", &to]);
    ended.assert_code(0);
    assert!(ended.stdout.contains("the target's keys are this job's own"), "{}", ended.stdout);
    assert_eq!(*ended.reported("census.collisions.colliding"), 0);
    run.end_job(PATIENCE).assert_code(130);
}

/// A server that takes seconds to send these keys.
fn slow(keys: usize) -> Option<Server> {
    let slow = [
        "--rdb-key-save-delay",
        "1000",
        "--repl-diskless-sync",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
    ];
    let server = Server::start_with("redis-7.0.15", &slow)?;
    server.client().call(cmd!("DEBUG", "POPULATE", keys, "key", 1000));
    Some(server)
}

#[test]
fn a_data_set_that_was_cut_off_is_read_once_more_and_counted_once() {
    let (Some(source), Some(target)) = (slow(2000), Server::start("redis-7.0.15")) else { return };
    let (from, to) = (source.url(), target.url());
    let args =
        ["sync", "--dry-run", "--census", "--from", &from, "--to", &to, "--progress", "json"];
    let mut client = source.client();
    let cut = |run: &Understudy, client: &mut crate::client::Client| {
        run.tells("\"phase\":\"counting\"", PATIENCE);
        assert_eq!(client.call(cmd!("CLIENT", "KILL", "TYPE", "replica")).int(), 1);
    };
    let run = Understudy::start(&args);
    cut(&run, &mut client);
    let ended = run.wait(PATIENCE);
    ended.assert_code(0);
    assert!(ended.stderr.contains("is read once more"), "{}", ended.stderr);
    assert_eq!(*ended.reported("sources.0.full_syncs"), 2);
    assert_eq!(*ended.reported("census.counts.keys"), 2000);
    assert_eq!(*ended.reported("census.collisions.names"), 2000);
    assert_eq!(*ended.reported("census.collisions.colliding"), 0);

    // It forks each time, so it is not asked for a third one.
    let mut run = Understudy::start(&args);
    cut(&run, &mut client);
    let killed = asking::within(PATIENCE, || {
        // The first link is gone; the second one comes after a pause.
        client.call(cmd!("CLIENT", "KILL", "TYPE", "replica"));
        !run.is_running()
    });
    assert!(killed);
    let ended = run.wait(PATIENCE);
    ended.assert_code(3);
    assert!(ended.stderr.contains("the copy was cut off"), "{}", ended.stderr);
    assert!(ended.stderr.contains("forks each time"), "{}", ended.stderr);
}

#[test]
fn a_census_is_stopped_as_a_run_is() {
    let (Some(source), Some(target)) = (slow(20_000), Server::start("redis-7.0.15")) else {
        return;
    };
    let (from, to) = (source.url(), target.url());
    let args =
        ["sync", "--dry-run", "--census", "--from", &from, "--to", &to, "--progress", "json"];
    let mut run = Understudy::start(&args);
    run.tells("\"phase\":\"counting\"", PATIENCE);
    run.interrupt();
    let ended = run.wait(PATIENCE);
    ended.assert_code(130);
    assert!(ended.stderr.contains("not counted to the end"), "{}", ended.stderr);
    assert_eq!(*ended.reported("outcome"), "stopped");
}

#[test]
fn many_keys_take_no_more_memory() {
    let (Some(source), Some(target)) =
        (Server::start("redis-7.0.15"), Server::start("redis-7.0.15"))
    else {
        return;
    };
    for name in ["a", "b"] {
        source.client().call(cmd!("DEBUG", "POPULATE", 400_000, name, 10));
    }
    let (from, to) = (source.url(), target.url());
    let args = ["sync", "--dry-run", "--census", "--from", &from, "--to", &to];
    let (peak, ended) = Understudy::start(&args).wait_with_peak(PATIENCE);
    ended.assert_code(0);
    assert_eq!(*ended.reported("census.counts.keys"), 800_000);
    assert!(peak <= 64, "{peak} MiB");
    assert!(ended.reported("census.disk_bytes").as_u64().unwrap() > 8_000_000);
}
