//! `--report`: as JSON and as a page, with digests that the system's own tools confirm.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, cmd};
use crate::servers::Server;
use crate::tool::{Ended, Understudy};

const SERVER: &str = "redis-7.0.15";
const PATIENCE: Duration = Duration::from_secs(30);

/// The command that the documents give for the digest of a report.
fn reckoned(file: &Path) -> String {
    let command = r#"grep -vE '^(  "digest": |<p id="digest">)' "$0" | sha256sum"#;
    let output = Command::new("sh").args(["-c", command]).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// A folder with both forms of a report, read.
struct Reports {
    folder: TempDir,
}

impl Reports {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn flags(&self) -> [String; 4] {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        ["--report".to_owned(), path("a.html"), "--report".to_owned(), path("a.json")]
    }

    /// The page and the JSON, whose digests are what they say, and were told.
    #[track_caller]
    fn read(&self, ended: &Ended) -> (String, Value) {
        let texts = ["a.html", "a.json"].map(|name| {
            let path = self.folder.path().join(name);
            let (text, digest) = (fs::read_to_string(&path).unwrap(), reckoned(&path));
            assert!(text.contains(&format!("sha256:{digest}")), "{name} says otherwise");
            let told = format!("report: {}, sha256 {digest}\n", path.display());
            assert!(ended.stderr.contains(&told), "{told}: {}", ended.stderr);
            // One that was altered is found out.
            fs::write(&path, text.replacen("done", "Done", 1)).unwrap();
            assert_ne!(reckoned(&path), digest);
            text
        });
        let [page, json] = texts;
        (page, serde_json::from_str(&json).unwrap())
    }
}

fn fill(client: &mut Client) {
    for n in 0..30 {
        client.call(cmd!("SET", format!("string:{n}"), "x"));
        client.call(cmd!("RPUSH", format!("list:{n}"), "x", "y"));
    }
    client.call(cmd!("HSET", "hash", "field", "x"));
    client.call(cmd!("SET", "tmp:1", "x"));
    client.call(cmd!("SADD", "<b>&\"\n", "x"));
}

fn run(command: &str, args: &[String], flags: &[String]) -> Ended {
    let args = args.iter().chain(flags).map(String::as_str);
    Understudy::start(&[command].into_iter().chain(args).collect::<Vec<_>>()).wait(PATIENCE)
}

#[test]
fn both_forms_tell_the_same_and_no_secret() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    fill(&mut source.client());
    source.client().call(cmd!("CONFIG", "SET", "requirepass", "topsecret"));
    let from = format!("redis://:topsecret@127.0.0.1:{}", source.port);
    let places = ["--from".to_owned(), from, "--to".to_owned(), target.url()];
    let rules = ["--exclude".to_owned(), "tmp:*".to_owned()];
    let args = [&places[..], &rules[..]].concat();

    let reports = Reports::new();
    let flags = [&["--once".to_owned()][..], &reports.flags()[..]].concat();
    let ended = run("sync", &args, &flags);
    ended.assert_code(0);
    let (page, json) = reports.read(&ended);
    let types = serde_json::json!({ "string": 30, "list": 30, "hash": 1, "set": 1 });
    assert_eq!(json["sources"][0]["types"], types);
    assert_eq!((&json["outcome"], &json["totals"]["keys"]), (&"done".into(), &62.into()));
    assert_eq!(json["command"], "sync");
    let stretches = json["history"]["sources"][0]["keys"].as_array().unwrap();
    assert_eq!(stretches.iter().filter_map(Value::as_u64).sum::<u64>(), 62);
    assert_eq!(stretches.len(), json["history"]["ends"].as_array().unwrap().len());
    let phases = json["sources"][0]["seconds"]["phases"].as_object().unwrap();
    assert!(phases.values().filter_map(Value::as_f64).sum::<f64>() > 0.0, "{phases:?}");
    for word in [">62<", "Keys by type", "Over time", "Phases", "1 keys left out"] {
        assert!(page.contains(word), "{word}");
    }

    // What differs is named, whatever its name is.
    target.client().call(cmd!("SADD", "<b>&\"\n", "y"));
    target.client().call(cmd!("DEL", "hash"));
    let reports = Reports::new();
    let ended = run("verify", &args, &reports.flags());
    ended.assert_code(1);
    let (compared, json) = reports.read(&ended);
    assert_eq!((&json["outcome"], &json["command"]), (&"differences".into(), &"verify".into()));
    let told = &json["verify"];
    assert_eq!((&told["same"], &told["expected"]), (&60.into(), &62.into()));
    assert_eq!(told["differences"]["missing"], 1);
    assert_eq!(told["named"].as_array().unwrap().len(), 2);
    for word in ["2 keys differ", "&lt;b&gt;&amp;\\&quot;\\n", "missing", "where both sides part"] {
        assert!(compared.contains(word), "{word}");
    }
    // A part is told to be one.
    let reports = Reports::new();
    let only = ["--only".to_owned(), "list:*".to_owned()];
    let ended = run("verify", &args, &[&reports.flags()[..], &only[..]].concat());
    ended.assert_code(0);
    let (part, json) = reports.read(&ended);
    assert_eq!(json["verify"]["only"], serde_json::json!(["list:*"]));
    assert!(part.contains("no difference among the keys of --only") && part.contains("list:*"));
    for text in [page, compared, json.to_string(), ended.stderr] {
        assert!(!text.contains("topsecret"), "{text}");
    }
}

#[test]
fn what_was_refused_is_reported_too() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    for server in [&source, &target] {
        server.client().call(cmd!("SET", "here", "before"));
    }
    let args = ["--from".to_owned(), source.url(), "--to".to_owned(), target.url()];
    let reports = Reports::new();
    run("sync", &args, &reports.flags()).assert_code(2);
    let page = fs::read_to_string(reports.folder.path().join("a.html")).unwrap();
    assert!(page.contains("What went wrong") && page.contains("--on-conflict"), "{page}");

    let nowhere = ["--from".to_owned(), source.url(), "--to".to_owned(), "nowhere.rdb".to_owned()];
    let reports = Reports::new();
    run("verify", &nowhere, &reports.flags()).assert_code(2);
    let json = fs::read_to_string(reports.folder.path().join("a.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["outcome"], "refused");
    assert!(json["findings"][0]["evidence"].as_str().unwrap().contains("there is no such file"));
    let lost = ["--report".to_owned(), "/nowhere/a.html".to_owned()];
    let ended = run("verify", &args, &lost);
    ended.assert_code(2);
    assert!(ended.stderr.contains("--report: cannot write /nowhere/a.html"), "{}", ended.stderr);
}
