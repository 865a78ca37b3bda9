use proptest::prelude::*;

use super::*;
use crate::rdb::dump::Footer;
use crate::rdb::dump::seal;
use crate::rdb::event::Event;
use crate::rdb::event::Fields;
use crate::rdb::event::ModuleId;
use crate::rdb::event::StreamHistory;
use crate::rdb::event::StreamId;
use crate::rdb::event::StreamMeta;
use crate::rdb::parser::Parser;
use crate::rdb::parser::Step;
use crate::server::Flavour;
use crate::server::Version;

const OLD: Server = Server { flavour: Flavour::Redis, version: Version(3, 2, 6) };
const FOUR: Server = Server { flavour: Flavour::Redis, version: Version(4, 0, 14) };
const FIVE: Server = Server { flavour: Flavour::Redis, version: Version(5, 0, 6) };
const SEVEN: Server = Server { flavour: Flavour::Redis, version: Version(7, 0, 15) };
const EIGHT: Server = Server { flavour: Flavour::Redis, version: Version(8, 0, 6) };
const VALKEY: Server = Server { flavour: Flavour::Valkey, version: Version(9, 1, 2) };

fn encode(object: ObjectType, server: Server, elements: &[Element<'_>]) -> Encoded {
    let mut encoder = Encoder::new(object, server).unwrap();
    for element in elements {
        encoder.push(element).unwrap();
    }
    encoder.finish().unwrap()
}

fn body(encoded: &Encoded) -> Vec<u8> {
    let mut out = Vec::new();
    encoded.put(&mut out);
    out
}

#[test]
fn the_plain_forms_are_a_count_and_strings() {
    let list = encode(
        ObjectType::ListQuicklist2,
        OLD,
        &[Element::Item(b"a"), Element::Item(b""), Element::Item(b"-7")],
    );
    assert_eq!(list.object, ObjectType::List);
    assert_eq!(body(&list), b"\x03\x01a\x00\x02-7");
    let set = encode(ObjectType::SetIntset, EIGHT, &[Element::Member(b"70")]);
    assert_eq!((set.object, set.elements), (ObjectType::Set, 1));
    assert_eq!(body(&set), b"\x01\x0270");
    let many = vec![Element::Member(b"x"); 70];
    assert!(body(&encode(ObjectType::Set, OLD, &many)).starts_with(b"\x40\x46\x01x\x01x"));
}

#[test]
fn scores_are_text_for_who_knows_no_other_form() {
    let members = [
        Element::Scored { member: b"a", score: 2.5 },
        Element::Scored { member: b"b", score: f64::NEG_INFINITY },
    ];
    let old = encode(ObjectType::ZsetListpack, OLD, &members);
    assert_eq!(old.object, ObjectType::Zset);
    assert_eq!(body(&old), b"\x02\x01a\x052.5e0\x01b\xff");
    let new = encode(ObjectType::ZsetListpack, FOUR, &members);
    assert_eq!(new.object, ObjectType::Zset2);
    assert_eq!(body(&new), b"\x02\x01a\0\0\0\0\0\0\x04\x40\x01b\0\0\0\0\0\0\xf0\xff");
}

#[test]
fn pieces_make_one_string_or_module() {
    let text = |offset, bytes| Element::Text { offset, len: 5, bytes };
    let string = encode(ObjectType::String, OLD, &[text(0, b"ab"), text(2, b""), text(2, b"cde")]);
    assert_eq!(body(&string), b"\x05abcde");
    assert_eq!((string.elements, string.head), (1, vec![5]));
    let module = |bytes| Element::Module { module: ModuleId::new(1), bytes };
    let value = encode(ObjectType::Module2, EIGHT, &[module(b"\x01\x02"), module(b"\x05\x00")]);
    assert_eq!(value.object, ObjectType::Module2);
    assert_eq!(body(&value), b"\x01\x02\x05\x00");
    let refused = Encoder::new(ObjectType::Module2, OLD).unwrap_err();
    assert_eq!(refused, Unsupported { what: Feature::Modules, server: OLD });
}

const fn field(field: &'static [u8], value: &'static [u8], at: Option<i64>) -> Element<'static> {
    Element::Field { field, value, expire_at_ms: at }
}

