//! What a target does not know, said in words that it knows.
//!
//! A stream holds commands and options of its master's version. Where an older server, or one of another family, has other
//! commands with the same effect, those are written; where it has none, that is [`Unsupported`]. The effect counts, not the reply: a
//! master propagates no command that did nothing, so a condition that was met there need not be asked again.

mod lua;
mod streams;

use std::borrow::Cow;

use crate::command::args::{Args, Malformed};
use crate::command::deadline::Of;
use crate::command::judge::Expect;
use crate::command::table::Command;
use crate::key::Db;
use crate::server::{Flavour, Server, Version};

/// The release from which on servers have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    redis: Version,
    /// Valkey has what Redis 7.2 had, and this from its own release on.
    valkey: Option<Version>,
}

impl Since {
    pub(crate) const fn redis(major: u16, minor: u16, patch: u16) -> Self {
        Self { redis: Version(major, minor, patch), valkey: None }
    }

    pub(crate) const fn valkey(self, major: u16, minor: u16) -> Self {
        Self { valkey: Some(Version(major, minor, 0)), ..self }
    }

    fn is_in(self, server: Server) -> bool {
        let own = match server.flavour {
            Flavour::Valkey => self.valkey.is_some_and(|since| server.version >= since),
            Flavour::Redis | Flavour::Redict => false,
        };
        own || server.as_redis() >= self.redis
    }
}

/// Deadlines of hash fields.
pub(crate) const FIELD_DEADLINES: Since = Since::redis(7, 4, 0).valkey(9, 0);
const HSETEX: Since = Since::redis(8, 0, 0).valkey(9, 0);
const MSETEX: Since = Since::redis(8, 4, 0).valkey(9, 1);
/// `SET … IFEQ`.
const COMPARE_SET: Since = Since::redis(8, 4, 0).valkey(8, 1);
const V3_0: Since = Since::redis(3, 0, 0);
const V3_0_2: Since = Since::redis(3, 0, 2);
const V3_2: Since = Since::redis(3, 2, 0);
const V4_0: Since = Since::redis(4, 0, 0);
const V5_0: Since = Since::redis(5, 0, 0);
const V6_0: Since = Since::redis(6, 0, 0);
const V6_2: Since = Since::redis(6, 2, 0);
const V7_0: Since = Since::redis(7, 0, 0);
const V8_2: Since = Since::redis(8, 2, 0);

/// What is new in a command since 2.8.0, the oldest target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing that a stream holds.
    None,
    /// The command is, and nothing older does the same.
    Command(Since),
    Unlink,
    /// `GETDEL`, `DELIFEQ`, `DELEX`: the key was deleted.
    Deleted(Since),
    GetEx,
    Set,
    MSetEx,
    Restore,
    Copy,
    /// `LPUSHX` and `RPUSHX` with several elements.
    PushX,
    /// `LPOP` and `RPOP` with a count.
    Pop,
    LMove,
    ZAdd,
    ZPop,
    ZRangeStore,
    ZDiffStore,
    GeoSearchStore,
    BitOp,
    HSet,
    HSetEx,
    HGetEx,
    HGetDel,
    XAdd,
    XTrim,
    XGroup,
    XSetId,
    Flush,
    Script,
}

/// A target has nothing that does what a command does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{server} has nothing that does what {command} does")]
pub struct Unsupported {
    /// The command's name, with the option that is not known.
    pub command: String,
    /// The target.
    pub server: Server,
}

/// A command in other words: one command, several that belong in one transaction, or none where the target needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wording<'a> {
    /// In their order.
    pub commands: Vec<Worded<'a>>,
    /// The deadlines of the keys it writes may be off by a millisecond, and should be asked of the source.
    pub unsure: bool,
}

/// One command of a [`Wording`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worded<'a> {
    /// Its name and arguments.
    pub args: Vec<Cow<'a, [u8]>>,
    /// The reply that it should have.
    pub expect: Expect,
}

impl<'a> Wording<'a> {
    fn one(args: impl IntoIterator<Item = &'a [u8]>, expect: Expect) -> Self {
        Self::default().then(args, expect)
    }

    fn then(mut self, args: impl IntoIterator<Item = &'a [u8]>, expect: Expect) -> Self {
        self.commands.push(Worded { args: args.into_iter().map(Cow::Borrowed).collect(), expect });
        self
    }

