//! What a server is, and what follows from it.

use std::fmt;

/// The family a server belongs to. After RDB object type 21 they part ways: one byte, two meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Redis, and forks that kept its version numbers.
    Redis,
    /// Valkey.
    Valkey,
    /// Redict.
    Redict,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Redict => "Redict",
        })
    }
}

/// A release: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Reads `7.0.15`; missing parts are zero, and what follows the numbers (`-rc1`) is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
            digits.parse::<u16>().ok()
        });
        let major = parts.next()??;
        let mut rest = || parts.next().flatten().unwrap_or(0);
        Some(Self(major, rest(), rest()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A server's family and release, from its `INFO server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its family.
    pub flavour: Flavour,
    /// Its release, in its own family's numbers (Valkey's `valkey_version`, not the Redis version it imitates).
    pub version: Version,
}

impl Server {
    /// Reads a name such as `redis-6.2`, `valkey-9.1.2` or `redict-7.3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (flavour, version) = text.split_once('-')?;
        let flavour = match flavour {
            "redis" => Flavour::Redis,
            "valkey" => Flavour::Valkey,
            "redict" => Flavour::Redict,
            _ => return None,
        };
        Version::parse(version).map(|version| Self { flavour, version })
    }

    /// Reads the text that `INFO server` answers. `None` if it names no version.
    #[must_use]
    pub fn from_info(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let own = |flavour, text: Option<&str>| {
            text.and_then(Version::parse).map(|version| Self { flavour, version })
        };
        own(Flavour::Valkey, field("valkey_version"))
            .or_else(|| own(Flavour::Redict, field("redict_version")))
            .or_else(|| own(Flavour::Redis, field("redis_version")))
    }

    /// The Redis release whose commands this server has.
    #[must_use]
    pub const fn as_redis(&self) -> Version {
        match self.flavour {
            Flavour::Redis => self.version,
            // Both forked from 7.2 and kept its commands; what Valkey added since is asked for by name.
            Flavour::Valkey | Flavour::Redict => Version(7, 2, 4),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavour, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_from_its_info() {
        let redis = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(
            Server::from_info(redis),
            Some(Server { flavour: Flavour::Redis, version: Version(7, 0, 15) })
        );
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n";
        assert_eq!(Server::from_info(valkey).unwrap().to_string(), "Valkey 9.1.2");
        assert_eq!(Server::from_info("role:master"), None);
    }

    #[test]
    fn a_server_is_read_from_its_name() {
        assert_eq!(Server::parse("redis-6.2").unwrap().to_string(), "Redis 6.2.0");
        assert_eq!(Server::parse("valkey-9.1.2").unwrap().to_string(), "Valkey 9.1.2");
        for bad in ["redis", "6.2", "redis-", "redis-x", "keydb-6.3"] {
            assert_eq!(Server::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn versions_are_ordered_and_read_with_suffixes() {
        assert_eq!(Version::parse("8.0-rc1"), Some(Version(8, 0, 0)));
        assert!(Version(2, 8, 17) < Version(2, 10, 0));
        assert_eq!(Version::parse("next"), None);
    }
}
