//! What a command is: its keys, what it may do to them, what its reply should be, its deadlines, and how
//! it is written anew.
//!
//! Everything here works on an argument vector as a stream gives it, `&[&[u8]]` with the name first, and
//! allocates nothing in the common case. [`lookup`] finds the [`Command`]; the rest are questions to it:
//!
//! ```
//! use understudy::command::keys::Access;
//! use understudy::command::lookup;
//!
//! let args: &[&[u8]] = &[b"Sort", b"list", b"BY", b"nosort", b"STORE", b"sorted"];
//! let mut uses = Vec::new();
//! lookup(args[0]).unwrap().for_each_key(args, |key| uses.push((key.position, key.access)))?;
//! assert_eq!(uses, [(1, Access::Read), (5, Access::Overwrite)]);
//! # Ok::<(), understudy::command::Malformed>(())
//! ```

mod args;
pub mod class;
pub mod deadline;
pub mod judge;
pub mod keys;
pub mod rewrite;
pub mod table;

pub use args::Malformed;
pub use class::Class;
pub use table::{Command, class_of, lookup};
