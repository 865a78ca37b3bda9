//! What of a source is wanted, and where it goes: databases chosen and renumbered, keys by their names and types, other names for them.

mod left_out;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::key::{Db, Escaped};
use crate::rdb::event::ModuleId;
use crate::rdb::opcode::ValueType;

use super::glob::Glob;
use super::names::{Names, Origin};
use super::rename::Expression;
use super::ttl::Ttl;

pub use left_out::LeftOut;

/// The rules of one source. [`Default`] wants everything as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The databases that are wanted; `None` for all.
    only: Option<BTreeSet<Db>>,
    /// Where databases go that do not keep their number.
    map: BTreeMap<Db, Db>,
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    include_by: Vec<Expression>,
    exclude_by: Vec<Expression>,
    types: Option<Types>,
    ttl: Ttl,
    names: Names,
    /// Of what they want, only keys whose names match one of these; none: all.
    narrow: Vec<Glob>,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is wanted.
    Keep,
    /// It is left out.
    Drop(Why),
}

/// Why a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its database is not chosen.
    Db,
    /// Its name is not included, or is excluded.
    Key,
    /// Its type is not chosen.
    Type,
    /// The target held it before, and it stays.
    Conflict,
    /// A flush that is passed over ([`OnFlush::Ignore`]).
    Flush,
}

/// Types that are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    plain: Vec<ValueType>,
    /// Modules' types by name.
    modules: BTreeSet<String>,
}

/// Why rules make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// No database number.
    #[error("{0:?} is no database number")]
    Db(String),
    /// A pair that is none.
    #[error("{0:?} is no pair of databases such as 0:3")]
    Pair(String),
    /// A database that is sent to two places.
    #[error("database {0} is mapped twice")]
    MappedTwice(Db),
    /// Two databases that are sent to one place.
    #[error("{}", two_onto_one(*first, *second, *into))]
    TwoOntoOne {
        /// One of them.
        first: Db,
        /// The other.
        second: Db,
        /// Where both would go.
        into: Db,
    },
    /// A database that is renumbered and not wanted.
    #[error("database {0} is mapped and not chosen")]
    MappedNotChosen(Db),
    /// A prefix of nothing.
    #[error("a prefix of nothing changes no name")]
    NoPrefix,
    /// A prefix under which the tool has its own keys.
    #[error("names that begin with understudy: are the tool's own")]
    OwnPrefix,
    /// No rename.
    #[error("{said}: {why}")]
    Rename {
        /// What was said.
        said: String,
        /// Why it is none.
        why: String,
    },
    /// No expression.
    #[error("{said}: {why}")]
    Expression {
        /// What was said.
        said: String,
        /// Why it is none.
        why: String,
    },
    /// Keys that a rename would make one.
    #[error(
        "keys such as {} and {} would both become {}",
        Escaped(first),
        Escaped(second),
        Escaped(made)
    )]
    OneName {
        /// One of them.
        first: Vec<u8>,
        /// The other.
        second: Vec<u8>,
        /// What both would be called.
        made: Vec<u8>,
    },
    /// No type.
    #[error("{0:?} is no type: use string, list, set, zset, hash, stream, module or module:<name>")]
    Type(String),
    /// A time that is left, longer than makes sense.
    #[error("{} days are more than a hundred years", .0.as_secs() / 86_400)]
    TooLong(Duration),
    /// At most nothing is left.
    #[error("with nothing left every key that has a deadline would be dead")]
    NothingLeft,
    /// More is left at the least than at the most.
    #[error("at least {} s and at most {} s cannot be left at once", least.as_secs_f64(), most.as_secs_f64())]
    Crossed {
        /// At the least.
        least: Duration,
        /// At the most.
        most: Duration,
    },
}

fn two_onto_one(first: Db, second: Db, into: Db) -> String {
    if second == into {
        return format!(
            "database {into} keeps its number, and database {first} would get it too; map {into} elsewhere, or leave it out with --only-db"
        );
    }
    format!(
        "databases {first} and {second} would both become database {into}; map one of them elsewhere, or choose with --only-db"
    )
}

