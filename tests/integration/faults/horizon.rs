//! A job that stands still until the horizon of its deadlines is behind it: keys may have died in the target by then that live on the source.
//!
//! Who runs the tool must give it five minutes at the least. A job whose horizon is nearer than two minutes moves it all the time, which costs
//! nothing but work; so it can stand still behind it after seconds.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::watch;
use understudy::flow::{Ended, Order, Rereads, migrate};
use understudy::net::Net;
use understudy::plan::{Plan, Until};
use understudy::preflight::look;
use understudy::progress::Counters;

use crate::asking;
use crate::client::{Client, Value, cmd};
use crate::data::{self, now_ms};
use crate::judge::{self, Dump};
use crate::servers::{Server, say};
use crate::sync;
use crate::tool::signal;

use super::proxy::Proxy;
use super::silent::once;

const PATIENCE: Duration = Duration::from_secs(30);

/// How long before its horizon a job commits nothing more.
const MARGIN: i64 = 60_000;

/// How far ahead the horizon is: a job that stands still for longer than what this is above the margin is late.
const AWAY: Duration = Duration::from_secs(66);

/// How many keys there are of each kind.
const KEYS: usize = 50;

/// Who stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    Target,
    Tool,
}

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wakes {
    /// Nothing is committed any more, and no key has died.
    BehindTheMargin,
    /// Keys have died in the target.
    BehindTheHorizon,
}

/// The seconds from now until keys die whose deadlines are not held back, when it is to wake behind the horizon.
const DIE_IN: i64 = 76_000;

/// Something stands still while keys are renewed on the source, and others die there.
fn stands_still(name: &'static str, who: Stops, wakes: Wakes) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut writer = source.client();
    // It is its horizon that shall cost it the copy, not the master.
    writer.call(cmd!("CONFIG", "SET", "repl-timeout", 600));
    // Nothing is limited in the plan that follows: what is written in the copy is little.
    let proxy = Proxy::to(target.port);
    let plan =
        Plan { until: Until::Forever, away: Some(AWAY), limit_rate: None, ..once(&source, &proxy) };
    let net = Net::system().with_patience(Duration::from_secs(300));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let facts = runtime.block_on(look(&net, &plan)).unwrap();
    let counters = Arc::new(Counters::default());
    let (order, stop) = watch::channel(Order::Go);
    let counting = [Arc::clone(&counters)];
    let running = runtime.spawn(async move {
        migrate(&net, &plan, &facts, &counting, &stop, &Rereads::new(1)).await.sources
    });
    let arrives = |writer: &mut Client, key: &str| {
        writer.call(cmd!("SET", key, 1));
        let arrives =
            Client::wait_for_key(target.port, 0, key, PATIENCE, || !running.is_finished());
        assert!(arrives, "{name}: {key}");
    };
    arrives(&mut writer, "followed");

    // Some deadlines are held back, as they are near; some are not, if that is how long it stands still.
    let near = now_ms(&mut writer) + 4000;
    let far = now_ms(&mut writer) + DIE_IN;
    let mut commands = Vec::new();
    for n in 0..KEYS {
        for (kind, deadline) in
            [("near:renewed", near), ("near:dead", near), ("far:renewed", far), ("far:dead", far)]
        {
            let key = format!("{kind}:{n}");
            commands.push(cmd!("HMSET", key, "user", n, "what", kind));
            commands.push(cmd!("PEXPIREAT", key, deadline));
        }
    }
    data::all(&mut writer, &commands);
    arrives(&mut writer, "set");

    let before = counters.snapshot().full_syncs;
    let good = i64::try_from(counters.snapshot().away_until).unwrap();
    let wake = match wakes {
        Wakes::BehindTheMargin => good.max(near + MARGIN) - MARGIN,
        Wakes::BehindTheHorizon => good.max(far),
    };
    // One that moves the horizon once more before it stands still is late a little later.
    let wake = wake + 2000;
    let mut clock = source.client();
    match who {
        Stops::Target => signal("STOP", target.id()),
        Stops::Tool => {
            let millis = u64::try_from(wake - now_ms(&mut clock)).unwrap();
            // The only thread that runs it: as a process that was stopped.
            runtime.spawn(async move { thread::sleep(Duration::from_millis(millis)) });
        }
    }
    for n in 0..KEYS {
        for kind in ["near", "far"] {
            let later = now_ms(&mut clock) + 3_600_000;
            writer.call(cmd!("PEXPIREAT", format!("{kind}:renewed:{n}"), later + 60_000));
            // Of a key that has died this makes one of its own, which holds nothing else.
            writer.call(cmd!("HINCRBY", format!("{kind}:renewed:{n}"), "last", 1));
        }
    }
    let long = Duration::from_secs(100);
    asking::until("it is time to wake", long, || now_ms(&mut clock) >= wake);
    if who == Stops::Target {
        signal("CONT", target.id());
    }
    arrives(&mut writer, "awake");
    asking::until("it has copied anew", PATIENCE, || counters.snapshot().full_syncs > before);
    arrives(&mut writer, "again");
    order.send(Order::Finish).unwrap();
    let report = runtime.block_on(running).unwrap().remove(0);
    assert_eq!(report.ended, Ended::Done, "{name}: {report:?}");
    // The master was not the reason: it would have gone on.
    assert_eq!(writer.info("stats", "sync_partial_err"), "0", "{name}");

    let died: u64 = target.client().info("stats", "expired_keys").parse().unwrap();
    say(&format!("{name}, {who:?} {wakes:?}: {died} keys had died in the target"));
    assert!(
        wakes == Wakes::BehindTheMargin || died >= 2 * KEYS as u64,
        "{name}: only {died} keys died in the target: nothing was tried"
    );
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, sync::untold(&source), name);
    let mut reader = target.client();
    for n in 0..KEYS {
        let read = cmd!("HGET", format!("far:renewed:{n}"), "user");
        assert_eq!(reader.call(read), Value::Bulk(n.to_string().into_bytes()), "{name}");
        assert_eq!(reader.call(cmd!("EXISTS", format!("near:dead:{n}"))).int(), 0, "{name}");
        let gone = wakes == Wakes::BehindTheHorizon;
        let there = reader.call(cmd!("EXISTS", format!("far:dead:{n}"))).int();
        assert_eq!(there, i64::from(!gone), "{name}");
    }
    assert_eq!(second.own().iter().count(), 0, "{name}");
}

