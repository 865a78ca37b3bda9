//! Which lane has which slots of a cluster, and how a slot goes from one to another while both are followed.
//!
//! ```text
//!             is moving, or is another's              all lanes have let it go, and it is at rest
//!  lane A's ───────────────────────────▶ unsettled ───────────────────────────────────────────▶ lane B's
//! ```
//!
//! A lane plays commands on keys of its own slots only. What its master says of any other is left out, and the key is in doubt: it is read
//! from the master that has the slot, by the lane of that one, which is fenced there; and that is not before a look at the whole cluster that began
//! after the last such command. So long the lane that left it out keeps it in doubt.
//!
//! An unsettled slot is nobody's. A lane that hears of it plays nothing more on it, and says so when the target has confirmed all that it had played
//! before: from then on nothing older can come behind what another lane writes. Whatever the one who loses a slot said of its keys and was
//! not played is in doubt, and so is what the one who gets it said before it had it; the rest is as the old one left it, which is what the new one
//! began with, as its first word on a key that it was given is that key's whole value.
//!
//! All is in the target when every lane has taken what its master had said, no key is in doubt, and a look that began after that shows each slot at
//! rest where it was.

use std::collections::BTreeSet;

use crate::slots::{SLOTS, SlotSet};

/// See the module. It asks nobody and knows no time.
#[derive(Debug)]
pub(super) struct Moves {
    owners: Vec<Owner>,
    lanes: Vec<LaneState>,
    /// How often owners have changed.
    generation: u64,
    /// Looks at the cluster that were begun, and the last that was whole.
    begun: u64,
    whole: u64,
    /// All lanes may end.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Lane(usize),
    /// Nobody's, since this generation.
    Unsettled(u64),
}

#[derive(Clone, Debug, Default)]
struct LaneState {
    /// It plays by the owners of this generation, and all that it played by older ones is confirmed.
    obeys: u64,
    /// Keys that others have left out, which are to be read here.
    inbox: BTreeSet<Vec<u8>>,
    /// All is done that it can do by itself: so many looks had been begun.
    drained: Option<u64>,
    /// It has ended.
    is_gone: bool,
}

/// A look at the cluster.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Who has each slot, by the lanes' numbers.
    pub(super) owners: Vec<Option<Holder>>,
    /// Slots that keys are being moved of.
    pub(super) open: SlotSet,
    /// Whether each master was heard.
    pub(super) is_whole: bool,
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The master of this lane.
    Lane(usize),
    /// A master that is no source.
    Stranger,
}

impl Moves {
    /// Lanes with these slots.
    pub(super) fn new(lanes: &[SlotSet]) -> Self {
        let owner = |slot| lanes.iter().position(|slots| slots.has(slot));
        Self {
            owners: (0..SLOTS)
                .map(|slot| owner(slot).map_or(Owner::Unsettled(0), Owner::Lane))
                .collect(),
            lanes: vec![LaneState::default(); lanes.len()],
            generation: 0,
            begun: 0,
            whole: 0,
            ended: false,
        }
    }

    /// How often owners have changed: a lane must play by those of now.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the last word on it is spoken: what moves from here on is of no concern.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The slots of a lane.
    pub(super) fn own(&self, lane: usize) -> SlotSet {
        (0..SLOTS).filter(|slot| self.owner(*slot) == Some(lane)).collect()
    }

    /// Whose a slot is; `None` while that is unsettled.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        match self.owners.get(usize::from(slot)) {
            Some(Owner::Lane(lane)) => Some(*lane),
            _ => None,
        }
    }

    /// A lane plays by the owners of this generation, and what it played by others before is confirmed.
    pub(super) fn obeys(&mut self, lane: usize, generation: u64) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.obeys = lane.obeys.max(generation);
        }
    }

    /// A look begins. Gives its number.
    pub(super) const fn begin_look(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// How many looks were begun.
    pub(super) const fn looks(&self) -> u64 {
        self.begun
    }

    /// Whether a look that began after so many others was whole.
    pub(super) const fn has_looked_since(&self, looks: u64) -> bool {
        self.whole > looks
    }

    /// What a look has shown. Gives the slots that are a stranger's and at rest, if there are any: nobody reads them.
    pub(super) fn looked(&mut self, number: u64, look: &Look) -> SlotSet {
        let mut strange = SlotSet::default();
        if self.ended {
            return strange;
        }
        let obeyed = self.lanes.iter().filter(|lane| !lane.is_gone).map(|lane| lane.obeys).min();
        let obeyed = obeyed.unwrap_or(u64::MAX);
        let next = self.generation + 1;
        let mut has_changed = false;
        for slot in 0..SLOTS {
            let Some(owner) = self.owners.get_mut(usize::from(slot)) else { continue };
            let holder = look.owners.get(usize::from(slot)).copied().flatten();
            let holder = holder.filter(|_| !look.open.has(slot));
            if holder == Some(Holder::Stranger) {
                strange.insert(slot);
            }
            let then = match (*owner, holder) {
                (Owner::Lane(lane), Some(Holder::Lane(now))) if lane == now => continue,
                (Owner::Lane(_), _) => Owner::Unsettled(next),
                (Owner::Unsettled(since), Some(Holder::Lane(now)))
                    if look.is_whole && obeyed >= since =>
                {
                    Owner::Lane(now)
                }
                (Owner::Unsettled(_), _) => continue,
            };
            (*owner, has_changed) = (then, true);
        }
        if has_changed {
            self.generation = next;
        }
        if look.is_whole {
            self.whole = self.whole.max(number);
        }
        self.end_if_all_is_done();
        strange
    }

    /// The slots that are nobody's for now.
    pub(super) fn unsettled(&self) -> SlotSet {
        (0..SLOTS).filter(|slot| self.owner(*slot).is_none()).collect()
    }

    /// A key that a lane has left out, for the lane whose it is.
    pub(super) fn hand(&mut self, to: usize, key: &[u8]) {
        if let Some(lane) = self.lanes.get_mut(to) {
            lane.inbox.insert(key.to_vec());
            lane.drained = None;
        }
    }

    /// Keys that others have handed to a lane.
    pub(super) fn take(&mut self, lane: usize) -> BTreeSet<Vec<u8>> {
        self.lanes.get_mut(lane).map(|lane| std::mem::take(&mut lane.inbox)).unwrap_or_default()
    }

    /// Whether keys wait for a lane.
    pub(super) fn waits_for(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| !lane.inbox.is_empty())
    }

    /// A lane has done all that it can do by itself, or has found more to do. Says whether it may end.
    pub(super) fn set_drained(&mut self, lane: usize, is_drained: bool) -> bool {
        let (begun, generation) = (self.begun, self.generation);
        if let Some(lane) = self.lanes.get_mut(lane) {
            let is_drained = is_drained && lane.inbox.is_empty() && lane.obeys == generation;
            lane.drained = lane.drained.or(Some(begun)).filter(|_| is_drained);
        }
        self.end_if_all_is_done();
        self.ended && is_drained
    }

    /// A lane has ended, whatever way. The others need not wait for it: it is told that the cluster is not whole in the target.
    pub(super) fn is_gone(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.is_gone = true;
        }
        self.end_if_all_is_done();
    }

    fn end_if_all_is_done(&mut self) {
        let settled = self.owners.iter().all(|owner| matches!(owner, Owner::Lane(_)));
        let rests = |lane: &LaneState| lane.drained.is_some_and(|looks| self.whole > looks);
        self.ended |= settled && self.lanes.iter().all(|lane| lane.is_gone || rests(lane));
    }
}

#[cfg(test)]
mod tests;
