//! Clusters as sources: whole, while their masters are written to, fail over, and give slots to each other.

mod nodes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use understudy::slots::slot_of;

use crate::asking;
use crate::client::{Client, Value, cmd};
use crate::dice::Dice;
use crate::judge::{self, Dump};
use crate::replicas;
use crate::servers::Server;
use crate::sync;
use crate::tool::{Ended, Understudy};

use nodes::{Cluster, id, node};

const PATIENCE: Duration = Duration::from_secs(30);

const NAMES: [&str; 4] = ["redis-3.0.5", "redis-5.0.6", "redis-7.0.15", "valkey-9.1.2"];

/// Tells the writers to end, whatever becomes of the test.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How the job is ended of a run that follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The run is stopped, and another one ends it.
    AnotherRun,
    /// The run is told to finish.
    Itself,
}

/// Follows a cluster that is written to all the time, while something else happens.
fn follow(
    cluster: &Cluster,
    target: &Server,
    by: By,
    meanwhile: impl FnOnce(&mut Understudy),
) -> Ended {
    let mut running =
        Understudy::start_telling(&["sync", "--from", &cluster.url(), "--to", &target.url()]);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&ends);
        for seed in 0..2 {
            let ends = &ends;
            let mut client = cluster.client();
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                while !ends.load(Ordering::Relaxed) {
                    client.write(&mut dice);
                }
            });
        }
        // One key for each master.
        for key in ["key", "k2", "k5"] {
            cluster.client().send(key, &cmd!("SET", key, 1));
            assert!(
                Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running()),
                "{}: {key}",
                cluster.name
            );
        }
        meanwhile(&mut running);
    });
    cluster.client().send("last", &cmd!("SET", "last", 1));
    let ended = match by {
        By::AnotherRun => running.end_job(PATIENCE),
        By::Itself => {
            running.beside(&["stop", "--finish"]).assert_code(0);
            running.wait(PATIENCE)
        }
    };
    ended.assert_code(if by == By::Itself { 0 } else { 130 });
    equal(cluster, target, &ended);
    ended
}

fn equal(cluster: &Cluster, target: &Server, ended: &Ended) {
    let (first, second) = (cluster.dump(), Dump::read(&mut target.client()));
    if !judge::diff(&first, &second, sync::untold(target)).is_empty() {
        crate::servers::say(&ended.stderr);
        for one in cluster.serving() {
            crate::servers::say(&one.client().call(cmd!("CLUSTER", "NODES")).text());
        }
    }
    judge::assert_same(&first, &second, sync::untold(target), cluster.name);
}

fn fill(cluster: &Cluster) {
    let (mut client, mut dice) = (cluster.client(), Dice::new(9));
    (0..300).for_each(|_| client.write(&mut dice));
}

/// At rest, by one of its nodes: that it is one of a cluster is found out.
fn copies_at_rest(name: &'static str) {
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    fill(&cluster);
    let node = cluster.masters[1].url();
    let ended = Understudy::start(&["sync", "--from", &node, "--to", &target.url(), "--once"]);
    let ended = ended.wait(PATIENCE);
    ended.assert_code(0);
    equal(&cluster, &target, &ended);
    for (nth, slots) in [(0, "[0-5460]"), (1, "[5461-10921]"), (2, "[10922-16383]")] {
        let source = format!("127.0.0.1:{}{slots}", cluster.masters[1].port);
        assert_eq!(ended.reported(&format!("sources.{nth}.name")), &source);
    }
    assert_eq!(Dump::read(&mut target.client()).own(), &[], "a finished job leaves nothing");
}

/// Only the part that has a key's slot is asked for it.
#[test]
fn a_key_is_explained_by_the_part_that_has_it() {
    let name = "redis-7.0.15";
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    cluster.client().send("here", &cmd!("SET", "here", "x"));
    let (from, to) = (cluster.url(), target.url());
    let explain = |code| {
        let args = ["explain", "here", "--from", &from, "--to", &to, "--json"];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(code);
        let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(told["sources"].as_array().unwrap().len(), 1, "{told}");
        told["answer"].as_str().unwrap().to_owned()
    };
    assert_eq!(explain(1), "no_job");
    let ended = Understudy::start(&["sync", "--from", &from, "--to", &to, "--once"]);
    ended.wait(PATIENCE).assert_code(0);
    assert_eq!(explain(0), "arrived");
}

