//! Names of a server's keys, drawn: SCAN begins at places that are spread over its table, and goes on for a part of the way.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, from_redis_value};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::key::{Db, is_own};
use crate::net::{Control, ControlError, Net};
use crate::plan::{Place, ServerPlace};
use crate::source::FetchError;
use crate::verify::{Batch, Share, Start};

use super::super::folder::share;
use super::inventory::{Named, Read};
use super::run::{Run, target_broke};
use super::sides::{Peer, ReadAll};

/// Draws from one server.
pub(super) struct Draw {
    net: Net,
    place: ServerPlace,
    control: Option<Control>,
    /// Where it begins next, in which database.
    starts: Vec<(Db, Start)>,
    wanted: u64,
    drawn: u64,
}

/// So many places are asked for together.
const TOGETHER: usize = 32;

/// What a name takes in memory while it is drawn and asked for, on one side.
const NAME_BYTES: usize = 400;

impl Draw {
    /// Of so many keys in each database this share.
    pub(super) fn new(
        net: Net,
        place: ServerPlace,
        keys: impl Iterator<Item = (Db, u64)>,
        (share, seed): (Share, u64),
    ) -> Self {
        let of_each = |(db, keys)| share.starts(seed, db, keys).map(move |start| (db, start));
        let starts: Vec<_> = keys.flat_map(of_each).collect();
        let wanted = starts.iter().map(|(_, start)| start.count).sum();
        Self { net, place, control: None, starts, wanted, drawn: 0 }
    }

    /// Whether nothing is left to be drawn.
    pub(super) fn is_done(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether far fewer were met than there must be: then its cursors are no places in a table.
    pub(super) fn is_poor(&self) -> bool {
        self.is_done() && self.drawn < self.wanted / 2
    }

    /// Draws about so many, without understudy's own.
    ///
    /// # Errors
    /// If the server is lost, or does not know SCAN.
    pub(super) async fn some(&mut self, most: usize) -> Result<Vec<Named>, ControlError> {
        let mut control = match self.control.take() {
            Some(control) => control,
            None => Control::open(&self.net, &self.place).await?,
        };
        let (mut named, mut met): (Vec<Named>, usize) = (Vec::new(), 0);
        while met < most && !self.starts.is_empty() {
            let starts = self.starts.split_off(self.starts.len().saturating_sub(TOGETHER));
            let mut pipe = Pipeline::new();
            for (db, Start { cursor, count }) in &starts {
                pipe.cmd("SELECT").arg(db.index());
                let mut scan = Cmd::new();
                scan.arg("SCAN").arg(cursor).arg("COUNT").arg(count);
                pipe.add_command(scan);
            }
            let replies = control.each("SCAN", pipe).await?;
            for (reply, (db, _)) in replies.into_iter().skip(1).step_by(2).zip(starts) {
                let reply = reply.map_err(|text| ControlError::answered("SCAN", text))?;
                let page: Result<(u64, Vec<Vec<u8>>), _> = from_redis_value(reply);
                let page = page.map_err(|error| ControlError::answered("SCAN", error.to_string()));
                let (_, mut names) = page?;
                names.retain(|name| !is_own(name));
                met += names.len();
                named.push((db, names));
            }
        }
        self.drawn += met as u64;
        self.control = Some(control);
        Ok(named)
    }
}

impl Run<'_> {
    /// Reads what SCAN gives from places in the tables of all servers, a part of it after the other: as much as memory holds. `None`: a server's
    /// cursors are no places.
    pub(super) async fn read_drawn(
        &self,
        to: &Sender<Batch>,
        only: Share,
    ) -> Result<Option<ReadAll>, ReadAll> {
        let Self { net, plan, facts, .. } = *self;
        let target = plan.sources.len();
        let (mut draws, mut all) = (Vec::new(), vec![Read::default(); target + 1]);
        for index in 0..=target {
            let peer = match (&plan.target, &facts.target) {
                _ if index < target => self.source_peer(index),
                (Place::Server(place), Some(facts)) => Some(Peer { place, facts }),
                _ => None,
            };
            let Some(Peer { place, facts }) = peer else { continue };
            let dbs = match index {
                _ if index < target => self.dbs_of_source(index),
                _ => self.of_target(to, None).map(|(_, dbs)| dbs).unwrap_or_default(),
            };
            let keys = dbs.iter().filter_map(|db| Some((*db, *facts.keys.get(db)?)));
            let seed = self.comparing.seed.wrapping_add(index as u64);
            draws.push((index, Draw::new(net.clone(), place.clone(), keys, (only, seed))));
        }
        let most = (share(plan, 1, 8) / NAME_BYTES / draws.len().max(1)).max(1000);
        while draws.iter().any(|(_, draw)| !draw.is_done()) {
            let drawn = self.draw(&mut draws, most).await?;
            if draws.iter().any(|(_, draw)| draw.is_poor()) {
                return Ok(None);
            }
            self.read_named(drawn, to, &mut all).await?;
        }
        let of_target = all.pop().unwrap_or_default();
        let outcomes =
            all.into_iter().enumerate().map(|(index, read)| self.outcome(index, Ok(read)));
        let outcomes = outcomes.chain([None]).collect();
        Ok(Some(ReadAll { outcomes, target: Ok(of_target) }))
    }

