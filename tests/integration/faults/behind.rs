//! A source whose place is taken by a replica that has not got all that we have.

use std::time::Duration;

use crate::client::{Client, Value, cmd};
use crate::judge::{self, Dump};
use crate::replicas;
use crate::servers::Server;
use crate::sync;
use crate::tool::Understudy;

use super::proxy::{Cut, Proxy, Way};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the new source never had goes from the target, and what it has is there once.
#[test]
fn a_source_that_fails_over_to_a_replica_behind_us() {
    for name in ["redis-2.8.17", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"] {
        let (Some(mut source), Some(replica), Some(target)) =
            (Server::start(name), Server::start(name), Server::start(name))
        else {
            return;
        };
        let (from, link) = (Proxy::to(source.port), Proxy::to(source.port));
        let (mut old, mut new) = (source.client(), replica.client());
        old.call(cmd!("RPUSH", "list", 1));
        new.call(cmd!("SLAVEOF", "127.0.0.1", link.port));
        replicas::caught_up(&mut old, &mut new);
        let args = ["sync", "--from", &from.url(), "--to", &target.url()];
        let mut running = Understudy::start_telling(&args);
        let mut arrives = |key: &str| {
            Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running())
        };
        old.call(cmd!("SET", "both", 1));
        assert!(arrives("both"), "{name}");
        replicas::caught_up(&mut old, &mut new);

        // From here on the replica hears nothing, and we hear all.
        link.lose(&[Way::Up, Way::Down]);
        old.pipeline(&[cmd!("RPUSH", "list", 2), cmd!("INCR", "both"), cmd!("SET", "ahead", 1)]);
        assert!(arrives("ahead"), "{name}");
        source.kill();
        new.call(cmd!("SLAVEOF", "NO", "ONE"));
        assert_eq!(new.call(cmd!("GET", "ahead")), Value::Nil, "{name}: it was to be behind");
        new.pipeline(&[cmd!("RPUSH", "list", 3), cmd!("INCR", "both"), cmd!("SET", "behind", 1)]);
        from.lead_to(replica.port);
        from.cut(Cut::Rst);
        assert!(arrives("behind"), "{name}");
        let ended = running.end_job(PATIENCE);
        ended.assert_code(130);
        assert_eq!(ended.reported("sources.0.full_syncs"), 2, "{name}");
        let (first, second) = (Dump::read(&mut new), Dump::read(&mut target.client()));
        judge::assert_same(&first, &second, sync::untold(&replica), name);
    }
}
