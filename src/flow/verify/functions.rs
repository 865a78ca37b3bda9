//! Libraries of functions, compared: they are few, and are asked for as they are now.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, Place, Plan, ServerFacts};
use crate::server::Version;
use crate::verify::Kind;

use super::super::library::libraries;
use super::super::reading::Outcome;
use super::noting::Noting;

/// How a library differs, and its code on the source, if it has one there.
#[derive(Clone, Debug)]
pub(super) struct Differs {
    pub(super) kind: Kind,
    pub(super) expected: Option<Vec<u8>>,
}

type Libraries = BTreeMap<Vec<u8>, Vec<u8>>;

/// How often they are looked at until they are told to differ, and how long is waited in between.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Those that differ, by name, each with what it should be.
///
/// # Errors
/// If a server does not tell.
pub(super) async fn differing(
    net: &Net,
    (plan, facts): (&Plan, &Facts),
    read: &[Option<Outcome<Noting>>],
) -> Result<BTreeMap<Vec<u8>, Differs>, ControlError> {
    let mut differ = BTreeMap::new();
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        let mut expected = Libraries::new();
        for (index, source) in plan.sources.iter().enumerate() {
            let there = held(net, &source.place, facts.sources.get(index), read.get(index)).await?;
            // Those of the first source that has one of this name.
            for (name, code) in there {
                expected.entry(name).or_insert(code);
            }
        }
        let target = held(net, &plan.target, Some(&facts.target), read.get(plan.sources.len()));
        let found = target.await?;
        differ = compared(&expected, &found);
        if differ.is_empty() {
            break;
        }
    }
    Ok(differ)
}

/// What a server has now, and what a file had when it was read.
async fn held(
    net: &Net,
    place: &Place,
    facts: Option<&Option<ServerFacts>>,
    read: Option<&Option<Outcome<Noting>>>,
) -> Result<Libraries, ControlError> {
    let server = facts.and_then(Option::as_ref).and_then(|facts| facts.server);
    match place {
        Place::Server(place) if server.is_some_and(|it| it.as_redis() >= Version(7, 0, 0)) => {
            libraries(&mut Control::open(net, place).await?).await
        }
        Place::Server(_) => Ok(Libraries::new()),
        Place::Rdb(_) | Place::Capture(_) => {
            let read = read.and_then(Option::as_ref);
            Ok(read.map_or_else(Libraries::new, |read| read.taken.functions.clone()))
        }
    }
}

fn compared(expected: &Libraries, found: &Libraries) -> BTreeMap<Vec<u8>, Differs> {
    let mut differ = BTreeMap::new();
    for name in expected.keys().chain(found.keys()) {
        let kind = match (expected.get(name), found.get(name)) {
            (Some(one), Some(other)) if one == other => continue,
            (Some(_), Some(_)) => Kind::Value,
            (Some(_), None) => Kind::Missing,
            (None, _) => Kind::Extra,
        };
        differ.insert(name.clone(), Differs { kind, expected: expected.get(name).cloned() });
    }
    differ
}
