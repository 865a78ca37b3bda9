//! The RDB format, read and written: files, replication payloads and `DUMP` values of every version.

pub mod packed;
