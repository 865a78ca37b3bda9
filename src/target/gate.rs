//! The live stream's side of a link: one transaction at a time, none over a hole, each with the position record that says what it did.
//!
//! ```text
//! wire     WATCH GET TIME MULTI SELECT cmd … │        │ SELECT SET EXEC │ WATCH GET TIME MULTI … │      │ SELECT …
//! replies                                    │ QUEUED…│                 │                        │ *n…  │ QUEUED…
//! ```
//!
//! The commands of the next transaction travel while the last `EXEC` is unanswered, but its own `EXEC` is sent only when every command
//! was answered `QUEUED`, every element of the last one was judged, *and* the target held byte for byte the record that the last one
//! wrote. So at most one `EXEC` is unanswered, nothing commits behind a transaction that was refused (on 2.8 to 9.1 a plain pipeline of
//! `MULTI … EXEC` loses the refused one and runs the next), and a process from whom another has taken over commits nothing more.

mod reply;

use std::collections::VecDeque;

use crate::change::{Batch, Failure};
use crate::key::Db;
use crate::position::Record;
use crate::resp::{Reply, ReplyReader, RespError, command};

use super::judge::Judge;
use super::keeper::{Keeper, spot};
use super::outbox::Outbox;
use super::{Confirmed, Halt};
use reply::{Next, Preamble};

/// How much goes into one transaction. It grows while there is more to send than fits, so that a long round trip
/// carries more.
const SMALLEST: Share = Share { bytes: 1 << 20, commands: 4096 };
const LARGEST: Share = Share { bytes: 4 << 20, commands: 16_384 };

#[derive(Clone, Copy, Debug)]
struct Share {
    bytes: usize,
    commands: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) outbox: Outbox,
    pub(super) keeper: Keeper,
    replies: ReplyReader,
    judge: Judge,
    /// Not sent yet, in stream order.
    held: VecDeque<Batch>,
    /// `EXEC` was sent and is not wholly answered.
    closing: Option<Closing>,
    /// `WATCH`, `MULTI` and the commands were sent.
    open: Option<Open>,
    /// `DISCARD` was sent.
    discarding: bool,
    /// Why the open transaction was given up; it is sent again when [`go_on`](Gate::go_on) says so.
    refusal: Option<String>,
    /// Nothing is sent before [`revise`](Gate::revise).
    halted: bool,
    /// What is held is not whole: only the record tells how to go on.
    is_torn: bool,
    /// What is to be done with the record when nothing else is.
    wish: Option<Wish>,
    /// The record's database is selected, outside of transactions.
    at_home: bool,
    /// The highest database that this link was seen to have.
    highest: Option<Db>,
    share: Share,
}

/// What is done with the record beside data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is written.
    Save,
    /// It is deleted: the job is done.
    Forget,
}

/// A transaction whose commands are being queued.
#[derive(Debug)]
struct Open {
    batches: Vec<Batch>,
    wish: Option<Wish>,
    /// What the next reply answers.
    next: Next,
    /// The source's transaction is not at its end: more commands are to come.
    more: bool,
    /// Commands of it are no longer held, so that it cannot be sent again.
    torn: bool,
    /// How many replies to commands and their `SELECT`s are to come.
    left: usize,
    /// How many there are in all.
    commands: usize,
    /// The first reply that was not as it should be.
    refused: Option<Refused>,
    /// The first command that was answered as if there were no transaction, by its number, and how.
    ran: Option<(usize, String)>,
    /// The target's record was another one, or the time for deadlines is up.
    halt: Option<Halt>,
    /// The transaction before it, whose `EXEC` was refused while this one was being queued: it goes first.
    behind: Vec<Batch>,
}

