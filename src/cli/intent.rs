//! From what was typed to what is meant.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use understudy::flow;
use understudy::plan::{
    Identity, Job, Method, OnConflict, OnDeadlines, OnUnknown, Place, PlaceError, Plan, Rules,
    ServerPlace, Side, Source, Spool, Tls, Until,
};
use understudy::repl::Credentials;
use understudy::server::Server;

use super::args::{
    self, DeadlinesArg, FromTls, MethodArg, OnConflictArg, OnUnknownArg, Ping, Sync, ToTls,
    UntilArg,
};
use super::state;

/// The least that a source can be read with.
const LEAST_MEMORY: u64 = 1 << 20;

/// The target's clock is looked at a minute before deadlines come.
const LEAST_AWAY: Duration = Duration::from_secs(300);

/// What a `record` stands for, as a plan whose target is the capture, and as what is to be done.
pub(crate) fn record(args: &args::Record) -> Result<(Plan, flow::Record), Refusal> {
    let way = Way::from(&args.from_tls);
    let from = place(&args.from, &way)?;
    way.check_use([&from])?;
    let Place::Server(server) = &from else {
        return refuse(format!("--from {from}: a file says nothing new"), "give a server");
    };
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
        written_for: None,
        limit_rate: None,
        limit_read: None,
        memory: LEAST_MEMORY,
        spool: Spool::default(),
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
    let from = Way::from(&args.from_tls);
    let to = Way::to(&args.writing.to_tls);
    let target = place(&args.to, &to)?;
    let mut sources: Vec<Source> = Vec::new();
    for text in &args.from {
        let place = place(text, &from)?;
        let name = place.to_string();
        if sources.iter().any(|source| source.name == name) {
            return refuse(format!("--from {name}: this source is given twice"), "give it once");
        }
        let rules = args
            .writing
            .rules
            .of(&place, &target)
            .map_err(|what| Refusal { what, mend: "see understudy sync --help".into() })?;
        sources.push(Source { name, place, rules });
    }
    if sources.iter().any(|source| is_same(&source.place, &target)) {
        let text = format!("{target} is source and target at once");
        return refuse(text, "give another place as --to");
    }
    from.check_use(sources.iter().map(|source| &source.place))?;
    to.check_use([&target])?;
    let least = LEAST_MEMORY * sources.len() as u64;
    if args.writing.memory < least {
        return refuse(
            format!("--memory: at least 1MiB a source is needed, {}MiB in all", least >> 20),
            "give more, or fewer sources at once",
        );
    }
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
    let name = args.job.clone().unwrap_or_else(|| state::job_name(&sources, &target));
    let folder = if is_file { None } else { state::folder(&name) };
    if is_file && (args.job.is_some() || args.restart) {
        return refuse(
            "--job and --restart: a file is always written from its beginning".to_owned(),
            "leave them out",
        );
    }
    if is_file && (args.spool.is_some() || args.spool_limit.is_some()) {
        return refuse(
            "--spool and --spool-limit: nothing waits where a file is written".to_owned(),
            "leave them out",
        );
    }
    let spool = Spool {
        folder: args.spool.clone().or_else(|| folder.clone()).filter(|_| !is_file),
        named: args.spool.is_some(),
        limit: args.spool_limit,
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
        on_flush: args.writing.rules.on_flush(),
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
        limit_rate: args.writing.limit_rate,
        limit_read: args.writing.limit_read,
        memory: args.writing.memory,
        spool,
    })
}

/// Whether both are one place by their names; that a server has two of them is found when it is asked.
fn is_same(one: &Place, other: &Place) -> bool {
    let path = |place: &Place| match place {
        Place::Server(_) => None,
        Place::Rdb(path) | Place::Capture(path) => fs::canonicalize(path).ok(),
    };
    one.to_string() == other.to_string() || path(one).is_some_and(|one| path(other) == Some(one))
}

/// The servers that `ping` was told.
pub(crate) fn servers(args: &Ping) -> Result<Vec<ServerPlace>, Refusal> {
    let way = Way { side: Side::Pinged, ..Way::from(&args.from_tls) };
    let places: Result<Vec<_>, _> = args.servers.iter().map(|text| place(text, &way)).collect();
    let places = places?;
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

/// What is wrong with what was typed, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) what: String,
    pub(crate) mend: Cow<'static, str>,
}

fn refuse<T>(what: String, mend: impl Into<Cow<'static, str>>) -> Result<T, Refusal> {
    Err(Refusal { what, mend: mend.into() })
}

/// What all places of one side share.
struct Way {
    side: Side,
    tls: Tls,
}

impl Way {
    fn from(args: &FromTls) -> Self {
        let FromTls { from_ca, from_cert, from_key, from_insecure } = args;
        let tls = wishes(from_ca.as_ref(), from_cert.as_ref(), from_key.as_ref(), *from_insecure);
        Self { side: Side::Source, tls }
    }

    fn to(args: &ToTls) -> Self {
        let ToTls { to_ca, to_cert, to_key, to_insecure } = args;
        let tls = wishes(to_ca.as_ref(), to_cert.as_ref(), to_key.as_ref(), *to_insecure);
        Self { side: Side::Target, tls }
    }

