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

/// Sets deadlines that were held back, page by page.
pub(super) struct Closing {
    finish: Finish,
    names: Source,
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

/// A walk through all keys of a server.
pub(super) struct Walk {
    control: Control,
    /// The databases that are left, the present one last.
    dbs: Vec<Db>,
    cursor: u64,
}

/// A page of a walk.
pub(super) struct Page {
    pub(super) db: Db,
    pub(super) names: Vec<Vec<u8>>,
}

impl Closing {
    /// Begins with the names that were kept.
    pub(super) fn kept(finish: Finish) -> Self {
        Self { finish, names: Source::Held(0) }
    }

    /// Begins with a walk through the target.
    pub(super) fn walking(finish: Finish, walk: Walk) -> Self {
        Self { finish, names: Source::Walk(walk) }
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.names, Source::Done)
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
        draft.select(page.db);
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
                draft.select(db);
                self.finish.keys(&page, draft);
                self.names = Source::Held(next);
            }
            Source::Fields(at) => {
                let (db, page, next) = deadlines.fields().page(at, PAGE);
                if page.is_empty() {
                    return;
                }
                draft.select(db);
                self.finish.fields(&page, draft);
                self.names = Source::Fields(next);
            }
            Source::Walk(walk) => self.names = Source::Walk(walk),
            Source::Done => {}
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