/// A census reads every master, told one of the nodes.
#[test]
fn a_census_counts_all_masters() {
    for name in NAMES {
        let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
        else {
            return;
        };
        fill(&cluster);
        let (from, to) = (cluster.masters[2].url(), target.url());
        let args = ["sync", "--dry-run", "--census", "--from", &from, "--to", &to];
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(0);
        let found = ended.reported("census");
        let counted = |at: usize| {
            found["sources"][at]["counted"]["counts"]["keys"].as_u64().unwrap_or_default()
        };
        let held = cluster.masters.iter().map(|one| one.client().call(cmd!("DBSIZE")).int());
        let held: Vec<u64> = held.map(|keys| u64::try_from(keys).unwrap()).collect();
        assert_eq!([counted(0), counted(1), counted(2)], held[..]);
        assert!(held.iter().all(|keys| *keys > 0), "{held:?}");
        let (all, names) = (held.iter().sum::<u64>(), &found["collisions"]["names"]);
        assert_eq!((&found["counts"]["keys"], names), (&all.into(), &all.into()), "{name}");
        assert_eq!(found["collisions"]["colliding"], 0);
        for (nth, slots) in [(0, "[0-5460]"), (1, "[5461-10921]"), (2, "[10922-16383]")] {
            let source = format!("127.0.0.1:{}{slots}", cluster.masters[2].port);
            assert_eq!(found["sources"][nth]["name"], source.as_str());
        }
        assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 0);
    }
}

/// A cluster beside a server that holds the same, and something else then.
#[test]
fn a_cluster_is_compared_with_a_server() {
    for name in NAMES {
        let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
        else {
            return;
        };
        fill(&cluster);
        let (from, to) = (cluster.masters[1].url(), target.url());
        let sync = ["sync", "--from", &from, "--to", &to, "--once"];
        Understudy::start(&sync).wait(PATIENCE).assert_code(0);
        let verify = ["verify", "--from", &from, "--to", &to];
        Understudy::start(&verify).wait(PATIENCE).assert_code(0);
        let mut client = target.client();
        let some = client.call(cmd!("RANDOMKEY")).text();
        client.call(cmd!("DEL", some));
        client.call(cmd!("SET", "nobody's", 1));
        let ended = Understudy::start(&verify).wait(PATIENCE);
        ended.assert_code(1);
        let mut lines: Vec<&str> = ended.stdout.lines().collect();
        lines.sort_unstable();
        let missing = format!("missing\t0\t\"{some}\"");
        assert_eq!(lines, ["extra\t0\t\"nobody's\"", &missing], "{name}: {}", ended.stderr);
        // Key by key, by all names of each part of the cluster.
        let sample = Understudy::start(&[&verify[..], &["--sample", "100%"]].concat());
        let sample = sample.wait(PATIENCE);
        let mut lines: Vec<&str> = sample.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["extra\t0\t\"nobody's\"", &missing], "{name}: {}", sample.stderr);
        assert!(sample.stderr.contains("a hash of their names"), "{name}: {}", sample.stderr);
        let repair = [&verify[..], &["--repair"]].concat();
        Understudy::start(&repair).wait(PATIENCE).assert_code(0);
        Understudy::start(&verify).wait(PATIENCE).assert_code(0);
    }
}

