use std::sync::Arc;
use std::time::Duration;

use super::{Piece, Served, Serving};
use crate::offset::{Offset, ReplId};
use crate::repl::{Event, Layout, Part, Request, Resume, Session};
use crate::server::{Flavour, Server, Version};

const ID: &str = "3261b7e84fa23a4a39767bea41d5c09eb3555bc0";
const RDB: &[u8] = b"REDIS0006\xfe\x00\x00\x03key\x05value\xff\0\0\0\0\0\0\0\0";
const STREAM: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const MARK: &[u8; 40] = b"44fe0f86f4657245975f5fa431ef9d069b8e37e7";
const NOW: Duration = Duration::ZERO;

/// A master that is played: its bytes, and what is served of them.
struct Master {
    bytes: Vec<u8>,
    served: Arc<Served>,
}

impl Master {
    fn new(bytes: Vec<u8>, version: Option<Version>) -> Self {
        let sync = !bytes.trim_ascii_start().starts_with(b"+");
        let (mut session, mut layout) = (Session::asked(sync, None), Layout::default());
        session.buffer()[..bytes.len()].copy_from_slice(&bytes);
        session.filled(bytes.len());
        while let Some(event) = session.poll_event(NOW).unwrap() {
            let part = Part::of(&event);
            layout.add(part, session.position());
        }
        let server = version.map(|version| Server { flavour: Flavour::Redis, version });
        let served = Served::new(&layout, server).unwrap();
        Self { bytes, served: Arc::new(served) }
    }

    /// Of 7.0, with the payload's length told.
    fn modern() -> Self {
        Self::new(by_length(&[STREAM]), Some(Version(7, 0, 15)))
    }

    fn serving(&self) -> Serving {
        Serving::new(Arc::clone(&self.served))
    }

    /// All that is to be sent at this time, as bytes.
    fn sent(&self, serving: &mut Serving, now: Duration) -> Vec<u8> {
        let mut sent = Vec::new();
        while let Some(piece) = serving.poll_transmit(now) {
            match piece {
                Piece::Bytes(bytes) => sent.extend_from_slice(&bytes),
                Piece::Capture(range) => {
                    let range =
                        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    sent.extend_from_slice(&self.bytes[range]);
                }
            }
        }
        sent
    }

    fn ask(&self, serving: &mut Serving, line: &str) -> Vec<u8> {
        serving.handle_input(format!("{line}\r\n").as_bytes(), NOW);
        self.sent(serving, NOW)
    }

    fn answers(&self, line: &str) -> String {
        String::from_utf8(self.ask(&mut self.serving(), line)).unwrap()
    }
}

fn by_length(stream: &[&[u8]]) -> Vec<u8> {
    let head = format!("\n+FULLRESYNC {ID} 100\r\n\n${}\r\n", RDB.len());
    [head.as_bytes(), RDB, &stream.concat()].concat()
}

fn by_mark() -> Vec<u8> {
    let head = format!("+FULLRESYNC {ID} 100\r\n$EOF:");
    [head.as_bytes(), MARK, b"\r\n", RDB, MARK, STREAM].concat()
}

#[test]
fn a_replica_gets_what_was_recorded() {
    let master = Master::modern();
    let mut serving = master.serving();
    assert_eq!(master.ask(&mut serving, "PSYNC ? -1"), master.bytes);
    assert_eq!(master.sent(&mut serving, Duration::from_secs(9)), b"");
    assert!(serving.is_replica() && !serving.is_over());

    // To SYNC the same, but for the line that answers PSYNC.
    let line = format!("+FULLRESYNC {ID} 100\r\n");
    let (before, after) = (&master.bytes[..1], &master.bytes[1 + line.len()..]);
    assert_eq!(master.ask(&mut master.serving(), "SYNC"), [before, after].concat());
}

#[test]
fn the_stream_waits_behind_a_mark_for_the_first_acknowledgement() {
    let master = Master::new(by_mark(), Some(Version(7, 0, 15)));
    let mut serving = master.serving();
    assert_eq!(master.ask(&mut serving, "REPLCONF capa eof capa psync2"), b"+OK\r\n");
    let stream = master.bytes.len() - STREAM.len();
    assert_eq!(master.ask(&mut serving, "PSYNC ? -1"), master.bytes[..stream]);
    assert_eq!(serving.poll_timeout(NOW), None);
    assert_eq!(master.ask(&mut serving, "REPLCONF ACK 0"), STREAM);
    assert_eq!(serving.acknowledged(), Some(Offset::new(0)));
    assert_eq!(master.ask(&mut serving, "REPLCONF ACK 141"), b"");
    assert_eq!(serving.acknowledged(), Some(Offset::new(141)));
}

