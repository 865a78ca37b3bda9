//! Who may not do what it must: passwords, rights, commands that a provider has taken away.

use crate::client::{Client, cmd};
use crate::judge::Dump;
use crate::tool::Understudy;

use super::{PATIENCE, SECRET, assert_said, pair, said, sync};

#[test]
fn passwords() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    source.client().call(cmd!("CONFIG", "SET", "requirepass", SECRET));
    let names = [(source.port, "LOCKED"), (target.port, "OTHER")];
    let with = |login: &str| format!("redis://{login}@127.0.0.1:{}", source.port);
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &names,
        "LOCKED: it asks for a password: NOAUTH Authentication required.",
        "give it in UNDERSTUDY_FROM_PASSWORD, or in the URL: redis://[user]:password@host:port",
    );
    assert_said(
        &sync(&target.url(), &source.url(), &[]),
        2,
        &names,
        "LOCKED: it asks for a password: NOAUTH Authentication required.",
        "give it in UNDERSTUDY_TO_PASSWORD, or in the URL: redis://[user]:password@host:port",
    );
    assert_said(
        &sync(&with(&format!(":wrong-{SECRET}")), &target.url(), &[]),
        2,
        &names,
        "LOCKED: it refuses the password: WRONGPASS invalid username-password pair or user is disabled.",
        "check UNDERSTUDY_FROM_PASSWORD or the URL; for an ACL user (6.0 and later) the URL names it: redis://user:password@host:port",
    );
    // A password that breaks the URL is not repeated either.
    assert_said(
        &sync(&with(&format!(":{SECRET}/x")), &target.url(), &[]),
        2,
        &names,
        "--from: this is no place that can be reached",
        "write redis://user:password@host:port/db, with @ : / and % in a password as %40 %3A %2F %25",
    );
    let right = sync(&with(&format!(":{SECRET}")), &target.url(), &["--progress", "json"]);
    right.assert_code(0);
    assert_eq!(right.reported("totals.keys"), 1);
}

/// Gives the user `app` these rights and no other.
fn allow(admin: &mut Client, rights: &str) {
    let line = format!("ACL SETUSER app reset on >{SECRET} {rights}");
    admin.call(line.split(' ').map(|word| word.as_bytes().to_vec()).collect());
}

#[test]
fn users_without_the_rights_of_a_replica() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let url = format!("redis://app:{SECRET}@127.0.0.1:{}", source.port);
    let mut admin = source.client();
    let mut allow = |rights: &str| allow(&mut admin, &format!("~* {rights}"));
    let names = [(source.port, "SOURCE")];
    allow("+@all -psync -sync");
    assert_said(
        &sync(&url, &target.url(), &[]),
        2,
        &names,
        "SOURCE: the master forbids PSYNC: NOPERM this user has no permissions to run the 'psync' command",
        "let this user replicate: ACL SETUSER name +psync +sync +replconf +ping; a managed service that forbids it must be read another way",
    );
    allow("+@all -replconf");
    assert_said(
        &sync(&url, &target.url(), &[]),
        2,
        &names,
        "SOURCE: the master forbids REPLCONF: NOPERM this user has no permissions to run the 'replconf' command",
        "let this user replicate: ACL SETUSER name +psync +sync +replconf +ping; a managed service that forbids it must be read another way",
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0);
    // All that it takes, and nothing more.
    allow("-@all +psync +replconf");
    let ended = sync(&url, &target.url(), &[]);
    ended.assert_code(0);
    assert_eq!(ended.reported("totals.keys"), 1);
}

