//! The command table against real servers: what `COMMAND` says of each command, which keys `COMMAND GETKEYS` finds in
//! sample lines, and what `GETKEYSANDFLAGS` says is done to them.

use std::collections::BTreeSet;

use understudy::command::keys::{Access, KeySpec, keys};
use understudy::command::{Class, Command, lookup};

use crate::client;
use crate::client::{Value, cmd};
use crate::servers;
use crate::servers::Server;

/// Lines of every shape that a rule for keys knows. What our rules find in them, real servers must find.
const LINES: &[&str] = &[
    "GET k",
    "SET k v",
    "SET k v EX 5",
    "SET k v NX",
    "SET k v XX GET",
    "SET k v KEEPTTL",
    "SETNX k v",
    "DEL a b c",
    "UNLINK a b",
    "MGET a b",
    "MSET a 1 b 2",
    "MSETNX a 1 b 2",
    "MSETEX 2 a 1 b 2 EX 5",
    "RENAME a b",
    "RENAMENX a b",
    "COPY a b",
    "COPY a b DB 3 REPLACE",
    "MOVE k 3",
    "RESTORE k 0 payload",
    "RESTORE k 0 payload REPLACE",
    "DELIFEQ k v",
    "GETDEL k",
    "GETEX k PERSIST",
    "BITOP AND d a b",
    "BITFIELD k GET u8 0",
    "BITFIELD k SET u8 0 1",
    "PFADD k e",
    "PFCOUNT a b",
    "PFMERGE d a b",
    "PFDEBUG ENCODING k",
    "LCS a b",
    "LPUSH k v",
    "LMPOP 2 a b LEFT",
    "BLMPOP 0 2 a b LEFT COUNT 3",
    "BLPOP a b 0",
    "BRPOP a b 0",
    "RPOPLPUSH a b",
    "BRPOPLPUSH a b 0",
    "LMOVE a b LEFT RIGHT",
    "BLMOVE a b LEFT RIGHT 0",
    "SMOVE a b m",
    "SUNIONSTORE d a b",
    "SINTERSTORE d a b",
    "SDIFFSTORE d a",
    "SINTER a b",
    "SINTERCARD 2 a b LIMIT 1",
    "HSETEX k EX 5 FIELDS 1 f v",
    "HGETDEL k FIELDS 1 f",
    "HPEXPIREAT k 5 FIELDS 1 f",
    "ZADD k 1 m",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
    "ZINTERSTORE d 1 a",
    "ZDIFFSTORE d 2 a b",
    "ZUNION 2 a b",
    "ZINTERCARD 2 a b",
    "ZRANGESTORE d s 0 1",
    "ZMPOP 2 a b MIN",
    "BZMPOP 0 1 a MAX",
    "BZPOPMIN a b 0",
    "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km",
    "GEORADIUS k 1 2 3 km",
    "GEORADIUS k 1 2 3 km STORE d",
    "GEORADIUSBYMEMBER k m 3 km STOREDIST d",
    "SORT k",
    "SORT k BY nosort GET # STORE d",
    "SORT k STORE d STORE e",
    "SORT k LIMIT 0 5 STORE store",
    "XADD s 5-1 f v",
    "XREAD COUNT 5 STREAMS a b 0 0",
    "XREADGROUP GROUP streams c NOACK STREAMS a b > >",
    "XGROUP CREATE s g $",
    "XGROUP DELCONSUMER s g c",
    "XINFO STREAM s",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "EVAL script 2 a b arg",
    "EVALSHA sha 1 a arg",
    "FCALL f 2 a b",
    "EVAL_RO script 1 a",
    "MIGRATE h 1 k 0 9",
    "TOUCH a b",
    "VADD k VALUES 1 1 e",
    "VSIM k ELE e",
];

/// Rows that are not commands: what an HTTP client would send, so that the server hangs up on it.
const NO_COMMANDS: &[&str] = &["host:", "post"];

