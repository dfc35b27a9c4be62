//! A log ends in a record that is not finished: `tear n3`, as a crash leaves it. In storms
//! only where that comes from a leader who may have the rest: `break-off n3` breaks the
//! stream in the middle of a record, and whoever finds the leader again gets the rest at once.

use super::{Fault, host_at};

pub(super) const FAULT: Fault = Fault {
    name: "tear",
    verbs: &["tear", "break-off"],
    draw: |rng, scene| {
        let node = scene.node(rng);
        let kill = if rng.chance(500) { "" } else { "\nkill leader postmaster" };
        Some(format!("break-off {node}{kill}"))
    },
    act: |world, line| {
        Some(host_at(world, line, 1).map(|at| {
            let s = &mut world.hosts[at].server;
            if line.word(0) == "tear" {
                // One that streams gets the rest at once.
                s.wal.torn |= !s.is_primary() && s.sysid != 0;
            } else if s.receiver.is_some() {
                s.wal.torn = true;
                world.end_receiver(at);
            }
        }))
    },
};
