//! A lane from its first attempt to its last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::key::Db;
use crate::net::{Control, Net, info_field};
use crate::plan::{Place, Plan, ServerPlace};
use crate::progress::Counters;
use crate::target::TargetError;

use super::super::cluster::Member;
use super::super::loss::Loss;
use super::super::order::{Orders, ends};
use super::super::remedy::{Remedy, pause, remedy};
use super::super::report::{Ended, SourceReport};
use super::super::rivals::Rival;
use super::job::Job;
use super::{Known, Lane, LaneError, Stage, chain};

/// Runs one lane to its end, in as many attempts as that takes. Each begins with the record in the target; what the one before it
/// remembers counts for nothing.
pub(in super::super) async fn run(
    plan: &Plan,
    known: Known<'_>,
    counters: &Arc<Counters>,
    orders: Orders,
) -> SourceReport {
    let index = known.index;
    let (Some(source), Place::Server(to)) = (plan.sources.get(index), &plan.target) else {
        return SourceReport::new(String::new());
    };
    let mut report = SourceReport::new(source.name.clone());
    let clock = known.net.clock();
    let begun = clock.now();
    let mut job =
        Job::new(plan, source, known.is_known, known.facts.is_sole(plan), clock.unix_ms());
    job.had_not_begun = known.facts.not_begun.contains(&source.name);
    let mut tally = Tally::default();
    let _turn = known.turn.guard();
    let _member = known.member.as_ref().map(Member::guard);
    let rival = known.rival.clone();
    if rival.as_ref().is_some_and(Rival::is_lost) {
        job.copy_anew = Some("which source has brought which key is not known any more");
    }
    let (mut tries, mut lost, mut copied_at) = (0, None::<Loss>, None::<Duration>);
    let ended = loop {
        let mut stop = orders.clone();
        let open = Lane::open(plan, &known, to, counters, orders.clone(), &mut job, &mut tally);
        let opened = tokio::select! {
            biased;
            opened = open => opened,
            ended = ends(&mut stop) => break Ok(ended),
        };
        let ended = match opened {
            Ok(mut lane) => {
                let ended = lane.play().await;
                copied_at = lane.copied_at.or(copied_at);
                report.method = lane.method;
                report.copied = lane.stage >= Stage::Settling;
                report.held_back = lane.held_back();
                report.conflicts = lane.conflicts(ended.as_ref().err());
                lane.leave(&mut job);
                ended
            }
            Err(error) => Err(error),
        };
        let Err(mut error) = ended else { break ended };
        if orders.borrow().is_behind_go() {
            // Whatever would mend it must not touch what is another's by now.
            warn!(
                error = chain(&error),
                "the source is not watched any more; the target has been handed over"
            );
            counters.set_trouble(chain(&error));
            job.withdraw(known.net, to).await;
            break Ok(Ended::Done);
        }
        if let (LaneError::CopyCut(why), Place::Server(from)) = (&error, &source.place)
            && is_unsaved(known.net, from).await
        {
            error = LaneError::Unsaved(why.clone());
        }
        counters.set_trouble(chain(&error));
        let wait = match job.again(&error) {
            true => {
                tries = if tally.progressed { 0 } else { tries + 1 };
                pause(tries)
            }
            // A target that was there before is waited for.
            false if tally.begun && remedy(&error) == Remedy::ReconnectTarget => {
                if tally.progressed {
                    lost = None;
                }
                let now = clock.now();
                match lost
                    .get_or_insert_with(|| Loss::new(now))
                    .again("target", &error, plan.until, now)
                {
                    Ok(wait) => wait,
                    Err(error) => break Err(error),
                }
            }
            false => break Err(error),
        };
        tally.progressed = false;
        tokio::select! {
            biased;
            ended = ends(&mut stop) => break Ok(ended),
            () = sleep(wait) => {}
        }
    };
    known.rereads.close(index);
    if let Some(rival) = rival {
        if matches!(ended, Err(LaneError::Target(TargetError::Overtaken))) {
            rival.loses();
        }
        rival.ends();
    }
    if !tally.begun && job.is_first {
        // Nothing was written, so there is nothing to go on with.
        job.withdraw(known.net, to).await;
        super::super::job::has_not_begun(plan, &source.name);
    }
    report.copy_seconds = copied_at.map(|at| at.saturating_sub(begun).as_secs_f64());
    report.stream_seconds = copied_at.map(|at| clock.now().saturating_sub(at).as_secs_f64());
    report.unproven = tally.unproven;
    report.skipped = tally.skipped;
    report.outage_seconds =
        tally.outage_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()).as_secs_f64());
    report.conflict_names = tally.conflict_names;
    report.ended = match ended {
        Ok(Ended::Done) if tally.unproven > 0 => Ended::Differences,
        Ok(ended) => ended,
        Err(error) => {
            let advice = match remedy(&error) {
                Remedy::Ask(advice) => match (&error, rivals(plan, index)) {
                    (LaneError::Conflict(_), Some(rivals)) => format!(
                        "{rivals} holds this key too, or somebody wrote it to the target; leave it out of one of them with --exclude"
                    ),
                    _ => advice.to_owned(),
                },
                Remedy::ReconnectSource => {
                    "see that the source can be reached, and start again".to_owned()
                }
                Remedy::ReconnectTarget => {
                    "see that the target can be reached, and start again".to_owned()
                }
                Remedy::GoOn | Remedy::CopyAgain => {
                    "see why it happens again and again; the same command goes on with this job"
                        .to_owned()
                }
            };
            report.failure = Some((chain(&error), advice));
            let damage = matches!(&error, LaneError::Source(error) if error.is_damage());
            if tally.begun || damage { Ended::Failed } else { Ended::Refused }
        }
    };
    counters.enter(report.ended.into());
    report.numbers = counters.snapshot();
    report
}

/// What is told of a lane at its end, over all its attempts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whether so much has happened that the target may not be as it was.
    pub(super) begun: bool,
    /// Whether the attempt has brought the job on.
    pub(super) progressed: bool,
    /// Things that could not be proven to be as they are on the source, or are known not to be.
    pub(super) unproven: u64,
    /// Commands of the stream that are no data and were not played, by name.
    pub(super) skipped: BTreeMap<String, u64>,
    /// The first keys that the target held before.
    pub(super) conflict_names: Vec<(Db, Vec<u8>)>,
    /// By how much later every deadline is because the source's outage lasted so long, once they have been set.
    pub(super) outage_ms: Option<i64>,
    /// How a spool that was full was told of, and how often the link was cut over one since it was last gone on with.
    pub(super) outgrown: Option<String>,
    pub(super) cuts: u32,
}

/// The sources that may have brought a key which this one meets in the target.
fn rivals(plan: &Plan, index: usize) -> Option<String> {
    let others = plan.sources.iter().enumerate().filter(|(other, _)| *other != index);
    let names: Vec<&str> = others.map(|(_, source)| source.name.as_str()).collect();
    match names.as_slice() {
        [] => None,
        [other] => Some((*other).to_owned()),
        others => Some(format!("one of the {} other sources", others.len())),
    }
}

/// Whether a master says that it could not save its data set.
pub(in super::super) async fn is_unsaved(net: &Net, place: &ServerPlace) -> bool {
    let asked = async { Control::open(net, place).await?.info("persistence").await };
    let info = asked.await.unwrap_or_default();
    info_field(&info, "rdb_last_bgsave_status") == Some("err")
}
