//! From what was typed to what is meant.

use std::env;

use understudy::plan::{OnConflict, Place, PlaceError, Plan, Source, Until};
use understudy::repl::Credentials;

use super::args::{OnConflictArg, Sync, UntilArg};

/// The least that a source can be read with.
const LEAST_MEMORY: u64 = 1 << 20;

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
        let rules = args.rules.of(&place, &target)?;
        sources.push(Source { name, place, rules });
    }
    if sources.iter().any(|source| source.place == target) {
        return Err(format!("{target} is source and target at once"));
    }
    let least = LEAST_MEMORY * sources.len() as u64;
    if args.memory < least {
        return Err(format!(
            "--memory: at least 1MiB a source is needed, {}MiB in all",
            least >> 20
        ));
    }
    Ok(Plan {
        sources,
        target,
        until: match (args.once, args.until) {
            (true, _) | (_, UntilArg::CaughtUp) => Until::CaughtUp,
            (false, UntilArg::Forever) => Until::Forever,
        },
        on_conflict: args.on_conflict.map(|policy| match policy {
            OnConflictArg::Stop => OnConflict::Stop,
            OnConflictArg::Replace => OnConflict::Replace,
            OnConflictArg::Keep => OnConflict::Keep,
        }),
        on_flush: args.rules.on_flush(),
        memory: args.memory,
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
    fn sizes() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert_eq!(size("1024"), Ok(1024));
        assert!(size("12 parsecs").is_err());
        assert!(size("MiB").is_err());
        assert!(size("99999999999GiB").is_err());
    }
}
