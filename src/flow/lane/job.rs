//! What a lane goes on with: its record in the target, and what is remembered from one attempt to the next.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::change::{Deadlines, Distinct, comes_nearer};
use crate::doubt::Doubts;
use crate::key::Db;
use crate::net::{Control, ControlError, Net};
use crate::plan::{Plan, ServerPlace, Source};
use crate::position::{
    self, Phase, Record, RecordError, Spot, digest, fenced_by, is_only_fences, rules_digest,
};
use crate::repl::Resume;
use crate::target::{Entrance, Keeper, TargetError};

use super::super::remedy::{QUESTION_TRIES, Remedy, pause, remedy};
use super::super::rivals::Seat;
use super::super::upstream::Upstream;
use super::{LaneError, chain};

/// A lane's job, over all its attempts.
pub(super) struct Job {
    name: String,
    source: String,
    rules: String,
    /// Where its record stands.
    pub(super) db: Db,
    pub(super) key: Vec<u8>,
    pub(super) scripts: Vec<u8>,
    /// Who we are: no other process has this token.
    owner: String,
    /// Whether there must be a record: this process has written one, or an earlier one has on this machine.
    pub(super) known: bool,
    /// An earlier one was stopped before it had brought anything, and took its record back.
    pub(super) had_not_begun: bool,
    /// Who had written the record that was found last.
    pub(super) before: Option<String>,
    /// The generation of the record that this process has written.
    claimed: Option<u64>,
    /// Nothing of the job was in the target when it was looked at first.
    pub(super) is_first: bool,
    /// How many connections to the target were made.
    links: u32,
    /// How often another one has begun the job just before us.
    looks: u32,
    /// Whether the target held nothing but our own keys when the job began.
    sole: bool,
    /// Whatever stands under the record's name is written over.
    restart: bool,
    /// Why the data set must be copied anew, whatever the record says.
    pub(super) copy_anew: Option<&'static str>,
    /// Full copies that were begun since the stream was last followed.
    pub(super) copies: u32,
    /// A source that has begun to send its data set, and how it said so.
    pub(super) begun: Option<(Upstream, Option<Resume>)>,
    /// The names whose deadlines are held back, where they were kept.
    pub(super) deadlines: Option<Deadlines>,
    /// Whether a rename could give one name to two keys,
    is_vague: bool,
    /// and the names that have come since the copy.
    pub(super) distinct: Option<Distinct>,
    /// How long the target may leave commands unanswered, if an attempt has found that.
    pub(super) patience: Option<Duration>,
    /// An attempt that broke off was writing contested keys: nobody else does before its link is known to be gone.
    pub(super) seat: Option<Seat>,
}

/// How an attempt begins.
#[derive(Debug)]
pub(super) enum Beginning {
    /// Nothing of the job is in the target.
    First,
    /// Another full copy, over what is there.
    Again,
    /// The stream goes on where the record says.
    Resume(Resume),
    /// This source is done, and others are not.
    Done,
}

impl Job {
    pub(super) fn new(plan: &Plan, source: &Source, known: bool, sole: bool, now_ms: i64) -> Self {
        let rules = rules_digest(&source.rules);
        let token = RandomState::new().hash_one((now_ms, std::process::id(), &source.name));
        Self {
            name: plan.job.name.clone(),
            source: source.name.clone(),
            rules,
            db: plan.record_db(),
            key: position::key(&plan.job.name, &source.name),
            scripts: position::scripts_key(&plan.job.name, &source.name),
            owner: format!("{token:016x}"),
            known,
            had_not_begun: false,
            before: None,
            claimed: None,
            is_first: false,
            links: 0,
            looks: 0,
            sole,
            restart: plan.job.restart,
            copy_anew: plan.job.restart.then_some("--restart was given"),
            copies: 0,
            begun: None,
            deadlines: None,
            is_vague: !source.rules.names().are_distinct(),
            distinct: None,
            patience: None,
            seat: None,
        }
    }

    /// A name for the next connection to the target. Those of one job and source begin alike, whichever process made them.
    pub(super) fn next_connection(&mut self) -> String {
        self.links += 1;
        format!("understudy:{}:{}-{}", self.token(), self.owner, self.links)
    }

