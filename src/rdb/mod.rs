//! The RDB format, read and written: files, replication payloads and `DUMP` values of every version.
//!
//! [`parser`] is a push parser: bytes go in, events come out, and it owns none of them. [`reader`] puts a
//! buffer and the checksum around it. What both stand on are the leaves of the format, each with its reading
//! and its writing in one file: [`mod@format`], [`opcode`], [`length`], [`string`], [`lzf`], [`crc`], and the
//! collections that are kept as one string, [`packed`].
//!
//! The other way round, [`value`] makes values of elements, [`writer`] files and [`dump`] the payloads of `RESTORE`, for
//! a server of one's choice: what each reads is in [`support`], and [`transcode`] finds the form in which it takes a value
//! that another server wrote.

mod blob;
mod course;
pub mod crc;
mod cursor;
pub mod dump;
pub mod error;
pub mod event;
pub mod format;
mod layout;
pub mod length;
pub mod lzf;
mod node;
pub mod opcode;
pub mod packed;
pub mod parser;
pub mod reader;
mod scan;
mod score;
pub mod string;
pub mod support;
pub mod transcode;
pub mod value;
mod walk;
pub mod writer;
