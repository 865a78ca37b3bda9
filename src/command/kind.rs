//! Which type of value a command is about: what there is to know of a key's type from the stream alone.

use crate::command::class::Class;
use crate::command::table::Command;
use crate::rdb::opcode::ValueType;

impl Command {
    /// The type that the keys have which this command writes, once it has run. `None` if it takes keys of any type (`DEL`, `RENAME`,
    /// `RESTORE`), or none.
    #[must_use]
    pub fn value_type(&self) -> Option<ValueType> {
        Some(match self.name() {
            "set" | "setex" | "psetex" | "setnx" | "mset" | "msetnx" | "msetex" | "getset"
            | "getdel" | "getex" | "delifeq" | "append" | "setrange" | "incr" | "incrby"
            | "decr" | "decrby" | "incrbyfloat" | "increx" | "setbit" | "bitfield" | "bitop"
            | "pfadd" | "pfcount" | "pfmerge" | "pfdebug" => ValueType::String,
            "lpush" | "rpush" | "lpushx" | "rpushx" | "linsert" | "lset" | "ltrim" | "lrem"
            | "lpop" | "rpop" | "lmpop" | "rpoplpush" | "lmove" | "lmovem" | "blpop" | "brpop"
            | "blmpop" | "brpoplpush" | "blmove" | "blmovem" | "sort" => ValueType::List,
            "sadd" | "srem" | "spop" | "smove" | "sinterstore" | "sunionstore" | "sdiffstore" => {
                ValueType::Set
            }
            "hset" | "hmset" | "hsetnx" | "hdel" | "hincrby" | "hincrbyfloat" | "hsetex"
            | "hgetex" | "hgetdel" | "hexpire" | "hpexpire" | "hexpireat" | "hpexpireat"
            | "hpersist" => ValueType::Hash,
            "zadd" | "zincrby" | "zrem" | "zremrangebyrank" | "zremrangebyscore"
            | "zremrangebylex" | "zpopmin" | "zpopmax" | "zmpop" | "bzpopmin" | "bzpopmax"
            | "bzmpop" | "zunionstore" | "zinterstore" | "zdiffstore" | "zrangestore"
            | "geoadd" | "georadius" | "georadiusbymember" | "geosearchstore" => ValueType::Zset,
            "xadd" | "xdel" | "xdelex" | "xackdel" | "xtrim" | "xsetid" | "xcfgset"
            | "xidmprecord" | "xack" | "xnack" | "xclaim" | "xautoclaim" | "xgroup"
            | "xreadgroup" => ValueType::Stream,
            "del" | "unlink" | "delex" | "expire" | "pexpire" | "expireat" | "pexpireat"
            | "persist" | "rename" | "renamenx" | "move" | "copy" | "restore"
            | "restore-asking" | "migrate" => return None,
            // The modules', and those that Redis has in its own name since 8.0.
            _ if self.class(&[]) == Class::Data => ValueType::Module,
            _ => return None,
        })
    }

    /// The types that the keys may have which it only reads, where they need not be of [`value_type`](Self::value_type).
    #[must_use]
    pub fn reads_types(&self) -> &'static [ValueType] {
        match self.name() {
            "sort" => &[ValueType::List, ValueType::Set, ValueType::Zset],
            "zunionstore" | "zinterstore" | "zdiffstore" => &[ValueType::Zset, ValueType::Set],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::{all, lookup};

    #[test]
    fn what_has_no_type_here_is_a_modules() {
        let modules: Vec<&str> = all()
            .filter(|command| command.value_type() == Some(ValueType::Module))
            .map(Command::name)
            .filter(|name| !name.contains('.') && !name.starts_with("ar"))
            .collect();
        assert_eq!(modules, ["vadd", "vrem", "vsetattr"], "a new command needs its type");
        let typed = |name: &str| lookup(name.as_bytes()).unwrap().value_type();
        assert_eq!(typed("rename"), None);
        assert_eq!(typed("select"), None);
        assert_eq!(typed("zunionstore"), Some(ValueType::Zset));
    }
}
