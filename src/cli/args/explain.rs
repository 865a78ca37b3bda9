//! What `explain` was told.

use std::ffi::OsString;

use super::access::Access;
use super::job::{OnConflictArg, Places};
use crate::cli::rules::RuleArgs;
use crate::cli::values;

/// What `explain` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The key's name on the source; if no source holds it, it is also looked for as a name in the target
    pub(crate) key: OsString,

    /// Its database on the source (as a name in the target: the target's) [default: that of the source's place, else 0]
    #[arg(long, value_name = "N")]
    pub(crate) db: Option<u32>,

    #[command(flatten)]
    pub(crate) places: Places,

    /// What the job was told of keys that several hold
    #[arg(long, value_enum)]
    pub(crate) on_conflict: Option<OnConflictArg>,

    /// How much memory may be taken; an eighth of it is the largest value that is compared [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) memory: Option<u64>,

    /// The answer as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) rules: RuleArgs,

    #[command(flatten)]
    pub(crate) access: Access,
}