    /// Flags that nothing would heed are a mistake, and with TLS a grave one.
    fn check_use<'p>(&self, places: impl IntoIterator<Item = &'p Place>) -> Result<(), Refusal> {
        let speaks_tls =
            |place: &Place| matches!(place, Place::Server(server) if server.tls.is_some());
        if self.tls == Tls::default() || places.into_iter().any(speaks_tls) {
            return Ok(());
        }
        let flag = self.side.flag();
        let place = match self.side {
            Side::Source | Side::Target => flag,
            Side::Pinged => "URL",
        };
        refuse(
            format!("{flag}-ca, -cert, -key and -insecure are for TLS, and no {place} speaks it"),
            "write rediss:// in place of redis://",
        )
    }

    fn password(&self) -> Option<String> {
        env::var(self.side.password_variable()).ok().filter(|password| !password.is_empty())
    }
}

fn wishes(
    authorities: Option<&PathBuf>,
    certificate: Option<&PathBuf>,
    key: Option<&PathBuf>,
    insecure: bool,
) -> Tls {
    let pair = certificate.cloned().zip(key.cloned());
    let identity = pair.map(|(certificate, key)| Identity { certificate, key });
    Tls { authorities: authorities.cloned(), identity, insecure }
}

fn place(text: &str, way: &Way) -> Result<Place, Refusal> {
    let flag = way.side.place();
    let mut place = match Place::parse(text) {
        Ok(place) => place,
        // The text may hold a password that was mistyped into a wrong place.
        Err(_) if text.contains('@') => {
            return refuse(
                format!("{flag}: this is no place that can be reached"),
                "write redis://user:password@host:port/db, with @ : / and % in a password as %40 %3A %2F %25",
            );
        }
        Err(error) => return refuse(format!("{flag}: {error}"), advice(&error)),
    };
    if let Place::Server(server) = &mut place {
        if let Some(password) = way.password() {
            match &mut server.credentials {
                Some(credentials) if credentials.password.is_empty() => {
                    credentials.password = password;
                }
                Some(_) => {}
                none => *none = Some(Credentials { user: None, password }),
            }
        }
        if let Some(tls) = &mut server.tls {
            *tls = way.tls.clone();
        }
    }
    Ok(place)
}

fn advice(error: &PlaceError) -> Cow<'static, str> {
    let advice = match error {
        PlaceError::Unknown(text) => match listen(text.split('/').next().unwrap_or_default()) {
            Ok(_) => return format!("write redis://{text}, or rediss://{text} for TLS").into(),
            Err(_) => {
                "write redis://[[user]:password@]host[:port][/db] for a server, rediss:// for TLS, unix:/path for a socket, or a path that ends in .rdb or .bin"
            }
        },
        PlaceError::Port(_) => "a port is a number from 1 to 65535: redis://host:6379",
        PlaceError::Db(_) => "a database is a number behind the last slash: redis://host:6379/3",
        PlaceError::Host => "write redis://host:port",
        PlaceError::Percent => "write @ : / and % in a user or a password as %40 %3A %2F %25",
        PlaceError::Unsupported(_) => "give the master itself: redis://host:port",
        _ => "",
    };
    advice.into()
}

/// Reads the name of a server and its version.
pub(crate) fn server(text: &str) -> Result<Server, String> {
    Server::parse(text).ok_or_else(|| {
        "a server is redis-, valkey- or redict- and its version, such as redis-6.2".to_owned()
    })
}

/// Reads an address to listen on: a host and a port.
pub(crate) fn listen(text: &str) -> Result<(String, u16), String> {
    let wanted = "a host and a port, such as 127.0.0.1:6379 or [::1]:0";
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wanted.to_owned())?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || bare.is_none() && host.contains(':') {
        return Err(wanted.to_owned());
    }
    let port = port.parse().map_err(|_| format!("{port:?} is no port: {wanted}"))?;
    Ok((host.to_owned(), port))
}

/// Reads a duration: numbers with units, such as `1h30m` or `500ms`, the larger units first or not.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || "a duration is numbers with units: 90s, 1h30m, 500ms, 2d".to_owned();
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(wanted());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wanted())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wanted()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis);
        let longer = part.and_then(|part| sum.checked_add(part));
        sum = longer.ok_or_else(|| "this is longer than there can be".to_owned())?;
        rest = after;
    }
    Ok(sum)
}

/// Reads a size: a number and a unit, where kB is 1000 bytes and KiB is 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => {
            return Err(format!(
                "{unit:?} is no unit: use B, kB, MB, GB (1000) or KiB, MiB, GiB (1024)"
            ));
        }
    };
    let number: u64 =
        number.parse().map_err(|_| "a size is a number and a unit, such as 256MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "this is more than there can be".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(listen("localhost:0"), Ok(("localhost".to_owned(), 0)));
        assert_eq!(listen("[::1]:6379"), Ok(("::1".to_owned(), 6379)));
        for bad in ["6379", ":6379", "::1", "::1:6379", "host:", "host:65536", "[::1]"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("2d1ms"), Ok(Duration::from_millis(172_800_001)));
        for bad in ["", "5", "m", "5 s", "5y", "1.5h", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert_eq!(size("1024"), Ok(1024));
        assert!(size("12 parsecs").is_err());
        assert!(size("MiB").is_err());
        assert!(size("99999999999GiB").is_err());
    }
}
