//! A connection to a server, whatever it runs over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::plan::{Address, ServerPlace};

/// A connection.
#[derive(Debug)]
pub enum Link {
    /// TCP.
    Tcp(TcpStream),
    /// A socket of this machine.
    Unix(UnixStream),
    /// Bytes that somebody else carries.
    Other(Box<dyn Carrier>),
}

/// Something that carries bytes both ways, such as a pipe in memory.
pub trait Carrier: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Carrier for T {}

/// How connections are made.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects to a server. Who we are to it is said over the connection later.
    fn dial<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a>;
}

/// A connection that is being made.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Link, LinkError>> + Send + 'a>>;

/// The sockets of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockets;

impl Dial for Sockets {
    fn dial<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a> {
        Box::pin(connect(place))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nothing answered in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The system says why.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
}

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a server.
///
/// # Errors
/// If there is no answer within ten seconds, or a refusal.
async fn connect(place: &ServerPlace) -> Result<Link, LinkError> {
    let open = async {
        Ok(match &place.address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // A command that waits for more to send with it is late; we gather ourselves.
                stream.set_nodelay(true)?;
                Link::Tcp(stream)
            }
            Address::Unix(path) => Link::Unix(UnixStream::connect(path).await?),
        })
    };
    match tokio::time::timeout(PATIENCE, open).await {
        Ok(link) => link.map_err(LinkError::Connect),
        Err(_) => Err(LinkError::TimedOut(PATIENCE)),
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Other(carrier) => Pin::new(carrier).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Other(carrier) => Pin::new(carrier).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(carrier) => Pin::new(carrier).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(carrier) => Pin::new(carrier).poll_shutdown(cx),
        }
    }
}
