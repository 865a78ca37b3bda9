//! How it is said: on one line, in the form of the log, to nobody if nobody reads.

use std::fs;
use std::process::{Command, Stdio};

use crate::servers::{Server, free_port};
use crate::tool::Understudy;

use super::{PATIENCE, SERVER, assert_said, impostor, pair, says, sync};

#[test]
fn sockets_that_nobody_listens_on() {
    let Some(source) = Server::start(SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for (socket, reason, mend) in [
        (
            folder.path().join("none.sock"),
            "No such file or directory (os error 2)",
            "check the socket's path in --to (unixsocket in the server's configuration)",
        ),
        (
            stale,
            "Connection refused (os error 111)",
            "the server that made this socket is gone: check the path in --to, and that the server is up",
        ),
    ] {
        let to = format!("unix:{}", socket.display());
        let what = format!("{to}: cannot connect: {reason}");
        assert_said(&sync(&source.url(), &to, &[]), 2, &[], &what, mend);
    }
}

/// What a server says may hold anything: it stays on its line, and moves no cursor.
#[test]
fn what_a_server_says_is_shown_on_one_line() {
    let Some(target) = Server::start(SERVER) else { return };
    let port = impostor(says(b"-ERR first\rsecond\x1b[2J\r\n"));
    assert_said(
        &sync(&format!("redis://127.0.0.1:{port}"), &target.url(), &[]),
        2,
        &[(port, "SOURCE")],
        r"SOURCE: PING: ERR first\rsecond\u{1b}[2J",
        "see the server's log",
    );
}

/// With JSON logs every line on stderr is an object.
#[test]
fn errors_are_lines_of_a_json_log() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let ended = Understudy::start(&["--log-format", "json", "ping", &url]).wait(PATIENCE);
    ended.assert_code(2);
    let line: serde_json::Value = serde_json::from_str(ended.stderr.trim_end()).unwrap();
    assert_eq!(
        (&line["level"], &line["fields"]["mend"]),
        (
            &"ERROR".into(),
            &"nothing listens there: check the port in the URL, and that the server is up".into()
        )
    );
    let message = format!("127.0.0.1:{port}: cannot connect: Connection refused (os error 111)");
    assert_eq!(line["fields"]["message"], message);
}

#[test]
fn filters_that_are_none() {
    for (filters, what) in [
        ("verbose", "UNDERSTUDY_LOG: \"verbose\" is no level"),
        ("info,understudy=loud", "UNDERSTUDY_LOG=info,understudy=loud: error parsing level filter"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        let output = command.args(["ping", "redis://a:1"]).env("UNDERSTUDY_LOG", filters).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error: {what}")), "{said}");
    }
}

/// `| head -1` ends the reader of the table, not the run: the report is written all the same.
#[test]
fn nobody_need_read_the_table() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let (from, to) = (source.url(), target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--once", "--report"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.args(args).arg(&report).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(report).unwrap().contains("\"outcome\": \"done\""));
}
