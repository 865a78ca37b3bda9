//! The names that sources have brought, in memory and in the job's folder.
//!
//! ```text
//! names        what was noted, for whoever goes on with the job
//! names.new    the same while the names of an earlier run are lost, until every source has been read anew: who goes on before that has not all
//! holders      whose value the target holds under a contested key, where deadlines become others by that
//! names.lost   they were lost once, so that the target may hold keys of which nobody knows who has brought them
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::info;

use crate::key::{Db, fingerprint};
use crate::owners::{Claims, Log, LogError, Owners, TooMany, hash, read_log};
use crate::plan::Plan;

use super::lane::chain;

/// The files in the job's folder.
pub(super) const NAMES: &str = "names";
pub(super) const NAMES_ANEW: &str = "names.new";
pub(super) const NAMES_LOST: &str = "names.lost";
pub(super) const HOLDERS: &str = "holders";

/// A name could not be noted, so nothing may be written under it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// There are too many.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The log cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) owners: Owners,
    pub(super) log: Log,
    /// Where the log is, and where it is to be once it tells all.
    file: Option<(PathBuf, File)>,
    whole: Option<PathBuf>,
    /// Whose values the target holds under contested keys, where somebody needs to know.
    holders: Option<Holders>,
    /// Keys that several sources hold, where that is not wanted.
    pub(super) quarantined: HashSet<u128, foldhash::fast::RandomState>,
}

/// See [`Names::holds`].
#[derive(Debug, Default)]
struct Holders {
    of: HashMap<u64, u8, foldhash::fast::RandomState>,
    log: Log,
    file: Option<(PathBuf, File)>,
}

/// What has become of the names that earlier runs have noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// All are known, or there were none.
    Known,
    /// So they are, since all sources were read anew: before that they were lost.
    Regained,
    /// They are lost.
    Lost,
}

impl Names {
    /// None yet. Where `tells_holders` it is kept whose values the target holds under contested keys.
    pub(super) fn new(owners: Owners, tells_holders: bool) -> Self {
        let (log, quarantined) = (Log::default(), HashSet::default());
        Self {
            owners,
            log,
            file: None,
            whole: None,
            holders: tells_holders.then(Holders::default),
            quarantined,
        }
    }

    /// Goes on with the log of an earlier run in this folder, or begins one.
    pub(super) fn open(
        &mut self,
        plan: &Plan,
        folder: &Path,
        goes_on: bool,
    ) -> Result<Earlier, NoteError> {
        let whole = folder.join(NAMES);
        let lost = folder.join(NAMES_LOST);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| NoteError::Write { path, source }
        };
        let head = head(plan);
        super::job::create(folder).map_err(failed(folder))?;
        // Also when all is copied anew: what was brought and is gone must be removed.
        let recalled = match goes_on {
            true => self.recall(&whole, &head)?,
            false => None,
        };
        if self.holders.is_some() {
            // Without the names a key that has one may be contested no more.
            let counts = recalled.is_some();
            self.holders = Some(Holders::open(&folder.join(HOLDERS), &head, counts)?);
        }
        if let Some((file, len)) = recalled {
            file.set_len(len).map_err(failed(&whole))?;
            self.file = Some((whole, file));
            let was_lost = lost.try_exists().map_err(failed(&lost))?;
            return Ok(if was_lost { Earlier::Regained } else { Earlier::Known });
        }
        let path = match goes_on {
            true => {
                super::job::file(&lost).map_err(failed(&lost))?;
                folder.join(NAMES_ANEW)
            }
            false => {
                let _ = fs::remove_file(&lost);
                whole.clone()
            }
        };
        let mut file = appended(&path).map_err(failed(&path))?;
        file.set_len(0).map_err(failed(&path))?;
        io::Write::write_all(&mut file, &head).map_err(failed(&path))?;
        self.file = Some((path, file));
        self.whole = goes_on.then_some(whole);
        Ok(if goes_on { Earlier::Lost } else { Earlier::Known })
    }

    /// Notes what a log tells. `None` if it is not there or does not count.
    fn recall(&mut self, path: &Path, head: &[u8]) -> Result<Option<(File, u64)>, NoteError> {
        let write = |source| NoteError::Write { path: path.to_owned(), source };
        if !path.try_exists().map_err(write)? {
            return Ok(None);
        }
        let file = appended(path).map_err(write)?;
        match self.owners.recall_log(head, io::BufReader::new(&file)) {
            Ok(len) => Ok(Some((file, len))),
            Err(LogError::TooMany(error)) => Err(error.into()),
            Err(error) => {
                info!(error = chain(&error), path = %path.display(), "the names of an earlier run");
                Ok(None)
            }
        }
    }

    /// Sees that all that was noted is in the log.
    pub(super) fn write_down(&mut self) -> Result<(), NoteError> {
        if let Some(Holders { log, file, .. }) = &mut self.holders {
            write_down(log, file.as_mut())?;
        }
        write_down(&mut self.log, self.file.as_mut())
    }

    /// What is about to be written under a contested key is this source's: its rules hold for it. Without one the key goes.
    pub(super) fn holds(&mut self, print: u128, source: Option<u8>) {
        let Some(Holders { of, log, .. }) = &mut self.holders else { return };
        let name = hash(print);
        if let Some(source) = source
            && of.insert(name, source) != Some(source)
        {
            log.push(source, name);
        }
    }

    /// Whose value the target holds under a contested key; `None` if it was never written as one.
    pub(super) fn holder(&self, print: u128) -> Option<u8> {
        self.holders.as_ref()?.of.get(&hash(print)).copied()
    }

    /// Every source has been read anew: whoever goes on from here has all names.
    pub(super) fn are_whole(&mut self) -> Result<(), NoteError> {
        self.write_down()?;
        if let (Some(whole), Some((path, _))) = (self.whole.take(), &mut self.file) {
            fs::rename(&*path, &whole)
                .map_err(|source| NoteError::Write { path: whole.clone(), source })?;
            *path = whole;
        }
        Ok(())
    }
}

