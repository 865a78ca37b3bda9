//! The commands of a [`Load`]: a few at a time, chosen by its dice.

use std::cmp;

use crate::client::{Command, cmd};
use crate::load::{Among, FLUSHED, Load, SHORT, SWAPPED};

impl Load {
    /// The next few commands, which belong together.
    pub(super) fn next(&mut self) -> Vec<Command> {
        self.until_flush = self.until_flush.map(|left| left.saturating_sub(1));
        if self.until_flush == Some(0) {
            self.until_flush = None;
            return vec![cmd!("SELECT", FLUSHED), cmd!("FLUSHDB"), cmd!("SELECT", self.db)];
        }
        if self.among.is_some_and(|among| among.flushes) && self.dice.below(1500) == 0 {
            return vec![self.whole_databases()];
        }
        if self.dice.below(25) == 0 {
            self.db = self.database();
            return vec![cmd!("SELECT", self.db)];
        }
        match self.dice.below(100) {
            0..20 => self.string(),
            20..34 => self.list(),
            34..44 => self.set(),
            44..56 => self.zset(),
            56..68 => self.hash(),
            68..80 => self.deadline(),
            80..86 if self.holds.streams => self.stream(),
            86..90 => self.transaction(),
            90..94 => self.script(),
            94..97 => self.whole_keys(),
            97 if self.holds.field_deadlines => self.field_deadline(),
            _ => self.sketch(),
        }
    }

    fn key(&mut self, kind: &str) -> String {
        format!("load:{kind}:{}", self.dice.below(self.keys))
    }

    fn database(&mut self) -> u32 {
        u32::try_from(self.dice.next() % u64::from(self.dbs)).unwrap()
    }

    fn whole_databases(&mut self) -> Command {
        match self.dice.below(5) {
            0 => cmd!("FLUSHALL"),
            1 | 2 if self.holds.swapdb => {
                let first = self.database();
                cmd!("SWAPDB", first, (first + 1) % self.dbs)
            }
            _ => cmd!("FLUSHDB"),
        }
    }

    fn number(&mut self) -> i64 {
        i64::try_from(self.dice.below(200_000)).unwrap() - 100_000
    }

    /// A value: a number, a word, text that compresses or bytes that do not.
    fn value(&mut self) -> Vec<u8> {
        match self.dice.below(10) {
            0..4 => self.number().to_string().into_bytes(),
            4..7 => format!("value {}", self.dice.below(1000)).into_bytes(),
            7 => b"again and again ".repeat(self.dice.below(40)),
            _ => {
                let len = self.dice.below(300);
                self.dice.bytes(len)
            }
        }
    }

    fn member(&mut self) -> String {
        format!("m{}", self.dice.below(40))
    }

    fn score(&mut self) -> String {
        format!("{}.{}", self.number(), self.dice.below(1000))
    }

    fn string(&mut self) -> Vec<Command> {
        let (key, other, counter, float) =
            (self.key("string"), self.key("string"), self.key("counter"), self.key("float"));
        let (value, second) = (self.value(), self.value());
        let at = self.dice.below(500);
        vec![match self.dice.below(18) {
            0..3 => cmd!("SET", key, value),
            3 => cmd!("SETNX", key, value),
            4 => cmd!("SET", key, value, "XX"),
            5 => cmd!("GETSET", key, value),
            6 => cmd!("APPEND", key, value),
            7 => cmd!("SETRANGE", key, at, value),
            8 => cmd!("SETBIT", key, at, at % 2),
            9 => cmd!("BITOP", "XOR", self.key("string"), key, other),
            10 => cmd!("MSET", key, value, other, second, self.key("string"), "third"),
            11 => cmd!("MSETNX", self.key("new"), value, other, second),
            12 => cmd!("INCR", counter),
            13 => cmd!("INCRBY", counter, self.number()),
            14 => cmd!("DECRBY", counter, self.number()),
            15 => cmd!("INCRBYFLOAT", float, self.score()),
            16 if self.version.at_least(6, 2) => cmd!("GETDEL", key),
            16 if self.version.at_least(3, 2) => cmd!("BITFIELD", key, "INCRBY", "i16", at, 7),
            _ => cmd!("DEL", key),
        }]
    }

