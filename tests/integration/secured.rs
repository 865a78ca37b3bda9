//! TLS where it is less plain: certificates for a source, Sentinels, names, and through an ssh host.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ResolvesServerCertUsingSni;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::asking;
use crate::authority::{Authority, SERVER};
use crate::client::{Client, cmd};
use crate::dice::Dice;
use crate::gate::Gate;
use crate::judge::{Dump, Forgiving, assert_same};
use crate::sentinels::Sentinel;
use crate::servers::{Server, free_port};
use crate::ssh::alone;
use crate::tool::{Ended, Understudy};

const PATIENCE: Duration = Duration::from_secs(30);

fn start(from: &str, to: &str, more: &[Vec<String>]) -> Understudy {
    let mut args = vec!["sync", "--from", from, "--to", to, "--progress", "none"];
    args.extend(more.iter().flatten().map(String::as_str));
    alone(&args, &[])
}

fn fill(source: &Server) {
    let mut dice = Dice::new(31);
    let mut set = |n| cmd!("SET", format!("key:{n}"), dice.bytes(1 << 10));
    source.client().pipeline(&(0..2000).map(&mut set).collect::<Vec<_>>());
}

/// Waits until the source is followed: what is written once something has arrived comes behind the copy.
fn follows(running: &mut Understudy, source: &Server, target: &Server) {
    hears(running, source, target, "first");
    hears(running, source, target, "behind");
}

/// What is written to the source arrives.
fn hears(running: &mut Understudy, source: &Server, target: &Server, what: &str) {
    let mut writer = source.client();
    writer.call(cmd!("INCR", "count"));
    writer.call(cmd!("SET", what, "1"));
    let arrived = Client::wait_for_key(target.port, 0, what, PATIENCE, || running.is_running());
    assert!(arrived, "{what}");
}

fn ends_equal(running: Understudy, source: &Server, target: &Server, what: &str) -> Ended {
    let ended = running.end_job(PATIENCE);
    ended.assert_code(130);
    assert_eq!(ended.reported("sources.0.full_syncs"), 1, "{what}");
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    assert_same(&first, &second, Forgiving::default(), what);
    ended
}

#[test]
fn a_source_that_asks_for_a_certificate() {
    let authority = Authority::new("tests");
    authority.sign("source", &["127.0.0.1"], false);
    authority.sign("client", &[], false);
    let Some((source, port)) = authority.serve("source", true) else { return };
    let Some(target) = Server::start(SERVER) else { return };
    fill(&source);
    let from = format!("rediss://127.0.0.1:{port}");
    let mut running = start(&from, &target.url(), &[authority.flags("from", Some("client"))]);
    follows(&mut running, &source, &target);
    // Each new link shows it.
    source.client().call(cmd!("CLIENT", "KILL", "TYPE", "replica"));
    hears(&mut running, &source, &target, "second");
    let ended = ends_equal(running, &source, &target, "from a source that asks");
    assert_eq!(ended.reported("sources.0.tls"), "verified");
}

/// The Sentinel and both servers ask for certificates, and tell each other their TLS ports.
#[test]
fn a_failover_that_sentinels_tell_over_tls() {
    let authority = Authority::new("tests");
    for name in ["master", "replica", "sentinel"] {
        authority.sign(name, &["127.0.0.1"], false);
    }
    authority.sign("client", &[], false);
    let both = ["--tls-replication", "yes"];
    let (Some((mut master, at)), Some((replica, then))) =
        (authority.serve_with("master", true, &both), authority.serve_with("replica", true, &both))
    else {
        return;
    };
    let Some(target) = Server::start(SERVER) else { return };
    replica.client().call(cmd!("REPLICAOF", "127.0.0.1", at));
    let port = free_port();
    let mut more = "tls-replication yes\n".to_owned();
    for [option, value] in authority.options("sentinel", port, true) {
        more.push_str(&format!("{option} {value}\n"));
    }
    let Some(sentinel) = Sentinel::start(SERVER, at, &more) else { return };
    sentinel.wait_for_replica();
    fill(&master);
    let from = format!("rediss-sentinel://127.0.0.1:{port}/main");
    let mut running = start(&from, &target.url(), &[authority.flags("from", Some("client"))]);
    follows(&mut running, &master, &target);
    crate::replicas::caught_up(&mut master.client(), &mut replica.client());
    master.kill();
    asking::until("a failover", PATIENCE, || {
        let told = Client::try_connect(replica.port, PATIENCE)
            .and_then(|mut client| client.try_pipeline(&[cmd!("INFO", "replication")]));
        sentinel.master() == then && told.is_ok_and(|told| told[0].text().contains("role:master"))
    });
    hears(&mut running, &replica, &target, "second");
    let ended = ends_equal(running, &replica, &target, "behind a failover over TLS");
    assert_eq!(ended.reported("sources.0.tls"), "verified");
}

