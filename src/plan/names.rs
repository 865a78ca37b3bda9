//! What keys are called in the target.

use std::borrow::Cow;
use std::fmt;

use crate::key::OWN;

use super::rules::RulesError;

/// How names of a source become names in the target. [`Default`] leaves them as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// What stands before each.
    prefix: Vec<u8>,
}

/// Which key of a source has a name in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin<'n> {
    /// This one.
    Key(Cow<'n, [u8]>),
    /// None can have it.
    None,
}

impl Names {
    /// Names with this before each.
    ///
    /// # Errors
    /// If nothing would stand there, or names would be taken for the tool's own keys.
    pub fn with_prefix(prefix: &[u8]) -> Result<Self, RulesError> {
        if prefix.is_empty() {
            return Err(RulesError::NoPrefix);
        }
        if prefix.starts_with(OWN) {
            return Err(RulesError::OwnPrefix);
        }
        Ok(Self { prefix: prefix.to_vec() })
    }

    /// Whether names stay as they are.
    #[must_use]
    #[inline]
    pub fn are_kept(&self) -> bool {
        self.prefix.is_empty()
    }

    /// The name in the target of a key that the source calls so.
    #[must_use]
    #[inline]
    pub fn of<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        if self.are_kept() {
            return Cow::Borrowed(key);
        }
        Cow::Owned([&self.prefix, key].concat())
    }

    /// The key of the source that has this name in the target.
    #[must_use]
    pub fn origin<'n>(&self, name: &'n [u8]) -> Origin<'n> {
        name.strip_prefix(self.prefix.as_slice())
            .map_or(Origin::None, |key| Origin::Key(Cow::Borrowed(key)))
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
        write!(f, "prefix {}", shown(&self.prefix))
    }
}

/// Bytes as one word of printable characters.
pub(super) fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string().replace(' ', "\\x20")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
