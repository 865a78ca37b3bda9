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
    limits: Limits,
    digester: Digester,
    pub(super) fetcher: Fetcher,
    by_type: ByType,
    /// Whether `DUMP` was refused.
    is_refused: bool,
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
        let server = server.unwrap_or(OLDEST);
        let by_type = ByType::new(net, place, server, (seed, limits.room));
        Self { limits, digester: Digester::new(seed), fetcher, by_type, is_refused: false }
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
        if !self.is_refused {
            match self.fetcher.look(db, names).await {
                Ok(found) => return self.seen(db, names, &found, times, rules).await,
                Err(error) if is_command_refused(&error) => self.is_refused = true,
                Err(error) => return Err(error),
            }
        }
        self.read_by_type(db, names, times, rules).await
    }

    /// What was found; values that are too large to be held are read by the commands of their types, a part after the other.
    async fn seen(
        &mut self,
        db: Db,
        names: &[&[u8]],
        found: &[Found],
        times: &Times,
        rules: Option<&Rules>,
    ) -> Result<Vec<Result<Held, Doubt>>, FetchError> {
        let mut seen: Vec<_> = found.iter().map(|found| self.held(found, times, rules)).collect();
        let is_large = |found: &Found| matches!(found, Found::TooLarge { .. });
        let all = names.iter().zip(found).zip(&mut seen);
        for ((name, _), seen) in all.filter(|((_, found), _)| is_large(found)) {
            // Where that is refused it stays untold.
            let read = self.read_by_type(db, &[name], times, rules).await;
            if let Some(Ok(held)) = read.ok().and_then(|mut read| read.pop()) {
                *seen = Ok(held);
            }
        }
        Ok(seen)
    }

    async fn read_by_type(
        &mut self,
        db: Db,
        names: &[&[u8]],
        times: &Times,
        rules: Option<&Rules>,
    ) -> Result<Vec<Result<Held, Doubt>>, FetchError> {
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
        self.by_type.read(db, keys, || *times, each).await?;
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
