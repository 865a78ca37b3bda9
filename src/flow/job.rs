//! What a job leaves on this machine and in the target, and takes away when it is done.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use tracing::{debug, warn};

use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, Job, Place, Plan};
use crate::position;

use super::digests;
use super::held::{KEPT, REPLACED};
use super::lane::chain;
use super::names::{HOLDERS, NAMES, NAMES_ANEW, NAMES_LOST};
use super::report::{Ended, Report, SourceReport};

/// Says in the job's folder that it has begun, before anything of it is in the target: an empty target is then never taken for a new one.
///
/// # Errors
/// If the folder cannot be written.
pub(super) fn begin(plan: &Plan, facts: &Facts) -> io::Result<()> {
    let Some(folder) = &plan.job.folder else { return Ok(()) };
    if facts.is_known && !plan.job.restart {
        return Ok(());
    }
    create(folder)?;
    let head = if facts.is_sole(plan) { Job::BEGUN_ALONE } else { Job::BEGUN_AMONG };
    let from = plan.sources.iter().map(|source| format!("{}{}\n", Job::BEGUN_FROM, source.name));
    let text = format!("{head}\n{}", from.collect::<String>());
    let mut file = file(&folder.join(Job::BEGUN))?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()
}

/// Says there that this source has left nothing in the target: that it has no record is then no loss. Without the word it looks like one, and is copied
/// all the same.
pub(super) fn has_not_begun(plan: &Plan, source: &str) {
    let Some(folder) = &plan.job.folder else { return };
    let mark = fs::OpenOptions::new().append(true).open(folder.join(Job::BEGUN));
    let said = mark.and_then(|mut mark| {
        io::Write::write_fmt(&mut mark, format_args!("{}{source}\n", Job::NOT_BEGUN))
    });
    if let Err(error) = said {
        debug!(%error, source, "that it has not begun is not noted");
    }
}

/// Makes a job's folder, which is its owner's alone.
pub(super) fn create(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes a file in it.
pub(super) fn file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// The report of a run whose folder cannot be written.
pub(super) fn unmarked(plan: &Plan, folder: &Path, error: &io::Error) -> Report {
    let failed = |source: &crate::plan::Source| SourceReport {
        ended: Ended::Refused,
        failure: Some((
            format!("the job's folder {} cannot be written: {error}", folder.display()),
            "name another place for it in UNDERSTUDY_STATE".to_owned(),
        )),
        ..SourceReport::new(source.name.clone())
    };
    Report { sources: plan.sources.iter().map(failed).collect(), seconds: 0.0 }
}

/// Takes away what is no longer needed: of a job that is done all, of one that has not begun the mark.
pub(super) async fn end(net: &Net, plan: &Plan, facts: &Facts, report: &Report) {
    let all = |ended: &[Ended]| report.sources.iter().all(|source| ended.contains(&source.ended));
    let is_done = all(&[Ended::Done, Ended::Differences]);
    let names: Vec<&String> = match plan.sources.as_slice() {
        // It deletes its own when it is done, with all else.
        [_] => facts.strays.iter().collect(),
        many => many.iter().map(|source| &source.name).chain(&facts.strays).collect(),
    };
    if is_done
        && !names.is_empty()
        && let Place::Server(place) = &plan.target
    {
        let forgotten = async {
            let mut control = Control::open(net, place).await?;
            let db = plan.record_db().index().to_string();
            control.ask::<()>("SELECT", &[db.as_bytes()]).await?;
            for name in names {
                let job = &plan.job.name;
                let keys = [position::key(job, name), position::scripts_key(job, name)];
                control.ask::<()>("DEL", &[&keys[0], &keys[1]]).await?;
            }
            Ok::<(), ControlError>(())
        };
        if let Err(error) = forgotten.await {
            warn!(error = chain(&error), "the job's records could not be deleted from the target");
            return;
        }
    }
    if is_done || all(&[Ended::Refused]) && !facts.goes_on() {
        let Some(folder) = &plan.job.folder else { return };
        // Other files in it are kept; what is not there need not be removed.
        for name in [Job::BEGUN, KEPT, REPLACED, NAMES, NAMES_ANEW, NAMES_LOST, HOLDERS] {
            if let Err(error) = fs::remove_file(folder.join(name)) {
                debug!(%error, name, "a file of the job is not there");
            }
        }
        digests::forget(folder);
        let _ = fs::remove_dir(folder);
    }
}
