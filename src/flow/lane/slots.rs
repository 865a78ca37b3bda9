//! A lane that carries a part of a cluster: which keys are its own, and what becomes of those that are another's. Why this is so is told in
//! `flow/moves.rs`.

use crate::command::Class;
use crate::doubt::Call;
use crate::key::Db;
use crate::offset::Offset;
use crate::plan::Address;
use crate::position::{Phase, Record};
use crate::slots::{SlotSet, slot_of};
use crate::source::SourceError;

use super::super::cluster::Member;
use super::end::End;
use super::{Goal, Lane, LaneError, Stage};

/// What a lane knows of its slots.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) member: Member,
    /// Those whose keys it plays.
    own: SlotSet,
    /// All that it has had since the run began.
    had: SlotSet,
    /// By whose generation of owners that is.
    generation: u64,
    /// What was taken up to here may have been played by older ones.
    older_to: Option<Offset>,
    /// How many looks had been begun when a key of another was left out last.
    left_out: Option<u64>,
    /// By which generation the end was asked for.
    goal: u64,
}

impl Slots {
    /// Those of a lane that has played nothing yet.
    pub(super) fn new(member: Member) -> Self {
        let (own, generation) = {
            let mut moves = member.moves();
            let generation = moves.generation();
            moves.obeys(member.lane(), generation);
            (moves.own(member.lane()), generation)
        };
        let had = own.clone();
        Self { member, own, had, generation, older_to: None, left_out: None, goal: generation }
    }

    /// Waits until something has changed for the lanes of the cluster, or for ever.
    pub(super) async fn changed(slots: &mut Option<Self>) {
        match slots {
            Some(slots) => slots.member.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Whether a key is this lane's.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.own.has(slot_of(key))
    }

    /// Whether a command is this lane's to play: none of its keys is another's.
    pub(super) fn admits(&mut self, call: &Call<'_>) -> bool {
        let mut is_own = true;
        call.each_key(|_, key, _| is_own &= self.has(key));
        if !is_own {
            self.leaves_out();
        }
        is_own
    }

    /// A key of another was left out.
    pub(super) fn leaves_out(&mut self) {
        self.left_out = Some(self.member.moves().looks());
    }
}

/// Puts the keys of a command in doubt that is left out because they are another's.
pub(super) fn left_out(call: &Call<'_>, doubts: &mut crate::doubt::Doubts, unproven: &mut u64) {
    *unproven += u64::from(call.command.class(call.args) == Class::Eval);
    doubts.failed(call);
}

impl Lane<'_> {
    /// Whether a key is this lane's, as far as slots decide that.
    pub(super) fn has_slot_of(&self, key: &[u8]) -> bool {
        self.slots.as_ref().is_none_or(|slots| slots.has(key))
    }

    /// Goes by whose the slots are now, and gives what is another's to that lane.
    pub(super) fn advance_slots(&mut self) -> Result<(), LaneError> {
        let Some(slots) = &self.slots else { return Ok(()) };
        if !matches!(self.end, End::No) || self.stopping.is_some() {
            return Ok(());
        }
        let strange = slots.member.strange();
        if !strange.is_empty() {
            return Err(LaneError::MovedAway(strange));
        }
        if let (Some(Address::Tcp { host, port }), Some(now)) =
            (self.source.at(), slots.member.master())
            && (host, port) != (&now.0, &now.1)
        {
            self.source_lost(SourceError::Replaced)?;
        }
        if self.stage != Stage::Following || !self.stream.is_whole() {
            return Ok(());
        }
        self.obey_moves();
        self.take_handed();
        self.hand_over();
        Ok(())
    }

    fn obey_moves(&mut self) {
        let Some(slots) = &mut self.slots else { return };
        let (generation, own) = {
            let moves = slots.member.moves();
            (moves.generation(), moves.own(slots.member.lane()))
        };
        if generation != slots.generation {
            own.iter().for_each(|slot| slots.had.insert(slot));
            (slots.own, slots.generation) = (own, generation);
            slots.older_to = Some(self.taken);
            // What is in doubt of keys that it had is another's now.
            slots.leaves_out();
            // Where names are handed from one to another no record alone can tell what is in the target.
            self.target.keeper_mut().amend(|record| record.phase = Phase::Copying);
            self.doubts_changed = true;
            self.push();
            self.target.save();
            return;
        }
        let is_confirmed = |older_to| self.confirmed >= older_to && self.fetched == 0;
        if slots.older_to.is_some_and(|to| self.target.is_idle() || is_confirmed(to)) {
            slots.older_to = None;
            slots.member.moves().obeys(slots.member.lane(), generation);
            slots.member.tell();
        }
    }

    fn take_handed(&mut self) {
        let Some(slots) = &self.slots else { return };
        let lane = slots.member.lane();
        if !slots.member.moves().waits_for(lane) {
            return;
        }
        for key in slots.member.moves().take(lane) {
            self.doubts.doubt(Db::default(), &key, self.taken);
        }
        self.doubts_changed = true;
    }

    fn hand_over(&mut self) {
        let Some(slots) = &mut self.slots else { return };
        let moves = slots.member.moves();
        let is_current = slots.older_to.is_none() && moves.generation() == slots.generation;
        if !is_current || !slots.left_out.is_some_and(|looks| moves.has_looked_since(looks)) {
            return;
        }
        drop(moves);
        // Whoever goes on from the record must not miss what is handed over.
        let stored = self.target.keeper().stored().and_then(|stored| Record::decode(stored).ok());
        let is_given_up = stored.is_some_and(|record| record.phase == Phase::Copying);
        let (mut gone, mut stays) = (Vec::new(), false);
        {
            let mut moves = slots.member.moves();
            for (db, key) in self.doubts.all() {
                let slot = slot_of(key);
                if slots.own.has(slot) {
                    continue;
                }
                match moves.owner(slot) {
                    // Nothing of it has ever come from here: its master's own words are all there is to it.
                    Some(_) if !slots.had.has(slot) => gone.push((db, key.to_vec())),
                    Some(owner) if is_given_up => {
                        moves.hand(owner, key);
                        gone.push((db, key.to_vec()));
                    }
                    _ => stays = true,
                }
            }
        }
        if !stays {
            slots.left_out = None;
        }
        if !gone.is_empty() {
            gone.iter().for_each(|(db, key)| self.doubts.dismiss(*db, key));
            self.doubts_changed = true;
            slots.member.tell();
        }
    }

    /// Whether the lane may end that has done all that it can do by itself: not before the others of its cluster, and what moves meanwhile is
    /// followed.
    pub(super) fn may_end(&mut self, is_drained: bool) -> bool {
        let Some(slots) = &mut self.slots else { return is_drained };
        let lane = slots.member.lane();
        let (generation, had_ended) = {
            let moves = slots.member.moves();
            (moves.generation(), moves.has_ended())
        };
        if slots.goal != generation && self.goal != Goal::None && !had_ended {
            // It was asked for when other slots were here.
            slots.goal = generation;
            self.goal = Goal::None;
            self.seek_goal();
            return false;
        }
        let may_end = slots.member.moves().set_drained(lane, is_drained);
        if may_end && !had_ended {
            slots.member.tell();
        }
        may_end
    }

    /// The end is asked for: by whose slots.
    pub(super) fn goal_is_sought(&mut self) {
        if let Some(slots) = &mut self.slots {
            slots.goal = slots.member.moves().generation();
        }
    }
}
