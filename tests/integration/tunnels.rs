//! Sources and targets behind an ssh host that the system's own ssh leads to, or another program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::client::{Client, cmd};
use crate::judge::{Dump, Forgiving, assert_same};
use crate::servers::{Server, free_port, skip};
use crate::ssh::{PATIENCE, alone, said, through};
use crate::sshd::Sshd;
use crate::tool::Ended;

const SERVER: &str = "redis-7.0.15";

/// The system's ssh as a command that knows a host by the name of `gate`. `None` if this machine has none.
fn command(sshd: &Sshd) -> Option<String> {
    let has = Command::new("ssh").arg("-V").output().is_ok();
    if !has {
        skip("no ssh");
    }
    has.then(|| format!("ssh -F {}", sshd.client_config()))
}

/// The ssh processes that read this configuration.
fn running(config: &str) -> Vec<String> {
    let found =
        Command::new("pgrep").args(["-f", "--", &format!("^ssh -F {config} ")]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Kills them, as one kills who does not listen.
fn kill(processes: &[String]) {
    let _ = Command::new("kill").arg("-KILL").args(processes).status();
}

fn none_left(config: &str) {
    crate::asking::until("no program is left", Duration::from_secs(10), || {
        running(config).is_empty()
    });
}

#[test]
fn a_copy_and_its_stream_through_the_systems_ssh_which_is_killed_now_and_then() {
    let Some(sshd) = Sshd::start() else { return };
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let Some(ssh) = command(&sshd) else { return };
    let mut writer = source.client();
    for index in 0..2000 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(500)));
    }
    writer.call(cmd!("SET", "large", "y".repeat(8 << 20)));
    let (from, to) = (source.url(), target.url());
    let args = [through(&from, &to, "gate"), vec!["--ssh-command", &ssh]].concat();
    let mut tool = alone(&args, &[]);
    let mut arrives =
        |key: &str| Client::wait_for_key(target.port, 0, key, PATIENCE, || tool.is_running());
    // The first may come with the copy. Behind it the second comes with the stream, so that the copy is whole.
    for key in ["before", "behind"] {
        writer.call(cmd!("SET", key, "1"));
        assert!(arrives(key));
    }
    let config = sshd.file("client-config");
    for round in 0..3 {
        kill(&running(&config));
        let key = format!("after:{round}");
        writer.call(cmd!("INCR", "counter"));
        writer.call(cmd!("SET", &key, "1"));
        assert!(arrives(&key), "{key}");
    }
    // They are in groups of their own: a Ctrl-C at the terminal is for us.
    for process in running(&config) {
        let group = Command::new("ps").args(["-o", "pgid=", "-p", &process]).output().unwrap();
        let group = String::from_utf8(group.stdout).unwrap();
        assert!(group.trim().is_empty() || group.trim() == process, "{process} is of {group}");
    }
    let ended = tool.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.full_syncs"), 1);
    let name = format!("127.0.0.1:{} via gate", source.port);
    assert_eq!(ended.reported("sources.0.name"), name.as_str());
    none_left(&config);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "through the system's ssh");
}

#[test]
fn programs_that_are_killed_in_the_midst_of_a_copy_and_with_the_tool() {
    let Some(sshd) = Sshd::start() else { return };
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let Some(ssh) = command(&sshd) else { return };
    let mut writer = source.client();
    for index in 0..400 {
        writer.call(cmd!("SET", format!("key:{index}"), vec![b'x'; 64 << 10]));
    }
    let (from, to) = (source.url(), target.url());
    let more = [
        "--ssh-command",
        &ssh,
        "--limit-rate",
        "8MB",
        "--memory",
        "4MiB",
        "--once",
        "--job",
        "night",
    ];
    let args = [through(&from, &to, "gate"), more.to_vec()].concat();
    let mut reader = target.client();
    let mut arrived = |tool: &mut crate::tool::Understudy, keys: i64| {
        crate::asking::until("a part has arrived", PATIENCE, || {
            assert!(tool.is_running());
            reader.call(cmd!("DBSIZE")).int() > keys
        });
    };
    let config = sshd.file("client-config");
    let mut tool = alone(&args, &[]);
    arrived(&mut tool, 50);
    kill(&running(&config));
    arrived(&mut tool, 150);
    // Who is killed can kill nobody, but closes pipes.
    kill(&[tool.id().to_string()]);
    drop(tool);
    none_left(&config);
    let args = [args, vec!["--on-conflict", "replace"]].concat();
    alone(&args, &[]).wait(PATIENCE).assert_code(0);
    none_left(&config);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "after programs were killed in a copy");
}

