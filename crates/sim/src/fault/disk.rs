//! A disk hangs, is full, or fails an fsync: `stall n1 for 4s`, `fill n1 for 3s`,
//! `spoil n1` (PostgreSQL panics, and what was not flushed may be gone).

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::clock::ms;

pub(super) const FAULT: Fault = Fault {
    name: "disk",
    verbs: &["stall", "fill", "spoil"],
    draw: |rng, scene| {
        let node = scene.node(rng);
        Some(match rng.below(4) {
            0 | 1 => format!("stall {node} for {}", span_text(rng, 100, 6000)),
            2 => format!("fill {node} for {}", span_text(rng, 500, 6000)),
            _ => format!("spoil {node}"),
        })
    },
    act: |world, line| {
        Some((|| {
            let at = host_at(world, line, 1)?;
            let span = lasts(line)?.unwrap_or(ms(3000));
            let now = world.now;
            match line.word(0) {
                "stall" => world.hosts[at].disk.stall(now, span),
                "fill" => {
                    world.hosts[at].disk.full = true;
                    last(world, span, Over::Room(at));
                }
                _ => {
                    world.kill_server(at);
                    let s = &mut world.hosts[at].server;
                    let unsynced = s.wal.records.len().saturating_sub(s.wal.flushed) as u64;
                    let kept = world.rng.below(unsynced + 1) as usize;
                    let s = &mut world.hosts[at].server;
                    s.lose_unsynced(s.wal.flushed + kept);
                }
            }
            Ok(())
        })())
    },
};
