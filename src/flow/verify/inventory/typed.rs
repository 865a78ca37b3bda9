//! The same of a server that refuses `DUMP`.

use crate::key::{Db, Escaped, is_own};
use crate::net::Control;
use crate::progress::Counters;
use crate::source::FetchError;
use crate::verify::typed::{Deadline, Read as Told};
use crate::verify::{Batch, Content, Times};

use tracing::debug;

use super::super::super::scan::Scan;
use super::super::by_type::ByType;
use super::{Inventory, Named, Read, Sort, UNCLEAR};

/// Which keys are read.
pub(super) enum Names<'a> {
    /// All of these databases that are wanted.
    OfScan(&'a [Db]),
    Known(Vec<Named>),
}

/// So many names are gathered before their values are asked for.
const TOGETHER: usize = 16_000;

impl Inventory {
    /// Reads keys by the commands of their types.
    ///
    /// # Errors
    /// If the server is lost, or refuses these too.
    pub(super) async fn read_by_type(&mut self, names: Names<'_>) -> Result<Read, FetchError> {
        let (net, place) = (self.net.clone(), self.place.clone());
        let mut reader = ByType::new(net, place, self.server, (self.digester.seed(), self.room));
        let mut read = Read { by_type: true, ..Read::default() };
        let dbs = match names {
            Names::Known(named) => {
                for (db, names) in named {
                    self.note_by_type(&mut reader, db, names).await?;
                }
                return Ok(read);
            }
            Names::OfScan(dbs) => dbs,
        };
        let mut control = Control::open(&self.net, &self.place).await?;
        for &db in dbs {
            let mut scan = Scan::begin(&mut control, db).await?;
            let mut is_whole = false;
            while !is_whole {
                let mut wanted = Vec::new();
                while wanted.len() < TOGETHER && !is_whole {
                    let page = scan.page().await?;
                    is_whole = page.is_none();
                    for name in page.into_iter().flatten().filter(|name| !is_own(name)) {
                        match (self.sorts)(db, &name) {
                            Sort::Wanted => wanted.push(name),
                            Sort::Aside => {}
                            Sort::Foreign => read.foreign += 1,
                        }
                    }
                }
                if !self.note_by_type(&mut reader, db, wanted).await? {
                    return Ok(read);
                }
            }
        }
        Ok(read)
    }

    /// Reads and notes these. `false`: what is read cannot be kept.
    async fn note_by_type(
        &self,
        reader: &mut ByType,
        db: Db,
        names: Vec<Vec<u8>>,
    ) -> Result<bool, FetchError> {
        let clock = self.net.clock();
        let now = || clock.unix_ms().saturating_add(self.clock_ahead);
        let times = || Times { now_ms: now(), ..self.times };
        let mut batches: Vec<Batch> = vec![Batch::default()];
        let admits =
            |content: Content| self.rules.as_ref().is_none_or(|rules| rules.admits(content.kind));
        let each = |name: &[u8], told: Result<Told, String>| {
            Counters::add(&self.counters.keys, 1);
            let (content, deadline) = match told {
                Ok(Told::Gone) => return,
                Ok(Told::Value(content, deadline)) => (content, deadline),
                Err(why) => {
                    debug!(key = %Escaped(name), why, "a value cannot be read");
                    (Content::UNREAD, Deadline::Never)
                }
            };
            let deadline = match deadline {
                Deadline::Never => None,
                Deadline::Unclear => Some(UNCLEAR),
                Deadline::At(at) => match times().lives_until(at) {
                    Some(at) => Some(at),
                    None => return,
                },
            };
            if batches.last().is_none_or(Batch::is_full) {
                batches.push(Batch::default());
            }
            if let Some(batch) = batches.last_mut().filter(|_| admits(content)) {
                self.note(db, name, (content, deadline), batch);
            }
        };
        reader.read(db, names.into_iter(), times, each).await?;
        for batch in batches {
            if !batch.is_empty() && self.to.send(batch).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
