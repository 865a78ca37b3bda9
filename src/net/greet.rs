//! The first words with a server: who we are, and whether it is a Redis at all. What comes in place of an answer is told
//! apart here, where the bytes are still at hand.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::repl::Credentials;
use crate::resp::Reply;
use crate::resp::ReplyReader;
use crate::resp::command;

use super::control::ControlError;
use super::control::Foreign;
use super::link::Link;
use super::link::LinkError;
use super::tls;

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says who we are and `PING`.
///
/// # Errors
/// If the server does not let us in, or is none. An ACL without `+ping` and a server that loads its data are no hindrance.
pub(super) async fn greet(link: &mut Link, who: Option<&Credentials>) -> Result<(), ControlError> {
    greet_within(PATIENCE, link, who).await
}

async fn greet_within(
    patience: Duration,
    link: &mut Link,
    who: Option<&Credentials>,
) -> Result<(), ControlError> {
    let greeting = async {
        match who {
            Some(Credentials { user: Some(user), password }) => {
                auth(link, &[b"AUTH", user.as_bytes(), password.as_bytes()]).await?;
            }
            Some(Credentials { user: None, password }) => {
                auth(link, &[b"AUTH", password.as_bytes()]).await?;
            }
            None => {}
        }
        match ask(link, &[b"PING"]).await? {
            Ok(()) => Ok(()),
            Err(text) => closed_door(text).map_or(Ok(()), Err),
        }
    };
    timeout(patience, greeting).await.unwrap_or(Err(ControlError::Silent(patience)))
}

async fn auth(link: &mut Link, args: &[&[u8]]) -> Result<(), ControlError> {
    let Err(text) = ask(link, args).await? else { return Ok(()) };
    // A server that has no password says so when it is given one. That is no harm.
    if text.contains("no password is set") || text.contains("without any password") {
        return Ok(());
    }
    Err(match closed_door(text) {
        None => ControlError::PasswordRefused("it gives no reason".to_owned()),
        // Of AUTH itself this means that the password is wrong.
        Some(ControlError::Refused { text, .. } | ControlError::PasswordMissing(text)) => {
            ControlError::PasswordRefused(text)
        }
        Some(other) => other,
    })
}

/// What an error says about our being let in; `None` if it says nothing about that.
fn closed_door(text: String) -> Option<ControlError> {
    // One that cannot save does not even answer PING.
    const HARMLESS: [&str; 4] = ["LOADING", "MASTERDOWN", "NOPERM", "MISCONF"];
    if HARMLESS.iter().any(|code| text.starts_with(code)) && !text.contains("auth") {
        return None;
    }
    Some(if text.starts_with("DENIED") {
        // The whole text has a page of advice, for the owner of the server.
        let first = text.split(['.', ',']).next().unwrap_or_default();
        ControlError::Protected(first.to_owned())
    } else if text.contains("max number of clients") {
        ControlError::Full(text)
    } else if text.starts_with("NOAUTH") || text.contains("operation not permitted") {
        ControlError::PasswordMissing(text)
    } else {
        ControlError::Refused { question: "PING", text }
    })
}

/// Asks one question. Gives the text of an error.
async fn ask(link: &mut Link, args: &[&[u8]]) -> Result<Result<(), String>, ControlError> {
    let mut out = Vec::new();
    command(&mut out, args);
    // A server that has closed its door has said why; what it said can still be read.
    let sent = async {
        link.write_all(&out).await?;
        link.flush().await
    };
    let sent = sent.await;
    let (mut input, mut reader) = (BytesMut::new(), ReplyReader::default());
    loop {
        match link.read_buf(&mut input).await {
            Ok(0) if input.is_empty() => return Err(ControlError::Closed),
            Ok(0) => return Err(ControlError::Foreign(foreign(&input))),
            Ok(_) => {}
            Err(error) if input.is_empty() => return Err(lost(sent.err().unwrap_or(error))),
            Err(_) => return Err(ControlError::Foreign(foreign(&input))),
        }
        if !matches!(input.first(), Some(b'+' | b'-')) || input.len() > LONGEST_ANSWER {
            return Err(ControlError::Foreign(foreign(&input)));
        }
        match reader.read(&input) {
            Ok(None) => {}
            Ok(Some((Reply::Error(text), _))) => {
                return Ok(Err(String::from_utf8_lossy(text).into_owned()));
            }
            Ok(Some(_)) => return Ok(Ok(())),
            Err(_) => return Err(ControlError::Foreign(foreign(&input))),
        }
    }
}

/// No server says more than this in place of `+OK`.
const LONGEST_ANSWER: usize = 64 * 1024;

