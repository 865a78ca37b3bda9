//! What a replica asks before the data comes, and what the answers mean.

use crate::offset::{Offset, ReplId};
use crate::resp::command;

use super::error::{ReplError, excerpt};

/// Who we say we are. Without a user it is the password of `requirepass` or of the default user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user, from 6.0 on.
    pub user: Option<String>,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The Valkey release we read: from 9.0 on, Valkey sends a replica that does not say so RDB 11, and refuses when
/// a hash has field deadlines. Every other server answers with an error, which is no harm.
const ANNOUNCED_VERSION: &[u8] = b"9.1.0";

/// The questions of the handshake, in their order. `REPLCONF` takes one option a call, since an old server
/// refuses the whole call for one option that it does not know. No `listening-port` is ever named: the master
/// lists us with port 0, where a Sentinel can neither reach nor promote us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Auth,
    Ping,
    CapaEof,
    CapaPsync2,
    Version,
    /// Only of a master that knows no `capa`, and the last of all.
    Info,
}

impl Question {
    pub(super) fn first(credentials: Option<&Credentials>) -> Self {
        if credentials.is_some() { Self::Auth } else { Self::Ping }
    }

    /// The question after this one; after the last the synchronization itself is asked for.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Auth => Some(Self::Ping),
            Self::Ping => Some(Self::CapaEof),
            Self::CapaEof => Some(Self::CapaPsync2),
            Self::CapaPsync2 => Some(Self::Version),
            Self::Version | Self::Info => None,
        }
    }

    /// Whether the answer says that the master knows no `capa`, which came with 2.8.22 and 3.0.4 (redis `replconfCommand`).
    pub(super) fn is_unknown_capa(self, line: &[u8]) -> bool {
        self == Self::CapaEof && contains(line, b"Unrecognized REPLCONF option")
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::Ping => "PING",
            Self::CapaEof | Self::CapaPsync2 | Self::Version => "REPLCONF",
            Self::Info => "INFO",
        }
    }

    pub(super) fn ask(self, credentials: Option<&Credentials>, out: &mut Vec<u8>) {
        match self {
            Self::Auth => match credentials {
                Some(Credentials { user: Some(user), password }) => {
                    command(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]);
                }
                Some(Credentials { user: None, password }) => {
                    command(out, &[b"AUTH", password.as_bytes()]);
                }
                None => {}
            },
            Self::Ping => command(out, &[b"PING"]),
            Self::CapaEof => command(out, &[b"REPLCONF", b"capa", b"eof"]),
            Self::CapaPsync2 => command(out, &[b"REPLCONF", b"capa", b"psync2"]),
            Self::Version => command(out, &[b"REPLCONF", b"version", ANNOUNCED_VERSION]),
            Self::Info => command(out, &[b"INFO"]),
        }
    }

    /// Judges the answer, a line without its end.
    pub(super) fn judge(self, line: &[u8]) -> Result<(), ReplError> {
        if line.starts_with(b"+") {
            return Ok(());
        }
        let Some(error) = line.strip_prefix(b"-") else {
            return Err(ReplError::Unexpected { to: self.name(), text: excerpt(line) });
        };
        let text = excerpt(error);
        if let Some(refusal) = refused_everywhere(error) {
            return Err(refusal);
        }
        match self {
            // A server without a password says so when it is given one; nothing is lost by going on.
            Self::Auth
                if contains(error, b"no password is set")
                    || contains(error, b"without any password") =>
            {
                Ok(())
            }
            Self::Auth => Err(ReplError::PasswordRefused(text)),
            // An ACL without +ping still lets us synchronize, if +psync is there. Without +replconf it must not be tried: each
            // acknowledgement would be answered with an error, in the midst of the stream.
            Self::CapaEof | Self::CapaPsync2 | Self::Version if error.starts_with(b"NOPERM") => {
                Err(ReplError::Forbidden { command: "REPLCONF", text })
            }
            Self::Ping | Self::CapaEof | Self::CapaPsync2 | Self::Version | Self::Info => Ok(()),
        }
    }
}

/// Errors that mean the same whatever was asked.
fn refused_everywhere(error: &[u8]) -> Option<ReplError> {
    let text = || excerpt(error);
    if error.starts_with(b"NOAUTH") || error.starts_with(b"ERR operation not permitted") {
        return Some(ReplError::PasswordMissing(text()));
    }
    if error.starts_with(b"LOADING")
        || error.starts_with(b"MASTERDOWN")
        || error.starts_with(b"NOMASTERLINK")
    {
        return Some(ReplError::NotReady(text()));
    }
    // Up to 3.2 a replica that has lost its own master says this in place of -NOMASTERLINK.
    if contains(error, b"while not connected with my master") {
        return Some(ReplError::NotReady(text()));
    }
    if error.starts_with(b"DENIED") || contains(error, b"max number of clients") {
        return Some(ReplError::NotAdmitted(text()));
    }
    None
}

/// What a master says to `PSYNC` or `SYNC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An empty line that keeps the link alive while the master forks.
    KeepAlive,
    /// `+FULLRESYNC <replid> <offset>`: the payload follows; the stream begins after that offset.
    Full { replid: ReplId, offset: Offset },
    /// `+CONTINUE [<replid>]`: the stream goes on where it was left, perhaps under a new name.
    Partial { replid: Option<ReplId> },
    /// This server has no `PSYNC`: it is to be asked with `SYNC`.
    Unsupported(String),
}