    /// Draws from each, and gives the names as the target has them.
    async fn draw(
        &self,
        draws: &mut Vec<(usize, Draw)>,
        most: usize,
    ) -> Result<Vec<(Db, Vec<u8>)>, ReadAll> {
        let mut drawing = JoinSet::new();
        for (index, mut draw) in std::mem::take(draws) {
            drawing.spawn(async move {
                let named = draw.some(most).await;
                (index, draw, named)
            });
        }
        let mut names = Vec::new();
        while let Some(drawn) = self.heard(drawing.join_next()).await? {
            let (index, draw, named) =
                drawn.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            let rules = self.plan.sources.get(index).map(|source| &source.rules);
            for (db, keys) in named.map_err(|error| self.failed(index, error.into()))? {
                names.extend(keys.into_iter().filter_map(|key| match rules {
                    Some(rules) => {
                        let (db, name) = rules.target_of(db, &key)?;
                        let name = (*name != *key).then(|| name.into_owned());
                        Some((db, name.unwrap_or(key)))
                    }
                    None => Some((db, key)),
                }));
            }
            draws.push((index, draw));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Reads these keys on all sides that may hold them.
    async fn read_named(
        &self,
        names: Vec<(Db, Vec<u8>)>,
        to: &Sender<Batch>,
        all: &mut [Read],
    ) -> Result<(), ReadAll> {
        let target = self.plan.sources.len();
        let mut readers = JoinSet::new();
        for index in 0..target {
            let Some(rules) = self.plan.sources.get(index).map(|source| &source.rules) else {
                continue;
            };
            let keys = names.iter().filter_map(|(db, name)| rules.key_of(*db, name));
            let named = by_db(keys);
            let Some((inventory, _)) = self.of_source(index, to, None) else { continue };
            readers.spawn(async move { (index, inventory.read_named(named).await) });
        }
        if let Some((inventory, _)) = self.of_target(to, None) {
            let sources = &self.plan.sources;
            let is_ours = |(db, name): &(Db, Vec<u8>)| {
                !is_own(name) && sources.iter().any(|source| source.rules.owns(*db, name))
            };
            let named = by_db(names.into_iter().filter(is_ours));
            readers.spawn(async move { (target, inventory.read_named(named).await) });
        }
        while let Some(read) = self.heard(readers.join_next()).await? {
            let (index, read) =
                read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            let read = read.map_err(|error| self.failed(index, error))?;
            if let Some(all) = all.get_mut(index) {
                all.by_type |= read.by_type;
            }
        }
        Ok(())
    }

    async fn heard<T>(&self, doing: impl Future<Output = T>) -> Result<T, ReadAll> {
        let stopped = |broke| ReadAll { outcomes: Vec::new(), target: Err(broke) };
        self.unless_stopped(doing).await.map_err(stopped)
    }

    /// A server could not be read.
    fn failed(&self, index: usize, error: FetchError) -> ReadAll {
        if index < self.plan.sources.len() {
            let outcomes = (0..index).map(|before| self.stopped(before));
            let outcomes = outcomes.chain([self.outcome(index, Err(error))]).collect();
            return ReadAll { outcomes, target: Ok(Read::default()) };
        }
        ReadAll { outcomes: Vec::new(), target: Err(target_broke(&error)) }
    }
}

fn by_db(names: impl Iterator<Item = (Db, Vec<u8>)>) -> Vec<Named> {
    let mut of_each: BTreeMap<Db, Vec<Vec<u8>>> = BTreeMap::new();
    for (db, name) in names {
        of_each.entry(db).or_default().push(name);
    }
    of_each.into_iter().collect()
}
