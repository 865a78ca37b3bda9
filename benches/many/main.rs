//! Thirty-seven real servers of several versions and very uneven sizes, merged into one.
//!
//! ```text
//! cargo bench --bench many                           a million keys
//! UNDERSTUDY_BENCH_SCALE=1 cargo bench --bench many  ten millions
//! cargo bench --bench many -- apart                  each source by itself too, one after the other
//! cargo bench --bench many -- ssh                    all sources through one ssh host
//! cargo bench --bench many -- --per-host 8           with more options for the tool
//! ```
//!
//! One source holds half of the keys and 36 share the rest. What counts is the ratio to a blast, the commands that make all of it over one
//! connection, which is what the target takes at the most, and with `apart` to the ideal: all keys at the best rate of a run with one
//! source. All servers and the tool share the machine's cores. Where the target does not hold what the sources hold the bench fails.

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
#[path = "../sync/data.rs"]
#[expect(dead_code, reason = "the other bench has sets of its own")]
mod data;
#[path = "../../tests/integration/dice.rs"]
#[expect(dead_code, reason = "the tests ask more of it")]
mod dice;
#[path = "../sync/servers.rs"]
#[expect(dead_code, reason = "the other bench asks more of it")]
mod servers;
mod ssh;
#[path = "../sync/tool.rs"]
#[expect(dead_code, reason = "the other bench asks more of it")]
mod tool;

use std::env;
use std::time::{Duration, Instant};

use crate::client::cmd;
use crate::data::Commands;
use crate::servers::{Cost, Server, cached, program};
use crate::ssh::Sshd;
use crate::tool::Tool;

/// An odd number: the digest of all data is then that of the target.
const SOURCES: usize = 37;

/// What the sources are, in turn.
const VERSIONS: [&str; 5] =
    ["redis-2.8.17", "redis-3.0.5", "redis-3.2.6", "redis-5.0.6", "redis-7.0.15"];

/// Keys in all, at full size.
const KEYS: f64 = 10e6;

fn main() {
    let mut args: Vec<String> = env::args().skip(1).collect();
    let mut takes = |word| {
        let count = args.len();
        args.retain(|arg| arg != word);
        args.len() < count
    };
    // Test runners start benches too, and are not meant.
    if !takes("--bench") {
        return;
    }
    let is_apart = takes("apart");
    let host = takes("ssh").then(Sshd::start);
    if let Some(host) = &host {
        let Some(host) = host else {
            println!("skipped: there is no sshd");
            return;
        };
        args.extend(host.args());
    }
    let Some(newest) = program() else {
        println!("skipped: there is no redis-server; scripts/servers.sh gets one, or install it");
        return;
    };
    let scale = env::var("UNDERSTUDY_BENCH_SCALE").map_or(0.1, |scale| scale.parse().unwrap());
    let target = Server::start(&newest);
    let mut blast = Duration::ZERO;
    let sources: Vec<Server> = (0..SOURCES)
        .map(|number| {
            let version = VERSIONS[number % VERSIONS.len()];
            let source = Server::start(&cached(version).unwrap_or_else(|| newest.clone()));
            let commands = keys_of(number, share(number, KEYS * scale));
            source.blast(&commands);
            blast += target.blast(&commands);
            source
        })
        .collect();
    let wanted = sources.iter().fold([0; 20], |sum, source| xor(sum, &source.digest()));
    assert_eq!(xor([0; 20], &target.digest()), wanted, "the digest of all data");
    let keys = target.client().call(cmd!("DBSIZE")).int();
    println!(
        "{SOURCES} sources, {keys} keys; a blast of all commands took {:.2} s",
        blast.as_secs_f64()
    );

    target.empty();
    let all: Vec<&Server> = sources.iter().collect();
    let busy = target.busy();
    let (took, spent) = run(&all, &target, &args);
    let busy = target.busy().saturating_sub(busy);
    assert_eq!(xor([0; 20], &target.digest()), wanted, "the digest of the target");
    println!(
        "together: {:.2} s, {:.0} keys/s, {:.2} CPU s, {} MiB at the most; {:.2} of a blast; the target was busy for {:.2} s",
        took.as_secs_f64(),
        per_second(keys, took),
        spent.cpu.as_secs_f64(),
        spent.memory >> 20,
        took.as_secs_f64() / blast.as_secs_f64(),
        busy.as_secs_f64(),
    );
    if is_apart {
        apart(&sources, &target, &args, (keys, took));
    }
}

/// Runs with one source each, one after the other.
fn apart(sources: &[Server], target: &Server, args: &[String], (keys, together): (i64, Duration)) {
    let mut sum = Duration::ZERO;
    let mut rates = Vec::new();
    for source in sources {
        target.empty();
        let (took, _) = run(&[source], target, args);
        sum += took;
        rates.push(per_second(source.client().call(cmd!("DBSIZE")).int(), took));
    }
    println!("apart: {:.2} s in all", sum.as_secs_f64());
    // What goes into a target that holds little yet goes faster.
    let best = rates.iter().copied().fold(0.0, f64::max);
    for (name, rate) in [("best", best), ("largest", rates[0])] {
        let ideal = f64::from(u32::try_from(keys).unwrap()) / rate;
        println!(
            "at the rate of the {name}, {rate:.0} keys/s, all would take {ideal:.2} s, of which together took {:.2}",
            together.as_secs_f64() / ideal,
        );
    }
}

/// How many of all keys this source holds: the first a half, the others unevenly the rest.
fn share(number: usize, all: f64) -> u32 {
    let part = |number: usize| 1.0 / (1.0 + f64::from(u32::try_from(number).unwrap()));
    let others: f64 = (1..SOURCES).map(part).sum();
    let share = if number == 0 { 0.5 } else { 0.5 * part(number) / others };
    let share = Duration::from_secs_f64(all * share);
    u32::try_from(share.as_secs()).unwrap().max(10)
}

/// What makes these many keys: mostly short strings, some hashes and lists, in words that every version knows.
fn keys_of(source: usize, count: u32) -> Commands {
    let mut commands = Commands { bytes: Vec::new(), count: 0 };
    for n in 0..count {
        let key = format!("source-{source}:key:{n}");
        let value = format!("{n:064}");
        commands.push(&match n % 10 {
            0 => cmd!("HMSET", key, "name", value, "count", n, "kind", "some"),
            1 => cmd!("RPUSH", key, value, n, n + 1, n + 2),
            _ => cmd!("SET", key, value),
        });
    }
    commands
}

/// One whole run, from the start of the tool to its end.
fn run(sources: &[&Server], target: &Server, args: &[String]) -> (Duration, Cost) {
    let from = sources.iter().flat_map(|source| ["--from".to_owned(), source.url()]);
    let fixed = ["sync", "--once", "--progress", "none", "--to", &target.url()].map(str::to_owned);
    let begun = Instant::now();
    let (cost, _) = Tool::start(fixed.into_iter().chain(from).chain(args.to_vec())).end(0);
    (begun.elapsed(), cost)
}

/// Digests of data in one database each: all begin alike, and each key is put on by exclusive or (`computeDatasetDigest` in Redis's
/// `debug.c`).
fn xor(mut sum: [u8; 20], digest: &str) -> [u8; 20] {
    let byte = |at: usize| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap();
    sum.iter_mut().enumerate().for_each(|(at, sum)| *sum ^= byte(at));
    sum
}

fn per_second(keys: i64, took: Duration) -> f64 {
    f64::from(u32::try_from(keys).unwrap()) / took.as_secs_f64()
}
