//! Words between two agents are lost now and then: `lose n1 n2 20` (percent).

use super::{Fault, host_at};

pub(super) const FAULT: Fault = Fault {
    name: "loss",
    verbs: &["lose"],
    draw: |rng, scene| scene.two(rng).map(|(a, b)| format!("lose {a} {b} {}", rng.range(1, 40))),
    act: |world, line| {
        Some((|| {
            let (a, b) = (host_at(world, line, 1)?, host_at(world, line, 2)?);
            let percent: u64 = line.word(3).parse().map_err(|_| "lose A B PERCENT")?;
            world.network.lose(a, b, percent * 10);
            Ok(())
        })())
    },
};
