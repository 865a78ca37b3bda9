//! Deadlines that only the source can tell, asked: of the keys whose names were kept, or where they were not, of all.

use std::collections::VecDeque;

use tokio::time::sleep;
use tracing::debug;

use crate::change::{Deadlines, Draft, Names, Scope};
use crate::command::judge::Expect;
use crate::key::Db;
use crate::net::Net;
use crate::offset::Offset;
use crate::plan::{Origin, ServerPlace};
use crate::source::{FetchError, Fetcher, History, Left, Limits};

use super::ending::Walk;
use super::remedy::{QUESTION_TRIES, pause};

/// Deadlines as the source told them, and the offset of its stream at which they held.
#[derive(Debug)]
pub(super) struct Told {
    /// `None` from a source without offsets.
    pub(super) fence: Option<Offset>,
    deadlines: Vec<One>,
    /// Whether names in the target tell those on the source.
    tells_keys: bool,
}

/// The deadline of one key.
#[derive(Debug)]
struct One {
    /// Its database and its name in the target.
    db: Db,
    name: Vec<u8>,
    /// What the source calls it.
    key: Vec<u8>,
    left: Left,
}

impl Told {
    /// Writes what was told, as commands for the target; of those keys that `counts` says it of, by the target's database and the name on the
    /// source.
    pub(super) fn apply(
        &self,
        counts: impl Fn(Db, &[u8]) -> bool,
        deadlines: &mut Deadlines,
        draft: &mut Draft,
    ) {
        for One { db, name, key, left } in &self.deadlines {
            if !self.tells_keys {
                draft.note_origin(name, key);
            }
            match *left {
                _ if !counts(*db, key) => {}
                // Its deletion is in the stream.
                Left::Gone => {}
                Left::Forever => {
                    draft.select(*db);
                    draft.push(&[b"PERSIST", name], Expect::Integer);
                }
                Left::Until(at) => {
                    draft.select(*db);
                    let at = deadlines.hold(*db, name, at).to_string();
                    draft.push(&[b"PEXPIREAT", name, at.as_bytes()], Expect::Integer);
                }
            }
        }
    }
}

/// Asks a source, page by page.
pub(super) struct Asker {
    net: Net,
    place: ServerPlace,
    fetcher: Fetcher,
    history: History,
    scope: Scope,
    rest: Rest,
}

/// What is still to be asked.
enum Rest {
    /// Keys by the target's databases, and how far the list was read.
    Names(Names, usize),
    /// Nobody has kept the names: all keys of the source, by a walk that has not begun.
    All,
    Walk(Walk),
}

/// So many keys are asked for in one page.
const PAGE: usize = 1000;

impl Asker {
    /// Asks for these keys, which are named as the target has them; for all keys of the source if there were more than fit, or their names do
    /// not tell.
    pub(super) fn new(
        net: Net,
        place: ServerPlace,
        names: Names,
        scope: Scope,
        has_offsets: bool,
    ) -> Self {
        // No value is read.
        let fetcher = Fetcher::new(net.clone(), place.clone(), Limits { largest: 0, room: 0 });
        let history = if has_offsets { History::Any } else { History::None };
        let rest = match names.len() {
            Some(_) if scope.rules().names().are_distinct() => Rest::Names(names, 0),
            _ => Rest::All,
        };
        Self { net, place, fetcher, history, scope, rest }
    }

