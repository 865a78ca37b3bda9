//! What masters of all versions sent, played through the replica's side of the protocol in every way of cutting it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use understudy::offset::{Offset, ReplId};
use understudy::repl::{BulkForm, Event, Layout, Part, Resume, Session, Sidecar};

use crate::recorded::{self, Recorded};

/// How bytes are cut into reads.
#[derive(Clone, Copy, Debug)]
enum Cuts {
    Whole,
    EveryByte,
    Random(u64),
}

impl Cuts {
    const ALL: [Self; 5] =
        [Self::Whole, Self::EveryByte, Self::Random(1), Self::Random(0xfeed), Self::Random(77)];

    fn next(&mut self, left: usize) -> usize {
        match self {
            Self::Whole => left,
            Self::EveryByte => 1,
            Self::Random(state) => {
                // xorshift: any sequence will do, as long as its seed can be printed
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let most = [2, 30, 500, 20_000][usize::try_from(*state >> 62).unwrap()];
                1 + usize::try_from(*state % most).unwrap()
            }
        }
    }
}

/// All that a session told of some bytes.
#[derive(Debug, Default, PartialEq)]
struct Told {
    /// Each event, as the digest of its text: values are long.
    events: Vec<u64>,
    layout: Layout,
    /// How often each command came.
    commands: BTreeMap<String, u64>,
    /// Those that came as inline lines.
    inline: BTreeMap<String, u64>,
    /// The commands' bytes, one behind the other.
    stream: Vec<u8>,
    /// Where the session ended.
    offset: Offset,
    position: u64,
    left_over: usize,
    /// What it said was missing, or wrong.
    fault: Option<String>,
}

impl Told {
    fn take(&mut self, event: &Event<'_>) {
        let mut hasher = DefaultHasher::new();
        match event {
            Event::Command(command) => {
                (command.raw, command.end).hash(&mut hasher);
                command.args().for_each(|arg| arg.hash(&mut hasher));
                self.stream.extend_from_slice(command.raw);
                let name = String::from_utf8_lossy(command.args().next().unwrap_or_default());
                let line = String::from_utf8_lossy(command.raw);
                let name = if command.is_inline() {
                    let name = format!("inline:{}", line.trim_end());
                    *self.inline.entry(name.clone()).or_default() += 1;
                    name
                } else {
                    name.into_owned()
                };
                *self.commands.entry(name).or_default() += 1;
            }
            other => format!("{other:?}").hash(&mut hasher),
        }
        self.events.push(hasher.finish());
    }
}

fn play(mut session: Session, bytes: &[u8], mut cuts: Cuts) -> Told {
    let (mut told, mut rest) = (Told::default(), bytes);
    loop {
        match session.poll_event(Duration::ZERO) {
            Ok(Some(event)) => {
                let part = Part::of(&event);
                told.take(&event);
                told.layout.add(part, session.position());
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                told.fault = Some(error.to_string());
                break;
            }
        }
        if rest.is_empty() {
            told.fault = session.unfinished().map(|error| error.to_string());
            break;
        }
        let room = session.buffer();
        let count = cuts.next(rest.len()).min(rest.len()).min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        session.filled(count);
        rest = &rest[count..];
    }
    told.offset = session.offset();
    told.position = session.position();
    told.left_over = session.left_over();
    told
}

/// Where the parts of a recording stand, and the offset at its end.
pub(crate) fn survey(recorded: &Recorded) -> (Offset, Layout) {
    let told = play(asked(recorded), &recorded.bytes, Cuts::Whole);
    assert_eq!(told.fault, None, "{}", recorded.name);
    (told.offset, told.layout)
}

/// The session that the one who recorded this had after its request.
fn asked(recorded: &Recorded) -> Session {
    let sidecar = Sidecar::parse(recorded.sidecar.to_string().as_bytes()).unwrap();
    // Asked for by another name: the answer brings the one that counts, from 4.0 on.
    let other = ReplId::parse(&[b'0'; 40]).unwrap();
    let resume = sidecar.resumes_at().map(|at| Resume { replid: other, ..at });
    Session::asked(sidecar.psync_reply.is_none(), resume)
}

