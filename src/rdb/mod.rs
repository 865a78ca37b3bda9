//! The RDB format, read and written: files, replication payloads and `DUMP` values of every version.
//!
//! [`parser`] is a push parser: bytes go in, events come out, and it owns none of them. [`reader`] puts a
//! buffer and the checksum around it. What both stand on are the leaves of the format, each with its reading
//! and its writing in one file: [`format`], [`opcode`], [`length`], [`string`], [`lzf`], [`crc`], and the
//! collections that are kept as one string, [`packed`].

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
pub mod readers;
mod scan;
mod score;
pub mod string;
pub mod transcode;
pub mod value;
mod walk;
pub mod writer;
