//! `demo`: two recorded masters are played on loopback ports, and the real sync runs from each of them into a server of
//! this machine, which is started for it and thrown away. Then what arrived is compared with what was recorded.

mod compare;
mod server;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use understudy::flow::Ended;
use understudy::flow::Recording;
use understudy::flow::Report;
use understudy::flow::chain;
use understudy::flow::migrate;
use understudy::flow::replay;
use understudy::flow::{Orders, Rereads};
use understudy::net::Listener;
use understudy::net::Net;
use understudy::plan::Job;
use understudy::plan::Method;
use understudy::plan::Place;
use understudy::plan::Plan;
use understudy::plan::Rules;
use understudy::plan::Source;
use understudy::plan::Spool;
use understudy::plan::Until;
use understudy::plan::judge;
use understudy::plan::{OnDeadlines, OnUnknown};
use understudy::preflight::look;
use understudy::progress::Counters;
use understudy::server::Version;

use super::notice;
use super::outcome::Outcome;
use super::outcome::failed;
use super::outcome::refused;
use super::progress::Mode;
use super::progress::Show;
use super::progress::Watched;
use super::report;
use super::signals::Signals;

use server::Program;
use server::Server;

/// A recorded master that is compiled in.
struct Bundled {
    /// What it was.
    server: &'static str,
    bytes: &'static [u8],
    sidecar: &'static [u8],
    /// The oldest Redis that can hold its data.
    wants: Version,
}

/// One that knows `SYNC` only and has no offsets, and one whose data and commands are those of today.
const BUNDLED: [Bundled; 2] = [
    Bundled {
        server: "Redis 2.6.17",
        bytes: include_bytes!("../../../fixtures/streams/redis-2.6.17/keepalive.bin"),
        sidecar: include_bytes!("../../../fixtures/streams/redis-2.6.17/keepalive.json"),
        wants: Version(2, 8, 0),
    },
    Bundled {
        server: "Redis 7.0.15",
        bytes: include_bytes!("../../../fixtures/streams/redis-7.0.15/live-basic.bin"),
        sidecar: include_bytes!("../../../fixtures/streams/redis-7.0.15/live-basic.json"),
        wants: Version(7, 0, 0),
    },
];

/// A master that is played, and the server that its data goes to.
struct Pair {
    bundled: &'static Bundled,
    plan: Plan,
    target: Target,
}

/// Where its data goes.
enum Target {
    Server(Server),
    File(PathBuf),
}

