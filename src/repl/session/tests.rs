use super::*;

fn taken(session: &mut Session, bytes: &[u8]) {
    session.buffer()[..bytes.len()].copy_from_slice(bytes);
    session.filled(bytes.len());
    while session.poll_event(Duration::ZERO).unwrap().is_some() {}
}

#[test]
fn sync_is_asked_only_by_who_may_do_without_offsets() {
    let asked = |method, answer: &[u8]| {
        let mut session = Session::new(Request::default()).method(method);
        session.buffer()[..answer.len()].copy_from_slice(answer);
        session.filled(answer.len());
        let mut refused = None;
        while let Some(event) = session.poll_event(Duration::ZERO)? {
            match event {
                Event::FullSync { at: None, refused: why } => refused = why,
                Event::PayloadBegins { .. } => return Ok(refused),
                other => panic!("{other:?}"),
            }
        }
        Err(ReplError::Ended("the test"))
    };
    let answer = b"+PONG\r\n+OK\r\n+OK\r\n-ERR\r\n-ERR unknown command 'PSYNC'\r\n$18\r\n";
    let refused = "ERR unknown command 'PSYNC'";
    assert_eq!(asked(Method::Auto, answer).unwrap().as_deref(), Some(refused));
    let error = asked(Method::Psync, answer).unwrap_err();
    assert!(matches!(error, ReplError::PsyncRefused(text) if text == refused));
}

#[test]
fn where_what_was_read_ends_is_told_within_a_command() {
    let replid = ReplId::parse(&[b'a'; 40]).unwrap();
    let resume = Resume { replid, offset: Offset::new(100) };
    let mut session = Session::asked(false, Some(resume));
    assert!(session.unread().is_none(), "there is no stream");
    taken(&mut session, b"+CONTINUE\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4");
    let (unread, at) = session.unread().unwrap();
    assert_eq!((unread, at), (&b"*1\r\n$4"[..], Resume { replid, offset: Offset::new(120) }));
    assert_eq!(session.uncounted(), 0);
    taken(&mut session, b"\r\nPING\r\n\n");
    let (unread, at) = session.unread().unwrap();
    assert_eq!((unread.len(), at.offset), (0, Offset::new(128)));
    assert_eq!(session.uncounted(), 1);
}

#[test]
fn an_eof_transfer_is_acknowledged_more_often() {
    let mut session = Session::asked(false, None);
    let hello = format!("+FULLRESYNC {} 0\r\n$EOF:{}\r\n", "0".repeat(40), "m".repeat(40));
    taken(&mut session, hello.as_bytes());
    for tenths in 1..20 {
        let due = Duration::from_millis(100 * tenths);
        assert_eq!(session.poll_timeout(), Some(due));
        session.handle_timeout(due);
    }
}

#[test]
fn the_acknowledgement_that_an_eof_transfer_waits_for_is_repeated_soon() {
    let mut session = Session::asked(false, None);
    let mark = "m".repeat(40);
    let hello = format!("+FULLRESYNC {} 0\r\n$EOF:{mark}\r\n", "0".repeat(40));
    let payload = [b"REDIS0011\xff\0\0\0\0\0\0\0\0", mark.as_bytes()].concat();
    taken(&mut session, hello.as_bytes());
    taken(&mut session, &payload);
    assert!(session.transmit().ends_with(b"REPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n"));
    let mut now = Duration::ZERO;
    let pauses: Vec<u128> = std::iter::from_fn(|| {
        let due = session.poll_timeout()?;
        let pause = due - std::mem::replace(&mut now, due);
        session.handle_timeout(due);
        Some(pause.as_millis())
    })
    .take(9)
    .collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
}
