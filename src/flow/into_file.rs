//! Sources into an RDB file: each as it is where its copy begins, one after the other.
//!
//! ```text
//!  take the place ──▶ source ──▶ source ──▶ … ──▶ sum, fsync, name
//!                       │ a record: left out, as it stands, or anew
//!                       └─▶ laid aside and fetched back, if it is large and written anew
//! ```
//!
//! One source is read at a time, so that memory and links do not grow with their number; a database that two of them have is
//! selected twice in the file. Two records of one key are not possible in a file that a server is to load, and what is
//! written cannot be taken back: it is that of the first source that has the key.

mod sheet;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{Instrument, info, warn};

use crate::change::{FileCopyError, NameError};
use crate::key::{Db, Escaped};
use crate::net::{Clock, Net};
use crate::plan::{Facts, OnConflict, Place, Plan};
use crate::progress::{Awaited, Counters, Phase};
use crate::rdb::event::Event as RdbEvent;
use crate::rdb::support::Unsupported;
use crate::rdb::writer::Writer;
use crate::repl::{Event, Method, Remark};
use crate::server::Server;
use crate::source::{Source, SourceError, Wants};
use crate::target::{FileError, RdbPlace, RdbTarget};

use super::Orders;
use super::lane::chain;
use super::order::stop_requested;
use super::remedy::{patience, pause};
use super::report::{Ended, SourceReport};
use super::throttle::Throttle;
use super::upstream::{Limits, Upstream};
use sheet::{Next, Origin, Sheet, age};

/// Why a file was not made.
#[derive(Debug, thiserror::Error)]
enum IntoFileError {
    #[error("source")]
    Source(#[from] SourceError),
    #[error("the copy was cut off: {0}")]
    CopyCut(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("this server has no such files")]
    Reader(#[source] Unsupported),
    #[error(transparent)]
    Record(#[from] FileCopyError),
    #[error("function library {}", Escaped(name))]
    Function {
        name: Vec<u8>,
        #[source]
        source: Unsupported,
    },
    #[error("db {db}: key {} was in {first} too", Escaped(key))]
    Collision { db: Db, key: Vec<u8>, first: String },
    #[error("function library {} was in {first} too, and is another there", Escaped(name))]
    FunctionCollision { name: Vec<u8>, first: String },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{keys} keys have been merged, and more do not fit into --memory")]
    Memory { keys: usize },
}

impl IntoFileError {
    fn advice(&self) -> &'static str {
        match self {
            Self::Source(error) => error.advice(),
            Self::CopyCut(_) => {
                "start again: a file holds its sources whole (a larger client-output-buffer-limit for replicas on the master keeps a slow copy alive)"
            }
            Self::File(error) => error.advice(),
            Self::Reader(_) => "give a later server with --for",
            Self::Record(_) | Self::Function { .. } => {
                "name the server that shall read the file with --for, in a version that has this, or leave it out at the source"
            }
            Self::Collision { .. } | Self::FunctionCollision { .. } => {
                "with --on-conflict keep or replace it is what the first of the sources has; or leave it out of one of them, or give one of them a --prefix"
            }
            Self::Name(_) => {
                "give --rename a text that keeps what tells keys apart, or leave one of them out with --exclude; where the names are too many raise --memory, or use --prefix, which needs to remember none"
            }
            Self::Memory { .. } => {
                "what tells keys of several sources apart takes up 20 to 40 bytes a key, in half of --memory: give more, or merge fewer at once"
            }
        }
    }
}

/// Makes the file, and gives each source's report. Counts as the lanes do.
pub(super) async fn run(
    net: &Net,
    plan: &Plan,
    facts: &Facts,
    path: &Path,
    counters: &[Arc<Counters>],
    stop: &Orders,
) -> Vec<SourceReport> {
    let mut reports: Vec<SourceReport> =
        plan.sources.iter().map(|source| SourceReport::new(source.name.clone())).collect();
    let mut run = Run {
        net,
        plan,
        counters,
        stop: stop.clone(),
        at: 0,
        begun: false,
        throttle: Throttle::new(plan),
    };
    let ended = run.play(facts, path, &mut reports).await;
    let outcome = ended.as_ref().map_or(Ended::Refused, |&ended| ended);
    for (report, counters) in reports.iter_mut().zip(counters) {
        report.numbers = counters.snapshot();
        report.ended = outcome;
        if outcome != Ended::Done {
            // There is no file, and so no key is in it.
            report.numbers.keys = 0;
        }
    }
    if let (Err(error), Some(report)) = (ended, reports.get_mut(run.at)) {
        report.failure = Some((chain(&error), error.advice().to_owned()));
        let damage = matches!(&error, IntoFileError::Source(error) if error.is_damage());
        let failed = run.begun || damage;
        report.ended = if failed { Ended::Failed } else { Ended::Refused };
    }
    for (report, counters) in reports.iter().zip(counters) {
        counters.enter(report.ended.into());
    }
    reports
}

struct Run<'a> {
    net: &'a Net,
    plan: &'a Plan,
    counters: &'a [Arc<Counters>],
    stop: Orders,
    /// The source that is being read.
    at: usize,
    /// Something has been written.
    begun: bool,
    throttle: Throttle,
}

impl Run<'_> {
    async fn play(
        &mut self,
        facts: &Facts,
        path: &Path,
        reports: &mut [SourceReport],
    ) -> Result<Ended, IntoFileError> {
        let plan = self.plan;
        let place = RdbPlace::take(path, plan.on_conflict == Some(OnConflict::Replace))?;
        let reader = self.reader(facts).await?;
        let mut sheet = Sheet::new(plan, place, reader, self.net.clock());
        for (at, report) in reports.iter_mut().enumerate() {
            self.at = at;
            let begun = self.net.clock().now();
            let span = tracing::error_span!("lane", source = %report.name);
            if self.copy(&mut sheet, report).instrument(span).await? == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
            let took = self.net.clock().now().saturating_sub(begun);
            report.copy_seconds = Some(took.as_secs_f64());
            report.stream_seconds = Some(0.0);
        }
        let Some(target) = sheet.into_target()? else { return Ok(Ended::Stopped) };
        if let Some(counters) = self.counters.get(self.at) {
            counters.enter(Phase::Finishing);
        }
        let bytes = target.finish().await?;
        info!(bytes, file = %path.display(), "the file is whole");
        Ok(Ended::Done)
    }

