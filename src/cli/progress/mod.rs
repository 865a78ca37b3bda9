//! What is shown while a run goes on: bars, lines or JSON lines on stderr, all of one [`Reading`] of the counters.

mod fold;
mod reading;
mod words;

use std::io;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use understudy::net::Clock;
use understudy::plan::Facts;
use understudy::plan::Plan;
use understudy::plan::ServerFacts;
use understudy::progress::Counters;
use understudy::progress::History;
use understudy::progress::Snapshot;

use fold::LINES;
pub(super) use fold::{Line, fold};
use reading::Meter;
use reading::Reading;
pub(super) use words::{grouped, size, span};

use super::terminal;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Bars on a terminal, lines otherwise
    #[default]
    Auto,
    /// A bar for each source
    Bar,
    /// A line for each source, every few seconds and when its phase changes
    Plain,
    /// A JSON object a line for each source, every second and when its phase changes
    Json,
    /// Nothing
    None,
}

/// One source whose progress is shown.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// Its name.
    pub(crate) name: String,
    /// Its numbers.
    pub(crate) counters: Arc<Counters>,
    /// Keys that it held before the copy began, if it told.
    pub(crate) expected_keys: Option<u64>,
}

impl Watched {
    /// All sources of a run.
    pub(crate) fn all(plan: &Plan, facts: &Facts, counters: &[Arc<Counters>]) -> Vec<Self> {
        let sources = plan.sources.iter().zip(&facts.sources).zip(counters);
        let watched = sources.map(|((source, facts), counters)| Self {
            name: source.name.clone(),
            counters: Arc::clone(counters),
            expected_keys: facts.as_ref().map(ServerFacts::keys_in_all),
        });
        watched.collect()
    }
}

/// Shows progress until it is [ended](Self::end).
#[derive(Debug)]
pub(crate) struct Show {
    stop: oneshot::Sender<()>,
    task: JoinHandle<History>,
}

/// How often the counters are read.
const TICK: Duration = Duration::from_millis(200);
/// How often a line is written although nothing new has begun.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
const JSON_EVERY: Duration = Duration::from_secs(1);

impl Show {
    /// Begins to show the progress of these sources.
    pub(crate) fn begin(mode: Mode, sources: Vec<Watched>, clock: Clock) -> Self {
        let (stop, stopped) = oneshot::channel();
        let view: Box<dyn View + Send> = match mode {
            Mode::None => Box::new(Nothing),
            Mode::Json => Box::new(Lines::new(JSON_EVERY, write_json, false)),
            Mode::Auto if io::stderr().is_terminal() => Box::new(Bars::new(&sources)),
            Mode::Bar => Box::new(Bars::new(&sources)),
            Mode::Auto | Mode::Plain => Box::new(Lines::new(PLAIN_EVERY, write_plain, true)),
        };
        Self { stop, task: tokio::spawn(show(view, sources, clock, stopped)) }
    }

    /// Shows the last numbers and ends. What has gone on is told.
    pub(crate) async fn end(self) -> History {
        // Either has failed only if the task is gone.
        let _ = self.stop.send(());
        self.task.await.unwrap_or_else(|_| History::of(0))
    }
}

async fn show(
    mut view: Box<dyn View + Send>,
    sources: Vec<Watched>,
    clock: Clock,
    mut stopped: oneshot::Receiver<()>,
) -> History {
    let mut meters: Vec<Meter> =
        sources.iter().map(|source| Meter::new(source.expected_keys)).collect();
    let mut history = History::of(sources.len());
    let begun = clock.now();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let last = tokio::select! {
            _ = &mut stopped => true,
            _ = tick.tick() => false,
        };
        let now = clock.now();
        let elapsed = now.saturating_sub(begun);
        let snapshots: Vec<Snapshot> =
            sources.iter().map(|source| source.counters.snapshot()).collect();
        history.note(elapsed, snapshots.iter().copied());
        let readings: Vec<(String, Reading)> = sources
            .iter()
            .zip(&mut meters)
            .zip(snapshots)
            .map(|((source, meter), now_there)| (source.name.clone(), meter.read(now, now_there)))
            .collect();
        view.show(elapsed, &readings);
        if last {
            view.end();
            history.end();
            return history;
        }
    }
}

