//! What the documents show is so: each `sh` block of the README and of `docs/` runs as it stands there, and the help of
//! every command is the one in `tests/integration/help/`.
//!
//! In a block `redis://old.example:6379` is a server with keys and `redis://new.example:6379` an empty one. Behind `sh`
//! may stand `follows` (it goes on until SIGINT and ends with 130) or `refused` (it ends with 2, and not because of a flag
//! that does not exist).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::cmd;
use crate::servers::{Server, program};
use crate::tool::Understudy;

const SERVER: &str = "redis-7.0.15";
const COMMANDS: [&str; 18] = [
    "",
    "sync",
    "check",
    "verify",
    "explain",
    "cutover",
    "status",
    "pause",
    "resume",
    "stop",
    "record",
    "replay",
    "rdb",
    "rdb inspect",
    "rdb cat",
    "ping",
    "demo",
    "no-such-command",
];

/// With UNDERSTUDY_BLESS=1 the files are written anew; read the difference before it is committed.
#[test]
fn help_is_what_was_agreed() {
    let folder = Path::new("tests/integration/help");
    for command in COMMANDS {
        let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let ended = Understudy::run(&words);
        let expected = if command == "no-such-command" { 2 } else { 0 };
        assert_eq!(ended.code, Some(expected), "{ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        let name =
            if command.is_empty() { "understudy".to_owned() } else { command.replace(' ', "-") };
        let file = folder.join(format!("{name}.txt"));
        if env::var_os("UNDERSTUDY_BLESS").is_some() {
            fs::create_dir_all(folder).unwrap();
            fs::write(&file, &said).unwrap();
        }
        let agreed = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(said, agreed, "{} differs; UNDERSTUDY_BLESS=1 writes it anew", file.display());
    }
    let main = Understudy::run(&["--help"]).stdout;
    let listed = main.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()) {
        // Further in stands what was wrapped.
        let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else {
            continue;
        };
        let name = name.split_whitespace().next().unwrap();
        assert!(name == "help" || COMMANDS.contains(&name), "the help of {name} is not held");
    }
}

/// A block of a document that a reader would type.
struct Block {
    file: PathBuf,
    line: usize,
    kind: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let documents =
        ["docs", "docs/guides"].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let documents = documents.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        documents.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    files.push(PathBuf::from("README.md"));
    let mut blocks = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().enumerate();
        while let Some((line, head)) = lines.next() {
            let Some(kind) = head.strip_prefix("```sh") else { continue };
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = inside.collect::<Vec<_>>().join("\n");
            blocks.push(Block {
                file: file.clone(),
                line: line + 1,
                kind: kind.trim().to_owned(),
                text,
            });
        }
    }
    blocks
}

#[test]
fn what_the_documents_show_runs() {
    let blocks = blocks();
    assert!(blocks.len() >= 8, "only {} blocks were found", blocks.len());
    for block in &blocks {
        let place = format!("{}:{}", block.file.display(), block.line);
        let (Some(old), Some(new)) = (Server::start(SERVER), Server::start(SERVER)) else { return };
        old.client().call(cmd!("SET", "greeting", "hello"));
        let here = env::current_dir().unwrap();
        let text = block
            .text
            .replace("cargo run --release -- ", "understudy ")
            .replace("target/release/understudy", "understudy")
            // What builds and tests everything is not run in the midst of the tests; that it is there is seen.
            .replace("cargo build --release", "true")
            .replace("scripts/test", &format!("test -x {}", here.join("scripts/test").display()))
            .replace("old.example:6379", &format!("127.0.0.1:{}", old.port))
            .replace("new.example:6379", &format!("127.0.0.1:{}", new.port));
        assert!(!text.contains("example:"), "{place}: a host that stands for nothing: {text}");
        let folder = tempfile::tempdir().unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_understudy")).parent().unwrap().to_owned();
        let servers = program(SERVER).unwrap().parent().unwrap().to_owned();
        let rest = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([binary, servers].into_iter().chain(env::split_paths(&rest)));
        // It is stopped as Ctrl-C does; `sh -c` of one command becomes that command.
        let mut command = match block.kind.as_str() {
            "follows" => {
                let mut command = Command::new("timeout");
                command.args(["-s", "INT", "3", "sh", "-euc", &format!("exec {}", text.trim())]);
                command
            }
            _ => {
                let mut command = Command::new("sh");
                command.args(["-euc", &text]);
                command
            }
        };
        command.current_dir(folder.path()).env("PATH", path.unwrap()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let expected = match block.kind.as_str() {
            "" => 0,
            // `timeout` says so when it had to end what it has run.
            "follows" => 124,
            "refused" => 2,
            other => panic!("{place}: nobody knows a block of the kind {other:?}"),
        };
        assert_eq!(output.status.code(), Some(expected), "{place}: {text}\n{said}");
        // How to use it is said on stderr when it was used wrongly.
        assert!(!String::from_utf8_lossy(&output.stderr).contains("Usage: "), "{place}: {said}");
        if block.kind == "follows" {
            assert!(said.contains("stopped: "), "{place}: {said}");
        }
    }
}

impl Understudy {
    fn run(args: &[&str]) -> crate::tool::Ended {
        Self::start(args).wait(Duration::from_secs(20))
    }
}
