//! Commands of a stream as commands for a target.

use std::borrow::Cow;

use crate::command::deadline::{Of, Time};
use crate::command::judge::Expect;
use crate::command::keys::Access;
use crate::command::older::{Unsupported, Wording};
use crate::command::{self, Class, lookup};
use crate::key::{Db, Escaped};
use crate::offset::Offset;
use crate::plan::{OnFlush, Why};
use crate::rdb::transcode::TranscodeError;
use crate::repl::Command;
use crate::resp;
use crate::server::{Server, Version};

use super::fitted::dump_fitted;
use super::ruling::{Ruling, Undecidable, rule};
use super::scripts::Scripts;
use super::{Deadlines, Distinct, Draft, NameError, SHIFT, Scope};

/// Why a command of the stream cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Nobody knows which keys it touches.
    #[error("the keys of the command {} are not known to this version", Escaped(name))]
    Unknown {
        /// Its name.
        name: Vec<u8>,
    },
    /// `MULTI` in a transaction, or `EXEC` outside of one.
    #[error("{} stands {}", Escaped(name), if *inside { "inside of a transaction" } else { "outside of a transaction" })]
    Nesting {
        /// Which.
        name: Vec<u8>,
        /// Whether a transaction was open.
        inside: bool,
    },
    /// A `SELECT` or `SWAPDB` of something that is no database.
    #[error("{} names no database", Escaped(name))]
    Db {
        /// Its name.
        name: Vec<u8>,
    },
    /// The target has nothing that does what it does.
    #[error("{source}{}", of_key(key.as_deref()))]
    Unsupported {
        /// What.
        source: Unsupported,
        /// The first key that it names.
        key: Option<Vec<u8>>,
    },
    /// It restores a value that the target cannot hold.
    #[error("RESTORE of key {}", Escaped(key))]
    Value {
        /// The key.
        key: Vec<u8>,
        /// Why it cannot.
        source: TranscodeError,
    },
    /// A key of it cannot have the name that a rename gives it.
    #[error("{}{}", Escaped(name), of_keys(keys))]
    Name {
        /// Its name.
        name: Vec<u8>,
        /// All keys that it names.
        keys: Vec<Vec<u8>>,
        /// Which of them, and why.
        source: NameError,
    },
    /// The rules leave out what it needs.
    #[error(transparent)]
    Undecidable(#[from] Undecidable),
    /// A flush, or `SWAPDB`, that would touch more than what this source brought.
    #[error(
        "the source sent {}, which would touch more in the target than what it brought",
        Escaped(name)
    )]
    Flush {
        /// Its name.
        name: Vec<u8>,
    },
}

/// What was taken from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A command that changes data.
    Data,
    /// One that the rules leave out.
    LeftOut(Why),
    /// One that is not to be played.
    Refused,
    /// One that belongs to the server and not to its data: it is not played. Its name.
    Skipped(&'static str),
    /// One that is no data.
    Other,
}

/// A command that changes data, as it is to be played.
#[derive(Clone, Copy)]
struct Call<'a> {
    known: &'static command::Command,
    class: Class,
    args: &'a [&'a [u8]],
    /// The same as RESP, if it is at hand.
    raw: Option<&'a [u8]>,
    /// The database of the target in which it runs.
    db: Db,
    /// When the source ran it, as near as it is known.
    now_ms: i64,
    /// Keys that are not there are no surprise.
    lenient: bool,
}

fn of_key(key: Option<&[u8]>) -> String {
    key.map_or_else(String::new, |key| format!(" (key {})", Escaped(key)))
}

/// The keys of a command; of very many the first.
fn of_keys(keys: &[Vec<u8>]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = keys.iter().take(SHOWN).map(|key| Escaped(key).to_string()).collect();
    let more = match keys.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let word = if keys.len() == 1 { "key" } else { "keys" };
    format!(" of {word} {}{more}", shown.join(", "))
}

