//! How a job was cut over, as a section of its report.

use serde_json::{Value, json};
use understudy::cutover::Verdict;

use super::Section;
use crate::cli::progress::grouped;

/// How it ended, as JSON.
pub(crate) fn fields(verdict: &Verdict) -> Value {
    let gone = verdict.gone.as_ref();
    json!({
        "verdict": if gone.is_some() { "GO" } else { "NO-GO" },
        "gone": gone.map(|gone| {
            json!({ "pause_ms": gone.pause_ms, "compared": gone.compared, "offsets": gone.offsets })
        }),
        "against": verdict.against,
        "late_writes": verdict.late,
        "unwatched": verdict.unwatched,
    })
}

/// The same for a person.
pub(crate) fn section(verdict: &Verdict) -> Section {
    let (mut facts, mut rows, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    let (about_rows, words) = match &verdict.gone {
        Some(gone) => {
            facts.push(("writes were refused, ms".to_owned(), grouped(gone.pause_ms)));
            facts.push(("keys compared behind the fence".to_owned(), grouped(gone.compared)));
            facts.push(("writes behind GO".to_owned(), grouped(verdict.late)));
            heads.extend(["source", "offset"]);
            rows.extend(gone.offsets.iter().map(|(name, at)| vec![name.clone(), grouped(*at)]));
            ("where each source's stream has ended", "GO: the target is the one".to_owned())
        }
        None => {
            heads.push("reason");
            rows.extend(verdict.against.iter().map(|why| vec![why.clone()]));
            ("what was against it", "NO-GO: all went on as before".to_owned())
        }
    };
    Section {
        name: "cutover",
        title: "The switch".to_owned(),
        fields: fields(verdict),
        verdict: (
            verdict.gone.is_some() && verdict.late == 0 && verdict.unwatched.is_empty(),
            words,
        ),
        facts,
        about_rows: about_rows.to_owned(),
        heads,
        rows,
    }
}
