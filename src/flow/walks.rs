//! Walks through all keys of the target, which all lanes do at a time when a job is settled: one SCAN for all of them, and one look at whose each name is.
//!
//! ```text
//! lane ── join ──▶ waiting ──▶ on a tour: page, page, …, the last
//!                     ▲
//!                     └── whoever comes while a tour is under way: a walk begins behind what its lane has written
//! ```
//! A tour goes as fast as the slowest of those who are on it, but one that takes nothing for a while goes on by itself, and so does everyone if the tour breaks
//! off. Then pages come again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tracing::debug;

use crate::net::{ControlError, Net};
use crate::owners::Claims;
use crate::plan::ServerPlace;

use super::ending::{Page, Walk};
use super::lane::chain;
use super::rivals::Rivals;

/// So many pages may lie ready for one who is on a tour.
const AHEAD: usize = 4;

/// For how long one may take nothing before the others go on.
const PATIENCE: Duration = Duration::from_secs(1);

/// The walks through one target.
#[derive(Clone)]
pub(super) struct Walks(Arc<Shared>);

struct Shared {
    net: Net,
    rivals: Option<Rivals>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Sender<Stop>>,
    /// There is one who leads tours.
    is_led: bool,
}

/// A page, and whether it is the last one.
type Stop = (Arc<Names>, bool);

/// The names of a page, and whose they are.
pub(super) struct Names {
    pub(super) page: Page,
    /// Of each name, where sources may bring the same ones.
    claims: Vec<Claims>,
}

/// A lane's walk.
pub(super) struct Walking {
    walks: Walks,
    to: Box<ServerPlace>,
    tour: Option<Receiver<Stop>>,
    /// The walk that it does by itself.
    own: Option<Box<Walk>>,
}

impl Names {
    /// Each name, and who has brought it.
    pub(super) fn each(&self) -> impl Iterator<Item = (&[u8], Option<Claims>)> {
        let claims = self.claims.iter().copied().map(Some).chain(std::iter::repeat(None));
        self.page.names.iter().map(Vec::as_slice).zip(claims)
    }
}

impl Walks {
    pub(super) fn new(net: Net, rivals: Option<Rivals>) -> Self {
        Self(Arc::new(Shared { net, rivals, state: Mutex::default() }))
    }

    /// Begins a walk through all databases that hold keys, behind all that was written before. All are through the same target.
    pub(super) fn join(&self, to: &ServerPlace) -> Walking {
        let (to_us, tour) = channel(AHEAD);
        let mut state = self.state();
        state.waiting.push(to_us);
        if !std::mem::replace(&mut state.is_led, true) {
            tokio::spawn(self.clone().lead(to.clone()));
        }
        Walking { walks: self.clone(), to: Box::new(to.clone()), tour: Some(tour), own: None }
    }

    /// Leads one tour after the other, until nobody waits for one.
    async fn lead(self, to: ServerPlace) {
        loop {
            let mut members = {
                let mut state = self.state();
                state.is_led = !state.waiting.is_empty();
                std::mem::take(&mut state.waiting)
            };
            if members.is_empty() {
                return;
            }
            if let Err(error) = self.tour(&to, &mut members).await {
                debug!(
                    error = chain(&error),
                    "a walk for several has broken off: each goes by itself"
                );
            }
        }
    }

    async fn tour(
        &self,
        to: &ServerPlace,
        members: &mut Vec<Sender<Stop>>,
    ) -> Result<(), ControlError> {
        let mut walk = Some(Walk::begin(self.0.net.clone(), to.clone()).await?);
        while let Some(next) = walk.take() {
            let (rest, page) = next.page().await?;
            let names = Arc::new(self.whose(page));
            let is_last = rest.is_none();
            give(members, &(names, is_last)).await;
            walk = rest.filter(|_| !members.is_empty());
        }
        Ok(())
    }

    /// Looks up whose the names of a page are.
    fn whose(&self, page: Page) -> Names {
        let claims = { self.0.rivals.iter() }
            .flat_map(|rivals| page.names.iter().map(|name| rivals.claims(page.db, name)))
            .collect();
        Names { page, claims }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a page to all who are on a tour. Who has gone, or takes nothing, is on it no more.
async fn give(members: &mut Vec<Sender<Stop>>, stop: &Stop) {
    let mut stayed = Vec::new();
    for member in members.drain(..) {
        let given = timeout(PATIENCE, member.send(stop.clone())).await;
        if matches!(given, Ok(Ok(()))) {
            stayed.push(member);
        }
    }
    *members = stayed;
}

impl Walking {
    /// Reads the next page; the walk comes back unless it has ended.
    ///
    /// # Errors
    /// If the target does not answer.
    pub(super) async fn page(mut self) -> Result<(Option<Self>, Arc<Names>), ControlError> {
        if let Some(tour) = &mut self.tour {
            if let Some((names, is_last)) = tour.recv().await {
                return Ok(((!is_last).then_some(self), names));
            }
            self.tour = None;
        }
        let walk = match self.own.take() {
            Some(walk) => *walk,
            None => Walk::begin(self.walks.0.net.clone(), (*self.to).clone()).await?,
        };
        let (rest, page) = walk.page().await?;
        let names = Arc::new(self.walks.whose(page));
        self.own = rest.map(Box::new);
        Ok((self.own.is_some().then_some(self), names))
    }
}

#[cfg(test)]
mod tests {
    use crate::key::Db;

    use super::*;

    fn page(number: usize) -> Stop {
        let page = Page { db: Db::default(), names: vec![number.to_string().into_bytes()] };
        (Arc::new(Names { page, claims: Vec::new() }), false)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_nothing_holds_up_no_other() {
        let (mut members, mut tours): (Vec<_>, Vec<_>) =
            (0..3).map(|_| channel::<Stop>(AHEAD)).unzip();
        // The first takes what comes, the second nothing, and the third has gone.
        tours.pop();
        let mut idle = tours.pop().unwrap();
        let mut first = tours.pop().unwrap();
        for number in 0..20 {
            give(&mut members, &page(number)).await;
            let (names, _) = first.recv().await.unwrap();
            let names: Vec<_> = names.each().map(|(name, _)| name.to_vec()).collect();
            assert_eq!(names, [number.to_string().into_bytes()]);
        }
        assert_eq!(members.len(), 1);
        // It finds what lay ready, and then that the tour has gone on without it.
        let mut taken = 0;
        while idle.recv().await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, AHEAD);
    }
}
