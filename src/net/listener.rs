//! The other end of connections: those that are made to us.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::Link;

/// An open port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Opens a port of this machine; port 0 is any that is free. A name is looked up, and its first address that can be
    /// opened is taken.
    ///
    /// # Errors
    /// If the name is not known, or the port is taken or not ours to open.
    pub async fn open(host: &str, port: u16) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind((host, port)).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection, and who made it. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If the connection was lost again, or the system can take no more for now. The port stays open.
    pub async fn accept(&self) -> io::Result<(Link, SocketAddr)> {
        let (stream, from) = self.socket.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Link::Tcp(stream), from))
    }
}
