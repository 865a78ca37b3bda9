//! The final report: as tables, as JSON, and as a page for a change ticket.

mod digest;
mod document;
mod page;
mod switched;
mod tables;

use std::ffi::OsStr;
use std::fs;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use understudy::flow::{Ended, Report, SourceReport};
use understudy::plan::{Facts, Finding, Plan, ServerFacts};
use understudy::progress::History;

pub(super) use document::{Document, Section, text};
pub(super) use switched::{fields as verdict, section as of_cutover};
pub(super) use tables::{as_f64, or_dash, print_tables, print_target, servers, table};

use super::notice;
use super::outcome::{Outcome, refused};
use super::progress::Mode;

/// What a report tells of.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) run: &'a Report,
    pub(crate) plan: &'a Plan,
    pub(crate) facts: &'a Facts,
    /// What stood in the way.
    pub(crate) findings: &'a [Finding],
    /// Keys in the target at the end, if it tells.
    pub(crate) keys_after: Option<u64>,
    /// How a census has ended, and what it has found; `None` if there was none.
    pub(crate) census: Option<(Ended, Value)>,
    /// What went on over time; `None` if nothing did.
    pub(crate) history: Option<&'a History>,
}

/// The files that a report is written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    command: &'static str,
    paths: &'a [PathBuf],
    mode: Mode,
}

impl<'a> Files<'a> {
    /// These, of a run of this command. Where no progress is shown their digests are not told either.
    pub(crate) fn new(command: &'static str, paths: &'a [PathBuf], mode: Mode) -> Self {
        Self { command, paths, mode }
    }

    /// How progress is shown.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// What is told of a run that ends now.
    pub(super) fn document(&self, told: &Told<'_>) -> Document {
        let mut now = String::new();
        // Without a time the report is as true.
        let _ = SystemTime.format_time(&mut Writer::new(&mut now));
        let whole =
            now.split_once('.').map_or_else(|| now.clone(), |(whole, _)| format!("{whole}Z"));
        Document::new(self.command, told, whole)
    }

    /// Sees that they can be written before there is something to report. What an earlier run has left stays until then.
    pub(super) fn check(&self) -> Result<(), Outcome> {
        for path in self.paths {
            if let Err(error) = OpenOptions::new().create(true).append(true).open(path) {
                let text = format!("--report: cannot write {}: {error}", path.display());
                return Err(refused(&text, "give a path that this user may write"));
            }
        }
        Ok(())
    }

    /// Writes the report to each, and tells the digests: what a file says of itself proves nothing to somebody who has got it from others.
    pub(super) fn write(&self, document: &Document) -> Result<(), ()> {
        let mut written = Ok(());
        for path in self.paths {
            let (text, digest) = match is_page(path) {
                true => digest::of_page(&page::page(document)),
                false => digest::of_json(&document.json()),
            };
            match fs::write(path, text) {
                Ok(()) if self.mode != Mode::None => {
                    notice::note(&format!("report: {}, sha256 {digest}", path.display()));
                }
                Ok(()) => {}
                Err(error) => {
                    notice::error(
                        &format!("cannot write the report to {}: {error}", path.display()),
                        "the run itself ended as the table above says; make room and take its numbers from there",
                    );
                    written = Err(());
                }
            }
        }
        written
    }

    /// The same behind a run that ended so: one that is not told of has failed.
    pub(super) fn close(&self, document: &Document, ended: Ended) -> Outcome {
        match (ended, self.write(document)) {
            (Ended::Done | Ended::Differences, Err(())) => Outcome::Failed,
            (ended, _) => ended.into(),
        }
    }
}

fn is_page(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| ["html", "htm"].contains(&ending.to_ascii_lowercase().as_str()))
}

/// Ends a run that has written nothing.
pub(super) fn nothing_done(
    files: Files<'_>,
    plan: &Plan,
    facts: &Facts,
    ended: Ended,
    findings: &[Finding],
) -> Outcome {
    let sources = plan
        .sources
        .iter()
        .map(|source| SourceReport { ended, ..SourceReport::new(source.name.clone()) });
    let run = Report { sources: sources.collect(), seconds: 0.0 };
    let keys_after = facts.target.as_ref().map(ServerFacts::keys_in_all);
    let told = Told { run: &run, plan, facts, findings, keys_after, census: None, history: None };
    // Nothing was done, and that is said: a report that cannot be written changes nothing about it.
    let _ = Files { mode: Mode::None, ..files }.write(&files.document(&told));
    ended.into()
}
