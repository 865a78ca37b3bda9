//! Patterns as `KEYS` takes them.

use std::fmt;

use super::names::shown;

/// A pattern on the bytes of a key, with the meaning that Redis gives it (`stringmatchlen` in its `util.c`), case counting:
/// `*` any bytes, `?` one byte, `[a-z]` one of a range, `[^a]` none of these, `\` takes the next byte as it is.
///
/// What is odd there is so here: a class that is not closed ends with the pattern; a range may be written backwards and may
/// have `]` for its end; bytes from 0x80 on come before all others in a range (there they are signed, on x86-64). A pattern of stars alone
/// matches the empty key too.
///
/// A match takes time in proportion to the key's length times the pattern's, whatever they are.
///
/// ```
/// use understudy::plan::Glob;
/// let glob = Glob::new(b"session:[0-9]*");
/// assert!(glob.matches(b"session:17"));
/// assert!(!glob.matches(b"session:x"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    text: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Any bytes, or none.
    Star,
    /// One of these bytes.
    One(Box<Class>),
    Byte(u8),
    Any,
}

/// A set of bytes, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Class([u128; 2]);

impl Class {
    fn insert(&mut self, byte: u8) {
        if let Some(half) = self.0.get_mut(usize::from(byte >> 7)) {
            *half |= 1 << (byte & 0x7f);
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 7)).is_some_and(|half| half >> (byte & 0x7f) & 1 == 1)
    }
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::Byte(own) => *own == byte,
            Self::One(class) => class.has(byte),
        }
    }
}

/// As it was given; of several in a row it can be seen where each ends.
impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.text))
    }
}

impl Glob {
    /// Every sequence of bytes is a pattern.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            match first {
                b'*' if tokens.last() == Some(&Token::Star) => {}
                b'*' => tokens.push(Token::Star),
                b'?' => tokens.push(Token::Any),
                b'[' => {
                    let (class, behind) = class(rest);
                    tokens.push(Token::One(Box::new(class)));
                    rest = behind;
                }
                b'\\' => match rest.split_first() {
                    Some((&next, behind)) => {
                        tokens.push(Token::Byte(next));
                        rest = behind;
                    }
                    None => tokens.push(Token::Byte(b'\\')),
                },
                byte => tokens.push(Token::Byte(byte)),
            }
        }
        Self { tokens, text: pattern.into() }
    }

    /// Whether every name that matches begins so.
    pub(super) fn wants_front(&self, front: &[u8]) -> bool {
        self.text.starts_with(front) && !front.iter().any(|byte| b"*?[\\".contains(byte))
    }

    /// Whether the whole key matches.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // The last star: what follows it, and how far it reaches. Stars before it need not reach further: it can itself.
        let mut star: Option<(usize, usize)> = None;
        while let Some(&byte) = key.get(at) {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    star = Some((token, at));
                    continue;
                }
                Some(one) if one.takes(byte) => {
                    token += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            let Some((behind, reach)) = star else { return false };
            star = Some((behind, reach + 1));
            (token, at) = (behind, reach + 1);
        }
        self.tokens.get(token..).unwrap_or_default().iter().all(|left| *left == Token::Star)
    }
}

/// Reads what follows `[`, and gives what follows its `]`.
fn class(pattern: &[u8]) -> (Class, &[u8]) {
    let mut class = Class::default();
    let (negated, mut rest) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let behind = loop {
        match rest {
            [] => break rest,
            [b'\\', byte, behind @ ..] => {
                class.insert(*byte);
                rest = behind;
            }
            [b']', behind @ ..] => break behind,
            [start, b'-', end, behind @ ..] => {
                let (start, end) = (start.cast_signed(), end.cast_signed());
                (start.min(end)..=start.max(end))
                    .for_each(|byte| class.insert(byte.cast_unsigned()));
                rest = behind;
            }
            [byte, behind @ ..] => {
                class.insert(*byte);
                rest = behind;
            }
        }
    };
    if negated {
        class.0 = class.0.map(|half| !half);
    }
    (class, behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, step by step and with all the time in the world.
    fn naive(pattern: &[u8], key: &[u8]) -> bool {
        match (pattern, key) {
            ([], key) => key.is_empty(),
            ([b'*', rest @ ..], key) => (0..=key.len()).any(|at| naive(rest, &key[at..])),
            (_, []) => false,
            ([b'?', rest @ ..], [_, key @ ..]) => naive(rest, key),
            ([b'[', rest @ ..], [byte, key @ ..]) => {
                let (hit, rest) = naive_class(rest, *byte);
                hit && naive(rest, key)
            }
            ([b'\\', own, rest @ ..] | [own, rest @ ..], [byte, key @ ..]) => {
                own == byte && naive(rest, key)
            }
        }
    }

    fn naive_class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
        let negated = pattern.first() == Some(&b'^');
        let mut rest = &pattern[usize::from(negated)..];
        let mut hit = false;
        loop {
            if rest.is_empty() {
                return (hit != negated, rest);
            } else if rest.len() >= 2 && rest[0] == b'\\' {
                hit |= rest[1] == byte;
                rest = &rest[2..];
            } else if rest[0] == b']' {
                return (hit != negated, &rest[1..]);
            } else if rest.len() >= 3 && rest[1] == b'-' {
                let (start, end, byte) =
                    (rest[0].cast_signed(), rest[2].cast_signed(), byte.cast_signed());
                hit |= start <= byte && byte <= end || end <= byte && byte <= start;
                rest = &rest[3..];
            } else {
                hit |= rest[0] == byte;
                rest = &rest[1..];
            }
        }
    }

    #[test]
    fn examples() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "a*"][..], &[][..]),
            ("h?llo", &["hello", "h?llo"], &["hllo", "heello"]),
            ("h*llo", &["hllo", "heeeello"], &["hell", "xhllo"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello", "hllo"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("h[b-a]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("a\\*b", &["a*b"], &["axb"]),
            ("a\\", &["a\\"], &["a"]),
            ("[", &[], &["", "["]),
            ("[^", &["x"], &["", "xy"]),
            ("a[b-]c", &["ab", "a]", "ac"], &["abc"]),
            ("[a", &["a"], &["[a"]),
            ("Key", &["Key"], &["key"]),
            ("", &[""], &["a"]),
            ("a**b", &["ab", "axb"], &["a"]),
        ] {
            let glob = Glob::new(pattern.as_bytes());
            yes.iter().for_each(|key| assert!(glob.matches(key.as_bytes()), "{pattern} {key}"));
            no.iter().for_each(|key| assert!(!glob.matches(key.as_bytes()), "{pattern} {key}"));
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = b"a*".repeat(2000);
        let key = vec![b'a'; 100_000];
        assert!(Glob::new(&pattern).matches(&key));
        assert!(!Glob::new(&[&pattern[..], b"b"].concat()).matches(&key));
    }

    proptest! {
        #[test]
        fn it_matches_what_the_definition_matches(
            pattern in prop::collection::vec(prop::sample::select(&b"*?[]^-\\abc\xff\x80"[..]), 0..9),
            key in prop::collection::vec(prop::sample::select(&b"abc]-^\\\xff\x80*"[..]), 0..9),
        ) {
            prop_assert_eq!(Glob::new(&pattern).matches(&key), naive(&pattern, &key));
        }
    }
}
