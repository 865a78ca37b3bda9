//! One ssh session: the host is judged by its key, and lets us in by ours.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::client::{self, AuthResult, Handle, Msg};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key;
use russh::keys::{
    HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
    decode_secret_key,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::plan::{Address, SshHost, SshKeys};

use super::super::link::not_found;
use super::error::{ByHand, SshError};
use super::held::Held;
use super::known::{Judgement, Known};

/// What the far side may send on a channel before we have seen any of it. It is on the way then, not in our memory.
const WINDOW: u32 = 2 << 20;

/// Bytes of one message.
const PACKET: u32 = 32 << 10;

/// Messages of a channel that wait for its reader. What bounds them is [`Held`] where much may wait, and elsewhere that only
/// answers come: whoever asked takes them, so that a session never stands still.
const MESSAGES: usize = 1 << 20;

/// A session that is silent for so long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// So often it is asked in vain before it is lost.
const UNANSWERED: usize = 3;

/// Whether a session is always listened to.
pub(super) enum Listening {
    /// It is: one that does not answer is lost.
    Always,
    /// It may be that nothing is read for long, and then no answer either. What has come is counted here.
    AtTimes(Option<Arc<Held>>),
}

/// A session with a host that has let us in.
pub(super) struct Session {
    handle: Handle<Caller>,
    host: String,
    /// The host was asked over it and did not answer.
    is_silent: AtomicBool,
    ended: watch::Receiver<()>,
}

/// Our side of a session, as russh calls it.
pub(super) struct Caller {
    via: SshHost,
    known: Known,
    held: Option<Arc<Held>>,
    /// It goes with the session.
    _lives: watch::Sender<()>,
}

/// Why a session has not come about.
#[derive(Debug)]
pub(super) enum Failed {
    Judged(SshError),
    Protocol(russh::Error),
}

impl From<russh::Error> for Failed {
    fn from(error: russh::Error) -> Self {
        Self::Protocol(error)
    }
}

impl client::Handler for Caller {
    type Error = Failed;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failed> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                judge(&self.via, &self.known, key).map_err(Failed::Judged)?;
                Ok(true)
            }
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }

    async fn data(
        &mut self,
        _: ChannelId,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Failed> {
        if let Some(held) = &self.held {
            held.come(data.len());
        }
        Ok(())
    }
}

