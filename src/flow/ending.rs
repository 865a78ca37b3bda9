//! The end of a lane: deadlines that only the source can tell are asked, then all that were held back are set to what
//! they are.
//!
//! ```text
//!  (drained) ──▶ Asking ──▶ Reaching ──▶ Settling ──▶ Closing ──▶ (ended)
//!     ▲            the stream waits  │ up to the     all replies    names, page by page
//!     └── more to ask ◀──────────────┘ last fence    are in
//! ```

use crate::change::{Deadlines, Draft, Finish, PAGE};
use crate::key::Db;
use crate::net::{Control, ControlError, Net};
use crate::plan::ServerPlace;

use super::rivals::Rival;
use super::walks::Walking;

/// Sets deadlines that were held back, page by page.
pub(super) struct Closing {
    finish: Finishes,
    names: Source,
}

/// What is made of deadlines: those of contested keys by the rules of the source whose value the target holds.
pub(super) struct Finishes {
    pub(super) own: Finish,
    /// By the other sources, where theirs are other rules.
    pub(super) others: Vec<(u8, Finish)>,
    pub(super) rival: Option<Rival>,
}

/// Where the names come from.
enum Source {
    /// The names of keys were kept. The number is how far the list was read.
    Held(usize),
    /// So were those of hashes, which come behind them.
    Fields(usize),
    /// There were more than fit: the target is walked through, all keys of all databases.
    Walk(Walking),
    Done,
}

/// A walk through all keys of a server.
pub(super) struct Walk {
    control: Control,
    /// The databases that are left, the present one last.
    dbs: Vec<Db>,
    cursor: u64,
    /// Names are asked for that are like this.
    like: &'static str,
}

/// A page of a walk.
pub(super) struct Page {
    pub(super) db: Db,
    pub(super) names: Vec<Vec<u8>>,
}

impl Closing {
    /// Begins with the names that were kept.
    pub(super) fn kept(finish: Finishes) -> Self {
        Self { finish, names: Source::Held(0) }
    }

    /// Begins with a walk through the target.
    pub(super) fn walking(finish: Finishes, walk: Walking) -> Self {
        Self { finish, names: Source::Walk(walk) }
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.names, Source::Done)
    }

    /// The walk, if its next page has to be read first. It is given back with [`walked`](Self::walked).
    pub(super) fn take_walk(&mut self) -> Option<Walking> {
        match std::mem::replace(&mut self.names, Source::Done) {
            Source::Walk(walk) => Some(walk),
            other => {
                self.names = other;
                None
            }
        }
    }

    /// Writes the commands for names of a page that was read. Without a walk it was the last one.
    pub(super) fn walked(
        &mut self,
        walk: Option<Walking>,
        (db, names): (Db, &[&[u8]]),
        draft: &mut Draft,
    ) {
        draft.select(db);
        for names in names.chunks(PAGE) {
            self.finish.write(db, names, draft, Finish::keys);
            if self.finish.own.has_fields() {
                self.finish.write(db, names, draft, Finish::fields);
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
                    if self.finish.own.has_fields() {
                        self.names = Source::Fields(0);
                    }
                    return;
                }
                draft.select(db);
                self.finish.write(db, &page, draft, Finish::keys);
                self.names = Source::Held(next);
            }
            Source::Fields(at) => {
                let (db, page, next) = deadlines.fields().page(at, PAGE);
                if page.is_empty() {
                    return;
                }
                draft.select(db);
                self.finish.write(db, &page, draft, Finish::fields);
                self.names = Source::Fields(next);
            }
            Source::Walk(walk) => self.names = Source::Walk(walk),
            Source::Done => {}
        }
    }
}

impl Finishes {
    /// Writes the commands for these names, those of each source for themselves.
    fn write(
        &self,
        db: Db,
        names: &[&[u8]],
        draft: &mut Draft,
        command: fn(&Finish, &[&[u8]], &mut Draft),
    ) {
        let Some(rival) = self.rival.as_ref().filter(|_| !self.others.is_empty()) else {
            return command(&self.own, names, draft);
        };
        let mut groups = vec![Vec::new(); self.others.len() + 1];
        for name in names {
            let holder = rival.holder(db, name);
            let other = self.others.iter().position(|(source, _)| Some(*source) == holder);
            let group = other.unwrap_or(self.others.len());
            groups.get_mut(group).into_iter().for_each(|group: &mut Vec<&[u8]>| group.push(name));
        }
        let finishes = self.others.iter().map(|(_, finish)| finish).chain([&self.own]);
        for (finish, names) in finishes.zip(groups).filter(|(_, names)| !names.is_empty()) {
            command(finish, &names, draft);
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
        Ok(Self { control, dbs, cursor: 0, like: "*" })
    }

    /// Only those that match this.
    pub(super) fn matching(self, like: &'static str) -> Self {
        Self { like, ..self }
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
        let mut args: Vec<&[u8]> = vec![cursor.as_bytes(), b"COUNT", b"1000"];
        if self.like != "*" {
            args.extend([&b"MATCH"[..], self.like.as_bytes()]);
        }
        let (next, names) = self.control.ask("SCAN", &args).await?;
        self.cursor = next;
        if next == 0 {
            self.dbs.pop();
        }
        let ended = self.dbs.is_empty();
        Ok(((!ended).then_some(self), Page { db, names }))
    }
}
