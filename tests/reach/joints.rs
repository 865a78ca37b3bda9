//! A stream that goes on over another link while what the lost one has brought still waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;
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
