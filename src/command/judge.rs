//! What a reply says about the keys of a command.
//!
//! A command that stands in a stream had an effect on the source: a master propagates none that had not. So a
//! reply that means "nothing happened" says that the target held another state than the source, and the
//! command's keys are in doubt. This is the one place that says which reply means what.

use crate::command::args::{Args, Malformed};
use crate::command::table::Command;

/// A reply, as far as it can be judged: its kind, its number, how many elements it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `+OK` and its like.
    Status,
    /// `-ERR`, `-WRONGTYPE` and all others.
    Error,
    /// An error that a script may have made while it ran: see [`Outcome::of_error`].
    ScriptError,
    /// `:n`.
    Integer(i64),
    /// `$n`, whatever its bytes.
    Bulk,
    /// `$-1` or `*-1`.
    Nil,
    /// `*n`.
    Array {
        /// How many of its own elements (not those of arrays inside) are anything but nil.
        filled: usize,
        /// The greatest of its own elements that are integers.
        greatest: Option<i64>,
    },
}

impl Outcome {
    /// Tells an error by which a server refuses a command from one that may have come out of a running script. Only the
    /// reply to a script can be the latter; [`judge`] takes it for an error anywhere else.
    #[must_use]
    pub fn of_error(line: &[u8]) -> Self {
        let has = |mark: &&[u8]| line.windows(mark.len()).any(|part| part == *mark);
        if REFUSALS.iter().any(has) { Self::Error } else { Self::ScriptError }
    }
}

/// What stands in an error when a server would not run a script, or would not let it do what another server did: states
/// that pass, rights, an unknown script or command.
const REFUSALS: &[&[u8]] = &[
    b"NOSCRIPT",
    b"OOM ",
    b"READONLY",
    b"LOADING",
    b"BUSY ",
    b"MISCONF",
    b"NOREPLICAS",
    b"MASTERDOWN",
    b"NOAUTH",
    b"NOPERM",
    b"MOVED ",
    b"ASK ",
    b"CROSSSLOT",
    b"CLUSTERDOWN",
    b"TRYAGAIN",
    b"EXECABORT",
    b"Error compiling",
    b"Function not found",
    b"nknown command",
    b"Unknown Redis command",
    b"Wrong number of args",
    b"wrong number of arguments",
    b"non local key",
    b"undeclared key",
];

/// The reply that a command should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Expect {
    /// Anything but an error: the reply says nothing about what happened.
    Any,
    /// A status.
    Status,
    /// A number, whichever.
    Integer,
    /// A number above zero; zero (and `-1`, `LINSERT` without its pivot) means that nothing happened.
    Positive,
    /// A number of keys or fields deleted. Zero is no doubt, both sides are without them, but it is counted.
    Removal,
    /// Something that was taken, made or moved: not nil, no empty array, none of nils only.
    Something,
    /// Nil: `SET NX GET` found no key.
    Nil,
    /// An array in which at least one number is above zero: of the elements named, at least one was there and
    /// met the condition. The others need not: Valkey 9 propagates all fields that a client named, Redis 8 does
    /// so for `HGETEX`, and answers -2, -1 and 0 for them.
    SomePositive,
    /// The same for `HPERSIST`, where -1 (the field has no deadline) is as good as 1.
    Lasting,
    /// Anything but a refusal. A script that writes and then fails is propagated all the same (up to 4.0), and fails on the
    /// same data in the same place; so an error of its own says as little as any other reply.
    Script,
    /// No reply can show that source and target agree: the command lets the server choose (`XADD *`).
    Never,
    /// `RENAME` or `RENAMENX` of a key that is there onto one that is not: a status, or 1. A second one finds no such key.
    Renamed,
    /// The array of an `EXEC`, in which no reply is an error.
    Executed,
}

/// What the reply to a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judgement {
    /// It did here what it had done on the source, as far as a reply can tell.
    AsExpected,
    /// A removal found nothing to remove. The key is as it should be, though it may not have been before.
    NoKey,
    /// It failed, or did nothing: its keys are in doubt.
    Diverged,
}

