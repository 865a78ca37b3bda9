//! Every kind of error of a connection over the sockets of this machine, and of TLS over it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use understudy::net::{ControlError, LinkError, Net, TlsError};
use understudy::plan::{
    Address, Identity, ServerPlace, SshAccess, SshCommand, SshHost, Tls, Tunnel, Via,
};

use crate::links::block_on;
use crate::peers::{server, server_at};
use crate::{names, variants};

/// A port where each connection is talked to so.
fn port(talk: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(talk));
    port
}

/// One that answers the first words with these.
fn says(text: &'static [u8]) -> u16 {
    port(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(text);
    })
}

async fn connect(host: &str, port: u16, tls: Option<Tls>) -> LinkError {
    let mut place = server(&format!("{host}:{port}"));
    place.tls = tls;
    Net::system().connect(&place).await.unwrap_err()
}

/// A server behind an ssh host on this port.
async fn behind(port: u16) -> LinkError {
    let (user, host) = ("ada".to_owned(), "127.0.0.1".to_owned());
    let via = SshHost { user, host, port, access: SshAccess::default(), jump: None };
    let place = ServerPlace { via: Some(Box::new(Via::Ssh(via))), ..server("nobody") };
    Net::system().connect(&place).await.unwrap_err()
}

/// A server behind a program.
async fn through(command: &str) -> LinkError {
    let command = SshCommand::parse(command).unwrap();
    let tunnel = Tunnel { command, user: None, host: "gate".into(), port: None };
    let place = ServerPlace { via: Some(Box::new(Via::Program(tunnel))), ..server("nobody") };
    match understudy::net::Control::open(&Net::system(), &place).await {
        Err(ControlError::Link(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_error_of_a_program_that_leads_to_a_server_is_reached() {
    let real = Runtime::new().unwrap();
    let reached = [
        real.block_on(through("/nowhere")),
        real.block_on(through("false")),
        // It takes as long as it takes, on a clock that does not wait.
        block_on(through("sh -c 'sleep 1000' {host}")),
    ];
    let reached = reached.map(|error| match error {
        LinkError::Tunnel(error) => error,
        other => panic!("{other:?}"),
    });
    assert_eq!(names(reached), variants("TunnelError"));
}

/// A port whose queue of connections is full: whoever comes next gets no answer.
fn crowded() -> (tokio::net::TcpListener, TcpStream) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}

#[test]
fn every_error_of_a_link_is_reached() {
    let insecure = Some(Tls { insecure: true, ..Tls::default() });
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut reached = vec![block_on(async {
        let (listener, _first) = crowded();
        connect("127.0.0.1", listener.local_addr().unwrap().port(), None).await
    })];
    reached.extend(Runtime::new().unwrap().block_on(async {
        [
            connect("127.0.0.1", gone, None).await,
            connect("host.invalid", 7, None).await,
            {
                let socket = Address::Unix("/nowhere/redis.sock".into());
                let place = ServerPlace { address: socket, ..server("nobody") };
                Net::system().connect(&place).await.unwrap_err()
            },
            connect("127.0.0.1", says(b"-ERR Protocol error\r\n"), insecure).await,
            behind(gone).await,
            through("/nowhere").await,
            {
                let cluster = server_at(&format!("redis-cluster://127.0.0.1:{gone}"));
                Net::system().connect(&cluster).await.unwrap_err()
            },
            {
                let watched = server_at(&format!("redis-sentinel://127.0.0.1:{gone}/main"));
                Net::system().connect(&watched).await.unwrap_err()
            },
        ]
    }));
    assert_eq!(names(reached), variants("LinkError"));
}

/// An authority, whose certificate and those that it has signed are in PEM files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let own = Self { issuer, folder };
        let key = own.issuer.key().serialize_pem();
        own.write("ca", &own.issuer.pem(), &key);
        own
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, certificate: &str, key: &str) {
        fs::write(self.file(name).with_extension("pem"), certificate).unwrap();
        fs::write(self.file(name).with_extension("key"), key).unwrap();
    }

    /// A server with a certificate for this host that is valid in these years.
    fn serve(&self, host: &str, years: [i32; 2]) -> u16 {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write("server", &certificate.pem(), &key.serialize_pem());
        serve(&self.file("server"))
    }

    /// Those who trust this authority alone.
    fn trusted(&self) -> Option<Tls> {
        Some(Tls { authorities: Some(self.file("ca.pem")), ..Tls::default() })
    }
}

/// A server with the certificate and the key in these files.
fn serve(name: &Path) -> u16 {
    let certificate = CertificateDer::from_pem_file(name.with_extension("pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(name.with_extension("key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    port(move |stream| {
        let accepted = async {
            stream.set_nonblocking(true)?;
            acceptor.accept(tokio::net::TcpStream::from_std(stream)?).await
        };
        // That it does not come about is for the other side to say.
        let _ = Runtime::new().unwrap().block_on(accepted);
    })
}

#[test]
fn every_error_of_tls_is_reached() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let valid = [2020, 2100];
    let good = ours.serve("127.0.0.1", valid);
    let files = |authorities: &Path, identity| {
        Some(Tls { authorities: Some(authorities.to_owned()), identity, insecure: false })
    };
    let strange = Identity { certificate: ours.file("ca.pem"), key: theirs.file("ca.key") };
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent = (silent.local_addr().unwrap().port(), silent);
    let mut reached = vec![block_on(connect("127.0.0.1", silent.0, ours.trusted()))];
    reached.extend(Runtime::new().unwrap().block_on(async {
        let trusting = |host, port| connect(host, port, ours.trusted());
        [
            connect("127.0.0.1", good, files(Path::new("/nowhere/ca.pem"), None)).await,
            connect("127.0.0.1", good, files(&ours.file("ca.pem"), Some(strange))).await,
            // The system takes this for 127.0.0.1, and a certificate cannot be for it.
            trusting("127.1", good).await,
            connect("127.0.0.1", good, theirs.trusted()).await,
            trusting("127.0.0.1", ours.serve("a.example", valid)).await,
            trusting("127.0.0.1", ours.serve("127.0.0.1", [2000, 2001])).await,
            trusting("127.0.0.1", ours.serve("127.0.0.1", [2099, 2100])).await,
            // An authority is no server.
            trusting("127.0.0.1", serve(&ours.file("ca"))).await,
            trusting("127.0.0.1", says(b"-ERR Protocol error\r\n")).await,
            // An alert: handshake failure.
            trusting("127.0.0.1", says(b"\x15\x03\x03\x00\x02\x02\x28")).await,
            trusting("127.0.0.1", port(drop)).await,
        ]
    }));
    let reached = reached.into_iter().map(|error| match error {
        LinkError::Tls(error) => error,
        other => panic!("{other:?}"),
    });
    let mut reached = names::<TlsError>(reached);
    // The roots of a system are found once in a process.
    let ended = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["ping", &format!("rediss://127.0.0.1:{good}")])
        .env("SSL_CERT_FILE", "/dev/null")
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("this system has no certificate authorities"), "{said}");
    reached.insert("NoAuthorities".to_owned());
    assert_eq!(reached, variants("TlsError"));
}