/// Follows a stream: knows the selected database and whether a transaction is open.
#[derive(Debug)]
pub struct Stream {
    db: Db,
    in_transaction: bool,
    /// The source's `MOVE` leaves the deadline behind.
    moves_without_deadline: bool,
    target: Server,
    scope: Scope,
    scripts: Scripts,
    own: Option<Own>,
    /// Where a rename could give one name to two keys.
    distinct: Option<Distinct>,
}

/// The keys that a job keeps in the target beside the data, and the target's database in which they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The database.
    pub db: Db,
    /// The position record.
    pub record: Vec<u8>,
    /// The scripts that the source has named: a hash, SHA-1 to text.
    pub scripts: Vec<u8>,
}

impl Stream {
    /// The stream of this source, where it is known, for this target, of which this is played. Scripts are remembered while they fit into
    /// so many bytes.
    #[must_use]
    pub fn new(source: Option<Server>, target: Server, scope: Scope, memory: usize) -> Self {
        Self {
            db: Db::default(),
            in_transaction: false,
            moves_without_deadline: source
                .is_some_and(|source| source.as_redis() < MOVES_DEADLINES),
            target,
            scope,
            scripts: Scripts::new(memory),
            own: None,
            distinct: None,
        }
    }

    /// No two keys shall get one of these names, nor one of those that have come before.
    #[must_use]
    pub fn telling_apart(mut self, distinct: Option<Distinct>) -> Self {
        self.distinct = distinct;
        self
    }

    /// The names that have come.
    #[must_use]
    pub fn into_distinct(self) -> Option<Distinct> {
        self.distinct
    }

