//! `verify`: both sides compared.

mod section;

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use understudy::flow::{
    self, By, Comparing, Difference, Doubt, Drawn, Ended, Order, Repair, Sampled, Told, Verified,
};
use understudy::key::Escaped;
use understudy::net::Net;
use understudy::plan::{Facts, Finding, Glob, Kind as FindingKind, Place, Plan, ServerFacts};
use understudy::preflight::{Unreachable, expand, look};
use understudy::progress::Counters;
use understudy::verify::{Kind, Share};

use super::args::{ByArg, Sync, Verify};
use super::control::Running;
use super::outcome::{Outcome, refused};
use super::progress::{Mode, Show, Watched, grouped};
use super::report::Files;
use super::signals::Signals;
use super::{intent, notice, report, terminal};

/// Runs `verify` to its end.
pub(crate) async fn run(args: Verify) -> Outcome {
    let (ttl_tolerance, repair, mode) = (args.ttl_tolerance, args.repair, args.bounds.progress);
    let (sample, seed, only) = (args.sample, args.seed, globs(&args.only));
    let mut told = Telling::new(args.json, args.repair, args.differences, mode);
    told.only = args.only.iter().map(|glob| glob.to_string_lossy().into_owned()).collect();
    let paths = args.report.clone();
    let files = Files::new("verify", &paths, mode);
    let by = match args.by {
        ByArg::Auto => By::Auto,
        ByArg::Psync => By::Psync,
        ByArg::Replication => By::Replication,
        ByArg::Scan => By::Scan,
    };
    let plan = match intent::plan(&as_sync(args)) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal.what, &refusal.mend),
    };
    if let Err(outcome) = files.check() {
        return outcome;
    }
    let signals = Signals::heed();
    let net = Net::system();
    let looked = async {
        let plan = expand(&net, &plan).await?;
        let facts = look(&net, &plan).await?;
        Ok::<_, Unreachable>((narrowed(plan, &only), facts))
    };
    let mut told_to_stop = signals.orders().clone();
    let looked = tokio::select! {
        looked = looked => looked,
        _ = told_to_stop.wait_for(|order| *order == Order::Stop) => {
            notice::note("stopped before anything was compared");
            return report::nothing_done(files, &plan, &Facts::default(), Ended::Stopped, &[]);
        }
    };
    let (plan, facts) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let what = format!("{}: {}", error.place, flow::chain(&error.source));
            notice::error(&what, &error.advice());
            let ended = if error.is_damage() { Ended::Failed } else { Ended::Refused };
            let (words, mend) = (flow::chain(&error.source), error.advice());
            let found = Finding::blocks(FindingKind::Unreachable, &error.place, words, mend);
            return report::nothing_done(files, &plan, &Facts::default(), ended, &[found]);
        }
    };
    if let Err(refusal) = intent::check_memory(plan.memory, &plan.sources) {
        return refused(&refusal.what, &refusal.mend);
    }
    let job = if repair { Running::of(&plan).await } else { None };
    let unrepaired = || unrepaired(&plan, &facts, job.is_some()).filter(|_| repair);
    if let Some((kind, what, mend)) = obstacle(&plan, &facts).or_else(unrepaired) {
        notice::error(&what, mend);
        let found = Finding::blocks(kind, plan.target.to_string(), what, mend);
        return report::nothing_done(files, &plan, &facts, Ended::Refused, &[found]);
    }
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let repair = match &job {
        _ if !repair => Repair::No,
        Some(job) if flow::is_under_way(&facts) => Repair::Job(job),
        _ => Repair::Here,
    };
    let comparing = Comparing { ttl_tolerance, repair, by, sample, seed };
    compare(&net, (&plan, &facts), comparing, files, told, &signals).await
}

async fn compare(
    net: &Net,
    (plan, facts): (&Plan, &Facts),
    comparing: Comparing<'_>,
    files: Files<'_>,
    mut telling: Telling,
    signals: &Signals,
) -> Outcome {
    let counters: Vec<Arc<Counters>> =
        plan.sources.iter().map(|_| Arc::default()).chain([Arc::default()]).collect();
    let mode = files.mode();
    let mut watched = Watched::all(plan, facts, &counters);
    if let Some(counters) = counters.last() {
        let expected_keys = facts.target.as_ref().map(|target| target.keys_that(plan));
        let name = format!("target {}", plan.target);
        watched.push(Watched { name, counters: Arc::clone(counters), expected_keys });
    }
    let show = Show::begin(mode, watched, net.clock());
    let orders = signals.orders();
    let verified = flow::verify(net, (plan, facts), comparing, &counters, orders, &mut |told| {
        telling.tell(told);
    })
    .await;
    let history = show.end().await;
    for source in &verified.report.sources {
        if let Some((failure, advice)) = &source.failure {
            notice::error(&format!("{}: {failure}", source.name), advice);
        }
    }
    if let Some((failure, advice)) = &verified.failure {
        notice::error(failure, advice);
    }
    let ended = verified.ended();
    match ended {
        Ended::Done | Ended::Differences => telling.sum_up(&verified, mode),
        Ended::Stopped => notice::note("stopped: not all keys were compared"),
        Ended::Refused | Ended::Failed => {
            notice::note(
                "not all keys were compared: what was told differs, and of the rest nothing is known",
            );
        }
    }
    let keys_after = facts.target.as_ref().map(ServerFacts::keys_in_all);
    let (run, history) = (&verified.report, Some(&history));
    let told = report::Told { run, plan, facts, findings: &[], keys_after, census: None, history };
    let section = section::section(plan, &verified, &telling.named, &telling.only);
    files.close(&files.document(&told).ended(ended).with(section), ended)
}

