//! Everybody loses power at once: `kill all`, `start all`.

use super::{Fault, host};

pub(super) const FAULT: Fault = Fault {
    name: "power",
    verbs: &["kill", "start"],
    draw: |rng, _| Some(if rng.chance(500) { "kill all" } else { "start all" }.to_string()),
    act: |world, line| {
        (line.word(1) == "all").then(|| {
            for at in 0..world.hosts.len() {
                if line.word(0) == "kill" { host::off(world, at) } else { host::on(world, at) }
            }
            Ok(())
        })
    },
};