#[test]
fn who_does_not_know_marks_is_told_the_length() {
    let master = Master::new(by_mark(), Some(Version(7, 0, 15)));
    let told = format!("+FULLRESYNC {ID} 100\r\n${}\r\n", RDB.len());
    let expected = [told.as_bytes(), RDB, STREAM].concat();
    assert_eq!(master.ask(&mut master.serving(), "PSYNC ? -1"), expected);
}

#[test]
fn pings_follow_and_count() {
    let master = Master::modern();
    let mut serving = master.serving();
    let whole = master.ask(&mut serving, "PSYNC ? -1");
    assert!(whole.ends_with(STREAM));
    assert_eq!(serving.poll_timeout(Duration::from_secs(3)), Some(Duration::from_secs(10)));
    assert_eq!(master.sent(&mut serving, Duration::from_secs(10)), PING);
    assert_eq!(master.sent(&mut serving, Duration::from_secs(19)), b"");
    assert_eq!(serving.poll_timeout(Duration::from_secs(10)), Some(Duration::from_secs(20)));
    assert_eq!(master.sent(&mut serving, Duration::from_secs(40)), PING.repeat(3));

    // One who comes later gets those that came before, so that all stand at one offset.
    let late = Duration::from_secs(40);
    let mut second = master.serving();
    second.handle_input(b"PSYNC ? -1\r\n", late);
    let all = master.sent(&mut second, late);
    assert!(all.ends_with(&[STREAM, &PING.repeat(4)].concat()));
    let end = 100 + (STREAM.len() + 4 * PING.len()) as u64;
    assert_eq!(master.served.end(late), Some(Offset::new(end)));
    let mut asker = master.serving();
    asker.handle_input(b"INFO replication\r\n", late);
    let info = String::from_utf8(master.sent(&mut asker, late)).unwrap();
    assert!(info.contains(&format!("master_repl_offset:{end}\r\n")), "{info}");
    assert!(info.contains("role:master\r\n") && !info.contains("redis_version"), "{info}");
}

#[test]
fn a_replica_comes_back_at_any_byte() {
    let master = Master::modern();
    let now = Duration::from_secs(25);
    let stream = [STREAM, PING, PING].concat();
    for done in 0..=stream.len() {
        let mut serving = master.serving();
        serving.handle_input(b"REPLCONF capa psync2\r\n", now);
        serving.handle_input(format!("PSYNC {ID} {}\r\n", 101 + done).as_bytes(), now);
        let told = format!("+OK\r\n+CONTINUE {ID}\r\n");
        assert_eq!(
            master.sent(&mut serving, now),
            [told.as_bytes(), &stream[done..]].concat(),
            "{done}"
        );
    }
    let full = |replid: &str, next: u64| {
        let mut serving = master.serving();
        serving.handle_input(format!("PSYNC {replid} {next}\r\n").as_bytes(), now);
        master.sent(&mut serving, now).starts_with(b"\n+FULLRESYNC ")
    };
    assert!(full(ID, 102 + stream.len() as u64), "beyond the end");
    assert!(full(ID, 100), "before the beginning");
    assert!(full("0000000000000000000000000000000000000000", 101), "another history");
    assert!(!full(&ID.to_uppercase(), 101));
}

#[test]
fn the_old_masters_answer_as_they_did() {
    let head = format!("\n\n${}\r\n", RDB.len());
    let bytes = [head.as_bytes(), RDB, b"select 3\r\n", STREAM].concat();
    let oldest = Master::new(bytes.clone(), Some(Version(2, 4, 18)));
    assert_eq!(oldest.answers("PSYNC ? -1"), "-ERR unknown command 'PSYNC'\r\n");
    assert_eq!(oldest.answers("REPLCONF listening-port 1"), "+OK\r\n");
    let unknown = "-ERR Unrecognized REPLCONF option: capa\r\n";
    assert_eq!(oldest.answers("REPLCONF capa eof"), unknown);
    assert_eq!(
        oldest.answers("AUTH user secret"),
        "-ERR wrong number of arguments for 'auth' command\r\n"
    );
    let mut serving = oldest.serving();
    assert_eq!(oldest.ask(&mut serving, "SYNC"), bytes);
    assert_eq!(oldest.sent(&mut serving, Duration::from_secs(10)), b"PING\r\n");
    assert_eq!(oldest.served.end(NOW), None);
    assert!(!oldest.answers("INFO").contains("offset"));
    let newer = Master::new(bytes, Some(Version(2, 6, 17)));
    let mut serving = newer.serving();
    newer.ask(&mut serving, "SYNC");
    assert_eq!(newer.sent(&mut serving, Duration::from_secs(10)), PING);

    let with_psync = Master::new(by_length(&[STREAM]), Some(Version(2, 8, 17)));
    assert_eq!(with_psync.answers("REPLCONF capa eof"), unknown);
    let resumed = with_psync.answers(&format!("PSYNC {ID} 101"));
    assert!(resumed.starts_with("+CONTINUE\r\n*2\r\n"), "{resumed}");
}

