use super::*;
use crate::rdb::crc::crc64;
use crate::rdb::event::Element;
use crate::rdb::length::put_length;
use crate::rdb::packed::Damaged;
use crate::rdb::packed::listpack;
use crate::rdb::string::put_string;

const REDIS: &[u8] = b"REDIS0013";
const VALKEY: &[u8] = b"VALKEY080";

/// The bytes of a file in the making.
struct File(Vec<u8>);

impl File {
    fn new(magic: &[u8]) -> Self {
        Self(magic.to_vec())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn len(mut self, value: u64) -> Self {
        put_length(&mut self.0, value);
        self
    }

    fn text(mut self, text: &[u8]) -> Self {
        put_string(&mut self.0, text);
        self
    }

    fn key(self, object: ObjectType, key: &[u8]) -> Self {
        self.raw(&[object.byte()]).text(key)
    }

    fn id(self, ms: u64, seq: u64) -> Self {
        self.raw(&ms.to_be_bytes()).raw(&seq.to_be_bytes())
    }

    fn end(self) -> Vec<u8> {
        let bytes = self.raw(&[255]).0;
        let sum = crc64(&bytes);
        [bytes, sum.to_le_bytes().to_vec()].concat()
    }
}

/// What a parser said, as text; the pieces of strings and modules are put together.
type Said = (Vec<String>, Result<Checksum, RdbError>);

fn say(said: &mut Vec<String>, event: &Event<'_>) {
    let (label, first, bytes) = match event {
        Event::Element(Element::Text { offset, len, bytes }) => {
            (format!("Text({len}) "), *offset == 0, bytes)
        }
        Event::Element(Element::Module { module, bytes }) => {
            let label = format!("Module({module}) ");
            let first = !said.last().is_some_and(|last| last.starts_with(&label));
            (label, first, bytes)
        }
        Event::Piece { bytes, last } => {
            let begun = said.last().is_some_and(|said| said.starts_with("Pieces "));
            let end = if *last { " end" } else { "" };
            if !begun {
                said.push("Pieces ".to_owned());
            }
            let all = said.last_mut().unwrap();
            all.push_str(&bytes.escape_ascii().to_string());
            return all.push_str(end);
        }
        event => return said.push(format!("{event:?}")),
    };
    if first {
        said.push(label);
    }
    said.last_mut().unwrap().push_str(&bytes.escape_ascii().to_string());
}

/// Feeds pieces of `size` bytes, and after the first cut of `first` bytes.
fn feed(bytes: &[u8], first: usize, size: usize, parser: &mut Parser) -> Said {
    let (mut at, mut given, mut said) = (0, first.min(bytes.len()), Vec::new());
    loop {
        match parser.step(&bytes[at..given]) {
            Ok((Step::Event(event), used)) => {
                say(&mut said, &event);
                at += used;
            }
            Ok((Step::NeedMore, used)) => {
                at += used;
                assert!(parser.wanted() > given - at, "it must want more than it has");
                if given == bytes.len() {
                    return (said, Err(parser.truncated()));
                }
                given = bytes.len().min(given + size);
            }
            Ok((Step::End(checksum), used)) => {
                at += used;
                assert_eq!(parser.position(), at as u64);
                return (said, Ok(checksum));
            }
            Err(error) => return (said, Err(error)),
        }
    }
}

fn parser(depth: Depth) -> Parser {
    let mut parser = Parser::new();
    parser.set_default_depth(depth);
    parser.set_element_limit(5000);
    parser
}

/// What the parser says however the bytes are cut.
fn said(bytes: &[u8], depth: Depth) -> Said {
    let whole = feed(bytes, bytes.len(), 1, &mut parser(depth));
    assert_eq!(feed(bytes, 0, 1, &mut parser(depth)), whole, "byte by byte");
    for cut in 0..bytes.len() {
        let cut_once = feed(bytes, cut, bytes.len(), &mut parser(depth));
        assert_eq!(cut_once, whole, "cut at {cut}");
    }
    whole
}

fn elements(bytes: &[u8]) -> Vec<String> {
    let (said, end) = said(bytes, Depth::Elements);
    assert!(end.is_ok(), "{end:?}");
    // The magic and the key are of no interest here.
    said[2..].to_vec()
}

fn fault(bytes: &[u8]) -> (u64, RdbErrorKind) {
    let error = said(bytes, Depth::Elements).1.unwrap_err();
    (error.at, error.kind)
}

const EVERYTHING: Depth = Depth::Verbatim { limit: usize::MAX };

#[test]
fn the_frame_says_everything_it_holds() {
    let file = File::new(REDIS)
        .raw(&[250])
        .text(b"redis-bits")
        .raw(&[0xc0, 64])
        .raw(&[247])
        .len(0x4478_24e2_37cb_9403)
        .len(2)
        .len(1)
        // every opcode that a module's data can have
        .len(1)
        .len(7)
        .len(2)
        .len(8)
        .len(3)
        .raw(&[0; 4])
        .len(4)
        .raw(&[0; 8])
        .len(5)
        .text(b"text")
        .len(0)
        .raw(&[245])
        .text(b"#!lua name=f\n")
        .raw(&[254])
        .len(9)
        .raw(&[251])
        .len(3)
        .len(70_000)
        .raw(&[244])
        .len(16_383)
        .len(2)
        .len(1)
        .raw(&[253])
        .raw(&1_000_000_i32.to_le_bytes())
        .raw(&[248])
        .len(300)
        .key(ObjectType::String, b"a")
        .text(b"x")
        .raw(&[252])
        .raw(&1_700_000_000_123_i64.to_le_bytes())
        .raw(&[249, 255])
        // what modules keep about the key: two classes
        .raw(&[243])
        .len(2)
        .raw(&[1, 2, 3, 4])
        .len(5)
        .text(b"kept")
        .len(0)
        .raw(&[1, 2, 3, 5])
        .len(0)
        .key(ObjectType::List, b"b")
        .len(0)
        .key(ObjectType::String, b"c")
        .raw(&[0xc1, 0x39, 0x30])
        .end();
    let (said, end) = said(&file, EVERYTHING);
    assert!(matches!(end, Ok(Checksum::Stated(_))));
    let head = |key, object, rest| {
        format!("Key(KeyHead {{ db: Db(9), key: {key:?}, object: {object}, {rest} }})")
    };
    let payload =
        |object, body: &[u8]| format!("Payload(Payload {{ object: {object}, body: {body:?} }})");
    assert_eq!(
        said,
        [
            "Header(Format { family: Redis, version: 13 })".to_owned(),
            format!("Aux {{ name: {:?}, value: {:?} }}", b"redis-bits", b"64"),
            "ModuleAux { module: ModuleId(4933733945801675779), when: 1 }".to_owned(),
            format!("Function {{ code: {:?} }}", b"#!lua name=f\n"),
            "SelectDb(Db(9))".to_owned(),
            "ResizeDb { keys: 3, expires: 70000 }".to_owned(),
            "SlotInfo { slot: 16383, keys: 2, expires: 1 }".to_owned(),
            head(
                b"a",
                "String",
                "expire_at_ms: Some(1000000000), idle_seconds: Some(300), freq: None"
            ),
            payload("String", b"\x01x"),
            "KeyMeta".to_owned(),
            head(
                b"b",
                "List",
                "expire_at_ms: Some(1700000000123), idle_seconds: None, freq: Some(255)"
            ),
            payload("List", b"\0"),
            head(b"c", "String", "expire_at_ms: None, idle_seconds: None, freq: None"),
            payload("String", b"\xc1\x39\x30"),
        ]
    );
}

#[test]
fn no_deadline_is_minus_one() {
    let file = File::new(REDIS)
        .raw(&[252])
        .raw(&(-1_i64).to_le_bytes())
        .key(ObjectType::String, b"a")
        .text(b"")
        .end();
    let (said, _) = said(&file, Depth::Skip);
    assert!(said[1].contains("expire_at_ms: None"), "{}", said[1]);
    assert_eq!(said[2], "ValueEnd");
}

#[test]
fn the_end_says_whether_there_is_a_sum() {
    assert_eq!(said(b"REDIS0004\xff", Depth::Skip).1, Ok(Checksum::None));
    assert_eq!(said(b"REDIS0005\xff\0\0\0\0\0\0\0\0", Depth::Skip).1, Ok(Checksum::None));
    let stated = said(b"REDIS0005\xff\x01\0\0\0\0\0\0\x02", Depth::Skip).1;
    assert_eq!(stated, Ok(Checksum::Stated(0x0200_0000_0000_0001)));
    // What follows is not the parser's, and the end stays the end.
    let mut parser = Parser::new();
    assert_eq!(parser.step(b"REDIS0004\xffPING").unwrap().1, 9);
    assert_eq!(parser.step(b"\xffPING").unwrap(), (Step::End(Checksum::None), 1));
    assert_eq!(parser.step(b"PING").unwrap(), (Step::End(Checksum::None), 0));
}

#[test]
fn a_slot_import_is_named_and_its_ranges_are_passed() {
    let file = File::new(VALKEY)
        .raw(&[243])
        .text(b"job")
        .len(2)
        .len(0)
        .len(5000)
        .len(6000)
        .len(16_383)
        .key(ObjectType::Hash2, b"h")
        .len(2)
        .text(b"f")
        .text(b"v")
        .raw(&1_900_000_000_000_i64.to_le_bytes())
        .text(b"g")
        .text(b"w")
        .raw(&(-1_i64).to_le_bytes())
        .end();
    let (said, end) = said(&file, Depth::Elements);
    assert!(end.is_ok());
    assert_eq!(said[1], format!("SlotImport {{ job: {:?} }}", b"job"));
    assert!(said[3].contains("expire_at_ms: Some(1900000000000)"), "{}", said[3]);
    assert!(said[4].contains("expire_at_ms: None"), "{}", said[4]);
    assert_eq!(said[5], "ValueEnd");
}

#[test]
fn deadlines_of_fields_are_read_in_every_form() {
    let earliest = 1_800_000_000_000_u64;
    let after = |object| {
        File::new(REDIS)
            .key(object, b"h")
            .raw(&earliest.to_le_bytes())
            .len(2)
            .len(1)
            .text(b"f")
            .text(b"v")
            .len(0)
            .text(b"g")
            .text(b"w")
            .end()
    };
    let absolute = File::new(REDIS)
        .key(ObjectType::HashMetadataPreRelease, b"h")
        .len(2)
        .len(earliest)
        .text(b"f")
        .text(b"v")
        .len(0)
        .text(b"g")
        .text(b"w")
        .end();
    let mut blob = listpack::Builder::new();
    for text in ["f", "v", "1800000000000", "g", "w", "0"] {
        blob.push(text.as_bytes()).unwrap();
    }
    let blob = blob.finish();
    let packed = File::new(REDIS)
        .key(ObjectType::HashListpackEx, b"h")
        .raw(&earliest.to_le_bytes())
        .text(&blob)
        .end();
    let old_packed =
        File::new(REDIS).key(ObjectType::HashListpackExPreRelease, b"h").text(&blob).end();
    let expected = elements(&absolute);
    assert_eq!(expected.len(), 3);
    assert!(expected[0].contains("expire_at_ms: Some(1800000000000)"), "{expected:?}");
    assert!(expected[1].contains("expire_at_ms: None"), "{expected:?}");
    for file in [after(ObjectType::HashMetadata), packed, old_packed] {
        assert_eq!(elements(&file), expected);
    }
    let beyond = File::new(REDIS)
        .key(ObjectType::HashMetadata, b"h")
        .raw(&u64::MAX.to_le_bytes())
        .len(1)
        .len(2)
        .text(b"f")
        .text(b"v")
        .end();
    assert_eq!(fault(&beyond), (21, RdbErrorKind::FieldDeadline));
}

#[test]
fn a_stream_of_8_8_says_everything_it_holds() {
    let mut node = listpack::Builder::new();
    for number in [2, 1, 1] {
        node.push_int(number).unwrap();
    }
    node.push(b"field").unwrap();
    node.push_int(0).unwrap();
    // the master's field, then a deleted one, then fields of its own
    for part in ["2", "0", "0", "one", "4", "3", "1", "0", "x", "4"] {
        node.push(part.as_bytes()).unwrap();
    }
    for part in ["0", "2", "-3", "2", "a", "1", "b", "2", "8"] {
        node.push(part.as_bytes()).unwrap();
    }
    let node = node.finish();
    let file = File::new(REDIS)
        .key(ObjectType::StreamListpacks5, b"s")
        .len(1)
        .raw(&[16])
        .id(1000, 5)
        .text(&node)
        .len(2)
        .len(1002)
        .len(2)
        .len(1000)
        .len(5)
        .len(1001)
        .len(0)
        .len(3)
        // one group
        .len(1)
        .text(b"group")
        .len(1000)
        .len(5)
        .len(u64::MAX)
        .len(2)
        .id(1000, 5)
        .raw(&77_i64.to_le_bytes())
        .len(3)
        .id(1002, 2)
        .raw(&78_i64.to_le_bytes())
        .len(1)
        .len(1)
        .text(b"consumer")
        .raw(&79_i64.to_le_bytes())
        .raw(&(-1_i64).to_le_bytes())
        .len(1)
        .id(1000, 5)
        .len(1)
        .id(1002, 2)
        // what is remembered of producers
        .len(100)
        .len(200)
        .len(1)
        .text(b"producer")
        .len(1)
        .text(b"message")
        .len(1000)
        .len(5)
        .len(9)
        .len(4)
        .end();
    let id = |ms, seq| format!("StreamId {{ ms: {ms}, seq: {seq} }}");
    let fields = |pairs: &[(&str, &str)]| {
        let pairs: Vec<_> =
            pairs.iter().map(|(a, b)| format!("{:?}: {:?}", a.as_bytes(), b.as_bytes())).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let expected = [
        format!("Entry {{ id: {}, fields: {} }}", id(1000, 5), fields(&[("field", "one")])),
        format!("Entry {{ id: {}, fields: {} }}", id(1002, 2), fields(&[("a", "1"), ("b", "2")])),
        format!(
            "Stream(StreamMeta {{ length: 2, last_id: {}, more: Some(StreamHistory {{ first_id: {}, max_deleted_id: {}, entries_added: 3 }}) }})",
            id(1002, 2),
            id(1000, 5),
            id(1001, 0)
        ),
        format!("Group {{ name: {:?}, last_id: {}, entries_read: None }}", b"group", id(1000, 5)),
        format!("Pending {{ id: {}, delivered_at_ms: 77, deliveries: 3 }}", id(1000, 5)),
        format!("Pending {{ id: {}, delivered_at_ms: 78, deliveries: 1 }}", id(1002, 2)),
        format!("Consumer {{ name: {:?}, seen_at_ms: 79, active_at_ms: None }}", b"consumer"),
        format!("Owned({})", id(1000, 5)),
        format!("Returned({})", id(1002, 2)),
        "Deduplication { seconds: 100, messages: 200 }".to_owned(),
        format!("Producer({:?})", b"producer"),
        format!("Message {{ name: {:?}, id: {} }}", b"message", id(1000, 5)),
        "Produced { added: 9, duplicates: 4 }".to_owned(),
    ];
    let mut expected: Vec<_> =
        expected.into_iter().map(|element| format!("Element({element})")).collect();
    expected.push("ValueEnd".to_owned());
    assert_eq!(elements(&file), expected);
    assert_eq!(said(&file, EVERYTHING).0.len(), 3);
    let packed = said(&file, Depth::Packed).0;
    assert!(packed[2].starts_with("Packed(StreamNode { master: StreamId { ms: 1000, seq: 5 }"));
    assert_eq!(packed[3..], expected[2..]);
}

#[test]
fn a_value_is_gathered_up_to_the_limit_and_taken_apart_above() {
    let list = |count| {
        (0..count).fold(File::new(REDIS).key(ObjectType::List, b"l").len(count), |file, n| {
            file.text(format!("item{n}").as_bytes())
        })
    };
    for count in [1, 9, 100] {
        let file = list(count).end();
        let size = file.len() - REDIS.len() - 3 - 9;
        for limit in [0, 1, size - 1, size, size + 1, usize::MAX] {
            let (said, end) = said(&file, Depth::Verbatim { limit });
            assert!(end.is_ok());
            if limit >= size {
                assert_eq!(said.len(), 3, "limit {limit}");
                assert!(said[2].starts_with("Payload"));
            } else {
                assert_eq!(said[2..], elements(&file), "limit {limit}");
            }
        }
    }
}

#[test]
fn a_claim_above_the_limit_is_not_waited_for() {
    let mut parser = parser(Depth::Verbatim { limit: 1000 });
    // A string of 4000 bytes of which none has come.
    let file = File::new(REDIS).key(ObjectType::List, b"l").len(1).len(4000).0;
    let mut at = parser.step(&file).unwrap().1;
    at += parser.step(&file[at..]).unwrap().1;
    assert_eq!(parser.step(&file[at..]).unwrap(), (Step::NeedMore, 1));
    assert_eq!(parser.wanted(), 4002, "one element, with the head that was not consumed");
}

#[test]
fn no_element_is_held_above_its_limit() {
    let claim =
        |object: ObjectType, rest: &[u8]| fault(&File::new(REDIS).key(object, b"k").raw(rest).0);
    let large = |size| RdbErrorKind::TooLarge { size, limit: 5000 };
    let mut length = Vec::new();
    put_length(&mut length, 5001);
    let list = [&[1][..], &length].concat();
    assert_eq!(claim(ObjectType::List, &list), (13, large(5001)));
    assert_eq!(claim(ObjectType::HashListpack, &length), (12, large(5001)));
    // Compressed: a small string that claims to be large.
    let squeezed = [0xc3, 60, 0x80, 0, 0, 0x14, 0x80];
    assert_eq!(claim(ObjectType::SetListpack, &squeezed), (12, large(5248)));
    let key = File::new(REDIS).raw(&[0]).raw(&length).0;
    assert_eq!(fault(&key), (10, large(5001)));
    // But a string's value may have any size: it is not held.
    let text = File::new(REDIS).key(ObjectType::String, b"k").text(&[b'x'; 20_000]).end();
    let whole = feed(&text, text.len(), 1, &mut parser(Depth::Elements));
    assert!(whole.1.is_ok());
    assert_eq!(feed(&text, 0, 777, &mut parser(Depth::Elements)), whole);
}

#[test]
fn counts_are_claims() {
    for object in ObjectType::ALL {
        let magic = match object.family() {
            Some(Family::Valkey) => VALKEY,
            _ => REDIS,
        };
        for count in [u64::MAX, u64::MAX - 1, 1 << 62] {
            let file = File::new(magic).key(*object, b"k").len(count).len(count).len(count).0;
            for depth in [Depth::Skip, Depth::Pieces, EVERYTHING, Depth::Elements, Depth::Packed] {
                let end = feed(&file, file.len(), 1, &mut parser(depth)).1;
                assert!(end.is_err(), "{object:?} {depth:?}");
            }
        }
    }
}

#[test]
fn pieces_are_the_payload_and_damage_comes_behind_them() {
    let bodies: [(ObjectType, &[u8]); 4] = [
        (ObjectType::Set, b"\x02\x01a\x03bcd"),
        (ObjectType::Set, b"\x00"),
        (ObjectType::Hash, b"\x01\xc0\x07\xc3\x02\x04\x20a"),
        (ObjectType::Module2, b"\x81\x44\x78\x24\xe2\x37\xcb\x94\x03\x02\x05\x05\x02xy\x00"),
    ];
    for (object, body) in bodies {
        let file = File::new(REDIS).key(object, b"k").raw(body).key(ObjectType::String, b"l");
        let file = file.text(b"v").end();
        let (said, end) = said(&file, Depth::Pieces);
        assert!(end.is_ok(), "{object:?}: {end:?}");
        assert_eq!(said[2], format!("Pieces {} end", body.escape_ascii()));
        assert_eq!(said[4], "Pieces \\x01v end");
        // Nothing is held, whatever was set.
        assert_eq!(feed(&file, 0, 3, &mut parser(Depth::Pieces)).0, said);
    }
    let damaged = File::new(REDIS).key(ObjectType::Set, b"k").len(3).text(b"ab").raw(&[0xc5]).0;
    let (said, end) = said(&damaged, Depth::Pieces);
    assert_eq!(said[2], "Pieces \\x03\\x02ab");
    let error = end.unwrap_err();
    assert_eq!((error.at, error.kind), (16, RdbErrorKind::StringEncoding(5)));
    assert_eq!(error.key.as_deref(), Some(&b"k"[..]));
}

#[test]
fn large_compressed_text_is_inflated_as_it_comes() {
    let text: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 3).to_be_bytes()).collect();
    let data = ::lzf::compress(&text).unwrap();
    let file = File::new(REDIS)
        .key(ObjectType::String, b"k")
        .raw(&[0xc3])
        .len(data.len() as u64)
        .len(text.len() as u64)
        .raw(&data)
        .end();
    let whole = feed(&file, file.len(), 1, &mut parser(Depth::Elements));
    assert_eq!(whole.0[2], format!("Text(400000) {}", text.escape_ascii()));
    assert_eq!(whole.0.len(), 4);
    assert_eq!(feed(&file, 0, 1000, &mut parser(Depth::Elements)), whole);
}