impl Rules {
    /// Rules that want these databases (`None`: all), some of them renumbered, and of their keys those whose names match one of
    /// `include` (none: all) and none of `exclude`, and whose types are chosen (`None`: all).
    ///
    /// # Errors
    /// If two databases would become one, or one is mapped and not chosen.
    pub fn new(
        only: Option<BTreeSet<Db>>,
        map: BTreeMap<Db, Db>,
        include: Vec<Glob>,
        exclude: Vec<Glob>,
        types: Option<Types>,
    ) -> Result<Self, RulesError> {
        let is_chosen = |db: &Db| only.as_ref().is_none_or(|only| only.contains(db));
        let mut places: BTreeMap<Db, Db> = BTreeMap::new();
        for (&from, &into) in &map {
            if !is_chosen(&from) {
                return Err(RulesError::MappedNotChosen(from));
            }
            if let Some(first) = places.insert(into, from) {
                return Err(RulesError::TwoOntoOne { first, second: from, into });
            }
        }
        // A database that keeps its number, and whose number another one gets.
        for (&into, &from) in &places {
            if is_chosen(&into) && !map.contains_key(&into) {
                return Err(RulesError::TwoOntoOne { first: from, second: into, into });
            }
        }
        let map = map.into_iter().filter(|(from, into)| from != into).collect();
        Ok(Self { only, map, include, exclude, types, ..Self::default() })
    }

    /// The same, with this for deadlines.
    #[must_use]
    pub fn dating(self, ttl: Ttl) -> Self {
        Self { ttl, ..self }
    }

    /// The same, choosing keys by expressions too, in which their names are searched.
    #[must_use]
    pub fn matching(self, include: Vec<Expression>, exclude: Vec<Expression>) -> Self {
        Self { include_by: include, exclude_by: exclude, ..self }
    }

    /// The same, with these names for the keys that are wanted.
    ///
    /// # Errors
    /// If two keys are found that would get one name.
    pub fn naming(self, mut names: Names) -> Result<Self, RulesError> {
        let begin = |front: &[u8]| {
            self.include_by.is_empty()
                && !self.include.is_empty()
                && self.include.iter().all(|glob| glob.wants_front(front))
        };
        names.prove(begin, |name| self.chooses(name))?;
        Ok(Self { names, ..self })
    }

    /// The same, and of what they want only keys whose names on the source match one of these. None: all of it.
    #[must_use]
    pub fn narrowed(self, narrow: Vec<Glob>) -> Self {
        Self { narrow, ..self }
    }

    /// Whether they want less than what is theirs.
    #[must_use]
    pub fn are_narrowed(&self) -> bool {
        !self.narrow.is_empty()
    }

