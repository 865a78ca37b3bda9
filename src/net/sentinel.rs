//! Where a master is, by the word of the Sentinels that watch it.
//!
//! A Sentinel may be late: during a failover, and after it was away. So they are asked in turn until one leads to a server that says itself that it is
//! a master. A server that a failover has passed over says so too, as long as nobody has told it; that is why whoever follows one goes on asking.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use tokio::time::{sleep, timeout};

use crate::plan::{Address, ServerPlace, Side, Watched};

use super::{Control, ControlError, Net, info_field};

/// How long a Sentinel may take to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a Sentinel is asked whether the master is still the same.
const EVERY: Duration = Duration::from_secs(1);

/// Why Sentinels do not lead to a master.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SentinelError {
    /// None of them answers.
    #[error("no Sentinel answers that could tell where {name} is: {}", each(tried))]
    NoAnswer {
        /// The master's name.
        name: String,
        /// Each Sentinel, and why it does not answer.
        tried: Vec<(Address, ControlError)>,
    },
    /// They watch no master of this name.
    #[error("the Sentinel {by} watches no master that is called {name}; {}", watched(known))]
    Unknown {
        /// The master's name.
        name: String,
        /// One who says so.
        by: Address,
        /// The masters that it watches.
        known: Vec<String>,
    },
    /// The master that they name cannot be asked.
    #[error("the Sentinels say that {name} is at {at}, and that does not answer")]
    Unreached {
        /// The master's name.
        name: String,
        /// Where it is said to be.
        at: Address,
        /// Why it cannot be asked.
        #[source]
        source: ControlError,
    },
    /// The master that they name is none.
    #[error("the Sentinels say that {name} is at {at}, which says that it is a replica")]
    Replica {
        /// The master's name.
        name: String,
        /// Where it is said to be.
        at: Address,
    },
}

impl SentinelError {
    /// What the operator can do, if the master is on this side.
    #[must_use]
    pub fn advice(&self, side: Side) -> String {
        match self {
            Self::NoAnswer { tried, .. } => match tried.first() {
                Some((_, ControlError::PasswordMissing(_) | ControlError::PasswordRefused(_))) => {
                    "the password of the Sentinels is in UNDERSTUDY_SENTINEL_PASSWORD (their ACL user in UNDERSTUDY_SENTINEL_USER); that in the URL is the master's".to_owned()
                }
                _ => format!(
                    "check the Sentinels in {}, and that their ports (26379 unless configured) can be reached from here",
                    side.place()
                ),
            },
            Self::Unknown { .. } => {
                "write the name as SENTINEL MASTERS tells it: redis-sentinel://host:port/NAME".to_owned()
            }
            Self::Unreached { at: Address::Tcp { .. }, source: ControlError::Link(_), .. } => {
                "see that the address which the Sentinels tell can be reached from here; behind NAT it may be another (sentinel announce-ip, replica-announce-ip), and a failover may be under way".to_owned()
            }
            Self::Unreached { source, .. } => source.advice(side),
            Self::Replica { .. } => {
                "a failover may be under way; if it lasts see SENTINEL MASTER on the Sentinels and ROLE there".to_owned()
            }
        }
    }
}

pub(super) fn each(tried: &[(Address, ControlError)]) -> String {
    let line = |(at, error): &(Address, ControlError)| {
        let mut text = format!("{at}: {error}");
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    };
    tried.iter().map(line).collect::<Vec<_>>().join("; ")
}

fn watched(known: &[String]) -> String {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("it watches {known}")
}

/// What came of asking one Sentinel.
#[derive(Debug)]
enum Answer {
    /// It does not answer.
    None(ControlError),
    /// It knows no such name, but these.
    Unknown(Vec<String>),
    /// It names this server, which cannot be asked.
    Unreached(Address, ControlError),
    /// It names this server, which is a replica.
    Replica(Address),
}

/// What it means that no Sentinel has led to a master: what came nearest to it counts.
fn verdict(name: &str, answers: Vec<(Address, Answer)>) -> SentinelError {
    let name = name.to_owned();
    let (mut unknown, mut unreached, mut tried) = (None, None, Vec::new());
    for (by, answer) in answers {
        match answer {
            Answer::Replica(at) => return SentinelError::Replica { name, at },
            Answer::Unreached(at, source) => unreached = unreached.or(Some((at, source))),
            Answer::Unknown(known) => unknown = unknown.or(Some((by, known))),
            Answer::None(error) => tried.push((by, error)),
        }
    }
    match (unreached, unknown) {
        (Some((at, source)), _) => SentinelError::Unreached { name, at, source },
        (None, Some((by, known))) => SentinelError::Unknown { name, by, known },
        (None, None) => SentinelError::NoAnswer { name, tried },
    }
}

