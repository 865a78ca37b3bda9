//! How far away a server is, and how much goes through; and what it shows while it is at it.
//!
//! What is sent to a server counts there as written to it, and how much that is matters of a source. So a source is asked for much in few words, and
//! only a target is sent much.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::time::timeout;

use crate::net::{Clock, Link, Net, round_trips};
use crate::plan::ServerPlace;
use crate::plan::check::{NoAnswer, Seen};
use crate::resp::command;

use super::asked::words;
use super::raw::{Answer, Raw};

/// How many round trips are measured.
const TRIPS: u32 = 11;

/// What is sent there and back in one `ECHO`.
const PIECE: usize = 256 << 10;

/// How much goes through in all, and in how many pieces at most.
const ALL: usize = 2 << 20;
const PIECES: usize = 64;

/// A way on which a single piece takes longer is known by that.
const SLOW: Duration = Duration::from_millis(500);

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn look(net: &Net, place: &ServerPlace, is_source: bool, seen: &mut Seen) {
    match round_trips(net, place, TRIPS).await {
        Ok(mut trips) => {
            trips.sort_unstable();
            seen.round_trip = trips.get(trips.len() / 2).copied();
        }
        Err(error) => seen.no_answer.push(NoAnswer {
            question: "PING",
            unknown: "how far away it is".to_owned(),
            text: words(error),
            right: "+ping",
        }),
    }
    let piece = vec![b'x'; PIECE];
    let (question, right, asked): (_, _, &[&[u8]]) = match is_source {
        // It tells of all commands that it knows, and needs nothing for it.
        true => ("COMMAND", "+command", &[b"COMMAND"]),
        false => ("ECHO", "+echo", &[b"ECHO", &piece]),
    };
    if let Err(text) = measure(net, place, asked, seen).await {
        seen.no_answer.push(NoAnswer {
            question,
            unknown: "how much goes through the link".to_owned(),
            text,
            right,
        });
    }
}

/// Asks once, then as often in one go as makes a measure.
async fn measure(
    net: &Net,
    place: &ServerPlace,
    asked: &[&[u8]],
    seen: &mut Seen,
) -> Result<(), String> {
    let mut raw = Raw::open(net, place).await.map_err(words)?;
    seen.certificates.extend(raw.link.certificates());
    let (clock, begun) = (net.clock(), net.clock().now());
    let first = timeout(PATIENCE, raw.ask(asked)).await;
    let took = clock.now().saturating_sub(begun);
    match first {
        Ok(Some(Answer::Value(_))) => {}
        Ok(Some(Answer::Error(text))) => return Err(text),
        _ => return Err("no answer".to_owned()),
    }
    let answer = raw.answered;
    let (bytes, took) = match took > SLOW {
        true => (answer, took),
        false => {
            let pieces = (ALL / answer.max(1)).clamp(1, PIECES);
            let all = timeout(PATIENCE, in_one_go(clock, raw.link, asked, pieces, answer));
            match all.await {
                Ok(Some(took)) => (answer * pieces, took),
                _ => (answer, took),
            }
        }
    };
    let seconds = took.saturating_sub(seen.round_trip.unwrap_or_default()).as_secs_f64().max(1e-6);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate has no more than a few digits that count"
    )]
    let rate = (bytes as f64 / seconds) as u64;
    seen.rate = Some(rate.max(1));
    Ok(())
}

/// How long it takes to ask so often, where each answer has as many bytes as the first.
async fn in_one_go(
    clock: Clock,
    link: Link,
    asked: &[&[u8]],
    pieces: usize,
    answer: usize,
) -> Option<Duration> {
    let mut one = Vec::new();
    command(&mut one, asked);
    let (mut from, mut to) = split(link);
    let begun = clock.now();
    let write = async {
        for _ in 0..pieces {
            to.write_all(&one).await.ok()?;
        }
        to.flush().await.ok()
    };
    let read = async {
        let (mut left, mut room) = (answer * pieces, vec![0; PIECE]);
        while left > 0 {
            match from.read(&mut room).await.ok()? {
                0 => return None,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        Some(())
    };
    let (written, read) = tokio::join!(write, read);
    written.and(read).map(|()| clock.now().saturating_sub(begun))
}