#[test]
fn a_module_is_passed_whole_or_in_pieces_and_never_held() {
    let body = File(Vec::new())
        .len(0x4478_24e2_37cb_9403)
        .len(5)
        .text(&[b'x'; 9000])
        .len(2)
        .len(1 << 40)
        .len(0)
        .0;
    let file = File::new(REDIS).key(ObjectType::Module2, b"m").raw(&body).end();
    let whole = feed(&file, file.len(), 1, &mut parser(Depth::Elements));
    assert!(whole.1.is_ok());
    let module = ModuleId::new(0x4478_24e2_37cb_9403);
    assert_eq!(whole.0[2], format!("Module({module}) {}", body.escape_ascii()));
    assert_eq!(whole.0[3], "ValueEnd");
    assert_eq!(feed(&file, 0, 100, &mut parser(Depth::Elements)), whole);
    assert_eq!(feed(&file, 0, 100, &mut parser(Depth::Verbatim { limit: 9000 })), whole);
    let payload = feed(&file, 0, 100, &mut parser(EVERYTHING)).0;
    assert!(payload[2].starts_with("Payload(Payload { object: Module2"));
    let unknown = File::new(REDIS).key(ObjectType::Module2, b"m").len(1).len(6).end();
    assert_eq!(fault(&unknown), (13, RdbErrorKind::ModuleOpcode(6)));
}

