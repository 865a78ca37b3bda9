//! Every kind of error that bytes and words alone bring about.

use std::collections::BTreeMap;
use std::time::Duration;

use understudy::change::{
    Copy, CopyError, Deadlines, Distinct, Draft, Existing, Limits, Scope, Stream, StreamError,
};
use understudy::command::keys::keys;
use understudy::command::{Malformed, lookup};
use understudy::key::Db;
use understudy::plan::rules::{RulesError, Types, database_map, databases};
use understudy::plan::{Expression, Glob, Names, OnFlush, Place, Rename, Rules, Ttl};
use understudy::rdb::dump::Footer;
use understudy::rdb::error::{RdbError, RdbErrorKind};
use understudy::rdb::event::{Element, Event as RdbEvent, KeyHead, Payload};
use understudy::rdb::opcode::ObjectType;
use understudy::rdb::packed::listpack;
use understudy::rdb::parser::{Depth, Parser, Step};
use understudy::rdb::reader::Reader;
use understudy::rdb::transcode::{TranscodeError, fit, transcode};
use understudy::rdb::value::{EncodeError, Encoder};
use understudy::repl::{Credentials, Event, Method, ReplError, Request, Session, Sidecar};
use understudy::resp::{CommandReader, ReplyReader, RespError, command};
use understudy::server::{Flavour, Server, Version};
use understudy::verify::typed::{Answer, Typed};
use understudy::verify::{Digester, Dumped, Times};

use crate::{names, variants};

/// What the parser says is wrong.
fn fault(depth: Depth, file: &[u8]) -> RdbErrorKind {
    let mut parser = Parser::new();
    parser.set_default_depth(depth);
    parser.set_element_limit(1000);
    fault_of(parser, file).kind
}

fn fault_of(mut parser: Parser, mut rest: &[u8]) -> RdbError {
    loop {
        match parser.step(rest) {
            Ok((Step::Event(_), used)) => rest = &rest[used..],
            Ok((Step::NeedMore, _)) => return parser.truncated(),
            Ok((Step::End(_), _)) => panic!("nothing is wrong"),
            Err(error) => return error,
        }
    }
}

fn in_value(object: ObjectType, body: &[u8]) -> RdbErrorKind {
    fault_of(Parser::for_value(object), body).kind
}