    fn script(
        self,
        body: &'static str,
        keys: &[&'a [u8]],
        argv: impl IntoIterator<Item = Cow<'a, [u8]>>,
        expect: Expect,
    ) -> Self {
        let mut args = vec![
            Cow::Borrowed(&b"EVAL"[..]),
            Cow::Borrowed(body.as_bytes()),
            Cow::Owned(keys.len().to_string().into_bytes()),
        ];
        args.extend(keys.iter().map(|key| Cow::Borrowed(*key)));
        args.extend(argv);
        let mut wording = self;
        wording.commands.push(Worded { args, expect });
        wording
    }

    fn unsure(self) -> Self {
        Self { unsure: true, ..self }
    }
}

/// Why a command was not said in other words.
enum Not {
    /// It need not be.
    Needed,
    Possible(&'static str),
    Malformed,
}

impl From<Malformed> for Not {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

type Answer<'a> = Result<Wording<'a>, Not>;

impl Command {
    /// This command in words that `target` knows; `None` if it knows these, which is so of nearly every command.
    ///
    /// A command that carries a deadline is to be written by [`Deadline::encode`], once this has said that it can be
    /// ([`None`]). Arguments that cannot be those of the command are left to the target. `db` is the database in use.
    ///
    /// [`Deadline::encode`]: crate::command::deadline::Deadline::encode
    ///
    /// # Errors
    /// If the target has nothing that does the same.
    #[inline]
    pub fn worded_for<'a>(
        &self,
        target: Server,
        args: &'a [&'a [u8]],
        db: Db,
    ) -> Result<Option<Wording<'a>>, Unsupported> {
        if self.news == News::None {
            return Ok(None);
        }
        self.look_closer(target, args, db)
    }

    fn look_closer<'a>(
        &self,
        target: Server,
        args: &'a [&'a [u8]],
        db: Db,
    ) -> Result<Option<Wording<'a>>, Unsupported> {
        if let Ok(Some(deadline)) = self.deadline(args) {
            // Each form of these can be written for every target, but fields that die.
            let known = deadline.of == Of::Key || FIELD_DEADLINES.is_in(target);
            return if known { Ok(None) } else { Err(self.unsupported(target, "")) };
        }
        match self.say(target, Args(args), db) {
            Ok(wording) => Ok(Some(wording)),
            Err(Not::Needed | Not::Malformed) => Ok(None),
            Err(Not::Possible(option)) => Err(self.unsupported(target, option)),
        }
    }

    fn unsupported(&self, server: Server, option: &str) -> Unsupported {
        let space = if option.is_empty() { "" } else { " " };
        Unsupported {
            command: format!("{}{space}{option}", self.name().to_ascii_uppercase()),
            server,
        }
    }

    fn say<'a>(&self, target: Server, args: Args<'a>, db: Db) -> Answer<'a> {
        let needed = |since: Since| if since.is_in(target) { Err(Not::Needed) } else { Ok(()) };
        match self.news {
            News::None => Err(Not::Needed),
            News::Command(since) => needed(since).and(Err(Not::Possible(""))),
            News::Unlink => {
                needed(V4_0)?;
                let keys = args.0.iter().skip(1).copied();
                Ok(Wording::one([&b"DEL"[..]].into_iter().chain(keys), Expect::Removal))
            }
            News::Deleted(since) => {
                needed(since)?;
                Ok(Wording::one([b"DEL", args.at(1)?], Expect::Removal))
            }
            News::GetEx => {
                needed(V6_2)?;
                if args.is(2, "persist") {
                    return Ok(Wording::one([b"PERSIST", args.at(1)?], Expect::Positive));
                }
                Ok(Wording::default())
            }
            News::Set => set(target, args),
            News::MSetEx => mset(target, args),
            News::Restore => restore(target, args),
            News::Copy => needed(V6_2).and_then(|()| copy(args, db)),
            News::PushX => {
                needed(V4_0)?;
                if args.len() <= 3 {
                    return Err(Not::Needed);
                }
                let push: &[u8] = if self.name() == "lpushx" { b"LPUSH" } else { b"RPUSH" };
                Ok(Wording::one(
                    [push].into_iter().chain(args.0.iter().skip(1).copied()),
                    Expect::Positive,
                ))
            }
            News::Pop => needed(V6_2).and_then(|()| pop(self.name() == "lpop", args)),
            News::LMove => needed(V6_2).and_then(|()| lmove(args)),
            News::ZAdd => zadd(target, args),
            News::ZPop => needed(V5_0).and_then(|()| zpop(self.name().ends_with("min"), args)),
            News::ZRangeStore => needed(V6_2).and_then(|()| zrangestore(args)),
            News::ZDiffStore => {
                needed(V6_2)?;
                let count = args.count(2, 1)?;
                let mut keys = vec![args.at(1)?];
                keys.extend(args.0.iter().skip(3).take(count));
                Ok(Wording::default().script(lua::ZDIFFSTORE, &keys, [], Expect::Integer))
            }
            News::GeoSearchStore => needed(V6_2).and_then(|()| geosearchstore(target, args)),
            News::BitOp => {
                needed(V8_2)?;
                let new = args.is_any(1, &["diff", "diff1", "andor", "one"]);
                Err(if new { Not::Possible("DIFF, DIFF1, ANDOR or ONE") } else { Not::Needed })
            }
            News::HSet => {
                needed(V4_0)?;
                if args.len() <= 4 {
                    return Err(Not::Needed);
                }
                let rest = args.0.iter().skip(1).copied();
                Ok(Wording::one([&b"HMSET"[..]].into_iter().chain(rest), Expect::Status))
            }
            News::HSetEx => needed(HSETEX).and_then(|()| hsetex(target, args)),
            News::HGetEx => {
                needed(HSETEX)?;
                if !FIELD_DEADLINES.is_in(target) {
                    return Err(Not::Possible(""));
                }
                if !args.is(2, "persist") {
                    return Ok(Wording::default());
                }
                let rest = args.0.iter().skip(3).copied();
                let persist = [&b"HPERSIST"[..], args.at(1)?];
                Ok(Wording::one(persist.into_iter().chain(rest), Expect::Lasting))
            }
            News::HGetDel => {
                needed(Since::redis(8, 0, 0).valkey(9, 1))?;
                let fields = args.0.iter().skip(4).take(args.count(3, 1)?).copied();
                let del = [&b"HDEL"[..], args.at(1)?];
                Ok(Wording::one(del.into_iter().chain(fields), Expect::Removal))
            }
            News::XAdd | News::XTrim | News::XGroup | News::XSetId if !V5_0.is_in(target) => {
                Err(Not::Possible(""))
            }
            News::XAdd => streams::xadd(target, args),
            News::XTrim => streams::xtrim(target, args),
            News::XGroup => streams::xgroup(target, args),
            News::XSetId => streams::xsetid(target, args),
            News::Flush => {
                let known = if args.is(1, "async") { V4_0 } else { V6_2 };
                if args.len() == 1 || known.is_in(target) {
                    return Err(Not::Needed);
                }
                Ok(Wording::one([args.at(0)?], Expect::Status))
            }
            News::Script => {
                needed(V6_2)?;
                if args.is(1, "flush") && args.len() > 2 {
                    return Ok(Wording::one([args.at(0)?, args.at(1)?], Expect::Any));
                }
                Err(Not::Needed)
            }
        }
    }
}

