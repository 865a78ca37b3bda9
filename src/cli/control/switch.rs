//! A cutover that is asked for over the socket: a line for each step, and whoever asks may go away, which gives it up.

use std::io;
use std::sync::{Arc, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::channel;
use understudy::cutover::{self, Lifted, Told, Wanted, allowed, cutover, left_behind};
use understudy::flow::chain;
use understudy::plan::Until;

use super::super::notice;
use super::protocol::{self, Keys, Wish};
use super::{Job, Known, mend};

/// So many lines may wait for whoever listens.
const LINES: usize = 1024;

/// What takes longer than an answer.
pub(super) enum Switch {
    /// To see which fences there may be.
    Fences,
    /// To take away what a cutover has left.
    Lift,
    /// To be switched.
    CutOver(Wish),
    /// To read keys anew.
    Mend(Keys),
}

impl Job {
    /// Does what was asked for, and tells.
    pub(super) async fn switch(self: Arc<Self>, mut client: UnixStream, wanted: Switch) {
        let answer = match (self.known.get(), wanted) {
            (None, _) => protocol::refusal("the job has not begun", "ask again when it has"),
            (Some(known), _) if known.plan.until == Until::CaughtUp => protocol::refusal(
                "this run ends by itself once it has caught up (--once)",
                "start it without --once",
            ),
            (Some(known), Switch::Fences) => {
                protocol::fences(&allowed(&known.net, &known.plan, &known.facts).await)
            }
            (Some(known), Switch::CutOver(wish)) => match (self.turn.try_lock(), wish.wanted()) {
                (Ok(_turn), Some(wanted)) => return self.cut_over(client, known, wanted).await,
                (Ok(_), None) => protocol::unknown(),
                (Err(_), _) => under_way(),
            },
            (Some(known), Switch::Mend(keys)) => mend::answer(known, keys).await,
            (Some(known), Switch::Lift) => match self.turn.try_lock() {
                Ok(_turn) => lift(known).await,
                Err(_) => under_way(),
            },
        };
        // One that is gone gets no answer.
        let _ = client.write_all(format!("{answer}\n").as_bytes()).await;
    }

    async fn cut_over(&self, client: UnixStream, known: &Known, wanted: Wanted) {
        let (mut read, mut write) = client.into_split();
        let (sender, mut lines) = channel::<Value>(LINES);
        let gives_up = async move {
            let mut rest = [0; 64];
            // It says nothing more: whatever comes is its end.
            while read.read(&mut rest).await.is_ok_and(|count| count > 0) {}
            "whoever asked for it is gone".to_owned()
        };
        let Known { net, plan, facts, counters, .. } = known;
        let orders = &*self.orders;
        let job = cutover::Job { net, plan, facts, counters, orders };
        let cutting = async move {
            let mut tell = |told: Told| {
                log(&told);
                // Nobody may listen any more, or so slowly that the log alone has all of it.
                let _ = sender.try_send(protocol::told(&told));
            };
            let verdict = Box::pin(cutover(job, wanted, gives_up, &mut tell)).await;
            if wanted.fence.is_some() {
                let mut kept = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some(verdict.clone());
            }
            match &verdict.gone {
                Some(_) if wanted.fence.is_none() => {
                    notice::note("cutover: GO (rehearsal: nothing was fenced)");
                }
                Some(_) => notice::note("cutover: GO"),
                None => notice::warning(
                    &format!("cutover: NO-GO: {}", verdict.against.join("; ")),
                    "the job follows its sources as before",
                ),
            }
            let _ = sender.send(protocol::verdict(&self.name, &verdict)).await;
        };
        let writing = async move {
            while let Some(line) = lines.recv().await {
                if write.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
            write.shutdown().await
        };
        let ((), _): ((), io::Result<()>) = tokio::join!(cutting, writing);
    }
}

fn under_way() -> Value {
    protocol::refusal(
        "a cutover of this job is under way",
        "wait until it has ended, or end the command that has asked for it",
    )
}

/// Takes away what an earlier cutover of the job could not.
async fn lift(known: &Known) -> Value {
    match left_behind(&known.plan) {
        Ok(None) => protocol::lifted(&Lifted::default()),
        Ok(Some(left)) => protocol::lifted(&cutover::lift(&known.net, &known.plan, left).await),
        Err(error) => protocol::refusal(&chain(&error), error.advice()),
    }
}

/// What the job itself says of it.
fn log(told: &Told) {
    match told {
        Told::Step(step, what) => notice::note(&format!("cutover: {step}: {what}")),
        Told::Differs(_) | Told::Go(_) => {}
        Told::Late(late) => notice::error(
            &format!("{late}: it was written behind GO, and is not in the target"),
            &format!(
                "find who writes there and let them write to the target: {}",
                late.clients.join("; ")
            ),
        ),
    }
}
