//! `sync`: copy, then follow.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use understudy::cutover::{left_behind, lift};
use understudy::flow::{Ended, Order, Rereads, SourceReport, chain, migrate, watch_offset};
use understudy::net::Net;
use understudy::plan::{Facts, Finding, Kind, Place, Plan, judge, remarks, spool_line};
use understudy::preflight::{Unreachable, count_keys, expand, judge_records, look};
use understudy::progress::Counters;

use super::args::Sync;
use super::control::Door;
use super::notice;
use super::outcome::{Outcome, refused};
use super::progress::{Mode, Show, Watched, grouped};
use super::report::Files;
use super::signals::Signals;
use super::{census, dry_run, intent, report};

/// Runs `sync` to its end.
pub(crate) async fn run(args: &Sync) -> Outcome {
    let plan = match intent::plan(args) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    if let Err(outcome) = files(args).check() {
        return outcome;
    }
    let signals = Signals::heed();
    let net = Net::system();
    let mut told_to_stop = signals.orders().clone();
    let expanded = tokio::select! {
        expanded = expand(&net, &plan) => expanded,
        _ = told_to_stop.wait_for(|order| *order == Order::Stop) => {
            notice::note("stopped before anything was written");
            return report::nothing_done(files(args), &plan, &Facts::default(), Ended::Stopped, &[]);
        }
    };
    match expanded.map_err(|error| unreachable(args, &plan, &error)) {
        Ok(plan) => match intent::check_memory(plan.memory, &plan.sources) {
            Ok(()) => begin(args, &plan, &net, &signals).await,
            Err(refusal) => refused(&refusal.what, &refusal.mend),
        },
        Err(outcome) => outcome,
    }
}

/// Ends a run for which a place could not be asked.
fn unreachable(args: &Sync, plan: &Plan, error: &Unreachable) -> Outcome {
    if args.dry_run {
        dry_run::print(plan, &Facts::default());
    }
    let found = finding(error);
    notice::error(&format!("{}: {}", found.place, found.evidence), &found.mend);
    let ended = if error.is_damage() { Ended::Failed } else { Ended::Refused };
    report::nothing_done(files(args), plan, &Facts::default(), ended, &[found])
}

async fn begin(args: &Sync, plan: &Plan, net: &Net, signals: &Signals) -> Outcome {
    let counters: Vec<Arc<Counters>> = plan.sources.iter().map(|_| Arc::default()).collect();
    let door = match args.dry_run {
        true => Ok(None),
        false => Door::open(plan, &counters, signals.giver(), net.clock()),
    };
    let door = match door {
        Ok(door) => door,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    if !args.dry_run
        && let Some(refused) = settle_fences(plan, net).await
    {
        return refused;
    }
    let mut told_to_stop = signals.orders().clone();
    let looked = tokio::select! {
        looked = look(net, plan) => looked,
        _ = told_to_stop.wait_for(|order| *order == Order::Stop) => {
            notice::note("stopped before anything was written");
            return report::nothing_done(files(args), plan, &Facts::default(), Ended::Stopped, &[]);
        }
    };
    let facts = match looked {
        Ok(facts) => facts,
        Err(error) => return unreachable(args, plan, &error),
    };
    if args.dry_run {
        dry_run::print(plan, &facts);
    }
    let findings = [judge(&facts, plan), judge_records(&facts, plan)].concat();
    for finding in &findings {
        notice::error(&format!("{}: {}", finding.place, finding.evidence), &finding.mend);
    }
    if args.census {
        let asked = census::Asked { args, plan, facts: &facts, findings: &findings };
        return census::run(net, &asked, signals).await;
    }
    if !findings.is_empty() {
        return report::nothing_done(files(args), plan, &facts, Ended::Refused, &findings);
    }

    for remark in remarks(&facts, plan) {
        notice::warning(&format!("{}: {}", remark.place, remark.evidence), &remark.mend);
    }
    if let Some(line) =
        spool_line(&facts, plan).filter(|_| args.writing.bounds.progress != Mode::None)
    {
        notice::note(&line);
    }
    if args.dry_run {
        notice::note("nothing stands in the way, and nothing was written (--dry-run)");
        return report::nothing_done(files(args), plan, &facts, Ended::Done, &[]);
    }
    let rereads = Rereads::new(plan.sources.len());
    if let Some(door) = &door {
        door.begins(net, (plan, &facts), &counters, &rereads);
    }
    let mut monitors = JoinSet::new();
    let is_watched = args.writing.bounds.progress != Mode::None || door.is_some();
    for (source, counters) in plan.sources.iter().zip(&counters) {
        // When a write that is read late was made is told by the offsets of before.
        if (is_watched || source.rules.ttl().freezes())
            && let Place::Server(place) = &source.place
        {
            monitors.spawn(watch_offset(net.clone(), place.clone(), Arc::clone(counters)));
        }
    }
    let show = Show::begin(
        args.writing.bounds.progress,
        Watched::all(plan, &facts, &counters),
        net.clock(),
    );
    let run = migrate(net, plan, &facts, &counters, signals.orders(), &rereads).await;
    if let Some(door) = &door {
        door.is_left().await;
    }
    monitors.abort_all();
    let history = show.end().await;

    for source in &run.sources {
        say_end(source, &plan.job.name);
    }
    report::print_tables(&run, &report::servers(&facts));
    let keys_after = match &plan.target {
        // One that does not answer by now may never: a stop has promised to end.
        Place::Server(place) => {
            timeout(COUNTING, count_keys(net, place, plan)).await.ok().flatten()
        }
        Place::Rdb(_) | Place::Capture(_) => None,
    };
    let told = report::Told {
        run: &run,
        plan,
        facts: &facts,
        findings: &[],
        keys_after,
        census: None,
        history: Some(&history),
    };
    report::print_target(&told);
    let document = files(args).document(&told);
    let document = match door.as_ref().and_then(Door::verdict) {
        Some(verdict) => document.with(report::of_cutover(&verdict)),
        None => document,
    };
    files(args).close(&document, run.ended())
}

fn files(args: &Sync) -> Files<'_> {
    Files::new("sync", &args.writing.report, args.writing.bounds.progress)
}

