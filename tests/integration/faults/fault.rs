//! What can go wrong, and how it is done.

use std::env;
use std::time::{Duration, Instant};

use crate::client::{Client, cmd};
use crate::dice::Dice;
use crate::tool::signal;

use super::proxy::{Cut, ExecCut, Way};
use super::world::{
    Done, PATIENCE, RESUMES, World, copy_of_folder, keeps_transactions_whole, start_with_copy,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The tool is killed, and started again.
    KillTool,
    /// It is told to end, and started again.
    StopTool,
    /// It stands still, and another one is started.
    FreezeTool,
    /// Another one is started beside it.
    SecondTool,
    /// What it said before it was killed arrives when another one has long been at work.
    LateBytes,
    CutSource,
    CutSourceAfter,
    HoldSource,
    LoseSource,
    KillSourceClients,
    CutTarget,
    CutTargetAfter,
    HoldTarget,
    LoseTarget,
    KillTargetClients,
    CutExec,
    /// The target is killed, and started again with what it wrote to the disk.
    KillTarget,
    /// It is started again without anything.
    EmptyTarget,
    /// Somebody flushes it while the tool writes.
    FlushTarget,
    /// It is started again with what it held a while ago.
    OlderTarget,
    /// It has no memory left for a while.
    FullTarget,
    /// It is a replica for a while, which takes no writes.
    ReadOnlyTarget,
    KillSource,
    OlderSource,
    /// The source is lost, and its replica takes its place.
    Failover,
}

impl Fault {
    const ALL: [Self; 25] = [
        Self::KillTool,
        Self::StopTool,
        Self::FreezeTool,
        Self::SecondTool,
        Self::LateBytes,
        Self::CutSource,
        Self::CutSourceAfter,
        Self::HoldSource,
        Self::LoseSource,
        Self::KillSourceClients,
        Self::CutTarget,
        Self::CutTargetAfter,
        Self::HoldTarget,
        Self::LoseTarget,
        Self::KillTargetClients,
        Self::CutExec,
        Self::KillTarget,
        Self::EmptyTarget,
        Self::FlushTarget,
        Self::OlderTarget,
        Self::FullTarget,
        Self::ReadOnlyTarget,
        Self::KillSource,
        Self::OlderSource,
        Self::Failover,
    ];

    /// What a tool can bear that does not go on where another one was left.
    const GENTLE: [Self; 6] = [
        Self::CutSource,
        Self::CutSourceAfter,
        Self::HoldSource,
        Self::HoldTarget,
        Self::KillSourceClients,
        Self::FullTarget,
    ];

    /// One that can happen here.
    pub(super) fn choose(world: &mut World) -> Self {
        let mut among = if *RESUMES { Self::ALL.to_vec() } else { Self::GENTLE.to_vec() };
        if let Ok(only) = env::var("UNDERSTUDY_FAULTS_ONLY") {
            among.retain(|fault| only.split(',').any(|name| name == fault.name()));
            let fault = among[world.dice.below(among.len())];
            assert!(fault.fits(world), "it cannot happen here: {only}");
            return fault;
        }
        loop {
            // What happens most often in life, and where most can go wrong, happens most often here.
            let fault = match world.dice.below(4) {
                0 if *RESUMES => {
                    [Self::KillTool, Self::CutExec, Self::CutTarget, Self::CutTargetAfter]
                        [world.dice.below(4)]
                }
                _ => among[world.dice.below(among.len())],
            };
            if fault.fits(world) {
                return fault;
            }
        }
    }

    fn fits(self, world: &World) -> bool {
        match self {
            Self::Failover => world.replica.is_some(),
            // It may come back with half of a transaction.
            Self::KillTarget => keeps_transactions_whole(world.target.version),
            // What is behind the source would be lost to its replica without a word.
            Self::KillSource | Self::OlderSource => world.replica.is_none(),
            _ => true,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillTool => "tool killed",
            Self::StopTool => "tool stopped",
            Self::FreezeTool => "tool frozen",
            Self::SecondTool => "second tool",
            Self::LateBytes => "late bytes",
            Self::CutSource => "source cut",
            Self::CutSourceAfter => "source cut after bytes",
            Self::HoldSource => "source held",
            Self::LoseSource => "source black-holed",
            Self::KillSourceClients => "source's clients killed",
            Self::CutTarget => "target cut",
            Self::CutTargetAfter => "target cut after bytes",
            Self::HoldTarget => "target held",
            Self::LoseTarget => "target black-holed",
            Self::KillTargetClients => "target's clients killed",
            Self::CutExec => "EXEC cut",
            Self::KillTarget => "target killed",
            Self::EmptyTarget => "target emptied",
            Self::FlushTarget => "target flushed",
            Self::OlderTarget => "target older",
            Self::FullTarget => "target full",
            Self::ReadOnlyTarget => "target read-only",
            Self::KillSource => "source killed",
            Self::OlderSource => "source older",
            Self::Failover => "failover",
        }
    }

