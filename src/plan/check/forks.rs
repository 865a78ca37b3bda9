//! A master that saves for us: whether it can, what that costs it, and what it keeps for us meanwhile.

use crate::plan::spool::{Forecast, size};
use crate::server::{Flavour, Version};

use super::{At, Finding, Kind};

pub(super) fn look(at: &At<'_>, found: &mut Vec<Finding>) {
    method(at, found);
    running(at, found);
    untried(at, found);
    memory(at, found);
    pause(at, found);
    backlog(at, found);
    timeout(at, found);
}

/// Masters before have no `PSYNC`.
const PSYNC: Version = Version(2, 8, 0);

fn method(at: &At<'_>, found: &mut Vec<Finding>) {
    let lacks = |name| at.seen.unknown.contains(&name);
    if let Some(server) =
        at.facts.server.filter(|server| server.flavour == Flavour::Redis && server.version < PSYNC)
    {
        found.push(at.warning(
            Kind::NoPsync,
            format!("{server} has no PSYNC: every lost link costs a new copy, and each key that must be read again too"),
            "run this close to it, over a link that holds",
        ));
    } else if lacks("PSYNC") && lacks("SYNC") {
        found.push(at.blocks(
            Kind::NoPsync,
            "it knows neither PSYNC nor SYNC: they are renamed, or its provider has taken them away",
            crate::repl::NO_SYNC,
        ));
    } else if lacks("PSYNC")
        && !found.iter().any(|one| one.kind == Kind::NoPsync && one.place == at.name)
    {
        found.push(at.warning(
            Kind::NoPsync,
            "it does not know PSYNC and is read with SYNC: a lost link costs a new copy",
            "take rename-command psync out of its configuration and start it again, if links here do not hold",
        ));
    }
}

/// Whether a `BGSAVE` that fails makes the master refuse its clients' writes. Who does not tell may.
fn stops_writes(at: &At<'_>) -> bool {
    let settings = &at.seen.settings;
    settings.get("stop-writes-on-bgsave-error") != Some("no") && settings.get("save") != Some("")
}

fn running(at: &At<'_>, found: &mut Vec<Finding>) {
    let is = |name| at.seen.info.field(name) == Some("1");
    let what = match (
        is("rdb_bgsave_in_progress") || is("bgsave_in_progress"),
        is("aof_rewrite_in_progress"),
    ) {
        (true, _) => "saves its data set just now (rdb_bgsave_in_progress)",
        (_, true) => "rewrites its append-only file just now (aof_rewrite_in_progress)",
        _ => return,
    };
    found.push(at.blocks(
        Kind::BgsaveRunning,
        format!("it {what}: a copy waits for that to end, and a second fork takes memory again"),
        "wait until INFO persistence says that none is in progress, then check again",
    ));
}

/// A save that was never tried may fail, and then what is said of one that has failed holds.
fn untried(at: &At<'_>, found: &mut Vec<Finding>) {
    let has_saved = at.seen.info.field("rdb_last_bgsave_time_sec") != Some("-1");
    let is_told = at.seen.settings.get("save").is_some();
    if has_saved || !is_told || !stops_writes(at) {
        return;
    }
    found.push(at.note(
        Kind::BgsaveFailed,
        "it has not saved its data set since it was started, and a save that fails makes it refuse its clients' writes (stop-writes-on-bgsave-error): that it can is not known",
        "run BGSAVE there at a quiet hour, and see that rdb_last_bgsave_status is ok in INFO persistence",
    ));
}

fn memory(at: &At<'_>, found: &mut Vec<Finding>) {
    let info = &at.seen.info;
    let (Some(total), Some(resident)) =
        (info.number("total_system_memory"), info.number("used_memory_rss"))
    else {
        return;
    };
    let forecast = Forecast::of(at.facts, at.plan);
    let seconds = forecast.sending().as_secs();
    let written = at.facts.write_rate.saturating_mul(seconds.max(1));
    let copied = written.min(at.facts.used_memory);
    let free = total.saturating_sub(resident);
    if copied <= free {
        return;
    }
    let evidence = format!(
        "while it saves, pages that are written are held twice: {} a second for {} s, at most all of its {}, are {}; its machine has {}, and {} of that are taken by it alone",
        size(at.facts.write_rate),
        seconds.max(1),
        size(at.facts.used_memory),
        size(copied),
        size(total),
        size(resident)
    );
    found.push(match stops_writes(at) {
        true => at.blocks(
            Kind::ForkMemory,
            format!("{evidence}; a BGSAVE that fails makes it refuse its clients' writes (stop-writes-on-bgsave-error)"),
            "copy from a replica of it, or when less is written; or CONFIG SET stop-writes-on-bgsave-error no there until the copy is over",
        ),
        false => at.warning(
            Kind::ForkMemory,
            evidence,
            "copy from a replica of it, or when less is written",
        ),
    });
}

/// So long a fork holds up all clients of a master that it is told, in microseconds.
const PAUSE: u64 = 250_000;

fn pause(at: &At<'_>, found: &mut Vec<Finding>) {
    let Some(micros) = at.seen.info.number("latest_fork_usec").filter(|us| *us >= PAUSE) else {
        return;
    };
    found.push(at.warning(
        Kind::ForkPause,
        format!("its last fork held up all of its clients for {} ms (latest_fork_usec), and a copy forks once", micros / 1000),
        "copy when such a pause does no harm, or from a replica of it",
    ));
}

/// A link that is lost for less should not cost a copy, in seconds.
const OUTAGE: u64 = 60;

fn backlog(at: &At<'_>, found: &mut Vec<Finding>) {
    let told = at.seen.info.number("repl_backlog_size");
    let Some(bytes) = told.or_else(|| at.seen.settings.number("repl-backlog-size")) else { return };
    let rate = at.facts.write_rate;
    if rate == 0 {
        return;
    }
    let lasts = bytes / rate;
    if lasts >= OUTAGE {
        return;
    }
    // Ten minutes, in whole MiB.
    let enough = rate.saturating_mul(600).div_ceil(1 << 20) << 20;
    found.push(at.warning(
        Kind::Backlog,
        format!(
            "its repl-backlog-size of {} holds {lasts} s of what is written to it ({} a second): a link that is lost for longer costs a new copy of about {} s",
            size(bytes),
            size(rate),
            Forecast::of(at.facts, at.plan).lasting().as_secs()
        ),
        format!("on the source, for ten minutes: CONFIG SET repl-backlog-size {enough}"),
    ));
}

/// We acknowledge every second; a machine that stalls for less than this is still no lost replica.
const SILENCE: u64 = 10;

fn timeout(at: &At<'_>, found: &mut Vec<Finding>) {
    let Some(seconds) = at.seen.settings.number("repl-timeout").filter(|s| *s < SILENCE) else {
        return;
    };
    found.push(at.warning(
        Kind::ReplTimeout,
        format!("it drops a replica that is silent for {seconds} s (repl-timeout), and a network that stalls for so long is not rare"),
        "on the source: CONFIG SET repl-timeout 60",
    ));
}
