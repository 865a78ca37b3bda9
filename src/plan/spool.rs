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

use super::{Facts, Finding, Place, Plan, Rate, ServerFacts};

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
    const FASTEST: u64 = 100 << 20;

    /// Of this source. A target is taken to keep up with it unless a limit forbids that.
    fn of(facts: &ServerFacts, plan: &Plan) -> Self {
        let payload = facts.used_memory;
        let source_rate = plan.limit_read.map_or(Self::FASTEST, |limit| limit.min(Self::FASTEST));
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
        match (&facts.spool, self.spool.limit) {
            (None, _) => 0,
            (Some(SpoolFacts { unusable: Some(_), .. }), _) => 0,
            (Some(there), _) if there.in_memory && !self.spool.named => 0,
            (Some(_), Some(limit)) => limit,
            (Some(there), None) => Self::SPOOL.min(there.free / 2),
        }
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
        findings.push(Finding {
            place,
            evidence: format!("nothing can be written there: {why}"),
            mend: "give a folder that is there and that this user may write".to_owned(),
        });
        return;
    }
    if let Some(limit) = plan.spool.limit.filter(|limit| *limit > there.free) {
        findings.push(Finding {
            place,
            evidence: format!(
                "--spool-limit is {}, and {} are free there",
                size(limit),
                size(there.free)
            ),
            mend: "give less, or a folder on another disk".to_owned(),
        });
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
            findings.push(Finding {
                place: name.to_owned(),
                evidence: format!(
                    "its copy takes the target {} s at {} a second, {} a second are written to it meanwhile, so that {} will wait; the spool holds {}, and the master cuts a link that is not read after {} s (client-output-buffer-limit)",
                    forecast.lasting().as_secs(),
                    size(forecast.target_rate),
                    size(forecast.write_rate),
                    size(need),
                    size(limit),
                    buffer.lasts(forecast.write_rate).unwrap_or_default().as_secs(),
                ),
                mend: format!(
                    "give --spool-limit {}MiB and a --spool with as much room, let the target be written to faster, or raise client-output-buffer-limit for replicas on the source",
                    need.div_ceil(1 << 20)
                ),
            });
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
            remarks.push(Finding {
                place: format!("spool {}", folder.display()),
                evidence: format!("{evidence}; there is no spool"),
                mend: "a target that is slower than its source may get the link cut: give --spool a folder on a disk, or this one by name, or say --spool-limit 0".to_owned(),
            });
        }
    }
    for (name, source, forecast) in followed {
        let buffer = source.output_buffer.unwrap_or_default();
        let lasts = buffer.lasts(forecast.write_rate);
        if let Some(lasts) = lasts.filter(|lasts| *lasts < forecast.sending()) {
            let bytes = forecast.write_rate.saturating_mul(forecast.sending().as_secs());
            remarks.push(Finding {
                place: name.to_owned(),
                evidence: format!(
                    "it sends its copy for {} s or longer, and what is written to it meanwhile ({} a second) fills its client-output-buffer-limit in {} s",
                    forecast.sending().as_secs(),
                    size(forecast.write_rate),
                    lasts.as_secs()
                ),
                mend: format!(
                    "on the source: CONFIG SET client-output-buffer-limit \"slave {bytes} {bytes} 60\", or repl-rdb-channel (Redis 8) or dual-channel-replication-enabled (Valkey 8); or copy when less is written"
                ),
            });
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes >> 20) & 1023) * 10 / 1024),
    }
}
