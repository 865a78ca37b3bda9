//! What was seen of the servers of a plan, beyond their facts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::Db;

use super::Finding;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Of each source, in the plan's order; `None` of a file, and of one that does not answer.
    pub sources: Vec<Option<Seen>>,
    /// Of the target; `None` likewise.
    pub target: Option<Seen>,
    /// Places that do not answer.
    pub unreachable: Vec<Finding>,
    /// When that was, in seconds since 1970.
    pub now: i64,
}

/// What was seen of one server.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What it says of itself, in its own words.
    pub info: Told,
    /// Its settings, as far as it tells them.
    pub settings: Settings,
    /// The user that we are there; `None` without a name.
    pub user: Option<String>,
    /// The middle one of some round trips.
    pub round_trip: Option<Duration>,
    /// Bytes that went there and back in a second; the way may bear more.
    pub rate: Option<u64>,
    /// What our user may not run there.
    pub denied: Vec<Denied>,
    /// Commands that are not known there although servers of its version know them.
    pub unknown: Vec<&'static str>,
    /// Some of its keys.
    pub sample: Option<Sample>,
    /// Certificates that it has shown, and those that it is shown.
    pub certificates: Vec<Certificate>,
    /// Whether it is spoken to over TLS and its certificate is not looked at.
    pub unverified: bool,
    /// Questions that it has not answered.
    pub no_answer: Vec<NoAnswer>,
}

/// What a server says in `INFO`.
#[derive(Clone, Debug, Default)]
pub struct Told(pub String);

impl Told {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// The value of a field that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// How often a command was called since the server was started.
    #[must_use]
    pub fn calls(&self, command: &str) -> u64 {
        let calls = self.field(&format!("cmdstat_{command}"));
        let calls = calls.and_then(|stat| stat.strip_prefix("calls=")?.split(',').next());
        calls.and_then(|calls| calls.parse().ok()).unwrap_or(0)
    }

    /// What is counted under this name in the lines of its databases, of all together; `None` if no line counts it.
    #[must_use]
    pub fn of_databases(&self, name: &str) -> Option<u64> {
        let lines = self.0.lines().filter(|line| {
            let db = line.split_once(':').and_then(|(db, _)| db.strip_prefix("db"));
            db.is_some_and(|db| !db.is_empty() && db.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let counts = lines.filter_map(|line| {
            let (_, counts) = line.split_once(':')?;
            let value = counts.split(',').find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
            value?.trim().parse::<u64>().ok()
        });
        counts.fold(None, |sum, count| Some(sum.unwrap_or(0) + count))
    }

    /// The replicas that are attached: where, and whether they listen on no port, as tools do that only play one.
    pub fn replicas(&self) -> impl Iterator<Item = Attached<'_>> {
        let replica = |number: usize| self.field(&format!("slave{number}"));
        (0..).map_while(replica).map(|line| {
            // Up to 2.6: address, port and state; later with names.
            let word = |name: &str, at: usize| {
                let mut words = line.split(',');
                let named = words.clone().find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
                named.or_else(|| words.nth(at).filter(|one| !one.contains('=')))
            };
            Attached {
                host: word("ip", 0).unwrap_or_default(),
                is_server: word("port", 1) != Some("0"),
                state: word("state", 2).unwrap_or_default(),
            }
        })
    }

    /// The modules that are loaded, without what is built in.
    #[must_use]
    pub fn modules(&self) -> Vec<Module> {
        const BUILT_IN: [&str; 2] = ["vectorset", "lua"];
        let lines = self.0.lines().filter_map(|line| line.strip_prefix("module:name="));
        let modules = lines.map(|line| {
            let (name, rest) = line.split_once(',').unwrap_or((line, ""));
            let version = rest.strip_prefix("ver=").and_then(|rest| rest.split(',').next());
            Module { name: name.trim().to_owned(), version: version.unwrap_or("?").to_owned() }
        });
        let mut found: Vec<Module> = Vec::new();
        for module in modules.filter(|module| !BUILT_IN.contains(&module.name.as_str())) {
            // Some servers tell them by themselves too.
            if !found.contains(&module) {
                found.push(module);
            }
        }
        found
    }
}

/// A replica of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached<'a> {
    /// From where.
    pub host: &'a str,
    /// Whether it has said on which port it listens.
    pub is_server: bool,
    /// How far it is.
    pub state: &'a str,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its version, as it numbers them.
    pub version: String,
}

impl Module {
    /// Its version as the number that it is; 0 if that is not told.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.version.parse().unwrap_or(0)
    }
}

/// Settings of a server.
#[derive(Clone, Debug, Default)]
pub struct Settings(pub BTreeMap<&'static str, String>);

impl Settings {
    /// A setting; `None` if it was not told.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A setting that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// One that has got another name since.
    #[must_use]
    pub fn either(&self, name: &str, before: &str) -> Option<u64> {
        self.number(name).or_else(|| self.number(before))
    }
}

/// A command that a user may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Its name.
    pub command: &'static str,
    /// The category that holds it and others like it.
    pub category: &'static str,
    /// The server's own words.
    pub text: String,
}

/// A question that was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// What was asked.
    pub question: &'static str,
    /// What is not known for that.
    pub unknown: String,
    /// What the server said, if it was the server.
    pub text: String,
    /// The right that allows it (`+config|get`).
    pub right: &'static str,
}

/// Some keys of a server.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// How many were looked at.
    pub looked_at: u64,
    /// How many there are, as far as is known.
    pub of: u64,
    /// How many of each type, as the server names it.
    pub types: BTreeMap<String, u64>,
    /// The largest of them.
    pub largest: Option<Large>,
    /// The longest string among them, in bytes.
    pub longest: u64,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    /// Its database.
    pub db: Db,
    /// Its key.
    pub key: Vec<u8>,
    /// Its type.
    pub kind: String,
    /// How large it is.
    pub bytes: Bytes,
}

/// How large a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bytes {
    /// Reckoned from its elements: a server before 4.0 tells no more.
    AtLeast(u64),
    /// In its server's memory.
    InMemory(u64),
}

impl Bytes {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::AtLeast(bytes) | Self::InMemory(bytes) => bytes,
        }
    }
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The server's.
    Server,
    /// An authority's that stands behind the server's.
    Authority,
    /// Ours.
    Ours,
}

/// A certificate, as far as it matters when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub owner: Owner,
    /// For whom it is made out.
    pub subject: String,
    /// Until when it holds, in seconds since 1970.
    pub until: i64,
    /// The same as a date.
    pub ends: String,
}
