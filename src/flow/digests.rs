//! Where a job keeps [what its copies were](crate::verify::digests), in its folder: for each source a file, and one seed for all.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tracing::{debug, warn};

use crate::key::{Db, fingerprint};
use crate::offset::Offset;
use crate::plan::{Place, Plan, Source, Until};
use crate::position::{digest, rules_digest};
use crate::verify::digests::{DigestsError, Head, Reader, Writer};

use super::lane::chain;
use super::names::boot;

/// What the files' names begin with.
const PREFIX: &str = "digests.";

/// Where the seed is.
const SEED: &str = "digests.seed";

/// So much of a disk is left free.
const FREE: u64 = 1 << 30;

/// How often that is looked at: each time so many bytes were written.
const LOOK: u64 = 16 << 20;

/// How many bytes of a source are kept at most, where nobody has said it.
const MOST: u64 = 8 << 30;

/// A file that is written.
#[derive(Debug)]
pub(super) struct Digests {
    path: PathBuf,
    file: File,
    pub(super) writer: Writer,
    covered: Offset,
    unlooked: u64,
}

/// Where it is kept of a source of this job; `None` if it is not.
pub(super) fn place(plan: &Plan, source: &Source) -> Option<PathBuf> {
    let is_alone = match &source.place {
        Place::Server(place) => place.shard().is_none(),
        Place::Rdb(_) | Place::Capture(_) => false,
    };
    let folder = plan.job.folder.as_ref().filter(|_| is_alone)?;
    let token = digest(&format!("{}\n{}", plan.job.name, source.name));
    Some(folder.join(format!("{PREFIX}{token}")))
}

/// What such a file begins with.
pub(super) fn head(plan: &Plan, source: &Source, seed: u64) -> Head {
    let rules = rules_digest(&source.rules.clone().narrowed(Vec::new()));
    let whose = format!("{}\n{}\n{rules}", plan.job.name, source.name);
    Head::new(&boot(), fingerprint(Db::default(), whose.as_bytes()), seed)
}

/// How many bytes of a source may be kept.
pub(super) fn most(plan: &Plan) -> u64 {
    plan.spool.limit.unwrap_or(MOST)
}

/// The seed of all digests of a job, which is drawn when it is first asked for.
pub(super) fn seed(folder: &Path) -> io::Result<u64> {
    super::job::create(folder)?;
    let path = folder.join(SEED);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = file.open(&path)?;
    // All sources ask for it as they begin, and nobody may see it made and not written.
    flock(&file, FlockOperation::LockExclusive)?;
    let mut kept = Vec::new();
    file.read_to_end(&mut kept)?;
    if kept.is_empty() {
        let drawn = RandomState::new().hash_one(path.as_os_str());
        file.write_all(&drawn.to_le_bytes())?;
        return Ok(drawn);
    }
    let kept = kept.try_into().map(u64::from_le_bytes);
    kept.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not what was written there"))
}

/// The seed of the digests that are kept in this folder, if any are.
pub(super) fn kept_seed(folder: &Path) -> Option<u64> {
    let seed = fs::read(folder.join(SEED)).ok()?;
    Some(u64::from_le_bytes(seed.try_into().ok()?))
}

/// Whether a run keeps them: one that ends by itself has nobody who would ask.
pub(super) fn are_kept(plan: &Plan) -> bool {
    plan.until == Until::Forever
}

/// Whether a process writes this file now: it has it locked, and no other way can be told whether it lives.
pub(super) fn is_written(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Says that nothing is kept, and what follows from that.
pub(super) fn are_not_kept(path: &Path, error: &dyn Error) {
    warn!(
        error = chain(error),
        path = %path.display(),
        "the digests of the copy are not kept: verify and cutover will read the source anew"
    );
}

/// Takes them away.
pub(super) fn forget(folder: &Path) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.flatten() {
        if file.file_name().to_string_lossy().starts_with(PREFIX)
            && let Err(error) = fs::remove_file(file.path())
        {
            debug!(%error, path = %file.path().display(), "a file of the job cannot be removed");
        }
    }
}

