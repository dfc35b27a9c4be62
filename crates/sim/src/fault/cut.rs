//! Links are cut: `cut n1`, `cut n1 n2`, `cut n1 > n2`, each also `for 2s`; `heal`.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::clock::Us;
use crate::network::At;
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "cut",
    verbs: &["cut", "split", "mute", "deafen", "heal"],
    draw: |rng, scene| {
        let ends =
            if rng.chance(500) { format!(" for {}", span_text(rng, 100, 6000)) } else { String::new() };
        match rng.below(6) {
            0 => Some(format!("cut {}{ends}", scene.any(rng))),
            1 | 2 => scene.two(rng).map(|(a, b)| format!("cut {a} > {b}{ends}")),
            3 => scene.two(rng).map(|(a, b)| format!("cut {a} {b}{ends}")),
            4 => scene.two(rng).map(|(a, b)| format!("split {a} {b}{ends}")),
            _ => Some("heal".to_string()),
        }
    },
    act: |world, line| {
        Some((|| {
            if line.word(0) == "heal" {
                world.network.heal();
                return Ok(());
            }
            let a = host_at(world, line, 1)?;
            let (one_way, others) = match line.word(2) {
                "" | "for" => (false, (0..world.hosts.len()).filter(|b| *b != a).collect()),
                ">" => (true, vec![host_at(world, line, 3)?]),
                _ => (false, vec![host_at(world, line, 2)?]),
            };
            let span = lasts(line)?;
            if line.word(0) == "split" {
                split(world, a, host_at(world, line, 2)?, span);
                return Ok(());
            }
            for b in others {
                let ways = match line.word(0) {
                    "mute" => vec![(a, b)],
                    "deafen" => vec![(b, a)],
                    _ if one_way => vec![(a, b)],
                    _ => vec![(a, b), (b, a)],
                };
                cut(world, &ways, span);
            }
            Ok(())
        })())
    },
};

/// These two on one side, all others on the other.
fn split(world: &mut World, a: At, b: At, span: Option<Us>) {
    for other in (0..world.hosts.len()).filter(|x| *x != a && *x != b) {
        cut(world, &[(a, other), (other, a), (b, other), (other, b)], span);
    }
}

fn cut(world: &mut World, ways: &[(At, At)], span: Option<Us>) {
    for (from, to) in ways {
        world.network.cut(*from, *to);
        if let Some(span) = span {
            last(world, span, Over::Link(*from, *to));
        }
    }
}
