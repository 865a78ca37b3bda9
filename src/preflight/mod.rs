//! Finding out what both sides are, before anything is written.

use std::collections::HashSet;

use crate::key::Db;
use crate::net::{Control, ControlError, Net, info_field};
use crate::plan::{Facts, Place, Plan, Role, ServerFacts, ServerPlace};
use crate::server::Server;
use crate::source::{Source, SourceError};

/// A place that could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{place}")]
pub struct Unreachable {
    /// The place, as it is named in reports.
    pub place: String,
    /// Why.
    #[source]
    pub source: Obstacle,
}

/// Why a place could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A server does not answer.
    #[error(transparent)]
    Server(#[from] ControlError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SourceError),
}

impl Unreachable {
    /// What the operator can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match &self.source {
            Obstacle::Server(ControlError::Link(_)) => {
                "see that the address is right, the server is up and no firewall stands between"
            }
            Obstacle::Server(ControlError::Password(_)) => {
                "give the password in the URL (redis://[user]:password@host:port), or in UNDERSTUDY_FROM_PASSWORD or UNDERSTUDY_TO_PASSWORD"
            }
            Obstacle::Server(ControlError::Refused { .. }) => {
                "is this the address of a Redis or Valkey server?"
            }
            Obstacle::File(error) => error.advice(),
        }
    }

    /// Whether the place was found and its bytes are damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(&self.source, Obstacle::File(error) if error.is_damage())
    }
}

/// Asks every server of the plan what it is, and sees that every file can be read. Few rights are enough: what a server does not tell is taken for
/// what is usual, and the sources' `PSYNC` has the last word.
///
/// # Errors
/// If a server cannot be reached or refuses the password, or a file cannot be read.
pub async fn look(net: &Net, plan: &Plan) -> Result<Facts, Unreachable> {
    let mut facts = Facts::default();
    for source in &plan.sources {
        facts.sources.push(look_at(net, &source.place, &source.name, false).await?);
    }
    facts.target = look_at(net, &plan.target, &plan.target.to_string(), true).await?;
    Ok(facts)
}

async fn look_at(
    net: &Net,
    place: &Place,
    name: &str,
    is_target: bool,
) -> Result<Option<ServerFacts>, Unreachable> {
    match place {
        Place::Server(server) => match facts_of(net, server, is_target).await {
            Ok(facts) => Ok(Some(facts)),
            Err(source) => Err(Unreachable { place: name.to_owned(), source: source.into() }),
        },
        Place::Rdb(_) | Place::Capture(_) if is_target => Ok(None),
        Place::Rdb(_) | Place::Capture(_) => match Source::open(net, place, None).await {
            Ok(_) => Ok(None),
            Err(source) => Err(Unreachable { place: name.to_owned(), source: source.into() }),
        },
    }
}

async fn facts_of(
    net: &Net,
    place: &ServerPlace,
    count: bool,
) -> Result<ServerFacts, ControlError> {
    let mut control = Control::open(net, place).await?;
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
        facts.keys = info.lines().filter_map(keys_of_db).collect();
        for (db, keys) in facts.keys.iter_mut().filter(|(_, keys)| **keys <= OWN_AT_MOST) {
            let own = own_keys(&mut control, *db).await?;
            *keys = keys.saturating_sub(own);
        }
    }
    Ok(facts)
}

/// A database with more keys holds more than understudy's own.
const OWN_AT_MOST: u64 = 10_000;

/// How many keys of a database are understudy's own. One that may not be asked holds none.
async fn own_keys(control: &mut Control, db: Db) -> Result<u64, ControlError> {
    let mut own = HashSet::new();
    let mut cursor = 0_u64;
    loop {
        let page = async {
            control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
            let cursor = cursor.to_string();
            let args: [&[u8]; 5] =
                [cursor.as_bytes(), b"MATCH", b"understudy:*", b"COUNT", b"1000"];
            control.ask::<(u64, Vec<Vec<u8>>)>("SCAN", &args).await
        };
        match page.await {
            Ok((next, names)) => {
                own.extend(names);
                cursor = next;
            }
            Err(ControlError::Refused { .. }) => return Ok(0),
            Err(other) => return Err(other),
        }
        if cursor == 0 {
            return Ok(own.len() as u64);
        }
    }
}

/// The database and the number of keys in a line of `INFO keyspace`: `db0:keys=5,expires=0,…`.
fn keys_of_db(line: &str) -> Option<(Db, u64)> {
    let (db, rest) = line.trim().split_once(':')?;
    let db = Db::parse(db.strip_prefix("db")?.as_bytes())?;
    let keys = rest.split(',').find_map(|field| field.strip_prefix("keys="))?.parse().ok()?;
    Some((db, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_by_database() {
        assert_eq!(keys_of_db("db12:keys=345,expires=2,avg_ttl=0\r"), Some((Db::new(12), 345)));
        assert_eq!(keys_of_db("dbfilename:dump.rdb"), None);
        assert_eq!(keys_of_db("# Keyspace"), None);
    }
}
