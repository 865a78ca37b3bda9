//! Keys of the target that no source has, and of which nobody knows who has brought them: the names that an earlier run had noted are lost.
//!
//! They are looked for when every lane has ended: by then each source has been read anew, and whatever it has brought since is noted. What
//! the target held before the job, and what another job may have brought, is never removed. Nor is anything once another process has taken the
//! job over: a removal is a transaction that holds only while the records are those of a job that is done.

use tracing::{info, warn};

use crate::key::{Db, Escaped, is_own};
use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, Origin, Place, Plan, Rules, ServerPlace};
use crate::position::{self, Phase, Record};
use crate::server::{Server, Version};
use crate::target::TargetError;

use super::ending::Walk;
use super::held::Held;
use super::lane::{LaneError, chain};
use super::order::{Orders, stop_requested};
use super::report::{Ended, SourceReport};
use super::rivals::Rivals;

/// One look through the target.
struct Search<'a> {
    plan: &'a Plan,
    rivals: &'a Rivals,
    held: Option<&'a Held>,
    control: Control,
    /// The records of all sources as they stood when it began, by their keys.
    records: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is found is removed, with this command.
    remove: Option<&'static str>,
}

/// What was found, of the first source that may have brought it.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    left: u64,
    removed: u64,
}

/// Looks for such keys if all sources are done, and removes them if that was asked for.
pub(super) async fn settle(
    net: &Net,
    (plan, facts): (&Plan, &Facts),
    rivals: &Rivals,
    held: Option<&Held>,
    mut orders: Orders,
    reports: &mut [SourceReport],
) {
    let Place::Server(to) = &plan.target else { return };
    let server = facts.target.as_ref().and_then(|target| target.server);
    if !reports.iter().all(|one| matches!(one.ended, Ended::Done | Ended::Differences)) {
        return;
    }
    let mut found = vec![Found::default(); reports.len()];
    let searched = tokio::select! {
        biased;
        () = stop_requested(&mut orders) => {
            // The records say that all lanes are done: who goes on searches again.
            reports.iter_mut().for_each(|report| report.ended = Ended::Stopped);
            return;
        }
        searched = search(net, plan, (rivals, held), (to, server), &mut found) => searched,
    };
    for (report, Found { left, removed }) in reports.iter_mut().zip(&found) {
        report.unproven += left;
        report.removed_unowned = *removed;
        if *left > 0 {
            report.ended = Ended::Differences;
        }
    }
    let sum = |count: fn(&Found) -> u64| found.iter().map(count).sum::<u64>();
    let (left, removed) = (sum(|found| found.left), sum(|found| found.removed));
    info!(left, removed, "keys that no source has were looked for");
    if left > 0 {
        warn!(
            keys = left,
            "keys that no source has are left in the target: nobody knows who has brought them"
        );
    }
    if let Err(error) = searched
        && let Some(report) = reports.first_mut()
    {
        report.ended = Ended::Failed;
        let text = format!("keys that no source has could not be looked for: {}", chain(&error));
        report.failure = Some((text, "the same command goes on with the job".to_owned()));
    }
}

async fn search(
    net: &Net,
    plan: &Plan,
    (rivals, held): (&Rivals, Option<&Held>),
    (to, server): (&ServerPlace, Option<Server>),
    found: &mut [Found],
) -> Result<(), LaneError> {
    let mut control = Control::open(net, to).await?;
    let mut records = Vec::new();
    let mut is_sole = true;
    select(&mut control, plan.record_db()).await?;
    for source in &plan.sources {
        let key = position::key(&plan.job.name, &source.name);
        let stored = control.ask::<Option<Vec<u8>>>("GET", &[&key]).await?;
        let record = stored.as_deref().and_then(|stored| Record::decode(stored).ok());
        let (Some(stored), Some(record)) = (stored, record) else {
            return Err(TargetError::Overtaken.into());
        };
        if record.phase != Phase::Done {
            return Err(TargetError::Overtaken.into());
        }
        is_sole &= record.sole;
        records.push((key, stored));
    }
    let remove = match plan.remove_unowned {
        true => may_remove(net, plan, (to, server), is_sole || held.is_some()).await?,
        false => None,
    };
    let mut search = Search { plan, rivals, held, control, records, remove };
    let mut walk = Some(Walk::begin(net.clone(), to.clone()).await?);
    while let Some(next) = walk.take() {
        let (rest, page) = next.page().await?;
        search.page(page.db, page.names, found).await?;
        walk = rest;
    }
    Ok(())
}