fn lost(error: io::Error) -> ControlError {
    if let Some(error) = tls::explained(&error) {
        return ControlError::Link(LinkError::Tls(error));
    }
    #[cfg(feature = "ssh")]
    if let Some(error) = super::tunnel::explained(&error) {
        return ControlError::Link(error);
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => ControlError::Closed,
        _ => ControlError::Lost(error),
    }
}

/// What it is that has said this.
fn foreign(said: &[u8]) -> Foreign {
    // A TLS alert: the type of the record, then the major version.
    if said.starts_with(&[0x15, 0x03]) {
        return Foreign::Tls;
    }
    if said.starts_with(b"HTTP/") {
        return Foreign::Http;
    }
    const SHOWN: usize = 60;
    let line = said.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let shown = line.get(..SHOWN).unwrap_or(line);
    Foreign::Other(String::from_utf8_lossy(shown).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::io::duplex;

    use super::*;

    /// Greets a peer that answers each of our questions with the next of these.
    async fn greeted(password: Option<&str>, answers: &[&[u8]]) -> Result<(), ControlError> {
        let (ours, mut theirs): (DuplexStream, DuplexStream) = duplex(1 << 16);
        let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_vec()).collect();
        let peer = tokio::spawn(async move {
            let mut room = [0; 1024];
            for answer in answers {
                let _ = theirs.read(&mut room).await;
                theirs.write_all(&answer).await.unwrap();
            }
        });
        let who = password.map(|password| Credentials { user: None, password: password.into() });
        let greeted = greet(&mut Link::Other(Box::new(ours)), who.as_ref()).await;
        peer.await.unwrap();
        greeted
    }

    async fn refusal(password: Option<&str>, answers: &[&[u8]]) -> String {
        greeted(password, answers).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn who_may_come_in() {
        assert!(greeted(None, &[b"+PONG\r\n"]).await.is_ok());
        assert!(greeted(None, &[b"-MISCONF Redis is configured to save\r\n"]).await.is_ok());
        assert!(greeted(None, &[b"-LOADING Redis is loading\r\n"]).await.is_ok());
        assert!(greeted(None, &[b"-NOPERM this user has no permissions\r\n"]).await.is_ok());
        assert!(greeted(None, &[b"-MASTERDOWN Link with MASTER is down\r\n"]).await.is_ok());
        assert!(greeted(Some("x"), &[b"+OK\r\n", b"+PONG\r\n"]).await.is_ok());
        let none_set = b"-ERR Client sent AUTH, but no password is set\r\n";
        assert!(greeted(Some("x"), &[none_set, b"+PONG\r\n"]).await.is_ok());
    }

    #[tokio::test]
    async fn who_may_not() {
        assert_eq!(
            refusal(None, &[b"-NOAUTH Authentication required.\r\n"]).await,
            "it asks for a password: NOAUTH Authentication required."
        );
        assert_eq!(
            refusal(None, &[b"-ERR operation not permitted\r\n"]).await,
            "it asks for a password: ERR operation not permitted"
        );
        for wrong in ["ERR invalid password", "WRONGPASS invalid username-password pair"] {
            let answer = format!("-{wrong}\r\n");
            assert_eq!(
                refusal(Some("x"), &[answer.as_bytes()]).await,
                format!("it refuses the password: {wrong}")
            );
        }
        assert_eq!(
            refusal(Some("x"), &[b"-ERR max number of clients reached\r\n"]).await,
            "it has no room for one more client: ERR max number of clients reached"
        );
        let denied =
            b"-DENIED Redis is running in protected mode because it is, and a page more.\r\n";
        assert_eq!(
            refusal(None, &[denied]).await,
            "it lets no one in from here: DENIED Redis is running in protected mode because it is"
        );
    }

    #[tokio::test]
    async fn what_is_no_redis() {
        assert_eq!(
            refusal(None, &[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await,
            "this is an HTTP server"
        );
        assert_eq!(refusal(None, &[&[0x15, 3, 1, 0, 2, 2, 70]]).await, "this port speaks TLS");
        assert_eq!(
            refusal(None, &[b"SSH-2.0-OpenSSH_9.2\r\n"]).await,
            "this is no Redis: it says \"SSH-2.0-OpenSSH_9.2\""
        );
        assert_eq!(refusal(None, &[b""]).await, "it closed the connection without a word");
    }

    #[tokio::test]
    async fn silence_has_an_end() {
        let (ours, theirs) = duplex(1 << 16);
        let mut link = Link::Other(Box::new(ours));
        let error = greet_within(Duration::from_millis(1), &mut link, None).await.unwrap_err();
        drop(theirs);
        assert!(matches!(error, ControlError::Silent(_)), "{error}");
    }
}
