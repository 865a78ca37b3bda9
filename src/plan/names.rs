//! What keys are called in the target.

use std::borrow::Cow;
use std::fmt;

use crate::key::OWN;

use super::rename::{Edge, Rename};
use super::rules::RulesError;

/// How names of a source become names in the target: the first of the renames that matches, then the prefix. [`Default`] leaves them as
/// they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    renames: Vec<Rename>,
    /// What stands before each.
    prefix: Vec<u8>,
    /// How a name is turned back, where that is known.
    back: Option<Back>,
}

/// What makes a name out of the one in the target, once the prefix is off.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Back {
    /// `text` is taken off its beginning, and `cut` put there.
    Front { text: Vec<u8>, cut: Vec<u8> },
    /// This is taken off its end.
    Back(Vec<u8>),
}

impl Back {
    const NOTHING: Self = Self::Back(Vec::new());
}

/// Which key of a source has a name in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin<'n> {
    /// This one.
    Key(Cow<'n, [u8]>),
    /// None can have it.
    None,
    /// Nobody can tell by the name.
    Unknown,
}

impl Default for Names {
    fn default() -> Self {
        Self { renames: Vec::new(), prefix: Vec::new(), back: Some(Back::NOTHING) }
    }
}

impl Names {
    /// Names with this before each.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_prefix(prefix: &[u8]) -> Result<Self, RulesError> {
        Self::new(Some(prefix), Vec::new())
    }

    /// Names changed by the first of these that matches, and with this before each.
    ///
    /// # Errors
    /// If the prefix is empty, or names would be taken for the tool's own keys.
    pub fn new(prefix: Option<&[u8]>, renames: Vec<Rename>) -> Result<Self, RulesError> {
        if prefix.is_some_and(<[u8]>::is_empty) {
            return Err(RulesError::NoPrefix);
        }
        let prefix = prefix.unwrap_or_default().to_vec();
        let front = |rename: &Rename| [&prefix, rename.text()].concat().starts_with(OWN);
        let is_front = |rename: &&Rename| matches!(rename.edge(), Some(Edge::Front(_)));
        if prefix.starts_with(OWN) || renames.iter().filter(is_front).any(front) {
            return Err(RulesError::OwnPrefix);
        }
        let back = if renames.is_empty() { Some(Back::NOTHING) } else { None };
        Ok(Self { renames, prefix, back })
    }

    /// Finds out whether no two keys can get one name. `begin` tells whether all names that are wanted begin so, `is_wanted` whether one
    /// is.
    ///
    /// # Errors
    /// If two are found that would.
    pub(super) fn prove(
        &mut self,
        begin: impl Fn(&[u8]) -> bool,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(), RulesError> {
        // Where the first one matches all names the others count for nothing.
        self.back = match self.renames.first().map(|first| (first.edge(), first.text())) {
            None => Some(Back::NOTHING),
            Some((Some(Edge::Front(cut)), text)) if cut.is_empty() || begin(cut) => {
                Some(Back::Front { text: text.to_vec(), cut: cut.clone() })
            }
            Some((Some(Edge::Back), text)) => Some(Back::Back(text.to_vec())),
            Some(_) => None,
        };
        if self.back.is_some() {
            return Ok(());
        }
        for (nth, rename) in self.renames.iter().enumerate() {
            let earlier = self.renames.get(..nth).unwrap_or_default();
            let samples = rename.samples().into_iter().filter(|name| is_wanted(name));
            let mut known: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for name in samples.filter(|name| earlier.iter().all(|one| one.of(name).is_none())) {
                let Some(made) = rename.of(&name) else { continue };
                if let Some((other, _)) = known.iter().find(|(_, known)| *known == made) {
                    let made = [&self.prefix[..], &made].concat();
                    let (first, second) = (other.clone(), name);
                    return Err(RulesError::OneName { first, second, made });
                }
                known.push((name, made));
            }
        }
        Ok(())
    }

    /// Whether names stay as they are.
    #[must_use]
    #[inline]
    pub fn are_kept(&self) -> bool {
        self.prefix.is_empty() && self.renames.is_empty()
    }

    /// Whether no two keys can get one name; then each name tells its key too.
    #[must_use]
    #[inline]
    pub fn are_distinct(&self) -> bool {
        self.back.is_some()
    }

    /// The name in the target of a key that the source calls so.
    #[must_use]
    #[inline]
    pub fn of<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        if self.are_kept() {
            return Cow::Borrowed(key);
        }
        match self.renames.iter().find_map(|rename| rename.of(key)) {
            Some(name) if self.prefix.is_empty() => Cow::Owned(name),
            Some(name) => Cow::Owned([self.prefix.as_slice(), &name].concat()),
            None if self.prefix.is_empty() => Cow::Borrowed(key),
            None => Cow::Owned([self.prefix.as_slice(), key].concat()),
        }
    }

    /// The key of the source that has this name in the target.
    #[must_use]
    pub fn origin<'n>(&self, name: &'n [u8]) -> Origin<'n> {
        let Some(name) = name.strip_prefix(self.prefix.as_slice()) else { return Origin::None };
        match &self.back {
            None => Origin::Unknown,
            Some(Back::Back(text)) => { name.strip_suffix(text.as_slice()) }
                .map_or(Origin::None, |key| Origin::Key(Cow::Borrowed(key))),
            Some(Back::Front { text, cut }) => match name.strip_prefix(text.as_slice()) {
                None => Origin::None,
                Some(rest) => Origin::Key(Cow::Owned([cut, rest].concat())),
            },
        }
    }

    /// Whether no name can come of both.
    #[must_use]
    pub fn are_apart(&self, other: &Self) -> bool {
        !self.prefix.starts_with(&other.prefix) && !other.prefix.starts_with(&self.prefix)
    }
}

