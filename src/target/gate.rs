//! The live stream's side of a link: one transaction at a time, and none over a hole.
//!
//! ```text
//! wire     MULTI SELECT cmd cmd … │        │ EXEC │ MULTI SELECT cmd … │      │ EXEC …
//! replies                         │ QUEUED…│      │                    │ *n…  │ QUEUED…
//! ```
//!
//! The commands of the next transaction travel while the last `EXEC` is unanswered, but its own `EXEC` is sent only when every command
//! was answered `QUEUED` *and* every element of the last one was judged. So at most one `EXEC` is unanswered, and
//! nothing commits behind a transaction that was refused: on 2.8 to 9.1 a plain pipeline of `MULTI … EXEC` loses the refused one and runs
//! the next.

use std::collections::VecDeque;

use crate::change::{Batch, Failure};
use crate::command::judge::Expect;
use crate::key::Db;
use crate::resp::{Reply, ReplyReader, RespError, command};

use super::judge::{Judge, Verdict};
use super::outbox::Outbox;
use super::{Confirmed, Surprise};

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
    replies: ReplyReader,
    judge: Judge,
    /// Not sent yet, in stream order.
    held: VecDeque<Batch>,
    /// `EXEC` was sent and is not wholly answered.
    closing: Option<Closing>,
    /// `MULTI` and the commands were sent.
    open: Option<Open>,
    /// `DISCARD` was sent.
    discarding: bool,
    /// Why the open transaction was given up; it is sent again when [`go_on`](Gate::go_on) says so.
    refusal: Option<String>,
    share: Share,
}

/// A transaction whose commands are being queued.
#[derive(Debug)]
struct Open {
    batches: Vec<Batch>,
    /// Replies to come: to `MULTI`, and `QUEUED` for each `SELECT` and command.
    left: usize,
    /// The first reply that was not as it should be, and the number of its command; `None` for `MULTI`.
    refused: Option<(Option<usize>, String)>,
    /// The first command that was answered as if there were no transaction, by its number, and how.
    ran: Option<(usize, String)>,
    /// How many commands were sent, the `SELECT`s before the batches included.
    commands: usize,
    /// The transaction before it, whose `EXEC` was refused while this one was being queued: it goes first.
    behind: Vec<Batch>,
}

/// A transaction whose `EXEC` was sent.
#[derive(Debug)]
struct Closing {
    batches: VecDeque<Batch>,
    /// Where the `EXEC` ends among the bytes to be written.
    exec_end: u64,
    /// Elements of the reply to come; `None` before its header.
    left: Option<usize>,
    /// How many commands of the first batch have been judged; `None` before the `SELECT` that stands before it.
    judged: Option<usize>,
    /// How many of them were surprises.
    failed: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            outbox: Outbox::default(),
            replies: ReplyReader::default(),
            judge: Judge::default(),
            held: VecDeque::new(),
            closing: None,
            open: None,
            discarding: false,
            refusal: None,
            share: SMALLEST,
        }
    }
}

impl Gate {
    /// Takes a batch, whose commands stay in one transaction.
    pub(super) fn push(&mut self, batch: Batch) {
        self.held.push_back(batch);
    }

    /// Sends what may be sent. To be called when all that has come to be pushed was pushed.
    pub(super) fn advance(&mut self, confirmed: &mut Confirmed) {
        if self.open.is_some() || self.discarding || self.refusal.is_some() {
            return;
        }
        // What holds no command needs no transaction, once everything before it is confirmed.
        while self.closing.is_none() && self.held.front().is_some_and(Batch::is_empty) {
            if let Some(batch) = self.held.pop_front() {
                confirmed.add(&batch, batch.size(), 0);
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
            batches.extend(self.held.pop_front());
        }
        if batches.iter().all(Batch::is_empty) {
            // Nothing but offsets: they wait for the transaction that is closing.
            for batch in batches.into_iter().rev() {
                self.held.push_front(batch);
            }
            return;
        }
        command_line(&mut self.outbox, &[b"MULTI"]);
        let mut sent = 0;
        for batch in &batches {
            let mut digits = itoa::Buffer::new();
            command_line(
                &mut self.outbox,
                &[b"SELECT", digits.format(batch.opens_in().index()).as_bytes()],
            );
            self.outbox.put_shared(batch.bytes());
            sent += 1 + batch.expects().len();
        }
        self.open = Some(Open {
            batches,
            left: 1 + sent,
            refused: None,
            ran: None,
            commands: sent,
            behind: Vec::new(),
        });
    }

    /// Whether everything that was pushed has been confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.open.is_none() && self.closing.is_none() && !self.discarding
    }