/// What servers say of a command that is not so, or was not yet; and in which of them, by the beginning of their names.
const WRONG_THERE: &[(&str, &[&str])] = &[
    ("brpop", &["redis-2.8", "redis-3"]),     // the first key only
    ("exists", &["redis-2.8"]),               // took one
    ("pfcount", &["redis-2.8"]),              // as if it took one
    ("touch", &["redis-3.2", "redis-5"]),     // the first only
    ("georadius", &["redis-3.2"]),            // not what STORE names
    ("georadiusbymember", &["redis-3.2"]),    // the same
    ("migrate", &["redis-2.8", "redis-3.0"]), // none
    ("pfdebug", &["redis-2.8", "redis-3", "redis-5", "redis-6.0"]), // none
    ("memory", &["redis-5"]),                 // none
    ("watch", &[""]),                         // has keys, but never stands in a stream
    ("clusterscan", &[""]),                   // calls its cursor a key
    ("spublish", &[""]),                      // and these their channels
    ("ssubscribe", &[""]),
    ("sunsubscribe", &[""]),
];

fn wrong_there(command: &str, server: &str) -> bool {
    WRONG_THERE
        .iter()
        .any(|(name, servers)| *name == command && servers.iter().any(|s| server.starts_with(s)))
}

#[test]
fn every_row_agrees_with_what_the_servers_say() {
    for name in servers::ALL {
        let Some(server) = Server::start(name) else { continue };
        let rows = server.client().call(cmd!("COMMAND"));
        assert!(rows.array().len() > 150, "{name}: COMMAND was not answered whole");
        let mut faults = Vec::new();
        for row in rows.array().iter().map(Value::array) {
            let command = row[0].text().to_lowercase();
            if NO_COMMANDS.contains(&command.as_str()) {
                continue;
            }
            match lookup(command.as_bytes()) {
                Some(ours) => faults.extend(differences(ours, row, name)),
                None => faults.push(format!("{command} is not in the table")),
            }
        }
        assert!(faults.is_empty(), "{name}:\n  {}", faults.join("\n  "));
    }
}

fn differences(ours: &Command, row: &[Value], server: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let says = |flag: &str, row: &[Value]| row[2].array().iter().any(|have| have.text() == flag);
    let subcommands = row.get(9).map_or(&[][..], Value::array);
    let writes = says("write", row) || subcommands.iter().any(|row| says("write", row.array()));
    let class = ours.class(&[ours.name().as_bytes()]);
    let expected = match class {
        // Called a reader, but it propagates itself when it stores what it counted.
        Class::Data if ours.name() == "pfcount" => true,
        Class::Data | Class::Flush | Class::SwapDb => writes,
        // Its subcommands write, but no key. CLUSTER's delete by slot.
        Class::Function => true,
        Class::Unknown => ours.name() == "cluster",
        _ => !writes,
    };
    if !expected {
        faults.push(format!("{ours:?} is {class:?} here, there writes: {writes}"));
    }
    let said = (row[3].int(), row[4].int(), row[5].int());
    let ours_say = first_last_step(ours);
    if !ours_say.contains(&said) && !wrong_there(ours.name(), server) {
        faults.push(format!("{ours:?} has first, last key and step {said:?}, ours: {ours_say:?}"));
    }
    faults
}

/// The first key, the last (negative: from the end) and the step between, as `COMMAND` would say it of our rule. Where keys
/// have no fixed place there is more than one way to say so.
fn first_last_step(ours: &Command) -> Vec<(i64, i64, i64)> {
    match ours.keys() {
        KeySpec::None | KeySpec::Counted { .. } => vec![(0, 0, 0)],
        KeySpec::Streams(_) => vec![(0, 0, 0), (1, 1, 1)],
        KeySpec::One(_)
        | KeySpec::Set
        | KeySpec::DelEx
        | KeySpec::BitField
        | KeySpec::Restore
        | KeySpec::Move
        | KeySpec::Sort
        | KeySpec::GeoRadius { .. } => vec![(1, 1, 1)],
        KeySpec::IntoCounted(_) => vec![(1, 1, 1), (0, 0, 0)],
        KeySpec::Second(_) => vec![(2, 2, 1)],
        KeySpec::Sub(..) => vec![(2, 2, 1), (2, 2, 2), (0, 0, 0)],
        KeySpec::Two(..) | KeySpec::Copy => vec![(1, 2, 1)],
        KeySpec::From(first, _) | KeySpec::Into(first, _) => vec![(first.into(), -1, 1)],
        KeySpec::AllButLast(_) => vec![(1, -2, 1)],
        KeySpec::Every(step, _) => vec![(1, -1, step.into())],
        KeySpec::Migrate => vec![(3, 3, 1), (0, 0, 0)],
        other => panic!("{other:?} has no legacy form here yet"),
    }
}

