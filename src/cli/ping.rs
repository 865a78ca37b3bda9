//! `ping`: round-trip times.

use std::time::Duration;

use comfy_table::CellAlignment;
use comfy_table::Table;
use comfy_table::presets;
use serde_json::json;
use understudy::flow::chain;
use understudy::net::Net;
use understudy::net::round_trips;
use understudy::plan::Side;

use super::args::Ping;
use super::intent;
use super::notice;
use super::outcome::Outcome;
use super::outcome::refused;
use super::terminal;

/// What was measured of one server.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    p50: Duration,
    p99: Duration,
    max: Duration,
}

/// Runs `ping` to its end. The servers are asked one after the other.
pub(crate) async fn run(args: &Ping) -> Outcome {
    let servers = match intent::servers(args) {
        Ok(servers) => servers,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    let net = Net::system();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["server", "pings", "p50 ms", "p99 ms", "max ms"]);
    for index in 1..5 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut outcome = Outcome::Done;
    let mut answered = false;
    for server in servers {
        let name = server.to_string();
        let trips = match round_trips(&net, &server, args.count).await {
            Ok(trips) => trips,
            Err(error) => {
                notice::error(&format!("{name}: {}", chain(&error)), &error.advice(Side::Pinged));
                outcome = Outcome::Refused;
                continue;
            }
        };
        let Some(times) = times(trips) else { continue };
        answered = true;
        if args.json {
            let line = json!({
                "server": name,
                "pings": args.count,
                "p50_us": micros(times.p50),
                "p99_us": micros(times.p99),
                "max_us": micros(times.max),
            });
            terminal::result(&format!("{line}\n"));
        } else {
            let cells = [millis(times.p50), millis(times.p99), millis(times.max)];
            table.add_row([vec![name, args.count.to_string()], cells.to_vec()].concat());
        }
    }
    if answered && !args.json {
        terminal::result(&format!("{table}\n"));
    }
    outcome
}

/// `None` of no measurement.
fn times(mut all: Vec<Duration>) -> Option<Times> {
    all.sort_unstable();
    // The least time that so many in a hundred do not exceed.
    let percentile = |percent: usize| {
        let rank = (all.len() * percent).div_ceil(100).max(1);
        all.get(rank - 1).copied()
    };
    Some(Times { p50: percentile(50)?, p99: percentile(99)?, max: percentile(100)? })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(numbers: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        numbers.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_measured_times() {
        let hundred = times(ms((1..=100).rev())).unwrap();
        let [p50, p99, max] = [50, 99, 100].map(Duration::from_millis);
        assert_eq!(hundred, Times { p50, p99, max });
        let [p50, max] = [1, 2].map(Duration::from_millis);
        assert_eq!(times(ms([2, 1])), Some(Times { p50, p99: max, max }));
        assert_eq!(times(Vec::new()), None);
    }
}
