//! Where a source or a target is.

use std::fmt;
use std::path::PathBuf;

use crate::key::Db;
use crate::repl::Credentials;

use super::{Cluster, Shard, Tls, Via, Watched};

/// A source or a target, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A server that is reached through a socket.
    Server(ServerPlace),
    /// An RDB file.
    Rdb(PathBuf),
    /// A capture of a replication stream: a `.bin` file with a `.json` sidecar beside it.
    Capture(PathBuf),
}

/// A server, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlace {
    /// Where it listens.
    pub address: Address,
    /// What it is reached through, on whose side the address is looked up.
    pub via: Option<Box<Via>>,
    /// How TLS is spoken; `None` for a server that is spoken to in plain.
    pub tls: Option<Tls>,
    /// Who we are; from the URL, or later from the environment.
    pub credentials: Option<Credentials>,
    /// The one database that is meant; without it a source means all.
    pub db: Option<Db>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        /// The port; 6379 unless told.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
    /// Wherever Sentinels say that it is.
    Watched(Box<Watched>),
    /// Wherever the nodes of a cluster say that it is.
    Cluster(Box<Cluster>),
}

/// Why a text names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The scheme is none of ours.
    #[error("{0:?} is no place")]
    Unknown(String),
    /// The port is no number below 65536.
    #[error("{0:?} is no port")]
    Port(String),
    /// The database is no number.
    #[error("{0:?} is no database number")]
    Db(String),
    /// There is no host.
    #[error("the URL names no host")]
    Host,
    /// Sentinels, and no name of a master.
    #[error("the URL does not name the master that the Sentinels watch")]
    Master,
    /// A percent sign that begins no `%XX`.
    #[error("a percent sign in a user, a password or a master's name must be written %25")]
    Percent,
    /// A cluster has one database.
    #[error("a cluster has database 0 only, and not {0}")]
    ClusterDb(String),
}

impl Place {
    /// Reads a place. The credentials of a URL may be percent-encoded.
    ///
    /// # Errors
    /// If the text is no place, or one that this version cannot reach.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => match text.split_once(':') {
                Some((scheme, path)) if scheme.eq_ignore_ascii_case("unix") => (scheme, path),
                _ => return Self::file(text),
            },
        };
        match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => Self::tcp(rest, None),
            "rediss" | "valkeys" => Self::tcp(rest, Some(Tls::default())),
            "unix" | "redis+unix" | "valkey+unix" => Self::unix(rest),
            "redis-cluster" | "valkey-cluster" => Self::cluster(rest, None),
            "rediss-cluster" | "valkeys-cluster" => Self::cluster(rest, Some(Tls::default())),
            "redis-sentinel" | "valkey-sentinel" => Self::watched(rest, None),
            "rediss-sentinel" | "valkeys-sentinel" => Self::watched(rest, Some(Tls::default())),
            _ => Err(PlaceError::Unknown(text.to_owned())),
        }
    }

    /// What leads to it, if it is a server that is not reached from here.
    #[must_use]
    pub fn via(&self) -> Option<&Via> {
        match self {
            Self::Server(server) => server.via.as_deref(),
            Self::Rdb(_) | Self::Capture(_) => None,
        }
    }

    /// Whether it is a server behind an ssh host that we log in to ourselves.
    #[must_use]
    pub fn is_behind_ssh(&self) -> bool {
        matches!(self.via(), Some(Via::Ssh(_)))
    }

    /// Whether it is found by asking others where it is.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        matches!(self, Self::Server(server) if server.is_found())
    }

    fn file(text: &str) -> Result<Self, PlaceError> {
        let path = PathBuf::from(text);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("rdb") => Ok(Self::Rdb(path)),
            Some("bin") => Ok(Self::Capture(path)),
            _ => Err(PlaceError::Unknown(text.to_owned())),
        }
    }

    fn tcp(rest: &str, tls: Option<Tls>) -> Result<Self, PlaceError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host_port) = login(authority);
        Ok(Self::Server(ServerPlace {
            address: tcp(address(host_port, 6379)?),
            via: None,
            tls,
            credentials: login.map(credentials).transpose()?.flatten(),
            db: database(path)?,
        }))
    }

    fn watched(rest: &str, tls: Option<Tls>) -> Result<Self, PlaceError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = login(authority);
        let (name, db) = path.split_once('/').unwrap_or((path, ""));
        let sentinels = addresses(hosts, 26379)?;
        let name = decoded(name)?;
        if name.is_empty() {
            return Err(PlaceError::Master);
        }
        let watched = Watched { sentinels, name, credentials: None };
        Ok(Self::Server(ServerPlace {
            address: Address::Watched(Box::new(watched)),
            via: None,
            tls,
            credentials: login.map(credentials).transpose()?.flatten(),
            db: database(db)?,
        }))
    }

    fn cluster(rest: &str, tls: Option<Tls>) -> Result<Self, PlaceError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = login(authority);
        let cluster = Cluster::of(addresses(hosts, 6379)?);
        // There is no other.
        if database(path)?.is_some_and(|db| db != Db::default()) {
            return Err(PlaceError::ClusterDb(path.to_owned()));
        }
        Ok(Self::Server(ServerPlace {
            address: Address::Cluster(Box::new(cluster)),
            via: None,
            tls,
            credentials: login.map(credentials).transpose()?.flatten(),
            db: None,
        }))
    }

    fn unix(rest: &str) -> Result<Self, PlaceError> {
        let (path, db) = rest.split_once("?db=").map_or((rest, ""), |(path, db)| (path, db));
        let path = path.trim_start_matches("//");
        if path.is_empty() {
            return Err(PlaceError::Host);
        }
        Ok(Self::Server(ServerPlace {
            address: Address::Unix(PathBuf::from(path)),
            via: None,
            tls: None,
            credentials: None,
            db: database(db)?,
        }))
    }
}