    fn list(&mut self) -> Vec<Command> {
        let (key, other) = (self.key("list"), self.key("list"));
        let (value, second) = (self.value(), self.value());
        let push = cmd!("RPUSH", key, value, second, self.number());
        match self.dice.below(18) {
            0..3 => vec![push],
            3 => vec![cmd!("LPUSH", key, value)],
            4 => vec![cmd!("LPUSHX", key, value)],
            5 => vec![cmd!("LPUSH", key, "pivot"), cmd!("LINSERT", key, "AFTER", "pivot", value)],
            6 => vec![push, cmd!("LSET", key, -1, "set")],
            7 => vec![cmd!("LREM", key, 2, self.number())],
            8 => vec![cmd!("LTRIM", key, 0, 30)],
            9 => vec![cmd!("LPOP", key)],
            10 => vec![cmd!("RPOP", key)],
            11 => vec![cmd!("RPOPLPUSH", key, other)],
            12 => vec![push, cmd!("BLPOP", key, other, 1)],
            13 => vec![push, cmd!("BRPOPLPUSH", key, other, 1)],
            14 if self.version.at_least(6, 2) => {
                vec![cmd!("LMOVE", key, other, "LEFT", "RIGHT"), cmd!("LPOP", key, 2)]
            }
            15 if self.version.at_least(6, 2) => {
                vec![push, cmd!("BLMOVE", key, other, "RIGHT", "LEFT", 1)]
            }
            16 if self.version.at_least(7, 0) => {
                vec![push, cmd!("LMPOP", 2, other, key, "RIGHT", "COUNT", 2)]
            }
            17 if self.version.at_least(7, 0) => {
                vec![push, cmd!("BLMPOP", 1, 2, other, key, "LEFT", "COUNT", 3)]
            }
            _ => vec![cmd!("SORT", key, "ALPHA", "STORE", other)],
        }
    }

    fn set(&mut self) -> Vec<Command> {
        let (key, other, third) = (self.key("set"), self.key("set"), self.key("set"));
        let member = self.member();
        vec![match self.dice.below(12) {
            0..4 => cmd!("SADD", key, member, self.number(), self.member()),
            4 => cmd!("SREM", key, member, self.member()),
            5 => cmd!("SPOP", key),
            6 if self.version.at_least(3, 2) => cmd!("SPOP", key, 3),
            7 => cmd!("SMOVE", key, other, member),
            8 => cmd!("SUNIONSTORE", key, other, third),
            9 => cmd!("SINTERSTORE", key, other, third),
            10 => cmd!("SDIFFSTORE", key, other, third),
            _ => cmd!("SADD", key, member),
        }]
    }

    fn zset(&mut self) -> Vec<Command> {
        let (key, other, third) = (self.key("zset"), self.key("zset"), self.key("zset"));
        let (member, score) = (self.member(), self.score());
        let add = cmd!("ZADD", key, score, member, self.number(), self.member());
        match self.dice.below(18) {
            4 => vec![cmd!("ZINCRBY", key, score, member)],
            5 => vec![cmd!("ZREM", key, member)],
            6 => vec![cmd!("ZREMRANGEBYRANK", key, 20, -1)],
            7 => vec![cmd!("ZREMRANGEBYSCORE", key, score, "+inf")],
            8 => vec![cmd!("ZUNIONSTORE", key, 2, other, third, "WEIGHTS", 1, "0.5")],
            9 => vec![cmd!("ZINTERSTORE", key, 2, other, third)],
            10 => vec![cmd!("ZADD", key, "inf", "first", "-inf", "last")],
            11 if self.version.at_least(3, 2) => {
                vec![cmd!("GEOADD", self.key("geo"), "13.361389", "38.115556", member)]
            }
            12 if self.version.at_least(3, 2) => vec![cmd!("ZADD", key, "XX", "INCR", 3, member)],
            13 if self.version.at_least(5, 0) => vec![cmd!("ZPOPMIN", key, 2)],
            14 if self.version.at_least(5, 0) => vec![add, cmd!("BZPOPMAX", key, 1)],
            15 if self.version.at_least(6, 2) => vec![cmd!("ZADD", key, "GT", "CH", score, member)],
            16 if self.version.at_least(6, 2) => vec![cmd!("ZRANGESTORE", key, other, 0, 10)],
            17 if self.version.at_least(7, 0) => vec![cmd!("ZMPOP", 2, other, key, "MIN")],
            _ => vec![add],
        }
    }