    /// Whom the file is for: as told, else the newest of the sources. `None` if only the copy will tell.
    async fn reader(&self, facts: &Facts) -> Result<Option<Server>, IntoFileError> {
        if let Some(server) = self.plan.written_for {
            Writer::new(server).map_err(IntoFileError::Reader)?;
            return Ok(Some(server));
        }
        let mut newest: Option<Server> = None;
        for (index, source) in self.plan.sources.iter().enumerate() {
            let server = match facts.sources.get(index) {
                Some(Some(facts)) if matches!(source.place, Place::Server(_)) => facts.server,
                _ if self.plan.sources.len() > 1 => peek(self.net, &source.place).await?,
                _ => None,
            };
            newest = newest.into_iter().chain(server).max_by_key(|&server| age(server));
        }
        Ok(newest)
    }

    /// Copies one source.
    async fn copy(
        &mut self,
        sheet: &mut Sheet<'_>,
        report: &mut SourceReport,
    ) -> Result<Ended, IntoFileError> {
        let (Some(from), Some(counters)) =
            (self.plan.sources.get(self.at), self.counters.get(self.at))
        else {
            return Ok(Ended::Done);
        };
        counters.enter(Phase::Connecting);
        sheet.open(self.at, &from.rules);
        // One source is read at a time, and an element is held twice while its buffer grows.
        let element = usize::try_from(self.plan.memory / 4).unwrap_or(usize::MAX);
        let mut lane = Reading {
            source: Upstream::new(
                from.place.clone(),
                self.net.clone(),
                self.plan.method,
                Limits { piece: element, spool: None },
                None,
            ),
            counters,
            place: &from.place,
            method: report.method,
            copying: false,
            clock: self.net.clock(),
            lost_since: None,
            tries: 0,
        };
        let (mut filed, mut read_to) = (counters.snapshot().keys, 0);
        let ended = loop {
            let turn = lane.take(sheet, self.plan);
            self.begun |= lane.copying;
            report.method = lane.method;
            report.conflicts = Some(sheet.conflicts);
            report.conflict_names.append(&mut sheet.conflict_names);
            let turn = turn?;
            let now = lane.clock.now();
            let keys = counters.snapshot().keys;
            let position = lane.source.payload_position().unwrap_or(read_to);
            self.throttle.was_filed(now, keys - filed, position.saturating_sub(read_to));
            (filed, read_to) = (keys, position);
            let wait = self.throttle.write_wait(|| now).max(self.throttle.read_wait(|| now));
            if !wait.is_zero() {
                let pause = async {
                    sleep(wait).await;
                    Ok(())
                };
                if !lane.meanwhile(pause, &mut self.stop).await? {
                    break Ended::Stopped;
                }
            }
            match turn {
                Turn::Done => break Ended::Done,
                Turn::Starved => tokio::select! {
                    read = lane.source.exchange(Wants::MORE) => match read {
                        Ok(bytes) => {
                            Counters::add(&counters.bytes, bytes);
                            self.throttle.was_read(|| lane.clock.now(), bytes);
                        }
                        Err(error) => lane.lost(error)?,
                    },
                    () = stop_requested(&mut self.stop) => break Ended::Stopped,
                },
                Turn::Write(work) => {
                    let Some(target) = &mut sheet.target else { continue };
                    let writing = async {
                        match work {
                            Work::Flush => target.flush().await,
                            Work::LayAside(piece) => target.lay_aside(piece).await,
                            Work::FetchBack(rest) => {
                                target.fetch_back().await?;
                                target.writer().body(&rest);
                                Ok(())
                            }
                        }
                    };
                    if !lane.meanwhile(writing, &mut self.stop).await? {
                        break Ended::Stopped;
                    }
                }
            }
        };
        Ok(ended)
    }
}