    /// Reads replies from the front of `input`; gives how many bytes were used.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        confirmed: &mut Confirmed,
    ) -> Result<usize, RespError> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            if self.closing.is_none() {
                used += self.plain_queued(rest);
            }
            let rest = input.get(used..).unwrap_or_default();
            let Some((reply, bytes)) = self.replies.read(rest)? else { break };
            used += bytes;
            if self.closing.is_some() {
                self.take_executed(reply, confirmed);
            } else if self.open.is_some() {
                self.take_queued(reply, confirmed);
            } else if self.discarding {
                self.discarding = false;
            }
        }
        Ok(used)
    }

    /// Why the target refuses the next transaction for now; it has been discarded.
    pub(super) fn refused(&self) -> Option<&str> {
        if self.discarding || self.open.is_some() { None } else { self.refusal.as_deref() }
    }

    /// Lets the discarded transaction be sent again.
    pub(super) fn go_on(&mut self) {
        self.refusal = None;
    }

    /// Whether an `EXEC` was written and is not wholly answered, so that no one could tell what it did if the link were lost now.
    pub(super) fn is_undecided(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| self.outbox.has_written(closing.exec_end))
    }

    /// A new link takes the place of a lost one: what was only queued is sent again, and so is a transaction whose `EXEC` never left
    /// us whole. Not to be called while [undecided](Self::is_undecided).
    pub(super) fn relink(&mut self) {
        self.outbox.clear();
        self.replies = ReplyReader::default();
        self.judge = Judge::default();
        self.discarding = false;
        self.refusal = None;
        self.put_back();
        for batch in self.closing.take().into_iter().flat_map(|closing| closing.batches).rev() {
            self.held.push_front(batch);
        }
    }

    /// Counts the `+QUEUED` at the front of `input`, which nearly all replies are.
    #[inline]
    fn plain_queued(&mut self, input: &[u8]) -> usize {
        const QUEUED: &[u8] = b"+QUEUED\r\n";
        let Some(open) = &mut self.open else { return 0 };
        if open.left > open.commands {
            return 0; // the reply to MULTI comes first
        }
        // The last one is left to `take_queued`, which knows what follows it.
        let most = open.left.saturating_sub(1);
        let count = input
            .chunks_exact(QUEUED.len())
            .take(most)
            .take_while(|reply| *reply == QUEUED)
            .count();
        open.left -= count;
        count * QUEUED.len()
    }

    fn take_queued(&mut self, reply: Reply<'_>, confirmed: &mut Confirmed) {
        let Some(open) = &mut self.open else { return };
        let index = open.commands.checked_sub(open.left);
        open.left = open.left.saturating_sub(1);
        let expected =
            if index.is_none() { Reply::Simple(b"OK") } else { Reply::Simple(b"QUEUED") };
        if reply != expected {
            let text = super::judge::text(reply);
            if let Some(index) = index
                && !matches!(reply, Reply::Error(_))
            {
                open.ran.get_or_insert_with(|| (index, text.clone()));
            }
            open.refused.get_or_insert((index, text));
        }
        if open.left > 0 {
            return;
        }
        let Some(open) = self.open.take() else { return };
        match &open.refused {
            None => {
                command_line(&mut self.outbox, &[b"EXEC"]);
                self.closing = Some(Closing {
                    batches: open.batches.into(),
                    exec_end: self.outbox.end(),
                    left: None,
                    judged: None,
                    failed: 0,
                });
                self.advance(confirmed);
            }
            Some((index, text)) => {
                command_line(&mut self.outbox, &[b"DISCARD"]);
                self.discarding = true;
                let failure = match (&open.ran, index) {
                    (Some((index, text)), _) => {
                        Some(failure_at(&open.batches, *index, text.clone()))
                    }
                    _ if passes_or_aborted(text.as_bytes()) => None,
                    (None, Some(index)) => Some(failure_at(&open.batches, *index, text.clone())),
                    (None, None) => Some(failure_of("MULTI", text.clone())),
                };
                confirmed.surprises.extend(failure.map(Surprise::Failed));
                self.refusal = Some(text.clone());
                self.open = Some(open);
                self.put_back();
            }
        }
    }

    fn take_executed(&mut self, reply: Reply<'_>, confirmed: &mut Confirmed) {
        let Some(closing) = &mut self.closing else { return };
        let Some(left) = &mut closing.left else {
            let expected: usize =
                closing.batches.iter().map(|batch| 1 + batch.expects().len()).sum();
            match reply {
                Reply::Array(len) if len == expected => closing.left = Some(len),
                // Nothing of it was done: the target could not run it now.
                Reply::Error(text) if passes_or_aborted(text) => {
                    let text = super::judge::text(reply);
                    self.give_up_closing(text);
                }
                other => {
                    let text = super::judge::text(other);
                    let failure = failure_of("EXEC", text.clone());
                    confirmed.surprises.push(Surprise::Failed(failure));
                    self.give_up_closing(text);
                }
            }
            return;
        };
        let Some(batch) = closing.batches.front() else { return };
        let expect = match closing.judged {
            None => Expect::Status,
            Some(index) => batch.expects().get(index).copied().unwrap_or(Expect::Any),
        };
        let Some(verdict) = self.judge.take(expect, reply) else { return };
        *left = left.saturating_sub(1);
        match verdict {
            Verdict::AsExpected => {}
            Verdict::NoEffect => confirmed.without_effect += 1,
            Verdict::Passing(text) | Verdict::Diverged(text) => {
                let failure = match closing.judged {
                    None => batch.failed_select(text),
                    Some(index) => batch.failure(index, text),
                };
                confirmed.surprises.push(Surprise::Failed(failure));
                closing.failed += 1;
            }
        }
        let judged = closing.judged.map_or(0, |index| index + 1);
        if judged < batch.expects().len() {
            closing.judged = Some(judged);
            return;
        }
        closing.judged = None;
        if let Some(batch) = closing.batches.pop_front() {
            confirmed.add(&batch, batch.size(), std::mem::take(&mut closing.failed));
        }
        if closing.batches.is_empty() {
            self.closing = None;
            self.advance(confirmed);
        }
    }

    /// The transaction whose `EXEC` was refused goes back, and with it the one behind it, which must not run first.
    fn give_up_closing(&mut self, text: String) {
        let Some(closing) = self.closing.take() else { return };
        match &mut self.open {
            // Its commands are being queued: their replies are counted before it is discarded.
            Some(open) => {
                open.refused.get_or_insert_with(|| (None, text.clone()));
                open.behind = closing.batches.into();
            }
            None => {
                // A busy server up to 6.0 refuses EXEC and leaves the transaction open. Where none is, this answers an error.
                if !text.starts_with("EXECABORT") {
                    command_line(&mut self.outbox, &[b"DISCARD"]);
                    self.discarding = true;
                }
                for batch in closing.batches.into_iter().rev() {
                    self.held.push_front(batch);
                }
            }
        }
        self.refusal = Some(text);
    }

    /// The open transaction's batches are held again, before the others.
    fn put_back(&mut self) {
        let Some(open) = self.open.take() else { return };
        for batch in open.behind.into_iter().chain(open.batches).rev() {
            self.held.push_front(batch);
        }
    }
}

