//! Commands with another deadline than they came with.

use std::iter;

use crate::command::args::{Args, Malformed};
use crate::command::deadline::{Deadline, FieldBlock, Form, restore_options};
use crate::command::judge::Expect;
use crate::command::rewrite::number;
use crate::resp::{array, bulk};
use crate::server::{Flavour, Server, Version};

/// The commands that [`Deadline::encode`] wrote, by the replies they should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    first: Expect,
    then: Expect,
    times: usize,
}

impl Encoded {
    const fn one(first: Expect) -> Self {
        Self { first, then: Expect::Any, times: 0 }
    }

    const fn then(self, then: Expect, times: usize) -> Self {
        Self { then, times, ..self }
    }

    /// How many commands were written: one or more.
    #[must_use]
    pub const fn commands(&self) -> usize {
        1 + self.times
    }

    /// The reply that each of them should have, in their order.
    pub fn expects(&self) -> impl Iterator<Item = Expect> + use<> {
        iter::once(self.first).chain(iter::repeat_n(self.then, self.times))
    }
}

impl Deadline {
    /// Writes `args`, the command this deadline was found in, as one that sets the deadline `at_ms` (Unix time in
    /// milliseconds), in a form that `target` knows.
    ///
    /// Where one command cannot say it, several are written. They stand for one command of the source: they must be
    /// in one transaction, and their replies be judged together.
    ///
    /// Conditions on whole keys are left off (`NX`, `GT`, `IFEQ`...): a master propagates no command whose condition
    /// was not met, and against a deadline that is held back some would fail. Those on hash fields stay: Valkey
    /// propagates fields that did not meet them.
    ///
    /// What `SET ... GET` would have answered is not asked for. `RESTORE-ASKING` becomes `RESTORE`. A payload is not
    /// touched, nor is it looked at whether the target can read it.
    ///
    /// # Errors
    /// If `args` are not those that the deadline was found in. Part of a command may be written then.
    pub fn encode(
        &self,
        out: &mut Vec<u8>,
        args: &[&[u8]],
        at_ms: i64,
        target: &Server,
    ) -> Result<Encoded, Malformed> {
        let args = Args(args);
        match self.form {
            Form::Expire(..) | Form::GetEx => {
                expire(out, args.at(1)?, at_ms);
                Ok(Encoded::one(Expect::Positive))
            }
            Form::SetEx(_) => set(out, args.at(1)?, args.at(3)?, at_ms, target),
            Form::Set => set(out, args.at(1)?, args.at(2)?, at_ms, target),
            Form::MSetEx => set_many(out, args, at_ms, target),
            Form::Restore => restore(out, args, at_ms, target),
            Form::IncrEx => {
                self.in_place(out, args, at_ms);
                Ok(Encoded::one(Expect::Something))
            }
            Form::FieldExpire(..) => {
                array(out, args.len());
                bulk(out, b"HPEXPIREAT");
                bulk(out, args.at(1)?);
                number(out, at_ms.max(0));
                args.0.iter().skip(3).for_each(|arg| bulk(out, arg));
                Ok(Encoded::one(Expect::SomePositive))
            }
            Form::FieldOptions { per_field } if knows_field_options(target) => {
                self.in_place(out, args, at_ms);
                let writes = per_field == 2;
                Ok(Encoded::one(if writes { Expect::Positive } else { Expect::Something }))
            }
            Form::FieldOptions { per_field } => {
                split_fields(out, args, &FieldBlock::find(args, per_field)?, at_ms)
            }
        }
    }

    /// The same arguments but for `PXAT` and its number.
    fn in_place(&self, out: &mut Vec<u8>, args: Args<'_>, at_ms: i64) {
        array(out, args.len());
        for (at, arg) in args.0.iter().enumerate() {
            if at + 1 == self.position {
                bulk(out, b"PXAT");
            } else if at == self.position {
                number(out, at_ms.max(EARLIEST));
            } else {
                bulk(out, arg);
            }
        }
    }
}

/// Servers refuse 0 and less after `PXAT` and `ABSTTL`. This too is long past.
const EARLIEST: i64 = 1;

fn expire(out: &mut Vec<u8>, key: &[u8], at_ms: i64) {
    array(out, 3);
    bulk(out, b"PEXPIREAT");
    bulk(out, key);
    number(out, at_ms);
}

