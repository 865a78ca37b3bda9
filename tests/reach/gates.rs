//! Every kind of error that an ssh host brings about, and what a stream does that nobody reads: the host is russh's own server.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{Cipher, Kdf, LineEnding};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelOpenFailure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use understudy::net::{LinkError, Net, SshError};
use understudy::plan::{Passphrase, ServerPlace, SshAccess, SshHost, SshKeys, Via};

use crate::links::block_on;
use crate::peers::server;
use crate::{names, variants};

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// What the key of the host is made of.
const HOST: u8 = 1;
/// The same of ours.
const OURS: u8 = 2;

/// How many bytes have gone into the connection that floods, and how many have come out of it.
#[derive(Default)]
struct Flood {
    sent: AtomicUsize,
    got: AtomicUsize,
}

/// An ssh host of which only `ada` is let in. Behind it are `forbidden`, `nowhere`, `echo`, and `flood`, which says more than anyone
/// would read.
#[derive(Clone, Default)]
struct Host(Arc<Flood>);

impl server::Handler for Host {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        _: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(if user == "ada" { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        to: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let flood = Arc::clone(&self.0);
        match to {
            "forbidden" => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
            "nowhere" => reply.reject(ChannelOpenFailure::ConnectFailed).await,
            "echo" => {
                reply.accept().await;
                let (mut out, mut back) = tokio::io::split(channel.into_stream());
                tokio::spawn(async move { tokio::io::copy(&mut out, &mut back).await });
            }
            _ => {
                reply.accept().await;
                let (mut out, mut into) = tokio::io::split(channel.into_stream());
                let counts = Arc::clone(&flood);
                tokio::spawn(async move {
                    while into.write_all(&[b'x'; 32 << 10]).await.is_ok() {
                        counts.sent.fetch_add(32 << 10, Ordering::SeqCst);
                    }
                });
                tokio::spawn(async move {
                    while let Ok(more @ 1..) = out.read(&mut [0; 4096]).await {
                        flood.got.fetch_add(more, Ordering::SeqCst);
                    }
                });
            }
        }
        Ok(())
    }
}

/// Lets this host serve on a port of loopback.
async fn serve(host: Host) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(server::Config {
        keys: vec![key(HOST)],
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, host) = (Arc::clone(&config), host.clone());
            tokio::spawn(async move {
                if let Ok(session) = server::run_stream(config, stream, host).await {
                    let _ = session.await;
                }
            });
        }
    });
    port
}

/// What a user has, in a folder of its own.
struct User(TempDir);

