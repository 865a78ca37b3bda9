//! `{1..37}` and `{a,b}`: one text that stands for many.

use std::ops::RangeInclusive;

/// More than this is a slip of the pen.
const MOST: usize = 10_000;

/// All texts that a text stands for, in order: `10.0.0.{1..3}` for three, `{01..12}` with a zero before one digit, `{old,new}` for two. Of
/// several of these in one text the last goes round fastest. Braces around something else stay.
///
/// # Errors
/// If a range goes down or the texts are too many.
pub(super) fn expand(text: &str) -> Result<Vec<String>, String> {
    let mut all = vec![String::new()];
    let mut rest = text;
    while let Some((before, inner, after)) = braces(rest) {
        let words = match words(inner)? {
            Some(words) => words,
            None => vec![format!("{{{inner}}}")],
        };
        if all.len() * words.len() > MOST {
            return Err(format!("{text:?} stands for more than {MOST}"));
        }
        let begun = std::mem::take(&mut all);
        for begun in begun {
            all.extend(words.iter().map(|word| format!("{begun}{before}{word}")));
        }
        rest = after;
    }
    for one in &mut all {
        one.push_str(rest);
    }
    Ok(all)
}

/// What stands before the first pair of braces, in it, and behind it.
fn braces(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (inner, after) = rest.split_once('}')?;
    Some((before, inner, after))
}

/// What stands in braces; `None` if it is no list.
fn words(inner: &str) -> Result<Option<Vec<String>>, String> {
    if let Some((first, last)) = inner.split_once("..") {
        let (Ok(from), Ok(to)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            return Ok(None);
        };
        if from > to {
            return Err(format!("{{{inner}}} goes down"));
        }
        let width = if first.starts_with('0') { first.len() } else { 0 };
        return numbers(from..=to, width)
            .map(Some)
            .ok_or_else(|| format!("{{{inner}}} stands for more than {MOST}"));
    }
    Ok(inner.contains(',').then(|| inner.split(',').map(|word| word.trim().to_owned()).collect()))
}

fn numbers(range: RangeInclusive<u32>, width: usize) -> Option<Vec<String>> {
    let count = usize::try_from(range.end() - range.start()).ok()?;
    (count < MOST).then(|| range.map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_stands_for_many() {
        assert_eq!(expand("plain").unwrap(), ["plain"]);
        assert_eq!(expand("a{1..3}b").unwrap(), ["a1b", "a2b", "a3b"]);
        assert_eq!(expand("{09..11}").unwrap(), ["09", "10", "11"]);
        assert_eq!(
            expand("h{1..2}:{6379,6380}").unwrap(),
            ["h1:6379", "h1:6380", "h2:6379", "h2:6380"]
        );
        assert_eq!(expand("{x}{1..1}").unwrap(), ["{x}1"]);
        assert_eq!(expand("open{1..").unwrap(), ["open{1.."]);
        assert_eq!(expand("{ a , b }").unwrap(), ["a", "b"]);
    }

    #[test]
    fn slips_are_told() {
        assert!(expand("{3..1}").unwrap_err().contains("goes down"));
        assert!(expand("{0..4294967295}").unwrap_err().contains("more than"));
        assert!(expand("{1..200}{1..200}").unwrap_err().contains("more than"));
    }
}
