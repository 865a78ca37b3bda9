//! Keys whose names several sources have brought: each becomes what the first of them holds.

use std::collections::HashSet;
use std::time::Duration;

use tracing::{debug, warn};

use crate::change::refill;
use crate::doubt::{Call, Doubts};
use crate::key::{Db, Escaped};
use crate::plan::Rules;
use crate::progress::Counters;
use crate::target::TargetError;

use super::super::contested::{Asking, Contested, Holding, RefereeError, read};
use super::super::names::NoteError;
use super::super::rivals::{Rival, Seat, Tells};
use super::{CONFLICTS_NAMED, Lane, LaneError, Later, Stage};

/// A key by its source's database and name, and by the target's.
type Names = ((Db, Vec<u8>), (Db, Vec<u8>));

/// What sources told of contested keys, each with its name on our own.
type Told = (Seat, Vec<(Names, Contested)>, Option<RefereeError>);

/// What is between a lane and its rivals.
#[derive(Default)]
pub(super) struct Rivalry {
    pub(super) rival: Option<Rival>,
    /// What earlier attempts have sent, in bytes.
    pub(super) sent_before: u64,
    /// Contested keys that the copy has brought, or left behind, by their places in the target.
    deferred: Vec<(Db, Vec<u8>)>,
    /// The bytes of all their names.
    names: usize,
    /// Those of them that the sources are being asked for.
    asked: HashSet<(Db, Vec<u8>)>,
    reading: Option<Later<Told>>,
    /// While what was read is not confirmed nobody else writes contested keys.
    pub(super) seat: Option<Seat>,
    /// What was noted could not be written down.
    trouble: Option<NoteError>,
}

impl Rivalry {
    /// That of an attempt that begins, when nothing of the ones before it is under way any more.
    pub(super) fn new(rival: Option<Rival>) -> Self {
        let sent_before = rival.as_ref().map_or(0, Rival::begins);
        Self { rival, sent_before, ..Self::default() }
    }

    /// Whether the sources are being asked.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Notes a key that the copy brings, by its place in the target. If others have brought it too it is left for later, and
    /// what is told is whether that was not known.
    pub(super) fn meets(
        &mut self,
        place: Db,
        name: &[u8],
        is_first: bool,
        room: usize,
    ) -> Result<Option<bool>, LaneError> {
        let Some(rival) = &self.rival else { return Ok(None) };
        let noted = rival.note(place, name)?;
        // Where that is not wanted the target tells whether it holds the key: then the lane stops.
        if !noted.claims.are_several() || rival.quarantines() && is_first {
            return Ok(None);
        }
        self.defer(place, name);
        if self.memory() > room {
            return Err(LaneError::Contested(self.deferred.len()));
        }
        Ok(Some(noted.is_new))
    }

    /// Whether contested keys of the copy are yet to be read.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// A key of the copy is contested, or one that the copy did not bring.
    pub(super) fn defer(&mut self, db: Db, key: &[u8]) {
        self.names += key.len();
        self.deferred.push((db, key.to_vec()));
    }

    /// The next of them, to be asked for.
    fn ask_deferred(&mut self) -> Vec<(Db, Vec<u8>)> {
        let from = self.deferred.len().saturating_sub(AT_ONCE);
        let next = self.deferred.split_off(from);
        self.asked.extend(next.iter().cloned());
        next
    }

    /// A key of the copy needs no more to be read. Says whether it had to be.
    fn has_read(&mut self, db: Db, key: &[u8]) -> bool {
        self.asked.remove(&(db, key.to_vec()))
    }

    /// Of the others nothing was told: they are asked for again.
    fn ask_again(&mut self) {
        self.deferred.extend(self.asked.drain());
    }

    /// How many bytes the names take of those that are yet to be read, about.
    fn memory(&self) -> usize {
        self.names + self.deferred.len() * size_of::<(Db, Vec<u8>)>()
    }

    /// Waits until the sources have told, or for ever. Nothing is lost if the future is dropped.
    pub(super) async fn told(&mut self) -> Told {
        match &mut self.reading {
            Some(told) => told.await,
            None => std::future::pending().await,
        }
    }

    /// Sees that all that was noted is written down. If it cannot be, nothing may be sent.
    pub(super) fn may_send(&mut self) -> bool {
        if let Some(rival) = &self.rival
            && let Err(error) = rival.write_down()
        {
            self.trouble = Some(error);
        }
        self.trouble.is_none()
    }

    /// Notes the names of a command of the stream; those that are contested fall in doubt.
    pub(super) fn suspect(
        &mut self,
        call: &Call<'_>,
        rules: &Rules,
        doubts: &mut Doubts,
    ) -> Result<bool, NoteError> {
        let Some(rival) = &self.rival else { return Ok(false) };
        doubts.suspect(call, |db, key| match rules.target_of(db, key) {
            Some((place, name)) => Ok(rival.note(place, &name)?.claims.are_several()),
            None => Ok(false),
        })
    }