#[test]
fn a_deadline_of_a_field_takes_the_readers_form() {
    let fields =
        [field(b"a", b"1", Some(2_000)), field(b"b", b"2", None), field(b"c", b"3", Some(1_500))];
    let redis = encode(ObjectType::Hash2, EIGHT, &fields);
    assert_eq!(redis.object, ObjectType::HashMetadata);
    // Relative to the earliest, plus one: 501, none, 1.
    assert_eq!(
        body(&redis),
        b"\xdc\x05\0\0\0\0\0\0\x03\x41\xf5\x01a\x011\0\x01b\x012\x01\x01c\x013"
    );
    let valkey = encode(ObjectType::HashListpackEx, VALKEY, &fields);
    assert_eq!(valkey.object, ObjectType::Hash2);
    assert_eq!(
        body(&valkey),
        b"\x03\x01a\x011\xd0\x07\0\0\0\0\0\0\x01b\x012\xff\xff\xff\xff\xff\xff\xff\xff\x01c\x013\xdc\x05\0\0\0\0\0\0"
    );
    assert_eq!((redis.lost, valkey.lost), (Lost::default(), Lost::default()));
}

#[test]
fn deadlines_that_the_reader_has_not_are_counted() {
    let fields = [field(b"a", b"1", Some(2_000)), field(b"b", b"2", None)];
    let seven = encode(ObjectType::HashMetadata, SEVEN, &fields);
    assert_eq!(body(&seven), b"\x02\x01a\x011\x01b\x012");
    assert_eq!(seven.lost.field_deadlines, 1);
    let refused = seven.strict(SEVEN).unwrap_err();
    assert_eq!(refused.to_string(), "Redis 7.0.15 cannot hold deadlines of hash fields");
    let none = encode(ObjectType::HashMetadata, SEVEN, &fields[1..]);
    assert_eq!(none.clone().strict(SEVEN), Ok(none));
}

#[test]
fn a_hash_whose_deadlines_are_gone_is_a_hash() {
    let encoded = encode(ObjectType::HashMetadata, EIGHT, &[field(b"b", b"2", None)]);
    assert_eq!(encoded.object, ObjectType::Hash);
    assert_eq!(body(&encoded), b"\x01\x01b\x012");
}

#[test]
fn redis_is_given_no_deadline_that_it_would_refuse_or_take_for_none() {
    let fields = [field(b"a", b"", Some(i64::MAX)), field(b"b", b"", Some(-5))];
    let encoded = encode(ObjectType::Hash2, EIGHT, &fields);
    let earliest = 1_u64.to_le_bytes();
    assert_eq!(encoded.head[..8], earliest);
    assert_eq!(encoded.rest, b"\x81\x00\x00\xff\xff\xff\xff\xff\xff\x01a\0\x01\x01b\0");
}

#[test]
fn what_is_taken_away_early_is_the_same_value() {
    let fields =
        [field(b"a", b"1", Some(2_000)), field(b"b", b"2", None), field(b"c", b"3", Some(1_500))];
    let mut encoder = Encoder::new(ObjectType::Hash2, EIGHT).unwrap();
    let mut taken = Vec::new();
    for element in &fields {
        encoder.push(element).unwrap();
        taken.extend(encoder.take());
        assert_eq!(encoder.ready(), 0);
    }
    let encoded = encoder.finish().unwrap();
    // The earliest was not known when the first was taken: all are relative to 1, that is, they are themselves.
    assert_eq!(encoded.head, b"\x01\0\0\0\0\0\0\0\x03");
    assert_eq!(taken, b"\x47\xd0\x01a\x011\0\x01b\x012\x45\xdc\x01c\x013");
    assert_eq!(encoded.rest, b"");
}

const fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