/// Ends TLS for whoever asks for this name, and connects to a server.
fn front(authority: &Authority, name: &str, server: u16) -> (Runtime, u16) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let pem = fs::read(authority.file(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file(&format!("{name}.key"))).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&pem).unwrap()];
    let certified = CertifiedKey::from_der(chain, key, &provider).unwrap();
    let mut by_name = ResolvesServerCertUsingSni::new();
    by_name.add(name, certified).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_name));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut shaken) = acceptor.accept(socket).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let _ = copy_bidirectional(&mut shaken, &mut server).await;
            });
        }
    });
    (runtime, port)
}

/// A server that has a certificate for its name only, and one that shows it to nobody who does not ask for that name.
#[test]
fn a_server_is_asked_for_by_its_name() {
    let authority = Authority::new("tests");
    authority.sign("localhost", &["localhost"], false);
    let Some((source, port)) = authority.serve("localhost", false) else { return };
    let Some(target) = Server::start(SERVER) else { return };
    fill(&source);
    let (_runtime, shy) = front(&authority, "localhost", target.port);
    let (from, to) = (format!("rediss://localhost:{port}"), format!("rediss://localhost:{shy}"));
    let flags = [authority.flags("from", None), authority.flags("to", None)];
    let mut running = start(&from, &to, &flags);
    follows(&mut running, &source, &target);
    ends_equal(running, &source, &target, "by name");
    for (port, what) in [
        (port, "its certificate is for localhost, not for 127.0.0.1"),
        (shy, "no TLS connection came about"),
    ] {
        let from = format!("rediss://127.0.0.1:{port}");
        let ended = start(&from, &target.url(), &[authority.flags("from", None)]).wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(what), "{}", ended.stderr);
    }
}

/// The name is looked up on the ssh host, and the certificate must be for it: the host itself can read nothing.
#[test]
fn certificates_behind_an_ssh_host_are_for_the_names_there() {
    let authority = Authority::new("tests");
    authority.sign("source", &["old.inside.example"], false);
    authority.sign("target", &["new.inside.example"], false);
    authority.sign("client", &[], false);
    let (Some((source, at)), Some((target, into))) =
        (authority.serve("source", true), authority.serve("target", true))
    else {
        return;
    };
    fill(&source);
    let gate = Gate::start();
    let address = gate.address();
    let through = |side: &str| vec![format!("--{side}-ssh"), address.clone()];
    let from = format!("rediss://old.inside.example:{at}");
    let to = format!("rediss://new.inside.example:{into}");
    let mut flags = vec![through("from"), through("to"), gate.keys()];
    flags.extend(["from", "to"].map(|side| authority.flags(side, Some("client"))));
    let mut running = start(&from, &to, &flags);
    follows(&mut running, &source, &target);
    gate.drop_sessions();
    hears(&mut running, &source, &target, "second");
    let ended = ends_equal(running, &source, &target, "TLS through an ssh host");
    assert_eq!(ended.reported("sources.0.tls"), "verified");
    assert_eq!(ended.reported("target.tls"), "verified");

    let other = format!("rediss://other.inside.example:{at}");
    let ended = start(&other, &to, &flags).wait(PATIENCE);
    ended.assert_code(2);
    let what = "its certificate is for old.inside.example, not for other.inside.example";
    assert!(ended.stderr.contains(what), "{}", ended.stderr);
}