#[test]
fn an_error_names_its_byte_and_its_key() {
    let at = |bytes: &[u8]| {
        let error = said(bytes, Depth::Elements).1.unwrap_err();
        (error.at, error.key.map(|key| key.to_vec()), error.kind)
    };
    let format = Format { family: Family::Redis, version: 13 };
    let unknown = RdbErrorKind::UnknownOpcode { byte: 99, format };
    assert_eq!(at(&File::new(REDIS).raw(&[99]).0), (9, None, unknown));
    assert_eq!(at(b"REDIS"), (0, None, RdbErrorKind::Truncated));
    assert_eq!(at(b"<html><body>"), (0, None, RdbErrorKind::NotRdb(*b"<html><bo")));
    let set = File::new(REDIS).key(ObjectType::Set, b"key").len(2).text(b"one");
    assert_eq!(
        at(&set.raw(&[0xc9, 0]).0),
        (19, Some(b"key".to_vec()), RdbErrorKind::StringEncoding(9))
    );
    let node = File::new(REDIS).key(ObjectType::ListQuicklist2, b"key").len(1).len(3).text(b"");
    assert_eq!(at(&node.end()), (15, Some(b"key".to_vec()), RdbErrorKind::QuicklistContainer(3)));
    let id = File::new(REDIS).key(ObjectType::StreamListpacks, b"key").len(1).text(b"short");
    assert_eq!(at(&id.text(b"").end()), (15, Some(b"key".to_vec()), RdbErrorKind::StreamNodeId(5)));
    let db = File::new(REDIS).raw(&[254]).len(1 << 32);
    assert_eq!(at(&db.end()), (10, None, RdbErrorKind::Database(1 << 32)));
    let score = File::new(REDIS).key(ObjectType::Zset2, b"key").len(1).text(b"member");
    assert_eq!(
        at(&score.raw(&f64::NAN.to_le_bytes()).end()),
        (22, Some(b"key".to_vec()), RdbErrorKind::Score)
    );
    // After a key's value, an error is no longer the key's, but behind it.
    let behind = File::new(REDIS).key(ObjectType::String, b"key").text(b"").raw(&[6]);
    assert_eq!(at(&behind.0), (15, Some(b"key".to_vec()), RdbErrorKind::PreReleaseModule));
    let error = said(&behind.0, Depth::Elements).1.unwrap_err();
    assert!(error.to_string().ends_with(" behind key \"key\""), "{error}");
}

