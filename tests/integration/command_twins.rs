//! What a real master propagates, played to its twin.
//!
//! A server is driven through commands of every kind, and what it says to a replica is played to a second, empty server of
//! the same kind: keys found, deadlines put far off, replies judged. Then no reply may say that the two differ, they must
//! hold the same, and each deadline must be as far off as it was put. So no rule can stand that is wrong about what a
//! master propagates, or what it answers.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use understudy::command::judge::{Expect, Judgement, Outcome, judge};
use understudy::command::keys::{Reach, keys};
use understudy::command::{Class, class_of, lookup};
use understudy::resp::CommandReader;
use understudy::server::Server as Kind;

use crate::client::{Client, Command, Value, cmd};
use crate::data::Holds;
use crate::load::Load;
use crate::servers::{self, Server, Version};

/// How far off deadlines are put: 2^45 ms, 1,115 years. Near enough for every server.
const SHIFT: i64 = 1 << 45;

/// Each has an effect where its server knows it, if those before it had. (What has none is not propagated.)
const COMMANDS: &[&str] = &[
    "SET s v",
    "SET s w XX",
    "SET new v NX",
    "SET s v GET",
    "SET absent v NX GET",
    "SET s x XX GET",
    "SET ex v EX 1000",
    "SET px v PX 1000000 NX",
    "SET at v EXAT 99999999999",
    "SET at w KEEPTTL",
    "SET at x IFEQ w",
    "SET at y IFEQ x EX 1000 GET",
    "SETEX setex 1000 v",
    "PSETEX psetex 1000000 v",
    "SETNX setnx v",
    "MSET m1 1 m2 2",
    "MSETNX m3 3 m4 4",
    "MSETEX 2 m5 5 m6 6 EX 1000",
    "MSETEX 2 m5 6 m6 7 XX KEEPTTL",
    "MSETEX 1 m7 7 NX PXAT 99999999999999",
    "GETSET s y",
    "GETSET getset y",
    "GETDEL getset",
    "GETEX s EX 1000",
    "GETEX s PERSIST",
    "DELIFEQ m1 1",
    "APPEND s tail",
    "APPEND empty ",
    "SETRANGE s 3 inside",
    "INCR n",
    "INCRBY n 5",
    "DECR n",
    "DECRBY n 5",
    "INCRBYFLOAT n 1.5",
    "INCRBYFLOAT ex2 1.5",
    "SETBIT bits 7 1",
    "SETBIT bits 7 0",
    "BITFIELD bits SET u8 0 255 INCRBY u8 8 1",
    "BITFIELD bits OVERFLOW FAIL INCRBY u8 0 1 INCRBY u8 16 1",
    "BITOP NOT inverted bits",
    "BITOP AND inverted nothing",
    "PFADD hll a b c",
    "PFCOUNT hll",
    "PFADD hll d",
    "PFCOUNT hll",
    "PFMERGE merged hll",
    "EXPIRE s 1000",
    "PEXPIRE s 2000000",
    "EXPIREAT s 99999999999",
    "PEXPIREAT s 99999999999999",
    "EXPIRE s 1000 LT",
    "EXPIRE s 2000 GT",
    "EXPIRE s 3000 XX",
    "EXPIRE n 1000 NX",
    "PERSIST s",
    "EXPIRE m2 -1",
    "RENAME n renamed",
    "RENAMENX renamed n",
    "COPY s copied",
    "COPY n copied REPLACE",
    "COPY n copied DB 3",
    "MOVE m3 4",
    "RPUSH list a b c d e f g h",
    "LPUSH list z",
    "LPUSHX list y",
    "RPUSHX list x",
    "LINSERT list BEFORE a between",
    "LSET list 0 first",
    "LREM list 0 z",
    "LTRIM list 0 6",
    "LPOP list",
    "RPOP list 2",
    "LMPOP 2 none list LEFT COUNT 2",
    "RPOPLPUSH list other",
    "BRPOPLPUSH list other 0",
    "RPUSH list a b c d",
    "LMOVE list other LEFT RIGHT",
    "BLMOVE list other LEFT RIGHT 0",
    "BLPOP none other 0",
    "BRPOP other 0",
    "BLMPOP 0 1 list LEFT",
    "SORT other ALPHA STORE sorted",
    "SORT other BY w_* GET # STORE sorted",
    "SADD set a b c d e",
    "SADD set2 c d",
    "SREM set a nothing",
    "SPOP set",
    "SMOVE set2 set3 c",
    "SUNIONSTORE union set set2",
    "SINTERSTORE union set3",
    "SINTERSTORE union nothing set",
    "SDIFFSTORE difference set set3",
    "SPOP set 100",
    "HSET hash a 1 b 2 c 3",
    "HSET hash a 2",
    "HMSET hash d 4 e 5",
    "HSETNX hash f 6",
    "HINCRBY hash a 5",
    "HINCRBYFLOAT hash b 1.5",
    "HDEL hash f nothing",
    "HEXPIRE hash 1000 FIELDS 3 a b nothing",
    "HPEXPIRE hash 2000000 GT FIELDS 3 a c nothing",
    "HEXPIREAT hash 99999999999 NX FIELDS 2 a c",
    "HPEXPIREAT hash 1999999999999 LT FIELDS 2 a c",
    "HPERSIST hash FIELDS 3 a d nothing",
    "HINCRBYFLOAT hash b 1.5",
    "HSETEX hash EX 1000 FIELDS 2 a 1 g 2",
    "HSETEX hash FNX PX 1000000 FIELDS 1 h 1",
    "HSETEX hash KEEPTTL FIELDS 1 h 2",
    "HSETEX hash FIELDS 1 h 3",
    "HGETEX hash EX 3000 FIELDS 2 b nothing",
    "HGETEX hash PERSIST FIELDS 2 b nothing",
    "HGETDEL hash FIELDS 2 g nothing",
    "ZADD zset 1 a 2 b 3 c 4 d 5 e 6 f",
    "ZADD zset 5 a",
    "ZADD zset XX CH 6 a 1 nothing",
    "ZADD zset NX 7 g",
    "ZADD zset INCR 1 a",
    "ZADD zset GT INCR 1 a",
    "ZINCRBY zset 3 b",
    "ZREM zset g nothing",
    "ZREMRANGEBYRANK zset 0 0",
    "ZREMRANGEBYSCORE zset 4 4",
    "ZPOPMIN zset",
    "ZPOPMAX zset 1",
    "ZADD zset 1 a 2 b 3 c 4 d 5 e 6 f",
    "ZMPOP 2 none zset MIN COUNT 2",
    "BZPOPMIN none zset 0",
    "BZPOPMAX zset 0",
    "BZMPOP 0 1 zset MIN",
    "ZADD lex 0 a 0 b",
    "ZREMRANGEBYLEX lex [a [a",
    "ZUNIONSTORE zunion 2 zset lex WEIGHTS 2 3",
    "ZINTERSTORE zunion 2 zset lex",
    "ZDIFFSTORE zdiff 2 zset lex",
    "ZRANGESTORE range zset 0 -1",
    "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "GEORADIUS geo 15 37 200 km STORE near",
    "GEORADIUSBYMEMBER geo Palermo 200 km STOREDIST near",
    "GEOSEARCHSTORE near geo FROMMEMBER Palermo BYRADIUS 100 km",
    "XADD stream 1-1 f v",
    "XADD stream * f v",
    "XADD stream MAXLEN ~ 100 * f v",
    "XADD stream MAXLEN 3 * f v g w",
    "XADD stream NOMKSTREAM * f v",
    "XADD made MINID 5 9-9 f v",
    "XGROUP CREATE stream group 0",
    "XGROUP CREATE streamed group $ MKSTREAM",
    "XGROUP CREATECONSUMER stream group early",
    "XREADGROUP GROUP group one COUNT 1 STREAMS stream >",
    "XREADGROUP GROUP group two COUNT 1 STREAMS stream >",
    "XREADGROUP GROUP group three STREAMS stream >",
    "XREADGROUP GROUP group four STREAMS stream >",
    "XAUTOCLAIM stream group five 0 0 COUNT 2",
    "XGROUP SETID stream group 0",
    "XREADGROUP GROUP group six NOACK COUNT 1 STREAMS stream >",
    "XGROUP DELCONSUMER stream group five",
    "XDEL made 9-9",
    "XSETID made 10-10",
    "XTRIM stream MAXLEN 1",
    "XGROUP DESTROY stream group",
    "VADD vectors VALUES 2 1 2 e",
    "VADD vectors VALUES 2 1 2 f",
    "VSETATTR vectors e {}",
    "VREM vectors f",
    "EVAL redis.call('INCR',KEYS[1])redis.call('SET',KEYS[2],1) 2 counted called",
    // It writes, then fails: up to 4.0 that is propagated as it stands.
    "EVAL redis.call('SET',KEYS[1],'text')return(redis.call('INCR',KEYS[1])) 1 called",
    "SELECT 5",
    "SET five 5",
    "SWAPDB 5 6",
    "SELECT 6",
    "SET six 6",
    "FLUSHDB",
    "SELECT 0",
    "DEL s n nothing",
    "DEL other",
    "UNLINK list",
    "PUBLISH channel message",
    "SPUBLISH channel message",
];