/// In the words of the flags, `; ` between them.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for rename in &self.renames {
            write!(f, "{between}{rename}")?;
            between = "; ";
        }
        if !self.prefix.is_empty() {
            write!(f, "{between}prefix {}", shown(&self.prefix))?;
        }
        Ok(())
    }
}

/// Bytes as one word of printable characters.
pub(super) fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string().replace(' ', "\\x20")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn renamed(renames: &[&str], prefix: Option<&[u8]>) -> Result<Names, RulesError> {
        let renames = renames.iter().map(|text| Rename::parse(text.as_bytes()));
        let mut names = Names::new(prefix, renames.collect::<Result<_, _>>()?)?;
        names.prove(|_| false, |_| true)?;
        Ok(names)
    }

    #[test]
    fn a_prefix_stands_before_each_name() {
        let names = Names::with_prefix(b"a b:").unwrap();
        assert_eq!(names.of(b"k").as_ref(), b"a b:k");
        assert_eq!(names.of(b"").as_ref(), b"a b:");
        assert_eq!(names.origin(b"a b:k"), Origin::Key(Cow::Borrowed(b"k")));
        assert_eq!(names.origin(b"k"), Origin::None);
        assert_eq!(names.to_string(), r"prefix a\x20b:");
        assert_eq!(Names::with_prefix(b""), Err(RulesError::NoPrefix));
        assert_eq!(Names::with_prefix(b"understudy:"), Err(RulesError::OwnPrefix));
        assert_eq!(
            renamed(&["^=under"], Some(b"understudy")),
            Ok(renamed(&["^=under"], Some(b"understudy")).unwrap())
        );
        assert_eq!(renamed(&["^=study:"], Some(b"under")), Err(RulesError::OwnPrefix));
    }

    #[test]
    fn names_are_apart_if_neither_prefix_begins_the_other() {
        let names = |prefix: &str| Names::with_prefix(prefix.as_bytes()).unwrap();
        assert!(names("a:").are_apart(&names("b:")));
        assert!(!names("a:").are_apart(&names("a:b:")));
        assert!(!names("a:b:").are_apart(&names("a:")));
        assert!(!names("a:").are_apart(&Names::default()));
        assert!(!Names::default().are_apart(&Names::default()));
    }

    #[test]
    fn the_first_rename_that_matches_counts() {
        let names = renamed(&["^user:(?<id>[0-9]+)$=u:{${id}}", "er:=-$0", "^a=b"], Some(b"p:"));
        let names = names.unwrap();
        for (key, name) in [
            ("user:12", "p:u:{12}"),
            ("user:x", "p:user:x".replacen("er:", "-er:", 1).as_str()),
            ("xuser:12", "p:xus-er:12"),
            ("abc", "p:bbc"),
            ("other", "p:other"),
            ("", "p:"),
        ] {
            assert_eq!(names.of(key.as_bytes()).escape_ascii().to_string(), name, "{key}");
        }
        assert!(!names.are_distinct());
        assert_eq!(names.origin(b"p:bbc"), Origin::Unknown);
        assert_eq!(names.origin(b"bbc"), Origin::None);
        assert_eq!(
            names.to_string(),
            r"rename ^user:(?<id>[0-9]+)$=u:{${id}}; rename er:=-$0; rename ^a=b; prefix p:"
        );
    }

    #[test]
    fn names_that_two_keys_would_get_are_refused_where_that_is_plain() {
        for text in [
            ".*=x",
            "^tmp:[0-9]+=tmp",
            ":v[0-9]$=",
            "^(a|b):=c:",
            "(?i)user=u",
            "^(?:a|b):(.*)$=$1",
            "x*=y",
            "[a-z]+=${0}x", // a matches first in ab: what stands behind it is the same
        ] {
            let outcome = renamed(&[text], None);
            let is_plain = text != "[a-z]+=${0}x";
            assert_eq!(
                matches!(outcome, Err(RulesError::OneName { .. })),
                is_plain,
                "{text}: {outcome:?}"
            );
        }
        // Those that an earlier one has do not count.
        assert!(renamed(&["^tmp:=t:", "^tmp:[0-9]+=tmp"], None).is_ok());
        for text in ["^user:=u:", "([0-9]+)=<$1>", "^(.*):(.*)$=$1/$2", "^=a", "$=b"] {
            assert!(renamed(&[text], None).is_ok(), "{text}");
        }
        let error = renamed(&["^tmp:[0-9]+=tmp"], Some(b"p:")).unwrap_err().to_string();
        assert_eq!(error, r#"keys such as "tmp:0" and "tmp:00" would both become "p:tmp""#);
    }

    #[test]
    fn what_is_no_rename() {
        for (text, why) in [
            ("abc", "no REGEX=TEXT"),
            ("a(=b", "unclosed group"),
            ("a=$1", "no group 1"),
            ("(a)=${name}", "no group name"),
            ("(a)=$1b", "no group 1b"),
            (r"[^\x00-\x{10FFFF}]=", ""),
        ] {
            let error = Rename::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Rename::parse(b"a=$$1").is_ok());
        assert!(Rename::parse(b"\xff=b").is_err());
        assert!(Rename::parse(b"=b").is_ok());
    }

    proptest! {
        #[test]
        fn a_name_tells_its_key_where_no_two_can_have_it(
            key in prop::collection::vec(any::<u8>(), 0..8),
            text in "[a-z:]{0,4}",
            cut in "[a-z:]{0,3}",
            back in any::<bool>(),
        ) {
            let rename = if back { format!("$={text}") } else { format!("^{cut}={text}") };
            let mut names = Names::new(Some(b"p"), vec![Rename::parse(rename.as_bytes()).unwrap()]).unwrap();
            names.prove(|_| true, |_| true).unwrap();
            prop_assert!(names.are_distinct());
            let key = if back { key } else { [cut.as_bytes(), &key].concat() };
            let name = names.of(&key).into_owned();
            prop_assert_eq!(names.origin(&name), Origin::Key(Cow::Borrowed(key.as_slice())));
        }
    }
}