fn set(
    out: &mut Vec<u8>,
    key: &[u8],
    value: &[u8],
    at_ms: i64,
    target: &Server,
) -> Result<Encoded, Malformed> {
    let pxat = target.as_redis() >= Version(6, 2, 0);
    array(out, if pxat { 5 } else { 3 });
    bulk(out, b"SET");
    bulk(out, key);
    bulk(out, value);
    if pxat {
        bulk(out, b"PXAT");
        number(out, at_ms.max(EARLIEST));
        return Ok(Encoded::one(Expect::Status));
    }
    expire(out, key, at_ms);
    Ok(Encoded::one(Expect::Status).then(Expect::Positive, 1))
}

fn set_many(
    out: &mut Vec<u8>,
    args: Args<'_>,
    at_ms: i64,
    target: &Server,
) -> Result<Encoded, Malformed> {
    let keys = args.count(1, 2)?;
    let pairs = args.0.iter().skip(2).take(2 * keys);
    let known = match target.flavour {
        Flavour::Redis => target.version >= Version(8, 4, 0),
        Flavour::Valkey => target.version >= Version(9, 1, 0),
        Flavour::Redict => false,
    };
    if known {
        array(out, 2 + 2 * keys + 2);
        bulk(out, b"MSETEX");
        number(out, i64::try_from(keys).unwrap_or(i64::MAX));
        pairs.for_each(|arg| bulk(out, arg));
        bulk(out, b"PXAT");
        number(out, at_ms.max(EARLIEST));
        return Ok(Encoded::one(Expect::Positive));
    }
    array(out, 1 + 2 * keys);
    bulk(out, b"MSET");
    pairs.clone().for_each(|arg| bulk(out, arg));
    pairs.step_by(2).for_each(|key| expire(out, key, at_ms));
    Ok(Encoded::one(Expect::Status).then(Expect::Positive, keys))
}

fn restore(
    out: &mut Vec<u8>,
    args: Args<'_>,
    at_ms: i64,
    target: &Server,
) -> Result<Encoded, Malformed> {
    let (key, payload) = (args.at(1)?, args.at(3)?);
    let options = restore_options(args);
    if target.as_redis() >= Version(5, 0, 0) {
        array(out, args.len() + usize::from(!options.absttl));
        bulk(out, b"RESTORE");
        bulk(out, key);
        number(out, at_ms.max(EARLIEST));
        args.0.iter().skip(3).for_each(|arg| bulk(out, arg));
        if !options.absttl {
            bulk(out, b"ABSTTL");
        }
        return Ok(Encoded::one(Expect::Status));
    }
    // IDLETIME and FREQ came with ABSTTL.
    array(out, 4 + usize::from(options.replace));
    bulk(out, b"RESTORE");
    bulk(out, key);
    bulk(out, b"0");
    bulk(out, payload);
    if options.replace {
        bulk(out, b"REPLACE");
    }
    expire(out, key, at_ms);
    Ok(Encoded::one(Expect::Status).then(Expect::Positive, 1))
}

/// `HSETEX` and `HGETEX` came later than the deadlines of fields (7.4).
fn knows_field_options(target: &Server) -> bool {
    match target.flavour {
        Flavour::Redis => target.version >= Version(8, 0, 0),
        Flavour::Valkey => target.version >= Version(9, 0, 0),
        Flavour::Redict => false,
    }
}

/// `HSETEX` as `HSET` and `HPEXPIREAT`; `HGETEX` as the latter alone.
fn split_fields(
    out: &mut Vec<u8>,
    args: Args<'_>,
    block: &FieldBlock,
    at_ms: i64,
) -> Result<Encoded, Malformed> {
    let key = args.at(1)?;
    let fields = args.0.iter().skip(block.start).take(block.count * block.per_field);
    let writes = block.per_field == 2;
    if writes {
        array(out, 2 + 2 * block.count);
        bulk(out, b"HSET");
        bulk(out, key);
        fields.clone().for_each(|arg| bulk(out, arg));
    }
    array(out, 5 + block.count);
    bulk(out, b"HPEXPIREAT");
    bulk(out, key);
    number(out, at_ms.max(0));
    bulk(out, b"FIELDS");
    number(out, i64::try_from(block.count).unwrap_or(i64::MAX));
    fields.step_by(block.per_field).for_each(|field| bulk(out, field));
    Ok(if writes {
        Encoded::one(Expect::Integer).then(Expect::SomePositive, 1)
    } else {
        Encoded::one(Expect::SomePositive)
    })
}
