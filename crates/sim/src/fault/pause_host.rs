//! A virtual machine is paused: everything on it stands still: `pause-host n1 for 4s`.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "pause-host",
    verbs: &["pause-host"],
    draw: |rng, scene| {
        // Longer than T it is not covered in async (C-27).
        let most = if scene.asynchronous { 600 } else { 7000 };
        Some(format!("pause-host {} for {}", scene.any(rng), span_text(rng, 100, most)))
    },
    act: |world, line| {
        Some((|| {
            let at = host_at(world, line, 1)?;
            if !world.hosts[at].up {
                return Ok(());
            }
            let now = world.now;
            world.witnessed.unguarded.insert(at, now);
            world.hosts[at].paused = true;
            if let Some(span) = lasts(line)? {
                last(world, span, Over::Host(at));
            }
            Ok(())
        })())
    },
};

/// It runs again: first of all the guard looks at its clock.
pub(super) fn resume(world: &mut World, at: usize) {
    if !world.hosts[at].paused {
        return;
    }
    world.hosts[at].paused = false;
    let now = world.now;
    world.witnessed.unguarded.insert(at, now);
    let timer = world.hosts[at].guard.timer;
    world.guard(at, timer);
    if world.hosts[at].server.runs() {
        world.thaw_waiting(at);
    }
    world.thaw_agent(at);
}