/// Why a transaction is not closed.
#[derive(Debug)]
struct Refused {
    by: RefusedBy,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusedBy {
    /// What stands before the commands, by its name.
    Preamble(&'static str),
    /// The command with this number, the `SELECT` before each batch counted.
    Command(usize),
    /// The transaction before it went wrong.
    Other,
}

/// A transaction whose `EXEC` was sent.
#[derive(Debug)]
struct Closing {
    batches: Vec<Batch>,
    torn: bool,
    /// It was run without its record.
    unrecorded: bool,
    wish: Option<Wish>,
    /// What it writes.
    record: Record,
    bytes: Vec<u8>,
    /// `QUEUED` to come for what stands before the `EXEC`, and whether one was not.
    queued: usize,
    /// Elements of the reply to come; `None` before its header.
    left: Option<usize>,
    /// The batch whose command is answered next, and how many of its commands have been; `None` before the `SELECT` that stands before
    /// it.
    batch: usize,
    judged: Option<usize>,
    /// The commands that did something else than on the source: batch, number, and what is known of them.
    failed: Vec<(usize, usize, Failure)>,
}

impl Gate {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self {
            outbox: Outbox::default(),
            keeper,
            replies: ReplyReader::default(),
            judge: Judge::default(),
            held: VecDeque::new(),
            closing: None,
            open: None,
            discarding: false,
            refusal: None,
            halted: false,
            is_torn: false,
            wish: None,
            at_home: false,
            highest: None,
            share: SMALLEST,
        }
    }

    /// Takes a batch, whose commands stay in one transaction.
    pub(super) fn push(&mut self, batch: Batch) {
        self.held.push_back(batch);
    }

    /// Wishes something for the record, behind everything that was pushed.
    pub(super) fn wish(&mut self, wish: Wish) {
        self.wish = Some(wish);
    }

    /// Somebody else has used the link: another database may be selected.
    pub(super) fn away(&mut self) {
        self.at_home = false;
    }

    /// Sends what may be sent. To be called when all that has come to be pushed was pushed.
    pub(super) fn advance(&mut self, confirmed: &mut Confirmed) {
        if self.open.is_some() {
            self.feed();
            return;
        }
        if self.discarding || self.refusal.is_some() || self.halted {
            return;
        }
        // What holds no command needs no transaction, once everything before it is confirmed.
        while self.closing.is_none() && self.held.front().is_some_and(Batch::is_empty) {
            if let Some(batch) = self.held.pop_front() {
                confirmed.add(&batch, batch.size(), 0);
                self.keeper.confirm_batch(&batch);
            }
        }
        let mut batches = Vec::new();
        let (mut bytes, mut commands) = (0, 0);
        while let Some(next) = self.held.front() {
            let fits = bytes + next.size() <= self.share.bytes
                && commands + next.expects().len() <= self.share.commands;
            if !fits && !batches.is_empty() {
                self.share.grow();
                break;
            }
            bytes += next.size();
            commands += next.expects().len();
            let continues = next.continues;
            batches.extend(self.held.pop_front());
            if continues {
                break;
            }
        }
        if batches.iter().all(Batch::is_empty) {
            // Nothing but offsets: they wait for the transaction that is closing.
            for batch in batches.into_iter().rev() {
                self.held.push_front(batch);
            }
            if self.closing.is_none()
                && self.held.is_empty()
                && let Some(wish) = self.wish.take()
            {
                self.begin(Vec::new(), Some(wish));
            }
            return;
        }
        self.begin(batches, None);
    }

    /// Sends a transaction but for its end.
    fn begin(&mut self, batches: Vec<Batch>, wish: Option<Wish>) {
        let highest = batches.iter().map(Batch::highest_db).max();
        let home = self.keeper.db();
        let mut preamble = Preamble::default();
        if !std::mem::replace(&mut self.at_home, true) {
            self.select(home);
            preamble.selects += 1;
        }
        // A SELECT that fails inside of a transaction would let what is behind it run elsewhere: so it is tried before.
        let known = self.highest.unwrap_or(home);
        if let Some(highest) = highest.filter(|highest| *highest > known) {
            self.select(highest);
            self.select(home);
            preamble.selects += 2;
            self.highest = Some(highest);
        }
        let key = self.keeper.key().to_vec();
        self.send(&[b"WATCH", &key]);
        self.send(&[b"GET", &key]);
        self.send(&[b"TIME"]);
        self.send(&[b"MULTI"]);
        let mut sent = 0;
        for batch in &batches {
            self.select(batch.opens_in());
            self.outbox.put_shared(batch.bytes());
            sent += 1 + batch.expects().len();
        }
        let more = batches.last().is_some_and(|batch| batch.continues);
        self.open = Some(Open {
            batches,
            more,
            torn: false,
            wish,
            next: Next::Preamble(preamble),
            left: sent,
            commands: sent,
            refused: None,
            ran: None,
            halt: None,
            behind: Vec::new(),
        });
    }

    /// Sends more of a transaction that is larger than what is held at once.
    fn feed(&mut self) {
        while let Some(open) = &mut self.open
            && open.more
            && open.refused.is_none()
            && open.halt.is_none()
            && let Some(batch) = self.held.pop_front()
        {
            let sent = 1 + batch.expects().len();
            open.more = batch.continues;
            open.left += sent;
            open.commands += sent;
            open.batches.push(batch.clone());
            self.select(batch.opens_in());
            self.outbox.put_shared(batch.bytes());
        }
    }

    /// Whether everything that was pushed has been confirmed, and every wish fulfilled.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
            && self.open.is_none()
            && self.closing.is_none()
            && !self.discarding
            && self.wish.is_none()
    }

    /// How many answers to what was sent are to come. A transaction that waits for more of itself may owe none.
    pub(super) fn unanswered(&self) -> usize {
        let open = self
            .open
            .as_ref()
            .map_or(0, |open| open.left + usize::from(matches!(open.next, Next::Preamble(_))));
        // EXEC is answered as a whole, behind what stands before it.
        let closing = self.closing.as_ref().map_or(0, |closing| 1 + closing.queued);
        open + closing + usize::from(self.discarding)
    }