    /// Has it happen. When this returns it is over, and the tool may go on.
    pub(super) fn happen(self, world: &mut World) -> Done {
        world.tell(self.name());
        *world.tally.faults.entry(self.name()).or_default() += 1;
        match self {
            Self::KillTool => {
                world.kill_tool();
                if world.dice.below(2) == 0 {
                    world.write(50, 1500);
                }
                world.start_tool();
            }
            Self::StopTool => {
                world.mind_tool()?;
                world.signal("INT");
                let ended = world.end_of_tool();
                // One that has not begun to listen to signals is ended by them.
                let had_begun = !ended.stderr.is_empty();
                if ended.code != Some(130) && (ended.code.is_some() || had_begun) {
                    let code = ended.code;
                    return Err(format!("a tool that was told to stop ended with {code:?}"));
                }
                world.start_tool();
            }
            Self::FreezeTool | Self::SecondTool => second(world, self == Self::FreezeTool)?,
            Self::LateBytes => {
                world.to.hold(&[Way::Up], false);
                world.write(50, 800);
                world.kill_tool();
                world.start_tool();
                world.write(50, 1500);
            }
            Self::CutSource => world.from.cut(any_cut(&mut world.dice)),
            Self::CutTarget => world.to.cut(any_cut(&mut world.dice)),
            Self::CutSourceAfter => {
                let (way, bytes) = any_point(&mut world.dice);
                world.from.cut_after(way, bytes, any_cut(&mut world.dice));
                world.from.wait_cut(SOON);
            }
            Self::CutTargetAfter => {
                let (way, bytes) = any_point(&mut world.dice);
                world.to.cut_after(way, bytes, any_cut(&mut world.dice));
                world.to.wait_cut(SOON);
            }
            Self::HoldSource => {
                world.from.hold(any_ways(&mut world.dice), true);
                world.write(100, 3000);
            }
            Self::HoldTarget => {
                world.to.hold(any_ways(&mut world.dice), true);
                world.write(100, 3000);
            }
            Self::LoseSource => {
                world.from.lose(any_ways(&mut world.dice));
                world.write(100, 3000);
            }
            Self::LoseTarget => {
                world.to.lose(any_ways(&mut world.dice));
                world.write(100, 3000);
            }
            Self::KillSourceClients => {
                world.source.client().call(cmd!("CLIENT", "KILL", "TYPE", "slave"));
            }
            Self::KillTargetClients => {
                world
                    .target
                    .client()
                    .call(cmd!("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"));
            }
            Self::CutExec => cut_exec(world),
            Self::KillTarget => {
                world.target.kill();
                if world.dice.below(2) == 0 {
                    world.write(50, 1500);
                }
                world.target.start_again();
            }
            Self::EmptyTarget => world.target.kill_and_start_empty(),
            Self::FlushTarget => {
                world.target.client().call(cmd!("FLUSHALL"));
            }
            Self::OlderTarget => {
                let older = copy_of_folder(&world.target);
                world.write(100, 4000);
                world.target.kill();
                start_with_copy(&mut world.target, &older);
            }
            Self::FullTarget => {
                let mut client = world.target.client();
                client.call(cmd!("CONFIG", "SET", "maxmemory", 1));
                world.write(100, 2000);
                client.call(cmd!("CONFIG", "SET", "maxmemory", 0));
            }
            Self::ReadOnlyTarget => {
                let mut client = world.target.client();
                client.call(cmd!("SLAVEOF", "127.0.0.1", 1));
                world.write(100, 2000);
                client.call(cmd!("SLAVEOF", "NO", "ONE"));
            }
            Self::KillSource => {
                world.source.kill();
                world.source.start_again();
            }
            Self::OlderSource => {
                let older = copy_of_folder(&world.source);
                world.write(100, 4000);
                world.source.kill();
                start_with_copy(&mut world.source, &older);
            }
            Self::Failover => failover(world),
        }
        world.from.heal();
        world.to.heal();
        Ok(())
    }
}

/// How long something that is ordered for the next bytes is waited for.
const SOON: Duration = Duration::from_secs(1);

