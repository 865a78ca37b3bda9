//! A master's stream, kept as a capture.
//!
//! ```text
//!  Connecting ──▶ Copying ──▶ Following ──▶ (ended)
//!  nothing is     NAME.bin grows, NAME.json says so far
//!  written yet    and in the end all
//! ```
//!
//! What comes is written as it comes; of a payload's values nothing is held, of the stream one command. The master is told
//! every second that we have what we have received, minus a byte: a capture is no server, and `WAIT` on the
//! master then speaks of a file.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::sleep;
use tracing::{Instrument, info};

use crate::net::{Clock, Net};
use crate::offset::Offset;
use crate::plan::{ServerPlace, Until};
use crate::rdb::event::Event as RdbEvent;
use crate::rdb::parser::Depth;
use crate::repl::{Event, Layout, Method, Part, Resume, Sidecar};
use crate::server::Server;
use crate::source::{Replica, SourceError, Wants};

use super::lane::{Later, SILENCE, Stands, ask_offset, chain, later, sleep_until_some};
use super::loss::Loss;
use super::order::stop_requested;
use super::remedy::{Remedy, patience, remedy};
use super::{Ended, LaneError, Orders};

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// The master.
    pub from: ServerPlace,
    /// What the master is, if it is known.
    pub server: Option<Server>,
    /// Where its bytes go; the sidecar goes beside them.
    pub file: PathBuf,
    /// Whether a file of that name is written over.
    pub force: bool,
    /// When it ends by itself.
    pub until: Until,
    /// How long it goes on at the most, from when the master has accepted us.
    pub lasting: Option<Duration>,
}

/// What was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// How it ended.
    pub ended: Ended,
    /// Where the parts of the capture stand.
    pub layout: Layout,
    /// Bytes that were written.
    pub bytes: u64,
    /// What went wrong, as a chain of plain words, and what to do about it.
    pub failure: Option<(String, String)>,
}

/// Records until what is wanted is there, `stop` says so or something fails. The sidecar is complete in each of these cases.
pub async fn record(net: &Net, record: &Record, stop: &Orders) -> Recorded {
    let mut recorder = Recorder::new(net, record, stop.clone());
    let span = tracing::error_span!("lane", source = %record.from);
    let ended = recorder.run().instrument(span.clone()).await;
    let closed = recorder.close().instrument(span).await;
    let error = match (ended, closed) {
        (Ok(ended), Ok(())) => return recorder.recorded(ended, None),
        (Err(error), _) | (Ok(_), Err(error)) => error,
    };
    let advice = advice(&error);
    let ended = if recorder.tape.is_some() { Ended::Failed } else { Ended::Refused };
    recorder.recorded(ended, Some((chain(&error), advice.to_owned())))
}

/// What the operator can do. Where a sync would have to begin with an empty target, here there is a file.
fn advice(error: &LaneError) -> &'static str {
    match error {
        LaneError::CopyCut(_) => {
            "the capture has no whole data set and cannot be played: record again, with --force or under another name"
        }
        LaneError::Overrun => {
            "what was recorded ends there and can be played; record again for what came after (a larger repl-backlog-size on the master lets a lost link go on where it was)"
        }
        LaneError::NoOffsets(_) => {
            "what was recorded ends there and can be played; record again for what came after"
        }
        LaneError::GivenUp { .. } => {
            "what was recorded ends there and can be played; see why the source is not there, then record again"
        }
        error => match remedy(error) {
            Remedy::Ask(advice) => advice,
            Remedy::ReconnectSource
            | Remedy::ReconnectTarget
            | Remedy::GoOn
            | Remedy::CopyAgain => "see that the source can be reached, and start again",
        },
    }
}

struct Recorder<'a> {
    net: &'a Net,
    clock: Clock,
    record: &'a Record,
    stop: Orders,
    link: Link,
    layout: Layout,
    sidecar: Sidecar,
    /// Where in the connection the request for the data stands.
    asked: Option<u64>,
    /// The files, once the master has accepted us.
    tape: Option<Tape>,
    /// Where the stream stood when it was taken last.
    offset: Offset,
    /// The master is being asked where it is.
    asking: Option<Later<Option<Stands>>>,
    goal: Goal,
    /// When the last command came that is no ping.
    last_data: Duration,
    /// When it ends at the latest.
    ends_at: Option<Duration>,
    lost: Option<Loss>,
}

