//! Keys of a source, read with the offset of its stream at which that held.

mod bracket;

use redis::Pipeline;

use crate::key::{Db, Escaped};
use crate::net::{Control, ControlError, Net, Reply, info_field};
use crate::offset::{Offset, ReplId};
use crate::plan::ServerPlace;
use crate::server::{Server, Version};

use bracket::{Bracket, Held, Peer, Wanted, read};
pub(crate) use bracket::{History, Left};

/// Reads keys of a master over a connection of its own, which is made when it is needed and given up when something fails: to ask again
/// is to connect again.
#[derive(Debug)]
pub struct Fetcher {
    net: Net,
    place: ServerPlace,
    limits: Limits,
    link: Option<Link>,
}

/// How much is read, by the sizes that the source is asked for first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest value that is read, in bytes.
    pub largest: usize,
    /// The most of values that is read at once, in bytes; one is always read.
    pub room: usize,
}

/// What keys held, all at one offset.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The offset of the source's stream.
    pub at: Offset,
    /// Of the first so many of the keys that were asked for, in their order: at least of one, and the rest is to be asked for again.
    pub found: Vec<Found>,
}

/// What was found of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// There is no such key.
    Gone,
    /// Its value.
    Value {
        /// As `DUMP` gives it.
        payload: Vec<u8>,
        /// When it dies, by the source's clock: unix time in milliseconds.
        deadline: Option<i64>,
    },
    /// It is past its deadline, and the stream does not say so yet: a replica waits for its own master's word, and a paused master for the end of
    /// the pause. It is to be asked for later.
    Expired,
    /// It was not read.
    TooLarge {
        /// Its size, as far as the source tells it.
        bytes: usize,
    },
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no connection, or no answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Without a backlog its offset does not move, whatever is written.
    #[error(
        "the source has no replication backlog, so nothing tells where in its stream an answer held"
    )]
    NoBacklog,
    /// What it holds is of another history than our stream.
    #[error("the source has another history than our stream: {} and not {wanted}", shown.map_or_else(|| "unnamed".to_owned(), |id| id.to_string()))]
    OtherHistory {
        /// That of our stream.
        wanted: ReplId,
        /// That of the source, if it tells.
        shown: Option<ReplId>,
    },
    /// It does not let us read a key.
    #[error("{command} {}: {text}", Escaped(key))]
    Refused {
        /// The command.
        command: &'static str,
        /// The key.
        key: Vec<u8>,
        /// The source's words.
        text: String,
    },
}

impl FetchError {
    /// Whether the source has answered, so that asking again brings nothing new.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Control(error) => error.is_answer(),
            Self::NoBacklog | Self::OtherHistory { .. } => true,
            // It loads, a script runs, or it has lost its own master.
            Self::Refused { text, .. } => {
                !["LOADING", "BUSY ", "MASTERDOWN"].iter().any(|code| text.starts_with(code))
                    && !self.is_elsewhere()
            }
        }
    }

    /// Whether a node of a cluster says that a key is another's, or that nobody has it for now.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        const CODES: [&str; 4] = ["MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN"];
        matches!(self, Self::Refused { text, .. } if CODES.iter().any(|code| text.starts_with(code)))
    }
}

impl Fetcher {
    /// One for this source. Nothing is asked yet.
    #[must_use]
    pub const fn new(net: Net, place: ServerPlace, limits: Limits) -> Self {
        Self { net, place, limits, link: None }
    }

    /// Reads the first of these keys, as many as fit. What they hold counts only if the source's history is that of our stream.
    ///
    /// # Errors
    /// If the source does not answer, may not be asked, has another history or no backlog; or if it is written to so fast that its offset
    /// never stands still.
    pub async fn fetch<K: AsRef<[u8]> + Sync>(
        &mut self,
        db: Db,
        keys: &[K],
        of: &ReplId,
    ) -> Result<Fetched, FetchError> {
        let mut link = self.take_link(db).await?;
        let keys = link.at_once(keys.iter().map(AsRef::as_ref));
        let (at, found) = link.look(&keys, self.limits, History::Of(*of)).await?;
        self.link = Some(link);
        Ok(Fetched { at: at.ok_or(FetchError::NoBacklog)?, found })
    }

    /// Reads the first of these keys, as many as fit, each at some moment meanwhile.
    ///
    /// # Errors
    /// If the source does not answer, or may not be asked.
    pub(crate) async fn look<K: AsRef<[u8]> + Sync>(
        &mut self,
        db: Db,
        keys: &[K],
    ) -> Result<Vec<Found>, FetchError> {
        let mut link = self.take_link(db).await?;
        let keys = link.at_once(keys.iter().map(AsRef::as_ref));
        let (_, found) = link.look(&keys, self.limits, History::None).await?;
        self.link = Some(link);
        Ok(found)
    }

