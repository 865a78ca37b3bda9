//! The control plane: questions to a server beside the stream of data.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};
use tokio::task::JoinHandle;

use crate::plan::{ServerPlace, Side};

use super::greet::greet;
use super::{Link, LinkError, Net};

/// The answer to one of several questions, or the server's words if it is an error.
pub type Reply = Result<Value, String>;

/// A connection for questions.
#[derive(Debug)]
pub struct Control {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server asks for a password, and none was given.
    #[error("it asks for a password: {0}")]
    PasswordMissing(String),
    /// The password, or the ACL user, was refused.
    #[error("it refuses the password: {0}")]
    PasswordRefused(String),
    /// It is in protected mode.
    #[error("it lets no one in from here: {0}")]
    Protected(String),
    /// It serves as many clients as it may.
    #[error("it has no room for one more client: {0}")]
    Full(String),
    /// What answers is no Redis.
    #[error("{0}")]
    Foreign(Foreign),
    /// It closed the connection in place of an answer.
    #[error("it closed the connection without a word")]
    Closed,
    /// The connection was made, and nothing came.
    #[error("it accepts connections and says nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    /// It is written to so fast that its offset never stood still between two answers.
    #[error("it is written to so fast that its offset never stood still")]
    Unsettled,
    /// The server answered with an error.
    #[error("{question}: {text}")]
    Refused {
        /// What was asked.
        question: &'static str,
        /// What was said.
        text: String,
    },
}

impl ControlError {
    /// What it means that the server answered a question with this error.
    pub(crate) fn answered(question: &'static str, text: String) -> Self {
        // A server may be given a password while we are connected.
        if text.starts_with("NOAUTH") || text.contains("operation not permitted") {
            return Self::PasswordMissing(text);
        }
        Self::Refused { question, text }
    }

    /// Whether the server has answered, so that asking again brings nothing new.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::PasswordMissing(_) | Self::PasswordRefused(_))
    }

    /// What the operator can do, if the server is on this side.
    #[must_use]
    pub fn advice(&self, side: Side) -> String {
        let (place, variable) = (side.place(), side.password_variable());
        match self {
            Self::Link(error) => error.advice(side),
            Self::PasswordMissing(_) => format!(
                "give it in {variable}, or in the URL: redis://[user]:password@host:port"
            ),
            Self::PasswordRefused(_) => format!(
                "check {variable} or the URL; for an ACL user (6.0 and later) the URL names it: redis://user:password@host:port"
            ),
            Self::Protected(_) => {
                "the server has neither a password nor a bind address and then serves its own machine only: set requirepass, or bind, in its configuration".to_owned()
            }
            Self::Full(_) => "raise maxclients on the server, or close some of its clients (CLIENT LIST)".to_owned(),
            Self::Foreign(Foreign::Tls) | Self::Closed => format!(
                "if this port speaks TLS write rediss:// in {place}; else see the server's log"
            ),
            Self::Foreign(Foreign::Http | Foreign::Other(_)) | Self::Silent(_) => {
                format!("give the host and the port of a Redis or Valkey server in {place}")
            }
            Self::Lost(_) => "see the server's log, and what stands between (a proxy, a firewall)".to_owned(),
            Self::Refused { text, .. } if text.starts_with("NOPERM") => {
                "let this ACL user run the command".to_owned()
            }
            Self::Unsettled => "try again when less is written to it".to_owned(),
            Self::Refused { .. } => "see the server's log".to_owned(),
        }
    }
}

/// What answers in place of a Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Foreign {
    /// A web server.
    #[error("this is an HTTP server")]
    Http,
    /// A server that speaks TLS and was spoken to in plain.
    #[error("this port speaks TLS")]
    Tls,
    /// Something else; the beginning of what it said.
    #[error("this is no Redis: it says {0:?}")]
    Other(String),
}

/// A connection over which the server has let us in, for whoever speaks to it byte by byte.
///
/// # Errors
/// If the server cannot be reached or refuses the password.
pub async fn greeted(net: &Net, place: &ServerPlace) -> Result<Link, ControlError> {
    let mut link = net.connect(place).await?;
    greet(&mut link, place.credentials.as_ref()).await?;
    Ok(link)
}

/// How long an answer may take. A server that loads a key of gigabytes, or runs a script, is silent for seconds.
const PATIENCE: Duration = Duration::from_secs(60);

