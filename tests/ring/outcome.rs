//! Whether a run ended as it may.

use std::time::Duration;

use understudy::flow::{Ended, SourceReport};
use understudy::position::{Phase, Record};

use crate::master::{Full, Logged, Master};
use crate::model::{Entry, Keys, Model, Value};
use crate::ruled::Ruled;
use crate::target::Target;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The target holds what the source held.
    Exact,
    /// Nothing was written.
    Nothing,
    /// The target refused for longer than is waited for, or the copy was cut off again and again.
    GivenUp,
}

impl Ending {
    pub(crate) const ALL: [Self; 3] = [Self::Exact, Self::Nothing, Self::GivenUp];
}

/// When a run began, and what time it is now that it has ended, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) begun: i64,
    pub(crate) now: i64,
}

/// Panics if the run ended as none may. What the target holds is given with the names that the source has.
pub(crate) fn judge(
    report: &SourceReport,
    (master, target, rules): (&Master, &Target, &Ruled),
    there: Model,
    times: Times,
    was_killed: bool,
) -> Ending {
    let Times { begun, now } = times;
    let is_stubborn = target.is_stubborn();
    let restarted = target.was_restarted();
    // What a target has lost was acknowledged before.
    assert!(restarted || master.faults().is_empty(), "{:?}", master.faults());
    let confirmed = report.numbers.confirmed_offset;
    let failure = report.failure.as_ref().map(|(failure, _)| failure.as_str()).unwrap_or_default();
    match report.ended {
        Ended::Done => {
            assert_eq!(failure, "");
            let full = master.full().unwrap();
            let log = master.log_after(full.offset);
            // All that was written before the copy was there, at the least.
            // One that went on where another was killed has copied nothing.
            let copied = Duration::from_secs_f64(report.copy_seconds.unwrap_or(0.0));
            assert!(was_killed || report.copy_seconds.is_some());
            let copied = begun + i64::try_from(copied.as_millis()).unwrap();
            let due = log.iter().take_while(|logged| logged.at < copied).map(|logged| logged.end);
            let due = due.last().unwrap_or(full.offset);
            assert!(confirmed >= due, "done at {confirmed}, and the source was at {due} before");
            let expected = rules.dated(play(&full.model, &log, confirmed), target.ended());
            assert_eq!((report.held_back, report.unproven), (Some(0), 0));
            let (expected, there) = (alive(expected, now), alive(there, now));
            if !expected.same(&there) {
                for Logged { end, commands, .. } in &log {
                    for (db, args) in commands {
                        let line: Vec<_> =
                            args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
                        println!("{end} db {db}: {}", line.join(" "));
                    }
                }
                panic!("at {confirmed}:\n{}", difference(&expected, &there));
            }
            Ending::Exact
        }
        Ended::Refused => {
            let is_own = |key: &Vec<u8>| key.starts_with(b"understudy:");
            let others = there.dbs.values().flat_map(Keys::keys).filter(|key| !is_own(key));
            // An earlier run may have written before it was killed.
            assert!(was_killed || others.count() == 0, "{failure}: {there:?}");
            if let Some(full) = master.full().filter(|_| !target.fails_inside()) {
                were_there(&there, &full, &master.log_after(full.offset));
            }
            Ending::Nothing
        }
        Ended::Failed => {
            let is = |text: &str| failure.contains(text);
            let full = master.full().unwrap();
            let log = master.log_after(full.offset);
            if !target.fails_inside() {
                // Whatever was cut off, however many copies were begun.
                were_there(&there, &full, &log);
            }
            let record = record(&there);
            match &record {
                // It was written with what it stands for. Of what ran unseen keys may be ahead by now, and others behind.
                Some(record)
                    if record.phase == Phase::Following
                        && record.doubts.is_empty()
                        && record.clean == record.applied =>
                {
                    is_the_moment(&there, &full, &log, record.applied.offset, now);
                    // What a target has lost was confirmed before.
                    if !restarted {
                        is_a_moment(&there, &full, &log, confirmed, now);
                    }
                }
                Some(record) if record.phase != Phase::Copying => {}
                // In the midst of a copy. What an earlier one has brought, and its stream, is there too.
                _ if restarted || was_killed || report.numbers.full_syncs > 1 => {}
                _ => is_part(&there, &full, failure),
            }
            let refused =
                (is("the target refuses to go on") || is("has not been there for")) && is_stubborn;
            if refused || is("the copy was cut off") {
                Ending::GivenUp
            } else {
                panic!("{failure}");
            }
        }
        other => panic!("{other:?}"),
    }
}

/// The job's record.
fn record(there: &Model) -> Option<Record> {
    let own = |(key, _): &(&Vec<u8>, &Entry)| key.starts_with(b"understudy:pos:");
    let (_, entry) = there.dbs.values().flatten().find(own)?;
    let Value::Text(text) = &entry.value else { panic!("{entry:?}") };
    Some(Record::decode(text).unwrap())
}