#[test]
fn sources_of_a_file_over_one_connection_that_the_users_ssh_holds_open() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(ssh) = command(&sshd) else { return };
    let Some(target) = Server::start(SERVER) else { return };
    let sources: Option<Vec<Server>> = (0..5).map(|_| Server::start(SERVER)).collect();
    let Some(sources) = sources else { return };
    for (index, source) in sources.iter().enumerate() {
        source.client().call(cmd!("SET", format!("of:{index}"), "value"));
    }
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control").display().to_string();
    let config = sshd.file("client-config");
    let mut master = Command::new("ssh");
    master.args(["-F", &config, "-o", "ControlMaster=yes", "-S", &control, "-fN", "gate"]);
    assert!(master.status().unwrap().success());
    // One of them is reached by the built-in one, with a key that the file tells.
    let file = folder.path().join("many.toml");
    let mut text = format!(
        "[target]\nurl = \"{}\"\n[defaults]\nssh = \"gate\"\nssh_command = \"{ssh} -S {control}\"\n",
        target.url()
    );
    for (index, source) in sources.iter().enumerate() {
        text.push_str(&format!("[[source]]\nurl = \"{}\"\n", source.url()));
        if index == 3 {
            text.push_str(&format!(
                "ssh = \"{}\"\nssh_key = \"{}\"\nssh_known_hosts = \"{}\"\n",
                sshd.address(),
                sshd.file("client"),
                sshd.file("known")
            ));
        }
    }
    fs::write(&file, text).unwrap();
    let args = ["sync", "--config", file.to_str().unwrap(), "--once", "--progress", "none"];
    alone(&args, &[]).wait(PATIENCE).assert_code(0);
    let mut end = Command::new("ssh");
    end.args(["-F", &config, "-S", &control, "-O", "exit", "gate"]);
    assert!(end.output().unwrap().status.success());
    let keys = target.client().call(cmd!("DBSIZE")).int();
    assert_eq!(usize::try_from(keys).unwrap(), sources.len());
    // The one that was there before, and two of the built-in one.
    assert_eq!(sshd.logins(), 3);
}

/// A script that is a program.
fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn what_stands_in_the_way_of_a_program_is_said() {
    let Some(server) = Server::start(SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let ping = |url: &str, more: &[&str], env: &[(&str, &str)]| -> Ended {
        let ended = alone(&[&["ping", url, "--count", "3"], more].concat(), env).wait(PATIENCE);
        assert!(ended.code == Some(2), "{ended:?}");
        ended
    };
    let by = |command: &str| ping(&url, &["--from-ssh", "gate", "--ssh-command", command], &[]);
    said(&by("/nowhere/ssh -v"), "/nowhere/ssh cannot be started", "install it");
    let text = fs::write(folder.path().join("text"), "").map(|()| folder.path().join("text"));
    said(&by(text.unwrap().to_str().unwrap()), "cannot be started", "let this user run it");

    // It says much, of which the end is told, on one line.
    let ended = by(&script(folder.path(), "seq 1 100000 >&2; echo out of luck >&2; exit 7"));
    let what = "which leads to gate, has ended (exit status: 7): ";
    said(&ended, what, &format!("-W 127.0.0.1:{} gate", server.port));
    let line = ended.stderr.lines().find(|line| line.contains(what)).unwrap();
    assert!(line.ends_with("99999; 100000; out of luck") && line.len() < 1000, "{line}");
    assert!(ended.stderr.contains("try it in a terminal"), "{}", ended.stderr);

    // Our secrets are ours, and no word is taken for an option.
    let spy = script(folder.path(), "env >&2; echo \"$@\" >&2; exit 1");
    let args = ["--from-ssh", "gate", "--ssh-command", &format!("{spy} {{host}}")];
    let secret = [("UNDERSTUDY_FROM_PASSWORD", "sesame"), ("OF_THE_USER", "seen")];
    let ended = ping("redis://server:1", &args, &secret);
    said(&ended, "server", "");
    assert!(!ended.stderr.contains("sesame"), "{}", ended.stderr);
    let ended = ping("redis://-e:1", &args, &[]);
    said(&ended, "the name -e cannot be resolved", "check the host's name");

    let ended = ping("unix:/run/redis.sock", &args, &[]);
    said(
        &ended,
        "the socket /run/redis.sock is on the ssh host",
        "the built-in ssh reaches sockets",
    );
    let ended = ping(&url, &["--ssh-command", "ssh"], &[]);
    said(&ended, "--ssh-command leads to an ssh host, and none is given", "--from-ssh");
    let both = ["--from-ssh", "gate", "--ssh-command", "ssh", "--ssh-key", "key"];
    said(&ping(&url, &both, &[]), "'--ssh-command <COMMAND>' cannot be used with", "--ssh-key");
    said(&by("ssh 'x"), "a quote is not closed", "write it as in a shell");
}

#[test]
fn what_the_systems_ssh_says_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(ssh) = command(&sshd) else { return };
    let ping = |url: &str| {
        let args = ["ping", url, "--count", "3", "--from-ssh", "gate", "--ssh-command", &ssh];
        let ended = alone(&args, &[]).wait(PATIENCE);
        ended.assert_code(2);
        ended
    };
    let gone = free_port();
    let ended = ping(&format!("redis://127.0.0.1:{gone}"));
    said(&ended, "has ended (exit status: 255)", "Connection refused");
    // In TLS no less.
    let ended = ping(&format!("rediss://127.0.0.1:{gone}"));
    said(&ended, "has ended (exit status: 255)", "Connection refused");
    fs::write(sshd.file("known"), "").unwrap();
    said(&ping(&format!("redis://127.0.0.1:{gone}")), "Host key verification failed", "ssh -F");
}
