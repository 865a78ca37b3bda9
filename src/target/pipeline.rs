//! The copy's side of a link: commands deep in the pipe, each reply tied to its command.
//!
//! A full copy writes each key once and in a form that may be written again, so nothing has to be held back: what was
//! refused for a reason that passes (`-OOM`, `-LOADING`) is sent again once all else has been answered, and after a lost link so is
//! all that was not answered. All commands of a batch on one key are sent again together: where several write a value, the first
//! of them makes it anew. So are the commands of a piece of a value, which stand on each other; a piece is sent again whole, and with
//! it those behind it that were sent, since all name the same temporary key.

use std::collections::{HashSet, VecDeque};

use crate::change::{Batch, Failure};
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
    /// Sent and not wholly answered, in the order in which they were sent.
    sent: VecDeque<Sent>,
    /// Not sent, in the order in which they were pushed: a barrier stands among them, or a refusal must be mended first.
    held: VecDeque<Held>,
    /// How many batches were pushed.
    pushed: u64,
    /// The database that this link has selected; `None` if that is not known.
    db: Option<Db>,
    /// Why nothing more is sent until all is answered.
    refusal: Option<String>,
    /// Keys of the commands that were refused, until they are sent again.
    refused: HashSet<(Db, Vec<u8>)>,
    /// A `SELECT` that was refused: what runs behind it runs in another database than it should.
    astray: Option<Failure>,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    stands: Stands,
}

/// Where a batch stands among all others, whatever is left of it to be sent.
#[derive(Clone, Copy, Debug)]
struct Stands {
    number: u64,
    /// Its bytes when it was pushed.
    bytes: usize,
    /// It was sent on an earlier link too, which may have done some of it.
    repeated: bool,
}

#[derive(Debug)]
struct Sent {
    batch: Batch,
    stands: Stands,
    /// A `SELECT` was sent before it and is unanswered.
    select: bool,
    /// How many of its commands have been answered.
    answered: usize,
    /// Commands that were refused and must be sent again.
    again: Vec<usize>,
    /// How many of its commands were surprises.
    failed: u64,
    /// Which of its commands select a database; found out when one is refused.
    selects: Option<Vec<usize>>,
}

impl Sent {
    fn unanswered(&self) -> usize {
        self.batch.expects().len().saturating_sub(self.answered) + usize::from(self.select)
    }
}

impl Pipeline {
    /// Takes a batch. It is confirmed once each of its replies is as expected.
    pub(super) fn push(&mut self, batch: Batch) {
        let stands = Stands { number: self.pushed, bytes: batch.size(), repeated: false };
        self.pushed += 1;
        self.held.push_back(Held { batch, stands });
        self.advance();
    }

