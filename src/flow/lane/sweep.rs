//! What the source no longer has, removed from the target behind a second full copy and before the first command of its stream.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use crate::change::{Draft, Kept, Scope};
use crate::command::judge::Expect;
use crate::key::{Db, is_own};
use crate::ledger::{self, Ledger, LedgerError, Missing, Seen};
use crate::net::ControlError;
use crate::plan::Origin;
use crate::progress::Phase;
use crate::scratch::Unnamed;
use crate::server::Version;

use super::super::ending::{Page, Walk};
use super::contested::Rivalry;
use super::{Lane, LaneError, Later, Slots, Stage};

/// A second full copy: the names that it has brought, then the walk through the target for those that it has not.
pub(super) struct Sweep {
    /// The temporary keys of this lane's copies begin so.
    temporary: Vec<u8>,
    older: Older,
    step: Step,
    count: Count,
    /// On whose disk names are kept.
    folder: PathBuf,
}

/// Keys of the target that the source does not have.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    removed: u64,
    left: u64,
}

/// What the target held before the job began. What this job has not brought is not this job's to remove.
pub(super) enum Older {
    /// Nothing.
    None,
    /// These keys. A source may have held some of them too since.
    Known(Arc<Kept>),
    /// Some keys, and nobody has kept their names.
    Unknown,
}

enum Step {
    /// The copy notes what it brings.
    Noting(Ledger<Unnamed>),
    /// The walk begins.
    Begins(Names, Later<Result<Walk, ControlError>>),
    /// A page of it is being read.
    Page(Names, Later<Result<(Option<Walk>, Page), ControlError>>),
    /// What is not known before all has been walked through.
    Missing(Box<Missing<Unnamed>>),
    Done,
}

type Names = Box<ledger::Sweep<Unnamed>>;

/// What the target was asked on the walk.
pub(super) enum Swept {
    Begun(Result<Walk, ControlError>),
    Page(Result<(Option<Walk>, Page), ControlError>),
}

impl Sweep {
    /// Names are remembered in so many bytes, and what is more on the disk of this folder.
    pub(super) fn new(
        token: &str,
        older: Older,
        room: usize,
        folder: &Path,
    ) -> Result<Self, LaneError> {
        let temporary = format!("understudy:tmp:{token}-").into_bytes();
        let scratch = Unnamed::create(folder)
            .map_err(|source| LaneError::Write { path: folder.to_owned(), source })?;
        let step = Step::Noting(Ledger::new(scratch, room));
        Ok(Self { temporary, older, step, count: Count::default(), folder: folder.to_owned() })
    }

    /// The copy has brought this key.
    pub(super) fn note(&mut self, db: Db, key: &[u8]) -> Result<(), LaneError> {
        match &mut self.step {
            Step::Noting(names) => names.note(db, key).map_err(|error| unkept(&self.folder, error)),
            _ => Ok(()),
        }
    }

    /// Waits for the next page of the walk, or for ever. Nothing is lost if the future is dropped.
    pub(super) async fn page(slot: &mut Option<Self>) -> Swept {
        match slot.as_mut().map(|sweep| &mut sweep.step) {
            Some(Step::Begins(_, walk)) => Swept::Begun(walk.await),
            Some(Step::Page(_, page)) => Swept::Page(page.await),
            _ => std::future::pending().await,
        }
    }
}

impl Count {
    /// What becomes of a key of the target that the copy has not brought.
    fn stale(
        &mut self,
        (db, name): (Db, &[u8]),
        older: &Older,
        rivalry: &mut Rivalry,
    ) -> Result<Stale, LaneError> {
        let stale = match &rivalry.rival {
            None if older.has_brought(db, name) => Stale::Left,
            None => Stale::Removed,
            Some(rival) => {
                let claims = rival.claims(db, name);
                if !claims.has(rival.number()) {
                    // Another source has brought it, or somebody before the job; or nobody knows, and it is looked for at the end of the job.
                    return Ok(Stale::Another);
                }
                // Noted once more, so that whoever brings it too from here on waits for us.
                match rival.note(db, name)?.claims.are_several() {
                    true => Stale::Contested,
                    false => Stale::Removed,
                }
            }
        };
        match stale {
            Stale::Removed => self.removed += 1,
            Stale::Left => self.left += 1,
            Stale::Contested => rivalry.defer(db, name),
            Stale::Another => {}
        }
        Ok(stale)
    }
}

/// What becomes of a key of the target that the copy has not brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    Removed,
    /// Nobody knows who has brought it.
    Left,
    /// Others have brought it too.
    Contested,
    /// It is none of ours.
    Another,
}

impl Older {
    fn has_brought(&self, db: Db, name: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::Known(older) => older.has(db, name),
            Self::Unknown => true,
        }
    }
}

