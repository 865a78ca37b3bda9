//! What the sources hold under names that several have brought.

use crate::change::{Scope, wants};
use crate::key::Db;
use crate::net::{ControlError, Net};
use crate::offset::Offset;
use crate::plan::{Facts, Origin, Place, Plan};
use crate::source::{FetchError, Fetcher, Found, Limits};

use super::rivals::{Rival, Rivals, Seat, Tells};

/// Asks the sources, in the order of the plan.
pub(super) struct Referee {
    sources: Vec<Asked>,
}

struct Asked {
    name: String,
    fetcher: Option<Fetcher>,
    scope: Scope,
    /// What its deadlines differ by from those of the target: clocks, and what its rules add.
    apart: i64,
    extends: i64,
    bounded: bool,
}

/// A key that several sources have brought.
#[derive(Debug)]
pub(super) struct Contested {
    /// The target's database and its name there.
    pub(super) at: (Db, Vec<u8>),
    /// Those that hold it, as far as was asked, in order. Without any it is gone.
    pub(super) held: Vec<Holding>,
    /// Some source was in the midst of letting it die, and is to be asked again.
    pub(super) is_expiring: bool,
    /// Some source that has brought it cannot be asked whether it still holds it, or nobody knows by which name.
    pub(super) is_untold: bool,
    /// Where the source of the lane that asks was read, if it was.
    pub(super) own_at: Option<Offset>,
    /// Those that are yet to be asked.
    rest: Vec<u8>,
}

/// What a source holds under a key.
#[derive(Debug)]
pub(super) struct Holding {
    /// The number of the source.
    pub(super) of: u8,
    /// As `DUMP` gives it; `None` if it is larger than may be held.
    pub(super) payload: Option<Vec<u8>>,
    /// Its size.
    pub(super) bytes: usize,
    /// When it dies, by the source's clock.
    pub(super) deadline: Option<i64>,
    /// What its source's deadlines differ by: clocks, and what its rules add.
    pub(super) apart: i64,
    pub(super) extends: i64,
    /// At the end none is later than its rules allow.
    pub(super) bounded: bool,
}

/// Why a contested key could not be read.
#[derive(Debug)]
pub(super) enum RefereeError {
    /// A source does not tell.
    Fetch(FetchError),
    /// The lane of this source has ended before its stream began, or it is none that can be asked.
    Gone(String),
}

impl From<FetchError> for RefereeError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// The number of its source.
    pub(super) of: u8,
    /// All that hold a key are wanted, not the first one alone.
    pub(super) all: bool,
    /// Values of so many bytes, together, are enough for once.
    pub(super) room: usize,
}

impl Referee {
    pub(super) fn new(plan: &Plan, facts: &Facts, net: &Net) -> Self {
        // One value at a time is held of each answer.
        let largest = usize::try_from(plan.memory / 4).unwrap_or(usize::MAX);
        let limits = Limits { largest, room: largest };
        let sources = plan.sources.iter().enumerate().map(|(index, source)| Asked {
            name: source.name.clone(),
            fetcher: match &source.place {
                Place::Server(place) => Some(Fetcher::new(net.clone(), place.clone(), limits)),
                Place::Capture(_) | Place::Rdb(_) => None,
            },
            scope: Scope::new(source.rules.clone(), None, crate::plan::OnFlush::Ignore),
            apart: facts.clocks(index).apart(),
            extends: source.rules.ttl().extends(),
            bounded: source.rules.ttl().most().is_some(),
        });
        Self { sources: sources.collect() }
    }

    /// Reads these keys, given with those that have brought them, or the first of them that fit.
    async fn read(
        &mut self,
        rivals: &Rivals,
        mut keys: Vec<Contested>,
        asking: Asking,
    ) -> (Vec<Contested>, Option<RefereeError>) {
        let mut bytes = 0;
        loop {
            let next = keys.iter().filter_map(|key| key.rest.first().copied()).min();
            let Some(source) = next else { return (keys, None) };
            match self.ask(source, rivals, &mut keys, asking).await {
                Ok(read) => bytes += read,
                Err(error) => {
                    keys.retain(|key| key.rest.is_empty());
                    return (keys, Some(error));
                }
            }
            if bytes >= asking.room {
                // Those that are not known by now are asked for again.
                keys.retain(|key| key.rest.is_empty());
                return (keys, None);
            }
        }
    }