enum Link {
    Up(Box<Replica>),
    Down(Later<Result<Replica, SourceError>>),
}

/// When the master has said all that is wanted.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Not known yet, or never.
    None,
    /// At this offset.
    Offset(Offset),
    /// When nothing but pings has come for a while.
    Silence,
}

/// The two files.
struct Tape {
    path: PathBuf,
    file: File,
    /// Bytes that are to be written.
    pending: BytesMut,
    /// Bytes of the capture that have been written.
    written: u64,
    /// The byte of this connection, counted from its first, at which what is written of it begins, and where that byte stands in the
    /// capture. `None` until a new connection goes on where a lost one ended.
    splice: Option<Splice>,
}

#[derive(Clone, Copy, Debug)]
struct Splice {
    begin: u64,
    at: u64,
}

impl<'a> Recorder<'a> {
    fn new(net: &'a Net, record: &'a Record, stop: Orders) -> Self {
        let mut sidecar = Sidecar {
            file: record.file.file_name().map(|name| name.to_string_lossy().into_owned()),
            ..Sidecar::default()
        };
        if let Some(server) = record.server {
            sidecar.set_server(server);
        }
        let mut recorder = Self {
            net,
            clock: net.clock(),
            record,
            stop,
            link: Link::Down(Box::pin(pending())),
            layout: Layout::default(),
            sidecar,
            asked: None,
            tape: None,
            offset: Offset::default(),
            asking: None,
            goal: Goal::None,
            last_data: Duration::ZERO,
            ends_at: None,
            lost: None,
        };
        recorder.connect(None, Duration::ZERO);
        recorder
    }

    fn connect(&mut self, resume: Option<Resume>, pause: Duration) {
        let (net, place) = (self.net.clone(), self.record.from.clone());
        self.link = Link::Down(Box::pin(async move {
            sleep(pause).await;
            let mut replica = Replica::open(&net, &place, Method::Auto, resume).await?;
            replica.keep();
            Ok(replica)
        }));
    }

    async fn run(&mut self) -> Result<Ended, LaneError> {
        loop {
            if let Err(error) = self.take_events().await {
                self.lost(error)?;
            }
            self.write().await?;
            let now = self.clock.now();
            if self.is_drained(now) || self.ends_at.is_some_and(|at| at <= now) {
                return Ok(Ended::Done);
            }
            let alarm = match self.goal {
                Goal::Silence => Some(self.last_data + SILENCE),
                Goal::None | Goal::Offset(_) => None,
            };
            let alarm = [alarm, self.ends_at].into_iter().flatten().min();
            tokio::select! {
                exchanged = exchange(&mut self.link) => {
                    if let Err(error) = exchanged {
                        self.lost(error.into())?;
                    }
                }
                stands = later(&mut self.asking) => {
                    self.asking = None;
                    self.goal = stands.map_or(Goal::Silence, |stands| Goal::Offset(stands.offset));
                }
                () = sleep_until_some(alarm.map(|at| self.clock.at(at))) => {}
                () = stop_requested(&mut self.stop) => return Ok(Ended::Stopped),
            }
        }
    }

    /// Takes note of what has been read.
    async fn take_events(&mut self) -> Result<(), LaneError> {
        loop {
            let Link::Up(replica) = &mut self.link else { return Ok(()) };
            let Some(event) = replica.poll_event()? else { break };
            let part = Part::of(&event);
            let is_key = matches!(event, Event::Rdb(RdbEvent::Key(_)));
            if let Event::Command(command) = &event
                && !command.args().next().is_some_and(|name| name.eq_ignore_ascii_case(b"PING"))
            {
                self.last_data = self.clock.now();
            }
            if is_key {
                replica.choose(Depth::Skip);
            }
            match part {
                Part::FullSync(at) => self.begin(at).await?,
                Part::PartialSync(at) => {
                    self.go_on(at).await?;
                    continue;
                }
                _ => {}
            }
            self.add(part);
            if part == Part::PayloadEnds {
                self.following().await?;
            }
        }
        if let Link::Up(replica) = &mut self.link {
            self.offset = replica.offset();
            replica.confirm(self.offset);
        }
        Ok(())
    }

    /// Adds a part to the layout, which ends where the session stands now.
    fn add(&mut self, part: Part) {
        let Link::Up(replica) = &self.link else { return };
        let session = replica.session();
        let place = match &self.tape {
            Some(tape) => tape.place(session.position()),
            None => {
                // What came before a PSYNC was refused is no part of the capture.
                if self.asked != session.asked_at() {
                    self.asked = session.asked_at();
                    self.layout = Layout::default();
                }
                session.position().checked_sub(self.asked.unwrap_or(0))
            }
        };
        if let Some(place) = place {
            self.layout.add(part, place);
        }
    }

