//! Keys in doubt: where they come from, and how they are brought to what the source holds.

use std::borrow::Cow;
use std::time::Duration;

use tracing::{debug, warn};

use crate::change::{Batch, Failure, StreamError, refill};
use crate::command::keys::{Keys, keys};
use crate::command::{Class, lookup};
use crate::doubt::{Call, Verdict};
use crate::key::{Db, Escaped, is_own};
use crate::net::{Control, ControlError};
use crate::offset::{Offset, ReplId};
use crate::plan::{OnUnknown, Origin, Place, Rules};
use crate::repl::Latin1;
use crate::source::{FetchError, Fetcher, Found, Limits};
use crate::target::{DoubtList, Halt};

use super::super::loss::Loss;
use super::{Lane, LaneError, Later, Stage, failed};

/// The source is being read. While it is nothing is taken from its stream, so that what is read is not behind that.
pub(super) struct Fetching(Later<Told>);

/// What a source told of keys in doubt, and why no more of them.
pub(super) struct Told {
    fetcher: Fetcher,
    found: Vec<(Db, Vec<u8>, Offset, Found)>,
    error: Option<FetchError>,
}

impl Fetching {
    /// Waits until the source has told, or for ever. Nothing is lost if the future is dropped.
    pub(super) async fn told(slot: &mut Option<Self>) -> Told {
        match slot {
            Some(Self(told)) => told.await,
            None => std::future::pending().await,
        }
    }
}

/// A command of which nobody knows what it does, while the source is asked for its keys.
pub(super) struct Unknown {
    name: String,
    db: Db,
    end: Offset,
    asking: Later<Result<Vec<Vec<u8>>, ControlError>>,
}

impl Unknown {
    /// Waits until the source has told the keys, or for ever. Nothing is lost if the future is dropped.
    pub(super) async fn told(slot: &mut Option<Self>) -> Result<Vec<Vec<u8>>, ControlError> {
        match slot {
            Some(unknown) => (&mut unknown.asking).await,
            None => std::future::pending().await,
        }
    }
}

