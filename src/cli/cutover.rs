//! `cutover`: a job is switched, one that runs or one that is begun for it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinError;
use tokio::time::sleep;
use understudy::cutover::{Fence, Lifted, allowed, left_behind, lift as take_away};
use understudy::flow::{Order, chain};
use understudy::key::Escaped;
use understudy::net::Net;
use understudy::preflight::{Unreachable, expand, look};

use super::args::{Cutover, DepthArg, FenceArg, Sync};
use super::control::{self, Request, Talk, Wish, of, talk, text};
use super::outcome::{Outcome, failed, refused};
use super::refusal::Refusal;
use super::{intent, notice, sync, terminal};

/// How long writes may be refused if nobody has said so, with a part of the keys compared and with all.
const MOST: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3600)];

/// How often a job that was begun is asked whether it follows by now.
const OFTEN: Duration = Duration::from_millis(200);

/// How what is told is shown, and what is done at GO.
struct Asking {
    json: bool,
    rehearse: bool,
    on_go: Option<String>,
}

/// What came of it: how the command ends, and what it prints.
struct Answer {
    outcome: Outcome,
    result: String,
}

/// Runs `cutover` to its end.
pub(crate) async fn run(args: Cutover) -> Outcome {
    let Sync { dry_run, census, until, once, .. } = &args.sync;
    if *dry_run || *census || until.is_some() || *once {
        return refused(
            "--dry-run, --census, --until and --once: a job that is cut over follows its sources",
            "leave them out; --rehearse tries everything but the switch",
        );
    }
    let places = &args.sync.places;
    let has_places = !places.from.is_empty() || places.to.is_some() || places.config.is_some();
    if !has_places && !args.sync.writing.report.is_empty() {
        return refused(
            "--report: a job that runs writes its own, and how it was cut over is in that",
            "give --report to the sync that is cut over",
        );
    }
    let request = match args.fence.is_some() || args.rehearse {
        true => Request::CutOver(wish(&args)),
        false => Request::Fences,
    };
    let request = if args.lift { Request::Lift } else { request };
    let asking = Asking { json: args.json, rehearse: args.rehearse, on_go: args.on_go };
    if !has_places {
        let named = args.running.as_deref().or(places.job.as_deref());
        return asking.ask(named, request).await.end();
    }
    let job = match intent::plan(&args.sync) {
        Ok(plan) => plan.job.name,
        Err(Refusal { what, mend }) => return refused(&what, &mend),
    };
    match (control::running_as(&job).await, request) {
        (true, request) => asking.ask(Some(&job), request).await.end(),
        (false, Request::Fences) => asking.look(&args.sync).await,
        (false, Request::Lift) => lift(&args.sync).await,
        (false, request) => begin(args.sync, &job, asking, request).await,
    }
}

/// Begins the job, waits until it follows, and cuts it over. If it is no GO the job is stopped, with its position kept.
async fn begin(told: Sync, job: &str, asking: Asking, request: Request) -> Outcome {
    let mut run = tokio::spawn(async move { sync::run(&told).await });
    let follows = async {
        while !control::follows(job).await {
            sleep(OFTEN).await;
        }
    };
    let joined = |run: Result<Outcome, JoinError>| {
        run.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    };
    tokio::select! {
        ended = &mut run => return joined(ended),
        () = follows => {}
    }
    let answer = asking.ask(Some(job), request).await;
    let is_go = answer.outcome != Outcome::Refused && !asking.rehearse && !answer.is_no_go();
    if !is_go {
        control::tell(job, Order::Stop).await;
    }
    let ended = joined(run.await);
    let outcome = answer.end();
    match (outcome, ended) {
        (Outcome::Done, Outcome::Done | Outcome::Interrupted) => Outcome::Done,
        (Outcome::Done, ended) => ended,
        (outcome, _) => outcome,
    }
}

impl Answer {
    fn of(outcome: Outcome) -> Self {
        Self { outcome, result: String::new() }
    }

    fn is_no_go(&self) -> bool {
        self.result.contains("NO-GO")
    }

    /// Prints it.
    fn end(self) -> Outcome {
        if !self.result.is_empty() {
            terminal::result(&self.result);
        }
        self.outcome
    }
}