#[test]
fn what_a_master_says_is_answered_by_its_twin_as_expected() {
    let mut kinds = BTreeMap::new();
    for name in servers::ALL {
        let commands = COMMANDS.iter().map(|line| words(line));
        if let Some(names) = twins(name, commands) {
            assert!(names.len() >= 50, "{name} propagated only {names:?}");
            kinds.extend(names);
        }
    }
    // The newest servers know nearly all of them.
    assert!(kinds.is_empty() || kinds.len() >= 85, "only {kinds:?}");
}

/// What the recordings hold, sent to the same server anew: it propagates what has an effect today.
#[test]
fn recorded_commands_are_answered_by_a_twin_as_expected() {
    let Some(corpus) = corpus() else { return };
    for name in servers::ALL {
        let recorded = corpus.join("streams").join(name).join("live-basic.bin");
        let mut commands = stream(&recorded);
        // A client gets no answer to REPLCONF GETACK.
        commands.retain(|args| !args[0].eq_ignore_ascii_case(b"REPLCONF"));
        assert!(commands.len() > 1000, "{name}: {} commands", commands.len());
        let recorded_at = sidecar(&recorded)["recorded_from_ms"].as_i64().unwrap();
        commands.iter_mut().flatten().for_each(|arg| renew(arg, recorded_at));
        twins(name, commands.into_iter());
    }
}