/// Each key is brought by the lane of the node that has its slot.
#[test]
fn the_job_of_a_cluster_mends() {
    for name in NAMES {
        let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
        else {
            return;
        };
        fill(&cluster);
        let (from, to) = (cluster.url(), target.url());
        let places = ["--from", &from, "--to", &to];
        let running = Understudy::start_telling(&[&["sync"], &places[..]].concat());
        running.follows(PATIENCE);
        let mut client = target.client();
        let keys = client.call(cmd!("KEYS", "*")).strings();
        let keys: Vec<_> = keys.iter().filter(|key| !key.starts_with(b"understudy:")).collect();
        for (number, key) in keys.iter().enumerate() {
            client.call(cmd!("DEL", *key));
            if number % 2 == 0 {
                client.call(cmd!("SET", *key, "not this"));
            }
            client.call(cmd!("SET", format!("extra:{number}"), number));
        }
        // No master has to save three times for it.
        let verify = ["verify", "--repair", "--json", "--by", "scan"];
        let mended = running.beside(&[&verify, &places[..]].concat());
        mended.assert_code(0);
        let counts: serde_json::Value =
            serde_json::from_str(mended.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(counts["mended"], 2 * keys.len(), "{name}: {}", mended.stderr);
        let (_, again) = running.stop(PATIENCE);
        let ended = again.once().wait(PATIENCE);
        ended.assert_code(0);
        equal(&cluster, &target, &ended);
    }
}

/// All masters are fenced, and fall silent, before any of it counts.
#[test]
fn a_cluster_is_cut_over() {
    let (Some(cluster), Some(target)) =
        (Cluster::start("redis-7.0.15", 3, false), Server::start("redis-8.0.2"))
    else {
        return;
    };
    fill(&cluster);
    let (from, to) = (cluster.url(), target.url());
    let ended = Understudy::start(&["cutover", "--from", &from, "--to", &to, "--fence", "acl"])
        .wait(PATIENCE);
    ended.assert_code(0);
    assert!(ended.stdout.lines().any(|line| line.starts_with("GO ")), "{}", ended.stdout);
    assert!(ended.stderr.contains("acl stands on 3 servers"), "{}", ended.stderr);
    for master in &cluster.masters {
        let refusal = master.client().try_call(cmd!("SET", "x", 1));
        assert!(
            matches!(&refusal, Value::Error(text) if text.starts_with("NOPERM")),
            "{refusal:?}"
        );
    }
    equal(&cluster, &target, &ended);
}

#[test]
fn a_cluster_is_found_out_and_copied_whole() {
    NAMES.into_iter().for_each(copies_at_rest);
}

#[test]
fn a_cluster_is_followed() {
    for name in NAMES {
        let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
        else {
            continue;
        };
        fill(&cluster);
        let by = if name == NAMES[0] { By::Itself } else { By::AnotherRun };
        follow(&cluster, &target, by, |_| fill(&cluster));
    }
}

/// A replica is told to take its master's place, and then another one does so because its master is dead.
fn fails_over(name: &'static str) {
    let (Some(mut cluster), Some(target)) = (Cluster::start(name, 3, true), Server::start(name))
    else {
        return;
    };
    fill(&cluster);
    let dead = cluster.masters[1].id();
    follow(&cluster, &target, By::AnotherRun, |running| {
        let replica = &cluster.replicas[0];
        asking::until("it is told", PATIENCE, || {
            !replica.client().try_call(cmd!("CLUSTER", "FAILOVER")).is_error()
        });
        asking::until("a replica takes its place", PATIENCE, || {
            replica.client().info("replication", "role") == "master"
        });
        fill(&cluster);
        replicas::caught_up(&mut cluster.masters[1].client(), &mut cluster.replicas[1].client());
        crate::tool::signal("KILL", dead);
        asking::until("another takes the dead one's place", PATIENCE, || {
            cluster.replicas[1].client().info("replication", "role") == "master"
        });
        fill(&cluster);
        let key = (0..).map(|n| format!("behind{n}"));
        let key = { key }.find(|key| (5461..10922).contains(&slot_of(key.as_bytes()))).unwrap();
        cluster.client().send(&key, &cmd!("SET", key, 1));
        assert!(
            Client::wait_for_key(target.port, 0, &key, PATIENCE, || running.is_running()),
            "{name}"
        );
    });
    cluster.masters[1].kill();
}

#[test]
fn a_failover_is_followed_3_0() {
    fails_over("redis-3.0.5");
}

#[test]
fn a_failover_is_followed_5_0() {
    fails_over("redis-5.0.6");
}

#[test]
fn a_failover_is_followed_7_0() {
    fails_over("redis-7.0.15");
}

#[test]
fn a_failover_is_followed_valkey_9() {
    fails_over("valkey-9.1.2");
}

/// Slots go from one master to another and back while keys in them are written.
fn slots_move(name: &'static str) {
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    fill(&cluster);
    let ended = follow(&cluster, &target, By::Itself, |running| {
        let [one, other, third] = cluster.masters.as_slice() else { panic!("three masters") };
        cluster.reshard(one, other, 0..150);
        cluster.reshard(third, one, 16_300..16_384);
        running.tells("all slots of the cluster are at rest again", PATIENCE);
        cluster.reshard(other, one, 0..100);
        cluster.reshard(other, third, 100..150);
    });
    assert!(ended.stderr.contains("slots of the cluster have changed"), "{}", ended.stderr);
}

#[test]
fn slots_that_move_are_followed_3_0() {
    slots_move("redis-3.0.5");
}

#[test]
fn slots_that_move_are_followed_5_0() {
    slots_move("redis-5.0.6");
}

#[test]
fn slots_that_move_are_followed_7_0() {
    slots_move("redis-7.0.15");
}

#[test]
fn slots_that_move_are_followed_valkey_9() {
    slots_move("valkey-9.1.2");
}

/// The same with the whole keys of a slot at once, as Valkey 9 does it.
#[test]
fn slots_that_move_at_once_are_followed() {
    let name = "valkey-9.1.2";
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    fill(&cluster);
    follow(&cluster, &target, By::Itself, |_| {
        let [one, other, third] = cluster.masters.as_slice() else { panic!("three masters") };
        for (from, to, range) in [(one, other, (0, 999)), (third, one, (16_000, 16_383))] {
            let mut giver = from.client();
            let (first, last) = range;
            asking::until("it begins", PATIENCE, || {
                let command =
                    cmd!("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", id(to));
                !giver.try_call(command).is_error()
            });
            let mut taker = to.client();
            asking::until("the slots have moved", PATIENCE, || {
                let told = taker.call(cmd!("CLUSTER", "NODES")).text();
                let own = told.lines().find(|line| line.contains("myself")).unwrap();
                own.split(' ').skip(8).any(|slots| {
                    slots.ends_with(&last.to_string()) || slots.starts_with(&format!("{first}-"))
                })
            });
        }
        fill(&cluster);
    });
}

/// Slots move while the masters are still being copied, one after the other: keys may come in the copies of two, or of none.
fn slots_move_during_the_copy(name: &'static str) {
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    let mut client = cluster.client();
    let value = "v".repeat(2000);
    for n in 0..1500 {
        let key = format!("big{n}");
        client.send(&key, &cmd!("SET", key, value));
    }
    fill(&cluster);
    let from = cluster.url();
    let running = Understudy::start_telling(&[
        "sync",
        "--from",
        &from,
        "--to",
        &target.url(),
        "--limit-rate",
        "400",
        "--sources-at-once",
        "1",
    ]);
    thread::scope(|scope| {
        let mut client = cluster.client();
        // A round for each slot that goes: the target may not be written to any faster.
        let (goes, round) = mpsc::channel();
        scope.spawn(move || {
            let mut dice = Dice::new(3);
            round.into_iter().for_each(|()| client.write(&mut dice));
        });
        running.tells("full synchronization", PATIENCE);
        let [one, other, third] = cluster.masters.as_slice() else { panic!("three masters") };
        for (from, to, slots) in
            [(one, third, 0..200), (third, other, 16_000..16_200), (other, one, 5500..5700)]
        {
            cluster.reshard_with(from, to, slots, |_| goes.send(()).unwrap());
        }
    });
    running.beside(&["stop", "--finish"]).assert_code(0);
    let ended = running.wait(PATIENCE);
    ended.assert_code(0);
    equal(&cluster, &target, &ended);
}

#[test]
fn slots_that_move_during_the_copy_are_followed_3_0() {
    slots_move_during_the_copy("redis-3.0.5");
}

#[test]
fn slots_that_move_during_the_copy_are_followed_7_0() {
    slots_move_during_the_copy("redis-7.0.15");
}

/// Where the slots are in the end of a move in the midst of which the process was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Moved,
    Back,
}

