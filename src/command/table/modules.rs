//! The rows of the modules that are met most: RedisJSON and valkey-json, RedisBloom and valkey-bloom,
//! RedisTimeSeries, the vector sets of Redis 8. Their values travel as module values of an RDB; a target
//! without the module answers these commands with an error, which puts their keys in doubt.

use crate::command::judge::Expect;
use crate::command::keys::Access;
use crate::command::keys::KeySpec;
use crate::command::table::Command;

const KEY: KeySpec = KeySpec::One(Access::Read);
const UPDATE: KeySpec = KeySpec::One(Access::Update);
const MERGE: KeySpec = KeySpec::IntoCounted(Access::Update);

const fn change(name: &'static str) -> Command {
    Command::write(name, UPDATE, Expect::Any)
}

const fn look(name: &'static str) -> Command {
    Command::read(name, KEY)
}

pub(super) const ROWS: &[Command] = &[
    // Vector sets.
    Command::write("vadd", UPDATE, Expect::Positive),
    Command::write("vrem", UPDATE, Expect::Positive),
    Command::write("vsetattr", UPDATE, Expect::Positive),
    look("vcard"),
    look("vdim"),
    look("vemb"),
    look("vgetattr"),
    look("vinfo"),
    look("vismember"),
    look("vlinks"),
    look("vrandmember"),
    look("vrange"),
    look("vsim"),
    // JSON documents.
    change("json.set"),
    change("json.merge"),
    change("json.del"),
    change("json.forget"),
    change("json.clear"),
    change("json.toggle"),
    change("json.numincrby"),
    change("json.nummultby"),
    change("json.numpowby"),
    change("json.strappend"),
    change("json.arrappend"),
    change("json.arrinsert"),
    change("json.arrpop"),
    change("json.arrtrim"),
    Command::write("json.mset", KeySpec::Every(3, Access::Update), Expect::Any),
    Command::read("json.mget", KeySpec::AllButLast(Access::Read)),
    look("json.get"),
    look("json.type"),
    look("json.strlen"),
    look("json.arrlen"),
    look("json.arrindex"),
    look("json.objkeys"),
    look("json.objlen"),
    look("json.resp"),
    // Bloom filters.
    change("bf.reserve"),
    change("bf.add"),
    change("bf.madd"),
    change("bf.insert"),
    change("bf.loadchunk"),
    change("bf.load"),
    look("bf.exists"),
    look("bf.mexists"),
    look("bf.info"),
    look("bf.card"),
    look("bf.scandump"),
    // Cuckoo filters.
    change("cf.reserve"),
    change("cf.add"),
    change("cf.addnx"),
    change("cf.insert"),
    change("cf.insertnx"),
    change("cf.del"),
    change("cf.loadchunk"),
    change("cf.compact"),
    look("cf.exists"),
    look("cf.mexists"),
    look("cf.count"),
    look("cf.info"),
    look("cf.scandump"),
    // Count-min sketches.
    change("cms.initbydim"),
    change("cms.initbyprob"),
    change("cms.incrby"),
    Command::write("cms.merge", MERGE, Expect::Any),
    look("cms.query"),
    look("cms.info"),
    // Top-k.
    change("topk.reserve"),
    change("topk.add"),
    change("topk.incrby"),
    look("topk.query"),
    look("topk.count"),
    look("topk.list"),
    look("topk.info"),
    // t-digests.
    change("tdigest.create"),
    change("tdigest.add"),
    change("tdigest.reset"),
    Command::write("tdigest.merge", MERGE, Expect::Any),
    look("tdigest.min"),
    look("tdigest.max"),
    look("tdigest.quantile"),
    look("tdigest.cdf"),
    look("tdigest.trimmed_mean"),
    look("tdigest.rank"),
    look("tdigest.revrank"),
    look("tdigest.byrank"),
    look("tdigest.byrevrank"),
    look("tdigest.info"),
    // Time series. A sample added to one also changes those that compaction rules derive from it.
    change("ts.create"),
    change("ts.alter"),
    change("ts.add").reaching(),
    change("ts.incrby").reaching(),
    change("ts.decrby").reaching(),
    change("ts.del").reaching(),
    Command::write("ts.madd", KeySpec::Every(3, Access::Update), Expect::Any).reaching(),
    Command::write("ts.createrule", KeySpec::Two(Access::Update, Access::Update), Expect::Any),
    Command::write("ts.deleterule", KeySpec::Two(Access::Update, Access::Update), Expect::Any),
    look("ts.get"),
    look("ts.info"),
    look("ts.range"),
    look("ts.revrange"),
    Command::read("ts.mget", KeySpec::None).reaching(),
    Command::read("ts.mrange", KeySpec::None).reaching(),
    Command::read("ts.mrevrange", KeySpec::None).reaching(),
    Command::read("ts.queryindex", KeySpec::None).reaching(),
];