impl Share {
    fn grow(&mut self) {
        self.bytes = (self.bytes * 2).min(LARGEST.bytes);
        self.commands = (self.commands * 2).min(LARGEST.commands);
    }
}

/// What is known of command number `index` of a transaction, the `SELECT` before each batch counted.
fn failure_at(batches: &[Batch], index: usize, text: String) -> Failure {
    let mut left = index;
    for batch in batches {
        let Some(in_batch) = left.checked_sub(1) else { return batch.failed_select(text) };
        if in_batch < batch.expects().len() {
            return batch.failure(in_batch, text);
        }
        left = in_batch - batch.expects().len();
    }
    Batch::default().failed_select(text)
}

/// Whether an error says that nothing was done, and may be later.
fn passes_or_aborted(error: &[u8]) -> bool {
    super::judge::passes(error) || error.starts_with(b"EXECABORT")
}

/// The failure of a command that belongs to no batch.
fn failure_of(name: &str, reply: String) -> Failure {
    Failure { db: Db::default(), name: name.into(), key: None, value: None, reply }
}

fn command_line(outbox: &mut Outbox, args: &[&[u8]]) {
    let mut line = Vec::with_capacity(32);
    command(&mut line, args);
    outbox.put(&line);
}

#[cfg(test)]
mod tests;
