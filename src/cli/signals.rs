//! SIGINT and SIGTERM, as a request to stop.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use understudy::flow::Stop;

/// Both signals are heeded while this lives.
#[derive(Debug)]
pub(crate) struct Signals {
    stop: Stop,
    waiting: JoinHandle<()>,
}

impl Signals {
    /// Begins to heed them.
    pub(crate) fn heed() -> Self {
        let (stop, stopped) = watch::channel(false);
        let waiting = tokio::spawn(async move {
            stop_signal().await;
            // Nobody listens any more: the run has ended by itself.
            let _ = stop.send(true);
        });
        Self { stop: stopped, waiting }
    }

    /// The request, which becomes true when one of them comes.
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
