//! `status`, `pause`, `resume`, `stop`: what is asked of a job that runs on this machine.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::time::timeout;
use understudy::flow::Order;
use understudy::progress::Phase;

use super::super::args::Steered;
use super::super::notice;
use super::super::outcome::{Outcome, failed, refused};
use super::super::{state, terminal};
use super::address;
use super::protocol::{LONGEST_ANSWER, Request};
use super::told::{of, text, told};

/// A job answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says how a job stands.
pub(crate) async fn status(args: &Steered) -> Outcome {
    let answer = match ask(args, Request::Status).await {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    if args.json {
        terminal::result(&format!("{answer}\n"));
    } else {
        terminal::result(&told(&answer, terminal::result_columns()));
    }
    Outcome::Done
}

/// Tells a job what to do.
pub(crate) async fn order(args: &Steered, order: Order) -> Outcome {
    let answer = match ask(args, Request::Do(order)).await {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    if args.json {
        terminal::result(&format!("{answer}\n"));
        return if of(&answer, "error").is_null() { Outcome::Done } else { Outcome::Refused };
    }
    if let Some(error) = of(&answer, "error").as_str() {
        return refused(error, "it ends by itself; understudy status says how it stands");
    }
    let job = text(of(&answer, "job"));
    terminal::result(&match order {
        Order::Go => format!("{job} goes on\n"),
        Order::Pause => format!(
            "{job} is paused: it takes nothing more from its sources; understudy resume --job {job} goes on\n"
        ),
        Order::Stop => format!("{job} stops within 10 s; the same sync command goes on with it\n"),
        Order::Settle | Order::Watch | Order::Leave | Order::Finish => {
            format!("{job} takes what its sources have now, and ends\n")
        }
    });
    let copying: Vec<&str> =
        of(&answer, "copying").as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if order == Order::Pause && !copying.is_empty() {
        notice::warning(
            &format!(
                "the copy of {} is under way, and its master may cut it off",
                copying.join(", ")
            ),
            "go on within a minute (repl-timeout, client-output-buffer-limit), or the copy begins anew",
        );
    }
    Outcome::Done
}

/// Asks the job that is meant.
async fn ask(args: &Steered, request: Request) -> Result<Value, Outcome> {
    let Some(root) = state::root() else {
        return Err(refused(
            "there is no place for the state of jobs",
            "set UNDERSTUDY_STATE to where the running job has it",
        ));
    };
    let jobs = jobs(&root);
    let job = match &args.job {
        Some(job) => job.clone(),
        None => {
            let mut running = running(&root, &jobs).await;
            match running.len() {
                1 => running.remove(0),
                0 => return Err(nothing_runs(&root)),
                _ => {
                    return Err(refused(
                        &format!("several jobs run here: {}", running.join(", ")),
                        "say which one with --job",
                    ));
                }
            }
        }
    };
    match say(&root.join(&job), request).await {
        Ok(answer) => Ok(answer),
        Err(error) if is_nobody(&error) => {
            let running = running(&root, &jobs).await;
            if running.is_empty() {
                return Err(nothing_runs(&root));
            }
            Err(refused(
                &format!("no job {job} runs here"),
                &format!("these do: {}", running.join(", ")),
            ))
        }
        Err(error) => Err(failed(
            &format!("the job {job} does not answer: {error}"),
            "see whether its process is stopped or the machine overloaded, and ask again",
        )),
    }
}

/// How a job stands, if it runs here and answers.
pub(crate) async fn standing(job: &str) -> Option<Value> {
    say(&state::root()?.join(job), Request::Status).await.ok()
}

fn nothing_runs(root: &Path) -> Outcome {
    refused(
        &format!("no job runs here ({})", root.display()),
        "a job is a running understudy sync of this user; with another UNDERSTUDY_STATE it is found there only",
    )
}

/// The jobs that have left something on this machine.
fn jobs(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Whether a job of this name runs here.
pub(crate) async fn running_as(job: &str) -> bool {
    let Some(root) = state::root() else { return false };
    !running(&root, &[job.to_owned()]).await.is_empty()
}

/// Whether all sources of a job are followed.
pub(crate) async fn follows(job: &str) -> bool {
    let Some(root) = state::root() else { return false };
    let Ok(status) = say(&root.join(job), Request::Status).await else { return false };
    let sources = of(&status, "sources").as_array().map(Vec::as_slice).unwrap_or_default();
    let is_followed =
        |source: &Value| of(source, "phase").as_str() == Some(Phase::Following.name());
    !sources.is_empty() && sources.iter().all(is_followed)
}

/// Gives an order to a job; one that is gone needs none.
pub(crate) async fn tell(job: &str, order: Order) {
    if let Some(root) = state::root() {
        let _ = say(&root.join(job), Request::Do(order)).await;
    }
}

/// What comes of a long talk with a job.
pub(crate) enum Talk {
    /// It answers, line by line.
    Lines(Lines<BufReader<UnixStream>>),
    /// It cannot be talked to.
    Over(Outcome),
}

/// Asks a job for something that takes a while. It goes on while the lines are held.
pub(crate) async fn talk(job: Option<&str>, request: Request) -> (String, Talk) {
    let job = job.map(str::to_owned);
    // That it is there, and which it is if none was named.
    let job = match ask(&Steered { job, json: false }, Request::Status).await {
        Ok(status) => text(of(&status, "job")),
        Err(outcome) => return (String::new(), Talk::Over(outcome)),
    };
    let folder = state::root().map(|root| root.join(&job)).unwrap_or_default();
    let asked = async {
        let open = fs::File::open(&folder)?;
        let mut socket = UnixStream::connect(address(&folder, &open)).await?;
        socket.write_all(request.line().as_bytes()).await?;
        Ok::<_, io::Error>(socket)
    };
    let talk = match asked.await {
        Ok(socket) => Talk::Lines(BufReader::new(socket).lines()),
        Err(error) => Talk::Over(failed(
            &format!("the job {job} does not answer: {error}"),
            "see whether its process is stopped or the machine overloaded, and ask again",
        )),
    };
    (job, talk)
}

/// Those of them that answer.
async fn running(root: &Path, jobs: &[String]) -> Vec<String> {
    let mut running = Vec::new();
    for job in jobs {
        match say(&root.join(job), Request::Status).await {
            Err(error) if is_nobody(&error) => {}
            // One that does not answer runs all the same.
            _ => running.push(job.clone()),
        }
    }
    running
}

/// Whether an error says that nobody stands behind the socket.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), ConnectionRefused | NotFound | NotADirectory)
}

/// Says something to the job with this folder, and gives its answer.
async fn say(folder: &Path, request: Request) -> io::Result<Value> {
    say_for(folder, request, PATIENCE).await
}

/// The same, where the answer may take so long.
pub(super) async fn say_for(
    folder: &Path,
    request: Request,
    patience: Duration,
) -> io::Result<Value> {
    let open = fs::File::open(folder)?;
    let talk = async {
        let mut socket = UnixStream::connect(address(folder, &open)).await?;
        socket.write_all(request.line().as_bytes()).await?;
        let mut answer = Vec::new();
        socket.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        serde_json::from_slice(&answer).map_err(io::Error::from)
    };
    timeout(patience, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
