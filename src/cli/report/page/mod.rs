//! The report as one page for a change ticket: no script, nothing from elsewhere, light and dark, on paper too.
//!
//! Every text of it goes through [`maud`], which leaves nothing of HTML in what comes from outside.

mod charts;
mod over_time;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use understudy::flow::Ended;
use understudy::key::Escaped;
use understudy::progress::TYPES;

use super::digest;
use super::document::{Conflict, Document, Found, Section, Source};
use super::tables::as_f64;
use crate::cli::progress::{grouped, size, span};

const STYLE: &str = include_str!("page.css");

/// See the module.
pub(super) fn page(document: &Document) -> String {
    let title = format!("{} of job {}", document.command, document.job);
    let page = html! {
        (DOCTYPE) "\n"
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "understudy " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(document))
                    (trouble(document))
                    // Where nothing was done they are all nothing.
                    @if document.outcome != Ended::Refused { (numbers(document)) }
                    @for section in &document.sections { (told(section)) }
                    (over_time::sections(document))
                    (types(&document.sources))
                    (sources(&document.sources))
                    (conflicts(&document.conflicts))
                }
                footer {
                    p { "Written by " (document.tool) ". The digest below is the SHA-256 of this page without the digest's own line:" }
                    p { code { "grep -v '^<p id=\"digest\">' FILE | sha256sum" } }
                    (PreEscaped(digest::PLACE))
                }
            }
        }
        "\n"
    };
    page.into_string()
}

fn head(document: &Document) -> Markup {
    let target = &document.target;
    html! {
        header {
            p.kind { "understudy " (document.command) }
            h1 {
                (word(document.outcome)) " "
                span.meaning { (meaning(document)) }
            }
            dl.about {
                div { dt { "job" } dd { (document.job) } }
                div { dt { "ended" } dd { (document.ended_at.replace('T', " ").replace('Z', " UTC")) } }
                div { dt { "after" } dd { (span(document.seconds)) } }
                div {
                    dt { "from" }
                    dd {
                        @match document.sources.as_slice() {
                            [source] => { (source.name) (of_server(source.server.as_ref(), source.tls)) }
                            sources => { (sources.len()) " sources" }
                        }
                    }
                }
                div { dt { "to" } dd { (target.name) (of_server(target.server.as_ref(), target.tls)) } }
            }
        }
    }
}

/// How something ended, as a mark that is no colour alone.
fn word(ended: Ended) -> Markup {
    let (class, text) = match ended {
        Ended::Done => ("good", "done"),
        Ended::Differences => ("odd", "differences"),
        Ended::Refused => ("odd", "refused"),
        Ended::Failed => ("bad", "failed"),
        Ended::Stopped => ("odd", "stopped"),
    };
    html! { span class={ "word " (class) } { (text) } }
}

fn meaning(document: &Document) -> &'static str {
    match (document.outcome, document.command) {
        (Ended::Done, "verify") => "of what was compared nothing differs",
        (Ended::Done, _) => "everything that was asked for was done",
        (Ended::Differences, "verify") => "keys differ, or of some nobody can tell",
        (Ended::Differences, _) => "done, and something was left out or could not be proven",
        (Ended::Refused, _) => "nothing was written",
        (Ended::Failed, _) => "it broke off",
        (Ended::Stopped, _) => "it was told to stop; the same command goes on",
    }
}

fn of_server(server: Option<&String>, tls: Option<&str>) -> Markup {
    html! {
        @if let Some(server) = server { " " span.aside { (server) } }
        @if let Some(tls) = tls { " " span.aside { "TLS, " (tls) } }
    }
}

/// What went wrong or stood in the way.
fn trouble(document: &Document) -> Markup {
    let failed: Vec<(&Source, &String)> =
        document.sources.iter().filter_map(|one| Some((one, one.failure.as_ref()?))).collect();
    html! {
        @if !document.findings.is_empty() || !failed.is_empty() {
            section.trouble {
                h2 { "What went wrong" }
                ul {
                    @for Found { place, evidence, mend } in &document.findings {
                        li { strong { (place) } ": " (evidence) br; span.aside { (mend) } }
                    }
                    @for (source, failure) in failed {
                        li { strong { (source.name) } ": " (failure) }
                    }
                }
            }
        }
    }
}