#[test]
fn servers_find_the_keys_that_we_find() {
    for name in servers::ALL {
        if name.starts_with("redis-2.8") {
            continue; // no COMMAND GETKEYS
        }
        let Some(server) = Server::start(name) else { continue };
        let mut client = server.client();
        let mut faults = Vec::new();
        let mut compared = BTreeSet::new();
        for line in LINES {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let command = lookup(args[0]).unwrap().name();
            if !client.knows(command) || wrong_there(command, name) {
                continue;
            }
            // MOVE shows its key once for each of two databases.
            let found = keys(&args).unwrap();
            let ours: BTreeSet<&[u8]> = found.iter().map(|key| args[key.position]).collect();
            let said = client.try_call(asking("GETKEYS", &args));
            compared.insert(command);
            match &said {
                Value::Array(_)
                    if said.strings().iter().map(Vec::as_slice).collect::<BTreeSet<_>>()
                        == ours => {}
                said => faults.push(format!("{line}: {said:?} there")),
            }
        }
        assert!(faults.is_empty(), "{name}:\n  {}", faults.join("\n  "));
        assert!(compared.len() >= 25, "{name}: only {compared:?}");
    }
}

/// Commands of which we say that they depend on the old state where servers say that they overwrite or remove: under a
/// condition (their names' or their options'), or keeping the deadline.
const STRICTER: &[&str] = &[
    "set",
    "setnx",
    "msetnx",
    "msetex",
    "renamenx",
    "copy",
    "restore",
    "restore-asking",
    "delifeq",
];

#[test]
fn servers_do_to_keys_what_we_say() {
    for name in ["redis-7.0.15", "redis-8.0.6", "valkey-8.0.1", "valkey-9.1.2", "redict-7.3.6"] {
        let Some(server) = Server::start(name) else { continue };
        let mut client = server.client();
        let rows = client.call(cmd!("COMMAND"));
        // Each command with one key in the shortest form that it has, and the sample lines.
        let shortest = rows.array().iter().map(Value::array).filter_map(|row| {
            let name = row[0].text();
            let single = matches!(lookup(name.as_bytes())?.keys(), KeySpec::One(_));
            let args = usize::try_from(row[1].int().abs()).unwrap();
            single.then(|| [vec![name.as_str()], vec!["1"; args.max(2) - 1]].concat().join(" "))
        });
        let lines: Vec<String> =
            shortest.chain(LINES.iter().map(|line| (*line).to_owned())).collect();
        let mut faults = Vec::new();
        let mut compared = 0;
        for line in &lines {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let command = lookup(args[0]).unwrap();
            if !client.knows(command.name()) {
                continue;
            }
            let said = client.try_call(asking("GETKEYSANDFLAGS", &args));
            let Value::Array(there) = &said else {
                faults.push(format!("{line}: {said:?}"));
                continue;
            };
            let ours = keys(&args).unwrap();
            for key in ours.iter().filter(|key| key.db.is_none() || command.name() != "move") {
                compared += 1;
                let flags = there
                    .iter()
                    .map(Value::array)
                    .find(|pair| pair[0].bytes() == args[key.position])
                    .map(|pair| pair[1].array().iter().map(Value::text).collect::<Vec<_>>());
                let Some(flags) = flags else {
                    faults.push(format!("{line}: argument {} is no key there", key.position));
                    continue;
                };
                let says = |flag: &str| flags.iter().any(|have| have == flag);
                let agreed = match key.access {
                    // A module's command is RW unless its author said more; the vector sets' did not.
                    Access::Read => says("RO") || command.name().starts_with('v') && says("RW"),
                    // Readers of a stream leave its entries alone, but not its groups.
                    Access::Update if command.name() == "xreadgroup" => says("RO"),
                    Access::Update => {
                        says("RW")
                            || STRICTER.contains(&command.name()) && (says("OW") || says("RM"))
                    }
                    // 7.0 had the flags of SINTERSTORE wrong; it overwrites as the others do.
                    Access::Overwrite => says("OW") || command.name() == "sinterstore",
                    Access::Remove => says("RM"),
                };
                if !agreed {
                    faults.push(format!("{line}: {key:?} is {flags:?} there"));
                }
            }
        }
        assert!(faults.is_empty(), "{name}:\n  {}", faults.join("\n  "));
        assert!(compared > 150, "{name}: only {compared} keys were compared");
    }
}

fn asking(how: &str, args: &[&[u8]]) -> client::Command {
    let mut asked = cmd!("COMMAND", how);
    asked.extend(args.iter().map(|arg| arg.to_vec()));
    asked
}
