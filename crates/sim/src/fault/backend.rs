//! Sessions are ended in the middle of what they do: `disconnect n1`.
//!
//! `pg_terminate_backend` in a sync wait closes the connection without an
//! acknowledgement; the record stays.

use super::{Fault, host_at};

pub(super) const FAULT: Fault = Fault {
    name: "backend",
    verbs: &["disconnect"],
    draw: |rng, scene| Some(format!("disconnect {}", scene.node(rng))),
    act: |world, line| Some(host_at(world, line, 1).map(|at| world.close_sessions(at))),
};