/// `SET` without a deadline of its own. Conditions were met, and its old value is nobody's concern.
fn set<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    if args.len() == 3 {
        return Err(Not::Needed);
    }
    let (mut keep, mut strip) = (false, false);
    let mut rest = Vec::new();
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "keepttl") {
            keep = true;
            rest.push(args.at(at)?);
        } else if args.is(at, "get") && !V6_2.is_in(target) {
            strip = true;
        } else if args.is_any(at, &["ifeq", "ifne", "ifdeq", "ifdne"]) && !COMPARE_SET.is_in(target)
        {
            strip = true;
            at += 1;
        } else {
            rest.push(args.at(at)?);
        }
        at += 1;
    }
    let (key, value) = (args.at(1)?, args.at(2)?);
    if keep && !V6_0.is_in(target) {
        let value = [Cow::Borrowed(value)];
        return Ok(Wording::default()
            .script(lua::SET_KEEPTTL, &[key], value, Expect::Integer)
            .unsure());
    }
    if !strip {
        return Err(Not::Needed);
    }
    Ok(Wording::one([b"SET", key, value].into_iter().chain(rest), Expect::Status))
}

/// `MSETEX` without a deadline.
fn mset<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    if MSETEX.is_in(target) {
        return Err(Not::Needed);
    }
    let count = args.count(1, 2)?;
    let pairs = args.0.iter().skip(2).take(2 * count).copied();
    if !(2 + 2 * count..args.len()).any(|at| args.is(at, "keepttl")) {
        return Ok(Wording::one([&b"MSET"[..]].into_iter().chain(pairs), Expect::Status));
    }
    let mut wording = Wording::default();
    for at in (2..2 + 2 * count).step_by(2) {
        let (key, value) = (args.at(at)?, args.at(at + 1)?);
        wording = if V6_0.is_in(target) {
            wording.then([b"SET", key, value, b"KEEPTTL"], Expect::Status)
        } else {
            wording
                .script(lua::SET_KEEPTTL, &[key], [Cow::Borrowed(value)], Expect::Integer)
                .unsure()
        };
    }
    Ok(wording)
}

