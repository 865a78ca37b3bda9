//! `sync`: copy, then follow.

use std::sync::Arc;

use tokio::sync::watch;
use understudy::flow::{Ended, Report, chain, migrate};
use understudy::net::Net;
use understudy::plan::judge;
use understudy::preflight::look;
use understudy::progress::Counters;

use super::args::Sync;
use super::outcome::{Outcome, failed, refused, say};
use super::{intent, report};

/// Runs `sync` to its end.
pub(crate) async fn run(args: &Sync) -> Outcome {
    let plan = match intent::plan(args) {
        Ok(plan) => plan,
        Err(text) => return refused(&text, ""),
    };
    let net = Net::system();
    let facts = match look(&net, &plan).await {
        Ok(facts) => facts,
        Err(error) => {
            let text = chain(&error);
            let say = if error.is_damage() { failed } else { refused };
            return say(&text, error.advice());
        }
    };
    let findings = judge(&facts, &plan);
    for finding in &findings {
        say(&format!("{}: {}", finding.place, finding.evidence), &finding.mend);
    }
    if !findings.is_empty() {
        return Outcome::Refused;
    }
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        stop_signal().await;
        // Nobody listens any more: the run has ended by itself.
        let _ = stop.send(true);
    });
    let counters: Vec<Arc<Counters>> = plan.sources.iter().map(|_| Arc::default()).collect();
    let run = migrate(&net, &plan, &facts, &counters, &stopped).await;
    signals.abort();
    finish(args, &plan.target.to_string(), &run)
}

fn finish(args: &Sync, target: &str, run: &Report) -> Outcome {
    for source in &run.sources {
        if let Some((failure, advice)) = &source.failure {
            say(&format!("{}: {failure}", source.name), advice);
        }
    }
    report::print_table(run);
    let mut ended = run.ended();
    if let Some(path) = &args.report
        && let Err(error) = std::fs::write(path, report::json(run, target))
    {
        say(
            &format!("cannot write the report to {}: {error}", path.display()),
            "see the table above",
        );
        ended = if ended == Ended::Done { Ended::Failed } else { ended };
    }
    ended.into()
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
