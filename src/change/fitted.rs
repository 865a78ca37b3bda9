//! A value in the form that a target's `RESTORE` takes, with the deadlines of its fields held back.

use crate::key::Db;
use crate::rdb::dump::Footer;
use crate::rdb::event::Payload;
use crate::rdb::opcode::ObjectType;
use crate::rdb::support::{Feature, Unsupported};
use crate::rdb::transcode::{Fit, TranscodeError, fit, transcode_with};
use crate::server::Server;

use super::Deadlines;

/// The form of a value that stands under this key.
///
/// # Errors
/// If the target cannot hold such a value, or it must be written anew and is damaged.
pub(super) fn fitted<'a>(
    payload: Payload<'a>,
    target: Server,
    (db, key): (Db, &[u8]),
    deadlines: &mut Deadlines,
) -> Result<Fit<'a>, TranscodeError> {
    if has_field_deadlines(payload.object) {
        let value = transcode_with(payload, target, |at| deadlines.hold_field(db, key, at))?
            .strict(target)?;
        let version = target.restore_version(value.object);
        let unsupported = Unsupported { what: Feature::Restore, server: target };
        return Ok(Fit::Transcoded { value, version: version.ok_or(unsupported)? });
    }
    Ok(match fit(payload, target)? {
        Fit::Transcoded { value, version } => {
            Fit::Transcoded { value: value.strict(target)?, version }
        }
        verbatim => verbatim,
    })
}

/// The payload of a `RESTORE` as the target takes it; `None` if it is none, which is the target's to say.
///
/// # Errors
/// As [`fitted`].
pub(super) fn dump_fitted(
    dump: &[u8],
    target: Server,
    place: (Db, &[u8]),
    deadlines: &mut Deadlines,
) -> Result<Option<Vec<u8>>, TranscodeError> {
    let Ok((value, footer)) = Footer::verify(dump) else { return Ok(None) };
    let Some((&byte, body)) = value.split_first() else { return Ok(None) };
    let Some(object) = ObjectType::decode(byte, footer.family()) else { return Ok(None) };
    let fit = fitted(Payload { object, body }, target, place, deadlines)?;
    let mut out = Vec::with_capacity(fit.dump_len());
    fit.put_dump(&mut out);
    Ok(Some(out))
}

/// Whether a value of this type has fields with deadlines of their own.
pub(super) fn has_field_deadlines(object: ObjectType) -> bool {
    matches!(
        object,
        ObjectType::HashMetadata
            | ObjectType::HashListpackEx
            | ObjectType::HashMetadataPreRelease
            | ObjectType::HashListpackExPreRelease
            | ObjectType::Hash2
    )
}
