//! Deadlines in the target, moved: at the end of a run those that were held back are set to what they are, and when the horizon moves those
//! that have come before it are held back.
//!
//! Each script looks where a deadline is before it moves it, so it can be run twice, and race with whoever sets a new one. What the rules make of
//! a deadline at the end ([`Settled`]) is far below those that are held back, so that is so with any rules.

use crate::command::judge::Expect;
use crate::plan::Ttl;
use crate::server::{Flavour, Server, Version};

use super::{Draft, SHIFT};

/// How many names one script gets. It blocks the target meanwhile: some 0.2 ms.
pub const PAGE: usize = 100;

/// Reads a deadline as it is (7.0 and later).
const EXACT: &str = "\
local least,most,by,now,lo,hi=unpack(ARGV) \
least,most,by,now,lo,hi=tonumber(least),tonumber(most),tonumber(by),tonumber(now),tonumber(lo),tonumber(hi) \
for _,k in ipairs(KEYS) do \
local d=redis.call('PEXPIRETIME',k) \
if d>=least and d<most then d=d+by \
if d>now then d=math.min(math.max(d,lo),hi) end \
redis.call('PEXPIREAT',k,string.format('%.0f',d)) end \
end return 0";

/// Before 7.0 a server tells only how long is left, on a clock that moves. The first key is an anchor whose deadline is known:
/// what is left of both, read within the same millisecond, gives the other's. It lives no longer than the script, so that none runs without
/// it, whatever was refused before. (3.2 to 4.0 want to be told that the script's writes shall be replicated one by one, since it reads the time.)
const ANCHORED: &str = "\
if redis.replicate_commands then redis.replicate_commands() end \
local least,most,by,now,lo,hi,at=unpack(ARGV) \
least,most,by,now,lo,hi=tonumber(least),tonumber(most),tonumber(by),tonumber(now),tonumber(lo),tonumber(hi) \
redis.call('SET',KEYS[1],'') redis.call('PEXPIREAT',KEYS[1],at) at=tonumber(at) \
for i=2,#KEYS do local a,p \
repeat a=redis.call('PTTL',KEYS[1]) p=redis.call('PTTL',KEYS[i]) until redis.call('PTTL',KEYS[1])==a \
local d=at+p-a \
if p>=0 and d>=least and d<most then d=d+by \
if d>now then d=math.min(math.max(d,lo),hi) end \
redis.call('PEXPIREAT',KEYS[i],string.format('%.0f',d)) end \
end redis.call('DEL',KEYS[1]) return 0";

/// The fields of a hash, a thousand at a time.
const FIELDS: &str = "\
local least,most,by,now,lo,hi=unpack(ARGV) \
least,most,by,now,lo,hi=tonumber(least),tonumber(most),tonumber(by),tonumber(now),tonumber(lo),tonumber(hi) \
for _,k in ipairs(KEYS) do if redis.call('TYPE',k).ok=='hash' then \
local all=redis.call('HKEYS',k) \
for from=1,#all,1000 do \
local some={} for i=from,math.min(from+999,#all) do some[#some+1]=all[i] end \
local at=redis.call('HPEXPIRETIME',k,'FIELDS',#some,unpack(some)) \
for i,d in ipairs(at) do if d>=least and d<most then d=d+by \
if d>now then d=math.min(math.max(d,lo),hi) end \
redis.call('HPEXPIREAT',k,string.format('%.0f',d),'FIELDS',1,some[i]) end end \
end end end return 0";

/// How a target is asked for deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// It tells them.
    Exact,
    /// It tells how long is left: a key with a known deadline is put beside the others.
    Anchored,
}

/// Writes the commands that move deadlines.
#[derive(Debug)]
pub struct Finish {
    script: Script,
    has_fields: bool,
    /// Deadlines from the first of these to before the second are moved, by the third.
    least: i64,
    most: i64,
    by: i64,
    /// What lies behind `now` then does not come before `earliest`, nor behind `latest`.
    now: i64,
    earliest: i64,
    latest: i64,
    /// The anchor's deadline.
    anchor_at: i64,
}

/// What becomes of deadlines at the end of a job, beside that they are held back no longer. All times are the target's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// When the job ended, in Unix milliseconds. What has passed by then is dead.
    pub at_ms: i64,
    /// By how much later each is, in milliseconds: what the outage lasted.
    pub later: i64,
    /// What is left then, at the least, in milliseconds.
    pub least: Option<i64>,
    /// And at the most. Of both the first bounds first.
    pub most: Option<i64>,
}