#[test]
fn a_single_value_is_read_without_a_key() {
    let body = File(Vec::new()).len(2).text(b"one").text(b"two").0;
    let mut value = Parser::for_value(ObjectType::Set);
    let (step, used) = value.step(&body).unwrap();
    assert_eq!((step, used), (Step::Event(Event::Element(Element::Member(b"one"))), 5));
    let cut = Parser::for_value(ObjectType::Set).truncated();
    assert_eq!((cut.at, cut.key), (0, None));
    let error = Parser::for_value(ObjectType::Zset).step(b"\x01\x01m\xfd").unwrap_err();
    assert_eq!((error.at, error.key, error.kind), (3, None, RdbErrorKind::Score));
}

#[test]
fn damage_in_a_blob_is_found_at_its_byte() {
    let mut blob = listpack::Builder::new();
    blob.push(b"field").unwrap();
    blob.push(b"value").unwrap();
    blob.push(b"odd").unwrap();
    let blob = blob.finish();
    let file = File::new(REDIS).key(ObjectType::HashListpack, b"h").text(&blob).end();
    let (said, end) = said(&file, Depth::Elements);
    assert_eq!(said.len(), 3, "the first field came");
    assert!(matches!(end.unwrap_err().kind, RdbErrorKind::Packed(_)));
    // At the packed depth nobody looks into it.
    assert!(feed(&file, file.len(), 1, &mut parser(Depth::Packed)).1.is_ok());
    let mut cut = blob;
    cut[12] = 0xf8;
    let file = File::new(REDIS).key(ObjectType::SetListpack, b"s").text(&cut).end();
    let (at, kind) = fault(&file);
    let RdbErrorKind::Packed(Damaged { at: inside, .. }) = kind else { panic!("{kind:?}") };
    assert_eq!(at, 9 + 3 + 1 + inside as u64);
}