impl Digests {
    /// Those of a copy that begins. Whoever reads those of the one before sees that they are its no more.
    pub(super) fn begin(
        path: PathBuf,
        head: &Head,
        mut writer: Writer,
        token: &str,
    ) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all_at(&head.encode(), 0)?;
        writer.is_taken_by(token);
        let (covered, unlooked) = (Offset::default(), 0);
        Ok(Self { path, file, writer, covered, unlooked })
    }

    /// Goes on with those of an earlier attempt or process, if they tell all up to here, where the record that `before` has written goes on.
    pub(super) fn go_on(
        path: PathBuf,
        head: &Head,
        mut writer: Writer,
        from: Offset,
        (before, token): (&str, &str),
    ) -> Result<Option<Self>, DigestsError> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
        let mut reader = Reader::new(&file, head)?;
        let skimmed = reader.skim()?;
        if !skimmed.is_whole
            || skimmed.ends.is_some()
            || skimmed.taken_by.as_deref() != Some(before)
        {
            return Ok(None);
        }
        let covered = Offset::new(reader.covered()?);
        if covered < from {
            return Ok(None);
        }
        // A block that was cut off is of nothing that had been sent.
        file.set_len(skimmed.end)?;
        writer.goes_on_from(skimmed.keys, skimmed.names);
        if token != before {
            writer.is_taken_by(token);
        }
        Ok(Some(Self { path, file, writer, covered, unlooked: 0 }))
    }

    /// Writes what was gathered, all that was told up to there. Nothing is sent to the target before.
    fn write(&mut self, taken: Option<Offset>) -> io::Result<()> {
        let blocks = self.writer.take();
        if !blocks.is_empty() {
            self.unlooked += blocks.len() as u64;
            let end = io::Seek::seek(&mut self.file, io::SeekFrom::End(0))?;
            self.file.write_all_at(blocks, end)?;
            blocks.clear();
            // A value of many megabytes makes no block so large, but names may.
            blocks.shrink_to(1 << 20);
            if self.unlooked >= LOOK {
                self.unlooked = 0;
                let disk = rustix::fs::fstatvfs(&self.file)?;
                if disk.f_bavail.saturating_mul(disk.f_frsize) < FREE {
                    self.writer.ends("less than 1 GiB of its disk is free");
                }
            }
        }
        if let Some(taken) =
            taken.filter(|taken| *taken != self.covered && !self.writer.has_ended())
        {
            self.file.write_all_at(&taken.get().to_le_bytes(), Head::COVERED)?;
            self.covered = taken;
        }
        Ok(())
    }

    /// Writes what was gathered; `covers` says up to where in the stream it tells all by then. If that cannot be done, or nothing more is told, they are
    /// given up: a comparison reads the source anew.
    pub(super) fn keep(slot: &mut Option<Box<Self>>, covers: Option<Offset>) {
        let Some(digests) = slot else { return };
        let failure = match digests.write(covers) {
            Ok(()) if !digests.writer.has_ended() => return,
            // What it ends with was gathered by the look at the disk.
            Ok(()) => digests.write(None).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
            are_not_kept(&digests.path, &error);
            // It tells up to where it counts; what is there takes up room that is wanted.
            let _ = fs::remove_file(&digests.path);
        }
        *slot = None;
    }

    /// Nothing is to be told of a copy whose stream has no offsets.
    pub(super) fn drop_all(slot: &mut Option<Box<Self>>) {
        if let Some(digests) = slot.take() {
            let _ = fs::remove_file(&digests.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_who_ask_at_a_time_get_one_seed() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let seeds: Vec<u64> = thread::scope(|scope| {
                let asking: Vec<_> =
                    (0..16).map(|_| scope.spawn(|| seed(folder.path()).unwrap())).collect();
                asking.into_iter().map(|seed| seed.join().unwrap()).collect()
            });
            assert!(seeds.iter().all(|seed| kept_seed(folder.path()) == Some(*seed)), "{seeds:?}");
        }
    }

    #[test]
    fn a_seed_that_was_made_and_not_written_is_drawn_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SEED), "").unwrap();
        let drawn = seed(folder.path()).unwrap();
        assert_eq!(kept_seed(folder.path()), Some(drawn));
        fs::write(folder.path().join(SEED), "another").unwrap();
        assert!(seed(folder.path()).is_err());
    }
}
