//! What a lost link had brought of the copies of several sources.

use std::time::Duration;

use crate::asking;
use crate::client::cmd;
use crate::dice::Dice;
use crate::judge::{Dump, Forgiving, assert_same};
use crate::servers::Server;
use crate::tool::Understudy;

use super::proxy::{Cut, Proxy, Way};

const SERVER: &str = "redis-7.0.15";

const PATIENCE: Duration = Duration::from_secs(30);

/// It is there when it is sent again, and no other source's: in whichever form it was sent.
#[test]
fn what_a_lost_link_had_brought_is_no_collision() {
    let sources: Option<Vec<Server>> = (0..3).map(|_| Server::start(SERVER)).collect();
    let (Some(sources), Some(target)) = (sources, Server::start(SERVER)) else { return };
    let mut dice = Dice::new(23);
    for (of, source) in sources.iter().enumerate() {
        let mut client = source.client();
        for number in 0..400 {
            let mut bytes = || dice.bytes(1 << 10);
            client.pipeline(&[
                cmd!("SET", format!("{of}:text:{number}"), bytes()),
                cmd!("SET", format!("{of}:dated:{number}"), bytes(), "EX", 5000),
                cmd!("HSET", format!("{of}:hash:{number}"), "one", bytes(), "two", bytes()),
                cmd!("RPUSH", format!("{of}:large:{}", number % 2), bytes(), bytes(), bytes()),
            ]);
        }
    }
    let proxy = Proxy::to(target.port);
    let mut args = vec!["sync".to_owned(), "--to".to_owned(), proxy.url()];
    for source in &sources {
        args.extend(["--from".to_owned(), source.url()]);
    }
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["--once", "--limit-rate", "2MB", "--memory", "8MiB"]);
    let mut running = Understudy::start(&args);
    let mut client = target.client();
    let mut arrive = |keys: i64| {
        let mut there = 0;
        asking::until("a part has arrived", PATIENCE, || {
            assert!(running.is_running());
            there = client.call(cmd!("DBSIZE")).int();
            there > keys
        });
        there
    };
    for part in [100, 1000, 2000] {
        let there = arrive(part);
        // It goes on for a while, and its answers are lost.
        proxy.hold(&[Way::Down], false);
        arrive(there + 20);
        proxy.cut(Cut::Rst);
    }
    let ended = running.wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(ended.reported("totals.keys"), client.call(cmd!("DBSIZE")).int());
    let sources = sources.iter().map(|source| Dump::read(&mut source.client()));
    let target = Dump::read(&mut client);
    assert_same(&Dump::together(sources), &target, Forgiving::default(), "after lost links");
}
