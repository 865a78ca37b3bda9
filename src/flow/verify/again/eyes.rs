//! Keys of one server, looked at: by `DUMP`, or where that is refused by the commands of their types.

use crate::key::Db;
use crate::net::Net;
use crate::plan::{Rules, ServerPlace};
use crate::server::Server;
use crate::source::{FetchError, Fetcher, Found, Limits};
use crate::verify::typed::{Deadline, Read};
use crate::verify::{Content, Digester, Dumped, Held, Times};

use super::super::Doubt;
use super::super::by_type::{ByType, is_command_refused};
use super::super::sides::OLDEST;
use super::admits;

/// Whoever looks.
pub(super) struct Eyes {
    net: Net,
    place: ServerPlace,
    server: Server,
    limits: Limits,
    seed: u64,
    digester: Digester,
    pub(super) fetcher: Fetcher,
    /// Once `DUMP` was refused.
    by_type: Option<ByType>,
}

impl Eyes {
    /// Those that look at a server, of which it may be known what it is; what they see can be compared with what others of this seed do.
    pub(super) fn new(
        net: Net,
        place: ServerPlace,
        (server, seed): (Option<Server>, u64),
        limits: Limits,
    ) -> Self {
        let fetcher = Fetcher::new(net.clone(), place.clone(), limits);
        let (server, digester) = (server.unwrap_or(OLDEST), Digester::new(seed));
        Self { net, place, server, limits, seed, digester, fetcher, by_type: None }
    }

    /// What the server holds of the first of these keys, if these rules want it.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub(super) async fn look(
        &mut self,
        db: Db,
        names: &[&[u8]],
        times: &Times,
        rules: Option<&Rules>,
    ) -> Result<Vec<Result<Held, Doubt>>, FetchError> {
        if self.by_type.is_none() {
            match self.fetcher.look(db, names).await {
                Ok(found) => {
                    return Ok(found.iter().map(|found| self.held(found, times, rules)).collect());
                }
                Err(error) if is_command_refused(&error) => {
                    let (net, place) = (self.net.clone(), self.place.clone());
                    let how = (self.seed, self.limits.room);
                    self.by_type = Some(ByType::new(net, place, self.server, how));
                }
                Err(error) => return Err(error),
            }
        }
        let Some(by_type) = &mut self.by_type else { return Ok(Vec::new()) };
        let mut seen: Vec<Result<Held, Doubt>> = vec![Ok(None); names.len()];
        let keys = names.iter().map(|name| name.to_vec());
        let each = |name: &[u8], told| {
            let place = names.iter().position(|one| *one == name);
            if let Some(place) = place.and_then(|place| seen.get_mut(place)) {
                *place = typed(told, times).map(|held| {
                    held.filter(|(content, _)| rules.is_none_or(|of| of.admits(content.kind)))
                });
            }
        };
        by_type.read(db, keys, || *times, each).await?;
        Ok(seen)
    }

    /// What was found.
    pub(super) fn held(
        &mut self,
        found: &Found,
        times: &Times,
        rules: Option<&Rules>,
    ) -> Result<Held, Doubt> {
        match found {
            Found::Gone | Found::Expired => Ok(None),
            Found::TooLarge { bytes } => Err(Doubt {
                why: format!(
                    "it differed, and its {bytes} bytes are too many to be read once more"
                ),
                mend: "give more --memory: eight times as much",
            }),
            Found::Value { payload, deadline } => {
                let held = self.dumped(payload, *deadline, times)?;
                let is_wanted = |content: &Content| {
                    rules.is_none_or(|rules| admits(rules, content.kind, &self.digester))
                };
                Ok(held.filter(|(content, _)| is_wanted(content)))
            }
        }
    }

    /// What a payload and a deadline come to.
    pub(super) fn dumped(
        &mut self,
        payload: &[u8],
        deadline: Option<i64>,
        times: &Times,
    ) -> Result<Held, Doubt> {
        let content = Dumped::content(payload, self.limits.largest, &mut self.digester, times);
        let content = content.map_err(|error| Doubt {
            why: error.to_string(),
            mend: "give more --memory if it is too large; else compare this key by hand",
        })?;
        Ok(content.and_then(|content| dated(content, deadline, times)))
    }
}

/// A value with its deadline; `None` if it is dead.
fn dated(content: Content, deadline: Option<i64>, times: &Times) -> Held {
    match deadline {
        None => Some((content, None)),
        Some(at) => times.lives_until(at).map(|at| (content, Some(at))),
    }
}

/// What was read by the commands of its type.
fn typed(told: Result<Read, String>, times: &Times) -> Result<Held, Doubt> {
    match told {
        Ok(Read::Gone) => Ok(None),
        Ok(Read::Value(content, Deadline::Never)) => Ok(Some((content, None))),
        Ok(Read::Value(content, Deadline::At(at))) => Ok(dated(content, Some(at), times)),
        // Where that differs it is looked at again.
        Ok(Read::Value(content, Deadline::Unclear)) => Ok(Some((content, Some(i64::MAX)))),
        Err(why) => Err(Doubt { why, mend: "let this user run DUMP, or compare this key by hand" }),
    }
}