/// `RESTORE` without a deadline.
fn restore<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    let (mut replace, mut strip) = (false, args.is(0, "restore-asking"));
    let mut rest = Vec::new();
    let mut at = 4;
    while at < args.len() {
        let valued = args.is_any(at, &["idletime", "freq"]);
        if args.is(at, "replace") && !V3_0.is_in(target) {
            replace = true;
            strip = true;
        } else if (valued || args.is(at, "absttl")) && !V5_0.is_in(target) {
            strip = true;
            at += usize::from(valued);
        } else {
            rest.push(args.at(at)?);
        }
        at += 1;
    }
    if !strip {
        return Err(Not::Needed);
    }
    let (key, ttl, payload) = (args.at(1)?, args.at(2)?, args.at(3)?);
    let mut wording = Wording::default();
    if replace {
        wording = wording.then([b"DEL", key], Expect::Any);
    }
    Ok(wording.then([b"RESTORE", key, ttl, payload].into_iter().chain(rest), Expect::Status))
}

fn copy<'a>(args: Args<'a>, db: Db) -> Answer<'a> {
    let options = crate::command::keys::CopyOptions::read(args)?;
    let replace: &[u8] = if options.replace { b"1" } else { b"0" };
    let digits = |db: Db| Cow::Owned(db.index().to_string().into_bytes());
    let into = options.db.map_or(Cow::Borrowed(&b""[..]), |(_, db)| digits(db));
    let argv = [Cow::Borrowed(replace), into, digits(db)];
    let keys = [args.at(1)?, args.at(2)?];
    Ok(Wording::default().script(lua::COPY, &keys, argv, Expect::Positive).unsure())
}

fn pop<'a>(first: bool, args: Args<'a>) -> Answer<'a> {
    if args.len() < 3 {
        return Err(Not::Needed);
    }
    let (key, count) = (args.at(1)?, args.integer(2)?);
    let number = |number: i64| Cow::Owned(number.to_string().into_bytes());
    let (from, to) = if first { (count, -1) } else { (0, (-1_i64).saturating_sub(count)) };
    let args = vec![Cow::Borrowed(&b"LTRIM"[..]), Cow::Borrowed(key), number(from), number(to)];
    Ok(Wording { commands: vec![Worded { args, expect: Expect::Status }], unsure: false })
}

/// `LMOVE`, and `BLMOVE`, which a master sends as that.
fn lmove<'a>(args: Args<'a>) -> Answer<'a> {
    let keys = [args.at(1)?, args.at(2)?];
    let end = |at| match () {
        () if args.is(at, "left") => Ok(true),
        () if args.is(at, "right") => Ok(false),
        () => Err(Not::Malformed),
    };
    let (pop, push): (&[u8], &[u8]) = match (end(3)?, end(4)?) {
        (false, true) => {
            return Ok(Wording::one([b"RPOPLPUSH", keys[0], keys[1]], Expect::Something));
        }
        (false, false) => (b"RPOP", b"RPUSH"),
        (true, true) => (b"LPOP", b"LPUSH"),
        (true, false) => (b"LPOP", b"RPUSH"),
    };
    let argv = [Cow::Borrowed(pop), Cow::Borrowed(push)];
    Ok(Wording::default().script(lua::LMOVE, &keys, argv, Expect::Something))
}

fn zadd<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    let mut at = 2;
    let (mut known, mut conditional) = (true, false);
    let mut flags = Vec::new();
    while args.is_any(at, &["nx", "xx", "gt", "lt", "ch", "incr"]) {
        let since = if args.is_any(at, &["gt", "lt"]) { V6_2 } else { V3_0_2 };
        known &= since.is_in(target);
        conditional |= !args.is(at, "ch");
        flags.extend(args.at(at)?.to_ascii_lowercase());
        flags.push(b' ');
        at += 1;
    }
    if known {
        return Err(Not::Needed);
    }
    let key = args.at(1)?;
    let pairs = args.0.iter().skip(at).copied();
    if conditional {
        let argv = [Cow::Owned(flags)].into_iter().chain(pairs.map(Cow::Borrowed));
        return Ok(Wording::default().script(lua::ZADD, &[key], argv, Expect::Integer));
    }
    Ok(Wording::one([b"ZADD", key].into_iter().chain(pairs), Expect::Integer))
}

