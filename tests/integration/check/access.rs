//! Whether we are let in, and may do what must be done.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::authority::Authority;
use crate::client::{Client, cmd};
use crate::gate::Gate;
use crate::servers::{Server, free_port};

use super::{SECRET, SERVER, check, check_pair};

/// Gives the user `app` these rights and no other.
fn allow(admin: &mut Client, rights: &str) {
    let line = format!("ACL SETUSER app reset on >{SECRET} {rights}");
    admin.call(line.split(' ').map(|word| word.as_bytes().to_vec()).collect());
}

fn as_app(server: &Server) -> String {
    format!("redis://app:{SECRET}@127.0.0.1:{}", server.port)
}

/// A place that does not answer hinders no other from being looked at.
#[test]
fn places_that_cannot_be_reached() {
    let (Some(locked), Some(good)) = (Server::start(SERVER), Server::start(SERVER)) else { return };
    locked.client().call(cmd!("CONFIG", "SET", "requirepass", SECRET));
    good.client().call(cmd!("CONFIG", "SET", "repl-timeout", 5));
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let wrong = format!("redis://:wrong@127.0.0.1:{}", locked.port);
    let found = check(&[&locked.url(), &good.url(), "redis://host.invalid:7"], &nowhere, &[]);
    found
        .has("blocks", "unreachable", &["it asks for a password", "UNDERSTUDY_FROM_PASSWORD"])
        .has("blocks", "unreachable", &["host.invalid cannot be resolved"])
        .has("blocks", "unreachable", &["Connection refused", "--to"])
        .has("warning", "repl-timeout", &["5 s"]);
    check(&[&wrong], &good.url(), &[]).has("blocks", "unreachable", &["it refuses the password"]);
}

/// What a user of a source lacks, on the first servers that have users, and on later ones that look at rights otherwise.
#[test]
fn users_of_a_source_with_few_rights() {
    for name in
        ["redis-6.0.16", "redis-6.2.14", SERVER, "redis-8.0.6", "valkey-9.1.2", "redict-7.3.6"]
    {
        let (Some(source), Some(target)) = (Server::start(name), Server::start(SERVER)) else {
            continue;
        };
        source.client().call(cmd!("SET", "key", "value"));
        let mut admin = source.client();
        let channels = if name == "redis-6.0.16" { "" } else { " &*" };
        let mut with = |rights: &str| {
            allow(&mut admin, &format!("{rights}{channels}"));
            check(&[&as_app(&source)], &target.url(), &[])
        };
        with("~* +@all").is_quiet();
        let lacking = with("~* +@all -psync -sync -replconf");
        let mend = "ACL SETUSER app +replconf +psync +sync +ping";
        lacking.has("blocks", "rights", &["PSYNC (@admin, @dangerous)", "SYNC", "REPLCONF", mend]);
        with("~* +@all -dump -pttl").has(
            "warning",
            "rights",
            &["PTTL (@keyspace), DUMP", "+pttl +dump ~*"],
        );
        // A user who may do nothing is told all of it, and by which right.
        let nothing = with("-@all +ping");
        nothing.unseen(&["INFO", "+info"]).unseen(&["repl-timeout", "+config|get"]);
        nothing
            .unseen(&["PSYNC and SYNC", "SUBSCRIBE", "+psync +sync"])
            .unseen(&["COMMAND", "+command"]);
        // All that a run needs, and nothing more.
        let least = with("~* -@all +psync +sync +replconf +time +type +pttl +dump +subscribe");
        assert!(least.all("blocks").is_empty(), "{name}: {:#}", least.json);
        least.lacks("rights");
        // It has forked for none of this.
        assert_eq!(source.client().info("stats", "sync_full"), "0", "{name}");
    }
}

#[test]
fn users_of_a_target_with_few_rights() {
    for name in ["redis-6.0.16", SERVER, "valkey-8.1.1"] {
        let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(name)) else {
            continue;
        };
        let mut admin = target.client();
        let mut with = |rights: &str| {
            allow(&mut admin, rights);
            check(&[&source.url()], &as_app(&target), &[])
        };
        with("~* +@all").is_quiet();
        let found = with("~* +@all -hdel -eval -watch");
        found.has(
            "blocks",
            "rights",
            &[
                "HDEL (@hash)",
                "EVAL (@scripting)",
                "WATCH (@transaction)",
                "ACL SETUSER app +@all ~*",
            ],
        );
        assert_eq!(found.all("blocks").len(), 1, "{:#}", found.json);
        with("~app:* +@all").has("blocks", "rights", &["SET (@string)"]);
    }
}

