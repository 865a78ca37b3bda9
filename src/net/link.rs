//! A connection to a server, whatever it runs over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
#[cfg(feature = "ssh")]
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::client::TlsStream;

use crate::plan::{Address, ServerPlace, Side, Via};

use super::cluster::ClusterError;
use super::sentinel::SentinelError;
#[cfg(feature = "ssh")]
use super::ssh::{Hosts, SshError};
use super::tls;
use super::tls::{Connectors, TlsError};
#[cfg(feature = "ssh")]
use super::tunnel;
#[cfg(feature = "ssh")]
use super::tunnel::{Programs, TunnelError};

/// A connection.
#[derive(Debug)]
pub enum Link {
    /// TCP.
    Tcp(TcpStream),
    /// A socket of this machine.
    Unix(UnixStream),
    /// TLS over TCP. What is written waits in the last record until it is flushed.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS over bytes that somebody else carries.
    Secured(Box<TlsStream<Box<dyn Carrier>>>),
    /// Bytes that somebody else carries.
    Other(Box<dyn Carrier>),
}

/// Something that carries bytes both ways, such as a pipe in memory.
pub trait Carrier: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Carrier for T {}

/// How connections are made.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects to a server, whose place is never one that is found by asking others. Who we are to it is said over the connection later.
    fn dial<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a>;

    /// The same, for a connection whose bytes may be left unread for long: that may hold up no other one. Such are the streams of
    /// masters; answers are always read.
    fn dial_stream<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a> {
        self.dial(place)
    }
}

/// A connection that is being made.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Link, LinkError>> + Send + 'a>>;

/// The sockets of this machine.
#[derive(Debug, Default)]
pub struct Sockets {
    connectors: Connectors,
    #[cfg(feature = "ssh")]
    hosts: Hosts,
    #[cfg(feature = "ssh")]
    programs: Programs,
}

impl Dial for Sockets {
    fn dial<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a> {
        Box::pin(self.connect(place, false))
    }

