//! Each server and its own replica: what the tests write is valid on every version, and the judge finds both equal.

use std::time::{Duration, Instant};

use crate::client::{Client, cmd};
use crate::data::{self, Holds};
use crate::judge::{self, Dump, Forgiving};
use crate::load::{self, Load};
use crate::servers::Server;

/// What a replica is not told, so that it cannot be compared.
pub(crate) fn untold(server: &Server) -> Forgiving {
    Forgiving {
        // Up to 6.2 relative deadlines come as they were given, and count from when they arrive.
        deadline_ms: if server.version.at_least(7, 0) { 0 } else { 10_000 },
        entries_read: server.version.at_least(7, 0) && !server.version.at_least(7, 4),
    }
}

fn follow_the_load(name: &'static str) {
    let (Some(master), Some(replica)) = (Server::start(name), Server::start(name)) else { return };
    let mut writer = master.client();
    let holds = Holds::of(&mut writer);
    data::fill(&mut writer, master.version, holds);
    let mut load = Load::new(7, master.version, holds);
    let before = load.send(&mut writer, 1000);
    assert_eq!(before.refused, Vec::<String>::new());

    load::slow_copies(&mut writer);
    // Else 8.0 is told the copy's offset on another link, at its end.
    let _ = replica.client().try_call(cmd!("CONFIG", "SET", "repl-rdb-channel", "no"));
    replica.client().call(cmd!("SLAVEOF", "127.0.0.1", master.port));
    load.flush_soon();
    let during = load.send_during_copy(&mut writer, 5000);
    let after = load.send(&mut writer, 10_000 - during.sent.writes);
    load.end(&mut writer);
    assert_eq!([during.sent.refused.clone(), after.refused].concat(), Vec::<String>::new());
    let within = during.within(replica.full_resync());
    assert!(within >= 1000, "{within} writes up to offset {}", during.unfinished);

    let mut reader = master.client();
    let first = Dump::read(&mut reader);
    // Reading makes the master drop what is dead, and say so.
    caught_up(&mut reader, &mut replica.client());
    let second = Dump::read(&mut replica.client());
    judge::assert_same(&first, &second, untold(&master), name);
    assert!(first.len() > 600, "only {} keys", first.len());
    assert!(first.with_deadline() > 50, "only {} keys with a deadline", first.with_deadline());
    let kinds = first.kinds();
    assert_eq!(
        kinds.len(),
        5 + usize::from(holds.streams) + usize::from(holds.vectors),
        "{kinds:?}"
    );
    same_digest(&master, &replica);
}

/// Holds the servers' own digests against each other. They count what is past its deadline and not yet dropped; reading
/// drops it.
pub(crate) fn same_digest(first: &Server, second: &Server) {
    let until = Instant::now() + Duration::from_secs(8);
    loop {
        for server in [first, second] {
            Dump::read(&mut server.client());
        }
        let digests = (first.digest(), second.digest());
        if digests.0 == digests.1 {
            return;
        }
        assert!(Instant::now() < until, "DEBUG DIGEST differs: {digests:?}");
    }
}

/// Waits until the replica has applied what the master had said when this was called.
pub(crate) fn caught_up(master: &mut Client, replica: &mut Client) {
    let offset: u64 = master.info("replication", "master_repl_offset").parse().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let applied = replica.info("replication", "slave_repl_offset").parse().unwrap_or(0);
        if replica.info("replication", "master_link_status") == "up" && applied >= offset {
            return;
        }
        assert!(Instant::now() < until, "the replica stays behind: {applied} of {offset}");
    }
}

macro_rules! a_replica_is_equal {
    ($($test:ident $server:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            follow_the_load($server);
        })+

        #[test]
        fn every_server_has_its_test() {
            assert_eq!([$($server),+], crate::servers::ALL);
        }
    };
}

a_replica_is_equal! {
    redis_2_8 "redis-2.8.17",
    redis_3_0 "redis-3.0.5",
    redis_3_2 "redis-3.2.6",
    redis_5_0 "redis-5.0.6",
    redis_6_0 "redis-6.0.16",
    redis_6_2 "redis-6.2.14",
    redis_7_0 "redis-7.0.15",
    redis_8_0_2 "redis-8.0.2",
    redis_8_0 "redis-8.0.6",
    valkey_8_0 "valkey-8.0.1",
    valkey_8_1 "valkey-8.1.1",
    valkey_9_1 "valkey-9.1.2",
    redict_7_3 "redict-7.3.6",
}