/// Judges one reply.
///
/// ```
/// use understudy::command::judge::{Expect, Judgement, Outcome, judge};
/// use understudy::command::lookup;
///
/// let expect = lookup(b"PEXPIREAT").unwrap().expect(&[b"PEXPIREAT", b"k", b"1"]).unwrap();
/// assert_eq!(judge(expect, Outcome::Integer(1)), Judgement::AsExpected);
/// assert_eq!(judge(expect, Outcome::Integer(0)), Judgement::Diverged);
/// ```
#[must_use]
pub const fn judge(expect: Expect, outcome: Outcome) -> Judgement {
    let script = matches!(expect, Expect::Script) && matches!(outcome, Outcome::ScriptError);
    if matches!(outcome, Outcome::Error | Outcome::ScriptError) && !script {
        return Judgement::Diverged;
    }
    let expected = match expect {
        Expect::Any | Expect::Script => true,
        Expect::Never => false,
        Expect::Status => matches!(outcome, Outcome::Status),
        Expect::Integer => matches!(outcome, Outcome::Integer(_)),
        Expect::Positive => matches!(outcome, Outcome::Integer(1..)),
        Expect::Removal => match outcome {
            Outcome::Integer(0) => return Judgement::NoKey,
            _ => matches!(outcome, Outcome::Integer(1..)),
        },
        Expect::Something => !matches!(outcome, Outcome::Nil | Outcome::Array { filled: 0, .. }),
        Expect::Nil => matches!(outcome, Outcome::Nil),
        Expect::Renamed => matches!(outcome, Outcome::Status | Outcome::Integer(1)),
        Expect::Executed => matches!(outcome, Outcome::Array { .. }),
        Expect::SomePositive => matches!(outcome, Outcome::Array { greatest: Some(1..), .. }),
        Expect::Lasting => matches!(outcome, Outcome::Array { greatest: Some(-1..), .. }),
    };
    if expected { Judgement::AsExpected } else { Judgement::Diverged }
}

/// Which reply a command's row asks for: always the same, or one that its options decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replies {
    Always(Expect),
    Set,
    XAdd,
    XGroup,
}

impl Command {
    /// The reply that this command with these arguments should have.
    ///
    /// # Errors
    /// If the arguments cannot be those of this command, as far as this had to look.
    #[inline]
    pub fn expect(&self, args: &[&[u8]]) -> Result<Expect, Malformed> {
        match self.replies {
            Replies::Always(expect) => Ok(expect),
            Replies::Set if args.len() == 3 => Ok(Expect::Status),
            Replies::Set => set(Args(args)),
            Replies::XAdd => xadd(Args(args)),
            Replies::XGroup => xgroup(Args(args)),
        }
    }
}

/// With `GET` the reply is the old value, so nil is "it was not there": wanted under `NX`, a failure under `XX`.
fn set(args: Args<'_>) -> Result<Expect, Malformed> {
    let (mut get, mut nx, mut xx, mut compare) = (false, false, false, false);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "get") {
            get = true;
        } else if args.is(at, "nx") {
            nx = true;
        } else if args.is(at, "xx") {
            xx = true;
        } else if args.is_any(at, &["ex", "px", "exat", "pxat"]) {
            at += 1;
        } else if args.is_any(at, &["ifeq", "ifne", "ifdeq", "ifdne"]) {
            at += 1;
            compare = true;
        } else if !args.is(at, "keepttl") {
            return Err(Malformed::Option { at });
        }
        at += 1;
    }
    Ok(match (get, nx, xx) {
        (false, _, _) => Expect::Status,
        (true, true, _) => Expect::Nil,
        (true, false, true) => Expect::Something,
        // The old value comes back whether or not it was replaced.
        (true, false, false) if compare => Expect::Never,
        (true, false, false) => Expect::Any,
    })
}

/// A master always propagates the id it gave. The target can then only answer that id, nil, or an error.
fn xadd(args: Args<'_>) -> Result<Expect, Malformed> {
    let mut at = 2;
    loop {
        let arg = args.at(at)?;
        if args.is_any(at, &["nomkstream", "keepref", "delref", "acked"]) {
            at += 1;
        } else if args.is_any(at, &["maxlen", "minid"]) {
            // MAXLEN [=|~] threshold
            at += if matches!(args.at(at + 1)?, b"=" | b"~") { 3 } else { 2 };
        } else if args.is_any(at, &["limit", "idmpauto"]) {
            at += 2;
        } else if args.is(at, "idmp") {
            at += 3;
        } else if arg.ends_with(b"*") {
            return Ok(Expect::Never);
        } else {
            return Ok(Expect::Something);
        }
    }
}