fn zpop<'a>(least: bool, args: Args<'a>) -> Answer<'a> {
    let count = if args.len() > 2 { args.integer(2)? } else { 1 };
    let number = |number: i64| Cow::Owned(number.to_string().into_bytes());
    let (from, to) = if least { (0, count - 1) } else { (-count, -1) };
    let name = Cow::Borrowed(&b"ZREMRANGEBYRANK"[..]);
    let args = vec![name, Cow::Borrowed(args.at(1)?), number(from), number(to)];
    Ok(Wording { commands: vec![Worded { args, expect: Expect::Positive }], unsure: false })
}

fn zrangestore<'a>(args: Args<'a>) -> Answer<'a> {
    let keys = [args.at(1)?, args.at(2)?];
    let (mut score, mut lex, mut rev) = (false, false, false);
    let mut limit = None;
    let mut at = 5;
    while at < args.len() {
        score |= args.is(at, "byscore");
        lex |= args.is(at, "bylex");
        rev |= args.is(at, "rev");
        if args.is(at, "limit") {
            limit = Some([args.at(at)?, args.at(at + 1)?, args.at(at + 2)?]);
            at += 2;
        }
        at += 1;
    }
    let range: &[u8] = match (score, lex, rev) {
        (true, _, false) => b"ZRANGEBYSCORE",
        (true, _, true) => b"ZREVRANGEBYSCORE",
        (_, true, false) => b"ZRANGEBYLEX",
        (_, true, true) => b"ZREVRANGEBYLEX",
        (_, _, false) => b"ZRANGE",
        (_, _, true) => b"ZREVRANGE",
    };
    let mut argv: Vec<&[u8]> = vec![if lex { b"0" } else { b"1" }, range, args.at(3)?, args.at(4)?];
    if !lex {
        argv.push(b"WITHSCORES");
    }
    argv.extend(limit.into_iter().flatten());
    let argv = argv.into_iter().map(Cow::Borrowed);
    Ok(Wording::default().script(lua::ZRANGESTORE, &keys, argv, Expect::Integer))
}

/// `GEOSEARCHSTORE` around a circle is what `GEORADIUS` does (3.2). A box is not.
fn geosearchstore<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    if !V3_2.is_in(target) {
        return Err(Not::Possible(""));
    }
    let (destination, source) = (args.at(1)?, args.at(2)?);
    let (mut center, mut radius) = (Vec::new(), Vec::new());
    let mut rest = Vec::new();
    let mut store: &[u8] = b"STORE";
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "frommember") {
            center = vec![args.at(at + 1)?];
            at += 1;
        } else if args.is(at, "fromlonlat") {
            center = vec![args.at(at + 1)?, args.at(at + 2)?];
            at += 2;
        } else if args.is(at, "byradius") {
            radius = vec![args.at(at + 1)?, args.at(at + 2)?];
            at += 2;
        } else if args.is(at, "bybox") {
            return Err(Not::Possible("BYBOX"));
        } else if args.is(at, "any") {
            return Err(Not::Possible("COUNT ANY"));
        } else if args.is(at, "storedist") {
            store = b"STOREDIST";
        } else {
            rest.push(args.at(at)?);
        }
        at += 1;
    }
    let name: &[u8] = if center.len() == 1 { b"GEORADIUSBYMEMBER" } else { b"GEORADIUS" };
    let all = [name, source].into_iter().chain(center).chain(radius).chain(rest);
    Ok(Wording::one(all.chain([store, destination]), Expect::Integer))
}

/// `HSETEX` without a deadline; its conditions were met. A master sends `HINCRBYFLOAT` so (Redis 8).
fn hsetex<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    let key = args.at(1)?;
    let mut at = 2;
    let mut keep = false;
    while !args.is(at, "fields") {
        args.at(at)?;
        keep |= args.is(at, "keepttl");
        at += 1;
    }
    let pairs = args.0.iter().skip(at + 2).take(2 * args.count(at + 1, 2)?).copied();
    if keep && FIELD_DEADLINES.is_in(target) {
        let argv = pairs.map(Cow::Borrowed);
        return Ok(Wording::default().script(lua::HSET_KEEPTTL, &[key], argv, Expect::Integer));
    }
    let hset: &[u8] = if V4_0.is_in(target) || pairs.len() == 2 { b"HSET" } else { b"HMSET" };
    let expect = if hset == b"HSET" { Expect::Integer } else { Expect::Status };
    Ok(Wording::one([hset, key].into_iter().chain(pairs), expect))
}

#[cfg(test)]
mod tests;
