//! The end of a lane: deadlines that only the source can tell are asked, then all that were held back are set to what
//! they are.
//!
//! ```text
//!  (drained) ──▶ Asking ──▶ Reaching ──▶ Settling ──▶ Closing ──▶ (ended)
//!     ▲            the stream waits  │ up to the     all replies    names, page by page
//!     └── more to ask ◀──────────────┘ last fence    are in
//! ```

use std::collections::VecDeque;

use tokio::time::sleep;
use tracing::debug;

use crate::change::{Deadlines, Draft, Finish, Names, PAGE};
use crate::command::judge::Expect;
use crate::key::Db;
use crate::net::{Control, ControlError, Net, info_field};
use crate::offset::Offset;
use crate::plan::{Rules, ServerPlace};

use super::remedy::{QUESTION_TRIES, pause};

/// Deadlines as the source told them, and the offset of its stream at which they held.
#[derive(Debug)]
pub(super) struct Told {
    /// `None` from a source without offsets.
    pub(super) fence: Option<Offset>,
    deadlines: Vec<(Db, Vec<u8>, Left)>,
}

/// What a source says of a key's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// There is no such key.
    Gone,
    /// It has none.
    Forever,
    /// Unix time in milliseconds.
    Until(i64),
}

/// So many keys are asked for at once. With fewer the bracket around them is more often quiet.
const AT_ONCE: usize = 16;

/// How often a bracket that was not quiet is asked again before it is given up.
const TRIES: u32 = 200;

impl Told {
    /// Writes what was told, as commands for the target.
    pub(super) fn apply(&self, deadlines: &mut Deadlines, draft: &mut Draft) {
        for (db, key, left) in &self.deadlines {
            match *left {
                // Its deletion is in the stream.
                Left::Gone => {}
                Left::Forever => {
                    draft.select(*db);
                    draft.push(&[b"PERSIST", key], Expect::Integer);
                }
                Left::Until(at) => {
                    draft.select(*db);
                    let at = deadlines.hold(*db, key, at).to_string();
                    draft.push(&[b"PEXPIREAT", key, at.as_bytes()], Expect::Integer);
                }
            }
        }
    }
}

