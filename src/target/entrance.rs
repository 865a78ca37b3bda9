//! How a target is come to: who answers there, what it holds of the job, and how the job is taken over.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::key::Db;
use crate::net::{Clock, Link, Net, info_field};
use crate::plan::ServerPlace;
use crate::position::fence;
use crate::repl::Credentials;
use crate::resp::{Reply, ReplyReader, command};

use super::judge;
use super::standalone::TargetError;

/// The process that a target is: what it has confirmed is in this one, and no other one need hold it. Empty if it does not tell
/// (`run_id` in its `INFO server`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunId(pub String);

/// A connection to a target before anything is sent over it, and what was found there.
#[derive(Debug)]
pub struct Entrance {
    pub(super) link: Link,
    /// The process that answers.
    pub run_id: RunId,
    /// What stands under the record's name.
    pub stored: Option<Vec<u8>>,
    /// The time of the target's clock, in Unix milliseconds.
    pub now_ms: i64,
    pub(super) clock: Clock,
    pub(super) patience: Duration,
    /// What the connection is called: up to the last `:` as all others of the same job and source, up to the first `-` as those of the same
    /// process.
    name: String,
}

/// Whose connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of this process.
    Own,
    /// Those of all processes.
    All,
}

impl Entrance {
    /// Appends a fence with this token to the record that stands there: no other process commits anything behind it, however busy it is, nor
    /// does what one that is gone has sent and the target has not read yet. Then sees what stands there, which nobody changes any more
    /// but one who takes the job over as well.
    ///
    /// # Errors
    /// If the target does not let us write now, or the connection is lost.
    pub async fn fence(&mut self, key: &[u8], owner: &str) -> Result<(), TargetError> {
        let link = &mut self.link;
        let opened = ask(link, &[b"MULTI"]).await?;
        if opened != "OK" {
            return Err(refused(opened));
        }
        let queued = ask(link, &[b"APPEND", key, &fence(owner)]).await?;
        ask(link, &[b"GET", key]).await?;
        let (mut stored, mut text, mut left) = (None, None, 1);
        converse(link, &[b"EXEC"], |reply| {
            match reply {
                Reply::Array(2) => left = 3,
                Reply::Int(_) => {}
                Reply::Bulk(bytes) => stored = Some(bytes.to_vec()),
                other => text = text.take().or_else(|| Some(judge::text(other))),
            }
            left -= 1;
            left == 0
        })
        .await?;
        match (stored, text) {
            (Some(stored), None) => self.stored = Some(stored),
            // OOM, say: the reason stands in what APPEND was answered.
            _ if queued != "QUEUED" => return Err(refused(queued)),
            (_, text) => return Err(refused(text.unwrap_or_default())),
        }
        Ok(())
    }

    /// Closes earlier connections of the same job and source: what is still on its way over one of them shall not come behind what is
    /// sent over this one. Those of other processes are closed by who has taken the job over, and by nobody before.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn evict(&mut self, whose: Whose) -> Result<(), TargetError> {
        let list = ask(&mut self.link, &[b"CLIENT", b"LIST"]).await?;
        let ours = match whose {
            Whose::Own => self.name.split_inclusive('-').next(),
            Whose::All => self.name.rsplit_once(':').map(|(job, _)| job),
        };
        let ours = ours.unwrap_or_default();
        for line in list.lines() {
            let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
            let (Some(name), Some(address)) = (field("name="), field("addr=")) else { continue };
            if name != self.name && name.starts_with(ours) {
                let answer = ask(&mut self.link, &[b"CLIENT", b"KILL", address.as_bytes()]).await?;
                debug!(name, address, answer, "an earlier connection is closed");
            }
        }
        if list.starts_with("NOPERM") {
            warn!(
                answer = list,
                "whether an earlier connection of this job is still there cannot be seen"
            );
        }
        Ok(())
    }
}

/// Where a record stands: its database and its key.
pub type RecordAt<'a> = (Db, &'a [u8]);

/// Connects, says who we are, and sees what is there and that transactions are.
pub(super) async fn enter(
    net: &Net,
    place: &ServerPlace,
    (db, key): RecordAt<'_>,
    name: &str,
) -> Result<Entrance, TargetError> {
    let mut link = net.connect(place).await?;
    if let Some(Credentials { user, password }) = &place.credentials {
        let answer = match user {
            Some(user) => ask(&mut link, &[b"AUTH", user.as_bytes(), password.as_bytes()]).await?,
            None => ask(&mut link, &[b"AUTH", password.as_bytes()]).await?,
        };
        if answer != "OK"
            && !answer.contains("no password is set")
            && !answer.contains("without any password")
        {
            return Err(TargetError::Password(answer));
        }
    }
    let answer = ask(&mut link, &[b"MULTI"]).await?;
    if answer.starts_with("NOAUTH") || answer.contains("operation not permitted") {
        return Err(TargetError::Password(answer));
    }
    if answer.starts_with("NOPERM") {
        return Err(TargetError::Forbidden(answer));
    }
    if judge::passes(answer.as_bytes()) {
        return Err(TargetError::NotReady(answer));
    }
    // Without MULTI the commands behind it would run one by one, and unguarded.
    if answer != "OK" {
        return Err(TargetError::NoTransactions(answer));
    }
    ask(&mut link, &[b"DISCARD"]).await?;
    // So that who takes over finds it. A server that forbids it lets nobody look for it either.
    ask(&mut link, &[b"CLIENT", b"SETNAME", name.as_bytes()]).await?;
    let info = ask(&mut link, &[b"INFO", b"server"]).await?;
    let run_id = RunId(info_field(&info, "run_id").unwrap_or_default().to_owned());
    let now_ms = time(&mut link).await?;
    let digits = db.index().to_string();
    let selected = ask(&mut link, &[b"SELECT", digits.as_bytes()]).await?;
    if selected != "OK" {
        return Err(refused(selected));
    }
    let stored = match ask_raw(&mut link, &[b"GET", key]).await? {
        Answer::Bulk(bytes) => Some(bytes),
        Answer::Nil => None,
        Answer::Text(text) => return Err(refused(text)),
    };
    let (clock, patience, name) = (net.clock(), net.patience(), name.to_owned());
    Ok(Entrance { link, run_id, stored, now_ms, clock, patience, name })
}