    /// Reads the first of these keys, as many as fit, all at one offset of whatever history the source has.
    ///
    /// # Errors
    /// If the source does not answer, may not be asked, has no backlog, or is written to so fast that its offset never stands still.
    pub(crate) async fn look_at_once<K: AsRef<[u8]> + Sync>(
        &mut self,
        db: Db,
        keys: &[K],
    ) -> Result<Fetched, FetchError> {
        let mut link = self.take_link(db).await?;
        let keys = link.at_once(keys.iter().map(AsRef::as_ref));
        let (at, found) = link.look(&keys, self.limits, History::Any).await?;
        self.link = Some(link);
        Ok(Fetched { at: at.ok_or(FetchError::NoBacklog)?, found })
    }

    /// Where the source's stream is; `None` if it has no offsets.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn offset(&mut self) -> Result<Option<Offset>, FetchError> {
        let mut link = self.take_link(Db::default()).await?;
        let info = link.control.info("replication").await?;
        self.link = Some(link);
        let offset = info_field(&info, "master_repl_offset").and_then(|text| text.parse().ok());
        Ok(offset.map(Offset::new))
    }

    /// Asks for the deadlines of the first of these keys, as many as fit: where they held, without a history nowhere, and each of
    /// them.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub(crate) async fn deadlines<'k>(
        &mut self,
        db: Db,
        keys: impl Iterator<Item = &'k [u8]> + Send,
        history: History,
    ) -> Result<(Option<Offset>, Vec<Left>), FetchError> {
        let mut link = self.take_link(db).await?;
        let keys = link.at_once(keys);
        let held = link.settle(&keys, Wanted::Deadlines, history).await?;
        self.link = Some(link);
        Ok((held.at, held.left))
    }

    /// The link, with this database chosen. Who does not give it back has lost it: what is under way on it is unknown.
    async fn take_link(&mut self, db: Db) -> Result<Link, ControlError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.net, &self.place).await?,
        };
        link.select(db).await?;
        Ok(link)
    }
}

/// A connection to a source.
#[derive(Debug)]
struct Link {
    control: Control,
    peer: Peer,
    db: Db,
    /// For how many keys it is asked at once.
    most: usize,
}

impl Link {
    async fn open(net: &Net, place: &ServerPlace) -> Result<Self, ControlError> {
        let mut control = Control::open(net, place).await?;
        let info = control.info("server").await?;
        let peer = Peer {
            version: Server::from_info(&info).map(|server| server.as_redis()),
            run_id: info_field(&info, "run_id").and_then(|id| ReplId::parse(id.as_bytes())),
        };
        Ok(Self { control, peer, db: Db::default(), most: AT_ONCE })
    }

    async fn select(&mut self, db: Db) -> Result<(), ControlError> {
        if self.db != db {
            self.control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
            self.db = db;
        }
        Ok(())
    }

