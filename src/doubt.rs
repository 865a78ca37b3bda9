//! Keys in doubt: those that the target may hold in another state than the lane's position stands for.
//!
//! A command of the stream was rejected or did something else than on the source, or nobody can say which keys it touches: then its
//! keys are *in doubt*. No command on such a key is played; what the source holds under it is read, together with the offset at which
//! that held, and written. From then on the key is *fenced*: it is ahead of the stream, so commands up to that offset are left out.
//!
//! ```text
//!          doubt                 fetched at F              passed F
//!  clean ────────▶ in doubt(at) ────────────▶ fenced(F) ────────────▶ clean
//!                     ▲  at <= F only            │
//!                     └──────────────────────────┘ a flush, a swap
//! ```
//!
//! A command that touches a key which is in doubt, or ahead, is left out whole, and each clean key that it writes falls in doubt with
//! it: what it would have written is made of what is not there. To play it on the clean keys, or to leave it out and think no more of
//! them, is wrong; `tests.rs` shows both by a model.

use std::collections::HashMap;

use crate::command::keys::Reach;
use crate::command::{Class, Command};
use crate::key::Db;
use crate::offset::Offset;

/// A command that changes data, with the database in use.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is known of it.
    pub command: &'static Command,
    /// Its name and arguments.
    pub args: &'a [&'a [u8]],
    /// The database in which it runs.
    pub db: Db,
    /// Where it ends in the stream.
    pub end: Offset,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is played.
    Play,
    /// It is left out: keys that it touches are in doubt or ahead of it.
    LeaveOut,
    /// It is left out, and what it would have done to keys that it does not name cannot be told.
    Unproven,
}

/// The keys of one source that are not clean.
#[derive(Debug, Default)]
pub struct Doubts {
    keys: HashMap<(Db, Vec<u8>), State, foldhash::fast::RandomState>,
    /// How many of them are in doubt.
    open: usize,
    /// The bytes of their names.
    names: usize,
    /// No fence lies before this.
    first_fence: Option<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// What the source holds counts only if it was read here or later: up to here commands were left out.
    InDoubt(Offset),
    /// The target holds what the source held here.
    Fenced(Offset),
}

impl Doubts {
    /// What a key takes besides its name, about.
    pub const BYTES_A_KEY: usize = 80;

    /// Whether all keys are clean.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys are not clean, those ahead of the stream counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that are not clean: a target that confirms no more than it has by now may hold another state of each.
    pub fn all(&self) -> impl Iterator<Item = (Db, &[u8])> {
        self.keys.keys().map(|(db, key)| (*db, key.as_slice()))
    }

