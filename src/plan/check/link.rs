//! How far away a server is, and how much goes through.

use std::time::Duration;

use crate::plan::spool::{Forecast, size};

use super::{At, Finding, Kind, Side};

/// A round trip that shows in how fast single changes arrive.
const FAR: Duration = Duration::from_millis(20);

/// A copy that takes so long is told, and one that takes so long may not fit into a night.
const LONG: u64 = 600;
const TOO_LONG: u64 = 4 * 3600;

pub(super) fn look(at: &At<'_>, found: &mut Vec<Finding>) {
    if let Some(trip) = at.seen.round_trip.filter(|trip| *trip >= FAR) {
        found.push(at.note(
            Kind::SlowLink,
            format!(
                "a round trip takes {} ms: each change arrives so much later",
                trip.as_millis()
            ),
            "run this closer to it, best on the target's side",
        ));
    }
    if at.side != Side::Source {
        return;
    }
    let Some(rate) = at.seen.rate.filter(|rate| *rate < Forecast::FASTEST) else { return };
    let bytes = at.facts.used_memory;
    let seconds = bytes / rate.max(1);
    if seconds < LONG {
        return;
    }
    let evidence = format!(
        "{} in its memory at {} a second, which came from there just now, are {} min of copying",
        size(bytes),
        size(rate),
        seconds / 60
    );
    let mend = "run this on a machine that is closer to it, or plan for so long";
    found.push(match seconds < TOO_LONG {
        true => at.note(Kind::SlowLink, evidence, mend),
        false => at.warning(Kind::SlowLink, evidence, mend),
    });
}
