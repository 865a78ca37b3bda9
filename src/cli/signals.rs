//! SIGINT and SIGTERM: the first is a request to stop, the second ends the process at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use understudy::flow::{Order, Orders};

use super::notice;

/// Both signals are heeded while this lives.
#[derive(Debug)]
pub(crate) struct Signals {
    orders: Orders,
    giver: Arc<watch::Sender<Order>>,
    waiting: JoinHandle<()>,
}

/// A signal that comes so soon after the first is that one once more.
const ONE_AND_THE_SAME: Duration = Duration::from_millis(500);

/// What a shell expects of a program that SIGINT has ended.
const INTERRUPTED: i32 = 130;

impl Signals {
    /// Begins to heed them.
    pub(crate) fn heed() -> Self {
        let (giver, orders) = watch::channel(Order::Go);
        let giver = Arc::new(giver);
        let stop = Arc::clone(&giver);
        let waiting = tokio::spawn(async move {
            stop_signal().await;
            notice::note("stopping, within 10 s; Ctrl-C once more ends at once");
            // It may follow any other.
            let _ = Order::Stop.give(&stop);
            // Whoever started us may pass on a signal that we got already, as `timeout` and many a wrapper do.
            sleep(ONE_AND_THE_SAME).await;
            stop_signal().await;
            notice::note("ended at once: of what was under way nobody can say whether it was done");
            std::process::exit(INTERRUPTED);
        });
        Self { orders, giver, waiting }
    }

    /// What the run is told: to stop, when the first of them comes.
    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Through which others may tell it something too.
    pub(crate) fn giver(&self) -> Arc<watch::Sender<Order>> {
        Arc::clone(&self.giver)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}

/// Returns at SIGINT or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
