//! Fences, put up before the end of the streams and taken away if it is no GO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::flow::{self, Order};
use crate::progress::Phase;

use super::fence::{Before, Fence};
use super::fenced::Left;
use super::run::Switch;
use super::switch::each;
use super::told::{Against, Told};

/// How long deadlines may take to be held back again before the sources take writes all the same: then the job copies anew.
const RESTORED: Duration = Duration::from_secs(20);

/// How often a fence is tried to be taken away.
const TRIES: u32 = 10;

impl Switch<'_> {
    /// Writes down what is there before the fences.
    pub(super) async fn write_down(
        &mut self,
        fence: Fence,
    ) -> Result<BTreeMap<String, Before>, Against> {
        let before = each(&self.members, |member| async move { member.before(fence).await });
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
        let raised = each(&self.members, |member| {
            let before = before.get(&member.name).cloned();
            async move {
                match before {
                    Some(before) => member.put_up(fence, before).await,
                    None => Err("what is there before the fence is not known".to_owned()),
                }
            }
        });
        let raised = raised.await.map_err(Against::by)?;
        self.raised = raised.into_iter().map(|(name, raised)| (name, Arc::new(raised))).collect();
        Ok(())
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
        if settles {
            // While the fences stand no deadline is renewed there, so that none can be missed.
            let restored = each(&self.members, |member| member.enters(Phase::Following));
            match timeout(RESTORED, restored).await {
                Ok(Ok(_)) => tell(Told::Step("undo", "deadlines are held back again".to_owned())),
                Ok(Err((name, why))) => left.push(format!("{name}: deadlines are not held back again: {why}")),
                Err(_) => left.push("deadlines are not held back again yet: what is renewed on a source before they are may be lost, and the job may have to copy anew".to_owned()),
            }
        }
        let Some(since) = self.since else {
            // Nothing was put up, so that nothing needs to be remembered.
            self.left = Left::new();
            if let Some(folder) = &self.job.plan.job.folder {
                let _ = self.left.keep(folder);
            }
            return left;
        };
        let fenced: Vec<String> = self.left.sources().map(str::to_owned).collect();
        for member in self.members.iter().filter(|member| fenced.contains(&member.name)) {
            let Some(before) = self.left.of(&member.name).cloned() else { continue };
            let mut tried = Ok(());
            for _ in 0..TRIES {
                tried = member.clone().take_down(before.clone()).await;
                if tried.is_ok() {
                    break;
                }
                sleep(Duration::from_millis(200)).await;
            }
            match tried {
                Ok(()) => self.left.remove(&member.name),
                Err(why) => left.push(format!(
                    "{}: IT IS STILL FENCED: {why}; understudy cutover --lift with the same places takes the fence away",
                    member.name
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