/// Puts a time of day as far from now as it was from when it was recorded, and a minute more: what dies meanwhile has no deadline to
/// compare.
fn renew(arg: &mut Vec<u8>, recorded_at: i64) {
    const YEAR: i64 = 365 * 86_400_000;
    let digits =
        std::str::from_utf8(arg).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let Some(number) = digits.and_then(|text| text.parse::<i64>().ok()) else { return };
    let since = now_ms() - recorded_at + 60_000;
    for unit in [1, 1000] {
        if (recorded_at - YEAR..recorded_at + 5 * YEAR).contains(&number.saturating_mul(unit)) {
            *arg = (number + since / unit).to_string().into_bytes();
        }
    }
}

/// The same of an application's writes, with keys that die meanwhile. (They die at one time on each server, so that these are
/// not compared.)
#[test]
fn a_load_is_answered_by_a_twin_as_expected() {
    for name in servers::ALL {
        let twins = follow(name, |writer, version| {
            let holds = Holds::of(writer);
            let sent = Load::new(11, version, holds).send(writer, 5_000);
            assert_eq!(sent.refused, Vec::<String>::new(), "{name}");
        });
        let played: usize = twins.map_or(5_000, |twins| twins.names.values().sum());
        assert!(played >= 3_000, "{name}: only {played} commands were propagated");
    }
}