/// A way to show readings.
trait View {
    fn show(&mut self, elapsed: Duration, readings: &[(String, Reading)]);
    fn end(&mut self) {}
}

struct Nothing;

impl View for Nothing {
    fn show(&mut self, _: Duration, _: &[(String, Reading)]) {}
}

/// Writes one line for a source, or for all together.
type WriteLine = fn(Option<&str>, Duration, &Reading) -> String;

/// Lines, for a log or a program.
struct Lines {
    every: Duration,
    write: WriteLine,
    /// Of many sources the quiet ones are counted in one line, but for what is new of them.
    folds: bool,
    /// When all were written last.
    written: Option<Duration>,
    /// What was written last of each source, and of all together.
    doing: Vec<&'static str>,
}

impl Lines {
    fn new(every: Duration, write: WriteLine, folds: bool) -> Self {
        Self { every, write, folds, written: None, doing: Vec::new() }
    }

    /// The lines that are due.
    fn due(&mut self, elapsed: Duration, readings: &[(String, Reading)]) -> Vec<String> {
        let again = self.written.is_none_or(|at| elapsed.saturating_sub(at) >= self.every);
        let total = (readings.len() > 1).then(|| total(readings));
        let each = readings.iter().map(|(name, reading)| (Some(name.as_str()), reading));
        let all: Vec<_> = each.chain(total.iter().map(|total| (None, total))).collect();
        let folded = self.folds.then(|| folded(readings));
        let mut lines = Vec::new();
        for (index, (name, reading)) in all.iter().enumerate() {
            let is_new = self.doing.get(index) != Some(&reading.doing());
            let is_shown = index >= readings.len()
                || folded.as_ref().is_none_or(|folded| folded.shown.contains(&index));
            if index == readings.len()
                && again
                && let Some(rest) = folded.as_ref().and_then(|folded| folded.rest.clone())
            {
                lines.push(rest);
            }
            // What has ended has nothing new to tell.
            if is_new || again && is_shown && !reading.phase.is_end() {
                lines.push((self.write)(*name, elapsed, reading));
            }
        }
        if again {
            self.written = Some(elapsed);
        }
        self.doing = all.iter().map(|(_, reading)| reading.doing()).collect();
        lines
    }
}

impl View for Lines {
    fn show(&mut self, elapsed: Duration, readings: &[(String, Reading)]) {
        for line in self.due(elapsed, readings) {
            terminal::line(&line);
        }
    }
}

fn folded(readings: &[(String, Reading)]) -> fold::Folded {
    fold(&readings.iter().map(Line::of).collect::<Vec<_>>())
}

fn total(readings: &[(String, Reading)]) -> Reading {
    Reading::total(&readings.iter().map(|(_, one)| one.clone()).collect::<Vec<_>>())
}

fn write_plain(name: Option<&str>, _: Duration, reading: &Reading) -> String {
    words::line(name.unwrap_or("all sources"), reading)
}

fn write_json(name: Option<&str>, elapsed: Duration, reading: &Reading) -> String {
    words::json(name, elapsed, reading).to_string()
}

/// A bar for each source, or each on which something goes on; a line for the others, and a bar for all.
struct Bars {
    bars: Vec<ProgressBar>,
    rest: Option<ProgressBar>,
    total: Option<ProgressBar>,
    /// Columns that a bar and its name take.
    taken: usize,
}

/// Columns of a bar itself.
const BAR: usize = 10;

/// A bar's full length: thousandths.
const FULL: u64 = 1000;

impl Bars {
    fn new(sources: &[Watched]) -> Self {
        let width = sources.iter().map(|source| source.name.chars().count()).max().unwrap_or(0);
        let width = width.clamp(5, 32);
        let line = |template: &str| {
            let bar = terminal::bars().add(ProgressBar::new(FULL));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        };
        let template = format!("{{prefix:{width}!}} {{bar:{BAR}}} {{wide_msg}}");
        let bars = sources.iter().take(LINES).map(|_| line(&template)).collect();
        let rest = (sources.len() > LINES).then(|| line("{wide_msg}"));
        let total = (sources.len() > 1).then(|| line(&template));
        if let Some(total) = &total {
            total.set_prefix("total");
        }
        Self { bars, rest, total, taken: width + 1 + BAR + 1 }
    }
}

