//! A host's disk is lost, store and promises with it; it comes back empty and asks
//! for a seat: `wipe n2`. In storms only where everybody has a copy: `lose-disk n2`.

use super::{Fault, fresh, join};
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "wipe",
    verbs: &["wipe", "lose-disk"],
    draw: |_, scene| scene.wiped.as_ref().map(|node| format!("lose-disk {node}")),
    act: |world, line| {
        Some((|| {
            let name = line.node(1)?;
            let at = world.place(&name)?;
            let kind = world.hosts[at].kind;
            let seated = world.truth.members.get(&name).is_some_and(|m| m.has_seat());
            if !seated || (line.word(0) == "lose-disk" && !is_whole(world)) {
                return Ok(());
            }
            if let Some(member) = world.hosts[at].vows.member.clone() {
                world.witnessed.wiped.insert(member);
            }
            world.kill_server(at);
            fresh(world, &name, kind);
            join(world, &name)
        })())
    },
};

/// Whether every data node is a voter, in the one rule there is, and streams.
fn is_whole(world: &World) -> bool {
    let Some((_, leader)) = world.open_leader() else { return false };
    let data = world.hosts.iter().filter(|h| h.kind.keeps_wal()).count();
    let voters = world.truth.members.values().filter(|m| m.is_data_voter() && !m.reinit).count();
    let rule = world.truth.newest_rule().map_or(0, |r| r.rule.standbys().len());
    let streaming = world.hosts[leader].server.senders.len();
    world.truth.rules.len() == 1 && voters == data && rule + 1 == data && streaming + 1 == data
}