/// What a target says that does not let us look.
fn refused(text: String) -> TargetError {
    if text.starts_with("NOPERM") {
        TargetError::Forbidden(text)
    } else {
        TargetError::NotReady(text)
    }
}

/// The target's time of day, in Unix milliseconds.
async fn time(link: &mut Link) -> Result<i64, TargetError> {
    let mut told = Vec::new();
    converse(link, &[b"TIME"], |reply| {
        match reply {
            Reply::Bulk(bytes) => {
                told.push(
                    std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<i64>().ok()),
                );
            }
            Reply::Array(2) => return false,
            other => return !matches!(other, Reply::Array(_)),
        }
        told.len() == 2
    })
    .await?;
    match told.as_slice() {
        [Some(seconds), Some(micros)] => Ok(seconds * 1000 + micros / 1000),
        _ => Err(TargetError::NotReady("TIME is not answered".to_owned())),
    }
}

/// Writes a record where this one was found.
pub(super) async fn claim(
    entrance: &mut Entrance,
    key: &[u8],
    bytes: &[u8],
) -> Result<(), TargetError> {
    let link = &mut entrance.link;
    ask(link, &[b"WATCH", key]).await?;
    let now = match ask_raw(link, &[b"GET", key]).await? {
        Answer::Bulk(bytes) => Some(bytes),
        Answer::Nil => None,
        Answer::Text(text) => return Err(refused(text)),
    };
    if now != entrance.stored {
        return Err(TargetError::Overtaken);
    }
    let opened = ask(link, &[b"MULTI"]).await?;
    if opened != "OK" {
        return Err(refused(opened));
    }
    let queued = ask(link, &[b"SET", key, bytes]).await?;
    let mut done = false;
    let mut text = queued.clone();
    converse(link, &[b"EXEC"], |reply| {
        match reply {
            Reply::Array(1) => return false,
            Reply::Simple(b"OK") => done = true,
            other => text = judge::text(other),
        }
        true
    })
    .await?;
    match done {
        true => Ok(()),
        false if text == "(nil)" => Err(TargetError::Overtaken),
        // OOM, say: the reason stands in what SET was answered.
        false if queued != "QUEUED" => Err(refused(queued)),
        false => Err(refused(text)),
    }
}

/// A reply that may be a value.
enum Answer {
    Bulk(Vec<u8>),
    Nil,
    Text(String),
}

/// One question before the stream of data begins, and the text of its answer.
async fn ask(link: &mut Link, args: &[&[u8]]) -> Result<String, TargetError> {
    Ok(match ask_raw(link, args).await? {
        Answer::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Answer::Nil => "(nil)".to_owned(),
        Answer::Text(text) => text,
    })
}

/// The same, of which the answer is a value.
async fn ask_raw(link: &mut Link, args: &[&[u8]]) -> Result<Answer, TargetError> {
    let mut answer = Answer::Nil;
    converse(link, args, |reply| {
        answer = match reply {
            Reply::Bulk(bytes) => Answer::Bulk(bytes.to_vec()),
            Reply::Nil => Answer::Nil,
            other => Answer::Text(judge::text(other)),
        };
        true
    })
    .await?;
    Ok(answer)
}

/// Sends a command and shows each part of its reply until one is the last.
async fn converse(
    link: &mut Link,
    args: &[&[u8]],
    is_last: impl FnMut(Reply<'_>) -> bool,
) -> Result<(), TargetError> {
    let answered = timeout(ANSWER, talk(link, args, is_last)).await;
    answered.unwrap_or(Err(TargetError::Silent(ANSWER)))
}

/// How long a question before the stream of data may take. One that is asked in vain is asked again over a new connection.
const ANSWER: Duration = Duration::from_secs(30);

async fn talk(
    link: &mut Link,
    args: &[&[u8]],
    mut is_last: impl FnMut(Reply<'_>) -> bool,
) -> Result<(), TargetError> {
    let mut out = Vec::new();
    command(&mut out, args);
    link.write_all(&out).await.map_err(TargetError::Lost)?;
    link.flush().await.map_err(TargetError::Lost)?;
    let (mut input, mut reader) = (BytesMut::new(), ReplyReader::default());
    loop {
        while let Some((reply, used)) = reader.read(&input)? {
            let last = is_last(reply);
            input.advance(used);
            if last {
                return Ok(());
            }
        }
        if link.read_buf(&mut input).await.map_err(TargetError::Lost)? == 0 {
            return Err(TargetError::Closed);
        }
    }
}