/// Where the master is.
pub(super) async fn locate(
    net: &Net,
    place: &ServerPlace,
    watched: &Watched,
) -> Result<ServerPlace, SentinelError> {
    let mut answers = Vec::new();
    for by in watched.addresses() {
        let asked = timeout(PATIENCE, async {
            let mut sentinel = ask_at(net, place, watched, &by).await?;
            match master_of(&mut sentinel, &watched.name).await? {
                Some(at) => Ok(Ok(at)),
                None => Ok(Err(names(&mut sentinel).await)),
            }
        });
        let answer = match asked.await.unwrap_or(Err(ControlError::Silent(PATIENCE))) {
            Err(error) => Answer::None(error),
            Ok(Err(known)) => Answer::Unknown(known),
            Ok(Ok(at)) => {
                let found = ServerPlace { address: at.clone(), ..place.clone() };
                match is_master(net, &found).await {
                    Ok(true) => return Ok(found),
                    Ok(false) => Answer::Replica(at),
                    Err(error) => Answer::Unreached(at, error),
                }
            }
        };
        answers.push((by, answer));
    }
    Err(verdict(&watched.name, answers))
}

/// Waits until Sentinels have led to another server.
pub(super) async fn replaced(net: &Net, place: &ServerPlace, watched: &Watched, at: &Address) {
    loop {
        for by in watched.addresses() {
            // Nobody hears of it: as long as none of them answers nothing is known.
            let _: Result<(), ControlError> = async {
                let mut sentinel = ask_at(net, place, watched, &by).await?;
                loop {
                    let told = timeout(PATIENCE, master_of(&mut sentinel, &watched.name)).await;
                    match told.unwrap_or(Err(ControlError::Silent(PATIENCE)))? {
                        Some(other) if other != *at => break,
                        _ => sleep(EVERY).await,
                    }
                }
                Ok(())
            }
            .await;
            match locate(net, place, watched).await {
                Ok(found) if found.address != *at => return,
                _ => sleep(EVERY).await,
            }
        }
    }
}

async fn ask_at(
    net: &Net,
    place: &ServerPlace,
    watched: &Watched,
    by: &Address,
) -> Result<Control, ControlError> {
    let credentials = watched.credentials.clone();
    // It is reached as the master is: through the same host, and with TLS where that speaks it.
    let at = ServerPlace { address: by.clone(), credentials, db: None, ..place.clone() };
    Control::open(net, &at).await
}

/// Where a Sentinel says that the master is; `None` if it knows no such name.
async fn master_of(sentinel: &mut Control, name: &str) -> Result<Option<Address>, ControlError> {
    let question = "SENTINEL get-master-addr-by-name";
    let told: Option<(String, u16)> = sentinel.ask(question, &[name.as_bytes()]).await?;
    Ok(told.map(|(host, port)| Address::Tcp { host, port }))
}

/// The masters that a Sentinel watches.
async fn names(sentinel: &mut Control) -> Vec<String> {
    let masters = sentinel.ask::<Vec<HashMap<String, Value>>>("SENTINEL masters", &[]).await;
    let name = |mut master: HashMap<String, Value>| {
        master.remove("name").and_then(|name| redis::from_redis_value(name).ok())
    };
    let mut names: Vec<String> = masters.unwrap_or_default().into_iter().filter_map(name).collect();
    names.sort_unstable();
    names.truncate(NAMES);
    names
}

/// So many names are told where one is not known.
const NAMES: usize = 20;

/// Whether a server says that it is a master. One that may not be asked is what the Sentinel says.
pub(super) async fn is_master(net: &Net, found: &ServerPlace) -> Result<bool, ControlError> {
    let mut control = Control::open(net, found).await?;
    match control.ask::<Vec<Value>>("ROLE", &[]).await {
        Ok(told) => {
            let role = told.into_iter().next();
            let role = role.and_then(|role| redis::from_redis_value::<String>(role).ok());
            return Ok(role.as_deref() == Some("master"));
        }
        // Before 2.8.12 there is no ROLE, and an ACL may forbid it.
        Err(ControlError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    match control.info("replication").await {
        Ok(info) => Ok(info_field(&info, "role").is_none_or(|role| role == "master")),
        Err(ControlError::Refused { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address::Tcp { host: "h".to_owned(), port }
    }

    #[test]
    fn what_came_nearest_to_a_master_is_told() {
        let silent = || Answer::None(ControlError::Closed);
        let unknown = || Answer::Unknown(vec!["a".to_owned(), "b".to_owned()]);
        let unreached = || Answer::Unreached(at(3), ControlError::Closed);
        let said = |answers: Vec<Answer>| {
            let answers = answers.into_iter().zip(1..).map(|(answer, port)| (at(port), answer));
            verdict("m", answers.collect()).to_string()
        };
        assert_eq!(
            said(vec![silent(), silent()]),
            "no Sentinel answers that could tell where m is: h:1: it closed the connection without a word; h:2: it closed the connection without a word"
        );
        assert_eq!(
            said(vec![silent(), unknown(), silent()]),
            "the Sentinel h:2 watches no master that is called m; it watches a, b"
        );
        assert_eq!(
            said(vec![Answer::Unknown(Vec::new())]),
            "the Sentinel h:1 watches no master that is called m; it watches none"
        );
        let text = "the Sentinels say that m is at h:3, and that does not answer";
        assert_eq!(said(vec![unknown(), unreached(), silent()]), text);
        assert_eq!(
            said(vec![unreached(), unknown(), Answer::Replica(at(7))]),
            "the Sentinels say that m is at h:7, which says that it is a replica"
        );
    }
}
