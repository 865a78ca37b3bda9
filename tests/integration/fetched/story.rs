//! What a server's stream says while others write to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use understudy::net::Net;
use understudy::offset::{Offset, ReplId};
use understudy::plan::ServerPlace;
use understudy::repl::{Event, Method};
use understudy::source::{Replica, Wants};

use crate::client::Command;
use crate::dice::Dice;
use crate::servers::Server;

use super::place;

/// Counters that only `INCR` writes, two of them together in transactions.
pub(crate) const COUNTERS: [&str; 3] = ["alone", "both", "other"];

/// And one whose name is so long that a server reads what is asked of it piece by piece, and serves others in between.
pub(crate) fn long_counter() -> String {
    "long".repeat(10_000)
}

pub(crate) type Counts = [Option<i64>; COUNTERS.len() + 1];

/// What a stream says, as far as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// `None` until the copy has come.
    replid: Option<ReplId>,
    /// What the counters are from this offset on, outside of transactions only.
    told: Vec<(Offset, Counts)>,
    pub(crate) commands: u64,
}

impl Story {
    /// What the counters are at this offset; `None` if it is no place between two commands.
    pub(crate) fn at(&self, offset: Offset) -> Option<Counts> {
        let found = self.told.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        Some(self.told[found].1)
    }
}

/// A replica that reads until it is told where the end is.
pub(crate) struct Reader {
    story: watch::Receiver<Story>,
    goal: watch::Sender<Option<Offset>>,
    task: tokio::task::JoinHandle<Story>,
}

impl Reader {
    pub(crate) fn start(server: &Server) -> Self {
        let (goal, ends) = watch::channel(None);
        let (told, story) = watch::channel(Story::default());
        let task = tokio::spawn(read_stream(place(&server.url()), told, ends));
        Self { story, goal, task }
    }

    /// The history of the stream, once its commands come.
    pub(crate) async fn history(&mut self) -> ReplId {
        let begun = self.story.wait_for(|story| story.replid.is_some()).await;
        begun.unwrap().replid.unwrap()
    }

    pub(crate) async fn read_up_to(self, goal: Offset) -> Story {
        self.goal.send(Some(goal)).unwrap();
        self.task.await.unwrap()
    }
}

async fn read_stream(
    from: ServerPlace,
    begun: watch::Sender<Story>,
    mut goal: watch::Receiver<Option<Offset>>,
) -> Story {
    let mut replica = Replica::open(&Net::system(), &from, Method::Psync, None).await.unwrap();
    let (mut story, mut counts) = (Story::default(), Counts::default());
    let (mut replid, mut whole, mut upto) = (None, true, Offset::default());
    loop {
        while let Some(event) = replica.poll_event().unwrap() {
            match event {
                Event::FullSync { at, .. } => {
                    let at = at.unwrap();
                    replid = Some(at.replid);
                    story.told.push((at.offset, counts));
                }
                Event::PayloadEnds => {
                    story.replid = replid;
                    begun.send(story.clone()).unwrap();
                }
                Event::Command(command) => {
                    let words: Vec<_> = command.args().collect();
                    match words[0].to_ascii_uppercase().as_slice() {
                        b"MULTI" => whole = false,
                        b"EXEC" => whole = true,
                        b"INCR" => {
                            let counter =
                                COUNTERS.iter().position(|key| key.as_bytes() == words[1]);
                            let counter = counter.unwrap_or(COUNTERS.len());
                            *counts[counter].get_or_insert(0) += 1;
                        }
                        _ => {}
                    }
                    story.commands += 1;
                    upto = command.end;
                    if whole {
                        story.told.push((command.end, counts));
                    }
                }
                _ => {}
            }
        }
        replica.confirm(upto);
        if goal.borrow().is_some_and(|goal| upto >= goal) {
            return story;
        }
        tokio::select! {
            read = replica.exchange(Wants::MORE) => drop(read.unwrap()),
            _ = goal.changed() => {}
        }
    }
}

/// Threads that write until they are stopped.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Each sends its commands in one write, again and again, with pauses of up to this.
    pub(crate) fn start(server: &Server, writes: Vec<Vec<Command>>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (1..).zip(writes).map(|(seed, commands)| {
            let (stop, mut client) = (Arc::clone(&stop), server.client());
            let mut dice = Dice::new(seed);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.pipeline(&commands);
                    let until =
                        Instant::now() + pause / 100 * u32::try_from(dice.below(100)).unwrap();
                    while Instant::now() < until {
                        thread::yield_now();
                    }
                }
            })
        });
        Self { threads: threads.collect(), stop }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
