//! Values that are too large for one command, into targets of every age, over links that break and targets that are full.

use std::time::{Duration, Instant};

use crate::asking;
use crate::client::{Client, Command, cmd};
use crate::data::{self, Holds};
use crate::dice::Dice;
use crate::judge::{self, Dump, Forgiving};
use crate::servers::{Server, say};
use crate::tool::Understudy;

/// With so little memory a value of more than 128 KiB goes in pieces.
const LITTLE: &str = "1MiB";

const PATIENCE: Duration = Duration::from_secs(30);

/// What is told of a run with little memory.
fn sync(source: &Server, target: &Server) -> Understudy {
    let (from, to) = (source.url(), target.url());
    Understudy::start(&["sync", "--from", &from, "--to", &to, "--once", "--memory", LITTLE])
}

/// One command for every 500 of these.
fn add(name: &str, key: &str, each: usize, args: impl Iterator<Item = Vec<u8>>) -> Vec<Command> {
    let args: Vec<_> = args.collect();
    let parts = args.chunks(500 * each);
    parts.map(|part| [cmd!(name, key), part.to_vec()].concat()).collect()
}

/// One value of each type, each of `bytes` bytes or more, in the encodings that large values have.
fn fill(client: &mut Client, holds: Holds, bytes: usize) {
    const SCORES: [&str; 8] = [
        "0",
        "-0",
        "0.1",
        "1e-300",
        "-1.7976931348623157e308",
        "inf",
        "-inf",
        "0.30000000000000004",
    ];
    let count = bytes / 8;
    let text = |n: usize| format!("element {n}").into_bytes();
    let mut dice = Dice::new(5);
    let now = data::now_ms(client);
    let mut commands = vec![
        cmd!("SET", "string", dice.bytes(bytes)),
        cmd!("CONFIG", "SET", "rdbcompression", "no"),
        cmd!("SELECT", 5),
        cmd!("SET", "string:elsewhere", dice.bytes(bytes)),
        cmd!("PEXPIREAT", "string:elsewhere", now + 3_600_123),
        cmd!("SELECT", 0),
        cmd!("SADD", "small", "a"),
    ];
    commands.extend(add("RPUSH", "list", 1, (0..count).map(text)));
    commands.extend(add(
        "RPUSH",
        "list:large elements",
        1,
        (0..1 + bytes / 40_000).map(|_| dice.bytes(40_000)),
    ));
    commands.extend(add("SADD", "set", 1, (0..count).map(text)));
    commands.extend(add(
        "SADD",
        "set:numbers",
        1,
        (0..count * 2).map(|n| (n * 7).to_string().into_bytes()),
    ));
    let scored = (0..count).flat_map(|n| [SCORES[n % SCORES.len()].as_bytes().to_vec(), text(n)]);
    commands.extend(add("ZADD", "zset", 2, scored));
    commands.extend(add("HMSET", "hash", 2, (0..count).flat_map(|n| [text(n), text(n / 2)])));
    for key in ["list", "set", "zset", "hash"] {
        commands.push(cmd!("PEXPIREAT", key, now + 86_400_000 + i64::try_from(key.len()).unwrap()));
    }
    if holds.field_deadlines {
        commands.extend(add(
            "HSET",
            "hash:deadlines",
            2,
            (0..count).flat_map(|n| [text(n), text(n / 2)]),
        ));
        let dated: Vec<usize> = (0..count).step_by(3).collect();
        for (at, fields) in dated.chunks(20).enumerate() {
            let at = now + 3_600_000 + i64::try_from(at).unwrap();
            let mut command = cmd!("HPEXPIREAT", "hash:deadlines", at, "FIELDS", fields.len());
            command.extend(fields.iter().map(|n| text(*n)));
            commands.push(command);
        }
    }
    data::all(client, &commands);
    if holds.streams {
        streams(client, count);
    }
}

fn streams(client: &mut Client, count: usize) {
    let mut commands = Vec::new();
    for key in ["stream", "stream:groups"] {
        for n in 1..=count {
            commands.push(cmd!(
                "XADD",
                key,
                format!("{}-{n}", 1000 + n / 10),
                "n",
                n,
                "text",
                "some words"
            ));
        }
        commands.push(cmd!("XDEL", key, format!("{}-{count}", 1000 + count / 10), "1001-15"));
    }
    let key = "stream:groups";
    let read = |name: &str, count: usize| {
        cmd!("XREADGROUP", "GROUP", "readers", name, "COUNT", count, "STREAMS", key, ">")
    };
    commands.extend([
        cmd!("XGROUP", "CREATE", key, "readers", "0"),
        cmd!("XGROUP", "CREATE", key, "behind", "1005-50"),
        read("alice", 300),
        read("bob", 40),
        // Delivered and deleted: some in the middle of a node, and whole nodes from the beginning.
        cmd!("XDEL", key, "1030-301", "1030-302"),
        cmd!("XTRIM", key, "MAXLEN", count - 250),
    ]);
    data::all(client, &commands);
}