/// What a provider has taken away is not asked for in vain.
#[test]
fn commands_that_are_not_there() {
    let hidden = |names: &[&str]| -> Vec<String> {
        let hidden = names.iter().flat_map(|name| ["--rename-command", name, ""]);
        hidden.map(str::to_owned).collect()
    };
    for name in ["redis-2.8.17", "redis-3.2.6", "redis-5.0.6", SERVER] {
        let start = |names: &[&str]| {
            let options = hidden(names);
            Server::start_with(name, &options.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let Some(target) = Server::start(SERVER) else { return };
        let Some(source) = start(&["CONFIG", "PSYNC"]) else { continue };
        check_pair(&source, &target)
            .has("warning", "no-psync", &["does not know PSYNC", "with SYNC"])
            .unseen(&["client-output-buffer-limit", "unknown command", "provider"]);
        let to = target.url();
        check(&[&source.url()], &to, &["--method", "psync"]).has(
            "blocks",
            "no-psync",
            &["does not take PSYNC"],
        );
        let Some(source) = start(&["SYNC", "PSYNC"]) else { continue };
        check_pair(&source, &target).has("blocks", "no-psync", &["neither PSYNC nor SYNC"]);
        // As managed services are.
        let Some(source) = start(&["CONFIG", "DEBUG", "COMMAND", "RANDOMKEY"]) else { continue };
        let found = check_pair(&source, &target);
        found.is_quiet().unseen(&["CONFIG GET"]).unseen(&["COMMAND"]);
    }
}

#[test]
fn certificates_that_end() {
    let authority = Authority::new("tests");
    authority.sign("source", &["127.0.0.1"], false);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hours = |hours: u64| Some(now + Duration::from_secs(hours * 3600 + 1800));
    authority.sign_until("soon", &["127.0.0.1"], hours(250));
    authority.sign_until("today", &["127.0.0.1"], hours(5));
    authority.sign("old", &["127.0.0.1"], true);
    let Some(target) = Server::start(SERVER) else { return };
    let flags = authority.flags("from", Some("soon"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ca = [flags[0], flags[1]];
    let with = |name: &str, mutual: bool, flags: &[&str]| {
        let (_server, port) = authority.serve(name, mutual)?;
        let from = format!("rediss://127.0.0.1:{port}");
        Some(check(&[&from], &target.url(), flags))
    };
    let Some(good) = with("source", false, &ca) else { return };
    good.is_quiet();
    let Some(soon) = with("soon", false, &ca) else { return };
    soon.has("warning", "certificate", &["its certificate (soon) ends in 250 h, on ", "renew"]);
    let Some(today) = with("today", false, &ca) else { return };
    today.has("blocks", "certificate", &["its certificate (today) ends in 5 h"]);
    let Some(ours) = with("source", true, &flags) else { return };
    ours.has("warning", "certificate", &["our certificate for it (soon)"]);
    let Some(old) = with("old", false, &ca) else { return };
    old.has("blocks", "unreachable", &["its certificate has expired"]);
    let Some(old) = with("old", false, &["--from-insecure"]) else { return };
    old.has("blocks", "certificate", &["its certificate (old) has ended, on 2020-01-01"]).has(
        "warning",
        "unverified",
        &["--from-insecure", "--from-ca"],
    );
}

#[test]
fn a_certificate_behind_an_ssh_host() {
    let authority = Authority::new("tests");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    authority.sign_until("soon", &["old.inside.example"], Some(now + Duration::from_secs(90_000)));
    let Some((_server, port)) = authority.serve("soon", false) else { return };
    let Some(target) = Server::start(SERVER) else { return };
    let gate = Gate::start();
    let mut flags = vec!["--from-ssh".to_owned(), gate.address()];
    flags.extend(gate.keys());
    flags.extend(authority.flags("from", None));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let from = format!("rediss://old.inside.example:{port}");
    let found = check(&[&from], &target.url(), &flags);
    found.has("warning", "certificate", &["its certificate (soon) ends in 2"]);
}

#[test]
fn few_clients_more() {
    let (Some(source), Some(target)) = (Server::start(SERVER), Server::start(SERVER)) else {
        return;
    };
    source.client().call(cmd!("CONFIG", "SET", "maxclients", 12));
    check_pair(&source, &target).has(
        "warning",
        "maxclients",
        &["of 12 are connected", "CONFIG SET maxclients "],
    );
}
