//! What is said over a job's socket: a word and a line feed, and one JSON object on a line of its own in answer. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy::cutover::{Allowed, Fence, Gone, Lifted, Told, Verdict, Wanted};
use understudy::flow::{Order, OwnName, TooLate, chain};
use understudy::key::Db;
use understudy::progress::{Counters, Phase};
use understudy::repl::Latin1;
use understudy::verify::Sample;

use super::super::report;

/// The version of the answers' form.
const VERSION: u32 = 1;

/// No request is longer, in bytes: names of keys may stand in it.
pub(super) const LONGEST_REQUEST: u64 = 1 << 20;

/// No answer is longer, in bytes: some hundred for each source.
pub(super) const LONGEST_ANSWER: u64 = 1 << 20;

/// What is asked of a running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// How it stands.
    Status,
    /// To do something from now on.
    Do(Order),
    /// Which fences its sources allow.
    Fences,
    /// To take away fences that a cutover has left.
    Lift,
    /// To be switched. The answer has a line for each step.
    CutOver(Wish),
    /// To read keys anew.
    Mend(Keys),
}

/// Keys of one source, as they are said over the socket behind the word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    source: String,
    /// Each by the database and name that it has there, one code point a byte.
    keys: Vec<(u32, Latin1)>,
}

impl Keys {
    pub(super) fn new(source: &str, keys: Vec<OwnName>) -> Self {
        let keys = keys.into_iter().map(|(db, key)| (db.index(), Latin1(key)));
        Self { source: source.to_owned(), keys: keys.collect() }
    }

    /// The source's name, and the keys.
    pub(super) fn named(self) -> (String, Vec<OwnName>) {
        let keys = self.keys.into_iter().map(|(db, Latin1(key))| (Db::new(db), key));
        (self.source, keys.collect())
    }
}

/// What is wanted of a cutover, as it is said over the socket behind the word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) fence: Option<Fence>,
    /// As it was typed.
    pub(crate) sample: Option<String>,
    pub(crate) most_ms: u64,
    pub(crate) watch_ms: u64,
}

impl Wish {
    /// What it stands for; `None` if that is nothing.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let sample = self.sample.as_deref().map(Sample::parse);
        Some(Wanted {
            fence: self.fence,
            sample: if let Some(sample) = sample { Some(sample?) } else { None },
            most: Duration::from_millis(self.most_ms),
            watch: Duration::from_millis(self.watch_ms),
        })
    }
}

impl Request {
    /// Those that are a word.
    const ALL: [Self; 7] = [
        Self::Status,
        Self::Fences,
        Self::Lift,
        Self::Do(Order::Pause),
        Self::Do(Order::Go),
        Self::Do(Order::Stop),
        Self::Do(Order::Finish),
    ];

    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Fences => "fences",
            Self::Lift => "lift",
            Self::CutOver(_) => "cutover",
            Self::Mend(_) => "mend",
            Self::Do(Order::Go) => "resume",
            Self::Do(order) => order.name(),
        }
    }

    /// The request as it goes over the socket.
    pub(super) fn line(&self) -> String {
        let what = match self {
            Self::CutOver(wish) => format!(" {}", json!(wish)),
            Self::Mend(keys) => format!(" {}", json!(keys)),
            _ => String::new(),
        };
        format!("{}{what}\n", self.word())
    }

    /// Reads a request as it came over the socket.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let word = line.strip_suffix(b"\n")?;
        if let Some(wish) = word.strip_prefix(b"cutover ") {
            return serde_json::from_slice(wish).ok().map(Self::CutOver);
        }
        if let Some(keys) = word.strip_prefix(b"mend ") {
            return serde_json::from_slice(keys).ok().map(Self::Mend);
        }
        Self::ALL.into_iter().find(|request| request.word().as_bytes() == word)
    }
}

/// The answer to what is no request.
pub(super) fn unknown() -> Value {
    let words = Request::ALL.each_ref().map(Request::word).join(", ");
    json!({ "version": VERSION, "error": format!("a request is one of: {words}, cutover, mend") })
}

/// The answer to what cannot be done.
pub(super) fn refusal(what: &str, mend: &str) -> Value {
    json!({ "version": VERSION, "error": what, "mend": mend })
}

/// Which fences are allowed.
pub(crate) fn fences(allowed: &[Allowed]) -> Value {
    let told = allowed.iter().map(|one| {
        let (source, why) = one.obstacle.clone().unzip();
        json!({ "fence": one.fence.name(), "allowed": one.obstacle.is_none(), "source": source, "why": why, "others": one.others })
    });
    json!({ "version": VERSION, "fences": told.collect::<Vec<_>>() })
}

