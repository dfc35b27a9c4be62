//! An agent dies or stands still: `crash n1 agent`, `freeze n1 agent for 700ms`.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "agent",
    verbs: &["crash", "freeze"],
    draw: |rng, scene| {
        let node = scene.any(rng);
        if rng.chance(400) {
            return Some(format!("crash {node} agent"));
        }
        Some(format!("freeze {node} agent for {}", span_text(rng, 50, 3000)))
    },
    act: |world, line| {
        (line.word(2) == "agent").then(|| {
            let at = host_at(world, line, 1)?;
            if line.word(0) == "crash" {
                world.kill_agent(at);
                return Ok(());
            }
            world.hosts[at].agent.stopped = true;
            if let Some(span) = lasts(line)? {
                last(world, span, Over::Agent(at));
            }
            Ok(())
        })
    },
};

pub(super) fn thaw(world: &mut World, at: usize) {
    if world.hosts[at].agent.stopped && world.hosts[at].disk.stalled_until <= world.now {
        world.hosts[at].agent.stopped = false;
        world.thaw_agent(at);
    }
}
