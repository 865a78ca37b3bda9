//! What `check` looks at beyond what every run does. Nothing of it changes anything: it asks, and what it calls is refused or touches no key.

mod asked;
mod raw;
mod rights;
mod sample;
mod speed;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::net::{Control, Net, own_certificates};
use crate::plan::check::{NoAnswer, Seen, Sight};
use crate::plan::{Facts, Finding, Kind, Place, Plan, ServerFacts, ServerPlace, Side, Source};

use super::{Unreachable, look_at, look_at_target, look_for_psync, look_here, parts};

/// How many sources are looked at together.
const AT_ONCE: usize = 16;

/// Looks at all places of a plan. One that cannot be reached hinders no other. The plan that is given back has a source for each master of every
/// cluster.
pub async fn inspect(net: &Net, plan: &Plan) -> (Plan, Facts, Sight) {
    let mut sight = Sight { now: net.clock().unix_ms() / 1000, ..Sight::default() };
    let mut facts = Facts::default();
    let mut sources = Vec::new();
    for (part, told) in at_once(plan.sources.clone(), |source| {
        let (net, plan) = (net.clone(), plan.clone());
        async move { look_into(&net, &plan, source).await }
    })
    .await
    .into_iter()
    .flatten()
    {
        sources.push(part);
        match told {
            Ok(told) => facts.sources.push(told),
            Err(lost) => {
                facts.sources.push(None);
                sight.unreachable.push(finding(&lost));
            }
        }
    }
    let plan = Plan { sources, ..plan.clone() };
    if let Err(lost) = look_at_target(net, &plan, &mut facts).await {
        sight.unreachable.push(finding(&lost));
        facts.target = None;
    }
    look_here(&plan, &mut facts);
    // Only now: what is sent to see how much goes through counts as written to a server, and several places may be one.
    let pairs = plan.sources.iter().cloned().zip(facts.sources.iter().cloned()).collect();
    sight.sources = at_once(pairs, |(source, facts): (Source, Option<ServerFacts>)| {
        let net = net.clone();
        async move {
            match (&source.place, facts) {
                (Place::Server(server), Some(facts)) => {
                    Some(see(&net, server, Some(&source), &facts).await)
                }
                _ => None,
            }
        }
    })
    .await;
    for (facts, seen) in facts.sources.iter_mut().zip(&sight.sources) {
        if let (Some(facts), Some(seen)) = (facts, seen) {
            facts.link_rate = seen.rate;
        }
    }
    if let (Place::Server(server), Some(its)) = (&plan.target, &facts.target) {
        sight.target = Some(see(net, server, None, its).await);
    }
    (plan, facts, sight)
}

/// Does the same with all of them, some at a time; what comes of it is in their order.
async fn at_once<I, O, F>(items: Vec<I>, work: impl Fn(I) -> F) -> Vec<O>
where
    O: Send + 'static,
    F: Future<Output = O> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut works = JoinSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let (turns, work) = (Arc::clone(&turns), work(item));
        works.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (index, work.await)
        });
    }
    let mut done = works.join_all().await;
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, out)| out).collect()
}

/// What a source is, or each master of the cluster that it is.
async fn look_into(
    net: &Net,
    plan: &Plan,
    source: Source,
) -> Vec<(Source, Result<Option<ServerFacts>, Unreachable>)> {
    let parts = match parts(net, &source).await {
        Ok(parts) => parts,
        Err(lost) => return vec![(source, Err(lost))],
    };
    let mut all = Vec::with_capacity(parts.len());
    for source in parts {
        let mut told = look_at(net, &source.place, &source.name, Side::Source, None).await;
        if let Ok(facts) = &mut told {
            look_for_psync(net, plan, &source, facts).await;
        }
        all.push((source, told));
    }
    all
}

/// A place that does not answer, as what was found of it.
fn finding(lost: &Unreachable) -> Finding {
    let mut words = lost.source.to_string();
    let mut cause = std::error::Error::source(&lost.source);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    Finding::blocks(Kind::Unreachable, &lost.place, words, lost.advice())
}

/// Looks at a server; with a source, at one that is read.
async fn see(net: &Net, place: &ServerPlace, source: Option<&Source>, facts: &ServerFacts) -> Seen {
    let mut seen = Seen {
        user: place.credentials.as_ref().and_then(|who| who.user.clone()),
        unverified: place.tls.as_ref().is_some_and(|tls| tls.insecure),
        ..Seen::default()
    };
    speed::look(net, place, source.is_some(), &mut seen).await;
    if let Some(identity) = place.tls.as_ref().and_then(|tls| tls.identity.as_ref()) {
        // TLS itself has read that file before.
        seen.certificates.extend(own_certificates(identity).unwrap_or_default());
    }
    let mut control = match Control::open(net, place).await {
        Ok(control) => control,
        Err(error) => {
            seen.no_answer.push(NoAnswer {
                question: "connecting",
                unknown: "all but what stands above".to_owned(),
                text: error.to_string(),
                right: "",
            });
            return seen;
        }
    };
    asked::look(&mut control, source.is_some(), &mut seen).await;
    if facts.sentinel {
        return seen;
    }
    match source {
        Some(source) => {
            rights::look_at_source(net, place, &mut control, &mut seen).await;
            sample::look(net.clock(), &mut control, source, facts, &mut seen).await;
        }
        None => rights::look_at_target(&mut control, &mut seen).await,
    }
    seen
}
