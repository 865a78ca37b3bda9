//! Sources that hold keys of the same names: each key becomes what the first of them holds.

use std::time::Duration;

use crate::asking;
use crate::client::{Client, Command, cmd};
use crate::dice::Dice;
use crate::judge::{Dump, Forgiving, assert_same};
use crate::servers::Server;
use crate::tool::{Understudy, signal};

const PATIENCE: Duration = Duration::from_secs(30);

/// Three sources and a target.
const SERVERS: [[&str; 4]; 4] = [
    ["redis-7.0.15", "redis-5.0.6", "valkey-9.1.2", "redis-7.0.15"],
    ["redis-2.8.17", "redis-6.2.14", "redis-3.2.6", "valkey-9.1.2"],
    ["valkey-8.1.1", "redis-2.8.17", "redis-8.0.6", "redis-8.0.6"],
    ["redis-5.0.6", "redis-7.0.15", "redis-2.8.17", "redis-6.2.14"],
];

/// Some keys are one source's alone, some two or three have.
fn names(of: usize) -> Vec<String> {
    let shared = (0..12).map(|number| format!("shared {number}"));
    let own = (0..12).map(|number| format!("own {of} {number}"));
    let some = (0..6).map(|number| format!("two {} {number}", (of + number) % 2));
    shared.chain(own).chain(some).collect()
}

fn written(dice: &mut Dice, of: usize) -> Command {
    let names = names(of);
    let mut key = || names[dice.below(names.len())].clone();
    let (one, two) = (key(), key());
    let list = format!("list of {one}");
    match dice.below(14) {
        0..=4 => cmd!("INCR", one),
        5 => cmd!("APPEND", format!("text {one}"), of),
        6 => cmd!("DEL", one, list),
        7 => cmd!("RENAME", one, two),
        8..=9 => cmd!("RPUSH", list, of),
        10 => cmd!("RPOPLPUSH", list, format!("list of {two}")),
        11 => cmd!("SADD", format!("set {one}"), of, two),
        12 => cmd!("SUNIONSTORE", format!("set {one}"), format!("set {two}"), "set shared 1"),
        _ => cmd!("PEXPIREAT", one, 4_000_000_000_000_u64 + of as u64),
    }
}

fn write(client: &mut Client, dice: &mut Dice, of: usize, count: usize) {
    let commands: Vec<Command> = (0..count).map(|_| written(dice, of)).collect();
    client.pipeline(&commands);
}

#[track_caller]
fn comes(target: &Server, key: &str, running: &mut Understudy) {
    let came = Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running());
    assert!(came, "{key}");
}