fn judge(via: &SshHost, known: &Known, shown: &PublicKey) -> Result<(), SshError> {
    let host = via.to_string();
    let key = format!("{} {}", shown.algorithm(), shown.fingerprint(HashAlg::Sha256));
    match known.judge(shown) {
        Judgement::Known => Ok(()),
        Judgement::Unknown => Err(SshError::UnknownHost { host, key, by_hand: ByHand::of(via) }),
        Judgement::Other(file, line) => {
            Err(SshError::ChangedHost { host, key, file, line, by_hand: ByHand::of(via) })
        }
        Judgement::Revoked(file, line) => Err(SshError::RevokedHost { host, key, file, line }),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Session {
    /// Logs in over this stream.
    pub(super) async fn open<S>(
        via: &SshHost,
        stream: S,
        listening: Listening,
    ) -> Result<Self, SshError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let known = Known::read(&via.access.known_hosts, &via.host, via.port).await?;
        let (held, unanswered) = match listening {
            Listening::Always => (None, UNANSWERED),
            Listening::AtTimes(held) => (held, 0),
        };
        let config = client::Config {
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            channel_buffer_size: MESSAGES,
            preferred: Preferred {
                key: known.kinds().into(),
                cipher: CIPHERS.into(),
                ..Preferred::default()
            },
            keepalive_interval: Some(KEEP_ALIVE),
            keepalive_max: unanswered,
            ..client::Config::default()
        };
        let (lives, ended) = watch::channel(());
        let caller = Caller { via: via.clone(), known, held, _lives: lives };
        let broken = |reason: String| SshError::Broken { host: via.to_string(), reason };
        let connected = client::connect_stream(Arc::new(config), stream, caller).await;
        let mut handle = connected.map_err(|failed| match failed {
            Failed::Judged(error) => error,
            Failed::Protocol(error) => broken(error.to_string()),
        })?;
        log_in(&mut handle, via).await?;
        Ok(Self { handle, host: via.to_string(), is_silent: AtomicBool::new(false), ended })
    }

    /// Whether it is lost, or as good as that.
    pub(super) fn is_lost(&self) -> bool {
        self.handle.is_closed() || self.is_silent.load(Ordering::Relaxed)
    }

    /// Asks the host whether it is there; ends with its answer.
    pub(super) async fn answer(&self) {
        // Who cannot be asked answers nothing.
        if self.handle.send_ping().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The host answers nothing: no more is begun over it.
    pub(super) fn give_up(&self) {
        tracing::debug!(host = self.host, "the ssh host does not answer over its session");
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Why there is no channel after so long.
    pub(super) fn unanswered(&self, to: &Address, after: Duration) -> SshError {
        let host = self.host.clone();
        if self.is_lost() {
            return SshError::Silent { host, after };
        }
        let reason = format!(": nothing has answered there within {} s", after.as_secs());
        SshError::NoWay { host, to: to.to_string(), reason }
    }

    /// What resolves when it is lost.
    pub(super) fn ended(&self) -> watch::Receiver<()> {
        self.ended.clone()
    }

    /// Connects onward. `None` if the session was lost before.
    pub(super) async fn channel(&self, to: &Address) -> Result<Option<Channel<Msg>>, SshError> {
        let opened = match to {
            Address::Tcp { host, port } => {
                let port = u32::from(*port);
                self.handle.channel_open_direct_tcpip(host.as_str(), port, "127.0.0.1", 0).await
            }
            Address::Unix(path) => {
                let path = path.to_string_lossy().into_owned();
                self.handle.channel_open_direct_streamlocal(path).await
            }
            Address::Watched(_) | Address::Cluster(_) => {
                let reason = format!(": {}", not_found());
                return Err(SshError::NoWay {
                    host: self.host.clone(),
                    to: to.to_string(),
                    reason,
                });
            }
        };
        let (host, to) = (self.host.clone(), to.to_string());
        match opened {
            Ok(channel) => Ok(Some(channel)),
            Err(russh::Error::ChannelOpenFailure(why)) => Err(match why {
                ChannelOpenFailure::AdministrativelyProhibited
                | ChannelOpenFailure::UnknownChannelType => SshError::Forbidden { host, to },
                ChannelOpenFailure::ConnectFailed => {
                    SshError::NoWay { host, to, reason: String::new() }
                }
                ChannelOpenFailure::ResourceShortage => {
                    SshError::NoWay { host, to, reason: ": it is short of resources".to_owned() }
                }
                ChannelOpenFailure::Other { reason, .. } => {
                    SshError::NoWay { host, to, reason: format!(": {reason}") }
                }
            }),
            Err(_) => Ok(None),
        }
    }
}

/// Those that processors do by themselves first.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// A way to prove who we are.
enum Proof {
    /// A private key that was read from a file.
    File(Arc<PrivateKey>),
    /// A key of the agent.
    Agent(PublicKey),
}

async fn log_in(handle: &mut Handle<Caller>, via: &SshHost) -> Result<(), SshError> {
    let mut agent = match &via.access.agent {
        Some(socket) => AgentClient::connect_uds(socket).await.ok(),
        None => None,
    };
    let held = match &mut agent {
        Some(agent) => agent.request_identities().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let held: Vec<(PublicKey, String)> = held
        .into_iter()
        .filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, comment } => Some((key, comment)),
            AgentIdentity::Certificate { .. } => None,
        })
        .collect();
    let (proofs, locked) = proofs(via, held).await?;
    if proofs.is_empty() {
        return Err(match locked {
            Some(locked) => locked,
            None => SshError::NoKey { host: via.to_string() },
        });
    }
    let mut tried = Vec::new();
    let mut then = String::new();
    for (proof, name) in proofs {
        tried.push(name);
        match prove(handle, via, proof, agent.as_mut()).await {
            Answer::LetIn => return Ok(()),
            Answer::Refused => {}
            Answer::WantsMore(what) => {
                then = format!(" alone: it asks for {what} too");
                break;
            }
            Answer::Gone => {
                ", and has closed the connection then".clone_into(&mut then);
                break;
            }
        }
    }
    if let Some(SshError::Locked { file, .. }) = &locked {
        then.push_str(&format!(" ({} is encrypted and was not tried)", file.display()));
    }
    let (host, user) = (via.to_string(), via.user.clone());
    Err(SshError::Refused { host, user, tried: tried.join(", "), then })
}

/// What there is to prove who we are, each with its name, in the order in which it is tried; and what would be if it could be opened.
async fn proofs(
    via: &SshHost,
    held: Vec<(PublicKey, String)>,
) -> Result<(Vec<(Proof, String)>, Option<SshError>), SshError> {
    let of_agent = |(key, comment): (PublicKey, String)| {
        let name = format!(
            "the agent's key {}",
            if comment.is_empty() { key.fingerprint(HashAlg::Sha256).to_string() } else { comment }
        );
        (Proof::Agent(key), name)
    };
    let passphrase = via.access.passphrase.as_ref().map(|phrase| phrase.0.clone());
    let (files, is_named, mut proofs) = match &via.access.keys {
        SshKeys::Named(file) => (std::slice::from_ref(file), true, Vec::new()),
        SshKeys::Usual(files) => {
            (files.as_slice(), false, held.iter().cloned().map(of_agent).collect())
        }
    };
    let mut locked = None;
    for file in files {
        let text = match tokio::fs::read_to_string(file).await {
            Ok(text) => text,
            Err(_) if !is_named => continue,
            Err(error) => {
                return Err(SshError::Key { file: file.clone(), reason: error.to_string() });
            }
        };
        match open_key(file, text.clone(), passphrase.clone()).await {
            Ok(key) => proofs.push((Proof::File(Arc::new(key)), file.display().to_string())),
            Err(SshError::Locked { file, why }) => {
                // The agent may hold it open.
                let shut = PrivateKey::from_openssh(&text).ok();
                let same = |(key, _): &&(PublicKey, String)| {
                    shut.as_ref().is_some_and(|shut| shut.public_key().key_data() == key.key_data())
                };
                match held.iter().find(same) {
                    Some(key) if is_named => proofs.push(of_agent(key.clone())),
                    Some(_) => {}
                    None => locked = locked.or(Some(SshError::Locked { file, why })),
                }
            }
            Err(error) if is_named => return Err(error),
            Err(_) => {}
        }
    }
    Ok((proofs, locked))
}

/// Reads a private key. Opening one that is encrypted is made slow on purpose.
async fn open_key(
    file: &Path,
    text: String,
    passphrase: Option<String>,
) -> Result<PrivateKey, SshError> {
    let file = file.to_owned();
    let is_told = passphrase.is_some();
    let decoded =
        tokio::task::spawn_blocking(move || decode_secret_key(&text, passphrase.as_deref())).await;
    match decoded {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(russh::keys::Error::KeyIsEncrypted)) => {
            Err(SshError::Locked { file, why: "no passphrase is told" })
        }
        Ok(Err(russh::keys::Error::SshKey(ssh_key::Error::Crypto))) if is_told => {
            Err(SshError::Locked { file, why: "the passphrase that is told does not open it" })
        }
        Ok(Err(error)) => Err(SshError::Key { file, reason: error.to_string() }),
        Err(error) => Err(SshError::Key { file, reason: error.to_string() }),
    }
}

