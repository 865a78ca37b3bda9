//! The records of a job, by which it is known how far that has come.

use std::time::Duration;

use redis::{Pipeline, Value, from_redis_value};
use tokio::time::sleep;
use tracing::info;

use crate::key::Db;
use crate::net::{Control, ControlError, Net, Reply};
use crate::offset::Offset;
use crate::plan::{Plan, ServerPlace};
use crate::position::{self, Phase, Record};

/// How often a job's record is looked at that is waited for.
const POLL: Duration = Duration::from_millis(2);

/// How long a job is waited for: one whose source is idle says where it stands once in a minute.
const LAG: Duration = Duration::from_secs(90);

/// For how long that is nothing to be told.
const SHORT: Duration = Duration::from_secs(2);

/// Asks the target for them.
pub(super) struct Records<'a> {
    net: &'a Net,
    plan: &'a Plan,
    place: &'a ServerPlace,
    control: Option<Control>,
}

/// A record, and what the target held at that very moment: of each key its `DUMP`, and what tells when it dies.
pub(super) struct Moment {
    pub(super) record: Record,
    pub(super) held: Vec<(Option<Vec<u8>>, i64)>,
}

impl<'a> Records<'a> {
    pub(super) const fn new(net: &'a Net, plan: &'a Plan, place: &'a ServerPlace) -> Self {
        Self { net, plan, place, control: None }
    }

    /// Waits until the record of this source is at that place. `false`: it does not come.
    pub(super) async fn comes(&mut self, source: &str, at: Offset) -> Result<bool, ControlError> {
        let clock = self.net.clock();
        let begun = clock.now();
        let mut told = false;
        loop {
            let stored = self.record(source).await?;
            let record = stored.and_then(|stored| Record::decode(&stored).ok());
            match record {
                Some(record) if record.clean.offset >= at.get() => return Ok(true),
                Some(record) if record.phase == Phase::Following => {
                    let waited = clock.now().saturating_sub(begun);
                    if waited >= LAG {
                        return Ok(false);
                    }
                    if waited >= SHORT && !std::mem::replace(&mut told, true) {
                        let behind = at.get().saturating_sub(record.clean.offset);
                        info!(
                            behind,
                            "the job is waited for, which has not brought this many bytes yet"
                        );
                    }
                }
                // It has ended.
                _ => return Ok(false),
            }
            sleep(POLL).await;
        }
    }

    async fn record(&mut self, source: &str) -> Result<Option<Vec<u8>>, ControlError> {
        let name = position::key(&self.plan.job.name, source);
        self.control().await?.ask("GET", &[&name]).await
    }

    /// The record of this source, and what stands under these names in the target when it says that. `None` if there is none, or it is asked again.
    ///
    /// # Errors
    /// If the target cannot be asked.
    pub(super) async fn moment(
        &mut self,
        source: &str,
        (db, names): (Db, &[&[u8]]),
        deadline: &'static str,
    ) -> Result<Option<Moment>, ControlError> {
        let (name, home) =
            (position::key(&self.plan.job.name, source), self.plan.record_db().index());
        let mut pipe = Pipeline::new();
        pipe.cmd("MULTI").cmd("SELECT").arg(db.index());
        for name in names {
            pipe.cmd(deadline).arg(*name).cmd("DUMP").arg(*name);
        }
        pipe.cmd("SELECT").arg(home).cmd("GET").arg(name).cmd("EXEC");
        let replies = self.control().await?.each("EXEC", pipe).await?;
        let refused = |text| ControlError::answered("EXEC", text);
        let all = replies.into_iter().last().unwrap_or_else(|| Err("no answer".to_owned()));
        let mut told = match all.map_err(refused)? {
            Value::Array(told) => told.into_iter().skip(1),
            _ => return Ok(None),
        };
        let mut next = || -> Reply { Ok(told.next().unwrap_or(Value::Nil)) };
        let mut held = Vec::with_capacity(names.len());
        for _ in names {
            let dies = next().and_then(read::<i64>).map_err(refused)?;
            held.push((next().and_then(read::<Option<Vec<u8>>>).map_err(refused)?, dies));
        }
        next().map_err(refused)?;
        let stored = next().and_then(read::<Option<Vec<u8>>>).map_err(refused)?;
        let record = stored.and_then(|stored| Record::decode(&stored).ok());
        Ok(record.map(|record| Moment { record, held }))
    }

    async fn control(&mut self) -> Result<&mut Control, ControlError> {
        let none = match &mut self.control {
            Some(control) => return Ok(control),
            none => none,
        };
        let mut control = Control::open(self.net, self.place).await?;
        let db = self.plan.record_db().to_string();
        control.ask::<()>("SELECT", &[db.as_bytes()]).await?;
        Ok(none.insert(control))
    }
}

fn read<T: redis::FromRedisValue>(value: Value) -> Result<T, String> {
    from_redis_value(value).map_err(|error| error.to_string())
}
