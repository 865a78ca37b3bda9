//! What went on over time: throughput and lag of all sources together, then each of them with its phases.

use std::time::Duration;

use maud::{Markup, html};
use understudy::progress::{Course, History, Stretch};

use super::super::document::{Document, Source};
use super::super::tables::as_f64;
use super::charts::{Kind, Line, chart, spark, strip};
use crate::cli::progress::{grouped, size, span};

/// What a lane may do, in the order of the legend, with the class of its colour.
const PHASES: [(&str, &str); 10] = [
    ("waiting", "p-idle"),
    ("connecting", "p-connect"),
    ("copying", "p-copy"),
    ("counting", "p-copy"),
    ("catching up", "p-catch"),
    ("following", "p-follow"),
    ("finishing", "p-finish"),
    ("waiting for source", "p-held"),
    ("waiting for target", "p-held"),
    ("paused", "p-held"),
];

/// See the module. Nothing of a run in which nothing went on.
pub(super) fn sections(document: &Document) -> Markup {
    let Some(history) = document.history.as_ref().filter(|history| !history.ends().is_empty())
    else {
        return html! {};
    };
    let times = Times::new(history);
    let all = total(history, document.sources.len());
    let keys = times.rates(&all, |one| one.keys);
    let commands = times.rates(&all, |one| one.commands);
    let bytes = times.rates(&all, |one| one.bytes);
    let lag: Vec<Option<f64>> = all.iter().map(|one| one.lag.map(as_f64)).collect();
    let whole = |number: f64| format!("{}/s", rounded(number));
    let sized = |number: f64| format!("{}/s", size(number));
    let ends = &times.ends;
    html! {
        section {
            h2 { "Over time" }
            p.aside { (steps(&times)) }
            @if any(&keys) || any(&commands) {
                (chart(work(document.command), ends, &[
                    Line { name: "keys", class: "s1", values: &keys },
                    Line { name: "commands", class: "s2", values: &commands },
                ], Kind::Rate, whole))
            }
            (chart("Read from the sources", ends, &[Line { name: "bytes", class: "s1", values: &bytes }], Kind::Rate, sized))
            @if lag.iter().any(Option::is_some) {
                (chart("Lag: written by the masters and not confirmed by the target, the most in each stretch", ends,
                    &[Line { name: "lag", class: "s3", values: &lag }], Kind::Level, size))
            }
        }
        section {
            h2 { "Phases" }
            (legend(history))
            div.lanes {
                @for (source, course) in document.sources.iter().zip(history.lanes()) {
                    (lane(source, course, &times, document.sources.len() > 1))
                }
            }
        }
    }
}

/// One source: its phases, and where there are others its throughput and its lag.
fn lane(source: &Source, course: &Course, times: &Times, has_plots: bool) -> Markup {
    let lasted = PHASES.iter().map(|(what, _)| (what, source.seconds.phases.get(what)));
    let seconds = lasted.filter_map(|(what, long)| Some(format!("{what} {}", span(*long?))));
    let seconds = seconds.collect::<Vec<String>>().join(", ");
    let mut parts: Vec<(f64, &str, String)> = Vec::new();
    let mut begun = 0.0;
    for (stretch, end) in course.stretches.iter().zip(&times.ends) {
        match parts.last_mut() {
            Some((until, _, what)) if *what == stretch.doing => *until = *end,
            _ => parts.push((*end, class(stretch.doing), stretch.doing.to_owned())),
        }
        begun = *end;
    }
    let work = times.rates(&course.stretches, |one| one.keys.saturating_add(one.commands));
    let lag: Vec<Option<f64>> = course.stretches.iter().map(|one| one.lag.map(as_f64)).collect();
    let most = |values: &[Option<f64>]| values.iter().flatten().copied().fold(0.0, f64::max);
    html! {
        div.lane {
            div.name { (source.name) }
            div.parts {
                (strip(&parts, begun))
                p.aside { (seconds) }
            }
            @if has_plots {
                (spark(&times.ends, &work, "s1", &format!("up to {}/s", rounded(most(&work)))))
                (spark(&times.ends, &lag, "s3", &format!("lag up to {}", size(most(&lag)))))
            }
        }
    }
}

/// What the colours mean that are there.
fn legend(history: &History) -> Markup {
    let is_there = |name: &str| {
        history.lanes().iter().flat_map(|course| &course.stretches).any(|one| one.doing == name)
    };
    html! {
        ul.legend {
            @for (name, class) in PHASES.into_iter().filter(|(name, _)| is_there(name)) {
                li { span class={ "dot " (class) } {} (name) }
            }
        }
    }
}

fn work(command: &str) -> &'static str {
    match command {
        "verify" => "Keys read to be compared",
        "census" => "Keys counted",
        _ => "Keys and commands confirmed by the target",
    }
}

fn class(doing: &str) -> &'static str {
    PHASES.iter().find(|(name, _)| *name == doing).map_or("p-end", |(_, class)| class)
}

fn any(values: &[Option<f64>]) -> bool {
    values.iter().flatten().any(|value| *value > 0.0)
}

fn steps(times: &Times) -> String {
    let longest = times.lengths.iter().copied().fold(0.0, f64::max);
    format!(
        "{} in stretches of up to {}",
        span(times.ends.last().copied().unwrap_or(0.0)),
        span(longest)
    )
}

/// All sources together. What is behind them is no source: a target that is read.
fn total(history: &History, sources: usize) -> Vec<Stretch> {
    let mut all = vec![Stretch::default(); history.ends().len()];
    for course in history.lanes().iter().take(sources) {
        for (sum, one) in all.iter_mut().zip(&course.stretches) {
            sum.keys = sum.keys.saturating_add(one.keys);
            sum.commands = sum.commands.saturating_add(one.commands);
            sum.bytes = sum.bytes.saturating_add(one.bytes);
            sum.lag = match (sum.lag, one.lag) {
                (Some(sum), Some(lag)) => Some(sum.saturating_add(lag)),
                (sum, lag) => sum.or(lag),
            };
        }
    }
    all
}

/// When stretches ended, and how long they lasted, in seconds.
struct Times {
    ends: Vec<f64>,
    lengths: Vec<f64>,
}

impl Times {
    fn new(history: &History) -> Self {
        let ends: Vec<f64> = history.ends().iter().map(Duration::as_secs_f64).collect();
        let begins = [0.0].into_iter().chain(ends.iter().copied());
        let lengths = ends.iter().zip(begins).map(|(end, begin)| end - begin).collect();
        Self { ends, lengths }
    }

    fn rates(&self, stretches: &[Stretch], number: fn(&Stretch) -> u64) -> Vec<Option<f64>> {
        let stretches = stretches.iter().zip(&self.lengths);
        stretches
            .map(|(one, length)| (*length > 0.0).then(|| as_f64(number(one)) / length))
            .collect()
    }
}

/// A whole number with its thousands apart.
fn rounded(number: f64) -> String {
    // Whole seconds carry any number that fits on a page, without a cast.
    Duration::try_from_secs_f64(number + 0.5)
        .map_or_else(|_| "–".to_owned(), |whole| grouped(whole.as_secs()))
}
