//! A proxy between the tool and a server, which does to their connections what a network does on a bad day.

use std::net::{Ipv4Addr, TcpListener as Listener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::connection::serve;
use super::wire::Commands;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the tool to the server.
    Up,
    /// From the server to the tool.
    Down,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Orderly: what was passed on arrives.
    Fin,
    /// What was passed on may be thrown away by who has not read it.
    Rst,
}

/// What becomes of a chosen `EXEC`, whose connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExecCut {
    /// The server does not get it.
    Before,
    /// The server has done it; its reply is lost.
    After,
    /// The server gets it when the tool has long given the connection up, and said so many bytes on a new one.
    Late(u64),
}

pub(super) struct Proxy {
    pub(super) port: u16,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// For tests, which wait in threads.
    told: Condvar,
    /// For connections: something in the state has changed.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) server: u16,
    /// The number of the next connection.
    pub(super) next: u64,
    /// All connections with a lower number are cut.
    pub(super) cut: (u64, Option<Cut>),
    /// Nothing passes these ways for now on connections with a lower number.
    pub(super) held: [u64; 2],
    /// What goes these ways is lost.
    lost: [bool; 2],
    /// The connection that passes on the last of so many bytes this way is then cut.
    cut_after: [Option<(u64, Cut)>; 2],
    /// So many bytes until it is told that they have passed.
    tell_after: Option<u64>,
    /// Which `EXEC` from now on is cut, and how.
    exec: Option<(u32, ExecCut)>,
    exec_cuts: u32,
    pub(super) delay: Duration,
    /// Bytes in a second, either way.
    pub(super) rate: Option<u32>,
    /// Bytes that have passed up, ever.
    pub(super) up: u64,
    /// A number changes whenever a test may go on.
    events: u64,
}

/// What a writer does with a piece.
pub(super) enum Pass {
    All,
    Lose,
    /// Passes so much on, and has the connection cut.
    Cut(usize, Cut),
    /// Passes so much on, and has the connection cut when an answer comes.
    CutAnswer(usize),
    /// Lets the tool's side go; passes so much on, and the rest of the `EXEC` when so much has passed on others.
    Late(usize, usize, u64),
}

impl Proxy {
    /// A proxy to the server on this port.
    pub(super) fn to(server: u16) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { server, ..State::default() };
        let (changed, _) = watch::channel(0);
        let shared =
            Arc::new(Shared { state: Mutex::new(state), told: Condvar::default(), changed });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&accepting)));
            }
        });
        Self { port, shared, _runtime: runtime }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on it leads to another server.
    pub(super) fn lead_to(&self, server: u16) {
        self.shared.change(|state| state.server = server);
    }

    /// Cuts all connections.
    pub(super) fn cut(&self, how: Cut) {
        self.shared.change(|state| state.cut = (state.next, Some(how)));
    }

    /// Cuts a connection when exactly so many more bytes have passed this way.
    pub(super) fn cut_after(&self, way: Way, bytes: u64, how: Cut) {
        self.shared.change(|state| state.cut_after[way as usize] = Some((bytes, how)));
    }

    /// Cuts around the nth `EXEC` from now.
    pub(super) fn cut_exec(&self, nth: u32, how: ExecCut) {
        self.shared.change(|state| state.exec = Some((nth, how)));
    }

    /// Lets nothing pass on the connections there are, or on those to come too. It is not lost: [`Proxy::heal`] lets it pass.
    pub(super) fn hold(&self, ways: &[Way], new_ones_too: bool) {
        self.shared.change(|state| {
            let below = if new_ones_too { u64::MAX } else { state.next };
            ways.iter().for_each(|&way| state.held[way as usize] = below);
        });
    }

    /// Loses all that goes these ways.
    pub(super) fn lose(&self, ways: &[Way]) {
        self.shared.change(|state| ways.iter().for_each(|&way| state.lost[way as usize] = true));
    }

    /// Ends all that goes wrong and is not done yet. What has lost bytes is cut.
    pub(super) fn heal(&self) {
        self.shared.change(|state| {
            if state.lost.contains(&true) {
                state.cut = (state.next, Some(Cut::Rst));
            }
            (state.held, state.lost) = ([0; 2], [false; 2]);
            (state.cut_after, state.exec) = ([None; 2], None);
        });
    }

    /// How long bytes are under way in each direction.
    pub(super) fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// How many bytes a second pass each way.
    pub(super) fn limit(&self, rate: u32) {
        self.shared.change(|state| state.rate = Some(rate));
    }

    /// Waits until so many bytes have passed to the server. `false` when what sends them is no longer `going`.
    pub(super) fn wait_for(&self, bytes: u64, mut going: impl FnMut() -> bool) -> bool {
        self.shared.change(|state| state.tell_after = Some(bytes));
        loop {
            let state = self.shared.state();
            if state.tell_after.is_none() {
                return true;
            }
            drop(self.shared.told.wait_timeout(state, LOOK).unwrap());
            if !going() {
                return false;
            }
        }
    }

    /// Waits until the cut that was ordered has been made; `false` when patience is over.
    pub(super) fn wait_cut(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.state();
        while state.exec.is_some() || state.cut_after.iter().any(Option::is_some) {
            if Instant::now() > until {
                return false;
            }
            state = self.shared.told.wait_timeout(state, LOOK).unwrap().0;
        }
        true
    }

    /// How often an `EXEC` was cut.
    pub(super) fn exec_cuts(&self) -> u32 {
        self.shared.state().exec_cuts
    }
}