impl Lane<'_> {
    /// A command that this version does not know: the source tells its keys, or it is passed over if that was asked for.
    pub(super) fn unknown(
        &mut self,
        args: Vec<Vec<u8>>,
        end: Offset,
        error: StreamError,
    ) -> Result<(), LaneError> {
        let name =
            String::from_utf8_lossy(args.first().map_or(&b""[..], Vec::as_slice)).to_uppercase();
        if self.plan.on_unknown == OnUnknown::Skip {
            warn!(command = name, offset = %end, "an unknown command is passed over");
            *self.tally.skipped.entry(name).or_default() += 1;
            self.tally.unproven += 1;
            self.stream.reached(end, &mut self.draft);
            self.taken = end;
            return Ok(());
        }
        let Place::Server(from) = self.from else {
            return Err(LaneError::Stream { offset: end, source: error });
        };
        if !self.can_fetch() {
            return Err(LaneError::Stream { offset: end, source: error });
        }
        let (net, from, db) = (self.net.clone(), from.clone(), self.stream.db());
        let asking: Later<_> = Box::pin(async move {
            let mut control = Control::open(&net, &from).await?;
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            control.keys_of(&args).await
        });
        self.unknown = Some(Unknown { name, db, end, asking });
        Ok(())
    }

    /// The source has told the keys of a command that nobody knows, or that it cannot.
    pub(super) fn unknown_told(
        &mut self,
        told: Result<Vec<Vec<u8>>, ControlError>,
    ) -> Result<(), LaneError> {
        let Some(Unknown { name, db, end, .. }) = self.unknown.take() else { return Ok(()) };
        match told {
            Ok(keys) if !keys.is_empty() => {
                warn!(command = name, offset = %end, keys = keys.len(), "this command is not known: the source is asked for what it did");
                for key in keys {
                    self.doubts.doubt(db, &key, end);
                }
                self.doubts_changed = true;
                self.stream.reached(end, &mut self.draft);
                self.taken = end;
                self.was_written(end);
                self.last_data = self.clock.now();
                Ok(())
            }
            Err(error) if !error.is_answer() => Err(LaneError::Asked(error)),
            // It has no keys, or the source does not tell them.
            _ => Err(LaneError::Stream {
                offset: end,
                source: StreamError::Unknown { name: name.into_bytes() },
            }),
        }
    }

    /// A command that makes keys which are wanted out of what is left out: the source is asked for what became of them.
    pub(super) fn undecided(
        &mut self,
        args: &[Vec<u8>],
        end: Offset,
        error: StreamError,
    ) -> Result<(), LaneError> {
        if !self.can_fetch() {
            return Err(LaneError::Stream { offset: end, source: error });
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let (stream, doubts) = (&self.stream, &mut self.doubts);
        let (scope, db) = (stream.scope(), stream.db());
        for used in keys(&args).iter().flat_map(Keys::iter).filter(|used| used.access.writes()) {
            let (of, key) =
                (used.db.unwrap_or(db), args.get(used.position).copied().unwrap_or_default());
            if scope.judge(of, key).is_keep() {
                doubts.doubt(of, key, end);
            }
        }
        let name = args.first().copied().unwrap_or_default();
        if lookup(name).is_some_and(|known| known.class(&args) == Class::Eval) {
            // It may have written keys that it does not name.
            self.tally.unproven += 1;
        }
        debug!(command = %name.escape_ascii(), offset = %end, "the rules cannot split this command: its keys are in doubt");
        self.doubts_changed = true;
        self.stream.reached(end, &mut self.draft);
        self.taken = end;
        self.was_written(end);
        self.last_data = self.clock.now();
        Ok(())
    }

    /// Whether the source can be asked for keys, each with the offset at which that held.
    pub(super) fn can_fetch(&self) -> bool {
        matches!(self.from, Place::Server(_)) && self.history.is_some()
    }

    /// The stream cannot go on as it stands.
    pub(super) fn halted(&mut self, halt: Halt) -> Result<(), LaneError> {
        match halt {
            Halt::Fenced(_) | Halt::Torn => Err(LaneError::Strayed),
            Halt::Unrecorded(batches) => self.ran_unseen(&batches),
            Halt::Late => Err(LaneError::Late),
            Halt::Surprised { batches, failed } => self.surprised(&batches, &failed),
            Halt::Rejected { batch, index, failure } => self.rejected(batch, index, &failure),
        }
    }

    /// Commands of a transaction did something else than on the source: their keys are in doubt, and those that commands behind them made
    /// of these.
    fn surprised(
        &mut self,
        batches: &[Batch],
        failures: &[(usize, usize, Failure)],
    ) -> Result<(), LaneError> {
        let is_ours = |nth: usize| batches.get(nth).is_some_and(|batch| batch.carries.held > 0);
        if failures.iter().any(|(nth, ..)| is_ours(*nth)) {
            // The horizon is moved anew, from where the record has it.
            return Err(LaneError::Strayed);
        }
        for (.., failure) in failures {
            self.look_at(failure)?;
        }
        if failures
            .iter()
            .any(|(nth, ..)| batches.get(*nth).is_some_and(|one| one.carries.fetched > 0))
        {
            self.unwritten += 1;
        }
        let mut has_failed = false;
        for (nth, batch) in batches.iter().enumerate() {
            let end = batch.covers.unwrap_or(self.taken);
            let (rules, doubts) = (self.stream.scope().rules(), &mut self.doubts);
            in_source_terms(batch, rules, end, |index, call| {
                if failures.iter().any(|(of, at, _)| (*of, *at) == (nth, index)) {
                    has_failed = true;
                    doubts.failed(call);
                } else if has_failed {
                    doubts.ran(call);
                }
            });
        }
        self.revise();
        Ok(())
    }

    /// The target does not take a command, and has run nothing of its transaction.
    fn rejected(&mut self, nth: usize, at: usize, failure: &Failure) -> Result<(), LaneError> {
        let mut number = 0;
        let (rules, doubts, taken) = (self.stream.scope().rules(), &mut self.doubts, self.taken);
        let (mut is_fetched, mut is_ours) = (false, false);
        self.target.revise(|batch| {
            if number == nth {
                let end = batch.covers.unwrap_or(taken);
                (is_fetched, is_ours) = (batch.carries.fetched > 0, batch.carries.held > 0);
                in_source_terms(batch, rules, end, |index, call| {
                    if index == at {
                        doubts.failed(call);
                    }
                });
            }
            number += 1;
            batch.clone()
        });
        if is_ours {
            return Err(LaneError::Strayed);
        }
        self.look_at(failure)?;
        self.unwritten += u32::from(is_fetched);
        self.revise();
        Ok(())
    }

    /// A transaction was run over a link that was lost, and nobody has seen how.
    pub(super) fn ran_unseen(&mut self, batches: &[Batch]) -> Result<(), LaneError> {
        if !self.can_fetch() {
            return Err(LaneError::NoOffsets(
                "the link to the target was lost over a transaction".to_owned(),
            ));
        }
        for batch in batches {
            let end = batch.covers.unwrap_or(self.taken);
            let (rules, doubts) = (self.stream.scope().rules(), &mut self.doubts);
            in_source_terms(batch, rules, end, |_, call| doubts.unseen(call));
        }
        debug!(
            keys = self.doubts.open(),
            "keys are in doubt: the link was lost over a transaction"
        );
        self.revise();
        Ok(())
    }

    /// Whether a failure can be mended by reading its keys anew.
    fn look_at(&mut self, failure: &Failure) -> Result<(), LaneError> {
        let is_forbidden = failure.reply.starts_with("NOPERM");
        if is_forbidden || failure.key.is_none() || self.unwritten >= UNWRITTEN {
            return Err(failed(failure.clone()));
        }
        if !self.can_fetch() {
            let error = failed(failure.clone());
            // A file holds what it holds; a master can be copied again.
            return Err(match self.from {
                Place::Server(_) => LaneError::NoOffsets(error.to_string()),
                Place::Capture(_) | Place::Rdb(_) => error,
            });
        }
        let key = failure.key.as_deref().unwrap_or_default();
        warn!(
            db = failure.db.index(),
            key = %Escaped(key),
            command = %String::from_utf8_lossy(&failure.name),
            reply = failure.reply,
            "the target did something else than the source: the key is read anew"
        );
        Ok(())
    }

    /// Leaves out of what is not confirmed, and of what is being gathered, all commands that touch keys in doubt.
    fn revise(&mut self) {
        self.doubts_changed = true;
        let (rules, doubts, taken) = (self.stream.scope().rules(), &mut self.doubts, self.taken);
        let unproven = &mut self.tally.unproven;
        let mut revised = |batch: &Batch, end: Offset| {
            // All others stay, ours among them.
            let mut left_out = Vec::new();
            in_source_terms(batch, rules, end, |index, call| {
                let plays = if batch.carries.fetched > 0 {
                    // It is what a key in doubt is brought to: it goes unless that must be read again.
                    call.args.get(1).is_none_or(|key| doubts.is_fenced(call.db, key))
                } else {
                    let verdict = doubts.judge_again(call);
                    *unproven += u64::from(verdict == Verdict::Unproven);
                    verdict == Verdict::Play
                };
                if !plays {
                    left_out.push(index);
                }
            });
            if left_out.is_empty() {
                return batch.clone();
            }
            let all = 0..batch.expects().len();
            batch.only(&all.filter(|at| left_out.binary_search(at).is_err()).collect::<Vec<_>>())
        };
        self.target.revise(|batch| revised(batch, batch.covers.unwrap_or(taken)));
        // The beginning of a transaction of which more is to come was judged by what was known when it came. What its batch covers so far
        // stands before it.
        self.draft.revise(|batch| revised(batch, taken));
    }

    /// Tells the record which keys are in doubt, and reads them once the stream is near its end.
    pub(super) fn advance_doubts(&mut self) -> Result<(), LaneError> {
        if self.deadlines.was_unsure() && !self.target.keeper().record().unsure {
            self.target.keeper_mut().amend(|record| record.unsure = true);
        }
        if self.doubts_changed {
            self.doubts_changed = false;
            let list = self.doubt_list();
            self.target.keeper_mut().set_doubts(list);
        }
        if self.doubts.memory() > self.share.names {
            return Err(LaneError::Doubts(self.doubts.len()));
        }
        let is_due = self.doubts.open() > 0
            && self.fetching.is_none()
            && !self.rivalry.is_reading()
            && self.relinking.is_none()
            && self.stage == Stage::Following
            && self.stream.is_whole()
            && self.stopping.is_none()
            && !self.is_paused
            && self.fetch_again_at.is_none_or(|at| self.clock.now() >= at)
            && self.taken >= self.unseen_to
            && (self.starved && self.source.waiting() == 0
                || self.doubts.memory() > self.share.names / 2);
        if is_due && !self.can_fetch() && self.rivalry.rival.is_some() {
            self.give_up_doubts();
        }
        if is_due && let (Place::Server(from), Some(history)) = (self.from, self.history) {
            let scope = self.stream.scope();
            let mut wanted: Vec<(Db, Vec<u8>)> = Vec::new();
            let mut left_out = Vec::new();
            let own = self.doubts.iter().filter(|(_, key)| self.has_slot_of(key));
            for (db, key) in own.take(AT_ONCE) {
                let is_ours = is_own(&scope.rules().names().of(key));
                let is_wanted = !is_ours && scope.judge(db, key).is_keep();
                let list = if is_wanted { &mut wanted } else { &mut left_out };
                list.push((db, key.to_vec()));
            }
            // What the rules leave out is in the target no more than it was.
            for (db, key) in left_out {
                self.doubts.dismiss(db, &key);
                self.doubts_changed = true;
            }
            let contested = self.take_contested(&mut wanted)?;
            if contested.len() > wanted.len() {
                self.read_contested(contested);
                return Ok(());
            }
            if wanted.is_empty() {
                return Ok(());
            }
            wanted.sort_unstable();
            let limits = Limits { largest: self.share.largest, room: self.share.piece };
            let fetcher = self.fetcher.take();
            let fetcher =
                fetcher.unwrap_or_else(|| Fetcher::new(self.net.clone(), from.clone(), limits));
            let room = self.share.piece;
            self.fetching = Some(Fetching(Box::pin(read(fetcher, wanted, history.replid, room))));
        }
        Ok(())
    }

    /// The keys that are not clean, if a record can hold them.
    fn doubt_list(&self) -> Option<DoubtList> {
        const MOST: usize = 1000;
        const MOST_BYTES: usize = 64 << 10;
        if self.doubts.len() > MOST || self.doubts.memory() > MOST_BYTES + MOST * 100 {
            return None;
        }
        let keys = self.doubts.all();
        Some(keys.map(|(db, key)| (db.index(), Latin1(key.to_vec()))).collect())
    }

    /// The source has told what it holds under keys in doubt.
    pub(super) fn fetched(&mut self, told: Told) -> Result<(), LaneError> {
        self.fetching = None;
        self.fetcher = Some(told.fetcher);
        match told.error {
            Some(error) => self.not_fetched(error)?,
            None => (self.fetch_lost, self.fetch_again_at) = (None, None),
        }
        // What was gathered before goes first, and in a batch of its own.
        self.push();
        let scope = self.stream.scope();
        let mut count = 0;
        for (db, key, at, found) in told.found {
            let Some(place) = scope.rules().place(db) else { continue };
            if matches!(found, Found::Expired) {
                // Its deletion is to come, or its new deadline.
                let soon = self.clock.now() + EXPIRED_AGAIN;
                self.fetch_again_at = self.fetch_again_at.max(Some(soon));
                continue;
            }
            let rival = self.rivalry.rival.as_ref();
            let name = scope.rules().names().of(&key);
            let noted = rival.map(|rival| rival.note(place, &name)).transpose()?;
            // It may have become another's meanwhile, or others may have brought it too.
            if !self.has_slot_of(&key)
                || noted.is_some_and(|noted| noted.claims.are_several())
                || !self.doubts.fetched(db, &key, at)
            {
                continue;
            }
            count += 1;
            let held = match &found {
                Found::Gone | Found::Expired => None,
                Found::Value { payload, deadline } => Some((payload.as_slice(), *deadline)),
                Found::TooLarge { bytes } => {
                    return Err(LaneError::TooLarge { db, key, bytes: *bytes as u64 });
                }
            };
            let to = (self.server, scope);
            if !scope.rules().names().are_distinct() {
                self.draft.note_origin(&name, &key);
            }
            refill((place, &name), held, to, &mut self.deadlines, &mut self.draft).map_err(
                |source| LaneError::Copy { db: place, key: key.clone(), source: source.into() },
            )?;
        }
        debug!(keys = count, left = self.doubts.open(), "keys in doubt were read");
        self.doubts_changed = true;
        if count > 0 {
            (self.draft.covers, self.draft.stands_in) = (Some(self.taken), self.stream.db());
            self.draft.carries.fetched = count;
            self.fetched += count;
            self.push();
        }
        Ok(())
    }

    /// The source could not be read for keys in doubt: it is asked again later.
    pub(super) fn not_fetched(&mut self, error: FetchError) -> Result<(), LaneError> {
        let now = self.clock.now();
        let soon = match &error {
            // Our stream will go on under the new name, or show that it cannot.
            FetchError::OtherHistory { .. } | FetchError::NoBacklog => Some(EXPIRED_AGAIN * 10),
            FetchError::Control(ControlError::Unsettled) => Some(EXPIRED_AGAIN),
            // Its slot is going away, and we shall hear of it.
            FetchError::Refused { .. } if error.is_elsewhere() => Some(EXPIRED_AGAIN * 10),
            _ => None,
        };
        if let Some(soon) = soon {
            let loss = self.fetch_lost.get_or_insert_with(|| Loss::new(now));
            if loss.lasting(now) >= OTHER_FOR && !matches!(error, FetchError::Control(_)) {
                return Err(LaneError::Fetch(error));
            }
            self.fetch_again_at = Some(now + soon);
            return Ok(());
        }
        if error.is_answer() {
            return Err(LaneError::Fetch(error));
        }
        let until = self.until();
        let loss = self.fetch_lost.get_or_insert_with(|| Loss::new(now));
        let wait = loss.again("source", &LaneError::Fetch(error), until, now)?;
        self.fetch_again_at = Some(now + wait);
        Ok(())
    }

    /// So many values that were read have been confirmed.
    pub(super) fn was_fetched(&mut self, count: u64) {
        if count > 0 {
            self.fetched = self.fetched.saturating_sub(count);
            self.unwritten = 0;
            if self.fetched == 0 {
                self.rivalry.seat = None;
            }
        }
    }

    /// Tells the source what the target holds: all that was confirmed, once no key is in doubt.
    pub(super) fn acknowledge(&mut self) {
        if self.doubts.is_empty() && self.taken >= self.unseen_to {
            self.source.confirm(self.confirmed);
        }
    }

    /// Ends the fences that the target has passed. It has if it has confirmed what was read, and the stream up to there.
    pub(super) fn pass_fences(&mut self) {
        if self.fetched == 0 && !self.doubts.is_empty() {
            self.doubts.passed(self.confirmed);
            self.doubts_changed = true;
        }
    }
}

