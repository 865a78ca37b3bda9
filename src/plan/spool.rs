//! How large a backlog may get, reckoned before a copy and while one grows.
//!
//! A master keeps what a replica has not read in an output buffer, and cuts the link when that gets too large. So it is read as fast as it
//! sends, and what the target cannot take yet waits on our side:
//!
//! ```text
//! what waits in the end = payload × (1 − target's rate / source's rate) + writes in a second × seconds of the copy
//! ```

use std::path::PathBuf;
use std::time::Duration;

use super::finding::{Finding, Kind};
use super::{Facts, Place, Plan, Rate, ServerFacts};

/// Where a backlog waits that outgrows memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spool {
    /// The folder; `None`: nowhere.
    pub folder: Option<PathBuf>,
    /// Whether somebody has named it, so that it may be one in memory.
    pub named: bool,
    /// The most that may wait there, in bytes, of all sources together; 0: nothing. `None`: 8 GiB, or half of what is free if that is less.
    pub limit: Option<u64>,
}

/// What is known of the spool's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolFacts {
    /// Bytes that may still be written there.
    pub free: u64,
    /// Whether what is written there takes memory.
    pub in_memory: bool,
    /// Why nothing can be written there, if so.
    pub unusable: Option<String>,
}

/// What a master keeps for a replica that does not read (`client-output-buffer-limit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBuffer {
    /// It cuts the link at more bytes; 0: never.
    pub hard: u64,
    /// It cuts the link when it has kept more bytes for a while; 0: never.
    pub soft: u64,
    /// How long that is.
    pub patience: Duration,
}

impl Default for OutputBuffer {
    /// What a server keeps to that was not told otherwise.
    fn default() -> Self {
        Self { hard: 256 << 20, soft: 64 << 20, patience: Duration::from_secs(60) }
    }
}

impl OutputBuffer {
    /// What `CONFIG GET client-output-buffer-limit` says of replicas: `normal 0 0 0 slave 268435456 67108864 60 pubsub …`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        words.find(|word| matches!(*word, "slave" | "replica"))?;
        let mut number = || words.next()?.parse().ok();
        let (hard, soft, seconds) = (number()?, number()?, number()?);
        Some(Self { hard, soft, patience: Duration::from_secs(seconds) })
    }

    /// How long a master that is written to at so many bytes a second keeps the link to a replica that does not read; `None`: for ever.
    #[must_use]
    pub fn lasts(&self, rate: u64) -> Option<Duration> {
        let grows_to =
            |bytes: u64| (bytes > 0 && rate > 0).then(|| Duration::from_secs(bytes.div_ceil(rate)));
        let soft = grows_to(self.soft).map(|time| time.saturating_add(self.patience));
        grows_to(self.hard).into_iter().chain(soft).min()
    }
}

/// A copy, as far as it can be foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes of the data set.
    pub payload: u64,
    /// Bytes of it that the source sends in a second.
    pub source_rate: u64,
    /// Bytes of it that the target takes in a second.
    pub target_rate: u64,
    /// Bytes that are written to the source in a second.
    pub write_rate: u64,
}

impl Forecast {
    /// How fast a master sends its data set, at most, in bytes a second: one core that reads its memory.
    pub(super) const FASTEST: u64 = 100 << 20;

    /// Of this source. A target is taken to keep up with it unless a limit forbids that.
    pub(super) fn of(facts: &ServerFacts, plan: &Plan) -> Self {
        let payload = facts.used_memory;
        let limits = [plan.limit_read, facts.link_rate];
        let source_rate = limits.into_iter().flatten().fold(Self::FASTEST, u64::min);
        let a_key = payload / facts.keys_in_all().max(1);
        let limit = match plan.limit_rate {
            None => source_rate,
            Some(Rate::Bytes(bytes)) => bytes,
            Some(Rate::Keys(keys)) => keys.saturating_mul(a_key),
        };
        let target_rate = limit.clamp(1, source_rate.max(1));
        Self { payload, source_rate: source_rate.max(1), target_rate, write_rate: facts.write_rate }
    }

    /// How long the source sends.
    #[must_use]
    pub fn sending(&self) -> Duration {
        Duration::from_secs(self.payload / self.source_rate)
    }

    /// How long the target writes.
    #[must_use]
    pub fn lasting(&self) -> Duration {
        Duration::from_secs(self.payload / self.target_rate)
    }

    /// How much waits in the end, in bytes.
    #[must_use]
    pub fn need(&self) -> u64 {
        let taken = u128::from(self.payload) * u128::from(self.target_rate);
        let taken = u64::try_from(taken / u128::from(self.source_rate)).unwrap_or(u64::MAX);
        let written = self.write_rate.saturating_mul(self.lasting().as_secs());
        self.payload.saturating_sub(taken).saturating_add(written)
    }

