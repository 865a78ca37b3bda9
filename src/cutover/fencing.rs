//! Fences, put up before the end of the streams and taken away if it is no GO.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::flow::{self, Order};

use super::fence::{Before, Fence};
use super::fenced::{Left, left_behind, lift};
use super::run::{Switch, servers};
use super::switch::{Member, each};
use super::told::{Against, Job, Told};

/// How long deadlines may take to be held back again before their source takes writes all the same: then the job copies anew.
const RESTORED: Duration = Duration::from_secs(20);

/// What is said of a source whose fence could not be taken away, and what does take it away.
pub(super) const STILL_FENCED: &str = "IT IS STILL FENCED";
pub(super) const LIFTS: &str = "understudy cutover --lift takes the fence away";

/// How long nothing is said of fences that are being taken away.
const QUIET: Duration = Duration::from_secs(1);

impl Switch<'_> {
    /// Takes away what an earlier cutover could not: what stands there now is not what was there before.
    pub(super) async fn clear(&mut self) -> Result<(), Against> {
        let Job { net, plan, .. } = self.job;
        let left = left_behind(plan).map_err(|error| Against::of(flow::chain(&error)))?;
        let Some(left) = left else { return Ok(()) };
        match lift(net, plan, left).await.failed {
            failed if failed.is_empty() => Ok(()),
            failed => Err(Against(failed.iter().map(|error| flow::chain(error)).collect())),
        }
    }

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
            if let Err(error) = kept {
                // Nothing was put up, so that nothing needs to be remembered.
                let _ = Left::new().keep(folder);
                return Err(Against::of(flow::chain(&error)));
            }
        }
        Ok(before)
    }

    /// Puts them up, all at a time, and ends with the first that cannot be.
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
        while let Some((name, raised)) = first_of(&mut self.raising).await {
            let raised = raised.map_err(|why| Against::by((name.clone(), why)))?;
            self.raised.insert(name, Arc::new(raised));
        }
        Ok(())
    }

    /// The sources of which one is fenced for each server.
    pub(super) fn leaders(&self) -> Vec<Member> {
        self.members.iter().filter(|member| member.leads()).cloned().collect()
    }

    /// Undoes what was done. Gives what could not be.
    pub(super) async fn undo(&mut self, tell: &mut (dyn FnMut(Told) + Send)) -> Vec<String> {
        // Only a run that settles is told to go on: one that was told something else does that.
        let settles = self.job.orders.send_if_modified(|now| {
            let settles = *now == Order::Settle;
            if settles {
                *now = Order::Go;
            }
            settles
        });
        let Some(since) = self.since else { return Vec::new() };
        let (mut left, mut fenced) = (Vec::new(), Vec::new());
        let mut lowering = JoinSet::new();
        for member in self.leaders() {
            let Some(before) = self.left.of(&member.name).cloned() else { continue };
            let raising = self.raising.remove(&member.name);
            let of_server = |other: &&Member| other.leader == member.name && self.settles;
            let lanes: Vec<Member> = self.members.iter().filter(of_server).cloned().collect();
            fenced.push(member.name.clone());
            lowering.spawn(async move {
                if let Some(raising) = raising {
                    // It was tried, and may have come through.
                    let _ = raising.await;
                }
                // While the fence stands no deadline is renewed there, so that none can be missed. No other source waits for it. Who was told to
                // stop does so behind that.
                let restored = timeout(RESTORED, each(&lanes, Member::goes_on)).await.is_ok();
                (member.name.clone(), restored, member.take_down(before).await)
            });
        }
        let of = fenced.len();
        let (mut is_told, mut are_restored) = (false, true);
        while !lowering.is_empty() {
            let lowered = tokio::select! {
                lowered = lowering.join_next() => lowered,
                () = sleep(QUIET), if !is_told => {
                    is_told = true;
                    let told = self.take_writes(of, since);
                    tell(Told::Step("undo", format!("{told}; on its way: {}", fenced.join(", "))));
                    continue;
                }
            };
            let Some(lowered) = lowered else { break };
            let (name, restored, lowered) =
                lowered.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            fenced.retain(|fenced| *fenced != name);
            are_restored &= restored;
            if !restored {
                left.push(format!("{name}: deadlines are not held back again yet: what is renewed on it before they are may be lost, and the job may have to copy anew"));
            }
            match lowered {
                Ok(()) => self.left.remove(&name),
                Err(why) => left.push(format!(
                    "{name}: {STILL_FENCED}: {why}; {LIFTS} when that is mended, and so does the next cutover"
                )),
            }
            // Whatever becomes of this process and of the others, this one is no matter of it any more.
            let kept = self.job.plan.job.folder.as_ref().map(|folder| self.left.keep(folder));
            left.extend(kept.and_then(Result::err).map(|error| flow::chain(&error)));
        }
        if settles && are_restored {
            tell(Told::Step("undo", "deadlines are held back again".to_owned()));
        }
        tell(Told::Step("undo", self.take_writes(of, since)));
        left
    }

    /// How many servers take writes again, of so many.
    fn take_writes(&self, of: usize, since: Duration) -> String {
        let ms = self.ms_since(since);
        match self.left.sources().count() {
            0 => format!("the sources take writes again, after {ms} ms"),
            left => format!(
                "{} of {} take writes again, after {ms} ms",
                of.saturating_sub(left),
                servers(of)
            ),
        }
    }
}

/// Waits for the first of these tasks that ends, and takes it out; `None` if there is none. Nothing is lost if the future is dropped.
async fn first_of<T>(tasks: &mut BTreeMap<String, JoinHandle<T>>) -> Option<(String, T)> {
    poll_fn(|context| {
        let done = tasks.iter_mut().find_map(|(name, task)| match Pin::new(task).poll(context) {
            Poll::Ready(done) => Some((name.clone(), done)),
            Poll::Pending => None,
        });
        match done {
            Some((name, done)) => {
                tasks.remove(&name);
                let done =
                    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                Poll::Ready(Some((name, done)))
            }
            None if tasks.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_that_ends_is_told_whatever_its_name() {
        let mut tasks = BTreeMap::from([
            ("first".to_owned(), tokio::spawn(std::future::pending())),
            ("second".to_owned(), tokio::spawn(async { 2 })),
        ]);
        assert_eq!(first_of(&mut tasks).await, Some(("second".to_owned(), 2)));
        assert_eq!(tasks.len(), 1);
        assert_eq!(first_of::<()>(&mut BTreeMap::new()).await, None);
    }
}
