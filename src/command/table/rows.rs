//! The rows of the servers' own commands, by type. The keys, and whether they are written, are what
//! `COMMAND` answers; what a reply means stands in `judge.rs`.

use crate::command::class::Class;
use crate::command::deadline::{Form, Frame, Unit};
use crate::command::judge::{Expect, Replies};
use crate::command::keys::{Access, KeySpec};
use crate::command::older::{FIELD_DEADLINES, News, Since};
use crate::command::table::Command;

const READ: KeySpec = KeySpec::One(Access::Read);
const UPDATE: KeySpec = KeySpec::One(Access::Update);
const OVERWRITE: KeySpec = KeySpec::One(Access::Overwrite);
/// From one key to another; both matter.
const MOVED: KeySpec = KeySpec::Two(Access::Update, Access::Update);
/// A destination, then one source.
const DERIVED: KeySpec = KeySpec::Two(Access::Overwrite, Access::Read);
const STORE: KeySpec = KeySpec::Into(1, Access::Overwrite);
const STORE_COUNTED: KeySpec = KeySpec::IntoCounted(Access::Overwrite);
const READ_ALL: KeySpec = KeySpec::From(1, Access::Read);
const BLOCKING: KeySpec = KeySpec::AllButLast(Access::Update);
const ANY_OF: KeySpec = KeySpec::Counted { at: 1, step: 1, access: Access::Update };
const BLOCKING_ANY_OF: KeySpec = KeySpec::Counted { at: 2, step: 1, access: Access::Update };
const READ_COUNTED: KeySpec = KeySpec::Counted { at: 1, step: 1, access: Access::Read };
const SCRIPT: KeySpec = KeySpec::Counted { at: 2, step: 1, access: Access::Update };
const SCRIPT_RO: KeySpec = KeySpec::Counted { at: 2, step: 1, access: Access::Read };

/// Seconds, from now.
const EX: (Unit, Frame) = (Unit::Seconds, Frame::Relative);
/// Milliseconds, from now.
const PX: (Unit, Frame) = (Unit::Milliseconds, Frame::Relative);
/// Seconds of Unix time.
const EXAT: (Unit, Frame) = (Unit::Seconds, Frame::Absolute);
/// Milliseconds of Unix time.
const PXAT: (Unit, Frame) = (Unit::Milliseconds, Frame::Absolute);

const fn write(name: &'static str, keys: KeySpec, expect: Expect) -> Command {
    Command::write(name, keys, expect)
}

const fn read(name: &'static str, keys: KeySpec) -> Command {
    Command::read(name, keys)
}

const fn control(name: &'static str) -> Command {
    Command::other(name, Class::Control, Expect::Any)
}

const fn expire(name: &'static str, (unit, frame): (Unit, Frame)) -> Command {
    write(name, UPDATE, Expect::Positive).dated(Form::Expire(unit, frame))
}

const fn field_expire(name: &'static str, (unit, frame): (Unit, Frame)) -> Command {
    write(name, UPDATE, Expect::SomePositive)
        .dated(Form::FieldExpire(unit, frame))
        .newer(News::Command(FIELD_DEADLINES))
}

