//! The command table: every data command of Redis 2.4 to 8.10 and Valkey up to 9.1, the commands that
//! stand in a replication stream beside them, and the well-known modules' commands.
//!
//! A new command is one row in `table/rows.rs` (or `table/modules.rs`). `tests/command_table.rs` compares
//! the rows with what the `COMMAND` of real servers says.
//!
//! Left out on purpose, so that they are [`Class::Unknown`] and somebody decides: `HIMPORT` (8.10) keeps field
//! names in the connection; `GCRA` (8.8) sets a deadline that it does not name; `SFLUSH` and `TRIMSLOTS`
//! delete by slot; `FT.*` changes indices, not keys.

mod modules;
mod rows;

use std::fmt;

use crate::command::args::Args;
use crate::command::class::Class;
use crate::command::deadline::Form;
use crate::command::judge::{Expect, Replies};
use crate::command::keys::KeySpec;
use crate::command::older::News;

/// A command that servers have: what it is for, where its keys are, what its reply should be.
#[derive(Clone, Copy)]
pub struct Command {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    pub(crate) keys: KeySpec,
    pub(crate) undeclared: bool,
    pub(crate) replies: Replies,
    pub(crate) deadline: Option<Form>,
    pub(crate) news: News,
}

impl Command {
    /// Its name in lower case.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it is for, with these arguments.
    ///
    /// The name decides, but for `CLUSTER`: `SETSLOT` and `SYNCSLOTS` are the servers' own affair, and all else that a stream may
    /// hold of it moves or deletes data by slot (`FLUSHSLOT`, which Valkey 9 propagates as it stands).
    #[must_use]
    #[inline]
    pub fn class(&self, args: &[&[u8]]) -> Class {
        match self.class {
            Class::Control
                if self.name == "cluster"
                    && !["setslot", "syncslots"].iter().any(|word| Args(args).is(1, word)) =>
            {
                Class::Unknown
            }
            class => class,
        }
    }

    /// The rule by which its keys are found.
    #[must_use]
    pub const fn keys(&self) -> KeySpec {
        self.keys
    }

    const fn new(name: &'static str, class: Class, keys: KeySpec, expect: Expect) -> Self {
        let replies = Replies::Always(expect);
        Self { name, class, keys, undeclared: false, replies, deadline: None, news: News::None }
    }

    /// Changes keys, and its reply is told by `expect` whatever its arguments.
    const fn write(name: &'static str, keys: KeySpec, expect: Expect) -> Self {
        Self::new(name, Class::Data, keys, expect)
    }

    /// Reads keys only.
    const fn read(name: &'static str, keys: KeySpec) -> Self {
        Self::new(name, Class::Read, keys, Expect::Any)
    }

    /// Of another class, without keys.
    const fn other(name: &'static str, class: Class, expect: Expect) -> Self {
        Self::new(name, class, KeySpec::None, expect)
    }

    /// Its arguments decide which reply is expected.
    const fn judged(self, replies: Replies) -> Self {
        Self { replies, ..self }
    }

    /// It can carry a deadline.
    const fn dated(self, form: Form) -> Self {
        Self { deadline: Some(form), ..self }
    }

    /// It, or a form of it, is not known to every target.
    const fn newer(self, news: News) -> Self {
        Self { news, ..self }
    }

