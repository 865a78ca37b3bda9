//! A connection on which what is said, and when, is ours to decide: some questions are safe in one state of it only.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::net::{ControlError, Link, Net, greeted};
use crate::plan::ServerPlace;
use crate::resp::{Reply, ReplyReader, command};

/// An open connection.
pub(super) struct Raw {
    pub(super) link: Link,
    input: BytesMut,
    /// How many bytes the last answer had.
    pub(super) answered: usize,
}

/// How a question was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// With an error.
    Error(String),
    /// With so many elements; 1 if it is no array.
    Value(usize),
}

impl Raw {
    /// Connects, and says who we are.
    pub(super) async fn open(net: &Net, place: &ServerPlace) -> Result<Self, ControlError> {
        Ok(Self { link: greeted(net, place).await?, input: BytesMut::new(), answered: 0 })
    }

    /// Asks, and waits for the whole answer. `None` if the connection is lost, or what comes is no answer.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Option<Answer> {
        timeout(Net::PATIENCE, self.asked(words)).await.ok().flatten()
    }

    async fn asked(&mut self, words: &[&[u8]]) -> Option<Answer> {
        let mut out = Vec::new();
        command(&mut out, words);
        self.link.write_all(&out).await.ok()?;
        self.link.flush().await.ok()?;
        let mut reader = ReplyReader::default();
        let (mut first, mut left) = (None, 1);
        self.answered = 0;
        while left > 0 {
            match reader.read(&self.input).ok()? {
                Some((reply, used)) => {
                    left -= 1;
                    let answer = match reply {
                        Reply::Error(text) => {
                            Answer::Error(String::from_utf8_lossy(text).into_owned())
                        }
                        Reply::Array(elements) => {
                            left += elements;
                            Answer::Value(elements)
                        }
                        _ => Answer::Value(1),
                    };
                    first.get_or_insert(answer);
                    self.input.advance(used);
                    self.answered += used;
                    reader = ReplyReader::default();
                }
                None => {
                    if self.link.read_buf(&mut self.input).await.ok()? == 0 {
                        return None;
                    }
                }
            }
        }
        first
    }
}
