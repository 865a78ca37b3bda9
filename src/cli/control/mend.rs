//! Keys that differ, which a job that runs is asked to read anew: by whoever compares, and in the job.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use understudy::flow::{Mending, Mends, OwnName};
use understudy::plan::Plan;

use super::super::notice;
use super::super::progress::grouped;
use super::Known;
use super::protocol::{self, Keys, LONGEST_REQUEST, Request};
use super::steer::{say_for, standing};
use super::told::{of, text};

/// How long a job may take to bring keys: it may be behind, or its source away for a moment.
const PATIENCE: Duration = Duration::from_secs(90);

/// A job that runs on this machine.
#[derive(Debug)]
pub(crate) struct Running {
    folder: PathBuf,
}

impl Running {
    /// The job of this plan, if it runs here.
    pub(crate) async fn of(plan: &Plan) -> Option<Self> {
        let status = standing(&plan.job.name).await?;
        let is_it = of(&status, "target").as_str() == Some(&plan.target.to_string());
        let folder = plan.job.folder.clone().filter(|_| is_it)?;
        Some(Self { folder })
    }
}

impl Mends for Running {
    fn mend<'a>(&'a self, source: &'a str, keys: Vec<OwnName>) -> Mending<'a> {
        Box::pin(async move {
            let request = Request::Mend(Keys::new(source, keys));
            if request.line().len() as u64 > LONGEST_REQUEST {
                return Err("its name is too long to be said to the job".to_owned());
            }
            let said = say_for(&self.folder, request, PATIENCE).await;
            let answer = said.map_err(|error| format!("the job does not answer: {error}"))?;
            if let Some(error) = of(&answer, "error").as_str() {
                return Err(error.to_owned());
            }
            let left = of(&answer, "left").as_array().into_iter().flatten();
            let read = |one: &Value| {
                let at = usize::try_from(one.get(0)?.as_u64()?).ok()?;
                Some((at, text(one.get(1)?)))
            };
            Ok(left.filter_map(read).collect())
        })
    }
}

/// Has the lane of a source read keys anew.
pub(super) async fn answer(known: &Known, keys: Keys) -> Value {
    let (source, keys) = keys.named();
    let Known { net, plan, rereads, .. } = known;
    let Some(index) = plan.sources.iter().position(|one| one.name == source) else {
        return protocol::refusal(
            &format!("{source} is no source of this job"),
            "see understudy status",
        );
    };
    let all = keys.len();
    match rereads.ask(net, plan, index, keys).await {
        Ok(left) => {
            let done = match all - left.len() {
                1 => "1 key was".to_owned(),
                done => format!("{} keys were", grouped(done as u64)),
            };
            notice::note(&format!("{source}: {done} read anew, as verify --repair asked"));
            protocol::mended(&left)
        }
        Err(why) => protocol::refusal(&why, "see understudy status, and repair again"),
    }
}
