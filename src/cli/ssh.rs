//! The ssh hosts that lead to places, from what was typed, what a file says and what is usual.

use std::env;
use std::path::{Path, PathBuf};

use understudy::plan::{Passphrase, SshAccess, SshCommand, SshHost, SshKeys, SshName, Tunnel, Via};

use super::args::SshArgs;
use super::config::SshTexts;
use super::refusal::{Refusal, refuse};
use super::values::{Said, ssh_command, ssh_host};

/// The variable that holds what opens a private key.
const PASSPHRASE: &str = "UNDERSTUDY_SSH_PASSPHRASE";

/// The private keys that are tried unless one is named.
const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// What is said of ssh for the places of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Through {
    host: Option<SshName>,
    jump: Option<SshName>,
    key: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    command: Option<SshCommand>,
}

impl Through {
    /// What flags say.
    pub(crate) fn typed(host: Option<&SshName>, args: &SshArgs) -> Self {
        let SshArgs { ssh_key, ssh_known_hosts, ssh_jump, ssh_command } = args;
        Self {
            host: host.cloned(),
            jump: ssh_jump.clone(),
            key: ssh_key.clone(),
            known_hosts: ssh_known_hosts.clone(),
            command: ssh_command.clone(),
        }
    }

    /// The same for a place of which a file says more. What flags say goes before it.
    pub(crate) fn of_file(&self, texts: &SshTexts) -> Result<Self, Refusal> {
        let read = |said: &Option<Said<String>>| -> Result<Option<SshName>, Refusal> {
            match said {
                // Of one place that needs none, where `[defaults]` has one.
                Some(Said { value, .. }) if value.is_empty() => Ok(None),
                Some(Said { value, at }) => match ssh_host(value) {
                    Ok(name) => Ok(Some(name)),
                    Err(what) => refuse(format!("{at}: {value:?}: {what}"), "write it so"),
                },
                None => Ok(None),
            }
        };
        let path = |said: &Option<Said<String>>| -> Option<PathBuf> {
            said.as_ref().map(|said| at_home(&said.value))
        };
        let (host, mut jump) = (read(&texts.host)?, read(&texts.jump)?);
        if self.host.is_some() {
            // Another host has another way to it.
            jump = None;
        }
        let told = match &texts.command {
            // The same of one place that needs none.
            Some(Said { value, .. }) if value.is_empty() => None,
            Some(Said { value, at }) => match ssh_command(value) {
                Ok(command) => Some(command),
                Err(what) => return refuse(format!("{at}: {value:?}: {what}"), "write it so"),
            },
            None => None,
        };
        let host = self.host.clone().or(host);
        // A program has its own keys, and who names a key wants no program.
        if self.command.is_some() {
            return Ok(Self { host, ..self.clone() });
        }
        let own = self.jump.is_some() || self.key.is_some() || self.known_hosts.is_some();
        Ok(Self {
            host,
            jump: self.jump.clone().or(jump),
            key: self.key.clone().or_else(|| path(&texts.key)),
            known_hosts: self.known_hosts.clone().or_else(|| path(&texts.known_hosts)),
            command: told.filter(|_| !own),
        })
    }

    /// Whether a host is said.
    pub(crate) const fn leads(&self) -> bool {
        self.host.is_some()
    }

    /// What leads there: the host, with all that is needed to log in, or the program that knows it.
    pub(crate) fn via(&self) -> Result<Option<Via>, Refusal> {
        let Some(name) = &self.host else { return Ok(None) };
        if let Some(command) = &self.command {
            let SshName { user, host, port } = name.clone();
            return Ok(Some(Via::Program(Tunnel { command: command.clone(), user, host, port })));
        }
        let access = self.access();
        let jump = self.jump.as_ref().map(|name| host(name, &access, None)).transpose()?;
        host(name, &access, jump.map(Box::new)).map(|host| Some(Via::Ssh(host)))
    }

    fn access(&self) -> SshAccess {
        let home = home();
        let of_home = |name: &str| home.as_ref().map(|home| home.join(".ssh").join(name));
        let keys = match &self.key {
            Some(file) => SshKeys::Named(file.clone()),
            None => SshKeys::Usual(KEYS.into_iter().filter_map(of_home).collect()),
        };
        let known_hosts = match &self.known_hosts {
            Some(file) => vec![file.clone()],
            None => {
                let of_all = PathBuf::from("/etc/ssh/ssh_known_hosts");
                of_home("known_hosts").into_iter().chain([of_all]).collect()
            }
        };
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let passphrase = env::var(PASSPHRASE).ok().filter(|phrase| !phrase.is_empty());
        SshAccess {
            keys,
            agent: set("SSH_AUTH_SOCK").map(PathBuf::from),
            passphrase: passphrase.map(Passphrase),
            known_hosts,
        }
    }
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// A path, as a shell would read it.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => Path::new(path).to_owned(),
    }
}

fn host(
    name: &SshName,
    access: &SshAccess,
    jump: Option<Box<SshHost>>,
) -> Result<SshHost, Refusal> {
    let SshName { user, host, .. } = name;
    let port = name.port();
    let ours = || ["USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
    match user.clone().or_else(ours).filter(|user| !user.is_empty()) {
        Some(user) => Ok(SshHost { user, host: host.clone(), port, access: access.clone(), jump }),
        None => refuse(
            format!("the ssh host {host}: who we are there is not said"),
            format!("write user@{host}"),
        ),
    }
}
