//! `sync`: copy, then follow.

use std::sync::Arc;

use understudy::flow::{Ended, Report, chain, migrate};
use understudy::net::Net;
use understudy::plan::judge;
use understudy::preflight::look;
use understudy::progress::Counters;

use super::args::Sync;
use super::outcome::{Outcome, failed, refused, say};
use super::signals::Signals;
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
    let signals = Signals::heed();
    let counters: Vec<Arc<Counters>> = plan.sources.iter().map(|_| Arc::default()).collect();
    let run = migrate(&net, &plan, &facts, &counters, signals.stop()).await;
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
    if let Some(path) = &args.writing.report
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
