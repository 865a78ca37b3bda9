//! The keys that a target holds before anything is written.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use crate::change::Kept;
use crate::key::Db;
use crate::ledger::older::{self, OlderError};
use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, OnConflict, Place, Plan};

use super::lane::chain;
use super::report::{Ended, Report, SourceReport};
use super::scan::Scan;

/// The keys that a target held before the job began.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) keys: Arc<Kept>,
    /// They stay as they are, whatever a source says of them. Else they are replaced.
    pub(super) keeps: bool,
}

/// Why they are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeldError {
    /// The target does not tell.
    #[error("the names of the target's keys cannot be read")]
    Control(#[from] ControlError),
    /// The file in which the job has kept them cannot be used.
    #[error("the names of the keys that the target held before, in {}", .0.display())]
    Older(PathBuf, #[source] OlderError),
    /// It is not there, or cannot be written.
    #[error("the names of the keys that the target held before, in {}", .0.display())]
    File(PathBuf, #[source] io::Error),
}

/// The names of the keys in the databases that the plan writes, if it says what becomes of them and they fit: from the target when the job
/// begins, and from then on from the job's folder. `None`: nobody needs to know, or (where they are replaced, and only counted) they do
/// not fit.
///
/// # Errors
/// If the target does not answer, or the file cannot be used.
pub(super) async fn held(net: &Net, plan: &Plan, facts: &Facts) -> Result<Option<Held>, HeldError> {
    let (Some(target), Place::Server(place)) = (&facts.target, &plan.target) else {
        return Ok(None);
    };
    if facts.goes_on() {
        return from_folder(plan);
    }
    let keys = target.keys_that(plan);
    let wanted = match plan.on_conflict {
        Some(OnConflict::Keep) => true,
        Some(OnConflict::Replace) => keys <= plan.names_that_fit(),
        Some(OnConflict::Stop) | None => false,
    };
    if keys == 0 || !wanted {
        return Ok(None);
    }
    let mut control = Control::open(net, place).await?;
    let mut kept = Kept::with_capacity(usize::try_from(keys).unwrap_or_default());
    for &db in target.keys.keys() {
        if plan.sources.iter().any(|source| source.rules.writes(db)) {
            read(&mut control, db, &mut kept).await?;
        }
    }
    info!(keys = kept.len(), "the names of the keys in the target were read");
    let keeps = plan.on_conflict == Some(OnConflict::Keep);
    if let Some(folder) = &plan.job.folder {
        let path = folder.join(if keeps { KEPT } else { REPLACED });
        write(folder, &path, &kept).map_err(|error| HeldError::File(path, error))?;
    }
    Ok(Some(Held { keys: Arc::new(kept), keeps }))
}

/// The files in a job's folder that hold these names.
pub(super) const KEPT: &str = "kept";
pub(super) const REPLACED: &str = "replaced";

fn write(folder: &Path, path: &Path, kept: &Kept) -> io::Result<()> {
    super::job::create(folder)?;
    let mut file = BufWriter::new(super::job::file(path)?);
    older::encode(kept, &mut file)?;
    file.into_inner()?.sync_all()
}

pub(super) fn from_folder(plan: &Plan) -> Result<Option<Held>, HeldError> {
    let Some(folder) = &plan.job.folder else { return Ok(None) };
    for (name, keeps) in [(KEPT, true), (REPLACED, false)] {
        let path = folder.join(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file,
        };
        let read = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, file) = read.map_err(|error| HeldError::File(path.clone(), error))?;
        let keys = older::decode(len, BufReader::new(file))
            .map_err(|error| HeldError::Older(path, error))?;
        return Ok(Some(Held { keys: Arc::new(keys), keeps }));
    }
    if plan.on_conflict == Some(OnConflict::Keep) {
        // Without them nobody can tell what must not be touched.
        let error = io::ErrorKind::NotFound.into();
        return Err(HeldError::File(folder.join(KEPT), error));
    }
    Ok(None)
}

async fn read(control: &mut Control, db: Db, kept: &mut Kept) -> Result<(), ControlError> {
    let mut scan = Scan::begin(control, db).await?;
    while let Some(names) = scan.page().await? {
        names.iter().for_each(|name| kept.insert(db, name));
    }
    Ok(())
}

/// The report of a run that could not begin.
pub(super) fn unread(plan: &Plan, error: &HeldError) -> Report {
    let mend = match error {
        HeldError::Control(_) => "see that SCAN is allowed there, or give an empty target",
        HeldError::Older(..) | HeldError::File(..) => {
            "the job's folder (UNDERSTUDY_STATE) was lost or damaged, and without it nobody can tell which keys are not this job's: give an empty target and --restart"
        }
    };
    let failed = |source: &crate::plan::Source| SourceReport {
        ended: Ended::Refused,
        failure: Some((chain(error), mend.to_owned())),
        ..SourceReport::new(source.name.clone())
    };
    Report { sources: plan.sources.iter().map(failed).collect(), seconds: 0.0 }
}