impl ServerPlace {
    /// Whether it is found by asking others where it is: at one time this server plays it and at another time that one.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        matches!(self.address, Address::Watched(_) | Address::Cluster(_))
    }

    /// What one master of a cluster has, if it is that.
    #[must_use]
    pub fn shard(&self) -> Option<(&Cluster, &Shard)> {
        match &self.address {
            Address::Cluster(cluster) => Some((cluster, cluster.shard.as_ref()?)),
            _ => None,
        }
    }
}

/// Who we are, and what stands behind it. A password may hold an @; a host cannot.
fn login(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    }
}

/// Reads `host[:port][,host[:port]]`.
fn addresses(hosts: &str, usual: u16) -> Result<Vec<(String, u16)>, PlaceError> {
    hosts.split(',').map(|host_port| address(host_port, usual)).collect()
}

/// Reads `host[:port]`.
fn address(host_port: &str, usual: u16) -> Result<(String, u16), PlaceError> {
    let (host, port) = match host_port.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => match host_port.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        },
    };
    if host.is_empty() {
        return Err(PlaceError::Host);
    }
    let port = match port {
        None | Some("") => usual,
        Some(digits) => digits.parse().map_err(|_| PlaceError::Port(digits.to_owned()))?,
    };
    Ok((host.to_owned(), port))
}

fn tcp((host, port): (String, u16)) -> Address {
    Address::Tcp { host, port }
}

fn credentials(login: &str) -> Result<Option<Credentials>, PlaceError> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let user = decoded(user)?;
    let password = decoded(password)?;
    Ok(match (user.is_empty(), password.is_empty()) {
        (_, true) if user.is_empty() => None,
        (empty, _) => Some(Credentials { user: (!empty).then_some(user), password }),
    })
}

fn database(text: &str) -> Result<Option<Db>, PlaceError> {
    let text = text.trim_end_matches('/');
    if text.is_empty() {
        return Ok(None);
    }
    Db::parse(text.as_bytes()).map(Some).ok_or_else(|| PlaceError::Db(text.to_owned()))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, PlaceError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            rest.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok())
        };
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(PlaceError::Percent) };
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| PlaceError::Percent)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Watched(watched) => watched.fmt(f),
            Self::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