    /// The master has accepted us: from here on there are files.
    async fn begin(&mut self, at: Option<Resume>) -> Result<(), LaneError> {
        let Link::Up(replica) = &self.link else { return Ok(()) };
        if self.tape.is_some() {
            // It was asked to go on.
            return Err(LaneError::Overrun);
        }
        if self.asked != replica.session().asked_at() {
            self.asked = replica.session().asked_at();
            self.layout = Layout::default();
        }
        let begin = self.asked.unwrap_or(0);
        self.tape = Some(Tape::create(&self.record.file, self.record.force, begin).await?);
        let now = self.clock.now();
        self.ends_at = self.record.lasting.map(|lasting| now.saturating_add(lasting));
        self.sidecar.recorded_from_ms = Some(self.clock.unix_ms());
        self.sidecar.describe_handshake(replica.session().exchanges());
        self.lost = None;
        info!(offset = at.map(|at| at.offset.get()), "full synchronization");
        self.note(None).await
    }

    /// After a lost link the stream goes on behind the last whole command that was written.
    async fn go_on(&mut self, at: Resume) -> Result<(), LaneError> {
        let Link::Up(replica) = &self.link else { return Ok(()) };
        if let Some(tape) = &mut self.tape {
            tape.resume(replica.session().position(), self.layout.whole).await?;
        }
        self.lost = None;
        info!(offset = %at.offset, "partial synchronization");
        Ok(())
    }

    /// The data set is there, and the stream begins.
    async fn following(&mut self) -> Result<(), LaneError> {
        self.last_data = self.clock.now();
        if self.record.until == Until::CaughtUp {
            let (net, from) = (self.net.clone(), self.record.from.clone());
            self.asking = Some(Box::pin(ask_offset(net, from, self.layout.at.is_some())));
        }
        self.note(None).await
    }

    fn is_drained(&self, now: Duration) -> bool {
        self.lost.is_none()
            && match self.goal {
                Goal::None => false,
                Goal::Offset(goal) => self.offset >= goal,
                Goal::Silence => now.saturating_sub(self.last_data) >= SILENCE,
            }
    }

    /// Writes what has been read. The link is kept alive meanwhile.
    async fn write(&mut self) -> Result<(), LaneError> {
        let (Some(tape), Link::Up(replica)) = (&mut self.tape, &mut self.link) else {
            return Ok(());
        };
        let session = replica.session();
        let received = session.position().saturating_add(session.left_over() as u64);
        let kept = std::mem::take(replica.kept());
        tape.take(&kept, received.saturating_sub(kept.len() as u64));
        let lost = tokio::select! {
            written = tape.drain() => { written?; None }
            lost = replica.exchange(Wants::NOTHING) => lost.err(),
        };
        // What a loss interrupted.
        tape.drain().await?;
        lost.map_or(Ok(()), |error| self.lost(error.into()))
    }

    /// The master has been lost, or has refused us. If that may pass it is asked again.
    fn lost(&mut self, error: LaneError) -> Result<(), LaneError> {
        let LaneError::Source(source) = &error else { return Err(error) };
        let now = self.clock.now();
        let loss = self.lost.get_or_insert_with(|| Loss::new(now));
        let waited = loss.lasting(now);
        let resume = match (self.layout.stream_start, self.layout.at) {
            (Some(_), Some(at)) => {
                let offset = self.layout.offset_at(self.layout.whole).unwrap_or(at.offset);
                Some(Resume { replid: at.replid, offset })
            }
            (Some(_), None) => return Err(LaneError::NoOffsets(chain(source))),
            _ if self.tape.is_some() => return Err(LaneError::CopyCut(chain(source))),
            _ => match source {
                SourceError::Repl(refusal) if waited < patience(refusal) => None,
                _ => return Err(error),
            },
        };
        if remedy(&error) != Remedy::ReconnectSource {
            return Err(error);
        }
        let pause = loss.again("source", &error, self.record.until, now)?;
        match &mut self.tape {
            Some(tape) => tape.splice = None,
            None => (self.asked, self.layout) = (None, Layout::default()),
        }
        self.connect(resume, pause);
        Ok(())
    }