/// The four entries and two groups that the servers' dumps below hold.
fn stream(delivered: i64, bob: i64, activity: bool, history: bool) -> Vec<Element<'static>> {
    let entry = |id, text: &'static [u8], ends: &'static [usize]| Element::Entry {
        id,
        fields: Fields::new(text, ends),
    };
    let active = |at| activity.then_some(at);
    let more = history.then_some(StreamHistory {
        first_id: id(1, 1),
        max_deleted_id: id(0, 0),
        entries_added: 4,
    });
    let pending =
        |seq| Element::Pending { id: id(1, seq), delivered_at_ms: delivered, deliveries: 1 };
    let consumer = |name, at| Element::Consumer { name, seen_at_ms: at, active_at_ms: active(at) };
    vec![
        entry(id(1, 1), b"a1btwo", &[1, 2, 3, 6]),
        entry(id(1, 2), b"axb300", &[1, 2, 3, 6]),
        entry(id(5, 0), b"cy", &[1, 2]),
        entry(id(6, 7), b"a5000b", &[1, 5, 6, 6]),
        Element::Stream(StreamMeta { length: 4, last_id: id(6, 7), more }),
        Element::Group { name: b"g", last_id: id(1, 2), entries_read: history.then_some(2) },
        pending(1),
        pending(2),
        consumer(b"alice", delivered),
        Element::Owned(id(1, 1)),
        Element::Owned(id(1, 2)),
        Element::Group { name: b"h", last_id: id(5, 0), entries_read: None },
        consumer(b"bob", bob),
    ]
}

/// What `DUMP` of that stream gives on 5.0.6, 7.0.15 and 8.0.6 with `rdbcompression no`.
const DUMP_5: &[u8] = b"\x0f\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01@QQ\x00\x00\x00\x1f\x00\x04\x01\x00\x01\x02\x01\x81a\x02\x81b\x02\x00\x01\x02\x01\x00\x01\x00\x01\x01\x01\x83two\x04\x05\x01\x02\x01\x00\x01\x01\x01\x81x\x02\xc1,\x02\x05\x01\x00\x01\x04\x01\xdf\xff\x02\x01\x01\x81c\x02\x81y\x02\x06\x01\x02\x01\x05\x01\x06\x01\xf1\x88\x13\x03\x80\x01\x05\x01\xff\x04\x06\x07\x02\x01g\x01\x02\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x10\t\xe5\x02\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x10\t\xe5\x02\xa2\x01\x00\x00\x01\x01\x05alice\x10\t\xe5\x02\xa2\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x01h\x05\x00\x00\x01\x03bob\x12\t\xe5\x02\xa2\x01\x00\x00\x00\t\x00\x0c \x86\xaf\x9f\x95\xb9a";
const DUMP_7: &[u8] = b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01@QQ\x00\x00\x00\x1f\x00\x04\x01\x00\x01\x02\x01\x81a\x02\x81b\x02\x00\x01\x02\x01\x00\x01\x00\x01\x01\x01\x83two\x04\x05\x01\x02\x01\x00\x01\x01\x01\x81x\x02\xc1,\x02\x05\x01\x00\x01\x04\x01\xdf\xff\x02\x01\x01\x81c\x02\x81y\x02\x06\x01\x02\x01\x05\x01\x06\x01\xf1\x88\x13\x03\x80\x01\x05\x01\xff\x04\x06\x07\x01\x01\x00\x00\x04\x02\x01g\x01\x02\x02\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xe9\x0b\xe5\x02\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\xe9\x0b\xe5\x02\xa2\x01\x00\x00\x01\x01\x05alice\xe9\x0b\xe5\x02\xa2\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x01h\x05\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01\x03bob\xf1\x0b\xe5\x02\xa2\x01\x00\x00\x00\n\x00\xe5n#I\xe9\x0b\x81\x80";
const DUMP_8: &[u8] = b"\x15\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01@QQ\x00\x00\x00\x1f\x00\x04\x01\x00\x01\x02\x01\x81a\x02\x81b\x02\x00\x01\x02\x01\x00\x01\x00\x01\x01\x01\x83two\x04\x05\x01\x02\x01\x00\x01\x01\x01\x81x\x02\xc1,\x02\x05\x01\x00\x01\x04\x01\xdf\xff\x02\x01\x01\x81c\x02\x81y\x02\x06\x01\x02\x01\x05\x01\x06\x01\xf1\x88\x13\x03\x80\x01\x05\x01\xff\x04\x06\x07\x01\x01\x00\x00\x04\x02\x01g\x01\x02\x02\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xb3\x0e\xe5\x02\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\xb3\x0e\xe5\x02\xa2\x01\x00\x00\x01\x01\x05alice\xb3\x0e\xe5\x02\xa2\x01\x00\x00\xb3\x0e\xe5\x02\xa2\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x01h\x05\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01\x03bob\xbb\x0e\xe5\x02\xa2\x01\x00\x00\xbb\x0e\xe5\x02\xa2\x01\x00\x00\x00\x0c\x00\nl\xf6\x83_r0\x00";