/// Asks a source for the deadlines of these keys, which are named as the target has them. A bracket of `INFO` around them shows the offset at which they
/// held; one of `TIME` makes what is left of them exact.
///
/// # Errors
/// If the source does not answer, or writes so much that no bracket is quiet.
pub(super) async fn ask_deadlines(
    net: Net,
    place: ServerPlace,
    names: Names,
    rules: Rules,
    has_offsets: bool,
) -> Result<VecDeque<Told>, ControlError> {
    let mut control: Option<Control> = None;
    let mut tries = 0;
    let all: Vec<(Db, Vec<u8>)> =
        names.iter().into_iter().flatten().map(|(db, key)| (db, key.to_vec())).collect();
    let mut told = VecDeque::new();
    let mut rest = all.as_slice();
    while let Some((db, _)) = rest.first() {
        let same_db = rest.iter().take(AT_ONCE).take_while(|(other, _)| other == db).count();
        let (now, later) = rest.split_at(same_db);
        let asked = async {
            let control = match &mut control {
                Some(control) => control,
                none => none.insert(Control::open(&net, &place).await?),
            };
            ask_some(control, rules.origin(*db), now, has_offsets).await
        };
        match asked.await {
            Ok(answer) => {
                told.push_back(answer);
                rest = later;
            }
            Err(error) if tries < QUESTION_TRIES && !error.is_answer() => {
                debug!(error = %error, "the source does not tell deadlines");
                control = None;
                sleep(pause(tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
    debug!(keys = all.len(), "the source was asked for deadlines");
    Ok(told)
}

/// `db` is the source's; the keys' own is the target's.
async fn ask_some(
    control: &mut Control,
    db: Db,
    keys: &[(Db, Vec<u8>)],
    has_offsets: bool,
) -> Result<Told, ControlError> {
    control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
    for _ in 0..TRIES {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("replication").cmd("TIME");
        for (_, key) in keys {
            pipe.cmd("PTTL").arg(key);
        }
        pipe.cmd("TIME").cmd("INFO").arg("replication");
        let replies: Vec<redis::Value> = control.pipe("PTTL", &pipe).await?;
        let Some(((first, before), (after, last))) = brackets(&replies) else { continue };
        let quiet = !has_offsets || first == last;
        if !quiet || before != after {
            continue;
        }
        let left = replies.get(2..2 + keys.len()).unwrap_or_default();
        let deadlines = keys.iter().zip(left).map(|((place, key), left)| {
            let left = match left {
                redis::Value::Int(left @ 0..) => Left::Until(before + left),
                redis::Value::Int(-1) => Left::Forever,
                _ => Left::Gone,
            };
            (*place, key.clone(), left)
        });
        return Ok(Told { fence: first.filter(|_| has_offsets), deadlines: deadlines.collect() });
    }
    Err(ControlError::Unsettled)
}

/// The offsets and times (in milliseconds) at both ends of the answers.
#[expect(clippy::type_complexity, reason = "two pairs, taken apart at once")]
fn brackets(replies: &[redis::Value]) -> Option<((Option<Offset>, i64), (i64, Option<Offset>))> {
    let offset = |value: &redis::Value| {
        let info: String = redis::from_redis_value(value.clone()).ok()?;
        info_field(&info, "master_repl_offset")?.parse().ok().map(Offset::new)
    };
    let time = |value: &redis::Value| {
        let (seconds, micros): (i64, i64) = redis::from_redis_value(value.clone()).ok()?;
        Some(seconds * 1000 + micros / 1000)
    };
    let [first, before, .., after, last] = replies else { return None };
    Some(((offset(first), time(before)?), (time(after)?, offset(last))))
}

/// Sets deadlines that were held back, page by page.
pub(super) struct Closing {
    finish: Finish,
    names: Source,
    /// The database that was begun.
    db: Option<Db>,
}

/// Where the names come from.
enum Source {
    /// The names of keys were kept. The number is how far the list was read.
    Held(usize),
    /// So were those of hashes, which come behind them.
    Fields(usize),
    /// There were more than fit: the target is walked through, all keys of all databases.
    Walk(Walk),
    Done,
}

/// A walk through all keys of a target.
pub(super) struct Walk {
    control: Control,
    /// The databases that are left, the present one last.
    dbs: Vec<Db>,
    cursor: u64,
}

/// A page of a walk.
pub(super) struct Page {
    db: Db,
    names: Vec<Vec<u8>>,
}

impl Closing {
    /// Begins with the names that were kept.
    pub(super) fn kept(finish: Finish) -> Self {
        Self { finish, names: Source::Held(0), db: None }
    }

    /// Begins with a walk through the target.
    pub(super) fn walking(finish: Finish, walk: Walk) -> Self {
        Self { finish, names: Source::Walk(walk), db: None }
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.names, Source::Done) && self.db.is_none()
    }

    /// The walk, if its next page has to be read first. It is given back with [`walked`](Self::walked).
    pub(super) fn take_walk(&mut self) -> Option<Walk> {
        match std::mem::replace(&mut self.names, Source::Done) {
            Source::Walk(walk) => Some(walk),
            other => {
                self.names = other;
                None
            }
        }
    }

    /// Writes the commands for a page that was read. Without a walk it was the last one.
    pub(super) fn walked(&mut self, walk: Option<Walk>, page: &Page, draft: &mut Draft) {
        self.enter(page.db, draft);
        for names in page.names.chunks(PAGE) {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            self.finish.keys(&names, draft);
            if self.finish.has_fields() {
                self.finish.fields(&names, draft);
            }
        }
        if let Some(walk) = walk {
            self.names = Source::Walk(walk);
        }
    }

    /// Writes the commands for the next page of the names that were kept.
    pub(super) fn page(&mut self, deadlines: &Deadlines, draft: &mut Draft) {
        match std::mem::replace(&mut self.names, Source::Done) {
            Source::Held(at) => {
                let (db, page, next) = deadlines.held().page(at, PAGE);
                if page.is_empty() {
                    if self.finish.has_fields() {
                        self.names = Source::Fields(0);
                    }
                    return;
                }
                self.enter(db, draft);
                self.finish.keys(&page, draft);
                self.names = Source::Held(next);
            }
            Source::Fields(at) => {
                let (db, page, next) = deadlines.fields().page(at, PAGE);
                if page.is_empty() {
                    return;
                }
                self.enter(db, draft);
                self.finish.fields(&page, draft);
                self.names = Source::Fields(next);
            }
            Source::Walk(walk) => self.names = Source::Walk(walk),
            Source::Done => {
                if self.db.take().is_some() {
                    self.finish.end(draft);
                }
            }
        }
    }

    fn enter(&mut self, db: Db, draft: &mut Draft) {
        if self.db != Some(db) {
            if self.db.is_some() {
                self.finish.end(draft);
            }
            self.finish.begin(db, draft);
            self.db = Some(db);
        }
    }
}

impl Walk {
    /// Begins a walk through all databases that hold keys.
    ///
    /// # Errors
    /// If the target does not answer.
    pub(super) async fn begin(net: Net, place: ServerPlace) -> Result<Self, ControlError> {
        let mut control = Control::open(&net, &place).await?;
        let info = control.info("keyspace").await?;
        let number =
            |line: &str| line.strip_prefix("db")?.split_once(':')?.0.parse().ok().map(Db::new);
        let dbs = info.lines().filter_map(number).collect();
        Ok(Self { control, dbs, cursor: 0 })
    }

    /// Reads the next page; the walk comes back unless it has ended.
    ///
    /// # Errors
    /// If the target does not answer.
    pub(super) async fn page(mut self) -> Result<(Option<Self>, Page), ControlError> {
        let Some(&db) = self.dbs.last() else {
            return Ok((None, Page { db: Db::default(), names: Vec::new() }));
        };
        if self.cursor == 0 {
            self.control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
        }
        let cursor = self.cursor.to_string();
        let (next, names) =
            self.control.ask("SCAN", &[cursor.as_bytes(), b"COUNT", b"1000"]).await?;
        self.cursor = next;
        if next == 0 {
            self.dbs.pop();
        }
        let ended = self.dbs.is_empty();
        Ok(((!ended).then_some(self), Page { db, names }))
    }
}