/// How long the target may take to tell how many keys it holds in the end.
const COUNTING: Duration = Duration::from_secs(1);

/// Takes away the fences that a cutover has left whose process has died. Gives how the run ends, if it must not begin.
async fn settle_fences(plan: &Plan, net: &Net) -> Option<Outcome> {
    let left = match left_behind(plan) {
        Ok(left) => left?,
        Err(error) => return Some(refused(&chain(&error), error.advice())),
    };
    let sources = left.sources().collect::<Vec<_>>().join(", ");
    if left.gone {
        return Some(refused(
            &format!(
                "this job was cut over: the target is no copy any more, and its sources are fenced: {sources}"
            ),
            "understudy cutover --lift with the same places lets the sources take writes again; another copy needs another --job and another target",
        ));
    }
    notice::warning(
        &format!("a cutover of this job was broken off, and has left fences on {sources}"),
        "they are taken away now",
    );
    let failed = lift(net, plan, left).await.failed;
    let mut ended = None;
    for error in failed {
        ended = Some(refused(&chain(&error), error.advice()));
    }
    ended
}

/// Says what became of a source, unless it is plainly done.
fn say_end(source: &SourceReport, job: &str) {
    let name = &source.name;
    if let Some((failure, advice)) = &source.failure {
        notice::error(&format!("{name}: {failure}"), advice);
    }
    if source.ended == Ended::Stopped {
        let now = &source.numbers;
        let (keys, commands) = (grouped(now.keys), grouped(now.commands));
        let offset = match now.confirmed_offset {
            // It began here and has said nothing since, or has no offsets.
            0 => String::new(),
            offset => format!(" up to offset {offset}"),
        };
        let (stands, goes_on) = match source.copied {
            true => (
                format!(
                    "{name}: all of it is in the target{offset}: {keys} keys and {commands} commands"
                ),
                format!("the same command goes on from there (job {job})"),
            ),
            false => (
                format!("{name}: in the midst of the copy: {keys} keys are in the target"),
                format!("the same command copies again, over what is there (job {job})"),
            ),
        };
        notice::stopped(&stands, &goes_on);
    }
    let shifted = match source.held_back {
        Some(0) => None,
        Some(keys) => Some(format!("{} keys have", grouped(keys))),
        None => Some("an unknown number of keys have".to_owned()),
    };
    if let Some(shifted) = shifted {
        notice::warning(
            &format!(
                "{name}: {shifted} a deadline in the target that is still held back (it lies 1115 years late)"
            ),
            "the same command with --once ends the job: then each deadline is the source's own",
        );
    }
    if source.unproven > 0 {
        notice::warning(
            &format!(
                "{name}: {} things could not be proven to be as they are on the source",
                grouped(source.unproven)
            ),
            "see the warnings above; a run while the source is written to less can prove them",
        );
    }
}

fn finding(error: &Unreachable) -> Finding {
    Finding::blocks(Kind::Unreachable, &error.place, chain(&error.source), error.advice())
}