/// Reads these keys, or the first of them that fit into so many bytes.
async fn read(mut fetcher: Fetcher, keys: Vec<(Db, Vec<u8>)>, replid: ReplId, room: usize) -> Told {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut rest = keys.as_slice();
    while let Some((db, _)) = rest.first()
        && bytes < room
    {
        let same_db = rest.iter().take_while(|(other, _)| other == db).count();
        let (now, _) = rest.split_at(same_db);
        let names: Vec<&[u8]> = now.iter().map(|(_, key)| key.as_slice()).collect();
        match fetcher.fetch(*db, &names, &replid).await {
            Ok(fetched) => {
                rest = rest.get(fetched.found.len().max(1)..).unwrap_or_default();
                for ((db, key), held) in now.iter().zip(fetched.found) {
                    if let Found::Value { payload, .. } = &held {
                        bytes += payload.len();
                    }
                    found.push((*db, key.clone(), fetched.at, held));
                }
            }
            Err(error) => return Told { fetcher, found, error: Some(error) },
        }
    }
    Told { fetcher, found, error: None }
}

/// Shows each command of a batch with its number, by the databases and names that the source has for those of the target. Our own keys are
/// not the source's.
fn in_source_terms(
    batch: &Batch,
    rules: &Rules,
    end: Offset,
    mut show: impl FnMut(usize, &Call<'_>),
) {
    let mut origins = None;
    batch.visit(|index, db, args| {
        let Some(command) = args.first().and_then(|name| lookup(name)) else { return };
        if command.class(args) == Class::Select || args.get(1).is_some_and(|key| is_own(key)) {
            return;
        }
        let db = rules.origin(db);
        let named = command.databases(args).unwrap_or_default();
        let digits = named
            .map(|one| one.map(|one| (one.position, rules.origin(one.db).index().to_string())));
        if digits.iter().all(Option::is_none) && rules.names().are_kept() {
            show(index, &Call { command, args, db, end });
            return;
        }
        let mut keys: Vec<(usize, Cow<'_, [u8]>)> = Vec::new();
        let known = origins.get_or_insert_with(|| batch.origins());
        // What was written by us has keys that can be told.
        let _ = command.for_each_key(args, |used| {
            let name = args.get(used.position).copied().unwrap_or_default();
            match rules.names().origin(name) {
                Origin::Key(key) => keys.push((used.position, key)),
                Origin::Unknown => {
                    // One that is not noted is called there as it is here.
                    keys.extend(known.get(name).map(|key| (used.position, Cow::Borrowed(*key))));
                }
                Origin::None => {}
            }
        });
        let digits =
            digits.iter().flatten().map(|(position, digits)| (*position, digits.as_bytes()));
        let others = digits.chain(keys.iter().map(|(position, key)| (*position, key.as_ref())));
        let mut args = args.to_vec();
        for (position, other) in others {
            if let Some(arg) = args.get_mut(position) {
                *arg = other;
            }
        }
        show(index, &Call { command, args: &args, db, end });
    });
}

/// A key that is due is read again after so long.
const EXPIRED_AGAIN: Duration = Duration::from_millis(100);

/// A source whose history is another one than our stream's for so long is not the one that we follow.
const OTHER_FOR: Duration = Duration::from_secs(60);

/// So many keys are read at once.
const AT_ONCE: usize = 1000;

/// How often in a row a value that was read may be refused by the target.
const UNWRITTEN: u32 = 5;
