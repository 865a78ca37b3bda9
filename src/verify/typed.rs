//! A value that is read by the commands of its type, a part after the other, where `DUMP` is not to be had.
//!
//! ```text
//! TYPE, when it dies ──▶ string  GETRANGE …            zset    ZRANGE … WITHSCORES
//!                        list    LRANGE …              hash    HSCAN …, HPEXPIRETIME of its fields where fields can die
//!                        set     SSCAN …               stream  XRANGE …, XINFO STREAM, GROUPS, CONSUMERS, XPENDING …
//! ```
//! What is asked for at once grows until an answer is as large as it may be. A value that is changed meanwhile may be read as one that it never
//! was; whoever compares looks at it again.

use std::mem::take;

use crate::rdb::event::{Element, Fields, StreamHistory, StreamId, StreamMeta};
use crate::rdb::opcode::ValueType;
use crate::server::{Flavour, Server, Version};

use super::digest::{Content, Digester, Times};

/// An answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A text, or a status.
    Text(Vec<u8>),
    /// Several.
    Many(Vec<Self>),
}

/// A command with its arguments.
pub type Question = Vec<Vec<u8>>;

/// A field and its value, or a member and its score.
type Pair = (Vec<u8>, Vec<u8>);

/// A key that is read.
#[derive(Debug)]
pub struct Typed {
    key: Vec<u8>,
    server: Server,
    digester: Digester,
    stage: Stage,
    /// So many elements, or bytes of a string, are asked for.
    page: usize,
    deadline: Deadline,
}

/// When a key dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Never.
    Never,
    /// Then, in milliseconds since 1970, by the server's clock.
    At(i64),
    /// The clock went on while it was asked for: nobody knows to the millisecond.
    Unclear,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Read {
    /// There is no such key, or nothing of it lives.
    Gone,
    /// Its value, and when it dies.
    Value(Content, Deadline),
}

/// Why a value cannot be read so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// No command gives all that is in it.
    #[error("a value of the type {0} can be read by DUMP only")]
    Module(String),
    /// It answers something else than was asked.
    #[error("it answers something else than was asked for")]
    Unexpected,
}

#[derive(Debug, Default)]
enum Stage {
    Kind,
    Text {
        at: usize,
    },
    List {
        at: usize,
    },
    Set {
        cursor: Vec<u8>,
    },
    Zset {
        at: usize,
    },
    Hash {
        cursor: Vec<u8>,
    },
    /// Fields with their values, whose deadlines are asked for; then it goes on from this cursor.
    Dying {
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
        cursor: Vec<u8>,
    },
    Entries {
        from: StreamId,
    },
    Stream,
    /// Consumers of the first of these groups, which was told.
    Consumers {
        groups: Vec<Vec<u8>>,
    },
    /// What is pending for the first of these consumers, from here on.
    Pending {
        groups: Vec<Vec<u8>>,
        consumers: Vec<Vec<u8>>,
        from: StreamId,
    },
    #[default]
    Done,
}

/// So many elements are asked for at first, and at most; bytes of a string a thousand times as many.
const FIRST: usize = 64;
const MOST: usize = 4096;
const BYTES: usize = 1 << 10;

/// An answer of so many bytes is large.
const LARGE: usize = 64 << 10;

impl Typed {
    /// A key of this server. Its digest can be compared with others of this seed.
    #[must_use]
    pub fn new(key: Vec<u8>, server: Server, seed: u64) -> Self {
        let (digester, stage) = (Digester::new(seed), Stage::Kind);
        Self { key, server, digester, stage, page: FIRST, deadline: Deadline::Never }
    }

