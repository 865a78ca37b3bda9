//! Sources of which a running job keeps what its copy was: they are not read again.
//!
//! ```text
//! keys of the copy ──▶ notes            while the target is read
//! where the source stands now: F        when it has been
//! the job has told up to F ──▶ keys written since, which are read of both sides whatever is known of them
//! ```
//! A key that was not written up to F is on the source at F what it was in the copy. The target was read before.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use crate::plan::{Place, Plan, Rules};
use crate::progress::{Counters, Phase};
use crate::verify::digests::{DigestsError, Reader, Told};
use crate::verify::{Batch, Content, Noted, Times};

use super::super::digests::{head, is_written, kept_seed, place};
use super::super::lane::{ask_offset, chain};
use super::super::reading::{COPIES, Outcome};
use super::super::report::Ended;
use super::again::times_of;
use super::noting::Noting;
use super::run::{Broke, Run};

/// How often it is looked how far a job has told, and for how long.
const POLL: Duration = Duration::from_millis(2);
const LAG: Duration = Duration::from_secs(60);

/// How such a source was read, in a word.
const METHOD: &str = "the digests of the job's copy";

/// Of each source what is kept, if that can be used.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sources: Vec<Option<Mutex<Option<Open>>>>,
    /// What all of it was digested with.
    pub(super) seed: u64,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    reader: Reader<File>,
}

/// How what is kept of a source becomes what is compared.
struct Terms {
    rules: Rules,
    times: Times,
    reading: u32,
}

impl Kept {
    /// What the job of this plan keeps, if it is under way.
    pub(super) async fn of(plan: &Arc<Plan>) -> Self {
        let plan = Arc::clone(plan);
        let finding = spawn_blocking(move || Self::find(&plan));
        finding.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn find(plan: &Plan) -> Self {
        let Some(seed) = plan.job.folder.as_deref().and_then(kept_seed) else {
            return Self::default();
        };
        let find = |index: usize| {
            let source = plan.sources.get(index)?;
            let path = place(plan, source).filter(|path| path.exists())?;
            let open = || -> Result<Result<Reader<File>, String>, DigestsError> {
                let mut reader = Reader::new(File::open(&path)?, &head(plan, source, seed))?;
                let is_written = is_written(reader.get_ref())?;
                let skimmed = reader.skim()?;
                Ok(match skimmed.ends {
                    Some(why) => Err(why),
                    None if !skimmed.is_whole => Err("the copy is not whole".to_owned()),
                    None if !is_written || reader.seed() != seed => {
                        Err("the process that has the job now does not keep them".to_owned())
                    }
                    None => Ok(reader),
                })
            };
            let why = match open() {
                Ok(Ok(reader)) => return Some(Mutex::new(Some(Open { path, reader }))),
                Ok(Err(why)) => why,
                Err(error) => chain(&error),
            };
            warn!(
                source = source.name,
                why, "the digests of the job's copy cannot be used: the source is read anew"
            );
            None
        };
        Self { sources: (0..plan.sources.len()).map(find).collect(), seed }
    }

    /// Whether there is something of this source.
    pub(super) fn has(&self, index: usize) -> bool {
        self.slot(index).is_some()
    }

    /// Whether there is anything.
    pub(super) fn is_any(&self) -> bool {
        self.sources.iter().any(Option::is_some)
    }

    fn slot(&self, index: usize) -> Option<&Mutex<Option<Open>>> {
        self.sources.get(index)?.as_ref()
    }

    fn take(&self, index: usize) -> Option<Open> {
        self.slot(index)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn give_back(&self, index: usize, open: Open) {
        if let Some(slot) = self.slot(index) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        }
    }
}

impl Run<'_> {
    /// Takes the keys of the copies that are kept.
    pub(super) async fn read_kept(
        &self,
        to: &Sender<Batch>,
    ) -> Result<Vec<(usize, Option<Outcome<Noting>>)>, Broke> {
        let mut outcomes = Vec::new();
        for index in (0..self.plan.sources.len()).filter(|index| self.kept.has(*index)) {
            if let Some(counters) = self.counters.get(index) {
                counters.enter(Phase::Counting);
            }
            self.unless_stopped(self.take_kept(index, to)).await??;
            let outcome = self.stopped(index).map(|outcome| Outcome {
                ended: Ended::Done,
                method: METHOD,
                ..outcome
            });
            outcomes.push((index, outcome));
        }
        Ok(outcomes)
    }

