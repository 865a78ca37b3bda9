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
pub mod kind;
pub mod older;
pub mod rewrite;
pub mod table;

pub use args::Malformed;
pub use class::Class;
pub use table::{Command, class_of, lookup};

#[cfg(test)]
pub(crate) mod testing {
    //! Commands as text and back, for the tests of this module.

    /// The words of a line.
    pub(crate) fn words(line: &str) -> Vec<&[u8]> {
        line.split_whitespace().map(str::as_bytes).collect()
    }

    /// The commands in `resp`, read by their lengths alone.
    pub(crate) fn decode(resp: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut rest = resp;
        let mut commands = Vec::new();
        while !rest.is_empty() {
            let args = length(&mut rest, b'*');
            commands.push((0..args).map(|_| bulk(&mut rest)).collect());
        }
        commands
    }

    /// The commands in `resp` as lines of words.
    pub(crate) fn lines(resp: &[u8]) -> Vec<String> {
        let line = |args: &Vec<Vec<u8>>| String::from_utf8(args.join(&b' ')).unwrap();
        decode(resp).iter().map(line).collect()
    }

    fn bulk(rest: &mut &[u8]) -> Vec<u8> {
        let len = length(rest, b'$');
        let (arg, behind) = rest.split_at(len);
        *rest = behind.strip_prefix(b"\r\n").unwrap();
        arg.to_vec()
    }

    fn length(rest: &mut &[u8], mark: u8) -> usize {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let (line, behind) = rest.split_at(end);
        *rest = &behind[2..];
        let digits = line.strip_prefix(&[mark]).unwrap();
        std::str::from_utf8(digits).unwrap().parse().unwrap()
    }
}
