//! The byte that stands before everything: an opcode, or the type of the object that follows.
//!
//! Up to object type 21 and down to opcode 244 it means the same to everyone. Between them Redis and Valkey
//! each gave the same numbers to different things, so a byte is read by the file's [`Format`] only.

use crate::rdb::error::RdbErrorKind;
use crate::rdb::format::Family;
use crate::rdb::format::Format;

/// What the byte announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Something that is not a key.
    Opcode(Opcode),
    /// A key, then a value of this type.
    Object(ObjectType),
}

impl Tag {
    /// Reads the byte as this format means it.
    ///
    /// # Errors
    /// [`RdbErrorKind::UnknownOpcode`], [`RdbErrorKind::EnterpriseOpcode`],
    /// [`RdbErrorKind::PreReleaseModule`] or [`RdbErrorKind::PreReleaseFunction`].
    #[inline]
    pub fn decode(byte: u8, format: Format) -> Result<Self, RdbErrorKind> {
        if let Some(object) = ObjectType::decode(byte, format.family) {
            return Ok(Self::Object(object));
        }
        Opcode::decode(byte, format).map(Self::Opcode)
    }
}

/// An opcode of the file's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// 243, Redis 8.6: what modules keep about the next key.
    KeyMeta,
    /// 243, Valkey 9: a slot import under way.
    SlotImport,
    /// 244: a cluster slot and its sizes, three lengths.
    SlotInfo,
    /// 245: a library of functions.
    Function,
    /// 247: a module's data that belongs to no key.
    ModuleAux,
    /// 248: seconds since the next key was used.
    Idle,
    /// 249: how often the next key was used, the logarithmic counter.
    Freq,
    /// 250: a name and a value about the file.
    Aux,
    /// 251: how many keys the database has, and how many with a deadline.
    ResizeDb,
    /// 252: the next key's deadline in milliseconds.
    ExpireMs,
    /// 253: the next key's deadline in seconds.
    ExpireSeconds,
    /// 254: the database of what follows.
    SelectDb,
    /// 255: the end; from RDB 5 on the checksum follows.
    End,
}

impl Opcode {
    /// The byte that stands for it, in the family that has it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::KeyMeta | Self::SlotImport => 243,
            Self::SlotInfo => 244,
            Self::Function => 245,
            Self::ModuleAux => 247,
            Self::Idle => 248,
            Self::Freq => 249,
            Self::Aux => 250,
            Self::ResizeDb => 251,
            Self::ExpireMs => 252,
            Self::ExpireSeconds => 253,
            Self::SelectDb => 254,
            Self::End => 255,
        }
    }

    fn decode(byte: u8, format: Format) -> Result<Self, RdbErrorKind> {
        Ok(match (byte, format.family) {
            (243, Family::Redis) => Self::KeyMeta,
            (243, Family::Valkey) => Self::SlotImport,
            (244, _) => Self::SlotInfo,
            (245, _) => Self::Function,
            (247, _) => Self::ModuleAux,
            (248, _) => Self::Idle,
            (249, _) => Self::Freq,
            (250, _) => Self::Aux,
            (251, _) => Self::ResizeDb,
            (252, _) => Self::ExpireMs,
            (253, _) => Self::ExpireSeconds,
            (254, _) => Self::SelectDb,
            (255, _) => Self::End,
            (6, _) => return Err(RdbErrorKind::PreReleaseModule),
            (246, _) => return Err(RdbErrorKind::PreReleaseFunction),
            // From librdb's table of what Redis Enterprise adds.
            (100..=102 | 107 | 121, Family::Redis) => {
                return Err(RdbErrorKind::EnterpriseOpcode(byte));
            }
            _ => return Err(RdbErrorKind::UnknownOpcode { byte, format }),
        })
    }
}

/// What a key holds, as commands see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueType {
    /// A string.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    Zset,
    /// A hash.
    Hash,
    /// A stream.
    Stream,
    /// A module's own type.
    Module,
}

impl ValueType {
    /// The name that `TYPE` answers; `module` for every module's type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
        }
    }
}

