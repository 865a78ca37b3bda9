//! The deadlines that commands carry: where one stands, when it is, and the same command with another.
//!
//! The source decides when a key dies, so a deadline is never handed on as it came: a relative one counts from
//! when the source ran the command, not from when the target does, and until a copy is finished deadlines are
//! held back. Every command that sets one can be written as one that names an absolute time in milliseconds.

mod encode;

pub use self::encode::Encoded;
use crate::command::args::{Args, Malformed};
use crate::command::table::Command;

/// The unit of a deadline's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What a deadline's number counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// The moment at which the source ran the command.
    Relative,
    /// The Unix epoch, on the source's clock.
    Absolute,
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// The keys that the command writes.
    Key,
    /// As many named fields of its hash.
    Fields(usize),
}

/// When, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Time {
    /// So long after the source ran the command. That moment is not in the stream: what a reader adds this to is
    /// at best near it, and only the source can tell the deadline to the millisecond.
    In(i64),
    /// At this Unix time.
    At(i64),
}

impl Time {
    /// The Unix time in milliseconds, for a command that ran at `ran_ms`.
    #[must_use]
    pub const fn at(self, ran_ms: i64) -> i64 {
        match self {
            Self::In(wait) => ran_ms.saturating_add(wait),
            Self::At(at) => at,
        }
    }
}

/// A condition under which a deadline is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Only if there is none.
    Nx,
    /// Only if there is one.
    Xx,
    /// Only if it is later than the present one.
    Gt,
    /// Only if it is earlier than the present one.
    Lt,
}

/// The deadline in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// What dies.
    pub of: Of,
    /// When.
    pub time: Time,
    /// Which argument holds the number.
    pub position: usize,
    /// The condition, in the `EXPIRE` and `HEXPIRE` families.
    pub condition: Option<Condition>,
    form: Form,
}

/// Where a command carries its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `EXPIRE key number [condition]` and its kin.
    Expire(Unit, Frame),
    /// `SETEX key number value`.
    SetEx(Unit),
    /// `SET key value [options]`.
    Set,
    /// `GETEX key [options]`.
    GetEx,
    /// `INCREX key [options]`.
    IncrEx,
    /// `MSETEX n (key value)... [options]`.
    MSetEx,
    /// `RESTORE key number payload [options]`.
    Restore,
    /// `HEXPIRE key number [condition] FIELDS n field...` and its kin.
    FieldExpire(Unit, Frame),
    /// `HSETEX key [options] FIELDS n (field value)...`, `HGETEX key [options] FIELDS n field...`.
    FieldOptions { per_field: usize },
}

impl Command {
    /// The deadline that this command with these arguments sets. `None` if it sets none, also where it could
    /// (`SET k v`, `GETEX k PERSIST`, `RESTORE k 0`).
    ///
    /// # Errors
    /// If the arguments cannot be those of this command, or the deadline is none that a server would take.
    #[inline]
    pub fn deadline(&self, args: &[&[u8]]) -> Result<Option<Deadline>, Malformed> {
        match self.deadline {
            None => Ok(None),
            Some(Form::Set) if args.len() == 3 => Ok(None),
            Some(form) => read(form, Args(args)),
        }
    }
}