    /// The first of these keys, of which one write can ask; at least one.
    fn at_once<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<&'k [u8]> {
        let mut room = ONE_WRITE;
        let fits = |key: &&[u8]| {
            let first = room == ONE_WRITE;
            // It stands in three questions, which have some sixty bytes of their own, or less.
            room = room.saturating_sub(3 * (key.len() + 60));
            first || room > 0
        };
        keys.take(self.most).take_while(fits).collect()
    }

    async fn look(
        &mut self,
        keys: &[&[u8]],
        limits: Limits,
        history: History,
    ) -> Result<(Option<Offset>, Vec<Found>), FetchError> {
        let sizes = self.sizes(keys).await?;
        let portion = portion(&sizes, limits);
        let sized = || keys.iter().zip(&sizes).take(portion);
        let small: Vec<&[u8]> =
            sized().filter(|(_, size)| **size <= limits.largest).map(|(key, _)| *key).collect();
        let held = self.settle(&small, Wanted::Values, history).await?;
        let (mut read, mut found) = (held.found.into_iter(), Vec::with_capacity(portion));
        for (_, &size) in sized() {
            found.push(if size > limits.largest {
                Found::TooLarge { bytes: size }
            } else {
                match read.next() {
                    // The size was an estimate, or it has grown.
                    Some(Found::Value { payload, .. }) if payload.len() > limits.largest => {
                        Found::TooLarge { bytes: payload.len() }
                    }
                    Some(found) => found,
                    None => break,
                }
            });
        }
        Ok((held.at, found))
    }

    /// Asks until the source is quiet in between, for fewer keys when it is not.
    async fn settle(
        &mut self,
        mut keys: &[&[u8]],
        wanted: Wanted,
        history: History,
    ) -> Result<Held, FetchError> {
        for tries in 1..=TRIES {
            let bracket = Bracket { keys, wanted, peer: self.peer, history };
            let replies = self.control.each("INFO", bracket.pipe()).await?;
            if let Some(held) = bracket.judge(replies)? {
                if tries == 1 {
                    self.most = (self.most * 2).min(AT_ONCE);
                }
                return Ok(held);
            }
            if tries % TRIES_EACH == 0 {
                keys = keys.get(..keys.len().div_ceil(2)).unwrap_or(keys);
                self.most = keys.len().max(1);
            }
        }
        Err(ControlError::Unsettled.into())
    }

    /// How large the values of these keys are, as far as the source tells it; 0 for one that is gone.
    async fn sizes(&mut self, keys: &[&[u8]]) -> Result<Vec<usize>, FetchError> {
        if self.peer.knows(Version(4, 0, 0)) {
            let replies = self.each_key("MEMORY USAGE", keys).await?;
            let size = |(reply, key): (Reply, &&[u8])| {
                Ok(read::<Option<usize>>(Some(reply), "MEMORY USAGE", key)?.unwrap_or(0))
            };
            return replies.into_iter().zip(keys).map(size).collect();
        }
        let mut pipe = redis::pipe();
        let mut units = Vec::with_capacity(keys.len());
        for (reply, key) in self.each_key("TYPE", keys).await?.into_iter().zip(keys) {
            let kind: String = read(Some(reply), "TYPE", key)?;
            let (question, unit) = by_type(&kind);
            pipe.cmd(question).arg(*key);
            units.push(unit);
        }
        let replies = self.control.each("STRLEN", pipe).await?;
        // It may have become another type: then its size is told when it is read.
        let count = |reply: Reply| reply.ok().and_then(|count| redis::from_redis_value(count).ok());
        let sizes = replies.into_iter().map(|reply| count(reply).unwrap_or(0_usize)).zip(units);
        Ok(sizes.map(|(count, unit)| count.saturating_mul(unit)).collect())
    }

    async fn each_key(
        &mut self,
        question: &'static str,
        keys: &[&[u8]],
    ) -> Result<Vec<Reply>, ControlError> {
        let mut pipe = Pipeline::new();
        for key in keys {
            let words: Vec<&str> = question.split(' ').collect();
            pipe.add_command(redis::Cmd::new()).arg(words).arg(*key);
        }
        self.control.each(question, pipe).await
    }
}

/// How many of values of these sizes are read at once, those included that are too large to be read.
fn portion(sizes: &[usize], limits: Limits) -> usize {
    let mut room = limits.room;
    let fits = |(number, size): &(usize, &usize)| {
        if **size > limits.largest {
            return true;
        }
        let fits = *number == 0 || **size <= room;
        room = room.saturating_sub(**size);
        fits
    };
    sizes.iter().enumerate().take_while(fits).count()
}

/// What tells the size of a value of this type, and how many bytes each of what it counts is taken for.
fn by_type(kind: &str) -> (&'static str, usize) {
    const ELEMENT: usize = 64;
    match kind {
        "list" => ("LLEN", ELEMENT),
        "set" => ("SCARD", ELEMENT),
        "zset" => ("ZCARD", ELEMENT),
        "hash" => ("HLEN", ELEMENT),
        _ => ("STRLEN", 1),
    }
}

/// The most that is asked in one write: so much a server reads at once, and runs without looking at anybody else.
const ONE_WRITE: usize = 16 * 1024;

/// So many keys are asked for at once. With fewer the bracket around them is more often quiet.
const AT_ONCE: usize = 32;

/// How often the same keys are asked for until there are fewer.
const TRIES_EACH: u32 = 8;

/// How often a bracket that was not quiet is asked again before it is given up.
const TRIES: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_far_as_there_is_room() {
        let limits = Limits { largest: 50, room: 100 };
        assert_eq!(portion(&[], limits), 0);
        assert_eq!(portion(&[40, 40, 40], limits), 2);
        assert_eq!(portion(&[50, 50, 1], limits), 2);
        // What is too large takes no room.
        assert_eq!(portion(&[900, 40, 900, 40, 900, 40], limits), 5);
        // One is always read.
        assert_eq!(portion(&[40, 40], Limits { largest: 50, room: 0 }), 1);
    }

    #[test]
    fn errors_that_pass_alone_are_no_answers() {
        let refused = |text: &str| FetchError::Refused {
            command: "DUMP",
            key: b"a\nb".to_vec(),
            text: text.to_owned(),
        };
        assert_eq!(refused("NOPERM no").to_string(), r#"DUMP "a\nb": NOPERM no"#);
        assert!(refused("NOPERM no").is_answer());
        assert!(!refused("LOADING Redis is loading").is_answer());
        assert!(!FetchError::from(ControlError::Unsettled).is_answer());
    }
}
