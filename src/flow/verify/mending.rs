//! Keys that differ, made what their source holds: where no job brings anything to the target, by us; else by the job, for what that has under way would come
//! on top.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, Value};

use crate::change::{Batch, Deadlines, Draft, LIVE, Scope, refill};
use crate::key::Db;
use crate::net::{Control, ControlError};
use crate::plan::{OnFlush, Rules};
use crate::server::Server;
use crate::source::{FetchError, Found};
use crate::verify::Suspect;

use super::super::lane::chain;
use super::super::rereads::OwnName;
use super::again::Again;
use super::{Doubt, Mends};

/// Writes to the target.
pub(super) struct Mender<'a> {
    control: Control,
    server: Server,
    job: Option<&'a dyn Mends>,
}

/// A job is asked for so many keys at a time, or so many bytes of their names.
const ASKED: usize = 500;
const ASKED_BYTES: usize = 128 << 10;

/// So many bytes are on their way to the target at once, or one key.
const AT_ONCE: usize = 1 << 20;

/// What to do about a key that the target does not take.
const REFUSED: &str =
    "see what the target says; a value that it cannot hold can be left out by --type or --exclude";

impl<'a> Mender<'a> {
    pub(super) const fn new(control: Control, server: Server, job: Option<&'a dyn Mends>) -> Self {
        Self { control, server, job }
    }

    /// Makes each of these keys what the first source holds that holds it, or removes it if none does. Gives those that it could not.
    ///
    /// # Errors
    /// If the target is lost.
    pub(super) async fn mend(
        &mut self,
        again: &mut Again<'_>,
        differ: &[Suspect],
    ) -> Result<Vec<(usize, Doubt)>, ControlError> {
        if let Some(job) = self.job {
            return Ok(through(job, again, differ).await);
        }
        let mut failed = Vec::new();
        let mut batches: Vec<(usize, Batch)> = Vec::new();
        for (number, suspect) in differ.iter().enumerate() {
            match self.batch(again, suspect).await {
                Ok(batch) => batches.push((number, batch)),
                Err(doubt) => failed.push((number, doubt)),
            }
            let bytes: usize = batches.iter().map(|(_, batch)| batch.size()).sum();
            if bytes >= AT_ONCE || number + 1 == differ.len() {
                failed.extend(self.write(std::mem::take(&mut batches)).await?);
            }
        }
        Ok(failed)
    }

    /// What makes a key what it shall be.
    async fn batch(&self, again: &mut Again<'_>, suspect: &Suspect) -> Result<Batch, Doubt> {
        let held = again.meant(suspect).await.map_err(|error: FetchError| Doubt {
            why: chain(&error),
            mend: "see that the source can be asked, and repair again",
        })?;
        let (source, payload, deadline) = match held {
            None => (None, None, None),
            Some((source, Found::Value { payload, deadline })) => {
                (Some(source), Some(payload), deadline)
            }
            Some((_, found)) => {
                let bytes = if let Found::TooLarge { bytes } = found { bytes } else { 0 };
                return Err(Doubt {
                    why: format!("its {bytes} bytes are too many to be held"),
                    mend: "give more --memory: eight times as much",
                });
            }
        };
        let from_file = suspect.source.is_some() && payload.is_none() && again.is_of_file(suspect);
        if from_file {
            return Err(Doubt {
                why: "it is in a file, which is read from its beginning only".to_owned(),
                mend: "sync --from FILE --on-conflict replace writes it, with --include for this key alone",
            });
        }
        let rules = source.and_then(|source| again.plan.sources.get(source));
        let rules = rules.map_or_else(Rules::default, |source| source.rules.clone());
        let clocks = again.facts.clocks(source.unwrap_or_default());
        let mut deadlines = Deadlines::new(LIVE, 0);
        deadlines.set_apart(clocks.apart());
        deadlines.set_extension(rules.ttl().extends());
        let scope = Scope::new(rules, None, OnFlush::Apply);
        let mut draft = Draft::new(Db::default());
        let name = (suspect.db, suspect.name.as_slice());
        let held = payload.as_deref().map(|payload| (payload, deadline));
        refill(name, held, (self.server, &scope), &mut deadlines, &mut draft)
            .map_err(|error| Doubt { why: chain(&error), mend: REFUSED })?;
        Ok(draft.finish())
    }

