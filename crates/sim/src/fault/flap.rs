//! A link comes and goes: `flap n1 n2 6` (so many times, up to 0.8 s each).

use super::{Fault, Over, host_at, last};
use crate::clock::ms;
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "flap",
    verbs: &["flap"],
    draw: |rng, scene| scene.two(rng).map(|(a, b)| format!("flap {a} {b} {}", rng.range(2, 10))),
    act: |world, line| {
        Some((|| {
            let (a, b) = (host_at(world, line, 1)?, host_at(world, line, 2)?);
            let times = line.word(3).parse::<u32>().map_err(|_| "flap A B TIMES")?;
            beat(world, a, b, times * 2);
            Ok(())
        })())
    },
};

/// Cut, mended, cut, and mended in the end.
pub(super) fn beat(world: &mut World, a: usize, b: usize, left: u32) {
    if left == 0 || world.witnessed.terms_at_heal.is_some() {
        return;
    }
    if left.is_multiple_of(2) {
        world.network.cut(a, b);
        world.network.cut(b, a);
    } else {
        world.network.mend(a, b);
        world.network.mend(b, a);
    }
    let span = world.span(ms(30), ms(800));
    last(world, span, Over::Flap(a, b, left - 1));
}
