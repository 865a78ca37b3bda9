//! `check` against real servers: each finding is brought about, and a healthy pair is quiet. What no server of a test can be brought to (too
//! little memory for a fork, a slow fork) is put into the mouth of a real one by whoever stands between (`between`).

mod access;
mod between;
mod healthy;
mod source;
mod target;
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use understudy::plan::Kind;

use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const SERVER: &str = "redis-7.0.15";
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "s3cr3t-pa55w0rd";

/// What a check has found.
struct Found {
    ended: Ended,
    json: Json,
}

/// Checks a run between these places.
fn check(from: &[&str], to: &str, more: &[&str]) -> Found {
    let from: Vec<&str> = from.iter().flat_map(|from| ["--from", from]).collect();
    let rest = ["--to", to, "--json", "--progress", "none"];
    let args = [&["check"], from.as_slice(), &rest, more].concat();
    let ended = Understudy::start(&args).wait(PATIENCE);
    for said in [&ended.stdout, &ended.stderr] {
        assert!(!said.contains(SECRET), "a secret is said: {said}");
    }
    let json = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr));
    Found { ended, json }
}

fn check_pair(source: &Server, target: &Server) -> Found {
    check(&[&source.url()], &target.url(), &[])
}

impl Found {
    fn all(&self, severity: &str) -> Vec<&Json> {
        let all = self.json["findings"].as_array().unwrap();
        all.iter().filter(|one| one["severity"] == severity).collect()
    }

    /// The finding of this kind, with these words in its evidence or its mend.
    #[track_caller]
    fn has(&self, severity: &str, kind: &str, words: &[&str]) -> &Self {
        let of_kind = self.all(severity).into_iter().filter(|one| one["kind"] == kind);
        let told: Vec<String> =
            of_kind.map(|one| format!("{} | {}", one["evidence"], one["mend"])).collect();
        let holds = |one: &&String| words.iter().all(|word| one.contains(word));
        assert!(
            told.iter().any(|one| holds(&one)),
            "no {severity} {kind} with {words:?}: {:#}",
            self.json
        );
        let code = if self.all("blocks").is_empty() { 0 } else { 2 };
        self.ended.assert_code(code);
        self
    }

    /// None of this kind, however bad.
    #[track_caller]
    fn lacks(&self, kind: &str) -> &Self {
        let all = self.json["findings"].as_array().unwrap();
        assert!(all.iter().all(|one| one["kind"] != kind), "{kind}: {:#}", self.json);
        self
    }

    /// What was not looked at, with these words.
    #[track_caller]
    fn unseen(&self, words: &[&str]) -> &Self {
        let all = self.json["unseen"].as_array().unwrap();
        let told = all.iter().map(|one| format!("{} | {}", one["evidence"], one["mend"]));
        assert!(
            { told }.any(|one| words.iter().all(|word| one.contains(word))),
            "{words:?}: {:#}",
            self.json
        );
        self
    }

    /// Nothing that blocks, and no warning.
    #[track_caller]
    fn is_quiet(&self) -> &Self {
        assert!(self.all("blocks").is_empty(), "{:#}", self.json);
        assert!(self.all("warning").is_empty(), "{:#}", self.json);
        self.ended.assert_code(0);
        self
    }
}

/// Each kind of finding is brought about in one of these files, or else stands here with where it is.
#[test]
fn every_kind_is_brought_about() {
    let folder = Path::new("tests/integration/check");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text: String = { files }
        .filter(|path| !path.ends_with("mod.rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let elsewhere: BTreeSet<Kind> = ELSEWHERE.into();
    let missing: Vec<&str> = { Kind::ALL.iter() }
        .filter(|kind| !text.contains(&format!("\"{}\"", kind.name())) && !elsewhere.contains(kind))
        .map(|kind| kind.name())
        .collect();
    assert!(missing.is_empty(), "nothing brings about {missing:?}");
}

/// `check` is not told of `--deadlines live`, and what was not looked at has a list of its own.
const ELSEWHERE: [Kind; 2] = [Kind::LiveDeadlines, Kind::Unseen];

/// The document names each kind, and none that there is not.
#[test]
fn the_document_names_every_kind() {
    let document = fs::read_to_string("docs/check.md").unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let named: BTreeSet<&str> = rows.map(|(name, _)| name).collect();
    let kinds: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let missing: Vec<_> = kinds.difference(&named).collect();
    assert!(missing.is_empty(), "docs/check.md does not name {missing:?}");
}