/// Declares every object type in one table: its byte, family, value type, encoding and first version.
macro_rules! object_types {
    ($($(#[$doc:meta])+ $name:ident = $byte:literal $family:ident $value:ident $encoding:literal since $since:literal;)+) => {
        /// The type of an object in the file: what the value is and how it is written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ObjectType {
            $($(#[$doc])+ $name,)+
        }

        impl ObjectType {
            /// Every type, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The byte that stands for it, in its own family.
            #[must_use]
            pub const fn byte(self) -> u8 {
                match self { $(Self::$name => $byte,)+ }
            }

            /// What a key of this type holds.
            #[must_use]
            pub const fn value_type(self) -> ValueType {
                match self { $(Self::$name => ValueType::$value,)+ }
            }

            /// How the value is written, in a word.
            #[must_use]
            pub const fn encoding(self) -> &'static str {
                match self { $(Self::$name => $encoding,)+ }
            }

            /// The lowest version of the format, in its own family, whose readers know this type.
            #[must_use]
            pub const fn since(self) -> u16 {
                match self { $(Self::$name => $since,)+ }
            }

            /// The family that alone gives the byte this meaning; `None` if both do.
            #[must_use]
            pub const fn family(self) -> Option<Family> {
                match self { $(Self::$name => object_types!(@family $family),)+ }
            }
        }
    };
    (@family both) => { None };
    (@family redis) => { Some(Family::Redis) };
    (@family valkey) => { Some(Family::Valkey) };
}

object_types! {
    /// A string.
    String = 0 both String "string" since 1;
    /// A list: its elements.
    List = 1 both List "linkedlist" since 1;
    /// A set: its members.
    Set = 2 both Set "hashtable" since 1;
    /// A sorted set: members, and scores as text.
    Zset = 3 both Zset "skiplist" since 1;
    /// A hash: fields and values.
    Hash = 4 both Hash "hashtable" since 1;
    /// A sorted set: members, and scores as eight bytes.
    Zset2 = 5 both Zset "skiplist" since 8;
    /// A module's value, walkable without the module.
    Module2 = 7 both Module "module" since 8;
    /// A hash in a zipmap (2.4 and before).
    HashZipmap = 9 both Hash "zipmap" since 1;
    /// A list in one ziplist (to 3.0).
    ListZiplist = 10 both List "ziplist" since 1;
    /// A set of integers in an intset.
    SetIntset = 11 both Set "intset" since 1;
    /// A sorted set in a ziplist (to 6.2).
    ZsetZiplist = 12 both Zset "ziplist" since 2;
    /// A hash in a ziplist (2.6 to 6.2).
    HashZiplist = 13 both Hash "ziplist" since 4;
    /// A list of ziplists (3.2 to 6.2).
    ListQuicklist = 14 both List "quicklist" since 7;
    /// A stream (5.0 to 6.2).
    StreamListpacks = 15 both Stream "stream" since 9;
    /// A hash in a listpack (7.0 on).
    HashListpack = 16 both Hash "listpack" since 10;
    /// A sorted set in a listpack (7.0 on).
    ZsetListpack = 17 both Zset "listpack" since 10;
    /// A list of listpacks and single large elements (7.0 on).
    ListQuicklist2 = 18 both List "quicklist2" since 10;
    /// A stream that counts what was added and deleted (7.0).
    StreamListpacks2 = 19 both Stream "stream2" since 10;
    /// A set in a listpack (7.2 on).
    SetListpack = 20 both Set "listpack" since 11;
    /// A stream whose consumers know when they were last active (7.2 on).
    StreamListpacks3 = 21 both Stream "stream3" since 11;
    /// A hash with deadlines of fields, as 7.4's release candidates wrote it.
    HashMetadataPreRelease = 22 redis Hash "metadata-rc" since 12;
    /// The same in a listpack.
    HashListpackExPreRelease = 23 redis Hash "listpackex-rc" since 12;
    /// A hash with deadlines of fields (7.4 on).
    HashMetadata = 24 redis Hash "metadata" since 12;
    /// The same in a listpack.
    HashListpackEx = 25 redis Hash "listpackex" since 12;
    /// A stream that recognises what a producer sends twice (8.6 on).
    StreamListpacks4 = 26 redis Stream "stream4" since 13;
    /// A stream with entries that a consumer gave back (8.8 on).
    StreamListpacks5 = 27 redis Stream "stream5" since 14;
    /// A hash with deadlines of fields (Valkey 9 on).
    Hash2 = 22 valkey Hash "hashtable2" since 80;
}

impl ObjectType {
    /// The type that this byte stands for in files and payloads of the family; `None` if it is none.
    #[inline]
    #[must_use]
    pub const fn decode(byte: u8, family: Family) -> Option<Self> {
        Some(match byte {
            0 => Self::String,
            1 => Self::List,
            2 => Self::Set,
            3 => Self::Zset,
            4 => Self::Hash,
            5 => Self::Zset2,
            7 => Self::Module2,
            9 => Self::HashZipmap,
            10 => Self::ListZiplist,
            11 => Self::SetIntset,
            12 => Self::ZsetZiplist,
            13 => Self::HashZiplist,
            14 => Self::ListQuicklist,
            15 => Self::StreamListpacks,
            16 => Self::HashListpack,
            17 => Self::ZsetListpack,
            18 => Self::ListQuicklist2,
            19 => Self::StreamListpacks2,
            20 => Self::SetListpack,
            21 => Self::StreamListpacks3,
            22 => match family {
                Family::Redis => Self::HashMetadataPreRelease,
                Family::Valkey => Self::Hash2,
            },
            23 if matches!(family, Family::Redis) => Self::HashListpackExPreRelease,
            24 if matches!(family, Family::Redis) => Self::HashMetadata,
            25 if matches!(family, Family::Redis) => Self::HashListpackEx,
            26 if matches!(family, Family::Redis) => Self::StreamListpacks4,
            27 if matches!(family, Family::Redis) => Self::StreamListpacks5,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_from_its_own_byte() {
        for &object in ObjectType::ALL {
            for family in [Family::Redis, Family::Valkey] {
                let read = ObjectType::decode(object.byte(), family);
                let its_own = object.family().is_none_or(|own| own == family);
                assert_eq!(read == Some(object), its_own, "{object:?} in {family}");
            }
        }
    }

    #[test]
    fn every_opcode_is_read_from_its_own_byte() {
        for format in Format::NEWEST {
            for byte in 0..=255 {
                if let Ok(Tag::Opcode(opcode)) = Tag::decode(byte, format) {
                    assert_eq!(opcode.byte(), byte, "{opcode:?}");
                }
            }
        }
    }

    #[test]
    fn one_byte_has_two_meanings() {
        let redis = Format { family: Family::Redis, version: 12 };
        let valkey = Format { family: Family::Valkey, version: 80 };
        let object = |byte, format| match Tag::decode(byte, format) {
            Ok(Tag::Object(object)) => Some(object),
            _ => None,
        };
        assert_eq!(object(22, redis), Some(ObjectType::HashMetadataPreRelease));
        assert_eq!(object(22, valkey), Some(ObjectType::Hash2));
        assert_eq!(object(24, valkey), None);
        assert_eq!(Tag::decode(243, valkey), Ok(Tag::Opcode(Opcode::SlotImport)));
        assert_eq!(Tag::decode(243, redis), Ok(Tag::Opcode(Opcode::KeyMeta)));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let redis = Format { family: Family::Redis, version: 9 };
        assert_eq!(Tag::decode(6, redis), Err(RdbErrorKind::PreReleaseModule));
        assert_eq!(Tag::decode(246, redis), Err(RdbErrorKind::PreReleaseFunction));
        assert_eq!(Tag::decode(107, redis), Err(RdbErrorKind::EnterpriseOpcode(107)));
        assert!(matches!(Tag::decode(8, redis), Err(RdbErrorKind::UnknownOpcode { .. })));
    }

    #[test]
    fn all_256_bytes_are_decided_in_both_families() {
        for format in Format::NEWEST {
            let known = (0..=255).filter(|&byte| Tag::decode(byte, format).is_ok()).count();
            let expected = match format.family {
                Family::Redis => 26 + 12,
                Family::Valkey => 21 + 12,
            };
            assert_eq!(known, expected, "{format}");
        }
    }
}