/// The command that removes, if what nobody has brought can be nobody's: not a key that the target held before, nor another job's.
async fn may_remove(
    net: &Net,
    plan: &Plan,
    (to, server): (&ServerPlace, Option<Server>),
    knows_older: bool,
) -> Result<Option<&'static str>, ControlError> {
    if !knows_older {
        warn!(
            "nothing is removed (--remove-unowned): the target held keys before the job, and which is not known any more"
        );
        return Ok(None);
    }
    let ours = position::key(&plan.job.name, "");
    let mut walk = Some(Walk::begin(net.clone(), to.clone()).await?.matching(RECORDS));
    while let Some(next) = walk.take() {
        let (rest, page) = next.page().await?;
        if let Some(other) = page.names.iter().find(|name| !name.starts_with(&ours)) {
            warn!(
                record = %Escaped(other),
                "nothing is removed (--remove-unowned): another job writes to this target, and may have brought what no source of this one has"
            );
            return Ok(None);
        }
        walk = rest;
    }
    let unlinks = server.is_some_and(|server| server.as_redis() >= Version(4, 0, 0));
    Ok(Some(if unlinks { "UNLINK" } else { "DEL" }))
}

impl Search<'_> {
    /// A page of names in the target.
    async fn page(
        &mut self,
        db: Db,
        names: Vec<Vec<u8>>,
        found: &mut [Found],
    ) -> Result<(), LaneError> {
        let mut unowned: Vec<(usize, Vec<u8>)> = Vec::new();
        for name in names {
            let brings = |source: &crate::plan::Source| may_bring(&source.rules, db, &name);
            let Some(of) = self.plan.sources.iter().position(brings).filter(|_| !is_own(&name))
            else {
                continue;
            };
            if !self.rivals.claims(db, &name).is_empty() {
                continue;
            }
            match self.held.filter(|held| held.keys.has(db, &name)) {
                // The target's own.
                Some(held) if held.keeps => continue,
                // Some source may have held it since.
                Some(_) => found.get_mut(of).into_iter().for_each(|found| found.left += 1),
                None => unowned.push((of, name)),
            }
        }
        if let Some(remove) = self.remove
            && !unowned.is_empty()
        {
            let names: Vec<&[u8]> = unowned.iter().map(|(_, name)| name.as_slice()).collect();
            self.remove(remove, db, &names).await?;
        }
        for (of, _) in unowned {
            let Some(found) = found.get_mut(of) else { continue };
            match self.remove {
                Some(_) => found.removed += 1,
                None => found.left += 1,
            }
        }
        Ok(())
    }

    /// Removes keys, unless somebody has taken the job over since the search began.
    async fn remove(
        &mut self,
        remove: &'static str,
        db: Db,
        names: &[&[u8]],
    ) -> Result<(), LaneError> {
        select(&mut self.control, self.plan.record_db()).await?;
        let keys: Vec<&[u8]> = self.records.iter().map(|(key, _)| key.as_slice()).collect();
        self.control.ask::<()>("WATCH", &keys).await?;
        for (key, stored) in &self.records {
            if self.control.ask::<Option<Vec<u8>>>("GET", &[key]).await?.as_ref() != Some(stored) {
                return Err(TargetError::Overtaken.into());
            }
        }
        select(&mut self.control, db).await?;
        let mut removal = redis::pipe();
        removal.atomic().cmd(remove);
        names.iter().for_each(|name| {
            removal.arg(*name);
        });
        let removed: Option<(u64,)> = self.control.pipe("EXEC", &removal).await?;
        removed.map(drop).ok_or_else(|| TargetError::Overtaken.into())
    }
}

async fn select(control: &mut Control, db: Db) -> Result<(), ControlError> {
    control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await
}

/// Whether a source with these rules may have brought a key with this name.
fn may_bring(rules: &Rules, db: Db, name: &[u8]) -> bool {
    rules.writes(db)
        && match rules.names().origin(name) {
            Origin::Key(key) => rules.judge(rules.origin(db), &key).is_keep(),
            Origin::None => false,
            Origin::Unknown => true,
        }
}

/// The records of all jobs.
const RECORDS: &str = "understudy:pos:*";
