//! What is fetched from real servers while they are written to, held against their own streams.

mod story;

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use understudy::key::Db;
use understudy::net::{ControlError, Net};
use understudy::offset::ReplId;
use understudy::plan::{Place, ServerPlace};
use understudy::source::{FetchError, Fetched, Fetcher, Found, Limits};

use crate::client::{Client, cmd};
use crate::servers::{Server, say};

use story::{COUNTERS, Reader, Story, Writers, long_counter};

const LIMITS: Limits = Limits { largest: 1 << 20, room: 1 << 20 };

fn place(url: &str) -> ServerPlace {
    match Place::parse(url).unwrap() {
        Place::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

fn fetcher(server: &Server) -> Fetcher {
    Fetcher::new(Net::system(), place(&server.url()), LIMITS)
}

/// The number that a payload of `DUMP` holds: a string, in as few bytes as it fits.
fn number(payload: &[u8]) -> i64 {
    match *payload {
        [0, 0xc0, a, ..] => i64::from(i8::from_le_bytes([a])),
        [0, 0xc1, a, b, ..] => i64::from(i16::from_le_bytes([a, b])),
        [0, 0xc2, a, b, c, d, ..] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => panic!("no number: {payload:?}"),
    }
}

fn count(found: &Found) -> Option<i64> {
    match found {
        Found::Gone => None,
        Found::Value { payload, deadline: None } => Some(number(payload)),
        other => panic!("{other:?}"),
    }
}

/// Holds that at each of these offsets the stream says the same of these counters, and gives how many offsets there are.
#[track_caller]
fn assert_told(story: &Story, fences: &[Fetched], counters: Range<usize>) -> usize {
    assert!(fences.is_sorted_by_key(|fence| fence.at));
    for fence in fences {
        let said = story.at(fence.at);
        let said = said.unwrap_or_else(|| panic!("{} is inside of something", fence.at));
        let fetched: Vec<_> = fence.found.iter().map(count).collect();
        assert_eq!(fetched, said[counters.clone()], "at {}", fence.at);
    }
    fences.chunk_by(|one, next| one.at == next.at).count()
}

fn what_is_fetched_is_what_the_stream_says(name: &'static str, options: &[&str]) {
    const FENCES: usize = 300;
    let Some(server) = Server::start_with(name, options) else { return };
    Runtime::new().unwrap().block_on(async {
        let mut reader = Reader::start(&server);
        let replid = reader.history().await;
        let mut fetcher = fetcher(&server);
        let mut fences = vec![fetcher.fetch(Db::default(), &COUNTERS, &replid).await.unwrap()];
        assert_eq!(fences[0].found, [Found::Gone, Found::Gone, Found::Gone]);

        let alone = vec![cmd!("INCR", COUNTERS[0])];
        let both = [cmd!("MULTI"), cmd!("INCR", COUNTERS[1]), cmd!("INCR", COUNTERS[2]), cmd!("EXEC")];
        let writes = vec![alone.clone(), alone, both.to_vec()];
        let (writers, begun) = (Writers::start(&server, writes, Duration::ZERO), Instant::now());
        let mut parts = 0;
        while fences.len() <= FENCES {
            let fetched = fetcher.fetch(Db::default(), &COUNTERS, &replid).await.unwrap();
            // It may not have been quiet for all of them.
            parts += usize::from(fetched.found.len() < COUNTERS.len());
            if fetched.found.len() == COUNTERS.len() {
                fences.push(fetched);
            }
        }
        let took = begun.elapsed();
        writers.stop();
        let story = reader.read_up_to(fences.last().unwrap().at).await;
        let offsets = assert_told(&story, &fences, 0..COUNTERS.len());
        assert!(offsets > 100, "only {offsets} offsets");
        say(&format!(
            "{name} {options:?}: {FENCES} fences in {took:.1?} at {offsets} offsets, {parts} more in parts, {} commands: 0 mismatches",
            story.commands,
        ));
    });
}

/// A bracket during which others are served holds only if they wrote nothing.
fn what_others_write_in_between_is_seen(name: &'static str, options: &[&str]) {
    const FENCES: usize = 120;
    let Some(server) = Server::start_with(name, options) else { return };
    Runtime::new().unwrap().block_on(async {
        let mut reader = Reader::start(&server);
        let replid = reader.history().await;
        let mut fetcher = fetcher(&server);
        let (keys, mut unsettled) = ([long_counter()], 0);
        let mut fences: Vec<Fetched> = Vec::new();
        let write = vec![cmd!("INCR", keys[0])];
        let begun = Instant::now();
        let writers = Writers::start(&server, vec![write.clone(), write], Duration::from_millis(1));
        while fences.len() < FENCES {
            match fetcher.fetch(Db::default(), &keys, &replid).await {
                // What stood still was looked at already.
                Ok(fetched) if fences.last().is_some_and(|last| last.at == fetched.at) => {}
                Ok(fetched) => fences.push(fetched),
                Err(FetchError::Control(ControlError::Unsettled)) => unsettled += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let took = begun.elapsed();
        writers.stop();
        let story = reader.read_up_to(fences.last().unwrap().at).await;
        assert_told(&story, &fences, COUNTERS.len()..COUNTERS.len() + 1);
        say(&format!(
            "{name} {options:?}: {FENCES} long fences in {took:.1?}, {unsettled} given up, {} commands: 0 mismatches",
            story.commands,
        ));
    });
}

fn value(found: &Found) -> (&[u8], Option<i64>) {
    match found {
        Found::Value { payload, deadline } => (payload, *deadline),
        other => panic!("{other:?}"),
    }
}

/// Deadlines to the millisecond, keys of any bytes, other databases, what is gone, and what is too large.
fn keys_of_all_kinds(name: &'static str) {
    const BINARY: &[u8] = b"\x00\xff\r\n\"$3 ";
    let Some(server) = Server::start(name) else { return };
    let mut client = server.client();
    let now = client.call(cmd!("TIME")).array()[0].text().parse::<i64>().unwrap() * 1000;
    let deadline = |n: i64| now + 1_000_000 + n * 1_001;
    client.select(3);
    let mut keys: Vec<Vec<u8>> = (0..100).map(|n| format!("until:{n}").into_bytes()).collect();
    for (n, key) in (0..).zip(&keys) {
        client.call(cmd!("SET", key, n));
        client.call(cmd!("PEXPIREAT", key, deadline(n)));
    }
    client.call(cmd!("SET", BINARY, "5"));
    client.call(cmd!("SET", "huge", "x".repeat(40_000)));
    client.call(cmd!("RPUSH", "list", "a", "b"));
    client.call(cmd!("HSET", "hash", "a", "b"));
    client.call(cmd!("SADD", "set", "member"));
    client.call(cmd!("ZADD", "zset", 1, "member"));
    client.select(0);
    client.call(cmd!("SET", "until:0", "another"));

    Runtime::new().unwrap().block_on(async {
        let mut reader = Reader::start(&server);
        let replid = reader.history().await;
        let (db, limits) = (Db::new(3), Limits { largest: 20_000, room: 1 << 20 });
        let mut fetcher = Fetcher::new(Net::system(), place(&server.url()), limits);
        let mut rest = keys.as_slice();
        let mut n = 0;
        while !rest.is_empty() {
            let fetched = fetcher.fetch(db, rest, &replid).await.unwrap();
            for found in &fetched.found {
                let (payload, until) = value(found);
                assert_eq!((number(payload), until), (n, Some(deadline(n))), "{name}");
                n += 1;
            }
            rest = &rest[fetched.found.len()..];
        }
        assert_eq!(n, 100);

        keys = vec![BINARY.to_vec(), b"none".to_vec(), b"huge".to_vec(), b"until:7".to_vec()];
        let fetched = fetcher.fetch(db, &keys, &replid).await.unwrap();
        let [binary, none, huge, until] = fetched.found.as_slice() else { panic!("{fetched:?}") };
        assert_eq!((number(value(binary).0), value(binary).1), (5, None));
        assert_eq!(none, &Found::Gone);
        assert!(matches!(huge, Found::TooLarge { bytes: 40_000.. }), "{huge:?}");
        assert_eq!(value(until).1, Some(deadline(7)));

        // What was dumped is what the server takes back.
        let kinds = ["list", "hash", "set", "zset"];
        let fetched = fetcher.fetch(db, &kinds, &replid).await.unwrap();
        for (key, found) in kinds.iter().zip(&fetched.found) {
            client.call(cmd!("RESTORE", *key, 0, value(found).0));
            assert_eq!(client.call(cmd!("TYPE", *key)).text(), *key);
        }

        // In the first database that key is another one.
        let fetched = fetcher.fetch(Db::default(), &["until:0"], &replid).await.unwrap();
        assert!(matches!(&fetched.found[..], [Found::Value { deadline: None, .. }]), "{fetched:?}");
        // One write holds one such key only.
        let long = ["k".repeat(20_000), "l".repeat(20_000)];
        let fetched = fetcher.fetch(Db::default(), &long, &replid).await.unwrap();
        assert_eq!(fetched.found, [Found::Gone]);
        say(&format!("{name}: 101 deadlines to the millisecond"));
    });
}

/// Whoever is not followed has no backlog, and nothing is believed; nor is one of another history, or who forbids it.
fn what_proves_nothing(name: &'static str) {
    let Some(server) = Server::start(name) else { return };
    server.client().call(cmd!("SET", "k", "v"));
    Runtime::new().unwrap().block_on(async {
        let other = ReplId::parse(&[b'7'; 40]).unwrap();
        let mut fetcher = fetcher(&server);
        let refused = fetcher.fetch(Db::default(), &["k"], &other).await.unwrap_err();
        assert!(matches!(refused, FetchError::NoBacklog), "{name}: {refused}");
        assert!(refused.to_string().contains("no replication backlog"), "{refused}");

        let mut reader = Reader::start(&server);
        let replid = reader.history().await;
        let refused = fetcher.fetch(Db::default(), &["k"], &other).await.unwrap_err();
        let FetchError::OtherHistory { wanted, shown } = refused else { panic!("{refused}") };
        assert_eq!((wanted, shown), (other, Some(replid)), "{name}");
        assert!(fetcher.fetch(Db::default(), &["k"], &replid).await.is_ok());

        if server.version.at_least(6, 0) {
            let user = cmd!("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-dump");
            server.client().call(user);
            let url = server.url().replace("redis://", "redis://app:pw@");
            let mut fetcher = Fetcher::new(Net::system(), place(&url), LIMITS);
            let refused = fetcher.fetch(Db::default(), &["k"], &replid).await.unwrap_err();
            assert!(refused.to_string().starts_with("DUMP \"k\": NOPERM"), "{refused}");
            assert!(refused.is_answer());
        }
    });
}

/// A replica that follows this master.
fn replica_of(master: &Server) -> Option<Server> {
    let replica = Server::start(master.name)?;
    let _ = replica.client().try_call(cmd!("CONFIG", "SET", "repl-rdb-channel", "no"));
    replica.client().call(cmd!("SLAVEOF", "127.0.0.1", master.port));
    wait(|| replica.client().info("replication", "master_link_status") == "up");
    Some(replica)
}

fn wait(mut until: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !until() {
        assert!(Instant::now() < patience, "it does not come");
        thread::yield_now();
    }
}

fn info_offset(client: &mut Client) -> u64 {
    client.info("replication", "master_repl_offset").parse().unwrap()
}

/// A replica calls a key gone whose deadline has passed, and its master may still lengthen that key's life.
fn a_replica_as_a_source(name: &'static str) {
    let Some(master) = Server::start(name) else { return };
    let Some(replica) = replica_of(&master) else { return };
    let mut client = master.client();
    client.call(cmd!("SET", "stays", "7"));
    client.call(cmd!("SET", "dies", "8"));
    // Else it would be deleted before we look.
    client.call(cmd!("DEBUG", "SET-ACTIVE-EXPIRE", 0));
    client.call(cmd!("PEXPIRE", "dies", 1));
    Runtime::new().unwrap().block_on(async {
        let mut reader = Reader::start(&replica);
        let replid = reader.history().await;
        let mut fetcher = fetcher(&replica);
        let keys = ["stays", "dies", "none"];
        let patience = Instant::now() + Duration::from_secs(20);
        let mut fetch = async |last: Found| loop {
            let fetched = fetcher.fetch(Db::default(), &keys, &replid).await.unwrap();
            if fetched.found.get(1) == Some(&last) {
                let [stays, _, none] = fetched.found.as_slice() else { panic!("{fetched:?}") };
                assert_eq!((number(value(stays).0), none), (7, &Found::Gone));
                return fetched.at;
            }
            assert!(Instant::now() < patience, "{name}: {fetched:?}");
        };
        fetch(Found::Expired).await;
        // The master looks at it, so it is deleted and its replicas are told.
        assert_eq!(client.call(cmd!("EXISTS", "dies")).int(), 0);
        fetch(Found::Gone).await;
    });
}

/// A replica that is promoted goes on with its master's history up to where it was promoted.
fn a_promoted_replica(name: &'static str) {
    let Some(master) = Server::start(name) else { return };
    let Some(replica) = replica_of(&master) else { return };
    let mut client = master.client();
    client.call(cmd!("SET", "k", "7"));
    let mut heir = replica.client();
    wait(|| {
        info_offset(&mut heir) == info_offset(&mut client)
            && heir.try_call(cmd!("EXISTS", "k")).int() == 1
    });
    let replid = heir.info("replication", "master_replid");
    let replid = ReplId::parse(replid.as_bytes()).unwrap();
    heir.call(cmd!("SLAVEOF", "NO", "ONE"));
    Runtime::new().unwrap().block_on(async {
        let mut fetcher = fetcher(&replica);
        let fetched = fetcher.fetch(Db::default(), &["k"], &replid).await.unwrap();
        assert_eq!(number(value(&fetched.found[0]).0), 7);
        assert_eq!(fetched.at.get(), info_offset(&mut heir));
        heir.call(cmd!("INCR", "k"));
        let refused = fetcher.fetch(Db::default(), &["k"], &replid).await.unwrap_err();
        assert!(matches!(refused, FetchError::OtherHistory { .. }), "{refused}");
    });
}

macro_rules! on_each {
    ($($test:ident $server:literal $options:expr),+ $(,)?) => {
        $(mod $test {
            #[test]
            fn values_and_the_stream() {
                super::what_is_fetched_is_what_the_stream_says($server, $options);
            }

            #[test]
            fn values_and_what_is_written_in_between() {
                super::what_others_write_in_between_is_seen($server, $options);
            }

            #[test]
            fn keys_of_all_kinds() {
                super::keys_of_all_kinds($server);
            }

            #[test]
            fn what_proves_nothing() {
                super::what_proves_nothing($server);
            }

            #[test]
            fn a_replica_as_a_source() {
                super::a_replica_as_a_source($server);
            }
        })+
    };
}

const THREADS: &[&str] = &["--io-threads", "4"];

on_each! {
    redis_2_8 "redis-2.8.17" &[],
    redis_3_2 "redis-3.2.6" &[],
    redis_5_0 "redis-5.0.6" &[],
    redis_6_2 "redis-6.2.14" super::THREADS,
    redis_7_0 "redis-7.0.15" &[],
    redis_8_0 "redis-8.0.6" super::THREADS,
    valkey_9_1 "valkey-9.1.2" super::THREADS,
}

#[test]
fn promoted_replicas() {
    ["redis-5.0.6", "redis-6.2.14", "redis-8.0.6", "valkey-9.1.2"]
        .into_iter()
        .for_each(a_promoted_replica);
}