/// How often a test that waits sees whether it still makes sense.
const LOOK: Duration = Duration::from_millis(20);

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.events += 1;
        self.told.notify_all();
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Waits until the state is so.
    pub(super) async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(&self.state()) {
            let _ = changed.changed().await;
        }
    }

    /// What becomes of these bytes.
    pub(super) fn pass(&self, nth: u64, way: Way, bytes: &[u8], commands: &mut Commands) -> Pass {
        let mut state = self.state();
        // What has lost bytes must not pass those behind them.
        if nth < state.cut.0 {
            return Pass::Cut(0, state.cut.1.unwrap_or(Cut::Rst));
        }
        let mut pass = state.pass(way, bytes, commands);
        let passed = match pass {
            Pass::All => bytes.len(),
            Pass::Lose => 0,
            Pass::Cut(passed, _) | Pass::CutAnswer(passed) | Pass::Late(passed, ..) => passed,
        } as u64;
        if let Some((left, how)) = state.cut_after[way as usize] {
            if left <= passed {
                state.cut_after[way as usize] = None;
                pass = Pass::Cut(usize::try_from(left).unwrap(), how);
            } else {
                state.cut_after[way as usize] = Some((left - passed, how));
            }
            self.told.notify_all();
        }
        if way == Way::Up {
            state.up += passed;
            state.tell_after = state.tell_after.and_then(|left| {
                let left = left.saturating_sub(passed);
                (left > 0).then_some(left)
            });
            self.told.notify_all();
            self.changed.send_modify(|changes| *changes += 1);
        }
        pass
    }
}

impl State {
    fn pass(&mut self, way: Way, bytes: &[u8], commands: &mut Commands) -> Pass {
        if self.lost[way as usize] {
            return Pass::Lose;
        }
        let mut at = 0;
        while way == Way::Up
            && let Some(used) = commands.exec(&bytes[at..])
        {
            let before = at;
            at += used;
            let Some((nth, how)) = self.exec else { continue };
            if nth > 1 {
                self.exec = Some((nth - 1, how));
                continue;
            }
            self.exec = None;
            self.exec_cuts += 1;
            return match how {
                ExecCut::Before => Pass::Cut(before, Cut::Rst),
                ExecCut::After => Pass::CutAnswer(at),
                ExecCut::Late(bytes) => Pass::Late(before, at, self.up + bytes),
            };
        }
        Pass::All
    }
}
