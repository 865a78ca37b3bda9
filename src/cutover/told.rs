//! What is wanted of a cutover, and what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::flow::{Difference, Order};
use crate::net::Net;
use crate::plan::{Facts, Plan};
use crate::progress::Counters;
use crate::verify::Sample;

use super::fence::Fence;
use super::watch::Late;

/// What is wanted of a cutover.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What keeps the sources from taking writes; `None`: nothing does, and all is tried but the switch.
    pub fence: Option<Fence>,
    /// Which part of the keys is compared; `None`: all of them.
    pub sample: Option<Sample>,
    /// How long writes may be refused, at the most.
    pub most: Duration,
    /// For how long behind GO the sources are watched.
    pub watch: Duration,
}

/// The job that is switched.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// To its places.
    pub net: &'a Net,
    /// What it does.
    pub plan: &'a Plan,
    /// What was known when it began.
    pub facts: &'a Facts,
    /// How its lanes stand, in the plan's order.
    pub counters: &'a [Arc<Counters>],
    /// What its lanes are told.
    pub orders: &'a watch::Sender<Order>,
}

/// What is told while a cutover goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A step is done: its name, and what came of it.
    Step(&'static str, String),
    /// A key differs.
    Differs(Difference),
    /// It is GO. The sources stay fenced, and the target is the one.
    Go(Gone),
    /// A source that was handed over was written to.
    Late(Late),
}

/// What was switched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Where each source's stream has ended, by name; 0 where the source has no offsets.
    pub offsets: BTreeMap<String, u64>,
    /// How long writes were refused until then, in milliseconds; of a rehearsal what the steps took that would have been behind a fence.
    pub pause_ms: u64,
    /// How many keys of the sources were compared.
    pub compared: u64,
}

/// How a cutover has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was switched; `None`: NO-GO.
    pub gone: Option<Gone>,
    /// Why it is no GO, and what to do: each line by itself.
    pub against: Vec<String>,
    /// Writes that came behind GO.
    pub late: u64,
    /// Sources that could not be watched to the end, each with the reason: what they were sent nobody has seen.
    pub unwatched: Vec<String>,
}

/// Why it is no GO.
pub(super) struct Against(pub(super) Vec<String>);

impl Against {
    pub(super) fn of(what: String) -> Self {
        Self(vec![what])
    }

    pub(super) fn by((source, why): (String, String)) -> Self {
        Self::of(format!("{source}: {why}"))
    }
}

impl Job<'_> {
    /// Gives an order, if it may follow the one before.
    pub(super) fn give(&self, order: Order) -> Result<(), String> {
        let given = order.give(self.orders);
        given
            .map(drop)
            .map_err(|late| format!("the job was told to {} meanwhile", late.follows.name()))
    }
}