/// The process is killed while slots move and keys in them are written. The same command goes on, or says what to do: nothing is wrong in either case.
fn killed_while_slots_move(name: &'static str, then: Then) {
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    fill(&cluster);
    let (from, to) = (cluster.url(), target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--job", "moved"];
    let [one, other, _] = cluster.masters.as_slice() else { panic!("three masters") };
    let state = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let stops = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&stops);
        let mut client = cluster.client();
        let stops = &stops;
        scope.spawn(move || {
            let mut dice = Dice::new(5);
            while !stops.load(Ordering::Relaxed) {
                client.write(&mut dice);
            }
        });
        // Killed before it has seen that slots move, when it has, and when they have come to rest and others move.
        let moments: &[&str] = match then {
            Then::Moved => &["slots of the cluster have changed"],
            Then::Back => &["", "slots of the cluster have changed", "are at rest again"],
        };
        for &words in moments {
            let mut running = Understudy::start_telling_in(&args, &state);
            for key in ["key", "k2", "k5"] {
                let key = format!("{key}{}", words.len());
                cluster.client().send(&key, &cmd!("SET", key, 1));
                let arrives =
                    Client::wait_for_key(target.port, 0, &key, PATIENCE, || running.is_running());
                assert!(arrives, "{name}: {key}");
            }
            if words == "are at rest again" {
                cluster.reshard(one, other, 200..210);
                running.tells(words, PATIENCE);
                cluster.reshard(other, one, 200..210);
            }
            cluster.reshard_with(one, other, 0..150, |gone| {
                if gone == 75 {
                    if !words.is_empty() {
                        running.tells(words, PATIENCE);
                    }
                    crate::tool::signal("KILL", running.id());
                }
            });
            running.wait(PATIENCE);
            if then == Then::Back {
                cluster.reshard(other, one, 0..150);
            }
        }
    });
    let again = [&args[..], &["--once"]].concat();
    let ended = Understudy::start_telling_in(&again, &state).wait(PATIENCE);
    let ended = match then {
        Then::Moved => {
            ended.assert_code(2);
            assert!(ended.stderr.contains("was begun with other sources"), "{}", ended.stderr);
            let again = [&again[..], &["--restart"]].concat();
            Understudy::start_telling_in(&again, &state).wait(PATIENCE)
        }
        Then::Back => ended,
    };
    ended.assert_code(0);
    equal(&cluster, &target, &ended);
}