impl Settled {
    /// Of a job that ends now with these rules, whose source was last written to at `written_ms`, if that is known.
    #[must_use]
    pub fn new(ttl: &Ttl, at_ms: i64, written_ms: Option<i64>) -> Self {
        let outage = written_ms.map_or(0, |written| at_ms.saturating_sub(written).max(0));
        let later = if ttl.freezes() { outage } else { 0 };
        Self { at_ms, later, least: ttl.least(), most: ttl.most() }
    }
}

/// The key with a known deadline.
const ANCHOR: &[u8] = b"understudy:anchor";

/// Later than any deadline, and exact as a number of Lua.
const NEVER: i64 = 1 << 53;

/// How far ahead that is.
const ANCHOR_LIFE: i64 = 24 * 3600 * 1000;

impl Finish {
    /// For this target: deadlines that were held back are set to what they are by then. Those of keys are below `end` (see
    /// [`Deadlines::end`](super::Deadlines::end)). `now_ms` is the time of day.
    #[must_use]
    pub fn new(target: Server, end: i64, settled: &Settled, now_ms: i64) -> Self {
        let Settled { at_ms, later, least, most } = *settled;
        Self {
            least: SHIFT,
            most: end,
            by: later.saturating_sub(SHIFT),
            now: at_ms,
            earliest: least.map_or(0, |least| at_ms.saturating_add(least)),
            latest: most.map_or(NEVER, |most| at_ms.saturating_add(most)),
            ..Self::of(target, now_ms)
        }
    }

    /// For this target: deadlines of keys before `horizon` are held back, and those of all fields.
    #[must_use]
    pub fn hold(target: Server, horizon: i64, now_ms: i64) -> Self {
        Self { least: 0, most: horizon, by: SHIFT, ..Self::of(target, now_ms) }
    }

    fn of(target: Server, now_ms: i64) -> Self {
        let exact = target.as_redis() >= Version(7, 0, 0);
        let has_fields = match target.flavour {
            Flavour::Redis => target.version >= Version(7, 4, 0),
            Flavour::Valkey => target.version >= Version(9, 0, 0),
            Flavour::Redict => false,
        };
        Self {
            script: if exact { Script::Exact } else { Script::Anchored },
            has_fields,
            least: 0,
            most: 0,
            by: 0,
            now: 0,
            earliest: 0,
            latest: NEVER,
            anchor_at: now_ms.saturating_add(ANCHOR_LIFE),
        }
    }

    /// Whether the target knows deadlines of fields.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        self.has_fields
    }

    /// Moves the deadlines of so many keys, at most [`PAGE`], of the database that is selected.
    pub fn keys(&self, names: &[&[u8]], draft: &mut Draft) {
        let anchor = digits(self.anchor_at);
        let bounds =
            [self.least, self.most, self.by, self.now, self.earliest, self.latest].map(digits);
        let bounds = bounds.iter().map(String::as_bytes);
        match self.script {
            Script::Exact => {
                let count = digits_of(names.len());
                let mut args: Vec<&[u8]> = vec![b"EVAL", EXACT.as_bytes(), count.as_bytes()];
                args.extend_from_slice(names);
                args.extend(bounds);
                draft.push(&args, Expect::Integer);
            }
            Script::Anchored => {
                let count = digits_of(names.len() + 1);
                let mut args: Vec<&[u8]> =
                    vec![b"EVAL", ANCHORED.as_bytes(), count.as_bytes(), ANCHOR];
                args.extend_from_slice(names);
                args.extend(bounds);
                args.push(anchor.as_bytes());
                draft.push(&args, Expect::Integer);
            }
        }
    }

    /// Sets the deadlines of the fields of so many hashes.
    pub fn fields(&self, names: &[&[u8]], draft: &mut Draft) {
        // They are held back all alike, however late they come.
        let (least, most) = if self.by < 0 { (SHIFT, NEVER) } else { (0, SHIFT) };
        let bounds = [least, most, self.by, self.now, self.earliest, self.latest].map(digits);
        let count = digits_of(names.len());
        let mut args: Vec<&[u8]> = vec![b"EVAL", FIELDS.as_bytes(), count.as_bytes()];
        args.extend_from_slice(names);
        args.extend(bounds.iter().map(String::as_bytes));
        draft.push(&args, Expect::Integer);
    }
}

fn digits(number: i64) -> String {
    number.to_string()
}

fn digits_of(count: usize) -> String {
    count.to_string()
}
