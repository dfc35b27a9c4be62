//! Operators ask for things at the worst moments, and take no for an answer.

use super::{Fault, Scene};
use crate::rng::Rng;

pub(super) const FAULT: Fault = Fault {
    name: "operator",
    verbs: &["maybe"],
    draw,
    act: |world, line| {
        let asked = crate::story::Line { number: line.number, words: line.words[1..].to_vec() };
        let _ = crate::operator::ask(world, &asked);
        Some(Ok(()))
    },
};

fn draw(rng: &mut Rng, scene: &Scene) -> Option<String> {
    let node = rng.of(scene.data.as_slice()).clone();
    Some(match rng.below(18) {
        2 | 14 if scene.losses => {
            let other = rng.of(scene.data.as_slice());
            let names = if *other == node { node } else { format!("{node},{other}") };
            // What is dead cannot speak, and of the living somebody is not heard.
            let cut = format!("cut {} for 4s\nwait 700ms\n", rng.of(scene.data.as_slice()));
            format!("{}maybe failover losing {names}", if rng.chance(500) { &cut } else { "" })
        }
        0..=2 => "maybe switchover".to_string(),
        3..=5 => format!("maybe switchover {node}"),
        6 => format!("maybe failover {node}"),
        7 => "maybe failover".to_string(),
        8 | 9 => format!("maybe reinit {node}"),
        10 => "maybe pause".to_string(),
        11 | 12 => "maybe resume".to_string(),
        13 if !scene.asynchronous => format!("maybe acks {}", rng.range(1, 2)),
        15 => format!("maybe remove {node}"),
        16 => format!("maybe add {node}"),
        17 => "maybe cancel".to_string(),
        _ => "maybe switchover".to_string(),
    })
}
