//! What a lane keeps of its copy and of its stream, so that a comparison needs no second copy of the source.

use crate::command::{Class, class_of, lookup};
use crate::doubt::Call;
use crate::key::Db;
use crate::offset::Offset;
use crate::plan::{Clocks, Plan, Rules, Source};
use crate::repl::Command;
use crate::verify::digests::{DigestsError, Writer};

use super::super::digests::{self, Digests};
use super::super::share::Share;
use super::super::verify::times_of;
use super::job::{Beginning, Job};
use super::{Lane, Stage};

/// Opens what an attempt writes. `None`: nothing is kept.
pub(super) fn open(
    plan: &Plan,
    source: &Source,
    job: &Job,
    beginning: &Beginning,
    (clocks, share): (Clocks, &Share),
) -> Option<Digests> {
    let folder = plan.job.folder.as_deref()?;
    let path = digests::place(plan, source).filter(|_| digests::are_kept(plan))?;
    let opened = || -> Result<Option<Digests>, DigestsError> {
        let seed = digests::seed(folder)?;
        let head = digests::head(plan, source, seed);
        let times = times_of(source, clocks, 0);
        let (largest, memory) = (share.largest, share.names / 16);
        let writer = Writer::new(seed, times, largest, memory, digests::most(plan));
        let ours = job.owner();
        match (beginning, &job.before) {
            (Beginning::First | Beginning::Again, _) => {
                Ok(Some(Digests::begin(path.clone(), &head, writer, ours)?))
            }
            (Beginning::Resume(from), Some(before)) if path.exists() => {
                Digests::go_on(path.clone(), &head, writer, from.offset, (before, ours))
            }
            (Beginning::Resume(_) | Beginning::Done, _) => Ok(None),
        }
    };
    opened().unwrap_or_else(|error| {
        digests::are_not_kept(&path, &error);
        None
    })
}

/// Takes from a command that is looked at and not played which keys it writes. Gives the database of the next one.
pub(super) fn look_on(
    slot: &mut Option<Box<Digests>>,
    command: &Command<'_>,
    db: Db,
    rules: Option<&Rules>,
) -> Db {
    let (Some(digests), Some(rules)) = (slot, rules) else { return db };
    let args: Vec<&[u8]> = command.args().collect();
    let Some(name) = args.first() else { return db };
    match (lookup(name), class_of(&args)) {
        (_, Class::Select) => return args.get(1).and_then(|db| Db::parse(db)).unwrap_or(db),
        (None, _) | (_, Class::Unknown) => digests.writer.ran_unknown(),
        (
            Some(known),
            Class::Data
            | Class::Eval
            | Class::Flush
            | Class::SwapDb
            | Class::Script
            | Class::Function,
        ) => digests.writer.ran(&Call { command: known, args: &args, db, end: command.end }, rules),
        (
            Some(_),
            Class::Read
            | Class::Multi
            | Class::Exec
            | Class::Ping
            | Class::Publish
            | Class::Control,
        ) => {}
    }
    db
}

impl Lane<'_> {
    /// The master is about to send its data set.
    pub(super) fn digests_begin(&mut self) {
        if self.history.is_none() {
            return Digests::drop_all(&mut self.digests);
        }
        let now_ms = self.clock.unix_ms().saturating_add(self.clocks.source);
        if let Some(digests) = &mut self.digests {
            digests.writer.begins_at(now_ms);
        }
    }

    /// Writes what was gathered, before anything of it is sent: by then it tells all up to there.
    pub(super) fn keep_digests(&mut self, taken: Offset) {
        let covers = (self.stage >= Stage::Settling).then_some(taken);
        Digests::keep(&mut self.digests, covers);
    }
}
