//! A job that is taken over while somebody else writes its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use understudy::flow::Ended;
use understudy::key::Db;
use understudy::position::{self, Phase, Record};
use understudy::server::Server;
use understudy::target::{Entrance, Keeper, Standalone, TargetError};

use crate::formats::redis;
use crate::links::{block_on, record};
use crate::peers::{Kept, Says, net_keeping, server};
use crate::runs::{Desk, plan, run};

const CONNECTION: &str = "understudy:job:us-1";

/// A record that is written so often.
fn written(nth: u32) -> Vec<u8> {
    Record { copies: u64::from(nth), ..record() }.encode()
}

/// Takes a job over whose first process commits something between any two of our commands, as long as it finds what it has written.
async fn beside_a_busy_one(fences: bool) -> Result<Vec<u8>, TargetError> {
    let (kept, key) = (Kept::default(), position::key("", "source"));
    kept.lock().unwrap().insert(key.clone(), written(0));
    let (of, stored, commits) = (key.clone(), Arc::clone(&kept), AtomicU32::new(0));
    let network = net_keeping(Arc::clone(&kept), move |_, _| {
        let last = commits.load(Ordering::Relaxed);
        if stored.lock().unwrap()[&of] == written(last) {
            stored.lock().unwrap().insert(of.clone(), written(last + 1));
            commits.store(last + 1, Ordering::Relaxed);
        }
        Says::Usual
    });
    let at = (Db::default(), key.clone());
    let mut entrance: Entrance =
        Standalone::enter(&network, &server("target"), at, CONNECTION).await?;
    if fences {
        entrance.fence(&key, "us").await?;
    }
    let found = entrance.stored.clone();
    assert_eq!(found.as_deref().and_then(position::fenced_by), fences.then_some("us"));
    let taken = Record { owner: "us".to_owned(), generation: 2, ..record() };
    let keeper = Keeper::new(taken.clone(), found, (Db::default(), key.clone(), Vec::new()));
    Standalone::claim(entrance, keeper).await?;
    let now = kept.lock().unwrap()[&key].clone();
    assert_eq!(now, taken.encode());
    Ok(now)
}

#[test]
fn who_takes_over_gets_in_beside_the_busiest_process() {
    assert!(block_on(beside_a_busy_one(true)).is_ok());
    // Without it the other one is always faster.
    let beaten = block_on(beside_a_busy_one(false));
    assert!(matches!(beaten, Err(TargetError::Overtaken)), "{beaten:?}");
}

/// How a run ends that finds no record, where one is written so often just before it writes its own.
fn begins_beside(others: u32, phase: Phase) -> (Ended, Option<String>) {
    let desk = Desk::new();
    let from = desk.rdb("source", b"\x00\x01k\x01v");
    let (kept, key) = (Kept::default(), position::key("", "source"));
    let (stored, left) = (Arc::clone(&kept), AtomicU32::new(others));
    let network = net_keeping(kept, move |_, name| {
        let mut stored = stored.lock().unwrap();
        match name {
            // Whoever wrote it is gone again when we come anew.
            "INFO" if left.load(Ordering::Relaxed) > 0 => {
                stored.remove(&key);
            }
            "WATCH" if left.load(Ordering::Relaxed) > 0 && !stored.contains_key(&key) => {
                left.fetch_sub(1, Ordering::Relaxed);
                stored.insert(key.clone(), Record { phase, replid: None, ..record() }.encode());
            }
            _ => {}
        }
        Says::Usual
    });
    let target: Server = redis(7, 0);
    let mut reports =
        block_on(run(&network, &plan(vec![from], crate::peers::place("target")), Some(target)));
    let report = reports.remove(0);
    (report.ended, report.failure.map(|(what, _)| what))
}

#[test]
fn a_run_that_begins_meets_the_last_word_of_one_that_was_killed() {
    for others in [0, 1, 4] {
        assert_eq!(begins_beside(others, Phase::Copying), (Ended::Done, None), "{others} others");
    }
    let (ended, failure) = begins_beside(u32::MAX, Phase::Copying);
    assert_eq!(ended, Ended::Refused);
    assert_eq!(failure.as_deref(), Some("target: another process has taken this job over"));
}