    /// What keys are called in the target.
    #[must_use]
    #[inline]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Where a key of the source is in the target: its database and its name there. `None` if its database or its name is left out.
    #[must_use]
    pub fn target_of<'k>(&self, db: Db, key: &'k [u8]) -> Option<(Db, Cow<'k, [u8]>)> {
        let place = self.place(db).filter(|_| self.judge(db, key).is_keep())?;
        Some((place, self.names.of(key)))
    }

    /// Whether a key that stands here in the target may be this source's, by its database and its name.
    #[must_use]
    pub fn owns(&self, place: Db, name: &[u8]) -> bool {
        self.writes(place)
            && match self.names.origin(name) {
                Origin::Key(key) => self.is_within(&key),
                Origin::Unknown => true,
                Origin::None => false,
            }
    }

    /// Which key of the source stands here in the target: its database and its name on the source. `None` if none that is wanted can, or its name
    /// does not tell.
    #[must_use]
    pub fn key_of(&self, place: Db, name: &[u8]) -> Option<(Db, Vec<u8>)> {
        let db = self.origin(place);
        let Origin::Key(key) = self.names.origin(name) else { return None };
        (self.writes(place) && self.judge(db, &key).is_keep()).then(|| (db, key.into_owned()))
    }

    /// Whether a key is none of those that are left aside, by its name on the source.
    fn is_within(&self, key: &[u8]) -> bool {
        !self.are_narrowed() || self.narrow.iter().any(|glob| glob.matches(key))
    }

    /// What becomes of deadlines.
    #[must_use]
    pub fn ttl(&self) -> &Ttl {
        &self.ttl
    }

    /// Whether everything is wanted as it is.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether databases are chosen or renumbered.
    #[must_use]
    pub fn has_databases(&self) -> bool {
        self.only.is_some() || !self.map.is_empty()
    }

    /// Whether keys are chosen by name or type.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        let globs = [&self.include, &self.exclude].into_iter().any(|globs| !globs.is_empty());
        let others = [&self.include_by, &self.exclude_by];
        globs
            || others.into_iter().any(|others| !others.is_empty())
            || self.types.is_some()
            || self.are_narrowed()
    }

    /// The databases that are wanted; `None` for all.
    #[must_use]
    pub fn chosen(&self) -> Option<&BTreeSet<Db>> {
        self.only.as_ref()
    }

    /// The types that are wanted; `None` for all.
    #[must_use]
    pub fn types(&self) -> Option<&Types> {
        self.types.as_ref()
    }

    /// Where a database of the source goes; `None` if it is not wanted.
    #[must_use]
    #[inline]
    pub fn place(&self, db: Db) -> Option<Db> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&db)) {
            return None;
        }
        Some(self.map.get(&db).copied().unwrap_or(db))
    }

    /// The database of the source that goes into this database of the target. No two do.
    #[must_use]
    pub fn origin(&self, place: Db) -> Db {
        self.map.iter().find(|(_, into)| **into == place).map_or(place, |(from, _)| *from)
    }

    /// Whether a database of the target is written. It may not be, and hold whatever it does.
    #[must_use]
    pub fn writes(&self, place: Db) -> bool {
        self.place(self.origin(place)) == Some(place)
    }

    /// What becomes of a key by its database and its name, as the source has them.
    #[must_use]
    #[inline]
    pub fn judge(&self, db: Db, key: &[u8]) -> Verdict {
        if self.only.as_ref().is_some_and(|only| !only.contains(&db)) {
            return Verdict::Drop(Why::Db);
        }
        if self.chooses(key) { Verdict::Keep } else { Verdict::Drop(Why::Key) }
    }

    /// Whether keys with this name on the source are wanted.
    #[inline]
    fn chooses(&self, key: &[u8]) -> bool {
        if !self.is_within(key) {
            return false;
        }
        let all = self.include.is_empty() && self.include_by.is_empty();
        let matches = |globs: &[Glob], others: &[Expression]| {
            globs.iter().any(|glob| glob.matches(key)) || others.iter().any(|one| one.finds(key))
        };
        (all || matches(&self.include, &self.include_by))
            && !matches(&self.exclude, &self.exclude_by)
    }

    /// Whether keys of this type are wanted. Of modules' types only [`admits_module`](Self::admits_module) can tell.
    #[must_use]
    #[inline]
    pub fn admits(&self, kind: ValueType) -> bool {
        self.types.as_ref().is_none_or(|types| {
            types.plain.contains(&kind) || kind == ValueType::Module && !types.modules.is_empty()
        })
    }

    /// Whether all keys of this type are wanted: not only those of some modules.
    #[must_use]
    pub fn admits_every(&self, kind: ValueType) -> bool {
        self.types.as_ref().is_none_or(|types| types.plain.contains(&kind))
    }

    /// Whether a module's value is wanted. `body` is the value verbatim: it begins with the type's ID.
    #[must_use]
    pub fn admits_module(&self, body: &[u8]) -> bool {
        // The ID is a length of eight bytes.
        let id = body.strip_prefix(&[0x81]).and_then(|rest| rest.first_chunk::<8>());
        match id {
            Some(id) => self.admits_values_of(ModuleId::new(u64::from_be_bytes(*id))),
            None => self.admits_every(ValueType::Module),
        }
    }

    /// Whether a module's values are wanted.
    #[must_use]
    pub fn admits_values_of(&self, module: ModuleId) -> bool {
        self.admits_every(ValueType::Module)
            || self.types.as_ref().is_some_and(|types| types.modules.contains(&module.to_string()))
    }
}

