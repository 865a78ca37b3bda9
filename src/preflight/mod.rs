//! Finding out what both sides are, before anything is written.

use crate::net::{Control, ControlError, info_field};
use crate::plan::{Facts, Place, Plan, Role, ServerFacts, ServerPlace};
use crate::server::Server;

/// A place that could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{place}")]
pub struct Unreachable {
    /// The place, as it is named in reports.
    pub place: String,
    /// Why.
    #[source]
    pub source: ControlError,
}

impl Unreachable {
    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match &self.source {
            ControlError::Link(_) => {
                "see that the address is right, the server is up and no firewall stands between"
            }
            ControlError::Password(_) => {
                "give the password in the URL (redis://[user]:password@host:port), or in UNDERSTUDY_FROM_PASSWORD or UNDERSTUDY_TO_PASSWORD"
            }
            ControlError::Refused { .. } => "is this the address of a Redis or Valkey server?",
        }
    }
}

/// Asks every server of the plan what it is. Few rights are enough: what a server does not tell is taken for
/// what is usual, and the sources' `PSYNC` has the last word.
///
/// # Errors
/// If a server cannot be reached or refuses the password.
pub async fn look(plan: &Plan) -> Result<Facts, Unreachable> {
    let mut facts = Facts::default();
    for source in &plan.sources {
        facts.sources.push(look_at(&source.place, &source.name, false).await?);
    }
    facts.target = look_at(&plan.target, &plan.target.to_string(), true).await?;
    Ok(facts)
}

async fn look_at(
    place: &Place,
    name: &str,
    count: bool,
) -> Result<Option<ServerFacts>, Unreachable> {
    match place {
        Place::Server(server) => match facts_of(server, count).await {
            Ok(facts) => Ok(Some(facts)),
            Err(source) => Err(Unreachable { place: name.to_owned(), source }),
        },
        Place::Rdb(_) | Place::Capture(_) => Ok(None),
    }
}

async fn facts_of(place: &ServerPlace, count: bool) -> Result<ServerFacts, ControlError> {
    let mut control = Control::open(place).await?;
    let mut facts = ServerFacts::default();
    let info = match control.ask::<String>("INFO", &[]).await {
        Ok(info) => info,
        Err(ControlError::Refused { .. }) => return Ok(facts),
        Err(other) => return Err(other),
    };
    facts.server = Server::from_info(&info);
    facts.cluster = info_field(&info, "cluster_enabled") == Some("1");
    facts.sentinel = info_field(&info, "redis_mode") == Some("sentinel");
    facts.role = match (info_field(&info, "role"), info_field(&info, "master_link_status")) {
        (Some("slave"), Some("up")) => Role::Replica,
        (Some("slave"), _) => Role::LostReplica,
        _ => Role::Master,
    };
    facts.used_memory =
        info_field(&info, "used_memory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    if count {
        facts.keys = info.lines().filter_map(keys_of_db).sum();
    }
    Ok(facts)
}

/// The number of keys in a line of `INFO keyspace`: `db0:keys=5,expires=0,…`.
fn keys_of_db(line: &str) -> Option<u64> {
    let (db, rest) = line.trim().split_once(':')?;
    db.strip_prefix("db")?.parse::<u32>().ok()?;
    rest.split(',').find_map(|field| field.strip_prefix("keys="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_by_database() {
        assert_eq!(keys_of_db("db12:keys=345,expires=2,avg_ttl=0\r"), Some(345));
        assert_eq!(keys_of_db("dbfilename:dump.rdb"), None);
        assert_eq!(keys_of_db("# Keyspace"), None);
    }
}