/// The numbers that matter most.
fn numbers(document: &Document) -> Markup {
    let all = &document.sources;
    let sum = |number: fn(&Source) -> u64| all.iter().map(number).sum::<u64>();
    let lag = all.iter().map(|one| one.lag_bytes).sum::<Option<u64>>();
    let target = |keys: Option<u64>| keys.map_or_else(|| "unknown".to_owned(), grouped);
    let (before, after) = (document.target.keys_before, document.target.keys_after);
    let held_back = all.iter().map(|one| one.deadlines_held_back).sum::<Option<u64>>();
    let is_sync = document.command == "sync";
    let of_keys = match document.command {
        "verify" => "of the sources, compared",
        "census" => "of the sources, counted",
        _ => "of the copy, confirmed",
    };
    html! {
        section {
            h2.unseen { "In numbers" }
            dl.tiles {
                (tile("keys", &grouped(document.totals.keys), of_keys))
                @if is_sync {
                    (tile("commands", &grouped(document.totals.commands), "of the stream, confirmed"))
                }
                (tile("read", &size(as_f64(document.totals.bytes)), "from the sources"))
                @if is_sync {
                    (tile("lag at the end", &lag.map_or_else(|| "unknown".to_owned(), |lag| size(as_f64(lag))), "not confirmed"))
                }
                @if is_sync {
                    (tile("keys in the target", &format!("{} → {}", target(before), target(after)), "before and after"))
                } @else {
                    (tile("keys in the target", &target(after), "in all its databases"))
                }
                @if is_sync {
                    (tile("not proven", &grouped(sum(|one| one.unproven)), "to be as on the source"))
                    (tile("skipped", &grouped(sum(|one| one.skipped.values().sum())), "commands that are no data"))
                }
                (tile("left out", &grouped(sum(|one| one.filtered.values().sum())), "by the rules"))
                @if held_back != Some(0) {
                    (tile("deadlines held back", &target(held_back), "until the job ends"))
                }
            }
        }
    }
}

fn tile(name: &str, number: &str, of: &str) -> Markup {
    html! { div { dt { (name) } dd { (number) } dd.aside { (of) } } }
}

/// What only one command tells.
fn told(section: &Section) -> Markup {
    let (is_well, verdict) = &section.verdict;
    html! {
        section {
            h2 { (section.title) }
            p.verdict { span class={ "word " (if *is_well { "good" } else { "bad" }) } { (verdict) } }
            dl.facts {
                @for (name, fact) in &section.facts { div { dt { (name) } dd { (fact) } } }
            }
            @if !section.rows.is_empty() {
                h3 { (section.about_rows) }
                (grid(&section.heads, &section.rows, section.heads.len()))
            }
        }
    }
}

/// A table whose columns from this one on hold numbers.
fn grid(heads: &[&str], rows: &[Vec<String>], numbers: usize) -> Markup {
    let class = |at: usize| (at >= numbers).then_some("n");
    html! {
        div.wide {
            table {
                thead { tr { @for (at, head) in heads.iter().enumerate() { th scope="col" class=[class(at)] { (head) } } } }
                tbody {
                    @for row in rows {
                        tr { @for (at, cell) in row.iter().enumerate() { td class=[class(at)] { (cell) } } }
                    }
                }
            }
        }
    }
}

