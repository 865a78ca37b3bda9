//! What the target answers, read in the order in which it was asked.

use super::{
    Batch, Closing, Confirmed, Failure, Gate, Halt, Open, Refused, RefusedBy, Reply, RespError,
    Wish,
};
use crate::command::judge::Expect;
use crate::key::Db;
use crate::target::Surprise;
use crate::target::judge::{Verdict, passes, text};

/// What the next reply to an open transaction answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// What stands before its commands.
    Preamble(Preamble),
    /// One of its commands.
    Command,
}

/// What stands before the commands of a transaction: how much of it has been answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preamble {
    /// `SELECT`s to come.
    pub(super) selects: usize,
    /// Then `WATCH`, `GET`, the three parts of `TIME`, `MULTI`.
    step: u8,
    /// The seconds that `TIME` told.
    seconds: i64,
}

impl Gate {
    /// Reads replies from the front of `input`; gives how many bytes were used.
    pub(in crate::target) fn take(
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

    /// Counts the `+QUEUED` at the front of `input`, which nearly all replies are.
    #[inline]
    fn plain_queued(&mut self, input: &[u8]) -> usize {
        const QUEUED: &[u8] = b"+QUEUED\r\n";
        let Some(open) = self.open.as_mut().filter(|open| open.next == Next::Command) else {
            return 0;
        };
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
        match open.next {
            Next::Preamble(preamble) => open.take_preamble(preamble, reply, &self.keeper),
            Next::Command => open.take_command(reply),
        }
        if open.next != Next::Command || open.left > 0 {
            return;
        }
        if open.more && open.refused.is_none() && open.halt.is_none() {
            // What is queued need not be held: the transaction is larger than that.
            open.torn = true;
            for batch in &mut open.batches {
                confirmed.bytes += batch.size();
                *batch = batch.without_commands();
            }
            self.feed();
            return;
        }
        let Some(mut open) = self.open.take() else { return };
        if open.refused.is_none() && open.halt.is_none() {
            self.close(open);
            self.advance(confirmed);
            return;
        }
        if open.torn {
            open.halt = Some(Halt::Torn);
        }
        self.send(&[b"DISCARD"]);
        self.discarding = true;
        self.give_up(open, confirmed);
    }

    /// An open transaction is not closed: its batches go back, and why is told.
    fn give_up(&mut self, mut open: Open, confirmed: &mut Confirmed) {
        let halt = open.halt.take();
        match (&open.refused, halt) {
            (_, Some(halt)) => {
                self.halted = true;
                confirmed.halt = Some(halt);
            }
            (Some(refused), None) => {
                let failure = match (&open.ran, refused.by) {
                    (Some((index, text)), _) => {
                        Some(failure_at(&open.batches, *index, text.clone()))
                    }
                    (None, RefusedBy::Other) => None,
                    _ if passes_or_aborted(refused.text.as_bytes()) => None,
                    (None, RefusedBy::Command(index)) => {
                        let failure = failure_at(&open.batches, index, refused.text.clone());
                        // What nobody knows or may run never will: without it the others can go on.
                        match place_of(&open.batches, index) {
                            Some((batch, index)) if open.behind.is_empty() => {
                                self.halted = true;
                                confirmed.halt = Some(Halt::Rejected { batch, index, failure });
                                None
                            }
                            _ => Some(failure),
                        }
                    }
                    (None, RefusedBy::Preamble(name)) => {
                        (self.at_home, self.highest) = (false, None);
                        Some(failure_of(name, refused.text.clone()))
                    }
                };
                confirmed.surprises.extend(failure.map(Surprise::Failed));
                if !self.halted && refused.by != RefusedBy::Other {
                    self.refusal = Some(refused.text.clone());
                }
            }
            (None, None) => {}
        }
        self.open = Some(open);
        self.put_back();
    }

    fn take_executed(&mut self, reply: Reply<'_>, confirmed: &mut Confirmed) {
        let Some(closing) = &mut self.closing else { return };
        if closing.queued > 0 {
            // One that was not queued aborts the whole, and that is told by the answer to EXEC.
            closing.queued -= 1;
            return;
        }
        let Some(left) = &mut closing.left else {
            let commands = closing.batches.iter().map(|batch| 1 + batch.expects().len());
            let expected: usize = 2 + commands.sum::<usize>();
            match reply {
                Reply::Array(len) if len == expected => closing.left = Some(len),
                // Up to 3.x a target that has become a replica meanwhile refuses the record and runs the rest.
                Reply::Array(len) if len + 1 == expected && !closing.batches.is_empty() => {
                    (closing.left, closing.unrecorded) = (Some(len), true);
                }
                // Somebody else has written the record since it was read.
                Reply::Nil => self.give_up_closing(None, Some(Halt::Fenced(None)), confirmed),
                // Nothing of it was done: the target could not run it now.
                Reply::Error(error) if passes_or_aborted(error) => {
                    self.give_up_closing(Some(text(reply)), None, confirmed);
                }
                other => {
                    let text = text(other);
                    let failure = failure_of("EXEC", text.clone());
                    confirmed.surprises.push(Surprise::Failed(failure));
                    self.give_up_closing(Some(text), None, confirmed);
                }
            }
            return;
        };
        let batch = closing.batches.get(closing.batch);
        let expect = match (batch, closing.judged) {
            // The record's SELECT and SET come last.
            (None, _) if closing.wish == Some(Wish::Forget) => Expect::Any,
            (None, _) | (_, None) => Expect::Status,
            (Some(batch), Some(index)) => {
                batch.expects().get(index).copied().unwrap_or(Expect::Any)
            }
        };
        let Some(verdict) = self.judge.take(expect, reply) else { return };
        *left = left.saturating_sub(1);
        match verdict {
            _ if closing.unrecorded => {}
            Verdict::AsExpected => {}
            Verdict::NoEffect => confirmed.without_effect += 1,
            Verdict::Passing(text) | Verdict::Diverged(text) => match (batch, closing.judged) {
                (Some(batch), Some(index)) => {
                    closing.failed.push((closing.batch, index, batch.failure(index, text)));
                }
                (Some(batch), None) => {
                    confirmed.surprises.push(Surprise::Failed(batch.failed_select(text)));
                }
                (None, _) => {
                    confirmed.surprises.push(Surprise::Failed(failure_of("SET", text)));
                }
            },
        }
        if let Some(batch) = batch {
            let judged = closing.judged.map_or(0, |index| index + 1);
            closing.judged = (judged < batch.expects().len()).then_some(judged);
            closing.batch += usize::from(closing.judged.is_none());
        }
        if *left > 0 {
            return;
        }
        let Some(mut closing) = self.closing.take() else { return };
        let failed = std::mem::take(&mut closing.failed);
        let (torn, unrecorded) = (closing.torn, closing.unrecorded);
        let batches = self.done(Closing { failed: failed.clone(), ..closing }, confirmed);
        if unrecorded {
            (self.halted, confirmed.halt) = (true, Some(Halt::Unrecorded(batches)));
            self.spoil_open();
        } else if torn && !failed.is_empty() {
            // Which keys it was nobody can say any more; who goes on from the record reads them all.
            (self.halted, confirmed.halt) = (true, Some(Halt::Torn));
        } else if !failed.is_empty() {
            // What is behind it is not closed before the keys in doubt are known.
            self.halted = true;
            confirmed.halt = Some(Halt::Surprised { batches, failed });
            self.spoil_open();
        }
        self.advance(confirmed);
    }

    /// What is being queued is not closed, but sent again when it was revised.
    fn spoil_open(&mut self) {
        if let Some(open) = &mut self.open {
            let text = String::new();
            open.refused.get_or_insert(Refused { by: RefusedBy::Other, text });
        }
    }

    /// The transaction whose `EXEC` was refused goes back, and with it the one behind it, which must not run first.
    fn give_up_closing(
        &mut self,
        refusal: Option<String>,
        halt: Option<Halt>,
        confirmed: &mut Confirmed,
    ) {
        let Some(closing) = self.closing.take() else { return };
        self.wish = self.wish.or(closing.wish);
        let halt = if closing.torn { Some(Halt::Torn) } else { halt };
        match &mut self.open {
            // Its commands are being queued: their replies are counted before it is discarded.
            Some(open) => {
                let text = refusal.clone().unwrap_or_default();
                open.refused.get_or_insert(Refused { by: RefusedBy::Other, text });
                open.behind = closing.batches;
            }
            None => {
                // A busy server up to 6.0 refuses EXEC and leaves the transaction open. Where none is, this answers an error.
                if refusal.as_ref().is_some_and(|text| !text.starts_with("EXECABORT")) {
                    self.send(&[b"DISCARD"]);
                    self.discarding = true;
                }
                for batch in closing.batches.into_iter().rev() {
                    self.held.push_front(batch);
                }
            }
        }
        if halt.is_some() {
            self.halted = true;
            confirmed.halt = halt;
        }
        self.refusal = refusal;
    }
}

impl Open {
    fn take_preamble(&mut self, at: Preamble, reply: Reply<'_>, keeper: &super::Keeper) {
        let mut at = at;
        let number = |bytes| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        let (name, is_well) = match (at.selects, at.step, reply) {
            (1.., _, reply) => ("SELECT", reply == Reply::Simple(b"OK")),
            (_, 0, reply) => ("WATCH", reply == Reply::Simple(b"OK")),
            (_, 1, Reply::Bulk(bytes)) => {
                if keeper.stored() != Some(bytes) {
                    self.halt = Some(Halt::Fenced(Some(bytes.to_vec())));
                }
                ("GET", true)
            }
            (_, 1, Reply::Nil) => {
                if keeper.stored().is_some() {
                    self.halt = Some(Halt::Fenced(None));
                }
                ("GET", true)
            }
            (_, 1, _) => ("GET", false),
            (_, 2, reply) => ("TIME", reply == Reply::Array(2)),
            (_, 3, Reply::Bulk(bytes)) => {
                at.seconds = number(bytes).unwrap_or(i64::MAX);
                ("TIME", true)
            }
            (_, 4, Reply::Bulk(bytes)) => {
                let millis = number(bytes).unwrap_or(0) / 1000;
                let now = at.seconds.saturating_mul(1000).saturating_add(millis);
                if keeper.record().is_late(now) && self.halt.is_none() {
                    self.halt = Some(Halt::Late);
                }
                ("TIME", true)
            }
            (_, 3 | 4, _) => ("TIME", false),
            (_, _, reply) => ("MULTI", reply == Reply::Simple(b"OK")),
        };
        if !is_well {
            let (by, text) = (RefusedBy::Preamble(name), text(reply));
            self.refused.get_or_insert(Refused { by, text });
        }
        match (at.selects, at.step) {
            (1.., _) => at.selects -= 1,
            // An error is one reply, where TIME has three.
            (_, 2) if !is_well => at.step = 5,
            (_, step) => at.step = step + 1,
        }
        self.next = if at.step > 5 { Next::Command } else { Next::Preamble(at) };
    }

