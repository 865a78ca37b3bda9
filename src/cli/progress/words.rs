//! A reading in words, and as JSON. Pure.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use understudy::progress::Phase;

use super::reading::Reading;

/// What is left of a line when its name is cut off: the phase and the numbers that matter in it.
pub(super) fn words(now: &Reading) -> String {
    joined(&parts(now))
}

/// The same in so many columns: where they are too few, what matters least is left out. What goes on always stays.
pub(super) fn words_within(now: &Reading, columns: usize) -> String {
    let mut parts = parts(now);
    while joined(&parts).len() > columns
        && let Some(least) = (1..parts.len()).max_by_key(|&at| parts.get(at).map(|part| part.0))
    {
        parts.remove(least);
    }
    joined(&parts)
}

fn joined(parts: &[(Rank, String)]) -> String {
    parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("  ")
}

/// How much a part of the line matters, the most first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Doing,
    Percent,
    Lag,
    Eta,
    Done,
    Rate,
    Bytes,
    InFlight,
    Spooled,
}

fn parts(now: &Reading) -> Vec<(Rank, String)> {
    let mut parts = vec![(Rank::Doing, now.doing().to_owned())];
    // Where no number grows, the time shows that somebody is still at it.
    if now.lasting.as_secs() > 0
        && (now.awaited.is_some() || now.phase == Phase::Connecting)
        && !now.phase.is_end()
    {
        parts.push((Rank::Percent, duration(now.lasting)));
    }
    if let (Phase::Copying | Phase::Counting, Some(percent)) = (now.phase, now.percent) {
        let about = if now.estimated { "~" } else { "" };
        parts.push((Rank::Percent, format!("{about}{percent:.0} %")));
    }
    if now.phase >= Phase::Copying {
        parts.push((Rank::Done, format!("{} keys", grouped(now.keys))));
    }
    match now.phase {
        Phase::Copying | Phase::Counting => {
            parts.push((Rank::Rate, format!("{} keys/s", rounded(now.keys_per_s))));
        }
        Phase::CatchingUp | Phase::Following => {
            parts.push((Rank::Done, format!("{} commands", grouped(now.commands))));
            parts.push((Rank::Rate, format!("{} commands/s", rounded(now.commands_per_s))));
        }
        Phase::Finishing
        | Phase::Settled
        | Phase::Watching
        | Phase::Failed
        | Phase::Refused
        | Phase::Stopped
        | Phase::Done => {
            parts.push((Rank::Done, format!("{} commands", grouped(now.commands))));
        }
        Phase::Waiting | Phase::Connecting => {}
    }
    if (Phase::Copying..=Phase::Following).contains(&now.phase) {
        parts.push((Rank::Bytes, format!("{}/s", size(now.bytes_per_s))));
    }
    if let Some(lag) = now.lag_bytes.filter(|_| !now.phase.is_end()) {
        let seconds = now.lag_seconds.map_or_else(String::new, |s| format!(" ({s:.1} s)"));
        parts.push((Rank::Lag, format!("lag {}{seconds}", size(as_f64(lag)))));
    }
    if now.in_flight > 0 && !now.phase.is_end() {
        parts.push((Rank::InFlight, format!("in flight {}", size(as_f64(now.in_flight)))));
    }
    if now.spooled > 0 && !now.phase.is_end() {
        parts.push((Rank::Spooled, format!("spooled {}", size(as_f64(now.spooled)))));
    }
    if let Some(eta) = now.eta {
        parts.push((Rank::Eta, format!("ETA {}", duration(eta))));
    }
    parts
}

/// One line for a log.
pub(super) fn line(name: &str, now: &Reading) -> String {
    format!("{name}  {}", words(now))
}

/// One JSON object; `None` names all sources together. What is not known is null.
pub(super) fn json(name: Option<&str>, elapsed: Duration, now: &Reading) -> Value {
    json!({
        "source": name,
        "elapsed_seconds": tenths(elapsed.as_secs_f64()),
        "phase": now.doing(),
        "percent": now.percent.map(tenths),
        "percent_estimated": now.estimated,
        "keys": now.keys,
        "commands": now.commands,
        "keys_per_s": tenths(now.keys_per_s),
        "commands_per_s": tenths(now.commands_per_s),
        "bytes_per_s": tenths(now.bytes_per_s),
        "lag_bytes": now.lag_bytes,
        "lag_seconds": now.lag_seconds.map(tenths),
        "in_flight_bytes": now.in_flight,
        "spooled_bytes": now.spooled,
        "eta_seconds": now.eta.map(|eta| eta.as_secs()),
    })
}

