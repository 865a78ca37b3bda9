//! What `verify` was told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use understudy::verify::Sample;

use super::access::Access;
use super::job::{Bounds, Places, Schedule};
use crate::cli::rules::RuleArgs;
use crate::cli::values;

/// What `verify` was told.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) places: Places,

    /// Make each key that differs what its source holds, and remove those that no source holds. While a job of these places runs on this machine
    /// it is the one that does. Ends with 0 if nothing differs any more
    #[arg(long)]
    pub(crate) repair: bool,

    /// How both sides are read
    #[arg(long, value_enum, default_value_t = ByArg::Auto, conflicts_with = "sample")]
    pub(crate) by: ByArg,

    /// Compare only a part of the keys, a percentage (1%) or about so many (10000), and ask no source for its whole data set: those that SCAN
    /// gives from places spread over the tables of all servers, or where that cannot be, those that a hash of their names chooses
    #[arg(long, value_name = "SHARE", value_parser = values::sample, conflicts_with = "repair")]
    pub(crate) sample: Option<Sample>,

    /// With --sample: the seed of another one, which it has told, to choose as it did
    #[arg(long, value_name = "N", requires = "sample")]
    pub(crate) seed: Option<u64>,

    /// Compare only keys whose names on the source match, before any rename. May be given several times: one match is enough
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<OsString>,

    /// By how much deadlines may differ
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    pub(crate) ttl_tolerance: Duration,

    /// How many differences are written; all are counted [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) differences: Option<u64>,

    /// Each difference as one JSON object, and behind them one with the counts
    #[arg(long)]
    pub(crate) json: bool,

    /// Write what was compared, and what came of it, to FILE: as a page where its name ends in .html, else as JSON. May be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) schedule: Schedule,

    #[command(flatten)]
    pub(crate) bounds: Bounds,

    #[command(flatten)]
    pub(crate) rules: RuleArgs,

    #[command(flatten)]
    pub(crate) access: Access,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum ByArg {
    /// The sources by what a running job keeps of its copy, else through their replica links; the
    /// target by SCAN
    #[default]
    Auto,
    /// The sources through their replica links whatever a job keeps: they fork. The target by SCAN
    Psync,
    /// Both through their replica links: the target forks too
    Replication,
    /// Both by SCAN: none forks
    Scan,
}
