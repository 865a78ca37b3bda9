//! The flags that choose what of a source is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;

use clap::ValueEnum;
use understudy::key::Db;
use understudy::plan::rules::{RulesError, Types, database_map, databases};
use understudy::plan::{Expression, Glob, Names, OnFlush, Place, Rename, Rules, Ttl};

use super::values::{Said, duration};

/// What is wanted, for all sources alike.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Rules")]
pub(crate) struct RuleArgs {
    /// Only these databases, such as 0,3
    #[arg(long, value_name = "LIST")]
    only_db: Option<String>,

    /// Other numbers for databases, such as 0:3,1:0. One that is not named keeps its number; two may not become one
    #[arg(long, value_name = "MAP")]
    db_map: Option<String>,

    /// Only keys whose names match, as KEYS matches them. May be given several times: one match is enough
    #[arg(long, value_name = "GLOB")]
    include: Vec<OsString>,

    /// No keys whose names match. Goes before --include. May be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,

    /// Only keys in whose names this expression finds something. Goes with --include: one match of either is enough
    #[arg(long, value_name = "REGEX")]
    include_regex: Vec<OsString>,

    /// No keys in whose names this expression finds something. May be given several times
    #[arg(long, value_name = "REGEX")]
    exclude_regex: Vec<OsString>,

    /// Only keys of these types: string, list, set, zset, hash, stream, module, module:<name>
    #[arg(long = "type", value_name = "LIST")]
    types: Option<String>,

    /// What stands before the name of each key in the target. --include and --exclude are about the names on the source
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,

    /// Other names for keys: TEXT takes the place of what the expression matches first, with $1 and ${name} for its groups. May be given
    /// several times: the first that matches counts, before --prefix. Two keys may not get one name
    #[arg(long, value_name = "REGEX=TEXT")]
    rename: Vec<OsString>,

    /// Each deadline so much later in the target. A key that dies on the source meanwhile dies there too
    #[arg(long, value_name = "DURATION")]
    extend_ttl: Option<String>,

    /// Each deadline later by what the source's outage has lasted when the job ends and deadlines are set: since the last write that this job
    /// has seen, or where none came since its copy began. Deletions are no writes, nor is what the rules leave out. A key that dies on the
    /// source meanwhile dies there too
    #[arg(long)]
    freeze_ttl: bool,

    /// When the job ends and deadlines are set, at least so much is left to each key and field of a hash that has a deadline. What is dead on
    /// the source stays dead
    #[arg(long, value_name = "DURATION")]
    min_ttl: Option<String>,

    /// When the job ends and deadlines are set, at most so much is left to each key and field of a hash that has a deadline. What has none gets
    /// none. Comes behind --extend-ttl, --freeze-ttl and --min-ttl
    #[arg(long, value_name = "DURATION")]
    max_ttl: Option<String>,
}

/// What becomes of what deletes whole databases.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Rules")]
pub(crate) struct FlushArgs {
    /// What becomes of a source's FLUSHALL, FLUSHDB or SWAPDB. Without this flag it is applied where the target was empty, no database is
    /// chosen or renumbered and there is one source; else the run stops. A SWAPDB is never ignored
    #[arg(long, value_enum)]
    on_flush: Option<OnFlushArg>,
}

impl FlushArgs {
    /// What was chosen for flushes.
    pub(crate) fn on_flush(&self) -> Option<OnFlush> {
        self.on_flush.map(|policy| match policy {
            OnFlushArg::Stop => OnFlush::Stop,
            OnFlushArg::Apply => OnFlush::Apply,
            OnFlushArg::Ignore => OnFlush::Ignore,
        })
    }
}

/// What becomes of a flush.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFlushArg {
    /// End the run
    Stop,
    /// Send it as it is; where that could touch what this source did not bring, copy the source anew and remove what it had brought
    Apply,
    /// Pass it over: what it deleted on the source stays in the target
    Ignore,
}

/// The rules of one source as texts, from flags or from a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleTexts {
    pub(crate) only_db: Option<Said<String>>,
    pub(crate) db_map: Option<Said<String>>,
    pub(crate) include: Option<Vec<OsString>>,
    pub(crate) exclude: Option<Vec<OsString>>,
    pub(crate) include_regex: Option<Said<Vec<OsString>>>,
    pub(crate) exclude_regex: Option<Said<Vec<OsString>>>,
    pub(crate) types: Option<Said<String>>,
    pub(crate) rename: Option<Said<Vec<OsString>>>,
    pub(crate) prefix: Option<Said<OsString>>,
    pub(crate) extend_ttl: Option<Said<String>>,
    pub(crate) freeze_ttl: Option<Said<bool>>,
    pub(crate) min_ttl: Option<Said<String>>,
    pub(crate) max_ttl: Option<Said<String>>,
}

