//! Somebody else's database lies in its place: `replace n2`.

use super::{Fault, host_at};

/// System identifier of somebody else's database.
const FOREIGN: u64 = 99;

pub(super) const FAULT: Fault = Fault {
    name: "foreign",
    verbs: &["replace"],
    // An operator has to look at it, so storms end it by a `reinit`.
    draw: |_, _| None,
    act: |world, line| {
        Some((|| {
            let at = host_at(world, line, 1)?;
            world.kill_server(at);
            world.next_record += 1;
            let id = world.next_record;
            world.hosts[at].server.initdb(FOREIGN, id);
            world.hosts[at].ghost.acked = None;
            if let Some(member) = world.hosts[at].vows.member.clone() {
                world.witnessed.wiped.insert(member);
            }
            Ok(())
        })())
    },
};