    /// It may touch keys that it does not name.
    const fn reaching(self) -> Self {
        Self { undeclared: true, ..self }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Command {}

/// The command of this name, in upper, lower or mixed case; `None` if no server has it.
///
/// Allocates nothing and compares with one row, seldom with two.
///
/// ```
/// # use understudy::command::lookup;
/// assert_eq!(lookup(b"GetEx").unwrap().name(), "getex");
/// assert!(lookup(b"frobnicate").is_none());
/// ```
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let mut slot = first_slot(name);
    // Ends: most slots are free. Without a free one it would still end after a round.
    for _ in 0..SLOTS {
        let row = INDEX.get(slot).copied().unwrap_or(FREE);
        let command = COMMANDS.get(usize::from(row))?; // FREE is past the end
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// The class of a command; [`Class::Unknown`] if no server has it. No arguments at all are the bare newline by which a
/// master keeps a link alive: [`Class::Ping`].
#[must_use]
pub fn class_of(args: &[&[u8]]) -> Class {
    match args.first() {
        Some(name) => lookup(name).map_or(Class::Unknown, |command| command.class(args)),
        None => Class::Ping,
    }
}

/// Every row, in no order that means anything.
pub fn all() -> impl ExactSizeIterator<Item = &'static Command> {
    COMMANDS.iter()
}

#[expect(clippy::indexing_slicing, reason = "past the end would not compile")]
static COMMANDS: [Command; COUNT] = {
    let (own, more) = (rows::ROWS, modules::ROWS);
    let mut all = [own[0]; COUNT];
    let mut row = 0;
    while row < COUNT {
        all[row] = if row < own.len() { own[row] } else { more[row - own.len()] };
        row += 1;
    }
    all
};

/// An open hash table over the names, filled by the compiler: 4 KiB, a fifth of it used, so that a look-up
/// ends at its first slot nearly always.
#[expect(clippy::indexing_slicing, reason = "past the end would not compile")]
#[expect(clippy::cast_possible_truncation, reason = "COUNT is below FREE")]
static INDEX: [u16; SLOTS] = {
    let mut index = [FREE; SLOTS];
    let mut row = 0;
    while row < COUNT {
        let mut slot = first_slot(COMMANDS[row].name.as_bytes());
        while index[slot] != FREE {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = row as u16;
        row += 1;
    }
    index
};

const COUNT: usize = rows::ROWS.len() + modules::ROWS.len();
const SLOTS: usize = 2048;
const FREE: u16 = u16::MAX;
const _: () = assert!(COUNT < SLOTS / 2);

/// Where the search for a name begins. Names that differ in case only begin at the same slot.
///
/// Up to sixteen bytes all count; of longer names the first and the last eight do.
const fn first_slot(name: &[u8]) -> usize {
    let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(head), Some(tail)) => {
                (u32::from_le_bytes(*head) as u64, u32::from_le_bytes(*tail) as u64)
            }
            _ => match name {
                [] => (0, 0),
                [a] => (*a as u64, 0),
                [a, b] => (*a as u64, *b as u64),
                [a, b, c, ..] => (*a as u64 | (*b as u64) << 8, *c as u64),
            },
        },
    };
    // Sets the bit that tells the cases of a letter apart; that it also folds a few signs is no harm here.
    const CASE: u64 = 0x2020_2020_2020_2020;
    let mixed = (head | CASE).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (tail | CASE).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ name.len() as u64;
    // The last multiplier was searched for: with it no name stands further than one slot from its first.
    #[expect(clippy::cast_possible_truncation, reason = "eleven bits are left")]
    let slot = (mixed.wrapping_mul(0xb1ee_daff_cc3d_5507) >> (64 - SLOTS.ilog2())) as usize;
    slot
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_lower_case_and_stand_once() {
        let mut seen = BTreeMap::new();
        for command in all() {
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            assert_eq!(seen.insert(command.name, ()), None, "{} stands twice", command.name);
        }
        assert!(seen.len() > 350, "the table is not whole: {}", seen.len());
    }

    #[test]
    fn a_search_is_short() {
        let distance = |command: &Command| {
            let row = COMMANDS.iter().position(|other| other == command).unwrap();
            let slot = INDEX.iter().position(|&at| usize::from(at) == row).unwrap();
            (slot + SLOTS - first_slot(command.name.as_bytes())) % SLOTS
        };
        assert!(all().map(distance).max().unwrap() <= 3);
        assert!(
            all().map(distance).sum::<usize>() * 5 < all().len(),
            "more than 1.2 rows a look-up"
        );
    }

    #[test]
    fn what_is_left_out_is_unknown() {
        for name in ["himport", "gcra", "sflush", "trimslots", "ft.create", "", "x"] {
            assert_eq!(lookup(name.as_bytes()), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_found_in_any_case(row in 0..COUNT, upper in any::<u64>()) {
            let command = &COMMANDS[row];
            let name: Vec<u8> = command.name.bytes().enumerate().map(|(at, byte)| {
                if upper >> (at % 64) & 1 == 1 { byte.to_ascii_uppercase() } else { byte }
            }).collect();
            prop_assert_eq!(lookup(&name), Some(command));
        }

        #[test]
        fn what_is_found_is_what_a_search_of_all_rows_finds(
            row in 0..COUNT,
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            tail in prop::collection::vec(any::<u8>(), 0..3),
            cut in 0usize..40,
        ) {
            let mut name = COMMANDS[row].name.as_bytes().to_vec();
            for (at, byte) in edits {
                let at = at.index(name.len());
                name[at] = byte;
            }
            name.extend(tail);
            name.truncate(cut);
            let naive = COMMANDS.iter().find(|command| {
                command.name.as_bytes() == name.to_ascii_lowercase()
            });
            prop_assert_eq!(lookup(&name), naive);
        }
    }
}