/// Nothing that masters of all versions said is unknown, has no key where it must have one, or cannot be judged.
#[test]
fn every_recorded_command_is_understood() {
    let Some(corpus) = corpus() else { return };
    let mut names = BTreeMap::new();
    let mut streams = 0;
    for server in fs::read_dir(corpus.join("streams")).unwrap() {
        for file in fs::read_dir(server.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|ending| ending != "bin") {
                continue;
            }
            streams += 1;
            let sidecar = sidecar(&file);
            let commands = stream(&file);
            let stated: u64 = sidecar["commands"]
                .as_object()
                .map_or(0, |by_name| by_name.values().filter_map(serde_json::Value::as_u64).sum());
            if sidecar["stream_start"].is_null() {
                continue; // the master refused
            }
            assert_eq!(commands.len() as u64, stated, "{}", file.display());
            for args in commands {
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                understand(&args).unwrap_or_else(|why| {
                    let line: Vec<_> =
                        args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
                    panic!("{}: {}: {why}", file.display(), line.join(" "))
                });
                *names.entry(args[0].to_ascii_lowercase()).or_insert(0) += 1;
            }
        }
    }
    assert!(streams > 50, "only {streams} streams");
    assert!(names.len() > 80, "only {} names", names.len());
}

fn understand(args: &[&[u8]]) -> Result<(), String> {
    let command = lookup(args[0]).ok_or("unknown")?;
    let class = class_of(args);
    if matches!(class, Class::Unknown | Class::Control | Class::Read) {
        return Err(format!("a stream should hold no {class:?}"));
    }
    let keys = keys(args).map_err(|why| why.to_string())?;
    if class == Class::Data && keys.is_empty() {
        return Err("no key".to_owned());
    }
    if !keys.iter().all(|key| (1..args.len()).contains(&key.position)) {
        return Err("a key that is no argument".to_owned());
    }
    if class == Class::Data && !keys.iter().any(|key| key.access.writes()) {
        return Err("no key is written".to_owned());
    }
    if (class == Class::Eval) != (keys.reach() == Reach::Undeclared)
        && !args[0].eq_ignore_ascii_case(b"sort")
    {
        return Err(format!("reaches {:?}", keys.reach()));
    }
    if command.expect(args).map_err(|why| why.to_string())? == Expect::Never {
        return Err("cannot be judged".to_owned());
    }
    command.deadline(args).map_err(|why| why.to_string())?;
    Ok(())
}

/// Drives one server, plays what it propagates to another, and compares them. The names of what was propagated; `None` if
/// there is no such server here.
fn twins(
    name: &'static str,
    commands: impl Iterator<Item = Command>,
) -> Option<BTreeMap<String, usize>> {
    let twins = follow(name, |writer, _| {
        commands.for_each(|command| {
            // An error has no effect: what the server does not know, or what meets a key of another type.
            writer.try_call(command);
        });
    })?;
    let (mut writer, mut reader) = (twins.first.client(), twins.second.client());
    let (ours, theirs) = (deadlines(&mut writer), deadlines(&mut reader));
    assert_eq!(
        Vec::from_iter(ours.keys()),
        Vec::from_iter(theirs.keys()),
        "{name}: what has a deadline"
    );
    // Up to 6.2 relative deadlines are propagated, and no server tells the time at which a key dies.
    let slack = if writer.knows("PEXPIRETIME") { 0 } else { 5_000 };
    for (what, at) in &ours {
        let off = theirs[what] - at - SHIFT;
        assert!(off.abs() <= slack, "{name}: the deadline of {what:?} is {off} ms off");
    }
    assert_eq!(twins.first.digest(), twins.second.digest(), "{name}: DEBUG DIGEST");
    Some(twins.names)
}

