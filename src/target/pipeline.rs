//! The copy's side of a link: commands deep in the pipe, each reply tied to its command.
//!
//! A full copy writes each key once and in a form that may be written again, so nothing has to be held back: what was
//! refused for a reason that passes (`-OOM`, `-LOADING`) is sent again once all else has been answered, and after a lost link so is
//! all that was not answered.

use std::collections::VecDeque;

use crate::change::Batch;
use crate::command::judge::Expect;
use crate::key::Db;
use crate::resp::{ReplyReader, RespError, command};

use super::judge::{Judge, Verdict};
use super::outbox::Outbox;
use super::{Confirmed, Surprise};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    pub(super) outbox: Outbox,
    replies: ReplyReader,
    judge: Judge,
    /// Sent and not wholly answered, oldest first.
    sent: VecDeque<Sent>,
    /// Not sent yet: a barrier stands among them, or a refusal must be mended first.
    held: VecDeque<Held>,
    /// The database that this link has selected; `None` if that is not known.
    db: Option<Db>,
    /// Why nothing more is sent until all is answered.
    refusal: Option<String>,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    /// It holds only what was refused before, and goes before what was not sent yet.
    repair: bool,
    /// It was sent on an earlier link too, which may have done some of it.
    repeated: bool,
}

#[derive(Debug)]
struct Sent {
    batch: Batch,
    /// A `SELECT` was sent before it and is unanswered.
    select: bool,
    /// How many of its commands have been answered.
    answered: usize,
    /// Commands that were refused and must be sent again.
    again: Vec<usize>,
    /// It was sent on an earlier link too, which may have done some of it.
    repeated: bool,
}

impl Pipeline {
    /// Takes a batch. It is confirmed once each of its replies is as expected.
    pub(super) fn push(&mut self, batch: Batch) {
        self.held.push_back(Held { batch, repair: false, repeated: false });
        self.advance();
    }

    /// Whether everything that was pushed has been confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.held.is_empty()
    }

    /// Reads replies from the front of `input`; gives how many bytes were used. What they mean is appended to `confirmed`.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        confirmed: &mut Confirmed,
    ) -> Result<usize, RespError> {
        let mut used = 0;
        while let Some(sent) = self.sent.front_mut() {
            // Nearly every reply of a copy is this one.
            if !sent.select {
                let expects = sent.batch.expects().get(sent.answered..).unwrap_or_default();
                let rest = input.get(used..).unwrap_or_default();
                let plain = plain_oks(rest, expects);
                sent.answered += plain;
                used += plain * OK.len();
            }
            if !sent.select && sent.answered == sent.batch.expects().len() {
                self.close_front(confirmed);
                continue;
            }
            let rest = input.get(used..).unwrap_or_default();
            let Some((reply, bytes)) = self.replies.read(rest)? else { break };
            used += bytes;
            let expect = if sent.select {
                Expect::Status
            } else {
                sent.batch.expects().get(sent.answered).copied().unwrap_or(Expect::Any)
            };
            let Some(verdict) = self.judge.take(expect, reply) else { continue };
            if sent.select {
                sent.select = false;
                if let Verdict::Passing(text) | Verdict::Diverged(text) = verdict {
                    let failure = sent.batch.failed_select(text);
                    confirmed.surprises.push(Surprise::Failed(failure));
                }
                continue;
            }
            let index = sent.answered;
            sent.answered += 1;
            match verdict {
                Verdict::AsExpected => {}
                Verdict::NoEffect => confirmed.without_effect += 1,
                Verdict::Passing(text) => {
                    sent.again.push(index);
                    self.refusal.get_or_insert(text);
                }
                // Behind a refused command of its own key a reply says nothing; both are sent again, in order.
                Verdict::Diverged(_) if self.refusal.is_some() => sent.again.push(index),
                Verdict::Diverged(text) => {
                    let failure = sent.batch.failure(index, text);
                    confirmed.surprises.push(if sent.repeated {
                        Surprise::FailedAgain(failure)
                    } else {
                        Surprise::Failed(failure)
                    });
                }
            }
        }
        self.advance();
        Ok(used)
    }

    /// Why the target refused commands for now, once all others have been answered.
    /// [`go_on`](Self::go_on) sends them again.
    pub(super) fn refused(&self) -> Option<&str> {
        if self.sent.is_empty() { self.refusal.as_deref() } else { None }
    }

    /// Sends again what was refused.
    pub(super) fn go_on(&mut self) {
        self.refusal = None;
        self.advance();
    }

    /// A new link takes the place of a lost one: everything that was not confirmed is sent again.
    pub(super) fn relink(&mut self) {
        self.outbox.clear();
        self.replies = ReplyReader::default();
        self.judge = Judge::default();
        self.db = Some(Db::default());
        self.refusal = None;
        for mut sent in std::mem::take(&mut self.sent).into_iter().rev() {
            let mut left = std::mem::take(&mut sent.again);
            left.extend(sent.answered..sent.batch.expects().len());
            self.held.push_front(Held {
                batch: sent.batch.only(&left),
                repair: true,
                repeated: true,
            });
        }
        self.advance();
    }

    /// The oldest batch has been answered.
    fn close_front(&mut self, confirmed: &mut Confirmed) {
        let Some(sent) = self.sent.pop_front() else { return };
        if sent.again.is_empty() {
            confirmed.add(&sent.batch);
            return;
        }
        // What is confirmed when the refused ones are: this batch's keys, and its offset.
        let at = self.held.iter().take_while(|held| held.repair).count();
        let batch = sent.batch.only(&sent.again);
        self.held.insert(at, Held { batch, repair: true, repeated: sent.repeated });
    }

    /// Sends what may be sent.
    fn advance(&mut self) {
        while self.refusal.is_none() {
            let Some(next) = self.held.front() else { return };
            let behind_barrier = self.sent.back().is_some_and(|sent| sent.batch.barrier);
            if (next.batch.barrier || behind_barrier) && !self.sent.is_empty() {
                return;
            }
            let Some(Held { batch, repeated, .. }) = self.held.pop_front() else { return };
            let select = Some(batch.opens_in()) != self.db && !batch.is_empty();
            if select {
                let mut line = Vec::new();
                let mut digits = itoa::Buffer::new();
                command(
                    &mut line,
                    &[b"SELECT", digits.format(batch.opens_in().index()).as_bytes()],
                );
                self.outbox.put(&line);
            }
            if !batch.is_empty() {
                self.db = Some(batch.ends_in());
            }
            self.outbox.put_shared(batch.bytes());
            self.sent.push_back(Sent { batch, select, answered: 0, again: Vec::new(), repeated });
        }
    }
}

const OK: &[u8] = b"+OK\r\n";

/// How many of the replies at the front of `input` are `+OK` and were to be.
#[inline]
fn plain_oks(input: &[u8], expects: &[Expect]) -> usize {
    input
        .chunks_exact(OK.len())
        .zip(expects)
        .take_while(|(reply, expect)| *reply == OK && matches!(expect, Expect::Status))
        .count()
}
