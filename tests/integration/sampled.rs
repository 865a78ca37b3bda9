//! `verify --sample` and `--only`: a part of the keys is compared, and no source is asked for its data set.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::{Client, Command, cmd};
use crate::data;
use crate::servers::Server;
use crate::tool::Understudy;
use crate::verify::{Said, copied, copied_whole, keys, run, said, set, verify};

const PATIENCE: Duration = Duration::from_secs(30);

/// As many keys as the tables of all servers have their usual form with.
const KEYS: u32 = 20_000;

impl Said {
    /// Which part was compared, and by what it was chosen.
    fn sample(&self) -> (&str, &str) {
        let sample = &self.counts["sample"];
        (sample["share"].as_str().unwrap(), sample["chosen_by"].as_str().unwrap())
    }

    fn count(&self, name: &str) -> u64 {
        self.counts[name].as_u64().unwrap()
    }
}

/// How often a server was asked for its whole data set.
fn copies(client: &mut Client) -> u32 {
    client.info("stats", "sync_full").parse().unwrap()
}

#[track_caller]
fn assert_about(found: u64, wanted: u64, what: &str) {
    assert!((wanted * 3 / 4..=wanted * 5 / 4).contains(&found), "{what}: {found} of {wanted}");
}

/// What is drawn from the places of one table is found on the other side, whose table has another order.
fn is_drawn(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let plain: Vec<Command> = (0..KEYS).map(|n| set(n, 0)).collect();
    for server in [&source, &target] {
        data::all(&mut server.client(), &plain);
    }
    let (from, to) = (source.url(), target.url());
    let what = format!("{from} and {to}");
    let drawn = verify(&from, &to, &["--sample", "5%"]);
    drawn.assert(&[], &what);
    assert_eq!(drawn.sample(), ("5 %", "places"), "{what}");
    // A thousand of either side, of which some fifty are the same.
    assert_about(drawn.count("same"), 1950, &what);
    for count in ["expected", "found"] {
        assert_eq!(drawn.counts[count], drawn.counts["same"], "{what}");
    }
    assert_eq!(drawn.counts["sources"][0], "SCAN and DUMP");
    assert_eq!(copies(&mut source.client()), 0, "{what}");
    // A tenth has another value, a tenth is gone, and there are as many that no source has.
    let mut client = target.client();
    let mut meant = BTreeSet::new();
    for n in 0..KEYS / 10 {
        let (other, gone, new) = (n * 10, n * 10 + 1, KEYS + n);
        data::all(&mut client, &[set(other, 1), cmd!("DEL", format!("key:{gone}")), set(new, 1)]);
        let name = |n: u32| format!("key:{n}").into_bytes();
        let of = |kind: &str, n: u32| (kind.to_owned(), "0".to_owned(), name(n));
        meant.extend([of("value", other), of("missing", gone), of("extra", new)]);
    }
    let drawn = verify(&from, &to, &["--sample", "2000"]);
    assert_eq!(drawn.sample(), ("10 %", "places"), "{what}");
    let invented: Vec<_> = drawn.differ.iter().filter(|one| !meant.contains(*one)).collect();
    assert!(invented.is_empty(), "{what}: {invented:?}");
    // Values are met from both sides, the others from one.
    for (kind, wanted) in [("value", 380), ("missing", 200), ("extra", 200)] {
        let found = drawn.counts["differences"][kind].as_u64().unwrap();
        assert!((wanted / 2..=wanted * 2).contains(&found), "{what}: {kind} {found}");
    }
    assert_eq!(drawn.code, Some(1));
    // All names, of which all are chosen: nothing is missed.
    let all = verify(&from, &to, &["--sample", "100%"]);
    assert_eq!(all.sample(), ("100 %", "names"));
    assert_eq!(all.differ, meant.iter().cloned().collect::<Vec<_>>(), "{what}: {}", all.stderr);
    assert_eq!(copies(&mut source.client()), 0, "{what}");
}

