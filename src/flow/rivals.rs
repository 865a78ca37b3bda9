//! What the lanes of sources that may bring the same names know of each other.
//!
//! A name is noted before anything is sent under it, in a log of the job's folder too ([`owners`](crate::owners) says why). What the target holds
//! under a name that several have brought is written by one lane at a time, which has the [`Seat`] from before the first source is read
//! until the target has confirmed what came of it; and not before all is confirmed that other lanes had under way when it took its seat.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedMutexGuard};
use tracing::warn;

use crate::key::{Db, fingerprint};
use crate::offset::ReplId;
use crate::owners::{Claims, MOST, Noted, Owners, hash};
use crate::plan::{Facts, OnConflict, Plan};

use super::contested::Referee;
use super::lane::{LaneError, chain};
use super::names::{Earlier, Names, NoteError};
use super::remedy::{Remedy, remedy};
use super::report::{Ended, Report, SourceReport};

/// What all lanes share.
struct Shared {
    names: Mutex<Names>,
    lanes: Vec<Mutex<Standing>>,
    /// A lane has gone on.
    moved: Notify,
    seat: Arc<tokio::sync::Mutex<Referee>>,
    earlier: Earlier,
    /// A key that several sources hold stays as it is, and is told.
    quarantines: bool,
    /// Another process has a lane of this job.
    is_overtaken: AtomicBool,
}

/// How far a lane is, for those who wait until what it has under way is confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// No other process writes its record any more, nor anything with it.
    is_ours: bool,
    /// It has noted names of commands that it has not sent, or not all of them.
    open: bool,
    /// Bytes that it has sent, and of them those that were confirmed or will never arrive.
    sent: u64,
    done: u64,
    stream: Tells,
    /// When its source was last written to, where rules ask for that.
    written: Option<i64>,
    /// It has read all that its source had, and noted the names.
    has_read: bool,
    has_ended: bool,
}

/// What a lane knows of its source's history, without which nobody else may ask that source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tells {
    /// Nothing yet.
    #[default]
    NotYet,
    /// The source has this one.
    History(ReplId),
    /// Its master tells no offsets, or it is a file, or its lane has ended before it had any.
    Nothing,
}

/// The lanes of a run, where several may bring the same names.
#[derive(Clone)]
pub(super) struct Rivals(Arc<Shared>);

/// One lane, for the others.
#[derive(Clone)]
pub(super) struct Rival {
    all: Rivals,
    of: u8,
}

/// Who has it may write keys that are contested.
pub(super) type Seat = OwnedMutexGuard<Referee>;

