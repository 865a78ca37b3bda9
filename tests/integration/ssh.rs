//! Sources and targets behind an ssh host: a real one, on loopback.

use std::fs;
use std::time::Duration;

use crate::client::{Client, cmd};
use crate::judge::{Dump, Forgiving, assert_same};
use crate::servers::Server;
use crate::sshd::{Agent, Sshd, user};
use crate::tool::{Ended, Understudy};

const SERVER: &str = "redis-7.0.15";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A sync's arguments, both sides through this host.
pub(crate) fn through<'a>(from: &'a str, to: &'a str, gate: &'a str) -> Vec<&'a str> {
    vec![
        "sync",
        "--from",
        from,
        "--to",
        to,
        "--from-ssh",
        gate,
        "--to-ssh",
        gate,
        "--progress",
        "none",
    ]
}

/// Runs `understudy` with this environment and no other of ssh: what the machine has for its user is not looked at.
pub(crate) fn alone(args: &[&str], env: &[(&str, &str)]) -> Understudy {
    let home = ("HOME", "/nowhere");
    let none = [home, ("SSH_AUTH_SOCK", ""), ("UNDERSTUDY_SSH_PASSPHRASE", "")];
    Understudy::start_with_env(args, &[&none[..], env].concat())
}

fn ping(sshd: &Sshd, server: &Server, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let (url, gate) = (server.url(), sshd.address());
    let all = [&["ping", url.as_str(), "--count", "3", "--from-ssh", gate.as_str()], args].concat();
    alone(&all, env).wait(PATIENCE)
}

#[test]
fn a_copy_and_its_stream_with_both_sides_behind_an_ssh_host() {
    let Some(sshd) = Sshd::start() else { return };
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let mut writer = source.client();
    for index in 0..2000 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(500)));
    }
    writer.call(cmd!("SET", "large", "y".repeat(8 << 20)));
    let (from, to, gate) = (source.url(), target.url(), sshd.address());
    let (key, known) = (sshd.file("client"), sshd.file("known"));
    let keys = ["--ssh-key", &key, "--ssh-known-hosts", &known];
    let mut running = alone(&[through(&from, &to, &gate), keys.to_vec()].concat(), &[]);
    writer.call(cmd!("INCR", "counter"));
    let arrived =
        Client::wait_for_key(target.port, 0, "counter", PATIENCE, || running.is_running());
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "over ssh");
    let host = format!("127.0.0.1:{}", sshd.port);
    assert_eq!(
        ended.reported("sources.0.name"),
        format!("127.0.0.1:{} via {host}", source.port).as_str()
    );
}

#[test]
fn many_sources_behind_one_host_share_a_session_and_have_one_more_for_each_stream() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(target) = Server::start(SERVER) else { return };
    let sources: Option<Vec<Server>> = (0..5).map(|_| Server::start(SERVER)).collect();
    let Some(sources) = sources else { return };
    for (index, source) in sources.iter().enumerate() {
        source.client().call(cmd!("SET", format!("of:{index}"), "value"));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.toml");
    let each = sources.iter().map(|source| format!("[[source]]\nurl = \"{}\"\n", source.url()));
    let config = format!(
        "[target]\nurl = \"{}\"\n[defaults]\nssh = \"{}\"\nssh_key = \"{}\"\nssh_known_hosts = \"{}\"\n{}",
        target.url(),
        sshd.address(),
        sshd.file("client"),
        sshd.file("known"),
        each.collect::<String>()
    );
    fs::write(&file, config).unwrap();
    let args = ["sync", "--config", file.to_str().unwrap(), "--once", "--progress", "none"];
    alone(&args, &[]).wait(PATIENCE).assert_code(0);
    let keys = target.client().call(cmd!("DBSIZE")).int();
    assert_eq!(usize::try_from(keys).unwrap(), sources.len());
    assert_eq!(sshd.logins(), 1 + sources.len());
}