fn as_recorded(recorded: &Recorded) {
    let Recorded { name, bytes, sidecar, .. } = recorded;
    let whole = play(asked(recorded), bytes, Cuts::Whole);
    for cuts in Cuts::ALL {
        assert_eq!(play(asked(recorded), bytes, cuts), whole, "{name}, cut {cuts:?}");
    }

    let Told { layout, .. } = &whole;
    if recorded.scenario() == "version-missing" {
        let fault = whole.fault.unwrap_or_default();
        assert!(fault.contains("before the RDB payload begins"), "{name}: {fault}");
        return;
    }
    assert_eq!(whole.fault, None, "{name}");
    let pings: Vec<u64> = sidecar["newline_pings_at"]
        .as_array()
        .map(|pings| pings.iter().filter_map(serde_json::Value::as_u64).collect())
        .unwrap_or_default();
    assert_eq!(layout.newline_pings_at, pings, "{name}");
    assert_eq!(layout.bulk_header_at, recorded.number("bulk_header_at"), "{name}");
    assert_eq!(layout.rdb_start, recorded.number("rdb_start"), "{name}");
    assert_eq!(layout.rdb_end, recorded.number("rdb_end"), "{name}");
    assert_eq!(layout.stream_start, recorded.number("stream_start"), "{name}");
    let mark = layout.eof_mark.map(|mark| String::from_utf8(mark.to_vec()).unwrap());
    assert_eq!(mark.as_deref(), sidecar["eof_mark"].as_str(), "{name}");

    assert_eq!(bytes.len() as u64, recorded.number("total_bytes").unwrap(), "{name}");
    let tail = recorded.number("incomplete_tail_bytes").unwrap();
    assert_eq!(layout.whole + tail, bytes.len() as u64, "{name}");
    assert_eq!((whole.position, whole.left_over as u64), (layout.whole, tail), "{name}");
    assert_eq!(
        layout.offset_at(bytes.len() as u64).map(Offset::get),
        recorded.number("end_offset"),
        "{name}"
    );
    let stream = bytes.len() as u64 - layout.stream_start.unwrap();
    assert_eq!(
        whole.offset.get() + tail,
        recorded.number("start_offset").unwrap_or(0) + stream,
        "{name}"
    );
    assert_eq!(Some(layout.command_count), recorded.number("command_count"), "{name}");
    assert_eq!(serde_json::json!(whole.commands), sidecar["commands"], "{name}");
    assert_eq!(serde_json::json!(whole.inline), sidecar["inline_lines"], "{name}");

    let replid = layout.at.map(|at| at.replid.to_string());
    if recorded.sidecar["psync_reply"] == "+CONTINUE" {
        // Before 4.0 the answer names no history: it is the one that was asked for.
        assert_eq!(replid, Some("0".repeat(40)), "{name}");
    } else {
        assert_eq!(replid.as_deref(), sidecar["replid"].as_str(), "{name}");
    }
    if let Some(server) = layout.server {
        let named = format!("{}-{}", server.flavour, server.version).to_lowercase();
        assert_eq!(named, recorded.server(), "{name}");
    }
}

#[test]
fn fixtures_are_told_as_they_were_recorded() {
    let fixtures = recorded::fixtures();
    fixtures.iter().for_each(as_recorded);
    // Each kind of thing is among them.
    let any = |test: fn(&Recorded) -> bool| fixtures.iter().any(test);
    assert!(any(|one| one.sidecar["bulk_form"] == "eof" && one.number("stream_bytes") > Some(0)));
    assert!(any(|one| one.sidecar["psync_reply"].is_null()), "SYNC");
    assert!(any(|one| one.number("incomplete_tail_bytes") > Some(0)), "a cut command");
    assert!(any(|one| one.sidecar["full_sync"] == false), "a partial synchronization");
    assert!(any(|one| !one.sidecar["inline_lines"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)));
}

