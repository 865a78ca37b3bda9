//! Connections in memory, and what goes wrong with them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::dice::Dice;

/// What happens to one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkPlan {
    /// It is refused.
    pub(crate) refused: bool,
    /// Before it is made the target dies, and begins anew without its data.
    pub(crate) restarts: bool,
    /// How many bytes fit into it.
    pub(crate) room: usize,
    /// It breaks after so many bytes have come to us.
    pub(crate) read: Option<usize>,
    /// It breaks after so many bytes of ours have got to the other side, which may still act on them.
    pub(crate) written: Option<usize>,
    /// After so many bytes the other side's answers are lost, though it acts on what it reads; the link breaks later.
    pub(crate) mute: Option<(usize, Duration)>,
    /// It breaks when so many transactions have been run over it, before the last one is answered.
    pub(crate) executed: Option<usize>,
    /// The same, of transactions that do something else when they are run again.
    pub(crate) counted: Option<usize>,
    /// How long the other side waits before it acts, at the most.
    pub(crate) delay: Duration,
}

/// The other side's slowness. It ends when our end is gone: what has arrived by then is acted on at once, before any new
/// connection is made, as by a server that comes round to all its sockets.
#[derive(Debug)]
pub(crate) struct Delay {
    most: Duration,
    alive: watch::Receiver<()>,
    dice: Dice,
}

impl Delay {
    /// Waits for some part of the longest delay.
    pub(crate) async fn wait(&mut self) {
        if self.most.is_zero() {
            return;
        }
        let percent = u32::try_from(self.dice.below(100)).unwrap();
        tokio::select! {
            () = sleep(self.most * percent / 100) => {}
            _ = self.alive.changed() => {}
        }
    }
}

/// Both ends of a new connection, and how slow the other side is.
pub(crate) fn connect(
    plan: &LinkPlan,
    dice: Dice,
    passed: watch::Sender<usize>,
) -> (Cuttable, DuplexStream, Delay) {
    let (ours, theirs) = tokio::io::duplex(plan.room);
    let (alive, here) = watch::channel(());
    let pipe = Some((ours, alive));
    let cuttable = Cuttable { pipe, read: plan.read, written: plan.written, passed };
    (cuttable, theirs, Delay { most: plan.delay, alive: here, dice })
}

/// Our end of a connection.
#[derive(Debug)]
pub(crate) struct Cuttable {
    /// Both go when it is cut.
    pipe: Option<(DuplexStream, watch::Sender<()>)>,
    read: Option<usize>,
    written: Option<usize>,
    /// How many bytes have passed, over this connection and others.
    passed: watch::Sender<usize>,
}

impl Cuttable {
    /// The pipe, unless it is to be cut now.
    fn pipe(&mut self) -> io::Result<&mut DuplexStream> {
        if self.read == Some(0) || self.written == Some(0) {
            self.pipe = None;
        }
        let pipe = self.pipe.as_mut().map(|(pipe, _)| pipe);
        pipe.ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let most = this.read.unwrap_or(usize::MAX).min(buf.remaining()).min(4096);
        let pipe = this.pipe()?;
        let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
        let read = Pin::new(pipe).poll_read(cx, &mut some);
        let count = some.filled().len();
        if let Some(left) = &mut this.read {
            *left -= count;
        }
        buf.advance(count);
        this.passed.send_modify(|passed| *passed += count);
        read
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let most = bytes.len().min(this.written.unwrap_or(usize::MAX));
        let pipe = this.pipe()?;
        let written = Pin::new(pipe).poll_write(cx, &bytes[..most]);
        if let Poll::Ready(Ok(count)) = &written {
            if let Some(left) = &mut this.written {
                *left -= count;
            }
            this.passed.send_modify(|passed| *passed += count);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().pipe()?).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().pipe()?).poll_shutdown(cx)
    }
}