/// The horizon passes a key while the job follows: it is held back from then on, and at the end it dies when it should.
fn passes(name: &'static str) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut writer = source.client();
    let far = now_ms(&mut writer) + 90_000;
    data::all(
        &mut writer,
        &[
            cmd!("SET", "far", 1),
            cmd!("PEXPIREAT", "far", far),
            cmd!("SET", "moved", 1),
            cmd!("PEXPIREAT", "moved", far),
            cmd!("SETEX", "near", 30, 1),
            cmd!("SETEX", "later", 5000, 1),
        ],
    );
    let proxy = Proxy::to(target.port);
    let plan =
        Plan { until: Until::Forever, away: Some(AWAY), limit_rate: None, ..once(&source, &proxy) };
    let net = Net::system();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let facts = runtime.block_on(look(&net, &plan)).unwrap();
    let counting = [Arc::new(Counters::default())];
    let (order, stop) = watch::channel(Order::Go);
    let running = runtime.spawn(async move {
        migrate(&net, &plan, &facts, &counting, &stop, &Rereads::new(1)).await.sources
    });
    let mut reader = target.client();
    let long = Duration::from_secs(60);
    let mut left = |key: &str| reader.call(cmd!("PTTL", key)).int();
    asking::until("it is there as it is", long, || (0..1 << 40).contains(&left("far")));
    writer.call(cmd!("RENAME", "moved", "renamed"));
    asking::until("it is held back", long, || left("far") >= 1 << 40);
    asking::until("so is the other", long, || left("renamed") >= 1 << 40);
    order.send(Order::Finish).unwrap();
    let report = runtime.block_on(running).unwrap().remove(0);
    assert_eq!(report.ended, Ended::Done, "{name}: {report:?}");
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, sync::untold(&source), name);
}

#[test]
fn what_the_horizon_has_passed_dies_when_it_should() {
    thread::scope(|scope| {
        for name in ["redis-2.8.17", "redis-7.0.15"] {
            scope.spawn(move || passes(name));
        }
    });
}

#[test]
fn a_target_that_wakes_behind_the_margin_is_copied_to_anew() {
    stands_still("redis-7.0.15", Stops::Target, Wakes::BehindTheMargin);
}

#[test]
fn a_tool_that_wakes_behind_the_margin_copies_anew() {
    for name in ["redis-2.8.17", "valkey-9.1.2"] {
        stands_still(name, Stops::Tool, Wakes::BehindTheMargin);
    }
}

/// All of these sleep for more than a minute, so they do it together.
#[test]
fn keys_that_died_in_the_target_come_again_when_they_live_on_the_source() {
    let all = [
        ("redis-2.8.17", Stops::Tool),
        ("redis-7.0.15", Stops::Target),
        ("redis-7.0.15", Stops::Tool),
        ("valkey-9.1.2", Stops::Target),
    ];
    thread::scope(|scope| {
        let running = all.map(|(name, who)| {
            scope.spawn(move || stands_still(name, who, Wakes::BehindTheHorizon))
        });
        running.into_iter().for_each(|one| one.join().unwrap());
    });
}
