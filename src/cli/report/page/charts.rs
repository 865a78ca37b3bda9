//! Plots as SVG. A plot is as wide as the page: so its lines are drawn in units of their own and stretched, and what is written stands beside
//! it and not in it.

use maud::{Markup, html};

use super::super::tables::as_f64;
use crate::cli::progress::{grouped, span};

/// The units that a plot is drawn in, across and up.
const WIDE: f64 = 1000.0;
const HIGH: f64 = 100.0;

/// One line of a plot: a value for each stretch of time, `None` where none is known.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) values: &'a [Option<f64>],
}

/// What values are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The mean of a stretch of time: a step as long as it.
    Rate,
    /// The most of it, which is no sum.
    Level,
}

/// A plot with its axes and, of each line, its most and its mean.
pub(super) fn chart(
    title: &str,
    ends: &[f64],
    lines: &[Line<'_>],
    kind: Kind,
    unit: impl Fn(f64) -> String,
) -> Markup {
    let lines: Vec<&Line<'_>> =
        lines.iter().filter(|line| kind == Kind::Level || most(line.values) > 0.0).collect();
    let top = nice(lines.iter().map(|line| most(line.values)).fold(0.0, f64::max));
    let last = ends.last().copied().unwrap_or(0.0);
    html! {
        figure {
            figcaption { (title) }
            ul.legend {
                @for line in &lines {
                    li {
                        span class={ "dot " (line.class) } {}
                        (line.name) ": up to " (unit(most(line.values)))
                        @if kind == Kind::Rate { ", mean " (unit(mean(line.values, ends))) }
                    }
                }
            }
            div.plot {
                div.up aria-hidden="true" { span { (unit(top)) } span { @if top > 1.0 { (unit(top / 2.0)) } } span { "0" } }
                svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label=(title) {
                    path.grid d="M0 0H1000M0 50H1000M0 100H1000" {}
                    @for line in &lines {
                        @let drawn = drawn(line.values, ends, top);
                        path class={ "area " (line.class) } d=(drawn.area) {}
                        path class={ "line " (line.class) } d=(drawn.line) {}
                    }
                    @for (at, (x, width)) in spans(ends).enumerate() {
                        rect.hit x=(short(x)) y="0" width=(short(width)) height="100" {
                            title { (hint(at, ends, &lines, &unit)) }
                        }
                    }
                }
                div.along aria-hidden="true" {
                    span { "0" }
                    // Of a few seconds the parts would look alike.
                    @if last >= 4.0 { @for part in [0.25, 0.5, 0.75] { span { (span(last * part)) } } }
                    span { (span(last)) }
                }
            }
        }
    }
}

/// A small plot without axes.
pub(super) fn spark(ends: &[f64], values: &[Option<f64>], class: &str, told: &str) -> Markup {
    let drawn = drawn(values, ends, most(values).max(1.0));
    html! {
        div.spark {
            svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label=(told) {
                path class={ "area " (class) } d=(drawn.area) {}
                path class={ "line " (class) } d=(drawn.line) {}
            }
            p.aside { (told) }
        }
    }
}

/// What went on, each part up to its end, as a strip. `last` is the end of all.
pub(super) fn strip(parts: &[(f64, &str, String)], last: f64) -> Markup {
    let begins = [0.0].into_iter().chain(parts.iter().map(|(end, ..)| *end));
    html! {
        svg.strip viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="phases" {
            @for ((end, class, what), begin) in parts.iter().zip(begins) {
                rect class=(class) x=(short(along(begin, last))) y="0" width=(short(along(end - begin, last))) height="10" {
                    title { (what) ": " (span(begin)) " to " (span(*end)) }
                }
            }
        }
    }
}

/// What part each number has of their sum, as bars.
pub(super) fn shares(named: &[(&str, u64)], sum: u64) -> Markup {
    let most = named.iter().map(|(_, number)| *number).max().unwrap_or(1);
    html! {
        table.shares {
            tbody {
                @for (name, number) in named {
                    tr {
                        th scope="row" { (name) }
                        td.bar {
                            svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                                rect.s1 x="0" y="0" width=(short(WIDE * as_f64(*number) / as_f64(most))) height="10" {}
                            }
                        }
                        td.n { (grouped(*number)) }
                        td.n.aside { (format!("{:.1} %", 100.0 * as_f64(*number) / as_f64(sum))) }
                    }
                }
            }
        }
    }
}