/// What stands in the way of any comparison.
fn obstacle(plan: &Plan, facts: &Facts) -> Option<(FindingKind, String, &'static str)> {
    if let Place::Rdb(path) = &plan.target
        && !path.exists()
    {
        let what = format!("--to {}: there is no such file", path.display());
        return Some((
            FindingKind::Unreachable,
            what,
            "give the path of a file that is there, or the URL of a server",
        ));
    }
    let target = facts.target.as_ref()?;
    if target.sentinel {
        let what = format!("{}: a Sentinel holds no data", plan.target);
        return Some((
            FindingKind::Sentinel,
            what,
            "give redis-sentinel://HOST:PORT/NAME for the master that it watches",
        ));
    }
    if target.cluster {
        let what = format!(
            "{}: it is a node of a cluster, and clusters are read as sources only",
            plan.target
        );
        return Some((
            FindingKind::ClusterPart,
            what,
            "give the cluster as --from and the other side as --to: what differs is the same",
        ));
    }
    None
}

/// What stands in the way of mending what differs.
fn unrepaired(
    plan: &Plan,
    facts: &Facts,
    runs_here: bool,
) -> Option<(FindingKind, String, &'static str)> {
    if !matches!(plan.target, Place::Server(_)) {
        let what = format!("--repair: {} is a file, and is written as a whole", plan.target);
        return Some((
            FindingKind::Record,
            what,
            "sync writes it anew, with --on-conflict replace",
        ));
    }
    let is_elsewhere = flow::is_under_way(facts) && !runs_here;
    is_elsewhere.then(|| {
        (
            FindingKind::Record,
            format!("--repair: the job {} is under way and does not run here: what it has yet to bring would come on top of what is mended", plan.job.name),
            "start the same sync again and repair while it follows, or end it (the same sync with --once) and repair then",
        )
    })
}

fn globs(texts: &[OsString]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text.as_bytes())).collect()
}

/// The plan, of whose keys only those are compared that match.
fn narrowed(mut plan: Plan, only: &[Glob]) -> Plan {
    for source in &mut plan.sources {
        source.rules = std::mem::take(&mut source.rules).narrowed(only.to_vec());
    }
    plan
}

/// The plan of a `sync` of the same places under the same rules.
fn as_sync(args: Verify) -> Sync {
    let mut sync = Sync::looking(args.places, args.rules, args.access);
    // All is noted on a disk: as for a census.
    (sync.census, sync.once) = (true, true);
    (sync.schedule, sync.writing.bounds) = (args.schedule, args.bounds);
    sync
}

/// What is said of the keys that differ.
struct Telling {
    json: bool,
    /// Whether they are mended.
    repairs: bool,
    /// Whether stderr has warnings and errors only.
    is_quiet: bool,
    /// How many of them are written.
    most: u64,
    written: u64,
    /// The first of them, for the report.
    named: Vec<Difference>,
    /// The keys that are compared, if not all are, by the patterns of their names.
    only: Vec<String>,
}

impl Telling {
    fn new(json: bool, repairs: bool, most: Option<u64>, mode: Mode) -> Self {
        Self {
            json,
            repairs,
            is_quiet: mode == Mode::None,
            most: most.unwrap_or(u64::MAX),
            written: 0,
            named: Vec::new(),
            only: Vec::new(),
        }
    }

    fn tell(&mut self, told: Told) {
        if let Told::Differs(difference) = &told {
            let alike = self.named.iter().filter(|one| one.kind == difference.kind);
            if alike.count() < section::NAMED {
                self.named.push(difference.clone());
            }
        }
        match told {
            Told::Differs(difference) if self.written < self.most => {
                self.written += 1;
                terminal::result(&self.line(&difference));
                if let Some(parting) = difference.parting.filter(|_| !self.json && !self.is_quiet) {
                    terminal::line(&format!("  {parting}"));
                }
            }
            Told::Differs(_) => {}
            Told::Unmended(difference, Doubt { why, mend }) => {
                let (db, key) = (place(&difference), Escaped(&difference.key));
                notice::warning(&format!("db {db}, {key}: it was not mended: {why}"), mend);
            }
            Told::Unproven(difference, Doubt { why, mend }) => {
                let (db, key) = (place(&difference), Escaped(&difference.key));
                let what = format!("db {db}, {key}: nobody can tell whether it is the same: {why}");
                notice::warning(&what, mend);
            }
        }
    }