    /// Whether everything that was pushed has been confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.held.is_empty()
    }

    /// How many commands were sent and are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.sent.iter().map(Sent::unanswered).sum()
    }

    /// Whether there is one.
    pub(super) fn owes_answers(&self) -> bool {
        self.sent.iter().any(|sent| sent.unanswered() > 0)
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
            if !sent.select && self.astray.is_none() {
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
            self.answered(expect, verdict, confirmed);
        }
        self.advance();
        Ok(used)
    }

    /// The next command of the oldest batch, or the `SELECT` before it, has been answered.
    fn answered(&mut self, expect: Expect, verdict: Verdict, confirmed: &mut Confirmed) {
        let Some(sent) = self.sent.front_mut() else { return };
        let before = std::mem::take(&mut sent.select);
        let index = sent.answered;
        if !before {
            sent.answered += 1;
        }
        let may_select = self.astray.is_some() || matches!(verdict, Verdict::Passing(_));
        let selects = before
            || may_select
                && sent.selects.get_or_insert_with(|| sent.batch.selects()).contains(&index);
        if selects && may_select {
            self.astray = None;
        } else if !matches!(verdict, Verdict::Passing(_))
            && let Some(failure) = self.astray.take()
        {
            confirmed.surprises.push(Surprise::Failed(failure));
        }
        let failure = |text| match before {
            true => sent.batch.failed_select(text),
            false => sent.batch.failure(index, text),
        };
        match verdict {
            Verdict::AsExpected => {}
            Verdict::NoEffect => confirmed.without_effect += 1,
            Verdict::Passing(text) => {
                if selects {
                    self.astray = Some(failure(text.clone()));
                    self.db = None;
                }
                if !before {
                    sent.again.push(index);
                }
                self.refusal.get_or_insert(text);
            }
            // Behind a refused command of its own key a reply says nothing; both are sent again, in order.
            Verdict::Diverged(text) if sent.stands.repeated && was_done(expect, &text) => {}
            Verdict::Diverged(_) if self.refusal.is_some() && !selects => sent.again.push(index),
            Verdict::Diverged(text) => {
                let failure = failure(text);
                sent.failed += 1;
                confirmed.surprises.push(if sent.stands.repeated {
                    Surprise::FailedAgain(failure)
                } else {
                    Surprise::Failed(failure)
                });
            }
        }
    }

    /// Why the target refused commands for now, once all others have been answered.
    /// [`go_on`](Self::go_on) sends them again.
    pub(super) fn refused(&self) -> Option<&str> {
        if self.sent.is_empty() { self.refusal.as_deref() } else { None }
    }

    /// Sends again what was refused.
    pub(super) fn go_on(&mut self) {
        self.refusal = None;
        self.refused.clear();
        self.advance();
    }

    /// A new link takes the place of a lost one: everything that was not confirmed is sent again.
    pub(super) fn relink(&mut self) {
        self.outbox.clear();
        self.replies = ReplyReader::default();
        self.judge = Judge::default();
        self.db = Some(Db::default());
        self.refusal = None;
        self.astray = None;
        for mut sent in std::mem::take(&mut self.sent) {
            let mut left = std::mem::take(&mut sent.again);
            left.extend(sent.answered..sent.batch.expects().len());
            sent.stands.repeated = true;
            self.hold_again(&sent.batch, &left, sent.stands);
        }
        self.refused.clear();
        self.advance();
    }

    /// The oldest batch has been answered.
    fn close_front(&mut self, confirmed: &mut Confirmed) {
        let Some(sent) = self.sent.pop_front() else { return };
        let is_behind =
            self.held.front().is_some_and(|held| held.stands.number < sent.stands.number);
        if sent.again.is_empty() && !is_behind {
            confirmed.add(&sent.batch, sent.stands.bytes, sent.failed);
        } else {
            // It is confirmed when what was refused is, and all before it: its keys, and its offset.
            self.hold_again(&sent.batch, &sent.again, sent.stands);
        }
    }

    /// Holds these commands of a batch, and those that must be sent again with them, in the batch's old place.
    fn hold_again(&mut self, batch: &Batch, indexes: &[usize], stands: Stands) {
        let again = batch.entangled(indexes, &mut self.refused);
        let whole = batch.piece.is_some() && !again.is_empty();
        let batch = if whole { batch.clone() } else { batch.only(&again) };
        let at = self.held.iter().take_while(|held| held.stands.number < stands.number).count();
        self.held.insert(at, Held { batch, stands });
    }

    /// Sends what may be sent.
    fn advance(&mut self) {
        while self.refusal.is_none() {
            let Some(next) = self.held.front() else { return };
            let behind_barrier = self.sent.back().is_some_and(|sent| sent.batch.barrier);
            if (next.batch.barrier || behind_barrier) && !self.sent.is_empty() {
                return;
            }
            let Some(Held { batch, stands }) = self.held.pop_front() else { return };
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
            let (answered, again, failed, selects) = (0, Vec::new(), 0, None);
            let sent = Sent { batch, stands, select, answered, again, failed, selects };
            self.sent.push_back(sent);
        }
    }
}

/// Whether an error says that a lost link had already done what is now sent again: the temporary key has its name, or the
/// transaction's entries are in the stream. Nothing else can have done it: both waited until all before them was confirmed.
fn was_done(expect: Expect, error: &str) -> bool {
    match expect {
        Expect::Renamed => error.contains("no such key"),
        Expect::Executed => error.contains("equal or smaller"),
        _ => false,
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

#[cfg(test)]
mod tests;