#[test]
fn a_stream_is_written_byte_for_byte_as_its_server_does() {
    for (dump, object, server, delivered, bob) in [
        (DUMP_5, ObjectType::StreamListpacks, FIVE, 0x1a2_02e5_0910, 0x1a2_02e5_0912),
        (DUMP_7, ObjectType::StreamListpacks2, SEVEN, 0x1a2_02e5_0be9, 0x1a2_02e5_0bf1),
        (DUMP_8, ObjectType::StreamListpacks3, EIGHT, 0x1a2_02e5_0eb3, 0x1a2_02e5_0ebb),
    ] {
        let elements = stream(
            delivered,
            bob,
            object == ObjectType::StreamListpacks3,
            object != ObjectType::StreamListpacks,
        );
        let encoded = encode(object, server, &elements);
        assert_eq!((encoded.object, encoded.elements), (object, 4));
        let mut out = vec![encoded.object.byte()];
        encoded.put(&mut out);
        let version = Footer::verify(dump).unwrap().1.version;
        seal(&mut out, 0, version);
        assert_eq!(out, dump);
        assert_eq!(encoded.lost, Lost::default());
    }
}

#[test]
fn an_older_server_gets_what_it_can_hold_and_the_rest_is_said() {
    let newest = stream(0x1a2_02e5_0be9, 0x1a2_02e5_0bf1, true, true);
    let seven = encode(ObjectType::StreamListpacks3, SEVEN, &newest);
    assert_eq!(body(&seven), DUMP_7[1..DUMP_7.len() - Footer::LEN]);
    assert_eq!(seven.lost, Lost { consumer_activity: true, ..Lost::default() });
    assert!(seven.strict(SEVEN).is_ok());
    let newest = stream(0x1a2_02e5_0910, 0x1a2_02e5_0912, true, true);
    let five = encode(ObjectType::StreamListpacks3, FIVE, &newest);
    assert_eq!(body(&five), DUMP_5[1..DUMP_5.len() - Footer::LEN]);
    assert!(five.lost.stream_history && five.lost.consumer_activity);
    let refused = Encoder::new(ObjectType::StreamListpacks3, FOUR).unwrap_err();
    assert_eq!(refused, Unsupported { what: Feature::Streams, server: FOUR });
}

#[test]
fn a_newer_server_gets_no_more_than_the_source_knew() {
    let oldest = stream(0x1a2_02e5_0910, 0x1a2_02e5_0912, false, false);
    let encoded = encode(ObjectType::StreamListpacks, EIGHT, &oldest);
    assert_eq!(encoded.object, ObjectType::StreamListpacks);
    assert_eq!(body(&encoded), DUMP_5[1..DUMP_5.len() - Footer::LEN]);
}

#[test]
fn an_element_of_another_value_is_refused() {
    let mut list = Encoder::new(ObjectType::List, OLD).unwrap();
    assert_eq!(list.push(&Element::Member(b"x")), Err(EncodeError::Misplaced));
    let mut stream = Encoder::new(ObjectType::StreamListpacks, FIVE).unwrap();
    assert_eq!(stream.push(&Element::Owned(id(1, 1))), Err(EncodeError::Misplaced));
    let group = Element::Group { name: b"g", last_id: id(0, 0), entries_read: None };
    assert_eq!(stream.push(&group), Err(EncodeError::Misplaced));
    assert_eq!(stream.finish().unwrap_err(), EncodeError::Misplaced);
}

/// An element that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Item(Vec<u8>),
    Member(Vec<u8>),
    Scored(Vec<u8>, f64),
    Field(Vec<u8>, Vec<u8>, Option<i64>),
    Entry(StreamId, Vec<u8>, Vec<usize>),
    Stream(StreamMeta),
    Group(Vec<u8>, StreamId, Option<u64>),
    Pending(StreamId, i64, u64),
    Consumer(Vec<u8>, i64, Option<i64>),
    Belongs(StreamId),
}

