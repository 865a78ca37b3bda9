//! The handshake against what masters of every version answered: also to what is refused, and to what they do not know.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use understudy::offset::{Offset, ReplId};
use understudy::repl::{
    Credentials, Event, Piece, ReplError, Request, Resume, Served, Serving, Session, Sidecar,
};

use crate::recorded::{fixture, handshakes, latin1};
use crate::sessions;

/// Questions and answers, as they were sent.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// How far a handshake came.
#[derive(Debug)]
enum Came {
    /// To the first byte of the data set, with an offset if the master told one.
    Data(Option<Offset>),
    /// To this question, to which there is no answer.
    Question(Vec<u8>),
    /// To a refusal.
    Refusal(ReplError),
}

fn pairs(recorded: &Value, scenario: &str) -> Pairs {
    let pairs = recorded[scenario].as_array().unwrap_or_else(|| panic!("no {scenario:?}"));
    pairs.iter().map(|pair| (latin1(&pair[0]), latin1(&pair[1]))).collect()
}

/// The words of a question, in whichever form it was sent.
fn words(sent: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(sent).into_owned();
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    if text.starts_with('*') {
        lines.filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect()
    } else {
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// The answer to a question: to the same one, else to one that begins with the same two words and so differs in a number only.
fn answer(pairs: &Pairs, asked: &[u8]) -> Option<Vec<u8>> {
    let same = pairs.iter().find(|(sent, _)| sent == asked);
    let alike = || {
        pairs.iter().find(|(sent, _)| words(sent).iter().take(2).eq(words(asked).iter().take(2)))
    };
    same.or_else(alike).map(|(_, reply)| reply.clone())
}

/// Lets a session ask its questions, byte for byte, of a master that answers as recorded. An answer that was cut off in the
/// recording (`...`) is given up to there.
fn meet(mut session: Session, pairs: &Pairs) -> Came {
    let mut offset = None;
    loop {
        match session.poll_event(Duration::ZERO) {
            Ok(Some(Event::FullSync { at, .. })) => {
                offset = at.map(|at| at.offset);
                continue;
            }
            Ok(Some(Event::PayloadBegins { .. })) => return Came::Data(offset),
            Ok(Some(Event::KeepAlive)) => continue,
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => {}
            Err(error) => return Came::Refusal(error),
        }
        let asked = std::mem::take(session.transmit());
        if asked.is_empty() {
            panic!("neither a question nor data: {:?}", session.exchanges());
        }
        // What an old master is asked beside, and would not tell when these answers were recorded.
        let info = || (words(&asked) == ["INFO"]).then(|| b"$9\r\n# Server\r\n\r\n".to_vec());
        let reply = answer(pairs, &asked).or_else(info);
        let Some(reply) = reply else { return Came::Question(asked) };
        for byte in reply.strip_suffix(b"...").unwrap_or(&reply) {
            session.buffer()[0] = *byte;
            session.filled(1);
        }
    }
}

fn plain() -> Session {
    Session::new(Request::default())
}

fn with_password(user: Option<&str>, password: &str) -> Session {
    let credentials = Credentials { user: user.map(str::to_owned), password: password.to_owned() };
    Session::new(Request { credentials: Some(credentials), resume: None })
}

/// Whether the server is older than PSYNC.
fn knows_sync_only(server: &str) -> bool {
    server.starts_with("redis-2.4") || server.starts_with("redis-2.6")
}

/// Runs a check for every server whose answers are at hand.
fn each_server(check: impl Fn(&str, &Value)) {
    let all = handshakes();
    assert!(all.len() >= 6, "{}", all.len());
    for (server, recorded) in &all {
        assert_eq!(recorded["server"], **server);
        check(server, recorded);
    }
}

#[test]
fn every_master_gives_its_data() {
    each_server(|server, recorded| {
        let mut answers = pairs(recorded, "capabilities");
        answers.extend(pairs(recorded, "ack outside a sync"));
        answers.extend(pairs(recorded, "psync straight away, no ping or replconf"));
        answers.extend(pairs(recorded, "sync with RESP"));
        match meet(plain(), &answers) {
            Came::Data(offset) => {
                assert_eq!(offset.is_none(), knows_sync_only(server), "{server}: {offset:?}");
            }
            other => panic!("{server}: {other:?}"),
        }
    });
}

#[test]
fn a_place_that_a_master_does_not_know_is_a_full_synchronization() {
    each_server(|server, recorded| {
        let mut answers = pairs(recorded, "psync unknown replid");
        answers.extend(pairs(recorded, "capabilities"));
        answers.extend(pairs(recorded, "sync with RESP"));
        let replid = ReplId::parse(b"0123456789abcdef0123456789abcdef01234567").unwrap();
        let resume = Some(Resume { replid, offset: Offset::new(12_344) });
        let came = meet(Session::new(Request { credentials: None, resume }), &answers);
        assert!(matches!(came, Came::Data(_)), "{server}: {came:?}");
    });
}

#[test]
fn a_password_that_is_wanted_and_not_given_is_told() {
    each_server(|server, recorded| {
        let came = meet(plain(), &pairs(recorded, "password wanted, none given"));
        assert!(matches!(came, Came::Refusal(ReplError::PasswordMissing(_))), "{server}: {came:?}");
    });
}

#[test]
fn a_wrong_password_is_told() {
    each_server(|server, recorded| {
        let answers = pairs(recorded, "password wanted, wrong one");
        let came = meet(with_password(None, "nope"), &answers);
        assert!(matches!(came, Came::Refusal(ReplError::PasswordRefused(_))), "{server}: {came:?}");
    });
}

#[test]
fn the_right_password_is_taken() {
    each_server(|server, recorded| {
        // The PING before the password is refused; the one behind it is not.
        let mut answers = pairs(recorded, "password wanted, right one");
        answers.remove(0);
        let came = meet(with_password(None, "s3cret"), &answers);
        let Came::Question(asked) = came else { panic!("{server}: {came:?}") };
        assert_eq!(words(&asked)[0], "REPLCONF", "{server}");
    });
}

#[test]
fn a_user_is_refused_where_there_are_none() {
    each_server(|server, recorded| {
        let mut answers = pairs(recorded, "password wanted, user and password");
        let taken = answers[0].1 == b"+OK\r\n";
        answers.rotate_left(1);
        let came = meet(with_password(Some("default"), "s3cret"), &answers);
        match came {
            Came::Question(_) if taken => {}
            Came::Refusal(ReplError::PasswordRefused(_)) if !taken => {}
            other => panic!("{server}: {other:?}"),
        }
        let major: u32 = server.split(['-', '.']).nth(1).unwrap().parse().unwrap();
        assert_eq!(taken, major >= 6, "{server}");
    });
}

#[test]
fn a_replica_without_its_master_is_not_ready() {
    each_server(|server, recorded| {
        let mut answers = pairs(recorded, "sync from a replica whose master is away");
        answers.extend(pairs(recorded, "capabilities"));
        answers.extend(pairs(recorded, "psync straight away, no ping or replconf"));
        let came = meet(plain(), &answers);
        assert!(matches!(came, Came::Refusal(ReplError::NotReady(_))), "{server}: {came:?}");
    });
}

/// `PSYNC ? abc`: 2.8 to 3.2 take it for nothing, 4.0 to 6.0 begin and complain behind the first line, the later ones refuse.
#[test]
fn a_complaint_behind_the_answer_is_passed_over() {
    let complaints = Cell::new(0);
    each_server(|server, recorded| {
        let (_, reply) = pairs(recorded, "psync offset not a number").remove(0);
        let mut session = Session::asked(false, None);
        let reply = reply.strip_suffix(b"...").unwrap_or(&reply);
        session.buffer()[..reply.len()].copy_from_slice(reply);
        session.filled(reply.len());
        let mut began = false;
        while let Some(event) = session.poll_event(Duration::ZERO).unwrap() {
            began |= matches!(event, Event::PayloadBegins { .. });
        }
        let asks_again = session.transmit().ends_with(b"$4\r\nSYNC\r\n");
        assert_eq!(began, reply.starts_with(b"+FULLRESYNC"), "{server}");
        assert_eq!(asks_again, !began, "{server}: what is refused as PSYNC is asked for with SYNC");
        let complains = reply.windows(6).any(|part| part == b"\r\n-ERR");
        complaints.set(complaints.get() + u32::from(began && complains));
    });
    assert!(complaints.get() > 0);
}

/// The master that a capture is played by, against the real one: the same questions, the same answers.
#[test]
fn a_played_master_answers_as_the_real_one_did() {
    let asked = Cell::new(0);
    each_server(|server, recorded| {
        let capture = fixture(if knows_sync_only(server) {
            "redis-2.4.18/live-basic"
        } else {
            "redis-7.0.15/live-basic"
        });
        let (_, layout) = sessions::survey(&capture);
        let named = Sidecar { server: Some(server.to_owned()), ..Sidecar::default() };
        let served = Served::new(&layout, Some(named.server().unwrap())).unwrap();
        for (scenario, pairs) in recorded.as_object().unwrap() {
            // It is a master, and has one capture to give.
            if !pairs.is_array() || scenario == "sync from a replica whose master is away" {
                continue;
            }
            let served = if scenario.starts_with("password wanted") {
                served.clone().with_password("s3cret".to_owned())
            } else {
                served.clone()
            };
            let mut serving = Serving::new(Arc::new(served));
            for pair in pairs.as_array().unwrap() {
                let (question, answer) = (latin1(&pair[0]), latin1(&pair[1]));
                serving.handle_input(&question, Duration::ZERO);
                let mut said = Vec::new();
                while let Some(piece) = serving.poll_transmit(Duration::ZERO) {
                    match piece {
                        Piece::Bytes(bytes) => said.extend_from_slice(&bytes),
                        Piece::Capture(range) => {
                            let range = usize::try_from(range.start).unwrap()
                                ..usize::try_from(range.end).unwrap();
                            said.extend_from_slice(&capture.bytes[range]);
                        }
                    }
                }
                asked.set(asked.get() + 1);
                let what = format!("{server}, {scenario}: {}", words(&question).join(" "));
                let kind = |answer: &[u8]| {
                    let answer = answer.trim_ascii_start();
                    let end = answer.iter().position(|byte| b" 0123456789".contains(byte));
                    String::from_utf8_lossy(&answer[..end.unwrap_or(0)]).into_owned()
                };
                if answer.ends_with(b"...") {
                    // Data: of another master, but told in the same way.
                    assert_eq!(kind(&said), kind(&answer), "{what}");
                } else if words(&question).contains(&"functions".to_owned()) {
                    // A part of the payload only: what was recorded is all of it.
                    assert!(said.starts_with(b"-ERR Unrecognized REPLCONF option"), "{what}");
                } else {
                    assert_eq!(
                        String::from_utf8_lossy(&said),
                        String::from_utf8_lossy(&answer),
                        "{what}"
                    );
                }
            }
        }
    });
    assert!(asked.get() > 200, "{}", asked.get());
}

/// Each answer to each question, at each state of a session and cut at each byte: told the same way, and nothing breaks.
#[test]
fn no_answer_of_any_master_is_taken_otherwise_for_its_cuts() {
    each_server(|server, recorded| {
        for (scenario, pairs) in recorded.as_object().unwrap() {
            let Some(pairs) = pairs.as_array() else { continue };
            for (number, pair) in pairs.iter().enumerate() {
                let reply = latin1(&pair[1]);
                let reply = reply.strip_suffix(b"...").unwrap_or(&reply);
                for state in 0..5 {
                    let whole = told(state, &[reply]);
                    for cut in 1..reply.len() {
                        let (first, second) = reply.split_at(cut);
                        let cut = told(state, &[first, second]);
                        assert_eq!(cut, whole, "{server}, {scenario} {number}, state {state}");
                    }
                }
            }
        }
    });
}

/// What a session in one of five states tells of an answer that comes in these parts.
fn told(state: u8, parts: &[&[u8]]) -> (Vec<String>, Option<String>, Vec<u8>) {
    let replid = ReplId::parse(&[b'a'; 40]).unwrap();
    let resume = Some(Resume { replid, offset: Offset::new(7) });
    let mut session = match state {
        0 => plain(),
        1 => with_password(None, "x"),
        2 => Session::asked(false, None),
        3 => Session::asked(false, resume),
        _ => Session::asked(true, None),
    };
    let (mut events, mut fault) = (Vec::new(), None);
    for part in parts {
        session.buffer()[..part.len()].copy_from_slice(part);
        session.filled(part.len());
        loop {
            match session.poll_event(Duration::ZERO) {
                Ok(None) => break,
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Err(error) => {
                    fault = Some(error.to_string());
                    return (events, fault, std::mem::take(session.transmit()));
                }
            }
        }
    }
    (events, fault, std::mem::take(session.transmit()))
}