/// In the words of the flags; `all` if everything is wanted as it is. Rules that differ are shown otherwise, in every version alike: the
/// position records hold a digest of this.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(only) = &self.only {
            parts.push(format!("only db {}", list(only, ",")));
        }
        if !self.map.is_empty() {
            let pairs = self.map.iter().map(|(from, into)| format!("{from}:{into}"));
            parts.push(format!("db {}", list(pairs, ",")));
        }
        let globs = [("include", &self.include), ("exclude", &self.exclude)];
        for (name, globs) in globs.into_iter().filter(|(_, globs)| !globs.is_empty()) {
            parts.push(format!("{name} {}", list(globs, " ")));
        }
        let others = [("include-regex", &self.include_by), ("exclude-regex", &self.exclude_by)];
        for (name, others) in others.into_iter().filter(|(_, others)| !others.is_empty()) {
            parts.push(format!("{name} {}", list(others, " ")));
        }
        if let Some(types) = &self.types {
            parts.push(format!("type {types}"));
        }
        if !self.narrow.is_empty() {
            parts.push(format!("narrowed to {}", list(&self.narrow, " ")));
        }
        if !self.names.are_kept() {
            parts.push(self.names.to_string());
        }
        if self.ttl != Ttl::default() {
            parts.push(self.ttl.to_string());
        }
        f.write_str(if parts.is_empty() { "all" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

fn list(all: impl IntoIterator<Item = impl fmt::Display>, between: &str) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(between)
}

impl Verdict {
    /// Whether it is wanted.
    #[must_use]
    pub fn is_keep(self) -> bool {
        self == Self::Keep
    }
}

/// As the flag has them.
impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.plain.iter().map(|kind| kind.name().to_owned());
        let modules = self.modules.iter().map(|name| format!("module:{name}"));
        f.write_str(&list(plain.chain(modules), ","))
    }
}

impl Types {
    /// Reads a list such as `string,hash,module:ReJSON-RL`.
    ///
    /// # Errors
    /// If it holds what is no type.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        const PLAIN: [ValueType; 7] = [
            ValueType::String,
            ValueType::List,
            ValueType::Set,
            ValueType::Zset,
            ValueType::Hash,
            ValueType::Stream,
            ValueType::Module,
        ];
        let mut types = Self::default();
        for name in text.split(',').map(str::trim) {
            match PLAIN.into_iter().find(|kind| kind.name() == name) {
                Some(kind) => types.plain.push(kind),
                None => match name.strip_prefix("module:") {
                    Some(module) if !module.is_empty() => {
                        types.modules.insert(module.to_owned());
                    }
                    _ => return Err(RulesError::Type(name.to_owned())),
                },
            }
        }
        Ok(types)
    }
}

/// Reads a list of databases such as `0,3`.
///
/// # Errors
/// If it holds what is no number of a database.
pub fn databases(text: &str) -> Result<BTreeSet<Db>, RulesError> {
    text.split(',').map(|db| database(db.trim())).collect()
}

/// Reads pairs of databases such as `0:3,1:0`.
///
/// # Errors
/// If one is no pair, or a database stands on the left twice.
pub fn database_map(text: &str) -> Result<BTreeMap<Db, Db>, RulesError> {
    let mut map = BTreeMap::new();
    for pair in text.split(',').map(str::trim) {
        let (from, into) = pair.split_once(':').ok_or_else(|| RulesError::Pair(pair.to_owned()))?;
        let (from, into) = (database(from)?, database(into)?);
        if map.insert(from, into).is_some() {
            return Err(RulesError::MappedTwice(from));
        }
    }
    Ok(map)
}

fn database(text: &str) -> Result<Db, RulesError> {
    Db::parse(text.as_bytes()).ok_or_else(|| RulesError::Db(text.to_owned()))
}

/// What becomes of a `FLUSHALL`, `FLUSHDB` or `SWAPDB` that cannot be meant for the whole target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFlush {
    /// It is sent as it is: the target holds nothing but what this source brought.
    Apply,
    /// The lane stops.
    #[default]
    Stop,
    /// A flush is passed over; what it deleted on the source stays in the target.
    Ignore,
}

#[cfg(test)]
mod tests {
    use super::super::rename::Rename;
    use super::*;

    fn rules(only: Option<&str>, map: &str) -> Result<Rules, RulesError> {
        let only = only.map(databases).transpose()?;
        let map = if map.is_empty() { BTreeMap::new() } else { database_map(map)? };
        Rules::new(only, map, Vec::new(), Vec::new(), None)
    }

