//! What `check` was told.

use understudy::plan::Rate;

use super::access::Access;
use super::job::{Bounds, MethodArg, OnConflictArg, Places, Schedule};
use crate::cli::rules::RuleArgs;
use crate::cli::values;

/// What `check` was told: of what `sync` takes, all that bears on what is found.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) places: Places,

    /// One JSON object in place of text
    #[arg(long)]
    pub(crate) json: bool,

    /// What sync will be told about keys that the target already holds
    #[arg(long, value_enum)]
    pub(crate) on_conflict: Option<OnConflictArg>,

    /// What sync will be told about how masters may be asked for their data
    #[arg(long, value_enum, default_value_t = MethodArg::Auto)]
    pub(crate) method: MethodArg,

    /// What sync will be told about a target that evicts keys
    #[arg(long)]
    pub(crate) accept_eviction: bool,

    /// How fast the target will be written to: keys and commands a second (50000) or bytes (20MB)
    #[arg(long, value_name = "RATE", value_parser = values::rate)]
    pub(crate) limit_rate: Option<Rate>,

    #[command(flatten)]
    pub(crate) schedule: Schedule,

    #[command(flatten)]
    pub(crate) bounds: Bounds,

    #[command(flatten)]
    pub(crate) rules: RuleArgs,

    #[command(flatten)]
    pub(crate) access: Access,
}
