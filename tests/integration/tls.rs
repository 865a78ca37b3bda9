//! TLS to real servers: what is verified, with whose certificate, and what is said when it cannot be.

use std::time::Duration;

use crate::authority::Authority;
use crate::client::cmd;
use crate::judge::Dump;
use crate::judge::Forgiving;
use crate::judge::assert_same;
use crate::servers::Server;
use crate::tool::Understudy;

const SERVER: &str = "redis-7.0.15";
const PATIENCE: Duration = Duration::from_secs(30);

fn tls_url(port: u16) -> String {
    format!("rediss://127.0.0.1:{port}")
}

#[test]
fn a_copy_and_its_stream_over_tls_with_certificates_on_both_sides() {
    let authority = Authority::new("tests");
    for name in ["source", "target"] {
        authority.sign(name, &["127.0.0.1"], false);
    }
    authority.sign("client", &[], false);
    let (Some((source, from)), Some((target, to))) =
        (authority.serve("source", false), authority.serve("target", true))
    else {
        return;
    };
    let mut writer = source.client();
    for index in 0..2000 {
        writer.call(cmd!("SET", format!("key:{index}"), "x".repeat(500)));
    }
    let (ca, pem, key) =
        (authority.file("ca.pem"), authority.file("client.pem"), authority.file("client.key"));
    let tls = [
        "--from-ca",
        &ca,
        "--to-ca",
        &ca,
        "--to-cert",
        &pem,
        "--to-key",
        &key,
        "--progress",
        "none",
    ];
    let (from, to) = (tls_url(from), tls_url(to));
    let mut running =
        Understudy::start(&[&["sync", "--from", &from, "--to", &to], tls.as_slice()].concat());
    // The stream goes through too: a record that nobody flushed would not arrive.
    writer.call(cmd!("INCR", "counter"));
    let arrived = crate::client::Client::wait_for_key(target.port, 0, "counter", PATIENCE, || {
        running.is_running()
    });
    let ended = running.end_job(PATIENCE);
    assert!(arrived, "{ended:?}");
    ended.assert_code(130);
    let (first, second) = (Dump::read(&mut writer), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), "over TLS");
    assert_eq!(ended.reported("sources.0.tls"), "verified");
    assert_eq!(ended.reported("target.tls"), "verified");
}

#[test]
fn a_certificate_that_is_not_verified_is_named() {
    let authority = Authority::new("nobody");
    authority.sign("source", &["elsewhere.example"], true);
    let Some((source, from)) = authority.serve("source", false) else { return };
    let Some(target) = Server::start(SERVER) else { return };
    source.client().call(cmd!("SET", "key", "value"));
    let (from, to) = (tls_url(from), target.url());
    let args = ["sync", "--from", &from, "--to", &to, "--once", "--from-insecure"];
    let ended = Understudy::start(&args).wait(PATIENCE);
    ended.assert_code(0);
    assert_eq!(ended.reported("sources.0.tls"), "not verified");
    assert!(
        ended.stdout.ends_with(&format!(
            "the certificate of {} was not verified\n",
            from.trim_start_matches("rediss://")
        )),
        "{}",
        ended.stdout
    );
}

/// Each way in which TLS does not come about has a line of its own and says what to do; nothing is written.
#[test]
fn what_stands_in_the_way_of_tls_is_said() {
    let authority = Authority::new("tests");
    let stranger = Authority::new("stranger");
    authority.sign("good", &["127.0.0.1"], false);
    authority.sign("named", &["a.example", "b.example"], false);
    authority.sign("old", &["127.0.0.1"], true);
    let good = authority.serve("good", true);
    let named = authority.serve("named", false);
    let old = authority.serve("old", false);
    let (Some((good, good_tls)), Some((_named, named_tls)), Some((_old, old_tls))) =
        (good, named, old)
    else {
        return;
    };
    let Some(target) = Server::start(SERVER) else { return };
    let (ours, theirs) = (authority.file("ca.pem"), stranger.file("ca.pem"));
    let (pem, key) = (authority.file("old.pem"), authority.file("good.key"));

    let check = |url: String, flags: &[&str], what: &str, mend: &str| {
        let to = target.url();
        let args = [&["sync", "--from", &url, "--to", &to, "--once"], flags].concat();
        let ended = Understudy::start(&args).wait(PATIENCE);
        ended.assert_code(2);
        let mut lines = ended.stderr.lines();
        let host = url.split_once("://").unwrap().1;
        let first = lines.next().unwrap_or_default().replace(host, "HOST");
        let second = lines.next().unwrap_or_default();
        assert_eq!((first.as_str(), second), (what, mend), "{}", ended.stderr);
        assert_eq!(ended.reported("outcome"), "refused");
    };

    check(
        tls_url(named_tls),
        &["--from-ca", &theirs],
        "error: HOST: its certificate is signed by an authority that is not known here",
        "  mend: give the authority's certificate with --from-ca FILE",
    );
    check(
        tls_url(named_tls),
        &["--from-ca", &ours],
        "error: HOST: its certificate is for a.example, b.example, not for 127.0.0.1",
        "  mend: give one of those names in --from; or, if you are sure where this leads, --from-insecure",
    );
    check(
        tls_url(old_tls),
        &["--from-ca", &ours],
        "error: HOST: its certificate has expired",
        "  mend: renew the server's certificate (and see that this machine's clock is right)",
    );
    check(
        tls_url(good_tls),
        &["--from-ca", &ours],
        "error: HOST: it asks for a certificate of ours",
        "  mend: give a certificate that the server's authority has signed: --from-cert FILE --from-key FILE",
    );
    check(
        tls_url(good.port),
        &["--from-ca", &ours],
        "error: HOST: it has not answered in TLS within 5 s",
        "  mend: give the server's tls-port, or write redis:// in --from",
    );
    check(
        format!("redis://127.0.0.1:{good_tls}"),
        &[],
        "error: HOST: it closed the connection without a word",
        "  mend: if this port speaks TLS write rediss:// in --from; else see the server's log",
    );
    check(
        tls_url(good_tls),
        &["--from-ca", "/nowhere/ca.pem"],
        "error: HOST: /nowhere/ca.pem: No such file or directory (os error 2)",
        "  mend: give PEM files that this user may read",
    );
    let ended = Understudy::start(&[
        "sync",
        "--from",
        &tls_url(good_tls),
        "--to",
        &target.url(),
        "--once",
        "--from-ca",
        &ours,
        "--from-cert",
        &pem,
        "--from-key",
        &key,
    ])
    .wait(PATIENCE);
    ended.assert_code(2);
    assert!(
        ended.stderr.contains("  mend: --from-cert and --from-key must be of one pair"),
        "{}",
        ended.stderr
    );
    let flag =
        ["sync", "--from", "redis://127.0.0.1:1", "--to", "redis://127.0.0.1:2", "--to-insecure"];
    let ended = Understudy::start(&flag).wait(PATIENCE);
    ended.assert_code(2);
    assert_eq!(
        ended.stderr,
        "error: --to-ca, -cert, -key and -insecure are for TLS, and no --to speaks it\n  mend: write rediss:// in place of redis://\n"
    );
    assert_eq!(Dump::read(&mut target.client()).len(), 0);
}
