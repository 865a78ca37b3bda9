//! Links that are lost, and a target that refuses to go on for now.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::progress::Awaited;
use crate::repl::Resume;
use crate::source::SourceError;
use crate::target::{Confirmed, Entrance, Standalone, TargetError, Whose};

use super::super::loss::Loss;
use super::super::remedy::{Remedy, patience, pause, refusal_patience, remedy};
use super::end::End;
use super::{Lane, LaneError, Later, Stage, chain};

/// A link that was cut so often over a full spool, and could not be gone on with in between, is cut again: no other copy is begun.
const CUTS: u32 = 2;

/// A source that was asked what it is and is lost before it has begun is waited for so long: others may be at their copies meanwhile, and what
/// leads to it is new. One that never begins is told soon.
const HICCUP: Duration = Duration::from_secs(10);

/// The target refuses to go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    since: Duration,
    pub(super) again_at: Duration,
    tries: u32,
}

impl Lane<'_> {
    /// The side without which nothing goes on for now.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        if self.relinking.is_some() || self.refusal.is_some() {
            Some(Awaited::Target)
        } else if self.is_paused {
            Some(Awaited::Resume)
        } else {
            self.source_lost.map(|_| Awaited::Source)
        }
    }

    /// Whether the target refuses to go on for now; tries again when it is time.
    pub(super) fn is_refused(&mut self) -> Result<bool, LaneError> {
        let Some(reply) = self.target.refused() else {
            if self.target.is_idle() {
                self.refusal = None;
            }
            return Ok(false);
        };
        let now = self.clock.now();
        let refusal = match &mut self.refusal {
            Some(refusal) => refusal,
            none => {
                warn!(reply, "the target refuses to go on for now");
                none.insert(Refusal { since: now, again_at: now + pause(0), tries: 0 })
            }
        };
        if now.saturating_sub(refusal.since) >= refusal_patience(reply) {
            return Err(LaneError::Refused(reply.to_owned()));
        }
        if now < refusal.again_at {
            return Ok(true);
        }
        refusal.tries += 1;
        refusal.again_at = now + pause(refusal.tries);
        if reply.starts_with("READONLY") {
            // It has become a replica: its name may lead to the new master.
            warn!(reply, "the target is asked for anew");
            self.relinking = Some(self.connect_target(Duration::ZERO));
        }
        self.target.go_on();
        Ok(false)
    }

    pub(super) fn connect_target(
        &mut self,
        pause: Duration,
    ) -> Later<Result<Entrance, TargetError>> {
        self.links += 1;
        let name = format!("{}-{}", self.connection, self.links);
        let (net, place, record) = (self.net.clone(), self.to.clone(), self.record.clone());
        // What is still on its way over the lost link must not come behind what is sent again.
        let evicts = self.target.keeper().stored().map(<[u8]>::to_vec);
        Box::pin(async move {
            sleep(pause).await;
            let mut entrance = Standalone::enter(&net, &place, record, &name).await?;
            if evicts.is_some() && entrance.stored == evicts {
                entrance.evict(Whose::Own).await?;
            }
            Ok(entrance)
        })
    }

    /// The source has been lost, or has refused us.
    pub(super) fn source_lost(&mut self, error: SourceError) -> Result<(), LaneError> {
        let listens = matches!(self.end, End::No | End::Asking(_) | End::Reaching(..));
        if !listens && !self.is_settled() {
            // Everything that is wanted of it has been taken.
            self.source.let_go();
            self.is_let_go = true;
            return Ok(());
        }
        if matches!(error, SourceError::CutOff) {
            self.tally.cuts += 1;
            if self.tally.cuts >= CUTS {
                return Err(LaneError::Outgrown(self.tally.outgrown.take().unwrap_or_default()));
            }
        }
        let (now, until) = (self.clock.now(), self.until());
        if error.is_final() {
            return Err(error.into());
        }
        let loss = self.source_lost.get_or_insert_with(|| Loss::new(now));
        let waited = loss.lasting(now);
        // An open end: what was taken up to here is in the target's queue, and the stream goes on behind it.
        let resume = match (self.stage, self.history) {
            (Stage::Connecting, _) if self.announced => {
                return Err(LaneError::CopyCut(chain(&error)));
            }
            // One that was there before, as the record tells, is waited for as any other.
            (Stage::Connecting, Some(at)) if self.resumes => Some(at),
            (Stage::Connecting, _) if self.waits_for_source => None,
            (Stage::Connecting, _) => match &error {
                SourceError::Repl(refusal) if waited < patience(refusal) => None,
                SourceError::Repl(_) => return Err(error.into()),
                _ if waited < HICCUP => None,
                _ => return Err(error.into()),
            },
            (Stage::Copying | Stage::Sweeping, _) => return Err(LaneError::CopyCut(chain(&error))),
            (_, None) => return Err(LaneError::NoOffsets(chain(&error))),
            (Stage::Settling | Stage::Following, Some(at)) => {
                Some(Resume { replid: at.replid, offset: self.looked.unwrap_or(self.taken) })
            }
        };
        let error = LaneError::Source(error);
        self.counters.set_trouble(chain(&error));
        if remedy(&error) != Remedy::ReconnectSource {
            return Err(error);
        }
        let pause = loss.again("source", &error, until, now)?;
        self.source.reconnect(resume, pause);
        Ok(())
    }

    /// More is wanted of the source after all: one that was let go is linked again.
    pub(super) fn call_back_source(&mut self) {
        if std::mem::take(&mut self.is_let_go) {
            let offset = self.looked.unwrap_or(self.taken);
            let resume = self.history.map(|at| Resume { replid: at.replid, offset });
            self.source.reconnect(resume, Duration::ZERO);
        }
    }

    /// The source serves us again.
    pub(super) fn source_is_there(&mut self) {
        self.source_lost = None;
    }

    /// The target has been lost, or could not be reached again.
    pub(super) fn target_lost(&mut self, error: TargetError) -> Result<(), LaneError> {
        let error = LaneError::Target(error);
        self.counters.set_trouble(chain(&error));
        if remedy(&error) != Remedy::ReconnectTarget {
            return Err(error);
        }
        let (now, until) = (self.clock.now(), self.until());
        let loss = self.target_lost.get_or_insert_with(|| Loss::new(now));
        let pause = loss.again("target", &error, until, now)?;
        self.relinking = Some(self.connect_target(pause));
        Ok(())
    }

    pub(super) fn relinked(&mut self, entrance: Entrance) -> Result<(), LaneError> {
        let mut confirmed = Confirmed::default();
        let unseen = self.target.relink(entrance, &mut confirmed)?;
        info!("the target is there again");
        if !unseen.is_empty() {
            self.ran_unseen(&unseen)?;
        }
        self.confirmed(confirmed)
    }
}