#[test]
fn a_census_of_sources_behind_an_ssh_host() {
    let Some(sshd) = Sshd::start() else { return };
    let started = [SERVER, SERVER, SERVER].map(Server::start);
    let [Some(one), Some(other), Some(target)] = started else { return };
    let set = |server: &Server, from: u32, to: u32| {
        let sets: Vec<_> = (from..to).map(|n| cmd!("SET", format!("key:{n}"), n)).collect();
        server.client().pipeline(&sets);
    };
    set(&one, 0, 300);
    set(&other, 290, 400);
    set(&target, 399, 402);
    let (from, beside, to, gate) = (one.url(), other.url(), target.url(), sshd.address());
    let (key, known) = (sshd.file("client"), sshd.file("known"));
    let flags = ["--from", &beside, "--ssh-key", &key, "--ssh-known-hosts", &known];
    let census = ["--dry-run", "--census", "--on-conflict", "replace"];
    let args = [&through(&from, &to, &gate)[..], &flags, &census].concat();
    let ended = alone(&args, &[]).wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(*ended.reported("census.counts.keys"), 410);
    assert_eq!(*ended.reported("census.collisions.between_sources"), 10);
    assert_eq!(*ended.reported("census.collisions.with_target"), 1);
    assert_eq!(target.client().call(cmd!("DBSIZE")).int(), 3);
    // One for the questions, and one for each source that is read.
    assert_eq!(sshd.logins(), 3);
}

#[test]
fn who_we_are_is_shown_by_a_key_an_agent_or_a_key_that_a_passphrase_opens() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(server) = Server::start(SERVER) else { return };
    let known = sshd.file("known");
    let hosts = ["--ssh-known-hosts", known.as_str()];
    let ping = |args: &[&str], env: &[(&str, &str)]| {
        ping(&sshd, &server, &[&hosts[..], args].concat(), env)
    };

    let agent = Agent::with(&[&sshd.file("client")]);
    ping(&[], &[("SSH_AUTH_SOCK", &agent.socket())]).assert_code(0);

    // A home as users have it.
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    fs::create_dir(&ssh).unwrap();
    fs::copy(sshd.file("client"), ssh.join("id_ed25519")).unwrap();
    fs::copy(&known, ssh.join("known_hosts")).unwrap();
    let at_home = [("HOME", home.path().to_str().unwrap())];
    let (url, gate) = (server.url(), sshd.address());
    let bare = ["ping", url.as_str(), "--count", "3", "--from-ssh", gate.as_str()];
    alone(&bare, &at_home).wait(PATIENCE).assert_code(0);

    let locked = sshd.stranger("locked", "sesame");
    sshd.let_in("locked");
    let key = ["--ssh-key", locked.as_str()];
    ping(&key, &[("UNDERSTUDY_SSH_PASSPHRASE", "sesame")]).assert_code(0);
    let ended = ping(&key, &[]);
    ended.assert_code(2);
    said(&ended, "is encrypted, and no passphrase is told", "UNDERSTUDY_SSH_PASSPHRASE");
    let ended = ping(&key, &[("UNDERSTUDY_SSH_PASSPHRASE", "simsim")]);
    ended.assert_code(2);
    said(&ended, "is encrypted, and the passphrase that is told does not open it", "");
    assert!(!ended.stderr.contains("simsim"), "{}", ended.stderr);

    let ended = ping(&[], &[]);
    ended.assert_code(2);
    said(&ended, "there is no key to log in to the ssh host", "--ssh-key FILE");
    let ended = ping(&["--ssh-key", "/nowhere/key"], &[]);
    ended.assert_code(2);
    said(&ended, "the private key /nowhere/key cannot be used", "--ssh-key FILE");
    let stranger = sshd.stranger("stranger", "");
    let ended = ping(&["--ssh-key", &stranger], &[]);
    ended.assert_code(2);
    said(&ended, &format!("does not let {} in with {stranger}", user()), "authorized_keys");
}

pub(crate) fn said(ended: &Ended, what: &str, mend: &str) {
    assert!(ended.stderr.contains(what) && ended.stderr.contains(mend), "{}", ended.stderr);
}