/// Which sources take writes again, and why others do not.
pub(super) fn lifted(lifted: &Lifted) -> Value {
    let failed = { lifted.failed.iter() }
        .map(|error| json!({ "error": chain(error), "mend": error.advice() }));
    json!({ "version": VERSION, "lifted": lifted.sources, "failed": failed.collect::<Vec<_>>() })
}

/// Keys that were read anew and written but for these, by their places among those that were asked for.
pub(super) fn mended(left: &[(usize, String)]) -> Value {
    json!({ "version": VERSION, "left": left })
}

/// What is told while a cutover goes on.
pub(super) fn told(told: &Told) -> Value {
    // One code point a byte, as everywhere.
    let latin1 = |key: &[u8]| key.iter().copied().map(char::from).collect::<String>();
    match told {
        Told::Step(step, what) => json!({ "step": step, "told": what }),
        Told::Differs(difference) => json!({ "differs": {
            "kind": difference.kind.name(),
            "db": difference.db.map(Db::index),
            "key": latin1(&difference.key),
        } }),
        Told::Go(gone) => json!({ "go": gone_as_json(gone) }),
        Told::Late(late) => json!({ "late": {
            "source": late.source,
            "command": late.write.command,
            "key": late.write.key.as_deref().map(latin1),
            "offset": late.write.offset,
            "clients": late.clients,
            "told": late.to_string(),
        } }),
    }
}

fn gone_as_json(gone: &Gone) -> Value {
    json!({ "pause_ms": gone.pause_ms, "compared": gone.compared, "offsets": gone.offsets })
}

/// How a cutover has ended.
pub(super) fn verdict(job: &str, verdict: &Verdict) -> Value {
    let mut told = report::verdict(verdict);
    if let Value::Object(fields) = &mut told {
        fields.insert("version".to_owned(), VERSION.into());
        fields.insert("job".to_owned(), job.into());
    }
    json!({ "verdict": told })
}

/// The answer to an order that comes too late.
pub(super) fn too_late(error: TooLate) -> Value {
    let what = match error.follows {
        Order::Stop => "the job is stopping",
        Order::Settle => "a cutover of the job is under way",
        Order::Watch | Order::Leave => "the job has been cut over",
        _ => "the job is finishing",
    };
    json!({ "version": VERSION, "error": what })
}

/// The answer to an order: what the job does from now on, and the sources whose copy is under way.
pub(super) fn done(job: &str, order: Order, sources: &[Source<'_>]) -> Value {
    let copying = sources.iter().filter(|one| one.counters.snapshot().phase == Phase::Copying);
    let copying: Vec<&str> = copying.map(|one| one.name).collect();
    json!({ "version": VERSION, "job": job, "order": order.name(), "copying": copying })
}

/// A source of the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) counters: &'a Counters,
}

/// How a job stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) job: &'a str,
    pub(super) target: &'a str,
    pub(super) process: u32,
    pub(super) order: Order,
    /// Since when it is paused, if it is.
    pub(super) paused: Option<Duration>,
    /// The sources on which a fence stands.
    pub(super) fenced: &'a [String],
    pub(super) now: Duration,
}

/// The answer to a question for how it stands.
pub(super) fn status(standing: &Standing<'_>, sources: &[Source<'_>]) -> Value {
    let Standing { job, target, process, order, paused, fenced, now } = *standing;
    let sources: Vec<Value> = sources.iter().map(|one| source(*one, target, now)).collect();
    json!({
        "version": VERSION,
        "job": job,
        "process": process,
        "order": order.name(),
        "seconds": now.as_secs(),
        "paused_seconds": paused.map(|since| now.saturating_sub(since).as_secs()),
        "fenced": fenced,
        "target": target,
        // Only the end of a job sets them to what they are.
        "deadlines_shifted": true,
        "sources": sources,
    })
}

