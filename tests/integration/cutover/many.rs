//! Several sources.

use std::sync::Arc;

use crate::client::cmd;
use crate::servers::Server;
use crate::tool::Understudy;

use super::PATIENCE;
use super::followed::{Writer, fill};

/// Job and switch in one command, and what is done at GO.
#[test]
fn all_of_it_in_one_go() {
    let servers = [
        Server::start("redis-6.2.14"),
        Server::start("redis-2.8.17"),
        Server::start("valkey-9.1.2"),
    ];
    let [Some(first), Some(second), Some(target)] = servers else { return };
    fill(&first, &target);
    for key in 0..1000 {
        second.client().call(cmd!("SETEX", format!("of-the-old:{key}"), 9000, key));
    }
    let writer = Writer::start(first.port);
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let on_go = format!("echo $UNDERSTUDY_PAUSE_MS > {}", note.display());
    let (a, b, to) = (first.url(), second.url(), target.url());
    let ended = Understudy::start(&[
        "cutover",
        "--from",
        &a,
        "--from",
        &b,
        "--to",
        &to,
        "--fence",
        "min-replicas",
        "--on-go",
        &on_go,
        "--max-pause",
        "10s",
    ])
    .wait(PATIENCE);
    let written = writer.end();
    ended.assert_code(0);
    assert!(ended.stdout.lines().any(|line| line.starts_with("GO ")), "{}", ended.stdout);
    let pause: u64 = std::fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    assert!(pause < 10_000);
    let mut client = target.client();
    written.assert_is_in(&mut client, "in one go");
    assert_eq!(client.call(cmd!("EXISTS", "of-the-old:7")).int(), 1);
}

/// Two sources that are databases of one server: one fence, and nobody ends the other's connections in its midst.
#[test]
fn databases_of_one_server_are_fenced_once() {
    let (Some(source), Some(target)) =
        (Server::start("redis-7.0.15"), Server::start("redis-7.0.15"))
    else {
        return;
    };
    let mut client = source.client();
    for db in 0..6 {
        client.select(db);
        client.call(cmd!("SET", "key", db));
    }
    let (urls, to) =
        (Vec::from_iter((0..6).map(|db| format!("{}/{db}", source.url()))), target.url());
    let from = urls.iter().flat_map(|url| ["--from", url]).collect::<Vec<_>>();
    for (fence, flags) in [("acl", &[][..]), ("min-replicas", &["--on-conflict", "replace"])] {
        let args = [&["cutover", "--to", &to, "--fence", fence], from.as_slice(), flags].concat();
        let state = Arc::new(tempfile::tempdir().unwrap());
        let ended = Understudy::start_telling_in(&args, &state).wait(PATIENCE);
        ended.assert_code(0);
        assert!(ended.stderr.contains(&format!("{fence} stands on 1 server")), "{}", ended.stderr);
        assert!(source.client().try_call(cmd!("SET", "x", 1)).is_error(), "{fence}");
        let lift = [&["cutover", "--lift", "--to", &to], from.as_slice()].concat();
        Understudy::start_telling_in(&lift, &state).wait(PATIENCE).assert_code(0);
        client = source.client();
        assert_eq!(client.call(cmd!("SET", "x", 1)).text(), "OK", "{fence}");
        client.call(cmd!("DEL", "x"));
    }
}