impl Asking {
    /// Asks a job, and shows what it tells until it has ended.
    async fn ask(&self, job: Option<&str>, request: Request) -> Answer {
        let (job, mut lines) = match talk(job, request).await {
            (job, Talk::Lines(lines)) => (job, lines),
            (_, Talk::Over(outcome)) => return Answer::of(outcome),
        };
        let mut acted = Outcome::Done;
        loop {
            let Ok(Some(line)) = lines.next_line().await else {
                return Answer::of(failed(
                    &format!(
                        "the job {job} has ended without a word: if it was killed the sources may be fenced"
                    ),
                    "give the same sync command again: it takes the fences away and goes on, or says that this was GO already; understudy cutover --lift with its places takes them away too",
                ));
            };
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(what) = of(&told, "error").as_str() {
                let mend =
                    of(&told, "mend").as_str().unwrap_or("understudy status says how it stands");
                return Answer::of(refused(what, mend));
            }
            if let Some(fences) = of(&told, "fences").as_array() {
                return self.fences(fences);
            }
            if let Some(sources) = of(&told, "lifted").as_array() {
                let failed = of(&told, "failed").as_array().map(Vec::as_slice).unwrap_or_default();
                let failed =
                    { failed.iter() }.map(|one| (text(of(one, "error")), text(of(one, "mend"))));
                let sources: Vec<String> = sources.iter().map(text).collect();
                return Answer::of(end_lift(&job, &sources, failed));
            }
            if let Some(step) = of(&told, "step").as_str() {
                notice::note(&format!("{step:<8} {}", text(of(&told, "told"))));
            }
            let differs = of(&told, "differs");
            if !differs.is_null() {
                let db = of(differs, "db")
                    .as_u64()
                    .map_or_else(|| "function".to_owned(), |db| db.to_string());
                notice::note(&format!(
                    "differs: {} db {db} {}",
                    text(of(differs, "kind")),
                    key(differs)
                ));
            }
            let go = of(&told, "go");
            if let (true, Some(command)) = (!go.is_null(), &self.on_go) {
                acted = on_go(command, &job, of(go, "pause_ms")).await;
            }
            let late = of(&told, "late");
            if !late.is_null() {
                notice::error(
                    &format!(
                        "{}: it was written behind GO, and is not in the target",
                        text(of(late, "told"))
                    ),
                    &format!("find who writes there: {}", list(of(late, "clients"))),
                );
            }
            let verdict = of(&told, "verdict");
            if !verdict.is_null() {
                return self.verdict(verdict, acted);
            }
        }
    }

    /// Looks which fences there may be, for a job that does not run.
    async fn look(&self, told: &Sync) -> Outcome {
        let plan = match intent::plan(told) {
            Ok(plan) => plan,
            Err(Refusal { what, mend }) => return refused(&what, &mend),
        };
        let net = Net::system();
        let looked = async {
            let plan = expand(&net, &plan).await?;
            let facts = look(&net, &plan).await?;
            Ok::<_, Unreachable>((plan, facts))
        };
        match looked.await {
            Ok((plan, facts)) => {
                let fences = control::fences(&allowed(&net, &plan, &facts).await);
                self.fences(of(&fences, "fences").as_array().map(Vec::as_slice).unwrap_or_default())
                    .end()
            }
            Err(error) => {
                refused(&format!("{}: {}", error.place, chain(&error.source)), &error.advice())
            }
        }
    }

    /// Which fences there may be, where none was chosen.
    fn fences(&self, fences: &[Value]) -> Answer {
        let mut table = String::new();
        for fence in fences {
            let others = match of(fence, "others").as_u64() {
                Some(others @ 1..) => format!(" (and {others} more)"),
                _ => String::new(),
            };
            let why = match (of(fence, "source").as_str(), of(fence, "why").as_str()) {
                (Some(source), Some(why)) => format!("no: {source}: {why}{others}"),
                _ => "yes".to_owned(),
            };
            table.push_str(&format!("{:<14}{why}\n", text(of(fence, "fence"))));
        }
        notice::error(
            "--fence is not given: what shall keep the sources from taking writes?",
            "choose one of those that say yes; external means that you have stopped whoever writes; --rehearse fences nothing",
        );
        let result = if self.json { format!("{}\n", Value::from(fences.to_vec())) } else { table };
        Answer { outcome: Outcome::Refused, result }
    }