    /// Who we are.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// What tells this job and source from all others, in names.
    pub(super) fn token(&self) -> String {
        digest(&format!("{}\n{}", self.name, self.source))
    }

    /// Takes back what a job keeps that has not begun, or is not to go on.
    pub(super) async fn withdraw(&mut self, net: &Net, to: &ServerPlace) {
        let Some(claimed) = self.claimed else { return };
        for tries in 0..QUESTION_TRIES {
            match self.try_withdraw(net, to, claimed).await {
                Err(error) if !error.is_answer() => {
                    debug!(error = chain(&error), "the record of a job that has not begun stays");
                    sleep(pause(tries)).await;
                }
                _ => return,
            }
        }
    }

    async fn try_withdraw(
        &mut self,
        net: &Net,
        to: &ServerPlace,
        claimed: u64,
    ) -> Result<(), ControlError> {
        let mut control = Control::open(net, to).await?;
        control.ask::<()>("SELECT", &[self.db.index().to_string().as_bytes()]).await?;
        let stored: Option<Vec<u8>> = control.ask("GET", &[&self.key]).await?;
        let record = stored.as_ref().and_then(|stored| Record::decode(stored).ok());
        let is_taken = |stored| fenced_by(stored).is_some_and(|owner| owner != self.owner);
        let is_ours = |one: Record| one.owner == self.owner && one.generation == claimed;
        if record.is_some_and(is_ours) && !stored.as_deref().is_some_and(is_taken) {
            control.ask::<()>("DEL", &[&self.key, &self.scripts]).await?;
        }
        Ok(())
    }

    /// Whether another attempt may bring what an error has broken off.
    pub(super) fn again(&mut self, error: &LaneError) -> bool {
        match remedy(error) {
            Remedy::GoOn => {
                info!(error = chain(error), "the job is taken up again where its record says");
                true
            }
            Remedy::CopyAgain if self.copies < COPIES => {
                let why = chain(error);
                warn!(error = why, "the data set is copied anew");
                self.copy_anew = Some("the stream could not be gone on with");
                true
            }
            _ => false,
        }
    }

    /// Fences the record that stands there, if it is one that may be gone on with: whoever still writes it, or has sent such a thing and died,
    /// shall not change it between our look and our claim.
    pub(super) async fn fence(&mut self, entrance: &mut Entrance) -> Result<(), LaneError> {
        let Some(stored) = &entrance.stored else { return Ok(()) };
        self.read(stored)?;
        if Record::decode(stored).is_ok() {
            entrance.fence(&self.key, &self.owner).await?;
        }
        Ok(())
    }

    /// Decides how to go on from what the target holds, and gives the record with which the job is taken over.
    ///
    /// # Errors
    /// If what stands under the record's name cannot be gone on with, or another process has taken the job from us.
    pub(super) fn decide(
        &mut self,
        entrance: &Entrance,
        horizon: i64,
    ) -> Result<(Beginning, Record), LaneError> {
        let stored = entrance.stored.as_ref().filter(|stored| !is_only_fences(stored));
        let Some(stored) = stored else {
            let beginning = match self.known {
                true if self.had_not_begun && self.claimed.is_none() => {
                    info!("this source had not begun when the job was stopped");
                    Beginning::Again
                }
                true => {
                    warn!(
                        "the target has lost the record of this job: the data set is copied anew"
                    );
                    Beginning::Again
                }
                false => {
                    self.is_first = true;
                    Beginning::First
                }
            };
            let blank = self.blank();
            return Ok((beginning, self.record(blank, horizon)));
        };
        let old = self.read(stored)?;
        self.sole = old.sole;
        self.before = Some(old.owner.clone());
        if self.copy_anew.is_none() && old.phase == Phase::Done {
            return Ok((Beginning::Done, old));
        }
        let why = self.why_anew(&old, entrance.now_ms);
        let generation = old.generation + 1;
        if let (None, Some(resume)) = (why, old.resume()) {
            info!(offset = %resume.offset, doubts = old.doubts.len(), "the job goes on where its record says");
            let owner = self.owner.clone();
            return Ok((Beginning::Resume(resume), Record { owner, generation, ..old }));
        }
        let why = why.unwrap_or("the master has no offsets");
        info!(why, "the data set is copied anew");
        Ok((Beginning::Again, self.record(Record { generation, ..old }, horizon)))
    }