#[test]
fn a_run_that_was_killed_while_slots_moved_says_what_to_do() {
    killed_while_slots_move("redis-7.0.15", Then::Moved);
}

#[test]
fn a_run_that_was_killed_while_slots_moved_goes_on_when_they_are_back() {
    killed_while_slots_move("redis-5.0.6", Then::Back);
    killed_while_slots_move("valkey-9.1.2", Then::Back);
}

/// What the positions say of slots that have moved is worth nothing: another run says so, and copies all anew when it is told to.
#[test]
fn a_job_whose_slots_have_moved_is_begun_anew() {
    let name = "redis-7.0.15";
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    fill(&cluster);
    let (from, to) = (cluster.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to, "--job", "moved"]);
    for key in ["key", "k2", "k5"] {
        cluster.client().send(key, &cmd!("SET", key, 1));
        assert!(Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running()));
    }
    let state = std::sync::Arc::clone(running.state());
    running.stop(PATIENCE).0.assert_code(130);
    cluster.reshard(&cluster.masters[0], &cluster.masters[1], 0..100);
    // What is deleted meanwhile must not stay, whoever had it.
    for n in 0..400 {
        let key = format!("count{n}");
        cluster.client().send(&key, &cmd!("DEL", key));
    }
    let again = ["sync", "--from", &from, "--to", &to, "--job", "moved", "--once"];
    let ended = Understudy::start_telling_in(&again, &state).wait(PATIENCE);
    ended.assert_code(2);
    assert!(ended.stderr.contains("was begun with other sources"), "{}", ended.stderr);
    let again = [&again[..], &["--restart"]].concat();
    let ended = Understudy::start_telling_in(&again, &state).wait(PATIENCE);
    ended.assert_code(0);
    equal(&cluster, &target, &ended);
}

/// A master that had no slots when the run began gets some: there is no source for them.
#[test]
fn slots_of_a_new_master_end_the_run() {
    let name = "redis-7.0.15";
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    let Some(new) = node(name) else { return };
    let mut running = Understudy::start(&["sync", "--from", &cluster.url(), "--to", &target.url()]);
    for key in ["key", "k2", "k5"] {
        cluster.client().send(key, &cmd!("SET", key, 1));
        assert!(Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running()));
    }
    new.client().call(cmd!("CLUSTER", "MEET", "127.0.0.1", cluster.masters[0].port));
    asking::until("all know it", PATIENCE, || {
        let known = new.client().call(cmd!("CLUSTER", "NODES")).text();
        known.lines().count() == 4
            && !known.contains("handshake")
            && cluster.masters.iter().all(|one| {
                let known = one.client().call(cmd!("CLUSTER", "NODES")).text();
                known.contains(&id(&new)) && !known.contains("handshake")
            })
    });
    cluster.reshard(&cluster.masters[0], &new, 0..10);
    let ended = running.wait(PATIENCE);
    ended.assert_code(3);
    assert!(ended.stderr.contains("have gone to a master that is no source"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the slots 0-9"), "{}", ended.stderr);
}

/// Slots that are on their way when a run begins stand in its way.
#[test]
fn a_move_under_way_is_waited_for() {
    let name = "redis-7.0.15";
    let (Some(cluster), Some(target)) = (Cluster::start(name, 3, false), Server::start(name))
    else {
        return;
    };
    let [one, other, _] = cluster.masters.as_slice() else { panic!("three masters") };
    one.client().call(cmd!("CLUSTER", "SETSLOT", 7, "MIGRATING", id(other)));
    let sync = || {
        let args = ["sync", "--from", &one.url(), "--to", &target.url(), "--once"];
        Understudy::start(&args).wait(PATIENCE)
    };
    let ended = sync();
    ended.assert_code(2);
    assert!(ended.stderr.contains("the slots 7 are on their way"), "{}", ended.stderr);
    one.client().call(cmd!("CLUSTER", "SETSLOT", 7, "STABLE"));
    sync().assert_code(0);
}
