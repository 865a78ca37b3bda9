//! Whole runs between two real servers on one machine, beside what those servers do by themselves.
//!
//! ```text
//! cargo bench --bench sync                           every set at a tenth of its size, and the live stream
//! cargo bench --bench sync -- S1 live                some of them
//! UNDERSTUDY_BENCH_SCALE=1 cargo bench --bench sync  at full size
//! ```
//!
//! What counts is the ratio within one run: to `REPLICAOF`, and to a blast, the commands that make the set over one connection, which is what
//! a server takes at the most. Source, target and tool share the machine's cores. Where the two sides differ in the end the bench
//! fails.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by panicking, and prints what it has found"
)]
#![expect(clippy::disallowed_methods, reason = "real servers run on the real clock")]

#[path = "../../tests/integration/client.rs"]
#[expect(dead_code, reason = "the tests ask more of it")]
mod client;
mod data;
#[path = "../../tests/integration/dice.rs"]
mod dice;
mod figures;
#[expect(dead_code, reason = "the other bench asks more of it")]
mod servers;
mod tool;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::Table;

use crate::client::cmd;
use crate::data::{Commands, SETS, Set, writes};
use crate::dice::Dice;
use crate::figures::{median, ratio, seconds, table};
use crate::servers::{Cost, LOOK, Server, cost, program};
use crate::tool::Tool;

/// Each figure is the median of so many.
const ROUNDS: usize = 3;

/// How long the live stream is written in each round.
const LIVE: Duration = Duration::from_secs(3);

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    // Test runners start benches too, and are not meant.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let Some(program) = program() else {
        println!("skipped: there is no redis-server; scripts/servers.sh gets one, or install it");
        return;
    };
    let scale = env::var("UNDERSTUDY_BENCH_SCALE").map_or(0.1, |scale| scale.parse().unwrap());
    let chosen: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|arg| *arg == name);

    println!("{}, {ROUNDS} rounds, sizes times {scale}", program.display());
    let mut table = table([
        "set",
        "keys",
        "RDB MB",
        "understudy s",
        "CPU s",
        "peak MiB",
        "REPLICAOF s",
        "blast s",
        "to REPLICAOF",
        "to blast",
    ]);
    for set in SETS.iter().filter(|set| is_chosen(set.name)) {
        println!("{}: {}", set.name, set.shape);
        table.add_row(copy(&program, set, scale));
    }
    if table.row_count() > 0 {
        println!("{table}");
    }
    if is_chosen("live") {
        println!(
            "live: writes of 32 bytes, four kinds, over one connection for {} s",
            LIVE.as_secs()
        );
        println!("{}", live(&program));
    }
}

/// Measures one set: its row.
fn copy(program: &Path, set: &Set, scale: f64) -> Vec<String> {
    let (source, target) = (Server::start(program), Server::start(program));
    let commands = (set.make)(&mut Dice::new(1), scale);
    let mut blasts = Vec::new();
    for _ in 0..ROUNDS {
        source.empty();
        blasts.push(source.blast(&commands));
    }
    drop(commands);
    let wanted = source.digest();
    let (mut runs, mut replications) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        replications.push(target.replicate(&source));
        assert_eq!(target.digest(), wanted, "{}: the target's digest", set.name);
        target.empty();
        runs.push(run(&source, &target));
        assert_eq!(target.digest(), wanted, "{}: the target's digest", set.name);
        target.empty();
    }
    let (took, Cost { cpu, memory }, bytes) = median(runs, |(took, ..)| *took);
    let (replication, blast) = (median(replications, |&took| took), median(blasts, |&took| took));
    let keys = source.client().call(cmd!("DBSIZE")).int();
    vec![
        set.name.to_owned(),
        keys.to_string(),
        (bytes / 1_000_000).to_string(),
        seconds(took),
        seconds(cpu),
        (memory >> 20).to_string(),
        seconds(replication),
        seconds(blast),
        ratio(took.as_secs_f64(), replication.as_secs_f64()),
        ratio(took.as_secs_f64(), blast.as_secs_f64()),
    ]
}

