//! From what was typed to what is meant.

use std::env;
use std::time::Duration;

use understudy::flow;
use understudy::plan::{OnConflict, Place, PlaceError, Plan, Rules, Source, Until};
use understudy::repl::Credentials;
use understudy::server::Server;

use super::args::{self, OnConflictArg, Sync, UntilArg};

/// The least that a source can be read with.
const LEAST_MEMORY: u64 = 1 << 20;

/// What a `record` stands for, as a plan whose target is the capture, and as what is to be done.
pub(crate) fn record(args: &args::Record) -> Result<(Plan, flow::Record), String> {
    let from = place("--from", &args.from, password("UNDERSTUDY_FROM_PASSWORD").as_deref())?;
    let Place::Server(server) = &from else {
        return Err(format!("--from {from}: a file says nothing new; give a server"));
    };
    let out = args.out.display();
    let Some(Place::Capture(file)) = args.out.to_str().and_then(|out| Place::parse(out).ok())
    else {
        return Err(format!("--out {out}: the name of a capture ends in .bin"));
    };
    for path in [file.clone(), file.with_extension("json")] {
        if path.exists() && !args.force {
            return Err(format!("{} is there already: --force writes over it", path.display()));
        }
    }
    let until = until(args.once, args.until);
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
        until,
        on_conflict: None,
        on_flush: None,
        written_for: None,
        limit_rate: None,
        limit_read: None,
        memory: LEAST_MEMORY,
    };
    Ok((plan, record))
}

fn until(once: bool, until: UntilArg) -> Until {
    match (once, until) {
        (true, _) | (_, UntilArg::CaughtUp) => Until::CaughtUp,
        (false, UntilArg::Forever) => Until::Forever,
    }
}

/// The plan that a `sync` stands for.
pub(crate) fn plan(args: &Sync) -> Result<Plan, String> {
    let from_password = password("UNDERSTUDY_FROM_PASSWORD");
    let target = place("--to", &args.to, password("UNDERSTUDY_TO_PASSWORD").as_deref())?;
    let mut sources: Vec<Source> = Vec::new();
    for text in &args.from {
        let place = place("--from", text, from_password.as_deref())?;
        let name = place.to_string();
        if sources.iter().any(|source| source.name == name) {
            return Err(format!("--from {name}: this source is given twice"));
        }
        let rules = args.writing.rules.of(&place, &target)?;
        sources.push(Source { name, place, rules });
    }
    if sources.iter().any(|source| source.place == target) {
        return Err(format!("{target} is source and target at once"));
    }
    let least = LEAST_MEMORY * sources.len() as u64;
    if args.writing.memory < least {
        return Err(format!(
            "--memory: at least 1MiB a source is needed, {}MiB in all",
            least >> 20
        ));
    }
    let is_file = match &target {
        Place::Server(_) => false,
        Place::Rdb(_) => true,
        Place::Capture(path) => {
            return Err(format!("--to {}: a capture is no target of this command", path.display()));
        }
    };
    let until = match (args.once, args.until) {
        (true, _) | (_, Some(UntilArg::CaughtUp)) => Until::CaughtUp,
        (false, Some(UntilArg::Forever)) if is_file => {
            return Err(
                "--until forever: an .rdb file holds each source as it was when its copy began; changes cannot follow into it"
                    .to_owned(),
            );
        }
        (false, None) if is_file => Until::CaughtUp,
        (false, None | Some(UntilArg::Forever)) => Until::Forever,
    };
    if args.writing.written_for.is_some() && !is_file {
        return Err("--for names the reader of an .rdb file, and the target is a server".to_owned());
    }
    Ok(Plan {
        sources,
        target,
        until,
        written_for: args.writing.written_for,
        on_conflict: args.writing.on_conflict.map(|policy| match policy {
            OnConflictArg::Stop => OnConflict::Stop,
            OnConflictArg::Replace => OnConflict::Replace,
            OnConflictArg::Keep => OnConflict::Keep,
        }),
        on_flush: args.writing.rules.on_flush(),
        limit_rate: args.writing.limit_rate,
        limit_read: args.writing.limit_read,
        memory: args.writing.memory,
    })
}

fn password(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|password| !password.is_empty())
}

fn place(flag: &str, text: &str, password: Option<&str>) -> Result<Place, String> {
    let mut place = Place::parse(text).map_err(|error| match error {
        // The text may hold a password that was mistyped into a wrong place.
        PlaceError::Unknown(_) if text.contains('@') => {
            format!("{flag}: this is no place that can be reached")
        }
        other => format!("{flag}: {other}"),
    })?;
    if let Place::Server(server) = &mut place
        && let Some(password) = password
    {
        match &mut server.credentials {
            Some(credentials) if credentials.password.is_empty() => {
                credentials.password = password.to_owned();
            }
            Some(_) => {}
            none => *none = Some(Credentials { user: None, password: password.to_owned() }),
        }
    }
    Ok(place)
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