    /// Writes down in the sidecar how far it has come; `total` is the size of the capture if nothing more will be written.
    async fn note(&mut self, total: Option<u64>) -> Result<(), LaneError> {
        let Some(tape) = &self.tape else { return Ok(()) };
        self.sidecar.recorded_to_ms = Some(self.clock.unix_ms());
        self.sidecar.describe(&self.layout, total);
        if self.sidecar.server.is_none()
            && let Some(server) = self.layout.server
        {
            self.sidecar.set_server(server);
        }
        let path = tape.path.with_extension("json");
        let json = self.sidecar.to_json();
        replace(&path, json.as_bytes()).await.map_err(|source| LaneError::Write { path, source })
    }

    /// Writes what is left, and the sidecar's last word.
    async fn close(&mut self) -> Result<(), LaneError> {
        let written = self.write().await;
        let Some(tape) = &mut self.tape else { return written };
        let synced = tape.sync().await;
        let total = tape.written;
        self.note(Some(total)).await?;
        written.and(synced)
    }

    fn recorded(self, ended: Ended, failure: Option<(String, String)>) -> Recorded {
        let bytes = self.tape.as_ref().map_or(0, |tape| tape.written);
        Recorded { ended, layout: self.layout, bytes, failure }
    }
}

/// Waits until something has been read, or the connection has been made. Nothing is lost if the future is dropped.
async fn exchange(link: &mut Link) -> Result<(), SourceError> {
    match link {
        Link::Up(replica) => replica.exchange(Wants::MORE).await.map(drop),
        Link::Down(connecting) => {
            let replica = connecting.await;
            // A finished future must not be asked again.
            *link = match replica {
                Ok(replica) => Link::Up(Box::new(replica)),
                Err(error) => {
                    *link = Link::Down(Box::pin(pending()));
                    return Err(error);
                }
            };
            Ok(())
        }
    }
}

impl Tape {
    async fn create(path: &Path, force: bool, begin: u64) -> Result<Self, LaneError> {
        let mut options = OpenOptions::new();
        options.write(true);
        if force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let splice = Some(Splice { begin, at: 0 });
        match options.open(path).await {
            Ok(file) => {
                let (path, pending) = (path.to_owned(), BytesMut::new());
                Ok(Self { path, file, pending, written: 0, splice })
            }
            Err(source) => Err(LaneError::Write { path: path.to_owned(), source }),
        }
    }

    /// Where a position of the connection stands in the capture, if it does.
    fn place(&self, position: u64) -> Option<u64> {
        let Splice { begin, at } = self.splice?;
        Some(position.checked_sub(begin)?.saturating_add(at))
    }

    /// Takes bytes to be written, of which the first stands at this position of the connection.
    fn take(&mut self, bytes: &[u8], first: u64) {
        let Some(Splice { begin, .. }) = self.splice else { return };
        let skip = usize::try_from(begin.saturating_sub(first)).unwrap_or(usize::MAX);
        self.pending.extend_from_slice(bytes.get(skip..).unwrap_or_default());
    }

    /// A new connection goes on, from this position of it, behind what was whole of the capture.
    async fn resume(&mut self, begin: u64, whole: u64) -> Result<(), LaneError> {
        let cut = async {
            self.file.flush().await?;
            self.file.set_len(whole).await?;
            self.file.seek(io::SeekFrom::Start(whole)).await
        };
        let cut = cut.await;
        cut.map_err(|source| LaneError::Write { path: self.path.clone(), source })?;
        self.written = whole;
        self.splice = Some(Splice { begin, at: whole });
        Ok(())
    }

    /// Writes what was taken. Nothing is lost or written twice if the future is dropped.
    async fn drain(&mut self) -> Result<(), LaneError> {
        while !self.pending.is_empty() {
            let written = self.file.write(&self.pending).await;
            let written =
                written.map_err(|source| LaneError::Write { path: self.path.clone(), source })?;
            self.pending.advance(written);
            self.written = self.written.saturating_add(written as u64);
        }
        Ok(())
    }

    /// Sees that everything is on the disk.
    async fn sync(&mut self) -> Result<(), LaneError> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        let synced = synced.await;
        synced.map_err(|source| LaneError::Write { path: self.path.clone(), source })
    }
}

/// Writes a file so that there is the old one or the new one at any time.
async fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("json.part");
    fs::write(&beside, bytes).await?;
    fs::rename(&beside, path).await
}