/// A server, and another that was told what the first propagated.
struct Twins {
    first: Server,
    second: Server,
    /// The names of what was propagated and played.
    names: BTreeMap<String, usize>,
}

/// Has `drive` write to one server, and plays what that propagates to another.
fn follow(name: &'static str, drive: impl FnOnce(&mut Client, Version)) -> Option<Twins> {
    let (first, second) = (Server::start(name)?, Server::start(name)?);
    let mut link = Link::open(&first);
    let mut writer = first.client();
    drive(&mut writer, first.version);
    writer.select(0);
    writer.call(cmd!("SET", END, "1"));

    let kind = kind(&mut writer);
    let mut reader = second.client();
    let mut names = BTreeMap::new();
    let mut faults = Vec::new();
    loop {
        let command = link.next();
        if command.get(1).is_some_and(|key| key == END.as_bytes()) {
            break;
        }
        let (key, played) = play(&command, &kind, &mut reader);
        *names.entry(key).or_insert(0) += usize::from(!played.is_empty());
        for (line, expect, reply) in played {
            let judgement = judge(expect, outcome(&reply));
            // That a removal finds nothing is no difference; what is different is told by the digests.
            if judgement == Judgement::Diverged {
                faults.push(format!("{line}: {reply:?} where {expect:?} was expected"));
            }
        }
    }
    assert!(faults.is_empty(), "{name}:\n  {}", faults.join("\n  "));
    writer.call(cmd!("DEL", END));
    Some(Twins { first, second, names })
}

const END: &str = "the end of the test";

/// Sends one command of a stream with its deadline put off. The commands sent, with the reply expected and the reply given.
fn play(
    command: &[Vec<u8>],
    kind: &Kind,
    to: &mut Client,
) -> (String, Vec<(String, Expect, Value)>) {
    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    let name = String::from_utf8_lossy(args[0]).to_lowercase();
    let known = lookup(args[0]).unwrap_or_else(|| panic!("{name} is unknown"));
    match known.class(&args) {
        // One by one: what a transaction would answer is the same.
        Class::Multi | Class::Exec | Class::Ping => return (name, Vec::new()),
        Class::Unknown | Class::Control | Class::Read => panic!("a master propagated {name}"),
        _ => {}
    }
    let (sent, expects): (Vec<Command>, Vec<Expect>) = match known.deadline(&args).unwrap() {
        Some(deadline) => {
            let mut out = Vec::new();
            let at_ms = deadline.time.at(now_ms()) + SHIFT;
            let encoded = deadline.encode(&mut out, &args, at_ms, kind).unwrap();
            (commands(&out).0, encoded.expects().collect())
        }
        None => (vec![command.to_vec()], vec![known.expect(&args).unwrap()]),
    };
    assert_eq!(sent.len(), expects.len());
    let played = sent
        .into_iter()
        .zip(expects)
        .map(|(command, expect)| {
            let words: Vec<_> = command.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            let line = words.join(" ");
            (line, expect, to.try_call(command))
        })
        .collect();
    (name, played)
}

fn outcome(reply: &Value) -> Outcome {
    match reply {
        Value::Nil => Outcome::Nil,
        Value::Int(number) => Outcome::Integer(*number),
        Value::Status(_) => Outcome::Status,
        Value::Error(line) => Outcome::of_error(line.as_bytes()),
        Value::Bulk(_) => Outcome::Bulk,
        Value::Array(elements) => Outcome::Array {
            filled: elements.iter().filter(|element| **element != Value::Nil).count(),
            greatest: elements
                .iter()
                .filter_map(
                    |element| if let Value::Int(number) = element { Some(*number) } else { None },
                )
                .max(),
        },
    }
}

/// When each key and each field of a hash dies: by database, key, and field.
type Deadlines = BTreeMap<(u32, Vec<u8>, Option<Vec<u8>>), i64>;