impl Control {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the password.
    pub async fn open(net: &Net, place: &ServerPlace) -> Result<Self, ControlError> {
        let link = greeted(net, place).await?;
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let opened = MultiplexedConnection::new_with_config(&info, link, config).await;
        let (connection, driver) = opened.map_err(|error| refused("connect", &error))?;
        Ok(Self { connection, driver: tokio::spawn(driver) })
    }

    /// Asks one question.
    ///
    /// # Errors
    /// If the answer is an error or of another type.
    pub async fn ask<T: FromRedisValue>(
        &mut self,
        question: &'static str,
        args: &[&[u8]],
    ) -> Result<T, ControlError> {
        let mut words = question.split(' ');
        let mut cmd = Cmd::new();
        words.by_ref().for_each(|word| {
            cmd.arg(word);
        });
        for arg in args {
            cmd.arg(*arg);
        }
        cmd.query_async(&mut self.connection).await.map_err(|error| refused(question, &error))
    }

    /// Asks several questions in one write.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn pipe<T: FromRedisValue>(
        &mut self,
        question: &'static str,
        pipe: &Pipeline,
    ) -> Result<T, ControlError> {
        pipe.query_async(&mut self.connection).await.map_err(|error| refused(question, &error))
    }

    /// Asks several questions in one write and tells every answer by itself: one that is an error, in the server's words.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn each(
        &mut self,
        question: &'static str,
        mut pipe: Pipeline,
    ) -> Result<Vec<Reply>, ControlError> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        pipe.ignore_errors();
        let replies: Vec<RedisResult<Value>> = self.pipe(question, &pipe).await?;
        Ok(replies.into_iter().map(|reply| reply.map_err(|error| said(&error))).collect())
    }

    /// The keys of a command, as the server knows it: by `COMMAND GETKEYS`, and where that is not to be had (before 3.0) by their places in
    /// `COMMAND INFO`. None of a command that has none.
    ///
    /// # Errors
    /// If the server does not know the command or does not tell.
    pub async fn keys_of(&mut self, args: &[&[u8]]) -> Result<Vec<Vec<u8>>, ControlError> {
        let refusal = match self.ask("COMMAND GETKEYS", args).await {
            Err(refusal @ ControlError::Refused { .. }) => refusal,
            told => return told,
        };
        let name = args.first().copied().unwrap_or_default();
        match self.ask::<Value>("COMMAND INFO", &[name]).await.map(|told| places(&told)) {
            Ok(Some((first, last, step))) => {
                let count = i64::try_from(args.len()).unwrap_or(i64::MAX);
                let last = if last < 0 { count + last } else { last };
                let at = (first..=last.min(count - 1)).step_by(step);
                let keys = at.filter_map(|at| args.get(usize::try_from(at).ok()?));
                Ok(keys.map(|key| key.to_vec()).collect())
            }
            Err(error) if !error.is_answer() => Err(error),
            _ => Err(refusal),
        }
    }

    /// A section of `INFO`.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn info(&mut self, section: &str) -> Result<String, ControlError> {
        self.ask("INFO", &[section.as_bytes()]).await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where the keys of a command are, as `COMMAND INFO` tells it: the first, the last, and how far apart. `None` if they are elsewhere for each
/// call, or it has none.
fn places(told: &Value) -> Option<(i64, i64, usize)> {
    let Value::Array(commands) = told else { return None };
    let Some(Value::Array(about)) = commands.first() else { return None };
    let number = |at: usize| match about.get(at) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    };
    if let Some(Value::Array(flags)) = about.get(2)
        && flags
            .iter()
            .any(|flag| matches!(flag, Value::SimpleString(text) if text == "movablekeys"))
    {
        return None;
    }
    let (first, last, step) = (number(3)?, number(4)?, usize::try_from(number(5)?).ok()?);
    (first > 0 && step > 0).then_some((first, last, step))
}

fn refused(question: &'static str, error: &RedisError) -> ControlError {
    let text = said(error);
    // An answer that breaks off cannot be read either.
    let broke_off = error.kind() == ErrorKind::Parse;
    if broke_off || error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
        return ControlError::Lost(io::Error::other(text));
    }
    ControlError::answered(question, text)
}

/// The server's own words, with their code.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}

/// The value of a field in the text that `INFO` answers.
#[must_use]
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