/// What a place is called in messages and reports: never with its secrets.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => server.fmt(f),
            Self::Rdb(path) | Self::Capture(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.db {
            Some(db) => write!(f, "{}/{db}", self.address)?,
            None => self.address.fmt(f)?,
        }
        // Behind another host the same address is another server.
        self.via.as_ref().map_or(Ok(()), |via| write!(f, " via {via}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerPlace {
        match Place::parse(text).unwrap() {
            Place::Server(server) => server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn urls_of_servers() {
        let plain = server("redis://10.0.0.7");
        assert_eq!(plain.address, Address::Tcp { host: "10.0.0.7".into(), port: 6379 });
        assert_eq!((plain.db, plain.credentials, plain.tls), (None, None, None));

        let full = server("rediss://app:p%40s%3As@h.example:7001/3");
        assert_eq!(
            full.credentials,
            Some(Credentials { user: Some("app".into()), password: "p@s:s".into() })
        );
        assert_eq!((full.db, &full.tls), (Some(Db::new(3)), &Some(Tls::default())));
        assert_eq!(full.to_string(), "h.example:7001/3");

        let old = server("redis://:secret@[::1]:6380");
        assert_eq!(old.credentials, Some(Credentials { user: None, password: "secret".into() }));
        assert_eq!(old.to_string(), "[::1]:6380");
        assert_eq!(server("valkey://:a@b@host").credentials.unwrap().password, "a@b");
        assert_eq!(server("REDISS://Host/1").tls, Some(Tls::default()));
        assert_eq!(server("Unix:/run/redis.sock"), server("unix:/run/redis.sock"));
        assert_eq!(server("unix:/run/redis.sock").address, Address::Unix("/run/redis.sock".into()));
    }

    #[test]
    fn masters_that_sentinels_watch() {
        let place = server("redis-sentinel://app:p%40s@s2:26380,[::1],s1/my%2Fmaster/3");
        let Address::Watched(watched) = &place.address else { panic!("{place:?}") };
        let sentinels: Vec<String> = watched.addresses().map(|one| one.to_string()).collect();
        assert_eq!(sentinels, ["s2:26380", "[::1]:26379", "s1:26379"]);
        assert_eq!((watched.name.as_str(), place.db), ("my/master", Some(Db::new(3))));
        // It is for the master.
        assert_eq!(place.credentials.as_ref().unwrap().password, "p@s");
        assert_eq!(watched.credentials, None);
        assert_eq!(place.to_string(), "[::1]:26379,s1:26379,s2:26380/my/master/3");
        // In which order they are asked makes it no other.
        let (one, other) = (server("redis-sentinel://a,b/m"), server("valkey-sentinel://b,a/m"));
        assert_eq!(one.to_string(), other.to_string());
        assert_eq!(server("rediss-sentinel://a/m").tls, Some(Tls::default()));
        let error = |text: &str| Place::parse(text).unwrap_err();
        assert_eq!(error("redis-sentinel://a:1,b:2"), PlaceError::Master);
        assert_eq!(error("redis-sentinel://a:1,b:2//3"), PlaceError::Master);
        assert_eq!(error("redis-sentinel://a:1,,b/m"), PlaceError::Host);
        assert_eq!(error("redis-sentinel://a:x/m"), PlaceError::Port("x".into()));
        assert_eq!(error("redis-sentinel://a/m/x"), PlaceError::Db("x".into()));
    }

    #[test]
    fn clusters_and_their_parts() {
        let place = server("redis-cluster://:pw@b:7001,a,[::1]:7000/0");
        assert_eq!(place.to_string(), "[::1]:7000,a:6379,b:7001");
        assert_eq!((place.db, place.credentials.unwrap().password.as_str()), (None, "pw"));
        let Address::Cluster(mut cluster) = place.address else { panic!("{:?}", place.address) };
        assert_eq!(cluster.nodes, [("b".into(), 7001), ("a".into(), 6379), ("::1".into(), 7000)]);
        let slots = (0..5461).collect();
        cluster.shard = Some(Shard { slots, ids: Vec::new(), at: ("c".into(), 1) });
        assert_eq!(cluster.to_string(), "[::1]:7000,a:6379,b:7001[0-5460]");
        assert_eq!(server("valkeys-cluster://a").tls, Some(Tls::default()));
    }

    #[test]
    fn paths_are_told_by_their_endings() {
        assert_eq!(Place::parse("a/dump.rdb"), Ok(Place::Rdb("a/dump.rdb".into())));
        assert_eq!(Place::parse("live.bin"), Ok(Place::Capture("live.bin".into())));
    }

    #[test]
    fn what_is_no_place_is_said() {
        assert!(matches!(Place::parse("localhost:6379"), Err(PlaceError::Unknown(_))));
        assert!(matches!(Place::parse("http://host"), Err(PlaceError::Unknown(_))));
        assert_eq!(Place::parse("redis://host:99999"), Err(PlaceError::Port("99999".into())));
        assert_eq!(Place::parse("redis://host/x"), Err(PlaceError::Db("x".into())));
        assert_eq!(Place::parse("redis://:6379"), Err(PlaceError::Host));
        assert_eq!(Place::parse("redis://:%zz@host"), Err(PlaceError::Percent));
        let error = Place::parse("redis-cluster://a:1,b:2/3").unwrap_err();
        assert_eq!(error, PlaceError::ClusterDb("3".into()));
    }
}