    fn hash(&mut self) -> Vec<Command> {
        let (key, field) = (self.key("hash"), self.member());
        let (value, counter) = (self.value(), format!("count {}", self.dice.below(5)));
        vec![match self.dice.below(10) {
            0..3 => cmd!("HSET", key, field, value),
            3 => cmd!("HMSET", key, field, value, self.member(), "second"),
            4 => cmd!("HSETNX", key, field, value),
            5 => cmd!("HDEL", key, field, self.member()),
            6 => cmd!("HINCRBY", key, counter, self.number()),
            // One name, so that no field is ever a count and a float.
            7 => cmd!("HINCRBYFLOAT", key, "float", self.score()),
            _ => cmd!("HSET", key, field, self.number()),
        }]
    }

    /// Deadlines that pass during a test, that are renewed before they pass, and that outlive it.
    fn deadline(&mut self) -> Vec<Command> {
        let (key, list, value) = (self.key("mortal"), self.key("mortal list"), self.value());
        let now_s = 4_000_000_000_i64 + self.number();
        let short = 50 + self.dice.below(usize::try_from(SHORT.as_millis()).unwrap() - 50);
        let long = 100_000 + self.dice.below(1_000_000);
        let set = cmd!("SET", key, value);
        match self.dice.below(20) {
            0 => vec![set, cmd!("PEXPIRE", key, short)],
            1 => vec![cmd!("PSETEX", key, short, value)],
            2 => vec![cmd!("SET", key, value, "PX", short)],
            // Renewed while the first deadline is under way.
            3 => vec![cmd!("PSETEX", key, short, value), cmd!("PEXPIRE", key, long)],
            4 => vec![set, cmd!("PEXPIRE", key, short), cmd!("PERSIST", key)],
            5 => vec![
                cmd!("PSETEX", key, short, value),
                cmd!("APPEND", key, "kept"),
                cmd!("EXPIRE", key, long),
            ],
            6 => vec![cmd!("SETEX", key, long, value)],
            7 => vec![cmd!("SET", key, value, "EX", long)],
            8 => vec![cmd!("PEXPIRE", key, long)],
            9 => vec![cmd!("EXPIRE", key, long)],
            10 => vec![cmd!("EXPIREAT", key, now_s)],
            11 => vec![set, cmd!("PEXPIREAT", key, now_s * 1000 + 7)],
            12 => vec![cmd!("PERSIST", key)],
            13 => vec![set],
            14 => vec![cmd!("EXPIRE", key, -1)],
            15 if self.version.at_least(6, 0) => {
                vec![cmd!("SETEX", key, long, value), cmd!("SET", key, "new", "KEEPTTL")]
            }
            16 if self.version.at_least(6, 2) => vec![cmd!("GETEX", key, "PX", long)],
            17 if self.version.at_least(6, 2) => vec![cmd!("GETEX", key, "PERSIST")],
            18 if self.version.at_least(7, 0) => {
                vec![cmd!("PEXPIRE", key, long, "GT"), cmd!("PEXPIRE", key, long, "NX")]
            }
            19 if self.version.at_least(7, 0) => {
                vec![cmd!("PEXPIRE", key, long, "XX"), cmd!("PEXPIRE", key, short, "LT")]
            }
            _ => vec![cmd!("RPUSH", list, value), cmd!("PEXPIRE", list, short)],
        }
    }

