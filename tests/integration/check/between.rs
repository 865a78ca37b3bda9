//! Somebody between us and a server who changes what it says, byte for byte as long as it was: for what no server of a test can be brought to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::servers::Server;

/// What becomes of what a server says.
type Change = dyn Fn(&mut [u8]) + Send + Sync;

/// The port of one who changes what this server says.
pub(super) fn changing(
    server: &Server,
    change: impl Fn(&mut [u8]) + Send + Sync + 'static,
) -> String {
    through(server, Arc::new(change), Duration::ZERO)
}

/// The port of one who takes so long for everything.
pub(super) fn slow(server: &Server, each: Duration) -> String {
    through(server, Arc::new(|_: &mut [u8]| {}), each)
}

fn through(server: &Server, change: Arc<Change>, each: Duration) -> String {
    let (listener, to) = (TcpListener::bind(("127.0.0.1", 0)).unwrap(), server.port);
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let change = Arc::clone(&change);
            let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || carry(from, into, &|_: &mut [u8]| {}, Duration::ZERO));
            thread::spawn(move || carry(server, client, &*change, each));
        }
    });
    format!("redis://127.0.0.1:{port}")
}

fn carry(mut from: TcpStream, mut into: TcpStream, change: &Change, each: Duration) {
    let mut room = vec![0; if each.is_zero() { 1 << 20 } else { 4 << 10 }];
    while let Ok(bytes @ 1..) = from.read(&mut room) {
        change(&mut room[..bytes]);
        // It is what it stands for: a way that takes time.
        thread::sleep(each);
        if into.write_all(&room[..bytes]).is_err() {
            return;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Both);
}

/// Makes of what stands behind `field:` in `INFO` these digits, filled up in front.
pub(super) fn says(field: &'static str, digits: &'static str) -> impl Fn(&mut [u8]) + Send + Sync {
    move |said| {
        let head = format!("{field}:");
        let Some(at) = find(said, head.as_bytes()) else { return };
        let value = &mut said[at + head.len()..];
        let length = value.iter().position(|byte| *byte == b'\r').unwrap_or(0);
        let text = format!("{digits:0>length$}");
        value[..length].copy_from_slice(&text.as_bytes()[text.len() - length..]);
    }
}

/// Sets the first of the bytes that stand right behind these to this one.
pub(super) fn sets(behind: &'static str, byte: u8) -> impl Fn(&mut [u8]) + Send + Sync {
    move |said| {
        if let Some(at) = find(said, behind.as_bytes()) {
            said[at + behind.len()] = byte;
        }
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