impl Rivals {
    /// Those of this plan, if some of its sources may bring the same names.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub(super) fn new(
        plan: &Plan,
        facts: &Facts,
        net: &crate::net::Net,
    ) -> Result<Option<Self>, NoteError> {
        if !plan.has_rivals() {
            return Ok(None);
        }
        // Of keys that come while the job runs, and of files, nobody knows how many there will be.
        let most = usize::try_from(plan.most_for_rivals()).unwrap_or(usize::MAX);
        let mut names =
            Names::new(Owners::new(plan.rival_keys(facts), most), plan.rivals_end_otherwise());
        let earlier = match &plan.job.folder {
            Some(folder) => names.open(plan, folder, facts.goes_on())?,
            None if facts.goes_on() => Earlier::Lost,
            None => Earlier::Known,
        };
        if earlier == Earlier::Lost {
            let becomes = match plan.remove_unowned {
                true => "removed from the target when the job ends (--remove-unowned)",
                false => {
                    "left in the target and counted when the job ends; --remove-unowned removes it"
                }
            };
            warn!(
                "which source has brought which key is not known any more (the job's folder was lost or the machine was started anew): all sources are copied again, and what none of them holds is {becomes}"
            );
        }
        // Those that bring no name which another may bring wait for nobody, and nobody for them.
        let stands = |index| {
            let apart = plan.are_apart(index);
            Standing { is_ours: apart, has_read: apart, ..Standing::default() }
        };
        let lanes = (0..plan.sources.len()).map(|index| Mutex::new(stands(index))).collect();
        Ok(Some(Self(Arc::new(Shared {
            names: Mutex::new(names),
            lanes,
            moved: Notify::new(),
            seat: Arc::new(tokio::sync::Mutex::new(Referee::new(plan, facts, net))),
            earlier,
            quarantines: matches!(plan.on_conflict, None | Some(OnConflict::Stop)),
            is_overtaken: AtomicBool::new(false),
        }))))
    }

    /// The lane of this source, unless it brings no name that another may bring.
    pub(super) fn of(&self, plan: &Plan, index: usize) -> Option<Rival> {
        let of = u8::try_from(index).ok().filter(|of| usize::from(*of) < MOST)?;
        if plan.are_apart(index) {
            return None;
        }
        Some(Rival { all: self.clone(), of })
    }

    /// Whether the names of an earlier run were lost, so that keys may be in the target of which nobody knows who has brought them.
    pub(super) fn were_lost(&self) -> bool {
        self.0.earlier != Earlier::Known
    }

    /// Whose a name is.
    pub(super) fn claims(&self, db: Db, name: &[u8]) -> Claims {
        self.names().owners.claims(fingerprint(db, name))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, lane: u8, change: impl FnOnce(&mut Standing) -> T) -> Option<T> {
        let lane = self.0.lanes.get(usize::from(lane))?;
        Some(change(&mut lane.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What is known of a source's history.
    pub(super) fn tells(&self, lane: u8) -> Tells {
        match self.with(lane, |standing| *standing).unwrap_or_default() {
            Standing { stream: Tells::NotYet, has_ended: true, .. } => Tells::Nothing,
            Standing { stream, .. } => stream,
        }
    }

    /// Waits until all is confirmed that the other lanes have under way now.
    pub(super) async fn settled(&self, but: u8) {
        for (lane, _) in (0_u8..).zip(&self.0.lanes) {
            let mut upto = None;
            loop {
                // Created before the look, so that nothing is missed in between.
                let moved = self.0.moved.notified();
                let standing = self.with(lane, |standing| *standing).unwrap_or_default();
                let upto = match upto {
                    Some(upto) => upto,
                    None if standing.open && lane != but => {
                        moved.await;
                        continue;
                    }
                    None => *upto.insert(standing.sent),
                };
                if lane == but || standing.done >= upto {
                    break;
                }
                moved.await;
            }
        }
    }
}

impl Rival {
    /// The number of its source.
    pub(super) fn number(&self) -> u8 {
        self.of
    }

    /// All of them.
    pub(super) fn all(&self) -> &Rivals {
        &self.all
    }

    /// Whether what earlier runs have noted is lost.
    pub(super) fn is_lost(&self) -> bool {
        self.all.0.earlier == Earlier::Lost
    }

    /// Whether keys that several sources hold stay as they are.
    pub(super) fn quarantines(&self) -> bool {
        self.all.0.quarantines
    }

    /// Notes a name of the target under which something may be written. It is to be [written down](Self::write_down) before that is sent.
    pub(super) fn note(&self, db: Db, name: &[u8]) -> Result<Noted, NoteError> {
        let print = fingerprint(db, name);
        let mut names = self.all.names();
        let noted = names.owners.note(self.of, print)?;
        if noted.is_new {
            names.log.push(self.of, hash(print));
        }
        // While the names are held, so that whoever finds it contested finds us at it.
        self.all.with(self.of, |standing| standing.open = true);
        Ok(noted)
    }

    /// Whose a name is.
    pub(super) fn claims(&self, db: Db, name: &[u8]) -> Claims {
        self.all.claims(db, name)
    }

    /// A key that several sources hold stays as it is in the target. Says whether that is new.
    pub(super) fn quarantine(&self, db: Db, name: &[u8]) -> bool {
        self.all.names().quarantined.insert(fingerprint(db, name))
    }

    /// Whether a key stays as it is.
    pub(super) fn is_quarantined(&self, db: Db, name: &[u8]) -> bool {
        let names = self.all.names();
        !names.quarantined.is_empty() && names.quarantined.contains(&fingerprint(db, name))
    }

    /// Sees that all that was noted is in the log.
    pub(super) fn write_down(&self) -> Result<(), NoteError> {
        self.all.names().write_down()
    }

    /// All that our source had has been read, and its names are noted. Once that is so of all of them the names are whole.
    pub(super) fn has_read(&self) -> Result<(), NoteError> {
        self.all.with(self.of, |standing| standing.has_read = true);
        let mut lanes = (0_u8..).zip(&self.all.0.lanes);
        match lanes.all(|(lane, _)| self.all.with(lane, |one| one.has_read).unwrap_or_default()) {
            true => self.all.names().are_whole(),
            false => Ok(()),
        }
    }

    /// Tells the others how far this lane is: how much it has sent, how much of that is on its way, and whether there is more to be sent of
    /// what it has noted.
    pub(super) fn stands(&self, sent: u64, in_flight: usize, open: bool) {
        let done = sent.saturating_sub(in_flight as u64);
        let is_new = self.all.with(self.of, |standing| {
            let is_new = (standing.sent, standing.done, standing.open) != (sent, done, open);
            (standing.sent, standing.done, standing.open) = (sent, done, open);
            is_new
        });
        if is_new == Some(true) {
            self.all.0.moved.notify_waiters();
        }
    }

    /// Another process has taken this lane over, and writes what we know nothing of: none of ours goes on.
    pub(super) fn loses(&self) {
        self.all.0.is_overtaken.store(true, Ordering::Relaxed);
    }

    /// Whether any lane was.
    pub(super) fn was_overtaken(&self) -> bool {
        self.all.0.is_overtaken.load(Ordering::Relaxed)
    }

    /// The record of this lane is ours.
    pub(super) fn takes_over(&self) {
        self.all.with(self.of, |standing| standing.is_ours = true);
        self.all.0.moved.notify_waiters();
    }

    /// Waits until that holds of all lanes, or they have ended: what another process does in one of them it does not see contested with what we
    /// do in this one.
    pub(super) async fn are_all_ours(&self) {
        for (lane, _) in (0_u8..).zip(&self.all.0.lanes) {
            loop {
                // Created before the look, so that nothing is missed in between.
                let moved = self.all.0.moved.notified();
                let standing = self.all.with(lane, |standing| *standing).unwrap_or_default();
                if standing.is_ours || standing.has_ended {
                    break;
                }
                moved.await;
            }
        }
    }

    /// What is about to be written under a contested key is this source's.
    pub(super) fn holds(&self, db: Db, name: &[u8], source: Option<u8>) {
        self.all.names().holds(fingerprint(db, name), source);
    }

    /// Whose value the target holds under a key, if it is contested and somebody needs to know.
    pub(super) fn holder(&self, db: Db, name: &[u8]) -> Option<u8> {
        self.all.names().holder(fingerprint(db, name))
    }

    /// When our source was last written to.
    pub(super) fn was_written(&self, at_ms: Option<i64>) {
        self.all.with(self.of, |standing| standing.written = at_ms);
    }

    /// When a source was last written to, as far as its lane has told.
    pub(super) fn written(&self, source: u8) -> Option<i64> {
        self.all.with(source, |standing| standing.written)?
    }

    /// What is known of our source's history.
    pub(super) fn follows(&self, stream: Tells) {
        self.all.with(self.of, |standing| {
            if stream != Tells::NotYet {
                standing.stream = stream;
            }
        });
    }

    /// An attempt begins: nothing of an earlier one is under way any more. Says how many bytes those have sent.
    pub(super) fn begins(&self) -> u64 {
        self.is_over(false)
    }

    /// The last attempt is over.
    pub(super) fn ends(&self) {
        self.is_over(true);
    }

    fn is_over(&self, has_ended: bool) -> u64 {
        let sent = self.all.with(self.of, |standing| {
            (standing.open, standing.done) = (false, standing.sent);
            standing.has_ended = has_ended;
            standing.sent
        });
        self.all.0.moved.notify_waiters();
        sent.unwrap_or_default()
    }

    /// Waits until nobody else writes contested keys.
    pub(super) async fn take_seat(&self) -> Seat {
        Arc::clone(&self.all.0.seat).lock_owned().await
    }
}

/// The report of a run that cannot note names.
pub(super) fn unkept(plan: &Plan, error: NoteError) -> Report {
    let error = LaneError::from(error);
    let advice = match remedy(&error) {
        Remedy::Ask(advice) => advice,
        _ => "start again",
    };
    let failed = |source: &crate::plan::Source| SourceReport {
        ended: Ended::Refused,
        failure: Some((chain(&error), advice.to_owned())),
        ..SourceReport::new(source.name.clone())
    };
    Report { sources: plan.sources.iter().map(failed).collect(), seconds: 0.0 }
}