    fn stream(&mut self) -> Vec<Command> {
        // A stream must keep its groups: it is neither flushed nor does it change its database.
        let moves = match self.among {
            Some(among) => among.flushes,
            None => self.db == FLUSHED || SWAPPED.contains(&self.db),
        };
        if moves {
            return self.sketch();
        }
        let which = self.dice.below(3);
        let next = &mut self.ids[self.db as usize][which];
        let id = *next;
        *next += 1;
        let key = match self.among {
            Some(Among { nth, .. }) => format!("load:stream:{nth}:{which}"),
            None => format!("load:stream:{which}"),
        };
        let add = cmd!("XADD", key, format!("{id}-1"), "n", id, "value", self.value());
        let consumer = format!("consumer {}", self.dice.below(3));
        if id == 1 {
            return vec![cmd!("XGROUP", "CREATE", key, "group", "0", "MKSTREAM"), add];
        }
        // With an entry added there is one to be read.
        let read = cmd!("XREADGROUP", "GROUP", "group", consumer, "COUNT", 1, "STREAMS", key, ">");
        let older = format!("{}-1", id.saturating_sub(1 + self.dice.next() % 8).max(1));
        match self.dice.below(if self.among.is_some() { 14 } else { 10 }) {
            10..12 => vec![add, cmd!("XDEL", key, older)],
            12 => vec![add, cmd!("XGROUP", "CREATE", key, "second", "0")],
            13 => vec![cmd!("XGROUP", "DESTROY", key, "second"), add],
            0..2 => vec![add],
            2..5 => vec![add, read],
            5 => vec![add, read, cmd!("XACK", key, "group", older, format!("{id}-1"))],
            // The read before it makes the consumer known to replicas: a claim that finds nothing would not.
            6 => vec![add, read, cmd!("XCLAIM", key, "group", consumer, 0, older)],
            7 => vec![add, cmd!("XTRIM", key, "MAXLEN", "~", 150)],
            8 if self.version.at_least(6, 2) => vec![
                add,
                cmd!("XADD", key, "NOMKSTREAM", "MAXLEN", "~", 100, format!("{id}-2"), "more", ""),
            ],
            _ => vec![add, read, cmd!("XGROUP", "DELCONSUMER", key, "group", "consumer 2")],
        }
    }

    fn transaction(&mut self) -> Vec<Command> {
        let mut commands = vec![cmd!("MULTI")];
        commands.extend(self.string());
        commands.extend(self.hash());
        if self.among.is_some() {
            commands.extend(self.list());
            commands.extend(self.zset());
            commands.extend(self.whole_keys());
        }
        if self.dice.below(3) == 0 {
            let other = self.dice.below(cmp::min(8, self.dbs as usize));
            commands.push(cmd!("SELECT", other));
            commands.push(cmd!("INCR", "load:counted in a transaction"));
            commands.push(cmd!("SELECT", self.db));
        }
        commands.extend(self.set());
        commands.push(cmd!("EXEC"));
        commands
    }