    fn verdict(&self, verdict: &Value, acted: Outcome) -> Answer {
        let gone = of(verdict, "gone");
        let late = of(verdict, "late_writes").as_u64().unwrap_or(0);
        let against: Vec<&str> = of(verdict, "against")
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for why in &against {
            notice::note(&format!("against  {why}"));
        }
        let unwatched = of(verdict, "unwatched").as_array().map(Vec::as_slice).unwrap_or_default();
        for why in unwatched.iter().filter_map(Value::as_str) {
            notice::error(
                &format!("it could not be watched to the end: {why}"),
                "see whether anybody has written there since GO: what was written is not in the target",
            );
        }
        let outcome = match (gone.is_null(), late) {
            (false, 0) if unwatched.is_empty() => acted,
            _ => Outcome::Differences,
        };
        if self.json {
            return Answer { outcome, result: format!("{verdict}\n") };
        }
        let pause = of(gone, "pause_ms");
        let result = match (gone.is_null(), self.rehearse) {
            (true, _) => "NO-GO\n".to_owned(),
            (false, true) => format!("GO (rehearsal: nothing was fenced) {pause} ms\n"),
            (false, false) => format!("GO {pause} ms\n"),
        };
        if !gone.is_null() && !self.rehearse {
            notice::note(
                "the target is the one now: let the applications write there. The sources stay fenced (understudy cutover --lift with the same places lets them take writes again)",
            );
        }
        if late > 0 {
            notice::error(
                &format!("{late} writes came to the sources behind GO"),
                "what they wrote is not in the target: see above who it was",
            );
        }
        Answer { outcome, result }
    }
}

/// Does what shall be done at GO.
async fn on_go(command: &str, job: &str, pause_ms: &Value) -> Outcome {
    let run = Command::new("sh")
        .args(["-c", command])
        .env("UNDERSTUDY_JOB", job)
        .env("UNDERSTUDY_PAUSE_MS", pause_ms.to_string())
        .stdin(Stdio::null())
        // The result is ours alone.
        .stdout(std::io::stderr())
        .status();
    let what = match run.await {
        Ok(status) if status.success() => {
            notice::note("--on-go: done");
            return Outcome::Done;
        }
        Ok(status) => format!("--on-go: it has ended with {status}"),
        Err(error) => format!("--on-go: it could not be started: {error}"),
    };
    notice::error(
        &what,
        "it is GO all the same: the sources are fenced, and the target is the one; do by hand what it should have done",
    );
    Outcome::Differences
}

/// Takes away what an earlier cutover has left.
async fn lift(told: &Sync) -> Outcome {
    let plan = match intent::plan(told) {
        Ok(plan) => plan,
        Err(Refusal { what, mend }) => return refused(&what, &mend),
    };
    let job = &plan.job.name;
    let left = match left_behind(&plan) {
        Ok(Some(left)) => left,
        Ok(None) => return end_lift(job, &[], std::iter::empty()),
        Err(error) => return refused(&chain(&error), error.advice()),
    };
    let net = Net::system();
    let plan = match expand(&net, &plan).await {
        Ok(plan) => plan,
        Err(error) => {
            return failed(&format!("{}: {}", error.place, chain(&error.source)), &error.advice());
        }
    };
    let Lifted { sources, failed } = take_away(&net, &plan, left).await;
    let failed = failed.iter().map(|error| (chain(error), error.advice().to_owned()));
    end_lift(job, &sources, failed)
}

/// Says which sources take writes again, and why others do not.
fn end_lift(
    job: &str,
    sources: &[String],
    failures: impl Iterator<Item = (String, String)>,
) -> Outcome {
    let mut outcome = Outcome::Done;
    let is_any = !sources.is_empty();
    if is_any {
        notice::note(&format!("{} take writes again", sources.join(", ")));
    }
    for (what, mend) in failures {
        outcome = failed(&what, &mend);
    }
    if !is_any && outcome == Outcome::Done {
        notice::note(&format!("no cutover of the job {job} has left a fence on this machine"));
    }
    outcome
}

/// A key as a person reads it.
fn key(of_what: &Value) -> String {
    let bytes: Vec<u8> =
        text(of(of_what, "key")).chars().filter_map(|c| u8::try_from(c).ok()).collect();
    Escaped(&bytes).to_string()
}

fn list(all: &Value) -> String {
    all.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

fn wish(args: &Cutover) -> Wish {
    let is_full = args.verify == DepthArg::Full;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let [part, all] = MOST;
    let most = args.max_pause.unwrap_or(if is_full { all } else { part });
    Wish {
        fence: args.fence.map(|fence| match fence {
            FenceArg::Acl => Fence::Acl,
            FenceArg::MinReplicas => Fence::MinReplicas,
            FenceArg::External => Fence::External,
        }),
        sample: (!is_full).then(|| args.sample.clone()),
        most_ms: ms(most),
        watch_ms: ms(args.watch_after),
    }
}
