//! The port of a PostgreSQL can't be reached from other hosts, while agents reach each
//! other: `close-port n1 [for 2s]` for all of them, `close-port n1 n2` for one. Connections
//! that are there hang, too.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "port",
    verbs: &["close-port"],
    draw: |rng, scene| {
        let ends =
            if rng.chance(700) { format!(" for {}", span_text(rng, 300, 9000)) } else { String::new() };
        match rng.below(3) {
            0 => scene.two(rng).map(|(a, b)| format!("close-port {a} {b}{ends}")),
            _ => Some(format!("close-port {}{ends}", scene.node(rng))),
        }
    },
    act: |world, line| Some(close(world, line)),
};

fn close(world: &mut World, line: &crate::story::Line) -> Result<(), String> {
    let at = host_at(world, line, 1)?;
    let others = match line.word(2) {
        "" | "for" => (0..world.hosts.len()).filter(|b| *b != at).collect(),
        _ => vec![host_at(world, line, 2)?],
    };
    let span = lasts(line)?;
    for from in others {
        world.network.close(from, at);
        if let Some(span) = span {
            last(world, span, Over::Port(from, at));
        }
    }
    Ok(())
}
