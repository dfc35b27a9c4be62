//! Everything that is wrong ends: `calm`.

use super::{Fault, guard, host, pause_host};
use crate::network::Weather;
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "calm",
    verbs: &["calm"],
    draw: |_, _| None,
    act: |world, _| {
        calm(world);
        Some(Ok(()))
    },
};

fn calm(world: &mut World) {
    world.armed.clear();
    world.raft_calm();
    world.calms += 1;
    world.network.heal();
    world.calm_front();
    world.network.weather = Weather { loss: 0, twice: 0, stray: 0, ..world.network.weather };
    (world.store.leaderless_until, world.store.lost_replies, world.store.late_news) = (0, 0, 0);
    world.store.slow_reload = 0;
    for at in 0..world.hosts.len() {
        world.hosts[at].disk.heal();
        pause_host::resume(world, at);
        guard::thaw(world, at);
        host::on(world, at);
        if world.hosts[at].server.runs() {
            world.hosts[at].server.replay_paused = false;
            world.thaw_processes(at);
        }
        if world.hosts[at].agent.stopped {
            world.hosts[at].agent.stopped = false;
            world.thaw_agent(at);
        }
    }
    world.witnessed.terms_at_heal = Some(world.truth.ctl.term.0);
}