impl Owned {
    fn lend(&self) -> Element<'_> {
        match self {
            Self::Item(item) => Element::Item(item),
            Self::Member(member) => Element::Member(member),
            Self::Scored(member, score) => Element::Scored { member, score: *score },
            Self::Field(field, value, at) => Element::Field { field, value, expire_at_ms: *at },
            Self::Entry(id, text, ends) => {
                Element::Entry { id: *id, fields: Fields::new(text, ends) }
            }
            Self::Stream(meta) => Element::Stream(*meta),
            Self::Group(name, last_id, entries_read) => {
                Element::Group { name, last_id: *last_id, entries_read: *entries_read }
            }
            Self::Pending(id, delivered_at_ms, deliveries) => Element::Pending {
                id: *id,
                delivered_at_ms: *delivered_at_ms,
                deliveries: *deliveries,
            },
            Self::Consumer(name, seen_at_ms, active_at_ms) => {
                Element::Consumer { name, seen_at_ms: *seen_at_ms, active_at_ms: *active_at_ms }
            }
            Self::Belongs(id) => Element::Owned(*id),
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        any::<i32>().prop_map(|value| value.to_string().into_bytes()),
        (0..5000_usize).prop_map(|len| vec![b'x'; len]),
    ]
}

fn stream_id() -> impl Strategy<Value = StreamId> {
    (0..64_u32, any::<u64>(), any::<u64>())
        .prop_map(|(shift, ms, seq)| StreamId { ms: ms >> shift, seq: seq >> (63 - shift) })
}

fn entries() -> impl Strategy<Value = Vec<Owned>> {
    // Few names and little else: so that entries have the same fields as the first, and not.
    let fields = prop::collection::vec((prop::sample::select(vec!["a", "b", "12"]), bytes()), 0..4);
    prop::collection::vec((stream_id(), fields), 0..250).prop_map(|mut entries| {
        entries.sort_by_key(|(id, _)| *id);
        entries
            .into_iter()
            .map(|(id, fields)| {
                let (mut text, mut ends) = (Vec::new(), Vec::new());
                for (name, value) in fields {
                    text.extend_from_slice(name.as_bytes());
                    ends.push(text.len());
                    text.extend_from_slice(&value);
                    ends.push(text.len());
                }
                Owned::Entry(id, text, ends)
            })
            .collect()
    })
}

fn groups() -> impl Strategy<Value = Vec<Owned>> {
    let pending = prop::collection::vec((stream_id(), any::<i64>(), any::<u64>()), 0..5);
    let owned = prop::collection::vec(stream_id(), 0..3);
    let active = prop::option::of(0..i64::MAX);
    let consumers = prop::collection::vec((bytes(), any::<i64>(), active, owned), 0..3);
    let read = prop::option::of(0..u64::MAX);
    let group = (bytes(), stream_id(), read, pending, consumers);
    prop::collection::vec(group, 0..4).prop_map(|groups| {
        let mut elements = Vec::new();
        for (name, last_id, read, pending, consumers) in groups {
            elements.push(Owned::Group(name, last_id, read));
            elements
                .extend(pending.into_iter().map(|(id, at, count)| Owned::Pending(id, at, count)));
            for (name, seen, active, owned) in consumers {
                elements.push(Owned::Consumer(name, seen, active));
                elements.extend(owned.into_iter().map(Owned::Belongs));
            }
        }
        elements
    })
}

fn whole_stream() -> impl Strategy<Value = Vec<Owned>> {
    let history = (stream_id(), stream_id(), any::<u64>()).prop_map(
        |(first_id, max_deleted_id, entries_added)| StreamHistory {
            first_id,
            max_deleted_id,
            entries_added,
        },
    );
    (entries(), any::<u64>(), stream_id(), history, groups()).prop_map(
        |(mut elements, length, last_id, history, groups)| {
            elements.push(Owned::Stream(StreamMeta { length, last_id, more: Some(history) }));
            elements.extend(groups);
            elements
        },
    )
}

