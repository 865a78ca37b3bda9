//! Where sources and targets are, who we are to them, how TLS is spoken with them and which ssh host leads there.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use understudy::plan::{Address, Identity, Place, PlaceError, Side, Tls, Via};
use understudy::repl::Credentials;

use super::args::{FromSsh, FromTls, SshArgs, ToSsh, ToTls};
use super::config::Access;
use super::refusal::{Refusal, refuse};
use super::ssh::Through;
use super::values::{Said, listen};

/// How the places of one side are come to.
#[derive(Clone)]
pub(crate) struct Way {
    side: Side,
    tls: Tls,
    ssh: Through,
    /// The password of this place alone, and where it was said.
    own: Option<Said<String>>,
    /// Where the place was said, if it was not by a flag.
    at: Option<String>,
}

impl Way {
    pub(crate) fn from(args: &FromTls, via: &FromSsh, ssh: &SshArgs) -> Self {
        let FromTls { from_ca, from_cert, from_key, from_insecure } = args;
        let tls = wishes(from_ca.as_ref(), from_cert.as_ref(), from_key.as_ref(), *from_insecure);
        let ssh = Through::typed(via.from_ssh.as_ref(), ssh);
        Self { side: Side::Source, tls, ssh, own: None, at: None }
    }

    pub(crate) fn to(args: &ToTls, via: &ToSsh, ssh: &SshArgs) -> Self {
        let ToTls { to_ca, to_cert, to_key, to_insecure } = args;
        let tls = wishes(to_ca.as_ref(), to_cert.as_ref(), to_key.as_ref(), *to_insecure);
        let ssh = Through::typed(via.to_ssh.as_ref(), ssh);
        Self { side: Side::Target, tls, ssh, own: None, at: None }
    }

    pub(crate) fn pinged(args: &FromTls, via: &FromSsh, ssh: &SshArgs) -> Self {
        Self { side: Side::Pinged, ..Self::from(args, via, ssh) }
    }

    /// The way to a place that a file names. What flags say goes before it.
    pub(crate) fn of_file(&self, url: &Said<String>, access: &Access) -> Result<Self, Refusal> {
        let path =
            |said: &Option<Said<String>>| said.as_ref().map(|said| said.value.clone().into());
        let insecure = access.insecure.as_ref().is_some_and(|said| said.value);
        let [ca, cert, key] = [&access.ca, &access.cert, &access.key].map(path);
        let told = wishes(ca.as_ref(), cert.as_ref(), key.as_ref(), insecure);
        let tls = Tls {
            authorities: self.tls.authorities.clone().or(told.authorities),
            identity: self.tls.identity.clone().or(told.identity),
            insecure: self.tls.insecure || told.insecure && self.tls.authorities.is_none(),
        };
        let ssh = self.ssh.of_file(&access.ssh)?;
        Ok(Self { side: self.side, tls, ssh, own: password(access)?, at: Some(url.at.clone()) })
    }

    /// Flags that nothing would heed are a mistake, and with TLS a grave one.
    pub(crate) fn check_use<'p>(
        &self,
        places: impl IntoIterator<Item = &'p Place>,
    ) -> Result<(), Refusal> {
        let flag = self.side.flag();
        let places: Vec<&Place> = places.into_iter().collect();
        let is_server = |place: &&Place| matches!(place, Place::Server(_));
        if self.ssh.leads() && !places.iter().any(is_server) {
            return refuse(
                format!("{flag}-ssh leads to a server, and no server is given"),
                "leave it out, or give redis://host:port",
            );
        }
        let speaks_tls =
            |place: &Place| matches!(place, Place::Server(server) if server.tls.is_some());
        if self.tls == Tls::default() || places.into_iter().any(speaks_tls) {
            return Ok(());
        }
        let place = match self.side {
            Side::Source | Side::Target => flag,
            Side::Pinged => "URL",
        };
        refuse(
            format!("{flag}-ca, -cert, -key and -insecure are for TLS, and no {place} speaks it"),
            "write rediss:// in place of redis://",
        )
    }

    /// The place that a text names.
    pub(crate) fn place(&self, text: &str) -> Result<Place, Refusal> {
        let at = self.at.as_deref().unwrap_or_else(|| self.side.place());
        let mut place = match Place::parse(text) {
            Ok(place) => place,
            // The text may hold a password that was mistyped into a wrong place.
            Err(_) if text.contains('@') => {
                return refuse(
                    format!("{at}: this is no place that can be reached"),
                    "write redis://user:password@host:port/db, with @ : / and % in a password as %40 %3A %2F %25",
                );
            }
            Err(error) => return refuse(format!("{at}: {error}"), advice(&error)),
        };
        let Place::Server(server) = &mut place else { return Ok(place) };
        let told = server.credentials.as_ref().is_some_and(|told| !told.password.is_empty());
        if let Some(own) = self.own.as_ref().filter(|_| told) {
            return refuse(
                format!("{}: the url has a password too", own.at),
                "write it in one place, best not in the url",
            );
        }
        if let (Side::Target, true) = (self.side, server.is_found()) {
            return refuse(
                format!("{at}: the target is one server, which is given by its own address"),
                "give the master itself: redis://host:port",
            );
        }
        if let Address::Watched(watched) = &mut server.address {
            watched.credentials = sentinel_credentials();
        }
        if let Some(password) = self.password().filter(|_| !told) {
            let user = server.credentials.take().and_then(|credentials| credentials.user);
            server.credentials = Some(Credentials { user, password });
        }
        if let Some(tls) = &mut server.tls {
            *tls = self.tls.clone();
        }
        server.via = self.ssh.via()?.map(Box::new);
        if let (Some(Via::Program(_)), Address::Unix(path)) =
            (server.via.as_deref(), &server.address)
        {
            return refuse(
                format!(
                    "{at}: the socket {} is on the ssh host, and a program of --ssh-command connects to a host and a port only",
                    path.display()
                ),
                "let the server listen on a port of that host (redis://localhost:6379), or leave --ssh-command out: the built-in ssh reaches sockets",
            );
        }
        Ok(place)
    }

    fn password(&self) -> Option<String> {
        let own = self.own.as_ref().map(|own| own.value.clone());
        let of_side = || env::var(self.side.password_variable()).ok();
        own.or_else(of_side).filter(|password| !password.is_empty())
    }
}