    /// What a key of the source that is wanted is called in the target.
    ///
    /// # Errors
    /// If another key has got that name.
    pub fn name_of<'k>(&mut self, key: &'k [u8]) -> Result<Cow<'k, [u8]>, NameError> {
        let name = self.scope.rules().names().of(key);
        if let Some(distinct) = &mut self.distinct {
            distinct.meet(key, &name)?;
        }
        Ok(name)
    }

    /// Scripts that the source names are kept in the target, for whoever goes on with the stream.
    #[must_use]
    pub fn keeping(mut self, own: Own) -> Self {
        self.own = Some(own);
        self
    }

    /// What of the source is played.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A script that the source knows, told before the stream begins.
    pub fn learn(&mut self, script: &[u8], draft: &mut Draft) {
        self.learn_kept(script);
        self.keep(script, draft);
    }

    /// A script that the target keeps already.
    pub fn learn_kept(&mut self, script: &[u8]) {
        self.scripts.learn(script);
    }

    /// Writes a script beside the position record.
    fn keep(&self, script: &[u8], draft: &mut Draft) {
        if let Some(own) = &self.own {
            let db = draft.db();
            draft.select(own.db);
            let sha = sha1_smol::Sha1::from(script).digest().to_string();
            draft.push(&[b"HSET", &own.scripts, sha.as_bytes(), script], Expect::Integer);
            draft.select(db);
        }
    }

    /// Sees to our own keys behind a command that empties databases or lets them change places. The record itself is written behind every
    /// transaction.
    fn see_to_own(&self, call: &Call<'_>, draft: &mut Draft) {
        let Some(own) = &self.own else { return };
        let home = match call.known.databases(call.args) {
            Ok([Some(one), Some(other)]) if call.class == Class::SwapDb => {
                let [one, other] = [one.db, other.db];
                let gone = if one == own.db { other } else { one };
                if one != own.db && other != own.db || one == other {
                    return;
                }
                let db = draft.db();
                draft.select(gone);
                draft.push(&[b"DEL", &own.record, &own.scripts], Expect::Any);
                draft.select(db);
                true
            }
            _ => call.known.name() == "flushall" || call.db == own.db,
        };
        if home {
            self.scripts.all().for_each(|script| self.keep(script, draft));
        }
    }

    /// The database in which the source's next command runs.
    #[must_use]
    pub fn db(&self) -> Db {
        self.db
    }

    /// The database in which the first command runs, where the payload or the record tells it.
    pub fn begin_in(&mut self, db: Db) {
        self.db = db;
    }

    /// Whether what was written so far may be sent by itself: not in the middle of a source's transaction.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.in_transaction
    }

    /// Writes what the command does into `draft`, and the offset that it reaches. `now_ms` is the time at which the source ran
    /// it, as near as it is known. What changes data is shown to `admits` first, with the database in which the source ran it.
    ///
    /// # Errors
    /// If nobody can say what it does.
    pub fn take(
        &mut self,
        command: &Command<'_>,
        now_ms: i64,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
        admits: &mut impl FnMut(&'static command::Command, &[&[u8]], Db) -> bool,
    ) -> Result<Taken, StreamError> {
        let mut few = [&b""[..]; FEW];
        let many: Vec<&[u8]>;
        let count = command.args().len();
        let args: &[&[u8]] = if count <= FEW {
            few.iter_mut().zip(command.args()).for_each(|(place, arg)| *place = arg);
            few.get(..count).unwrap_or_default()
        } else {
            many = command.args().collect();
            &many
        };
        let taken = match args.first() {
            None => Taken::Other,
            Some(name) => self.apply(name, args, command, now_ms, deadlines, draft, admits)?,
        };
        self.reached(command.end, draft);
        Ok(taken)
    }

    /// The stream has been taken up to here.
    pub fn reached(&self, end: Offset, draft: &mut Draft) {
        if self.is_whole() {
            (draft.covers, draft.stands_in) = (Some(end), self.db);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "it is a part of `take`")]
    fn apply(
        &mut self,
        name: &[u8],
        args: &[&[u8]],
        command: &Command<'_>,
        now_ms: i64,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
        admits: &mut impl FnMut(&'static command::Command, &[&[u8]], Db) -> bool,
    ) -> Result<Taken, StreamError> {
        let Some(known) = lookup(name) else {
            return Err(StreamError::Unknown { name: name.to_vec() });
        };
        match known.class(args) {
            Class::Select => {
                let db = args.get(1).and_then(|db| Db::parse(db));
                self.db = db.ok_or_else(|| StreamError::Db { name: name.to_vec() })?;
            }
            class @ (Class::Multi | Class::Exec) => {
                let (inside, opens) = (self.in_transaction, class == Class::Multi);
                if inside == opens {
                    return Err(StreamError::Nesting { name: name.to_vec(), inside });
                }
                self.in_transaction = opens;
            }
            Class::Control => return Ok(Taken::Skipped(known.name())),
            // What is said to listeners, keeps the link alive or only reads is no data.
            Class::Ping | Class::Publish | Class::Read => {}
            Class::Unknown => return Err(StreamError::Unknown { name: name.to_vec() }),
            class @ (Class::Data
            | Class::Script
            | Class::Eval
            | Class::Function
            | Class::Flush
            | Class::SwapDb) => {
                if !admits(known, args, self.db) {
                    return Ok(Taken::Refused);
                }
                let raw = (!command.is_inline()).then_some(command.raw);
                let db = self.db;
                let call = Call { known, class, args, raw, db, now_ms, lenient: false };
                if self.scope.is_all() {
                    self.write(&call, deadlines, draft)?;
                    return Ok(Taken::Data);
                }
                return self.judge(&call, deadlines, draft);
            }
        }
        Ok(Taken::Other)
    }

    /// Writes what the rules leave of a command.
    fn judge(
        &mut self,
        call: &Call<'_>,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<Taken, StreamError> {
        let place = self.scope.rules().place(self.db);
        let ruling = match call.class {
            Class::Flush | Class::SwapDb => self.judge_flush(call)?,
            // They belong to no database.
            Class::Script | Class::Function => Ruling::Play,
            _ if self.scope.has_all_keys() => Ruling::Play,
            _ => rule(call.known, call.class, call.args, self.db, &self.scope)?,
        };
        let (lenient, place) = match (&ruling, place) {
            (Ruling::Drop(why), _) => return Ok(Taken::LeftOut(*why)),
            (Ruling::PlayLeniently, place) => (true, place),
            (_, place) => (false, place),
        };
        let db = match (call.class, place) {
            (_, Some(place)) => place,
            (Class::Script | Class::Function | Class::Flush | Class::SwapDb, None) => draft.db(),
            (_, None) => return Ok(Taken::LeftOut(Why::Db)),
        };
        if let Ruling::Instead(instead) = ruling {
            let args: Vec<&[u8]> = instead.args.iter().map(AsRef::as_ref).collect();
            let known = args.first().and_then(|name| lookup(name)).unwrap_or(call.known);
            let names = self.names(known, &args, draft)?;
            let args = with_others(&args, names.iter().map(|(at, name)| (*at, name.as_slice())));
            let call =
                Call { known, class: known.class(&args), args: &args, raw: None, db, ..*call };
            self.write_expecting(&call, Some(instead.expect), deadlines, draft)?;
            return Ok(Taken::Data);
        }
        let mut named = call.known.databases(call.args).unwrap_or_default();
        for one in named.iter_mut().flatten() {
            // A database without a place was a reason to split before.
            one.db = self.scope.rules().place(one.db).unwrap_or(one.db);
        }
        let digits = named.map(|one| one.map(|one| (one.position, one.db.index().to_string())));
        let names = self.names(call.known, call.args, draft)?;
        if digits.iter().all(Option::is_none) && names.is_empty() {
            self.write(&Call { db, lenient, ..*call }, deadlines, draft)?;
            return Ok(Taken::Data);
        }
        let digits = digits.iter().flatten().map(|(at, digits)| (*at, digits.as_bytes()));
        let names = names.iter().map(|(at, name)| (*at, name.as_slice()));
        let args = with_others(call.args, digits.chain(names));
        self.write(&Call { args: &args, raw: None, db, lenient, ..*call }, deadlines, draft)?;
        Ok(Taken::Data)
    }

    /// What the keys of a command are called in the target, by where they stand in it: those that have another name there.
    fn names(
        &mut self,
        known: &command::Command,
        args: &[&[u8]],
        draft: &mut Draft,
    ) -> Result<Vec<(usize, Vec<u8>)>, StreamError> {
        let mut others = Vec::new();
        if self.scope.rules().names().are_kept() {
            return Ok(others);
        }
        let tells_key = self.scope.rules().names().are_distinct();
        let mut refused = None;
        let shown = known.for_each_key(args, |used| {
            let key = args.get(used.position).copied().unwrap_or_default();
            match self.name_of(key) {
                Ok(Cow::Owned(name)) => {
                    if !tells_key {
                        draft.note_origin(&name, key);
                    }
                    others.push((used.position, name));
                }
                Ok(Cow::Borrowed(_)) => {}
                Err(error) => refused = refused.take().or(Some(error)),
            }
        });
        match (shown, refused) {
            (_, Some(source)) => {
                let mut keys = Vec::new();
                let _ = known.for_each_key(args, |used| {
                    keys.extend(args.get(used.position).map(|key| key.to_vec()));
                });
                Err(StreamError::Name { name: known.name().to_uppercase().into(), keys, source })
            }
            (Ok(_), None) => Ok(others),
            (Err(_), None) => Err(StreamError::Unknown { name: known.name().into() }),
        }
    }

    /// What becomes of a flush or a swap.
    fn judge_flush(&self, call: &Call<'_>) -> Result<Ruling<'static>, StreamError> {
        let rules = self.scope.rules();
        let left_out = match call.known.name() {
            "flushdb" => rules.place(self.db).is_none(),
            "swapdb" => match call.known.databases(call.args) {
                Ok([Some(one), Some(other)]) => {
                    rules.place(one.db).is_none() && rules.place(other.db).is_none()
                }
                _ => false,
            },
            _ => false,
        };
        if left_out {
            return Ok(Ruling::Drop(Why::Db));
        }
        match self.scope.on_flush() {
            OnFlush::Apply => Ok(Ruling::Play),
            OnFlush::Ignore if call.class == Class::Flush => Ok(Ruling::Drop(Why::Flush)),
            OnFlush::Stop | OnFlush::Ignore => {
                Err(StreamError::Flush { name: call.known.name().to_ascii_uppercase().into() })
            }
        }
    }

    fn write(
        &mut self,
        call: &Call<'_>,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<(), StreamError> {
        self.write_expecting(call, None, deadlines, draft)
    }

    /// Writes a command that changes data, in the words and with the deadlines that the target is to be told.
    fn write_expecting(
        &mut self,
        call: &Call<'_>,
        expect: Option<Expect>,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<(), StreamError> {
        if matches!(call.known.name(), "restore" | "restore-asking")
            && let [name, key, ttl, dump, rest @ ..] = call.args
            && let Some(dump) = self.refit(call.db, key, dump, deadlines)?
        {
            let args = [&[*name, *key, *ttl, &dump], rest].concat();
            let known = lookup(b"RESTORE").unwrap_or(call.known);
            let call = Call { known, args: &args, raw: None, ..*call };
            return self.write_known(&call, expect, deadlines, draft);
        }
        self.write_known(call, expect, deadlines, draft)
    }

    /// The payload of a `RESTORE` in the form that the target takes.
    fn refit(
        &self,
        db: Db,
        key: &[u8],
        dump: &[u8],
        deadlines: &mut Deadlines,
    ) -> Result<Option<Vec<u8>>, StreamError> {
        dump_fitted(dump, self.target, (db, key), deadlines)
            .map_err(|source| StreamError::Value { key: key.to_vec(), source })
    }

    /// The same, of a command whose values the target can read.
    fn write_known(
        &mut self,
        call: &Call<'_>,
        expect: Option<Expect>,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) -> Result<(), StreamError> {
        let Call { known, class, args, raw, .. } = *call;
        draft.select(call.db);
        draft.carries.commands += 1;
        if call.lenient && leniently(call, draft) {
            // The target finds out what there is.
        } else if let Some(wording) = self.worded(call)? {
            put(&wording, call, draft);
            if wording.unsure {
                call.each_written(|db, key| {
                    deadlines.inherits(db, key);
                    deadlines.unsure(db, key);
                });
            }
        } else if class == Class::Eval {
            self.eval(call, deadlines, draft);
        } else if !self.dated(call, deadlines, draft) {
            let own = || known.expect(args).unwrap_or(Expect::Any);
            push(args, raw, call.soften(expect.unwrap_or_else(own)), draft);
        }
        if class == Class::Script
            && let [_, sub, text, ..] = args
            && sub.eq_ignore_ascii_case(b"LOAD")
            && self.scripts.learn(text)
        {
            self.keep(text, draft);
        }
        if matches!(class, Class::Flush | Class::SwapDb) {
            self.see_to_own(call, draft);
        }
        call.note_heirs(deadlines);
        if self.moves_without_deadline && known.name() == "move" {
            leave_deadline(call, deadlines, draft);
        }
        Ok(())
    }

    /// The command in words that the target knows, if it does not know these.
    fn worded<'a>(&self, call: &Call<'a>) -> Result<Option<Wording<'a>>, StreamError> {
        call.known.worded_for(self.target, call.args, call.db).map_err(|source| {
            let mut key = None;
            // Keys that cannot be told are no reason not to tell the rest.
            let _ = call.known.for_each_key(call.args, |used| {
                key = key.take().or_else(|| call.args.get(used.position).map(|key| key.to_vec()));
            });
            StreamError::Unsupported { source, key }
        })
    }

    /// Writes a script that runs here too (up to 4.0), and behind it, in the same transaction, one that holds back the
    /// deadlines which it may have given its keys: those count on the target's clock from now on.
    fn eval(&mut self, call: &Call<'_>, deadlines: &Deadlines, draft: &mut Draft) {
        let Call { known, args, raw, .. } = *call;
        let expect = known.expect(args).unwrap_or(Expect::Any);
        match (known.name(), args) {
            ("eval", [_, text, ..]) => {
                if self.scripts.learn(text) {
                    self.keep(text, draft);
                }
                push(args, raw, expect, draft);
            }
            ("evalsha", [_, sha, rest @ ..]) if let Some(text) = self.scripts.text(sha) => {
                let whole: Vec<&[u8]> =
                    [b"EVAL", text].into_iter().chain(rest.iter().copied()).collect();
                draft.push(&whole, expect);
            }
            _ => push(args, raw, expect, draft),
        }
        let mut keys: Vec<&[u8]> = Vec::new();
        call.each_written(|_, key| keys.push(key));
        let near = deadlines.horizon().saturating_sub(deadlines.on_target(call.now_ms)) - SLACK_MS;
        if keys.is_empty() || near <= 0 {
            return;
        }
        let (count, near, shift) = (keys.len().to_string(), near.to_string(), SHIFT.to_string());
        let mut hold: Vec<&[u8]> = vec![b"EVAL", HOLD_BACK.as_bytes(), count.as_bytes()];
        hold.extend(keys);
        hold.extend([near.as_bytes(), shift.as_bytes()]);
        draft.push(&hold, Expect::Integer);
    }

    /// Writes a command that sets a deadline, with the deadline held back. Says whether it was one.
    fn dated(&self, call: &Call<'_>, deadlines: &mut Deadlines, draft: &mut Draft) -> bool {
        let Ok(Some(deadline)) = call.known.deadline(call.args) else { return false };
        let at = deadline.time.at(call.now_ms);
        let relative = matches!(deadline.time, Time::In(_));
        let mut held = at;
        let keys = call.each_written(|db, key| {
            held = match deadline.of {
                Of::Key => deadlines.hold(db, key, at),
                Of::Fields(_) => deadlines.hold_field(db, key, at),
            };
            if relative {
                deadlines.unsure(db, key);
            }
        });
        let mut out = Vec::new();
        match deadline.encode(&mut out, call.args, held, &self.target) {
            Ok(encoded) if keys => {
                draft.push_many(&out, encoded.expects().map(|expect| call.soften(expect)));
                true
            }
            _ => false,
        }
    }
}

impl<'a> Call<'a> {
    /// Shows each key that it writes, with its database. Says whether they could be told.
    fn each_written(&self, mut note: impl FnMut(Db, &'a [u8])) -> bool {
        let shown = self.known.for_each_key(self.args, |used| {
            if let Some(key) = self.args.get(used.position).filter(|_| used.access.writes()) {
                note(used.db.unwrap_or(self.db), key);
            }
        });
        shown.is_ok()
    }

    /// Notes the keys that it may give another key's deadline to, and those whose deadlines it may change without a word.
    fn note_heirs(&self, deadlines: &mut Deadlines) {
        match (self.class, self.known.name()) {
            (_, "rename" | "renamenx" | "copy" | "move") => {
                self.each_written(|db, key| deadlines.inherits(db, key));
            }
            // A script runs here too, later than there: what it says of deadlines is late by as much.
            (Class::Eval, _) => {
                self.each_written(|db, key| {
                    deadlines.unsure(db, key);
                    deadlines.inherits(db, key);
                });
            }
            (Class::SwapDb, _) => {
                if let Ok([Some(one), Some(other)]) = self.known.databases(self.args) {
                    deadlines.swap(one.db, other.db);
                }
            }
            _ => {}
        }
    }

    /// What is expected of it where its keys may be missing.
    fn soften(&self, expect: Expect) -> Expect {
        match expect {
            Expect::Positive if self.lenient => Expect::Integer,
            Expect::SomePositive | Expect::Something if self.lenient => Expect::Any,
            other => other,
        }
    }
}

/// Writes a command that takes a key's content where that key may be missing here, because it is of a type that is left out: then what it
/// makes is of that type too. Says whether it was one.
fn leniently(call: &Call<'_>, draft: &mut Draft) -> bool {
    let [name, from, to, ..] = call.args else { return false };
    match call.known.name() {
        "rename" | "renamenx" => {
            draft.push(&[b"EVAL", RENAME_IF_THERE.as_bytes(), b"2", from, to, name], Expect::Any);
            true
        }
        "copy" => {
            // The copy itself is written behind this.
            let _ = call.known.for_each_key(call.args, |used| {
                if used.access == Access::Overwrite {
                    draft.select(used.db.unwrap_or(call.db));
                    draft.push(&[b"DEL", to], Expect::Any);
                    draft.select(call.db);
                }
            });
            false
        }
        _ => false,
    }
}

/// Takes the deadline off a key that the source has moved without it, and has it asked for: some releases of 2.8 may keep it.
fn leave_deadline(call: &Call<'_>, deadlines: &mut Deadlines, draft: &mut Draft) {
    call.each_written(|db, key| {
        if db != call.db {
            draft.select(db);
            draft.push(&[b"PERSIST", key], Expect::Integer);
            draft.select(call.db);
            deadlines.unsure(db, key);
        }
    });
}

/// The arguments of a command, with others in these places.
fn with_others<'a>(
    args: &[&'a [u8]],
    others: impl Iterator<Item = (usize, &'a [u8])>,
) -> Vec<&'a [u8]> {
    let mut args = args.to_vec();
    for (at, other) in others {
        if let Some(arg) = args.get_mut(at) {
            *arg = other;
        }
    }
    args
}

/// Writes a command as it came.
fn push(args: &[&[u8]], raw: Option<&[u8]>, expect: Expect, draft: &mut Draft) {
    match raw {
        Some(raw) => draft.push_raw(raw, expect),
        None => draft.push_with(expect, |out| resp::command(out, args)),
    }
}

/// Writes a command in other words.
fn put(wording: &Wording<'_>, call: &Call<'_>, draft: &mut Draft) {
    for worded in &wording.commands {
        let args: Vec<&[u8]> = worded.args.iter().map(AsRef::as_ref).collect();
        draft.push(&args, call.soften(worded.expect));
    }
}

/// Adds `ARGV[2]` to what is left of each key's time, if that is less than `ARGV[1]`.
const HOLD_BACK: &str = "\
if redis.replicate_commands then redis.replicate_commands() end \
local near,shift=tonumber(ARGV[1]),tonumber(ARGV[2]) \
for _,k in ipairs(KEYS) do local p=redis.call('PTTL',k) \
if p>0 and p<near then redis.call('PEXPIRE',k,string.format('%.0f',p+shift)) end \
end return 0";

/// `RENAME` and `RENAMENX` of what is there; of what is not, only what the former deletes.
const RENAME_IF_THERE: &str = "\
if redis.call('EXISTS',KEYS[1])==1 then return redis.call(ARGV[1],KEYS[1],KEYS[2]) end \
if string.lower(ARGV[1])=='rename' then redis.call('DEL',KEYS[2]) end return 0";

/// What lies so near the horizon is not held back by a script: what it holds back must be below the horizon on the source's clock too.
const SLACK_MS: i64 = 60_000;

/// The first release whose `MOVE` takes the deadline along: in 3.0.4 and 2.8.17 it stays behind (issue 2765 of redis/redis).
const MOVES_DEADLINES: Version = Version(3, 0, 5);

/// Nearly no command has more arguments than this.
const FEW: usize = 16;