impl RuleArgs {
    /// What was typed.
    pub(crate) fn texts(&self) -> RuleTexts {
        let said = |value: &Option<String>, flag: &str| {
            value.clone().map(|value| Said { value, at: flag.to_owned() })
        };
        let globs = |globs: &[OsString]| (!globs.is_empty()).then(|| globs.to_vec());
        let several = |values: &[OsString], flag: &str| {
            let said = || Said { value: values.to_vec(), at: flag.to_owned() };
            (!values.is_empty()).then(said)
        };
        RuleTexts {
            only_db: said(&self.only_db, "--only-db"),
            db_map: said(&self.db_map, "--db-map"),
            include: globs(&self.include),
            exclude: globs(&self.exclude),
            include_regex: several(&self.include_regex, "--include-regex"),
            exclude_regex: several(&self.exclude_regex, "--exclude-regex"),
            types: said(&self.types, "--type"),
            rename: several(&self.rename, "--rename"),
            prefix: self.prefix.clone().map(|value| Said { value, at: "--prefix".to_owned() }),
            extend_ttl: said(&self.extend_ttl, "--extend-ttl"),
            freeze_ttl: self
                .freeze_ttl
                .then(|| Said { value: true, at: "--freeze-ttl".to_owned() }),
            min_ttl: said(&self.min_ttl, "--min-ttl"),
            max_ttl: said(&self.max_ttl, "--max-ttl"),
        }
    }
}

impl RuleTexts {
    /// What is said here, and else what is said there.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            only_db: self.only_db.or_else(|| other.only_db.clone()),
            db_map: self.db_map.or_else(|| other.db_map.clone()),
            include: self.include.or_else(|| other.include.clone()),
            exclude: self.exclude.or_else(|| other.exclude.clone()),
            include_regex: self.include_regex.or_else(|| other.include_regex.clone()),
            exclude_regex: self.exclude_regex.or_else(|| other.exclude_regex.clone()),
            types: self.types.or_else(|| other.types.clone()),
            rename: self.rename.or_else(|| other.rename.clone()),
            prefix: self.prefix.or_else(|| other.prefix.clone()),
            extend_ttl: self.extend_ttl.or_else(|| other.extend_ttl.clone()),
            freeze_ttl: self.freeze_ttl.or_else(|| other.freeze_ttl.clone()),
            min_ttl: self.min_ttl.or_else(|| other.min_ttl.clone()),
            max_ttl: self.max_ttl.or_else(|| other.max_ttl.clone()),
        }
    }

    /// The rules for this source.
    pub(crate) fn of(&self, source: &Place, target: &Place) -> Result<Rules, String> {
        let mut only = read(self.only_db.as_ref(), databases)?;
        let map = read(self.db_map.as_ref(), database_map)?;
        if let Some(db) = url_db(source) {
            if only.as_ref().is_some_and(|only| !only.contains(&db)) {
                return Err(format!(
                    "{source}: the URL names database {db}, which {} leaves out",
                    at_of(self.only_db.as_ref(), "--only-db")
                ));
            }
            only = Some(BTreeSet::from([db]));
        }
        let map_at = at_of(self.db_map.as_ref(), "--db-map");
        let map = match (url_db(target), map) {
            (None, map) => map.unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err(format!("{map_at}: the target's URL names a database already"));
            }
            (Some(into), None) => match only.iter().flatten().collect::<Vec<_>>().as_slice() {
                [from] => BTreeMap::from([(**from, into)]),
                _ => {
                    return Err(format!(
                        "{target}: a target's database takes one database of a source; name it in the source's URL or with --only-db"
                    ));
                }
            },
        };
        let globs = |patterns: &Option<Vec<OsString>>| {
            patterns.iter().flatten().map(|glob| Glob::new(glob.as_bytes())).collect()
        };
        let types = read(self.types.as_ref(), Types::parse)?;
        let ttl = self.ttl(target)?;
        let rules = Rules::new(only, map, globs(&self.include), globs(&self.exclude), types)
            .map_err(|error| format!("{map_at}: {error}"))?;
        let rules = rules.matching(
            each(self.include_regex.as_ref(), Expression::parse)?,
            each(self.exclude_regex.as_ref(), Expression::parse)?,
        );
        let rules = rules.dating(ttl);
        let named = rules.naming(self.names()?);
        named.map_err(|error| format!("{}: {error}", at_of(self.rename.as_ref(), "--rename")))
    }
}

