//! `--memory` holds for the stream: large commands and transactions arrive inside of it, and those that cannot are named.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::thread;
use std::time::Duration;

use crate::client::{Client, Command, cmd};
use crate::servers::{Server, say};
use crate::tool::{Ended, Understudy};

const NAME: &str = "redis-7.0.15";
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// What the process may have with `--memory 64MiB`, in MiB.
const MOST: u64 = 64 + 40;

/// A sync with 64 MiB that has begun to follow all its sources.
fn follow(sources: &[Server], target: &Server) -> Understudy {
    let to = target.url();
    let urls: Vec<String> = sources.iter().map(Server::url).collect();
    let mut args = vec!["sync", "--to", &to, "--memory", "64MiB"];
    args.extend(urls.iter().flat_map(|url| ["--from", url]));
    let mut running = Understudy::start(&args);
    for (nth, source) in sources.iter().enumerate() {
        let begun = format!("begun:{nth}");
        source.client().call(cmd!("SET", begun, 1));
        assert!(Client::wait_for_key(target.port, 0, &begun, PATIENCE, || running.is_running()));
    }
    running
}

fn value(nth: usize, bytes: usize) -> Vec<u8> {
    let mut value = String::new();
    let _ = write!(value, "{nth}:");
    value.push_str(&"0123456789abcdef".repeat(bytes / 16));
    value.into_bytes()
}

/// Writes some large commands, and one that comes last.
fn write(source: &Server, nth: usize) {
    let mut client = source.client();
    let key = |name: &str| format!("{name}:{nth}");
    for round in 0..6 {
        client.call(cmd!("SET", key("string"), value(round, 15 * MIB)));
    }
    let mut many: Command = cmd!("MSET");
    many.extend((0..150_000).flat_map(|n| cmd!(format!("{nth}:{n}"), n)));
    client.call(many);
    let mut transaction = vec![cmd!("MULTI")];
    let push = |n| cmd!("RPUSH", key("list"), value(n, MIB / 4));
    transaction.extend((0..40).map(push));
    transaction.push(cmd!("EXEC"));
    client.pipeline(&transaction);
    client.call(cmd!("SET", key("end"), 1));
}

/// Does this to each source, at the same time.
fn at_once(sources: &[Server], what: fn(&Server, usize)) {
    thread::scope(|scope| {
        for (nth, source) in sources.iter().enumerate() {
            scope.spawn(move || what(source, nth));
        }
    });
}

/// Writes to all sources at once, and compares what has arrived.
fn arrives(sources: &[Server], write: fn(&Server, usize)) {
    let Some(target) = Server::start(NAME) else { return };
    let mut running = follow(sources, &target);
    at_once(sources, write);
    for nth in 0..sources.len() {
        let end = format!("end:{nth}");
        assert!(Client::wait_for_key(target.port, 0, &end, PATIENCE, || running.is_running()));
    }
    let peak = running.peak_mib();
    running.end_job(PATIENCE).assert_code(130);
    say(&format!("commands of {} sources: {peak} MiB at most", sources.len()));
    assert!(peak <= MOST, "{peak} MiB");
    // A digest is the XOR of its keys' digests and of one for the database, and no two sources share a key.
    const DATABASE: [u32; 5] =
        [2_855_311_603, 2_867_415_978, 3_243_129_739, 2_378_885_513, 2_945_709_730];
    let bits = |server: &Server| {
        let digest = server.digest();
        let words = digest.as_bytes().chunks(8).map(|word| str::from_utf8(word).unwrap());
        let words = words.map(|word| u32::from_str_radix(word, 16).unwrap());
        words.zip(DATABASE).map(|(word, of_all)| word ^ of_all).collect::<Vec<_>>()
    };
    let all = sources.iter().map(bits).reduce(|one, other| {
        one.iter().zip(other).map(|(one, other)| one ^ other).collect::<Vec<_>>()
    });
    assert_eq!(all, Some(bits(&target)));
}

#[test]
fn large_commands_arrive_within_it() {
    let Some(source) = Server::start(NAME) else { return };
    arrives(&[source], write);
}

#[test]
fn large_commands_of_several_sources_take_turns() {
    let (Some(one), Some(other)) = (Server::start(NAME), Server::start(NAME)) else { return };
    let Some(third) = Server::start(NAME) else { return };
    arrives(&[one, other, third], write);
}

