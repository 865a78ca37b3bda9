//! Where a command's keys stand in its arguments, and what it may do to each.
//!
//! The rules for keys in doubt stand on this: whether a command is applied is decided by the keys that it
//! touches, and those that it writes take over its fate. So a key too few loses data. Where a command may touch
//! keys that it does not name, [`Reach::Undeclared`] says so.

mod walk;

pub(crate) use self::walk::CopyOptions;
use self::walk::walk;
use crate::command::args::{Args, Malformed};
use crate::command::class::Class;
use crate::command::table::{Command, lookup};
use crate::key::Db;

/// What a command may do to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads it; leaves it as it is.
    Read,
    /// Changes it, and what becomes of it depends on what it was (`INCR`, `SETNX`, the source of `RENAME`).
    Update,
    /// Replaces it whole, deadline included, whatever it was (`SET k v`, the destination of `SUNIONSTORE`).
    Overwrite,
    /// Deletes it, whatever it was.
    Remove,
}

impl Access {
    /// Whether the key may be another one afterwards.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }

    /// Whether the key's state afterwards is the same whatever it was before.
    #[must_use]
    pub const fn forgets(self) -> bool {
        matches!(self, Self::Overwrite | Self::Remove)
    }
}

/// One key of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Which argument it is; the command's name is argument 0.
    pub position: usize,
    /// What is done to it.
    pub access: Access,
    /// The database it lies in, where the command names one (`MOVE`, `COPY ... DB`); otherwise the one in use.
    pub db: Option<Db>,
}

/// Whether the keys that a command names are all that it can touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They are.
    Declared,
    /// They need not be: a script, `SORT` with a pattern in `BY` or `GET`, a time series with compaction rules.
    Undeclared,
}

/// The rule by which a command's keys are found.
///
/// Those with an [`Access`] do the same to all keys; those without decide by the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySpec {
    /// No argument is a key.
    None,
    /// Argument 1.
    One(Access),
    /// Argument 2, behind a subcommand.
    Second(Access),
    /// Arguments 1 and 2.
    Two(Access, Access),
    /// This argument and all behind it.
    From(u8, Access),
    /// All arguments but the last (`BLPOP`, whose last is the timeout).
    AllButLast(Access),
    /// The first of each group of this many arguments (`MSET` 2, `JSON.MSET` 3).
    Every(u8, Access),
    /// A destination at this position, sources that are read behind it.
    Into(u8, Access),
    /// A number of keys, and the keys behind it, with `step` arguments for each.
    Counted {
        /// Where the number stands.
        at: u8,
        /// 1, or 2 where a value follows each key (`MSETEX`).
        step: u8,
        /// What is done to them.
        access: Access,
    },
    /// A destination at 1, the number of sources at 2, the sources (`ZUNIONSTORE`).
    IntoCounted(Access),
    /// Argument 2 behind one of these subcommands (`XGROUP CREATE`); no key behind another that only reads.
    Sub(&'static [&'static str], Access),
    /// `SET`: overwrites, except under a condition or with the old deadline or value.
    Set,
    /// `DELEX`: removes, except under a condition.
    DelEx,
    /// `BITFIELD`: updates if it does anything but `GET`.
    BitField,
    /// `RESTORE`: overwrites with `REPLACE`.
    Restore,
    /// `MOVE`: one name, in two databases.
    Move,
    /// `COPY`: the destination may lie in another database.
    Copy,
    /// `SORT`: the last `STORE` counts.
    Sort,
    /// `GEORADIUS` and `GEORADIUSBYMEMBER`: the last `STORE` or `STOREDIST` counts.
    GeoRadius {
        /// Where the options begin.
        options: u8,
    },
    /// `XREAD` and `XREADGROUP`: the first half of what follows `STREAMS`.
    Streams(Access),
    /// `MIGRATE`: argument 3, or if that is empty what follows `KEYS`.
    Migrate,
}

impl Command {
    /// Shows each key of `args` to `visit`, in the order of the arguments' rule, and says whether that is all.
    ///
    /// `args` holds the name too. A key that is named twice is shown twice; `MOVE` shows its key once for each
    /// database. Does not allocate.
    ///
    /// # Errors
    /// If the arguments cannot be those of this command. Some keys may have been shown already.
    #[inline]
    pub fn for_each_key(
        &self,
        args: &[&[u8]],
        mut visit: impl FnMut(KeyUse),
    ) -> Result<Reach, Malformed> {
        // The two forms that are nearly all of a stream, kept apart so that they are compiled into the caller.
        match self.keys {
            KeySpec::One(access) if args.len() > 1 => {
                visit(KeyUse { position: 1, access, db: None });
                Ok(self.reach())
            }
            KeySpec::Set if args.len() == 3 => {
                visit(KeyUse { position: 1, access: Access::Overwrite, db: None });
                Ok(Reach::Declared)
            }
            spec => {
                let reach = walk(spec, Args(args), &mut visit)?;
                Ok(if self.undeclared { Reach::Undeclared } else { reach })
            }
        }
    }

    const fn reach(&self) -> Reach {
        if self.undeclared { Reach::Undeclared } else { Reach::Declared }
    }
}

/// The keys of a command with its class: what [`Command::for_each_key`] shows, kept.
///
/// # Errors
/// If the command is not known, or its arguments cannot be its arguments.
///
/// ```
/// use understudy::command::keys::{Access, keys};
/// let found = keys(&[b"COPY", b"a", b"b", b"DB", b"3", b"REPLACE"])?;
/// let last = found.iter().last().unwrap();
/// assert_eq!((last.position, last.access), (2, Access::Overwrite));
/// assert_eq!(last.db.unwrap().index(), 3);
/// # Ok::<(), understudy::command::Malformed>(())
/// ```
pub fn keys(args: &[&[u8]]) -> Result<Keys, Malformed> {
    let name = args.first().ok_or(Malformed::Empty)?;
    let command = lookup(name).ok_or(Malformed::Unknown)?;
    let mut keys = Keys {
        class: command.class(args),
        reach: Reach::Declared,
        inline: [KeyUse { position: 0, access: Access::Read, db: None }; INLINE],
        len: 0,
        rest: Vec::new(),
    };
    keys.reach = command.for_each_key(args, |key| keys.push(key))?;
    Ok(keys)
}

/// The keys of one command. Up to four are held without an allocation.
#[derive(Clone, Debug)]
pub struct Keys {
    class: Class,
    reach: Reach,
    inline: [KeyUse; INLINE],
    len: usize,
    rest: Vec<KeyUse>,
}

const INLINE: usize = 4;

impl Keys {
    fn push(&mut self, key: KeyUse) {
        match self.inline.get_mut(self.len) {
            Some(place) => {
                *place = key;
                self.len += 1;
            }
            None => self.rest.push(key),
        }
    }

    /// The command's class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether these are all the keys it can touch.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyUse> {
        self.inline.iter().take(self.len).chain(&self.rest)
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len + self.rest.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests;
