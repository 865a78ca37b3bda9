//! Names changed by a regular expression.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::names::shown;
use super::rules::RulesError;

/// One `--rename`: where the expression matches first in a name, another text stands in the target.
#[derive(Clone, Debug)]
pub struct Rename {
    pattern: String,
    regex: Regex,
    /// With `$1` and `${name}` for what groups have matched.
    text: Vec<u8>,
    edge: Option<Edge>,
}

/// An expression in which a name is searched. Two are the same if they are written alike.
#[derive(Clone, Debug)]
pub struct Expression {
    pattern: String,
    regex: Regex,
}

impl Expression {
    /// Reads it. It is about bytes: `.` is any of them, and classes such as `\w` hold ASCII only.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(said: &[u8]) -> Result<Self, RulesError> {
        let wrong = |why: String| RulesError::Expression { said: shown(said), why };
        let (pattern, regex) = read(said).map_err(wrong)?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }

    /// Whether a name has a part that it matches.
    #[must_use]
    pub fn finds(&self, key: &[u8]) -> bool {
        self.regex.is_match(key)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Expression {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.pattern.as_bytes()))
    }
}

/// An expression that matches one text at one end of a name, and puts one text there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// This at the beginning.
    Front(Vec<u8>),
    /// The end, with nothing of the name.
    Back,
}

impl Rename {
    /// Reads `REGEX=TEXT`. The first `=` parts them: one in the expression is written `\x3d`. Expressions are about bytes: `.` is any of them,
    /// and classes such as `\w` hold ASCII only.
    ///
    /// # Errors
    /// If it is no such pair, no expression, or the text names a group that the expression does not have.
    pub fn parse(said: &[u8]) -> Result<Self, RulesError> {
        let wrong = |why: String| RulesError::Rename { said: shown(said), why };
        let at = said.iter().position(|byte| *byte == b'=');
        let at = at.ok_or_else(|| wrong("it is no REGEX=TEXT".to_owned()))?;
        let (pattern, text) = said.split_at(at);
        let text = text.get(1..).unwrap_or_default().to_vec();
        let (pattern, regex) = read(pattern).map_err(wrong)?;
        for group in groups(&text) {
            let is_there = match std::str::from_utf8(group).ok() {
                Some(name) => match name.parse::<usize>() {
                    Ok(number) => number < regex.captures_len(),
                    Err(_) => regex.capture_names().flatten().any(|known| known == name),
                },
                None => false,
            };
            if !is_there {
                let group = shown(group);
                return Err(wrong(format!(
                    "the expression has no group {group}; ${{1}}x is group 1 and then an x"
                )));
            }
        }
        let edge = if text.contains(&b'$') { None } else { edge(pattern) };
        Ok(Self { pattern: pattern.to_owned(), regex, text, edge })
    }

    /// The name that it makes of this one; `None` if it does not match.
    pub(super) fn of(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.regex.captures(key)?;
        let whole = found.get(0)?;
        let mut name = Vec::with_capacity(key.len() + self.text.len());
        name.extend_from_slice(key.get(..whole.start()).unwrap_or_default());
        found.expand(&self.text, &mut name);
        name.extend_from_slice(key.get(whole.end()..).unwrap_or_default());
        Some(name)
    }

    pub(super) fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Some names that the expression matches, each different.
    pub(super) fn samples(&self) -> Vec<Vec<u8>> {
        let hir = syntax().parse(&self.pattern);
        let mut all = hir.map(|hir| samples_of(&hir)).unwrap_or_default();
        all.sort();
        all.dedup();
        all
    }
}

/// An expression on bytes, or in words why it is none.
fn read(said: &[u8]) -> Result<(&str, Regex), String> {
    let pattern = std::str::from_utf8(said)
        .map_err(|_| "the expression is no UTF-8: write \\xHH".to_owned())?;
    let regex = RegexBuilder::new(pattern).unicode(false).dot_matches_new_line(true).build();
    let regex = regex.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression is too large".to_owned(),
        other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })?;
    Ok((pattern, regex))
}