    /// Asks one source for keys of one of its databases. Says how many bytes it has told.
    async fn ask(
        &mut self,
        source: u8,
        rivals: &Rivals,
        keys: &mut [Contested],
        asking: Asking,
    ) -> Result<usize, RefereeError> {
        let Some(asked) = self.sources.get_mut(usize::from(source)) else { return Ok(0) };
        let told = match (rivals.tells(source), &mut asked.fetcher) {
            (Tells::History(history), Some(fetcher)) => Some((history, fetcher)),
            // It is being connected.
            (Tells::NotYet, Some(_)) => {
                return Err(FetchError::from(ControlError::Unsettled).into());
            }
            (Tells::Nothing, _) | (_, None) => None,
        };
        let Some((history, fetcher)) = told else {
            if !asking.all {
                return Err(RefereeError::Gone(asked.name.clone()));
            }
            for key in keys.iter_mut().filter(|key| key.rest.first() == Some(&source)) {
                key.rest.remove(0);
                key.is_untold = true;
            }
            return Ok(0);
        };
        let is_next = |key: &&mut Contested| key.rest.first() == Some(&source);
        let mut wanted: Vec<&mut Contested> = keys.iter_mut().filter(is_next).collect();
        let Some(first) = wanted.first() else { return Ok(0) };
        let place = first.at.0;
        wanted.retain(|key| key.at.0 == place);
        let db = asked.scope.rules().origin(place);
        let names = asked.scope.rules().names();
        let mut keys = Vec::with_capacity(wanted.len());
        wanted.retain_mut(|key| match names.origin(&key.at.1) {
            Origin::Key(own) => {
                keys.push(own.into_owned());
                true
            }
            // It was taken for another name that cannot be told from it.
            Origin::None => {
                key.rest.remove(0);
                false
            }
            Origin::Unknown => {
                key.rest.remove(0);
                key.is_untold = true;
                false
            }
        });
        if keys.is_empty() {
            return Ok(0);
        }
        let fetched = fetcher.fetch(db, &keys, &history).await?;
        let mut bytes = 0;
        for (key, found) in wanted.into_iter().zip(fetched.found) {
            key.rest.remove(0);
            if source == asking.of {
                key.own_at = Some(fetched.at);
            }
            let (payload, deadline, size) = match found {
                Found::Gone => continue,
                Found::Expired => {
                    key.is_expiring = true;
                    continue;
                }
                Found::Value { payload, .. } if !wants(&payload, &asked.scope) => continue,
                Found::Value { payload, deadline } => {
                    let size = payload.len();
                    (Some(payload), deadline, size)
                }
                Found::TooLarge { bytes } => (None, None, bytes),
            };
            bytes += payload.as_ref().map_or(0, Vec::len);
            let (apart, extends, bounded) = (asked.apart, asked.extends, asked.bounded);
            key.held.push(Holding {
                of: source,
                payload,
                bytes: size,
                deadline,
                apart,
                extends,
                bounded,
            });
            if !asking.all {
                key.rest.clear();
            }
        }
        Ok(bytes)
    }
}

/// Reads keys that several have brought, by the target's databases and names, once this lane has the seat and all is settled that others had
/// sent before.
pub(super) async fn read(
    rival: Rival,
    seat: Option<Seat>,
    keys: Vec<(Db, Vec<u8>)>,
    asking: Asking,
) -> (Seat, Vec<Contested>, Option<RefereeError>) {
    let mut seat = match seat {
        Some(seat) => seat,
        None => rival.take_seat().await,
    };
    let contested = keys.into_iter().map(|at| Contested {
        rest: rival.claims(at.0, &at.1).iter().collect(),
        at,
        held: Vec::new(),
        is_expiring: false,
        is_untold: false,
        own_at: None,
    });
    let contested = contested.collect();
    let (found, error) = seat.read(rival.all(), contested, asking).await;
    rival.all().settled(asking.of).await;
    (seat, found, error)
}
