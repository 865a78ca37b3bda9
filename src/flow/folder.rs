//! A folder in which is noted on the disk what grows with the keys.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::plan::Plan;
use crate::scratch::Unnamed;

use super::job;
use super::lane::{LaneError, chain};

/// That of the plan's spool, or of this system's temporary files. If it was made for what is noted it is gone in the end.
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn of(plan: &Plan) -> Self {
        Self { path: plan.spool.folder.clone().unwrap_or_else(std::env::temp_dir) }
    }

    pub(super) fn file(&self) -> io::Result<Unnamed> {
        let was_there = self.path.exists();
        job::create(&self.path)?;
        let file = Unnamed::create(&self.path);
        if !was_there {
            // An unnamed file needs no folder.
            let _ = fs::remove_dir(&self.path);
        }
        file
    }

    /// What the disk's failure means, and what to do.
    pub(super) fn unkept(&self, source: io::Error, advice: &str) -> (String, String) {
        let error = LaneError::Write { path: self.path.clone(), source };
        (chain(&error), advice.to_owned())
    }
}

/// So many parts of the memory.
pub(super) fn share(plan: &Plan, parts: u64, of: u64) -> usize {
    usize::try_from(plan.memory / of * parts).unwrap_or(usize::MAX)
}