fn assert_arrived(source: &Server, target: &Server, what: &str) {
    let (first, second) = (Dump::read(&mut source.client()), Dump::read(&mut target.client()));
    judge::assert_same(&first, &second, Forgiving::default(), what);
    assert_eq!(second.own(), &[], "{what}: a finished job leaves nothing of its own");
}

fn arrives(from: &'static str, to: &'static str) {
    let (Some(source), Some(target)) = (Server::start(from), Server::start(to)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client).and(Holds::of(&mut target.client()));
    // Just above the limit, and many pieces.
    fill(&mut client, holds, 140 * 1024);
    let ended = sync(&source, &target).wait(PATIENCE);
    ended.assert_code(0);
    assert_arrived(&source, &target, &format!("{from} to {to}"));
    assert_eq!(ended.reported("totals.keys"), Dump::read(&mut client).len());
    let renamed = target.client().info("commandstats", "cmdstat_rename");
    let pieces = if holds.streams { 10 } else { 8 } + usize::from(holds.field_deadlines);
    assert!(
        renamed.starts_with(&format!("calls={pieces},")),
        "all but the small one in pieces: {renamed}"
    );
}

macro_rules! large_values_arrive {
    ($($test:ident $from:literal $to:literal),+ $(,)?) => {
        mod large_values_arrive {
            $(#[test]
            fn $test() {
                super::arrives($from, $to);
            })+
        }
    };
}

large_values_arrive! {
    redis_2_8 "redis-2.8.17" "redis-2.8.17",
    redis_5_0 "redis-5.0.6" "redis-5.0.6",
    redis_6_2 "redis-6.2.14" "redis-6.2.14",
    redis_7_0 "redis-7.0.15" "redis-7.0.15",
    redis_8_0 "redis-8.0.6" "redis-8.0.6",
    valkey_9_1 "valkey-9.1.2" "valkey-9.1.2",
    redis_2_8_to_7_0 "redis-2.8.17" "redis-7.0.15",
    redis_7_0_to_2_8 "redis-7.0.15" "redis-2.8.17",
    redis_5_0_to_8_0 "redis-5.0.6" "redis-8.0.6",
    redis_8_0_to_6_2 "redis-8.0.6" "redis-6.2.14",
    redis_8_0_to_valkey_9_1 "redis-8.0.6" "valkey-9.1.2",
    valkey_9_1_to_redis_8_0 "valkey-9.1.2" "redis-8.0.6",
}

/// A string that the source compressed is unpacked as it comes.
#[test]
fn a_compressed_string_arrives() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut client = source.client();
    let mut dice = Dice::new(6);
    let text: Vec<u8> = (0..4000).flat_map(|_| dice.bytes(100).repeat(3)).collect();
    client.call(cmd!("SET", "string:lzf", text));
    sync(&source, &target).wait(PATIENCE).assert_code(0);
    assert_arrived(&source, &target, name);
    let pieces = target.client().info("commandstats", "cmdstat_rename");
    assert!(pieces.starts_with("calls=1,"), "{pieces}");
}

