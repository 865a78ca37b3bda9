//! What a run would do, shown before anything is written.

use understudy::plan::{Address, Facts, Place, Plan, ServerFacts, Until};

use super::progress::{grouped, size};
use super::report::{as_f64, or_dash, table};
use super::terminal;

/// The plan as a table, on stdout, with what the servers say of themselves.
pub(crate) fn print(plan: &Plan, facts: &Facts) {
    let heads = ["source", "place", "server", "rules", "keys", "memory"];
    let mut sources = table(&heads, 4);
    for (index, source) in plan.sources.iter().enumerate() {
        let facts = facts.sources.get(index).and_then(Option::as_ref);
        let told = facts.filter(|facts| facts.server.is_some());
        sources.add_row([
            source.name.clone(),
            place(&source.place),
            or_dash(facts.and_then(|facts| facts.server).map(|server| server.to_string())),
            source.rules.to_string(),
            or_dash(told.map(|facts| grouped(facts.keys_in_all()))),
            or_dash(told.map(|facts| size(as_f64(facts.used_memory)))),
        ]);
    }
    if plan.sources.len() > 1 {
        let sum = |number: fn(&ServerFacts) -> u64| {
            facts.sources.iter().flatten().map(number).sum::<u64>()
        };
        sources.add_row([
            "total".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            grouped(sum(ServerFacts::keys_in_all)),
            size(as_f64(sum(|facts| facts.used_memory))),
        ]);
    }
    let mut run = table(&["", ""], 2);
    for (name, value) in settings(plan, facts) {
        run.add_row([name.to_owned(), value]);
    }
    let run = run.to_string();
    let run = run.split_once('\n').map_or("", |(_, rows)| rows);
    terminal::result(&format!("{sources}\n\n{run}\n"));
}

fn place(place: &Place) -> String {
    match place {
        Place::Server(server) => {
            let tls = if server.tls.is_some() { "s" } else { "" };
            match server.address {
                Address::Watched(_) => format!("redis{tls}-sentinel://{place}"),
                Address::Cluster(_) => format!("redis{tls}-cluster://{place}"),
                Address::Tcp { .. } | Address::Unix(_) if server.tls.is_some() => {
                    format!("rediss://{place}")
                }
                Address::Tcp { .. } | Address::Unix(_) => place.to_string(),
            }
        }
        _ => place.to_string(),
    }
}

/// What holds for all sources.
fn settings(plan: &Plan, facts: &Facts) -> Vec<(&'static str, String)> {
    let target = facts.target.as_ref();
    let holds = target.map_or_else(String::new, |target| {
        let server = target.server.map_or_else(String::new, |server| format!("{server}, "));
        format!(" ({server}{} keys)", grouped(target.keys_in_all()))
    });
    let until = match plan.until {
        Until::CaughtUp => "every source has been drained",
        Until::Forever => "it is told to stop",
    };
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
    let mut settings = vec![
        ("target", format!("{}{holds}", place(&plan.target))),
        ("until", until.to_owned()),
        ("memory", size(as_f64(plan.memory))),
        ("limit-rate", or_none(plan.limit_rate.map(|rate| rate.to_string()))),
        ("limit-read", or_none(plan.limit_read.map(|rate| format!("{}/s", size(as_f64(rate)))))),
    ];
    if matches!(plan.target, Place::Server(_)) {
        settings.push(("job", plan.job.name.clone()));
    }
    settings
}