/// What became of one try.
enum Answer {
    LetIn,
    /// It is not taken, or cannot be used.
    Refused,
    /// It is taken, and these methods are asked for as well.
    WantsMore(String),
    /// The session was lost over it: hosts do not listen to many tries.
    Gone,
}

async fn prove(
    handle: &mut Handle<Caller>,
    via: &SshHost,
    proof: Proof,
    agent: Option<&mut AgentClient<tokio::net::UnixStream>>,
) -> Answer {
    let user = via.user.as_str();
    let is_rsa = match &proof {
        Proof::File(key) => key.algorithm().is_rsa(),
        Proof::Agent(key) => key.algorithm().is_rsa(),
    };
    // Only keys of this kind have a choice, and asking for it can take a second.
    let hash = match is_rsa {
        true => match handle.best_supported_rsa_hash().await {
            Ok(best) => best.flatten().or(Some(HashAlg::Sha512)),
            Err(_) => return Answer::Gone,
        },
        false => None,
    };
    let answer = match (proof, agent) {
        (Proof::File(key), _) => {
            let key = PrivateKeyWithHashAlg::new(key, hash);
            handle.authenticate_publickey(user, key).await.ok()
        }
        (Proof::Agent(key), Some(agent)) => {
            handle.authenticate_publickey_with(user, key, hash, agent).await.ok()
        }
        (Proof::Agent(_), None) => None,
    };
    match answer {
        Some(AuthResult::Success) => Answer::LetIn,
        _ if handle.is_closed() => Answer::Gone,
        Some(AuthResult::Failure { partial_success: true, remaining_methods }) => {
            let methods: Vec<String> = remaining_methods.iter().map(String::from).collect();
            Answer::WantsMore(methods.join(", "))
        }
        // An agent can refuse to sign.
        Some(AuthResult::Failure { .. }) | None => Answer::Refused,
    }
}