/// The link to the target is cut again and again while values are on their way.
fn survives_cuts(name: &'static str) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client);
    fill(&mut client, holds, 512 << 10);
    let mut running = sync(&source, &target);
    let mut knife = target.client();
    let mut cuts = 0;
    let came = |client: &mut Client| -> u64 {
        client.info("stats", "total_net_input_bytes").parse().unwrap()
    };
    // Behind so many more bytes that came to the target.
    for behind in [400_000, 70_000, 900_000, 20_000, 150_000] {
        let from = came(&mut knife);
        asking::until("more comes, or all has come", PATIENCE, || {
            !running.is_running() || came(&mut knife) >= from + behind
        });
        // The tool comes back after a pause of its own.
        asking::within(Duration::from_secs(5), || {
            let kill = cmd!("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
            let cut = running.is_running() && knife.call(kill).int() > 0;
            cuts += u32::from(cut);
            cut || !running.is_running()
        });
    }
    running.wait(PATIENCE).assert_code(0);
    assert!(cuts >= 3, "only {cuts} cuts");
    assert_arrived(&source, &target, name);
}

#[test]
fn cuts_of_the_link_double_nothing_on_6_2() {
    survives_cuts("redis-6.2.14");
}

#[test]
fn cuts_of_the_link_double_nothing_on_8_0() {
    survives_cuts("redis-8.0.6");
}

/// The target runs out of memory in the middle of values, and gets more.
fn survives_a_full_target(name: &'static str) {
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut client = source.client();
    let holds = Holds::of(&mut client);
    fill(&mut client, holds, 512 << 10);
    let mut owner = target.client();
    let refused = |client: &mut Client| -> u64 {
        client.info("errorstats", "errorstat_OOM").trim_start_matches("count=").parse().unwrap_or(0)
    };
    let running = sync(&source, &target);
    for _ in 0..4 {
        let before = refused(&mut owner);
        let used: u64 = owner.info("memory", "used_memory").parse().unwrap();
        owner.call(cmd!("CONFIG", "SET", "maxmemory", used + 700_000));
        asking::until("the target is full", PATIENCE, || refused(&mut owner) > before);
    }
    owner.call(cmd!("CONFIG", "SET", "maxmemory", 0));
    running.wait(PATIENCE).assert_code(0);
    assert_arrived(&source, &target, name);
}

#[test]
fn a_full_target_is_waited_for_on_6_2() {
    survives_a_full_target("redis-6.2.14");
}

#[test]
fn a_full_target_is_waited_for_on_7_0() {
    survives_a_full_target("redis-7.0.15");
}

/// Keys that understudy has in a server.
fn own(client: &mut Client) -> usize {
    client.call(cmd!("KEYS", "*understudy*")).array().len()
}

/// Waits until a piece of a value is in the target.
fn wait_for_a_piece(client: &mut Client) {
    // The job's record is there before it.
    asking::until("a value comes in pieces", PATIENCE, || own(client) >= 2);
}

#[test]
fn a_run_that_is_stopped_in_a_value_leaves_nothing_of_it() {
    let name = "redis-7.0.15";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    data::all(
        &mut source.client(),
        &add("RPUSH", "list", 1, (0..3_000_000).map(|n: usize| n.to_string().into_bytes())),
    );
    let running = sync(&source, &target);
    let mut client = target.client();
    wait_for_a_piece(&mut client);
    let (stopped, _) = running.stop(Duration::from_secs(10));
    stopped.assert_code(130);
    // The job's record is all that is there.
    assert_eq!((Dump::read(&mut client).len(), own(&mut client)), (0, 1));
}

#[test]
fn a_source_that_dies_in_a_value_leaves_nothing_of_it() {
    let name = "redis-7.0.15";
    let (Some(mut source), Some(target)) = (Server::start(name), Server::start(name)) else {
        return;
    };
    data::all(
        &mut source.client(),
        &add("RPUSH", "list", 1, (0..3_000_000).map(|n: usize| n.to_string().into_bytes())),
    );
    let running = sync(&source, &target);
    let mut client = target.client();
    wait_for_a_piece(&mut client);
    // What it has then is copied in place of what it had.
    source.kill_and_start_empty();
    running.wait(PATIENCE).assert_code(0);
    assert_eq!(Dump::read(&mut client).len() + own(&mut client), 0);
}

#[test]
fn a_modules_value_that_is_too_large_is_named() {
    let name = "redis-8.0.6";
    let (Some(source), Some(target)) = (Server::start(name), Server::start(name)) else { return };
    let mut client = source.client();
    let vectors = (0..800).map(|n| {
        let mut command = cmd!("VADD", "some vectors", "VALUES", 64);
        command.extend((0..64).map(|d| ((n * d) % 101 + 1).to_string().into_bytes()));
        [command, cmd!(n)].concat()
    });
    data::all(&mut client, &vectors.collect::<Vec<_>>());
    let ended = sync(&source, &target).wait(PATIENCE);
    assert!(matches!(ended.code, Some(2 | 3)), "{ended:?}");
    for part in ["some vectors", "module:vectorset", "--memory", "bytes"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(Dump::read(&mut target.client()).len(), 0);
}

/// Copies what the source holds with 64 MiB. The tool must not need 40 MiB more.
fn within_memory(source: &Server, what: &str) {
    const MEMORY: u64 = 64;
    const BESIDE: u64 = 40;
    let Some(target) = Server::start(source.name) else { return };
    let (from, to) = (source.url(), target.url());
    let began = Instant::now();
    let running =
        Understudy::start(&["sync", "--from", &from, "--to", &to, "--once", "--memory", "64MiB"]);
    let (most, ended) = running.wait_with_peak(PATIENCE);
    ended.assert_code(0);
    say(&format!("{what}: {most} MiB at most, {:.1} s", began.elapsed().as_secs_f64()));
    assert!(most > 0 && most <= MEMORY + BESIDE, "{what}: {most} MiB");
    let digests = (source.digest(), target.digest());
    assert_eq!(digests.0, digests.1, "{what}");
    let mut there = target.client();
    assert_eq!(own(&mut there), 0);
    // Of groups a digest tells nothing.
    let (first, second) =
        (judge::groups_of(&mut source.client(), "k"), judge::groups_of(&mut there, "k"));
    assert!(first == second, "{what}: the groups differ");
}

/// Has the server make a value by a script, faster than it could be sent.
fn make(client: &mut Client, script: &str) {
    client.call(cmd!("EVAL", script, 0));
}

/// Makes a value of more than 104 MiB, which cannot be held whole, and copies it.
fn fits(what: &str, fill: fn(&mut Client), compressed: bool) {
    let Some(source) = Server::start("redis-7.0.15") else { return };
    let mut client = source.client();
    client.call(cmd!("CONFIG", "SET", "rdbcompression", if compressed { "yes" } else { "no" }));
    fill(&mut client);
    within_memory(&source, what);
}

macro_rules! the_memory_given_is_enough_for {
    ($($test:ident $compressed:literal $fill:expr;)+) => {
        mod the_memory_given_is_enough_for {
            $(#[test]
            fn $test() {
                super::fits(stringify!($test), $fill, $compressed);
            })+
        }
    };
}

/// Calls a command 400,000 times, with the number as `n` and a text of 290 bytes as `x`.
macro_rules! often {
    ($call:literal) => {
        concat!("local x=string.rep('x',290) for n=1,400000 do redis.call(", $call, ") end")
    };
}

/// Makes a string of 112 MiB, in which half of each KiB stands twice, so that it can be compressed.
fn make_text(client: &mut Client) {
    let mut dice = Dice::new(8);
    let mib: Vec<u8> = (0..1024).flat_map(|_| dice.bytes(512).repeat(2)).collect();
    for n in 0..112 {
        client.call(cmd!("SETRANGE", "k", n << 20, mib));
    }
}

/// Makes a stream of 500,000 entries with two groups, in which some 145,000 deliveries wait, of three consumers; some entries are gone.
fn make_groups(client: &mut Client) {
    make(
        client,
        "local x=string.rep('x',90)
        for n=1,500000 do redis.call('XADD','k',n..'-1','n',n,'text',x) end
        redis.call('XGROUP','CREATE','k','all','0')
        redis.call('XGROUP','CREATE','k','late','400000-1')
        redis.call('XGROUP','CREATECONSUMER','k','late','idle')
        for _,to in ipairs({'one','two','one','three','two'}) do
            redis.call('XREADGROUP','GROUP','all',to,'COUNT',25000,'STREAMS','k','>')
        end
        redis.call('XREADGROUP','GROUP','late','one','COUNT',25000,'STREAMS','k','>')
        for n=100,400000,997 do redis.call('XDEL','k',n..'-1') end
        for n=1,50000,7 do redis.call('XACK','k','all',n..'-1') end",
    );
}

the_memory_given_is_enough_for! {
    a_string false super::make_text;
    a_compressed_string true super::make_text;
    many_strings false |client| super::make(client, "for n=1,300 do redis.call('SET','k'..n,string.rep(string.char(n%251,n%13),262144)..n) end");
    a_hash false |client| super::make(client, often!("'HSET','k',n,x..n"));
    a_list false |client| super::make(client, often!("'RPUSH','k',x..n"));
    a_set false |client| super::make(client, often!("'SADD','k',x..n"));
    a_sorted_set false |client| super::make(client, often!("'ZADD','k',n/7,x..n"));
    a_stream false |client| super::make(client, often!("'XADD','k',n..'-1','n',x..n"));
    a_stream_with_groups false super::make_groups;
}
