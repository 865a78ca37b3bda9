use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::change::SHIFT;
use crate::rdb::event::Event;
use crate::rdb::parser::{Parser, Step};
use crate::resp::CommandReader;
use crate::server::Flavour;

const KEY: &[u8] = b"the key";

/// What a target holds under one name.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// The bits of each score.
    Zset(BTreeMap<Vec<u8>, u64>),
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>),
    Stream {
        entries: Vec<(StreamId, Vec<Vec<u8>>)>,
        last: StreamId,
        /// Entries ever added, and the greatest deleted.
        history: (u64, StreamId),
        /// Groups with all that is theirs.
        groups: Vec<String>,
    },
}

/// A target, as far as pieces need one: the commands that they use, answered as servers answer them.
#[derive(Debug, Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, (Held, Option<i64>)>,
    transaction: Option<Vec<Vec<Vec<u8>>>>,
    aborted: bool,
}

type Answer = Result<(), String>;

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &[u8]) -> T {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

fn id(text: &[u8]) -> StreamId {
    let text = std::str::from_utf8(text).unwrap();
    let (ms, seq) = text.split_once('-').unwrap();
    StreamId { ms: ms.parse().unwrap(), seq: seq.parse().unwrap() }
}

impl Model {
    fn run(&mut self, args: &[Vec<u8>], refused: bool) -> Answer {
        let name = args[0].as_slice();
        if name == b"MULTI" {
            assert!(self.transaction.is_none(), "a MULTI inside another");
            (self.transaction, self.aborted) = (Some(Vec::new()), false);
            return Ok(());
        }
        if name == b"EXEC" {
            let queued = self.transaction.take().expect("an EXEC without MULTI");
            if self.aborted {
                return Err("EXECABORT".to_owned());
            }
            let answers: Vec<_> = queued.iter().map(|args| self.apply(args)).collect();
            return answers.into_iter().collect();
        }
        if refused {
            self.aborted = true;
            return Err("OOM".to_owned());
        }
        match &mut self.transaction {
            Some(queued) => {
                queued.push(args.to_vec());
                Ok(())
            }
            None => self.apply(args),
        }
    }

    fn lose_link(&mut self) {
        self.transaction = None;
    }

    fn make(&mut self, name: &[u8], empty: Held) -> &mut Held {
        &mut self.keys.entry(name.to_vec()).or_insert((empty, None)).0
    }

    fn apply(&mut self, args: &[Vec<u8>]) -> Answer {
        let (command, key) = (args[0].as_slice(), &args[1]);
        match command {
            b"DEL" | b"UNLINK" => args[1..].iter().for_each(|key| drop(self.keys.remove(key))),
            b"SET" => drop(self.keys.insert(key.clone(), (Held::String(args[2].clone()), None))),
            b"SETRANGE" => {
                let Held::String(text) = self.make(key, Held::String(Vec::new())) else { panic!() };
                let (from, bytes) = (number::<usize>(&args[2]), &args[3]);
                text.resize(text.len().max(from + bytes.len()), 0);
                text[from..from + bytes.len()].copy_from_slice(bytes);
            }
            b"LTRIM" => {
                if let Some((Held::List(items), _)) = self.keys.get_mut(key) {
                    items.truncate(number::<usize>(&args[3]) + 1);
                }
            }
            b"RPUSH" => {
                let Held::List(items) = self.make(key, Held::List(Vec::new())) else { panic!() };
                items.extend_from_slice(&args[2..]);
            }
            b"SADD" => {
                let Held::Set(members) = self.make(key, Held::Set(BTreeSet::new())) else {
                    panic!()
                };
                members.extend(args[2..].iter().cloned());
            }
            b"ZADD" => {
                let Held::Zset(members) = self.make(key, Held::Zset(BTreeMap::new())) else {
                    panic!()
                };
                for pair in args[2..].chunks_exact(2) {
                    let score: f64 = number(&pair[0]);
                    // What is small forgets the zero's sign, and no second ZADD gives it back.
                    let score = if score == 0.0 && members.len() < 128 { 0.0 } else { score };
                    let held = members.entry(pair[1].clone()).or_insert_with(|| score.to_bits());
                    if f64::from_bits(*held) != score {
                        *held = score.to_bits();
                    }
                }
            }
            b"HMSET" => {
                let Held::Hash(fields) = self.make(key, Held::Hash(BTreeMap::new())) else {
                    panic!()
                };
                for pair in args[2..].chunks_exact(2) {
                    fields.insert(pair[0].clone(), (pair[1].clone(), None));
                }
            }
            b"HPEXPIREAT" => {
                let Some((Held::Hash(fields), _)) = self.keys.get_mut(key) else {
                    return Err("-2".to_owned());
                };
                assert_eq!(number::<usize>(&args[4]), args.len() - 5);
                for field in &args[5..] {
                    fields.get_mut(field).ok_or("-2")?.1 = Some(number(&args[2]));
                }
            }
            b"XADD" => return self.xadd(key, id(&args[2]), &args[3..]),
            b"XSETID" => {
                let Some((Held::Stream { last, history, entries, .. }, _)) = self.keys.get_mut(key)
                else {
                    return Err("no such key".to_owned());
                };
                assert!(entries.last().is_none_or(|(top, _)| *top <= id(&args[2])));
                *last = id(&args[2]);
                if args.len() > 3 {
                    *history = (number(&args[4]), id(&args[6]));
                }
            }
            b"RESTORE" => {
                let groups = elements_of(&args[3]).into_iter().skip(1).collect();
                let none = StreamId::default();
                let held =
                    Held::Stream { entries: Vec::new(), last: none, history: (0, none), groups };
                self.keys.insert(key.clone(), (held, None));
            }
            b"EVAL" => return self.move_entries(&args[3], &args[4], number(&args[5])),
            b"PEXPIREAT" => match self.keys.get_mut(key) {
                Some((_, deadline)) => *deadline = Some(number(&args[2])),
                None => return Err("0".to_owned()),
            },
            b"RENAME" | b"RENAMENX" => {
                let held = self.keys.remove(key).ok_or("ERR no such key")?;
                assert!(command == b"RENAME" || !self.keys.contains_key(&args[2]));
                self.keys.insert(args[2].clone(), held);
            }
            b"EXISTS" if self.keys.contains_key(key) => {}
            b"EXISTS" => return Err("0".to_owned()),
            other => panic!("{}", other.escape_ascii()),
        }
        Ok(())
    }

    fn xadd(&mut self, key: &[u8], at: StreamId, fields: &[Vec<u8>]) -> Answer {
        let none = StreamId::default();
        let empty = Held::Stream {
            entries: Vec::new(),
            last: none,
            history: (0, none),
            groups: Vec::new(),
        };
        let Held::Stream { entries, last, history, .. } = self.make(key, empty) else { panic!() };
        if at <= *last {
            return Err(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item"
                    .to_owned(),
            );
        }
        *last = at;
        history.0 += 1;
        entries.push((at, fields.to_vec()));
        Ok(())
    }

    /// What the script does.
    fn move_entries(&mut self, from: &[u8], to: &[u8], count: usize) -> Answer {
        let Some((Held::Stream { entries, .. }, _)) = self.keys.get_mut(from) else {
            return Ok(());
        };
        let moved: Vec<_> = entries.drain(..count.min(entries.len())).collect();
        moved.into_iter().try_for_each(|(at, fields)| self.xadd(to, at, &fields))
    }
}

/// The elements of a payload, as text.
fn elements_of(payload: &[u8]) -> Vec<String> {
    let object = ObjectType::decode(payload[0], crate::rdb::format::Family::Redis).unwrap();
    let (mut parser, mut rest, mut found) = (Parser::for_value(object), &payload[1..], Vec::new());
    loop {
        let (step, used) = parser.step(rest).unwrap();
        match step {
            Step::Event(Event::Element(element)) => found.push(format!("{element:?}")),
            _ => return found,
        }
        rest = &rest[used..];
    }
}

fn commands(batch: &Batch) -> Vec<Vec<Vec<u8>>> {
    let (mut reader, mut rest, mut commands) =
        (CommandReader::default(), &batch.bytes()[..], Vec::new());
    while !rest.is_empty() {
        let used = reader.read(rest).unwrap().unwrap();
        commands.push(reader.args(&rest[..used]).map(<[u8]>::to_vec).collect());
        rest = &rest[used..];
    }
    assert_eq!(commands.len(), batch.expects().len());
    commands
}

/// Plays batches as a link does that is lost, and a target that has no memory for a while: `dice` says when.
fn play(batches: &[Batch], model: &mut Model, mut dice: impl Iterator<Item = usize>) {
    let all: Vec<_> = batches.iter().map(commands).collect();
    let mut repeated = vec![false; batches.len()];
    let mut next = 0;
    while next < batches.len() {
        // What may be on its way together.
        let behind =
            batches[next + 1..].iter().take_while(|batch| !batches[next].barrier && !batch.barrier);
        let sent = next..next + 1 + behind.count();
        let total: usize = sent.clone().map(|at| all[at].len()).sum();
        let fault = dice.next().unwrap_or(0);
        let mut left = if fault % 3 == 1 { dice.next().unwrap_or(0) % (total + 1) } else { total };
        let mut first_refused = None;
        let mut done = next;
        for at in sent.clone() {
            for (index, command) in all[at].iter().enumerate() {
                if left == 0 {
                    break;
                }
                left -= 1;
                let takes_memory = !matches!(
                    command[0].as_slice(),
                    b"DEL"
                        | b"UNLINK"
                        | b"LTRIM"
                        | b"EXEC"
                        | b"RENAME"
                        | b"RENAMENX"
                        | b"EXISTS"
                        | b"XSETID"
                        | b"PEXPIREAT"
                        | b"HPEXPIREAT"
                );
                let refused = fault % 3 == 2
                    && takes_memory
                    && dice.next().is_some_and(|die| die.is_multiple_of(4));
                let answer = model.run(command, refused);
                if let Err(error) = answer {
                    if refused || error == "EXECABORT" {
                        first_refused.get_or_insert(at);
                    } else if first_refused.is_none() {
                        let was_done = match batches[at].expects()[index] {
                            Expect::Renamed => error.contains("no such key"),
                            Expect::Executed => error.contains("equal or smaller"),
                            _ => false,
                        };
                        assert!(
                            repeated[at] && was_done,
                            "{:?}: {error}",
                            command[0].escape_ascii().to_string()
                        );
                    }
                }
                if index + 1 == all[at].len() {
                    done = at + 1;
                }
            }
        }
        if fault % 3 == 1 {
            // As many replies as one likes were read before the link was lost.
            model.lose_link();
            repeated[sent].fill(true);
            next += dice.next().unwrap_or(0) % (done - next + 1);
        } else {
            next = first_refused.unwrap_or(sent.end);
        }
    }
}

const TARGET: Server = Server { flavour: Flavour::Redis, version: Version(8, 0, 0) };

fn limits(piece: usize, whole: usize) -> Limits {
    Limits { whole, piece, held: whole }
}

fn pieces(size: usize) -> Pieces {
    Pieces::new(TARGET, Existing::Replace, limits(size, 1 << 20), "run".to_owned())
}

/// Elements, with the strings that they borrow.
#[derive(Clone, Debug)]
enum Part {
    Text(u64, u64, Vec<u8>),
    Item(Vec<u8>),
    Member(Vec<u8>),
    Scored(Vec<u8>, f64),
    Field(Vec<u8>, Vec<u8>, Option<i64>),
    Entry(StreamId, Vec<Vec<u8>>),
    Plain(Element<'static>),
}

fn feed(
    pieces: &mut Pieces,
    object: ObjectType,
    parts: &[Part],
    deadline: Option<i64>,
) -> Vec<Batch> {
    let mut deadlines = Deadlines::new(i64::MAX, 1 << 20);
    pieces.begin(&Head { db: Db::new(3), key: KEY, object, deadline }).unwrap();
    let mut batches = Vec::new();
    for part in parts {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        if let Part::Entry(_, fields) = part {
            for field in fields {
                text.extend_from_slice(field);
                ends.push(text.len());
            }
        }
        let element = match part {
            Part::Text(offset, len, bytes) => Element::Text { offset: *offset, len: *len, bytes },
            Part::Item(item) => Element::Item(item),
            Part::Member(member) => Element::Member(member),
            Part::Scored(member, score) => Element::Scored { member, score: *score },
            Part::Field(field, value, at) => Element::Field { field, value, expire_at_ms: *at },
            Part::Entry(id, _) => Element::Entry { id: *id, fields: Fields::new(&text, &ends) },
            Part::Plain(element) => *element,
        };
        pieces.element(&element, &mut deadlines).unwrap();
        batches.extend(std::iter::from_fn(|| pieces.poll_batch()));
    }
    pieces.end().unwrap();
    batches.extend(std::iter::from_fn(|| pieces.poll_batch()));
    batches
}

fn name(number: usize) -> Vec<u8> {
    format!("{number}:{}", "x".repeat(number % 23)).into_bytes()
}

fn id_of(number: usize) -> StreamId {
    StreamId { ms: 1000 + number as u64 / 3, seq: number as u64 }
}

/// A value of so many elements, by kind, and what a target should hold then.
fn value(kind: usize, count: usize) -> (ObjectType, Vec<Part>, Held) {
    let names = || (0..count).map(name);
    match kind {
        0 => {
            let text: Vec<u8> = names().flatten().collect();
            let len = text.len();
            let mut parts: Vec<_> = text
                .chunks(17)
                .enumerate()
                .map(|(nth, bytes)| Part::Text(17 * nth as u64, len as u64, bytes.to_vec()))
                .collect();
            if parts.is_empty() {
                parts.push(Part::Text(0, 0, Vec::new()));
            }
            (ObjectType::String, parts, Held::String(text))
        }
        1 => (
            ObjectType::ListQuicklist2,
            names().map(Part::Item).collect(),
            Held::List(names().collect()),
        ),
        2 => (ObjectType::Set, names().map(Part::Member).collect(), Held::Set(names().collect())),
        3 => {
            let score = |number: usize| match number % 7 {
                0 if count > 500 => -0.0,
                1 => f64::INFINITY,
                2 => 1e-310,
                _ => 1.0 / (number + 3) as f64,
            };
            let scored = || names().enumerate().map(|(number, member)| (member, score(number)));
            let held = scored().map(|(member, score)| (member, score.to_bits())).collect();
            let parts = scored().map(|(member, score)| Part::Scored(member, score)).collect();
            (ObjectType::Zset2, parts, Held::Zset(held))
        }
        4 => {
            let at = |number: usize| {
                (number % 5 > 2).then_some(7_000 + i64::try_from(number / 9).unwrap())
            };
            let fields =
                || names().enumerate().map(|(number, field)| (field, name(number / 2), at(number)));
            let held = fields()
                .map(|(field, value, at)| (field, (value, at.map(|at| at + SHIFT))))
                .collect();
            let parts = fields().map(|(field, value, at)| Part::Field(field, value, at)).collect();
            (ObjectType::HashMetadata, parts, Held::Hash(held))
        }
        _ => {
            let entries =
                || (0..count).map(|number| (id_of(number), vec![name(number), b"value".to_vec()]));
            let history = (count as u64 + 5, StreamId { ms: 9_000, seq: 1 });
            let last = StreamId { ms: 10_000, seq: 0 };
            let meta = StreamMeta {
                length: count as u64,
                last_id: last,
                more: Some(StreamHistory {
                    first_id: id_of(0),
                    max_deleted_id: history.1,
                    entries_added: history.0,
                }),
            };
            let mut parts: Vec<_> = entries().map(|(id, fields)| Part::Entry(id, fields)).collect();
            parts.push(Part::Plain(Element::Stream(meta)));
            let mut groups = Vec::new();
            if kind > 5 {
                let dead = StreamId { ms: 3, seq: 3 };
                for element in [
                    Element::Group { name: b"readers", last_id: id_of(5), entries_read: Some(4) },
                    Element::Pending { id: dead, delivered_at_ms: 77, deliveries: 2 },
                    Element::Pending { id: id_of(1), delivered_at_ms: 78, deliveries: 1 },
                    Element::Consumer { name: b"alice", seen_at_ms: 80, active_at_ms: Some(79) },
                    Element::Owned(dead),
                    Element::Owned(id_of(1)),
                    Element::Consumer { name: b"bob", seen_at_ms: 81, active_at_ms: None },
                ] {
                    parts.push(Part::Plain(element));
                    groups.push(format!("{element:?}"));
                }
            }
            let held = Held::Stream { entries: entries().collect(), last, history, groups };
            (ObjectType::StreamListpacks3, parts, held)
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_again_the_value_is_the_source_s(
        kind in 0..7_usize,
        count in prop_oneof![1..60_usize, 500..1500_usize],
        size in prop_oneof![Just(1_usize), 20..400_usize, 4000..70_000_usize],
        deadline in prop::option::of(1..i64::MAX),
        dice in prop::collection::vec(any::<u16>(), 0..60),
    ) {
        let (object, parts, held) = value(kind, if kind == 0 || size > 1 { count } else { count.min(60) });
        let batches = feed(&mut pieces(size), object, &parts, deadline);
        let mut model = Model::default();
        model.keys.insert(KEY.to_vec(), (Held::String(b"what was there before".to_vec()), None));
        play(&batches, &mut model, dice.iter().map(|die| usize::from(*die)));
        let found = model.keys.remove(KEY).expect("the value has its name");
        let same = found == (held, deadline);
        prop_assert!(same, "another value, or another deadline");
        prop_assert!(model.keys.is_empty(), "a temporary key was left");
    }
}

#[test]
fn a_batch_is_a_piece_of_its_size_and_counts_the_key_once() {
    let (object, parts, _) = value(1, 5000);
    let mut pieces = pieces(4096);
    let batches = feed(&mut pieces, object, &parts, Some(5));
    assert!(
        batches
            .iter()
            .all(|batch| batch.bytes().len() < 2 * 4096 && batch.piece.as_deref() == Some(KEY))
    );
    assert!(batches.iter().all(|batch| batch.opens_in() == Db::new(3)));
    assert!(batches.len() > 20);
    let keys: Vec<_> =
        batches.iter().map(|batch| (batch.carries.keys, batch.carries.renamed)).collect();
    assert_eq!(keys.last(), Some(&(1, 1)));
    assert_eq!(keys.iter().map(|(keys, _)| keys).sum::<u64>(), 1);
    let barriers: Vec<_> = batches.iter().rev().map(|batch| batch.barrier).take(3).collect();
    assert_eq!(barriers, [true, true, false], "the deadline, then the name");
}

#[test]
fn what_may_be_left_is_removed_until_it_has_its_name() {
    let mut pieces = pieces(100);
    let removed = |batch: Option<Batch>| -> Vec<String> {
        let words = batch.iter().flat_map(commands).flatten();
        words.map(|word| String::from_utf8(word).unwrap()).collect()
    };
    let (object, parts, _) = value(2, 100);
    feed(&mut pieces, object, &parts, None);
    let (object, _, _) = value(5, 1);
    pieces.begin(&Head { db: Db::new(0), key: KEY, object, deadline: None }).unwrap();
    pieces.renamed(1);
    let batch = pieces.abandon();
    assert!(
        batch.as_ref().is_some_and(|batch| batch.barrier),
        "not before pieces that are sent again"
    );
    assert_eq!(removed(batch), ["UNLINK", "understudy:tmp:run:2", "understudy:tmp:run:2:groups"]);
    assert_eq!(pieces.abandon(), None, "once");
    assert!(!pieces.is_open());
}

#[test]
fn a_modules_value_is_refused_with_its_type_and_size() {
    let mut pieces = Pieces::new(TARGET, Existing::Replace, limits(100, 4), "run".to_owned());
    let object = ObjectType::Module2;
    pieces.begin(&Head { db: Db::new(0), key: KEY, object, deadline: None }).unwrap();
    let mut deadlines = Deadlines::new(0, 1000);
    let module = ModuleId::new(0x4478_24e2_37cb_9403);
    for bytes in [&b"abc"[..], b"defgh"] {
        pieces.element(&Element::Module { module, bytes }, &mut deadlines).unwrap();
    }
    let error = pieces.end().unwrap_err();
    assert_eq!(error, CopyError::TooLarge { what: format!("module:{module}"), size: 8, limit: 4 });
    assert_eq!(pieces.poll_batch(), None);
    assert_eq!(pieces.abandon(), None, "nothing was written");
}

#[test]
fn what_a_target_cannot_hold_is_refused_at_its_first_element() {
    let old = Server { flavour: Flavour::Redis, version: Version(3, 2, 0) };
    let mut pieces = Pieces::new(old, Existing::Replace, limits(100, 100), "run".to_owned());
    let head = |object| Head { db: Db::new(0), key: KEY, object, deadline: None };
    let refused = |what| CopyError::from(Unsupported { what, server: old });
    assert_eq!(pieces.begin(&head(ObjectType::StreamListpacks)), Err(refused(Feature::Streams)));
    pieces.begin(&head(ObjectType::HashMetadata)).unwrap();
    let mut deadlines = Deadlines::new(0, 1000);
    let field = |at| Element::Field { field: b"f", value: b"v", expire_at_ms: at };
    pieces.element(&field(None), &mut deadlines).unwrap();
    let error = pieces.element(&field(Some(1)), &mut deadlines);
    assert_eq!(error, Err(refused(Feature::FieldDeadlines)));
}

#[test]
fn a_score_is_written_so_that_it_is_read_again() {
    for score in [
        0.1,
        -2.5,
        1e308,
        5e-324,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        2.225_073_858_507_201_4e-308,
    ] {
        let mut text = [0; 32];
        let read: f64 = number(put_score(&mut text, score));
        assert_eq!(read.to_bits(), score.to_bits());
    }
}