    fn dial_stream<'a>(&'a self, place: &'a ServerPlace) -> Dialing<'a> {
        Box::pin(self.connect(place, true))
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
    /// The same, of a socket in the file system.
    #[error("cannot connect")]
    Socket(#[source] io::Error),
    /// The name of the host is not known.
    #[error("the name {host} cannot be resolved")]
    NoSuchHost {
        /// The name.
        host: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// The Sentinels do not lead to it.
    #[error(transparent)]
    Sentinel(#[from] Box<SentinelError>),
    /// The nodes of the cluster do not lead to it.
    #[error(transparent)]
    Cluster(#[from] Box<ClusterError>),
    /// The ssh host that leads there does not.
    #[error(transparent)]
    #[cfg(feature = "ssh")]
    Ssh(#[from] SshError),
    /// The program that leads there does not.
    #[error(transparent)]
    #[cfg(feature = "ssh")]
    Tunnel(Arc<TunnelError>),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl LinkError {
    /// What the operator can do, if the server is on this side.
    #[must_use]
    pub fn advice(&self, side: Side) -> String {
        let place = side.place();
        match self {
            Self::TimedOut(_) => {
                "is a firewall in between, or the host down? See that the port can be reached from here".to_owned()
            }
            Self::NoSuchHost { .. } => format!("check the host's name in {place}"),
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    format!("nothing listens there: check the port in {place}, and that the server is up")
                }
                _ => "see that the address is right and the network lets us through".to_owned(),
            },
            Self::Socket(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    format!("the server that made this socket is gone: check the path in {place}, and that the server is up")
                }
                io::ErrorKind::PermissionDenied => {
                    "this user may not open the socket: see its mode (unixsocketperm)".to_owned()
                }
                _ => format!("check the socket's path in {place} (unixsocket in the server's configuration)"),
            },
            Self::Sentinel(error) => error.advice(side),
            Self::Cluster(error) => error.advice(side),
            #[cfg(feature = "ssh")]
            Self::Ssh(error) => error.advice(side),
            #[cfg(feature = "ssh")]
            Self::Tunnel(error) => error.advice(),
            Self::Tls(error) => error.advice(side),
        }
    }
}

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);

impl Sockets {
    /// Connects to a server.
    async fn connect(&self, place: &ServerPlace, is_stream: bool) -> Result<Link, LinkError> {
        match &place.via {
            Some(via) => self.connect_through(via, place, is_stream).await,
            None => {
                let open = self.connect_from_here(place);
                let opened = tokio::time::timeout(PATIENCE, open).await;
                opened.unwrap_or(Err(LinkError::TimedOut(PATIENCE)))
            }
        }
    }

    async fn connect_from_here(&self, place: &ServerPlace) -> Result<Link, LinkError> {
        Ok(match (&place.address, &place.tls) {
            (Address::Tcp { host, port }, None) => Link::Tcp(open_tcp(host, *port).await?),
            (Address::Tcp { host, port }, Some(tls)) => {
                let stream = open_tcp(host, *port).await?;
                let connector = self.connectors.connector(tls)?;
                Link::Tls(Box::new(tls::shake_hands(&connector, host, stream).await?))
            }
            (Address::Unix(path), _) => {
                Link::Unix(UnixStream::connect(path).await.map_err(LinkError::Socket)?)
            }
            (Address::Watched(_) | Address::Cluster(_), _) => {
                return Err(LinkError::Connect(not_found()));
            }
        })
    }

    /// A library without the feature `ssh`.
    #[cfg(not(feature = "ssh"))]
    async fn connect_through(&self, _: &Via, _: &ServerPlace, _: bool) -> Result<Link, LinkError> {
        let without = io::Error::new(io::ErrorKind::Unsupported, "this build knows no ssh");
        Err(LinkError::Connect(without))
    }

    /// Connects by what leads there. It has its own patience at each step.
    #[cfg(feature = "ssh")]
    async fn connect_through(
        &self,
        via: &Via,
        place: &ServerPlace,
        is_stream: bool,
    ) -> Result<Link, LinkError> {
        match (via, &place.address) {
            (Via::Ssh(via), to) if is_stream => {
                self.secured(place, self.hosts.connect_alone(via, to).await?).await
            }
            (Via::Ssh(via), to) => self.secured(place, self.hosts.connect(via, to).await?).await,
            (Via::Program(tunnel), Address::Tcp { host, port }) => {
                let stream = self.programs.connect(tunnel, host, *port).await?;
                // The program is on its way meanwhile.
                self.secured_within(tls::PATIENCE + PATIENCE, place, stream).await.map_err(
                    |error| match &error {
                        LinkError::Tls(TlsError::Broken(lost)) => {
                            tunnel::explained(lost).unwrap_or(error)
                        }
                        _ => error,
                    },
                )
            }
            (Via::Program(_), _) => Err(LinkError::Connect(io::ErrorKind::Unsupported.into())),
        }
    }

    #[cfg(feature = "ssh")]
    async fn secured(
        &self,
        place: &ServerPlace,
        stream: impl Carrier + 'static,
    ) -> Result<Link, LinkError> {
        self.secured_within(tls::PATIENCE, place, stream).await
    }

    /// TLS is spoken through what leads there, with the server.
    #[cfg(feature = "ssh")]
    async fn secured_within(
        &self,
        patience: Duration,
        place: &ServerPlace,
        stream: impl Carrier + 'static,
    ) -> Result<Link, LinkError> {
        Ok(match (&place.address, &place.tls) {
            (Address::Tcp { host, .. }, Some(tls)) => {
                let connector = self.connectors.connector(tls)?;
                let stream: Box<dyn Carrier> = Box::new(stream);
                let shaken = tls::shake_hands_within(patience, &connector, host, stream).await?;
                Link::Secured(Box::new(shaken))
            }
            _ => Link::Other(Box::new(stream)),
        })
    }
}

/// Who is found by asking others has no address until that is done.
pub(super) fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "nobody was asked where it is")
}

/// Tries the addresses of a host one by one.
pub(super) async fn open_tcp(host: &str, port: u16) -> Result<TcpStream, LinkError> {
    let no_such_host = |source| LinkError::NoSuchHost { host: host.to_owned(), source };
    let mut failure = None;
    for address in lookup_host((host, port)).await.map_err(no_such_host)? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A command that waits for more to send with it is late; we gather ourselves.
                stream.set_nodelay(true).map_err(LinkError::Connect)?;
                return Ok(stream);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(match failure {
        Some(error) => LinkError::Connect(error),
        None => no_such_host(io::ErrorKind::NotFound.into()),
    })
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
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secured(stream) => Pin::new(stream).poll_read(cx, buf),
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
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Secured(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Other(carrier) => Pin::new(carrier).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secured(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(carrier) => Pin::new(carrier).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(carrier) => Pin::new(carrier).poll_shutdown(cx),
        }
    }
}