/// Fills a source with 3 MiB of everything.
fn fill_a_little(source: &Server, nth: usize) {
    let script = format!(
        "for n=1,2500 do redis.call('SET','s:{nth}:'..n,string.rep('x',n%300)..n) end
        for n=1,5000 do
            redis.call('RPUSH','list:{nth}','element:'..n)
            redis.call('HSET','hash:{nth}',n,string.rep('v',n%60)..n)
            redis.call('ZADD','zset:{nth}',n/7,'member:'..n)
            redis.call('XADD','stream:{nth}',n..'-1','n',n)
        end
        redis.call('XGROUP','CREATE','stream:{nth}','group','0')
        redis.call('XREADGROUP','GROUP','group','one','COUNT',5000,'STREAMS','stream:{nth}','>')
        redis.call('SET','large:{nth}',string.rep('0123456789',200000)..'{nth}')"
    );
    source.client().call(cmd!("EVAL", script, 0));
}

/// Writes 2 MiB of small and larger commands and a transaction, and one that comes last.
fn write_a_little(source: &Server, nth: usize) {
    let mut client = source.client();
    let mut commands: Vec<Command> = Vec::new();
    for n in 0..1000 {
        commands.push(cmd!("INCR", format!("count:{nth}")));
        commands.push(cmd!("RPUSH", format!("list:{nth}"), value(n, 256)));
        commands.push(cmd!("SET", format!("s:{nth}:{n}"), value(n, 512)));
    }
    commands.push(cmd!("MULTI"));
    commands.extend((0..20).map(|n| cmd!("APPEND", format!("large:{nth}"), value(n, 64 << 10))));
    commands.extend([cmd!("EXEC"), cmd!("SET", format!("end:{nth}"), 1)]);
    client.pipeline(&commands);
}

/// Each has 2 MiB of memory: copies and streams of all of them are under way together.
#[test]
fn many_sources_share_it() {
    let sources: Option<Vec<Server>> = (0..32).map(|_| Server::start(NAME)).collect();
    let Some(sources) = sources else { return };
    at_once(&sources, fill_a_little);
    arrives(&sources, write_a_little);
}

/// Sends what does not fit behind something that does, and gives how the run ended.
fn ends_with(commands: &[Command]) -> Option<Ended> {
    let (source, target) = (Server::start(NAME)?, Server::start(NAME)?);
    let mut client = source.client();
    let sources = [source];
    let running = follow(&sources, &target);
    client.call(cmd!("SET", "before", 1));
    client.pipeline(commands);
    let (peak, ended) = running.wait_with_peak(PATIENCE);
    assert!(peak <= MOST, "{peak} MiB");
    ended.assert_code(3);
    assert!(ended.stderr.contains("raise --memory"), "{}", ended.stderr);
    let mut there = target.client().call(cmd!("KEYS", "*")).strings();
    there.retain(|key| !key.starts_with(b"understudy:"));
    there.sort();
    assert_eq!(there, [b"before".to_vec(), b"begun:0".to_vec()]);
    Some(ended)
}

#[test]
fn a_command_that_does_not_fit_is_named() {
    let Some(ended) = ends_with(&[cmd!("SET", "large", value(0, 100 * MIB))]) else { return };
    let said = ended.stderr;
    assert!(said.contains("the command \"SET\" at offset "), "{said}");
    assert!(said.contains(" and 16777216 may be held in one piece"), "{said}");
}

/// It is streamed into the target's own transaction, whose end alone waits.
#[test]
fn a_transaction_larger_than_memory_is_one_all_the_same() {
    let (Some(source), Some(target)) = (Server::start(NAME), Server::start(NAME)) else { return };
    let mut client = source.client();
    let sources = [source];
    let mut running = follow(&sources, &target);
    let mut commands = vec![cmd!("MULTI"), cmd!("INCR", "one")];
    commands.extend((0..200).map(|n| cmd!("RPUSH", "list", value(n, MIB))));
    commands.extend([cmd!("INCR", "one"), cmd!("EXEC"), cmd!("SET", "behind", 1)]);
    client.pipeline(&commands);
    let (mut reader, mut peak, mut lengths) = (target.client(), 0, BTreeSet::new());
    while reader.call(cmd!("EXISTS", "behind")).int() == 0 {
        assert!(running.is_running());
        peak = peak.max(running.peak_mib());
        lengths.insert(reader.call(cmd!("LLEN", "list")).int());
    }
    say(&format!("a transaction of 200 MiB: {peak} MiB at most"));
    assert!(peak <= MOST, "{peak} MiB");
    lengths.insert(reader.call(cmd!("LLEN", "list")).int());
    assert_eq!(lengths, BTreeSet::from([0, 200]), "a part of it was seen");
    running.end_job(PATIENCE).assert_code(130);
    assert_eq!(sources[0].digest(), target.digest());
}
