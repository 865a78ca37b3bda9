//! Scripts for what takes several commands of an older server, each of which depends on what the one before it said.
//!
//! All targets have scripts. (3.2 to 4.0 want to be told that the writes shall be replicated one by one where the script asked what is
//! different on each server; numbers are formatted since old servers write large ones in fourteen digits.)

macro_rules! script {
    ($($line:literal)+) => {
        concat!("if redis.replicate_commands then redis.replicate_commands() end ", $($line, " ",)+)
    };
}

/// Keys: the string. Arguments: its value.
pub(super) const SET_KEEPTTL: &str = script!(
    "local left=redis.call('PTTL',KEYS[1])"
    "redis.call('SET',KEYS[1],ARGV[1])"
    "if left>=0 then redis.call('PEXPIRE',KEYS[1],string.format('%.0f',math.max(left,1))) end"
    "return 1"
);

/// Keys: from, to. Arguments: 1 to replace, the other database or nothing, this database.
pub(super) const COPY: &str = script!(
    "local value=redis.call('DUMP',KEYS[1])"
    "if not value then return 0 end"
    "local left=redis.call('PTTL',KEYS[1])"
    "if left<0 then left=0 elseif left==0 then left=1 end"
    "if ARGV[2]~='' then redis.call('SELECT',ARGV[2]) end"
    "local done=0"
    "if ARGV[1]=='1' then redis.call('DEL',KEYS[2]) end"
    "if redis.call('EXISTS',KEYS[2])==0 then"
    "redis.call('RESTORE',KEYS[2],string.format('%.0f',left),value) done=1 end"
    "if ARGV[2]~='' then redis.call('SELECT',ARGV[3]) end"
    "return done"
);

/// Keys: from, to. Arguments: the command that takes, the command that puts.
pub(super) const LMOVE: &str = script!(
    "local element=redis.call(ARGV[1],KEYS[1])"
    "if element then redis.call(ARGV[2],KEYS[2],element) end"
    "return element"
);

/// Keys: the sorted set. Arguments: the options in one, then scores and members.
pub(super) const ZADD: &str = script!(
    "local function has(option) return string.find(ARGV[1],option,1,true) end"
    "local nx,xx,gt,lt,incr=has('nx'),has('xx'),has('gt'),has('lt'),has('incr')"
    "local done=0"
    "for i=2,#ARGV,2 do"
    "local old=redis.call('ZSCORE',KEYS[1],ARGV[i+1])"
    "local go"
    "if old then"
    "local is,will=tonumber(old),tonumber(ARGV[i])"
    "if incr then will=is+will end"
    "go=not nx and (not gt or will>is) and (not lt or will<is)"
    "else go=not xx end"
    "if go then redis.call(incr and 'ZINCRBY' or 'ZADD',KEYS[1],ARGV[i],ARGV[i+1]) done=done+1 end"
    "end return done"
);

/// Keys: the destination, the source. Arguments: 1 if the range comes with scores, the command that reads it, what follows the source.
pub(super) const ZRANGESTORE: &str = script!(
    "local command={ARGV[2],KEYS[2]}"
    "for i=3,#ARGV do command[i]=ARGV[i] end"
    "local found,scores=redis.call(unpack(command)),{}"
    "if ARGV[1]=='1' then"
    "local both=found found={}"
    "for i=1,#both,2 do found[#found+1]=both[i] scores[#scores+1]=both[i+1] end"
    "else for i,member in ipairs(found) do scores[i]=redis.call('ZSCORE',KEYS[2],member) end end"
    "redis.call('DEL',KEYS[1])"
    "for i,member in ipairs(found) do redis.call('ZADD',KEYS[1],scores[i],member) end"
    "return #found"
);

/// Keys: the destination, the sources; these may be sets.
pub(super) const ZDIFFSTORE: &str = script!(
    "local function all(key)"
    "if redis.call('TYPE',key).ok~='set' then return redis.call('ZRANGE',key,0,-1,'WITHSCORES') end"
    "local both={}"
    "for _,member in ipairs(redis.call('SMEMBERS',key)) do both[#both+1]=member both[#both+1]='1' end"
    "return both end"
    "local first,others=all(KEYS[2]),{}"
    "for k=3,#KEYS do local both=all(KEYS[k]) for i=1,#both,2 do others[both[i]]=true end end"
    "redis.call('DEL',KEYS[1])"
    "local done=0"
    "for i=1,#first,2 do if not others[first[i]] then"
    "redis.call('ZADD',KEYS[1],first[i+1],first[i]) done=done+1 end end"
    "return done"
);

/// Keys: the hash. Arguments: fields and values.
pub(super) const HSET_KEEPTTL: &str = script!(
    "for i=1,#ARGV,2 do"
    "local at=redis.call('HPEXPIRETIME',KEYS[1],'FIELDS',1,ARGV[i])"
    "redis.call('HSET',KEYS[1],ARGV[i],ARGV[i+1])"
    "if at[1] and at[1]>0 then"
    "redis.call('HPEXPIREAT',KEYS[1],string.format('%.0f',at[1]),'FIELDS',1,ARGV[i]) end"
    "end return #ARGV/2"
);

/// Keys: the stream. Arguments: the least id that stays, in full.
pub(super) const XTRIM_MINID: &str = script!(
    "local done=0"
    "for _,entry in ipairs(redis.call('XRANGE',KEYS[1],'-',ARGV[1])) do"
    "if entry[1]~=ARGV[1] then done=done+redis.call('XDEL',KEYS[1],entry[1]) end"
    "end return done"
);