    /// Whether others have brought a name that this lane has noted before. If not, whoever brings it from here on waits for us.
    pub(super) fn is_contested(&self, db: Db, key: &[u8]) -> bool {
        let noted = self.rival.as_ref().map(|rival| rival.note(db, key));
        noted.is_some_and(|noted| noted.is_ok_and(|noted| noted.claims.are_several()))
    }

    /// That something could not be written down, or another process has one of our rivals.
    pub(super) fn trouble(&mut self) -> Result<(), LaneError> {
        if self.rival.as_ref().is_some_and(Rival::was_overtaken) {
            return Err(TargetError::Overtaken.into());
        }
        Ok(self.trouble.take().map_or(Ok(()), Err)?)
    }
}

impl Lane<'_> {
    /// Tells the others how far this lane is.
    pub(super) fn tell_rivals(&self) {
        if let Some(rival) = &self.rivalry.rival {
            let open = !self.draft.is_empty() || self.copy.is_open() || !self.stream.is_whole();
            let sent = self.rivalry.sent_before + self.target.pushed();
            rival.stands(sent, self.target.in_flight(), open);
            rival.follows(match self.history {
                Some(at) => Tells::History(at.replid),
                None if self.announced => Tells::Nothing,
                None => Tells::NotYet,
            });
        }
    }

    /// Parts contested keys from those that only our own source has, of keys in doubt. What stays as it is in the target is in doubt no longer.
    pub(super) fn take_contested(
        &mut self,
        wanted: &mut Vec<(Db, Vec<u8>)>,
    ) -> Result<Vec<Names>, LaneError> {
        let Some(rival) = self.rivalry.rival.clone() else { return Ok(Vec::new()) };
        let mut contested = Vec::new();
        for (db, key) in std::mem::take(wanted) {
            // What the rules leave out is not wanted.
            let Some((place, name)) = self.stream.scope().rules().target_of(db, &key) else {
                continue;
            };
            let name = name.into_owned();
            if rival.is_quarantined(place, &name) {
                self.doubts.dismiss(db, &key);
                self.doubts_changed = true;
            } else if rival.note(place, &name)?.claims.are_several() {
                contested.push(((db, key), (place, name)));
            } else {
                wanted.push((db, key));
            }
        }
        Ok(contested)
    }

    /// Asks the sources for contested keys.
    pub(super) fn read_contested(&mut self, keys: Vec<Names>) {
        let Some(rival) = self.rivalry.rival.clone() else { return };
        let seat = self.rivalry.seat.take();
        let asking =
            Asking { of: rival.number(), all: rival.quarantines(), room: self.share.piece };
        self.rivalry.reading = Some(Box::pin(async move {
            let (own, at): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
            let (seat, found, error) = read(rival, seat, at.clone(), asking).await;
            let mut found = found.into_iter().peekable();
            let keys = own.into_iter().zip(at).filter_map(|(own, at)| {
                let key = found.next_if(|key| key.at == at)?;
                Some(((own, at), key))
            });
            (seat, keys.collect(), error)
        }));
    }

    /// Goes on with the contested keys of the copy. Behind them the stream begins.
    pub(super) fn advance_deferred(&mut self) -> Result<(), LaneError> {
        if self.rivalry.is_reading() || self.fetched > 0 || !self.target.is_idle() {
            return Ok(());
        }
        let now = self.clock.now();
        if self.fetch_again_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        if self.rivalry.deferred.is_empty() {
            self.copy_is_whole()?;
            return Ok(());
        }
        // Their names in the source do not matter: no command of the stream has touched them yet.
        let keys = self.rivalry.ask_deferred().into_iter();
        let keys = keys.map(|at| (at.clone(), at)).collect();
        self.read_contested(keys);
        Ok(())
    }

    /// The sources have told what they hold under contested keys.
    pub(super) fn contested_told(&mut self, told: Told) -> Result<(), LaneError> {
        self.rivalry.reading = None;
        let (seat, found, error) = told;
        match error {
            Some(RefereeError::Gone(name)) => return Err(LaneError::Rival(name)),
            Some(RefereeError::Fetch(error)) => self.not_fetched(error)?,
            None => (self.fetch_lost, self.fetch_again_at) = (None, None),
        }
        self.push();
        let is_copying = self.stage == Stage::Sweeping;
        let mut count = 0;
        for (((db, key), (place, name)), contested) in found {
            if contested.is_expiring {
                // Its deletion is to come, or its new deadline.
                let soon = self.clock.now() + EXPIRED_AGAIN;
                self.fetch_again_at = self.fetch_again_at.max(Some(soon));
                continue;
            }
            let rival = self.rivalry.rival.as_ref();
            let is_others = contested.held.len() > 1 || contested.is_untold;
            let is_left = is_others && rival.is_some_and(Rival::quarantines);
            if is_left {
                self.quarantine((db, &key), (place, &name));
                continue;
            }
            let counts = match is_copying {
                true => self.rivalry.has_read(place, &name),
                false => self.doubts.fetched(db, &key, contested.own_at.unwrap_or(self.taken)),
            };
            if counts {
                count += 1;
                if !is_copying && !self.stream.scope().rules().names().are_distinct() {
                    self.draft.note_origin(&name, &key);
                }
                self.put((place, &name), contested.held.first())?;
            }
        }
        debug!(keys = count, left = self.doubts.open(), "contested keys were read");
        self.doubts_changed = true;
        if is_copying {
            self.rivalry.ask_again();
        }
        if count > 0 {
            if is_copying {
                self.draft.carries.keys = count;
            } else {
                (self.draft.covers, self.draft.stands_in) = (Some(self.taken), self.stream.db());
            }
            self.draft.carries.fetched = count;
            self.fetched += count;
            self.push();
            self.rivalry.seat = Some(seat);
        }
        Ok(())
    }

    /// Writes what a source holds under a key of the target, in place of what is there.
    fn put(&mut self, (place, name): (Db, &[u8]), held: Option<&Holding>) -> Result<(), LaneError> {
        let value = match held {
            None => None,
            Some(Holding { payload: Some(payload), deadline, .. }) => {
                Some((payload.as_slice(), *deadline))
            }
            Some(Holding { payload: None, bytes, .. }) => {
                let (key, bytes) = (name.to_vec(), *bytes as u64);
                return Err(LaneError::TooLarge { db: place, key, bytes });
            }
        };
        // It may be another source's, whose clock is another, and whose rules.
        let own = (self.deadlines.apart(), self.deadlines.extension(), self.deadlines.is_bounded());
        if let Some(held) = held {
            self.deadlines.set_apart(held.apart);
            self.deadlines.set_extension(held.extends);
            self.deadlines.set_bounded(held.bounded);
        }
        if let Some(rival) = &self.rivalry.rival {
            rival.holds(place, name, held.map(|held| held.of));
        }
        let to = (self.server, self.stream.scope());
        let put = refill((place, name), value, to, &mut self.deadlines, &mut self.draft);
        self.deadlines.set_apart(own.0);
        self.deadlines.set_extension(own.1);
        self.deadlines.set_bounded(own.2);
        put.map_err(|source| LaneError::Copy {
            db: place,
            key: name.to_vec(),
            source: source.into(),
        })
    }

    /// Of a source that cannot be asked: its contested keys stay as they are in the target, and what commands have made of those, which were left
    /// out, is not what the source holds.
    pub(super) fn give_up_doubts(&mut self) {
        let keys: Vec<_> = self.doubts.iter().map(|(db, key)| (db, key.to_vec())).collect();
        for (db, key) in keys {
            let target = self.stream.scope().rules().target_of(db, &key);
            let Some((place, name)) = target.map(|(place, name)| (place, name.into_owned())) else {
                self.doubts.dismiss(db, &key);
                continue;
            };
            if self.rivalry.is_contested(place, &name) {
                self.quarantine((db, &key), (place, &name));
            } else {
                warn!(
                    db = place.index(),
                    key = %Escaped(&name),
                    "this key is made of one that several sources hold: it is not what the source holds"
                );
                self.doubts.dismiss(db, &key);
                self.tally.unproven += 1;
            }
        }
        self.doubts_changed = true;
    }

    /// A key that several sources hold, which is not wanted: it stays as it is, and is told.
    fn quarantine(&mut self, (db, key): (Db, &[u8]), (place, name): (Db, &[u8])) {
        self.doubts.dismiss(db, key);
        self.rivalry.has_read(place, name);
        let is_new = self.rivalry.rival.as_ref().is_some_and(|rival| rival.quarantine(place, name));
        if !is_new {
            return;
        }
        warn!(
            db = place.index(),
            key = %Escaped(name),
            "several sources hold this key: it stays as it is in the target"
        );
        Counters::add(&self.counters.conflicts, 1);
        self.tally.unproven += 1;
        if self.tally.conflict_names.len() < CONFLICTS_NAMED {
            self.tally.conflict_names.push((place, name.to_vec()));
        }
    }
}

/// So many contested keys are read at once.
const AT_ONCE: usize = 1000;

/// A key that is due is read again after so long.
const EXPIRED_AGAIN: Duration = Duration::from_millis(100);