#[test]
fn a_password_is_wanted_where_one_is_set() {
    let open = Master::modern();
    assert_eq!(open.answers("AUTH anything"), "+OK\r\n");
    let served = Arc::new(Served::clone(&open.served).with_password("s3cret".to_owned()));
    let closed = Master { bytes: open.bytes, served };
    assert_eq!(closed.answers("PING"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(closed.answers("PSYNC ? -1"), "-NOAUTH Authentication required.\r\n");
    assert!(closed.answers("AUTH nope").starts_with("-WRONGPASS "));
    let mut serving = closed.serving();
    assert_eq!(closed.ask(&mut serving, "AUTH default s3cret"), b"+OK\r\n");
    assert_eq!(closed.ask(&mut serving, "PING"), b"+PONG\r\n");
}

#[test]
fn what_is_not_asked_of_a_master_is_refused() {
    let master = Master::modern();
    assert_eq!(master.answers("GET key"), "-ERR unknown command 'GET'\r\n");
    assert_eq!(master.answers("\"a\\r\\nb\""), "-ERR unknown command 'a\\r\\nb'\r\n");
    assert_eq!(master.answers("PSYNC ?"), "-ERR wrong number of arguments for 'psync' command\r\n");
    assert_eq!(master.answers("PSYNC ? x"), "-ERR value is not an integer or out of range\r\n");
    assert_eq!(master.answers("REPLCONF capa"), "-ERR syntax error\r\n");
    assert_eq!(master.answers("REPLCONF getack *"), "");
    assert_eq!(master.answers("REPLCONF rdb-filter-only \"\""), "+OK\r\n");
    assert!(master.answers("REPLCONF rdb-filter-only functions").starts_with("-ERR Unrecognized"));
    let mut serving = master.serving();
    serving.handle_input(b"*1\r\n$20000\r\n", NOW);
    assert!(master.sent(&mut serving, NOW).starts_with(b"-ERR Protocol error: "));
    assert!(serving.is_over());
}

#[test]
fn the_payload_alone_ends_the_connection() {
    let master = Master::modern();
    let mut serving = master.serving();
    master.ask(&mut serving, "REPLCONF rdb-only 1");
    let sent = master.ask(&mut serving, "PSYNC ? -1");
    assert_eq!(sent, master.bytes[..master.bytes.len() - STREAM.len()]);
    assert!(serving.is_over());
}

#[test]
fn nothing_is_served_behind_the_last_whole_transaction() {
    let multi = b"*1\r\n$5\r\nMULTI\r\n";
    let master = Master::new(by_length(&[STREAM, multi, STREAM]), None);
    let sent = master.ask(&mut master.serving(), "PSYNC ? -1");
    assert_eq!(sent, by_length(&[STREAM]));
}

/// Both sides of the protocol, byte by byte: the replica's session sees what it would have seen of the master itself.
#[test]
fn both_sides_understand_each_other() {
    for bytes in [by_length(&[STREAM]), by_mark()] {
        let master = Master::new(bytes, Some(Version(7, 0, 15)));
        let mut serving = master.serving();
        let mut session = Session::new(Request::default());
        let (mut events, mut at) = (Vec::new(), None);
        for second in 0..12 {
            let now = Duration::from_secs(second);
            for _ in 0..20 {
                while let Some(event) = session.poll_event(now).unwrap() {
                    if let Event::FullSync { at: told, .. } = event {
                        at = told;
                    }
                    if let Event::Command(command) = event {
                        events.push(command.raw.to_vec());
                    }
                }
                session.handle_timeout(now);
                let said = std::mem::take(session.transmit());
                for byte in said {
                    serving.handle_input(&[byte], now);
                }
                for byte in master.sent(&mut serving, now) {
                    session.buffer()[0] = byte;
                    session.filled(1);
                }
            }
            session.confirm(session.offset());
        }
        assert_eq!(
            at,
            Some(Resume {
                replid: ReplId::parse(ID.as_bytes()).unwrap(),
                offset: Offset::new(100)
            })
        );
        assert_eq!(events.concat(), [STREAM, PING].concat());
        assert_eq!(Some(session.offset()), master.served.end(Duration::from_secs(11)));
        // One less than confirmed, as ever.
        let told = serving.acknowledged().unwrap();
        assert_eq!(told, Offset::new(100 + STREAM.len() as u64 + PING.len() as u64 - 1));
    }
}
