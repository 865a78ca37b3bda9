//! Whether a target has room for what comes, and takes it.

use crate::plan::spool::size;
use crate::server::{Flavour, Version};

use super::{At, Facts, Finding, Kind, Place, Seen, Sight, is_whole};

pub(super) fn look(at: &At<'_>, facts: &Facts, sight: &Sight, found: &mut Vec<Finding>) {
    memory(at, facts, sight, found);
    refuses(at, found);
    half_transactions(at, found);
    bulk_length(at, sight, found);
}

/// What of a limit may be full before it is told, in hundredths.
const NEARLY: u64 = 80;

fn memory(at: &At<'_>, facts: &Facts, sight: &Sight, found: &mut Vec<Finding>) {
    // What a job has brought is there already.
    if facts.goes_on() {
        return;
    }
    let machine = at.facts.system_memory.map(|bytes| (bytes, "the memory of its machine"));
    let own = at.facts.max_memory.filter(|bytes| *bytes > 0).map(|bytes| (bytes, "maxmemory"));
    let Some((limit, name)) = own.into_iter().chain(machine).min_by_key(|(bytes, _)| *bytes) else {
        return;
    };
    let data = |(facts, seen): (&super::ServerFacts, Option<&Seen>)| {
        let told = seen.and_then(|seen| seen.info.number("used_memory_dataset"));
        told.unwrap_or(facts.used_memory)
    };
    let sources = facts.sources.iter().zip(&sight.sources);
    let comes: u64 = sources
        .clone()
        .filter_map(|(facts, seen)| Some(data((facts.as_ref()?, seen.as_ref()))))
        .fold(0, u64::saturating_add);
    let largest = sources
        .filter_map(|(_, seen)| seen.as_ref()?.sample.as_ref()?.largest.as_ref())
        .map(|large| large.bytes.number())
        .max()
        .unwrap_or(0);
    let need = at.facts.used_memory.saturating_add(comes).saturating_add(largest);
    if need <= limit / 100 * NEARLY {
        return;
    }
    let evidence = format!(
        "it holds {} now, {} come (used_memory_dataset of the sources), and the largest value that was seen, {}, is there twice for a moment: {} of {} ({name})",
        size(at.facts.used_memory),
        size(comes),
        size(largest),
        size(need),
        size(limit)
    );
    let mend = format!(
        "give it {} or more, or leave something out (--only-db, --exclude); exactly: understudy sync … --dry-run --census",
        size(need / 4 * 5)
    );
    // What is left out, and what takes the place of something, nobody knows.
    let is_sure = at.plan.sources.iter().all(is_whole) && at.facts.keys_that(at.plan) == 0;
    found.push(match need > limit && is_sure {
        true => at.blocks(Kind::TargetMemory, evidence, mend),
        false => at.warning(Kind::TargetMemory, evidence, mend),
    });
}

fn refuses(at: &At<'_>, found: &mut Vec<Finding>) {
    let (info, settings) = (&at.seen.info, &at.seen.settings);
    let is_unsaved = info.field("rdb_last_bgsave_status") == Some("err")
        && settings.get("stop-writes-on-bgsave-error") != Some("no")
        && settings.get("save") != Some("");
    if is_unsaved || info.field("aof_last_write_status") == Some("err") {
        found.push(at.blocks(
            Kind::RefusesWrites,
            "it refuses all writes (MISCONF): it could not save its data (rdb_last_bgsave_status, aof_last_write_status)",
            "make room on its disk and run BGSAVE there, or CONFIG SET stop-writes-on-bgsave-error no",
        ));
    }
    let wanted = settings.either("min-replicas-to-write", "min-slaves-to-write").unwrap_or(0);
    let good = info.number("min_slaves_good_slaves").unwrap_or(0);
    if wanted > good {
        found.push(at.blocks(
            Kind::RefusesWrites,
            format!(
                "it takes writes only with {wanted} replicas (min-replicas-to-write) and has {good}"
            ),
            "attach them; or CONFIG SET min-replicas-to-write 0 there until the job is over",
        ));
    }
}

/// Older servers may keep half of a transaction.
const WHOLE: Version = Version(4, 0, 0);

fn half_transactions(at: &At<'_>, found: &mut Vec<Finding>) {
    let Some(server) = at.facts.server else { return };
    if server.flavour == Flavour::Redis
        && server.version < WHOLE
        && at.seen.info.field("aof_enabled") == Some("1")
    {
        found.push(at.warning(
            Kind::HalfTransactions,
            format!("{server} with an append-only file may keep half of its last transaction when it crashes: what the job then repeats may count twice"),
            "take a target of 4.0 or later; or CONFIG SET appendonly no until the job is over; after a crash: sync --restart",
        ));
    }
}

/// What a server takes of one string unless told otherwise.
const USUAL: u64 = 512 << 20;

fn bulk_length(at: &At<'_>, sight: &Sight, found: &mut Vec<Finding>) {
    let Some(most) = at.seen.settings.number("proto-max-bulk-len") else { return };
    for (source, seen) in at.plan.sources.iter().zip(&sight.sources) {
        let Some(seen) = seen.as_ref().filter(|_| matches!(source.place, Place::Server(_))) else {
            continue;
        };
        let longest = seen.sample.as_ref().map_or(0, |sample| sample.longest);
        let mend = format!("CONFIG SET proto-max-bulk-len {} on the target", longest.max(USUAL));
        if longest > most {
            found.push(at.blocks(
                Kind::BulkLength,
                format!(
                    "it takes strings of {} (proto-max-bulk-len), and {} holds one of {}",
                    size(most),
                    source.name,
                    size(longest)
                ),
                mend,
            ));
        } else if seen.settings.number("proto-max-bulk-len").unwrap_or(USUAL) > most {
            found.push(at.warning(
                Kind::BulkLength,
                format!(
                    "it takes strings of {} (proto-max-bulk-len), {} takes longer ones; the longest that was seen there has {}",
                    size(most),
                    source.name,
                    size(longest)
                ),
                mend,
            ));
        }
    }
}