    /// Why the target refuses the next transaction for now; it has been discarded.
    pub(super) fn refused(&self) -> Option<&str> {
        if self.discarding || self.open.is_some() { None } else { self.refusal.as_deref() }
    }

    /// Lets the discarded transaction be sent again.
    pub(super) fn go_on(&mut self) {
        self.refusal = None;
    }

    /// Changes what is not confirmed, in stream order, and goes on behind a halt. A transaction that is being queued is not closed but sent
    /// again, changed.
    pub(super) fn revise(&mut self, mut change: impl FnMut(&Batch) -> Batch) {
        self.halted = false;
        if let Some(open) = &mut self.open {
            let text = String::new();
            open.refused.get_or_insert(Refused { by: RefusedBy::Other, text });
            let batches = open.behind.iter_mut().chain(&mut open.batches);
            batches.for_each(|batch| *batch = change(batch));
        }
        self.held.iter_mut().for_each(|batch| *batch = change(batch));
    }

    /// A new link takes the place of a lost one, and the target holds this record. What was only queued is sent again, and so is a
    /// transaction whose `EXEC` was not run. Gives the batches of one that was run and whose replies nobody has seen; `Err` if the record is
    /// neither the last that was confirmed nor the one behind it.
    pub(super) fn relink(
        &mut self,
        stored: Option<&[u8]>,
        confirmed: &mut Confirmed,
    ) -> Result<Vec<Batch>, ()> {
        self.outbox.clear();
        self.replies = ReplyReader::default();
        self.judge = Judge::default();
        (self.discarding, self.at_home) = (false, false);
        (self.refusal, self.highest) = (None, None);
        self.put_back();
        if self.is_torn {
            return Err(());
        }
        let Some(closing) = self.closing.take() else {
            return if stored == self.keeper.stored() { Ok(Vec::new()) } else { Err(()) };
        };
        if stored == self.keeper.stored() && !closing.torn {
            for batch in closing.batches.into_iter().rev() {
                self.held.push_front(batch);
            }
            self.wish = self.wish.or(closing.wish);
            return Ok(Vec::new());
        }
        let done = match closing.wish {
            Some(Wish::Forget) => stored.is_none(),
            _ => stored == Some(&closing.bytes),
        };
        if !done || closing.torn {
            return Err(());
        }
        let batches = self.done(closing, confirmed);
        // What their commands did nobody has seen.
        self.halted = !batches.is_empty();
        Ok(batches)
    }

    /// A transaction was run: all it stands for is confirmed.
    fn done(&mut self, closing: Closing, confirmed: &mut Confirmed) -> Vec<Batch> {
        let Closing { batches, wish, record, bytes, failed, unrecorded, .. } = closing;
        for (at, batch) in batches.iter().enumerate() {
            let failures = failed.iter().filter(|(of, ..)| *of == at).count();
            confirmed.add(batch, batch.size(), failures as u64);
            self.keeper.confirm_batch(batch);
        }
        match wish {
            Some(Wish::Forget) => self.keeper.forgot(),
            Some(Wish::Save) | None if unrecorded => {}
            Some(Wish::Save) | None => self.keeper.wrote(record, bytes),
        }
        batches
    }

    /// The open transaction's batches are held again, before the others.
    fn put_back(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.is_torn |= open.torn;
        self.wish = self.wish.or(open.wish);
        for batch in open.behind.into_iter().chain(open.batches).rev() {
            self.held.push_front(batch);
        }
    }

    /// All commands of the open transaction were queued: it is closed, with its record.
    fn close(&mut self, open: Open) {
        let applied = open.batches.iter().rev().find_map(spot);
        let record = self.keeper.next(applied);
        let bytes = record.encode();
        self.select(self.keeper.db());
        let (key, scripts) = (self.keeper.key().to_vec(), self.keeper.scripts_key().to_vec());
        match open.wish {
            Some(Wish::Forget) => self.send(&[b"DEL", &key, &scripts]),
            Some(Wish::Save) | None => self.send(&[b"SET", &key, &bytes]),
        }
        self.send(&[b"EXEC"]);
        self.closing = Some(Closing {
            batches: open.batches,
            torn: open.torn,
            unrecorded: false,
            wish: open.wish,
            record,
            bytes,
            queued: 2,
            left: None,
            batch: 0,
            judged: None,
            failed: Vec::new(),
        });
    }

    fn select(&mut self, db: Db) {
        let mut digits = itoa::Buffer::new();
        self.send(&[b"SELECT", digits.format(db.index()).as_bytes()]);
    }

    fn send(&mut self, args: &[&[u8]]) {
        let mut line = Vec::with_capacity(32);
        command(&mut line, args);
        self.outbox.put(&line);
    }
}

impl Share {
    fn grow(&mut self) {
        self.bytes = (self.bytes * 2).min(LARGEST.bytes);
        self.commands = (self.commands * 2).min(LARGEST.commands);
    }
}

#[cfg(test)]
mod tests;