#[test]
fn a_depth_is_chosen_between_a_key_and_its_value() {
    let file = File::new(REDIS)
        .key(ObjectType::String, b"a")
        .text(b"1")
        .key(ObjectType::String, b"b")
        .text(b"2")
        .end();
    let mut parser = Parser::new();
    let (mut at, mut said) = (0, Vec::new());
    // Before a key it has no effect.
    parser.choose(Depth::Skip);
    loop {
        let (step, used) = parser.step(&file[at..]).unwrap();
        at += used;
        let Step::Event(event) = step else { break };
        say(&mut said, &event);
        let chosen = matches!(event, Event::Key(head) if head.key == b"b");
        if chosen {
            parser.choose(Depth::Elements);
        }
    }
    assert!(said[2].starts_with("Payload"), "{said:?}");
    assert_eq!(said[4..], ["Text(1) 2", "ValueEnd"]);
}

/// One name a kind. A new kind does not compile here until it has a case below.
fn name(kind: RdbErrorKind) -> &'static str {
    match kind {
        RdbErrorKind::NotRdb(_) => "not RDB",
        RdbErrorKind::UnknownVersion(_) => "unknown version",
        RdbErrorKind::UnknownOpcode { .. } => "unknown opcode",
        RdbErrorKind::EnterpriseOpcode(_) => "enterprise opcode",
        RdbErrorKind::PreReleaseModule => "pre-release module",
        RdbErrorKind::PreReleaseFunction => "pre-release function",
        RdbErrorKind::LengthForm(_) => "length form",
        RdbErrorKind::LengthWanted(_) => "length wanted",
        RdbErrorKind::StringEncoding(_) => "string encoding",
        RdbErrorKind::LzfClaim { .. } => "LZF claim",
        RdbErrorKind::Lzf(_) => "LZF",
        RdbErrorKind::TooLarge { .. } => "too large",
        RdbErrorKind::Database(_) => "database",
        RdbErrorKind::Score => "score",
        RdbErrorKind::FieldDeadline => "field deadline",
        RdbErrorKind::Packed(_) => "packed",
        RdbErrorKind::QuicklistContainer(_) => "quicklist container",
        RdbErrorKind::StreamNodeId(_) => "stream node ID",
        RdbErrorKind::StreamNode(_) => "stream node",
        RdbErrorKind::ModuleOpcode(_) => "module opcode",
        RdbErrorKind::Checksum { .. } => "checksum",
        RdbErrorKind::Truncated => "truncated",
    }
}

