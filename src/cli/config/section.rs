//! One table of the file, read key by key.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::refusal::Refusal;
use super::super::values::Said;

/// The file, to tell where in it something stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
}

impl File<'_> {
    /// The file, the line and the column of this byte.
    pub(super) fn at(&self, byte: usize) -> String {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path)
    }

    pub(super) fn refuse(&self, byte: usize, what: &str, mend: impl Into<String>) -> Refusal {
        Refusal { what: format!("{}: {what}", self.at(byte)), mend: mend.into().into() }
    }
}

/// A table whose keys are all known.
pub(super) struct Section<'a> {
    file: File<'a>,
    entries: BTreeMap<&'a str, &'a Spanned<DeValue<'a>>>,
}

impl<'a> Section<'a> {
    /// Reads a table that may hold these keys.
    ///
    /// # Errors
    /// If it holds another one.
    pub(super) fn new(
        file: File<'a>,
        name: &str,
        table: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Self, Refusal> {
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if known.contains(&word) {
                continue;
            }
            let what = format!("unknown key {word} in {name}");
            let mend = match nearest(word, known) {
                Some(meant) => format!("write {meant}, if that is meant"),
                None => format!("what may stand here: {}", known.join(", ")),
            };
            return Err(file.refuse(key.span().start, &what, mend));
        }
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), value)).collect();
        Ok(Self { file, entries })
    }

    /// A text.
    ///
    /// # Errors
    /// If something else stands there.
    pub(super) fn text(&self, key: &str) -> Result<Option<Said<String>>, Refusal> {
        self.read(key, "a text in double quotes", |value| value.as_str().map(str::to_owned))
    }

    /// True or false.
    ///
    /// # Errors
    /// If something else stands there.
    pub(super) fn flag(&self, key: &str) -> Result<Option<Said<bool>>, Refusal> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    /// Several texts or numbers, or one.
    ///
    /// # Errors
    /// If something else stands there.
    pub(super) fn list(&self, key: &str) -> Result<Option<Said<Vec<String>>>, Refusal> {
        self.read(key, "a text, or a list of texts in [ ]", |value| match value {
            DeValue::Array(all) => all.iter().map(|one| word(one.get_ref())).collect(),
            one => word(one).map(|word| vec![word]),
        })
    }

    /// The same as one text, as a flag takes it.
    ///
    /// # Errors
    /// If something else stands there.
    pub(super) fn joined(&self, key: &str) -> Result<Option<Said<String>>, Refusal> {
        Ok(self.list(key)?.map(|said| Said { value: said.value.join(","), at: said.at }))
    }

    fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&DeValue<'a>) -> Option<T>,
    ) -> Result<Option<Said<T>>, Refusal> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        let at = value.span().start;
        match read(value.get_ref()) {
            Some(value) => Ok(Some(Said { value, at: format!("{}: {key}", self.file.at(at)) })),
            None => {
                let what = format!("{key} is {}", value.get_ref().type_str());
                Err(self.file.refuse(at, &what, format!("write {wanted}")))
            }
        }
    }
}

fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// The known word that was meant, most likely.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    let far = |known: &str| strsim::damerau_levenshtein(&word, known);
    let near = known.iter().copied().min_by_key(|known| far(known))?;
    (far(near) <= 1 + word.len() / 4).then_some(near)
}