    fn take_command(&mut self, reply: Reply<'_>) {
        let index = self.commands.saturating_sub(self.left);
        self.left = self.left.saturating_sub(1);
        if reply == Reply::Simple(b"QUEUED") {
            return;
        }
        let text = text(reply);
        if !matches!(reply, Reply::Error(_)) {
            self.ran.get_or_insert_with(|| (index, text.clone()));
        }
        self.refused.get_or_insert(Refused { by: RefusedBy::Command(index), text });
    }
}

/// Which command has this number in a transaction, the `SELECT` before each batch counted: its batch and its number there; `None` for a
/// `SELECT`.
fn place_of(batches: &[Batch], index: usize) -> Option<(usize, usize)> {
    let mut left = index;
    for (nth, batch) in batches.iter().enumerate() {
        let in_batch = left.checked_sub(1)?;
        if in_batch < batch.expects().len() {
            return Some((nth, in_batch));
        }
        left = in_batch - batch.expects().len();
    }
    None
}

/// What is known of that command.
fn failure_at(batches: &[Batch], index: usize, text: String) -> Failure {
    match place_of(batches, index) {
        Some((nth, index)) => batches.get(nth).map_or_else(
            || failure_of("", text.clone()),
            |batch| batch.failure(index, text.clone()),
        ),
        None => failure_of("SELECT", text),
    }
}

/// Whether an error says that nothing was done, and may be later.
fn passes_or_aborted(error: &[u8]) -> bool {
    passes(error) || error.starts_with(b"EXECABORT")
}

/// The failure of a command that belongs to no batch.
fn failure_of(name: &str, reply: String) -> Failure {
    Failure { db: Db::default(), name: name.into(), key: None, value: None, reply }
}