#[test]
fn a_host_that_is_not_known_or_has_another_key_is_not_talked_to() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(server) = Server::start(SERVER) else { return };
    let (key, known) = (sshd.file("client"), sshd.file("known"));
    let args = ["--ssh-key", key.as_str(), "--ssh-known-hosts", known.as_str()];
    let port = sshd.port;

    fs::write(&known, "").unwrap();
    let ended = ping(&sshd, &server, &args, &[]);
    ended.assert_code(2);
    said(
        &ended,
        &format!(
            "the ssh host 127.0.0.1:{port} is not known here: it shows the key ssh-ed25519 SHA256:"
        ),
        &format!("ssh-keyscan -p {port} 127.0.0.1 >> {known}"),
    );
    fs::remove_file(&known).unwrap();
    let ended = ping(&sshd, &server, &args, &[]);
    said(&ended, "is not known here", "ssh-keyscan");

    sshd.stranger("other", "");
    let other = fs::read_to_string(sshd.file("other.pub")).unwrap();
    sshd.know(&other);
    let ended = ping(&sshd, &server, &args, &[]);
    ended.assert_code(2);
    said(
        &ended,
        &format!("{known}:1 has another one for it: somebody may stand in between"),
        &format!("ssh-keygen -R '[127.0.0.1]:{port}' -f {known}"),
    );
    let own = fs::read_to_string(sshd.file("host.pub")).unwrap();
    sshd.know(&format!("{own}@revoked * {own}"));
    let ended = ping(&sshd, &server, &args, &[]);
    ended.assert_code(2);
    said(&ended, "says is revoked", "do not use this host");
    assert_eq!(sshd.logins(), 0, "nothing was shown to it");
}

#[test]
fn what_stands_in_the_way_behind_the_host_is_said() {
    let Some(closed) = Sshd::start_with(&["AllowTcpForwarding no"]) else { return };
    let Some(open) = Sshd::start() else { return };
    let Some(server) = Server::start(SERVER) else { return };
    let keys = |sshd: &Sshd| {
        ["--ssh-key".into(), sshd.file("client"), "--ssh-known-hosts".into(), sshd.file("known")]
    };
    let through = |sshd: &Sshd, url: &str| {
        let gate = sshd.address();
        let keys = keys(sshd);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let args = [&["ping", url, "--count", "3", "--from-ssh", &gate], keys.as_slice()].concat();
        let ended = alone(&args, &[]).wait(PATIENCE);
        ended.assert_code(2);
        ended
    };
    let ended = through(&closed, &server.url());
    said(
        &ended,
        &format!("does not allow connections from there to 127.0.0.1:{}", server.port),
        "AllowTcpForwarding yes",
    );
    let gone = crate::servers::free_port();
    let ended = through(&open, &format!("redis://127.0.0.1:{gone}"));
    said(&ended, &format!("cannot connect to 127.0.0.1:{gone}"), "looked up on the ssh host");

    let url = server.url();
    let nobody = format!("ada@127.0.0.1:{gone}");
    let args = ["ping", &url, "--from-ssh", &nobody, "--ssh-key", "/nowhere"];
    let ended = alone(&args, &[]).wait(PATIENCE);
    ended.assert_code(2);
    said(&ended, &format!("the ssh host 127.0.0.1:{gone} cannot be reached"), "--from-ssh");
}

#[test]
fn a_host_behind_another_host() {
    let Some(inner) = Sshd::start() else { return };
    let Some(outer) = Sshd::start() else { return };
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    // One key and one file for both.
    fs::copy(inner.file("client"), outer.file("client")).unwrap();
    fs::copy(inner.file("client.pub"), outer.file("authorized")).unwrap();
    let both =
        [inner.file("known"), outer.file("known")].map(|file| fs::read_to_string(file).unwrap());
    fs::write(inner.file("known"), both.concat()).unwrap();
    source.client().call(cmd!("SET", "large", "y".repeat(4 << 20)));
    let (from, to) = (source.url(), target.url());
    let (gate, jump) = (inner.address(), outer.address());
    let (key, known) = (inner.file("client"), inner.file("known"));
    let more = ["--ssh-jump", &jump, "--ssh-key", &key, "--ssh-known-hosts", &known, "--once"];
    let args = [through(&from, &to, &gate), more.to_vec()].concat();
    alone(&args, &[]).wait(PATIENCE).assert_code(0);
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "over two hosts");
    assert_eq!((inner.logins(), outer.logins()), (2, 2));
}