#[test]
fn every_error_of_a_file_is_reached() {
    let file = |rest: &[u8]| fault(Depth::Elements, &[b"REDIS0012", rest].concat());
    let list = |entries: &[&[u8]]| {
        let mut builder = listpack::Builder::new();
        entries.iter().for_each(|entry| builder.push(entry).unwrap());
        builder.finish()
    };
    let blob = list(&[b"ab"]);
    let node = [&[1, 16][..], &[0; 16], &[u8::try_from(blob.len()).unwrap()], &blob].concat();
    let mut reader = Reader::new();
    reader.extend(b"REDIS0009\xff\x01\x02\x03\x04\x05\x06\x07\x08");
    reader.next().unwrap();
    let sum = reader.next().unwrap_err().kind;
    let reached = [
        fault(Depth::Skip, b"no magic!"),
        fault(Depth::Skip, b"REDIS0000"),
        file(&[200]),
        file(&[100]),
        file(&[6]),
        file(&[246]),
        file(&[254, 0x82]),
        file(&[254, 0xc0]),
        file(&[0, 0xc5]),
        file(&[0, 0xc3, 1, 0x7f, 0xff]),
        file(&[0, 0xc3, 2, 4, 0x20, b'a']),
        file(&[1, 1, b'k', 1, 0x80, 0, 0, 0x10, 0]),
        file(&[254, 0x81, 1, 0, 0, 0, 0, 0, 0, 0]),
        in_value(ObjectType::Zset, b"\x01\x01m\xfd"),
        in_value(ObjectType::HashMetadata, b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x01f\x01v"),
        in_value(ObjectType::ListZiplist, b"\x01x"),
        in_value(ObjectType::ListQuicklist2, b"\x01\x03\x01x"),
        in_value(ObjectType::StreamListpacks, b"\x01\x02ab\x01x"),
        in_value(ObjectType::StreamListpacks, &node),
        in_value(ObjectType::Module2, b"\x01\x06"),
        sum,
        file(&[254]),
    ];
    assert_eq!(names(reached), variants("RdbErrorKind"));
}

#[test]
fn every_error_of_resp_is_reached() {
    let command = |input: &[u8]| CommandReader::default().read(input).unwrap_err();
    let reply = |input: &[u8]| ReplyReader::default().read(input).map(|_| ()).unwrap_err();
    let long = vec![b'a'; 1 << 20];
    let reached: [RespError; 6] = [
        reply(b"what\r\n"),
        reply(b":12a\r\n"),
        command(&long),
        command(b"*99999999999\r\n"),
        command(b"*1\r\n$1\r\nab\r\n"),
        command(b"SET \"a\r\n"),
    ];
    let reached = names(reached.map(|error| error.kind));
    assert_eq!(reached, variants("RespErrorKind"));
}

pub(crate) const FULLRESYNC: &[u8] = b"+FULLRESYNC 0123456789012345678901234567890123456789 7\r\n";

/// An RDB file with nothing in it; it has no checksum.
pub(crate) const EMPTY: &[u8] = b"REDIS0006\xff\0\0\0\0\0\0\0\0";

/// Has a session listen to a master that answers so, and gives the first thing that `look` finds, or what the session says of it.
fn listen<T>(
    mut session: Session,
    answers: &[u8],
    mut look: impl FnMut(Event<'_>) -> Option<T>,
) -> Result<T, ReplError> {
    let mut rest = answers;
    loop {
        match session.poll_event(Duration::ZERO)? {
            Some(event) => {
                if let Some(found) = look(event) {
                    return Ok(found);
                }
            }
            None if rest.is_empty() => return Err(session.unfinished().unwrap()),
            None => {
                let room = session.buffer();
                let count = room.len().min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                session.filled(count);
                rest = &rest[count..];
            }
        }
    }
}

/// What a session says of a master that answers so.
fn refusal(session: Session, answers: &[u8]) -> ReplError {
    listen::<()>(session, answers, |_| None).unwrap_err()
}

#[test]
fn every_error_of_a_session_is_reached() {
    let asks = |password: bool| {
        let credentials =
            password.then(|| Credentials { user: None, password: "secret".to_owned() });
        Session::new(Request { credentials, resume: None })
    };
    let psync = |answers: &[u8]| refusal(Session::asked(false, None), answers);
    let full = |rest: &[u8]| psync(&[FULLRESYNC, rest].concat());
    let empty = EMPTY;
    let mark = [b'm'; 40];
    let at_mark = [&b"$EOF:"[..], &mark, b"\r\n", empty, &[b'n'; 40]].concat();
    let reached = [
        refusal(asks(false), b"-NOAUTH Authentication required.\r\n"),
        refusal(asks(true), b"-ERR invalid password\r\n"),
        psync(b"-NOPERM this user has no permissions to run the 'psync' command\r\n"),
        psync(b"-ERR unknown command 'PSYNC'\r\n-ERR unknown command 'SYNC'\r\n"),
        refusal(
            Session::asked(false, None).method(Method::Psync),
            b"-ERR unknown command 'PSYNC'\r\n",
        ),
        psync(b"-DENIED Redis is running in protected mode\r\n"),
        psync(b"-LOADING Redis is loading the dataset in memory\r\n"),
        refusal(asks(false), &old_master(true)),
        refusal(
            asks(false),
            &[old_master(false), b"$EOF:".to_vec(), mark.to_vec(), b"\r\n".to_vec()].concat(),
        ),
        full(b"-ERR Unable to perform background save\r\n"),
        psync(b"+what is this\r\n"),
        psync(b""),
        full(b"$9\r\nno magic!"),
        full(&[&b"$20\r\n"[..], empty, b"xx"].concat()),
        full(&at_mark),
        full(&[&b"$18\r\n"[..], empty, b"*x\r\n"].concat()),
        {
            let mut narrow = Session::asked(false, None);
            narrow.set_piece_limit(16);
            refusal(narrow, &[FULLRESYNC, b"$18\r\n", empty, b"*1\r\n$99\r\n"].concat())
        },
    ];
    assert_eq!(names(reached), variants("ReplError"));
}

/// What a master of 2.8.17 says up to where its data set begins, or in place of that.
fn old_master(saves: bool) -> Vec<u8> {
    let info = format!("redis_version:2.8.17\r\nrdb_bgsave_in_progress:{}\r\n", u8::from(saves));
    let unknown = "-ERR Unrecognized REPLCONF option\r\n";
    let info = format!("${}\r\n{info}\r\n", info.len());
    let asked = format!("+PONG\r\n{}{info}", unknown.repeat(3));
    [asked.as_bytes(), FULLRESYNC].concat()
}

#[test]
fn every_error_of_a_place_is_reached() {
    let reached = [
        "what is this",
        "redis://host:99999",
        "redis://host/x",
        "redis://:6379",
        "redis://:%zz@host",
        "redis-cluster://a:1/3",
        "redis-sentinel://a:1",
    ];
    let reached = names(reached.map(|text| Place::parse(text).unwrap_err()));
    assert_eq!(reached, variants("PlaceError"));
}

#[test]
fn every_error_of_rules_is_reached() {
    let map = |only: Option<&str>, map: &str| {
        let only = only.map(databases).transpose()?;
        Rules::new(only, database_map(map)?, Vec::new(), Vec::new(), None)
    };
    let left = |least: Option<u64>, most: Option<u64>| {
        let of = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        Ttl::new(Duration::ZERO, false, of(least), of(most))
    };
    let reached = [
        map(Some("x"), "").unwrap_err(),
        map(None, "3").unwrap_err(),
        map(None, "0:3,0:4").unwrap_err(),
        map(None, "0:3,1:3").unwrap_err(),
        map(Some("1"), "0:3").unwrap_err(),
        Types::parse("tree").unwrap_err(),
        Names::with_prefix(b"").unwrap_err(),
        Names::with_prefix(b"understudy:").unwrap_err(),
        Rename::parse(b"no pair").unwrap_err(),
        Expression::parse(b"(").unwrap_err(),
        renaming(".*=x").unwrap_err(),
        left(None, Some(0)).unwrap_err(),
        left(Some(2), Some(1)).unwrap_err(),
        left(Some(1 << 40), None).unwrap_err(),
    ];
    assert_eq!(names(reached), variants("RulesError"));
}

#[test]
fn every_error_of_a_sidecar_is_reached() {
    let reached = [&b"{\"version\":1,"[..], b"{\"version\":2}", b"{}"];
    let read = |json| Sidecar::parse(json).and_then(Sidecar::playable).unwrap_err();
    let reached = names(reached.map(read));
    assert_eq!(reached, variants("SidecarError"));
}

#[test]
fn every_error_of_arguments_is_reached() {
    let dated = |line: &str| {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        lookup(args[0]).unwrap().deadline(&args).unwrap_err()
    };
    let reached = [
        keys(&[]).map(drop).unwrap_err(),
        keys(&[b"PUT", b"k"]).map(drop).unwrap_err(),
        dated("EXPIRE k"),
        dated("EXPIRE k soon"),
        dated("HPEXPIREAT k 5 a"),
    ];
    assert_eq!(names::<Malformed>(reached), variants("Malformed"));
}

#[test]
fn every_error_of_a_payload_is_reached() {
    let reached = [Footer::verify(b"\x00\x00"), Footer::verify(&[1; 12])];
    assert_eq!(names(reached.map(Result::unwrap_err)), variants("DumpError"));
}

#[test]
fn every_error_of_a_dumped_value_is_reached() {
    let reached = [
        &b"\x00\x0a\x00aaaaaaaa"[..],
        b"\xee\x01a\x0a\x00aaaaaaaa",
        b"\x00\x02a\x0a\x00aaaaaaaa",
        b"\x00\x01ab\x0a\x00aaaaaaaa",
    ];
    let read = |payload: &[u8]| {
        Dumped::content(payload, 1000, &mut Digester::new(1), &Times::default()).unwrap_err()
    };
    assert_eq!(names(reached.map(read)), variants("DumpedError"));
}

#[test]
fn typed_errors() {
    let read = |kind: Answer| {
        let mut typed = Typed::new(b"key".to_vec(), redis(7, 0), 1);
        typed.take(vec![kind, Answer::Int(-1)], &Times::default()).unwrap_err()
    };
    let reached = [Answer::Text(b"ReJSON-RL".to_vec()), Answer::Nil].map(read);
    assert_eq!(names(reached), variants("TypedError"));
}

pub(crate) const fn redis(major: u16, minor: u16) -> Server {
    Server { flavour: Flavour::Redis, version: Version(major, minor, 0) }
}

/// The body of a stream with a consumer group and one entry, which has so many fields.
fn stream(fields: u16) -> Vec<u8> {
    let fields = i64::from(fields);
    let mut node = listpack::Builder::new();
    let numbers = |node: &mut listpack::Builder, numbers: &[i64]| {
        numbers.iter().for_each(|&number| node.push_int(number).unwrap());
    };
    // One entry, none deleted; then the names of its fields, which the entry has too.
    numbers(&mut node, &[1, 0, fields]);
    (0..fields).for_each(|_| node.push(b"f").unwrap());
    numbers(&mut node, &[0, 2, 0, 0]);
    (0..fields).for_each(|_| node.push(b"v").unwrap());
    numbers(&mut node, &[fields + 3]);
    let node = node.finish();
    let len = u32::try_from(node.len()).unwrap().to_be_bytes();
    let id = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    // Its length, its last ID, and a group with neither pending entries nor consumers.
    [&[1, 16][..], &id, &[0x80], &len, &node, b"\x01\x01\x01\x01\x01g\x00\x00\x00\x00"].concat()
}

/// A copy into this target that awaits a value.
fn copy(target: Server, whole: usize, object: ObjectType) -> Copy {
    let limits = Limits { whole, piece: 1 << 20, held: whole };
    let mut copy = Copy::new(target, Existing::Replace, limits, "run".to_owned());
    let (db, key) = (Db::default(), &b"k"[..]);
    let head = KeyHead { db, key, object, expire_at_ms: None, idle_seconds: None, freq: None };
    copy.key(&head, &mut Deadlines::new(0, 0));
    copy
}

/// Why a stream cannot be copied, element by element, into this target.
fn uncopied(target: Server, whole: usize, body: &[u8]) -> CopyError {
    let object = ObjectType::StreamListpacks;
    let mut copy = copy(target, whole, object);
    let (mut parser, mut rest) = (Parser::for_value(object), body);
    loop {
        let (step, used) = parser.step(rest).unwrap();
        rest = &rest[used..];
        let put = match step {
            Step::Event(RdbEvent::Element(element)) => {
                copy.element(&element, &mut Deadlines::new(0, 0))
            }
            Step::Event(RdbEvent::ValueEnd) => copy.value_end(),
            other => panic!("{other:?}"),
        };
        if let Err(error) = put {
            return error;
        }
    }
}

#[test]
fn every_error_of_a_value_is_reached() {
    let (old, new) = (redis(2, 8), redis(7, 0));
    let reached = [
        uncopied(old, 1 << 20, &stream(1)),
        uncopied(new, 1, &stream(1)),
        uncopied(new, 1 << 20, &stream(4000)),
    ];
    assert_eq!(names(reached), variants("CopyError"));

    let misplaced = Encoder::new(ObjectType::List, old).unwrap().push(&Element::Member(b"x"));
    // No byte of this is touched: its length is enough.
    let too_large = listpack::Builder::new().push(&vec![0; u32::MAX as usize]);
    let reached = [misplaced.unwrap_err(), too_large.unwrap_err().into()];
    assert_eq!(names::<EncodeError>(reached), variants("EncodeError"));

    let given = |object, body| transcode(Payload { object, body }, old).unwrap_err();
    let misplaced = copy(old, 1, ObjectType::Hash)
        .element(&Element::Item(b"x"), &mut Deadlines::new(0, 0))
        .unwrap_err();
    let CopyError::Value(misplaced) = misplaced else { panic!("{misplaced:?}") };
    let reached = [
        given(ObjectType::StreamListpacks, &stream(1)),
        given(ObjectType::ListZiplist, b"\x01x"),
        misplaced,
    ];
    assert_eq!(names::<TranscodeError>(reached), variants("TranscodeError"));
}

/// Rules that give keys other names.
pub(crate) fn renaming(text: &str) -> Result<Rules, RulesError> {
    let rename = Rename::parse(text.as_bytes())?;
    Rules::default().naming(Names::new(None, vec![rename])?)
}

#[test]
fn every_error_of_a_name_is_reached() {
    let mut distinct = Distinct::within(1 << 16);
    distinct.meet(b"user:1", b"u:1").unwrap();
    let mut many = 0_u32..;
    let reached = [
        distinct.meet(b"u:1", b"u:1").unwrap_err(),
        distinct.meet(b"k", b"understudy:k").unwrap_err(),
        many.find_map(|n| distinct.meet(&n.to_le_bytes(), &n.to_le_bytes()).err()).unwrap(),
    ];
    assert_eq!(names(reached), variants("NameError"));
}

/// Why a command of a stream cannot be played into a target of this version.
fn unplayable(target: Server, scope: &Scope, args: &[&[u8]]) -> StreamError {
    let mut said = [FULLRESYNC, b"$18\r\n", EMPTY].concat();
    command(&mut said, args);
    let mut stream = Stream::new(None, target, scope.clone(), 0);
    stream = stream.telling_apart(Some(Distinct::within(1 << 20)));
    let (mut deadlines, mut draft) = (Deadlines::new(0, 0), Draft::default());
    let taken = listen(Session::asked(false, None), &said, |event| match event {
        Event::Command(command) => {
            stream.take(&command, 0, &mut deadlines, &mut draft, &mut |_, _, _| true).err()
        }
        _ => None,
    });
    taken.unwrap()
}

#[test]
fn every_error_of_a_stream_is_reached() {
    let all = Scope::new(Rules::default(), None, OnFlush::Apply);
    let careful = Scope::new(Rules::default(), None, OnFlush::Stop);
    let some = Rules::new(None, BTreeMap::new(), vec![Glob::new(b"in*")], Vec::new(), None);
    let some = Scope::new(some.unwrap(), None, OnFlush::Apply);
    let renamed = Scope::new(renaming("^user:=u:").unwrap(), None, OnFlush::Apply);
    let body = stream(1);
    let payload = Payload { object: ObjectType::StreamListpacks, body: &body };
    let mut dump = Vec::new();
    fit(payload, redis(7, 0)).unwrap().put_dump(&mut dump);
    let old = redis(2, 8);
    let reached = [
        unplayable(old, &all, &[b"PUT", b"k", b"v"]),
        unplayable(old, &all, &[b"EXEC"]),
        unplayable(old, &all, &[b"SELECT", b"first"]),
        unplayable(old, &all, &[b"XADD", b"k", b"1-1", b"f", b"v"]),
        unplayable(old, &all, &[b"RESTORE", b"k", b"0", &dump]),
        unplayable(old, &some, &[b"RENAME", b"out", b"in"]),
        unplayable(old, &careful, &[b"FLUSHALL"]),
        unplayable(old, &renamed, &[b"MSET", b"user:1", b"v", b"u:1", b"v"]),
    ];
    assert_eq!(names(reached), variants("StreamError"));
}