macro_rules! drawn {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            is_drawn($from, $to);
        })+
    };
}

// Tables of three kinds: chains of keys, one for all databases, buckets of seven.
drawn! {
    drawn_from_2_8 "redis-2.8.17" "redis-6.2.14",
    drawn_from_7_0 "redis-7.0.15" "valkey-8.1.1",
    drawn_from_8_0 "redis-8.0.6" "redict-7.3.6",
    drawn_from_valkey "valkey-9.1.2" "valkey-8.0.1",
}

/// Every type, read key by key from two servers of other versions, is the same.
#[test]
fn every_type_is_the_same_key_by_key() {
    for (from, to) in [("redis-2.8.17", "redis-8.0.6"), ("redis-6.2.14", "valkey-9.1.2")] {
        let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
        let mut client = copied_whole(&source, &target);
        let (from, to) = (source.url(), target.url());
        let all = verify(&from, &to, &["--sample", "100%"]);
        assert_eq!(all.sample(), ("100 %", "names"));
        all.assert_same(keys(&mut client), &format!("{from} and {to}"));
    }
}

/// Whoever gives the seed that was told compares the same keys; another seed chooses others.
#[test]
fn a_sample_can_be_repeated_by_its_seed() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    data::all(&mut source.client(), &(0..2000).map(|n| set(n, 0)).collect::<Vec<_>>());
    let (from, to) = (source.url(), target.url());
    let one = verify(&from, &to, &["--sample", "30%"]);
    assert_eq!(one.sample(), ("30 %", "names"));
    assert_about(one.count("expected"), 600, "30 %");
    let seed = one.counts["sample"]["seed"].to_string();
    assert!(one.stderr.contains(&format!("--seed {seed}")), "{}", one.stderr);
    let again = verify(&from, &to, &["--sample", "30%", "--seed", &seed]);
    assert_eq!(again.differ, one.differ);
    let other = verify(&from, &to, &["--sample", "30%", "--seed", "1"]);
    assert_ne!(other.differ, one.differ);
    let drawn = || verify(&from, &to, &["--sample", "100", "--seed", "1"]).differ;
    assert_eq!(drawn(), drawn());
}

/// A rename that cannot be turned back, a file, several sources and databases: what is chosen is chosen on all sides.
#[test]
fn what_is_chosen_is_chosen_on_all_sides() {
    let name = "redis-7.0.15";
    let (Some(one), Some(two), Some(target)) =
        (Server::start(name), Server::start("redis-5.0.6"), Server::start(name))
    else {
        return;
    };
    for (server, round) in [(&one, 1), (&two, 2)] {
        let mut client = server.client();
        data::all(&mut client, &(0..3000).map(|n| set(n, round)).collect::<Vec<_>>());
        client.select(3);
        data::all(&mut client, &(0..1000).map(|n| set(n, round)).collect::<Vec<_>>());
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, kept) = (folder.path().join("night.toml"), folder.path().join("kept.rdb"));
    let config = |rename: &str| {
        format!(
            "[target]\nurl = \"{}\"\n[[source]]\nname = \"one\"\nurl = \"{}\"\ndb_map = \"3:4,4:3\"\n\
             [[source]]\nname = \"two\"\nurl = \"{}\"\n{rename}\n",
            target.url(),
            one.url(),
            two.url()
        )
    };
    for (rename, by) in
        [("rename = [\"key:=key of two:\"]", "names"), ("prefix = \"two:\"", "places")]
    {
        target.client().call(cmd!("FLUSHALL"));
        std::fs::write(&file, config(rename)).unwrap();
        let file = file.to_str().unwrap();
        Understudy::start(&["sync", "--config", file, "--once"]).wait(PATIENCE).assert_code(0);
        let compared = |share: &str| said(&run(&["--config", file, "--json", "--sample", share]));
        let sample = compared("10%");
        assert_eq!(sample.sample(), ("10 %", by));
        sample.assert(&[], by);
        assert_about(sample.count("same"), if by == "names" { 800 } else { 1520 }, by);
        compared("100%").assert_same(8000, by);
        // One that only a sample of the target can tell.
        let mut client = target.client();
        let new: Vec<Command> = (0..100).map(|n| cmd!("SET", format!("two:new:{n}"), n)).collect();
        data::all(&mut client, &new);
        let found = compared("20%").counts["differences"]["extra"].as_u64().unwrap();
        assert!((5..50).contains(&found), "{found} of 100, by {by}");
    }
    // A file has no table, and is read to its end; of its keys as many are compared.
    let kept = kept.to_str().unwrap();
    let from = one.url();
    let args = ["sync", "--from", &from, "--to", kept, "--once"];
    Understudy::start(&args).wait(PATIENCE).assert_code(0);
    for (from, to) in [(from.as_str(), kept), (kept, from.as_str())] {
        let sample = verify(from, to, &["--sample", "10%"]);
        assert_eq!(sample.sample(), ("10 %", "names"));
        sample.assert(&[], "a file");
        assert_about(sample.count("same"), 400, "a file");
    }
}