fn source(Source { name, counters }: Source<'_>, target: &str, now: Duration) -> Value {
    let numbers = counters.snapshot();
    // What passes by itself in a moment is no wait.
    let waiting = counters.waiting().filter(|one| {
        let lasts = now.saturating_sub(one.since);
        !numbers.phase.is_end() && lasts >= Duration::from_secs(1)
    });
    let is_streaming = numbers.phase >= Phase::CatchingUp && numbers.confirmed_offset > 0;
    let known = |offset: u64| (offset > 0).then_some(offset);
    json!({
        "name": name,
        "phase": numbers.phase.name(),
        "keys": numbers.keys,
        "commands": numbers.commands,
        "bytes": numbers.bytes,
        "payload_read": numbers.payload_read,
        "payload_size": known(numbers.payload_size),
        "read_offset": known(numbers.read_offset),
        "offset": known(numbers.confirmed_offset),
        "master_offset": known(numbers.master_offset),
        "lag_bytes": is_streaming.then(|| numbers.lag()),
        "in_flight_bytes": numbers.in_flight,
        "doubts": numbers.doubts,
        "full_syncs": numbers.full_syncs,
        "partial_syncs": numbers.partial_syncs,
        "waiting_for": waiting.map(|one| one.told(name, target, now).to_string()),
        "waiting_seconds": waiting.map(|one| now.saturating_sub(one.since).as_secs()),
        "last_error": counters.trouble(),
        "away_until_ms": known(numbers.away_until),
    })
}

#[cfg(test)]
mod tests {
    use understudy::progress::{Wait, Waiting};

    use super::*;

    #[test]
    fn requests() {
        for request in Request::ALL {
            let line = format!("{}\n", request.word());
            assert_eq!(Request::parse(line.as_bytes()), Some(request.clone()));
            assert_eq!(Request::parse(request.word().as_bytes()), None, "it may be cut short");
            assert!(line.len() as u64 <= LONGEST_REQUEST);
        }
        for bad in [&b""[..], b"\n", b"go\n", b"STATUS\n", b"status \n", b"status\r\n", b"\xff\n"] {
            assert_eq!(Request::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            unknown()["error"],
            "a request is one of: status, fences, lift, pause, resume, stop, finish, cutover, mend"
        );
    }

    #[test]
    fn a_wish_comes_as_it_was_said() {
        for sample in [None, Some("0.5%"), Some("1000")] {
            let sample = sample.map(str::to_owned);
            let wish =
                Wish { fence: Some(Fence::MinReplicas), sample, most_ms: 60_000, watch_ms: 0 };
            assert!(wish.wanted().is_some());
            let line = Request::CutOver(wish.clone()).line();
            assert!(line.len() as u64 <= LONGEST_REQUEST, "{line}");
            assert_eq!(Request::parse(line.as_bytes()), Some(Request::CutOver(wish)));
        }
        for (keys, of) in [(Vec::new(), "a"), (vec![(Db::new(3), vec![0, 255, b'"'])], "\u{e9}:1")]
        {
            let asked = Request::Mend(Keys::new(of, keys.clone()));
            match Request::parse(asked.line().as_bytes()) {
                Some(Request::Mend(told)) => assert_eq!(told.named(), (of.to_owned(), keys)),
                other => panic!("{other:?}"),
            }
        }
        for bad in ["mend\n", "mend {}\n", "cutover\n", "cutover {}\n", "cutover 7\n"] {
            assert_eq!(Request::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_status_says_what_is_waited_for() {
        let counters = Counters::default();
        counters.enter(Phase::Following);
        Counters::set(&counters.confirmed_offset, 70);
        Counters::set(&counters.read_offset, 90);
        let since = Duration::from_secs(100);
        counters.set_waiting(Some(Waiting { wait: Wait::Answers(3), since }));
        counters.set_trouble("the link was lost".to_owned());
        let standing = Standing {
            job: "job",
            target: "new:1",
            process: 7,
            order: Order::Pause,
            paused: Some(Duration::from_secs(60)),
            fenced: &["old:1".to_owned()],
            now: Duration::from_secs(142),
        };
        let sources = [Source { name: "old:1", counters: &counters }];
        let told = status(&standing, &sources);
        assert_eq!((&told["order"], &told["paused_seconds"]), (&"pause".into(), &82.into()));
        assert_eq!(told["fenced"], json!(["old:1"]));
        let source = &told["sources"][0];
        assert_eq!(source["phase"], "following");
        assert_eq!((&source["lag_bytes"], &source["master_offset"]), (&20.into(), &Value::Null));
        assert_eq!(
            source["waiting_for"],
            "waiting for target new:1 since 42 s: 3 commands unanswered"
        );
        assert_eq!(
            (&source["waiting_seconds"], &source["last_error"]),
            (&42.into(), &"the link was lost".into())
        );
        let soon = Standing { now: since, ..standing };
        assert_eq!(status(&soon, &sources)["sources"][0]["waiting_for"], Value::Null);
        assert_eq!(done("job", Order::Go, &sources)["copying"], json!([]));
        counters.enter(Phase::Copying);
        assert_eq!(done("job", Order::Go, &sources)["copying"], json!(["old:1"]));
    }
}