fn run(names: [&'static str; 4], seed: u64, flags: &[&str], kills: usize) -> bool {
    let [one, two, three, target] = names;
    let started = [one, two, three].map(Server::start);
    let (Some(target), [Some(one), Some(two), Some(three)]) = (Server::start(target), started)
    else {
        return false;
    };
    let sources = [one, two, three];
    let mut dice = Dice::new(seed);
    let mut clients: Vec<Client> = sources.iter().map(Server::client).collect();
    for (of, client) in clients.iter_mut().enumerate() {
        write(client, &mut dice, of, 300);
    }
    clients[0].call(cmd!("SET", "older 0", 1));
    clients[1].call(cmd!("MSET", "older 1", 1, "begun", 1));
    let mut reader = target.client();
    reader.call(cmd!("SET", "nobody's", "older"));
    let nobodys = Dump::read(&mut reader);
    reader.call(cmd!("MSET", "older 0", "older", "older 1", "older"));
    let older = Dump::read(&mut reader);
    let urls: Vec<String> = sources.iter().map(Server::url).collect();
    let to = target.url();
    let from = urls.iter().flat_map(|url| ["--from", url.as_str()]);
    let args: Vec<&str> = ["sync"].into_iter().chain(from).chain(["--to", &to]).collect();
    let args = [&args, flags].concat();
    let mut running = Understudy::start(&args);
    let mut round = 0;
    let ended = loop {
        for _ in 0..20 {
            for (of, client) in clients.iter_mut().enumerate() {
                write(client, &mut dice, of, 10);
            }
            std::thread::yield_now();
        }
        if round == kills {
            // A key that a source has held is the sources', also when it is gone there.
            comes(&target, "begun", &mut running);
            clients[1].call(cmd!("DEL", "older 1"));
            for (of, client) in clients.iter_mut().enumerate() {
                client.call(cmd!("SET", format!("the end {of}"), 1));
                comes(&target, &format!("the end {of}"), &mut running);
            }
            break running.end_job(PATIENCE);
        }
        round += 1;
        signal("KILL", running.id());
        running = running.stop(PATIENCE).1.follow();
    };
    ended.assert_code(130);
    if kills == 0 {
        let met = |of| ended.reported(&format!("sources.{of}.conflicts")).as_u64().unwrap();
        assert!(met(0) + met(1) + met(2) > 12);
    }
    let held = sources.iter().map(|source| Dump::read(&mut source.client())).collect::<Vec<_>>();
    let wanted = match flags.contains(&"keep") {
        true => Dump::first_of([older].into_iter().chain(held)),
        false => Dump::first_of(held.into_iter().chain([nobodys])),
    };
    let what = format!("{names:?} {flags:?} seed {seed}");
    assert_same(&wanted, &Dump::read(&mut reader), Forgiving::default(), &what);
    true
}

/// How many seeds are played of each test; by hand more.
fn seeds(first: u64) -> impl Iterator<Item = (u64, [&'static str; 4])> {
    let told = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let (first, rounds) = (
        told("UNDERSTUDY_RIVALS_SEED").unwrap_or(first),
        told("UNDERSTUDY_RIVALS_ROUNDS").unwrap_or(SERVERS.len() as u64),
    );
    (first..).zip(SERVERS.into_iter().cycle()).take(usize::try_from(rounds).unwrap())
}

#[test]
fn each_key_becomes_what_its_first_source_holds() {
    for (seed, names) in seeds(0) {
        let policy = if seed / 4 % 2 == 0 { "replace" } else { "keep" };
        run(names, seed, &["--on-conflict", policy], 0);
    }
}

#[test]
fn killed_runs_go_on_and_know_whose_a_key_is() {
    for (seed, names) in seeds(100) {
        let policy = if seed / 2 % 2 == 0 { "replace" } else { "keep" };
        run(names, seed, &["--on-conflict", policy], 3);
    }
}

/// A flush of one source takes away what it brought, and nothing of another's.
#[test]
fn a_flush_takes_away_what_its_source_brought() {
    for names in SERVERS {
        let started = names.map(Server::start);
        let [Some(one), Some(two), _, Some(target)] = &started else { return };
        let (mut first, mut second) = (one.client(), two.client());
        first.call(cmd!("MSET", "a", 1, "both", "first", "gone on one", 1));
        second.call(cmd!("MSET", "b", 2, "both", "second"));
        target.client().call(cmd!("SET", "older", 1));
        let args = ["sync", "--from", &one.url(), "--from", &two.url(), "--to", &target.url()];
        let flags = ["--on-conflict", "replace", "--on-flush", "apply"];
        let mut running = Understudy::start(&[&args[..], &flags].concat());
        first.call(cmd!("SET", "one follows", 1));
        second.call(cmd!("SET", "two follows", 1));
        comes(target, "one follows", &mut running);
        comes(target, "two follows", &mut running);
        first.call(cmd!("FLUSHALL"));
        first.call(cmd!("SET", "after", 1));
        comes(target, "after", &mut running);
        second.call(cmd!("SET", "the end", 1));
        comes(target, "the end", &mut running);
        running.end_job(PATIENCE).assert_code(130);
        let mut older = Dump::read(&mut target.client());
        older.keep_only(b"older");
        let held = [one, two].map(|source| Dump::read(&mut source.client()));
        let wanted = Dump::first_of(held.into_iter().chain([older]));
        let found = Dump::read(&mut target.client());
        assert_same(&wanted, &found, Forgiving::default(), &format!("{names:?}"));
        assert_eq!(found.len(), 6, "after, b, both, two follows, the end, older");
    }
}

/// Where that is not wanted a key that becomes another source's too stays as it is.
#[test]
fn a_key_of_two_sources_stays_as_it_is_where_that_is_not_wanted() {
    for names in SERVERS {
        let started = names.map(Server::start);
        let [Some(one), Some(two), _, Some(target)] = &started else { return };
        let (mut first, mut second) = (one.client(), two.client());
        first.call(cmd!("MSET", "a", 1, "both", "first"));
        second.call(cmd!("MSET", "b", 2));
        let args = ["sync", "--from", &one.url(), "--from", &two.url(), "--to", &target.url()];
        let mut running = Understudy::start(&args);
        comes(target, "both", &mut running);
        comes(target, "b", &mut running);
        second.call(cmd!("SET", "two follows", 1));
        comes(target, "two follows", &mut running);
        second.call(cmd!("SET", "both", "second"));
        second.call(cmd!("SET", "the end", 1));
        comes(target, "the end", &mut running);
        running.tells("several sources hold this key", PATIENCE);
        first.call(cmd!("APPEND", "both", "!"));
        first.call(cmd!("RENAME", "a", "renamed"));
        comes(target, "renamed", &mut running);
        let (ended, again) = running.stop(PATIENCE);
        ended.assert_code(130);
        assert_eq!(ended.reported("sources.1.unproven"), 1);
        // The record keeps that: it is still not what the sources hold.
        let ended = again.once().wait(PATIENCE);
        ended.assert_code(1);
        assert_eq!(ended.reported("sources.1.unproven"), 1);
        let held = target.client().call(cmd!("MGET", "both", "b", "renamed"));
        assert_eq!(held.strings(), [&b"first"[..], b"2", b"1"], "{names:?}");
    }
}

/// Without the names of an earlier run all is copied again, and what no source holds is left and counted.
#[test]
fn names_that_are_lost_cost_a_copy() {
    let started = SERVERS[0].map(Server::start);
    let [Some(one), Some(two), _, Some(target)] = &started else { return };
    let (mut first, mut second) = (one.client(), two.client());
    first.call(cmd!("MSET", "a", 1, "both", "first", "goes", 1));
    second.call(cmd!("MSET", "b", 2, "both", "second"));
    let args = ["sync", "--from", &one.url(), "--from", &two.url(), "--to", &target.url()];
    let flags = ["--on-conflict", "replace", "--job", "night"];
    let mut running = Understudy::start(&[&args[..], &flags].concat());
    first.call(cmd!("SET", "one follows", 1));
    second.call(cmd!("SET", "two follows", 1));
    comes(target, "one follows", &mut running);
    comes(target, "two follows", &mut running);
    let log = running.state().path().join("night/names");
    assert!(log.metadata().unwrap().len() > 68, "{}", log.display());
    let (ended, again) = running.stop(PATIENCE);
    ended.assert_code(130);
    std::fs::remove_file(&log).unwrap();
    first.call(cmd!("DEL", "goes"));
    first.call(cmd!("APPEND", "both", "!"));
    second.call(cmd!("DEL", "b"));
    let ended = again.once().wait(PATIENCE);
    ended.assert_code(1);
    assert_eq!(
        [0, 1].map(|of| ended.reported(&format!("sources.{of}.full_syncs")).clone()),
        [1, 1]
    );
    let held = target.client().call(cmd!("MGET", "a", "both"));
    assert_eq!(held.strings(), [&b"1"[..], b"first!"]);
    assert!(!log.exists(), "nothing of a job that is done is left");
}

/// A run on another machine takes over all sources before it works on any, while the one before it is at its busiest.
#[test]
fn another_machine_takes_all_sources_over() {
    for (seed, names) in seeds(200) {
        let started = names.map(Server::start);
        let [Some(one), Some(two), Some(three), Some(target)] = &started else { return };
        let sources = [one, two, three];
        let mut dice = Dice::new(seed);
        let mut clients = sources.map(Server::client);
        // Nothing is deleted: what is gone on all sources stays where names are lost.
        let mut write = |count: usize| {
            for (of, client) in clients.iter_mut().enumerate() {
                let commands: Vec<Command> = (0..count)
                    .map(|_| {
                        let names = self::names(of);
                        let name = &names[dice.below(names.len())];
                        match dice.below(3) {
                            0 => cmd!("INCR", name),
                            1 => cmd!("RPUSH", format!("list of {name}"), of),
                            _ => cmd!("APPEND", format!("text {name}"), of),
                        }
                    })
                    .collect();
                client.pipeline(&commands);
            }
        };
        write(300);
        let urls = sources.map(Server::url);
        let to = target.url();
        let from = urls.iter().flat_map(|url| ["--from", url.as_str()]);
        let flags = ["--to", &to, "--on-conflict", "replace", "--job", "night"];
        let args: Vec<&str> = ["sync"].into_iter().chain(from).chain(flags).collect();
        let mut here = Understudy::start_telling(&args);
        two.client().call(cmd!("SET", "begun", 1));
        comes(target, "begun", &mut here);
        write(100);
        let mut there = Understudy::start_telling(&args);
        let over = asking::within(PATIENCE, || {
            write(10);
            !here.is_running() || !there.is_running()
        });
        if !over || here.is_running() {
            let both = [here, there].map(|run| {
                signal("KILL", run.id());
                run.wait(PATIENCE).stderr
            });
            panic!(
                "{names:?} seed {seed}: both run, or the second has ended:\n{}",
                both.join("\n")
            );
        }
        here.wait(PATIENCE).assert_code(3);
        for (of, source) in sources.iter().enumerate() {
            let end = format!("the end {of}");
            source.client().call(cmd!("SET", &end, 1));
            comes(target, &end, &mut there);
        }
        there.end_job(PATIENCE);
        let held = sources.map(|source| Dump::read(&mut source.client()));
        let what = format!("{names:?} seed {seed}");
        let merged = Dump::first_of(held);
        assert_same(&merged, &Dump::read(&mut target.client()), Forgiving::default(), &what);
    }
}