fn xgroup(args: Args<'_>) -> Result<Expect, Malformed> {
    args.at(1)?;
    if args.is_any(1, &["create", "setid"]) {
        Ok(Expect::Status)
    } else if args.is(1, "destroy") {
        Ok(Expect::Positive)
    } else if args.is_any(1, &["createconsumer", "delconsumer"]) {
        // DELCONSUMER answers how much was pending. A consumer may have come to be here by an XCLAIM where a
        // master made it without a word: CREATECONSUMER then answers 0, and all is well.
        Ok(Expect::Integer)
    } else {
        Err(Malformed::Option { at: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::class::Class;
    use crate::command::table::lookup;

    fn expect(line: &str) -> Expect {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        lookup(args[0]).unwrap().expect(&args).unwrap()
    }

    fn judged(line: &str, outcome: Outcome) -> Judgement {
        judge(expect(line), outcome)
    }

    const EMPTY: Outcome = Outcome::Array { filled: 0, greatest: None };

    const fn numbers(greatest: i64) -> Outcome {
        Outcome::Array { filled: 2, greatest: Some(greatest) }
    }

    #[test]
    fn an_error_always_diverges() {
        for command in crate::command::table::all() {
            if let Replies::Always(expect) = command.replies {
                assert_eq!(judge(expect, Outcome::Error), Judgement::Diverged, "{command:?}");
                let script = judge(expect, Outcome::ScriptError) == Judgement::AsExpected;
                assert_eq!(script, command.class(&[]) == Class::Eval, "{command:?}");
            }
        }
    }

    #[test]
    fn a_script_may_fail_as_it_did_on_the_source() {
        for (line, judgement) in [
            // What its own commands answered, in the words of 2.8, 6.2 and 7.0.
            (
                "ERR Error running script (call to f_1cd4): @user_script:1: ERR value is not an integer",
                Judgement::AsExpected,
            ),
            (
                "ERR value is not an integer or out of range script: 1cd4, on @user_script:1.",
                Judgement::AsExpected,
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Judgement::AsExpected,
            ),
            ("MYERROR returned by the script", Judgement::AsExpected),
            // What a server would not do.
            ("NOSCRIPT No matching script. Please use EVAL.", Judgement::Diverged),
            (
                "ERR Error compiling script (new function): user_script:1: '=' expected",
                Judgement::Diverged,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory",
                Judgement::Diverged,
            ),
            (
                "ERR Error running script (call to f_1): @user_script: 1: Unknown Redis command called from Lua script",
                Judgement::Diverged,
            ),
            ("READONLY You can't write against a read only replica.", Judgement::Diverged),
            ("ERR Function not found", Judgement::Diverged),
        ] {
            let outcome = Outcome::of_error(line.as_bytes());
            assert_eq!(judged("EVAL s 0", outcome), judgement, "{line}");
            assert_eq!(judged("SET k v", outcome), Judgement::Diverged, "{line}");
        }
    }

    #[test]
    fn zero_means_that_nothing_happened() {
        for line in [
            "EXPIRE k 1",
            "PEXPIREAT k 1 GT",
            "PERSIST k",
            "SMOVE a b m",
            "RENAMENX a b",
            "MOVE k 1",
            "COPY a b",
            "SREM k m",
            "ZREM k m",
            "XACK k g 1-1",
            "XDEL k 1-1",
            "XTRIM k MAXLEN 1",
            "SETNX k v",
            "MSETNX k v",
            "HSETNX k f v",
            "LREM k 0 v",
            "LINSERT k BEFORE p v",
            "RPUSHX k v",
            "SADD k m",
            "PFADD k e",
            "XGROUP DESTROY k g",
            "ZREMRANGEBYRANK k 0 1",
            "HSETEX k FIELDS 1 f v",
        ] {
            assert_eq!(judged(line, Outcome::Integer(1)), Judgement::AsExpected, "{line}");
            assert_eq!(judged(line, Outcome::Integer(0)), Judgement::Diverged, "{line}");
        }
        assert_eq!(judged("LINSERT k BEFORE p v", Outcome::Integer(-1)), Judgement::Diverged);
    }

    #[test]
    fn zero_can_be_as_it_should() {
        for line in [
            "INCR k",
            "APPEND k v",
            "SETBIT k 0 1",
            "HSET k f v",
            "ZADD k 1 m",
            "BITOP AND d a b",
            "SINTERSTORE d a",
            "ZUNIONSTORE d 1 a",
            "SORT k STORE d",
            "ZRANGESTORE d s 0 1",
            "PUBLISH c m",
            "XGROUP CREATECONSUMER k g c",
            "XGROUP DELCONSUMER k g c",
            "PFCOUNT k",
        ] {
            assert_eq!(judged(line, Outcome::Integer(0)), Judgement::AsExpected, "{line}");
        }
        for line in ["DEL a b", "UNLINK a", "HDEL k f"] {
            assert_eq!(judged(line, Outcome::Integer(0)), Judgement::NoKey, "{line}");
            assert_eq!(judged(line, Outcome::Integer(1)), Judgement::AsExpected, "{line}");
        }
    }

    #[test]
    fn a_pop_of_nothing_diverges() {
        for line in [
            "LPOP k",
            "RPOP k 2",
            "RPOPLPUSH a b",
            "LMOVE a b LEFT LEFT",
            "SPOP k",
            "BLPOP k 0",
            "ZPOPMIN k",
            "XCLAIM k g c 0 1-1",
            "HGETDEL k FIELDS 1 f",
            "LMPOP 1 k LEFT",
            "ZADD k INCR 1 m",
        ] {
            assert_eq!(judged(line, Outcome::Nil), Judgement::Diverged, "{line}");
            assert_eq!(judged(line, EMPTY), Judgement::Diverged, "{line}");
            assert_eq!(judged(line, Outcome::Bulk), Judgement::AsExpected, "{line}");
            let some = Outcome::Array { filled: 1, greatest: None };
            assert_eq!(judged(line, some), Judgement::AsExpected, "{line}");
        }
        assert_eq!(judged("GETSET k v", Outcome::Nil), Judgement::AsExpected);
    }

    #[test]
    fn conditions_of_set_decide_what_nil_means() {
        for (line, nil, bulk, status) in [
            ("SET k v", false, false, true),
            ("SET k v PXAT 5", false, false, true),
            ("SET k v NX", false, false, true),
            ("SET k v XX KEEPTTL", false, false, true),
            ("SET k v IFEQ nx", false, false, true),
            ("SET k v GET", true, true, true),
            ("SET k v EX 5 NX GET", true, false, false),
            ("SET k v XX GET", false, true, true),
            ("SET k v IFEQ o GET", false, false, false),
        ] {
            let as_expected = |outcome| judged(line, outcome) == Judgement::AsExpected;
            assert_eq!(as_expected(Outcome::Nil), nil, "{line}: nil");
            assert_eq!(as_expected(Outcome::Bulk), bulk, "{line}: bulk");
            assert_eq!(as_expected(Outcome::Status), status, "{line}: status");
        }
        let odd: &[&[u8]] = &[b"SET", b"k", b"v", b"WHAT"];
        assert_eq!(lookup(b"set").unwrap().expect(odd), Err(Malformed::Option { at: 3 }));
    }

    #[test]
    fn an_id_that_the_server_chooses_cannot_be_proven() {
        for (line, expected) in [
            ("XADD s 5-1 f v", Expect::Something),
            ("XADD s NOMKSTREAM MAXLEN = 3 5-1 f *", Expect::Something),
            ("XADD s MAXLEN 3 LIMIT 0 5-1 f *", Expect::Something),
            ("XADD s IDMP p i 5-1 f *", Expect::Something),
            ("XADD s * f v", Expect::Never),
            ("XADD s MINID ~ 3 5-* f v", Expect::Never),
        ] {
            assert_eq!(expect(line), expected, "{line}");
        }
        assert_eq!(judged("XADD s 5-1 f v", Outcome::Nil), Judgement::Diverged);
        let short: &[&[u8]] = &[b"XADD", b"s", b"MAXLEN", b"="];
        assert_eq!(lookup(b"xadd").unwrap().expect(short), Err(Malformed::Missing { at: 5 }));
    }

    #[test]
    fn fields_that_are_not_there_are_no_surprise_beside_one_that_is() {
        // 1 set, 2 deleted because past, 0 condition not met, -1 no deadline, -2 no field
        for (line, greatest, judgement) in [
            ("HPEXPIREAT k 5 FIELDS 2 a b", 1, Judgement::AsExpected),
            ("HPEXPIREAT k 5 FIELDS 2 a b", 2, Judgement::AsExpected),
            ("HPEXPIREAT k 5 GT FIELDS 2 a b", 0, Judgement::Diverged),
            ("HPEXPIREAT k 5 FIELDS 2 a b", -2, Judgement::Diverged),
            ("HPERSIST k FIELDS 2 a b", 1, Judgement::AsExpected),
            ("HPERSIST k FIELDS 2 a b", -1, Judgement::AsExpected),
            ("HPERSIST k FIELDS 2 a b", -2, Judgement::Diverged),
            ("XDELEX k ACKED IDS 2 1-1 1-2", 1, Judgement::AsExpected),
            ("XDELEX k ACKED IDS 2 1-1 1-2", -1, Judgement::Diverged),
        ] {
            assert_eq!(judged(line, numbers(greatest)), judgement, "{line}: {greatest}");
        }
        assert_eq!(judged("HPERSIST k FIELDS 2 a b", EMPTY), Judgement::Diverged);
    }

    #[test]
    fn a_reply_of_another_kind_is_a_surprise() {
        // Then replies and commands no longer stand side by side.
        assert_eq!(judged("INCR k", Outcome::Status), Judgement::Diverged);
        assert_eq!(judged("SET k v", Outcome::Integer(1)), Judgement::Diverged);
        assert_eq!(judged("SADD k v", Outcome::Bulk), Judgement::Diverged);
        assert_eq!(judged("DEL k", Outcome::Status), Judgement::Diverged);
    }

    #[test]
    fn an_expectation_is_one_byte() {
        assert_eq!(size_of::<Expect>(), 1);
    }
}
