//! SIGINT and SIGTERM: the first is a request to stop, the second ends the process at once.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use understudy::flow::Stop;

use super::notice;

/// Both signals are heeded while this lives.
#[derive(Debug)]
pub(crate) struct Signals {
    stop: Stop,
    waiting: JoinHandle<()>,
}

/// A signal that comes so soon after the first is that one once more.
const ONE_AND_THE_SAME: Duration = Duration::from_millis(500);

/// What a shell expects of a program that SIGINT has ended.
const INTERRUPTED: i32 = 130;

impl Signals {
    /// Begins to heed them.
    pub(crate) fn heed() -> Self {
        let (stop, stopped) = watch::channel(false);
        let waiting = tokio::spawn(async move {
            stop_signal().await;
            notice::note("stopping, within 10 s; Ctrl-C once more ends at once");
            // Nobody listens any more: the run has ended by itself.
            let _ = stop.send(true);
            // Whoever started us may pass on a signal that we got already, as `timeout` and many a wrapper do.
            sleep(ONE_AND_THE_SAME).await;
            stop_signal().await;
            notice::note("ended at once: of what was under way nobody can say whether it was done");
            std::process::exit(INTERRUPTED);
        });
        Self { stop: stopped, waiting }
    }

    /// The request, which becomes true when the first of them comes.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
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
