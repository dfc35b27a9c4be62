//! A guard dies, and server and agent with it, until it is started again; or it
//! stands still: `crash n1 guard`, `freeze n1 guard for 2s`.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::clock::ms;
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "guard",
    verbs: &["crash", "freeze"],
    draw: |rng, scene| {
        let node = scene.any(rng);
        // Where a guard stands still only its agent fences, which async rests on (C-27).
        if (scene.asynchronous && !scene.still_guards) || rng.chance(500) {
            return Some(format!("crash {node} guard"));
        }
        Some(format!("freeze {node} guard for {}", span_text(rng, 100, 5000)))
    },
    act: |world, line| {
        (line.word(2) == "guard").then(|| {
            let at = host_at(world, line, 1)?;
            let now = world.now;
            world.witnessed.unguarded.insert(at, now);
            if line.word(0) == "crash" {
                // PR_SET_PDEATHSIG: the postmaster ends at once, the agent finds its guard gone.
                world.kill_server(at);
                let host = &mut world.hosts[at];
                if !host.up {
                    return Ok(());
                }
                host.lose_processes();
                let life = host.agent.life;
                let pause = world.span(ms(200), ms(2000));
                last(world, pause, Over::Restart(at, life));
                return Ok(());
            }
            world.hosts[at].guard.stopped = true;
            if let Some(span) = lasts(line)? {
                last(world, span, Over::Guard(at));
            }
            Ok(())
        })
    },
};

pub(super) fn restart(world: &mut World, at: usize, life: u32) {
    let host = &world.hosts[at];
    if host.up && !host.agent.runs && host.agent.life == life {
        let now = world.hosts[at].clock.local(world.now);
        world.hosts[at].restart_agent(now);
        world.start_agent(at);
    }
}

pub(super) fn thaw(world: &mut World, at: usize) {
    if !world.hosts[at].guard.stopped {
        return;
    }
    let now = world.now;
    world.witnessed.unguarded.insert(at, now);
    let host = &mut world.hosts[at];
    host.guard.stopped = false;
    // It was held up itself: what it has not heard meanwhile means nothing.
    host.guard.heard = host.guard.heard.max(host.clock.local(now));
    let timer = world.hosts[at].guard.timer;
    world.guard(at, timer);
}