    /// Takes the keys that were written since, up to where each source stands now.
    pub(super) async fn read_written(&self, to: &Sender<Batch>) -> Result<(), Broke> {
        let Self { net, plan, .. } = *self;
        for index in (0..plan.sources.len()).filter(|index| self.kept.has(*index)) {
            let Some(source) = plan.sources.get(index) else { continue };
            let Place::Server(place) = &source.place else { continue };
            let unusable = |why: &str| Broke::Unkept(source.name.clone(), why.to_owned());
            let stands = ask_offset(net.clone(), place.clone(), true);
            let Some(stands) = self.unless_stopped(stands).await? else {
                return Err(unusable("the source does not tell where its stream stands"));
            };
            let begun = net.clock().now();
            loop {
                let Some(mut open) = self.kept.take(index) else { break };
                let covered = open.reader.covered().map_err(|error| unusable(&chain(&error)))?;
                self.kept.give_back(index, open);
                if covered >= stands.offset.get() {
                    break;
                }
                if net.clock().now().saturating_sub(begun) >= LAG {
                    return Err(unusable("the job does not come to where the source stands"));
                }
                self.unless_stopped(sleep(POLL)).await?;
            }
            self.unless_stopped(self.take_kept(index, to)).await??;
        }
        Ok(())
    }

    /// Takes what is there and was not taken yet.
    async fn take_kept(&self, index: usize, to: &Sender<Batch>) -> Result<(), Broke> {
        let Self { plan, facts, net, .. } = *self;
        let (Some(open), Some(source)) = (self.kept.take(index), plan.sources.get(index)) else {
            return Ok(());
        };
        let clocks = facts.clocks(index);
        let terms = Terms {
            rules: source.rules.clone(),
            times: times_of(source, clocks, net.clock().unix_ms()),
            reading: u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(COPIES),
        };
        let to = to.clone();
        let counters = self.counters.get(index).map(Arc::clone).unwrap_or_default();
        let taking = spawn_blocking(move || {
            let mut open = open;
            let taken = open.take(&terms, &to, &counters);
            (open, taken)
        });
        let (open, taken) =
            taking.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let taken = match taken {
            Ok(None) if !open.is_still_there() => {
                Some("the job has copied the source anew".to_owned())
            }
            Ok(ends) => ends,
            Err(error) => Some(chain(&error)),
        };
        self.kept.give_back(index, open);
        match taken {
            Some(why) => Err(Broke::Unkept(source.name.clone(), why)),
            None => Ok(()),
        }
    }
}

impl Open {
    /// Hands on what is there. If nothing more is told, it gives why.
    fn take(
        &mut self,
        terms: &Terms,
        to: &Sender<Batch>,
        counters: &Counters,
    ) -> Result<Option<String>, DigestsError> {
        let mut batch = Batch::default();
        while let Some(told) = self.reader.next_told()? {
            match told {
                Told::Key(noted) => {
                    terms.note(&noted, &mut batch);
                    Counters::add(&counters.keys, 1);
                }
                Told::Written(db, name) => {
                    let (content, deadline) = (Content::WRITTEN, None);
                    let noted = Noted { reading: 0, db, name, origin: None, content, deadline };
                    terms.note(&noted, &mut batch);
                }
                Told::Whole | Told::TakenBy(_) => {}
                Told::Ends(why) => return Ok(Some(why.to_owned())),
            }
            if batch.is_full() && to.blocking_send(std::mem::take(&mut batch)).is_err() {
                // Whoever compares is gone.
                return Ok(None);
            }
        }
        if !batch.is_empty() {
            let _ = to.blocking_send(batch);
        }
        Ok(None)
    }

    /// Whether the job still writes this file.
    fn is_still_there(&self) -> bool {
        let of_path = fs::metadata(&self.path).map(|file| (file.dev(), file.ino()));
        let of_file = self.reader.get_ref().metadata().map(|file| (file.dev(), file.ino()));
        matches!((of_path, of_file), (Ok(path), Ok(file)) if path == file)
    }
}

impl Terms {
    /// Notes a key, under the name that it has in the target.
    fn note(&self, told: &Noted<'_>, batch: &mut Batch) {
        let deadline = match told.deadline {
            None => None,
            Some(at_ms) => match self.times.lives_until(at_ms) {
                None => return,
                lives => lives,
            },
        };
        let Some((db, name)) = self.rules.target_of(told.db, told.name) else { return };
        let origin = (*name != *told.name).then_some(told.name);
        let (reading, name, content) = (self.reading, &*name, told.content);
        batch.push(&Noted { reading, db, name, origin, content, deadline });
    }
}
