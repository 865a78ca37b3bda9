//! Which rule leaves a key out, in the words of its flag.

use std::fmt;

use crate::key::Db;
use crate::rdb::event::ModuleId;
use crate::rdb::opcode::ValueType;

use super::{Rules, Verdict, list};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Its database is none of those that are chosen.
    Db {
        /// It.
        db: Db,
        /// Those.
        chosen: String,
    },
    /// A pattern excludes it.
    Excluded(String),
    /// So does an expression.
    ExcludedBy(String),
    /// None of the patterns and expressions that choose keys matches.
    NotIncluded(String),
    /// It is none of the keys that are looked at.
    Narrowed(String),
    /// Its type is none of those that are chosen.
    Type {
        /// It.
        kind: ValueType,
        /// Those.
        chosen: String,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Db { db, chosen } => {
                write!(f, "database {db} is not chosen: --only-db {chosen}")
            }
            Self::Excluded(glob) => write!(f, "--exclude {glob}"),
            Self::ExcludedBy(expression) => write!(f, "--exclude-regex {expression}"),
            Self::NotIncluded(all) => write!(f, "none of these matches: {all}"),
            Self::Narrowed(globs) => write!(f, "--only {globs}"),
            Self::Type { kind, chosen } => {
                write!(f, "its type, {}, is not chosen: --type {chosen}", kind.name())
            }
        }
    }
}

impl Rules {
    /// Which rule leaves out a key of the source, if one does. Its type counts if it is known; of a module's value also whose it is.
    #[must_use]
    pub fn left_out(
        &self,
        db: Db,
        key: &[u8],
        kind: Option<(ValueType, Option<ModuleId>)>,
    ) -> Option<LeftOut> {
        if let Some(only) = self.only.as_ref().filter(|only| !only.contains(&db)) {
            return Some(LeftOut::Db { db, chosen: list(only, ",") });
        }
        // Only where names decide it is looked for which one: so this never says otherwise than what is played.
        if self.judge(db, key) != Verdict::Keep {
            return Some(self.by_name(key));
        }
        let types = self.types.as_ref()?;
        let (kind, module) = kind?;
        let is_wanted = self.admits(kind) && module.is_none_or(|id| self.admits_values_of(id));
        (!is_wanted).then(|| LeftOut::Type { kind, chosen: types.to_string() })
    }

    fn by_name(&self, key: &[u8]) -> LeftOut {
        if !self.is_within(key) {
            return LeftOut::Narrowed(list(&self.narrow, " "));
        }
        if let Some(glob) = self.exclude.iter().find(|glob| glob.matches(key)) {
            return LeftOut::Excluded(glob.to_string());
        }
        if let Some(expression) = self.exclude_by.iter().find(|one| one.finds(key)) {
            return LeftOut::ExcludedBy(expression.to_string());
        }
        let globs = self.include.iter().map(|glob| format!("--include {glob}"));
        let others = self.include_by.iter().map(|one| format!("--include-regex {one}"));
        LeftOut::NotIncluded(list(globs.chain(others), " "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Glob, Types, databases};
    use super::*;
    use crate::plan::Expression;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| Glob::new(text.as_bytes())).collect()
    }

    fn said(rules: &Rules, db: u32, key: &str, kind: ValueType) -> Option<String> {
        rules.left_out(Db::new(db), key.as_bytes(), Some((kind, None))).map(|why| why.to_string())
    }

    #[test]
    fn the_rule_that_leaves_a_key_out_is_named() {
        let only = Some(databases("0,2").unwrap());
        let types = Some(Types::parse("string,module:ReJSON-RL").unwrap());
        let (include, exclude) = (globs(&["user:*", "a*"]), globs(&["*:tmp", "user:9*"]));
        let rules = Rules::new(only, BTreeMap::new(), include, exclude, types).unwrap();
        let by = |text: &str| vec![Expression::parse(text.as_bytes()).unwrap()];
        let rules = rules.matching(by("^b[0-9]"), by("x$"));
        let string = ValueType::String;
        assert_eq!(said(&rules, 0, "user:1", string), None);
        assert_eq!(said(&rules, 2, "b1", string), None);
        let told = [
            (1, "user:1", string, "database 1 is not chosen: --only-db 0,2"),
            (0, "user:91", string, "--exclude user:9*"),
            (0, "user:1:tmp", string, "--exclude *:tmp"),
            (0, "ax", string, "--exclude-regex x$"),
            (
                0,
                "c",
                string,
                "none of these matches: --include user:* --include a* --include-regex ^b[0-9]",
            ),
            (
                0,
                "a",
                ValueType::Hash,
                "its type, hash, is not chosen: --type string,module:ReJSON-RL",
            ),
        ];
        for (db, key, kind, why) in told {
            assert_eq!(said(&rules, db, key, kind).as_deref(), Some(why), "{key}");
        }
        let narrowed = Rules::default().narrowed(globs(&["a*"]));
        assert_eq!(said(&narrowed, 0, "b", string).as_deref(), Some("--only a*"));
    }

    #[test]
    fn a_type_that_is_not_known_leaves_nothing_out() {
        let types = Some(Types::parse("module:ReJSON-RL").unwrap());
        let rules = Rules::new(None, BTreeMap::new(), Vec::new(), Vec::new(), types).unwrap();
        let why = |kind| rules.left_out(Db::default(), b"a", kind);
        assert_eq!(why(None), None);
        assert_eq!(why(Some((ValueType::Module, None))), None, "it may be that module's");
        let other = Some(ModuleId::new(u64::MAX));
        assert!(why(Some((ValueType::Module, other))).is_some());
        assert!(why(Some((ValueType::Set, None))).is_some());
    }
}
