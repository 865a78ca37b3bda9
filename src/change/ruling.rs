//! What the rules say of a command of the stream.
//!
//! A command whose keys are all left out is dropped; one whose keys are all wanted is played. Where it names both, what it does to
//! the keys that are wanted is played if the command itself tells it; if it would take the content of a key that is left out, nobody here can
//! tell, and the lane ends.

use std::borrow::Cow;

use crate::command::judge::Expect;
use crate::command::keys::{Access, KeyUse, Reach, keys};
use crate::command::{Class, Command};
use crate::key::{Db, Escaped};
use crate::plan::{Rules, Verdict, Why};
use crate::rdb::opcode::{ObjectType, ValueType};

use super::Scope;

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling<'a> {
    /// It is played as it stands, but for the numbers of databases and the names of keys in it.
    Play,
    /// The same, and keys that are not there are no surprise.
    PlayLeniently,
    Drop(Why),
    /// This is played in its place.
    Instead(Instead<'a>),
}

/// A command in the place of another, on keys of the database in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Instead<'a> {
    pub(super) args: Vec<Cow<'a, [u8]>>,
    pub(super) expect: Expect,
}

/// A command that nobody can split: it takes what the rules leave out to make what they keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command} makes {made} out of what the rules leave out: {left_out}")]
pub struct Undecidable {
    /// Its name.
    pub command: String,
    /// The key that is wanted, with its database.
    pub made: String,
    /// What is left out.
    pub left_out: String,
}

fn shown(db: Db, key: &[u8]) -> String {
    format!("key {} of database {db}", Escaped(key))
}

/// Judges a command that changes data, `db` being the source's database in use.
pub(super) fn rule<'a>(
    known: &Command,
    class: Class,
    args: &[&'a [u8]],
    db: Db,
    scope: &Scope,
) -> Result<Ruling<'a>, Undecidable> {
    // Keys that cannot be told are the target's to refuse.
    let Ok(uses) = keys(args) else { return Ok(Ruling::Play) };
    let mut judged = Vec::with_capacity(uses.len());
    for used in uses.iter() {
        let key = args.get(used.position).copied().unwrap_or_default();
        judged.push(Judged {
            used: *used,
            key,
            db: used.db.unwrap_or(db),
            verdict: scope.judge(used.db.unwrap_or(db), key),
        });
    }
    let rules = scope.rules();
    let Some(first_out) = judged.iter().find(|one| !one.verdict.is_keep()) else {
        if class == Class::Eval {
            return eval(known, &judged, db, rules);
        }
        // SORT finds keys by the patterns of BY and GET, which are under their own names on the source only.
        let changes_keys = rules.has_keys() || !rules.names().are_kept();
        if known.name() == "sort" && uses.reach() == Reach::Undeclared && changes_keys {
            let left_out = "perhaps some of the keys that its patterns find".to_owned();
            return Err(Undecidable { left_out, ..undecidable(known, &judged) });
        }
        return typed(known, args, &judged, rules);
    };
    let Verdict::Drop(why) = first_out.verdict else { return Ok(Ruling::Play) };
    let writes_wanted = judged.iter().any(|one| one.used.access.writes() && one.verdict.is_keep());
    // One key in two places of a PFCOUNT is read, and its count stored: no data either.
    if !writes_wanted || known.name() == "pfcount" {
        return Ok(Ruling::Drop(why));
    }
    split(known, args, &judged).map(|instead| {
        let unwanted = instead
            .args
            .first()
            .and_then(|name| crate::command::lookup(name))
            .and_then(Command::value_type)
            .is_some_and(|kind| !rules.admits(kind));
        if unwanted { Ruling::Drop(Why::Type) } else { Ruling::Instead(instead) }
    })
}

struct Judged<'a> {
    used: KeyUse,
    key: &'a [u8],
    db: Db,
    verdict: Verdict,
}

impl Judged<'_> {
    fn is_in(&self) -> bool {
        self.verdict.is_keep()
    }

    fn shown(&self) -> String {
        shown(self.db, self.key)
    }
}

