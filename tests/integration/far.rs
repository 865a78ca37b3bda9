//! A way to a server that takes its time, however much goes over it. It holds up bytes, and nothing else of a network: a connection comes about at
//! once, no window is small, nothing is lost.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// So many bytes may be on their way in each direction of a connection: several gigabytes a second, over ten milliseconds.
const MOST: usize = 64 << 20;

/// So many bytes are read at once.
const PIECE: usize = 256 << 10;

/// The port of a way to this one that holds every byte back for so long, in each direction. It is there until the process ends.
pub(crate) fn away(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let here = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever connects sees that nobody is there: the connection ends.
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            carry(&client, &server, delay).unwrap();
            carry(&server, &client, delay).unwrap();
        }
    });
    here
}

/// Carries what one says to the other.
fn carry(from: &TcpStream, into: &TcpStream, delay: Duration) -> io::Result<()> {
    into.set_nodelay(true)?;
    let way = Arc::new(Way::default());
    let (mut heard, mut said) = (from.try_clone()?, into.try_clone()?);
    let taking = Arc::clone(&way);
    thread::spawn(move || {
        let mut room = vec![0; PIECE];
        loop {
            // A link that broke has ended too.
            let count = heard.read(&mut room).unwrap_or(0);
            let goes_on = taking.put(Instant::now() + delay, &room[..count]);
            if count == 0 || !goes_on {
                return;
            }
        }
    });
    let from = from.try_clone()?;
    thread::spawn(move || {
        while let Some(bytes) = way.next() {
            if said.write_all(&bytes).is_err() {
                way.give_up();
                let _ = from.shutdown(Shutdown::Read);
                return;
            }
        }
        let _ = said.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// What is on its way.
#[derive(Default)]
struct Way {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// When each arrives. The last has no bytes.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Nobody takes anything more.
    is_over: bool,
}

impl Way {
    /// Puts a piece in, as soon as there is room. `false`: it will never arrive.
    fn put(&self, due: Instant, bytes: &[u8]) -> bool {
        let is_full = |state: &mut State| state.bytes >= MOST && !state.is_over;
        let mut state = self.changed.wait_while(self.state.lock().unwrap(), is_full).unwrap();
        state.pieces.push_back((due, bytes.to_vec()));
        state.bytes += bytes.len();
        self.changed.notify_all();
        !state.is_over
    }

    /// The next piece, when it is due; `None` at the end.
    fn next(&self) -> Option<Vec<u8>> {
        let is_empty = |state: &mut State| state.pieces.is_empty();
        let mut state = self.changed.wait_while(self.state.lock().unwrap(), is_empty).unwrap();
        let (due, bytes) = state.pieces.pop_front()?;
        state.bytes -= bytes.len();
        drop(state);
        self.changed.notify_all();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        (!bytes.is_empty()).then_some(bytes)
    }

    fn give_up(&self) {
        self.state.lock().unwrap().is_over = true;
        self.changed.notify_all();
    }
}