    /// Writes these, and gives those that were refused.
    async fn write(
        &mut self,
        batches: Vec<(usize, Batch)>,
    ) -> Result<Vec<(usize, Doubt)>, ControlError> {
        let mut pipe = Pipeline::new();
        let mut of = Vec::new();
        for (number, batch) in &batches {
            let mut add = |args: &[&[u8]]| {
                let mut command = Cmd::new();
                command.arg(args);
                pipe.add_command(command);
                of.push(*number);
            };
            // Nobody sees it half done.
            add(&[b"SELECT", batch.opens_in().to_string().as_bytes()]);
            add(&[b"MULTI"]);
            batch.visit(|_, _, args| add(args));
            add(&[b"EXEC"]);
        }
        let replies = self.control.each("EXEC", pipe).await?;
        let mut failed: Vec<(usize, Doubt)> = Vec::new();
        for (reply, number) in replies.into_iter().zip(of) {
            let why = match reply {
                Err(why) => Some(why),
                Ok(Value::Array(results)) => results.into_iter().find_map(refusal),
                Ok(_) => None,
            };
            if let Some(why) = why.filter(|_| failed.last().is_none_or(|(last, _)| *last != number))
            {
                failed.push((number, Doubt { why, mend: REFUSED }));
            }
        }
        Ok(failed)
    }

    /// Makes a library of functions what it shall be: this code, or none.
    ///
    /// # Errors
    /// If the target does not take it.
    pub(super) async fn library(
        &mut self,
        name: &[u8],
        code: Option<&[u8]>,
    ) -> Result<(), ControlError> {
        match code {
            Some(code) => {
                self.control.ask::<Value>("FUNCTION LOAD REPLACE", &[code]).await?;
            }
            None => self.control.ask::<()>("FUNCTION DELETE", &[name]).await?,
        }
        Ok(())
    }
}

/// Has the job bring these keys. Gives those that it has not.
async fn through(job: &dyn Mends, again: &Again<'_>, differ: &[Suspect]) -> Vec<(usize, Doubt)> {
    let doubt = |why: &str| Doubt {
        why: why.to_owned(),
        mend: "see how the job stands (understudy status), and repair again",
    };
    let (mut failed, mut of) = (Vec::new(), BTreeMap::<&str, Vec<(usize, OwnName)>>::new());
    for (number, suspect) in differ.iter().enumerate() {
        match again.origin(suspect) {
            Some((source, key)) => of.entry(source).or_default().push((number, key)),
            None => {
                failed.push((number, doubt("its name does not tell which key of a source it is")));
            }
        }
    }
    for (source, mut keys) in of {
        while !keys.is_empty() {
            let mut bytes = 0;
            let fits = keys.iter().take(ASKED).take_while(|(_, (_, key))| {
                bytes += key.len();
                bytes <= ASKED_BYTES
            });
            let rest = keys.split_off(fits.count().max(1));
            let (numbers, names): (Vec<usize>, Vec<OwnName>) =
                std::mem::replace(&mut keys, rest).into_iter().unzip();
            match job.mend(source, names).await {
                Ok(left) => failed.extend(
                    left.iter().filter_map(|(at, why)| Some((*numbers.get(*at)?, doubt(why)))),
                ),
                Err(why) => failed.extend(numbers.iter().map(|number| (*number, doubt(&why)))),
            }
        }
    }
    failed
}

/// What a command of a transaction was refused with.
fn refusal(result: Value) -> Option<String> {
    match result {
        Value::ServerError(error) => Some(error.to_string()),
        _ => None,
    }
}