fn any_cut(dice: &mut Dice) -> Cut {
    [Cut::Fin, Cut::Rst][dice.below(2)]
}

fn any_ways(dice: &mut Dice) -> &'static [Way] {
    [&[Way::Up][..], &[Way::Down], &[Way::Up, Way::Down]][dice.below(3)]
}

/// A way, and a number of bytes of any size.
fn any_point(dice: &mut Dice) -> (Way, u64) {
    let way = [Way::Up, Way::Down][dice.below(2)];
    (way, 1 + any_size(dice, 18))
}

/// A number below two to the power of `bits`; small ones are as likely as large ones.
pub(super) fn any_size(dice: &mut Dice, bits: usize) -> u64 {
    dice.next() % (1 << dice.below(bits + 1))
}

/// Another process is started elsewhere beside the first one, which stands still or not. One of them has to end: never the second if the first
/// stands still.
fn second(world: &mut World, freeze: bool) -> Done {
    world.mind_tool()?;
    if freeze {
        world.signal("STOP");
        world.write(50, 1500);
    }
    let mut second = world.elsewhere();
    if !freeze {
        let begun = Instant::now();
        while world.tool().is_running() && second.is_running() && begun.elapsed() < PATIENCE {
            world.write(20, 200);
        }
        if !second.is_running() {
            let ended = second.wait(PATIENCE);
            world.note_end(&ended);
            return overtaken(ended.code);
        }
    }
    let mut first = world.replace_tool(second);
    let arrived = world.wait_arrived();
    if freeze {
        signal("CONT", first.id());
    }
    let begun = Instant::now();
    while arrived.is_ok() && first.is_running() && begun.elapsed() < PATIENCE {
        if freeze && !world.tool().is_running() {
            // The one that stood still had not begun, and has taken the other one's place.
            let second = world.replace_tool(first);
            let ended = second.wait(PATIENCE);
            world.note_end(&ended);
            return overtaken(ended.code);
        }
        world.write(20, 200);
    }
    if first.is_running() {
        signal("KILL", first.id());
    }
    let ended = first.wait(PATIENCE);
    world.note_end(&ended);
    arrived.and_then(|()| overtaken(ended.code))
}

/// What a process ends with whose place is another one's: it failed, or had not begun.
fn overtaken(code: Option<i32>) -> Done {
    match code {
        Some(2 | 3) => Ok(()),
        code => Err(format!("a tool whose place was taken ended with {code:?}")),
    }
}

fn cut_exec(world: &mut World) {
    let late = any_size(&mut world.dice, 12);
    let how =
        [ExecCut::Before, ExecCut::After, ExecCut::After, ExecCut::Late(late)][world.dice.below(4)];
    let nth = 1 + u32::try_from(any_size(&mut world.dice, 6)).unwrap();
    let before = world.to.exec_cuts();
    world.to.cut_exec(nth, how);
    world.to.wait_cut(2 * SOON);
    if world.to.exec_cuts() > before {
        let name = match how {
            ExecCut::Before => "before",
            ExecCut::After => "after",
            ExecCut::Late(_) => "late",
        };
        *world.tally.exec_cuts.entry(name).or_default() += 1;
    }
}

/// The replica becomes the source: it may have all, lack the last, or have parted before the end.
fn failover(world: &mut World) {
    let Some(replica) = world.replica.take() else { return };
    let mut client = replica.client();
    match world.dice.below(3) {
        0 => {
            world.tell("an orderly one");
            world.writers.rest();
            wait_for_all(&mut world.source.client(), &mut client);
            world.source.kill();
        }
        1 => world.source.kill(),
        _ => {
            world.tell("the replica has parted before");
            client.call(cmd!("SLAVEOF", "NO", "ONE"));
            world.write(50, 1500);
            world.source.kill();
        }
    }
    client.call(cmd!("SLAVEOF", "NO", "ONE"));
    // Up to 6.2 it counts relative deadlines from when they came to it.
    if !replica.version.at_least(7, 0) {
        world.deadline_ms = 10_000;
    }
    world.from.lead_to(replica.port);
    world.from.cut(Cut::Rst);
    world.writers.go_on(replica.port);
    world.source = replica;
}

fn wait_for_all(master: &mut Client, replica: &mut Client) {
    let offset = master.info("replication", "master_repl_offset");
    let number = |text: String| text.parse::<u64>().unwrap_or(0);
    let begun = Instant::now();
    while number(replica.info("replication", "slave_repl_offset")) < number(offset.clone()) {
        assert!(begun.elapsed() < PATIENCE, "the replica stays behind");
    }
}