pub(super) const ROWS: &[Command] = &[
    // Keys of any type.
    write("del", KeySpec::From(1, Access::Remove), Expect::Removal),
    write("unlink", KeySpec::From(1, Access::Remove), Expect::Removal).newer(News::Unlink),
    write("delex", KeySpec::DelEx, Expect::Positive).newer(News::Deleted(Since::redis(8, 4, 0))),
    expire("expire", EX),
    expire("pexpire", PX),
    expire("expireat", EXAT),
    expire("pexpireat", PXAT),
    write("persist", UPDATE, Expect::Positive),
    write("rename", KeySpec::Two(Access::Update, Access::Overwrite), Expect::Status),
    write("renamenx", MOVED, Expect::Positive),
    write("move", KeySpec::Move, Expect::Positive),
    write("copy", KeySpec::Copy, Expect::Positive).newer(News::Copy),
    write("restore", KeySpec::Restore, Expect::Status).dated(Form::Restore).newer(News::Restore),
    write("restore-asking", KeySpec::Restore, Expect::Status)
        .dated(Form::Restore)
        .newer(News::Restore),
    write("migrate", KeySpec::Migrate, Expect::Any),
    write("sort", KeySpec::Sort, Expect::Any),
    read("sort_ro", KeySpec::Sort),
    read("exists", READ_ALL),
    read("touch", READ_ALL),
    read("type", READ),
    read("ttl", READ),
    read("pttl", READ),
    read("expiretime", READ),
    read("pexpiretime", READ),
    read("dump", READ),
    read("object", KeySpec::Sub(&["encoding", "freq", "idletime", "refcount"], Access::Read)),
    read("memory", KeySpec::Sub(&["usage"], Access::Read)),
    read("keys", KeySpec::None),
    read("scan", KeySpec::None),
    read("clusterscan", KeySpec::None),
    read("randomkey", KeySpec::None),
    read("dbsize", KeySpec::None),
    // Strings.
    write("set", KeySpec::Set, Expect::Status)
        .judged(Replies::Set)
        .dated(Form::Set)
        .newer(News::Set),
    write("setex", OVERWRITE, Expect::Status).dated(Form::SetEx(Unit::Seconds)),
    write("psetex", OVERWRITE, Expect::Status).dated(Form::SetEx(Unit::Milliseconds)),
    write("setnx", UPDATE, Expect::Positive),
    write("mset", KeySpec::Every(2, Access::Overwrite), Expect::Status),
    write("msetnx", KeySpec::Every(2, Access::Update), Expect::Positive),
    write("msetex", KeySpec::Counted { at: 1, step: 2, access: Access::Update }, Expect::Positive)
        .dated(Form::MSetEx)
        .newer(News::MSetEx),
    write("getset", UPDATE, Expect::Any),
    write("getdel", UPDATE, Expect::Something).newer(News::Deleted(Since::redis(6, 2, 0))),
    write("getex", UPDATE, Expect::Something).dated(Form::GetEx).newer(News::GetEx),
    write("delifeq", UPDATE, Expect::Positive)
        .newer(News::Deleted(Since::redis(u16::MAX, 0, 0).valkey(9, 0))),
    write("append", UPDATE, Expect::Integer),
    write("setrange", UPDATE, Expect::Positive),
    write("incr", UPDATE, Expect::Integer),
    write("incrby", UPDATE, Expect::Integer),
    write("decr", UPDATE, Expect::Integer),
    write("decrby", UPDATE, Expect::Integer),
    write("incrbyfloat", UPDATE, Expect::Something),
    write("increx", UPDATE, Expect::Something)
        .dated(Form::IncrEx)
        .newer(News::Command(Since::redis(8, 8, 0))),
    write("setbit", UPDATE, Expect::Integer),
    write("bitfield", KeySpec::BitField, Expect::Something)
        .newer(News::Command(Since::redis(3, 2, 0))),
    write("bitop", KeySpec::Into(2, Access::Overwrite), Expect::Integer).newer(News::BitOp),
    read("get", READ),
    read("mget", READ_ALL),
    read("strlen", READ),
    read("getrange", READ),
    read("substr", READ),
    read("getbit", READ),
    read("bitcount", READ),
    read("bitpos", READ),
    read("bitfield_ro", READ),
    read("lcs", KeySpec::Two(Access::Read, Access::Read)),
    // STRALGO LCS was 6.0's LCS, over strings or KEYS a b; nobody propagates it.
    read("stralgo", KeySpec::None).reaching(),
    read("digest", READ),
    // HyperLogLogs. PFCOUNT of one key may store the count in it, and is then propagated.
    write("pfadd", UPDATE, Expect::Positive).newer(News::Command(Since::redis(2, 8, 9))),
    write("pfcount", KeySpec::From(1, Access::Update), Expect::Integer)
        .newer(News::Command(Since::redis(2, 8, 9))),
    write("pfmerge", KeySpec::Into(1, Access::Update), Expect::Status)
        .newer(News::Command(Since::redis(2, 8, 9))),
    write("pfdebug", KeySpec::Second(Access::Update), Expect::Any),
    // Lists.
    write("lpush", UPDATE, Expect::Positive),
    write("rpush", UPDATE, Expect::Positive),
    write("lpushx", UPDATE, Expect::Positive).newer(News::PushX),
    write("rpushx", UPDATE, Expect::Positive).newer(News::PushX),
    write("linsert", UPDATE, Expect::Positive),
    write("lset", UPDATE, Expect::Status),
    write("ltrim", UPDATE, Expect::Status),
    write("lrem", UPDATE, Expect::Positive),
    write("lpop", UPDATE, Expect::Something).newer(News::Pop),
    write("rpop", UPDATE, Expect::Something).newer(News::Pop),
    write("lmpop", ANY_OF, Expect::Something).newer(News::Command(Since::redis(7, 0, 0))),
    write("rpoplpush", MOVED, Expect::Something),
    write("lmove", MOVED, Expect::Something).newer(News::LMove),
    write("lmovem", MOVED, Expect::Something),
    write("blpop", BLOCKING, Expect::Something),
    write("brpop", BLOCKING, Expect::Something),
    write("blmpop", BLOCKING_ANY_OF, Expect::Something).newer(News::Command(Since::redis(7, 0, 0))),
    write("brpoplpush", MOVED, Expect::Something),
    write("blmove", MOVED, Expect::Something).newer(News::LMove),
    write("blmovem", MOVED, Expect::Something),
    read("llen", READ),
    read("lindex", READ),
    read("lrange", READ),
    read("lpos", READ),
    // Sets.
    write("sadd", UPDATE, Expect::Positive),
    write("srem", UPDATE, Expect::Positive),
    write("spop", UPDATE, Expect::Something),
    write("smove", MOVED, Expect::Positive),
    write("sinterstore", STORE, Expect::Integer),
    write("sunionstore", STORE, Expect::Integer),
    write("sdiffstore", STORE, Expect::Integer),
    read("scard", READ),
    read("sismember", READ),
    read("smismember", READ),
    read("smembers", READ),
    read("srandmember", READ),
    read("sscan", READ),
    read("sinter", READ_ALL),
    read("sunion", READ_ALL),
    read("sdiff", READ_ALL),
    read("sintercard", READ_COUNTED),
    read("sunioncard", READ_COUNTED),
    read("sdiffcard", READ_COUNTED),
    // Hashes.
    write("hset", UPDATE, Expect::Integer).newer(News::HSet),
    write("hmset", UPDATE, Expect::Status),
    write("hsetnx", UPDATE, Expect::Positive),
    // Redis 8 propagates HSETEX with a deadline in the past as HDEL, also of fields that no replica has seen.
    write("hdel", UPDATE, Expect::Removal),
    write("hincrby", UPDATE, Expect::Integer),
    write("hincrbyfloat", UPDATE, Expect::Something),
    write("hsetex", UPDATE, Expect::Positive)
        .dated(Form::FieldOptions { per_field: 2 })
        .newer(News::HSetEx),
    write("hgetex", UPDATE, Expect::Something)
        .dated(Form::FieldOptions { per_field: 1 })
        .newer(News::HGetEx),
    write("hgetdel", UPDATE, Expect::Something).newer(News::HGetDel),
    field_expire("hexpire", EX),
    field_expire("hpexpire", PX),
    field_expire("hexpireat", EXAT),
    field_expire("hpexpireat", PXAT),
    write("hpersist", UPDATE, Expect::Lasting).newer(News::Command(FIELD_DEADLINES)),
    read("hget", READ),
    read("hmget", READ),
    read("hgetall", READ),
    read("hkeys", READ),
    read("hvals", READ),
    read("hlen", READ),
    read("hexists", READ),
    read("hstrlen", READ),
    read("hrandfield", READ),
    read("hscan", READ),
    read("httl", READ),
    read("hpttl", READ),
    read("hexpiretime", READ),
    read("hpexpiretime", READ),
    // Sorted sets.
    write("zadd", UPDATE, Expect::Something).newer(News::ZAdd),
    write("zincrby", UPDATE, Expect::Something),
    write("zrem", UPDATE, Expect::Positive),
    write("zremrangebyrank", UPDATE, Expect::Positive),
    write("zremrangebyscore", UPDATE, Expect::Positive),
    write("zremrangebylex", UPDATE, Expect::Positive).newer(News::Command(Since::redis(2, 8, 9))),
    write("zpopmin", UPDATE, Expect::Something).newer(News::ZPop),
    write("zpopmax", UPDATE, Expect::Something).newer(News::ZPop),
    write("zmpop", ANY_OF, Expect::Something).newer(News::Command(Since::redis(7, 0, 0))),
    write("bzpopmin", BLOCKING, Expect::Something).newer(News::Command(Since::redis(5, 0, 0))),
    write("bzpopmax", BLOCKING, Expect::Something).newer(News::Command(Since::redis(5, 0, 0))),
    write("bzmpop", BLOCKING_ANY_OF, Expect::Something).newer(News::Command(Since::redis(7, 0, 0))),
    write("zunionstore", STORE_COUNTED, Expect::Integer),
    write("zinterstore", STORE_COUNTED, Expect::Integer),
    write("zdiffstore", STORE_COUNTED, Expect::Integer).newer(News::ZDiffStore),
    write("zrangestore", DERIVED, Expect::Integer).newer(News::ZRangeStore),
    read("zcard", READ),
    read("zcount", READ),
    read("zlexcount", READ),
    read("zscore", READ),
    read("zmscore", READ),
    read("zrank", READ),
    read("zrevrank", READ),
    read("zrange", READ),
    read("zrangebyscore", READ),
    read("zrangebylex", READ),
    read("zrevrange", READ),
    read("zrevrangebyscore", READ),
    read("zrevrangebylex", READ),
    read("zrandmember", READ),
    read("zscan", READ),
    read("zunion", READ_COUNTED),
    read("zinter", READ_COUNTED),
    read("zdiff", READ_COUNTED),
    read("zintercard", READ_COUNTED),
    // Places. GEOADD arrives as ZADD.
    write("geoadd", UPDATE, Expect::Integer).newer(News::Command(Since::redis(3, 2, 0))),
    write("georadius", KeySpec::GeoRadius { options: 6 }, Expect::Any)
        .newer(News::Command(Since::redis(3, 2, 0))),
    write("georadiusbymember", KeySpec::GeoRadius { options: 5 }, Expect::Any)
        .newer(News::Command(Since::redis(3, 2, 0))),
    write("geosearchstore", DERIVED, Expect::Integer).newer(News::GeoSearchStore),
    read("georadius_ro", READ),
    read("georadiusbymember_ro", READ),
    read("geosearch", READ),
    read("geodist", READ),
    read("geohash", READ),
    read("geopos", READ),
    // Streams.
    write("xadd", UPDATE, Expect::Something).judged(Replies::XAdd).newer(News::XAdd),
    write("xdel", UPDATE, Expect::Positive).newer(News::Command(Since::redis(5, 0, 0))),
    write("xdelex", UPDATE, Expect::SomePositive).newer(News::Command(Since::redis(8, 2, 0))),
    write("xackdel", UPDATE, Expect::SomePositive).newer(News::Command(Since::redis(8, 2, 0))),
    write("xtrim", UPDATE, Expect::Positive).newer(News::XTrim),
    write("xsetid", UPDATE, Expect::Status).newer(News::XSetId),
    write("xcfgset", UPDATE, Expect::Status),
    write("xidmprecord", UPDATE, Expect::Status),
    write("xack", UPDATE, Expect::Positive).newer(News::Command(Since::redis(5, 0, 0))),
    write("xnack", UPDATE, Expect::Positive),
    write("xclaim", UPDATE, Expect::Something).newer(News::Command(Since::redis(5, 0, 0))),
    write("xautoclaim", UPDATE, Expect::Any).newer(News::Command(Since::redis(6, 2, 0))),
    write("xgroup", KeySpec::Sub(XGROUP, Access::Update), Expect::Any)
        .judged(Replies::XGroup)
        .newer(News::XGroup),
    write("xreadgroup", KeySpec::Streams(Access::Update), Expect::Any)
        .newer(News::Command(Since::redis(5, 0, 0))),
    read("xread", KeySpec::Streams(Access::Read)),
    read("xinfo", KeySpec::Sub(&["consumers", "groups", "stream"], Access::Read)),
    read("xlen", READ),
    read("xpending", READ),
    read("xrange", READ),
    read("xrevrange", READ),
    // Arrays (8.8).
    write("arset", UPDATE, Expect::Integer).newer(News::Command(Since::redis(8, 8, 0))),
    write("armset", UPDATE, Expect::Integer).newer(News::Command(Since::redis(8, 8, 0))),
    write("arinsert", UPDATE, Expect::Integer).newer(News::Command(Since::redis(8, 8, 0))),
    write("arring", UPDATE, Expect::Integer).newer(News::Command(Since::redis(8, 8, 0))),
    write("arseek", UPDATE, Expect::Positive).newer(News::Command(Since::redis(8, 8, 0))),
    write("ardel", UPDATE, Expect::Positive).newer(News::Command(Since::redis(8, 8, 0))),
    write("ardelrange", UPDATE, Expect::Positive).newer(News::Command(Since::redis(8, 8, 0))),
    read("arcount", READ),
    read("arget", READ),
    read("argetrange", READ),
    read("argrep", READ),
    read("arinfo", READ),
    read("arlastitems", READ),
    read("arlen", READ),
    read("armget", READ),
    read("arnext", READ),
    read("arop", READ),
    read("arscan", READ),
    // What frames the data in a stream.
    Command::other("select", Class::Select, Expect::Status),
    Command::other("multi", Class::Multi, Expect::Status),
    Command::other("exec", Class::Exec, Expect::Any),
    Command::other("ping", Class::Ping, Expect::Any),
    Command::other("replconf", Class::Ping, Expect::Any),
    Command::other("opinfo", Class::Ping, Expect::Any),
    Command::other("publish", Class::Publish, Expect::Integer),
    Command::other("spublish", Class::Publish, Expect::Integer),
    Command::other("flushall", Class::Flush, Expect::Status).newer(News::Flush),
    Command::other("flushdb", Class::Flush, Expect::Status).newer(News::Flush),
    Command::other("swapdb", Class::SwapDb, Expect::Status)
        .newer(News::Command(Since::redis(4, 0, 0))),
    Command::other("script", Class::Script, Expect::Any).newer(News::Script),
    Command::other("function", Class::Function, Expect::Any)
        .newer(News::Command(Since::redis(7, 0, 0))),
    Command::new("eval", Class::Eval, SCRIPT, Expect::Script).reaching(),
    Command::new("evalsha", Class::Eval, SCRIPT, Expect::Script).reaching(),
    Command::new("fcall", Class::Eval, SCRIPT, Expect::Script)
        .reaching()
        .newer(News::Command(Since::redis(7, 0, 0))),
    read("eval_ro", SCRIPT_RO).reaching(),
    read("evalsha_ro", SCRIPT_RO).reaching(),
    read("fcall_ro", SCRIPT_RO).reaching(),
    // Of a server or a connection.
    control("acl"),
    control("asking"),
    control("auth"),
    control("backup"),
    control("bgrewriteaof"),
    control("bgsave"),
    control("client"),
    control("cluster"),
    control("command"),
    control("commandlog"),
    control("config"),
    control("debug"),
    control("discard"),
    control("echo"),
    control("failover"),
    control("hello"),
    control("hotkeys"),
    control("info"),
    control("lastsave"),
    control("latency"),
    control("lolwut"),
    control("module"),
    control("monitor"),
    control("pfselftest"),
    control("psubscribe"),
    control("psync"),
    control("pubsub"),
    control("punsubscribe"),
    control("quit"),
    control("readonly"),
    control("readwrite"),
    control("replicaof"),
    control("reset"),
    control("role"),
    control("save"),
    control("sentinel"),
    control("shutdown"),
    control("slaveof"),
    control("slowlog"),
    control("ssubscribe"),
    control("subscribe"),
    control("sunsubscribe"),
    control("sync"),
    control("time"),
    control("unsubscribe"),
    control("unwatch"),
    control("wait"),
    control("waitaof"),
    control("watch"),
];

const XGROUP: &[&str] = &["create", "createconsumer", "delconsumer", "destroy", "setid"];