impl User {
    fn new() -> Self {
        let user = Self(tempfile::tempdir().unwrap());
        user.write_key("ours", &key(OURS));
        user
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_key(&self, name: &str, key: &PrivateKey) {
        let text = key.to_openssh(LineEnding::LF).unwrap();
        fs::write(self.file(name), text.as_bytes()).unwrap();
    }

    /// A file of known hosts with this line about a host on this port.
    fn knows(&self, port: u16, mark: &str, key: &PublicKey) -> PathBuf {
        let file = self.file(&format!("known-{port}-{mark}"));
        let line = format!("{mark}[127.0.0.1]:{port} {}\n", key.to_openssh().unwrap());
        fs::write(&file, line).unwrap();
        file
    }

    /// A server behind the host on this port, to which all is told as it should be.
    fn place(&self, port: u16, to: &str) -> ServerPlace {
        let access = SshAccess {
            keys: SshKeys::Named(self.file("ours")),
            agent: None,
            passphrase: None,
            known_hosts: vec![self.knows(port, "", key(HOST).public_key())],
        };
        let host = "127.0.0.1".to_owned();
        let via = SshHost { user: "ada".into(), host, port, access, jump: None };
        ServerPlace { via: Some(Box::new(Via::Ssh(via))), ..server(&format!("{to}:6379")) }
    }
}

async fn refusal(place: &ServerPlace) -> SshError {
    match Net::system().connect(place).await {
        Err(LinkError::Ssh(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_error_of_an_ssh_host_is_reached() {
    let user = User::new();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent_at = silent.local_addr().unwrap().port();
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut reached = vec![block_on(refusal(&user.place(silent_at, "echo")))];
    let locked = key(OURS)
        .encrypt_with(Cipher::Aes256Ctr, Kdf::Bcrypt { salt: vec![0; 16], rounds: 1 }, 0, "sesame")
        .unwrap();
    user.write_key("locked", &locked);
    reached.extend(Runtime::new().unwrap().block_on(async {
        let port = serve(Host::default()).await;
        let but = |change: &dyn Fn(&mut SshHost)| {
            let mut place = user.place(port, "echo");
            let Some(Via::Ssh(via)) = place.via.as_deref_mut() else { panic!("{place:?}") };
            change(via);
            place
        };
        let known = |mark: &str, of: u8| vec![user.knows(port, mark, key(of).public_key())];
        // What is not meant to fail does not.
        Net::system().connect(&user.place(port, "echo")).await.unwrap();
        let phrase = Some(Passphrase("sesame".into()));
        let opened = but(&|via| {
            via.access.keys = SshKeys::Named(user.file("locked"));
            via.access.passphrase.clone_from(&phrase);
        });
        Net::system().connect(&opened).await.unwrap();
        [
            refusal(&user.place(gone, "echo")).await,
            refusal(&user.place(serve_nothing().await, "echo")).await,
            refusal(&but(&|via| via.access.known_hosts = vec![user.0.path().into()])).await,
            refusal(&but(&|via| via.access.known_hosts = vec!["/nowhere".into()])).await,
            refusal(&but(&|via| via.access.known_hosts = known("", OURS))).await,
            refusal(&but(&|via| via.access.known_hosts = known("@revoked ", HOST))).await,
            refusal(&but(&|via| via.access.keys = SshKeys::default())).await,
            refusal(&but(&|via| via.access.keys = SshKeys::Named("/nowhere".into()))).await,
            refusal(&but(&|via| via.access.keys = SshKeys::Named(user.file("locked")))).await,
            refusal(&but(&|via| via.user = "eve".into())).await,
            refusal(&user.place(port, "forbidden")).await,
            refusal(&user.place(port, "nowhere")).await,
        ]
    }));
    assert_eq!(names(reached), variants("SshError"));
}

/// A port where each connection is closed at once.
async fn serve_nothing() -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    port
}

/// No answer may take so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other_and_is_still_written_to() {
    let user = User::new();
    Runtime::new().unwrap().block_on(async {
        let host = Host::default();
        let port = serve(host.clone()).await;
        let net = Net::system();
        let mut stream = net.connect_stream(&user.place(port, "flood")).await.unwrap();
        let mut link = net.connect(&user.place(port, "echo")).await.unwrap();
        let sent = || host.0.sent.load(Ordering::SeqCst);
        // Round trips over the host's other session go on, and at last nothing more comes into the stream.
        let (mut before, mut rounds) = (0, 0);
        let all = async {
            loop {
                for _ in 0..500 {
                    link.write_all(b"ping").await.unwrap();
                    link.flush().await.unwrap();
                    link.read_exact(&mut [0; 4]).await.unwrap();
                }
                rounds += 1;
                if sent() == before && before > 0 {
                    break;
                }
                before = sent();
            }
        };
        timeout(PATIENCE, all).await.unwrap();
        // A window, and what the sockets' own buffers take.
        assert!(before < 24 << 20, "{before} bytes have come in {rounds} rounds");

        stream.write_all(b"still here").await.unwrap();
        stream.flush().await.unwrap();
        let arrived = async {
            while host.0.got.load(Ordering::SeqCst) < 10 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, arrived).await.unwrap();
        assert_eq!(sent(), before, "nothing was read meanwhile");

        let (mut read, mut room) = (0, vec![0; 64 << 10]);
        let all = async {
            while read < 64 << 20 {
                read += stream.read(&mut room).await.unwrap();
            }
        };
        timeout(PATIENCE, all).await.unwrap();
    });
}
