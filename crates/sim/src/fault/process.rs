//! A process of a server is killed: `kill n1 postmaster`, `kill n1 checkpointer`.
//!
//! With `restart_after_crash` off any child but walsender and walreceiver takes the
//! postmaster with it; of the postmaster alone, busy sessions live on for a while.

use super::{Fault, host_at};

const DEADLY: [&str; 3] = ["startup", "checkpointer", "backend"];

pub(super) const FAULT: Fault = Fault {
    name: "process",
    verbs: &["kill"],
    draw: |rng, scene| {
        let what = rng.of(&[
            "postmaster",
            "postmaster",
            "startup",
            "checkpointer",
            "backend",
            "walsender",
            "walreceiver",
        ]);
        Some(format!("kill {} {what}", scene.node(rng)))
    },
    act: |world, line| {
        let what = line.word(2).to_string();
        let known = ["postmaster", "walsender", "walreceiver"].contains(&what.as_str())
            || DEADLY.contains(&what.as_str());
        known.then(|| {
            let at = host_at(world, line, 1)?;
            match what.as_str() {
                "postmaster" => world.kill_postmaster(at),
                // Both are killed with SIGTERM by whoever does such things, and come back.
                "walsender" => {
                    let ids: Vec<u64> = world.hosts[at].server.senders.values().copied().collect();
                    ids.into_iter().for_each(|id| world.end_sender(id));
                }
                "walreceiver" => world.end_receiver(at),
                _ => world.kill_server(at),
            }
            Ok(())
        })
    },
};