    /// Why the data set is copied anew although there is a record.
    fn why_anew(&self, old: &Record, now_ms: i64) -> Option<&'static str> {
        match (self.copy_anew, old.phase) {
            (Some(why), _) => Some(why),
            (None, Phase::Copying) => Some("the last copy was not finished"),
            (None, Phase::Finishing) => {
                Some("the job was ending, and keys may have died in the target since")
            }
            (None, Phase::Following) if old.is_late(now_ms) => Some(
                "keys may have died in the target: it was left alone for longer than deadlines are held back",
            ),
            (None, Phase::Following) if self.is_vague && self.distinct.is_none() => Some(
                "only the process that has made a copy knows which names --rename has given to which keys",
            ),
            (None, Phase::Following | Phase::Done) => None,
        }
    }

    /// The record that stands there, to go on with.
    fn read(&self, stored: &[u8]) -> Result<Record, LaneError> {
        let read = Record::decode(stored).and_then(|old| {
            old.is_of(&self.name, &self.source, &self.rules)?;
            Ok(old)
        });
        let old = match read {
            // It was told to copy anew whatever it finds.
            Err(_) if self.restart => self.blank(),
            old => old?,
        };
        let is_anothers = |owner: &str| owner != self.owner;
        // An older one is what a target shows that has lost what was written last.
        if self.claimed.is_some_and(|ours| ours <= old.generation)
            && (is_anothers(&old.owner) || fenced_by(stored).is_some_and(is_anothers))
        {
            return Err(TargetError::Overtaken.into());
        }
        Ok(old)
    }

    /// The record of a full copy that begins.
    fn record(&mut self, before: Record, horizon: i64) -> Record {
        self.copies += 1;
        let horizon = horizon.max(before.horizon);
        Record {
            owner: self.owner.clone(),
            phase: Phase::Copying,
            copies: before.copies + 1,
            replid: None,
            applied: Spot::default(),
            clean: Spot::default(),
            doubts: Vec::new(),
            horizon,
            // What is not held back needs no watch, nor does what is for as long as there is.
            good: if comes_nearer(horizon) { horizon } else { i64::MAX },
            // What was written meanwhile nobody has seen.
            written: None,
            ended: None,
            // What was is as it is on the source again, or is counted again.
            unproven: 0,
            ..before
        }
    }

    fn blank(&self) -> Record {
        Record {
            job: self.name.clone(),
            source: self.source.clone(),
            rules: self.rules.clone(),
            owner: self.owner.clone(),
            generation: 1,
            phase: Phase::Copying,
            copies: 0,
            sole: self.sole,
            replid: None,
            applied: Spot::default(),
            clean: Spot::default(),
            doubts: Vec::new(),
            horizon: 0,
            good: 0,
            unsure: false,
            written: None,
            ended: None,
            unproven: 0,
        }
    }

    /// The record with which the job is about to be taken over.
    pub(super) fn keeper(&mut self, record: Record, entrance: &Entrance) -> Keeper {
        (self.known, self.claimed) = (true, Some(record.generation));
        let at = (self.db, self.key.clone(), self.scripts.clone());
        Keeper::new(record, entrance.stored.clone(), at)
    }

    /// Where nothing stood another one has written a record before us: what is done now is decided by that. `false` once that has happened
    /// too often.
    pub(super) fn looks_again(&mut self) -> bool {
        (self.known, self.claimed, self.is_first) = (false, None, false);
        self.copies = self.copies.saturating_sub(1);
        self.looks += 1;
        self.looks < LOOKS
    }
}

/// How often a job may be begun where somebody else begins it just then.
const LOOKS: u32 = 5;

/// How many full copies may be begun in a row.
const COPIES: u32 = 5;

/// The keys that a record has in doubt. Behind its place the stream tells every command on them again.
pub(super) fn doubts_of(record: &Record) -> Doubts {
    let mut doubts = Doubts::default();
    let at = crate::offset::Offset::new(record.clean.offset);
    record.doubts().for_each(|(db, key)| doubts.doubt(db, key, at));
    doubts
}

impl From<RecordError> for LaneError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}