    /// How many bytes they take, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.names + self.keys.len() * Self::BYTES_A_KEY
    }

    /// A key is none of ours.
    pub fn dismiss(&mut self, db: Db, key: &[u8]) {
        if let Some(state) = self.keys.remove(&(db, key.to_vec())) {
            self.names -= key.len();
            self.open -= usize::from(matches!(state, State::InDoubt(_)));
        }
    }

    /// Whether a key is ahead of the stream: what was read of it has been, or will be, written.
    #[must_use]
    pub fn is_fenced(&self, db: Db, key: &[u8]) -> bool {
        matches!(self.keys.get(&(db, key.to_vec())), Some(State::Fenced(_)))
    }

    /// Whether what the source held under a key at this offset is not to be written: the key is in doubt, and what it holds is read later;
    /// or that has been read already, there or behind it.
    #[must_use]
    pub fn outdates(&self, db: Db, key: &[u8], at: Offset) -> bool {
        match self.keys.get(&(db, key.to_vec())) {
            Some(State::InDoubt(_)) => true,
            Some(State::Fenced(fence)) => *fence >= at,
            None => false,
        }
    }

    /// Whether a key is in doubt: what the source holds of it has not been read yet.
    #[must_use]
    pub fn is_open(&self, db: Db, key: &[u8]) -> bool {
        matches!(self.keys.get(&(db, key.to_vec())), Some(State::InDoubt(_)))
    }

    /// How many keys are in doubt, those ahead of the stream not counted.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// The keys in doubt.
    pub fn iter(&self) -> impl Iterator<Item = (Db, &[u8])> {
        let in_doubt = self.keys.iter().filter(|(_, state)| matches!(state, State::InDoubt(_)));
        in_doubt.map(|((db, key), _)| (*db, key.as_slice()))
    }

    /// A key is in doubt: what the target holds of it is not what the stream has made of it up to this offset.
    pub fn doubt(&mut self, db: Db, key: &[u8], at: Offset) {
        match self.keys.get_mut(&(db, key.to_vec())) {
            Some(State::InDoubt(least)) => *least = at.max(*least),
            Some(state) => {
                *state = State::InDoubt(at);
                self.open += 1;
            }
            None => {
                self.keys.insert((db, key.to_vec()), State::InDoubt(at));
                self.names += key.len();
                self.open += 1;
            }
        }
    }

    /// All keys of a command are in doubt: it did not do what it did on the source, be it for a key that it only reads.
    pub fn failed(&mut self, call: &Call<'_>) {
        call.each_key(|db, key, _| self.doubt(db, key, call.end));
    }

    /// A command was run, and nobody has seen how. What of it is still wrong is found out by reading.
    pub fn unseen(&mut self, call: &Call<'_>) {
        self.follow_swap(call);
        self.failed(call);
    }

    /// A command was played behind one that [failed](Self::failed): what it wrote may be made of what that one left. A flush is no end of
    /// doubts here, since some may be of commands behind it.
    pub fn ran(&mut self, call: &Call<'_>) {
        self.follow_swap(call);
        if self.touches(call) || self.reads_all(call) {
            call.each_key(|db, key, writes| {
                if writes {
                    self.doubt(db, key, call.end);
                }
            });
        }
    }

    /// Before the next command of the stream is judged: those of its keys that several sources hold are in doubt, unless what was read of them is
    /// ahead of it. Says whether there are any.
    ///
    /// # Errors
    /// Those of `is_contested`.
    pub fn suspect<E>(
        &mut self,
        call: &Call<'_>,
        mut is_contested: impl FnMut(Db, &[u8]) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut found = Ok(false);
        call.each_key(|db, key, _| match (&mut found, is_contested(db, key)) {
            (Err(_), _) | (Ok(_), Ok(false)) => {}
            (Ok(any), Ok(true)) => {
                *any = true;
                if !self.is_ahead(db, key, call.end) {
                    self.doubt(db, key, call.end);
                }
            }
            (found, Err(error)) => *found = Err(error),
        });
        found
    }

    /// Judges the next command of the stream. What is left out is noted.
    pub fn judge(&mut self, call: &Call<'_>) -> Verdict {
        if self.keys.is_empty() {
            return Verdict::Play;
        }
        match call.command.class(call.args) {
            Class::Flush => {
                let all = call.command.name() == "flushall";
                self.flush((!all).then_some(call.db), call.end);
                return Verdict::Play;
            }
            Class::SwapDb => {
                self.follow_swap(call);
                return Verdict::Play;
            }
            _ => {}
        }
        let reads_all = self.reads_all(call);
        if !reads_all && !self.touches(call) {
            return Verdict::Play;
        }
        call.each_key(|db, key, writes| {
            // A key that is ahead has in it what this command did.
            if writes && !self.is_ahead(db, key, call.end) {
                self.doubt(db, key, call.end);
            }
        });
        if reads_all { Verdict::Unproven } else { Verdict::LeaveOut }
    }

    /// Judges a command again that has been judged before and not run yet, of which no more is known than where its batch ends. What was left
    /// out of that batch is gone from it, and nobody knows on which side of a flush it stood: so a flush is no end of doubts here.
    pub fn judge_again(&mut self, call: &Call<'_>) -> Verdict {
        if call.command.class(call.args) != Class::Flush {
            return self.judge(call);
        }
        let all = call.command.name() == "flushall";
        let emptied = self.keys.keys().filter(|(db, _)| all || *db == call.db);
        for (db, key) in emptied.cloned().collect::<Vec<_>>() {
            self.doubt(db, &key, call.end);
        }
        Verdict::Play
    }

    /// What the source held under a key at this offset has been read. Says whether it is to be written: then it is, before any command behind
    /// this.
    pub fn fetched(&mut self, db: Db, key: &[u8], at: Offset) -> bool {
        let Some(state) = self.keys.get_mut(&(db, key.to_vec())) else { return false };
        let counts = matches!(*state, State::InDoubt(least) if least <= at);
        if counts {
            *state = State::Fenced(at);
            self.open -= 1;
            self.first_fence = Some(self.first_fence.map_or(at, |first| first.min(at)));
        }
        counts
    }

    /// Fences up to here are passed: the target has confirmed what was read there and all of the stream up to there.
    pub fn passed(&mut self, upto: Offset) {
        if self.first_fence.is_none_or(|first| first > upto) {
            return;
        }
        let (mut first, mut names) = (None, self.names);
        self.keys.retain(|(_, key), state| match *state {
            State::Fenced(fence) if fence <= upto => {
                names -= key.len();
                false
            }
            State::Fenced(fence) => {
                first = Some(first.map_or(fence, |first: Offset| first.min(fence)));
                true
            }
            State::InDoubt(_) => true,
        });
        (self.first_fence, self.names) = (first, names);
    }

    /// A database, or all of them, is emptied: then the target holds what the source held there. What was written ahead of the flush goes
    /// with it, and must be read anew.
    fn flush(&mut self, db: Option<Db>, end: Offset) {
        // All commands of a transaction end at one place: what is behind the flush there is not ahead of it.
        let fence = Offset::new(end.get().saturating_sub(1));
        let mut open = 0;
        let mut emptied = false;
        for ((of, _), state) in &mut self.keys {
            if db.is_none_or(|db| db == *of) {
                match *state {
                    State::Fenced(fence) if fence >= end => *state = State::InDoubt(end),
                    // What is in doubt because of a command in the same transaction stays so.
                    State::InDoubt(least) if least >= end => {}
                    State::Fenced(_) | State::InDoubt(_) => {
                        *state = State::Fenced(fence);
                        emptied = true;
                    }
                }
            }
            open += usize::from(matches!(state, State::InDoubt(_)));
        }
        self.open = open;
        if emptied {
            self.first_fence = Some(self.first_fence.map_or(fence, |first| first.min(fence)));
        }
    }

    /// If two databases change places nobody knows any more which of both a key in doubt is in.
    fn follow_swap(&mut self, call: &Call<'_>) {
        if call.command.class(call.args) != Class::SwapDb {
            return;
        }
        let Ok([Some(one), Some(other)]) = call.command.databases(call.args) else { return };
        let (one, other, end) = (one.db, other.db, call.end);
        let moved = self.keys.keys().filter(|(db, _)| *db == one || *db == other);
        let names: Vec<Vec<u8>> = moved.map(|(_, key)| key.clone()).collect();
        for key in names {
            self.doubt(one, &key, end);
            self.doubt(other, &key, end);
        }
    }

    /// Whether it touches a key that is in doubt, or ahead of it.
    fn touches(&self, call: &Call<'_>) -> bool {
        let mut touches = false;
        call.each_key(|db, key, _| touches = touches || self.outdates(db, key, call.end));
        touches
    }

    fn is_ahead(&self, db: Db, key: &[u8], end: Offset) -> bool {
        matches!(self.keys.get(&(db, key.to_vec())), Some(State::Fenced(fence)) if *fence >= end)
    }

    /// Whether it may read keys that it does not name while there are some that it must not read.
    fn reads_all(&self, call: &Call<'_>) -> bool {
        let ahead = |state: &State| match state {
            State::InDoubt(_) => true,
            State::Fenced(fence) => *fence >= call.end,
        };
        call.reach() == Reach::Undeclared && self.keys.values().any(ahead)
    }
}

impl<'a> Call<'a> {
    /// Shows each key, with its database and whether it may be another one afterwards.
    pub(crate) fn each_key(&self, mut visit: impl FnMut(Db, &'a [u8], bool)) {
        // Arguments that cannot be this command's are the target's to refuse.
        let _ = self.command.for_each_key(self.args, |used| {
            if let Some(key) = self.args.get(used.position) {
                visit(used.db.unwrap_or(self.db), key, used.access.writes());
            }
        });
    }

    fn reach(&self) -> Reach {
        self.command.for_each_key(self.args, |_| {}).unwrap_or(Reach::Declared)
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
