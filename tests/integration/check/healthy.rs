//! Nothing is wrong, and nothing is changed.

use crate::client::{Client, Value, cmd};
use crate::servers::{ALL, Server};
use crate::tool::Understudy;

use super::{PATIENCE, SERVER, check, check_pair};

#[test]
fn a_healthy_pair_is_quiet() {
    for name in ALL {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            continue;
        };
        source.client().call(cmd!("SET", "key", "value"));
        let found = check_pair(&source, &target);
        found.is_quiet();
        assert_eq!(found.all("note").len(), 0, "{name}: {:#}", found.json);
        assert_eq!(found.json["unseen"].as_array().unwrap().len(), 0, "{name}: {:#}", found.json);
        assert_eq!(found.ended.stderr, "", "{name}");
        let place = &found.json["places"][0];
        assert_eq!((&place["keys"], &place["keys_looked_at"]), (&1.into(), &1.into()), "{name}");
        assert!(place["bytes_a_second"].as_u64().unwrap() > 1 << 20, "{name}: {place}");
        assert!(place["round_trip_us"].is_u64(), "{name}: {place}");
    }
}

/// What a server is like, as far as a check could change it.
fn state(client: &mut Client) -> Vec<String> {
    let mut state = vec![
        format!("{:?}", client.call(cmd!("DEBUG", "DIGEST"))),
        format!("{:?}", client.call(cmd!("CONFIG", "GET", "*"))),
    ];
    for (section, line) in [
        ("persistence", "rdb_changes_since_last_save"),
        ("persistence", "rdb_last_save_time"),
        ("persistence", "rdb_bgsave_in_progress"),
        ("stats", "sync_full"),
        ("stats", "latest_fork_usec"),
        ("stats", "total_forks"),
        ("stats", "expired_keys"),
        ("memory", "number_of_cached_scripts"),
        ("replication", "connected_slaves"),
        ("replication", "master_repl_offset"),
        ("replication", "repl_backlog_active"),
    ] {
        state.push(format!("{line}: {}", client.info(section, line)));
    }
    if let Value::Array(users) = client.try_call(cmd!("ACL", "LIST")) {
        state.push(format!("{users:?}"));
    }
    state
}

#[test]
fn nothing_is_changed() {
    for name in ALL {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            continue;
        };
        for server in [&source, &target] {
            let mut client = server.client();
            client.call(cmd!("RPUSH", "list", "a", "b"));
            client.call(cmd!("SET", "big", "x".repeat(1 << 20)));
        }
        let before = [&source, &target].map(|server| state(&mut server.client()));
        let found = check_pair(&source, &target);
        found.has("blocks", "keys-there", &["the target already holds 2 keys"]);
        let after = [&source, &target].map(|server| state(&mut server.client()));
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn what_is_found_stands_below_its_place() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    source.client().call(cmd!("CONFIG", "SET", "repl-timeout", 5));
    target.client().call(cmd!("SET", "key", 1));
    let (from, to) = (source.url(), target.url());
    let ended = Understudy::start(&["check", "--from", &from, "--to", &to]).wait(PATIENCE);
    ended.assert_code(2);
    let text = ended.stdout.replace(&source.port.to_string(), "SOURCE");
    let text = text.replace(&target.port.to_string(), "TARGET");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("source 127.0.0.1:SOURCE: Redis 7.0.15, RDB 10, master, 0 keys"),
        "{text}"
    );
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 100), "{text}");
    let at = |words: &str| lines.iter().position(|line| line.starts_with(words)).expect(words);
    let warning =
        at("  warning repl-timeout: it drops a replica that is silent for 5 s (repl-timeout)");
    let mend = at("      mend: on the source: CONFIG SET repl-timeout 60");
    let second = at("target 127.0.0.1:TARGET: Redis 7.0.15");
    let blocks = at("  BLOCKS keys-there: the target already holds 1 keys");
    assert!(warning < mend && mend < second && second < blocks, "{text}");
    let last = "a run would be refused or come to nothing: 1 blocker, 1 warning";
    assert_eq!(lines.last(), Some(&last), "{text}");
    assert!(ended.stderr.starts_with("looking at one source and 127.0.0.1:"), "{}", ended.stderr);

    target.client().call(cmd!("DEL", "key"));
    source.client().call(cmd!("CONFIG", "SET", "repl-timeout", 60));
    let ended = Understudy::start(&["check", "--from", &from, "--to", &to]).wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(ended.stdout.matches("  nothing found\n").count(), 2, "{}", ended.stdout);
    assert!(
        ended.stdout.ends_with("nothing stands in the way: 0 blockers, 0 warnings\n"),
        "{}",
        ended.stdout
    );
}

/// A file may stand on either side.
#[test]
fn files_are_looked_at_as_far_as_they_are_read() {
    let Some(source) = Server::start(SERVER) else { return };
    source.client().call(cmd!("SET", "key", 1));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.rdb");
    let file = file.to_str().unwrap();
    check(&[&source.url()], file, &[]).is_quiet();
    let found = check(&[file], &source.url(), &["--on-conflict", "replace"]);
    found.has("blocks", "unreachable", &["made.rdb", "No such file"]);
}

/// The sources of a file are looked at under their names and their rules.
#[test]
fn the_sources_of_a_file() {
    let (Some(one), Some(other), Some(target)) =
        (Server::start(SERVER), Server::start("redis-2.8.17"), Server::start(SERVER))
    else {
        return;
    };
    one.client().call(cmd!("CONFIG", "SET", "repl-timeout", 5));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("night.toml");
    let text = format!(
        "[target]\nurl = \"{}\"\n[[source]]\nurl = \"{}\"\nname = \"orders\"\nonly_db = 3\n[[source]]\nurl = \"{}\"\nname = \"carts\"\n",
        target.url(),
        one.url(),
        other.url()
    );
    std::fs::write(&file, text).unwrap();
    let args = ["check", "--config", file.to_str().unwrap()];
    let ended = Understudy::start(&args).wait(PATIENCE);
    ended.assert_code(0);
    for line in [
        "source orders: Redis 7.0.15, RDB 10, master",
        "  warning empty-database: nothing is in database 3, which is chosen",
        "  warning repl-timeout: ",
        "source carts: Redis 2.8.17, RDB 6, master",
        "nothing stands in the way: 0 blockers, 2 warnings",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
}

/// It ends at once when it is told to, whatever a server does.
#[test]
fn it_can_be_stopped() {
    let Some(target) = Server::start(SERVER) else { return };
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let from = format!("redis://{}", listener.local_addr().unwrap());
    let to = target.url();
    let mut running = Understudy::start(&["check", "--from", &from, "--to", &to]);
    // It is there, and waits for an answer that does not come.
    let _silent = listener.accept().unwrap();
    running.interrupt();
    let ended = running.wait(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.ends_with("stopped before all was looked at\n"), "{}", ended.stderr);
}
