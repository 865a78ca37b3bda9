//! The control plane: questions to a server beside the stream of data.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError,
};
use tokio::task::JoinHandle;

use crate::plan::ServerPlace;
use crate::repl::Credentials;

use super::link::{LinkError, connect};

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
    /// The password, or the ACL user, was refused, or one is asked for.
    #[error("the server asks for another password: {0}")]
    Password(String),
    /// The server answered with an error, or not at all.
    #[error("{question}: {text}")]
    Refused {
        /// What was asked.
        question: &'static str,
        /// What was said.
        text: String,
    },
}

/// How long an answer may take. A server that loads a key of gigabytes, or runs a script, is silent for seconds.
const PATIENCE: Duration = Duration::from_secs(60);

impl Control {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the password.
    pub async fn open(place: &ServerPlace) -> Result<Self, ControlError> {
        let link = connect(place).await?;
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(Credentials { user, password }) = &place.credentials {
            info = info.set_password(password);
            if let Some(user) = user {
                info = info.set_username(user);
            }
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let opened = MultiplexedConnection::new_with_config(&info, link, config).await;
        let (connection, driver) = opened.map_err(|error| ControlError::Password(said(&error)))?;
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

fn refused(question: &'static str, error: &RedisError) -> ControlError {
    let text = said(error);
    if text.contains("NOAUTH") || text.contains("operation not permitted") {
        return ControlError::Password(text);
    }
    ControlError::Refused { question, text }
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