#[test]
fn every_kind_of_error_is_met_and_has_advice() {
    let key = |object: ObjectType, body: &[u8]| File::new(REDIS).key(object, b"k").raw(body).end();
    let node = |entries: &[&str]| {
        let mut blob = listpack::Builder::new();
        entries.iter().for_each(|entry| blob.push(entry.as_bytes()).unwrap());
        let body = File(Vec::new()).len(1).raw(&[16]).id(1, 1).text(&blob.finish()).0;
        key(ObjectType::StreamListpacks, &body)
    };
    let cases: &[(&str, Vec<u8>)] = &[
        ("not RDB", b"PONG from another port".to_vec()),
        ("unknown version", b"VALKEY011\xff".to_vec()),
        ("unknown opcode", File::new(VALKEY).raw(&[24]).0),
        ("enterprise opcode", File::new(REDIS).raw(&[101]).0),
        ("pre-release module", File::new(REDIS).raw(&[6]).0),
        ("pre-release function", File::new(REDIS).raw(&[246]).0),
        ("length form", File::new(REDIS).raw(&[251, 0x82]).0),
        ("length wanted", File::new(REDIS).raw(&[251, 0xc0]).0),
        ("string encoding", key(ObjectType::Set, &[1, 0xc4])),
        ("LZF claim", key(ObjectType::Set, &[1, 0xc3, 1, 0x40, 89, 0])),
        ("LZF", key(ObjectType::Set, &[1, 0xc3, 2, 9, 0x20, 0])),
        ("too large", key(ObjectType::Set, &[1, 0x80, 1, 0, 0, 0])),
        ("database", File::new(REDIS).raw(&[254]).len(1 << 33).0),
        ("score", key(ObjectType::Zset, &[1, 1, b'm', 253])),
        (
            "field deadline",
            key(ObjectType::HashMetadataPreRelease, &[&[1, 0x81][..], &[255; 8]].concat()),
        ),
        ("packed", key(ObjectType::SetIntset, &[4, 2, 0, 0, 0])),
        ("quicklist container", key(ObjectType::ListQuicklist2, &[1, 4, 0])),
        ("stream node ID", key(ObjectType::StreamListpacks, &[1, 2, 0, 0, 0])),
        ("stream node", node(&["1", "0", "x"])),
        ("module opcode", key(ObjectType::Module2, &[1, 6])),
        ("truncated", REDIS.to_vec()),
    ];
    for (expected, bytes) in cases {
        let error = said(bytes, Depth::Elements).1.unwrap_err();
        assert_eq!(name(error.kind), *expected, "{error}");
        assert!(error.advice().len() > 20, "{error}");
        assert!(error.to_string().contains(" at byte "), "{error}");
    }
    // And the checksum, which the reader's tests meet: a parser does not sum up.
    assert_eq!(cases.len() + 1, KINDS);
}

