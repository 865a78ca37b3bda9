//! A file with many sources, each with its own rules.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::cmd;
use crate::servers::Server;
use crate::tool::Understudy;

const PATIENCE: Duration = Duration::from_secs(30);

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn only_mine(path: &str) {
    fs::set_permissions(Path::new(path), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn each_source_has_its_own_rules() {
    let started = [
        Server::start("redis-2.8.17"),
        Server::start("redis-5.0.6"),
        Server::start("redis-7.0.15"),
    ];
    let [Some(old), Some(locked), Some(target)] = started else { return };
    let mut client = old.client();
    for key in ["user:1", "tmp:1"] {
        client.call(cmd!("SET", key, "old"));
    }
    client.call(cmd!("SELECT", 1));
    client.call(cmd!("SET", "other", "old"));
    let mut client = locked.client();
    for key in ["user:1", "tmp:1", "list:1"] {
        client.call(cmd!("SET", key, "locked"));
    }
    client.call(cmd!("CONFIG", "SET", "requirepass", "se cret"));
    let folder = TempDir::new().unwrap();
    let secret = file(&folder, "secret", "se cret\n");
    only_mine(&secret);
    let config = file(
        &folder,
        "night.toml",
        &format!(
            r#"
            [target]
            url = "{}"
            [defaults]
            exclude = "tmp:*"
            [[source]]
            url = "{}"
            only_db = 0
            [[source]]
            url = "{}"
            name = "locked"
            only_db = 0
            db_map = "0:5"
            include = ["user:*", "tmp:*"]
            password_file = "{secret}"
            [limits]
            memory = "64MiB"
            "#,
            target.url(),
            old.url(),
            locked.url(),
        ),
    );

    let shown =
        Understudy::start(&["sync", "--config", &config, "--once", "--dry-run"]).wait(PATIENCE);
    shown.assert_code(0);
    for line in [
        "only db 0; exclude tmp:*",
        "only db 0; db 0:5; include user:* tmp:*; exclude tmp:*",
        "67.1 MB",
    ] {
        assert!(shown.stdout.contains(line), "{line}: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("se cret") && !shown.stderr.contains("se cret"), "{shown:?}");
    let mut there = target.client();
    assert_eq!(there.call(cmd!("DBSIZE")).int(), 0, "a dry run writes nothing");

    let ended = Understudy::start(&["sync", "--config", &config, "--once"]).wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(there.call(cmd!("GET", "user:1")).text(), "old");
    assert_eq!(there.call(cmd!("DBSIZE")).int(), 1);
    there.call(cmd!("SELECT", 5));
    assert_eq!(there.call(cmd!("GET", "user:1")).text(), "locked");
    assert_eq!(there.call(cmd!("DBSIZE")).int(), 1);
    let report = ended.report.unwrap();
    assert_eq!(report["sources"][1]["name"], "locked");
    assert_eq!(report["totals"]["keys"], 2);

    // A flag goes before the file.
    there.call(cmd!("FLUSHALL"));
    let ended = Understudy::start(&["sync", "--config", &config, "--once", "--exclude", "user:*"])
        .wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(there.call(cmd!("GET", "tmp:1")).text(), "locked");
}

#[test]
fn secrets_that_are_none_are_refused() {
    let folder = TempDir::new().unwrap();
    let secret = file(&folder, "secret", "word\n");
    let many = file(&folder, "many", "one\ntwo\n");
    only_mine(&many);
    fs::set_permissions(Path::new(&secret), fs::Permissions::from_mode(0o640)).unwrap();
    let says = |source: &str, wanted: &str, mend: &str| {
        let text = format!("[target]\nurl = \"redis://127.0.0.1:1\"\n[[source]]\n{source}\n");
        let config = file(&folder, "one.toml", &text);
        let ended = Understudy::start(&["sync", "--config", &config]).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(wanted), "{}", ended.stderr);
        assert!(ended.stderr.contains(mend), "{}", ended.stderr);
    };
    let url = "url = \"redis://127.0.0.1:2\"";
    says(
        &format!("{url}\npassword_file = \"{secret}\""),
        "one.toml:5:17: password_file: others can read",
        &format!("chmod 600 {secret}"),
    );
    says(&format!("{url}\npassword_file = \"{many}\""), "is not one line", "and nothing else");
    says(
        &format!("{url}\npassword_file = \"/no/where\""),
        "cannot read /no/where",
        "that this user may read",
    );
    says(
        &format!("{url}\npassword_env = \"UNDERSTUDY_NO_SUCH\""),
        "one.toml:5:16: password_env: the variable UNDERSTUDY_NO_SUCH is not set",
        "export it",
    );
    says(
        "url = \"redis://:word@127.0.0.1:2\"\npassword_env = \"HOME\"",
        "the url has a password too",
        "in one place",
    );
    says(
        "url = \"redis://127.0.0.1:{1..2}\"\nname = \"x\"",
        "stands for 1, and url for 2",
        "same ranges",
    );
    says(
        &format!("{url}\nonly_db = \"x\""),
        "one.toml:5:11: only_db: \"x\" is no database number",
        "",
    );
    says(&format!("{url}\n[[source]]\n{url}"), "given twice", "give it once");
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let ended = Understudy::start(&["sync", "--config", "/no/where.toml"]).wait(PATIENCE);
    ended.assert_code(2);
    assert!(ended.stderr.contains("--config: cannot read /no/where.toml"), "{}", ended.stderr);
    let folder = TempDir::new().unwrap();
    let config = file(&folder, "empty.toml", "");
    let ended = Understudy::start(&["sync", "--config", &config]).wait(PATIENCE);
    ended.assert_code(2);
    assert!(ended.stderr.contains("no target is given"), "{}", ended.stderr);
}