    /// Its name.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What is asked next; nothing when all was read.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let about = |words: &[&str], args: &[&[u8]]| {
            let mut question: Question =
                words.iter().map(|word| word.as_bytes().to_vec()).collect();
            question.push(self.key.clone());
            question.extend(args.iter().map(|arg| arg.to_vec()));
            question
        };
        let time = || vec![b"TIME".to_vec()];
        let number = |number: usize| number.to_string().into_bytes();
        let count = number(self.page);
        match &self.stage {
            Stage::Kind if self.tells_deadlines() => {
                vec![about(&["TYPE"], &[]), about(&["PEXPIRETIME"], &[])]
            }
            Stage::Kind => vec![about(&["TYPE"], &[]), time(), about(&["PTTL"], &[]), time()],
            Stage::Text { at } => {
                let last = number(at + self.page * BYTES - 1);
                vec![about(&["GETRANGE"], &[&number(*at), &last])]
            }
            Stage::List { at } => {
                vec![about(&["LRANGE"], &[&number(*at), &number(at + self.page - 1)])]
            }
            Stage::Set { cursor } => vec![about(&["SSCAN"], &[cursor, b"COUNT", &count])],
            Stage::Zset { at } => {
                let last = number(at + self.page - 1);
                vec![about(&["ZRANGE"], &[&number(*at), &last, b"WITHSCORES"])]
            }
            Stage::Hash { cursor } => vec![about(&["HSCAN"], &[cursor, b"COUNT", &count])],
            Stage::Dying { pairs, .. } => {
                let mut question = about(&["HPEXPIRETIME"], &[b"FIELDS", &number(pairs.len())]);
                question.extend(pairs.iter().map(|(field, _)| field.clone()));
                vec![question]
            }
            Stage::Entries { from } => {
                let from = from.to_string().into_bytes();
                vec![about(&["XRANGE"], &[&from, b"+", b"COUNT", &count])]
            }
            Stage::Stream => {
                vec![about(&["XINFO", "STREAM"], &[]), about(&["XINFO", "GROUPS"], &[])]
            }
            Stage::Consumers { groups } => { groups.first().into_iter() }
                .map(|group| about(&["XINFO", "CONSUMERS"], &[group]))
                .collect(),
            Stage::Pending { groups, consumers, from } => {
                let from = from.to_string().into_bytes();
                let of = groups.first().zip(consumers.first()).into_iter();
                of.flat_map(|(group, consumer)| {
                    let pending = about(&["XPENDING"], &[group, &from, b"+", &count, consumer]);
                    [time(), pending, time()]
                })
                .collect()
            }
            Stage::Done => Vec::new(),
        }
    }

    /// Takes the answers to all that was asked. `Some`: that was all.
    ///
    /// # Errors
    /// If it cannot be read by the commands of its type, or the server answers something else.
    pub fn take(
        &mut self,
        answers: Vec<Answer>,
        times: &Times,
    ) -> Result<Option<Read>, TypedError> {
        let size: usize = answers.iter().map(Answer::size).sum();
        let page = self.page;
        // Next time more is asked for, or less.
        self.page = match size {
            0..LARGE => (page * 2).min(MOST),
            _ => (page / 2).max(1),
        };
        let mut answers = answers.into_iter();
        let mut next = || answers.next().ok_or(TypedError::Unexpected);
        match take(&mut self.stage) {
            Stage::Kind => {
                let kind = next()?.text()?;
                self.deadline = match self.tells_deadlines() {
                    true => deadline(0, next()?.int()?),
                    false => {
                        let (before, left, after) =
                            (next()?.millis()?, next()?.int()?, next()?.millis()?);
                        match deadline(before, left) {
                            Deadline::At(_) if before != after => Deadline::Unclear,
                            told => told,
                        }
                    }
                };
                return self.begin(&kind);
            }
            Stage::Text { at } => {
                let text = next()?.text()?;
                let is_last = text.len() < page * BYTES;
                let len = if at == 0 && is_last { text.len() as u64 } else { u64::MAX };
                self.digester.add(&Element::Text { offset: at as u64, len, bytes: &text }, times);
                let at = at + text.len();
                self.stage = if is_last { Stage::Done } else { Stage::Text { at } };
            }
            Stage::List { at } => {
                let items = next()?.texts()?;
                items.iter().for_each(|item| self.digester.add(&Element::Item(item), times));
                let at = at + items.len();
                self.stage = if items.len() < page { Stage::Done } else { Stage::List { at } };
            }
            Stage::Set { .. } => {
                let (cursor, members) = next()?.scanned()?;
                members.iter().for_each(|one| self.digester.add(&Element::Member(one), times));
                self.stage = if cursor == b"0" { Stage::Done } else { Stage::Set { cursor } };
            }
            Stage::Zset { at } => {
                let pairs = pairs(next()?.texts()?)?;
                for (member, score) in &pairs {
                    let score = std::str::from_utf8(score).ok().and_then(|text| text.parse().ok());
                    let score = score.ok_or(TypedError::Unexpected)?;
                    self.digester.add(&Element::Scored { member, score }, times);
                }
                let at = at + pairs.len();
                self.stage = if pairs.len() < page { Stage::Done } else { Stage::Zset { at } };
            }
            Stage::Hash { .. } => {
                let (cursor, fields) = next()?.scanned()?;
                let pairs = pairs(fields)?;
                if self.has_dying_fields() && !pairs.is_empty() {
                    (self.stage, self.page) = (Stage::Dying { pairs, cursor }, page);
                } else {
                    self.fields(&pairs, &[], times);
                    self.stage = if cursor == b"0" { Stage::Done } else { Stage::Hash { cursor } };
                }
            }
            Stage::Dying { pairs, cursor } => {
                let deadlines = match next()? {
                    Answer::Many(told) => {
                        { told.into_iter() }.map(Answer::int).collect::<Result<Vec<_>, _>>()?
                    }
                    // The key has gone.
                    _ => return Ok(Some(Read::Gone)),
                };
                self.fields(&pairs, &deadlines, times);
                self.stage = if cursor == b"0" { Stage::Done } else { Stage::Hash { cursor } };
            }
            Stage::Entries { from } => {
                let entries = next()?.many()?;
                let is_full = entries.len() >= page;
                let mut from = Some(from);
                for entry in entries {
                    let [id, fields] = entry.array()?;
                    let id = id.id()?;
                    let texts = fields.texts()?;
                    let ends: Vec<usize> = { texts.iter() }
                        .scan(0, |end, text| {
                            *end += text.len();
                            Some(*end)
                        })
                        .collect();
                    let text = texts.concat();
                    let fields = Fields::new(&text, &ends);
                    self.digester.add(&Element::Entry { id, fields }, times);
                    from = next_id(id);
                }
                let from = from.filter(|_| is_full);
                self.stage = from.map_or(Stage::Stream, |from| Stage::Entries { from });
            }
            Stage::Stream => {
                self.stream(&next()?, times)?;
                let mut groups = Vec::new();
                for group in next()?.many()? {
                    groups.push(self.group(&group, times)?);
                }
                self.stage = Stage::Consumers { groups };
                self.page = FIRST;
                // They are told one after the other, as each stands before what is its own.
                return Ok(self.group_begins());
            }
            Stage::Consumers { groups } => {
                let mut consumers = Vec::new();
                for consumer in next()?.many()? {
                    consumers.push(
                        consumer.field("name").ok_or(TypedError::Unexpected)?.clone().text()?,
                    );
                }
                self.stage = Stage::Pending { groups, consumers, from: StreamId::default() };
                return Ok(self.consumer_begins(times));
            }
            Stage::Pending { groups, consumers, from } => {
                let (before, pending, after) =
                    (next()?.millis()?, next()?.many()?, next()?.millis()?);
                if before != after && !pending.is_empty() {
                    // How long ago it was delivered stands on the clock: asked again, for less.
                    self.page = (page / 2).max(1);
                    self.stage = Stage::Pending { groups, consumers, from };
                    return Ok(None);
                }
                self.page = page.max(FIRST);
                return self.pending((groups, consumers, from), pending, (before, page), times);
            }
            Stage::Done => {}
        }
        Ok(self.ended())
    }

    fn begin(&mut self, kind: &[u8]) -> Result<Option<Read>, TypedError> {
        let start = || b"0".to_vec();
        let (kind, stage) = match kind {
            b"none" => return Ok(Some(Read::Gone)),
            b"string" => (ValueType::String, Stage::Text { at: 0 }),
            b"list" => (ValueType::List, Stage::List { at: 0 }),
            b"set" => (ValueType::Set, Stage::Set { cursor: start() }),
            b"zset" => (ValueType::Zset, Stage::Zset { at: 0 }),
            b"hash" => (ValueType::Hash, Stage::Hash { cursor: start() }),
            b"stream" => (ValueType::Stream, Stage::Entries { from: StreamId::default() }),
            other => return Err(TypedError::Module(String::from_utf8_lossy(other).into_owned())),
        };
        self.digester.begin(kind);
        (self.stage, self.page) = (stage, FIRST);
        Ok(None)
    }

    fn ended(&mut self) -> Option<Read> {
        if !matches!(self.stage, Stage::Done) {
            return None;
        }
        let value = |content| Read::Value(content, self.deadline);
        Some(self.digester.end().map_or(Read::Gone, value))
    }

    fn fields(&mut self, pairs: &[Pair], deadlines: &[i64], times: &Times) {
        for (number, (field, value)) in pairs.iter().enumerate() {
            let told = deadlines.get(number).copied().unwrap_or(-1);
            // It has died since it was read.
            if told != -2 {
                let expire_at_ms = (told >= 0).then_some(told);
                self.digester.add(&Element::Field { field, value, expire_at_ms }, times);
            }
        }
    }

    /// What a stream knows of itself.
    fn stream(&mut self, about: &Answer, times: &Times) -> Result<(), TypedError> {
        let id = |name| about.field(name).map(|id| id.clone().id()).transpose();
        let number = |name| about.field(name).map(|number| number.clone().int()).transpose();
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let more = match (id("max-deleted-entry-id")?, number("entries-added")?) {
            (Some(max_deleted_id), Some(added)) => Some(StreamHistory {
                first_id: id("recorded-first-entry-id")?.unwrap_or_default(),
                max_deleted_id,
                entries_added: count(added),
            }),
            _ => None,
        };
        let last_id = id("last-generated-id")?.ok_or(TypedError::Unexpected)?;
        let length = count(number("length")?.unwrap_or_default());
        self.digester.add(&Element::Stream(StreamMeta { length, last_id, more }), times);
        Ok(())
    }

    /// A group of a stream. Gives its name.
    fn group(&mut self, about: &Answer, times: &Times) -> Result<Vec<u8>, TypedError> {
        let unexpected = || TypedError::Unexpected;
        let name = about.field("name").ok_or_else(unexpected)?.clone().text()?;
        let last_id = about.field("last-delivered-id").ok_or_else(unexpected)?.clone().id()?;
        let entries_read = match about.field("entries-read") {
            Some(Answer::Int(read)) => u64::try_from(*read).ok(),
            _ => None,
        };
        self.digester.add(&Element::Group { name: &name, last_id, entries_read }, times);
        Ok(name)
    }

    /// The next group is that of which is told; without one all was read.
    fn group_begins(&mut self) -> Option<Read> {
        if let Stage::Consumers { groups } = &self.stage {
            match groups.first() {
                Some(group) => self.digester.of_group(group),
                None => self.stage = Stage::Done,
            }
        }
        self.ended()
    }

    /// The next consumer is that of which is told; without one it is the next group's turn.
    fn consumer_begins(&mut self, times: &Times) -> Option<Read> {
        let Stage::Pending { groups, consumers, .. } = &mut self.stage else { return self.ended() };
        if let Some(name) = consumers.first() {
            let (seen_at_ms, active_at_ms) = (0, None);
            self.digester.add(&Element::Consumer { name, seen_at_ms, active_at_ms }, times);
            return None;
        }
        let mut groups = take(groups);
        groups.drain(..1.min(groups.len()));
        self.stage = Stage::Consumers { groups };
        self.group_begins()
    }

    /// What is pending for a consumer, from a place on.
    fn pending(
        &mut self,
        (groups, mut consumers, from): (Vec<Vec<u8>>, Vec<Vec<u8>>, StreamId),
        pending: Vec<Answer>,
        (now_ms, page): (i64, usize),
        times: &Times,
    ) -> Result<Option<Read>, TypedError> {
        let is_full = pending.len() >= page;
        let mut from = Some(from);
        for entry in pending {
            let [id, _, idle, deliveries] = entry.array()?;
            let (id, idle, deliveries) = (id.id()?, idle.int()?, deliveries.int()?);
            let delivered_at_ms = now_ms.saturating_sub(idle);
            let deliveries = u64::try_from(deliveries).unwrap_or_default();
            self.digester.add(&Element::Pending { id, delivered_at_ms, deliveries }, times);
            self.digester.add(&Element::Owned(id), times);
            from = next_id(id);
        }
        if let Some(from) = from.filter(|_| is_full) {
            self.stage = Stage::Pending { groups, consumers, from };
            return Ok(None);
        }
        consumers.drain(..1.min(consumers.len()));
        self.stage = Stage::Pending { groups, consumers, from: StreamId::default() };
        Ok(self.consumer_begins(times))
    }

    fn tells_deadlines(&self) -> bool {
        self.server.as_redis() >= Version(7, 0, 0)
    }

    /// Whether fields of a hash can have deadlines there.
    fn has_dying_fields(&self) -> bool {
        let Server { flavour, version } = self.server;
        match flavour {
            Flavour::Redis => version >= Version(7, 4, 0),
            Flavour::Valkey => version >= Version(9, 0, 0),
            Flavour::Redict => false,
        }
    }
}