/// Who we are to Sentinels.
fn sentinel_credentials() -> Option<Credentials> {
    let told = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let password = told("UNDERSTUDY_SENTINEL_PASSWORD")?;
    Some(Credentials { user: told("UNDERSTUDY_SENTINEL_USER"), password })
}

/// What is said of ssh hosts is a mistake where none leads to any place.
pub(crate) fn check_ssh<'p>(
    ssh: &SshArgs,
    places: impl IntoIterator<Item = &'p Place>,
) -> Result<(), Refusal> {
    let SshArgs { ssh_key, ssh_known_hosts, ssh_jump, ssh_command } = ssh;
    let places: Vec<&Place> = places.into_iter().collect();
    let is_for_keys = ssh_key.is_some() || ssh_known_hosts.is_some() || ssh_jump.is_some();
    if is_for_keys && !places.iter().any(|place| place.is_behind_ssh()) {
        return refuse(
            "--ssh-key, --ssh-known-hosts and --ssh-jump are for ssh hosts, and none is given"
                .to_owned(),
            "give --from-ssh or --to-ssh user@host",
        );
    }
    if ssh_command.is_some() && !places.iter().any(|place| place.via().is_some()) {
        return refuse(
            "--ssh-command leads to an ssh host, and none is given".to_owned(),
            "give --from-ssh or --to-ssh host: it says which side is reached through the program, and what the host is called",
        );
    }
    Ok(())
}

/// The password that a place of a file has for itself.
fn password(access: &Access) -> Result<Option<Said<String>>, Refusal> {
    let said = |value: String, at: &str| Ok(Some(Said { value, at: at.to_owned() }));
    match (&access.password_env, &access.password_file) {
        (Some(_), Some(file)) => refuse(
            format!("{}: there is password_env too", file.at),
            "tell the password in one way",
        ),
        (Some(name), None) => match env::var(&name.value) {
            Ok(password) if !password.is_empty() => said(password, &name.at),
            _ => refuse(
                format!("{}: the variable {} is not set", name.at, name.value),
                "export it in the shell that starts this",
            ),
        },
        (None, Some(file)) => said(secret(file)?, &file.at),
        (None, None) => Ok(None),
    }
}

/// What stands in a file that nobody else may read.
fn secret(file: &Said<String>) -> Result<String, Refusal> {
    let Said { value: path, at } = file;
    let unread = |error| Refusal {
        what: format!("{at}: cannot read {path}: {error}"),
        mend: "give the path of a file that this user may read, with the password in it".into(),
    };
    let mode = fs::metadata(Path::new(path)).map_err(unread)?.permissions().mode();
    if mode & 0o077 != 0 {
        return refuse(
            format!("{at}: others can read {path} (mode {:03o})", mode & 0o777),
            format!("chmod 600 {path}"),
        );
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() || text.lines().count() > 1 {
        return refuse(
            format!("{at}: {path} is not one line with a password"),
            "write the password there, and nothing else",
        );
    }
    Ok(password.to_owned())
}

fn wishes(
    authorities: Option<&PathBuf>,
    certificate: Option<&PathBuf>,
    key: Option<&PathBuf>,
    insecure: bool,
) -> Tls {
    let pair = certificate.cloned().zip(key.cloned());
    let identity = pair.map(|(certificate, key)| Identity { certificate, key });
    Tls { authorities: authorities.cloned(), identity, insecure }
}

fn advice(error: &PlaceError) -> Cow<'static, str> {
    let advice = match error {
        PlaceError::Unknown(text) => match listen(text.split('/').next().unwrap_or_default()) {
            Ok(_) => return format!("write redis://{text}, or rediss://{text} for TLS").into(),
            Err(_) => {
                "write redis://[[user]:password@]host[:port][/db] for a server, rediss:// for TLS, unix:/path for a socket, or a path that ends in .rdb or .bin"
            }
        },
        PlaceError::Port(_) => "a port is a number from 1 to 65535: redis://host:6379",
        PlaceError::Db(_) => "a database is a number behind the last slash: redis://host:6379/3",
        PlaceError::Host => "write redis://host:port",
        PlaceError::Master => {
            "write redis-sentinel://host:26379,host:26379/NAME, with the name of `sentinel monitor NAME`"
        }
        PlaceError::Percent => "write @ : / and % in a user or a password as %40 %3A %2F %25",
        PlaceError::ClusterDb(_) => "leave it out: redis-cluster://host:port,host:port",
        _ => "",
    };
    advice.into()
}
