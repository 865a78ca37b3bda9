//! The keys that a target holds before anything is written.

use std::sync::Arc;

use tracing::info;

use crate::change::Kept;
use crate::key::Db;
use crate::net::{Control, ControlError, Net};
use crate::plan::{Facts, OnConflict, Place, Plan};

use super::lane::chain;
use super::report::{Ended, Report, SourceReport};

/// Reads the names of the keys in the databases that the plan writes, if it says what becomes of them and they fit. `None`: nobody needs to
/// know, or (under [`OnConflict::Replace`], where they are only counted) they do not fit.
///
/// # Errors
/// If the target does not answer.
pub(super) async fn held(
    net: &Net,
    plan: &Plan,
    facts: &Facts,
) -> Result<Option<Arc<Kept>>, ControlError> {
    let (Some(target), Place::Server(place)) = (&facts.target, &plan.target) else {
        return Ok(None);
    };
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
    Ok(Some(Arc::new(kept)))
}

async fn read(control: &mut Control, db: Db, kept: &mut Kept) -> Result<(), ControlError> {
    control.ask::<()>("SELECT", &[db.index().to_string().as_bytes()]).await?;
    let mut cursor = 0_u64;
    loop {
        let digits = cursor.to_string();
        let (next, names): (u64, Vec<Vec<u8>>) =
            control.ask("SCAN", &[digits.as_bytes(), b"COUNT", b"1000"]).await?;
        for name in names.iter().filter(|name| !name.starts_with(b"understudy:")) {
            kept.insert(db, name);
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// The report of a run that could not begin.
pub(super) fn unread(plan: &Plan, error: &ControlError) -> Report {
    let failed = |source: &crate::plan::Source| SourceReport {
        ended: Ended::Refused,
        failure: Some((
            format!("the names of the target's keys cannot be read: {}", chain(error)),
            "see that SCAN is allowed there, or give an empty target".to_owned(),
        )),
        ..SourceReport::new(source.name.clone())
    };
    Report { sources: plan.sources.iter().map(failed).collect(), seconds: 0.0 }
}
