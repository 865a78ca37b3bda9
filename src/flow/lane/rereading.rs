//! Keys that somebody outside wants to be read anew. They are in doubt from here on, and what the source holds is brought as for any other.

use crate::doubt::Doubts;

use super::super::rereads::{Reread, Rereads};
use super::end::End;
use super::{Lane, Stage};

/// What a lane is asked for.
pub(super) struct Rereading {
    rereads: Rereads,
    source: usize,
    /// Keys that are yet to be brought.
    open: Vec<Reread>,
}

impl Rereading {
    pub(super) const fn new(rereads: Rereads, source: usize) -> Self {
        Self { rereads, source, open: Vec::new() }
    }

    /// Returns once something new is asked for. Nothing is lost if the future is dropped.
    pub(super) async fn came(&self) {
        self.rereads.came(self.source).await;
    }
}

impl Lane<'_> {
    /// Takes what is asked for, and answers what has been brought.
    pub(super) fn advance_rereads(&mut self) {
        // In the midst of a transaction nobody can say yet which of its commands come behind what is read.
        if self.stream.is_whole() {
            for asked in self.rereading.rereads.take(self.rereading.source) {
                match self.why_not(&asked) {
                    Some(why) => asked.answer(Err(why.to_owned())),
                    None => {
                        for (db, key) in &asked.keys {
                            self.doubts.doubt(*db, key, self.taken);
                        }
                        self.doubts_changed = true;
                        self.rereading.open.push(asked);
                    }
                }
            }
        }
        // What was read has been confirmed.
        if self.fetched == 0 && !self.rereading.open.is_empty() {
            let doubts = &self.doubts;
            let is_open =
                |asked: &Reread| asked.keys.iter().any(|(db, key)| doubts.is_open(*db, key));
            let asked = std::mem::take(&mut self.rereading.open);
            let (open, brought): (_, Vec<Reread>) = asked.into_iter().partition(is_open);
            self.rereading.open = open;
            brought.into_iter().for_each(|asked| asked.answer(Ok(())));
        }
    }

    /// Why keys are not read anew now.
    fn why_not(&self, asked: &Reread) -> Option<&'static str> {
        let names: usize = asked.keys.iter().map(|(_, key)| key.len() + Doubts::BYTES_A_KEY).sum();
        match () {
            () if !self.can_fetch() => Some(
                "its master has no offsets, so nobody can tell where in its stream what is read belongs",
            ),
            () if self.settles => Some("a cutover is under way"),
            () if self.is_paused => Some("the job is paused (understudy resume)"),
            () if self.stopping.is_some() || self.is_finishing || !matches!(self.end, End::No) => {
                Some("the job is ending")
            }
            () if self.stage != Stage::Following => Some("its copy is not whole yet"),
            () if self.doubts.memory() + names > self.share.names / 2 => {
                Some("more keys are in doubt already than --memory has room for")
            }
            () if !asked.keys.iter().all(|(_, key)| self.has_slot_of(key)) => {
                Some("the slot of a key has moved to another node")
            }
            () => None,
        }
    }
}
