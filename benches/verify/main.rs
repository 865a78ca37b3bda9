//! A comparison of two real servers, beside the copy that it compares and beside what scripts do: near by, and with a way of 20 ms there and back.
//!
//! ```text
//! cargo bench --bench verify                           a tenth of two million keys
//! UNDERSTUDY_BENCH_SCALE=1 cargo bench --bench verify  all of them
//! cargo bench --bench verify -- 20ms                   one way, of loopback and 20ms
//! ```
//!
//! What counts is the ratio to the copy within one run: it shall not be over 1.5. Both servers, the tool and what delays stand on one machine and share its
//! cores. Where a comparison finds a difference, or takes more memory than it was given, the bench fails.

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
#[expect(dead_code, reason = "the other bench writes to a stream too")]
mod data;
#[path = "../../tests/integration/dice.rs"]
mod dice;
#[path = "../../tests/integration/far.rs"]
mod far;
#[path = "../sync/figures.rs"]
mod figures;
#[path = "../sync/servers.rs"]
#[expect(dead_code, reason = "the other bench asks more of it")]
mod servers;
#[path = "../sync/tool.rs"]
#[expect(dead_code, reason = "the other bench asks more of it")]
mod tool;

use std::env;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table};

use crate::client::{Client, cmd};
use crate::data::SETS;
use crate::dice::Dice;
use crate::far::away;
use crate::figures::{median, ratio, seconds, table};
use crate::servers::{Cost, Server, program};
use crate::tool::Tool;

/// Each figure is the median of so many.
const ROUNDS: usize = 3;

/// What a comparison may take of the time of the copy.
const MOST: f64 = 1.5;

/// What the tool is given, and in bytes.
const MEMORY: (&str, u64) = ("128MiB", 128 << 20);

/// How far the servers are.
struct Way {
    name: &'static str,
    /// How long every byte is held back; `None`: nothing stands between.
    delay: Option<Duration>,
    /// So many keys are read as scripts do it. All would take hours.
    by_hand: u32,
}

const WAYS: [Way; 2] = [
    Way { name: "loopback", delay: None, by_hand: 20_000 },
    Way { name: "20ms", delay: Some(Duration::from_millis(10)), by_hand: 200 },
];

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
    let (source, target) = (Server::start(&program), Server::start(&program));
    source.blast(&(SETS[0].make)(&mut Dice::new(1), scale));
    println!(
        "{}, {ROUNDS} rounds, {} times {scale}, --memory {}",
        program.display(),
        SETS[0].shape,
        MEMORY.0
    );
    let header = ["way", "what", "s", "to the copy", "CPU s", "peak MiB", "how it was read"];
    let mut table = table(header);
    for text in [1, 6] {
        table.column_mut(text).unwrap().set_cell_alignment(CellAlignment::Left);
    }
    for way in &WAYS {
        if chosen.is_empty() || chosen.iter().any(|arg| *arg == way.name) {
            measure(&source, &target, way, &mut table);
        }
    }
    println!("{table}");
}

/// Measures all over one way: its rows.
fn measure(source: &Server, target: &Server, way: &Way, table: &mut Table) {
    let ports = [source.port, target.port];
    let ports = way.delay.map_or(ports, |delay| ports.map(|port| away(port, delay)));
    let (mut copies, mut comparisons, mut by_hand) =
        (Vec::new(), [(); 2].map(|()| Vec::new()), Vec::new());
    let mut read = [(); 2].map(|()| String::new());
    for _ in 0..ROUNDS {
        target.empty();
        copies.push(run(ports, &["sync", "--once", "--progress", "none"]).0);
        for (at, by) in ["auto", "replication"].into_iter().enumerate() {
            let (ran, said) = run(ports, &["verify", "--by", by, "--progress", "plain"]);
            let bytes = ran.1.memory;
            assert!(bytes <= MEMORY.1, "{}, --by {by}: {bytes} bytes of memory", way.name);
            read[at] = how(&said);
            comparisons[at].push(ran);
        }
        by_hand.push(as_scripts_do(ports, way.by_hand));
    }
    let copy = median(copies, |(took, _)| *took);
    let mut row = |what: &str, (took, cost): (Duration, Option<Cost>), limit: f64, read: &str| {
        let to_copy = took.as_secs_f64() / copy.0.as_secs_f64();
        let over = if to_copy > limit { format!(", over {limit}") } else { String::new() };
        table.add_row([
            way.name.to_owned(),
            what.to_owned(),
            seconds(took),
            format!("{}{over}", ratio(took.as_secs_f64(), copy.0.as_secs_f64())),
            cost.map_or_else(String::new, |cost| seconds(cost.cpu)),
            cost.map_or_else(String::new, |cost| (cost.memory >> 20).to_string()),
            read.to_owned(),
        ]);
    };
    row("sync --once", (copy.0, Some(copy.1)), f64::MAX, "");
    for ((what, all), read) in
        ["verify", "verify --by replication"].iter().zip(comparisons).zip(&read)
    {
        let (took, cost) = median(all, |(took, _)| *took);
        row(what, (took, Some(cost)), MOST, read);
    }
    let read = format!("SCAN, and DUMP by DUMP of both sides; reckoned from {} keys", way.by_hand);
    row("as scripts do", (median(by_hand, |&took| took), None), f64::MAX, &read);
}

/// One whole run, from the start of the tool to its end, and what it has said.
fn run(ports: [u16; 2], args: &[&str]) -> ((Duration, Cost), String) {
    let [from, to] = ports.map(|port| format!("redis://127.0.0.1:{port}"));
    let places = ["--from", &from, "--to", &to, "--memory", MEMORY.0];
    let begun = Instant::now();
    let (cost, said) = Tool::start([args, &places].concat()).end(0);
    ((begun.elapsed(), cost), said)
}

/// How a comparison says that it has read both sides.
fn how(said: &str) -> String {
    let told = said.lines().find_map(|line| line.split_once("read: ")?.1.rsplit_once(", in "));
    told.unwrap_or_else(|| panic!("it does not tell how it has read: {said}")).0.to_owned()
}

/// How long it takes to ask for all names, and for every value on both sides, one question after the other: reckoned from so many keys.
fn as_scripts_do(ports: [u16; 2], keys: u32) -> Duration {
    let [mut source, mut target] = ports.map(Client::connect);
    let all = f64::from(u32::try_from(source.call(cmd!("DBSIZE")).int()).unwrap());
    let (mut names, mut cursor) = (Vec::new(), b"0".to_vec());
    let begun = Instant::now();
    while names.len() < usize::try_from(keys).unwrap() {
        let reply = source.call(cmd!("SCAN", cursor, "COUNT", 1000));
        let [next, page] = reply.array() else { panic!("SCAN answers {reply:?}") };
        names.extend(page.strings());
        cursor = next.bytes().to_vec();
        if cursor == b"0" {
            break;
        }
    }
    let a_name = begun.elapsed().as_secs_f64() / f64::from(u32::try_from(names.len()).unwrap());
    names.truncate(usize::try_from(keys).unwrap());
    let begun = Instant::now();
    for name in &names {
        let [one, other] = [&mut source, &mut target].map(|side| side.call(cmd!("DUMP", name)));
        assert_eq!(one, other, "{}", name.escape_ascii());
    }
    let a_value = begun.elapsed().as_secs_f64() / f64::from(u32::try_from(names.len()).unwrap());
    Duration::from_secs_f64(all * (a_name + a_value))
}
