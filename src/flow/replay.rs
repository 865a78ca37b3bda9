//! A capture that is played as a master, to any number of replicas.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tracing::{Instrument, debug, info, warn};

use crate::net::{Clock, Link, Listener};
use crate::offset::Offset;
use crate::rdb::event::Event as RdbEvent;
use crate::rdb::parser::Depth;
use crate::repl::{Event, Layout, Part, Piece, Served, Serving};
use crate::source::{Capture, SourceError};

use super::Orders;
use super::order::stop_requested;

/// A capture that has been read through and found whole, so that it can be served.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    served: Arc<Served>,
    layout: Layout,
}

impl Recording {
    /// Reads a capture through. Values are passed over, whatever their size.
    ///
    /// # Errors
    /// If it is missing, damaged or holds no data set.
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let mut capture = Capture::open(path).await?;
        let mut layout = Layout::default();
        while !capture.is_ended() {
            while let Some(event) = capture.poll_event()? {
                let part = Part::of(&event);
                let is_key = matches!(event, Event::Rdb(RdbEvent::Key(_)));
                if is_key {
                    capture.choose(Depth::Skip);
                }
                layout.add(part, capture.position());
            }
            capture.exchange(true).await?;
        }
        if layout.settled < layout.whole {
            warn!(
                at = layout.settled,
                "the capture ends inside of a transaction, which is left out"
            );
        }
        let served = Served::new(&layout, capture.sidecar().server());
        let served = Arc::new(served.ok_or(SourceError::NoDataSet)?);
        Ok(Self { path: path.to_owned(), served, layout })
    }

    /// What is served of it.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// Where its parts stand.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// Serves a capture to all who connect, until `stop` becomes true.
pub async fn replay(recording: &Recording, listener: &Listener, stop: &Orders) {
    let clock = Clock::start();
    let mut stop = stop.clone();
    let mut attended = JoinSet::new();
    loop {
        tokio::select! {
            () = stop_requested(&mut stop) => return,
            accepted = listener.accept() => match accepted {
                Ok((link, from)) => {
                    let span = tracing::info_span!("replica", %from);
                    let (path, served) = (recording.path.clone(), Arc::clone(&recording.served));
                    attended.spawn(attend(link, from, path, served, clock).instrument(span));
                }
                Err(error) => {
                    // No more files can be opened, say. The others go on meanwhile.
                    warn!(%error, "a connection could not be taken");
                    sleep(BREATH).await;
                }
            },
            Some(ended) = attended.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

/// How long to wait before connections are taken again that could not be.
const BREATH: Duration = Duration::from_millis(100);

/// How much of a capture is read at once.
const CHUNK: u64 = 256 << 10;

/// Serves one connection to its end.
async fn attend(link: Link, from: SocketAddr, path: PathBuf, served: Arc<Served>, clock: Clock) {
    debug!(%from, "connected");
    let mut serving = Serving::new(served);
    let ended = converse(link, &path, &mut serving, clock).await;
    if serving.is_replica() {
        let acknowledged = serving.acknowledged().map(Offset::get);
        match ended {
            Ok(()) => info!(acknowledged, "the replica is gone"),
            Err(error) => info!(acknowledged, %error, "the replica is gone"),
        }
    }
}

async fn converse(link: Link, path: &Path, serving: &mut Serving, clock: Clock) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(link);
    let mut file = None;
    let mut ahead: Range<u64> = 0..0;
    let mut input = BytesMut::new();
    let mut output = BytesMut::new();
    loop {
        while output.is_empty() {
            if !ahead.is_empty() {
                let file = match &mut file {
                    Some(file) => file,
                    none => none.insert(File::open(path).await?),
                };
                copy(file, &mut ahead, &mut output).await?;
                continue;
            }
            match serving.poll_transmit(clock.now()) {
                Some(Piece::Bytes(bytes)) => output.extend_from_slice(&bytes),
                Some(Piece::Capture(range)) => ahead = range,
                None => break,
            }
        }
        if output.is_empty() && serving.is_over() {
            return writer.shutdown().await;
        }
        let due = serving.poll_timeout(clock.now()).map(|due| clock.at(due));
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                serving.handle_input(&input, clock.now());
                input.clear();
            }
            written = writer.write_buf(&mut output), if !output.is_empty() => {
                if written? == 0 {
                    return Ok(());
                }
            }
            () = timer, if output.is_empty() => {}
        }
    }
}

/// Reads the beginning of a range of the file and takes it off the range.
async fn copy(file: &mut File, range: &mut Range<u64>, output: &mut BytesMut) -> io::Result<()> {
    let size = (range.end - range.start).min(CHUNK);
    output.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
    file.seek(io::SeekFrom::Start(range.start)).await?;
    file.read_exact(output).await?;
    range.start += size;
    Ok(())
}
