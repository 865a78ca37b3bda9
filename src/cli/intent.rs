//! From what was typed to what is meant.

use std::path::PathBuf;
use std::time::Duration;

use understudy::flow;
use understudy::plan::{
    Address, Job, Method, OnConflict, OnDeadlines, OnUnknown, Place, Plan, Rate, Rules,
    ServerPlace, Source, Spool, SshHost, Until,
};

use super::args::{
    self, DeadlinesArg, MethodArg, OnConflictArg, OnUnknownArg, Ping, Sync, UntilArg,
};
use super::config::{self, Config};
use super::places::{Way, check_ssh};
use super::refusal::{Refusal, refuse};
use super::values::{Said, bytes_a_second, count, rate, size};
use super::{sources, state};

/// The least that a source can be read with.
const LEAST_MEMORY: u64 = 1 << 20;

/// The target's clock is looked at a minute before deadlines come.
const LEAST_AWAY: Duration = Duration::from_secs(300);

/// What a `record` stands for, as a plan whose target is the capture, and as what is to be done.
pub(crate) fn record(args: &args::Record) -> Result<(Plan, flow::Record), Refusal> {
    let way = Way::from(&args.from_tls, &args.from_ssh, &args.ssh);
    let from = way.place(&args.from)?;
    check_ssh(&args.ssh, [&from])?;
    way.check_use([&from])?;
    let Place::Server(server) = &from else {
        return refuse(format!("--from {from}: a file says nothing new"), "give a server");
    };
    if matches!(server.address, Address::Cluster(_)) {
        return refuse(
            format!("--from {from}: a cluster is many streams, and a capture is one"),
            "give one server",
        );
    }
    let out = args.out.display();
    let Some(Place::Capture(file)) = args.out.to_str().and_then(|out| Place::parse(out).ok())
    else {
        return refuse(
            format!("--out {out}: this is not the name of a capture"),
            "the name of a capture ends in .bin",
        );
    };
    for path in [file.clone(), file.with_extension("json")] {
        if path.exists() && !args.force {
            let text = format!("{} is there already", path.display());
            return refuse(text, "give another name, or --force to write over it");
        }
    }
    let until = until(args.once, args.until)?.unwrap_or(Until::Forever);
    let record = flow::Record {
        from: server.clone(),
        server: None,
        file: file.clone(),
        force: args.force,
        until,
        lasting: args.r#for,
    };
    let source = Source { name: from.to_string(), place: from, rules: Rules::default() };
    let target = Place::Capture(file);
    let plan = Plan {
        sources: vec![source],
        target,
        job: Job::default(),
        method: Method::Auto,
        until,
        on_conflict: None,
        on_flush: None,
        away: None,
        on_unknown: OnUnknown::Stop,
        deadlines: OnDeadlines::Exact,
        accept_eviction: false,
        remove_unowned: false,
        written_for: None,
        limit_rate: None,
        limit_read: None,
        memory: LEAST_MEMORY,
        spool: Spool::default(),
        at_once: None,
        per_host: 1,
    };
    Ok((plan, record))
}

/// When the run ends; `None` where nobody has said so.
fn until(once: bool, until: Option<UntilArg>) -> Result<Option<Until>, Refusal> {
    match (once, until) {
        (true, Some(UntilArg::Forever)) => refuse(
            "--once and --until forever contradict each other".to_owned(),
            "give one of them",
        ),
        (true, _) | (_, Some(UntilArg::CaughtUp)) => Ok(Some(Until::CaughtUp)),
        (false, Some(UntilArg::Forever)) => Ok(Some(Until::Forever)),
        (false, None) => Ok(None),
    }
}

