//! A host loses its power, and gets it back: `kill n1`, `start n1`, `kill n1 for 3s`.
//!
//! What PostgreSQL had written and not flushed is gone, or some of it.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "host",
    verbs: &["kill", "start"],
    draw: |rng, scene| {
        let node = scene.any(rng);
        Some(match rng.below(5) {
            0 => format!("kill {node}"),
            1 => format!("start {node}"),
            _ => format!("kill {node} for {}", span_text(rng, 200, 6000)),
        })
    },
    act: |world, line| {
        if !["", "for"].contains(&line.word(2)) || line.word(1) == "all" {
            return None;
        }
        Some((|| {
            let at = host_at(world, line, 1)?;
            if line.word(0) == "start" {
                on(world, at);
                return Ok(());
            }
            off(world, at);
            if let Some(span) = lasts(line)? {
                last(world, span, Over::Power(at));
            }
            Ok(())
        })())
    },
};

/// Power goes off: processes and unsent words are gone, disks stay.
pub(super) fn off(world: &mut World, at: usize) {
    if !world.hosts[at].up {
        return;
    }
    world.hosts[at].up = false;
    world.hosts[at].paused = false;
    world.kill_server(at);
    world.proxies_lost(at);
    let chancy = world.chancy;
    let s = &mut world.hosts[at].server;
    let unsynced = s.wal.records.len().saturating_sub(s.wal.flushed);
    if chancy && unsynced > 0 {
        let kept = world.rng.below(unsynced as u64 + 1) as usize;
        let s = &mut world.hosts[at].server;
        s.lose_unsynced(s.wal.flushed + kept);
    }
    let host = &mut world.hosts[at];
    host.lose_processes();
    host.guard.timer += 1;
}

/// Power comes back.
pub(super) fn on(world: &mut World, at: usize) {
    if world.hosts[at].up {
        return;
    }
    world.hosts[at].up = true;
    let now = world.hosts[at].clock.local(world.now);
    if world.is(crate::mutation::Env::VowsForgotten) {
        world.hosts[at].vows.promise = cluster::Term(0);
    }
    world.hosts[at].restart_agent(now);
    world.start_agent(at);
    world.proxies_back(at);
}
