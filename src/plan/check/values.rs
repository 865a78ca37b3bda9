//! What a source holds that its target cannot take, or that is hard to bring.

use crate::key::Escaped;
use crate::plan::spool::size;
use crate::rdb::opcode::ValueType;
use crate::server::{Server, Version};

use super::{At, Finding, Kind, Module, Seen, ServerFacts, Source, format_name};

pub(super) fn look(
    at: &At<'_>,
    source: &Source,
    target: Option<(&ServerFacts, &Seen)>,
    found: &mut Vec<Finding>,
) {
    big(at, found);
    scripts(at, found);
    let Some((facts, seen)) = target else { return };
    if facts.cluster {
        cross_slot(at, found);
    }
    modules(at, source, seen, found);
    let (Some(from), Some(to)) = (at.facts.server, facts.server) else { return };
    version(at, from, to, found);
    functions(at, to, found);
    types(at, source, to, found);
}

fn version(at: &At<'_>, from: Server, to: Server, found: &mut Vec<Finding>) {
    let (ours, theirs) = (from.rdb_format(), to.rdb_format());
    if ours.family == theirs.family && ours.version <= theirs.version {
        return;
    }
    found.push(at.note(
        Kind::Version,
        format!("{from} writes {}, and the target, {to}, reads {}: values are written anew in a form that it reads",
            format_name(ours),
            format_name(theirs)),
        "nothing need be done; what it cannot hold is told by itself",
    ));
}

/// How a sample is told of.
fn among(at: &At<'_>) -> String {
    match &at.seen.sample {
        Some(sample) => format!("{} of {} keys were looked at", sample.looked_at, sample.of),
        None => "no key was looked at".to_owned(),
    }
}

const CENSUS: &str = "exactly: understudy sync … --dry-run --census";

fn seen_of(at: &At<'_>, kind: &str) -> u64 {
    at.seen.sample.as_ref().and_then(|sample| sample.types.get(kind)).copied().unwrap_or(0)
}

fn types(at: &At<'_>, source: &Source, to: Server, found: &mut Vec<Finding>) {
    let streams = to.as_redis() < Version(5, 0, 0) && source.rules.admits(ValueType::Stream);
    if streams {
        let (keys, calls) = (seen_of(at, "stream"), at.seen.info.calls("xadd"));
        let what = format!("{to} has no streams");
        if keys > 0 {
            found.push(at.blocks(
                Kind::Types,
                format!("{what}, and {keys} were seen here ({})", among(at)),
                format!("take a target of 5.0 or later, or leave them out: --type all but stream; {CENSUS}"),
            ));
        } else if calls > 0 {
            found.push(at.warning(
                Kind::Types,
                format!("{what}, and XADD was called {calls} times here since it was started; none was seen ({})", among(at)),
                format!("see whether there are any ({CENSUS}), or leave them out with --type"),
            ));
        }
    }
    let vectors = seen_of(at, "vectorset");
    if vectors > 0 && !to.has_vector_sets() && source.rules.admits(ValueType::Module) {
        found.push(at.blocks(
            Kind::Types,
            format!("{to} has no vector sets, and {vectors} were seen here ({})", among(at)),
            "take a target of Redis 8 or later, or leave them out with --type",
        ));
    }
    let info = &at.seen.info;
    let counted =
        info.of_databases("subexpiry").or_else(|| info.of_databases("keys_with_volatile_items"));
    if let Some(hashes) = counted.filter(|hashes| *hashes > 0 && !to.has_field_deadlines())
        && source.rules.admits(ValueType::Hash)
    {
        found.push(at.blocks(
            Kind::Types,
            format!("{to} has no deadlines of hash fields, and {hashes} hashes here have some (INFO keyspace)"),
            "take a target of Redis 7.4 or Valkey 9 or later, or leave those hashes out (--exclude)",
        ));
    }
}

fn functions(at: &At<'_>, to: Server, found: &mut Vec<Finding>) {
    let libraries = at.seen.info.number("number_of_libraries").unwrap_or(0);
    if libraries > 0 && to.as_redis() < Version(7, 0, 0) {
        found.push(at.blocks(
            Kind::Functions,
            format!(
                "{to} has no functions, and {libraries} libraries are loaded here (FUNCTION LIST)"
            ),
            "take a target of 7.0 or later, or FUNCTION DELETE those that are not needed",
        ));
    }
}

/// The types that servers have without modules, as `TYPE` names them.
const PLAIN: [&str; 8] = ["string", "list", "set", "zset", "hash", "stream", "vectorset", "none"];