    /// Whether a master would cut the link although so many bytes may wait: for as long as there is no room it is not read.
    #[must_use]
    pub fn is_cut(&self, limit: u64, buffer: &OutputBuffer) -> bool {
        let unread = Duration::from_secs(self.need().saturating_sub(limit) / self.target_rate);
        buffer.lasts(self.write_rate).is_some_and(|lasts| lasts < unread)
    }
}

impl Plan {
    /// What may wait on the disk, in bytes, where nobody has said it.
    const SPOOL: u64 = 8 << 30;

    /// The most that may wait on the disk, in bytes; 0: nothing.
    #[must_use]
    pub fn spool_limit(&self, facts: &Facts) -> u64 {
        let may_be_used = |there: &&SpoolFacts| {
            there.unusable.is_none() && (!there.in_memory || self.spool.named)
        };
        let Some(there) = facts.spool.as_ref().filter(may_be_used) else { return 0 };
        self.spool.limit.unwrap_or_else(|| Self::SPOOL.min(there.free / 2))
    }
}

/// The line that says where a backlog waits, and how much of one is foreseen; `None` where no master is followed into a server.
#[must_use]
pub fn spool_line(facts: &Facts, plan: &Plan) -> Option<String> {
    let forecasts: Vec<_> = forecasts(facts, plan).map(|(_, _, forecast)| forecast).collect();
    let folder = plan.spool.folder.as_ref().filter(|_| !forecasts.is_empty())?;
    let limit = plan.spool_limit(facts);
    if limit == 0 {
        return None;
    }
    let need = forecasts.iter().map(Forecast::need).fold(0, u64::saturating_add);
    let writes = forecasts.iter().map(|one| one.write_rate).fold(0, u64::saturating_add);
    let last = forecasts.iter().map(Forecast::lasting).max().unwrap_or_default().as_secs();
    Some(format!(
        "spool: up to {} in {}; about {} may wait there behind a copy of {last} s with {} written a second",
        size(limit),
        folder.display(),
        size(need),
        size(writes),
    ))
}

fn forecasts<'a>(
    facts: &'a Facts,
    plan: &'a Plan,
) -> impl Iterator<Item = (&'a str, &'a ServerFacts, Forecast)> {
    let is_server = |place: &Place| matches!(place, Place::Server(_));
    let sources = plan.sources.iter().zip(&facts.sources);
    let into_server = is_server(&plan.target);
    sources.filter_map(move |(source, facts)| {
        let facts = facts.as_ref().filter(|_| into_server && is_server(&source.place))?;
        Some((source.name.as_str(), facts, Forecast::of(facts, plan)))
    })
}

/// What of the spool forbids a run to begin.
pub(super) fn judge(facts: &Facts, plan: &Plan, findings: &mut Vec<Finding>) {
    let (Some(folder), Some(there)) = (&plan.spool.folder, &facts.spool) else { return };
    let place = format!("--spool {}", folder.display());
    if let Some(why) = there.unusable.as_ref().filter(|_| plan.spool.named) {
        findings.push(Finding::blocks(
            Kind::Spool,
            place,
            format!("nothing can be written there: {why}"),
            "give a folder that is there and that this user may write".to_owned(),
        ));
        return;
    }
    let more_than_free = |limit: &u64| there.unusable.is_none() && *limit > there.free;
    if let Some(limit) = plan.spool.limit.filter(more_than_free) {
        findings.push(Finding::blocks(
            Kind::Spool,
            place,
            format!("--spool-limit is {}, and {} are free there", size(limit), size(there.free)),
            "give less, or a folder on another disk".to_owned(),
        ));
    }
    // A job that goes on copies nothing as a rule.
    if facts.goes_on() && !plan.job.restart {
        return;
    }
    let limit = plan.spool_limit(facts);
    for (name, source, forecast) in forecasts(facts, plan) {
        let buffer = source.output_buffer.unwrap_or_default();
        if forecast.is_cut(limit, &buffer) {
            let need = forecast.need();
            findings.push(Finding::blocks(Kind::OutputBuffer, name.to_owned(), format!(
                    "its copy takes the target {} s at {} a second, {} a second are written to it meanwhile, so that {} will wait; the spool holds {}, and the master cuts a link that is not read after {} s (client-output-buffer-limit)",
                    forecast.lasting().as_secs(),
                    size(forecast.target_rate),
                    size(forecast.write_rate),
                    size(need),
                    size(limit),
                    buffer.lasts(forecast.write_rate).unwrap_or_default().as_secs(),
                ), format!(
                    "give --spool-limit {}MiB and a --spool with as much room, let the target be written to faster, or raise client-output-buffer-limit for replicas on the source",
                    need.div_ceil(1 << 20)
                )));
        }
    }
}

