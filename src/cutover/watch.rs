//! What the sources are sent behind GO: each write is an alarm, for it is lost.

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

use crate::key::Escaped;
use crate::progress::LateWrite;

use super::switch::Member;

/// A write to a source that had been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The source.
    pub source: String,
    /// What was written.
    pub write: LateWrite,
    /// The clients that had said something just then, as the source lists them.
    pub clients: Vec<String>,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, write, .. } = self;
        write!(f, "{source}: {} at offset {}", write.command, write.offset)?;
        match &write.key {
            Some(key) => write!(f, ", key {}", Escaped(key)),
            None => Ok(()),
        }
    }
}

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(250);

/// Looks on for so long, and tells each late write as it comes: the first hundred of a moment by name. Gives how many came since there had been `before` of
/// all sources, and who could not be watched to the end.
pub(super) async fn watch(
    members: &[Member],
    (before, lasting): (u64, Duration),
    tell: &mut (dyn FnMut(Late) + Send),
) -> (u64, Vec<String>) {
    let counted = || members.iter().map(|member| member.counters.snapshot().writes).sum::<u64>();
    let Some(clock) = members.first().map(|member| member.net.clock()) else {
        return (0, Vec::new());
    };
    let begun = clock.now();
    loop {
        for member in members {
            let late = member.counters.take_late();
            if late.is_empty() {
                continue;
            }
            let clients = member.clients().await;
            for write in late {
                let (source, clients) = (member.name.clone(), clients.clone());
                tell(Late { source, write, clients });
            }
        }
        let left = lasting.saturating_sub(clock.now().saturating_sub(begun));
        let has_ended = |member: &&Member| member.counters.snapshot().phase.is_end();
        if left.is_zero() || members.iter().all(|member| has_ended(&member)) {
            let gone = members.iter().filter(has_ended).filter(|_| !lasting.is_zero());
            let told = |member: &Member| format!("{}: {}", member.name, member.broken_off());
            return (counted().saturating_sub(before), gone.map(told).collect());
        }
        sleep(EVERY.min(left)).await;
    }
}
