//! What a run is told while it goes on.

use std::future::pending;

use tokio::sync::watch;

use super::report::Ended;

/// What a run is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    #[default]
    Go,
    /// Take nothing more from the sources for now. Their links stay alive.
    Pause,
    /// Have everything confirmed that was sent, store the position, and end. The job can be gone on with.
    Stop,
    /// Take what the sources have now, set deadlines to what they are, and take nothing more: a cutover is under way. Told to go on, the run holds
    /// deadlines back again and takes what has come meanwhile.
    Settle,
    /// Behind that: the target is handed over, so that nothing is written there any more, and what the sources are still sent is told.
    Watch,
    /// Behind that: end. What follows a hand-over is known as such, for nothing may be written to the target any more, whatever goes wrong.
    Leave,
    /// Take what the sources have now, and end as a run does that is told to end once it has caught up.
    Finish,
}

/// Where every lane looks for orders. Nobody left to give any is no order.
pub type Orders = watch::Receiver<Order>;

/// An order that comes too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate {
    /// What the run does by now.
    pub follows: Order,
}

impl Order {
    /// What a run is to do that follows this order and is given another one: one that is ending is neither paused nor goes on.
    ///
    /// # Errors
    /// If it is too late for that.
    pub fn then(self, given: Self) -> Result<Self, TooLate> {
        match (self, given) {
            // Only what has settled can be handed over.
            (Self::Go | Self::Pause, given) if !given.is_behind_go() => Ok(given),
            (Self::Settle, given) if !matches!(given, Self::Pause | Self::Leave) => Ok(given),
            (Self::Watch | Self::Leave, Self::Finish | Self::Leave | Self::Stop) => Ok(Self::Leave),
            (Self::Watch, Self::Watch)
            | (Self::Finish, Self::Finish | Self::Stop)
            | (Self::Stop, Self::Stop) => Ok(given),
            (follows, _) => Err(TooLate { follows }),
        }
    }

    /// Gives the order to a run, if it may follow the one before. Gives that one.
    ///
    /// # Errors
    /// If it is too late for that.
    pub fn give(self, orders: &watch::Sender<Self>) -> Result<Self, TooLate> {
        let mut before = Ok(Self::Go);
        orders.send_if_modified(|now| {
            before = now.then(self).map(|then| std::mem::replace(now, then));
            before.is_ok_and(|before| before != *now)
        });
        before
    }

    /// Whether the target has been handed over.
    #[must_use]
    pub const fn is_behind_go(self) -> bool {
        matches!(self, Self::Watch | Self::Leave)
    }

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Settle => "settle",
            Self::Watch => "watch",
            Self::Leave => "leave",
            Self::Finish => "finish",
        }
    }
}

/// Returns once the run is told to stop.
pub(super) async fn stop_requested(orders: &mut Orders) {
    if orders.wait_for(|order| *order == Order::Stop).await.is_err() {
        pending::<()>().await;
    }
}

/// Returns once nothing more may be begun: the run is told to stop, or the target has been handed over. Gives how it ends then.
pub(super) async fn ends(orders: &mut Orders) -> Ended {
    let given = orders.wait_for(|order| *order == Order::Stop || order.is_behind_go()).await;
    match given.map(|order| order.is_behind_go()) {
        Ok(true) => Ended::Done,
        Ok(false) => Ended::Stopped,
        Err(_) => pending().await,
    }
}

/// Returns once there is an order that nobody has looked at.
pub(super) async fn changed(orders: &mut Orders) {
    if orders.changed().await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_not_taken_back() {
        use Order::{Finish, Go, Leave, Pause, Settle, Stop, Watch};
        for given in [Go, Settle, Watch, Finish, Stop] {
            assert_eq!(Settle.then(given), Ok(given));
        }
        assert_eq!(Settle.then(Pause), Err(TooLate { follows: Settle }));
        for given in [Go, Pause, Settle] {
            assert_eq!(Watch.then(given), Err(TooLate { follows: Watch }));
        }
        for before in [Go, Pause, Finish, Stop] {
            assert_eq!(before.then(Watch), Err(TooLate { follows: before }));
            assert_eq!(before.then(Leave), Err(TooLate { follows: before }));
        }
        // However it is told to end, it is known that nothing may be written any more.
        for given in [Finish, Leave, Stop] {
            assert_eq!(Watch.then(given), Ok(Leave));
            assert_eq!(Leave.then(given), Ok(Leave));
        }
    }

    #[test]
    fn a_run_that_ends_is_not_held_up() {
        use Order::{Finish, Go, Pause, Settle, Stop, Watch};
        for given in [Go, Pause, Stop, Settle, Finish] {
            assert_eq!(Go.then(given), Ok(given));
            assert_eq!(Pause.then(given), Ok(given));
        }
        assert_eq!(Finish.then(Stop), Ok(Stop));
        assert_eq!(Finish.then(Pause), Err(TooLate { follows: Finish }));
        assert_eq!(Finish.then(Go), Err(TooLate { follows: Finish }));
        for given in [Go, Pause, Settle, Watch, Finish] {
            assert_eq!(Stop.then(given), Err(TooLate { follows: Stop }));
        }
    }
}