fn read(form: Form, args: Args<'_>) -> Result<Option<Deadline>, Malformed> {
    let found = |position, unit, frame, of, condition| {
        let time = time(args, position, unit, frame)?;
        Ok(Some(Deadline { of, time, position, condition, form }))
    };
    let option = |from, of| match option(args, from)? {
        Some((token, unit, frame)) => found(token + 1, unit, frame, of, None),
        None => Ok(None),
    };
    match form {
        Form::Expire(unit, frame) => found(2, unit, frame, Of::Key, condition(args, 3)),
        Form::SetEx(unit) => {
            args.at(3)?;
            found(2, unit, Frame::Relative, Of::Key, None)
        }
        Form::Set => {
            args.at(2)?;
            option(3, Of::Key)
        }
        Form::GetEx | Form::IncrEx => {
            args.at(1)?;
            option(2, Of::Key)
        }
        Form::MSetEx => option(2 + 2 * args.count(1, 2)?, Of::Key),
        Form::Restore => {
            args.at(3)?;
            let frame =
                if restore_options(args).absttl { Frame::Absolute } else { Frame::Relative };
            match args.integer(2)? {
                0 => Ok(None), // none at all
                1.. => found(2, Unit::Milliseconds, frame, Of::Key, None),
                _ => Err(Malformed::Number { at: 2 }),
            }
        }
        Form::FieldExpire(unit, frame) => {
            let condition = condition(args, 3);
            let fields = if condition.is_some() { 4 } else { 3 };
            if !args.is(fields, "fields") {
                return Err(Malformed::Option { at: fields });
            }
            let count = args.count(fields + 1, 1)?;
            found(2, unit, frame, Of::Fields(count), condition)
        }
        Form::FieldOptions { per_field } => {
            let block = FieldBlock::find(args, per_field)?;
            let of = Of::Fields(block.count);
            match option(2, of)? {
                // Options stand before the fields. (Redis 8.4 also takes them behind.)
                Some(found) if found.position < block.start => Ok(Some(found)),
                _ => option(block.end(), of),
            }
        }
    }
}

fn time(args: Args<'_>, at: usize, unit: Unit, frame: Frame) -> Result<Time, Malformed> {
    let number = args.integer(at)?;
    let ms = match unit {
        Unit::Seconds => number.checked_mul(1000).ok_or(Malformed::Number { at })?,
        Unit::Milliseconds => number,
    };
    Ok(match frame {
        Frame::Relative => Time::In(ms),
        Frame::Absolute => Time::At(ms),
    })
}

fn condition(args: Args<'_>, at: usize) -> Option<Condition> {
    let known = [
        ("nx", Condition::Nx),
        ("xx", Condition::Xx),
        ("gt", Condition::Gt),
        ("lt", Condition::Lt),
    ];
    known.into_iter().find(|(word, _)| args.is(at, word)).map(|(_, condition)| condition)
}

/// The first of `EX`, `PX`, `EXAT`, `PXAT` from this position on, past the values of other options.
fn option(args: Args<'_>, from: usize) -> Result<Option<(usize, Unit, Frame)>, Malformed> {
    let known = [
        ("ex", Unit::Seconds, Frame::Relative),
        ("px", Unit::Milliseconds, Frame::Relative),
        ("exat", Unit::Seconds, Frame::Absolute),
        ("pxat", Unit::Milliseconds, Frame::Absolute),
    ];
    let valued = ["ifeq", "ifne", "ifdeq", "ifdne", "byint", "byfloat", "lbound", "ubound"];
    let mut at = from;
    while at < args.len() {
        if let Some((_, unit, frame)) = known.into_iter().find(|(word, _, _)| args.is(at, word)) {
            args.at(at + 1)?;
            return Ok(Some((at, unit, frame)));
        }
        at += if args.is_any(at, &valued) { 2 } else { 1 };
    }
    Ok(None)
}

struct RestoreOptions {
    replace: bool,
    absttl: bool,
}

fn restore_options(args: Args<'_>) -> RestoreOptions {
    let mut options = RestoreOptions { replace: false, absttl: false };
    let mut at = 4;
    while at < args.len() {
        if args.is(at, "replace") {
            options.replace = true;
        } else if args.is(at, "absttl") {
            options.absttl = true;
        } else if args.is_any(at, &["idletime", "freq"]) {
            at += 1;
        }
        at += 1;
    }
    options
}

/// `FIELDS n field...`: where the first field stands, and how many there are.
struct FieldBlock {
    start: usize,
    count: usize,
    per_field: usize,
}

impl FieldBlock {
    fn find(args: Args<'_>, per_field: usize) -> Result<Self, Malformed> {
        let mut at = 2;
        loop {
            args.at(at)?;
            if args.is(at, "fields") {
                let count = args.count(at + 1, per_field)?;
                return Ok(Self { start: at + 2, count, per_field });
            }
            at += if args.is_any(at, &["ex", "px", "exat", "pxat"]) { 2 } else { 1 };
        }
    }

    const fn end(&self) -> usize {
        self.start + self.count * self.per_field
    }
}

#[cfg(test)]
mod tests;
