//! Fences, put up before the end of the streams and taken away if it is no GO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::flow::{self, Order};

use super::fence::{Before, Fence};
use super::fenced::Left;
use super::run::Switch;
use super::switch::{Member, each};
use super::told::{Against, Told};

/// How long deadlines may take to be held back again before the sources take writes all the same: then the job copies anew.
const RESTORED: Duration = Duration::from_secs(20);

impl Switch<'_> {
    /// Writes down what is there before the fences.
    pub(super) async fn write_down(
        &mut self,
        fence: Fence,
    ) -> Result<BTreeMap<String, Before>, Against> {
        let leaders = self.leaders();
        let before = each(&leaders, |member| async move { member.before(fence).await });
        let before = before.await.map_err(Against::by)?;
        for (source, before) in &before {
            self.left.add(source.clone(), before.clone());
        }
        if let Some(folder) = &self.job.plan.job.folder {
            let kept = self.left.keep(folder).and_then(|()| Left::sync(folder));
            kept.map_err(|error| Against::of(flow::chain(&error)))?;
        }
        Ok(before)
    }

    pub(super) async fn put_up(
        &mut self,
        fence: Fence,
        before: BTreeMap<String, Before>,
    ) -> Result<(), Against> {
        for member in self.leaders() {
            let (name, before) = (member.name.clone(), before.get(&member.name).cloned());
            let Some(before) = before else { continue };
            self.raising.insert(name, tokio::spawn(member.put_up(fence, before)));
        }
        while let Some(mut next) = self.raising.first_entry() {
            let raised = next.get_mut().await;
            let (name, _) = next.remove_entry();
            let raised =
                raised.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            let raised = raised.map_err(|why| Against::by((name.clone(), why)))?;
            self.raised.insert(name, Arc::new(raised));
        }
        Ok(())
    }

    /// The sources of which one is fenced for each server.
    pub(super) fn leaders(&self) -> Vec<Member> {
        self.members.iter().filter(|member| member.leads).cloned().collect()
    }

    /// Undoes what was done. Gives what could not be.
    pub(super) async fn undo(&mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Vec<String> {
        let mut left = Vec::new();
        // Only a run that settles is told to go on: one that was told something else does that.
        let settles = self.job.orders.send_if_modified(|now| {
            let settles = *now == Order::Settle;
            if settles {
                *now = Order::Go;
            }
            settles
        });
        let Some(since) = self.since else {
            // Nothing was put up, so that nothing needs to be remembered.
            self.left = Left::new();
            if let Some(folder) = &self.job.plan.job.folder {
                let _ = self.left.keep(folder);
            }
            return left;
        };
        // While the fences stand no deadline is renewed there, so that none can be missed. Who was told to stop does so behind that.
        let restored = timeout(RESTORED, each(&self.members, Member::goes_on)).await;
        match restored {
            Ok(_) if settles => tell(Told::Step("undo", "deadlines are held back again".to_owned())),
            Ok(_) => {}
            Err(_) => left.push("deadlines are not held back again yet: what is renewed on a source before they are may be lost, and the job may have to copy anew".to_owned()),
        }
        let mut lowering = JoinSet::new();
        for member in self.leaders() {
            let Some(before) = self.left.of(&member.name).cloned() else { continue };
            let raising = self.raising.remove(&member.name);
            lowering.spawn(async move {
                if let Some(raising) = raising {
                    // It was tried, and may have come through.
                    let _ = raising.await;
                }
                (member.name.clone(), member.take_down(before).await)
            });
        }
        while let Some(lowered) = lowering.join_next().await {
            let (name, lowered) =
                lowered.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            match lowered {
                Ok(()) => self.left.remove(&name),
                Err(why) => left.push(format!(
                    "{name}: IT IS STILL FENCED: {why}; understudy cutover --lift with the same places takes the fence away"
                )),
            }
        }
        if let Some(Err(error)) =
            self.job.plan.job.folder.as_ref().map(|folder| self.left.keep(folder))
        {
            left.push(flow::chain(&error));
        }
        if self.left.sources().next().is_none() {
            tell(Told::Step(
                "undo",
                format!("the sources take writes again, after {} ms", self.ms_since(since)),
            ));
        }
        left
    }
}