impl RuleTexts {
    fn ttl(&self, target: &Place) -> Result<Ttl, String> {
        let Self { extend_ttl, freeze_ttl, min_ttl, max_ttl, .. } = self;
        let at = |said: &Option<Said<String>>| said.as_ref().map(|said| said.at.clone());
        let freezes = freeze_ttl.as_ref().filter(|said| said.value);
        let bounds: Vec<String> = [at(min_ttl), at(max_ttl)].into_iter().flatten().collect();
        let frozen = freezes.map(|said| said.at.clone()).into_iter();
        if let (Some(at), Place::Rdb(_)) = (frozen.chain(bounds.iter().cloned()).next(), target) {
            return Err(format!(
                "{at}: deadlines in a file are the source's own, or later by --extend-ttl"
            ));
        }
        let extends = read(extend_ttl.as_ref(), duration)?.unwrap_or_default();
        let (least, most) = (read(min_ttl.as_ref(), duration)?, read(max_ttl.as_ref(), duration)?);
        Ttl::new(extends, freezes.is_some(), least, most)
            .map_err(|error| format!("{}: {error}", bounds.join(" and ")))
    }

    fn names(&self) -> Result<Names, String> {
        let renames = each(self.rename.as_ref(), Rename::parse)?;
        let prefix = self.prefix.as_ref().map(|said| said.value.as_bytes());
        let at = match &self.prefix {
            Some(said) => said.at.clone(),
            None => at_of(self.rename.as_ref(), "--rename"),
        };
        Names::new(prefix, renames).map_err(|error| format!("{at}: {error}"))
    }
}

/// What was said, read.
fn read<T, E: Display>(
    said: Option<&Said<String>>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    let read = said.map(|said| read(&said.value).map_err(|error| format!("{}: {error}", said.at)));
    read.transpose()
}

/// All that was said, read.
fn each<T>(
    said: Option<&Said<Vec<OsString>>>,
    read: impl Fn(&[u8]) -> Result<T, RulesError>,
) -> Result<Vec<T>, String> {
    let Some(said) = said else { return Ok(Vec::new()) };
    let all = said.value.iter().map(|one| read(one.as_bytes()));
    all.map(|one| one.map_err(|error| format!("{}: {error}", said.at))).collect()
}

fn at_of<T>(said: Option<&Said<T>>, flag: &str) -> String {
    said.map_or_else(|| flag.to_owned(), |said| said.at.clone())
}

fn url_db(place: &Place) -> Option<Db> {
    match place {
        Place::Server(server) => server.db,
        Place::Rdb(_) | Place::Capture(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    fn places(args: &RuleArgs, from: &str, to: &str) -> Result<[Option<u32>; 3], String> {
        let rules = args.texts().of(&place(from), &place(to))?;
        Ok([0, 1, 2].map(|db| rules.place(Db::new(db)).map(Db::index)))
    }

    #[test]
    fn deadlines() {
        let ttl = |min: &str, max: &str, to: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let args = RuleArgs { min_ttl: text(min), max_ttl: text(max), ..RuleArgs::default() };
            args.texts().of(&place("redis://a"), &place(to)).map(|rules| rules.to_string())
        };
        assert_eq!(ttl("", "", "redis://b"), Ok("all".to_owned()));
        assert_eq!(
            ttl("90s", "1h", "redis://b"),
            Ok("at least 90 s left; at most 3600 s left".to_owned())
        );
        let refused = |min, max, to, word: &str| {
            let error = ttl(min, max, to).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        refused("2h", "1h", "redis://b", "--min-ttl and --max-ttl: at least 7200 s and at most");
        refused("", "0s", "redis://b", "--max-ttl: with nothing left");
        refused("", "90", "redis://b", "--max-ttl: a duration");
        refused("40000d", "", "redis://b", "--min-ttl: 40000 days");
        refused("1h", "", "b.rdb", "--min-ttl: deadlines in a file");
    }

    #[test]
    fn the_databases_of_urls() {
        let none = RuleArgs::default();
        assert_eq!(places(&none, "redis://a", "redis://b"), Ok([Some(0), Some(1), Some(2)]));
        assert_eq!(places(&none, "redis://a/1", "redis://b"), Ok([None, Some(1), None]));
        assert_eq!(places(&none, "redis://a/1", "redis://b/0"), Ok([None, Some(0), None]));
        assert!(places(&none, "redis://a", "redis://b/0").unwrap_err().contains("--only-db"));
        let only = RuleArgs { only_db: Some("1,2".into()), ..RuleArgs::default() };
        assert_eq!(places(&only, "redis://a/2", "redis://b"), Ok([None, None, Some(2)]));
        assert!(places(&only, "redis://a/0", "redis://b").unwrap_err().contains("leaves out"));
        let map = RuleArgs { db_map: Some("0:1,1:0".into()), ..RuleArgs::default() };
        assert_eq!(places(&map, "redis://a", "redis://b"), Ok([Some(1), Some(0), Some(2)]));
        assert!(places(&map, "redis://a/1", "redis://b/5").unwrap_err().contains("--db-map"));
        let two = RuleArgs { db_map: Some("0:2".into()), ..RuleArgs::default() };
        assert!(places(&two, "redis://a", "redis://b").unwrap_err().contains("database 2"));
    }
}
