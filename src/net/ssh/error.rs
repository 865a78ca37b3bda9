//! Why a server cannot be reached through its ssh host.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::{Side, SshHost};

use super::super::link::LinkError;
use super::known;

/// Why a server cannot be reached through its ssh host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The ssh host itself cannot be reached.
    #[error("the ssh host {host} cannot be reached")]
    Unreachable {
        /// The ssh host.
        host: String,
        /// Why.
        #[source]
        source: Box<LinkError>,
    },
    /// It has not let us in, or not connected us onward, in time.
    #[error("the ssh host {host} has not answered within {} s", after.as_secs())]
    Silent {
        /// The ssh host.
        host: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// What answers speaks no ssh, or none that we do; or it broke off.
    #[error("no ssh session with {host} came about: {reason}")]
    Broken {
        /// The ssh host.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// A file with the keys of hosts cannot be read.
    #[error("{}: the known hosts cannot be read", file.display())]
    KnownHosts {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Nothing is known of the host.
    #[error("the ssh host {host} is not known here: it shows the key {key}")]
    UnknownHost {
        /// The ssh host.
        host: String,
        /// The kind of its key, and the fingerprint.
        key: String,
        /// How it is logged in to by hand, and its key asked for.
        by_hand: Box<ByHand>,
    },
    /// The host has another key than is known of it.
    #[error(
        "the ssh host {host} shows the key {key}, and {}:{line} has another one for it: somebody may stand in between",
        file.display()
    )]
    ChangedHost {
        /// The ssh host.
        host: String,
        /// The kind of its key, and the fingerprint.
        key: String,
        /// The file with the other key.
        file: PathBuf,
        /// The line.
        line: usize,
        /// How it is logged in to by hand, and its key asked for.
        by_hand: Box<ByHand>,
    },
    /// The key of the host must not be trusted any more.
    #[error("the ssh host {host} shows the key {key}, which {}:{line} says is revoked", file.display())]
    RevokedHost {
        /// The ssh host.
        host: String,
        /// The kind of its key, and the fingerprint.
        key: String,
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// There is neither an agent with a key nor a file.
    #[error("there is no key to log in to the ssh host {host} with")]
    NoKey {
        /// The ssh host.
        host: String,
    },
    /// A private key cannot be read.
    #[error("the private key {} cannot be used: {reason}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key is encrypted, and the passphrase was not told or is another one.
    #[error("the private key {} is encrypted, and {why}", file.display())]
    Locked {
        /// The file.
        file: PathBuf,
        /// Whether there is a passphrase.
        why: &'static str,
    },
    /// The host does not let us in.
    #[error("the ssh host {host} does not let {user} in with {tried}{then}")]
    Refused {
        /// The ssh host.
        host: String,
        /// Who we are there.
        user: String,
        /// The keys that were tried.
        tried: String,
        /// What it said then.
        then: String,
    },
    /// The host lets nobody connect onward from there, or not to this place.
    #[error("the ssh host {host} does not allow connections from there to {to}")]
    Forbidden {
        /// The ssh host.
        host: String,
        /// Where we want to go.
        to: String,
    },
    /// There is no way from the host to the server.
    #[error("the ssh host {host} cannot connect to {to}{reason}")]
    NoWay {
        /// The ssh host.
        host: String,
        /// Where we want to go.
        to: String,
        /// What it says of it, if it says something.
        reason: String,
    },
}

/// What is typed to see to a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// Writes its key down.
    add: String,
    /// Forgets the old one.
    forget: String,
    /// Logs in.
    log_in: String,
}

impl ByHand {
    pub(super) fn of(via: &SshHost) -> Box<Self> {
        let SshHost { user, host, port, access, jump } = via;
        let file = access
            .known_hosts
            .first()
            .map_or_else(|| "known_hosts".to_owned(), |file| file.display().to_string());
        let port_of = |flag: &str| {
            if *port == 22 { String::new() } else { format!("{flag} {port} ") }
        };
        let through =
            jump.as_ref().map_or_else(String::new, |jump| format!("-J {}@{jump} ", jump.user));
        let log_in =
            format!("ssh -o UserKnownHostsFile={file} {through}{}{user}@{host}", port_of("-p"));
        // Behind another host it cannot be asked from here.
        let add = match jump {
            None => format!("ssh-keyscan {}{host} >> {file}", port_of("-p")),
            Some(_) => log_in.clone(),
        };
        let forget = format!("ssh-keygen -R '{}' -f {file}", known::name(host, *port));
        Box::new(Self { add, forget, log_in })
    }
}

impl SshError {
    /// What the operator can do, if the server is on this side.
    #[must_use]
    pub fn advice(&self, side: Side) -> String {
        let (flag, place) = (side.flag(), side.place());
        match self {
            Self::Unreachable { source, .. } => match **source {
                LinkError::NoSuchHost { .. } => format!(
                    "check the host's name in {flag}-ssh; names from ~/.ssh/config are read by --ssh-command ssh only"
                ),
                LinkError::TimedOut(_) => format!(
                    "check {flag}-ssh: is the host up, and does the network (a VPN, a firewall) let us through?"
                ),
                _ => format!("check host and port in {flag}-ssh, and that its ssh server is up"),
            },
            Self::Silent { .. } => {
                "see whether `ssh` to it answers, and whether the server behind it can be reached from there".to_owned()
            }
            Self::Broken { .. } => {
                format!("check the port in {flag}-ssh, and see the log of the ssh server")
            }
            Self::KnownHosts { .. } => {
                "give a file that this user may read: --ssh-known-hosts FILE".to_owned()
            }
            Self::UnknownHost { by_hand, .. } => format!(
                "compare this fingerprint with what the host's owner tells; if they are the same: {} (or log in once: {})",
                by_hand.add, by_hand.log_in
            ),
            Self::ChangedHost { by_hand, .. } => format!(
                "ask the host's owner whether its key was changed, and compare the fingerprint; only then: {} && {}",
                by_hand.forget, by_hand.add
            ),
            Self::RevokedHost { .. } => "do not use this host before its owner has given it a new key".to_owned(),
            Self::NoKey { .. } => {
                "give one with --ssh-key FILE, or start an agent (ssh-agent) and ssh-add one".to_owned()
            }
            Self::Key { .. } => {
                "give a private key that this user may read: --ssh-key FILE".to_owned()
            }
            Self::Locked { .. } => {
                "tell it in UNDERSTUDY_SSH_PASSPHRASE, or ssh-add the key to an agent".to_owned()
            }
            Self::Refused { .. } => format!(
                "check the user in {flag}-ssh, that the key stands in that user's ~/.ssh/authorized_keys there, and give the right one with --ssh-key FILE"
            ),
            Self::Forbidden { .. } => {
                "let its sshd_config say AllowTcpForwarding yes (and PermitOpen, if it is there), or use another host".to_owned()
            }
            // OpenSSH says no more of a socket that it may not open.
            Self::NoWay { to, .. } if to.starts_with("unix:") => format!(
                "check {place}: the path is looked up on the ssh host, whose user must be allowed to open it (unixsocketperm), and whose sshd_config must say AllowStreamLocalForwarding yes"
            ),
            Self::NoWay { .. } => format!(
                "check {place}: the address is looked up on the ssh host, where localhost is that host itself; and see that the server listens there"
            ),
        }
    }
}