fn undecidable(known: &Command, judged: &[Judged<'_>]) -> Undecidable {
    let made = judged.iter().find(|one| one.is_in() && one.used.access.writes());
    let left_out = judged.iter().find(|one| !one.is_in());
    Undecidable {
        command: known.name().to_ascii_uppercase(),
        made: made.map_or_else(|| "keys".to_owned(), Judged::shown),
        left_out: left_out.map_or_else(|| "keys".to_owned(), Judged::shown),
    }
}

/// What a command that names keys of both sides does to those that are wanted.
fn split<'a>(
    known: &Command,
    args: &[&'a [u8]],
    judged: &[Judged<'a>],
) -> Result<Instead<'a>, Undecidable> {
    let instead = |args: Vec<&'a [u8]>, expect| {
        Ok(Instead { args: args.into_iter().map(Cow::Borrowed).collect(), expect })
    };
    let wanted = || judged.iter().filter(|one| one.is_in());
    let with =
        |name: &'static [u8]| [name].into_iter().chain(wanted().map(|one| one.key)).collect();
    let pairs = |first: &'static [u8]| {
        let mut all: Vec<&'a [u8]> = vec![first];
        for one in wanted() {
            all.push(one.key);
            all.extend(args.get(one.used.position + 1));
        }
        all
    };
    let [first, second, ..] = judged else { return Err(undecidable(known, judged)) };
    match known.name() {
        "del" => instead(with(b"DEL"), Expect::Removal),
        "unlink" => instead(with(b"UNLINK"), Expect::Removal),
        // All of them were set.
        "mset" | "msetnx" => instead(pairs(b"MSET"), Expect::Status),
        "msetex" => {
            let mut all = vec![Cow::Borrowed(&b"MSETEX"[..])];
            all.push(Cow::Owned(wanted().count().to_string().into_bytes()));
            all.extend(pairs(b"").into_iter().skip(1).map(Cow::Borrowed));
            let behind = judged.iter().map(|one| one.used.position + 2).max().unwrap_or(0);
            all.extend(args.iter().skip(behind).map(|arg| Cow::Borrowed(*arg)));
            Ok(Instead { args: all, expect: Expect::Positive })
        }
        // What leaves the rules is gone; what it becomes there is not our concern.
        "rename" | "renamenx" | "move" if first.is_in() => {
            instead(vec![b"DEL", first.key], Expect::Removal)
        }
        "smove" if first.is_in() => instead(
            [&[&b"SREM"[..], first.key][..], args.get(3..).unwrap_or_default()].concat(),
            Expect::Positive,
        ),
        // The member is named, so that its origin need not be known.
        "smove" if second.is_in() => instead(
            [&[&b"SADD"[..], second.key][..], args.get(3..).unwrap_or_default()].concat(),
            Expect::Integer,
        ),
        "rpoplpush" | "brpoplpush" if first.is_in() => {
            instead(vec![b"RPOP", first.key], Expect::Something)
        }
        "lmove" | "blmove" if first.is_in() => {
            let left = args.get(3).is_some_and(|end| end.eq_ignore_ascii_case(b"LEFT"));
            instead(vec![if left { b"LPOP" } else { b"RPOP" }, first.key], Expect::Something)
        }
        _ => Err(undecidable(known, judged)),
    }
}

/// A script whose declared keys are all wanted.
fn eval<'a>(
    known: &Command,
    judged: &[Judged<'_>],
    db: Db,
    rules: &Rules,
) -> Result<Ruling<'a>, Undecidable> {
    let undecidable = |made: String, left_out: &str| {
        Err(Undecidable {
            command: known.name().to_ascii_uppercase(),
            made,
            left_out: left_out.to_owned(),
        })
    };
    match judged.first() {
        _ if rules.place(db).is_none() => Ok(Ruling::Drop(Why::Db)),
        Some(first) if rules.types().is_some() => {
            undecidable(first.shown(), "it may be of any type")
        }
        None if rules.has_keys() || !rules.names().are_kept() => {
            undecidable("keys that it does not name".to_owned(), "perhaps others too")
        }
        _ => Ok(Ruling::Play),
    }
}

/// A command whose keys are wanted by their names, judged by its type.
fn typed<'a>(
    known: &Command,
    args: &[&'a [u8]],
    judged: &[Judged<'a>],
    rules: &Rules,
) -> Result<Ruling<'a>, Undecidable> {
    if rules.types().is_none() || judged.is_empty() {
        return Ok(Ruling::Play);
    }
    let kind = match known.name() {
        "restore" | "restore-asking" => {
            let payload = args.get(3).copied().unwrap_or_default();
            let object = payload
                .first()
                .and_then(|byte| ObjectType::ALL.iter().find(|object| object.byte() == *byte));
            match object.map(|object| object.value_type()) {
                Some(ValueType::Module)
                    if !rules.admits_module(payload.get(1..).unwrap_or_default()) =>
                {
                    return Ok(overwritten(judged));
                }
                kind => kind,
            }
        }
        _ => known.value_type(),
    };
    let Some(kind) = kind else { return Ok(Ruling::PlayLeniently) };
    if !rules.admits(kind) {
        return Ok(overwritten(judged));
    }
    if !rules.admits_every(kind) && !known.name().starts_with("restore") {
        let left_out = "the stream does not tell of which module".to_owned();
        return Err(Undecidable { left_out, ..undecidable(known, judged) });
    }
    let reads = known.reads_types();
    let reads_others = judged.iter().any(|one| one.used.access == Access::Read)
        && reads.iter().any(|kind| !rules.admits(*kind));
    if reads_others {
        let left_out = reads.iter().find(|kind| !rules.admits(**kind));
        return Err(Undecidable {
            left_out: format!("what it reads may be a {}", left_out.map_or("", |kind| kind.name())),
            ..undecidable(known, judged)
        });
    }
    Ok(Ruling::Play)
}

/// What a command of a type that is left out does to the others: keys that it makes anew, whatever they were, are of that type now.
fn overwritten<'a>(judged: &[Judged<'a>]) -> Ruling<'a> {
    let made = judged.iter().filter(|one| one.used.access == Access::Overwrite);
    let keys: Vec<_> = made.map(|one| Cow::Borrowed(one.key)).collect();
    if keys.is_empty() {
        return Ruling::Drop(Why::Type);
    }
    let args = [Cow::Borrowed(&b"DEL"[..])].into_iter().chain(keys).collect();
    Ruling::Instead(Instead { args, expect: Expect::Removal })
}

#[cfg(test)]
mod tests;