impl Target {
    fn url(&self) -> String {
        match self {
            Self::Server(server) => server.url(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Runs `demo` to its end.
#[expect(clippy::print_stdout, reason = "this is the command's result")]
pub(crate) async fn run(progress: Mode) -> Outcome {
    let program = Program::on_path();
    let folder = match Folder::new() {
        Ok(folder) => folder,
        Err(error) => {
            return refused(
                &format!("no folder can be made in {}: {error}", std::env::temp_dir().display()),
                "name another one in TMPDIR",
            );
        }
    };
    match &program {
        Some(program) => println!("into {program}, started for this on loopback ports:"),
        None => println!(
            "there is neither a redis-server nor a valkey-server on PATH: into .rdb files, which take the copy only"
        ),
    }
    let signals = Signals::heed();
    let net = Net::system();
    let mut masters = JoinSet::new();
    let mut pairs = Vec::new();
    for (index, bundled) in BUNDLED.iter().enumerate() {
        if let Some(program) = &program
            && program.as_redis() < bundled.wants
        {
            let wants = bundled.wants;
            println!(
                "  {}: left out, {program} cannot hold its data ({wants} can)",
                bundled.server
            );
            continue;
        }
        let home = folder.0.join(index.to_string());
        let pair =
            match begin(&net, program.as_ref(), bundled, &home, &mut masters, signals.orders())
                .await
            {
                Ok(pair) => pair,
                Err(text) => {
                    return failed(&text, "see that TMPDIR has room and loopback can be used");
                }
            };
        let from = pair.plan.sources.first().map_or("", |source| &source.name);
        println!("  {} (recorded) at {from} to {}", bundled.server, pair.plan.target);
        pairs.push(pair);
    }
    let mut report = match play(&net, &pairs, progress, signals.orders()).await {
        Ok(report) => report,
        Err(outcome) => return outcome,
    };
    let mut comparisons = Vec::new();
    for (pair, source) in pairs.iter().zip(&mut report.sources) {
        if source.failure.is_some() {
            comparisons.push(None);
            continue;
        }
        let compared = match compared(&net, pair).await {
            Ok(compared) => compared,
            Err(text) => return failed(&format!("{}: {text}", pair.bundled.server), ""),
        };
        // A master that is played answers no questions, so a run cannot prove deadlines that were sent as times from then. This does.
        if compared.differences.is_empty() && source.ended == Ended::Differences {
            (source.ended, source.unproven) = (Ended::Done, 0);
        }
        comparisons.push(Some(compared));
    }
    println!();
    let recorded: Vec<_> = pairs.iter().map(|pair| Some(pair.bundled.server.to_owned())).collect();
    report::print_tables(&report, &recorded);
    println!();
    let mut outcome: Outcome = report.ended().into();
    for ((pair, source), compared) in pairs.iter().zip(&report.sources).zip(comparisons) {
        if let Some((failure, advice)) = &source.failure {
            notice::error(&format!("{}: {failure}", source.name), advice);
        }
        let Some(compared) = compared else { continue };
        let keys = compared.keys;
        let name = pair.bundled.server;
        if compared.differences.is_empty() {
            println!("{name}: equal: {keys} keys are as they were when it was recorded");
            continue;
        }
        println!("{name}: {} differences among {keys} keys", compared.differences.len());
        for difference in compared.differences.iter().take(10) {
            println!("  {difference}");
        }
        if outcome == Outcome::Done {
            outcome = Outcome::Differences;
        }
    }
    if outcome == Outcome::Done {
        if program.is_none() {
            println!(
                "\nfor the live stream too: apt-get install redis-server (or valkey-server), and run this again"
            );
        }
        println!(
            "\nyour own: understudy sync --from redis://HOST:PORT --to redis://HOST:PORT --once"
        );
    }
    outcome
}

/// Plays a recorded master and starts a server for its data.
async fn begin(
    net: &Net,
    program: Option<&Program>,
    bundled: &'static Bundled,
    home: &Path,
    masters: &mut JoinSet<()>,
    stop: &Orders,
) -> Result<Pair, String> {
    let capture = home.join("capture.bin");
    let written = fs::create_dir(home)
        .and_then(|()| fs::write(&capture, bundled.bytes))
        .and_then(|()| fs::write(capture.with_extension("json"), bundled.sidecar));
    written.map_err(|error| format!("{}: {error}", home.display()))?;
    let recording = Recording::open(&capture).await.map_err(|error| chain(&error))?;
    let listener = Listener::open("127.0.0.1", 0).await.map_err(|error| error.to_string())?;
    let address = listener.address().map_err(|error| error.to_string())?;
    let target = match program {
        Some(program) => Target::Server(Server::start(net, program, home).await?),
        None => Target::File(home.join("arrived.rdb")),
    };
    let stop = stop.clone();
    masters.spawn(async move { replay(&recording, &listener, &stop).await });

    let place = |address: String| Place::parse(&address).map_err(|error| error.to_string());
    let from = place(format!("redis://{address}"))?;
    let plan = Plan {
        sources: vec![Source { name: from.to_string(), place: from, rules: Rules::default() }],
        target: place(target.url())?,
        job: Job::default(),
        method: Method::Auto,
        until: Until::CaughtUp,
        on_conflict: None,
        on_flush: None,
        away: None,
        on_unknown: OnUnknown::Stop,
        deadlines: OnDeadlines::Exact,
        accept_eviction: false,
        remove_unowned: false,
        written_for: None,
        limit_rate: None,
        limit_read: None,
        memory: 64 << 20,
        spool: Spool::default(),
        at_once: None,
        per_host: 1,
    };
    Ok(Pair { bundled, plan, target })
}

/// The main job, for all pairs at once.
async fn play(net: &Net, pairs: &[Pair], progress: Mode, stop: &Orders) -> Result<Report, Outcome> {
    let mut watched = Vec::new();
    let mut runs = JoinSet::new();
    for (index, pair) in pairs.iter().enumerate() {
        let plan = pair.plan.clone();
        let facts = look(net, &plan).await.map_err(|error| {
            failed(&format!("{}: {}", error.place, chain(&error.source)), &error.advice())
        })?;
        if let Some(finding) = judge(&facts, &plan).first() {
            return Err(failed(&format!("{}: {}", finding.place, finding.evidence), &finding.mend));
        }
        let counters: Arc<Counters> = Arc::default();
        watched.push(Watched {
            name: pair.bundled.server.to_owned(),
            counters: Arc::clone(&counters),
            expected_keys: None,
        });
        let (net, stop) = (net.clone(), stop.clone());
        runs.spawn(async move {
            (index, migrate(&net, &plan, &facts, &[counters], &stop, &Rereads::new(1)).await)
        });
    }
    let show = Show::begin(progress, watched, net.clock());
    let mut reports = runs.join_all().await;
    show.end().await;
    reports.sort_unstable_by_key(|(index, _)| *index);
    let seconds = reports.iter().map(|(_, report)| report.seconds).fold(0.0, f64::max);
    let sources = reports.into_iter().zip(pairs).flat_map(|((_, report), pair)| {
        report.sources.into_iter().map(|mut source| {
            pair.bundled.server.clone_into(&mut source.name);
            source
        })
    });
    Ok(Report { sources: sources.collect(), seconds })
}

/// Lets the target save what it holds, and compares that with what was recorded.
async fn compared(net: &Net, pair: &Pair) -> Result<compare::Compared, String> {
    let sidecar: Value =
        serde_json::from_slice(pair.bundled.sidecar).map_err(|error| error.to_string())?;
    match &pair.target {
        Target::Server(server) => {
            let found = super::rdb::keys(&server.save(net).await?)?;
            Ok(compare::compare(&sidecar, &found, net.clock().unix_ms()))
        }
        Target::File(file) => {
            // A file holds what the master held when its copy began, and that stands in the capture as it was sent.
            let payload = payload(&sidecar, pair.bundled.bytes).ok_or("the capture has no copy")?;
            let sent = super::rdb::keys_of(payload)?;
            let functions = sent.iter().filter_map(|line| line.get("function"));
            let functions: Vec<_> = functions.map(|code| json!({ "code": code })).collect();
            let sent = json!({ "dataset": sent, "functions": functions });
            // Nothing dies in a file: it notes when.
            Ok(compare::compare(&sent, &super::rdb::keys(file)?, i64::MIN))
        }
    }
}

/// The RDB payload in a capture.
fn payload<'c>(sidecar: &Value, capture: &'c [u8]) -> Option<&'c [u8]> {
    let at = |name| usize::try_from(sidecar.get(name)?.as_u64()?).ok();
    capture.get(at("rdb_start")?..at("rdb_end")?)
}

/// A folder of our own, which goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("understudy-demo-{}", process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a folder for temporary files is no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
