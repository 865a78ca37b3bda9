//! Strings, where most keys are: many together by MGET. A server makes no payload of them as it does for DUMP, which compresses and sums them up: that
//! is half of what they cost it.

use std::collections::VecDeque;

use crate::key::OWN;
use crate::net::ControlError;
use crate::rdb::event::Element;
use crate::rdb::opcode::ValueType;
use crate::resp::{Reply, command};

use super::answers::unexpected;
use super::{Answer, Asked, OVERHEAD, Reader};

/// What is known of the strings of a server.
#[derive(Debug, Default)]
pub(super) struct Strings {
    /// Whether it lets itself be asked for many at once.
    pub(super) are_told: bool,
    /// Of each of the values that came last whether it was one.
    lately: u64,
    /// Keys that were none, or large ones.
    pub(super) others: VecDeque<Vec<u8>>,
}

/// So many of the last 64 values must have been strings: a question for any other key is wasted.
const MOST: u32 = 48;

/// Larger ones are worth compressing on the way.
const SMALL: usize = 1 << 10;

/// So many are asked for together.
pub(super) const TOGETHER: usize = 64;

impl Strings {
    /// Whether the keys that are asked for next are likely strings, and small, where the usual value takes so many bytes.
    pub(super) const fn are_likely(&self, usual: usize) -> bool {
        self.are_told && self.lately.count_ones() >= MOST && usual < SMALL
    }

    /// A value was of this type, or is of another than was thought.
    pub(super) fn saw(&mut self, kind: Option<ValueType>) {
        self.lately = self.lately << 1 | u64::from(kind == Some(ValueType::String));
    }
}

impl Reader<'_> {
    /// Asks whether strings are told together. A node of a cluster tells only those of one slot.
    pub(super) fn ask_whether_strings_are_told(&mut self) {
        let other_slot = [OWN, b"other"].concat();
        self.ask(&[b"MGET", OWN, &other_slot], Asked::Together);
    }

    pub(super) fn ask_strings(&mut self, names: Vec<Vec<u8>>) {
        let mut args = vec![b"MGET".as_slice()];
        args.extend(names.iter().map(Vec::as_slice));
        command(&mut self.out, &args);
        self.asked.push_back(Asked::Strings(names.into()));
    }

    /// A string begins that is too large to be taken whole, and is asked for by DUMP: it is passed over, from behind its head on.
    pub(super) fn pass_large(&mut self, (len, head): (u64, usize)) -> usize {
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        self.usual = (self.usual * 15).saturating_add(bytes) / 16;
        self.answer = Answer::Passes(len.saturating_add(2));
        head
    }

    /// The next of those that were asked for together has come.
    pub(super) fn string(&mut self, reply: Option<Reply<'_>>) -> Result<(), ControlError> {
        let Some(Asked::Strings(names)) = self.asked.front_mut() else {
            return Err(unexpected("MGET"));
        };
        let Some(name) = names.pop_front() else { return Err(unexpected("MGET")) };
        let is_last = names.is_empty();
        match reply {
            Some(Reply::Bulk(bytes)) => {
                self.usual = (self.usual * 15 + bytes.len() + OVERHEAD) / 16;
                let times = self.times();
                let digester = &mut self.task.digester;
                digester.begin(ValueType::String);
                let len = bytes.len() as u64;
                digester.add(&Element::Text { offset: 0, len, bytes }, &times);
                let content = digester.end();
                self.key(&name, Ok(content));
            }
            // Whoever asks for it again asks for its deadline too.
            Some(Reply::Nil) | None => {
                self.deadlines.pop_front();
                self.keys_asked -= 1;
                self.strings.saw(None);
                self.strings.others.push_back(name);
            }
            Some(_) => return Err(unexpected("MGET")),
        }
        self.answer = Answer::Strings;
        if is_last { self.next() } else { Ok(()) }
    }
}