impl Answer {
    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        const EACH: usize = 16;
        EACH + match self {
            Self::Nil | Self::Int(_) => 0,
            Self::Text(text) => text.len(),
            Self::Many(many) => many.iter().map(Self::size).sum(),
        }
    }

    fn int(self) -> Result<i64, TypedError> {
        match self {
            Self::Int(number) => Ok(number),
            _ => Err(TypedError::Unexpected),
        }
    }

    fn text(self) -> Result<Vec<u8>, TypedError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(TypedError::Unexpected),
        }
    }

    fn many(self) -> Result<Vec<Self>, TypedError> {
        match self {
            Self::Many(many) => Ok(many),
            _ => Err(TypedError::Unexpected),
        }
    }

    fn array<const N: usize>(self) -> Result<[Self; N], TypedError> {
        self.many()?.try_into().map_err(|_| TypedError::Unexpected)
    }

    fn texts(self) -> Result<Vec<Vec<u8>>, TypedError> {
        self.many()?.into_iter().map(Self::text).collect()
    }

    /// A page of a SCAN: the next cursor, and what was met.
    fn scanned(self) -> Result<(Vec<u8>, Vec<Vec<u8>>), TypedError> {
        let [cursor, met] = self.array()?;
        Ok((cursor.text()?, met.texts()?))
    }

    /// What stands behind a name.
    fn field(&self, name: &str) -> Option<&Self> {
        let Self::Many(many) = self else { return None };
        let is_named = |one: &&[Self]| matches!(one.first(), Some(Self::Text(text)) if text == name.as_bytes());
        many.chunks_exact(2).find(is_named)?.get(1)
    }

    fn id(self) -> Result<StreamId, TypedError> {
        let text = self.text()?;
        let number = |text: &str| text.parse().ok();
        let id = std::str::from_utf8(&text).ok().and_then(|text| {
            let (ms, seq) = text.split_once('-')?;
            Some(StreamId { ms: number(ms)?, seq: number(seq)? })
        });
        id.ok_or(TypedError::Unexpected)
    }

    /// What `TIME` tells.
    fn millis(self) -> Result<i64, TypedError> {
        let [seconds, micros] = self.array()?;
        let number = |text: Vec<u8>| std::str::from_utf8(&text).ok()?.parse::<i64>().ok();
        let both = number(seconds.text()?).zip(number(micros.text()?));
        let (seconds, micros) = both.ok_or(TypedError::Unexpected)?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }
}

