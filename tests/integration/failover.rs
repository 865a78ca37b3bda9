//! A source that is told to hand its place to one of its replicas, while we look like one: it must never be us.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::asking;
use crate::client::{Client, Command, Value, cmd};
use crate::judge::{self, Dump};
use crate::replicas;
use crate::servers::{ALL, Server};
use crate::sync;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(20);

/// Those that know `FAILOVER`.
const KNOW_FAILOVER: [&str; 4] = ["redis-6.2.14", "redis-7.0.15", "redis-8.0.6", "valkey-9.1.2"];

/// A sync that follows.
fn follow(source: &Server, target: &Server) -> Understudy {
    let mut running = Understudy::start(&["sync", "--from", &source.url(), "--to", &target.url()]);
    source.client().call(cmd!("SET", "begun", 1));
    assert!(Client::wait_for_key(target.port, 0, "begun", PATIENCE, || running.is_running()));
    running
}

/// How a source stands: its role, and how far a failover is.
fn stands(client: &mut Client) -> (String, String) {
    let role = client.info("replication", "role");
    (role, client.info("replication", "master_failover_state"))
}

fn is_master_at_rest(client: &mut Client) -> bool {
    stands(client) == ("master".to_owned(), "no-failover".to_owned())
}

/// A field of the line that a master has about its replica of this number.
fn of_replica(client: &mut Client, number: usize, field: &str) -> Option<String> {
    let line = client.info("replication", &format!("slave{number}"));
    let mut fields = line.split(',').filter_map(|field| field.split_once('='));
    fields.find_map(|(name, value)| (name == field).then(|| value.to_owned()))
}

/// Waits until we have acknowledged all but the last byte of what the source has said: more we never do. Writes are held while it
/// waits for a replica, so that nothing is added meanwhile.
fn wait_for_all_but_one(client: &mut Client) {
    asking::until("all but one byte is acknowledged", PATIENCE, || {
        let said: u64 = client.info("replication", "master_repl_offset").parse().unwrap();
        let has = of_replica(client, 0, "offset").and_then(|offset| offset.parse().ok());
        assert!(has.is_none_or(|has: u64| has < said), "{has:?} of {said} is acknowledged");
        has == Some(said - 1)
    });
}

/// Counts in the source until it is told to end, and gives how often it was answered. Nothing is refused.
fn count(port: u16, ends: &AtomicBool) -> i64 {
    let mut client = Client::connect(port);
    let mut counted = 0;
    while !ends.load(Ordering::Relaxed) {
        let replies = client.pipeline(&[cmd!("INCR", "count"), cmd!("RPUSH", "list", counted)]);
        counted += 1;
        assert_eq!(replies, [Value::Int(counted), Value::Int(counted)]);
    }
    counted
}

/// We are its only replica. Whatever it is asked for, it stays what it is.
fn never_chooses_us(name: &'static str) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let running = follow(&source, &target);
    let mut client = source.client();
    let ends = AtomicBool::new(false);
    let counted = thread::scope(|scope| {
        let counting = scope.spawn(|| count(source.port, &ends));
        let writes_go_on = |client: &mut Client| {
            let counted = |client: &mut Client| client.call(cmd!("LLEN", "list")).int();
            let before = counted(client);
            asking::until("writes go on", PATIENCE, || counted(client) > before + 1);
        };
        writes_go_on(&mut client);

        // It waits for a replica that has all, and for as long as it is let.
        client.call(cmd!("FAILOVER"));
        wait_for_all_but_one(&mut client);
        assert_eq!(stands(&mut client), ("master".to_owned(), "waiting-for-sync".to_owned()));
        client.call(cmd!("FAILOVER", "ABORT"));
        assert!(is_master_at_rest(&mut client), "{name}");
        writes_go_on(&mut client);

        // The second is told our own address, as the source knows it: it has no port there.
        let to_us: Command = cmd!("FAILOVER", "TO", "127.0.0.1", 0, "TIMEOUT", 500);
        for failover in [cmd!("FAILOVER", "TIMEOUT", 500), to_us] {
            client.call(failover);
            assert_eq!(stands(&mut client).1, "waiting-for-sync", "{name}");
            asking::until("it gives up", PATIENCE, || {
                assert_eq!(stands(&mut client).0, "master", "{name}");
                is_master_at_rest(&mut client)
            });
            writes_go_on(&mut client);
        }
        // One that is no replica.
        assert!(client.try_call(cmd!("FAILOVER", "TO", "127.0.0.1", 1)).is_error());
        writes_go_on(&mut client);
        ends.store(true, Ordering::Relaxed);
        counting.join().unwrap()
    });
    assert!(is_master_at_rest(&mut client), "{name}");

    wait_for_all_but_one(&mut client);
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    // The link was never lost.
    assert_eq!(ended.reported("sources.0.full_syncs"), 1, "{name}");
    assert_eq!(ended.reported("sources.0.partial_syncs"), 0, "{name}");
    let (first, second) = (Dump::read(&mut client), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, sync::untold(&source), name);
    assert_eq!(target.client().call(cmd!("GET", "count")).text(), counted.to_string(), "{name}");
}

/// A replica of its own stands beside us: that one is chosen, and the source, which follows it then, is followed by us as before. And back.
fn chooses_the_other(name: &'static str) {
    let (Some(source), Some(replica), Some(target)) =
        (Server::start(name), Server::start(name), Server::start(name))
    else {
        return;
    };
    // We come first: an order of the source's list would prefer us.
    let mut running = follow(&source, &target);
    let (mut old, mut new) = (source.client(), replica.client());
    new.call(cmd!("REPLICAOF", "127.0.0.1", source.port));
    replicas::caught_up(&mut old, &mut new);
    let mut counted = 0;
    for (from, to, port, key) in
        [(&source, &replica, replica.port, "there"), (&replica, &source, source.port, "back")]
    {
        let (mut from, mut to) = (from.client(), to.client());
        for _ in 0..100 {
            from.call(cmd!("INCR", "count"));
            counted += 1;
        }
        from.call(cmd!("FAILOVER"));
        asking::until("it has changed places", PATIENCE, || {
            stands(&mut from) == ("slave".to_owned(), "no-failover".to_owned())
                && is_master_at_rest(&mut to)
        });
        assert_eq!(from.info("replication", "master_port"), port.to_string(), "{name}");
        to.call(cmd!("INCR", "count"));
        counted += 1;
        to.call(cmd!("SET", key, 1));
        assert!(
            Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running()),
            "{name}: {key}"
        );
    }
    assert!(is_master_at_rest(&mut old), "{name}");
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.full_syncs"), 1, "{name}");
    let (first, second) = (Dump::read(&mut old), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, sync::untold(&source), name);
    assert_eq!(target.client().call(cmd!("GET", "count")).text(), counted.to_string(), "{name}");
}

#[test]
fn a_source_whose_only_replica_we_are_stays_the_master() {
    KNOW_FAILOVER.into_iter().for_each(never_chooses_us);
}

#[test]
fn a_replica_of_its_own_is_chosen_before_us() {
    KNOW_FAILOVER.into_iter().for_each(chooses_the_other);
}

/// A Sentinel reads from this line where a replica can be reached, and promotes none that cannot.
#[test]
fn no_master_lists_a_port_of_ours() {
    for name in ALL {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            continue;
        };
        let running = follow(&source, &target);
        let port = of_replica(&mut source.client(), 0, "port");
        assert_eq!(port.as_deref(), Some("0"), "{name}");
        running.end_job(PATIENCE).assert_code(130);
    }
}
