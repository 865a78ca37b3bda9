//! The comparison before GO.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::flow::{self, Comparing, Ended, Verified};
use crate::net::Control;
use crate::plan::{Facts, Place};
use crate::preflight::keys_of_db;
use crate::progress::Counters;
use crate::verify::Kind;

use super::run::Switch;
use super::told::{Against, Job, Told};

/// So many keys that differ are named: verify names them all.
const DIFFERENCES: usize = 20;

impl Switch<'_> {
    /// Compares sources and target. Gives how many keys were.
    pub(super) async fn compare(
        &self,
        facts: Facts,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<u64, Against> {
        let Job { net, plan, orders, .. } = self.job;
        let facts = self.with_keys(facts).await?;
        let seed = RandomState::new().hash_one(0);
        let comparing = Comparing { sample: self.wanted.sample, seed, ..Comparing::default() };
        let counters: Vec<Arc<Counters>> =
            plan.sources.iter().map(|_| Arc::default()).chain([Arc::default()]).collect();
        let mut told_differences = 0;
        let verified = flow::verify(
            net,
            (plan, &facts),
            comparing,
            &counters,
            &orders.subscribe(),
            &mut |told| {
                if let flow::Told::Differs(difference) = told
                    && told_differences < DIFFERENCES
                {
                    told_differences += 1;
                    tell(Told::Differs(difference));
                }
            },
        )
        .await;
        // Without a fence a key may change too often to be compared. Behind one it holds still.
        judge(&verified, self.wanted.fence.is_none())?;
        let methods = verified.methods();
        tell(Told::Step(
            "compare",
            format!(
                "{} keys of the sources by {}, {} of the target by {}, no difference{}; {:.0} ms",
                verified.counts.expected,
                methods.join(", "),
                verified.counts.found,
                verified.method,
                match verified.unproven {
                    0 => String::new(),
                    keys => format!(" ({keys} changed too often to be compared)"),
                },
                verified.report.seconds * 1000.0
            ),
        ));
        Ok(verified.counts.expected)
    }

    /// The same facts, with the keys that the target holds now.
    async fn with_keys(&self, mut facts: Facts) -> Result<Facts, Against> {
        let (Place::Server(place), Some(target)) = (&self.job.plan.target, &mut facts.target)
        else {
            return Ok(facts);
        };
        let asked = async { Control::open(self.job.net, place).await?.info("keyspace").await };
        let info =
            asked.await.map_err(|error| Against::of(format!("target: {}", flow::chain(&error))))?;
        target.keys = info.lines().filter_map(keys_of_db).collect();
        Ok(facts)
    }
}

/// Whether a comparison allows to switch.
fn judge(verified: &Verified, may_be_unproven: bool) -> Result<(), Against> {
    if let Some((failure, advice)) = &verified.failure {
        return Err(Against(vec![format!("not all was compared: {failure}"), advice.clone()]));
    }
    for source in &verified.report.sources {
        if let Some((failure, advice)) = &source.failure {
            return Err(Against(vec![
                format!("{}: it was not compared: {failure}", source.name),
                advice.clone(),
            ]));
        }
    }
    match verified.ended() {
        Ended::Done => Ok(()),
        Ended::Differences
            if may_be_unproven && verified.differences.iter().all(|count| *count == 0) =>
        {
            Ok(())
        }
        Ended::Differences => {
            let kinds = Kind::ALL.iter().zip(verified.differences).filter(|(_, count)| *count > 0);
            let mut kinds: Vec<String> =
                kinds.map(|(kind, count)| format!("{count} {kind}")).collect();
            if verified.unproven > 0 {
                kinds.push(format!("{} that nobody can tell", verified.unproven));
            }
            Err(Against::of(format!("source and target differ: {}", kinds.join(", "))))
        }
        Ended::Stopped | Ended::Refused | Ended::Failed => {
            Err(Against::of("not all was compared".to_owned()))
        }
    }
}