/// What the reading of a source came to.
enum Turn {
    /// More must be read.
    Starved,
    /// Something must be written before more is taken.
    Write(Work),
    /// The copy is whole.
    Done,
}

enum Work {
    Flush,
    LayAside(Vec<u8>),
    FetchBack(Vec<u8>),
}

/// A source that is being read.
struct Reading<'a> {
    source: Upstream,
    counters: &'a Counters,
    place: &'a Place,
    method: &'static str,
    /// The copy has begun.
    copying: bool,
    clock: Clock,
    lost_since: Option<Duration>,
    tries: u32,
}

impl Reading<'_> {
    /// Takes what the source has said, up to where something must be written.
    fn take(&mut self, sheet: &mut Sheet<'_>, plan: &Plan) -> Result<Turn, IntoFileError> {
        let aside = usize::try_from(plan.memory / 8).unwrap_or(usize::MAX).max(1);
        loop {
            if sheet.target.as_ref().is_some_and(RdbTarget::is_full) {
                if let Some(position) = self.source.payload_position() {
                    Counters::set(&self.counters.payload_read, position);
                }
                return Ok(Turn::Write(Work::Flush));
            }
            if sheet.copy.waiting() >= aside {
                return Ok(Turn::Write(Work::LayAside(sheet.copy.take())));
            }
            let Some(event) = self.source.poll_event()? else {
                return Ok(if self.source.is_ended() { Turn::Done } else { Turn::Starved });
            };
            match event {
                Event::Rdb(event) => match sheet.record(&event, self.counters)? {
                    Next::Choose(depth) => self.source.choose(depth),
                    Next::FetchBack(rest) => return Ok(Turn::Write(Work::FetchBack(rest))),
                    Next::On => {}
                },
                Event::FullSync { at, .. } => {
                    Counters::add(&self.counters.full_syncs, 1);
                    (self.lost_since, self.tries) = (None, 0);
                    self.counters.awaits(None);
                    self.method = match self.place {
                        Place::Server(_) if at.is_some() => "psync",
                        Place::Server(_) => "sync",
                        Place::Capture(_) => "capture",
                        Place::Rdb(_) => "rdb",
                    };
                    let offset = at.map(|at| at.offset).unwrap_or_default();
                    Counters::set(&self.counters.confirmed_offset, offset.get());
                    Counters::set(&self.counters.read_offset, offset.get());
                    info!(method = self.method, %offset, "the source as it is here");
                }
                Event::PayloadBegins { length, .. } => {
                    self.copying = true;
                    self.counters.enter(Phase::Copying);
                    Counters::set(&self.counters.payload_size, length.unwrap_or(0));
                }
                // What changed since is not wanted.
                Event::PayloadEnds | Event::Command(_) => return Ok(Turn::Done),
                Event::PartialSync { .. } | Event::KeepAlive | Event::PayloadRead { .. } => {}
            }
        }
    }

    /// Writes, and keeps the link alive. False: a stop was requested.
    async fn meanwhile(
        &mut self,
        writing: impl Future<Output = Result<(), FileError>>,
        stop: &mut Orders,
    ) -> Result<bool, IntoFileError> {
        tokio::select! {
            biased;
            written = writing => written?,
            lost = self.source.exchange(Wants::NOTHING) => {
                if let Err(error) = lost {
                    self.lost(error)?;
                }
            }
            () = stop_requested(stop) => return Ok(false),
        }
        Ok(true)
    }

    /// The source is lost, or has refused us. A master that is not ready is asked again.
    fn lost(&mut self, error: SourceError) -> Result<(), IntoFileError> {
        if error.is_final() {
            return Err(error.into());
        }
        if self.copying {
            return Err(IntoFileError::CopyCut(chain(&error)));
        }
        let now = self.clock.now();
        let waited = now.saturating_sub(*self.lost_since.get_or_insert(now));
        match &error {
            SourceError::Repl(refusal)
                if refusal.remark() == Remark::Later && waited < patience(refusal) =>
            {
                let pause = pause(self.tries);
                warn!(error = chain(&error), again_in = ?pause, "the source is not ready");
                self.tries += 1;
                self.counters.awaits(Some(Awaited::Source));
                self.source.reconnect(None, pause);
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

/// Reads as much of a file as tells who wrote it.
async fn peek(net: &Net, place: &Place) -> Result<Option<Server>, IntoFileError> {
    let mut source = Source::open(net, place, Method::Auto, None).await?;
    let mut origin = Origin::default();
    loop {
        while let Some(event) = source.poll_event()? {
            match event {
                Event::Rdb(RdbEvent::Header(format)) => origin.format = Some(format),
                Event::Rdb(RdbEvent::Aux { name, value }) => origin.note(name, value),
                Event::Rdb(_) | Event::PayloadRead { .. } => return Ok(Some(origin.server())),
                _ => {}
            }
        }
        if source.is_ended() {
            return Ok(None);
        }
        source.exchange(Wants::MORE).await?;
    }
}