/// How many arms [`name`] has.
const KINDS: usize = 22;

#[test]
fn every_damage_of_a_stream_node_has_its_words() {
    let words = |entries: &[&str]| {
        let mut blob = listpack::Builder::new();
        entries.iter().for_each(|entry| blob.push(entry.as_bytes()).unwrap());
        let body = File(Vec::new()).len(1).raw(&[16]).id(1, 1).text(&blob.finish()).0;
        let file = File::new(REDIS).key(ObjectType::StreamListpacks, b"s").raw(&body).0;
        match fault(&file).1 {
            RdbErrorKind::StreamNode(words) => words,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(words(&["1", "0"]), "it ends inside an entry");
    assert_eq!(words(&["1", "0", "f"]), "a number is not a number");
    assert_eq!(words(&["1", "0", "-1"]), "a count is not a count");
    assert_eq!(words(&["1", "0", "1", "f", "1"]), "its master entry does not end where it says");
    let begin = ["1", "0", "1", "f", "0"];
    assert_eq!(words(&begin), "it has other entries than its master entry says");
    let entry = [&begin[..], &["2", "0", "0", "v", "5"]].concat();
    assert_eq!(words(&entry), "an entry has another size than it says");
    let cut = [&begin[..], &["2", "0", "0"]].concat();
    assert_eq!(words(&cut), "it ends inside an entry");
}