#[test]
fn the_corpus_is_told_as_it_was_recorded() {
    let Some(corpus) = recorded::corpus() else { return };
    corpus.iter().for_each(as_recorded);
}

/// What a sidecar of ours would say is what theirs says.
#[test]
fn a_sidecar_says_what_the_bytes_say() {
    for recorded in recorded::fixtures().iter().filter(|one| one.number("stream_start").is_some()) {
        let Told { layout, .. } = play(asked(recorded), &recorded.bytes, Cuts::Whole);
        let mut ours = Sidecar::default();
        ours.describe(&layout, Some(recorded.bytes.len() as u64));
        let theirs = Sidecar::parse(recorded.sidecar.to_string().as_bytes()).unwrap();
        assert_eq!(ours.version, Some(1));
        assert_eq!(ours.bulk_form == Some(BulkForm::Eof), ours.eof_mark.is_some());
        let (ours, theirs) = (without_circumstances(ours), without_circumstances(theirs));
        assert_eq!(ours, theirs, "{}", recorded.name);
    }
}

fn without_circumstances(sidecar: Sidecar) -> Sidecar {
    Sidecar {
        version: None,
        server: None,
        file: None,
        recorded_from_ms: None,
        recorded_to_ms: None,
        requests: Vec::new(),
        psync_reply: None,
        replid: None,
        ..sidecar
    }
}

/// The first part of a cut stream and the part that was fetched after it are one stream: they meet at the last whole command.
#[test]
fn a_resumed_stream_goes_on_where_it_was_cut() {
    let mut joined = 0;
    let mut recordings = recorded::fixtures();
    recordings.extend(recorded::corpus().unwrap_or_default());
    for second in recordings.iter().filter(|one| one.sidecar["continues"].is_string()) {
        let first = second.sidecar["continues"].as_str().unwrap();
        let first = format!("{}/{first}", second.server());
        let first = recordings.iter().find(|one| one.name == first).unwrap();
        let (a, b) = (
            play(asked(first), &first.bytes, Cuts::Whole),
            play(asked(second), &second.bytes, Cuts::Whole),
        );
        let resumed = second.number("resume_offset").unwrap();
        let at = a.layout.stream_start.unwrap() + resumed - first.number("start_offset").unwrap();
        assert!(at <= a.layout.whole, "{}: nothing was asked for twice", second.name);

        // As if the link had never been cut.
        let uncut = [&first.bytes[..usize::try_from(at).unwrap()], &b.stream].concat();
        let told = play(asked(first), &uncut, Cuts::Random(3));
        assert_eq!(told.fault, None, "{}", second.name);
        assert_eq!(told.offset.get(), second.number("end_offset").unwrap(), "{}", second.name);
        assert_eq!(told.offset, b.offset, "{}", second.name);
        let before = usize::try_from(resumed - first.number("start_offset").unwrap()).unwrap();
        assert_eq!(told.stream, [&a.stream[..before], &b.stream].concat(), "{}", second.name);
        joined += 1;
    }
    assert!(joined >= 3, "{joined}");
}

/// A payload that is cut short is an error with its place, wherever the cut is; a stream may end anywhere.
#[test]
fn a_cut_payload_is_an_error() {
    for name in ["redis-5.0.6/diskless", "redis-3.2.6/keepalive-diskless", "redict-7.3.6/cluster"] {
        let recorded = recorded::fixture(name);
        let begin = usize::try_from(recorded.number("stream_start").unwrap()).unwrap();
        for end in 0..recorded.bytes.len().min(begin + 600) {
            let told = play(asked(&recorded), &recorded.bytes[..end], Cuts::Whole);
            assert_eq!(told.fault.is_some(), end < begin, "{name} cut at {end}: {:?}", told.fault);
        }
        let mut session = asked(&recorded);
        let cut = begin - 60;
        session.buffer()[..cut].copy_from_slice(&recorded.bytes[..cut]);
        session.filled(cut);
        while session.poll_event(Duration::ZERO).unwrap().is_some() {}
        let error = session.unfinished().unwrap();
        assert!(error.is_damage(), "{error}");
    }
}