impl View for Bars {
    fn show(&mut self, _: Duration, readings: &[(String, Reading)]) {
        let room = terminal::columns().saturating_sub(self.taken);
        let folded = folded(readings);
        let shown = folded.shown.iter().filter_map(|index| readings.get(*index));
        for (bar, (name, reading)) in self.bars.iter().zip(shown) {
            bar.set_prefix(name.clone());
            draw(bar, reading, room);
        }
        if let (Some(bar), Some(rest)) = (&self.rest, folded.rest) {
            bar.set_message(rest);
        }
        if let Some(bar) = &self.total {
            draw(bar, &total(readings), room);
        }
    }

    fn end(&mut self) {
        // The table says what there is to say.
        for bar in self.bars.iter().chain(&self.rest).chain(&self.total) {
            bar.finish_and_clear();
        }
    }
}

fn draw(bar: &ProgressBar, reading: &Reading, room: usize) {
    // Whole thousandths of a percentage are seconds of a duration, without a cast.
    let thousandths =
        reading.percent.and_then(|percent| Duration::try_from_secs_f64(percent * 10.0).ok());
    bar.set_position(thousandths.map_or(0, |part| part.as_secs().min(FULL)));
    bar.set_message(words::words_within(reading, room));
}

#[cfg(test)]
mod tests {
    use understudy::progress::Phase;

    use super::*;

    fn reading(phase: Phase, keys: u64) -> Reading {
        Reading { phase, keys, ..Reading::default() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn lines_come_now_and_then_and_when_something_new_begins() {
        let mut lines = Lines::new(at(5), write_plain, true);
        let mut due =
            |seconds, phase| lines.due(at(seconds), &[("a".to_owned(), reading(phase, seconds))]);
        assert_eq!(due(0, Phase::Connecting), ["a  connecting"]);
        assert_eq!(due(1, Phase::Connecting), Vec::<String>::new());
        assert_eq!(due(2, Phase::Following).len(), 1, "a new phase");
        assert_eq!(due(4, Phase::Following).len(), 0);
        assert_eq!(due(5, Phase::Following).len(), 1, "five seconds have gone");
        assert_eq!(due(6, Phase::Done), ["a  done  6 keys  0 commands"]);
        assert_eq!(due(60, Phase::Done).len(), 0, "it has said so");
    }

    #[test]
    fn of_many_sources_the_quiet_ones_share_a_line() {
        let mut lines = Lines::new(at(5), write_plain, true);
        let mut sources: Vec<_> =
            (0..30).map(|n| (format!("s{n}"), reading(Phase::Waiting, 0))).collect();
        assert_eq!(
            lines.due(at(0), &sources).len(),
            32,
            "each is new, and the rest, and the total"
        );
        sources[20].1.phase = Phase::Copying;
        assert!(lines.due(at(1), &sources)[0].starts_with("s20  copying"));
        let due = lines.due(at(5), &sources);
        assert_eq!(due.len(), LINES + 2);
        assert!(due.contains(&"20 more: 20 waiting".to_owned()), "{due:?}");
    }

    #[test]
    fn several_sources_have_a_total() {
        let mut lines = Lines::new(at(1), write_json, false);
        let sources = ["a", "b"].map(|name| (name.to_owned(), reading(Phase::Following, 2)));
        let due = lines.due(at(0), &sources);
        assert_eq!(due.len(), 3);
        let total: serde_json::Value = serde_json::from_str(&due[2]).unwrap();
        assert_eq!((&total["source"], &total["keys"]), (&serde_json::Value::Null, &4.into()));
        let ended = ["a", "b"].map(|name| (name.to_owned(), reading(Phase::Failed, 2)));
        let due = lines.due(at(0), &ended);
        assert_eq!(due.len(), 3, "the total does not stay at what it was");
        assert!(due[2].contains(r#""phase":"failed""#), "{}", due[2]);
    }
}
