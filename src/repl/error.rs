//! What can go wrong between a replica and its master, and what to do about it.

use crate::rdb::error::RdbError;
use crate::resp::RespError;

/// Why a session with a master ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplError {
    /// The master asks for a password and none was given.
    #[error("the master asks for a password: {0}")]
    PasswordMissing(String),
    /// The password, or the ACL user, was refused.
    #[error("the master refused the password: {0}")]
    PasswordRefused(String),
    /// An ACL, or the provider, forbids a command that a replica cannot do without.
    #[error("the master forbids {command}: {text}")]
    Forbidden {
        /// The command that was refused.
        command: &'static str,
        /// The master's own words.
        text: String,
    },
    /// Neither `PSYNC` nor `SYNC` is known here: renamed, or switched off by a provider.
    #[error("the master knows neither PSYNC nor SYNC: {0}")]
    NoReplication(String),
    /// `PSYNC` is not known here, and nothing else is wanted.
    #[error("the master does not take PSYNC: {0}")]
    PsyncRefused(String),
    /// Protected mode, or no more clients: the master closes the door before anything is asked.
    #[error("the master does not let us in: {0}")]
    NotAdmitted(String),
    /// It cannot serve a replica now and may later: it is loading, or its own master's link is down.
    #[error("the master cannot serve a replica now: {0}")]
    NotReady(String),
    /// It is saving its data set, and is so old that meanwhile it would tell a wrong offset (before 2.8.22 and 3.0.4).
    #[error(
        "the master is saving its data set, and would tell a wrong offset until it has (it is older than 2.8.22 or 3.0.4)"
    )]
    Saving,
    /// The same, whenever it sends its data set without a file.
    #[error(
        "the master sends its data set without a file (repl-diskless-sync), and is so old that it tells a wrong offset then (before 2.8.22 and 3.0.4)"
    )]
    Diskless,
    /// It began a full synchronization and broke it off with an error, as it does when its `BGSAVE` fails.
    #[error("the master broke off the full synchronization: {0}")]
    BrokenOff(String),
    /// An answer that is not of this protocol.
    #[error("not an answer of a Redis master to {to}: {text:?}")]
    Unexpected {
        /// What was asked.
        to: &'static str,
        /// The first bytes of what came.
        text: String,
    },
    /// The bytes end in the middle: of a capture that was cut short, or of a connection that was closed.
    #[error("the bytes end before {0}")]
    Ended(&'static str),
    /// The RDB payload cannot be read.
    #[error("the RDB payload cannot be read")]
    Rdb(#[source] RdbError),
    /// The RDB payload ended at another place than the master's frame says.
    #[error("the RDB payload ends after {read} bytes, but its frame says {framed}")]
    Frame {
        /// Bytes of the payload itself.
        read: u64,
        /// Bytes that the frame holds.
        framed: u64,
    },
    /// The end mark of a diskless transfer is not where the payload ends.
    #[error("the RDB payload is not followed by its end mark")]
    EndMark,
    /// A command takes more than may be held in one piece.
    #[error(
        "the command {name:?} at offset {offset} takes {claimed} bytes or more, and {limit} may be held in one piece"
    )]
    TooLarge {
        /// Where it begins.
        offset: u64,
        /// Its name, if it had come.
        name: String,
        /// What had to be held of it, as far as it was read.
        claimed: u64,
        /// What may be held.
        limit: u64,
    },
    /// The command stream is not RESP.
    #[error("the command stream cannot be read at offset {offset}")]
    Stream {
        /// Where the damaged command begins.
        offset: u64,
        /// What is wrong.
        #[source]
        source: RespError,
    },
}

/// What to do about a failed session, apart from who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Asking again later may help.
    Later,
    /// Asking again cannot help; the operator can.
    Ask(&'static str),
}

impl ReplError {
    /// Whether the bytes themselves are damaged or cut short, so that asking another way cannot help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Ended(_)
            | Self::Rdb(_)
            | Self::Frame { .. }
            | Self::EndMark
            | Self::Stream { .. } => true,
            Self::PasswordMissing(_)
            | Self::PasswordRefused(_)
            | Self::Forbidden { .. }
            | Self::NoReplication(_)
            | Self::PsyncRefused(_)
            | Self::NotAdmitted(_)
            | Self::NotReady(_)
            | Self::Saving
            | Self::Diskless
            | Self::BrokenOff(_)
            | Self::TooLarge { .. }
            | Self::Unexpected { .. } => false,
        }
    }

    /// Whether to come again, or what the operator can do.
    #[must_use]
    pub fn remark(&self) -> Remark {
        Remark::Ask(match self {
            Self::NotReady(_) | Self::Saving => return Remark::Later,
            Self::Diskless => "CONFIG SET repl-diskless-sync no on the source, and start again",
            Self::PasswordMissing(_) => {
                "give it in UNDERSTUDY_FROM_PASSWORD, or in the URL: redis://[user]:password@host:port"
            }
            Self::PasswordRefused(_) => {
                "check the password and, from 6.0 on, the ACL user (redis://user:password@host:port)"
            }
            Self::Forbidden { .. } => {
                "let this user replicate: ACL SETUSER name +psync +sync +replconf +ping; a managed service that forbids it must be read another way"
            }
            Self::NoReplication(_) => NO_SYNC,
            Self::PsyncRefused(_) => NO_PSYNC,
            Self::NotAdmitted(_) => {
                "bind and protected-mode (or maxclients) of the master decide who may connect; see its log"
            }
            Self::BrokenOff(_) => {
                "the master could not save: see rdb_last_bgsave_status in its INFO persistence, its log and its free disk and memory, before it is asked again"
            }
            Self::Unexpected { .. } => {
                "is this the address of a Redis or Valkey server (and not TLS, HTTP, a Sentinel)?"
            }
            Self::TooLarge { .. } => {
                "raise --memory: a command of the stream may take a quarter of it; then empty the target and start again"
            }
            Self::Rdb(error) => return Remark::Ask(error.advice()),
            Self::Ended(_) => {
                "only a part of it is there: copy it again from where it was made, or make it anew"
            }
            Self::Frame { .. } | Self::EndMark | Self::Stream { .. } => {
                "the bytes were damaged on their way or the master is not one we know; nothing after this place was written"
            }
        })
    }
}

/// What to do where `PSYNC` is not to be had.
pub(crate) const NO_PSYNC: &str = "it is renamed (rename-command in the master's configuration), switched off by the provider, or the master is older than 2.8; --method auto reads it with SYNC, and then a lost link costs a new copy";

/// What to do where neither `PSYNC` nor `SYNC` is.
pub(crate) const NO_SYNC: &str = "the commands are renamed (rename-command in the master's configuration) or the provider has switched them off; only a source that allows PSYNC or SYNC can be followed";

/// The beginning of what a peer said, fit for a message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let shown = bytes.get(..LONGEST).unwrap_or(bytes);
    String::from_utf8_lossy(shown).trim_end().to_owned()
}