/// Keys by type: of all, and of each source where there are several.
fn types(sources: &[Source]) -> Markup {
    let of = |one: &Source, name: &str| one.types.get(name).copied().unwrap_or(0);
    let all = TYPES.map(|name| (name, sources.iter().map(|one| of(one, name)).sum::<u64>()));
    let mut there: Vec<(&str, u64)> = all.into_iter().filter(|(_, keys)| *keys > 0).collect();
    there.sort_by_key(|(_, keys)| std::cmp::Reverse(*keys));
    let sum = there.iter().map(|(_, keys)| keys).sum::<u64>();
    let heads: Vec<&str> =
        ["source"].into_iter().chain(there.iter().map(|(name, _)| *name)).collect();
    let row = |one: &Source| {
        let numbers = there.iter().map(|(name, _)| grouped(of(one, name)));
        [one.name.clone()].into_iter().chain(numbers).collect::<Vec<String>>()
    };
    html! {
        @if sum > 0 {
            section {
                h2 { "Keys by type" }
                p.aside { "Keys of the copy that the rules choose." }
                (charts::shares(&there, sum))
                @if sources.len() > 1 {
                    details {
                        summary { "By source" }
                        (grid(&heads, &sources.iter().map(row).collect::<Vec<_>>(), 1))
                    }
                }
            }
        }
    }
}

/// The table of sources, as on the terminal.
fn sources(sources: &[Source]) -> Markup {
    const HEADS: [&str; 15] = [
        "source",
        "server",
        "method",
        "keys",
        "commands",
        "read",
        "syncs",
        "conflicts",
        "left out",
        "expired",
        "skipped",
        "not proven",
        "lag",
        "copy s",
        "stream s",
    ];
    let dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let row = |one: &Source| {
        let seconds = |seconds: Option<f64>| dash(seconds.map(|seconds| format!("{seconds:.2}")));
        vec![
            one.name.clone(),
            dash(one.server.clone()),
            one.method.to_owned(),
            grouped(one.keys),
            grouped(one.commands),
            size(as_f64(one.bytes)),
            format!("{}+{}", one.full_syncs, one.partial_syncs),
            dash(one.conflicts.map(grouped)),
            grouped(one.filtered.values().sum()),
            grouped(one.expired.values().sum()),
            grouped(one.skipped.values().sum()),
            grouped(one.unproven),
            dash(one.lag_bytes.map(|lag| size(as_f64(lag)))),
            seconds(one.seconds.copy),
            seconds(one.seconds.stream),
        ]
    };
    let reasons = |one: &Source| {
        let filtered = one
            .filtered
            .iter()
            .map(|(why, count)| format!("{} {} left out", grouped(*count), why.replace('_', " ")));
        let skipped =
            one.skipped.iter().map(|(name, count)| format!("{} {name} skipped", grouped(*count)));
        filtered.chain(skipped).collect::<Vec<String>>().join(", ")
    };
    let why: Vec<Vec<String>> = sources
        .iter()
        .map(|one| vec![one.name.clone(), reasons(one)])
        .filter(|row| row.iter().all(|cell| !cell.is_empty()))
        .collect();
    html! {
        section {
            h2 { "Sources" }
            p.aside { "Syncs: full ones, and those that went on. Lag: “–” where nobody can know." }
            div.wide {
                table {
                    thead {
                        tr {
                            th scope="col" { "outcome" }
                            @for (at, head) in HEADS.iter().enumerate() { th scope="col" class=[(at > 2).then_some("n")] { (head) } }
                        }
                    }
                    tbody {
                        @for one in sources {
                            tr {
                                td { (word(one.outcome)) }
                                @for (at, cell) in row(one).iter().enumerate() {
                                    td class=[(at > 2).then_some("n")] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
            @if !why.is_empty() {
                h3 { "Left out and skipped, by reason" }
                (grid(&["source", "what"], &why, 2))
            }
        }
    }
}

/// Keys that were there already.
fn conflicts(conflicts: &[Conflict]) -> Markup {
    let row = |one: &Conflict| {
        vec![one.source.clone(), one.db.to_string(), Escaped(&one.key).to_string()]
    };
    html! {
        @if !conflicts.is_empty() {
            section {
                h2 { "Keys that were there already" }
                p.aside { "The first hundred, by their names in the target." }
                (grid(&["source", "db", "key"], &conflicts.iter().map(row).collect::<Vec<_>>(), 3))
            }
        }
    }
}

#[cfg(test)]
mod tests;