#[test]
fn sockets_in_the_file_system_of_the_ssh_host() {
    let (Some(sshd), Some(closed)) =
        (Sshd::start(), Sshd::start_with(&["AllowStreamLocalForwarding no"]))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| folder.path().join(name).display().to_string();
    let (at, into) = (socket("source"), socket("target"));
    let servers = [&at, &into].map(|path| Server::start_with(SERVER, &["--unixsocket", path]));
    let [Some(source), Some(target)] = servers else { return };
    let mut writer = source.client();
    for index in 0..2000 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(500)));
    }
    let (from, to, gate) = (format!("unix:{at}"), format!("unix:{into}"), sshd.address());
    let (key, known) = (sshd.file("client"), sshd.file("known"));
    let keys = ["--ssh-key", &key, "--ssh-known-hosts", &known];
    let mut running = alone(&[through(&from, &to, &gate), keys.to_vec()].concat(), &[]);
    let mut arrives =
        |key: &str| Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running());
    writer.call(cmd!("SET", "before", "1"));
    assert!(arrives("before"));
    sshd.drop_sessions();
    writer.call(cmd!("INCR", "counter"));
    assert!(arrives("counter"));
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    let host = format!("127.0.0.1:{}", sshd.port);
    assert_eq!(ended.reported("sources.0.name"), format!("unix:{at} via {host}").as_str());
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "through sockets");

    // Not there, not a socket, not allowed.
    let ping = |sshd: &Sshd, path: &str| {
        let (url, gate) = (format!("unix:{path}"), sshd.address());
        let (key, known) = (sshd.file("client"), sshd.file("known"));
        let args =
            ["ping", &url, "--from-ssh", &gate, "--ssh-key", &key, "--ssh-known-hosts", &known];
        let ended = alone(&args, &[]).wait(PATIENCE);
        ended.assert_code(2);
        ended
    };
    let gone = socket("gone");
    said(
        &ping(&sshd, &gone),
        &format!("cannot connect to unix:{gone}"),
        "the path is looked up on the ssh host",
    );
    said(
        &ping(&closed, &at),
        &format!("cannot connect to unix:{at}"),
        "AllowStreamLocalForwarding yes",
    );
}

#[test]
fn a_session_that_is_lost_is_made_again_and_the_stream_goes_on() {
    let Some(sshd) = Sshd::start() else { return };
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let mut writer = source.client();
    writer.call(cmd!("SET", "before", "1"));
    let (from, to, gate) = (source.url(), target.url(), sshd.address());
    let (key, known) = (sshd.file("client"), sshd.file("known"));
    let keys = ["--ssh-key", &key, "--ssh-known-hosts", &known];
    let mut running = alone(&[through(&from, &to, &gate), keys.to_vec()].concat(), &[]);
    let mut arrives =
        |key: &str| Client::wait_for_key(target.port, 0, key, PATIENCE, || running.is_running());
    assert!(arrives("before"));
    for round in 0..3 {
        sshd.drop_sessions();
        let key = format!("after:{round}");
        writer.call(cmd!("INCR", "counter"));
        writer.call(cmd!("SET", &key, "1"));
        assert!(arrives(&key), "{key}");
    }
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.full_syncs"), 1);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "after three lost sessions");
}

#[test]
fn sessions_that_are_lost_in_the_midst_of_a_copy() {
    let Some(sshd) = Sshd::start() else { return };
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    let mut writer = source.client();
    for index in 0..400 {
        writer.call(cmd!("SET", format!("key:{index}"), vec![b'x'; 64 << 10]));
    }
    let (from, to, gate) = (source.url(), target.url(), sshd.address());
    let (key, known) = (sshd.file("client"), sshd.file("known"));
    // Slow enough to be met in the midst of it, and with less memory than there is data.
    let more = [
        "--ssh-key",
        &key,
        "--ssh-known-hosts",
        &known,
        "--limit-rate",
        "8MB",
        "--memory",
        "4MiB",
        "--once",
    ];
    let mut running = alone(&[through(&from, &to, &gate), more.to_vec()].concat(), &[]);
    let mut reader = target.client();
    crate::asking::until("a part has arrived", PATIENCE, || {
        assert!(running.is_running());
        reader.call(cmd!("DBSIZE")).int() > 50
    });
    let logins = sshd.logins();
    sshd.drop_sessions();
    let ended = running.wait(PATIENCE);
    ended.assert_code(0);
    assert!(sshd.logins() >= logins + 2, "{} after {logins}", sshd.logins());
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut reader));
    assert_same(&first, &second, Forgiving::default(), "after sessions were lost in a copy");
}