/// What the ACL of a target forbids is found before anything is written, as far as every copy needs it; the rest when it is met.
#[test]
fn users_without_the_rights_to_write() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let url = format!("redis://app:{SECRET}@127.0.0.1:{}", target.port);
    let mut admin = target.client();
    let mut allow = |rights: &str| allow(&mut admin, rights);
    let names = [(source.port, "SOURCE"), (target.port, "TARGET")];
    let mend = "let this ACL user write all that may come: ACL SETUSER name +@all ~* on the target, or give another user in --to";
    let no_right = |command: &str| {
        format!("NOPERM this user has no permissions to run the '{command}' command")
    };
    for (rights, command) in [("-restore", "RESTORE"), ("-eval", "EVAL"), ("-set", "SET")] {
        allow(&format!("~* +@all {rights}"));
        let ended = sync(&source.url(), &url, &[]);
        let what =
            format!("TARGET: the target forbids {command}: {}", no_right(&command.to_lowercase()));
        assert_said(&ended, 2, &names, &what, mend);
    }
    allow("~app:* +@all");
    let ended = sync(&source.url(), &url, &[]);
    let what = "TARGET: the target forbids SET: NOPERM this user has no permissions to access one of the keys used as arguments";
    assert_said(&ended, 2, &names, what, mend);
    allow("~* +@all -multi");
    let ended = sync(&source.url(), &url, &[]);
    let what = format!("SOURCE: target: the target forbids MULTI: {}", no_right("multi"));
    assert_said(&ended, 2, &names, &what, mend);
    // Without INFO it is taken for empty only if it says so otherwise.
    target.client().call(cmd!("SET", "there", 1));
    allow("~* +@all -info");
    let ended = sync(&source.url(), &url, &[]);
    assert_eq!(said(&ended, &names).0, "TARGET: the target already holds 1 keys");
    target.client().call(cmd!("DEL", "there"));
    source.client().call(cmd!("RPUSH", "list", "a"));
    let without_functions = "~* +@all -function";
    allow(without_functions);
    source.client().call(cmd!(
        "FUNCTION",
        "LOAD",
        "#!lua name=l\nredis.register_function('f',function() return 1 end)"
    ));
    let ended = sync(&source.url(), &url, &[]);
    assert_eq!(
        said(&ended, &names).0,
        "SOURCE: the target forbids FUNCTION: NOPERM this user has no permissions to run the 'function|load' command"
    );
    assert!(said(&ended, &names).1.starts_with("let this ACL user write"), "{}", ended.stderr);
}

#[test]
fn commands_that_a_provider_has_renamed() {
    let options =
        ["--rename-command", "PSYNC", "hidden-psync", "--rename-command", "SYNC", "hidden-sync"];
    let Some((source, target)) = pair(&options, &[]) else { return };
    let ended = sync(&source.url(), &target.url(), &[]);
    ended.assert_code(2);
    let (what, mend) = said(&ended, &[(source.port, "SOURCE")]);
    assert!(
        what.starts_with(
            "SOURCE: the master knows neither PSYNC nor SYNC: PSYNC: ERR unknown command 'PSYNC'"
        ),
        "{what}"
    );
    assert_eq!(
        mend,
        "the commands are renamed (rename-command in the master's configuration) or the provider has switched them off; only a source that allows PSYNC or SYNC can be followed"
    );
}

/// It is read with SYNC, which is said, or not at all.
#[test]
fn a_master_that_takes_no_psync() {
    let Some((source, target)) = pair(&["--rename-command", "PSYNC", "hidden-psync"], &[]) else {
        return;
    };
    let ended = sync(&source.url(), &target.url(), &["--method", "psync"]);
    ended.assert_code(2);
    let (what, mend) = said(&ended, &[(source.port, "SOURCE")]);
    assert!(
        what.starts_with("SOURCE: the master does not take PSYNC: ERR unknown command 'PSYNC'"),
        "{what}"
    );
    assert!(
        mend.ends_with("--method auto reads it with SYNC, and then a lost link costs a new copy"),
        "{mend}"
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0);

    let (from, to) = (source.url(), target.url());
    let mut running = Understudy::start(&["sync", "--from", &from, "--to", &to]);
    let arrived = Client::wait_for_key(target.port, 0, "key", PATIENCE, || running.is_running());
    assert!(arrived);
    source.client().call(cmd!("CLIENT", "KILL", "TYPE", "replica"));
    source.client().call(cmd!("SET", "behind", 1));
    let arrived = Client::wait_for_key(target.port, 0, "behind", PATIENCE, || running.is_running());
    assert!(arrived);
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.method"), "sync");
    assert_eq!(ended.reported("sources.0.full_syncs"), 2);
    let warning = "the master does not take PSYNC and is read with SYNC: a lost link costs a new copy answer=\"ERR unknown command 'PSYNC'";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    let warning = "the data set is copied anew error=\"what is read with SYNC cannot go on from there: the master closed the connection\"";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);

    let ended =
        sync(&target.url(), &source.url(), &["--method", "psync", "--on-conflict", "replace"]);
    ended.assert_code(0);
}

#[test]
fn no_room_for_one_more_client() {
    let Some((source, target)) = pair(&[], &[]) else { return };
    let mut holds = source.client();
    holds.call(cmd!("CONFIG", "SET", "maxclients", 1));
    assert_said(
        &sync(&source.url(), &target.url(), &[]),
        2,
        &[(source.port, "SOURCE")],
        "SOURCE: it has no room for one more client: ERR max number of clients reached",
        "raise maxclients on the server, or close some of its clients (CLIENT LIST)",
    );
}
