//! Where a master's stream stands, for those who show how far behind it we are.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep;
use tracing::debug;

use crate::net::Control;
use crate::net::ControlError;
use crate::net::Net;
use crate::net::info_field;
use crate::plan::ServerPlace;
use crate::progress::Counters;

/// How often a master is asked. Once a second is how often its replicas acknowledge.
const EVERY: Duration = Duration::from_secs(1);

/// How long a master that could not be reached is left alone. The lane is the one who cares for it.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks a master once a second for its offset and notes it in `counters`, over a connection of its own. Returns when it
/// cannot be known: the master has no offsets (2.6 and older), or forbids `INFO`. A lost link is made again. To be
/// dropped when nobody looks any more.
pub async fn watch_offset(net: Net, place: ServerPlace, counters: Arc<Counters>) {
    loop {
        match watch(&net, &place, &counters).await {
            Ok(()) => return,
            Err(error) => debug!(%error, "the master's offset is not known for now"),
        }
        sleep(PAUSE).await;
    }
}

async fn watch(net: &Net, place: &ServerPlace, counters: &Counters) -> Result<(), ControlError> {
    let mut control = Control::open(net, place).await?;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let info = match control.info("replication").await {
            Ok(info) => info,
            Err(ControlError::Refused { text, .. }) if text.starts_with("NOPERM") => return Ok(()),
            Err(error) => return Err(error),
        };
        let offset = info_field(&info, "master_repl_offset").and_then(|text| text.parse().ok());
        let Some(offset) = offset else { return Ok(()) };
        counters.master_is_at(offset, net.clock().unix_ms());
    }
}