/// Starts the tool between these two.
fn start(source: &Server, target: &Server, rest: &[&str]) -> Tool {
    let (source, target) = (source.url(), target.url());
    let between = ["sync", "--from", &source, "--to", &target];
    let quiet = ["--memory", "64MiB", "--progress", "none"];
    Tool::start([&between[..], &quiet, rest].concat())
}

/// One whole run, from the start of the tool to its end, and how many bytes the source has sent.
fn run(source: &Server, target: &Server) -> (Duration, Cost, u64) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let begun = Instant::now();
    let (cost, _) = start(source, target, &["--once", "--report", report.to_str().unwrap()]).end(0);
    let took = begun.elapsed();
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    (took, cost, report["totals"]["bytes"].as_u64().unwrap())
}

/// What a follower made of a live stream.
#[derive(Clone, Copy, Debug)]
struct Followed {
    writes: u32,
    /// Until the last of them had arrived.
    took: Duration,
    /// From the last write until then.
    behind: Duration,
    /// Of the tool, meanwhile.
    cpu: Duration,
}

impl Followed {
    fn rate(&self) -> f64 {
        f64::from(self.writes) / self.took.as_secs_f64()
    }
}

/// Measures the live stream: the tool's row and that of `REPLICAOF`.
fn live(program: &Path) -> Table {
    let commands = writes(&mut Dice::new(2));
    let (source, target) = (Server::start(program), Server::start(program));
    let (mut native, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        target.replicate(&source);
        native.push(follow(&source, &target, &commands));
        assert_eq!(target.digest(), source.digest(), "live: the digest of a replica");
        target.empty();
        source.empty();

        let tool = start(&source, &target, &[]);
        arrive(&source, &target, "begin");
        let process = tool.id();
        let before = cost(process, Cost::default()).0.cpu;
        let followed = follow(&source, &target, &commands);
        let cpu = cost(process, Cost::default()).0.cpu - before;
        ours.push(Followed { cpu, ..followed });
        let stopped = Command::new("kill").args(["-INT", &process.to_string()]).status();
        assert!(stopped.unwrap().success());
        tool.end(130);
        // A job that was stopped leaves its record, to be gone on with.
        let mut client = target.client();
        for own in client.call(cmd!("KEYS", "understudy:*")).strings() {
            client.call(cmd!("DEL", own));
        }
        assert_eq!(target.digest(), source.digest(), "live: the target's digest");
        target.empty();
        source.empty();
    }
    let a_write = |followed: &Followed| followed.took / followed.writes;
    let (native, ours) = (median(native, a_write), median(ours, a_write));
    let mut table = table(["live", "writes/s", "behind ms", "CPU s/million", "to REPLICAOF"]);
    let cpu = ours.cpu.as_secs_f64() / f64::from(ours.writes) * 1e6;
    for (name, followed, cpu) in
        [("understudy", &ours, format!("{cpu:.2}")), ("REPLICAOF", &native, String::new())]
    {
        table.add_row([
            name.to_owned(),
            format!("{:.0}", followed.rate()),
            followed.behind.as_millis().to_string(),
            cpu,
            ratio(followed.rate(), native.rate()),
        ]);
    }
    table
}

/// Writes to a source that is followed.
fn follow(source: &Server, target: &Server, commands: &Commands) -> Followed {
    let (begun, mut writes) = (Instant::now(), 0);
    while begun.elapsed() < LIVE {
        source.blast(commands);
        writes += u32::try_from(commands.count).unwrap();
    }
    let behind = arrive(source, target, "end");
    Followed { writes, took: begun.elapsed(), behind, cpu: Duration::ZERO }
}

/// Writes a key, and gives how long it took to arrive.
fn arrive(source: &Server, target: &Server, key: &str) -> Duration {
    let begun = Instant::now();
    source.client().call(cmd!("SET", key, "1"));
    let mut reader = target.client();
    while reader.call(cmd!("EXISTS", key)).int() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing arrives");
        thread::sleep(LOOK);
    }
    begun.elapsed()
}