fn syntax() -> regex_syntax::Parser {
    let mut builder = regex_syntax::ParserBuilder::new();
    builder.unicode(false).utf8(false).dot_matches_new_line(true).build()
}

impl PartialEq for Rename {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.text) == (&other.pattern, &other.text)
    }
}

impl Eq for Rename {}

/// In the words of the flag.
impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rename {}={}", shown(self.pattern.as_bytes()), shown(&self.text))
    }
}

/// The groups that a text names, as the expansion finds them: the longest word behind a `$`, or what stands in braces.
fn groups(text: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        let behind = rest.get(at + 1..).unwrap_or_default();
        rest = behind;
        match behind {
            [b'$', ..] => rest = behind.get(1..).unwrap_or_default(),
            [b'{', inside @ ..] => {
                let Some(end) = inside.iter().position(|byte| *byte == b'}') else { continue };
                found.push(inside.get(..end).unwrap_or_default());
            }
            _ => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let len = behind.iter().take_while(|byte| is_word(byte)).count();
                if len > 0 {
                    found.push(behind.get(..len).unwrap_or_default());
                }
            }
        }
    }
    found
}

/// Whether an expression is one text at one end.
fn edge(pattern: &str) -> Option<Edge> {
    let hir = syntax().parse(pattern).ok()?;
    let look = |hir: &Hir| match hir.kind() {
        HirKind::Look(look) => Some(*look),
        _ => None,
    };
    use regex_syntax::hir::Look;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(Look::Start) => Some(Edge::Front(Vec::new())),
        HirKind::Look(Look::End) => Some(Edge::Back),
        HirKind::Concat(parts) => match parts.as_slice() {
            [start, literal] if look(start) == Some(Look::Start) => match literal.kind() {
                HirKind::Literal(literal) => Some(Edge::Front(literal.0.to_vec())),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// So many names are made up of an expression.
const SAMPLES: usize = 24;

fn samples_of(hir: &Hir) -> Vec<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![Vec::new()],
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Class(class) => bytes_of(class),
        HirKind::Repetition(repetition) => {
            let one = samples_of(&repetition.sub);
            let least = usize::try_from(repetition.min).unwrap_or(usize::MAX).min(MOST_REPEATED);
            let mut all = Vec::new();
            for times in least..=least + 1 {
                let fits = repetition.max.is_none_or(|max| times <= max as usize);
                if fits {
                    let each = vec![one.clone(); times];
                    all.extend(
                        each.iter().fold(vec![Vec::new()], |so_far, next| joined(&so_far, next)),
                    );
                }
            }
            all.truncate(SAMPLES);
            all
        }
        HirKind::Capture(capture) => samples_of(&capture.sub),
        HirKind::Concat(parts) => { parts.iter() }
            .fold(vec![Vec::new()], |so_far, part| joined(&so_far, &samples_of(part))),
        HirKind::Alternation(parts) => {
            let mut all: Vec<_> = parts
                .iter()
                .flat_map(|part| {
                    let mut some = samples_of(part);
                    some.truncate((SAMPLES / parts.len()).max(1));
                    some
                })
                .collect();
            all.truncate(SAMPLES);
            all
        }
    }
}

const MOST_REPEATED: usize = 64;

/// Each of these with each of those behind it.
fn joined(these: &[Vec<u8>], those: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let all = these.iter().flat_map(|one| those.iter().map(|next| [&one[..], next].concat()));
    all.take(SAMPLES).collect()
}

/// Up to three members of a class: the first two, and the last.
fn bytes_of(class: &Class) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = match class {
        Class::Bytes(class) => {
            let bytes = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            let last = class.ranges().last().map(regex_syntax::hir::ClassBytesRange::end);
            bytes.take(2).chain(last).map(|byte| vec![byte]).collect()
        }
        // So one is written whose members are characters, as in `a|b`.
        Class::Unicode(class) => {
            let chars = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            let last = class.ranges().last().map(regex_syntax::hir::ClassUnicodeRange::end);
            chars.take(2).chain(last).map(|char| char.to_string().into_bytes()).collect()
        }
    };
    all.dedup();
    all
}
