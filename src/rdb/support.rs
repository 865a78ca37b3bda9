//! Which server reads what: the version of its files, the object types it knows, the payloads `RESTORE` takes.

use std::fmt;

use crate::rdb::event::ModuleId;
use crate::rdb::format::Family;
use crate::rdb::format::Format;
use crate::rdb::opcode::ObjectType;
use crate::server::Flavour;
use crate::server::Server;
use crate::server::Version;

impl Server {
    /// The newest version of the format that this server reads and this crate writes.
    ///
    /// A server reads all older versions of its family too; Valkey from 9 on reads Redis's up to 11. What comes
    /// after [`Format::NEWEST`] is not written by this crate, so a newer server counts as the newest known.
    #[must_use]
    pub fn rdb_format(&self) -> Format {
        if self.flavour == Flavour::Valkey && self.version >= VALKEY.1 {
            return Format { family: Family::Valkey, version: VALKEY.0 };
        }
        let version = match self.flavour {
            // Redict numbers its files as Redis 7.4 does, and has none of what 7.4 brought.
            Flavour::Redict => Version(7, 4, 0),
            Flavour::Redis | Flavour::Valkey => self.as_redis(),
        };
        let mut known = REDIS.iter().rev();
        let version = known.find(|(_, since)| *since <= version).map_or(1, |(format, _)| *format);
        Format { family: Family::Redis, version: version.min(WRITTEN) }
    }

    /// Whether this server reads a value written as this object type, from a file or a payload.
    ///
    /// For a module's value this says that it knows the type, not that it has the module.
    #[must_use]
    pub fn reads(&self, object: ObjectType) -> bool {
        let format = self.rdb_format();
        match object.family() {
            None => format.family == Family::Valkey || object.since() <= format.version,
            Some(family) => {
                family == format.family
                    && object.since() <= format.version
                    && self.flavour != Flavour::Redict
            }
        }
    }

    /// Whether this server has a module's type built in. `None` if that is the module's matter.
    #[must_use]
    pub fn has_built_in(&self, module: ModuleId) -> Option<bool> {
        let is_vector_set = module.to_string() == "vectorset";
        is_vector_set.then(|| self.has_vector_sets())
    }

    /// Whether this server has vector sets.
    #[must_use]
    pub fn has_vector_sets(&self) -> bool {
        self.flavour == Flavour::Redis && self.version >= Version(8, 0, 0)
    }

    /// Whether this server has deadlines of single hash fields.
    #[must_use]
    pub fn has_field_deadlines(&self) -> bool {
        self.reads(match self.flavour {
            Flavour::Valkey => ObjectType::Hash2,
            Flavour::Redis | Flavour::Redict => ObjectType::HashMetadata,
        })
    }

    /// The version that the footer of a payload of this type must carry for this server's `RESTORE`; `None` if
    /// the server does not read the type, or has no `RESTORE` (before 2.6).
    ///
    /// It is the lowest that will do: 2.6 to 3.0 take 6 and nothing else, later servers take what is not above
    /// their own, and it gates nothing more (redis `cluster.c`, `verifyDumpPayload`).
    #[must_use]
    pub fn restore_version(&self, object: ObjectType) -> Option<u16> {
        (self.rdb_format().version >= FIRST_DUMP && self.reads(object))
            .then(|| object.since().max(FIRST_DUMP))
    }
}

impl Format {
    /// The first release that wrote this version; one from which this crate knows nothing newer for what came after
    /// [`NEWEST`](Self::NEWEST).
    #[must_use]
    pub fn first_server(self) -> Server {
        let mut known = REDIS.iter().rev();
        let (flavour, version) = match self.family {
            Family::Valkey => (Flavour::Valkey, VALKEY.1),
            Family::Redis => {
                let first = known.find(|(format, _)| *format <= self.version);
                (Flavour::Redis, first.map_or(Version(2, 2, 0), |(_, since)| *since))
            }
        };
        Server { flavour, version }
    }
}

/// The versions of the format that releases of Redis brought, and which did.
const REDIS: [(u16, Version); 10] = [
    (1, Version(2, 2, 0)),
    (2, Version(2, 4, 0)),
    (6, Version(2, 6, 0)),
    (7, Version(3, 2, 0)),
    (8, Version(4, 0, 0)),
    (9, Version(5, 0, 0)),
    (10, Version(7, 0, 0)),
    (11, Version(7, 2, 0)),
    (12, Version(7, 4, 0)),
    (13, Version(8, 4, 0)),
];

/// The newest of them that this crate writes.
const WRITTEN: u16 = 12;

/// The same of Valkey, which wrote Redis's before.
const VALKEY: (u16, Version) = (80, Version(9, 0, 0));

/// The version of the format when `DUMP` and `RESTORE` came, in Redis 2.6.
const FIRST_DUMP: u16 = 6;