impl Holders {
    /// Goes on with those of an earlier run, if they count.
    fn open(path: &Path, head: &[u8], counts: bool) -> Result<Self, NoteError> {
        let write = |source| NoteError::Write { path: path.to_owned(), source };
        let mut file = appended(path).map_err(write)?;
        let mut of = HashMap::default();
        let read = read_log(head, io::BufReader::new(&file), |source, name| {
            of.insert(name, source);
            Ok(())
        });
        match read {
            Ok(len) if counts => file.set_len(len).map_err(write)?,
            _ => {
                of.clear();
                file.set_len(0).map_err(write)?;
                io::Write::write_all(&mut file, head).map_err(write)?;
            }
        }
        Ok(Self { of, log: Log::default(), file: Some((path.to_owned(), file)) })
    }
}

fn write_down(log: &mut Log, file: Option<&mut (PathBuf, File)>) -> Result<(), NoteError> {
    let Some((path, file)) = file.filter(|_| !log.is_written()) else { return Ok(()) };
    log.write(file).map_err(|source| NoteError::Write { path: path.clone(), source })
}

/// What the logs of a job of these sources begin with.
fn head(plan: &Plan) -> Vec<u8> {
    let sources: Vec<&str> = plan.sources.iter().map(|source| source.name.as_str()).collect();
    Log::head(&boot(), fingerprint(Db::default(), sources.join("\n").as_bytes()))
}

/// Which sources have brought a name, by the job's log of this start of the machine; `None` if there is none. Nothing is written.
pub(super) fn claims_noted(plan: &Plan, db: Db, name: &[u8]) -> Option<Claims> {
    let file = File::open(plan.job.folder.as_ref()?.join(NAMES)).ok()?;
    let (wanted, mut claims) = (hash(fingerprint(db, name)), Claims::default());
    let read = read_log(&head(plan), io::BufReader::new(file), |owner, name| {
        if name == wanted {
            claims.insert(owner);
        }
        Ok(())
    });
    read.is_ok().then_some(claims)
}

/// A file that is gone on with at its end.
fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Which start of the machine this is; empty where it does not tell.
pub(super) fn boot() -> String {
    let told = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    told.map(|id| id.trim().to_owned()).unwrap_or_default()
}
