//! Both sides of the replication protocol.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::offset::{Offset, ReplId};
use crate::repl::{
    Credentials, Event, Layout, Part, Piece, Request, Resume, Served, Serving, Session,
};
use crate::server::{Flavour, Server, Version};

/// All that a session told and asked, and where it came to.
#[derive(Debug, PartialEq)]
struct Told {
    events: Vec<String>,
    fault: Option<String>,
    asked: Vec<u8>,
    offset: Offset,
    position: u64,
    left_over: usize,
    unfinished: Option<String>,
}

/// A session in one of the states that bytes can meet it in.
fn session(state: u8) -> Session {
    let resume = ReplId::parse(&[b'a'; 40]).map(|replid| Resume { replid, offset: Offset::new(7) });
    match state % 6 {
        0 => Session::new(Request::default()),
        1 => {
            let credentials = Credentials { user: None, password: "secret".to_owned() };
            Session::new(Request { credentials: Some(credentials), resume: None })
        }
        2 => Session::new(Request { credentials: None, resume }),
        3 => Session::asked(true, None),
        4 => Session::asked(false, None),
        _ => Session::asked(false, resume),
    }
}

fn told(mut session: Session, input: &[u8], cuts: &[u16]) -> Told {
    let (mut events, mut fault) = (Vec::new(), None);
    let mut rest = input;
    let mut sizes = cuts.iter().cycle();
    'input: loop {
        loop {
            match session.poll_event(Duration::ZERO) {
                Ok(Some(Event::Command(command))) => {
                    events.push(format!(
                        "{:?} to {}",
                        command.args().collect::<Vec<_>>(),
                        command.end
                    ));
                }
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    fault = Some(format!("{error:?}"));
                    break 'input;
                }
            }
        }
        if rest.is_empty() {
            break;
        }
        let size = sizes.next().map_or(rest.len(), |&size| usize::from(size).max(1));
        let room = session.buffer();
        let size = size.min(rest.len()).min(room.len());
        let (piece, behind) = rest.split_at(size);
        if let Some(room) = room.get_mut(..size) {
            room.copy_from_slice(piece);
        }
        session.filled(size);
        rest = behind;
    }
    let unread = if fault.is_some() { 0 } else { session.left_over() };
    Told {
        events,
        asked: std::mem::take(session.transmit()),
        offset: session.offset(),
        position: session.position(),
        left_over: unread,
        unfinished: session.unfinished().map(|error| error.to_string()),
        fault,
    }
}

/// What a master says means the same however it is cut into reads: the same events, questions, offsets and errors, and what
/// is left over is what was not taken.
///
/// # Panics
/// If it does not.
pub fn a_session_tells_the_same_at_any_cut(input: &[u8], cuts: &[u16], state: u8) {
    let whole = told(session(state), input, &[]);
    assert_eq!(told(session(state), input, cuts), whole);
    if whole.fault.is_none() {
        assert_eq!(whole.position + whole.left_over as u64, input.len() as u64);
    }
}

/// A played master with a few bytes of each part of a capture.
fn served(with_mark: bool, version: Version) -> Option<Served> {
    let rdb = b"REDIS0006\xff\0\0\0\0\0\0\0\0";
    let mark = [b'm'; 40];
    let mut capture = b"\n+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 100\r\n\n".to_vec();
    if with_mark {
        capture.extend_from_slice(&[&b"$EOF:"[..], &mark, b"\r\n", rdb, &mark].concat());
    } else {
        capture.extend_from_slice(&[&b"$18\r\n"[..], rdb].concat());
    }
    capture.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let (mut session, mut layout) = (Session::asked(false, None), Layout::default());
    session.buffer().get_mut(..capture.len())?.copy_from_slice(&capture);
    session.filled(capture.len());
    while let Ok(Some(event)) = session.poll_event(Duration::ZERO) {
        let part = Part::of(&event);
        layout.add(part, session.position());
    }
    Served::new(&layout, Some(Server { flavour: Flavour::Redis, version }))
}

/// All that a played master has to send to who says this, each piece of the capture as its range.
fn said(served: &Arc<Served>, input: &[u8], cuts: &[u16]) -> (Vec<u8>, Vec<Range<u64>>, bool) {
    let mut serving = Serving::new(Arc::clone(served));
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    let mut rest = input;
    let mut sizes = cuts.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |&size| usize::from(size).max(1));
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        serving.handle_input(piece, Duration::ZERO);
        rest = behind;
        while let Some(piece) = serving.poll_transmit(Duration::ZERO) {
            match piece {
                Piece::Bytes(more) => bytes.extend_from_slice(&more),
                Piece::Capture(range) => {
                    // Where it stands among the bytes.
                    bytes.extend_from_slice(format!("<{}>", ranges.len()).as_bytes());
                    ranges.push(range);
                }
            }
        }
    }
    (bytes, ranges, serving.is_over())
}

/// What a replica says to a played master is answered the same however it is cut into reads, and no more is sent than there is.
///
/// # Panics
/// If it is not.
pub fn a_played_master_answers_the_same_at_any_cut(input: &[u8], cuts: &[u16], kind: u8) {
    let version = [Version(2, 6, 0), Version(3, 0, 0), Version(6, 0, 0), Version(8, 0, 0)];
    let version = version.get(usize::from(kind % 4)).copied().unwrap_or(Version(8, 0, 0));
    let served = served(kind & 4 != 0, version).map(Arc::new);
    assert!(served.is_some(), "the capture of this law can be served");
    let Some(served) = served else { return };
    let whole = said(&served, input, &[]);
    assert_eq!(said(&served, input, cuts), whole);
    let mut end = 0;
    for range in &whole.1 {
        assert!(end <= range.start && range.start < range.end && range.end <= 200, "{range:?}");
        end = range.end;
    }
}
