//! An ssh host in this process: russh's own server, which connects onward to real servers and does wrong when it is told to.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{
    self, Auth, ChannelOpenHandle, Config, Handle, Msg, VerifiedPublicKey, run_stream,
};
use russh::{Channel, ChannelId, ChannelOpenFailure};
use tempfile::TempDir;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use understudy::plan::{Address, ServerPlace, SshAccess, SshHost, SshKeys, Via};

use crate::dice::Dice;

/// An ssh host on loopback. It is gone when this value goes.
pub(crate) struct Gate {
    port: u16,
    control: Arc<Control>,
    folder: TempDir,
    runtime: Runtime,
}

/// What it is told, and what it has seen.
#[derive(Default)]
struct Control(Mutex<State>);

#[derive(Default)]
struct State {
    seen: Seen,
    /// What is told to each session.
    sessions: Vec<watch::Sender<Told>>,
    /// Those that are open.
    channels: Vec<(Handle, ChannelId)>,
    /// So many channels are still to be refused.
    refuse: usize,
    /// A port to which it tries to connect for ever, and whoever waits for that.
    deaf: Option<u16>,
    waiting: Vec<ChannelOpenHandle>,
}

/// What it has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sessions: usize,
    pub(crate) channels: usize,
    pub(crate) refused: usize,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Serve,
    /// Take nothing and say nothing, on a connection that stays.
    FallSilent,
    End,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn tell(&self, what: Told) {
        for session in &self.state().sessions {
            session.send_replace(what);
        }
    }
}

impl Gate {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut dice = Dice::new(7);
        let mut key = || {
            let seed: [u8; 32] = dice.bytes(32).try_into().unwrap();
            PrivateKey::from(Ed25519Keypair::from_seed(&seed))
        };
        let (host, client) = (key(), key());
        fs::write(folder.path().join("client"), client.to_openssh(LineEnding::LF).unwrap())
            .unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = host.public_key().to_openssh().unwrap();
        fs::write(folder.path().join("known"), format!("[127.0.0.1]:{port} {public}\n")).unwrap();
        let config = Config {
            keys: vec![host],
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: None,
            ..Config::default()
        };
        let control = Arc::new(Control::default());
        runtime.spawn(listen(listener, Arc::new(config), Arc::clone(&control)));
        Self { port, control, folder, runtime }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// `user@host:port`.
    pub(crate) fn address(&self) -> String {
        format!("ada@127.0.0.1:{}", self.port)
    }

    /// What is told with its address.
    pub(crate) fn keys(&self) -> Vec<String> {
        ["--ssh-key".into(), self.file("client"), "--ssh-known-hosts".into(), self.file("known")]
            .to_vec()
    }

    /// The server on this port, through here.
    pub(crate) fn place(&self, port: u16) -> ServerPlace {
        let access = SshAccess {
            keys: SshKeys::Named(self.file("client").into()),
            known_hosts: vec![self.file("known").into()],
            ..SshAccess::default()
        };
        let via = SshHost {
            user: "ada".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: self.port,
            access,
            jump: None,
        };
        ServerPlace {
            address: Address::Tcp { host: "127.0.0.1".to_owned(), port },
            via: Some(Box::new(Via::Ssh(via))),
            tls: None,
            credentials: None,
            db: None,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.control.state().seen
    }

    /// Ends all sessions that there are, as a host does that goes down; it goes on listening.
    pub(crate) fn drop_sessions(&self) {
        self.control.tell(Told::End);
    }

    /// Says nothing any more in any session that there is, and closes none.
    pub(crate) fn fall_silent(&self) {
        self.control.tell(Told::FallSilent);
    }

    /// Closes all channels; the sessions live on.
    pub(crate) fn close_channels(&self) {
        let channels = std::mem::take(&mut self.control.state().channels);
        self.runtime.block_on(async {
            for (session, channel) in channels {
                // It may be closed already.
                let _ = session.close(channel).await;
            }
        });
    }

    /// Refuses the next channels, as one who forbids them.
    pub(crate) fn refuse(&self, channels: usize) {
        self.control.state().refuse = channels;
    }

    /// Has no answer to whoever wants to connect to this port.
    pub(crate) fn be_deaf_to(&self, port: u16) {
        self.control.state().deaf = Some(port);
    }
}

async fn listen(listener: TcpListener, config: Arc<Config>, control: Arc<Control>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tell, told) = watch::channel(Told::Serve);
        {
            let mut state = control.state();
            state.seen.sessions += 1;
            state.sessions.push(tell);
        }
        // What stands between the socket and the session can fall silent for both.
        let (outer, inner) = duplex(1 << 16);
        let caller = Caller(Arc::clone(&control));
        let config = Arc::clone(&config);
        tokio::spawn(async move {
            if let Ok(session) = run_stream(config, inner, caller).await {
                let _ = session.await;
            }
        });
        tokio::spawn(carry(socket, outer, told));
    }
}

async fn carry(mut socket: TcpStream, mut session: DuplexStream, mut told: watch::Receiver<Told>) {
    tokio::select! {
        _ = copy_bidirectional(&mut socket, &mut session) => return,
        told = told.wait_for(|told| !matches!(told, Told::Serve)) => match told.map(|told| *told) {
            Ok(Told::FallSilent) => {}
            _ => return,
        }
    }
    // Both are held, and the far side learns nothing.
    let _ = told.wait_for(|told| matches!(told, Told::End)).await;
}

/// One session's side of things.
struct Caller(Arc<Control>);

impl server::Handler for Caller {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), russh::Error> {
        let is_refused = {
            let mut state = self.0.state();
            if state.deaf.is_some_and(|deaf| u32::from(deaf) == port) {
                state.waiting.push(reply);
                return Ok(());
            }
            let is_refused = state.refuse > 0;
            if is_refused {
                state.refuse -= 1;
                state.seen.refused += 1;
            } else {
                state.seen.channels += 1;
                state.channels.push((session.handle(), channel.id()));
            }
            is_refused
        };
        if is_refused {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        // Names that are known here and nowhere else.
        let host = if host.ends_with(".example") { "127.0.0.1" } else { host };
        let to = format!("{host}:{port}");
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(to).await else {
                return reply.reject(ChannelOpenFailure::ConnectFailed).await;
            };
            reply.accept().await;
            let _ = copy_bidirectional(&mut channel.into_stream(), &mut server).await;
        });
        Ok(())
    }
}