impl Answer {
    /// Reads the answer to `PSYNC`, a line without its end.
    pub(super) fn to_psync(line: &[u8]) -> Result<Self, ReplError> {
        let unexpected = || ReplError::Unexpected { to: "PSYNC", text: excerpt(line) };
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        match words.next() {
            None => Ok(Self::KeepAlive),
            // A provider may add words of its own behind these (Aliyun does).
            Some(b"+FULLRESYNC") => {
                let replid = words.next().and_then(ReplId::parse).ok_or_else(unexpected)?;
                let offset = words.next().and_then(number).ok_or_else(unexpected)?;
                Ok(Self::Full { replid, offset: Offset::new(offset) })
            }
            Some(b"+CONTINUE") => match words.next() {
                None => Ok(Self::Partial { replid: None }),
                Some(id) => {
                    Ok(Self::Partial { replid: Some(ReplId::parse(id).ok_or_else(unexpected)?) })
                }
            },
            Some(_) => match line.strip_prefix(b"-") {
                None => Err(unexpected()),
                Some(error) => match refused(error, "PSYNC") {
                    Some(refusal) => Err(refusal),
                    None => Ok(Self::Unsupported(excerpt(error))),
                },
            },
        }
    }
}

/// Why `SYNC` or `PSYNC` was refused by a server that knows it; `None` for an unknown command or option.
pub(super) fn refused(error: &[u8], command: &'static str) -> Option<ReplError> {
    if error.starts_with(b"NOPERM") {
        return Some(ReplError::Forbidden { command, text: excerpt(error) });
    }
    refused_everywhere(error)
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &[u8] = b"3261b7e84fa23a4a39767bea41d5c09eb3555bc0";

    fn line(head: &str, tail: &str) -> Vec<u8> {
        [head.as_bytes(), ID, tail.as_bytes()].concat()
    }

    #[test]
    fn answers_to_psync() {
        let replid = ReplId::parse(ID).unwrap();
        let full = Answer::Full { replid, offset: Offset::new(100) };
        assert_eq!(Answer::to_psync(&line("+FULLRESYNC ", " 100")).unwrap(), full);
        assert_eq!(Answer::to_psync(&line("+FULLRESYNC ", " 100 0 extra")).unwrap(), full);
        assert_eq!(Answer::to_psync(b"+CONTINUE").unwrap(), Answer::Partial { replid: None });
        assert_eq!(
            Answer::to_psync(&line("+CONTINUE ", "")).unwrap(),
            Answer::Partial { replid: Some(replid) }
        );
        assert_eq!(Answer::to_psync(b"").unwrap(), Answer::KeepAlive);
        assert!(matches!(
            Answer::to_psync(b"-ERR unknown command 'PSYNC'").unwrap(),
            Answer::Unsupported(text) if text.contains("unknown command")
        ));
    }

    #[test]
    fn refusals_are_told_apart() {
        let refusal = |text: &[u8]| Answer::to_psync(text).unwrap_err();
        assert!(matches!(
            refusal(b"-NOPERM this user has no permissions"),
            ReplError::Forbidden { .. }
        ));
        assert!(matches!(
            refusal(b"-NOAUTH Authentication required."),
            ReplError::PasswordMissing(_)
        ));
        assert!(matches!(refusal(b"-NOMASTERLINK Can't SYNC while"), ReplError::NotReady(_)));
        assert!(matches!(
            refusal(b"-ERR Can't SYNC while not connected with my master"),
            ReplError::NotReady(_)
        ));
        assert!(matches!(refusal(b"HTTP/1.1 400 Bad Request"), ReplError::Unexpected { .. }));
        assert!(matches!(refusal(b"+FULLRESYNC short 1"), ReplError::Unexpected { .. }));
    }

    #[test]
    fn a_password_that_nobody_asked_for_is_no_harm() {
        let auth = Question::Auth;
        assert!(auth.judge(b"+OK").is_ok());
        assert!(auth.judge(b"-ERR Client sent AUTH, but no password is set").is_ok());
        assert!(matches!(auth.judge(b"-ERR invalid password"), Err(ReplError::PasswordRefused(_))));
        assert!(matches!(auth.judge(b"-WRONGPASS invalid"), Err(ReplError::PasswordRefused(_))));
        assert!(Question::CapaEof.judge(b"-ERR Unrecognized REPLCONF option: capa").is_ok());
        assert!(Question::Ping.judge(b"-NOPERM this user has no permissions").is_ok());
        assert!(matches!(
            Question::CapaEof.judge(b"-NOPERM this user has no permissions"),
            Err(ReplError::Forbidden { command: "REPLCONF", .. })
        ));
        assert!(matches!(
            Question::Ping.judge(b"-ERR operation not permitted"),
            Err(ReplError::PasswordMissing(_))
        ));
    }

    #[test]
    fn secrets_are_not_shown() {
        let who = Credentials { user: Some("app".into()), password: "s3cret".into() };
        assert!(!format!("{who:?}").contains("s3cret"));
    }
}