/// What a source held at an offset.
fn play(from: &Model, log: &[Logged], upto: u64) -> Model {
    let mut model = from.clone();
    for logged in log.iter().take_while(|logged| logged.end <= upto) {
        apply(&mut model, logged);
    }
    model
}

fn apply(model: &mut Model, logged: &Logged) {
    for (db, args) in &logged.commands {
        model.run(*db, args, logged.at);
    }
}

fn alive(mut model: Model, now: i64) -> Model {
    model.expire(now);
    model
}

/// Nothing is there that was not in the data set, as far as the copy came.
fn is_part(there: &Model, full: &Full, failure: &str) {
    for (db, keys) in &there.dbs {
        for (key, entry) in keys.iter().filter(|(key, _)| !key.starts_with(b"understudy:")) {
            let whole = full.model.dbs.get(db).and_then(|keys| keys.get(key));
            let whole = whole.map(|entry| &entry.value);
            assert_eq!(
                Some(&entry.value),
                whole,
                "{failure}: db {db}, {}",
                String::from_utf8_lossy(key)
            );
        }
    }
}

/// Each key of the target has a value that it had on the source at some time since the first copy.
fn were_there(there: &Model, full: &Full, log: &[Logged]) {
    let is_own = |key: &Vec<u8>| key.starts_with(b"understudy:");
    let mut left: Vec<(u32, &Vec<u8>, &Entry)> = Vec::new();
    for (db, keys) in &there.dbs {
        left.extend(keys.iter().filter(|(key, _)| !is_own(key)).map(|(key, one)| (*db, key, one)));
    }
    let mut model = full.model.clone();
    let mut log = log.iter();
    loop {
        left.retain(|(db, key, entry)| {
            let had = model.dbs.get(db).and_then(|keys| keys.get(*key));
            had.is_none_or(|had| had.value != entry.value)
        });
        let (false, Some(logged)) = (left.is_empty(), log.next()) else { break };
        // Within a transaction there is no moment.
        apply(&mut model, logged);
    }
    assert!(left.is_empty(), "the source never held {left:?}");
}

/// The target holds what the source held at this offset. Deadlines may be held back.
fn is_the_moment(there: &Model, full: &Full, log: &[Logged], at: u64, now: i64) {
    let expected = play(&full.model, log, at);
    assert!(
        values_agree(&expected, there, now),
        "its record says {at}:\n{}",
        difference(&expected, there)
    );
}

/// The target holds what the source held at some moment, the confirmed one or a later one. Deadlines may be held back.
fn is_a_moment(there: &Model, full: &Full, log: &[Logged], confirmed: u64, now: i64) {
    let mut model = full.model.clone();
    let mut first = None;
    let mut log = log.iter().peekable();
    while let Some(logged) = log.next_if(|logged| logged.end <= confirmed) {
        apply(&mut model, logged);
    }
    loop {
        if values_agree(&model, there, now) {
            return;
        }
        first.get_or_insert_with(|| difference(&model, there));
        match log.next() {
            Some(logged) => apply(&mut model, logged),
            None => panic!("confirmed at {confirmed}, then:\n{}", first.unwrap_or_default()),
        }
    }
}

fn values_agree(source: &Model, target: &Model, now: i64) -> bool {
    let dbs = source.dbs.keys().chain(target.dbs.keys());
    dbs.into_iter().all(|db| {
        let (none, also_none) = (Keys::new(), Keys::new());
        let source = source.dbs.get(db).unwrap_or(&none);
        let target = target.dbs.get(db).unwrap_or(&also_none);
        let all = source.keys().chain(target.keys());
        all.into_iter().all(|key| match (source.get(key), target.get(key)) {
            (Some(here), Some(there)) => here.value == there.value,
            // It died when its deadline was set to what it is, and its deletion is in the stream.
            (Some(here), None) => here.until.is_some_and(|until| until <= now),
            (None, Some(_)) => key.starts_with(b"understudy:"),
            (None, None) => true,
        })
    })
}

fn difference(source: &Model, target: &Model) -> String {
    let mut lines = Vec::new();
    for db in 0..16 {
        let (none, also_none) = (Keys::new(), Keys::new());
        let source = source.dbs.get(&db).unwrap_or(&none);
        let target = target.dbs.get(&db).unwrap_or(&also_none);
        for key in source.keys().chain(target.keys().filter(|key| !source.contains_key(*key))) {
            if source.get(key) != target.get(key) {
                let name = String::from_utf8_lossy(key);
                lines.push(format!(
                    "db {db} {name}\n  source {:?}\n  target {:?}",
                    source.get(key),
                    target.get(key)
                ));
            }
        }
    }
    lines.join("\n")
}
