//! A target that answers nothing any more, on a link that nobody cuts.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::watch;
use understudy::flow::{Ended, Order, Rereads, migrate};
use understudy::net::Net;
use understudy::plan::{
    Job, Method, OnDeadlines, OnUnknown, Place, Plan, Rate, Rules, Source, Spool, Until,
};
use understudy::preflight::look;
use understudy::progress::Counters;

use crate::asking;
use crate::client::cmd;
use crate::judge::{self, Dump, Forgiving};
use crate::servers::Server;
use crate::tool::signal;

use super::proxy::{Proxy, Way};

const KEYS: usize = 3000;

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn once(source: &Server, to: &Proxy) -> Plan {
    let place = |url: &str| Place::parse(url).unwrap();
    let from = place(&source.url());
    Plan {
        sources: vec![Source { name: "source".to_owned(), place: from, rules: Rules::default() }],
        target: place(&to.url()),
        job: Job::default(),
        away: None,
        on_unknown: OnUnknown::Stop,
        method: Method::Auto,
        until: Until::CaughtUp,
        on_conflict: None,
        on_flush: None,
        written_for: None,
        // Slow enough for what is done meanwhile to be in its midst.
        limit_rate: Some(Rate::Keys(3000)),
        limit_read: None,
        memory: 16 << 20,
        spool: Spool::default(),
        at_once: None,
        per_host: 1,
        deadlines: OnDeadlines::Exact,
        accept_eviction: false,
        remove_unowned: false,
    }
}

/// What is wrong with a target for a while, from the midst of the copy on.
fn copies_through(
    names: &[&'static str],
    begin: impl Fn(&Server, &Proxy) -> JoinHandle<()>,
    end: impl Fn(&Server, &Proxy),
) {
    for &name in names {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else {
            return;
        };
        let set = |n: usize| cmd!("SET", format!("key:{n}"), "x".repeat(200), "EX", 3000);
        source.client().pipeline(&(0..KEYS).map(set).collect::<Vec<_>>());
        let proxy = Proxy::to(target.port);
        let plan = once(&source, &proxy);
        let net = Net::system().with_patience(Duration::from_secs(1));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let facts = runtime.block_on(look(&net, &plan)).unwrap();
        let counters = [Arc::new(Counters::default())];
        let (_keep, stop) = watch::channel(Order::Go);
        let running = runtime.spawn(async move {
            migrate(&net, &plan, &facts, &counters, &stop, &Rereads::new(1)).await.sources
        });
        assert!(proxy.wait_for(300_000, || !running.is_finished()), "it has ended before");
        let trouble = begin(&target, &proxy);
        let mut writer = source.client();
        for n in 0..50 {
            writer.call(cmd!("INCR", "count"));
            writer.call(cmd!("APPEND", "text", n));
        }
        let report = runtime.block_on(running).unwrap().remove(0);
        assert_eq!((report.ended, report.numbers.full_syncs), (Ended::Done, 1), "{report:?}");
        trouble.join().unwrap();
        end(&target, &proxy);
        let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
        judge::assert_same(&first, &second, Forgiving::default(), name);
        assert_eq!(second.own().iter().count(), 0);
    }
}

/// Bytes vanish, and arrive when all has long been sent again.
#[test]
fn a_link_into_a_black_hole_is_given_up_and_costs_nothing() {
    copies_through(
        &["redis-2.8.17", "redis-7.0.15", "valkey-9.1.2"],
        |_, proxy| {
            proxy.hold(&[Way::Up, Way::Down], false);
            thread::spawn(|| ())
        },
        |target, proxy| {
            proxy.heal();
            // Who sent it is gone: the target has read all of it when it has closed those connections too.
            let mut client = target.client();
            let alone = || client.info("clients", "connected_clients") == "1";
            asking::until("what was held has arrived", PATIENCE, alone);
        },
    );
}

/// It takes connections all the while, and answers none.
#[test]
fn a_target_that_is_stopped_for_a_while_costs_no_copy() {
    copies_through(
        &["redis-7.0.15"],
        |target, _| {
            let target = target.id();
            signal("STOP", target);
            thread::spawn(move || {
                // How long it stands still is what is tried: longer than a link's patience, shorter than that with a target.
                thread::sleep(Duration::from_secs(4));
                signal("CONT", target);
            })
        },
        |_, _| {},
    );
}
