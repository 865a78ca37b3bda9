//! Keys that somebody outside a run wants to be read anew: whoever has compared, and found them to differ. The lane takes them for keys in doubt.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::key::Db;
use crate::net::Net;
use crate::plan::{Place, Plan};
use crate::source::{FetchError, Fetcher, Found, Limits};

use super::lane::chain;

/// Through which a run is asked: a clone for whoever asks, one for the run.
#[derive(Clone, Debug)]
pub struct Rereads {
    /// One for each source.
    lanes: Arc<[Desk]>,
}

/// A key by the database and name that it has in its source.
pub type OwnName = (Db, Vec<u8>);

/// Where what is asked of a lane waits until it is taken.
#[derive(Debug)]
struct Desk {
    /// `None` once the lane has ended.
    waiting: Mutex<Option<Vec<Reread>>>,
    came: Notify,
}

/// Keys that are to be read anew.
#[derive(Debug)]
pub(super) struct Reread {
    pub(super) keys: Vec<OwnName>,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Rereads {
    /// For a run with so many sources.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        let desk = |_| Desk { waiting: Mutex::new(Some(Vec::new())), came: Notify::new() };
        Self { lanes: (0..sources).map(desk).collect() }
    }

    /// Has keys of this source, by its place in the plan, read anew and written. Returns once the target has confirmed what the source held after
    /// this was asked. Gives those that could not be, by their places among `keys`, and why.
    ///
    /// A lane ends that cannot read a key in doubt, and nobody is to be able to bring that about: so each is read here first.
    ///
    /// # Errors
    /// Why the lane does not do it now.
    pub async fn ask(
        &self,
        net: &Net,
        plan: &Plan,
        source: usize,
        keys: Vec<OwnName>,
    ) -> Result<Vec<(usize, String)>, String> {
        let (Some(desk), Some(of)) = (self.lanes.get(source), plan.sources.get(source)) else {
            return Err("it is no source of this job".to_owned());
        };
        let Place::Server(place) = &of.place else {
            return Err("it is a file, which is read from its beginning only".to_owned());
        };
        let memory = usize::try_from(plan.memory).unwrap_or(usize::MAX);
        let limits = Limits { largest: memory / 8, room: memory / 32 };
        let mut fetcher = Fetcher::new(net.clone(), place.clone(), limits);
        let failed = unreadable(&mut fetcher, &keys).await.map_err(|error| chain(&error))?;
        let is_readable = |number: &usize| failed.iter().all(|(other, _)| other != number);
        let readable = keys.into_iter().enumerate().filter(|(number, _)| is_readable(number));
        let keys: Vec<OwnName> = readable.map(|(_, key)| key).collect();
        if !keys.is_empty() {
            let (answer, answered) = oneshot::channel();
            match &mut *desk.lock() {
                Some(waiting) => waiting.push(Reread { keys, answer }),
                None => return Err("the job has ended for this source".to_owned()),
            }
            desk.came.notify_one();
            let told = answered.await;
            told.unwrap_or_else(|_| {
                Err("its link was made anew meanwhile, or it has ended".to_owned())
            })?;
        }
        Ok(failed)
    }

    /// Takes what is asked of a lane.
    pub(super) fn take(&self, source: usize) -> Vec<Reread> {
        let desk = self.lanes.get(source);
        desk.and_then(|desk| desk.lock().as_mut().map(std::mem::take)).unwrap_or_default()
    }

    /// The lane has ended: nothing will be taken any more.
    pub(super) fn close(&self, source: usize) {
        if let Some(desk) = self.lanes.get(source) {
            *desk.lock() = None;
        }
    }

    /// Returns once something is asked of a lane that was not when it was looked last. Nothing is lost if the future is dropped.
    pub(super) async fn came(&self, source: usize) {
        match self.lanes.get(source) {
            Some(desk) => desk.came.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Reread>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reread {
    /// Answers that they have been brought, or why they are not.
    pub(super) fn answer(self, answer: Result<(), String>) {
        // Whoever has asked may be gone.
        let _ = self.answer.send(answer);
    }
}

/// Those of these keys that the source does not let us read, or that are too large, and why.
async fn unreadable(
    fetcher: &mut Fetcher,
    keys: &[OwnName],
) -> Result<Vec<(usize, String)>, FetchError> {
    let (mut failed, mut at_once, mut number) = (Vec::new(), AT_ONCE, 0);
    while let Some(rest @ [(db, _), ..]) = keys.get(number..) {
        let same_db = rest.iter().take(at_once).take_while(|(other, _)| other == db);
        let names: Vec<&[u8]> = same_db.map(|(_, key)| key.as_slice()).collect();
        match fetcher.look(*db, &names).await {
            Ok(found) => {
                for (at, found) in found.iter().enumerate() {
                    if let Found::TooLarge { bytes } = found {
                        let why = format!("its {bytes} bytes are too many for the job's --memory");
                        failed.push((number + at, why));
                    }
                }
                number += found.len().max(1);
            }
            // By itself, so that one that may not be read holds up no other.
            Err(error) if error.is_answer() && names.len() > 1 => at_once = 1,
            Err(error) if error.is_answer() => {
                failed.push((number, chain(&error)));
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// So many keys are read at once.
const AT_ONCE: usize = 100;
