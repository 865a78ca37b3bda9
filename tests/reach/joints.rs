//! A stream that goes on over another link while what the lost one has brought still waits.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;
use understudy::ledger::Scratch;
use understudy::net::Net;
use understudy::offset::Offset;
use understudy::plan::{Place, ServerPlace};
use understudy::repl::{Event, Method, Resume};
use understudy::source::{Replica, SourceError, Wants};
use understudy::spool::Store;

use crate::formats::{EMPTY, FULLRESYNC};
use crate::links::block_on;
use crate::peers::Says::{Last, On, Usual};
use crate::peers::{net, place};

fn server() -> ServerPlace {
    match place("source") {
        Place::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

/// Takes all there is for now, and gives the places at which commands have ended.
async fn take(replica: &mut Replica, ends: &mut Vec<Offset>) -> Result<(), SourceError> {
    loop {
        while let Some(event) = replica.poll_event()? {
            if let Event::Command(command) = event {
                ends.push(command.end);
            }
        }
        match timeout(Duration::from_secs(5), replica.exchange(Wants::MORE)).await {
            Ok(exchanged) => drop(exchanged?),
            Err(_) => return Ok(()),
        }
    }
}

/// A master that is lost when it has said this, and on the next link says that: where its commands end.
async fn joined(said: &[u8], then: &[u8]) -> Result<Vec<u64>, SourceError> {
    let (asked, told) = (AtomicU64::new(0), AtomicBool::new(false));
    let first = [FULLRESYNC, b"$18\r\n", EMPTY].concat();
    let (said, then) = (said.to_vec(), [b"+CONTINUE\r\n", then].concat());
    let net: Net = net(move |_, name| match name {
        "PSYNC" if asked.fetch_add(1, Ordering::Relaxed) == 0 => On(first.clone()),
        "PSYNC" => On(then.clone()),
        // What is acknowledged first is answered with the stream.
        "REPLCONF" if asked.load(Ordering::Relaxed) == 1 && !told.swap(true, Ordering::Relaxed) => {
            Last(said.clone())
        }
        _ => Usual,
    });
    let mut replica = Replica::open(&net, &server(), Method::Auto, None).await?;
    replica.set_spool(Store::new(std::env::temp_dir(), 1 << 20).spool(4096));
    let mut begins = None;
    while begins.is_none() {
        while let Some(event) = replica.poll_event()? {
            begins = match event {
                Event::PayloadEnds => Some(()),
                _ => begins,
            };
        }
        if begins.is_none() {
            replica.exchange(Wants::MORE).await?;
        }
    }
    let waits = Wants { take: false, read: true };
    while replica.lost_at().is_none() {
        replica.exchange(waits).await?;
    }
    let at: Resume = replica.lost_at().unwrap();
    let mut other = Replica::open(&net, &server(), Method::Auto, Some(at)).await?;
    while other.poll_event()?.is_none() {
        other.exchange(Wants::MORE).await?;
    }
    assert!(replica.go_on_with(other), "it is the place that was asked for");
    assert_eq!(replica.lost_at(), None);
    let mut ends = Vec::new();
    take(&mut replica, &mut ends).await?;
    Ok(ends.into_iter().map(Offset::get).collect())
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

#[test]
fn a_stream_goes_on_within_a_command_and_nobody_sees_it() {
    let all = PING.repeat(2000);
    // FULLRESYNC told 7.
    let ends: Vec<u64> = (1..=2000).map(|n| 7 + n * PING.len() as u64).collect();
    for cut in [14, 15, 20, 9_000, 27_999] {
        let (said, then) = all.split_at(cut);
        let joined = block_on(joined(said, then)).unwrap();
        assert_eq!(joined, ends, "cut at {cut}");
    }
}

/// A byte that counts in no offset makes the place wrong that was asked for: nothing is taken from there.
#[test]
fn a_place_that_was_reckoned_wrong_is_left() {
    let said = [&PING.repeat(10), &b"\n"[..], &PING.repeat(10)].concat();
    let joined = block_on(joined(&said, &PING.repeat(10)));
    assert!(matches!(joined, Err(SourceError::Closed)), "{joined:?}");
}

/// A disk that takes its time, and has no room then.
struct Slow(mpsc::Receiver<()>);

impl Scratch for Slow {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        let _ = self.0.recv();
        Err(io::ErrorKind::StorageFull.into())
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// It may be told when nothing comes any more from the master, which is not read, nor from anybody else.
#[test]
fn a_spool_without_room_is_told_when_its_disk_says_so() {
    const BLOCK: usize = 4096;
    // More than is read at once.
    let said = [FULLRESYNC, b"$18\r\n", EMPTY, &PING.repeat(20_000)].concat();
    let net = net(move |_, name| if name == "PSYNC" { On(said.clone()) } else { Usual });
    let (says, heard) = mpsc::channel();
    let disk = Mutex::new(Some(Slow(heard)));
    let make = Arc::new(move || match disk.lock().unwrap().take() {
        Some(disk) => Ok(Box::new(disk) as Box<_>),
        None => Err(io::ErrorKind::StorageFull.into()),
    });
    block_on(async {
        let mut replica = Replica::open(&net, &server(), Method::Auto, None).await.unwrap();
        replica.set_spool(Store::with("slow".into(), 1 << 20, make).spool(BLOCK));
        while replica.poll_event().unwrap().is_none() {
            replica.exchange(Wants::MORE).await.unwrap();
        }
        let waits = Wants { take: false, read: true };
        // One block is what is taken next, the disk has the second, and the third is full.
        while replica.spool().unwrap().len() < 3 * BLOCK as u64 {
            tokio::select! {
                biased;
                read = replica.exchange(waits) => assert!(read.unwrap() > 0),
                () = yield_now() => {}
            }
        }
        assert!(replica.spool().unwrap().full().is_none());
        says.send(()).unwrap();
        let told = timeout(Duration::from_secs(5), replica.exchange(waits)).await;
        assert_eq!(told.expect("nobody was told").unwrap(), 0);
        assert!(replica.spool().unwrap().full().is_some());
    });
}
