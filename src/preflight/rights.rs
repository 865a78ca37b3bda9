//! What a user may do in a target, found out before anything is written.

use crate::net::{Control, ControlError};
use crate::plan::Forbidden;

/// What every copy needs, as calls that change nothing: each names a key that is not there, or is refused for another reason by whoever
/// may run it.
pub(super) const CALLS: [(&str, &[&[u8]]); 5] = [
    ("SET", &[PROBE, b"", b"XX"]),
    ("RESTORE", &[PROBE, b"0", b""]),
    ("DEL", &[PROBE]),
    ("PEXPIREAT", &[PROBE, b"1"]),
    // It sets deadlines at the end. With a key less than it claims it is not run, nor kept.
    ("EVAL", &[b"return 0", b"2", PROBE]),
];

/// A key that nobody has.
pub(super) const PROBE: &[u8] = b"understudy:probe";

/// The first of the commands that the server's ACL does not let us run.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn forbidden(control: &mut Control) -> Result<Option<Forbidden>, ControlError> {
    for (command, args) in CALLS {
        match control.ask::<redis::Value>(command, args).await {
            Err(ControlError::Refused { text, .. }) if text.starts_with("NOPERM") => {
                return Ok(Some(Forbidden { command: command.to_owned(), text }));
            }
            Ok(_) | Err(ControlError::Refused { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}