/// A line, and the area below it.
struct Drawn {
    line: String,
    area: String,
}

/// Steps of the values; where one is not known there is a gap.
fn drawn(values: &[Option<f64>], ends: &[f64], top: f64) -> Drawn {
    let (mut line, mut area) = (String::new(), String::new());
    let mut before = None;
    for (value, (x, width)) in values.iter().zip(spans(ends)) {
        let end = short(x + width);
        if let Some(value) = value {
            let y = short(HIGH * (1.0 - (value / top).clamp(0.0, 1.0)));
            if before.is_none() {
                let begin = short(x);
                line.push_str(&format!("M{begin} {y}H{end}"));
                area.push_str(&format!("M{begin} 100V{y}H{end}"));
            } else {
                line.push_str(&format!("V{y}H{end}"));
                area.push_str(&format!("V{y}H{end}"));
            }
        } else if before.is_some() {
            area.push_str("V100");
        }
        before = value.map(drop);
    }
    if before.is_some() {
        area.push_str("V100");
    }
    Drawn { line, area }
}

/// Where each stretch of time begins in a plot, and how wide it is.
fn spans(ends: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    let last = ends.last().copied().unwrap_or(0.0);
    let begins = [0.0].into_iter().chain(ends.iter().copied());
    ends.iter().zip(begins).map(move |(end, begin)| (along(begin, last), along(end - begin, last)))
}

fn along(time: f64, last: f64) -> f64 {
    if last > 0.0 { WIDE * time / last } else { 0.0 }
}

/// What is shown of a stretch of time under the mouse.
fn hint(at: usize, ends: &[f64], lines: &[&Line<'_>], unit: impl Fn(f64) -> String) -> String {
    let begin = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0.0);
    let end = ends.get(at).copied().unwrap_or(begin);
    let mut hint = format!("{} to {}", span(begin), span(end));
    for line in lines {
        if let Some(Some(value)) = line.values.get(at) {
            hint.push_str(&format!("\n{} {}", line.name, unit(*value)));
        }
    }
    hint
}

fn most(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().copied().fold(0.0, f64::max)
}

/// The mean over the time of which something is known.
fn mean(values: &[Option<f64>], ends: &[f64]) -> f64 {
    let last = ends.last().copied().unwrap_or(0.0);
    let known = values
        .iter()
        .zip(spans(ends))
        .filter_map(|(value, (_, width))| Some((value.as_ref()?, width)));
    let (sum, wide) =
        known.fold((0.0, 0.0), |(sum, wide), (value, width)| (sum + value * width, wide + width));
    if last > 0.0 && wide > 0.0 { sum / wide } else { 0.0 }
}

/// The end of an axis: the least of 1, 2 and 5 times a power of ten that is not below.
fn nice(most: f64) -> f64 {
    let power = 10_f64.powf(most.max(1.0).log10().floor());
    let ends = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    ends.into_iter().find(|end| *end >= most).unwrap_or(most)
}

/// A number of a drawing, short.
fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_steps_and_has_gaps_where_nothing_is_known() {
        let values = [Some(0.0), Some(50.0), None, Some(100.0)];
        let Drawn { line, area } = drawn(&values, &[1.0, 2.0, 3.0, 4.0], 100.0);
        assert_eq!(line, "M0 100H250V50H500M750 0H1000");
        assert_eq!(area, "M0 100V100H250V50H500V100M750 100V0H1000V100");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 1.0, 3.0, 99.0, 180_000.0].map(nice), [1.0, 1.0, 5.0, 100.0, 200_000.0]);
    }

    #[test]
    fn a_mean_is_that_of_the_time_and_not_of_the_stretches() {
        assert_eq!(mean(&[Some(10.0), Some(40.0), None], &[1.0, 3.0, 8.0]), 30.0);
        assert_eq!(mean(&[], &[]), 0.0);
    }
}