/// Only the keys that were asked for, by their names on the source, whichever way they are read.
#[test]
fn only_keys_that_match_are_compared() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut client = source.client();
    data::all(&mut client, &(0..100).map(|n| set(n, 0)).collect::<Vec<_>>());
    data::all(&mut client, &[cmd!("SET", "other:1", 1), cmd!("SET", "third", 1)]);
    for rename in ["--prefix=new:", "--rename=^(.)=new:$1", "--rename=^=new:"] {
        target.client().call(cmd!("FLUSHALL"));
        copied(&source, &target, &[rename]);
        let mut client = target.client();
        let planted = [
            cmd!("SET", "new:key:7", "x"),
            cmd!("DEL", "new:key:8"),
            cmd!("SET", "new:other:1", "x"),
            cmd!("SET", "new:other:2", "x"),
            cmd!("DEL", "new:third"),
        ];
        data::all(&mut client, &planted);
        let (from, to) = (source.url(), target.url());
        for how in [&[][..], &["--sample", "100%"]] {
            let flags = [&[rename, "--only", "key:*", "--only", "thi?d"], how].concat();
            let differ = [
                ("value", 0, "new:key:7"),
                ("missing", 0, "new:key:8"),
                ("missing", 0, "new:third"),
            ];
            let said = verify(&from, &to, &flags);
            said.assert(&differ, rename);
            assert_eq!(said.count("expected"), 101, "{rename}");
            assert_eq!(said.count("foreign"), 0, "{rename}: {}", said.stderr);
        }
        // Where a name tells its key it is told that no source has that.
        let said = verify(&from, &to, &[rename, "--only", "other:*"]);
        let mut differ = vec![("value", 0, "new:other:1"), ("extra", 0, "new:other:2")];
        if rename.contains('(') {
            differ.pop();
        }
        said.assert(&differ, rename);
    }
}

/// What a sample proves is said, and what it is not.
#[test]
fn a_sample_says_what_it_proves() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let plain: Vec<Command> = (0..3000).map(|n| set(n, 0)).collect();
    for server in [&source, &target] {
        data::all(&mut server.client(), &plain);
    }
    let (from, to) = (source.url(), target.url());
    let places = ["--from", &from, "--to", &to];
    let ended = run(&[&places[..], &["--sample", "50%"]].concat());
    ended.assert_code(0);
    for told in [
        "read: the sources by SCAN, MGET and DUMP, the target by SCAN, MGET and DUMP",
        "sample: 50 % of the keys, those that a hash of their names chose",
        "it would have been seen nineteen times out of twenty",
        "no difference",
    ] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let refused = run(&[&places[..], &["--sample", "1%", "--repair"]].concat());
    refused.assert_code(2);
    let refused = run(&[&places[..], &["--sample", "0"]].concat());
    refused.assert_code(2);
    assert!(refused.stderr.contains("a sample is a percentage"), "{}", refused.stderr);
}