    /// Asks for the next page; comes back with it unless that was the last one.
    ///
    /// # Errors
    /// If the source does not answer, or writes so much that no bracket is quiet.
    pub(super) async fn page(
        mut self: Box<Self>,
    ) -> Result<(Option<Box<Self>>, VecDeque<Told>), FetchError> {
        let mut tries = 0;
        let names_in_target = self.scope.rules().names().clone();
        // The keys as the source has them, with their names in the target, and both databases.
        let (db, place, keys, is_last, all) = match &mut self.rest {
            Rest::Names(names, at) => {
                let (place, page, next) = names.page(*at, PAGE);
                let is_last = page.is_empty();
                *at = next;
                let keys: Vec<_> = { page.into_iter() }
                    .filter_map(|name| match names_in_target.origin(name) {
                        Origin::Key(key) => Some((key.into_owned(), name.to_vec())),
                        Origin::None | Origin::Unknown => None,
                    })
                    .collect();
                (self.scope.rules().origin(place), place, keys, is_last, false)
            }
            Rest::All | Rest::Walk(_) => {
                let walk = match std::mem::replace(&mut self.rest, Rest::All) {
                    Rest::Walk(walk) => walk,
                    _ => {
                        debug!(
                            "the names of keys whose deadlines must be asked were not kept: the source is walked through"
                        );
                        Walk::begin(self.net.clone(), self.place.clone()).await?
                    }
                };
                let (walk, page) = walk.page().await?;
                let is_last = walk.is_none();
                if let Some(walk) = walk {
                    self.rest = Rest::Walk(walk);
                }
                let keys = page.names.into_iter();
                let keys = keys.filter(|key| self.scope.judge(page.db, key).is_keep());
                let keys = keys.map(|key| (names_in_target.of(&key).into_owned(), key));
                let keys = keys.map(|(name, key)| (key, name)).collect();
                let place = self.scope.rules().place(page.db).unwrap_or(page.db);
                (page.db, place, keys, is_last, true)
            }
        };
        let mut told = VecDeque::new();
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let names = rest.iter().map(|(key, _)| key.as_slice());
            match self.fetcher.deadlines(db, names, self.history).await {
                Ok((fence, left)) => {
                    let (now, later) = rest.split_at(left.len().clamp(1, rest.len()));
                    let deadlines = now.iter().zip(left).map(|((key, name), left)| One {
                        db: place,
                        name: name.clone(),
                        key: key.clone(),
                        left,
                    });
                    // Of all keys those without a deadline are as the stream has left them.
                    let wanted =
                        { deadlines }.filter(|one| !all || matches!(one.left, Left::Until(_)));
                    told.push_back(Told {
                        fence,
                        deadlines: wanted.collect(),
                        tells_keys: names_in_target.are_distinct(),
                    });
                    rest = later;
                }
                Err(error) if tries < QUESTION_TRIES && !error.is_answer() => {
                    debug!(error = %error, "the source does not tell deadlines");
                    sleep(pause(tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(((!is_last).then_some(self), told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doubt::Doubts;

    /// A key whose deadline was asked falls in doubt before the stream is there, and is read further on, where it has another one. It is in
    /// doubt by its name on the source.
    #[test]
    fn what_was_read_of_a_key_behind_the_answer_stays() {
        let (db, at) = (Db::new(1), Offset::new);
        let names: [&[u8]; 4] = [b"doubtful", b"ahead", b"passed", b"clean"];
        let mut doubts = Doubts::default();
        for (key, read) in [(names[1], 30), (names[2], 19)] {
            doubts.doubt(db, key, at(10));
            assert!(doubts.fetched(db, key, at(read)));
        }
        doubts.doubt(db, names[0], at(10));
        let told = Told {
            fence: Some(at(20)),
            tells_keys: true,
            deadlines: { names.into_iter() }
                .map(|key| One {
                    db,
                    name: [b"p:", key].concat(),
                    key: key.to_vec(),
                    left: Left::Forever,
                })
                .collect(),
        };
        let (mut deadlines, mut draft) = (Deadlines::new(0, 1 << 10), Draft::default());
        let counts = |db, key: &[u8]| !doubts.outdates(db, key, at(20));
        told.apply(counts, &mut deadlines, &mut draft);
        let mut seen = Vec::new();
        draft.finish().visit(|_, of, args| seen.push((of, args.concat())));
        assert_eq!(seen, [(db, b"PERSISTp:passed".to_vec()), (db, b"PERSISTp:clean".to_vec())]);
    }
}