/// The plan that a `sync` stands for.
pub(crate) fn plan(args: &Sync) -> Result<Plan, Refusal> {
    if args.census && !args.dry_run {
        return refuse(
            "--census counts what the sources hold and writes nothing: it is a part of --dry-run"
                .to_owned(),
            "give --dry-run too; without --census the run itself begins",
        );
    }
    let config = args.places.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let (sources, target) = sources::of(args, &config)?;
    let limits = Limits::of(args, &config.limits)?;
    check_memory(limits.memory, &sources)?;
    let is_file = match &target {
        Place::Server(_) => false,
        Place::Rdb(_) => true,
        Place::Capture(path) => {
            return refuse(
                format!("--to {}: a capture is no target of this command", path.display()),
                "understudy record --from URL --out FILE makes captures",
            );
        }
    };
    let until = match until(args.once, args.until)? {
        Some(Until::Forever) if is_file => {
            return refuse(
                "--until forever: an .rdb file holds each source as it was when its copy began; changes cannot follow into it"
                    .to_owned(),
                "leave it out, or use --once",
            );
        }
        None if is_file => Until::CaughtUp,
        until => until.unwrap_or(Until::Forever),
    };
    if args.writing.written_for.is_some() && !is_file {
        return refuse(
            "--for names the reader of an .rdb file, and the target is a server".to_owned(),
            "leave it out: what a server reads is asked of it",
        );
    }
    if args.away.is_some_and(|away| away < LEAST_AWAY) {
        return refuse("--away: at least five minutes are needed".to_owned(), "give more");
    }
    let name = args.places.job.clone().unwrap_or_else(|| state::job_name(&sources, &target));
    let folder = if is_file { None } else { state::folder(&name) };
    if is_file && args.remove_unowned {
        return refuse(
            "--remove-unowned: a file that is written holds nothing but what the sources have"
                .to_owned(),
            "leave it out",
        );
    }
    if is_file && (args.places.job.is_some() || args.restart) {
        return refuse(
            "--job and --restart: a file is always written from its beginning".to_owned(),
            "leave them out",
        );
    }
    if args.deadlines == DeadlinesArg::Live
        && let Some(source) = sources.iter().find(|source| source.rules.ttl().is_for_the_end())
    {
        return refuse(
            format!(
                "--deadlines live sets each deadline as it comes, and of {} all are set when the job ends: {}",
                source.name,
                source.rules.ttl()
            ),
            "leave out --deadlines live, or --freeze-ttl, --min-ttl and --max-ttl",
        );
    }
    let spools = !is_file || args.census;
    if !spools && (limits.spool.is_some() || limits.spool_limit.is_some()) {
        return refuse(
            "--spool and --spool-limit: nothing waits where a file is written".to_owned(),
            "leave them out",
        );
    }
    let spool = Spool {
        folder: limits.spool.clone().or_else(|| state::folder(&name)).filter(|_| spools),
        named: limits.spool.is_some(),
        limit: limits.spool_limit,
    };
    Ok(Plan {
        sources,
        target,
        job: Job { name, restart: args.restart, folder },
        method: match args.method {
            MethodArg::Auto => Method::Auto,
            MethodArg::Psync => Method::Psync,
        },
        until,
        written_for: args.writing.written_for,
        on_conflict: args.writing.on_conflict.map(|policy| match policy {
            OnConflictArg::Stop => OnConflict::Stop,
            OnConflictArg::Replace => OnConflict::Replace,
            OnConflictArg::Keep => OnConflict::Keep,
        }),
        on_flush: args.writing.flush.on_flush(),
        away: args.away,
        on_unknown: match args.writing.on_unknown_command {
            OnUnknownArg::Stop => OnUnknown::Stop,
            OnUnknownArg::Skip => OnUnknown::Skip,
        },
        deadlines: match args.deadlines {
            DeadlinesArg::Exact => OnDeadlines::Exact,
            DeadlinesArg::Live => OnDeadlines::Live,
        },
        accept_eviction: args.accept_eviction,
        remove_unowned: args.remove_unowned,
        limit_rate: limits.limit_rate,
        limit_read: limits.limit_read,
        memory: limits.memory,
        spool,
        at_once: limits.at_once,
        per_host: limits.per_host,
    })
}

/// What all sources share.
struct Limits {
    memory: u64,
    limit_rate: Option<Rate>,
    limit_read: Option<u64>,
    spool: Option<PathBuf>,
    spool_limit: Option<u64>,
    at_once: Option<usize>,
    per_host: usize,
}

/// The memory of a run that is told nothing.
const MEMORY: u64 = 256 << 20;

impl Limits {
    /// What was typed, and else what the file says.
    fn of(args: &Sync, file: &config::Limits) -> Result<Self, Refusal> {
        fn read<T>(
            said: Option<&Said<String>>,
            read: fn(&str) -> Result<T, String>,
        ) -> Result<Option<T>, Refusal> {
            let Some(said) = said else { return Ok(None) };
            read(&said.value).map(Some).map_err(|error| Refusal {
                what: format!("{}: {error}", said.at),
                mend: "it takes what its flag takes: understudy sync --help".into(),
            })
        }
        let written = &args.writing;
        Ok(Self {
            memory: written.bounds.memory.or(read(file.memory.as_ref(), size)?).unwrap_or(MEMORY),
            limit_rate: written.limit_rate.or(read(file.limit_rate.as_ref(), rate)?),
            limit_read: written
                .bounds
                .limit_read
                .or(read(file.limit_read.as_ref(), bytes_a_second)?),
            spool: args
                .schedule
                .spool
                .clone()
                .or_else(|| file.spool.as_ref().map(|said| said.value.clone().into())),
            spool_limit: args.schedule.spool_limit.or(read(file.spool_limit.as_ref(), size)?),
            at_once: args.schedule.sources_at_once.or(read(file.sources_at_once.as_ref(), count)?),
            per_host: args.schedule.per_host.or(read(file.per_host.as_ref(), count)?).unwrap_or(1),
        })
    }
}

/// The servers that `ping` was told.
pub(crate) fn servers(args: &Ping) -> Result<Vec<ServerPlace>, Refusal> {
    let way = Way::pinged(&args.from_tls, &args.from_ssh, &args.ssh);
    let places: Result<Vec<_>, _> = args.servers.iter().map(|text| way.place(text)).collect();
    let places = places?;
    check_ssh(&args.ssh, &places)?;
    way.check_use(&places)?;
    places
        .into_iter()
        .map(|place| match place {
            Place::Server(server) => Ok(server),
            Place::Rdb(path) | Place::Capture(path) => refuse(
                format!("{} is a file", path.display()),
                "only servers can be pinged: redis://host:port",
            ),
        })
        .collect()
}

/// Each source needs some memory to be read at all; a cluster is as many as it has masters.
pub(crate) fn check_memory(memory: u64, sources: &[Source]) -> Result<(), Refusal> {
    let through = sources.iter().filter(|source| source.place.is_behind_ssh()).count();
    let least = LEAST_MEMORY * sources.len() as u64 + (SshHost::HELD * through) as u64;
    if memory >= least {
        return Ok(());
    }
    let more = if through > 0 { ", and 256KiB for one behind an ssh host" } else { "" };
    refuse(
        format!(
            "--memory: at least 1MiB a source is needed{more}, {}MiB in all",
            least.div_ceil(1 << 20)
        ),
        "give more, or fewer sources at once",
    )
}
