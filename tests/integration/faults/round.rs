//! One round: everything is chosen by its seed, but not when it happens.

use std::panic::{self, AssertUnwindSafe};

use crate::client::cmd;
use crate::data::now_ms;
use crate::dice::Dice;
use crate::judge::{self, Difference, Dump, Forgiving};
use crate::replicas;
use crate::sync;

use super::fault::{Fault, any_size};
use super::tally::Tally;
use super::world::{Done, RESUMES, World};

/// How a round ended that was not skipped.
pub(super) struct Round {
    pub(super) name: String,
    pub(super) tally: Tally,
    pub(super) wrong: Option<String>,
}

/// Plays the round of this seed between two of these servers. `None` if one is not on this machine.
pub(super) fn play(seed: u64, pairs: &[(&'static str, &'static str)]) -> Option<Round> {
    let (from, to) = pairs[Dice::new(seed).below(pairs.len())];
    let name = format!("seed {seed}, {from} to {to}");
    let mut world = World::new(from, to, seed)?;
    let ended = panic::catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let ended = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic").to_owned())
    });
    let (written, refused) = world.writers.written();
    (world.tally.written, world.tally.refused) = (written, refused);
    world.tally.rounds = 1;
    let wrong = ended.err().map(|what| {
        for server in [&world.source, &world.target] {
            let words = server.last_words(5).join("\n    ");
            world.story.push(format!("the last lines of {}:\n    {words}", server.name));
        }
        format!("{what}\n  {}", world.story.join("\n  "))
    });
    Some(Round { name, tally: world.tally, wrong })
}

fn live(world: &mut World) -> Done {
    world.write(1, 1000);
    world.start_tool();
    // Something may happen during the copy, if that can be borne.
    if !*RESUMES || world.dice.below(3) > 0 {
        world.wait_arrived()?;
        // What was written behind something that has arrived is no part of the copy.
        world.wait_arrived()?;
    }
    for _ in 0..1 + world.dice.below(6) {
        world.write(20, 2000);
        Fault::choose(world).happen(world)?;
        world.mind_tool()?;
        // So that one thing may happen while another is mended, or not.
        if world.dice.below(2) == 0 {
            world.wait_arrived()?;
        }
    }
    world.writers.rest();
    world.source.client().call(cmd!("SETEX", CAPPED, 1_000_000, 1));
    if *RESUMES {
        finish(world)?;
    } else {
        stop(world)?;
    }
    compare(world)
}

/// A key that is set last, whose deadline is far away.
const CAPPED: &str = "capped";

/// The same command once more, to its end: killed some times at any point of it, and then no more.
fn finish(world: &mut World) -> Done {
    if world.dice.below(2) == 0 {
        world.signal("INT");
        world.end_of_tool();
    } else {
        world.kill_tool();
    }
    let mut killed = false;
    for _ in 0..world.dice.below(4) {
        world.start_to_end();
        let bytes = any_size(&mut world.dice, 20);
        if !world.wait_passed(bytes) {
            return ended(world, killed);
        }
        world.tally.killed_at_end += 1;
        world.tell(format!("killed when {bytes} more bytes had passed"));
        world.kill_tool();
        killed = true;
    }
    world.start_to_end();
    ended(world, killed)
}

/// How the last run must end.
fn ended(world: &mut World, after_killed: bool) -> Done {
    let ended = world.end_of_tool();
    match ended.code {
        Some(0) => Ok(()),
        // Scripts that come as such may have touched what they did not declare.
        Some(1) if !world.source.version.at_least(5, 0) => {
            world.tally.unproven += 1;
            Ok(())
        }
        // The one that was killed had just ended the job, and had not come to say so.
        Some(2) if after_killed && ended.stderr.contains("the target already holds") => {
            world.tally.done_when_killed += 1;
            Ok(())
        }
        code => Err(format!("the last run ended with {code:?}")),
    }
}

/// Without going on: the tool follows until everything has arrived.
fn stop(world: &mut World) -> Done {
    world.wait_arrived()?;
    world.signal("INT");
    match world.end_of_tool().code {
        Some(130) => Ok(()),
        code => Err(format!("it was told to stop and ended with {code:?}")),
    }
}

fn compare(world: &mut World) -> Done {
    let forgiving = Forgiving { deadline_ms: world.deadline_ms, ..sync::untold(&world.source) };
    let first = Dump::read(&mut world.source.client()).under(world.prefix);
    let second = Dump::read(&mut world.target.client());
    let first = match world.cap {
        Some(cap) => {
            // When the job ended: a key that had more left has that from then on.
            let latest = second.deadline(&format!("{}{CAPPED}", world.prefix));
            let now = now_ms(&mut world.target.client());
            if !(now - 600_000..=now).contains(&(latest - cap)) {
                return Err(format!("it is {now}, and a deadline was capped to {latest}"));
            }
            first.dated(|at| at.min(latest))
        }
        None => first,
    };
    world.tally.keys += first.len();
    let differences = judge::diff(&first, &second, forgiving);
    if !differences.is_empty() {
        let shown: Vec<_> = differences.iter().take(12).map(Difference::to_string).collect();
        return Err(format!("{} differences:\n  {}", differences.len(), shown.join("\n  ")));
    }
    if !second.own().is_empty() {
        return Err(format!("a finished job has left {:?}", second.own()));
    }
    if world.source.name == world.target.name && world.prefix.is_empty() {
        replicas::same_digest(&world.source, &world.target);
    }
    Ok(())
}
