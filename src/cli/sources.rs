//! The sources and the target of a run, from what was typed and what a file says.

use std::fs;

use understudy::plan::{Place, Source};

use super::args::{Sync, Writing};
use super::config::{Config, Endpoint};
use super::places::{Way, check_ssh};
use super::refusal::{Refusal, refuse};
use super::rules::RuleTexts;

/// All sources, and the target. What was typed goes before what the file says; sources that were typed take the place of those of the
/// file.
pub(crate) fn of(args: &Sync, config: &Config) -> Result<(Vec<Source>, Place), Refusal> {
    let Writing { to_tls, to_ssh, ssh, .. } = &args.writing;
    let from = Way::from(&args.from_tls, &args.from_ssh, ssh);
    let to = Way::to(to_tls, to_ssh, ssh);
    let target = target(args, config, &to)?;
    let typed = args.writing.rules.texts();
    let mut sources: Vec<Source> = Vec::new();
    if args.places.from.is_empty() {
        for endpoint in &config.sources {
            add(&mut sources, of_file(endpoint, &from, &typed, &target)?, "[[source]]")?;
        }
    }
    for text in &args.places.from {
        let place = from.place(text)?;
        let name = place.to_string();
        add(
            &mut sources,
            Source { rules: rules(&typed, &place, &target)?, name, place },
            "--from",
        )?;
    }
    if sources.is_empty() {
        return refuse(
            "no source is given".to_owned(),
            "give --from URL, or a [[source]] with its url in the file of --config",
        );
    }
    if sources.iter().any(|source| is_same(&source.place, &target)) {
        let text = format!("{target} is source and target at once");
        return refuse(text, "give another place as --to");
    }
    let servers = sources.iter().map(|source| &source.place).chain([&target]);
    check_ssh(ssh, servers)?;
    from.check_use(sources.iter().map(|source| &source.place))?;
    to.check_use([&target])?;
    Ok((sources, target))
}

fn target(args: &Sync, config: &Config, to: &Way) -> Result<Place, Refusal> {
    match (&args.places.to, &config.target) {
        (Some(text), _) => to.place(text),
        (None, Some(Endpoint { url: Some(url), access, .. })) => {
            to.of_file(url, access)?.place(&url.value)
        }
        (None, _) => refuse(
            "no target is given".to_owned(),
            "give --to URL, or a [target] with its url in the file of --config",
        ),
    }
}

fn of_file(
    endpoint: &Endpoint,
    from: &Way,
    typed: &RuleTexts,
    target: &Place,
) -> Result<Source, Refusal> {
    let Some(url) = &endpoint.url else {
        return refuse("a source has no url".to_owned(), "add it");
    };
    let place = from.of_file(url, &endpoint.access)?.place(&url.value)?;
    let rules = rules(&typed.clone().or(&endpoint.rules), &place, target)?;
    let name = match &endpoint.name {
        Some(name) if name.value.is_empty() || name.value.contains(char::is_control) => {
            return refuse(
                format!("{}: {:?} is no name", name.at, name.value),
                "give letters and digits, or leave it out",
            );
        }
        Some(name) => name.value.clone(),
        None => place.to_string(),
    };
    Ok(Source { name, place, rules })
}

fn rules(
    texts: &RuleTexts,
    place: &Place,
    target: &Place,
) -> Result<understudy::plan::Rules, Refusal> {
    texts
        .of(place, target)
        .map_err(|what| Refusal { what, mend: "see understudy sync --help".into() })
}

/// Adds a source. Each has a name of its own, under which its position stands.
fn add(sources: &mut Vec<Source>, source: Source, at: &str) -> Result<(), Refusal> {
    let name = &source.name;
    if sources.iter().any(|one| one.place.to_string() == source.place.to_string()) {
        return refuse(
            format!("{at} {}: this source is given twice", source.place),
            "give it once",
        );
    }
    if sources.iter().any(|one| one.name == *name) {
        return refuse(format!("{at}: two sources are called {name}"), "give each its own name");
    }
    sources.push(source);
    Ok(())
}

/// Whether both are one place by their names; that a server has two of them is found when it is asked.
fn is_same(one: &Place, other: &Place) -> bool {
    let path = |place: &Place| match place {
        Place::Server(_) => None,
        Place::Rdb(path) | Place::Capture(path) => fs::canonicalize(path).ok(),
    };
    one.to_string() == other.to_string() || path(one).is_some_and(|one| path(other) == Some(one))
}
