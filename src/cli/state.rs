//! Where this machine keeps what belongs to jobs.

use std::env;
use std::path::PathBuf;

use understudy::plan::{Place, Source};
use understudy::position::digest;

/// The folder of a job, in the [root](root).
pub(crate) fn folder(job: &str) -> Option<PathBuf> {
    Some(root()?.join(job))
}

/// Where all jobs have their folders: `UNDERSTUDY_STATE`, else `XDG_STATE_HOME/understudy`, else `~/.local/state/understudy`. Without a home
/// there is none.
pub(crate) fn root() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("UNDERSTUDY_STATE")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("understudy")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/understudy")))
}

/// The name of a job that was given none: from its places, of which the digest knows all.
pub(crate) fn job_name(sources: &[Source], target: &Place) -> String {
    let plain = |text: &str| -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let name = text.rsplit('/').find(|part| !part.is_empty()).unwrap_or(text);
        name.chars().take(40).map(|c| if is_plain(c) { c } else { '-' }).collect()
    };
    let target = target.to_string();
    let first = sources.first().map(|source| source.name.as_str()).unwrap_or_default();
    let more = match sources.len() {
        0 | 1 => String::new(),
        several => format!("+{}", several - 1).replace('+', "-and-"),
    };
    let all: Vec<&str> =
        sources.iter().map(|source| source.name.as_str()).chain([target.as_str()]).collect();
    let digest = digest(&all.join("\n"));
    let digest = digest.get(..8).unwrap_or_default();
    format!("{}{more}-to-{}-{digest}", plain(first), plain(&target))
}

/// The name of a job, as it may be given.
pub(crate) fn parse_job(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if text.is_empty() || text.len() > 100 || !text.chars().all(is_plain) || text.starts_with('.') {
        return Err("a job's name has letters, digits, and . _ - (100 at the most)".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use understudy::plan::Rules;

    use super::*;

    fn source(text: &str) -> Source {
        let place = Place::parse(text).unwrap();
        Source { name: place.to_string(), place, rules: Rules::default() }
    }

    #[test]
    fn a_job_is_named_after_its_places() {
        let target = Place::parse("redis://new:6379").unwrap();
        let one = job_name(&[source("redis://old:6379/3")], &target);
        let other = job_name(&[source("redis://old:6379")], &target);
        assert_ne!(one, other);
        assert!(other.starts_with("old-6379-to-new-6379-"), "{other}");
        let two = job_name(&[source("redis://a:1"), source("redis://b:2")], &target);
        assert!(two.starts_with("a-1-and-1-to-new-6379-"), "{two}");
        for name in [one, other, two] {
            assert_eq!(parse_job(&name), Ok(name));
        }
        for bad in ["", "a b", "a:b", "../x", ".x", "a/b"] {
            assert!(parse_job(bad).is_err(), "{bad}");
        }
    }
}