    #[test]
    fn rules_are_shown_in_the_words_of_the_flags() {
        let globs = |globs: &[&str]| globs.iter().map(|glob| Glob::new(glob.as_bytes())).collect();
        let all = Rules::new(
            Some(databases("3,0").unwrap()),
            database_map("0:5").unwrap(),
            globs(&["a*", "b c"]),
            globs(&["\u{e9}"]),
            Some(Types::parse("zset,module:one").unwrap()),
        );
        let names = Names::with_prefix(b"p:").unwrap();
        let expressions = |text: &str| vec![Expression::parse(text.as_bytes()).unwrap()];
        let all = all.unwrap().matching(expressions("^a b"), expressions("x|y"));
        let ttl = Ttl::new(Duration::from_millis(90_500), true, None, None).unwrap();
        let all = all.dating(ttl).naming(names).unwrap();
        assert_eq!(
            all.to_string(),
            r"only db 0,3; db 0:5; include a* b\x20c; exclude \xc3\xa9; include-regex ^a\x20b; exclude-regex x|y; type zset,module:one; prefix p:; deadlines 90.500 s later; deadlines later by the outage"
        );
        assert_eq!(Rules::default().to_string(), "all");
    }

    #[test]
    fn databases_are_chosen_and_renumbered() {
        let places = |rules: &Rules| [0, 1, 2, 3].map(|db| rules.place(Db::new(db)).map(Db::index));
        assert!(Rules::default().is_all());
        assert_eq!(places(&Rules::default()), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(places(&rules(Some("0,2"), "").unwrap()), [Some(0), None, Some(2), None]);
        let turned = rules(None, "0:1,1:2,2:0").unwrap();
        assert_eq!(places(&turned), [Some(1), Some(2), Some(0), Some(3)]);
        assert_eq!([0, 1, 2, 3].map(|db| turned.origin(Db::new(db)).index()), [2, 0, 1, 3]);
        let one = rules(Some("0"), "0:3").unwrap();
        assert_eq!(places(&one), [Some(3), None, None, None]);
        assert_eq!([0, 3, 4].map(|db| one.writes(Db::new(db))), [false, true, false]);
        assert!(rules(None, "4:4").unwrap().is_all());
    }

    #[test]
    fn two_databases_onto_one_are_refused() {
        let onto = |first, second, into| {
            let [first, second, into] = [first, second, into].map(Db::new);
            Err(RulesError::TwoOntoOne { first, second, into })
        };
        assert_eq!(rules(None, "0:3,1:3"), onto(0, 1, 3));
        // Database 3 keeps its number.
        assert_eq!(rules(None, "0:3"), onto(0, 3, 3));
        assert_eq!(rules(Some("0,3"), "0:3"), onto(0, 3, 3));
        let kept = rules(None, "0:3").unwrap_err().to_string();
        assert!(kept.starts_with("database 3 keeps its number, and database 0 would get it too"));
        assert!(rules(Some("0,1"), "0:3").is_ok());
        assert!(rules(None, "0:3,3:0").is_ok());
        assert_eq!(rules(None, "0:3,0:4"), Err(RulesError::MappedTwice(Db::new(0))));
        assert_eq!(rules(Some("1"), "0:3"), Err(RulesError::MappedNotChosen(Db::new(0))));
    }

    #[test]
    fn what_is_no_rule() {
        assert_eq!(databases("0,x"), Err(RulesError::Db("x".into())));
        assert_eq!(databases(""), Err(RulesError::Db(String::new())));
        assert_eq!(database_map("3"), Err(RulesError::Pair("3".into())));
        assert_eq!(database_map("3:-1"), Err(RulesError::Db("-1".into())));
        assert_eq!(Types::parse("string,tree"), Err(RulesError::Type("tree".into())));
        assert_eq!(Types::parse("module:"), Err(RulesError::Type("module:".into())));
    }

    #[test]
    fn keys_by_name() {
        let globs = |patterns: &[&str]| patterns.iter().map(|p| Glob::new(p.as_bytes())).collect();
        let rules = |include, exclude| {
            Rules::new(None, BTreeMap::new(), globs(include), globs(exclude), None).unwrap()
        };
        let kept = |rules: Rules| {
            ["a:1", "b:1", "a:tmp"].map(|key| rules.judge(Db::new(0), key.as_bytes()).is_keep())
        };
        assert_eq!(kept(rules(&[], &[])), [true, true, true]);
        assert_eq!(kept(rules(&["a:*"], &[])), [true, false, true]);
        assert_eq!(kept(rules(&["a:*", "b:*"], &["*tmp"])), [true, true, false]);
        assert_eq!(kept(rules(&[], &["a:*"])), [false, true, false]);
    }

    #[test]
    fn where_a_key_goes() {
        let globs = vec![Glob::new(b"a*")];
        let map = database_map("0:3").unwrap();
        let rules = Rules::new(Some(databases("0").unwrap()), map, globs, Vec::new(), None);
        let rules = rules.unwrap().naming(Names::with_prefix(b"p:").unwrap()).unwrap();
        assert_eq!(rules.target_of(Db::new(0), b"a"), Some((Db::new(3), b"p:a".into())));
        assert_eq!(rules.target_of(Db::new(0), b"b"), None);
        assert_eq!(rules.target_of(Db::new(1), b"a"), None);
        assert!(rules.owns(Db::new(3), b"p:x"));
        assert!(!rules.owns(Db::new(3), b"x") && !rules.owns(Db::new(0), b"p:x"));
    }

    #[test]
    fn keys_by_expression() {
        let all = |texts: &[&str]| {
            texts.iter().map(|text| Expression::parse(text.as_bytes()).unwrap()).collect()
        };
        let kept = |include: &[&str], exclude: &[&str], globs: Vec<Glob>| {
            let rules = Rules::new(None, BTreeMap::new(), globs, Vec::new(), None).unwrap();
            let rules = rules.matching(all(include), all(exclude));
            assert!(rules.has_keys());
            [&b"a:1"[..], b"b:12", b"c\xff"].map(|key| rules.judge(Db::new(0), key).is_keep())
        };
        assert_eq!(kept(&["[0-9]{2}"], &[], Vec::new()), [false, true, false]);
        assert_eq!(kept(&["^a", "^c.$"], &[], Vec::new()), [true, false, true]);
        assert_eq!(kept(&["^a"], &[], vec![Glob::new(b"b*")]), [true, true, false]);
        assert_eq!(kept(&[], &[":"], Vec::new()), [false, false, true]);
        assert!(Expression::parse(b"(").is_err());
    }

    #[test]
    fn keys_that_all_begin_alike_may_begin_otherwise() {
        let named = |globs: &[&str]| {
            let globs = globs.iter().map(|glob| Glob::new(glob.as_bytes())).collect();
            let rules = Rules::new(None, BTreeMap::new(), globs, Vec::new(), None).unwrap();
            let rename = Rename::parse(b"^user:=u:").unwrap();
            let rules = rules.naming(Names::new(None, vec![rename]).unwrap()).unwrap();
            rules.names().are_distinct()
        };
        assert!(named(&["user:*"]) && named(&["user:a*", "user:b?"]));
        assert!(
            !named(&[]) && !named(&["us*"]) && !named(&["user:*", "*"]) && !named(&["use[r]:*"])
        );
    }

    #[test]
    fn keys_by_type() {
        let rules = |list: &str| {
            let types = Some(Types::parse(list).unwrap());
            Rules::new(None, BTreeMap::new(), Vec::new(), Vec::new(), types).unwrap()
        };
        assert!(rules("string,hash").admits(ValueType::Hash));
        assert!(!rules("string,hash").admits(ValueType::Module));
        // "ReJSON-RL" and encoding version 3, as RedisJSON writes it.
        let body = [&[0x81][..], &0x43e2_524d_3385_a003_u64.to_be_bytes(), b"..."].concat();
        let name = ModuleId::new(0x43e2_524d_3385_a003).to_string();
        assert!(rules("module").admits_module(&body));
        assert!(rules(&format!("module:{name}")).admits_module(&body));
        assert!(rules(&format!("module:{name}")).admits(ValueType::Module));
        assert!(!rules("module:other").admits_module(&body));
        assert!(!rules("module:other").admits_module(b""));
        assert!(Rules::default().admits_module(b""));
    }
}
