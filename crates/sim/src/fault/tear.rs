//! A standby's log ends in a record that its leader has not finished: `tear n3`.

use super::{Fault, host_at};

pub(super) const FAULT: Fault = Fault {
    name: "tear",
    verbs: &["tear"],
    draw: |rng, scene| Some(format!("tear {}", scene.node(rng))),
    act: |world, line| {
        Some(host_at(world, line, 1).map(|at| {
            let s = &mut world.hosts[at].server;
            // One that streams gets the rest at once.
            s.wal.torn |= !s.is_primary() && s.sysid != 0;
        }))
    },
};