/// A value's type, in its newest form, and its elements.
fn values() -> impl Strategy<Value = (ObjectType, Vec<Owned>)> {
    let many = || prop::collection::vec(bytes(), 0..80);
    let score = any::<u64>().prop_map(f64::from_bits).prop_filter("a number", |s| !s.is_nan());
    let scored = prop::collection::vec((bytes(), score), 0..80);
    // Servers keep deadlines below 2^46.
    let deadline = || prop::option::of(1..1_i64 << 46);
    let fields = prop::collection::vec((bytes(), bytes(), deadline()), 0..80);
    prop_oneof![
        many()
            .prop_map(|items| { (ObjectType::List, items.into_iter().map(Owned::Item).collect()) }),
        many().prop_map(|items| {
            (ObjectType::Set, items.into_iter().map(Owned::Member).collect())
        }),
        scored.prop_map(|items| {
            let scored = items.into_iter().map(|(member, score)| Owned::Scored(member, score));
            (ObjectType::Zset2, scored.collect())
        }),
        fields.prop_map(|items| {
            let fields = items.into_iter().map(|(field, value, at)| Owned::Field(field, value, at));
            (ObjectType::HashMetadata, fields.collect())
        }),
        whole_stream().prop_map(|elements| (ObjectType::StreamListpacks3, elements)),
    ]
}

/// What the parser makes of a value, each element as text.
fn parsed(object: ObjectType, body: &[u8]) -> Vec<String> {
    let (mut parser, mut rest, mut said) = (Parser::for_value(object), body, Vec::new());
    loop {
        let (step, used) = parser.step(rest).unwrap();
        match step {
            Step::Event(Event::Element(element)) => said.push(format!("{element:?}")),
            Step::Event(Event::ValueEnd) => {
                assert_eq!(rest.len(), used, "bytes are left over");
                return said;
            }
            other => panic!("{other:?}"),
        }
        rest = &rest[used..];
    }
}

/// What the reader of a form must find of an element.
fn kept(element: Element<'_>, object: ObjectType) -> Element<'_> {
    match element {
        Element::Field { field, value, .. } if object == ObjectType::Hash => {
            Element::Field { field, value, expire_at_ms: None }
        }
        Element::Stream(meta) if object == ObjectType::StreamListpacks => {
            Element::Stream(StreamMeta { more: None, ..meta })
        }
        Element::Group { name, last_id, .. } if object == ObjectType::StreamListpacks => {
            Element::Group { name, last_id, entries_read: None }
        }
        Element::Consumer { name, seen_at_ms, .. } if object != ObjectType::StreamListpacks3 => {
            Element::Consumer { name, seen_at_ms, active_at_ms: None }
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_parsed((object, elements) in values()) {
        for server in [OLD, FOUR, FIVE, SEVEN, EIGHT, VALKEY] {
            let Ok(mut encoder) = Encoder::new(object, server) else {
                prop_assert!(object == ObjectType::StreamListpacks3 && server.version < FIVE.version);
                continue;
            };
            elements.iter().for_each(|element| encoder.push(&element.lend()).unwrap());
            let encoded = encoder.finish().unwrap();
            let expected: Vec<_> = elements
                .iter()
                .map(|element| format!("{:?}", kept(element.lend(), encoded.object)))
                .collect();
            prop_assert_eq!(parsed(encoded.object, &body(&encoded)), expected);
            let lost = elements.iter().any(|element| matches!(element, Owned::Field(_, _, Some(_))))
                && server.version < EIGHT.version;
            prop_assert_eq!(lost, encoded.strict(server).is_err());
        }
    }

    #[test]
    fn when_bytes_are_taken_changes_nothing(
        (object, elements) in values(),
        takes in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        for server in [SEVEN, EIGHT, VALKEY] {
            let mut encoder = Encoder::new(object, server).unwrap();
            let mut taken = Vec::new();
            for (element, take) in elements.iter().zip(takes.iter().cycle()) {
                encoder.push(&element.lend()).unwrap();
                if *take {
                    taken.extend(encoder.take());
                }
            }
            let encoded = encoder.finish().unwrap();
            let body = [&encoded.head[..], &taken, &encoded.rest].concat();
            let expected: Vec<_> = elements
                .iter()
                .map(|element| format!("{:?}", kept(element.lend(), encoded.object)))
                .collect();
            prop_assert_eq!(parsed(encoded.object, &body), expected);
        }
    }
}