fn modules(at: &At<'_>, source: &Source, target: &Seen, found: &mut Vec<Finding>) {
    if !source.rules.admits(ValueType::Module) {
        return;
    }
    let (here, there) = (at.seen.info.modules(), target.info.modules());
    let of = |name: &str| there.iter().find(|other| other.name == name);
    let list = |modules: &[&Module]| {
        let names = modules.iter().map(|one| format!("{} {}", one.name, one.version));
        names.collect::<Vec<_>>().join(", ")
    };
    let lacks: Vec<&Module> = here.iter().filter(|one| of(&one.name).is_none()).collect();
    let types = at.seen.sample.iter().flat_map(|sample| &sample.types);
    let types: Vec<_> = { types }
        .filter(|(kind, _)| !PLAIN.contains(&kind.as_str()))
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let mend = "load them in the target as well (loadmodule in its configuration), or leave their values out with --type";
    // Which module has a type is not told: a type may be of one that both have.
    let are_lacked = !types.is_empty() && lacks.len() == here.len() && there.is_empty();
    let kinds = match types.is_empty() {
        true => format!("none of their values was seen ({})", among(at)),
        false => format!("values of modules were seen: {} ({})", types.join(", "), among(at)),
    };
    if are_lacked {
        let names =
            if lacks.is_empty() { "and does not tell which".to_owned() } else { list(&lacks) };
        found.push(at.blocks(
            Kind::Modules,
            format!("it has modules ({names}), and the target has none; {kinds}"),
            mend,
        ));
    } else if !lacks.is_empty() {
        found.push(at.warning(
            Kind::Modules,
            format!(
                "modules are loaded here that the target does not have: {}; {kinds}",
                list(&lacks)
            ),
            mend,
        ));
    }
    let older: Vec<String> = { here.iter() }
        .filter_map(|one| Some((one, of(&one.name)?)))
        .filter(|(one, other)| other.number() < one.number())
        .map(|(one, other)| {
            format!("{} is {} here and {} there", one.name, one.version, other.version)
        })
        .collect();
    if !older.is_empty() {
        found.push(at.warning(
            Kind::Modules,
            format!(
                "the target has older modules, which may not read what newer ones write: {}",
                older.join(", ")
            ),
            "load the same version or a later one in the target",
        ));
    }
}

/// A value of which it is told how large it is, in bytes.
const LARGE: u64 = 64 << 20;

fn big(at: &At<'_>, found: &mut Vec<Finding>) {
    let Some(sample) = &at.seen.sample else { return };
    let Some(large) = sample.largest.as_ref().filter(|one| one.bytes.number() >= LARGE) else {
        return;
    };
    found.push(at.warning(
        Kind::BigKey,
        format!(
            "db {}, {}: a {} of {}; {}",
            large.db,
            Escaped(&large.key),
            large.kind,
            size(large.bytes.number()),
            among(at)
        ),
        format!("it comes in pieces and is in the target twice for a moment; what is written to it meanwhile waits; {CENSUS}"),
    ));
}

fn scripts(at: &At<'_>, found: &mut Vec<Finding>) {
    let info = &at.seen.info;
    let cached = info.number("number_of_cached_scripts").unwrap_or(0);
    let calls = info.calls("eval").saturating_add(info.calls("evalsha"));
    if at.facts.server.is_some_and(|server| server.as_redis() < Version(5, 0, 0)) && calls > 0 {
        found.push(at.warning(
            Kind::Scripts,
            format!("scripts were run {calls} times since it was started (EVAL {}, EVALSHA {}), and a master before 5.0 sends them as they are: what they do to keys that they do not declare cannot be proven", info.calls("eval"), info.calls("evalsha")),
            "compare when the job is over: understudy verify",
        ));
    } else if cached > 0 {
        found.push(at.note(
            Kind::Scripts,
            format!("{cached} scripts are in its cache, which is no data and is not copied"),
            "clients that call EVALSHA must load their scripts into the target (SCRIPT LOAD) or fall back to EVAL",
        ));
    }
}

/// Commands that name several keys, which a cluster takes of one slot only.
const OF_SEVERAL: [&str; 14] = [
    "mset",
    "msetnx",
    "rename",
    "renamenx",
    "copy",
    "smove",
    "sinterstore",
    "sunionstore",
    "sdiffstore",
    "zunionstore",
    "zinterstore",
    "rpoplpush",
    "lmove",
    "pfmerge",
];

fn cross_slot(at: &At<'_>, found: &mut Vec<Finding>) {
    let calls = OF_SEVERAL.iter().map(|name| (name, at.seen.info.calls(name)));
    let calls: Vec<_> = { calls }
        .filter(|(_, calls)| *calls > 0)
        .map(|(name, calls)| format!("{} {calls}", name.to_uppercase()))
        .collect();
    if !calls.is_empty() {
        found.push(at.note(
            Kind::CrossSlot,
            format!("commands over several keys were called since it was started, which a cluster takes only within one slot: {}", calls.join(", ")),
            "see that the application names keys of one slot in them ({tag}) before it is moved to a cluster",
        ));
    }
}
