//! Applications that write to the source, whatever becomes of it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, Value, cmd};
use crate::data::Holds;
use crate::load::{Among, Load};
use crate::servers::Version;

/// Several connections, each with a [`Load`] of its own. They end with this value.
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Where the source is.
    port: u16,
    mode: Mode,
    /// How many rest.
    resting: usize,
    /// Commands that were answered, and those that were refused.
    written: u64,
    refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Write,
    Rest,
    End,
}

/// Commands in one pipeline, and the pause behind it: four connections then send a few thousand a second.
const PIPELINE: usize = 25;
const PAUSE: Duration = Duration::from_millis(20);

impl Writers {
    /// Starts so many.
    pub(super) fn start(count: usize, seed: u64, port: u16, what: What) -> Self {
        let state = State { port, mode: Mode::Write, resting: 0, written: 0, refused: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::default() });
        let threads = (0..count).map(|nth| {
            let shared = Arc::clone(&shared);
            let load =
                Load::new(seed.wrapping_mul(31).wrapping_add(nth as u64), what.version, what.holds);
            let load = load.among(Among { nth, flushes: what.flushes });
            thread::spawn(move || shared.write(load))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// Waits until so many more commands have been written, or patience is over.
    pub(super) fn wait_for(&self, more: u64, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.shared.state();
        let goal = state.written + more;
        while state.written < goal {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Has them rest; when this returns none of them has anything under way.
    pub(super) fn rest(&self) {
        let mut state = self.shared.set(|state| state.mode = Mode::Rest);
        while state.resting < self.threads.len() {
            state = self.shared.changed.wait(state).unwrap();
        }
    }

    /// Has them write again, to the source on this port.
    pub(super) fn go_on(&self, port: u16) {
        drop(self.shared.set(|state| (state.mode, state.port) = (Mode::Write, port)));
    }

    /// How many commands were written, and how many of them were refused.
    pub(super) fn written(&self) -> (u64, u64) {
        let state = self.shared.state();
        (state.written, state.refused)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        drop(self.shared.set(|state| state.mode = Mode::End));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct What {
    pub(super) version: Version,
    pub(super) holds: Holds,
    pub(super) flushes: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut State)) -> MutexGuard<'_, State> {
        let mut state = self.state();
        change(&mut state);
        self.changed.notify_all();
        state
    }

    /// One writer's life.
    fn write(&self, mut load: Load) {
        let mut client: Option<Client> = None;
        while let Some(port) = self.next() {
            if client.as_ref().is_none_or(|client| client.port() != port) {
                load.begin_again();
                // A server on its way to be one again, or one that is stopped.
                client = Client::try_connect(port, Duration::from_secs(5)).ok();
            }
            if let Some(there) = &mut client {
                let commands = load.some(PIPELINE);
                match there.try_pipeline(&commands) {
                    Ok(replies) => self.note(&replies, &mut load),
                    Err(_) => client = None,
                }
            }
            self.pause();
        }
    }

    /// Where to write next, after a rest if there is to be one; `None` is the end.
    fn next(&self) -> Option<u16> {
        let mut state = self.state();
        if state.mode == Mode::Rest {
            state.resting += 1;
            self.changed.notify_all();
            while state.mode == Mode::Rest {
                state = self.changed.wait(state).unwrap();
            }
            state.resting -= 1;
        }
        (state.mode == Mode::Write).then_some(state.port)
    }

    fn note(&self, replies: &[Value], load: &mut Load) {
        let refused = replies.iter().filter(|reply| reply.is_error()).count();
        if replies
            .iter()
            .any(|reply| matches!(reply, Value::Error(line) if line.starts_with("NOSCRIPT")))
        {
            load.forget_script();
        }
        drop(self.set(|state| {
            state.written += (replies.len() - refused) as u64;
            state.refused += refused as u64;
        }));
    }

    fn pause(&self) {
        let state = self.state();
        let _ = self.changed.wait_timeout_while(state, PAUSE, |state| state.mode == Mode::Write);
    }
}

/// Writes a key to the server that nobody else writes.
pub(super) fn mark(client: &mut Client, nth: u64) {
    client.call(cmd!("SET", MARK, nth));
}

/// The key that says how much of what was written has arrived.
pub(super) const MARK: &str = "faults:mark";
