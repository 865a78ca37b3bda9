//! What one connection through ssh has been sent and nobody has read yet.
//!
//! An ssh session has one reader, and russh gives a channel's window back as soon as bytes have come, not when they have been
//! taken: a channel that nobody reads would hold up the whole session or fill memory. So a connection that may be left unread for
//! long has a session of its own, and this stands below that session: while enough waits, nothing more is taken from the socket,
//! and the far side is held up as it is by TCP alone. What we write goes out meanwhile.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::plan::SshHost;

/// So much may wait in memory.
const MOST: usize = SshHost::HELD;

/// A count of bytes that wait.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    come: usize,
    taken: usize,
    socket: Option<Waker>,
}

impl Waiting {
    /// What is taken may be counted before it is counted as come: the reader is quick.
    const fn bytes(&self) -> usize {
        self.come.saturating_sub(self.taken)
    }
}

impl Held {
    /// A message has come.
    pub(super) fn come(&self, bytes: usize) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.come = waiting.come.wrapping_add(bytes);
    }

    /// So many bytes were read.
    pub(super) fn taken(&self, bytes: usize) {
        let woken = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.taken = waiting.taken.wrapping_add(bytes);
            if waiting.bytes() <= MOST / 2 { waiting.socket.take() } else { None }
        };
        if let Some(socket) = woken {
            socket.wake();
        }
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes() < MOST {
            return Poll::Ready(());
        }
        waiting.socket = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The socket below a session.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    held: Option<Arc<Held>>,
}

impl Socket {
    pub(super) const fn new(stream: TcpStream, held: Option<Arc<Held>>) -> Self {
        Self { stream, held }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(held) = &self.held
            && held.poll_room(cx).is_pending()
        {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
