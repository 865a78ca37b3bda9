//! A key in doubt, brought to what the source holds.

use crate::command::judge::Expect;
use crate::key::Db;
use crate::rdb::dump::Footer;
use crate::rdb::event::Payload;
use crate::rdb::opcode::ObjectType;
use crate::rdb::transcode::TranscodeError;
use crate::server::Server;

use super::fitted::dump_fitted;
use super::{Deadlines, Draft, Scope};

/// Writes what a source holds under a key (a payload of `DUMP` and the key's deadline; `None` if it holds nothing), in place of what the
/// target does. A value of a type that is left out is none.
///
/// # Errors
/// If the target cannot hold such a value.
pub fn refill(
    (db, key): (Db, &[u8]),
    held: Option<(&[u8], Option<i64>)>,
    (target, scope): (Server, &Scope),
    deadlines: &mut Deadlines,
    draft: &mut Draft,
) -> Result<(), TranscodeError> {
    draft.select(db);
    draft.push(&[b"DEL", key], Expect::Any);
    let Some((payload, deadline)) = held.filter(|(payload, _)| wants(payload, scope)) else {
        return Ok(());
    };
    // What cannot be read as a payload is the target's to refuse.
    let fitted = dump_fitted(payload, target, (db, key), deadlines)?;
    let payload = fitted.as_deref().unwrap_or(payload);
    draft.push(&[b"RESTORE", key, b"0", payload], Expect::Status);
    if let Some(at) = deadline {
        let at = deadlines.hold(db, key, at);
        draft
            .push(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()], Expect::Integer);
    }
    Ok(())
}

/// Whether the rules want a value of this type, a payload of `DUMP`.
#[must_use]
pub fn wants(payload: &[u8], scope: &Scope) -> bool {
    let Ok((value, footer)) = Footer::verify(payload) else { return true };
    let Some((&byte, body)) = value.split_first() else { return true };
    ObjectType::decode(byte, footer.family()).is_none_or(|object| {
        let rules = scope.rules();
        rules.admits(object.value_type()) && scope.admits_payload(&Payload { object, body })
    })
}