/// In milliseconds: Unix times, or where the server cannot tell them what is left.
fn deadlines(client: &mut Client) -> Deadlines {
    let asked = if client.knows("PEXPIRETIME") { "PEXPIRETIME" } else { "PTTL" };
    let fields = client.knows("HPEXPIRETIME");
    let mut found = Deadlines::new();
    for db in 0..16 {
        client.select(db);
        for key in client.call(cmd!("KEYS", "*")).strings() {
            let at = client.call(cmd!(asked, key)).int();
            if at >= 0 {
                found.insert((db, key.clone(), None), at);
            }
            if fields && client.call(cmd!("TYPE", key)).text() == "hash" {
                for field in client.call(cmd!("HKEYS", key)).strings() {
                    let times = client.call(cmd!("HPEXPIRETIME", key, "FIELDS", 1, field));
                    if times.array()[0].int() >= 0 {
                        found.insert((db, key.clone(), Some(field)), times.array()[0].int());
                    }
                }
            }
        }
    }
    client.select(0);
    found
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn kind(client: &mut Client) -> Kind {
    Kind::from_info(&client.call(cmd!("INFO", "server")).text()).unwrap()
}

fn words(line: &str) -> Command {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// The commands in `bytes`, and what is left of the last.
fn commands(bytes: &[u8]) -> (Vec<Command>, &[u8]) {
    let mut reader = CommandReader::default();
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(len) = reader.read(rest).unwrap() {
        found.push(reader.args(rest).map(<[u8]>::to_vec).collect::<Command>());
        rest = &rest[len..];
    }
    found.retain(|args| !args.is_empty());
    (found, rest)
}

/// The stream in a recording: its commands.
pub(crate) fn stream(recorded: &Path) -> Vec<Command> {
    let bytes = fs::read(recorded).unwrap();
    let start = sidecar(recorded)["stream_start"].as_u64().unwrap_or(0);
    // Some were cut within a command.
    commands(&bytes[usize::try_from(start).unwrap()..]).0
}

fn sidecar(recorded: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(recorded.with_extension("json")).unwrap()).unwrap()
}

fn corpus() -> Option<PathBuf> {
    let folder = env::var_os("UNDERSTUDY_CORPUS").map(PathBuf::from);
    if folder.is_none() {
        servers::say("skipped: command_twins, recorded commands (no UNDERSTUDY_CORPUS)");
    }
    folder
}

/// A replica's link, of the oldest kind, and nothing behind it.
struct Link {
    stream: BufReader<TcpStream>,
}

impl Link {
    fn open(master: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", master.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut link = Self { stream: BufReader::new(stream) };
        // Valkey 9 tells nobody of fields' deadlines who has not said so.
        link.send(b"REPLCONF version 9.1.0\r\n");
        link.line();
        link.send(b"SYNC\r\n");
        let length = loop {
            let line = link.line();
            if let Some(length) = line.strip_prefix(b"$") {
                break std::str::from_utf8(length).unwrap().parse::<usize>().unwrap();
            }
            assert!(line.is_empty(), "{:?}", String::from_utf8_lossy(&line));
        };
        link.stream.read_exact(&mut vec![0; length]).unwrap();
        link
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\n"), "the master closed the link");
        line.trim_ascii_end().to_vec()
    }

    /// The next command.
    fn next(&mut self) -> Command {
        let length = |line: Vec<u8>, mark: u8| -> usize {
            let digits = line.strip_prefix(&[mark]).unwrap();
            std::str::from_utf8(digits).unwrap().parse().unwrap()
        };
        loop {
            let line = self.line();
            if line.is_empty() {
                continue;
            }
            let args = length(line, b'*');
            return (0..args)
                .map(|_| {
                    let mut arg = vec![0; length(self.line(), b'$') + 2];
                    self.stream.read_exact(&mut arg).unwrap();
                    arg.truncate(arg.len() - 2);
                    arg
                })
                .collect();
        }
    }
}
