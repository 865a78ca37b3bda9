//! The flags that choose what of a source is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::ValueEnum;
use understudy::key::Db;
use understudy::plan::rules::{Types, database_map, databases};
use understudy::plan::{Glob, OnFlush, Place, Rules};

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

    /// Only keys of these types: string, list, set, zset, hash, stream, module, module:<name>
    #[arg(long = "type", value_name = "LIST")]
    types: Option<String>,

    /// What becomes of a source's FLUSHALL, FLUSHDB or SWAPDB. Without this flag it is applied where the target was empty, no database is
    /// chosen or renumbered and there is one source; else the run stops. A SWAPDB is never ignored
    #[arg(long, value_enum)]
    on_flush: Option<OnFlushArg>,
}

/// What becomes of a flush.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFlushArg {
    /// End the run
    Stop,
    /// Send it as it is; refused where that could touch what this source did not bring
    Apply,
    /// Pass it over: what it deleted on the source stays in the target
    Ignore,
}

impl RuleArgs {
    /// The rules for this source.
    pub(crate) fn of(&self, source: &Place, target: &Place) -> Result<Rules, String> {
        let flag = |flag: &str| {
            let flag = flag.to_owned();
            move |error| format!("{flag}: {error}")
        };
        let mut only =
            self.only_db.as_deref().map(databases).transpose().map_err(flag("--only-db"))?;
        let map = self.db_map.as_deref().map(database_map).transpose().map_err(flag("--db-map"))?;
        if let Some(db) = url_db(source) {
            if only.as_ref().is_some_and(|only| !only.contains(&db)) {
                return Err(format!(
                    "{source}: the URL names database {db}, which --only-db leaves out"
                ));
            }
            only = Some(BTreeSet::from([db]));
        }
        let map = match (url_db(target), map) {
            (None, map) => map.unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err("--db-map: the target's URL names a database already".to_owned());
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
        let globs = |patterns: &[OsString]| {
            patterns.iter().map(|glob| Glob::new(glob.as_bytes())).collect()
        };
        let types = self.types.as_deref().map(Types::parse).transpose().map_err(flag("--type"))?;
        Rules::new(only, map, globs(&self.include), globs(&self.exclude), types)
            .map_err(flag("--db-map"))
    }

    /// What was chosen for flushes.
    pub(crate) fn on_flush(&self) -> Option<OnFlush> {
        self.on_flush.map(|policy| match policy {
            OnFlushArg::Stop => OnFlush::Stop,
            OnFlushArg::Apply => OnFlush::Apply,
            OnFlushArg::Ignore => OnFlush::Ignore,
        })
    }
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
        let rules = args.of(&place(from), &place(to))?;
        Ok([0, 1, 2].map(|db| rules.place(Db::new(db)).map(Db::index)))
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
