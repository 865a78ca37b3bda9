//! Hashes: fields, and in two forms their deadlines.
//!
//! ```text
//! type 4             count | (field | value) ...
//! type 24, Redis     earliest u64 LE | count | (deadline - earliest + 1, or 0 for none | field | value) ...
//! type 22, Valkey    count | (field | value | deadline i64 LE, or -1 for none) ...
//! ```
//! Deadlines are milliseconds since 1970.

use bytes::BufMut;

use crate::rdb::length::put_length;
use crate::rdb::opcode::ObjectType;
use crate::rdb::string::put_string;
use crate::rdb::value::Lost;
use crate::server::Server;

/// Encodes the fields of one hash.
#[derive(Debug)]
pub(super) struct HashEncoder(Form);

#[derive(Debug)]
enum Form {
    Plain,
    /// Type 24, while the earliest deadline is still open: where in the output each field begins, and its
    /// deadline or 0. The deadlines are put in between once the earliest is known.
    Redis(Vec<(usize, u64)>),
    /// Type 24 with 1 taken for the earliest, which no deadline is before: the beginning was taken away before
    /// the end was known. Servers use the number for nothing but this sum.
    RedisSettled,
    Valkey,
}

impl HashEncoder {
    /// For the fields of a hash that the source wrote as `object`.
    pub(super) fn new(object: ObjectType, server: Server) -> Self {
        Self(match object {
            ObjectType::Hash
            | ObjectType::HashZipmap
            | ObjectType::HashZiplist
            | ObjectType::HashListpack => Form::Plain,
            _ if server.reads(ObjectType::Hash2) => Form::Valkey,
            _ if server.reads(ObjectType::HashMetadata) => Form::Redis(Vec::new()),
            _ => Form::Plain,
        })
    }

    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        lost: &mut Lost,
        field: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
    ) {
        match &mut self.0 {
            Form::Plain => lost.field_deadlines += u64::from(expire_at_ms.is_some()),
            Form::Redis(fields) => fields.push((out.len(), redis_deadline(expire_at_ms))),
            Form::RedisSettled => put_length(out, redis_deadline(expire_at_ms)),
            Form::Valkey => {}
        }
        put_string(out, field);
        put_string(out, value);
        if matches!(self.0, Form::Valkey) {
            out.put_i64_le(expire_at_ms.unwrap_or(NO_DEADLINE));
        }
    }

    /// Makes what `out` holds final, so that it can be taken away.
    pub(super) fn settle(&mut self, out: &mut Vec<u8>) {
        if let Form::Redis(fields) = &self.0 {
            *out = with_deadlines(out, fields, FIRST_DEADLINE);
            self.0 = Form::RedisSettled;
        }
    }

    /// Writes what stands before the fields, and finishes them.
    pub(super) fn finish(
        &mut self,
        head: &mut Vec<u8>,
        out: &mut Vec<u8>,
        count: u64,
    ) -> ObjectType {
        let object = match &self.0 {
            Form::Plain => ObjectType::Hash,
            Form::Valkey => ObjectType::Hash2,
            Form::RedisSettled => {
                head.put_u64_le(FIRST_DEADLINE);
                ObjectType::HashMetadata
            }
            Form::Redis(fields) => {
                let deadlines = fields.iter().map(|(_, deadline)| *deadline);
                match deadlines.filter(|deadline| *deadline > 0).min() {
                    Some(earliest) => {
                        *out = with_deadlines(out, fields, earliest);
                        head.put_u64_le(earliest);
                        ObjectType::HashMetadata
                    }
                    // All deadlines are gone since: it is a hash like any other.
                    None => ObjectType::Hash,
                }
            }
        };
        put_length(head, count);
        object
    }
}

/// Puts the deadline before each field.
fn with_deadlines(fields_alone: &[u8], fields: &[(usize, u64)], earliest: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields_alone.len() + fields.len() * size_of::<u64>());
    let ends = fields.iter().skip(1).map(|(start, _)| *start).chain([fields_alone.len()]);
    for (&(start, deadline), end) in fields.iter().zip(ends) {
        put_length(&mut out, if deadline == 0 { 0 } else { deadline - earliest + 1 });
        out.extend_from_slice(fields_alone.get(start..end).unwrap_or_default());
    }
    out
}

/// A deadline that Redis takes, or 0 for none.
///
/// It refuses a file with a later one (redis `ebuckets.h`, `EB_EXPIRE_TIME_MAX`; that is in the year 10889), and
/// would take one of 0 for none.
fn redis_deadline(expire_at_ms: Option<i64>) -> u64 {
    let Some(at) = expire_at_ms else { return 0 };
    u64::try_from(at).unwrap_or(0).clamp(FIRST_DEADLINE, LAST_DEADLINE)
}

const FIRST_DEADLINE: u64 = 1;
const LAST_DEADLINE: u64 = (1 << 48) - 1;
const NO_DEADLINE: i64 = -1;