/// Something that not every version of a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Streams: Redis 5.0.
    Streams,
    /// Values of modules: Redis 4.0.
    Modules,
    /// Vector sets, which are stored as a module's values: Redis 8.0.
    VectorSets,
    /// Libraries of functions: Redis 7.0.
    Functions,
    /// Deadlines of single hash fields: Redis 7.4, Valkey 9.
    FieldDeadlines,
    /// `RESTORE`: Redis 2.6.
    Restore,
    /// Files with checksums and deadlines in milliseconds: Redis 2.6.
    Files,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streams => "streams",
            Self::Modules => "values of modules",
            Self::VectorSets => "vector sets",
            Self::Functions => "functions",
            Self::FieldDeadlines => "deadlines of hash fields",
            Self::Restore => "the payload of a RESTORE",
            Self::Files => "RDB files with deadlines in milliseconds",
        })
    }
}

/// A server that is to be written for cannot hold what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{server} cannot hold {what}")]
pub struct Unsupported {
    /// What it cannot hold.
    pub what: Feature,
    /// Which server.
    pub server: Server,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_of_a_version_writes_it() {
        for version in [1, 2, 6, 7, 8, 9, 10, 11, 12] {
            let format = Format { family: Family::Redis, version };
            assert_eq!(format.first_server().rdb_format(), format);
        }
        let valkey = Format { family: Family::Valkey, version: 80 };
        assert_eq!(valkey.first_server().rdb_format(), valkey);
    }

    fn server(name: &str) -> Server {
        let (flavour, version) = name.split_once(' ').unwrap();
        let flavour = match flavour {
            "redis" => Flavour::Redis,
            "valkey" => Flavour::Valkey,
            _ => Flavour::Redict,
        };
        Server { flavour, version: Version::parse(version).unwrap() }
    }

    #[test]
    fn each_release_has_the_format_that_it_was_seen_to_write() {
        for (name, magic) in [
            ("redis 2.4.18", "REDIS0002"),
            ("redis 2.6.17", "REDIS0006"),
            ("redis 2.8.17", "REDIS0006"),
            ("redis 3.0.5", "REDIS0006"),
            ("redis 3.2.6", "REDIS0007"),
            ("redis 4.0.14", "REDIS0008"),
            ("redis 5.0.6", "REDIS0009"),
            ("redis 6.0.16", "REDIS0009"),
            ("redis 6.2.14", "REDIS0009"),
            ("redis 7.0.15", "REDIS0010"),
            ("redis 7.2.5", "REDIS0011"),
            ("redis 7.4.1", "REDIS0012"),
            ("redis 8.0.6", "REDIS0012"),
            ("redict 7.3.6", "REDIS0012"),
            ("valkey 8.0.1", "REDIS0011"),
            ("valkey 8.1.1", "REDIS0011"),
            ("valkey 9.1.2", "VALKEY080"),
        ] {
            assert_eq!(server(name).rdb_format().to_string(), magic, "{name}");
        }
    }

    #[test]
    fn the_types_after_the_parting_of_ways_are_read_by_their_own_family_only() {
        let reads = |name, object| server(name).reads(object);
        assert!(reads("redis 7.4.1", ObjectType::HashMetadata));
        assert!(!reads("redis 7.2.5", ObjectType::HashMetadata));
        assert!(!reads("redict 7.3.6", ObjectType::HashMetadata));
        assert!(!reads("valkey 9.1.2", ObjectType::HashMetadata));
        assert!(reads("valkey 9.1.2", ObjectType::Hash2));
        assert!(!reads("valkey 8.1.1", ObjectType::Hash2));
        assert!(!reads("redis 8.0.6", ObjectType::Hash2));
        for name in ["redict 7.3.6", "valkey 8.0.1", "valkey 9.1.2", "redis 7.2.5"] {
            assert!(reads(name, ObjectType::StreamListpacks3), "{name}");
        }
        assert!(!reads("redis 7.0.15", ObjectType::StreamListpacks3));
    }

    #[test]
    fn a_footer_carries_the_lowest_version_that_is_taken() {
        let version = |name, object| server(name).restore_version(object);
        assert_eq!(version("redis 2.4.18", ObjectType::String), None);
        assert_eq!(version("redis 2.8.17", ObjectType::HashZiplist), Some(6));
        assert_eq!(version("redis 3.0.5", ObjectType::ListQuicklist), None);
        assert_eq!(version("redis 3.2.6", ObjectType::ListQuicklist), Some(7));
        assert_eq!(version("redis 8.0.6", ObjectType::ListQuicklist), Some(7));
        assert_eq!(version("valkey 9.1.2", ObjectType::SetListpack), Some(11));
        assert_eq!(version("valkey 9.1.2", ObjectType::Hash2), Some(80));
        assert_eq!(version("redis 8.0.6", ObjectType::HashListpackEx), Some(12));
    }

    #[test]
    fn a_refusal_names_the_server_and_the_feature() {
        let refusal = Unsupported { what: Feature::FieldDeadlines, server: server("redis 6.2.14") };
        assert_eq!(refusal.to_string(), "Redis 6.2.14 cannot hold deadlines of hash fields");
    }
}