/// What of the spool is odd and forbids nothing.
pub(super) fn remarks(facts: &Facts, plan: &Plan, remarks: &mut Vec<Finding>) {
    let mut followed = forecasts(facts, plan).peekable();
    if followed.peek().is_none() {
        return;
    }
    if let (Some(folder), Some(there)) = (&plan.spool.folder, &facts.spool)
        && !plan.spool.named
        && plan.spool.limit != Some(0)
    {
        let evidence = match (there.in_memory, &there.unusable) {
            (_, Some(why)) => format!("nothing can be written there: {why}"),
            (true, None) => "this is no disk but memory (tmpfs)".to_owned(),
            (false, None) => String::new(),
        };
        if !evidence.is_empty() {
            remarks.push(Finding::warning(Kind::Spool, format!("spool {}", folder.display()), format!("{evidence}; there is no spool"), "a target that is slower than its source may get the link cut: give --spool a folder on a disk, or this one by name, or say --spool-limit 0".to_owned()));
        }
    }
    for (name, source, forecast) in followed {
        let buffer = source.output_buffer.unwrap_or_default();
        let lasts = buffer.lasts(forecast.write_rate);
        if let Some(lasts) = lasts.filter(|lasts| *lasts < forecast.sending()) {
            let bytes = forecast.write_rate.saturating_mul(forecast.sending().as_secs());
            remarks.push(Finding::warning(Kind::OutputBuffer, name.to_owned(), format!(
                    "it sends its copy for {} s or longer, and what is written to it meanwhile ({} a second) fills its client-output-buffer-limit in {} s",
                    forecast.sending().as_secs(),
                    size(forecast.write_rate),
                    lasts.as_secs()
                ), format!(
                    "on the source: CONFIG SET client-output-buffer-limit \"slave {bytes} {bytes} 60\", or repl-rdb-channel (Redis 8) or dual-channel-replication-enabled (Valkey 8); or copy when less is written"
                )));
        }
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes >> 20) & 1023) * 10 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::tests::plan;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_a_server_says_of_its_output_buffers_is_read() {
        let buffer = |hard, soft, seconds| {
            Some(OutputBuffer { hard, soft, patience: Duration::from_secs(seconds) })
        };
        let usual = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(OutputBuffer::parse(usual), Some(OutputBuffer::default()));
        assert_eq!(OutputBuffer::parse("replica 1 2 3"), buffer(1, 2, 3));
        for odd in ["", "normal 0 0 0", "slave 1 2", "slave x 2 3"] {
            assert_eq!(OutputBuffer::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_link_that_is_not_read_lasts_until_the_first_limit() {
        let seconds = |hard, soft, patience, rate| {
            let patience = Duration::from_secs(patience);
            OutputBuffer { hard, soft, patience }.lasts(rate).map(|lasts| lasts.as_secs())
        };
        assert_eq!(seconds(256 * MIB, 64 * MIB, 60, MIB), Some(124), "the soft one");
        assert_eq!(seconds(256 * MIB, 64 * MIB, 60, 64 * MIB), Some(4), "the hard one");
        assert_eq!(seconds(256 * MIB, 64 * MIB, 60, 0), None, "nothing is written");
        assert_eq!(seconds(0, 0, 60, MIB), None, "there is none");
        assert_eq!(seconds(0, MIB, 5, MIB), Some(6));
    }

    #[test]
    fn what_waits_is_what_the_target_is_behind_and_what_is_written() {
        let copy = |target_rate, write_rate| Forecast {
            payload: 1000 * MIB,
            source_rate: 100 * MIB,
            target_rate: target_rate * MIB,
            write_rate: write_rate * MIB,
        };
        assert_eq!(copy(100, 0).need(), 0);
        assert_eq!(copy(100, 5).need(), 50 * MIB, "10 s of writes");
        assert_eq!(copy(10, 0).need(), 900 * MIB);
        assert_eq!(copy(10, 5).need(), (900 + 500) * MIB, "100 s of writes");
        let buffer = OutputBuffer::default();
        assert!(!copy(10, 0).is_cut(0, &buffer), "nobody writes: the master waits for ever");
        assert!(copy(10, 5).is_cut(0, &buffer), "140 s unread, and 52 s are borne");
        assert!(copy(10, 5).is_cut(800 * MIB, &buffer), "60 s unread");
        assert!(!copy(10, 5).is_cut(900 * MIB, &buffer), "50 s unread");
        assert!(!copy(10, 5).is_cut(1400 * MIB, &buffer));
        assert_eq!(Forecast { payload: 0, ..copy(1, 1) }.need(), 0);
        let most = Forecast { payload: u64::MAX, write_rate: u64::MAX, ..copy(1, 1) };
        assert_eq!(most.need(), u64::MAX);
    }

    /// Facts of one source of 1000 MiB to which 5 MiB a second are written, and of a folder with so much room.
    fn facts(free: u64) -> Facts {
        let source =
            ServerFacts { used_memory: 1000 * MIB, write_rate: 5 * MIB, ..ServerFacts::default() };
        let spool = Some(SpoolFacts { free, ..SpoolFacts::default() });
        Facts { sources: vec![Some(source)], spool, ..Facts::default() }
    }

    fn plan_with(limit_rate: Option<u64>, spool: Spool) -> Plan {
        Plan { limit_rate: limit_rate.map(Rate::Bytes), spool, ..plan(None) }
    }

    fn folder() -> Spool {
        Spool { folder: Some("/spool".into()), ..Spool::default() }
    }

    #[test]
    fn the_limit_is_what_was_said_or_half_of_what_is_free() {
        let limit = |spool: Spool, facts: &Facts| plan_with(None, spool).spool_limit(facts);
        assert_eq!(limit(folder(), &facts(1000)), 500);
        assert_eq!(limit(folder(), &facts(u64::MAX)), 8 << 30);
        assert_eq!(limit(Spool { limit: Some(7), ..folder() }, &facts(1000)), 7);
        assert_eq!(limit(Spool::default(), &Facts::default()), 0, "no folder");
        let in_memory = SpoolFacts { free: 1000, in_memory: true, unusable: None };
        let in_memory = Facts { spool: Some(in_memory), ..Facts::default() };
        assert_eq!(limit(folder(), &in_memory), 0);
        assert_eq!(limit(Spool { named: true, ..folder() }, &in_memory), 500);
    }

    fn found(plan: &Plan, facts: &Facts) -> Vec<String> {
        let mut findings = Vec::new();
        judge(facts, plan, &mut findings);
        { findings }
            .into_iter()
            .map(|one| format!("{}: {} | {}", one.place, one.evidence, one.mend))
            .collect()
    }

    #[test]
    fn a_spool_that_will_not_do_is_refused_with_the_one_that_will() {
        let none = Vec::<String>::new();
        let slow = Some(10 * MIB);
        assert_eq!(found(&plan_with(None, folder()), &facts(0)), none, "the target keeps up");
        assert_eq!(found(&plan_with(slow, folder()), &facts(4000 * MIB)), none);
        let [told] = &found(&plan_with(slow, folder()), &facts(100 * MIB))[..] else { panic!() };
        for part in [
            "a:1: ",
            " 100 s at 10 MiB",
            "1.3 GiB will wait",
            "holds 50 MiB",
            "after 52 s",
            "--spool-limit 1400MiB",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let with_that = Spool { limit: Some(1400 * MIB), ..folder() };
        assert_eq!(found(&plan_with(slow, with_that), &facts(2000 * MIB)), none);
        let goes_on = Facts { is_known: true, ..facts(0) };
        assert_eq!(found(&plan_with(slow, folder()), &goes_on), none, "there is no copy");
        let too_much = Spool { limit: Some(2000), ..folder() };
        let told = found(&plan_with(None, too_much), &facts(1000));
        assert!(matches!(&told[..], [told] if told.contains("1000 B are free there")), "{told:?}");
    }

    #[test]
    fn a_copy_during_which_the_source_must_keep_too_much_is_told() {
        let mut told = Vec::new();
        let writes = |write_rate| {
            let mut facts = facts(u64::MAX);
            facts.sources[0].as_mut().unwrap().write_rate = write_rate;
            facts
        };
        remarks(&writes(5 * MIB), &plan_with(None, folder()), &mut told);
        assert_eq!(told, [], "50 MiB in 10 s");
        remarks(&writes(50 * MIB), &plan_with(None, folder()), &mut told);
        assert_eq!(told.len(), 1, "500 MiB");
        assert!(told[0].evidence.ends_with("client-output-buffer-limit in 6 s"), "{told:?}");
        let line = spool_line(&facts(u64::MAX), &plan_with(None, folder())).unwrap();
        assert_eq!(
            line,
            "spool: up to 8.0 GiB in /spool; about 50 MiB may wait there behind a copy of 10 s with 5 MiB written a second"
        );
    }
}