fn deadline(now_ms: i64, told: i64) -> Deadline {
    if told < 0 { Deadline::Never } else { Deadline::At(now_ms.saturating_add(told)) }
}

fn pairs(texts: Vec<Vec<u8>>) -> Result<Vec<Pair>, TypedError> {
    let mut texts = texts.into_iter();
    let mut pairs = Vec::with_capacity(texts.len() / 2);
    while let Some(first) = texts.next() {
        pairs.push((first, texts.next().ok_or(TypedError::Unexpected)?));
    }
    Ok(pairs)
}

/// The ID behind this one; `None` behind the greatest.
fn next_id(id: StreamId) -> Option<StreamId> {
    match id.seq.checked_add(1) {
        Some(seq) => Some(StreamId { seq, ..id }),
        None => Some(StreamId { ms: id.ms.checked_add(1)?, seq: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dumped::Dumped;
    use super::*;

    const REDIS_7: Server = Server { flavour: Flavour::Redis, version: Version(7, 0, 0) };
    const REDIS_6: Server = Server { flavour: Flavour::Redis, version: Version(6, 2, 0) };
    const FOOTER: &[u8] = b"\x06\x00\0\0\0\0\0\0\0\0";

    fn text(text: &str) -> Answer {
        Answer::Text(text.as_bytes().to_vec())
    }

    fn texts(all: &[&str]) -> Answer {
        Answer::Many(all.iter().map(|one| text(one)).collect())
    }

    fn time(micros: u32) -> Answer {
        texts(&["1700000000", &micros.to_string()])
    }

    /// What is read of a key of this type that never dies, by these answers.
    fn read(kind: &str, answers: Vec<Answer>) -> Result<Read, TypedError> {
        let mut typed = Typed::new(b"key".to_vec(), REDIS_7, 7);
        let times = Times::default();
        let mut read = typed.take(vec![text(kind), Answer::Int(-1)], &times)?;
        for answer in answers {
            assert_eq!((read, typed.questions().len()), (None, 1));
            read = typed.take(vec![answer], &times)?;
        }
        assert!(read.is_none() || typed.questions().is_empty());
        Ok(read.unwrap())
    }

    fn dumped(value: &[u8]) -> Read {
        let payload = [value, FOOTER].concat();
        let times = Times::default();
        let content = Dumped::content(&payload, 1 << 20, &mut Digester::new(7), &times);
        Read::Value(content.unwrap().unwrap(), Deadline::Never)
    }

    #[test]
    fn a_value_is_what_its_dump_says() {
        let page = |cursor: &str, met: &[&str]| Answer::Many(vec![text(cursor), texts(met)]);
        for (kind, answers, dump) in [
            ("string", vec![text("ab")], &b"\x00\x02ab"[..]),
            ("string", vec![text("")], b"\x00\x00"),
            ("list", vec![texts(&["a", "b"])], b"\x01\x02\x01a\x01b"),
            ("set", vec![page("7", &["b"]), page("0", &["a"])], b"\x02\x02\x01a\x01b"),
            ("hash", vec![page("0", &["f", "v"])], b"\x04\x01\x01f\x01v"),
            ("zset", vec![texts(&["a", "-0", "b", "inf"])], b"\x03\x02\x01b\xfe\x01a\x010"),
        ] {
            assert_eq!(read(kind, answers), Ok(dumped(dump)), "{kind}");
        }
        assert_eq!(read("none", Vec::new()), Ok(Read::Gone));
        assert_ne!(read("list", vec![texts(&["b", "a"])]), read("list", vec![texts(&["a", "b"])]));
    }

    #[test]
    fn a_string_in_pieces_is_what_it_is_whole() {
        let long = "0123456789abcdef".repeat(FIRST * BYTES / 16);
        let pieces = vec![text(&long), text("")];
        let whole = [b"\x00\x80\x00\x01\x00\x00", long.as_bytes()].concat();
        assert_eq!(read("string", pieces), Ok(dumped(&whole)));
    }

    #[test]
    fn a_deadline_that_the_clock_leaves_open_is_unclear() {
        let begin = |second: u32| {
            let mut typed = Typed::new(b"key".to_vec(), REDIS_6, 7);
            let answers = vec![text("string"), time(1000), Answer::Int(5), time(second)];
            assert_eq!(typed.take(answers, &Times::default()), Ok(None));
            typed.take(vec![text("a")], &Times::default()).unwrap().unwrap()
        };
        let Read::Value(_, deadline) = begin(1999) else { panic!() };
        assert_eq!(deadline, Deadline::At(1_700_000_000_006));
        let Read::Value(_, deadline) = begin(2000) else { panic!() };
        assert_eq!(deadline, Deadline::Unclear);
    }

    #[test]
    fn what_no_command_reads_is_told() {
        assert_eq!(read("ReJSON-RL", Vec::new()), Err(TypedError::Module("ReJSON-RL".to_owned())));
        assert_eq!(read("list", vec![Answer::Nil]), Err(TypedError::Unexpected));
        assert_eq!(read("hash", vec![texts(&["0"])]), Err(TypedError::Unexpected));
    }
}
