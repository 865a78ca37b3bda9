//! Keys that several sources hold, whose rules make other deadlines when the job ends: those of the source hold whose value is there.

use std::fs;
use std::sync::Arc;

use crate::client::{Client, cmd};
use crate::data::now_ms;
use crate::judge::Dump;
use crate::servers::Server;
use crate::tool::{Understudy, signal};

use super::PATIENCE;

const HOUR: i64 = 3_600_000;

/// A source's rules, as lines of the file.
#[derive(Clone, Copy, Debug)]
enum Rule {
    None,
    Floor,
    Cap,
}

impl Rule {
    fn lines(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Floor => "min_ttl = \"1h\"",
            Self::Cap => "max_ttl = \"2h\"",
        }
    }

    /// What it makes of a deadline in a job that has ended then.
    fn bounds(self, ended: i64, at: i64) -> i64 {
        match self {
            Self::None => at,
            Self::Floor => at.max(ended + HOUR),
            Self::Cap => at.min(ended + 2 * HOUR),
        }
    }
}

/// Each key, and which of the sources holds it in the end.
const KEYS: [(&str, usize); 6] =
    [("both", 0), ("both for long", 0), ("goes", 1), ("goes for long", 1), ("one", 0), ("two", 1)];

fn ends_by_its_holders_rules(name: &'static str, rules: [Rule; 2], killed: bool) -> bool {
    let started = [name, name, name].map(Server::start);
    let [Some(first), Some(second), Some(target)] = started else { return false };
    let sources = [first, second];
    let [mut one, mut two] = sources.each_ref().map(Server::client);
    for client in [&mut one, &mut two] {
        for (key, seconds) in [("both", 900), ("goes", 900), ("one", 900), ("two", 90_000)] {
            client.call(cmd!("SETEX", key, seconds, 1));
            client.call(cmd!("SETEX", format!("{key} for long"), seconds + 200_000, 1));
        }
    }
    one.call(cmd!("DEL", "two", "two for long"));
    two.call(cmd!("DEL", "one", "one for long"));
    let state = Arc::new(tempfile::tempdir().unwrap());
    let file = state.path().join("night.toml");
    let each = sources.iter().zip(rules).map(|(source, rule)| {
        format!("[[source]]\nurl = \"{}\"\n{}\n", source.url(), rule.lines())
    });
    let text = format!("[target]\nurl = \"{}\"\n{}", target.url(), each.collect::<String>());
    fs::write(&file, text).unwrap();
    let args = ["sync", "--config", file.to_str().unwrap(), "--on-conflict", "replace"];
    let mut running = Understudy::start_telling_in(&args, &state);
    let follows = |running: &mut Understudy, key: &str| {
        for source in &sources {
            let key = format!("{key} {}", source.port);
            source.client().call(cmd!("SET", &key, 1));
            let came =
                Client::wait_for_key(target.port, 0, &key, PATIENCE, || running.is_running());
            assert!(came, "{key}");
        }
    };
    follows(&mut running, "copied");
    follows(&mut running, "behind");
    // Each becomes the other's, and one of them is renewed there.
    one.call(cmd!("DEL", "goes", "goes for long"));
    two.call(cmd!("EXPIRE", "goes", 1000));
    one.call(cmd!("EXPIRE", "both", 1000));
    follows(&mut running, "changed");
    if killed {
        signal("KILL", running.id());
        assert_eq!(running.wait(PATIENCE).code, None);
    } else {
        running.stop(PATIENCE).0.assert_code(130);
    }
    let begun = now_ms(&mut target.client());
    let args = [&args[..], &["--once"]].concat();
    let ended = Understudy::start_telling_in(&args, &state).wait(PATIENCE);
    ended.assert_code(0);
    let over = now_ms(&mut target.client());
    let copies = [0, 1].map(|of| ended.reported(&format!("sources.{of}.full_syncs")).clone());
    assert_eq!(copies, [0, 0]);
    let held = sources.each_ref().map(|source| Dump::read(&mut source.client()));
    let found = Dump::read(&mut target.client());
    for (key, of) in KEYS {
        let at = held[of].deadline(key);
        let within = rules[of].bounds(begun, at)..=rules[of].bounds(over, at);
        let found = found.deadline(key);
        assert!(
            within.contains(&found),
            "{name} {rules:?} killed {killed}: {key} has {found}, not {within:?}"
        );
    }
    true
}

#[test]
fn a_contested_key_ends_by_the_rules_of_its_holder() {
    for rules in [
        [Rule::Cap, Rule::Floor],
        [Rule::Floor, Rule::Cap],
        [Rule::None, Rule::Cap],
        [Rule::Cap, Rule::None],
    ] {
        for (name, killed) in [("redis-7.0.15", false), ("redis-5.0.6", true)] {
            if !ends_by_its_holders_rules(name, rules, killed) {
                return;
            }
        }
    }
}