impl Lane<'_> {
    /// Takes the removal of what is gone as far as it goes now, once all of the copy has been confirmed. Behind it the stream begins.
    pub(super) fn advance_sweep(&mut self) -> Result<(), LaneError> {
        if self.stage != Stage::Sweeping || self.relinking.is_some() {
            return Ok(());
        }
        let remove = self.remove_command();
        let Some(sweep) = &mut self.sweep else {
            return self.advance_deferred();
        };
        if let Step::Missing(missing) = &mut sweep.step {
            while self.target.in_flight() < self.share.room {
                let page = missing.next_page(PAGE).map_err(|error| unkept(&sweep.folder, error))?;
                let Some(page) = page else {
                    sweep.step = Step::Done;
                    break;
                };
                let mut draft = Draft::default();
                for (db, name) in page {
                    let (count, older) = (&mut sweep.count, &sweep.older);
                    if count.stale((db, &name), older, &mut self.rivalry)? == Stale::Removed {
                        draft.select(db);
                        draft.push(&[remove, &name], Expect::Any);
                    }
                }
                if !draft.is_empty() && self.rivalry.may_send() {
                    self.target.push(draft.finish());
                }
            }
        }
        match std::mem::replace(&mut sweep.step, Step::Done) {
            Step::Noting(names) if self.target.is_idle() => {
                self.counters.enter(Phase::CatchingUp);
                let (net, to, rival) =
                    (self.net.clone(), self.to.clone(), self.rivalry.rival.clone());
                let walk = async move {
                    // What somebody has read of our source before this copy, and what is gone since, is in the target by then.
                    if let Some(rival) = rival {
                        drop(rival.take_seat().await);
                    }
                    Walk::begin(net, to).await
                };
                let names = names.sweep().map_err(|error| unkept(&sweep.folder, error))?;
                sweep.step = Step::Begins(Box::new(names), Box::pin(walk));
            }
            Step::Done if self.target.is_idle() => {
                let Count { removed, left } = sweep.count;
                self.sweep = None;
                info!(removed, left, "what the source no longer has was looked for");
                if left > 0 {
                    warn!(
                        keys = left,
                        "keys that the source does not have are in the target; whether this job brought them cannot be told, as it held keys before"
                    );
                    self.tally.unproven += left;
                }
                return self.advance_deferred();
            }
            other => sweep.step = other,
        }
        Ok(())
    }

    fn remove_command(&self) -> &'static [u8] {
        if self.server.as_redis() >= Version(4, 0, 0) { b"UNLINK" } else { b"DEL" }
    }

    /// A page of the target's keys: those that the copy did not bring are removed.
    pub(super) fn swept(&mut self, swept: Swept) -> Result<(), LaneError> {
        let remove = self.remove_command();
        let Some(sweep) = &mut self.sweep else { return Ok(()) };
        let mut names = match std::mem::replace(&mut sweep.step, Step::Done) {
            Step::Begins(names, _) | Step::Page(names, _) => names,
            other => {
                sweep.step = other;
                return Ok(());
            }
        };
        let (walk, page) = match swept {
            Swept::Begun(walk) => (Some(walk?), None),
            Swept::Page(page) => {
                let (walk, page) = page?;
                (walk, Some(page))
            }
        };
        if let Some(Page { db, names: found }) = page {
            let mut draft = Draft::new(db);
            let (scope, origin) = (self.stream.scope(), self.stream.scope().rules().origin(db));
            for name in &found {
                if is_own(name) {
                    if name.starts_with(&sweep.temporary) {
                        draft.push(&[remove, name], Expect::Any);
                    }
                } else if scope.rules().writes(db)
                    && could_be_brought(scope, origin, name, self.slots.as_ref())
                    && names.seen(db, name).map_err(|error| unkept(&sweep.folder, error))?
                        == Seen::Missing
                {
                    let (count, older) = (&mut sweep.count, &sweep.older);
                    if count.stale((db, name), older, &mut self.rivalry)? == Stale::Removed {
                        draft.push(&[remove, name], Expect::Any);
                    }
                }
            }
            if !draft.is_empty() && self.rivalry.may_send() {
                self.target.push(draft.finish());
            }
        }
        sweep.step = match walk {
            Some(walk) => Step::Page(names, Box::pin(walk.page())),
            None => {
                let missing = names.finish().map_err(|error| unkept(&sweep.folder, error))?;
                Step::Missing(Box::new(missing))
            }
        };
        Ok(())
    }
}

/// Whether a copy brings a key with this name to the target, if the source has it. `db` is the source's.
fn could_be_brought(scope: &Scope, db: Db, name: &[u8], slots: Option<&Slots>) -> bool {
    match scope.rules().names().origin(name) {
        Origin::Key(key) => {
            slots.is_none_or(|slots| slots.has(&key)) && scope.judge(db, &key).is_keep()
        }
        Origin::None => false,
        // What this job has not brought, and what the target held before, is told from it in the end.
        // But not where other lanes may have brought it.
        Origin::Unknown => slots.is_none(),
    }
}

/// Names could not be kept on a disk.
fn unkept(folder: &Path, error: LedgerError) -> LaneError {
    let source = match error {
        LedgerError::Scratch(source) => source,
        damaged => io::Error::other(damaged),
    };
    LaneError::Write { path: folder.to_owned(), source }
}

/// How many names are looked for at once.
const PAGE: usize = 1000;