    fn script(&mut self) -> Vec<Command> {
        const WRITES: &str =
            "redis.call('RPUSH', KEYS[1], ARGV[1]); redis.call('INCR', KEYS[2]); return 1";
        const SHA1_OF_WRITES: &str = "2b227f904663e3f2c2ddf06d60bca9c15e4dcf3d";
        let (list, counter, value) = (self.key("list"), self.key("counter"), self.value());
        match self.dice.below(6) {
            // A server knows a script from its first EVAL on; the stream may go on with its name alone.
            0..4 if self.script_known => {
                vec![cmd!("EVALSHA", SHA1_OF_WRITES, 2, list, counter, value)]
            }
            0..4 => {
                self.script_known = true;
                vec![cmd!("EVAL", WRITES, 2, list, counter, value)]
            }
            4 if self.version.at_least(5, 0) => {
                // Decided by the master: a replica must be told the effects.
                let script = "local t = redis.call('TIME'); redis.call('SET', KEYS[1], t[2]); \
                              redis.call('PEXPIRE', KEYS[1], 200000 + t[2] % 1000); return redis.call('SPOP', KEYS[2])";
                vec![cmd!("EVAL", script, 2, self.key("mortal"), self.key("set"))]
            }
            5 if self.holds.functions => {
                let library = "#!lua name=load\nredis.register_function('load_add', function(keys, args)\n  \
                               redis.call('INCRBY', keys[1], args[1]); return redis.call('RPUSH', keys[2], args[1])\nend)\n";
                vec![
                    cmd!("FUNCTION", "LOAD", "REPLACE", library),
                    cmd!("FCALL", "load_add", 2, counter, list, self.number()),
                ]
            }
            _ => vec![cmd!(
                "EVAL",
                "return redis.call('HSET', KEYS[1], 'script', ARGV[1])",
                1,
                self.key("hash"),
                value
            )],
        }
    }

    /// Commands on keys of any kind. What may be renamed onto keeps its kind.
    fn whole_keys(&mut self) -> Vec<Command> {
        let kind = ["string", "list", "set", "zset", "hash"][self.dice.below(5)];
        let (key, other) =
            (format!("load:{kind}:{}", self.dice.below(self.keys)), self.dice.below(self.keys - 1));
        // Never itself, nor its own database: that is refused.
        let other = format!(
            "load:{kind}:{}",
            if key.ends_with(&format!(":{other}")) { self.keys - 1 } else { other }
        );
        let elsewhere = u32::try_from(self.dice.next() % u64::from(self.dbs - 1)).unwrap();
        let db = (self.db + 1 + elsewhere) % self.dbs;
        vec![match self.dice.below(9) {
            0..2 => cmd!("RENAME", key, other),
            2 => cmd!("RENAMENX", key, other),
            3 => cmd!("MOVE", key, db),
            4 if self.version.at_least(6, 2) => cmd!("COPY", key, other, "REPLACE"),
            5 if self.version.at_least(6, 2) => cmd!("COPY", key, other, "DB", db),
            6 if self.version.at_least(4, 0) => cmd!("UNLINK", key, other),
            7 if self.holds.swapdb && self.among.is_none() && self.dice.below(4) == 0 => {
                cmd!("SWAPDB", SWAPPED[0], SWAPPED[1])
            }
            _ => cmd!("DEL", key),
        }]
    }

    fn field_deadline(&mut self) -> Vec<Command> {
        let (key, field) = (self.key("hash of mortals"), self.member());
        let (short, long) = (5 + self.dice.below(300), 100_000 + self.dice.below(1_000_000));
        let set = cmd!("HSET", key, field, self.number(), self.member(), "lives");
        let commands = match self.dice.below(5) {
            0 => vec![set, cmd!("HPEXPIRE", key, short, "FIELDS", 1, field)],
            1 => vec![
                set,
                cmd!("HPEXPIRE", key, long, "FIELDS", 1, field),
                cmd!("HPERSIST", key, "FIELDS", 1, field),
            ],
            2 => vec![cmd!("HPEXPIRE", key, long, "NX", "FIELDS", 2, field, self.member())],
            _ => vec![set, cmd!("HPEXPIRE", key, long, "FIELDS", 1, field)],
        };
        if self.among.is_none() {
            return commands;
        }
        // Nobody else may have the field die between them.
        [vec![cmd!("MULTI")], commands, vec![cmd!("EXEC")]].concat()
    }

    fn sketch(&mut self) -> Vec<Command> {
        let (key, other) = (self.key("hll"), self.key("hll"));
        vec![match self.dice.below(4) {
            0 => cmd!("PFMERGE", key, other, self.key("hll")),
            // Writes the cached count, so it is in the stream.
            1 => cmd!("PFCOUNT", key),
            _ => cmd!("PFADD", key, self.member(), self.number(), self.value()),
        }]
    }
}
