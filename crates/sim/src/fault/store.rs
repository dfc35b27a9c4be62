//! The store's group is without a leader for a while: `leaderless for 800ms`.

use super::{Fault, lasts, span_text};
use crate::clock::ms;

pub(super) const FAULT: Fault = Fault {
    name: "store",
    verbs: &["leaderless"],
    draw: |rng, _| Some(format!("leaderless for {}", span_text(rng, 50, 2500))),
    act: |world, line| {
        Some((|| {
            let span = lasts(line)?.unwrap_or(ms(500));
            world.store.leaderless_until = world.store.leaderless_until.max(world.now + span);
            world.raft_hold_leader(world.now + span);
            Ok(())
        })())
    },
};
