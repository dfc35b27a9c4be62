//! Somebody pauses replay on a standby, which goes on receiving and acknowledging:
//! `pause-replay n2`, `resume-replay n2`.

use super::{Fault, host_at};
use cluster::report::ServerState;

pub(super) const FAULT: Fault = Fault {
    name: "replay",
    verbs: &["pause-replay", "resume-replay"],
    draw: |rng, scene| {
        let verb = if rng.chance(600) { "pause-replay" } else { "resume-replay" };
        Some(format!("{verb} {}", scene.node(rng)))
    },
    act: |world, line| {
        Some((|| {
            let at = host_at(world, line, 1)?;
            let s = &mut world.hosts[at].server;
            s.replay_paused = s.state == ServerState::Standby && line.word(0) == "pause-replay";
            world.replay(at);
            Ok(())
        })())
    },
};
