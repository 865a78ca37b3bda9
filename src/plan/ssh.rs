//! The ssh host that a server is reached through.

use std::fmt;
use std::path::PathBuf;

use super::Tunnel;

/// What leads to a server that is not reached from here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// An ssh host that we log in to ourselves.
    Ssh(SshHost),
    /// One that another program leads to.
    Program(Tunnel),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh(host) => host.fmt(f),
            Self::Program(tunnel) => tunnel.fmt(f),
        }
    }
}

/// A host that we log in to, and connect onward from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshHost {
    /// Who we are there.
    pub user: String,
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    /// Where its ssh server listens.
    pub port: u16,
    /// What we show it and what we know of it.
    pub access: SshAccess,
    /// Another host, through which this one is reached.
    pub jump: Option<Box<Self>>,
}

impl SshHost {
    /// So many bytes of a source's stream may wait in memory, if it comes through an ssh host.
    pub const HELD: usize = 256 << 10;
}

/// The files and secrets that a login needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SshAccess {
    /// Private keys. One that is named must be there, those that are not are tried if they are.
    pub keys: SshKeys,
    /// The socket of an ssh agent.
    pub agent: Option<PathBuf>,
    /// What opens a private key that is encrypted.
    pub passphrase: Option<Passphrase>,
    /// Where the keys of hosts are written down. The first is the one that is named in advice.
    pub known_hosts: Vec<PathBuf>,
}

/// Which private keys are tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SshKeys {
    /// This one alone.
    Named(PathBuf),
    /// Those of the agent, then these as far as they exist.
    Usual(Vec<PathBuf>),
}

impl Default for SshKeys {
    fn default() -> Self {
        Self::Usual(Vec::new())
    }
}

/// What opens a private key. It is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Passphrase(pub String);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// What `[user@]host[:port]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshName {
    /// Who we are there, if that is said.
    pub user: Option<String>,
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    /// The port, if that is said.
    pub port: Option<u16>,
}

/// Where ssh servers listen.
const PORT: u16 = 22;

impl SshName {
    /// The port: the usual one unless told.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(PORT)
    }

    /// Reads `[user@]host[:port]`; `None` if the text is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, after)) => (host, Some(after.strip_prefix(':')?)),
            None => match rest.split_once(':') {
                // An address of IPv6 that stands without brackets can have no port behind it.
                Some((_, after)) if after.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let is_plain = |word: &str| {
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        // What begins with a dash would be an option to others, and a password has no place here.
        let is_user = |user: &str| is_plain(user) && !user.contains([':', '/']);
        if !is_plain(host)
            || host.contains(['/', '@'])
            || host.starts_with('-')
            || !user.is_none_or(is_user)
        {
            return None;
        }
        let port = match port {
            None => None,
            Some(digits) => Some(digits.parse().ok().filter(|&port| port != 0)?),
        };
        Some(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

/// The host alone: who we are there and what leads there makes it no other.
impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host, Some(self.port))
    }
}

/// An ssh host in messages and names.
pub(super) fn write_host(f: &mut fmt::Formatter<'_>, host: &str, port: Option<u16>) -> fmt::Result {
    match (host.contains(':'), port.unwrap_or(PORT)) {
        (false, PORT) => f.write_str(host),
        (true, PORT) => write!(f, "[{host}]"),
        (false, port) => write!(f, "{host}:{port}"),
        (true, port) => write!(f, "[{host}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<String>, String, u16)> {
        SshName::parse(text).map(|name| (name.user.clone(), name.host.clone(), name.port()))
    }

    #[test]
    fn hosts_as_they_are_typed() {
        assert_eq!(read("ada@gate"), Some((Some("ada".into()), "gate".into(), 22)));
        assert_eq!(read("gate:2222"), Some((None, "gate".into(), 2222)));
        assert_eq!(read("ssh://ada@gate:2222"), Some((Some("ada".into()), "gate".into(), 2222)));
        assert_eq!(read("ada@corp@gate"), Some((Some("ada@corp".into()), "gate".into(), 22)));
        assert_eq!(read("a@[::1]:23"), Some((Some("a".into()), "::1".into(), 23)));
        assert_eq!(read("::1"), Some((None, "::1".into(), 22)));
        for bad in
            ["", "@gate", "ada@", "ada:pw@gate", "gate:", "gate:0", "gate:x", "a b", "-oX", "g/3"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_is_called_by_its_name_alone_and_its_secrets_are_not_shown() {
        let access =
            SshAccess { passphrase: Some(Passphrase("open".into())), ..SshAccess::default() };
        let host = |host: &str, port| SshHost {
            user: "ada".into(),
            host: host.into(),
            port,
            access: access.clone(),
            jump: None,
        };
        let names = [("gate", 22), ("gate", 2222), ("::1", 22), ("::1", 23)];
        let names = names.map(|(name, port)| host(name, port).to_string());
        assert_eq!(names, ["gate", "gate:2222", "[::1]", "[::1]:23"]);
        assert!(!format!("{:?}", host("gate", 22)).contains("open"));
    }
}