/// A number of bytes: kB is 1000.
pub(in crate::cli) fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" {
                format!("{value:.0} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// So many seconds as a duration; under ten with a tenth.
pub(in crate::cli) fn span(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    Duration::try_from_secs_f64(seconds + 0.5).map_or_else(|_| "for ever".to_owned(), duration)
}

/// A duration with its two greatest units.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (..48, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// A number with its thousands apart.
pub(in crate::cli) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn rounded(number: f64) -> String {
    // Whole seconds carry any number that fits a screen, without a cast.
    Duration::try_from_secs_f64(number + 0.5)
        .map_or_else(|_| "-".to_owned(), |whole| grouped(whole.as_secs()))
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "numbers on a screen have five digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use understudy::progress::Awaited;

    use super::*;

    fn copying() -> Reading {
        Reading {
            phase: Phase::Copying,
            percent: Some(41.7),
            keys: 1_234_567,
            keys_per_s: 200_000.4,
            bytes_per_s: 12_345_678.0,
            in_flight: 1_500_000,
            eta: Some(Duration::from_secs(75)),
            ..Reading::default()
        }
    }

    #[test]
    fn a_copy_in_words() {
        assert_eq!(
            line("old:6379", &copying()),
            "old:6379  copying  42 %  1,234,567 keys  200,000 keys/s  12.3 MB/s  in flight 1.5 MB  ETA 1m15s"
        );
        let estimated = Reading { estimated: true, ..copying() };
        assert!(words(&estimated).starts_with("copying  ~42 %"));
    }

    #[test]
    fn a_copy_in_few_columns() {
        let within = |columns| words_within(&copying(), columns);
        assert_eq!(within(200), words(&copying()));
        assert_eq!(within(58), "copying  42 %  1,234,567 keys  200,000 keys/s  ETA 1m15s");
        assert_eq!(within(30), "copying  42 %  ETA 1m15s");
        assert_eq!(within(3), "copying");
    }

    #[test]
    fn a_side_that_is_waited_for_goes_before_the_phase() {
        let following = Reading { phase: Phase::Following, ..Reading::default() };
        let waiting = Reading { awaited: Some(Awaited::Source), ..following };
        let waiting = Reading { lasting: Duration::from_secs(61), ..waiting };
        assert!(words(&waiting).starts_with("waiting for source  1m01s  0 keys"));
        assert_eq!(json(None, Duration::ZERO, &waiting)["phase"], "waiting for source");
        let failed = Reading { phase: Phase::Failed, ..waiting };
        assert_eq!(words(&failed), "failed  0 keys  0 commands");
    }

    #[test]
    fn a_stream_in_words() {
        let following = Reading {
            phase: Phase::Following,
            percent: Some(100.0),
            keys: 7,
            commands: 1000,
            commands_per_s: 49.6,
            bytes_per_s: 999.0,
            lag_bytes: Some(2048),
            lag_seconds: Some(0.25),
            ..Reading::default()
        };
        assert_eq!(
            words(&following),
            "following  7 keys  1,000 commands  50 commands/s  999 B/s  lag 2.0 kB (0.2 s)"
        );
        let silent = Reading { lag_seconds: None, ..following };
        assert!(words(&silent).ends_with("lag 2.0 kB"));
        let connecting = Reading { phase: Phase::Connecting, ..Reading::default() };
        assert_eq!(words(&connecting), "connecting");
        let done = Reading { phase: Phase::Done, keys: 7, commands: 2, ..Reading::default() };
        assert_eq!(words(&done), "done  7 keys  2 commands");
    }

    #[test]
    fn as_json() {
        let elapsed = Duration::from_millis(1260);
        let value = json(Some("old:6379"), elapsed, &copying());
        assert_eq!(
            value.to_string(),
            r#"{"bytes_per_s":12345678.0,"commands":0,"commands_per_s":0.0,"elapsed_seconds":1.3,"eta_seconds":75,"in_flight_bytes":1500000,"keys":1234567,"keys_per_s":200000.4,"lag_bytes":null,"lag_seconds":null,"percent":41.7,"percent_estimated":false,"phase":"copying","source":"old:6379","spooled_bytes":0}"#
        );
        assert_eq!(json(None, elapsed, &copying())["source"], Value::Null);
    }

    #[test]
    fn units() {
        let sizes = [0.0, 999.0, 1000.0, 999_949.0, 999_999.0, 5e9, 7.25e12].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.0 MB", "1.0 MB", "5.0 GB", "7.2 TB"]);
        let times =
            [0, 59, 60, 3599, 3600, 86_400, 200_000].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(times, ["0 s", "59 s", "1m00s", "59m59s", "1h00m", "24h00m", "2 d 7 h"]);
        assert_eq!([0, 999, 1000, 1_000_000].map(grouped), ["0", "999", "1,000", "1,000,000"]);
    }
}