    fn line(&self, difference: &Difference) -> String {
        if self.json {
            return format!("{}\n", section::line(difference));
        }
        format!("{}\t{}\t{}\n", difference.kind, place(difference), Escaped(&difference.key))
    }

    /// What was compared, and what came of it.
    fn sum_up(&self, verified: &Verified, mode: Mode) {
        let counts = verified.counts;
        let all: u64 = verified.differences.iter().sum();
        if self.json {
            let counts = section::counts(verified, self.written);
            terminal::result(&format!("{counts}\n"));
        }
        if mode == Mode::None {
            return;
        }
        notice::note(&format!(
            "read: the sources by {}, the target by {}, in {:.1} s",
            verified.methods().join(", "),
            verified.method,
            verified.report.seconds
        ));
        if let Some(sampled) = &verified.sampled {
            notice::note(&in_words(sampled));
        }
        notice::note(&format!(
            "compared: {} of the sources, {} of the target; {} are the same{}",
            keys(counts.expected),
            grouped(counts.found),
            grouped(counts.same),
            match verified.settled {
                0 => String::new(),
                settled => format!(", {} of them when they were looked at again", grouped(settled)),
            }
        ));
        if verified.written > 0 {
            notice::note(&format!(
                "{} written since the copy, and read anew on both sides",
                match verified.written {
                    1 => "1 key was".to_owned(),
                    many => format!("{} keys were", grouped(many)),
                }
            ));
        }
        if verified.loose_deadlines {
            notice::note(
                "of deadlines that are set when the job ends it was compared only whether there are any",
            );
        }
        if verified.foreign > 0 {
            notice::note(&format!(
                "compared without {} of the target that can have come from none of these sources under these rules",
                keys(verified.foreign)
            ));
        }
        if verified.unproven > 0 {
            notice::note(&format!("{} could not be compared", keys(verified.unproven)));
        }
        if all == 0 {
            notice::note(match verified.unproven {
                0 => "no difference",
                _ => "no difference among those that could be compared",
            });
            let sampled = verified.sampled.filter(|sampled| sampled.share != Share::ALL);
            if let Some(Sampled { drawn, .. }) = sampled {
                let both = counts.expected.min(counts.found);
                // A key that one side lacks is met in the other's half alone.
                notice::note(&proven(if drawn == Drawn::Places { both / 2 } else { both }));
            }
            return;
        }
        let kinds = Kind::ALL.iter().zip(verified.differences).filter(|(_, count)| *count > 0);
        let kinds: Vec<String> =
            kinds.map(|(kind, count)| format!("{} {kind}", grouped(count))).collect();
        let hidden = match all - self.written {
            0 => String::new(),
            hidden => format!(" ({} of them are not written: --differences)", grouped(hidden)),
        };
        notice::note(&format!("{}: {}{hidden}", differ(all), kinds.join(", ")));
        if self.repairs {
            notice::note(&match all - verified.mended {
                0 => "all of them were mended, and are the same now".to_owned(),
                left => format!(
                    "{} of them were mended, and {} still differ",
                    grouped(verified.mended),
                    grouped(left)
                ),
            });
        }
    }
}

/// So many keys, as words.
fn keys(count: u64) -> String {
    format!("{} {}", grouped(count), if count == 1 { "key" } else { "keys" })
}

/// That so many keys differ.
fn differ(count: u64) -> String {
    format!("{} {}", keys(count), if count == 1 { "differs" } else { "differ" })
}

fn in_words(sampled: &Sampled) -> String {
    let Sampled { share, drawn, seed } = sampled;
    let how = match drawn {
        Drawn::Places => {
            "those that SCAN gave from places spread over each server's table, looked for on the others"
        }
        Drawn::Names => "those that a hash of their names chose, out of all names",
    };
    format!("sample: {share} of the keys, {how} (--seed {seed})")
}

/// What a sample of so many keys proves in which nothing differs.
fn proven(keys: u64) -> String {
    // Where one of n differs, k keys are all the same with a probability of (1 - 1/n)^k: a twentieth at n = k/3.
    match keys / 3 {
        0 | 1 => "so few keys prove nothing about the others".to_owned(),
        one_of => format!(
            "had one key of {} differed, it would have been seen nineteen times out of twenty; of a few keys that differ a sample tells nothing",
            grouped(one_of)
        ),
    }
}

/// The database; of a library of functions, which is in none, what it is.
fn place(difference: &Difference) -> String {
    difference.db.map_or_else(|| "function".to_owned(), |db| db.to_string())
}
