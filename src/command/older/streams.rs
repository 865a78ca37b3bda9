//! Commands on streams, for targets of 5.0 and later.

use std::borrow::Cow;

use crate::command::args::Args;
use crate::command::judge::Expect;
use crate::server::Server;

use super::{Answer, Not, V6_2, V7_0, V8_2, Wording, lua};

/// What of the options of `XADD` and `XTRIM` a target is told.
struct Options<'a> {
    kept: Vec<&'a [u8]>,
    /// Something was left off.
    changed: bool,
    /// The least id that stays, where the target must be told in other words.
    least: Option<Cow<'a, [u8]>>,
    /// Where the options end.
    end: usize,
}

/// Reads the options that begin at argument 2.
fn options<'a>(target: Server, args: Args<'a>) -> Result<Options<'a>, Not> {
    let mut options = Options { kept: Vec::new(), changed: false, least: None, end: 2 };
    let mut exact = true;
    loop {
        let at = options.end;
        if args.is(at, "nomkstream") {
            // An entry was added, so the stream was there.
            if V6_2.is_in(target) {
                options.kept.push(args.at(at)?);
            } else {
                options.changed = true;
            }
            options.end += 1;
        } else if args.is_any(at, &["keepref", "delref", "acked"]) {
            if V8_2.is_in(target) {
                options.kept.push(args.at(at)?);
            } else if args.is(at, "keepref") {
                options.changed = true; // what older servers do anyway
            } else {
                return Err(Not::Possible("DELREF or ACKED"));
            }
            options.end += 1;
        } else if args.is_any(at, &["maxlen", "minid"]) {
            let mark = matches!(args.at(at + 1)?, b"=" | b"~");
            exact = args.at(at + 1)? != b"~";
            let value = at + 1 + usize::from(mark);
            let threshold = args.at(value)?;
            if args.is(at, "minid") && !V6_2.is_in(target) {
                options.changed = true;
                options.least = Some(full_id(threshold));
            } else {
                options.kept.extend(args.0.iter().skip(at).take(2 + usize::from(mark)));
            }
            options.end = value + 1;
        } else if args.is(at, "limit") {
            // A master counts what it removed, writes `=` with the outcome and leaves the limit standing. To a replica that is nothing;
            // any other client is refused.
            if exact {
                options.changed = true;
            } else {
                options.kept.extend([args.at(at)?, args.at(at + 1)?]);
            }
            options.end += 2;
        } else {
            return Ok(options);
        }
    }
}

/// An id with its second half.
fn full_id(id: &[u8]) -> Cow<'_, [u8]> {
    if id.contains(&b'-') { Cow::Borrowed(id) } else { Cow::Owned([id, b"-0"].concat()) }
}

pub(super) fn xadd<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    let options = options(target, args)?;
    if !options.changed {
        return Err(Not::Needed);
    }
    let key = args.at(1)?;
    let entry = args.0.iter().skip(options.end).copied();
    let all = [b"XADD", key].into_iter().chain(options.kept).chain(entry);
    let wording = Wording::one(all, Expect::Something);
    Ok(match options.least {
        Some(least) => wording.script(lua::XTRIM_MINID, &[key], [least], Expect::Integer),
        None => wording,
    })
}

pub(super) fn xtrim<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    let options = options(target, args)?;
    let key = args.at(1)?;
    match options.least {
        Some(least) => {
            Ok(Wording::default().script(lua::XTRIM_MINID, &[key], [least], Expect::Positive))
        }
        None if options.changed => {
            Ok(Wording::one([b"XTRIM", key].into_iter().chain(options.kept), Expect::Positive))
        }
        None => Err(Not::Needed),
    }
}

/// The last id but one that there can be: no history begins behind it.
const PAST_ALL: &[u8] = b"18446744073709551615-18446744073709551614";

pub(super) fn xgroup<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    if args.is(1, "createconsumer") && !V6_2.is_in(target) {
        // To read one's own history, where there is none, makes a consumer too.
        let (key, group, consumer) = (args.at(2)?, args.at(3)?, args.at(4)?);
        let read = [
            b"XREADGROUP",
            &b"GROUP"[..],
            group,
            consumer,
            b"COUNT",
            b"1",
            b"STREAMS",
            key,
            PAST_ALL,
        ];
        return Ok(Wording::one(read, Expect::Any));
    }
    if args.is_any(1, &["create", "setid"]) && !V7_0.is_in(target) {
        return without(args, "entriesread", Expect::Status);
    }
    Err(Not::Needed)
}

pub(super) fn xsetid<'a>(target: Server, args: Args<'a>) -> Answer<'a> {
    if V7_0.is_in(target) || args.len() <= 3 {
        return Err(Not::Needed);
    }
    Ok(Wording::one([b"XSETID", args.at(1)?, args.at(2)?], Expect::Status))
}

/// The same without this option and its value.
fn without<'a>(args: Args<'a>, option: &str, expect: Expect) -> Answer<'a> {
    let Some(at) = (5..args.len()).find(|&at| args.is(at, option)) else { return Err(Not::Needed) };
    let (before, from) = args.0.split_at_checked(at).ok_or(Not::Malformed)?;
    Ok(Wording::one(before.iter().chain(from.iter().skip(2)).copied(), expect))
}
